"""Closed-form derivatives against automatic differentiation, and the curvature bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.problems import curvature, objective
from copyreg_jax.problems.objective import Terms
from tests.support.registry import METRICS, PROBLEMS, READINGS, cases, draws, random_problem


@jax.jit
def by_autodiff(problem, x, v):
    gradient = jax.grad(problem.value)
    return gradient(x), jax.hessian(problem.value)(x), jax.jvp(gradient, (x,), (v,))[1]


@jax.jit
def by_closed_form(problem, x, v):
    return problem.gradient(x), problem.hessian(x), problem.hvp(x, v)


@np.errstate(over="ignore")  # where 1/ell_1^3 is near the largest float, infinity is meant
def sizes(problem, x):
    """Sizes of the terms whose sums gradient and Hessian are: what rounding is relative to.

    grad phi_t = f * (tc - <f, tc>) or <t, b> f - t * b, and its derivative, are sums of terms of
    these sizes. Where they cancel, neither the closed form nor automatic differentiation can be
    more accurate. So does f - b where f is almost b, and with it ell_1, whose powers divide: two
    programs need not round f alike.
    """
    A, b, w = (np.abs(np.asarray(array)) for array in (problem.A, problem.b, problem.w))
    u, mask, gamma = problem.logits(x), np.asarray(problem.protected), float(problem.gamma)
    h = objective.FACTOR[problem.metric]
    f, f_1 = np.asarray(problem.f(x)), np.asarray(problem.f(x))
    if problem.reading == "block":
        f_1 = np.asarray(objective.f_1(u, problem.protected, "block"))
    loss = np.float64(problem.ell_1(x))
    slope = kappa = 0.0  # without a barrier nothing divides by ell_1
    if gamma:
        with np.errstate(all="ignore"):
            slope = gamma / (h * loss**2)
            kappa = 2 / h * slope / loss
            if problem.metric == "squared":
                lost = np.sum(((f_1 + b) * mask) ** 2) ** 0.5 / loss**0.5
                slope, kappa = slope * (1 + 4 * lost), kappa * (1 + 6 * lost)
    if not np.isfinite(kappa):  # ell_1 < 1e-100, from b = f up to rounding
        return np.inf, np.inf

    def phi(f, counted):
        if problem.metric == "squared":
            c = np.where(counted, f + b, 0)
            return f * (c + f @ c), f * (f + c + f @ c)
        mass = b[counted].sum()
        return mass * f + np.where(counted, b, 0), mass * f

    (g, s), (g_1, s_1) = phi(f, np.ones_like(mask)), phi(f_1, mask)
    gradient = (g + slope * g_1 + w**2 * np.abs(np.asarray(u))) @ A
    H = A.T @ ((w**2)[:, None] * A) + kappa * np.outer(g_1 @ A, g_1 @ A)
    for softmax, weights in ((f, s), (f_1, slope * s_1)):
        rows = A + softmax @ A
        H = H + rows.T @ (weights[:, None] * rows)
    return gradient.max(), H.max()


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@cases(400)
@given(data=st.data(), direction=st.integers(0, 2**32 - 1))
def test_closed_forms_equal_autodiff(data, direction, metric, reading):
    draw = data.draw(draws(metric=metric))
    problem = draw.problem(reading, metric)
    v = np.random.default_rng(direction).normal(size=problem.d)
    closed, auto = by_closed_form(problem, draw.x, v), by_autodiff(problem, draw.x, v)
    if not np.isfinite(problem.value(draw.x)):
        assert problem.ell_1(draw.x) == 0  # on the barrier, and nowhere else
        return
    size_g, size_H = sizes(problem, draw.x)
    with np.errstate(over="ignore"):  # as within `sizes`
        scales = (size_g, size_H, size_H * np.abs(v).sum())
    for mine, theirs, scale in zip(closed, auto, scales, strict=True):
        if np.all(np.isfinite(theirs)):  # b = f up to rounding: 1/ell_1^3 overflows
            assert np.all(np.isfinite(mine))
            floor = 64 * 2.0**-52 * scale
            assert np.abs(mine - theirs).max() <= floor


def test_a_large_w_of_rows_that_are_zero_does_not_round_off_the_rest():
    """The Hessian is (a w_1)^2 of the first row, whatever the second row's w is."""
    a, w = 0.75, np.array([2.0**-10, 1e6])
    problem = cr.SoftmaxRegression([[a], [0.0]], [0.0, 0.0], w, metric="cross-entropy")
    assert problem.hessian(np.zeros(1))[0, 0] == (a * w[0]) ** 2


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", PROBLEMS)
def test_hessian_is_symmetric(name):
    problem = PROBLEMS[name]()
    H = problem.hessian(np.random.default_rng(0).normal(size=problem.d))
    assert np.array_equal(H, H.T)


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
def test_closed_forms_depend_on_gamma_as_autodiff_does_also_at_zero(metric, reading):
    problem = random_problem(0, 12, 3, reading=reading, metric=metric)
    x, v = jnp.array([0.3, -0.2, 0.5]), jnp.array([1.0, 0.5, -2.0])

    def forms(function):
        return jax.jacfwd(lambda gamma: function(problem.replace(gamma=gamma), x, v))(0.0)

    for mine, theirs in zip(forms(by_closed_form), forms(by_autodiff), strict=True):
        assert np.abs(theirs).max() > 0.01
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


def test_bound_without_gamma_has_finite_derivatives():
    b, mask, zero = jnp.array([0.5, 0.5]), jnp.array([True, False]), jnp.array(0.0)

    def bound(value, metric):
        return curvature.upper_bound(value, Terms(b, mask, zero, zero, metric=metric))

    # 0.25 + k sqrt(2 L), and half the sum of b.
    slope = curvature.MAX_SECOND_DERIVATIVE / 0.5**0.5
    assert jax.grad(bound)(0.25, "squared") == pytest.approx(slope, rel=1e-15)
    assert jax.grad(bound)(0.25, "cross-entropy") == 0


def test_no_cancellation_where_rows_share_an_offset_or_softmax_is_one_hot():
    # A large common offset of the rows does not change the softmax part of the Hessian.
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(20, 3)), rng.dirichlet(np.ones(20))
    with pytest.warns(cr.NotCoerciveWarning):
        near, far = (cr.SoftmaxRegression(A + shift, b, w=0.0) for shift in (0.0, 2.0**20))
    x = rng.normal(size=3)
    # The entries of A + 2^20 are rounded by 2^-33, and that is all that is lost but a factor.
    np.testing.assert_allclose(far.hessian(x), near.hessian(x), rtol=0, atol=2.0**-33 * 2.0**8)
    with pytest.warns(cr.NotCoerciveWarning):
        steep = cr.SoftmaxRegression(np.array([[40.0], [0.0]]), [0.0, 1.0], w=0.0)
    f = np.exp(-40.0)
    # L = (1 - f)^2 in terms of the small f, so L'' = 1600 (-2 f + O(f^2)): no digit is lost.
    np.testing.assert_allclose(float(steep.hessian([1.0])[0, 0]), -3200 * f, rtol=1e-13)


@cases(300)
@given(
    seed=st.integers(0, 2**32 - 1),
    reading=st.sampled_from(READINGS),
    metric=st.sampled_from(METRICS),
)
def test_curvature_bound_holds_on_the_sublevel_set(seed, reading, metric):
    rng = np.random.default_rng(seed)
    n, scale = 8, 10.0 ** rng.uniform(-2, 1)
    problem = cr.CopyrightRegression(
        np.eye(n), rng.dirichlet(np.full(n, 0.3)) * rng.uniform(0.5, 2), int(rng.integers(2, n)),
        gamma=10.0 ** rng.uniform(-3, 0), w=0.0 + 1e-9, reading=reading, metric=metric,
    )  # fmt: skip
    x = scale * rng.normal(size=n)
    bound = curvature.upper_bound(problem.value(x), problem.terms)
    assert np.linalg.eigvalsh(problem.hessian(x))[-1] <= bound


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
def test_parts_of_the_bound_for_the_cross_entropy(reading):
    mask = jnp.array([True, True, True, False])

    def at(f, b, gamma):
        w = jnp.array(0.0)
        terms = Terms(jnp.asarray(b), mask, jnp.asarray(gamma), w, reading, "cross-entropy")
        return curvature.curvature(jnp.log(jnp.asarray(f)), terms), terms

    # Half of the mass on each of two rows: half the sum of b is reached.
    here, terms = at([0.5 - 1e-9, 0.5 - 1e-9, 1e-9, 1e-9], [0.1, 0.2, 0.3, 0.9], 0.0)
    H = jax.vmap(lambda z: curvature.hvp(here, z))(jnp.eye(4))
    bound = curvature.upper_bound(1.0, terms)
    assert 0.75 * (1 - 1e-6) < np.linalg.eigvalsh(H)[-1] <= bound
    assert float(bound) == pytest.approx(0.75)

    worst = np.zeros(2)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        f, b = rng.dirichlet(np.full(4, 0.1)) + 1e-12, rng.dirichlet(np.full(4, 0.1)) * 3
        here, terms = at(f, b, 1.0)
        b = terms.b
        beta_1, square = jnp.sum(b[:3]), jnp.sum(here.g**2)
        loss = objective.ell_1(jnp.log(jnp.asarray(f)), b, mask, reading, "cross-entropy")
        worst = np.maximum(worst, [square / (beta_1 * loss), square / (2 * beta_1**2)])
    assert np.all(worst <= 1 + 1e-12)
    assert worst[0] > 0.5  # what is thrown away: the entropy of b_1, and Pinsker's 1/2
    assert worst[1] > 0.99


def test_one_norm_of_the_second_derivative_of_softmax():
    """The constant behind the bound, attacked by ascent from many starts."""

    def one_norm(parameters):
        logits, v = parameters
        f, v = jax.nn.softmax(logits), v / jnp.linalg.norm(v)
        centered = v - f @ v
        return jnp.sum(jnp.abs(f * (centered**2 - f @ centered**2)))

    def climbed(start):
        return jax.lax.fori_loop(0, 300, lambda _, p: p + 0.3 * jax.grad(one_norm)(p), start)

    starts = jnp.asarray(np.random.default_rng(0).normal(size=(500, 2, 5)) * 2)
    reached = jax.jit(jax.vmap(lambda start: one_norm(climbed(start))))(starts)
    assert jnp.max(reached) <= curvature.MAX_SECOND_DERIVATIVE * (1 + 1e-12)
    assert jnp.max(reached) > 0.99 * curvature.MAX_SECOND_DERIVATIVE  # so it is sharp


def test_a_restriction_to_a_plane_has_its_digits_with_many_rows():
    """Equal terms: one by one, each would be rounded the same way, and 900 eps of the sum lost."""
    n, eps = 100_000, 2.0**-23
    w2, none, ones = jnp.float32(0.3), jnp.zeros((1, n), jnp.float32), jnp.ones((2, n), jnp.float32)
    H = curvature.restrict(curvature.Curvature(none, none, none[0], none[0, 0], w2), ones)
    # In blocks of 256, and then these n / 256, at worst one by one: half an eps for each.
    assert np.abs(np.float64(H) / (n * float(w2)) - 1).max() <= 0.5 * (256 + n / 256 + 4) * eps


def test_nothing_n_by_n_is_formed():
    n = 20_000  # n x n would be 3.2 GB
    problem = random_problem(0, n, 2)
    text = jax.jit(lambda p, x: p.hessian(x)).lower(problem, jnp.zeros(2)).as_text()
    assert f"{n}x{n}" not in text
    assert f"{n}x2" in text


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
def test_the_linearization_at_zero_is_that_of_every_gamma_and_w(reading, metric):
    """Its products are made of one problem, and taken for another along a path."""
    first = random_problem(0, 30, 4, reading=reading, metric=metric)
    products = curvature.rows_at_zero(first.terms) @ first.A
    v, zero = jnp.array([1.0, -2.0, 0.5, 3.0]), jnp.zeros(4)
    for gamma, w in ((0.0, 2.0), (3.0, 0.5)):
        other = first.replace(gamma=gamma, w=w)
        value, gradient, slope, operator = curvature.linearize_at_zero(other.terms, products)
        np.testing.assert_allclose(value, other.value(zero), rtol=1e-14)
        np.testing.assert_allclose(gradient, other.gradient(zero), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(slope @ other.A, other.gradient(zero), rtol=1e-12, atol=1e-14)
        product, _ = curvature.apply(other.A, operator, v)
        np.testing.assert_allclose(product, other.hvp(zero, v), rtol=1e-12)
