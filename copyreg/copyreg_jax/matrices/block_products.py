"""Products of one block of rows, dense (compiled, piece by piece) or sparse (by SciPy)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array

from copyreg_jax.matrices import interface

__all__ = [
    "PIECE_ROWS",
    "both",
    "gram",
    "product",
    "row_norms",
    "sparse_both",
    "sparse_gram",
    "sparse_product",
    "sparse_row_norms",
    "sparse_squares",
    "sparse_transposed",
    "sparse_weighted",
    "sparse_weighted_gram",
    "squares",
    "transposed",
    "weighted",
    "weighted_gram_of",
]

PIECE_ROWS = 2048
"""Rows of a dense block that are worked on at once, so that they stay in cache."""


def _cut(array: Array, start: Any, rows: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(array, start, rows, axis=-1)


def _pieces(block: Array, dtype: Any) -> tuple[int, Callable[[Any], Array], Array]:
    """How many whole pieces a block has, the function that gives one, and the rest of its rows.

    A piece is converted in cache: on CPU five to ten times faster than the block as a whole.
    """
    whole = len(block) // PIECE_ROWS

    def piece(i: Any) -> Array:
        return jax.lax.dynamic_slice_in_dim(block, i * PIECE_ROWS, PIECE_ROWS).astype(dtype)

    return whole, piece, block[whole * PIECE_ROWS :].astype(dtype)


@jax.jit
def product(block: Array, v: Array) -> Array:
    """``block @ v``."""
    whole, piece, rest = _pieces(block, v.dtype)
    if not whole:
        return rest @ v
    products = jax.lax.map(lambda i: piece(i) @ v, jnp.arange(whole))
    return jnp.concatenate([products.reshape(-1, *v.shape[1:]), rest @ v])


def _sum(block: Array, vectors: Array, start: Any, work: Callable[[Array, Array], Any]) -> Any:
    """Sum over the pieces of ``work(piece, its part of the vectors)``."""
    return _sum_and_rows(block, vectors, start, lambda rows, part: (work(rows, part), ()))[0]


def _sum_and_rows(
    block: Array, vectors: Array, start: Any, work: Callable[[Array, Array], tuple[Any, Any]]
) -> tuple[Any, Any]:
    """`_sum` of the first results of ``work``, and its second ones, a number per row, joined."""
    whole, piece, rest = _pieces(block, vectors.dtype)
    own = _cut(vectors, start, len(block))  # the loop must not carry vectors of n numbers

    def add(total: Any, i: Any) -> tuple[Any, Any]:
        term, values = work(piece(i), _cut(own, i * PIECE_ROWS, PIECE_ROWS))
        return jax.tree_util.tree_map(jnp.add, total, term), values

    total, last = work(rest, own[..., whole * PIECE_ROWS :])
    if not whole:
        return total, last
    total, values = jax.lax.scan(add, total, jnp.arange(whole))
    join = jax.tree_util.tree_map
    return total, join(lambda a, b: jnp.concatenate([a.reshape(-1), b]), values, last)


@jax.jit
def transposed(block: Array, u: Array, start: Any) -> Array:
    """The block's part of ``u @ A``."""
    return _sum(block, u, start, lambda rows, part: part @ rows)


@jax.jit
def weighted(block: Array, v: Array, weights: Array, shifts: Array, start: Any) -> Any:
    """The block's part of `weighted_product`."""

    def work(rows: Array, part: Array) -> Any:
        *sums, u = interface.weighted_product(rows, v, part, shifts)
        return sums, u

    return _sum_and_rows(block, weights, start, work)


@jax.jit
def both(block: Array, U: Array, v: Array, start: Any) -> Any:
    """The block's part of `two_products`."""
    return _sum_and_rows(block, U, start, lambda rows, part: (part @ rows, rows @ v))


@jax.jit
def squares(block: Array, weights: Array, start: Any) -> Array:
    """The block's part of `squared_column_norms`."""
    return _sum(block, weights, start, interface.squared_column_norms)


@functools.partial(jax.jit, static_argnums=4)
def gram(block: Array, root: Array, basis: Array | None, start: Any, dtype: Any) -> Array:
    """The block's part of `gram`."""
    return interface.gram(block, _cut(root, start, len(block)), basis, dtype)


@jax.jit
def weighted_gram_of(block: Array, weights: Array, centers: Array, start: Any) -> Array:
    """The block's part of `weighted_gram`."""
    return _sum(block, weights, start, lambda A, part: interface.weighted_gram(A, part, centers))


@functools.partial(jax.jit, static_argnums=1)
def row_norms(block: Array, dtype: Any) -> tuple[Array, Array]:
    """The block's part of `row_norms`, and whether no entry is NaN or infinite."""
    whole, piece, rest = _pieces(block, dtype)

    def norms(rows: Array) -> tuple[Array, Array]:
        found = interface.row_norms(rows) if len(rows) else jnp.zeros(0, rows.dtype)
        return found, jnp.isfinite(rows).all(axis=0).all()  # a maximum may drop NaN

    last, finite = norms(rest)
    if not whole:
        return last, finite
    found, all_finite = jax.lax.map(lambda i: norms(piece(i)), jnp.arange(whole))
    return jnp.concatenate([found.reshape(-1), last]), finite & all_finite.all()


# SciPy's products of sparse blocks: XLA has no fast ones on CPU, see matrices/sparse.py.


def sparse_product(block: Any, v: Array) -> Array:
    """`product` of a sparse block."""
    return jnp.asarray(block.astype(v.dtype) @ np.asarray(v))


def sparse_row_norms(block: Any, dtype: Any) -> tuple[Array, bool]:
    """`row_norms` of a sparse block."""
    rows = block.astype(dtype)
    scale = abs(rows).max() or 1
    with np.errstate(all="ignore"):  # what is not finite is reported as such
        scaled = rows / scale
        squares = np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel()
        norms = jnp.asarray(scale * np.sqrt(squares))
    return norms, bool(np.isfinite(rows.data).all())


def sparse_transposed(block: Any, u: Array, start: int) -> Array:
    """`transposed` of a sparse block."""
    part = np.asarray(u)[..., start : start + block.shape[0]]
    return jnp.asarray(part @ block.astype(u.dtype))


def sparse_weighted(block: Any, v: Array, weights: Array, shifts: Array, start: int) -> Any:
    """`weighted` of a sparse block."""
    block = block.astype(v.dtype)
    part = np.asarray(weights)[:, start : start + block.shape[0]]
    u = block @ np.asarray(v)
    terms = part * (u[None] - np.asarray(shifts)[:, None])
    sums = [jnp.asarray(terms.sum(axis=0) @ block), jnp.asarray(terms.sum(axis=1))]
    return sums, jnp.asarray(u)


def sparse_both(block: Any, U: Array, v: Array, start: int) -> Any:
    """`both` of a sparse block."""
    return sparse_transposed(block, U, start), sparse_product(block, v)


def sparse_gram(block: Any, root: Array, basis: Array | None, start: int, dtype: Any) -> Array:
    """`gram` of a sparse block; the square stays sparse without a basis."""
    part = np.asarray(root)[start : start + block.shape[0]]
    scaled = scipy.sparse.diags_array(part) @ block
    scaled = scaled if basis is None else scaled @ np.asarray(basis)
    scaled = scaled.astype(dtype)
    square = scaled.T @ scaled
    return jnp.asarray(square.toarray() if scipy.sparse.issparse(square) else square)


def sparse_weighted_gram(block: Any, weights: Array, centers: Array, start: int) -> Array:
    """Centered rows, dense a few at a time, times the sparse ones: O(n d + nnz d)."""
    total = np.zeros((block.shape[1],) * 2, weights.dtype)
    for first in range(0, block.shape[0], PIECE_ROWS):
        rows = block[first : first + PIECE_ROWS].astype(weights.dtype)
        part = np.asarray(weights)[:, start + first : start + first + rows.shape[0]]
        for weight, center in zip(part, np.asarray(centers), strict=True):
            centered = (rows.toarray() - center) * weight[:, None]
            total += rows.T @ centered - np.outer(center, centered.sum(axis=0))
    return jnp.asarray(total)


def sparse_squares(block: Any, weights: Array, start: int) -> Array:
    """`squares` of a sparse block."""
    part = np.asarray(weights)[start : start + block.shape[0]]
    block = block.astype(weights.dtype)
    return jnp.asarray(part @ block.multiply(block).tocsr())
