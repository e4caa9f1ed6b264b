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
from jaxtyping import Array, Bool, Float, Int

from copyreg_jax import curvature, objective
from copyreg_jax.errors import InputError, PrecisionError
from copyreg_jax.matrices import (
    absent_rows,
    fetch,
    is_here,
    on_host,
    row_norms,
    without_rows,
)
from copyreg_jax.objective import Mask, Metric, Reading
from copyreg_jax.problem import (
    ENABLE_X64,
    Point,
    SoftmaxRegression,
    check_start,
    is_concrete,
    is_traced,
)
from copyreg_jax.solution import History, SecondOrder, Solution, Status
from copyreg_jax.solvers.checkpoint import Checkpoint
from copyreg_jax.solvers.flow import cond
from copyreg_jax.solvers.implicit import minimizer
from copyreg_jax.solvers.newton_cg import Arrays, NewtonCG
from copyreg_jax.solvers.optimality import (
    DEFAULT_RTOL,
    MAX_EXACT_COLUMNS,
    Look,
    allowed_excess,
    exact_look,
    gradient_size,
    length,
    sampled_look,
    unknown,
)
from copyreg_jax.solvers.recheck import evaluate, second_order
from copyreg_jax.solvers.state import Counts, Solver, State
from copyreg_jax.solvers.trust_region import TrustRegionNewton

__all__ = ["Progress", "Solver", "solve"]

_SMALLEST_RTOL_IN_EPS = 16
_AIM = 0.5
"""Part of a tolerance that solvers aim at, lest the host's own evaluation miss it by rounding."""
_CHUNK = 1000
"""Most steps of one call of the compiled loop; large problems are interruptible more often."""
_LARGE_CHUNK = 100
_SMALL_ENTRIES = 1 << 20
"""Entries of A up to which a thousand steps take no longer than one should wait for ctrl-C."""
SMALL_COLUMNS = 32
"""Columns up to which a batch is better off with exact Hessians."""
_START_SHIFTS = (0, -1, 1, -2, 2, -4, 4, -8, 8, -16, 16)


class Progress(NamedTuple):
    """What a callback is told."""

    step: int
    value: float
    gradient_norm: float


class Trace(NamedTuple):
    """Values and gradient norms of the last states, ``length`` of them."""

    length: Int[Array, ""]
    value: Float[Array, " most"]
    norm: Float[Array, " most"]


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
        Start. If not given: the lowest of zero and of a few points that raise or lower the
        protected logits, since zero may sit on the barrier ell_1 = 0.
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
        A solver or problem that is none; x0 of the wrong shape or not finite; rtol or max_steps not
        positive; a callback or checkpoint while traced; a checkpoint of another run, or with A
        sharded over processes.
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
    if not isinstance(problem, SoftmaxRegression):
        raise InputError(f"problem is a {type(problem).__name__}; give a CopyrightRegression")
    if len(problem.A.shape) != 2:
        raise InputError("problem is a batch of problems; solve it by copyreg_jax.solve_many")
    solver, rtol, max_steps = check_settings(problem, solver, rtol, max_steps)
    if callback is not None and not callable(callback):
        raise InputError(f"callback is {callback!r:.60}; give a function of one Progress")
    start = None if x0 is None else problem.point(x0, "x0")
    if start is not None:
        check_start(start)

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
    return _solve_on_host(problem, start, rtol, max_steps, solver, callback, checkpoint)


def _solve_on_host(
    problem: SoftmaxRegression,
    x0: Point | None,
    rtol: float,
    max_steps: int,
    solver: Solver,
    callback: Callback | None,
    checkpoint: str | Path | None,
) -> Solution:
    host = on_host(problem.A)
    # Without anybody to look at the steps there is no need to come back after each.
    watched = callback is not None or checkpoint is not None
    small = problem.n * problem.d <= _SMALL_ENTRIES
    limit = solver.steps_per_call if watched else _CHUNK if small else _LARGE_CHUNK
    advance = _advance_on_host if host else _advance_jit
    kit = prepare(problem, solver)
    begin = _start if host else _start_jit
    state = begin(problem, kit, x0, rtol, solver)
    trace = [_arrays(_one(state))]
    file = None
    if checkpoint is not None:
        file = Checkpoint(checkpoint, problem, solver, rtol, x0)
        found = file.load(state)
        if found is not None:
            state, trace = found[0], [found[1:]]
            limited = Status(int(state.status)) in (Status.MAX_STEPS, Status.INTERRUPTED)
            if limited and int(state.num_steps) < max_steps:
                state = state._replace(status=jnp.asarray(Status.RUNNING, jnp.int32))
    kit, state = _examined(problem, kit, state, rtol, max_steps, solver)
    try:
        while int(state.status) == Status.RUNNING:
            new, steps = advance(problem, kit, state, limit, max_steps, solver)
            trace.append(_arrays(steps))
            kit, state = _examined(problem, kit, new, rtol, max_steps, solver)
            value, norm = (column[-1].item() for column in trace[-1])
            stop = callback is not None and callback(Progress(int(state.num_steps), value, norm))
            if stop and int(state.status) == Status.RUNNING:
                state = state._replace(status=jnp.asarray(Status.INTERRUPTED, jnp.int32))
            if file is not None:
                file.save_if_due(state, trace)
    finally:
        if file is not None:
            file.save(state, trace)
    jax.block_until_ready(state.x)
    values, norms = (np.concatenate(column) for column in zip(*trace, strict=True))
    return _solution_on_host(problem, kit, state, rtol, solver, History(values, norms))


def _arrays(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """The values and norms."""
    length = int(trace.length)
    return np.asarray(trace.value)[:length], np.asarray(trace.norm)[:length]


class Kit(NamedTuple):
    """What a run needs of A and w alone: the solver's tools, and the norms of the rows."""

    tools: Any
    row_norms: Float[Array, " n"]


def prepare(problem: SoftmaxRegression, solver: Solver) -> Kit:
    """The kit of a run."""
    return Kit(solver.prepare(problem), row_norms(problem.A))


def _examined(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: float, max_steps: int, solver: Solver
) -> tuple[Kit, State]:
    """Second thoughts about where the solver has come to, and what it is to do."""
    tools, state = solver.refine(problem, kit.tools, state)
    kit = kit._replace(tools=tools)
    if int(state.status) in (Status.CONVERGED, Status.STALLED):
        state = _judged(problem, kit, state, rtol, solver)
    if int(state.status) == Status.RUNNING and int(state.num_steps) >= max_steps:
        state = state._replace(status=jnp.asarray(Status.MAX_STEPS, jnp.int32))
    return kit, state


def _judged(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: float, solver: Solver
) -> State:
    """The state after a first look, and a deeper one if that is due."""
    host = on_host(problem.A)
    first = first_look if host else first_look_jit
    state, judged, flat, due = first(problem, kit, state, rtol, solver)
    # In float32 a gradient may be all rounding, and so a decrement: float64 looks again.
    if bool(due) or (problem.dtype == np.float32 and bool(flat)):
        look = _deep_look(problem, kit, state, rtol, solver)
        judge = judged_by if host else judged_by_jit
        judged, _, _ = judge(problem, kit, state, look, rtol, solver)
    return judged


def _deep_look(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: float, solver: Solver
) -> Look:
    """The second order at the iterate, in float64 wherever d allows."""
    host = on_host(problem.A)
    if problem.d > MAX_EXACT_COLUMNS:
        sampled = sampled_look if host else _sampled_look_jit
        basis = solver.basis(problem, kit.tools)
        return sampled(problem, kit.row_norms, basis, state.x, state.gradient, rtol)
    if problem.dtype == np.float32 and is_here(problem.A):
        found = second_order(problem, np.asarray(state.x), rtol)
        return Look(
            jnp.asarray(found.decrement, problem.dtype),
            jnp.asarray(found.second_order, jnp.int32),
            jnp.asarray(found.direction, problem.dtype),
        )
    exact = exact_look if host else _exact_look_jit
    return exact(problem, state.x, state.gradient, rtol)


def deep_look_traced(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: Any, solver: Solver
) -> Look:
    """The same within a compiled program, in the arithmetic of the problem."""
    if problem.d > MAX_EXACT_COLUMNS:
        basis = solver.basis(problem, kit.tools)
        return sampled_look(problem, kit.row_norms, basis, state.x, state.gradient, rtol)
    return exact_look(problem, state.x, state.gradient, rtol)


def first_look(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: Any, solver: Solver
) -> tuple[State, State, Bool[Array, ""], Bool[Array, ""]]:
    """The state as x makes it, and the verdict on it from what the solver knows of it.

    Also whether the gradient meets the rule, and whether a deeper look is due.
    """
    state = solver.renewed(problem, kit.tools, state)
    look = solver.look(problem, kit.tools, state)
    judged, flat, low = judged_by(problem, kit, state, look, rtol, solver)
    return state, judged, flat, flat & ~(low & (look.second_order != SecondOrder.UNKNOWN))


def judged_by(
    problem: SoftmaxRegression, kit: Kit, state: State, look: Look, rtol: Any, solver: Solver
) -> tuple[State, Bool[Array, ""], Bool[Array, ""]]:
    """The state with the status that the look gives it, RUNNING again if it is no minimizer.

    Also whether the gradient and the decrement meet the rule. A state that is to run on has a
    tolerance below its gradient, or a way to leave by, so that none comes twice: a saddle point is
    left only if L is lower than at the one left before.
    """
    u, norm = solver.logits(problem, state), length(state.gradient)
    spent = state.status == Status.MAX_STEPS
    stalled = (state.status == Status.STALLED) | spent
    aim = jnp.where(stalled, 1, _AIM)  # with room to spare, as long as there is a way to it
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
    ratio = jnp.sqrt(_AIM * most) / jnp.where(look.decrement > 0, look.decrement, 1)
    ratio = jnp.where(jnp.isfinite(look.decrement), jnp.minimum(ratio, 0.5), 0.1)
    nearer = jnp.where(flat, ratio * norm, jnp.minimum(_AIM * rtol * size, 0.99 * norm))
    new = state._replace(
        status=status,
        look=look,
        tolerance=jnp.where(status == Status.RUNNING, nearer, state.tolerance),
        left=jnp.where(leaving, state.value, state.left),
    )
    new = cond(
        on_host(problem.A),
        leaving,
        lambda: solver.leave(problem, kit.tools, new, look.direction),
        lambda: new,
    )
    return new, flat, low


def check_settings(
    problem: SoftmaxRegression, solver: Solver | None, rtol: float | None, max_steps: int | None
) -> tuple[Solver, float, int]:
    """The settings with their defaults filled in; `InputError` for impossible ones."""
    if solver is None:
        traced = is_traced() or not is_concrete(problem)
        small = problem.A.shape[-1] <= SMALL_COLUMNS
        solver = TrustRegionNewton() if traced and small else NewtonCG()
    if isinstance(solver, type) or not hasattr(solver, "step"):
        raise InputError(
            f"solver is {solver!r:.60}; give an instance such as NewtonCG(), and wrap an "
            "optax transformation as Optax(transformation)"
        )
    rtol = _tolerance(problem.dtype, rtol)
    max_steps = solver.default_max_steps if max_steps is None else max_steps
    counts = isinstance(max_steps, int | np.integer) and not isinstance(max_steps, bool)
    if not (counts and 1 <= max_steps < 2**31):
        raise InputError(f"max_steps is {max_steps!r}; give an integer >= 1 and below 2^31")
    return solver, rtol, max_steps


def _tolerance(dtype: np.dtype, rtol: float | None) -> float:
    if rtol is None:
        return DEFAULT_RTOL[dtype]
    if not is_concrete(rtol):
        return rtol
    number = np.asarray(rtol)
    if number.shape != () or number.dtype.kind not in "fiu" or not 0 < number < np.inf:
        raise InputError(f"rtol is {rtol!r}; give a finite number > 0")
    smallest = _SMALLEST_RTOL_IN_EPS * float(np.finfo(dtype).eps)
    if rtol < smallest:
        remedy = f"; put {ENABLE_X64} before the first use of JAX and pass float64 data"
        raise PrecisionError(
            f"rtol = {rtol:g} can't be reached in {dtype}, where the smallest is {smallest:.1e}"
            + (remedy if dtype == np.float32 else "")
        )
    return float(rtol)


def default_start(problem: SoftmaxRegression) -> Point:
    """Lowest point among zero and shifts of the protected logits, up or down, by 1, 2, 4, 8, 16.

    Zero often sits on the barrier ell_1 = 0 (equal targets, say), and L has a basin on either side.
    """
    share = jnp.sum(problem.protected.astype(problem.dtype)) / problem.n
    direction = (problem.protected.astype(problem.dtype) - share) @ problem.A
    u = problem.A @ direction
    reach = jnp.max(jnp.abs(u))
    lengths = jnp.asarray(_START_SHIFTS, problem.dtype) / jnp.where(reach > 0, reach, 1)
    terms, absent = problem.terms, absent_rows(problem.A)
    return _lowest(u, lengths, absent, terms[:4], *terms[4:]) * direction


@functools.partial(jax.jit, static_argnums=(4, 5))
def _lowest(
    u: Array, lengths: Array, absent: Mask | None, terms: Arrays, reading: Reading, metric: Metric
) -> Array:
    """The length for which L is lowest at the logits ``length * u``; one after the other."""

    def value(length: Array) -> Array:
        return objective.value(without_rows(length * u, absent), *terms, reading, metric)

    values = jax.lax.map(value, lengths)
    return lengths[jnp.argmin(jnp.where(jnp.isnan(values), jnp.inf, values))]


def _start(
    problem: SoftmaxRegression, kit: Kit, x0: Point | None, rtol: float, solver: Solver
) -> State:
    """The state at the start."""
    x = default_start(problem) if x0 is None else x0
    u = problem.logits(x)
    value, slope = _value_and_slope(u, *problem.terms)
    gradient = slope @ problem.A
    zero = jnp.zeros((), jnp.int32)
    counts = Counts(zero, zero, zero, zero).add(
        values=1 if x0 is not None else 1 + len(_START_SHIFTS), gradients=1
    )
    tolerance = _AIM * rtol * gradient_size(problem, u, kit.row_norms)
    left = jnp.full_like(value, jnp.inf)
    state = State(x, value, gradient, zero, tolerance, unknown(x), left, zero, counts, None)
    state = solver.init(problem, kit.tools, state)
    finite = jnp.isfinite(state.value) & jnp.isfinite(length(gradient))
    status = jnp.where(solver.done(state), Status.CONVERGED, Status.RUNNING)
    status = jnp.where(finite, status, Status.NONFINITE)
    return state._replace(status=status.astype(jnp.int32))


def _step(
    problem: SoftmaxRegression, kit: Kit, state: State, max_steps: int, solver: Solver
) -> State:
    """One step of the solver, and the verdict on it."""
    new = solver.step(problem, kit.tools, state)
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


def _advance(
    problem: SoftmaxRegression, kit: Kit, state: State, limit: int, max_steps: int, solver: Solver
) -> tuple[State, Trace]:
    """Up to ``limit`` steps, at most `_CHUNK`; value and gradient norm after each.

    One program makes all steps of a run, so that one that is resumed rounds as the whole does.
    """

    def body(carry: tuple[State, Trace]) -> tuple[State, Trace]:
        state, (place, value, norm) = carry
        state = _step(problem, kit, state, max_steps, solver)
        _, new_value, new_norm = _one(state)
        return state, Trace(
            place + 1, value.at[place].set(new_value[0]), norm.at[place].set(new_norm[0])
        )

    def going(carry: tuple[State, Trace]) -> Bool[Array, ""]:
        state, trace = carry
        return (state.status == Status.RUNNING) & (trace.length < limit)

    blank = jnp.zeros(_CHUNK, state.value.dtype)
    trace = Trace(jnp.zeros((), jnp.int32), blank, blank)
    return jax.lax.while_loop(going, body, (state, trace))


def _one(state: State) -> Trace:
    norm = length(state.gradient)
    return Trace(jnp.ones((), jnp.int32), state.value[None], norm[None])


def _advance_on_host(
    problem: SoftmaxRegression, kit: Kit, state: State, limit: int, max_steps: int, solver: Solver
) -> tuple[State, Trace]:
    """One step, not compiled as a whole: it reads A on the way."""
    state = _step(problem, kit, state, max_steps, solver)
    return state, _one(state)


_start_jit = jax.jit(_start, static_argnames="solver")
_advance_jit = jax.jit(_advance, static_argnames="solver")
first_look_jit = jax.jit(first_look, static_argnames="solver")
judged_by_jit = jax.jit(judged_by, static_argnames="solver")
_exact_look_jit = jax.jit(exact_look)
_sampled_look_jit = jax.jit(sampled_look)
_value_and_slope = jax.jit(curvature.value_and_gradient, static_argnums=(5, 6))


@functools.partial(jax.jit, static_argnames="solver")
def _solve_traced(
    problem: SoftmaxRegression, x0: Point | None, rtol: float, max_steps: int, solver: Solver
) -> Solution:
    """The whole run as one program."""
    fixed = jax.lax.stop_gradient(problem)  # the loop itself is not differentiated
    kit = prepare(fixed, solver)
    state = _start(fixed, kit, jax.lax.stop_gradient(x0), rtol, solver)

    def running(state: State) -> Bool[Array, ""]:
        return state.status == Status.RUNNING

    # Looks come after the loop, not in it: under vmap both branches of a condition are run.
    def attempt(carry: tuple[State, Any]) -> tuple[State, Any]:
        state = jax.lax.while_loop(
            running, lambda state: _step(fixed, kit, state, max_steps, solver), carry[0]
        )
        state = examined_traced(fixed, kit, state, rtol, max_steps, solver)
        return state, running(state)

    state, _ = jax.lax.while_loop(lambda carry: carry[1], attempt, (state, jnp.ones((), bool)))
    return solution_on_device(problem, kit, state)


def examined_traced(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: Any, max_steps: int, solver: Solver
) -> State:
    """Second thoughts within a compiled program: no solver gets better tools there."""

    def second() -> State:
        fresh, judged, _, due = first_look(problem, kit, state, rtol, solver)

        def deeper() -> State:
            look = deep_look_traced(problem, kit, fresh, rtol, solver)
            return judged_by(problem, kit, fresh, look, rtol, solver)[0]

        return jax.lax.cond(due, deeper, lambda: judged)

    ended = (state.status != Status.RUNNING) & (state.status != Status.NONFINITE)
    state = jax.lax.cond(ended, second, lambda: state)
    spent = (state.status == Status.RUNNING) & (state.num_steps >= max_steps)
    status = jnp.where(spent, Status.MAX_STEPS, state.status).astype(jnp.int32)
    return state._replace(status=status)


def solution_on_device(problem: SoftmaxRegression, kit: Kit, state: State) -> Solution:
    """The solution as arrays, with the derivatives of the minimizer."""
    state = state._replace(x=minimizer(problem, state.x))
    u = problem.logits(state.x)
    b, protected, gamma, w, reading, metric = problem.terms
    return _solution(
        state,
        status=state.status,
        value=objective.value(u, b, protected, gamma, w, reading, metric),
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


def _solution_on_host(
    problem: SoftmaxRegression, kit: Kit, state: State, rtol: float, solver: Solver,
    history: History,
) -> Solution:  # fmt: skip
    """The solution, its numbers computed anew, its status judged by them."""
    again = evaluate(problem, np.asarray(state.x), np.asarray(fetch(problem.A, kit.row_norms)))
    flat = again.gradient_norm <= rtol * again.gradient_size
    # Tolerances are those of the start: a run may have come to a solution and not know.
    if int(state.status) == Status.MAX_STEPS and flat:
        state = _judged(problem, kit, state, rtol, solver)
    status = Status(int(state.status))
    if not (np.isfinite(again.value) and np.isfinite(again.gradient_norm)):
        status = Status.NONFINITE
    elif status is Status.CONVERGED and not flat:
        status = Status.STALLED
    host = jax.tree_util.tree_map(int, (state.num_steps, state.counts))
    return _solution(
        state._replace(num_steps=host[0], counts=host[1]),
        status=status,
        decrement=float(state.look.decrement),
        second_order=SecondOrder(int(state.look.second_order)),
        history=history,
        **again._asdict(),
    )


def _solution(state: State, **fields: Any) -> Solution:
    counts = {f"num_{name}": count for name, count in state.counts._asdict().items()}
    return Solution(x=state.x, num_steps=state.num_steps, **counts, **fields)
