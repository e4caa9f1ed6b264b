"""What a solution states about its x, against the definitions in 4000 bits."""

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.solvers.recheck import evaluate
from tests.support.exact import transcription
from tests.support.registry import METRICS, READINGS, draws, random_problem


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@given(data=st.data())
def test_numbers_agree_with_multiprecision(data, metric, reading):
    draw = data.draw(draws(metric=metric))
    exact = transcription(draw, reading, metric)
    found = evaluate(draw.problem(reading, metric), draw.x)._asdict()
    # The tolerances of tests/problems/test_objective.py.
    eps = 2.0**-52 * (4 + draw.A.shape[1]) * (1 + (np.abs(draw.A) @ np.abs(draw.x)).max())
    eps *= (1 + np.abs(draw.b).max()) ** 2
    for name in ("ell", "ell_1", "ell_2", "protected_mass", "target_mass"):
        assert abs(found[name] - float(exact[name])) <= 40 * eps
    ell_1 = float(exact["ell_1"])
    if not draw.gamma or ell_1 > 1e-6:
        power = 1.5 if metric == "squared" else 2
        allowed = 40 * eps * (1 + (draw.gamma / ell_1**power if draw.gamma else 0))
        value = float(exact["value"])
        assert abs(found["value"] - value) <= allowed + 1e-12 * abs(value)


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(5))
def test_gradient_is_that_of_automatic_differentiation(seed, metric, reading):
    problem = random_problem(seed, 20, 4, reading=reading, metric=metric)
    x = np.random.default_rng(seed).normal(size=4)
    norm = np.linalg.norm(jax.grad(problem.value)(x))
    assert evaluate(problem, x).gradient_norm == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_far_rows_without_a_target_and_a_target_met_exactly(metric):
    problem = cr.CopyrightRegression(
        np.diag([1.0, 1.0, 1.0, 1e5]), [0.5, 0.25, 0.0, 0.25], 2, 0.1, 1e-200, metric=metric
    )
    far = evaluate(problem, np.array([1e306, 1e306, -1e308, 1e301]))
    assert np.isfinite([far.value, far.gradient_norm]).all()
    assert far.value == pytest.approx(float(problem.value([1e306, 1e306, -1e308, 1e301])))
    met = cr.CopyrightRegression(np.eye(3), np.eye(3)[0], 2, 0.1, metric=metric)
    assert evaluate(met, np.array([1e3, 0.0, 0.0])).value == np.inf
