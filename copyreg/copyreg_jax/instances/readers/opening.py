"""Which reader a file wants, and `read_matrix`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.arrow_files import ArrowTable
from copyreg_jax.instances.readers.csv_files import CsvTable
from copyreg_jax.instances.readers.matrix_market import open_matrix_market
from copyreg_jax.instances.readers.numpy_files import open_npy, open_npz
from copyreg_jax.instances.readers.row_tables import Choice, DenseTable, require_unchanged
from copyreg_jax.instances.readers.safetensors_files import open_safetensors
from copyreg_jax.instances.readers.sparse_table import SparseTable
from copyreg_jax.instances.readers.svmlight import open_svmlight

__all__ = ["FORMATS", "open_table", "read_matrix"]

FORMATS = {
    "npy": (".npy",),
    "npz": (".npz",),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc"),
    "csv": (".csv", ".tsv"),
    "svmlight": (".svm", ".svmlight", ".libsvm"),
    "matrix-market": (".mtx",),
    "safetensors": (".safetensors",),
}
"""Formats, with the suffixes of their files."""

_TEXT = "csv", "svmlight", "matrix-market"

_PACKED = ".gz", ".bz2", ".xz"

_SHEETS = ".xlsx", ".xls", ".ods", ".numbers"

_STARTS = {
    b"PAR1\x15": ("parquet", "a Parquet file; say --format parquet (format= in Python)"),
    b"ARROW1\0\0": ("arrow", "an Arrow file; say --format arrow (format= in Python)"),
    b"\x93NUMPY": ("npy", "an .npy file; say --format npy (format= in Python)"),
    b"PK\x03\x04": (
        "npz",
        "a zip archive, as spreadsheets and .npz files are; save a sheet as CSV, and for an .npz "
        "say --format npz (format= in Python)",
    ),
    b"\x1f\x8b\x08": ("", "packed by gzip; let its name end in .gz, or unpack it"),
    b"\xfd7zXZ": ("", "packed by xz; let its name end in .xz, or unpack it"),
}
"""Formats with the bytes that a file begins with, and what to say where another one is wanted."""

_PACKAGES = {
    "parquet": "pyarrow", "arrow": "pyarrow", "csv": "pyarrow", "svmlight": "pyarrow",
    "matrix-market": "pyarrow", "safetensors": "safetensors",
}  # fmt: skip


def read_matrix(
    source: str | Path,
    *,
    columns: Sequence[str] | None = None,
    without: Sequence[str] = (),
    key: str | None = None,
    index_base: int | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    format: str | None = None,
) -> Any:
    r"""Read the matrix A from a file, into memory.

    Parameters
    ----------
    source : path
        A file with one of these suffixes; those of text may be packed (.gz, .bz2, .xz).

        - .npy: an array of two dimensions.
        - .npz: a matrix of ``scipy.sparse.save_npz``, or an array of ``numpy.savez``.
        - .parquet, .pq, .arrow, .feather, .ipc: columns of numbers, or of lists of numbers that are
          all equally long; a list column is as many columns of A.
        - .csv, .tsv: a table with a line of names on top.
        - .svm, .svmlight, .libsvm: lines ``LABEL INDEX:VALUE ...``.
        - .mtx: Matrix Market, with real, integer or pattern entries and any symmetry.
        - .safetensors: one tensor, as in ``"model.safetensors:lm_head.weight"``.
    columns : sequence of str, optional
        Names or patterns (``"x*"``) of the columns of A. The default is all. Where a file has no
        names, they are 0, 1, ...
    without : sequence of str, optional
        Names or patterns of columns to leave out.
    key : str, optional
        Name of the array or tensor; the same as ``"FILE:NAME"``. Needed if there are several.
    index_base : {0, 1}, optional
        What the indices of an svmlight file count from. Needed unless the file shows it, by an
        index 0 or by the comment that scikit-learn writes.
    delimiter : str, optional
        Character between the cells of a line, or ``"tab"``. The default is a comma, and a tab in
        .tsv files.
    header : bool, optional
        Whether a table in text has a line of names on top. Without it, the first line has to be
        one in which no name is a number.
    format : str, optional
        A key of ``FORMATS`` for a file with another suffix: npy, npz, parquet, arrow, csv,
        svmlight, matrix-market or safetensors.

    Returns
    -------
    (n, d) array, or csr_array
        float32 if that has all numbers of the file's types exactly, as it has those of bfloat16,
        float16 and integers of 16 bits; else float64. Files that are sparse give a sparse matrix,
        with columns increasing in each row.

    Raises
    ------
    InputError
        The file is missing, damaged or of no known format; a number is missing, not finite or an
        integer that float64 does not have; lists differ in length; a column is not there, or is no
        number. The message has file, row or line, column and value. Rows count from 0 and lines
        from 1.

    Notes
    -----
    The file is read once, in blocks of 4 MB, except for .mtx and .npz files, which are unpacked as
    a whole. To read one that is larger than memory, make an instance folder of it:
    ``copyreg new FILE --out FOLDER``. Text is read in threads. All but .npy and .npz
    files need pyarrow or safetensors: ``pip install 'copyreg-jax[data]'``.

    Examples
    --------
    >>> import tempfile
    >>> import copyreg_jax as cr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.mtx"
    ...     lines = "%%MatrixMarket matrix coordinate real symmetric", "2 2 2", "1 1 5", "2 1 7"
    ...     _ = file.write_text("\n".join(lines))
    ...     cr.read_matrix(file).toarray()
    array([[5., 7.],
           [7., 0.]])
    """
    table = open_table(
        source,
        Choice(columns, without),
        key=key,
        index_base=index_base,
        delimiter=delimiter,
        header=header,
        format=format,
    )
    if isinstance(table, SparseTable):
        return table.matrix
    blocks = [np.array(rows) for rows, _ in table.blocks()]
    if not blocks:
        raise InputError(f"{table.name} has no row")
    require_unchanged(table.file)
    return np.concatenate(blocks) if len(blocks) > 1 else blocks[0]


def open_table(
    source: str | Path,
    choice: Choice,
    *,
    key: str | None = None,
    index_base: int | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    format: str | None = None,
) -> DenseTable | SparseTable:
    """Open a file by its suffix or by the name of its format; the parameters of `read_matrix`."""
    if not isinstance(source, str | Path):
        raise InputError(f"{source!r:.60} is no path; give the name of a file")
    if isinstance(choice.columns, str) or isinstance(choice.without, str):
        raise InputError("columns and without are lists of names; put the one name into a list")
    for name, names in ("columns", choice.columns), ("without", choice.without):
        if not isinstance(names, Iterable) and (name, names) != ("columns", None):
            raise InputError(f"{name} is {names!r:.60}; give a list of names")
    for name, word in ("key", key), ("delimiter", delimiter), ("format", format):
        if not isinstance(word, str | None):
            raise InputError(f"{name} is {word!r:.60}; give a text")
    if not isinstance(header, bool | None):
        raise InputError(f"header is {header!r:.60}; give True for names, or False for a row")
    choice = choice._replace(
        columns=None if choice.columns is None else list(map(str, choice.columns)),
        without=list(map(str, choice.without)),
    )
    path, key = _split_key(source, key)
    suffix, form = _format_of(path, format)
    for option, given, formats in (
        ("a name of an array (FILE:NAME)", key is not None, ("npz", "safetensors")),
        ("index_base", index_base is not None, ("svmlight",)),
        ("delimiter", delimiter is not None, ("csv",)),
        ("header", header is not None, ("csv",)),
    ):
        if given and form not in formats:
            raise InputError(f"{path}: {option} is for {' and '.join(formats)} files only")
    _require_start(path, form)
    package = _PACKAGES.get(form)
    if package is not None and importlib.util.find_spec(package) is None:
        raise InputError(f"{package} is not installed; run: pip install 'copyreg-jax[data]'")
    openers: dict[str, Callable[[], DenseTable | SparseTable]] = {
        "npy": lambda: open_npy(path, choice),
        "npz": lambda: open_npz(path, choice, key),
        "parquet": lambda: ArrowTable(path, "Parquet file", choice),
        "arrow": lambda: ArrowTable(path, "Arrow file", choice),
        "csv": lambda: CsvTable(path, choice, _delimiter(suffix, delimiter), header=header),
        "svmlight": lambda: open_svmlight(path, choice, index_base),
        "matrix-market": lambda: open_matrix_market(path, choice),
        "safetensors": lambda: open_safetensors(path, choice, key),
    }
    return openers[form]()


def _require_start(path: Path, form: str) -> None:
    """`InputError` if the file is evidently of another format; else its reader looks closer."""
    if not path.is_file() or path.suffix.lower() in _PACKED:
        return
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError:
        return
    for begin, (its_form, what) in _STARTS.items():
        if start.startswith(begin) and its_form != form:
            raise InputError(f"{path} is {what}")


def _delimiter(suffix: str, asked: str | None) -> str:
    if asked is None:
        return "\t" if suffix == ".tsv" else ","
    return "\t" if asked in ("tab", r"\t") else asked


def _split_key(source: str | Path, key: str | None) -> tuple[Path, str | None]:
    """Split FILE:NAME, unless a file has that name as a whole."""
    text = os.fspath(source)
    file, colon, name = text.partition(":")
    # A single letter before the colon is a drive of Windows.
    if not colon or not name or len(file) == 1 or os.path.exists(text):  # noqa: PTH110
        return Path(text), key
    if key is not None and key != name:
        raise InputError(f"{text} names the array {name!r}, and key is {key!r}; give one")
    return Path(file), name


def _format_of(path: Path, format: str | None) -> tuple[str, str]:
    """Suffix, in small letters, and format of a file."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in _PACKED
    suffix = next(iter(suffixes[-1 - packed :]), "")
    if format is not None:
        if format not in FORMATS:
            raise InputError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
        found = format
    else:
        known = {each: name for name, all_of in FORMATS.items() for each in all_of}
        if suffix in _SHEETS:
            raise InputError(f"{path} is a spreadsheet; save the sheet as CSV, and give that")
        if suffix not in known:
            raise InputError(
                f"{path}: the suffix {suffix!r} is of no known format; known are "
                f"{', '.join(known)}, or say which it is: --format (format= in Python)"
            )
        found = known[suffix]
    if packed and found not in _TEXT:
        raise InputError(f"{path} is packed; unpack it first, because only text is read so")
    return suffix, found
