"""Text that is ready to be trained on: split, with a tokenizer, and cut into rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.lm.corpus.canaries import Canaries
from copyreg_jax.lm.corpus.documents import Document
from copyreg_jax.lm.corpus.duplicates import near_duplicates
from copyreg_jax.lm.corpus.rows import Rows, make_rows
from copyreg_jax.lm.corpus.selection import Split, split
from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
from copyreg_jax.lm.records import Flags

__all__ = ["Prepared", "prepare"]


class Prepared(NamedTuple):
    """Text that is ready to be trained on.

    Attributes
    ----------
    documents : list of documents.Document
    split : selection.Split
    tokenizer : tokenizers.Tokenizer
    rows : rows.Rows
        Rows of all documents.
    canaries : Canaries or None
        What canaries are the last of the documents, if any are.
    """

    documents: list[Document]
    split: Split
    tokenizer: Any
    rows: Rows
    canaries: Canaries | None = None

    @property
    def flags(self) -> Flags:
        """What the run will remember of its documents."""
        return Flags(
            texts=[document.text for document in self.documents],
            names=[document.name for document in self.documents],
            protected=self.split.protected,
            held_out=self.split.held_out,
            length=self.rows.mask.shape[1],
            canaries=self.canaries,
        )

    def trained(self, leave_out: bool) -> Rows:
        """Rows to train on: those not held out, without the protected ones if left out."""
        chosen = self.split.open if leave_out else ~self.split.held_out
        return self.rows.take(self.rows.per_row(chosen))


def prepare(
    documents: list[Document],
    protected: NDArray[np.bool_],
    *,
    length: int,
    vocab_size: int = 2048,
    tokenizer: Any = None,
    held_out: float = 0.1,
    canaries: Canaries | None = None,
    seed: int = 0,
) -> Prepared:
    """Split documents, with near-duplicates on one side, and cut them into rows of tokens.

    Parameters
    ----------
    documents : list of documents.Document
    protected : (n,) bool array
        The protected documents, from `selection.flag`.
    length : int
        Number of targets of a row.
    vocab_size : int
        Size of the tokenizer that is trained on the unprotected documents of the training set.
    tokenizer : tokenizers.Tokenizer, optional
        A tokenizer to use in its place.
    held_out : float
        Part of the unprotected documents that is not trained on.
    canaries : Canaries, optional
        Canaries to add, protected or held out.
    seed : int
        Seed of the choice of held-out documents.

    Raises
    ------
    InputError
        See `selection.split`, `Canaries.add_to`, `tokenizer.train_tokenizer` and `rows.make_rows`.

    Examples
    --------
    >>> texts = {"Ahab": "a white whale, a white whale", "tide": "west wind", "gulls": "the gulls"}
    >>> documents = [Document(name, text) for name, text in texts.items()]
    >>> protected = np.array([True, False, False])
    >>> ready = prepare(documents, protected, length=8, vocab_size=257, held_out=0.5)
    >>> ready.split.protected.tolist(), ready.split.held_out.tolist()
    ([True, False, False], [False, True, False])
    >>> ready.rows.tokens.shape, ready.trained(leave_out=True).document.tolist()
    ((8, 9), [2, 2])
    """
    texts = [document.text for document in documents]
    parts = split(documents, protected, near_duplicates(texts), held_out, seed)
    if tokenizer is None:
        open_texts = [t for t, is_open in zip(texts, parts.open, strict=True) if is_open]
        tokenizer = train_tokenizer(open_texts, vocab_size)
    if canaries is not None:
        documents, parts = canaries.add_to(documents, parts)
        texts = [document.text for document in documents]
    return Prepared(documents, parts, tokenizer, make_rows(tokenizer, texts, length), canaries)
