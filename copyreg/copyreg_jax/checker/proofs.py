"""What can be proved about an instance: enclosures at a point, around it, and on a level set.

Each formula is written once, for both arithmetics of `copyreg_jax.checker.arithmetic`, and streams
A in blocks of rows. The theorems are in docs/theory/certificates.md.

With h = 1/2 (squared) or 1 (cross-entropy), ``L = h ell + gamma/ell_1 + 0.5 ||w * A x||^2``. For
weights t, phi_t is the loss ``0.5 sum t_i (f_i - b_i)^2`` or ``-sum t_i b_i log f_i``, and::

    grad_u phi_t = y ,   hess_u phi_t = P^T diag(f * theta) P ,   P = I - 1 f^T
    squared:        theta = t f + t (f - b) - H ,   y = f * (t (f - b) - H) ,   H = <f, t (f - b)>
    cross-entropy:  theta = H ,                     y = H f - t b ,             H = <t, b>

    hess_u L = hess (h ell) - k hess phi + kappa g g^T + diag(w^2)
    phi = h ell_1 ,   g = grad phi ,   k = gamma/(h ell_1^2) ,   kappa = 2 gamma/(h^2 ell_1^3)

Where the terms of the protected rows are left out, ``L = h ell_2 + L_reg``: k = 1, kappa = 0.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from flint import arb

from copyreg_jax.checker.arithmetic import (
    FLOAT_BITS,
    START_BITS,
    Arithmetic,
    Vector,
    arithmetic,
    sum_balls,
)
from copyreg_jax.checker.data import Csr, Instance
from copyreg_jax.checker.linear import norms
from copyreg_jax.checker.sums import Losses, Sums, square
from copyreg_jax.checker.survey import Survey

__all__ = [
    "Derivatives",
    "Losses",
    "Points",
    "View",
    "at_point",
    "in_ball",
    "rows_of",
    "square",
    "sum_of",
]


_KEPT_FLOATS, _KEPT_BALLS = 1 << 22, 1 << 17
"""Rows up to which a view keeps its logits and softmaxes: 32 bytes a row, or some 400 of balls."""


class _Softmax(NamedTuple):
    """One normalizer: the sum of ``exp(u_i - shift)`` over the rows it runs over."""

    rows: np.ndarray
    shift: arb
    total: arb


class View(Sums):
    """An instance whose logits are known, at one point or on a set of points.

    Parameters
    ----------
    data : Instance
    ar : Floats or Balls
    logits : function from a slice of rows to a vector that contains their logits, or contains
        them after the same number is added to all

    Notes
    -----
    The caller holds `ARITHMETIC` and has set the precision.

    Examples
    --------
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC
    >>> from copyreg_jax.checker.data import make_instance
    >>> b, protected, w = np.array([0.7, 0.3]), np.array([True, False]), np.ones(2)
    >>> data = make_instance(np.eye(2), b, protected, w, np.float64(0.5), "joint")
    >>> with ARITHMETIC, ctx.workprec(START_BITS):
    ...     ar = arithmetic(START_BITS)
    ...     view = View(data, ar, lambda block: ar.exact(np.zeros(2)[block]))  # both logits are 0
    ...     float(view.losses.protected_mass), round(float(view.losses.ell_1), 4)
    (0.5, 0.04)
    """

    def __init__(self, data: Instance, ar: Arithmetic, logits: Callable[[slice], Vector]) -> None:
        self.data, self.ar, self._logits = data, ar, logits
        self._keeps = data.n <= (_KEPT_FLOATS if ar.bits == FLOAT_BITS else _KEPT_BALLS)
        self._kept: dict[tuple[Any, int], Any] = {}

    def _keep(self, name: Any, block: slice, make: Callable[[], Any]) -> Any:
        """What is known of a block of rows, made once unless there are too many rows."""
        found = self._kept.get((name, block.start))
        if found is None:
            found = make()
            if self._keeps:
                self._kept[name, block.start] = found
        return found

    def logits(self, block: slice) -> Vector:
        """The logits of a block of rows."""
        return self._keep("logits", block, lambda: self._logits(block))

    def lengths(self, block: slice, center: np.ndarray) -> np.ndarray:
        """Upper bounds of the distances of a block's rows from a center."""
        name = "lengths", center.tobytes()
        return self._keep(name, block, lambda: norms(rows_of(self.data, block), center))

    def keep_lengths(self, block: slice, center: np.ndarray, found: np.ndarray) -> None:
        """Those bounds, which somebody had to compute."""
        self._keep(("lengths", center.tobytes()), block, lambda: found)

    @functools.cached_property
    def survey(self) -> Survey:
        """What is known of the rows of A, and of the gradient."""
        return Survey(self)

    def sum(self, work: Callable[[slice], Any]) -> Any:
        """Sum of ``work`` over the blocks of rows."""
        return sum_of(self.data, work)

    @functools.cached_property
    def softmaxes(self) -> list[_Softmax]:
        """That over all rows; under the block reading, also that over the protected rows."""
        masks = [np.ones(self.data.n, bool)]
        if self.data.reading == "block":
            masks.append(self.data.protected)

        def work(block: slice) -> list[tuple[arb, arb] | None]:
            powers = zip(masks, self._powers(block, self.logits(block), masks), strict=True)
            return [
                (shift, self.ar.sum(power)) if mask[block].any() else None
                for mask, (shift, power) in powers
            ]

        parts = zip(*self.data.map_blocks(work), strict=True)
        return [_Softmax(mask, *_join(part)) for mask, part in zip(masks, parts, strict=True)]

    def _powers(
        self, block: slice, u: Vector, masks: Iterable[np.ndarray]
    ) -> list[tuple[arb, Vector]]:
        """A shift for each softmax, and ``exp(u - shift)`` on the rows it runs over."""

        def make() -> list[tuple[arb, Vector]]:
            found = []
            for mask in masks:
                own = u[mask[block]]
                # Any number will do; with the largest logit, the sum is not lost to underflow.
                shift = self.ar.top(own) if mask[block].any() else arb(0)
                found.append((shift, self.ar.exp(own - shift)))
            return found

        return self._keep("powers", block, make)

    def f(self, block: slice, u: Vector | None = None) -> list[Vector]:
        """The softmaxes on a block, each on the rows it runs over; u are its logits, if at hand."""

        def make() -> list[Vector]:
            whole = self.softmaxes
            logits = self.logits(block) if u is None else u
            powers = self._powers(block, logits, [each.rows for each in whole])
            pairs = zip(powers, whole, strict=True)
            found = [
                self.ar.share(power, each.total * (each.shift - shift).exp())
                for (shift, power), each in pairs
            ]
            self._kept.pop(("powers", block.start), None)  # they have no more use
            return found

        return self._keep("f", block, make)

    def _sums_by_group(
        self, block: slice, u: Vector, f: list[Vector], term: Callable[..., Vector]
    ) -> list[arb]:
        """Sums of a term over the protected rows, the others, and (block) the first on their own.

        The term is a function of f, b and u on some rows, and of their softmax.
        """
        ar, m, target = self.ar, self.data.protected[block], self.ar.exact(self.data.b[block])
        terms = term(f[0], target, u, self.softmaxes[0])
        sums = [ar.sum(terms[m]), ar.sum(terms[~m])]
        if len(f) == 2:
            sums.append(ar.sum(term(f[1], target[m], u[m], self.softmaxes[1])))
        return sums

    @functools.cached_property
    def sums(self) -> list[arb]:
        """The loss of each group, the protected mass of f and that of b, and twice L_reg."""
        ar, _ = self.ar, self.softmaxes  # those first: the blocks need them

        def work(block: slice) -> np.ndarray:
            m, b = self.data.protected[block], ar.exact(self.data.b[block])
            u = self.logits(block)
            f, weighted = self.f(block, u), u * ar.exact(self.data.w[block])
            more = f[0][m], b[m], ar.square(weighted)
            phi = self._sums_by_group(block, u, f, self._phi)
            return np.array([*phi, *map(ar.sum, more)], object)

        return list(self.sum(work))

    def _phi(self, f: Vector, b: Vector, u: Vector, softmax: _Softmax) -> Vector:
        """The terms of phi_t / h, for t = 1."""
        if self.data.metric == "squared":
            return self.ar.square(f - b)
        return b * (softmax.shift + softmax.total.log() - u)

    @functools.cached_property
    def _H(self) -> list[arb]:
        """H of each group, for t = 1 on it."""
        _ = self.softmaxes

        def work(block: slice) -> np.ndarray:
            u = self.logits(block)
            return np.array(self._sums_by_group(block, u, self.f(block, u), self._slope), object)

        return list(self.sum(work))

    def _slope(self, f: Vector, b: Vector, _u: Vector, _softmax: _Softmax) -> Vector:
        """The terms of H, for t = 1."""
        return f * (f - b) if self.data.metric == "squared" else b

    def derivatives(self) -> Callable[[slice], Derivatives]:
        """First and second derivatives by the logits, without those of L_reg, block by block."""
        ar, H, k = self.ar, self._H, self.protection[0]

        def joint(m: np.ndarray, b: Vector, f: list[Vector]) -> Derivatives:
            t, mask = ar.choose(m, 1 - k, arb(1)), ar.choose(m, arb(1), arb(0))
            y, theta = self._derivative(f[0], b, t, (1 - k) * H[0] + H[1])
            g, _ = self._derivative(f[0], b, mask, H[0])
            return Derivatives([(f[0], theta)], g, y)

        def block_reading(m: np.ndarray, b: Vector, f: list[Vector]) -> Derivatives:
            one = ar.choose(m, arb(1), arb(1))
            y, theta = self._derivative(f[0], b, one, H[0] + H[1])
            own_g, own_theta = self._derivative(f[1], b[m], one[m], H[2])
            g = ar.spread(m, own_g)
            own = ar.spread(m, f[1]), ar.spread(m, own_theta * -k)
            return Derivatives([(f[0], theta), own], g, y - g * k)

        def work(block: slice) -> Derivatives:
            m, b = self.data.protected[block], ar.exact(self.data.b[block])
            reading = block_reading if self.data.reading == "block" else joint
            return reading(m, b, self.f(block))

        return work

    def _derivative(self, f: Vector, b: Vector, t: Vector, H: arb) -> tuple[Vector, Vector]:
        """The y and theta of phi_t."""
        if self.data.metric == "cross-entropy":
            return f * H - t * b, t * arb(0) + H
        inner = t * (f - b) - H
        return f * inner, t * f + inner


def sum_of(data: Instance, work: Callable[[slice], Any]) -> Any:
    """Sum of ``work`` over the blocks of rows; what overflows proves nothing, without warnings."""
    with np.errstate(all="ignore"):
        return functools.reduce(operator.add, data.map_blocks(work))


class Derivatives(NamedTuple):
    """On a block of rows: f and theta of each softmax, as they enter L; g; and y of L - L_reg."""

    pairs: list[tuple[Vector, Vector]]
    g: Vector
    y: Vector


def _join(parts: Iterable[tuple[arb, arb] | None]) -> tuple[arb, arb]:
    """One shift and total from those of the blocks."""
    known = [part for part in parts if part is not None]
    top = functools.reduce(lambda a, b: b if b > a else a, (shift for shift, _ in known))
    return top, sum_balls((shift - top).exp() * total for shift, total in known)


def at_point(data: Instance, ar: Arithmetic, x: np.ndarray) -> View:
    """The logits at x, taken as exact."""

    def logits(block: slice) -> Vector:
        rows = data.A.part if isinstance(data.A, Csr) else data.A.rows
        return ar.logits(rows(block.start, block.stop), x)

    return View(data, ar, logits)


class Points:
    """Views of one point, one for each precision.

    Parameters
    ----------
    data : Instance
    x : (d,) array
        Taken as exact.

    Examples
    --------
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC
    >>> from copyreg_jax.checker.data import make_instance
    >>> b, protected, w = np.array([0.7, 0.3]), np.array([True, False]), np.ones(2)
    >>> data = make_instance(np.eye(2), b, protected, w, np.float64(0.5), "joint")
    >>> points = Points(data, np.zeros(2))
    >>> with ARITHMETIC, ctx.workprec(START_BITS):
    ...     round(float(points.view(START_BITS).losses.ell_1), 4)
    0.04
    """

    def __init__(self, data: Instance, x: np.ndarray) -> None:
        self.data, self.x = data, x
        self._views: dict[int, View] = {}

    def view(self, bits: int) -> View:
        """The view at a precision, which the caller has set."""
        view = self._views.get(bits)
        if view is None:
            view = at_point(self.data, arithmetic(bits), self.x)
            if bits <= START_BITS:  # higher precision is asked for once, and takes more memory
                self._views[bits] = view
        return view


def in_ball(point: View, center: np.ndarray, radius: float) -> View:
    """The logits within a Euclidean distance of the point, up to a common shift.

    ``A x' - A x`` differs from ``(A - 1 center^T)(x' - x)`` by the same number in each row.
    """

    def logits(block: slice) -> Vector:
        reach = radius * point.lengths(block, center)
        return point.ar.widen(point.logits(block), np.nextafter(reach, np.inf))

    return View(point.data, point.ar, logits)


def rows_of(data: Instance, block: slice) -> np.ndarray:
    """The rows of a block, dense."""
    return data.A.rows(block.start, block.stop)
