"""Krylov methods for the Hessian: conjugate gradients in a region, and Lanczos' lowest vector."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from copyreg_jax._tracing import while_loop
from copyreg_jax.problems.objective import Scalar
from copyreg_jax.solvers.factorizations import eigh

__all__ = ["lanczos", "steihaug"]

_MAX_CG = 250

_LANCZOS_STEPS = 24

_RISK = 0.01
"""Probability with which Lanczos may miss a negative eigenvalue that counts."""


def steihaug(
    apply: Any, gradient: Array, radius: Scalar, tolerance: Scalar, image: Any, host: bool
) -> tuple[Array, Any, Int[Array, ""], Bool[Array, ""]]:
    """Solve ``H s = -gradient`` by conjugate gradients.

    Stops when the residual is no longer than ``tolerance``, or on the boundary ``|s| = radius`` if
    it comes there or meets negative curvature.

    ``apply(p)`` is the pair of H p and the image of p under another linear map, a pytree of arrays;
    ``image`` is that of zero. Returns s, its image, the number of products, and whether s is on the
    boundary.
    """

    def body(carry: Any) -> Any:
        return _cg_step(carry, *apply(carry[2]), radius)

    def going(carry: Any) -> Any:
        return _cg_going(carry, tolerance)

    first = jnp.dot(gradient, gradient)
    start = (jnp.zeros_like(gradient), -gradient, -gradient, first)
    carry = (*start, jnp.zeros((), jnp.int32), jnp.zeros((), bool), image)
    s, _, _, _, k, out, image = while_loop(host, going, body, carry)
    return s, image, k, out


@jax.jit
def _cg_going(carry: Any, tolerance: Scalar) -> Bool[Array, ""]:
    _, _, _, rr, k, out, _ = carry
    return ~out & (rr > tolerance**2) & (k < _MAX_CG)


@jax.jit
def _cg_step(carry: Any, Hp: Array, image_of_p: Any, radius: Scalar) -> Any:
    s, r, p, rr, k, _, image = carry
    curved, pp, sp = jnp.dot(p, Hp), jnp.dot(p, p), jnp.dot(s, p)
    alpha = rr / curved
    room = jnp.maximum(radius**2 - jnp.dot(s, s), 0)
    to_boundary = room / (sp + jnp.sqrt(sp**2 + pp * room))
    out = (curved <= 0) | (alpha >= to_boundary)
    step = jnp.where(out, to_boundary, alpha)
    s, r = s + step * p, r - step * Hp
    new = jnp.dot(r, r)
    image = jax.tree_util.tree_map(lambda a, b: a + step * b, image, image_of_p)
    return s, r, r + (new / rr) * p, new, k + 1, out, image


def lanczos(apply: Any, basis: Array, host: bool) -> tuple[Scalar, Array]:
    """Return the lowest Ritz value and its unit vector after up to 24 Lanczos steps.

    They start from a fixed random vector.

    After k steps the lowest eigenvalue is lower by at most ``(ln(165 sqrt(d)) / (2 k - 1))^2`` of
    the width of the spectrum, with a probability of 0.99 over the start (Kuczynski and
    Wozniakowski, SIAM J. Matrix Anal. Appl. 13 (1992), theorem 4.2). The steps end where that
    leaves no room for a negative one, with the width of Gershgorin's discs of what they have seen.
    """
    r, dtype = len(basis), basis.dtype
    used = jnp.any(basis.reshape(-1, r) != 0, axis=0)
    steps = min(_LANCZOS_STEPS, r)
    start = jnp.where(used, jax.random.normal(jax.random.key(0), (r,), dtype), 0)
    tiny = jnp.finfo(dtype).tiny
    k = np.arange(1, steps + 1, dtype=float)
    misses = (np.log(1.648 * r**0.5 / _RISK) / (2 * k - 1)) ** 2

    def body(carry: Any) -> Any:
        V, HV, v, norm, low, high, k = carry
        V = V.at[k].set(v)
        Hv = apply(v)
        HV = HV.at[k].set(Hv)
        center = jnp.dot(v, Hv)
        for _ in range(2):  # a second time for what rounding left of the first
            Hv = Hv - (V @ Hv) @ V
        new = jnp.linalg.norm(Hv)
        low = jnp.minimum(low, center - norm - new)
        high = jnp.maximum(high, center + norm + new)
        return V, HV, Hv / jnp.maximum(new, tiny), new, low, high, k + 1

    def going(carry: Any) -> Bool[Array, ""]:
        *_, low, high, k = carry
        clear = low > jnp.asarray(misses, dtype)[k - 1] * (high - low)
        return (k < steps) & ~((k > 0) & clear)

    zeros, inf = jnp.zeros((steps, r), dtype), jnp.asarray(jnp.inf, dtype)
    first = start / jnp.maximum(jnp.linalg.norm(start), tiny)
    carry = (zeros, zeros, first, jnp.zeros((), dtype), inf, -inf, jnp.zeros((), jnp.int32))
    V, HV, _, _, _, high, k = while_loop(host, going, body, carry)
    beyond = jnp.where(jnp.arange(steps, dtype=k.dtype) < k, 0, high)
    lam, Q = eigh(0.5 * (V @ HV.T + HV @ V.T) + jnp.diag(beyond))
    direction = Q[:, 0] @ V
    return lam[0], direction / jnp.maximum(jnp.linalg.norm(direction), tiny)
