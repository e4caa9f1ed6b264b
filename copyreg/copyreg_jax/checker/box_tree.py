"""What is proved of boxes, what is left of them, and the tree of boxes that a search has made.

A tree is one byte a box, breadth first; a box is a part of the one above it, and the first one is
a cube. No box is stored: `box_replay` makes each out of the one above it. `look` is the only place
where a box is closed; the search calls it, too. The theorems are in docs/theory/global.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from flint import arb

from copyreg_jax.checker.arithmetic import upper
from copyreg_jax.checker.box_derivatives import Curvature
from copyreg_jax.checker.boxes import Boxes
from copyreg_jax.checker.chart import Chart
from copyreg_jax.checker.theorems import least_loss
from copyreg_jax.checker.verdicts import require

__all__ = [
    "AGAIN",
    "CLOSED",
    "HALVED",
    "LEAST_SCALE",
    "MAX_LEVELS",
    "OPEN",
    "Leaves",
    "Looked",
    "batch_size",
    "batches",
    "children",
    "cut_at",
    "halves",
    "least_radius",
    "look",
    "lowest",
    "paired",
    "require_tree",
    "stripped",
]

CLOSED, OPEN, AGAIN, HALVED = 0, 1, 2, 3
"""What a byte says of its box: it is closed; it is open; look at what strips leave of it.

``HALVED + 2 j`` halves it along axis j, and one more halves what strips leave of it.
"""

MAX_LEVELS = 10_000
"""No tree is deeper: a box takes some milliseconds if it is alone on its level."""

LEAST_SCALE = 2.0**-40
"""A gap is relative to the least value of L, or to this if that is smaller."""

_BATCH_NUMBERS = 250_000
"""Numbers in an array of a batch, about: more cost memory, fewer cost the interpreter's time."""


class Leaves(NamedTuple):
    """Boxes (k, d), lower bounds (k,) of L on them, and their numbers (k,) in a tree."""

    lo: np.ndarray
    hi: np.ndarray
    bound: np.ndarray
    node: np.ndarray

    def take(self, which: np.ndarray) -> Leaves:
        """Some of them."""
        return Leaves(*(v[which] for v in self))

    def join(self, *others: Leaves) -> Leaves:
        """All of these and others."""
        return Leaves(*(np.concatenate(parts) for parts in zip(self, *others, strict=True)))


class Looked(NamedTuple):
    """What `look` proves of m boxes.

    Attributes
    ----------
    bound : (m,) array
        Lower bounds of L.
    is_empty : (m,) bool array
        Strips leave nothing of the box: it has no stationary point, whatever the bound is.
    lo, hi : (m, d) arrays
        What strips leave of a box in which a global minimizer may be; the others as they are.
    scores : (m, d) array
        How much each axis of such a box adds to what is not known.
    """

    bound: np.ndarray
    is_empty: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    scores: np.ndarray

    def first(self, number: int) -> Looked:
        """The first of the boxes, without those that `paired` has added."""
        return Looked(*(v[:number] for v in self))

    def is_closed(self, cut: float) -> np.ndarray:
        """Boxes that need no closer look: L is proved to be at least the cut, or they are empty."""
        return (self.bound >= cut) | self.is_empty

    def is_left(self, value: float) -> np.ndarray:
        """Boxes in which a global minimizer may be, if L is at most ``value`` somewhere."""
        return ~self.is_empty & ~(self.bound > value)


def cut_at(value: float, gap: float) -> float:
    """A box on which L is proved to be no less needs no closer look, if L is ``value`` at best."""
    return value - gap * max(value, LEAST_SCALE)


def least_radius(chart: Chart, value: float) -> float:
    """Every point with L at most ``value`` has ``|y| <=`` this, and maybe more do.

    ``L_reg <= value - least_loss`` there, and ``(1 - d defect) |y|^2 / 2 <= L_reg``. The caller has
    set FLINT's precision.
    """
    square = 2 * (arb(value) - least_loss(chart.data)) / (1 - chart.d * arb(chart.defect))
    return upper(square.nonnegative_part().sqrt())


def batch_size(chart: Chart) -> int:
    """Number of boxes that are looked at together."""
    corners = (1 << chart.d if chart.d < 30 else 1) + 2
    return max(1, min(1024, _BATCH_NUMBERS // (chart.data.n * chart.d * min(corners, 66))))


def batches(chart: Chart, which: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of boxes, as many at a time as are looked at together."""
    size = batch_size(chart)
    for start in range(0, len(which), size):
        yield which[start : start + size]


def paired(chart: Chart, lo: np.ndarray, hi: np.ndarray) -> Boxes:
    """The boxes, and one alone twice.

    NumPy adds in another order where an axis has length one. With this, what is computed for a box
    does not depend on the batch that it is in.
    """
    which = _paired(np.arange(len(lo)))
    return Boxes(chart, lo[which], hi[which])


def _paired(which: np.ndarray) -> np.ndarray:
    return np.repeat(which, 2) if len(which) == 1 else which


def look(boxes: Boxes, value: float) -> Looked:
    """What is proved of boxes, and what is left of them.

    Parameters
    ----------
    boxes : Boxes
        Two or more, by `paired`.
    value : float
        L is at most that somewhere: boxes on which it is proved to be above get no closer look.

    Returns
    -------
    Looked

    Notes
    -----
    Call it under ``np.errstate(all="ignore")``. What is not needed is not computed: derivatives
    where the values suffice, and strips where the quadratic bound does.

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
    >>> with ARITHMETIC, ctx.workprec(START_BITS), np.errstate(all="ignore"):
    ...     boxes = paired(chart(data), np.array([[-0.5], [1.0]]), np.array([[0.5], [2.0]]))
    ...     looked = look(boxes, 0.73)
    >>> looked.bound.round(2).tolist(), looked.is_left(0.73).tolist()
    ([0.57, 7.01], [True, False])
    """
    bound = np.fmax(boxes.value_bound, 0.0)
    lo, hi = boxes.lo.copy(), boxes.hi.copy()
    is_empty, scores = np.zeros(len(bound), bool), np.zeros_like(lo)
    which = np.flatnonzero(~(bound > value))
    if which.size:
        part = boxes.take(_paired(which))
        curvature, bounds = part.curvature, part.curvature.value_bound[: which.size]
        bound[which] = np.fmax(bound[which], bounds)
        rest = np.flatnonzero(~(bound[which] > value))
        rows = rest
        if 0 < 2 * rest.size < which.size:  # then to begin anew with these takes less time
            curvature, rows = part.take(_paired(rest)).curvature, np.arange(rest.size)
        if rest.size:
            left, here = stripped(curvature), which[rest]
            lo[here], hi[here] = left[0][rows], left[1][rows]
            is_empty[here] = (lo[here] > hi[here]).any(axis=1)
            scores[here] = curvature.split_scores[rows]
    return Looked(bound, is_empty, lo, hi, scores)


def stripped(curvature: Curvature) -> tuple[np.ndarray, np.ndarray]:
    """Ends of what strips leave of boxes; somewhere lo > hi if that is nothing."""
    lo, hi = curvature.boxes.lo, curvature.boxes.hi
    for strips in (curvature.direct_strips(), curvature.mean_value_strips()):
        part = curvature.contract(strips)
        lo, hi = np.maximum(lo, part[0]), np.minimum(hi, part[1])
    return lo, hi


def halves(lo: np.ndarray, hi: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each of m boxes as two that share a face, one after the other: ends (2 m, d)."""
    middle = np.clip(0.5 * lo + 0.5 * hi, lo, hi)
    each = np.arange(len(axis))
    left, right = hi.copy(), lo.copy()
    left[each, axis] = right[each, axis] = middle[each, axis]
    ends = np.stack([lo, right], axis=1), np.stack([left, hi], axis=1)
    return ends[0].reshape(-1, lo.shape[1]), ends[1].reshape(-1, lo.shape[1])


def children(tree: np.ndarray) -> np.ndarray:
    """How many boxes each byte asks for on the next level."""
    return np.where(tree == AGAIN, 1, np.where(tree >= HALVED, 2, 0))


def require_tree(tree: np.ndarray, d: int) -> None:
    """`VoidError` unless the bytes are a whole tree of boxes with d axes, and nothing else."""
    require(bool((tree < HALVED + 2 * d).all()), "the tree halves a box along no axis")
    start, size, numbers = 0, 1, children(tree)
    for _ in range(MAX_LEVELS):
        require(start + size <= len(tree), "the tree is cut short")
        start, size = start + size, int(numbers[start : start + size].sum())
        if size == 0:
            break
    require(size == 0, f"the tree has more than {MAX_LEVELS:,} levels")
    require(start == len(tree), "the tree goes on after its last box")


def lowest(leaves: Leaves, value: float) -> float:
    """A lower bound of L everywhere, if all global minimizers are in the leaves."""
    return float(min(value, leaves.bound.min(initial=math.inf)))
