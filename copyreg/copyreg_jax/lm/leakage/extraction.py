"""How much of a document a model continues from a prefix: exactly, nearly, or by sampling."""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.duplicates import words_of
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.corpus.tokenizer import END_OF_TEXT, check_tokenizer
from copyreg_jax.lm.leakage.losses import PROTECTED, called, check_group
from copyreg_jax.lm.models.layers import vocabulary_size

SAMPLES, PROBABILITY = 100, 0.5
"""A suffix is reported as discoverable if so many samples contain it with this probability."""

_BATCH = 16  # windows at once; their logits are the memory that this takes


class Samples(NamedTuple):
    """How many samples are needed: rounded up, and its logarithm.

    Attributes
    ----------
    number : (...) float64 array
        A whole number; ``inf`` if there is none or it is above 1.8e308.
    log10 : (...) float64 array
        ``inf`` only if no number of samples will do.
    """

    number: NDArray[np.float64]
    log10: NDArray[np.float64]


class Windows(NamedTuple):
    """Stretches of documents: a prefix to give to a model, and the suffix that follows it.

    Attributes
    ----------
    tokens : (w, prefix + suffix) int32 array
    document : (w,) int64 array
        Index of the window's document.
    offset : (w,) int64 array
        Place of its first token in the document, whose token 0 is end-of-text.
    """

    tokens: NDArray[np.int32]
    document: NDArray[np.int64]
    offset: NDArray[np.int64]


class Summary(NamedTuple):
    """What `Extraction` comes to.

    Attributes
    ----------
    num_windows : int
    exact : float
        Share of windows whose greedy continuation is the suffix.
    mean_matched : float
        Tokens that are right before the first wrong one.
    mean_substring, max_substring : float
        Longest common substring in characters.
    mean_substring_tokens : float
    mean_rouge_l : float
    discoverable : float
        Share of suffixes that are in 100 samples with probability 0.5 or more.
    median_log10_samples : float
        Of the numbers of samples needed for probability 0.5; may be ``inf`` with top-k.
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


class Extraction(NamedTuple):
    """What a model wrote after the prefix of each of w windows, and how likely the truth was.

    Attributes
    ----------
    document, offset : (w,) int64 arrays
        As in `Windows`.
    continuation : (w, suffix) int32 array
        Greedy: always the likeliest token.
    exact : (w,) bool array
        The continuation is the suffix.
    matched : (w,) int64 array
        Tokens that are right before the first wrong one.
    substring, substring_tokens : (w,) int64 arrays
        Longest common substring of continuation and suffix, in characters and in tokens.
    rouge_l : (w,) array
        F-measure of the longest common subsequence, which may have gaps, of the words of
        `duplicates.words_of`, English ones stemmed; of characters where a text has no words.
    log_p : (w,) array
        log of the probability p_z that a sample is the suffix, at temperature 1.
    log10_samples : (w,) array
        Of the number of samples that contain the suffix with probability 0.5.
    """

    document: NDArray[np.int64]
    offset: NDArray[np.int64]
    continuation: NDArray[np.int32]
    exact: NDArray[np.bool_]
    matched: NDArray[np.int64]
    substring: NDArray[np.int64]
    substring_tokens: NDArray[np.int64]
    rouge_l: NDArray[np.float64]
    log_p: NDArray[np.float64]
    log10_samples: NDArray[np.float64]

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
        )


def longest_common_substring(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the longest stretch without gaps that two strings, or lists of tokens, share.

    Cost: len(a) len(b), row by row.

    Examples
    --------
    >>> longest_common_substring("a white sail", "the whitest"), longest_common_substring("", "a")
    (6, 0)
    """
    codes: dict[Any, int] = {}
    one, other = (np.array([codes.setdefault(x, len(codes)) for x in s], int) for s in (a, b))
    best, ending = 0, np.zeros(len(other) + 1, int)  # ending[j]: of stretches that end before j
    for code in one:
        ending[1:] = np.where(other == code, ending[:-1] + 1, 0)
        best = max(best, int(ending.max()))
    return best


def samples_needed(log_p: ArrayLike, p: float = PROBABILITY) -> Samples:
    """Smallest n so that n samples contain a suffix with probability at least p.

    Parameters
    ----------
    log_p : array
        log of the probability p_z of the suffix in one sample; <= 0, may be ``-inf``.
    p : float
        In (0, 1).

    Returns
    -------
    Samples
        ``n >= log(1 - p) / log(1 - p_z)``, rounded up. For p_z of any size no digits are lost,
        though a quotient next to a whole number may be rounded to either side.

    Raises
    ------
    InputError
        A log_p is NaN or above 0, or p is not in (0, 1).

    References
    ----------
    Hayes et al., Measuring memorization in language models via probabilistic extraction, 2025.

    Examples
    --------
    >>> samples_needed([math.log(0.01), 0.0]).number
    array([69.,  1.])
    >>> samples_needed(-2000.0).log10.round(2)
    np.float64(868.43)
    """
    log_p = _log_probability(log_p, p)
    with np.errstate(all="ignore"):  # infinities and numbers too small are what they should be
        number = np.maximum(np.ceil(np.log1p(-p) / _log_miss(log_p)), 1.0)
        # Where p_z, or the quotient, is out of range: -log(1 - p_z) is p_z there.
        tail = (np.log(-np.log1p(-p)) - log_p) / math.log(10)
        log10 = np.where(np.isfinite(number), np.log10(number), tail)
    return Samples(number, log10)


def discoverable(log_p: ArrayLike, n: float, p: float = PROBABILITY) -> NDArray[np.bool_]:
    """Whether n samples contain a suffix with probability p or more: 1 - (1 - p_z)^n >= p.

    Parameters
    ----------
    log_p : array
        log of p_z; <= 0, may be ``-inf``.
    n : float
        At least 1.
    p : float
        In (0, 1).

    Raises
    ------
    InputError
        A number out of range.

    Examples
    --------
    >>> discoverable([math.log(0.01), math.log(0.001)], 100, 0.5)
    array([ True, False])
    """
    log_p = _log_probability(log_p, p)
    if not 1 <= n < math.inf:
        raise InputError(f"n is {n}; give a number of samples, at least 1")
    with np.errstate(all="ignore"):
        return np.asarray(n * _log_miss(log_p) <= np.log1p(-p))


def choose_windows(
    rows: Rows,
    texts: Sequence[str],
    chosen: NDArray[np.bool_],
    *,
    prefix: int = 50,
    suffix: int = 50,
    max_windows: int = 256,
    per_document: int = 1,
    seed: int = 0,
    name: str = PROTECTED,
) -> Windows:
    """The windows to be continued: beginnings of documents, or of their rows.

    Parameters
    ----------
    rows : Rows
        From `text.make_rows` of the texts.
    texts : sequence of str, length n
    chosen : (n,) bool array
    prefix, suffix : int
        Tokens of a window, >= 1.
    max_windows : int
        If there are more, those with the smallest ``sha256(f"{seed}|{offset}|{text}")`` are taken:
        the same for every model with this tokenizer, whatever other documents there are.
    per_document : int
        How many windows of a document there may be. They begin where its rows begin, since that is
        where a model saw these tokens at these positions; 1 is the document's beginning alone.
    seed : int
    name : str
        Of the group, for messages.

    Returns
    -------
    Windows
        By document and offset.

    Raises
    ------
    InputError
        Shapes do not fit, a number is below 1, or no document is long enough.

    Notes
    -----
    Tokens are those of training. So the first token of a document is end-of-text, and a prefix of
    50 at its beginning has 49 tokens of text. The end-of-text after it is no part of a window.
    """
    check_group(name, chosen, len(texts))
    sizes = {
        "prefix": prefix, "suffix": suffix, "max_windows": max_windows,
        "per_document": per_document,
    }  # fmt: skip
    for what, size in sizes.items():
        if size < 1:
            raise InputError(f"{what} is {size}; give a positive number")
    length, longest = prefix + suffix, 0
    found: list[tuple[bytes, int, int, NDArray[np.int32]]] = []
    for i in np.flatnonzero(chosen).tolist():
        first, last = np.searchsorted(rows.document, [i, i + 1])
        inner = rows.tokens[first:last, 1:][rows.mask[first:last]]
        stream = np.concatenate([rows.tokens[first, :1], inner[:-1]])
        longest = max(longest, len(stream))
        starts = range(0, len(stream) - length + 1, rows.mask.shape[1])
        for start in starts[:per_document]:
            key = hashlib.sha256(f"{seed}|{start}|{texts[i]}".encode()).digest()
            found.append((key, i, start, stream[start : start + length]))
    if not found:
        raise InputError(
            f"no {name} document is long enough: prefix {prefix} and suffix {suffix} need {length} "
            f"tokens, the longest has {longest} with its end-of-text before; take shorter ones"
        )
    # Of equal texts the first, which is the same in every arm too.
    found = sorted(sorted(found, key=lambda window: window[:3])[:max_windows], key=lambda w: w[1:3])
    return Windows(
        np.stack([tokens for *_, tokens in found]),
        np.array([i for _, i, _, _ in found], np.int64),
        np.array([start for _, _, start, _ in found], np.int64),
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
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits; causal.
    tokenizer : Tokenizer
    windows : Windows
        From `choose_windows`.
    prefix : int
        Tokens of a window that are given.
    top_k : int, optional
        The log_p is that of samples among the k likeliest tokens, 0 if the suffix has any other;
        all tokens if not given. The greedy continuation is the same.
    names : sequence of str, optional
        Of the documents, for messages.

    Raises
    ------
    InputError
        The windows are longer than the model's context allows, the tokenizer is of another model,
        top_k or prefix is out of range, rouge-score is not installed, or a probability is NaN.

    Notes
    -----
    For each new token the whole window goes through the model, 16 windows at once: ``w suffix``
    forward passes, no cache of keys. Log-probabilities of tokens are float32, their sums float64.
    """
    scorer = rouge()
    length = windows.tokens.shape[1]
    if not 1 <= prefix < length:
        raise InputError(f"prefix is {prefix}; give a number from 1 to below {length}")
    vocab_size = vocabulary(model, tokenizer, prefix, length - prefix)
    if top_k is not None and not 1 <= top_k <= vocab_size:
        raise InputError(f"top_k is {top_k}; give a number from 1 to {vocab_size}, or None")
    graph, params = nnx.split(model)
    written, logs = [], []
    for start in range(0, len(windows.tokens), _BATCH):
        part = windows.tokens[start : start + _BATCH]
        # Filled up: one program for all parts.
        full = np.pad(part, ((0, _BATCH - len(part)), (0, 0)))
        written.append(np.asarray(_continuations(graph, prefix, params, full))[: len(part)])
        logs.append(np.asarray(_suffix_logs(graph, prefix, top_k, params, full))[: len(part)])
    continuation = np.concatenate(written)
    log_p = np.concatenate(logs).astype(np.float64).sum(axis=1)
    for i in np.flatnonzero(np.isnan(log_p)):
        document = called(int(windows.document[i]), names)
        raise InputError(f"the model gives document {document} a probability of NaN; train it anew")
    suffix = windows.tokens[:, prefix:]
    right = continuation == suffix
    truths, texts = (
        [_decoded(tokenizer, ids) for ids in rows.tolist()] for rows in (suffix, continuation)
    )
    pairs = list(zip(truths, texts, strict=True))
    return Extraction(
        document=windows.document,
        offset=windows.offset,
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
        log_p=log_p,
        log10_samples=samples_needed(log_p).log10,
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _continuations(graph: Any, prefix: int, params: Any, windows: Array) -> Array:
    """Greedy continuations of the prefixes."""

    def write(place: Array, buffer: Array) -> Array:
        logits = nnx.merge(graph, params)(buffer[:, :-1]).astype(jnp.float32)
        token = jnp.argmax(jnp.take(logits, place - 1, axis=1), axis=-1)
        return buffer.at[:, place].set(token.astype(buffer.dtype))

    # The truth is wiped out first: not even a model that is not causal can look at it.
    buffer = windows.at[:, prefix:].set(0)
    return jax.lax.fori_loop(prefix, windows.shape[1], write, buffer)[:, prefix:]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _suffix_logs(graph: Any, prefix: int, top_k: int | None, params: Any, windows: Array) -> Array:
    """Log-probability of each token of the suffixes, given the true tokens before it."""
    logits = nnx.merge(graph, params)(windows[:, :-1])[:, prefix - 1 :].astype(jnp.float32)
    targets = windows[:, prefix:, None]
    if top_k is None:
        return jnp.take_along_axis(jax.nn.log_softmax(logits), targets, axis=-1)[..., 0]
    values, tokens = jax.lax.top_k(logits, top_k)  # of equal ones those with the smaller number
    return jnp.max(jnp.where(tokens == targets, jax.nn.log_softmax(values), -jnp.inf), axis=-1)


def _decoded(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of tokens, with NUL for end-of-text: spelled out, its letters would match others'."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    parts: list[list[int]] = [[]]
    for number in ids:
        if number == end:
            parts.append([])
        else:
            parts[-1].append(number)
    return "\0".join(tokenizer.decode(part, skip_special_tokens=False) for part in parts)


def _log_miss(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(1 - p_z), by the formula that keeps its digits there."""
    with np.errstate(all="ignore"):  # both are computed everywhere; log_p = 0 gives -inf
        return np.where(log_p > -math.log(2), np.log(-np.expm1(log_p)), np.log1p(-np.exp(log_p)))


def _log_probability(log_p: ArrayLike, p: float) -> NDArray[np.float64]:
    checked = np.asarray(log_p, np.float64)
    if not (checked <= 0).all():
        raise InputError("log_p has NaN or numbers above 0; give logarithms of probabilities")
    if not 0 < p < 1:
        raise InputError(f"p is {p}; give a probability between 0 and 1")
    return checked


def vocabulary(
    model: nnx.Module, tokenizer: Tokenizer, prefix: int, suffix: int, rows_length: int = 1
) -> int:
    """Size of the vocabulary, if model, tokenizer and lengths fit together."""
    context = getattr(getattr(model, "config", None), "context", None)
    if context is not None and max(prefix + suffix - 1, rows_length) > context:
        what = f"prefix {prefix} and suffix {suffix} need {prefix + suffix - 1} positions"
        if rows_length > context:
            what = f"rows_length {rows_length} needs as many positions"
        raise InputError(f"{what}, but the model has {context}; give less")
    vocab_size = vocabulary_size(model)
    check_tokenizer(tokenizer, vocab_size)
    return vocab_size


def rouge() -> Any:
    """The scorer of rouge-score with words of any script."""
    try:
        library = importlib.import_module("rouge_score.rouge_scorer")
        own = importlib.import_module("rouge_score.tokenizers").DefaultTokenizer(use_stemmer=True)
    except ImportError:
        raise InputError("ROUGE-L needs a package: pip install rouge-score") from None
    return library.RougeScorer(["rougeL"], tokenizer=_Words(own))


class _Words:
    """For rouge-score, whose own way of splitting keeps a to z and digits only."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def tokenize(self, text: str) -> list[str]:
        """Words of any script; those of ASCII as the library has them."""
        words = [
            part
            for word in words_of(text)
            for part in (self._own.tokenize(word) if word.isascii() else [word])
        ]
        return words or list(text)
