"""The claims about minimizers: that one is near a point, and that it is the global one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from flint import arb, arb_mat, ctx

from copyreg_jax.checker import dominance, format, proofs, regions, theorems
from copyreg_jax.checker.arithmetic import (
    FLOAT_BITS,
    START_BITS,
    Arithmetic,
    arithmetic,
    lower,
    upper,
)
from copyreg_jax.checker.format import Global, Interval, Local, T
from copyreg_jax.checker.linear import lost_of, modulus, to_floats

__all__ = ["GivenUp", "made", "outward", "pad", "padded", "prove_global", "prove_local"]

_LOCAL_BITS = (FLOAT_BITS, START_BITS)

_MOST_BELOW, _MOST_ABOVE = 0.5, 3.0
"""What the rest of the Hessian may take from, and add to, ``A^T W^2 A`` for that to be enough."""

_MAX_TRIALS = 6
"""Radii that are tried for the local claim, at each precision."""


class GivenUp(NamedTuple):
    """Why a claim is not made, whether more digits might show it, and whether x is too far away."""

    reason: str
    by_rounding: bool = False
    is_far: bool = False


def made(claim: T | GivenUp) -> T | None:
    """The claim, if it is made."""
    return None if isinstance(claim, GivenUp) else claim


def pad(ball: arb, ar: Arithmetic) -> arb:
    """Room for another order of summation, where floats were added; balls are the same anywhere."""
    return ball + arb(0, 0.5 * ball.rad()) if ar.bits == FLOAT_BITS else ball


def padded(losses: proofs.Losses, ar: Arithmetic) -> proofs.Losses:
    """All bounds, padded."""
    return proofs.Losses(*(pad(ball, ar) for ball in losses))


def prove_local(points: proofs.Points) -> Local | GivenUp:
    """The claim local, at the first precision that yields it, with a radius that is not small.

    Balls come only where rounding, and not the theorem, has lost it in floats.
    """
    for bits in _LOCAL_BITS:
        ar = arithmetic(bits)
        with ctx.workprec(ar.scalar_bits):
            point = points.view(bits)
            center, norm = point.survey.center, pad(point.survey.gradient_norm, ar)
            gradient = upper(norm)
            found = _widest(point, center, norm)
            if isinstance(found, GivenUp):
                if found.by_rounding and bits != _LOCAL_BITS[-1]:
                    continue
                return found
            radius, mu = found
            distance = upper(arb(gradient) / mu)
            there = padded(proofs.in_ball(point, center, distance).losses, ar)
            margin, mass = outward(there.margin), outward(there.protected_mass)
            way = format.direction(there)
            return Local(bits, radius, mu, gradient, distance, margin, mass, way)
    raise AssertionError("the last precision ends the loop")


def _widest(point: proofs.View, center: np.ndarray, norm: arb) -> tuple[float, float] | GivenUp:
    """A radius and a modulus with ``gradient < mu radius``: the widest of a few radii.

    The logits of other points differ by up to the radius times the longest row; where that is
    near one, the Hessian is another. If that radius leaves too little of the modulus at x, a secant
    looks for half of it.
    """
    radius = 0.25 / point.survey.longest
    found = _dominated(point, radius, norm) or _flat_somewhere(point, radius, norm)
    return found or _by_gram_matrices(point, center, radius, norm)


def _by_gram_matrices(
    point: proofs.View, center: np.ndarray, radius: float, norm: arb
) -> tuple[float, float] | GivenUp:
    """The same, with the Gram matrix of the Hessian's own weights for each radius."""
    gradient, least = upper(norm), lower(norm)
    H, error = regions.hessian_floor(proofs.in_ball(point, center, radius), center)
    middle, mu = to_floats(H), modulus(H, error)
    if np.isfinite(middle).all():
        # No modulus anywhere is above that at x, and so above the curvature along a direction.
        along = _curvature(point, center, np.linalg.eigh(middle)[1][:, 0])
        most = along + _blur(point, middle)
        if least >= most * radius:
            return _hopeless(least, most, radius)
        if gradient < mu * radius and mu >= 0.25 * most:
            return radius, mu
    H, error = regions.hessian_floor(point, center)
    here, rounding = modulus(H, error), _rounding(point, H, error)
    known = math.isfinite(rounding)  # no modulus anywhere is above that at x
    most = float(np.linalg.eigvalsh(to_floats(H))[0]) + rounding if known else math.inf
    if most <= 0 or least >= most * radius:
        return _hopeless(least, most, radius)
    if not (here > 0 and gradient < math.inf):
        return _undecided(point, H, gradient)
    is_open = False
    for _ in range(_MAX_TRIALS):
        view = proofs.in_ball(point, center, radius)
        mu = modulus(*regions.hessian_floor(view, center))
        is_near = gradient < mu * radius
        is_open |= not is_near and least < (mu + rounding) * radius
        if mu >= 0.25 * here or (mu > 0 and radius <= 4 * gradient / here):
            return (radius, mu) if is_near else _hopeless(least, mu, radius, is_open)
        drop = (here - mu) / here if mu > 0 else 8.0
        radius = max(0.5 * radius / drop, 2 * gradient / here)
    return GivenUp(
        f"the Hessian at x is positive definite (curvature {here:.2g}), but was not proved to be "
        f"so as far away as a minimizer may be, about {gradient / here:.2g}; a better point is "
        "needed",
        is_open,
    )


def _dominated(
    point: proofs.View, radius: float, norm: arb
) -> tuple[float, float] | GivenUp | None:
    """A modulus within the radius, or that there is none, where the regularization says it all."""
    around = dominance.Around(dominance.at(point), radius)
    if not _is_small(around):
        return None
    mu = 0.99 * dominance.floor(around, point.survey.floor)
    if upper(norm) < mu * radius:
        return radius, mu
    # The Hessian is at most (1 + share) A^T W^2 A and a matrix of rank one, which leaves its least
    # eigenvalue below the second one of the former.
    values = np.linalg.eigvalsh(point.survey.gram.matrix)
    most = 1.01 * (1 + around.shares[1]) * float(values[1]) if len(values) > 1 else math.inf
    return _hopeless(lower(norm), most, radius) if lower(norm) >= most * radius else None


def _is_small(around: dominance.Around) -> bool:
    """Whether the Hessian on a set is that of the regularization, within factors."""
    below, above = around.shares
    return below <= _MOST_BELOW and above <= _MOST_ABOVE


def _flat_somewhere(point: proofs.View, radius: float, norm: arb) -> GivenUp | None:
    """Whether the curvature along one direction is too small for the gradient; no Gram matrix.

    No modulus anywhere is above that at x, and so above the curvature there along a direction.
    """
    matrix = point.survey.gram.matrix
    if not (np.isfinite(matrix).all() and lower(norm) >= 0.25 * point.survey.floor * radius):
        return None  # near a minimizer this would find nothing
    along = _curvature(point, point.survey.center, np.linalg.eigh(matrix)[1][:, 0])
    most = along + _blur(point, matrix)
    return _hopeless(lower(norm), most, radius) if lower(norm) >= most * radius else None


def _hopeless(gradient: float, mu: float, radius: float, is_open: bool = False) -> GivenUp:
    """Why a modulus of mu at most within the radius is not enough."""
    if mu <= 0:
        return GivenUp(
            f"the Hessian near x has an eigenvalue of about {mu:.2g}, so L is not strongly convex "
            "there; more regularization (a larger w) is needed, or another point",
            is_open,
        )
    return GivenUp(
        f"the gradient at x has a length of {gradient:.2g}, and only below {mu * radius:.2g} would "
        f"a minimizer be proved (curvature about {mu:.2g} within {radius:.2g}); a better point "
        "is needed, or a larger w if L is nearly flat in some direction",
        is_open,
        is_far=not is_open,
    )


def _undecided(point: proofs.View, H: arb_mat, gradient: float) -> GivenUp:
    """Why nothing is known of the Hessian at x."""
    if not (np.isfinite(to_floats(H)).all() and gradient < math.inf):
        return GivenUp("numbers are too large for floats; L needs another unit", by_rounding=True)
    digits = "floats" if point.ar.bits == FLOAT_BITS else f"{point.ar.bits} bits"
    return GivenUp(
        f"{digits} do not show that the Hessian at x is positive definite; where L is nearly flat "
        "in some direction, a larger w is needed, else another point",
        by_rounding=True,
    )


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
        curved += squares - 2 * mean * mixed + mean * mean * total
    return float(curved + upper(point.kappa) * bend * bend)  # bend**2 would raise if too large


def _rounding(point: proofs.View, H: arb_mat, error: arb) -> float:
    """More than what floats can move an eigenvalue of the Hessian at a point by; not proved."""
    if point.ar.bits > FLOAT_BITS:
        return math.inf
    middle = to_floats(H)
    moved = 4 * lost_of(H, error, middle) + _blur(point, middle)
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


def prove_global(points: proofs.Points, *, is_far: bool = False) -> Global | GivenUp:
    """The claim global, in floats: what they leave open is lost by the theorem, not by rounding.

    A point that is known to be far from a minimizer is asked only what costs no product with A.
    """
    ar = arithmetic(FLOAT_BITS)
    with ctx.workprec(ar.scalar_bits):
        point = points.view(FLOAT_BITS)
        level = upper(pad(point.value, ar))
        if not math.isfinite(level):
            return GivenUp("L is infinite at x, or too large for floats; another point is needed")
        mu, lowest, eigenvalue = 0.0, -math.inf, point.survey.floor
        base, least = dominance.at_zero(point), theorems.least_loss(point.data)
        around = dominance.around_level_set(base, eigenvalue, level, least)
        if around is not None:
            mu = 0.99 * dominance.floor(around, eigenvalue)
            lowest = eigenvalue * (1 - around.shares[0])
        is_open = lowest < (1 - _MOST_BELOW) * eigenvalue
        if is_open and not is_far:
            H, error = regions.laplacian_floor(regions.around_level_set(point, level, least)[1])
            middle, mu = to_floats(H), max(mu, modulus(H, error))
            if np.isfinite(middle).all():
                lowest = float(np.linalg.eigvalsh(middle)[0]) - lost_of(H, error, middle)
    if mu > 0:
        return Global(ar.bits, level, mu)
    if is_open and is_far:
        return GivenUp(
            "as x is far from a minimizer, it was tried only as far as that costs no product with "
            "A; ask at a point with a smaller gradient"
        )
    known = "nothing is known of its Hessian there"
    if math.isfinite(lowest):
        known = f"its Hessian may have an eigenvalue of {lowest:.2g} there"
    return GivenUp(
        f"L is not proved to be convex around its level set: {known}; more regularization (a "
        "larger w) is needed, or a point with a lower L"
    )


def outward(ball: arb) -> Interval:
    """Floats between which the ball lies."""
    return Interval(lower(ball), upper(ball))
