"""Descent is proved to end above the global minimum; by hand, and step by step."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from flint import arb, ctx

import copyreg_jax as cr
from copyreg_jax.certificates.to_instance import to_instance
from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS, lower, upper
from copyreg_jax.theory import counterexample, descent
from tests.support.mutants import planted
from tests.support.registry import READINGS

DIGITS = 60


def stored():
    return counterexample.counterexample("lemma-13-descent")


def value(problem, x):
    """L for d = 1, from Definitions 2 to 9."""
    e = [mpmath.exp(mpmath.mpf(a) * x) for a in np.asarray(problem.A)[:, 0].tolist()]
    b, w, m = (np.asarray(v).tolist() for v in (problem.b, problem.w, problem.protected))
    f = [v / mpmath.fsum(e) for v in e]
    own = mpmath.fsum(v for v, p in zip(e, m, strict=True) if p)
    f_1 = f if problem.reading == "joint" else [v / own for v in e]
    ell = mpmath.fsum((v - mpmath.mpf(t)) ** 2 for v, t in zip(f, b, strict=True))
    ell_1 = mpmath.fsum((v - t) ** 2 for v, t, p in zip(f_1, b, m, strict=True) if p)
    reg = mpmath.fsum((v * mpmath.log(z)) ** 2 for v, z in zip(w, e, strict=True))
    return ell / 2 + mpmath.mpf(float(problem.gamma)) / ell_1 + reg / 2


def slopes(problem, x):
    """L' and L'' by differences in 60 digits, right to some twenty."""
    return [mpmath.diff(lambda x: value(problem, x), x, k) for k in (1, 2)]


def test_both_values_and_the_hypotheses_in_fractions():
    """At 0 everything is a fraction; elsewhere, decimals of 60 digits."""
    problem, x = stored()[1:]
    b, gamma = [Fraction(float(v)) for v in problem.b], Fraction(float(problem.gamma))
    w, A = Fraction(float(problem.w[0])), [int(v) for v in problem.A[:, 0]]
    assert (A, b[1]) == ([0, 1, -1], b[2])
    assert problem.protected.tolist() == [True, False, False]
    # Lemma 13 at gamma = 1/2, l = 1; sigma_min(A)^2 = 2.
    assert w**2 >= 8 + 200 * gamma * 2**3 + Fraction(1, 2)
    # x -> -x exchanges the rows 2 and 3: L is even, and L'(0) = 0.
    y = [Fraction(1, 3) * (Fraction(1, 3) - t) for t in b]
    assert sum(a * v for a, v in zip(A, y, strict=True)) == 0
    at_0 = sum((Fraction(1, 3) - t) ** 2 for t in b) / 2 + gamma / (Fraction(1, 3) - b[0]) ** 2
    trap = descent.refute_descent(problem, x)
    with mpmath.workdps(DIGITS):
        there = value(problem, mpmath.mpf(float(x[0])))
        assert 4500 < trap.end <= at_0 < trap.end + 1e-9
        assert there <= trap.elsewhere < there + 1e-9
    assert trap.elsewhere < 1178


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("error", [-0.25, 0.0, 0.25, "gradient"])
def test_no_step_leaves_and_each_shrinks_the_distance(error, sign):
    problem, x = stored()[1:]
    trap = descent.refute_descent(problem, x)
    with mpmath.workdps(DIGITS):
        steepest = slopes(problem, mpmath.mpf(trap.radius))[1]
        at = sign * mpmath.mpf(trap.radius)
        num_steps = 0
        while abs(at) > 1e-12:  # there differences still have eight digits
            slope, second = slopes(problem, at)
            ahead = at - slope / (steepest if error == "gradient" else second * (1 + error))
            assert abs(ahead) <= trap.shrink * abs(at)
            at, num_steps = ahead, num_steps + 1
        assert num_steps >= 3
        assert value(problem, at) > 3.8 * trap.elsewhere


@pytest.mark.parametrize("solver", [cr.SketchedNewton(), cr.GradientDescent()])
def test_the_solvers_end_there(solver):
    problem, x = stored()[1:]
    trap = descent.refute_descent(problem, x)
    ended = cr.solve(problem, solver, np.array([trap.radius])).raise_for_status()
    assert abs(ended.x[0]) < 1e-6
    assert ended.value > 4500


def test_the_point_is_near_the_global_minimum():
    problem, x = stored()[1:]
    found = cr.minimize_globally(problem)
    assert found.status.name == "PROVED"
    assert float(problem.value(x)) < found.upper * (1 + 1e-5)


def test_a_start_that_is_not_stationary():
    problem, x = stored()[1:]
    trap = descent.refute_descent(problem, x, start=0.01)
    with mpmath.workdps(DIGITS):
        least = value(problem, mpmath.mpf(0))
        assert trap.elsewhere < trap.end < least < value(problem, mpmath.mpf(0.01))
    # Starts that near are led to 0, so that none is where L falls to the other side.
    assert trap.radius < 0.34


@pytest.mark.parametrize(
    ("x", "start"),
    [([0.0], 0.7913), ([0.792], 0.7913), ([0.792], 0.35), ([0.792], 0.6)],
    ids=["lower at the start", "the same minimum", "beside the barrier", "on a slope"],
)
def test_nothing_is_proved_where_it_is_not_so(x, start):
    assert descent.refute_descent(stored().problem, x, start=start) is None


def test_other_shapes():
    with pytest.raises(cr.InputError, match="A has 2 columns"):
        descent.refute_descent(cr.CopyrightRegression(np.eye(2), [0.5, 0.5], 1), [0.0, 0.0])
    flat = cr.CopyrightRegression(np.zeros((2, 1)), [0.6, 0.4], 1)
    assert descent.refute_descent(flat, [1.0]) is None


def enclosed(seed):
    """Whether L' and L'' at points of an interval are within what is proved on it."""
    rng = np.random.default_rng(seed)
    problem = cr.CopyrightRegression(
        rng.normal(size=(4, 1)), rng.dirichlet(np.ones(4)), 2, 0.3, rng.random(4),
        READINGS[seed % 2],
    )  # fmt: skip
    ends = np.sort(rng.normal(size=1) + np.array([0, 1e-6]))
    with ARITHMETIC, ctx.workprec(START_BITS):
        interval = arb(ends[0]).union(arb(ends[1]))
        proved = descent._derivatives(descent._at(to_instance(problem), interval))
        bounds = [(lower(ball), upper(ball)) for ball in proved]
    assert all(high - low < 0.1 * (1 + abs(low)) for low, high in bounds)
    with mpmath.workdps(DIGITS):
        found = slopes(problem, mpmath.mpf(rng.uniform(*ends)))
        return all(low <= v <= high for v, (low, high) in zip(found, bounds, strict=True))


def test_derivatives_are_enclosed():
    assert all(enclosed(seed) for seed in range(12))


BUGS = [
    ("theory.descent:_derivatives", "view.kappa * proofs.square(total(g, r))", "arb(0)"),
    ("theory.descent:_derivatives", "2 * mean * total(s, r)", "mean * total(s, r)"),
    ("theory.descent:_derivatives", "total(w * w * u, a)", "total(w * u, a)"),
]


@pytest.mark.parametrize("bug", BUGS, ids=[bug[1][:20] for bug in BUGS])
def test_a_wrong_derivative_is_found(bug):
    with planted(*bug):
        assert not all(enclosed(seed) for seed in range(12))
