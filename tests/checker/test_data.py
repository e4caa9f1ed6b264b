"""Instances as the checker reads them: block by block, from memory, files and folders."""

import hashlib
import io
import warnings
import zipfile

import numpy as np
import pytest
import scipy.sparse

import copyreg_jax as cr
from copyreg_jax.checker import archive, data
from copyreg_jax.checker.archive import InFile, _Members, read_arrays
from copyreg_jax.checker.data import make_instance, read_instance
from copyreg_jax.checker.verdicts import VoidError
from tests.support.registry import random_problem


@pytest.fixture
def arrays():
    problem = random_problem(3, 40, 5, w=0.5)
    names = ("A", "b", "protected", "w", "gamma")
    return {name: np.array(getattr(problem, name)) for name in names}


@pytest.fixture
def small_pieces(monkeypatch):
    """So that even small instances are streamed, in several blocks and pieces."""
    monkeypatch.setattr(archive, "_STREAMED", 0)
    monkeypatch.setattr(data, "_BLOCK", 7 * 5)
    monkeypatch.setattr(data, "_PIECE", 64)


def folder_of(path, arrays):
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


def test_all_ways_to_store_an_instance_are_one_instance(arrays, tmp_path, small_pieces):
    np.savez(tmp_path / "stored.npz", **arrays)
    np.savez_compressed(tmp_path / "compressed.npz", **arrays)
    np.savez(tmp_path / "fortran.npz", **{**arrays, "A": np.asfortranarray(arrays["A"])})
    big_endian = {name: a.astype(a.dtype.newbyteorder(">")) for name, a in arrays.items()}
    np.savez(tmp_path / "endian.npz", **big_endian)
    folder_of(tmp_path / "folder", arrays)
    found = {path.name: read_instance(path) for path in tmp_path.iterdir()}
    streamed = {name for name, one in found.items() if isinstance(one.A.source, InFile)}
    assert streamed == {"stored.npz", "endian.npz", "folder"}
    assert found.keys() - streamed == {"compressed.npz", "fortran.npz"}
    descriptions = [one.description() for one in found.values()]
    assert all(description == descriptions[0] for description in descriptions)
    for one in found.values():
        rows = list(one.map_blocks(lambda s, one=one: one.A.rows(s.start, s.stop)))
        assert len(rows) == 6
        np.testing.assert_array_equal(np.concatenate(rows), arrays["A"])


def test_certificates_do_not_depend_on_where_the_matrix_is(arrays, tmp_path, small_pieces):
    np.savez(tmp_path / "i.npz", **arrays)
    x = np.linspace(-1, 1, 5)
    streamed = cr.certify(tmp_path / "i.npz", x, -1.0)
    loaded = cr.certify(cr.load_instance(tmp_path / "i.npz"), x, -1.0)
    assert streamed.document == loaded.document
    streamed.save(tmp_path / "c.json")
    result = cr.check(tmp_path / "c.json", tmp_path / "i.npz")
    assert result.verdict is cr.Verdict.CERTIFIED, result.lines


def test_float32_is_read_as_its_exact_values(arrays, tmp_path, small_pieces):
    single = {k: a.astype(np.float32) if a.dtype.kind == "f" else a for k, a in arrays.items()}
    double = {k: a.astype(np.float64) if a.dtype.kind == "f" else a for k, a in single.items()}
    np.savez(tmp_path / "single.npz", **single)
    np.savez(tmp_path / "double.npz", **double)
    one, two = (read_instance(tmp_path / f"{name}.npz") for name in ("single", "double"))
    assert one.description() == two.description()


def test_the_hash_is_that_of_the_format_page(arrays, small_pieces):
    """The definition of docs/reference/certificate-format.md, written again."""

    def parts(array, kind):
        flat = array.astype(kind).ravel()
        digests = [hashlib.sha256(flat[i : i + 64].tobytes()).digest() for i in
                   range(0, flat.size, 64)]  # fmt: skip
        return f"{kind}{array.shape}".encode() + b"".join(digests)

    A, b = arrays["A"], arrays["b"]
    whole = parts(A, "<f8") + parts(np.array(A.shape), "<i8")
    hashes = make_instance(**arrays, reading="joint").description()["sha256"]
    assert hashes["A"] == hashlib.sha256(whole).hexdigest()
    assert hashes["b"] == hashlib.sha256(parts(b, "<f8")).hexdigest()
    assert hashes["protected"] == hashlib.sha256(parts(arrays["protected"], "|b1")).hexdigest()


def test_every_number_counts(arrays, small_pieces):
    """Changing any entry by one ulp changes the description; so does a transposed shape."""
    plain = make_instance(**arrays, reading="joint").description()
    for name in ("A", "b", "w"):
        for i in range(0, arrays[name].size, 7):
            changed = arrays[name].copy()
            changed.flat[i] = np.nextafter(changed.flat[i], np.inf)
            other = make_instance(**{**arrays, name: changed}, reading="joint").description()
            assert other["sha256"][name] != plain["sha256"][name]
            assert {k: v for k, v in other["sha256"].items() if k != name} == {
                k: v for k, v in plain["sha256"].items() if k != name
            }
    reshaped = {**arrays, "A": arrays["A"].reshape(40, 5)[:, ::-1]}
    assert make_instance(**reshaped, reading="joint").description() != plain
    assert make_instance(**arrays, reading="block").description() != plain
    assert make_instance(**arrays, reading="joint", metric="cross-entropy").description() != plain


def test_truncated_and_infinite_streams_are_noticed(arrays, tmp_path, small_pieces):
    folder = folder_of(tmp_path / "folder", arrays)
    raw = (folder / "A.npy").read_bytes()
    (folder / "A.npy").write_bytes(raw[:-8])
    with pytest.raises(VoidError, match=r"is truncated: A has shape \(40, 5\)"):
        read_instance(folder)
    (folder / "A.npy").write_bytes(raw)
    instance = read_instance(folder)
    (folder / "A.npy").write_bytes(raw[:-8])  # while it is in use
    with pytest.raises(VoidError, match=r"A.npy has changed since it was opened"):
        instance.description()
    arrays["A"][3, 2] = np.inf
    np.save(folder / "A.npy", arrays["A"])
    with pytest.raises(VoidError, match="A must be finite numbers"):
        read_instance(folder).description()
    with pytest.raises(cr.InputError, match="A must be finite numbers"):
        cr.certify(folder, np.zeros(5))


@pytest.mark.parametrize("reader", ["path", "problem", "checker"])
def test_a_file_that_changes_after_it_was_hashed_is_refused(
    reader, arrays, tmp_path, small_pieces, monkeypatch
):
    """Else a certificate would have the hash of one matrix and the bounds of another."""
    folder = folder_of(tmp_path / "folder", arrays)
    other = (folder / "A.npy").read_bytes()[:-8] + b"\x00" * 8
    x, hashed = np.zeros(5), data.Instance.description
    problem = cr.load_instance(folder, stream=True)
    assert isinstance(problem.A, cr.RowBlocks)
    cr.certify(folder, x).save(tmp_path / "c.json")

    def then_changed(self):
        found = hashed(self)
        (folder / "A.npy").write_bytes(other)
        return found

    monkeypatch.setattr(data.Instance, "description", then_changed)
    if reader == "checker":
        result = cr.check(tmp_path / "c.json", folder)
        assert result.verdict is cr.Verdict.VOID
        assert "A.npy has changed since it was opened" in result.lines[0]
        return
    with pytest.raises(cr.InputError, match=r"A.npy has changed since it was opened"):
        cr.certify({"path": folder, "problem": problem}[reader], x)


def npy(shape, content=b""):
    header = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue() + content


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_absurd_sizes_are_refused_before_memory_is_asked_for(arrays, tmp_path, compression):
    np.savez(tmp_path / "i.npz", **arrays)
    cr.certify(tmp_path / "i.npz", np.zeros(5)).save(tmp_path / "c.json")
    del arrays["A"]
    np.savez(tmp_path / "absurd.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "absurd.npz", "a", compression) as archive:
        archive.writestr("A.npy", npy((10**12, 5), bytes(80)))
    with pytest.raises(VoidError, match=r"is truncated: A has shape \(1000000000000, 5\)"):
        read_arrays(tmp_path / "absurd.npz")
    result = cr.check(tmp_path / "c.json", tmp_path / "absurd.npz")
    assert result.verdict is cr.Verdict.VOID


@pytest.mark.parametrize("names", [("A", "A.npy"), ("A.npy", "A.npy"), ("b", "b.npy")])
def test_two_arrays_of_one_name_are_refused(arrays, tmp_path, names):
    np.savez(tmp_path / "two.npz", **{key: a for key, a in arrays.items() if key != names[0][0]})
    content = io.BytesIO()
    np.save(content, arrays[names[0][0]])
    with zipfile.ZipFile(tmp_path / "two.npz", "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            file.writestr(name, content.getvalue())
    for read in (read_arrays, lambda path: archive.read_array(path, names[0][0], lambda *_: None)):
        with pytest.raises(VoidError, match="two arrays of one name"):
            read(tmp_path / "two.npz")


def test_other_shapes_are_refused_before_the_matrix_is_read(arrays, tmp_path, monkeypatch):
    np.savez(tmp_path / "i.npz", **arrays)
    certificate = cr.certify(tmp_path / "i.npz", np.zeros(5))
    certificate.save(tmp_path / "c.json")
    larger = {**arrays, "A": np.tile(arrays["A"], (1, 3))}
    np.savez_compressed(tmp_path / "larger.npz", **larger)
    monkeypatch.setattr(_Members, "matrix", lambda *_: pytest.fail("A was read"))
    result = cr.check(tmp_path / "c.json", tmp_path / "larger.npz")
    assert result.verdict is cr.Verdict.VOID
    assert "A is (40, 5) there, (40, 15) here" in result.lines[0]


def test_sparse_rows_in_blocks(small_pieces):
    rng = np.random.default_rng(0)
    A = scipy.sparse.random_array((60, 5), density=0.2, format="csr", rng=rng)
    problem = cr.CopyrightRegression(A, rng.dirichlet(np.ones(60)), 20)
    dense = cr.CopyrightRegression(A.toarray(), problem.b, 20)
    x = rng.normal(size=5)
    one, two = (cr.certify(p, x).document for p in (problem, dense))
    assert one["claims"] == two["claims"]
    assert one["bounds"] == two["bounds"]
    assert one["instance"]["sha256"]["A"] != two["instance"]["sha256"]["A"]


def test_freed_memory_goes_back_where_the_c_library_can(arrays, monkeypatch):
    calls = []
    monkeypatch.setattr(data, "_malloc_trim", lambda: calls.append)
    monkeypatch.setattr(data, "_MANY_ROWS", 30)
    for n in (29, 30):
        rows = {name: arrays[name][:n] for name in ("A", "b", "protected", "w")}
        list(make_instance(**rows, gamma=arrays["gamma"], reading="joint").map_blocks(str))
    assert calls == [0]
    monkeypatch.undo()
    monkeypatch.setattr(data.ctypes, "CDLL", lambda name: object())  # another C library
    data._malloc_trim.cache_clear()
    data._give_memory_back()
    assert data._malloc_trim() is None
    data._malloc_trim.cache_clear()
