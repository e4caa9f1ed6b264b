"""The only loop: counts steps, checks finiteness, records history, judges the status."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool

from copyreg_jax._tracing import is_concrete, is_traced, number
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import is_here, on_host
from copyreg_jax.problems.input import check_start
from copyreg_jax.problems.objective import Point
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.checkpoint import Checkpoint
from copyreg_jax.solvers.examination import examined, examined_traced, run, run_jit
from copyreg_jax.solvers.options import check_settings
from copyreg_jax.solvers.protocol import Solver, State
from copyreg_jax.solvers.recheck import Rechecks
from copyreg_jax.solvers.results import solution_on_device, solution_on_host
from copyreg_jax.solvers.solution import History, Solution, Status
from copyreg_jax.solvers.steps import (
    CHUNK,
    Kit,
    initial_state,
    initial_state_jit,
    next_state,
    precompute,
)

__all__ = ["Callback", "Progress", "check_arguments", "solve", "solve_on_host"]

_LARGE_CHUNK = 100

_SMALL_ENTRIES = 1 << 20
"""Entries of A up to which a thousand steps take no longer than one should wait for ctrl-C."""


class Progress(NamedTuple):
    """The numbers that a callback receives."""

    step: int
    value: float
    gradient_norm: float


Callback: TypeAlias = Callable[[Progress], bool | None]


def solve(
    problem: SoftmaxRegression,
    solver: Solver | None = None,
    x0: ArrayLike | None = None,
    *,
    rtol: float | None = None,
    max_steps: int | None = None,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
) -> Solution:
    """Minimize L.

    Stops where the gradient is at most rtol times the size of its own terms, the Newton decrement
    says that L is above its minimum by at most ``rtol L``, and no negative curvature is found: a
    rule that depends on neither the start nor the unit of A (docs/theory/stopping.md). Never raises
    for not converging: ``solution.status`` says why it stopped, ``solution.raise_for_status()``
    raises.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
        Its arrays decide dtype and device.
    solver : Solver, optional
        `NewtonCG` if not given; for problems with at most 32 columns under ``jax.jit`` or
        ``jax.vmap``, `TrustRegionNewton`.
    x0 : (d,) array, optional
        Start. If not given: zero if L is seen to be convex there; else the lowest of zero and of a
        few points that raise or lower the protected logits, since zero may sit on the barrier
        ell_1 = 0.
    rtol : float, optional
        1e-10 in float64, 1e-4 in float32.
    max_steps : int, optional
        The solver's ``default_max_steps`` if not given.
    callback : callable, optional
        Called with a `Progress` every ``solver.steps_per_call`` steps and at the end; returning
        True stops the run with status INTERRUPTED. Not called under ``jax.jit`` or ``jax.vmap``.
    checkpoint : path, optional
        File that the run is written to every ten seconds or so, at an interrupt and at its end. If
        it is there already, the run goes on from it, to the same x bit for bit on the same machine.
        Another problem, solver or rtol is refused; of an optax transformation only the name is
        known.

    Returns
    -------
    Solution

    Raises
    ------
    InputError
        A solver or problem of the wrong type; a solver that needs what A can't give; x0 of the
        wrong shape or not finite; rtol or max_steps not positive; a callback or checkpoint while
        traced; a checkpoint of another run, or with A sharded over processes.
    PrecisionError
        rtol below what the dtype can reach.

    Notes
    -----
    An A on disk is read by the host, and only what is done between two readings is compiled; the
    callback then is called after every step.

    Outside of transformations the loop runs on the host around one compiled program, and the result
    is evaluated again on the host with NumPy. Inside ``jax.jit`` and ``jax.vmap`` this is a pure
    function: one ``while_loop``, statuses as arrays, nothing is raised for values. Problems of the
    same shapes share the compiled program.

    ``jax.grad`` and ``jax.jvp`` go through it: x and the losses have the derivatives of the
    minimizer with respect to the problem's arrays, of every order, ``dx = -H^-1 d(gradient)`` with
    the Hessian H, O(n d^2 + d^3). They are those of the exact minimizer as far as x is one. Where
    columns of A depend on each other, x does not move along the directions that A does not see,
    and derivatives with respect to A itself are NaN if its rank is below min(n, d): a change of A
    may raise it, and the minimizer jumps.

    A candidate is looked at once more where its curvature is not seen to be positive: up to 512
    columns through its Hessian, O(n d^2 + d^3), beyond by some 40 products with A.
    ``solution.second_order`` says which it was.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.5, 0.3, 0.2], protected=1)
    >>> solution = cr.solve(problem)
    >>> solution.status.name, solution.num_steps < 20
    ('CONVERGED', True)
    """
    if callback is not None and not callable(callback):
        raise InputError(f"callback is {callback!r:.60}; give a function of one Progress")
    solver, start, rtol, max_steps = check_arguments(problem, solver, x0, rtol, max_steps)
    if is_traced() or not is_concrete((problem, start, rtol)):
        if callback is not None:
            raise InputError("callback can't be called under jit or vmap; leave it out there")
        if checkpoint is not None:
            raise InputError("checkpoint can't be written under jit or vmap; leave it out there")
        return _solve_traced(problem, start, rtol, max_steps, solver)

    if checkpoint is not None and not is_here(problem.A):
        raise InputError(
            "A is sharded over processes, where no checkpoint is written; leave it out"
        )
    return solve_on_host(problem, start, rtol, max_steps, solver, callback, checkpoint)


def check_arguments(
    problem: SoftmaxRegression,
    solver: Solver | None,
    x0: ArrayLike | None,
    rtol: float | None,
    max_steps: int | None,
) -> tuple[Solver, Point | None, float, int]:
    """The solver, the start, rtol and max_steps of a run; `InputError` for impossible ones."""
    if not isinstance(problem, SoftmaxRegression):
        raise InputError(f"problem is a {type(problem).__name__}; give a CopyrightRegression")
    if len(problem.A.shape) != 2:
        raise InputError("problem is a batch of problems; solve it by copyreg_jax.solve_many")
    solver, rtol, max_steps = check_settings(problem, solver, rtol, max_steps)
    start = None if x0 is None else problem.point(x0, "x0")
    if start is not None:
        check_start(start)
    return solver, start, rtol, max_steps


def solve_on_host(
    problem: SoftmaxRegression,
    x0: Point | None,
    rtol: float,
    max_steps: int,
    solver: Solver,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
    kit: Kit | None = None,
) -> Solution:
    """Run the loop on the host, around compiled steps.

    The kit is what `precompute` made of a problem with the same A, w and protected rows; it is made
    if not given.
    """
    host = on_host(problem.A)
    # Without anybody to look at the steps there is no need to come back after each.
    watched = callback is not None or checkpoint is not None
    small = problem.n * problem.d <= _SMALL_ENTRIES
    limit = solver.steps_per_call if watched else CHUNK if small else _LARGE_CHUNK
    limit = 1 if host else limit
    kit = precompute(problem, solver) if kit is None else kit
    state = (initial_state if host else initial_state_jit)(problem, kit, x0, rtol, solver)
    rechecks = Rechecks(problem, kit.row_norms)
    history: list[tuple[np.ndarray, np.ndarray]] = []
    file = None
    if checkpoint is not None:
        file = Checkpoint(checkpoint, problem, solver, rtol, x0)
        found = file.load(state)
        if found is not None:
            state, history = found[0], [found[1:]]
            limited = Status(number(state.status)) in (Status.MAX_STEPS, Status.INTERRUPTED)
            spent = number(state.num_steps) >= max_steps
            if limited and not spent:
                state = state._replace(status=jnp.asarray(Status.RUNNING, jnp.int32))
            elif spent and number(state.status) == Status.RUNNING:
                state = state._replace(status=jnp.asarray(Status.MAX_STEPS, jnp.int32))
            precomputed, state = solver.refine(problem, kit.precomputed, state)
            kit = kit._replace(precomputed=precomputed)
    try:
        while True:
            new, trace, verdict = (run if host else run_jit)(
                problem, kit, state, limit, max_steps, rtol, solver
            )
            num_steps = jax.device_get(trace.num_steps)  # waits for the run
            columns = np.asarray(trace.value), np.asarray(trace.norm)
            # The state before the first step is on record, unless this is that.
            value, norm = (column[bool(history) : num_steps + 1] for column in columns)
            history.append((value, norm))  # before the state: a file may have more of it, not less
            kit, state = examined(rechecks, kit, new, verdict, rtol, max_steps, solver)
            if callback is not None and num_steps > 0:
                stop = callback(
                    Progress(number(state.num_steps), value[-1].item(), norm[-1].item())
                )
                if stop and number(state.status) == Status.RUNNING:
                    state = state._replace(status=jnp.asarray(Status.INTERRUPTED, jnp.int32))
            if number(state.status) != Status.RUNNING:
                break
            if file is not None:
                file.save_if_due(state, history)
    finally:
        if file is not None and history:
            file.save(state, history)
    jax.block_until_ready(state.x)
    values, norms = (np.concatenate(column) for column in zip(*history, strict=True))
    return solution_on_host(rechecks, kit, state, rtol, solver, History(values, norms))


@functools.partial(jax.jit, static_argnames="solver")
def _solve_traced(
    problem: SoftmaxRegression, x0: Point | None, rtol: float, max_steps: int, solver: Solver
) -> Solution:
    """Make the whole run as one program."""
    fixed = jax.lax.stop_gradient(problem)  # the loop itself is not differentiated
    kit = precompute(fixed, solver)
    state = initial_state(fixed, kit, jax.lax.stop_gradient(x0), rtol, solver)

    def running(state: State) -> Bool[Array, ""]:
        return state.status == Status.RUNNING

    # Looks come after the loop, not in it: under vmap both branches of a condition are run.
    def attempt(carry: tuple[State, Any]) -> tuple[State, Any]:
        state = jax.lax.while_loop(
            running, lambda state: next_state(fixed, kit, state, max_steps, solver), carry[0]
        )
        state = examined_traced(fixed, kit, state, rtol, max_steps, solver)
        return state, running(state)

    state, _ = jax.lax.while_loop(lambda carry: carry[1], attempt, (state, jnp.ones((), bool)))
    return solution_on_device(problem, kit, state)
