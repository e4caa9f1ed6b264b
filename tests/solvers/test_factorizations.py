"""Factorizations in many lanes, against NumPy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.solvers.factorizations import eigh, eigh_if, inverse_factor

FLOPS = {
    "syevd": lambda shape: 5 * shape[-1] ** 3,
    "potrf": lambda shape: shape[-1] ** 3 // 3,
    "trsm": lambda shape: shape[-2] ** 2 * shape[-1],
    "geqrf": lambda shape: 2 * shape[-2] * shape[-1] ** 2 - 2 * shape[-1] ** 3 // 3,
}
"""What jaxlib 0.10.2 takes for the cost of one matrix, from the shape of the result."""


def symmetric(seed, *shape):
    H = np.random.default_rng(seed).normal(size=(*shape, shape[-1]))
    return H + np.swapaxes(H, -1, -2)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 40, 90]), st.sampled_from([1, 3, 8]))
def test_eigenvectors_are_made_for_the_lanes_that_want_them(seed, size, d):
    rng = np.random.default_rng(seed)
    wanted = rng.random(size) < rng.random()
    H = symmetric(seed, size, d)
    given_lam, given_Q = np.full((size, d), 7.0), np.full(H.shape, 7.0)
    lam, Q = jax.vmap(eigh_if)(jnp.array(wanted), H, (given_lam, given_Q))
    norm = np.abs(H).sum(axis=-1).max()
    # Each of the two is off by less than d eps times the norm.
    expected = np.where(wanted[:, None], np.linalg.eigvalsh(H), given_lam)
    np.testing.assert_allclose(lam, expected, rtol=0, atol=4 * d * 2e-16 * norm)
    back = (np.asarray(Q) * np.asarray(lam)[:, None]) @ np.swapaxes(Q, -1, -2)
    np.testing.assert_allclose(back[wanted], H[wanted], rtol=0, atol=16 * d * 2e-16 * norm)
    assert (np.asarray(Q)[~wanted] == 7).all()


def test_only_those_lanes_are_factorized_that_want_it():
    """NaN in all the others: it would be seen if they were used, and nothing waits for it."""
    H = np.full((300, 4, 4), np.nan)
    H[17], H[298] = symmetric(0, 2, 4)
    wanted = np.isfinite(H[:, 0, 0])
    lam, _ = jax.vmap(eigh_if)(jnp.array(wanted), H, (jnp.zeros((300, 4)), jnp.zeros((300, 4, 4))))
    np.testing.assert_allclose(lam[wanted], np.linalg.eigvalsh(H[wanted]), atol=1e-13)
    assert (np.asarray(lam)[~wanted] == 0).all()


@pytest.mark.parametrize("shape", [(7,), (300,), (5, 60)])
def test_lanes_are_factorized_as_alone(shape):
    H = symmetric(0, *shape, 6)
    G = H @ np.swapaxes(H, -1, -2) + np.eye(6)
    inverse, lam = inverse_factor, lambda H: eigh(H)[0]
    for _ in shape:
        inverse, lam = jax.vmap(inverse), jax.vmap(lam)
    np.testing.assert_allclose(lam(H), np.linalg.eigvalsh(H), atol=1e-13)
    identity = np.broadcast_to(np.eye(6), G.shape)
    np.testing.assert_allclose(inverse(G) @ np.linalg.cholesky(G), identity, atol=1e-10)


@pytest.mark.parametrize(
    ("size", "n", "d", "solver", "expected"),
    [
        (2000, 12, 8, cr.TrustRegionNewton(), {"syevd", "potrf", "trsm"}),
        (40, 60, 30, cr.NewtonCG(), {"syevd", "potrf", "trsm"}),
        (40, 4000, 12, cr.SketchedNewton(), {"syevd", "potrf", "trsm", "geqrf"}),
    ],
)
def test_no_batch_is_split_over_threads_that_could_wait_for_each_other(
    size, n, d, solver, expected
):
    """JAX 0.10 splits from 200,000 operations on; two such batches at once could hang."""
    problem = cr.CopyrightRegression(
        np.random.default_rng(0).normal(size=(n, d)), np.full(n, 1 / n), n // 4, 0.1, 0.5
    )
    batch = jax.tree_util.tree_map(lambda leaf: jnp.stack([leaf] * size), problem)
    program = jax.jit(jax.vmap(lambda problem: cr.solve(problem, solver))).lower(batch).as_text()
    found = set()
    for name, results in re.findall(r"custom_call @lapack_d(\w+?)_ffi.*-> (.*)", program) + (
        re.findall(r"custom_call @blas_d(\w+?)_ffi.*-> (.*)", program)
    ):
        shape = [int(k) for k in re.search(r"tensor<([\dx]+)xf64>", results)[1].split("x")]
        if name in FLOPS:  # what forms Q of a QR factorization is not used and left out
            found.add(name)
            assert len(shape) < 3 or shape[0] * FLOPS[name](shape) < 200_000
    assert found == expected


@pytest.mark.parametrize("d", [24, 25, 48, 49, 100, 130])
def test_a_factor_by_blocks_is_that_of_numpy(d):
    M = np.random.default_rng(d).normal(size=(d, d))
    G = M @ M.T + d * np.eye(d)
    expected = np.linalg.inv(np.linalg.cholesky(G))
    error = 6 * d * 2.0**-52 * np.abs(expected).max()  # d eps cond(G), which is below 6
    np.testing.assert_allclose(inverse_factor(jnp.asarray(G)), expected, rtol=0, atol=error)
