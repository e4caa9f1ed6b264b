"""`copyreg doctor` finds faults that are planted, and says what to do about each."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from copyreg_jax.cli import doctor
from copyreg_jax.cli.main import app
from copyreg_jax.errors import ENABLE_X64
from tests.cli.test_cli import copyreg


def examine(*options, **environment):
    """What the command finds in a process with these variables, and its exit code."""
    run = copyreg("doctor", "--json", *options, env={**os.environ, **environment})
    assert run.stderr == ""
    return json.loads(run.stdout), run.returncode


def rows(printed):
    """The table, by the names of its rows."""
    return dict(
        re.split(r" {2,}", line, maxsplit=1) for line in printed.splitlines() if "  " in line
    )


def test_a_sound_installation():
    run = copyreg("doctor")
    assert (run.returncode, run.stderr) == (0, "")
    found = rows(run.stdout)
    assert found["flush-to-zero"] == "off"
    assert found["64-bit mode"] == f"on here; your own programs need {ENABLE_X64}"
    assert found["compiled programs"].startswith("kept in ")
    assert "cpu" in found["devices"]
    assert found["python-flint"]


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("JAX_ENABLE_X64", "maybe",
         "ValueError: invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'"),
        ("XLA_FLAGS", "--xla_nonsense=1", "Unknown flag in XLA_FLAGS: --xla_nonsense=1"),
        ("JAX_PLATFORMS", "nonsense", "RuntimeError: Unable to initialize backend 'nonsense'"),
    ],
)  # fmt: skip
def test_settings_with_which_jax_does_not_start(variable, value, reason):
    """One of them ends the process that starts JAX, so no exception tells of it."""
    found, code = examine(**{variable: value})
    assert code == 1
    (fault,) = found["faults"]
    assert fault.startswith(f"JAX does not start: {reason}")
    assert "If this is about one of the settings above, unset it" in fault
    assert found["settings"][variable] == value
    assert (found["devices"], found["x64"]) == ([], None)


def test_a_cache_that_can_not_be_written_and_one_thread(tmp_path):
    """What slows the commands down is no fault; a file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "cache")
    found, code = examine(JAX_COMPILATION_CACHE_DIR=folder, NPROC="1", JAX_ENABLE_X64="1")
    assert code == 0
    assert found["faults"] == []
    assert found["cache"] == {
        "folder": folder, "problem": f"can't write to {folder}: Not a directory",
    }  # fmt: skip
    assert found["x64"] is True
    assert found["cores"] == [1, os.cpu_count()]
    assert found["advice"][-1] == (
        "Each command compiles its programs anew; set JAX_COMPILATION_CACHE_DIR to a folder that "
        "you can write to"
    )


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="sets the flush-to-zero bit through glibc's fenv_t of x86-64",
)
def test_flush_to_zero():
    code = (
        "import ctypes, sys\n"
        "libm, env = ctypes.CDLL('libm.so.6'), (ctypes.c_uint32 * 8)()\n"
        "libm.fegetenv(env)\n"
        "env[7] |= 0x8040\n"  # FTZ and DAZ in MXCSR
        "libm.fesetenv(env)\n"
        "from copyreg_jax.cli import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "doctor"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert rows(run.stdout)["flush-to-zero"] == "ON: certificates are refused"
    assert "start Python without LD_PRELOAD" in run.stdout


@pytest.fixture
def here(monkeypatch):
    """The command in this process, where JAX has started."""
    monkeypatch.setattr(doctor, "_failure_of_jax", lambda: "")

    def run(*options):
        return CliRunner().invoke(app, ["doctor", *options])

    return run


def test_an_old_jax(here, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.9.12" if name == "jax" else real(name)
    )
    found = here()
    assert found.exit_code == 0
    assert "JAX 0.9.12 is older than 0.10.2; pip install --upgrade 'jax>=0.10.2'" in found.output


@pytest.mark.parametrize("quota", ["150000 100000", "max 100000", "", None])
def test_cores_that_others_have(here, monkeypatch, tmp_path, quota):
    """By the affinity of the process, or by the limit of its container, which may be missing."""
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    limited = quota == "150000 100000"
    chosen = set(range(8)) if limited else {0}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: chosen, raising=False)
    monkeypatch.setattr(doctor, "_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    found = here().output
    assert rows(found)["cores"] == "1 of 8"
    assert "This process may use one of 8 cores; start it without taskset, NPROC or" in found


def test_a_package_that_is_missing(here, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert rows(here().output)["scipy"] == "missing"


def test_a_plugin_that_never_answers(monkeypatch):
    def wait(command, *, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", wait)
    assert doctor._failure_of_jax() == "it found no device within 120 seconds"
