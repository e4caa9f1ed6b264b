"""The promises of the accelerated method: decrease, rate, minimizer."""

import itertools

import numpy as np
import pytest
import scipy.sparse

import copyreg_jax as cr
from copyreg_jax.matrices.host_access import to_host
from copyreg_jax.problems import curvature
from tests.support.registry import PROBLEMS, random_problem


def safe_curvature(problem, value):
    A = to_host(problem.A)
    A = A.toarray() if scipy.sparse.issparse(A) else A
    bound = float(curvature.upper_bound(value, problem.terms))
    weighted = np.linalg.norm(np.asarray(problem.w)[:, None] * A, 2) ** 2
    return bound * np.linalg.norm(A, 2) ** 2 + weighted


# The accelerated method knows L to 8 eps L by its own count, and to a few eps L more by rounding.
@pytest.mark.quick(2)
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(
    ("solver", "max_steps", "rounding"),
    [(cr.GradientDescent(), 200, 4), (cr.AcceleratedGradient(), 300, 16)],
)
def test_falls_by_what_gradient_descent_promises(solver, max_steps, rounding, name):
    problem = PROBLEMS[name]()
    history = cr.solve(problem, solver, max_steps=max_steps).history
    for k, (before, after) in enumerate(itertools.pairwise(history.value)):
        promised = history.gradient_norm[k] ** 2 / (2 * safe_curvature(problem, before))
        assert before - after >= promised * (1 - 1e-9) - rounding * 2.0**-52 * before


def ill_conditioned(condition):
    """A convex instance whose Hessian has about this condition number."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(300, 6)))
    A = q * np.geomspace(1, condition**0.5, 6) / condition**0.5 * 10
    return cr.SoftmaxRegression(A, rng.dirichlet(np.ones(300)))


def steps(problem, solver):
    solution = cr.solve(problem, solver, np.full(problem.d, 1.0), rtol=1e-8).raise_for_status()
    return solution.num_steps


@pytest.mark.slow
def test_number_of_steps_grows_with_the_root_of_the_condition_number():
    plain = [steps(ill_conditioned(c), cr.GradientDescent()) for c in (1e2, 1e3)]
    fast = [steps(ill_conditioned(c), cr.AcceleratedGradient()) for c in (1e2, 1e3, 1e4)]
    assert plain[1] > 5 * plain[0]  # like the condition number: 10
    assert max(fast[1] / fast[0], fast[2] / fast[1]) < 5  # like its root: 3.2
    assert fast[1] < plain[1] / 10


@pytest.mark.quick(1)
@pytest.mark.parametrize("seed", range(5))
def test_ends_at_the_minimizer_of_the_others(seed):
    problem = random_problem(seed, 60, 5, w=1.5)
    solution = cr.solve(problem, cr.AcceleratedGradient()).raise_for_status()
    np.testing.assert_allclose(solution.x, cr.solve(problem).x, atol=1e-8)
    assert solution.num_steps < 500


def test_zero_matrix_is_solved_at_once():
    problem = cr.SoftmaxRegression(np.zeros((4, 2)), np.full(4, 0.25))
    assert cr.solve(problem, cr.AcceleratedGradient()).num_steps == 0
