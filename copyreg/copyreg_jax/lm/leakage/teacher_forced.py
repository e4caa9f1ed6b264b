"""What a model makes of true suffixes, token by token: probabilities and ranks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.leakage.near_verbatim import extraction_strength
from copyreg_jax.lm.models.layers import vocabulary_size

__all__ = ["Suffixes", "check_top_k", "read_suffixes"]

_LOGITS = 2**25
"""The most logits of one call of the model; 2^25 logits take 128 MiB."""


class Suffixes(NamedTuple):
    """What a model makes of the suffixes of w windows, given their true prefixes.

    Attributes
    ----------
    log_p : (w,) float64 array
        log of the probability p_z that a sample after the prefix is the suffix, at temperature 1.
    log_sample : (w,) float64 array
        The same for samples among the ``top_k`` likeliest tokens; ``-inf`` if one of the suffix is
        none of those.
    bits : (w,) float64 array
        ``sum_t log2 r_t``, where r_t is one more than the number of tokens with a larger logit than
        the true token t. A sampler that gives no token a larger probability than one with a larger
        logit, whatever its temperature, top-k, top-p or min-p, gives token t at most 1 / r_t, and
        so the suffix at most ``2^-bits``. Tied tokens are not counted, as top-k may drop them.
    matched : (w,) int64 array
        Number of true tokens before the first one that is not the only likeliest.
    right : (w,) int64 array
        Number of all true tokens that are the only likeliest.
    strength : (w,) float64 array
        Extraction strength, `near_verbatim.extraction_strength` of those.
    """

    log_p: NDArray[np.float64]
    log_sample: NDArray[np.float64]
    bits: NDArray[np.float64]
    matched: NDArray[np.int64]
    right: NDArray[np.int64]
    strength: NDArray[np.float64]

    @classmethod
    def empty(cls, number: int) -> Suffixes:
        """Room for so many windows, NaN where nothing is known yet."""

        def unknown() -> NDArray[np.float64]:
            return np.full(number, np.nan)

        none = np.zeros(number, np.int64)
        return cls(unknown(), unknown(), unknown(), none, none.copy(), unknown())


def read_suffixes(
    model: nnx.Module,
    windows: NDArray[np.int32],
    *,
    prefix: int,
    top_k: int | None = None,
    label: Callable[[int], str] = lambda number: f"window {number}",
    known: Suffixes | None = None,
    callback: Callable[[Suffixes, int], None] = lambda known, number: None,
) -> Suffixes:
    """Compute probabilities and ranks of suffixes after their prefixes.

    Parameters
    ----------
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits; causal.
    windows : (w, prefix + suffix) int32 array
    prefix : int
        Number of tokens of a window that the model is given.
    top_k : int, optional
        Take log_sample for samples among the k likeliest tokens. By default all tokens count.
    label : callable, optional
        What to call the window of a number in messages.
    known : Suffixes, optional
        What an earlier call has computed: windows whose log_p is no NaN are left out.
    callback : callable, optional
        Called after each batch with all that is known, and the number of windows done.

    Raises
    ------
    InputError
        prefix or top_k is out of range, or a logit is NaN or infinite upwards.

    Notes
    -----
    One forward pass for each window, some windows at once. Log-probabilities of tokens are float32,
    their sums float64.

    Examples
    --------
    >>> class Next(nnx.Module):  # the token after k is k + 1, most likely
    ...     def __call__(self, tokens):
    ...         return 3 * jax.nn.one_hot(tokens + 1, 4)
    >>> windows = np.array([[0, 1, 2, 3], [0, 1, 2, 0]], np.int32)
    >>> found = read_suffixes(Next(), windows, prefix=2)
    >>> found.log_p.round(3).tolist(), found.matched.tolist(), found.bits.tolist()
    ([-0.278, -3.278], [2, 1], [0.0, 1.0])
    """
    if not 1 <= prefix < windows.shape[1]:
        raise InputError(f"prefix is {prefix}; give a number from 1 to below {windows.shape[1]}")
    vocab_size = vocabulary_size(model)
    check_top_k(top_k, vocab_size)
    found = Suffixes.empty(len(windows)) if known is None else known
    batch = max(1, min(64, _LOGITS // (vocab_size * windows.shape[1])))
    graph, params = nnx.split(model)
    waiting = np.flatnonzero(np.isnan(found.log_p))
    for start in range(0, len(waiting), batch):
        chosen = waiting[start : start + batch]
        # Filled up: one program for all parts.
        full = np.pad(windows[chosen], ((0, batch - len(chosen)), (0, 0)))
        with jax.default_matmul_precision("float32"):  # not TF32, where products are float32
            parts = _read(graph, prefix, top_k, params, full)
        logs, sampled, larger, tied, sound = (np.asarray(part)[: len(chosen)] for part in parts)
        for number in chosen[~sound]:
            raise InputError(
                f"the model gives {label(int(number))} a probability of NaN; train it anew"
            )
        found.log_p[chosen] = logs.astype(np.float64).sum(axis=1)
        found.log_sample[chosen] = sampled.astype(np.float64).sum(axis=1)
        found.bits[chosen] = np.log2(1 + larger.astype(np.float64)).sum(axis=1)
        right = (larger == 0) & (tied == 1)
        found.matched[chosen] = np.cumprod(right, axis=1).sum(axis=1)
        found.right[chosen] = right.sum(axis=1)
        found.strength[chosen] = extraction_strength(right)
        callback(found, len(windows) - len(waiting) + start + len(chosen))
    return found


def check_top_k(top_k: int | None, vocab_size: int) -> None:
    """Refuse a top-k that is no number of tokens."""
    if top_k is not None and not 1 <= top_k <= vocab_size:
        raise InputError(f"top_k is {top_k}; give a number from 1 to {vocab_size}, or None")


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _read(
    graph: Any, prefix: int, top_k: int | None, params: Any, windows: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Log-probabilities, those of a sampler, and how many logits are larger or as large.

    And whether all of them are numbers.
    """
    logits = nnx.merge(graph, params)(windows[:, :-1])[:, prefix - 1 :].astype(jnp.float32)
    targets = windows[:, prefix:, None]
    own = jnp.take_along_axis(logits, targets, axis=-1)
    larger, tied = jnp.sum(logits > own, axis=-1), jnp.sum(logits == own, axis=-1)
    sound = (logits < jnp.inf).all(axis=(1, 2)) & (logits > -jnp.inf).any(axis=2).all(axis=1)
    logs = jnp.take_along_axis(jax.nn.log_softmax(logits), targets, axis=-1)[..., 0]
    if top_k is None:
        return logs, logs, larger, tied, sound
    values, tokens = jax.lax.top_k(logits, top_k)  # of equal ones those with the smaller number
    chosen = jnp.where(tokens == targets, jax.nn.log_softmax(values), -jnp.inf)
    return logs, jnp.max(chosen, axis=-1), larger, tied, sound
