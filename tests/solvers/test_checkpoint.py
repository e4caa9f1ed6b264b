"""Runs that were stopped, killed or resumed end at the same bits."""

import signal
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest
import scipy.sparse

import copyreg_jax as cr
from copyreg_jax.solvers import checkpoint, newton_cg, preconditioner
from tests.support.registry import SOLVERS, random_problem


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.npz"


def problem():
    return random_problem(8, 60, 5, w=0.02, gamma=0.01)


def same_run(resumed, whole):
    np.testing.assert_array_equal(resumed.x, whole.x)
    np.testing.assert_array_equal(resumed.history.value, whole.history.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_resumed_run_is_the_same_run(file, name):
    solver = SOLVERS[name]
    whole = cr.solve(problem(), solver, max_steps=60)
    short = min(solver.steps_per_call, 3)
    first = cr.solve(problem(), solver, max_steps=short, checkpoint=file)
    assert first.num_steps <= 3
    resumed = cr.solve(problem(), solver, max_steps=60, checkpoint=file)
    assert resumed.status is whole.status
    same_run(resumed, whole)
    np.testing.assert_array_equal(resumed.history.gradient_norm, whole.history.gradient_norm)
    assert resumed.num_values == whole.num_values
    again = cr.solve(problem(), solver, max_steps=60, checkpoint=file)  # nothing left to do
    np.testing.assert_array_equal(again.x, whole.x)
    assert again.num_steps == whole.num_steps


def resumed_at_each_step(problem, file, **settings):
    """Checks that a run stopped after any step and resumed is the whole run."""
    whole = cr.solve(problem, **settings).raise_for_status()
    for most in range(1, whole.num_steps):
        file.unlink(missing_ok=True)
        cr.solve(problem, max_steps=most, checkpoint=file, **settings)
        resumed = cr.solve(problem, checkpoint=file, **settings)
        same_run(resumed, whole)
        assert resumed.num_hvps == whole.num_hvps


@pytest.mark.slow
def test_resumed_before_and_after_a_sketch(file, monkeypatch):
    monkeypatch.setattr(preconditioner, "_SKETCH_COST", (0, 0))
    monkeypatch.setattr(preconditioner, "_PATIENCE", 20)
    made = []
    sketched = preconditioner.sketched_basis
    monkeypatch.setattr(
        newton_cg, "sketched_basis", lambda problem: made.append(1) or sketched(problem)
    )
    rng = np.random.default_rng(0)
    first = rng.integers(0, 39, 500)
    A = scipy.sparse.csr_array(np.eye(40)[first] - np.eye(40)[first + 1])
    problem = cr.CopyrightRegression(A, rng.dirichlet(np.ones(500)), 50, gamma=1e-6, w=0.3)
    resumed_at_each_step(problem, file, x0=3 * rng.normal(size=40))
    assert len(made) > 2


@pytest.mark.slow
def test_a_large_run_is_the_same_in_one_program_and_step_by_step(file):
    """Without a checkpoint, start and steps are one program; more than 2^20 entries."""
    resumed_at_each_step(random_problem(8, 9000, 120, w=0.02, gamma=0.01), file)


def test_interrupt_from_a_callback_or_the_keyboard_is_kept(file):
    solver = SOLVERS["adam"]
    whole = cr.solve(problem(), solver, max_steps=100)

    def press(progress):
        if progress.step >= 30:
            raise KeyboardInterrupt

    def solved(callback=None):
        return cr.solve(problem(), solver, max_steps=100, callback=callback, checkpoint=file)

    with pytest.raises(KeyboardInterrupt):
        solved(press)
    seen = []
    stopped = solved(lambda progress: seen.append(progress) or progress.step >= 60)
    assert [progress.step for progress in seen] == [40, 50, 60]
    assert seen[-1].value == stopped.history.value[-1]
    assert (stopped.status, stopped.num_steps) == (cr.Status.INTERRUPTED, 60)
    resumed = solved()
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert (resumed.status, resumed.num_steps) == (cr.Status.MAX_STEPS, 100)
    assert len(resumed.history.value) == 101


def test_written_only_now_and_then(file, monkeypatch):
    writes = []
    save = checkpoint.Checkpoint.save
    monkeypatch.setattr(
        checkpoint.Checkpoint, "save", lambda self, *a: (writes.append(1), save(self, *a))
    )
    cr.solve(problem(), SOLVERS["adam"], max_steps=200, checkpoint=file)
    assert len(writes) == 1
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 0)
    file.unlink()
    cr.solve(problem(), SOLVERS["adam"], max_steps=200, checkpoint=file)
    assert len(writes) == 1 + 20


def interrupted(monkeypatch, file, call):
    """Run the problem until ctrl-C comes while the host waits for the results of a call."""
    get, calls = jax.device_get, []

    def wait(tree):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return get(tree)

    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_get", wait)
        with pytest.raises(KeyboardInterrupt):
            cr.solve(problem(), checkpoint=file)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interrupt_while_the_host_waits_loses_no_record(file, monkeypatch, call):
    interrupted(monkeypatch, file, call)
    assert file.exists() == (call > 1)  # before the first step there is nothing to write
    same_run(cr.solve(problem(), checkpoint=file), cr.solve(problem()))


def test_an_interrupted_run_makes_no_step_beyond_the_limit(file, monkeypatch):
    interrupted(monkeypatch, file, 4)
    resumed = cr.solve(problem(), max_steps=2, checkpoint=file)
    assert (resumed.status, resumed.num_steps) == (cr.Status.MAX_STEPS, 3)


@pytest.mark.parametrize(
    ("gamma", "settings", "names"),
    [
        (0.01, {"solver": cr.TrustRegionNewton()}, "solver"),
        (0.02, {}, "problem"),
        (0.01, {"rtol": 1e-9}, "rtol"),
        (0.01, {"x0": np.ones(5)}, "x0"),
        (
            0.02,
            {"solver": cr.TrustRegionNewton(), "rtol": 1e-9, "x0": np.ones(5)},
            "problem, solver, rtol, x0",
        ),
    ],
)
def test_checkpoint_of_another_run_is_refused_and_kept(file, gamma, settings, names):
    cr.solve(problem(), max_steps=2, checkpoint=file)
    before = file.read_bytes()
    message = f"is the checkpoint of another run: not the same {names}; delete it"
    with pytest.raises(cr.InputError, match=message):
        cr.solve(problem().replace(gamma=gamma), checkpoint=file, **settings)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "damaged",
    [
        lambda _: b"",
        lambda _: b"PK\x03\x04 not a zip",
        lambda _: b"\x93NUMPY",
        lambda whole: whole[: len(whole) // 2],
    ],
)
def test_damaged_checkpoint_is_refused_and_kept(file, damaged):
    cr.solve(problem(), max_steps=2, checkpoint=file)
    content = damaged(file.read_bytes())
    file.write_bytes(content)
    with pytest.raises(cr.InputError, match="is not a checkpoint"):
        cr.solve(problem(), checkpoint=file)
    assert file.read_bytes() == content


def test_a_checkpoint_that_nobody_may_read_is_not_said_to_be_damaged(file, monkeypatch):
    cr.solve(problem(), max_steps=2, checkpoint=file)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint.np, "load", refuse)
    with pytest.raises(cr.InputError, match=r"can't read .*: Permission denied$"):
        cr.solve(problem(), checkpoint=file)


def test_checkpoint_is_refused_under_jit(file):
    with pytest.raises(cr.InputError, match="checkpoint can't be written under jit"):
        jax.jit(lambda p: cr.solve(p, checkpoint=file).x)(problem())


def test_where_it_cannot_be_written(tmp_path):
    with pytest.raises(cr.InputError, match="can't write"):
        cr.solve(problem(), max_steps=2, checkpoint=tmp_path / "no" / "folder.npz")


def test_a_state_of_another_shape_is_refused(file):
    """As a version of this package with another state would have left it."""
    cr.solve(problem(), max_steps=2, checkpoint=file)
    with np.load(file) as held:
        arrays = dict(held)
    for changed in ({"state_0": np.ones(4)}, {f"state_{len(arrays) - 3}": np.ones(())}):
        np.savez(file, **(arrays | changed))
        with pytest.raises(cr.InputError, match=r"is not a checkpoint .*another version"):
            cr.solve(problem(), checkpoint=file)


def test_random_damage_is_refused_or_harmless(file):
    """No byte that is changed makes another exception, or another x."""
    whole = cr.solve(problem())
    cr.solve(problem(), max_steps=2, checkpoint=file)
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(content), size=40):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        file.write_bytes(changed)
        try:
            resumed = cr.solve(problem(), checkpoint=file)
        except cr.InputError:
            continue
        np.testing.assert_array_equal(resumed.x, whole.x)


RUN = """
import sys, time
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import copyreg_jax as cr, optax
from copyreg_jax.solvers import checkpoint, newton_cg
from tests.support.registry import random_problem
checkpoint._SECONDS = checkpoint._SHARE = 0
problem = random_problem(8, 60, 5, w=0.02, gamma=0.01)
solver, file = cr.Optax(optax.adam(1e-3)), sys.argv[1]
slow = lambda progress: time.sleep(0.02)
solution = cr.solve(problem, solver, max_steps=1000, callback=slow, checkpoint=file)
np.save(sys.argv[2], np.asarray(solution.x))
"""


@pytest.mark.slow
def test_killed_at_twenty_random_moments(file, tmp_path):
    whole = cr.solve(problem(), cr.Optax(optax.adam(1e-3)), max_steps=1000)
    rng = np.random.default_rng(0)
    out, kills = tmp_path / "x.npy", 0
    while not out.exists():
        written = file.stat().st_mtime_ns if file.exists() else None
        run = subprocess.Popen([sys.executable, "-c", RUN, str(file), str(out)])
        while run.poll() is None and kills < 20:
            time.sleep(0.01)
            if file.exists() and file.stat().st_mtime_ns != written:  # it is on its way
                time.sleep(rng.uniform(0, 0.1))
                run.send_signal(signal.SIGKILL)
                kills += 1
                break
        assert run.wait(timeout=120) in (0, -signal.SIGKILL)
    assert kills == 20
    np.testing.assert_array_equal(np.load(out), whole.x)
