r"""Constants and regions: what Lemmas 13-16 print, beside what is proved and can be used.

The constants do not depend on n: docs/theory/constants.md proves them, with a computer-assisted
part in `copyreg_jax.theory.extremes`. The numbers made from them here (norms, eigenvalues,
thresholds) are float64 results, right up to rounding; a certificate encloses its own numbers.

One letter more than elsewhere: ``e`` is a lower bound of ``ell_1`` on the region spoken of, which
the paper calls gamma (its gamma_c is `gamma` here).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from flint import arb, ctx
from jax.typing import ArrayLike

from copyreg_jax.certify import check
from copyreg_jax.curvature import MAX_SECOND_DERIVATIVE
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import (
    extreme_singular_values,
    farthest_row,
    smallest_gram_eigenvalue,
)
from copyreg_jax.objective import Reading
from copyreg_jax.problem import CopyrightRegression, SoftmaxRegression, check_start
from copyreg_jax.theory.extremes import EXTREMES

_SECOND = 0.5 * MAX_SECOND_DERIVATIVE
"""Largest |f_i''| along a unit direction; ||f''||_2 is at most sqrt(2) times it."""
_THIRD = EXTREMES["third derivative of a set's mass"].constant
"""Largest |f_i'''| along a direction of spread 1; ||f'''||_2 is at most sqrt(2) times it."""

PRINTED_CURVATURE = (-4.0, 8.0)
"""Bounds of B that the paper takes from Deng, Li and Song (||b||_2 <= 1)."""


class CurvatureRange(NamedTuple):
    """``lower I <= hess_u phi_t <= upper I``, at every point and for every mask t."""

    lower: float
    upper: float


def curvature_range(b: ArrayLike) -> CurvatureRange:
    """Dimension-free curvature bounds of ``phi_t(u) = 0.5 sum_i t_i (f_i - b_i)^2``.

    Parameters
    ----------
    b : (n,) array
        Any finite target; the bounds are best for b on the simplex or in the unit ball.

    Returns
    -------
    CurvatureRange
        For b on the simplex (-0.242, 0.310), for ``||b||_2 <= 1`` (-0.315, 0.361); the extremes
        found numerically are (-0.24041, 0.30812) and (-0.3125, 0.35912), the paper's values are
        -4 and 8. Larger targets have larger bounds.

    Raises
    ------
    InputError
        b is not finite.

    Notes
    -----
    Source: docs/theory/constants.md, which corrects the bounds of B behind Lemma 13. Cost O(n).

    Examples
    --------
    >>> curvature_range([0.2, 0.8])
    CurvatureRange(lower=-0.242, upper=0.31)
    >>> curvature_range([0.6, -0.8])
    CurvatureRange(lower=-0.315, upper=0.361)
    """
    b = np.asarray(b, np.float64)
    if not np.isfinite(b).all():
        raise InputError("b must be finite to have a curvature range")
    norm = float(np.linalg.norm(b))
    excess = _SECOND * math.sqrt(2) * _beyond_one(norm)
    ball = CurvatureRange(
        -EXTREMES["lower curvature, |b| <= 1"].constant - excess,
        EXTREMES["upper curvature, |b| <= 1"].constant + excess,
    )
    if (b < 0).any():
        return ball
    mass = math.fsum(b)
    excess = _SECOND * _beyond_one(mass)
    simplex = CurvatureRange(
        -EXTREMES["lower curvature, b on the simplex"].constant - excess,
        EXTREMES["upper curvature, b on the simplex"].constant + excess,
    )
    pairs = zip(ball, simplex, strict=True)
    return CurvatureRange(*(min(pair, key=abs) for pair in pairs))


def _beyond_one(size: float) -> float:
    """How far a size exceeds 1; what rounding of the data adds to a 1 is within the constants."""
    return size - 1 if size > 1 + 1e-9 else 0.0


class Threshold(NamedTuple):
    """The smallest w_i^2 for which a Hessian bound is promised, printed and usable."""

    printed: float
    usable: float


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
    _hypothesis(0 < ell_1_floor < 1, f"ell_1_floor = {ell_1_floor}", "13", "gamma in (0, 1)")
    _hypothesis(0 <= level < math.inf, f"level = {level}", "13", "l > 0 (or 0: convexity)")
    gamma, e = float(problem.gamma), float(ell_1_floor)
    smallest, _ = extreme_singular_values(problem.A)
    needed = 0.0 if level == 0 else (level / smallest**2 if smallest**2 > 0 else math.inf)
    bound = curvature_range(problem.b)
    return Threshold(
        printed=8 + 200 * gamma / e**3 + needed,
        usable=negative_curvature(bound.lower, bound.upper, gamma, e) + needed,
    )


def negative_curvature(lower: Any, upper: Any, gamma: Any, e: Any) -> Any:
    """``hess_u L_copyright >= -this`` where ``ell_1 >= e``; numbers and JAX arrays alike.

    ``-lower + 2 upper gamma / e^2`` for phi's curvature in [lower, upper]: ``gamma / ell_1`` has
    the Hessian ``-(2 gamma / ell_1^2) hess phi_m`` plus a positive semidefinite rank-one term.
    """
    return -lower + 2 * upper * gamma / e**2


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

    Notes
    -----
    In x, multiply by ``spread(problem)**3``: that is a Lipschitz constant of the Hessian. Source:
    docs/theory/constants.md. Cost O(n).

    Examples
    --------
    >>> round(third_derivative_bound([0.5, 0.5], 0.1, 0.5), 2)
    3.09
    """
    b = np.asarray(b, np.float64)
    size = math.sqrt(2) * float(np.linalg.norm(b))
    if not (b < 0).any():
        size = min(size, math.fsum(b))
    if gamma and not ell_1_floor > 0:
        return math.inf
    return third_derivative_formula(size, gamma, ell_1_floor if gamma else 1.0)


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
    >>> spread(SoftmaxRegression(rows, np.full(200, 0.005, "f4")))
    2.0
    """
    _, largest = extreme_singular_values(problem.A)
    return min(math.sqrt(2) * largest, 2 * farthest_row(problem.A))


class Lipschitz(NamedTuple):
    """Lipschitz constants of the Hessian: logarithm of the printed one, and the usable one."""

    printed_log: float
    usable: float


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
    _, largest = extreme_singular_values(problem.A)
    norm = float(np.linalg.norm(np.asarray(problem.b, np.float64)))
    _hypothesis(4 <= radius < math.inf, f"radius = {radius}", "14", "R >= 4")
    _hypothesis(largest <= radius * (1 + 1e-12), f"||A|| = {largest:.6g}", "14", "||A|| <= R")
    _hypothesis(norm <= 1 + 1e-9, f"||b||_2 = {norm:.6g}", "14", "||b||_2 <= 1")
    _hypothesis(0 < ell_1_floor < 1, f"ell_1_floor = {ell_1_floor}", "14", "gamma in (0, 1)")
    gamma, e = float(problem.gamma), float(ell_1_floor)
    printed_log = (
        math.log(13344 * gamma + 2)
        - 4 * math.log(e)
        + 2 * math.log(10)
        + 1.5 * math.log(problem.n)
        + 40 * radius**2
    )
    return Lipschitz(
        printed_log, spread(problem) ** 3 * third_derivative_bound(problem.b, gamma, e)
    )


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


def strong_convexity(problem: SoftmaxRegression, region: Region) -> float:
    """A modulus l with ``hess L >= l I`` on a region; negative where no convexity is proved.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
    region : Floor, Sublevel or Ball
        On a `Ball`, or a convex part of the others, l > 0 means strongly convex in the usual
        sense; on the others it is a statement about every Hessian in the region.

    Returns
    -------
    float
        ``lambda_min(A^T diag(w^2 - k) A)`` with k the proved negative curvature of L_copyright on
        the region; on a `Ball` also ``lambda_min(hess L(center)) - M radius``, if that is better.

    Raises
    ------
    InputError
        The region is empty or malformed.

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
    gamma, bound = float(problem.gamma), curvature_range(problem.b)
    lower = bound.lower
    if isinstance(region, Ball):
        center = problem.point(region.center, "center")
        check_start(center)
        _positive(region.radius, "radius")
        R = spread(problem)
        e = _floor_around(problem, center, R * region.radius)
        at_center = float(np.linalg.eigvalsh(np.asarray(problem.hessian(center), np.float64))[0])
        if gamma and not e > 0:
            return -math.inf
        local = at_center - R**3 * third_derivative_bound(problem.b, gamma, e) * region.radius
        return max(local, _modulus(problem, lower, gamma, e, bound))
    if isinstance(region, Sublevel):
        value = float(region.value)
        e = loss_floor(problem, value)
        lower = float(lower_curvature_on_sublevel(lower, value))
    else:
        e = float(region.ell_1)
        _positive(e, "the floor of ell_1")
    return _modulus(problem, lower, gamma, e, bound)


def is_strongly_convex(problem: SoftmaxRegression, region: Region) -> bool:
    """Whether `strong_convexity` is positive: the Hessian is proved positive definite there."""
    return strong_convexity(problem, region) > 0


def _modulus(
    problem: SoftmaxRegression, lower: float, gamma: float, e: float, bound: CurvatureRange
) -> float:
    negative = negative_curvature(lower, bound.upper, gamma, e if gamma else 1.0)
    return smallest_gram_eigenvalue(problem.A, np.asarray(problem.w, np.float64) ** 2 - negative)


def _floor_around(problem: SoftmaxRegression, x: ArrayLike, change: float) -> float:
    """Lower bound of ell_1 where the logits are those at x up to a change of at most this spread.

    ``||f_1(x) - f_1(y)||_2 <= change / sqrt(8)``, and sqrt(ell_1) changes by no more than that.
    """
    if not isinstance(problem, CopyrightRegression):
        return 0.0
    return max(math.sqrt(float(problem.ell_1(x))) - change / math.sqrt(8), 0.0) ** 2


def loss_floor(problem: SoftmaxRegression, value: float) -> float:
    """Largest proved e with ``ell_1 >= e`` wherever ``L <= value``; 0 if gamma is 0.

    ``2 gamma / (value + sqrt(value^2 - 2 gamma))`` (joint) or ``gamma / value`` (block), from
    docs/theory/level-set.md.

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
    gamma = float(problem.gamma)
    least = math.sqrt(2 * gamma) if problem.reading == "joint" else 0.0
    if not (least <= value < math.inf and value > 0):
        raise InputError(f"no x has L <= {value}: L is at least {least:.6g}; give a reached value")
    return loss_floor_formula(problem.reading, gamma, value)


def loss_floor_formula(reading: Reading, gamma: Any, value: Any) -> Any:
    """The formula of `loss_floor`; numbers and JAX arrays alike."""
    if reading == "block":
        return gamma / value
    least = (2 * gamma) ** 0.5
    return 2 * gamma / (value + ((value - least) * (value + least)) ** 0.5)


def lower_curvature_on_sublevel(lower: Any, value: Any) -> Any:
    """Curvature of ``phi_1`` from below where ``L <= value``, where ``|c_i| <= sqrt(2 value)``.

    Numbers and JAX arrays alike.
    """
    return jnp.maximum(lower, -MAX_SECOND_DERIVATIVE * (2 * value) ** 0.5)


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
        obey ``r' <= M r^2 / (2 (modulus - M r))``.
    printed_log_radius : float
        Logarithm of the radius ``0.1 l / (n^1.5 exp(60 R^2))`` of Theorem 15 with l = modulus.
    """

    radius: float
    minimizer_within: float
    modulus: float
    lipschitz: float
    printed_log_radius: float


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
        x has the wrong shape or is not finite.

    Notes
    -----
    Proof: docs/theory/constants.md. Cost O(n d^2 + d^3).

    Examples
    --------
    >>> import numpy as np
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression(np.eye(4, dtype="f4"), [0.4, 0.3, 0.2, 0.1], 2, gamma=0.1)
    >>> region = newton_region(problem, cr.solve(problem).x)
    >>> region.radius > 1e-4, region.printed_log_radius < -6000
    (True, True)
    """
    x = problem.point(x)
    check_start(x)
    gamma, R = float(problem.gamma), spread(problem)
    _, norm = extreme_singular_values(problem.A)
    H = np.asarray(problem.hessian(x), np.float64)
    if not np.isfinite(H).all():
        raise InputError("L has no finite Hessian at x; give a point off the barrier")
    mu = float(np.linalg.eigvalsh(H)[0])
    gradient = float(np.linalg.norm(np.asarray(problem.gradient(x), np.float64)))
    best = NewtonRegion(0.0, math.inf, mu, math.inf, -math.inf)
    # Any rho gives a valid region. With gamma there is no bound of ell_1 beyond the last one;
    # without, M does not depend on rho, and no radius exceeds mu / M.
    furthest = math.sqrt(8 * _floor_around(problem, x, 0.0)) / max(R, 1e-300)
    if not gamma:
        furthest = max(mu, 0.0) / max(R**3 * third_derivative_bound(problem.b, 0.0, 0.0), 1e-300)
    for rho in (furthest * np.geomspace(1e-6, 1, 600)[:-1]).tolist():
        M = R**3 * third_derivative_bound(problem.b, gamma, _floor_around(problem, x, R * rho))
        if mu <= 0 or mu**2 < 2 * M * gradient:
            continue
        delta = 2 * gradient / (mu + math.sqrt(mu**2 - 2 * M * gradient))
        modulus = mu - M * delta
        radius = min(2 * modulus / (3 * M), rho - delta) - delta if M > 0 else rho - 2 * delta
        if radius > best.radius:
            best = NewtonRegion(radius, delta, modulus, M, -math.inf)
    if best.radius > 0:
        radius = max(10.0, norm, float(np.linalg.norm(np.asarray(x, np.float64))))
        log_M = 1.5 * math.log(problem.n) + 60 * radius**2
        best = best._replace(printed_log_radius=math.log(0.1 * best.modulus) - log_M)
    return best


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
    with check.ARITHMETIC:
        return check.level_set_tau(problem.n, problem.n1, gamma, problem.reading, value, 128)


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
    ``tau = (t + gamma/t - value) / (1 - share)`` at ``t = clip(sqrt(gamma), t-, t+)``, the roots
    of ``share t^2 - value t + gamma``. Proof: docs/theory/level-set.md. Cost O(1).

    Examples
    --------
    >>> round(cross_entropy_level_set_tau(gamma=gamma_for(3.0, 0.1), share=0.1, value=2.0), 4)
    -0.114
    """
    _positive(gamma, "gamma")
    _share(share)
    _positive(value, "value")
    with check.ARITHMETIC, ctx.workprec(128):
        exact_gamma, p, L = arb(gamma), arb(share), arb(value)
        root = L * L - 4 * p * exact_gamma
        if not root >= 0:
            least = 2 * math.sqrt(share * gamma)
            raise InputError(f"no losses give {value}: the total is at least {least:.6g}")
        high = (L + root.sqrt()) / (2 * p)
        low = exact_gamma / (p * high)
        # The formula at t = sqrt(gamma) bounds all t, so it is left on a *proved* comparison only.
        t = exact_gamma.sqrt()
        if t > high:
            t = high
        elif t < low:
            t = low
        return check.lower((t + exact_gamma / t - L) / (1 - p))


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
    return share * target_protected_loss**2


def _hypothesis(holds: bool, found: str, lemma: str, hypothesis: str) -> None:
    if not holds:
        raise InputError(f"{found}, but Lemma {lemma} supposes {hypothesis}")


def _positive(number: float, name: str) -> None:
    if not 0 < number < math.inf:
        raise InputError(f"{name} is {number}; give a finite number > 0")


def _share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"share is {share}; give the protected part of the tokens, in (0, 1)")
