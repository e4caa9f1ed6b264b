"""The data a certificate speaks of: instance files, read block by block, and their hashes."""

from __future__ import annotations

import concurrent.futures
import hashlib
import math
import os
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeVar

import numpy as np

READINGS = ("joint", "block")
METRICS = ("squared", "cross-entropy")
_PIECE = 1 << 20
"""Numbers per piece of a hash; part of the format."""
_BLOCK = 1 << 18
"""Entries of A that are worked on at once, per thread."""
MAX_DENSE_COLUMNS = 2048
"""No Hessian beyond this size is certified."""
_STREAMED = 1 << 24
"""Bytes from which a matrix stays in its file."""
_TICK = 20_000_000
"""Nanoseconds after which a change of a file is sure to give it another time."""

T = TypeVar("T")


class VoidError(Exception):
    """Nothing was tested, and why."""


def require(condition: bool | np.bool, message: str) -> None:
    """Raise `VoidError` with the message unless the condition holds."""
    if not condition:
        raise VoidError(message)


class StoredFile(NamedTuple):
    """A file as it was found, which is read only as long as it is that."""

    path: str
    stamp: tuple[int, int, int]

    @classmethod
    def found(cls, path: str | Path) -> StoredFile:
        """The file at a path, by its absolute name; `OSError` if there is none."""
        path = Path(path).absolute()
        stamp = _stamp(path)
        # Another change within the same tick of the clock would leave the same times.
        if 0 <= (age := time.time_ns() - max(stamp[1:])) < _TICK:
            time.sleep((_TICK - age) / 1e9)
        return cls(str(path), stamp)

    def require_same(self, file: Any = None) -> None:
        """`VoidError` if the file, or an open one of its name, was replaced or changed."""
        same = _stamp(self.path if file is None else file) == self.stamp
        require(same, f"{self.path} has changed since it was opened; open it anew")

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file to read; `VoidError` if it changed before, or while it was read."""
        with Path(self.path).open("rb", buffering=0) as stream:
            self.require_same(stream.fileno())
            yield stream
            self.require_same(stream.fileno())


def _stamp(file: Any) -> tuple[int, int, int]:
    """Size, time of the last change, and time at which that, the name or the rights were set."""
    found = os.stat(file)  # noqa: PTH116 (it may be a descriptor)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Numbers(Protocol):
    """A matrix that is read piece by piece."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        ...

    def flat(self, start: int, stop: int) -> np.ndarray:
        """The numbers ``start:stop`` in C order."""
        ...


class InFile(NamedTuple):
    """A C-ordered array at a place of a file, read piece by piece."""

    file: StoredFile
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def flat(self, start: int, stop: int) -> np.ndarray:
        """The numbers ``start:stop`` in C order."""
        offset = self.offset + start * self.dtype.itemsize
        with self.file.open() as stream:
            found = np.fromfile(stream, self.dtype, stop - start, offset=offset)
        require(found.size == stop - start, f"{self.file.path} is truncated")
        return found


class Dense(NamedTuple):
    """A dense matrix in memory or in a file."""

    source: np.ndarray | Numbers

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        return self.source.shape

    def flat(self, start: int, stop: int) -> np.ndarray:
        """The numbers ``start:stop`` in C order, as exact float64."""
        source = self.source
        if isinstance(source, np.ndarray):
            return _exact(source.reshape(-1)[start:stop])
        return _exact(source.flat(start, stop))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start:stop``, as exact float64."""
        d = self.shape[1]
        return self.flat(start * d, stop * d).reshape(-1, d)

    def hash(self) -> str:
        """Digest of the numbers and (n, d)."""
        n, d = self.shape
        pieces = _hash_pieces(self.flat, n * d, (n, d), check_finite=True)
        return _digest(pieces, _hash_array(np.array([n, d])))


class Csr(NamedTuple):
    """A sparse matrix in compressed rows: int64 indices, increasing in each row."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    d: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        return self.indptr.size - 1, self.d

    def part(self, start: int, stop: int) -> Csr:
        """Rows ``start:stop``, still sparse."""
        first, last = self.indptr[start], self.indptr[stop]
        indptr = self.indptr[start : stop + 1] - first
        return Csr(self.data[first:last], self.indices[first:last], indptr, self.d)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start:stop``, dense."""
        part = self.part(start, stop)
        dense = np.zeros((stop - start, self.d))
        dense[np.repeat(np.arange(stop - start), np.diff(part.indptr)), part.indices] = part.data
        return dense

    def hash(self) -> str:
        """Digest of data, indices, indptr and (n, d)."""
        arrays = self.data, self.indices, self.indptr, np.array(self.shape)
        return _digest(*map(_hash_array, arrays))


class Instance(NamedTuple):
    """The data of a problem, as exact float64 numbers; made by `make_instance`."""

    A: Dense | Csr
    b: np.ndarray
    protected: np.ndarray
    w: np.ndarray
    gamma: float
    reading: str
    metric: str

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.A.shape[0]

    @property
    def d(self) -> int:
        """Number of columns."""
        return self.A.shape[1]

    @property
    def size(self) -> int:
        """Number of stored entries of A."""
        return self.A.data.size if isinstance(self.A, Csr) else self.n * self.d

    @property
    def n1(self) -> int:
        """Number of protected rows."""
        return int(np.count_nonzero(self.protected))

    def description(self) -> dict[str, Any]:
        """What a certificate says of its instance; `VoidError` if A is not finite."""
        return {
            "n": self.n,
            "d": self.d,
            "n1": self.n1,
            "gamma": self.gamma.hex(),
            "reading": self.reading,
            "metric": self.metric,
            "sha256": {
                "A": self.A.hash(),
                "b": _digest(_hash_array(self.b)),
                "protected": _digest(_hash_array(self.protected)),
                "w": _digest(_hash_array(self.w)),
            },
        }

    def map_blocks(self, work: Callable[[slice], T]) -> Iterator[T]:
        """``work`` on each slice of rows, by all cores; the results come in the order of rows.

        Threads, not processes: NumPy and hashlib release the interpreter's lock for nearly all of
        their time, nothing has to be copied, and a process that runs JAX must not fork.
        """
        # Wide sparse rows are never made dense.
        width = 1 if isinstance(self.A, Csr) and self.d > MAX_DENSE_COLUMNS else self.d
        step = max(1, min(_BLOCK // width, 1 << 14))
        blocks = [slice(i, min(i + step, self.n)) for i in range(0, self.n, step)]
        return map_threads(work, blocks)


def map_threads(work: Callable[[Any], T], items: list[Any]) -> Iterator[T]:
    """Ordered map by as many threads as there are cores; one item needs none.

    Numbers that overflow or are not finite end up in results that prove nothing: no warning is due.
    """

    def quiet(item: Any) -> T:
        with np.errstate(all="ignore"):
            return work(item)

    if len(items) == 1:
        yield quiet(items[0])
        return
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), 64):  # results wait to be used: not too many at once
            yield from pool.map(quiet, items[start : start + 64])


def _exact(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64, copy=False)


def _hash_array(array: np.ndarray) -> Iterator[bytes]:
    flat = np.ascontiguousarray(array).reshape(-1)
    return _hash_pieces(lambda i, j: flat[i:j], array.size, array.shape)


def _hash_pieces(
    read: Callable[[int, int], np.ndarray],
    size: int,
    shape: tuple[int, ...],
    *,
    check_finite: bool = False,
) -> Iterator[bytes]:
    """Kind and shape of an array, then the digest of each piece of its little-endian bytes."""
    kinds = {"f": "<f8", "i": "<i8", "u": "<i8", "b": "|b1"}

    def piece(start: int) -> tuple[str, bytes]:
        numbers = read(start, min(start + _PIECE, size))
        require(not check_finite or bool(np.isfinite(numbers).all()), "A must be finite numbers")
        kind = kinds[numbers.dtype.kind]
        return kind, hashlib.sha256(np.ascontiguousarray(numbers, dtype=kind).data).digest()

    for number, (kind, digest) in enumerate(
        map_threads(piece, list(range(0, max(size, 1), _PIECE)))
    ):
        yield (f"{kind}{shape}".encode() if number == 0 else b"") + digest


def _digest(*parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(b"".join(part) for part in parts)).hexdigest()


def make_instance(
    A: Any, b: Any, protected: Any, w: Any, gamma: Any, reading: Any, metric: Any = "squared"
) -> Instance:
    """An `Instance` from arrays; A an (n, d) array, `Numbers`, or CSR parts with a shape.

    Raises
    ------
    VoidError
        Names the first thing that does not fit. Whether a dense A is finite is found out when it
        is hashed, by `Instance.description`.
    """
    if isinstance(A, tuple) and not isinstance(A, InFile):
        A = make_csr(*A)
    else:
        _require_floats("A", A)
        require(len(A.shape) == 2, "A must be a matrix")
        A = Dense(np.ascontiguousarray(A) if isinstance(A, np.ndarray) else A)
    n, d = A.shape
    require(
        n >= 1 and d >= 1 and n * d < 2**62, f"A has shape ({n}, {d}); it needs a row and a column"
    )
    for name, array in (("b", b), ("w", w), ("gamma", gamma)):
        _require_floats(name, array)
        require(np.isfinite(array).all(), f"{name} must be finite numbers")
    require(protected.dtype == bool, "protected must be boolean")
    require(b.shape == w.shape == protected.shape == (n,), "b, w, protected must have shape (n,)")
    protected = protected.view(np.uint8) != 0  # a raw byte may be 2
    n1 = np.count_nonzero(protected)
    require(0 < n1 < n, "protected must mark some rows and not all")
    require(gamma.shape == () and gamma >= 0, "gamma must be one number >= 0")
    reading, metric = str(reading), str(metric)
    require(reading in READINGS, "reading must be joint or block")
    require(metric in METRICS, "metric must be squared or cross-entropy")
    require(metric == "squared" or (b >= 0).all(), "cross-entropy needs b >= 0")
    return Instance(A, _exact(b), protected, _exact(w), float(gamma), reading, metric)


def _require_floats(name: str, array: Any) -> None:
    known = array.dtype.newbyteorder("=") in (np.float32, np.float64)
    require(known, f"{name} must be numbers of type float32 or float64")


def make_csr(data: Any, indices: Any, indptr: Any, shape: Any) -> Csr:
    """A CSR matrix; `VoidError` unless its form is canonical."""
    require(data.ndim == indices.ndim == indptr.ndim == 1 and shape.shape == (2,), "A_* misshaped")
    require(
        {indices.dtype.kind, indptr.dtype.kind, shape.dtype.kind} <= {"i", "u"},
        "A_indices, A_indptr and A_shape must be integers",
    )
    _require_floats("A_data", data)
    require(np.isfinite(data).all(), "A must be finite numbers")
    n, d = (int(size) for size in shape)
    require(n >= 1 and d >= 1 and n * d < 2**62, f"A has shape ({n}, {d})")
    indices, indptr = indices.astype(np.int64), indptr.astype(np.int64)
    require(
        indptr.shape == (n + 1,)
        and indptr[0] == 0
        and indptr[-1] == data.size == indices.size
        and (np.diff(indptr) >= 0).all(),
        "A_indptr does not describe the rows of A",
    )
    require(((indices >= 0) & (indices < d)).all(), "A_indices must be within the columns")
    places = np.repeat(np.arange(n), np.diff(indptr)) * d + indices
    require((np.diff(places) > 0).all(), "A_indices must increase in each row, without duplicates")
    return Csr(_exact(data), indices, indptr, d)


def read_instance(path: str | Path, shape: tuple[int, int] | None = None) -> Instance:
    """The instance of a file or folder; `VoidError` if A is to have a shape that it has not."""
    return make_instance(**read_arrays(path, shape=shape))


def read_arrays(
    path: str | Path, *, streamed: bool = True, shape: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The arrays of an instance, by the names of `make_instance`'s parameters.

    The format is described in docs/reference/instance-format.md. A is an array, a tuple of CSR
    parts, or, if streamed, an `InFile` where it is large and stored without compression. Nothing
    is ever unpickled.

    Raises
    ------
    VoidError
        The file can't be read, is damaged, or lacks keys (all are named).
    """
    sparse = ("A_data", "A_indices", "A_indptr", "A_shape")
    rest = ("b", "protected", "w", "gamma")
    try:
        with _Members(path) as members:
            keys = sparse if "A_data" in members.names else ("A",)
            missing = [key for key in (*keys, *rest) if key not in members.names]
            held = sorted(members.names)
            require(not missing, f"{path} lacks {', '.join(missing)}; it holds {held}")
            texts = {key: key in members.names for key in ("reading", "metric")}
            members.require_possible(*keys, *rest)
            members.require_small("gamma", *(key for key, there in texts.items() if there))
            if shape is not None:  # before anything large is read
                members.require_shape(shape)
            read_A = members.matrix if streamed else members.load
            A = tuple(map(members.load, sparse)) if keys == sparse else read_A("A")
            return {
                "A": A,
                **{key: members.load(key) for key in rest},
                "reading": str(members.load("reading")) if texts["reading"] else "joint",
                "metric": str(members.load("metric")) if texts["metric"] else "squared",
            }
    except VoidError:
        raise
    except OSError as error:
        raise VoidError(f"can't read {path}: {error.strerror or error}") from None
    except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise VoidError(f"{path} holds pickled objects, which are never loaded") from None
        raise VoidError(f"{path} is truncated or not an .npz file: {error}") from None


class _Members:
    """The .npy arrays of an .npz archive, or of a folder of .npy files."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path, self.archive = path, None
        if path.is_dir():
            self.names = {f.stem: str(f) for f in path.glob("*.npy") if f.is_file()}
            return
        require(path.is_file() or not path.exists(), f"{path} is no regular file and no folder")
        with path.open("rb") as stream:
            single = stream.read(6) == b"\x93NUMPY"
        what = "one array; give an .npz with A, b, protected, w, gamma"
        require(not single, f"{path} holds {what}")
        require(zipfile.is_zipfile(path), f"{path} is truncated or not an .npz file")
        self.archive = zipfile.ZipFile(path)
        self.names = {name.removesuffix(".npy"): name for name in self.archive.namelist()}

    def __enter__(self) -> _Members:
        return self

    def __exit__(self, *_: object) -> None:
        if self.archive is not None:
            self.archive.close()

    def _open(self, key: str) -> Any:
        name = self.names[key]
        return Path(name).open("rb") if self.archive is None else self.archive.open(name)

    def load(self, key: str) -> np.ndarray:
        """One array, whole."""
        with self._open(key) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def _header(self, key: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
        """Shape, whether in Fortran order, dtype, and the length of the header."""
        with self._open(key) as stream:
            version = np.lib.format.read_magic(stream)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            require(version in read, f"{key} in {self.path} has an unknown .npy version")
            return *read[version](stream), stream.tell()

    def require_possible(self, *keys: str) -> None:
        """`VoidError` if an array claims to hold more bytes than its file does."""
        for key in keys:
            shape, _, dtype, start = self._header(key)
            if self.archive is None:
                held = Path(self.names[key]).stat().st_size
            else:
                held = self.archive.getinfo(self.names[key]).file_size
            size = math.prod(shape) * dtype.itemsize
            require(
                not dtype.hasobject, f"{self.path} holds pickled objects, which are never loaded"
            )
            require(start + size <= held, f"{self.path} is truncated: {key} has shape {shape}")

    def require_small(self, *keys: str) -> None:
        """`VoidError` unless these are single numbers or words."""
        for key in keys:
            shape, _, dtype, _ = self._header(key)
            require(shape == () and dtype.itemsize <= 256, f"{key} must be one number or word")

    def require_shape(self, shape: tuple[int, int]) -> None:
        """`VoidError` unless A has this shape."""
        found = self._header("A")[0] if "A" in self.names else tuple(self.load("A_shape").tolist())
        require(
            found == shape, f"the certificate is for other data: A is {shape} there, {found} here"
        )

    def matrix(self, key: str) -> np.ndarray | InFile:
        """A matrix, left in its file if it is large, in C order and not compressed."""
        shape, fortran, dtype, start = self._header(key)
        if fortran or math.prod(shape) * dtype.itemsize < _STREAMED:
            return self.load(key)
        name = self.names[key]
        if self.archive is None:
            file = StoredFile.found(name)
            _, _, dtype, start = self._header(key)
            return InFile(file, start, dtype, shape)
        entry = self.archive.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            return self.load(key)
        file = StoredFile.found(self.path)
        assert self.archive.fp is not None
        file.require_same(self.archive.fp.fileno())
        with file.open() as stream:
            stream.seek(entry.header_offset + 26)
            lengths = np.frombuffer(stream.read(4), "<u2")
        start += entry.header_offset + 30 + int(lengths.sum())
        return InFile(file, start, dtype, shape)
