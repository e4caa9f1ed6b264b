"""Products with a dense or sparse matrix A of shape (n, d)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO
from jaxtyping import Array, Float

Matrix: TypeAlias = Float[Array, "n d"] | BCOO
HostMatrix: TypeAlias = np.ndarray | scipy.sparse.csr_array

_BLOCK = 64
"""Columns of a sparse matrix that are made dense at once: n x 64 numbers."""


def congruence(A: Matrix, apply: Callable[[Array], Array]) -> Float[Array, "d d"]:
    """``A^T S A`` for a linear map S of R^n that is given by its action ``apply`` on one vector.

    Cost O(n d^2) dense; sparse A is made dense 64 columns at a time.
    """
    columnwise = jax.vmap(apply, in_axes=1, out_axes=1)
    if not isinstance(A, BCOO):
        return A.T @ columnwise(A)
    d = A.shape[1]
    num_blocks = -(-d // _BLOCK)
    identity = jnp.eye(num_blocks * _BLOCK, d, dtype=A.dtype)

    def rows(block: Array) -> Array:
        return columnwise(A @ block.T).T @ A  # rows of A^T S^T A

    return jax.lax.map(rows, identity.reshape(num_blocks, _BLOCK, d)).reshape(-1, d)[:d].T


def column_maxima(A: Matrix) -> Float[Array, " d"]:
    """Largest absolute entry of each column."""
    if not isinstance(A, BCOO):
        return jnp.max(jnp.abs(A), axis=0)
    return jnp.zeros(A.shape[1], A.dtype).at[A.indices[:, 1]].max(jnp.abs(A.data))


def column_norms(A: Matrix) -> Float[Array, " d"]:
    """Euclidean norms of the columns, scaled so that nothing over- or underflows."""
    largest = column_maxima(A)
    scale = jnp.where(largest == 0, 1, largest)
    if not isinstance(A, BCOO):
        return scale * jnp.sqrt(jnp.sum((A / scale[None]) ** 2, axis=0))
    columns = A.indices[:, 1]
    squares = jnp.zeros(A.shape[1], A.dtype).at[columns].add((A.data / scale[columns]) ** 2)
    return scale * jnp.sqrt(squares)


def weighted_gram_norm(A: Matrix, weights: Float[Array, " n"]) -> Float[Array, ""]:
    """Largest eigenvalue of ``A^T diag(weights) A``, weights >= 0. Cost O(n d^2 + d^3)."""
    gram = congruence(A, lambda z: weights * z)
    return jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0)


def extreme_singular_values(A: Matrix) -> tuple[float, float]:
    """Smallest and largest singular value, in float64 on the host; the smallest is 0 if d > n.

    Cost O(n d^2). A smallest one that rounding could have made is given as 0. For sparse A they
    are roots of eigenvalues of A^T A, so anything below 1e-7 of the largest is given as 0.
    """
    host = to_host(A)
    if scipy.sparse.issparse(host):
        gram: Any = host.T @ host
        squares = np.linalg.eigvalsh(gram.toarray())
        values = np.sqrt(np.maximum(squares[::-1], 0))
        resolution = 1e-7
    else:
        triangle = np.linalg.qr(host, mode="r") if host.shape[0] > host.shape[1] else host
        values = np.linalg.svd(triangle, compute_uv=False)
        resolution = max(host.shape) * 2.0**-52
    smallest, largest = float(values[-1]), float(values[0])
    if host.shape[1] > host.shape[0] or smallest <= resolution * largest:
        smallest = 0.0
    return smallest, largest


def farthest_row(A: Matrix) -> float:
    """Largest distance of a row to the mean of the rows, in float64 on the host. Cost O(n d)."""
    host: Any = to_host(A)
    if not scipy.sparse.issparse(host):
        return float(np.linalg.norm(host - host.mean(axis=0), axis=1).max())
    mean = np.asarray(host.mean(axis=0)).ravel()
    squares = np.asarray((host.multiply(host)).sum(axis=1)).ravel() - 2 * (host @ mean)
    return float(np.sqrt(np.maximum(squares + mean @ mean, 0)).max())


def smallest_gram_eigenvalue(A: Matrix, weights: np.ndarray) -> float:
    """Smallest eigenvalue of ``A^T diag(weights) A``, in float64 on the host; O(n d^2 + d^3)."""
    host = to_host(A)
    if scipy.sparse.issparse(host):
        gram = (host.T @ (scipy.sparse.diags_array(weights) @ host)).toarray()
    else:
        gram = host.T @ (weights[:, None] * host)
    return float(np.linalg.eigvalsh(gram)[0])


def to_host(A: Any) -> HostMatrix:
    """The same matrix in float64, as NumPy array or SciPy CSR array; float32 promotes exactly."""
    if not isinstance(A, BCOO):
        return np.asarray(A, dtype=np.float64)
    indices, data = np.asarray(A.indices), np.asarray(A.data, dtype=np.float64)
    inside = (indices < np.array(A.shape)).all(axis=1)  # BCOO pads with indices outside
    indices, data = indices[inside], data[inside]
    return scipy.sparse.csr_array((data, (indices[:, 0], indices[:, 1])), shape=A.shape)
