"""Tables in text files: .csv and .tsv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.arrow_files import FieldBuilder, fill
from copyreg_jax.instances.readers.row_tables import (
    Choice,
    Fields,
    Wanted,
    choose,
    find_file,
)
from copyreg_jax.instances.readers.text_chunks import (
    find_line,
    is_number,
    map_chunks,
    open_bytes,
    split_chunks,
)

__all__ = ["CsvTable"]

_QUOTE = b'"'

_BOM = b"\xef\xbb\xbf"


class CsvTable:
    """Rows of a table in text, as float64; the other columns may be anything."""

    dtype = np.dtype(np.float64)

    def __init__(self, path: Path, choice: Choice, delimiter: str, *, header: bool) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n' or ord(delimiter) > 127:
            raise InputError(f"the delimiter is {delimiter!r}; give one character, as ',' or ';'")
        self.name, self._path, self._delimiter = str(path), path, delimiter
        self.kind = f"table in text, cells separated by {delimiter!r}" + ", no header" * (
            not header
        )
        self.file = find_file(path)
        first = self._first_row()
        numbers = [is_number(cell) for cell in first]
        if header and all(numbers):
            raise InputError(
                f"{path}: the first line holds numbers, no names of columns; add a line of "
                "names, or say that there is none (--no-header, or header=False in Python)"
            )
        self._names = first if header else [str(place) for place in range(len(first))]
        self._start = self._header_end if header else self._bom
        if len(first) == 1 and (other := next((c for c in ";\t|" if c in first[0]), None)):
            raise InputError(
                f"{path}: one column, with the name {first[0]!r:.60}; say what separates the "
                f"columns: --delimiter {other!r} (delimiter= in Python)"
            )
        if len(set(self._names)) < len(self._names):
            double = next(name for name in self._names if self._names.count(name) > 1)
            raise InputError(f"{path}: two columns have the name {double!r}; rename one")
        chosen = choose(self.name, self._names, choice)
        self.columns = [self._names[place] for place in chosen]
        if "" in self.columns:
            raise InputError(
                f"{path}: column {self._names.index('') + 1} has no name, as an index that pandas "
                "has written; leave it out (--without-columns '') or give it a name"
            )

    def survey(self, wanted: Wanted) -> tuple[int, Fields]:
        """Count the rows, and read some columns beside A."""
        found = {each: FieldBuilder(self.name, *each) for each in wanted}
        # Text can still become numbers, if a column is wanted as both.
        read = dict(sorted(wanted)) or {self._names[0]: "text"}
        n = 0
        for table, _ in self._tables(self._start, read):
            n += table.num_rows
            for (name, _), builder in found.items():
                builder.add(table[name].combine_chunks())
        if n == 0:
            raise InputError(f"{self.name} has no row")
        return n, {each: found[each].finish() for each in wanted}

    def blocks(self, place: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """Rows, and the byte after them."""
        types = dict.fromkeys(self.columns, "number")
        edges = range(len(self.columns) + 1)
        for table, end in self._tables(place or self._start, types):
            columns = [table[name].to_numpy()[:, None] for name in self.columns]
            yield fill(columns, edges, table.num_rows, self.dtype), end

    def _first_row(self) -> list[str]:
        """Names of the columns, or the first row of a table that has none."""
        with open_bytes(self._path) as stream:
            self._bom = len(_BOM) if stream.read(len(_BOM)) == _BOM else 0
        for place, chunk in split_chunks(self._path, self._bom, quote=_QUOTE):
            for number, cells in self._rows(place, chunk):
                if cells:
                    lines = chunk.split(b"\n")[:number]
                    self._header_end = place + sum(len(line) + 1 for line in lines)
                    return [cell.strip() for cell in cells]
        raise InputError(f"{self._path} is empty")

    def _tables(self, first: int, types: dict[str, Any]) -> Iterator[tuple[Any, int]]:
        def parse(place: int, chunk: bytes) -> tuple[Any, int]:
            return self._parse(place, chunk, types), place + len(chunk)

        yield from map_chunks(parse, split_chunks(self._path, first, quote=_QUOTE))

    def _parse(self, place: int, chunk: bytes, types: dict[str, Any]) -> Any:
        import pyarrow as pa
        import pyarrow.csv as pacsv

        arrow = {"number": pa.float64(), "text": pa.dictionary(pa.int32(), pa.string())}
        try:
            table = pacsv.read_csv(
                pa.BufferReader(chunk),
                read_options=pacsv.ReadOptions(
                    column_names=self._names, use_threads=False, block_size=len(chunk) + 1
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=_QUOTE in chunk
                ),
                convert_options=pacsv.ConvertOptions(
                    include_columns=list(types),
                    column_types={name: arrow[way] for name, way in types.items()},
                    null_values=[""],
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            self._explain(place, chunk, types, str(error))
        for name, way in types.items():
            column = table[name]
            if way == "number" and (column.null_count or not np.isfinite(column.to_numpy()).all()):
                self._explain(place, chunk, types, "a number is missing")
        return table

    def _explain(self, place: int, chunk: bytes, types: dict[str, Any], why: str) -> NoReturn:
        """`InputError` for the first row of a chunk that has a fault."""
        base = find_line(self._path, place) - 1
        for number, cells in self._rows(place, chunk):
            where = f"{self.name}, line {base + number}"
            if not cells:
                continue
            if len(cells) != len(self._names):
                raise InputError(
                    f"{where}: {len(cells)} cells, but there are {len(self._names)} columns; "
                    "mend or remove this row"
                )
            for name, cell in zip(self._names, cells, strict=True):
                if types.get(name) != "number" or is_number(cell):
                    continue
                what = f"holds {cell!r:.60}, no finite number" if cell.strip() else "is empty"
                raise InputError(
                    f"{where}: column {name!r} {what}; mend or remove this row, or leave the "
                    "column out (--without-columns)"
                )
        raise InputError(f"{self.name}, after line {base}: {why}")

    def _rows(self, place: int, chunk: bytes) -> Iterator[tuple[int, list[str]]]:
        """Rows of a chunk, each with the number of its last line in the chunk."""
        line = 0
        try:
            lines = io.StringIO(chunk.decode("utf-8"), newline="")
            reader = csv.reader(lines, delimiter=self._delimiter)
            for cells in reader:
                line = reader.line_num
                yield line, cells
        except UnicodeDecodeError as error:
            line = find_line(self._path, place) + chunk.count(b"\n", 0, error.start)
            raise InputError(
                f"{self.name}, line {line}: not UTF-8; save the table as UTF-8"
            ) from None
        except csv.Error as error:
            line += find_line(self._path, place)
            raise InputError(f"{self.name}, line {line}: not CSV: {error}") from None
