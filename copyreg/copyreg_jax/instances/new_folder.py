"""A new instance folder from a table: what was understood, then the files, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from copyreg_jax._files import require_new, write_whole
from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.row_tables import DenseTable, require_unchanged
from copyreg_jax.instances.readers.sparse_table import SparseTable
from copyreg_jax.instances.targets import Flags, Target

__all__ = ["NewInstance", "part_of", "plan_instance"]

_SYNC_BYTES = 1 << 28
"""Bytes after which what was written is made safe, and a later run goes on from there."""

_PROGRESS = "progress.json"

_VERSION = 1
"""Version of the unfinished folder, which another version of this package does not continue."""


class NewInstance(NamedTuple):
    """An instance that is understood and can be written."""

    table: DenseTable | SparseTable
    b: np.ndarray
    protected: np.ndarray
    w: float
    gamma: float

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.b.size, len(self.table.columns)

    @property
    def is_sparse(self) -> bool:
        """Whether A is sparse."""
        return isinstance(self.table, SparseTable)

    @property
    def num_entries(self) -> int:
        """Number of entries of A that are stored."""
        n, d = self.shape
        return int(self.table.matrix.nnz) if isinstance(self.table, SparseTable) else n * d

    def first_rows(self, count: int) -> np.ndarray:
        """The first rows of A, dense."""
        if isinstance(self.table, SparseTable):
            return np.asarray(self.table.matrix[:count].toarray())
        rows, _ = next(self.table.blocks())
        return rows[:count]

    def write(self, out: Path, progress: Callable[[int], Any] = lambda rows: None) -> None:
        """Write the folder ``out``, which must not exist, or must be empty.

        Until it is complete, its name has ``.part`` at the end. If that is there from a run that
        was interrupted, with the same source and the same columns, its rows are kept.

        Raises
        ------
        InputError
            The source has changed, or the folder is there or can't be written.
        """
        require_new(out)
        part, table = part_of(out), self.table
        try:
            state = _prepare(part, _origin(table))
            if isinstance(table, SparseTable):
                for name in ("data", "indices", "indptr"):
                    array = getattr(table.matrix, name)
                    _save(part, f"A_{name}", array if name == "data" else array.astype(np.int64))
                _save(part, "A_shape", np.array(table.matrix.shape, np.int64))
            else:
                _write_rows(table, self.shape, part, state, progress)
            _save(part, "b", self.b)
            _save(part, "protected", self.protected)
            _save(part, "w", np.broadcast_to(np.float64(self.w), self.b.shape))
            _save(part, "gamma", np.array(self.gamma))
            write_whole(part / "columns.json", json.dumps(list(table.columns)).encode())
            require_unchanged(table.file)
            if out.exists():
                out.rmdir()
            part.rename(out)
            (out / _PROGRESS).unlink()
        except OSError as error:
            kept = f"; the same command goes on from what is in {part}" if part.exists() else ""
            raise InputError(f"can't write {out}: {error.strerror or error}{kept}") from None


def part_of(out: Path) -> Path:
    """Return the name that the folder has until it is complete."""
    return out.with_name(f"{out.name}.part")


def plan_instance(
    table: DenseTable | SparseTable, target: Target, flags: Flags, w: float, gamma: float
) -> NewInstance:
    """Read the columns beside A, and make b and the mask of the protected rows.

    Raises
    ------
    InputError
        b or the mask can't be made, or a weight is not finite.
    """
    if not 0 <= w < np.inf:
        raise InputError(f"w is {w}; give a finite number >= 0")
    if not 0 <= gamma < np.inf:
        raise InputError(f"gamma is {gamma}; give a finite number >= 0")
    n, fields = table.survey({*flags.wanted, *target.wanted})
    if n < 2:
        raise InputError(f"{table.name} has one row; some have to be protected, and some not")
    b = target.make(n, fields, table)
    return NewInstance(table, b, flags.make(n, fields, table), w, gamma)


class _State(NamedTuple):
    """How far the writing of A has come, and with what."""

    origin: list[Any]
    rows: int = 0
    place: int = 0

    def keep(self, part: Path) -> None:
        """Store it, whole or not at all."""
        write_whole(part / _PROGRESS, json.dumps(self).encode())


def _origin(table: DenseTable | SparseTable) -> list[Any]:
    columns = hashlib.sha256(json.dumps(list(table.columns)).encode()).hexdigest()
    return [_VERSION, *table.file.stamp, table.name, table.kind, columns, table.dtype.name]


def _prepare(part: Path, origin: list[Any]) -> _State:
    """Make the unfinished folder, or find out how far an earlier run came."""
    if part.exists() and any(part.iterdir()):
        try:
            state = _State(*json.loads((part / _PROGRESS).read_bytes()))
        except (OSError, ValueError, TypeError):
            raise InputError(f"{part} is there, but not from this command; remove it") from None
        if state.origin == origin:
            return state
        shutil.rmtree(part)
    part.mkdir(parents=True, exist_ok=True)
    state = _State(origin)
    state.keep(part)
    return state


def _write_rows(
    table: DenseTable,
    shape: tuple[int, int],
    part: Path,
    state: _State,
    progress: Callable[[int], Any],
) -> None:
    """Write A.npy, from where an earlier run came to."""
    n, d = shape
    width = d * table.dtype.itemsize
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(table.dtype)
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    path, start = part / "A.npy", len(header.getvalue()) + state.rows * width
    if state.rows and (not path.is_file() or path.stat().st_size < start):
        raise InputError(f"{path} lacks rows that were written; remove {part}")
    needed, free = (n - state.rows) * width, shutil.disk_usage(part).free
    if free < needed:
        raise InputError(
            f"can't write {part}: A needs {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are "
            "free"
        )
    with path.open("r+b" if state.rows else "wb") as file:
        file.write(header.getvalue())
        file.seek(start)

        def keep() -> None:
            file.flush()
            os.fsync(file.fileno())
            state.keep(part)

        kept = state.rows
        try:
            for rows, place in table.blocks(state.place):
                file.write(np.ascontiguousarray(rows).data)
                state = state._replace(rows=state.rows + len(rows), place=place)
                progress(state.rows)
                if (state.rows - kept) * width >= _SYNC_BYTES:
                    keep()
                    kept = state.rows
        except KeyboardInterrupt:
            keep()
            raise
        if state.rows != n:
            raise InputError(f"{table.name} has changed since it was opened; open it anew")
        keep()


def _save(part: Path, name: str, array: np.ndarray) -> None:
    write_whole(part / f"{name}.npy", lambda file: np.save(file, array))
