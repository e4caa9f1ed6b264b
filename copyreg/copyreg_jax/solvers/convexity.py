"""Is L convex at x? Bounds of its Hessian from below, without the Hessian.

docs/theory/newton-cg.md, section 4, has the proofs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from copyreg_jax.matrices import Matrix, take_rows
from copyreg_jax.problems import curvature
from copyreg_jax.problems.objective import Mask, Scalar, Vector
from copyreg_jax.solvers.coordinates import Basis

__all__ = ["convexity_bound", "convexity_by_rows", "smallest_weight"]

_LEAST_CONVEXITY = {np.dtype(np.float32): 2.0**-6, np.dtype(np.float64): 0.0}
"""Convexity that counts. In float32 f is known to some ``eps sqrt(d) max |u|`` of itself, which for
logits up to a few thousand moves the bound, of third degree in f, by less."""

_SHARP = 7 / 8
"""Part of the regularization that the sharper bound of negative curvature may take."""

_HEAVY_ROWS = 256
"""Rows of negative curvature that are bounded one by one."""


def smallest_weight(w2: Vector | Scalar, absent: Mask | None) -> Scalar:
    """Return the smallest squared weight among the rows that are not absent."""
    return jnp.min(w2 if absent is None else jnp.where(absent, jnp.inf, w2))


@jax.jit
def convexity_bound(at: curvature.Curvature, absent: Mask | None) -> Scalar:
    """Return a c > 0 with ``H >= c A^T W^2 A``, or minus infinity if none is seen. O(n).

    With n = max(-s, 0), S its sum and h = f - n / S, the negative part of a centered term is
    ``diag(n) - n n^T / S + S h h^T``. It is at most ``max n_i / w_i^2 + S sum h_i^2 / w_i^2`` times
    W^2; and at most beta W^2 if ``e = beta w^2 - n > 0`` and the Schur complement of the rest is
    positive (docs/theory/newton-cg.md, section 4).
    """
    w2 = jnp.broadcast_to(at.w2, at.g.shape)
    w2 = (w2 if absent is None else jnp.where(absent, 1, w2))[None]
    n = jnp.maximum(-at.s, 0)
    rough, S, r = _share_of_weights(at.f, n, w2)
    e = _SHARP / len(n) * w2 - n
    ratio = n / e
    one, two, three = (jnp.sum(x, axis=1) for x in (r * (r / e), r * ratio, n * ratio))
    rest = one - two * (two / jnp.where(S > 0, S + three, 1))
    # With room for the rounding of the sums in float32.
    sharp = (jnp.min(e, axis=1) > 0) & (rest + one / 1024 < 1)
    bound = jnp.maximum(1 - rough, jnp.where(jnp.all(sharp), 1 - _SHARP, -jnp.inf))
    return _if_seen(bound, at, absent)


@jax.jit
def convexity_by_rows(
    A: Matrix, at: curvature.Curvature, centers: Float[Array, "k d"], basis: Basis, scale: Scalar
) -> Scalar:
    """`convexity_bound` without the rows that bend most, whose part is bounded by their leverage.

    That of a row is ``|B^T (a_i - abar)|^2`` with the mean rows ``centers`` of the terms and a
    basis B in which ``scale A^T W^2 A`` is at least the identity. The largest eigenvalue of what
    these rows bend is at most its Frobenius norm. A is an array. Cost O(n + 256 d^2).
    """
    w2 = jnp.broadcast_to(at.w2, at.g.shape)[None]
    n, heavy = jnp.maximum(-at.s, 0), jnp.zeros_like(scale)
    for j, center in enumerate(centers):
        _, rows = jax.lax.top_k(n[j] / w2[0], min(_HEAVY_ROWS, A.shape[0]))
        own = jnp.sqrt(n[j, rows])[:, None] * ((take_rows(A, rows) - center[None]) @ basis)
        heavy += jnp.linalg.norm(own @ own.T)
        n = n.at[j, rows].set(0)
    return _if_seen(1 - scale * heavy - _share_of_weights(at.f, n, w2)[0], at, None)


def _share_of_weights(
    f: Float[Array, "k n"], n: Float[Array, "k n"], w2: Float[Array, "1 n"]
) -> tuple[Scalar, Float[Array, " k"], Float[Array, "k n"]]:
    """How many times W^2 the negative parts are at most, by the inequality of Cauchy and Schwarz.

    And the sums S of n, and ``sqrt(S) h``.
    """
    S = jnp.sum(n, axis=1)
    h = f - n / jnp.where(S > 0, S, 1)[:, None]
    r = jnp.sqrt(S)[:, None] * h  # no quotient below is beyond the floats, however large w is
    return jnp.sum(jnp.max(n / w2, axis=1) + jnp.sum(r * (r / w2), axis=1)), S, r


def _if_seen(bound: Scalar, at: curvature.Curvature, absent: Mask | None) -> Scalar:
    """The bound where it counts, or minus infinity."""
    # What underflow may have taken from each of s would count against smaller weights.
    limits = jnp.finfo(bound.dtype)
    least = float(limits.tiny) * at.s.size / float(limits.eps)
    counts = (smallest_weight(at.w2, absent) > least) & (bound > _LEAST_CONVEXITY[bound.dtype])
    # Where L is infinite s is NaN. A maximum over thousands may drop that on a CPU.
    counts &= jnp.isfinite(at.kappa) & jnp.all(jnp.isfinite(at.s))
    return jnp.where(counts, bound, -jnp.inf)
