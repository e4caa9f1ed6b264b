"""What ``A`` may be, and the few products that the rest of the package asks of it.

A matrix is a dense ``jax.Array`` or a ``jax.experimental.sparse.BCOO``. Besides ``A @ v`` and the
transpose product, written ``u @ A`` (five times faster than ``A.T @ u`` on CPU), solvers use only
the functions of this module.
"""

from copyreg_jax.matrices.products import (
    Matrix,
    column_maxima,
    column_norms,
    congruence,
    extreme_singular_values,
    farthest_row,
    gram,
    on_host,
    smallest_gram_eigenvalue,
    to_host,
    weighted_gram_norm,
    weighted_product,
)

__all__ = [
    "Matrix",
    "column_maxima",
    "column_norms",
    "congruence",
    "extreme_singular_values",
    "farthest_row",
    "gram",
    "on_host",
    "smallest_gram_eigenvalue",
    "to_host",
    "weighted_gram_norm",
    "weighted_product",
]
