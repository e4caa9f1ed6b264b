"""The branch and bound of docs/theory/global.md, box by box, for d = 1 and d = 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from flint import ctx

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from copyreg_jax.certificates.global_minimum import minimize_globally
from copyreg_jax.certificates.to_instance import to_instance
from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS
from copyreg_jax.checker.box_tree import cut_at, halves, least_radius, stripped
from copyreg_jax.checker.boxes import Boxes
from copyreg_jax.checker.chart import Chart, chart
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.solvers import solve
from copyreg_jax.solvers.solution import Solution
from copyreg_jax.theory.counterexample import counterexample
from figure_style import (
    BLACK,
    BLUE,
    GRAY,
    PALE_BLUE,
    VERMILLION,
    annotate,
    check,
    contours,
    distinct,
    mark,
    new_figure,
)

__all__ = ["TESTS", "Closed", "boxes_1d", "boxes_2d", "closed_boxes"]

TESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "value": ("value bound", {"facecolor": PALE_BLUE}),
    "quadratic": ("quadratic bound", {"facecolor": BLUE, "hatch": "---", "edgecolor": "white"}),
    "strips": ("strips: no stationary point", {"facecolor": "white", "hatch": "\\\\\\"}),
    "kept": ("kept: within the gap", {"facecolor": VERMILLION}),
}
"""What closes a box, in the order in which it is tried; its label, and how the box is drawn."""

_EDGES: dict[str, Any] = {"edgecolor": GRAY, "linewidth": 0.5}

_SAME = 1e-9
"""Minima whose values differ by less, relatively, are both the lowest."""


class Closed(NamedTuple):
    """A box, (d,) arrays in the coordinates y, and the name of the test that closed it."""

    lo: np.ndarray
    hi: np.ndarray
    test: str


def closed_boxes(
    problem: CopyrightRegression, gap: float = 1e-6
) -> tuple[Chart, list[Closed], float]:
    """Search as `minimize_globally` does, one box at a time, and note what closes each.

    Parameters
    ----------
    problem : CopyrightRegression
    gap : float, default 1e-6
        As in `minimize_globally`, which is asked for the upper bound first.

    Returns
    -------
    chart : Chart
        The coordinates.
    boxes : list of Closed
        They cover the cube in which the search starts, and do not overlap. What strips cut off a
        box counts as closed by them.
    cut : float
        Boxes on which L is proved to be no less are closed.

    Examples
    --------
    >>> problem = CopyrightRegression([[1.0], [0.0]], [0.6, 0.4], 1, gamma=0.01, w=0.1)
    >>> sorted({box.test for box in closed_boxes(problem)[1]} - set(TESTS))
    []
    """
    best = minimize_globally(problem, gap=gap).upper
    cut = cut_at(best, gap)
    instance = to_instance(problem)
    with ARITHMETIC, ctx.workprec(START_BITS), np.errstate(all="ignore"):
        where = chart(instance)
        corner = np.full(where.d, least_radius(where, best))
        found: list[Closed] = []
        todo = [(-corner, corner)]
        while todo:
            lo, hi = todo.pop()
            todo += _look(where, lo, hi, cut, best, found)
    return where, found, cut


def _look(
    where: Chart, lo: np.ndarray, hi: np.ndarray, cut: float, best: float, found: list[Closed]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Close a box, or return what to look at instead of it."""
    box = Boxes(where, lo[None], hi[None])
    curvature = box.curvature
    for test, bounds in (("value", box.value_bound), ("quadratic", curvature.value_bound)):
        if bounds[0] >= cut:
            found.append(Closed(lo, hi, test if bounds[0] > best else "kept"))
            return []
    new_lo, new_hi = (end[0] for end in stripped(curvature))
    if (new_lo > new_hi).any():
        found.append(Closed(lo, hi, "strips"))
        return []
    found += _cut_off(lo, hi, new_lo, new_hi)
    if np.prod((new_hi - new_lo) / (hi - lo)) <= 0.5:
        return [(new_lo, new_hi)]
    axis = np.argmax(curvature.split_scores, axis=1)
    return list(zip(*halves(new_lo[None], new_hi[None], axis), strict=True))


def _cut_off(
    lo: np.ndarray, hi: np.ndarray, new_lo: np.ndarray, new_hi: np.ndarray
) -> list[Closed]:
    """Boxes that cover what a smaller box leaves of a larger one."""
    lo, hi, found = lo.copy(), hi.copy(), []
    for k in range(len(lo)):
        for end, new in ((hi, new_lo), (lo, new_hi)):
            piece = lo.copy(), hi.copy()
            piece[0 if end is lo else 1][k] = new[k]
            if (piece[0] < piece[1]).all():
                found.append(Closed(*piece, "strips"))
        lo[k], hi[k] = new_lo[k], new_hi[k]
    return found


def boxes_1d(problem: CopyrightRegression | None = None) -> Figure:
    """L along x for d = 1, and below it the intervals of the search, a lane for each test.

    Parameters
    ----------
    problem : CopyrightRegression, optional
        With d = 1 and gamma > 0. If not given, the stored counterexample ``lemma-13-descent``.

    Returns
    -------
    matplotlib.figure.Figure
        The gids of the intervals are the keys of `TESTS`; those of the minimizers are lowest and
        minimizers.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    InputError
        problem has another d, or gamma = 0.

    Notes
    -----
    Cost: the search, a box at a time, and 5 runs of `solve`.

    Examples
    --------
    >>> len(boxes_1d().axes)
    2
    """
    with jax.enable_x64(True):  # L is 4500 where its least value is 1178
        return _boxes_1d(counterexample("lemma-13-descent").problem if problem is None else problem)


def _boxes_1d(problem: CopyrightRegression) -> Figure:
    check(problem, 1)
    where, found, cut = closed_boxes(problem)
    minima = _minima(problem, where, found)
    figure = new_figure(7.2, 5.4)
    top, lanes = figure.subplots(2, sharex=True, height_ratios=[3, 2])
    scale = float(where.V[0, 0])
    reach = max(float(box.hi[0]) for box in found) * abs(scale)
    x = np.linspace(-reach, reach, 801)
    L = np.array(jax.vmap(problem.value)(x[:, None]))
    highest = 1.6 * max(one.value for one in minima)
    top.plot(x, np.where(highest >= L, L, np.nan), color=BLUE, linewidth=2)
    top.axhline(cut, color=BLACK, linestyle="--", linewidth=1, label="least value, less the gap")
    num_lowest = sum(one.value <= minima[0].value * (1 + _SAME) for one in minima)
    at = np.array([[float(one.x[0]), one.value] for one in minima])
    mark(top, at[:, 0], at[:, 1], num_lowest, "global minimizers")
    top.set(ylim=(0, highest), ylabel="L(x)")
    top.legend(loc="upper right", fontsize=9)
    names = list(TESTS)[::-1]
    for box in found:
        ends = sorted((float(box.lo[0]) * scale, float(box.hi[0]) * scale))
        # What is too narrow to be seen is drawn as a line.
        _, drawn = TESTS[box.test]
        lanes.broken_barh([(ends[0], ends[1] - ends[0])], (names.index(box.test) - 0.4, 0.8),
                          **{**_EDGES, "edgecolor": BLACK, **drawn}, gid=box.test)  # fmt: skip
    labels = [_label(name, found) for name in names]
    lanes.set_yticks(range(len(names)), labels=labels, fontsize=9)
    lanes.set(ylim=(-0.6, len(names) - 0.4), xlim=(-reach, reach), xlabel="x")
    figure.suptitle("L, and the intervals of the search by the test that closed them", fontsize=12)
    return figure


def boxes_2d(problem: CopyrightRegression | None = None) -> Figure:
    """Contours of L for d = 2, and beside them the boxes of the search.

    Parameters
    ----------
    problem : CopyrightRegression, optional
        With d = 2 and gamma > 0. If not given, that of the tutorial about the global minimum.

    Returns
    -------
    matplotlib.figure.Figure
        Both in the coordinates y of docs/theory/global.md. The gids of the boxes are the keys of
        `TESTS`; those of the minimizers are lowest and minimizers.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    InputError
        problem has another d, or gamma = 0.

    Notes
    -----
    Cost: the search, a box at a time, 25 runs of `solve` and 91^2 values.

    Examples
    --------
    >>> len(boxes_2d().axes)  # the third is the color bar
    3
    """
    problem = _instance_2d() if problem is None else problem
    check(problem, 2)
    where, found, _ = closed_boxes(problem)
    minima = _minima(problem, where, found)
    points = np.linalg.solve(where.V, np.array([one.x for one in minima]).T).T
    reach = max(float(box.hi.max()) for box in found)
    figure = new_figure(9.6, 5.8)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    _contours(left, problem, where, reach, minima[0].value)
    mark(left, *points.T)
    for one, point in zip(minima, points, strict=True):
        annotate(left, f"{one.direction}\nL = {one.value:.3f}", point)
    left.set_title("L, and its local minimizers", fontsize=12)
    right.set_title("The boxes, by the test that closed them", fontsize=12)
    _draw_boxes(right, found)
    mark(right, *points.T)
    for axes in (left, right):
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$y_1$")
    left.set_ylabel("$y_2$")
    from matplotlib.patches import Patch

    handles = [
        Patch(**{**_EDGES, **drawn}, label=_label(name, found))
        for name, (_, drawn) in TESTS.items()
    ]
    handles += left.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _minima(problem: CopyrightRegression, where: Chart, found: list[Closed]) -> list[Solution]:
    """Where `solve` ends from a grid of starts in the cube, lowest first, each minimizer once."""
    reach = max(float(box.hi.max()) for box in found)
    side = np.linspace(-0.8, 0.8, 5) * reach
    starts = np.stack(np.meshgrid(*[side] * where.d), axis=-1).reshape(-1, where.d)
    return distinct(solve(problem, x0=where.x(start)) for start in starts)


def _label(name: str, found: list[Closed]) -> str:
    return f"{TESTS[name][0]} ({sum(box.test == name for box in found)})"


def _draw_boxes(axes: Axes, found: list[Closed]) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    for name, (_, drawn) in TESTS.items():
        boxes = [box for box in found if box.test == name]
        patches = [Rectangle(tuple(box.lo), *(box.hi - box.lo)) for box in boxes]
        axes.add_collection(PatchCollection(patches, **{**_EDGES, **drawn}, gid=name))


def _contours(
    axes: Axes, problem: CopyrightRegression, where: Chart, reach: float, least: float
) -> None:
    side = np.linspace(-reach, reach, 91)
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    L = np.asarray(jax.vmap(problem.value)(grid.reshape(-1, 2) @ where.V.T)).reshape(91, 91)
    contours(axes, side, L, least, np.logspace(-2, 1, 19), shrink=0.6, location="left")


def _instance_2d() -> CopyrightRegression:
    """The minimum that `solve` finds amplifies the protected rows, the lower one suppresses them.

    Found among random instances with whole numbers from -2 to 2 in A, tenths in b, and gamma and w
    of one digit, for its two minimizers inside of the cube and its few boxes.
    """
    A: Any = [[2.0, 1.0], [0.0, 2.0], [-2.0, -1.0], [-2.0, -1.0], [0.0, 0.0]]
    b: Any = [0.3, 0.2, 0.3, 0.1, 0.1]
    return CopyrightRegression(A, b, protected=2, gamma=0.001, w=0.1)
