"""Certificates: what is proved about a point, around it, and about every point as good."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_mat, ctx
from jax.typing import ArrayLike

import copyreg_jax
from copyreg_jax.certificates.certificate import Certificate
from copyreg_jax.certificates.to_instance import exact_float, exact_point, input_errors, instance
from copyreg_jax.checker import check as checker, format, proofs, regions, theorems
from copyreg_jax.checker.arithmetic import (
    ARITHMETIC,
    FLOAT_BITS,
    MAX_BITS,
    START_BITS,
    Arithmetic,
    arithmetic,
    lower,
    upper,
)
from copyreg_jax.checker.data import MAX_DENSE_COLUMNS, Instance
from copyreg_jax.checker.format import Global, Interval, LevelSet, Local, Paper, Point
from copyreg_jax.checker.linear import eigenvalue_floor, frobenius, to_floats
from copyreg_jax.checker.verdicts import Verdict, at_least, at_most
from copyreg_jax.errors import InputError
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["certify", "outward", "pad", "plain", "prove_global", "prove_local"]

_LARGE = 1 << 20
"""Entries of A from which floats come before balls."""

_ENOUGH_BITS = 60
"""Relative accuracy of the margin's ball at which its float64 bounds are as tight as they get."""

_LOCAL_BITS = (FLOAT_BITS, START_BITS)

_MAX_TRIALS = 6
"""Radii that are tried for the local claim, at each precision."""


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
        Without the claims that could not be proved.

    Raises
    ------
    InputError
        Nothing is protected; x has the wrong shape or is not finite; tau or eps_2 is not finite;
        the path is that of no instance.

    Notes
    -----
    On the host. Beyond 10^6 entries of A in float64 intervals first, by all cores, 10^8 entries in
    a second or two; else, and where that leaves the margin open, in balls from 128 bits, doubled up
    to max_bits, at about 0.2 microseconds per entry at 128 bits. The claim local is tried in floats
    first, and in balls where rounding, not the distance from a minimizer, stands in its way.
    FLINT's precision is global to the process: threads wait for each other here.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> cr.certify(problem, [-1.0], tau=10.0).verdict.name
    'REFUTED'
    """
    with input_errors():
        data = instance(problem)
    exact = exact_point(x, data.d)
    tau = None if tau is None else exact_float("tau", tau)
    eps_2 = None if eps_2 is None else exact_float("eps_2", eps_2)
    if not (isinstance(max_bits, int) and START_BITS <= max_bits <= MAX_BITS):
        raise InputError(f"max_bits is {max_bits!r:.40}; give {START_BITS} to {MAX_BITS}")
    with ARITHMETIC, input_errors():
        description = data.description()
        points = proofs.Points(data, exact)
        proved = _prove_point(points, tau, max_bits)
        near = everywhere = None
        if local and data.d <= MAX_DENSE_COLUMNS:
            near = prove_local(points)
            everywhere = prove_global(points)
        with ctx.workprec(max(proved.bits, START_BITS)):
            level_set = _level_set(data, upper(proved.value))
            paper = _paper(data, proved.losses, eps_2, near)
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
                "local": plain(near),
                "global": plain(everywhere),
                "paper": plain(paper),
            },
        }
    return Certificate(json.loads(format.canonical(document)))


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
            proved = _Proved(bits, _padded(point.losses, ar), pad(point.value, ar))
            margin = proved.losses.margin
            if bits == FLOAT_BITS:
                enough = proved.value.is_finite()
            else:
                enough = margin.rel_accuracy_bits() >= _ENOUGH_BITS
            decided = checker.protection(margin, tau) is not Verdict.UNDECIDED
        if (enough and decided) or bits >= max_bits:
            return proved
        bits = min(max(2 * bits, START_BITS), max_bits)


def pad(ball: arb, ar: Arithmetic) -> arb:
    """Room for another order of summation, where floats were added; balls are the same anywhere."""
    return ball + arb(0, 0.5 * ball.rad()) if ar.bits == FLOAT_BITS else ball


def _padded(losses: proofs.Losses, ar: Arithmetic) -> proofs.Losses:
    return proofs.Losses(*(pad(ball, ar) for ball in losses))


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


def prove_local(points: proofs.Points) -> Local | None:
    """The claim local, at the first precision that yields it, with a radius that is not small.

    Balls come only where rounding, and not the theorem, has lost it in floats.
    """
    for bits in _LOCAL_BITS:
        ar = arithmetic(bits)
        with ctx.workprec(ar.scalar_bits):
            point = points.view(bits)
            center = regions.mean_row(point)
            norm = pad(regions.gradient_norm(point, center), ar)
            gradient = upper(norm)
            found, is_open = _widest(point, center, norm)
            if found is None:
                if is_open:
                    continue
                return None
            radius, mu = found
            distance = upper(arb(gradient) / mu)
            there = _padded(proofs.in_ball(point, center, distance).losses, ar)
            margin, mass = outward(there.margin), outward(there.protected_mass)
            way = format.direction(there)
            return Local(bits, radius, mu, gradient, distance, margin, mass, way)
    return None


def _widest(
    point: proofs.View, center: np.ndarray, norm: arb
) -> tuple[tuple[float, float] | None, bool]:
    """A radius and a modulus with ``gradient < mu radius``: the widest of a few radii.

    Without one, also whether more digits of the gradient and of the moduli might give one.

    The logits of other points differ by up to the radius times the longest row; where that is
    near one, the Hessian is another. If that radius leaves too little of the modulus at x, a secant
    looks for half of it.
    """
    data, gradient, least = point.data, upper(norm), lower(norm)
    longest = max(
        float(found.max()) for found in data.map_blocks(lambda block: point.lengths(block, center))
    )
    radius = 0.25 / longest
    H, error = regions.hessian_floor(proofs.in_ball(point, center, radius), center)
    middle, mu = to_floats(H), _modulus(H, error)
    if np.isfinite(middle).all():
        # No modulus anywhere is above that at x, and so above the curvature along a direction.
        along = _curvature(point, center, np.linalg.eigh(middle)[1][:, 0])
        most = along + _blur(point, middle)
        if least >= most * radius:
            return None, False
        if gradient < mu * radius and mu >= 0.25 * most:
            return (radius, mu), False
    H, error = regions.hessian_floor(point, center)
    here, rounding = _modulus(H, error), _rounding(point, H, error)
    if math.isfinite(rounding):  # no modulus anywhere is above that at x
        most = float(np.linalg.eigvalsh(to_floats(H))[0]) + rounding
        if most <= 0 or least >= most * radius:
            return None, False
    if not (here > 0 and math.isfinite(gradient)):
        return None, True
    is_open = False
    for _ in range(_MAX_TRIALS):
        view = proofs.in_ball(point, center, radius)
        mu = _modulus(*regions.hessian_floor(view, center))
        is_near = gradient < mu * radius
        is_open |= not is_near and least < (mu + rounding) * radius
        if mu >= 0.25 * here or (mu > 0 and radius <= 4 * gradient / here):
            return ((radius, mu), False) if is_near else (None, is_open)
        drop = (here - mu) / here if mu > 0 else 8.0
        radius = max(0.5 * radius / drop, 2 * gradient / here)
    return None, is_open


def _curvature(point: proofs.View, center: np.ndarray, v: np.ndarray) -> float:
    """About ``v^T (hess L) v`` at a point, for a unit vector v; not proved."""
    ar, derivatives, shift = point.ar, point.derivatives(), float(center @ v)

    def work(block: slice) -> np.ndarray:
        pairs, g, _ = derivatives(block)
        z = np.einsum("ij,j->i", proofs.rows_of(point.data, block), v) - shift
        whole = ar.upper(ar.square(ar.exact(point.data.w[block])))
        found = [np.sum(whole * (z + shift) ** 2), np.sum(ar.upper(g) * z)]
        for f, theta in pairs:
            s = ar.upper(f * theta)
            found += [np.sum(s * z**2), np.sum(s * z), np.sum(s), np.sum(ar.upper(f) * z)]
        return np.array(found)

    curved, bend, *rest = point.sum(work).tolist()
    for squares, mixed, total, mean in zip(*[iter(rest)] * 4, strict=True):
        curved += squares - 2 * mean * mixed + mean**2 * total
    return float(curved + upper(point.kappa) * bend**2)


def _rounding(point: proofs.View, H: arb_mat, error: arb) -> float:
    """More than what floats can move an eigenvalue of the Hessian at a point by; not proved."""
    if point.ar.bits > FLOAT_BITS:
        return math.inf
    middle = to_floats(H)
    moved = 4 * _lost(H, error, middle) + _blur(point, middle)
    return moved if math.isfinite(moved) else math.inf


def _blur(point: proofs.View, middle: np.ndarray) -> float:
    """More than what the rounding of logits can move a curvature of this Hessian by; not proved."""
    ar = point.ar

    def width(block: slice) -> float:
        u = point.logits(block)
        return float((ar.upper(u) - ar.lower(u)).max())

    widest = max(point.data.map_blocks(width))
    # Weights of rows are off by no more than a few times their logits, relatively.
    return 64 * widest * float(np.abs(np.diagonal(middle)).sum())


def _lost(H: arb_mat, error: arb, middle: np.ndarray) -> float:
    """How far the eigenvalues of the matrices in H, less e, are below those of the middle."""
    lost = upper(frobenius(ball - ball.mid() for ball in H.entries()) + error)
    return 1.02 * lost + 2.0**-39 * float(np.abs(middle).max())


def _modulus(H: arb_mat, error: arb) -> float:
    """A mu, near the largest, that the checker will find below the eigenvalues; 0 if none is."""
    middle = to_floats(H)
    if not np.isfinite(middle).all():
        return 0.0
    mu = 0.99 * (float(np.linalg.eigvalsh(middle)[0]) - _lost(H, error, middle))
    if mu > 0 and lower(eigenvalue_floor(H, error, mu)) >= mu:
        return mu
    return 0.0


def prove_global(points: proofs.Points) -> Global | None:
    """The claim global, in floats: what they leave open is lost by the theorem, not by rounding."""
    ar = arithmetic(FLOAT_BITS)
    with ctx.workprec(ar.scalar_bits):
        level = upper(pad(points.view(FLOAT_BITS).value, ar))
        if not math.isfinite(level):
            return None
        _, view = regions.around_level_set(points.data, ar, level)
        mu = _modulus(*regions.laplacian_floor(view))
    return Global(ar.bits, level, mu) if mu > 0 else None


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


def outward(ball: arb) -> Interval:
    """Floats between which the ball lies."""
    return Interval(lower(ball), upper(ball))
