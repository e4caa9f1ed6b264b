"""Coordinates in which the Hessian of L is close to the identity.

A basis B maps coordinates s to a change ``B s`` of x. It is a (d, d) matrix, or a (d,) array that
stands for a diagonal matrix. `copyreg_jax.solvers.preconditioner` makes the dense ones.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from copyreg_jax.matrices import squared_column_norms
from copyreg_jax.problems.objective import Point, Scalar, Terms, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = [
    "Basis",
    "diagonal_basis",
    "inverse_root",
    "loss_weight",
    "norm_in",
    "pull_back",
    "root_weights",
    "to_point",
]

Basis: TypeAlias = Float[Array, "d d"] | Float[Array, " d"]


def loss_weight(terms: Terms, n: int) -> Any:
    """Weight that the loss gives to each of n rows where all entries of f are equal, times n."""
    return 1 / n if terms.metric == "squared" else jnp.sum(terms.b)


def root_weights(terms: Terms, n: int) -> tuple[Vector, Scalar]:
    """Root of the diagonal D of the preconditioner ``A^T D A``, and of its trace.

    D is w^2, and what the loss has at equal f, for w = 0. A has n rows that are not absent.
    """
    weights = terms.w**2 + loss_weight(terms, n) / n
    return jnp.sqrt(weights), jnp.sqrt(jnp.sum(weights))


def inverse_root(squares: Float[Array, " d"]) -> Float[Array, " d"]:
    """``squares^(-1/2)``, zero for zero."""
    return jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1)), 0)


def diagonal_basis(problem: SoftmaxRegression) -> Float[Array, " d"]:
    """Coordinates in which the columns of ``D^(1/2) A`` have unit length."""
    root, _ = root_weights(problem.terms, problem.n)
    return inverse_root(squared_column_norms(problem.A, root**2))


def to_point(basis: Basis, s: Array) -> Point:
    """Return the change of x that has the coordinates s."""
    return basis @ s if basis.ndim == 2 else basis * s


def pull_back(gradient: Point, basis: Basis) -> Array:
    """Return a gradient with respect to x as one with respect to the coordinates."""
    return gradient @ basis if basis.ndim == 2 else gradient * basis


def norm_in(basis: Basis, gradient: Point) -> Scalar:
    """Euclidean norm of a gradient with respect to the coordinates."""
    return jnp.linalg.norm(pull_back(gradient, basis))
