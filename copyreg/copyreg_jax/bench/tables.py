"""Results of a benchmark as CSV."""

from __future__ import annotations

import csv
import datetime
import io
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import jax

from copyreg_jax._files import write_whole
from copyreg_jax.bench.peers import OWN, PEERS, version

__all__ = [
    "ERROR",
    "MISSED",
    "MISSING",
    "NOT_TRIED",
    "REACHED",
    "TIME_LIMIT",
    "Point",
    "Row",
    "machine",
    "processor",
    "read_table",
    "write_table",
]

REACHED, MISSED, TIME_LIMIT, ERROR, NOT_TRIED, MISSING = (
    "reached",
    "missed",
    "time limit",
    "error",
    "not tried",
    "missing package",
)


class Row(NamedTuple):
    """One method on one instance; the columns of ``results.csv``. What isn't known is empty.

    Attributes
    ----------
    instance : str
    n, d, entries : int
        Size of A, and how many of its entries are stored.
    method, package, version : str
    status : str
        ``reached``, ``missed`` (it stopped by itself above the tolerance), ``time limit``,
        ``error``, ``not tried`` (it would keep d x d numbers) or ``missing package``.
    gradient_norm, tolerance, value : float
        At the answer, by NumPy; for what ran out of time, at the flattest point known.
    excess : float
        ``(value - lowest) / |lowest|``, lowest among the methods that reached the tolerance.
    seconds : float
        Median of the warm runs; of a run that failed, its one.
    repeats : int
    first_seconds : float
        Compilation and a first run: what one call in a new process waits for, imports aside.
    iterations, values, gradients, hvps, hessians : int
        As reported or counted; -1 iterations where a peer was stopped at the tolerance.
    products : int
        Products with A or its transpose: 1 for a value, 1 more for its gradient, 2 for a
        Hessian-vector product, d for a Hessian.
    message : str
    """

    instance: str
    n: int | None
    d: int | None
    entries: int | None
    method: str
    package: str
    version: str
    status: str
    gradient_norm: float | None = None
    tolerance: float | None = None
    value: float | None = None
    excess: float | None = None
    seconds: float | None = None
    repeats: int | None = None
    first_seconds: float | None = None
    iterations: int | None = None
    values: int | None = None
    gradients: int | None = None
    hvps: int | None = None
    hessians: int | None = None
    products: int | None = None
    message: str = ""


class Point(NamedTuple):
    """One point of a time-to-accuracy curve; the columns of ``curves.csv``."""

    instance: str
    method: str
    seconds: float
    gradient_norm: float


def write_table(path: Path, rows: Sequence[Any], kind: type) -> None:
    r"""Rows of one NamedTuple type as CSV, floats in full; unknown is an empty cell.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "curves.csv"
    ...     write_table(path, [Point("tiny", "copyreg", 0.1, 1e-9)], Point)
    ...     path.read_text(), read_table(path, Point)[0].gradient_norm
    ('instance,method,seconds,gradient_norm\ntiny,copyreg,0.1,1e-09\n', 1e-09)
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    writer.writerow(fields)
    writer.writerows([_cell(value) for value in row] for row in rows)
    write_whole(path, text.getvalue().encode())


def read_table(path: Path, kind: type) -> list[Any]:
    """What `write_table` wrote."""
    types = get_type_hints(kind)
    with path.open(newline="", encoding="utf-8") as file:
        return [
            kind(**{name: _parsed(cell, types[name]) for name, cell in line.items()})
            for line in csv.DictReader(file)
        ]


def machine() -> dict[str, Any]:
    """Date, hardware and versions, for ``machine.json``."""
    packages = sorted({method.package for method in (*OWN, *PEERS)} | {"jax", "jaxlib", "numpy"})
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "device": str(jax.numpy.zeros(()).devices().pop().device_kind),
        "python": platform.python_version(),
        **{name: found for name in packages if (found := version(name))},
    }


def processor() -> str:
    """The model of the processor, or its architecture where the system does not tell.

    Examples
    --------
    >>> processor() != ""
    True
    """
    try:  # on Linux platform.processor() has the architecture, or nothing
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _cell(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _parsed(cell: str, kind: Any) -> Any:
    if kind is str:
        return cell
    if not cell:
        return None
    return float(cell) if kind in (float, float | None) else int(cell)
