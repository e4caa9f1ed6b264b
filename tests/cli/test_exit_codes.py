"""Each exit code that docs/reference/command-line.md lists is reached, and each key is there."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.bench import contest, tables
from copyreg_jax.certificates.training import load_training, save_training
from copyreg_jax.checker import __main__ as checker
from copyreg_jax.cli import doctor
from copyreg_jax.cli.common import to_json
from copyreg_jax.cli.main import app, main
from copyreg_jax.errors import TrainingError
from copyreg_jax.theory import search
from copyreg_jax.theory.search_results import Row
from tests.report.folders_of_results import solved
from tests.support.registry import random_problem

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"
COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands)


def table(head):
    """A table of the page: the cells of each row by its first one, which names a command."""
    rows = PAGE.read_text().partition(f"{head}\n")[2].partition("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {name.strip("`"): rest for name, *rest in cells}


CODES = table("| command | 0 | 1 | 3 |")
KEYS = table("| command | keys of the object |")


def documented_keys(command):
    """The sets of keys that an object may have: those of a part of the cell, or of all parts."""
    cell = re.sub(r"\([^)]*\)|`--[^`]*`", "", KEYS[command][0])
    parts = [set(re.findall(r"`(\w+)`", part)) for part in cell.split(";")]
    return [*parts, set().union(*parts)]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the program in this process and in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["copyreg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return ended.value.code or 0, written.out, written.err

    return command


def instance(patch):
    cr.save_instance("i.npz", random_problem(4, 10, 2, w=0.1))
    return "solve", "i.npz"


def few_steps(patch):
    return *instance(patch), "--max-steps", 1


def point(tau):
    def certify(patch):
        instance(patch)
        np.save("x.npy", np.zeros(2))
        return "certify", "i.npz", "x.npy", "--no-local", "--tau", tau

    return certify


def tie(patch):
    """The protected rows are the others again, so the margin is 0, between irrational numbers."""
    problem = cr.CopyrightRegression(np.array([[1.0], [2], [1], [2]]), np.full(4, 0.25), 2)
    cr.save_instance("i.npz", problem)
    np.save("x.npy", np.ones(1))
    return "certify", "i.npz", "x.npy", "--no-local", "--max-bits", 128


def checking(case):
    """What `certify` writes is checked."""

    def check(patch):
        _, i, x, _, option, value = case(patch)
        given = {"tau": value} if option == "--tau" else {"max_bits": value}
        cr.certify(i, np.load(x), local=False, **given).save("c.json")
        return "check", "c.json", i

    return check


def results(patch):
    solved(Path("out"), random_problem(4, 10, 2, w=0.1), np.zeros(2))
    return "report", "out"


def table_of_claims(verdict):
    def lemmas(patch):
        row = Row("Lemma 1", "it is so", "joint", verdict, 0.5, "ratio", 1, 1, None)
        printed = row._replace(verdict="fails")
        rows = [printed] * search.NUM_PRINTED + [row]
        patch.setattr(search, "audit", lambda *_, **__: rows)
        return ("lemmas",)

    return lemmas


def one_method(patch):
    row = tables.Row(
        "embedded", 4, 2, 8, "copyreg", "copyreg-jax", "0", tables.REACHED, 1e-9, 1e-8, 0.5,
    )._replace(seconds=0.25, excess=0.0)  # fmt: skip

    def measure(chosen, *, report, finished, **_):
        finished([row])
        return [row], []

    patch.setattr(contest, "measure", measure)
    return "bench", "--only", "embedded"


def examined(failure):
    def examine(patch):
        patch.setattr(doctor, "_failure_of_jax", lambda: failure)
        return ("doctor",)

    return examine


def models(patch):
    np.savez("models.npz", log_p=np.log([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    return "naf", "models.npz"


def bits(patch):
    instance(patch)
    return "ledger", "i.npz"


def open_bits(patch):
    """A column is there twice, and the other weights of the two are as good."""
    first = random_problem(0, 12, 2)
    A = np.concatenate([first.A, first.A[:, :1]], axis=1)
    cr.save_instance("i.npz", cr.CopyrightRegression(A, first.b, first.protected, 1e-3, 1.0))
    return "ledger", "i.npz"


def owners(patch):
    Path("owners.csv").write_text("coalition,value\n,-9\nann,-8\nbea,-8\nann+bea,-6\n")
    return "royalty", "owners.csv"


def file(patch):
    pytest.importorskip("constriction")
    Path("emma.txt").write_text("Emma Woodhouse, handsome, clever, and rich")
    return "compress", "emma.txt", "--out", "emma.cr"


def archive(patch):
    pytest.importorskip("constriction")
    from copyreg_jax.neighbours.archive_file import compress

    Path("emma.cr").write_bytes(compress(b"handsome, clever, and rich").archive)
    return "decompress", "emma.cr", "--out", "emma.txt"


def texts(patch):
    Path("train.csv").write_text("text,label\nthe cat sat,animal\nx = y + 1,code\n")
    Path("test.csv").write_text("text,label\nthe dog sat,animal\n")
    return "nearest", "train.csv", "test.csv"


def books(patch):
    pytest.importorskip("flax")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(80)]
    lines = [{"text": " ".join(rng.choice(words, 60))} for _ in range(20)]
    Path("books.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sizes = (
        "--vocab-size 300 --width 16 --layers 1 --heads 2 --length 32 --batch-size 8 "
        "--protect-share 0.3 --gamma 1 --out run"
    )
    return "train", "books.jsonl", *sizes.split()


def diverging(patch):
    arguments = books(patch)
    from copyreg_jax.lm import experiment

    def train(*_, **__):
        raise TrainingError("the loss of step 3 is nan")

    patch.setattr(experiment, "train", train)
    return arguments


def rows(patch):
    np.save("a.npy", np.arange(6.0).reshape(3, 2))
    return "new", "a.npy", "--out", "made", "--target-column", 1, "--protected-rows", 1


REACH = {
    ("new", 0): rows,
    ("solve", 0): instance,
    ("solve", 1): few_steps,
    ("certify", 0): point(-1),
    ("certify", 1): point(1),
    ("certify", 3): tie,
    ("check", 0): checking(point(-1)),
    ("check", 1): checking(point(1)),
    ("check", 3): checking(tie),
    ("report", 0): results,
    ("lemmas", 0): table_of_claims("holds"),
    ("lemmas", 1): table_of_claims("fails"),
    ("bench", 0): one_method,
    ("doctor", 0): examined(""),
    ("doctor", 1): examined("planted"),
    ("train", 1): diverging,
    ("naf", 0): models,
    ("ledger", 0): bits,
    ("ledger", 3): open_bits,
    ("royalty", 0): owners,
    ("compress", 0): file,
    ("decompress", 0): archive,
    ("nearest", 0): texts,
}
"""What reaches a code of a command. `test_runs_and_their_audits` reaches the three others."""


def test_the_page_lists_all_commands_and_all_codes_are_reached():
    assert sorted(CODES) == sorted(KEYS) == COMMANDS
    listed = {
        (command, code)
        for command, cells in CODES.items()
        for code, cell in zip((0, 1, 3), cells, strict=True)
        if cell
    }
    assert listed == {*REACH, ("train", 0), ("audit", 0), ("audit", 1)}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_have_all_their_digits(number):
    assert only_json(to_json({"number": number}))["number"] == number


def only_json(text):
    """The object that is all of a text; NaN and infinities, which are no JSON, are refused."""

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(text, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(("command", "code"), REACH)
def test_a_code_is_reached_and_json_is_all_that_is_printed(command, code, run, monkeypatch):
    found, out, err = run(*REACH[command, code](monkeypatch), "--json")
    assert found == code, err
    if (command, code) == ("train", 1):
        assert out == ""
        assert err.endswith("copyreg: the loss of step 3 is nan\n")
    else:
        assert set(only_json(out)) in documented_keys(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_option_is_bad_input(command, run):
    said = f"copyreg: No such option: --zzz. See `copyreg {command} --help`.\n"
    assert run(command, "--zzz") == (2, "", said)


def test_an_error_is_one_line_with_json_too(run):
    said = "copyreg: can't read absent.npz: No such file or directory\n"
    assert run("solve", "absent.npz", "--json") == (2, "", said)


def test_nothing_tested_is_void(run):
    code, out, _ = run("check", "absent.json", "absent.npz", "--json")
    assert (code, only_json(out)["verdict"]) == (2, "VOID")


def raising(error):
    def check_file(*_, **__):
        raise error

    return check_file


def test_an_interruption(run, monkeypatch):
    monkeypatch.setattr(checker, "check_file", raising(KeyboardInterrupt()))
    assert run("check", "c.json", "--json")[:2] == (130, "")


@pytest.mark.parametrize("error", [RuntimeError("a slip"), MemoryError()])
def test_a_fault_of_the_program_is_no_verdict(error, run, monkeypatch):
    """Python's own exit code would be 1, which says REFUTED here."""
    monkeypatch.setattr(checker, "check_file", raising(error))
    code, out, err = run("check", "c.json", "--json")
    assert (code, out) == (70, "")
    assert err.startswith("Traceback (most recent call last):\n")
    name = type(error).__name__
    assert err.splitlines()[-1] == (
        f"copyreg: {name} is a fault of this program or of what is installed; "
        "see `copyreg doctor`, else please report it"
    )


def test_output_that_nobody_reads_is_no_verdict(run, monkeypatch):
    monkeypatch.setattr(checker, "check_file", raising(BrokenPipeError(32, "Broken pipe")))
    code, _, err = run("check", "c.json")
    assert code == 2
    assert "can't write the output: " in err


@pytest.mark.slow
def test_runs_and_their_audits(run, monkeypatch):
    pytest.importorskip("rouge_score")
    arguments = books(monkeypatch)
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    assert only_json(out) == json.loads(Path("run/run.json").read_text())
    assert set(only_json(out)) in documented_keys("train")
    assert "20 documents: 5 protected" in err
    audit = "audit", "run", "--text", "books.jsonl", "--prefix", 8, "--suffix", 8
    code, out, err = run(*audit, "--json", "--out", "audit.json")
    assert code == 0, err
    assert only_json(out) == json.loads(Path("audit.json").read_text())
    assert "written to audit.json" in err
    Path("work.txt").write_text("a work " * 200)
    work = "--work", "work.txt", "--prefix", 8, "--suffix", 8, "--outputs", 0, "--near", 0
    code, out, err = run("audit", "--model", "run", *work, "--json")
    assert code == 0, err
    assert set(only_json(out)) in documented_keys("audit")
    save_training(load_training("run/guarantee.json")._replace(tau=9.0), "run/guarantee.json")
    code, out, err = run(*audit, "--json")
    assert code == 1, err
    assert only_json(out)["run"]["certificate"]["problems"]
