"""What is installed is complete: data, metadata, the command and the checker.

`.ci/wheel` runs this file outside of the repository, against the wheel.
"""

import importlib.metadata
import importlib.resources
import subprocess
import sys

import numpy as np
import pytest

import copyreg_jax as cr
from copyreg_jax.theory import counterexample

PACKAGE = importlib.resources.files("copyreg_jax")


@pytest.mark.parametrize("name", ["py.typed", "__init__.pyi", "instances/austen.md"])
def test_files_that_no_import_reads_are_there(name):
    assert PACKAGE.joinpath(name).is_file()


def test_the_example_is_there():
    assert cr.example_instance().A.shape == (2390, 48)


def test_the_counterexamples_are_there():
    names = counterexample.stored_counterexamples()
    assert names
    for name in names:
        assert np.isfinite(counterexample.counterexample(name).x).all()


def test_metadata():
    held = importlib.metadata.metadata("copyreg-jax")
    assert held["Version"] == cr.__version__
    assert held["License-Expression"] == "Apache-2.0"
    assert held["Requires-Python"] == ">=3.11"
    assert held["Description-Content-Type"] == "text/markdown"
    extras = {"bench", "canaries", "interop", "lm", "neighbours", "test"}
    assert extras <= set(held.get_all("Provides-Extra"))


def test_the_command_is_declared():
    (script,) = importlib.metadata.distribution("copyreg-jax").entry_points.select(
        group="console_scripts"
    )
    assert (script.name, script.value) == ("copyreg", "copyreg_jax.cli:main")
    assert callable(script.load())


def test_the_checker_runs_by_itself(tmp_path):
    problem = cr.CopyrightRegression(np.eye(4), np.full(4, 0.25), 2, gamma=0.1)
    files = tmp_path / "certificate.json", tmp_path / "instance.npz"
    cr.save_instance(files[1], problem)
    cr.certify(problem, np.zeros(4), -1.0, local=False).save(files[0])
    run = subprocess.run(
        [sys.executable, "-m", "copyreg_jax.checker", *map(str, files)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1].startswith("CERTIFIED;")
