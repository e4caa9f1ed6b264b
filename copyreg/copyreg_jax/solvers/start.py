"""The point from which solvers start if none is given."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from copyreg_jax.matrices import absent_rows, without_rows
from copyreg_jax.problems import objective
from copyreg_jax.problems.objective import Mask, Point, Terms, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["START_SHIFTS", "centered_mask", "default_start"]

START_SHIFTS = (0, -1, 1, -2, 2, -4, 4, -8, 8, -16, 16)


def centered_mask(problem: SoftmaxRegression) -> Vector:
    """The mask of the protected rows as numbers, less their mean."""
    protected = problem.protected.astype(problem.dtype)
    return protected - jnp.sum(protected) / problem.n


def default_start(
    problem: SoftmaxRegression, direction: Point | None = None
) -> tuple[Point, Vector]:
    """Return the lowest of zero and of points that shift the protected logits by 1, 2, 4, 8, 16.

    With its logits. Two reads of A in all, or one if the direction ``centered_mask @ A`` is given.
    Zero often sits on the barrier ell_1 = 0 (equal targets,
    say), and L has a basin on either side.
    """
    direction = centered_mask(problem) @ problem.A if direction is None else direction
    u = problem.A @ direction
    reach = jnp.max(jnp.abs(u))
    lengths = jnp.asarray(START_SHIFTS, problem.dtype) / jnp.where(reach > 0, reach, 1)
    length = _lowest(u, lengths, absent_rows(problem.A), problem.terms)
    return length * direction, jnp.where(length == 0, 0, length * u)  # u may be infinite


@jax.jit
def _lowest(u: Array, lengths: Array, absent: Mask | None, terms: Terms) -> Array:
    """Find the length for which L is lowest at ``length * u``, trying one after the other."""

    def value(length: Array) -> Array:
        return objective.value(without_rows(length * u, absent), terms)

    values = jax.lax.map(value, lengths)
    return lengths[jnp.argmin(jnp.where(jnp.isnan(values), jnp.inf, values))]
