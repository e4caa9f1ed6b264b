"""Three figures about curvature: the spectrum of B, and L along one and over two dimensions.

They need matplotlib, the extra `report`. ``python tools/curvature_figures.py docs/theory/figures``
writes those of the documentation.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from copyreg_jax._files import write_whole
from copyreg_jax.errors import InputError
from copyreg_jax.problems import objective
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.softmax_regression import check_squared
from copyreg_jax.solvers import solve
from copyreg_jax.solvers.solution import Solution, Status
from copyreg_jax.theory import constants, statements

# Okabe and Ito: told apart with any color vision, and in gray.
BLACK, BLUE, VERMILLION, ORANGE = "#000000", "#0072B2", "#D55E00", "#E69F00"

YELLOW = "#F0E442"

GRAY, PALE_BLUE = "#8C8C8C", "#D3E7F4"

_SIZES = (2, 3, 5, 10)

_NUM_POINTS = 1201

_NUM_POINTS_A_SIDE = 121

_LOGITS_APART = 10.0
"""How far windows let logits move apart: a softmax is one-hot beyond."""


def curvature_spectrum(num_samples: int = 160, seed: int = 0) -> Figure:
    r"""Smallest and largest eigenvalues of B, with the proved and the printed bounds.

    B is the Hessian of 0.5 ell by the logits (Definition 11, corrected). A softmax f is drawn for
    n = 2, 3, 5, 10; its target b at random, and once more to make the eigenvalue extreme.

    Parameters
    ----------
    num_samples : int
        How many f for each kind of target.
    seed : int

    Returns
    -------
    matplotlib.figure.Figure
        Panels for b on the simplex and for ``||b||_2 <= 1``, and one with the printed bounds. The
        artists' gids are random, adversarial, two-point, proved and printed.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    InputError
        num_samples is below one for each n.

    Notes
    -----
    For n = 2, f = (p, 1 - p) and s = p (1 - p), the eigenvalue of B that is not zero is
    ``12 s^2 - 2 s +- 2 r s sqrt(1 - 4 s)`` at the extreme targets, r = 1 on the simplex and
    sqrt(2) in the ball. Cost O(num_samples n^4).

    Examples
    --------
    >>> figure = curvature_spectrum(num_samples=8)
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['$\\max_i\\, f_i$', '$\\max_i\\, f_i$', '']
    """
    if num_samples < len(_SIZES):
        raise InputError(f"num_samples is {num_samples}; give at least {len(_SIZES)}")
    figure = _figure(9.6, 4.3)
    panels = figure.subplots(1, 3, width_ratios=(4, 4, 1.1))
    figure.suptitle("All eigenvalues of B lie in a short interval, whatever n is", fontsize=13)
    kinds = ("random", "random b", GRAY, 2.5), ("adversarial", "worst b for f", BLUE, 3.0)
    targets = ("b on the simplex", False, [0.2, 0.8]), (r"$||b||_2 \leq 1$", True, [0.6, -0.8])
    for axes, (name, in_ball, b) in zip(panels[:2], targets, strict=True):
        drawn = _samples(np.random.default_rng(seed), num_samples, in_ball)
        for (f_max, values), (gid, label, color, size) in zip(drawn, kinds, strict=True):
            style: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgewidth": 0}
            axes.plot(f_max, values, **style, markersize=size, color=color, label=label, gid=gid)
        p, extremes = _two_point(in_ball)
        for side, label in zip(extremes, ("worst b, n = 2", "_"), strict=True):
            axes.plot(p, side, color=BLACK, linewidth=1.2, label=label, gid="two-point")
        proved = constants.curvature_range(np.array(b))
        for level, offset, place in zip(proved, (-3, 3), ("top", "bottom"), strict=True):
            axes.axhline(level, color=VERMILLION, linestyle="--", gid="proved")
            axes.annotate(
                f"proved: {level:.3f}",
                (0.12, level),
                (0, offset),
                textcoords="offset points",
                color=VERMILLION,
                va=place,
            )
        axes.set(xlim=(0.1, 1.01), ylim=(-0.4, 0.44), xlabel=r"$\max_i\, f_i$")
        axes.set_title(f"{name}: within {proved.lower:.3f} and {proved.upper:.3f}", fontsize=11)
    panels[0].set_ylabel("smallest and largest eigenvalue of B")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)

    scale, printed = panels[2], constants.PRINTED_CURVATURE
    scale.axhspan(proved.lower, proved.upper, color=BLUE, linewidth=0, gid="proved")
    for level, offset, place in zip(printed, (-3, 3), ("top", "bottom"), strict=True):
        scale.axhline(level, color=BLACK, linestyle="-.", gid="printed")
        scale.annotate(
            f"printed: {level:g}",
            (0.5, level),
            (0, offset),
            textcoords="offset points",
            ha="center",
            va=place,
        )
    scale.annotate(
        "proved",
        (0.5, proved.upper),
        (0, 3),
        textcoords="offset points",
        ha="center",
        color=BLUE,
    )
    scale.set(xlim=(0, 1), ylim=(-5.5, 9.5), xticks=[])
    scale.set_title("to scale", fontsize=11)
    return figure


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
    _check(problem, 1)
    figure = _figure(7.2, 4.8)
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
    minimizers = _distinct([lowest, *(solve(problem, x0=start) for start in starts[:, None])])

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
        _mark(axes, _points(minimizers)[:, 0], np.array([one.value for one in minimizers]))
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
    _check(problem, 2)
    if problem.n1 != 1 or problem.reading != "joint":
        raise InputError(
            f"{problem!r}: the barrier is a curve only for n1 = 1 and the joint reading"
        )
    figure = _figure(6.4, 6.0)
    axes = figure.subplots()
    radius = _radius(problem)
    starts = _square(0.8 * radius, 5).astype(problem.dtype)
    minimizers = _distinct(solve(problem, x0=start) for start in starts)
    if not minimizers:
        raise InputError(f"{problem!r}: no start converged, so there is no minimum to show")
    points, least = _points(minimizers), minimizers[0].value
    side = np.linspace(-1, 1, _NUM_POINTS_A_SIDE) * max(radius, 1.2 * np.abs(points).max())
    grid, shape = _square(side[-1], len(side)), (len(side), len(side))
    L = _over(problem, CopyrightRegression.value, grid).reshape(shape)
    excess = np.clip((L - least) / least, 1e-9, 1e9)
    row = int(np.argmax(np.asarray(problem.protected)))
    residual = _over(problem, CopyrightRegression.c, grid)[:, row].reshape(shape)
    H = _over(problem, CopyrightRegression.hessian, grid)
    H = np.where(np.isfinite(H).all(axis=(1, 2), keepdims=True), H, 0)  # on the barrier itself
    # Within [-1, 1], as it runs to infinity at the barrier and contours are interpolated.
    smallest = np.tanh(np.linalg.eigvalsh(H)[:, 0]).reshape(shape)

    from matplotlib.colors import LogNorm
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    levels = np.logspace(-2.5, 1, 15)
    norm = LogNorm(levels[0], levels[-1])
    filled = axes.contourf(side, side, excess, levels, norm=norm, cmap="Blues_r", extend="both")
    bar = figure.colorbar(filled, ax=axes, label="(L - min L) / min L", shrink=0.85)
    bar.set_ticks([0.01, 0.1, 1, 10], labels=["0.01", "0.1", "1", "10"])
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
    _mark(axes, points[:, 0], points[:, 1])
    _label_directions(axes, minimizers)
    handles, _ = axes.get_legend_handles_labels()
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    count = f"{len(minimizers)} local minimizers" if len(minimizers) > 1 else "one minimizer"
    is_parted = len({solution.direction for solution in minimizers}) > 1
    axes.set_title(f"L has {count}" + ", on both sides of the barrier" * is_parted, fontsize=12)
    figure.legend(handles=[*legend, *handles], loc="outside lower center", ncols=2, frameon=False)
    return figure


def write_figures(folder: str | Path) -> list[Path]:
    """Write curvature-spectrum.svg, landscape-1d.svg and landscape-2d.svg.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there.

    Returns
    -------
    list of Path
        The files, each written whole or not at all; the same bytes every time.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    InputError
        The folder can't be written to.

    Notes
    -----
    Those of the documentation are made in JAX's 64-bit mode. About 10 s.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write_figures(folder)]
    ['curvature-spectrum.svg', 'landscape-1d.svg', 'landscape-2d.svg']
    """
    _require_matplotlib()
    folder = Path(folder)
    try:  # before the work, not after it
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"can't write to {str(folder)!r}: {reason}") from None
    paths = []
    for name, draw in _FIGURES.items():
        paths.append(folder / f"{name}.svg")
        write_whole(paths[-1], _svg(draw))
    return paths


_FIGURES: dict[str, Callable[[], Figure]] = {
    "curvature-spectrum": curvature_spectrum,
    "landscape-1d": landscape_1d,
    "landscape-2d": landscape_2d,
}


def _svg(draw: Callable[[], Figure]) -> bytes:
    """A figure as SVG: nothing in it depends on the user's style, on time or on chance."""
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "copyreg", "svg.fonttype": "none"})
        draw().savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def _proved_floor(problem: CopyrightRegression) -> float:
    """Smallest e for which ``hess L >= 0`` is proved wherever ``ell_1 >= e``; may be infinite.

    It solves `bounds.convexity_threshold` for the floor: ``e^2 = 2 upper gamma / (w^2 + lower)``
    with the smallest w_i^2.

    Examples
    --------
    >>> problem = CopyrightRegression([[1.0], [0.0]], [0.5, 0.5], 1, gamma=0.01, w=1.0)
    >>> e = _proved_floor(problem)
    >>> round(bounds.convexity_threshold(problem, e, level=0.0).usable, 6)
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


def _check(problem: CopyrightRegression, d: int) -> None:
    if not isinstance(problem, CopyrightRegression):
        raise InputError(f"problem is a {type(problem).__name__}; give a CopyrightRegression")
    check_squared(problem, "this figure")
    if problem.d != d or not float(problem.gamma) > 0:
        raise InputError(f"{problem!r}: this figure is for d = {d} and gamma > 0")


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
    return _LOGITS_APART / max(constants.spread(problem), 1e-9)


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


def _distinct(solutions: Iterable[Solution]) -> list[Solution]:
    """The converged ones, lowest first, each minimizer once."""
    kept: list[Solution] = []
    for solution in sorted(solutions, key=lambda solution: solution.value):
        at = np.asarray(solution.x)
        near = 1e-3 * (1 + np.linalg.norm(at))
        is_new = all(np.linalg.norm(at - np.asarray(other.x)) > near for other in kept)
        if solution.status is Status.CONVERGED and is_new:
            kept.append(solution)
    return kept


def _points(solutions: list[Solution]) -> np.ndarray:
    return np.stack([np.asarray(solution.x, np.float64) for solution in solutions])


def _two_point(in_ball: bool) -> tuple[np.ndarray, np.ndarray]:
    """For n = 2: p and the (2, m) extreme eigenvalues of B for f = (p, 1 - p), over b.

    It is linear in b_1 - b_2, so the extremes are where that difference is extreme.
    """
    p = np.linspace(0.5, 1, 501)
    b = np.array([1.0, -1.0]) / math.sqrt(2) if in_ball else np.array([1.0, 0.0])
    f = np.stack([p, 1 - p], axis=1)
    either = [_eigenvalues(f, np.broadcast_to(target, f.shape)) for target in (b, b[::-1])]
    values = np.concatenate(either, axis=1)
    return p, np.stack([values.min(axis=1), values.max(axis=1)])


def _eigenvalues(f: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Eigenvalues of the right B for each row of f and b: (m, n), ascending."""
    return np.linalg.eigvalsh(_B(f, b))


def _B(f: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(_compiled_B(jnp.asarray(f), jnp.asarray(b)), np.float64)


@jax.jit
@jax.vmap
def _compiled_B(f: Any, b: Any) -> Any:
    return statements.b_matrix(f, b, jnp.ones_like(f), "corrected")


def _samples(rng: np.random.Generator, num_samples: int, in_ball: bool) -> list[np.ndarray]:
    """Pairs (max f, eigenvalue) for random b and for the worst b: two (2, m) arrays."""
    random, worst = [], []
    for n, part in zip(_SIZES, np.array_split(np.arange(num_samples), len(_SIZES)), strict=True):
        m = len(part)
        f = _dirichlet(rng, m, n)
        if in_ball:
            b = rng.normal(size=(m, n))
            b *= rng.uniform(size=(m, 1)) ** (1 / n) / np.linalg.norm(b, axis=1, keepdims=True)
        else:
            b = _dirichlet(rng, m, n)
        random += [(f, _eigenvalues(f, b)[:, end]) for end in (0, -1)]
        search = _worst_in_ball if in_ball else _worst_on_simplex
        worst += [(f, search(f, end)) for end in (0, -1)]
    return [
        np.concatenate([np.stack([f.max(axis=1), value]) for f, value in kind], axis=1)
        for kind in (random, worst)
    ]


def _dirichlet(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    """From nearly uniform to nearly one-hot."""
    logits = rng.normal(size=(m, n)) * rng.uniform(0, 3, size=(m, 1))
    return np.asarray(jax.nn.softmax(jnp.asarray(logits), axis=1), np.float64)


def _worst_on_simplex(f: np.ndarray, end: int) -> np.ndarray:
    """Extreme eigenvalue over b: B is linear in b, so it is reached at a vertex."""
    vertices = np.eye(f.shape[1])
    ends = [_eigenvalues(f, np.broadcast_to(b, f.shape))[:, end] for b in vertices]
    return np.min(ends, axis=0) if end == 0 else np.max(ends, axis=0)


def _worst_in_ball(f: np.ndarray, end: int) -> np.ndarray:
    """Extreme eigenvalue over b, from 2n starts, by turns: best b for a direction v, best v.

    b enters ``v^T B v`` as ``-<b, f''>``, with f'' the second derivative of f along v.
    """
    sign = 1 if end == 0 else -1
    n = f.shape[1]
    best = _eigenvalues(f, np.zeros_like(f))[:, end]
    for start in (*np.eye(n), *-np.eye(n)):
        b = np.broadcast_to(start, f.shape)
        for _ in range(12):
            v = np.linalg.eigh(_B(f, b))[1][:, :, end]
            v = v - (f * v).sum(axis=1, keepdims=True)
            second = f * (v**2 - (f * v**2).sum(axis=1, keepdims=True))
            b = sign * second / np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-300)
        values = _eigenvalues(f, b)[:, end]
        best = np.minimum(best, values) if end == 0 else np.maximum(best, values)
    return best


def _mark(axes: Axes, horizontal: np.ndarray, vertical: np.ndarray) -> None:
    """Mark minimizers, the lowest of which comes first."""
    style: dict[str, Any] = {"linestyle": "", "markeredgecolor": BLACK, "zorder": 4}
    axes.plot(
        horizontal[:1],
        vertical[:1],
        **style,
        marker="*",
        markersize=14,
        color=YELLOW,
        label="lowest minimizer found",
        gid="lowest",
    )
    if len(horizontal) > 1:
        axes.plot(
            horizontal[1:],
            vertical[1:],
            **style,
            marker="o",
            markersize=7,
            color="white",
            label="other local minimizers",
            gid="minimizers",
        )


def _label_directions(axes: Axes, minimizers: list[Solution]) -> None:
    for solution in minimizers:
        axes.annotate(
            solution.direction,
            np.asarray(solution.x).tolist(),
            (0, -8),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )


def _figure(width: float, height: float) -> Figure:
    _require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("figures need matplotlib: pip install 'copyreg-jax[report]'") from None


def main(arguments: list[str] | None = None) -> int:
    """Write the figures from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python tools/curvature_figures.py",
        description="Write the figures of docs/theory: 0 written, 2 not.",
    )
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    try:
        for path in write_figures(options.folder):
            print(path)
    except (InputError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
