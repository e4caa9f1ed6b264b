r"""Constants: what Lemmas 13 and 14 print, beside what is proved and can be used.

The constants do not depend on n: docs/theory/constants.md proves them, with a computer-assisted
part in `copyreg_jax.theory.branch_and_bound`. Eigenvalues and norms are float64 results with a
bound of their rounding errors taken off or put on, so that a singular Hessian is never called
definite; the few operations after them are rounded as usual. A certificate encloses its own
numbers.

One letter more than elsewhere: ``e`` is a lower bound of ``ell_1`` on the region spoken of, which
the paper calls gamma (its gamma_c is ``gamma`` here).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.curvature import MAX_SECOND_DERIVATIVE
from copyreg_jax.problems.objective import METRICS, Metric
from copyreg_jax.problems.softmax_regression import SoftmaxRegression, check_squared
from copyreg_jax.theory.branch_and_bound import EXTREMES
from copyreg_jax.theory.spectra import extreme_singular_values, farthest_row

__all__ = [
    "PRINTED_CURVATURE",
    "QUIET",
    "CurvatureRange",
    "Lipschitz",
    "Threshold",
    "convexity_threshold",
    "curvature_range",
    "hessian_lipschitz",
    "largest_weight",
    "negative_curvature",
    "positive",
    "spread",
    "third_derivative_bound",
    "third_derivative_formula",
]

_SECOND = 0.5 * MAX_SECOND_DERIVATIVE
"""Largest |f_i''| along a unit direction; ||f''||_2 is at most sqrt(2) times it."""

_THIRD = EXTREMES["third derivative of a set's mass"].constant
"""Largest ``|f_i'''|`` along a direction of spread 1; ||f'''||_2 is at most sqrt(2) times it."""

# Beyond the range of float64 a bound is infinite, and a modulus -infinite: no warning is due.
QUIET = np.errstate(all="ignore")

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


@QUIET
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


@QUIET
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
        return float(third_derivative_formula(largest_weight(b), 0.0, 1.0))
    if not ell_1_floor > 0:
        return math.inf
    return float(
        third_derivative_formula(largest_weight(b), np.float64(gamma), np.float64(ell_1_floor))
    )


def largest_weight(b: ArrayLike) -> float:
    """Bound of ``|<b, f'''>|`` by the largest ``|f_i'''|``: the sum of b >= 0, or sqrt(2) ||b||."""
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


@QUIET
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


def _hypothesis(holds: bool, found: str, lemma: str, hypothesis: str) -> None:
    if not holds:
        raise InputError(f"{found}, but Lemma {lemma} supposes {hypothesis}")


def positive(number: float, name: str) -> None:
    """Refuse a number that is not finite and > 0."""
    if not 0 < number < math.inf:
        raise InputError(f"{name} is {number}; give a finite number > 0")
