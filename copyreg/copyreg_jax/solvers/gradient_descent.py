"""Gradient descent whose step length is proved safe."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from copyreg_jax import curvature
from copyreg_jax.matrices import weighted_gram_norm
from copyreg_jax.objective import Scalar
from copyreg_jax.problem import SoftmaxRegression
from copyreg_jax.solvers.state import State, small_gradient, stalled_if


class Norms(NamedTuple):
    """Largest eigenvalues of A^T A and of A^T W^2 A."""

    gram: Scalar
    weighted: Scalar


@dataclasses.dataclass(frozen=True)
class GradientDescent:
    """Gradient descent with step ``1 / M``, M a bound of the Hessian on the sublevel set.

    On ``{L <= L(x_k)}`` the Hessian is at most ``M = upper_bound(L(x_k)) ||A||^2 + ||W A||^2``
    (`copyreg_jax.curvature.upper_bound`), so that the step stays in the set and lowers L by at
    least ``||gradient||^2 / (2 M)``: no line search, no parameter. M is taken anew at every step,
    and falls with L. Slow where gamma is small and L large, for M then is about ``2 L^2 / gamma``.

    Notes
    -----
    Start-up costs O(n d^2 + d^3), a step one value and gradient.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3])
    >>> cr.solve(problem, cr.GradientDescent()).status.name
    'CONVERGED'
    """

    default_max_steps: ClassVar[int] = 100_000
    steps_per_call: ClassVar[int] = 100

    def prepare(self, problem: SoftmaxRegression) -> Norms:
        gram = weighted_gram_norm(problem.A, jnp.ones_like(problem.b))
        return Norms(gram, weighted_gram_norm(problem.A, problem.w**2))

    def init(self, problem: SoftmaxRegression, tools: Norms, state: State) -> State:
        return state

    def step(self, problem: SoftmaxRegression, tools: Norms, state: State) -> State:
        b, protected, gamma, _, reading, metric = problem.terms
        bound = curvature.upper_bound(state.value, b, protected, gamma, reading, metric)
        M = bound * tools.gram + tools.weighted
        # A = 0 makes M zero, and the gradient too.
        x = state.x - state.gradient / jnp.where(M == 0, 1, M)
        value, gradient = problem.value_and_gradient(x)
        return state._replace(
            x=x,
            value=jnp.where(jnp.isfinite(M), value, jnp.nan),  # an overflow, for the driver to see
            gradient=gradient,
            status=stalled_if(jnp.all(x == state.x)),
            counts=state.counts.add(values=1, gradients=1),
        )

    def done(self, state: State) -> Bool[Array, ""]:
        return small_gradient(state)
