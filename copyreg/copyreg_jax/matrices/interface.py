"""What solvers may ask of a matrix A of shape (n, d): `Matrix`, and the functions of this module.

Each function is written here for a dense A; the module of another kind of matrix registers its own.
What the host reads of A is in host_access.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, singledispatch
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

__all__ = [
    "Matrix",
    "absent_rows",
    "add_compensated",
    "column_maxima",
    "column_norms",
    "count_sketch",
    "gram",
    "gram_and_product",
    "is_sharded",
    "is_sparse",
    "norms",
    "num_entries",
    "on_host",
    "row_norms",
    "squared_column_norms",
    "take_rows",
    "two_products",
    "weighted_gram",
    "weighted_gram_norm",
    "weighted_product",
    "without_rows",
]

_GRAM_ROWS = 2048
"""Rows of a block of a Gram matrix. In float32 it has a quarter, and errors as much smaller."""


class Matrix(Protocol):
    """A matrix, dense (a ``jax.Array``) or another pytree of arrays.

    ``A @ v`` for v of shape (d,) or (d, k), and the transpose product ``u @ A`` for u of shape (n,)
    or (k, n) (five times faster than ``A.T @ u`` on CPU), are linear in what A is multiplied with:
    differentiable in it, and batched over it by ``jax.vmap``.

    A new kind of matrix has these members, and registers the functions of ``copyreg_jax.matrices``
    that its solvers call; each is written for a dense array. It may have the flags ``on_host``,
    ``sparse`` and ``sharded``. docs/how-to/extend.md has a whole one.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    @property
    def ndim(self) -> int: ...

    @property
    def T(self) -> Any: ...

    def astype(self, dtype: Any, /) -> Any: ...

    def __matmul__(self, other: Any, /) -> Array: ...

    def __rmatmul__(self, other: Any, /) -> Array: ...


def on_host(A: Any) -> bool:
    """Whether products with A are made by the host, block by block, and can't be traced."""
    return getattr(A, "on_host", False)


def is_sparse(A: Any) -> bool:
    """Whether A stores only some of its entries, and the others are zero."""
    return getattr(A, "sparse", False)


def is_sharded(A: Any) -> bool:
    """Whether the rows of A are spread over a mesh of devices."""
    return getattr(A, "sharded", False)


@singledispatch
def weighted_product(
    A: Any, v: Float[Array, " d"], weights: Float[Array, "m n"], shifts: Float[Array, " m"]
) -> tuple[Float[Array, " d"], Float[Array, " m"], Float[Array, " n"]]:
    """``r @ A`` for ``r = sum_j weights_j * (A v - shifts_j)``, the sums of r's terms, and A v."""
    u = A @ v
    # Term by term: sums over so short an axis are slow.
    terms = [weight * (u - shift) for weight, shift in zip(weights, shifts, strict=True)]
    return sum(terms[1:], terms[0]) @ A, jnp.stack([jnp.sum(term) for term in terms]), u


@singledispatch
def two_products(
    A: Any, U: Float[Array, "k n"], v: Float[Array, " d"]
) -> tuple[Float[Array, "k d"], Float[Array, " n"]]:
    """``U @ A`` and ``A @ v``; of an A on disk by one read."""
    return U @ A, A @ v


@singledispatch
def gram_and_product(
    A: Any, root: Float[Array, " n"], dtype: Any, u: Float[Array, " n"]
) -> tuple[Float[Array, "d d"], Float[Array, " d"]]:
    """`gram` without a basis, and ``u @ A``; of an A on disk by one read."""
    return gram(A, root, None, dtype), u @ A


@singledispatch
@partial(jax.jit, static_argnums=3)
def gram(
    A: Any, root: Float[Array, " n"], basis: Float[Array, "d d"] | None, dtype: Any
) -> Float[Array, "d d"]:
    """``B^T B`` for ``B = diag(root) A basis`` in the arithmetic of ``dtype``; O(n d^2).

    Row block by row block, so that the copy in ``dtype`` stays in the cache.
    """

    def block(rows: Array, root: Array) -> Array:
        wider = np.promote_types(rows.dtype, root.dtype)
        rows, root = rows.astype(wider), root.astype(wider)
        rows = rows if basis is None else rows @ basis
        scaled = (rows * root[:, None]).astype(dtype)
        return scaled.T @ scaled

    return _sum_of_blocks(block, A, root, dtype)


@singledispatch
def weighted_gram(
    A: Any, weights: Float[Array, "m n"], centers: Float[Array, "m d"]
) -> Float[Array, "d d"]:
    """``sum_j sum_i weights_ji (a_i - center_j)(a_i - center_j)^T`` for the rows ``a_i``.

    Row block by row block, like `gram`; O(m n d^2). Of an array the centered rows are squared and
    added up in the arithmetic of the weights.
    """

    def block(rows: Array, weights: Array) -> Array:
        total = jnp.zeros((), weights.dtype)
        for weight, center in zip(weights.T, centers, strict=True):
            centered = (rows - center[None]).astype(weights.dtype)
            total = total + (centered * weight[:, None]).T @ centered
        return total

    return _sum_of_blocks(block, A, weights.T, weights.dtype)


@jax.jit
def add_compensated(total: Any, lost: Any, term: Any) -> tuple[Any, Any]:
    """Add a term to a total, and return what the sum is too large by (Kahan); pytrees of floats.

    Rounding errors of the same sign, as those of equal rows are, would add up otherwise.
    """
    tree = jax.tree_util.tree_map
    term = tree(jnp.subtract, term, lost)
    new = tree(jnp.add, total, term)
    return new, tree(lambda new, total, term: (new - total) - term, new, total, term)


def _sum_of_blocks(
    block: Callable[[Array, Array], Array], A: Array, others: Array, dtype: Any
) -> Float[Array, "d d"]:
    """Sum of ``block(rows, their part of the others)`` over blocks that stay in the cache."""
    n, d = A.shape
    single = np.dtype(dtype) == np.float32
    height = _GRAM_ROWS // 4 if single else _GRAM_ROWS
    whole, rest = divmod(n, height)

    def term(i: Array) -> Array:
        cut = jax.lax.dynamic_slice_in_dim
        return block(cut(A, i * height, height), cut(others, i * height, height))

    total = lost = jnp.zeros((d, d), dtype)
    if whole and single:
        sums = (total, lost)
        total, lost = jax.lax.fori_loop(
            0, whole, lambda i, sums: add_compensated(*sums, term(i)), sums
        )
    elif whole:
        total = jax.lax.fori_loop(0, whole, lambda i, total: total + term(i), total)
    return total + (block(A[n - rest :], others[n - rest :]) - lost) if rest else total


@singledispatch
def num_entries(A: Any) -> int:
    """How many entries a product with A reads, padding included."""
    n, d = A.shape
    return n * d


@singledispatch
def take_rows(A: Any, indices: Int[Array, " k"]) -> Float[Array, "k d"]:
    """The rows named, as a dense array. Cost O(k d)."""
    return jnp.take(A, indices, axis=0, mode="clip")


@singledispatch
def count_sketch(
    A: Any, weights: Float[Array, " n"], shifts: Int[Array, " blocks"], num_rows: int
) -> Float[Array, "r d"]:
    """CountSketch ``S diag(weights) A`` with r = num_rows buckets, for weights with random signs.

    Row i goes to bucket ``(i + shifts[i // r]) mod r``. With independent uniform shifts two rows
    meet with probability 1/r if they are r apart, and never else, which is all that the theory of
    CountSketch asks of its hash; and rows are read in order. Cost O(nnz(A)).

    Parameters
    ----------
    A : (n, d) matrix
    weights : (n,) array
    shifts : (ceil(n / r),) array of integers in [0, r)
    num_rows : int

    Examples
    --------
    >>> A = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [4.0, 8.0]])
    >>> shifts = jnp.array([0, 1])  # rows 2 and 3 go to buckets 1 and 0
    >>> count_sketch(A, jnp.array([1.0, 1.0, 1.0, -1.0]), shifts, num_rows=2).tolist()
    [[-3.0, -8.0], [2.0, 3.0]]
    """
    n, d = A.shape

    # The shift is where a block begins in a ring of buckets, laid out twice.
    def add(ring: Array, rows: Array, shift: Array) -> Array:
        corner = (shift, jnp.zeros_like(shift))
        old = jax.lax.dynamic_slice(ring, corner, rows.shape)
        return jax.lax.dynamic_update_slice(ring, old + rows, corner)

    def add_block(k: Array, ring: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(A, k * num_rows, num_rows)
        scale = jax.lax.dynamic_slice_in_dim(weights, k * num_rows, num_rows)
        return add(ring, scale[:, None] * rows, shifts[k])

    whole = n // num_rows
    ring = jnp.zeros((2 * num_rows, d), A.dtype)
    if whole:
        ring = jax.lax.fori_loop(0, whole, add_block, ring)
    if n % num_rows:
        rest = slice(whole * num_rows, n)
        ring = add(ring, weights[rest, None] * A[rest], shifts[whole])
    return ring[:num_rows] + ring[num_rows:]


@singledispatch
def column_maxima(A: Any) -> Float[Array, " d"]:
    """Largest absolute entry of each column."""
    return jnp.max(jnp.abs(A), axis=0)


@singledispatch
def column_norms(A: Any) -> Float[Array, " d"]:
    """Euclidean norms of the columns, scaled so that nothing over- or underflows."""
    largest = column_maxima(A)
    scale = jnp.where(largest == 0, 1, largest)
    return scale * jnp.sqrt(jnp.sum((A / scale[None]) ** 2, axis=0))


@singledispatch
@jax.jit
def squared_column_norms(A: Any, weights: Float[Array, " n"]) -> Float[Array, " d"]:
    """Diagonal of ``A^T diag(weights) A``; one read of A."""
    return weights @ (A * A)


@singledispatch
@jax.jit
def row_norms(A: Any) -> Float[Array, " n"]:
    """Euclidean norms of the rows, scaled so that no unit of A over- or underflows.

    Zero for absent rows. One read of A, or three for a unit in which squares might leave the range.
    """
    return norms(A, lambda squares: jnp.sum(squares, axis=1))


def norms(entries: Array, sums: Callable[[Array], Array]) -> Array:
    """``sqrt(sums(entries^2))``, where ``sums`` adds parts of a (k, c) array up to m numbers.

    One read of the entries, or three for a unit in which squares might leave the range.
    """
    plain = sums(entries * entries)
    top, limits = jnp.max(plain, initial=0), jnp.finfo(entries.dtype)

    def scaled() -> Array:
        largest = jnp.max(jnp.abs(entries), initial=0)
        scale = jnp.where(largest == 0, 1, largest)
        return scale * jnp.sqrt(sums((entries / scale) ** 2))

    # A division of each entry takes ten times as long as all else.
    inside = (top > float(limits.tiny) ** 0.25) & (top < float(limits.max) ** 0.5)
    return jax.lax.cond(inside, lambda: jnp.sqrt(plain), scaled)


@singledispatch
def weighted_gram_norm(A: Matrix, weights: Float[Array, " n"]) -> Float[Array, ""]:
    """Largest eigenvalue of ``A^T diag(weights) A``, weights >= 0.

    Cost O(n d min(n, d)) dense, and a square matrix of that smaller size.
    """
    n, d = A.shape
    if d > n:  # that of D^(1/2) A A^T D^(1/2)
        root, ones = jnp.sqrt(weights), jnp.ones((1, d), A.dtype)
        gram = root[:, None] * weighted_gram(A.T, ones, jnp.zeros((1, n), A.dtype)) * root[None]
    else:
        gram = weighted_gram(A, weights[None], jnp.zeros((1, d), A.dtype))
    return jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0)


@singledispatch
def absent_rows(A: Any) -> Bool[Array, " N"] | None:
    """Mask of the rows of zeros that only fill up A, of which products have N > n; else None."""
    return None


def without_rows(u: Array, absent: Bool[Array, " N"] | None) -> Array:
    """Logits whose softmax is exactly zero on the absent rows.

    Finite, because an absent row has the weight w = 0. Not linear: to be put on last.
    """
    return u if absent is None else jnp.where(absent, 0.25 * jnp.finfo(u.dtype).min, u)
