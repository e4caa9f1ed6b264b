"""Peers that are compiled by JAX: optax, jaxopt and optimistix."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from copyreg_jax.bench.oracle import (
    AIM,
    CALIBRATION,
    FIRST_ITERATIONS,
    MAX_ITERATIONS,
    START_NORM_COMPILED,
    Outcome,
    OutOfTimeError,
    Run,
    Task,
    Trace,
    elapsed,
)
from copyreg_jax.problems.objective import Point, Scalar
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["Compiled", "Loop", "jaxopt_lbfgs", "optax_lbfgs", "optimistix_bfgs", "optimistix_lbfgs"]


class Loop(NamedTuple):
    """Result of a peer whose loop is compiled as a whole."""

    x: Array
    norm: Array
    iterations: Array
    values: Array
    gradients: Array


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A peer whose whole loop is one program: ``loop(problem, scale, x0, aim, max_iterations)``.

    Such a loop can't look at a clock, so its limit is a number of iterations: as many as would
    take the time limit, at the speed of a run that took half of it.
    """

    name: str
    package: str
    loop: Callable[[SoftmaxRegression, Scalar, Array, Scalar, Scalar], Loop]
    max_d: int | None = None

    def prepare(self, task: Task) -> tuple[float, Run]:
        compiled = jax.jit(self.loop)

        def call(max_iterations: int) -> Loop:
            problem, scale = task.problem, task.scale(START_NORM_COMPILED)
            aim = AIM * task.tolerance * scale
            result = compiled(problem, scale, task.x0, aim, max_iterations)
            return jax.block_until_ready(result._replace(norm=result.norm / scale))

        most = FIRST_ITERATIONS
        (cold, _), (warm, done) = (elapsed(lambda: call(most)) for _ in range(2))
        compile_seconds = max(cold - warm, 0.0)
        while int(done.iterations) >= most and warm < CALIBRATION * task.limit:
            most = int(most * min(max(task.limit / warm, 2), 8))
            warm, done = elapsed(functools.partial(call, most))
        each = warm / max(int(done.iterations), 1)
        most = int(min(max(task.limit / each, most), MAX_ITERATIONS))
        return compile_seconds, lambda trace: self._run(call, task, most, trace)

    def _run(
        self, call: Callable[[int], Loop], task: Task, most: int, trace: Trace | None
    ) -> Outcome:
        if trace is not None:
            _retrace(call, AIM * task.tolerance, task.limit, most, trace)
        result = call(most)
        claim = bool(result.norm <= task.tolerance)
        if not claim and int(result.iterations) >= most:
            raise OutOfTimeError(np.asarray(result.x))
        counts = (int(n) for n in (result.iterations, result.values, result.gradients))
        message = "stopped at the tolerance" if claim else "stopped by itself"
        return Outcome(np.asarray(result.x), claim, message, *counts)


def _retrace(
    call: Callable[[int], Loop], aim: float, limit: float, most: int, trace: Trace
) -> None:
    """The gradient norm after 1, 2, 3, 4, 6, 9, ... iterations, each a run of its own."""
    iterations, spent = 1, 0.0
    while iterations < most and spent < limit:
        seconds, result = elapsed(functools.partial(call, iterations))
        spent += seconds
        trace.append((seconds, float(result.norm)))
        if result.norm <= aim:
            return
        iterations = max(iterations + 1, iterations * 3 // 2)


def _function(problem: SoftmaxRegression, scale: Scalar) -> Callable[[Point], Scalar]:
    """``scale L``, whose derivative is the closed form: JAX's own would transpose A."""

    @jax.custom_jvp
    def value(x: Point) -> Scalar:
        return scale * problem.value(x)

    @value.defjvp
    def _(primals: tuple[Point], tangents: tuple[Point]) -> tuple[Scalar, Scalar]:
        result, gradient = problem.value_and_gradient(primals[0])
        return scale * result, scale * jnp.sum(gradient * tangents[0])

    return value


def optax_lbfgs(
    problem: SoftmaxRegression,
    scale: Scalar,
    x0: Array,
    aim: Scalar,
    max_iterations: Scalar,
    pairs: int = 10,
) -> Loop:
    """The loop of optax's documentation, with this many pairs of memory."""
    function = _function(problem, scale)
    transformation = optax.lbfgs(memory_size=pairs)
    value_and_grad = optax.value_and_grad_from_state(function)

    def step(carry: tuple[Array, Any, Array, Array]) -> tuple[Array, Any, Array, Array]:
        x, state, iterations, trials = carry
        value, grad = value_and_grad(x, state=state)
        updates, state = transformation.update(
            grad, state, x, value=value, grad=grad, value_fn=function
        )
        trials = trials + optax.tree.get(state, "num_linesearch_steps")
        return optax.apply_updates(x, updates), state, iterations + 1, trials

    def goes_on(carry: tuple[Array, Any, Array, Array]) -> Array:
        _, state, iterations, _ = carry
        norm = optax.tree.norm(optax.tree.get(state, "grad"))
        return (iterations == 0) | ((iterations < max_iterations) & (norm > aim))

    start = (x0, transformation.init(x0), jnp.zeros((), int), jnp.ones((), int))
    x, state, iterations, trials = jax.lax.while_loop(goes_on, step, start)
    norm = optax.tree.norm(optax.tree.get(state, "grad"))
    return Loop(x, norm, iterations, trials, trials)


def jaxopt_lbfgs(
    problem: SoftmaxRegression, scale: Scalar, x0: Array, aim: Scalar, max_iterations: Scalar
) -> Loop:
    """``jaxopt.LBFGS`` with its zoom line search, run as one program."""
    import jaxopt

    def value_and_gradient(x: Array) -> tuple[Scalar, Array]:
        value, gradient = problem.value_and_gradient(x)
        return scale * value, scale * gradient

    solver: Any = jaxopt.LBFGS(
        fun=value_and_gradient, value_and_grad=True, history_size=10, implicit_diff=False
    )
    # Its own `run` does this, with a compilation for each number of iterations.
    x, state = jax.lax.while_loop(
        lambda at: (at[1].iter_num < max_iterations) & (at[1].error > aim),
        lambda at: tuple(solver.update(*at)),
        (x0, solver.init_state(x0)),
    )
    return Loop(x, state.error, state.iter_num, state.num_fun_eval, state.num_grad_eval)


def _optimistix(
    solver: Any,
    problem: SoftmaxRegression,
    scale: Scalar,
    x0: Array,
    aim: Scalar,
    max_iterations: Scalar,
) -> Loop:
    """The solver's ``init`` and ``step`` in a loop that ends at the gradient's norm."""
    function = _function(problem, scale)

    def with_arguments(x: Array, _: None) -> tuple[Scalar, None]:
        return function(x), None

    import equinox

    shape, tags = jax.ShapeDtypeStruct((), x0.dtype), frozenset[object]()
    state = solver.init(with_arguments, x0, None, {}, shape, None, tags)
    arrays, rest = equinox.partition(state, equinox.is_array)

    def step(carry: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
        x, arrays, iterations = carry
        state = equinox.combine(arrays, rest)
        x, state, _ = solver.step(with_arguments, x, None, {}, state, tags)
        return x, equinox.filter(state, equinox.is_array), iterations + 1

    def goes_on(carry: tuple[Array, Any, Array]) -> Array:
        _, arrays, iterations = carry
        norm = jnp.linalg.norm(arrays.f_info.grad)
        return (iterations == 0) | ((iterations < max_iterations) & (norm > aim))

    x, arrays, iterations = jax.lax.while_loop(goes_on, step, (x0, arrays, jnp.zeros((), int)))
    return Loop(x, jnp.linalg.norm(arrays.f_info.grad), iterations, iterations, iterations)


def optimistix_bfgs(
    problem: SoftmaxRegression, scale: Scalar, x0: Array, aim: Scalar, max_iterations: Scalar
) -> Loop:
    """``optimistix.BFGS``, which keeps the inverse of a d x d matrix."""
    import optimistix

    return _optimistix(optimistix.BFGS(rtol=0.0, atol=0.0), problem, scale, x0, aim, max_iterations)


def optimistix_lbfgs(
    problem: SoftmaxRegression, scale: Scalar, x0: Array, aim: Scalar, max_iterations: Scalar
) -> Loop:
    """``optimistix.LBFGS``."""
    import optimistix

    solver: Any = optimistix.LBFGS(rtol=0.0, atol=0.0, history_length=10)
    return _optimistix(solver, problem, scale, x0, aim, max_iterations)
