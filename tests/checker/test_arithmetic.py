"""Every operation of both arithmetics contains the exact result, whatever the numbers are.

The exact results are fractions, or come from Arb at 300 bits and more where they are no fractions.
"""

import concurrent.futures
import functools
import itertools
import math
import operator
from fractions import Fraction
from numbers import Rational

import numpy as np
import pytest
from flint import arb, arb_mat, ctx, fmpq
from hypothesis import assume, given, strategies as st
from hypothesis.extra import numpy as hnp

from copyreg_jax.checker import arithmetic as am, exponential, linear, verdicts
from copyreg_jax.checker.arithmetic import Balls, Box, Floats, lower
from copyreg_jax.checker.data import Csr
from copyreg_jax.checker.verdicts import VoidError
from tests.support.registry import cases

HOSTILE = (
    0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, -(2.0**-1022), 1e-300, 1.0, -1.0, 1 + 2.0**-52,
    1 - 2.0**-53, 1e16, -1e16, 1e154, -1.5e154, 1e300, -1e300, 1.7976931348623157e308,
)  # fmt: skip
FLOATS = st.one_of(
    st.sampled_from(HOSTILE),
    st.floats(-10, 10),
    st.floats(allow_nan=False, allow_infinity=False),
)
UNKNOWN = (math.nan, math.inf, -math.inf)

exactly = np.frompyfunc(Fraction, 1, 1)
"""Floats as fractions, with whose arrays NumPy computes as with any others."""


@pytest.fixture(autouse=True)
def _quiet():
    """The package computes with overflow and NaN in silence; so do these tests."""
    with np.errstate(all="ignore"):
        yield


def arrays(*shape):
    return hnp.arrays(np.float64, shape, elements=FLOATS)


@st.composite
def boxes(draw, size):
    """Intervals: single points, narrow and wide ones; and exact points inside each."""
    one, two = draw(arrays(size)), draw(arrays(size))
    kind = draw(st.sampled_from(["points", "narrow", "wide"]))
    if kind == "points":
        two = one
    elif kind == "narrow":
        two = np.nextafter(one, two)
    box = Box(np.minimum(one, two), np.maximum(one, two))
    weights = draw(st.sampled_from([(0, 1), (1, 0), (1, 1), (1, 2**60), (3, 5)]))
    inside = (weights[0] * exactly(box.lo) + weights[1] * exactly(box.hi)) / sum(weights)
    return box, inside


def holds(low, exact, high):
    """Whether a bound that is a number is one; NaN on either side says that nothing is known."""
    assert isinstance(exact, Rational)
    if math.isnan(low) or math.isnan(high):
        return True
    above = low == -math.inf or (low < math.inf and Fraction(low) <= exact)
    return above and (high == math.inf or (high > -math.inf and Fraction(high) >= exact))


def contains(box, exact):
    ends = (np.ravel(each).tolist() for each in (box.lo, exact, box.hi))
    return all(itertools.starmap(holds, zip(*ends, strict=True)))


def to_arb(number):
    """A fraction at the precision of the context."""
    return arb(fmpq(number.numerator, number.denominator))


def ball_holds(ball, exact):
    """The same for a ball, to the last of 5000 bits."""
    with ctx.workprec(5000):
        return not ball.is_finite() or ball.overlaps(to_arb(exact))


def balls_hold(balls, exact):
    pairs = zip(balls, np.ravel(exact).tolist(), strict=True)
    return all(itertools.starmap(ball_holds, pairs))


BINARY = operator.add, operator.sub, operator.mul


@pytest.mark.quick(1)
@pytest.mark.parametrize("operation", BINARY)
@cases(400)
@given(one=boxes(3), two=boxes(3))
def test_sums_and_products_of_boxes(operation, one, two):
    (a, inner_a), (b, inner_b) = one, two
    ends = [(inside, exactly(box.lo), exactly(box.hi)) for box, inside in (one, two)]
    for x, y in itertools.product(*ends):
        assert contains(operation(a, b), operation(x, y))
    # Beside a scalar, on both sides.
    ball = arb(float(b.lo[0])).union(arb(float(b.hi[0])))
    with ctx.workprec(128):
        assert contains(operation(a, ball), operation(inner_a, inner_b[0]))
        assert contains(operation(ball, a), operation(inner_b[0], inner_a))


@pytest.mark.parametrize("operation", BINARY)
@cases(200)
@given(a=hnp.arrays(float, 3, elements=st.floats(-1e9, 1e9, width=32)), b=arrays(3))
def test_boxes_are_not_wider_than_they_must_be(operation, a, b):
    b = np.clip(b, -1e9, 1e9)
    box, exact = operation(Box.of(a), b), operation(a, b)
    assert (box.hi - box.lo <= 4 * np.spacing(np.abs(exact))).all()


@cases(400)
@given(drawn=boxes(4))
def test_square_and_negative(drawn):
    box, inside = drawn
    assert contains(Floats().square(box), inside * inside)
    assert contains(-box, -inside)
    assert not (Floats().square(box).lo < 0).any()  # where it overflows, it is unknown
    over_zero = box[(box.lo <= 0) & (box.hi >= 0)]
    assert contains(Floats().square(over_zero), [0] * over_zero.lo.size)


@cases(400)
@given(drawn=st.integers(1, 6).flatmap(boxes))
def test_sum(drawn):
    box, inside = drawn
    low = exactly(box.lo).sum()
    assert ball_holds(Floats().sum(box), inside.sum())
    assert ball_holds(Floats().sum(Box.of(box.lo)), low)
    with ctx.workprec(128):
        assert ball_holds(Balls(128).sum(Balls(128).exact(box.lo)), low)
    assert Floats().sum(Box.of(np.zeros(0))).contains(0)


@cases(300)
@given(drawn=boxes(4), small=st.booleans())
def test_share(drawn, small):
    """Of the sum itself, as softmax takes it."""
    e = np.abs(drawn[0].lo).clip(max=1e300) * (1e-310 if small else 1.0)
    total = exactly(e).sum()
    assume(total > 0)
    with ctx.workprec(128):
        found = Floats().share(Box.of(e), Floats().sum(Box.of(e)))
        assert contains(found, exactly(e) / total)
        balls = Balls(128).exact(e)
        assert balls_hold(Balls(128).share(balls, sum(balls, arb(0))), exactly(e) / total)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (5e-324, 1.0), (1.0, 3.0)])
def test_share_of_a_wide_total(ends):
    total = arb(ends[0]).union(arb(ends[1]))
    e = Box(np.array([0.0, 5e-324, 0.25]), np.array([5e-324, 1.0, 0.5]))
    found = Floats().share(e, total)
    for part in (ends[0], 5e-324, 1e-3, 0.5, 1.0):
        if max(ends[0], 0) < part <= ends[1]:
            for point in (e.lo, e.hi):
                assert contains(found, np.minimum(exactly(point) / Fraction(part), 1))


@st.composite
def matrices(draw, most=5):
    n, d = draw(st.integers(1, most)), draw(st.integers(1, 4))
    A, x = draw(arrays(n, d)), draw(arrays(d))
    if draw(st.booleans()) and d > 1:  # the first two products cancel
        A[:, 1], x[1] = -A[:, 0], np.nextafter(x[0], draw(st.sampled_from([-np.inf, np.inf])))
        x = np.nan_to_num(x, posinf=1.0, neginf=-1.0)
    if draw(st.booleans()):
        A[draw(hnp.arrays(bool, (n, d)))] = 0
    return A, x


def to_csr(A):
    rows, columns = np.nonzero(A)
    return Csr(A[rows, columns], columns, np.searchsorted(rows, np.arange(len(A) + 1)), A.shape[1])


@cases(400)
@given(drawn=matrices())
def test_logits(drawn):
    A, x = drawn
    exact = exactly(A) @ exactly(x)
    for rows in (A, to_csr(A)):
        assert contains(Floats().logits(rows, x), exact)
        for bits in (128, 256):
            with ctx.workprec(bits):
                assert balls_hold(Balls(bits).logits(rows, x), exact)
    if np.abs(A).max() < 1e100 and np.abs(x).max() < 1e100:
        box, size = Floats().logits(A, x), np.abs(A) @ np.abs(x)
        assert (box.hi - box.lo <= 20 * 2.0**-53 * size + 1e-300).all()


@cases(300)
@given(drawn=matrices(), data=st.data())
def test_moments(drawn, data):
    rows, center = drawn
    drawn_weights = [data.draw(boxes(len(rows))) for _ in range(2)]
    weights, inside = [box for box, _ in drawn_weights], np.stack([v for _, v in drawn_weights])
    gaps = exactly(rows) - exactly(center)
    found = Floats().moments(weights, rows, center)
    for moments, factor in ((found, 1), (found + found, 2)):
        assert balls_hold(moments.products.entries(), factor * inside @ gaps)
        assert balls_hold(moments.sums, factor * inside.sum(axis=1))
    with ctx.workprec(128):
        lows = [Balls(128).exact(box.lo) for box in weights]
        found = Balls(128).moments(lows, rows, center)
    exact = exactly([box.lo for box in weights]) @ gaps
    assert balls_hold(found.products.entries(), exact)


def exact_gram(weights, rows, center):
    gaps = exactly(rows) - exactly(center)
    return gaps.T @ (exactly(weights)[:, None] * gaps)


def is_beyond(gram, exact):
    """Whether the exact Gram matrix is proved to be farther away than the error that is stated."""
    gaps = exactly(gram.matrix) - exact
    with ctx.workprec(6000):
        return to_arb((gaps * gaps).sum()).sqrt() > gram.error


@cases(300)
@given(drawn=matrices(), data=st.data())
def test_gram(drawn, data):
    rows, center = drawn
    weights = data.draw(arrays(len(rows)))
    exact = exact_gram(weights, rows, center)
    found = linear.gram(weights, rows, center)
    for gram, factor in ((found, 1), (found + found, 2)):
        with ctx.workprec(128):
            known = gram.error.is_finite() and np.isfinite(gram.matrix).all()
        assert not known or not is_beyond(gram, factor * exact)
    if max(np.abs(a).max() for a in (rows, center, weights)) < 1e50:
        sizes = exact_gram(np.abs(weights), rows, center).trace()
        assert found.error < 1e-14 * float(sizes) + 1e-250  # 34 u, for 5 rows of 4


@cases(300)
@given(drawn=matrices())
def test_norms(drawn):
    rows, center = drawn
    gaps = exactly(rows) - exactly(center)
    bounds = linear.norms(rows, center).tolist()
    for bound, square, row in zip(bounds, (gaps * gaps).sum(axis=1), rows, strict=True):
        assert not math.isfinite(bound) or Fraction(bound) ** 2 >= square
        size = np.abs([*row, *center]).max()
        assert size > 1e150 or bound <= 1.0000001 * math.sqrt(square) + 2.0**-499


@cases(200)
@given(drawn=boxes(4), other=arrays(4), mask=hnp.arrays(bool, 4))
def test_choose_spread_widen(drawn, other, mask):
    (box, inside), balls = drawn, Balls(128)
    low, radii = exactly(box.lo), np.abs(other)
    with ctx.workprec(128):
        ends = balls.exact(box.lo)
        for sign in (-1, 0, 1):
            moved = sign * exactly(radii)
            assert contains(Floats().widen(box, radii), inside + moved)
            assert balls_hold(balls.widen(ends, radii), low + moved)
        yes, no = arb(1) / 3, -arb(float(other[0]))
        chosen = np.where(mask, Fraction(1, 3), -Fraction(other[0]))
        assert contains(Floats().choose(mask, yes, no), chosen)
        assert balls_hold(balls.choose(mask, yes, no), chosen)
        assert contains(Floats().spread(mask, box[mask]), np.where(mask, inside, 0))
        assert balls_hold(balls.spread(mask, ends[mask]), np.where(mask, low, 0))


# The exponential.


def exponents():
    """200,000 doubles: everywhere, at the ends, around multiples of log 2 / 2, and tiny."""
    rng = np.random.default_rng(0)
    halves = 0.5 * math.log(2) * rng.integers(-2200, 2100, 60_000)
    return np.concatenate([
        rng.uniform(-750, 712, 60_000),
        rng.uniform(-2, 2, 40_000),
        halves + rng.integers(-4, 5, halves.size) * np.spacing(np.abs(halves)),
        rng.choice([-1, 1], 20_000) * 10.0 ** rng.uniform(-320, 0, 20_000),
        np.linspace(-745.2, -706, 10_000),
        np.linspace(707, 710, 10_000),
        HOSTILE,
        [-745.1332191019412, -745.13321910194122, 709.782712893384, 709.7827128933841],
        [-707.0, -707.5, -708.3964185322641, 708.5, 709.0, -1000.0, 1000.0],
    ])  # fmt: skip


def test_exp_in_bulk():
    drawn, largest = exponents(), 0.0
    low, high = exponential.exp_bounds(drawn)
    with ctx.workprec(300):
        for x, a, b in zip(drawn.tolist(), low.tolist(), high.tolist(), strict=True):
            exact = arb(max(x, -1e6)).exp()  # below that, the upper end of this is enough
            if math.isnan(a) or math.isnan(b):
                assert math.isnan(a) == math.isnan(b)
                assert x > 708
                continue
            assert arb(a) <= exact
            assert exact <= arb(b)
            if x > -707:
                middle = (arb(a) + arb(b)) / 2
                largest = max(largest, float(abs(middle / exact - 1)))
    # The bounds are 2^-49 apart; the kernel itself is far better.
    assert largest < 2.0**-51


@cases(300)
@given(drawn=boxes(3))
def test_exp_of_boxes(drawn):
    box, inside = drawn
    found = Floats().exp(box)
    for low, high, v in zip(found.lo.tolist(), found.hi.tolist(), inside, strict=True):
        with ctx.workprec(300):
            exact = to_arb(max(min(v, Fraction(10**6)), Fraction(-(10**6)))).exp()
            assert not (math.isfinite(low) and arb(low) > exact)
            assert not (math.isfinite(high) and arb(high) < exact)
        assert low != math.inf
        assert high != -math.inf
    with ctx.workprec(128):
        balls = Balls(128).exp(Balls(128).exact(box.lo))
    with ctx.workprec(2000):
        for ball, v in zip(balls, box.lo.tolist(), strict=True):
            assert abs(v) >= 1e6 or ball.overlaps(arb(v).exp())


# What is not a number.


def test_what_is_not_finite_proves_nothing():
    """No operation makes a finite bound from an operand of which nothing is known."""
    ar, known = Floats(), Box(np.array([1.0]), np.array([2.0]))
    intervals = [(math.nan, v) for v in (*UNKNOWN, 1.0)] + [(v, math.nan) for v in (*UNKNOWN, 1.0)]
    intervals += [(-math.inf, math.inf), (-math.inf, 1.0), (1.0, math.inf)]
    for low, high in intervals:
        box = Box(np.array([low]), np.array([high]))
        for point in (-1e300, 1.0, 1e300):
            if low > point or high < point:
                continue
            exact = Fraction(point)
            for found, truth in (
                (box + known, exact + 1),
                (box - known, exact - 2),
                (known - box, 1 - exact),
                (box * known, 2 * exact),
                (ar.square(box), exact * exact),
                (ar.widen(known, np.array([math.nan])), exact),
                (ar.widen(known, np.array([math.inf])), exact),
            ):
                assert contains(found, [truth])
        assert not ar.sum(box).is_finite()
        weights = [Box(np.r_[box.lo, 1.0], np.r_[box.hi, 1.0])]
        moments = ar.moments(weights, np.ones((2, 1)), np.zeros(1))
        assert not moments.products[0, 0].is_finite()
        assert not moments.sums[0].is_finite()
    for bad in UNKNOWN:
        assert not am.between(bad, 1.0).is_finite()
        assert not am.between(1.0, bad).is_finite()
        gram = linear.gram(np.array([bad, 1.0]), np.ones((2, 1)), np.zeros(1))
        assert not (gram.error.is_finite() and np.isfinite(gram.matrix).all())
        assert not math.isfinite(linear.norms(np.array([[bad, 1.0]]), np.zeros(2))[0])
    for ball in (arb("nan"), arb("inf"), arb("-inf"), arb(0, math.inf)):
        assert (am.lower(ball), am.upper(ball)) == (-math.inf, math.inf)
        box = Box.of(ball)
        assert (float(box.lo), float(box.hi)) == (-math.inf, math.inf)
        for share in (0, 1):
            assert contains(ar.share(known, ball), [share])
        for threshold in (0.0, -1.0, 1e300):
            for verdict in (verdicts.at_least, verdicts.at_most):
                if ball.is_nan() or not ball.is_exact():
                    assert verdict(ball, threshold) is verdicts.Verdict.UNDECIDED


@cases(300)
@given(middle=FLOATS, radius=st.one_of(st.just(0.0), FLOATS.map(abs)), divisor=st.integers(1, 7))
def test_ends_of_balls(middle, radius, divisor):
    """Proved, and within an ulp."""
    with ctx.workprec(200):
        ball = arb(middle, radius) / divisor
        for bits in (64, 200):
            with ctx.workprec(bits):
                low, high = am.lower(ball), am.upper(ball)
            with ctx.workprec(5000):
                assert low == -math.inf or arb(low) <= ball
                assert high == math.inf or arb(high) >= ball
                if math.isfinite(low):
                    assert not arb(math.nextafter(math.nextafter(low, math.inf), math.inf)) <= ball


VERDICTS = (
    # at 2.5 +- 0.1: at least, at most; at 2.5 itself: the same
    (2.0, "CERTIFIED REFUTED CERTIFIED REFUTED"),
    (2.5, "UNDECIDED UNDECIDED CERTIFIED CERTIFIED"),
    (2.75, "REFUTED CERTIFIED REFUTED CERTIFIED"),
)


def verdicts_of(threshold):
    balls, tests = (arb(2.5, 0.1), arb(2.5)), (verdicts.at_least, verdicts.at_most)
    return " ".join(test(ball, threshold).name for ball in balls for test in tests)


@pytest.mark.parametrize(("threshold", "names"), VERDICTS)
def test_thresholds(threshold, names):
    assert verdicts_of(threshold) == names


# The lower bound of eigenvalues.


def is_positive_definite(H, shift):
    """Whether the rational H - shift I is: all its pivots are positive."""
    d = len(H)
    S = [[H[i][j] - (shift if i == j else 0) for j in range(d)] for i in range(d)]
    for k in range(d):
        if S[k][k] <= 0:
            return False
        for i, j in itertools.product(range(k + 1, d), repeat=2):
            S[i][j] -= S[i][k] * S[k][j] / S[k][k]
    return True


@st.composite
def symmetric(draw):
    """Exactly singular, indefinite, nearly singular, and definite matrices of small integers."""
    d = draw(st.integers(1, 4))
    F = draw(hnp.arrays(np.int64, (d, d), elements=st.integers(-9, 9)))
    kind = draw(st.sampled_from(["singular", "indefinite", "nearly singular", "definite"]))
    H = F + F.T if kind == "indefinite" else F @ F.T
    if kind == "singular":
        v = F.copy()
        v[-1] = v[:-1].sum(axis=0) if d > 1 else 0
        H = v @ v.T
    shift = {"nearly singular": 2.0**-40, "definite": 1.0}.get(kind, 0.0)
    scale = draw(st.sampled_from([1.0, 2.0**-300, 2.0**300]))
    return (H + shift * np.eye(d)) * scale


@cases(400)
@given(
    H=symmetric(),
    error=st.sampled_from([0.0, 2.0**-60, 2.0**-10, 1.0]),
    radius=st.sampled_from([0.0, 2.0**-60, 2.0**-10, 1.0]),
    aim=st.one_of(st.floats(-2, 2), st.just(None)),
)
def test_eigenvalue_floor_is_never_above_the_smallest_eigenvalue(H, error, radius, aim):
    d, size = len(H), max(float(np.abs(H).max()), 1e-300)
    least = float(np.linalg.eigvalsh(H)[0])
    target = least * (1 - 1e-9) if aim is None else aim * size
    with ctx.workprec(128):
        balls = arb_mat(d, d, [arb(v, radius * size) for v in H.ravel().tolist()])
        floor = am.lower(linear.eigenvalue_floor(balls, arb(error * size), target))
    if floor == -math.inf:
        return
    # The worst of what is allowed: all of the error, and the radius in every entry.
    exact = [[Fraction(v) for v in row] for row in H.tolist()]
    unit = Fraction(size)
    for sign in (-1, 0, 1):
        worst = [[v + sign * Fraction(radius) * unit for v in row] for row in exact]
        least = Fraction(floor) + Fraction(error) * unit
        assert is_positive_definite(worst, least - unit / 10**30)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_eigenvalues_of_what_is_not_finite(bad):
    for H, error, target in (
        (arb_mat(2, 2, [1, bad, bad, 1]), arb(0), 0.5),
        (arb_mat(2, 2, [1, 0, 0, 1]), arb(bad), 0.5),
        (arb_mat(2, 2, [1, 0, 0, 1]), arb(0), bad),
        (arb_mat(2, 2, [arb(1, math.inf), 0, 0, 1]), arb(0), 0.5),
    ):
        with ctx.workprec(128):
            assert am.lower(linear.eigenvalue_floor(H, error, target)) == -math.inf


def test_the_floor_is_close_where_there_is_one():
    rng = np.random.default_rng(0)
    for d in (1, 2, 5, 20):
        F = rng.normal(size=(d, d))
        H = F @ F.T + 0.1 * np.eye(d)
        least = float(np.linalg.eigvalsh(H)[0])
        with ctx.workprec(128):
            balls = arb_mat(d, d, H.ravel().tolist())
            assert am.lower(linear.eigenvalue_floor(balls, arb(0), 0.999 * least)) >= 0.999 * least


@pytest.mark.parametrize("d", [1, 17, 200, 1000])
def test_products_that_are_all_lost_to_underflow(d):
    """0.49 of the smallest number, a thousand times: each rounds to zero, their sum does not."""
    A, x = np.full((2, d), 2.0**-538), np.full(d, 0.98 * 2.0**-537)
    for rows in (A, to_csr(A)):
        assert contains(Floats().logits(rows, x), exactly(A) @ exactly(x))


@pytest.mark.parametrize("d", [1, 63, 64, 65, 130])
def test_gram_matrices_of_many_tiles(d):
    """Of integers, whose sums are exact in any order."""
    rng = np.random.default_rng(d)
    rows, weights = rng.integers(-9, 9, (2 * d + 7, d)), rng.integers(-9, 9, 2 * d + 7)
    center = rng.integers(-9, 9, d)
    found = linear.gram(weights.astype(float), rows.astype(float), center.astype(float))
    apart = rows - center
    np.testing.assert_array_equal(found.matrix, apart.T @ (weights[:, None] * apart))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 4097])
def test_sums_of_many(n):
    """Of integers exactly; else within the rounding of a sum by halves, and no wider."""
    rng = np.random.default_rng(n)
    whole = rng.integers(-1000, 1000, n)
    assert Floats().sum(Box.of(whole.astype(float))).contains(int(whole.sum()))
    scattered = rng.standard_normal(n) * 10.0 ** rng.integers(-9, 9, n)
    ball = Floats().sum(Box.of(scattered))
    assert ball_holds(ball, exactly(scattered).sum())
    assert float(ball.rad()) <= (math.log2(n) + 6) * 2.0**-53 * np.abs(scattered).sum()


@pytest.mark.parametrize("scale", [1.0, 1e200])
def test_a_wrong_product_is_found_out(scale):
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((140, 90)), scale * rng.standard_normal((90, 7))
    linear.control_product(left @ right, left, right)
    linear.control_product(np.zeros((0, 7)), left[:0], right)
    for i, j in ((0, 0), (139, 6), (17, 3)):
        wrong = left @ right
        wrong[i, j] *= 1 + 1e-10
        with pytest.raises(VoidError, match="matrix products of this machine are wrong"):
            linear.control_product(wrong, left, right)


@pytest.mark.parametrize("shape", [(20_000, 8), (10_485, 50), (1024, 512), (256, 2048)])
@pytest.mark.parametrize("scale", [1.0, 1e-80, 1e120])
def test_products_in_float32_are_found_out(shape, scale):
    rng = np.random.default_rng(0)
    right = rng.standard_normal(shape)
    left = right.T * rng.random(shape[0])
    single = (left.astype(np.float32) @ right.astype(np.float32)).astype(np.float64)
    linear.control_product(scale * left @ right, scale * left, right)
    for wrong in (single, (left @ right).astype(np.float32).astype(np.float64)):
        with pytest.raises(VoidError):
            linear.control_product(scale * wrong, scale * left, right)


def test_no_product_is_wrong_because_it_is_small_or_overflows():
    for weight, entry in ((1e-164, 1e40), (1e-170, 1e90), (1e-300, 1e-10), (1e-308, 1e-308)):
        found = linear.gram(np.full(70, weight), np.full((70, 3), entry), np.zeros(3))
        assert np.isfinite(found.matrix).all()
    with np.errstate(all="ignore"):
        found = linear.gram(np.ones(1), np.zeros((1, 1)), np.array([-1.5e154]))
    assert not np.isfinite(found.matrix).any()


@cases(500)
@given(numbers=arrays(4))
def test_one_step_outward(numbers):
    """At least one float outward, and three at most."""
    for step, way in ((am.up, math.inf), (am._down, -math.inf)):
        found, far = step(numbers), numbers
        for _ in range(3):
            far = np.nextafter(far, way)
        near = np.nextafter(numbers, way)
        known = np.isfinite(found)
        assert (known | ~np.isfinite(far)).all()
        ordered = (near <= found) & (found <= far) if way > 0 else (far <= found) & (found <= near)
        assert (ordered | ~known).all()


def sum_of_grams(scale):
    """With its exact value; each addition rounds up, by nearly half of an ulp."""
    tiny = 2.0**-53 * (1 + 2.0**-20)
    weights = [1.0, *[tiny] * 1000, -(1.0 + 1500 * 2.0**-53)]
    blocks = [linear.gram(np.array([w]), np.array([[scale]]), np.zeros(1)) for w in weights]
    return functools.reduce(operator.add, blocks), exactly(weights).sum() * Fraction(scale) ** 2


@pytest.mark.parametrize("scale", [1.0, 2.0**-300, 2.0**-505])
def test_sums_of_gram_matrices_at_scales_whose_squares_are_lost(scale):
    assert not is_beyond(*sum_of_grams(scale))


def test_threads_leave_the_precision_alone():
    with ctx.workprec(150), concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: (lower(arb(i) / 3), ctx.prec), range(2000)))
    assert {prec for _, prec in found} == {150}
