"""What ``A`` may be, and the few products that the rest of the package asks of it.

A matrix is a dense ``jax.Array``, a `SparseMatrix`, `RowBlocks` in files, or `ShardedRows` on many
devices. Solvers know little of it but the interface `Matrix` and the functions of this module.
"""

from copyreg_jax.matrices.host_access import (
    all_finite,
    fetch,
    first_not_finite,
    host_rows,
    is_here,
    join,
    place,
    to_host,
)
from copyreg_jax.matrices.interface import (
    Matrix,
    absent_rows,
    column_maxima,
    column_norms,
    count_sketch,
    gram,
    gram_and_product,
    is_sharded,
    is_sparse,
    num_entries,
    on_host,
    row_norms,
    squared_column_norms,
    take_rows,
    two_products,
    weighted_gram,
    weighted_gram_norm,
    weighted_product,
    without_rows,
)
from copyreg_jax.matrices.on_disk import RowBlocks
from copyreg_jax.matrices.sharded import ShardedRows
from copyreg_jax.matrices.sparse import SparseMatrix

__all__ = [
    "Matrix",
    "RowBlocks",
    "ShardedRows",
    "SparseMatrix",
    "absent_rows",
    "all_finite",
    "column_maxima",
    "column_norms",
    "count_sketch",
    "fetch",
    "first_not_finite",
    "gram",
    "gram_and_product",
    "host_rows",
    "is_here",
    "is_sharded",
    "is_sparse",
    "join",
    "num_entries",
    "on_host",
    "place",
    "row_norms",
    "squared_column_norms",
    "take_rows",
    "to_host",
    "two_products",
    "weighted_gram",
    "weighted_gram_norm",
    "weighted_product",
    "without_rows",
]
