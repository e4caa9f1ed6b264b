"""One pass over A at a point: how far its rows reach, the gradient, and ``A^T W^2 A``."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import TYPE_CHECKING

import numpy as np
from flint import arb, arb_mat

from copyreg_jax.checker.arithmetic import FLOAT_BITS, TINY, UNIT, Vector, up
from copyreg_jax.checker.linear import (
    Gram,
    control_floor,
    frobenius,
    gram_of_scaled,
    lengths,
    modulus,
)

if TYPE_CHECKING:
    from copyreg_jax.checker.proofs import View

__all__ = ["Survey"]

_PART = 1 << 16
"""Entries of A that stay in a core's own cache while all is made of them that is needed."""


@dataclasses.dataclass(frozen=True)
class _Weighted:
    """A sum over rows of ``weight * (row - center)``, up to an error in the Euclidean norm."""

    products: arb_mat
    error: arb

    @property
    def norm(self) -> arb:
        """Its Euclidean norm."""
        return frobenius(self.products.entries()) + self.error * arb(0, 1)

    def __add__(self, other: _Weighted) -> _Weighted:
        return _Weighted(self.products + other.products, self.error + other.error)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a part of the rows adds; `longest` is the largest distance of a row from the center."""

    weighted: list[_Weighted]
    gram: Gram
    longest: float

    def __add__(self, other: _Found) -> _Found:
        longest = float(np.maximum(self.longest, other.longest))  # NaN stays NaN
        weighted = [a + b for a, b in zip(self.weighted, other.weighted, strict=True)]
        return _Found(weighted, self.gram + other.gram, longest)


class Survey:
    """What is known of the rows of A, and of the gradient at a point.

    Parameters
    ----------
    point : View
        Its logits are those of a point, within the errors of its arithmetic.

    Notes
    -----
    The caller holds `ARITHMETIC` and has set the precision. Reads A twice, when first asked.

    Examples
    --------
    >>> import numpy as np
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS, Balls
    >>> from copyreg_jax.checker import proofs
    >>> from copyreg_jax.checker.data import make_instance
    >>> data = make_instance(
    ...     np.array([[1.0], [0.0], [-1.0]]), np.array([0.7, 0.2, 0.1]),
    ...     np.array([True, False, False]), np.ones(3), np.float64(0.1), "joint",
    ... )
    >>> with ARITHMETIC, ctx.workprec(START_BITS):
    ...     found = Survey(proofs.at_point(data, Balls(START_BITS), np.zeros(1)))
    ...     norm, floor = float(found.gradient_norm), found.floor
    >>> round(norm, 6), round(floor, 3)  # w is 1, so the least eigenvalue of A^T A is 2
    (1.152367, 1.98)
    """

    def __init__(self, point: View) -> None:
        self._point = point

    @functools.cached_property
    def center(self) -> np.ndarray:
        """About ``A^T f``: as a center of the rows, it leaves the least to cancel."""
        view = self._point
        _ = view.softmaxes  # those first: the blocks need them

        def work(block: slice) -> np.ndarray:
            f = view.ar.upper(view.f(block)[0])
            parts = _parts(block, view.data.d)
            found = [np.einsum("i,ij->j", f[own], view.data.A.rows(*ends)) for own, ends in parts]
            return np.sum(found, axis=0)

        center: np.ndarray = view.sum(work)
        return np.where(np.isfinite(center), center, 0.0)

    @functools.cached_property
    def _found(self) -> tuple[_Found, arb]:
        """The sum over all rows, and that of ``w_i^2 u_i``."""
        view, center = self._point, self.center
        ar, data, derivatives = view.ar, view.data, view.derivatives()

        def work(block: slice) -> np.ndarray:
            regularization = ar.square(ar.exact(data.w[block])) * view.logits(block)
            m, w, (f, *own_f) = data.protected[block], data.w[block], view.f(block)
            vectors = [derivatives(block).y + regularization, f, ar.exact(np.ones(m.size))]
            if own_f:
                vectors += [ar.spread(m, own_f[0]), ar.exact(m.astype(np.float64))]
            found, sizes = [], np.empty(m.size)
            for own, ends in _parts(block, data.d):
                rows = data.A.rows(*ends)
                centered = rows - center
                sizes[own] = lengths(centered)
                if ar.bits == FLOAT_BITS:
                    sums = [_weighted(v[own], centered, sizes[own]) for v in vectors]
                else:
                    moments = ar.moments([v[own] for v in vectors], rows, center).products
                    sums = [_Weighted(arb_mat([row]), arb(0)) for row in moments.tolist()]
                gram = gram_of_scaled(w[own], rows)
                found.append(_Found(sums, gram, float(sizes[own].max())))
            view.keep_lengths(block, center, sizes)
            return np.array([functools.reduce(operator.add, found), ar.sum(regularization)], object)

        found, offset = view.sum(work)
        return found, offset

    @property
    def longest(self) -> float:
        """An upper bound of the distances of all rows from the center."""
        return self._found[0].longest

    @property
    def gram(self) -> Gram:
        """``A^T W^2 A``."""
        return self._found[0].gram

    @functools.cached_property
    def gradient_norm(self) -> arb:
        """``||grad L||``; any center will do."""
        found, offset = self._found
        # The entries of y sum to zero, so only the regularization moves with the center.
        moved = arb_mat(1, self.center.size, self.center.tolist()) * offset
        gradient = found.weighted[0]
        return _Weighted(gradient.products + moved, gradient.error).norm

    @property
    def gaps(self) -> list[arb]:
        """``||A^T f - center||``, for each softmax."""
        return [found.norm for found in self._found[0].weighted[1::2]]

    @property
    def flat_gaps(self) -> list[arb]:
        """The same where all logits are zero: f is 1/n, or 1/n1."""
        data, sums = self._point.data, self._found[0].weighted[2::2]
        return [found.norm / n for found, n in zip(sums, (data.n, data.n1), strict=False)]

    @functools.cached_property
    def floor(self) -> float:
        """About the largest number below all eigenvalues of ``A^T W^2 A``; 0 if none is found."""
        return modulus(self.gram.balls, self.gram.error)

    @functools.cached_property
    def controlled_floor(self) -> float:
        """The floor, or `VoidError` where a false claim on the same matrix is not refused.

        The claims local and global share it: of 200 columns the control takes 0.1 s.
        """
        control_floor(self.gram.balls, self.gram.error)
        return self.floor


def _weighted(v: Vector, centered: np.ndarray, sizes: np.ndarray) -> _Weighted:
    """``v @ centered`` for intervals, with one bound of all that is lost."""
    middle = 0.5 * v.lo + 0.5 * v.hi
    radius = np.maximum(up(v.hi - middle), up(middle - v.lo))
    product = np.einsum("i,ij->j", middle, centered)
    # One rounding for the center, one per product and sum: row by row, and so for the norm.
    (n, d), terms = centered.shape, len(centered) + 4
    size = np.einsum("i,i->", up(radius + up(np.abs(middle) * (terms * UNIT))), sizes)
    error = up(up(size * (1 + 4 * terms * UNIT)) + 4 * n * d * TINY)
    return _Weighted(arb_mat(1, d, product.tolist()), arb(float(error)))


def _parts(block: slice, d: int) -> list[tuple[slice, tuple[int, int]]]:
    """Parts of a block: their rows counted from the begin of the block, and from that of A."""
    step = max(64, _PART // d // 64 * 64)
    starts = range(block.start, block.stop, step)
    ends = [(start, min(start + step, block.stop)) for start in starts]
    return [(slice(i - block.start, j - block.start), (i, j)) for i, j in ends]
