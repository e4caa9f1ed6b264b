"""Tokens of many documents as rows of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.tokenizer import (
    END_OF_TEXT,
    bytes_of_tokens,
    find_randomness,
    require_spelled,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Rows", "cut_rows", "make_rows"]

_BATCH = 256
"""Texts encoded at once; an encoded text takes some hundred bytes a token until its ids are out."""


class Rows(NamedTuple):
    """Windows of tokens; a row never mixes two documents.

    Attributes
    ----------
    tokens : (r, length + 1) int32 array
        Column j + 1 is the target of columns 0 to j. Padded on the right with end-of-text.
    mask : (r, length) bool array
        True for the targets that count; padding does not.
    document : (r,) int32 array
        Index of the row's document.
    num_bytes : (n,) int64 array
        Number of UTF-8 bytes of each document's text, for bits per byte.
    """

    tokens: NDArray[np.int32]
    mask: NDArray[np.bool_]
    document: NDArray[np.int32]
    num_bytes: NDArray[np.int64]

    def per_row(self, values: NDArray[Any]) -> NDArray[Any]:
        """Repeat values of the documents, such as ``split.protected``, for each of their rows."""
        return values[self.document]

    def take(self, chosen: NDArray[np.bool_ | np.integer[Any]]) -> Rows:
        """Take some of the rows, by a mask or by number; documents keep their numbers."""
        return self._replace(
            tokens=self.tokens[chosen], mask=self.mask[chosen], document=self.document[chosen]
        )

    def of_documents(self, chosen: NDArray[np.bool_]) -> Rows:
        """Take the rows of some documents, which are numbered anew in their order.

        Examples
        --------
        >>> parts = [np.arange(size, dtype=np.int32) for size in (2, 4, 3)]
        >>> rows = cut_rows(parts, 2, np.array([5, 7, 9])).of_documents(np.array([0, 1, 1], bool))
        >>> rows.document.tolist(), rows.num_bytes.tolist()
        ([0, 0, 1], [7, 9])
        """
        number = np.cumsum(chosen, dtype=np.int32) - 1
        part = self.take(self.per_row(chosen))
        return part._replace(document=number[part.document], num_bytes=self.num_bytes[chosen])


def make_rows(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Rows:
    """Cut documents, each ``<|endoftext|> text <|endoftext|>``, into rows of ``length`` targets.

    A row begins with the last token of the row before, so that each token of a document after
    its first is the target of exactly one row.

    Parameters
    ----------
    tokenizer : Tokenizer
        A tokenizer with a token ``<|endoftext|>``. These characters in a text are plain text.
    texts : sequence of str, length n
    length : int
        Number of targets of a row.

    Returns
    -------
    Rows

    Raises
    ------
    InputError
        length is not positive, or the tokenizer has no end-of-text token, draws at random,
        truncates or pads. Its tokens also have to spell each text byte by byte, since a loss would
        miss what it leaves out or changes.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> tokenizer = train_tokenizer([], vocab_size=257)
    >>> rows = make_rows(tokenizer, ["sea", ""], length=3)
    >>> rows.tokens.shape, rows.mask.astype(int).tolist(), rows.document.tolist()
    ((3, 4), [[1, 1, 1], [1, 0, 0], [1, 0, 0]], [0, 0, 1])
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    if length < 1 or end is None:
        raise InputError(f"rows need length > 0, which is {length}, and a token {END_OF_TEXT}")
    if chance := find_randomness(tokenizer):
        raise InputError(
            f"the tokenizer has {chance}, which makes the tokens of a text random; set it to None"
        )
    if tokenizer.truncation is not None or tokenizer.padding is not None:
        raise InputError(
            "the tokenizer truncates or pads; call its no_truncation() and no_padding() first"
        )
    parts, spelling = [], bytes_of_tokens(tokenizer)
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        for text, encoded in zip(
            batch, tokenizer.encode_batch_fast(batch, add_special_tokens=False), strict=True
        ):
            require_spelled(encoded.ids, text, spelling)
            parts.append(np.array([end, *encoded.ids, end], np.int32))
    return cut_rows(parts, length, np.array([len(text.encode()) for text in texts], np.int64))


def cut_rows(parts: Sequence[NDArray[np.int32]], length: int, num_bytes: NDArray[np.int64]) -> Rows:
    """Cut runs of tokens into rows; the first token of each is no target.

    Parameters
    ----------
    parts : sequence of n int32 arrays
        The tokens of each document, at least one. Rows are padded with its last one.
    length : int
        Number of targets of a row, >= 1.
    num_bytes : (n,) int64 array
        Number of bytes of each document.

    Returns
    -------
    Rows
        A document of t tokens has ``ceil((t - 1) / length)`` rows, and none if t is 1.

    Raises
    ------
    InputError
        length is not positive, or a document has no token.

    Notes
    -----
    Cost: a pass over the tokens; the rows take four bytes a token and one a target, padding
    included.

    Examples
    --------
    >>> cut_rows([np.arange(4, dtype=np.int32)], 2, np.array([9])).tokens.tolist()
    [[0, 1, 2], [2, 3, 3]]
    """
    if length < 1:
        raise InputError(f"rows of {length} targets are asked for; give 1 or more")
    stream = np.concatenate([np.zeros(0, np.int32), *parts])
    sizes = np.array([len(part) for part in parts], np.int64)
    for number in np.flatnonzero(sizes == 0):
        raise InputError(f"document {number} has no token; give one at least")
    last = np.cumsum(sizes) - 1  # in the stream, the last token of each
    counts = -(-(sizes - 1) // length)
    document = np.repeat(np.arange(len(parts)), counts)
    window = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = (last - sizes + 1)[document] + window * length
    places = begin[:, None] + np.arange(length + 1)
    inside = places <= last[document][:, None]
    # Past its end a document goes on with its last token; in texts that is end-of-text.
    tokens = stream[np.minimum(places, last[document][:, None])]
    return Rows(tokens, inside[:, 1:], document.astype(np.int32), num_bytes)
