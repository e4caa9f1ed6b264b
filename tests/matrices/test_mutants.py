"""Bugs in the products of sparse matrices, planted one at a time, are each found by SciPy."""

import functools

import jax
import numpy as np
import pytest
import scipy.sparse

from copyreg_jax.matrices import sparse
from tests.support.mutants import planted


@functools.cache
def sparse_matrices():
    rng = np.random.default_rng(0)
    shapes = ((9, 5, 0.2), (7, 40, 0.9), (3, 40_000, 0.1))
    return [
        scipy.sparse.csr_array(scipy.sparse.random_array(s[:2], density=s[2], rng=rng))
        for s in shapes
    ]


def disagreements():
    """Largest absolute difference to SciPy, for each matrix."""
    return map(_disagreement, sparse_matrices())


def _disagreement(host) -> float:
    """Of products, their derivatives and norms."""
    A, rng = sparse.SparseMatrix.from_scipy(host), np.random.default_rng(1)
    n, d = host.shape
    v, V, u = rng.normal(size=d), rng.normal(size=(d, 6)), rng.normal(size=n)
    many, stored = jax.tree.map(lambda leaf: leaf[None], A), sparse._to_host(A)
    pairs = (
        (A @ v, host @ v),
        (A @ V, host @ V),
        (A @ V[:, :3], host @ V[:, :3]),
        (u @ A, u @ host),
        (jax.vmap(lambda A: A @ v)(many)[0], host @ v),
        (jax.vmap(lambda A: A @ V)(many)[0], host @ V),
        (jax.vmap(lambda P: A @ P)(np.stack([V, 2 * V]))[1], 2 * host @ V),
        (jax.grad(lambda v: u @ (A @ v))(v), u @ host),
        (jax.jvp(lambda v: A @ v, (v,), (2 * v,))[1], 2 * host @ v),
        (stored.toarray(), host.toarray()),
        (stored.nnz, host.nnz),
        (sparse._column_norms(A), np.sqrt((host * host).sum(axis=0))),
    )
    return max(float(np.abs(mine - theirs).max()) for mine, theirs in pairs)


@pytest.mark.slow
def test_the_sparse_products_as_they_are():
    assert max(disagreements()) < 1e-11


BUGS = {
    "padding as entries": ("matrices.sparse:_csr",
        "np.arange(len(data))[:, None] < np.asarray(A.rows.filled)", "np.ones(data.shape, bool)"),
    "pieces of one row only": ("matrices.sparse_product:cut", "run % n", "run"),
    "order of the windows": ("matrices.sparse_product:cut",
        "indices // _WINDOW * n + rows", "rows * windows + indices // _WINDOW"),
    "last piece lost": ("matrices.sparse_product:_product",
        "for i in range(1, width):\n    total += pieces.data[i] * gather(v, pieces.columns[i])",
        "total += 0"),
    "columns not unpadded": ("matrices.sparse_product:_product",
        "jnp.sum((runs @ V).reshape(-1, n, V.shape[1]), axis=0)[:, :k]",
        "jnp.sum((runs @ V).reshape(-1, n, V.shape[1]), axis=0)[:, -k:]"),
    "batch in the wrong axis": ("matrices.sparse_product:_batch",
        "(product.reshape(-1, size, k), 1)", "(product.reshape(-1, k, size), 2)"),
    "the branch not taken": ("matrices.sparse_product:_product",
        "pieces.starts[0] == 0", "pieces.starts[0] != 0"),
    "the first vector only": ("matrices.sparse_product:_product",
        "jax.lax.cond(first, product, lambda v: jnp.zeros(n, v.dtype), V[:, i])",
        "product(V[:, 0])"),
}  # fmt: skip


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", BUGS)
def test_bug_is_found(name):
    try:
        with planted(*BUGS[name], compiled=True):
            found = any(not gap < 1e-6 for gap in disagreements())
    except (TypeError, ValueError, IndexError):  # the shapes disagree
        found = True
    assert found
