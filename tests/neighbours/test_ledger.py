"""Ledgers against minimizers in 300 bits, and the checker against false ledgers."""

import copy
import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from flint import arb, arb_mat, arb_series, ctx
from typer.testing import CliRunner

import copyreg_jax as cr
from copyreg_jax.certificates import minimizers
from copyreg_jax.checker import format
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.cli.main import app
from copyreg_jax.neighbours.ledger import Ledger, ledger
from tests.checker.definition import Case, exact
from tests.support.registry import METRICS, READINGS, random_problem

BITS = 300
NAMES = ("naf_bits", "mass_bits", "distance")


def exact_minimizer(problem, x, *, safe):
    """x and f in 300 bits: Newton steps with the float64 Hessian, each of which gains ten digits.

    Slopes are those of power series, for the joint reading.
    """
    of = cr.LeaveOutRegression.of(problem) if safe else problem
    inverse = arb_mat(np.linalg.inv(np.asarray(of.hessian(x))).tolist())
    arrays = [np.asarray(v) for v in (problem.A, problem.b, problem.protected, problem.w)]
    case = Case(*arrays, 0.0 if safe else float(problem.gamma), "joint", problem.metric)
    half = 2 if problem.metric == "squared" else 1

    def slope(point, axis):
        found = exact(case, [arb_series([v, int(i == axis)]) for i, v in enumerate(point)])
        return arb_series(found.value - (found.ell_1 / half if safe else 0))[1]

    point = [arb(v) for v in np.asarray(x).tolist()]
    for _ in range(12):
        step = inverse * arb_mat([[slope(point, axis)] for axis in range(len(point))])
        point = [(a - b).mid() for a, b in zip(point, step.entries(), strict=True)]
    u = arb_mat(arrays[0].tolist()) * arb_mat([[v] for v in point])
    e = [v.exp() for v in u.entries()]
    return point, [v / sum(e, arb(0)) for v in e]


@functools.cache
def truth(seed):
    """A random convex problem, and the exact differences of its two minimizers."""
    rng = np.random.default_rng(seed)
    problem = random_problem(
        seed, 5, 2, gamma=float(10.0 ** rng.uniform(-6, -2)), w=0.5 + rng.random(5),
        metric=METRICS[seed % 2],
    )  # fmt: skip
    found = ledger(problem)
    with ctx.workprec(BITS):
        (x, f), (x_safe, safe) = (
            exact_minimizer(problem, kept.x, safe=kept is found.safe)
            for kept in (found.model, found.safe)
        )
        bits = [(p / q).log() / arb(2).log() for p, q in zip(f, safe, strict=True)]
        marked = np.flatnonzero(np.asarray(problem.protected))
        masses = [sum((p[i] for i in marked), arb(0)) for p in (f, safe)]
        moved = sum(((a - b) ** 2 for a, b in zip(x, x_safe, strict=True)), arb(0)).sqrt()
        numbers = {
            "rows": bits,
            "naf_bits": max(bits, key=float),
            "mass_bits": (masses[0] / masses[1]).log() / arb(2).log(),
            "distance": moved,
        }
    return problem, found, numbers


def inside(found, numbers):
    """Whether intervals have the exact numbers; 300 bits leave 2^-200 of rounding."""
    pairs = [(numbers[name], getattr(found, name)) for name in NAMES]
    pairs += zip(numbers["rows"], found.rows, strict=True)
    room = 2.0**-200
    with ctx.workprec(BITS):
        return all(arb(low) - room <= ball <= arb(high) + room for ball, (low, high) in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_the_exact_minimizers_are_in_the_proved_intervals(part):
    """1,000 random convex instances, in ten parts."""
    widths = []
    for seed in range(100 * part, 100 * (part + 1)):
        _, found, numbers = truth(seed)
        assert found.verdict is cr.Verdict.CERTIFIED
        assert inside(found, numbers)
        widths += [high - low for low, high in found.rows]
    assert np.median(widths) <= 1e-6


def near_ties(seed, number):
    """Ledgers that state an end within 1e-7 to 1e-17 of the exact number, on either side."""
    rng = np.random.default_rng(seed)
    _, found, numbers = truth(seed)
    for _ in range(number):
        document = copy.deepcopy(found.document)
        name = (*NAMES, "rows")[rng.integers(4)]
        place, ball = document, numbers[name]
        if name == "rows":
            row = int(rng.integers(len(ball)))
            place, name, ball = document["rows"], row, ball[row]
        end, near = int(rng.integers(2)), float(ball)
        stated = near + float(rng.choice([-1, 1]) * 10.0 ** rng.uniform(-17, -7))
        pair = [float.fromhex(v) for v in place[name]]
        pair[end] = stated
        place[name] = [v.hex() for v in pair]
        with ctx.workprec(BITS):
            true = arb(pair[0]) <= ball <= arb(pair[1])
        yield document, true


@pytest.fixture
def check(tmp_path):
    """The verdict on a document, for a problem."""

    def run(problem, document):
        instance, path = tmp_path / f"{id(problem)}.npz", tmp_path / "ledger.json"
        if not instance.exists():
            cr.save_instance(instance, problem)
        path.write_bytes(format.canonical(document))
        return check_file(path, instance).verdict

    return run


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_near_ties_are_never_certified_wrongly(part, check):
    """10,000 statements that are false or true by 1e-17 to 1e-7, by numbers known to 300 bits."""
    false, certified = 0, 0
    for seed in range(10 * part, 10 * (part + 1)):
        for document, true in near_ties(seed, 100):
            verdict = check(truth(seed)[0], document)
            certified += verdict is cr.Verdict.CERTIFIED
            assert true or verdict is not cr.Verdict.CERTIFIED
            false += not true
    assert false > 400
    assert certified > 10


def test_a_ledger_is_proved_again(check):
    for seed in range(4):
        problem, found, _ = truth(seed)
        assert check(problem, found.document) is cr.Verdict.CERTIFIED


def shifted(document, name, by, end):
    forged = copy.deepcopy(document)
    forged[name][end] = (float.fromhex(forged[name][end]) + by).hex()
    return forged


@pytest.mark.parametrize("name", NAMES)
def test_a_number_that_is_false_is_refuted(name, check):
    """An upper end that is too low, and a lower end that is too high."""
    problem, found, _ = truth(0)
    assert check(problem, shifted(found.document, name, -1e-3, 1)) is cr.Verdict.REFUTED
    assert check(problem, shifted(found.document, name, 1e-3, 0)) is cr.Verdict.REFUTED
    wide = shifted(shifted(found.document, name, 1e-3, 1), name, -1e-3, 0)
    assert check(problem, wide) is cr.Verdict.CERTIFIED


def test_models_are_not_exchanged(check):
    problem, found, _ = truth(0)
    exchanged = {"model": found.document["safe"], "safe": found.document["model"]}
    verdict = check(problem, found.document | exchanged)
    assert verdict in (cr.Verdict.REFUTED, cr.Verdict.UNDECIDED)


def test_a_row_fewer_and_bounds_that_say_nothing_are_void(check):
    problem, found, _ = truth(0)
    fewer = {"rows": found.document["rows"][:-1]}
    for change in (fewer, {"rows": None}, {"naf_bits": ["-inf", "inf"]}):
        assert check(problem, found.document | change) is cr.Verdict.VOID


def not_unique():
    """A column that is there twice."""
    first = random_problem(0, 12, 2)
    A = np.concatenate([first.A, first.A[:, :1]], axis=1)
    return cr.CopyrightRegression(A, first.b, first.protected, 1e-3, 1.0)


def test_a_minimizer_that_is_not_unique_is_left_open(check):
    """Nothing is stated of the rows, and nothing is certified."""
    problem = not_unique()
    found = ledger(problem)
    assert (found.verdict, found.rows, found.naf_bits) == (cr.Verdict.UNDECIDED, None, None)
    assert check(problem, found.document) is cr.Verdict.UNDECIDED


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
def test_events_obey_the_bound(reading):
    """f(E) <= 2^k safe(E) for random sets of rows, in float64 and with its rounding."""
    problem = random_problem(1, 30, 3, gamma=1e-4, reading=reading)
    found = ledger(problem)
    f, safe = (np.asarray(problem.f(kept.x)) for kept in (found.model, found.safe))
    sets = np.random.default_rng(0).random((1000, 30)) < 0.5
    assert (sets @ f <= 2.0**found.naf_bits.upper * (sets @ safe) * (1 + 1e-12)).all()


def test_the_start_of_the_safe_model_does_not_know_the_protected_targets():
    """Two minima of a loss that is not convex: from the model's own point, K would be 0.12 bits."""
    rng = np.random.default_rng(1)
    A = rng.standard_normal((5, 2)) * 4
    problem = cr.CopyrightRegression(A, rng.dirichlet(np.full(5, 0.3)), 2, 1e-4, 0.02)
    assert ledger(problem).naf_bits.lower > 5


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("bits", [53, 128])
def test_what_is_made_in_either_arithmetic_is_certified(bits, reading, check, monkeypatch):
    monkeypatch.setattr(minimizers, "_LOCAL_BITS", (bits,))
    problem = random_problem(7, 20, 3, gamma=1e-5, reading=reading)
    found = ledger(problem)
    assert found.model.local.bits == bits
    for one in (found, ledger(problem, found.model.x + 1e-7, found.safe.x - 1e-6)):
        assert check(problem, one.document) is cr.Verdict.CERTIFIED


def test_a_mass_that_underflows_lies_between_its_rows():
    """f is about exp(-3000) on the one protected row, and K there is known all the same."""
    problem = cr.CopyrightRegression(
        [[1.0], [-1.0], [-3000.0]], [0.7, 0.3, 0.0], [False, False, True], 0.0, [0.01, 0.01, 0.0]
    )
    found = ledger(problem)
    assert found.verdict is cr.Verdict.CERTIFIED
    assert found.mass_bits.lower >= found.rows[2].lower - 1e-9
    assert found.mass_bits.upper <= found.rows[2].upper + 1e-9


def test_save_and_load(tmp_path):
    found = truth(0)[1]
    found.save(tmp_path / "ledger.json")
    again = Ledger.load(tmp_path / "ledger.json")
    assert (again.document, again.rows) == (found.document, found.rows)


def test_what_is_no_copyright_regression_is_refused():
    with pytest.raises(cr.InputError, match="problem is a SoftmaxRegression"):
        ledger(cr.SoftmaxRegression([[1.0], [0.0]], [0.5, 0.5]))


def run(*arguments):
    return CliRunner().invoke(app, ["ledger", *map(str, arguments)])


def test_command(tmp_path):
    problem, found, _ = truth(1)
    cr.save_instance(tmp_path / "given.npz", problem)
    result = run(tmp_path / "given.npz", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert set(said) == {"verdict", "naf_bits", "rows"}
    assert said["verdict"] == "CERTIFIED"
    overlap = zip(said["rows"], found.rows, strict=True)  # another run, the same exact numbers
    assert all(low <= row.upper and row.lower <= high for (low, high), row in overlap)
    files = tmp_path / "out" / "ledger.json", tmp_path / "out" / "instance.npz"
    assert check_file(*files).verdict is cr.Verdict.CERTIFIED
    assert check_file(files[0]).lines[0].endswith("name its .npz file after it")
    again = run(tmp_path / "given.npz", "--out", tmp_path / "out")
    assert "already exists; choose another place, or give --overwrite" in str(again.exception)


def test_command_says_null_where_nothing_is_proved(tmp_path):
    cr.save_instance(tmp_path / "a.npz", not_unique())
    result = run(tmp_path / "a.npz", "--json")
    assert result.exit_code == 3
    expected = {"verdict": "UNDECIDED", "naf_bits": None, "rows": [None] * 12}
    assert json.loads(result.stdout) == expected
    assert "none proved near the point" in run(tmp_path / "a.npz").stdout


def test_float32_data_without_64_bits_have_wider_intervals():
    """The solver's tolerance is that of float32; the proof takes its numbers as exact."""
    code = (
        "import numpy as np, copyreg_jax as cr\n"
        "from copyreg_jax.neighbours.ledger import ledger\n"
        "A, b = np.array([[1], [0], [-1]], np.float32), np.array([0.5, 0.25, 0.25], np.float32)\n"
        "low, high = ledger(cr.CopyrightRegression(A, b, 1)).rows[0]\n"
        "assert low <= high < low + 0.1\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"JAX_ENABLE_X64": "0"}
    )
