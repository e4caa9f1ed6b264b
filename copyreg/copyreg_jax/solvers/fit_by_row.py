"""What a solution made of each row: f against b, as a data frame and as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from copyreg_jax._tracing import is_concrete
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import fetch
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from copyreg_jax.solvers.solution import Solution

__all__ = ["frame_of_rows", "plot_rows"]

# Okabe and Ito: told apart with any color vision, and in gray.
_COLORS = {"others": "#56B4E9", "protected": "#D55E00"}

_SMALL = 1e-2
"""Axes are linear below this share of 1/n, where a logarithm would show nothing but tiny b."""


def frame_of_rows(solution: Solution, problem: SoftmaxRegression) -> Any:
    """Columns b, f and protected, in a frame like that of which the problem was made."""
    columns = _columns(solution, problem)
    if problem.labels is None:
        raise InputError(
            "this problem was not made of a data frame, so there is none like it to give back; "
            "problem.b, problem.f(solution.x) and problem.protected are arrays"
        )
    return problem.labels.frame(columns)


def plot_rows(solution: Solution, problem: SoftmaxRegression, ax: Axes | None) -> Axes:
    """Draw f against b, one point for each row."""
    columns = _columns(solution, problem)
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise InputError("plots need a package: pip install matplotlib") from None
        ax = plt.subplots(layout="constrained")[1]
    b, f, protected = columns.values()
    n, n1 = len(b), int(np.count_nonzero(protected))
    # Circles below and crosses above: told apart without colors, too.
    label = f"others ({n - n1:,})" if n1 else f"rows ({n:,})"
    ax.plot(
        b[~protected], f[~protected], "o", color=_COLORS["others"], markerfacecolor="none",
        markersize=4, label=label, gid="others", rasterized=True,
    )  # fmt: skip
    if n1:
        ax.plot(
            b[protected], f[protected], "x", color=_COLORS["protected"],
            markersize=5, label=f"protected ({n1:,})", gid="protected", rasterized=True,
        )  # fmt: skip
        masses = float(solution.protected_mass), float(solution.target_mass)
        title = "protected rows {}: {:.4g} of f, {:.4g} of b".format(solution.direction, *masses)
        ax.set_title(title, fontsize="medium")
    ends = [min(b.min(), f.min()), max(b.max(), f.max())]
    ax.plot(ends, ends, color="#8C8C8C", linestyle="--", linewidth=0.8, label="f = b", zorder=1)
    # Both axes have one scale, so that the line is straight.
    linear = _SMALL / n
    scale: dict[str, Any] = {"value": "log"}
    if ends[0] < linear:
        scale = {"value": "symlog", "linthresh": linear}
    ax.set_xscale(**scale)
    ax.set_yscale(**scale)
    note = "" if ends[0] >= linear else f" (axes are linear below {linear:.1g})"
    ax.set_xlabel(f"target b{note}")
    ax.set_ylabel("f = softmax(A x)")
    ax.legend(frameon=False, loc="upper left")
    return ax


def _columns(solution: Solution, problem: SoftmaxRegression) -> dict[str, np.ndarray]:
    """b, f and the mask, on the host; `InputError` unless the solution is one of the problem."""
    if not isinstance(problem, SoftmaxRegression):
        raise InputError(f"problem is a {type(problem).__name__}; give the problem that was solved")
    one = np.ndim(solution.status) == 0 and len(problem.A.shape) == 2
    if not (one and is_concrete((solution, problem))):
        raise InputError(
            "a batch, or what is being traced, has no rows to show; give one problem and one "
            "solution, such as jax.tree.map(lambda leaf: leaf[0], batch)"
        )
    vectors = {"b": problem.b, "f": problem.f(solution.x), "protected": problem.protected}
    columns = {name: np.asarray(fetch(problem.A, vector)) for name, vector in vectors.items()}
    own = columns["b"][columns["protected"]].astype(float)
    # Sums of the same numbers in another order or precision differ by less than this.
    noise = problem.n * float(np.finfo(problem.dtype).eps) * np.abs(own).sum()
    if not abs(own.sum() - float(solution.target_mass)) <= noise:
        raise InputError(
            f"the protected rows have {own.sum():.6g} of b in this problem, and "
            f"{float(solution.target_mass):.6g} in the one that was solved; give that one"
        )
    return columns
