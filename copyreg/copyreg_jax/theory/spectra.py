"""Singular values of A in float64 on the host, with bounds of their error."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from copyreg_jax.matrices.host_access import CHUNK, HostMatrix, to_host
from copyreg_jax.matrices.interface import Matrix

__all__ = ["extreme_singular_values", "farthest_row", "smallest_gram_eigenvalue"]

_EPS = 2.0**-52


def extreme_singular_values(A: Matrix) -> tuple[float, float]:
    """Bounds of the smallest singular value from below, of the largest from above.

    float64 on the host, with the rounding errors taken off or put on; so the smallest is 0 if d > n
    or if it could be. Sparse A loses half the digits of the smallest: its square is computed. Cost
    O(n d min(n, d)).

    Parameters
    ----------
    A : (n, d) matrix
        Any of the matrices of the package, or a NumPy array.

    Returns
    -------
    smallest, largest : float

    Examples
    --------
    >>> low, high = extreme_singular_values(np.diag([4.0, 3.0]))
    >>> low <= 3.0 and 4.0 <= high, round(low, 6), round(high, 6)
    (True, 3.0, 4.0)
    """
    host = to_host(A)
    n, d = host.shape
    if scipy.sparse.issparse(host):
        tall = host.T if d > n else host
        ones = np.ones(max(n, d))
        squares = _gram_eigenvalues(tall, ones)
        error = _gram_error(tall, ones)
        smallest, largest = np.sqrt(np.maximum(squares[[0, -1]] + [-error, error], 0))
    else:
        triangle = np.linalg.qr(host, mode="r") if n > d else host
        values = np.linalg.svd(triangle, compute_uv=False)
        error = 8 * max(n, d) * _EPS * values[0]
        smallest, largest = max(values[-1] - error, 0.0), values[0] + error
    return 0.0 if d > n else float(smallest), float(largest)


def farthest_row(A: Matrix) -> float:
    """Bound of the distances of the rows to one point, near their mean. Cost O(n d).

    Parameters
    ----------
    A : (n, d) matrix

    Examples
    --------
    >>> round(farthest_row(np.array([[0.0, 0.0], [6.0, 8.0]])), 6)  # both are 5 from their mean
    5.0
    """
    host: Any = to_host(A)
    mean = np.asarray(host.mean(axis=0)).ravel()
    farthest = 0.0
    step = max(1, CHUNK // host.shape[1])
    for start in range(0, host.shape[0], step):
        rows = host[start : start + step]
        rows = rows.toarray() if scipy.sparse.issparse(rows) else rows
        # The difference is rounded by its own ulp: of the rows, if they share an offset.
        farthest = max(farthest, float(np.linalg.norm(rows - mean, axis=1).max()))
    return farthest * (1 + 8 * host.shape[1] * _EPS)


def smallest_gram_eigenvalue(A: Matrix, weights: np.ndarray) -> float:
    """Bound from below of the smallest eigenvalue of ``A^T diag(weights) A``; O(n d^2 + d^3).

    float64 on the host; the rounding error is taken off.

    Parameters
    ----------
    A : (n, d) matrix
    weights : (n,) array
        May be negative.

    Examples
    --------
    >>> found = smallest_gram_eigenvalue(np.diag([1.0, 3.0]), np.array([-2.0, 1.0]))
    >>> found <= -2.0, round(found, 6)
    (True, -2.0)
    """
    host = to_host(A)
    return float(_gram_eigenvalues(host, weights)[0]) - _gram_error(host, weights)


def _gram_eigenvalues(host: HostMatrix, weights: np.ndarray) -> np.ndarray:
    gram: Any
    if scipy.sparse.issparse(host):
        gram = (host.T @ (scipy.sparse.diags_array(weights) @ host)).toarray()
    else:
        gram = host.T @ (weights[:, None] * host)
    if not np.isfinite(gram).all():  # beyond the range of float64
        return np.full(len(gram), np.nan)
    return np.linalg.eigvalsh(gram)


def _gram_error(host: Any, weights: np.ndarray) -> float:
    """Bound of the error of `_gram_eigenvalues`.

    An entry is off by at most ``(n + 2) eps`` times that of ``|A|^T |D| |A|``, of norm at most
    its trace; the eigenvalues of the result by a multiple of ``d eps`` times its norm.
    """
    n, d = host.shape
    squares = host.multiply(host) if scipy.sparse.issparse(host) else host * host
    rows = np.asarray(squares.sum(axis=1)).ravel()
    return float((n + 8 * d + 8) * _EPS * (np.abs(weights) @ rows))
