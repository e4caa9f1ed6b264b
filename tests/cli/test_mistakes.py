"""The mistakes that users make most, and word for word what they are told.

Each message names the cause and the cure. Those of tables are with the readers of tables.
"""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

import copyreg_jax as cr
from copyreg_jax.checker.format import canonical
from copyreg_jax.cli.main import main
from copyreg_jax.errors import ENABLE_X64
from tests.support.registry import random_problem

A = np.arange(8.0).reshape(4, 2)
B = np.full(4, 0.25)
MASK = np.arange(4) < 2


def with_value(array, place, value):
    changed = array.copy()
    changed[place] = value
    return changed


FILES = {
    "sound": {},
    "nan": {"A": with_value(A, (1, 0), np.nan)},
    "infinite": {"w": with_value(np.ones(4), 2, np.inf)},
    "integers": {"A": A.astype(int)},
    "objects": {"A": A.astype(object)},
    "texts": {"A": A.astype(str)},
    "transposed": {"A": A.T},
    "wide": {
        "A": np.eye(127),
        "b": np.full(127, 1 / 127),
        "protected": np.arange(127) < 2,
        "w": np.ones(127),
    },
    "column": {"b": B[:, None]},
    "no_b": {"b": None},
    "float_mask": {"protected": MASK.astype(float)},
    "indices": {"protected": np.array([0, 1])},
    "short_mask": {"protected": MASK[:3]},
    "none": {"protected": np.zeros(4, bool)},
    "all": {"protected": np.ones(4, bool)},
    "negative_w": {"w": with_value(np.ones(4), 2, -1)},
    "negative_gamma": {"gamma": np.array(-1.0)},
    "reading": {"reading": np.array("both")},
    "no_point": {"A": None, "b": None, "protected": None, "gamma": None},
}
"""By the name of each file, what it holds in place of the arrays of a sound instance."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a file for each mistake."""
    place = tmp_path_factory.mktemp("mistakes")
    sound = {"A": A, "b": B, "protected": MASK, "w": np.ones(4), "gamma": np.array(0.1)}
    for name, changes in FILES.items():
        arrays = {**sound, **changes}
        np.savez(place / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})
    np.save(place / "x.npy", np.zeros(2))
    np.save(place / "short.npy", np.zeros(1))
    np.save(place / "A.npy", A)
    np.savez(place / "probabilities.npz", log_p=np.array([[0.5, 0.5], [0.2, 0.8]]))
    (place / "truncated.npz").write_bytes((place / "sound.npz").read_bytes()[:100])
    texts = {
        "notes.txt": "x", "table.csv": "a,b\n1,2\n", "labels.csv": "text,label\nfoo,a\nbar,b\n",
        "owners.csv": "coalition,value\n,0\nann,1\nbea,2\n",
        "texts.jsonl": '{"text": "hello there", "who": "a"}\n',
    }  # fmt: skip
    for name, text in texts.items():
        (place / name).write_text(text)
    (place / "empty").mkdir()
    for name in ("instance.npz", "solution.npz", "certificate.json"):  # a folder of results
        (place / "solved").mkdir(exist_ok=True)
        (place / "solved" / name).write_bytes(b"")
    (place / "summary.json").write_text("{}")
    (place / "songs").mkdir()
    for name, array in sound.items():
        np.save(place / "songs" / f"{name}.npy", array)
    certificate = cr.certify(place / "sound.npz", np.zeros(2), -1.0, local=False)
    certificate.save(place / "c.json")
    old = json.loads((place / "c.json").read_text()) | {"format": "copyreg-certificate/1"}
    (place / "old.json").write_bytes(canonical(old))
    three = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], 1, gamma=0.1, w=0.1)
    cr.minimize_globally(three).certificate().save(place / "global.json")
    (place / "edited.json").write_text((place / "c.json").read_text().replace("CERT", "REFU"))
    return place


WANTED = "A, b, protected, w, gamma"
WAYS = "--protect-share, --protect-source, --protect-column, --protect-names"
ANEW = (
    "give the global.json of a search of this very instance, or leave the option out to search anew"
)
SOLVERS = (
    "'newton-cg', 'newton', 'sketched-newton', 'gradient-descent', 'accelerated-gradient', "
    "'lbfgs', 'adam'"
)
TABLE = (
    "{} is a table, and no instance, which says what b and the protected rows are; make one first: "
    "copyreg new {} ... (see `copyreg new --help`)"
)
REFUSED = {
    # The command line.
    "slove": "No such command 'slove'. Did you mean 'solve'? See `copyreg --help`.",
    "solve --gama 1":
        "No such option: --gama (Possible options: --gamma). See `copyreg solve --help`.",
    "solve --solver bfgs":
        f"Invalid value for '--solver': 'bfgs' is not one of {SOLVERS}. "
        "See `copyreg solve --help`.",
    "solve --gamma 0,1":
        "Invalid value for '--gamma': Input should be a valid number, unable to parse string as a "
        "number. It is '0,1'. See `copyreg solve --help`.",
    "certify sound.npz": "Missing argument 'point'. See `copyreg certify --help`.",
    "solve sound.npz --rtol 1e-30":
        "rtol = 1e-30 can't be reached in float64, where the smallest is 3.6e-15",
    "solve sound.npz --tau nan": "tau is nan; give a finite number",
    # The wrong file.
    "solve absent.npz": "can't read absent.npz: No such file or directory",
    "solve notes.txt": f"notes.txt is truncated or not an .npz file; give one with {WANTED}",
    "solve truncated.npz":
        f"truncated.npz is truncated or not an .npz file; give one with {WANTED}",
    "solve A.npy": TABLE.format("A.npy", "A.npy --out A"),
    "certify table.csv x.npy": TABLE.format("table.csv", "table.csv --out table"),
    "ledger labels.csv": TABLE.format("labels.csv", "labels.csv --out labels"),
    "solve solved": "solved is a folder of results; name solved/instance.npz",
    "certify sound.npz solved": "solved is a folder of results; name solved/solution.npz",
    "solve empty": f"empty lacks {WANTED}; it holds nothing",
    "solve no_b.npz": "no_b.npz lacks b; it holds A, gamma, protected, w",
    "solve objects.npz":
        "objects.npz holds pickled objects, which are never loaded; store plain arrays",
    "solve wide.npz --global":
        "--global: A has more than 126 independent columns; leave the option out to solve without "
        "this proof",
    "solve sound.npz --global --global-resume c.json":
        "--global-resume: c.json is not a valid certificate: the format is not copyreg-global/1; "
        + ANEW,
    "solve sound.npz --global --global-resume sound.npz":
        f"--global-resume: sound.npz is damaged, or no certificate, which is JSON; {ANEW}",
    "solve sound.npz --global --global-resume global.json":
        "--global-resume: the certificate is for other data: n is 3 there and 4 here; " + ANEW,
    "solve sound.npz --out notes.txt":
        "can't write to --out notes.txt: it is a file; give a folder",
    "solve sound.npz --checkpoint x.npy":
        "x.npy is not a checkpoint (it holds one array); name another file",
    "solve songs --out songs":
        "--out songs is the folder of the instance; choose another place, such as songs-solved",
    "certify sound.npz x.npy --out absent/c.json":
        "can't write absent/c.json: the folder absent is not there; make it first",
    "certify sound.npz x.npy --out c.json":
        "--out: c.json already exists; choose another place, or give --overwrite",
    "certify x.npy sound.npz": "sound.npz is an instance; give it first, and the point x after it",
    "certify sound.npz no_point.npz": "no_point.npz holds w, and no x; give the point as x",
    "certify sound.npz notes.txt": "notes.txt holds no readable x; give an .npz or .npy file",
    # Arrays that do not fit.
    "solve nan.npz": "nan.npz: A is nan at row 1, column 0; replace or remove that entry",
    "solve infinite.npz": "infinite.npz: w is inf at row 2; replace or remove that entry",
    "solve integers.npz": "integers.npz: A has dtype int64; store float32 or float64",
    "solve texts.npz": "texts.npz: A has dtype <U32; give real numbers of at most 64 bits",
    "solve transposed.npz": "transposed.npz: b has shape (4,); A has 2 rows, so give shape (2,)",
    "solve column.npz": "column.npz: b has shape (4, 1); A has 4 rows, so give shape (4,)",
    "solve float_mask.npz": "float_mask.npz: protected has dtype float64; store a bool mask",
    "solve indices.npz": "indices.npz: protected has dtype int64; store a bool mask",
    "solve short_mask.npz":
        "short_mask.npz: protected has dtype bool and shape (3,); give a boolean mask of shape "
        "(4,), an array of row indices, or the int n1",
    "solve none.npz":
        "none.npz: protected is empty; mark at least one row, or use SoftmaxRegression",
    "solve all.npz": "all.npz: protected marks all 4 rows; leave at least one unprotected",
    "solve negative_gamma.npz":
        "negative_gamma.npz: gamma is -1.0; give a finite number >= 0",
    "solve negative_w.npz": "negative_w.npz: w is -1.0 at row 2; give finite numbers >= 0",
    "solve sound.npz --w -1": "w is -1.0; give finite numbers >= 0",
    "solve reading.npz": "reading.npz: reading is 'both'; choose one of joint, block",
    "certify sound.npz short.npy": "x has shape (1,); A has 2 columns, so give shape (2,)",
    # Other commands.
    "naf probabilities.npz":
        "log_p has 0.5 at (0, 0); log-probabilities are at most 0; take the natural logarithm of "
        "probabilities",
    "royalty owners.csv":
        "owners.csv: coalition ann+bea is missing; there are 3 of the 4 coalitions of ann, bea, "
        "and exact shares need all",
    "royalty labels.csv":
        "labels.csv has columns text, label; give coalition and value, or coalition, lower and "
        "upper",
    "nearest labels.csv table.csv": "table.csv, row 1: no column 'text'; columns: a, b",
    "nearest labels.csv labels.csv --k 3": "k = 3 of 2 training texts; choose k from 1 to 2",
    "ledger sound.npz --without empty":
        "--without is for a finished run of copyreg train, and sound.npz has no documents.json",
    "decompress notes.txt --out again": "notes.txt is not an archive of copyreg compress",
}  # fmt: skip
REFUSED_OF_MODELS = {
    "train texts.jsonl --out run":
        f"give one of {WAYS}, which say what is protected; 0 are given",
    "train texts.jsonl --protect-share 0.5 --text-column body --out run":
        "texts.jsonl, line 1: no column 'body'; columns: text, who",
    "train empty --protect-share 0.5 --out run":
        "empty has no .txt file; give a folder with some",
    "audit empty": "give either runs and their --text, or a --model and a --work",
    "audit empty --text texts.jsonl":
        "empty is not the folder of a finished run: can't read empty/documents.json: No such file "
        "or directory",
    "audit --model absent --work notes.txt":
        "absent is not a folder; give the folder of a model",
}  # fmt: skip
VOID = {
    "check old.json sound.npz":
        "old.json is not a valid certificate: its format is 'copyreg-certificate/1', not "
        "copyreg-certificate/2; make the file anew",
    "check edited.json sound.npz":
        "edited.json is not a valid certificate: its bytes do not match its sha256",
    "check sound.npz c.json":
        "sound.npz is damaged, or no certificate, which is JSON; "
        "give the certificate first, and after it what it is about",
    "check summary.json sound.npz":
        "summary.json is not a valid certificate: it has no sha256, as certificates have",
    "check solved sound.npz":
        "solved is a folder; name the file, solved/certificate.json",
    "check c.json solved": "solved is a folder of results; name solved/instance.npz",
    "check c.json": "c.json is about an instance or a table; name its .npz file after it",
    "check c.json infinite.npz": "w must be finite numbers",
    "check c.json negative_gamma.npz": "gamma must be one number >= 0",
}  # fmt: skip


@pytest.fixture
def run(capsys, folder, monkeypatch):
    """Run a command line in this process, and return its exit code and what it printed."""
    monkeypatch.chdir(folder)

    def command(line):
        monkeypatch.setattr(sys, "argv", ["copyreg", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return ended.value.code or 0, written.out, written.err

    return command


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused(line, run):
    assert run(line) == (2, "", f"copyreg: {REFUSED[line]}\n")


@pytest.mark.parametrize("line", REFUSED_OF_MODELS)
def test_what_is_refused_by_commands_for_language_models(line, run):
    pytest.importorskip("flax")
    assert run(line) == (2, "", f"copyreg: {REFUSED_OF_MODELS[line]}\n")


@pytest.mark.parametrize("line", VOID)
def test_what_is_no_certificate_of_this(line, run):
    assert run(line) == (2, f"{VOID[line]}\nVOID\n", "")


@pytest.mark.parametrize(
    ("line", "missing", "extra"),
    [
        ("train texts.jsonl --protect-share 0.5 --out run", "flax", "lm"),
        ("audit empty --text texts.jsonl", "tokenizers", "lm"),
        ("compress notes.txt --out small", "constriction", "neighbours"),
    ],
)
def test_an_extra_that_is_missing(line, missing, extra, run, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else found(name)
    )
    monkeypatch.setitem(sys.modules, missing, None)  # importing it is an ImportError
    said = f"copyreg: {missing} is not installed; run: pip install 'copyreg-jax[{extra}]'\n"
    assert run(line) == (2, "", said)


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (2 * B, "b sums to 2"),
        (with_value(B, 3, -0.1), "b is -0.1 at row 3 and b sums to 0.65"),
        (B + 2e-4, None),  # four digits
    ],
)
def test_a_target_that_is_no_distribution_is_solved_and_said(b, words, run, tmp_path):
    first = random_problem(4, 4, 2, w=0.1)
    cr.save_instance(
        tmp_path / "i.npz", cr.CopyrightRegression(first.A, b, first.protected, 0.1, 0.1)
    )
    code, out, err = run(f"solve {tmp_path / 'i.npz'}")
    assert code == 0
    doubted = f" But {words}, and f sums to 1: b is no distribution."
    assert any(line.endswith(doubted) for line in out.splitlines()[-2:]) == (words is not None)
    cure = "divide b by its sum if it should be a distribution"
    said = f"note: {words}, but softmax(A x) is positive and sums to 1; {cure}\n"
    assert err == ("" if words is None else said)


def problem(**changes):
    return cr.CopyrightRegression(**{"A": A, "b": B, "protected": MASK, **changes})


def single():
    return problem(A=A.astype(np.float32), b=B.astype(np.float32))


PYTHON = {
    "a tolerance of float64 in float32": (
        lambda: cr.solve(single(), rtol=1e-12),
        "rtol = 1e-12 can't be reached in float32, where the smallest is 1.9e-06; put "
        f"{ENABLE_X64} before the first use of JAX and pass float64 data",
    ),
    "the name of a solver": (
        lambda: cr.solve(problem(), "newton-cg"),
        "solver is 'newton-cg'; give an instance such as NewtonCG(), and wrap an optax "
        "transformation as Optax(transformation)",
    ),
    "an array for a problem": (
        lambda: cr.solve(A), "problem is a ndarray; give a CopyrightRegression",
    ),
    "a solution for its point": (
        lambda: cr.certify(problem(), cr.solve(problem())),
        "x is a Solution; give an array of 2 numbers, such as solution.x",
    ),
    "rows counted from 1": (
        lambda: problem(protected=[3, 4]),
        "protected[1] = 4 is outside the rows 0..3 of A; rows are counted from 0",
    ),
    "a row named twice": (
        lambda: problem(protected=[1, 1]),
        "protected names a row twice; give each row once, or a boolean mask",
    ),
    "a float mask": (
        lambda: problem(protected=MASK.astype(float)),
        "protected has dtype float64 and shape (4,); if protected is a mask, of 1 where a row is "
        "meant and else 0, give protected != 0",
    ),
    "the name of a file for A": (
        lambda: problem(A="A.npy"),
        "A is a path; give RowBlocks('A.npy'), which reads it block by block",
    ),
    "a start of another shape": (
        lambda: cr.solve(problem(), x0=np.zeros(3)),
        "x0 has shape (3,); A has 2 columns, so give shape (2,)",
    ),
    "capital letters": (
        lambda: problem(reading="Joint"), "reading is 'Joint'; choose one of joint, block",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_what_python_refuses(name):
    mistake, words = PYTHON[name]
    with pytest.raises(cr.InputError) as refused:
        mistake()
    assert str(refused.value) == words


def test_a_program_that_may_not_run_is_named(run, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", sys.executable)

    monkeypatch.setattr(subprocess, "run", refuse)
    code, out, _ = run("doctor")
    assert code == 1
    assert f"JAX does not start: {sys.executable} can't be run: Permission denied." in out


def test_a_file_that_fails_is_named_and_is_not_the_output(run, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr("copyreg_jax.checker.__main__.check_file", fail)
    assert run("check c.json") == (2, "", "copyreg: can't use /some/file: Permission denied\n")
