"""The boxes of a tree, made again out of the first one: those that are left hold all minimizers.

The boxes below a box cover all of it that may hold a global minimizer, whatever the bytes of the
tree are. The theorem is in docs/theory/global.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from copyreg_jax.checker.arithmetic import lower
from copyreg_jax.checker.box_tree import (
    AGAIN,
    CLOSED,
    HALVED,
    OPEN,
    Leaves,
    Looked,
    batches,
    children,
    cut_at,
    halves,
    look,
    paired,
    stripped,
)
from copyreg_jax.checker.chart import Chart
from copyreg_jax.checker.theorems import least_loss
from copyreg_jax.checker.verdicts import require

__all__ = ["Replayed", "replay"]

_REPAIRS = 12
"""So many times a box that should be closed and is not may be halved."""


class Replayed(NamedTuple):
    """The boxes in which all global minimizers are, and whether each is open or closed."""

    leaves: Leaves
    is_open: np.ndarray


def replay(
    chart: Chart,
    tree: np.ndarray,
    radius: float,
    value: float,
    gap: float,
    *,
    repair: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> Replayed:
    """The leaves of a tree: all points of the cube with L at most ``value`` that may be minimizers.

    Parameters
    ----------
    chart : Chart
    tree : (k,) uint8 array
        Of `require_tree`. Nothing in it is believed.
    radius : float
        Half the width of the first box, around zero.
    value : float
        A proved upper bound of L somewhere. Boxes on which L is proved to be above it are left out.
    gap : float
        Boxes are closed at ``cut_at(value, gap)``.
    repair : bool, default True
        Halve boxes that should be closed and are not, up to 12 times, and about a quarter as many
        boxes as the tree has: another machine may have added in another order.
    progress : callable, optional
        Told from time to time how many bytes are done.

    Returns
    -------
    Replayed
        Boxes that could not be closed are open, and so are those that the tree leaves open.

    Raises
    ------
    VoidError
        A bound is proved to be wrong.

    Notes
    -----
    Call it under ``np.errstate(all="ignore")``, with FLINT's precision set. The cost is that of
    `look` for each leaf, and of strips where the tree asks for them; halving is free.

    Examples
    --------
    >>> import numpy as np
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS
    >>> from copyreg_jax.checker.chart import chart
    >>> from copyreg_jax.checker.data import make_instance
    >>> data = make_instance(
    ...     np.array([[1.0], [0.0], [-1.0]]), np.array([0.7, 0.2, 0.1]),
    ...     np.array([True, False, False]), np.ones(3), np.float64(0.1), "joint",
    ... )
    >>> tree = np.array([HALVED, OPEN, CLOSED], np.uint8)
    >>> with ARITHMETIC, ctx.workprec(START_BITS), np.errstate(all="ignore"):
    ...     found = replay(chart(data), tree, 2.0, 0.73, 1e-6)
    >>> found.leaves.lo.tolist(), found.leaves.hi.tolist(), found.is_open.tolist()
    ([[-2.0]], [[0.0]], [True])
    """
    least = max(lower(least_loss(chart.data)), 0.0)
    cut = cut_at(value, gap)
    corner = np.full((1, chart.d), radius)
    ends, node, alive = (-corner, corner), np.zeros(1, np.int64), np.ones(1, bool)
    leaves, claims, done = [], [], 0
    while len(node):
        bytes_ = tree[node]
        is_leaf = alive & (bytes_ <= OPEN)
        leaves.append(Leaves(ends[0], ends[1], np.full(len(node), least), node).take(is_leaf))
        claims.append(bytes_[is_leaf] == CLOSED)
        is_cut = (bytes_ == AGAIN) | ((bytes_ >= HALVED) & ((bytes_ - HALVED) % 2 == 1))
        lo, hi = ends[0].copy(), ends[1].copy()
        for some in batches(chart, np.flatnonzero(alive & is_cut)):
            left = stripped(paired(chart, lo[some], hi[some]).curvature)
            lo[some], hi[some] = left[0][: len(some)], left[1][: len(some)]
        alive = alive & ~(lo > hi).any(axis=1)
        numbers = children(bytes_)
        done += len(node) - int(is_leaf.sum())
        ends, alive = _below(lo, hi, bytes_, numbers, alive)
        node = node[-1] + 1 + np.arange(numbers.sum())
        progress(done)
    found = leaves[0].join(*leaves[1:])
    bound, is_open = found.bound.copy(), ~np.concatenate(claims)
    is_left, failed = np.ones(len(bound), bool), []
    for some in batches(chart, np.arange(len(bound))):
        now = found.take(some)
        looked = _checked(chart, now, value)
        is_closed = looked.is_closed(cut)
        bound[some], is_left[some] = looked.bound, looked.is_left(value)
        lost = ~is_closed & ~is_open[some]
        is_open[some] = ~is_closed
        if repair and lost.any():
            parts = Leaves(looked.lo, looked.hi, looked.bound, now.node).take(lost)
            failed.append((parts, looked.scores[lost]))
            is_left[some[lost]] = False
        done += len(some)
        progress(done)
    whole = Replayed(found._replace(bound=bound).take(is_left), is_open[is_left])
    if not failed:
        return whole
    lost_leaves = failed[0][0].join(*(parts for parts, _ in failed[1:]))
    scores = np.concatenate([each for _, each in failed])
    return _repaired(chart, whole, lost_leaves, scores, value, cut, len(tree) // 4 + 1000)


def _checked(chart: Chart, leaves: Leaves, value: float) -> Looked:
    """What is proved of boxes; no bound may be above what L is at their centers."""
    boxes = paired(chart, leaves.lo, leaves.hi)
    looked = look(boxes, value)
    wrong = looked.bound > boxes.value_at_center.hi
    require(not wrong.any(), "the control failed: L is below its bound at the center of a box")
    looked = looked.first(len(leaves.bound))
    return looked._replace(bound=np.fmax(looked.bound, leaves.bound))


def _below(
    lo: np.ndarray, hi: np.ndarray, tree: np.ndarray, numbers: np.ndarray, alive: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The boxes of the next level; those below a box that is proved to be empty are not alive."""
    first = np.cumsum(numbers) - numbers
    new_lo, new_hi = np.empty((2, int(numbers.sum()), lo.shape[1]))
    again, halved = np.flatnonzero(tree == AGAIN), np.flatnonzero(tree >= HALVED)
    new_lo[first[again]], new_hi[first[again]] = lo[again], hi[again]
    both = (first[halved][:, None] + np.arange(2)).ravel()
    axis = (tree[halved].astype(np.int64) - HALVED) // 2
    new_lo[both], new_hi[both] = halves(lo[halved], hi[halved], axis)
    return (new_lo, new_hi), np.repeat(alive, numbers)


def _repaired(
    chart: Chart,
    whole: Replayed,
    lost: Leaves,
    scores: np.ndarray,
    value: float,
    cut: float,
    most: int,
) -> Replayed:
    """Halve boxes that should be closed until they are; what is not, in the end, is open."""
    parts, states = [whole.leaves], [whole.is_open]
    for _ in range(_REPAIRS):
        most -= 2 * len(lost.bound)
        if most < 0 or not len(lost.bound):
            break
        lo, hi = halves(lost.lo, lost.hi, np.argmax(scores, axis=1))
        now = Leaves(lo, hi, np.repeat(lost.bound, 2), np.repeat(lost.node, 2))
        looks = [
            _checked(chart, now.take(some), value) for some in batches(chart, np.arange(len(lo)))
        ]
        looked = Looked(*(np.concatenate(v) for v in zip(*looks, strict=True)))
        now, is_closed = now._replace(bound=looked.bound), looked.is_closed(cut)
        kept = now.take(looked.is_left(value) & is_closed)
        parts.append(kept)
        states.append(np.zeros(len(kept.bound), bool))
        lost = now._replace(lo=looked.lo, hi=looked.hi).take(~is_closed)
        scores = looked.scores[~is_closed]
    parts.append(lost)
    states.append(np.ones(len(lost.bound), bool))
    return Replayed(parts[0].join(*parts[1:]), np.concatenate(states))
