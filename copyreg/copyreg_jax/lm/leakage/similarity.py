"""How alike two texts are: common substrings, and ROUGE-L for any script."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.duplicates import words_of

__all__ = ["LEGAL_YARDSTICK", "longest_common_substring", "over_yardstick", "rouge_scorer"]

LEGAL_YARDSTICK = 160
"""Characters in a row that may be quoted; Mueller et al. (2024) count what is longer."""


def longest_common_substring(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the longest stretch without gaps that two strings or token lists share.

    Cost: len(a) len(b), row by row.

    Examples
    --------
    >>> longest_common_substring("a white sail", "the whitest"), longest_common_substring("", "a")
    (6, 0)
    """
    codes: dict[Any, int] = {}
    one, other = (np.array([codes.setdefault(x, len(codes)) for x in s], int) for s in (a, b))
    best, ending = (
        0,
        np.zeros(len(other) + 1, int),
    )  # ending[j]: longest common stretch that ends before j
    for code in one:
        ending[1:] = np.where(other == code, ending[:-1] + 1, 0)
        best = max(best, int(ending.max()))
    return best


def over_yardstick(
    outputs: Sequence[str], work: str, *, length: int = LEGAL_YARDSTICK
) -> NDArray[np.bool_]:
    """Whether each output has more than so many characters in a row of a work.

    Characters count as they are, also white space and case.

    Raises
    ------
    InputError
        ``length`` is negative.

    Notes
    -----
    The work is cut into pieces so short that each longer common substring has a whole one. Pieces
    are looked up, and what is round about a hit is compared, so the answer is exact. If pieces
    seldom repeat, the cost is that of reading all texts.

    References
    ----------
    Mueller et al., LLMs and memorization: on quality and specificity of copyright compliance, 2024.

    Examples
    --------
    >>> over_yardstick(["the white sail", "one whiter"], "a white sail", length=6)
    array([ True, False])
    """
    if length < 0:
        raise InputError(f"length is {length}; give a number of characters, 0 or more")
    size = length // 2 + 1  # length + 1 characters have a piece of this size wherever they begin
    places: dict[str, list[int]] = {}
    for at in range(0, len(work) - size + 1, size):
        places.setdefault(work[at : at + size], []).append(at)
    found = [
        any(
            _alike(text[i + size : i + length + 1], work[at + size : at + length + 1])
            + _alike(text[max(i - length, 0) : i][::-1], work[max(at - length, 0) : at][::-1])
            > length - size
            for i in range(len(text) - size + 1)
            for at in places.get(text[i : i + size], ())
        )
        for text in outputs
    ]
    return np.array(found, bool)


def _alike(one: str, other: str) -> int:
    """Number of characters that two strings have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((k for k, (x, y) in pairs if x != y), min(len(one), len(other)))


def rouge_scorer() -> Any:
    """Make a scorer of rouge-score that knows words of any script."""
    try:
        library = importlib.import_module("rouge_score.rouge_scorer")
        own = importlib.import_module("rouge_score.tokenizers").DefaultTokenizer(use_stemmer=True)
    except ImportError:
        raise InputError("ROUGE-L needs a package: pip install rouge-score") from None
    return library.RougeScorer(["rougeL"], tokenizer=_Words(own))


class _Words:
    """A tokenizer for rouge-score, whose own one keeps only a to z and digits."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def tokenize(self, text: str) -> list[str]:
        """Split a text into words of any script; ASCII words are split as the library does."""
        words = [
            part
            for word in words_of(text)
            for part in (self._own.tokenize(word) if word.isascii() else [word])
        ]
        return words or list(text)
