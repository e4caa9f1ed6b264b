"""Canaries: random texts that are put into training data, to find out what a model keeps of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.documents import Document
from copyreg_jax.lm.corpus.selection import Split
from copyreg_jax.lm.hashing import hash_text

__all__ = ["Canaries", "random_text"]

_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def random_text(key: str) -> str:
    """Make 64 letters from a to p that look random: the SHA-256 of a key, letter by digit.

    Examples
    --------
    >>> random_text("a sail")[:12], len(random_text("a sail"))
    ('eoaaddieempk', 64)
    """
    return hash_text(key).translate(_LETTERS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canaries:
    """Canaries of a run: a fair coin for each says whether it is trained on, or held out.

    Parameters
    ----------
    number : int
        Number of canaries, those that are held out among them.
    copies : int, default 1
        How often a canary is in the text if it is.
    seed : int, default 0
        Seed of the texts and the coins.

    Raises
    ------
    InputError
        A number is below 1.

    Notes
    -----
    Texts and coins are bits of SHA-256, and so the same with every version of every library.

    Examples
    --------
    >>> canaries = Canaries(number=3, copies=2, seed=1)
    >>> canaries.inserted.tolist()
    [True, True, False]
    >>> [document.name for document in canaries.documents]
    ['canary 1, copy 1', 'canary 1, copy 2', 'canary 2, copy 1', 'canary 2, copy 2', 'canary 3']
    """

    number: int
    copies: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("number", "copies"):
            if getattr(self, name) < 1:
                raise InputError(f"canaries: {name} is {getattr(self, name)}; give at least 1")

    @property
    def texts(self) -> list[str]:
        """The text of each canary."""
        return [random_text(f"canary|{self.seed}|{k}") for k in range(self.number)]

    @property
    def inserted(self) -> NDArray[np.bool_]:
        """Whether each is trained on; shape (number,)."""
        coins = (hash_text(f"coin|{self.seed}|{k}") for k in range(self.number))
        return np.array([int(coin, 16) % 2 for coin in coins], bool)

    @property
    def documents(self) -> list[Document]:
        """Each copy of an inserted canary as a document, and each other canary once."""
        return [
            Document(f"canary {k}" + (f", copy {copy}" if is_in else ""), text)
            for k, (text, is_in) in enumerate(zip(self.texts, self.inserted, strict=True), 1)
            for copy in range(1, 1 + (self.copies if is_in else 1))
        ]

    def add_to(self, documents: Sequence[Document], split: Split) -> tuple[list[Document], Split]:
        """Put the canaries after some documents: the inserted ones protected, the others held out.

        Raises
        ------
        InputError
            A document has the name of a canary.
        """
        own = self.documents
        names = {document.name for document in own}
        if taken := [document.name for document in documents if document.name in names]:
            raise InputError(f"a document is called {taken[0]!r}, as a canary is; rename it")
        is_in = np.repeat(self.inserted, np.where(self.inserted, self.copies, 1))
        return [*documents, *own], Split(
            np.append(split.protected, is_in), np.append(split.held_out, ~is_in)
        )
