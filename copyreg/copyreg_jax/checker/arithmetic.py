"""Two arithmetics in which every result contains the exact one: float64 intervals, and Arb balls.

The formulas of `copyreg_jax.checker.proofs` are written once, for vectors of either kind. `Floats`
does 10^8 entries of A in a second; `Balls` decides what is too close for that. Scalars are balls
in both. The error bounds are proved in docs/theory/rounding.md.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import operator
import threading
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from flint import arb, arb_mat

from copyreg_jax.checker.data import Csr
from copyreg_jax.checker.exponential import exp_bounds

__all__ = [
    "ARITHMETIC",
    "FLOAT_BITS",
    "MAX_BITS",
    "START_BITS",
    "TINY",
    "UNIT",
    "Arithmetic",
    "Balls",
    "Box",
    "Floats",
    "Moments",
    "Vector",
    "arithmetic",
    "between",
    "lower",
    "sum_balls",
    "up",
    "upper",
]

FLOAT_BITS = 53

START_BITS, MAX_BITS = 128, 4096

ARITHMETIC = threading.RLock()
"""FLINT's working precision belongs to the process: hold this while it is changed."""

UNIT = 2.0**-53
"""The unit roundoff of float64."""

TINY = 2.0**-1074

_NARROW = 2.0**-6
"""Radius of an interval up to which that of its exponential is as good as from both ends."""

_GROUP = 16
"""Columns that are added up together: fewer roundings in a row leave smaller error bounds."""


def lower(ball: arb) -> float:
    """A float, about the largest, proved to be <= every point of the ball; or -inf.

    Examples
    --------
    >>> lower(arb(1) / 3) <= 1 / 3, lower(arb(0.5)), lower(arb("nan"))
    (True, 0.5, -inf)
    """
    if ball.is_finite():
        bound = float(ball.lower())  # rounded to nearest: a candidate, not yet a bound
        for _ in range(3):
            if arb(bound) <= ball:
                return bound
            bound = math.nextafter(bound, -math.inf)
    return -math.inf


def upper(ball: arb) -> float:
    """A float, about the smallest, proved to be >= every point of the ball; or inf.

    Examples
    --------
    >>> upper(arb(1) / 3) > 1 / 3, upper(arb(0.5)), upper(arb("nan"))
    (True, 0.5, inf)
    """
    if ball.is_finite():
        bound = float(ball.upper())
        for _ in range(3):
            if arb(bound) >= ball:
                return bound
            bound = math.nextafter(bound, math.inf)
    return math.inf


def sum_balls(balls: Iterable[arb]) -> arb:
    """Sum of balls."""
    return sum(balls, arb(0))


def between(low: float, high: float) -> arb:
    """A ball that contains both numbers; not finite if one of them is not."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return arb("nan")
    return arb(low) if low == high else arb(low).union(arb(high))


class Box:
    """Intervals ``[lo_i, hi_i]`` of float64 numbers, rounded outward; not finite means unknown."""

    __slots__ = ("hi", "lo")
    __array_ufunc__ = None  # NumPy arrays leave the operators to this class

    def __init__(self, lo: np.ndarray, hi: np.ndarray) -> None:
        self.lo, self.hi = lo, hi

    @classmethod
    def of(cls, numbers: Any) -> Box:
        """Exact floats, or a ball, as intervals."""
        if isinstance(numbers, Box):
            return numbers
        if isinstance(numbers, arb):
            return cls(np.array(lower(numbers)), np.array(upper(numbers)))
        return cls(numbers, numbers)

    def __getitem__(self, key: Any) -> Box:
        return Box(self.lo[key], self.hi[key])

    def __neg__(self) -> Box:
        return Box(-self.hi, -self.lo)

    def __add__(self, other: Any) -> Box:
        other = Box.of(other)
        return Box(_down(self.lo + other.lo), up(self.hi + other.hi))

    def __sub__(self, other: Any) -> Box:
        return self + -Box.of(other)

    def __rsub__(self, other: Any) -> Box:
        return -self + other

    def __mul__(self, other: Any) -> Box:
        other = Box.of(other)
        ends = [a * b for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return Box(
            _down(np.minimum(np.minimum(ends[0], ends[1]), np.minimum(ends[2], ends[3]))),
            up(np.maximum(np.maximum(ends[0], ends[1]), np.maximum(ends[2], ends[3]))),
        )

    __radd__, __rmul__ = __add__, __mul__


def _step(x: np.ndarray) -> np.ndarray:
    """A number that takes x to another float when added or subtracted; `nextafter` is slower."""
    return np.abs(x) * (1.5 * UNIT) + TINY


def _down(x: np.ndarray) -> np.ndarray:
    """The next float downwards, or a little below; an infinite number may become NaN."""
    return x - _step(x)


def up(x: np.ndarray) -> np.ndarray:
    """The next float upwards, or a little above; an infinite number may become NaN."""
    return x + _step(x)


def _tree_sums(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Sum of each row, by halves, and the number of additions that an entry goes through."""
    n = rows.shape[1]
    depth = max(n - 1, 0).bit_length()
    sums = np.zeros((len(rows), 1 << depth))
    sums[:, :n] = rows
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0], depth


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over rows: ``weights @ (A - center)`` (k, d), and the weights' own sums (k)."""

    products: arb_mat
    sums: list[arb]

    def __add__(self, other: Any) -> Moments:
        pairs = zip(self.sums, other.sums, strict=True)
        return Moments(self.products + other.products, [a + b for a, b in pairs])


Vector: TypeAlias = Any
"""A `Box`, or an object array of balls: what both arithmetics below work on."""


class Floats:
    """Arithmetic on `Box`; scalars are balls of at least 128 bits."""

    bits = FLOAT_BITS
    scalar_bits = START_BITS

    def logits(self, rows: np.ndarray | Csr, x: np.ndarray) -> Vector:
        """``rows @ x``, within (terms + 2) u ``(|rows| |x|)``, in whatever order NumPy adds."""
        if isinstance(rows, Csr):
            filled = np.flatnonzero(np.diff(rows.indptr))
            terms = int(np.diff(rows.indptr).max(initial=0))
            product, size = np.zeros((2, rows.shape[0]))
            each = rows.data * x[rows.indices]
            if filled.size:
                product[filled] = np.add.reduceat(each, rows.indptr[filled])
                size[filled] = np.add.reduceat(np.abs(each), rows.indptr[filled])
        else:
            starts = range(0, len(x), _GROUP)
            groups = [
                np.einsum("ij,j->i", rows[:, j : j + _GROUP], x[j : j + _GROUP]) for j in starts
            ]
            product = functools.reduce(operator.add, groups)
            terms = min(len(x), _GROUP) + len(groups)
            size = np.einsum("ij,j->i", np.abs(rows), np.abs(x))
        # Each of the products may be lost to underflow, here and in `size`.
        error = up(up(size * ((terms + 2) * UNIT)) + 2 * len(x) * TINY)
        return Box(_down(product - error), up(product + error))

    def exact(self, numbers: np.ndarray) -> Vector:
        """Floats as they are."""
        return Box.of(numbers)

    def choose(self, mask: np.ndarray, yes: arb, no: arb) -> Vector:
        """One of two scalars per row."""
        one, two = Box.of(yes), Box.of(no)
        return Box(np.where(mask, one.lo, two.lo), np.where(mask, one.hi, two.hi))

    def spread(self, mask: np.ndarray, part: Vector) -> Vector:
        """The rows of a part at their places, zero elsewhere."""
        whole = Box(np.zeros(mask.size), np.zeros(mask.size))
        whole.lo[mask], whole.hi[mask] = part.lo, part.hi
        return whole

    def widen(self, v: Vector, radii: np.ndarray) -> Vector:
        """``v +- radii``."""
        return v + Box(-radii, radii)

    def top(self, v: Vector) -> arb:
        """About the largest entry, exact."""
        return arb(float(v.hi.max()))

    def exp(self, v: Vector) -> Vector:
        """Entrywise exponential."""
        middle = 0.5 * v.lo + 0.5 * v.hi
        radius = up(np.maximum(v.hi - middle, middle - v.lo))
        if not radius.max(initial=0.0) <= _NARROW:
            return Box(exp_bounds(v.lo)[0], exp_bounds(v.hi)[1])
        # Half the work: exp(r) <= 1 + r + r^2 and exp(-r) >= 1 - r for 0 <= r <= 1.
        low, high = exp_bounds(middle)
        spread = up(up(radius * radius) + radius)
        low = np.maximum(_down(low * _down(1 - radius)), 0.0)
        return Box(low, up(high * up(1 + spread)))

    def share(self, e: Vector, total: arb) -> Vector:
        """``e / total`` for one of the summands of a positive total."""
        whole = Box.of(total)
        low = np.where(whole.lo > 0, e.lo / np.where(whole.hi > 0, whole.hi, 1), 0.0)
        high = np.where(whole.lo > 0, e.hi / np.where(whole.lo > 0, whole.lo, 1), np.nan)
        return Box(np.maximum(_down(low), 0.0), np.minimum(up(high), 1.0))

    def square(self, v: Vector) -> Vector:
        """Entrywise square."""
        near = np.maximum(np.maximum(v.lo, -v.hi), 0.0)
        far = np.maximum(-v.lo, v.hi)
        return Box(np.maximum(_down(near * near), 0.0), up(far * far))

    def lower(self, v: Vector) -> np.ndarray:
        """Lower ends, as floats."""
        return v.lo

    def upper(self, v: Vector) -> np.ndarray:
        """Upper ends, as floats."""
        return v.hi

    def sum(self, v: Vector) -> arb:
        """Sum of the entries: each goes through about log2 of their number of additions."""
        ends = np.stack([v.lo, v.hi, np.maximum(np.abs(v.lo), np.abs(v.hi))])
        (low, high, size), depth = _tree_sums(ends)
        error = up(size * ((depth + 1) * UNIT))
        return between(float(_down(low - error)), float(up(high + error)))

    def moments(self, weights: list[Vector], rows: np.ndarray, center: np.ndarray) -> Moments:
        """``weights @ (rows - center)`` and the sums of the weights."""
        centered = rows - center
        middle = np.stack([0.5 * v.lo + 0.5 * v.hi for v in weights])
        ends = np.stack([v.lo for v in weights]), np.stack([v.hi for v in weights])
        radius = np.maximum(up(ends[1] - middle), up(middle - ends[0]))
        product = np.einsum("ki,ij->kj", middle, centered)
        # One rounding for the center, one per product and sum; the same again for `size` itself.
        terms = len(rows) + 4
        radius = up(radius + up(np.abs(middle) * (terms * UNIT)))
        size = np.einsum("ki,ij->kj", radius, np.abs(centered))
        error = up(up(size * (1 + 4 * terms * UNIT)) + 4 * terms * TINY)
        low, high = _down(product - error), up(product + error)
        balls = [between(*ends) for ends in zip(low.flat, high.flat, strict=True)]
        return Moments(arb_mat(len(weights), rows.shape[1], balls), [self.sum(v) for v in weights])


class Balls:
    """Arithmetic on arrays of balls of any precision."""

    def __init__(self, bits: int) -> None:
        self.bits = self.scalar_bits = bits

    def logits(self, rows: np.ndarray | Csr, x: np.ndarray) -> Vector:
        """``rows @ x``; x may hold balls."""
        point = x.tolist()
        if isinstance(rows, Csr):
            ends, data, indices = rows.indptr.tolist(), rows.data.tolist(), rows.indices.tolist()
            return self._array(
                sum_balls(arb(data[k]) * point[indices[k]] for k in range(start, stop))
                for start, stop in itertools.pairwise(ends)
            )
        matrix = arb_mat(len(rows), len(point), rows.ravel().tolist())
        product = matrix * arb_mat(len(point), 1, point)
        return self._array(product.entries())

    @staticmethod
    def _array(balls: Iterable[arb]) -> Vector:
        balls = list(balls)
        array = np.empty(len(balls), object)
        array[:] = balls
        return array

    def exact(self, numbers: np.ndarray) -> Vector:
        """Floats as they are."""
        return self._array(map(arb, numbers.tolist()))

    def choose(self, mask: np.ndarray, yes: arb, no: arb) -> Vector:
        """One of two scalars per row."""
        return self._array(yes if is_yes else no for is_yes in mask.tolist())

    def spread(self, mask: np.ndarray, part: Vector) -> Vector:
        """The rows of a part at their places, zero elsewhere."""
        whole = self.exact(np.zeros(mask.size))
        whole[mask] = part
        return whole

    def widen(self, v: Vector, radii: np.ndarray) -> Vector:
        """``v +- radii``."""
        return v + self._array(arb(0, radius) for radius in radii.tolist())

    def top(self, v: Vector) -> arb:
        """About the largest entry, exact."""
        return functools.reduce(lambda a, b: b if b > a else a, (ball.mid() for ball in v))

    def exp(self, v: Vector) -> Vector:
        """Entrywise exponential."""
        return self._array(ball.exp() for ball in v)

    def share(self, e: Vector, total: arb) -> Vector:
        """``e / total`` for one of the summands of a positive total."""
        unit = arb(0.5, 0.5)
        found = self._array(ball / total for ball in e)
        inside = (ball if 0 <= ball <= 1 else ball.intersection(unit) for ball in found)
        return self._array(inside)

    def square(self, v: Vector) -> Vector:
        """Entrywise square; not ``v ** 2``, which is NaN for a midpoint that is exactly zero."""
        return self._array((ball * ball).nonnegative_part() for ball in v)

    def lower(self, v: Vector) -> np.ndarray:
        """Lower ends, as floats."""
        return np.array([lower(ball) for ball in v])

    def upper(self, v: Vector) -> np.ndarray:
        """Upper ends, as floats."""
        return np.array([upper(ball) for ball in v])

    def sum(self, v: Vector) -> arb:
        """Sum of the entries."""
        return sum_balls(v)

    def moments(self, weights: list[Vector], rows: np.ndarray, center: np.ndarray) -> Moments:
        """``weights @ (rows - center)`` and the sums of the weights."""
        k, (n, d) = len(weights), rows.shape
        centered = arb_mat(n, d, rows.ravel().tolist()) - arb_mat(n, d, center.tolist() * n)
        stacked = arb_mat(k, n, [ball for v in weights for ball in v])
        return Moments(stacked * centered, [self.sum(v) for v in weights])


Arithmetic: TypeAlias = Floats | Balls


def arithmetic(bits: int) -> Arithmetic:
    """`Floats` for 53 bits, `Balls` for more."""
    return Floats() if bits == FLOAT_BITS else Balls(bits)
