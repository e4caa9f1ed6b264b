"""Data frames as input and output: pandas, polars, and what else narwhals reads."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import narwhals.stable.v2 as nw
import numpy as np

from copyreg_jax.errors import InputError

__all__ = [
    "FrameLabels",
    "check_same_index",
    "first_rounded",
    "frame_labels",
    "mask_values",
    "plain_values",
]

_ARRAYS = (np.ndarray, jax.Array, list, tuple, int, float)
"""What is no data frame, most of the time."""


@dataclasses.dataclass(frozen=True, eq=False)
class FrameLabels:
    """What a data frame A knows beside its numbers.

    Attributes
    ----------
    name : str
        The name of the argument that the frame was.
    kind : narwhals Implementation
        Whether it is of pandas, polars or another package.
    columns : tuple
        The names of its columns.
    index : pandas Index or None
        The names of its rows; None for libraries whose rows have no names.
    """

    name: str
    kind: Any
    columns: tuple[Any, ...]
    index: Any

    def frame(self, columns: dict[str, np.ndarray]) -> Any:
        """A frame of the same kind, with the same rows."""
        made = nw.from_dict(columns, backend=self.kind).to_native()
        return made if self.index is None else made.set_axis(self.index)


def frame_labels(name: str, data: Any) -> FrameLabels | None:
    """The names of the rows and columns of a data frame; None for what is no data frame."""
    frame = _read(name, data)
    if not isinstance(frame, nw.DataFrame):
        return None
    return FrameLabels(name, frame.implementation, tuple(frame.columns), nw.maybe_get_index(frame))


def plain_values(name: str, data: Any) -> Any:
    """The numbers of a data frame or of a column as a NumPy array; other data as they are.

    Columns of integers and truth values take the precision of those with fractions.

    Raises
    ------
    InputError
        A column that is not of real numbers, an entry that is missing or not finite, or an integer
        that the precision of the other columns does not hold.
    """
    found = _read(name, data)
    if isinstance(found, nw.Series):
        return _numbers(name, found, nw.maybe_get_index(found))
    if not isinstance(found, nw.DataFrame):
        return data
    index = nw.maybe_get_index(found)
    columns = [
        _numbers(name, column, index, f"column {column.name!r}") for column in found.iter_columns()
    ]
    inexact = [column.dtype for column in columns if column.dtype.kind == "f"]
    dtype = np.result_type(*(inexact or [column.dtype for column in columns] or [np.dtype(float)]))
    values = np.empty(found.shape, dtype, order="F")
    for k, column in enumerate(columns):
        _refuse_rounded(name, column, dtype, found.columns[k], index)
        values[:, k] = column
    return values


def mask_values(name: str, rows: Any) -> Any:
    """The truth values of a column as a NumPy array; rows that are no column as they are.

    Raises
    ------
    InputError
        A column that is not of truth values, or a pandas Index.
    """
    found = _read(name, rows)
    if nw.dependencies.is_pandas_index(found):
        raise InputError(
            f"{name} is a pandas Index, whose labels need not be row numbers; give a boolean mask"
        )
    if isinstance(found, nw.DataFrame):
        raise InputError(f"{name} is a data frame; give one boolean column of it")
    if not isinstance(found, nw.Series):
        return rows
    index = nw.maybe_get_index(found)
    _refuse(name, found.is_null().to_numpy(), index)
    if found.dtype != nw.Boolean:
        raise InputError(
            f"{name} is a column of {found.dtype}; give one of truth values, such as "
            "`column != 0`, or row numbers as a list"
        )
    return _numbers(name, found, index).astype(bool)


def check_same_index(labels: FrameLabels | None, **columns: Any) -> None:
    """Refuse a pandas column whose index is not that of the frame: values are taken by position.

    Without a frame that has an index, the columns are compared with the first of them that has one.
    """
    A, index = ("", None) if labels is None else (labels.name, labels.index)
    for name, data in columns.items():
        found = _read(name, data)
        if not isinstance(found, nw.Series | nw.DataFrame):
            continue
        own = nw.maybe_get_index(found)
        if own is None:
            continue
        if index is None:
            A, index = name, own
        if own.equals(index):
            continue
        if len(own) == len(index):  # else the lengths are what is said
            i = int(np.argmin(np.asarray(own == index)))
            raise InputError(
                f"{name} has index {own[i]!r} where {A} has {index[i]!r}, at row {i}; give "
                f"{name}.loc[{A}.index], or {name}.to_numpy() if its rows are in the order of {A}"
            )


def _read(name: str, data: Any) -> Any:
    """A narwhals frame or column of the data, or the data."""
    if isinstance(data, _ARRAYS):
        return data
    try:
        found = nw.from_native(data, pass_through=True, allow_series=True)
    except nw.exceptions.DuplicateError:
        column = data.columns[data.columns.duplicated()][0]
        raise InputError(f"{name} has two columns named {column!r}; rename one") from None
    if isinstance(found, nw.LazyFrame):
        raise InputError(f"{name} is a {type(data).__name__} that is not read yet; collect it")
    return found


def _numbers(name: str, column: Any, index: Any, where: str = "") -> np.ndarray:
    """The numbers of a column, all of them finite."""
    missing = column.is_null().to_numpy()
    values: np.ndarray = (column.drop_nulls() if missing.any() else column).to_numpy()
    if values.ndim != 1 or values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        native = getattr(column.to_native(), "dtype", column.dtype)
        place = f" at {where}" if where else ""
        raise InputError(f"{name} has dtype {native}{place}; give real numbers of at most 64 bits")
    _refuse(name, missing, index, where)
    _refuse(name, ~np.isfinite(values), index, where, values)
    return values


def first_rounded(values: np.ndarray, dtype: Any) -> int | None:
    """Where, counted in C order, the first integer is that a dtype of floats does not hold."""
    digits = np.finfo(dtype).nmant + 1
    if values.dtype.kind not in "iu" or 8 * values.dtype.itemsize <= digits:
        return None
    if max(values.max(initial=0).item(), -values.min(initial=0).item()) <= 2**digits:
        return None  # most of the time, and without a copy
    # In 64 bits first: there abs wraps -2^63 alone, which is right if it is read without a sign.
    wide = np.abs(values.astype(np.int64)) if values.dtype.kind == "i" else values
    size = wide.astype(np.uint64).reshape(-1)
    size //= np.maximum(size & (~size + np.uint64(1)), 1)  # by the largest power of 2 in it
    rounded = size >= 2**digits
    return int(np.argmax(rounded)) if rounded.any() else None


def _refuse_rounded(name: str, column: np.ndarray, dtype: np.dtype, where: str, index: Any) -> None:
    """`InputError` for the first integer that changes in a dtype of floats."""
    i = first_rounded(column, dtype) if dtype.kind == "f" else None
    if i is not None:
        raise InputError(
            f"{name} is {column[i]} at {_place(i, index)}, column {where!r}; {dtype}, the "
            "precision of the other columns, does not hold that integer; convert its column to the "
            "precision that you want"
        )


def _place(i: int, index: Any) -> str:
    label = "" if index is None or index[i] == i else f" (index {index[i]!r})"
    return f"row {i}{label}"


def _refuse(
    name: str, bad: np.ndarray, index: Any, where: str = "", values: np.ndarray | None = None
) -> None:
    """`InputError` for the first bad entry of a column; without values it is a missing one."""
    if not bad.any():
        return
    i = int(np.argmax(bad))
    what = "missing" if values is None else values[i]
    comma = f", {where}" if where else ""
    raise InputError(
        f"{name} is {what} at {_place(i, index)}{comma}; replace that entry or leave its row out"
    )
