"""A new instance folder: b and the protected rows, written whole or not at all, and continued."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, strategies as st

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

import copyreg_jax as cr
from copyreg_jax.checker import archive
from copyreg_jax.instances import new_folder, targets
from copyreg_jax.instances.readers import arrow_files, numpy_files, open_table, text_chunks
from copyreg_jax.instances.readers.row_tables import Choice

N, D = 11, 3


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of a row or two, each of which is made safe."""
    monkeypatch.setattr(numpy_files, "BLOCK_BYTES", 48)
    monkeypatch.setattr(arrow_files, "BLOCK_BYTES", 48)
    monkeypatch.setattr(text_chunks, "_CHUNK", 60)
    monkeypatch.setattr(new_folder, "_SYNC_BYTES", 1)
    monkeypatch.setattr(archive, "_TICK", 0)


@pytest.fixture
def columns():
    """Columns of a table: numbers, a count, a mark and a name."""
    rng = np.random.default_rng(0)
    return {f"x{j}": rng.normal(size=N) for j in range(D)} | {
        "count": np.arange(N),
        "mine": np.arange(N) % 4 == 0,
        "owner": np.array(["b, c", "a"])[np.arange(N) % 2],
    }


def write_csv(path, columns):
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    cells = (",".join(f'"{cell}"' for cell in row) for row in rows)
    path.write_text("\n".join([",".join(columns), *cells]))


def write_parquet(path, columns):
    pq.write_table(pa.table(columns), path, row_group_size=4)


WRITERS = {"a.csv": write_csv, "a.parquet": write_parquet}


def plan(source, target, flags, columns=("x*",)):
    fields = tuple({name for name, _ in (*target.wanted, *flags.wanted)})
    table = open_table(source, Choice(columns, fields=fields))
    return new_folder.plan_instance(table, target, flags, 0.5, 0.25)


@pytest.fixture(params=WRITERS)
def source(request, columns, tmp_path):
    path = tmp_path / request.param
    WRITERS[request.param](path, columns)
    return path


FIRST = targets.FirstRows(2)

X0 = targets.TargetColumn("x0")


def test_targets(source, columns):
    def b(target):
        return plan(source, target, FIRST).b

    count, owner = columns["count"], columns["owner"]
    assert np.array_equal(b(targets.TargetColumn("x1")), columns["x1"])
    assert np.array_equal(b(targets.Frequencies("count")), count / count.sum())
    assert np.array_equal(b(targets.TargetLabel("owner", "a")), (owner == "a") / 5)
    assert np.array_equal(b(targets.TargetLabel("count", "3.0")), count == 3)
    both = plan(source, targets.TargetColumn("count"), targets.FlagLabel("count", "5"))
    assert np.array_equal(both.b, count)
    assert np.flatnonzero(both.protected).tolist() == [5]
    np.save(source.parent / "b.npy", count)
    assert np.array_equal(b(targets.TargetFile(source.parent / "b.npy")), count)


@pytest.mark.parametrize("temperature", [None, 0.3])
def test_attention(source, columns, temperature):
    A = np.stack([columns[f"x{j}"] for j in range(D)], axis=1)
    logits = A @ A[9] / (D**0.5 if temperature is None else temperature)
    expected = np.exp(logits) / np.exp(logits).sum()
    b = plan(source, targets.Attention(9, temperature), FIRST).b
    # Sums of 3 products in another order, and exponentials of at most some tens of them.
    np.testing.assert_allclose(b, expected, rtol=1e-13)


def test_attention_of_sparse_rows(tmp_path):
    A = np.array([[0.0, 2.0], [3.0, 0.0], [1.0, 1.0]])
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array(A))
    table = open_table(tmp_path / "a.npz", Choice())
    b = new_folder.plan_instance(table, targets.Attention(2, 1.0), FIRST, 1, 1).b
    np.testing.assert_allclose(b, np.exp([2, 3, 2]) / np.exp([2, 3, 2]).sum(), rtol=1e-14)


def test_flags(source, columns):
    def rows(flags):
        return np.flatnonzero(plan(source, targets.TargetColumn("x0"), flags).protected).tolist()

    marked = np.flatnonzero(columns["mine"]).tolist()
    assert rows(targets.FlagColumn("mine")) == marked
    assert rows(targets.FlagLabel("owner", "b, c")) == list(range(0, N, 2))
    assert rows(targets.FirstRows(3)) == [0, 1, 2]
    path = source.parent / "flags.npy"
    for array in (columns["mine"], columns["mine"].astype(float), np.array(marked)):
        np.save(path, array)
        assert rows(targets.FlagFile(path)) == marked
    np.save(path, [1, 0])
    assert rows(targets.FlagFile(path)) == [0, 1]


LARGE = 1234567890123456781

LABELS = {
    "the text": ("01,1,1.0", "1", [1]),
    "the number": ("3.0,4.0,-0.5", "3", [0]),
    "the number with a point": ("3,4,5e2", "3.0", [0]),
    "a large number": (f"{LARGE},{LARGE - 1},{LARGE + 1}", str(LARGE), [0]),
    "a large number that is not there": (f"{LARGE},1", str(LARGE - 1), "has no row with"),
    "two texts": ("500,5e2,1", "500.0", "has '500' and '5e2', which both are the number 500.0"),
    "a code": ("01234,99", "1234", "has no row with '1234'"),
    "no code": ("1234,99", "01234", "has no row with '01234'"),
    "a version": ("1.10,1.2", "1.1", "has no row with '1.1'"),
    "an underscore": ("1_000,2", "1000", "has no row with '1000'"),
    "nan": ("nan,1", "NaN", "has no row with 'NaN'"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_texts_before_they_are_numbers(name, tmp_path):
    cells, label, expected = LABELS[name]
    rows = [f"{cell},1,1" for cell in cells.split(",")]
    (tmp_path / "a.csv").write_text("\n".join(["t,x0,x1", *rows, "0,2,2"]))
    target, flags = targets.TargetLabel("t", label), targets.FlagLabel("t", label)
    if isinstance(expected, str):
        refused(expected, tmp_path / "a.csv", target)
        refused(expected, tmp_path / "a.csv", flags=flags)
        return
    made = plan(tmp_path / "a.csv", target, flags)
    assert np.flatnonzero(made.b).tolist() == np.flatnonzero(made.protected).tolist() == expected


def refused(message, source, target=X0, flags=FIRST):
    with pytest.raises(cr.InputError, match=message):
        plan(source, target, flags)


def test_what_is_no_target_or_flag_is_named(source, columns):
    refused(r"column 'x1' is -.*counts are not negative", source, targets.Frequencies("x1"))
    refused("column 'owner'", source, targets.TargetColumn("owner"))
    refused("no column 'z'; it has 'x0'", source, targets.TargetColumn("z"))
    refused("has no row with 'c'; it has 'b, c', 'a'", source, targets.TargetLabel("owner", "c"))
    refused("rows are 0 to 10", source, targets.Attention(11))
    refused("the temperature is 0", source, targets.Attention(0, 0.0))
    refused("row 0: column 'owner' is 'b, c'; mark", source, flags=targets.FlagColumn("owner"))
    refused("row 2: column 'count' is '2'; mark", source, flags=targets.FlagColumn("count"))
    refused("11 rows of 11", source, flags=targets.FirstRows(11))
    path = source.parent / "file.npy"
    for array, message in ((np.ones(3), r"shape \(3,\)"), (np.full(N, np.nan), "nan at row 0")):
        np.save(path, array)
        refused(message, source, targets.TargetFile(path))
    np.save(path, 3)
    refused(
        r"file.npy has dtype int64 and shape \(\); give a mask",
        source,
        flags=targets.FlagFile(path),
    )
    np.save(path, [2**53 + 1] * N)
    refused("file.npy is 9007199254740993 at row 0", source, targets.TargetFile(path))
    np.save(path, [4, 99])
    refused(r"file.npy: protected\[1\] = 99 is outside", source, flags=targets.FlagFile(path))
    protected = {
        "file.npy has dtype <U2": np.array(["n1", "n2"]),
        "file.npy has dtype int64 and shape (12,); give a mask with": np.arange(N + 1) % 2,
        "file.npy has dtype bool and shape (3,)": np.ones(3, bool),
        "file.npy has dtype int64 and shape ()": np.array(3),
        "file.npy has dtype float64 and shape (2,)": np.ones(2),
    }
    for message, array in protected.items():
        np.save(path, array)
        refused(
            f"^{re.escape(str(path.parent))}.{re.escape(message)}",
            source,
            flags=targets.FlagFile(path),
        )
    refused(
        f"^{re.escape(str(source))}: column 'owner' has no row",
        source,
        flags=targets.FlagLabel("owner", "c"),
    )
    refused("can't read .*none", source, flags=targets.FlagFile(source.parent / "none.npy"))


@pytest.mark.parametrize(("w", "gamma"), [(np.nan, 1), (1, np.inf), (1, -1)])
def test_weights_that_are_none(w, gamma, source):
    table = open_table(source, Choice(["x*"], fields=("count",)))
    with pytest.raises(cr.InputError, match="give a finite number"):
        new_folder.plan_instance(table, targets.Frequencies("count"), FIRST, w, gamma)


def assert_is_instance(out, columns):
    assert not new_folder.part_of(out).exists()
    assert sorted(path.name for path in out.iterdir()) == [
        "A.npy", "b.npy", "columns.json", "gamma.npy", "protected.npy", "w.npy",
    ]  # fmt: skip
    assert json.loads((out / "columns.json").read_text()) == [f"x{j}" for j in range(D)]
    problem = cr.load_instance(out)
    A = np.stack([columns[f"x{j}"] for j in range(D)], axis=1)
    assert np.array_equal(problem.A, A)
    assert np.array_equal(problem.b, columns["count"] / columns["count"].sum())
    assert (float(problem.gamma), problem.n1) == (0.25, 2)
    assert np.array_equal(problem.w, np.full(N, 0.5))


def test_a_folder_is_what_load_instance_reads(source, columns, tmp_path):
    (tmp_path / "out").mkdir()  # an empty folder may be there
    plan(source, targets.Frequencies("count"), FIRST).write(tmp_path / "out")
    assert_is_instance(tmp_path / "out", columns)
    with pytest.raises(cr.InputError, match="out is there already; choose"):
        plan(source, targets.Frequencies("count"), FIRST).write(tmp_path / "out")


def test_a_sparse_folder_is_what_load_instance_reads(tmp_path):
    A = scipy.sparse.random_array((9, 4), density=0.4, rng=0, format="csc")
    scipy.sparse.save_npz(tmp_path / "a.npz", A)
    plan(tmp_path / "a.npz", targets.Attention(1), FIRST, None).write(tmp_path / "out")
    problem = cr.load_instance(tmp_path / "out")
    assert np.array_equal(problem.A.todense(), A.toarray())


def interrupt_at(rows, error):
    def progress(done):
        if done >= rows:
            raise error

    return progress


@pytest.mark.parametrize("rows", [1, 5, N])
def test_an_interrupted_run_is_continued_and_not_repeated(rows, source, columns, tmp_path):
    out, read = tmp_path / "out", []
    instance = plan(source, targets.Frequencies("count"), FIRST)
    with pytest.raises(KeyboardInterrupt):
        instance.write(out, interrupt_at(rows, KeyboardInterrupt))
    assert not out.exists()
    with pytest.raises(cr.InputError, match="lacks b, protected, w, gamma"):
        cr.load_instance(new_folder.part_of(out))
    plan(source, targets.Frequencies("count"), FIRST).write(out, read.append)
    assert_is_instance(out, columns)
    assert all(done > rows for done in read)


@pytest.mark.parametrize("change", ["other columns", "other numbers"])
def test_what_does_not_fit_is_not_continued(change, columns, tmp_path):
    source, out = tmp_path / "a.parquet", tmp_path / "out"
    write_parquet(source, columns | ({"x9": columns["x0"]} if change == "other columns" else {}))
    instance = plan(source, targets.Frequencies("count"), FIRST)
    with pytest.raises(KeyboardInterrupt):
        instance.write(out, interrupt_at(5, KeyboardInterrupt))
    if change == "other numbers":
        columns["x0"] = -columns["x0"]
    write_parquet(source, columns)
    plan(source, targets.Frequencies("count"), FIRST).write(out)
    assert_is_instance(out, columns)


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 140), os.unlink])
def test_rows_that_were_lost_are_not_taken_for_zeros(damage, source, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        plan(source, targets.Frequencies("count"), FIRST).write(
            out, interrupt_at(5, KeyboardInterrupt)
        )
    damage(new_folder.part_of(out) / "A.npy")
    with pytest.raises(cr.InputError, match=r"A.npy lacks rows that were written; remove"):
        plan(source, targets.Frequencies("count"), FIRST).write(out)


def test_a_full_disk_leaves_no_folder(source, columns, tmp_path, monkeypatch):
    out, full = tmp_path / "out", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    instance = plan(source, targets.Frequencies("count"), FIRST)
    with pytest.raises(cr.InputError, match=r"can't write .*No space left .*goes on from"):
        instance.write(out, interrupt_at(5, full))
    assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
        with pytest.raises(cr.InputError, match=r"A needs .* GB more, and 0.0 GB are free"):
            instance.write(out)
    instance.write(out)
    assert_is_instance(out, columns)


def test_a_folder_of_others_is_left_alone(source, tmp_path):
    part = tmp_path / "out.part"
    part.mkdir()
    (part / "precious").touch()
    with pytest.raises(cr.InputError, match=r"out.part is there, but not from this command"):
        plan(source, targets.Frequencies("count"), FIRST).write(tmp_path / "out")
    assert (part / "precious").exists()


def test_folders_that_cannot_be_made(source, tmp_path, monkeypatch):
    instance = plan(source, targets.Frequencies("count"), FIRST)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for out, message in (
        (tmp_path / "file", "is there already"),
        (tmp_path / "file" / "out", "can't write .*: Not a directory$"),
        (Path(), "is this folder; give the name of a new one"),
    ):
        with pytest.raises(cr.InputError, match=message):
            instance.write(out)


def test_a_source_that_changes_meanwhile_is_refused(columns, tmp_path):
    source, out = tmp_path / "a.csv", tmp_path / "out"
    write_csv(source, columns)
    instance = plan(source, targets.Frequencies("count"), FIRST)
    write_csv(source, columns | {"x0": columns["x0"] + 1})
    with pytest.raises(cr.InputError, match=r"a.csv has changed since it was opened"):
        instance.write(out)
    assert not out.exists()


@given(rows=st.lists(st.integers(0, N), max_size=4))
def test_any_number_of_interruptions(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("again")
    A = np.random.default_rng(0).normal(size=(N, D))
    np.save(folder / "a.npy", A)
    for stop in rows:
        try:
            plan(folder / "a.npy", targets.Attention(0), FIRST, None).write(
                folder / "out", interrupt_at(stop, KeyboardInterrupt)
            )
        except KeyboardInterrupt:
            continue
        break
    else:
        plan(folder / "a.npy", targets.Attention(0), FIRST, None).write(folder / "out")
    assert np.array_equal(np.load(folder / "out" / "A.npy"), A)
    assert not (folder / "out.part").exists()
