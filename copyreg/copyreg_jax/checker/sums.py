"""Losses, L and the factors of the Hessian, from sums over the rows; letters as in `proofs`."""

from __future__ import annotations

import functools
from typing import NamedTuple

from flint import arb

from copyreg_jax.checker.arithmetic import lower, upper
from copyreg_jax.checker.data import LEFT_OUT, Instance

__all__ = ["Losses", "Sums", "square"]


class Losses(NamedTuple):
    """Balls that contain the exact numbers, at a point or at every point of a set."""

    ell_1: arb
    ell_2: arb
    margin: arb
    protected_mass: arb
    target_mass: arb


class Sums:
    """What follows from sums over the rows, at one point or for every point of a set.

    A class makes it that has ``sums``: enclosures of the loss of each group, the protected masses
    of f and of b, and twice L_reg. The groups are the protected rows and the others, by the softmax
    over all rows; under the block reading also the protected rows by their own softmax.
    """

    data: Instance

    @property
    def sums(self) -> list[arb]:
        """Those sums."""
        raise NotImplementedError

    @property
    def h(self) -> arb:
        """1/2 for the squared distance, 1 for cross-entropy."""
        return arb(1) / 2 if self.data.metric == "squared" else arb(1)

    @functools.cached_property
    def losses(self) -> Losses:
        """Both losses, the margin ``ell_1/n1 - ell_2/n2``, and the protected masses."""
        n, n1 = self.data.n, self.data.n1
        ell_1, ell_2, *own, mass, target, _ = self.sums
        if own:
            ell_1, ell_2 = own[0], ell_1 + ell_2 - own[0]
        return Losses(ell_1, ell_2, ell_1 / n1 - ell_2 / (n - n1), mass, target)

    @functools.cached_property
    def value(self) -> arb:
        """L, where the logits are those of a point."""
        loss = self._fit + self.sums[-1] / 2
        return loss + arb(self.data.gamma) / self.losses.ell_1 if self.data.gamma > 0 else loss

    @property
    def _fit(self) -> arb:
        """``h ell``, or ``h ell_2`` where the protected rows are left out."""
        if self.data.reading == LEFT_OUT:
            return self.h * self.sums[1]
        return self.h * (self.sums[0] + self.sums[1])

    @property
    def least_loss(self) -> arb:
        """A lower bound of ``h ell + gamma/ell_1``."""
        ell_1 = upper(self.losses.ell_1)
        protection = arb(self.data.gamma) / ell_1 if ell_1 > 0 else arb(0)
        return arb(lower(self._fit)) + protection

    @functools.cached_property
    def protection(self) -> tuple[arb, arb]:
        """The factors k and kappa; not finite where ell_1 may vanish."""
        if self.data.reading == LEFT_OUT:
            return arb(1), arb(0)  # L = h ell - phi + L_reg
        if self.data.gamma == 0:
            return arb(0), arb(0)
        if not self.losses.ell_1 > 0:
            return arb("nan"), arb("nan")
        ends = self.losses.ell_1.lower(), self.losses.ell_1.upper()  # both fall with ell_1
        k, kappa = zip(*(self._factors(ell_1) for ell_1 in ends), strict=True)
        return k[0].union(k[1]), kappa[0].union(kappa[1])

    def _factors(self, ell_1: arb) -> tuple[arb, arb]:
        """K and kappa for one ell_1."""
        k = arb(self.data.gamma) / (self.h * square(ell_1))
        return k, 2 * k / (self.h * ell_1)

    @property
    def kappa(self) -> arb:
        """Weight of ``g g^T``, not negative."""
        return self.protection[1]


def square(ball: arb) -> arb:
    """A ball around the square."""
    return ball * ball
