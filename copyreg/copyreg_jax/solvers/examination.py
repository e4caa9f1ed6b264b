"""Whether a state is a solution: a first look, a deeper one, and what the solver does next."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from copyreg_jax._compiling import QuickJit
from copyreg_jax._tracing import cond, number, only_if
from copyreg_jax.matrices import is_here, on_host
from copyreg_jax.problems.objective import Scalar
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.optimality import (
    MAX_EXACT_COLUMNS,
    Look,
    allowed_excess,
    exact_look,
    gradient_size,
    has_large_gram,
    length,
    sampled_look,
)
from copyreg_jax.solvers.protocol import Solver, State
from copyreg_jax.solvers.recheck import Rechecks, second_order
from copyreg_jax.solvers.solution import SecondOrder, Status
from copyreg_jax.solvers.steps import AIM, Kit, Trace, advance

__all__ = [
    "Verdict",
    "deeper_look",
    "examined",
    "examined_traced",
    "first_look",
    "first_look_jit",
    "judge",
    "judge_state",
    "leave",
    "run",
    "run_jit",
]


class Verdict(NamedTuple):
    """What a look at a state has found.

    Attributes
    ----------
    status, tolerance, look, left
        Those that the state goes on with.
    flat, due, leaving : () bool array
        Whether the gradient meets the rule, whether a deeper look is due, and whether the state is
        a saddle point that is to be left.
    """

    status: Int[Array, ""]
    tolerance: Scalar
    look: Look
    left: Scalar
    flat: Bool[Array, ""]
    due: Bool[Array, ""]
    leaving: Bool[Array, ""]

    def applied_to(self, state: State) -> State:
        """Return the state that was looked at, as it goes on."""
        return state._replace(
            status=self.status, tolerance=self.tolerance, look=self.look, left=self.left
        )


def run(
    problem: SoftmaxRegression, kit: Kit, state: State, limit: int, max_steps: int, rtol: Any,
    solver: Solver,
) -> tuple[State, Trace, Verdict]:  # fmt: skip
    """Make up to ``limit`` steps, and take a first look where the solver is done.

    A state that has stalled is looked at later: the solver may have better data for it.
    """
    state, trace = advance(problem, kit, state, limit, max_steps, solver)
    ended = state.status == Status.CONVERGED

    def look() -> tuple[State, Verdict]:
        return first_look(problem, kit, state, rtol, solver)

    def none() -> tuple[State, Verdict]:
        no = jnp.zeros((), bool)
        return state, Verdict(state.status, state.tolerance, state.look, state.left, no, no, no)

    state, verdict = cond(on_host(problem.A), ended, look, none)
    return state, trace, verdict


def examined(
    rechecks: Rechecks, kit: Kit, state: State, verdict: Verdict, rtol: float, max_steps: int,
    solver: Solver,
) -> tuple[Kit, State]:  # fmt: skip
    """Return the data and the state that a run goes on with, after `run` has looked at it."""
    precomputed, refined = solver.refine(rechecks.problem, kit.precomputed, state)
    status, same = number(refined.status), refined is state and precomputed is kit.precomputed
    kit, state = kit._replace(precomputed=precomputed), refined
    if status == Status.CONVERGED and same:
        state = _concluded(rechecks, kit, state, verdict, rtol, solver)
    elif status in (Status.CONVERGED, Status.STALLED):
        state = judge_state(rechecks, kit, state, rtol, solver)
    if number(state.status) == Status.RUNNING and number(state.num_steps) >= max_steps:
        state = state._replace(status=jnp.asarray(Status.MAX_STEPS, jnp.int32))
    return kit, state


def judge_state(rechecks: Rechecks, kit: Kit, state: State, rtol: float, solver: Solver) -> State:
    """Return the state after a first look, and after a deeper one if that is due."""
    problem = rechecks.problem
    first = first_look if on_host(problem.A) else first_look_jit
    state, verdict = first(problem, kit, state, rtol, solver)
    return _concluded(rechecks, kit, state, verdict, rtol, solver)


def _concluded(
    rechecks: Rechecks, kit: Kit, state: State, verdict: Verdict, rtol: float, solver: Solver
) -> State:
    """Return the state after a deeper look if that is due, and as it leaves a saddle point."""
    problem = rechecks.problem
    host = on_host(problem.A)
    single = problem.dtype == np.float32
    # In float32 a gradient may be all rounding, and so a decrement: float64 looks again.
    if number(verdict.due) or (single and number(verdict.flat)):
        if single and problem.d <= MAX_EXACT_COLUMNS and is_here(problem.A):
            verdict = _verdict_in_float64(rechecks, kit, state, verdict, rtol, solver)
        else:
            verdict = (deeper_look if host else _deeper_look_jit)(problem, kit, state, rtol, solver)
    state = verdict.applied_to(state)
    if number(verdict.leaving):
        state = (leave if host else _leave_jit)(problem, kit, state, solver)
    return state


def _verdict_in_float64(
    rechecks: Rechecks, kit: Kit, state: State, verdict: Verdict, rtol: float, solver: Solver
) -> Verdict:
    """Return the verdict on a state in float32, by a gradient and if need be a Hessian in float64.

    Where L is seen to be convex the gradient is enough, and the final evaluation needs it anyway.
    """
    problem = rechecks.problem
    judged = judge if on_host(problem.A) else _judge_jit
    if number(verdict.look.second_order) == SecondOrder.CONVEX:
        gradient = jnp.asarray(rechecks.at(state.x)[1], problem.dtype)
        look = solver.look(problem, kit.precomputed, state._replace(gradient=gradient))
        verdict = judged(problem, kit, state, look, rtol, solver)
        if not number(verdict.due):
            return verdict
    found = second_order(problem, np.asarray(state.x), rtol)
    look = Look(
        jnp.asarray(found.decrement, problem.dtype),
        jnp.asarray(found.second_order, jnp.int32),
        jnp.asarray(found.direction, problem.dtype),
    )
    return judged(problem, kit, state, look, rtol, solver)


def deeper_look(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: Any, solver: Solver
) -> Verdict:
    """Return the verdict by the Hessian, or by samples of it, in the arithmetic of the problem."""
    u = solver.logits(problem, state)
    if problem.d > MAX_EXACT_COLUMNS:
        basis = solver.basis(problem, kit.precomputed)
        look = sampled_look(problem, kit.row_norms, basis, u, state.gradient, rtol)
    else:
        mixed = has_large_gram(problem) and bool(getattr(solver, "mixed", False))
        look = exact_look(problem, u, state.gradient, rtol, mixed=mixed)
    return judge(problem, kit, state, look, rtol, solver)


def first_look(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: Any, solver: Solver
) -> tuple[State, Verdict]:
    """Return the state as it follows from x, and the verdict by what the solver knows of it."""
    state, look = solver.examine(problem, kit.precomputed, state)
    return state, judge(problem, kit, state, look, rtol, solver)


def judge(
    problem: SoftmaxRegression, kit: Kit, state: State, look: Look, rtol: Any, solver: Solver
) -> Verdict:
    """Return the status that follows from the look: RUNNING if the state is not a minimizer.

    A state that is to run on has a tolerance below its gradient, or is to be left, so that no state
    comes twice. A saddle point is left only if L is lower than at the one left before.
    """
    u, norm = solver.logits(problem, state), length(state.gradient)
    spent = state.status == Status.MAX_STEPS
    stalled = (state.status == Status.STALLED) | spent
    aim = jnp.where(stalled, 1, AIM)  # with room to spare, as long as there is a way to it
    size = gradient_size(problem, u, kit.row_norms)
    most = allowed_excess(problem, u, state.value, rtol)
    flat = norm <= aim * rtol * size
    # A gradient of zero is that of a solution also where nothing else is known.
    low = (0.5 * look.decrement**2 <= aim * most) | (norm == 0)

    negative = flat & (look.second_order == SecondOrder.NEGATIVE)
    leaving = negative & ~spent & (state.value < state.left)
    # A solver that comes again with a gradient above its tolerance has no way to a smaller one.
    stuck = stalled | (norm > state.tolerance)
    onward = jnp.where(stuck, Status.STALLED, Status.RUNNING)
    status = jnp.where(flat & low, Status.CONVERGED, onward)
    status = jnp.where(negative, Status.SADDLE, status)
    # A run without steps left has ended at a solution or with the message that it had.
    kept = spent & (status != Status.CONVERGED)
    status = jnp.where(kept, Status.MAX_STEPS, status).astype(jnp.int32)
    # The decrement is proportional to the gradient near a minimizer.
    ratio = jnp.sqrt(AIM * most) / jnp.where(look.decrement > 0, look.decrement, 1)
    ratio = jnp.where(jnp.isfinite(look.decrement), jnp.minimum(ratio, 0.5), 0.1)
    nearer = jnp.where(flat, ratio * norm, jnp.minimum(AIM * rtol * size, 0.99 * norm))
    return Verdict(
        status=status,
        tolerance=jnp.where(status == Status.RUNNING, nearer, state.tolerance),
        look=look,
        left=jnp.where(leaving, state.value, state.left),
        flat=flat,
        due=flat & ~(low & (look.second_order != SecondOrder.UNKNOWN)),
        leaving=leaving,
    )


def leave(problem: SoftmaxRegression, kit: Kit, state: State, solver: Solver) -> State:
    """Return the state whose next step goes along the direction that its look has found."""
    return solver.leave(problem, kit.precomputed, state, state.look.direction)


run_jit = QuickJit(run, static_argnames="solver")

first_look_jit = QuickJit(first_look, static_argnames="solver")

_judge_jit = QuickJit(judge, static_argnames="solver")

_leave_jit = QuickJit(leave, static_argnames="solver")

_deeper_look_jit = QuickJit(deeper_look, static_argnames="solver")


def examined_traced(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: Any, max_steps: int, solver: Solver
) -> State:
    """Examine a run within a compiled program, where no solver refines its precomputed data."""

    def second(state: State) -> State:
        fresh, verdict = first_look(problem, kit, state, rtol, solver)
        verdict = only_if(
            False,
            verdict.due,
            lambda fresh: deeper_look(problem, kit, fresh, rtol, solver),
            fresh,
            verdict,
        )
        judged = verdict.applied_to(fresh)
        return only_if(
            False,
            verdict.leaving,
            lambda judged: leave(problem, kit, judged, solver),
            judged,
            judged,
        )

    ended = (state.status != Status.RUNNING) & (state.status != Status.NONFINITE)
    state = only_if(False, ended, second, state, state)
    spent = (state.status == Status.RUNNING) & (state.num_steps >= max_steps)
    status = jnp.where(spent, Status.MAX_STEPS, state.status).astype(jnp.int32)
    return state._replace(status=status)
