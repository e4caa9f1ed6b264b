"""The interface between solvers and their driver: `Solver`, and the `State` they exchange."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from copyreg_jax.matrices import absent_rows, without_rows
from copyreg_jax.problems import curvature
from copyreg_jax.problems.objective import Point, Scalar, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.coordinates import Basis, diagonal_basis
from copyreg_jax.solvers.optimality import Look, length, unknown
from copyreg_jax.solvers.solution import Status

__all__ = ["Counts", "Method", "Need", "Solver", "State", "stalled_if"]


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


Need: TypeAlias = Literal["hessian", "rows"]
"""Something that a solver may ask of A: products that form a Hessian, or single rows."""


class Solver(Protocol):
    """An algorithm: a frozen, hashable dataclass of hyper-parameters.

    The driver owns the loop. It calls `precompute` once, `init` once, and `step` until `done` holds
    or the status is no longer RUNNING. Then it calls `examine`, looks deeper if that is necessary,
    and ends the run or goes on.

    A solver inherits from `Method`, which implements all but `precompute` and `step`.

    Attributes
    ----------
    default_max_steps : int
        Limit of the number of steps if the caller gives none.
    steps_per_call : int
        Number of steps between two calls of the user's callback.
    needs : frozenset of str
        What the solver asks of A, "hessian" or "rows". A problem without it is refused.
    """

    default_max_steps: ClassVar[int]
    steps_per_call: ClassVar[int]
    needs: ClassVar[frozenset[Need]]

    def precompute(self, problem: SoftmaxRegression) -> Any:
        """Return what the run needs and depends on A, w and the metric alone, as a pytree.

        The driver calls it once, before `init`. The result is not part of the state: it is passed
        to the other methods, is not written to checkpoints, and is shared by the problems of a
        batch that have A and w in common. For the cross-entropy it may also depend on b.
        """
        ...

    def precompute_and_multiply(
        self, problem: SoftmaxRegression, u: Vector | None
    ) -> tuple[Any, Point | None]:
        """Return what `precompute` does, and ``u @ A`` if that takes no further read of A.

        The driver calls it in place of `precompute` if A is on disk; without u, if the run will
        start at zero unless a start is given. That of `Method` returns None for the product, which
        the driver then makes where it needs it.
        """
        ...

    def init(self, problem: SoftmaxRegression, precomputed: Any, state: State, u: Vector) -> State:
        """Return the state with ``value``, ``gradient`` and ``memory`` filled in.

        The driver calls it once, at the start x of the state, with ``u = A x``. That of `Method`
        fills in the first two.
        """
        ...

    def step(self, problem: SoftmaxRegression, precomputed: Any, state: State) -> State:
        """Return the state after one step.

        The driver calls it under ``jax.jit``, or on the host if A is on disk. A step sets x, value,
        gradient, memory and counts. Its status is STALLED if no further step can lower L, and else
        RUNNING. It neither loops until convergence nor checks that numbers are finite.
        """
        ...

    def done(self, state: State) -> Bool[Array, ""]:
        """Return whether the iterate may be a solution, so that the driver examines it.

        The driver calls it after each step. It must imply ``|gradient| <= tolerance``.
        """
        ...

    def logits(self, problem: SoftmaxRegression, state: State) -> Vector:
        """Return ``A x`` at the iterate.

        The driver calls it to judge a state. A solver whose memory has the logits saves a product.
        """
        ...

    def examine(
        self, problem: SoftmaxRegression, precomputed: Any, state: State
    ) -> tuple[State, Look]:
        """Return the state to judge, and what the solver knows of the second order there.

        The driver calls it when a run has ended. The state that is returned follows from x alone,
        without the rounding errors that the steps have added up. If the look is
        unknown, the driver looks at the Hessian itself. That of `Method` takes `look`.
        """
        ...

    def look(self, problem: SoftmaxRegression, precomputed: Any, state: State) -> Look:
        """Return what the solver knows of the second order at the iterate, for its gradient.

        For a problem in float32 the driver calls it again with the gradient of float64.
        """
        ...

    def basis(self, problem: SoftmaxRegression, precomputed: Any) -> Basis:
        """Return coordinates in which the Hessian is well conditioned: (d, d), or diagonal (d,).

        The driver calls it to sample the Hessian of a problem with many columns.
        """
        ...

    def leave(
        self, problem: SoftmaxRegression, precomputed: Any, state: State, direction: Point
    ) -> State:
        """Return a state that is RUNNING and whose next step goes along the direction.

        The driver calls it at a saddle point, with a direction of negative curvature along which L
        falls. A solver that can't follow it returns the state with status SADDLE.
        """
        ...

    def refine(
        self, problem: SoftmaxRegression, precomputed: Any, state: State
    ) -> tuple[Any, State]:
        """Return the precomputed data to go on with, and the state.

        The driver calls it on the host after each run of steps, before it examines a state that
        has stalled, and when a run is resumed. If the solver had stalled only because its data were
        not good enough, it returns better data and sets the status back to RUNNING. With nothing to
        change it returns the same objects.
        """
        ...


class Method:
    """Defaults of a solver that stops where the gradient is small, at saddle points too."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def precompute_and_multiply(
        self, problem: SoftmaxRegression, u: Vector | None
    ) -> tuple[Any, Point | None]:
        return self.precompute(problem), None  # type: ignore[attr-defined]

    def init(self, problem: SoftmaxRegression, precomputed: Any, state: State, u: Vector) -> State:
        logits = without_rows(u, absent_rows(problem.A))
        value, slope = curvature.value_and_gradient_jit(logits, problem.terms)
        return state._replace(value=value, gradient=slope @ problem.A)

    def done(self, state: State) -> Bool[Array, ""]:
        return length(state.gradient) <= state.tolerance

    def logits(self, problem: SoftmaxRegression, state: State) -> Vector:
        return problem.logits(state.x)

    def examine(
        self, problem: SoftmaxRegression, precomputed: Any, state: State
    ) -> tuple[State, Look]:
        return state, self.look(problem, precomputed, state)

    def look(self, problem: SoftmaxRegression, precomputed: Any, state: State) -> Look:
        return unknown(state.x)

    def basis(self, problem: SoftmaxRegression, precomputed: Any) -> Basis:
        return diagonal_basis(problem)

    def leave(
        self, problem: SoftmaxRegression, precomputed: Any, state: State, direction: Point
    ) -> State:
        return state._replace(status=jnp.asarray(Status.SADDLE, jnp.int32))

    def refine(
        self, problem: SoftmaxRegression, precomputed: Any, state: State
    ) -> tuple[Any, State]:
        return precomputed, state


def stalled_if(condition: Bool[Array, ""]) -> Int[Array, ""]:
    """STALLED where the condition holds, else RUNNING, as an array."""
    return jnp.where(condition, Status.STALLED, Status.RUNNING).astype(jnp.int32)
