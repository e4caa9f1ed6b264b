"""Sections of the page of a solution: the steps of the solver, and the curvature where it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from copyreg_jax._pages import counted, escape, facts, number
from copyreg_jax.checker.data import MAX_DENSE_COLUMNS
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.report.charts import Axis, Series, draw, thin

__all__ = ["run_section", "spectrum", "spectrum_section"]

_POINTS = 300
"""The course of a run is drawn by the extremes of so many stretches of its steps."""


def run_section(
    summary: Mapping[str, Any] | None, history: tuple[NDArray[Any], NDArray[Any]] | None
) -> str:
    """Make the section about the steps of the solver, as HTML.

    Parameters
    ----------
    summary : mapping or None
        The summary.json of the run.
    history : pair of arrays, or None
        L and the norm of its gradient, step by step.

    Examples
    --------
    >>> counts = dict.fromkeys(("num_values", "num_gradients", "num_hessians", "num_hvps"), 3)
    >>> losses = dict.fromkeys(("gradient_norm", "ell_1", "ell_2"), 0.125)
    >>> summary = {"status": "CONVERGED", "value": 0.25, "num_steps": 2} | counts | losses
    >>> history = np.array([1.0, 0.5, 0.25]), np.array([1.0, 0.5, 0.125])
    >>> run_section(summary, history).partition('<figcaption id="values">')[2].partition("</fig")[0]
    'L begins at 1 and ends at 0.25, after 2 steps.'
    >>> run_section(None, None)
    '<p>The point was given, and no run of a solver is stored with it.</p>'
    """
    if summary is None or history is None:
        return "<p>The point was given, and no run of a solver is stored with it.</p>"
    value, norm = history
    charts = ""
    for key, name, values in (("values", "L", value), ("gradients", "|gradient|", norm)):
        places = thin(values, _POINTS)
        is_log = key == "gradients" or _spans_decades(values)
        x = Axis.around("step", [0, max(len(values) - 1, 1)], is_whole=True)
        y = Axis.around(name, values, is_log=is_log)
        line = Series(name, "line", places, values[places])
        caption = (
            f"{name} begins at {number(float(values[0]))} and ends at {number(float(values[-1]))}, "
            f"after {counted(len(values) - 1, 'step')}."
        )
        charts += draw(key, [line], x, y, caption)
    counts = [
        (name, f"{summary[key]:,}")
        for name, key in {
            "Steps": "num_steps",
            "Values of L": "num_values",
            "Gradients": "num_gradients",
            "Hessians": "num_hessians",
            "Hessian-vector products": "num_hvps",
        }.items()
    ]
    numbers = [
        ("Status", escape(str(summary["status"]))),
        ("L", "not finite" if summary["value"] is None else f"{summary['value']:.12g}"),
        ("|gradient|", number(summary["gradient_norm"])),
        ("ell_1, protected rows", number(summary["ell_1"])),
        ("ell_2, other rows", number(summary["ell_2"])),
    ]
    return (
        f'<div class="pair">{charts}</div>{facts("The run in numbers", numbers + counts)}'
        "<p>The charts have the numbers that the solver went by. L, |gradient|, ell_1 and ell_2 in "
        "the table were computed once more in the end, from x, by other code, so last digits may "
        "differ. Of a gradient near 0 only rounding may be left, and then all its digits "
        "differ.</p>"
    )


def _spans_decades(values: NDArray[np.float64]) -> bool:
    there = values[np.isfinite(values)]
    return bool(len(there) and there.min() > 0 and there.max() > 100 * there.min())


def spectrum_section(eigenvalues: NDArray[np.float64] | None, eps: float) -> str:
    """Make the section about the eigenvalues from `spectrum`, as HTML; eps is that of the dtype."""
    if eigenvalues is None:
        return (
            "<p>The eigenvalues of the Hessian of L are left out: it is not finite here, or A has "
            f"more than {MAX_DENSE_COLUMNS:,} columns.</p>"
        )
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    size = max(abs(smallest), abs(largest))
    noise = len(eigenvalues) * eps * size
    negative, small = int((eigenvalues < -noise).sum()), int((np.abs(eigenvalues) <= noise).sum())
    parts = [
        f"The eigenvalues of the Hessian of L at this point, from {number(smallest)} to "
        f"{number(largest)}."
    ]
    if smallest > noise:
        parts.append(
            f"All are above 0: L is curved upward in every direction, {largest / smallest:.3g} "
            "times as much in the steepest as in the flattest."
        )
    if negative:
        parts.append(f"{negative:,} of {len(eigenvalues):,} are below 0: L falls in a direction.")
    if small:
        parts.append(f"{small:,} can't be told from 0 in floating point.")
    parts.append(
        "These are floating-point results, which are not proved. What is proved of the curvature "
        "is in the certificate, if anything is."
    )
    rank = np.arange(1, len(eigenvalues) + 1)
    groups = (
        ("above 0", "dots", "soft", eigenvalues > 0),
        ("below 0, drawn without its sign", "squares", "mark", eigenvalues < 0),
    )
    series = [
        Series(name, look, rank[mask], np.abs(eigenvalues[mask]), color)
        for name, look, color, mask in groups
        if mask.any()
    ]
    x = Axis.around("number of the eigenvalue, the smallest first", rank, is_whole=True)
    y = Axis.around("size of the eigenvalue", np.abs(eigenvalues), is_log=True)
    return draw("eigenvalues", series, x, y, " ".join(parts))


def spectrum(problem: CopyrightRegression, x: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Eigenvalues of the Hessian of L at x, ascending; None beyond 2,048 columns or if not finite.

    Results in the problem's dtype, without a bound of their error. Cost O(n d^2 + d^3).
    """
    if problem.d > MAX_DENSE_COLUMNS:
        return None
    hessian = np.asarray(problem.hessian(x), np.float64)
    if not np.isfinite(hessian).all():
        return None
    return np.asarray(np.linalg.eigvalsh(hessian), np.float64)
