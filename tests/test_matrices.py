"""Products with dense and sparse matrices against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

from copyreg_jax.matrices import (
    column_norms,
    congruence,
    extreme_singular_values,
    farthest_row,
    smallest_gram_eigenvalue,
    to_host,
    weighted_gram_norm,
)

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


@pytest.mark.parametrize("form", FORMS)
def test_extreme_singular_values_and_rows(form):
    A, weights = FORMS[form], RNG.normal(size=50)
    tall = A.T if form == "dense" else A.transpose()
    exact = np.linalg.svd(DENSE, compute_uv=False)
    assert extreme_singular_values(A) == (0.0, pytest.approx(exact[0]))  # wide
    assert extreme_singular_values(tall) == (pytest.approx(exact[-1]), pytest.approx(exact[0]))
    assert farthest_row(A) == pytest.approx(
        np.linalg.norm(DENSE - DENSE.mean(axis=0), axis=1).max()
    )
    gram = DENSE.T @ (weights[:, None] * DENSE)
    assert smallest_gram_eigenvalue(A, weights) == pytest.approx(np.linalg.eigvalsh(gram)[0])


def test_dependent_columns_have_the_singular_value_zero():
    column = RNG.normal(size=(50, 1))
    for form in (jnp.asarray, BCOO.fromdense):
        smallest, _ = extreme_singular_values(form(np.hstack([column, 3 * column])))
        assert smallest == 0
