"""The parts of NewtonCG: coordinates, inner solver, search in the plane, escape from saddles."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.bench import suite
from copyreg_jax.matrices.sparse import SparseMatrix
from copyreg_jax.problems import curvature, objective
from copyreg_jax.solvers import (
    convexity,
    examination,
    factorizations as factorization,
    krylov,
    newton_cg,
    optimality,
    plane_search,
    preconditioner,
    steps,
)
from tests.support.mutants import planted
from tests.support.registry import METRICS, READINGS, random_problem


@st.composite
def drawn(draw, metric, reading):
    """A problem of one shape, as every new shape is compiled anew, and a point of it."""
    seed = draw(st.integers(0, 2**32 - 1))
    w, gamma = 10.0 ** draw(st.floats(-3, 1)), 10.0 ** draw(st.floats(-4, 1))
    problem = random_problem(seed, 12, 3, reading=reading, metric=metric, w=w, gamma=gamma)
    return problem, 10.0 ** draw(st.floats(-2, 1)) * np.random.default_rng(seed).normal(size=3)


def spectrum(n, d, condition):
    """A with singular values from 1 to 1/condition, and columns of every size."""
    return np.asarray(suite.spectrum(condition, n, d).A) / n**0.5


def near_one(values):
    return 0.99 < values.min() <= values.max() < 1.01


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@given(data=st.data())
def test_operator_is_the_hessian(data, metric, reading):
    problem, x = data.draw(drawn(metric, reading))
    at = curvature.curvature(problem.logits(x), problem.terms)
    H = np.asarray(problem.hessian(x))
    v = np.random.default_rng(0).normal(size=len(x))
    slope = curvature.value_and_gradient(problem.logits(x), problem.terms)[1]
    gradient, operator = curvature.linearize(problem.A, at, slope)
    # Both round sums of n products of |weights|, squares of rows and of the mean rows.
    rows = np.abs(problem.A).sum(axis=1).max()
    weights = np.abs(operator.weights).sum() * rows**2 + np.sum(np.asarray(operator.slope) ** 2)
    eps = 8 * (problem.n + problem.d + 8) * 2.0**-52
    found, logits = curvature.apply(problem.A, operator, v)
    assert np.abs(found - H @ v).max() <= eps * float(weights) * np.abs(v).sum()
    assert np.abs(logits - problem.A @ v).max() <= eps * rows * np.abs(v).max()
    # The slope by the logits is rounded, as a difference of terms of the size of f, and so are the
    # logits, to which it answers by the Hessian.
    reach = (np.abs(problem.A) @ np.abs(x)).max()
    k = objective.FACTOR[metric] * at.kappa * problem.ell_1(x) / 2
    terms = np.abs(slope) + 2 * (at.f[0] + k * at.f[-1]) + at.w2 * reach
    pairs = zip(np.asarray(at.f), np.abs(at.s), strict=True)
    answer = sum(2 * (s + f * s.sum()) for f, s in pairs)
    answer = answer + at.kappa * np.abs(at.g) * np.abs(at.g).sum()
    size = (terms + answer * reach) @ np.abs(problem.A)
    assert (np.abs(gradient - problem.gradient(x)) <= eps * size).all()


@pytest.mark.parametrize("condition", [1e1, 1e4, 1e7, 1e10])
def test_orthogonal_basis(condition):
    A, weights = spectrum(300, 12, condition), np.linspace(0.5, 2.0, 300)
    basis = preconditioner.orthogonal_basis(jnp.asarray(A), jnp.sqrt(weights))
    # The second Gram matrix has entries near one, known to n eps: its eigenvalues are too, unless
    # the first left a condition number above 1e8.
    assert near_one(np.linalg.svd(np.sqrt(weights)[:, None] * A @ basis, compute_uv=False))


def test_orthogonal_basis_of_dependent_columns():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 4))
    A = np.concatenate([A, A[:, :2] @ [[1.0], [3.0]], np.zeros((60, 1))], axis=1)
    basis = preconditioner.orthogonal_basis(jnp.asarray(A), jnp.ones(60))
    values = np.linalg.svd(A @ basis, compute_uv=False)
    np.testing.assert_allclose(values[:4], 1, atol=1e-12)
    assert values[4:].max() < 1e-12
    assert np.abs(basis).max() < 10  # nothing is blown up along the null space


def cholesky(A, dtype):
    n = len(A)
    b = jnp.full(n, 1 / n)
    terms = objective.Terms(b, jnp.zeros(n, bool), jnp.array(0.0), jnp.ones(n))
    return preconditioner.cholesky(jnp.asarray(A), terms, np.dtype(dtype))


@pytest.mark.parametrize(
    ("dtype", "condition", "good"),
    [
        (np.float32, 1e1, True),
        (np.float32, 1e2, True),
        (np.float32, 1e5, False),
        (np.float64, 1e5, True),
        (np.float64, 1e7, False),
        (np.float64, 1e12, False),
    ],
)
def test_a_cholesky_factor_is_used_only_where_its_dtype_resolves(dtype, condition, good):
    A = spectrum(400, 10, condition)
    basis, _, resolved = cholesky(A, dtype)
    assert bool(resolved) == good
    if good:
        assert near_one(np.linalg.svd(A @ np.asarray(basis), compute_uv=False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_columns_get_no_coordinate(dtype):
    A = np.asarray(random_problem(0, 50, 5).A) * [1, 0, 2, 3, 0]
    basis, _, resolved = cholesky(A, dtype)
    assert bool(resolved)
    basis, D = np.asarray(basis), 1 + 1 / len(A) ** 2
    assert not basis[:, [1, 4]].any()
    assert not basis[[1, 4]].any()
    values = np.linalg.svd(D**0.5 * A @ basis, compute_uv=False)
    np.testing.assert_allclose(values, [1, 1, 1, 0, 0], atol=1e-4 if dtype == np.float32 else 1e-12)


def test_a_column_that_underflows_in_float32_is_noticed():
    """Squares of 1e-25 are zero in float32, but the column counts: its part of x is large."""
    A = np.asarray(random_problem(0, 50, 4).A) * [1, 1e-25, 0, 1]
    assert not bool(cholesky(A, np.float32)[2])
    basis, _, resolved = cholesky(A, np.float64)
    assert bool(resolved)
    values = np.linalg.svd((1 + 1 / 50**2) ** 0.5 * A @ np.asarray(basis), compute_uv=False)
    np.testing.assert_allclose(values, [1, 1, 1, 0], atol=1e-12)


@pytest.mark.parametrize("n", [2**12, 2**16])
def test_a_basis_from_float32_leaves_half_of_the_identity(n):
    """Of two columns that differ by 0.06 to 1 %, so that equal addends round to one side."""
    rng, accepted = np.random.default_rng(0), 0
    for signs in (rng.normal(size=n), np.where(np.arange(n) < n / 2, 1.0, -1.0)):
        for _ in range(20):
            a, b = rng.uniform(1, 2, 2)
            apart = 10 ** rng.uniform(-3.2, -2)
            A = np.stack([np.full(n, a), b * (1 + apart * signs)], axis=1)
            basis, _, good = cholesky(A, np.float32)
            accepted += bool(good)
            if good:
                values = np.linalg.svd(A @ np.asarray(basis), compute_uv=False)
                assert values[-1] ** 2 > 1 / 2
    assert accepted > 3


def test_float32_that_overflows_is_noticed():
    assert not bool(cholesky(np.asarray(random_problem(0, 50, 3).A) * 1e30, np.float32)[2])


@pytest.mark.quick(1)
@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("mixed", [True, False])
def test_condition_of_A_does_not_matter(condition, mixed):
    rng = np.random.default_rng(1)
    A = spectrum(500, 16, condition) * 500**0.5
    problem = cr.CopyrightRegression(A, rng.dirichlet(np.full(500, 0.1)), 50, gamma=0.01)
    solution = cr.solve(problem, cr.NewtonCG(mixed=mixed), rtol=1e-8).raise_for_status()
    assert solution.num_steps <= 15
    assert solution.num_hvps <= 60


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["inside", "boundary", "indefinite"]),
    host=st.booleans(),
)
def test_steihaug(seed, kind, host):
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    lam = rng.uniform(0.5, 3.0, 6)
    if kind == "indefinite":
        lam[0] = -1.0
    H, g = jnp.asarray(Q * lam @ Q.T), rng.normal(size=6)
    newton = np.linalg.solve(H, -g)
    radius = {"inside": 2.0, "boundary": 0.5, "indefinite": 2.0}[kind] * np.linalg.norm(newton)
    image = jnp.asarray(rng.normal(size=(9, 6)))
    s, image_of_s, num_hvps, out = krylov.steihaug(
        lambda v: (H @ v, image @ v),
        *map(jnp.asarray, (g, radius, 1e-12)), jnp.zeros(9), host,
    )  # fmt: skip
    # Sums of at most 8 steps, none longer than the radius, of products of 6 terms.
    most = 8 * 8 * 6 * 2.0**-53 * radius * np.abs(image).max()
    np.testing.assert_allclose(image_of_s, image @ s, rtol=0, atol=most)
    assert num_hvps <= 8
    decrease = -(g @ s + 0.5 * s @ H @ s)
    assert decrease >= 0.5 * np.linalg.norm(g) * min(radius, np.linalg.norm(g) / lam.max()) * 0.99
    assert np.linalg.norm(s) <= radius * (1 + 1e-9)
    if kind == "inside":
        assert not out
        np.testing.assert_allclose(s, newton, rtol=1e-8, atol=1e-10)
    else:
        assert out
        np.testing.assert_allclose(np.linalg.norm(s), radius, rtol=1e-9)


def test_a_decrement_in_float32_is_no_coarser_for_the_rounding_of_the_value():
    """Curvature of 1e-6 there: less than is supposed, and an excess that must be seen."""
    H, q = jnp.diag(jnp.array([1, 1e-6], np.float32)), jnp.array([0, 1e-5], np.float32)
    least = optimality.least_curvature(np.dtype(np.float32))
    found, _ = optimality._seen_decrement(lambda s: H @ s, q, jnp.float32(1), 0.1, least, True)
    assert float(found) == pytest.approx(0.01, rel=1e-3)  # sqrt(1e-10 / 1e-6)


@given(seed=st.integers(0, 2**32 - 1), rounding=st.sampled_from([0.0, 1e-20, 1e20]))
def test_a_decrement_is_as_sharp_as_the_rounding_of_the_value_allows(seed, rounding):
    """Within what a residual of a tenth may hide; without a product where any excess is unseen."""
    rng, products, least = np.random.default_rng(seed), [], 0.01
    Q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    H, q = jnp.asarray(Q * rng.uniform(least, 1, 6) @ Q.T), jnp.asarray(rng.normal(size=6))

    def apply(s):
        products.append(s)
        return H @ s

    found, rest = optimality._seen_decrement(apply, q, jnp.asarray(rounding), 0.1, least, True)
    exact, norm = np.sqrt(q @ np.linalg.solve(H, q)), np.linalg.norm(q)
    if rounding == 1e20:
        assert not products
        assert float(found) == pytest.approx(norm / least**0.5)
        return
    # Sums of 6 terms and 6 steps; the condition is 100 at most.
    assert exact * (1 - 1e-12) <= float(found) <= np.sqrt(exact**2 + (0.1 * norm) ** 2 / least)
    assert float(rest) <= 0.1 * norm * (1 + 1e-12)
    assert len(products) <= 8


def searched(problem, x, direction):
    """The logits of x, L there, and the result of a search along a direction of the logits."""
    u = problem.logits(x)
    value, slope = curvature.value_and_gradient(u, problem.terms)
    slopes, Z = jnp.stack([slope @ u, slope @ direction]), jnp.stack([u, direction])
    return u, value, *plane_search.search_plane(Z, slope, slopes, value, None, problem.terms)


def fault_of_search(problem, x, direction):
    """What is wrong with the result of a search from x along a direction of the logits, or None."""
    u, value, found, noise = searched(problem, x, direction)
    if not float(found.value) <= float(value) + float(noise):
        return "L rises"
    if int(found.trials) > plane_search._MAX_TRIALS + 1:  # one more to see the best point again
        return "too many trials"
    if not found.moved and found.c.tolist() != [1.0, 0.0]:
        return "elsewhere without a move"
    there = plane_search.combine(found.c, u, direction)
    again, slope_u = curvature.value_and_gradient(there, problem.terms)
    if not abs(again - found.value) <= 2 * noise:  # as compiled here and there
        return "value of another point"
    # The derivatives are those of the point returned, not of the last trial. Near the barrier
    # ell_1 = 0 they are known to few digits; those of another point have other leading ones.
    H = curvature.curvature(there, problem.terms)
    for mine, theirs in zip((found.slope_u, *found.at), (slope_u, *H), strict=True):
        if not np.allclose(mine, theirs, rtol=1e-3, atol=1e-6 * np.abs(theirs).max()):
            return "derivatives of another point"
    return None


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@given(data=st.data(), length=st.sampled_from([1e-6, 1e-2, 1.0, 30.0, 1e4, -1.0, 0.0]))
def test_search_of_the_plane(data, length, metric, reading):
    """The point returned is in the plane and lower, its derivatives are its own."""
    problem, x = data.draw(drawn(metric, reading))
    z = -problem.A @ problem.gradient(x)
    z = length * z / jnp.maximum(jnp.linalg.norm(z), 1e-300)
    assert fault_of_search(problem, x, z) is None


def hard_searches():
    """Downhill, far too far, uphill, nowhere, and where nothing is finite."""
    for seed in range(4):
        for reading in READINGS:
            problem = random_problem(seed, 12, 3, reading=reading, w=0.02, gamma=0.01)
            x = 3 * np.random.default_rng(seed).normal(size=3)
            z = -problem.A @ problem.gradient(x)
            z = z / jnp.linalg.norm(z)
            for factor in (1.0, 1e4, -1.0, 0.0, np.inf, np.nan):
                yield problem, x, factor * z


@pytest.mark.slow
def test_search_in_hard_directions():
    faults = [fault_of_search(*search) for search in hard_searches()]
    assert faults == [None] * len(faults)


SEARCH = "solvers.plane_search:search_plane"
SEARCH_BUGS = {
    "the last trial is kept": (SEARCH, "~(ready & known)", "~ready"),
    "the best point is not seen again": (SEARCH, "jnp.where(ready, best.c, trial)", "trial"),
    "infinite times zero": (
        "solvers.plane_search:combine", "jnp.where(c[1] == 0, 0, c[1] * second)", "c[1] * second",
    ),
}  # fmt: skip


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", SEARCH_BUGS)
def test_a_bug_in_the_search_is_found(name):
    searches = list(hard_searches())
    with planted(*SEARCH_BUGS[name], compiled=True):
        assert any(fault_of_search(*search) for search in searches)


@given(seed=st.integers(0, 2**32 - 1), convex=st.booleans())
def test_planar_step(seed, convex):
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    lam = 10.0 ** rng.uniform(-3, 3, 2) * (1 if convex else np.array([-1, 1]))
    H, q, radius = Q * lam @ Q.T, rng.normal(size=2), 10.0 ** rng.uniform(-2, 4)
    s, decrease = plane_search._planar_step(jnp.asarray(H), jnp.asarray(q), radius)
    full = -Q @ ((Q.T @ q) / np.abs(lam))
    shorter = min(1, radius / np.linalg.norm(full))
    np.testing.assert_allclose(s, shorter * full, rtol=1e-7, atol=1e-12)
    assert decrease > 0
    np.testing.assert_allclose(decrease, -(q @ s + 0.5 * s @ H @ s), rtol=1e-6)


def test_search_of_the_plane_finds_its_minimum():
    """Against SciPy in the same plane, from a step that is far too long and one far too short."""
    problem = random_problem(3, 60, 6, w=0.3, gamma=0.05)
    x = np.full(6, 0.2)
    p = -np.asarray(problem.gradient(x))
    for factor in (1e-3, 1.0, 1e2):
        _, value, found, _ = searched(problem, x, problem.A @ (factor * p))
        best = scipy.optimize.minimize(
            lambda c, p=factor * p: float(problem.value(c[0] * x + c[1] * p)), found.c, tol=1e-12
        )
        # Its gradient has fallen to a quarter: so has, about fourfold as much, what is left.
        assert float(found.value) - best.fun <= 0.15 * (float(value) - best.fun)


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@given(data=st.data())
def test_convexity_at_a_point_is_never_claimed_wrongly(data, metric, reading):
    problem, x = data.draw(drawn(metric, reading))
    at = curvature.curvature(problem.logits(x), problem.terms)
    c = float(convexity.convexity_bound(at, None))
    if c > -np.inf:  # H >= c W^2
        H = np.asarray(jax.vmap(lambda z: curvature.hvp(at, z))(jnp.eye(problem.n)))
        size = np.abs(H).max() * problem.n
        floor = np.linalg.eigvalsh(H - c * np.diag(np.asarray(problem.w) ** 2))[0]
        assert floor >= -4 * problem.n * 2.0**-52 * size


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("k", [1, 2])
def test_the_sharper_bound_of_convexity_sees_all_that_the_weights_leave(k, dtype):
    """Weights of which N takes 70 to 110 % of the share of W^2 that is tried, in 300 ways."""
    rng, bound = np.random.default_rng(k), jax.jit(convexity.convexity_bound)
    seen = 0
    for n in np.repeat([2, 5, 20], 100):
        f = 0.99 * rng.dirichlet(np.full(n, 10 ** rng.uniform(-1, 1)), size=k) + 0.01 / n
        s = f * rng.normal(-0.5, 1, (k, n))
        s[:, 0] = -np.abs(s[:, 0])
        w2 = 10 ** rng.uniform(-1, 0.5, n)
        share = 0.875 / k * rng.uniform(0.7, 1.1, k)
        s *= (share / [taken(f[[j]], s[[j]], w2) for j in range(k)])[:, None]
        f, s, w2, zero = (x.astype(dtype) for x in (f, s, w2, np.zeros(n)))
        c = float(bound(curvature.Curvature(f, s, zero, zero[0], w2), None))
        # In float64. Sums of n terms, each of a few roundings, at most 1000 times as large as N.
        f, s, w2 = (np.float64(x) for x in (f, s, w2))
        assert c <= max(1 - taken(f, s, w2), 0) + 1000 * 64 * n * np.finfo(dtype).eps
        room = 0.875 / k * w2 - np.maximum(-s, 0).max(axis=0)
        if (share < 0.98 * 0.875 / k).all() and (room > 0.02 * w2).all():
            assert c >= 0.125
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("scale", [2.0**-100, 1.0, 2.0**120])
def test_weights_of_any_scale_hide_no_concavity_in_float32(scale):
    """Half of the rows bend down, and the others have a tenth of their w: N is 20 times W^2."""
    half, zero = np.arange(400) < 200, np.zeros(400)
    f, s, w2 = np.full((1, 400), 1 / 400), -0.8 * half[None], np.where(half, 1, 0.01)
    assert taken(f, s, w2) > 20
    at = (x.astype(np.float32) for x in (f, scale * s, zero, zero[0], scale * w2))
    assert not convexity.convexity_bound(curvature.Curvature(*at), None) > 0


def test_concavity_that_has_underflowed_is_not_taken_for_none():
    """Where s is below 2^-126, but 1,000 of it more than w^2 times ten."""
    f, small = np.full(1000, 1e-6), np.arange(1000) > 0
    f[0] = 1 - 999e-6
    s, w2, zero = -(2.0**-127) * small, np.full(1000, 2.0**-123), np.zeros(1000)
    assert taken(f[None], 2.0**123 * s[None], 2.0**123 * w2) > 10
    at = (x.astype(np.float32) for x in (f[None], s[None], zero, zero[0], w2))
    assert not convexity.convexity_bound(curvature.Curvature(*at), None) > 0


@pytest.mark.parametrize("heavy", [1, 4, 300])
@pytest.mark.parametrize("k", [1, 2])
def test_rows_that_bend_most_are_bounded_by_their_leverage(k, heavy, monkeypatch):
    """Weights of which N takes 20 to 110 % of W^2 in the space of x, in 100 ways."""
    monkeypatch.setattr(convexity, "_HEAVY_ROWS", heavy)
    rng, seen = np.random.default_rng(k), 0
    for d in np.repeat([1, 3], 50):
        n = 12
        A, f = rng.normal(1, 1, (n, d)), rng.dirichlet(np.ones(n), size=k)
        s, w2 = f * rng.normal(-0.5, 1, (k, n)) ** 5, 10 ** rng.uniform(-1, 0.5, n)
        basis = np.linalg.inv(np.linalg.cholesky(2 * A.T * w2 @ A)).T
        rows = 2**0.5 * (A - (f @ A)[:, None]) @ basis
        N = np.einsum("kia,ki,kib->ab", rows, np.maximum(-s, 0), rows)
        s *= rng.uniform(0.2, 1.1) / np.linalg.eigvalsh(N)[-1]
        N = np.einsum("kia,ki,kib->ab", rows, np.maximum(-s, 0), rows)
        exact = 1 - np.linalg.eigvalsh(N)[-1]
        at = curvature.Curvature(*map(jnp.asarray, (f, s, np.zeros(n), 0.0, w2)))
        given = map(jnp.asarray, (f @ A, basis, 2.0))
        c = float(convexity.convexity_by_rows.__wrapped__(jnp.asarray(A), at, *given))
        # Some dozens of roundings of numbers that are, by the condition of W A, below 1000.
        assert c <= exact + 1e-10
        if d == 1 and heavy >= n and exact > 1e-10:
            assert c == pytest.approx(exact, abs=1e-10)
        seen += c > 0
    assert seen > (10 if heavy > 1 else 0)


def test_a_point_whose_convexity_only_the_leverage_of_rows_shows_needs_no_hessian(monkeypatch):
    def none(*arguments, **options):
        raise AssertionError("looked at")

    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(300, 6)), rng.dirichlet(np.full(300, 0.1))
    problem = cr.CopyrightRegression(A, b, 30, gamma=1e-5, w=0.015)
    assert cr.solve(problem).second_order is cr.SecondOrder.EXACT
    monkeypatch.setattr(optimality, "_LARGE_GRAM", 0)
    monkeypatch.setattr(examination, "exact_look", none)
    jax.clear_caches()
    solution = cr.solve(problem).raise_for_status()
    assert solution.second_order is cr.SecondOrder.CONVEX
    H = np.asarray(problem.hessian(solution.x))
    gradient = np.asarray(problem.gradient(solution.x))
    decrement = np.sqrt(gradient @ np.linalg.solve(H, gradient))
    assert decrement <= solution.decrement * (1 + 1e-6)


def taken(f, s, w2):
    """The largest eigenvalue of W^-1 N W^-1, N the negative part of the centered terms."""
    P = (np.eye(len(w2)) - f[:, None]) / np.sqrt(w2)
    N = np.einsum("kij,ki,kil->jl", P, np.maximum(-s, 0), P)
    return np.linalg.eigvalsh(N)[-1]


@pytest.mark.slow
def test_convexity_is_seen_where_w_is_large():
    problem = random_problem(0, 40, 3, w=2.0, gamma=1e-6)
    solution = cr.solve(problem)
    at = curvature.curvature(problem.logits(solution.x), problem.terms)
    assert 0 < convexity.convexity_bound(at, None) <= 1


@pytest.mark.quick(1)
@pytest.mark.parametrize("host", [False, True])
def test_lanczos_finds_an_outlier_and_stops_early_only_where_the_spectrum_is_narrow(host):
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(400, 400)))

    def steps(lam):
        H, products = jnp.asarray(Q * lam @ Q.T), []

        def apply(v):
            jax.debug.callback(products.append, v[0])
            return H @ v

        lowest, direction = krylov.lanczos(apply, jnp.eye(400), host)
        jax.effects_barrier()
        return len(products), float(lowest), direction

    narrow = np.linspace(0.9, 1.1, 400)
    count, lowest, _ = steps(narrow)
    # ln(165 sqrt(400)) / (2 k - 1) squared, times a width of 0.2, is below 0.9 from k = 3 on.
    assert 3 <= count <= 4
    assert 0.9 - 1e-12 <= lowest <= 1
    assert steps(np.linspace(0.01, 1.1, 400))[0] == krylov._LANCZOS_STEPS
    # One negative eigenvalue of which the random start knows a four-hundredth.
    _, lowest, direction = steps(np.concatenate([[-0.2], narrow[1:]]))
    assert lowest == pytest.approx(-0.2, abs=1e-6)
    assert abs(direction @ Q[:, 0]) > 0.999


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 7, 24, 25, 64, 100])
def test_inverse_factor(d, dtype):
    """The inverse of the Cholesky factor that LAPACK finds."""
    rows = np.random.default_rng(d).normal(size=(2 * d + 5, d))
    G = (rows.T @ rows / len(rows)).astype(dtype)
    inverse = np.asarray(factorization.inverse_factor(jnp.asarray(G)))
    assert inverse.dtype == dtype
    L = np.linalg.cholesky(G.astype(np.float64))
    # Both are stable for rows so well conditioned: cond(G) < 40.
    np.testing.assert_allclose(inverse @ L, np.eye(d), atol=40 * d * np.finfo(dtype).eps)
    assert (np.triu(inverse, 1) == 0).all()
    G[d // 2, d // 2] = -1
    assert np.isnan(factorization.inverse_factor(jnp.asarray(G))).any()


def test_no_step_of_the_default_wakes_threads_of_blas():
    """They spin for 100 ms and take cores from all that follows; small matrices wake none."""
    problem = random_problem(0, 300, 100, w=0.3)
    solver = cr.NewtonCG()
    kit = steps.precompute(problem, solver)
    state = steps.initial_state_jit(problem, kit, None, 1e-8, solver)
    programs = [
        preconditioner.cholesky_jit.compiled.lower(problem.A, problem.terms, np.dtype(np.float64)),
        examination.run_jit.compiled.lower(problem, kit, state, 100, 500, 1e-8, solver),
    ]
    text = "\n".join(program.as_text() for program in programs)
    calls = re.findall(r".*custom_call @(?:lapack|blas)_.*", text)
    assert calls  # or it is spelled in another way now
    sizes = [int(size) for line in calls for size in re.findall(r"(\d+)x\d+xf64", line)]
    assert max(sizes) <= factorization._LAPACK_ROWS


@functools.cache
def at_a_saddle():
    """Two equal protected rows, and where gradients lead from the symmetric subspace: they stay."""
    A = np.concatenate([np.eye(6), 0.1 * np.random.default_rng(0).normal(size=(30, 6))])
    A[6:, 1] = A[6:, 0]
    problem = cr.CopyrightRegression(A, np.full(36, 1 / 36), 2, gamma=0.1, w=0.3)
    return problem, cr.solve(problem, cr.GradientDescent(), [1.0, 1.0, 0, 0, 0, 0], rtol=1e-9)


def test_saddle_of_a_large_problem_is_left():
    problem, saddle = at_a_saddle()
    assert saddle.status is cr.Status.SADDLE
    assert saddle.second_order is cr.SecondOrder.NEGATIVE
    assert np.linalg.eigvalsh(problem.hessian(saddle.x))[0] < -1e-3
    solution = cr.solve(problem, cr.NewtonCG(), saddle.x).raise_for_status()
    assert np.linalg.eigvalsh(problem.hessian(solution.x))[0] > 0
    assert solution.value < saddle.value


@pytest.mark.slow
def test_saddle_points_are_left_in_batches_and_under_vmap():
    problem, saddle = at_a_saddle()
    alone = cr.solve(problem, cr.NewtonCG(), saddle.x)
    starts = np.stack([np.asarray(saddle.x) if k % 3 else np.eye(6)[0] for k in range(20)])
    batch = cr.solve_many([problem] * 20, cr.NewtonCG(), starts).raise_for_status()
    np.testing.assert_allclose(batch.value, alone.value, rtol=1e-9)
    mapped = jax.vmap(lambda x0: cr.solve(problem, cr.NewtonCG(), x0))(jnp.asarray(starts))
    np.testing.assert_allclose(mapped.value, alone.value, rtol=1e-9)


@pytest.mark.slow
def test_wide_sparse_problem():
    rng = np.random.default_rng(0)
    A = scipy.sparse.random_array((200, 5000), density=0.02, format="csr", rng=rng)
    problem = cr.CopyrightRegression(A, rng.dirichlet(np.ones(200)), 20, gamma=1e-3, w=0.1)
    solution = cr.solve(problem).raise_for_status()
    assert solution.gradient_norm <= 1e-10 * solution.gradient_size


def matrix_forms(A, folder):
    """A sparse matrix as NewtonCG may meet it."""
    half, files = A.shape[0] // 2, [folder / "0.npz", folder / "1.npz"]
    for file, rows in zip(files, (A[:half], A[half:]), strict=True):
        scipy.sparse.save_npz(file, rows)
    np.save(folder / "A.npy", A.toarray())
    return {
        "sparse": A,
        "sparse files": cr.RowBlocks(files),
        "dense": A.toarray(),
        "dense file": cr.RowBlocks(folder / "A.npy", block_bytes=1 << 12),
    }


def chain(n, d, seed=0):
    """Differences of neighbours: condition number of the order d, and a null space."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, d - 1, n)
    entries = np.concatenate([np.ones(n), -np.ones(n)])
    place = np.tile(np.arange(n), 2), np.concatenate([first, first + 1])
    return scipy.sparse.csr_array((entries, place), shape=(n, d))


def costly(A):
    """A problem that takes many products if A is a chain, and a start."""
    b = np.random.default_rng(1).dirichlet(np.ones(A.shape[0]))
    problem = cr.CopyrightRegression(A, b, A.shape[0] // 10, gamma=1e-6, w=0.3)
    return problem, 3 * np.random.default_rng(2).normal(size=A.shape[1])


@pytest.fixture
def impatient(monkeypatch):
    """A sketch pays at once, and so it does for a dense A. Returns what was made of A."""
    made = []
    sketched = preconditioner.sketched_basis
    monkeypatch.setattr(preconditioner, "_SKETCH_COST", (0, 0))
    monkeypatch.setattr(preconditioner, "_PATIENCE", 10)
    monkeypatch.setattr(preconditioner, "_MAX_GRAM_COLUMNS", 8)
    monkeypatch.setattr(
        newton_cg, "sketched_basis", lambda problem: made.append(sketched(problem)) or made[-1]
    )
    return made


@pytest.mark.slow
@pytest.mark.parametrize("n", [150, 1500])  # of 40 columns: fewer rows than a sketch, and more
@pytest.mark.parametrize("form", ["sparse", "sparse files", "dense", "dense file"])
def test_a_run_that_is_costly_goes_on_with_a_sketch(form, n, impatient, monkeypatch, tmp_path):
    A = chain(n, 40)
    problem, x0 = costly(matrix_forms(A, tmp_path)[form])
    found = cr.solve(problem, x0=x0).raise_for_status()
    (basis,) = impatient
    if n == 150:  # A itself: only the null space is no identity
        small, *others = np.linalg.eigvalsh(basis.T @ (A.T @ A).toarray() @ basis)
        np.testing.assert_allclose(others, others[-1], rtol=1e-3)
        assert small < 1e-3 * others[-1]
    monkeypatch.setattr(preconditioner, "_PATIENCE", preconditioner.NEVER)
    diagonal = cr.solve(problem, x0=x0)
    assert len(impatient) == 1
    assert found.num_hvps < diagonal.num_hvps
    np.testing.assert_allclose(A @ found.x, A @ diagonal.x, atol=1e-8)


@pytest.mark.slow
def test_a_null_space_is_no_way_down_where_curvature_is_sampled(impatient, monkeypatch):
    """Constant vectors, which a sketched basis would stretch a million times."""
    monkeypatch.setattr(newton_cg, "convexity_bound", lambda at, absent: -jnp.inf)
    problem, x0 = costly(chain(700, 520))
    found = cr.solve(problem, x0=x0).raise_for_status()
    assert found.second_order is cr.SecondOrder.SAMPLED
    assert len(impatient) == 1
    assert np.abs(found.x).max() < 100


def test_sketches_are_near_the_gram_matrix():
    """Two sketches of 2 d buckets: eigenvalues within the (1 +- 1/2)^2 of 4 d random rows."""
    A, root = chain(20_000, 30), np.random.default_rng(1).uniform(0.5, 2, 20_000)
    sketch = preconditioner._sketch(SparseMatrix.from_scipy(A), jnp.asarray(root), 64)
    assert sketch.shape == (128, 30)
    G = (A.T @ scipy.sparse.diags_array(root**2) @ A).toarray()
    lam, Q = np.linalg.eigh(G)
    white = Q[:, 1:] / np.sqrt(lam[1:])  # without the null space
    values = np.linalg.svd(sketch @ white, compute_uv=False) ** 2
    assert 0.2 < values[-1] < values[0] < 2.5


@pytest.mark.slow
def test_a_sketch_that_fails_is_done_without(impatient, monkeypatch):
    monkeypatch.setattr(preconditioner, "_lifted_basis", lambda G: G * np.nan)
    problem, x0 = costly(chain(300, 40))
    assert cr.solve(problem, x0=x0).status is cr.Status.CONVERGED
    assert impatient == [None]


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_many_that_are_costly_share_a_sketch(metric, impatient):
    b = np.random.default_rng(1).dirichlet(np.ones(300), size=3)
    A = SparseMatrix.from_scipy(chain(300, 40))
    problems = [cr.CopyrightRegression(A, row, 30, gamma=1e-6, w=0.3, metric=metric) for row in b]
    x0 = 3 * np.random.default_rng(2).normal(size=40)
    found = cr.solve_many(problems, x0=np.tile(x0, (3, 1))).raise_for_status()
    assert len(impatient) == 1
    for one, x in zip(problems, found.x, strict=True):
        np.testing.assert_allclose(one.A @ x, one.A @ cr.solve(one, x0=x0).x, atol=1e-8)


@pytest.mark.slow
def test_second_thoughts_do_not_exceed_max_steps(impatient):
    problem, x0 = costly(chain(300, 40))
    whole = cr.solve(problem, x0=x0)
    for most in range(1, whole.num_steps):
        found = cr.solve(problem, x0=x0, max_steps=most)
        assert (found.status, found.num_steps) == (cr.Status.MAX_STEPS, most)
