"""The ledger of two training runs, made of the losses in their folders."""

import csv
import json
import math
import re
import sys

import pytest
from typer.testing import CliRunner

from copyreg_jax.cli.main import app
from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.codelength import plot_ledger, run_ledger

SEEN, SAFE = [30.0, 2.0, 50.0, 7.0, 9.0], [40.0, 2.5, 40.0, 7.0, 8.0]
FLAGS = [("a", 1, 0), ("b", 1, 0), ("c", 1, 0), ("open", 0, 0), ("out", 0, 1)]


def write(folder, losses, leave_out, *, length=128, **changes):
    """The two files of a run that a ledger is made of; ``changes`` are columns."""
    folder.mkdir(exist_ok=True)
    table = [
        {"name": name, "sha256": f"{name} text", "protected": bool(protected),
         "held_out": bool(held_out), "nll": loss}
        for (name, protected, held_out), loss in zip(FLAGS, losses, strict=True)
    ]  # fmt: skip
    for key, values in changes.items():
        for row, value in zip(table, values, strict=True):
            row[key] = value
    (folder / "documents.json").write_text(json.dumps(table))
    (folder / "run.json").write_text(json.dumps({"length": length, "leave_out": leave_out}))
    return folder


@pytest.fixture
def runs(tmp_path):
    return write(tmp_path / "run", SEEN, False), write(tmp_path / "without", SAFE, True)


def command(runs, *options):
    words = ["ledger", runs[0], "--without", runs[1], *options]
    return CliRunner().invoke(app, list(map(str, words)))


def test_k_is_what_the_safe_model_needs_more(runs):
    found = run_ledger(*runs)
    assert found.protected.names == ["a", "b", "c"]
    nats = [value * math.log(2) for value in found.protected.k_bits]
    assert nats == pytest.approx([10, 0.5, -10], abs=1e-12)
    assert found.held_out.names == ["out"]
    assert found.held_out.k_bits[0] * math.log(2) == pytest.approx(-1, abs=1e-12)


def test_command(runs, tmp_path):
    out = tmp_path / "out"
    result = command(runs, "--out", out, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [row["name"] for row in found["protected"]] == ["a", "b", "c"]
    with (out / "ledger.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["seen"]) for row in rows][2:] == [("c", "yes"), ("out", "no")]
    assert float(rows[0]["k_bits"]) == found["protected"][0]["k_bits"]
    assert (out / "k.png").read_bytes().startswith(b"\x89PNG")
    assert float(rows[0]["safe_bits"]) == pytest.approx(40 / math.log(2))
    assert float(rows[0]["bits"]) == pytest.approx(30 / math.log(2))
    shown = command(runs, "--out", out, "--overwrite").stdout
    assert "0.7 of 119" in shown  # 0.5 / ln 2 of 82.5 / ln 2
    # The yardstick is -12.5 %, and so nothing; a and b are above it with 25 and 20 %.
    assert re.search(r"held-out one +0.00% of its bits\n.* above that +2 of 3\n", shown)


def test_groups_may_be_empty(runs):
    for group, shown in (
        ("held_out", r"seen by neither +no documents\nno yardstick"),
        ("protected", r"protected +no documents\n"),
    ):
        for run, losses, leave_out in zip(runs, (SEEN, SAFE), (False, True), strict=True):
            write(run, losses, leave_out, **{group: [False] * 5})
        assert re.search(shown, command(runs).stdout)


def test_a_loss_of_zero_is_one(runs):
    write(runs[0], [0.0] * 5, False)
    write(runs[1], [0.0] * 5, True)
    result = command(runs)
    assert result.exit_code == 0
    assert "0 of 3" in result.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": ["other"] * 5}, "has other texts than"),
        ({"name": ["1", "2", "3", "4", "5"]}, "has other documents than"),
        ({"protected": [False] * 5}, "protects or holds out other documents than"),
        ({"held_out": [False] * 5}, "protects or holds out other documents than"),
        ({"nll": [math.nan] * 5}, "losses that are no numbers"),
        ({"nll": [-1.0] * 5}, "losses that are no numbers"),
        ({"nll": ["2"] * 5}, "not the folder of a finished run: its files have been changed"),
        ({"name": ["a"] * 5}, "has a document twice"),
        ({"name": ["a", "b", "c", "d", "\ud800"]}, "surrogates not allowed"),
        ({"held_out": [True] * 5}, "'a' is protected and held out"),
        ({"length": 64}, "has rows of another length than"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(runs, changes, message):
    write(runs[1], SAFE, True, **changes)
    with pytest.raises(InputError, match=message):
        run_ledger(*runs)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "3", '[{"name": "a"}]', "[1]"])
@pytest.mark.parametrize("file", ["documents.json", "run.json"])
def test_folders_that_are_no_runs_are_refused(file, content, runs, tmp_path):
    if content is None:
        (runs[1] / file).unlink()
    else:
        (runs[1] / file).write_text(content)
    out = tmp_path / "out"
    result = command(runs, "--out", out)
    assert isinstance(result.exception, InputError)
    assert "is not the folder of a finished run" in str(result.exception)
    assert not out.exists()


def test_without_matplotlib_there_is_no_plot(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        plot_ledger(run_ledger(*runs).protected, tmp_path / "k.png")


def test_runs_in_the_wrong_order_or_alone_are_refused(runs):
    with pytest.raises(InputError, match="left the protected documents out; give the run"):
        run_ledger(runs[1], runs[0])
    with pytest.raises(InputError, match="has seen the protected documents"):
        run_ledger(runs[0], runs[0])
    for words, message in (
        ([runs[0]], "is a run; give the run that left"),
        (["--without", runs[1]], "the embedded example has no documents.json"),
        ([runs[0] / "run.json", "--without", runs[1]], "run.json has no documents.json"),
    ):
        result = CliRunner().invoke(app, ["ledger", *map(str, words)])
        assert result.exit_code != 0
        assert message in str(result.exception)
