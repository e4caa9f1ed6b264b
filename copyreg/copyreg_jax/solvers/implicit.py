"""Derivatives of the minimizer with respect to the problem, by the implicit function theorem."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from copyreg_jax.problem import Point, SoftmaxRegression

__all__ = ["minimizer"]


@jax.custom_jvp
def minimizer(problem: SoftmaxRegression, x: Point) -> Point:
    """x, as a function of the problem that it minimizes."""
    return x


def _jvp(primals: Any, tangents: Any) -> tuple[Point, Point]:
    """Implicit function theorem: ``H dx = -d(gradient)``, at the x of least change."""
    problem, x = primals
    leaves, tree = jax.tree_util.tree_flatten(problem)
    changes = jax.tree_util.tree_leaves(
        tangents[0], is_leaf=lambda t: isinstance(t, jax.custom_derivatives.SymbolicZero)
    )
    moving = [
        i
        for i, change in enumerate(changes)
        if not isinstance(change, jax.custom_derivatives.SymbolicZero)
    ]
    if not moving:
        return x, jnp.zeros_like(x)

    def gradient(values: list[Array]) -> Point:
        new = list(leaves)
        for i, value in zip(moving, values, strict=True):
            new[i] = value
        return jax.tree_util.tree_unflatten(tree, new).gradient(x)

    _, pull = jax.jvp(gradient, ([leaves[i] for i in moving],), ([changes[i] for i in moving],))
    lam, Q = jnp.linalg.eigh(problem.hessian(x))
    kept = jnp.abs(lam) > len(lam) * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(lam))
    inverse = jnp.where(kept, 1 / jnp.where(kept, lam, 1), 0)
    return x, -Q @ (inverse * (pull @ Q))


minimizer.defjvp(_jvp, symbolic_zeros=True)
