"""The door: what is taken, what is turned away and with which words."""

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from jax.experimental.sparse import BCOO, BCSR, COO

import copyreg_jax as cr
from tests.test_imports import printed

A = np.arange(8.0).reshape(4, 2) / 8
B = np.full(4, 0.25)


def make(**changes):
    arguments = {"A": A, "b": B, "protected": 1, "gamma": 0.1, "w": 1.0, **changes}
    return cr.CopyrightRegression(**arguments)


def with_entry(array, index, value):
    changed = np.array(array, float)
    changed[index] = value
    return changed


def sparse(entries, columns, d):
    """One entry, in the last of four rows."""
    return scipy.sparse.csr_array((entries, columns, [0, 0, 0, 0, 1]), shape=(4, d))


def big_endian():
    csr = sparse(np.ones(1), [0], 2)
    csr.data = csr.data.astype(">f8")
    return csr


SINGLE = {"A": A.astype(np.float32), "b": B.astype(np.float32)}

CROSS = {"metric": "cross-entropy"}

BAD = {
    "nan in A": ({"A": with_entry(A, (2, 1), np.nan)}, r"A is nan at row 2, column 1"),
    "inf in A": ({"A": with_entry(A, (0, 0), np.inf)}, r"A is inf at row 0, column 0"),
    "nan in sparse A": ({"A": sparse([np.nan], [1], 2)}, r"A is nan at row 3, column 1"),
    "nan in b": ({"b": with_entry(B, 3, np.nan)}, r"b is nan at row 3"),
    "inf in w": ({"w": with_entry(B, 1, -np.inf)}, r"w is -inf at row 1"),
    "nan as scalar w": ({"w": np.nan}, r"w is nan at row 0"),
    "A is a vector": ({"A": B}, r"A has shape \(4,\); give \(n, d\)"),
    "A without rows": ({"A": np.ones((0, 2))}, r"A has shape \(0, 2\).*n >= 1"),
    "A without columns": ({"A": np.ones((4, 0))}, r"A has shape \(4, 0\).*d >= 1"),
    "A of words": ({"A": [["a", "b"]]}, r"A has dtype <U1; give real numbers"),
    "ragged A": ({"A": [[1.0], [1.0, 2.0]]}, r"A is not a numeric array"),
    "complex A": ({"A": A + 0j}, r"A has dtype complex128"),
    "half precision": ({"A": jnp.asarray(A, jnp.float16)}, r"A has dtype float16; use float32"),
    "long double": ({"A": A.astype(np.longdouble)}, r"A has dtype .*128"),
    "b too short": ({"b": B[:3]}, r"b has shape \(3,\); A has 4 rows, so give shape \(4,\)"),
    "b a scalar": ({"b": 0.5}, r"b has shape \(\)"),
    "w too long": ({"w": np.ones(5)}, r"w has shape \(5,\); A has 4 rows, so give one number or"),
    "no row protected": ({"protected": np.zeros(4, bool)}, r"protected is empty"),
    "all rows protected": ({"protected": np.ones(4, bool)}, r"protected marks all 4 rows"),
    "no index": ({"protected": np.array([], int)}, r"protected is empty"),
    "n1 = 0": ({"protected": 0}, r"protected = 0 rows of 4; give 1 <= n1 <= 3"),
    "n1 < 0": ({"protected": -1}, r"protected = -1 rows of 4"),
    "n1 = n": ({"protected": 4}, r"protected = 4 rows of 4"),
    "index too large": ({"protected": [0, 4]}, r"protected\[1\] = 4 is outside the rows 0..3"),
    "negative index": ({"protected": [-1]}, r"protected\[0\] = -1 is outside"),
    "index twice": ({"protected": [1, 1]}, r"protected names a row twice"),
    "float mask": ({"protected": np.array([0.5, 0, 0, 0])},
        r"protected has dtype float64.*give a boolean mask of shape \(4,\)"),
    "mask too short": ({"protected": np.ones(2, bool)}, r"protected has dtype bool and shape"),
    "a bool": ({"protected": True}, r"protected has dtype bool and shape \(\)"),
    "w < 0": ({"w": -0.5}, r"w is -0.5; give finite numbers >= 0"),
    "w < 0 at a row": ({"w": with_entry(B, 2, -0.25)}, r"w is -0.25 at row 2; give finite"),
    "a mask of integers": ({"protected": [0, 1, 1, 0]},
        r"protected names a row twice; if protected is a mask.*give protected != 0"),
    "a mask of floats": ({"protected": [0.0, 1, 1, 0]}, r"float64.*give protected != 0"),
    "gamma < 0": ({"gamma": -0.1}, r"gamma is -0.1; give a finite number >= 0"),
    "gamma nan": ({"gamma": np.nan}, r"gamma is nan"),
    "gamma inf": ({"gamma": np.inf}, r"gamma is inf"),
    "gamma too small": (SINGLE | {"gamma": 1e-50}, "gamma = 1e-50 is 0.0 in float32; use float64"),
    "gamma too large": (SINGLE | {"gamma": 1e39}, r"gamma = 1e\+39 is inf in float32"),
    "an integer beyond float64": ({"A": [[1, 0], [0, 2**53 + 1], [0, 0], [1, 1]]},
        r"A\[1, 1\] is 9007199254740993, an integer that float64 does not hold; pass floats if"),
    "an integer beyond float32": (SINGLE | {"w": 2**24 + 1},
        r"w is 16777217, an integer that float32 does not hold; use float64, or pass floats if"),
    "a sparse integer": ({"A": sparse([-(2**60) - 1], [1], 2)},
        r"A.data\[0\] is -1152921504606846977, an integer"),
    "a JAX integer": ({"b": jnp.array([0, 0, 2**62 + 1, 1])}, r"b\[2\] is 4611686018427387905, an"),
    "masked array": ({"A": np.ma.masked_equal(A, 0.5)}, "A is a masked array"),
    "BCOO with batches": ({"A": BCOO.fromdense(A, n_batch=1)}, "batch or dense dimensions"),
    "BCOO with rows": ({"A": BCOO.fromdense(A, n_dense=1)}, "batch or dense dimensions"),
    "BCSR with batches": ({"A": BCSR.fromdense(A[None], n_batch=1)}, "batch or dense dimensions"),
    "COO": ({"A": COO.fromdense(A)}, "A is a COO; give a BCOO, a BCSR or a SciPy"),
    "SciPy big-endian": ({"A": big_endian()}, "A is not a valid sparse matrix: .*dtype"),
    "SciPy outside": ({"A": sparse([1.0], [5], 2)}, "is not a valid sparse matrix: .*; rebuild"),
    "BCOO outside": ({"A": BCOO((jnp.ones(2), jnp.array([[0, 0], [9, 1]])), shape=(4, 2))},
        r"A.indices\[1\] = \[9, 1\] is outside of shape \(4, 2\)"),
    "too wide": ({"A": sparse([1.0], [0], 2**31)}, "needs n and d below"),
    "ragged protected": ({"protected": [[1], [1, 2]]}, "protected is not an array"),
    "gamma a vector": ({"gamma": B}, r"gamma has shape \(4,\); give one number"),
    "no such reading": ({"reading": "both"}, r"reading is 'both'; choose one of joint, block"),
    "no such metric": ({"metric": "kl"}, r"metric is 'kl'; choose one of squared, cross-entropy"),
    "negative target": (CROSS | {"b": with_entry(B, 2, -0.25)},
        r"b is -0.25 at row 2; the cross-entropy needs a target b >= 0"),
    "no protected target": (CROSS | {"b": [0.5, 0.0, 0.0, 0.5], "protected": [1, 2]},
        r"b is 0.0 at row 1 and at every other protected row.* or gamma 0"),
    "one row in a block": (CROSS | {"protected": [2], "reading": "block"},
        r"row 2 alone is protected.*protect two rows, or use reading 'joint' or gamma 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """By the constructor, and by `replace` if it takes that argument."""
    changes, message = BAD[name]
    replaced = changes.keys() <= {"gamma", "w", "reading", "metric"}
    for way in [make, make().replace] if replaced else [make]:
        with pytest.raises(cr.InputError, match=message) as caught:
            way(**changes)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "protected", [2, np.int64(2), [0, 1], np.array([1, 0]), np.array([True, True, False, False])]
)
def test_protected_in_all_its_forms(protected):
    problem = make(protected=protected)
    assert problem.protected.tolist() == [True, True, False, False]
    assert problem.n1 == 2


def test_integers_and_lists_become_the_default_float():
    problem = cr.CopyrightRegression([[1, 0], [0, 1]], [1, 0], 1, gamma=1, w=1)
    assert problem.dtype == np.float64
    assert problem.w.shape == (2,)


def test_dtypes_are_promoted_never_rounded():
    problem = cr.CopyrightRegression(**SINGLE, protected=1)
    assert problem.dtype == problem.gamma.dtype == np.float32
    assert cr.CopyrightRegression(SINGLE["A"], B, 1).dtype == np.float64
    assert cr.CopyrightRegression(SINGLE["A"], B.tolist(), 1).dtype == np.float32


def test_point_of_wrong_shape():
    with pytest.raises(cr.InputError, match=r"x has shape \(3,\); A has 2 columns"):
        make().value(np.ones(3))
    with pytest.raises(cr.InputError, match=r"v has shape \(1,\)"):
        make().hvp(np.ones(2), np.ones(1))


def test_callers_arrays_are_left_alone():
    sparse = scipy.sparse.csr_array((np.ones(3), [1, 0, 1], [0, 3]), shape=(1, 2))
    before = sparse.data.copy(), sparse.indices.copy()
    with pytest.raises(cr.InputError):
        cr.CopyrightRegression(sparse, [1.0], 1)
    assert np.array_equal(sparse.data, before[0])
    assert np.array_equal(sparse.indices, before[1])


def test_integers_beyond_32_bits_are_the_numbers_that_they_are():
    code = (
        "import numpy as np, copyreg_jax as cr\n"
        "A = np.array([[3_000_000_000], [-5]])\n"
        "print(cr.SoftmaxRegression(A, [0.5, 0.5]).A.tolist())"
    )
    assert printed(code) == "[[3000000000.0], [-5.0]]"


@pytest.mark.parametrize("offset", [0, 8])
def test_a_large_matrix_is_copied_wherever_it_lies(offset):
    """Also at a multiple of 64 bytes, where JAX would share its memory."""
    held = np.zeros(2**21 + 128, np.uint8)
    first = -held.ctypes.data % 64 + offset
    large = held[first : first + 2**21].view(float).reshape(-1, 2)
    problem = cr.SoftmaxRegression(large, np.zeros(len(large)))
    large[0, 0] = 1.0
    assert problem.A[0, 0] == 0.0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what memory was")
def test_a_large_matrix_needs_its_memory_once_more():
    code = (
        "import jax, numpy as np, copyreg_jax as cr\n"
        "jax.config.update('jax_enable_x64', True)\n"
        # ru_maxrss would be that of the process that started this one, if that is larger.
        "status = lambda: dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "peak = lambda: 1024 * int(status()['VmHWM'].split()[0])\n"
        "make = lambda A: cr.SoftmaxRegression(A, np.zeros(len(A)))\n"
        "make(np.ones((300, 1000)))\n"  # whatever is allocated once and for all
        "A = np.ones((40_000, 1000)); before = peak(); make(A)\n"
        "print((peak() - before) / A.nbytes)"
    )
    # A tenth for what else is allocated. jnp.asarray takes 2.0, less what the imports had freed.
    assert 0.5 <= float(printed(code)) <= 1.1


def test_repr_under_tracing():
    seen = []

    def look(gamma):
        seen.append(repr(make(gamma=gamma)))
        return gamma

    jax.jit(look)(0.1)
    assert seen == ["CopyrightRegression(n=4, d=2, reading='joint', traced)"]


def test_traced_protected_must_be_a_mask():
    mask = jnp.array([True, False, False, False])
    assert jax.jit(lambda m: make(protected=m).ell_1(jnp.zeros(2)))(mask) >= 0
    with pytest.raises(cr.InputError, match="traced protected must be a boolean mask"):
        jax.jit(lambda m: make(protected=m).ell_1(jnp.zeros(2)))(jnp.array([1, 0, 0, 0]))


def test_what_the_cross_entropy_can_not_have_with_gamma_it_can_without():
    for changes in ({"b": [0.0, 0.5, 0.25, 0.25]}, {"reading": "block"}):
        problem = make(gamma=0.0, metric="cross-entropy", **changes)
        assert np.isfinite(problem.gradient(np.ones(2))).all()
        with pytest.raises(cr.InputError, match="0 everywhere"):
            problem.replace(gamma=0.1)
    with pytest.raises(cr.InputError, match=r"b is -0\.25 at row 2"):
        make(b=with_entry(B, 2, -0.25)).replace(metric="cross-entropy")
    # Under tracing values can't be checked.
    assert jax.jit(lambda gamma: problem.replace(gamma=gamma).ell(np.ones(2)))(0.1) > 0


def test_metric_is_kept_and_shown_where_it_is_not_the_usual_one():
    problem = make(protected=2, metric="cross-entropy", reading="block")
    assert repr(problem) == (
        "CopyrightRegression(n=4, d=2, n1=2, gamma=0.1, reading='block', metric='cross-entropy', "
        "dtype=float64)"
    )
    leaves, structure = jax.tree_util.tree_flatten(problem)
    assert len(leaves) == 5
    assert repr(jax.tree_util.tree_unflatten(structure, leaves)) == repr(problem)
    assert problem.terms.metric == problem.replace(gamma=0.5).metric == "cross-entropy"
    usual = problem.replace(metric="squared")
    assert "metric" not in repr(usual)
    assert structure != jax.tree_util.tree_structure(usual)  # compiled apart
    plain = cr.SoftmaxRegression(A, B, metric="cross-entropy")
    assert jax.tree_util.tree_map(lambda a: a, plain).metric == "cross-entropy"
    assert repr(plain) == "SoftmaxRegression(n=4, d=2, metric='cross-entropy', dtype=float64)"


BLOCK = {"protected": 2, "reading": "block", "w": [0.0, 1.0, 1.0, 1.0]}


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """A problem on disk and a list that grows with each block read."""
    np.save(tmp_path / "A.npy", A)
    problem = make(A=cr.RowBlocks(tmp_path / "A.npy", block_bytes=32), **BLOCK)
    seen, read = [], cr.RowBlocks.read
    monkeypatch.setattr(cr.RowBlocks, "read", lambda A, k: (seen.append(k), read(A, k))[1])
    return problem, seen


@pytest.mark.parametrize(
    "changes",
    [
        {"gamma": 0.5},
        {"reading": "joint"},
        {"gamma": np.float64(0.5), "metric": "cross-entropy"},
        {"w": [0.0, 2.0, 3.0, 4.0]},
        {"w": 2.0},
    ],
)
def test_replace_keeps_the_rest_and_reads_nothing_of_a_again(changes, reads):
    problem, seen = reads
    changed = problem.replace(**changes)
    assert seen == []
    assert changed.A is problem.A
    assert changed.value([0.1, 0.2]) == make(**BLOCK | changes).value([0.1, 0.2])


def test_replace_reads_a_once_where_w_is_zero_on_other_rows(reads):
    problem, seen = reads
    changed = problem.replace(w=[1.0, 0.0, 1.0, 1.0])
    assert seen == list(range(problem.A.num_blocks))
    changed.replace(gamma=0.5)
    assert len(seen) == problem.A.num_blocks


def test_replace_takes_part_in_the_promotion():
    single = cr.CopyrightRegression(**SINGLE, protected=1)
    for changes in ({"gamma": np.array(0.5)}, {"w": np.ones(4)}):
        double = single.replace(**changes)
        for array in (double, double.A, double.b, double.w, double.gamma):
            assert array.dtype == np.float64
        assert double.value([0.1, 0.2]).dtype == np.float64
    assert single.replace(gamma=0.5, w=2.0).dtype == np.float32


def test_a_batch_is_not_replaced_in():
    batch = jax.vmap(lambda gamma: make(gamma=gamma))(jnp.array([0.1, 0.2]))
    with pytest.raises(cr.InputError, match="batch of problems"):
        batch.replace(gamma=0.5)


def test_each_w_is_warned_of_once_where_it_was_given():
    w = np.array([0.0, 1.0, 0.0, 0.0])

    def warned(work):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = work()
        assert all(w.category is cr.NotCoerciveWarning for w in caught)
        assert all(w.filename == __file__ for w in caught)
        return made, len(caught)

    _, count = warned(lambda: cr.SoftmaxRegression(A, B, w=w))
    assert count == 1
    problem, count = warned(lambda: make(w=w))
    assert count == 1
    assert warned(lambda: problem.replace(gamma=0.5, reading="block"))[1] == 0
    other, count = warned(lambda: problem.replace(w=2 * w))  # zeros as before
    assert count == 1
    assert warned(lambda: other.replace(w=1.0))[1] == 0
    assert warned(lambda: make().replace(w=w))[1] == 1
    traced = jax.jit(lambda p: p.replace(gamma=0.5).value(jnp.ones(2)))
    assert warned(lambda: traced(problem))[1] == 0


@given(
    A=arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.integers(-2, 2).map(float),
    ),
    data=st.data(),
)
def test_free_directions_are_counted_and_said_for_every_kind_of_matrix(A, data):
    n = len(A)
    w = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
    exact = np.linalg.matrix_rank(A) - np.linalg.matrix_rank(A * (w != 0)[:, None])
    for matrix in (A, scipy.sparse.csr_array(A), cr.RowBlocks(A, block_bytes=32)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cr.SoftmaxRegression(matrix, np.full(n, 1 / n), w)
        words = f"w is zero on {n - int(w.sum())} rows, which leaves {exact} direction(s)"
        assert [words in str(w.message) for w in caught] == ([True] if exact else [])


def test_sparse_and_dense_are_the_same_problem():
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((30, 70)) < 0.1, rng.normal(size=(30, 70)), 0)
    b, x, v = rng.dirichlet(np.ones(30)), rng.normal(size=70), rng.normal(size=70)
    unsorted = BCOO.fromdense(dense)
    unsorted = BCOO((unsorted.data[::-1], unsorted.indices[::-1]), shape=dense.shape)
    reference = cr.CopyrightRegression(dense, b, 10)
    scipys = scipy.sparse.csr_array, scipy.sparse.coo_matrix, scipy.sparse.bsr_array
    padded = BCOO.fromdense(dense, nse=np.count_nonzero(dense) + 3)
    for A in (*(kind(dense) for kind in (*scipys, BCSR.fromdense)), unsorted, padded):
        problem = cr.CopyrightRegression(A, b, 10)
        for of in (
            lambda p: p.value(x), lambda p: p.gradient(x),
            lambda p: p.hessian(x), lambda p: p.hvp(x, v),
        ):  # fmt: skip
            np.testing.assert_allclose(of(problem), of(reference), rtol=1e-12, atol=1e-12)


def test_sparse_matrices_and_jit():
    A, b = scipy.sparse.csr_array(np.eye(3)), jnp.array([0.5, 0.3, 0.2])
    made = jax.jit(lambda b: cr.CopyrightRegression(A, b, 1).value(jnp.ones(3)))(b)
    problem = cr.CopyrightRegression(A, b, 1)
    assert made == pytest.approx(problem.value(np.ones(3)))
    passed = jax.jit(lambda problem: problem.replace(gamma=0.2).value(jnp.ones(3)))(problem)
    assert passed == pytest.approx(problem.replace(gamma=0.2).value(np.ones(3)))
    with pytest.raises(cr.InputError, match="A is a BCOO that is traced by JAX; make the problem"):
        jax.jit(lambda A: cr.CopyrightRegression(A, b, 1).b)(BCOO.fromdense(jnp.eye(3)))


def test_float64_data_without_64_bit_mode_is_refused_with_the_line_to_add():
    code = (
        "import numpy as np, copyreg_jax as cr\n"
        "try: cr.CopyrightRegression(np.ones((3, 1)), [1.0, 0, 0], 1)\n"
        "except cr.PrecisionError as error: print(error)\n"
        "p = cr.CopyrightRegression(np.ones((3, 1), np.float32), [1.0, 0, 0], 1)\n"
        "print(p.dtype)\n"
        "try: cr.solve(p, rtol=1e-9)\n"
        "except cr.PrecisionError as error: print(error)"
    )
    data, dtype, rtol = printed(code).splitlines()
    assert data.startswith("A is float64, but JAX's 64-bit mode is off")
    assert dtype == "float32"
    assert rtol.startswith(
        "rtol = 1e-09 can't be reached in float32, where the smallest is 1.9e-06"
    )
    assert all('jax.config.update("jax_enable_x64", True)' in line for line in (data, rtol))
