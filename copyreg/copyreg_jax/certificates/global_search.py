"""Branch and bound for the global minimum of L, with the tests of boxes that the checker has."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from flint import arb

from copyreg_jax.checker.arithmetic import lower, upper
from copyreg_jax.checker.boxes import Boxes
from copyreg_jax.checker.chart import Chart
from copyreg_jax.checker.theorems import least_loss
from copyreg_jax.checker.verdicts import require

__all__ = ["LEAST_SCALE", "Frontier", "GlobalProgress", "Leaves", "descend", "search", "start"]

_BATCH_NUMBERS = 250_000
"""Numbers in an array of a batch, about: more cost memory, fewer cost the interpreter's time."""

_NUM_STARTS = 48

_STEPS, _HALVINGS = 60, 14

_ENOUGH = 0.5
"""A box that the strips leave at most this part of is looked at again before it is halved."""


LEAST_SCALE = 2.0**-40
"""A gap is relative to the least value of L, or to this if that is smaller."""


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


class Leaves(NamedTuple):
    """Boxes (k, d) and lower bounds (k,) of L on them."""

    lo: np.ndarray
    hi: np.ndarray
    bound: np.ndarray

    def take(self, which: np.ndarray) -> Leaves:
        """Some of them."""
        return Leaves(*(v[which] for v in self))

    def join(self, other: Leaves) -> Leaves:
        """All of both."""
        return Leaves(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


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
    num_boxes : int
        Boxes that were looked at.
    """

    open: Leaves
    kept: Leaves
    y: np.ndarray
    upper: float
    num_boxes: int = 0

    def cut(self, gap: float) -> float:
        """A box on which L is proved to be no less needs no closer look."""
        return self.upper - gap * max(self.upper, LEAST_SCALE)

    @property
    def lower(self) -> float:
        """A proved lower bound of L everywhere."""
        bounds = np.concatenate([self.open.bound, self.kept.bound])
        return float(min(self.upper, bounds.min(initial=np.inf)))


def start(chart: Chart) -> Frontier:
    """The first box, from the level set of the best of several descents.

    ``L_reg <= upper - least_loss`` for every global minimizer, and ``(1 - d defect) |y|^2 / 2 <=
    L_reg``.

    Parameters
    ----------
    chart : Chart

    Returns
    -------
    Frontier
        One open box, the cube around that ball.

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
    least = least_loss(chart.data)
    square = 2 * (arb(float(values[best])) - least) / (1 - d * arb(chart.defect))
    radius = upper(square.nonnegative_part().sqrt())
    corner = np.full((1, d), radius)
    nothing = np.empty((0, d))
    return Frontier(
        Leaves(-corner, corner, np.full(1, max(lower(least), 0.0))),
        Leaves(nothing, nothing, np.empty(0)),
        y[best],
        float(values[best]),
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
        Boxes on which L is proved to be at least ``frontier.cut(gap)`` are kept as they are.
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
    corners = (1 << chart.d if chart.d < 30 else 1) + 2
    batch = max(1, min(1024, _BATCH_NUMBERS // (chart.data.n * chart.d * min(corners, 66))))
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
    boxes = Boxes(chart, now.lo, now.hi)
    y, best = frontier.y, frontier.upper
    values = boxes.value_at_center.hi
    ahead = int(np.argmin(np.where(np.isnan(values), np.inf, values)))
    if values[ahead] < best:
        found, reached = descend(chart, boxes.center[ahead : ahead + 1])
        y, best = found[0], float(reached[0])
    cut = dataclasses.replace(frontier, upper=best).cut(gap)
    bound = np.fmax(now.bound, boxes.value_bound)
    is_open = ~(bound >= cut)
    kept = Leaves(now.lo, now.hi, bound).take((bound >= cut) & ~(bound > best))
    boxes, bound = boxes.take(is_open), bound[is_open]
    children = Leaves(boxes.lo, boxes.hi, bound)
    if len(bound):
        curvature = boxes.curvature
        bound = np.fmax(bound, curvature.value_bound)
        is_empty = curvature.is_concave
        lo, hi = boxes.lo, boxes.hi
        for strips in (curvature.direct_strips(), curvature.mean_value_strips()):
            left = curvature.contract(strips)
            lo, hi = np.maximum(lo, left[0]), np.minimum(hi, left[1])
        is_empty = is_empty | (lo > hi).any(axis=1)
        leaves = Leaves(lo, hi, bound)
        kept = kept.join(leaves.take((bound >= cut) & ~(bound > best) & ~is_empty))
        is_open = ~(bound >= cut) & ~is_empty
        width = boxes.hi - boxes.lo
        shares = np.where(width > 0, (hi - lo) / np.where(width > 0, width, 1), 1)
        again = is_open & (shares.prod(axis=1) <= _ENOUGH)
        # A box of neighboring floats can't be halved: it is kept, with the bound that it has.
        middle = np.clip(0.5 * lo + 0.5 * hi, lo, hi)
        can_halve = (lo < middle) & (middle < hi)
        stuck = is_open & ~again & ~can_halve.any(axis=1)
        kept = kept.join(leaves.take(stuck))
        halve = is_open & ~again & ~stuck
        scores = np.where(can_halve, curvature.split_scores, -1.0)
        children = leaves.take(again).join(_halves(leaves.take(halve), scores[halve]))
    return Frontier(
        later.join(children),
        frontier.kept.join(kept),
        y,
        best,
        frontier.num_boxes + len(now.bound),
    )


def _halves(leaves: Leaves, scores: np.ndarray) -> Leaves:
    """Each box as two that share a face."""
    middle = 0.5 * leaves.lo + 0.5 * leaves.hi
    axis = np.argmax(scores, axis=1)
    each = np.arange(len(axis))
    left, right = leaves.hi.copy(), leaves.lo.copy()
    left[each, axis] = right[each, axis] = middle[each, axis]
    return Leaves(leaves.lo, left, leaves.bound).join(Leaves(right, leaves.hi, leaves.bound))
