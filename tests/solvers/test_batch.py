"""Batches, paths and many starts, against problems solved one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse

import copyreg_jax as cr
from copyreg_jax.solvers.batch import _stack
from copyreg_jax.solvers.lanes import Lanes, _padded, pick
from copyreg_jax.solvers.steps import precompute
from tests.support.registry import random_problem


def batched(size=37, n=20, d=3, seed=0):
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(size, n, d)), rng.dirichlet(np.full(n, 0.3), size=size)
    w = rng.uniform(0.1, 1.0, size)

    def make(A, b, w):
        return cr.CopyrightRegression(A, b, n // 3, 0.05, w)

    return jax.vmap(make)(A, b, w), list(map(make, A, b, w))


def same_as_alone(together, k, problem, solver, x0, **settings):
    alone = cr.solve(problem, solver, x0, **settings)
    assert int(together.num_steps[k]) == alone.num_steps
    np.testing.assert_allclose(together.x[k], alone.x, rtol=1e-9, atol=1e-12)


@pytest.fixture
def sizes(monkeypatch):
    """How many lanes each call has advanced."""
    seen, advance = [], Lanes.advance

    def noting(self, states, max_steps):
        seen.append(len(states.status))
        return advance(self, states, max_steps)

    monkeypatch.setattr(Lanes, "advance", noting)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, cr.NewtonCG(), cr.Optax(optax.lbfgs())])
def test_a_batch_is_the_problems_one_by_one(solver):
    batch, problems = batched()
    together = cr.solve_many(batch, solver)
    assert together.history is None
    assert together.raise_for_status() is together
    for k, problem in enumerate(problems):
        alone = cr.solve(problem, solver)
        np.testing.assert_allclose(together.x[k], alone.x, atol=1e-7)
        np.testing.assert_allclose(together.value[k], alone.value, rtol=1e-12)
        np.testing.assert_allclose(together.ell_1[k], alone.ell_1, rtol=1e-6)
        assert together.direction[k] == alone.direction


@pytest.mark.slow
def test_lanes_that_are_done_leave(sizes):
    """Problems of very different difficulty: sizes fall, and no lane is lost or mixed up."""
    batch, problems = batched(70)
    x0 = np.stack([np.full(3, 0.1) if k % 9 else np.full(3, 8.0) for k in range(70)])
    together = cr.solve_many(batch, cr.Optax(optax.lbfgs()), x0)
    assert sizes[0] == 70
    assert set(sizes) == {70, 18}
    assert sorted(sizes, reverse=True)[:5] == sizes[:5]  # a look sends back a few, never all
    assert len(np.unique(together.num_steps)) > 3
    for k in (0, 1, 9, 35, 69):
        same_as_alone(together, k, problems[k], cr.Optax(optax.lbfgs()), x0[k])


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(1000, [1000, 250, 63, 16]), (31, [31, 8]), (24, [24, 8]), (23, [23]), (8, [8]), (1, [1])],
)
def test_a_batch_shrinks_by_fourths(size, sizes):
    """Each size is compiled for. None is below 8, or more than a third of the one before."""
    found = {len(_padded(np.arange(left), size)) for left in range(1, size + 1)}
    assert sorted(found, reverse=True) == sizes
    assert all(len(_padded(np.arange(left), size)) >= left for left in range(1, size + 1))


def test_the_slowest_problem_is_not_copied_again_and_again(monkeypatch):
    """The last of 40 problems is the slow one, so the lanes that fill a batch up are copies of it.

    Lanes are taken once for 10 lanes; for a look at what has ended, and for a deeper one.
    """
    batch, problems = batched(40)
    x0 = np.array(cr.solve_many(batch).x)
    x0[39] = 8.0
    taken, take = [], Lanes.take
    monkeypatch.setattr(Lanes, "take", lambda self, i: taken.append(len(i)) or take(self, i))
    together = cr.solve_many(batch, cr.GradientDescent(), x0, max_steps=100)
    assert taken == [10, 40, 40]
    (picked,) = pick([together.x], np.array([3, 3, 0]))
    np.testing.assert_array_equal(picked, np.asarray(together.x)[[3, 3, 0]])
    for k in (0, 38, 39):
        same_as_alone(together, k, problems[k], cr.GradientDescent(), x0[k], max_steps=100)


@pytest.mark.quick(1)
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_problems_that_share_A(form):
    rng = np.random.default_rng(0)
    sparse = scipy.sparse.random_array((50, 6), density=0.4, rng=rng)
    A = rng.normal(size=(50, 40)) if form == "dense" else sparse
    first, *others = (rng.dirichlet(np.ones(50)) for _ in range(4))
    problem = cr.CopyrightRegression(A, first, 16, gamma=0.01)
    problems = [
        cr.CopyrightRegression(problem.A, b, rng.permutation(50) < 9, gamma, problem.w)
        for b, gamma in zip(others, (1e-3, 1e-2, 0.1), strict=True)
    ]
    batch, axes, size = _stack(problems)
    assert (axes.A, size) == (None, 3)
    ours, theirs = map(jax.tree_util.tree_leaves, (batch.A, problem.A))
    assert all(a is b for a, b in zip(ours, theirs, strict=True))
    assert "batch" in repr(batch)
    together = cr.solve_many(problems, cr.NewtonCG())
    for k, one in enumerate(problems):
        np.testing.assert_allclose(together.x[k], cr.solve(one).x, atol=1e-8)


@pytest.mark.slow
def test_interrupt():
    batch, _ = batched(20)
    stopped = cr.solve_many(batch, cr.Optax(optax.adam(1e-4)), callback=lambda done, of: True)
    assert (np.asarray(stopped.status) == cr.Status.INTERRUPTED).all()


@pytest.mark.slow
def test_groups(sizes, monkeypatch):
    """As many side by side as stay in the cache, the last group filled up by repeats."""
    batch, _ = batched(70)
    x0 = np.random.default_rng(0).normal(size=(70, 3)) * 0.1
    whole, seen = cr.solve_many(batch, cr.NewtonCG(), x0), []
    sizes.clear()
    monkeypatch.setattr("copyreg_jax.solvers.side_by_side._num_cores", lambda: 1)
    monkeypatch.setattr("copyreg_jax.solvers.batch._GROUP_LOGITS", 30 * 20)
    cut = cr.solve_many(batch, cr.NewtonCG(), x0, callback=lambda *now: seen.append(now))
    assert max(sizes) == 24  # three groups for 70 problems
    assert cut.x.shape == (70, 3)
    np.testing.assert_allclose(cut.x, whole.x, atol=1e-7)
    assert seen == sorted(seen)
    assert seen[0] == (0, 70)
    assert {of for _, of in seen} == {70}
    part = cr.solve_many(batch, cr.NewtonCG(), callback=lambda done, of: done >= 24)
    status = np.asarray(part.status)
    assert (status[:24] == cr.Status.CONVERGED).all()
    assert (status[24:] == cr.Status.INTERRUPTED).all()
    monkeypatch.setattr("copyreg_jax.solvers.side_by_side._num_cores", lambda: 2)
    in_threads = cr.solve_many(batch, cr.NewtonCG(), x0)
    jax.tree_util.tree_map(np.testing.assert_array_equal, in_threads, cut)


def test_statuses_of_a_batch():
    problem = cr.CopyrightRegression(np.eye(6), np.full(6, 1 / 6), 2, gamma=0.1, w=0.3)
    starts = np.stack([np.zeros(6), np.arange(6.0)])
    batch = cr.solve_many([problem, problem], x0=starts)
    assert batch.status.tolist() == [cr.Status.NONFINITE, cr.Status.CONVERGED]


PAIR = [random_problem(seed, 9, 2) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cr.solve_many([]), "problems is empty"),
        (lambda: cr.solve_many([3]), r"problems\[0\] is a int"),
        (lambda: cr.solve_many([PAIR[0], random_problem(0, 8, 2)]), r"problems\[1\] is .*n=8"),
        (lambda: cr.solve_many([PAIR[0], PAIR[0].replace(reading="block")]), "must agree in type"),
        (lambda: cr.solve_many(PAIR[0]), "a batched problem has arrays with one leading axis"),
        (lambda: cr.solve_many(PAIR, x0=np.zeros((3, 2))), r"\(3, 2\); give \(2, 2\), or \(2,\)"),
        (lambda: cr.solve_many(PAIR, x0=[np.nan, 0.0]), "x0 is nan"),
        (lambda: cr.solve_path(PAIR[0]), "exactly one grid"),
        (lambda: cr.solve_path(PAIR[0], gamma=[1], w=[1]), "exactly one"),
        (lambda: cr.solve_path(PAIR[0], w=[]), "empty"),
        *((lambda k=k: cr.multi_start(PAIR[0], k), f"num_starts is {k!r}") for k in (0, True, 2.5)),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(cr.InputError, match=message):
        call()


def test_path_is_the_minimizers_along_the_grid():
    problem = random_problem(0, 40, 5)
    gammas = [1e-3, 1e-2, 1e-1]
    path = cr.solve_path(problem, gamma=gammas)
    for gamma, solution in zip(gammas, path, strict=True):
        assert solution.status is cr.Status.CONVERGED
        np.testing.assert_allclose(solution.x, cr.solve(problem.replace(gamma=gamma)).x, atol=1e-8)
    ws = cr.solve_path(problem, w=np.array([1.0, 0.9]))
    np.testing.assert_allclose(ws[1].x, cr.solve(problem.replace(w=0.9)).x, atol=1e-8)
    fine = cr.solve_path(problem, gamma=[0.1, 0.1001])
    cold = cr.solve(problem.replace(gamma=0.1001))
    assert fine[1].history.gradient_norm[0] < 1e-2 * cold.history.gradient_norm[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "scale", "number"),
    [("squared", 2.0, 1), ("cross-entropy", 2.0, 0), ("cross-entropy", 1 + 2**-48, 1)],
)
def test_what_depends_on_the_target_is_not_shared(metric, scale, number, monkeypatch):
    """The cross-entropy weighs the loss with the sum of b, which bounds of decrements need."""
    first = random_problem(5, 40, 4)
    problems = [
        cr.CopyrightRegression(first.A, s * first.b, first.protected, 0.0, first.w, "joint", metric)
        for s in (1.0, scale)
    ]
    shared = []
    monkeypatch.setattr(
        "copyreg_jax.solvers.batch.precompute", lambda *a: (shared.append(1), precompute(*a))[1]
    )
    found = cr.solve_many(problems, cr.NewtonCG())
    assert len(shared) == number
    np.testing.assert_allclose(found.x[1], cr.solve(problems[1]).x, atol=1e-7)


def test_a_path_in_gamma_makes_what_depends_on_A_and_w_once(monkeypatch):
    made, precompute = [], cr.NewtonCG.precompute
    monkeypatch.setattr(cr.NewtonCG, "precompute", lambda *a: (made.append(1), precompute(*a))[1])
    problem = random_problem(3, 40, 4)
    path = cr.solve_path(problem, gamma=[0.1, 0.01, 0.001])
    assert len(made) == 1
    alone = cr.solve(problem.replace(gamma=0.001), x0=path[1].x)
    assert np.array_equal(path[2].x, alone.x)
    cr.solve_path(problem, w=[1.0, 0.5])
    assert len(made) == 4


@pytest.mark.slow
def test_many_starts_find_both_minima():
    """Two equal protected rows: in the lowest minimizers one of them takes all, either one."""
    problem = cr.CopyrightRegression(np.eye(6), np.full(6, 1 / 6), 2, gamma=0.1, w=0.3)
    minima = cr.multi_start(problem, 40)
    assert sum(minima.hits) + minima.num_failed == 40
    assert all(s.status is cr.Status.CONVERGED for s in minima.solutions)
    values = [s.value for s in minima.solutions]
    assert values == sorted(values)
    assert minima.best.value == values[0]
    assert values[1] == pytest.approx(values[0], rel=1e-10)  # the mirror image
    mirrored = np.asarray(minima.solutions[1].x)[[1, 0, 2, 3, 4, 5]]
    np.testing.assert_allclose(mirrored, minima.best.x, atol=1e-4)
    for a in range(len(values)):
        for b in range(a):
            assert jnp.linalg.norm(minima.solutions[a].x - minima.solutions[b].x) > 1e-5


def test_many_starts_of_a_convex_problem_find_one():
    minima = cr.multi_start(random_problem(0, 30, 4, w=3.0), np.int64(10))
    assert minima.hits == [10 - minima.num_failed]


def test_arrays_of_numpy_are_put_on_the_device_once(monkeypatch):
    """A program that is given them copies them whole, however few lanes it takes."""
    batch, _ = batched(20)
    assert isinstance(batch.A, np.ndarray)  # or jax.vmap has changed
    kinds, take = set(), Lanes.take

    def noting(self, index):
        kinds.update(map(type, jax.tree_util.tree_leaves(self.problem)))
        return take(self, index)

    monkeypatch.setattr(Lanes, "take", noting)
    cr.solve_many(batch)
    assert kinds
    assert np.ndarray not in kinds
