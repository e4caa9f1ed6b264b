"""False statements about instances: True wherever the checker proves what is not so."""

import functools
import itertools
import math
from types import SimpleNamespace
from unittest import mock

import numpy as np
from flint import arb, arb_mat, ctx

from copyreg_jax.checker import data as checker_data, dominance, proofs, regions, theorems
from copyreg_jax.checker.arithmetic import Floats, arithmetic, upper
from copyreg_jax.checker.linear import frobenius, to_floats
from tests.checker.definition import Case, derivatives, exact, in_ellipsoid
from tests.checker.extremes import extreme_case, plain_case
from tests.checker.test_soundness import has_eigenvalue_below, in_unit_ball, modulus, strays

BITS = 700


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


def proof_faults():
    yield from _faults_of_formulas()
    yield from _faults_of_steep_ellipsoids()
    yield from _faults_of_laplacians()
    yield from _faults_of_dominance()
    yield from _faults_of_far_means()
    yield from _faults_of_flat_level_sets()
    yield from _faults_of_shares()
    for index, k in enumerate(known()):
        # Some in blocks of one row each.
        with mock.patch.object(checker_data, "_BLOCK", 1 if index % 6 == 0 else 1 << 18):
            yield from _faults_at_a_point(k, k.case.instance(sparse=index % 5 == 0))
        if k.plain:
            yield from _faults_of_level_sets(k)
            yield from _faults_of_ellipsoids(k, np.random.default_rng(index))


def _faults_at_a_point(k, data):
    for bits in (53, 128):
        ar = arithmetic(bits)
        with ctx.workprec(ar.scalar_bits), np.errstate(all="ignore"):
            point = proofs.at_point(data, ar, k.x)
            yield bool(strays({**point.losses._asdict(), "value": point.value}, k.truth))
            if k.plain and bits == 128 and k.truth.margin.rel_accuracy_bits() > 400:  # no tie
                yield not point.losses.margin.rel_accuracy_bits() > 40
            center = point.survey.center
            norm = point.survey.gradient_norm
            yield norm.is_finite() and k.norm.is_finite() and not norm.overlaps(k.norm)
            here = proofs.in_ball(point, center, 0.0)
            M, error = regions.hessian_floor(here, center)
            if bits == 128 and all(v.is_finite() for v in (*M.entries(), *k.H.entries())):
                gap = frobenius((M - k.H).mid().entries())
                yield gap > error + 1e-20 * (1 + frobenius(k.H.entries()))
            view = proofs.in_ball(point, center, k.radius)
            mu = modulus(*regions.hessian_floor(view, center))
            around = dominance.Around(dominance.at(point), k.radius)
            floor = dominance.floor(around, point.survey.floor) or -math.inf  # zero claims nothing
            for y, truth in zip(k.around, k.truths, strict=True):
                if np.isfinite(y).all() and k.plain:
                    yield bool(strays(view.losses._asdict(), truth))
                    yield bool(strays(around.losses._asdict(), truth))
                    yield has_eigenvalue_below(k.case, y, max(mu, floor))


def _faults_of_level_sets(k):
    case = k.case
    sizes = len(case.b), int(case.protected.sum()), case.gamma, case.reading, case.metric
    for one in (k.truth, *k.truths):
        level = upper(one.value)
        if math.isfinite(level):
            tau = theorems.level_set_tau(*sizes, level)
            for other in (k.truth, *k.truths):
                yield bool(other.value <= level) and bool(other.margin < tau)


def _faults_of_ellipsoids(k, rng):
    """With a large w, that makes the ellipsoid small, its curvature bound is nearly attained."""
    case = k.case._replace(w=k.case.w + 10.0 ** rng.uniform(-1, 1))
    x = k.x * 10.0 ** rng.uniform(-2, 0)
    data, ar = case.instance(), Floats()
    with ctx.workprec(BITS):
        truth = exact(case, x.tolist())
        reg = _regularization(case, x)
    level = upper(truth.value)
    if not math.isfinite(level):
        return
    with ctx.workprec(128), np.errstate(all="ignore"):
        point = proofs.at_point(data, ar, x)
        radius, view = regions.around_level_set(point, level, theorems.least_loss(data))
        yield math.isfinite(radius) and arb(radius) < reg
        if not np.isfinite(regions.row_widths(point)).all():
            return
        losses, mu = view.losses, modulus(*regions.laplacian_floor(view))
        base, eigenvalue = dominance.at_zero(point), point.survey.floor
        around = dominance.around_level_set(base, eigenvalue, level, theorems.least_loss(data))
        floor = 0.0 if around is None else dominance.floor(around, eigenvalue)
    for turn in range(4):
        y = in_ellipsoid(case, radius * in_unit_ball(rng, x.size))
        with ctx.workprec(BITS):
            there = exact(case, y.tolist())
        yield bool(strays(losses._asdict(), there))
        yield has_eigenvalue_below(case, y, mu)
        y = y if turn else x
        with ctx.workprec(BITS):
            there = exact(case, y.tolist())
        if around is not None and there.value <= level:
            yield bool(strays(around.losses._asdict(), there))
            yield has_eigenvalue_below(case, y, floor or -math.inf)


def _regularization(case, x):
    """||W A x||."""
    u = [sum(arb(a) * v for a, v in zip(row, x.tolist(), strict=True)) for row in case.A.tolist()]
    squares = [(arb(w) * v) ** 2 for w, v in zip(case.w.tolist(), u, strict=True)]
    return sum(squares, arb(0)).sqrt()


def _faults_of_steep_ellipsoids():
    """Columns that nearly depend on each other: V is large, and what it loses is needed."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        A = rng.normal(size=(5, 3))
        A[:, 2] = A[:, 0] + A[:, 1] + 10.0 ** rng.uniform(-7, -5) * A[:, 2]
        mask = np.arange(5) < 2
        case = Case(A, np.full(5, 0.2), mask, rng.random(5) + 0.5, 0.0, "joint", "squared")
        data = case.instance()
        with ctx.workprec(BITS):
            point = proofs.at_point(data, Floats(), np.zeros(3))
            widths = regions.row_widths(point).tolist()
            # The largest u_i where ||W A x|| <= 1 is sqrt(a_i^T (A^T W^2 A)^-1 a_i).
            E = arb_mat(5, 3, A.ravel().tolist())
            WE = arb_mat(5, 3, [arb(w) * a for w, r in zip(case.w.tolist(), A.tolist(), strict=True)
                                for a in r])  # fmt: skip
            sizes = E * (WE.transpose() * WE).inv() * E.transpose()
            for i, width in enumerate(widths):
                yield sizes[i, i].sqrt() > width


def _faults_of_laplacians():
    """One row with little of f and much of b: the edge to it is worth all that is taken off."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        b = rng.uniform(0, 30, size=2) * [1, 0.1]
        mask = np.array([True, False])
        case = Case(np.eye(2), b, mask, np.zeros(2), 0.0, "joint", "squared")
        x, radius = np.array([rng.uniform(-5, 0), 0]), float(rng.choice([0.0, 0.1, 0.5]))
        ar = Floats()
        point = proofs.at_point(case.instance(), ar, x)
        view = proofs.in_ball(point, np.zeros(2), radius)
        M, error = regions.laplacian_floor(view)
        for turn in range(8):
            y = x if turn == 0 else x + radius * in_unit_ball(rng, 2)
            _, H = derivatives(case, y.tolist())
            v = np.linalg.eigh(to_floats(H - M))[1][:, 0]
            v = arb_mat(2, 1, v.tolist())
            yield (v.transpose() * (H - M) * v)[0, 0] < -2 * error
    for seed in range(60):
        # A = I shows the degrees themselves, from their definition.
        rng = np.random.default_rng(seed)
        b, x, radius = rng.normal(size=3), rng.normal(size=3) * [3, 1, 0], 0.3
        case = Case(np.eye(3), b, np.arange(3) < 1, np.zeros(3), 0.0, "joint", "squared")
        point = proofs.at_point(case.instance(), ar, x)
        view = proofs.in_ball(point, np.zeros(3), radius)
        proved = np.diag(to_floats(regions.laplacian_floor(view)[0]))
        for _ in range(20):
            y = np.exp(x + radius * in_unit_ball(rng, 3))
            f = y / y.sum()
            theta = 2 * f - b - f @ (f - b)
            degrees = f * (np.maximum(f @ theta - theta, 0) + f @ np.maximum(-theta, 0))
            yield not (proved <= -2 * degrees + 1e-12).all()


def _faults_of_dominance():
    """A = W = I shows the bound of the Hessian by logits; with few rows it is nearly attained."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, metric = int(rng.integers(2, 5)), ("squared", "cross-entropy")[seed % 5 == 4]
        b = rng.dirichlet(np.full(n, 0.5)) * 10.0 ** rng.uniform(-1, 1)
        if metric == "squared" and seed % 3 == 0:
            b = b * rng.choice([-1, 1], size=n)
        mask = np.arange(n) < rng.integers(1, n)
        gamma, reading = float(10.0 ** rng.uniform(-3, 0)), ("joint", "block")[seed % 2]
        case = Case(np.eye(n), b, mask, np.ones(n), gamma, reading, metric)
        x, distance = rng.normal(size=n), float(rng.choice([0.0, 0.05, 0.5]))
        with ctx.workprec(128):
            point = proofs.at_point(case.instance(), arithmetic((53, 128)[seed % 3 == 1]), x)
            bases = (dominance.at(point), x), (dominance.at_zero(point), np.zeros(n))
            for base, middle in bases:
                around = dominance.Around(base, distance)
                losses, least = around.losses._asdict(), 1 - around.shares[0]
                for _ in range(4):
                    y = middle + distance * in_unit_ball(rng, n)
                    truth = exact(case, y.tolist())
                    yield bool(strays(losses, truth))
                    yield around.least_loss > truth.value  # which has L_reg, too
                    yield has_eigenvalue_below(case, y, least)


def _faults_of_far_means():
    """One row on one side of the center and many on the other: f moves by twice the reach."""
    A = np.array([1.0] + [-1.0] * 49)[:, None]
    mask, b, w, radius = np.arange(50) < 1, np.full(50, 0.02), np.ones(50), 0.01
    even = np.array([0.5 * math.log(49)])  # here A^T f = 0
    case = Case(A, b, mask, w, 0.1, "joint", "squared")
    # Those rows as the protected ones, of which the others are the mirror image: A^T f = 0 at 0.
    both, own = np.r_[A, -A], np.arange(100) < 50
    mirror = Case(both, np.eye(100)[0], own, np.ones(100), 0.1, "block", "cross-entropy")
    for one, x, middle in ((case, even, np.zeros(1)), (mirror, np.zeros(1), np.zeros(1))):
        with ctx.workprec(128):
            point = proofs.at_point(one.instance(), Floats(), x)
            for base in (dominance.at(point), dominance.at_zero(point)):
                losses = dominance.Around(base, radius).losses._asdict()
                here = x if base.view is point else middle
                for sign in (-1, 1):
                    truth = exact(one, (here + 0.999 * sign * radius).tolist())
                    yield bool(strays(losses, truth))


def _faults_of_flat_level_sets():
    """With a small W, a point is much farther from zero than ``||W A x||`` says."""
    A, x = np.array([[1.0], [-1.0]]), np.array([0.1])
    case = Case(A, np.full(2, 0.5), np.arange(2) < 1, np.full(2, 0.1), 0.0, "joint", "squared")
    with ctx.workprec(128):
        point, truth = proofs.at_point(case.instance(), Floats(), x), exact(case, x.tolist())
        base, eigenvalue = dominance.at_zero(point), point.survey.floor
        level, least = upper(truth.value), theorems.least_loss(point.data)
        around = dominance.around_level_set(base, eigenvalue, level, least)
        yield bool(strays(around.losses._asdict(), truth))


def _faults_of_shares():
    """The formulas of docs/theory/certificates.md in plain floats, at points without rounding."""
    for seed, reading in itertools.product(range(20), ("joint", "block")):
        rng = np.random.default_rng(seed)
        n, m = 6, np.arange(6) < 3
        A, w, x = rng.normal(size=(n, 2)), rng.uniform(0.5, 2, n), rng.normal(size=2)
        b = rng.normal(size=n) * 10.0 ** rng.uniform(-2, 1, n)
        data, distance = Case(A, b, m, w, 0.1, reading, "squared").instance(), 0.02
        with ctx.workprec(128):
            point = proofs.at_point(data, Floats(), x)
            around = dominance.Around(dominance.at(point), distance)
            ends = around.losses.ell_1.lower(), around.losses.ell_1.upper()
            ks = sorted(0.2 / float(ell_1.mid()) ** 2 for ell_1 in ends)
            reach, found = distance * point.survey.longest, around.shares
        softmaxes = [(m | True, 1 - np.outer(ks[::-1], m))]
        if reading == "block":
            softmaxes = [(m | True, np.ones((2, n))), (m, -np.outer(ks[::-1], m))]
        for sign, share in zip((-1, 1), found, strict=True):
            right = 0.0
            for index, (rows, t) in enumerate(softmaxes):
                f = np.exp(A @ x) * rows
                f /= f.sum()
                gap = distance * float(point.survey.gaps[index].mid())
                F = f * math.exp(min(reach + gap, 2 * reach))
                ahead, away = (np.maximum(s * sign * t, 0).max(axis=0) for s in (1, -1))
                total = ((ahead + away) * F * (2 * F + np.abs(b))).sum()
                each = 0.0
                for group in (m & rows, ~m & rows):
                    sizes = (
                        F,
                        ahead * F * 2 * F,
                        ahead * F * np.maximum(-b, 0),
                        away * F * (b > 0) * b,
                    )
                    most = [np.max((v / w**2)[group], initial=0.0) for v in sizes]
                    each = max(each, 3 * total * most[0] + sum(most[1:]))
                right += 2 * each
            # Radii of balls have 30 bits: the lower end of ell_1, 1/50 of the upper at worst, is
            # off by 2^-29 * 50, and k by twice that.
            yield not abs(share / right - 1) < 1e-6


def _faults_of_formulas():
    """Numbers from the formulas' first lines."""
    n, n1, gamma = 5, 2, 0.1
    with ctx.workprec(128):
        tau_c = float(theorems.paper_tau(n, n1, gamma, 0.25).mid())
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
            tau = theorems.level_set_tau(n, n1, gamma, reading, metric, level)
            yield abs(tau - right) > 1e-12
