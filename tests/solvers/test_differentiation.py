"""Derivatives of minimizers against differences of minimizers solved anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import copyreg_jax as cr
from tests.registry import random_problem

H = 1e-5
# Central differences: H^2 times a third derivative, and the error of x, 1e-13 or so, over H.
TOLERANCE = {"rtol": 3e-6, "atol": 3e-8}


def rebuild(p, **new):
    parts = {"A": p.A, "b": p.b, "protected": p.protected, "gamma": p.gamma, "w": p.w} | new
    return cr.CopyrightRegression(**parts, reading=p.reading, metric=p.metric)


def minimizer(p, **new):
    return cr.solve(rebuild(p, **new), rtol=1e-13).x


@pytest.mark.parametrize(
    ("name", "metric", "reading"),
    [(name, "squared", "joint") for name in ("gamma", "w", "b", "A")]
    + [
        ("b", "cross-entropy", "joint"),
        ("gamma", "squared", "block"),
        ("w", "cross-entropy", "block"),
    ],
)
def test_derivative_of_the_minimizer(name, metric, reading):
    p = random_problem(4, 24, 3, w=0.5, gamma=0.05, reading=reading, metric=metric)
    value = jnp.asarray(getattr(p, name))
    change = np.random.default_rng(0).normal(size=value.shape)
    change = change * (np.asarray(value) if name == "b" else 1)  # the cross-entropy needs b >= 0
    expected = (
        minimizer(p, **{name: value + H * change}) - minimizer(p, **{name: value - H * change})
    ) / (2 * H)
    _, forward = jax.jvp(lambda v: minimizer(p, **{name: v}), (value,), (jnp.asarray(change),))
    np.testing.assert_allclose(forward, expected, **TOLERANCE)
    y = np.random.default_rng(1).normal(size=3)
    backward = jax.grad(lambda v: minimizer(p, **{name: v}) @ y)(value)
    np.testing.assert_allclose(jnp.sum(backward * change), expected @ y, **TOLERANCE)


def test_losses_have_the_derivatives_of_the_minimizer_too():
    p = random_problem(4, 24, 3, w=0.5, gamma=0.05)

    def ell_1(gamma):
        return cr.solve(rebuild(p, gamma=gamma), rtol=1e-13).ell_1

    expected = (ell_1(0.05 + H) - ell_1(0.05 - H)) / (2 * H)
    np.testing.assert_allclose(jax.grad(ell_1)(0.05), expected, **TOLERANCE)
    # By the envelope theorem: dL/dgamma at the minimizer is 1 / ell_1.
    slope = jax.grad(lambda gamma: cr.solve(rebuild(p, gamma=gamma)).value)(0.05)
    assert slope == pytest.approx(1 / float(ell_1(0.05)), rel=1e-8)


def test_under_jit_and_vmap():
    p = random_problem(4, 24, 3, w=0.5)
    gammas = jnp.array([0.01, 0.1, 1.0])

    def norm(gamma):
        return jnp.sum(cr.solve(rebuild(p, gamma=gamma), rtol=1e-12).x ** 2)

    batch = jax.jit(jax.vmap(jax.value_and_grad(norm)))(gammas)
    for k, gamma in enumerate(gammas):
        np.testing.assert_allclose(batch[1][k], jax.grad(norm)(gamma), rtol=1e-8)


def test_dependent_columns_take_the_least_change():
    A = np.random.default_rng(0).normal(size=(20, 2))
    A = np.concatenate([A, A[:, :1]], axis=1)
    p = cr.CopyrightRegression(A, np.random.default_rng(1).dirichlet(np.ones(20)), 5, w=0.5)
    slope = np.asarray(jax.jacobian(lambda gamma: minimizer(p, gamma=gamma))(0.1))
    assert np.isfinite(slope).all()
    assert slope[0] == pytest.approx(slope[2], rel=1e-8)
    logits = (A @ (minimizer(p, gamma=0.1 + H) - minimizer(p, gamma=0.1 - H))) / (2 * H)
    np.testing.assert_allclose(A @ slope, logits, **TOLERANCE)


def test_sparse_problems_with_respect_to_the_rest():
    A = scipy.sparse.random_array((40, 5), density=0.4, rng=np.random.default_rng(0))
    p = cr.CopyrightRegression(A, np.random.default_rng(1).dirichlet(np.ones(40)), 9, w=0.5)

    def x(gamma):
        return cr.solve(p.replace(gamma=gamma), rtol=1e-13).x

    expected = (x(0.1 + H) - x(0.1 - H)) / (2 * H)
    np.testing.assert_allclose(jax.jacobian(x)(0.1), expected, **TOLERANCE)


def test_derivative_by_the_start_is_zero():
    p = random_problem(4, 24, 3)
    slope = jax.grad(lambda x0: jnp.sum(cr.solve(p, x0=x0).x))(jnp.full(3, 0.1))
    assert slope.tolist() == [0.0, 0.0, 0.0]
