"""Matrix Market files: all fields and symmetries of real numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import scipy.sparse

from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.numpy_files import ArrayTable
from copyreg_jax.instances.readers.row_tables import Choice, find_file
from copyreg_jax.instances.readers.sparse_table import SparseTable
from copyreg_jax.instances.readers.text_chunks import (
    LINE,
    find_line,
    is_number,
    map_chunks,
    open_bytes,
    read_numbers,
    refuse_hidden,
    refuse_rounded,
    split_chunks,
    tidy,
)

__all__ = ["open_matrix_market"]

_SIGNS = {"symmetric": 1, "skew-symmetric": -1}


class _Header(NamedTuple):
    """The first lines, and the place of the line after them."""

    form: str
    field: str
    symmetry: str
    shape: tuple[int, int]
    num_lines: int
    place: int

    @property
    def num_words(self) -> int:
        """Number of words in a line of the body."""
        return 1 if self.form == "array" else 2 + (self.field != "pattern")


def open_matrix_market(path: Path, choice: Choice) -> ArrayTable | SparseTable:
    """Read a matrix: ``array`` files are dense, ``coordinate`` files sparse, patterns are ones.

    A symmetric file lists one triangle. One that lists both is refused, because readers would
    double its entries; so is an entry that is listed twice. (SciPy's reader is not used: it crashes
    where there are more lines than line 2 says.)
    """
    file = find_file(path)
    header = _read_header(path)
    width = header.num_words

    def parse(place: int, chunk: bytes) -> np.ndarray:
        refuse_hidden(path, place, chunk)
        found = read_numbers(tidy(chunk), b" ")
        if found is None:
            _explain(path, header, place, chunk)
        numbers, after = found
        ends = np.flatnonzero(after == LINE)
        if not np.array_equal(ends, np.arange(width - 1, numbers.size, width)):
            _explain(path, header, place, chunk)
        lines = numbers.reshape(-1, width)
        if not _are_entries(header, lines).all():
            _explain(path, header, place, chunk)
        refuse_rounded(path, place, chunk, numbers)
        return lines

    parts = list(map_chunks(parse, split_chunks(path, header.place)))
    lines = np.concatenate(parts) if parts else np.empty((0, width))
    if len(lines) != header.num_lines:
        raise InputError(
            f"{path} is truncated or damaged: {header.num_lines} entries expected, "
            f"{len(lines)} found"
        )
    kind = f"Matrix Market file ({header.form} {header.field} {header.symmetry})"
    if header.form == "array":
        return ArrayTable(file, str(path), kind, _dense(header, lines[:, 0]), choice)
    return SparseTable(file, str(path), kind, _sparse(path, header, lines), choice)


def _read_header(path: Path) -> _Header:
    with open_bytes(path) as stream:
        first = stream.readline(200)
        words = first.decode("latin-1").lower().split()
        if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
            raise InputError(
                f"{path}, line 1: not a header of Matrix Market: {first[:40]!r}; one is "
                "'%%MatrixMarket matrix coordinate real general'"
            )
        _, _, form, field, symmetry = words
        if field == "complex" or symmetry == "hermitian":
            raise InputError(f"{path} has complex numbers; give real ones")
        if (
            form not in ("array", "coordinate")
            or field not in ("real", "double", "integer", "pattern")
            or symmetry not in ("general", *_SIGNS)
            or (form, field) == ("array", "pattern")
        ):
            kind = f"{form} {field} {symmetry}"
            raise InputError(f"{path}, line 1: {kind!r} is no kind of Matrix Market file")
        line = stream.readline()
        while line.startswith(b"%") or line.isspace():
            line = stream.readline()
        sizes = line.split()
        if len(sizes) != (2 if form == "array" else 3) or not all(
            re.fullmatch(rb"\d{1,18}", size) for size in sizes
        ):
            raise InputError(f"{path}: {line[:40]!r} is no line of sizes: rows, columns, entries")
        n, d, *rest = map(int, sizes)
        if symmetry != "general" and n != d:
            raise InputError(f"{path} is {symmetry}, but has shape {(n, d)}")
        triangle = n * (n + 1) // 2 if symmetry == "symmetric" else n * (n - 1) // 2
        whole = n * d if symmetry == "general" else triangle
        return _Header(form, field, symmetry, (n, d), rest[0] if rest else whole, stream.tell())


def _are_entries(header: _Header, lines: np.ndarray) -> np.ndarray:
    """Whether each line has a number, and a place within the matrix."""
    fine = np.isfinite(lines).all(axis=1)
    if header.form == "coordinate":
        places = lines[:, :2]
        inside = (places >= 1) & (places <= header.shape) & (places == np.floor(places))
        fine &= inside.all(axis=1)
    return np.asarray(fine)


def _explain(path: Path, header: _Header, place: int, chunk: bytes) -> NoReturn:
    """`InputError` for the first line of a chunk that has a fault."""
    width, start = header.num_words, find_line(path, place)
    for number, content in enumerate(chunk.split(b"\n"), start):
        words = content.decode("utf-8", "replace").split()
        if not words:
            continue
        right = len(words) == width and all(map(is_number, words))
        if right and _are_entries(header, np.array([[float(word) for word in words]])).all():
            continue
        n, d = header.shape
        wanted = "one number"
        if header.form == "coordinate":
            value = "" if header.field == "pattern" else " and a number"
            wanted = f"a row of 1 to {n}, a column of 1 to {d}{value}"
        raise InputError(f"{path}, line {number}: {content[:60]!r} is not {wanted}")
    raise InputError(f"{path}, after line {start}: not the lines of a Matrix Market file")


def _dense(header: _Header, numbers: np.ndarray) -> np.ndarray:
    """The matrix of an ``array`` file, which is listed column by column."""
    n, d = header.shape
    if header.symmetry == "general":
        return np.ascontiguousarray(numbers.reshape(d, n).T)
    columns, rows = np.triu_indices(n, k=int(header.symmetry == "skew-symmetric"))
    array = np.zeros((n, n))
    array[rows, columns] = numbers
    array[columns, rows] = _SIGNS[header.symmetry] * numbers
    return array


def _sparse(path: Path, header: _Header, lines: np.ndarray) -> Any:
    """The matrix of a ``coordinate`` file, with both triangles."""
    rows, columns = (lines[:, :2].T - 1).astype(np.int64)
    numbers = np.ones(len(lines)) if header.field == "pattern" else lines[:, 2]
    _refuse_twice(path, header, rows, columns)
    if header.symmetry in _SIGNS:
        wrong = rows <= columns if header.symmetry == "skew-symmetric" else rows < columns
        if wrong.any():
            k = int(np.argmax(wrong))
            raise InputError(
                f"{path} is {header.symmetry}, but lists row {rows[k] + 1}, column "
                f"{columns[k] + 1}, which is not below the diagonal; remove such entries, or "
                "write 'general' in line 1 if both triangles are listed"
            )
        below = rows > columns
        mirrored = _SIGNS[header.symmetry] * numbers[below]
        numbers = np.concatenate([numbers, mirrored])
        rows, columns = (
            np.concatenate([rows, columns[below]]),
            np.concatenate([columns, rows[below]]),
        )
    return scipy.sparse.coo_array((numbers, (rows, columns)), shape=header.shape)


def _refuse_twice(path: Path, header: _Header, rows: np.ndarray, columns: np.ndarray) -> None:
    """`InputError` for an entry that is listed twice: which of the two counts is said nowhere."""
    places = rows * header.shape[1] + columns
    order = np.argsort(places, kind="stable")
    same = np.flatnonzero(np.diff(places[order]) == 0)
    if same.size:
        k = order[same[0]]
        raise InputError(
            f"{path} lists row {rows[k] + 1}, column {columns[k] + 1} twice; leave one"
        )
