"""The only loop: counts steps, checks finiteness, records history, judges the status."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from copyreg_jax import objective
from copyreg_jax.errors import InputError, PrecisionError
from copyreg_jax.problem import ENABLE_X64, Point, SoftmaxRegression, check_start, is_concrete
from copyreg_jax.solution import History, Solution, Status
from copyreg_jax.solvers.recheck import evaluate
from copyreg_jax.solvers.state import Counts, Solver, State
from copyreg_jax.solvers.trust_region import TrustRegionNewton

__all__ = ["Progress", "Solver", "solve"]

DEFAULT_RTOL = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}
_SMALLEST_RTOL_IN_EPS = 16
_AIM = 0.5
_START_SHIFTS = (0, -1, 1, -2, 2, -4, 4, -8, 8, -16, 16)


class Progress(NamedTuple):
    """What a callback is told."""

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
) -> Solution:
    """Minimize L.

    Stops when ``|gradient| <= rtol * (1 + |gradient at x0|)``. Never raises for not converging:
    ``solution.status`` says why it stopped, ``solution.raise_for_status()`` raises.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
        Its arrays decide dtype and device.
    solver : Solver, optional
        `TrustRegionNewton` if not given.
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

    Returns
    -------
    Solution

    Raises
    ------
    InputError
        A solver or problem that is none; x0 of the wrong shape or not finite; rtol or max_steps not
        positive; a callback while traced.
    PrecisionError
        rtol below what the dtype can reach.

    Notes
    -----
    Outside of transformations the loop runs on the host around one compiled program, and the result
    is evaluated again on the host with NumPy. Inside ``jax.jit`` and ``jax.vmap`` this is a pure
    function: one ``while_loop``, statuses as arrays, nothing is raised for values. Problems of the
    same shapes share the compiled program. Reverse-mode differentiation through it is not possible,
    as JAX can't reverse a ``while_loop``.

    The 1 in the stopping rule has the unit of the gradient: where A is as small as 1e-10, so are
    gradients, and the start may pass for a solution. Rescale A then.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.5, 0.3, 0.2], protected=1)
    >>> solution = cr.solve(problem)
    >>> solution.status.name, solution.num_steps < 20
    ('CONVERGED', True)
    """
    solver = TrustRegionNewton() if solver is None else solver
    if not isinstance(problem, SoftmaxRegression):
        raise InputError(f"problem is a {type(problem).__name__}; give a CopyrightRegression")
    if len(problem.A.shape) != 2:
        raise InputError("problem is a batch of problems; solve it by jax.vmap(copyreg_jax.solve)")
    if isinstance(solver, type) or not hasattr(solver, "step"):
        raise InputError(
            f"solver is {solver!r:.60}; give an instance such as TrustRegionNewton(), and wrap an "
            "optax transformation as Optax(transformation)"
        )
    rtol = _tolerance(problem.dtype, rtol)
    max_steps = solver.default_max_steps if max_steps is None else max_steps
    counts = isinstance(max_steps, int | np.integer) and not isinstance(max_steps, bool)
    if not (counts and 1 <= max_steps < 2**31):
        raise InputError(f"max_steps is {max_steps!r}; give an integer >= 1 and below 2^31")
    if callback is not None and not callable(callback):
        raise InputError(f"callback is {callback!r:.60}; give a function of one Progress")
    start = None if x0 is None else problem.point(x0, "x0")
    if start is not None:
        check_start(start)

    # A constant made inside of a trace is traced, even if all of the problem is concrete.
    if not is_concrete((problem, start, rtol, jnp.zeros(()) + 0)):
        if callback is not None:
            raise InputError("callback can't be called under jit or vmap; leave it out there")
        return _solve_traced(problem, start, rtol, max_steps, solver)

    tools = solver.prepare(problem)
    state = _start_jit(problem, tools, start, rtol, solver)
    values = [np.asarray(state.value)[None]]
    norms = [np.asarray(jnp.linalg.norm(state.gradient))[None]]
    while int(state.status) == Status.RUNNING:
        state, (ran, value, norm) = _advance_jit(problem, tools, state, max_steps, solver)
        ran = np.asarray(ran)
        values.append(np.asarray(value)[ran])
        norms.append(np.asarray(norm)[ran])
        now = Progress(int(state.num_steps), float(values[-1][-1]), float(norms[-1][-1]))
        stop = callback is not None and callback(now)
        if stop and int(state.status) == Status.RUNNING:
            state = state._replace(status=jnp.asarray(Status.INTERRUPTED, jnp.int32))
    jax.block_until_ready(state)
    return _solution_on_host(problem, state, History(np.concatenate(values), np.concatenate(norms)))


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


def _default_start(problem: SoftmaxRegression) -> Point:
    """Lowest point among zero and shifts of the protected logits, up or down, by 1, 2, 4, 8, 16.

    Zero often sits on the barrier ell_1 = 0 (equal targets, say), and L has a basin on either side.
    """
    share = jnp.mean(problem.protected.astype(problem.dtype))
    direction = (problem.protected - share) @ problem.A
    u = problem.A @ direction
    reach = jnp.max(jnp.abs(u))
    lengths = jnp.asarray(_START_SHIFTS, problem.dtype) / jnp.where(reach > 0, reach, 1)
    values = jax.vmap(lambda length: objective.value(length * u, *problem.terms))(lengths)
    best = jnp.argmin(jnp.where(jnp.isnan(values), jnp.inf, values))
    return lengths[best] * direction


def _start(
    problem: SoftmaxRegression, tools: Any, x0: Point | None, rtol: float, solver: Solver
) -> State:
    """The state at the start."""
    x = _default_start(problem) if x0 is None else x0
    value, gradient = problem.value_and_gradient(x)
    zero = jnp.zeros((), jnp.int32)
    counts = Counts(zero, zero, zero, zero).add(
        values=1 if x0 is not None else 1 + len(_START_SHIFTS), gradients=1
    )
    # Solvers aim below the tolerance, lest the host's own evaluation miss it by rounding.
    tolerance = _AIM * rtol * (1 + jnp.linalg.norm(gradient))
    state = solver.init(
        problem, tools, State(x, value, gradient, zero, tolerance, zero, counts, None)
    )
    finite = jnp.isfinite(state.value) & jnp.isfinite(tolerance)
    status = jnp.where(solver.done(state), Status.CONVERGED, Status.RUNNING)
    status = jnp.where(finite, status, Status.NONFINITE)
    return state._replace(status=status.astype(jnp.int32))


def _step(
    problem: SoftmaxRegression, tools: Any, state: State, max_steps: int, solver: Solver
) -> State:
    """One step of the solver, and the verdict on it."""
    new = solver.step(problem, tools, state)
    finite = (
        jnp.isfinite(new.value)
        & jnp.all(jnp.isfinite(new.x))
        & jnp.isfinite(jnp.linalg.norm(new.gradient))
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
    kept = jax.tree_util.tree_map(lambda a, b: jnp.where(finite, a, b), new, state)
    return kept._replace(status=status.astype(jnp.int32), num_steps=num_steps, counts=new.counts)


def _advance(
    problem: SoftmaxRegression, tools: Any, state: State, max_steps: int, solver: Solver
) -> tuple[State, tuple[Array, Array, Array]]:
    """Up to ``solver.steps_per_call`` steps, and per step: did it run, value, gradient norm."""

    def one(state: State, _: None) -> tuple[State, tuple[Array, Array, Array]]:
        ran = state.status == Status.RUNNING
        state = jax.lax.cond(
            ran, lambda s: _step(problem, tools, s, max_steps, solver), lambda s: s, state
        )
        return state, (ran, state.value, jnp.linalg.norm(state.gradient))

    return jax.lax.scan(one, state, length=solver.steps_per_call)


_start_jit = jax.jit(_start, static_argnames="solver")
_advance_jit = jax.jit(_advance, static_argnames="solver")


@functools.partial(jax.jit, static_argnames="solver")
def _solve_traced(
    problem: SoftmaxRegression, x0: Point | None, rtol: float, max_steps: int, solver: Solver
) -> Solution:
    """The whole run as one program."""
    tools = solver.prepare(problem)
    state = _start(problem, tools, x0, rtol, solver)
    state = jax.lax.while_loop(
        lambda s: s.status == Status.RUNNING,
        lambda s: _step(problem, tools, s, max_steps, solver),
        state,
    )
    u = problem.A @ state.x
    norm = jnp.linalg.norm(state.gradient)
    converged = (state.status == Status.STALLED) & (norm <= state.tolerance / _AIM)
    b, protected, _, _, reading, metric = problem.terms
    return _solution(
        state,
        status=jnp.where(converged, Status.CONVERGED, state.status).astype(jnp.int32),
        value=state.value,
        gradient_norm=norm,
        ell=objective.ell(u, b, metric),
        ell_1=objective.ell_1(u, b, protected, reading, metric),
        ell_2=objective.ell_2(u, b, protected, reading, metric),
        protected_mass=jnp.sum(jnp.where(protected, objective.f(u), 0)),
        target_mass=jnp.sum(jnp.where(protected, b, 0)),
    )


def _solution_on_host(problem: SoftmaxRegression, state: State, history: History) -> Solution:
    """The solution, its numbers computed anew, its status judged by them."""
    tolerance = float(state.tolerance) / _AIM
    again = evaluate(problem, np.asarray(state.x))
    status = Status(int(state.status))
    if not (np.isfinite(again.value) and np.isfinite(again.gradient_norm)):
        status = Status.NONFINITE
    elif status is Status.CONVERGED and not again.gradient_norm <= tolerance:
        status = Status.STALLED
    elif status is Status.STALLED and again.gradient_norm <= tolerance:
        status = Status.CONVERGED
    host = jax.tree_util.tree_map(int, (state.num_steps, state.counts))
    return _solution(
        state._replace(num_steps=host[0], counts=host[1]),
        status=status,
        history=history,
        **again._asdict(),
    )


def _solution(state: State, **fields: Any) -> Solution:
    counts = {f"num_{name}": count for name, count in state.counts._asdict().items()}
    return Solution(x=state.x, num_steps=state.num_steps, **counts, **fields)
