"""Arrays as tables: .npy files, .npz archives, and whatever else has slices of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from copyreg_jax._files import unreadable
from copyreg_jax.checker.archive import StoredFile
from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.row_tables import (
    BLOCK_BYTES,
    Choice,
    Fields,
    Wanted,
    as_field,
    choose,
    exact_dtype,
    exact_numbers,
    find_file,
    list_names,
    refuse_not_finite,
)
from copyreg_jax.instances.readers.sparse_table import SparseTable

__all__ = ["ArrayTable", "open_npy", "open_npz"]


class ArrayTable:
    """Rows of an array, or of whatever else has a shape, a dtype and slices."""

    def __init__(self, file: StoredFile, name: str, kind: str, array: Any, choice: Choice) -> None:
        self.name, self.kind = name, kind
        self.file, self._array = file, array
        shape = tuple(array.shape)
        if len(shape) == 1:
            shape = *shape, 1
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"{name} has shape {shape}; give (n, d) with n >= 1 and d >= 1")
        self._shape = shape
        self.dtype = exact_dtype(name, array.dtype)
        self.columns = list(map(str, choose(name, list(map(str, range(shape[1]))), choice)))

    def survey(self, wanted: Wanted) -> tuple[int, Fields]:
        """Count the rows, and read some columns beside A."""
        n = self._shape[0]
        names = list(dict.fromkeys(name for name, _ in wanted))
        found = np.empty((n, len(names)), self.dtype)
        for start, rows in self._blocks(0, names) if names else ():
            found[start : start + len(rows)] = rows
        return n, {(name, way): as_field(found[:, names.index(name)], way) for name, way in wanted}

    def blocks(self, place: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """Rows, and the number of the row after them."""
        for start, rows in self._blocks(place, self.columns):
            yield rows, start + len(rows)

    def _blocks(self, first: int, names: list[str]) -> Iterator[tuple[int, np.ndarray]]:
        """First row and rows of some columns, as exact numbers."""
        n, d = self._shape
        chosen = [int(name) for name in names]
        step = max(1, BLOCK_BYTES // (d * self.dtype.itemsize))
        for start in range(first, n, step):
            rows = np.asarray(self._array[start : min(start + step, n)]).reshape(-1, d)
            if chosen != list(range(d)):
                rows = rows[:, chosen]
            rows = exact_numbers(self.name, rows, self.dtype, start, names)
            yield start, refuse_not_finite(self.name, rows, start, names)


def open_npy(path: Path, choice: Choice) -> ArrayTable:
    """Open an .npy file, whose columns have the names 0, 1, ..."""
    file = find_file(path)
    try:
        _require_start(path, b"\x93NUMPY", ".npy")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged header makes NumPy raise nearly anything
        raise _no_array(path, error, ".npy") from None
    return ArrayTable(file, str(path), "NumPy array", array, choice)


def open_npz(path: Path, choice: Choice, key: str | None) -> ArrayTable | SparseTable:
    """Open a sparse matrix of ``scipy.sparse.save_npz``, or one array of ``numpy.savez``."""
    file = find_file(path)
    try:
        _require_start(path, b"PK", ".npz")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            names = list(held.files)
            if key is None and {"format", "shape", "data"} <= set(names):
                stream.seek(0)
                return _sparse_table(file, path, scipy.sparse.load_npz(stream), choice)
            if key is None and len(names) == 1:
                key = names[0]
            if key not in names:
                shown = "no array " + repr(key) if key else "several arrays"
                raise InputError(
                    f"{path}: {shown}; {list_names(names)}; name one of them: {path.name}:NAME"
                )
            array = held[key]
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
        raise _no_array(path, error, ".npz") from None
    return ArrayTable(file, f"{path}:{key}", "NumPy array", array, choice)


def _sparse_table(file: StoredFile, path: Path, matrix: Any, choice: Choice) -> SparseTable:
    if matrix.ndim != 2:
        raise InputError(f"{path} has {matrix.ndim} dimensions; a matrix has two")
    if matrix.format in ("csr", "csc", "bsr"):
        matrix.check_format(full_check=True)
    return SparseTable(file, str(path), f"SciPy matrix in {matrix.format} form", matrix, choice)


def _require_start(path: Path, start: bytes, suffix: str) -> None:
    """`InputError` for what NumPy would take for a pickle."""
    with path.open("rb") as stream:
        if stream.read(len(start)) != start:
            raise InputError(f"{path} is truncated or not an {suffix} file")


def _no_array(path: Path, error: Exception, suffix: str) -> InputError:
    if "pickle" in str(error) or "bjects" in str(error):
        return InputError(f"{path} holds pickled objects, which are never loaded; save numbers")
    if isinstance(error, OSError):
        return unreadable(path, error)
    return InputError(f"{path} is truncated or not an {suffix} file: {error}")
