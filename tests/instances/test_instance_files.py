"""Instance files: exact round trips, and one clear line for what is none."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.checker import archive
from tests.support.registry import PROBLEMS, READINGS, draws, random_problem


def arrays_of(problem):
    A = problem.A.todense() if hasattr(problem.A, "todense") else problem.A
    return [np.asarray(v) for v in (A, problem.b, problem.protected, problem.gamma, problem.w)]


def float32():
    problem = random_problem(0, 6, 2)
    A, b = (np.asarray(array, np.float32) for array in (problem.A, problem.b))
    return cr.CopyrightRegression(A, b, 2)


SAVED = {name: make for name, make in PROBLEMS.items() if name != "softmax"} | {"float32": float32}


@pytest.mark.parametrize("name", SAVED)
def test_round_trip(name, tmp_path):
    problem = SAVED[name]()
    cr.save_instance(tmp_path / "i.npz", problem)
    again = cr.load_instance(tmp_path / "i.npz")
    assert repr(again) == repr(problem)
    assert type(again.A) is type(problem.A)
    for mine, theirs in zip(arrays_of(again), arrays_of(problem), strict=True):
        assert np.array_equal(mine, theirs)


def is_certified_instance(folder, problem, x):
    """Whether the file i.npz is the instance that a certificate of the problem is about."""
    cr.certify(problem, x).save(folder / "c.json")
    return cr.check(folder / "c.json", folder / "i.npz").verdict is not cr.Verdict.VOID


@given(draw=draws(), reading=st.sampled_from(READINGS), scale=st.sampled_from([0, 150, 300]))
def test_a_saved_instance_is_the_one_that_was_certified(draw, reading, scale, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    # Losses and L may be too large for a float64, and then bounds are infinite.
    draw = draw._replace(A=draw.A * 10.0**scale, b=draw.b * 10.0 ** (scale / 2))
    problem = draw.problem(reading)
    cr.save_instance(folder / "i.npz", problem)
    assert is_certified_instance(folder, problem, draw.x)


def test_any_byte_order_is_read(arrays, tmp_path):
    swapped = {key: a.astype(a.dtype.newbyteorder()) for key, a in arrays.items()}
    np.savez(tmp_path / "i.npz", **swapped)
    problem = cr.load_instance(tmp_path / "i.npz")
    assert np.array_equal(problem.b, arrays["b"])
    assert is_certified_instance(tmp_path, problem, np.ones(3))


@pytest.mark.parametrize("path", ["a\0b.npz", "/none/i.npz"])
def test_paths_that_are_none(path):
    with pytest.raises(cr.InputError):
        cr.load_instance(path)
    with pytest.raises(cr.InputError):
        cr.save_instance(path, PROBLEMS["joint"]())


@pytest.mark.parametrize("dtypes", [*itertools.product((np.float32, np.float64), repeat=4)])
def test_mixed_dtypes_are_exact(dtypes, arrays, tmp_path):
    names = ("A", "b", "w", "gamma")
    arrays |= {n: arrays[n].astype(dtype) for n, dtype in zip(names, dtypes, strict=True)}
    np.savez(tmp_path / "i.npz", **arrays)
    problem = cr.load_instance(tmp_path / "i.npz")
    assert problem.dtype == np.result_type(*dtypes)
    assert float(problem.gamma) == float(arrays["gamma"])
    assert is_certified_instance(tmp_path, problem, np.ones(3))


def test_softmax_regression_is_no_instance(tmp_path):
    with pytest.raises(cr.InputError, match="save a CopyrightRegression"):
        cr.save_instance(tmp_path / "i.npz", PROBLEMS["softmax"]())


@pytest.fixture
def arrays():
    return {
        "A": np.eye(3), "b": np.full(3, 1 / 3), "protected": np.arange(3) < 1, "w": np.ones(3),
        "gamma": np.array(0.1),
    }  # fmt: skip


def csr(**changes):
    """The unit matrix in CSR form, with faults."""
    parts = {"data": np.ones(3), "indices": np.arange(3), "indptr": np.arange(4), "shape": (3, 3)}
    return {"A": None} | {f"A_{name}": np.asarray(v) for name, v in (parts | changes).items()}


BAD = {
    "keys missing": ({"b": None, "w": None, "gamma": None}, "lacks b, w, gamma; it holds"),
    "csr parts missing": ({"A": None, "A_data": np.ones(3)}, "lacks A_indices, A_indptr, A_shape"),
    "object array": ({"A": np.array([{}, 1, 2], dtype=object)}, "holds pickled objects"),
    "mask of numbers": ({"protected": np.array([1.0, 0, 0])}, "protected has dtype float64; store"),
    "mask of indices": ({"protected": np.array([0])}, "protected has dtype int64; store a bool"),
    "nan": ({"b": np.array([0.5, np.nan, 0.5])}, "b is nan at row 1"),
    "shape": ({"w": np.ones(2)}, r"w has shape \(2,\); A has 3 rows"),
    "reading": ({"reading": np.array("either")}, "reading is 'either'"),
    "csr index outside": (csr(indices=[0, 1, 9]), "must be within the columns"),
    "csr not sorted": (csr(indptr=[0, 3, 3, 3], indices=[2, 1, 0]), "A_indices must increase"),
    "csr indptr": (csr(indptr=[0, 5, 1, 3]), "A_indptr does not describe"),
    "csr negative shape": (csr(shape=[-3, 3]), r"A has shape \(-3, 3\)"),
    "csr no shape": (csr(shape=3), "A_\\* misshaped"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(name, arrays, tmp_path):
    changes, message = BAD[name]
    arrays |= changes
    path = tmp_path / "i.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(cr.InputError, match=message) as caught:
        cr.load_instance(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_files(arrays, tmp_path):
    path = tmp_path / "i.npz"
    np.savez(path, **arrays)
    raw = path.read_bytes()
    for content in (b"", raw[: len(raw) // 2], raw[:-40], b"hello"):
        path.write_bytes(content)
        with pytest.raises(cr.InputError, match=r"i.npz is truncated or not"):
            cr.load_instance(path)
    np.save(tmp_path / "one.npy", np.ones(3))
    for name, words in (
        ("one.npy", "holds one array"),
        ("none.npz", "can't read .*No such file"),
        ("", "lacks A, b, protected, w, gamma; it holds"),  # the folder
    ):
        with pytest.raises(cr.InputError, match=words):
            cr.load_instance(tmp_path / name)


def test_random_damage_never_crashes(arrays, tmp_path):
    path = tmp_path / "i.npz"
    np.savez_compressed(path, **arrays)
    raw, refused = path.read_bytes(), 0
    places = range(0, len(raw), 5)
    for position in places:
        changed = bytearray(raw)
        changed[position] ^= 0xFF
        path.write_bytes(changed)
        try:
            cr.load_instance(path)
        except cr.InputError:  # any other exception fails the test; harmless bytes load
            refused += 1
    assert refused > len(places) / 2


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    problem = PROBLEMS["joint"]()
    path = tmp_path / "i.npz"
    path.write_bytes(b"precious")
    with pytest.raises(cr.InputError, match=r"can't write"):
        cr.save_instance(tmp_path / "none" / "i.npz", problem)

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(cr.InputError, match=r"can't write .*No space left"):
        cr.save_instance(path, problem)
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["i.npz"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    cr.save_instance(tmp_path / "i.npz", PROBLEMS["joint"]())
    (tmp_path / "plain").touch()
    assert (tmp_path / "i.npz").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_example_is_real_and_its_page_tells_the_truth():
    problem = cr.example_instance()
    assert (problem.n, problem.d, problem.n1) == (2390, 48, 277)
    assert abs(float(problem.b.sum()) - 1) < 1e-14
    assert np.array_equal(np.flatnonzero(problem.protected), np.arange(1313, 1590))
    solution = cr.solve(problem).raise_for_status()
    certificate = cr.certify(problem, solution.x)
    assert certificate.verdict is cr.Verdict.CERTIFIED
    assert certificate.direction == solution.direction == "suppressed"
    # The figures of instances/austen.md.
    figures = (
        solution.target_mass, solution.protected_mass, solution.ell_1, solution.ell_2,
        solution.value, certificate.margin.lower, certificate.level_set_tau,
        certificate.paper_tau.lower,
    )  # fmt: skip
    stated = ("0.690247", "0.260201", "0.0468999", "0.00212836", "0.0478045", "0.000168306",
              "0.000111605", "0.000160442")  # fmt: skip
    assert tuple(f"{figure:.6g}" for figure in figures) == stated
    without = cr.solve(problem.replace(gamma=0.0), x0=np.zeros(48)).raise_for_status()
    assert f"{without.protected_mass:.3f}" == "0.555"


def test_an_instance_on_disk_is_read_once_and_not_again_for_another_gamma(tmp_path, monkeypatch):
    """What `copyreg solve FOLDER --gamma 0.5` does before its first step."""
    monkeypatch.setattr(archive, "_STREAMED", 0)
    problem = random_problem(4, 40, 3)
    for name in ("A", "b", "protected", "gamma", "w"):
        np.save(tmp_path / f"{name}.npy", np.asarray(getattr(problem, name)))
    blocks, read = [], cr.RowBlocks.read
    monkeypatch.setattr(cr.RowBlocks, "read", lambda A, k: (blocks.append(k), read(A, k))[1])
    loaded = cr.load_instance(tmp_path, stream=True)
    assert blocks == list(range(loaded.A.num_blocks))
    changed = loaded.replace(gamma=0.5, reading="block", metric="cross-entropy", w=2.0)
    assert changed.A is loaded.A
    assert blocks == list(range(loaded.A.num_blocks))
