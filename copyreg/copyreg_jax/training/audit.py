"""What a trained model gives away, from its plain losses and from the text that it writes.

Nothing here knows gamma: a reported loss is a cross-entropy and never has the protection term in
it. Every number on protected text stands beside the same number on held-out text, which is what a
model of this kind knows without memory.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import ArrayLike, NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.training.duplicates import words_of
from copyreg_jax.training.fit import document_losses
from copyreg_jax.training.layers import vocabulary_size
from copyreg_jax.training.text import END_OF_TEXT, Rows, check_tokenizer, make_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PROTECTED, UNPROTECTED, HELD_OUT = "protected", "unprotected", "held-out"
SAMPLES, PROBABILITY = 100, 0.5
"""A suffix is reported as discoverable if so many samples contain it with this probability."""

_BATCH = 16  # windows at once; their logits are the memory that this takes
_DRAWS = 2**20  # documents drawn at once by the bootstrap


class Group(NamedTuple):
    """Losses of a group of documents.

    Attributes
    ----------
    name : str
        "protected", "unprotected" (and trained on) or "held-out".
    num_documents, num_tokens : int
        Tokens are targets: those of the texts and an end-of-text after each.
    cross_entropy : float
        Nats per token, all tokens of the group alike.
    bits_per_byte : float
        The same sum in bits, per UTF-8 byte of the texts; comparable between tokenizers.
    """

    name: str
    num_documents: int
    num_tokens: int
    cross_entropy: float
    bits_per_byte: float


class Tau(NamedTuple):
    """A difference of cross-entropies in nats per token, and its bootstrap interval."""

    value: float
    lower: float
    upper: float


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


class Report(NamedTuple):
    """What `audit` found.

    Attributes
    ----------
    protected, unprotected, held_out : Group
    tau : Tau
        Protected loss minus that of the unprotected documents that were trained on.
    tau_held_out : Tau
        Protected loss minus held-out loss: below 0 the model knows more of the protected texts
        than of texts it never saw, if both are alike.
    extraction, extraction_held_out : Extraction
        Of protected text, and of held-out text as the baseline.
    prefix, suffix : int
        In tokens.
    top_k : int or None
    windows : str
        Hash of the chosen windows. Reports with another one can't be compared.
    nll : (n,) float64 array
        Loss of each document in nats.
    num_tokens : (n,) int64 array
        Its targets.
    """

    protected: Group
    unprotected: Group
    held_out: Group
    tau: Tau
    tau_held_out: Tau
    extraction: Extraction
    extraction_held_out: Extraction
    prefix: int
    suffix: int
    top_k: int | None
    windows: str
    nll: NDArray[np.float64]
    num_tokens: NDArray[np.int64]

    def as_json(self) -> dict[str, Any]:
        """Everything but single windows and documents; numbers are finite or None.

        Neither text nor token of a document is in it.
        """
        groups = (self.protected, self.unprotected, self.held_out)
        taus = {UNPROTECTED: self.tau, HELD_OUT: self.tau_held_out}
        parts = {PROTECTED: self.extraction, HELD_OUT: self.extraction_held_out}
        return {
            "groups": {group.name: _plain(group) for group in groups},
            "tau": {against: _plain(tau) for against, tau in taus.items()},
            "extraction": {name: _plain(part.summary()) for name, part in parts.items()},
            "prefix": self.prefix,
            "suffix": self.suffix,
            "top_k": self.top_k,
            "samples": SAMPLES,
            "probability": PROBABILITY,
            "windows": self.windows,
        }


def measure_group(
    name: str,
    nll: NDArray[np.floating[Any]],
    num_tokens: NDArray[np.integer[Any]],
    num_bytes: NDArray[np.integer[Any]],
    chosen: NDArray[np.bool_],
    *,
    names: Sequence[str] | None = None,
) -> Group:
    """Cross-entropy per token and bits per byte of some of the documents.

    Parameters
    ----------
    name : str
        Of the group.
    nll : (n,) array
        Negative log-likelihood of each document in nats, as `fit.document_losses` gives it.
    num_tokens, num_bytes : (n,) int arrays
        Its targets and the UTF-8 bytes of its text, `text.Rows.num_bytes`.
    chosen : (n,) bool array
    names : sequence of str, optional
        Of the documents, for messages; their numbers from 0 if not given.

    Raises
    ------
    InputError
        No document is chosen, shapes do not fit, one has no tokens or a loss that is not finite,
        or all texts are empty.

    Examples
    --------
    >>> nll, ones = np.array([math.log(2) * 6, 9.0]), np.array([True, False])
    >>> group = measure_group("protected", nll, np.array([2, 3]), np.array([4, 4]), ones)
    >>> round(group.cross_entropy, 3), round(group.bits_per_byte, 3)
    (2.079, 1.5)
    """
    nll, num_tokens = _losses(nll, num_tokens, {name: chosen}, names)
    if np.shape(num_bytes) != nll.shape:
        raise InputError(f"num_bytes has shape {np.shape(num_bytes)}; give {nll.shape}")
    total, tokens = math.fsum(nll[chosen]), int(num_tokens[chosen].sum())
    size = int(np.asarray(num_bytes)[chosen].sum())
    if size == 0:
        raise InputError(f"the {name} texts are empty; leave empty documents out")
    count = int(np.asarray(chosen).sum())
    return Group(name, count, tokens, total / tokens, total / (math.log(2) * size))


def tau_ce(
    nll: NDArray[np.floating[Any]],
    num_tokens: NDArray[np.integer[Any]],
    protected: NDArray[np.bool_],
    other: NDArray[np.bool_],
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    names: Sequence[str] | None = None,
) -> Tau:
    """tau_CE: protected cross-entropy minus that of others, with a bootstrap interval.

    Parameters
    ----------
    nll : (n,) array
        Negative log-likelihood of each document in nats.
    num_tokens : (n,) int array
    protected, other : (n,) bool arrays
        The two groups, which have no document in common.
    seed, resamples : int
    level : float
        Of the interval, in (0, 1).
    names : sequence of str, optional
        Of the documents, for messages.

    Returns
    -------
    Tau
        The order of the documents makes no difference to it.

    Raises
    ------
    InputError
        A group is empty, the groups overlap, shapes do not fit, a document has no tokens or a loss
        that is not finite, or level or resamples is out of range.

    Notes
    -----
    Percentile interval. Whole documents are drawn, within each group, since tokens of a document
    are alike; each draw is a ratio of sums, like the value. It says how the value would vary with
    other documents, not with another run of the training. With a handful of documents it is too
    short, and of length zero with one in each group.

    Examples
    --------
    >>> nll, tokens = np.array([6.0, 3.0, 2.0, 2.0]), np.array([2, 1, 2, 2])
    >>> tau_ce(nll, tokens, np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1], bool))
    Tau(value=2.0, lower=2.0, upper=2.0)
    """
    nll, num_tokens = _losses(nll, num_tokens, {PROTECTED: protected, "other": other}, names)
    if (protected & other).any():
        raise InputError("a document is in both groups; give groups without common documents")
    if resamples < 1 or not 0 < level < 1:
        raise InputError(
            f"resamples is {resamples} and level {level}; give resamples > 0, 0 < level < 1"
        )
    rng = np.random.default_rng(seed)
    value, difference = 0.0, np.zeros(resamples)
    for sign, chosen in ((1.0, protected), (-1.0, other)):
        sums, counts = nll[chosen], num_tokens[chosen]
        order = np.lexsort((counts, sums))  # what is drawn does not depend on the given order
        sums, counts = sums[order], counts[order]
        value += sign * math.fsum(sums) / float(counts.sum())
        block = max(1, _DRAWS // len(sums))
        for start in range(0, resamples, block):
            shape = (min(block, resamples - start), len(sums))
            draws = rng.integers(0, len(sums), shape)
            difference[start : start + block] += sign * _ratios(sums, counts, draws)
    lower, upper = np.quantile(difference, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Tau(value, lower, upper)


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
    _group(name, chosen, len(texts))
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
    scorer = _rouge()
    length = windows.tokens.shape[1]
    if not 1 <= prefix < length:
        raise InputError(f"prefix is {prefix}; give a number from 1 to below {length}")
    vocab_size = _vocabulary(model, tokenizer, prefix, length - prefix)
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
        document = _called(int(windows.document[i]), names)
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


def audit(
    model: nnx.Module,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    protected: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
    *,
    rows_length: int,
    prefix: int = 50,
    suffix: int = 50,
    max_windows: int = 256,
    per_document: int = 1,
    top_k: int | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Report:
    """Losses of the three groups, their differences, and extraction of protected text.

    Parameters
    ----------
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits; causal.
    tokenizer : Tokenizer
        That of the model's training.
    texts : sequence of str, length n
    protected, held_out : (n,) bool arrays
        As in `text.Split`; the rest is unprotected and was trained on.
    rows_length : int
        Tokens that the model is given at once for the losses, as in training.
    prefix, suffix, max_windows, per_document, top_k : int, optional
        See `choose_windows` and `extract`; max_windows of each group.
    seed : int
        Of the bootstrap and of the choice of windows.
    names : sequence of str, length n, optional
        Of the documents, for messages; their numbers from 0 if not given.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        A group is empty or has no document that is long enough, sizes are out of range or above
        the model's context, the tokenizer is of another model, a loss is not finite, or
        rouge-score is not installed.

    Examples
    --------
    >>> from copyreg_jax.training.gpt2 import GPT2, GPT2Config
    >>> from copyreg_jax.training.text import train_tokenizer
    >>> config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=2)
    >>> texts = ["a white sail", "the gulls", "west wind"]
    >>> report = audit(
    ...     GPT2(config), train_tokenizer([], vocab_size=257), texts, np.array([1, 0, 0], bool),
    ...     np.array([0, 0, 1], bool), rows_length=8, prefix=4, suffix=4,
    ... )
    >>> report.protected.num_tokens, report.extraction.summary().exact
    (13, 0.0)
    """
    for name, chosen in ((PROTECTED, protected), (HELD_OUT, held_out)):
        _group(name, chosen, len(texts))
    if (protected & held_out).any():
        raise InputError("a document is protected and held out; give groups without common ones")
    if names is not None and len(names) != len(texts):
        raise InputError(f"there are {len(names)} names for {len(texts)} texts; give one for each")
    _rouge()  # before the losses, which take a while
    _vocabulary(model, tokenizer, prefix, suffix, rows_length)
    rows = make_rows(tokenizer, texts, rows_length)
    windows = {
        name: choose_windows(
            rows, texts, chosen, prefix=prefix, suffix=suffix, max_windows=max_windows,
            per_document=per_document, seed=seed, name=name,
        )
        for name, chosen in ((PROTECTED, protected), (HELD_OUT, held_out))
    }  # fmt: skip
    nll, num_tokens = document_losses(model, rows, len(texts))
    unprotected = ~(protected | held_out)

    def group(name: str, chosen: NDArray[np.bool_]) -> Group:
        return measure_group(name, nll, num_tokens, rows.num_bytes, chosen, names=names)

    def tau(other: NDArray[np.bool_]) -> Tau:
        return tau_ce(nll, num_tokens, protected, other, seed=seed, names=names)

    def extraction(name: str) -> Extraction:
        return extract(model, tokenizer, windows[name], prefix=prefix, top_k=top_k, names=names)

    digest = hashlib.sha256(repr((prefix, suffix, top_k)).encode())
    for part in windows.values():
        digest.update(repr(part.tokens.shape).encode() + part.tokens.astype("<i4").tobytes())
    return Report(
        protected=group(PROTECTED, protected),
        unprotected=group(UNPROTECTED, unprotected),
        held_out=group(HELD_OUT, held_out),
        tau=tau(unprotected),
        tau_held_out=tau(held_out),
        extraction=extraction(PROTECTED),
        extraction_held_out=extraction(HELD_OUT),
        prefix=prefix,
        suffix=suffix,
        top_k=top_k,
        windows=digest.hexdigest(),
        nll=nll,
        num_tokens=num_tokens,
    )


def compare(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    """A table of several arms: this model, one without protection, one that never saw the text.

    Parameters
    ----------
    reports : mapping from names of arms to Report

    Returns
    -------
    list of dict
        A row for each arm, with the same keys: ``arm``; ``cross_entropy`` and ``bits_per_byte``
        of each group (``protected_cross_entropy``); ``tau``, ``tau_lower``, ``tau_upper``, and
        these with ``tau_held_out``; the fields of `Summary` after ``protected_`` and
        ``held_out_``. Numbers are finite or None.

    Raises
    ------
    InputError
        There is no report, or the arms were measured on other windows or documents.
    """
    if not reports:
        raise InputError("there are no reports to compare")
    first = next(iter(reports))
    kept = _measured(reports[first])
    table = []
    for arm, report in reports.items():
        if _measured(report) != kept:
            raise InputError(
                f"the arms {first!r} and {arm!r} were measured on other documents or windows; "
                "audit both with the same texts, groups, tokenizer, sizes and seed"
            )
        row: dict[str, Any] = {"arm": arm}
        for group in (report.protected, report.unprotected, report.held_out):
            key = group.name.replace("-", "_")
            row[f"{key}_cross_entropy"] = group.cross_entropy
            row[f"{key}_bits_per_byte"] = group.bits_per_byte
        for key, tau in (("tau", report.tau), ("tau_held_out", report.tau_held_out)):
            row |= {key: tau.value, f"{key}_lower": tau.lower, f"{key}_upper": tau.upper}
        parts = (("protected", report.extraction), ("held_out", report.extraction_held_out))
        for key, part in parts:
            row |= {f"{key}_{field}": v for field, v in part.summary()._asdict().items()}
        table.append({key: _finite(value) for key, value in row.items()})
    return table


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


def _ratios(
    sums: NDArray[Any], counts: NDArray[Any], draws: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Mean loss per token of each resample: a row of draws is the documents of one."""
    return sums[draws].sum(axis=1) / counts[draws].sum(axis=1)


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


def _group(name: str, chosen: NDArray[np.bool_], number: int) -> None:
    found = np.asarray(chosen)
    if found.dtype != bool or found.shape != (number,):
        raise InputError(
            f"{name} is {found.dtype}{found.shape}; give a bool for each of {number} documents"
        )
    if not found.any():
        raise InputError(f"no document is {name}; give some")


def _losses(
    nll: NDArray[Any],
    num_tokens: NDArray[Any],
    groups: Mapping[str, NDArray[np.bool_]],
    names: Sequence[str] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Losses in float64 and numbers of tokens, each looked at where a group has it."""
    nll, num_tokens = np.asarray(nll, np.float64), np.asarray(num_tokens)
    if nll.ndim != 1 or num_tokens.shape != nll.shape:
        raise InputError(f"nll has shape {nll.shape}, num_tokens {num_tokens.shape}; give (n,)")
    for name, chosen in groups.items():
        _group(name, chosen, len(nll))
        for i in np.flatnonzero(chosen & ~np.isfinite(nll)):
            raise InputError(
                f"the loss of document {_called(int(i), names)} is {nll[i]}; train the model anew, "
                "or leave the document out"
            )
        for i in np.flatnonzero(chosen & (num_tokens < 1)):
            raise InputError(
                f"document {_called(int(i), names)} has {num_tokens[i]} tokens; leave it out"
            )
    return nll, num_tokens.astype(np.int64)


def _called(document: int, names: Sequence[str] | None) -> str:
    return repr(document if names is None else names[document])


def _vocabulary(
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


def _rouge() -> Any:
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


def _measured(report: Report) -> tuple[Any, ...]:
    groups = (report.protected, report.unprotected, report.held_out)
    return report.windows, *((group.num_documents, group.num_tokens) for group in groups)


def _plain(fields: Any) -> dict[str, Any]:
    """A named tuple as JSON can say it."""
    return {name: _finite(value) for name, value in fields._asdict().items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
