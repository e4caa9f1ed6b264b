"""The subproblem of the trust-region method, solved exactly in every case."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.solvers.steps import initial_state_jit, precompute
from copyreg_jax.solvers.trust_region import subproblem
from tests.support.registry import random_problem


def model(lam, q, s):
    return np.dot(q, s) + 0.5 * np.dot(lam, s * s)


@given(
    seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["convex", "indefinite", "hard", "flat"])
)
def test_no_point_of_the_region_is_better(seed, kind):
    rng = np.random.default_rng(seed)
    d = 5
    lam = np.sort(rng.normal(size=d) * 10.0 ** rng.uniform(-3, 3))
    if kind == "convex":
        lam = np.abs(lam)
        lam.sort()
    q = rng.normal(size=d) * 10.0 ** rng.uniform(-3, 3)
    if kind == "hard":
        q[0] = 0.0
    if kind == "flat":
        lam = np.sort(np.abs(lam))
        lam[:2], q[:2] = 0.0, 0.0
    radius = 10.0 ** rng.uniform(-2, 2)
    s, decrease = (np.asarray(v) for v in subproblem(jnp.asarray(lam), jnp.asarray(q), radius))
    assert np.linalg.norm(s) <= radius * (1 + 1e-6)
    np.testing.assert_allclose(decrease, -model(lam, q, s), rtol=1e-9, atol=1e-12)
    # Global optimality (More and Sorensen): (diag(lam) + shift) s = -q with lam + shift >= 0 and
    # shift (radius - |s|) = 0. Take the shift that the largest component implies.
    i = np.argmax(np.abs(s))
    shift = max(-q[i] / s[i] - lam[i], 0.0)
    size = np.abs(q).max() + (np.abs(lam).max() + shift) * np.abs(s).max()
    assert np.abs((lam + shift) * s + q).max() <= 1e-6 * size
    assert lam[0] + shift >= -1e-6 * (np.abs(lam).max() + shift)
    if np.linalg.norm(s) < radius * (1 - 1e-6):
        assert shift <= 1e-6 * np.abs(lam).max()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_goes_downhill_along_negative_curvature(sign):
    s, decrease = subproblem(jnp.array([-1.0, 2.0]), jnp.array([sign * 1e-300, 0.0]), 3.0)
    assert abs(s[0]) == 3.0
    assert np.sign(s[0]) == -sign
    assert decrease == 4.5


def test_zero_model():
    s, decrease = subproblem(jnp.zeros(3), jnp.zeros(3), 1.0)
    assert s.tolist() == [0.0, 0.0, 0.0]
    assert decrease == 0


def test_a_step_by_factor_is_the_step_by_spectrum():
    """Where Newton's step fits, no eigenvectors are made; both ways lead to one minimizer."""
    seen = []
    for w, radius in itertools.product([1.0, 0.05], [0.1, 10.0]):
        problem, solver = random_problem(1, 40, 5, w=w), cr.TrustRegionNewton(radius)
        kit = precompute(problem, solver)
        scale = kit.precomputed.scale
        for x in np.random.default_rng(0).normal(size=(10, 5)):
            state = initial_state_jit(problem, kit, jnp.asarray(x), 1e-8, solver)
            model, q = state.memory.model, np.asarray(state.gradient / scale)
            H = np.asarray(problem.hessian(x)) / np.outer(scale, scale)
            lam, Q = np.linalg.eigh(H)
            newton = -np.linalg.solve(H, q)
            convex, fits = lam[0] > 0, lam[0] > 0 and np.linalg.norm(newton) <= radius
            seen.append((bool(convex), bool(fits)))
            assert bool(model.known) is not seen[-1][1]
            s, predicted = model.step(jnp.asarray(q), radius)
            in_Q, expected = subproblem(jnp.asarray(lam), jnp.asarray(q @ Q), radius)
            # H has a condition below 1e5, and steps to the boundary are as long within 2e-10.
            np.testing.assert_allclose(s, newton if fits else Q @ in_Q, atol=1e-9 * radius)
            np.testing.assert_allclose(predicted, expected, rtol=1e-8)
            decrement = solver.look(problem, kit.precomputed, state).decrement
            expected = np.sqrt(-q @ newton) if convex else np.inf
            np.testing.assert_allclose(decrement, expected, rtol=1e-9)
    assert set(seen) == {(True, True), (True, False), (False, False)}


def test_no_state_has_a_nan():
    """A Hessian without a factor is usual; `jax.debug_nans` is for a user's own faults."""
    problem = cr.CopyrightRegression([[1.0], [0.0]], [0.5, 0.5], protected=1, gamma=1e-3, w=1e-3)
    solver, x0 = cr.TrustRegionNewton(), jnp.array([4.0])  # where L curves down
    state = initial_state_jit(problem, precompute(problem, solver), x0, 1e-8, solver)
    assert not state.memory.model.steady
    assert not any(jnp.isnan(leaf).any() for leaf in jax.tree_util.tree_leaves(state))
