"""Proofs with derivatives: quadratic bounds of L on boxes, and boxes without a stationary point.

With R_i = B_i - z for any z, and delta = sum f_i R_i, a part of the Hessian is ``sum s_i R_i R_i^T
- q delta^T - delta q^T + (sum s_i) delta delta^T``, q = sum s_i R_i. On a box, H~ is that with
numbers from their ranges; H, a float matrix, is that with the middles and without q and delta.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from copyreg_jax.checker.arithmetic import Box, up
from copyreg_jax.checker.chart import LOST

if TYPE_CHECKING:
    from copyreg_jax.checker.boxes import Boxes, Part

__all__ = ["Curvature", "Rows", "Strips"]

_SWEEPS = 6
"""Rounds of coordinate descent for the least value of a quadratic in a box."""

_LARGE = 1e100


class Strips(NamedTuple):
    """Where stationary points are: k strips ``|p t - middle| <= radius``, t = y - center.

    Attributes
    ----------
    p : (m, k, d) array
    middle, radius : (m, k) arrays
    """

    p: np.ndarray
    middle: np.ndarray
    radius: np.ndarray


class Rows(NamedTuple):
    """A part of the derivatives: R (m, n, d), sizes (m, d) of its columns, and g if it has it."""

    part: Part
    R: np.ndarray
    size: np.ndarray
    g: Box | None


class _Sizes(NamedTuple):
    """Sizes of products with k directions: |a R_i|, |a q|, |a delta|, |a g|, |a| size, |a|_1."""

    rows: list[np.ndarray]
    q: list[np.ndarray]
    delta: list[np.ndarray]
    g: np.ndarray
    whole: list[np.ndarray]
    length: np.ndarray


def _middle(v: Box) -> np.ndarray:
    return 0.5 * v.lo + 0.5 * v.hi


def _radius(v: Box) -> np.ndarray:
    """No less than the distance of any point from `_middle`."""
    middle = _middle(v)
    return up(np.maximum(v.hi - middle, middle - v.lo))


def _largest(v: Box) -> np.ndarray:
    return np.maximum(np.abs(v.lo), np.abs(v.hi))


def _along(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``sum_i weights_i rows_i`` for each box."""
    return np.einsum("mi,mij->mj", weights, rows)


def _gram(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.einsum("mij,mik->mjk", weights[:, :, None] * rows, rows)


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """About the eigenvalues, and the eigenvectors as rows: a witness."""
    clean = np.clip(np.nan_to_num(matrix, nan=0.0), -_LARGE, _LARGE)
    values, vectors = np.linalg.eigh(clean)
    return values, vectors.transpose(0, 2, 1)


@dataclasses.dataclass(frozen=True)
class Curvature:
    """Gradients and Hessians on boxes."""

    boxes: Boxes
    rows: list[Rows]
    kappa: Box

    @functools.cached_property
    def _g(self) -> tuple[np.ndarray, np.ndarray]:
        """(m, d) middle of ``sum g_i R_i``, and (m, n) radii of g."""
        last = self.rows[-1]
        assert last.g is not None
        return _along(_middle(last.g), last.R), _radius(last.g)

    def _hessian(self, weights: list[np.ndarray], kappa: np.ndarray) -> np.ndarray:
        g = self._g[0]
        H = kappa[:, :, None] * g[:, :, None] * g[:, None, :] + np.eye(self.boxes.chart.d)
        for each, rows in zip(weights, self.rows, strict=True):
            H = H + _gram(each, rows.R)
        return H

    @functools.cached_property
    def H(self) -> np.ndarray:
        """(m, d, d) about the Hessian at the centers."""
        return self._hessian([_middle(r.part.s) for r in self.rows], _middle(self.kappa))

    @functools.cached_property
    def gradient(self) -> np.ndarray:
        """(m, d) about the gradient at the centers."""
        sums = [_along(_middle(r.part.y_at_center), r.R) for r in self.rows]
        return sum(sums, start=self.boxes.center)

    # Bounds of products with the derivatives

    def _sizes(self, P: np.ndarray, *, everywhere: bool = False) -> _Sizes:
        """Sizes for directions P (m, k, d); ``everywhere``, for all t with |t| <= P."""
        size = np.abs if everywhere else (lambda v: v)

        def product(v: np.ndarray) -> np.ndarray:
            return np.abs(np.einsum("mkj,mj->mk", P, size(v)))

        q, delta, rows, whole = [], [], [], []
        for r in self.rows:
            q.append(product(_along(_middle(r.part.s), r.R)))
            delta.append(product(_along(_middle(r.part.f), r.R)))
            rows.append(np.abs(np.einsum("mkj,mij->mki", P, size(r.R))))
            whole.append(np.einsum("mkj,mj->mk", np.abs(P), r.size))
        return _Sizes(rows, q, delta, product(self._g[0]), whole, np.abs(P).sum(axis=2))

    @functools.cached_property
    def _box(self) -> _Sizes:
        return self._sizes(self.boxes.half[:, None, :], everywhere=True)

    @functools.cached_property
    def _weight(self) -> list[np.ndarray]:
        """(m, 1) numbers that, times products of two sizes, bound all terms of the Hessian."""
        found = []
        for r in self.rows:
            total = (1 + r.part.f.hi.sum(axis=1, keepdims=True)) ** 2
            weight = _largest(r.part.s).sum(axis=1, keepdims=True) * total
            if r.g is not None:
                weight = weight + self.kappa.hi * _largest(r.g).sum(axis=1, keepdims=True) ** 2
            found.append(weight)
        return found

    def _variation(self, a: _Sizes, b: _Sizes) -> np.ndarray:
        """(m, k) bounds of ``|a (H~ - H) b|``, roundings included."""
        rounding = 4 * self.boxes.chart.rounding
        total = (self.boxes.chart.defect + rounding) * a.length * b.length
        for k, r in enumerate(self.rows):
            s, f = _radius(r.part.s)[:, None, :], _radius(r.part.f)[:, None, :]
            total = total + (s * a.rows[k] * b.rows[k]).sum(axis=2)
            q, delta = [], []
            for each in (a, b):
                q.append(each.q[k] + (s * each.rows[k]).sum(axis=2))
                delta.append(each.delta[k] + (f * each.rows[k]).sum(axis=2))
            whole = _largest(r.part.s).sum(axis=1, keepdims=True)
            total = total + q[0] * delta[1] + q[1] * delta[0] + whole * delta[0] * delta[1]
            total = total + rounding * self._weight[k] * a.whole[k] * b.whole[k]
        off = [(self._g[1][:, None, :] * each.rows[-1]).sum(axis=2) for each in (a, b)]
        far = b.g + off[1]
        total = total + _radius(self.kappa) * (a.g + off[0]) * far
        total = total + _middle(self.kappa) * (off[0] * far + a.g * off[1])
        return total * (1 + rounding) + LOST

    def _gradient_error(self, a: _Sizes, P: np.ndarray) -> np.ndarray:
        """(m, k) bounds of ``|P (grad L - gradient)|`` at the centers."""
        return self._slope_error(
            a, P, [r.part.y_at_center for r in self.rows], np.abs(self.boxes.center)
        )

    def _slope_error(self, a: _Sizes, P: np.ndarray, y: list[Box], reach: np.ndarray) -> np.ndarray:
        """Bounds of ``|P sum (y_i - middle) R_i|``, of the defect of L_reg, and of roundings."""
        rounding = 4 * self.boxes.chart.rounding
        total = self.boxes.chart.defect * a.length * reach.sum(axis=1, keepdims=True)
        total = total + rounding * np.einsum("mkj,mj->mk", np.abs(P), reach)
        for k, each in enumerate(y):
            total = total + (_radius(each)[:, None, :] * a.rows[k]).sum(axis=2)
            total = total + rounding * _largest(each).sum(axis=1, keepdims=True) * a.whole[k]
        return total * (1 + rounding) + LOST

    # What is proved

    @functools.cached_property
    def _below(self) -> tuple[np.ndarray, np.ndarray]:
        """K (m, d, d) and e (m, 1): ``t H~ t >= v K v - e`` for ``t = half * v``, |v_i| <= 1."""
        box, rounding = self._box, 4 * self.boxes.chart.rounding
        h = self.boxes.half
        # The least weights, as sum s_i (R_i t)^2 grows with them.
        H = self._hessian([r.part.s.lo for r in self.rows], self.kappa.lo)
        left = (self.boxes.chart.defect + rounding) * box.length**2
        for k, r in enumerate(self.rows):
            s, f = _radius(r.part.s)[:, None, :], _radius(r.part.f)[:, None, :]
            q = box.q[k] + (s * box.rows[k]).sum(axis=2)
            delta = box.delta[k] + (f * box.rows[k]).sum(axis=2)
            below = np.maximum(-r.part.s.lo.sum(axis=1, keepdims=True), 0.0)
            below = below + rounding * _largest(r.part.s).sum(axis=1, keepdims=True)
            left = left + 2 * q * delta + below * delta**2
            left = left + rounding * self._weight[k] * box.whole[k] ** 2
        off = (self._g[1][:, None, :] * box.rows[-1]).sum(axis=2)
        left = left + 2 * self.kappa.lo * box.g * off
        return H * h[:, :, None] * h[:, None, :], left * (1 + rounding) + LOST

    @functools.cached_property
    def is_convex(self) -> np.ndarray:
        """(m,) whether L is proved to be strictly convex on a box: one minimizer at most."""
        K, left = self._below
        return _eigenvalue_floor(K, 4 * self.boxes.chart.rounding)[0] > left[:, 0]

    @functools.cached_property
    def value_bound(self) -> np.ndarray:
        """(m,) lower bounds of L on the boxes, from a quadratic below it."""
        boxes, rounding = self.boxes, 4 * self.boxes.chart.rounding
        h, box = boxes.half, self._box
        K, left = self._below
        error = self._gradient_error(box, h[:, None, :]) + 0.5 * left
        slope = self.gradient * h
        least = _least_quadratic(slope, K, rounding)
        size = rounding * (np.abs(slope).sum(axis=1) + np.abs(K).sum(axis=(1, 2)))
        bound = boxes.value_at_center.lo + (least - error[:, 0] * (1 + rounding) - size)
        return bound - rounding * (np.abs(boxes.value_at_center.lo) + np.abs(least)) - LOST

    def mean_value_strips(self) -> Strips:
        """``0 = P grad L(y) = P grad L(center) + P H~ t`` for the rows P of about the inverse of H.

        And for its eigenvectors.
        """
        values, vectors = _eigen(self.H)
        sign = np.where(values < 0, -1.0, 1.0)
        scales = sign / np.maximum(np.abs(values), 1e-12 * np.abs(values).max(axis=1)[:, None])
        inverse = np.einsum("mkj,mk,mkl->mjl", vectors, scales, vectors)
        P = np.concatenate([inverse, vectors], axis=1)
        a = self._sizes(P)
        radius = self._gradient_error(a, P) + self._variation(a, self._box)
        p = np.einsum("mkj,mjl->mkl", P, self.H)
        return Strips(p, -np.einsum("mkj,mj->mk", P, self.gradient), up(radius))

    def direct_strips(self) -> Strips:
        """``0 = P y + P sum y_i R_i``, P the directions in which that sum is least."""
        y = [r.part.y for r in self.rows]
        grams = (_gram(_largest(v), r.R) for v, r in zip(y, self.rows, strict=True))
        spread = sum(grams, start=np.zeros_like(self.H))
        P = _eigen(spread)[1]
        reach = up(np.abs(self.boxes.center) + self.boxes.half)
        middle = -np.einsum("mkj,mj->mk", P, self.boxes.center)
        for v, r in zip(y, self.rows, strict=True):
            middle = middle - np.einsum("mkj,mj->mk", P, _along(_middle(v), r.R))
        return Strips(P, middle, self._slope_error(self._sizes(P), P, y, reach))

    @functools.cached_property
    def split_scores(self) -> np.ndarray:
        """(m, d) how much each coordinate adds to what is not known of the Hessian."""
        half, score = self.boxes.half, 0.0
        for k, r in enumerate(self.rows):
            s, f, size = _radius(r.part.s), _radius(r.part.f), np.abs(r.R)
            box = self._box.rows[k][:, 0]
            q, delta = _along(np.abs(_middle(r.part.s)) + s, size), _along(f, size)
            far = (half * delta).sum(axis=1, keepdims=True)
            score = score + _along(s * box, size) + q * far
            score = score + delta * (half * q).sum(axis=1, keepdims=True)
        spread = _along(_radius(self.rows[0].part.f), np.abs(self.rows[0].R))
        return half * np.where(np.isfinite(score), score, spread)

    def contract(self, strips: Strips) -> tuple[np.ndarray, np.ndarray]:
        """[lo, hi] of what strips leave of the boxes; somewhere lo > hi if that is nothing."""
        boxes, rounding = self.boxes, 4 * self.boxes.chart.rounding
        p, middle = strips.p, strips.middle[:, :, None]
        parts = np.abs(p) * boxes.half[:, None, :]
        others = parts.sum(axis=2, keepdims=True) * (1 + rounding) - parts
        reach = (strips.radius[:, :, None] + others) * (1 + rounding)
        reach = reach + (rounding * (np.abs(middle) + parts) + LOST)
        low, high = (middle - reach) / np.abs(p), (middle + reach) / np.abs(p)
        is_negative = p < 0
        t_lo, t_hi = np.where(is_negative, -high, low), np.where(is_negative, -low, high)
        c = boxes.center[:, None, :]
        t_lo = c + (t_lo - rounding * (np.abs(t_lo) + np.abs(c)))
        t_hi = c + (t_hi + rounding * (np.abs(t_hi) + np.abs(c)))
        # What is not a number says nothing.
        t_lo, t_hi = np.nan_to_num(t_lo, nan=-np.inf), np.nan_to_num(t_hi, nan=np.inf)
        return np.maximum(boxes.lo, t_lo.max(axis=1)), np.minimum(boxes.hi, t_hi.min(axis=1))


def _eigenvalue_floor(K: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers below all eigenvalues of K, and about its eigenvalues and eigenvectors.

    ``K = sum values v v^T + residual``, whatever values and v are, and the eigenvalues of ``sum v
    v^T`` are within ``|twist|`` of one.
    """
    values, vectors = _eigen(K)
    product = np.einsum("mkj,mk,mkl->mjl", vectors, values, vectors)
    size = np.einsum("mkj,mk,mkl->mjl", np.abs(vectors), np.abs(values), np.abs(vectors))
    residual = (np.abs(K - product) + rounding * (np.abs(K) + size)).sum(axis=(1, 2))
    twist = np.abs(np.einsum("mkj,mlj->mkl", vectors, vectors) - np.eye(K.shape[1])) + rounding
    least = values.min(axis=1)
    floor = least - np.abs(least) * twist.sum(axis=(1, 2)) - residual * (1 + rounding)
    return floor - rounding * np.abs(least), values, vectors


def _least_quadratic(slope: np.ndarray, K: np.ndarray, rounding: float) -> np.ndarray:
    """Lower bounds of ``slope t + t K t / 2`` over |t_i| <= 1, slope and K taken as exact.

    With mu such that K + mu I is positive semidefinite, it is at least ``q(t) - mu d / 2`` for the
    convex q of K + mu I, and that at least ``q(v) - sum (|q'(v)_i| + v_i q'(v)_i)`` for any v in
    the box.
    """
    d = slope.shape[1]
    floor, values, vectors = _eigenvalue_floor(K, rounding)
    mu = np.maximum(-floor, 0.0)
    K = K + mu[:, None, None] * np.eye(d)
    with np.errstate(all="ignore"):
        start = -np.einsum("mkj,mk,ml,mkl->mj", vectors, 1 / (values + mu[:, None]), slope, vectors)
    v = np.clip(np.nan_to_num(start, nan=0.0), -1, 1)
    diagonal = np.einsum("mjj->mj", K)
    for _ in range(_SWEEPS):
        for j in range(d):
            rest = slope[:, j] + np.einsum("ml,ml->m", K[:, j], v) - diagonal[:, j] * v[:, j]
            with np.errstate(all="ignore"):
                v[:, j] = np.clip(np.nan_to_num(-rest / diagonal[:, j], nan=0.0), -1, 1)
    image = np.einsum("mjl,ml->mj", K, v)
    gradient = slope + image
    least = np.einsum("mj,mj->m", slope + 0.5 * image, v)
    least = least - (np.abs(gradient) + gradient * v).sum(axis=1) - 0.5 * d * mu
    size = np.abs(slope).sum(axis=1) + np.abs(K).sum(axis=(1, 2))
    return least - 4 * rounding * (size + d * mu)
