"""Definitions 2-9 against a plain transcription of the paper, and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import copyreg_jax as cr
from copyreg_jax import objective

from .exact import transcription
from .registry import READINGS, draws


@pytest.mark.parametrize("reading", READINGS)
@given(draw=draws())
def test_definitions_agree_with_multiprecision(draw, reading):
    problem, exact = draw.problem(reading), transcription(draw, reading)
    # Rounding of A x moves f by eps |A||x| relative; everything is Lipschitz in f but 1/ell_1.
    eps = 2.0**-52 * (4 + draw.A.shape[1]) * (1 + (np.abs(draw.A) @ np.abs(draw.x)).max())
    eps *= (1 + np.abs(draw.b).max()) ** 2
    f = np.array([float(v) for v in exact["f"]])
    np.testing.assert_allclose(problem.f(draw.x), f, rtol=8 * eps, atol=1e-300)
    for name in ("ell", "ell_1", "ell_2"):
        assert abs(float(getattr(problem, name)(draw.x)) - float(exact[name])) <= 40 * eps
    np.testing.assert_allclose(problem.l_reg(draw.x), float(exact["l_reg"]), rtol=1e-12, atol=1e-18)
    ell_1 = float(exact["ell_1"])
    if draw.gamma and ell_1 > 1e-6:
        # |d(1/ell_1)| <= 2 |dc| / ell_1^1.5
        allowed = 40 * eps * (1 + draw.gamma / ell_1**1.5)
        for name in ("l_copyright", "value"):
            got, want = float(getattr(problem, name)(draw.x)), float(exact[name])
            assert abs(got - want) <= allowed + 1e-12 * abs(want)


def test_barrier_is_infinite_and_gamma_zero_has_none():
    A, b = np.eye(4), np.full(4, 0.25)
    zero = np.zeros(4)
    assert np.isinf(cr.CopyrightRegression(A, b, 2, gamma=0.1).value(zero))
    free = cr.CopyrightRegression(A, b, 2, gamma=0.0)
    assert free.value(zero) == 0
    assert np.all(np.isfinite(free.gradient(zero)))
    assert np.all(np.isfinite(free.hessian(zero)))
    assert np.all(np.isfinite(jax.grad(free.value)(zero)))


def test_readings_differ_and_block_may_have_negative_ell_2():
    u = jnp.array([5.0, 0.0, 0.0])
    b, mask = jnp.array([0.9, 0.1, 0.0]), jnp.array([False, True, True])
    assert objective.ell_2(u, b, mask, "joint") >= 0
    assert objective.ell_2(u, b, mask, "block") < 0
    np.testing.assert_allclose(objective.f_1(u, mask, "block"), [0, 0.5, 0.5])


@pytest.mark.parametrize("reading", READINGS)
def test_copyright_regression_with_gamma_zero_is_softmax_regression(reading):
    rng = np.random.default_rng(0)
    A, b, x = rng.normal(size=(8, 3)), rng.dirichlet(np.ones(8)), rng.normal(size=3)
    plain = cr.SoftmaxRegression(A, b, w=0.7)
    marked = cr.CopyrightRegression(A, b, 3, gamma=0.0, w=0.7, reading=reading)
    np.testing.assert_allclose(plain.value(x), marked.value(x), rtol=1e-15)
    np.testing.assert_allclose(plain.gradient(x), marked.gradient(x), rtol=1e-13)
    np.testing.assert_allclose(plain.hessian(x), marked.hessian(x), rtol=1e-12, atol=1e-14)


@given(draw=draws())
def test_softmax_does_not_see_a_common_shift_of_the_logits(draw):
    u = jnp.asarray(draw.A @ draw.x)
    # Powers of two shift exactly as long as nothing is rounded away.
    np.testing.assert_allclose(objective.f(u + 2.0), objective.f(u), rtol=1e-9, atol=1e-300)
