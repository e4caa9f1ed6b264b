"""What texts that a model has written share with a work, word for word or nearly so.

Words are those of `copyreg_jax.lm.corpus.duplicates.words_of`: case and punctuation do not count,
and a word of a script without spaces is a single character. The papers split English at white space
or as NLTK does, so their numbers differ a little from these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.leakage.common_words import (
    find_stretches,
    matching_blocks,
    number_runs,
    number_words,
)
from copyreg_jax.lm.leakage.similarity import LEGAL_YARDSTICK, over_yardstick

__all__ = [
    "LEAST_OF_BOOKS",
    "LEAST_OF_PASSAGES",
    "LEGAL_YARDSTICK",
    "Spans",
    "Verbatim",
    "degenerate",
    "extraction_strength",
    "matched_spans",
    "measure_outputs",
    "nv_recall",
    "over_yardstick",
]

LEAST_OF_BOOKS, LEAST_OF_PASSAGES = (20, 100), (5, 10)
"""Fewest words of a block after either pass of `nv_recall`: for whole books (Ahmed et al., 2026),
and for outputs of 200 tokens (CopyShield, arXiv:2609.01161)."""

_LONG = 20
"""Spans of more words than this are counted."""

_PERIOD, _COPIES, _LOOP = 20, 3, 12
"""A loop repeats at most so many words, at least so often, and has at least so many in all."""

_Ints = NDArray[np.int64]


class Spans(NamedTuple):
    """The words of a work that some outputs have in spans of many words.

    Attributes
    ----------
    coverage : float
        Share of the work's words that are marked.
    longest_block : int
        The most marked words in a row, over all outputs together.
    longest_span : int
        The most words in a row of the work that one output has in a row.
    num_long : int
        Number of spans of more than 20 words: from the longest on, those of the work that do not
        overlap one counted before. A further output may join two spans to one, which counts once.
    marked : (words of the work,) bool array
    """

    coverage: float
    longest_block: int
    longest_span: int
    num_long: int
    marked: NDArray[np.bool_]


class Verbatim(NamedTuple):
    """What some outputs share with a work.

    Attributes
    ----------
    coverage, longest_block, longest_span, num_long
        Those of `Spans`, for spans of 5 words or more.
    nv_recall : float
        The largest near-verbatim recall of an output, with `LEAST_OF_PASSAGES`. The definition is
        for one text, and for many short ones there is none that the papers agree on. The divisor is
        the whole work, where CopyShield has the passage that was asked for.
    share_over_160 : float
        Share of the outputs that have more than 160 characters in a row of the work.
    degenerate : float
        Share of the outputs that loop.
    """

    coverage: float
    longest_block: int
    longest_span: int
    num_long: int
    nv_recall: float
    share_over_160: float
    degenerate: float


def measure_outputs(
    outputs: Sequence[str], work: str, *, prompts: Sequence[str] | None = None
) -> Verbatim:
    """Measure what some outputs of a model share with a work.

    Parameters
    ----------
    outputs : sequence of str
        What a model has written, without the prompts.
    work : str
    prompts : sequence of str, optional
        What each output continues. Spans that the prompt has already are not counted among the
        first four numbers.

    Raises
    ------
    InputError
        There is no output, not a prompt for each, or the work has no words.

    Notes
    -----
    A work of 100,000 words and 64 outputs of 200 words take 4 s, nearly all for `nv_recall`.

    Examples
    --------
    >>> work = "Call me Ishmael. Some years ago, never mind how long precisely, I went to sea."
    >>> found = measure_outputs(["some years ago - never mind how, I", "no " * 12], work)
    >>> found.coverage, found.longest_span, found.nv_recall, found.degenerate
    (0.4, 6, 0.0, 0.5)
    """
    if not outputs:
        raise InputError("there is no output to measure; give some")
    words = number_words([work, *outputs, *_checked(prompts, outputs)])
    written = words[1 : len(outputs) + 1]
    return Verbatim(
        *_match(words, len(outputs), 5)[:4],
        max(_recall(words[0], one, ((2, 1), (10, 3)), LEAST_OF_PASSAGES) for one in written),
        float(over_yardstick(outputs, work).mean()),
        float(np.mean([_loops(one) for one in written])),
    )


def nv_recall(
    written: str,
    work: str,
    *,
    join: Sequence[tuple[int, int]] = ((2, 1), (10, 3)),
    least: Sequence[int] = LEAST_OF_BOOKS,
) -> float:
    """Near-verbatim recall: the share of a work's words that a text has in long, close blocks.

    Parameters
    ----------
    written, work : str
    join : sequence of (gap, difference)
        For each pass: neighbouring blocks are joined if both texts have at most ``gap`` words
        between them, and numbers of words that differ by at most ``difference``.
    least : sequence of int
        For each pass: blocks with fewer matched words are dropped then.

    Returns
    -------
    float
        Matched words of the blocks that are left, divided by the words of the work.

    Raises
    ------
    InputError
        The work has no words, or the passes of ``join`` and ``least`` are not as many.

    Notes
    -----
    The first blocks are those of ``difflib.SequenceMatcher(None, work, written, autojunk=False)``,
    found in another way: a work of 100,000 words takes 0.1 s against 200 words, and 0.6 s against
    as many. See `copyreg_jax.lm.leakage.common_words.matching_blocks`.

    CopyShield's code takes the matched words of a joined block for its length, so that it sees gaps
    where there are none; here a block ends where it ends.

    References
    ----------
    Ahmed et al., Extracting books from production language models, arXiv:2601.02671, 2026.

    Examples
    --------
    >>> nv_recall("a b x d e f y z", "a b c d e f g h", least=(2, 5))  # a b and d e f
    0.625
    """
    if len(join) != len(least):
        raise InputError(f"join has {len(join)} passes and least {len(least)}; give as many")
    one, other = number_words([work, written])
    return _recall(one, other, join, least)


def matched_spans(
    outputs: Sequence[str], work: str, *, least: int = 5, prompts: Sequence[str] | None = None
) -> Spans:
    """Mark the words of a work that outputs have in spans of many words ("bmc@k").

    Parameters
    ----------
    outputs : sequence of str
    work : str
    least : int
        Number of words k that a span has at least. It counts wherever it is in the work, each time.
    prompts : sequence of str, optional
        What each output continues. Words of a span that are in k words in a row of the output's own
        prompt are removed from it, and what is left counts if it still has k words.

    Raises
    ------
    InputError
        ``least`` is below 1, there is not a prompt for each output, or the work has no words.

    Notes
    -----
    The authors measure the longest span and the number of long ones without regard to the prompt,
    and the longest span only in the passage that was asked for. Here all four numbers are about the
    same spans.

    Runs of k words are numbered by sorting, so nothing depends on a hash. Time and memory grow with
    the words, and with the pairs of equal runs in the work and an output. A work of 100,000 words
    and 64 outputs of 200 words take 0.1 s.

    References
    ----------
    Liu et al., Alignment whack-a-mole, arXiv:2603.20957, 2026.

    Examples
    --------
    >>> found = matched_spans(["a white whale"], "A white whale! That is a white whale.", least=3)
    >>> found.marked.astype(int)
    array([1, 1, 1, 0, 0, 1, 1, 1])
    >>> found.coverage, found.longest_block, found.longest_span, found.num_long
    (0.75, 3, 3, 0)
    """
    if least < 1:
        raise InputError(f"least is {least}; give a number of words, at least 1")
    return _match(number_words([work, *outputs, *_checked(prompts, outputs)]), len(outputs), least)


def degenerate(text: str) -> bool:
    """Whether a text loops: at most 20 words stand thrice in a row or more, 12 words in all.

    So it takes 12 copies of one word, 6 of two words, 4 of three, and 3 of four words to twenty. A
    loop of more words, or with a change in each copy, is not seen. Cost: 20 times the words.

    Examples
    --------
    >>> degenerate("and " + "the sea, " * 6), degenerate("and " + "the sea, " * 5)
    (True, False)
    """
    return _loops(number_words([text])[0])


def extraction_strength(right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Extraction strength of some suffixes, from which true tokens a model finds likeliest.

    Parameters
    ----------
    right : (w, L) bool array
        Whether each token of a suffix is the likeliest one after the true tokens before it. The
        mean of this array is "exact memorization".

    Returns
    -------
    (w,) float64 array
        ``1 - k / L``, where k is the fewest tokens of the suffix that have to be given so that all
        others are right. It is 0 if the last token is wrong; the code of OpenUnlearning has 1 / L
        there, as if that token were right.

    Raises
    ------
    InputError
        ``right`` is no two-dimensional array of bool, or suffixes are empty.

    References
    ----------
    Carlini et al., Extracting training data from large language models, 2021; Dorna et al.,
    OpenUnlearning, arXiv:2506.12618, 2025.

    Examples
    --------
    >>> extraction_strength(np.array([[True, False, True, True], [True, True, True, False]]))
    array([0.5, 0. ])
    """
    if right.ndim != 2 or right.dtype != bool or right.shape[1] == 0:
        raise InputError(
            f"right is {right.dtype} of shape {right.shape}; give bool, windows x tokens"
        )
    return np.logical_and.accumulate(right[:, ::-1], axis=1).mean(axis=1)


def _checked(prompts: Sequence[str] | None, outputs: Sequence[str]) -> Sequence[str]:
    if prompts is not None and len(prompts) != len(outputs):
        raise InputError(f"{len(prompts)} prompts for {len(outputs)} outputs; give one for each")
    return prompts or ()


def _runs(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where runs of True begin and end, a row each."""
    return np.flatnonzero(np.diff(np.pad(flags.astype(np.int8), 1))).reshape(-1, 2)


def _loops(words: _Ints) -> bool:
    for period in range(1, min(_PERIOD, len(words) - 1) + 1):
        runs = _runs(words[period:] == words[:-period])
        again = int((runs[:, 1] - runs[:, 0]).max(initial=0))  # words after the first copy
        if again + period >= max(_COPIES * period, _LOOP):
            return True
    return False


def _match(words: Sequence[_Ints], num_outputs: int, least: int) -> Spans:
    """Spans of the first text, the work, that the outputs after it have, and not their prompts."""
    work = words[0]
    if len(work) == 0:
        raise InputError("the work has no words; give its text")
    own, *grams = number_runs(words, least)
    written, prompts = grams[:num_outputs], grams[num_outputs:]
    order = np.argsort(own, kind="stable")
    ordered = own[order]
    spans: set[tuple[int, int]] = set()
    for k, one in enumerate(written):
        told = np.isin(one, prompts[k]) if prompts else np.zeros(len(one), bool)
        for start, at, count in np.stack(find_stretches(ordered, order, one), axis=1).tolist():
            free = np.convolve(told[at : at + count], np.ones(least, int)) == 0
            spans.update((start + a, start + b) for a, b in _runs(free).tolist() if b - a >= least)
    marked, counted, num_long = np.zeros(len(work), bool), np.zeros(len(work), bool), 0
    for start, end in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        marked[start:end] = True
        if end - start > _LONG and not counted[start:end].any():
            counted[start:end] = True
            num_long += 1
    blocks = _runs(marked)
    return Spans(
        coverage=float(marked.mean()),
        longest_block=int((blocks[:, 1] - blocks[:, 0]).max(initial=0)),
        longest_span=max((end - start for start, end in spans), default=0),
        num_long=num_long,
        marked=marked,
    )


def _recall(
    work: _Ints, written: _Ints, join: Sequence[tuple[int, int]], least: Sequence[int]
) -> float:
    if len(work) == 0:
        raise InputError("the work has no words; give its text")
    start, text_start, matched = matching_blocks(work, written).T
    end, text_end = start + matched, text_start + matched
    for (most, difference), fewest in zip(join, least, strict=True):
        if len(start) == 0:
            break
        gap, text_gap = start[1:] - end[:-1], text_start[1:] - text_end[:-1]
        near = (np.maximum(gap, text_gap) <= most) & (np.abs(gap - text_gap) <= difference)
        first = np.flatnonzero(np.append(True, ~near))
        last = np.append(first[1:], len(start)) - 1
        matched = np.add.reduceat(matched, first)
        kept = matched >= fewest
        first, last, matched = first[kept], last[kept], matched[kept]
        start, text_start = start[first], text_start[first]
        end, text_end = end[last], text_end[last]
    return float(matched.sum() / len(work))
