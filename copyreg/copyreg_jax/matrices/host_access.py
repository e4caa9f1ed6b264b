"""What the host reads of a matrix A and of the vectors beside it, and where it puts them.

Each function is written here for an array; the module of another kind of matrix registers its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array

__all__ = [
    "CHUNK",
    "HostMatrix",
    "all_finite",
    "fetch",
    "first_not_finite",
    "host_rows",
    "is_here",
    "join",
    "locate_not_finite",
    "place",
    "to_host",
]

HostMatrix: TypeAlias = np.ndarray | scipy.sparse.csr_array

CHUNK = 1 << 22
"""Entries that are converted, or made dense, at once on the host."""


@singledispatch
def to_host(A: Any) -> HostMatrix:
    """The same matrix in float64, as NumPy array or SciPy CSR array; float32 promotes exactly."""
    return np.asarray(A, dtype=np.float64)


@singledispatch
def host_rows(A: Any) -> Iterator[tuple[slice, HostMatrix]]:
    """The rows of `to_host`, block by block where a copy of the whole would be large."""
    host: Any = np.asarray(A) if isinstance(A, jax.Array | np.ndarray) else to_host(A)
    n, d = host.shape
    step = n if host.dtype == np.float64 else max(1, CHUNK // d)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        part = host if step >= n else host[rows]  # SciPy copies what it cuts
        yield rows, part.astype(np.float64, copy=False)


@singledispatch
def first_not_finite(A: Any) -> tuple[float, int, int] | None:
    """The first entry that is not finite, with its row and column; None if there is none.

    Works within a ``jax.jit``, on an A that is concrete.
    """
    if all(all_finite(leaf) for leaf in jax.tree_util.tree_leaves(A)):
        return None
    return locate_not_finite(to_host(A))


def all_finite(array: Array) -> bool:
    """Whether all entries of a concrete array are finite, also within a ``jax.jit``."""
    on_cpu = all(device.platform == "cpu" for device in array.devices())
    if on_cpu and array.is_fully_addressable:  # no program to compile
        host = np.asarray(array).reshape(-1)
        parts = (host[i : i + CHUNK] for i in range(0, len(host), CHUNK))
        return all(bool(np.isfinite(part).all()) for part in parts)
    with jax.ensure_compile_time_eval():
        return bool(jnp.isfinite(array).all())


def locate_not_finite(host: HostMatrix) -> tuple[float, int, int]:
    """The first entry of a matrix on the host that is not finite, with its row and column."""
    if isinstance(host, scipy.sparse.csr_array):
        entries: Any = host.tocoo()
        first = np.flatnonzero(~np.isfinite(entries.data))[0]
        return entries.data[first], int(entries.row[first]), int(entries.col[first])
    row, column = np.argwhere(~np.isfinite(host))[0]
    return host[row, column], int(row), int(column)


@singledispatch
def join(A: Any, parts: list[np.ndarray]) -> np.ndarray:
    """What was computed from the blocks of `host_rows`, of all processes, one after the other."""
    return np.concatenate(parts)


@singledispatch
def is_here(A: Any) -> bool:
    """Whether all of A can be read in this process."""
    return True


@singledispatch
def place(A: Any, array: Any) -> Array:
    """A vector of n entries, or a number, where products with A want it."""
    return array


@singledispatch
def fetch(A: Any, vector: Any) -> Any:
    """The vector of n entries that `place` was given. Sharded over processes, all have to ask."""
    return vector
