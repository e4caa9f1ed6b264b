"""What solvers and their driver exchange."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from copyreg_jax.problems.objective import Point, Scalar, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.optimality import Look, diagonal_basis, length, unknown
from copyreg_jax.solvers.solution import Status


class Counts(NamedTuple):
    """Evaluations made so far; the solver that makes one adds it."""

    values: Int[Array, ""]
    gradients: Int[Array, ""]
    hessians: Int[Array, ""]
    hvps: Int[Array, ""]

    def add(
        self, *, values: Any = 0, gradients: Any = 0, hessians: Any = 0, hvps: Any = 0
    ) -> Counts:
        """The counts with these evaluations on top."""
        more = (values, gradients, hessians, hvps)
        return Counts(
            *(old + jnp.asarray(new, jnp.int32) for old, new in zip(self, more, strict=True))
        )


class State(NamedTuple):
    """One iterate.

    Attributes
    ----------
    x : (d,) array
    value, gradient : () and (d,) arrays
        L and its gradient at x; both finite after the start.
    status : () int32
        A `Status`. Solvers set STALLED; everything else is set by the driver.
    tolerance : () array
        Norm of the gradient at which the driver looks whether x is a solution.
    look : Look
        What the last look at the second order found.
    left : () array
        L at the saddle point that was left last; only from a lower one may the next be left.
    num_steps : () int32
        Set by the driver.
    counts : Counts
    memory : pytree
        The solver's own.
    """

    x: Point
    value: Scalar
    gradient: Point
    status: Int[Array, ""]
    tolerance: Scalar
    look: Look
    left: Scalar
    num_steps: Int[Array, ""]
    counts: Counts
    memory: Any


class Solver(Protocol):
    """An algorithm: a frozen, hashable dataclass of hyper-parameters.

    Attributes
    ----------
    default_max_steps : int
    steps_per_call : int
        Steps between two looks of the host at the iterate (progress, callback).
    """

    default_max_steps: ClassVar[int]
    steps_per_call: ClassVar[int]

    def prepare(self, problem: SoftmaxRegression) -> Any:
        """What the run needs of A and w alone, a pytree: it is not part of the state."""
        ...

    def init(self, problem: SoftmaxRegression, tools: Any, state: State) -> State:
        """The state with ``memory`` filled in; x, value and gradient are there already."""
        ...

    def step(self, problem: SoftmaxRegression, tools: Any, state: State) -> State:
        """The next iterate. Never loops until convergence, never checks finiteness."""
        ...

    def done(self, state: State) -> Bool[Array, ""]:
        """Whether to look if the iterate is a solution: at least ``|gradient| <= tolerance``."""
        ...

    def logits(self, problem: SoftmaxRegression, state: State) -> Vector:
        """``A x`` at the iterate."""
        ...

    def renewed(self, problem: SoftmaxRegression, tools: Any, state: State) -> State:
        """The state as it follows from x alone, to be judged; the same if it always does."""
        ...

    def look(self, problem: SoftmaxRegression, tools: Any, state: State) -> Look:
        """What the solver knows of the second order at its iterate without another product."""
        ...

    def basis(self, problem: SoftmaxRegression, tools: Any) -> Array:
        """Coordinates, (d, d) or diagonal (d,), in which the Hessian is well conditioned."""
        ...

    def leave(
        self, problem: SoftmaxRegression, tools: Any, state: State, direction: Point
    ) -> State:
        """The state, RUNNING and about to step along a direction of negative curvature.

        Of status SADDLE if the solver can't.
        """
        ...

    def refine(self, problem: SoftmaxRegression, tools: Any, state: State) -> tuple[Any, State]:
        """Tools to go on with, and the state RUNNING again if it had stalled for want of them.

        Asked on the host, after a stall and when a run is resumed.
        """
        ...


class Method:
    """What most solvers have in common: they stop where the gradient is small, saddles included."""

    def done(self, state: State) -> Bool[Array, ""]:
        return length(state.gradient) <= state.tolerance

    def logits(self, problem: SoftmaxRegression, state: State) -> Vector:
        return problem.logits(state.x)

    def renewed(self, problem: SoftmaxRegression, tools: Any, state: State) -> State:
        return state

    def look(self, problem: SoftmaxRegression, tools: Any, state: State) -> Look:
        return unknown(state.x)

    def basis(self, problem: SoftmaxRegression, tools: Any) -> Array:
        return diagonal_basis(problem)

    def leave(
        self, problem: SoftmaxRegression, tools: Any, state: State, direction: Point
    ) -> State:
        return state._replace(status=jnp.asarray(Status.SADDLE, jnp.int32))

    def refine(self, problem: SoftmaxRegression, tools: Any, state: State) -> tuple[Any, State]:
        return tools, state


def stalled_if(condition: Bool[Array, ""]) -> Int[Array, ""]:
    """STALLED where the condition holds, else RUNNING, as an array."""
    return jnp.where(condition, Status.STALLED, Status.RUNNING).astype(jnp.int32)
