"""Directions along which L does not grow, and the warning about them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse

from copyreg_jax._tracing import is_concrete
from copyreg_jax.errors import NotCoerciveWarning
from copyreg_jax.matrices import Matrix, host_rows, is_here, on_host, to_host
from copyreg_jax.problems.objective import Vector

__all__ = ["num_free_directions", "same_zeros", "warn_if_not_coercive"]


def same_zeros(w: Any, other: Any) -> bool:
    """Return whether two weights are zero on the same rows."""
    return np.array_equal(np.asarray(w) == 0, np.asarray(other) == 0)


def num_free_directions(A: Matrix, w: Vector) -> int | None:
    """Return the dimension of the space of ``A v`` with ``W A v = 0``, where minimizers may escape.

    One read of A where w has zeros; None if A or w is traced or in other processes.
    """
    if not (is_concrete(A) and is_concrete(w) and is_here(A)):
        return None
    zero = np.asarray(w) == 0
    if not zero.any():
        return 0
    n, d = A.shape
    if on_host(A):
        bound = others = np.zeros((d, d))
        part: Any
        for rows, part in host_rows(A):
            bound = bound + _dense_product(part[~zero[rows]].T)
            others = others + _dense_product(part[zero[rows]].T)
        rank = _rank_of_gram(bound)
        return 0 if rank == d else _rank_of_gram(bound + others) - rank
    host: Any = to_host(A)
    rank = _rank(host[~zero])
    return 0 if rank == min(n, d) else _rank(host) - rank


def _rank(rows: Any) -> int:
    return _rank_of_gram(_dense_product(rows if rows.shape[0] < rows.shape[1] else rows.T))


def _dense_product(rows: Any) -> np.ndarray:
    """``rows @ rows.T``."""
    product = rows @ rows.T
    return product.toarray() if scipy.sparse.issparse(product) else product


def _rank_of_gram(gram: np.ndarray) -> int:
    """Return the rank as NumPy does; a Cholesky factorization shows full rank ten times faster."""
    size = len(gram)
    if size == 0:
        return 0
    # Twice what NumPy takes for zero: the norm bounds the largest eigenvalue.
    floor = 2 * size * np.finfo(gram.dtype).eps * np.linalg.norm(gram, 1)
    try:
        np.linalg.cholesky(gram - floor * np.eye(size))
    except np.linalg.LinAlgError:
        return int(np.linalg.matrix_rank(gram, hermitian=True))
    return size


def warn_if_not_coercive(num_free: int | None, w: Vector, stacklevel: int) -> None:
    """Warn that L need not have a minimizer."""
    if num_free:
        warnings.warn(
            f"w is zero on {np.count_nonzero(np.asarray(w) == 0)} rows, which leaves {num_free} "
            "direction(s) of x without regularization: L need not grow there and its minimizer may "
            "lie at infinity; give those rows a positive w",
            NotCoerciveWarning,
            stacklevel=stacklevel,
        )
