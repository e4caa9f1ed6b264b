"""From the boxes that a search leaves to disjoint sets around all global minimizers.

The sets are boxes in the coordinates y of a `Chart`. The theorems are in docs/theory/global.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from flint import arb

from copyreg_jax.checker.arithmetic import Box, between, sum_balls, upper
from copyreg_jax.checker.box_tree import Leaves, batches, paired, stripped
from copyreg_jax.checker.chart import Chart

__all__ = ["Found", "OnSets", "contracted", "hulls", "is_inside", "mass_direction", "on_sets",
           "parts", "reaches"]  # fmt: skip

_MOST_CLUSTERED = 2_000
"""Leaves beyond this number are enclosed together."""

_ROUNDS = 50
"""At most so many contractions of an enclosure."""


class Found(NamedTuple):
    """Boxes (k, d) that contain all global minimizers, and bounds (k,) of L at those in each."""

    lo: np.ndarray
    hi: np.ndarray
    lower: np.ndarray


class OnSets(NamedTuple):
    """What holds on the whole of k boxes.

    Attributes
    ----------
    is_convex : (k,) bool array
        L is proved to be strictly convex there, so it has one minimizer there at most.
    margin, protected_mass : Box
        (k,) enclosures; an end that is not known is infinite.
    """

    is_convex: np.ndarray
    margin: Box
    protected_mass: Box


def parts(chart: Chart, leaves: Leaves) -> Found:
    """What strips leave of each leaf; more than 2,000 leaves are one box."""
    if len(leaves.bound) > _MOST_CLUSTERED:
        hull = leaves.lo.min(axis=0), leaves.hi.max(axis=0), leaves.bound.min()
        return Found(*(np.asarray(v)[None] for v in hull))
    return contracted(chart, Found(leaves.lo, leaves.hi, leaves.bound), rounds=1)


def hulls(leaves: Found) -> Found:
    """Disjoint boxes that cover the leaves: hulls of those that meet, until no two meet."""
    found: list[tuple[np.ndarray, np.ndarray, float]] = []
    for i in range(len(leaves.lower)):
        one = leaves.lo[i], leaves.hi[i], float(leaves.lower[i])
        size = len(found) + 1
        while len(found) < size:  # a hull may meet those that its parts did not
            size, apart = len(found), []
            for other in found:
                if ((one[0] <= other[1]) & (other[0] <= one[1])).all():
                    one = (
                        np.minimum(one[0], other[0]),
                        np.maximum(one[1], other[1]),
                        min(one[2], other[2]),
                    )
                else:
                    apart.append(other)
            found = apart
        found.append(one)
    return Found(*(np.array(v) for v in zip(*found, strict=True))) if found else leaves


def contracted(
    chart: Chart, found: Found, goal: Found | None = None, rounds: int = _ROUNDS
) -> Found:
    """Cut boxes down to their stationary points, and drop those that have none.

    Parameters
    ----------
    chart : Chart
    found : Found
    goal : Found, optional
        Go on until a box is inside of one of these, or does not change; without it, until it hardly
        gets smaller.
    rounds : int, default 50
        But so many times at most.

    Notes
    -----
    Call it under ``np.errstate(all="ignore")``.

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
    >>> boxes = Found(np.array([[-0.35], [0.5]]), np.array([[-0.3], [0.6]]), np.array([0.7, 0.7]))
    >>> with ARITHMETIC, ctx.workprec(START_BITS), np.errstate(all="ignore"):
    ...     found = contracted(chart(data), boxes)
    >>> found.lo.round(5).tolist(), found.hi.round(5).tolist()
    ([[-0.32896]], [[-0.32896]])
    """
    lo, hi = found.lo.copy(), found.hi.copy()
    is_empty = np.zeros(len(lo), bool)
    which = np.arange(len(lo))
    for _ in range(rounds):
        if goal is not None:
            which = which[~is_inside(lo[which], hi[which], goal).any(axis=1)]
        if not which.size:
            break
        new_lo, new_hi = _stripped(chart, lo[which], hi[which])
        is_empty[which] = (new_lo > new_hi).any(axis=1)
        least = 0.9 if goal is None else 1.0
        before = (hi[which] - lo[which]).sum(axis=1)
        shrinks = (new_hi - new_lo).sum(axis=1) < least * before
        lo[which], hi[which] = new_lo, new_hi
        which = which[shrinks & ~is_empty[which]]
    return Found(*(v[~is_empty] for v in (lo, hi, found.lower)))


def _stripped(chart: Chart, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What strips leave of boxes, which may be more than fit in memory together."""
    new_lo, new_hi = np.empty_like(lo), np.empty_like(hi)
    for some in batches(chart, np.arange(len(lo))):
        left = stripped(paired(chart, lo[some], hi[some]).curvature)
        new_lo[some], new_hi[some] = (v[: len(some)] for v in left)
    return new_lo, new_hi


def is_inside(lo: np.ndarray, hi: np.ndarray, sets: Found) -> np.ndarray:
    """(m, k) whether each of m boxes is a part of each of k sets."""
    above = (sets.lo[None] <= lo[:, None]).all(axis=2)
    return np.asarray(above & (hi[:, None] <= sets.hi[None]).all(axis=2))


def on_sets(chart: Chart, lo: np.ndarray, hi: np.ndarray) -> OnSets:
    """What holds on boxes as a whole."""
    is_convex = np.zeros(len(lo), bool)
    margin, mass = (Box(*np.empty((2, len(lo)))) for _ in range(2))
    for some in batches(chart, np.arange(len(lo))):
        boxes = paired(chart, lo[some], hi[some])
        is_convex[some] = boxes.curvature.is_convex[: len(some)]
        for whole, part in ((margin, boxes.margin), (mass, boxes.protected_mass)):
            whole.lo[some], whole.hi[some] = part.lo[: len(some)], part.hi[: len(some)]
    return OnSets(is_convex, _known(margin), _known(mass))


def _known(v: Box) -> Box:
    """Ends that are no numbers are infinite; `nan_to_num` would make infinite ones finite, too."""
    is_known = np.isfinite(v.lo), np.isfinite(v.hi)
    return Box(np.where(is_known[0], v.lo, -np.inf), np.where(is_known[1], v.hi, np.inf))


def mass_direction(chart: Chart, masses: Box) -> str:
    """Whether the masses of all sets are proved to be below or above that of b."""
    b = chart.data.b[chart.data.protected].tolist()
    target = sum_balls(map(arb, b))
    if all(v < target for v in map(arb, masses.hi.tolist())):
        return "suppressed"
    if all(v > target for v in map(arb, masses.lo.tolist())):
        return "amplified"
    return "undecided"


def reaches(chart: Chart, lo: np.ndarray, hi: np.ndarray, x: np.ndarray) -> list[float]:
    """How far, in each of the d coordinates, a point of the box ``x = V [lo, hi]`` is from x.

    The points meant are zero in the columns that are not needed. The caller has set FLINT's
    precision.
    """
    y = [between(*ends) for ends in zip(lo.tolist(), hi.tolist(), strict=True)]
    at = dict.fromkeys(range(chart.data.d), arb(0))
    for j, row in zip(chart.columns, chart.V.tolist(), strict=True):
        at[j] = sum_balls(arb(v) * each for v, each in zip(row, y, strict=True))
    return [upper(abs(at[j] - arb(v))) for j, v in enumerate(x.tolist())]
