"""Newton's method with preconditioned conjugate gradients and a search in a plane: the default."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from copyreg_jax._tracing import number, only_if
from copyreg_jax.matrices import (
    absent_rows,
    on_host,
    row_norms,
    without_rows,
)
from copyreg_jax.problems import curvature
from copyreg_jax.problems.curvature import Curvature, Operator
from copyreg_jax.problems.objective import Point, Scalar, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.convexity import convexity_bound, convexity_by_rows, smallest_weight
from copyreg_jax.solvers.coordinates import (
    Basis,
    loss_weight,
    norm_in,
    pull_back,
    root_weights,
    to_point,
)
from copyreg_jax.solvers.krylov import steihaug
from copyreg_jax.solvers.optimality import (
    MAX_EXACT_COLUMNS,
    Look,
    convex_decrement,
    has_large_gram,
    length,
)
from copyreg_jax.solvers.plane_search import combine, evaluate_at, search_plane
from copyreg_jax.solvers.preconditioner import (
    NEVER,
    Precomputed,
    is_rough,
    precompute,
    sketched_basis,
)
from copyreg_jax.solvers.protocol import Method, State, stalled_if
from copyreg_jax.solvers.solution import SecondOrder, Status

__all__ = ["Memory", "NewtonCG"]

_MAX_FORCING = 0.1

_BELOW_TOLERANCE = 0.1
"""Residual of a step's conjugate gradients, in parts of the tolerance. With 0.01 sparse rows take a
quarter more products, and with 0.3 small weights a step more."""

_MAX_NO_PROGRESS = 4

_MAX_APART = 0.1
"""Part of the gradient and of its tolerance up to which rounded logits may have bent it."""

_MAX_RENEWALS = 3
"""How often a run that has stalled goes on from logits that are computed anew."""


class Memory(NamedTuple):
    """The linearization at the iterate, the region, and what the last steps and look taught."""

    u: Vector
    slope_u: Vector
    operator: Operator | Curvature
    radius: Scalar
    first_norm: Scalar
    no_progress: Int[Array, ""]
    convexity: Scalar
    costly: Bool[Array, ""]
    escape: Point
    renewals: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class NewtonCG(Method):
    """Newton's method for large problems: no Hessian is formed.

    A step minimizes the quadratic model by conjugate gradients in a trust region (Steihaug), in
    coordinates in which ``A^T W^2 A`` is the identity: there the Hessian differs from it by the few
    directions that the softmax and the protection term bend, and a handful of products is enough.
    Then L itself is minimized over the plane of x and the step. As the logits of both are known,
    that costs O(n) a trial and no product with A; it replaces step rejection, and follows the
    curved valleys that the protection term makes where w is small.

    A saddle point is left along its most negative curvature, which is looked for unless the
    curvature bound of docs/theory/newton-cg.md shows that there is none.

    Parameters
    ----------
    mixed : bool, default True
        Take the Gram matrix, and the Hessian that a solution is looked at by, in float32 where
        float32 resolves it. All other arithmetic is that of the problem's dtype, and so is the
        result.

    Notes
    -----
    Start-up costs one Gram matrix, O(n d^2), and a factorization, O(d^3); up to three more where
    columns are nearly dependent. For sparse A and more than 2048 columns it costs one product; once
    a run has cost as much as a sketch of A would, O(nnz(A) + d^3), that is taken, up to 4096
    columns. A step costs one product of 3 or 4 rows with A, and as many pairs of products as there
    are CG steps (``num_hvps``). Memory: O(n + d^2).

    Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM
    J. Numer. Anal. 20 (1983); Eisenstat and Walker, "Choosing the forcing terms in an inexact
    Newton method", SIAM J. Sci. Comput. 17 (1996).

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3], w=0.1)
    >>> cr.solve(problem, cr.NewtonCG()).status.name
    'CONVERGED'
    """

    mixed: bool = True

    default_max_steps: ClassVar[int] = 500
    steps_per_call: ClassVar[int] = 1

    def precompute(self, problem: SoftmaxRegression) -> Precomputed:
        return self.precompute_and_multiply(problem, None)[0]

    def precompute_and_multiply(
        self, problem: SoftmaxRegression, u: Vector | None
    ) -> tuple[Precomputed, Point | None]:
        return precompute(problem, u, mixed=self.mixed)

    def init(
        self, problem: SoftmaxRegression, precomputed: Precomputed, state: State, u: Vector
    ) -> State:
        zero, at_zero = jnp.zeros((), jnp.int32), precomputed.at_zero
        if at_zero is not None and not number(jnp.any(u)):
            value, gradient, *rest = curvature.linearize_at_zero(problem.terms, at_zero)
            parts = dict(zip(("slope_u", "operator"), rest, strict=True), u=u)
        else:
            value, gradient, parts = _linearized(problem, u)
        memory = Memory(
            **parts,
            convexity=jnp.full_like(value, -jnp.inf),
            radius=precomputed.radius,
            first_norm=length(gradient),
            no_progress=zero,
            costly=jnp.zeros((), bool),
            escape=jnp.zeros_like(state.x),
            renewals=zero,
        )
        return state._replace(value=value, gradient=gradient, memory=memory)

    def examine(
        self, problem: SoftmaxRegression, precomputed: Precomputed, state: State
    ) -> tuple[State, Look]:
        state, absent = self._with_fresh_logits(problem, state), absent_rows(problem.A)
        memory, basis = state.memory, precomputed.basis
        _, _, at = evaluate_at(without_rows(memory.u, absent), problem.terms)
        seen = convexity_bound(at, absent)
        if has_large_gram(problem) and not is_rough(problem):
            centers, scale = memory.operator.centers[:-1], _scale_of_basis(problem)
            unseen = (seen < 0) & precomputed.exact
            seen = only_if(
                False, unseen, lambda at: convexity_by_rows(problem.A, at, centers, basis, scale),
                at, seen,
            )  # fmt: skip
        state = state._replace(memory=memory._replace(convexity=seen))
        return state, self.look(problem, precomputed, state)

    def _with_fresh_logits(self, problem: SoftmaxRegression, state: State) -> State:
        """Compute the logits as ``A x`` again, because steps add up their rounding errors.

        Where those have bent the gradient, the run goes on from this iterate. A run that has
        stalled may do so a few times. With A on disk the memory has these logits already, and the
        gradient stays where its rounding errors are proved to be small.
        """
        if on_host(problem.A):
            u = state.memory.u
            value, slope_u = curvature.value_and_gradient_jit(u, problem.terms)
            apart = jnp.sum(jnp.abs(slope_u - state.memory.slope_u) * row_norms(problem.A))
            if apart <= _MAX_APART * jnp.minimum(state.tolerance, length(state.gradient)):
                return state._replace(value=value)
        else:
            u = problem.A @ state.x
        value, gradient, parts = _linearized(problem, u)
        norm, stalled = length(gradient), state.status == Status.STALLED
        drifted = length(gradient - state.gradient) > 0.5 * norm
        drifted &= (state.status == Status.CONVERGED) | (
            stalled & (state.memory.renewals < _MAX_RENEWALS)
        )
        renewals = state.memory.renewals + (drifted & stalled).astype(jnp.int32)
        return state._replace(
            value=value,
            gradient=gradient,
            status=jnp.where(drifted, Status.CONVERGED, state.status).astype(jnp.int32),
            tolerance=jnp.where(drifted, jnp.maximum(norm, state.tolerance), state.tolerance),
            counts=state.counts.add(values=1, gradients=1),
            memory=state.memory._replace(**parts, renewals=renewals),
        )

    def step(self, problem: SoftmaxRegression, precomputed: Precomputed, state: State) -> State:
        memory = state.memory
        s, image, num_hvps, at_boundary = _inner_solve(problem, precomputed, state)
        good = jnp.all(jnp.isfinite(s))
        s, image = jnp.where(good, s, 0), jnp.where(good, image, 0)
        leaving = jnp.any(memory.escape != 0)
        p = jnp.where(leaving, memory.radius * memory.escape, to_point(precomputed.basis, s))
        reach = jnp.where(leaving, memory.radius, jnp.linalg.norm(s))
        # The image that conjugate gradients have made, unless p is another vector.
        z = only_if(on_host(problem.A), leaving, lambda p: problem.A @ p, p, image)
        # The columns of the plane are x and p; c holds the coordinates of a point there.
        slopes = jnp.stack([jnp.dot(state.gradient, state.x), jnp.dot(state.gradient, p)])
        Z = jnp.stack([memory.u, z])
        absent = absent_rows(problem.A)
        found, noise = search_plane(Z, memory.slope_u, slopes, state.value, absent, problem.terms)
        moved, value = found.moved, found.value
        u, x = combine(found.c, memory.u, z), combine(found.c, state.x, p)
        del Z, z, image
        operator: Operator | Curvature
        if on_host(problem.A):  # the logits without the rounding errors of steps cost no read
            gradient, operator, u = curvature.linearize_and_multiply(
                problem.A, found.at, found.slope_u, x
            )
            # The next search starts from these, and compares L with what it was there.
            value, _ = curvature.value_and_gradient_jit(u, problem.terms)
        else:
            gradient, operator = curvature.linearize(problem.A, found.at, found.slope_u)

        reach = reach * jnp.abs(found.c[1])
        radius = jnp.where(
            found.c[1] < 1,
            jnp.maximum(2 * reach, 0.25 * memory.radius),
            jnp.where(at_boundary, jnp.maximum(2 * reach, memory.radius), memory.radius),
        )
        # Below the rounding error of L only the gradient shows progress.
        flatter = norm_in(precomputed.basis, gradient) < 0.9 * norm_in(
            precomputed.basis, state.gradient
        )
        seen = state.value - found.value > noise
        no_progress = jnp.where(seen | flatter, 0, memory.no_progress + 1)
        stuck = ~moved | (no_progress >= _MAX_NO_PROGRESS)
        costly = state.counts.hvps + num_hvps >= precomputed.patience
        new = memory._replace(
            u=u,
            slope_u=found.slope_u,
            operator=operator,
            radius=jnp.where(moved, radius, 0.25 * memory.radius),
            no_progress=jnp.where(stuck, 0, no_progress),
            costly=memory.costly | costly,
            escape=jnp.zeros_like(memory.escape),
        )
        return state._replace(
            x=x,
            value=value,
            gradient=gradient,
            status=stalled_if(stuck | costly),
            counts=state.counts.add(values=found.trials, gradients=1, hvps=num_hvps),
            memory=new,
        )

    def refine(
        self, problem: SoftmaxRegression, precomputed: Precomputed, state: State
    ) -> tuple[Precomputed, State]:
        """Take a sketch of A once the run has been costly."""
        memory = state.memory
        waiting = (np.asarray(precomputed.patience) < NEVER).any()
        if not (waiting and np.asarray(memory.costly).any()):
            return precomputed, state
        stalled, basis = state.status == Status.STALLED, sketched_basis(problem)
        if basis is not None:
            precomputed = precomputed._replace(basis=basis)
            radius = jnp.where(stalled, precomputed.radius, memory.radius)
            memory = memory._replace(radius=radius)
        status = jnp.where(stalled, Status.RUNNING, state.status).astype(jnp.int32)
        patience: Any = np.asarray(NEVER, np.int32)
        return precomputed._replace(patience=patience), state._replace(status=status, memory=memory)

    def logits(self, problem: SoftmaxRegression, state: State) -> Vector:
        return without_rows(state.memory.u, absent_rows(problem.A))

    def look(self, problem: SoftmaxRegression, precomputed: Precomputed, state: State) -> Look:
        """Bound the decrement where the curvature bound shows the Hessian to be positive.

        ``H >= c A^T W^2 A >= c / (1 + s) A^T D A``, and the basis makes the last matrix the
        identity. A diagonal basis or one of a sketch does not: there conjugate gradients give the
        decrement, unless the Hessian is small enough to be looked at.
        """
        A, c, basis = problem.A, state.memory.convexity, precomputed.basis
        if is_rough(problem) and problem.d > MAX_EXACT_COLUMNS:
            known, operator, none = c > 0, state.memory.operator, jnp.full_like(c, jnp.inf)
            bound = only_if(
                on_host(A), known, lambda g: convex_decrement(A, operator, basis, g, state.value),
                state.gradient, none,
            )  # fmt: skip
        else:
            known = (c > 0) & precomputed.exact
            bound = norm_in(basis, state.gradient) * jnp.sqrt(_scale_of_basis(problem) / c)
            bound = jnp.where(known, bound, jnp.inf)
        convex = jnp.where(known, SecondOrder.CONVEX, SecondOrder.UNKNOWN).astype(jnp.int32)
        return Look(bound, convex, jnp.zeros_like(state.x))

    def basis(self, problem: SoftmaxRegression, precomputed: Precomputed) -> Basis:
        return precomputed.basis

    def leave(
        self, problem: SoftmaxRegression, precomputed: Precomputed, state: State, direction: Point
    ) -> State:
        root, _ = root_weights(problem.terms, problem.n)
        unit = length(root * (problem.A @ direction))
        escape = direction / jnp.where(unit > 0, unit, 1)
        memory = state.memory._replace(escape=escape, radius=precomputed.radius)
        return state._replace(status=jnp.asarray(Status.RUNNING, jnp.int32), memory=memory)


def _scale_of_basis(problem: SoftmaxRegression) -> Scalar:
    """Return a number that times ``A^T W^2 A`` is at least the identity in an exact basis.

    That is the largest entry of ``D / W^2``, twice for what float32 has left of the identity.
    """
    smallest = smallest_weight(problem.w**2, absent_rows(problem.A))
    return 2 * (1 + loss_weight(problem.terms, problem.n) / problem.n / smallest)


def _linearized(problem: SoftmaxRegression, u: Vector) -> tuple[Scalar, Point, dict[str, Any]]:
    """Return L and its gradient where ``A x = u``, and what the memory keeps of them."""
    absent = absent_rows(problem.A)
    value, slope_u, at = evaluate_at(without_rows(u, absent), problem.terms)
    gradient, operator = curvature.linearize(problem.A, at, slope_u)
    return value, gradient, {"u": u, "slope_u": slope_u, "operator": operator}


def _inner_solve(
    problem: SoftmaxRegression, precomputed: Precomputed, state: State
) -> tuple[Point, Vector, Int[Array, ""], Bool[Array, ""]]:
    """Run CG in the new coordinates.

    Returns the step, its logits, the number of products, and whether it ends on the boundary.
    """
    memory = state.memory
    norm = length(state.gradient)
    forcing = jnp.minimum(_MAX_FORCING, jnp.sqrt(norm / memory.first_norm))
    # No need to go far below the tolerance of the whole.
    forcing = jnp.clip(_BELOW_TOLERANCE * state.tolerance / norm, forcing, _MAX_FORCING)
    forcing = jnp.maximum(forcing, jnp.finfo(forcing.dtype).eps ** 0.5)
    A, basis = problem.A, precomputed.basis

    def apply(v: Point) -> tuple[Point, Vector]:
        product, z = curvature.apply(A, memory.operator, to_point(basis, v))
        return pull_back(product, basis), z

    gradient, zero = pull_back(state.gradient, basis), jnp.zeros_like(memory.u)
    tolerance = forcing * jnp.linalg.norm(gradient)
    return steihaug(apply, gradient, memory.radius, tolerance, zero, on_host(A))
