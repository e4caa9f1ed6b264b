"""The section of a page about single rows: what each gets, beside what its target gives it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from copyreg_jax._pages import counted, escape, number, table, wide
from copyreg_jax.report.charts import Axis, density
from copyreg_jax.report.searchable import keep, searchable

__all__ = ["row_by_row"]

_SPAN = 1e-12
"""What is smaller than this share of the largest number is drawn at the edge."""

_EXTREMES = 8
"""Rows of each of the tables that need no script."""


def row_by_row(f: NDArray[np.float64], b: NDArray[np.float64], protected: NDArray[np.bool_]) -> str:
    """Make the section, as HTML.

    Parameters
    ----------
    f, b : (n,) arrays
        softmax(A x) and the target.
    protected : (n,) bool array

    Examples
    --------
    >>> page = row_by_row(np.array([0.5, 0.5]), np.array([0.75, 0.25]), np.array([True, False]))
    >>> table = page[page.index("<caption>Protected rows") :].partition("</table>")[0]
    >>> table.partition("<tbody>")[2]  # f, b and f - b of row 0
    '<tr><th scope=row>0<td>0.5<td>0.75<td>-0.25</tbody>'
    """
    kept = keep(np.abs(f - b), "|f - b|")
    groups = {"Protected": protected, "Other": ~protected}
    floor = _SPAN * float(np.nanmax(np.concatenate([f, b, [0.0]])))
    across, up = (np.where(values > 0, np.maximum(values, floor), np.nan) for values in (b, f))
    x = Axis.around("b, logarithmic", across, is_log=True)
    y = Axis.around("f", up, is_log=True)
    pictures = "".join(
        density(
            f"rows-{name.lower()}",
            across[group],
            up[group],
            x,
            y._replace(name=f"{name} rows: f"),
            _in_words(name.lower(), f[group], b[group], floor),
            color=color,
        )
        for (name, group), color in zip(groups.items(), ("mark", "soft"), strict=True)
    )
    extremes = "".join(
        _extremes(name, f, b, np.flatnonzero(group)) for name, group in groups.items()
    )
    explorer = searchable(
        "all-rows",
        first="Row",
        names=kept.rows,
        groups={name: group[kept.rows] for name, group in groups.items()},
        numbers={"f": f[kept.rows], "b": b[kept.rows]},
        difference="f - b",
    )
    note = f'<p class="note">{escape(kept.note)}</p>' if kept.note else ""
    return (
        "<p>Each row has a target in b, and gets its entry of f = softmax(A x). Below the dashed "
        "line a row gets less than its target, above it more. The darker a place is, the more rows "
        "are there. Rows count from 0. These are floating-point numbers, which are not "
        "proved.</p>\n"
        f'<div class="pair">{pictures}</div>\n{explorer}{note}{extremes}'
    )


def _in_words(name: str, f: NDArray[np.float64], b: NDArray[np.float64], floor: float) -> str:
    above, below = int((f > b).sum()), int((f < b).sum())
    shown = np.isfinite(f) & (f > 0) & (b > 0)
    left_out = len(f) - int(shown.sum())
    at_edge = int((shown & ((f < floor) | (b < floor))).sum())
    return (
        f"Of {counted(len(f), f'{name} row')}, {below:,} get less than their target and {above:,} "
        f"get more. Together they get {number(float(f.sum()))}; their targets are "
        f"{number(float(b.sum()))}."
        + (f" {left_out:,} are not drawn, because f or b is not above 0." if left_out else "")
        + (f" {at_edge:,} are at the edges, with an f or b below {floor:.1g}." if at_edge else "")
    )


def _extremes(
    name: str, f: NDArray[np.float64], b: NDArray[np.float64], rows: NDArray[np.int64]
) -> str:
    """The rows of a group that are farthest from their targets."""
    away = np.nan_to_num(np.abs(f[rows] - b[rows]), nan=np.inf)
    chosen = rows[np.argsort(-away, kind="stable")[:_EXTREMES]]
    which = f"{len(chosen):,} of them, " if len(chosen) < len(rows) else ""
    rows_shown = [
        (f"{row:,}", [f"{value:.6g}" for value in (f[row], b[row], f[row] - b[row])])
        for row in chosen.tolist()
    ]
    title = f"{name} rows, {which}the farthest from the target first"
    return wide(title, table(title, ["f", "b", "f - b"], rows_shown, first="Row"))
