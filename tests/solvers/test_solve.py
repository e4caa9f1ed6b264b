"""Every solver on every problem, against SciPy and against the promises of `solve`."""

import contextlib
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
import scipy.sparse
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.matrices.interface import to_host
from copyreg_jax.problems import curvature
from copyreg_jax.solvers import protocol, trust_region
from copyreg_jax.solvers.examination import run_jit
from copyreg_jax.solvers.protocol import Method
from copyreg_jax.solvers.start import START_SHIFTS
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


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", PROBLEMS)
def test_newton_never_rises(name):
    values = cr.solve(problem_of(name)).history.value
    # Rounding of L as the solver allows it; logits of these problems are at most 10.
    assert np.all(np.diff(values) <= (16 + 100) * 2.0**-52 * np.abs(values[:-1]))


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradient_descent_falls_by_what_it_promises(name):
    problem = problem_of(name)
    history = cr.solve(problem, cr.GradientDescent(), max_steps=200).history
    assert np.all(np.diff(history.value) <= 4 * 2.0**-52 * np.abs(history.value[:-1]))
    A = to_host(problem.A)
    A = A.toarray() if scipy.sparse.issparse(A) else A
    gram = np.linalg.norm(A, 2) ** 2
    weighted = np.linalg.norm(np.asarray(problem.w)[:, None] * A, 2) ** 2
    for k in range(min(20, len(history.value) - 1)):
        bound = curvature.upper_bound(history.value[k], problem.terms)
        promised = history.gradient_norm[k] ** 2 / (2 * (float(bound) * gram + weighted))
        fall = history.value[k] - history.value[k + 1]
        assert fall >= promised * (1 - 1e-9) - 8 * 2.0**-52 * history.value[k]


@pytest.mark.slow
def test_saddle_points_are_left_behind():
    # Two equal protected rows: from a symmetric start, first-order methods keep the symmetry and
    # end at a saddle point between two minima in which one of the two rows takes all.
    problem = problem_of("barrier at zero")
    saddle = cr.solve(problem, cr.GradientDescent())
    assert saddle.status is cr.Status.SADDLE
    assert saddle.second_order is cr.SecondOrder.NEGATIVE
    assert np.linalg.eigvalsh(problem.hessian(saddle.x))[0] < -1e-2
    solution = cr.solve(problem, x0=saddle.x)
    assert solution.status is cr.Status.CONVERGED
    assert np.linalg.eigvalsh(problem.hessian(solution.x))[0] > 0
    assert solution.value < saddle.value - 0.1


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
    problem = cr.CopyrightRegression(
        A,
        b,
        int(rng.integers(1, 12)),
        gamma=10.0 ** rng.uniform(-4, 1),
        w=10.0 ** rng.uniform(-4, 1),
    )
    solution = cr.solve(problem, max_steps=300)
    assert solution.status in (cr.Status.CONVERGED, cr.Status.STALLED, cr.Status.SADDLE)
    assert np.isfinite(solution.value)
    assert np.all(np.isfinite(solution.x))


# Statuses: each is reached.


def test_max_steps():
    solution = cr.solve(problem_of("joint"), cr.Optax(optax.adam(1e-3)), max_steps=7)
    assert solution.status is cr.Status.MAX_STEPS
    assert solution.num_steps == 7
    assert len(solution.history.value) == 8


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


def test_interrupted_by_callback():
    seen = []

    def stop(progress):
        seen.append(progress)
        return progress.step >= 20

    solution = cr.solve(problem_of("joint"), SOLVERS["adam"], callback=stop)
    assert solution.status is cr.Status.INTERRUPTED
    assert [p.step for p in seen] == [10, 20]
    assert seen[-1].value == solution.history.value[-1]


def test_started_at_the_solution():
    problem = problem_of("joint")
    x = cr.solve(problem, rtol=1e-13).x
    again = cr.solve(problem, x0=x)
    assert again.status is cr.Status.CONVERGED
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
    kit = precompute(problem_of("joint"), Liar())
    state = initial_state_jit(problem_of("joint"), kit, None, 1e-10, Liar())
    assert not Method().done(state)


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
        ({"rtol": 0.0}, "rtol is 0.0; give a finite number > 0"),
        ({"rtol": -1.0}, "rtol is -1.0"),
        ({"rtol": np.nan}, "rtol is nan"),
        ({"rtol": 1e-16}, "rtol = 1e-16 can't be reached in float64"),
        ({"max_steps": 0}, "max_steps is 0; give an integer >= 1"),
        ({"max_steps": 2.5}, "max_steps is 2.5"),
        ({"max_steps": True}, "max_steps is True"),
        ({"max_steps": 2**31}, "give an integer >= 1 and below"),
        ({"rtol": True}, "rtol is True"),
        ({"rtol": "small"}, "rtol is 'small'"),
        ({"callback": 3}, "callback is 3; give a function"),
        ({"solver": "newton"}, "solver is 'newton'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(cr.InputError, match=message):
        cr.solve(problem_of("joint"), **arguments)


def test_problem_that_is_none():
    with pytest.raises(cr.InputError, match="problem is a ndarray; give a CopyrightRegression"):
        cr.solve(np.eye(3))


@pytest.mark.parametrize("radius", [0.0, -1.0, np.inf, np.nan, "a", None])
def test_bad_radius(radius):
    with pytest.raises(cr.InputError, match=f"initial_radius is {radius!r}"):
        cr.TrustRegionNewton(initial_radius=radius)


def test_bad_transformation():
    with pytest.raises(cr.InputError, match=r"transformation is 'adam'; give one of optax"):
        cr.Optax("adam")


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
    solution = cr.solve(cr.CopyrightRegression(A, b, 10, gamma=0.01, w=0.01))
    assert solution.status is cr.Status.CONVERGED


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


def test_callback_is_refused_where_it_could_not_be_called():
    with pytest.raises(cr.InputError, match="callback can't be called under jit"):
        jax.jit(lambda p: cr.solve(p, callback=print))(problem_of("joint"))


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
    assert batch.status.tolist() == [cr.Status.CONVERGED] * 4
    assert batch.raise_for_status() is batch
    for k, gamma in enumerate(gammas):
        alone = one(gamma)
        np.testing.assert_allclose(batch.x[k], alone.x, rtol=1e-10, atol=1e-12)
        assert batch.direction[k] == alone.direction


@pytest.mark.slow
def test_traced_statuses_are_arrays_and_nothing_is_raised():
    problem = problem_of("barrier at zero")
    batch = jax.vmap(lambda x0: cr.solve(problem, x0=x0, max_steps=60))(
        jnp.stack([jnp.zeros(6), jnp.arange(6.0), jnp.full(6, jnp.nan)])
    )
    assert batch.status.tolist() == [
        cr.Status.NONFINITE, cr.Status.CONVERGED, cr.Status.NONFINITE,
    ]  # fmt: skip


class Counting(cr.CopyrightRegression):
    """Counts, at run time, how often each function is really evaluated."""

    seen: ClassVar[dict[str, int]] = {}

    @staticmethod
    def _note(name):
        def add():
            Counting.seen[name] = Counting.seen.get(name, 0) + 1

        jax.debug.callback(add)

    def value(self, x):
        self._note("value")
        return super().value(x)

    def value_and_gradient(self, x):
        self._note("value_and_gradient")
        return super().value_and_gradient(x)

    def hessian(self, x):
        self._note("hessian")
        return super().hessian(x)


jax.tree_util.register_pytree_node_class(Counting)


@pytest.mark.quick(1)
@pytest.mark.parametrize("start", ["given", "default"])
@pytest.mark.parametrize("solver", ["newton", "accelerated-gradient", "lbfgs", "adam"])
def test_counts_are_true(solver, start, monkeypatch):
    def noted(name):
        def call(*args):
            Counting._note(name)
            return getattr(curvature, name)(*args)

        return call

    # The Newton method takes value, gradient and Hessian from the logits of a trial.
    forms = {name: noted(name) for name in ("value_and_gradient", "hessian")}
    patched = types.SimpleNamespace(**(vars(curvature) | forms))
    monkeypatch.setattr(trust_region, "curvature", patched)
    patched.value_and_gradient_jit = patched.value_and_gradient
    monkeypatch.setattr(protocol, "curvature", patched)
    plain = problem_of("small w")
    problem = Counting(plain.A, plain.b, plain.protected, plain.gamma, plain.w)
    Counting.seen = {}
    x0 = np.full(4, 3.0) if start == "given" else None
    solution = cr.solve(problem, SOLVERS[solver], x0, max_steps=25)
    jax.effects_barrier()
    seen = Counting.seen
    both, trials = seen["value_and_gradient"], seen.get("value", 0)
    # The default start compares values, of shifted logits; those of L-BFGS take both.
    extra = len(START_SHIFTS) if start == "default" else 0
    assert solution.num_values == both + trials + extra
    assert solution.num_gradients == both + (trials if solver == "lbfgs" else 0)
    assert solution.num_hessians == seen.get("hessian", 0)
    assert solution.num_hvps == 0
    if solver == "newton":
        assert solution.num_hessians <= solution.num_steps + 1


@pytest.mark.quick(1)
@pytest.mark.parametrize("solver", SOLVERS)
def test_second_solve_of_the_same_shapes_compiles_nothing(solver):
    first, second = (random_problem(seed, 17, 3) for seed in (0, 1))
    cr.solve(first, SOLVERS[solver], max_steps=30)
    before = run_jit.compiled._cache_size()
    with jax.log_compiles(), NoCompilation():
        cr.solve(second, SOLVERS[solver], max_steps=4, rtol=1e-9)
    # Equal solvers share the program, whichever object they are.
    if solver == "newton":
        cr.solve(second, cr.TrustRegionNewton())
    assert run_jit.compiled._cache_size() == before


@pytest.mark.slow
def test_second_solve_on_disk_compiles_nothing(tmp_path):
    for seed in (0, 1):
        problem = random_problem(seed, 60, 30, w=0.3)
        np.save(tmp_path / f"{seed}.npy", np.asarray(problem.A))
        A = cr.RowBlocks(tmp_path / f"{seed}.npy", block_bytes=20 * 30 * 8)
        problem = cr.CopyrightRegression(A, problem.b, 12, gamma=0.1, w=0.3)
        with jax.log_compiles(), NoCompilation() if seed else contextlib.nullcontext():
            cr.solve(problem).raise_for_status()


class NoCompilation:
    """Fails if JAX logs a compilation."""

    def __enter__(self):
        import logging

        self.records = []
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.records.append(record.getMessage())
        self.logger = logging.getLogger("jax")
        self.logger.addHandler(self.handler)

    def __exit__(self, *error):
        self.logger.removeHandler(self.handler)
        compiled = [text for text in self.records if "Compiling" in text]
        assert not compiled, compiled


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
    solution = cr.solve(problem, SOLVERS[solver])
    assert solution.x.dtype == np.float32
    assert solution.status is cr.Status.CONVERGED
    np.testing.assert_allclose(solution.x, cr.solve(full).x, atol=2e-3)
