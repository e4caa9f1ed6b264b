"""Bounds of exp(x) in float64; their error is proved in docs/theory/rounding.md."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["exp_bounds"]

_LOG2_E = float.fromhex("0x1.71547652b82fep+0")

# log 2 in two parts; the first has 33 bits, so that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")

_TAYLOR = [1 / math.factorial(k) for k in range(14)]

_EXP_ERROR = 2.0**-49


def exp_bounds(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of exp(x); NaN above 708.7, [0, 2^-1019] below -707.3.

    Parameters
    ----------
    x : array of float64

    Returns
    -------
    low, high : arrays of float64
        A factor of ``1 + 2^-48`` apart, about.

    Examples
    --------
    >>> low, high = exp_bounds(np.array([1.0, -800.0]))
    >>> bool(low[0] < np.e < high[0]), bool(high[0] - low[0] < 1e-14), low[1].item()
    (True, True, 0.0)
    """
    k = np.rint(np.clip(x, -1000, 1000) * _LOG2_E)
    r = (np.clip(x, -1000, 1000) - k * _LN2_HIGH) - k * _LN2_LOW
    p = np.full_like(r, _TAYLOR[-1])
    for coefficient in _TAYLOR[-2::-1]:
        p = p * r + coefficient
    scaled = np.ldexp(p, k.astype(np.int32))
    small, large = k < -1020, k > 1022
    low = np.where(small, 0.0, scaled * (1 - _EXP_ERROR))
    high = np.where(small, 2.0**-1019, scaled * (1 + _EXP_ERROR))
    unknown = large | np.isnan(x)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)
