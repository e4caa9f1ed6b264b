"""The point from which solvers start if none is given."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from copyreg_jax._tracing import only_if
from copyreg_jax.matrices import absent_rows, on_host, without_rows
from copyreg_jax.problems import curvature, objective
from copyreg_jax.problems.objective import Mask, Point, Terms, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.convexity import convexity_bound

__all__ = ["centered_mask", "default_start", "is_convex_at_zero"]

_SHIFTS = (0, -1, 1, -2, 2, -4, 4, -8, 8, -16, 16)


def is_convex_at_zero(problem: SoftmaxRegression) -> Bool[Array, ""]:
    """Return whether L is seen to be convex at zero; reads nothing of A, O(n)."""
    return _is_convex_at_zero(problem.terms, absent_rows(problem.A))


@jax.jit
def _is_convex_at_zero(terms: Terms, absent: Mask | None) -> Bool[Array, ""]:
    u = without_rows(jnp.zeros_like(terms.b), absent)
    return convexity_bound(curvature.curvature(u, terms), absent) > 0


def centered_mask(problem: SoftmaxRegression) -> Vector:
    """The mask of the protected rows as numbers, less their mean."""
    protected = problem.protected.astype(problem.dtype)
    return protected - jnp.sum(protected) / problem.n


def default_start(
    problem: SoftmaxRegression, direction: Point | None = None
) -> tuple[Point, Vector, Int[Array, ""]]:
    """Return a start, its logits, and at how many points L was evaluated.

    Zero where L is seen to be convex there, without a read of A. Else the lowest of zero and of
    points that shift the protected logits by 1, 2, 4, 8, 16: zero often sits on the barrier
    ell_1 = 0 (equal targets, say), and L has a basin on either side. That takes two reads of A, or
    one if the direction ``centered_mask @ A`` is given.
    """
    A = problem.A

    def lowest(mask: Vector) -> tuple[Point, Vector, Int[Array, ""]]:
        along = mask @ A if direction is None else direction
        u = A @ along
        reach = jnp.max(jnp.abs(u))
        lengths = jnp.asarray(_SHIFTS, problem.dtype) / jnp.where(reach > 0, reach, 1)
        length = _lowest(u, lengths, absent_rows(A), problem.terms)
        # The logits may be infinite.
        u = jnp.where(length == 0, 0, length * u)
        return length * along, u, jnp.asarray(len(_SHIFTS), jnp.int32)

    zero = jnp.zeros(problem.d, problem.dtype), jnp.zeros_like(problem.b), jnp.zeros((), jnp.int32)
    mask = centered_mask(problem)
    return only_if(on_host(A), ~is_convex_at_zero(problem), lowest, mask, zero)


@jax.jit
def _lowest(u: Array, lengths: Array, absent: Mask | None, terms: Terms) -> Array:
    """Find the length for which L is lowest at ``length * u``, trying one after the other."""

    def value(length: Array) -> Array:
        return objective.value(without_rows(length * u, absent), terms)

    values = jax.lax.map(value, lengths)
    return lengths[jnp.argmin(jnp.where(jnp.isnan(values), jnp.inf, values))]
