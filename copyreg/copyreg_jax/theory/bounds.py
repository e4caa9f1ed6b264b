r"""Constants and regions: what Lemmas 13-16 print, beside what is proved and can be used.

The constants do not depend on n: docs/theory/constants.md proves them, with a computer-assisted
part in `copyreg_jax.theory.extremes`. Eigenvalues and norms are float64 results with a bound of
their rounding errors taken off or put on, so that a singular Hessian is never called definite;
the few operations after them are rounded as usual. A certificate encloses its own numbers.

One letter more than elsewhere: ``e`` is a lower bound of ``ell_1`` on the region spoken of, which
the paper calls gamma (its gamma_c is `gamma` here).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from flint import arb, ctx
from jax.typing import ArrayLike

from copyreg_jax import objective
from copyreg_jax.certify import proofs
from copyreg_jax.certify.arithmetic import ARITHMETIC, lower
from copyreg_jax.curvature import MAX_SECOND_DERIVATIVE
from copyreg_jax.errors import InputError, PrecisionError
from copyreg_jax.matrices import (
    extreme_singular_values,
    farthest_row,
    smallest_gram_eigenvalue,
    to_host,
)
from copyreg_jax.objective import FACTOR, METRICS, Metric, Reading
from copyreg_jax.problem import (
    ENABLE_X64,
    CopyrightRegression,
    Point,
    SoftmaxRegression,
    check_squared,
)
from copyreg_jax.theory.extremes import EXTREMES

_SECOND = 0.5 * MAX_SECOND_DERIVATIVE
"""Largest |f_i''| along a unit direction; ||f''||_2 is at most sqrt(2) times it."""
_THIRD = EXTREMES["third derivative of a set's mass"].constant
"""Largest |f_i'''| along a direction of spread 1; ||f'''||_2 is at most sqrt(2) times it."""

# Beyond the range of float64 a bound is infinite, and a modulus -infinite: no warning is due.
_QUIET = np.errstate(all="ignore")

PRINTED_CURVATURE = (-4.0, 8.0)
"""Bounds of B that the paper takes from Deng, Li and Song (||b||_2 <= 1)."""


class CurvatureRange(NamedTuple):
    """``lower I <= hess_u phi_t <= upper I``, at every point and for every mask t."""

    lower: float
    upper: float


def curvature_range(b: ArrayLike, metric: Metric = "squared") -> CurvatureRange:
    """Dimension-free curvature bounds of ``phi_t(u) = 0.5 sum_i t_i (f_i - b_i)^2``.

    Parameters
    ----------
    b : (n,) array
        Any finite target; the bounds are best for b on the simplex or in the unit ball.
    metric : {"squared", "cross-entropy"}, default "squared"
        With "cross-entropy", of ``phi_t(u) = -sum_i t_i b_i log f_i`` instead.

    Returns
    -------
    CurvatureRange
        For b on the simplex (-0.242, 0.310), for ``||b||_2 <= 1`` (-0.315, 0.361); the extremes
        found numerically are (-0.24041, 0.30812) and (-0.3125, 0.35912), the paper's values are
        -4 and 8. Larger targets have larger bounds. For the cross-entropy (0, half the sum of b).

    Raises
    ------
    InputError
        b has two axes, or an entry that is not finite or above 1e100, or one below zero for the
        cross-entropy; an unknown metric.

    Notes
    -----
    Source: docs/theory/constants.md, which corrects the bounds of B behind Lemma 13. Cost O(n).

    Examples
    --------
    >>> curvature_range([0.2, 0.8])
    CurvatureRange(lower=-0.242, upper=0.31)
    >>> curvature_range([0.6, -0.8])
    CurvatureRange(lower=-0.315, upper=0.361)
    >>> curvature_range([0.25, 0.75], "cross-entropy")
    CurvatureRange(lower=0.0, upper=0.5)
    """
    b = _target(b)
    if metric not in METRICS:
        raise InputError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}")
    if metric == "cross-entropy":
        if (b < 0).any():
            raise InputError(f"b is {b.min()} somewhere; the cross-entropy needs a target b >= 0")
        return CurvatureRange(0.0, 0.5 * _mass(b))
    norm = float(np.linalg.norm(b))
    excess = _SECOND * math.sqrt(2) * max(norm - 1, 0.0)
    ball = CurvatureRange(
        -EXTREMES["lower curvature, |b| <= 1"].constant - excess,
        EXTREMES["upper curvature, |b| <= 1"].constant + excess,
    )
    if (b < 0).any():
        return ball
    excess = _SECOND * max(_mass(b) - 1, 0.0)
    simplex = CurvatureRange(
        -EXTREMES["lower curvature, b on the simplex"].constant - excess,
        EXTREMES["upper curvature, b on the simplex"].constant + excess,
    )
    pairs = zip(ball, simplex, strict=True)
    return CurvatureRange(*(min(pair, key=abs) for pair in pairs))


def _target(b: ArrayLike) -> np.ndarray:
    b = np.asarray(b, np.float64)
    if b.ndim != 1 or not (np.abs(b) < 1e100).all():
        raise InputError("b must be one row of numbers below 1e100 in size")
    return b


def _mass(b: np.ndarray) -> float:
    # Exactly 1 for a b that was made to sum to 1: its rounding errors are below this.
    mass = math.fsum(b)
    return 1.0 if abs(mass - 1) <= 2.0**-52 * len(b) else mass


class Threshold(NamedTuple):
    """The smallest w_i^2 for which a Hessian bound is promised, printed and usable."""

    printed: float
    usable: float


@_QUIET
def convexity_threshold(
    problem: CopyrightRegression, ell_1_floor: float, level: float
) -> Threshold:
    """Smallest w_i^2 for which ``hess L >= level I`` wherever ``ell_1 >= ell_1_floor`` (Lemma 13).

    Parameters
    ----------
    problem : CopyrightRegression
        Its own w is not used.
    ell_1_floor : float
        In (0, 1): the ``gamma`` of the lemma, which the paper does not explain.
    level : float
        ``l`` of the lemma, > 0; or 0, for convexity alone.

    Returns
    -------
    Threshold
        ``printed = 8 + 200 gamma_c / floor^3 + level / sigma_min(A)^2`` and
        ``usable = -lower + 2 upper gamma_c / floor^2 + level / sigma_min(A)^2`` with the proved
        `curvature_range`. Infinite if ``level > 0`` and A has dependent columns.

    Raises
    ------
    InputError
        A hypothesis of Lemma 13 is not met; names it.

    Notes
    -----
    Near ``ell_1 = 0``, L is not convex for any w: there is no such bound without a floor. Cost
    O(n d^2).

    Examples
    --------
    >>> import numpy as np
    >>> from copyreg_jax import CopyrightRegression
    >>> problem = CopyrightRegression(np.eye(4, dtype="f4"), [0.4, 0.3, 0.2, 0.1], 2, gamma=0.1)
    >>> [round(number, 3) for number in convexity_threshold(problem, 0.5, level=1.0)]
    [169.0, 1.49]
    """
    check_squared(problem, "Lemma 13")
    _hypothesis(0 < ell_1_floor < 1, f"ell_1_floor = {ell_1_floor}", "13", "gamma in (0, 1)")
    _hypothesis(0 <= level < math.inf, f"level = {level}", "13", "l > 0 (or 0: convexity)")
    gamma, e = np.float64(problem.gamma), np.float64(ell_1_floor)
    smallest, _ = extreme_singular_values(problem.A)
    needed = 0.0 if level == 0 else level / np.float64(smallest) ** 2
    bound = curvature_range(problem.b)
    return Threshold(
        printed=float(8 + 200 * gamma / e**3 + needed),
        usable=float(negative_curvature(bound.lower, bound.upper, gamma, e) + needed),
    )


def negative_curvature(lower: Any, upper: Any, gamma: Any, e: Any) -> Any:
    """``hess_u L_copyright >= -this`` where ``ell_1 >= e``; numbers and JAX arrays alike.

    ``-lower + 2 upper gamma / e^2`` for phi's curvature in [lower, upper]: ``gamma / ell_1`` has
    the Hessian ``-(2 gamma / ell_1^2) hess phi_m`` plus a positive semidefinite rank-one term.
    """
    return -lower + 2 * upper * gamma / e**2


@_QUIET
def third_derivative_bound(b: ArrayLike, gamma: float, ell_1_floor: float) -> float:
    """Bound of ``|D^3 L(v, v, v)|`` in the logits, for v of spread ``max v - min v <= 1``.

    With e the floor of ell_1, ``k = 1/8`` (proved: 0.1251) and ``s = min(sum b, sqrt(2) ||b||)``,
    the sum only where b >= 0::

        3/16 + k (1 + s) + gamma (9 / (2 sqrt(2)) e^-2.5 + 15/8 e^-2 + 2 sqrt(2) k e^-1.5)

    Parameters
    ----------
    b : (n,) array
    gamma : float
        If it is zero, the floor has no part in the bound.
    ell_1_floor : float
        Infinity is returned if it is not positive.

    Raises
    ------
    InputError
        b or gamma is out of range.

    Notes
    -----
    In x, multiply by ``spread(problem)**3``: that is a Lipschitz constant of the Hessian. Source:
    docs/theory/constants.md. Cost O(n).

    Examples
    --------
    >>> round(third_derivative_bound([0.5, 0.5], 0.1, 0.5), 2)
    3.09
    """
    if not 0 <= gamma < math.inf:
        raise InputError(f"gamma is {gamma}; give a finite number >= 0")
    if not gamma:
        return float(third_derivative_formula(_size(b), 0.0, 1.0))
    if not ell_1_floor > 0:
        return math.inf
    return float(third_derivative_formula(_size(b), np.float64(gamma), np.float64(ell_1_floor)))


def _size(b: ArrayLike) -> float:
    """Bound of ``|<b, f'''>|`` over the largest |f_i'''|: the sum of b >= 0, or sqrt(2) ||b||."""
    b = _target(b)
    size = math.sqrt(2) * float(np.linalg.norm(b))
    return size if (b < 0).any() else min(size, _mass(b))


def third_derivative_formula(size: Any, gamma: Any, e: Any) -> Any:
    """The formula of `third_derivative_bound`; numbers and JAX arrays alike."""
    protection = 4.5 / math.sqrt(2) / e**2.5 + 1.875 / e**2 + math.sqrt(8) * _THIRD / e**1.5
    return 3 / 16 + _THIRD * (1 + size) + gamma * protection


def spread(problem: SoftmaxRegression) -> float:
    """Bound of ``max(A v) - min(A v)`` over unit v: how far a unit step moves logits apart.

    ``min(sqrt(2) ||A||, 2 max_i ||a_i - mean||)``; the second does not grow with n. Cost O(n d^2).

    Examples
    --------
    >>> import numpy as np
    >>> from copyreg_jax import SoftmaxRegression
    >>> rows = np.array([[1.0], [-1.0]] * 100, dtype="f4")
    >>> round(spread(SoftmaxRegression(rows, np.full(200, 0.005, "f4"))), 9)
    2.0
    """
    _, largest = extreme_singular_values(problem.A)
    return min(math.sqrt(2) * largest, 2 * farthest_row(problem.A)) * (1 + 2.0**-50)


class Lipschitz(NamedTuple):
    """Lipschitz constants of the Hessian: logarithm of the printed one, and the usable one."""

    printed_log: float
    usable: float


@_QUIET
def hessian_lipschitz(problem: CopyrightRegression, radius: float, ell_1_floor: float) -> Lipschitz:
    """Constant M with ``||hess L(x) - hess L(y)|| <= M ||x - y||`` (Lemma 14).

    Parameters
    ----------
    problem : CopyrightRegression
    radius : float
        R of the lemma: at least 4, ``||A|| <= R``, ``||x||, ||y|| <= R``.
    ell_1_floor : float
        In (0, 1): lower bound of ell_1, the ``gamma`` of the lemma. The usable constant holds
        where the whole segment from x to y has ``ell_1 >= ell_1_floor``, for any ||x||, ||y||.

    Returns
    -------
    Lipschitz
        ``printed_log`` is the natural logarithm of
        ``(13344 gamma_c + 2) floor^-4 beta^-2 n^1.5 exp(40 R^2)`` at beta = 0.1, where it is
        smallest. ``usable = spread^3 third_derivative_bound``: n and R have no part in it.

    Raises
    ------
    InputError
        A hypothesis of Lemma 14 is not met; names it.

    Notes
    -----
    If only the endpoints are known to have ``ell_1 >= e``, then on the segment
    ``sqrt(ell_1) >= sqrt(e) - spread ||x - y|| / (4 sqrt(2))``. Cost O(n d^2).

    Examples
    --------
    >>> import numpy as np
    >>> from copyreg_jax import CopyrightRegression
    >>> problem = CopyrightRegression(np.eye(4, dtype="f4"), [0.4, 0.3, 0.2, 0.1], 2, gamma=0.1)
    >>> [round(number, 2) for number in hessian_lipschitz(problem, 10, 0.5)]
    [4016.65, 8.65]
    """
    check_squared(problem, "Lemma 14")
    _, largest = extreme_singular_values(problem.A)
    norm = float(np.linalg.norm(np.asarray(problem.b, np.float64)))
    _hypothesis(4 <= radius < math.inf, f"radius = {radius}", "14", "R >= 4")
    _hypothesis(largest <= radius * (1 + 1e-12), f"||A|| = {largest:.6g}", "14", "||A|| <= R")
    rounding = 4 * np.finfo(problem.dtype).eps
    _hypothesis(norm <= 1 + rounding, f"||b||_2 = {norm:.9g}", "14", "||b||_2 <= 1")
    _hypothesis(0 < ell_1_floor < 1, f"ell_1_floor = {ell_1_floor}", "14", "gamma in (0, 1)")
    gamma, e = float(problem.gamma), float(ell_1_floor)
    printed_log = (
        math.log(13344 * gamma + 2)
        - 4 * math.log(e)
        + 2 * math.log(10)
        + 1.5 * math.log(problem.n)
        + 40 * float(np.float64(radius) ** 2)
    )
    third = third_derivative_bound(problem.b, gamma, e)
    return Lipschitz(printed_log, float(np.float64(spread(problem)) ** 3 * third))


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


@_QUIET
def strong_convexity(problem: SoftmaxRegression, region: Region) -> float:
    """A modulus l with ``hess L >= l I`` on a region; negative where no convexity is proved.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
    region : Floor, Sublevel or Ball
        Without gamma, a `Floor` is everywhere. On a `Ball`, or a convex part of the others, l > 0
        means strongly convex in the usual sense; else it is about every Hessian in the region.

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
        _positive(e, "the floor of ell_1")
    else:
        raise InputError(f"region is {region!r}; give a Floor, a Sublevel or a Ball")
    # The formula is that of gamma / ell_1 = (gamma / 2) / phi; for the cross-entropy ell_1 is phi.
    return _modulus(problem, lower, bound.upper, gamma / (2 * FACTOR[problem.metric]), e)


@_QUIET
def _strong_convexity_in_ball(
    problem: SoftmaxRegression, region: Ball, bound: CurvatureRange
) -> float:
    radius, gamma, R = float(region.radius), float(problem.gamma), np.float64(spread(problem))
    _positive(radius, "radius")
    center = _float64_point(problem, region.center, "center")
    e = _floor_around(problem, center, float(R) * radius)
    if gamma and not e > 0:
        return -math.inf
    modulus = _modulus(problem, bound.lower, bound.upper, gamma, e)
    smallest, _ = _hessian_at(problem, center)
    local = float(smallest - R**3 * third_derivative_bound(problem.b, gamma, e) * radius)
    return max(modulus, local) if math.isfinite(local) else modulus


def is_strongly_convex(problem: SoftmaxRegression, region: Region) -> bool:
    """Whether `strong_convexity` is positive: the Hessian is proved positive definite there."""
    return strong_convexity(problem, region) > 0


def _modulus(
    problem: SoftmaxRegression, lower: float, upper: float, gamma: float, e: float
) -> float:
    negative = float(negative_curvature(lower, upper, gamma, np.float64(e) if gamma else 1.0))
    weights = np.asarray(problem.w, np.float64) ** 2 - negative
    if not np.isfinite(weights).all():
        return -math.inf
    modulus = smallest_gram_eigenvalue(problem.A, weights)
    return modulus if math.isfinite(modulus) else -math.inf


def _float64_point(problem: SoftmaxRegression, x: ArrayLike, name: str) -> Point:
    if problem.dtype != np.float64:
        raise PrecisionError(
            f"derivatives of a {problem.dtype} problem prove nothing; "
            f"put {ENABLE_X64} before the first use of JAX, and give float64 data"
        )
    point = problem.point(x, name)
    if not np.isfinite(np.asarray(point)).all():
        raise InputError(f"{name} has entries that are not finite")
    return point


def _hessian_at(problem: SoftmaxRegression, x: Point) -> tuple[float, float]:
    """Smallest eigenvalue of the Hessian from below, norm of the gradient from above.

    The rounding errors are bounded by ``(n + 8 d + 4 |u|) eps`` times the sums of the absolute
    values of all terms: a sum of n terms loses n eps, an eigenvalue a few d eps, f as much as the
    logits |u| are rounded by.
    """
    host: Any = to_host(problem.A)
    u, (b, mask, gamma, w, reading, _) = problem.logits(x), problem.terms
    f = np.asarray(objective.f(u))
    slope = kappa = np.float64(0)
    f_1, c_1 = f, np.zeros_like(f)
    if gamma > 0:
        e = np.float64(objective.ell_1(u, b, mask, reading))
        slope, kappa = 2 * np.float64(gamma) / e**2, 8 * np.float64(gamma) / e**3
        f_1 = np.asarray(objective.f_1(u, mask, reading)) if reading == "block" else f
        c_1 = np.abs(np.asarray(objective.c_1(u, b, mask, reading)))
    c, weights = np.abs(f - np.asarray(b)), np.asarray(w) ** 2
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


def _floor_around(problem: SoftmaxRegression, x: Point, change: float) -> float:
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


def loss_floor_formula(reading: Reading, gamma: Any, value: Any, metric: Metric = "squared") -> Any:
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


class NewtonRegion(NamedTuple):
    """Where Newton's method is proved to converge quadratically.

    Attributes
    ----------
    radius : float
        Every start within this distance of x converges to the minimizer x*; 0 if nothing is
        proved.
    minimizer_within : float
        Bound of ``||x - x*||``; infinite if nothing is proved.
    modulus, lipschitz : float
        ``hess L(x*) >= modulus I`` and the Lipschitz constant M behind the radius; the errors
        obey ``r' <= M r^2 / (2 (modulus - M r))``. If nothing is proved, the smallest eigenvalue at
        x (from below) and infinity.
    printed_log_radius : float
        Logarithm of the radius ``0.1 l / (n^1.5 exp(60 R^2))`` of Theorem 15 with l = modulus.
    """

    radius: float
    minimizer_within: float
    modulus: float
    lipschitz: float
    printed_log_radius: float


@_QUIET
def newton_region(problem: SoftmaxRegression, x: ArrayLike) -> NewtonRegion:
    """The proved region of quadratic convergence around a near-stationary point (Theorem 15).

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
    x : (d,) array
        Close to a minimizer: `Solution.x`.

    Returns
    -------
    NewtonRegion
        ``radius = min(2 mu* / (3 M), rho - delta) - delta``: delta bounds the distance to x*
        (Newton and Kantorovich), M is valid within rho of x, and rho is chosen best. The printed
        radius takes R = max(10, ||A||, ||x||).

    Raises
    ------
    InputError
        x has the wrong shape or is not finite, or L is infinite there.
    PrecisionError
        The problem is not in float64.

    Notes
    -----
    Proof: docs/theory/constants.md. Cost O(n d^2 + d^3).

    Examples
    --------
    >>> import jax, numpy as np
    >>> import copyreg_jax as cr
    >>> jax.config.update("jax_enable_x64", True)
    >>> problem = cr.CopyrightRegression(np.eye(4), [0.4, 0.3, 0.2, 0.1], 2, gamma=0.1)
    >>> region = newton_region(problem, cr.solve(problem).x)
    >>> region.radius > 1e-3, region.printed_log_radius < -6000
    (True, True)
    >>> jax.config.update("jax_enable_x64", False)
    """
    check_squared(problem, "the region of Theorem 15")
    x = _float64_point(problem, x, "x")
    gamma, R = float(problem.gamma), np.float64(spread(problem))
    mu, gradient = _hessian_at(problem, x)
    nothing = NewtonRegion(0.0, math.inf, mu, math.inf, -math.inf)
    if mu <= 0:
        return nothing
    if R == 0:  # all rows are equal: L is a constant plus L_reg
        found = NewtonRegion(math.inf, 2 * gradient / mu, mu, 0.0, 0.0)
    else:
        # Any rho gives a valid region: its M holds within rho of x. With gamma there is no floor
        # of ell_1 beyond the last one; without, no radius exceeds mu / M.
        root = math.sqrt(_floor_around(problem, x, 0.0))
        plain = float(R**3 * third_derivative_bound(problem.b, 0.0, 1.0))
        furthest = math.sqrt(8) * root / R if gamma else mu / plain
        rho = furthest * np.geomspace(1e-6, 1, 600)[:-1]
        floor = np.maximum(root - R * rho / math.sqrt(8), 0) ** 2 if gamma else np.ones_like(rho)
        M = R**3 * third_derivative_formula(_size(problem.b), gamma, floor)
        discriminant = mu**2 - 2 * M * gradient
        delta = 2 * gradient / (mu + np.sqrt(np.maximum(discriminant, 0)))
        modulus = mu - M * delta
        radius = np.minimum(2 * modulus / (3 * M), rho - delta) - delta
        radius = np.where((discriminant >= 0) & np.isfinite(M), radius, -math.inf)
        best = int(np.argmax(radius))
        if not radius[best] > 0:
            return nothing
        found = NewtonRegion(
            float(radius[best]), float(delta[best]), float(modulus[best]), float(M[best]), 0.0
        )
    _, norm = extreme_singular_values(problem.A)
    largest = max(10.0, norm, float(np.linalg.norm(np.asarray(x))))
    log_M = 1.5 * math.log(problem.n) + 60 * float(np.float64(largest) ** 2)
    return found._replace(printed_log_radius=math.log(0.1 * found.modulus) - log_M)


def level_set_tau(problem: CopyrightRegression, value: float) -> float:
    """A tau with ``ell_1/n1 - ell_2/n2 >= tau`` wherever ``L <= value`` (replaces Theorem 16).

    Parameters
    ----------
    problem : CopyrightRegression
    value : float
        A value that L reaches, rounded upwards.

    Returns
    -------
    float
        Rounded downwards, in ball arithmetic: the number a certificate states.

    Raises
    ------
    InputError
        No x has so small an L.

    Notes
    -----
    Proof: docs/theory/level-set.md. Cost O(1).

    Examples
    --------
    >>> import numpy as np
    >>> from copyreg_jax import CopyrightRegression
    >>> problem = CopyrightRegression(np.eye(6, dtype="f4"), [1 / 6] * 6, 2, gamma=0.01, w=0.01)
    >>> round(level_set_tau(problem, 0.1457), 4)
    0.0553
    """
    value, gamma = float(value), float(problem.gamma)
    loss_floor(problem, value)
    sizes = problem.n, problem.n1, gamma
    with ARITHMETIC, ctx.workprec(128):
        return proofs.level_set_tau(*sizes, problem.reading, problem.metric, value)


def cross_entropy_level_set_tau(gamma: float, share: float, value: float) -> float:
    """A tau with ``CE_1 - CE_2 >= tau`` wherever ``CE + gamma / CE_1 <= value``.

    The level-set theorem for training with cross-entropy: ``CE = share CE_1 + (1 - share) CE_2``,
    where CE_1 and CE_2 are means per protected and per other token.

    Parameters
    ----------
    gamma : float
        Weight of the protection term, > 0.
    share : float
        Part of the tokens that is protected, in (0, 1).
    value : float
        A value of the training loss that is reached, in nats per token.

    Returns
    -------
    float
        In nats per token, rounded downwards.

    Raises
    ------
    InputError
        An argument is out of range, or no CE_1 and CE_2 >= 0 have so small a loss.

    Notes
    -----
    ``tau = (t + gamma/t - value) / (1 - share)`` at ``t = max(sqrt(gamma), t-)``, the smaller root
    of ``share t^2 - value t + gamma``. Proof: docs/theory/level-set.md. Cost O(1).

    Examples
    --------
    >>> round(cross_entropy_level_set_tau(gamma=gamma_for(3.0, 0.1), share=0.1, value=2.0), 4)
    -0.114
    """
    gamma, share, value = float(gamma), float(share), float(value)
    _positive(gamma, "gamma")
    _share(share)
    _positive(value, "value")
    with ARITHMETIC, ctx.workprec(128):
        exact_gamma, p, L = arb(gamma), arb(share), arb(value)
        root = L * L - 4 * p * exact_gamma
        if not root >= 0:
            least = 2 * math.sqrt(share * gamma)
            raise InputError(f"no losses give {value}: the total is at least {least:.6g}")
        high = (L + root.sqrt()) / (2 * p)
        low = exact_gamma / (p * high)
        # The formula at t = sqrt(gamma) bounds all t, so it is left on a *proved* comparison only;
        # t+ is never below it, as t- t+ = gamma / share.
        t = exact_gamma.sqrt()
        if t < low:  # noqa: PLR1730  (balls are compared in the open)
            t = low
        return lower((t + exact_gamma / t - L) / (1 - p))


@_QUIET
def gamma_for(target_protected_loss: float, share: float) -> float:
    """The gamma that balances the protection term at a wanted protected loss.

    ``share t + gamma / t`` is least at ``t = sqrt(gamma / share)``: ``gamma = share t^2``.

    Parameters
    ----------
    target_protected_loss : float
        Wanted protected cross-entropy t, in nats per token, > 0.
    share : float
        Part of the tokens that is protected, in (0, 1).

    Raises
    ------
    InputError
        An argument is out of range.

    Examples
    --------
    >>> gamma_for(4.0, 0.25)
    4.0
    """
    _positive(target_protected_loss, "target_protected_loss")
    _share(share)
    return float(share * np.float64(target_protected_loss) ** 2)


def _hypothesis(holds: bool, found: str, lemma: str, hypothesis: str) -> None:
    if not holds:
        raise InputError(f"{found}, but Lemma {lemma} supposes {hypothesis}")


def _positive(number: float, name: str) -> None:
    if not 0 < number < math.inf:
        raise InputError(f"{name} is {number}; give a finite number > 0")


def _share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"share is {share}; give the protected part of the tokens, in (0, 1)")
