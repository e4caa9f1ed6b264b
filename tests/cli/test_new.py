"""`copyreg new`: from a user's file to a certificate, and one clear line for what is refused."""

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("pyarrow")

import copyreg_jax as cr
from copyreg_jax.cli.main import app
from copyreg_jax.instances.new_folder import NewInstance
from tests.cli.test_cli import copyreg


@pytest.fixture
def table(tmp_path):
    """Songs with owners, plays and three features."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 3))
    plays = rng.poisson(50 * np.exp(A @ [1, -1, 0.5]))
    lines = ["title,owner,plays,x1,x2,x3"]
    for i, (row, count) in enumerate(zip(A.tolist(), plays.tolist(), strict=True)):
        owner = "us" if i % 3 else "ACME, Inc."
        lines.append(f'"song, {i}","{owner}",{count},{",".join(map(repr, row))}')
    (tmp_path / "songs.csv").write_text("\n".join(lines))
    return tmp_path / "songs.csv"


ANSWERS = "--count-column", "plays", "--protected-label", "owner=ACME, Inc."
SUPPRESSING = "--gamma", "2e-5"


def test_three_commands_lead_from_a_table_to_a_checked_certificate(table, tmp_path):
    out, solved = tmp_path / "mine", tmp_path / "mine-solved"
    made = copyreg("new", table, "--out", out, *ANSWERS, "--columns", "x1, x2,x3")
    assert made.returncode == 0
    assert made.stderr.splitlines()[1:] == []  # a note on gamma, see below
    shown = dict(line.split(None, 1) for line in made.stdout.splitlines())
    assert shown["A"] == "60 rows, 3 columns, float64, dense"
    assert shown["columns"] == "x1, x2, x3"
    assert shown["b"].startswith("counts in column 'plays', divided by their sum; sum 1, from ")
    assert shown["protected"].startswith("'owner' = 'ACME, Inc.': 20 rows with ")
    assert f"copyreg solve {out} --out {solved}" in made.stdout
    run = copyreg("solve", out, "--out", solved)
    assert run.returncode == 0, run.stderr
    assert json.loads((solved / "summary.json").read_text())["status"] == "CONVERGED"
    check = copyreg("check", solved / "certificate.json", out)
    assert (check.returncode, check.stdout.splitlines()[-1][:10]) == (0, "CERTIFIED;")


def run(*arguments):
    """Run in this process: exit code, output, and the error that `main` prints as one line."""
    result = CliRunner().invoke(app, ["new", *map(str, arguments)])
    return result.exit_code, result.output, result.exception


REFUSED = {
    "text in A": (ANSWERS, "column 'title' holds text, as 'song, 0' in line 2"),
    "no target": (ANSWERS[2:], "no option says what b is; give one of --target-column, "),
    "no flags": (ANSWERS[:2], "no option says what the protected rows are; give one of --prot"),
    "two targets": ((*ANSWERS, "--query-row", 1), "give one of --count-column, --query-row"),
    "temperature": ((*ANSWERS, "--temperature", 1), "--temperature is for --query-row"),
    "label": (("--target-label", "owner", *ANSWERS[2:]), "'owner' is not COLUMN=LABEL"),
    "no label": (("--target-label", "", *ANSWERS[2:]), "'' is not COLUMN=LABEL"),
    "no such column": ((*ANSWERS, "--columns", "x1,y"), "no column 'y'; it has 'title', "),
    "index base": ((*ANSWERS, "--index-base", 1), "index_base is for svmlight files only"),
    "text for b": (
        ("--target-column", "title", *ANSWERS[2:]),
        "line 2: column 'title' holds 'song, 0', no finite number; choose a column of numbers",
    ),
    "gamma": ((*ANSWERS, "--columns", "x*", "--gamma", -1), "gamma is -1"),
    "w": ((*ANSWERS, "--columns", "x*", "--w", -1), "w is -1.0; give a finite number >= 0"),
    "twice": (
        ("--target-column", "x1", *ANSWERS[2:], "--columns", "x1,x2"),
        "column 'x1' is asked for twice, as a part of A and beside it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_writes_nothing(name, table, tmp_path):
    options, message = REFUSED[name]
    code, _, error = run(table, "--out", tmp_path / "out", *options)
    assert code == 1  # of the runner; `main` makes it 2
    assert isinstance(error, cr.InputError)
    assert message in str(error)
    assert "\n" not in str(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["songs.csv"]


def test_no_part_of_a_name_becomes_a_picture(tmp_path):
    refused = copyreg("new", "no.npz:a", "--out", tmp_path / "out", *ANSWERS)
    assert refused.stderr == "copyreg: can't read no.npz:a: No such file or directory\n"


def test_a_refusal_is_one_line_and_exit_code_2(table, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    refused = copyreg("new", table, "--out", tmp_path / "out", *ANSWERS)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"copyreg: {tmp_path / 'out'} is there already; choose another place, or remove it\n"
    )


OWN = "--target-column", "b", "--protected-column", "p"
NOTED = {
    "nothing": ({}, (*OWN, *SUPPRESSING), []),
    "a large gamma": ({}, OWN, ["gamma 0.001 asks for more distance than f = 0 on the protected "
        "rows has, so some of them may get more than b; to suppress them, solve with "
        "--gamma 6.2e-05 or less"]),
    "nothing to suppress": ({"b": [0, 0.05, 0.05] * 10}, OWN, ["b is 0 on all protected rows, so "
        "they can't get less than b, and any gamma amplifies them; to leave them out of the "
        "protection, solve with --gamma 0"]),
    "counts": ({"b": range(1, 31)}, OWN, ["b sums to 465, but softmax(A x) is positive and sums "
        "to 1; did you mean --count-column b?"]),
    "negative b": ({"b": [-1, 2] + [0] * 28}, OWN, ["b is -1 at row 0, but softmax(A x) is "
        "positive and sums to 1; divide b by its sum if it should be a distribution"]),
    "ids": ({"x": range(30), "y": range(1, 31)}, (*OWN, *SUPPRESSING),
        [f"column '{name}' counts the rows from {base}; if it is an id, leave it out"
         for base, name in enumerate("xy")]),
    "a copy of the mask": ({"x": [1, 0, 0] * 10}, (*OWN, *SUPPRESSING), ["column 'x' is the mask "
        "of the protected rows; if A is not meant to say which these are, leave it out"]),
    "units": ({"x": [1, 2] * 15, "y": [1000, 2000] * 15, "z": [0] * 30}, (*OWN, *SUPPRESSING),
        ["column 'y' is 1e+03 times as large as 'x' (by their norms); scale the columns before"]),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTED)
def test_what_is_mostly_a_slip_is_noted(name, tmp_path):
    changes, options, notes = NOTED[name]
    columns = {"p": [1, 0, 0] * 10, "b": [1 / 30] * 30, "x": [1, 2] * 15, "y": [3, 1] * 15}
    columns |= changes
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([",".join(columns), *rows]))
    code, output, _ = run(tmp_path / "a.csv", "--out", tmp_path / "out", *options)
    assert code == 0
    noted = [line for line in output.splitlines() if line.startswith("note: ")]
    assert noted == [f"note: {note}" for note in notes]


def test_refusals_that_need_no_table_come_before_jax(table, tmp_path, monkeypatch):
    """JAX is what takes most of the time to start."""
    monkeypatch.setitem(sys.modules, "copyreg_jax.instances", None)  # importing it is an error
    (tmp_path / "there").touch()
    out = "--out", tmp_path / "out"
    for options, message in (
        ((table, "--out", tmp_path / "there", *ANSWERS), "there is there already"),
        ((tmp_path / "no.csv", *out, *ANSWERS), "no.csv: No such file"),
        ((f"{tmp_path}/no.npz:x", *out, *ANSWERS), "no.npz:x: No such file"),
        ((table, *out), "no option says what b is"),
        ((table, *out, "--temperature", 1, *ANSWERS), "--temperature is for --query-row"),
        ((table, *out, "--protected-label", "x", *ANSWERS[:2]), "is not COLUMN=LABEL"),
    ):
        _, _, error = run(*options)
        assert isinstance(error, cr.InputError)
        assert message in str(error)


@pytest.mark.parametrize("started", [False, True])
def test_an_interruption_says_what_is_left(started, table, tmp_path, monkeypatch):
    def write(instance, out, progress):
        if started:
            out.with_name("out.part").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(NewInstance, "write", write)
    code, output, _ = run(table, "--out", tmp_path / "out", *ANSWERS, "--columns", "x?")
    assert code == 130
    assert ("the same command goes on from" in output) == started
    assert not (tmp_path / "out").exists()


def test_sparse_rows_and_their_labels(tmp_path):
    (tmp_path / "a.txt").write_text("1 1:0.5 3:2\n-1 2:1\n1 3:1\n")
    options = "--target-column", "label", "--protected-label", "label=-1", "--format", "svmlight"
    code, output, _ = run(
        tmp_path / "a.txt", "--out", tmp_path / "out", *options, "--index-base", 1
    )
    assert code == 0
    assert "3 rows, 3 columns, float64, sparse, 4 entries" in output
    assert "counted from 1, so that index 1 is column 0" in output
    assert "--index-base" not in output
    problem = cr.load_instance(tmp_path / "out")
    assert problem.A.todense().tolist() == [[0.5, 0, 2], [0, 1, 0], [0, 0, 1]]
    assert (problem.b.tolist(), problem.protected.tolist()) == ([1, -1, 1], [False, True, False])
    _, output, _ = run(tmp_path / "a.txt", "--out", tmp_path / "zero", *options, "--index-base", 0)
    assert "note: no row has the index 0; if the file counts from 1, say --index-base 1\n" in output


def test_messages_name_a_sparse_file_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.svm").write_text("1 0:0.5\n-1 2:1\n")
    options = "--target-column", "label", "--protected-label", "label=7"
    _, _, error = run("a.svm", "--out", "out", *options)
    assert str(error) == "a.svm: column 'label' has no row with '7'; it has '-1', '1'"


def test_an_array_may_have_a_colon_in_its_name(tmp_path):
    pytest.importorskip("safetensors.numpy").save_file(
        {"a:b": np.eye(2)}, tmp_path / "m.safetensors"
    )
    name = f"{tmp_path / 'm.safetensors'}:a:b"
    code, output, _ = run(name, "--query-row", 0, "--protected-rows", 1, "--out", tmp_path / "out")
    assert code == 0, output
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "A.npy"), np.eye(2))
