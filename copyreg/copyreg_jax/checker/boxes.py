"""Rigorous tests of boxes: bounds of L from below, and proofs that no minimizer is in there.

All is vectorized over m boxes [lo, hi] of the coordinates of a `Chart`. Nothing here knows how
the boxes were chosen. Eigenvectors, inverses and minimizers of quadratics are witnesses: whatever
NumPy returns for them, the bounds hold. The theorems, and the rounding, are in
docs/theory/global.md.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from copyreg_jax.checker.arithmetic import UNIT, Box, Floats, up
from copyreg_jax.checker.box_derivatives import Curvature, Rows
from copyreg_jax.checker.chart import LOST, Chart, Group, Ranges

__all__ = ["Boxes", "Part"]


class Part(NamedTuple):
    """What one softmax adds to the derivatives on boxes.

    ``hess L = sum over parts of P^T diag(s) P, + kappa g g^T + I``, g in the last part; the
    gradient is the sum of ``y_i B_i``, + y. ``y_at_center`` is y at the centers of the boxes.
    """

    group: Group
    f: Box
    s: Box
    y: Box
    y_at_center: Box


class _Losses(NamedTuple):
    """Enclosures of ell_1, ell_2 (joint) and of ell; each (m, 1)."""

    ell_1: Box
    ell_2: Box | None
    ell: Box


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Boxes [lo, hi] of a chart, and what is proved of them.

    Attributes
    ----------
    chart : Chart
    lo, hi : (m, d) arrays of float64
        Ends of the boxes; equal ones make a point.
    center, half : (m, d) arrays
        A box is within center -+ half.
    value_at_center : Box
        (m,) enclosures of L at the centers.
    value_bound : (m,) array
        Lower bounds of L on the boxes.
    margin, protected_mass : Box
        (m,) enclosures, on the boxes, of ``ell_1/n1 - ell_2/n2`` and of the sum of f over the
        protected rows.
    curvature : Curvature
        What is proved with derivatives. All of it is computed when it is first asked for.
    """

    chart: Chart
    lo: np.ndarray
    hi: np.ndarray

    @functools.cached_property
    def center(self) -> np.ndarray:
        """(m, d) points of the boxes."""
        return np.clip(0.5 * self.lo + 0.5 * self.hi, self.lo, self.hi)

    @functools.cached_property
    def half(self) -> np.ndarray:
        """(m, d) numbers h: a box is within center -+ h."""
        return up(np.maximum(self.hi - self.center, self.center - self.lo))

    def take(self, which: np.ndarray) -> Boxes:
        """Some of the boxes, with what is known of them."""
        taken = Boxes(self.chart, self.lo[which], self.hi[which])
        parts = [Ranges(*(v[which] for v in ranges)) for ranges in self._ranges]
        vars(taken)["_ranges"] = parts
        return taken

    @functools.cached_property
    def _ranges(self) -> list[Ranges]:
        return [self.chart.ranges(g, self.center, self.lo, self.hi) for g in self.chart.groups]

    # Values

    @functools.cached_property
    def _h(self) -> float:
        return 0.5 if self.chart.data.metric == "squared" else 1.0

    def _losses(self, f: list[Box], log_f: list[Box]) -> _Losses:
        """Enclosures of the losses, term by term."""
        data = self.chart.data

        def loss(k: int, rows: np.ndarray, mask: np.ndarray) -> Box:
            b = data.b[rows]
            if data.metric == "squared":
                terms = Floats().square(f[k] - b)
            else:
                terms = Box(-log_f[k].hi, -log_f[k].lo) * b
            return self._total(terms[:, mask])

        everything, m = np.arange(data.n), data.protected
        if data.reading == "block":
            own = np.flatnonzero(m)
            ell_1 = loss(1, own, np.ones(len(own), bool))
            return _Losses(ell_1, None, loss(0, everything, np.ones(data.n, bool)))
        ell_1, ell_2 = loss(0, everything, m), loss(0, everything, ~m)
        return _Losses(ell_1, ell_2, ell_1 + ell_2)

    def _total(self, terms: Box) -> Box:
        """Sums over rows, (m, 1)."""
        size = np.maximum(np.abs(terms.lo), np.abs(terms.hi)).sum(axis=1, keepdims=True)
        error = up(size * self.chart.rounding)
        return Box(
            terms.lo.sum(axis=1, keepdims=True) - error,
            terms.hi.sum(axis=1, keepdims=True) + error,
        )

    def _barrier(self, ell_1: Box) -> Box:
        """The term gamma / ell_1; not finite where ell_1 may vanish."""
        if self.chart.data.gamma == 0:
            return Box(np.zeros_like(ell_1.lo), np.zeros_like(ell_1.lo))
        return _quotient(self.chart.data.gamma, ell_1)

    @functools.cached_property
    def value_at_center(self) -> Box:
        """(m,) enclosures of L at the centers."""
        losses = self._losses(
            [r.f_at_center for r in self._ranges], [r.log_f_at_center for r in self._ranges]
        )
        loss = losses.ell * np.array(self._h) + self._barrier(losses.ell_1)
        return loss[:, 0] + self.chart.regularization(self.center)

    @functools.cached_property
    def _box_losses(self) -> _Losses:
        return self._losses([r.f for r in self._ranges], [r.log_f for r in self._ranges])

    @functools.cached_property
    def value_bound(self) -> np.ndarray:
        """(m,) lower bounds of L from the ranges of f, the barrier taken exactly."""
        losses, gamma, h = self._box_losses, self.chart.data.gamma, self._h
        ell_1, ell = losses.ell_1, np.maximum(losses.ell.lo, self._least_distance())
        low, high = np.maximum(ell_1.lo, 0.0), np.maximum(ell_1.hi, 0.0)
        if losses.ell_2 is None or gamma == 0:
            fit = h * ell + (gamma / high if gamma > 0 else 0.0)
        else:
            # Below any e: h ell + gamma/e. Above it: the least of h (t + ell_2) + gamma/t, t >= e.
            other = np.maximum(losses.ell_2.lo, 0.0)
            e = np.clip(ell - other, low, high)
            below = h * ell + gamma / e
            t = np.clip(np.sqrt(gamma / h), e, high)
            above = np.where(e >= high, np.inf, h * (t + other) + gamma / t)
            fit = np.minimum(below, above)
        fit = np.maximum(fit, 0.0)[:, 0] * (1 - 64 * UNIT)
        bound = fit + self.chart.least_regularization(self.lo, self.hi) * (1 - 4 * UNIT)
        return np.maximum(bound * (1 - 2 * UNIT) - LOST, 0.0)

    def _least_distance(self) -> np.ndarray:
        """Lower bounds of ell: the distance of b from the f in their ranges that sum to one.

        For every number c, ``sum (p_i - b_i)^2 - 2 c (sum p_i - 1)`` is least at p = clip(b + c).
        """
        f, b = self._ranges[0].f, self.chart.data.b
        if self.chart.data.metric != "squared":
            return np.zeros((len(self.lo), 1))
        least = np.min(f.lo - b, axis=1, keepdims=True)
        most = np.max(f.hi - b, axis=1, keepdims=True)
        for _ in range(24):
            c = 0.5 * (least + most)
            is_low = np.clip(b + c, f.lo, f.hi).sum(axis=1, keepdims=True) < 1
            least, most = np.where(is_low, c, least), np.where(is_low, most, c)
        c = least
        p = np.clip(b + c, f.lo, f.hi)
        bound = ((p - b) ** 2 - 2 * c * p).sum(axis=1, keepdims=True) + 2 * c
        size = (np.abs(p) + np.abs(b)) ** 2 + 2 * np.abs(c) * (np.abs(p) + np.abs(b) + np.abs(c))
        error = (size.sum(axis=1, keepdims=True) + 2 * np.abs(c)) * (2 * self.chart.rounding)
        return np.nan_to_num(bound - error, nan=0.0)

    @functools.cached_property
    def margin(self) -> Box:
        """(m,) enclosures of ``ell_1/n1 - ell_2/n2``."""
        data, losses = self.chart.data, self._box_losses
        ell_2 = losses.ell - losses.ell_1 if losses.ell_2 is None else losses.ell_2
        shares = _share(losses.ell_1, data.n1), _share(ell_2, data.n - data.n1)
        return (shares[0] - shares[1])[:, 0]

    @functools.cached_property
    def protected_mass(self) -> Box:
        """(m,) enclosures of the sum of f over the protected rows."""
        return self._total(self._ranges[0].f[:, self.chart.data.protected])[:, 0]

    # Derivatives

    @functools.cached_property
    def _protection(self) -> tuple[Box, Box]:
        return self._factors(self._box_losses.ell_1)

    def _factors(self, ell_1: Box) -> tuple[Box, Box]:
        """The factors k = gamma/(h ell_1^2) and kappa = 2 k/(h ell_1)."""
        barrier = self._barrier(ell_1)
        if self.chart.data.gamma == 0:
            return barrier, barrier
        k = _quotient(barrier, ell_1) * np.array(1 / self._h)
        return k, _quotient(k, ell_1) * np.array(2 / self._h)

    def _slopes(self, f: list[Box], k: Box) -> tuple[list[Box], list[Box], Box]:
        """The y and s of each part, and g, as in `copyreg_jax.checker.proofs`."""
        data = self.chart.data
        m, one = data.protected, np.ones(1)

        def pieces(f: Box, b: np.ndarray, t: Box, H: Box) -> tuple[Box, Box]:
            if data.metric == "cross-entropy":
                return f * H - t * b, f * H
            inner = t * (f - b) - H
            return f * inner, f * (t * f + inner)

        def mean(f: Box, b: np.ndarray, t: np.ndarray) -> Box:
            terms = f * (f - b) if data.metric == "squared" else Box(0 * f.lo + b, 0 * f.lo + b)
            return self._total(terms * t)

        b = data.b
        if data.reading == "block":
            own = b[m]
            y, s = pieces(f[0], b, Box(one, one), mean(f[0], b, one))
            g, curved = pieces(f[1], own, Box(one, one), mean(f[1], own, one))
            return [y, -(g * k)], [s, -(curved * k)], g
        H_1, H_2 = mean(f[0], b, m * 1.0), mean(f[0], b, ~m * 1.0)
        rest = one - k
        t = Box(np.where(m, rest.lo, 1.0), np.where(m, rest.hi, 1.0))
        y, s = pieces(f[0], b, t, rest * H_1 + H_2)
        mask = m * 1.0
        g, _ = pieces(f[0], b, Box(mask, mask), H_1)
        return [y], [s], g

    @functools.cached_property
    def _parts(self) -> tuple[list[Part], Box]:
        k, _ = self._protection
        y, s, g = self._slopes([r.f for r in self._ranges], k)
        centers = [r.f_at_center for r in self._ranges]
        at = self._losses(centers, [r.log_f_at_center for r in self._ranges])
        exact, _, _ = self._slopes(centers, self._factors(at.ell_1)[0])
        groups = self.chart.groups
        return [
            Part(*each)
            for each in zip(groups, [r.f for r in self._ranges], s, y, exact, strict=True)
        ], g

    @functools.cached_property
    def curvature(self) -> Curvature:
        """What is proved with derivatives."""
        parts, g = self._parts
        rows = []
        for part, ranges in zip(parts, self._ranges, strict=True):
            # Any number will do for the center of the rows; about the mean row is best.
            middle = np.einsum("mi,ij->mj", ranges.f_at_center.hi, part.group.B)
            R = part.group.B - middle[:, None, :]
            own = g if part is parts[-1] else None
            rows.append(Rows(part, R, part.group.S.max(axis=0) + np.abs(middle), own))
        return Curvature(self, rows, self._protection[1])


def _quotient(numerator: Any, divisor: Box) -> Box:
    """Divide non-negative numbers; infinite where the divisor may vanish."""
    top = Box.of(numerator)
    is_positive = divisor.lo > 0
    low = np.where(is_positive, top.lo / np.where(is_positive, divisor.hi, 1), 0.0)
    high = np.where(is_positive, top.hi / np.where(is_positive, divisor.lo, 1), np.inf)
    return Box(low * (1 - 4 * UNIT), up(high))


def _share(v: Box, number: int) -> Box:
    low, high = v.lo / number, v.hi / number
    return Box(low - 2 * UNIT * np.abs(low), high + 2 * UNIT * np.abs(high))
