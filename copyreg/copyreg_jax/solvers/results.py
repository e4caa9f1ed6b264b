"""From the last state of a run to its `Solution`, on the host or on the device."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from copyreg_jax._tracing import number
from copyreg_jax.problems import objective
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.examination import judge_state
from copyreg_jax.solvers.implicit import minimizer
from copyreg_jax.solvers.optimality import gradient_size, length
from copyreg_jax.solvers.protocol import Solver, State
from copyreg_jax.solvers.recheck import Rechecks
from copyreg_jax.solvers.solution import History, SecondOrder, Solution, Status
from copyreg_jax.solvers.steps import Kit

__all__ = ["solution_on_device", "solution_on_host"]


def solution_on_device(problem: SoftmaxRegression, kit: Kit, state: State) -> Solution:
    """Return the solution as arrays, with the derivatives of the minimizer."""
    state = state._replace(x=minimizer(problem, state.x))
    u = problem.logits(state.x)
    terms = problem.terms
    b, protected, reading, metric = terms.b, terms.protected, terms.reading, terms.metric
    return _solution(
        state,
        status=state.status,
        value=objective.value(u, terms),
        gradient_norm=length(state.gradient),
        gradient_size=gradient_size(problem, u, kit.row_norms),
        decrement=state.look.decrement,
        second_order=state.look.second_order,
        ell=objective.ell(u, b, metric),
        ell_1=objective.ell_1(u, b, protected, reading, metric),
        ell_2=objective.ell_2(u, b, protected, reading, metric),
        protected_mass=jnp.sum(jnp.where(protected, objective.f(u), 0)),
        target_mass=jnp.sum(jnp.where(protected, b, 0)),
    )


def solution_on_host(
    rechecks: Rechecks, kit: Kit, state: State, rtol: float, solver: Solver, history: History
) -> Solution:
    """Return the solution, with its numbers computed anew and its status judged by them."""
    again, _ = rechecks.at(state.x)
    flat = again.gradient_norm <= rtol * again.gradient_size
    # Tolerances are those of the start: a run may have come to a solution and not know.
    if number(state.status) == Status.MAX_STEPS and flat:
        state = judge_state(rechecks, kit, state, rtol, solver)
    status = Status(number(state.status))
    if not (np.isfinite(again.value) and np.isfinite(again.gradient_norm)):
        status = Status.NONFINITE
    elif status is Status.CONVERGED and not flat:
        status = Status.STALLED
    host = jax.tree_util.tree_map(number, (state.num_steps, state.counts))
    return _solution(
        state._replace(num_steps=host[0], counts=host[1]),
        status=status,
        decrement=number(state.look.decrement),
        second_order=SecondOrder(number(state.look.second_order)),
        history=history,
        **again._asdict(),
    )


def _solution(state: State, **fields: Any) -> Solution:
    counts = {f"num_{name}": count for name, count in state.counts._asdict().items()}
    return Solution(x=state.x, num_steps=state.num_steps, **counts, **fields)
