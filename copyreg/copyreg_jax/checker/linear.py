"""Linear algebra with enclosures: Gram matrices, norms, eigenvalue floors, Cholesky factors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from flint import arb, arb_mat

from copyreg_jax.checker.arithmetic import TINY, UNIT, sum_balls, up, upper
from copyreg_jax.checker.verdicts import require

__all__ = [
    "Gram",
    "cholesky",
    "control_product",
    "eigenvalue_floor",
    "frobenius",
    "gram",
    "inverse_of_triangle",
    "norms",
    "to_floats",
]


_TILE = 64
"""Rows and columns of most matrices that are multiplied: OpenBLAS starts no threads for them."""


@dataclasses.dataclass(frozen=True)
class Gram:
    """``sum_i weight_i r_i r_i^T`` in floats, and a bound of its error in the Frobenius norm."""

    matrix: np.ndarray
    error: arb

    def __add__(self, other: Any) -> Gram:
        matrix = self.matrix + other.matrix
        size = float(np.abs(matrix).sum())  # no smaller than its norm, and without squares
        return Gram(matrix, self.error + other.error + arb(size) * (4 * UNIT) + TINY)


def gram(weights: np.ndarray, rows: np.ndarray, center: np.ndarray) -> Gram:
    """Gram matrix of the rows ``rows - center`` of one block."""
    centered = rows - center if center.any() else rows
    weighted = weights[:, None] * centered
    (n, d), tiles = rows.shape, len(rows) // _TILE
    whole = tiles * _TILE
    left = weighted[:whole].reshape(tiles, _TILE, d).transpose(0, 2, 1)
    right = centered[:whole].reshape(tiles, _TILE, d)
    matrix = weighted[whole:].T @ centered[whole:]
    for i in range(0, d, _TILE):
        for j in range(i, d, _TILE):
            rest = matrix[i : i + _TILE, j : j + _TILE]
            part = (left[:, i : i + _TILE] @ right[:, :, j : j + _TILE]).sum(axis=0) + rest
            matrix[j : j + _TILE, i : i + _TILE] = part.T
            matrix[i : i + _TILE, j : j + _TILE] = part
    # Entry by entry the error is at most (terms u) sum |w| |r_i| |r_j|, whose norm is the trace's.
    terms = n + 8
    squares = np.einsum("ij,ij->i", centered, centered)
    trace = float(np.einsum("i,i->", np.abs(weights), squares))
    largest = up(np.sqrt(squares.max(initial=0.0)) * (1 + (d + 8) * UNIT)) + 2.0**-500
    heaviest = float(np.abs(weights).max(initial=0.0))
    lost = arb(TINY) * (terms * d * d) * (2 + float(largest) + heaviest)
    control_product(matrix, weighted.T, centered)
    return Gram(matrix, arb(trace) * (2 * terms + 2 * d) * UNIT + lost)


def control_product(found: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Raise `VoidError` unless ``found`` is ``left @ right``, along one direction.

    Bounds of rounding hold for sums of products in any order, and BLAS is trusted to make such
    sums. This compares it with ``einsum``, NumPy's own loop, row by row of the result.
    """
    (q, r), sizes = right.shape, np.abs(left)
    probe = np.cos(np.arange(r) + 1.0)
    along = np.einsum("ij,j->i", right, probe)
    apart = np.einsum("ij,j->i", found, probe) - np.einsum("ij,j->i", left, along)
    far = np.einsum("ij,j->i", sizes, np.einsum("ij,j->i", np.abs(right), np.abs(probe)))
    # What underflow loses, in `found` or here, is then multiplied by at most an entry of `left`.
    lost = 4 * TINY * (q + 1) * (r + 1) * (2 + sizes.max(initial=0.0))
    # What overflows is not finite in the result either, and proves nothing.
    wrong = np.isfinite(apart) & (np.abs(apart) > 4 * (q + r + 8) * UNIT * far + lost)
    require(not wrong.any(), "matrix products of this machine are wrong; use another BLAS")


def norms(rows: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Upper bounds of the Euclidean norms of ``rows - center``."""
    centered = rows - center
    squares = np.einsum("ij,ij->i", centered, centered)
    return up(up(np.sqrt(squares) * (1 + (rows.shape[1] + 8) * UNIT)) + 2.0**-500)


def eigenvalue_floor(H: arb_mat, error: arb, target: float) -> arb:
    """A ball whose lower end is below all eigenvalues of every ``H' - E``, H' in H, ||E|| <= error.

    For any L and shift, ``R = H - shift I - L L^T`` gives ``lambda_min(H) >= shift - ||R||_F``. L,
    a float Cholesky factor, is but a witness. The shift is above the target by what will be lost.
    """
    d = H.nrows()
    middle, radius = to_floats(H), frobenius(ball - ball.mid() for ball in H.entries())
    lost = upper(1.01 * (radius + error)) + 2.0**-40 * float(np.abs(middle).max())
    shift = target + lost
    L = arb_mat(d, d, cholesky(middle - shift * np.eye(d)).ravel().tolist())
    R = (H - L * L.transpose()).entries()
    for i in range(d):
        R[i * (d + 1)] -= shift
    return arb(shift) - frobenius(R) - error


def frobenius(balls: Iterable[arb]) -> arb:
    """Root of the sum of squares."""
    return sum_balls(ball * ball for ball in balls).nonnegative_part().sqrt()


def to_floats(H: arb_mat) -> np.ndarray:
    """Midpoints, rounded."""
    return np.array([float(ball.mid()) for ball in H.entries()]).reshape(H.nrows(), -1)


def cholesky(S: np.ndarray) -> np.ndarray:
    """A float Cholesky factor; some finite or infinite matrix if there is none. No LAPACK."""
    S = S.copy()
    with np.errstate(all="ignore"):
        for j in range(len(S)):
            S[j:, j] /= np.sqrt(S[j, j])
            S[j + 1 :, j + 1 :] -= np.outer(S[j + 1 :, j], S[j + 1 :, j])
    return np.tril(S)


def inverse_of_triangle(L: np.ndarray) -> np.ndarray:
    """About the inverse of a lower triangular matrix. No LAPACK."""
    inverse = np.zeros_like(L)
    with np.errstate(all="ignore"):
        for i, row in enumerate(L):
            unit = np.arange(len(L)) == i
            inverse[i] = (unit - np.einsum("j,jk->k", row[:i], inverse[:i])) / row[i]
    return inverse
