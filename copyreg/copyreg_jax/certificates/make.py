"""Certificates: what is proved about a point, around it, and about every point as good."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from flint import arb, ctx
from jax.typing import ArrayLike

import copyreg_jax
from copyreg_jax.certificates.certificate import Certificate
from copyreg_jax.certificates.meter import metered
from copyreg_jax.certificates.minimizers import (
    GivenUp,
    made,
    outward,
    pad,
    padded,
    prove_global,
    prove_local,
)
from copyreg_jax.certificates.to_instance import exact_float, exact_point, input_errors, instance
from copyreg_jax.checker import check as checker, format, proofs, theorems
from copyreg_jax.checker.arithmetic import (
    ARITHMETIC,
    FLOAT_BITS,
    MAX_BITS,
    START_BITS,
    arithmetic,
    upper,
)
from copyreg_jax.checker.data import MAX_DENSE_COLUMNS, Instance
from copyreg_jax.checker.format import Global, Interval, LevelSet, Local, Paper, Point
from copyreg_jax.checker.verdicts import Verdict, at_least, at_most
from copyreg_jax.errors import InputError
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["certify", "plain"]

_LARGE = 1 << 20
"""Entries of A from which floats come before balls."""

_ENOUGH_BITS = 60
"""Relative accuracy of the margin's ball at which its float64 bounds are as tight as they get."""


def certify(
    problem: SoftmaxRegression | str | Path,
    x: ArrayLike,
    tau: float | None = None,
    *,
    eps_2: float | None = None,
    local: bool = True,
    max_bits: int = MAX_BITS,
) -> Certificate:
    """Prove the losses, the margin and the direction at x, around it, and on its level set.

    These claims are made, each with its own verdict or bound (docs/theory/certificates.md):

    - point: ``ell_1/n1 - ell_2/n2 >= tau`` at x (Definition 1; without tau: for some tau > 0);
    - level_set: the same inequality with a computed tau at *every* point whose L is at most L(x),
      so at every global minimizer, convex or not;
    - local: L has exactly one minimizer within a radius of x; how far from x it is at most, and
      its margin and direction;
    - global: that minimizer is the global one, and no other stationary point has an L as low as
      x, where L is strongly convex on a convex set around the level set of x;
    - paper: whether the tau_c of Theorem 16 is reached at x, and at the local minimizer.

    Parameters
    ----------
    problem : CopyrightRegression or path
        Its arrays are taken as exact numbers. The path of an instance is read as the checker reads
        it: a large matrix stays in its file.
    x : (d,) array
        Any point, usually ``solution.x``; taken as exact.
    tau : float, optional
        Margin to be certified. The largest that is proved is ``margin.lower`` of the result.
    eps_2 : float, optional
        The eps_2 of Theorem 16; the proved upper bound of ell_2 if not given.
    local : bool, default True
        Whether to try the claims local and global, which cost O(n d^2) where the others cost
        O(n d). They are left out for more than 2048 columns.
    max_bits : int, default 4096
        The precision at which an undecided margin is given up, 128 to 4096.

    Returns
    -------
    Certificate
        Without the claims that could not be proved; its ``given_up`` says why each was not.

    Raises
    ------
    InputError
        Nothing is protected; x has the wrong shape or is not finite; tau or eps_2 is not finite;
        the path is that of no instance.

    Notes
    -----
    On the host. Beyond 10^6 entries of A in float64 intervals first, by all cores, 10^8 entries in
    a second or two; else, and where that leaves the margin open, in balls from 128 bits, doubled up
    to max_bits, at 0.2 to 0.3 microseconds per entry at 128 bits. The claim local is tried in
    floats first, and in balls where rounding, not the distance from a minimizer, stands in its way.
    If the point is too far from a minimizer for it, global is tried only without a product with A.
    FLINT's precision is global to the process: threads wait for each other here.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> cr.certify(problem, [-1.0], tau=10.0).verdict.name
    'REFUTED'
    """
    with input_errors():
        data, meter = metered(instance(problem))
    exact = exact_point(x, data.d)
    tau = None if tau is None else exact_float("tau", tau)
    eps_2 = None if eps_2 is None else exact_float("eps_2", eps_2)
    if not (isinstance(max_bits, int) and START_BITS <= max_bits <= MAX_BITS):
        raise InputError(f"max_bits is {max_bits!r:.40}; give {START_BITS} to {MAX_BITS}")
    with ARITHMETIC, input_errors():
        description = data.description()
        points = proofs.Points(data, exact)
        meter.since_last()
        proved = _prove_point(points, tau, max_bits)
        reads = {"point": meter.since_last()}
        near: Local | GivenUp
        everywhere: Global | GivenUp
        if not local:
            near = everywhere = GivenUp("it was not asked for (local=False)")
        elif data.d > MAX_DENSE_COLUMNS:
            near = everywhere = GivenUp(f"it is not tried beyond {MAX_DENSE_COLUMNS} columns")
        else:
            near = prove_local(points)
            reads["local"] = meter.since_last()
            is_far = isinstance(near, GivenUp) and near.is_far
            everywhere = prove_global(points, is_far=is_far)
            reads["global"] = meter.since_last()
        with ctx.workprec(max(proved.bits, START_BITS)):
            level_set = _level_set(data, upper(proved.value))
            paper = _paper(data, proved.losses, eps_2, made(near))
        bounds = {**proved.losses._asdict(), "value": proved.value}
        document = {
            "format": format.FORMAT,
            "producer": f"copyreg-jax {copyreg_jax.__version__}",
            "instance": description,
            "x": [float(v).hex() for v in exact],
            "bits": proved.bits,
            "bounds": {name: plain(outward(bounds[name])) for name in format.BOUNDS},
            "direction": format.direction(proved.losses),
            "claims": {
                "point": plain(Point(tau, checker.protection(proved.losses.margin, tau))),
                "level_set": plain(level_set),
                "local": plain(made(near)),
                "global": plain(made(everywhere)),
                "paper": plain(paper),
            },
        }
    tried = {"local": near, "global": everywhere}
    given_up = {name: claim.reason for name, claim in tried.items() if isinstance(claim, GivenUp)}
    return Certificate(json.loads(format.canonical(document)), given_up, reads)


class _Proved(NamedTuple):
    """What is known at x, padded for machines that add in another order."""

    bits: int
    losses: proofs.Losses
    value: arb


def _prove_point(points: proofs.Points, tau: float | None, max_bits: int) -> _Proved:
    """The losses at x, at the first precision that decides the margin claim."""
    bits = FLOAT_BITS if points.data.size > _LARGE else START_BITS
    while True:
        ar = arithmetic(bits)
        with ctx.workprec(ar.scalar_bits):
            point = points.view(bits)
            proved = _Proved(bits, padded(point.losses, ar), pad(point.value, ar))
            margin = proved.losses.margin
            if bits == FLOAT_BITS:
                enough = proved.value.is_finite()
            else:
                enough = margin.rel_accuracy_bits() >= _ENOUGH_BITS
            decided = checker.protection(margin, tau) is not Verdict.UNDECIDED
        if (enough and decided) or bits >= max_bits:
            return proved
        bits = min(max(2 * bits, START_BITS), max_bits)


def _level_set(data: Instance, value: float) -> LevelSet | None:
    tau = checker.level_set_tau(data, value) if math.isfinite(value) else -math.inf
    return LevelSet(value, tau) if math.isfinite(tau) else None


def _paper(
    data: Instance, losses: proofs.Losses, eps_2: float | None, near: Local | None
) -> Paper | None:
    eps_2 = upper(losses.ell_2) if eps_2 is None else eps_2
    if not math.isfinite(eps_2):
        return None
    tau_c = theorems.paper_tau(data.n, data.n1, data.gamma, eps_2)
    return Paper(
        eps_2=eps_2,
        tau_c=outward(tau_c),
        hypothesis=at_most(losses.ell_2, eps_2),
        verdict=at_least(losses.margin, tau_c),
        minimizer=checker.at_minimizer(near, tau_c),
    )


def plain(content: Any) -> Any:
    """A claim as JSON: floats in hexadecimal, verdicts by name."""
    if isinstance(content, float):
        return content.hex()
    if isinstance(content, Verdict):
        return content.name
    if isinstance(content, Interval):
        return [plain(end) for end in content]
    if isinstance(content, tuple):
        return {name: plain(value) for name, value in content._asdict().items()}  # type: ignore[attr-defined]
    return content
