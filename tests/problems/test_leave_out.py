"""Softmax regression that never sees the targets of some rows."""

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st

import copyreg_jax as cr
from tests.problems.test_curvature import by_autodiff, by_closed_form, sizes
from tests.support.registry import METRICS, cases, draws, random_problem


def leave_out(draw, metric):
    return cr.LeaveOutRegression(draw.A, draw.b, draw.protected, draw.w, metric)


@pytest.mark.parametrize("metric", METRICS)
@cases(200)
@given(data=st.data(), direction=st.integers(0, 2**32 - 1))
def test_closed_forms_equal_autodiff(data, direction, metric):
    draw = data.draw(draws(metric=metric))
    problem, x = leave_out(draw, metric), draw.x
    v = np.random.default_rng(direction).normal(size=problem.d)
    # Of all rows and without a barrier: no term is larger where some rows are left out.
    size_g, size_H = sizes(draw.problem("joint", metric).replace(gamma=0.0), x)
    for mine, theirs, size in zip(
        by_closed_form(problem, x, v),
        by_autodiff(problem, x, v),
        (size_g, size_H, size_H * np.abs(v).sum()),
        strict=True,
    ):
        assert np.abs(mine - theirs).max() <= 64 * 2.0**-52 * size


@pytest.mark.parametrize("metric", METRICS)
@cases(200)
@given(data=st.data())
def test_the_loss_is_that_of_the_other_rows(data, metric):
    """``L = h ell_2 + L_reg``, ell_2 summed by NumPy; one rounding per term and sum, n <= 64."""
    draw = data.draw(draws(metric=metric))
    problem, x = leave_out(draw, metric), draw.x
    f, kept = np.asarray(problem.f(x)), ~draw.protected
    u = draw.A @ x
    log_f = u - u.max() - np.log(np.exp(u - u.max()).sum())
    if metric == "squared":
        fit, size = 0.5 * np.sum((f - draw.b)[kept] ** 2), 2.0
    else:
        fit = -np.sum(draw.b[kept] * log_f[kept])
        size = np.sum(draw.b) * (1 + np.abs(u).max())  # log f is off by the rounding of u
    reg = 0.5 * np.sum((draw.w * u) ** 2)
    assert abs(problem.value(x) - fit - reg) <= 2.0**-52 * 256 * (size + reg)


@pytest.mark.quick(1)
@pytest.mark.parametrize("metric", METRICS)
def test_the_minimizer_does_not_know_what_was_left_out(metric):
    """The same bits for other targets: nothing of the rows left out reaches the solver."""
    first = random_problem(3, 40, 4, metric=metric)
    b = np.array(first.b)
    b[:13] = b[:13][::-1]
    other = cr.LeaveOutRegression(first.A, b, first.protected, first.w, metric)
    unseen, x0 = cr.LeaveOutRegression.of(first), np.zeros(4)
    assert np.array_equal(cr.solve(unseen, x0=x0).x, cr.solve(other, x0=x0).x)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_solvers_agree_and_report_the_loss_that_was_minimized(metric):
    unseen = cr.LeaveOutRegression.of(random_problem(6, 40, 4, metric=metric))
    for solver in (cr.NewtonCG(), cr.TrustRegionNewton(), cr.AcceleratedGradient()):
        found = cr.solve(unseen, solver).raise_for_status()
        # Sums of 40 terms, on the device and on the host.
        np.testing.assert_allclose(found.value, unseen.value(found.x), rtol=64 * 2.0**-52)
        assert np.linalg.norm(unseen.gradient(found.x)) < 1e-6
        assert found.second_order in (cr.SecondOrder.EXACT, cr.SecondOrder.CONVEX)


def test_in_float32_the_second_order_is_that_of_the_loss_that_was_minimized():
    first = random_problem(6, 40, 4)
    A, b, w = (np.asarray(a, np.float32) for a in (first.A, first.b, first.w))
    found = cr.solve(cr.LeaveOutRegression(A, b, first.protected, w))
    assert found.status is cr.Status.CONVERGED
    assert found.second_order in (cr.SecondOrder.EXACT, cr.SecondOrder.CONVEX)


def test_nothing_or_everything_may_be_left_out():
    A, b = np.random.default_rng(0).normal(size=(6, 2)), np.full(6, 1 / 6)
    x = np.ones(2)
    nothing = cr.LeaveOutRegression(A, b, [], 0.5)
    assert nothing.value(x) == cr.SoftmaxRegression(A, b, 0.5).value(x)
    everything = cr.LeaveOutRegression(A, b, 6, 0.5)
    assert everything.value(x) == everything.l_reg(x)
    assert np.abs(cr.solve(everything).x).max() < 1e-12


def test_batches_share_A_and_differ_in_what_is_left_out():
    first = random_problem(5, 40, 4)
    masks = [np.arange(40) % 3 == k for k in range(3)]
    problems = [cr.LeaveOutRegression.of(first, mask) for mask in masks]
    found = cr.solve_many(problems)
    for problem, x in zip(problems, found.x, strict=True):
        np.testing.assert_allclose(x, cr.solve(problem).x, atol=1e-7)  # sqrt of the rtol on L
    assert jax.tree_util.tree_leaves(problems[0])[0] is jax.tree_util.tree_leaves(problems[1])[0]


def test_rows_that_are_not_there_are_refused():
    with pytest.raises(cr.InputError, match=r"left_out\[0\] = 9 is outside the rows 0\.\.2 of A"):
        cr.LeaveOutRegression(np.eye(3), np.full(3, 1 / 3), [9])
    with pytest.raises(cr.InputError, match="problem is a int; give a CopyrightRegression"):
        cr.LeaveOutRegression.of(3)
