"""What a certificate proves: as JSON for ``summary.json``, and as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from copyreg_jax.cli.common import output

if TYPE_CHECKING:
    from copyreg_jax.certificates.certificate import Certificate
    from copyreg_jax.checker.format import Local

__all__ = ["RequireSuppressed", "certificate_rows", "certificate_summary", "show_verdict"]

RequireSuppressed: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--require-suppressed",
        help="Exit with 1 unless the protected rows are proved to get less than their target.",
    ),
]


def certificate_summary(certificate: Certificate) -> dict[str, Any]:
    """Summarize for summary.json what a certificate proves."""
    return {
        "verdict": certificate.verdict.name,
        "tau": certificate.tau,
        "margin": list(certificate.margin),
        "direction": certificate.direction,
        "headline": certificate.headline,
        "level_set_value": certificate.value.upper,
        "level_set_tau": certificate.level_set_tau,
        "paper_tau": None if certificate.paper_tau is None else list(certificate.paper_tau),
        "paper_verdict": certificate.paper_verdict.name,
        "local": None if certificate.local is None else _local_summary(certificate.local),
        "is_global": certificate.is_global,
        "given_up": dict(certificate.given_up),
        "reads": dict(certificate.reads),
    }


def _local_summary(local: Local) -> dict[str, Any]:
    return {
        "radius": local.radius,
        "distance": local.distance,
        "margin": list(local.margin),
        "direction": local.direction,
    }


def certificate_rows(certificate: dict[str, Any]) -> list[tuple[str, str]]:
    """Put the summary of a certificate into rows of a table."""
    from copyreg_jax.certificates.words import below

    low, high = certificate["margin"]
    tau = certificate["tau"]
    level = certificate["level_set_tau"]
    paper = certificate["paper_tau"]
    claim = "some tau > 0" if tau is None else f"tau = {tau!r}"
    proved = {"CERTIFIED": "is reached", "REFUTED": "is not reached", "UNDECIDED": "is undecided"}
    return [
        ("margin ell_1/n1 - ell_2/n2", f"in [{low:.17g}, {high:.17g}]"),
        ("claim", f"margin >= {claim}: {certificate['verdict']}"),
        (
            "wherever L is at most this",
            "no bound, because L is infinite here"
            if level is None
            else f"margin >= {below(level)}",
        ),
        (
            "the paper's tau_c",
            "not finite"
            if paper is None
            else f"{paper[0]:.6g} {proved[certificate['paper_verdict']]}",
        ),
        ("minimizer, proved", _local_row(certificate)),
        ("direction, proved", certificate["direction"]),
    ]


def _local_row(certificate: dict[str, Any]) -> str:
    from copyreg_jax.certificates.words import above, below

    local = certificate["local"]
    if local is None:
        return f"none proved near x: {certificate['given_up'].get('local', 'no claim is made')}"
    radius, distance = below(local["radius"], 3), above(local["distance"], 3)
    alone = "the global one" if certificate["is_global"] else f"alone within {radius}"
    margin = below(local["margin"][0])
    return f"within {distance} of x, {alone}; margin >= {margin}, {local['direction']}"


def show_verdict(certificate: dict[str, Any], doubt: str = "") -> None:
    """Print what is certified and in which direction, and what to do if that is the wrong one.

    ``doubt`` says why the target is no distribution, if it is none.
    """
    from copyreg_jax.certificates.words import remedy

    headline = certificate["headline"]
    if doubt:
        headline += f" But {doubt}, and f sums to 1: b is no distribution."
    for sentence in (headline, *remedy(certificate["direction"])):
        output.print(sentence, markup=False, soft_wrap=True)
