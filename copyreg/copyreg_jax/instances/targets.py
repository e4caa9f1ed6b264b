"""The target b and the protected rows: from columns and files, or made of labels and rows."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.row_tables import (
    EXACT_INTEGERS,
    DenseTable,
    Field,
    Fields,
    Labels,
    Wanted,
    exact_numbers,
    list_names,
)
from copyreg_jax.instances.readers.sparse_table import SparseTable
from copyreg_jax.problems.input import read_mask

__all__ = [
    "Attention",
    "FirstRows",
    "FlagColumn",
    "FlagFile",
    "FlagLabel",
    "Flags",
    "Frequencies",
    "Target",
    "TargetColumn",
    "TargetFile",
    "TargetLabel",
]

_FLAGS = dict.fromkeys(("1", "1.0", "true", "yes"), True) | dict.fromkeys(
    ("0", "0.0", "false", "no"), False
)

_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.0|\.[0-9]*[1-9])?(e[+-]?[0-9]+)?")
"""A number without zeros that a code has, as in 0123 or 1.10."""


class Target(Protocol):
    """A way to make b."""

    @property
    def wanted(self) -> Wanted:
        """Columns of the file that it needs."""
        ...

    def make(self, n: int, fields: Fields, table: DenseTable | SparseTable) -> np.ndarray:
        """Return b, with a finite number for each of the n rows."""
        ...


class Flags(Protocol):
    """A way to say which rows are protected."""

    @property
    def wanted(self) -> Wanted:
        """Columns of the file that it needs."""
        ...

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return a mask of n rows, of which some are protected and some are not."""
        ...


@dataclasses.dataclass(frozen=True)
class TargetColumn:
    """b is a column as it stands."""

    column: str

    @property
    def wanted(self) -> Wanted:
        """The column, as numbers."""
        return ((self.column, "number"),)

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return the column."""
        return _numbers(fields[self.column, "number"])

    def __str__(self) -> str:
        return f"column {self.column!r}"


@dataclasses.dataclass(frozen=True)
class Frequencies:
    """b is a column of counts, divided by their sum."""

    column: str

    @property
    def wanted(self) -> Wanted:
        """The column, as numbers."""
        return ((self.column, "number"),)

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return the frequencies."""
        counts = _numbers(fields[self.column, "number"])
        if (counts < 0).any():
            row = int(np.argmax(counts < 0))
            raise InputError(
                f"{table.name}, row {row}: column {self.column!r} is {counts[row]:g}; counts are "
                "not negative"
            )
        total = counts.sum()
        if not 0 < total < np.inf:
            raise InputError(f"{table.name}: the counts in {self.column!r} sum to {total:g}")
        return counts / total

    def __str__(self) -> str:
        return f"counts in column {self.column!r}, divided by their sum"


@dataclasses.dataclass(frozen=True)
class TargetLabel:
    """b is spread evenly over the rows with a label."""

    column: str
    label: str

    @property
    def wanted(self) -> Wanted:
        """The column, as text."""
        return ((self.column, "text"),)

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return 1/k on the k rows with the label."""
        chosen = _labeled(table.name, fields[self.column, "text"], self.column, self.label)
        return chosen / np.count_nonzero(chosen)

    def __str__(self) -> str:
        return f"spread evenly over the rows with {self.column!r} = {self.label!r}"


@dataclasses.dataclass(frozen=True)
class TargetFile:
    """b is an array in an .npy file."""

    path: Path

    wanted: Wanted = dataclasses.field(default=(), init=False)

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return the array."""
        array = _read_vector(self.path)
        if array.shape != (n,) or array.dtype.kind not in "fiu":
            raise InputError(
                f"{self.path} has shape {array.shape} and dtype {array.dtype}; b needs {n} "
                "numbers, one for each row"
            )
        b = exact_numbers(str(self.path), array[:, None], np.dtype(np.float64), 0, ["0"])[:, 0]
        if not np.isfinite(b).all():
            row = int(np.argmax(~np.isfinite(b)))
            raise InputError(f"{self.path} is {b[row]} at row {row}; give finite numbers")
        return b

    def __str__(self) -> str:
        return f"file {self.path}"


@dataclasses.dataclass(frozen=True)
class Attention:
    """b is the attention that a row of A, as a query, gives to each row."""

    row: int
    temperature: float | None = None

    wanted: Wanted = dataclasses.field(default=(), init=False)

    def make(self, n: int, fields: Fields, table: DenseTable | SparseTable) -> np.ndarray:
        """Return ``softmax(A q / temperature)``, where q is the row; it reads A twice."""
        if not 0 <= self.row < n:
            raise InputError(f"{table.name} has no row {self.row}; rows are 0 to {n - 1}")
        d = len(table.columns)
        temperature = float(np.sqrt(d)) if self.temperature is None else self.temperature
        if not 0 < temperature < np.inf:
            raise InputError(f"the temperature is {temperature:g}; give a finite number > 0")
        if isinstance(table, SparseTable):
            query = table.matrix[[self.row]].toarray()[0].astype(np.float64)
            logits = table.matrix @ query
        else:
            query, logits = self._query(table), np.empty(n)
            done = 0
            for rows, _ in table.blocks():
                logits[done : done + len(rows)] = rows.astype(np.float64) @ query
                done += len(rows)
        logits /= temperature
        if not np.isfinite(logits).all():
            row = int(np.argmax(~np.isfinite(logits)))
            raise InputError(
                f"{table.name}: the product of rows {row} and {self.row} is {logits[row]}; scale "
                "the numbers down"
            )
        weights = np.exp(logits - logits.max())
        return weights / weights.sum()

    def _query(self, table: DenseTable) -> np.ndarray:
        done = 0
        for rows, _ in table.blocks():
            if self.row < done + len(rows):
                return rows[self.row - done].astype(np.float64)
            done += len(rows)
        raise InputError(f"{table.name} has changed since it was opened; open it anew")

    def __str__(self) -> str:
        scale = "sqrt(d)" if self.temperature is None else f"{self.temperature:g}"
        return f"attention for row {self.row}: softmax(A q / {scale}), q that row"


@dataclasses.dataclass(frozen=True)
class FlagColumn:
    """The protected rows are marked in a column, by 1, true or yes."""

    column: str

    @property
    def wanted(self) -> Wanted:
        """The column, as text."""
        return ((self.column, "text"),)

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return the mask."""
        codes, texts = _labels(fields[self.column, "text"])
        flags = np.zeros(len(texts), bool)
        for k, text in enumerate(texts):
            flag = _FLAGS.get(text.strip().lower())
            if flag is None:
                row = int(np.argmax(codes == k))
                raise InputError(
                    f"{table.name}, row {row}: column {self.column!r} is {text!r:.60}; mark "
                    "protected rows by 1, true or yes and the others by 0, false or no, or say "
                    f"which label is protected: --protected-label {self.column}=LABEL"
                )
            flags[k] = flag
        return _mask(table.name, flags[codes], n)

    def __str__(self) -> str:
        return f"column {self.column!r}"


@dataclasses.dataclass(frozen=True)
class FlagLabel:
    """The protected rows are those with a label."""

    column: str
    label: str

    @property
    def wanted(self) -> Wanted:
        """The column, as text."""
        return ((self.column, "text"),)

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return the mask."""
        chosen = _labeled(table.name, fields[self.column, "text"], self.column, self.label)
        return _mask(table.name, chosen, n)

    def __str__(self) -> str:
        return f"{self.column!r} = {self.label!r}"


@dataclasses.dataclass(frozen=True)
class FirstRows:
    """The protected rows are the first n1, as in the paper."""

    n1: int

    wanted: Wanted = dataclasses.field(default=(), init=False)

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return the mask."""
        return _mask(table.name, self.n1, n)

    def __str__(self) -> str:
        return f"the first {self.n1}"


@dataclasses.dataclass(frozen=True)
class FlagFile:
    """The protected rows are a mask of n rows, or a list of row numbers, in an .npy file."""

    path: Path

    wanted: Wanted = dataclasses.field(default=(), init=False)

    def make(self, n: int, fields: Fields, table: Any) -> np.ndarray:
        """Return the mask."""
        array = _read_vector(self.path)
        # A list of n row numbers would protect all rows, so n numbers are a mask.
        if array.shape == (n,) and array.dtype != bool and np.isin(array, (0, 1)).all():
            array = array.astype(bool)
        is_mask = array.dtype == bool and array.shape == (n,)
        # More than two zeros and ones are a mask of other rows.
        is_short = array.size > 2 and array.dtype.kind in "iu" and np.isin(array, (0, 1)).all()
        is_rows = array.dtype.kind in "iu" and array.ndim == 1 and not is_short
        if not is_mask and not is_rows:
            raise InputError(
                f"{self.path} has dtype {array.dtype} and shape {array.shape}; give a mask with a "
                f"truth value for each of the {n} rows, or the numbers of the protected rows, "
                "counted from 0"
            )
        return _mask(str(self.path), array, n)

    def __str__(self) -> str:
        return f"file {self.path}"


def _mask(name: str, rows: Any, n: int) -> np.ndarray:
    try:
        return np.asarray(read_mask(rows, n))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _numbers(field: Field) -> np.ndarray:
    assert not isinstance(field, Labels)
    return field


def _labels(field: Field) -> Labels:
    assert isinstance(field, Labels)
    return field


def _labeled(name: str, field: Field, column: str, label: str) -> np.ndarray:
    """Rows whose label is a text, or the same number."""
    codes, texts = _labels(field)
    same = _are_label(texts, column, label)
    chosen = same[codes]
    if not chosen.any():
        raise InputError(
            f"{name}: column {column!r} has no row with {label!r}; {list_names(texts)}"
        )
    return np.asarray(chosen)


def _are_label(texts: list[str], column: str, label: str) -> np.ndarray:
    """Which text is the label; if none is, and all are plain numbers, which is that number."""
    same = np.array([text == label for text in texts])
    if same.any() or not all(_is_plain_number(text) for text in (label, *texts)):
        return same
    same = np.array([float(text) == float(label) for text in texts])
    if np.count_nonzero(same) > 1:
        shown = " and ".join(
            repr(text) for text, is_same in zip(texts, same, strict=True) if is_same
        )
        raise InputError(
            f"column {column!r} has {shown}, which both are the number {label}; give the label as "
            "it is written"
        )
    return same


def _is_plain_number(text: str) -> bool:
    """Whether a text is a number as programs write it, which float64 tells from all others."""
    return bool(_PLAIN_NUMBER.fullmatch(text)) and abs(float(text)) < EXACT_INTEGERS


def _read_vector(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is truncated or not an .npy file: {error}") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive; give an .npy file with one array")
    return array
