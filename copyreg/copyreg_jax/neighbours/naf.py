"""Near access-freeness: models joined so that none of them alone can be copied from.

Log-probabilities are natural logarithms, in NumPy or JAX arrays whose last axis is over outcomes;
shards, models that saw disjoint data, are the axis before it or the first, as said. Divergences
and exponents k are in bits. A row is taken as log-weights and normalized. NumPy arrays are
computed with in their own dtype on the host, whatever JAX is set to. The proofs are in
docs/neighbours/naf.md.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.distributions import (
    MASS_ATOL,
    delta_kl,
    delta_max,
    finite_or_zero,
    log_arrays,
    log_sum,
    normalized,
)

__all__ = [
    "Joined",
    "Kind",
    "PathBound",
    "cp_delta",
    "cp_k",
    "cp_k_accepts",
    "delta_kl",
    "delta_max",
    "event_bound",
    "join",
    "path_bound",
    "prompt_bound",
    "smooth_cp_k",
]

Kind: TypeAlias = Literal["max", "kl"]
"""The divergence: the largest log-ratio of probabilities, or the mean one."""


class Joined(NamedTuple):
    """A distribution made from several, and how near it is to each of them.

    Attributes
    ----------
    log_p : (..., outcomes) array
        Log-probabilities of the distribution; NaN where there is none, as k is infinite.
    k_bits : (...) array
        An exponent that no divergence to a safe distribution exceeds; ``inf`` where no outcome is
        left with positive probability.
    """

    log_p: Any
    k_bits: Any


class PathBound(NamedTuple):
    """The exponent of a whole text, and its length: a rate for each token says nothing of texts.

    Attributes
    ----------
    k_bits : (...) array
    length : int
    """

    k_bits: Any
    length: int


def cp_delta(log_p: ArrayLike, kind: Kind = "max") -> Joined:
    """CP-Delta: the distribution nearest to all of m shards, and the exponent k that it has.

    Parameters
    ----------
    log_p : (m, ..., outcomes) array
        Log-probabilities of m >= 2 shards.
    kind : {"max", "kl"}
        "max": ``p = min_i q_i / Z``, with ``k = log2 1/Z``. "kl": the geometric mean divided by Z,
        with ``k = m log2 1/Z``, which is the *sum* of the divergences to all shards.

    Returns
    -------
    Joined
        ``delta_max(p, q_i) <= k_bits`` or ``delta_kl(p, q_i) <= k_bits`` for every shard i. It is
        rounded up by a bound of its rounding errors. Where no outcome has positive probability in
        all shards, k is ``inf`` and p is NaN.

    Raises
    ------
    InputError
        Fewer than two shards; NaN or +inf; a row without any mass; an unknown kind.

    References
    ----------
    Vyas, Kakade and Barak, On provable copyright protection for generative models, 2023.

    Examples
    --------
    >>> q = np.log([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]], where=[[1, 1, 0], [1, 0, 1]],
    ...            out=np.full((2, 3), -np.inf))
    >>> p, k = cp_delta(q)
    >>> p.round(12), round(float(k), 12)
    (array([  0., -inf, -inf]), 1.0)
    """
    xp, weights = log_arrays(log_p)
    if weights.ndim < 2 or weights.shape[0] < 2 or weights.shape[-1] < 1:
        raise InputError(
            f"log_p has shape {weights.shape}; give (m, ..., outcomes) with m >= 2 shards"
        )
    rows = normalized(weights)
    joined, k_bits = join(rows, kind)
    m = 2 if kind == "max" else len(rows)
    size = _size(xp, weights, (0, -1)) + _size(xp, rows, (0, -1))
    return Joined(joined, k_bits + m * _room(rows, (4 + m) * size))


def join(rows: Any, kind: Kind) -> Joined:
    """`cp_delta` of rows that are normalized, without room for rounding; for jitted loops."""
    _check_kind(kind)
    m = len(rows)
    joined = rows.min(axis=0) if kind == "max" else rows.sum(axis=0) / m
    return _divided(joined, 0.0, 1 if kind == "max" else m)


def cp_k_accepts(log_p: ArrayLike, log_safe: ArrayLike, k: float) -> Any:
    """Whether CP-k keeps a sample of p: ``p(y) <= 2^k q_i(y)`` for every safe model i.

    Parameters
    ----------
    log_p : (...) array
        Log-probabilities of outcomes, for instance the sums over whole texts.
    log_safe : (m, ...) array
        Log-probabilities of the same outcomes under m >= 1 safe models.
    k : float
        Bits, at least 0.

    Returns
    -------
    (...) bool array
        An outcome without mass in p counts as kept.

    Examples
    --------
    >>> cp_k_accepts(np.array([-1.0, -1.0]), np.array([[-1.5, -4.0]]), k=1.0)
    array([ True, False])
    """
    _, p, safe = log_arrays(log_p, log_safe)
    _check_k(k)
    return (p[None] <= safe + k * math.log(2)).all(axis=0)


def cp_k(log_p: ArrayLike, log_safe: ArrayLike, k: float) -> Joined:
    """CP-k: samples of p that are redrawn until each safe model makes them likely enough.

    Parameters
    ----------
    log_p : (..., outcomes) array
        The model.
    log_safe : (m, ..., outcomes) array
        m >= 1 safe models.
    k : float
        Bits, at least 0.

    Returns
    -------
    Joined
        The distribution of the samples that are kept, with ``k_bits = k + log2 1/nu``, where nu is
        the share of samples that are kept. So 1/nu is the mean number of draws. Where none is ever
        kept, k is ``inf`` and p is NaN.

    Examples
    --------
    >>> found = cp_k(np.log([0.5, 0.25, 0.25]), np.log([[0.1, 0.45, 0.45]]), k=0.0)
    >>> found.log_p.round(3), round(float(found.k_bits), 12)
    (array([  -inf, -0.693, -0.693]), 1.0)
    """
    xp, p, safe, room = _model_and_safe(log_p, log_safe, k)
    found = _divided(xp.where(cp_k_accepts(p, safe, k), p, -np.inf), k)
    return found._replace(k_bits=found.k_bits + room)


def smooth_cp_k(log_p: ArrayLike, log_safe: ArrayLike, k: float) -> Joined:
    """Smooth CP-k: ``min(p, 2^k min_i q_i) / Z``, which cuts mass off instead of redrawing.

    Parameters are those of `cp_k`; ``k_bits = k + log2 1/Z``. The total variation distance to p is
    1 - Z at most, and Z is at least the share of samples that `cp_k` keeps.

    Examples
    --------
    >>> found = smooth_cp_k(np.log([0.5, 0.25, 0.25]), np.log([[0.1, 0.45, 0.45]]), k=0.0)
    >>> np.exp(found.log_p).round(3), round(float(found.k_bits), 3)
    (array([0.167, 0.417, 0.417]), 0.737)
    """
    xp, p, safe, room = _model_and_safe(log_p, log_safe, k)
    found = _divided(xp.minimum(p, safe.min(axis=0) + k * math.log(2)), k)
    return found._replace(k_bits=found.k_bits + room)


def path_bound(k_bits: ArrayLike) -> PathBound:
    """Exponents of the tokens of texts, (..., T), added up by the chain rule, rounded up.

    For "max" the sum bounds ``log2 p(y)/q_i(y)`` of this text y. For "kl" it is one sample of
    what `prompt_bound` takes the mean of.

    Examples
    --------
    >>> k, length = path_bound(np.array([0.5, 0.25]))
    >>> round(float(k), 12), length
    (0.75, 2)
    """
    xp = jnp if isinstance(k_bits, jax.Array) else np
    array = _exponents(xp, k_bits)
    if array.ndim < 1:
        raise InputError("k_bits is one number; give those of the tokens, (..., T)")
    length = array.shape[-1]
    total = array.sum(axis=-1)
    if length < 2:
        return PathBound(total, length)
    # The sum has T - 1 roundings, and one more with this room: each is eps/2 relative.
    room = xp.abs(array).sum(axis=-1) * xp.asarray(length * _eps(array), array.dtype)
    return PathBound(total + room, length)


def prompt_bound(k_bits: ArrayLike, log_p: ArrayLike, kind: Kind = "max") -> PathBound:
    """The exponent of a prompt, from *all* texts that can follow it.

    Parameters
    ----------
    k_bits : (texts, T) array
        Exponents of the tokens of each text, in the context of the tokens before.
    log_p : (texts,) array
        Log-probabilities of the texts under the joined model, which add up to 1.
    kind : {"max", "kl"}
        "max": the largest sum over a text with positive probability. "kl": the mean sum, rounded
        to nearest, and ``inf`` if a text with positive probability has an infinite one.

    Raises
    ------
    InputError
        The texts are not all there, up to 1e-5 of their probability: a sample of texts bounds
        nothing. Also an unknown kind.

    Notes
    -----
    "max" is proved only for the texts given: one that is missing may have a larger exponent,
    however small its probability is.

    Examples
    --------
    >>> k, length = prompt_bound([[0.5, 0.25], [0.5, 1.0]], np.log([0.5, 0.5]))
    >>> round(k, 12), length
    (1.5, 2)
    """
    _check_kind(kind)
    sums, length = path_bound(np.asarray(k_bits, np.float64))
    log_weights = np.asarray(log_p, np.float64)
    weights = np.exp(log_weights)
    if sums.ndim != 1 or weights.shape != sums.shape:
        raise InputError(
            f"log_p has shape {weights.shape}, and there are {sums.shape} texts; give one for each"
        )
    if not abs(weights.sum() - 1) <= MASS_ATOL:
        raise InputError(
            f"the texts have probability {weights.sum():.9g} together; give all that can follow"
        )
    some = log_weights > -np.inf  # exp of it may be 0
    largest = sums[some].max()
    if kind == "max" or largest == np.inf:
        return PathBound(float(largest), length)
    return PathBound(float(weights[some] @ sums[some] / weights.sum()), length)


def event_bound(log_safe: ArrayLike, k_bits: ArrayLike, kind: Kind = "max") -> Any:
    """Bound the probability of an event under p by that under a safe model, in logarithms.

    Parameters
    ----------
    log_safe : (...) array
        log safe(E).
    k_bits : (...) array
        An exponent of p against this safe model.
    kind : {"max", "kl"}
        "max": ``p(E) <= 2^k safe(E)``. "kl": ``p(E) <= (k + 1) / log2(1/safe(E))``, which holds
        without any assumption, and is weak: it falls like 1/length.

    Returns
    -------
    (...) array
        A bound of log p(E), at most 0, rounded up by a bound of its rounding errors.

    Examples
    --------
    >>> round(float(np.exp(event_bound(np.log(1e-9), 10.0))), 12)
    1.024e-06
    >>> round(float(np.exp(event_bound(np.log(1e-9), 10.0, "kl"))), 4)
    0.3679
    """
    _check_kind(kind)
    xp, safe = log_arrays(log_safe)
    k = _exponents(xp, k_bits)
    dtype = jnp.promote_types(safe.dtype, k.dtype)
    safe, k, eps = safe.astype(dtype), k.astype(dtype), float(jnp.finfo(dtype).eps)
    finite_k = xp.where(k < np.inf, k, 0.0)
    if kind == "max":
        # Infinite k against an event without mass: nothing is known.
        bound = safe + finite_k * math.log(2)
        # At most five roundings of k log 2 < 0.7 k, and two of safe: each is eps/2 relative.
        room = 2 * (xp.abs(finite_or_zero(xp, safe)) + finite_k) * eps
        return xp.where(k < np.inf, xp.minimum(bound + room, 0.0), 0.0)
    known = (safe < 0) & (k < np.inf)
    logs = xp.log(finite_k + 1), xp.log(xp.where(safe < 0, -safe, 1.0) / math.log(2))
    # The arguments have two roundings each, and a logarithm is right within two ulps.
    room = 4 * (1 + xp.abs(logs[0]) + xp.abs(finite_or_zero(xp, -logs[1]))) * eps
    return xp.where(known, xp.minimum(logs[0] - logs[1] + room, 0.0), 0.0)


def _model_and_safe(log_p: ArrayLike, log_safe: ArrayLike, k: float) -> tuple[Any, ...]:
    """NumPy or JAX, the normalized rows, and the room for rounding that k_bits needs."""
    xp, weights, safe_weights = log_arrays(log_p, log_safe)
    _check_k(k)
    if safe_weights.shape[1:] != weights.shape or not weights.ndim or not len(safe_weights):
        raise InputError(
            f"log_p has shape {weights.shape} and log_safe {safe_weights.shape}; give "
            "(..., outcomes) and (m, ..., outcomes)"
        )
    if not weights.shape[-1]:
        raise InputError(f"log_p has shape {weights.shape}; give at least one outcome")
    p, safe = normalized(weights), normalized(safe_weights)
    size = k + sum(_size(xp, a, -1) for a in (weights, p))
    size = size + sum(_size(xp, a, (0, -1)) for a in (safe_weights, safe))
    return xp, p, safe, 2 * _room(p, 6 * size)


def _size(xp: Any, a: Any, axes: Any) -> Any:
    """Largest finite entry, in absolute value."""
    return xp.max(xp.abs(xp.where(a > -np.inf, a, 0.0)), axis=axes)


def _exponents(xp: Any, k_bits: ArrayLike) -> Any:
    """Exponents in bits as floats of 8 bytes at most, of their own dtype; integers are allowed."""
    k = k_bits if isinstance(k_bits, jax.Array) else np.asarray(k_bits)
    if not jnp.issubdtype(k.dtype, jnp.floating):
        k = k.astype(float)
    if k.dtype.itemsize > 8:
        raise InputError(f"k_bits has type {k.dtype}; give floats of 8 bytes at most")
    return xp.asarray(k)


def _eps(a: Any) -> float:
    return float(jnp.finfo(a.dtype).eps)


def _room(rows: Any, size: Any) -> Any:
    """A bound of the rounding errors of k, in nats; derived in docs/neighbours/naf.md."""
    return (3 * rows.shape[-1] + 12 + size) * _eps(rows)


def _divided(log_weights: Any, k: float, factor: int = 1) -> Joined:
    """Weights divided by their sum Z, and ``k + factor log2 1/Z``; no weight sum is above 1."""
    xp, log_z = jnp if isinstance(log_weights, jax.Array) else np, log_sum(log_weights)
    left = log_z[..., None] > -np.inf
    p = xp.where(left, log_weights - finite_or_zero(xp, log_z)[..., None], np.nan)
    return Joined(p, k + xp.maximum(-log_z, 0.0) * (factor / math.log(2)))


def _check_kind(kind: str) -> None:
    if kind not in ("max", "kl"):
        raise InputError(f'kind is {kind!r:.40}; give "max" or "kl"')


def _check_k(k: float) -> None:
    if not 0 <= k < math.inf:
        raise InputError(f"k is {k}; give a number of bits, at least 0")
