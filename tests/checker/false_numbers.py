"""False statements about numbers: True wherever the arithmetic of the checker says what is not so.

The searches are generators: one that has found something need not be run to its end.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
from flint import arb, arb_mat, ctx

from copyreg_jax.checker.arithmetic import Balls, Box, Floats, lower, up, upper
from copyreg_jax.checker.linear import (
    Gram,
    eigenvalue_floor,
    gram,
    gram_of_scaled,
    lengths,
    norms,
)
from copyreg_jax.checker.survey import _weighted
from tests.checker.test_arithmetic import (
    BINARY,
    VERDICTS,
    ball_holds,
    balls_hold,
    contains,
    exact_gram,
    exactly,
    is_beyond,
    is_positive_definite,
    sum_of_grams,
    to_csr,
    verdicts_of,
)


def number_faults():
    ar, balls = Floats(), Balls(128)
    rng = np.random.default_rng(0)
    for turn in range(30):
        scale = (1.0, 1.0, 1e-160, 1e-320, 1e150)[turn % 5]
        a, b = _box(rng, scale), _box(rng, scale)
        ends_a, ends_b = ((exactly(box.lo), exactly(box.hi)) for box in (a, b))
        radii, mask = np.abs(b.lo), rng.random(8) < 0.5
        yield not contains(-a, -ends_a[0])
        for x, y, operation in itertools.product(ends_a, ends_b, BINARY):
            yield not contains(operation(a, b), operation(x, y))
        for x in ends_a:
            yield not contains(ar.square(a), x * x)
            yield not ball_holds(ar.sum(a), x.sum())
            yield not contains(ar.spread(mask, a[mask]), np.where(mask, x, 0))
        yield not contains(ar.square(Box(-np.abs(a.lo), np.abs(a.hi))), [0] * 8)
        for box, (low, _) in ((a, ends_a), (b, ends_b)):
            yield not ball_holds(ar.sum(Box.of(box.lo)), low.sum())
        for sign in (-1, 1):
            moved = ends_a[0] + sign * exactly(radii)
            yield not contains(ar.widen(a, radii), moved)
            yield not balls_hold(balls.widen(balls.exact(a.lo), radii), moved)
        chosen = np.where(mask, 1, 2)
        yield not contains(ar.choose(mask, arb(1), arb(2)), chosen)
        yield not balls_hold(balls.choose(mask, arb(1), arb(2)), chosen)
        positive = np.abs(a.lo)
        parts, total = exactly(positive), float(4 * positive.sum())
        shares = ar.share(Box.of(positive), ar.sum(Box.of(positive)))
        yield not contains(shares, parts / parts.sum())
        shares = ar.share(Box.of(positive), arb(total))
        yield total > 0 and not contains(shares, parts / Fraction(total))
        yield not contains(ar.share(Box(0.5 * positive, positive), arb(0, 1)), [1] * 8)
        yield from _faults_of_exp(rng, ar)
        yield from _faults_of_matrices(rng, ar, scale)
    yield ar.sum(Box.of(np.array([1e308, 1e308, 1e308]))).is_finite()
    for d in (40, 1000):
        lost = ar.logits(np.full((1, d), 2.0**-538), np.full(d, 0.98 * 2.0**-537))
        yield not contains(lost, [d * Fraction(0.98) / 2**1075])
    yield from _faults_of_small_grams()
    none = np.zeros((2, 2))
    yield not (Gram(none, arb(0)) + Gram(none, arb(1))).error > 0.5
    yield from _faults_of_ends()


def _faults_of_small_grams():
    """Additions that all round up, at scales whose squares are lost; and more than a few rows."""
    tiny = np.array([0.0, 2.0**-1074, 2.0**-1040])
    yield not (up(tiny) > tiny).all()
    many = np.arange(140.0).reshape(70, 2)
    yield not np.array_equal(gram(np.ones(70), many, np.ones(2)).matrix, (many - 1).T @ (many - 1))
    for scale in (1.0, 2.0**-300):
        yield is_beyond(*sum_of_grams(scale))


def _box(rng, scale):
    low = rng.normal(size=8) * scale
    return Box(low, low + np.abs(rng.normal(size=8)) * scale * rng.choice([0, 1e-15, 1]))


def _faults_of_exp(rng, ar):
    x = np.concatenate([rng.uniform(-2, 2, 20), rng.uniform(-800, 800, 20), [-1000, 709.9, 720]])
    for box in (Box(x, x), Box(x, x + 1)):
        found = ar.exp(box)
        with ctx.workprec(200):
            for v, low, high in zip(x.tolist(), found.lo.tolist(), found.hi.tolist(), strict=True):
                yield math.isfinite(low) and not arb(low) <= arb(v).exp()
                yield math.isfinite(high) and not arb(high) >= arb(v).exp()
                yield low == math.inf
    low, high = x[:20].tolist(), (x[:20] + 2.0**-7).tolist()
    found = ar.exp(Box(np.array(low), np.array(high)))
    with ctx.workprec(200):
        for v, w in zip(found.lo.tolist(), low, strict=True):
            yield not arb(v) <= arb(w).exp()
        for v, w in zip(found.hi.tolist(), high, strict=True):
            yield not arb(v) >= arb(w).exp()


def _faults_of_matrices(rng, ar, scale):
    A, x = rng.normal(size=(4, 40)) * scale, rng.normal(size=40)
    A[1, ::3] = 0
    A[:, 1:20] = -A[:, 21:40] * (1 + 1e-15)  # much cancels
    x[21:40] = x[1:20]
    sparse = to_csr(A)
    for matrix in (A, sparse):
        yield not contains(ar.logits(matrix, x), exactly(A) @ exactly(x))
    yield any(not np.array_equal(sparse.rows(i, i + 2), A[i : i + 2]) for i in range(3))
    rows, center = A[:, :3] / scale, x[:3]
    weights = _box(rng, scale)[:4]
    moments = ar.moments([weights], rows, center)
    for end in (weights.lo, weights.hi):
        exact = exactly(end) @ (exactly(rows) - exactly(center))
        yield not balls_hold(moments.products.entries(), exact)
    single = ar.moments([Box.of(weights.lo)], A, np.zeros(40))
    yield not balls_hold(single.products.entries(), exactly(weights.lo) @ exactly(A))
    found, truth = gram(weights.lo, rows, center), exact_gram(weights.lo, rows, center)
    yield is_beyond(found, truth)
    yield is_beyond(found + found, 2 * truth)
    yield from _faults_of_scaled_rows(rng, weights.lo, rows, center)
    for middle in (x, 0 * x):
        gaps = exactly(A) - exactly(middle)
        yield (exactly(norms(A, middle)) ** 2 < (gaps * gaps).sum(axis=1)).any()
    F = rng.integers(-9, 10, size=(3, 3)) * 1.0
    H = F @ F.T + rng.choice([0.0, 1e-9, 1.0]) * np.eye(3)
    least = float(np.linalg.eigvalsh(H)[0])
    for radius, error in itertools.product((0.0, 1e-6), repeat=2):
        with ctx.workprec(128):
            M = arb_mat(3, 3, [arb(v, radius) for v in H.ravel().tolist()])
            target = least - 3.1 * radius - 1.1 * error - 1e-9 * float(np.abs(H).max())
            floor = lower(eigenvalue_floor(M, arb(error), target))
        if floor > -math.inf:
            worst = [[Fraction(v) - Fraction(radius) for v in row] for row in H.tolist()]
            shift = Fraction(floor) + Fraction(error) - Fraction(1, 10**20)
            yield not is_positive_definite(worst, shift)


def _faults_of_scaled_rows(rng, scales, rows, center):
    """Also with columns of very different sizes, and two that nearly cancel."""
    uneven = rows * np.array([1e18, 1e-18, 1.0]) if np.abs(scales).max() < 1e100 else rows
    uneven[:, 2] = uneven[:, 0] * (1 + 2.0**-52)
    for matrix in (rows, uneven):
        found, weighted = gram_of_scaled(scales, matrix), exactly(scales)[:, None] * exactly(matrix)
        truth = (weighted[:, :, None] * weighted[:, None, :]).sum(axis=0)
        yield is_beyond(found, truth)
        centered = matrix - center
        sum_ = _weighted(Box.of(scales), centered, lengths(centered))
        gaps = exactly(scales) @ (exactly(matrix) - exactly(center))
        gaps = gaps - exactly([float(v.mid()) for v in sum_.products.entries()])
        bound = upper(sum_.error)
        yield math.isfinite(bound) and (gaps * gaps).sum() > Fraction(bound) ** 2


def _faults_of_ends():
    ends = (1.0, 2.0**-70), (0.1, 1e-3), (1.0, 0.0), (5e-324, 0.0), (-3.0, 1.0)
    for (middle, radius), sign in itertools.product(ends, (1, -1)):
        with ctx.workprec(150):
            ball = sign * arb(middle, radius) / 3
            yield not arb(lower(ball)) <= ball
            yield not arb(upper(ball)) >= ball
    for threshold, names in VERDICTS:
        yield verdicts_of(threshold) != names
