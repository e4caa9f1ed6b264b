"""One-line bugs in what proves, planted one at a time: each lets a false statement through."""

import copy
import functools
import itertools
import math
import operator
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from flint import arb, arb_mat, ctx

import copyreg_jax as cr
from copyreg_jax.checker import (
    arithmetic,
    check,
    data,
    format,
    linear,
    proofs,
    regions,
    verdicts,
)
from tests.certificates.test_local import convex_problem
from tests.checker.definition import Case, derivatives, exact, in_ellipsoid
from tests.checker.extremes import extreme_case, plain_case
from tests.checker.planted_bugs import BUGS
from tests.checker.test_arithmetic import (
    ball_holds,
    contains,
    exact_gram,
    is_positive_definite,
    to_csr,
)
from tests.checker.test_soundness import has_eigenvalue_below, in_unit_ball
from tests.support.mutants import Rooms, planted

BITS = 700
CHECKER = SimpleNamespace(
    arithmetic=Rooms(arithmetic, linear, verdicts),
    check=Rooms(check, format, verdicts),
    data=data,
    proofs=Rooms(proofs, regions),
)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    """The package computes with overflow and NaN in silence, and scalars in 128 bits."""
    monkeypatch.setattr(data, "_BLOCK", data._BLOCK)  # so that it is set back
    with np.errstate(all="ignore"), ctx.workprec(128):
        yield


# False statements, found one by one: True wherever a version of the modules says what is not so.


def arithmetic_faults(these):
    am, ar, balls = these.arithmetic, these.arithmetic.Floats(), these.arithmetic.Balls(128)
    rng = np.random.default_rng(0)
    for turn in range(30):
        scale = (1.0, 1.0, 1e-160, 1e-320, 1e150)[turn % 5]
        (a, low_a, high_a), (b, low_b, high_b) = (_box(rng, am, scale) for _ in range(2))
        yield not contains(-a, [-v for v in low_a])
        for x, y in itertools.product((low_a, high_a), (low_b, high_b)):
            pairs = list(zip(x, y, strict=True))
            yield not contains(a + b, [v + w for v, w in pairs])
            yield not contains(a - b, [v - w for v, w in pairs])
            yield not contains(a * b, [v * w for v, w in pairs])
        for x in (low_a, high_a):
            yield not contains(ar.square(a), [v * v for v in x])
            yield not ball_holds(ar.sum(a), sum(x))
        over_zero = am.Box(-np.abs(a.lo), np.abs(a.hi))
        yield not contains(ar.square(over_zero), [Fraction(0)] * 8)
        for box in (a, b):
            single = ar.sum(am.Box.of(box.lo))
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
        positive = am.Box(np.abs(a.lo), np.abs(a.lo))
        parts = [Fraction(v) for v in positive.lo.tolist()]
        yield not contains(ar.share(positive, ar.sum(positive)), [v / sum(parts) for v in parts])
        total = float(4 * positive.lo.sum())
        exact_shares = [v / Fraction(total) for v in parts]
        yield total > 0 and not contains(ar.share(positive, arb(total)), exact_shares)
        halves = am.Box(0.5 * positive.lo, positive.lo)
        yield not contains(ar.share(halves, arb(0, 1)), [Fraction(1)] * 8)
        yield from _faults_of_exp(rng, am, ar)
        yield from _faults_of_matrices(rng, these, scale)
    yield ar.sum(am.Box.of(np.array([1e308, 1e308, 1e308]))).is_finite()
    for d in (40, 1000):
        lost = ar.logits(np.full((1, d), 2.0**-538), np.full(d, 0.98 * 2.0**-537))
        yield not contains(lost, [d * Fraction(0.98) / 2**1075])
    yield from _faults_of_small_grams(am)
    none = np.zeros((2, 2))
    yield not (am.Gram(none, arb(0)) + am.Gram(none, arb(1))).error > 0.5
    yield from _faults_of_ends(am)


def _faults_of_small_grams(am):
    """Additions that all round up, at scales whose squares are lost."""
    for scale in (1.0, 2.0**-300):
        tiny = 2.0**-53 * (1 + 2.0**-20)
        weights = [1.0, *[tiny] * 1000, -(1.0 + 1500 * 2.0**-53)]
        blocks = [am.gram(np.array([w]), np.array([[scale]]), np.zeros(1)) for w in weights]
        whole = functools.reduce(operator.add, blocks)
        exact_sum = sum(map(Fraction, weights)) * Fraction(scale) ** 2
        gap = abs(Fraction(float(whole.matrix[0, 0])) - exact_sum)
        yield gap > Fraction(float(whole.error.upper()))


def _box(rng, am, scale):
    low = rng.normal(size=8) * scale
    high = low + np.abs(rng.normal(size=8)) * scale * rng.choice([0, 1e-15, 1])
    return am.Box(low, high), *([Fraction(v) for v in end.tolist()] for end in (low, high))


def _faults_of_exp(rng, am, ar):
    x = np.concatenate([rng.uniform(-2, 2, 20), rng.uniform(-800, 800, 20), [-1000, 709.9, 720]])
    for box in (am.Box(x, x), am.Box(x, x + 1)):
        found = ar.exp(box)
        with ctx.workprec(200):
            for v, low, high in zip(x.tolist(), found.lo.tolist(), found.hi.tolist(), strict=True):
                yield math.isfinite(low) and not arb(low) <= arb(v).exp()
                yield math.isfinite(high) and not arb(high) >= arb(v).exp()
                yield low == math.inf


def _faults_of_matrices(rng, these, scale):
    am, ar = these.arithmetic, these.arithmetic.Floats()
    A, x = rng.normal(size=(4, 40)) * scale, rng.normal(size=40)
    A[1, ::3] = 0
    A[:, 1:20] = -A[:, 21:40] * (1 + 1e-15)  # much cancels
    x[21:40] = x[1:20]
    logits = [sum(Fraction(a) * Fraction(v) for a, v in zip(row, x, strict=True)) for row in A]
    sparse = to_csr(A)
    sparse = these.data.Csr(sparse.data, sparse.indices, sparse.indptr, sparse.d)
    yield not contains(ar.logits(A, x), logits)
    yield not contains(ar.logits(sparse, x), logits)
    yield any(not np.array_equal(sparse.rows(i, i + 2), A[i : i + 2]) for i in range(3))
    rows, center = A[:, :3] / scale, x[:3]
    weights, low, high = _box(rng, am, scale)
    weights, ends = weights[:4], (low[:4], high[:4])
    moments = ar.moments([weights], rows, center)
    for inside in ends:
        for j, ball in enumerate(moments.products.entries()):
            gaps = [Fraction(r) - Fraction(center[j]) for r in rows[:, j]]
            yield not ball_holds(ball, sum(w * g for w, g in zip(inside, gaps, strict=True)))
    single = ar.moments([am.Box.of(weights.lo)], A, np.zeros(40)).products.entries()
    for j, ball in enumerate(single):
        column = [Fraction(v) for v in A[:, j].tolist()]
        yield not ball_holds(ball, sum(w * v for w, v in zip(ends[0], column, strict=True)))
    gram = am.gram(weights.lo, rows, center)
    truth = exact_gram(weights.lo, rows, center)
    for found, factor in ((gram, 1), (gram + gram, 2)):
        pairs = zip(map(Fraction, found.matrix.ravel().tolist()), truth, strict=True)
        with ctx.workprec(400):
            norm = sum((_ball(v - factor * t) ** 2 for v, t in pairs), arb(0)).sqrt()
            yield norm > found.error
    for bound, row in zip(am.norms(A, x).tolist(), A.tolist(), strict=True):
        gaps = [Fraction(a) - Fraction(c) for a, c in zip(row, x.tolist(), strict=True)]
        yield Fraction(bound) ** 2 < sum(gap * gap for gap in gaps)
    for bound, row in zip(am.norms(A, 0 * x).tolist(), A.tolist(), strict=True):
        yield Fraction(bound) ** 2 < sum(Fraction(a) ** 2 for a in row)
    F = rng.integers(-9, 10, size=(3, 3)) * 1.0
    H = F @ F.T + rng.choice([0.0, 1e-9, 1.0]) * np.eye(3)
    least = float(np.linalg.eigvalsh(H)[0])
    for radius, error in itertools.product((0.0, 1e-6), repeat=2):
        with ctx.workprec(128):
            M = arb_mat(3, 3, [arb(v, radius) for v in H.ravel().tolist()])
            target = least - 3.1 * radius - 1.1 * error - 1e-9 * float(np.abs(H).max())
            floor = am.lower(am.eigenvalue_floor(M, arb(error), target))
        if floor > -math.inf:
            worst = [[Fraction(v) - Fraction(radius) for v in row] for row in H.tolist()]
            shift = Fraction(floor) + Fraction(error) - Fraction(1, 10**20)
            yield not is_positive_definite(worst, shift)


def _ball(number):
    return arb(number.numerator) / number.denominator


def _faults_of_ends(am):
    ends = (1.0, 2.0**-70), (0.1, 1e-3), (1.0, 0.0), (5e-324, 0.0), (-3.0, 1.0)
    for (middle, radius), sign in itertools.product(ends, (1, -1)):
        with ctx.workprec(150):
            ball = sign * arb(middle, radius) / 3
            yield not arb(am.lower(ball)) <= ball
            yield not arb(am.upper(ball)) >= ball
    open_, known = arb(2.5, 0.1), arb(2.5)
    names = [
        am.at_least(open_, 2.5), am.at_most(open_, 2.5), am.at_least(known, 2.5),
        am.at_most(known, 2.5), am.at_least(open_, 2.0), am.at_most(open_, 2.0),
        am.at_least(open_, 3.0), am.at_most(open_, 3.0), am.at_least(known, 2.75),
    ]  # fmt: skip
    right = "UNDECIDED UNDECIDED CERTIFIED CERTIFIED CERTIFIED REFUTED REFUTED CERTIFIED REFUTED"
    yield [name.name for name in names] != right.split()


class Known(SimpleNamespace):
    """A case, a point, and the truth about it, its gradient, its Hessian and points around it."""


@functools.cache
def known():
    found = []
    for index in range(120):
        rng = np.random.default_rng((3, index))
        case, x = (extreme_case if index % 4 == 3 else plain_case)(99, index)
        radius = float(10.0 ** rng.uniform(-4, 0))
        around = [x + radius * in_unit_ball(rng, x.size) for _ in range(3)]
        with ctx.workprec(BITS):
            gradient, H = derivatives(case, x.tolist())
            truths = [exact(case, y.tolist()) for y in (x, *around)]
        norm = sum((v * v for v in gradient), arb(0)).sqrt()
        found.append(Known(case=case, x=x, radius=radius, around=around, truth=truths[0],
                           truths=truths[1:], norm=norm, H=H, plain=index % 4 != 3))  # fmt: skip
    return found


def proof_faults(these):
    proofs, am = these.proofs, these.arithmetic
    yield from _faults_of_formulas(these)
    yield from _faults_of_steep_ellipsoids(these)
    yield from _faults_of_laplacians(these)
    for index, k in enumerate(known()):
        data = k.case.instance(sparse=index % 5 == 0, module=these.data)
        these.data._BLOCK = 1 if index % 6 == 0 else 1 << 18  # some in blocks of one row each
        for bits in (53, 128):
            ar = am.arithmetic(bits)
            with ctx.workprec(ar.scalar_bits), np.errstate(all="ignore"):
                point = proofs.at_point(data, ar, k.x)
                yield from _strays(am, {**point.losses._asdict(), "value": point.value}, k.truth)
                if k.plain and bits == 128 and k.truth.margin.rel_accuracy_bits() > 400:  # no tie
                    yield not point.losses.margin.rel_accuracy_bits() > 40
                center = proofs.mean_row(point)
                norm = proofs.gradient_norm(point, center)
                yield norm.is_finite() and k.norm.is_finite() and not norm.overlaps(k.norm)
                here = proofs.in_ball(point, center, 0.0)
                M, error = proofs.hessian_floor(here, center)
                if bits == 128 and all(v.is_finite() for v in (*M.entries(), *k.H.entries())):
                    gap = am.frobenius((M - k.H).mid().entries())
                    yield gap > error + 1e-20 * (1 + am.frobenius(k.H.entries()))
                view = proofs.in_ball(point, center, k.radius)
                mu = _floor(am, *proofs.hessian_floor(view, center))
                for y, truth in zip(k.around, k.truths, strict=True):
                    if np.isfinite(y).all() and k.plain:
                        yield from _strays(am, view.losses._asdict(), truth)
                        yield has_eigenvalue_below(k.case, y, mu)
        if k.plain:
            yield from _faults_of_level_sets(these, data, k)
            yield from _faults_of_ellipsoids(these, k, np.random.default_rng(index))


def _strays(am, balls, truth):
    """Bounds that the truth is beyond."""
    for name, ball in balls.items():
        yield am.lower(ball) > getattr(truth, name)
        yield am.upper(ball) < getattr(truth, name)


def _floor(am, H, error):
    """Close to the smallest eigenvalue that these two allow."""
    middle = am.to_floats(H)
    if not np.isfinite(middle).all():
        return -math.inf
    lost = am.upper(am.frobenius(v - v.mid() for v in H.entries()) + error)
    least = float(np.linalg.eigvalsh(middle)[0])
    return am.lower(am.eigenvalue_floor(H, error, least - 1.02 * lost - 1e-11 * abs(least)))


def _faults_of_level_sets(these, data, k):
    sizes = data.n, data.n1, data.gamma, data.reading, data.metric
    for one in (k.truth, *k.truths):
        level = these.arithmetic.upper(one.value)
        if math.isfinite(level):
            tau = these.proofs.level_set_tau(*sizes, level)
            for other in (k.truth, *k.truths):
                yield bool(other.value <= level) and bool(other.margin < tau)


def _faults_of_ellipsoids(these, k, rng):
    """With a large w, that makes the ellipsoid small, its curvature bound is nearly attained."""
    am, proofs = these.arithmetic, these.proofs
    case = k.case._replace(w=k.case.w + 10.0 ** rng.uniform(-1, 1))
    x = k.x * 10.0 ** rng.uniform(-2, 0)
    data, ar = case.instance(module=these.data), am.Floats()
    with ctx.workprec(BITS):
        truth = exact(case, x.tolist())
        reg = _regularization(case, x)
    level = am.upper(truth.value)
    if not math.isfinite(level):
        return
    with ctx.workprec(128), np.errstate(all="ignore"):
        radius, view = proofs.around_level_set(data, ar, level)
        yield math.isfinite(radius) and arb(radius) < reg
        if not np.isfinite(proofs.row_widths(data)).all():
            return
        losses, mu = view.losses, _floor(am, *proofs.laplacian_floor(view))
    for _ in range(4):
        y = in_ellipsoid(case, radius * in_unit_ball(rng, x.size))
        with ctx.workprec(BITS):
            there = exact(case, y.tolist())
        yield from _strays(am, losses._asdict(), there)
        yield has_eigenvalue_below(case, y, mu)


def _regularization(case, x):
    """||W A x||."""
    u = [sum(arb(a) * v for a, v in zip(row, x.tolist(), strict=True)) for row in case.A.tolist()]
    squares = [(arb(w) * v) ** 2 for w, v in zip(case.w.tolist(), u, strict=True)]
    return sum(squares, arb(0)).sqrt()


def _faults_of_steep_ellipsoids(these):
    """Columns that nearly depend on each other: V is large, and what it loses is needed."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        A = rng.normal(size=(5, 3))
        A[:, 2] = A[:, 0] + A[:, 1] + 10.0 ** rng.uniform(-7, -5) * A[:, 2]
        mask = np.arange(5) < 2
        case = Case(A, np.full(5, 0.2), mask, rng.random(5) + 0.5, 0.0, "joint", "squared")
        data = case.instance(module=these.data)
        with ctx.workprec(BITS):
            widths = these.proofs.row_widths(data).tolist()
            # The largest u_i where ||W A x|| <= 1 is sqrt(a_i^T (A^T W^2 A)^-1 a_i).
            E = arb_mat(5, 3, A.ravel().tolist())
            WE = arb_mat(5, 3, [arb(w) * a for w, r in zip(case.w.tolist(), A.tolist(), strict=True)
                                for a in r])  # fmt: skip
            sizes = E * (WE.transpose() * WE).inv() * E.transpose()
            for i, width in enumerate(widths):
                yield sizes[i, i].sqrt() > width


def _faults_of_laplacians(these):
    """One row with little of f and much of b: the edge to it is worth all that is taken off."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        b = rng.uniform(0, 30, size=2) * [1, 0.1]
        mask = np.array([True, False])
        case = Case(np.eye(2), b, mask, np.zeros(2), 0.0, "joint", "squared")
        x, radius = np.array([rng.uniform(-5, 0), 0]), float(rng.choice([0.0, 0.1, 0.5]))
        ar = these.arithmetic.Floats()
        point = these.proofs.at_point(case.instance(module=these.data), ar, x)
        view = these.proofs.in_ball(point, np.zeros(2), radius)
        M, error = these.proofs.laplacian_floor(view)
        for turn in range(8):
            y = x if turn == 0 else x + radius * in_unit_ball(rng, 2)
            _, H = derivatives(case, y.tolist())
            v = np.linalg.eigh(these.arithmetic.to_floats(H - M))[1][:, 0]
            v = arb_mat(2, 1, v.tolist())
            yield (v.transpose() * (H - M) * v)[0, 0] < -2 * error
    for seed in range(60):
        # A = I shows the degrees themselves, from their definition.
        rng = np.random.default_rng(seed)
        b, x, radius = rng.normal(size=3), rng.normal(size=3) * [3, 1, 0], 0.3
        case = Case(np.eye(3), b, np.arange(3) < 1, np.zeros(3), 0.0, "joint", "squared")
        point = these.proofs.at_point(case.instance(module=these.data), ar, x)
        view = these.proofs.in_ball(point, np.zeros(3), radius)
        proved = np.diag(these.arithmetic.to_floats(these.proofs.laplacian_floor(view)[0]))
        for _ in range(20):
            y = np.exp(x + radius * in_unit_ball(rng, 3))
            f = y / y.sum()
            theta = 2 * f - b - f @ (f - b)
            degrees = f * (np.maximum(f @ theta - theta, 0) + f @ np.maximum(-theta, 0))
            yield not (proved <= -2 * degrees + 1e-12).all()


def _faults_of_formulas(these):
    """Numbers from the formulas' first lines."""
    n, n1, gamma = 5, 2, 0.1
    with ctx.workprec(128):
        tau_c = float(these.proofs.paper_tau(n, n1, gamma, 0.25).mid())
        yield abs(tau_c - (math.sqrt(2 * gamma) / n1 - 0.25 / (n - n1))) > 1e-15
        for reading, metric, level in itertools.product(
            ("joint", "block"), ("squared", "cross-entropy"), (0.5, 0.7, 1.0, 3.0)
        ):
            c = 2 if metric == "squared" else 1
            low, high = gamma / level, math.inf
            if (reading, metric) != ("block", "squared"):
                root = (c * level / 2) ** 2 - c * gamma
                if root < 0:
                    continue
                high = c * level / 2 + math.sqrt(root)
                low = c * gamma / high
            t = min(max(math.sqrt(c * gamma * n1 / n), low), high)
            right = t / n1 - (c * level - t - c * gamma / t) / (n - n1)
            tau = these.proofs.level_set_tau(n, n1, gamma, reading, metric, level)
            yield abs(tau - right) > 1e-12


def data_faults(these):
    """Two instances that differ, but whose descriptions do not; data that must be refused."""
    rng = np.random.default_rng(0)
    A, b, w = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(4)), rng.random(4)
    case = Case(A, b, np.array([True, False, False, False]), w, 0.1, "joint", "squared")
    whole = case.instance(module=data).description()
    changes = (
        {"A": A + np.eye(4, 3)}, {"b": b[::-1].copy()}, {"protected": case.protected[::-1].copy()},
        {"w": w[::-1].copy()}, {"gamma": math.nextafter(0.1, 1)}, {"reading": "block"},
        {"metric": "cross-entropy"},
    )  # fmt: skip
    for change in changes:
        yield case._replace(**change).instance(module=data).description() == whole
    yield whole["n1"] != 1
    ones, shape = np.ones(3), np.array([4, 3])
    parts = np.array([0, 1, 2]), np.array([0, 1, 2, 3, 3])
    others = (
        (2 * ones, *parts), (ones, parts[0][::-1].copy(), parts[1]),
        (ones, parts[0], np.array([0, 1, 2, 2, 3])),
    )  # fmt: skip
    digests = {data.make_csr(*part, shape).hash() for part in ((ones, *parts), *others)}
    yield len(digests) != 4
    two = case._replace(protected=np.array([2, 0, 0, 0], np.uint8).view(bool))
    yield _refuses(data, lambda: two.instance(module=data))
    yield two.instance(module=data).description() != whole
    bad = (
        {"A": A * [np.nan, 1, 1]}, {"b": b * np.inf}, {"w": w * np.nan}, {"gamma": math.nan},
        {"gamma": -1.0}, {"protected": np.zeros(4, bool)}, {"protected": np.ones(4, bool)},
        {"b": -b, "metric": "cross-entropy"}, {"reading": "both"}, {"metric": "other"},
        {"w": w[:3]},
    )  # fmt: skip
    for change in bad:
        yield not _refuses(data, lambda c=change: case._replace(**c).instance(module=data))
    twice = ones, np.array([1, 1, 2]), np.array([0, 2, 3, 3, 3]), shape
    outside = ones, np.array([0, 1, 3]), np.array([0, 1, 2, 3, 3]), shape
    for part in (twice, outside):
        change = case._replace(A=part)
        yield not _refuses(data, lambda change=change: data.make_instance(
            change.A, b, case.protected, w, np.array(0.1), "joint"))  # fmt: skip


def _refuses(data, make):
    """Whether making or describing the instance is refused."""
    try:
        make().description()
    except verdicts.VoidError:
        return True
    return False


# Certificates, and forgeries of them, each of which states what is false or can't be proved.


def _set(document, *place, value):
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value.hex() if isinstance(value, float) else value


def _get(document, *place):
    for key in place:
        document = document[key]
    return float.fromhex(document)


def _shift(name, by):
    def forge(document):
        for end in (0, 1):
            _set(document, "bounds", name, end, value=_get(document, "bounds", name, end) + by)

    return forge


def _claim(name, **values):
    def forge(document):
        for key, value in values.items():
            _set(document, "claims", name, key, value=value(document) if callable(value) else value)

    return forge


def _local(document, key):
    return _get(document, "claims", "local", key)


EVERYTHING = ["-inf", "inf"]


def _short_gradient(d):
    gradient = 0.9 * _local(d, "gradient")
    _claim("local", gradient=gradient, distance=1.01 * gradient / _local(d, "mu"))(d)


def _steep(d):
    """A modulus that is too large, with all that follows from it."""
    _claim("local", mu=100.0, distance=_local(d, "gradient") / 99)(d)


def _margin_of_x(d):
    """What is proved at x, said of the minimizer."""
    low, high = (_get(d, "bounds", "margin", end) for end in (0, 1))
    _claim("local", margin=[(low - 1e-9).hex(), (high + 1e-9).hex()])(d)
    d["claims"]["paper"] = None


def _short_distance(d):
    _claim(
        "local", distance=0.9 * _local(d, "gradient") / _local(d, "mu"),
        margin=EVERYTHING, protected_mass=EVERYTHING, direction="undecided",
    )(d)  # fmt: skip
    d["claims"]["paper"] = None


def _paper_beyond(d):
    """A tau_c within the bounds of the minimizer's margin, said to be reached by it."""
    low, high = (float.fromhex(v) for v in d["claims"]["local"]["margin"])
    n, n1 = d["instance"]["n"], d["instance"]["n1"]
    gamma = float.fromhex(d["instance"]["gamma"])
    eps_2 = (math.sqrt(2 * gamma) / n1 - (0.75 * high + 0.25 * low)) * (n - n1)
    open_ = {"hypothesis": "UNDECIDED", "verdict": "UNDECIDED"}
    d["claims"]["paper"] = {"eps_2": eps_2.hex(), "tau_c": EVERYTHING, **open_,
                            "minimizer": "CERTIFIED"}  # fmt: skip


def _claim_a_trifle(d):
    """As tau, the middle of the bounds of the margin at x, which 53 bits leave open."""
    middle = sum(_get(d, "bounds", "margin", i) for i in (0, 1)) / 2
    _set(d, "claims", "point", "tau", value=math.nextafter(middle, math.inf) + 1e-15)
    d["claims"]["point"]["verdict"] = "CERTIFIED"


FORGERIES = {
    **{f"{name} from above": _shift(name, by=1e-6)
       for name in ("ell_1", "ell_2", "value", "protected_mass", "target_mass")},
    **{f"{name} from below": _shift(name, by=-1e-6)
       for name in ("ell_1", "ell_2", "value", "protected_mass", "target_mass")},
    "tau": _claim_a_trifle,
    "stated verdict": lambda d: d["claims"]["point"].update(verdict="REFUTED"),
    "direction": lambda d: d.update(
        direction="amplified" if d["direction"] == "suppressed" else "suppressed"),
    "level below x": _claim("level_set", value=lambda d: 0.99 * _get(d, "bounds", "value", 0)),
    "level-set tau": _claim("level_set", tau=lambda d: _get(d, "bounds", "margin", 0) - 1e-9),
    "short gradient": _short_gradient,
    "radius without a minimizer": _claim(
        "local", radius=lambda d: 0.9 * _local(d, "gradient") / _local(d, "mu")),
    "short distance": _short_distance,
    "modulus": _steep,
    "wide radius": _claim("local", radius=1e9),
    "margin of x": _margin_of_x,
    "mass of x": lambda d: _claim("local", protected_mass=d["bounds"]["protected_mass"])(d),
    "direction at the minimizer": lambda d: d["claims"]["local"].update(
        direction="amplified" if d["claims"]["local"]["direction"] == "suppressed"
        else "suppressed"),
    "global modulus": _claim("global", mu=1e3),
    "global without convexity": _claim("global", mu=-1.0),
    "global level below x": _claim(
        "global", level=lambda d: 0.999 * _get(d, "bounds", "value", 0)),
    "global level far above": _claim("global", level=1e9),
    "paper beyond": _paper_beyond,
    "paper: tau_c": lambda d: _set(
        d, "claims", "paper", "tau_c", 0, value=_get(d, "claims", "paper", "tau_c", 1) + 1e-6),
    "paper: hypothesis": _claim("paper", eps_2=lambda d: _get(d, "bounds", "ell_2", 0) - 1e-6,
                                tau_c=EVERYTHING, verdict="UNDECIDED", minimizer="UNDECIDED"),
    "digits that are not read": lambda d: _set(
        d, "claims", "point", "tau", value="0x0.00000000000000000000001p-1"),
    "other gamma": lambda d: d["instance"].update(gamma=(0.7).hex()),
    "other data": lambda d: d["instance"]["sha256"].update(w="0" * 64),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Instances of both readings, certificates of points beside their minimizers, and forgeries."""
    folder, found = tmp_path_factory.mktemp("planted"), []
    for seed in itertools.count():
        problem = convex_problem(seed)
        x = np.asarray(cr.solve(problem).x) + np.array([1e-3, -2e-3])
        margin = cr.certify(problem, x).margin
        certificate = cr.certify(problem, x, tau=margin.lower - 0.1)
        local = certificate.local
        if not (certificate.is_global and local) or "undecided" in local.direction:
            continue
        if [problem.reading] == [reading for _, _, _, reading in found]:
            continue
        paths = folder / f"{seed}.json", folder / f"{seed}.npz"
        certificate.save(paths[0])
        cr.save_instance(paths[1], problem)
        forged = {}
        for name, forge in FORGERIES.items():
            document = copy.deepcopy(certificate.document)
            forge(document)
            forged[name] = folder / f"{seed} {len(forged)}.json"
            forged[name].write_bytes(format.canonical(document))
        forged["bytes"] = folder / f"{seed} bytes.json"
        forged["bytes"].write_bytes(paths[0].read_bytes().replace(b"copyreg-jax", b"copyreg-xaj"))
        found.append((*paths, forged, problem.reading))
        if len(found) == 2:
            return found


def check_faults(these, files):
    made = these.check
    for certificate, instance, forged, _ in files:
        yield made.check(certificate, instance).verdict.name != "CERTIFIED"
        for path in forged.values():
            yield made.check(path, instance).verdict.name == "CERTIFIED"
    zero, open_ = arb(0), arb(0.5, 1)
    names = [made.protection(ball, None).name for ball in (zero, open_, arb(1), -arb(1))]
    yield names != ["REFUTED", "UNDECIDED", "CERTIFIED", "REFUTED"]
    yield made.protection(open_, 0.5).name != "UNDECIDED"
    losses = these.proofs.Losses(zero, zero, zero, open_, arb(0.75))
    yield made.direction(losses) != "undecided"
    kinds = these.arithmetic.Verdict
    yield made.worst(kinds.CERTIFIED, kinds.REFUTED, kinds.UNDECIDED).name != "REFUTED"
    yield from _faults_of_controls(*files[0][:2])


def _faults_of_controls(certificate, instance):
    """A version that certifies what is false must find itself out."""
    for name, lie in (
        ("protection", lambda *_: verdicts.Verdict.CERTIFIED),
        ("eigenvalue_floor", lambda *_: arb(10) ** 300),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(check, name, lie)
            verdict = check.check(certificate, instance).verdict.name
        yield verdict != "VOID"


def faults(these, changed, files):
    """Any false statement; those first that are nearest to the changed file."""
    searches = {
        "data": lambda: data_faults(these),
        "arithmetic": lambda: arithmetic_faults(these),
        "proofs": lambda: proof_faults(these),
        "check": lambda: check_faults(these, files),
    }
    nearest = searches.pop(changed)
    return itertools.chain(nearest(), *(search() for search in searches.values()))


@pytest.mark.slow
def test_the_modules_as_they_are(files):
    assert not any(faults(CHECKER, "data", files))


@pytest.mark.quick(6)
@pytest.mark.parametrize(("near", "name"), [(near, name) for near in BUGS for name in BUGS[near]])
def test_bug_is_found(near, name, files):
    known()  # the truth, from other code
    with planted(*BUGS[near][name]):
        assert any(faults(CHECKER, near, files))
