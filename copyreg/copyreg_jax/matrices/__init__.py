"""What ``A`` may be, and the few products that the rest of the package asks of it.

A matrix is a dense ``jax.Array``, a `SparseMatrix`, or `RowBlocks` in files. Solvers know little of
it but the interface `Matrix` and the functions of this module.
"""

from copyreg_jax.matrices.blocks import RowBlocks
from copyreg_jax.matrices.products import (
    Matrix,
    column_maxima,
    column_norms,
    congruence,
    count_sketch,
    extreme_singular_values,
    farthest_row,
    first_not_finite,
    gram,
    host_rows,
    on_host,
    smallest_gram_eigenvalue,
    squared_column_norms,
    take_rows,
    to_host,
    weighted_gram_norm,
    weighted_product,
)
from copyreg_jax.matrices.sparse import SparseMatrix

__all__ = [
    "Matrix",
    "RowBlocks",
    "SparseMatrix",
    "column_maxima",
    "column_norms",
    "congruence",
    "count_sketch",
    "extreme_singular_values",
    "farthest_row",
    "first_not_finite",
    "gram",
    "host_rows",
    "on_host",
    "smallest_gram_eigenvalue",
    "squared_column_norms",
    "take_rows",
    "to_host",
    "weighted_gram_norm",
    "weighted_product",
]
