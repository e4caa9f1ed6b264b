"""How alike two texts are: their longest common substring, and ROUGE-L for any script."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.duplicates import words_of

__all__ = ["longest_common_substring", "rouge_scorer"]


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
