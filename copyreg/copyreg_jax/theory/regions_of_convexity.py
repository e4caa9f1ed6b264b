"""Where L is strongly convex, and how much: floors, level sets, balls."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jax.typing import ArrayLike

from copyreg_jax.errors import ENABLE_X64, InputError, PrecisionError
from copyreg_jax.matrices import to_host
from copyreg_jax.problems import objective
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.curvature import MAX_SECOND_DERIVATIVE
from copyreg_jax.problems.objective import FACTOR, Form, Metric, Point
from copyreg_jax.problems.softmax_regression import SoftmaxRegression, check_squared
from copyreg_jax.theory.constants import (
    QUIET,
    CurvatureRange,
    curvature_range,
    negative_curvature,
    positive,
    spread,
    third_derivative_bound,
)
from copyreg_jax.theory.spectra import smallest_gram_eigenvalue

__all__ = [
    "Ball",
    "Floor",
    "Region",
    "Sublevel",
    "float64_point",
    "floor_around",
    "hessian_at",
    "loss_floor",
    "loss_floor_formula",
    "strong_convexity",
    "sublevel_curvature",
]


class Floor(NamedTuple):
    """The region ``{x : ell_1(x) >= ell_1}``; it need not be convex."""

    ell_1: float


class Sublevel(NamedTuple):
    """The region ``{x : L(x) <= value}``; it need not be convex."""

    value: float


class Ball(NamedTuple):
    """The region ``{x : ||x - center|| <= radius}``."""

    center: ArrayLike
    radius: float


Region: TypeAlias = Floor | Sublevel | Ball


@QUIET
def strong_convexity(problem: SoftmaxRegression, region: Region) -> float:
    """A modulus l with ``hess L >= l I`` on a region; negative where no convexity is proved.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
    region : Floor, Sublevel or Ball
        Without gamma, a `Floor` is everywhere. On a `Ball`, or a convex part of the others, l > 0
        means strongly convex in the usual sense; elsewhere it bounds every Hessian of the region.

    Returns
    -------
    float
        ``lambda_min(A^T diag(w^2 - k) A)`` with k the proved negative curvature of L_copyright on
        the region; on a `Ball` also ``lambda_min(hess L(center)) - M radius``, if that is better.

    Raises
    ------
    InputError
        The region is malformed: a floor or radius that is not positive, a value below every L. A
        `Ball`, and a problem with the cross-entropy.
    PrecisionError
        A `Ball`, whose center's derivatives are needed, and a problem that is not in float64.

    Notes
    -----
    Corrects Lemma 13. Cost O(n d^2).

    Examples
    --------
    >>> import numpy as np
    >>> from copyreg_jax import CopyrightRegression
    >>> problem = CopyrightRegression(np.eye(4, dtype="f4"), [0.4, 0.3, 0.2, 0.1], 2, gamma=0.01)
    >>> round(strong_convexity(problem, Floor(0.1)), 3)
    0.138
    >>> strong_convexity(problem, Floor(0.01)) > 0
    False
    """
    gamma, bound = float(problem.gamma), curvature_range(problem.b, problem.metric)
    if isinstance(region, Ball):
        check_squared(problem, "the modulus in a Ball")
        return _strong_convexity_in_ball(problem, region, bound)
    if isinstance(region, Sublevel):
        e = loss_floor(problem, region.value)
        lower = max(bound.lower, sublevel_curvature(float(region.value)))
    elif isinstance(region, Floor):
        e, lower = float(region.ell_1), bound.lower
        positive(e, "the floor of ell_1")
    else:
        raise InputError(f"region is {region!r}; give a Floor, a Sublevel or a Ball")
    # The formula is that of gamma / ell_1 = (gamma / 2) / phi; for the cross-entropy ell_1 is phi.
    return _modulus(problem, lower, bound.upper, gamma / (2 * FACTOR[problem.metric]), e)


@QUIET
def _strong_convexity_in_ball(
    problem: SoftmaxRegression, region: Ball, bound: CurvatureRange
) -> float:
    radius, gamma, R = float(region.radius), float(problem.gamma), np.float64(spread(problem))
    positive(radius, "radius")
    center = float64_point(problem, region.center, "center")
    e = floor_around(problem, center, float(R) * radius)
    if gamma and not e > 0:
        return -math.inf
    modulus = _modulus(problem, bound.lower, bound.upper, gamma, e)
    smallest, _ = hessian_at(problem, center)
    local = float(smallest - R**3 * third_derivative_bound(problem.b, gamma, e) * radius)
    return max(modulus, local) if math.isfinite(local) else modulus


def _modulus(
    problem: SoftmaxRegression, lower: float, upper: float, gamma: float, e: float
) -> float:
    negative = float(negative_curvature(lower, upper, gamma, np.float64(e) if gamma else 1.0))
    weights = np.asarray(problem.w, np.float64) ** 2 - negative
    if not np.isfinite(weights).all():
        return -math.inf
    modulus = smallest_gram_eigenvalue(problem.A, weights)
    return modulus if math.isfinite(modulus) else -math.inf


def float64_point(problem: SoftmaxRegression, x: ArrayLike, name: str) -> Point:
    """The point, if derivatives there are float64 numbers and prove something."""
    if problem.dtype != np.float64:
        raise PrecisionError(
            f"derivatives of a {problem.dtype} problem prove nothing; "
            f"put {ENABLE_X64} before the first use of JAX, and give float64 data"
        )
    point = problem.point(x, name)
    if not np.isfinite(np.asarray(point)).all():
        raise InputError(f"{name} has entries that are not finite")
    return point


def hessian_at(problem: SoftmaxRegression, x: Point) -> tuple[float, float]:
    """Smallest eigenvalue of the Hessian from below, norm of the gradient from above.

    The rounding errors are bounded by ``(n + 8 d + 4 |u|) eps`` times the sums of the absolute
    values of all terms: a sum of n terms loses n eps, an eigenvalue a few d eps, f as much as the
    logits ``|u|`` are rounded by.
    """
    host: Any = to_host(problem.A)
    u, b, mask, reading = problem.logits(x), problem.b, problem.protected, problem.reading
    gamma = np.float64(problem.gamma)
    f = np.asarray(objective.f(u))
    slope = kappa = np.float64(0)
    f_1, c_1 = f, np.zeros_like(f)
    if gamma > 0:
        e = np.float64(objective.ell_1(u, b, mask, reading))
        slope, kappa = 2 * gamma / e**2, 8 * gamma / e**3
        f_1 = np.asarray(objective.f_1(u, mask, reading)) if reading == "block" else f
        c_1 = np.abs(np.asarray(objective.c_1(u, b, mask, reading)))
    c, weights = np.abs(f - np.asarray(b)), np.asarray(problem.w) ** 2
    # Row norms bound the rows; centering at most doubles the largest.
    squares = host.multiply(host) if hasattr(host, "multiply") else host * host
    rows = np.sqrt(np.asarray(squares.sum(axis=1)).ravel())
    centered = rows + f @ rows
    g, g_1 = f * (c + f @ c), f_1 * (c_1 + f_1 @ c_1)
    terms = (f * (f + c + f @ c)) @ centered**2 + weights @ rows**2
    terms += slope * ((f_1 * (f_1 + c_1 + f_1 @ c_1)) @ (rows + f_1 @ rows) ** 2)
    terms += kappa * (g_1 @ rows) ** 2
    gradient_terms = (g + slope * g_1 + weights * np.abs(np.asarray(u))) @ rows
    largest_logit = float(rows.max() * np.linalg.norm(np.asarray(x)))
    eps = (problem.n + 8 * problem.d + 4 * largest_logit) * 2.0**-52
    H, gradient = np.asarray(problem.hessian(x)), np.asarray(problem.gradient(x))
    if not (np.isfinite(H).all() and np.isfinite(gradient).all() and math.isfinite(terms)):
        raise InputError("L has no finite Hessian there; give a point off the barrier")
    smallest = float(np.linalg.eigvalsh(H)[0] - eps * terms)
    return smallest, float(np.linalg.norm(gradient) + eps * gradient_terms)


def floor_around(problem: SoftmaxRegression, x: Point, change: float) -> float:
    """Lower bound of ell_1 where the logits are those at x up to a change of at most this spread.

    ``||f_1(x) - f_1(y)||_2 <= change / sqrt(8)``, and sqrt(ell_1) changes by no more than that. The
    last factor is for the rounding of ell_1 at x.
    """
    if not isinstance(problem, CopyrightRegression):
        return 0.0
    root = math.sqrt(float(problem.ell_1(x)))
    rounding = (problem.n + 8) * 2.0**-52 * (1 + float(np.abs(np.asarray(problem.logits(x))).max()))
    return max(root - rounding - change / math.sqrt(8), 0.0) ** 2


def loss_floor(problem: SoftmaxRegression, value: float) -> float:
    """Largest proved e with ``ell_1 >= e`` wherever ``L <= value``; 0 if gamma is 0.

    ``2 gamma / (value + sqrt(value^2 - 2 gamma))`` (joint) or ``gamma / value`` (block), from
    docs/theory/level-set.md; ``2 gamma / (value + sqrt(value^2 - 4 gamma))`` for the cross-entropy.

    Raises
    ------
    InputError
        No x has so small an L.

    Examples
    --------
    >>> from copyreg_jax import CopyrightRegression
    >>> problem = CopyrightRegression([[1.0], [0.0]], [0.5, 0.5], 1, gamma=0.5)
    >>> loss_floor(problem, 1.25)
    0.5
    """
    value, gamma = float(value), float(problem.gamma)
    may_cancel = problem.reading == "block" and problem.metric == "squared"
    least = 0.0 if may_cancel else 2 * math.sqrt(FACTOR[problem.metric] * gamma) * (1 - 2.0**-51)
    is_reached = least <= value < math.inf and (value > 0 or gamma == 0)
    if not is_reached:
        raise InputError(f"no x has L <= {value}: L is at least {least:.6g}; give a reached value")
    if not gamma:
        return 0.0
    with np.errstate(over="ignore"):
        formula = loss_floor_formula(problem.reading, gamma, np.float64(value), problem.metric)
    return float(formula)


def loss_floor_formula(reading: Form, gamma: Any, value: Any, metric: Metric = "squared") -> Any:
    """The formula of `loss_floor`; numbers and JAX arrays alike."""
    if reading == "block" and metric == "squared":  # there ell_2 may be negative
        return gamma / value
    least = 2 * (FACTOR[metric] * gamma) ** 0.5
    # By rounding, the least value may seem to be below it.
    return 2 * gamma / (value + abs((value - least) * (value + least)) ** 0.5)


def sublevel_curvature(value: Any) -> Any:
    """Curvature of ``phi_1`` from below where ``L <= value``, where ``|c_i| <= sqrt(2 value)``.

    Better than `curvature_range` where value is small. Numbers and JAX arrays alike.
    """
    return -MAX_SECOND_DERIVATIVE * (2 * value) ** 0.5
