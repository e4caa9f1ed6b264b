"""Rows over eight simulated devices and over processes against one device.

The devices are simulated in subprocesses: their number is settled when JAX starts.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.sparse

import copyreg_jax as cr

ROOT = Path(__file__).parents[2]
D, N1 = 6, 130

# Rows, solver, and what the problem is made of. 403 is not divisible by 8.
CASES = {
    "joint": (403, cr.NewtonCG(), {"w": 0.05}),
    "cross-entropy": (403, cr.NewtonCG(), {"w": 0.05, "metric": "cross-entropy"}),
    "block": (403, cr.NewtonCG(), {"w": 0.05, "reading": "block"}),
    "newton": (403, cr.TrustRegionNewton(), {"w": 0.05}),
    "gradient descent": (403, cr.GradientDescent(), {"w": 1.0, "gamma": 0.0}),
}


def make_rows(n):
    return np.random.default_rng(0).normal(size=(n, D))


def arguments(n, n1=N1):
    """b and protected."""
    return np.random.default_rng(1).dirichlet(np.full(n, 0.3)), n1


def environment():
    paths = [str(ROOT), *filter(None, sys.path)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}


def printed(script, *arguments):
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments],
        env=environment(), capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def on_eight_devices(what):
    return json.loads(printed("tests/matrices/sharded_devices.py", what))


@pytest.mark.slow
def test_eight_devices_find_the_minimizer_of_one():
    solutions = on_eight_devices("solutions")
    assert set(solutions) == set(CASES)
    for case, found in solutions.items():
        assert found["status"] == ["CONVERGED", "CONVERGED"], case
        # At a minimizer L and the masses move by less than x does, but for rounding.
        assert max(found["x"], found["value"], found["masses"]) <= 1e-9, case
        assert found["replicated"], case


@pytest.mark.slow
def test_products_and_evaluations_on_eight_devices():
    found = on_eight_devices("evaluations")
    for name, difference in found["products"].items():
        if name.startswith("absent"):
            assert difference == 0, name  # exactly
        else:
            # Sums of at most 43 terms in another order: some eps, times cancellation.
            assert difference <= 1e-11, name
    # Rows that fill up do not count.
    assert (found["counts"]["n"], found["counts"]["n1"]) == (43, 14)
    assert "n=43, d=5, n1=14" in found["counts"]["repr"]
    assert found["instance"] == [43, 5]
    assert found["certificate"]
    status, difference = found["float32"]
    assert status == "CONVERGED"
    assert difference <= 1e-3  # root of an excess of 1e-4 L, and the least curvature
    status, difference = found["lbfgs"]
    assert status == "CONVERGED"
    assert difference <= 1e-8  # |gradient| <= 1e-10 S, S some units, least curvature > 0.1
    same, steps, num_steps = found["resumed"]
    assert same  # bit for bit
    assert 0 < steps == num_steps - 3
    assert found["newton moves"] == []  # rows stay where they are under exact Hessians too


@pytest.mark.slow
def test_bytes_exchanged_depend_on_d_alone(tmp_path):
    out = tmp_path / "counts.json"
    sizes = ["--rows", "50", "--columns", "5", "--devices", "8"]
    printed("benchmarks/scaling.py", "--out", out, *sizes)
    base, twice_n, twice_d = json.loads(out.read_text())["results"]
    assert (twice_n["n"], twice_n["d"]) == (2 * base["n"], base["d"])
    assert twice_n["bytes"] == base["bytes"]
    for d, run in ((5, base), (10, twice_d)):
        assert run["kinds"] == ["all-reduce"]
        sizes = run["bytes"]
        # Float32, the trace of the weights, and column maxima if squares of a column underflow.
        assert sizes["gram"] == 4 * d * d + 8 + 8 * d
        assert sizes["product"] == 8 * (d + 2)
        # The gradient, the mean row and the slope; beside them some 20 numbers for the plane.
        assert 24 * d <= sizes["step"] <= 24 * d + 300
        assert 0 < sizes["trial"] <= 300
    assert twice_d["bytes"]["step"] - base["bytes"]["step"] == 3 * 8 * 5
    assert twice_d["bytes"]["trial"] == base["bytes"]["trial"]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "n"), [(2, 401), (4, 400)])
def test_processes_find_the_minimizer_of_one(tmp_path, processes, n):
    np.save(tmp_path / "A.npy", make_rows(n))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = ROOT / "tests" / "matrices" / "sharded_process.py"
    files = [tmp_path / f"{rank}.npz" for rank in range(processes)]
    said = tmp_path / "output"
    running, options = [], {"env": environment(), "stderr": subprocess.STDOUT}
    try:
        for rank, file in enumerate(files):
            command = [sys.executable, script, str(port), str(processes), str(rank)]
            command += [tmp_path / "A.npy", file]
            with said.open("ab") as output:
                running.append(subprocess.Popen(command, stdout=output, **options))
        codes = [process.wait(timeout=300) for process in running]
        assert codes == [0] * processes, said.read_text()
    finally:
        for process in running:
            process.kill()
            process.wait()
    plain = cr.solve(cr.CopyrightRegression(make_rows(n), *arguments(n), w=0.05))
    numbers = plain.value, plain.gradient_norm, plain.ell_1, plain.protected_mass
    first = np.load(files[0])
    for file in files:
        found = np.load(file)
        assert np.array_equal(found["x"], first["x"])
        assert np.array_equal(found["numbers"], first["numbers"])
    assert np.max(np.abs(first["x"] - np.asarray(plain.x))) <= 1e-9
    # The gradient's norm differs, both below the tolerance; the others as x does.
    np.testing.assert_allclose(np.delete(first["numbers"], 1), np.delete(numbers, 1), atol=1e-9)


def test_what_cannot_be_sharded_is_refused():
    A = make_rows(4)
    faulty = np.where(np.arange(4 * D).reshape(4, D) == 2 * D + 1, np.nan, A)
    problem = cr.shard(cr.CopyrightRegression(A, np.ones(4) / 4, 1))
    for call, words in (
        (lambda: cr.shard(cr.SoftmaxRegression(scipy.sparse.csr_array(A), np.ones(4))),
         "SparseMatrix of shape"),
        (lambda: cr.ShardedRows(np.ones((4, 2), int)), "dtype int64"),
        (lambda: cr.ShardedRows([[1.0]]), "shape"),
        (lambda: cr.ShardedRows(A, jax.devices() * 2), "devices"),
        (lambda: cr.shard(A), "ShardedRows"),
        (lambda: cr.solve_many([problem, problem]), "A is sharded"),
        (lambda: cr.solve(problem, cr.SketchedNewton()), "A is sharded"),
        (lambda: cr.SoftmaxRegression(cr.ShardedRows(faulty), np.ones(4)),
         "A is nan at row 2, column 1"),
    ):  # fmt: skip
        with pytest.raises(cr.InputError, match=words):
            call()


def test_another_byte_order_is_read():
    A = make_rows(4)
    held = cr.ShardedRows(A.astype(A.dtype.newbyteorder()))
    assert np.array_equal(np.asarray(held.data), A)
