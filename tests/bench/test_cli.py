"""The command ``copyreg bench``."""

import functools
import json

import pytest
from typer.testing import CliRunner

from copyreg_jax.bench import contest, peers, suite, tables
from copyreg_jax.bench.suite import Instance, dense
from copyreg_jax.cli.main import app

TINY = Instance("tiny", functools.partial(dense, 40, 3), quick=True, convex=True)


def missing():
    raise ModuleNotFoundError("needs the package data: pip install it", name="data")


@pytest.fixture
def tiny_bench(monkeypatch):
    """The command on a tiny instance and one that can't be made, with three methods."""
    chosen = {"copyreg", "scipy trust-ncg", "optax L-BFGS"}
    methods = [method for method in (*peers.OWN, *peers.PEERS) if method.name in chosen]
    measure = contest.measure
    instances = [TINY, Instance("gone", missing, quick=True, convex=True)]
    monkeypatch.setattr(suite, "SUITE", tuple(instances))
    monkeypatch.setattr(contest, "measure", lambda *a, **k: measure(*a, methods, **k))
    monkeypatch.setattr(contest, "QUICK", contest.Settings(limit=5.0, repeats=2, curves=("tiny",)))


@pytest.mark.slow
def test_bench(tiny_bench, tmp_path):
    pytest.importorskip("matplotlib")
    done = CliRunner().invoke(app, ["bench", "--device", "cpu", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "tiny: 40 x 3" in done.output
    assert "gone: skipped, needs the package data: pip install it" in done.output
    assert "geometric mean of the ratios" in done.output
    rows = tables.read_table(tmp_path / "results.csv", tables.Row)
    assert [(row.instance, row.method) for row in rows] == [
        ("tiny", "copyreg"),
        ("tiny", "scipy trust-ncg"),
        ("tiny", "optax L-BFGS"),
        ("gone", ""),
    ]
    assert all(row.status == tables.REACHED for row in rows[:3])
    assert {point.method for point in tables.read_table(tmp_path / "curves.csv", tables.Point)} == {
        row.method for row in rows[:3]
    }
    described = json.loads((tmp_path / "machine.json").read_text())
    assert described["jax"]
    assert described["device"]
    assert described["processor"]
    assert (tmp_path / "profile.svg").exists()
    assert (tmp_path / "curve-tiny.svg").exists()


def test_bench_without_matplotlib(tiny_bench, tmp_path, monkeypatch):
    from copyreg_jax.bench import profiles

    def absent(*_):
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(profiles, "write_figures", absent)
    done = CliRunner().invoke(app, ["bench", "--only", "gone", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["curves.csv", "machine.json", "results.csv"]


def test_the_processor_is_named_where_linux_tells_it(monkeypatch):
    told = "processor\t: 0\nmodel name\t: Fast Chip 9000 @ 3 GHz\nflags\t: fpu\n"
    monkeypatch.setattr(tables.Path, "read_text", lambda *_, **__: told)
    assert tables.processor() == "Fast Chip 9000 @ 3 GHz"
    monkeypatch.setattr(tables.Path, "read_text", lambda *_, **__: "processor\t: 0\n")  # ARM
    assert tables.processor() == (tables.platform.processor() or tables.platform.machine())
