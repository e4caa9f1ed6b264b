"""Files of text in chunks of whole lines, several of which are read at once."""

from __future__ import annotations

import bz2
import collections
import concurrent.futures
import contextlib
import gzip
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.row_tables import EXACT_INTEGERS

__all__ = [
    "LINE",
    "find_line",
    "is_number",
    "is_rounded",
    "map_chunks",
    "open_bytes",
    "read_numbers",
    "refuse_hidden",
    "refuse_rounded",
    "split_chunks",
    "tidy",
]

LINE = ord("\n")

_CHUNK = 1 << 22
"""Bytes that are read at once."""

_MAX_CHUNK = 1 << 28
"""Bytes after which a row that has no end is given up."""

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

_T = TypeVar("_T")


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of text; it is unpacked if its name ends in .gz, .bz2 or .xz."""
    try:
        with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as stream:
            yield stream
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise unreadable(path, error) from None


def split_chunks(
    path: Path, first: int = 0, *, quote: bytes | None = None
) -> Iterator[tuple[int, bytes]]:
    """Places and contents of chunks of whole lines; none ends inside of quotes."""
    with open_bytes(path) as stream:
        stream.seek(first)
        place, rest = first, b""
        while content := stream.read(_CHUNK):
            rest += content
            end = _last_line_end(rest, quote)
            if end:
                yield place, rest[:end]
                place, rest = place + end, rest[end:]
            elif len(rest) > _MAX_CHUNK:
                why = "a quote is never closed, or" if quote else "perhaps"
                raise InputError(
                    f"{path}, line {find_line(path, place)}: no end of this row in "
                    f"{_MAX_CHUNK >> 20} MB; {why} the file is no text"
                )
        if rest:
            yield place, rest if rest.endswith(b"\n") else rest + b"\n"


def _last_line_end(content: bytes, quote: bytes | None) -> int:
    end = content.rfind(b"\n") + 1
    while quote and end and content.count(quote, 0, end) % 2:
        end = content.rfind(b"\n", 0, content.rfind(quote, 0, end)) + 1
    return end


def map_chunks(
    function: Callable[[int, bytes], _T], chunks: Iterator[tuple[int, bytes]]
) -> Iterator[_T]:
    """Results for chunks, in order; a few are worked on at once, in threads."""
    workers = min(4, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[concurrent.futures.Future[_T]] = collections.deque()
        for chunk in chunks:
            waiting.append(pool.submit(function, *chunk))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def find_line(path: Path, place: int) -> int:
    """Return the number of the line that starts at a place; the first line has the number 1."""
    lines = 1
    with open_bytes(path) as stream:
        while place > 0 and (content := stream.read(min(place, _CHUNK))):
            lines += content.count(b"\n")
            place -= len(content)
    return lines


def tidy(chunk: bytes) -> bytes:
    r"""Remove comments after #, blank lines, and spaces that separate nothing.

    Examples
    --------
    >>> tidy(b"1\t 2  # a comment\n\n3 4\n")
    b'1 2\n3 4\n'
    """
    if b"#" in chunk:
        chunk = re.sub(rb"#[^\n]*", b"", chunk)
    chunk = chunk.translate(bytes.maketrans(b"\t\r", b"  "))
    while b"  " in chunk:
        chunk = chunk.replace(b"  ", b" ")
    chunk = chunk.replace(b" \n", b"\n").replace(b"\n ", b"\n").lstrip(b" ")
    while b"\n\n" in chunk:
        chunk = chunk.replace(b"\n\n", b"\n")
    return chunk.lstrip(b"\n")


def read_numbers(text: bytes, separators: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Numbers of a tidy text, and the separator after each; None if there is anything else.

    The end of a line separates too. Numbers are rounded correctly; they may be NaN or infinite.
    """
    import pyarrow as pa
    import pyarrow.csv as pacsv

    if not text:
        return np.empty(0), np.empty(0, np.uint8)
    lines = text.translate(bytes.maketrans(separators, b"\n" * len(separators)))
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == LINE)
    # One number a line, which Arrow reads in a compiled loop.
    try:
        numbers = pacsv.read_csv(
            pa.BufferReader(lines),
            read_options=pacsv.ReadOptions(
                column_names=["number"], use_threads=False, block_size=len(lines) + 1
            ),
            parse_options=pacsv.ParseOptions(
                delimiter="\x01", quote_char=False, ignore_empty_lines=False
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={"number": pa.float64()}, null_values=[]
            ),
        )["number"].to_numpy()
    except pa.ArrowInvalid:
        return None
    return (numbers, np.frombuffer(text, np.uint8)[ends]) if numbers.size == ends.size else None


def is_rounded(word: str) -> bool:
    """Whether a finite number is an integer that float64 does not have.

    Examples
    --------
    >>> is_rounded(str(2**53)), is_rounded(str(2**53 + 1))
    (False, True)
    """
    digits = word.strip().lstrip("+-").lstrip("0")
    return bool(re.fullmatch("[0-9]{16,}", digits)) and int(digits) != float(digits)


def refuse_hidden(path: Path, place: int, chunk: bytes) -> None:
    """`InputError` for a comment that may hide rows, because it has an end of a line in it."""
    found = re.search(rb"#[^\n]*\r[^\n]", chunk) if b"\r" in chunk else None
    if found is not None:
        line = find_line(path, place) + chunk.count(b"\n", 0, found.start())
        raise InputError(
            f"{path}, line {line}: a carriage return in a comment ends no line; save the file "
            "with line feeds (LF or CRLF)"
        )


def refuse_rounded(path: Path, place: int, chunk: bytes, numbers: np.ndarray) -> None:
    """`InputError` for an integer in lines of words that was rounded when it was read."""
    if not (abs(numbers) >= EXACT_INTEGERS).any():
        return
    for number, content in enumerate(chunk.split(b"\n")):
        for word in re.split(rb"[\s:]+", content.partition(b"#")[0]):
            if is_rounded(word.decode("utf-8", "replace")):
                raise InputError(
                    f"{path}, line {find_line(path, place) + number}: {word.decode()} is an "
                    "integer beyond 2^53 that float64 does not have; scale it, or leave it out"
                )


def is_number(word: str) -> bool:
    """Whether a word is a finite number."""
    try:
        return bool(np.isfinite(float(word))) and "_" not in word
    except ValueError:
        return False
