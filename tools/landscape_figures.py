"""L along one line and over a plane, with its minimizers and barriers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from copyreg_jax.errors import InputError
from copyreg_jax.problems import objective
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.solvers import solve
from copyreg_jax.solvers.solution import Solution
from copyreg_jax.theory import constants
from figure_style import (
    BLACK,
    BLUE,
    LOGITS_APART,
    ORANGE,
    PALE_BLUE,
    VERMILLION,
    annotate,
    check,
    contours,
    distinct,
    mark,
    new_figure,
)

_NUM_POINTS = 1201


_NUM_POINTS_A_SIDE = 121


def landscape_1d(problem: CopyrightRegression | None = None) -> Figure:
    """L along x for d = 1: barriers, minimizers, and where L is convex.

    Parameters
    ----------
    problem : CopyrightRegression, optional
        With d = 1 and gamma > 0. If not given: four rows, two of them protected, whose f_1 is b_1
        at x = -0.17 and comes near it again.

    Returns
    -------
    matplotlib.figure.Figure
        The artists' gids are convex, not-convex, barrier, floor, lowest and minimizers. The floor
        is the smallest one above which Lemma 13, corrected, proves ``L'' >= 0``; where w is too
        small for any, none is drawn.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    InputError
        problem has another d, or gamma = 0.

    Notes
    -----
    Drawn up to four times the L that `solve` finds. Cost: 1201 second derivatives and
    one `solve` per minimizer.

    Examples
    --------
    >>> len(landscape_1d().axes)
    1
    """
    problem = _instance_1d() if problem is None else problem
    check(problem, 1)
    figure = new_figure(7.2, 4.8)
    axes = figure.subplots()
    lowest = solve(problem)
    top = 4 * lowest.value
    x = _window(problem, lowest, top)
    L = _over(problem, CopyrightRegression.value, x)
    ell_1 = _over(problem, CopyrightRegression.ell_1, x)
    second = _over(problem, CopyrightRegression.hessian, x).ravel()
    is_drawn = 1.5 * top >= L
    is_convex = second >= 0
    starts = x[_local_minima(np.where(is_drawn, L, np.inf))].astype(problem.dtype)
    minimizers = distinct([lowest, *(solve(problem, x0=start) for start in starts[:, None])])

    floor, barrier = _proved_floor(problem), _barrier_1d(problem, x)
    if floor < math.inf:
        axes.fill_between(
            x,
            0,
            1,
            where=(ell_1 >= floor).tolist(),
            transform=axes.get_xaxis_transform(),
            color=PALE_BLUE,
            linewidth=0,
            label=rf"$\ell_1 \geq {floor:.2g}$: $L'' \geq 0$ is proved",
            gid="floor",
        )
    for i, place in enumerate(barrier):
        label = "_" if i else r"barrier: $\ell_1 = 0$, $L = \infty$"
        axes.axvline(place, color=BLACK, linestyle=":", linewidth=1.4, label=label, gid="barrier")
    for gid, where, color, style, label in (
        ("convex", is_convex, BLUE, "-", r"$L'' \geq 0$"),
        ("not-convex", ~is_convex, VERMILLION, (0, (1.6, 0.7)), "$L'' < 0$"),
    ):
        line = np.where(is_drawn & where, L, np.nan)
        axes.plot(x, line, color=color, linestyle=style, linewidth=2.4, label=label, gid=gid)
    if minimizers:
        mark(axes, _points(minimizers)[:, 0], np.array([one.value for one in minimizers]))
    axes.set(xlim=(x[0], x[-1]), ylim=(0, top), xlabel="x", ylabel="L(x)")
    reasons = ["a barrier parts its domain"] if barrier else []
    if (is_drawn & ~is_convex).any():
        reasons.append("$L'' < 0$ on the dashed part")
    reason = ", and ".join(reasons)
    axes.set_title(f"L is not convex: {reason}" if reason else "L is convex here", fontsize=12)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def landscape_2d(problem: CopyrightRegression | None = None) -> Figure:
    """Contours of L for d = 2 around the barrier ``f_1 = b_1`` of one protected row.

    Parameters
    ----------
    problem : CopyrightRegression, optional
        With d = 2, one protected row, gamma > 0 and the joint reading. If not given: four rows,
        the protected one amid the others, so that the barrier is a closed curve.

    Returns
    -------
    matplotlib.figure.Figure
        ``(L - min L) / min L`` in log scale, clipped near the barrier. The artists' gids are
        barrier, not-convex, lowest and minimizers; min L is the least found from 25 starts.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    InputError
        problem is of another kind.

    Notes
    -----
    Cost: 121^2 Hessians and 25 times `solve`.

    Examples
    --------
    >>> len(landscape_2d().axes)  # the second is the color bar
    2
    """
    problem = _instance_2d() if problem is None else problem
    check(problem, 2)
    if problem.n1 != 1 or problem.reading != "joint":
        raise InputError(
            f"{problem!r}: the barrier is a curve only for n1 = 1 and the joint reading"
        )
    figure = new_figure(6.4, 6.0)
    axes = figure.subplots()
    radius = _radius(problem)
    starts = _square(0.8 * radius, 5).astype(problem.dtype)
    minimizers = distinct(solve(problem, x0=start) for start in starts)
    if not minimizers:
        raise InputError(f"{problem!r}: no start converged, so there is no minimum to show")
    points, least = _points(minimizers), minimizers[0].value
    side = np.linspace(-1, 1, _NUM_POINTS_A_SIDE) * max(radius, 1.2 * np.abs(points).max())
    grid, shape = _square(side[-1], len(side)), (len(side), len(side))
    L = _over(problem, CopyrightRegression.value, grid).reshape(shape)
    row = int(np.argmax(np.asarray(problem.protected)))
    residual = _over(problem, CopyrightRegression.c, grid)[:, row].reshape(shape)
    H = _over(problem, CopyrightRegression.hessian, grid)
    H = np.where(np.isfinite(H).all(axis=(1, 2), keepdims=True), H, 0)  # on the barrier itself
    # Within [-1, 1], as it runs to infinity at the barrier and contours are interpolated.
    smallest = np.tanh(np.linalg.eigvalsh(H)[:, 0]).reshape(shape)

    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    contours(axes, side, L, least, np.logspace(-2.5, 1, 15), shrink=0.85)
    legend: list[Any] = []
    if residual.min() < 0 < residual.max():
        style: dict[str, Any] = {"colors": VERMILLION, "linewidths": 2.2}
        axes.contour(side, side, residual, [0], **style).set_gid("barrier")
        label = r"barrier: $f_1 = b_1$, $L = \infty$"
        legend.append(Line2D([], [], color=VERMILLION, linewidth=2.2, label=label))
    if smallest.min() < 0:
        hatched = axes.contourf(side, side, smallest, [-2, 0], colors="none", hatches=["//"])
        hatched.set(gid="not-convex", edgecolor=ORANGE, linewidth=0)
        label = "the Hessian has a negative eigenvalue"
        legend.append(
            Patch(facecolor="none", edgecolor=ORANGE, linewidth=0, hatch="//", label=label)
        )
    mark(axes, points[:, 0], points[:, 1])
    for one, point in zip(minimizers, points, strict=True):
        annotate(axes, one.direction, point)
    handles, _ = axes.get_legend_handles_labels()
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    count = f"{len(minimizers)} local minimizers" if len(minimizers) > 1 else "one minimizer"
    is_parted = len({solution.direction for solution in minimizers}) > 1
    axes.set_title(f"L has {count}" + ", on both sides of the barrier" * is_parted, fontsize=12)
    figure.legend(handles=[*legend, *handles], loc="outside lower center", ncols=2, frameon=False)
    return figure


def _proved_floor(problem: CopyrightRegression) -> float:
    """Smallest e for which ``hess L >= 0`` is proved wherever ``ell_1 >= e``; may be infinite.

    It solves `convexity_threshold` for the floor: ``e^2 = 2 upper gamma / (w^2 + lower)``
    with the smallest w_i^2.

    Examples
    --------
    >>> problem = CopyrightRegression([[1.0], [0.0]], [0.5, 0.5], 1, gamma=0.01, w=1.0)
    >>> e = _proved_floor(problem)
    >>> round(constants.convexity_threshold(problem, e, level=0.0).usable, 6)
    1.0
    """
    bound = constants.curvature_range(problem.b)
    spare = float(np.min(np.asarray(problem.w, np.float64) ** 2)) + bound.lower
    return math.sqrt(2 * bound.upper * float(problem.gamma) / spare) if spare > 0 else math.inf


def _instance_1d() -> CopyrightRegression:
    """On the way from one-hot to one-hot, f_1 passes b_1 at x = -0.17 and comes near it again."""
    A: Any = [[-0.4], [-0.2], [-2.3], [1.6]]  # lists: in JAX's default precision
    f = np.exp(-0.17 * np.ravel(A))
    f /= f.sum()
    b: Any = [*f[:2], *(np.array([0.8, 0.2]) * f[2:].sum())]
    return CopyrightRegression(A, b, protected=2, gamma=1e-4, w=0.9)


def _instance_2d() -> CopyrightRegression:
    """The protected row lies amid the others: ``f_1 > b_1`` on a bounded convex set."""
    A: Any = [[0.1, 0.1], [2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]]
    b: Any = [0.2, 0.3, 0.3, 0.2]
    return CopyrightRegression(A, b, protected=1, gamma=1e-3, w=0.1)


def _over(problem: CopyrightRegression, function: Callable[..., Any], points: Any) -> np.ndarray:
    """``function(problem, x)`` at points (m,) or (m, d), as float64."""
    points = jnp.asarray(points, problem.dtype).reshape(-1, problem.d)
    return np.asarray(_compiled_over(function, problem, points), np.float64)


@partial(jax.jit, static_argnums=0)
def _compiled_over(function: Callable[..., Any], problem: CopyrightRegression, points: Any) -> Any:
    return jax.vmap(function, (None, 0))(problem, points)


def _square(half: float, num_a_side: int) -> np.ndarray:
    """Grid over ``[-half, half]^2``: (num_a_side^2, 2), the first coordinate running fastest."""
    side = np.linspace(-half, half, num_a_side)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def _radius(problem: CopyrightRegression) -> float:
    return LOGITS_APART / max(constants.spread(problem), 1e-9)


def _window(problem: CopyrightRegression, lowest: Solution, top: float) -> np.ndarray:
    """Points of the smallest interval with every x where ``L <= top``, and a margin."""
    radius = max(_radius(problem), 2 * abs(float(lowest.x[0])))
    x = np.linspace(-radius, radius, _NUM_POINTS)
    low = np.sort([*x[_over(problem, CopyrightRegression.value, x) <= top], float(lowest.x[0])])
    margin = 0.04 * (low[-1] - low[0]) + 2 * radius / _NUM_POINTS
    return np.linspace(low[0] - margin, low[-1] + margin, _NUM_POINTS)


def _local_minima(values: np.ndarray) -> np.ndarray:
    inner = values[1:-1]
    return np.flatnonzero((inner <= values[:-2]) & (inner < values[2:])) + 1


def _barrier_1d(problem: CopyrightRegression, x: np.ndarray) -> list[float]:
    """Where ``ell_1 = 0``: Gauss and Newton's method on ``c_1 = 0`` from the minima of ell_1."""
    gap, eps = x[1] - x[0], float(np.finfo(problem.dtype).eps)
    found = []
    for start in x[_local_minima(_over(problem, CopyrightRegression.ell_1, x))]:
        at = jnp.asarray([start], problem.dtype)
        for _ in range(20):
            at, residual = _gauss_newton(problem, at)
        # A minimum with ell_1 > 0 is no barrier; from there the iteration may leave for one.
        if abs(float(at[0]) - start) <= 2 * gap and float(residual) <= 64 * eps:
            found.append(float(at[0]))
    return found


@jax.jit
def _gauss_newton(problem: CopyrightRegression, x: Any) -> tuple[Any, Any]:
    """One step on ``c_1 = 0`` for d = 1, and the largest ``|c_1|`` before it."""

    def c_1(x: Any) -> Any:
        return objective.c_1(problem.logits(x), problem.b, problem.protected, problem.reading)

    residual, slope = jax.jvp(c_1, (x,), (jnp.ones_like(x),))
    square = jnp.sum(slope**2)
    step = jnp.sum(slope * residual) / jnp.where(square > 0, square, 1)
    return x - step, jnp.max(jnp.abs(residual))


def _points(solutions: list[Solution]) -> np.ndarray:
    return np.stack([np.asarray(solution.x, np.float64) for solution in solutions])
