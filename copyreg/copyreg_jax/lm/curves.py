"""Pictures of the course of a run, from its metrics.jsonl; they need matplotlib."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from copyreg_jax._files import write_whole
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_run", "read_curves", "save_plot"]

# Okabe and Ito: told apart with any color vision, and in gray.
_COLORS = {"unprotected": "#0072B2", "running_protected": "#D55E00", "cross_entropy": "#8C8C8C"}

_LABELS = {
    "unprotected": "unprotected",
    "running_protected": "protected (running)",
    "cross_entropy": "all of a batch",
}

_POINTS = 400
"""The largest number of points of a curve, which are means over steps."""


def plot_run(metrics: str | Path, target_loss: float | None = None) -> Figure:
    """Plot the losses, the weight of a protected token and gamma over the steps.

    Parameters
    ----------
    metrics : path
        The metrics.jsonl of a run.
    target_loss : float, optional
        Target that is drawn as a line.

    Returns
    -------
    matplotlib.figure.Figure
        A figure of at most 400 means over steps. The losses do not contain the protection term.

    Raises
    ------
    InputError
        The file can't be read or has no steps, or matplotlib is not installed.

    Examples
    --------
    >>> import tempfile
    >>> line = {"step": 1, "cross_entropy": 5.0, "unprotected": 4.0, "running_protected": 9.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "metrics.jsonl"
    ...     _ = path.write_text(json.dumps(line | {"weight": 1.0, "gamma": 0.0}))
    ...     losses, weights = plot_run(path, target_loss=6.0).axes
    >>> {one.get_label(): float(one.get_ydata()[0]) for one in losses.lines}
    {'unprotected': 4.0, 'protected (running)': 9.0, 'all of a batch': 5.0, 'target': 6.0}
    """
    try:
        from matplotlib.figure import Figure as NewFigure
    except ImportError:
        raise InputError("plots need a package: pip install matplotlib") from None
    columns = read_curves(metrics)
    figure = NewFigure(figsize=(6.4, 6.4), layout="constrained")
    losses, weights = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for name, label in _LABELS.items():
        losses.plot(columns["step"], columns[name], color=_COLORS[name], label=label, linewidth=1.2)
    if target_loss is not None:
        losses.axhline(target_loss, color="black", linestyle="--", linewidth=0.8, label="target")
    losses.set_ylabel("cross-entropy, nats per token")
    losses.legend(frameon=False)
    weights.plot(columns["step"], columns["weight"], color="black", label="weight of a token")
    weights.plot(columns["step"], columns["gamma"], color="#E69F00", label="gamma")
    weights.axhline(0, color="#8C8C8C", linewidth=0.6)
    weights.set_xlabel("step")
    weights.set_ylabel("protected text")
    weights.legend(frameon=False)
    return figure


def save_plot(metrics: str | Path, path: str | Path, target_loss: float | None = None) -> None:
    """Write `plot_run` as a PNG, whole or not at all."""
    picture = io.BytesIO()
    plot_run(metrics, target_loss).savefig(picture, dpi=120, metadata={"Software": None})
    write_whole(path, picture.getvalue())


def read_curves(metrics: str | Path) -> dict[str, NDArray[np.float64]]:
    r"""Read the course of a run as at most 400 means over stretches of steps.

    Parameters
    ----------
    metrics : path
        The metrics.jsonl of a run.

    Returns
    -------
    dict of str to arrays
        ``step``, ``unprotected``, ``running_protected``, ``cross_entropy``, ``weight`` and
        ``gamma``. NaN stands where all numbers of a stretch are missing.

    Raises
    ------
    InputError
        The file can't be read, or has no steps.

    Examples
    --------
    >>> import tempfile
    >>> line = {"cross_entropy": 5.0, "unprotected": 4.0, "weight": 1.0, "gamma": 0.0}
    >>> seen = [None, None, *range(3, 801)]  # at first no protected token has been seen
    >>> lines = [line | {"step": k, "running_protected": loss} for k, loss in enumerate(seen, 1)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "metrics.jsonl"
    ...     _ = path.write_text("\n".join(map(json.dumps, lines)))
    ...     curves = read_curves(path)
    >>> len(curves["step"]), curves["running_protected"][:3].tolist()
    (400, [nan, 3.5, 5.5])
    """
    path = Path(metrics)
    try:
        with path.open(encoding="utf-8") as file:
            lines: list[dict[str, Any]] = [json.loads(line) for line in file]
        names = ("step", *_LABELS, "weight", "gamma")
        table = np.array([[line[name] for name in names] for line in lines], np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a metrics.jsonl that can be read: {error}") from None
    if len(table) == 0:
        raise InputError(f"{path} has no steps")
    starts = np.arange(0, len(table), -(-len(table) // _POINTS))
    there = np.isfinite(table)
    sums = np.add.reduceat(np.where(there, table, 0), starts)
    counts = np.add.reduceat(there.astype(np.int64), starts)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return dict(zip(names, means.T, strict=True))
