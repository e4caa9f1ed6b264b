"""Derivatives of minimizers against differences of minimizers solved anew."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import copyreg_jax as cr
from copyreg_jax.solvers import implicit
from tests.support.registry import SOLVERS, random_problem

H = 1e-5
# Central differences: H^2 times a third derivative, and the error of x, 1e-13 or so, over H.
TOLERANCE = {"rtol": 3e-6, "atol": 3e-8}


def rebuild(p, **new):
    parts = {"A": p.A, "b": p.b, "protected": p.protected, "gamma": p.gamma, "w": p.w} | new
    return cr.CopyrightRegression(**parts, reading=p.reading, metric=p.metric)


def minimizer(p, **new):
    return cr.solve(rebuild(p, **new), rtol=1e-13).x


@pytest.mark.slow
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
    up, down = (minimizer(p, **{name: value + h * change}) for h in (H, -H))
    expected = (up - down) / (2 * H)
    _, forward = jax.jvp(lambda v: minimizer(p, **{name: v}), (value,), (jnp.asarray(change),))
    np.testing.assert_allclose(forward, expected, **TOLERANCE)
    y = np.random.default_rng(1).normal(size=3)
    backward = jax.grad(lambda v: minimizer(p, **{name: v}) @ y)(value)
    np.testing.assert_allclose(jnp.sum(backward * change), expected @ y, **TOLERANCE)


@pytest.mark.slow
def test_losses_have_the_derivatives_of_the_minimizer_too():
    p = random_problem(4, 24, 3, w=0.5, gamma=0.05)

    def ell_1(gamma):
        return cr.solve(rebuild(p, gamma=gamma), rtol=1e-13).ell_1

    expected = (ell_1(0.05 + H) - ell_1(0.05 - H)) / (2 * H)
    np.testing.assert_allclose(jax.grad(ell_1)(0.05), expected, **TOLERANCE)
    # By the envelope theorem: dL/dgamma at the minimizer is 1 / ell_1.
    slope = jax.grad(lambda gamma: cr.solve(rebuild(p, gamma=gamma)).value)(0.05)
    assert slope == pytest.approx(1 / float(ell_1(0.05)), rel=1e-8)


@pytest.mark.slow
def test_under_jit_and_vmap():
    p = random_problem(4, 24, 3, w=0.5)
    gammas = jnp.array([0.01, 0.1, 1.0])

    def norm(gamma):
        return jnp.sum(cr.solve(rebuild(p, gamma=gamma), rtol=1e-12).x ** 2)

    batch = jax.jit(jax.vmap(jax.value_and_grad(norm)))(gammas)
    for k, gamma in enumerate(gammas):
        np.testing.assert_allclose(batch[1][k], jax.grad(norm)(gamma), rtol=1e-8)


@pytest.mark.slow
def test_dependent_columns_take_the_least_change():
    A = np.random.default_rng(0).normal(size=(20, 2))
    A = np.concatenate([A, A[:, :1]], axis=1)
    p = cr.CopyrightRegression(A, np.random.default_rng(1).dirichlet(np.ones(20)), 5, w=0.5)
    slope = np.asarray(jax.jacobian(lambda gamma: minimizer(p, gamma=gamma))(0.1))
    assert np.isfinite(slope).all()
    assert slope[0] == pytest.approx(slope[2], rel=1e-8)
    logits = (A @ (minimizer(p, gamma=0.1 + H) - minimizer(p, gamma=0.1 - H))) / (2 * H)
    np.testing.assert_allclose(A @ slope, logits, **TOLERANCE)


@pytest.mark.slow
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


# The minimizer of the cross-entropy to (t, 1 - t) of the logits (x, 0) is log(t / (1 - t)).
T = 0.3
LOGIT = np.log(T / (1 - T))
SECOND_OF_LOGIT = (2 * T - 1) / (T * (1 - T)) ** 2


def two_rows(t):
    A = jnp.array([[1.0], [0.0]])
    return cr.SoftmaxRegression(A, jnp.stack([t, 1 - t]), 1e-150, metric="cross-entropy")


def logit(t):
    """As `solve` gives it, without the time to compile a solver."""
    return implicit.minimizer(two_rows(t), jnp.array([LOGIT]))[0]


SECOND = {
    "grad of grad": lambda f: jax.grad(jax.grad(f)),
    "hessian": jax.hessian,
    "jacfwd of jacfwd": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "jacrev of jacfwd": lambda f: jax.jacrev(jax.jacfwd(f)),
    "vmap of jit": lambda f: lambda t: jax.vmap(jax.jit(jax.grad(jax.grad(f))))(t[None])[0],
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", SECOND)
def test_second_derivative_is_exact_in_every_mode(mode):
    assert SECOND[mode](logit)(jnp.array(T)) == pytest.approx(SECOND_OF_LOGIT, rel=1e-13)


@pytest.mark.slow
def test_third_derivative_is_exact():
    exact = 2 / (T * (1 - T)) ** 2 + 2 * (1 - 2 * T) ** 2 / (T * (1 - T)) ** 3
    third = jax.grad(jax.grad(jax.grad(logit)))(jnp.array(T))
    assert third == pytest.approx(exact, rel=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_second_derivative_is_exact_for_every_solver(name):
    def solved(t):
        return cr.solve(two_rows(t), SOLVERS[name], rtol=1e-12).x[0]

    # x, and all that is computed from it, is as exact as the tolerance of the gradient.
    assert jax.hessian(solved)(jnp.array(T)) == pytest.approx(SECOND_OF_LOGIT, rel=1e-10)


@functools.partial(jax.jit, static_argnames="name")
def first_and_second(p, x, change, name):
    """Along the change: first derivative of the logits, and second by both modes."""

    def logits(t):
        changed = rebuild(p, **{name: getattr(p, name) + t * change})
        return changed.A @ implicit.minimizer(changed, x)

    first = jax.jacfwd(logits)
    return first(0.0), jax.jacfwd(first)(0.0), jax.jacrev(first)(0.0)


def check_second_derivatives(p, name):
    """Second derivatives against central differences of first ones, which have tests of their own.

    TOLERANCE holds here too, relative to the largest entry: the derivatives are those of functions
    that vary on the scale 1, and H^2 times a third derivative of those is what differences miss.
    """
    value = jnp.asarray(getattr(p, name))
    change = np.random.default_rng(0).normal(size=value.shape) * (value if name == "b" else 0.3)

    def at(h):
        moved = rebuild(p, **{name: value + h * change})
        return first_and_second(moved, cr.solve(moved, rtol=1e-13).x, change, name)

    expected = (at(H)[0] - at(-H)[0]) / (2 * H)
    scale = float(np.abs(expected).max())
    assert scale > 1e-3
    for second in at(0.0)[1:]:
        np.testing.assert_allclose(second, expected, rtol=0, atol=3e-6 * scale)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("name", "metric", "reading"),
    [(name, "squared", "joint") for name in ("gamma", "w", "b", "A")]
    + [("A", "cross-entropy", "block"), ("b", "cross-entropy", "joint"), ("w", "squared", "block")],
)
def test_second_derivative_of_the_minimizer(name, metric, reading):
    p = random_problem(4, 24, 3, w=0.5, gamma=0.05, reading=reading, metric=metric)
    check_second_derivatives(p, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gamma", "w", "b"])
def test_second_derivative_with_dependent_columns(name):
    A = np.random.default_rng(0).normal(size=(20, 2))
    A = np.concatenate([A, A @ [[1.0], [2.0]], np.zeros((20, 1))], axis=1)
    b = np.random.default_rng(1).dirichlet(np.ones(20))
    p = cr.CopyrightRegression(A, b, 5, gamma=0.05, w=0.5)
    check_second_derivatives(p, name)


@pytest.mark.slow
def test_predictions_that_can_be_anything_do_not_depend_on_a_wide_matrix():
    # With d > n the logits are free, and A has no part in the best of them: A x is constant, while
    # x and the null space of A move.
    p = random_problem(2, 4, 6, w=0.5, gamma=0.05)
    change = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)))
    x = cr.solve(p, rtol=1e-13).x
    moved = float(jnp.abs(change @ x).max())  # what A x would be off by with x at rest
    for derivative in first_and_second(p, x, change, "A"):
        np.testing.assert_allclose(derivative, 0, atol=1e-9 * moved)


@pytest.mark.slow
def test_hessian_over_two_arguments_is_symmetric():
    p = random_problem(4, 24, 3, w=0.5, gamma=0.05)
    x = cr.solve(p, rtol=1e-13).x

    def loss(gamma, w):
        changed = rebuild(p, gamma=gamma, w=w)
        return changed.ell_1(implicit.minimizer(changed, x))

    mixed = jax.jit(jax.hessian(loss, (0, 1)))(0.05, 0.5)
    assert mixed[0][1] == pytest.approx(float(mixed[1][0]), rel=1e-9)


@pytest.mark.slow
def test_a_change_of_a_that_may_raise_its_rank_has_no_derivative():
    p = random_problem(4, 24, 2, w=0.5)
    A, x = jnp.concatenate([p.A, p.A[:, :1]], axis=1), jnp.zeros(3)

    def loss(A, gamma):
        changed = rebuild(p, A=A, gamma=gamma)
        return changed.ell_1(implicit.minimizer(changed, x))

    by_A, by_gamma = jax.grad(loss, (0, 1))(A, 0.1)
    assert np.isnan(by_A).all()
    x = x[:2]
    assert by_gamma == pytest.approx(float(jax.grad(loss, 1)(p.A, 0.1)), rel=1e-8)


def test_columns_in_any_unit():
    p = random_problem(4, 24, 3, w=0.5)
    units = np.array([1.0, 1e-9, 1e6])

    x = cr.solve(p, rtol=1e-13).x

    def slope(units):
        def moved(gamma):
            return implicit.minimizer(rebuild(p, A=p.A * units[None], gamma=gamma), x / units)

        return jax.jit(jax.jacfwd(moved))(0.1) * units

    np.testing.assert_allclose(slope(units), slope(np.ones(3)), rtol=1e-9)


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", ["joint", "block"])
def test_derivatives_by_gamma_at_zero(reading):
    # One-sided differences of x, since gamma >= 0.
    p = random_problem(4, 24, 3, w=0.5, gamma=0.0, reading=reading)
    x = cr.solve(p, rtol=1e-13).x

    def moved(gamma):
        return implicit.minimizer(rebuild(p, gamma=gamma), x)

    first, second = jax.jit(lambda g: (jax.jacfwd(moved)(g), jax.jacrev(jax.jacfwd(moved))(g)))(0.0)
    near, far = (cr.solve(rebuild(p, gamma=k * H), rtol=1e-13).x - x for k in (1, 2))
    # What is missed is H^2, or H, times a third derivative a hundred times the second.
    for difference, derivative, rtol in (
        ((4 * near - far) / (2 * H), first, 3e-6),
        ((far - 2 * near) / H**2, second, 2e-3),
    ):
        scale = float(np.abs(difference).max())
        np.testing.assert_allclose(derivative, difference, rtol=0, atol=rtol * scale)


def test_value_by_gamma_at_zero():
    # By the envelope theorem, as for any gamma.
    p = random_problem(4, 24, 3, w=0.5, gamma=0.0)
    slope = jax.grad(lambda gamma: cr.solve(rebuild(p, gamma=gamma)).value)(0.0)
    assert slope == pytest.approx(1 / cr.solve(p).ell_1, rel=1e-8)
