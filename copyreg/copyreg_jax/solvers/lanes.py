"""The lanes of a batch: states of many problems that advance side by side in one program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from copyreg_jax._compiling import QuickJit
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers import examination, results, steps
from copyreg_jax.solvers.examination import Verdict
from copyreg_jax.solvers.protocol import Solver, State
from copyreg_jax.solvers.solution import Solution, Status

__all__ = [
    "SMALLEST_BATCH",
    "Axes",
    "Lanes",
    "LeafAxes",
    "lane_of",
    "pick",
    "precompute_lanes",
    "solve_group",
]

SMALLEST_BATCH = 8
"""Lanes below which a batch does not become smaller, so that few programs are compiled."""


def solve_group(
    lanes: Lanes, states: State, max_steps: int, stop: Callable[[int], bool]
) -> Solution:
    """Minimize the problems of all lanes.

    Lanes that have ended are examined; those that are not at a minimizer go on.
    """
    settled = np.zeros(len(states.status), bool)
    first = lane_of(lanes.problem, lanes.axes, 0)
    while True:
        states = _run(lanes, states, max_steps, stop)
        precomputed, states = lanes.solver.refine(first, lanes.kit.precomputed, states)
        lanes = lanes._replace(kit=lanes.kit._replace(precomputed=precomputed))
        status = np.asarray(states.status)
        judged = Status.CONVERGED, Status.STALLED, Status.MAX_STEPS
        ended = np.isin(status, judged) & ~settled
        if ended.any():
            states = _examined(lanes, states, np.flatnonzero(ended))
            spent = (states.status == Status.RUNNING) & (states.num_steps >= max_steps)
            states = states._replace(
                status=jnp.where(spent, Status.MAX_STEPS, states.status).astype(jnp.int32)
            )
        status = np.asarray(states.status)
        settled = status != Status.RUNNING
        if settled.all():
            return _finish(lanes.problem, lanes.kit, states, lanes.axes.leaves.axes, lanes.kit_axis)


def _examined(lanes: Lanes, states: State, ended: np.ndarray) -> State:
    """Look at the lanes that have ended, and again where that is due; leave saddle points."""
    index = _padded(ended, len(states.status))
    fresh, verdict = lanes.take(index).first_look(pick(states, index))
    states = _put(states, index, verdict.applied_to(fresh))
    leaving = [index[np.asarray(verdict.leaving & ~verdict.due)]]
    due = np.flatnonzero(np.asarray(verdict.due)[: len(ended)])
    if due.size:
        due = _padded(due, len(index))
        fresh = pick(fresh, due)
        verdict = lanes.take(index[due]).deeper_look(fresh)
        states = _put(states, index[due], verdict.applied_to(fresh))
        leaving.append(index[due][np.asarray(verdict.leaving)])
    left = np.unique(np.concatenate(leaving))
    if left.size:
        left = _padded(left, len(states.status))
        states = _put(states, left, lanes.take(left).leave(pick(states, left)))
    return states


class Axes(NamedTuple):
    """The leading axis of the arrays of a batched problem: 0, or None for what all lanes share.

    Attributes
    ----------
    A, b, w : int or None
        The axes of these arrays.
    leaves : LeafAxes
        The axes of all leaves.
    """

    A: int | None
    b: int | None
    w: int | None
    leaves: LeafAxes


class Lanes(NamedTuple):
    """Everything that a batch consists of besides its states."""

    problem: SoftmaxRegression
    axes: Axes
    kit: steps.Kit
    kit_axis: int | None
    solver: Solver
    rtol: float

    def start(self, starts: Array | None, size: int) -> State:
        """Return the initial states of ``size`` lanes."""
        return _start(
            self.problem, self.kit, starts, self.rtol, self.axes.leaves.axes, self.kit_axis, size,
            self.solver,
        )  # fmt: skip

    def advance(self, states: State, max_steps: int) -> State:
        """Return the states after one step; lanes that have ended stay as they are."""
        return _advance(
            self.problem, self.kit, states, max_steps, self.axes.leaves.axes, self.kit_axis,
            self.solver,
        )  # fmt: skip

    def first_look(self, states: State) -> tuple[State, Verdict]:
        """Return what `examination.first_look` says of each lane."""
        axes = self.axes.leaves.axes, self.kit_axis
        return _first_look(self.problem, self.kit, states, self.rtol, *axes, self.solver)

    def deeper_look(self, states: State) -> Verdict:
        """Return the verdict on each lane after a deeper look."""
        axes = self.axes.leaves.axes, self.kit_axis
        return _deeper_look(self.problem, self.kit, states, self.rtol, *axes, self.solver)

    def leave(self, states: State) -> State:
        """Return the states whose next steps leave their saddle points."""
        axes = self.axes.leaves.axes, self.kit_axis
        return _leave(self.problem, self.kit, states, *axes, self.solver)

    def take(self, index: np.ndarray) -> Lanes:
        """Return some of the lanes."""
        problem = self.axes.leaves.map(lambda own: pick(own, index), self.problem)
        kit = self.kit if self.kit_axis is None else pick(self.kit, index)
        return self._replace(problem=problem, kit=kit)


def pick(tree: Any, index: np.ndarray) -> Any:
    """Return the entries of all leaves at these places of their leading axis."""
    leaves = jax.tree_util.tree_leaves(tree)
    return tree if not leaves or _are_all(index, len(leaves[0])) else _pick(tree, index)


@jax.jit
def _pick(tree: Any, index: Any) -> Any:
    return jax.tree_util.tree_map(lambda leaf: leaf[index], tree)


def _are_all(index: np.ndarray, size: int) -> bool:
    """Return whether the index is that of all lanes in their order."""
    return len(index) == size and bool((index == np.arange(size)).all())


def _padded(index: np.ndarray, size: int) -> np.ndarray:
    """Fill the index up by repeats to a fourth, a 16th, ... of the size: few are compiled for."""
    while len(index) <= (less := max(-(-size // 4), SMALLEST_BATCH)) <= size / 3:
        size = less
    return np.concatenate([index, np.full(max(0, size - len(index)), index[-1])])


@jax.tree_util.register_static
class LeafAxes:
    """The axes of the leaves of a problem in their order, as a hashable object."""

    def __init__(self, axes: tuple[int | None, ...]) -> None:
        self.axes = axes

    def map(self, change: Callable[[list[Array]], list[Array]], problem: Any) -> Any:
        """Return the problem with those of its leaves changed, all at once, that have an axis."""
        leaves, tree = jax.tree_util.tree_flatten(problem)
        places = [k for k, axis in enumerate(self.axes) if axis is not None]
        for k, new in zip(places, change([leaves[k] for k in places]), strict=True):
            leaves[k] = new
        return jax.tree_util.tree_unflatten(tree, leaves)


def _unflatten_axes(problem: SoftmaxRegression, axes: tuple[int | None, ...]) -> Any:
    """The axes in the shape that ``jax.vmap`` wants them."""
    tree = jax.tree_util.tree_structure(problem)
    return jax.tree_util.tree_unflatten(tree, axes)


@functools.partial(QuickJit, static_argnums=(4, 5, 6, 7))
def _start(
    problem: Any, kit: Any, starts: Any, rtol: float, axes: Any, kit_axis: Any, size: int,
    solver: Solver,
) -> State:  # fmt: skip
    axis = None if starts is None else 0

    def run(problem: Any, kit: Any, x0: Any) -> State:
        return steps.initial_state(problem, kit, x0, rtol, solver)

    in_axes = (_unflatten_axes(problem, axes), kit_axis, axis)
    return jax.vmap(run, in_axes, axis_size=size)(problem, kit, starts)


@functools.partial(QuickJit, static_argnums=(4, 5, 6), donate_argnums=2)
def _advance(
    problem: Any, kit: Any, states: State, max_steps: int, axes: Any, kit_axis: Any,
    solver: Solver,
) -> State:  # fmt: skip
    def advance_lane(problem: Any, kit: Any, state: State) -> State:
        running = state.status == Status.RUNNING
        new = steps.next_state(problem, kit, state, max_steps, solver)
        return jax.tree_util.tree_map(lambda a, b: jnp.where(running, a, b), new, state)

    return jax.vmap(advance_lane, (_unflatten_axes(problem, axes), kit_axis, 0))(
        problem, kit, states
    )


@functools.partial(QuickJit, static_argnums=(4, 5, 6))
def _first_look(
    problem: Any, kit: Any, states: State, rtol: float, axes: Any, kit_axis: Any, solver: Solver
) -> tuple[State, Verdict]:
    def examine_lane(problem: Any, kit: Any, state: State) -> tuple[State, Verdict]:
        return examination.first_look(problem, kit, state, rtol, solver)

    return jax.vmap(examine_lane, (_unflatten_axes(problem, axes), kit_axis, 0))(
        problem, kit, states
    )


@functools.partial(QuickJit, static_argnums=(4, 5, 6))
def _deeper_look(
    problem: Any, kit: Any, states: State, rtol: float, axes: Any, kit_axis: Any, solver: Solver
) -> Verdict:
    def examine_lane(problem: Any, kit: Any, state: State) -> Verdict:
        return examination.deeper_look(problem, kit, state, rtol, solver)

    return jax.vmap(examine_lane, (_unflatten_axes(problem, axes), kit_axis, 0))(
        problem, kit, states
    )


@functools.partial(QuickJit, static_argnums=(3, 4, 5))
def _leave(
    problem: Any, kit: Any, states: State, axes: Any, kit_axis: Any, solver: Solver
) -> State:
    def leave_lane(problem: Any, kit: Any, state: State) -> State:
        return examination.leave(problem, kit, state, solver)

    return jax.vmap(leave_lane, (_unflatten_axes(problem, axes), kit_axis, 0))(problem, kit, states)


@functools.partial(QuickJit, static_argnums=(3, 4))
def _finish(problem: Any, kit: Any, states: State, axes: Any, kit_axis: Any) -> Solution:
    lanes = _unflatten_axes(problem, axes), kit_axis, 0
    return jax.vmap(results.solution_on_device, lanes)(problem, kit, states)


@functools.partial(QuickJit, static_argnums=(1, 2))
def precompute_lanes(batch: Any, axes: Any, solver: Solver) -> Any:
    """Return the data that each lane needs, where A or w differ from lane to lane."""
    in_axes = (_unflatten_axes(batch, axes),)
    return jax.vmap(lambda problem: steps.precompute(problem, solver), in_axes)(batch)


def _run(lanes: Lanes, states: State, max_steps: int, stop: Callable[[int], bool]) -> State:
    """Advance step by step; whenever three in four lanes are done, only the others go on."""
    final, size = states, len(states.status)
    place = np.arange(size)  # lane i of `states` is problem place[i]; repeats are padding
    while True:
        running = np.asarray(states.status) == Status.RUNNING
        if not running.any():
            break
        left, lane = np.unique(place[running], return_index=True)
        if stop(size - len(left)):
            stopped = jnp.where(running, Status.INTERRUPTED, states.status)
            states = states._replace(status=stopped.astype(jnp.int32))
            break
        kept = _padded(np.flatnonzero(running)[lane], len(place))  # one lane of each problem
        if len(kept) < len(place):
            final = _put(final, place, states)
            lanes, states, place = lanes.take(kept), pick(states, kept), place[kept]
        states = lanes.advance(states, max_steps)
    return _put(final, place, states)


def _put(final: State, place: np.ndarray, states: State) -> State:
    """The states of all problems, those of some replaced."""
    return states if _are_all(place, len(final.status)) else _scatter(final, place, states)


@jax.jit
def _scatter(final: State, place: Any, states: State) -> State:
    return jax.tree_util.tree_map(lambda a, b: a.at[place].set(b), final, states)


def lane_of(batch: SoftmaxRegression, axes: Axes, i: int) -> SoftmaxRegression:
    """Return problem i of a batched problem."""
    problem: SoftmaxRegression = axes.leaves.map(lambda own: [leaf[i] for leaf in own], batch)
    return problem
