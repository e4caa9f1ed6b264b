"""False statements about numbers: True wherever the arithmetic of the checker says what is not so.

The searches are generators: one that has found something need not be run to its end.
"""

import functools
import itertools
import math
import operator
from fractions import Fraction

import numpy as np
from flint import arb, arb_mat, ctx

from copyreg_jax.checker.arithmetic import Balls, Box, Floats, lower, up, upper
from copyreg_jax.checker.data import Csr
from copyreg_jax.checker.linear import Gram, eigenvalue_floor, gram, norms
from copyreg_jax.checker.verdicts import at_least, at_most
from tests.checker.test_arithmetic import (
    ball_holds,
    contains,
    exact_gram,
    is_positive_definite,
    to_csr,
)


def number_faults():
    ar, balls = Floats(), Balls(128)
    rng = np.random.default_rng(0)
    for turn in range(30):
        scale = (1.0, 1.0, 1e-160, 1e-320, 1e150)[turn % 5]
        (a, low_a, high_a), (b, low_b, high_b) = (_box(rng, scale) for _ in range(2))
        yield not contains(-a, [-v for v in low_a])
        for x, y in itertools.product((low_a, high_a), (low_b, high_b)):
            pairs = list(zip(x, y, strict=True))
            yield not contains(a + b, [v + w for v, w in pairs])
            yield not contains(a - b, [v - w for v, w in pairs])
            yield not contains(a * b, [v * w for v, w in pairs])
        for x in (low_a, high_a):
            yield not contains(ar.square(a), [v * v for v in x])
            yield not ball_holds(ar.sum(a), sum(x))
        over_zero = Box(-np.abs(a.lo), np.abs(a.hi))
        yield not contains(ar.square(over_zero), [Fraction(0)] * 8)
        for box in (a, b):
            single = ar.sum(Box.of(box.lo))
            yield not ball_holds(single, sum(map(Fraction, box.lo.tolist())))
        radii = np.abs(b.lo)
        mask = rng.random(8) < 0.5
        for sign in (-1, 1):
            moved = [v + sign * Fraction(r) for v, r in zip(low_a, radii.tolist(), strict=True)]
            yield not contains(ar.widen(a, radii), moved)
            yield not all(map(ball_holds, balls.widen(balls.exact(a.lo), radii), moved))
        chosen = [Fraction(1) if m else Fraction(2) for m in mask.tolist()]
        yield not contains(ar.choose(mask, arb(1), arb(2)), chosen)
        yield not all(map(ball_holds, balls.choose(mask, arb(1), arb(2)), chosen))
        for x in (low_a, high_a):
            whole = [v if m else Fraction(0) for v, m in zip(x, mask.tolist(), strict=True)]
            yield not contains(ar.spread(mask, a[mask]), whole)
        positive = Box(np.abs(a.lo), np.abs(a.lo))
        parts = [Fraction(v) for v in positive.lo.tolist()]
        yield not contains(ar.share(positive, ar.sum(positive)), [v / sum(parts) for v in parts])
        total = float(4 * positive.lo.sum())
        exact_shares = [v / Fraction(total) for v in parts]
        yield total > 0 and not contains(ar.share(positive, arb(total)), exact_shares)
        halves = Box(0.5 * positive.lo, positive.lo)
        yield not contains(ar.share(halves, arb(0, 1)), [Fraction(1)] * 8)
        yield from _faults_of_exp(rng, ar)
        yield from _faults_of_matrices(rng, scale)
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
        tiny = 2.0**-53 * (1 + 2.0**-20)
        weights = [1.0, *[tiny] * 1000, -(1.0 + 1500 * 2.0**-53)]
        blocks = [gram(np.array([w]), np.array([[scale]]), np.zeros(1)) for w in weights]
        whole = functools.reduce(operator.add, blocks)
        exact_sum = sum(map(Fraction, weights)) * Fraction(scale) ** 2
        gap = abs(Fraction(float(whole.matrix[0, 0])) - exact_sum)
        yield gap > Fraction(float(whole.error.upper()))


def _box(rng, scale):
    low = rng.normal(size=8) * scale
    high = low + np.abs(rng.normal(size=8)) * scale * rng.choice([0, 1e-15, 1])
    return Box(low, high), *([Fraction(v) for v in end.tolist()] for end in (low, high))


def _faults_of_exp(rng, ar):
    x = np.concatenate([rng.uniform(-2, 2, 20), rng.uniform(-800, 800, 20), [-1000, 709.9, 720]])
    for box in (Box(x, x), Box(x, x + 1)):
        found = ar.exp(box)
        with ctx.workprec(200):
            for v, low, high in zip(x.tolist(), found.lo.tolist(), found.hi.tolist(), strict=True):
                yield math.isfinite(low) and not arb(low) <= arb(v).exp()
                yield math.isfinite(high) and not arb(high) >= arb(v).exp()
                yield low == math.inf
    narrow = Box(x[:20], x[:20] + 2.0**-7)
    found = ar.exp(narrow)
    with ctx.workprec(200):
        for v, w in zip(found.lo.tolist(), narrow.lo.tolist(), strict=True):
            yield not arb(v) <= arb(w).exp()
        for v, w in zip(found.hi.tolist(), narrow.hi.tolist(), strict=True):
            yield not arb(v) >= arb(w).exp()


def _faults_of_matrices(rng, scale):
    ar = Floats()
    A, x = rng.normal(size=(4, 40)) * scale, rng.normal(size=40)
    A[1, ::3] = 0
    A[:, 1:20] = -A[:, 21:40] * (1 + 1e-15)  # much cancels
    x[21:40] = x[1:20]
    logits = [sum(Fraction(a) * Fraction(v) for a, v in zip(row, x, strict=True)) for row in A]
    sparse = to_csr(A)
    sparse = Csr(sparse.data, sparse.indices, sparse.indptr, sparse.d)
    yield not contains(ar.logits(A, x), logits)
    yield not contains(ar.logits(sparse, x), logits)
    yield any(not np.array_equal(sparse.rows(i, i + 2), A[i : i + 2]) for i in range(3))
    rows, center = A[:, :3] / scale, x[:3]
    weights, low, high = _box(rng, scale)
    weights, ends = weights[:4], (low[:4], high[:4])
    moments = ar.moments([weights], rows, center)
    for inside in ends:
        for j, ball in enumerate(moments.products.entries()):
            gaps = [Fraction(r) - Fraction(center[j]) for r in rows[:, j]]
            yield not ball_holds(ball, sum(w * g for w, g in zip(inside, gaps, strict=True)))
    single = ar.moments([Box.of(weights.lo)], A, np.zeros(40)).products.entries()
    for j, ball in enumerate(single):
        column = [Fraction(v) for v in A[:, j].tolist()]
        yield not ball_holds(ball, sum(w * v for w, v in zip(ends[0], column, strict=True)))
    found_gram = gram(weights.lo, rows, center)
    truth = exact_gram(weights.lo, rows, center)
    for found, factor in ((found_gram, 1), (found_gram + found_gram, 2)):
        pairs = zip(map(Fraction, found.matrix.ravel().tolist()), truth, strict=True)
        with ctx.workprec(400):
            norm = sum((_ball(v - factor * t) ** 2 for v, t in pairs), arb(0)).sqrt()
            yield norm > found.error
    for bound, row in zip(norms(A, x).tolist(), A.tolist(), strict=True):
        gaps = [Fraction(a) - Fraction(c) for a, c in zip(row, x.tolist(), strict=True)]
        yield Fraction(bound) ** 2 < sum(gap * gap for gap in gaps)
    for bound, row in zip(norms(A, 0 * x).tolist(), A.tolist(), strict=True):
        yield Fraction(bound) ** 2 < sum(Fraction(a) ** 2 for a in row)
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


def _ball(number):
    return arb(number.numerator) / number.denominator


def _faults_of_ends():
    ends = (1.0, 2.0**-70), (0.1, 1e-3), (1.0, 0.0), (5e-324, 0.0), (-3.0, 1.0)
    for (middle, radius), sign in itertools.product(ends, (1, -1)):
        with ctx.workprec(150):
            ball = sign * arb(middle, radius) / 3
            yield not arb(lower(ball)) <= ball
            yield not arb(upper(ball)) >= ball
    open_, known = arb(2.5, 0.1), arb(2.5)
    names = [
        at_least(open_, 2.5), at_most(open_, 2.5), at_least(known, 2.5),
        at_most(known, 2.5), at_least(open_, 2.0), at_most(open_, 2.0),
        at_least(open_, 3.0), at_most(open_, 3.0), at_least(known, 2.75),
    ]  # fmt: skip
    right = "UNDECIDED UNDECIDED CERTIFIED CERTIFIED CERTIFIED REFUTED REFUTED CERTIFIED REFUTED"
    yield [name.name for name in names] != right.split()
