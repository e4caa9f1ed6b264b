"""Descent that ends above the global minimum: what the paper concludes from convexity, refuted.

Section 6 of the paper takes L for convex and hands the search for its minimum to Newton's method
and gradient descent. Here an interval of starts is proved to lead both of them to a minimizer at
which L is above L(x) for another point x. The theorem is in docs/theory/paper.md.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from flint import arb, ctx
from jax.typing import ArrayLike

from copyreg_jax.certificates.to_instance import to_instance
from copyreg_jax.checker import proofs
from copyreg_jax.checker.arithmetic import (
    ARITHMETIC,
    START_BITS,
    Balls,
    Vector,
    lower,
    sum_balls,
    upper,
)
from copyreg_jax.checker.data import Instance
from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.theory.counterexample import Counterexample
from copyreg_jax.theory.search_results import Row

__all__ = ["HESSIAN_ERROR", "Trap", "descent_row", "refute_descent"]

HESSIAN_ERROR = 0.25
"""How far a sampled Hessian may be off, relatively, for the proof to speak of its Newton steps."""

_RADII = 8
"""So many radii are tried, the first of which changes a logit by one, and each half the last."""

_PIECES = 64
"""Intervals on which second derivatives are enclosed, for one radius."""


class Trap(NamedTuple):
    """Starts from which descent is proved to end above the global minimum.

    Attributes
    ----------
    radius : float
        Every start within this distance of the one that was asked about is led to one minimizer.
    shrink : float
        At each step the distance to that minimizer falls at least to this part, below one: by
        ``x - g / H`` for any H within 25 % of L'' at x, and by ``x - g / M``, M the largest L''
        near the start.
    end, elsewhere : float
        L is proved to be above ``end`` at that minimizer, and at most ``elsewhere`` at the point x.
    """

    radius: float
    shrink: float
    end: float
    elsewhere: float


def refute_descent(
    problem: CopyrightRegression, x: ArrayLike, *, start: float = 0.0
) -> Trap | None:
    """Prove that descent from a start, and from all starts near it, ends above L(x), for d = 1.

    Ball arithmetic, 128 bits. On ``[start - r, start + r]`` with ``m <= L'' <= M`` and m > 0 there
    is one minimizer, within ``p = |L'(start)| / m`` of the start if that is below r, and L there is
    at least ``L(start) - p |L'(start)|``. The mean value theorem gives the factors of both methods.

    Parameters
    ----------
    problem : CopyrightRegression
        One column.
    x : (1,) array
        A point with a lower L.
    start : float, default 0
        Where descent starts; at 0, f is uniform.

    Returns
    -------
    Trap or None
        None if it is not proved, which proves nothing.

    Raises
    ------
    InputError
        d is not 1.

    Notes
    -----
    About a tenth of a second for a few rows.

    Examples
    --------
    >>> import jax
    >>> jax.config.update("jax_enable_x64", True)
    >>> from copyreg_jax.theory.counterexample import counterexample
    >>> trap = refute_descent(*counterexample("lemma-13-descent")[1:])
    >>> f"L = {trap.end:.1f} from all |x| <= {trap.radius:.3f}, and {trap.elsewhere:.1f} elsewhere"
    'L = 4500.0 from all |x| <= 0.031, and 1177.8 elsewhere'
    >>> jax.config.update("jax_enable_x64", False)
    """
    instance = to_instance(problem)
    if instance.d != 1:
        raise InputError(f"A has {instance.d} columns; the proof is for one")
    longest = float(np.abs(instance.A.rows(0, instance.n)).max())
    if not longest > 0:
        return None
    with ARITHMETIC, ctx.workprec(START_BITS):
        elsewhere = upper(_at(instance, arb(float(np.asarray(x)[0]))).value)
        begin = _at(instance, arb(start))
        slope = abs(_derivatives(begin)[0])
        for k in range(_RADII):
            radius = 2.0**-k / longest
            curvature = [_derivatives(_at(instance, piece))[1] for piece in _pieces(start, radius)]
            m, M = (arb(v) for v in (min(map(lower, curvature)), max(map(upper, curvature))))
            if not m > 0:
                continue
            within, e = slope / m, arb(HESSIAN_ERROR)
            # Of 1 - L''/H, and of 1 - L''/M: L'' is anywhere in [m, M], H in (1 -+ e) of that.
            factors = M / ((1 - e) * m) - 1, 1 - m / ((1 + e) * M), 1 - m / M
            shrink = max(map(upper, factors))
            # A start within r - 2 p of this one is within r - p of the minimizer, and stays so.
            left = lower(radius - 2 * within)
            end = lower(begin.value - within * slope)
            if left > 0 and shrink < 1 and end > elsewhere:
                return Trap(left, shrink, end, elsewhere)
    return None


def _at(instance: Instance, x: arb) -> proofs.View:
    return proofs.at_point(instance, Balls(START_BITS), np.array([x], dtype=object))


def _pieces(start: float, radius: float) -> list[arb]:
    """Intervals that cover ``[start - radius, start + radius]``."""
    ends = [arb(start) + arb(radius) * (2 * k - _PIECES) / _PIECES for k in range(_PIECES + 1)]
    return [low.union(high) for low, high in itertools.pairwise(ends)]


def _derivatives(view: proofs.View) -> tuple[arb, arb]:
    """L' and L'' of all x of the view; not finite where ell_1 may vanish."""
    data, ar = view.data, view.ar
    whole = slice(0, data.n)
    column = data.A.rows(0, data.n)[:, 0]
    about = float(ar.upper(view.f(whole)[0]) @ column)
    center = about if math.isfinite(about) else 0.0  # any number will do
    a = [arb(v) for v in column.tolist()]
    r = [v - center for v in a]
    w, u = ar.exact(data.w), view.logits(whole)
    pairs, g, y = view.derivatives()(whole)

    def total(weights: Vector, *rows: list[arb]) -> arb:
        return sum_balls(math.prod(each, start=arb(1)) for each in zip(weights, *rows, strict=True))

    first = total(y, a) + total(w * w * u, a)
    second = total(w * w, a, a) + view.kappa * proofs.square(total(g, r))
    for f, theta in pairs:
        s, mean = f * theta, total(f, r)
        second += total(s, r, r) - 2 * mean * total(s, r) + proofs.square(mean) * total(s)
    return first, second


def descent_row() -> Row:
    """Look through a family of instances, and prove of one of the worst that descent fails.

    Three rows of one column, A = (0, 1, -1), and b = (1 - 2 q, q, q), the first row protected. By
    symmetry L' = 0 at 0, exactly, so that Theorem 15 may start there, whatever its R and l are. At
    0 f_1 is 1/3, its largest value; where b_1 is just below, there are a barrier on each side of 0
    and, beyond them, points with a larger ell_1. q is in hundredths, gamma in tenths, and w is the
    least integer that meets the condition of Lemma 13 at gamma = 1/2, l = 1.
    """
    q, gamma = (v.ravel() for v in np.meshgrid(_hundredths(34, 49), _hundredths(10, 100, 10)))
    w = np.ceil(np.sqrt(8 + 1600 * gamma + 1 / 2))
    x = np.linspace(0, 3, 1501)[:, None]
    z = 1 + 2 * np.cosh(x)
    f = np.stack([1 / z, np.exp(x) / z, np.exp(-x) / z])
    c = f - np.stack([1 - 2 * q, q, q])[:, None]
    values = 0.5 * (c**2).sum(axis=0) + gamma / c[0] ** 2 + (w * x) ** 2
    best = np.argmin(values, axis=0)
    ratios = values[0] / values[best, np.arange(len(q))]
    tried = "Lemma 13", "so descent finds the minimum", "joint"
    for k in np.argsort(-ratios)[:5]:
        A, b = np.array([[0.0], [1.0], [-1.0]]), np.array([round(1 - 2 * q[k], 2), q[k], q[k]])
        problem = CopyrightRegression(A, b, 1, gamma[k], w[k])
        found = x[best[k]]
        trap = refute_descent(problem, found)
        if trap is not None:
            shown = Counterexample("lemma-13-descent", problem, found)
            worst = lower(arb(trap.end) / arb(trap.elsewhere)) - 1
            return Row(*tried, "fails", worst, "excess", len(q), 0, shown)
    return Row(*tried, "holds", float(ratios.max()) - 1, "excess", len(q), 0, None)


def _hundredths(first: int, last: int, step: int = 1) -> np.ndarray:
    return np.arange(first, last + 1, step) / 100
