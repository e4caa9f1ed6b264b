"""Where the regularization dominates, one Gram matrix is enough: the Hessian is near it.

The logits of a set are known from those of one point, its base: each moves by no more than a
number, so each f_i by no more than a factor. That leaves a few sums and maxima at the base, after
which a set of any size costs nothing. The theorem is in docs/theory/certificates.md.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from flint import arb

from copyreg_jax.checker.arithmetic import UNIT, Vector, lower, sum_balls, upper
from copyreg_jax.checker.proofs import View
from copyreg_jax.checker.sums import Sums, square

__all__ = ["Around", "Base", "around_level_set", "at", "at_zero", "floor"]

_LOST = 2.0**-500
"""More than what underflow can take from the sizes here, and less than anything that matters."""

_WORTH = 0.99
"""What a round may leave of the radius for another one to be made."""

_ROUNDS = 64
"""At most so many improvements of the set around a level set; each takes microseconds."""


class _Sizes(NamedTuple):
    """Upper bounds for the rows of one group and one softmax: sums, and maxima over w^2.

    b is split into what is above zero and what is below.
    """

    f_f: float
    f_b: float
    above: float
    below: float
    most: float
    most_f: float
    most_above: float
    most_below: float

    def join(self, other: _Sizes) -> _Sizes:
        """Those of both groups."""
        sums = [a + b for a, b in zip(self[:4], other[:4], strict=True)]
        # NumPy's maximum keeps NaN, which proves nothing.
        most = [float(np.maximum(a, b)) for a, b in zip(self[4:], other[4:], strict=True)]
        return _Sizes(*sums, *most)


class Base:
    """A point, how far the rows reach there, and the sizes of f and b on each group of rows.

    Parameters
    ----------
    view : View
        Logits at one point.
    longest : float
        The largest distance of a row of A from some center c.
    gaps : list of arb
        ``||A^T f - c||`` at the point, for each softmax.

    Examples
    --------
    >>> import numpy as np
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS, Balls
    >>> from copyreg_jax.checker import proofs
    >>> from copyreg_jax.checker.data import make_instance
    >>> data = make_instance(
    ...     np.array([[1.0], [0.0], [-1.0]]), np.array([0.7, 0.2, 0.1]),
    ...     np.array([True, False, False]), np.full(3, 9.0), np.float64(0.1), "joint",
    ... )
    >>> with ARITHMETIC, ctx.workprec(START_BITS):
    ...     base = at(proofs.at_point(data, Balls(START_BITS), np.zeros(1)))
    ...     near, far = (Around(base, distance).shares[0] for distance in (0.0, 0.1))
    >>> near < far < 1  # hess L >= (1 - share) A^T W^2 A, within a distance of x = 0
    True
    """

    def __init__(self, view: View, longest: float, gaps: list[arb]) -> None:
        self.view, self.longest, self.gaps = view, longest, gaps

    @functools.cached_property
    def sizes(self) -> list[_Sizes]:
        """For the protected rows, the others, and (block) the first with their own softmax.

        Sums apart, each number goes through few roundings, and no size is negative: relative
        errors are below one factor. What is added to each f first keeps products from underflow.
        """
        view, data = self.view, self.view.data
        _ = view.softmaxes

        def work(block: slice) -> list[_Sizes]:
            m, fs = data.protected[block], view.f(block)
            b, w = data.b[block], data.w[block]
            groups = [(view.ar.upper(fs[0]), m), (view.ar.upper(fs[0]), ~m)]
            found = [_sizes(f[rows], b[rows], w[rows]) for f, rows in groups]
            return found + [_sizes(view.ar.upper(f), b[m], w[m]) for f in fs[1:]]

        parts = zip(*data.map_blocks(work), strict=True)
        more = 1 + 4 * (data.n + 64) * UNIT
        joined = [functools.reduce(_Sizes.join, part) for part in parts]
        return [_Sizes(*(size * more for size in group)) for group in joined]


def _sizes(f: np.ndarray, b: np.ndarray, w: np.ndarray) -> _Sizes:
    """The same for some rows, without the factor."""
    f, squares = f + _LOST, np.minimum(w * w, 2.0**400)
    by_w = f / np.where(squares > 2.0**-900, squares, 0.0)  # else roundings are not relative
    above, below = np.maximum(b, 0) + _LOST, np.maximum(-b, 0) + _LOST
    sums = (f * f).sum(), (f * (above + below)).sum(), above.sum(), below.sum()
    maxima = [
        part.max(initial=0.0) + _LOST for part in (by_w, by_w * f, by_w * above, by_w * below)
    ]
    return _Sizes(*map(float, (*sums, *maxima)))


class Around(Sums):
    """All points within a Euclidean distance of a base.

    Up to the same number in each row, a logit moves by at most ``reach``, the distance times the
    longest row. By Jensen and Hoeffding, the normalizer of f then moves by a factor between
    ``exp(-e)`` and ``exp(e + reach^2/2)``, e being the distance times the gap (docs/theory).
    """

    def __init__(self, base: Base, distance: float) -> None:
        self.data, self._base = base.view.data, base
        reach = arb(distance) * base.longest
        steps = [arb.min(reach + arb(distance) * gap, 2 * reach) for gap in base.gaps]
        self._ups = [step.exp() for step in steps]
        self._logs = [arb.min(step + square(reach) / 2, 2 * reach) for step in steps]

    @functools.cached_property
    def sums(self) -> list[arb]:
        """As `View` has them; nothing is known of L_reg."""
        *losses, mass, target, _ = self._base.view.sums
        move = self._moved_distance if self.data.metric == "squared" else self._moved_entropy
        groups = zip(losses, self._base.sizes, (0, 0, 1), strict=False)
        low, high = mass * (-self._logs[0]).exp(), mass * self._ups[0]
        return [*(move(*group) for group in groups), low.union(high), target, arb("nan")]

    def _moved_distance(self, loss: arb, sizes: _Sizes, softmax: int) -> arb:
        """``||f - b||^2`` on a group: f moves by at most ``(factor - 1) ||f||``."""
        root = loss.nonnegative_part().sqrt()
        move = (self._ups[softmax] - 1) * arb(sizes.f_f).sqrt()
        near = (arb(lower(root)) - move).nonnegative_part()
        return square(near).union(square(arb(upper(root)) + move))

    def _moved_entropy(self, loss: arb, sizes: _Sizes, softmax: int) -> arb:
        """``-sum b log f`` on a group."""
        return loss + self._logs[softmax] * (arb(sizes.above) + sizes.below) * arb(0, 1)

    @functools.cached_property
    def shares(self) -> tuple[float, float]:
        """P and q: ``hess_u (L - L_reg)`` is between ``-p W^2`` and ``q W^2 + kappa g g^T``.

        Here W = diag(w). Infinite or NaN if none is found.
        """
        k, sizes = self.protection[0], self._base.sizes
        if self.data.reading == "block":
            softmaxes = [([arb(1), arb(1)], sizes[:2]), ([-k], sizes[2:])]
        else:
            softmaxes = [([1 - k, arb(1)], sizes)]
        pairs = zip(self._ups, softmaxes, strict=True)
        found = [self._shares(factor, *softmax) for factor, softmax in pairs]
        below, above = (sum_balls(part) for part in zip(*found, strict=True))
        return upper(below), upper(above)

    def _shares(self, e: arb, factors: list[arb], groups: list[_Sizes]) -> tuple[arb, arb]:
        """The same for one softmax, each f_i at most e times that of the base.

        Its groups of rows have the t that are given.
        """
        up = [(t.upper().nonnegative_part(), (-t).upper().nonnegative_part()) for t in factors]
        down = [pair[::-1] for pair in up]
        bound = self._distance if self.data.metric == "squared" else self._entropy
        return bound(e, down, groups), bound(e, up, groups)

    def _distance(self, e: arb, signed: list[tuple[arb, arb]], groups: list[_Sizes]) -> arb:
        """For t = with - against: ``2 f_i (z_i + 3 sum f |z|) / w_i^2``."""
        total = arb(0)
        for (ahead, against), size in zip(signed, groups, strict=True):
            total += (ahead + against) * e * (2 * e * size.f_f + size.f_b)
        found = arb(0)
        for (ahead, against), size in zip(signed, groups, strict=True):
            own = ahead * (2 * e * size.most_f + size.most_below) + against * size.most_above
            found = arb.max(found, own + 3 * total * size.most)
        return 2 * e * found

    def _entropy(self, e: arb, signed: list[tuple[arb, arb]], groups: list[_Sizes]) -> arb:
        """``2 f_i H / w_i^2``."""
        total = sum_balls(
            ahead * size.above for (ahead, _), size in zip(signed, groups, strict=True)
        )
        return 2 * e * total * float(np.max([size.most for size in groups]))


def floor(around: Around, eigenvalue: float) -> float:
    """A mu with ``hess L >= mu I`` on a set, from a floor of ``A^T W^2 A``; 0 if none is found."""
    left = 1 - arb(around.shares[0])
    return lower(left * eigenvalue) if left > 0 else 0.0


def at(point: View) -> Base:
    """The base at a point."""
    return Base(point, point.survey.longest, point.survey.gaps)


def at_zero(point: View) -> Base:
    """The base x = 0, with what is known of A from the survey at a point."""

    def logits(block: slice) -> Vector:
        return point.ar.exact(np.zeros(block.stop - block.start))

    view = View(point.data, point.ar, logits)
    return Base(view, point.survey.longest, point.survey.flat_gaps)


def around_level_set(base: Base, eigenvalue: float, level: float, least: arb) -> Around | None:
    """The points within a distance of zero, which contain ``{L <= level}``; None if not known.

    As `regions.around_level_set`, but in the ball around ``||W A x|| <= radius``: ``||x||`` is at
    most the radius over the root of the least eigenvalue of ``A^T W^2 A``. The base is that at
    zero, and `theorems.least_loss` is the first lower bound.
    """
    if not eigenvalue > 0:
        return None
    widest, radius, around = 1 / arb(eigenvalue).sqrt(), math.inf, None
    for _ in range(_ROUNDS):
        smaller = upper((2 * (arb(level) - least)).nonnegative_part().sqrt())
        if not smaller <= _WORTH * radius:
            break
        radius = smaller
        around = Around(base, upper(arb(radius) * widest))
        least = around.least_loss
    return around
