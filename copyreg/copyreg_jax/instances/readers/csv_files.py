"""Tables in text files: .csv and .tsv."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.arrow_files import FieldBuilder, fill
from copyreg_jax.instances.readers.row_tables import (
    EXACT_INTEGERS,
    Choice,
    Fields,
    Wanted,
    choose,
    find_file,
    refuse_texts,
)
from copyreg_jax.instances.readers.text_chunks import (
    find_line,
    is_number,
    is_rounded,
    map_chunks,
    open_bytes,
    split_chunks,
)

__all__ = ["CsvTable"]

_QUOTE = b'"'

_BOM = b"\xef\xbb\xbf"

_WITH_COMMA = re.compile(r"\s*[-+]?[\d.]*,\d+([eE][-+]?\d+)?\s*")
"""A number as many countries write it, which may also be one with separators of thousands."""


class CsvTable:
    """Rows of a table in text, as float64; the other columns may be anything."""

    dtype = np.dtype(np.float64)

    def __init__(
        self, path: Path, choice: Choice, delimiter: str, *, header: bool | None = None
    ) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n\0' or ord(delimiter) > 127:
            raise InputError(f"the delimiter is {delimiter!r}; give one character, as ',' or ';'")
        self.name, self._path, self._delimiter = str(path), path, delimiter
        self.kind = f"table in text, cells separated by {delimiter!r}" + ", no header" * (
            header is False
        )
        self.file = find_file(path)
        first = self._first_row()
        if header is None:
            self._refuse_numbers(first)
        is_row = header is False
        self._names = [str(place) for place in range(len(first))] if is_row else first
        self._start = self._bom if is_row else self._header_end
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

    def _refuse_numbers(self, first: list[str]) -> None:
        """`InputError` if the first line may be a row, of which the numbers would be lost."""
        number = next((cell for cell in first if is_number(cell)), None)
        if number is None:
            return
        names = "say that these are names (--header, or header=True in Python)"
        named = [cell for cell in first if cell]
        if named == [str(place) for place in range(len(named))]:
            raise InputError(
                f"{self.name}: the first line counts the columns, as pandas does for an array; "
                f"{names}, or give the columns names"
            )
        raise InputError(
            f"{self.name}: the first line holds the number {number}; if it is a row, say that "
            f"there is no line of names (--no-header, or header=False in Python), else {names}"
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
            self._refuse_broken(place, chunk)
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

        self._refuse_broken(place, chunk)
        arrow = {"number": pa.float64(), "text": pa.dictionary(pa.int32(), pa.string())}
        try:
            table = pacsv.read_csv(
                pa.BufferReader(chunk),
                read_options=pacsv.ReadOptions(
                    column_names=self._names, use_threads=False, block_size=len(chunk) + 1
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=self._delimiter,
                    newlines_in_values=_QUOTE in chunk,
                    # In one column, such a line is a number that is missing.
                    ignore_empty_lines=len(self._names) > 1,
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
            if way != "number":
                continue
            column = table[name].to_numpy()
            if table[name].null_count or not np.isfinite(column).all():
                self._explain(place, chunk, types, "a number is missing")
            if (abs(column) >= EXACT_INTEGERS).any():
                self._refuse_faults(place, chunk, types)
        return table

    def _refuse_broken(self, place: int, chunk: bytes) -> None:
        """`InputError` where quotes or ends of lines would make rows of other rows."""
        quotes = np.empty(0, int)
        text = np.frombuffer(b"\n" + chunk, np.uint8)
        at, why = None, ""
        if _QUOTE in chunk:
            quotes = np.flatnonzero(text == _QUOTE[0])
            ends = np.frombuffer(self._delimiter.encode() + b'\r\n"', np.uint8)
            # Quotes open and close in turn, and one that is doubled closes and opens.
            opens, closes = quotes[::2], quotes[1::2]
            stray = np.concatenate(
                [
                    opens[~np.isin(text[opens - 1], ends)],
                    closes[~np.isin(text[closes + 1], ends)],
                ]
            )
            if stray.size:
                at = int(stray.min())
                why = (
                    "a quote in the middle of a cell; put the whole cell in quotes and double "
                    "those in it, or remove them"
                )
            elif quotes.size % 2:
                at, why = int(quotes[-1]), "a quote is opened and never closed; close or remove it"
        if at is None and b"\r" in chunk:
            bare = np.flatnonzero((text[:-1] == ord("\r")) & (text[1:] != ord("\n")))
            bare = bare[np.searchsorted(quotes, bare) % 2 == 0]
            if bare.size:
                at = int(bare[0])
                why = "a carriage return ends no line; save the table with line feeds (LF or CRLF)"
        if at is not None:
            self._decode(place, chunk)  # UTF-16 looks broken too, and has a better name
            line = find_line(self._path, place) + chunk.count(b"\n", 0, at - 1)
            raise InputError(f"{self.name}, line {line}: {why}")

    def _explain(self, place: int, chunk: bytes, types: dict[str, Any], why: str) -> NoReturn:
        """`InputError` for the first row of a chunk that has a fault."""
        self._refuse_faults(place, chunk, types)
        base = find_line(self._path, place) - 1
        raise InputError(f"{self.name}, after line {base}: {' '.join(why.split())}")

    def _refuse_faults(self, place: int, chunk: bytes, types: dict[str, Any]) -> None:
        base = find_line(self._path, place) - 1
        texts = self._text_columns(place, chunk) if place == self._start else []
        for number, cells in self._rows(place, chunk):
            where = f"{self.name}, line {base + number}"
            if not cells:
                if len(self._names) > 1:
                    continue
                raise InputError(
                    f"{where} is empty, which in a table of one column is a missing number; fill "
                    "it or remove the line"
                )
            if len(cells) != len(self._names):
                raise InputError(
                    f"{where}: {len(cells)} cells, but there are {len(self._names)} columns; "
                    "mend or remove this row"
                )
            for name, cell in zip(self._names, cells, strict=True):
                if types.get(name) != "number" or (is_number(cell) and not is_rounded(cell)):
                    continue
                if name in texts and name in self.columns:
                    inner = [each for each in texts if each in self.columns]
                    refuse_texts(self.name, inner, f"text, as {cell!r:.60} in line {base + number}")
                what = f"holds {cell!r:.60}, no finite number" if cell.strip() else "is empty"
                if is_number(cell):
                    what = f"holds {cell}, an integer beyond 2^53 that float64 does not have"
                cure = "mend or remove this row"
                if _WITH_COMMA.fullmatch(cell):
                    cure = "save the table with decimal points, and no separators of thousands"
                elif name in texts:
                    cure = "choose a column of numbers"
                elif name in self.columns:
                    cure += ", or leave the column out (--without-columns)"
                raise InputError(f"{where}: column {name!r} {what}; {cure}")

    def _text_columns(self, place: int, chunk: bytes) -> list[str]:
        """Columns that hold text and no number, as far as a chunk shows it."""
        rows = [cells for _, cells in self._rows(place, chunk) if len(cells) == len(self._names)]
        return [
            name
            for name, cells in zip(self._names, zip(*rows, strict=True), strict=False)
            if any(cell.strip() for cell in cells) and not any(map(_is_numeric, cells))
        ]

    def _decode(self, place: int, chunk: bytes) -> str:
        try:
            return chunk.decode("utf-8")
        except UnicodeDecodeError as error:
            line = find_line(self._path, place) + chunk.count(b"\n", 0, error.start)
            raise InputError(
                f"{self.name}, line {line}: not UTF-8; save the table as UTF-8"
            ) from None

    def _rows(self, place: int, chunk: bytes) -> Iterator[tuple[int, list[str]]]:
        """Rows of a chunk, each with the number of its last line in the chunk."""
        line = 0
        try:
            # Lines end as in `find_line`, at line feeds alone.
            lines = io.StringIO(self._decode(place, chunk), newline="\n")
            reader = csv.reader(lines, delimiter=self._delimiter)
            for cells in reader:
                line = reader.line_num
                yield line, cells
        except csv.Error as error:
            line += find_line(self._path, place)
            raise InputError(f"{self.name}, line {line}: not CSV: {error}") from None


def _is_numeric(cell: str) -> bool:
    """Tell whether a cell is a number, or what programs write for one, as nan or 1,5."""
    try:
        float(cell)
    except ValueError:
        return _WITH_COMMA.fullmatch(cell) is not None
    return True
