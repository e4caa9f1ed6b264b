"""Bugs in the constants and regions, planted one at a time, are each found by known instances."""

import functools
import math

import jax
import numpy as np
import pytest

import copyreg_jax as cr
from copyreg_jax.lm import protection
from copyreg_jax.problems import objective
from copyreg_jax.theory import constants, level_sets, newton_region, regions_of_convexity as regions
from tests.support.mutants import planted
from tests.support.registry import READINGS


@functools.cache
def curvatures():
    """Extreme curvatures of many small instances: what the bounds must be beyond."""
    facts = []
    for seed in range(3000):
        rng = np.random.default_rng(seed)
        n = 2 + seed % 3
        f = rng.dirichlet(np.full(n, 0.6))
        kind = seed // 3 % 4
        b = np.eye(n)[0] if kind < 2 else rng.normal(size=n)
        b = b if kind < 2 else b / np.linalg.norm(b) * (1 if kind == 2 else 3)
        mask = np.arange(n) < rng.integers(1, n)
        gamma, u = 10 ** rng.uniform(-2, 0), np.log(f)
        P = np.eye(n) - np.outer(np.ones(n), f)

        def H(t, f=f, b=b, P=P):
            return P.T @ np.diag(f * (t * f + t * (f - b) - f @ (t * (f - b)))) @ P

        e = float(((f - b)[mask] ** 2).sum())
        g = f * (mask * (f - b) - f @ (mask * (f - b)))
        slope = 2 * gamma / e**2
        whole = H(1 - slope * mask) + 4 * slope / e * np.outer(g, g)
        plain, total = np.linalg.eigvalsh(H(np.ones(n))), np.linalg.eigvalsh(whole)
        facts.append((u, b, mask, gamma, e, plain[0], plain[-1], total[0]))
    return facts


@functools.cache
def third_derivatives():
    """|D^3 L_copyright(v, v, v)| along directions of spread one, with (b, gamma, ell_1)."""

    @jax.jit
    def third(u, v, b, mask, gamma):
        return jax.grad(jax.grad(jax.grad(
            lambda s: objective.l_copyright(u + s * v, b, mask, gamma, "joint")
        )))(0.0)  # fmt: skip

    facts = []
    for u, b, mask, gamma, e, *_ in curvatures()[:600]:
        v = np.random.default_rng(len(facts)).normal(size=len(u))
        facts.append((b, gamma, e, abs(float(third(u, v / np.ptp(v), b, mask, gamma)))))
    return facts


def third_derivative_formula(b, gamma, e):
    """docs/theory/constants.md, section 6, from its first line."""
    k = 0.1251
    phi = [math.sqrt(e / 8), 1 / 8 + math.sqrt(e / 32), 3 / 16 + math.sqrt(2 * e) * k]
    barrier = 2 * phi[2] / e**2 + 24 * phi[0] * phi[1] / e**3 + 48 * phi[0] ** 3 / e**4
    size = b.sum() if (b >= 0).all() else math.sqrt(2) * np.linalg.norm(b)
    size = min(size, math.sqrt(2) * np.linalg.norm(b))
    return 3 / 16 + k * (1 + size) + gamma * barrier


def misbounds():
    """False statements about instances that are known: True for each."""
    for b in (np.array([0.5, 0.5]), np.array([0.6, -0.8]), np.array([1.0, 0.0])):
        for gamma, e in ((0.0, 1.0), (1.0, 1e-3), (1.0, 1.0), (0.1, 0.5)):
            right = third_derivative_formula(b, gamma, e)
            yield constants.third_derivative_bound(b, gamma, e) != pytest.approx(right)
    b = np.full(4, 0.25)
    faint, none = (constants.third_derivative_bound(b, gamma, 0.5) for gamma in (1e-12, 0.0))
    yield faint != pytest.approx(none)
    yield from _misregions()
    yield protection.gamma_for(3.0, 0.2) != pytest.approx(1.8)
    tau = level_sets.cross_entropy_level_set_tau(0.5, 0.2, 3.0)  # t+ = 14.83, sqrt(gamma) = 0.7071
    yield tau != pytest.approx((2 * math.sqrt(0.5) - 3) / 0.8)
    tau = level_sets.cross_entropy_level_set_tau(0.5, 0.9, 1.5)  # sqrt(gamma) is between the roots
    yield tau != pytest.approx((2 * math.sqrt(0.5) - 1.5) / 0.1)
    tau = level_sets.cross_entropy_level_set_tau(2.0, 0.5, 2.05)  # t- = 1.6
    yield tau != pytest.approx((1.6 + 2 / 1.6 - 2.05) / 0.5)
    for _, b, _, gamma, e, least, largest, total in curvatures():
        lower, upper = constants.curvature_range(b)
        yield not lower <= least
        yield not upper >= largest
        yield not -constants.negative_curvature(lower, upper, gamma, e) <= total
    for b, gamma, e, actual in third_derivatives():
        yield not actual <= constants.third_derivative_bound(b, gamma, e)


def _misbounds_of_cross_entropy():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        b, w, reading = rng.dirichlet(np.full(6, 0.3)) * 2, rng.random(6), READINGS[seed % 2]
        problem = cr.CopyrightRegression(np.eye(6), b, 3, 0.3, w, reading, "cross-entropy")
        lower, upper = constants.curvature_range(b, "cross-entropy")
        yield lower != 0
        yield upper != pytest.approx(1.0)
        x = rng.normal(size=6)
        value, e = float(problem.value(x)), float(problem.ell_1(x))
        floor = regions.loss_floor(problem, value)
        yield floor != pytest.approx((value - math.sqrt(value**2 - 1.2)) / 2)
        yield not floor <= e
        modulus = regions.strong_convexity(problem, regions.Floor(e))
        yield modulus != pytest.approx(float(np.min(problem.w)) ** 2 - 0.3 / e**2)
        yield not modulus <= np.linalg.eigvalsh(problem.hessian(x))[0] + 1e-12


def _misregions():
    yield from _misbounds_of_cross_entropy()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        reading = READINGS[seed % 2]
        A, b = rng.normal(size=(8, 3)), rng.dirichlet(np.full(8, 0.3))
        problem = cr.CopyrightRegression(A, b, 3, gamma=0.05, w=rng.random(8), reading=reading)
        x = rng.normal(size=3)
        lam = np.linalg.eigvalsh(problem.hessian(x))[0]
        value, e = float(problem.value(x)), float(problem.ell_1(x))
        floor = regions.loss_floor(problem, value)
        yield not floor <= e
        if reading == "joint":
            yield floor != pytest.approx(value - math.sqrt(value**2 - 0.1))
        for region in (regions.Floor(e), regions.Sublevel(value)):
            yield not regions.strong_convexity(problem, region) <= lam + 1e-12
        exact_spread = max(np.linalg.norm(a - c) for a in A for c in A)
        yield not exact_spread <= constants.spread(problem)
        y = x + 0.3 * rng.normal(size=3) / 3
        radius = float(np.linalg.norm(y - x))
        there = np.linalg.eigvalsh(problem.hessian(y))[0]
        yield not regions.strong_convexity(problem, regions.Ball(x, radius)) <= there + 1e-12
        around = regions.floor_around(problem, x, constants.spread(problem) * radius)
        yield not around <= problem.ell_1(y)
        change = constants.spread(problem) * 0.1
        right = max(math.sqrt(e) - change / math.sqrt(8), 0) ** 2
        yield regions.floor_around(problem, x, change) != pytest.approx(right)
        # On this ball the Hessian at its center decides; on the next, the floor of ell_1.
        third = third_derivative_formula(b, 0.05, regions.floor_around(problem, x, 1e-3 * change))
        local = lam - constants.spread(problem) ** 3 * third * 1e-4
        yield regions.strong_convexity(problem, regions.Ball(x, 1e-4)) != pytest.approx(local)
        singular = np.linalg.svd(A, compute_uv=False)
        threshold = constants.convexity_threshold(problem, 0.5, 1.0)
        yield threshold.printed != pytest.approx(8 + 80 + 1 / singular[-1] ** 2)
        yield not threshold.usable >= 0.242 + 1 / singular[-1] ** 2 - 1e-9
        lipschitz = constants.hessian_lipschitz(problem, 10.0, 0.5)
        printed = math.log(669.2) + 4 * math.log(2) + math.log(100) + 1.5 * math.log(8) + 4000
        yield lipschitz.printed_log != pytest.approx(printed, abs=1e-9)
        third = constants.third_derivative_bound(b, 0.05, 0.5)
        yield lipschitz.usable != pytest.approx(constants.spread(problem) ** 3 * third)
    plain = cr.SoftmaxRegression(np.eye(4), np.full(4, 0.25), w=0.6)
    modulus = regions.strong_convexity(plain, regions.Floor(0.1))
    yield modulus != pytest.approx(0.36 - 0.242)
    # Dependent columns: never definite, whatever the rounding.
    for seed in range(20):
        a = np.random.default_rng(seed).normal(size=(6, 2))
        singular = cr.SoftmaxRegression(np.c_[a, a.sum(axis=1)], np.full(6, 1 / 6), w=2.0)
        for region in (regions.Floor(0.5), regions.Sublevel(1.0), regions.Ball(np.ones(3), 1e-9)):
            yield regions.strong_convexity(singular, region) > 0
    # Where L is small, 0.3849 sqrt(2 L) is the better lower bound of the curvature; and it is no
    # better than that.
    yield not regions.sublevel_curvature(0.02) <= -0.3848 * 0.2
    yield from _misregion_of_newton()


@functools.cache
def near_minimizers():
    """Problems, and points off their minimizers, so that the distance to these counts."""
    A, found = np.random.default_rng(1).normal(size=(8, 2)), []
    for scale, gamma in ((1.0, 1e-3), (3.0, 1e-2), (1.0, 0.0)):
        problem = cr.CopyrightRegression(scale * A, np.full(8, 1 / 8), 3, gamma=gamma)
        found.append((problem, np.asarray(cr.solve(problem).x) + np.array([1e-6, 0.0])))
    return found


def _misregion_of_newton():
    for problem, x in near_minimizers():
        A, gamma = np.asarray(problem.A), float(problem.gamma)
        region = newton_region.newton_region(problem, x)
        if not region.radius > 0:
            yield True
            continue
        yield not region.minimizer_within >= 0.99e-6
        # Each condition of docs/theory/constants.md, section 7, from the numbers returned.
        radius, delta, modulus, M, _ = region
        mu = np.linalg.eigvalsh(problem.hessian(x))[0]
        gradient = np.linalg.norm(problem.gradient(x))
        R = math.sqrt(2) * np.linalg.svd(A, compute_uv=False)[0]
        R = min(R, 2 * np.linalg.norm(A - A.mean(axis=0), axis=1).max())
        rho = radius + 2 * delta  # what M must be valid for
        floor = (math.sqrt(problem.ell_1(x)) - R * rho / math.sqrt(8)) ** 2 if gamma else 1.0
        needed = R**3 * third_derivative_formula(np.full(8, 1 / 8), gamma, floor)
        yield not needed * (1 - 1e-9) <= M
        yield not delta * (mu + math.sqrt(mu**2 - 2 * M * gradient)) >= 1.999999 * gradient
        yield not modulus <= (mu - M * delta) * (1 + 1e-9)
        yield not radius + delta <= 2 * modulus / (3 * M) * (1 + 1e-9)
        largest = max(10, np.linalg.norm(A, 2))
        log_radius = math.log(0.1 * modulus) - 1.5 * math.log(8) - 60 * largest**2
        yield region.printed_log_radius != pytest.approx(log_radius)


@pytest.mark.slow
def test_the_bounds_as_they_are():
    assert not any(misbounds())


BUGS = {
    "ball constants for each other": ("theory.constants:curvature_range",
        '"upper curvature, |b| <= 1"', '"lower curvature, |b| <= 1"'),
    "simplex constants for targets of any sign": ("theory.constants:curvature_range",
        "if (b < 0).any():\n    return ball", ""),
    "Lemma 13 printed with gamma^-2": ("theory.constants:convexity_threshold", "3", "2"),
    "spread of the smallest singular value": ("theory.constants:spread",
        "_, largest = extreme_singular_values(problem.A)",
        "largest, _ = extreme_singular_values(problem.A)"),
    "spread as a radius": ("theory.constants:spread",
        "2 * farthest_row(problem.A)", "farthest_row(problem.A)"),
    "Lemma 14 printed without n": ("theory.constants:hessian_lipschitz",
        "math.log(problem.n)", "0"),
    "third derivative: first factor": ("theory.constants:third_derivative_formula", "4.5", "1.5"),
    "ball: floor of its center": ("theory.regions_of_convexity:_strong_convexity_in_ball",
        "float(R) * radius", "0.0"),
    "ball: rounding added": ("theory.regions_of_convexity:hessian_at",
        "np.linalg.eigvalsh(H)[0] - eps * terms",
        "np.linalg.eigvalsh(H)[0] + 1000000.0 * eps * terms"),
    "readings swapped in the floor": ("theory.regions_of_convexity:loss_floor_formula",
        '"block"', '"joint"'),
    "floor of the other metric": ("theory.regions_of_convexity:loss_floor_formula",
        "2 * (FACTOR[metric] * gamma)**0.5", "(2 * gamma)**0.5"),
    "floor of the cross-entropy as of a squared block": (
        "theory.regions_of_convexity:loss_floor_formula",
        'reading == "block" and metric == "squared"', 'reading == "block"'),
    "the wrong root": ("theory.regions_of_convexity:loss_floor_formula",
        "abs((value - least) * (value + least))**0.5",
        "-(abs((value - least) * (value + least))**0.5)"),
    "cross-entropy: gamma of the square": ("theory.regions_of_convexity:strong_convexity",
        "2", "4"),
    "small losses: |c| <= 2 L": ("theory.regions_of_convexity:sublevel_curvature",
        "(2 * value)**0.5", "2 * value"),
    "Newton: distance forgotten": ("theory.newton_region:newton_region",
        "2 * gradient / (mu + np.sqrt(np.maximum(discriminant, 0)))", "0 * discriminant"),
    "Newton: rho forgotten": ("theory.newton_region:newton_region",
        "np.minimum(2 * modulus / (3 * M), rho - delta)", "2 * modulus / (3 * M)"),
    "Newton: x for its minimizer": ("theory.newton_region:newton_region",
        "np.minimum(2 * modulus / (3 * M), rho - delta) - delta",
        "np.minimum(2 * modulus / (3 * M), rho - delta)"),
    "Newton: curvature at x": ("theory.newton_region:newton_region",
        "mu - M * delta", "mu + 0 * M * delta"),
    "Newton: floor at x": ("theory.newton_region:newton_region",
        "R * rho / math.sqrt(8)", "0 * rho"),
    "Theorem 15 printed with 40": ("theory.newton_region:newton_region", "60", "40"),
    "gamma_for: t for t^2": ("lm.protection:gamma_for",
        "share * (target * target)", "share * target"),
    "level set of the other roots": ("checker.guarantee:guarantee",
        "if t < lowest: t = lowest", ""),
}  # fmt: skip


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", BUGS)
def test_bug_is_found(name):
    for facts in (curvatures, third_derivatives, near_minimizers):
        facts()  # by the package as it is
    with planted(*BUGS[name]):
        try:
            found = any(misbounds())
        except cr.InputError:  # refused: found out, too
            found = True
    assert found
