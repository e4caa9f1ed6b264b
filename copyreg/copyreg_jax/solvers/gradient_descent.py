"""Gradient descent, plain and accelerated, whose step lengths are proved safe."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from copyreg_jax._tracing import only_if, while_loop
from copyreg_jax.matrices import on_host, weighted_gram_norm
from copyreg_jax.problems import curvature
from copyreg_jax.problems.objective import Point, Scalar, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.protocol import Method, State, stalled_if

__all__ = ["AcceleratedGradient", "GradientDescent", "Momentum", "Norms"]


class Norms(NamedTuple):
    """Largest eigenvalues of A^T A and of A^T W^2 A."""

    gram: Scalar
    weighted: Scalar


@dataclasses.dataclass(frozen=True)
class GradientDescent(Method):
    """Gradient descent with step ``1 / M``, M a bound of the Hessian on the sublevel set.

    On ``{L <= L(x_k)}`` the Hessian is at most ``M = upper_bound(L(x_k)) ||A||^2 + ||W A||^2``
    (`copyreg_jax.problems.curvature.upper_bound`), so that the step stays in the set and lowers L
    by at least ``||gradient||^2 / (2 M)``: no line search, no parameter. M is taken anew at every
    step, and falls with L. Slow where gamma is small and L large, for M then is about
    ``2 L^2 / gamma``, and where the Hessian is ill-conditioned: `AcceleratedGradient` has the same
    guarantee and needs far fewer steps, and so does L-BFGS, ``Optax(optax.lbfgs())``, without the
    guarantee.

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

    def precompute(self, problem: SoftmaxRegression) -> Norms:
        return _norms(problem)

    def step(self, problem: SoftmaxRegression, precomputed: Norms, state: State) -> State:
        M = _safe_curvature(problem, state.value, precomputed)
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


class Momentum(NamedTuple):
    """The estimate of the curvature, the last gradient step, and Nesterov's t."""

    estimate: Scalar
    last: Point
    t: Scalar


@dataclasses.dataclass(frozen=True)
class AcceleratedGradient(Method):
    """Nesterov's accelerated gradient method with adaptive restart; L falls at every step.

    From y a gradient step of length ``1 / E`` leads to x, and momentum from there to the next y.
    E is an estimate of the curvature: it starts from the proved bound M of `GradientDescent`, is
    lowered by a tenth at each step, and doubled until L falls by ``||gradient||^2 / (2 E)``, up to
    M, where that is certain. The momentum is dropped, and y is x, where it points uphill or would
    forgo that decrease. So every step lowers L by at least ``||gradient||^2 / (2 M)``, as
    `GradientDescent` promises, and no iterate leaves the sublevel set on which M is valid.

    Notes
    -----
    Nesterov, Soviet Math. Dokl. 27 (1983); restart by the gradient scheme of O'Donoghue and Candes,
    "Adaptive restart for accelerated gradient schemes", Found. Comput. Math. 15 (2015); t for
    varying steps as in Scheinberg, Goldfarb and Bai, Found. Comput. Math. 14 (2014). Start-up costs
    O(n d^2 + d^3), a step one value and gradient, one value, and some more after a restart or for
    an estimate that was too low. The number of steps grows with the root of the condition
    number, that of gradient descent with the condition number itself.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3])
    >>> cr.solve(problem, cr.AcceleratedGradient()).status.name
    'CONVERGED'
    """

    default_max_steps: ClassVar[int] = 100_000
    steps_per_call: ClassVar[int] = 100

    def precompute(self, problem: SoftmaxRegression) -> Norms:
        return _norms(problem)

    def init(
        self, problem: SoftmaxRegression, precomputed: Norms, state: State, u: Vector
    ) -> State:
        state = super().init(problem, precomputed, state, u)
        start = _safe_curvature(problem, state.value, precomputed)
        return state._replace(memory=Momentum(start, state.x, jnp.ones_like(start)))

    def step(self, problem: SoftmaxRegression, precomputed: Norms, state: State) -> State:
        estimate, last, t = state.memory
        y, value, gradient = state.x, state.value, state.gradient
        M = _safe_curvature(problem, value, precomputed)
        square = jnp.sum(gradient**2)
        noise = 8 * jnp.finfo(y.dtype).eps * jnp.abs(value)

        def promised(E: Scalar) -> Scalar:
            # A = 0 makes M zero, and the gradient too.
            return value - 0.5 * square / jnp.where(E == 0, 1, E) + noise

        def forward(E: Scalar) -> Point:
            return y - gradient / jnp.where(E == 0, 1, E)

        def too_low(trial: tuple[Scalar, Scalar, Array]) -> Array:
            E, there, _ = trial
            return ~(there <= promised(E)) & (E < M)

        def double(trial: tuple[Scalar, Scalar, Array]) -> tuple[Scalar, Scalar, Array]:
            E = jnp.minimum(2 * trial[0], M)
            return E, problem.value(forward(E)), trial[2] + 1

        # A decrease below the rounding error says nothing about a longer step.
        first = jnp.minimum(jnp.where(0.5 * square / estimate > noise, 0.9 * estimate, estimate), M)
        one = jnp.ones((), jnp.int32)
        host = on_host(problem.A)
        E, _, trials = while_loop(
            host, too_low, double, (first, problem.value(forward(first)), one)
        )

        x = forward(E)
        t_next = 0.5 * (1 + jnp.sqrt(1 + 4 * t**2 * E / jnp.where(estimate == 0, 1, estimate)))
        onward = x + (t - 1) / t_next * (x - last)
        onward_value, onward_gradient = problem.value_and_gradient(onward)
        uphill = jnp.sum(gradient * (x - last)) > 0
        kept = ~uphill & (onward_value <= promised(E)) & jnp.all(jnp.isfinite(onward_gradient))
        again = jnp.where(kept, 0, 1)
        new, new_value, new_gradient = only_if(
            host,
            ~kept,
            lambda x: (x, *problem.value_and_gradient(x)),
            x,
            (onward, onward_value, onward_gradient),
        )
        return state._replace(
            x=new,
            # An overflow, for the driver to see.
            value=jnp.where(jnp.isfinite(M), new_value, jnp.nan),
            gradient=new_gradient,
            status=stalled_if(jnp.all(new == y)),
            counts=state.counts.add(values=1 + trials + again, gradients=1 + again),
            memory=Momentum(E, x, jnp.where(kept, t_next, 1)),
        )


def _norms(problem: SoftmaxRegression) -> Norms:
    return Norms(
        weighted_gram_norm(problem.A, jnp.ones_like(problem.b)),
        weighted_gram_norm(problem.A, problem.w**2),
    )


def _safe_curvature(problem: SoftmaxRegression, value: Scalar, norms: Norms) -> Scalar:
    """Bound the largest eigenvalue of the Hessian wherever L is at most ``value``."""
    return curvature.upper_bound(value, problem.terms) * norms.gram + norms.weighted
