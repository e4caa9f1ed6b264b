"""How much of a document a model continues from a prefix: exactly, nearly, or by sampling."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.tokenizer import END_OF_TEXT
from copyreg_jax.lm.leakage.losses import name_document
from copyreg_jax.lm.leakage.sampling import PROBABILITY, SAMPLES, discoverable, samples_needed
from copyreg_jax.lm.leakage.similarity import longest_common_substring, rouge_scorer
from copyreg_jax.lm.leakage.windows import Windows, check_fit
from copyreg_jax.lm.models.layers import vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Extraction", "Summary", "extract"]

_BATCH = 16  # windows at once; their logits are the memory that this takes


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
    log10_samples : (w,) array
        log10 of the number of samples that contain the suffix with probability 0.5.
    """

    document: NDArray[np.int64]
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
    For each new token the whole window goes through the model, 16 windows at once. That takes ``w
    suffix`` forward passes, without a cache of keys. Log-probabilities of tokens are float32, and
    their sums float64.
    """
    scorer = rouge_scorer()
    length = windows.tokens.shape[1]
    if not 1 <= prefix < length:
        raise InputError(f"prefix is {prefix}; give a number from 1 to below {length}")
    check_fit(model, tokenizer, prefix, length - prefix)
    vocab_size = vocabulary_size(model)
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
        document = name_document(int(windows.document[i]), names)
        raise InputError(f"the model gives document {document} a probability of NaN; train it anew")
    suffix = windows.tokens[:, prefix:]
    right = continuation == suffix
    truths, texts = (
        [_decoded(tokenizer, ids) for ids in rows.tolist()] for rows in (suffix, continuation)
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
