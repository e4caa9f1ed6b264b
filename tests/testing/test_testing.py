"""The strategies keep their promises; the assertions pass on what is right and fail on bugs."""

import functools
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, find, given, settings, strategies as st

import copyreg_jax as cr
from copyreg_jax.problems import curvature
from copyreg_jax.testing import assertions, strategies
from tests.problems.test_curvature import by_closed_form, sizes
from tests.support.registry import METRICS, PROBLEMS, READINGS, cases, random_problem
from tests.test_imports import printed

EPS = 2.0**-52
FEW = [(6, 3), (3, 5)]  # each shape and reading is compiled


# Compiled once per shape and reading, not once per instance.
jit_value = jax.jit(lambda problem, x: problem.value(x))


def value_of(problem):
    return lambda x: jit_value(problem, x)


def has_equal_rows(A):
    return not np.ptp(A, axis=0).any()


# --- strategies ---------------------------------------------------------------------------------


@given(data=st.data(), max_entry=st.sampled_from([0.5, 2.0, 1024.0]))
def test_plain_matrices(data, max_entry):
    A = data.draw(strategies.design_matrices(max_entry=max_entry))
    assert A.shape in strategies.SHAPES
    assert A.dtype == np.float64
    assert np.array_equal(A, A.astype(np.float32))
    assert np.abs(A).max() <= max_entry


MATRICES = strategies.design_matrices()


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        (MATRICES, lambda A: A.any() and len(A) > 2 and has_equal_rows(A)),
        (MATRICES, lambda A: A.shape[1] > 1 and A.any() and not A[:, 0].any()),
        (MATRICES, lambda A: not A.any()),
        (MATRICES, lambda A: np.linalg.matrix_rank(A) == min(A.shape) > 2),
        *((strategies.simplex_vectors(5), lambda b, i=i: b[i] == 1) for i in (0, 4)),
        *((strategies.masks(6), lambda mask, k=k: mask.sum() == k) for k in (1, 3, 5)),
    ],
)
def test_every_kind_of_matrix_vector_and_mask_is_drawn(strategy, kind):
    assert kind(find(strategy, kind))


@cases(300)
@given(data=st.data(), shape=st.sampled_from([(6, 3), (3, 5), (12, 4), (40, 20)]))
def test_rank_and_condition_are_those_asked_for(data, shape):
    rank = data.draw(st.none() | st.integers(1, min(shape)))
    conditions = st.just(1.0) if rank == 1 else st.sampled_from([1.0, 3.7, 1e4, 1e8])
    condition = data.draw(st.none() | conditions)
    assume((rank, condition) != (None, None))
    A = data.draw(strategies.design_matrices([shape], rank=rank, condition=condition))
    r = rank or min(shape)
    assert np.linalg.matrix_rank(A) == r
    assert np.abs(A).max() <= 2
    if condition is not None:
        singular_values = np.linalg.svd(A, compute_uv=False)
        assert abs(singular_values[0] / singular_values[r - 1] / condition - 1) <= 1e-6


@given(data=st.data(), n=st.sampled_from([1, 2, 3, 12, 300]), one_hot=st.booleans())
@settings(suppress_health_check=[HealthCheck.data_too_large, HealthCheck.large_base_example])
def test_simplex_vectors(data, n, one_hot):
    b = data.draw(strategies.simplex_vectors(n, one_hot=one_hot))
    assert (b.shape, b.dtype) == ((n,), np.float64)
    assert b.min() >= 0
    assert abs(math.fsum(b) - 1) <= 4 * EPS
    if not one_hot and n > 1:
        assert b.min() > 0


@given(data=st.data(), n=st.integers(2, 30))
def test_masks(data, n):
    mask = data.draw(strategies.masks(n))
    assert (mask.shape, mask.dtype) == ((n,), bool)
    assert 0 < mask.sum() < n


@given(
    problem=strategies.instances(), other=strategies.instances("block", shapes=[(4, 2)], min_w=3.0)
)
def test_instances(problem, other):
    assert problem.A.shape in strategies.SHAPES
    assert problem.dtype == np.float64
    assert np.min(problem.w) >= 2.0**-10
    assert other.reading == "block"
    assert other.A.shape == (4, 2)
    assert np.min(other.w) >= 3


@given(problem=strategies.instances(metric="cross-entropy"))
def test_instances_of_the_cross_entropy(problem):
    assert problem.metric == "cross-entropy"
    assert np.min(problem.b) >= 0


KINDS = {
    "squared": [
        *(lambda p, reading=reading: p.reading == reading for reading in READINGS),
        *(lambda p, gamma=gamma: p.gamma == gamma for gamma in (0, 1e-3, 0.1, 1)),
        lambda p: np.min(p.b) < 0,
        lambda p: np.max(p.b) == 1 and np.sum(p.b) == 1,
        lambda p: has_equal_rows(p.A) and np.any(p.A),
    ],
    "cross-entropy": [
        *(lambda p, r=r: p.reading == r and p.gamma > 0 and p.n1 > 1 for r in READINGS),
        lambda p: p.gamma > 0 and np.max(p.b) == 1 and np.sum(p.b) == 1,
        lambda p: p.gamma > 0 and np.sum(p.b) > 1.5,
        lambda p: p.reading == "block" and p.n1 == 1,
        lambda p: not np.any(p.b[p.protected]),
    ],
}


@pytest.mark.quick(2)
@pytest.mark.parametrize(("metric", "kind"), [(m, kind) for m in METRICS for kind in KINDS[m]])
def test_every_kind_of_instance_is_drawn(metric, kind):
    assert kind(find(strategies.instances(metric=metric), kind))


@pytest.mark.slow
def test_a_failing_test_shows_the_data():
    @settings(database=None, max_examples=5, report_multiple_bugs=False)
    @given(problem=strategies.instances())
    def fails(problem):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as failure:
        fails()
    assert any("A = array([[" in note for note in failure.value.__notes__)


@given(data=st.data(), max_logit=st.sampled_from([1e-2, 1.0, 1e3, 1e200]))
def test_points(data, max_logit):
    problem = data.draw(strategies.instances())
    x = data.draw(strategies.points(problem, max_logit=max_logit))
    assert x.shape == (problem.d,)
    assert x.dtype == np.float64
    assert np.abs(problem.logits(x)).max() <= max_logit * (1 + 4 * EPS)
    mantissa, _ = np.frexp(x)
    assert np.array_equal(mantissa, mantissa.astype(np.float32))


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "kind", [lambda x, u: not x.any(), lambda x, u: u > 500, lambda x, u: 0 < u < 10 and x.all()]
)
@pytest.mark.parametrize("name", ["joint", "sparse"])
def test_every_kind_of_point_is_drawn(name, kind):
    problem = PROBLEMS[name]()

    def holds(x):
        return kind(x, np.abs(problem.logits(x)).max())

    assert holds(find(strategies.points(problem), holds))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: strategies.design_matrices(rank=2), r"rank is 2; shape \(2, 1\) allows 1 to 1"),
        (lambda: strategies.design_matrices([(4, 3)], rank=0), "rank is 0"),
        (lambda: strategies.design_matrices([(4, 3)], condition=0.5), "condition is 0.5"),
        (lambda: strategies.design_matrices([(4, 3)], condition=1e9), "condition is 1000000000.0"),
        (lambda: strategies.design_matrices([(4, 3)], condition=np.nan), "condition is nan"),
        (lambda: strategies.design_matrices(condition=2.0), r"condition is 2.0, .*shape \(2, 1\)"),
        (lambda: strategies.design_matrices(max_entry=0.1), "max_entry is 0.1"),
        (lambda: strategies.design_matrices(max_entry=np.inf), "max_entry is inf"),
        (lambda: strategies.simplex_vectors(0), "n is 0"),
        (lambda: strategies.masks(1), "n is 1"),
        (lambda: find(strategies.instances("both"), bool), "reading is 'both'"),
        (lambda: find(strategies.instances(metric="kl"), bool), "metric is 'kl'"),
        (lambda: strategies.points(PROBLEMS["joint"](), max_logit=0.0), "max_logit is 0.0"),
        (lambda: assertions.assert_convex_on(jnp.sum, []), "points is empty"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(cr.InputError, match=message):
        call()


# --- derivatives --------------------------------------------------------------------------------


def check_derivatives(problem, x, v, atol=(0.0, 0.0, 0.0)):
    value, (gradient, H, Hv) = value_of(problem), by_closed_form(problem, x, v)
    assertions.assert_gradient_matches(value, lambda x: gradient, x, atol=atol[0])
    assertions.assert_hessian_matches(value, lambda x: H, x, atol=atol[1])
    assertions.assert_hvp_matches(value, lambda x, v: Hv, x, v, atol=atol[2])


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@cases(60)
@given(data=st.data())
def test_the_closed_forms_pass(data, metric):
    problem = data.draw(strategies.instances(shapes=FEW, metric=metric))
    x = data.draw(strategies.points(problem))
    v = data.draw(strategies.points(problem, max_logit=1.0))
    assume(problem.gamma == 0 or problem.ell_1(x) > 2.0**-20)  # away from the barrier
    size_g, size_H = sizes(problem, x)
    terms = np.array([size_g, size_H, size_H * np.abs(v).sum()])
    check_derivatives(problem, x, v, 64 * EPS * terms)


# sizes is a maximum over all terms: a relative test on generic instances is the stricter one.
@pytest.mark.quick(1)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("metric", METRICS)
def test_the_closed_forms_pass_without_atol_on_generic_instances(seed, metric):
    problem = random_problem(seed, 20, 4, reading=READINGS[seed % 2], metric=metric)
    x, v = np.random.default_rng(seed).normal(size=(2, 4))
    check_derivatives(problem, x, v)


BUGS = {
    "wrong sign": lambda right, *at: -right(*at),
    "factor 2": lambda right, *at: 2 * right(*at),
    "one entry off by 1e-9": lambda right, *at: right(*at).at[0].multiply(1 + 1e-9),
    "one entry nan": lambda right, *at: right(*at).at[0].set(jnp.nan),
    "infinite": lambda right, *at: right(*at).at[..., 0].set(jnp.inf),
    "a row too many dimensions": lambda right, *at: right(*at)[None],
    "an entry lost": lambda right, *at: right(*at)[1:],
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
@pytest.mark.parametrize("name", ["joint", "block", "cross-entropy"])
def test_bugs_in_derivatives_are_found(bug, name):
    problem = PROBLEMS[name]()
    x, v = np.random.default_rng(0).normal(size=(2, 4))
    for what, check, right, at in (
        ("gradient", assertions.assert_gradient_matches, problem.gradient, (x,)),
        ("hessian", assertions.assert_hessian_matches, problem.hessian, (x,)),
        ("hvp", assertions.assert_hvp_matches, problem.hvp, (x, v)),
    ):
        with pytest.raises(AssertionError, match=f"^{what}"):
            check(value_of(problem), functools.partial(bug, right), *at)


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
def test_missing_terms_are_found(reading, metric):
    problem = random_problem(0, 20, 4, reading=reading, metric=metric)
    x, value = np.random.default_rng(0).normal(size=4), value_of(problem)
    others = problem.replace(w=1e-3), problem.replace(gamma=0.0)
    for other in others:
        with pytest.raises(AssertionError, match="differ by"):
            assertions.assert_gradient_matches(value, other.gradient, x)
    at = curvature.curvature(problem.logits(x), problem.terms)
    at = at._replace(kappa=jnp.zeros(()))  # without the term of rank one
    for wrong in (*(p.hessian for p in others), lambda x: curvature.hessian(problem.A, at)):
        with pytest.raises(AssertionError, match="differ by"):
            assertions.assert_hessian_matches(value, wrong, x)


def test_the_worst_entry_is_named_with_its_numbers():
    x, wrong = [1.0, 2.0, 3.0], jnp.array([1e-3, 0.5, 0.0])
    message = r"^gradient\[1\] is 4.5, .* gives 4.0; they differ by 0.5, .* x = \[1.0, 2.0, 3.0\]$"
    with pytest.raises(AssertionError, match=message):
        assertions.assert_gradient_matches(lambda x: x @ x, lambda x: 2 * x + wrong, x)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_fails_even_where_both_sides_agree_and_whatever_the_slack(number):
    def value(x):
        return jnp.sum(number * x)

    x, slack = np.ones(2), {"rtol": 1.0, "atol": np.inf}
    for check in (
        lambda: assertions.assert_gradient_matches(value, lambda x: number + 0 * x, x, **slack),
        lambda: assertions.assert_hessian_matches(lambda x: value(x**2), jnp.diag, x, **slack),
        lambda: assertions.assert_convex_on(lambda x: value(x**2), [x], **slack),
        lambda: assertions.assert_hessian_lipschitz(lambda x: value(x**2), x, -x, 1.0, **slack),
        lambda: assertions.assert_stationary(value, x, atol=np.inf),
    ):
        with pytest.raises(AssertionError, match=r"is -?(nan|inf)"):
            check()


def test_nan_thresholds_fail():
    x, y, square = np.ones(2), np.zeros(2), lambda x: x @ x
    for check in (
        lambda: assertions.assert_gradient_matches(square, lambda x: 2 * x, x, atol=np.nan),
        lambda: assertions.assert_strongly_convex_on(square, [x], np.nan),
        lambda: assertions.assert_hessian_lipschitz(square, x, y, np.nan),
        lambda: assertions.assert_stationary(square, y, atol=np.nan),
    ):
        with pytest.raises(AssertionError):
            check()


def test_float32_is_not_compared_to_digits_that_it_lacks():
    problem = random_problem(0, 6, 2)
    A, b, gamma = (np.float32(array) for array in (problem.A, problem.b, problem.gamma))
    single, x = cr.CopyrightRegression(A, b, 2, gamma), np.ones(2)
    with pytest.raises(cr.PrecisionError, match="computed in float32, which can't tell"):
        assertions.assert_gradient_matches(single.value, single.gradient, x)
    assertions.assert_gradient_matches(single.value, single.gradient, x, rtol=1e-5)


# --- shape of the function ----------------------------------------------------------------------


@pytest.mark.slow
@cases(60)
@given(problem=strategies.instances(shapes=FEW, min_w=1.0), data=st.data())
def test_large_weights_make_softmax_regression_strongly_convex(problem, data):
    problem = problem.replace(gamma=0.0)
    xs = [data.draw(strategies.points(problem)) for _ in range(3)]
    # hess_u 0.5 ell >= -0.3849 max|f - b| I >= -0.77 I (docs/theory/curvature-bound.md), w >= 1.
    modulus = 0.23 * np.linalg.eigvalsh(problem.A.T @ problem.A)[0]
    # f and b, of size 1, are rounded: where ell is tiny it is known to 64 eps only.
    assertions.assert_convex_on(value_of(problem), xs, atol=64 * EPS)
    assertions.assert_strongly_convex_on(value_of(problem), xs, modulus, atol=64 * EPS)


def test_convexity_fails_at_a_point_and_between_two():
    def saddle(x):
        return x[0] ** 2 - 1e-6 * x[1] ** 2

    def two_wells(x):
        return jnp.sum(x**4 - 2 * x**2)

    with pytest.raises(AssertionError, match="eigenvalue of the Hessian is -2e-06"):
        assertions.assert_convex_on(saddle, [[0.0, 0.0]])
    assertions.assert_convex_on(saddle, [[0.0, 0.0]], atol=1e-5)
    for well in (1.0, -1.0):
        assertions.assert_convex_on(two_wells, [[well]])
    with pytest.raises(AssertionError, match=r"halfway.*x = \[1.0\], y = \[-1.0\]"):
        assertions.assert_convex_on(two_wells, [[1.0], [-1.0]])


def test_the_modulus_is_sharp():
    scales, xs = jnp.array([3.0, 7.0]), [[0.0, 0.0], [1.0, 0.0], [-2.0, 3.0]]
    for value, points, modulus, words in (
        (lambda x: 0.5 * x @ (scales * x), xs, 3.0, "smallest eigenvalue"),
        # x^4 has x'' = 12 at -1 and 1, but is flat between: there m/8 * 4 <= 1 - 0 bounds m by 2.
        (lambda x: jnp.sum(x**4), [[-1.0], [1.0]], 2.0, "halfway"),
    ):
        assertions.assert_strongly_convex_on(value, points, modulus)
        with pytest.raises(AssertionError, match=words):
            assertions.assert_strongly_convex_on(value, points, modulus + 1e-9)


def test_a_function_that_is_nan_between_two_points_is_not_convex():
    def value(x):
        return jnp.sum(jnp.where(jnp.abs(x) < 0.5, jnp.nan, x**2))

    with pytest.raises(AssertionError, match="value is nan halfway"):
        assertions.assert_convex_on(value, [[-1.0], [1.0]])


def test_the_lipschitz_constant_is_sharp():
    def value(x):
        return jnp.sum(x**3) / 6  # H = diag(x): constant 1, reached along an axis

    x, y = np.array([1.0, 2.0, -3.0]), np.array([1.0, 0.5, -3.0])
    assertions.assert_hessian_lipschitz(value, x, y, 1.0)
    for constant in (1.0 - 1e-9, 0.0):
        with pytest.raises(AssertionError, match=r"changes by 1\.5 over a distance of 1\.5"):
            assertions.assert_hessian_lipschitz(value, x, y, constant)


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", ["joint", "block", "rank-deficient", "cross-entropy"])
def test_what_the_solver_finds_is_stationary_and_what_is_near_it_is_not(name):
    problem = PROBLEMS[name]()
    solution = cr.solve(problem).raise_for_status()
    tolerance = solution.gradient_norm + 64 * EPS * problem.d * sizes(problem, solution.x)[0]
    assertions.assert_stationary(problem.value, solution.x, atol=tolerance)
    with pytest.raises(AssertionError, match=r"norm .* largest entry is gradient\[\d\] = "):
        assertions.assert_stationary(problem.value, solution.x + 0.1, atol=1e-6)


# --- the module ---------------------------------------------------------------------------------


def test_importing_starts_no_backend_and_keeps_the_configuration():
    code = (
        "import jax, hypothesis\n"
        "before = dict(jax.config.values), hypothesis.settings.default\n"
        "import copyreg_jax.testing.assertions\n"
        "from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized(),\n"
        "      before == (dict(jax.config.values), hypothesis.settings.default))"
    )
    assert printed(code) == "False True"


def test_without_hypothesis_one_line_says_what_to_install():
    code = (
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "try:\n"
        "    import copyreg_jax.testing\n"
        "except ImportError as error:\n"
        "    print(error)"
    )
    expected = "copyreg_jax.testing needs Hypothesis: pip install 'copyreg-jax[test]'"
    assert printed(code) == expected


@pytest.mark.slow
def test_in_32_bit_mode_instances_are_float32_and_points_fit():
    code = (
        "from hypothesis import given, settings, strategies as st\n"
        "from copyreg_jax.testing import *\n"
        "@settings(database=None, deadline=None, max_examples=30)\n"
        "@given(problem=instances(), data=st.data())\n"
        "def test(problem, data):\n"
        "    x = data.draw(points(problem))\n"
        "    assert problem.dtype == 'float32' and problem.gradient(x).dtype == 'float32'\n"
        "test()\n"
        "print('passed')"
    )
    assert printed(code) == "passed"


def test_profiles():
    strategies.register_profiles()
    ci, soak = (hypothesis.settings.get_profile(name) for name in ("ci", "soak"))
    assert (ci.max_examples, ci.derandomize, ci.print_blob) == (100, True, True)
    assert (soak.max_examples, soak.derandomize) == (5000, False)
    assert ci.deadline is soak.deadline is None
    assert ci.database is soak.database is None
