"""Ledgers against minimizers in 300 bits, and the checker against false ledgers."""

import copy
import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from flint import arb, arb_mat, ctx
from typer.testing import CliRunner

import copyreg_jax as cr
from copyreg_jax.certificates import minimizers
from copyreg_jax.checker import format, removal
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.cli.main import app
from copyreg_jax.neighbours.ledger import Ledger, ledger
from tests.support.registry import METRICS, READINGS, random_problem

BITS = 300


def exact_minimizer(problem, x, *, safe):
    """x in 300 bits: Newton steps with the float64 Hessian, each of which gains ten digits.

    The gradient is written out from the definitions, for the joint reading.
    """
    of = cr.LeaveOutRegression.of(problem) if safe else problem
    inverse = arb_mat(np.linalg.inv(np.asarray(of.hessian(x))).tolist())
    A = arb_mat(np.asarray(problem.A).tolist())
    b, w = ([arb(float(v)) for v in array] for array in (problem.b, problem.w))
    marked, gamma = np.asarray(problem.protected), arb(float(problem.gamma))
    point = arb_mat([[arb(float(v))] for v in x])
    for _ in range(12):
        u = (A * point).entries()
        top = max(u, key=float)
        e = [(v - top).exp() for v in u]
        total = sum(e, arb(0))
        f = [v / total for v in e]
        squared = problem.metric == "squared"
        if squared:
            ell_1 = sum(((p - q) ** 2 for p, q, m in zip(f, b, marked, strict=True) if m), arb(0))
        else:
            ell_1 = -sum((q * p.log() for p, q, m in zip(f, b, marked, strict=True) if m), arb(0))
        k = gamma * (2 if squared else 1) / ell_1**2
        t = [(0 if safe else 1 - k) if m else 1 for m in marked]
        if squared:
            c = [ti * (p - q) for ti, p, q in zip(t, f, b, strict=True)]
            mean = sum((p * ci for p, ci in zip(f, c, strict=True)), arb(0))
            y = [p * (ci - mean) for p, ci in zip(f, c, strict=True)]
        else:
            mass = sum((ti * q for ti, q in zip(t, b, strict=True)), arb(0))
            y = [mass * p - ti * q for ti, p, q in zip(t, f, b, strict=True)]
        y = [yi + wi * wi * ui for yi, wi, ui in zip(y, w, u, strict=True)]
        step = inverse * (A.transpose() * arb_mat([[v] for v in y]))
        point = (point - step).mid()
    return point, f


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
        moved = sum(
            ((a - b) ** 2 for a, b in zip(x.entries(), x_safe.entries(), strict=True)), arb(0)
        ).sqrt()
        return (
            problem,
            found,
            {
                "rows": bits,
                "naf_bits": max(bits, key=float),
                "mass_bits": (masses[0] / masses[1]).log() / arb(2).log(),
                "distance": moved,
            },
        )


def inside(ball, interval):
    """Whether the exact number is in the interval; 300 bits leave 2^-200 of rounding."""
    return arb(interval.lower) - 2.0**-200 <= ball <= arb(interval.upper) + 2.0**-200


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_the_exact_minimizers_are_in_the_proved_intervals(part):
    """1,000 random convex instances, in ten parts."""
    widths = []
    for seed in range(100 * part, 100 * (part + 1)):
        _, found, exact = truth(seed)
        assert found.verdict is cr.Verdict.CERTIFIED
        with ctx.workprec(BITS):
            for interval, ball in zip(found.rows, exact["rows"], strict=True):
                assert inside(ball, interval)
                widths.append(interval.upper - interval.lower)
            for name in ("naf_bits", "mass_bits", "distance"):
                assert inside(exact[name], getattr(found, name))
    assert np.median(widths) <= 1e-6


def near_ties(seed, number):
    """Ledgers that state an end within 1e-7 to 1e-17 of the exact number, on either side."""
    rng = np.random.default_rng(seed)
    _, found, exact = truth(seed)
    for _ in range(number):
        document = copy.deepcopy(found.document)
        name = ("naf_bits", "mass_bits", "distance", "rows")[rng.integers(4)]
        place, ball = document, exact[name]
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
    """The verdict on a document, for the instance of a seed."""

    def run(seed, document):
        instance, path = tmp_path / f"{seed}.npz", tmp_path / "ledger.json"
        if not instance.exists():
            cr.save_instance(instance, truth(seed)[0])
        path.write_bytes(format.canonical(document))
        return check_file(path, instance).verdict

    return run


@pytest.fixture
def check_of(tmp_path):
    """The verdict on a document, for a problem."""

    def run(problem, document):
        cr.save_instance(tmp_path / "of.npz", problem)
        (tmp_path / "of.json").write_bytes(format.canonical(document))
        return check_file(tmp_path / "of.json", tmp_path / "of.npz").verdict

    return run


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_near_ties_are_never_certified_wrongly(part, check):
    """10,000 statements that are false or true by 1e-17 to 1e-7, by numbers known to 300 bits."""
    false, certified = 0, 0
    for seed in range(10 * part, 10 * (part + 1)):
        for document, true in near_ties(seed, 100):
            verdict = check(seed, document)
            certified += verdict is cr.Verdict.CERTIFIED
            assert true or verdict is not cr.Verdict.CERTIFIED
            false += not true
    assert false > 400
    assert certified > 10


def test_a_ledger_is_proved_again(check):
    for seed in range(4):
        assert check(seed, truth(seed)[1].document) is cr.Verdict.CERTIFIED


def shifted(document, name, by, end):
    forged = copy.deepcopy(document)
    forged[name][end] = (float.fromhex(forged[name][end]) + by).hex()
    return forged


@pytest.mark.parametrize("name", ["naf_bits", "mass_bits", "distance"])
def test_a_number_that_is_false_is_refuted(name, check):
    """An upper end that is too low, and a lower end that is too high."""
    document = truth(0)[1].document
    assert check(0, shifted(document, name, -1e-3, 1)) is cr.Verdict.REFUTED
    assert check(0, shifted(document, name, 1e-3, 0)) is cr.Verdict.REFUTED
    wide = shifted(shifted(document, name, 1e-3, 1), name, -1e-3, 0)
    assert check(0, wide) is cr.Verdict.CERTIFIED


def test_models_are_not_exchanged(check):
    document = copy.deepcopy(truth(0)[1].document)
    document["model"], document["safe"] = document["safe"], document["model"]
    assert check(0, document) in (cr.Verdict.REFUTED, cr.Verdict.UNDECIDED)


def test_a_row_more_or_fewer_is_void(check):
    document = copy.deepcopy(truth(0)[1].document)
    document["rows"].pop()
    assert check(0, document) is cr.Verdict.VOID
    document["rows"] = None
    assert check(0, document) is cr.Verdict.VOID


def test_a_minimizer_that_is_not_unique_is_left_open(tmp_path):
    """A column that is there twice: nothing is stated of the rows, and nothing is certified."""
    first = random_problem(0, 12, 2)
    A = np.concatenate([first.A, first.A[:, :1]], axis=1)
    problem = cr.CopyrightRegression(A, first.b, first.protected, 1e-3, 1.0)
    found = ledger(problem)
    assert (found.verdict, found.rows, found.naf_bits) == (cr.Verdict.UNDECIDED, None, None)
    found.save(tmp_path / "ledger.json")
    cr.save_instance(tmp_path / "instance.npz", problem)
    verdict = check_file(tmp_path / "ledger.json", tmp_path / "instance.npz").verdict
    assert verdict is cr.Verdict.UNDECIDED


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
def test_what_is_made_in_either_arithmetic_is_certified(bits, reading, check_of, monkeypatch):
    monkeypatch.setattr(minimizers, "_LOCAL_BITS", (bits,))
    problem = random_problem(7, 20, 3, gamma=1e-5, reading=reading)
    found = ledger(problem)
    assert found.model.local.bits == bits
    shifted = ledger(problem, found.model.x + 1e-7, found.safe.x - 1e-6)
    assert [check_of(problem, one.document) for one in (found, shifted)] == [
        cr.Verdict.CERTIFIED,
        cr.Verdict.CERTIFIED,
    ]


def test_a_mass_that_underflows_lies_between_its_rows():
    """f is about exp(-3000) on the one protected row, and K there is known all the same."""
    problem = cr.CopyrightRegression(
        [[1.0], [-1.0], [-3000.0]], [0.7, 0.3, 0.0], [False, False, True], 0.0, [0.01, 0.01, 0.0]
    )
    found = ledger(problem)
    assert found.verdict is cr.Verdict.CERTIFIED
    assert found.mass_bits.lower >= found.rows[2].lower - 1e-9
    assert found.mass_bits.upper <= found.rows[2].upper + 1e-9


def test_bounds_that_say_nothing_are_void(check):
    document = copy.deepcopy(truth(0)[1].document)
    document["naf_bits"] = ["-inf", "inf"]
    assert check(0, document) is cr.Verdict.VOID


def test_save_and_load(tmp_path):
    found = truth(0)[1]
    found.save(tmp_path / "ledger.json")
    again = Ledger.load(tmp_path / "ledger.json")
    assert (again.document, again.rows) == (found.document, found.rows)
    (tmp_path / "other.json").write_text(json.dumps({"format": removal.FORMAT}))
    with pytest.raises(cr.InputError, match=r"other\.json is not a valid certificate"):
        Ledger.load(tmp_path / "other.json")


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
    first = random_problem(0, 12, 2)
    A = np.concatenate([first.A, first.A[:, :1]], axis=1)
    cr.save_instance(tmp_path / "a.npz", cr.CopyrightRegression(A, first.b, 4, 1e-3))
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
