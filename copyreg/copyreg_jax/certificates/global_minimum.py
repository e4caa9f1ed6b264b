"""The global minimum of copyright regression, proved by branch and bound."""

from __future__ import annotations

import dataclasses
import enum
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flint import ctx

from copyreg_jax.certificates.global_search import (
    LEAST_SCALE,
    Frontier,
    GlobalProgress,
    Leaves,
    search,
    start,
)
from copyreg_jax.certificates.to_instance import exact_float, input_errors, instance
from copyreg_jax.checker.arithmetic import ARITHMETIC, MAX_BITS, START_BITS, Balls, Box, up, upper
from copyreg_jax.checker.boxes import Boxes
from copyreg_jax.checker.chart import Chart, chart
from copyreg_jax.checker.check import control_machine
from copyreg_jax.checker.data import Instance
from copyreg_jax.checker.format import Interval
from copyreg_jax.checker.proofs import at_point
from copyreg_jax.errors import InputError

__all__ = ["Enclosure", "GlobalMinimum", "GlobalStatus", "minimize_globally"]

_MOST_CLUSTERED = 2_000
"""Kept boxes beyond this number are enclosed together."""

_ROUNDS = 50
"""At most so many contractions of an enclosure."""


class GlobalStatus(enum.Enum):
    """What `minimize_globally` proved: that the gap is as small as asked, or a larger one."""

    PROVED = "the least value of L is proved to the gap that was asked for"
    GAP = "stopped before that; lower and upper are proved, and the search can be resumed"


class Enclosure(NamedTuple):
    """A set in which global minimizers may be; every one is in one of them.

    The set is a box in the coordinates y of docs/theory/global.md, so a parallelepiped of points x.
    Sets do not meet, but the ranges of x that they have may.

    Attributes
    ----------
    x, radius : (d,) arrays
        ``|x*_j - x_j| <= radius_j`` for those minimizers in the set that are zero in the columns of
        A that are not needed: those that are combinations of the others.
    is_unique : bool
        L is proved to be strictly convex on the set: it has one minimizer there at most.
    lower : float
        L is at least that at every global minimizer in the set.
    margin, protected_mass : Interval
        Bounds of ``ell_1/n1 - ell_2/n2``, and of the sum of f over the protected rows, on the set.
    """

    x: np.ndarray
    radius: np.ndarray
    is_unique: bool
    lower: float
    margin: Interval
    protected_mass: Interval


@dataclasses.dataclass(frozen=True, eq=False)
class GlobalMinimum:
    """Result of `minimize_globally`.

    Attributes
    ----------
    status : GlobalStatus
    lower, upper : float
        The least value of L is proved to be between them; ``upper`` is above L at ``x``.
    x : (d,) array
        The best point.
    minimizers : tuple of Enclosure
        Disjoint sets that contain all global minimizers, lowest bound first. With the status GAP
        they are as large as the part of space that was not excluded.
    margin : Interval
        Bounds of ``ell_1/n1 - ell_2/n2`` at every global minimizer.
    direction : str
        The protected mass at every global minimizer against that of b: suppressed, amplified, or
        undecided.
    num_boxes, num_open : int
        Boxes that were looked at, and that are left.
    num_free : int
        Dimension of the null space of A. L is constant along it.
    seconds : float
        How long this took, earlier parts of a resumed search included.
    """

    status: GlobalStatus
    lower: float
    upper: float
    x: np.ndarray
    minimizers: tuple[Enclosure, ...]
    margin: Interval
    direction: str
    num_boxes: int
    num_open: int
    num_free: int
    seconds: float
    _chart: Chart
    _frontier: Frontier

    @property
    def gap(self) -> float:
        """``(upper - lower) / upper``, or over 2^-40 if ``upper`` is smaller."""
        return (self.upper - self.lower) / max(self.upper, LEAST_SCALE)

    def __repr__(self) -> str:
        where = f"{len(self.minimizers)} box" + "es" * (len(self.minimizers) != 1)
        return (
            f"<GlobalMinimum: {self.status.name}, min L in [{self.lower:.9g}, {self.upper:.9g}], "
            f"minimizers in {where}, {self.num_boxes:,} boxes looked at; {self.direction}>"
        )


def minimize_globally(
    problem: Any,
    *,
    gap: float = 1e-6,
    max_boxes: int = 1_000_000,
    max_seconds: float = math.inf,
    callback: Callable[[GlobalProgress], bool | None] | None = None,
    resume: GlobalMinimum | None = None,
) -> GlobalMinimum:
    """Find the least value of L and all points that have it, with a proof, whether convex or not.

    Branch and bound in the row space of A. All bounds are rounded outward; the theorems are in
    docs/theory/global.md. Made for up to six columns, and tens of rows.

    Parameters
    ----------
    problem : CopyrightRegression, or path of an instance
        Of any reading and metric, gamma = 0 included. L_reg must grow with the logits in every
        direction, as it does for w > 0.
    gap : float, default 1e-6
        Stop when ``upper - lower`` is at most this part of ``upper`` (of 2^-40, if that is more).
    max_boxes : int, default 1,000,000
        Stop after so many boxes, with the bounds that are proved by then.
    max_seconds : float, default inf
        Stop after so long.
    callback : callable, optional
        Is told a `GlobalProgress` from time to time; stops the search by returning True.
    resume : GlobalMinimum, optional
        An earlier result for the same problem: the search goes on from there.

    Returns
    -------
    GlobalMinimum
        Also after ctrl-C, which stops the search and keeps the bounds.

    Raises
    ------
    InputError
        A limit is out of range, ``resume`` is of another problem, or the columns of ``w * A`` are
        nearly dependent where those of A are not.

    Notes
    -----
    A box costs O(n d (2^d + d)). Their number grows fast with d: see docs/reference/benchmarks.md.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> A = [[1.0], [0.0], [-1.0]]
    >>> problem = cr.CopyrightRegression(A, [0.4, 0.3, 0.3], protected=1, gamma=0.1, w=0.1)
    >>> found = cr.minimize_globally(problem)
    >>> found.status.name, len(found.minimizers), found.direction
    ('PROVED', 1, 'amplified')
    """
    _check_limits(gap, max_boxes, max_seconds)
    began = time.monotonic()
    with np.errstate(all="ignore"), input_errors():
        with ARITHMETIC, ctx.workprec(START_BITS):
            control_machine()
            data = instance(problem)
            coordinates = _same(resume, data) if resume is not None else chart(data)
            frontier = start(coordinates) if resume is None else _reopened(resume._frontier, gap)
        frontier = search(coordinates, frontier, 0.99 * gap, max_boxes, max_seconds, callback)
        earlier = 0.0 if resume is None else resume.seconds
        with ARITHMETIC, ctx.workprec(START_BITS):
            return _result(coordinates, frontier, gap, earlier + time.monotonic() - began)


def _check_limits(gap: float, max_boxes: int, max_seconds: float) -> None:
    if not exact_float("gap", gap) > 0:
        raise InputError(f"gap is {gap!r}; give a number > 0")
    is_integer = isinstance(max_boxes, int | np.integer) and not isinstance(max_boxes, bool)
    if not (is_integer and max_boxes >= 1):
        raise InputError(f"max_boxes is {max_boxes!r}; give an integer >= 1")
    if not (isinstance(max_seconds, int | float) and max_seconds > 0):
        raise InputError(f"max_seconds is {max_seconds!r}; give a number > 0")


def _same(resume: GlobalMinimum, data: Instance) -> Chart:
    if resume._chart.data.description() != data.description():
        raise InputError("resume is the result of another problem")
    return resume._chart


def _reopened(frontier: Frontier, gap: float) -> Frontier:
    """A copy whose kept boxes fit a gap, which may be smaller than that of the search before."""
    is_open = frontier.kept.bound < frontier.cut(0.99 * gap)
    again = frontier.open.join(frontier.kept.take(is_open))
    return dataclasses.replace(frontier, open=again, kept=frontier.kept.take(~is_open))


def _result(chart: Chart, frontier: Frontier, gap: float, seconds: float) -> GlobalMinimum:
    y = frontier.y
    x = chart.x(y)
    proved = math.inf
    bits = START_BITS
    while not math.isfinite(proved) and bits <= MAX_BITS:
        with ctx.workprec(bits):
            proved = upper(at_point(chart.data, Balls(bits), x).value)
        bits *= 2
    lower = frontier.lower
    leaves = frontier.open.join(frontier.kept)
    leaves = leaves.take(~(leaves.bound > proved))
    boxes = [_enclose(chart, leaf) for leaf in _clusters(leaves)]
    found = tuple(sorted((e for e in boxes if e is not None), key=lambda e: e.lower))
    if not found:
        raise RuntimeError("all boxes were excluded: a bound is wrong; please report this")
    margins = [e.margin for e in found]
    masses = [e.protected_mass for e in found]
    target = float(math.fsum(chart.data.b[chart.data.protected].tolist()))
    slack = 4e-16 * abs(target)
    direction = "undecided"
    if all(mass.upper < target - slack for mass in masses):
        direction = "suppressed"
    elif all(mass.lower > target + slack for mass in masses):
        direction = "amplified"
    proved_gap = math.isfinite(proved) and proved - lower <= gap * max(proved, LEAST_SCALE)
    return GlobalMinimum(
        GlobalStatus.PROVED if proved_gap else GlobalStatus.GAP,
        lower,
        proved,
        x,
        found,
        Interval(min(m.lower for m in margins), max(m.upper for m in margins)),
        direction,
        frontier.num_boxes,
        len(frontier.open.bound),
        chart.data.d - chart.d,
        seconds,
        chart,
        frontier,
    )


def _clusters(leaves: Leaves) -> list[Leaves]:
    """Disjoint boxes that cover the leaves: hulls of those that meet, until no two meet."""
    if len(leaves.bound) > _MOST_CLUSTERED:
        return [_hull(leaves)]
    found: list[Leaves] = []
    for i in range(len(leaves.bound)):
        one = leaves.take(np.array([i]))
        size = len(found) + 1
        while len(found) < size:  # a hull may meet those that its parts did not
            size, apart = len(found), []
            for other in found:
                if _meet(one, other):
                    one = _hull(one.join(other))
                else:
                    apart.append(other)
            found = apart
        found.append(one)
    return found


def _hull(leaves: Leaves) -> Leaves:
    ends = leaves.lo.min(axis=0), leaves.hi.max(axis=0), leaves.bound.min()
    return Leaves(*(np.asarray(v)[None] for v in ends))


def _meet(one: Leaves, other: Leaves) -> bool:
    return bool(((one.lo <= other.hi) & (other.lo <= one.hi)).all())


def _enclose(chart: Chart, leaf: Leaves) -> Enclosure | None:
    """Contract a box to its stationary points; None if it has none."""
    lo, hi = leaf.lo, leaf.hi
    for _ in range(_ROUNDS):
        curvature = Boxes(chart, lo, hi).curvature
        left = [
            curvature.contract(s)
            for s in (curvature.direct_strips(), curvature.mean_value_strips())
        ]
        new_lo = np.maximum(left[0][0], left[1][0])
        new_hi = np.minimum(left[0][1], left[1][1])
        if (new_lo > new_hi).any():
            return None
        shrunk = (new_hi - new_lo).sum() < 0.9 * (hi - lo).sum()
        lo, hi = new_lo, new_hi
        if not shrunk:
            break
    # A point has no inside on which L could be strictly convex.
    wider = 2.0**-40 * (hi - lo) + 2.0**-45 * (np.abs(lo) + np.abs(hi)) + 2.0**-500
    boxes = Boxes(chart, lo - wider, hi + wider)
    middle = boxes.center[0]
    x = chart.x(middle)
    radius = np.zeros(chart.data.d)
    reach = np.abs(chart.V) @ (boxes.half[0] + chart.rounding * np.abs(middle))
    radius[list(chart.columns)] = up(reach * (1 + chart.rounding))
    return Enclosure(
        x,
        radius,
        bool(boxes.curvature.is_convex[0]),
        float(leaf.bound[0]),
        _interval(boxes.margin),
        _interval(boxes.protected_mass),
    )


def _interval(v: Box) -> Interval:
    low, high = float(v.lo[0]), float(v.hi[0])
    return Interval(-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)
