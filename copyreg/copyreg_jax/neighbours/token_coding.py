"""Coding with a given language model, one token of each lane at a time.

Writer and reader call one compiled program with the same inputs, so they see the same bits. A
forward pass over whole rows would be faster for the writer, but its last bits differ. Everything
runs on the CPU: accelerators choose their algorithms anew in each process.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.byte_model import lane_starts
from copyreg_jax.neighbours.entropy_coder import SCALE, Coder

__all__ = ["code_tokens", "split_text", "to_tokens"]

_LANES, _LANE_TOKENS = 32, 256

_SHORTEST_TEXT = 256
"""Shorter text between bytes that are no text is coded as bytes."""

_FLOOR = 2.0**-40
"""Added to each probability, so that no bit is certain."""


def split_text(data: bytes) -> list[int]:
    r"""Lengths of the parts of data, which are by turns no UTF-8 text and UTF-8 text.

    Examples
    --------
    >>> split_text(b"short")
    [5]
    >>> split_text(b"\xff" + 300 * b"a" + b"\xff")
    [1, 300, 1]
    """
    lengths, end, place = [], 0, 0
    # Bytes that are no UTF-8 become lone surrogates, which no UTF-8 decodes to.
    text = data.decode("utf-8", "surrogateescape")
    for part in re.finditer("[^\udc80-\udcff]+|[\udc80-\udcff]+", text):
        size = len(part.group().encode("utf-8", "surrogateescape"))
        if size >= _SHORTEST_TEXT and not "\udc80" <= part.group()[0] <= "\udcff":
            lengths += [place - end, size]
            end = place + size
        place += size
    return [*lengths, place - end]


def to_tokens(tokenizer: Any, text: bytes) -> NDArray[np.int64] | None:
    """Tokens that spell a UTF-8 text byte by byte, or None if the tokenizer has none such."""
    from copyreg_jax.lm.corpus.tokenizer import bytes_of_tokens

    tokens = tokenizer.encode(text.decode(), add_special_tokens=False).ids
    spelling = bytes_of_tokens(tokenizer)
    same = b"".join(spelling.get(token, b"") for token in tokens) == text
    return np.array(tokens, np.int64) if same else None


def code_tokens(
    coder: Coder,
    model: Any,
    first: int,
    count: int,
    tokens: NDArray[np.int64] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> NDArray[np.int64]:
    """Write or read tokens with a language model that does not change.

    Parameters
    ----------
    coder : entropy_coder.Writer or entropy_coder.Reader
    model : GPT2 or Llama
        Its context holds at least two tokens.
    first : int
        The token before the first one, which is end-of-text.
    count : int
        Number of tokens.
    tokens : (count,) int array, optional
        The tokens, if they are written.
    progress : function of two integers, optional
        Is told how many tokens of how many are done.

    Returns
    -------
    (count,) int64 array
        The tokens that were written or read.

    Notes
    -----
    The tokens are cut into at most 32 lanes. When the context is full, the last half of it is given
    to the model anew. Only the first tokens of a lane are predicted from less than that.

    Examples
    --------
    >>> import jax
    >>> from flax import nnx
    >>> from copyreg_jax.lm.models.gpt2 import GPT2Config
    >>> from copyreg_jax.neighbours.entropy_coder import Reader, Writer
    >>> class Alphabet(nnx.Module):  # after a letter it expects the next one
    ...     config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=1)
    ...     def empty_cache(self, batch, room):
    ...         return ()
    ...     def extend(self, tokens, cache):
    ...         return 9 * jax.nn.one_hot(tokens[:, -1] + 1, 257), cache
    >>> writer, tokens = Writer(), np.arange(20, 52)
    >>> _ = code_tokens(writer, Alphabet(), 0, 32, tokens)
    >>> code = writer.content()
    >>> code_tokens(Reader(code), Alphabet(), 0, 32).tolist() == tokens.tolist(), len(code)
    (True, 8)
    """
    import jax

    context, vocab_size = model.config.context, model.config.vocab_size
    if context < 2:
        raise InputError(f"the model has a context of {context} tokens; give one of at least 2")
    lanes = min(_LANES, 1 << (max(1, count // _LANE_TOKENS).bit_length() - 1))
    starts, half = lane_starts(count, lanes), context // 2
    result = np.zeros(count, np.int64) if tokens is None else tokens.astype(np.int64)
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("float32"):
        step = _Steps(model, lanes)
        seen = np.full((lanes, 1), first)
        for done in range(-(-count // lanes)):
            active = min(lanes, count - done * lanes)
            places = starts[:active] + done
            p = step(seen)[:active]
            known = None if tokens is None else tokens[places]
            result[places] = _code_symbols(coder, p, known)
            progress(min(count, (done + 1) * lanes), count)
            seen = np.full((lanes, 1), first)
            seen[:active, 0] = result[places]
            if step.place == context and active == lanes:
                step.restart()
                seen = result[starts[:-1, None] + np.arange(done + 1 - half, done + 1)]
    if ((result < 0) | (result >= vocab_size)).any():
        raise InputError("the content was not written with this model")
    return result


class _Steps:
    """The model and what it remembers of the tokens so far."""

    def __init__(self, model: Any, lanes: int) -> None:
        import jax
        from flax import nnx

        graph, params = nnx.split(model)
        self._params = jax.device_put(params, jax.devices("cpu")[0])
        self._step = functools.partial(_compiled(), graph)
        self._empty = model.empty_cache(lanes, model.config.context)
        self.restart()

    def restart(self) -> None:
        self._cache, self.place = self._empty, 0

    def __call__(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities of the tokens after these."""
        p, self._cache = self._step(self._params, self._cache, tokens.astype(np.int32))
        self.place += tokens.shape[1]
        return np.asarray(p, np.float64)


@functools.cache
def _compiled() -> Any:
    import jax
    from flax import nnx

    def step(graph: Any, params: Any, cache: Any, tokens: Any) -> Any:
        logits, extended = nnx.merge(graph, params).extend(tokens, cache)
        return jax.nn.softmax(logits, axis=-1), extended

    return jax.jit(step, static_argnums=0)


def _code_symbols(
    coder: Coder, p: NDArray[np.float64], known: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Code a symbol for each row of p, bit by bit from its highest."""
    rows, size = p.shape
    depth = max(1, (size - 1).bit_length())
    if not (np.isfinite(p).all() and (abs(p.sum(axis=1) - 1) < 1e-3).all()):
        raise InputError("the model gives numbers that are no probabilities")
    below = np.zeros((rows, (1 << depth) + 1))
    np.cumsum(p + _FLOOR, axis=1, out=below[:, 1 : size + 1])
    # Symbols past the vocabulary have the floor too, or bits before them would be 0 / 0.
    below[:, size + 1 :] = below[:, size : size + 1] + _FLOOR * np.arange(
        1, (1 << depth) - size + 1
    )
    row, low = np.arange(rows), np.zeros(rows, np.int64)
    for bit in range(depth - 1, -1, -1):
        middle, high = low + (1 << bit), low + (2 << bit)
        share = (below[row, high] - below[row, middle]) / (below[row, high] - below[row, low])
        one = np.clip(np.rint(share * SCALE), 1, SCALE - 1).astype(np.int64)
        low += coder.bits(one, None if known is None else known >> bit & 1) << bit
    return low
