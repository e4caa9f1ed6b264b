"""A sparse matrix whose products are row-wise sums in both directions.

XLA on CPU has no fast sparse product: a scatter costs several times SciPy's product, and a gather
that isn't fused into its sum writes one number per entry of A. So the compressed rows of A are cut
into pieces of equal, small width; a product with a vector is then a few gathers and multiplications
that XLA fuses into one loop over the pieces, and a short scatter of one number per piece. The
transpose is stored the same way. Against SciPy: benchmarks/matrices.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import host_access, interface
from copyreg_jax.matrices.sparse_product import Pieces, cut, gather, product_p

__all__ = ["SparseMatrix"]

_BLOCK = 64
"""Columns of a sparse matrix that are made dense at once: n x 64 numbers."""


@jax.tree_util.register_pytree_node_class
class SparseMatrix:
    """A sparse (n, d) matrix on the device, made by `from_scipy` or by a problem.

    ``A @ v`` and ``u @ A`` take vectors and matrices, ``A.T`` costs nothing. It is a pytree, is
    differentiated with respect to what it is multiplied with, and ``jax.vmap`` over vectors is one
    product with a matrix. Entries are stored twice, with int32 indices: about 25 bytes per float64;
    what is evaluated on the host, as the result of `solve`, keeps a third copy there, 12 bytes.

    Attributes
    ----------
    rows, columns : Pieces
        A and its transpose.
    shape : (int, int)
        ``(n, d)``.

    Examples
    --------
    >>> import jax.numpy as jnp, scipy.sparse
    >>> A = SparseMatrix.from_scipy(scipy.sparse.csr_array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]))
    >>> A
    SparseMatrix(shape=(3, 2), dtype=float32)
    >>> (A @ jnp.array([1.0, 10.0])).tolist(), (jnp.array([1.0, 10.0, 100.0]) @ A).tolist()
    ([20.0, 1.0, 0.0], [10.0, 2.0])
    """

    # NumPy's operators and array functions leave products to this class.
    __array_ufunc__ = None

    sparse: ClassVar[bool] = True
    rows: Pieces
    columns: Pieces
    shape: tuple[int, int]

    def __init__(self, rows: Pieces, columns: Pieces, shape: tuple[int, int]) -> None:
        self.rows, self.columns, self.shape = rows, columns, shape
        self._host: scipy.sparse.csr_array | None = None

    @classmethod
    def from_scipy(cls, A: Any) -> Self:
        """The same matrix from SciPy's, of any format.

        Duplicates are added; explicit zeros stay. Cost O(n + d + nnz) on the host.

        Raises
        ------
        InputError
            Where int32 can't index the entries, or an index is outside of A.
        """
        csr = scipy.sparse.csr_array(A, copy=True)  # sum_duplicates changes it in place
        if csr.ndim != 2 or max(csr.shape) >= 2**31:
            raise InputError(f"A has shape {csr.shape}; a sparse A needs n and d below 2^31")
        try:
            csr.check_format(full_check=True)
        except ValueError as error:
            raise InputError(f"A is not a valid sparse matrix: {error}; rebuild it") from None
        csr.sum_duplicates()
        transposed = csr.T.tocsr()
        transposed.sort_indices()
        return cls(cut(csr), cut(transposed), csr.shape)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64, as the entries are."""
        return np.dtype(self.rows.data.dtype)

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def T(self) -> SparseMatrix:
        """The transpose; the same arrays."""
        return SparseMatrix(self.columns, self.rows, self.shape[::-1])

    def astype(self, dtype: Any) -> SparseMatrix:
        """The matrix with entries of another dtype."""
        if np.dtype(dtype) == self.dtype:
            return self
        rows, columns = (p._replace(data=p.data.astype(dtype)) for p in (self.rows, self.columns))
        return SparseMatrix(rows, columns, self.shape)

    def todense(self) -> Float[Array, "n d"]:
        """The (n, d) array; n d numbers."""
        row = jnp.arange(self.shape[0], dtype=jnp.int32) if self.rows.row is None else self.rows.row
        place = jnp.broadcast_to(row[None], self.rows.columns.shape), self.rows.columns
        return jnp.zeros(self.shape, self.dtype).at[place].add(self.rows.data)

    def __matmul__(self, other: ArrayLike) -> Array:
        V = jnp.asarray(other)
        if V.ndim not in (1, 2) or V.shape[0] != self.shape[1]:
            raise InputError(
                f"A of shape {self.shape} was multiplied with an array of shape {V.shape}; "
                f"give ({self.shape[1]},) or ({self.shape[1]}, k)"
            )
        dtype = np.promote_types(self.dtype, V.dtype)
        leaves, tree = jax.tree_util.tree_flatten(self.astype(dtype))
        product = product_p.bind(*leaves, V.astype(dtype).reshape(len(V), -1), tree=tree)
        return product.reshape(self.shape[0], *V.shape[1:])

    def __rmatmul__(self, other: ArrayLike) -> Array:
        return (self.T @ jnp.asarray(other).T).T

    def __repr__(self) -> str:
        return f"SparseMatrix(shape={self.shape}, dtype={self.dtype})"

    def tree_flatten(self) -> tuple[tuple[Pieces, Pieces], tuple[int, int]]:
        return (self.rows, self.columns), self.shape

    @classmethod
    def tree_unflatten(cls, aux: tuple[int, int], children: tuple[Any, ...]) -> Self:
        return cls(children[0], children[1], aux)


@interface.weighted_gram.register(SparseMatrix)
def _weighted_gram(
    A: SparseMatrix, weights: Float[Array, "m n"], centers: Float[Array, "m d"]
) -> Float[Array, "d d"]:
    """A is made dense a few columns at a time."""
    d = A.shape[1]

    def row(column: Array) -> Array:
        unit = (jnp.arange(d) == column).astype(A.dtype)
        out, sums, _ = interface.weighted_product(A, unit, weights, centers @ unit)
        return out - sums @ centers

    columns = jnp.arange(-(-d // _BLOCK) * _BLOCK).reshape(-1, _BLOCK)
    return jax.lax.map(jax.vmap(row), columns).reshape(-1, d)[:d]


@interface.gram.register(SparseMatrix)
def _gram(
    A: SparseMatrix, root: Float[Array, " n"], basis: Float[Array, "d d"] | None, dtype: Any
) -> Float[Array, "d d"]:
    """All of A is made dense, n d numbers."""
    return interface.gram(A.todense(), root, basis, dtype)


@interface.num_entries.register(SparseMatrix)
def _num_entries(A: SparseMatrix) -> int:
    return A.rows.data.size


@interface.take_rows.register(SparseMatrix)
def _take_rows(A: SparseMatrix, indices: Int[Array, " k"]) -> Float[Array, "k d"]:
    """As many rounds as the longest of these rows has pieces in a window, one of each a round."""
    pieces, (n, d) = A.rows, A.shape
    windows = (len(pieces.starts) - 1) // n
    run = (indices[None] + n * jnp.arange(windows, dtype=indices.dtype)[:, None]).reshape(-1)
    place = jnp.tile(jnp.arange(len(indices)), windows)
    first, end = pieces.starts[run], pieces.starts[run + 1]

    def add(t: Array, taken: Array) -> Array:
        at = jnp.minimum(first + t, pieces.data.shape[1] - 1)
        data = jnp.where((first + t < end)[None], pieces.data[:, at], 0)
        return taken.at[place[None], pieces.columns[:, at]].add(data)

    taken = jnp.zeros((len(indices), d), A.dtype)
    return jax.lax.fori_loop(0, jnp.max(end - first, initial=0), add, taken)


@interface.count_sketch.register(SparseMatrix)
def _count_sketch(
    A: SparseMatrix, weights: Float[Array, " n"], shifts: Int[Array, " blocks"], num_rows: int
) -> Float[Array, "r d"]:
    n, d = A.shape
    row = jnp.arange(n, dtype=jnp.int32) if A.rows.row is None else A.rows.row
    bucket = (row + shifts[row // num_rows]) % num_rows
    entries = weights[row][None] * A.rows.data
    return jnp.zeros((num_rows, d), A.dtype).at[bucket[None], A.rows.columns].add(entries)


def _over_entries(
    combine: Callable[[Array, Array], Array], of_entries: Float[Array, "k c"]
) -> Array:
    """One number per piece from one per entry; as a reduction it takes XLA thirty times as long."""
    return functools.reduce(combine, of_entries)


@interface.column_maxima.register(SparseMatrix)
def _column_maxima(A: SparseMatrix) -> Float[Array, " d"]:
    largest = _over_entries(jnp.maximum, jnp.abs(A.columns.data))
    if A.columns.row is None:
        return largest
    return jnp.zeros(A.shape[1], A.dtype).at[A.columns.row].max(largest)


@interface.column_norms.register(SparseMatrix)
def _column_norms(A: SparseMatrix) -> Float[Array, " d"]:
    largest = _column_maxima(A)
    scale = jnp.where(largest == 0, 1, largest)
    of_piece = scale if A.columns.row is None else scale[A.columns.row]
    squares = (A.columns.data / of_piece[None]) ** 2
    return scale * jnp.sqrt(A.columns.sums(_over_entries(jnp.add, squares), A.shape[1]))


@interface.squared_column_norms.register(SparseMatrix)
@jax.jit
def _squared_column_norms(A: SparseMatrix, weights: Float[Array, " n"]) -> Float[Array, " d"]:
    columns = A.columns
    total = columns.data[0] ** 2 * gather(weights, columns.columns[0])
    for i in range(1, len(columns.data)):
        total += columns.data[i] ** 2 * gather(weights, columns.columns[i])
    return columns.sums(total, A.shape[1])


@interface.row_norms.register(SparseMatrix)
@jax.jit
def _row_norms(A: SparseMatrix) -> Float[Array, " n"]:
    pieces = A.rows
    return interface.norms(
        pieces.data, lambda squares: pieces.sums(_over_entries(jnp.add, squares), A.shape[0])
    )


@host_access.to_host.register(SparseMatrix)
def _to_host(A: SparseMatrix) -> scipy.sparse.csr_array:
    if A._host is None:
        A._host = _csr(A)  # a run asks more than once
    return A._host


def _csr(A: SparseMatrix) -> scipy.sparse.csr_array:
    data = np.asarray(A.rows.data, dtype=np.float64)
    kept = np.arange(len(data))[:, None] < np.asarray(A.rows.filled)
    row = np.arange(data.shape[1]) if A.rows.row is None else np.asarray(A.rows.row)
    place = np.broadcast_to(row, data.shape)[kept], np.asarray(A.rows.columns)[kept]
    host = scipy.sparse.csr_array((data[kept], place), shape=A.shape)
    host.sort_indices()
    return host
