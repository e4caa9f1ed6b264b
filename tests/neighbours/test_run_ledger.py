"""The ledger of two training runs, made of the losses in their folders."""

import csv
import json
import math

import pytest
from typer.testing import CliRunner

from copyreg_jax.cli.main import app
from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.codelength import run_ledger

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


def test_k_is_what_the_safe_model_needs_more(runs):
    found = run_ledger(*runs)
    assert found.protected.names == ["a", "b", "c"]
    nats = [value * math.log(2) for value in found.protected.k_bits]
    assert nats == pytest.approx([10, 0.5, -10], abs=1e-12)
    assert found.held_out.names == ["out"]
    assert found.held_out.k_bits[0] * math.log(2) == pytest.approx(-1, abs=1e-12)


def test_command(runs, tmp_path):
    out = tmp_path / "out"
    words = ["ledger", str(runs[0]), "--without", str(runs[1]), "--out", str(out)]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [row["name"] for row in found["protected"]] == ["a", "b", "c"]
    with (out / "ledger.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["seen"]) for row in rows][2:] == [("c", "yes"), ("out", "no")]
    assert float(rows[0]["k_bits"]) == found["protected"][0]["k_bits"]
    assert (out / "k.png").read_bytes().startswith(b"\x89PNG")
    shown = CliRunner().invoke(app, [*words, "--overwrite"]).stdout
    assert "2 of 3, more than -12.50% of their bits" in shown  # a and b: 25 and 20 %
    assert "0.7 of 119" in shown  # 0.5 / ln 2 of 82.5 / ln 2


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
        ({"length": 64}, "has rows of another length than"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(runs, changes, message):
    write(runs[1], SAFE, True, **changes)
    with pytest.raises(InputError, match=message):
        run_ledger(*runs)


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
