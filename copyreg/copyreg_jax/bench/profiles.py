"""Figures of a benchmark: the performance profile, and time-to-accuracy curves.

matplotlib, the extra ``bench``, is needed for the figures, not for `profile`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from copyreg_jax._files import write_whole
from copyreg_jax.bench.peers import OWN
from copyreg_jax.bench.tables import REACHED, Point, Row

__all__ = ["draw_curves", "draw_profile", "profile", "write_figures"]

_OWN_NAMES = {method.name for method in OWN}

_STYLES = ("-", "--", "-.", ":")


def profile(rows: Iterable[Row]) -> dict[str, np.ndarray]:
    """Performance profile of Dolan and More (Mathematical Programming 91, 2002).

    Parameters
    ----------
    rows : iterable of Row
        Rows without a method, of instances that could not be made, are left out.

    Returns
    -------
    dict of str to ndarray
        For each method, in the order of the rows, its ratios to the fastest method on each
        instance, ascending; infinite where it failed. Within a factor t of the fastest it is on
        the share of instances whose ratio is at most t. An instance that no method solved counts as
        a failure of all.

    Examples
    --------
    >>> blank = Row("", 9, 1, 9, "", "", "", REACHED)
    >>> rows = [
    ...     blank._replace(instance="p", method="a", seconds=1.0),
    ...     blank._replace(instance="p", method="b", seconds=3.0),
    ... ]
    >>> {method: ratios.tolist() for method, ratios in profile(rows).items()}
    {'a': [1.0], 'b': [3.0]}
    """
    table: dict[str, dict[str, float]] = {}
    methods: dict[str, None] = {}
    for row in rows:
        if row.method:
            methods[row.method] = None
            times = table.setdefault(row.instance, {})
            if row.status == REACHED and row.seconds is not None:
                times[row.method] = row.seconds
    ratios: dict[str, np.ndarray] = {}
    for method in methods:
        own = [
            times[method] / min(times.values()) if method in times else math.inf
            for times in table.values()
        ]
        ratios[method] = np.sort(np.array(own))
    return ratios


def draw_profile(rows: Iterable[Row]) -> Figure:
    """The profile as a figure: share of the instances against the factor, logarithmic."""
    ratios = profile(rows)
    finite = [r[np.isfinite(r)] for r in ratios.values()]
    end = 1.5 * max((float(r.max()) for r in finite if r.size), default=2.0)
    figure, axes = _figure()
    for k, (method, own) in enumerate(ratios.items()):
        solved = own[np.isfinite(own)]
        x = np.concatenate([[1.0], solved, [end]])
        y = np.concatenate([[0.0], np.arange(1, solved.size + 1), [solved.size]]) / own.size
        axes.step(x, y, where="post", label=method, gid=method, **_style(k, method))
    axes.set(
        xscale="log",
        xlim=(1, end),
        ylim=(0, 1.02),
        xlabel="within this factor of the fastest",
        ylabel="share of the instances",
        title="Time to the tolerance",
    )
    if ratios:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def draw_curves(points: Iterable[Point], instance: str) -> Figure:
    """Smallest gradient norm so far against seconds, on one instance."""
    by_method: dict[str, list[Point]] = {}
    for point in points:
        if point.instance == instance:
            by_method.setdefault(point.method, []).append(point)
    figure, axes = _figure()
    for k, (method, own) in enumerate(by_method.items()):
        in_time = sorted(own, key=lambda point: point.seconds)
        norms = np.minimum.accumulate([point.gradient_norm for point in in_time])
        seconds = [point.seconds for point in in_time]
        axes.plot(seconds, norms, label=method, gid=method, **_style(k, method))
    axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel="gradient norm", title=instance)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def write_figures(folder: Path, rows: Sequence[Row], points: Sequence[Point]) -> list[Path]:
    """``profile.svg``, and ``curve-INSTANCE.svg`` for each instance that has points."""
    figures = {"profile": draw_profile(rows)}
    for instance in dict.fromkeys(point.instance for point in points):
        figures[f"curve-{instance}"] = draw_curves(points, instance)
    paths = []
    for name, figure in figures.items():
        image = io.BytesIO()
        figure.savefig(image, format="svg")
        paths.append(folder / f"{name}.svg")
        write_whole(paths[-1], image.getvalue())
    return paths


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    return figure, figure.subplots()


def _style(k: int, method: str) -> dict[str, Any]:
    """Our methods are thick; four line styles tell ten colors apart further."""
    width = 2.4 if method in _OWN_NAMES else 1.1
    return {"color": f"C{k % 10}", "linestyle": _STYLES[k % len(_STYLES)], "linewidth": width}
