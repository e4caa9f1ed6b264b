"""Every solver on every problem, against SciPy and against the promises of `solve`."""

import collections
import dataclasses
import functools
import itertools
import subprocess
import sys
import types
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.problems import curvature, objective
from copyreg_jax.solvers import protocol, sketched_newton, trust_region
from copyreg_jax.solvers.examination import run_jit
from copyreg_jax.solvers.protocol import Method
from copyreg_jax.solvers.start import _SHIFTS, is_convex_at_zero
from copyreg_jax.solvers.steps import initial_state_jit, precompute
from tests.support.registry import PROBLEMS, READINGS, SOLVERS, cases, random_problem

# First-order methods need too many steps there; that they say so is tested below.
TOO_HARD = {
    (problem, solver)
    for problem in ("ill-conditioned", "small w", "barrier at zero")
    for solver in ("gradient-descent", "adam")
} | {("sparse", "gradient-descent"), ("ill-conditioned", "accelerated-gradient")}

# Two equal protected rows: from a symmetric start these methods keep the symmetry.
SADDLES = {
    ("barrier at zero", solver) for solver in ("sketched-newton", "accelerated-gradient", "lbfgs")
}


@functools.cache
def problem_of(name):
    return PROBLEMS[name]()


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("name", "solver"),
    [pair for pair in itertools.product(PROBLEMS, SOLVERS) if pair not in TOO_HARD],
)
def test_solves(name, solver):
    problem = problem_of(name)
    solution = cr.solve(problem, SOLVERS[solver])
    if solver in ("newton-cg", "newton", "sketched-newton"):  # these never rise
        values = solution.history.value
        # Rounding of L as the solver allows it; logits of these problems are at most 10.
        assert np.all(np.diff(values) <= (16 + 100) * 2.0**-52 * np.abs(values[:-1]))
    if (name, solver) in SADDLES:
        assert solution.status is cr.Status.SADDLE
        return
    assert solution.status is cr.Status.CONVERGED, solution
    assert np.linalg.norm(problem.gradient(solution.x)) <= 1e-10 * solution.gradient_size
    best = cr.solve(problem)
    if name not in ("small w", "barrier at zero"):  # not convex: other minima, or saddle points
        np.testing.assert_allclose(solution.value, best.value, rtol=1e-12)


@pytest.mark.quick(1)
@pytest.mark.parametrize(("name", "solver"), sorted(TOO_HARD))
def test_hard_problems_end_honestly(name, solver):
    solution = cr.solve(problem_of(name), SOLVERS[solver], max_steps=300)
    assert solution.status in (cr.Status.MAX_STEPS, cr.Status.CONVERGED)
    assert solution.value <= solution.history.value[0]


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    ("seed", "n", "d", "metric"),
    [
        (0, 20, 1, "squared"),
        *((seed, 100, 8, "squared") for seed in range(1, 9)),
        (16, 500, 32, "squared"),
        (17, 2000, 64, "squared"),
        (18, 20, 1, "cross-entropy"),
        *((seed, 100, 8, "cross-entropy") for seed in range(19, 23)),
        (27, 500, 32, "cross-entropy"),
    ],
)
def test_agrees_with_scipy_on_convex_instances(seed, n, d, metric, reading):
    rng = np.random.default_rng(seed)
    gamma, w = 10.0 ** rng.uniform(-3, 0), 1.0 + rng.random(n)
    problem = random_problem(seed, n, d, reading=reading, w=w, gamma=gamma, metric=metric)
    ours = cr.solve(problem)
    theirs = scipy.optimize.minimize(
        lambda x: float(problem.value(x)),
        np.zeros(d),
        jac=lambda x: np.asarray(problem.gradient(x)),
        hess=lambda x: np.asarray(problem.hessian(x)),
        method="trust-exact",
        options={"gtol": 1e-12, "maxiter": 500},
    )
    assert np.abs(ours.x - theirs.x).max() <= 1e-7
    assert ours.gradient_norm <= 1e-10 * ours.gradient_size


def test_barrier_start_is_avoided_by_default_and_named_if_asked_for():
    problem = problem_of("barrier at zero")
    assert cr.solve(problem).status is cr.Status.CONVERGED
    solution = cr.solve(problem, x0=np.zeros(6))
    assert solution.status is cr.Status.NONFINITE
    assert solution.num_steps == 0
    with pytest.raises(cr.NotConvergedError, match="ell_1 = 0 < gamma at the start"):
        solution.raise_for_status()


def test_rescaled_columns_give_the_same_iterates():
    problem = random_problem(3, 40, 5, w=0.2)
    scale = 2.0 ** np.array([-20, 3, 0, 11, 30])
    scaled = cr.CopyrightRegression(
        problem.A * scale[None], problem.b, problem.protected, problem.gamma, problem.w
    )
    x0 = np.full(5, 0.1)
    one, two = cr.solve(problem, x0=x0), cr.solve(scaled, x0=x0 / scale)
    steps = min(len(one.history.value), len(two.history.value)) - 1
    np.testing.assert_allclose(one.history.value[:steps], two.history.value[:steps], rtol=1e-12)
    np.testing.assert_allclose(one.x, two.x * scale, rtol=1e-7)


@cases(40)
@given(seed=st.integers(0, 2**32 - 1))
def test_newton_survives_anything_finite(seed):
    """Huge logits, one-hot targets, hardly any regularization: a typed status, never NaN."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(12, 4)) * 10.0 ** rng.uniform(-3, 3)
    b = np.eye(12)[rng.integers(12)] if rng.random() < 0.5 else rng.dirichlet(np.full(12, 0.1))
    protected, (gamma, w) = int(rng.integers(1, 12)), 10.0 ** rng.uniform(-4, 1, 2)
    problem = cr.CopyrightRegression(A, b, protected, gamma, w)
    solution = cr.solve(problem, max_steps=300)
    assert solution.status in (cr.Status.CONVERGED, cr.Status.STALLED, cr.Status.SADDLE)
    assert np.isfinite(solution.value)
    assert np.all(np.isfinite(solution.x))


# Statuses: each is reached.


def test_stalled_where_float32_ends():
    # The rows share an offset, so logits are rounded by far more than their differences allow.
    rng = np.random.default_rng(0)
    A = (rng.normal(size=(200, 3)) + 1e4).astype(np.float32)
    b = rng.dirichlet(np.ones(200)).astype(np.float32)
    problem = cr.CopyrightRegression(A, b, 20, gamma=1e-3, w=1e-2)
    solution = cr.solve(problem, rtol=3e-6)
    assert solution.status is cr.Status.STALLED


def test_nonfinite_start_keeps_the_start():
    problem = cr.SoftmaxRegression(np.array([[1e200], [0.0]]), [0.5, 0.5])
    solution = cr.solve(problem, x0=[1e200])
    assert solution.status is cr.Status.NONFINITE
    assert solution.x.tolist() == [1e200]


def test_nonfinite_step_keeps_the_last_good_point():
    problem = problem_of("joint")
    solution = cr.solve(problem, cr.Optax(optax.sgd(1e308)), x0=np.full(4, 0.1))
    assert solution.status is cr.Status.NONFINITE
    assert np.all(np.isfinite(solution.x))
    assert np.isfinite(solution.value)


def test_started_at_the_solution():
    problem = problem_of("joint")
    x = cr.solve(problem, rtol=1e-13).x
    again = cr.solve(problem, x0=x).raise_for_status()
    assert again.num_steps <= 1


@dataclasses.dataclass(frozen=True)
class Liar(Method):
    """Says it is done at once."""

    default_max_steps: ClassVar[int] = 5
    steps_per_call: ClassVar[int] = 1

    def precompute(self, problem):
        return None

    def step(self, problem, precomputed, state):
        return state

    def done(self, state):
        return jnp.asarray(True)


def test_success_is_judged_on_the_host():
    solution = cr.solve(problem_of("joint"), Liar())
    assert solution.status is cr.Status.STALLED


def test_logits_that_overflow_at_a_shifted_start_leave_zero():
    rng = np.random.default_rng(0)
    A, b = 1e155 * rng.normal(size=(200, 5)), rng.dirichlet(np.ones(200))
    problem = cr.CopyrightRegression(A, b, 50, gamma=1e-4, w=1e-170)
    assert cr.solve(problem).num_steps > 0  # and not NONFINITE at the start


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": optax.adam(0.1)}, r"wrap an optax transformation as Optax"),
        ({"solver": cr.TrustRegionNewton}, r"give an instance such as NewtonCG\(\)"),
        ({"x0": np.zeros(3)}, r"x0 has shape \(3,\); A has 4 columns"),
        ({"x0": [0.0, np.nan, 0.0, 0.0]}, "x0 is nan at entry 1"),
        *(
            ({"rtol": rtol}, f"rtol is {rtol!r}; give a finite number > 0")
            for rtol in (0.0, -1.0, np.nan, True, "small")
        ),
        ({"rtol": 1e-16}, "rtol = 1e-16 can't be reached in float64"),
        *(
            ({"max_steps": number}, f"max_steps is {number!r}; give an integer >= 1 and below")
            for number in (0, 2.5, True, 2**31)
        ),
        ({"callback": 3}, "callback is 3; give a function"),
        ({"solver": "newton"}, "solver is 'newton'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(cr.InputError, match=message):
        cr.solve(problem_of("joint"), **arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cr.solve(np.eye(3)), "problem is a ndarray; give a CopyrightRegression"),
        (lambda: cr.Optax("adam"), r"transformation is 'adam'; give one of optax"),
        (
            lambda: jax.jit(lambda p: cr.solve(p, callback=print))(problem_of("joint")),
            "callback can't be called under jit",
        ),
        *(
            (functools.partial(cr.TrustRegionNewton, radius), f"initial_radius is {radius!r}")
            for radius in (0.0, -1.0, np.inf, np.nan, "a", None)
        ),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises(cr.InputError, match=message):
        call()


@pytest.mark.slow
def test_batches_are_for_vmap():
    batch = jax.tree_util.tree_map(
        lambda *a: jnp.stack(a), *(random_problem(s, 6, 2) for s in (0, 1))
    )
    with pytest.raises(cr.InputError, match=r"a batch of problems; solve it by .*solve_many"):
        cr.solve(batch)
    assert jax.vmap(cr.solve)(batch).status.tolist() == [cr.Status.CONVERGED] * 2


@pytest.mark.slow
def test_works_inside_of_jit_with_concrete_data_of_every_kind():
    problem = problem_of("joint")
    x0, expected = jnp.full(4, 0.1), cr.solve(problem).value
    sparse = problem_of("sparse")
    programs = [
        lambda g: cr.solve(problem.replace(gamma=g)).value,
        lambda g: cr.solve(problem).value + 0 * g,
        lambda g: cr.solve(problem, x0=x0).value + 0 * g,
        lambda g: cr.solve(cr.CopyrightRegression(problem.A, problem.b, 10, gamma=g)).value,
        lambda g: cr.solve(sparse.replace(gamma=g)).value - cr.solve(sparse).value + expected,
    ]
    for program in programs:
        assert jax.jit(program)(0.1) == pytest.approx(expected, rel=1e-12)
    gradient = jax.jit(jax.grad(lambda g: problem.replace(gamma=g).value(x0)))(0.1)
    assert gradient == pytest.approx(1 / float(problem.ell_1(x0)), rel=1e-12)
    values = jax.lax.map(programs[0], jnp.array([0.1, 0.1]))
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@pytest.mark.slow
def test_tolerance_may_be_any_number():
    for rtol in (np.float32(1e-6), np.array(1e-6), jnp.asarray(1e-6)):
        assert cr.solve(problem_of("joint"), rtol=rtol).status is cr.Status.CONVERGED
    traced = jax.jit(lambda r: cr.solve(problem_of("joint"), rtol=r))
    assert int(traced(1e-6).status) == cr.Status.CONVERGED
    assert int(traced(1e-1).num_steps) < int(traced(1e-12).num_steps)


@pytest.mark.parametrize("seed", range(60))
def test_rows_with_a_common_offset_do_not_stall(seed):
    """Logits are rounded by 1e3 eps here, L by much more than eps |L|: no reason to give up."""
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(40, 4)) + 1e3, rng.dirichlet(np.full(40, 0.1))
    cr.solve(cr.CopyrightRegression(A, b, 10, gamma=0.01, w=0.01)).raise_for_status()


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "solver", ["newton", "sketched-newton", "gradient-descent", "accelerated-gradient"]
)
def test_overflow_of_the_curvature_is_named(solver):
    problem = random_problem(0, 12, 3, w=1e6)
    huge = cr.CopyrightRegression(problem.A * 1e148, problem.b, 6, gamma=0.01, w=1e6)
    solution = cr.solve(huge, SOLVERS[solver])
    assert solution.status is cr.Status.NONFINITE
    assert solution.num_steps <= 2


# Transformations, counts, compilations.


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["newton", "sketched-newton", "accelerated-gradient", "lbfgs"])
def test_jit_equals_host(solver):
    problem = problem_of("joint")
    # The rounding of L, which two programs need not share, has a say in the last steps of this one.
    rtol = 1e-8 if solver == "accelerated-gradient" else None
    host = cr.solve(problem, SOLVERS[solver], rtol=rtol)
    traced = jax.jit(lambda p: cr.solve(p, SOLVERS[solver], rtol=rtol))(problem)
    assert int(traced.status) == cr.Status.CONVERGED
    assert traced.history is None
    assert int(traced.num_steps) == host.num_steps
    np.testing.assert_allclose(traced.x, host.x, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(traced.ell_1, host.ell_1, rtol=1e-12)
    np.testing.assert_allclose(traced.protected_mass, host.protected_mass, rtol=1e-12)
    assert traced.direction == host.direction


@pytest.mark.slow
def test_vmap_equals_loop():
    problem = problem_of("joint")
    gammas = jnp.array([0.0, 0.01, 0.1, 1.0])

    def one(gamma):
        # The default of a batch this small; alone it would be another.
        return cr.solve(problem.replace(gamma=gamma), cr.TrustRegionNewton())

    batch = jax.vmap(one)(gammas)
    assert batch.raise_for_status() is batch
    for k, gamma in enumerate(gammas):
        alone = one(gamma)
        np.testing.assert_allclose(batch.x[k], alone.x, rtol=1e-10, atol=1e-12)
        assert batch.direction[k] == alone.direction


@pytest.mark.slow
def test_traced_statuses_are_arrays_and_nothing_is_raised():
    problem = problem_of("barrier at zero")
    starts = jnp.stack([jnp.zeros(6), jnp.full(6, jnp.nan), jnp.arange(6.0)])
    batch = jax.vmap(lambda x0: cr.solve(problem, x0=x0, max_steps=60))(starts)
    assert batch.status.tolist() == [*[cr.Status.NONFINITE] * 2, cr.Status.CONVERGED]


SEEN = collections.Counter()


def noted(name, function):
    """A function that counts, at run time, how often it is really evaluated."""

    def call(*args):
        jax.debug.callback(lambda: SEEN.update([name]))
        return function(*args)

    return call


@jax.tree_util.register_pytree_node_class
class Counting(cr.CopyrightRegression):
    value = noted("value", cr.CopyrightRegression.value)
    value_and_gradient = noted("both", cr.CopyrightRegression.value_and_gradient)
    hessian = noted("hessian", cr.CopyrightRegression.hessian)


@pytest.mark.quick(2)
@pytest.mark.parametrize("start", ["given", "default"])
@pytest.mark.parametrize(
    "solver", ["newton", "lbfgs", "sketched-newton", "accelerated-gradient", "adam"]
)
def test_counts_are_true(solver, start, monkeypatch):
    # Newton methods take values, gradients and Hessians from the logits of a trial.
    both = noted("both", curvature.value_and_gradient)
    hessian = noted("hessian", curvature.hessian)
    forms = {"value_and_gradient": both, "value_and_gradient_jit": both, "hessian": hessian}
    patched = types.SimpleNamespace(**(vars(curvature) | forms))
    monkeypatch.setattr(trust_region, "curvature", patched)
    monkeypatch.setattr(protocol, "curvature", patched)
    trial = types.SimpleNamespace(value=noted("value", objective.value))
    monkeypatch.setattr(sketched_newton, "objective", trial)
    sampled = noted("hessian", sketched_newton.sampled_hessian)
    monkeypatch.setattr(sketched_newton, "sampled_hessian", sampled)
    plain = problem_of("small w")
    problem = Counting(plain.A, plain.b, plain.protected, plain.gamma, plain.w)
    SEEN.clear()
    x0 = np.full(4, 3.0) if start == "given" else None
    solution = cr.solve(problem, SOLVERS[solver], x0, max_steps=25)
    jax.effects_barrier()
    both, trials = SEEN["both"], SEEN["value"]
    # The default start compares values of shifted logits here; those of L-BFGS take both.
    extra = len(_SHIFTS) if start == "default" else 0
    assert solution.num_values == both + trials + extra
    assert solution.num_gradients == both + (trials if solver == "lbfgs" else 0)
    assert solution.num_hessians == SEEN["hessian"]
    assert solution.num_hvps == 0
    if solver == "newton":
        assert solution.num_hessians <= solution.num_steps + 1
    if solver == "sketched-newton":
        assert solution.num_hessians == solution.num_gradients - 1 == solution.num_steps


@pytest.mark.quick(1)
@pytest.mark.parametrize("solver", SOLVERS)
def test_second_solve_of_the_same_shapes_compiles_nothing(solver, caplog):
    first, second = (random_problem(seed, 17, 3) for seed in (0, 1))
    cr.solve(first, SOLVERS[solver], max_steps=30)
    before = run_jit.compiled._cache_size()
    with jax.log_compiles():
        cr.solve(second, SOLVERS[solver], max_steps=4, rtol=1e-9)
    assert "Compiling" not in caplog.text
    # Equal solvers share the program, whichever object they are.
    if solver == "newton":
        cr.solve(second, cr.TrustRegionNewton())
    assert run_jit.compiled._cache_size() == before


@pytest.mark.slow
@pytest.mark.parametrize(("w", "convex"), [(4.0, True), (0.1, False)])
def test_second_solve_on_disk_compiles_nothing(tmp_path, caplog, w, convex):
    for seed in (0, 1):
        problem = random_problem(seed, 60, 30, w=w)
        # Both start at zero, or both do not: another start is another program.
        assert bool(is_convex_at_zero(problem)) == convex
        np.save(tmp_path / f"{seed}.npy", np.asarray(problem.A))
        A = cr.RowBlocks(tmp_path / f"{seed}.npy", block_bytes=20 * 30 * 8)
        problem = cr.CopyrightRegression(A, problem.b, problem.protected, gamma=0.1, w=w)
        caplog.clear()
        with jax.log_compiles():
            cr.solve(problem).raise_for_status()
        assert ("Compiling" in caplog.text) == (seed == 0)


def test_data_are_arguments_not_constants():
    problem = random_problem(0, 500, 3)
    solver = cr.NewtonCG()
    kit = precompute(problem, solver)
    state = initial_state_jit(problem, kit, None, 1e-10, solver)
    text = run_jit.compiled.lower(problem, kit, state, 9, 9, 1e-10, solver).as_text()
    assert 'dense<"0x' not in text  # large literals are printed as hex blobs
    assert len(text) < 200_000


@pytest.mark.slow
def test_float32_without_64_bit_mode():
    code = (
        "import numpy as np, warnings, copyreg_jax as cr\n"
        "from tests.support.registry import SOLVERS\n"
        "warnings.simplefilter('error')\n"
        "rng = np.random.default_rng(0)\n"
        "A = rng.normal(size=(30, 4)).astype(np.float32)\n"
        "b = rng.dirichlet(np.ones(30)).astype(np.float32)\n"
        "for name, solver in SOLVERS.items():\n"
        "    s = cr.solve(cr.CopyrightRegression(A, b, 10), solver, x0=np.full(4, 0.1))\n"
        "    print(name, s.status.name, s.x.dtype, type(s.value).__name__)"
    )
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    found = [line.split() for line in run.stdout.splitlines()]
    assert found == [[name, "CONVERGED", "float32", "float"] for name in SOLVERS]


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_with_64_bit_mode_stays_float32(solver):
    full = problem_of("joint")
    A, b, w = (np.asarray(array, np.float32) for array in (full.A, full.b, full.w))
    problem = cr.CopyrightRegression(A, b, full.protected, full.gamma.astype(np.float32), w)
    solution = cr.solve(problem, SOLVERS[solver]).raise_for_status()
    assert solution.x.dtype == np.float32
    np.testing.assert_allclose(solution.x, cr.solve(full).x, atol=2e-3)


def test_solutions_say_how_they_ended_and_which_way():
    problem = random_problem(0, 12, 3)
    alone = cr.solve(problem, max_steps=1)
    assert repr(alone).startswith("<Solution: MAX_STEPS after 1 steps, L = ")
    assert f"protected rows {alone.direction}: " in repr(alone)
    many = cr.solve_many([problem, problem])
    assert repr(many) == "<Solution of 2 problems, 2 of them CONVERGED>"
    seen = []
    jax.jit(lambda p: (seen.append(repr(cr.solve(p))), cr.solve(p))[1])(problem)
    assert seen == ["<Solution, traced>"]
    assert "<Solution" in repr(jax.tree_util.tree_map(lambda leaf: None, alone))


@pytest.mark.parametrize(("n", "lanes"), [(4000, 1), (5000, 1), (8, 512)])
def test_no_run_starts_where_L_is_infinite(n, lanes):
    """Equal targets: ell_1 = 0 at zero. XLA drops NaN in a maximum over 4,096 numbers or more."""
    b, protected = np.full((lanes, n), 1 / n), np.arange(n) < n // 4
    make = jax.vmap(lambda b: cr.CopyrightRegression(np.ones((n, 1)), b, protected, 1e-3, 0.1))
    assert not jax.jit(jax.vmap(is_convex_at_zero))(make(b)).any()
    one = cr.CopyrightRegression(np.ones((n, 1)), b[0], protected, 1e-3, 0.1)
    assert not is_convex_at_zero(one)
