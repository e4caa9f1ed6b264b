r"""Computer-assisted proofs of the constants of `copyreg_jax.theory.constants`.

docs/theory/constants.md bounds the curvature of ``phi_t(u) = 0.5 sum_i t_i (f_i - b_i)^2``, for
every n, every mask t and every b, by the supremum of one function of five variables. Here that
supremum is bounded by branch and bound: boxes on which an upper bound of the function stays below
the constant are dropped, the others are halved, until none is left.

Floating point is enough. The boxes are halves of halves of the unit cube, so their corners and the
differences ``1 - x - z``, ``1 - 2 y`` of corners are exact. So under each root stands a sum of
non-negative products of exact numbers, with a relative error of a few ``2**-53``; a bound is a sum
of at most twenty terms, each a product of at most six factors below 4, and its absolute error is
far below ``_ROUNDING``, which is added to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["EXTREMES", "Extreme", "num_boxes"]

_ROUNDING = 1e-10


class Extreme(NamedTuple):
    """A function on a box, and a constant that is claimed to be above it.

    Attributes
    ----------
    constant : float
        The claim.
    upper : callable
        (k, m) arrays low and high -> (m,) upper bounds of the function on m boxes.
    boxes : tuple
        Boxes to start with: their low and their high corners, exact in few bits.
    """

    constant: float
    upper: Callable[[np.ndarray, np.ndarray], np.ndarray]
    boxes: tuple[Any, Any]


def num_boxes(extreme: Extreme, *, max_boxes: int = 20_000_000) -> int | None:
    """Prove that the function stays below its constant; None if that took too many boxes.

    Parameters
    ----------
    extreme : Extreme
        One of `EXTREMES`.
    max_boxes : int
        When to give up; a million boxes take about half a second.

    Returns
    -------
    int or None
        How many boxes the proof needed.

    Examples
    --------
    >>> claim = EXTREMES["third derivative of a set's mass"]
    >>> num_boxes(claim) < 20_000
    True
    >>> num_boxes(claim._replace(constant=0.1249), max_boxes=200_000) is None
    True
    """
    low, high = (np.array(corner, float) for corner in extreme.boxes)
    count = 0
    while low.shape[1]:
        count += low.shape[1]
        if count > max_boxes:
            return None
        is_open = ~(extreme.upper(low, high) + _ROUNDING <= extreme.constant)
        low, high = low[:, is_open], high[:, is_open]
        widest, each = np.argmax(high - low, axis=0), np.arange(low.shape[1])
        middle = 0.5 * (low[widest, each] + high[widest, each])
        left, right = high.copy(), low.copy()
        left[widest, each], right[widest, each] = middle, middle
        low, high = np.concatenate([low, right], axis=1), np.concatenate([left, high], axis=1)
    return count


def _p(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range of the concave ``p(y) = y (2 - 3 y)``."""
    ends = low * (2 - 3 * low), high * (2 - 3 * high)
    peak = (low <= 1 / 3) & (high >= 1 / 3)
    return np.minimum(*ends), np.where(peak, 1 / 3, np.maximum(*ends))


def _q(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Largest value of the convex ``q(y) = (1 - 2 y)^2``."""
    return np.maximum((1 - 2 * low) ** 2, (1 - 2 * high) ** 2)


def _row_sum(low: np.ndarray, high: np.ndarray, *, is_lower: bool, in_ball: bool) -> np.ndarray:
    """Bound ``2 x z (+-(tau p(x) + alpha p(z) - 3 h) + N)`` over boxes (tau, x, z, alpha, eta).

    ``h = eta (1 - x - z)^2``, and N is the largest value of a linear form over the targets b::

        ball:            sqrt(tau q(x) + alpha q(z) + 4 h)
        simplex, upper:  max(0, tau (2x - 1), sqrt(alpha) (2z - 1), 2 sqrt(h))
        simplex, lower:  max(0, tau (1 - 2x), sqrt(alpha) (1 - 2z))
    """
    (tau, x, z, alpha, eta), (_, x_, z_, alpha_, eta_) = low, high
    h = eta * np.maximum(1 - x_ - z_, 0) ** 2
    h_ = eta_ * np.maximum(1 - x - z, 0) ** 2
    p_x, p_z = _p(x, x_), _p(z, z_)
    if is_lower:
        base = 3 * h_ - tau * p_x[0] + np.maximum(-alpha * p_z[0], -alpha_ * p_z[0])
    else:
        base = -3 * h + tau * p_x[1] + np.maximum(alpha * p_z[1], alpha_ * p_z[1])
    if in_ball:
        form = np.sqrt(tau * _q(x, x_) + alpha_ * _q(z, z_) + 4 * h_)
    elif is_lower:
        form = np.maximum(tau * (1 - 2 * x), np.sqrt(alpha_) * (1 - 2 * z))
    else:
        form = np.maximum(tau * (2 * x_ - 1), np.sqrt(alpha_) * (2 * z_ - 1))
        form = np.maximum(form, 2 * np.sqrt(h_))
    product = np.minimum(x_ * np.minimum(z_, 1 - x), z_ * np.minimum(x_, 1 - z))
    bound = 2 * product * np.maximum(base + np.maximum(form, 0), 0)
    return np.where(x + z <= 1, bound, 0)


def _set_mass(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Bound the third derivative of the mass g of a set over boxes (a, y, D), D = delta (1 - y).

    ``s (|1 - 6s| D^3 + 3 a D max(V, U) + k(V, y + D) + k(U, y))`` with ``s = g (1 - g)``,
    ``a = |1 - 2g|``, ``V = (y + D)(1 - y - D)``, ``U = y (1 - y)``, ``k(v, m) = v max(m, 1 - m)``.
    """
    (a, y, delta), (a_, y_, delta_) = low, high
    D_ = np.minimum(delta_ * (1 - y), 1)
    top, top_ = y + delta * (1 - y), y_ + delta_ * (1 - y_)
    variance = np.maximum(_variance(top, top_), _variance(y, y_))
    third = _variance(top, top_) * np.maximum(top_, 1 - top)
    third = third + _variance(y, y_) * np.maximum(y_, 1 - y)
    cubic = np.maximum(np.abs(3 * a**2 - 1), np.abs(3 * a_**2 - 1)) / 2
    return (1 - a**2) / 4 * (cubic * D_**3 + 3 * a_ * D_ * variance + third)


def _variance(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Largest value of the concave ``m (1 - m)``."""
    peak = (low <= 0.5) & (high >= 0.5)
    return np.where(peak, 0.25, np.maximum(low * (1 - low), high * (1 - high)))


_TAU_IS_0_OR_1 = (
    np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]).T,
    np.array([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]).T,
)


def _curvature(constant: float, *, is_lower: bool, in_ball: bool) -> Extreme:
    def upper(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return _row_sum(low, high, is_lower=is_lower, in_ball=in_ball)

    return Extreme(constant, upper, _TAU_IS_0_OR_1)


EXTREMES = {
    "lower curvature, b on the simplex": _curvature(0.242, is_lower=True, in_ball=False),
    "upper curvature, b on the simplex": _curvature(0.310, is_lower=False, in_ball=False),
    "lower curvature, |b| <= 1": _curvature(0.315, is_lower=True, in_ball=True),
    "upper curvature, |b| <= 1": _curvature(0.361, is_lower=False, in_ball=True),
    "third derivative of a set's mass": Extreme(
        0.1251, _set_mass, (np.zeros((3, 1)), np.ones((3, 1)))
    ),
}
"""The constants that are proved by branch and bound; their numerical suprema are 0.24041,
0.30812, 0.3125, 0.35912 and 1/8."""
