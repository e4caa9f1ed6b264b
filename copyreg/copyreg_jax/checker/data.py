"""The data a certificate speaks of: instance files, read block by block, and their hashes."""

from __future__ import annotations

import concurrent.futures
import ctypes
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from copyreg_jax.checker.archive import InFile, Numbers, T, read_arrays
from copyreg_jax.checker.verdicts import require

__all__ = [
    "LEFT_OUT",
    "MAX_DENSE_COLUMNS",
    "METRICS",
    "READINGS",
    "Csr",
    "Dense",
    "Instance",
    "make_csr",
    "make_instance",
    "map_threads",
    "read_instance",
]

READINGS = ("joint", "block")

LEFT_OUT = "left-out"
"""What `Instance.without_protected` has for a reading; no file has it."""

METRICS = ("squared", "cross-entropy")

_PIECE = 1 << 20
"""Numbers per piece of a hash; part of the format."""

_BLOCK = 1 << 19
"""Entries of A that are worked on at once, per thread."""

_ROWS = 1 << 15
"""Rows that are worked on at once at most."""

_MANY_ROWS = 1 << 19
"""Rows from which on vectors are so large that freed ones matter."""

MAX_DENSE_COLUMNS = 2048
"""No Hessian beyond this size is certified."""


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

    def without_protected(self) -> Instance:
        """The problem ``h ell_2 + L_reg``, which never sees the targets of the protected rows.

        ell_2 is the loss of the one softmax on the other rows, whatever the reading.
        """
        return self._replace(reading=LEFT_OUT, gamma=0.0)

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
        step = max(1, min(_BLOCK // width, _ROWS))
        blocks = [slice(i, min(i + step, self.n)) for i in range(0, self.n, step)]
        if self.n >= _MANY_ROWS:
            _give_memory_back()
        return map_threads(work, blocks)


def _give_memory_back() -> None:
    """Give freed memory back to the system.

    glibc keeps it, and what one thread has freed no other thread gets. That can be a third of what
    a proof needs.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Any:
    """The function of glibc, or None with another library."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


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

    Examples
    --------
    >>> b, protected, w = np.array([0.7, 0.3]), np.array([True, False]), np.ones(2)
    >>> data = make_instance(np.eye(2), b, protected, w, np.float64(0.1), "joint")
    >>> data.n, data.d, data.n1
    (2, 2, 1)
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
    require(known, f"{name} has dtype {array.dtype}; store float32 or float64")


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
