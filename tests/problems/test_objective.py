"""Definitions 2-9 against a plain transcription of the paper, and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.problems import curvature, objective
from tests.support.exact import transcription
from tests.support.registry import METRICS, PROBLEMS, READINGS, draws, random_problem


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@given(data=st.data())
def test_definitions_agree_with_multiprecision(data, metric, reading):
    draw = data.draw(draws(metric=metric))
    problem, exact = draw.problem(reading, metric), transcription(draw, reading, metric)
    # Rounding of A x moves f by eps |A||x| relative, and log f absolute; everything is Lipschitz
    # in f, or linear in log f with twelve weights below one, but 1/ell_1.
    eps = 2.0**-52 * (4 + draw.A.shape[1]) * (1 + (np.abs(draw.A) @ np.abs(draw.x)).max())
    eps *= (1 + np.abs(draw.b).max()) ** 2
    f = np.array([float(v) for v in exact["f"]])
    np.testing.assert_allclose(problem.f(draw.x), f, rtol=8 * eps, atol=1e-300)
    for name in ("ell", "ell_1", "ell_2"):
        assert abs(float(getattr(problem, name)(draw.x)) - float(exact[name])) <= 40 * eps
    np.testing.assert_allclose(problem.l_reg(draw.x), float(exact["l_reg"]), rtol=1e-12, atol=1e-18)
    ell_1 = float(exact["ell_1"])
    if draw.gamma and ell_1 > 1e-6:
        # |d(1/ell_1)| <= 2 |dc| / ell_1^1.5 or |d ell_1| / ell_1^2
        allowed = 40 * eps * (1 + draw.gamma / ell_1 ** (1.5 if metric == "squared" else 2))
        for name in ("l_copyright", "value"):
            got, want = float(getattr(problem, name)(draw.x)), float(exact[name])
            assert abs(got - want) <= allowed + 1e-12 * abs(want)


def test_barrier_is_infinite_and_gamma_zero_has_none():
    barrier, zero = PROBLEMS["barrier at zero"](), np.zeros(6)
    free = barrier.replace(gamma=0.0)
    assert (barrier.value(zero), free.value(zero)) == (np.inf, 0)
    assert np.isfinite([*free.gradient(zero), *free.hessian(zero).ravel()]).all()


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
def test_copyright_regression_with_gamma_zero_is_softmax_regression(metric, reading):
    marked = random_problem(0, 8, 3, gamma=0.0, w=0.7, reading=reading, metric=metric)
    plain = cr.SoftmaxRegression(marked.A, marked.b, 0.7, metric)
    x = np.random.default_rng(1).normal(size=3)
    np.testing.assert_allclose(plain.value(x), marked.value(x), rtol=1e-15)
    np.testing.assert_allclose(plain.gradient(x), marked.gradient(x), rtol=1e-13)
    np.testing.assert_allclose(plain.hessian(x), marked.hessian(x), rtol=1e-12, atol=1e-14)


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@given(data=st.data())
def test_cross_entropies_are_not_negative_and_fill_the_whole(data, reading):
    draw = data.draw(draws(metric="cross-entropy"))
    problem, x = draw.problem(reading, "cross-entropy"), draw.x
    ell, ell_1, ell_2 = (float(loss(x)) for loss in (problem.ell, problem.ell_1, problem.ell_2))
    assert min(ell, ell_1) >= 0
    assert not np.signbit([ell, ell_1]).any()  # gamma / -0 would be -inf
    rounding = 2.0**-52 * 16 * ell
    assert ell_2 >= (0 if reading == "joint" else -rounding)
    assert abs(ell - ell_1 - ell_2) <= rounding


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("far", [1e3, 1e306, 1e308])  # the last: log f is -inf on two rows
@pytest.mark.parametrize("transform", [lambda function: function, jax.jit])
def test_rows_without_a_target_have_no_part_in_the_cross_entropy(reading, far, transform):
    u = jnp.array([far, 0.5 * far, -far, -far, -far])
    b = jnp.array([0.5, 0.25, 0.0, 0.0, 0.0])
    protected = jnp.array([True, True, True, False, False])
    gamma, w = jnp.array(0.1), jnp.array(0.0)
    terms = objective.Terms(b, protected, gamma, w, reading, "cross-entropy")
    value = transform(lambda u: objective.value(u, terms))
    # f is one-hot: log f is the difference to the largest logit.
    loss = 0.25 * 0.5 * far
    np.testing.assert_allclose(value(u), loss + 0.1 / loss, rtol=1e-15)
    right = np.array([0.25, -0.25, 0, 0, 0]) * (1 - 0.1 / loss / loss)
    for gradient in (jax.grad(value)(u), curvature.value_and_gradient(u, terms)[1]):
        np.testing.assert_allclose(gradient, right, rtol=1e-15)
    at = curvature.curvature(u, terms)
    columns = jax.vmap(lambda z: curvature.hvp(at, z))(jnp.eye(5))
    np.testing.assert_allclose(columns, jax.hessian(value)(u), rtol=1e-12)


@pytest.mark.parametrize("reading", READINGS)
def test_a_protected_target_met_exactly_is_a_barrier_for_a_compiled_cross_entropy_too(reading):
    """As it is in test_mutants.py for one that is not compiled."""
    terms = jnp.array([1.0, 0.0, 0.0]), jnp.arange(3) < 2, 0.1, reading, "cross-entropy"
    value = jax.jit(lambda u: objective.l_copyright(u, *terms))
    assert value(jnp.array([1e3, 0.0, 0.0])) == np.inf


def at_gamma(u, gamma, reading, metric):
    """L at the logits u as a function of gamma, and ell_1, for four rows, two of them protected."""
    b, mask = jnp.array([0.5, 0.25, 0.25, 0.0]), jnp.array([True, True, False, False])
    value = objective.value(u, objective.Terms(b, mask, gamma, jnp.array(0.3), reading, metric))
    return value, objective.ell_1(u, b, mask, reading, metric)


DERIVATIVES = {
    "reverse": jax.grad,
    "forward": jax.jacfwd,
    "jit": lambda f: jax.jit(jax.grad(f)),
    "vmap": lambda f: lambda gamma: jax.vmap(jax.grad(f))(gamma[None])[0],
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mode", DERIVATIVES)
@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_derivative_by_gamma_is_one_over_ell_1_also_at_zero(gamma, mode, metric, reading):
    u, gamma = jnp.array([0.3, -0.2, 0.1, 0.4]), jnp.array(gamma)
    value, loss = lambda g: at_gamma(u, g, reading, metric)[0], at_gamma(u, 0.0, reading, metric)[1]
    assert DERIVATIVES[mode](value)(gamma) == pytest.approx(1 / float(loss), rel=4 * 2.0**-52)
    # L is linear in gamma.
    assert DERIVATIVES[mode](jax.grad(value))(gamma) == 0


@pytest.mark.slow
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
def test_mixed_derivatives_at_gamma_zero(inner, outer, metric, reading):
    u, zero = jnp.array([0.3, -0.2, 0.1, 0.4]), jnp.array(0.0)

    def value(u, gamma):
        return at_gamma(u, gamma, reading, metric)[0]

    def inverse(u):
        return 1 / at_gamma(u, zero, reading, metric)[1]

    for k in (0, 1):
        mixed = outer(inner(value, argnums=k), argnums=1 - k)(u, zero)
        np.testing.assert_allclose(mixed, jax.grad(inverse)(u), rtol=2.0**-45)
    third = outer(jax.hessian(value), argnums=1)(u, zero)
    expected = jax.hessian(inverse)(u)
    np.testing.assert_allclose(third, expected, rtol=0, atol=2.0**-45 * np.abs(expected).max())


@pytest.mark.quick(1)
@pytest.mark.parametrize("low", [-1e3, -300.0])  # ell_1 = 0, and 1e-260: its square underflows
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_without_gamma_the_barrier_has_no_part_in_derivatives_by_the_logits(mode, order, low):
    u, b, mask = jnp.array([low, 0.0, 1.0]), jnp.array([0.0, 0.4, 0.6]), jnp.arange(3) < 1
    terms = objective.Terms(b, mask, jnp.array(0.0), jnp.array(0.0))
    with_term, without = (lambda u: objective.value(u, terms), lambda u: 0.5 * objective.ell(u, b))
    assert with_term(u) == without(u)
    for _ in range(order):
        with_term, without = mode(with_term), mode(without)
    np.testing.assert_array_equal(with_term(u), without(u))


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_derivative_of_the_cross_entropy_by_a_target_of_zero(mode, reading):
    u, b = jnp.array([0.5, -1.0, 0.25, -1e308]), jnp.array([1.0, 0.0, 0.0, 0.0])
    mask = jnp.array([True, True, False, False])
    slope = mode(lambda b: objective.ell(u, b, "cross-entropy"))(b)
    np.testing.assert_allclose(slope, -jax.nn.log_softmax(u), rtol=2.0**-51)
    slope_1 = mode(lambda b: objective.ell_1(u, b, mask, reading, "cross-entropy"))(b)
    log_f_1 = jax.nn.log_softmax(u if reading == "joint" else u[:2])
    np.testing.assert_allclose(slope_1[:2], -log_f_1[:2], rtol=2.0**-51)
    assert slope_1[2:].tolist() == [0.0, 0.0]
    # f is exactly zero there, and -log f beyond all floats.
    far = jnp.array([0.0, -1e308, -1.5e308, 1e308])
    steep = mode(lambda b: objective.ell(far, b, "cross-entropy"))(b.at[0].set(0.0))
    assert steep[2] >= jnp.finfo(float).max


def test_derivatives_by_weights_of_zero():
    u, zero = jnp.array([0.5, -2.0]), jnp.zeros(2)
    loss = lambda w: objective.l_reg(u, w)  # noqa: E731
    assert jax.grad(loss)(zero).tolist() == [0.0, 0.0]
    assert jax.hessian(loss)(zero).tolist() == [[0.25, 0.0], [0.0, 4.0]]
