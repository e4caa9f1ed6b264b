"""Whether a model would give a work away: what its passages say, work by work."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flax import nnx

from copyreg_jax._files import jsonable
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.duplicates import words_of
from copyreg_jax.lm.corpus.tokenizer import bytes_of_tokens
from copyreg_jax.lm.leakage.calibration import Calibration
from copyreg_jax.lm.leakage.constrained_beam import NearVerbatim
from copyreg_jax.lm.leakage.near_verbatim import Verbatim, matched_spans, measure_outputs
from copyreg_jax.lm.leakage.passages import (
    Passages,
    Place,
    TooShortError,
    coverage,
    cut_passages,
    heat_map,
    likeliest_places,
    longest_stretch,
)
from copyreg_jax.lm.leakage.preset import Preset
from copyreg_jax.lm.leakage.sampling import PROBABILITY, discoverable, samples_needed
from copyreg_jax.lm.leakage.searching import search_works
from copyreg_jax.lm.leakage.shelf import Shelf
from copyreg_jax.lm.leakage.teacher_forced import Suffixes, check_top_k, read_suffixes
from copyreg_jax.lm.leakage.unseen import as_long, compare, draw, refuse_overlap
from copyreg_jax.lm.leakage.windows import check_fit
from copyreg_jax.lm.leakage.work_membership import TextScores, score_texts
from copyreg_jax.lm.leakage.writing import decode, write_greedily
from copyreg_jax.lm.models.layers import vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["WorkReport", "Written", "audit_works"]

_USUAL = Preset()

_CELLS = 200
"""Parts of a work in its heat map."""

_PLACES = 5
"""So many passages of a work are named by where they are."""

_DRAWN = "passages drawn of the held-out texts"


class Written(NamedTuple):
    """What the model's own texts after some prefixes share with a work.

    Attributes
    ----------
    num_outputs, num_tokens : int
        Number of texts, and of the tokens of each.
    room : float
        Coverage if the model wrote on as the work does: so few texts have room for no more.
    shared : Verbatim
        What they share with the work.
    """

    num_outputs: int
    num_tokens: int
    room: float
    shared: Verbatim


class WorkReport(NamedTuple):
    """What a model gives away of one work.

    Attributes
    ----------
    name : str
    num_characters, num_passages : int
    excerpt_of : int or None
        Characters of the text that an excerpt was taken of; None for a whole text.
    coverage : float
        Share of the characters that are in a suffix which counts as extracted.
    longest : int
        The most characters in a row that are in such suffixes.
    extractable : float
        Share of the passages whose suffix is in ``budget`` samples with probability 1/2 or more.
    greedy : float
        Share of the passages whose suffix is what the model writes if it always takes the likeliest
        token, without a tie.
    right, strength : float
        Means over the passages of the share of true tokens that are the likeliest, which others
        call exact memorization, and of the extraction strength.
    log_p : float
        log of the probability that a sample is the likeliest suffix.
    log10_samples : float
        log10 of the number of samples that contain the likeliest suffix with probability 1/2;
        ``inf`` if no number does.
    bits : float
        The fewest bits of a passage: no sampler that keeps the order of the logits writes the
        suffix of one of these passages, in these tokens, with a probability above ``2^-bits``.
        Computed in float32, not proved.
    memorized : Calibration or None
        How many passages are likelier than held-out text, all tokens allowed; None without such.
    written : Written or None
        What the model's own texts after some prefixes share with the work; None without any.
    scores : TextScores or None
        Membership scores of an excerpt of the text; None without held-out texts, and for one of
        these that is a near-duplicate of another or shorter than the excerpts.
    near : NearVerbatim or None
        What of the likeliest passages the model writes nearly word for word; None without a search.
    near_held_out : NearVerbatim or None
        The same of as many passages of held-out text; None without a search or such text.
    likeliest : list of Place
        Where the likeliest suffixes are, five at most, which do not overlap; no text.
    heat : list of float
        log10 of the probability that a sample is the likeliest suffix over each of 200 equal parts
        of the work; NaN at the beginning, where no suffix is.
    """

    name: str
    num_characters: int
    excerpt_of: int | None
    num_passages: int
    coverage: float
    longest: int
    extractable: float
    greedy: float
    right: float
    strength: float
    log_p: float
    log10_samples: float
    bits: float
    memorized: Calibration | None
    written: Written | None
    scores: TextScores | None
    near: NearVerbatim | None
    near_held_out: NearVerbatim | None
    likeliest: list[Place]
    heat: list[float]

    def as_json(self) -> dict[str, Any]:
        """Return all of it, with numbers that are finite or None, and no text."""
        content: dict[str, Any] = jsonable(self)
        return content


def audit_works(
    model: nnx.Module,
    tokenizer: Tokenizer,
    works: Mapping[str, str],
    held_out: Mapping[str, str],
    preset: Preset = _USUAL,
    *,
    seed: int = 0,
    store: Path | None = None,
    progress: Callable[[str, float], None] = lambda name, share: None,
    keep: Callable[[Passages, Suffixes], None] = lambda passages, found: None,
) -> tuple[list[WorkReport], list[WorkReport]]:
    """Measure which passages of some works a model would write, beside text it has never seen.

    Parameters
    ----------
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits; causal.
    tokenizer : Tokenizer
        The tokenizer that the model was trained with.
    works, held_out : mappings from names to texts
        The works, and texts of the same kind that the model has never seen; those may be none.
    preset : Preset, default Preset()
    seed : int
        Seed of the choice of held-out passages.
    store : path, optional
        File in which results are kept on the way, so that an audit that was stopped goes on.
    progress : callable, optional
        Called with the name of a text, and the share of its passages that is done.
    keep : callable, optional
        Called for each work with its passages and what the model makes of them.

    Returns
    -------
    works, held_out : lists of WorkReport
        Held-out texts are measured as the works are, but not calibrated or written on, and what is
        near them is at the works.
        Those that are shorter than a passage are left out. Of each an excerpt is taken, see
        `unseen.draw`.

    Raises
    ------
    InputError
        A text is too short or not spelled by the tokenizer, a held-out text has part of a work,
        sizes are above the model's context, or a logit is not finite.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=2)
    >>> preset = Preset(prefix=4, suffix=4, top_k=None)
    >>> (work,), _ = audit_works(
    ...     GPT2(config), train_tokenizer([], vocab_size=257), {"sea": "a white sail, far out"},
    ...     {}, preset,
    ... )
    >>> work.num_passages, work.coverage
    (2, 0.0)
    """
    check_fit(model, tokenizer, preset.prefix, preset.suffix)
    check_top_k(preset.top_k, vocabulary_size(model))
    if not works:
        raise InputError("there is no work to audit; give some")
    texts = {**works, **held_out}
    if len(texts) < len(works) + len(held_out):
        raise InputError("a work and a held-out text have one name; give each its own")
    passages, sizes = {}, (preset.prefix, preset.suffix, preset.stride)
    spelling = bytes_of_tokens(tokenizer)
    for name, text in texts.items():
        try:
            passages[name] = cut_passages(tokenizer, text, *sizes, name=name, spelling=spelling)
        except TooShortError:
            if name in works:
                raise
    held_out = {name: text for name, text in held_out.items() if name in passages}
    clusters = refuse_overlap(works, held_out, passages)
    unseen = draw(works, held_out, passages, clusters, seed)
    lengths = {name: part.length for name, part in passages.items()}
    passages |= unseen.excerpts
    windows = {name: part.tokens for name, part in passages.items()} | {_DRAWN: unseen.drawn}
    shelf = Shelf(store, model, windows, preset.prefix, preset.top_k)
    try:
        found = {
            name: read_suffixes(
                model,
                tokens,
                prefix=preset.prefix,
                top_k=preset.top_k,
                label=functools.partial("passage {1} of {0}".format, name),
                known=shelf.known[name],
                callback=functools.partial(shelf.keep, name, progress),
            )
            for name, tokens in windows.items()
        }
    finally:
        shelf.write()
    reports = {
        name: _report(name, lengths[name], part, found[name], preset)
        for name, part in passages.items()
    }
    searched = search_works(
        model, works, unseen.chosen, windows, found, progress=progress,
        prefix=preset.prefix, top_k=preset.top_k, budget=preset.budget, number=preset.near,
        distance=preset.suffix // 10 if preset.distance is None else preset.distance,
        width=preset.width,
    )  # fmt: skip
    for name, text in works.items():
        part, (near, beside) = passages[name], searched[name]
        keep(part, found[name])
        reports[name] = reports[name]._replace(
            memorized=compare(part, found[name], unseen, found, found[_DRAWN], preset.alpha, seed),
            written=_write(model, tokenizer, text, part, preset),
            near=near,
            near_held_out=beside,
            likeliest=likeliest_places(
                part, preset.prefix, found[name].log_sample, found[name].matched, _PLACES
            ),
        )
    stretches, length = as_long(works, passages, unseen, seed), preset.prefix + preset.suffix - 1
    scored = functools.partial(progress, "membership")
    for name, own in score_texts(model, spelling, stretches, length, scored).items():
        reports[name] = reports[name]._replace(scores=own)
    return [reports[name] for name in works], [reports[name] for name in held_out]


def _report(
    name: str, length: int, passages: Passages, found: Suffixes, preset: Preset
) -> WorkReport:
    extracted = found.log_sample >= math.log(preset.least)
    return WorkReport(
        name=name,
        num_characters=passages.length,
        excerpt_of=None if passages.length == length else length,
        num_passages=len(passages.start),
        coverage=coverage(passages, extracted),
        longest=longest_stretch(passages, extracted),
        extractable=float(discoverable(found.log_sample, preset.budget, PROBABILITY).mean()),
        greedy=float((found.matched == preset.suffix).mean()),
        right=float(found.right.mean()) / preset.suffix,
        strength=float(found.strength.mean()),
        log_p=float(found.log_sample.max()),
        log10_samples=float(samples_needed(found.log_sample.max()).log10),
        bits=float(found.bits.min()),
        memorized=None,
        written=None,
        scores=None,
        near=None,
        near_held_out=None,
        likeliest=[],
        heat=heat_map(passages, found.log_sample / math.log(10), _CELLS).tolist(),
    )


def _write(
    model: nnx.Module, tokenizer: Tokenizer, text: str, passages: Passages, preset: Preset
) -> Written | None:
    """Let the model write on after some prefixes, and compare that with the work."""
    number = min(preset.outputs, len(passages.place))
    if not number or not words_of(text):
        return None
    chosen = np.linspace(0, len(passages.place) - 1, number).astype(int)
    prefixes = passages.rows(chosen)[:, : preset.prefix]
    context = getattr(getattr(model, "config", None), "context", math.inf)
    length = int(min(preset.written, context - preset.prefix + 1))
    outputs = write_greedily(model, prefixes, length).tolist()
    begins = (passages.place[chosen] + preset.prefix).tolist()
    truth = [passages.stream[begin : begin + length].tolist() for begin in begins]
    said, shown, true = (
        [decode(tokenizer, ids) for ids in part] for part in (outputs, prefixes.tolist(), truth)
    )
    room = matched_spans(true, text).coverage
    return Written(number, length, room, measure_outputs(said, text, prompts=shown))
