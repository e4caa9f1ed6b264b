"""Where the Hessian is bounded from below: around level sets, in balls, over all points."""

from __future__ import annotations

import functools
import math
import operator

import numpy as np
from flint import arb, arb_mat

from copyreg_jax.checker.arithmetic import UNIT, Arithmetic, Vector, upper
from copyreg_jax.checker.data import Instance
from copyreg_jax.checker.linear import (
    Gram,
    cholesky,
    control_product,
    frobenius,
    gram,
    inverse_of_triangle,
    norms,
)
from copyreg_jax.checker.proofs import View, rows_of, square, sum_of

__all__ = [
    "around_level_set",
    "hessian_floor",
    "laplacian_floor",
    "row_widths",
]

_WORTH = 0.9
"""What a round may leave of the radius for it to be worth its cost."""

_SMALL = 1 / 32
"""A change of all logits that changes a Hessian so little that no better set is looked for."""

_ROUNDS = 8
"""At most so many improvements of the set around a level set."""


def _row(matrix: arb_mat, i: int) -> list[arb]:
    return matrix.entries()[i * matrix.ncols() : (i + 1) * matrix.ncols()]


def hessian_floor(view: View, center: np.ndarray) -> tuple[arb_mat, arb]:
    """A ball matrix M and e such that each ``hess_x L`` of the view is ``>= M' - e I``, M' in M.

    With r_i = a_i - center, y = A^T f and delta = y - center, ``sum s_i (a_i - y)(a_i - y)^T`` is
    ``sum s_i r_i r_i^T - q delta^T - delta q^T + (sum s_i) delta delta^T``, q = sum s_i r_i; for
    L_reg, y = 0. In the first term the weights may be replaced by lower bounds.
    """
    ar, data, derivatives = view.ar, view.data, view.derivatives()

    def work(block: slice) -> np.ndarray:
        rows, (pairs, g, _) = rows_of(data, block), derivatives(block)
        weights = [ar.square(ar.exact(data.w[block])), *(f * theta for f, theta in pairs)]
        total = ar.lower(functools.reduce(operator.add, weights))
        moments = ar.moments([g, *weights, *(f for f, _ in pairs)], rows, center)
        return np.array([gram(total, rows, center), moments], object)

    found, moments = view.sum(work)
    d, terms = data.d, len(moments.sums) // 2
    column = [arb_mat(d, 1, _row(moments.products, i)) for i in range(2 * terms)]
    M = found.balls
    M += view.kappa * (column[0] * column[0].transpose())
    deltas = [arb_mat(d, 1, (-center).tolist()), *column[terms + 1 :]]
    for total, q, delta in zip(moments.sums[1:], column[1:], deltas, strict=False):
        cross = q * delta.transpose()
        M += total * (delta * delta.transpose()) - cross - cross.transpose()
    return M, found.error


def row_widths(view: View) -> np.ndarray:
    """Numbers c_i with ``|u_i| <= c_i ||W A x||`` for every x; infinite if none is found.

    c_i^2 is ``a_i^T M^-1 a_i``, M = A^T W^2 A. For any V, ``M^-1 <= V^T V / (1 - defect)`` with
    ``defect = ||V M V^T - I||_F``; the V here is an approximate inverse Cholesky factor.
    """
    data, found = view.data, view.survey.gram
    d, origin = data.d, np.zeros(data.d)
    V = inverse_of_triangle(cholesky(found.matrix))
    balls = arb_mat(d, d, V.ravel().tolist())
    product = (balls * found.balls * balls.transpose()).entries()
    for i in range(d):
        product[i * (d + 1)] -= 1
    size = frobenius(balls.entries())
    left = 1 - frobenius(product) - square(size) * found.error
    scale = upper(1 / left.sqrt()) if left > 0 else np.inf

    def widths(block: slice) -> np.ndarray:
        rows = rows_of(data, block)
        image, lengths = rows @ V.T, norms(rows, origin)
        control_product(image, rows, V.T)
        rounding = (d + 4) * UNIT * upper(size) * lengths
        return scale * (norms(image, origin) + 1.01 * rounding + 2.0**-500) * (1 + 2.0**-50)

    return np.concatenate(list(data.map_blocks(widths)))


def around_level_set(point: View, level: float, least: arb) -> tuple[float, View]:
    """A radius and the logits on ``{||W A x|| <= radius}``, which contains ``{L <= level}``.

    A lower bound of the loss leaves ``0.5 ||W A x||^2 <= level - bound``; on that set the loss has
    a better lower bound, and so on, as long as that makes a large set smaller by a good part. The
    first one is `theorems.least_loss`.
    """
    data, ar = point.data, point.ar
    widths, radius = row_widths(point), math.inf
    widest = float(widths.max())
    for _ in range(_ROUNDS):
        smaller = upper((2 * (arb(level) - least)).nonnegative_part().sqrt())
        if radius * widest <= _SMALL or not smaller <= _WORTH * radius:
            break
        radius = smaller
        view = _within_widths(data, ar, np.nextafter(radius * widths, np.inf))
        least = view.least_loss
    return radius, view


def _within_widths(data: Instance, ar: Arithmetic, widths: np.ndarray) -> View:
    def logits(block: slice) -> Vector:
        zero = ar.exact(np.zeros(block.stop - block.start))
        return ar.widen(zero, widths[block])

    return View(data, ar, logits)


def laplacian_floor(view: View) -> tuple[arb_mat, arb]:
    """M and e such that every ``hess_x L`` of the view is ``>= M' - e I`` for an M' in M.

    ``P^T diag(f theta) P`` is the Laplacian of a graph with weights ``f_i f_j (theta_i + theta_j -
    S)``, S = sum f theta (docs/theory/constants.md). So it is at least minus twice the diagonal of
    ``sum_j f_i f_j (S - theta_i - theta_j)_+ <= f_i ((S - theta_i)_+ + sum_j f_j (-theta_j)_+)``.
    """
    ar, data, derivatives = view.ar, view.data, view.derivatives()

    def sums(block: slice) -> np.ndarray:
        pairs = derivatives(block).pairs
        below = (f * ar.exact(np.maximum(-ar.lower(theta), 0.0)) for f, theta in pairs)
        found = [[ar.sum(f * theta), ar.sum(b)] for (f, theta), b in zip(pairs, below, strict=True)]
        return np.array(found, object)

    totals = view.sum(sums)

    def work(block: slice) -> Gram:
        weights = ar.square(ar.exact(data.w[block]))
        for (f, theta), (total, below) in zip(derivatives(block).pairs, totals, strict=True):
            above = ar.exact(np.maximum(ar.upper(total - theta), 0.0))
            weights = weights - f * (above + below) * arb(2)
        return gram(ar.lower(weights), rows_of(data, block), np.zeros(data.d))

    found = sum_of(data, work)
    return found.balls, found.error
