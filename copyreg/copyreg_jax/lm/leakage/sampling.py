"""How many samples of a model it takes until one of them is a given text."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from copyreg_jax.errors import InputError

__all__ = ["PROBABILITY", "SAMPLES", "Samples", "discoverable", "samples_needed"]

SAMPLES, PROBABILITY = 100, 0.5
"""A suffix counts as discoverable if this many samples contain it with this probability."""


class Samples(NamedTuple):
    """Numbers of samples that are needed, rounded up, and their logarithms.

    Attributes
    ----------
    number : (...) float64 array
        Whole numbers; ``inf`` where no number is enough or it is above 1.8e308.
    log10 : (...) float64 array
        Their logarithms; ``inf`` only where no number of samples is enough.
    """

    number: NDArray[np.float64]
    log10: NDArray[np.float64]


def samples_needed(log_p: ArrayLike, p: float = PROBABILITY) -> Samples:
    """Find the smallest n so that n samples contain a suffix with probability at least p.

    Parameters
    ----------
    log_p : array
        log of the probability p_z of the suffix in one sample; <= 0, may be ``-inf``.
    p : float
        Wanted probability, in (0, 1).

    Returns
    -------
    Samples
        ``n >= log(1 - p) / log(1 - p_z)``, rounded up. For p_z of any size no digits are lost,
        though a quotient next to a whole number may be rounded to either side.

    Raises
    ------
    InputError
        A log_p is NaN or above 0, or p is not in (0, 1).

    References
    ----------
    Hayes et al., Measuring memorization in language models via probabilistic extraction, 2025.

    Examples
    --------
    >>> samples_needed([math.log(0.01), 0.0]).number
    array([69.,  1.])
    >>> samples_needed(-2000.0).log10.round(2)
    np.float64(868.43)
    """
    log_p = _log_probability(log_p, p)
    with np.errstate(all="ignore"):  # infinities and numbers too small are what they should be
        number = np.maximum(np.ceil(np.log1p(-p) / _log_miss(log_p)), 1.0)
        # Where p_z, or the quotient, is out of range: -log(1 - p_z) is p_z there.
        tail = (np.log(-np.log1p(-p)) - log_p) / math.log(10)
        log10 = np.where(np.isfinite(number), np.log10(number), tail)
    return Samples(number, log10)


def discoverable(log_p: ArrayLike, n: float, p: float = PROBABILITY) -> NDArray[np.bool_]:
    """Whether n samples contain a suffix with probability p or more, 1 - (1 - p_z)^n >= p.

    Parameters
    ----------
    log_p : array
        log of p_z; <= 0, may be ``-inf``.
    n : float
        Number of samples, at least 1.
    p : float
        Wanted probability, in (0, 1).

    Raises
    ------
    InputError
        A number is out of range.

    Examples
    --------
    >>> discoverable([math.log(0.01), math.log(0.001)], 100, 0.5)
    array([ True, False])
    """
    log_p = _log_probability(log_p, p)
    if not 1 <= n < math.inf:
        raise InputError(f"n is {n}; give a number of samples, at least 1")
    with np.errstate(all="ignore"):
        return np.asarray(n * _log_miss(log_p) <= np.log1p(-p))


def _log_miss(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(1 - p_z), by the formula that keeps its digits there."""
    with np.errstate(all="ignore"):  # both are computed everywhere; log_p = 0 gives -inf
        return np.where(log_p > -math.log(2), np.log(-np.expm1(log_p)), np.log1p(-np.exp(log_p)))


def _log_probability(log_p: ArrayLike, p: float) -> NDArray[np.float64]:
    checked = np.asarray(log_p, np.float64)
    if not (checked <= 0).all():
        raise InputError("log_p has NaN or numbers above 0; give logarithms of probabilities")
    if not 0 < p < 1:
        raise InputError(f"p is {p}; give a probability between 0 and 1")
    return checked
