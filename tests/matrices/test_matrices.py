"""Products with dense and sparse matrices against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.matrices import interface, sparse_product
from copyreg_jax.matrices.host_access import to_host
from copyreg_jax.matrices.sparse import SparseMatrix
from copyreg_jax.theory.spectra import (
    extreme_singular_values,
    farthest_row,
    smallest_gram_eigenvalue,
)
from tests.support.registry import cases

RNG = np.random.default_rng(0)
DENSE = np.where(RNG.random((50, 130)) < 0.2, RNG.normal(size=(50, 130)), 0)  # > 2 blocks of 64
FORMS = {"dense": jnp.asarray(DENSE), "sparse": SparseMatrix.from_scipy(DENSE)}


@pytest.mark.parametrize("form", FORMS)
def test_weighted_gram(form):
    weights, centers = RNG.normal(size=(2, 50)), RNG.normal(size=(2, 130))
    product = interface.weighted_gram(FORMS[form], jnp.asarray(weights), jnp.asarray(centers))
    apart = [DENSE - center for center in centers]
    exact = sum(rows.T @ (w[:, None] * rows) for w, rows in zip(weights, apart, strict=True))
    np.testing.assert_allclose(product, exact, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_norms(form):
    A = FORMS[form]
    np.testing.assert_allclose(interface.column_norms(A), np.linalg.norm(DENSE, axis=0), rtol=1e-14)
    for matrix, dense in ((A, DENSE), (A.T, DENSE.T)):
        weights = RNG.random(len(dense))
        largest = np.linalg.eigvalsh(dense.T @ (weights[:, None] * dense))[-1]
        found = interface.weighted_gram_norm(matrix, jnp.asarray(weights))
        np.testing.assert_allclose(found, largest, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_column_norms_neither_overflow_nor_underflow(scale):
    A = np.array([[3.0, 0.0], [4.0, 0.0]]) * scale
    for form in (jnp.asarray(A), SparseMatrix.from_scipy(A)):
        np.testing.assert_allclose(interface.column_norms(form), [5 * scale, 0], rtol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_to_host_is_exact(form):
    host = to_host(FORMS[form])
    assert host.dtype == np.float64
    assert np.array_equal(host if form == "dense" else host.toarray(), DENSE)


@pytest.mark.parametrize("form", FORMS)
def test_extreme_singular_values_and_rows(form):
    A, weights = FORMS[form], RNG.normal(size=50)
    exact = np.linalg.svd(DENSE, compute_uv=False)
    assert extreme_singular_values(A) == (0.0, pytest.approx(exact[0]))  # wide
    assert extreme_singular_values(A.T) == (pytest.approx(exact[-1]), pytest.approx(exact[0]))
    farthest = np.linalg.norm(DENSE - DENSE.mean(axis=0), axis=1).max()
    assert farthest_row(A) == pytest.approx(farthest)
    gram = DENSE.T @ (weights[:, None] * DENSE)
    assert smallest_gram_eigenvalue(A, weights) == pytest.approx(np.linalg.eigvalsh(gram)[0])


def test_dependent_columns_have_the_singular_value_zero():
    column = RNG.normal(size=(50, 1))
    for form in (jnp.asarray, SparseMatrix.from_scipy):
        smallest, _ = extreme_singular_values(form(np.hstack([column, 3 * column])))
        assert smallest == 0


@st.composite
def stored(draw):
    """A sparse matrix of SciPy, as untidy as it may be, and the same by its entries."""
    n, d = draw(st.sampled_from([1, 2, 7])), draw(st.sampled_from([1, 2, 40]))
    dtype = draw(st.sampled_from(["f8", "f4", "i4", "?"]))
    numbers = st.integers(0, 1) if dtype == "?" else st.integers(-1000, 1000)
    entry = st.tuples(st.integers(0, n - 1), st.integers(0, d - 1), numbers)
    entries = draw(st.lists(entry, max_size=60))  # unsorted, repeated, with zeros
    rows, columns, values = np.array(entries, int).reshape(-1, 3).T
    # In thirds, so that sums are rounded.
    values = values.astype(dtype) / np.array(3, dtype) if "f" in dtype else values.astype(dtype)
    coo = scipy.sparse.coo_array((values.astype(dtype), (rows, columns)), shape=(n, d))
    form = draw(st.sampled_from(["coo", "csr", "csc", "lil", "dok", "bsr"]))
    return coo.asformat(form), coo


@pytest.mark.slow
@cases(25)
@given(drawn=stored(), seed=st.integers(0, 9))
def test_products_of_any_sparse_matrix(drawn, seed):
    A, coo = drawn
    n, d = A.shape
    matrix = cr.SoftmaxRegression(A, np.zeros(n, np.float32), w=np.ones(n, np.float32)).A
    assert isinstance(matrix, SparseMatrix)
    assert matrix.shape == (n, d)
    exact, rng = coo.toarray().astype(float), np.random.default_rng(seed)
    dtype = np.float32 if A.dtype == np.float32 else np.float64
    assert matrix.dtype == dtype
    # Adding m products in any order is off by at most m eps times the sum of their sizes; the sum
    # of duplicates and the rounding of an entry add at most as many. An entry of bool adds by "or".
    eps = np.finfo(dtype).eps * 2 * (coo.nnz + 2)
    size = abs(coo.astype(float)).toarray()
    for k in ((), (3,)):
        v, u = rng.normal(size=(d, *k)).astype(dtype), rng.normal(size=(*k, n)).astype(dtype)
        assert (np.abs(matrix @ v - exact @ v) <= eps * (size @ abs(v))).all()
        assert (np.abs(u @ matrix - u @ exact) <= eps * (abs(u) @ size)).all()
    bound = eps * size
    assert (np.abs(matrix.todense() - exact) <= bound).all()
    assert (np.abs(to_host(matrix).toarray() - exact) <= bound).all()
    maxima = interface.column_maxima(matrix)
    assert (np.abs(maxima - abs(exact).max(axis=0)) <= bound.max(axis=0)).all()
    tidy = scipy.sparse.csr_array(coo)
    tidy.sum_duplicates()
    assert to_host(matrix).nnz == tidy.nnz  # with explicit zeros, without the padding


# (rows, columns, density): in windows of columns, one piece a row, many pieces a row, and empty.
SHAPES = [(40_000, 30, 0.1), (30, 40_000, 0.1), (300, 40, 0.5), (200, 90, 1.0), (9, 20, 0.0)]


def bound_of_product(matrix, v):
    """As above, with m at most the longest row."""
    terms = np.diff(matrix.tocsr().indptr).max() + 2
    return np.finfo(v.dtype).eps * 2 * terms * (abs(matrix) @ abs(v).astype(float))


@pytest.mark.quick(1)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_of_larger_matrices(shape, dtype):
    host = scipy.sparse.random_array(shape[:2], density=shape[2], format="csr", rng=RNG)
    A, exact = SparseMatrix.from_scipy(host.astype(dtype)), host.astype(dtype).astype(float)
    vector = jax.jit(lambda A, v: A @ v)
    for left, right in ((A, exact), (A.T, exact.T)):
        V = RNG.normal(size=(left.shape[1], 5)).astype(dtype)
        product, bound = right @ V.astype(float), bound_of_product(right, V)
        for found in (
            vector(left, V),
            jax.vmap(lambda v, A=left: A @ v, 1, 1)(V),
            jax.vmap(lambda v, A=left: v @ A.T, 1, 1)(V),
            jnp.stack([vector(left, v) for v in V.T], axis=1),
        ):
            assert found.dtype == dtype
            assert (np.abs(found - product) <= bound).all()
    assert (to_host(A) != exact).nnz == 0
    # What is compiled off CPU, and for a batch of matrices.
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), A)
    V = RNG.normal(size=(shape[1], 2)).astype(dtype)
    found = jax.vmap(lambda A: A @ V)(twice)
    assert (np.abs(found[1] - exact @ V.astype(float)) <= bound_of_product(exact, V)).all()


@pytest.mark.slow
def test_many_columns():
    """Nothing but the Hessian and what needs it forms a d x d matrix: here, of 20 GB."""
    rng = np.random.default_rng(1)
    host = scipy.sparse.random_array((60, 50_000), density=1e-3, format="csr", rng=rng)
    dense = host.toarray()
    A = SparseMatrix.from_scipy(host)
    largest = np.linalg.norm(dense, 2)
    assert interface.weighted_gram_norm(A, jnp.ones(60)) == pytest.approx(largest**2)
    assert extreme_singular_values(A) == (0.0, pytest.approx(largest))
    assert farthest_row(A) >= np.linalg.norm(dense - dense.mean(axis=0), axis=1).max()
    np.testing.assert_allclose(interface.column_norms(A), np.linalg.norm(dense, axis=0), rtol=1e-14)
    b, w = rng.dirichlet(np.ones(60)), np.r_[0, np.ones(59)]
    with pytest.warns(cr.NotCoerciveWarning):
        problem = cr.CopyrightRegression(host, b, 20, w=w)
    x = rng.normal(size=50_000)
    value, gradient = problem.value_and_gradient(x)
    assert np.isfinite(value)
    np.testing.assert_allclose(jax.grad(problem.value)(jnp.asarray(x)), gradient, atol=1e-11)
    assert cr.solve(problem, cr.GradientDescent(), max_steps=3).num_steps == 3


@pytest.mark.slow
def test_derivatives_and_loops():
    A, v = FORMS["sparse"], jnp.asarray(RNG.normal(size=130))
    for matrix, dense in ((A, DENSE), (A.T, DENSE.T)):
        x = v[: dense.shape[1]]

        def loss(A, x):
            return jnp.sum(jnp.sin(A @ x))

        gradient, H = jax.grad(loss, 1)(matrix, x), jax.hessian(loss, 1)(matrix, x)
        np.testing.assert_allclose(gradient, np.cos(dense @ x) @ dense, atol=1e-12)
        right = -dense.T @ (np.sin(dense @ x)[:, None] * dense)
        np.testing.assert_allclose(H, right, atol=1e-12)
        (found,) = jax.linear_transpose(lambda x, A=matrix: A @ x, x)(dense @ x)
        np.testing.assert_allclose(found, dense.T @ (dense @ x), atol=1e-11)
    powers = jax.lax.fori_loop(0, 3, lambda _, x: (A @ x) @ A / 100, v)
    expected = np.linalg.matrix_power(DENSE.T @ DENSE / 100, 3) @ v
    np.testing.assert_allclose(powers, expected, atol=1e-13 * np.abs(expected).max() * 130)
    with pytest.raises(cr.InputError, match="a sparse A is constant under differentiation"):
        jax.grad(lambda A: jnp.sum(A @ v), allow_int=True)(A)


def test_dtypes_and_shapes_of_products():
    A = FORMS["sparse"]
    assert (A.astype(np.float32) @ jnp.ones(130, np.float32)).dtype == np.float32
    assert (A.astype(np.float32) @ jnp.ones(130)).dtype == np.float64
    assert (jnp.ones(50, np.float32) @ A).dtype == np.float64
    assert isinstance(np.ones(50) @ A, jax.Array)
    assert (jnp.ones((3, 50)) @ A).shape == (3, 130)
    np.testing.assert_allclose(A @ np.ones(130, int), DENSE.sum(axis=1), atol=1e-13)
    for bad in (jnp.ones(50), jnp.ones((50, 130)), jnp.ones(()), jnp.ones((130, 2, 2))):
        with pytest.raises(cr.InputError, match=r"A of shape \(50, 130\) was multiplied with"):
            A @ bad
    with pytest.raises(cr.InputError):
        jnp.ones(130) @ A


def test_too_many_entries_are_refused():
    class Huge:
        shape, nnz, data, indices = (2, 3), 2**31, np.ones(1), np.zeros(1, int)
        indptr = np.array([0, 2**30, 2**31])

    with pytest.raises(cr.InputError, match=r"A has 2147483648 stored entries.*fewer than 2"):
        sparse_product.cut(Huge)


@pytest.mark.parametrize("form", FORMS)
def test_take_rows(form):
    indices = np.array([0, 3, 3, 49, 7])
    taken = interface.take_rows(FORMS[form], jnp.asarray(indices))
    np.testing.assert_array_equal(taken, DENSE[indices])


@pytest.mark.quick(1)
@pytest.mark.parametrize("buckets", [8, 25, 64])  # a rest, none, and one block only
@pytest.mark.parametrize("form", FORMS)
def test_count_sketch(form, buckets):
    weights, blocks = RNG.normal(size=50), -(-50 // buckets)
    shifts = RNG.integers(0, buckets, blocks)
    S = np.zeros((buckets, 50))
    rows = np.arange(50)
    S[(rows + shifts[rows // buckets]) % buckets, rows] = weights
    sketch = interface.count_sketch(FORMS[form], jnp.asarray(weights), jnp.asarray(shifts), buckets)
    np.testing.assert_allclose(sketch, S @ DENSE, atol=1e-13)


def test_equal_terms_are_added_up_without_a_bias():
    """In float32 a plain sum of 10,000 is off by 1e-4 of itself; compensated, by two roundings."""
    term = {"a": jnp.full(3, 0.1, np.float32)}
    total = lost = {"a": jnp.zeros(3, np.float32)}
    for _ in range(10_000):
        total, lost = interface.add_compensated(total, lost, term)
    exact = 10_000 * np.float64(np.float32(0.1))
    np.testing.assert_allclose(np.float64(total["a"]), exact, rtol=2 * 2.0**-24)
