"""The least value of L for one column, proved in integers: a proof that shares nothing with ours.

A number is an interval of integers, in units of 2^-P, and every operation rounds outward; grid
points are fractions. There is no float in a bound, and no FLINT. The grid of [-X, X], outside of
which L_reg alone is above L(0), is halved until each cell is shown to hold nothing below
``high (1 - tolerance)``, ``high`` being the least L seen. With c the middle of a cell, r half its
width and D a bound of |L'| on it, L is at least ``L(c) - r D`` there. If L' has one sign it is
least at an end.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

P = 160
UNITS = 1 << P
TERMS = 24
MOST_CELLS = 100_000


class Between(NamedTuple):
    """An interval of integers, in units of 2^-P."""

    lo: int
    hi: int

    @classmethod
    def of(cls, number: Any) -> Between:
        exact = Fraction(number)
        scaled = exact.numerator << P
        return cls(scaled // exact.denominator, -(-scaled // exact.denominator))

    def __add__(self, other: Between) -> Between:
        return Between(self.lo + other.lo, self.hi + other.hi)

    def __neg__(self) -> Between:
        return Between(-self.hi, -self.lo)

    def __sub__(self, other: Between) -> Between:
        return Between(self.lo - other.hi, self.hi - other.lo)

    def __mul__(self, other: Between) -> Between:
        ends = self.lo * other.lo, self.lo * other.hi, self.hi * other.lo, self.hi * other.hi
        return Between(min(ends) >> P, -(-max(ends) >> P))

    def __truediv__(self, other: Between) -> Between:
        if other.lo <= 0:
            raise ZeroDivisionError
        ends = [(a << P, b) for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return Between(min(a // b for a, b in ends), max(-(-a // b) for a, b in ends))

    def half(self) -> Between:
        return Between(self.lo >> 1, -(-self.hi >> 1))

    def square(self) -> Between:
        least = 0 if self.lo <= 0 <= self.hi else min(abs(self.lo), abs(self.hi))
        return Between(least * least >> P, -(-self.size * self.size >> P))

    @property
    def size(self) -> int:
        return max(abs(self.lo), abs(self.hi))


ONE = Between(UNITS, UNITS)


def total(terms: Iterable[Between]) -> Between:
    low, high = zip(*terms, strict=True)
    return Between(sum(low), sum(high))


def exp_minus(y: Between) -> Between:
    """exp(-y) for y >= 0: one over a Taylor sum that was squared again and again."""
    if y.lo > 112 * UNITS:
        return Between(0, 1)  # e^-112 < 2^-160
    halvings = (y.hi >> (P - 4)).bit_length()
    r_low, r_high = y.lo >> halvings, -(-y.hi >> halvings)  # at most 1/16
    low = high = low_term = high_term = UNITS
    for k in range(1, TERMS):
        low_term = low_term * r_low // (k << P)
        high_term = -(-high_term * r_high // (k << P))
        low, high = low + low_term, high + high_term
    high += high_term  # the rest is less than a tenth of the last term
    for _ in range(halvings):
        low, high = low * low >> P, -(-high * high >> P)
    return Between((UNITS << P) // high, -(-(UNITS << P) // low))


def log_of(v: Between) -> Between:
    """log v for v >= 1: y + log(1 + t), y a float near it, and t - t^2 <= log(1 + t) <= t."""
    y = Between.of(max(math.log(v.lo / UNITS), 0.0))
    t = v * exp_minus(y) - ONE
    assert t.size < UNITS >> 1
    return y + Between(t.lo - t.square().hi, t.hi)


class Softmax:
    """The softmax of logits a_i x: at points, and on cells."""

    def __init__(self, a: list[float]) -> None:
        self.exact = [Fraction(v) for v in a]
        self.a = [Between.of(v) for v in a]
        self.powers = functools.lru_cache(maxsize=10_000)(self._powers)

    def _powers(self, x: Fraction) -> list[Between]:
        """exp(a_i x - max_j a_j x)."""
        u = [a * x for a in self.exact]
        return [exp_minus(Between.of(max(u) - v)) for v in u]

    def at(self, x: Fraction) -> list[Between]:
        e = self.powers(x)
        whole = total(e)
        return [v / whole for v in e]

    def logs(self, x: Fraction) -> list[Between]:
        u = [a * x for a in self.exact]
        log_whole = log_of(total(self.powers(x)))
        return [Between.of(v - max(u)) - log_whole for v in u]

    def on(self, p: Fraction, q: Fraction) -> list[Between]:
        """1/f_i = sum_j exp((a_j - a_i) x): each term is least at one end and most at the other."""
        at_p, at_q = self.powers(p), self.powers(q)
        found = []
        for own_p, own_q in zip(at_p, at_q, strict=True):
            pairs = list(zip(at_p, at_q, strict=True))
            least = sum(min((v.lo << P) // own_p.hi, (w.lo << P) // own_q.hi) for v, w in pairs)
            high = min(UNITS, -(-(UNITS << P) // least)) if least > 0 else UNITS
            low = 0
            if own_p.lo > 0 and own_q.lo > 0:
                most = sum(
                    max(-(-(v.hi << P) // own_p.lo), -(-(w.hi << P) // own_q.lo)) for v, w in pairs
                )
                low = (UNITS << P) // most
            found.append(Between(low, high))
        return found


class Problem:
    """L and L' of an instance (a `Case`) whose A has one column."""

    def __init__(self, case: Any) -> None:
        a, b = case.A[:, 0].tolist(), [Between.of(v) for v in case.b.tolist()]
        inner = [i for i, own in enumerate(case.protected.tolist()) if own]
        self.is_squared = case.metric == "squared"
        self.whole, self.gamma = Softmax(a), Between.of(case.gamma)
        self.part, places = self.whole, inner
        if case.reading == "block":
            self.part, places = Softmax([a[i] for i in inner]), list(range(len(inner)))
        # Places of the rows that a loss counts among the rows of its softmax, and their targets.
        self.everything = list(enumerate(b))
        self.own = [(k, b[i]) for k, i in zip(places, inner, strict=True)]
        pairs = zip(case.w.tolist(), a, strict=True)
        self.S = sum((Fraction(w) * Fraction(v)) ** 2 for w, v in pairs)

    def _loss(self, soft: Softmax, x: Fraction, rows: list[tuple[int, Between]]) -> Between:
        if self.is_squared:
            f = soft.at(x)
            return total((f[k] - b).square() for k, b in rows)
        logs = soft.logs(x)
        return total(-(logs[k] * b) for k, b in rows)

    def _slope(self, soft: Softmax, f: list[Between], rows: list[tuple[int, Between]]) -> Between:
        """Of a loss: f_i' = f_i (a_i - m) and (log f_i)' = a_i - m with m = sum f_j a_j."""
        z = soft.a[max(range(len(f)), key=lambda j: f[j].lo)]
        m = z + total(v * (a - z) for v, a in zip(f, soft.a, strict=True))  # sum f_j = 1
        if self.is_squared:
            terms = ((f[k] - b) * f[k] * (soft.a[k] - m) for k, b in rows)
            return total(terms) * (ONE + ONE)
        return total(-(b * (soft.a[k] - m)) for k, b in rows)

    def _fit(self, ell: Between) -> Between:
        return ell.half() if self.is_squared else ell

    def value(self, x: Fraction) -> Between:
        """L at a point. ZeroDivisionError if ell_1 is not above zero there."""
        ell_1 = self._loss(self.part, x, self.own)
        fit = self._fit(self._loss(self.whole, x, self.everything))
        return fit + self.gamma / ell_1 + Between.of(self.S * x * x / 2)

    def slope(self, p: Fraction, q: Fraction) -> tuple[Between | None, int]:
        """L' on a cell, None where ell_1 may vanish, and the most that ell_1 is there."""
        f = self.whole.on(p, q)
        f_1 = f if self.part is self.whole else self.part.on(p, q)
        slope_1 = self._slope(self.part, f_1, self.own)
        middle = self._loss(self.part, (p + q) / 2, self.own)
        change = (Between.of((q - p) / 2) * Between(slope_1.size, slope_1.size)).hi
        ell_1 = Between(middle.lo - change, middle.hi + change)
        if ell_1.lo <= 0:
            return None, ell_1.hi
        linear = Between(Between.of(self.S * p).lo, Between.of(self.S * q).hi)
        fit = self._fit(self._slope(self.whole, f, self.everything))
        return fit - self.gamma / (ell_1 * ell_1) * slope_1 + linear, ell_1.hi

    def bound(self, p: Fraction, q: Fraction) -> int:
        """L is at least that on a cell."""
        slope, most = self.slope(p, q)
        bounds = [(self.gamma.lo << P) // most if most > 0 else 0]
        if slope is not None:
            fall = (Between.of((q - p) / 2) * Between(slope.size, slope.size)).hi
            bounds.append(self.value((p + q) / 2).lo - fall)
            if slope.lo > 0 or slope.hi < 0:
                bounds.append(self.value(p if slope.lo > 0 else q).lo)
        return max(bounds)


class Least(NamedTuple):
    """The least L is in [low, high]; all points that have it are in the cells."""

    low: Fraction
    high: Fraction
    cells: list[tuple[Fraction, Fraction]]
    num_cells: int

    def contradicts(self, found: Any) -> bool:
        """Whether a `GlobalMinimum` can't be right too.

        The two intervals meet otherwise, and so do the sets in which all minimizers are.
        """
        ends = [(Fraction(float(e.x[0])), Fraction(float(e.radius[0]))) for e in found.minimizers]
        meet = any(p <= x + r and q >= x - r for p, q in self.cells for x, r in ends)
        return Fraction(found.lower) > self.high or Fraction(found.upper) < self.low or not meet


def least(case: Any, tolerance: float = 1e-6) -> Least:
    """Prove the least value of L for an instance with one column, gamma > 0 and L(0) finite."""
    problem = Problem(case)
    high = problem.value(Fraction(0)).hi
    edge, square = Fraction(1), Fraction(2 * high, UNITS) / problem.S
    while edge * edge <= square:
        edge *= 2
    part = 1 - Fraction(tolerance)
    cells, kept, number = [(0, -edge, edge)], [], 0
    while cells:
        number += 1
        if number > MOST_CELLS:
            raise RuntimeError("the grid is not fine enough")
        _, p, q = heapq.heappop(cells)
        c = (p + q) / 2
        try:
            high = min(high, problem.value(c).hi)
            bound = problem.bound(p, q)
        except ZeroDivisionError:  # L may be infinite at c
            bound = 0
        if bound >= high * part:
            kept.append((bound, p, q))
        else:
            heapq.heappush(cells, (bound, p, c))
            heapq.heappush(cells, (bound, c, q))
    low = min(high, *(bound for bound, _, _ in kept))
    left = [(p, q) for bound, p, q in kept if bound <= high]
    return Least(Fraction(low, UNITS), Fraction(high, UNITS), left, number)
