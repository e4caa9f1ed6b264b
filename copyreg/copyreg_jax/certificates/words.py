"""A certificate in words: what is proved, of which data, and what would be needed for the rest."""

from __future__ import annotations

import decimal
import math
import textwrap
from collections.abc import Mapping

from copyreg_jax.checker.arithmetic import FLOAT_BITS
from copyreg_jax.checker.format import Interval, Statements
from copyreg_jax.checker.verdicts import Verdict

__all__ = ["above", "below", "explain", "explained", "headline", "remedy"]

_WIDTH = 88

_NO_LOCAL = (
    "needed is a better point (a smaller gradient), more regularization where the Hessian is not "
    "positive definite, or just to ask for it (--local, or local=True in Python)"
)

_NO_GLOBAL = "needed is more regularization (a larger w), until L is convex around its level set"


def below(number: float, digits: int = 6) -> str:
    """A decimal that is not above the number: what is proved of it still holds in print.

    Examples
    --------
    >>> below(2 / 3, digits=3), below(-2 / 3, digits=3)
    ('0.666', '-0.667')
    """
    return _rounded(number, digits, decimal.ROUND_FLOOR)


def above(number: float, digits: int = 6) -> str:
    """A decimal that is not below the number.

    Examples
    --------
    >>> above(2 / 3, digits=3), above(-2 / 3, digits=3)
    ('0.667', '-0.666')
    """
    return _rounded(number, digits, decimal.ROUND_CEILING)


def _rounded(number: float, digits: int, rounding: str) -> str:
    if not math.isfinite(number):
        return str(number)
    context = decimal.Context(prec=digits, rounding=rounding)
    found = context.create_decimal_from_float(number).normalize(context)
    power = found.adjusted()
    if -4 <= power < digits:  # as Python's format of floats, whose numbers stand beside these
        return f"{found:f}"
    return f"{found.scaleb(-power, context):f}e{power:+03d}"


def explain(said: Statements, given_up: Mapping[str, str], reads: Mapping[str, float]) -> str:
    """Paragraphs for a person; the first line gives the verdict and the direction."""
    parts = [
        " ".join([headline(said), *remedy(said.direction)]),
        *(_section(*titled) for titled in explained(said, given_up, reads).items()),
        "To prove all of it again without trusting its maker: copyreg check CERTIFICATE INSTANCE",
    ]
    return "\n\n".join(parts)


def explained(
    said: Statements, given_up: Mapping[str, str], reads: Mapping[str, float]
) -> dict[str, list[str]]:
    """What is proved, of which data, and what is not: sentences, by the title of their list.

    A sentence about a claim begins with the name of the claim and a colon.
    """
    open_questions = _not_proved(said, given_up)
    found = {
        "Data": _data(said),
        "Proved": _proved(said),
        "Not proved": open_questions or ["nothing was tried that was not proved"],
    }
    return found | ({"Cost": [_cost(reads)]} if reads else {})


def _section(title: str, items: list[str]) -> str:
    lines = [
        textwrap.fill(item, _WIDTH, initial_indent="- ", subsequent_indent="  ") for item in items
    ]
    return "\n".join([title, *lines])


def headline(said: Statements) -> str:
    """The verdict on the claim, and which way the protected mass went, in one sentence."""
    tau, verdict = said.point
    claim = "margin > 0" if tau is None else f"margin >= {tau!r}"
    mass, target = said.bounds["protected_mass"], said.bounds["target_mass"]
    masses = f"about {mass.upper:.4g} of f, {target.upper:.4g} of b"
    if said.direction == "suppressed":
        way = f"the protected mass went DOWN: {masses}"
    elif said.direction == "amplified":
        way = f"the protected mass went UP: {masses}"
    else:
        way = f"whether the protected mass went up or down is open: {masses}"
    if verdict is Verdict.CERTIFIED and said.direction == "amplified":
        return f"CERTIFIED ({claim}), but only because {way}. This is amplified, not suppressed."
    return f"{verdict.name} ({claim}); {way}."


def remedy(direction: str) -> list[str]:
    """What to do about a direction, if anything: no line or one."""
    if direction != "amplified":
        return []
    return [
        "To suppress it, take a smaller gamma (--gamma, or gamma= in Python). On some data no "
        "gamma suppresses: copyreg report FOLDER --gamma-path shows what each gives, where FOLDER "
        "is the --out of copyreg solve (solve_path in Python). Python has two more ways: start "
        "from the solution for a smaller gamma (solve(problem, x0=...)), or leave the loss on "
        "these rows out (LeaveOutRegression)."
    ]


def _data(said: Statements) -> list[str]:
    about = said.document["instance"]
    gamma = float.fromhex(about["gamma"])
    return [
        f"n = {about['n']} rows, d = {about['d']}, n1 = {about['n1']} protected; "
        f"gamma = {gamma!r}, {about['reading']} reading, {about['metric']} metric",
        *(f"sha256 of {name}: {digest}" for name, digest in about["sha256"].items()),
        f"made by {said.document['producer']}",
    ]


def _interval(interval: Interval) -> str:
    return f"[{below(interval.lower, 17)}, {above(interval.upper, 17)}]"


def _arithmetic(bits: int) -> str:
    return "float64 intervals" if bits == FLOAT_BITS else f"{bits}-bit ball arithmetic"


def _proved(said: Statements) -> list[str]:
    bounds, (tau, verdict) = said.bounds, said.point
    items = [
        f"point: at x, the margin ell_1/n1 - ell_2/n2 is in {_interval(bounds['margin'])}, so "
        f"this certificate supports tau up to {bounds['margin'].lower!r}. Hypotheses: none. By "
        f"{_arithmetic(said.bits)}."
    ]
    if verdict is Verdict.REFUTED:
        claim = "a positive margin" if tau is None else f"margin >= {tau!r}"
        items.append(f"point: x does not have {claim}")
    if said.level_set is not None:
        items.append(
            f"level_set: every x' with L(x') <= {said.level_set.value!r} (x is one, and so is "
            f"every global minimizer) has margin >= {below(said.level_set.tau)}. Hypotheses: "
            "none; L need not be convex."
        )
    if said.local is not None:
        near = said.local
        items.append(
            f"local: L has exactly one minimizer within {below(near.radius, 3)} of x. It is "
            f"within {above(near.distance, 3)} of x; its margin is in {_interval(near.margin)}, "
            f"its protected mass is {near.direction}. Hypotheses, proved: hess L >= "
            f"{below(near.mu, 3)} within that radius, and |gradient| <= "
            f"{above(near.gradient, 3)} at x. By {_arithmetic(near.bits)}."
        )
    if said.global_ is not None:
        items.append(
            "global: L has one global minimizer, and no other point with L <= "
            f"{said.global_.level!r} is stationary. Hypothesis, proved: hess L >= "
            f"{below(said.global_.mu, 3)} on a convex set that contains all those points."
        )
    if said.paper is not None:
        items += _paper(said)
    return items


def _paper(said: Statements) -> list[str]:
    paper = said.paper
    assert paper is not None
    words = {
        Verdict.CERTIFIED: "is reached",
        Verdict.REFUTED: "is not reached",
        Verdict.UNDECIDED: "is open",
    }
    at_x = f"at x it {words[paper.verdict]}"
    at_minimizer = f"at the local minimizer it {words[paper.minimizer]}"
    small = "holds" if 0 < paper.eps_2 < 0.1 else "FAILS"
    judged = {Verdict.CERTIFIED: "holds", Verdict.REFUTED: "FAILS", Verdict.UNDECIDED: "is open"}
    return [
        f"paper: Theorem 16 promises margin >= tau_c, about {paper.tau_c.lower:.6g}, at the "
        f"minimizer; {at_x}, {at_minimizer}. Its hypotheses: eps_2 = {paper.eps_2!r} in "
        f"(0, 0.1) {small}; ell_2 <= eps_2 at x {judged[paper.hypothesis]}; x is optimal: "
        + ("up to the distance above." if said.local and said.global_ else "not proved.")
    ]


def _cost(reads: Mapping[str, float]) -> str:
    return "reads of A: " + ", ".join(f"{count:g} for {name}" for name, count in reads.items())


def _not_proved(said: Statements, given_up: Mapping[str, str]) -> list[str]:
    about, items = said.document["instance"], []
    if said.point.verdict is Verdict.UNDECIDED:
        items.append(
            f"point: {_arithmetic(said.bits)} leaves the claim open; it may be an exact tie. "
            "Needed: more precision (--max-bits, or max_bits= in Python), or a tau that differs"
        )
    if said.point.verdict is Verdict.REFUTED:
        items.append(
            "point: the claim itself, which is false at x. Needed: a smaller tau, another point, "
            "or a larger gamma and a new solution"
        )
    if said.direction == "undecided":
        items.append("direction: the masses of f and b are too close to tell")
    if said.level_set is None:
        items.append("level_set: L is infinite at x, or too large for a float. Needed: another x")
    elif said.level_set.tau <= 0:
        n, n1, gamma = about["n"], about["n1"], float.fromhex(about["gamma"])
        c = 2 if about["metric"] == "squared" else 1
        enough = 2 * math.sqrt(gamma * n / (c * n1))
        items.append(
            f"level_set: a positive margin on the whole level set. Needed: L(x) below about "
            f"{enough:.6g} (here {said.level_set.value:.6g}): a better point, a larger gamma, or "
            "less regularization"
        )
    if said.local is None:
        why = given_up.get("local", _NO_LOCAL)
        items.append(f"local: that a minimizer is near x: {why}")
    elif said.local.margin.lower <= 0:
        items.append("local: that the minimizer near x has a positive margin")
    if said.global_ is None:
        why = given_up.get("global", _NO_GLOBAL)
        items.append(f"global: that no other minimizer is as good or better: {why}")
    return items
