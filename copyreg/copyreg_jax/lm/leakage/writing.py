"""What a model writes after a prefix."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import NDArray

from copyreg_jax.lm.corpus.tokenizer import END_OF_TEXT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["decode", "write_greedily"]

_BATCH = 16
"""Prefixes at once: their caches and logits are the memory that this takes."""


def write_greedily(
    model: nnx.Module, prefixes: NDArray[np.int32], length: int
) -> NDArray[np.int32]:
    """Continue each prefix by ``length`` tokens, always the likeliest one.

    Parameters
    ----------
    model : GPT2 or Llama
        Or another causal nnx.Module with their methods ``empty_cache`` and ``extend``, which return
        logits of the next token.
    prefixes : (w, p) int32 array
    length : int

    Returns
    -------
    (w, length) int32 array

    Notes
    -----
    ``p + length`` tokens go through the model for each prefix: keys and values are kept.

    Examples
    --------
    >>> class Next(nnx.Module):  # after k it writes k + 1
    ...     def empty_cache(self, batch, room):
    ...         return ()
    ...     def extend(self, tokens, cache):
    ...         return jax.nn.one_hot(tokens[:, -1] + 1, 9), cache
    >>> write_greedily(Next(), np.array([[0, 1], [3, 4]], np.int32), length=3).tolist()
    [[2, 3, 4], [5, 6, 7]]
    """
    graph, params = nnx.split(model)
    written = []
    for start in range(0, len(prefixes), _BATCH):
        part = prefixes[start : start + _BATCH]
        # Filled up: one program for all parts.
        full = np.pad(part, ((0, _BATCH - len(part)), (0, 0)))
        written.append(np.asarray(_continue(graph, length, params, full))[: len(part)])
    return np.concatenate(written)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _continue(graph: Any, length: int, params: Any, prefixes: Array) -> Array:
    model = nnx.merge(graph, params)
    number, size = prefixes.shape

    def likeliest(logits: Array) -> Array:
        return jnp.argmax(logits.astype(jnp.float32), axis=-1).astype(prefixes.dtype)

    def write(carry: tuple[Array, Any], _: Any) -> tuple[tuple[Array, Any], Array]:
        token, cache = carry
        logits, longer = model.extend(token[:, None], cache)
        new = likeliest(logits)
        return (new, longer), new

    logits, cache = model.extend(prefixes, model.empty_cache(number, size + length - 1))
    first = likeliest(logits)
    _, rest = jax.lax.scan(write, (first, cache), length=length - 1)
    return jnp.concatenate([first[None], rest]).T


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of tokens, with NUL for end-of-text: spelled out, its letters would match others'."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    parts: list[list[int]] = [[]]
    for number in ids:
        if number == end:
            parts.append([])
        else:
            parts[-1].append(number)
    return "\0".join(tokenizer.decode(part, skip_special_tokens=False) for part in parts)
