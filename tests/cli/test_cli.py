"""The command, as a user runs it: in its own process."""

import functools
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import copyreg_jax as cr
from copyreg_jax.cli.common import TABLE_SUFFIXES, in_options
from copyreg_jax.cli.main import app, main
from copyreg_jax.cli.solve_results import write_solution
from copyreg_jax.instances.readers.opening import FORMATS
from tests.support.registry import random_problem

COMMAND = [sys.executable, "-c", "from copyreg_jax.cli import main; main()"]


def copyreg(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def arrays_of(problem):
    """What an instance file or folder holds."""
    names = ("A", "b", "protected", "w", "gamma")
    return {name: np.asarray(getattr(problem, name)) for name in names}


def save_folder(folder):
    """An instance as a folder of .npy files."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays_of(random_problem(4, 10, 2, w=0.1)).items():
        np.save(folder / f"{name}.npy", array)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    path = tmp_path_factory.mktemp("instance") / "instance.npz"
    cr.save_instance(path, random_problem(4, 10, 2, w=0.1))
    return path


def test_solve_starts_at_the_proved_global_minimum(instance, tmp_path):
    """In this process: what a search prints, writes and refuses."""
    out = tmp_path / "out"
    run = CliRunner().invoke(app, ["solve", str(instance), "--global", "--out", str(out)])
    assert run.exit_code == 0, run.output
    assert "least L, proved             in [" in run.output
    assert "global minimum              PROVED (gap " in run.output
    summary = json.loads((out / "summary.json").read_text())
    found = summary["global"]
    check = CliRunner().invoke(app, ["check", found["certificate"], str(out / "instance.npz")])
    assert (found["certificate"], check.exit_code) == (str(out / "global.json"), 0)
    assert found["status"] == "PROVED"
    assert found["lower"] <= summary["value"] <= found["upper"] * (1 + 1e-12)
    low, high = found["margin"]
    assert low <= high
    assert len(found["minimizers"]) == 1
    again = ["solve", str(instance), "--global", "--global-resume", found["certificate"]]
    run = CliRunner().invoke(app, again)
    assert (run.exit_code, "global minimum              PROVED (gap " in run.output) == (0, True)
    refused = ["solve", str(instance), "--global", "--checkpoint", str(tmp_path / "run.npz")]
    run = CliRunner().invoke(app, refused)
    assert "leave --checkpoint out" in str(run.exception)
    run = CliRunner().invoke(app, ["solve", str(instance), "--global-seconds", "5"])
    assert "give --global too" in str(run.exception)


def test_a_stopped_search_goes_on_by_the_command_that_is_printed(instance, tmp_path, monkeypatch):
    out, rest = tmp_path / "out", tmp_path / "rest"
    with monkeypatch.context() as patch:
        search = functools.partial(cr.minimize_globally, max_boxes=1)
        patch.setattr(cr, "minimize_globally", search)
        run = CliRunner().invoke(app, ["solve", str(instance), "--global", "--out", str(out)])
    assert run.exit_code == 1, run.output
    (line,) = [line for line in run.output.splitlines() if "To go on" in line]
    words = shlex.split(line.partition("copyreg ")[2])
    assert words[-1] == "FOLDER"
    run = CliRunner().invoke(app, [*words[:-1], str(rest)])
    assert run.exit_code == 0, run.output
    assert "To go on" not in run.output
    before, after = (json.loads((path / "summary.json").read_text()) for path in (out, rest))
    assert after["global"]["num_boxes"] > before["global"]["num_boxes"]


def test_an_older_proof_does_not_stay_where_the_search_wrote_none(instance, tmp_path):
    problem = cr.load_instance(instance)
    (tmp_path / "global.json").write_text("{}")
    write_solution(tmp_path, problem, cr.solve(problem), {"global": {"certificate": None}})
    assert not (tmp_path / "global.json").exists()


def test_solve_certify_check(instance, tmp_path):
    out = tmp_path / "out"
    run = copyreg("solve", instance, "--out", out, "--tau", 1e-3)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "CONVERGED" in run.stdout
    assert "claim                       margin >= tau = 0.001: CERTIFIED" in run.stdout
    assert f"copyreg check {out / 'certificate.json'} {out / 'instance.npz'}" in run.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        "certificate.json", "instance.npz", "solution.npz", "summary.json",
    ]  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    problem = cr.load_instance(instance)
    solution = cr.solve(problem)
    assert summary["status"] == "CONVERGED"
    assert summary["value"] == pytest.approx(solution.value, rel=1e-12)
    assert summary["direction"] == solution.direction
    assert summary["certificate"]["tau"] == 1e-3
    assert summary["certificate"]["local"]["distance"] < 1e-9
    assert not summary["certificate"]["is_global"]
    with np.load(out / "solution.npz") as stored:
        np.testing.assert_allclose(stored["x"], solution.x, rtol=1e-9)
        np.testing.assert_allclose(stored["f"], problem.f(solution.x), rtol=1e-9)
        assert len(stored["history_value"]) == summary["num_steps"] + 1

    check = copyreg("check", out / "certificate.json", out / "instance.npz")
    assert (check.returncode, check.stdout.splitlines()[-1]) == (
        0, "CERTIFIED; the protected mass went UP. This is amplified, not suppressed.",
    )  # fmt: skip
    certificate = tmp_path / "c.json"
    point = ("certify", instance, out / "solution.npz")
    assert copyreg(*point, "--out", certificate).returncode == 0
    assert cr.check(certificate, instance).verdict is cr.Verdict.CERTIFIED
    refused = copyreg(*point, "--tau", 1)
    assert refused.returncode == 1
    assert "REFUTED (margin >= 1.0); the protected mass went UP" in refused.stdout
    explained = copyreg(*point, "--explain", "--no-local", "--max-bits", 256)
    assert explained.returncode == 0
    assert explained.stdout.startswith("CERTIFIED (margin > 0), but only because the protected")
    assert "local: that a minimizer is near x" in explained.stdout
    bad = copyreg(*point, "--max-bits", 64)
    assert (bad.returncode, bad.stderr) == (2, "copyreg: max_bits is 64; give 128 to 4096\n")
    other = copyreg("check", out / "certificate.json", instance)
    assert other.returncode == 0  # the same data under another name


@pytest.mark.parametrize(("gamma", "direction"), [(0.001, "suppressed"), (0.01, "amplified")])
def test_the_last_lines_say_which_way_and_what_to_do(tmp_path, gamma, direction):
    """With ten times the protection the example gives the protected novel more attention."""
    wrong, out = direction == "amplified", tmp_path / "out"
    required = "--require-suppressed"
    solved = copyreg("solve", "--gamma", gamma, required, "--out", out)
    assert solved.returncode == int(wrong)
    verdict, *remedy = solved.stdout.splitlines()[-1 - int(wrong) :]
    way = "but only because the protected mass went UP" if wrong else "protected mass went DOWN"
    assert verdict.startswith("CERTIFIED (margin > 0)")
    assert way in verdict
    assert [line.startswith("To suppress it, take a smaller gamma") for line in remedy] == [
        True
    ] * wrong
    summary = json.loads((out / "summary.json").read_text())["certificate"]
    assert (summary["headline"], summary["direction"]) == (verdict, direction)
    point = ("certify", out / "instance.npz", out / "solution.npz", "--no-local")
    assert copyreg(*point, required).returncode == int(wrong)
    check = in_process("check", out / "certificate.json", out / "instance.npz")
    assert f"CERTIFIED; the protected mass went {'UP' if wrong else 'DOWN'}." in check.stdout
    unasked = copyreg(*point)
    assert unasked.returncode == 0
    assert unasked.stdout.splitlines()[-1 - int(wrong)] == verdict


def test_a_direction_that_is_not_proved_is_not_suppressed(tmp_path):
    """At x = 0 all rows have what the target gives them."""
    problem = cr.CopyrightRegression(np.eye(4), np.full(4, 0.25), 2, gamma=0.1)
    cr.save_instance(tmp_path / "i.npz", problem)
    np.save(tmp_path / "x.npy", np.zeros(4))
    point = "certify", tmp_path / "i.npz", tmp_path / "x.npy", "--tau", -1, "--no-local"
    found = copyreg(*point)
    assert found.returncode == 0
    assert "whether the protected mass went up or down is open" in found.stdout.splitlines()[-1]
    assert copyreg(*point, "--require-suppressed").returncode == 1
    cr.certify(tmp_path / "i.npz", np.zeros(4), -1, local=False).save(tmp_path / "c.json")
    check = in_process("check", tmp_path / "c.json", tmp_path / "i.npz")
    assert check.stdout.splitlines()[-1] == (
        "CERTIFIED; whether the protected mass went up or down is not proved."
    )


@pytest.mark.parametrize("status", cr.Status)
def test_why_a_solver_stopped_is_said_in_options(status):
    """The names of Python that an explanation has are those of options here."""
    shown = in_options(status.explanation)
    named = {word.strip(".,;:") for word in shown.split()}
    assert not named & {*cr.__all__, "callback", "max_steps", "rtol"}


def test_tables_are_what_new_reads():
    read = {suffix for suffixes in FORMATS.values() for suffix in suffixes}
    assert read == {*TABLE_SUFFIXES, ".npz"}


def test_an_instance_folder_is_no_place_for_results(tmp_path):
    save_folder(tmp_path / "songs")
    words = "songs is the folder of the instance; choose another place, such as .*songs-solved"
    for command in ("solve", "ledger"):
        untouched(words, tmp_path, command, tmp_path / "songs", "--out", tmp_path / "songs")


def test_json_and_overrides(instance):
    run = copyreg(
        "solve", instance, "--json", "--gamma", 0.5, "--w", 2, "--reading", "block", "--solver",
        "lbfgs", "--rtol", 1e-8,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    problem = cr.load_instance(instance).replace(gamma=0.5, w=2.0, reading="block")
    assert summary["value"] == pytest.approx(cr.solve(problem).value, rel=1e-12)
    assert (summary["gamma"], summary["reading"]) == (0.5, "block")
    assert summary["metric"] == "squared"


@pytest.mark.slow
def test_metric(instance):
    run = copyreg("solve", instance, "--json", "--metric", "cross-entropy")
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    problem = cr.load_instance(instance).replace(metric="cross-entropy")
    assert summary["metric"] == "cross-entropy"
    assert summary["value"] == pytest.approx(cr.solve(problem).value, rel=1e-12)
    assert summary["certificate"]["margin"][0] == cr.certify(problem, cr.solve(problem).x).margin[0]


@pytest.mark.slow
def test_not_converged_is_exit_code_1_and_results_are_kept(instance, tmp_path):
    run = copyreg("solve", instance, "--solver", "adam", "--max-steps", 3, "--out", tmp_path)
    assert run.returncode == 1
    assert "MAX_STEPS after 3 steps" in run.stdout
    assert "Raise --max-steps or --rtol" in run.stdout
    assert (tmp_path / "solution.npz").exists()


@pytest.mark.slow
def test_weights_that_leave_a_direction_free_are_said(instance):
    run = copyreg("solve", instance, "--w", 0, "--max-steps", 50)
    assert run.stderr.startswith("note: w is zero on 10 rows, which leaves 2 direction(s)")


@pytest.fixture
def refuse(capsys, monkeypatch, tmp_path):
    """Run a command in this process, and return the one line that it refuses its input with."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        before = contents(tmp_path)
        monkeypatch.setattr(sys, "argv", ["copyreg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        assert (ended.value.code, written.out) == (2, "")
        assert written.err.startswith("copyreg: ")
        assert written.err.count("\n") == 1
        assert contents(tmp_path) == before
        return written.err.removeprefix("copyreg: ").rstrip("\n")

    return run


@pytest.fixture
def data(tmp_path):
    """What `instance.npz` holds; `save` writes it with other arrays."""
    arrays = arrays_of(random_problem(4, 4, 2, w=0.1))

    def save(name, **changes):
        np.savez(tmp_path / name, **{**arrays, **changes})

    save("instance.npz")
    np.save(tmp_path / "point.npy", np.zeros(2))
    np.save(tmp_path / "short.npy", np.zeros(1))
    return save


# The errors that most users meet, word for word.
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"A": np.where(np.arange(8).reshape(4, 2) == 2, np.nan, 1.0)},
         "A is nan at row 1, column 0; replace or remove that entry"),
        ({"b": np.full(3, 0.25)}, "b has shape (3,); A has 4 rows, so give shape (4,)"),
        ({"protected": np.ones(4, bool)},
         "protected marks all 4 rows; leave at least one unprotected"),
        ({"protected": np.array([0])}, "protected has dtype int64; store a bool mask"),
        ({"A": np.ones(4)},
         "A has shape (4,); give (n, d) with n >= 1 rows and d >= 1 columns"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(changes, words, refuse, data):
    data("bad.npz", **changes)
    assert refuse("solve", "bad.npz") == f"bad.npz: {words}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("solve", "absent.npz"), "can't read absent.npz: No such file or directory"),
        (("solve", "instance.npz", "--w", "inf"),
         "w is inf at row 0; replace or remove that entry"),
        (("solve", "instance.npz", "--rtol", "1e-30"),
         "rtol = 1e-30 can't be reached in float64, where the smallest is 3.6e-15"),
        (("solve", "instance.npz", "--max-steps", "0"),
         "max_steps is 0; give an integer >= 1 and below 2^31"),
        (("certify", "instance.npz", "short.npy"),
         "x has shape (1,); A has 2 columns, so give shape (2,)"),
    ],
)  # fmt: skip
def test_files_and_options_that_do_not_fit(arguments, words, refuse, data):
    assert refuse(*arguments) == words


# Others, by what they name.
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("solve", "instance.npz", "--out", "instance.npz"), "can't write to --out"),
        (("solve", "instance.npz", "--out", "/proc/none"), "can't write to --out /proc/none"),
        (("certify", "instance.npz", "none.npy"), "can't read none.npy: No such file"),
        (("certify", "instance.npz", "instance.npz"), "is an instance; give it first"),
        (("certify", "instance.npz", "point.npy", "--tau", "nan"), "tau is nan"),
        (("certify", "instance.npz", "point.npy", "--out", "/none/c.json"), "can't write /none"),
        (("certify", "instance.npz", "point.npy", "--out", "other.npz"), "give --overwrite"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, refuse, data):
    data("other.npz")
    assert words in refuse(*arguments)


def test_bad_input_in_a_process_of_its_own(instance):
    run = copyreg("solve", instance, "--gamma", "-1")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "copyreg: gamma is -1.0; give a finite number >= 0\n"


def test_void_check_is_exit_code_2(instance, tmp_path):
    (tmp_path / "c.json").write_text("{}")
    run = copyreg("check", tmp_path / "c.json", instance)
    assert (run.returncode, run.stdout.splitlines()[-1]) == (2, "VOID")


def test_help_starts_without_jax():
    code = "import atexit, sys; atexit.register(lambda: print('jax' in sys.modules))"
    code += "; from copyreg_jax.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "False"
    for command in ("solve", "certify", "check", "lemmas", "doctor"):
        assert command in run.stdout


@pytest.mark.slow
def test_ctrl_c_keeps_the_results(tmp_path):
    terminal, stderr = pty.openpty()
    options = ("--solver", "gradient-descent", "--max-steps", "1000000000", "--out", tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "solve", *options],
        stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(stderr)
    seen = b""
    while b"step " not in seen:  # the live line: the solver runs
        seen += os.read(terminal, 1000)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    os.close(terminal)
    assert process.returncode == 130
    assert "INTERRUPTED" in output
    assert "You stopped the run" in output
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "INTERRUPTED"
    checked = cr.check(tmp_path / "certificate.json", tmp_path / "instance.npz")
    assert checked.verdict is not cr.Verdict.VOID


def test_bad_tau_is_found_before_the_work(refuse, data, tmp_path):
    words = "tau is nan; give a finite number"
    assert refuse("solve", "instance.npz", "--tau", "nan", "--out", "out") == words
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_nonfinite_is_json_too_and_leaves_no_certificate(tmp_path):
    # All rows are equal, so f is b at every x: the barrier is everywhere.
    problem = cr.CopyrightRegression(np.ones((4, 1)), np.full(4, 0.25), 2)
    cr.save_instance(tmp_path / "i.npz", problem)
    (tmp_path / "certificate.json").write_text("an older one")
    run = copyreg("solve", tmp_path / "i.npz", "--json", "--out", tmp_path, "--overwrite")
    assert run.returncode == 1

    def refuse(word):
        raise AssertionError(word)

    summary = json.loads(run.stdout, parse_constant=refuse)
    facts = {"status": "NONFINITE", "value": None, "certificate": None}
    assert summary | facts == summary
    assert json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse) == summary
    assert not (tmp_path / "certificate.json").exists()
    again = copyreg("solve", tmp_path / "i.npz", "--out", tmp_path / "o")
    assert "copyreg check" not in again.stdout


def in_process(*arguments):
    """The command without a process of its own; an InputError is raised."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def contents(folder):
    """Every file, and what every link says."""
    found = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    return {path: path.readlink() if path.is_symlink() else path.read_bytes() for path in found}


def untouched(words, folder, *arguments):
    """The command refuses before any work, and leaves all files as they were."""
    before = contents(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("solve", "load_instance"):
            patch.setattr(cr, name, None)  # a call would be a TypeError
        with pytest.raises(cr.InputError, match=words):
            in_process(*arguments)
    assert contents(folder) == before


def linked(tmp_path, way):
    """An instance as the user names it, and an --out in which `solve` would write over it."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    file = data / "instance.npz"
    cr.save_instance(file, random_problem(4, 10, 2, w=0.1))
    if way in ("same name", "another spelling", "relative"):
        named = Path(os.path.relpath(file)) if way == "relative" else file
        return named, data / ".." / "data" / "." if way == "another spelling" else data
    if way == "link to the folder":
        out.symlink_to(data)
        return file, out
    out.mkdir()
    link = out / ("certificate.json" if way == "link by another name" else "instance.npz")
    if way == "hard link":
        os.link(file, link)
    else:
        link.symlink_to(file)
    return link if way == "input is the link" else file, out


WAYS = ["same name", "another spelling", "relative", "link to the folder", "hard link",
        "symlink", "input is the link", "link by another name"]  # fmt: skip


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("way", WAYS)
def test_no_command_replaces_its_input(way, overwrite, tmp_path):
    """By whatever name, with --overwrite too, and before any work."""
    instance, out = linked(tmp_path, way)
    for change in ((), ("--gamma", 0.5)):
        untouched("would replace .*, which this command needs", tmp_path,
                  "solve", instance, *change, "--out", out, *overwrite)  # fmt: skip
    np.save(tmp_path / "x.npy", np.zeros(2))
    name = "certificate.json" if way == "link by another name" else "instance.npz"
    for file in (out / name, tmp_path / "x.npy", tmp_path / "out" / ".." / "x.npy"):
        if file.exists():
            untouched("would replace", tmp_path, "certify", instance, tmp_path / "x.npy",
                      "--out", file, *overwrite)  # fmt: skip
    untouched("--checkpoint: .* would replace", tmp_path,
              "solve", instance, "--checkpoint", out / name, *overwrite)  # fmt: skip


def test_files_of_an_instance_folder_are_inputs(tmp_path):
    save_folder(tmp_path)
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x" / "x.npy", np.zeros(2))
    untouched("w.npy would replace", tmp_path, "certify", tmp_path, tmp_path / "x" / "x.npy",
              "--out", tmp_path / "w.npy", "--overwrite")  # fmt: skip
    os.link(tmp_path / "b.npy", tmp_path / "x" / "summary.json")
    untouched("summary.json would replace .*b.npy", tmp_path,
              "solve", tmp_path, "--out", tmp_path / "x", "--overwrite")  # fmt: skip


def test_a_checkpoint_is_not_where_results_go(instance, tmp_path):
    for name in ("solution.npz", "instance.npz", "../out/solution.npz"):
        (tmp_path / "out").mkdir(exist_ok=True)
        untouched("would replace", tmp_path, "solve", instance, "--out", tmp_path / "out",
                  "--checkpoint", tmp_path / "out" / name, "--overwrite")  # fmt: skip


@pytest.mark.parametrize(
    "name", ["certificate.json", "instance.npz", "solution.npz", "summary.json"]
)
def test_results_of_another_run_are_kept_unless_told(name, instance, tmp_path):
    """Each of the four files alone is enough; other files in the folder are nobody's business."""
    (tmp_path / name).write_bytes(b"of another run")
    (tmp_path / "notes.txt").write_text("mine")
    command = ("solve", instance, "--out", tmp_path)
    words = f"--out: .*{name} already exists; choose another place, or give --overwrite$"
    untouched(words, tmp_path, *command)
    assert in_process(*command, "--overwrite").exit_code == 0
    assert cr.check(tmp_path / "certificate.json", tmp_path / "instance.npz").verdict.value == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    untouched(f"{name} is a folder", tmp_path, *command, "--overwrite")


def test_a_run_that_goes_on_may_write_where_it_wrote(instance, tmp_path):
    """With the same checkpoint and data; a checkpoint of another run is no leave to overwrite."""
    out, run = tmp_path / "out", tmp_path / "run.npz"
    command = ("solve", instance, "--out", out, "--checkpoint", run)
    first = in_process(*command, "--max-steps", 2)
    assert first.exit_code == 1
    assert "MAX_STEPS" in first.stdout
    assert in_process(*command).exit_code == 0
    assert json.loads((out / "summary.json").read_text())["status"] == "CONVERGED"
    assert in_process(*command).exit_code == 0  # nothing left to do
    untouched("already exists", tmp_path, "solve", instance, "--out", out)
    untouched("already exists", tmp_path, *command[:-1], tmp_path / "new.npz")
    before = contents(tmp_path)
    with pytest.raises(cr.InputError, match="another run: not the same problem"):
        in_process(*command, "--gamma", 0.5)
    assert contents(tmp_path) == before
    other = tmp_path / "other.npz"
    assert in_process("solve", instance, "--gamma", 0.5, "--checkpoint", other).exit_code == 0
    other.replace(run)
    untouched("already exists", tmp_path, *command)
    untouched("already exists", tmp_path, *command, "--gamma", 0.5)


@pytest.mark.slow
def test_a_matrix_that_stays_in_its_folder_is_checked_there(tmp_path, monkeypatch):
    """No older instance.npz is left beside the certificate, and the check that is named runs."""
    monkeypatch.setattr("copyreg_jax.checker.archive._STREAMED", 0)
    monkeypatch.setattr("copyreg_jax.instances.instance_files.STREAMED_BYTES", 0)
    save_folder(tmp_path / "data")
    out = tmp_path / "out"
    out.mkdir()
    (out / "instance.npz").write_bytes(b"of another run")
    run = in_process("solve", tmp_path / "data", "--out", out, "--overwrite")
    assert not (out / "instance.npz").exists()
    (named,) = (line.split()[-2:] for line in run.stdout.splitlines() if "copyreg check " in line)
    assert cr.check(*named).verdict is cr.Verdict.CERTIFIED
    changed = in_process("solve", tmp_path / "data", "--gamma", 0.5, "--out", out, "--overwrite")
    assert "copyreg check" not in changed.stdout  # no file has that instance


def test_other_commands_ask_before_they_replace(tmp_path):
    (tmp_path / "lemma-10.npz").write_bytes(b"mine")
    untouched(r"lemma-10.npz already exists", tmp_path, "lemmas", "--out", tmp_path)
    (tmp_path / "curve-mine.svg").write_bytes(b"mine")
    untouched(r"curve-mine.svg already exists", tmp_path, "bench", "--out", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk, where there is /dev/full")
def test_output_that_nobody_gets_is_exit_code_2(instance):
    with Path("/dev/full").open("w") as full:
        run = subprocess.run([*COMMAND, "solve", instance], stdout=full, stderr=subprocess.PIPE,
                             text=True, check=False)  # fmt: skip
    assert run.returncode == 2
    assert "can't write the output" in run.stderr
    assert "Traceback" not in run.stderr


def test_version():
    assert copyreg("--version").stdout == f"copyreg-jax {cr.__version__}\n"


def test_example_with_out(tmp_path):
    run = copyreg("solve", "--out", tmp_path / "austen")
    assert run.returncode == 0, run.stderr
    assert "suppressed" in run.stdout
    check = copyreg("check", tmp_path / "austen/certificate.json", tmp_path / "austen/instance.npz")
    assert check.returncode == 0
