"""Many problems at once: batches, paths of warm starts, and many starts of one problem."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from copyreg_jax._tracing import is_concrete, is_traced
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import ShardedRows, on_host
from copyreg_jax.problems.input import check_start
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers import examination, options, results, steps
from copyreg_jax.solvers.protocol import Solver, State
from copyreg_jax.solvers.solution import Solution, Status
from copyreg_jax.solvers.trust_region import TrustRegionNewton

_STEPS_PER_CHUNK = 2
"""Steps between two looks at which lanes are done."""

_SMALLEST_BATCH = 8

_GROUP_LOGITS = 1 << 19
"""Logits of the problems that are solved side by side: more would not stay in the cache."""

Progress: TypeAlias = Callable[[int, int], bool | None]


def solve_many(
    problems: Sequence[SoftmaxRegression] | SoftmaxRegression,
    solver: Solver | None = None,
    x0: ArrayLike | None = None,
    *,
    rtol: float | None = None,
    max_steps: int | None = None,
    callback: Progress | None = None,
) -> Solution:
    """Minimize many problems of the same shapes, in one compiled batch.

    What all problems share, one A with many b, gamma or protected sets, is kept once: make those
    with ``problem.replace`` or from the same JAX array A. Products with a shared A are
    products with a matrix of all points, several times faster than one by one. Problems that are
    done leave the batch.

    Parameters
    ----------
    problems : sequence of problems, or one batched problem
        Equal in n, d, dtype, reading and metric. A batched problem is a pytree whose arrays have a
        leading axis, as ``jax.vmap`` of a constructor makes it: thousands of objects take longer to
        make than to solve.
    solver : Solver, optional
        `TrustRegionNewton` up to 32 columns, else `NewtonCG`.
    x0 : (k, d) or (d,) array, optional
        Starts; as in `solve` if not given.
    rtol, max_steps
        As in `solve`, for each problem.
    callback : callable, optional
        Called with the numbers of problems done and in all every few steps; returning True stops
        the others with status INTERRUPTED.

    Returns
    -------
    Solution
        Of arrays with a leading axis k; ``history`` is None. Unlike those of `solve`, the numbers
        are the device's own.

    Raises
    ------
    InputError
        No problem; problems that differ in more than the values of their arrays; sparse A that
        differ; a matrix on disk or sharded; x0 of another shape.
    PrecisionError
        As in `solve`.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.5, 0.3, 0.2], protected=1)
    >>> batch = cr.solve_many([problem.replace(gamma=g) for g in (0.01, 0.1, 1.0)])
    >>> batch.x.shape, bool((batch.status == cr.Status.CONVERGED).all())
    ((3, 1), True)
    """
    problems = problems if isinstance(problems, SoftmaxRegression) else list(problems)
    if is_traced() or not is_concrete((problems, x0)):
        raise InputError("solve_many runs on the host; under jit, use jax.vmap(copyreg_jax.solve)")
    if isinstance(problems, SoftmaxRegression):
        batch, axes, size = problems, *_axes(problems)
    else:
        batch, axes, size = _stack(problems)
    one = _lane(batch, axes, 0)
    if solver is None and one.d <= options.SMALL_COLUMNS:
        solver = TrustRegionNewton()
    solver, rtol, max_steps = options.check_settings(one, solver, rtol, max_steps)
    starts = None if x0 is None else _starts(one, x0, size)
    # Tools depend on A and w alone; shared, they are made once and with concrete values.
    shared = axes.A is None and axes.w is None
    kit = steps.prepare(one, solver) if shared else _prepare(batch, axes.tree.axes, solver)
    lanes = _Lanes(batch, axes, kit, None if shared else 0, solver, rtol)

    done, stopped = 0, False

    def stop(of_group: int) -> bool:
        nonlocal stopped
        if callback is not None and not stopped:
            stopped = bool(callback(min(done + of_group, size), size))
        return stopped

    groups = -(-size // max(_SMALLEST_BATCH, _GROUP_LOGITS // one.n))
    length = -(-size // groups)
    parts = []
    for done in range(0, size, length):
        index = np.minimum(np.arange(done, done + length), size - 1)
        group = lanes if groups == 1 else lanes.take(index)
        own = starts if starts is None or groups == 1 else starts[index]
        part = _solve_group(group, group.start(own, length), max_steps, stop)
        parts.append(_pick(part, slice(0, size - done)))
    return jax.tree_util.tree_map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _solve_group(
    lanes: _Lanes, states: State, max_steps: int, stop: Callable[[int], bool]
) -> Solution:
    """Minimize, look whether it is a minimizer, and go on where it is none."""
    settled = np.zeros(len(states.status), bool)
    one = _lane(lanes.problem, lanes.axes, 0)
    while True:
        states = _run(lanes, states, max_steps, stop)
        tools, states = lanes.solver.refine(one, lanes.kit.tools, states)
        lanes = lanes._replace(kit=lanes.kit._replace(tools=tools))
        status = np.asarray(states.status)
        judged = Status.CONVERGED, Status.STALLED, Status.MAX_STEPS
        ended = np.isin(status, judged) & ~settled
        if ended.any():
            index = _padded(np.flatnonzero(ended), len(settled))
            fresh, looked, _, due = lanes.take(index).first_look(_pick(states, index))
            states, new = _put(states, index, fresh), _put(states, index, looked)
            deep = np.unique(index[np.asarray(due)])
            if deep.size:
                deep = _padded(deep, len(settled))
                new = _put(new, deep, lanes.take(deep).deep_look(_pick(states, deep)))
            spent = (new.status == Status.RUNNING) & (new.num_steps >= max_steps)
            states = new._replace(
                status=jnp.where(spent, Status.MAX_STEPS, new.status).astype(jnp.int32)
            )
        status = np.asarray(states.status)
        settled = status != Status.RUNNING
        if settled.all():
            return _finish(lanes.problem, lanes.kit, states, lanes.axes.tree.axes, lanes.kit_axis)


class _Axes(NamedTuple):
    """Which arrays of a problem have a leading axis (0), which are shared (None)."""

    A: int | None
    w: int | None
    tree: Any


class _Lanes(NamedTuple):
    """What a batch consists of besides its states."""

    problem: SoftmaxRegression
    axes: _Axes
    kit: steps.Kit
    kit_axis: int | None
    solver: Solver
    rtol: float

    def start(self, starts: Array | None, size: int) -> State:
        return _start(
            self.problem, self.kit, starts, self.rtol, self.axes.tree.axes, self.kit_axis, size,
            self.solver,
        )  # fmt: skip

    def advance(self, states: State, max_steps: int) -> State:
        return _advance(
            self.problem, self.kit, states, max_steps, self.axes.tree.axes, self.kit_axis,
            self.solver,
        )  # fmt: skip

    def first_look(self, states: State) -> tuple[State, State, Array, Array]:
        axes = self.axes.tree.axes, self.kit_axis
        return _first_look(self.problem, self.kit, states, self.rtol, *axes, self.solver)

    def deep_look(self, states: State) -> State:
        axes = self.axes.tree.axes, self.kit_axis
        return _deep_look(self.problem, self.kit, states, self.rtol, *axes, self.solver)

    def take(self, index: np.ndarray) -> _Lanes:
        """Some of the lanes."""
        problem = self.axes.tree.map(lambda leaf: leaf[index], self.problem)
        kit = self.kit if self.kit_axis is None else _pick(self.kit, index)
        return self._replace(problem=problem, kit=kit)


def _pick(tree: Any, index: np.ndarray | slice) -> Any:
    return jax.tree_util.tree_map(lambda leaf: leaf[index], tree)


def _padded(index: np.ndarray, size: int) -> np.ndarray:
    """The index, filled up by repeats to a halving of the size: few programs are compiled."""
    while size // 2 >= max(len(index), _SMALLEST_BATCH):
        size = -(-size // 2)
    return np.concatenate([index, np.full(max(0, size - len(index)), index[-1])])


@jax.tree_util.register_static
class _Tree:
    """Axes of the leaves of a problem, in their order; hashable."""

    def __init__(self, axes: tuple[int | None, ...]) -> None:
        self.axes = axes

    def map(self, change: Callable[[Array], Array], problem: Any) -> Any:
        leaves, tree = jax.tree_util.tree_flatten(problem)
        new = [
            leaf if axis is None else change(leaf)
            for leaf, axis in zip(leaves, self.axes, strict=True)
        ]
        return jax.tree_util.tree_unflatten(tree, new)


def _unflatten_axes(problem: SoftmaxRegression, axes: tuple[int | None, ...]) -> Any:
    """The axes in the shape that ``jax.vmap`` wants them."""
    tree = jax.tree_util.tree_structure(problem)
    return jax.tree_util.tree_unflatten(tree, axes)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _start(
    problem: Any, kit: Any, starts: Any, rtol: float, axes: Any, kit_axis: Any, size: int,
    solver: Solver,
) -> State:  # fmt: skip
    axis = None if starts is None else 0

    def run(problem: Any, kit: Any, x0: Any) -> State:
        return steps.first_state(problem, kit, x0, rtol, solver)

    in_axes = (_unflatten_axes(problem, axes), kit_axis, axis)
    return jax.vmap(run, in_axes, axis_size=size)(problem, kit, starts)


@functools.partial(jax.jit, static_argnums=(4, 5, 6), donate_argnums=2)
def _advance(
    problem: Any, kit: Any, states: State, max_steps: int, axes: Any, kit_axis: Any,
    solver: Solver,
) -> State:  # fmt: skip
    def one(problem: Any, kit: Any, state: State) -> State:
        running = state.status == Status.RUNNING
        new = steps.next_state(problem, kit, state, max_steps, solver)
        return jax.tree_util.tree_map(lambda a, b: jnp.where(running, a, b), new, state)

    step = jax.vmap(one, (_unflatten_axes(problem, axes), kit_axis, 0))
    return jax.lax.fori_loop(
        0, _STEPS_PER_CHUNK, lambda _, states: step(problem, kit, states), states
    )


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _first_look(
    problem: Any, kit: Any, states: State, rtol: float, axes: Any, kit_axis: Any, solver: Solver
) -> tuple[State, State, Array, Array]:
    def one(problem: Any, kit: Any, state: State) -> tuple[State, State, Array, Array]:
        return examination.first_look(problem, kit, state, rtol, solver)

    return jax.vmap(one, (_unflatten_axes(problem, axes), kit_axis, 0))(problem, kit, states)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _deep_look(
    problem: Any, kit: Any, states: State, rtol: float, axes: Any, kit_axis: Any, solver: Solver
) -> State:
    def one(problem: Any, kit: Any, state: State) -> State:
        look = examination.deep_look_traced(problem, kit, state, rtol, solver)
        return examination.judged_by(problem, kit, state, look, rtol, solver)[0]

    return jax.vmap(one, (_unflatten_axes(problem, axes), kit_axis, 0))(problem, kit, states)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _finish(problem: Any, kit: Any, states: State, axes: Any, kit_axis: Any) -> Solution:
    lanes = _unflatten_axes(problem, axes), kit_axis, 0
    return jax.vmap(results.solution_on_device, lanes)(problem, kit, states)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _prepare(batch: Any, axes: Any, solver: Solver) -> Any:
    return jax.vmap(lambda one: steps.prepare(one, solver), (_unflatten_axes(batch, axes),))(batch)


def _run(lanes: _Lanes, states: State, max_steps: int, stop: Callable[[int], bool]) -> State:
    """Advance in chunks; whenever half of the lanes are done, only the others go on."""
    final, size = states, len(states.status)
    place = np.arange(size)  # lane i of `states` is problem place[i]; repeats are padding
    while True:
        running = np.asarray(states.status) == Status.RUNNING
        if not running.any():
            break
        left = np.unique(place[running])
        if stop(size - len(left)):
            stopped = jnp.where(running, Status.INTERRUPTED, states.status)
            states = states._replace(status=stopped.astype(jnp.int32))
            break
        if 2 * len(left) <= len(place) and len(place) > _SMALLEST_BATCH:
            final = _put(final, place, states)
            kept = _padded(np.flatnonzero(running), len(place))
            lanes, states, place = lanes.take(kept), _pick(states, kept), place[kept]
        states = lanes.advance(states, max_steps)
    return _put(final, place, states)


def _put(final: State, place: np.ndarray, states: State) -> State:
    """The states of all problems, those of some replaced."""
    if len(place) == len(final.status) and (place == np.arange(len(place))).all():
        return states
    index = jnp.asarray(place)
    return jax.tree_util.tree_map(lambda a, b: a.at[index].set(b), final, states)


def _stack(problems: list[SoftmaxRegression]) -> tuple[SoftmaxRegression, _Axes, int]:
    """One batched problem; what all have in common is kept once."""
    if not problems:
        raise InputError("problems is empty; give at least one")
    for i, problem in enumerate(problems):
        if not isinstance(problem, SoftmaxRegression):
            raise InputError(f"problems[{i}] is a {type(problem).__name__}; give problems")
        check_on_one_device(problem)
    flat: list[tuple[list[Any], Any]] = [
        jax.tree_util.tree_flatten(problem) for problem in problems
    ]
    leaves, tree = flat[0]
    for i, (others, other_tree) in enumerate(flat):
        alike = bool(other_tree == tree) and all(
            a.shape == b.shape and a.dtype == b.dtype for a, b in zip(leaves, others, strict=True)
        )
        if not alike:
            raise InputError(
                f"problems[{i}] is {problems[i]!r}, problems[0] {problems[0]!r}; they must agree "
                "in type, shapes, dtype, reading and metric, and in the pattern of a sparse A"
            )
    shared = [all(_same(others[j], leaf) for others, _ in flat) for j, leaf in enumerate(leaves)]
    stacked = [
        leaf if shared[j] else jnp.stack([others[j] for others, _ in flat])
        for j, leaf in enumerate(leaves)
    ]
    batch = jax.tree_util.tree_unflatten(tree, stacked)
    axes = tuple(None if s else 0 for s in shared)
    return batch, _named(batch, axes), len(problems)


def _same(one: Array, other: Array) -> bool:
    """Whether two arrays are one, or equal vectors; all of A is not compared."""
    return one is other or (one.ndim < 2 and np.array_equal(np.asarray(one), np.asarray(other)))


def _axes(batch: SoftmaxRegression) -> tuple[_Axes, int]:
    """Axes and size of a batched problem."""
    check_on_one_device(batch)
    dims = {"A": 2, "b": 1, "w": 1, "_protected": 1, "_gamma": 0}
    arrays = {name: getattr(batch, name) for name in dims if hasattr(batch, name)}
    extra = {name: array.ndim - dims[name] for name, array in arrays.items()}
    sizes = {array.shape[0] for name, array in arrays.items() if extra[name] == 1}
    if not set(extra.values()) <= {0, 1} or len(sizes) != 1:
        shapes = ", ".join(f"{name.strip('_')} {array.shape}" for name, array in arrays.items())
        raise InputError(
            f"a batched problem has arrays with one leading axis of one length, but has {shapes}; "
            "make it by jax.vmap of the constructor, or give a list of problems"
        )
    leaves = jax.tree_util.tree_leaves(batch)
    names = {id(array): name for name, array in arrays.items()}
    axes = tuple(0 if extra[names[id(leaf)]] else None for leaf in leaves)
    return _named(batch, axes), sizes.pop()


def _named(batch: Any, axes: tuple[int | None, ...]) -> _Axes:
    by_id = dict(zip(map(id, jax.tree_util.tree_leaves(batch)), axes, strict=True))
    of_A = {by_id[id(leaf)] for leaf in jax.tree_util.tree_leaves(batch.A)}
    return _Axes(None if of_A == {None} else 0, by_id[id(batch.w)], _Tree(axes))


def check_on_one_device(problem: SoftmaxRegression) -> None:
    """Refuse a matrix of which no batch can be made."""
    if on_host(problem.A):
        raise InputError("A is on disk; solve such problems one by one, with copyreg_jax.solve")
    if isinstance(problem.A, ShardedRows):
        raise InputError("A is sharded; solve such problems one by one, with copyreg_jax.solve")


def _lane(batch: SoftmaxRegression, axes: _Axes, i: int) -> SoftmaxRegression:
    one: SoftmaxRegression = axes.tree.map(lambda array: array[i], batch)
    return one


def _starts(one: SoftmaxRegression, x0: ArrayLike, size: int) -> Array:
    array = jnp.asarray(x0, one.dtype)
    if array.shape == (one.d,):
        array = jnp.broadcast_to(array[None], (size, one.d))
    if array.shape != (size, one.d):
        raise InputError(
            f"x0 has shape {array.shape}; give ({size}, {one.d}), or ({one.d},) for all"
        )
    check_start(array.reshape(-1))
    return array
