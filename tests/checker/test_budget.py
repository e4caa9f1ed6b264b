"""What a check costs is said before it starts, and is refused beyond a limit."""

import json

import numpy as np
import pytest

from copyreg_jax.checker import budget, inextractable
from copyreg_jax.checker.__main__ import check_file, main
from copyreg_jax.checker.budget import MAX_TOKENS, Budget, duration, read_budget
from copyreg_jax.checker.format import canonical
from copyreg_jax.checker.verdicts import Verdict
from tests.support.exact_transformer import draw, gpt2, write


def document(windows):
    number = (0.0).hex()
    return {
        "format": inextractable.FORMAT, "producer": "a test",
        "model": {"config": "", "weights": ""}, "windows": windows, "prefix": 1,
        "suffix": len(windows[0]) - 1, "slack": number, "precision": 128,
        "bits": [number] * len(windows), "b": number,
    }  # fmt: skip


def test_the_rate_and_what_is_left_are_those_of_the_clock(monkeypatch):
    now = 60.0
    monkeypatch.setattr(budget.time, "monotonic", lambda: now)
    asked = Budget(8, 800)
    now = 100.0  # the model has been read
    assert asked.said(0) == "8 windows, 800 tokens through the model in exact arithmetic"
    now = 140.0
    assert asked.said(2) == "2 of 8 windows done, 0.2 s a token, about 120 seconds left"
    now = 700.0
    assert asked.said(6) == "6 of 8 windows done, 1 s a token, about 3.3 minutes left"


def test_one_is_no_plural(monkeypatch):
    now = 0.0
    monkeypatch.setattr(budget.time, "monotonic", lambda: now)
    asked = read_budget({"windows": [[0, 0]]})
    assert asked.said(0) == "1 window, 1 token through the model in exact arithmetic"
    now = 3.0
    assert asked.said(1).startswith("1 of 1 window done, 3 s a token")
    assert [duration(s) for s in (1.0, 0.996, 1.2, 0)] == [
        "1 second", "1 second", "1.2 seconds", "0 seconds"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([[1, 2, 3]] * 5, (5, 10)), ([], (0, 0)), (None, (0, 0)), ("abc", (0, 0)),
        ([[], 7, None, {"a": 1}, [4]], (2, 0)),
    ],
)  # fmt: skip
def test_a_budget_is_read_of_whatever_a_file_says(windows, expected):
    found = read_budget({"windows": windows})
    assert (found.windows, found.tokens) == expected
    assert read_budget({}).tokens == 0


def test_a_file_that_asks_for_too_much_is_refused_before_the_model_is_read(tmp_path, capsys):
    path = tmp_path / "certificate.json"
    path.write_bytes(canonical(document([[0] * 102] * 100)))
    found = check_file(path, tmp_path / "no-model")
    assert found.verdict is Verdict.VOID
    assert found.lines[0].startswith(f"{path} asks for 100 windows, 10,100 tokens through")
    assert f"and this check for {MAX_TOKENS:,} at most" in found.lines[0]
    enough = check_file(path, tmp_path / "no-model", max_tokens=10_100)
    assert "config.json" in enough.lines[0]
    assert main([str(path), str(tmp_path), "--max-tokens", "10099"]) == 2
    assert "asks for 100 windows" in capsys.readouterr().out


def test_the_checker_alone_says_what_it_does(tmp_path, capsys):
    folder = write(tmp_path, gpt2(), draw(gpt2(), np.random.default_rng(0)))
    said = document([[1, 2, 3]] * 5) | {"model": inextractable.read_model(folder).hashes}
    path = tmp_path / "certificate.json"
    path.write_bytes(canonical(said))
    assert json.loads(path.read_text())["b"] == "0x0.0p+0"
    assert main([str(path), str(folder)]) == 0
    shown = capsys.readouterr()
    first, second = shown.err.splitlines()
    assert first == "5 windows, 10 tokens through the model in exact arithmetic"
    assert second.startswith("4 of 5 windows done, ")
    assert shown.out.splitlines()[-1] == "CERTIFIED"
