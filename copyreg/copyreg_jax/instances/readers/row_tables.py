"""What readers hand on: rows of exact numbers, columns beside them, and where they come from."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, TypeAlias

import numpy as np

from copyreg_jax._files import unreadable
from copyreg_jax.checker.archive import StoredFile
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.errors import InputError
from copyreg_jax.problems.frames import first_rounded

__all__ = [
    "BLOCK_BYTES",
    "EXACT_INTEGERS",
    "Choice",
    "DenseTable",
    "Field",
    "Fields",
    "Labels",
    "Table",
    "Wanted",
    "Way",
    "as_field",
    "choose",
    "exact_dtype",
    "exact_numbers",
    "find_file",
    "list_names",
    "refuse_not_finite",
    "refuse_texts",
    "require_unchanged",
    "to_labels",
]

BLOCK_BYTES = 1 << 22
"""Bytes of the rows that are read at once."""

EXACT_INTEGERS = 1 << 53
"""Integers up to this size are float64 numbers, each of them."""

_NARROW = ("bool", "int8", "uint8", "int16", "uint16", "float16", "bfloat16", "float32")
"""Types whose numbers float32 has, each of them."""

_WIDE = ("int32", "uint32", "int64", "uint64", "float64")


class Labels(NamedTuple):
    """A column of text: for each row the number of its text in a list."""

    codes: np.ndarray
    texts: list[str]


Field: TypeAlias = np.ndarray | Labels

Way: TypeAlias = Literal["number", "text"]

Wanted: TypeAlias = Collection[tuple[str, Way]]
"""Columns that are wanted beside A, each with the way in which it is to be read."""

Fields: TypeAlias = dict[tuple[str, Way], Field]


class Table(Protocol):
    """A file with one row of numbers for each row of A: a `DenseTable` or a `SparseTable`."""

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        ...

    @property
    def kind(self) -> str:
        """Kind of the file, in words."""
        ...

    @property
    def file(self) -> StoredFile:
        """The file as it was found."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """Names of the d columns of A."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64: the narrower one that has all numbers exactly."""
        ...

    def survey(self, wanted: Wanted) -> tuple[int, Fields]:
        """Count the rows, and read some columns beside A."""
        ...


class DenseTable(Table, Protocol):
    """A table that is read some rows at a time."""

    def blocks(self, place: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """Rows from a place on, 0 or one that this gave, and the place after them."""
        ...


class Choice(NamedTuple):
    """Which columns of a table are A, and which stand beside it."""

    columns: Sequence[str] | None = None
    without: Sequence[str] = ()
    fields: tuple[str, ...] = ()


def choose(name: str, available: Sequence[str], choice: Choice) -> list[int]:
    """Return the numbers of the columns that are A, in the order in which they were asked for."""
    places: dict[str, list[int]] = {}
    for place, column in enumerate(available):
        places.setdefault(column, []).append(place)

    def named(pattern: str) -> list[int]:
        found = [pattern] if pattern in places else fnmatch.filter(places, pattern)
        if not found:
            raise InputError(f"{name}: no column {pattern!r}; {list_names(available)}")
        for column in found:
            if len(places[column]) > 1:
                raise InputError(f"{name}: two columns have the name {column!r}; rename one")
        return [places[column][0] for column in found]

    for field in choice.fields:
        if field not in places:
            raise InputError(f"{name}: no column {field!r}; {list_names(available)}")
        named(field)
    left_out = {place for pattern in choice.without for place in named(pattern)}
    beside = {places[field][0] for field in choice.fields}
    if choice.columns is None:
        chosen = [place for column in places for place in named(column)]
        chosen = [place for place in chosen if place not in beside]
    else:
        chosen = list(dict.fromkeys(place for part in choice.columns for place in named(part)))
        both = [available[place] for place in chosen if place in beside]
        if both and any(column in choice.columns for column in both):
            raise InputError(
                f"{name}: column {both[0]!r} is asked for twice, as a part of A and beside it"
            )
        chosen = [place for place in chosen if place not in beside]
    chosen = [place for place in chosen if place not in left_out]
    if not chosen:
        raise InputError(f"{name}: no column is left for A; {list_names(available)}")
    return chosen


def list_names(names: Sequence[str]) -> str:
    """Say which columns there are, the first of many."""
    shown = ", ".join(map(repr, names[:8])) or "none"
    return f"it has {shown}" + f" and {len(names) - 8} more" * (len(names) > 8)


def exact_dtype(where: str, dtype: Any) -> np.dtype:
    """Return the narrower of float32 and float64 that has the numbers of a dtype exactly."""
    found = np.dtype(dtype)
    if found.name in _NARROW:
        return np.dtype(np.float32)
    if found.name in _WIDE:
        return np.dtype(np.float64)
    if found.kind == "V":
        raise InputError(
            f"{where} has dtype {found}: bytes without a type, as NumPy stores bfloat16 and "
            "float8; convert it to float32 before you save it, or use safetensors"
        )
    raise InputError(f"{where} has dtype {found}; give real numbers of at most 64 bits")


def exact_numbers(
    name: str, block: np.ndarray, dtype: np.dtype, first_row: int, columns: Sequence[str]
) -> np.ndarray:
    """Convert rows to a dtype of `exact_dtype`; `InputError` where a number would change."""
    place = first_rounded(block, dtype)
    if place is not None:
        i, j = divmod(place, block.shape[1])
        raise InputError(
            f"{name} is {block[i, j]} at row {first_row + i}, column {columns[j]!r}, an integer "
            f"that {dtype} does not hold; scale it, or leave it out"
        )
    return block.astype(dtype, copy=False)


def refuse_not_finite(
    name: str, block: np.ndarray, first_row: int, columns: Sequence[str]
) -> np.ndarray:
    """Return the block; `InputError` names the first number that is NaN or infinite."""
    finite = np.isfinite(block)
    if not finite.all():
        i, j = np.argwhere(~finite)[0]
        raise InputError(
            f"{name} is {block[i, j]} at row {first_row + i}, column {columns[j]!r}; "
            "replace that number or remove the row"
        )
    return block


def refuse_texts(where: str, names: Sequence[str], what: str) -> NoReturn:
    """`InputError` for the columns that would be a part of A, and hold no numbers."""
    several = len(names) > 1
    shown = ", ".join(map(repr, names))
    # The option is split at commas, and takes patterns.
    option = shlex.join(["--without-columns", ",".join(name.replace(",", "?") for name in names)])
    raise InputError(
        f"{where}: column{'s' * several} {shown} {'hold' if several else 'holds'} {what}, no "
        f"numbers; leave {'them' if several else 'it'} out ({option}; without= in Python), or "
        "name the columns of A (--columns; columns=)"
    )


def to_labels(numbers: np.ndarray) -> Labels:
    """Return numbers as text, whole ones without a decimal point."""
    values, codes = np.unique(numbers, return_inverse=True)
    texts = [
        str(value) if value.dtype.kind in "biu" or value % 1 else f"{value:.0f}" for value in values
    ]
    return Labels(codes.astype(np.int32), texts)


def as_field(numbers: np.ndarray, way: Way) -> Field:
    """Return a column of numbers as a target or as labels."""
    return to_labels(numbers) if way == "text" else numbers.astype(np.float64)


def find_file(path: Path) -> StoredFile:
    """Return the file as it is now; `InputError` if there is none."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file; give one, which can be read twice")
    try:
        return StoredFile.found(path)
    except (OSError, ValueError) as error:  # a name with a null byte
        raise unreadable(path, error) from None


def require_unchanged(file: StoredFile) -> None:
    """`InputError` if a file is another one by now."""
    try:
        file.require_same()
    except VoidError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise unreadable(file.path, error) from None
