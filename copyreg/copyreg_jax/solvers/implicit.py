"""Derivatives of the minimizer with respect to the problem, by the implicit function theorem."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from copyreg_jax.problems.objective import Point
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.factorizations import eigh

__all__ = ["minimizer"]


@jax.custom_jvp
def minimizer(problem: SoftmaxRegression, x: Point) -> Point:
    """x, as a function of the problem that it minimizes, differentiable to any order.

    ``H dx = -d(gradient)`` for the Hessian H. Where H is singular, because columns of A depend on
    each other, that leaves x free along its null space: there x does not move, in the coordinates
    in which H has a unit diagonal, and predictions have the right derivatives of every order.

    With respect to A the derivatives are NaN where its rank is below min(n, d): a small change of A
    may raise the rank there, and the minimizer jumps.

    Cost O(n d^2 + d^3).
    """
    return x


def _jvp(primals: Any, tangents: Any) -> tuple[Point, Point]:
    problem, x = primals
    # Here too x depends on the problem: that is what a further derivative has to see.
    x = minimizer(problem, x)
    leaves, tree = jax.tree_util.tree_flatten(problem)
    changes = jax.tree_util.tree_leaves(
        tangents[0], is_leaf=lambda change: isinstance(change, SymbolicZero)
    )
    moving = [i for i, change in enumerate(changes) if not isinstance(change, SymbolicZero)]
    if not moving:
        return x, jnp.zeros_like(x)

    def gradient(values: list[Array]) -> Point:
        new = list(leaves)
        for i, value in zip(moving, values, strict=True):
            new[i] = value
        return jax.tree_util.tree_unflatten(tree, new).gradient(x)

    H = problem.hessian(x)
    root = jnp.sqrt(jnp.abs(jnp.diagonal(jax.lax.stop_gradient(H))))
    scale = jnp.where(root > 0, root, 1)
    H = H / scale[None] / scale[:, None]
    spectrum = eigh(jax.lax.stop_gradient(H))
    kept = jnp.abs(spectrum[0]) > _floor(spectrum[0])
    # A softmax alone doesn't see a common shift of all logits.
    most = jnp.minimum(problem.n - jnp.where(jnp.all(problem.w == 0), 1, 0), problem.d)
    exists = jnp.where(jnp.sum(kept) < most, jnp.nan, 1).astype(x.dtype)
    in_A = len(jax.tree_util.tree_leaves(problem.A))
    directions = [changes[i] * exists if i < in_A else changes[i] for i in moving]
    _, pull = jax.jvp(gradient, ([leaves[i] for i in moving],), (directions,))
    return x, -_solve(H, pull / scale, spectrum, kept) / scale


minimizer.defjvp(_jvp, symbolic_zeros=True)


def _floor(lam: Array) -> Array:
    """Size of the rounding errors of the eigenvalues of a matrix of unit diagonal."""
    return 8 * len(lam) * jnp.finfo(lam.dtype).eps * jnp.max(jnp.abs(lam))


def _solve(
    H: Float[Array, "d d"], g: Float[Array, " d"], spectrum: Any, kept: Array
) -> Float[Array, " d"]:
    """``H^+ g`` as a function of H and g, by the spectrum of H, of which nothing is differentiated.

    The projector P on the null space makes of ``H y = g`` the system ``(H + P) y = g``, which has
    derivatives; for g in the range of H, and with P held fixed while H and its range change,
    its solution is the one of ``H y = g`` with ``P y = 0``. Derivatives of an eigendecomposition
    would not exist where eigenvalues are equal.
    """
    lam, Q = spectrum
    bordered = H + jnp.where(kept[None], 0, Q) @ Q.T
    inverse = jnp.where(kept, 1 / jnp.where(kept, lam, 1), 0)
    return jax.lax.custom_linear_solve(
        lambda y: bordered @ y, g, lambda _, g: Q @ (inverse * (g @ Q)), symmetric=True
    )
