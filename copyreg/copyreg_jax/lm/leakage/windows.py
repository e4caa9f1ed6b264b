"""Which stretches of documents a model is asked to continue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.corpus.tokenizer import check_tokenizer
from copyreg_jax.lm.hashing import hash_text
from copyreg_jax.lm.leakage.losses import PROTECTED, check_group
from copyreg_jax.lm.models.layers import vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Windows", "check_fit", "choose_windows"]


class Windows(NamedTuple):
    """Beginnings of documents: a prefix to give to a model, and the suffix that follows it.

    Attributes
    ----------
    tokens : (w, prefix + suffix) int32 array
    document : (w,) int64 array
        Index of the window's document.
    """

    tokens: NDArray[np.int32]
    document: NDArray[np.int64]


def choose_windows(
    rows: Rows,
    texts: Sequence[str],
    chosen: NDArray[np.bool_],
    *,
    prefix: int = 50,
    suffix: int = 50,
    max_windows: int = 256,
    seed: int = 0,
    name: str = PROTECTED,
) -> Windows:
    """Choose the windows to be continued, which are beginnings of documents.

    Parameters
    ----------
    rows : Rows
        Rows of the texts, from `rows.make_rows`.
    texts : sequence of str, length n
    chosen : (n,) bool array
        True for the documents to take windows of.
    prefix, suffix : int
        Number of tokens of either part of a window, >= 1.
    max_windows : int
        If there are more, those with the smallest ``sha256(f"{seed}|0|{text}")`` are taken. They
        are the same for every model with this tokenizer, whatever other documents there are.
    seed : int
        Seed of the choice.
    name : str
        Name of the group, for messages.

    Returns
    -------
    Windows
        In the order of the documents.

    Raises
    ------
    InputError
        Shapes do not fit, a number is below 1, or no document is long enough.

    Notes
    -----
    Tokens are those of training. So the first token of a document is end-of-text, and a prefix of
    50 at its beginning has 49 tokens of text. The end-of-text after it is not part of a window.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.rows import make_rows
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> tokenizer, texts = train_tokenizer([], vocab_size=257), ["a sail", "a", "the gulls"]
    >>> rows = make_rows(tokenizer, texts, length=8)
    >>> found = choose_windows(rows, texts, np.array([True, True, False]), prefix=3, suffix=3)
    >>> tokenizer.decode(found.tokens[0].tolist()), found.document.tolist()
    ('a sai', [0])
    """
    check_group(name, chosen, len(texts))
    sizes = {"prefix": prefix, "suffix": suffix, "max_windows": max_windows}
    for what, size in sizes.items():
        if size < 1:
            raise InputError(f"{what} is {size}; give a positive number")
    length, longest = prefix + suffix, 0
    found: list[tuple[str, int, NDArray[np.int32]]] = []
    for i in np.flatnonzero(chosen).tolist():
        first, last = np.searchsorted(rows.document, [i, i + 1])
        inner = rows.tokens[first:last, 1:][rows.mask[first:last]]
        stream = np.concatenate([rows.tokens[first, :1], inner[:-1]])
        longest = max(longest, len(stream))
        if len(stream) >= length:
            key = hash_text(f"{seed}|0|{texts[i]}")
            found.append((key, i, stream[:length]))
    if not found:
        raise InputError(
            f"no {name} document is long enough: prefix {prefix} and suffix {suffix} need {length} "
            f"tokens, the longest has {longest} with its end-of-text before; take shorter ones"
        )
    # Of equal texts the first is taken, which is the same in every arm too.
    kept = sorted(found, key=lambda window: window[:2])[:max_windows]
    kept.sort(key=lambda window: window[1])
    return Windows(
        np.stack([tokens for _, _, tokens in kept]), np.array([i for _, i, _ in kept], np.int64)
    )


def check_fit(
    model: nnx.Module, tokenizer: Tokenizer, prefix: int, suffix: int, rows_length: int = 1
) -> None:
    """Refuse a model whose context or vocabulary is too small for what it will be given.

    Raises
    ------
    InputError
        Windows or rows are longer than the context, or the tokenizer has ids that the model lacks.
    """
    context = getattr(getattr(model, "config", None), "context", None)
    if context is not None and max(prefix + suffix - 1, rows_length) > context:
        what = f"prefix {prefix} and suffix {suffix} need {prefix + suffix - 1} positions"
        if rows_length > context:
            what = f"rows_length {rows_length} needs as many positions"
        raise InputError(f"{what}, but the model has {context}; give less")
    check_tokenizer(tokenizer, vocabulary_size(model))
