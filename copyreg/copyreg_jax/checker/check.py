"""The checker: proves or refuses what a certificate says, trusting NumPy and FLINT alone.

    python -m copyreg_jax.checker CERTIFICATE INSTANCE

Exit codes: 0 CERTIFIED, 1 REFUTED, 3 UNDECIDED, 2 VOID. Nothing here comes from the solver: the
instance is read anew, all numbers are enclosed (`proofs`, in the arithmetics of `arithmetic`), and
an inequality counts only if it holds for every point of the enclosures. No comparison is made by
negating another one. The format of the file is described in docs/reference/certificate-format.md,
the theorems in docs/theory/certificates.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flint import arb, ctx

from copyreg_jax.checker import dominance, proofs, regions, theorems
from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS, arithmetic, upper
from copyreg_jax.checker.data import Instance, read_instance
from copyreg_jax.checker.format import (
    Global,
    Interval,
    Local,
    Paper,
    Statements,
    direction,
    dump,
    read_certificate,
)
from copyreg_jax.checker.linear import control_floor, is_floor
from copyreg_jax.checker.verdicts import (
    CheckResult,
    Tested,
    Verdict,
    VoidError,
    at_least,
    at_most,
    judge,
    require,
    worst,
)

__all__ = [
    "at_minimizer",
    "check",
    "control_machine",
    "level_set_tau",
    "minimizer_statements",
    "protection",
    "require_same",
    "settle",
    "within",
]

_SAYS = {
    "CERTIFIED": "holds",
    "REFUTED": "does not hold",
    "UNDECIDED": "is left open",
    "suppressed": "is suppressed",
    "amplified": "is amplified",
    "undecided": "is not said to go up or down",
}
"""What a certificate states, as the end of a sentence that a verdict can be put before."""


def protection(margin: arb, tau: float | None) -> Verdict:
    """Definition 1: whether the margin is at least tau; without tau, at least some tau > 0."""
    if tau is not None:
        return at_least(margin, tau)
    if margin > 0:
        return Verdict.CERTIFIED
    if margin <= 0:
        return Verdict.REFUTED
    return Verdict.UNDECIDED


def check(certificate: str | Path, instance: str | Path) -> CheckResult:
    """Check a certificate file against an instance, from scratch.

    Parameters
    ----------
    certificate : path
        File written by ``Certificate.save``.
    instance : path
        File written by ``save_instance``, or a folder of .npy files.

    Returns
    -------
    CheckResult
        CERTIFIED: everything the certificate says was proved again, the margin claim among it.
        REFUTED: the margin is proved to be below tau, or a statement is proved to be false.
        UNDECIDED: neither. VOID: nothing was tested (damaged or foreign file, unsound machine).
        Nothing is raised.

    Examples
    --------
    >>> check("no-such-file", "no-such-file").verdict.name
    'VOID'
    """
    way = None

    def test() -> Tested:
        nonlocal way
        with ARITHMETIC:
            control_machine()
            said = read_certificate(certificate)
            claimed = said.document["instance"]
            data = read_instance(instance, (claimed["n"], claimed["d"]))
            require_same(claimed, data)
            tested, way = _test(said, data)
            return tested

    return judge(test)._replace(direction=way)


def control_machine() -> None:
    """Refuse to run where subnormal numbers are flushed to zero: data would not be what it is."""
    quarter, one = np.full(4, 2.0**-1022) * 0.25, np.ones(4)
    require((quarter > 0).all(), "flush-to-zero is on in this process; start a fresh one")
    nearest = (one + 2.0**-53 == 1) & (one + 2.0**-52 * 0.75 > 1) & (-one - 2.0**-53 == -1)
    require(nearest.all(), "this process does not round to nearest; start a fresh one")


def require_same(claimed: dict[str, Any], data: Instance) -> None:
    """Raise `VoidError` unless a certificate's instance is this one."""
    actual = data.description()
    if dump(claimed) != dump(actual):
        raise VoidError("the certificate is for other data: " + _difference(claimed, actual))


def _difference(claimed: dict[str, Any], actual: dict[str, Any]) -> str:
    for key, value in actual.items():
        if key != "sha256" and claimed[key] != value:
            return f"{key} is {str(claimed[key])[:40]} there and {value} here"
    hashes = actual["sha256"].items()
    differing = [key for key, value in hashes if claimed["sha256"][key] != value]
    return f"the hash of {', '.join(differing)} differs"


def _test(said: Statements, data: Instance) -> tuple[Tested, str]:
    """Every statement in words, with what is proved about it here; and the direction, if proved."""

    def point(view: proofs.View) -> Tested:
        return _test_point(view, said)

    points = proofs.Points(data, said.x)
    tested = settle(point, said.bits, points)
    is_proved = dict(tested)[_mass(said)] is Verdict.CERTIFIED
    way = said.direction if is_proved else "undecided"
    return tested + minimizer_statements(points, said.local, said.global_), way


def _mass(said: Statements) -> str:
    """The statement on the direction."""
    return f"protected mass {_SAYS[said.direction]}"


def minimizer_statements(
    points: proofs.Points, local: Local | None, global_: Global | None
) -> Tested:
    """The claims local and global about a point, as far as they are made."""
    tested = []
    if local is not None:
        tested += settle(lambda view: _test_local(view, local), local.bits, points)
    if global_ is not None:
        tested += settle(lambda view: _test_global(view, global_), global_.bits, points)
    return tested


def settle(test: Callable[[proofs.View], Tested], bits: int, points: proofs.Points) -> Tested:
    """A test at the precision of the certificate; where floats leave it open, again in balls."""
    with ctx.workprec(arithmetic(bits).scalar_bits):
        tested = test(points.view(bits))
    if worst(*(verdict for _, verdict in tested)) is Verdict.UNDECIDED and bits < START_BITS:
        again = settle(test, START_BITS, points)
        # Either arithmetic proves what it decides; around a point, balls are not always narrower.
        pairs = zip(tested, again, strict=True)
        return [a if a[1] is not Verdict.UNDECIDED else b for a, b in pairs]
    return tested


def _test_point(point: proofs.View, said: Statements) -> Tested:
    """The bounds, the direction, and the claims point, level_set and paper."""
    data, losses, margin = point.data, point.losses, point.losses.margin
    _control(margin)
    exact = {**losses._asdict(), "value": point.value}
    tested = [
        (f"{name} in [{low:.17g}, {high:.17g}]", within(exact[name], Interval(low, high)))
        for name, (low, high) in said.bounds.items()
    ]
    tested.append((_mass(said), _finding(said.direction, direction(losses))))
    tau, verdict = said.point
    proved = protection(margin, tau)
    wanted = "some tau > 0" if tau is None else f"tau = {tau:.17g}"
    tested.append((f"point: margin >= {wanted}", proved))
    tested.append(_stated("point: by the certificate, this", verdict.name, proved.name))
    if said.level_set is not None:
        level, tau = said.level_set
        inside = at_most(point.value, level)
        tested.append((f"level_set: L(x) <= {level:.17g}", inside))
        supported = tau <= level_set_tau(data, level)
        # x itself refutes a tau above its own margin.
        beaten = inside is Verdict.CERTIFIED and at_least(margin, tau) is Verdict.REFUTED
        open_or_false = Verdict.REFUTED if beaten else Verdict.UNDECIDED
        text = f"level_set: margin >= {tau:.17g} wherever L <= {level:.17g}"
        tested.append((text, Verdict.CERTIFIED if supported else open_or_false))
    if said.paper is not None:
        tested += _test_paper(said.paper, said.local, losses, data)
    return tested


def level_set_tau(data: Instance, level: float) -> float:
    """The tau of the level-set theorem."""
    sizes = data.n, data.n1, data.gamma
    return theorems.level_set_tau(*sizes, data.reading, data.metric, level)


def _test_paper(paper: Paper, local: Local | None, losses: proofs.Losses, data: Instance) -> Tested:
    tau_c = theorems.paper_tau(data.n, data.n1, data.gamma, paper.eps_2)
    low, high = paper.tau_c
    hypothesis = at_most(losses.ell_2, paper.eps_2)
    conclusion = at_least(losses.margin, tau_c)
    return [
        (f"paper: tau_c in [{low:.17g}, {high:.17g}]", within(tau_c, paper.tau_c)),
        _stated("paper: margin >= tau_c", paper.verdict.name, conclusion.name),
        _stated("paper: ell_2 <= eps_2", paper.hypothesis.name, hypothesis.name),
        _stated(
            "paper: margin >= tau_c at the minimizer",
            paper.minimizer.name,
            at_minimizer(local, tau_c).name,
        ),
    ]


def at_minimizer(local: Local | None, tau_c: arb) -> Verdict:
    """Whether the margin of the local minimizer reaches tau_c, by the bounds of the local claim."""
    if local is not None and tau_c <= local.margin.lower:
        return Verdict.CERTIFIED
    if local is not None and tau_c > local.margin.upper:
        return Verdict.REFUTED
    return Verdict.UNDECIDED


def _test_local(point: proofs.View, local: Local) -> Tested:
    """The claim local: one minimizer near x, and what holds at it."""
    center, gradient = point.survey.center, point.survey.gradient_norm

    def curvature() -> tuple[Any, arb]:
        return regions.hessian_floor(proofs.in_ball(point, center, local.radius), center)

    near = dominance.Around(dominance.at(point), local.radius)
    where = "local: within radius"
    floor = dominance.floor(near, point.survey.controlled_floor)
    curved = _test_curvature(where, floor, curvature, local.mu)
    applies = (
        arb(local.mu) * local.radius > local.gradient
        and arb(local.mu) * local.distance >= local.gradient
    )
    there = proofs.in_ball(point, center, local.distance).losses
    return [
        (f"local: ||grad L(x)|| <= {local.gradient:.17g}", at_most(gradient, local.gradient)),
        curved,
        (
            f"local: so one minimizer within {local.radius:.17g} of x, and within "
            f"{local.distance:.17g}",
            Verdict.CERTIFIED if applies else Verdict.UNDECIDED,
        ),
        (
            f"local: its margin in [{local.margin.lower:.17g}, {local.margin.upper:.17g}]",
            within(there.margin, local.margin),
        ),
        ("local: its protected mass", within(there.protected_mass, local.protected_mass)),
        _stated("local: its protected mass", local.direction, direction(there)),
    ]


def _test_global(point: proofs.View, claim: Global) -> Tested:
    """The claim global: L is strongly convex on a convex set that contains {L <= level}."""
    least = theorems.least_loss(point.data)  # in cross-entropy, a logarithm for each row

    def curvature() -> tuple[Any, arb]:
        return regions.laplacian_floor(regions.around_level_set(point, claim.level, least)[1])

    base, eigenvalue = dominance.at_zero(point), point.survey.controlled_floor
    around = dominance.around_level_set(base, eigenvalue, claim.level, least)
    floor = 0.0 if around is None else dominance.floor(around, eigenvalue)
    where = "global: on a convex set around the level set"
    return [
        (f"global: L(x) <= {claim.level:.17g}", at_most(point.value, claim.level)),
        _test_curvature(where, floor, curvature, claim.mu),
    ]


def _test_curvature(
    where: str, floor: float, curvature: Callable[[], tuple[Any, arb]], mu: float
) -> tuple[str, Verdict]:
    """Whether mu > 0 is a lower bound of the Hessian: below a floor, or by H and an error.

    All eigenvalues of every matrix of H, less the error, are to be above mu. H is asked for only
    where the floor, which costs less, does not do.
    """
    says = f"{where}: hess L >= {mu:.17g}"
    if 0 < mu <= floor:
        return says, Verdict.CERTIFIED
    H, error = curvature()
    control_floor(H, error)
    return says, Verdict.CERTIFIED if is_floor(H, error, mu) else Verdict.UNDECIDED


def within(ball: arb, interval: Interval) -> Verdict:
    """Whether the number in the ball is proved to lie in the interval."""
    low, high = interval
    if low > high:
        return Verdict.REFUTED
    above = Verdict.CERTIFIED if low == -math.inf else at_least(ball, low)
    below = Verdict.CERTIFIED if high == math.inf else at_most(ball, high)
    return worst(above, below)


def _stated(text: str, stated: str, proved: str) -> tuple[str, Verdict]:
    """A stated finding in words, and what is known about it."""
    return f"{text} {_SAYS[stated]}", _finding(stated, proved)


def _finding(stated: str, proved: str) -> Verdict:
    """A stated finding: right (or claiming nothing), open, or proved wrong."""
    if stated.lower() == "undecided" or stated == proved:
        return Verdict.CERTIFIED
    return Verdict.UNDECIDED if proved.lower() == "undecided" else Verdict.REFUTED


def _control(margin: arb) -> None:
    """A claim known to be false must not come out CERTIFIED, or this run proves nothing."""
    above = math.nextafter(upper(margin), math.inf)
    sound = not math.isfinite(above) or protection(margin, above) is Verdict.REFUTED
    require(sound, "the control failed: a false claim was not refused; results would be worthless")
