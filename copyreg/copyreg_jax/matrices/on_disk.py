"""What solvers ask of a matrix on disk: sums over its blocks, and what the host reads of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import block_products, host_access, interface
from copyreg_jax.matrices.host_access import HostMatrix
from copyreg_jax.matrices.row_blocks import RowBlocks, as_taken

__all__ = ["RowBlocks"]

_MAX_HOST_BYTES = 1 << 30
"""Size in float64 up to which a matrix on disk may be brought into memory as a whole."""


@interface.weighted_gram.register(RowBlocks)
def _weighted_gram(A: RowBlocks, weights: Array, centers: Array) -> Array:
    weights = A.operand(weights, -1, A.shape[0])
    squared = block_products.sparse_weighted_gram if A.sparse else block_products.weighted_gram_of
    return A.total(lambda block, start: squared(block, weights, centers, start))


@interface.weighted_product.register(RowBlocks)
def _weighted_product(A: RowBlocks, v: Array, weights: Array, shifts: Array) -> Any:
    v, weights = A.operand(v, 0, A.shape[1]), weights.astype(A.dtype)
    weighted = block_products.sparse_weighted if A.sparse else block_products.weighted
    sums, u = A.total_and_rows(lambda block, start: weighted(block, v, weights, shifts, start))
    return *sums, u


@interface.two_products.register(RowBlocks)
def _two_products(A: RowBlocks, U: Array, v: Array) -> Any:
    U, v = A.operand(U, -1, A.shape[0]), A.operand(v, 0, A.shape[1])
    both = block_products.sparse_both if A.sparse else block_products.both
    return A.total_and_rows(lambda block, start: both(block, U, v, start))


@interface.gram.register(RowBlocks)
def _gram_of_all(A: RowBlocks, root: Array, basis: Array | None, dtype: Any) -> Array:
    squared = block_products.sparse_gram if A.sparse else block_products.gram
    # Without a basis nothing is to gain from more digits than those of the result.
    root = root.astype(dtype) if basis is None else root
    dtype = jnp.dtype(dtype)
    return A.total(lambda block, start: squared(block, root, basis, start, dtype))


@interface.gram_and_product.register(RowBlocks)
def _gram_and_product(A: RowBlocks, root: Array, dtype: Any, u: Array) -> Any:
    squared = block_products.sparse_gram if A.sparse else block_products.gram
    transposed = block_products.sparse_transposed if A.sparse else block_products.transposed
    root, u, dtype = root.astype(dtype), A.operand(u, -1, A.shape[0]), jnp.dtype(dtype)
    return A.total(
        lambda block, start: (squared(block, root, None, start, dtype), transposed(block, u, start))
    )


@interface.squared_column_norms.register(RowBlocks)
def _squared_column_norms(A: RowBlocks, weights: Array) -> Array:
    squares = block_products.sparse_squares if A.sparse else block_products.squares
    return A.total(lambda block, start: squares(block, weights.astype(A.dtype), start))


@interface.num_entries.register(RowBlocks)
def _num_entries(A: RowBlocks) -> int:
    return A.num_entries


@interface.count_sketch.register(RowBlocks)
def _count_sketch(A: RowBlocks, weights: Array, shifts: Array, num_rows: int) -> Array:
    """By SciPy, block by block."""
    own, moved = np.asarray(weights).astype(A.dtype), np.asarray(shifts)

    def work(block: Any, start: int) -> Array:
        height = block.shape[0]
        row = np.arange(start, start + height)
        place = (row + moved[row // num_rows]) % num_rows, np.arange(height)
        S = scipy.sparse.csr_array((own[row], place), shape=(num_rows, height))
        sketch = S @ block.astype(A.dtype)
        return jnp.asarray(sketch.toarray() if scipy.sparse.issparse(sketch) else sketch)

    return A.total(work)


@interface.weighted_gram_norm.register(RowBlocks)
def _weighted_gram_norm(A: RowBlocks, weights: Array) -> Array:
    gram = interface.gram(A, jnp.sqrt(weights), None, A.dtype)
    return jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0)


@interface.column_maxima.register(RowBlocks)
def _column_maxima(A: RowBlocks) -> Array:
    largest = np.zeros(A.shape[1])
    for _, block in A.blocks():
        found = abs(block).max(axis=0)
        largest = np.maximum(largest, found.toarray() if A.sparse else found)
    return jnp.asarray(largest.astype(A.dtype))


@interface.column_norms.register(RowBlocks)
def _column_norms(A: RowBlocks) -> Array:
    largest = np.asarray(interface.column_maxima(A), np.float64)
    scale = np.where(largest == 0, 1, largest)
    squares = np.zeros(A.shape[1])
    rows: Any
    for _, rows in host_access.host_rows(A):
        scaled = rows.multiply(1 / scale).tocsr() if A.sparse else rows / scale
        squares += (scaled**2).sum(axis=0)
    return jnp.asarray((scale * np.sqrt(squares)).astype(A.dtype))


@interface.row_norms.register(RowBlocks)
def _row_norms(A: RowBlocks) -> Array:
    return A.survey()[0]


@host_access.host_rows.register(RowBlocks)
def _host_rows(A: RowBlocks) -> Iterator[tuple[slice, HostMatrix]]:
    for start, block in A.blocks():
        yield slice(start, start + block.shape[0]), as_taken(A, block).astype(np.float64)


@host_access.first_not_finite.register(RowBlocks)
def _first_not_finite(A: RowBlocks) -> tuple[float, int, int] | None:
    return A.survey()[1]


@host_access.to_host.register(RowBlocks)
def _to_host(A: RowBlocks) -> HostMatrix:
    n, d = A.shape
    if n * d * 8 > _MAX_HOST_BYTES:
        raise InputError("A is on disk, and this would need all of it in memory; use NewtonCG")
    stack = scipy.sparse.vstack if A.sparse else np.vstack
    whole: Any = stack([rows for _, rows in host_access.host_rows(A)])
    return scipy.sparse.csr_array(whole) if A.sparse else whole
