"""Products with dense and sparse matrices against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

from copyreg_jax.matrices import column_norms, congruence, to_host, weighted_gram_norm

RNG = np.random.default_rng(0)
DENSE = np.where(RNG.random((50, 130)) < 0.2, RNG.normal(size=(50, 130)), 0)  # > 2 blocks of 64
FORMS = {"dense": jnp.asarray(DENSE), "sparse": BCOO.fromdense(DENSE)}


@pytest.mark.parametrize("form", FORMS)
def test_congruence(form):
    S = RNG.normal(size=(50, 50))
    product = congruence(FORMS[form], lambda z: S @ z)
    np.testing.assert_allclose(product, DENSE.T @ S @ DENSE, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_norms(form):
    A, weights = FORMS[form], RNG.random(50)
    np.testing.assert_allclose(column_norms(A), np.linalg.norm(DENSE, axis=0), rtol=1e-14)
    largest = np.linalg.eigvalsh(DENSE.T @ (weights[:, None] * DENSE))[-1]
    np.testing.assert_allclose(weighted_gram_norm(A, jnp.asarray(weights)), largest, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_column_norms_neither_overflow_nor_underflow(scale):
    A = np.array([[3.0, 0.0], [4.0, 0.0]]) * scale
    for form in (jnp.asarray(A), BCOO.fromdense(A)):
        np.testing.assert_allclose(column_norms(form), [5 * scale, 0], rtol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_to_host_is_exact(form):
    host = to_host(FORMS[form])
    assert host.dtype == np.float64
    assert np.array_equal(host if form == "dense" else host.toarray(), DENSE)
