"""Where rows on disk come from: dense or sparse, in a file or in memory, one block at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse

from copyreg_jax._files import unreadable
from copyreg_jax.checker.archive import InFile, StoredFile
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.errors import InputError

__all__ = [
    "DenseRows",
    "FileRows",
    "MemoryRows",
    "Source",
    "SparseRows",
    "aligned",
    "clear_errors",
    "is_sparse",
    "opened",
]

Source: TypeAlias = str | Path | np.ndarray

_ALIGNMENT = 64
"""Where a block has to start for JAX to use it on CPU without a copy."""


def is_sparse(source: Any) -> bool:
    """Whether a source is a sparse matrix in SciPy's file format."""
    if not isinstance(source, str | Path | np.ndarray | FileRows):
        raise InputError(
            f"a {type(source).__name__} is neither a path nor an array; give .npy or .npz files"
        )
    return isinstance(source, str | Path) and Path(source).suffix == ".npz"


def _checked(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"{name} has shape {shape}; give (n, d) with n >= 1 and d >= 1")
    if dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise InputError(f"{name} has dtype {dtype}; store float32 or float64")


@contextlib.contextmanager
def clear_errors(name: str) -> Iterator[None]:
    """Turn errors of reading into `InputError`."""
    try:
        yield
    except VoidError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise unreadable(name, error) from None


def opened(source: Source | FileRows) -> Any:
    """What reads the rows of a source."""
    if isinstance(source, FileRows):
        return source
    if isinstance(source, np.ndarray):
        return MemoryRows(source)
    if is_sparse(source):
        return SparseRows(source)
    with clear_errors(str(source)):
        try:
            file = StoredFile.found(source)
            array = np.load(source, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.memmap):
                raise ValueError("it is an archive")
        except (ValueError, EOFError) as error:
            raise InputError(f"{source} is truncated or not a .npy file: {error}") from None
    _checked(str(source), array.shape, array.dtype)
    place = InFile(file, array.offset, array.dtype, array.shape)
    return FileRows(place, is_fortran=not array.flags.c_contiguous)


class DenseRows:
    """Rows of numbers."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        _checked(name, shape, dtype)
        self.name, self.shape, self.dtype = name, shape, dtype.newbyteorder("=")
        self.num_entries = shape[0] * shape[1]


class MemoryRows(DenseRows):
    """An array, whatever it is mapped from: what it holds may be in no file."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__("A", array.shape, array.dtype)
        self.array = array

    def require_same(self) -> None:
        """No file is asked."""

    def read(self, start: int, stop: int, into: np.ndarray) -> None:
        """Rows ``start:stop``."""
        into[...] = self.array[start:stop]


class FileRows(DenseRows):
    """An array at a place of a file."""

    def __init__(self, place: InFile, *, is_fortran: bool = False) -> None:
        super().__init__(place.file.path, place.shape, place.dtype)
        self.place, self.is_fortran = place, is_fortran

    def require_same(self) -> None:
        """`VoidError` if the file is another one by now."""
        self.place.file.require_same()

    def read(self, start: int, stop: int, into: np.ndarray) -> None:
        """Rows ``start:stop``."""
        place = self.place
        if self.is_fortran:
            with place.file.open() as stream:
                mapped = np.memmap(stream, place.dtype, "r", place.offset, place.shape, "F")
                into[...] = mapped[start:stop]
            return
        d = self.shape[1]
        if into.dtype != place.dtype:
            into[...] = place.flat(start * d, stop * d).reshape(-1, d)
            return
        # Into the block itself, and without the faults of a mapping.
        view = into.data.cast("B")
        with place.file.open() as stream:
            stream.seek(place.offset + start * d * place.dtype.itemsize)
            while view:
                count = stream.readinto(view)  # type: ignore[attr-defined]
                if not count:
                    raise VoidError(f"{self.name} is truncated")
                view = view[count:]


class SparseRows:
    """Rows in one file of ``scipy.sparse.save_npz``."""

    def __init__(self, source: Any) -> None:
        self.name = str(source)
        try:
            with clear_errors(self.name):
                self.file = StoredFile.found(source)
                with self.file.open() as stream, np.load(stream, allow_pickle=False) as held:
                    form, shape = held["format"].item(), held["shape"]
                    with held.zip.open("data.npy") as member:
                        major, _ = np.lib.format.read_magic(member)
                        header = (
                            np.lib.format.read_array_header_1_0
                            if major == 1
                            else np.lib.format.read_array_header_2_0
                        )
                        entries, _, dtype = header(member)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
            raise InputError(f"{source} is not a file of scipy.sparse.save_npz: {error}") from None
        if form not in (b"csr", "csr"):
            raise InputError(f"{source} is in {form} form; save it as CSR")
        self.shape = tuple(int(size) for size in shape)
        self.num_entries = int(entries[0])
        self.dtype = dtype.newbyteorder("=")
        _checked(self.name, self.shape, self.dtype)

    def require_same(self) -> None:
        """`VoidError` if the file is another one by now."""
        self.file.require_same()

    def read(self) -> Any:
        """All rows."""
        try:
            with self.file.open() as stream:
                csr = scipy.sparse.csr_array(scipy.sparse.load_npz(stream))
            csr.check_format(full_check=True)
        except (OSError, VoidError, MemoryError):
            raise  # the file is gone, or another one; or it is larger than memory
        except Exception as error:  # as above
            raise InputError(f"{self.name} is damaged: {error}") from None
        return csr


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that JAX uses on CPU without a copy."""
    size = math.prod(shape) * dtype.itemsize
    held = np.empty(size + _ALIGNMENT, np.uint8)
    first = -held.ctypes.data % _ALIGNMENT
    return held[first : first + size].view(dtype).reshape(shape)
