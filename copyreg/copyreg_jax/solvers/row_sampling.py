"""Drawing rows of A by leverage scores, so that few rows make a Hessian close to the whole."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from copyreg_jax.matrices import Matrix, column_norms, count_sketch, take_rows
from copyreg_jax.problems.curvature import Curvature
from copyreg_jax.solvers.factorizations import in_small_batches, triangular_factor

__all__ = ["ROWS_FACTOR", "SHARE", "leverage_scores", "sampled_hessian", "sketch_rows"]

ROWS_FACTOR = 6
"""Rows per d / accuracy^2: what practice needs."""

SHARE = 0.2
"""Part of its leverage score with which a row is drawn at least, as `promised_rows` supposes."""

_PROJECTIONS = 16
"""Columns of the random projection that row norms are estimated from."""

_COPIES = 3
"""CountSketches side by side, so that two rows that meet in one are told apart by the others."""

_BUCKETS = 4
"""Buckets of each of them per column of A."""

_UNIFORM = 0.1
"""Part of the probability that is given to all rows alike."""

_TICKETS = 1 << 30
"""Resolution of the probabilities: integers sum up exactly, in float32 problems too."""


def sampled_hessian(
    A: Matrix, at: Curvature, factor: Float[Array, "d d"], num_rows: int, key: Array
) -> Float[Array, "d d"]:
    """Estimate the diagonal part of ``hess_x L`` from ``num_rows`` rows; unbiased and symmetric.

    Row i stands for ``w_i^2 a_i a_i^T + sum_j s_ji (a_i - abar_j)(a_i - abar_j)^T``, negative
    weights included, and is drawn with a probability that is near the trace of that, with absolute
    weights, in the metric of the sum.
    """
    score_key, row_key = jax.random.split(key)
    centers = jnp.concatenate([at.f, at.g[None]]) @ A
    centers, g = centers[:-1], centers[-1]
    tickets = _tickets(leverage_scores(A, at, factor, centers, score_key))
    indices, weights = _draw(tickets, num_rows, row_key)
    rows = take_rows(A, indices)
    weights = weights.astype(rows.dtype)
    H = at.kappa * g[:, None] * g[None]
    H += rows.T @ ((weights * at.w2[indices])[:, None] * rows)
    for s, center in zip(at.s, centers, strict=True):
        # Centered before they are squared: a common offset of the rows cancels exactly.
        centered = rows - center[None]
        H += centered.T @ ((weights * s[indices])[:, None] * centered)
    return 0.5 * (H + H.T)


def leverage_scores(
    A: Matrix,
    at: Curvature,
    factor: Float[Array, "d d"],
    centers: Float[Array, "k d"],
    key: Array,
) -> Float[Array, " n"]:
    """Estimate the leverage scores ``tr(G^-1 G_i)`` of the Hessian's rows, G = sum of the G_i.

    ``G_i = w_i^2 a_i a_i^T + sum_j |s_ji| (a_i - abar_j)(a_i - abar_j)^T``. The first part of G is
    ``factor^T factor``, the rest the Gram matrix of a sketch; norms in its metric are those of a
    Gaussian projection onto 16 dimensions. Cost O(nnz(A) + d^3).
    """
    d = A.shape[1]
    sketch_key, projection_key = jax.random.split(key)
    roots = jnp.sqrt(jnp.abs(at.s))
    rows = jnp.concatenate([factor, sketch_rows(A, roots, centers, sketch_key)])
    # A ridge of the size of the rounding errors: dependent columns do no harm.
    norms = column_norms(rows)
    scale = jnp.where(norms > 0, norms, 1)
    ridge = (8 * d * jnp.finfo(A.dtype).eps) ** 0.5 * jnp.eye(d, dtype=A.dtype)
    R = triangular_factor(jnp.concatenate([rows / scale[None], ridge]))
    gaussian = jax.random.normal(projection_key, (d, _PROJECTIONS), A.dtype) / _PROJECTIONS**0.5
    whitened = _solve_triangular(R, gaussian) / scale[:, None]
    Z = A @ whitened
    scores = at.w2 * jnp.sum(Z**2, axis=1)
    for s, center in zip(at.s, centers, strict=True):
        scores += jnp.abs(s) * jnp.sum((Z - (center @ whitened)[None]) ** 2, axis=1)
    return scores


_solve_triangular = in_small_batches(
    jax.scipy.linalg.solve_triangular,
    lambda d, _: _PROJECTIONS * d**2,
)


def sketch_rows(
    A: Matrix, weights: Float[Array, "k n"], centers: Float[Array, "k d"] | None, key: Array
) -> Float[Array, "r d"]:
    """Sketch the rows ``weights_ji (a_i - center_j)``; the Gram matrices are close."""
    n, d = A.shape
    buckets = max(_BUCKETS * d, 64)
    sign_key, shift_key = jax.random.split(key)
    bits = jax.random.bits(sign_key, (n,), jnp.uint32)
    blocks = -(-n // buckets)
    shifts = jax.random.randint(shift_key, (_COPIES, len(weights), blocks), 0, buckets, jnp.int32)
    ones = jnp.ones((n, 1), A.dtype)

    def copy(k: int) -> Array:
        sketch = jnp.zeros((buckets, d), A.dtype)
        for j, weight in enumerate(weights):
            positive = (bits >> (k * len(weights) + j)) & 1 == 1
            signed = jnp.where(positive, weight, -weight)
            sketch += count_sketch(A, signed, shifts[k, j], buckets)
            if centers is not None:
                offsets = count_sketch(ones, signed, shifts[k, j], buckets)
                sketch -= offsets * centers[j][None]
        return sketch

    return jnp.concatenate([copy(k) for k in range(_COPIES)]) / _COPIES**0.5


def _tickets(scores: Float[Array, " n"]) -> Int[Array, " n"]:
    """Integers >= 1 that are proportional to the scores, mixed with a uniform share."""
    n, total = len(scores), jnp.sum(scores)
    uniform = jnp.full_like(scores, 1 / n)
    usable = (total > 0) & jnp.isfinite(total)
    share = jnp.where(usable, scores / jnp.where(usable, total, 1), uniform)
    share = _UNIFORM * uniform + (1 - _UNIFORM) * share
    return jnp.ceil(_TICKETS * share).astype(jnp.int32)


def _draw(
    tickets: Int[Array, " n"], num_rows: int, key: Array
) -> tuple[Int[Array, " k"], Float[Array, " k"]]:
    """Rows, ascending, one from each of ``num_rows`` equal stretches of tickets; their weights.

    A ticket is drawn with probability 1/stretch, so that the weight is stretch / tickets. What is
    drawn beyond the last ticket has weight zero.
    """
    ends = jnp.cumsum(tickets, dtype=jnp.int32)
    stretch = ends[-1] // num_rows + 1
    drawn = stretch * jnp.arange(num_rows, dtype=jnp.int32)
    drawn += jax.random.randint(key, (num_rows,), 0, stretch, jnp.int32)
    indices = jnp.minimum(jnp.searchsorted(ends, drawn, side="right"), len(tickets) - 1)
    weights = jnp.where(drawn < ends[-1], stretch / tickets[indices], 0)
    return indices, weights
