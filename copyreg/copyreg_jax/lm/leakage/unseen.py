"""Held-out texts of an audit: that they are no part of a work, and what of them is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.duplicates import first_of_clusters, near_duplicates
from copyreg_jax.lm.leakage.calibration import Calibration, calibrate
from copyreg_jax.lm.leakage.passages import Passages, excerpt, runs
from copyreg_jax.lm.leakage.teacher_forced import Suffixes

__all__ = ["Unseen", "as_long", "compare", "draw", "refuse_overlap"]

_RUN = 50
"""So many tokens in a row in a work and in a held-out text are no chance."""

_EXCERPT = 2000
"""Characters of a held-out text that are measured at least."""


class Unseen(NamedTuple):
    """What is measured of the held-out texts.

    Attributes
    ----------
    size : int
        Characters of an excerpt.
    excerpts : dict of str
        An excerpt of each text.
    drawn : (m, prefix + suffix) int32 array
        A passage of one text of each of m clusters of near-duplicates, drawn from all of them.
    chosen : tuple of str
        The names of those texts.
    """

    size: int
    excerpts: dict[str, Passages]
    drawn: NDArray[np.int32]
    chosen: tuple[str, ...]


def refuse_overlap(
    works: Mapping[str, str], held_out: Mapping[str, str], passages: Mapping[str, Passages]
) -> NDArray[np.int64]:
    """Refuse a held-out text that has part of a work, word for word or in another edition.

    That is 50 tokens in a row, or half of the runs of 13 words of the shorter text.

    Returns
    -------
    (h,) array
        The cluster of near-duplicates that each held-out text is in.

    Raises
    ------
    InputError
        Such a text, with the work.
    """
    advice = "so it is not unseen text; hold out another, or remove from both what they share"
    labels = near_duplicates([*works.values(), *held_out.values()])
    of_works = dict(zip(labels.tolist()[: len(works)], works, strict=True))
    for name, label in zip(held_out, labels.tolist()[len(works) :], strict=True):
        if label in of_works:
            raise InputError(f"{name} shares much of its wording with {of_works[label]}, {advice}")
    of_work = {work: runs(passages[work], _RUN) for work in works}
    known = np.sort(np.concatenate(list(of_work.values())))
    for name in held_out:
        own = runs(passages[name], _RUN)
        place = np.minimum(np.searchsorted(known, own), len(known) - 1)
        if len(known) and (known[place] == own).any():
            work = next(work for work, theirs in of_work.items() if np.isin(own, theirs).any())
            raise InputError(f"{name} shares {_RUN} tokens in a row with {work}, {advice}")
    return labels[len(works) :]


def draw(
    works: Mapping[str, str], held_out: Mapping[str, str], passages: Mapping[str, Passages],
    clusters: NDArray[np.int64], seed: int,
) -> Unseen:  # fmt: skip
    """Draw an excerpt of each held-out text, and a passage of each that is no near-duplicate.

    Excerpts are so long that together they are as long as the works, but no longer than three
    quarters of the texts.
    """
    size = max(sum(map(len, works.values())) // max(len(held_out), 1), _EXCERPT)
    if held_out:
        size = min(size, int(np.quantile([len(text) for text in held_out.values()], 0.25)))
    excerpts = {name: excerpt(passages[name], size, seed + k) for k, name in enumerate(held_out)}
    chosen = tuple(list(held_out)[k] for k in first_of_clusters(clusters))
    rng = np.random.default_rng([seed, 1])
    drawn = np.zeros((len(chosen), next(iter(passages.values())).size), np.int32)
    for row, name in zip(drawn, chosen, strict=True):
        first = passages[name].place[rng.integers(len(passages[name].place))]
        row[:] = passages[name].stream[first : first + len(row)]
    return Unseen(size, excerpts, drawn, chosen)


def compare(
    work: Passages,
    of_work: Suffixes,
    unseen: Unseen,
    found: Mapping[str, Suffixes],
    of_drawn: Suffixes,
    alpha: float,
    seed: int,
) -> Calibration | None:
    """Calibrate a work by the held-out texts; None without any."""
    if not unseen.chosen:
        return None
    own = _excerpt(work, unseen, seed)
    inside = np.isin(work.place, own.place)
    return calibrate(
        of_work.log_p, of_drawn.log_p, [found[name].log_p for name in unseen.chosen],
        alpha=alpha, excerpt=of_work.log_p[inside],
        documents=[found[name].log_p for name in _documents(unseen)],
    )  # fmt: skip


def as_long(
    works: Iterable[str], passages: Mapping[str, Passages], unseen: Unseen, seed: int
) -> dict[str, Passages]:
    """Excerpts of the works and of all held-out texts that are long enough; none without these."""
    documents = {name: unseen.excerpts[name] for name in _documents(unseen)}
    own = {name: _excerpt(passages[name], unseen, seed) for name in works}
    return own | documents if documents else {}


def _excerpt(work: Passages, unseen: Unseen, seed: int) -> Passages:
    """The excerpt of a work; the held-out texts had the seeds before."""
    return excerpt(work, unseen.size, seed + len(unseen.excerpts))


def _documents(unseen: Unseen) -> list[str]:
    """One text of each cluster whose excerpt is not cut short."""
    return [name for name in unseen.chosen if unseen.excerpts[name].length >= unseen.size]
