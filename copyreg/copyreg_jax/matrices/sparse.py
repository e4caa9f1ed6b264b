"""A sparse matrix whose products are row-wise sums in both directions.

XLA on CPU has no fast sparse product: a scatter costs several times SciPy's product, and a gather
that isn't fused into its sum writes one number per entry of A. So the compressed rows of A are cut
into pieces of equal, small width; a product with a vector is then a few gathers and multiplications
that XLA fuses into one loop over the pieces, and a short scatter of one number per piece. The
transpose is stored the same way. Against SciPy: benchmarks/matrices.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCSR
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import products

_WIDTHS = (2, 4, 8)
"""Widths of a piece to choose from, if one piece per row would be too long."""
_PIECE_COST = 4
"""Cost of adding a piece to its row, in multiplications; fits measurements within a factor 2."""
_LONGEST_ROW = 32
"""Longest row that may be a single piece: the loop over it is unrolled."""
_WINDOW = 1 << 14
"""Columns that long rows are cut at, so that what they gather from stays in cache: 128 KiB."""
_BLOCK = 64
"""Columns of a sparse matrix that are made dense at once: n x 64 numbers."""
_FEW = 4
"""Vectors up to which one product with each is faster than a product with a matrix, on CPU."""


class Pieces(NamedTuple):
    """The rows of an (n, d) matrix, cut into c pieces of width k.

    A run is the part of a row within one window of columns; runs are ordered by window, then row.

    Attributes
    ----------
    data : (k, c) array
        Entries, and zeros where a piece is not full.
    columns : (k, c) array
        Their columns.
    filled : (c,) array
        How many entries of a piece are A's; the others are padding.
    row : (c,) array or None
        The row of each piece; None if piece i is row i.
    starts : (windows * n + 1,) array
        The first piece of each run.
    """

    data: Float[Array, "k c"]
    columns: Int[Array, "k c"]
    filled: Int[Array, " c"]
    row: Int[Array, " c"] | None
    starts: Int[Array, " runs_and_1"]

    def sums(self, values: Array, n: int) -> Array:
        """Sums by row of one value per piece."""
        if self.row is None:
            return values
        return jax.ops.segment_sum(
            values, self.row, n, indices_are_sorted=len(self.starts) == n + 1
        )


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
        return cls(_cut(csr), _cut(transposed), csr.shape)

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


def _cut(csr: Any) -> Pieces:
    """Pieces of a CSR matrix with sorted indices and without duplicates."""
    n, d = csr.shape
    entries = csr.nnz
    windows = -(-d // _WINDOW)
    if 16 * windows * n > entries:  # the runs would be short
        windows = 1
    values, indices = csr.data, csr.indices
    if windows > 1:
        rows = np.repeat(np.arange(n), np.diff(csr.indptr))
        run = indices // _WINDOW * n + rows
        order = np.argsort(run, kind="stable")
        values, indices = values[order], indices[order]
        lengths = np.bincount(run, minlength=windows * n)
    else:
        lengths = np.diff(csr.indptr).astype(np.int64)
    first = np.cumsum(lengths) - lengths

    width, is_row = _width(lengths, windows)
    pieces = np.ones_like(lengths) if is_row else -(-lengths // width)
    starts = np.concatenate([[0], np.cumsum(pieces)])
    if starts[-1] * width >= 2**31:
        raise InputError(
            f"A has {entries} stored entries, {starts[-1] * width} with padding; "
            "a sparse A needs fewer than 2^31"
        )
    run = np.repeat(np.arange(len(lengths)), pieces)
    offset = width * (np.arange(starts[-1]) - starts[run])
    position, count = first[run] + offset, np.minimum(lengths[run] - offset, width)
    data = np.zeros((width, len(run)), values.dtype)
    columns = np.zeros((width, len(run)), np.int32)
    for k in range(width):
        filled = count > k
        data[k, filled] = values[position[filled] + k]
        columns[k, filled] = indices[position[filled] + k]
        columns[k, ~filled] = columns[0, ~filled]  # near to what is read anyway
    with jax.ensure_compile_time_eval():
        return Pieces(
            jnp.asarray(data),
            jnp.asarray(columns),
            jnp.asarray(count.astype(np.uint8)),
            None if is_row else jnp.asarray((run % n).astype(np.int32)),
            jnp.asarray(starts.astype(np.int32)),
        )


def _width(lengths: np.ndarray, windows: int) -> tuple[int, bool]:
    """Width of the pieces that makes a product cheapest, and whether each row is one piece."""
    longest = max(1, int(lengths.max()))
    costs = {
        (width, False): int((-(-lengths // width)).sum()) * (width + _PIECE_COST)
        for width in _WIDTHS
    }
    if windows == 1 and (longest <= _LONGEST_ROW):
        costs[longest, True] = longest * len(lengths)
    if not lengths.any():
        return 1, windows == 1
    return min(costs, key=lambda way: costs[way])


def _gather(V: Array, columns: Array) -> Array:
    return V.at[columns].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _product(*operands: Array, tree: Any, on_cpu: bool) -> Array:
    """``A @ V`` for V of shape (d, k)."""
    A = jax.tree_util.tree_unflatten(tree, operands[:-1])
    V, (n, d), pieces = operands[-1], A.shape, A.rows
    width, k = len(pieces.data), V.shape[1]

    def product(v: Array) -> Array:
        total = pieces.data[0] * _gather(v, pieces.columns[0])
        for i in range(1, width):
            total += pieces.data[i] * _gather(v, pieces.columns[i])
        return pieces.sums(total, n)

    if k <= _FEW:
        # A branch that is always taken. Without it XLA moves parts of this loop to where v comes
        # from or the result goes to: v is computed anew for each entry, or each gather written out.
        first = pieces.starts[0] == 0
        columns = [
            jax.lax.cond(first, product, lambda v: jnp.zeros(n, v.dtype), V[:, i])
            if on_cpu
            else product(V[:, i])
            for i in range(k)
        ]
        return jnp.stack(columns, axis=1)
    if not on_cpu:
        total = pieces.data[0][:, None] * _gather(V, pieces.columns[0])
        for i in range(1, width):
            total += pieces.data[i][:, None] * _gather(V, pieces.columns[i])
        return pieces.sums(total, n)
    # JAX hands BCSR to Eigen, whose inner loop runs over k: slow unless that fills registers.
    V = jnp.pad(V, ((0, 0), (0, -k % (32 // V.dtype.itemsize))))
    compressed = pieces.data.T.reshape(-1), pieces.columns.T.reshape(-1), pieces.starts * width
    runs = BCSR(
        compressed, shape=(len(pieces.starts) - 1, d), indices_sorted=True, unique_indices=True
    )
    return jnp.sum((runs @ V).reshape(-1, n, V.shape[1]), axis=0)[:, :k]


# A primitive, because only so can both derivatives and vmap be told to use the products above.
product_p = Primitive("sparse_product")
product_p.def_impl(jax.jit(product_p.bind, static_argnames="tree"))


def _abstract(*operands: Any, tree: Any) -> Any:
    n, _ = jax.tree_util.tree_unflatten(tree, operands[:-1]).shape
    return operands[-1].update(shape=(n, operands[-1].shape[1]))


def _jvp(primals: Any, tangents: Any, *, tree: Any) -> tuple[Array, Array]:
    if any(type(t) is not ad.Zero and t.dtype != jax.dtypes.float0 for t in tangents[:-1]):
        raise InputError("a sparse A is constant under differentiation; give a dense A")
    *A, V = primals
    tangent = ad.instantiate_zeros(tangents[-1])
    return product_p.bind(*A, V, tree=tree), product_p.bind(*A, tangent, tree=tree)


def _transpose(cotangent: Any, *operands: Any, tree: Any) -> list[Any]:
    A = jax.tree_util.tree_unflatten(tree, operands[:-1])
    return [None] * tree.num_leaves + [A.T @ ad.instantiate_zeros(cotangent)]


def _batch(operands: Any, axes: Any, *, tree: Any) -> tuple[Array, int]:
    *A, V = operands
    if any(axis is not None for axis in axes[:-1]):  # many matrices

        def one(*operands: Array) -> Array:
            return _product(*operands, tree=tree, on_cpu=False)

        return jax.vmap(one, axes)(*operands), 0
    V = jnp.moveaxis(V, axes[-1], 1)
    d, size, k = V.shape
    product = product_p.bind(*A, V.reshape(d, size * k), tree=tree)
    return product.reshape(-1, size, k), 1


product_p.def_abstract_eval(_abstract)
ad.primitive_jvps[product_p] = _jvp
ad.primitive_transposes[product_p] = _transpose
batching.primitive_batchers[product_p] = _batch
for platform, on_cpu in ((None, False), ("cpu", True)):
    lowering = mlir.lower_fun(partial(_product, on_cpu=on_cpu), multiple_results=False)
    mlir.register_lowering(product_p, lowering, platform=platform)


@products.weighted_gram.register(SparseMatrix)
def _weighted_gram(
    A: SparseMatrix, weights: Float[Array, "m n"], centers: Float[Array, "m d"]
) -> Float[Array, "d d"]:
    """A is made dense a few columns at a time."""
    d = A.shape[1]

    def row(column: Array) -> Array:
        unit = (jnp.arange(d) == column).astype(A.dtype)
        out, sums = products.weighted_product(A, unit, weights, centers @ unit)
        return out - sums @ centers

    columns = jnp.arange(-(-d // _BLOCK) * _BLOCK).reshape(-1, _BLOCK)
    return jax.lax.map(jax.vmap(row), columns).reshape(-1, d)[:d]


@products.num_entries.register(SparseMatrix)
def _num_entries(A: SparseMatrix) -> int:
    return A.rows.data.size


@products.take_rows.register(SparseMatrix)
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


@products.count_sketch.register(SparseMatrix)
def _count_sketch(
    A: SparseMatrix, weights: Float[Array, " n"], shifts: Int[Array, " blocks"], num_rows: int
) -> Float[Array, "r d"]:
    n, d = A.shape
    row = jnp.arange(n, dtype=jnp.int32) if A.rows.row is None else A.rows.row
    bucket = (row + shifts[row // num_rows]) % num_rows
    entries = weights[row][None] * A.rows.data
    return jnp.zeros((num_rows, d), A.dtype).at[bucket[None], A.rows.columns].add(entries)


@products.column_maxima.register(SparseMatrix)
def _column_maxima(A: SparseMatrix) -> Float[Array, " d"]:
    largest = jnp.max(jnp.abs(A.columns.data), axis=0)
    if A.columns.row is None:
        return largest
    return jnp.zeros(A.shape[1], A.dtype).at[A.columns.row].max(largest)


@products.column_norms.register(SparseMatrix)
def _column_norms(A: SparseMatrix) -> Float[Array, " d"]:
    largest = _column_maxima(A)
    scale = jnp.where(largest == 0, 1, largest)
    of_piece = scale if A.columns.row is None else scale[A.columns.row]
    squares = jnp.sum((A.columns.data / of_piece[None]) ** 2, axis=0)
    return scale * jnp.sqrt(A.columns.sums(squares, A.shape[1]))


@products.squared_column_norms.register(SparseMatrix)
@jax.jit
def _squared_column_norms(A: SparseMatrix, weights: Float[Array, " n"]) -> Float[Array, " d"]:
    columns = A.columns
    total = columns.data[0] ** 2 * _gather(weights, columns.columns[0])
    for i in range(1, len(columns.data)):
        total += columns.data[i] ** 2 * _gather(weights, columns.columns[i])
    return columns.sums(total, A.shape[1])


@products.row_norms.register(SparseMatrix)
@jax.jit
def _row_norms(A: SparseMatrix) -> Float[Array, " n"]:
    largest = jnp.max(jnp.abs(A.rows.data), initial=0)
    scale = jnp.where(largest == 0, 1, largest)
    squares = jnp.sum((A.rows.data / scale) ** 2, axis=0)
    return scale * jnp.sqrt(A.rows.sums(squares, A.shape[0]))


@products.to_host.register(SparseMatrix)
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
