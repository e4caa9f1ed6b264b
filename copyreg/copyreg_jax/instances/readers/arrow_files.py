"""Tables of Apache Arrow: Parquet files, and Arrow IPC files (Feather)."""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.row_tables import (
    BLOCK_BYTES,
    EXACT_INTEGERS,
    Choice,
    Field,
    Fields,
    Labels,
    Wanted,
    Way,
    choose,
    exact_dtype,
    exact_numbers,
    find_file,
    refuse_not_finite,
    refuse_texts,
)
from copyreg_jax.instances.readers.text_chunks import is_rounded

__all__ = ["ArrowTable", "FieldBuilder", "fill"]

_SURVEYED = 1 << 16
"""Rows whose columns beside A are read at once."""

_PIECE = 1 << 11
"""Rows whose columns are put side by side at once: a few caches full."""


class ArrowTable:
    """Rows in batches of columns of numbers, or of lists of numbers that are all equally long."""

    def __init__(self, path: Path, kind: str, choice: Choice) -> None:
        import pyarrow as pa

        self.name, self.kind = str(path), kind
        self.file = find_file(path)
        try:
            self._reader = _Parquet(path) if kind == "Parquet file" else _Ipc(path)
        except pa.ArrowInvalid as error:
            raise InputError(f"{path} is truncated or no {kind}: {error}") from None
        except OSError as error:
            raise unreadable(path, error) from None
        schema = self._reader.schema
        chosen = choose(self.name, schema.names, choice)
        self._refuse_index({schema.names[place] for place in chosen}, choice)
        self._parts = [schema.names[place] for place in chosen]
        types = [_Type(schema.field(place)) for place in chosen]
        others = [each for each in types if not each.is_number]
        if others:
            what = "the type " + ", ".join(dict.fromkeys(each.kind for each in others))
            refuse_texts(self.name, [each.name for each in others], what)
        self.dtype = np.result_type(*(each.dtype(self.name) for each in types))
        self._widths = widths = self._find_widths(types)
        self._edges = [0, *itertools.accumulate(widths)]
        self.columns = [
            name if not each.is_list else f"{name}[{place}]"
            for name, each, width in zip(self._parts, types, widths, strict=True)
            for place in range(width)
        ]

    def _refuse_index(self, names: set[str], choice: Choice) -> None:
        """`InputError` if the index of a data frame is a column of A, and nobody asked for it."""
        try:
            held = (self._reader.schema.pandas_metadata or {}).get("index_columns", ())
        except (ValueError, AttributeError):  # what another program has written under that name
            return
        for index in held:
            if isinstance(index, str) and index in names - set(choice.columns or ()):
                raise InputError(
                    f"{self.name}: column {index!r} is the index of a data frame of pandas; leave "
                    f"it out (--without-columns {index}), or name it among the columns of A "
                    "(--columns)"
                )

    def survey(self, wanted: Wanted) -> tuple[int, Fields]:
        """Count the rows, and read some columns beside A."""
        import pyarrow as pa

        found = {each: FieldBuilder(self.name, *each) for each in wanted}
        names = list({name for name, _ in wanted})
        for batch in self._batches(0, names, _SURVEYED) if names else ():
            for (name, _), builder in found.items():
                builder.add(batch.column(name))
        pa.default_memory_pool().release_unused()
        with self._explained():
            num_rows = self._reader.num_rows
        if num_rows == 0:
            raise InputError(f"{self.name} has no row")
        return num_rows, {each: found[each].finish() for each in wanted}

    def blocks(self, place: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """Rows, and the number of the row after them."""
        d = len(self.columns)
        size = max(1, BLOCK_BYTES // (d * self.dtype.itemsize))
        for batch in self._batches(place, self._parts, size):
            columns = [
                self._numbers(batch.column(name), name, width, place)
                for name, width in zip(self._parts, self._widths, strict=True)
            ]
            rows = fill(columns, self._edges, batch.num_rows, self.dtype)
            yield refuse_not_finite(self.name, rows, place, self.columns), place + batch.num_rows
            place += batch.num_rows

    def _batches(self, first: int, names: list[str], size: int) -> Iterator[Any]:
        """Batches of some columns, from a row on."""
        with self._explained():
            yield from self._reader.batches(first, names, size)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """`InputError` for a file that can't be read."""
        import pyarrow as pa

        try:
            yield
        except pa.ArrowInvalid as error:
            raise InputError(f"{self.name} is damaged: {error}") from None
        except OSError as error:
            raise unreadable(self.name, error) from None

    def _find_widths(self, types: Sequence[_Type]) -> list[int]:
        """Number of columns of A behind each column of the file."""
        names = [name for name, each in zip(self._parts, types, strict=True) if each.is_list]
        if not names:
            return [1] * len(types)
        batch = next(self._batches(0, names, 1), None)
        if batch is None:
            raise InputError(f"{self.name} has no row")
        widths = [
            len(batch.column(name)[0].as_py() or ()) if each.is_list else 1
            for name, each in zip(self._parts, types, strict=True)
        ]
        for name, width in zip(self._parts, widths, strict=True):
            if width == 0:
                raise InputError(f"{self.name}, row 0: column {name!r} has no numbers")
        return widths

    def _numbers(self, column: Any, name: str, width: int, first_row: int) -> np.ndarray:
        """Numbers of a column, as rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        where = f"{self.name}, row"
        # A list of a null row would be dropped, and a null number would become a NaN.
        _refuse_null(self.name, column, name, first_row)
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        names = [name]
        if _is_list(column.type):
            lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
            other = np.flatnonzero(lengths != width)
            if other.size:
                raise InputError(
                    f"{where} {first_row + other[0]}: column {name!r} has {lengths[other[0]]} "
                    f"numbers, but row 0 has {width}; lists have to be equally long"
                )
            column, names = column.flatten(), [f"{name}[{place}]" for place in range(width)]
            if column.null_count:
                at = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
                raise InputError(
                    f"{where} {first_row + at // width}: {names[at % width]!r} is null; fill it "
                    "or remove the row"
                )
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        numbers = column.to_numpy(zero_copy_only=False).reshape(-1, width)
        dtype = exact_dtype(f"{self.name}: column {name!r}", numbers.dtype)
        return exact_numbers(self.name, numbers, dtype, first_row, names)


class _Parquet:
    """The row groups of a Parquet file."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        # Mapped: else the packed pages of a whole row group are held in memory.
        self._file = pq.ParquetFile(path, memory_map=True)
        self.schema = self._file.schema_arrow
        counts = (
            self._file.metadata.row_group(group).num_rows
            for group in range(self._file.metadata.num_row_groups)
        )
        self._starts = [0, *itertools.accumulate(counts)]
        self.num_rows = self._starts[-1]

    def batches(self, first: int, names: list[str], size: int) -> Iterator[Any]:
        """Batches of some columns, from a row on."""
        group = max(0, bisect.bisect_right(self._starts, first) - 1)
        skipped = first - self._starts[group]
        groups = range(group, len(self._starts) - 1)
        for batch in self._file.iter_batches(size, row_groups=list(groups), columns=names):
            rest = batch.slice(min(skipped, batch.num_rows))
            skipped -= batch.num_rows - rest.num_rows
            if rest.num_rows:
                yield rest


class _Ipc:
    """The record batches of an Arrow IPC file, or of a stream of them."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path, self._is_file = str(path), True
        try:
            self.schema = pa.ipc.open_file(pa.memory_map(self._path)).schema
        except pa.ArrowInvalid:
            self._is_file = False
            self.schema = pa.ipc.open_stream(pa.memory_map(self._path)).schema

    @functools.cached_property
    def num_rows(self) -> int:
        """How many rows there are, which only the batches themselves say."""
        return sum(batch.num_rows for batch in self._held())

    def _held(self) -> Iterator[Any]:
        """The batches as they are stored, one at a time, because they may be packed."""
        import pyarrow as pa

        source = pa.memory_map(self._path)
        if not self._is_file:
            yield from pa.ipc.open_stream(source)
            return
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)

    def batches(self, first: int, names: list[str], size: int) -> Iterator[Any]:
        """Batches of some columns, from a row on."""
        for held in self._held():
            start = min(first, held.num_rows)
            first -= start
            for at in range(start, held.num_rows, size):
                yield held.select(names).slice(at, size)


class _Type:
    """What a column of a schema holds."""

    def __init__(self, field: Any) -> None:
        import pyarrow as pa

        kind = field.type
        self.name, self.kind = field.name, str(kind)
        if isinstance(kind, pa.FixedShapeTensorType) and len(kind.shape) == 1:
            kind = kind.storage_type
        self.is_list = _is_list(kind)
        if self.is_list:
            kind = kind.value_type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        types = pa.types
        self.is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
        self._inner = kind

    def dtype(self, where: str) -> np.dtype:
        """Narrowest type that has its numbers exactly, if it holds numbers."""
        return exact_dtype(where, self._inner.to_pandas_dtype())


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _refuse_null(name: str, column: Any, called: str, first_row: int) -> None:
    import pyarrow as pa

    if isinstance(column, pa.DictionaryArray) and column.dictionary.null_count:
        column = column.dictionary_decode()  # whose own count leaves out these nulls
    if column.null_count:
        at = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(
            f"{name}, row {first_row + at}: column {called!r} is null; fill it or remove the row"
        )


def fill(
    columns: Sequence[np.ndarray], edges: Sequence[int], num_rows: int, dtype: np.dtype
) -> np.ndarray:
    """Put columns side by side, a few rows at once so that these stay in the cache."""
    if len(columns) == 1:
        return columns[0].astype(dtype, copy=False)
    rows = np.empty((num_rows, edges[-1]), dtype)
    for start in range(0, num_rows, _PIECE):
        piece = slice(start, start + _PIECE)
        for column, first, last in zip(columns, edges, edges[1:], strict=False):
            rows[piece, first:last] = column[piece]
    return rows


class FieldBuilder:
    """A column beside A, of which the rows come part by part."""

    def __init__(self, name: str, called: str, way: Way) -> None:
        self._name, self._called, self._way = name, called, way
        self._codes: dict[str, int] = {}
        self._held = np.empty(0, np.float64 if way == "number" else np.int32)
        self._size = 0

    def add(self, column: Any) -> None:
        """Take the next rows, an array of Arrow."""
        import pyarrow as pa

        _refuse_null(self._name, column, self._called, self._size)
        try:
            part = self._numbers(column) if self._way == "number" else self._codes_of(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"{self._name}: column {self._called!r} can't be read as a {self._way}: {error}"
            ) from None
        stop = self._size + part.size
        if stop > self._held.size:  # in place where the system can, and not to twice the size
            self._held.resize(stop + stop // 8, refcheck=False)
        self._held[self._size : stop] = part
        self._size = stop

    def finish(self) -> Field:
        """Return the column."""
        self._held.resize(self._size, refcheck=False)
        return self._held if self._way == "number" else Labels(self._held, list(self._codes))

    def _numbers(self, column: Any) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        if pa.types.is_integer(column.type):
            whole = column.to_numpy(zero_copy_only=False)[:, None]
            held = exact_numbers(
                self._name, whole, np.dtype(np.float64), self._size, [self._called]
            )
            return held[:, 0]
        numbers = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            for at in np.flatnonzero(abs(numbers) >= EXACT_INTEGERS):
                if is_rounded(word := column[int(at)].as_py()):
                    raise InputError(
                        f"{self._name}, row {self._size + at}: column {self._called!r} is "
                        f"{word}, an integer beyond 2^53 that float64 does not have"
                    )
        return refuse_not_finite(self._name, numbers[:, None], self._size, [self._called])[:, 0]

    def _codes_of(self, column: Any) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not pa.types.is_dictionary(column.type):
            column = pc.dictionary_encode(pc.cast(column, pa.string()))
        texts = pc.cast(column.dictionary, pa.string()).to_pylist()
        places = column.indices.to_numpy()
        codes = np.zeros(len(texts), np.int32)
        # A dictionary may have texts that no row has.
        for k in np.flatnonzero(np.bincount(places, minlength=len(texts))):
            codes[k] = self._codes.setdefault(texts[k], len(self._codes))
        return codes[places]
