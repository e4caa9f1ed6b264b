"""Colors and parts that the figures share."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.softmax_regression import check_squared

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


def mark(axes: Axes, horizontal: np.ndarray, vertical: np.ndarray) -> None:
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
