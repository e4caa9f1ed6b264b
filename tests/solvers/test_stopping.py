"""What CONVERGED means: docs/theory/stopping.md, tried on starts, units and instances that lie."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
import scipy.sparse
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.matrices.interface import row_norms
from copyreg_jax.solvers import examination, optimality, recheck
from copyreg_jax.solvers.steps import initial_state, precompute
from tests.support.exact import second_order
from tests.support.registry import METRICS, PROBLEMS, READINGS, SOLVERS, Draw, cases, random_problem

SECOND_ORDER = {name: SOLVERS[name] for name in ("newton-cg", "newton", "sketched-newton")}


def attention(n, d, temperature, *, gamma, w, dtype, seed=0):
    """Rows of unit length, b their softmax for a random query: it can be met exactly."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, d))
    A /= np.linalg.norm(A, axis=1)[:, None]
    query = rng.normal(size=d)
    u = temperature * A @ query / np.linalg.norm(query)
    b = np.exp(u - u.max())
    A, b = A.astype(dtype), (b / b.sum()).astype(dtype)
    return cr.CopyrightRegression(A, b, n // 10, gamma, w)


def three_ways(problem, solver, x0=None, **settings):
    """Status and x of a run, of one in a batch and of one under jit."""
    alone = cr.solve(problem, solver, x0, **settings)
    many = cr.solve_many([problem, problem], solver, x0, **settings)
    traced = jax.jit(lambda p: cr.solve(p, solver, x0, **settings))(problem)
    statuses = alone.status, many.status[0], many.status[1], traced.status
    return alone, zip(map(int, statuses), (alone.x, *many.x, traced.x), strict=True)


# The start has no say.


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["newton-cg", "newton"])
@pytest.mark.parametrize("away", [1e-6, 1e-12])
def test_a_start_beside_the_barrier_is_no_solution(solver, away):
    # At x = 0 the protected loss is away^2: L is 1e11 and 1e23, the gradient larger still.
    b = np.full(3, 1 / 3) + np.array([away, 0, -away])
    problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], b, 1, gamma=0.1, w=0.1)
    solution = cr.solve(problem, SOLVERS[solver], x0=np.zeros(1)).raise_for_status()
    # Of the two minima, on both sides of the barrier, one is at 0.605 and one at 1.245.
    lowest = cr.solve(problem).value
    assert min(abs(solution.value - 1.245), abs(solution.value - lowest)) < 1e-3
    many = cr.solve_many([problem, problem], SOLVERS[solver], x0=np.zeros(1))
    np.testing.assert_allclose(many.value, solution.value, rtol=1e-9)


@pytest.mark.slow
def test_a_path_from_gamma_zero_ends_where_a_cold_start_does():
    rng = np.random.default_rng(0)
    A, x = rng.normal(size=(60, 8)), rng.normal(size=8)
    b = np.exp(A @ x) / np.exp(A @ x).sum()  # gamma = 0 ends next to the barrier
    problem = cr.CopyrightRegression(A, b, 20, gamma=1e-3, w=1e-3)
    first, last = cr.solve_path(problem, gamma=[0, 1e-3])
    assert first.status is last.status is cr.Status.CONVERGED
    assert last.value < 1.01 * cr.solve(problem).value
    assert last.gradient_norm <= 1e-10 * last.gradient_size


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "far"), [("f8", 1e8), ("f4", 3e3)])
def test_large_logits_on_the_way_leave_nothing_in_the_gradient(dtype, far):
    """What NewtonCG adds up is not what it is judged by: x is, also where no host looks again."""
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(30, 4)).astype(dtype), rng.dirichlet(np.ones(30)).astype(dtype)
    problem, x0 = cr.SoftmaxRegression(A, b, np.asarray(1, dtype)), np.full(4, far, dtype)
    rtol = 1e-10 if dtype == "f8" else 1e-4
    for status, x in three_ways(problem, cr.NewtonCG(), x0)[1]:
        assert status == cr.Status.CONVERGED
        found = recheck.evaluate(problem, np.asarray(x))
        assert found.gradient_norm <= rtol * found.gradient_size


# Nor has the unit of A.


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", ["small w", "cross-entropy block"])
@pytest.mark.parametrize(
    ("solver", "dtype"), [*((name, "f8") for name in SECOND_ORDER), ("newton-cg", "f4")]
)
def test_any_unit_of_A(name, solver, dtype):
    """A power of two changes no digit of A, and so none of the run."""
    given = PROBLEMS[name]()
    arrays = [np.asarray(v, dtype) for v in (given.A, given.b, given.gamma, given.w)]

    def solved(unit):
        A, b, gamma, w = arrays
        problem = cr.CopyrightRegression(
            A * np.asarray(unit, dtype), b, given.protected, gamma, w, given.reading, given.metric
        )
        return cr.solve(problem, SOLVERS[solver])

    plain = solved(1.0)
    assert plain.status in (cr.Status.CONVERGED, cr.Status.SADDLE)
    for exponent in (-40, -13, 5, 40):  # 1e-12 to 1e12
        other = solved(2.0**exponent)
        assert other.status is plain.status
        assert other.num_steps == plain.num_steps
        np.testing.assert_array_equal(np.asarray(other.x) * 2.0**exponent, plain.x)


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e12, 1e30])
def test_small_and_large_units_leave_float32_its_digits(unit):
    vector = np.array([3.0, 4.0], np.float32) * np.float32(unit)
    assert float(optimality.length(jax.numpy.asarray(vector))) == pytest.approx(5 * unit, rel=1e-6)
    rows = np.stack([vector, 0 * vector])
    for A in (rows, scipy.sparse.csr_array(rows), cr.RowBlocks(rows)):
        problem = cr.SoftmaxRegression(A, np.array([0.5, 0.5], np.float32))
        np.testing.assert_allclose(row_norms(problem.A), [5 * unit, 0], rtol=1e-6)


# Small gradients are not small enough.


@pytest.mark.slow
def test_a_small_gradient_in_float32_is_no_solution():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30_000, 20)).astype("f4")
    b = rng.dirichlet(np.full(30_000, 0.05)).astype("f4")
    problem = cr.CopyrightRegression(A, b, 3_000, gamma=1e-3, w=1e-4)
    solution = cr.solve(problem)
    assert solution.num_steps > 0
    exact = cr.CopyrightRegression(A.astype("f8"), b.astype("f8"), 3_000, gamma=1e-3, w=1e-4)
    best = cr.solve(exact, x0=np.asarray(solution.x, "f8"))
    assert solution.value <= best.value * (1 + 1e-3)


@pytest.mark.slow
def test_an_almost_exact_fit_in_float32_is_told_from_the_minimum():
    problem = attention(5_000, 64, 20, gamma=0, w=1e-7, dtype="f4")
    solution = cr.solve(problem).raise_for_status()
    exact = cr.CopyrightRegression(
        *(np.asarray(v, "f8") for v in (problem.A, problem.b)), 500, 0, np.float64(np.float32(1e-7))
    )
    assert solution.value <= cr.solve(exact).value * (1 + 1e-3)


@pytest.mark.slow
def test_a_solution_that_the_last_step_finds_is_one():
    """S grows ten thousandfold on the way, and the tolerance of the start is met much later."""
    n, rng = 3000, np.random.default_rng(0)
    A, b = 0.1 * rng.normal(size=(n, 4)), np.full(n, 0.1 / (n - 1))
    A[0], b[0] = [10, 0, 0, 0], 0.9
    problem = cr.SoftmaxRegression(A, b, w=1e-3)
    alone, ends = three_ways(problem, cr.AcceleratedGradient(), max_steps=1500)
    assert {status for status, _ in ends} == {cr.Status.CONVERGED}
    assert alone.num_steps == 1500
    assert alone.gradient_norm <= 1e-10 * alone.gradient_size
    few = cr.solve(problem, cr.AcceleratedGradient(), max_steps=300)
    assert few.status is cr.Status.MAX_STEPS


# No state comes twice.


@pytest.mark.slow
def test_a_doubtful_curvature_in_float32_ends():
    problem = attention(8_000, 192, 30, gamma=1e-3, w=1e-5, dtype="f4")
    solution = cr.solve(problem, rtol=1e-4).raise_for_status()
    assert solution.num_steps < 100
    assert np.count_nonzero(np.diff(solution.history.value)) > 0.5 * solution.num_steps


@pytest.mark.slow
@pytest.mark.parametrize("solver", [cr.NewtonCG(), cr.TrustRegionNewton()])
def test_negative_curvature_that_no_step_follows_ends_the_run(solver, monkeypatch):
    """A look that always sees a saddle: it is left once for each fall of L, also under jit."""

    def saddle(problem, u, gradient, rtol, *, mixed):
        direction = jax.numpy.ones_like(gradient)
        negative = jax.numpy.asarray(cr.SecondOrder.NEGATIVE, jax.numpy.int32)
        return optimality.Look(jax.numpy.zeros_like(u, shape=()), negative, direction)

    monkeypatch.setattr(examination, "exact_look", saddle)
    examine = type(solver).examine
    monkeypatch.setattr(
        type(solver), "examine", lambda *a: (examine(*a)[0], optimality.unknown(a[3].x))
    )
    problem = random_problem(21, 37, 3)  # a shape that no other test has compiled
    solution = cr.solve(problem, solver, max_steps=400)
    assert solution.status is cr.Status.SADDLE
    assert solution.num_steps < 100
    traced = jax.jit(lambda p: cr.solve(p, solver, max_steps=400))(problem)
    assert int(traced.status) == cr.Status.SADDLE


@pytest.mark.slow
def test_optax_steps_of_zero_are_no_stall():
    problem = random_problem(0, 30, 4)
    from_zero = optax.linear_schedule(0.0, 0.02, 20)
    pause = optax.join_schedules([optax.constant_schedule(v) for v in (0.02, 0, 0.02)], [10, 30])
    for transformation in (
        optax.adam(from_zero),
        optax.sgd(from_zero),
        optax.sgd(pause),
        optax.MultiSteps(optax.adam(0.02), 7).gradient_transformation(),
    ):
        solution = cr.solve(problem, cr.Optax(transformation), rtol=1e-4, max_steps=3_000)
        assert solution.status is cr.Status.CONVERGED, transformation
    stalled = cr.solve(problem, cr.Optax(optax.sgd(0.0)), max_steps=3_000)
    assert stalled.status is cr.Status.STALLED
    assert stalled.num_steps == 100


@pytest.mark.slow
def test_many_converge_where_one_does():
    problems = [random_problem(seed, 40, 6) for seed in range(40)]
    batch = cr.solve_many(problems, rtol=5e-15)
    alone = [cr.solve(problem, cr.TrustRegionNewton(), rtol=5e-15).status for problem in problems]
    assert np.all((batch.status == cr.Status.CONVERGED) >= (np.array(alone) == cr.Status.CONVERGED))
    assert np.mean(batch.status == cr.Status.CONVERGED) > 0.9


# Saddle points.


def mirrored(seed):
    """Every row twice, a last column of 1 and -1: from the start on, its coordinate stays zero."""
    rng = np.random.default_rng(seed)
    half, b = rng.normal(size=(20, 12)), rng.dirichlet(np.full(20, 0.3)) / 2
    one = np.ones((20, 1))
    A = np.block([[half, one], [half, -one]])
    protected = rng.choice(20, 5, replace=False)
    protected = np.concatenate([protected, protected + 20])
    return cr.CopyrightRegression(A, np.concatenate([b, b]), protected, gamma=1e-2, w=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["newton-cg", "newton"])
def test_no_saddle_of_a_mirrored_instance_is_a_solution(solver):
    for seed in range(40):
        problem = mirrored(seed)
        solution = cr.solve(problem, SOLVERS[solver]).raise_for_status()
        assert solution.second_order is cr.SecondOrder.EXACT
        lam = np.linalg.eigvalsh(problem.hessian(solution.x))
        assert lam[0] >= -16 * 13 * 2.0**-52 * lam[-1]


@pytest.mark.quick(1)
@pytest.mark.parametrize(("reading", "metric"), [(r, m) for r in READINGS for m in METRICS])
def test_looks_agree_on_device_and_host(reading, metric):
    problem = random_problem(3, 40, 6, reading=reading, metric=metric, w=0.02)
    x = np.random.default_rng(0).normal(size=6)
    device = optimality.exact_look(problem, problem.logits(x), problem.gradient(x), 1e-10)
    host = recheck.second_order(problem, x, 1e-10)
    assert int(device.second_order) == host.second_order
    assert float(device.decrement) == pytest.approx(host.decrement, rel=1e-9)
    if host.second_order is cr.SecondOrder.NEGATIVE:
        v = host.direction
        assert v @ np.asarray(problem.hessian(x)) @ v < 0
        cosine = v @ np.asarray(device.direction) / np.linalg.norm(v)
        assert cosine / np.linalg.norm(device.direction) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("unit", [1.0, 1e-21, 1e-150, 1e25])
@pytest.mark.parametrize("w", [1.0, 0.02, 1e-3])
def test_a_look_from_float32_overstates_the_decrement_by_a_tenth_at_most(w, unit):
    problem = random_problem(3, 40, 6)
    problem = cr.CopyrightRegression(
        unit * np.asarray(problem.A), problem.b, problem.protected, gamma=problem.gamma, w=w
    )
    x = np.random.default_rng(0).normal(size=6) / unit
    given = problem, problem.logits(x), problem.gradient(x), 1e-10
    exact, mixed = (optimality.exact_look(*given, mixed=mixed) for mixed in (False, True))
    assert int(mixed.second_order) == int(exact.second_order)
    # The curvature is 10 times what rounding is allowed, and that is taken from it: sqrt(10 / 9) at
    # most, where the error itself is far below what it is allowed. And never less, up to float64.
    excess = mixed.decrement / exact.decrement - 1
    assert -1e-12 <= excess <= (10 / 9) ** 0.5 - 1
    if (w, unit) == (1.0, 1.0):  # it is taken: 16 * 6 eps of float32, halved by the root
        assert excess > 1e-6


def test_a_look_from_float32_is_taken_anew_where_it_is_not_precise_enough():
    """The columns differ by 1e-5: their smallest eigenvalue is 1e-10, far below eps of float32."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(40, 1)) + 1e-5 * rng.normal(size=(40, 3))
    problem = cr.CopyrightRegression(A, rng.dirichlet(np.ones(40)), 4, gamma=0.1, w=1.0)
    given = problem, problem.logits(np.ones(3)), problem.gradient(np.ones(3)), 1e-10
    exact, mixed = (optimality.exact_look(*given, mixed=mixed) for mixed in (False, True))
    # As far as float64 knows it: 3 columns, and a condition of 1e10. Float32 knows nothing of it.
    assert float(mixed.decrement) == pytest.approx(float(exact.decrement), rel=3 * 2.0**-52 * 1e10)


def test_a_look_from_float32_sees_what_underflow_has_taken():
    """Squares of 3e-20 are no normal numbers; 2000 of them are nine tenths of an entry."""
    A = 3e-20 * np.resize([1.0, -1.0], (2000, 1)) * np.ones(2)
    A[0, 0] = A[1, 1] = 4e-19
    problem = cr.CopyrightRegression(A, np.full(2000, 1 / 2000), 9, gamma=1e-9, w=1.0)
    x = np.array([1e19, -2e19])
    given = problem, problem.logits(x), problem.gradient(x), 1e-10
    exact, mixed = (optimality.exact_look(*given, mixed=mixed) for mixed in (False, True))
    # Float32 has 7 digits; a compiled and an eager look in float64 differ in the last few of 16.
    assert float(mixed.decrement) == pytest.approx(float(exact.decrement), rel=1e-12)


def test_a_look_from_float32_sees_the_weight_that_has_underflown():
    """Its row is long, so that it bends L down; in float32 the weight is zero."""
    rng = np.random.default_rng(0)
    A = 0.01 * rng.normal(size=(40, 3))
    A[-1] = [8e18, 0, 0]
    b, w = np.full(40, 0.5 / 39), np.ones(40)
    b[-1], w[-1] = 0.5, 1e-30
    problem = cr.CopyrightRegression(A, b, 4, gamma=1e-9, w=w)
    x = np.array([-84 / 8e18, 0.3, -0.2])
    given = problem, problem.logits(x), problem.gradient(x), 1e-10
    exact, mixed = (optimality.exact_look(*given, mixed=mixed) for mixed in (False, True))
    # Float32 has 7 digits; a compiled and an eager look in float64 differ in the last few of 16.
    assert float(mixed.decrement) == pytest.approx(float(exact.decrement), rel=1e-12)


@pytest.mark.parametrize(
    ("solver", "large", "mixed"),
    [(cr.NewtonCG(), 0, True), (cr.NewtonCG(mixed=False), 0, False), (cr.NewtonCG(), 1e9, False)],
)
def test_the_look_is_from_float32_where_that_pays(monkeypatch, solver, large, mixed):
    asked, look = [], optimality.exact_look
    monkeypatch.setattr(optimality, "_LARGE_GRAM", large)
    monkeypatch.setattr(
        examination, "exact_look", lambda *a, **k: (asked.append(k["mixed"]), look(*a, **k))[1]
    )
    seed = 50 + int(mixed)  # shapes of its own: a compiled program would not ask
    problem = random_problem(3, seed, 6, w=0.05)
    jax.clear_caches()
    solution = cr.solve(problem, solver).raise_for_status()
    assert solution.second_order is cr.SecondOrder.EXACT
    assert set(asked) == {mixed}


@pytest.mark.slow
def test_beyond_512_columns_curvature_is_sampled():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(700, 520)), rng.dirichlet(np.full(700, 0.05))
    solution = cr.solve(cr.CopyrightRegression(A, b, 70, gamma=1e-3, w=1e-2)).raise_for_status()
    assert solution.second_order is cr.SecondOrder.SAMPLED
    assert 0.5 * solution.decrement**2 <= 1e-10 * solution.value


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_beyond_512_sparse_columns_a_bound_of_convexity_spares_the_samples(
    dtype, metric, monkeypatch
):
    def sampled_look(*arguments):
        raise AssertionError("sampled")

    rng = np.random.default_rng(0)
    A = scipy.sparse.random_array((900, 530), density=0.02, format="csr", rng=rng).astype(dtype)
    b = rng.dirichlet(np.ones(900)).astype(dtype)
    problem = cr.CopyrightRegression(A, b, 90, gamma=1e-6, w=0.3, metric=metric)
    kit = precompute(problem, cr.NewtonCG())
    solution = cr.solve(problem).raise_for_status()
    gradient = recheck.Rechecks(problem, row_norms(problem.A)).at(solution.x)[1]
    state = initial_state(problem, kit, solution.x, 1e-10, cr.NewtonCG())
    state, _ = cr.NewtonCG().examine(problem, kit.precomputed, state)
    state = state._replace(gradient=jnp.asarray(gradient, dtype))
    look = cr.NewtonCG().look(problem, kit.precomputed, state)
    assert look.second_order == cr.SecondOrder.CONVEX
    # The true decrement, by the Hessian in float64. In the unit of its diagonal its lowest
    # eigenvalue is 0.057 here, and 1.5e-6 (0.035 in float32) is supposed.
    assert look.decrement >= recheck.second_order(problem, solution.x, 1e-10).decrement
    if dtype == "f8":  # float32 is looked at once more in any case
        monkeypatch.setattr(examination, "sampled_look", sampled_look)
        jax.clear_caches()
        assert cr.solve(problem).second_order is cr.SecondOrder.CONVEX


@pytest.mark.slow
@pytest.mark.parametrize("apart", [1e-5, 1e-6])
def test_a_flat_direction_of_sparse_columns_is_seen_where_the_gradient_points_to_it(apart):
    """Two columns are nearly one: far along the lowest eigenvector L is too high, and flat."""
    rng = np.random.default_rng(0)
    A = scipy.sparse.random_array((900, 530), density=0.02, format="lil", rng=rng)
    A[:, 1] = A[:, [0]] + apart * scipy.sparse.random_array((900, 1), density=0.02, rng=rng)
    b = rng.dirichlet(np.ones(900))
    problem = cr.CopyrightRegression(A.tocsr(), b, 90, gamma=1e-6, w=0.3)
    x = np.asarray(cr.solve(problem).x)
    H = np.asarray(problem.hessian(x))
    unit = np.diag(H) ** -0.5
    lam, Q = np.linalg.eigh(H * unit * unit[:, None])
    assert lam[0] < 1e-9
    excess = 1e-7 * float(problem.value(x))
    away = x + (2 * excess / lam[0]) ** 0.5 * unit * Q[:, 0]
    solver = cr.NewtonCG()
    kit = precompute(problem, solver)
    state = initial_state(problem, kit, away, 1e-10, solver)
    _, look = solver.examine(problem, kit.precomputed, state)
    assert look.second_order == cr.SecondOrder.CONVEX
    # L is quadratic that near, up to parts of 1e-3; the gradient of x itself is far below.
    assert 0.5 * float(look.decrement) ** 2 > 0.9 * excess


@pytest.mark.slow
def test_nothing_to_look_at():
    b = np.array([0.4, 0.3, 0.2, 0.1])
    solution = cr.solve(cr.CopyrightRegression(np.zeros((4, 520)), b, 1, gamma=0.1, w=0.01))
    assert solution.status is cr.Status.CONVERGED
    assert solution.decrement == 0


@pytest.mark.quick(1)
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("solver", ["newton-cg", "sketched-newton", "lbfgs"])
def test_a_loose_tolerance_takes_no_hilltop_for_a_solution(solver, dtype):
    """At 0, between two minima, the model of L falls by 0.5 % of L on both sides: below rtol."""
    A, b = np.array([[1.0], [-1.0], [0.0]], dtype), np.array([0.55, 0.55, 0.1], dtype)
    gamma, w = np.array(1e-2, dtype), np.array(0.36846, dtype)
    problem = cr.CopyrightRegression(A, b, 2, gamma, w)
    curved = float(problem.hessian(np.zeros(1, dtype))[0, 0])
    assert 1e-3 < -0.5 * curved / (2 / 3) / float(problem.value(np.zeros(1, dtype))) < 1e-2
    solution = cr.solve(problem, SOLVERS[solver], np.zeros(1, dtype), rtol=1e-2)
    if solver == "newton-cg":
        assert solution.status is cr.Status.CONVERGED
        assert problem.hessian(solution.x)[0, 0] > 0
    else:
        assert solution.status is cr.Status.SADDLE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "dtype", "reading", "metric"),
    [
        ("newton-cg", "f8", "joint", "squared"),
        ("newton-cg", "f4", "block", "squared"),
        ("newton", "f8", "block", "cross-entropy"),
        ("newton", "f4", "joint", "squared"),
        ("sketched-newton", "f8", "joint", "squared"),
        ("accelerated-gradient", "f8", "joint", "cross-entropy"),
        ("lbfgs", "f4", "joint", "squared"),
    ],
)
@cases(30)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_has_converged_meets_the_rule_exactly(solver, dtype, reading, metric, seed):
    rng = np.random.default_rng(seed)
    n, d = 12, 3
    A = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1)
    b = rng.dirichlet(np.full(n, 10.0 ** rng.uniform(-1, 1)))
    if rng.random() < 0.3:  # a fit that is exact
        b = np.exp(A @ (rng.normal(size=d) / np.abs(A).max()))
        b /= b.sum()
    gamma = 0.0 if rng.random() < 0.2 else 10.0 ** rng.uniform(-5, 0)
    w = np.full(n, 10.0 ** rng.uniform(-3, 0.5))
    A, b, w = A.astype(dtype), b.astype(dtype), w.astype(dtype)
    gamma = float(np.asarray(gamma, dtype))
    eps = float(np.finfo(dtype).eps)
    rtol = 10.0 ** rng.uniform(np.log10(32 * eps), -2)
    x0 = (rng.normal(size=d) * 10.0 ** rng.uniform(-6, 1)).astype(dtype)
    mask = np.arange(n) < 4
    problem = cr.CopyrightRegression(A, b, mask, np.asarray(gamma, dtype), w, reading, metric)
    solution = cr.solve(problem, SOLVERS[solver], x0, rtol=rtol, max_steps=500)
    if solution.status is cr.Status.MAX_STEPS:  # then it was still on its way
        last = slice(-25 if solver == "sketched-newton" else -5, None)
        assert len({*solution.history.value[last], *solution.history.gradient_norm[last]}) > 2
    if solution.status is not cr.Status.CONVERGED:
        return
    draw = Draw(A, b, mask, gamma, w, np.asarray(solution.x))
    value, norm, size, squared = second_order(draw, reading, metric)
    with mpmath.workprec(200):
        # The host's gradient and size are those of float64: 1e-12 of the terms is far above that.
        assert norm <= (rtol + 1e-12) * size
        u = A.astype("f8") @ np.asarray(solution.x, "f8")
        noise = optimality.allowed_excess(problem, jax.numpy.asarray(u.astype(dtype)), 0.0, 0.0)
        if squared < -1e-25:  # what curvature may then be negative is judged in float64
            found = recheck.second_order(problem, np.asarray(solution.x), rtol)
            assert found.second_order is cr.SecondOrder.EXACT
            squared = found.decrement**2
        assert squared / 2 <= (rtol * value + float(noise)) * (1 + 1e-3)
