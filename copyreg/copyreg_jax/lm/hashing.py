"""SHA-256 of texts, files and arrays, in hexadecimal digits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["hash_arrays", "hash_bytes", "hash_files", "hash_text"]


def hash_bytes(content: bytes) -> str:
    """Hash bytes."""
    return hashlib.sha256(content).hexdigest()


def hash_text(text: str) -> str:
    """Hash a text in UTF-8."""
    return hash_bytes(text.encode())


def hash_files(folder: Path) -> str:
    """Hash the names and contents of the files in a folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return hash_text("".join(f"{path.name} {hash_bytes(path.read_bytes())}\n" for path in files))


def hash_arrays(arrays: Iterable[NDArray[Any]]) -> str:
    """Hash the shapes, dtypes and entries of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
