"""The step of Newton-CG: the lowest point of L in a plane of two directions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from copyreg_jax._tracing import only_if
from copyreg_jax.matrices import without_rows
from copyreg_jax.problems import curvature
from copyreg_jax.problems.objective import Mask, Scalar, Terms, Vector

__all__ = ["Found", "combine", "evaluate_at", "search_plane"]

_MAX_TRIALS = 15


@jax.jit
def evaluate_at(u: Vector, terms: Terms) -> tuple[Scalar, Vector, curvature.Curvature]:
    """Return L, its gradient and its Hessian in the logits."""
    value, slope = curvature.value_and_gradient(u, terms)
    return value, slope, curvature.curvature(u, terms)


def combine(c: Float[Array, " 2"], first: Array, second: Array) -> Array:
    """Return ``c_0 first + c_1 second``, where zero times infinity counts as zero."""
    return c[0] * first + jnp.where(c[1] == 0, 0, c[1] * second)


class _Best(NamedTuple):
    """The best point of the plane so far."""

    c: Float[Array, " 2"]
    value: Scalar
    slopes: Float[Array, " 2"]
    H: Float[Array, "2 2"]
    moved: Bool[Array, ""]


class Found(NamedTuple):
    """Where a search ended: L and its derivatives by the logits; if it has moved; its trials."""

    c: Float[Array, " 2"]
    value: Scalar
    slope_u: Vector
    at: curvature.Curvature
    moved: Bool[Array, ""]
    trials: Int[Array, ""]


@jax.jit
def search_plane(
    Z: Float[Array, "2 n"],
    slope_u: Vector,
    slopes: Array,
    value: Scalar,
    absent: Mask | None,
    terms: Terms,
) -> tuple[Found, Scalar]:
    """Lower L over the logits ``c @ Z`` from c = (1, 0), starting with a try of (1, 1).

    A trust-region Newton method in the plane, stopped when its gradient has fallen to a quarter.
    Until the first success there is no model, and tries are cut to a quarter. A last trial that was
    no success is followed by a second one of the best point, so that vectors of the logits are kept
    of the last trial only. Also returns the rounding error of L.
    """
    dtype = Z.dtype
    size = jnp.linalg.norm(Z, axis=1)
    size = jnp.where(size > 0, size, 1)
    steepest = jnp.linalg.norm(slopes / size)
    spread = jnp.sum(jnp.abs(slope_u)) * jnp.max(jnp.abs(Z[0]))
    noise = jnp.finfo(dtype).eps * (16 * jnp.abs(value) + spread)

    def evaluate(c: Array) -> tuple[Scalar, Vector, curvature.Curvature]:
        return evaluate_at(without_rows(combine(c, Z[0], Z[1]), absent), terms)

    def body(carry: Any) -> Any:
        best, trial, radius, predicted, ready, trials, *_ = carry
        value, slope_u, at = evaluate(trial)
        slopes = Z @ slope_u
        finite = jnp.isfinite(value + jnp.sum(slopes)) & jnp.isfinite(at.kappa)
        fall, steepness = best.value - value, jnp.linalg.norm(slopes / size)
        flat = steepness <= 0.5 * jnp.linalg.norm(best.slopes / size)
        lower = finite & ((fall > 1e-4 * predicted) | ((fall >= -noise) & flat)) & ~ready
        # Where the search ends there is no use for it. The ones depend on the loop, so that this
        # is not computed ahead.
        settled = steepness <= 0.25 * steepest
        further = lower & ~settled
        H = only_if(
            False, further, lambda ones: curvature.restrict(at, ones[:, None] * Z),
            jnp.ones(2, dtype), jnp.eye(2, dtype=dtype),
        )  # fmt: skip
        accepted = lower & jnp.isfinite(jnp.sum(H))
        reach = jnp.linalg.norm((trial - best.c) * size)
        longer = jnp.where(fall > 0.75 * predicted, jnp.maximum(radius, 2 * reach), radius)
        radius = jnp.where(accepted, longer, 0.25 * reach)
        tried = _Best(trial, value, slopes, H, accepted)
        cut = best.c + 0.25 * (trial - best.c)
        moved = accepted | best.moved
        best = jax.tree_util.tree_map(lambda a, b: jnp.where(accepted, a, b), tried, best)
        best = best._replace(moved=moved)
        s, decrease = _planar_step(best.H / size[None] / size[:, None], best.slopes / size, radius)
        trial = jnp.where(best.moved, best.c + s / size, cut)
        predicted = jnp.where(best.moved, decrease, 0)
        known = accepted | ready
        ready |= (accepted & settled) | (moved & (decrease <= noise)) | (trials + 1 >= _MAX_TRIALS)
        trial = jnp.where(ready, best.c, trial)
        return best, trial, radius, predicted, ready, trials + 1, known, slope_u, at

    def going(carry: Any) -> Any:
        ready, _, known = carry[4:7]
        return ~(ready & known)

    here, no = jnp.asarray([1, 0], dtype), jnp.zeros((), bool)
    slope_u, at = jax.tree_util.tree_map(
        lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(evaluate, here)[1:]
    )
    best = _Best(here, value, slopes, jnp.zeros((2, 2), dtype), no)
    trials = jnp.zeros((), jnp.int32)
    start = (
        best, jnp.ones(2, dtype), 2 * size[1], jnp.zeros_like(value), no, trials, no, slope_u, at
    )  # fmt: skip
    best, *_, trials, _, slope_u, at = jax.lax.while_loop(going, body, start)
    return Found(best.c, best.value, slope_u, at, best.moved, trials), noise


def _planar_step(
    H: Float[Array, "2 2"], q: Float[Array, " 2"], radius: Scalar
) -> tuple[Float[Array, " 2"], Scalar]:
    """Newton step with the absolute value of H, cut to the radius, and the decrease it promises."""
    mean, half = 0.5 * (H[0, 0] + H[1, 1]), 0.5 * (H[0, 0] - H[1, 1])
    off = 0.5 * (H[0, 1] + H[1, 0])
    apart = jnp.sqrt(half**2 + off**2)
    # A rotation diagonalizes H; where the eigenvalues meet, any does.
    angle = 0.5 * jnp.arctan2(off, half)
    Q = jnp.stack([jnp.cos(angle), -jnp.sin(angle), jnp.sin(angle), jnp.cos(angle)]).reshape(2, 2)
    lam = jnp.stack([mean + apart, mean - apart])
    tiny = jnp.finfo(H.dtype).tiny
    floor = 8 * jnp.finfo(H.dtype).eps * jnp.max(jnp.abs(lam)) + tiny
    pulled = jnp.sum(q[:, None] * Q, axis=0)
    s = -pulled / jnp.maximum(jnp.abs(lam), floor)
    reach = jnp.linalg.norm(s)
    s = s * jnp.minimum(1, radius / jnp.maximum(reach, tiny))
    decrease = -(jnp.sum(pulled * s) + 0.5 * jnp.sum(lam * s**2))
    return jnp.sum(Q * s[None], axis=1), decrease
