"""The page of a solution: which way the protected mass went, what is proved, and how it was found.

What the page says of a certificate is what the checker found when the page was made. A certificate
that was not proved again has none of its statements on the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax._pages import (
    bar,
    claim,
    commands,
    counted,
    escape,
    make_page,
    plain,
    quoted,
    resource,
    sections,
)
from copyreg_jax.certificates.words import explained, headline, remedy
from copyreg_jax.checker.format import Statements
from copyreg_jax.checker.verdicts import CheckResult, Verdict
from copyreg_jax.matrices import fetch
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.report.gamma_path import NUM_SOLVES, GammaPath, path_section
from copyreg_jax.report.global_section import CheckedGlobally, global_section
from copyreg_jax.report.row_by_row import row_by_row
from copyreg_jax.report.run_sections import run_section, spectrum_section

__all__ = ["SolvedInstance", "solution_page"]

_CLAIMS = {
    "point": "This point",
    "level_set": "Every point that fits as well",
    "local": "The exact minimizer nearby",
    "global": "All minimizers",
    "paper": "What the paper promises",
    "direction": "Which way the protected mass went",
}
"""Titles of the claims of a certificate, for readers who don't know them."""

_GLOSSARY = {
    "n, n1, n2, d": "A has n rows and d columns. n1 rows are protected, the n2 others are not.",
    "f and b": "f = softmax(A x) is what the solution x gives each row, and b is what it should "
    "give. The protected mass is the sum over the protected rows.",
    "ell_1, ell_2": "The distance of f from b on the protected rows, and on the others.",
    "margin": "ell_1/n1 - ell_2/n2. It is above 0 if the protected rows are, per row, farther from "
    "their targets than the others. It has no direction: a row far above its target counts as much "
    "as one far below.",
    "L": "The loss that was minimized: fit, protection (weighed by gamma) and regularization "
    "(weighed by w).",
    "suppressed, amplified": "The protected mass of f is below that of b (DOWN), or above it (UP).",
    "CERTIFIED, REFUTED, UNDECIDED, VOID": "The claim is proved; it is proved to be false; neither "
    "was proved; nothing was tested. A verdict is about the margin and not about the direction.",
}

_RESOLUTION = 2.0**-26
"""Masses that differ by less count as the same, as in `Solution.direction` for float64."""

_FOOTER = "It proves nothing by itself; the certificate and the command above do."


class SolvedInstance(NamedTuple):
    """What a page of a solution is made of.

    Attributes
    ----------
    name : str
        What the instance is called.
    problem : CopyrightRegression
    x : (d,) array
    summary : mapping or None
        The summary.json of a run; None for a point that was only certified.
    history : pair of (num_steps + 1,) arrays, or None
        L and the norm of its gradient, step by step.
    said : Statements or None
        What the certificate says; None if it can't be read, or there is none.
    checked : CheckResult or None
        What the checker found; None if there is no certificate.
    command : str
        The command that proves the certificate again.
    path_command : str
        The command that makes the page of a run anew, with the path of gamma; empty if there is no
        run. Both are to be given in the folder of the results.
    """

    name: str
    problem: CopyrightRegression
    x: NDArray[np.float64]
    summary: Mapping[str, Any] | None
    history: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    said: Statements | None
    checked: CheckResult | None
    command: str
    path_command: str = ""


def solution_page(
    found: SolvedInstance,
    eigenvalues: NDArray[np.float64] | None,
    path: GammaPath | None = None,
    minimum: CheckedGlobally | None = None,
) -> str:
    """Make the page.

    Parameters
    ----------
    found : SolvedInstance
    eigenvalues : (d,) array or None
        What `spectrum` found; None where it is left out.
    path : GammaPath, optional
        The path of gamma through the solution.
    minimum : CheckedGlobally, optional
        The certificate of the global minimum, if there is one.

    Returns
    -------
    str
        HTML, all in one file.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> found = SolvedInstance("tiny.npz", problem, np.array([-1.0]), None, None, None, None, "")
    >>> heading = solution_page(found, None).partition("<h1>")[2].partition("</h1>")[0]
    >>> heading.partition("; ")[2]
    'the protected mass seems to have gone DOWN: about 0.09003 of f, 0.7 of b, not proved.'
    """
    problem = found.problem
    f, b, protected = (
        np.asarray(fetch(problem.A, array))
        for array in (problem.f(found.x), problem.b, problem.protected)
    )
    proved = _proved(found)
    mass = float(f[protected].sum()), float(b[protected].sum())
    if proved is not None:  # the numbers of the headline
        mass = proved.bounds["protected_mass"].upper, proved.bounds["target_mass"].upper
    verdict = _verdict(found, proved, mass)
    parts = {"The answer": _answer(found, proved, mass)}
    if minimum is not None:
        parts["The global minimum"] = global_section(minimum)
    parts |= {
        "Row by row": _readings(problem) + row_by_row(f, b, protected),
        "How the solver got there": run_section(found.summary, found.history),
        "The curvature at this point": spectrum_section(
            eigenvalues, float(np.finfo(problem.dtype).eps)
        ),
        "More or less protection": _path(found, path),
        "The certificate in words": _words(found, proved),
        "How to check it again": _again(found),
    }
    return make_page(
        title=f"{_label(found, proved)}: {plain(found.name)}",
        kind="Report of a copyright regression",
        heading=verdict,
        about=_about(found),
        main=sections(parts),
        footer=_FOOTER,
        css=resource("copyreg_jax.report", "report.css"),
        script=resource("copyreg_jax.report", "report.js"),
    )


def _proved(found: SolvedInstance) -> Statements | None:
    """What the certificate says, if the checker has proved all of it."""
    if found.said is None or found.checked is None or found.checked.verdict is Verdict.VOID:
        return None
    return None if _failing(found.checked) else found.said


def _failing(checked: CheckResult) -> list[str]:
    """Statements that were not proved; that the claim of the margin fails may be one of them."""
    return [
        line
        for line in checked.lines
        if not line.startswith("CERTIFIED") and not line[10:].startswith("point: margin >=")
    ]


def _verdict(found: SolvedInstance, proved: Statements | None, mass: tuple[float, float]) -> str:
    """The verdict and the direction in one sentence."""
    if proved is not None:
        return headline(proved)
    if found.checked is None:
        status = "" if found.summary is None else f" ({found.summary['status']})"
        return f"There is no certificate{status}; {_way(mass)}."
    verdict = found.checked.verdict
    if verdict is Verdict.VOID:
        return f"VOID: nothing was tested; {_way(mass)}."
    what = "says what is false" if verdict is Verdict.REFUTED else "was not proved again"
    return f"{verdict.name}: the certificate {what}; {_way(mass)}."


def _label(found: SolvedInstance, proved: Statements | None) -> str:
    """The verdict in a few words; never without the direction."""
    if proved is not None:
        verdict = proved.point.verdict
        but = "but " if verdict is Verdict.CERTIFIED else ""
        way = {"suppressed": "suppressed", "amplified": f"{but}amplified"}
        return f"{verdict.name}, {way.get(proved.direction, 'direction open')}"
    return "No certificate" if found.checked is None else found.checked.verdict.name


def _way(mass: tuple[float, float]) -> str:
    """Which way the protected mass seems to have gone; never a proof."""
    masses = f"about {mass[0]:.4g} of f, {mass[1]:.4g} of b, not proved"
    if not all(map(math.isfinite, mass)):
        return "the protected mass is not finite"
    if abs(mass[0] - mass[1]) <= _RESOLUTION:
        return f"the protected mass seems unchanged: {masses}"
    return (
        f"the protected mass seems to have gone {'UP' if mass[0] > mass[1] else 'DOWN'}: {masses}"
    )


def _about(found: SolvedInstance) -> str:
    problem = found.problem
    parts = [
        f"Instance {quoted(found.name)}",
        f"n = {problem.n:,} rows, {problem.n1:,} protected",
        f"d = {problem.d:,}",
        f"gamma = {float(problem.gamma):.6g}",
        f"{problem.reading} reading",
        f"{problem.metric} metric",
    ]
    if found.summary is not None:
        parts.append(str(found.summary["status"]))
    return " · ".join(parts)


def _answer(found: SolvedInstance, proved: Statements | None, mass: tuple[float, float]) -> str:
    cards = [_direction_card(proved, mass), _margin_card(found, proved)]
    rest = []
    if found.checked is not None and proved is not None:
        rest.append(
            "The checker, which shares no code with the solver, proved all "
            f"{counted(len(found.checked.lines), 'statement')} of the certificate again when this "
            "page was made."
            if found.checked.verdict is Verdict.CERTIFIED
            else "The checker, which shares no code with the solver, came to the same verdict when "
            "this page was made."
        )
    if found.summary is not None:
        summary = found.summary
        rest.append(
            f"The run says that the solver ended as {summary['status']} after "
            f"{counted(summary['num_steps'], 'step')}. {summary['explanation']}"
        )
    rest.append(
        "Being far from a target is not being suppressed. The direction and the margin are two "
        "statements, and the verdict is about the margin."
    )
    notes = "".join(f"<p>{escape(plain(text))}</p>" for text in rest)
    return f'<div class="claims">{"".join(cards)}</div>{notes}'


def _direction_card(proved: Statements | None, mass: tuple[float, float]) -> str:
    bars = ""
    if all(0 <= part <= 1 for part in mass):
        bars = '<dl class="bars">' + "".join(
            f"<dt>{name}<dd>{bar(part)}{part:.4g}"
            for name, part in zip(("They get", "Their target"), mass, strict=True)
        )
        bars += "</dl>"
    if proved is None:
        return claim("Direction", "Not proved", f"T{_way(mass)[1:]}.", "", bars)
    labels = {"suppressed": "DOWN, proved", "amplified": "UP, proved", "undecided": "Open"}
    said = {
        "suppressed": "The protected rows get LESS than their target: they are suppressed.",
        "amplified": "The protected rows get MORE than their target: they are amplified, "
        "not suppressed.",
        "undecided": "Whether the protected rows get more or less than their target is open.",
    }[proved.direction]
    detail = " ".join(
        remedy(proved.direction)
        or ["This is about their sum. A single protected row may go the other way; see below."]
    )
    alarm = proved.direction == "amplified"
    return claim("Direction", labels[proved.direction], said, detail, bars, alarm=alarm)


def _margin_card(found: SolvedInstance, proved: Statements | None) -> str:
    if proved is None:
        checked = found.checked
        if checked is None:
            return claim("Margin", _label(found, proved), "Nothing was certified.", "")
        lines = checked.lines if checked.verdict is Verdict.VOID else _failing(checked)
        said = (
            "Nothing was tested, so nothing of the certificate is repeated on this page."
            if checked.verdict is Verdict.VOID
            else "Not all that the certificate says was proved again, so none of it is repeated on "
            "this page."
        )
        return claim("Margin", _label(found, proved), said, " ".join(lines[:3]))
    tau, verdict = proved.point
    wanted = "a positive margin" if tau is None else f"a margin of at least {tau!r}"
    said = {
        Verdict.CERTIFIED: f"This point is proved to have {wanted}.",
        Verdict.REFUTED: f"This point is proved not to have {wanted}.",
    }.get(verdict, f"Whether this point has {wanted} is open.")
    low, high = proved.bounds["margin"]
    return claim(
        "Margin",
        _label(found, proved),
        said,
        f"ell_1/n1 - ell_2/n2 is in [{low:.17g}, {high:.17g}]: how much farther from its target a "
        "protected row is than another, on average, in either direction.",
    )


def _readings(problem: CopyrightRegression) -> str:
    if problem.reading == "joint":
        return ""
    return (
        '<p class="note">This instance is read as “block”: its ell_1 is about the softmax of the '
        "protected rows alone. The section shows the softmax over all rows, which the direction is "
        "about.</p>\n"
    )


def _path(found: SolvedInstance, path: GammaPath | None) -> str:
    if path is not None:
        return path_section(path, found.problem.n1, found.problem.n)
    if float(found.problem.gamma) == 0:
        return (
            "<p>gamma is 0: L has no protection, so no path of gamma goes through this point.</p>"
        )
    if not found.path_command:
        return (
            "<p>How the fit and the margin change with gamma is shown on the page of a run: "
            "<code>copyreg solve --out FOLDER</code> and then <code>copyreg report FOLDER "
            "--gamma-path</code>.</p>"
        )
    return (
        "<p>How the fit and the margin change with gamma was not computed. This command, in the "
        f"folder of the run, writes report.html there anew with it. It takes {NUM_SOLVES} more "
        "solves, each about as long as that of the run: together a few seconds for the example of "
        "the package, with its 2,390 rows.</p>"
        f"{commands(found.path_command, 'Command for the path of gamma')}"
    )


def _words(found: SolvedInstance, proved: Statements | None) -> str:
    glossary = "".join(f"<dt>{name}<dd>{text}" for name, text in _GLOSSARY.items())
    how = f"<h3>How to read it</h3><dl>{glossary}</dl>"
    if proved is None:
        return f"<p>No statement of a certificate was proved again for this page.</p>{how}"
    given = (found.summary or {}).get("certificate") or {}
    parts = explained(proved, given.get("given_up") or {}, given.get("reads") or {})
    lists = []
    for title, sentences in parts.items():
        is_named = sentences[0].partition(": ")[0] in _CLAIMS
        items = "".join(map(_claimed if is_named else _item, sentences))
        kind = "dl" if is_named else "ul"
        lists.append(f"<h3>{title}</h3><{kind}>{items}</{kind}>")
    return "".join(lists) + how


def _claimed(sentence: str) -> str:
    name, _, rest = sentence.partition(": ")
    first = rest.partition(" ")[0]
    if len(first) > 1 and first.isalpha():  # x and L are themselves
        rest = rest[0].upper() + rest[1:]
    text = escape(plain(rest))
    return f"<dt>{_CLAIMS[name]} <small>({name})</small><dd>{text}"


def _item(sentence: str) -> str:
    return f"<li>{escape(plain(sentence))}"


def _again(found: SolvedInstance) -> str:
    if found.checked is None:
        return "<p>There is no certificate to check.</p>"
    return (
        "<p>This command proves the certificate again from its file and the instance. Run it in "
        "the folder of the certificate. It needs the Python package copyreg-jax, and of that only "
        "the checker, which trusts NumPy and FLINT alone.</p>"
        f"{commands(found.command)}<p>Its exit code is 0 for CERTIFIED, whichever the direction "
        "is; 1 for REFUTED, 3 for UNDECIDED, and 2 for VOID.</p>"
    )
