"""The constants and regions: no violation on random and extreme instances, and no false input."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.lm import protection
from copyreg_jax.problems.objective import METRICS
from copyreg_jax.theory import constants, regions_of_convexity
from copyreg_jax.theory.level_sets import cross_entropy_level_set_tau, level_set_tau
from copyreg_jax.theory.newton_region import newton_region
from copyreg_jax.theory.regions_of_convexity import Ball, Floor, Sublevel, strong_convexity
from tests.support.registry import PROBLEMS, READINGS, cases, random_problem


def eye_problem(**options):
    return cr.CopyrightRegression(np.eye(4), [0.4, 0.3, 0.2, 0.1], 2, **options)


barrier = PROBLEMS["barrier at zero"]


def test_curvature_range_of_each_kind_of_target():
    assert constants.curvature_range([0.0, 1.0]) == (-0.242, 0.310)
    assert constants.curvature_range([0.5, -0.5]) == (-0.315, 0.361)
    # Beyond: linear in the size, by the two-norm or by the sum.
    longer = constants.curvature_range([3.0, -4.0])
    assert longer.lower == pytest.approx(-0.315 - 4 * math.sqrt(6) / 9)
    assert longer.upper == pytest.approx(0.361 + 4 * math.sqrt(6) / 9)
    heavier = constants.curvature_range(np.full(100, 0.02))
    assert heavier == (-0.315, 0.361)  # of norm 0.2: the ball is the better one
    assert constants.curvature_range([2.0, 0.0]).lower == pytest.approx(-0.242 - 1 / math.sqrt(27))
    assert constants.curvature_range([0.5, 3.5], "cross-entropy") == (0, 2)


@cases(100)
@given(seed=st.integers(0, 2**32 - 1), reading=st.sampled_from(READINGS))
def test_regions_of_the_cross_entropy(seed, reading):
    rng = np.random.default_rng(seed)
    b, w = rng.dirichlet(np.full(6, 0.3)) * rng.uniform(0.2, 3), rng.uniform(0, 3, size=6)
    problem = cr.CopyrightRegression(
        np.eye(6), b, 3, 10 ** rng.uniform(-3, 1), w, reading, "cross-entropy"
    )
    x = rng.normal(size=6) * rng.choice([0.3, 3, 30])
    value, floor = float(problem.value(x)), float(problem.ell_1(x))
    assert regions_of_convexity.loss_floor(problem, value) <= floor
    lam = np.linalg.eigvalsh(problem.hessian(x))
    rounding = 64 * 2.0**-52 * np.abs(lam).max()
    for region in (Floor(floor), Sublevel(value)):
        assert strong_convexity(problem, region) <= lam[0] + rounding
    convex = problem.replace(w=10.0)
    assert strong_convexity(convex.replace(gamma=0.0), Sublevel(1.0)) > 0


@cases(300)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.5, 1.0, 2.0, 10.0]))
def test_curvature_range_holds_for_targets_of_any_size(seed, size):
    rng = np.random.default_rng(seed)
    n = 5
    f, t = rng.dirichlet(np.full(n, 0.5)), rng.random(n) < 0.7
    b = rng.dirichlet(np.full(n, 0.3)) if rng.random() < 0.5 else rng.normal(size=n)
    b = b / (b.sum() if (b >= 0).all() else np.linalg.norm(b)) * size
    c = f - b
    s = f * (t * f + t * c - f @ (t * c))
    P = np.eye(n) - np.outer(np.ones(n), f)
    lam = np.linalg.eigvalsh(P.T @ np.diag(s) @ P)
    lower, upper = constants.curvature_range(b)
    assert lower <= lam[0]
    assert lam[-1] <= upper


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@cases(200)
@given(seed=st.integers(0, 2**32 - 1))
def test_threshold_is_enough(seed, reading):
    rng = np.random.default_rng(seed)
    problem = random_problem(seed, 8, 3, reading=reading, gamma=10 ** rng.uniform(-3, 0))
    x = rng.normal(size=3) * 3
    floor = min(float(problem.ell_1(x)), 0.999)
    if floor < 1e-6:
        return
    level = 0.5
    w = math.sqrt(constants.convexity_threshold(problem, floor, level).usable)
    lam = np.linalg.eigvalsh(problem.replace(w=w).hessian(x))
    rounding = 1e-12 * abs(lam[-1])  # of an eigenvalue, relative to the largest
    assert lam[0] >= level - rounding
    modulus = strong_convexity(problem.replace(w=w), Floor(floor))
    assert modulus >= level - rounding


def test_no_threshold_for_dependent_columns_but_for_plain_convexity():
    A = np.ones((4, 2))
    problem = cr.CopyrightRegression(A, [0.4, 0.3, 0.2, 0.1], 2)
    assert constants.convexity_threshold(problem, 0.5, 1.0) == (math.inf, math.inf)
    assert constants.convexity_threshold(problem, 0.5, 0.0).usable < 1
    wide = cr.CopyrightRegression(np.eye(2, 3), [0.5, 0.5], 1)
    assert constants.convexity_threshold(wide, 0.5, 1.0).usable == math.inf


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@cases(150)
@given(seed=st.integers(0, 2**32 - 1))
def test_strong_convexity_is_below_every_hessian_of_its_region(seed, reading):
    rng = np.random.default_rng(seed)
    problem = random_problem(
        seed % 1000, 8, 3, reading=reading, gamma=10 ** rng.uniform(-3, 0), w=rng.random(8)
    )
    x = rng.normal(size=3)
    radius = 10 ** rng.uniform(-4, 0)
    moduli = {
        "sublevel": strong_convexity(problem, Sublevel(float(problem.value(x)))),
        "floor": strong_convexity(problem, Floor(float(problem.ell_1(x)))),
        "ball": strong_convexity(problem, Ball(x, radius)),
    }
    lam = np.linalg.eigvalsh(problem.hessian(x))
    rounding = 1e-12 * np.abs(lam).max()
    for name, modulus in moduli.items():
        assert modulus <= lam[0] + rounding, name
    # The ball speaks of all its points, so also of this one on its surface.
    v = rng.normal(size=3)
    y = x + radius * v / np.linalg.norm(v)
    there = np.linalg.eigvalsh(problem.hessian(y))
    assert moduli["ball"] <= there[0] + 1e-12 * np.abs(there).max()


def test_where_it_is_strongly_convex():
    strong = eye_problem(gamma=0.01, w=2.0)
    assert strong_convexity(strong, Floor(0.2)) > 0
    assert strong_convexity(strong, Sublevel(0.2)) > 0
    assert strong_convexity(strong, Floor(1e-4)) <= 0
    assert strong_convexity(eye_problem(gamma=0.01, w=0.1), Floor(0.2)) <= 0
    # A ball across or around the barrier is never convex; without gamma every ball has a bound.
    assert strong_convexity(strong, Ball(np.zeros(4), 100.0)) == -math.inf
    assert strong_convexity(barrier(), Ball(np.zeros(6), 1.0)) == -math.inf
    plain = cr.SoftmaxRegression(np.eye(4), strong.b, w=2.0)
    assert strong_convexity(plain, Ball(np.zeros(4), 100.0)) == pytest.approx(4 - 0.242)


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@cases(200)
@given(seed=st.integers(0, 2**32 - 1))
def test_hessian_is_lipschitz_along_a_segment(seed, reading):
    rng = np.random.default_rng(seed)
    problem = random_problem(seed % 1000, 8, 3, reading=reading, gamma=10 ** rng.uniform(-3, 0))
    x, y = rng.normal(size=(2, 3))
    y = x + (y - x) * 10 ** rng.uniform(-2, 0)
    R, distance = constants.spread(problem), np.linalg.norm(x - y)
    # What the docstring promises of endpoints alone.
    least = min(float(problem.ell_1(x)), float(problem.ell_1(y)))
    floor = max(math.sqrt(least) - R * distance / (4 * math.sqrt(2)), 0) ** 2
    M = R**3 * constants.third_derivative_bound(problem.b, float(problem.gamma), floor)
    difference = np.linalg.norm(problem.hessian(x) - problem.hessian(y), 2)
    assert difference <= M * distance + 1e-12 * np.linalg.norm(problem.hessian(x), 2)
    for s in np.linspace(0, 1, 7):
        assert problem.ell_1(x + s * (y - x)) >= floor * (1 - 1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_spread_bounds_the_logits_of_a_unit_step(name):
    problem = PROBLEMS[name]()
    A = np.asarray(problem.A.todense() if hasattr(problem.A, "todense") else problem.A)
    exact = max(np.linalg.norm(a - b) for a in A for b in A)
    assert exact <= constants.spread(problem) * (1 + 1e-12)
    assert constants.spread(problem) <= 2 * exact * (1 + 1e-12)


def newton_errors(problem, start, x_star, steps):
    x, errors = start, []
    for _ in range(steps):
        errors.append(np.linalg.norm(x - x_star))
        x = x - np.linalg.solve(problem.hessian(x), problem.gradient(x))
    return errors


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", ["joint", "block", "softmax", "small w", "one column"])
def test_newton_converges_quadratically_in_its_region(name):
    problem = PROBLEMS[name]()
    x = np.asarray(cr.solve(problem).raise_for_status().x)
    region = newton_region(problem, x)
    assert region.radius > 0
    assert region.minimizer_within < 1e-6
    x_star = x
    for _ in range(3):  # to the last digit
        x_star = x_star - np.linalg.solve(problem.hessian(x_star), problem.gradient(x_star))
    assert np.linalg.norm(x - x_star) <= region.minimizer_within + 1e-14
    assert region.modulus <= np.linalg.eigvalsh(problem.hessian(x_star))[0] * (1 + 1e-9)
    rng = np.random.default_rng(0)
    for _ in range(10):
        v = rng.normal(size=problem.d)
        start = x + 0.999 * region.radius * v / np.linalg.norm(v)
        errors = newton_errors(problem, start, x_star, 6)
        for before, after in itertools.pairwise(errors):
            share = region.lipschitz * before
            assert after <= share * before / (2 * (region.modulus - share)) + 1e-13
        assert errors[-1] < 1e-12
    assert region.printed_log_radius < -6000


def test_newton_region_where_nothing_is_proved():
    problem = random_problem(1, 30, 4)
    far = np.full(4, 3.0)
    least = pytest.approx(np.linalg.eigvalsh(problem.hessian(far))[0])
    assert newton_region(problem, far) == (0.0, math.inf, least, math.inf, -math.inf)


def test_newton_region_on_the_example():
    problem = cr.example_instance()
    region = newton_region(problem, cr.solve(problem, rtol=1e-12).x)
    assert region.radius > 1e-7
    assert region.printed_log_radius < -43_000


@pytest.mark.quick(1)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("reading", READINGS)
@cases(150)
@given(seed=st.integers(0, 2**32 - 1))
def test_level_set_tau_and_floor(seed, reading, metric):
    rng = np.random.default_rng(seed)
    problem = random_problem(
        seed % 1000, 8, 3, reading=reading, gamma=10 ** rng.uniform(-3, 0), w=0.1
    ).replace(metric=metric)
    x = rng.normal(size=3) * 3
    value = float(problem.value(x)) * (1 + 1e-12)
    n1, n2 = problem.n1, problem.n - problem.n1
    margin = problem.ell_1(x) / n1 - problem.ell_2(x) / n2
    assert level_set_tau(problem, value) <= margin * (1 + 1e-12) + 1e-12
    assert regions_of_convexity.loss_floor(problem, value) <= problem.ell_1(x) * (1 + 1e-12)
    certificate = cr.certify(problem, x)
    assert certificate.level_set_tau == level_set_tau(problem, certificate.value.upper)


@cases(500)
@given(
    first=st.floats(1e-3, 30), second=st.floats(0, 30), share=st.floats(0.01, 0.99),
    gamma=st.floats(1e-4, 30), slack=st.floats(0, 1),
)  # fmt: skip
def test_cross_entropy_tau(first, second, share, gamma, slack):
    value = (share * first + (1 - share) * second + gamma / first) * (1 + slack)
    tau = cross_entropy_level_set_tau(gamma, share, value * (1 + 1e-12))
    # The size of the numbers that tau is a difference of.
    size = (first + gamma / first + value) / (1 - share)
    assert tau <= first - second + 1e-12 * size


def test_gamma_for_balances_the_protection_term():
    for share, target in ((0.1, 4.0), (0.5, 0.7)):
        gamma = protection.gamma_for(target, share)
        t = np.linspace(0.5, 1.5, 1001) * target
        assert t[np.argmin(share * t + gamma / t)] == pytest.approx(target)
    # At that gamma, a loss that only just reaches the target certifies what is left of it.
    share, target = 0.2, 3.0
    gamma = protection.gamma_for(target, share)
    tau = cross_entropy_level_set_tau(gamma, share, 2 * share * target)
    assert tau == pytest.approx(3.0, abs=0.05)


BAD = [
    (lambda p: constants.convexity_threshold(p, 1.5, 1.0), r"Lemma 13 supposes gamma in \(0, 1\)"),
    (lambda p: constants.convexity_threshold(p, math.nan, 1.0), r"supposes gamma in \(0, 1\)"),
    (lambda p: constants.convexity_threshold(p, 0.5, -1.0), "Lemma 13 supposes l > 0"),
    (lambda p: constants.hessian_lipschitz(p, 3.9, 0.5), "Lemma 14 supposes R >= 4"),
    (lambda p: constants.hessian_lipschitz(p, 10, 0.0), r"Lemma 14 supposes gamma in \(0, 1\)"),
    (lambda p: constants.hessian_lipschitz(cr.CopyrightRegression(11 * p.A, p.b, 2), 10, 0.5),
     r"\|\|A\|\| = 11, but Lemma 14 supposes \|\|A\|\| <= R"),
    (lambda p: constants.hessian_lipschitz(cr.CopyrightRegression(p.A, 2 * p.b, 2), 10, 0.5),
     r"Lemma 14 supposes \|\|b\|\|_2 <= 1"),
    (lambda p: strong_convexity(p, Floor(0.0)), "floor of ell_1 is 0.0"),
    (lambda p: strong_convexity(p, Sublevel(0.01)), "L is at least 0.447"),
    (lambda p: strong_convexity(p, Ball([0.0] * 3, 1.0)), "center has shape"),
    (lambda p: strong_convexity(p, Ball([0.0] * 4, -1.0)), "radius is -1.0"),
    (lambda p: strong_convexity(p, Ball([math.nan] * 4, 1.0)), "center has entries that are not"),
    (lambda p: strong_convexity(p, None), "give a Floor, a Sublevel or a Ball"),
    (lambda p: level_set_tau(p, math.nan), "no x has L <= nan"),
    (lambda p: level_set_tau(p, 0.1), "no x has L <= 0.1: L is at least 0.447"),
    (lambda p: newton_region(p, [0.0, math.inf, 0, 0]), "x has entries that are not"),
    (lambda _: newton_region(barrier(), np.zeros(6)), "no finite Hessian"),
    (lambda _: protection.gamma_for(-1.0, 0.5), "target_protected_loss is -1.0"),
    (lambda _: protection.gamma_for(1.0, 1.0), "share is 1.0"),
    (lambda _: cross_entropy_level_set_tau(1.0, 0.5, 1.0), "total is at least 1.414"),
    (lambda _: cross_entropy_level_set_tau(0.0, 0.5, 1.0), "gamma is 0.0"),
    (lambda _: constants.curvature_range([0.0, math.nan]), "b must be one row of numbers"),
    (lambda _: constants.curvature_range(np.eye(2)), "b must be one row"),
    (lambda _: constants.curvature_range([1e308, 1e308]), "b must be one row"),
    (lambda _: constants.curvature_range([0.5, -0.5], "cross-entropy"), r"b is -0\.5 somewhere"),
    (lambda _: constants.curvature_range([0.5, 0.5], "kl"), "metric is 'kl'; choose one of"),
    (lambda _: constants.third_derivative_bound([math.nan, 1], 0.1, 0.5), "b must be one row"),
    (lambda p: constants.third_derivative_bound(p.b, -10.0, 0.5), "gamma is -10.0"),
    *(
        (lambda p, f=f: f(p.replace(metric="cross-entropy")), "about the squared distance, but")
        for f in (
            lambda p: constants.convexity_threshold(p, 0.5, 1.0),
            lambda p: constants.hessian_lipschitz(p, 10, 0.5),
            lambda p: strong_convexity(p, Ball([0.0] * 4, 1.0)),
            lambda p: newton_region(p, [0.0] * 4),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_and_what_is_outside_the_hypotheses(call, message):
    with pytest.raises(cr.InputError, match=message):
        call(eye_problem(gamma=0.1))


@pytest.mark.slow
def test_sparse_and_dense_agree():
    rng = np.random.default_rng(0)
    A = scipy.sparse.random_array((40, 6), density=0.5, format="csr", rng=rng)
    b = rng.dirichlet(np.ones(40))
    sparse = cr.CopyrightRegression(A, b, 10)
    dense = cr.CopyrightRegression(A.toarray(), b, 10)
    for question in (
        lambda p: constants.convexity_threshold(p, 0.3, 1.0),
        lambda p: constants.hessian_lipschitz(p, 100, 0.3),
        lambda p: strong_convexity(p, Sublevel(2.0)),
        lambda p: newton_region(p, cr.solve(dense).x),
    ):
        np.testing.assert_allclose(question(sparse), question(dense), rtol=1e-8, atol=1e-12)


def test_float32_problems_are_answered_where_that_is_sound():
    problem = cr.CopyrightRegression(
        jnp.eye(4, dtype=jnp.float32), np.array([0.4, 0.3, 0.2, 0.1], np.float32), 2
    )
    assert problem.dtype == np.float32
    assert strong_convexity(problem, Floor(0.5)) == pytest.approx(0.51, abs=0.01)
    unit = cr.CopyrightRegression(problem.A, np.array([0.6, 0.8, 0, 0], np.float32), 2)
    assert constants.hessian_lipschitz(unit, 10, 0.5).usable < 10
    # Derivatives in float32 prove nothing.
    for question in (
        lambda: newton_region(problem, np.zeros(4)),
        lambda: strong_convexity(problem, Ball(np.zeros(4), 0.1)),
    ):
        with pytest.raises(cr.PrecisionError, match="jax_enable_x64"):
            question()


@pytest.mark.parametrize("offset", [1e6, 1e9])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_spread_of_rows_that_share_an_offset(form, offset):
    rng = np.random.default_rng(0)
    for _ in range(20):
        A = offset + rng.normal(size=(3, 2))
        with pytest.warns(cr.NotCoerciveWarning):
            problem = cr.SoftmaxRegression(form(A), [0.2, 0.3, 0.5], w=0.0)
        exact = max(np.linalg.norm(a - c) for a in A for c in A)
        assert exact <= constants.spread(problem)


@pytest.mark.slow
def test_a_singular_hessian_is_never_called_definite():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a = rng.normal(size=(6, 2)) * 10 ** rng.uniform(-3, 3)
        dependent = np.c_[a, a @ rng.normal(size=2)]
        for A in (dependent, dependent[:2], scipy.sparse.csr_array(dependent)):
            n = A.shape[0]
            problem = cr.CopyrightRegression(A, np.full(n, 1 / n), 1, gamma=1e-3, w=2.0)
            x = rng.normal(size=3) / np.abs(a).max()
            for region in (Floor(0.3), Sublevel(1.0), Ball(x, 1e-9)):
                assert strong_convexity(problem, region) <= 0
            assert newton_region(problem, x).radius == 0


def test_rounding_of_a_large_gram_matrix_does_not_prove_convexity():
    # At x below, v^T H v = -0.0441 along the unit v with a_1 v = 0 (60 digits).
    A = np.array([[-277616997.3359813, -282698084.6441197], [0, 1], [0, 0]])
    problem = cr.SoftmaxRegression(A, [0.0, 1.0, 0.0], w=[2.0, 0.01, 0.01])
    assert strong_convexity(problem, Sublevel(5.0)) <= 0


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (lambda p: strong_convexity(p, Floor(1e-170)), -math.inf),
        (lambda p: strong_convexity(p, Sublevel(1e163)), -math.inf),
        (lambda p: constants.convexity_threshold(p, 1e-110, 1.0).printed, math.inf),
        (lambda p: constants.hessian_lipschitz(p, 10, 1e-140).usable, math.inf),
        (lambda p: constants.hessian_lipschitz(p, 1e160, 0.5).printed_log, math.inf),
        (lambda p: constants.third_derivative_bound(p.b, 0.1, 1e-140), math.inf),
        (lambda _: protection.gamma_for(1e200, 0.5), math.inf),
    ],
)
def test_beyond_the_range_of_floats(call, value):
    assert call(eye_problem(gamma=0.1)) == value


@pytest.mark.parametrize("size", [1e-160, 1e103, 1e155])
def test_matrices_near_the_ends_of_float64(size):
    problem = cr.SoftmaxRegression(size * np.eye(4), np.full(4, 0.25))
    for region in (Floor(0.5), Sublevel(1.0)):
        assert not math.isnan(strong_convexity(problem, region))
    ball = Ball(np.zeros(4), 1.0)
    if size < 1e150:
        assert not math.isnan(strong_convexity(problem, ball))
    else:
        with pytest.raises(cr.InputError, match="no finite Hessian"):
            strong_convexity(problem, ball)


def test_values_that_are_only_just_reached():
    plain = cr.SoftmaxRegression(np.eye(4), np.full(4, 0.25))
    assert strong_convexity(plain, Sublevel(0.0)) == pytest.approx(1.0)
    for gamma in np.linspace(0.01, 1, 300):
        problem = eye_problem(gamma=gamma)
        least = math.sqrt(2 * gamma)
        assert regions_of_convexity.loss_floor(problem, least) == pytest.approx(least)
        assert math.isfinite(level_set_tau(problem, least))


def test_numpy_scalars_are_numbers():
    tau = cross_entropy_level_set_tau(np.float32(0.5), np.float32(0.5), np.float32(2.0))
    assert tau == cross_entropy_level_set_tau(0.5, 0.5, 2.0)


def test_equal_rows_leave_a_quadratic():
    problem = cr.SoftmaxRegression(np.ones((3, 1)), np.full(3, 1 / 3))
    region = newton_region(problem, [0.0])
    assert region.radius == math.inf
    assert region.lipschitz == 0
