"""Linear algebra with enclosures: Gram matrices, norms, eigenvalue floors, Cholesky factors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from flint import arb, arb_mat

from copyreg_jax.checker.arithmetic import TINY, UNIT, lower, sum_balls, up, upper
from copyreg_jax.checker.verdicts import require

__all__ = [
    "Gram",
    "cholesky",
    "control_floor",
    "control_product",
    "eigenvalue_floor",
    "frobenius",
    "gram",
    "gram_of_scaled",
    "inverse_of_triangle",
    "is_floor",
    "lengths",
    "lost_of",
    "modulus",
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

    @property
    def balls(self) -> arb_mat:
        """The matrix, exact."""
        return arb_mat(len(self.matrix), len(self.matrix), self.matrix.ravel().tolist())

    def __add__(self, other: Any) -> Gram:
        matrix = self.matrix + other.matrix
        size = float(np.abs(matrix).sum())  # no smaller than its norm, and without squares
        return Gram(matrix, self.error + other.error + arb(size) * (4 * UNIT) + TINY)


def gram(weights: np.ndarray, rows: np.ndarray, center: np.ndarray) -> Gram:
    """Gram matrix of the rows ``rows - center`` of one block."""
    centered = rows - center if center.any() else rows
    weighted = weights[:, None] * centered
    squares = np.einsum("ij,ij->i", centered, centered)
    trace = float(np.einsum("i,i->", np.abs(weights), squares))
    largest = up(np.sqrt(squares.max(initial=0.0)) * (1 + (rows.shape[1] + 8) * UNIT)) + 2.0**-500
    heaviest = float(np.abs(weights).max(initial=0.0))
    return _gram(weighted, centered, trace, float(largest) + heaviest)


def gram_of_scaled(scales: np.ndarray, rows: np.ndarray) -> Gram:
    """Gram matrix of the rows ``scales[i] * rows[i]``."""
    scaled = scales[:, None] * rows
    # Each entry of a row is rounded once, and sums of squares give the trace.
    trace = float(np.einsum("ij,ij->", scaled, scaled))
    largest = 1.01 * math.sqrt(trace) + 2.0**-500 if math.isfinite(trace) else math.inf
    return _gram(scaled, scaled, trace, 2 * largest)


def _gram(left: np.ndarray, right: np.ndarray, trace: float, largest: float) -> Gram:
    """``left.T @ right``, which is symmetric, from rows that are multiples of each other.

    The trace is about ``sum |left_i| |right_i|``; what underflow loses in an entry is multiplied by
    no more than ``largest``.
    """
    matrix = _transposed_product(left, right)
    # Entry by entry the error is at most (terms u) sum |w| |r_i| |r_j|, whose norm is the trace's.
    d, terms = right.shape[1], len(right) + 8
    lost = arb(TINY) * (terms * d * d) * (2 + largest)
    control_product(matrix, left.T, right)
    return Gram(matrix, arb(trace) * (2 * terms + 2 * d) * UNIT + lost)


def _transposed_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left.T @ right``, which is symmetric, from small products."""
    d, tiles = right.shape[1], len(right) // _TILE
    whole = tiles * _TILE
    stacked_left = left[:whole].reshape(tiles, _TILE, d).transpose(0, 2, 1)
    stacked_right = right[:whole].reshape(tiles, _TILE, d)
    rest_left, rest_right = left[whole:].T, right[whole:]
    matrix = np.empty((d, d))
    for i in range(0, d, _TILE):
        for j in range(i, d, _TILE):
            one, two = slice(i, i + _TILE), slice(j, j + _TILE)
            part = (stacked_left[:, one] @ stacked_right[:, :, two]).sum(axis=0)
            part += rest_left[one] @ rest_right[:, two]
            matrix[two, one] = part.T
            matrix[one, two] = part
    return matrix


def control_product(found: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Raise `VoidError` unless ``found`` is ``left @ right``, along one direction.

    Bounds of rounding hold for sums of products in any order, and BLAS is trusted to make such
    sums. This compares it with ``einsum``, NumPy's own loop, row by row of the result.
    """
    (q, r), probe = right.shape, np.cos(np.arange(right.shape[1]) + 1.0)
    along = np.einsum("ij,j->i", right, probe)
    apart = np.einsum("ij,j->i", found, probe) - np.einsum("ij,j->i", left, along)
    # (|left| (|right| |probe|))_i is at most a product of three norms; 2^-500 is for underflow.
    sizes = np.sqrt(np.einsum("ij,ij->i", left, left)) + 2.0**-500
    whole, top = np.einsum("ij,ij->", right, right), 1.0
    if np.isinf(whole):  # squares may overflow where the product does not
        top = np.abs(right).max()
        whole = np.einsum("ij,ij->", right / top, right / top)
    far = sizes * (top * np.sqrt(whole * (r + 1)) + 2.0**-500)
    # What underflow loses, in `found` or here, is then multiplied by at most an entry of `left`.
    lost = 4 * TINY * (q + 1) * (r + 1) * (2 + sizes.max(initial=0.0))
    # What overflows is not finite in the result either, and proves nothing.
    wrong = np.isfinite(apart) & (np.abs(apart) > 4 * (q + r + 8) * UNIT * far + lost)
    require(not wrong.any(), "matrix products of this machine are wrong; use another BLAS")


def norms(rows: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Upper bounds of the Euclidean norms of ``rows - center``."""
    return lengths(rows - center)


def lengths(centered: np.ndarray) -> np.ndarray:
    """Upper bounds of the norms of rows whose entries are rounded once, rounded and exact."""
    squares = np.einsum("ij,ij->i", centered, centered)
    return up(up(np.sqrt(squares) * (1 + (centered.shape[1] + 8) * UNIT)) + 2.0**-500)


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


def is_floor(H: arb_mat, error: arb, mu: float) -> bool:
    """Whether mu > 0 is proved to be below all eigenvalues as in `eigenvalue_floor`."""
    return mu > 0 and lower(eigenvalue_floor(H, error, mu)) >= mu


def control_floor(H: arb_mat, error: arb) -> None:
    """Raise `VoidError` where an eigenvalue would be above the trace of a positive matrix."""
    trace = upper(H.trace() + error)
    proved = math.isfinite(trace) and is_floor(H, error, 2 * abs(trace) + 2**-1000)
    require(not proved, "the control failed: a false claim on curvature was not refused")


def modulus(H: arb_mat, error: arb) -> float:
    """A mu, about the largest, proved to be below all eigenvalues as in `eigenvalue_floor`; or 0.

    LAPACK proposes it, and need not be right.
    """
    middle = to_floats(H)
    if not np.isfinite(middle).all():
        return 0.0
    mu = 0.99 * (float(np.linalg.eigvalsh(middle)[0]) - lost_of(H, error, middle))
    return mu if is_floor(H, error, mu) else 0.0


def lost_of(H: arb_mat, error: arb, middle: np.ndarray) -> float:
    """How far the eigenvalues of the matrices in H, less e, are below those of the middle."""
    lost = upper(frobenius(ball - ball.mid() for ball in H.entries()) + error)
    return 1.02 * lost + 2.0**-39 * float(np.abs(middle).max())


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
