"""The first state of a run, one step, and compiled runs of steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from copyreg_jax._compiling import QuickJit
from copyreg_jax._tracing import number, while_loop
from copyreg_jax.matrices import absent_rows, on_host, row_norms, without_rows
from copyreg_jax.problems.objective import Point
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.optimality import gradient_size, length, unknown
from copyreg_jax.solvers.protocol import Counts, Solver, State
from copyreg_jax.solvers.solution import Status
from copyreg_jax.solvers.start import centered_mask, default_start, is_convex_at_zero

__all__ = [
    "AIM",
    "CHUNK",
    "Kit",
    "Trace",
    "advance",
    "initial_state",
    "initial_state_jit",
    "next_state",
    "precompute",
]

AIM = 0.5
"""Part of a tolerance that solvers aim at, so that rounding on the host does not exceed it."""

CHUNK = 1000
"""Most steps of one call of the compiled loop; large problems are interruptible more often."""


class Trace(NamedTuple):
    """Values and gradient norms of the first state and of those after ``num_steps`` steps."""

    num_steps: Int[Array, ""]
    value: Float[Array, " most"]
    norm: Float[Array, " most"]


class Kit(NamedTuple):
    """The data that a run needs and that depend on A, b, w and the protected rows alone.

    Attributes
    ----------
    precomputed : pytree
        The data of the solver, from ``solver.precompute``.
    row_norms : (n,) array
        Euclidean norms of the rows of A.
    direction : (d,) array or None
        What `default_start` would read an A on disk for.
    """

    precomputed: Any
    row_norms: Float[Array, " n"]
    direction: Point | None = None


def precompute(problem: SoftmaxRegression, solver: Solver) -> Kit:
    """Return the kit of a run."""
    if on_host(problem.A):
        mask = None if number(is_convex_at_zero(problem)) else centered_mask(problem)
        precomputed, direction = solver.precompute_and_multiply(problem, mask)
        return Kit(precomputed, row_norms(problem.A), direction)
    return Kit(solver.precompute(problem), row_norms(problem.A))


def initial_state(
    problem: SoftmaxRegression, kit: Kit, x0: Point | None, rtol: float, solver: Solver
) -> State:
    """Return the state at the start."""
    zero = jnp.zeros((), jnp.int32)
    start = default_start(problem, kit.direction) if x0 is None else (x0, problem.A @ x0, zero)
    x, u, tried = start
    counts = Counts(zero, zero, zero, zero).add(values=1 + tried, gradients=1)
    logits = without_rows(u, absent_rows(problem.A))
    tolerance = AIM * rtol * gradient_size(problem, logits, kit.row_norms)
    inf = jnp.full_like(x, jnp.inf, shape=())
    state = State(
        x, inf, jnp.full_like(x, inf), zero, tolerance, unknown(x), inf, zero, counts, None
    )
    state = solver.init(problem, kit.precomputed, state, u)
    finite = jnp.isfinite(state.value) & jnp.isfinite(length(state.gradient))
    status = jnp.where(solver.done(state), Status.CONVERGED, Status.RUNNING)
    status = jnp.where(finite, status, Status.NONFINITE)
    return state._replace(status=status.astype(jnp.int32))


def next_state(
    problem: SoftmaxRegression, kit: Kit, state: State, max_steps: int, solver: Solver
) -> State:
    """Make one step of the solver and judge it."""
    new = solver.step(problem, kit.precomputed, state)
    finite = (
        jnp.isfinite(new.value) & jnp.all(jnp.isfinite(new.x)) & jnp.isfinite(length(new.gradient))
    )
    num_steps = state.num_steps + 1
    status = jnp.where(
        ~finite,
        Status.NONFINITE,
        jnp.where(
            solver.done(new),
            Status.CONVERGED,
            jnp.where(
                (new.status == Status.RUNNING) & (num_steps >= max_steps),
                Status.MAX_STEPS,
                new.status,
            ),
        ),
    )
    # The solution is the last finite point; the rest of the state has no more use.
    return new._replace(
        x=jnp.where(finite, new.x, state.x),
        value=jnp.where(finite, new.value, state.value),
        gradient=jnp.where(finite, new.gradient, state.gradient),
        status=status.astype(jnp.int32),
        num_steps=num_steps,
    )


def advance(
    problem: SoftmaxRegression, kit: Kit, state: State, limit: int, max_steps: int, solver: Solver
) -> tuple[State, Trace]:
    """Make up to ``limit`` steps, at most `CHUNK`; record value and gradient norm before and after.

    One program makes all steps of a run, so that one that is resumed rounds as the whole does.
    """

    def noted(trace: Trace, state: State) -> Trace:
        place = trace.num_steps
        value = trace.value.at[place].set(state.value)
        return Trace(place, value, trace.norm.at[place].set(length(state.gradient)))

    def body(carry: tuple[State, Trace]) -> tuple[State, Trace]:
        state, trace = carry
        state = next_state(problem, kit, state, max_steps, solver)
        return state, noted(trace._replace(num_steps=trace.num_steps + 1), state)

    def going(carry: tuple[State, Trace]) -> Bool[Array, ""]:
        state, trace = carry
        return (state.status == Status.RUNNING) & (trace.num_steps < limit)

    blank = jnp.zeros(CHUNK + 1, state.value.dtype)
    trace = noted(Trace(jnp.zeros((), jnp.int32), blank, blank), state)
    # Of an A on disk the steps are not compiled as a whole, because they read it on the way.
    state, trace = while_loop(on_host(problem.A), going, body, (state, trace))
    return state, trace


initial_state_jit = QuickJit(initial_state, static_argnames="solver")
