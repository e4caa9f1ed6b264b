"""Factorizations of small matrices, in many lanes and many threads at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["eigh", "eigh_if", "in_small_batches", "inverse_factor", "triangular_factor"]

_BATCH_FLOPS = 100_000
"""Operations up to which a batch goes to LAPACK at once.

Beyond twice that, JAX 0.10 splits a batch and waits, in a thread of XLA's pool, for others of the
pool. Two batches at once can occupy all of these, and wait for ever. JAX 0.11 splits none.
"""

_LAPACK_ROWS = 24
"""Rows up to which LAPACK wakes no threads."""

_MAX_BLOCKED_ROWS = 1024
"""Rows up to which a factorization by blocks costs less than those threads do."""


def in_small_batches(
    factorize: Callable[..., Any], flops: Callable[..., int]
) -> Callable[..., Any]:
    """Return the function, which under ``jax.vmap`` calls LAPACK for a few lanes at a time.

    Parameters
    ----------
    factorize : callable
        Of arrays; it captures none.
    flops : callable
        How JAX estimates its operations, from the shape of its first argument.

    Examples
    --------
    >>> lowest = in_small_batches(lambda H: jnp.linalg.eigh(H)[0][0], lambda d, _: 5 * d**3)
    >>> jax.vmap(lowest)(jnp.arange(3.0)[:, None, None] * jnp.eye(2)).tolist()
    [0.0, 1.0, 2.0]
    """

    @jax.custom_batching.custom_vmap
    def of_stacks(*stacks: Array) -> Any:
        lanes = _lanes_per_call(flops(*stacks[0].shape[1:]))
        if lanes >= len(stacks[0]):
            return jax.vmap(factorize)(*stacks)
        return jax.lax.map(lambda each: factorize(*each), stacks, batch_size=lanes)

    of_stacks.def_vmap(_flattened(of_stacks))
    return lambda *arrays: _first(of_stacks(*(array[None] for array in arrays)))


def _lanes_per_call(flops: int) -> int:
    """How many lanes LAPACK gets at a time; on an accelerator, all."""
    return max(1, _BATCH_FLOPS // flops) if jax.default_backend() == "cpu" else 1 << 30


def _flattened(of_stacks: Callable[..., Any]) -> Callable[..., Any]:
    """The rule by which a stack of stacks is one longer stack, however deep they are nested."""

    def rule(size: int, batched: list[bool], *stacks: Array) -> tuple[Any, Any]:
        whole = [
            stack if own else jnp.broadcast_to(stack[None], (size, *stack.shape))
            for stack, own in zip(stacks, batched, strict=True)
        ]
        found = of_stacks(*(stack.reshape(-1, *stack.shape[2:]) for stack in whole))
        return (
            jax.tree_util.tree_map(lambda leaf: leaf.reshape(size, -1, *leaf.shape[1:]), found),
            jax.tree_util.tree_map(lambda leaf: True, found),
        )

    return rule


def _first(stacks: Any) -> Any:
    return jax.tree_util.tree_map(lambda stack: stack[0], stacks)


def _eigh(H: Float[Array, "d d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    lam, Q = jnp.linalg.eigh(H)
    return lam, Q


def _eigh_flops(d: int, _: int) -> int:
    return 5 * d**3


eigh = in_small_batches(_eigh, _eigh_flops)
"""Eigenvalues, ascending, and eigenvectors of a symmetric matrix, (d,) and (d, d)."""


@jax.custom_batching.custom_vmap
def _eigh_where(
    wanted: Bool[Array, " k"],
    H: Float[Array, "k d d"],
    lam: Float[Array, "k d"],
    Q: Float[Array, "k d d"],
) -> tuple[Float[Array, "k d"], Float[Array, "k d d"]]:
    """`eigh` of those matrices of a stack that are wanted; the rest is as given."""
    size, d = lam.shape
    if size == 1:
        return jax.lax.cond(wanted[0], lambda: jax.vmap(_eigh)(H), lambda: (lam, Q))
    lanes = min(size, _lanes_per_call(_eigh_flops(d, d)))
    places = jnp.nonzero(wanted, size=-(-size // lanes) * lanes, fill_value=size)[0]
    calls = -(-jnp.sum(wanted) // lanes)

    def body(carry: Any) -> Any:
        k, lam, Q = carry
        index = jax.lax.dynamic_slice_in_dim(places, k * lanes, lanes)
        new_lam, new_Q = jax.vmap(_eigh)(H.at[index].get(mode="clip"))
        return (
            k + 1, lam.at[index].set(new_lam, mode="drop"), Q.at[index].set(new_Q, mode="drop")
        )  # fmt: skip

    zero = jnp.zeros((), calls.dtype)
    _, lam, Q = jax.lax.while_loop(lambda carry: carry[0] < calls, body, (zero, lam, Q))
    return lam, Q


_eigh_where.def_vmap(_flattened(_eigh_where))


def eigh_if(
    wanted: Bool[Array, ""],
    H: Float[Array, "d d"],
    otherwise: tuple[Float[Array, " d"], Float[Array, "d d"]],
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """`eigh` where that is wanted, or else what is given.

    Under ``jax.vmap``, where a branch is taken for all lanes or none, only those lanes pay for it
    that want it.

    Examples
    --------
    >>> H, zero = jnp.array([[2.0, 1.0], [1.0, 2.0]]), (jnp.zeros(2), jnp.zeros((2, 2)))
    >>> [eigh_if(jnp.array(wanted), H, zero)[0].round(6).tolist() for wanted in (True, False)]
    [[1.0, 3.0], [0.0, 0.0]]
    """
    lam, Q = otherwise
    found: tuple[Array, Array] = _first(_eigh_where(wanted[None], H[None], lam[None], Q[None]))
    return found


triangular_factor = in_small_batches(
    lambda rows: jnp.linalg.qr(rows, mode="r"), lambda n, d: 2 * n * d * min(n, d)
)
"""R of the factorization of the rows, (n, d), into an orthogonal matrix and R, (min(n, d), d)."""


def _inverse_of_block(G: Float[Array, "m m"]) -> Float[Array, "m m"]:
    L = jax.lax.linalg.cholesky(G, symmetrize_input=False)
    eye = jnp.eye(len(G), dtype=G.dtype)
    return jax.lax.linalg.triangular_solve(L, eye, left_side=True, lower=True)


_inverse_of_small = in_small_batches(_inverse_of_block, lambda m, _: m**3)


@jax.jit  # also where A is on disk: the loop would be compiled at every call
def inverse_factor(G: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """``L^-1`` for the Cholesky factor L of G, block by block; NaN if there is none.

    Not by LAPACK as a whole: in the OpenBLAS that JAX takes from SciPy, a triangular solve of 32
    rows and more, or a factorization of some 128, wakes threads that spin for 100 ms after, and
    takes cores from all that follows: 40 ms of a run of 100 ms on two cores. By blocks it takes two
    to four times as long as by LAPACK, 5 ms for d = 512; for large d that is more than is gained.

    Examples
    --------
    >>> inverse_factor(jnp.array([[4.0, 2.0], [2.0, 2.0]])).tolist()  # L = [[2, 0], [1, 1]]
    [[0.5, 0.0], [-0.5, 1.0]]
    """
    d = len(G)
    blocks = -(-d // _LAPACK_ROWS) if d <= _MAX_BLOCKED_ROWS else 1
    if blocks == 1:
        whole: Array = _inverse_of_small(G)
        return whole
    m = -(-d // blocks)
    rest = m * blocks - d
    index = jnp.arange(m * blocks)
    eye = jnp.eye(m * blocks, dtype=G.dtype)

    def eliminate(k: Array, H: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(H, k * m, m)
        rows = _inverse_of_small(jax.lax.dynamic_slice_in_dim(rows, k * m, m, 1)) @ rows
        below = jnp.where(index[:, None] >= (k + 1) * m, rows[:, : len(H)].T, 0)
        return jax.lax.dynamic_update_slice_in_dim(H, rows, k * m, 0) - below @ rows

    padded = eye.at[:d, :d].set(G) if rest else G
    H = jax.lax.fori_loop(0, blocks, eliminate, jnp.concatenate([padded, eye], axis=1))
    return H[:d, len(eye) : len(eye) + d]
