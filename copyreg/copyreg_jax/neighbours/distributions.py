"""Distributions as arrays of natural log-probabilities over the last axis, in NumPy or JAX.

NumPy arrays are computed with in their own dtype on the host, whatever JAX is set to.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from copyreg_jax._tracing import is_concrete
from copyreg_jax.errors import InputError

__all__ = [
    "MASS_ATOL",
    "check_distributions",
    "delta_kl",
    "delta_max",
    "finite_or_zero",
    "log_arrays",
    "log_sum",
    "normalized",
]

MASS_ATOL = 1e-5
"""How far the probabilities of a distribution may add up from 1.

A float32 log-softmax over V outcomes has errors of ``u |log p|`` in each entry, so u H(p) <= u ln V
in the sum, and of (ln V + log2 V + 2) u in its normalizer: 3e-6 for u = 2^-24 and V = 2^18.
"""


def delta_max(log_p: ArrayLike, log_safe: ArrayLike) -> Any:
    """Largest ``log2 p(y)/safe(y)`` over the outcomes with p(y) > 0, in bits.

    Parameters
    ----------
    log_p, log_safe : (..., outcomes) arrays
        Log-probabilities; they are broadcast.

    Returns
    -------
    (...) array
        It is ``inf`` where p gives mass to an outcome that safe excludes, and never negative for
        distributions.

    Examples
    --------
    >>> float(delta_max(np.log([0.5, 0.5]), np.log([0.25, 0.75])))
    1.0
    """
    xp, ratio, _ = _ratio(log_p, log_safe)
    return xp.max(ratio, axis=-1) / math.log(2)


def delta_kl(log_p: ArrayLike, log_safe: ArrayLike) -> Any:
    """Kullback-Leibler divergence ``sum_y p(y) log2 p(y)/safe(y)``, in bits.

    Parameters and values are as those of `delta_max`.

    Examples
    --------
    >>> round(float(delta_kl(np.log([0.5, 0.5]), np.log([0.25, 0.75]))), 6)
    0.207519
    """
    xp, ratio, p = _ratio(log_p, log_safe)
    terms = xp.where(p > 0, p * xp.where(p > 0, ratio, 0.0), 0.0)
    # An outcome may have so little mass that p is 0 here, and none at all in safe.
    total = xp.where(xp.max(ratio, axis=-1) == np.inf, np.inf, xp.sum(terms, axis=-1))
    return total / math.log(2)


def check_distributions(log_p: np.ndarray, what: str = "log_p") -> None:
    """Refuse rows, over the last axis, that are no log-probabilities.

    Raises
    ------
    InputError
        NaN, a positive entry, or a row whose probabilities do not add up to 1 within `MASS_ATOL`.
        The message names the place.
    """
    wrong = np.argwhere(~(log_p <= MASS_ATOL))
    if wrong.size:
        place = tuple(wrong[0].tolist())
        raise InputError(
            f"{what} has {log_p[place]} at {place}; log-probabilities are at most 0; "
            "take the natural logarithm of probabilities"
        )
    mass = np.exp(log_p.astype(np.float64)).sum(axis=-1)
    wrong = np.argwhere(np.abs(mass - 1) > MASS_ATOL)
    if wrong.size:
        place = tuple(wrong[0].tolist())
        raise InputError(
            f"the probabilities of {what} at {place} add up to {mass[place]:.9g}; they must add "
            f"up to 1 within {MASS_ATOL:g}, so normalize the row"
        )


def log_sum(a: Any) -> Any:
    """Log of the sum of exponentials over the last axis; ``-inf`` where all entries are."""
    xp = jnp if isinstance(a, jax.Array) else np
    top = finite_or_zero(xp, xp.max(a, axis=-1))
    total = xp.sum(xp.exp(a - top[..., None]), axis=-1)
    return xp.where(total > 0, xp.log(xp.where(total > 0, total, 1.0)) + top, -np.inf)


def finite_or_zero(xp: Any, a: Any) -> Any:
    """Entries, and 0 instead of ``-inf``, so that they can be subtracted."""
    return xp.where(a > -np.inf, a, 0.0)


def log_arrays(*arrays: ArrayLike) -> tuple[Any, ...]:
    """NumPy, or JAX if one of the arrays is of JAX, and the arrays as its own, of one dtype.

    The dtype is the widest of theirs, up to float64, so no number is rounded.

    Raises
    ------
    InputError
        No floats, floats of more than 8 bytes, rows of different lengths, NaN or +inf; float64
        beside an array of JAX that is not set to 64 bits. What JAX traces is not looked into.
    """
    xp = jnp if any(isinstance(array, jax.Array) for array in arrays) else np
    try:
        # NumPy's own first: JAX would round wider floats without a word.
        found = [a if isinstance(a, jax.Array) else np.asarray(a) for a in arrays]
    except ValueError as error:
        raise InputError(f"the numbers make no array: {error}") from None
    for array in found:
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize > 8:
            raise InputError(
                f"there are numbers of type {array.dtype}; give logarithms as floats of 8 bytes "
                "at most"
            )
        if xp is jnp and jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise InputError(
                f"JAX would round numbers of type {array.dtype}; give all arrays as NumPy's, or "
                'call jax.config.update("jax_enable_x64", True)'
            )
    found = [xp.asarray(array) for array in found]
    dtype = functools.reduce(jnp.promote_types, (array.dtype for array in found))
    found = [array.astype(dtype) for array in found]
    for array in found:
        wrong = (xp.isnan(array) | (array == np.inf)).any()
        if is_concrete(wrong) and bool(wrong):
            raise InputError("there is NaN or +inf among the numbers; give logarithms")
    return xp, *found


def normalized(log_p: Any) -> Any:
    """Log-weights less the logs of their sums; `InputError` if a row has no weight."""
    total = log_sum(log_p)
    empty = (total == -np.inf).any()
    if is_concrete(empty) and bool(empty):
        raise InputError("a row of log_p gives no outcome any probability")
    return log_p - total[..., None]


def _ratio(log_p: ArrayLike, log_safe: ArrayLike) -> tuple[Any, Any, Any]:
    """NumPy or JAX; log p/safe, ``-inf`` where p has no mass; and p."""
    xp, p, safe = log_arrays(log_p, log_safe)
    some, excluded = p > -np.inf, safe == -np.inf
    ratio = finite_or_zero(xp, p) - finite_or_zero(xp, safe)
    return xp, xp.where(some, xp.where(excluded, np.inf, ratio), -np.inf), xp.exp(p)
