"""Branch and bound for the global minimum of L, with the tests of boxes that the checker has."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from copyreg_jax.certificates.search_tree import Grown, grow
from copyreg_jax.checker.arithmetic import lower
from copyreg_jax.checker.box_tree import (
    AGAIN,
    CLOSED,
    HALVED,
    OPEN,
    Leaves,
    batch_size,
    cut_at,
    halves,
    least_radius,
    look,
    lowest,
    paired,
)
from copyreg_jax.checker.boxes import Boxes
from copyreg_jax.checker.chart import Chart
from copyreg_jax.checker.theorems import least_loss
from copyreg_jax.checker.verdicts import require

__all__ = ["Frontier", "GlobalProgress", "descend", "search", "start"]

_NUM_STARTS = 48

_STEPS, _HALVINGS = 60, 14

_ENOUGH, _LITTLE = 0.5, 0.9
"""A box that the strips leave at most this part of is looked at again before it is halved.

One that they leave more than the second part of is halved as it is: who replays the tree need not
find the strips then.
"""


class GlobalProgress(NamedTuple):
    """What a callback is told.

    Attributes
    ----------
    num_boxes, num_open : int
        Boxes that were looked at, and that are left to look at.
    lower, upper : float
        Proved bounds of the least value of L.
    """

    num_boxes: int
    num_open: int
    lower: float
    upper: float


@dataclasses.dataclass(frozen=True)
class Frontier:
    """A search that may go on: all global minimizers are in `open` or `kept`.

    Attributes
    ----------
    open, kept : Leaves
        Boxes to look at, and boxes on which L is proved to be above ``upper`` less the gap.
    y : (d,) array
        The best point.
    upper : float
        A proved upper bound of L at it.
    radius : float
        Half the width of the first box.
    tree : Grown
        What was done with each box.
    num_boxes : int
        Boxes that were looked at.
    floor : float
        A lower bound of L that was proved before: a box has the bound that is found from its ends
        alone, which may be less than that of the box that it is a part of.
    """

    open: Leaves
    kept: Leaves
    y: np.ndarray
    upper: float
    radius: float
    tree: Grown
    num_boxes: int = 0
    floor: float = 0.0

    @property
    def lower(self) -> float:
        """A proved lower bound of L everywhere."""
        bounds = lowest(self.open, self.upper), lowest(self.kept, self.upper)
        return max(self.floor, min(bounds))


def start(chart: Chart) -> Frontier:
    """The first box, around the level set of the best of several descents.

    Parameters
    ----------
    chart : Chart

    Returns
    -------
    Frontier
        One open box, a cube.

    Raises
    ------
    VoidError
        L is finite at none of the starts.

    Notes
    -----
    The caller has set FLINT's precision. Cost: that of `descend` from 48 points.

    Examples
    --------
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS
    >>> from copyreg_jax.checker.chart import chart
    >>> from copyreg_jax.checker.data import make_instance
    >>> data = make_instance(
    ...     np.array([[1.0], [0.0], [-1.0]]), np.array([0.7, 0.2, 0.1]),
    ...     np.array([True, False, False]), np.ones(3), np.float64(0.1), "joint",
    ... )
    >>> with ARITHMETIC, ctx.workprec(START_BITS), np.errstate(all="ignore"):
    ...     found = start(chart(data))
    >>> found.y.round(3), round(found.upper, 3)
    (array([-0.329]), 0.724)
    >>> ((found.open.lo < found.y) & (found.y < found.open.hi)).tolist()
    [[True]]
    """
    rng, d = np.random.default_rng(0), chart.d
    sizes = np.geomspace(0.01, 100, _NUM_STARTS) / np.abs(chart.groups[0].B).max()
    y, values = descend(chart, rng.standard_normal((_NUM_STARTS, d)) * sizes[:, None])
    require(
        bool(np.isfinite(values).any()),
        "L is finite at no start: ell_1 is zero, or A, w or gamma is too large",
    )
    best = int(np.nanargmin(values))
    # A little more: who checks it has the x of y, which is rounded.
    radius = least_radius(chart, float(values[best])) * (1 + 2.0**-30)
    corner, nothing = np.full((1, d), radius), np.empty((0, d))
    bound = np.full(1, max(lower(least_loss(chart.data)), 0.0))
    return Frontier(
        Leaves(-corner, corner, bound, np.zeros(1, np.int64)),
        Leaves(nothing, nothing, np.empty(0), np.empty(0, np.int64)),
        y[best],
        float(values[best]),
        radius,
        Grown(1, None),
    )


def descend(chart: Chart, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Newton steps with halvings from (m, d) points; ends, and proved upper bounds of L there.

    Parameters
    ----------
    chart : Chart
    y : (m, d) array of float64
        Starts, in the coordinates of the chart.

    Returns
    -------
    y : (m, d) array of float64
        A point for each start, at which L is proved to be no higher.
    values : (m,) array of float64
        Upper bounds of L there; NaN or infinite where none is proved.

    Notes
    -----
    Up to 60 steps of up to 14 trials, each O(m n d) with a Hessian of O(m n d^2) a step. Overflow
    is part of it: call it under ``np.errstate(all="ignore")``.

    Examples
    --------
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS
    >>> from copyreg_jax.checker.chart import chart
    >>> from copyreg_jax.checker.data import make_instance
    >>> data = make_instance(
    ...     np.array([[1.0], [0.0], [-1.0]]), np.array([0.7, 0.2, 0.1]),
    ...     np.array([True, False, False]), np.ones(3), np.float64(0.1), "joint",
    ... )
    >>> with ARITHMETIC, ctx.workprec(START_BITS), np.errstate(all="ignore"):
    ...     ends, values = descend(chart(data), np.array([[-0.5], [0.0], [3.0]]))
    >>> ends.round(4).ravel().tolist(), values.round(4).tolist()
    ([-0.329, -0.329, 2.9564], [0.7235, 0.7235, 7.5489])
    """
    values = Boxes(chart, y, y).value_at_center.hi
    for _ in range(_STEPS):
        curvature = Boxes(chart, y, y).curvature
        H, slope = np.nan_to_num(curvature.H), np.nan_to_num(curvature.gradient)
        eigenvalues, vectors = np.linalg.eigh(np.clip(H, -1e100, 1e100))
        eigenvalues = np.maximum(np.abs(eigenvalues), 1e-12)
        along = np.einsum("mji,mj->mi", vectors, slope) / eigenvalues
        step = -np.einsum("mij,mj->mi", vectors, along)
        is_open, moved = np.ones(len(y), bool), False
        for _ in range(_HALVINGS):
            ahead = Boxes(chart, y + step, y + step).value_at_center.hi
            better = is_open & ((ahead < values) | (np.isnan(values) & (ahead < np.inf)))
            y = np.where(better[:, None], y + step, y)
            values = np.where(better, ahead, values)
            is_open, moved = is_open & ~better, moved or bool(better.any())
            if not is_open.any():
                break
            step = step * 0.3
        if not moved:
            break
    return y, values


def search(
    chart: Chart,
    frontier: Frontier,
    gap: float,
    max_boxes: int,
    max_seconds: float,
    callback: Callable[[GlobalProgress], bool | None] | None,
) -> Frontier:
    """Look at boxes, those with the least bounds first, until none is open or a limit is met.

    Ctrl-C ends it too: a batch is done as a whole, or not at all.

    Parameters
    ----------
    chart : Chart
    frontier : Frontier
        Of `start` or an earlier search; it is not changed.
    gap : float
        Boxes on which L is proved to be at least ``cut_at(frontier.upper, gap)`` are closed.
    max_boxes : int
        Stop once so many more were looked at; the last batch may go beyond, by up to 1,023.
    max_seconds : float
        Look at no further batch after so long.
    callback : callable or None
        Is told a `GlobalProgress` before each batch; stops the search by returning True.

    Returns
    -------
    Frontier
        With no open box, if no limit was met.

    Notes
    -----
    Call it under ``np.errstate(all="ignore")``. A box costs O(n d (2^d + d)) up to six columns.

    Examples
    --------
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS
    >>> from copyreg_jax.checker.chart import chart
    >>> from copyreg_jax.checker.data import make_instance
    >>> data = make_instance(
    ...     np.array([[1.0], [0.0], [-1.0]]), np.array([0.7, 0.2, 0.1]),
    ...     np.array([True, False, False]), np.ones(3), np.float64(0.1), "joint",
    ... )
    >>> with ARITHMETIC, ctx.workprec(START_BITS), np.errstate(all="ignore"):
    ...     coordinates = chart(data)
    ...     found = search(coordinates, start(coordinates), 1e-6, 1000, 60.0, None)
    >>> len(found.open.bound), round(found.upper, 4), found.upper - found.lower <= 1e-6
    (0, 0.7235, True)
    """
    end, most = time.monotonic() + max_seconds, frontier.num_boxes + max_boxes
    batch = batch_size(chart)
    with contextlib.suppress(KeyboardInterrupt):
        while len(frontier.open.bound):
            progress = GlobalProgress(
                frontier.num_boxes, len(frontier.open.bound), frontier.lower, frontier.upper
            )
            if callback is not None and callback(progress):
                break
            if frontier.num_boxes >= most or time.monotonic() >= end:
                break
            frontier = _advance(chart, frontier, gap, batch)
    return frontier


def _advance(chart: Chart, frontier: Frontier, gap: float, batch: int) -> Frontier:
    """Look at one batch."""
    order = np.arange(len(frontier.open.bound))
    if len(order) > batch:
        order = np.argpartition(frontier.open.bound, batch)
    now, later = frontier.open.take(order[:batch]), frontier.open.take(order[batch:])
    boxes = paired(chart, now.lo, now.hi)
    y, best = frontier.y, frontier.upper
    values = boxes.value_at_center.hi
    ahead = int(np.argmin(np.where(np.isnan(values), np.inf, values)))
    if values[ahead] < best:
        found, reached = descend(chart, boxes.center[ahead : ahead + 1])
        y, best = found[0], float(reached[0])
    looked = look(boxes, best).first(len(now.bound))
    is_closed = looked.is_closed(cut_at(best, gap))
    width = now.hi - now.lo
    shares = np.where(width > 0, (looked.hi - looked.lo) / np.where(width > 0, width, 1), 1)
    share = np.where(is_closed, 1.0, shares.prod(axis=1))
    does_cut = share <= _LITTLE
    lo = np.where(does_cut[:, None], looked.lo, now.lo)
    hi = np.where(does_cut[:, None], looked.hi, now.hi)
    # A box of neighboring floats can't be halved: it is kept, with the bound that it has.
    middle = np.clip(0.5 * lo + 0.5 * hi, lo, hi)
    can_halve = (lo < middle) & (middle < hi)
    again = ~is_closed & (share <= _ENOUGH)
    stuck = ~is_closed & ~again & ~can_halve.any(axis=1)
    halve = ~is_closed & ~again & ~stuck
    axis = np.argmax(np.where(can_halve, looked.scores, -1.0), axis=1)
    ops = np.select([is_closed, stuck, again], [CLOSED, OPEN, AGAIN], HALVED + 2 * axis + does_cut)
    tree, first = grow(frontier.tree, now.node, ops.astype(np.uint8))
    # A box is kept as its node has it; from there, a smaller gap or another search goes on.
    is_kept = stuck | (is_closed & looked.is_left(best))
    kept = now._replace(bound=looked.bound).take(is_kept)
    bound = np.fmax(now.bound, looked.bound)
    two = halves(lo[halve], hi[halve], axis[halve])
    nodes = (first[halve][:, None] + np.arange(2)).ravel()
    return Frontier(
        later.join(
            Leaves(lo[again], hi[again], bound[again], first[again]),
            Leaves(*two, np.repeat(bound[halve], 2), nodes),
        ),
        frontier.kept.join(kept),
        y,
        best,
        frontier.radius,
        tree,
        frontier.num_boxes + len(now.bound),
        frontier.lower,
    )
