"""The tests can fail: one-line bugs, planted one at a time, are each found by the oracles.

Those in what proves are in tests/checker/test_mutants.py.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import copyreg_jax as cr
from copyreg_jax.lm import protection
from copyreg_jax.matrices import sparse
from copyreg_jax.problems import curvature, objective
from copyreg_jax.theory import constants, level_sets, newton_region, regions_of_convexity
from tests.problems.planted_bugs import (
    BOUNDS_BUGS,
    CURVATURE_BUGS,
    OBJECTIVE_BUGS,
    SPARSE_BUGS,
    UPPER_BOUND_BUGS,
)
from tests.support.exact import transcription
from tests.support.mutants import Rooms, planted
from tests.support.registry import METRICS, READINGS, Draw

BOUNDS = Rooms(constants, regions_of_convexity, newton_region, level_sets, protection)


def instances():
    """Instances of both readings, unequal blocks, points on both sides of b."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        A, b, x = rng.normal(size=(7, 3)), rng.dirichlet(np.ones(7)), rng.normal(size=3)
        mask = np.zeros(7, bool)
        mask[rng.permutation(7)[: 2 + seed % 3]] = True
        yield Draw(A, b, mask, 10.0 ** rng.uniform(-3, 0), rng.random(7), x), READINGS[seed % 2]


@functools.cache
def derivatives():
    """Problems, logits, and the gradient and Hessian of automatic differentiation."""
    facts = []
    for draw, reading in instances():
        for metric in METRICS:
            problem = draw.problem(reading, metric)
            value, x = problem.value, draw.x
            facts.append((problem, problem.logits(x), jax.grad(value)(x), jax.hessian(value)(x)))
    return facts


def disagreement(module) -> float:
    """Largest relative difference to automatic differentiation."""
    worst = 0.0
    for problem, u, *right in derivatives():
        gradient = module.value_and_gradient(u, problem.terms)[1] @ problem.A
        A, at = problem.A, module.curvature(u, problem.terms)
        _, operator = module.linearize(A, at, u)
        forms = (
            module.hessian(A, at),
            module.restrict(at, A.T),
            jnp.stack([module.hvp(at, column) @ A for column in A.T]),
            jnp.stack([module.apply(A, operator, v) for v in jnp.eye(problem.d)]),
        )
        for mine, theirs in ((gradient, right[0]), *((H, right[1]) for H in forms)):
            worst = max(worst, float(np.abs(mine - theirs).max() / np.abs(theirs).max()))
    return worst


def test_the_derivatives_as_they_are():
    assert disagreement(curvature) < 1e-12


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", CURVATURE_BUGS)
def test_bug_in_the_derivatives_is_found(name):
    derivatives()  # by automatic differentiation of what is right
    with planted(*CURVATURE_BUGS[name]):
        assert disagreement(curvature) > 1e-3


def misbound(module) -> float:
    """Largest relative difference to the bound as docs/theory/curvature-bound.md has it."""
    worst = 0.0
    for problem, u, *_ in derivatives():
        terms = problem.terms
        b, mask, gamma = terms.b, terms.protected, terms.gamma
        if terms.metric == "squared":
            continue
        L = float(objective.value(u, dataclasses.replace(terms, w=0 * terms.w)))
        for value in (L, 3 * L):
            t = 2 * float(gamma) / (value + math.sqrt(value**2 - 4 * float(gamma)))
            beta, beta_1 = float(np.sum(b)), float(np.sum(np.where(mask, b, 0)))
            right = beta / 2 + 2 * float(gamma) * beta_1 / t**2 * min(1, 2 * beta_1 / t)
            found = float(module.upper_bound(value, terms))
            worst = max(worst, abs(found / right - 1))
    return worst


def test_the_upper_bound_as_it_is():
    assert misbound(curvature) < 1e-12


@pytest.mark.parametrize("name", UPPER_BOUND_BUGS)
def test_bug_in_the_upper_bound_is_found(name):
    derivatives()
    with planted(*UPPER_BOUND_BUGS[name]):
        assert misbound(curvature) > 1e-3


@functools.cache
def valuations():
    """Instances, metrics, and the transcription's numbers."""
    items = [*instances(), *(_far(item) for item in instances())]
    return [
        (draw, reading, metric, transcription(draw, reading, metric))
        for draw, reading in items
        for metric in METRICS
    ] + [(*item, "cross-entropy", transcription(*item, "cross-entropy")) for item in _edges()]


def misvaluation(module) -> float:
    """Largest relative difference of the definitions to their transcription."""
    worst = 0.0
    for draw, reading, metric, exact in valuations():
        u, b, mask = (jnp.asarray(a) for a in (draw.A @ draw.x, draw.b, draw.protected))
        gamma, w = jnp.asarray(draw.gamma), jnp.asarray(draw.w)
        found = {
            "f_1": jnp.sum(b * module.f_1(u, mask, reading)),
            "c_1": jnp.sum(module.c_1(u, b, mask, reading) ** 2),
            "c": jnp.sum(module.c(u, b) ** 2),
            "ell": module.ell(u, b, metric),
            "ell_1": module.ell_1(u, b, mask, reading, metric),
            "ell_2": module.ell_2(u, b, mask, reading, metric),
            "l_reg": module.l_reg(u, w),
            "l_copyright": module.l_copyright(u, b, mask, gamma, reading, metric),
            "value": module.value(u, module.Terms(b, mask, gamma, w, reading, metric)),
        }
        for name, value in found.items():
            right = float(exact[name])
            error = abs(float(value) - right) / max(abs(right), 1e-3)
            error = 0.0 if value == right else error  # infinite ones
            worst = max(worst, math.inf if math.isnan(error) else error)
    return worst


def _far(item):
    """The same instance with logits in the thousands."""
    draw, reading = item
    return draw._replace(x=1000 * draw.x), reading


def _edges():
    """Rows without a target, one with an f beyond all numbers; a protected target met exactly."""
    b, mask, w = np.array([0.75, 0.25, 0.0, 0.0]), np.arange(4) < 2, np.zeros(4)
    far = Draw(np.eye(4), b, mask, 0.1, w, np.array([1e308, 1e308, 1e3, -1e308]))
    met = Draw(np.eye(4), np.eye(4)[0], mask, 0.1, w, np.array([1e3, 0.0, 0.0, 0.0]))
    yield from ((far, reading) for reading in READINGS)
    yield from ((met, reading) for reading in READINGS)


def test_the_definitions_as_they_are():
    # The rounding of logits in the thousands, 2^-53 * 1e4, is what f loses.
    assert misvaluation(objective) < 1e-10


@pytest.mark.parametrize("name", OBJECTIVE_BUGS)
def test_bug_in_the_definitions_is_found(name):
    with planted(*OBJECTIVE_BUGS[name]):
        assert misvaluation(objective) > 1e-3


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


def misbounds(module) -> int:
    """False statements of a module of bounds about instances that are known."""
    found = 0
    for b in (np.array([0.5, 0.5]), np.array([0.6, -0.8]), np.array([1.0, 0.0])):
        for gamma, e in ((0.0, 1.0), (1.0, 1e-3), (1.0, 1.0), (0.1, 0.5)):
            right = third_derivative_formula(b, gamma, e)
            found += module.third_derivative_bound(b, gamma, e) != pytest.approx(right)
    for _, b, _, gamma, e, least, largest, total in curvatures():
        lower, upper = module.curvature_range(b)
        found += not lower <= least
        found += not upper >= largest
        found += not -module.negative_curvature(lower, upper, gamma, e) <= total
    for b, gamma, e, actual in third_derivatives():
        found += not actual <= module.third_derivative_bound(b, gamma, e)
    b = np.full(4, 0.25)
    faint, none = (module.third_derivative_bound(b, gamma, 0.5) for gamma in (1e-12, 0.0))
    found += faint != pytest.approx(none)
    found += _misregions(module)
    found += module.gamma_for(3.0, 0.2) != pytest.approx(1.8)
    tau = module.cross_entropy_level_set_tau(0.5, 0.2, 3.0)  # t+ = 14.83, sqrt(gamma) = 0.7071
    found += tau != pytest.approx((2 * math.sqrt(0.5) - 3) / 0.8)
    tau = module.cross_entropy_level_set_tau(0.5, 0.9, 1.5)  # sqrt(gamma) lies between the roots
    found += tau != pytest.approx((2 * math.sqrt(0.5) - 1.5) / 0.1)
    tau = module.cross_entropy_level_set_tau(2.0, 0.5, 2.05)  # t- = 1.6
    found += tau != pytest.approx((1.6 + 2 / 1.6 - 2.05) / 0.5)
    return found


def _misbounds_of_cross_entropy(module) -> int:
    found = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        reading = READINGS[seed % 2]
        b = rng.dirichlet(np.full(6, 0.3)) * 2
        problem = cr.CopyrightRegression(
            np.eye(6), b, 3, gamma=0.3, w=rng.random(6), reading=reading, metric="cross-entropy"
        )
        lower, upper = module.curvature_range(b, "cross-entropy")
        found += lower != 0
        found += upper != pytest.approx(1.0)
        x = rng.normal(size=6)
        value, e = float(problem.value(x)), float(problem.ell_1(x))
        floor = module.loss_floor(problem, value)
        found += floor != pytest.approx((value - math.sqrt(value**2 - 1.2)) / 2)
        found += not floor <= e
        modulus = module.strong_convexity(problem, module.Floor(e))
        found += modulus != pytest.approx(float(np.min(problem.w)) ** 2 - 0.3 / e**2)
        found += not modulus <= np.linalg.eigvalsh(problem.hessian(x))[0] + 1e-12
    return found


def _misregions(module) -> int:
    found = _misbounds_of_cross_entropy(module)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        reading = READINGS[seed % 2]
        A, b = rng.normal(size=(8, 3)), rng.dirichlet(np.full(8, 0.3))
        problem = cr.CopyrightRegression(A, b, 3, gamma=0.05, w=rng.random(8), reading=reading)
        x = rng.normal(size=3)
        lam = np.linalg.eigvalsh(problem.hessian(x))[0]
        value, e = float(problem.value(x)), float(problem.ell_1(x))
        floor = module.loss_floor(problem, value)
        found += not floor <= e
        if reading == "joint":
            found += floor != pytest.approx(value - math.sqrt(value**2 - 0.1))
        found += not module.strong_convexity(problem, module.Floor(e)) <= lam + 1e-12
        found += not module.strong_convexity(problem, module.Sublevel(value)) <= lam + 1e-12
        exact_spread = max(np.linalg.norm(a - c) for a in A for c in A)
        found += not exact_spread <= module.spread(problem)
        y = x + 0.3 * rng.normal(size=3) / 3
        radius = float(np.linalg.norm(y - x))
        there = np.linalg.eigvalsh(problem.hessian(y))[0]
        found += not module.strong_convexity(problem, module.Ball(x, radius)) <= there + 1e-12
        around = module.floor_around(problem, x, module.spread(problem) * radius)
        found += not around <= problem.ell_1(y)
        change = module.spread(problem) * 0.1
        right = max(math.sqrt(e) - change / math.sqrt(8), 0) ** 2
        found += module.floor_around(problem, x, change) != pytest.approx(right)
        # On this ball the Hessian at its center decides; on the next, the floor of ell_1.
        third = third_derivative_formula(b, 0.05, module.floor_around(problem, x, 1e-3 * change))
        local = lam - module.spread(problem) ** 3 * third * 1e-4
        found += module.strong_convexity(problem, module.Ball(x, 1e-4)) != pytest.approx(local)
        singular = np.linalg.svd(A, compute_uv=False)
        threshold = module.convexity_threshold(problem, 0.5, 1.0)
        found += threshold.printed != pytest.approx(8 + 80 + 1 / singular[-1] ** 2)
        found += not threshold.usable >= 0.242 + 1 / singular[-1] ** 2 - 1e-9
        lipschitz = module.hessian_lipschitz(problem, 10.0, 0.5)
        printed = math.log(669.2) + 4 * math.log(2) + math.log(100) + 1.5 * math.log(8) + 4000
        found += lipschitz.printed_log != pytest.approx(printed, abs=1e-9)
        third = module.third_derivative_bound(b, 0.05, 0.5)
        found += lipschitz.usable != pytest.approx(module.spread(problem) ** 3 * third)
    plain = cr.SoftmaxRegression(np.eye(4), np.full(4, 0.25), w=0.6)
    modulus = module.strong_convexity(plain, module.Floor(0.1))
    found += modulus != pytest.approx(0.36 - 0.242)
    # Dependent columns: never definite, whatever the rounding.
    for seed in range(20):
        a = np.random.default_rng(seed).normal(size=(6, 2))
        singular = cr.SoftmaxRegression(np.c_[a, a.sum(axis=1)], np.full(6, 1 / 6), w=2.0)
        for region in (module.Floor(0.5), module.Sublevel(1.0), module.Ball(np.ones(3), 1e-9)):
            found += module.strong_convexity(singular, region) > 0
    # Where L is small, 0.3849 sqrt(2 L) is the better lower bound of the curvature; and it is no
    # better than that.
    found += not module.sublevel_curvature(0.02) <= -0.3848 * 0.2
    return found + _misregion_of_newton(module)


def _misregion_of_newton(module) -> int:
    found = 0
    A = np.random.default_rng(1).normal(size=(8, 2))
    for scale, gamma in ((1.0, 1e-3), (3.0, 1e-2), (1.0, 0.0)):
        problem = cr.CopyrightRegression(scale * A, np.full(8, 1 / 8), 3, gamma=gamma)
        # Off the minimizer, so that the distance to it counts.
        x = np.asarray(cr.solve(problem).x) + np.array([1e-6, 0.0])
        region = module.newton_region(problem, x)
        if not region.radius > 0:
            found += 1
            continue
        found += not region.minimizer_within >= 0.99e-6
        # Each condition of docs/theory/constants.md, section 7, from the numbers returned.
        radius, delta, modulus, M, _ = region
        mu = np.linalg.eigvalsh(problem.hessian(x))[0]
        gradient = np.linalg.norm(problem.gradient(x))
        R = math.sqrt(2) * np.linalg.svd(scale * A, compute_uv=False)[0]
        R = min(R, 2 * scale * np.linalg.norm(A - A.mean(axis=0), axis=1).max())
        rho = radius + 2 * delta  # what M must be valid for
        floor = (math.sqrt(problem.ell_1(x)) - R * rho / math.sqrt(8)) ** 2 if gamma else 1.0
        needed = R**3 * third_derivative_formula(np.full(8, 1 / 8), gamma, floor)
        found += not needed * (1 - 1e-9) <= M
        found += not delta * (mu + math.sqrt(mu**2 - 2 * M * gradient)) >= 1.999999 * gradient
        found += not modulus <= (mu - M * delta) * (1 + 1e-9)
        found += not radius + delta <= 2 * modulus / (3 * M) * (1 + 1e-9)
        largest = max(10, np.linalg.norm(scale * A, 2))
        log_radius = math.log(0.1 * modulus) - 1.5 * math.log(8) - 60 * largest**2
        found += region.printed_log_radius != pytest.approx(log_radius)
    return found


def test_the_bounds_as_they_are():
    assert misbounds(BOUNDS) == 0


@pytest.mark.quick(4)
@pytest.mark.parametrize("name", BOUNDS_BUGS)
def test_bug_in_the_bounds_is_found(name):
    try:
        with planted(*BOUNDS_BUGS[name]):
            found = misbounds(BOUNDS)
    except cr.InputError:  # refused: found out, too
        found = 1
    assert found > 0


@functools.cache
def sparse_matrices():
    rng = np.random.default_rng(0)
    shapes = ((9, 5, 0.2), (7, 40, 0.9), (3, 40_000, 0.1))
    return [
        scipy.sparse.csr_array(scipy.sparse.random_array(s[:2], density=s[2], rng=rng))
        for s in shapes
    ]


def sparse_disagreement(module) -> float:
    """Largest absolute difference of products, their derivatives and norms to SciPy."""
    return max(_sparse_disagreement(module, host) for host in sparse_matrices())


def _sparse_disagreement(module, host) -> float:
    A, rng = module.SparseMatrix.from_scipy(host), np.random.default_rng(1)
    n, d = host.shape
    v, V, u = rng.normal(size=d), rng.normal(size=(d, 6)), rng.normal(size=n)
    many, stored = jax.tree.map(lambda leaf: leaf[None], A), module._to_host(A)
    pairs = (
        (A @ v, host @ v),
        (A @ V, host @ V),
        (A @ V[:, :3], host @ V[:, :3]),
        (u @ A, u @ host),
        (jax.vmap(lambda A: A @ v)(many)[0], host @ v),
        (jax.vmap(lambda A: A @ V)(many)[0], host @ V),
        (jax.vmap(lambda P: A @ P)(np.stack([V, 2 * V]))[1], 2 * host @ V),
        (jax.grad(lambda v: u @ (A @ v))(v), u @ host),
        (jax.jvp(lambda v: A @ v, (v,), (2 * v,))[1], 2 * host @ v),
        (stored.toarray(), host.toarray()),
        (stored.nnz, host.nnz),
        (module._column_norms(A), np.sqrt((host * host).sum(axis=0))),
    )
    return max(float(np.abs(mine - theirs).max()) for mine, theirs in pairs)


def test_the_sparse_products_as_they_are():
    assert sparse_disagreement(sparse) < 1e-11


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", SPARSE_BUGS)
def test_a_bug_in_the_sparse_products_is_found(name):
    try:
        with planted(*SPARSE_BUGS[name], compiled=True):
            found = sparse_disagreement(sparse)
    except (TypeError, ValueError, IndexError):  # the shapes disagree
        return
    assert not found < 1e-6
