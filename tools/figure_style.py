"""Colors and parts that the figures share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.softmax_regression import check_squared
from copyreg_jax.solvers.solution import Solution, Status

# Okabe and Ito: told apart with any color vision, and in gray.
BLACK, BLUE, VERMILLION, ORANGE = "#000000", "#0072B2", "#D55E00", "#E69F00"


YELLOW = "#F0E442"


GRAY, PALE_BLUE = "#8C8C8C", "#D3E7F4"


LOGITS_APART = 10.0
"""How far windows let logits move apart: a softmax is one-hot beyond."""


def svg(draw: Callable[[], Figure]) -> bytes:
    """A figure as SVG: nothing in it depends on the user's style, on time or on chance."""
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "copyreg", "svg.fonttype": "none"})
        draw().savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def check(problem: CopyrightRegression, d: int) -> None:
    """Refuse a problem that the figure is not for."""
    if not isinstance(problem, CopyrightRegression):
        raise InputError(f"problem is a {type(problem).__name__}; give a CopyrightRegression")
    check_squared(problem, "this figure")
    if problem.d != d or not float(problem.gamma) > 0:
        raise InputError(f"{problem!r}: this figure is for d = {d} and gamma > 0")


def distinct(solutions: Iterable[Solution]) -> list[Solution]:
    """The converged ones, lowest first, each minimizer once."""
    kept: list[Solution] = []
    for solution in sorted(solutions, key=lambda solution: solution.value):
        at = np.asarray(solution.x)
        near = 1e-3 * (1 + np.linalg.norm(at))
        is_new = all(np.linalg.norm(at - np.asarray(other.x)) > near for other in kept)
        if solution.status is Status.CONVERGED and is_new:
            kept.append(solution)
    return kept


def mark(
    axes: Axes,
    horizontal: np.ndarray,
    vertical: np.ndarray,
    num_lowest: int = 1,
    label: str = "lowest minimizer found",
) -> None:
    """Mark minimizers, the lowest of which come first and have the label."""
    style: dict[str, Any] = {"linestyle": "", "markeredgecolor": BLACK, "zorder": 4}
    axes.plot(
        horizontal[:num_lowest],
        vertical[:num_lowest],
        **style,
        marker="*",
        markersize=14,
        color=YELLOW,
        label=label,
        gid="lowest",
    )
    if len(horizontal) > num_lowest:
        axes.plot(
            horizontal[num_lowest:],
            vertical[num_lowest:],
            **style,
            marker="o",
            markersize=7,
            color="white",
            label="other local minimizers",
            gid="minimizers",
        )


def annotate(axes: Axes, text: str, point: np.ndarray) -> None:
    """Write below a marker."""
    axes.annotate(
        text,
        point.tolist(),
        (0, -8),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def contours(
    axes: Axes, side: np.ndarray, L: np.ndarray, least: float, levels: np.ndarray, **bar: Any
) -> None:
    """Filled contours of ``(L - min L) / min L`` over a square, and a color bar."""
    from matplotlib.colors import LogNorm

    excess = np.clip((L - least) / least, 1e-9, 1e9)
    norm = LogNorm(levels[0], levels[-1])
    filled = axes.contourf(side, side, excess, levels, norm=norm, cmap="Blues_r", extend="both")
    drawn = axes.figure.colorbar(filled, ax=axes, label="(L - min L) / min L", **bar)
    drawn.set_ticks([0.01, 0.1, 1, 10], labels=["0.01", "0.1", "1", "10"])


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, drawn without a display."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def require_matplotlib() -> None:
    """Say what is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("figures need matplotlib: pip install matplotlib") from None
