"""Arrays in .npz and .npy files, read without pickle and checked against their stamps."""

from __future__ import annotations

import math
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from copyreg_jax.checker.verdicts import VoidError, require

__all__ = ["InFile", "Numbers", "StoredFile", "T", "read_array", "read_arrays"]

_STREAMED = 1 << 24
"""Bytes from which a matrix stays in its file."""

_HEADER = 10_000
"""Bytes of the header of an array, at most; NumPy has the same limit."""

_TICK = 20_000_000
"""Nanoseconds after which a change of a file is sure to give it another time."""

T = TypeVar("T")


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
        # The last time is the system's own; the one before it, anybody may set to the future.
        if 0 <= (age := time.time_ns() - stamp[2]) < _TICK:
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
    found = os.stat(file)  # noqa: PTH116
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
    with _opened(path, "A, b, protected, w, gamma") as members:
        keys = sparse if "A_data" in members.names else ("A",)
        members.require_held(*keys, *rest)
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


def read_array(
    path: str | Path, key: str, wanted: Callable[[tuple[int, ...], np.dtype], None]
) -> np.ndarray:
    """One array of an .npz file, or of a folder of .npy files; `VoidError` if it can't be read.

    ``wanted`` gets shape and dtype before the numbers are unpacked, and refuses by `VoidError`.
    """
    with _opened(path, key) as members:
        members.require_held(key)
        members.require_possible(key)
        members.require_wanted(key, wanted)
        return members.load(key)


@contextmanager
def _opened(path: str | Path, wanted: str) -> Iterator[_Members]:
    """The members of a file; whatever goes wrong with it is a `VoidError`."""
    try:
        with _Members(path, wanted) as members:
            yield members
    except VoidError:
        raise
    except OSError as error:
        raise VoidError(f"can't read {path}: {error.strerror or error}") from None
    except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise VoidError(
                f"{path} holds pickled objects, which are never loaded; store plain arrays"
            ) from None
        raise VoidError(f"{path} is truncated or not an .npz file with {wanted}: {error}") from None


class _Members:
    """The .npy arrays of an .npz archive, or of a folder of .npy files."""

    def __init__(self, path: str | Path, wanted: str) -> None:
        path = Path(path)
        self.path, self.archive = path, None
        if path.is_dir():
            self.names = {f.stem: str(f) for f in path.glob("*.npy") if f.is_file()}
            return
        require(
            path.is_file() or not path.exists(), f"{path} is neither a regular file nor a folder"
        )
        with path.open("rb") as stream:
            single = stream.read(6) == b"\x93NUMPY"
        require(not single, f"{path} holds one array; give an .npz with {wanted}")
        require(
            zipfile.is_zipfile(path),
            f"{path} is truncated or not an .npz file; give one with {wanted}",
        )
        self.archive = zipfile.ZipFile(path)
        held = self.archive.namelist()
        self.names = {name.removesuffix(".npy"): name for name in held}
        # Another reader might take the other one of the two.
        require(len(self.names) == len(held), f"{path} holds two arrays of one name")

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
            if version == (2, 0):  # whose headers may claim 4 GiB, which NumPy would read
                length = int.from_bytes(stream.read(4), "little")
                require(length <= _HEADER, f"{key} in {self.path} has a header of {length} bytes")
                stream.seek(-4, os.SEEK_CUR)
            return *read[version](stream), stream.tell()

    def require_held(self, *keys: str) -> None:
        """`VoidError` that names the arrays which are not there."""
        missing = [key for key in keys if key not in self.names]
        held = ", ".join(sorted(self.names)) or "nothing"
        require(not missing, f"{self.path} lacks {', '.join(missing)}; it holds {held}")

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
                not dtype.hasobject,
                f"{self.path} holds pickled objects, which are never loaded; store plain arrays",
            )
            require(start + size <= held, f"{self.path} is truncated: {key} has shape {shape}")

    def require_wanted(self, key: str, wanted: Callable[[tuple[int, ...], np.dtype], None]) -> None:
        """Let ``wanted`` refuse a shape or dtype."""
        shape, _, dtype, _ = self._header(key)
        wanted(shape, dtype)

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
