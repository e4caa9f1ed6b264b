"""Any optax transformation as a solver."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from copyreg_jax.errors import InputError
from copyreg_jax.problems.objective import Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.protocol import Method, State, stalled_if

__all__ = ["Memory", "Optax"]

_MOST_IDLE = 100
"""Steps in a row that may leave everything as it is."""


class Memory(NamedTuple):
    """The transformation's own state, and how many steps in a row have changed nothing."""

    own: Any
    idle: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Optax(Method):
    """Run an optax ``GradientTransformation``: Adam, ``optax.lbfgs()`` with its line search, ...

    Parameters
    ----------
    transformation : optax.GradientTransformation
        Gets the closed-form gradient, and ``value``, ``grad`` and ``value_fn`` if it wants them.
        Make it once and keep it: JAX compiles anew for each new transformation object.

    Notes
    -----
    x is the last iterate, for methods that are not monotone too. A step costs one value and
    gradient, plus those of the line search. A step of zero is no stall: schedules begin at zero,
    and ``optax.MultiSteps`` moves every k steps only. A run has STALLED after a hundred steps in a
    row in which neither x nor any real number in the memory of the transformation has changed.

    Examples
    --------
    >>> import copyreg_jax as cr, optax
    >>> problem = cr.SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3])
    >>> cr.solve(problem, cr.Optax(optax.adam(0.1)), max_steps=5).status.name
    'MAX_STEPS'

    L-BFGS, the first-order method to try first:

    >>> cr.solve(problem, cr.Optax(optax.lbfgs())).status.name
    'CONVERGED'
    """

    transformation: optax.GradientTransformation

    default_max_steps: ClassVar[int] = 10_000
    steps_per_call: ClassVar[int] = 10

    def __post_init__(self) -> None:
        if not hasattr(self.transformation, "update"):
            raise InputError(
                f"transformation is {self.transformation!r:.60}; give one of optax, such as "
                "optax.adam(0.01)"
            )

    def precompute(self, problem: SoftmaxRegression) -> None:
        return None

    def init(self, problem: SoftmaxRegression, precomputed: None, state: State, u: Vector) -> State:
        state = super().init(problem, precomputed, state, u)
        with jax.numpy_dtype_promotion("standard"):
            memory = self.transformation.init(state.x)
        return state._replace(memory=Memory(memory, jnp.zeros((), jnp.int32)))

    def step(self, problem: SoftmaxRegression, precomputed: None, state: State) -> State:
        # Counters of 32 bits meet Python numbers in optax, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optax.with_extra_args_support(self.transformation).update(
                state.gradient,
                state.memory.own,
                state.x,
                value=state.value,
                grad=state.gradient,
                value_fn=problem.value,
            )
            x = optax.apply_updates(state.x, updates)
        value, gradient = problem.value_and_gradient(x)
        trials = optax.tree.get(memory, "num_linesearch_steps", 0)
        idle = jnp.where(_same((x, memory), (state.x, state.memory.own)), state.memory.idle + 1, 0)
        return state._replace(
            x=x,
            value=value,
            gradient=gradient,
            status=stalled_if(idle >= _MOST_IDLE),
            counts=state.counts.add(values=1 + trials, gradients=1 + trials),
            memory=Memory(memory, idle),
        )


def _same(one: Any, other: Any) -> Bool[Array, ""]:
    """Return whether all real numbers of two pytrees agree; integers count steps and may differ."""
    pairs = zip(jax.tree_util.tree_leaves(one), jax.tree_util.tree_leaves(other), strict=True)
    equal = [jnp.all(a == b) for a, b in pairs if jnp.issubdtype(jnp.result_type(a), jnp.floating)]
    return jnp.all(jnp.stack(equal))
