"""The product of a sparse matrix as row-wise sums: a JAX primitive with its derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCSR
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Int

from copyreg_jax.errors import InputError

__all__ = ["Pieces", "cut", "gather", "product_p"]

_WIDTHS = (2, 4, 8)
"""Widths of a piece to choose from, if one piece per row would be too long."""

_PIECE_COST = 4
"""Cost of adding a piece to its row, in multiplications; fits measurements within a factor 2."""

_LONGEST_ROW = 32
"""Longest row that may be a single piece: the loop over it is unrolled."""

_WINDOW = 1 << 14
"""Columns that long rows are cut at, so that what they gather from stays in cache: 128 KiB."""

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


def cut(csr: Any) -> Pieces:
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


def gather(V: Array, columns: Array) -> Array:
    """Rows of V; the columns of a matrix are in range by construction."""
    return V.at[columns].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _product(*operands: Array, tree: Any, on_cpu: bool) -> Array:
    """``A @ V`` for V of shape (d, k)."""
    A = jax.tree_util.tree_unflatten(tree, operands[:-1])
    V, (n, d), pieces = operands[-1], A.shape, A.rows
    width, k = len(pieces.data), V.shape[1]

    def product(v: Array) -> Array:
        total = pieces.data[0] * gather(v, pieces.columns[0])
        for i in range(1, width):
            total += pieces.data[i] * gather(v, pieces.columns[i])
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
        total = pieces.data[0][:, None] * gather(V, pieces.columns[0])
        for i in range(1, width):
            total += pieces.data[i][:, None] * gather(V, pieces.columns[i])
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
