"""The global minimum of copyright regression, proved by branch and bound."""

from __future__ import annotations

import dataclasses
import enum
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flint import ctx

from copyreg_jax.certificates.global_certificate import (
    GlobalCertificate,
    Sets,
    certify_globally,
    enclosed,
    frontier_of,
)
from copyreg_jax.certificates.global_search import Frontier, GlobalProgress, search, start
from copyreg_jax.certificates.to_instance import exact_float, input_errors, instance
from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS
from copyreg_jax.checker.box_tree import LEAST_SCALE, cut_at
from copyreg_jax.checker.chart import Chart, chart
from copyreg_jax.checker.check import control_machine, require_same
from copyreg_jax.checker.data import Instance
from copyreg_jax.checker.enclosures import mass_direction, reaches
from copyreg_jax.checker.format import Interval
from copyreg_jax.checker.global_check import proved_upper
from copyreg_jax.errors import InputError

__all__ = ["Enclosure", "GlobalMinimum", "GlobalStatus", "minimize_globally"]


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
    _asked: float

    @property
    def gap(self) -> float:
        """``(upper - lower) / upper``, or over 2^-40 if ``upper`` is smaller."""
        return (self.upper - self.lower) / max(self.upper, LEAST_SCALE)

    def certificate(self) -> GlobalCertificate:
        """What is proved, as a file that ``copyreg check`` proves again without the search.

        A search that was stopped gives one too: it claims the bounds that are proved so far, and
        `minimize_globally` goes on from the file.

        Returns
        -------
        GlobalCertificate
            Its ``save(path)`` writes the file, of less than a byte for each box.

        Raises
        ------
        InputError
            The search is more than 10,000 boxes deep, or found more than 2,000 sets.

        Notes
        -----
        The numbers are those of this result, rounded outward a little more, for machines that add
        in another order. Cost: that of a look at each open box.

        Examples
        --------
        >>> import copyreg_jax as cr
        >>> A = [[1.0], [0.0], [-1.0]]
        >>> problem = cr.CopyrightRegression(A, [0.4, 0.3, 0.3], protected=1, gamma=0.1, w=0.1)
        >>> certificate = cr.minimize_globally(problem).certificate()
        >>> certificate.status, len(certificate.minimizers), certificate.direction
        ('PROVED', 1, 'amplified')
        """
        with np.errstate(all="ignore"), input_errors(), ARITHMETIC, ctx.workprec(START_BITS):
            return certify_globally(self._chart, self._frontier, self._asked)

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
    resume: GlobalMinimum | GlobalCertificate | str | Path | None = None,
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
    resume : GlobalMinimum, or its certificate, or path of that, optional
        An earlier result for the same problem: the search goes on from there. From a certificate
        all of its boxes are made and looked at again first, which is part of the time, but not
        stopped by a limit.

    Returns
    -------
    GlobalMinimum
        Also after ctrl-C, which stops the search and keeps the bounds.

    Raises
    ------
    InputError
        A limit is out of range, or ``resume`` is of another problem or no such file. Or nothing
        can be proved: A has more than 126 independent columns or 4,194,304 entries, zeros too; the
        columns of ``w * A`` are nearly dependent where those of A are not; or descent finds no
        point where L is finite.

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
            coordinates, frontier = _begun(data, resume, gap)
        frontier = search(coordinates, frontier, 0.99 * gap, max_boxes, max_seconds, callback)
        earlier = resume.seconds if isinstance(resume, GlobalMinimum) else 0.0
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


def _begun(data: Instance, resume: Any, gap: float) -> tuple[Chart, Frontier]:
    """Where the search begins, or goes on."""
    if resume is None:
        coordinates = chart(data)
        return coordinates, start(coordinates)
    if isinstance(resume, GlobalMinimum):
        if resume._chart.data.description() != data.description():
            raise InputError("resume is the result of another problem")
        coordinates, frontier = resume._chart, resume._frontier
    else:
        if isinstance(resume, str | Path):
            resume = GlobalCertificate.load(resume)
        if not isinstance(resume, GlobalCertificate):
            raise InputError(
                f"resume is a {type(resume).__name__}; give an earlier result, or its certificate"
            )
        require_same(resume.document["instance"], data)
        coordinates, frontier = frontier_of(resume, data)
    # Kept boxes have to fit the gap, which may be smaller than that of the search before.
    is_open = frontier.kept.bound < cut_at(frontier.upper, 0.99 * gap)
    again = frontier.open.join(frontier.kept.take(is_open))
    return coordinates, dataclasses.replace(frontier, open=again, kept=frontier.kept.take(~is_open))


def _result(chart: Chart, frontier: Frontier, gap: float, seconds: float) -> GlobalMinimum:
    x = chart.x(frontier.y)
    proved, lower = proved_upper(chart.data, x), frontier.lower
    sets = enclosed(chart, frontier.open.join(frontier.kept), proved)
    order = np.argsort(sets.lower, kind="stable")
    found = tuple(_enclosure(chart, sets, i) for i in order.tolist())
    proved_gap = math.isfinite(proved) and proved - lower <= gap * max(proved, LEAST_SCALE)
    return GlobalMinimum(
        GlobalStatus.PROVED if proved_gap else GlobalStatus.GAP,
        lower,
        proved,
        x,
        found,
        Interval(min(e.margin.lower for e in found), max(e.margin.upper for e in found)),
        mass_direction(chart, sets.protected_mass),
        frontier.num_boxes,
        len(frontier.open.bound),
        chart.data.d - chart.d,
        seconds,
        chart,
        frontier,
        gap,
    )


def _enclosure(chart: Chart, sets: Sets, i: int) -> Enclosure:
    lo, hi = sets.lo[i], sets.hi[i]
    x = chart.x(0.5 * lo + 0.5 * hi)
    radius = np.array(reaches(chart, lo, hi, x))
    ends = (Interval(float(v.lo[i]), float(v.hi[i])) for v in (sets.margin, sets.protected_mass))
    return Enclosure(x, radius, bool(sets.is_unique[i]), float(sets.lower[i]), *ends)
