"""Sparse rows with labels as text: the format of SVMlight and LIBSVM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import scipy.sparse

from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.row_tables import Choice, find_file
from copyreg_jax.instances.readers.sparse_table import SparseTable
from copyreg_jax.instances.readers.text_chunks import (
    LINE,
    find_line,
    is_number,
    map_chunks,
    read_numbers,
    refuse_hidden,
    refuse_rounded,
    split_chunks,
    tidy,
)

__all__ = ["open_svmlight"]

_SPACE, _COLON = b" :"

_NOTHING = np.empty(0)

_MAX_INDEX = (1 << 31) - 2

_STATED_BASE = re.compile(rb"(?:\s*#[^\n]*\n)*?\s*# Column indices are (zero|one)-based\s*\n")
"""What scikit-learn writes on top of a file that has a comment, before the first row."""


class _Part(NamedTuple):
    labels: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    stated: int | None


def open_svmlight(path: Path, choice: Choice, index_base: int | None) -> SparseTable:
    """Read lines ``LABEL INDEX:VALUE ...`` as a sparse A; the labels are the column ``label``.

    Columns have the names 0, 1, ..., whatever the file counts from. Where that is, ``index_base``
    says; without it, the file has to show it, by an index 0 or by scikit-learn's comment.
    """
    if index_base not in (None, 0, 1):
        raise InputError(f"index_base is {index_base!r}; give 0 or 1")
    file = find_file(path)

    def parse(place: int, chunk: bytes) -> _Part:
        return _parse(path, place, chunk)

    parts = list(map_chunks(parse, split_chunks(path)))
    labels = np.concatenate([part.labels for part in parts] or [_NOTHING])
    if not labels.size:
        raise InputError(f"{path} has no row")
    num_entries = sum(part.values.size for part in parts)
    if not num_entries:
        raise InputError(f"{path} has no entry, so that A has no columns")
    indices, values = np.empty(num_entries, np.int32), np.empty(num_entries)
    stated, done = parts[0].stated, 0
    for k, part in enumerate(parts):  # each is freed when it is copied
        stop = done + part.values.size
        indices[done:stop], values[done:stop] = part.indices, part.values
        parts[k], done = part._replace(indices=_NOTHING, values=_NOTHING), stop
    counts = np.concatenate([part.counts for part in parts])
    base = _base(path, stated, index_base, counts, indices)
    indices -= base
    indptr = np.zeros(counts.size + 1, np.int32 if num_entries < 1 << 31 else np.int64)
    np.cumsum(counts, out=indptr[1:])
    shape = counts.size, int(indices.max()) + 1
    matrix = scipy.sparse.csr_array((values, indices, indptr), shape=shape)
    matrix.has_canonical_format = True
    kind = f"svmlight text with indices counted from {base}"
    if base:
        kind += ", so that index 1 is column 0"
    return SparseTable(file, str(path), kind, matrix, choice, {"label": labels})


def _base(
    path: Path,
    stated: int | None,
    asked: int | None,
    counts: np.ndarray,
    indices: np.ndarray,
) -> int:
    """Decide what the indices count from; it is never guessed."""
    smallest = int(indices.min())
    if smallest == 0 and (stated if asked is None else asked) == 1:
        row = int(np.searchsorted(np.cumsum(counts), np.argmin(indices), side="right"))
        who = "index_base 1 was asked for" if asked == 1 else "a comment says one-based"
        raise InputError(f"{path}: {who}, but row {row} has the index 0; give index_base 0")
    if smallest == 0:
        return 0
    if None not in (stated, asked) and stated != asked:
        raise InputError(
            f"{path}: index_base {asked} was asked for, but a comment says that indices are "
            f"counted from {stated}; remove that comment if it is wrong"
        )
    base = stated if asked is None else asked
    if base is None:
        raise InputError(
            f"{path} has no index 0, so it does not show whether columns are counted from 0 or "
            "from 1; say --index-base 1 (files of LIBSVM) or 0 (what scikit-learn writes), in "
            "Python index_base="
        )
    return base


def _parse(path: Path, place: int, chunk: bytes) -> _Part:
    refuse_hidden(path, place, chunk)
    stated = _STATED_BASE.match(chunk) if place == 0 else None
    base = None if stated is None else int(stated[1] == b"one")
    # Most files need no tidying, which takes as long as all the rest; LIBSVM's own do.
    ends_in_space = chunk.partition(b"\n")[0].endswith(b" ")
    part = None if ends_in_space else _parse_tidy(chunk, base)
    if part is None:
        part = _parse_tidy(tidy(chunk), base)
    if part is None:
        _explain(path, place, chunk)
    for numbers in (part.labels, part.values):
        refuse_rounded(path, place, chunk, numbers)
    return part


def _parse_tidy(text: bytes, base: int | None) -> _Part | None:
    """Parse lines with one space before each index and no others; None if they are not that."""
    found = read_numbers(text, b" :")
    if found is None:
        return None
    numbers, after = found
    if not numbers.size:
        nothing = np.empty(0, np.int32)
        return _Part(numbers, nothing, nothing, numbers, base)
    before = after[:-1]
    # An index follows a space, and nothing else does.
    if (
        after[0] == _COLON
        or ((before == _SPACE) != (after[1:] == _COLON)).any()
        or not np.isfinite(numbers).all()
    ):
        return None
    is_label = np.empty(after.size, bool)
    is_label[0], is_label[1:] = True, before == LINE
    counts = np.diff(np.flatnonzero(is_label), append=after.size) // 2
    raw, values = numbers[~is_label].reshape(-1, 2).T
    if raw.min(initial=0) < 0 or raw.max(initial=0) > _MAX_INDEX:
        return None
    indices = raw.astype(np.int32)
    falling = indices[1:] <= indices[:-1]
    starts = np.cumsum(counts[:-1])
    falling[starts[(starts > 0) & (starts < indices.size)] - 1] = False
    if falling.any() or (indices != raw).any():
        return None
    return _Part(numbers[is_label], counts, indices, values.copy(), base)


def _explain(path: Path, place: int, chunk: bytes) -> NoReturn:
    """`InputError` for the first line of a chunk that has a fault."""
    line = find_line(path, place)
    for number, content in enumerate(chunk.split(b"\n"), line):
        fault = _fault(content.partition(b"#")[0].decode("utf-8", "replace").split())
        if fault is not None:
            raise InputError(f"{path}, line {number}: {fault}")
    raise InputError(f"{path}, after line {line}: not lines of LABEL INDEX:VALUE ...")


def _fault(words: list[str]) -> str | None:
    """Say what is wrong with a line, if anything."""
    if not words:
        return None
    label, last = words[0], -1
    if ":" in label:
        return f"{label!r} stands where the label has to be; put a number before it"
    if not is_number(label):
        return f"the label {label!r} is not one finite number"
    for word in words[1:]:
        index, colon, value = word.partition(":")
        fault = None
        if index == "qid":
            fault = f"{word!r} is an id of a query, which is not read; remove these ids"
        elif not colon or not is_number(value):
            fault = f"{word!r} is not INDEX:VALUE with a finite number"
        elif not re.fullmatch(r"\d{1,10}", index) or int(index) > _MAX_INDEX:
            fault = f"the index {index!r} is not a whole number below 2^31 - 1"
        elif int(index) <= last:
            fault = f"the index {index} comes after {last}; indices have to increase"
        if fault is not None:
            return fault
        last = int(index)
    return None
