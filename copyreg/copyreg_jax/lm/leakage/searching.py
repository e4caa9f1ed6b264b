"""What a model writes nearly word for word of works, and of as many passages of unseen text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax.lm.leakage.constrained_beam import NearVerbatim, search_near
from copyreg_jax.lm.leakage.teacher_forced import Suffixes

__all__ = ["search_works"]

_LABEL = "passage {1} of {0}"


def search_works(
    model: nnx.Module,
    works: Iterable[str],
    held_out: Sequence[str],
    windows: Mapping[str, NDArray[np.int32]],
    found: Mapping[str, Suffixes],
    *,
    progress: Callable[[str, float], None] = lambda name, share: None,
    **options: Any,
) -> dict[str, tuple[NearVerbatim | None, NearVerbatim | None]]:
    """Search each work, and beside it as many passages of held-out texts, both by one rule.

    Parameters
    ----------
    model, options
        See `constrained_beam.search_near`.
    works, held_out : names
        Works, and held-out texts that differ.
    windows : mapping from names to (w, prefix + suffix) int32 arrays
        Passages of works, and of excerpts of the held-out texts, all of one length.
    found : mapping from names to Suffixes
        What the model makes of them.
    progress : callable, optional
        Called with what is searched, and the share of it that is done.

    Returns
    -------
    dict
        By work, what of it and what of the passages beside it is written nearly word for word.
        None without a search, and without held-out text.

    Raises
    ------
    InputError
        See `constrained_beam.search_near`.

    Notes
    -----
    The passages beside a work are a run of those of all held-out texts, one text after the other,
    as many as the work has. The next work has those that follow, from the beginning again after the
    last. If there are fewer in all, each work has all of them. So the likeliest of a work are
    beside the likeliest of equally many, as far as there are as many.

    Cost: twice that of `constrained_beam.search_near` for each work.

    Examples
    --------
    >>> from copyreg_jax.lm.leakage.teacher_forced import read_suffixes
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> model = GPT2(GPT2Config(vocab_size=4, context=8, width=8, num_layers=1, num_heads=2))
    >>> tokens = np.random.default_rng(0).integers(0, 4, (9, 6), np.int32)
    >>> windows = {"work": tokens[:5], "unseen": tokens[5:]}
    >>> found = {name: read_suffixes(model, part, prefix=2) for name, part in windows.items()}
    >>> own, beside = search_works(
    ...     model, ["work"], ["unseen"], windows, found, prefix=2, top_k=None, budget=10,
    ...     number=2, distance=1, width=4,
    ... )["work"]
    >>> own.num_passages, own.num_searched, beside.num_passages, beside.num_searched
    (5, 2, 4, 2)
    """
    searched, first = {}, 0
    for name in works:
        own = search_near(
            model, windows[name], found[name],
            label=functools.partial(_LABEL.format, name),
            callback=functools.partial(progress, f"what is near {name}"), **options,
        )  # fmt: skip
        beside = None
        if held_out:
            rows, suffixes, owner = _run_of(windows, found, held_out, first, len(windows[name]))
            beside = search_near(
                model, rows, suffixes,
                label=lambda k, owner=owner: _LABEL.format(*owner[k]),  # type: ignore[misc]
                callback=functools.partial(progress, f"held-out text beside {name}"), **options,
            )  # fmt: skip
        searched[name] = own, beside
        first += len(windows[name])
    return searched


def _run_of(
    windows: Mapping[str, NDArray[np.int32]], found: Mapping[str, Suffixes],
    names: Sequence[str], first: int, number: int,
) -> tuple[NDArray[np.int32], Suffixes, list[tuple[str, int]]]:  # fmt: skip
    """So many passages of some texts from a number on, what is known of them, and whose they are.

    They are counted through all of the texts, and from the beginning again after the last.
    """
    sizes = [len(windows[name]) for name in names]
    owner = np.repeat(np.arange(len(names)), sizes)
    row = np.concatenate([np.arange(size) for size in sizes])
    place = (first + np.arange(min(number, len(owner)))) % len(owner)
    rows = [row[place[owner[place] == k]] for k in range(len(names))]
    parts = [(name, chosen) for name, chosen in zip(names, rows, strict=True) if len(chosen)]
    tokens = np.concatenate([windows[name][chosen] for name, chosen in parts])
    fields = zip(*([part[chosen] for part in found[name]] for name, chosen in parts), strict=True)
    whose = [(name, k) for name, chosen in parts for k in chosen.tolist()]
    return tokens, Suffixes(*map(np.concatenate, fields)), whose
