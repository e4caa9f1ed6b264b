"""A in files: products against NumPy, solves against those in memory, one reading per product."""

import copy
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
import scipy.sparse
import scipy.special
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.checker import archive
from copyreg_jax.checker.archive import StoredFile
from copyreg_jax.matrices import interface
from copyreg_jax.matrices.host_access import to_host
from copyreg_jax.problems import curvature
from tests.support.registry import METRICS, PROBLEMS, READINGS, SOLVERS, cases, random_problem

RNG = np.random.default_rng(0)
N, D = 5000, 6  # more than two pieces of a block, and a rest
DENSE = np.where(RNG.random((N, D)) < 0.6, RNG.normal(size=(N, D)), 0)
ON_DISK = ["npy", "shards", "fortran", "big-endian", "one block", "float32", "npz"]
FORMS = [*ON_DISK, "memmap", "slice"]


@jax.tree_util.register_static
class Counted(cr.RowBlocks):
    """Remembers which blocks were read, also by copies in another dtype."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.numbers = []

    def read(self, number):
        self.numbers.append(number)
        return super().read(number)


def written(folder, form, A=DENSE):
    """``A`` on disk, in one of the forms; float32 is of the rounded A."""
    path, small = folder / "A.npy", {"block_bytes": 700 * 8 * A.shape[1]}
    if form in ("npz", "shards"):
        files = [folder / f"{i}.{'npz' if form == 'npz' else 'npy'}" for i in range(3)]
        for file, rows in zip(files, np.split(A, [len(A) // 7, len(A) // 2]), strict=True):
            if form == "npz":
                scipy.sparse.save_npz(file, scipy.sparse.csr_array(rows))
            else:
                np.save(file, rows)
        return Counted(files, **small)
    if form == "slice":
        np.save(path, np.concatenate([A[:1], A], axis=0))
        return Counted(np.load(path, mmap_mode="r")[1:], **small)
    dtypes = {"float32": np.float32, "big-endian": ">f8"}
    np.save(path, np.asarray(A, dtypes.get(form), order="F" if form == "fortran" else "C"))
    if form == "memmap":
        return Counted(np.load(path, mmap_mode="r"), **small)
    return Counted(path, **({} if form == "one block" else small))


def dense(matrix):
    return matrix.toarray() if scipy.sparse.issparse(matrix) else matrix


@pytest.fixture(params=FORMS)
def stored(request, tmp_path):
    """A in files, in float64 arithmetic, and the same in memory."""
    A = written(tmp_path, request.param).astype(np.float64)
    exact = DENSE.astype(np.float32) if request.param == "float32" else DENSE
    assert A.num_blocks == {"one block": 1, "npz": 3, "float32": 4}.get(request.param, 8)
    return A, exact.astype(np.float64)


def read_once(A):
    """Whether each block was read once since the last call."""
    once = A.numbers == list(range(A.num_blocks))
    A.numbers.clear()
    return once


@pytest.mark.quick(1)
def test_products_read_each_block_once(stored):
    A, exact = stored

    # Sums of at most N terms of size about one, in another order: off by some N eps, 1e-12.
    def check(found, right, atol=1e-11):
        assert read_once(A)
        np.testing.assert_allclose(found, right, rtol=1e-11, atol=atol)

    for k in ((), (3,)):
        v, u = RNG.normal(size=(D, *k)), RNG.normal(size=(*k, N))
        check(A @ jnp.asarray(v), exact @ v)
        check(jnp.asarray(u) @ A, u @ exact)
    weights, v, shifts = RNG.random((2, N)), RNG.normal(size=D), RNG.normal(size=2)
    found, sums, logits = interface.weighted_product(A, *map(jnp.asarray, (v, weights, shifts)))
    terms = weights * (exact @ v - shifts[:, None])
    check(found, terms.sum(axis=0) @ exact)
    np.testing.assert_allclose(sums, terms.sum(axis=1), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(logits, exact @ v, rtol=1e-11, atol=1e-11)
    of_rows, of_columns = interface.two_products(A, jnp.asarray(u), jnp.asarray(v))
    check(of_rows, u @ exact)
    np.testing.assert_allclose(of_columns, exact @ v, rtol=1e-11, atol=1e-11)
    check(interface.squared_column_norms(A, jnp.asarray(weights[0])), weights[0] @ exact**2)
    root, basis = jnp.asarray(np.sqrt(weights[0])), jnp.asarray(RNG.normal(size=(D, D)))
    plain = np.asarray(root)[:, None] * exact
    for turn, B in ((basis, plain @ np.asarray(basis)), (None, plain)):
        check(interface.gram(A, root, turn, jnp.float64), B.T @ B, 1e-10)
    both = interface.gram_and_product(A, root, jnp.float64, jnp.asarray(u[0]))
    check(np.vstack(both), np.vstack([plain.T @ plain, u[0] @ exact]), 1e-10)
    largest = np.linalg.eigvalsh(plain.T @ plain)[-1]
    check(interface.weighted_gram_norm(A, jnp.asarray(weights[0])), largest, 0)
    single = interface.gram(A, root, None, jnp.float32)
    assert single.dtype == np.float32
    # Each product of rounded numbers is off by 3 eps at most, a sum of N by as many more as it has
    # terms, with blocks far fewer: N eps of the sum of sizes is sure.
    bound = (N + 3) * 2.0**-24 * (np.abs(plain).T @ np.abs(plain))
    assert (np.abs(single - plain.T @ plain) <= bound).all()


def test_what_else_is_asked_of_a_matrix(stored):
    A, exact = stored
    np.testing.assert_array_equal(interface.column_maxima(A), np.abs(exact).max(axis=0))
    np.testing.assert_allclose(interface.column_norms(A), np.linalg.norm(exact, axis=0), rtol=1e-12)
    host = to_host(A)
    assert np.array_equal(dense(host), exact)
    assert interface.num_entries(A) == (host.nnz if scipy.sparse.issparse(host) else N * D)
    weights, shifts = RNG.normal(size=N), RNG.integers(0, 8, -(-N // 8))
    sketch = jnp.asarray(weights), jnp.asarray(shifts), 8
    apart = jnp.asarray(weights[None]), jnp.asarray(RNG.normal(size=(1, D)))
    for work, arguments, atol in (
        (interface.count_sketch, sketch, 1e-12), (interface.weighted_gram, apart, 1e-11)
    ):  # fmt: skip
        inside = work(jnp.asarray(exact), *arguments)
        np.testing.assert_allclose(work(A, *arguments), inside, atol=atol)
    np.testing.assert_allclose(interface.row_norms(A), np.linalg.norm(exact, axis=1), rtol=1e-6)


@pytest.mark.parametrize(("form", "dtype", "start", "reads"), [
    (("joint", "squared"), "float32", "zero", 4),
    (("joint", "squared"), "float64", "zero", 4),
    (("block", "squared"), "float64", "zero", 4),
    (("joint", "cross-entropy"), "float64", "zero", 4),
    (("block", "cross-entropy"), "float64", "zero", 4),
    (("joint", "squared"), "float64", "given", 6),
    (("joint", "squared"), "float64", "barrier", 6),
])  # fmt: skip
def test_a_solve_reads_as_often_as_the_docs_say(monkeypatch, form, dtype, start, reads, tmp_path):
    """docs/how-to/larger-than-memory.md: 4 or 6, and one a step and one a CG step on top."""
    problem = random_problem(0, 200, 5, w=1.0, gamma=1e-5)
    np.save(tmp_path / "A.npy", np.asarray(problem.A, dtype))
    b, w = (np.asarray(vector, dtype) for vector in (problem.b, problem.w))
    if start == "barrier":  # f = b at zero, where ell_1 is zero
        b = np.full_like(b, 1 / len(b))
    x0 = np.full(5, 0.1) if start == "given" else None
    rest = b, problem.protected, np.float64(1e-5), w, *form
    inside = cr.solve(cr.CopyrightRegression(problem.A.astype(dtype), *rest), x0=x0)
    blocks, counted = cr.RowBlocks.blocks, []
    monkeypatch.setattr(cr.RowBlocks, "blocks", lambda A: counted.append(A) or blocks(A))
    A = cr.RowBlocks(tmp_path / "A.npy", block_bytes=2048)
    solution = cr.solve(cr.CopyrightRegression(A, *rest), x0=x0)
    assert solution.status is cr.Status.CONVERGED
    assert solution.num_steps == inside.num_steps > 0
    # Twice the rtol of each, by which L may be above its minimum.
    rtol = {"float32": 2e-4, "float64": 2e-10}[dtype]
    np.testing.assert_allclose(solution.value, inside.value, rtol=rtol)
    more = 0 if solution.second_order is cr.SecondOrder.CONVEX else 4
    assert (more > 0) == (start == "barrier")
    assert len(counted) == reads + solution.num_steps + solution.num_hvps + more


@pytest.mark.parametrize("scale", [1e2, 1e8])
def test_a_start_far_away_ends_as_in_memory(scale):
    """The logits of the start leave their rounding errors in those that steps add up."""
    problem = random_problem(0, 200, 5, w=1.0, gamma=1e-4)
    A, b, mask = np.asarray(problem.A), problem.b, problem.protected
    x0 = scale * np.random.default_rng(1).normal(size=5)
    far = cr.solve(cr.CopyrightRegression(cr.RowBlocks(A), b, mask, 1e-4), x0=x0)
    near = cr.solve(cr.CopyrightRegression(A, b, mask, 1e-4), x0=x0)
    assert far.status is near.status is cr.Status.CONVERGED


def ill_conditioned(seed, condition, n=300, d=6):
    """Targets near a softmax of the rows, whose columns cancel."""
    rng = np.random.default_rng(seed)
    U, _ = np.linalg.qr(rng.normal(size=(n, d)))
    V, _ = np.linalg.qr(rng.normal(size=(d, d)))
    sizes = np.geomspace(1, 1 / condition, d) * n**0.5
    A = (U * sizes) @ V.T
    u = A @ (V @ (rng.normal(size=d) / sizes * n**0.5)) * 0.7 + 0.5 * rng.normal(size=n)
    return cr.CopyrightRegression(A, scipy.special.softmax(u), range(100), 1e-4, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("condition", [1e5, 1e7])
def test_cancelling_columns_stall_no_run(condition):
    """L is that of the logits which the next search starts from, to the last digit."""
    for seed in range(12):
        problem = ill_conditioned(seed, condition)
        A = cr.RowBlocks(np.asarray(problem.A))
        cr.solve(cr.CopyrightRegression(A, **vars(problem.terms))).raise_for_status()


@pytest.mark.quick(1)
@pytest.mark.parametrize("form", FORMS)
def test_a_hessian_vector_product_reads_once(form, tmp_path):
    A = written(tmp_path, form).astype(np.float64)
    b = RNG.dirichlet(np.ones(N))
    problem = cr.CopyrightRegression(A, b, N // 3, 1e-3, 0.1)
    assert read_once(A)  # the check for what is not finite
    inside = cr.CopyrightRegression(dense(to_host(A)), b, N // 3, 1e-3, 0.1)
    x, v = RNG.normal(size=(2, D))
    value, gradient = problem.value_and_gradient(x)
    np.testing.assert_allclose(value, inside.value(x), rtol=1e-12)
    at = curvature.curvature(problem.logits(x), problem.terms)
    _, operator = curvature.linearize(A, at, problem.b)
    A.numbers.clear()
    product, _ = curvature.apply(A, operator, jnp.asarray(v))
    assert read_once(A)
    for found, right in (
        (gradient, inside.gradient(x)),
        (problem.hvp(x, v), inside.hvp(x, v)),
        (problem.hessian(x), inside.hessian(x)),
        (product, inside.hvp(x, v)),
    ):
        # Relative to the sizes that are added: |A|^T |w^2 A x| is some 1e2 here.
        np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-11)


def test_a_damaged_byte_of_a_sparse_shard(tmp_path):
    """Its products are right or refused by its name, and nothing else happens."""
    rows, path, said = scipy.sparse.csr_array(DENSE[:20]), tmp_path / "a.npz", []
    scipy.sparse.save_npz(path, rows)
    content, right = path.read_bytes(), rows @ np.ones(D)
    for place in range(0, len(content), 5):
        damaged = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        other = tmp_path / f"{place}.npz"  # of one name only one content is taken
        other.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(cr.RowBlocks(other) @ jnp.ones(D), right)
        except cr.InputError as error:
            said.append(other.name in str(error))
    assert len(said) > 100
    assert all(said)


@cases(15)
@given(
    n=st.integers(1, 9), d=st.integers(1, 3), cut=st.integers(0, 8), block_bytes=st.integers(1, 200)
)
def test_any_shape_and_size_of_block(n, d, cut, block_bytes):
    A = np.arange(1.0, n * d + 1).reshape(n, d)
    parts = [rows for rows in np.split(A, [min(cut, n)]) if len(rows)]
    blocks = cr.RowBlocks(parts, block_bytes=block_bytes)
    assert blocks.shape == (n, d)
    np.testing.assert_allclose(blocks @ jnp.ones(d), A.sum(axis=1))
    np.testing.assert_allclose(jnp.ones(n) @ blocks, A.sum(axis=0))


def in_blocks(problem, folder):
    """The same problem with A in files, in small blocks."""
    host = to_host(problem.A)
    A = written(folder, "npz" if scipy.sparse.issparse(host) else "npy", dense(host))
    if isinstance(problem, cr.CopyrightRegression):
        return cr.CopyrightRegression(A, **vars(problem.terms))
    return cr.SoftmaxRegression(A, problem.b, problem.w, problem.metric)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_minimizer_is_that_of_the_matrix_in_memory(name, tmp_path):
    problem = PROBLEMS[name]()
    # Some L are symmetric about zero. From logits of 20 the basin depends on rounding.
    sizes = np.abs(dense(to_host(problem.A))).max(axis=0)
    x0 = np.linspace(0.1, 0.2, problem.d) / np.where(sizes > 0, sizes, 1)
    on_disk = in_blocks(problem, tmp_path)
    # Before the rounding of sums in another order counts.
    steps = [cr.solve(p, None, x0, rtol=1e-6).num_steps for p in (problem, on_disk)]
    assert steps[0] == steps[1]
    expected = cr.solve(problem, cr.NewtonCG(), x0)
    found = cr.solve(on_disk, x0=x0)
    assert found.status is expected.status is cr.Status.CONVERGED
    assert found.second_order is expected.second_order
    np.testing.assert_allclose(found.x, expected.x, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("metric", METRICS)
def test_float32_and_other_solvers(reading, metric, tmp_path):
    problem = in_blocks(random_problem(3, 400, 5, reading=reading, metric=metric), tmp_path)
    best = cr.solve(problem)
    A = cr.RowBlocks(np.asarray(to_host(problem.A), np.float32), block_bytes=999)
    parts = vars(problem.terms) | {
        name: np.asarray(getattr(problem, name), np.float32) for name in ("b", "gamma", "w")
    }
    single = cr.solve(cr.CopyrightRegression(A, **parts))
    assert single.x.dtype == np.float32
    assert single.status is cr.Status.CONVERGED
    # L is at most 2e-4 L above its minimum, and its Hessian at least w^2 A^T A, some 400.
    np.testing.assert_allclose(single.x, best.x, atol=1e-3)


@pytest.mark.quick(1)
@pytest.mark.parametrize("solver", ["gradient-descent", "accelerated-gradient", "adam"])
def test_steps_of_first_order_solvers_are_those_in_memory(solver, tmp_path):
    problem = PROBLEMS["small w"]()
    inside = cr.solve(problem, SOLVERS[solver], max_steps=12)
    found = cr.solve(in_blocks(problem, tmp_path), SOLVERS[solver], max_steps=12)
    np.testing.assert_allclose(found.history.value, inside.history.value, rtol=1e-11)
    np.testing.assert_allclose(found.x, inside.x, rtol=1e-9)
    assert found.num_values == inside.num_values


def test_statuses(tmp_path):
    problem = in_blocks(PROBLEMS["small w"](), tmp_path)
    one = cr.solve(problem, max_steps=1)
    assert (one.status, one.num_steps) == (cr.Status.MAX_STEPS, 1)
    stopped = cr.solve(problem, callback=lambda progress: progress.step == 2)
    assert (stopped.status, stopped.num_steps) == (cr.Status.INTERRUPTED, 2)
    huge = cr.CopyrightRegression(cr.RowBlocks(np.full((4, 1), 1e300)), np.full(4, 0.25), 1, w=1e9)
    assert cr.solve(huge, x0=[1e300]).status is cr.Status.NONFINITE


def test_refused(tmp_path):
    problem = in_blocks(PROBLEMS["joint"](), tmp_path)
    for solver in (cr.TrustRegionNewton(), cr.SketchedNewton()):
        with pytest.raises(cr.InputError, match="use NewtonCG"):
            cr.solve(problem, solver)
    with pytest.raises(cr.InputError, match="no solver with a compiled line search"):
        cr.solve(problem, cr.Optax(optax.lbfgs()))
    passed = jax.jit(lambda p: p.value(jnp.zeros(p.d)))
    for call, argument in (
        (jax.jit(problem.value), jnp.zeros(problem.d)),
        (jax.grad(problem.value), jnp.zeros(problem.d)),
        (passed, problem),
    ):
        with pytest.raises(cr.InputError, match="can't be traced"):
            call(argument)
    with pytest.raises(cr.InputError, match="RowBlocks"):
        cr.SoftmaxRegression(tmp_path / "A.npy", problem.b)
    with pytest.raises(cr.InputError, match="can't be multiplied"):
        problem.A @ jnp.ones(problem.d + 1)
    huge = np.lib.stride_tricks.as_strided(np.ones(1), (1 << 28, 1), (0, 0))
    with pytest.raises(cr.InputError, match="all of it in memory"):
        to_host(cr.RowBlocks(huge))


def test_files_that_do_not_fit(tmp_path):
    np.save(tmp_path / "A.npy", DENSE)
    np.save(tmp_path / "narrow.npy", DENSE[:, :4])
    np.save(tmp_path / "whole.npy", np.ones((3, 3), int))
    np.save(tmp_path / "flat.npy", np.ones(3))
    scipy.sparse.save_npz(tmp_path / "csc.npz", scipy.sparse.csc_array(DENSE))
    np.savez(tmp_path / "other.npz", A=DENSE)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "short.npy").write_bytes((tmp_path / "A.npy").read_bytes()[:-8])
    scipy.sparse.save_npz(tmp_path / "A.npz", scipy.sparse.csr_array(DENSE))
    for names, words in {
        ("none.npy",): "can't read .*none.npy",
        ("none.npz",): "can't read .*none.npz",
        ("A.npy", "narrow.npy"): "A.npy has 6 columns, .*narrow.npy has 4",
        ("A.npy", "A.npz"): "not both",
        ("whole.npy",): "dtype int64",
        ("flat.npy",): r"shape \(3,\)",
        ("csc.npz",): "CSR",
        ("other.npz",): "save_npz",
        ("text.npy",): "text.npy",
        ("short.npy",): "truncated",
        (): "at least one file",
    }.items():
        with pytest.raises(cr.InputError, match=words):
            cr.RowBlocks([tmp_path / name for name in names])
    with pytest.raises(cr.InputError, match="block_bytes"):
        cr.RowBlocks(tmp_path / "A.npy", block_bytes=0)
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    for source, kind in (([3], "int"), (frame, "DataFrame"), ([frame], "DataFrame")):
        with pytest.raises(cr.InputError, match=f"a {kind} is neither a path nor an array"):
            cr.RowBlocks(source)


VIEWS = {
    "all": lambda m: m,
    "slice": lambda m: m[3:9],
    "reversed": lambda m: m[::-1],
    "strided": lambda m: m[::2, 1:],
    "reshaped": lambda m: m.reshape(-1, 2),
    "transposed": lambda m: m.T,
    "plain": np.asarray,
    "bytes swapped": lambda m: m.view(m.dtype.newbyteorder()).byteswap(),
}


@cases(25)
@given(
    mode=st.sampled_from(["c", "r+", "r"]),
    view=st.sampled_from(sorted(VIEWS)),
    replaced=st.booleans(),
    data=st.data(),
)
def test_an_array_in_hand_counts_and_not_a_file_behind_it(
    mode, view, replaced, data, tmp_path_factory
):
    """Written to in memory, or its file replaced by another: products and certificates follow."""
    path = tmp_path_factory.mktemp("mapped") / "A.npy"
    np.save(path, np.arange(48.0).reshape(12, 4) / 48)
    mapped = np.load(path, mmap_mode=mode)
    if mode != "r":
        row, column = data.draw(st.tuples(st.integers(0, 11), st.integers(0, 3)))
        mapped[row, column] = data.draw(st.sampled_from([-0.5, 2.0, 0.25]))
    if replaced:
        np.save(path.with_name("B.npy"), np.ones((12, 4)))
        path.with_name("B.npy").replace(path)
    array = VIEWS[view](mapped)
    held, (n, d) = np.array(array), array.shape
    parts = [array[:1], array[1:]] if data.draw(st.booleans()) else array
    A = cr.RowBlocks(parts, block_bytes=data.draw(st.integers(1, 200)))
    assert np.array_equal(to_host(A), held)
    b = np.arange(1.0, n + 1) / n**2
    on_disk, inside = (cr.CopyrightRegression(one, b, n // 2) for one in (A, held))
    x = np.linspace(-1, 1, d)
    assert cr.certify(on_disk, x).document == cr.certify(inside, x).document


def rewritten(file, content):
    """In place, with the time of the old content."""
    times = file.stat()
    with file.open("r+b") as stream:
        stream.write(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = {
    "rewritten": rewritten,
    "replaced": lambda file, content: (
        file.with_name("new").write_bytes(content), file.with_name("new").replace(file)
    ),
    "truncated": lambda file, content: file.write_bytes(content[:-8]),
}  # fmt: skip


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("form", ON_DISK)
def test_files_that_changed_are_refused(form, how, tmp_path):
    """By each product and each copy, at once: the same content or size is no excuse."""
    A = written(tmp_path, form, DENSE[:60])
    kept = pickle.dumps(A)
    file = max(tmp_path.iterdir())  # the last shard
    content = file.read_bytes()
    CHANGES[how](file, content)
    uses = (
        lambda: A @ jnp.ones(D),
        lambda: jnp.ones(60) @ A,
        lambda: to_host(A),
        lambda: pickle.loads(kept),
        lambda: copy.deepcopy(A),
    )
    for use in uses:
        with pytest.raises(cr.InputError, match=rf"{file.name} has changed since it was opened"):
            use()
    file.unlink()
    for use in uses:
        with pytest.raises(cr.InputError, match=rf"can't read .*{file.name}: No such file"):
            use()


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / "A.npy", DENSE)
    A = cr.RowBlocks(tmp_path / "A.npy")
    opened = StoredFile.require_same
    seen = []

    def checked(self, file=None):
        opened(self, file)
        seen.append(file)
        if len(seen) == 1:  # between the check before reading and the one after it
            os.utime(tmp_path / "A.npy")

    monkeypatch.setattr(StoredFile, "require_same", checked)
    with pytest.raises(cr.InputError, match="has changed since it was opened"):
        A @ jnp.ones(D)


def test_a_time_in_the_future_does_not_hide_a_change(tmp_path, monkeypatch):
    """Right after a change one waits for the clock, whatever time the file says it has."""
    file, slept = tmp_path / "A.npy", []
    np.save(file, DENSE)
    os.utime(file, (2e9, 2e9))
    monkeypatch.setattr(archive.time, "sleep", slept.append)
    StoredFile.found(file)
    assert len(slept) == 1


def test_paths_are_those_of_the_folder_they_were_given_in(tmp_path, monkeypatch):
    for name, rows in (("here", DENSE[:9]), ("there", DENSE[9:18])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "A.npy", rows)
    monkeypatch.chdir(tmp_path / "here")
    A = cr.RowBlocks("A.npy")
    monkeypatch.chdir(tmp_path / "there")
    assert np.array_equal(to_host(A), DENSE[:9])


@pytest.mark.quick(1)
@pytest.mark.parametrize("way", ["pickled", "copied"])
@pytest.mark.parametrize("form", [*FORMS, "dense", "sparse", "sharded"])
def test_pickles_and_copies_are_the_same_problem(form, way, tmp_path):
    rows, b = DENSE[:60], np.arange(1.0, 61) / 1830
    kinds = {"dense": np.asarray, "sparse": scipy.sparse.csr_array, "sharded": cr.ShardedRows}
    A = kinds[form](rows) if form in kinds else written(tmp_path, form, rows)
    problem = cr.CopyrightRegression(A, b, 20)
    again = pickle.loads(pickle.dumps(problem)) if way == "pickled" else copy.deepcopy(problem)
    x, v = np.linspace(-1, 1, D), np.ones(D)
    assert repr(again) == repr(problem)
    for of in (lambda p: p.value(x), lambda p: p.gradient(x), lambda p: p.hvp(x, v)):
        np.testing.assert_array_equal(of(again), of(problem))
    assert cr.certify(again, x).document == cr.certify(problem, x).document


def test_a_pickle_of_files_is_small(tmp_path):
    np.save(tmp_path / "A.npy", DENSE)
    assert len(pickle.dumps(cr.RowBlocks(tmp_path / "A.npy"))) < 2000


def test_a_narrower_dtype_rounds_for_everybody(tmp_path):
    np.save(tmp_path / "A.npy", DENSE[:20])
    A = cr.RowBlocks(tmp_path / "A.npy").astype(np.float32)
    b, w, gamma = np.full(20, 1 / 20, np.float32), np.ones(20, np.float32), np.float32(0.1)
    held = DENSE[:20].astype(np.float32)
    one, two = (cr.CopyrightRegression(kind, b, 5, gamma, w) for kind in (A, held))
    assert np.array_equal(to_host(A), held)
    x = np.linspace(-1, 1, D)
    assert cr.certify(one, x).document == cr.certify(two, x).document


@pytest.mark.parametrize("form", FORMS)
def test_an_entry_that_is_not_finite_is_named(form, tmp_path):
    A = DENSE.copy()
    A[4321, 2] = np.inf
    with pytest.raises(cr.InputError, match="A is inf at row 4321, column 2"):
        cr.SoftmaxRegression(written(tmp_path, form, A), np.full(N, 1 / N))


@pytest.mark.parametrize("archive", [False, True])
def test_instances_stay_in_their_files(archive, tmp_path):
    n, d = 1 << 15, 65  # more than 2^24 bytes
    problem = random_problem(4, n, d, gamma=1e-6, w=0.03)
    path = tmp_path / ("i.npz" if archive else "")
    if archive:
        cr.save_instance(path, problem)
    else:
        for name in ("A", "b", "protected", "gamma", "w"):
            np.save(tmp_path / f"{name}.npy", np.asarray(getattr(problem, name)))
    assert isinstance(cr.load_instance(path).A, jax.Array)
    assert isinstance(cr.load_instance(path, stream=False).A, jax.Array)
    streamed = cr.load_instance(path, stream=True)
    assert isinstance(streamed.A, cr.RowBlocks)
    x = np.linspace(-1, 1, d)
    np.testing.assert_allclose(streamed.gradient(x), problem.gradient(x), rtol=1e-9, atol=1e-9)
    cr.certify(streamed, x, local=False).save(tmp_path / "c.json")
    assert cr.check(tmp_path / "c.json", path).verdict is not cr.Verdict.VOID
