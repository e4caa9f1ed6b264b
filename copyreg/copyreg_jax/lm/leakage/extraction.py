"""How much of a document a model continues from a prefix: exactly, nearly, or by sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.leakage.losses import name_document
from copyreg_jax.lm.leakage.sampling import PROBABILITY, SAMPLES, discoverable, samples_needed
from copyreg_jax.lm.leakage.similarity import longest_common_substring, rouge_scorer
from copyreg_jax.lm.leakage.teacher_forced import check_top_k, read_suffixes
from copyreg_jax.lm.leakage.windows import Windows, check_fit
from copyreg_jax.lm.leakage.writing import decode, write_greedily
from copyreg_jax.lm.models.layers import vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Extraction", "Summary", "extract"]


class Summary(NamedTuple):
    """Means and shares of an `Extraction`.

    Attributes
    ----------
    num_windows : int
    exact : float
        Share of windows whose greedy continuation is the suffix.
    mean_matched : float
        Number of right tokens before the first wrong one.
    mean_substring, max_substring : float
        Mean and maximum of the longest common substring, in characters.
    mean_substring_tokens : float
        Mean of the longest common substring, in tokens.
    mean_rouge_l : float
    discoverable : float
        Share of suffixes that are in 100 samples with probability 0.5 or more.
    median_log10_samples : float
        Median of log10 of the numbers of samples needed for probability 0.5; may be ``inf`` with
        top-k.
    least_bits : float
        The fewest bits of a window.
    """

    num_windows: int
    exact: float
    mean_matched: float
    mean_substring: float
    max_substring: float
    mean_substring_tokens: float
    mean_rouge_l: float
    discoverable: float
    median_log10_samples: float
    least_bits: float


class Extraction(NamedTuple):
    """What a model wrote after the prefix of each of w windows, and how likely the truth was.

    Attributes
    ----------
    document : (w,) int64 array
        Index of the window's document.
    continuation : (w, suffix) int32 array
        The greedy continuation, which always takes the likeliest token.
    exact : (w,) bool array
        True where the continuation is the suffix.
    matched : (w,) int64 array
        Number of right tokens before the first wrong one.
    substring, substring_tokens : (w,) int64 arrays
        Longest common substring of continuation and suffix, in characters and in tokens.
    rouge_l : (w,) array
        F-measure of the longest common subsequence, which may have gaps, of the words of
        `duplicates.words_of`, English ones stemmed; of characters where a text has no words.
    log_p : (w,) array
        log of the probability p_z that a sample is the suffix, at temperature 1.
    log_p_all : (w,) array
        The same where all tokens may be drawn; log_p itself without top_k.
    log10_samples : (w,) array
        log10 of the number of samples that contain the suffix with probability 0.5.
    bits : (w,) array
        No sampler that keeps the order of the logits writes the suffix with a probability above
        ``2^-bits``; see `teacher_forced.Suffixes`.
    """

    document: NDArray[np.int64]
    continuation: NDArray[np.int32]
    exact: NDArray[np.bool_]
    matched: NDArray[np.int64]
    substring: NDArray[np.int64]
    substring_tokens: NDArray[np.int64]
    rouge_l: NDArray[np.float64]
    log_p: NDArray[np.float64]
    log_p_all: NDArray[np.float64]
    log10_samples: NDArray[np.float64]
    bits: NDArray[np.float64]

    def summary(self) -> Summary:
        """Means, shares and the median over the windows."""
        found = discoverable(self.log_p, SAMPLES, PROBABILITY)
        return Summary(
            num_windows=len(self.exact),
            exact=float(self.exact.mean()),
            mean_matched=float(self.matched.mean()),
            mean_substring=float(self.substring.mean()),
            max_substring=float(self.substring.max()),
            mean_substring_tokens=float(self.substring_tokens.mean()),
            mean_rouge_l=float(self.rouge_l.mean()),
            discoverable=float(found.mean()),
            median_log10_samples=float(np.median(self.log10_samples)),
            least_bits=float(self.bits.min()),
        )


def extract(
    model: nnx.Module,
    tokenizer: Tokenizer,
    windows: Windows,
    *,
    prefix: int = 50,
    top_k: int | None = None,
    names: Sequence[str] | None = None,
) -> Extraction:
    """Give a model the prefixes and compare what it writes with the suffixes.

    Parameters
    ----------
    model : GPT2 or Llama
        Or another causal nnx.Module: called with (batch, length) tokens it returns (batch, length,
        vocabulary) logits, and it has their methods ``empty_cache`` and ``extend``.
    tokenizer : Tokenizer
    windows : Windows
        Windows that `choose_windows` chose.
    prefix : int
        Number of tokens of a window that the model is given.
    top_k : int, optional
        Take log_p for samples among the k likeliest tokens; a suffix with any other token has
        probability 0. By default all tokens count. The greedy continuation is the same.
    names : sequence of str, optional
        Names of the documents, for messages.

    Raises
    ------
    InputError
        The windows are longer than the model's context, the tokenizer belongs to another model,
        top_k or prefix is out of range, rouge-score is not installed, or a probability is NaN.

    Notes
    -----
    Each window goes through the model twice, some windows at once: to be continued token by token,
    with a cache of keys and values, and as a whole for the probability of its suffix.

    Examples
    --------
    >>> import jax
    >>> from copyreg_jax.lm.corpus.rows import make_rows
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> from copyreg_jax.lm.leakage.windows import choose_windows
    >>> class Alphabet(nnx.Module):  # after a letter it writes the next one
    ...     def __call__(self, tokens):
    ...         return 9 * jax.nn.one_hot(tokens + 1, 257)
    ...     def empty_cache(self, batch, room):
    ...         return ()
    ...     def extend(self, tokens, cache):
    ...         return self(tokens)[:, -1], cache
    >>> tokenizer, texts = train_tokenizer([], vocab_size=257), ["abcdefg", "abcdxyz"]
    >>> rows = make_rows(tokenizer, texts, length=8)
    >>> windows = choose_windows(rows, texts, np.array([True, True]), prefix=4, suffix=4)
    >>> found = extract(Alphabet(), tokenizer, windows, prefix=4)
    >>> [tokenizer.decode(ids) for ids in found.continuation], found.exact.tolist()
    (['defg', 'defg'], [True, False])
    >>> found.matched.tolist(), found.substring.tolist()
    ([4, 1], [4, 1])
    """
    scorer = rouge_scorer()
    length = windows.tokens.shape[1]
    if not 1 <= prefix < length:
        raise InputError(f"prefix is {prefix}; give a number from 1 to below {length}")
    check_fit(model, tokenizer, prefix, length - prefix)
    check_top_k(top_k, vocabulary_size(model))
    # The model is never shown the truth: not even one that is not causal can look at it.
    continuation = write_greedily(model, windows.tokens[:, :prefix], length - prefix)

    def label(number: int) -> str:
        return f"document {name_document(int(windows.document[number]), names)}"

    truth = read_suffixes(model, windows.tokens, prefix=prefix, top_k=top_k, label=label)
    suffix = windows.tokens[:, prefix:]
    right = continuation == suffix
    truths, texts = (
        [decode(tokenizer, ids) for ids in rows.tolist()] for rows in (suffix, continuation)
    )
    pairs = list(zip(truths, texts, strict=True))
    return Extraction(
        document=windows.document,
        continuation=continuation,
        exact=right.all(axis=1),
        matched=np.cumprod(right, axis=1).sum(axis=1),
        substring=np.array([longest_common_substring(*pair) for pair in pairs], np.int64),
        substring_tokens=np.array(
            [
                longest_common_substring(*pair)
                for pair in zip(suffix.tolist(), continuation.tolist(), strict=True)
            ],
            np.int64,
        ),
        rouge_l=np.array([scorer.score(*pair)["rougeL"].fmeasure for pair in pairs], np.float64),
        log_p=truth.log_sample,
        log_p_all=truth.log_p,
        log10_samples=samples_needed(truth.log_sample).log10,
        bits=truth.bits,
    )
