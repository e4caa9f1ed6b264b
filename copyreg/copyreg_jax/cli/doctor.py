"""``copyreg doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from copyreg_jax.cli.common import AsJson, enable_x64, output, show_table, to_json
from copyreg_jax.cli.compile_cache import CompileCache, use_compile_cache
from copyreg_jax.errors import ENABLE_X64

__all__ = ["doctor"]

_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "optax", "python-flint")

_SECONDS = 120
"""A plugin of an accelerator may wait for ever."""

_SETTINGS = re.compile(r"(JAX|XLA)_|PJRT_|(NPROC|LD_PRELOAD)$")

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may take of the cores: microseconds, of so many microseconds."""


def doctor(as_json: AsJson = False) -> None:
    """Show the versions, devices and arithmetic of this installation, and what to do about faults.

    Exit codes: 0 sound, 1 unsound.
    """
    import numpy as np

    failure = _failure_of_jax()
    facts: dict[str, Any] = {
        "versions": _versions(),
        "settings": {name: os.environ[name] for name in os.environ if _SETTINGS.match(name)},
        "devices": [],
        "cores": _cores(),
        "x64": None,
        "cache": CompileCache("", "JAX does not start"),
    }
    if not failure:  # else JAX might end this process too
        import jax

        facts["x64"] = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
        enable_x64(cached=False)
        facts["cache"] = use_compile_cache()
        facts["devices"] = [str(device) for device in jax.devices()]
    flushes = not bool((np.full(4, 2.0**-1022) * 0.25 > 0).all())
    cures = {
        f"JAX does not start: {failure}. If this is about one of the settings above, unset it. If "
        "it is about an accelerator, set JAX_PLATFORMS=cpu to do without. Else install JAX anew: "
        "pip install --force-reinstall jax jaxlib": bool(failure),
        "Subnormal numbers are flushed to zero; a library that was loaded was built with "
        "-ffast-math: start Python without LD_PRELOAD, or rebuild that library": flushes,
    }
    faults = [cure for cure, found in cures.items() if found]
    advice = [
        *_outdated(facts["versions"]["jax"]),
        *_single_core(facts["cores"]),
        *_compiled_anew(facts),
    ]
    facts |= {"flushes_to_zero": flushes, "faults": faults, "advice": advice}
    if as_json:
        print(to_json(facts))
    else:
        show_table(_rows(facts))
        for sentence in faults + advice:
            output.print(sentence, markup=False, soft_wrap=True, style="yellow")
    if faults:
        raise typer.Exit(1)


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    mine, every = facts["cores"]
    folder, problem = facts["cache"]
    here = "on here and in your own programs"
    if facts["x64"] is None:
        here = "not known"
    elif not facts["x64"]:
        here = f"on here; your own programs need {ENABLE_X64}"
    return [
        *((name, version or "missing") for name, version in facts["versions"].items()),
        (
            "settings",
            " ".join(f"{key}={text}" for key, text in facts["settings"].items()) or "none",
        ),
        ("devices", ", ".join(facts["devices"]) or "NONE"),
        ("cores", f"{mine}" if mine == every else f"{mine} of {every}"),
        ("64-bit mode", here),
        ("compiled programs", f"not kept: {problem}" if problem else f"kept in {folder}"),
        ("flush-to-zero", "ON: certificates are refused" if facts["flushes_to_zero"] else "off"),
    ]


def _failure_of_jax() -> str:
    """Say why JAX does not start, which a process of its own finds out: XLA may end it."""
    code = "import jax; jax.devices()"
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-c", code],
            capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False,
        )  # fmt: skip
    except OSError as error:
        return f"{sys.executable} can't be run: {error.strerror or error}"
    except subprocess.TimeoutExpired:
        return f"it found no device within {_SECONDS} seconds"
    if run.returncode == 0:
        return ""
    said = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    last = said[-1] if said else f"its process ended with code {run.returncode}"
    # Without the time and place that XLA logs, and without an end that is followed by another.
    return re.sub(r"^[EF]\d{4} [^\]]*\] ", "", last).rstrip(".")


def _versions() -> dict[str, str | None]:
    from copyreg_jax import __version__

    found: dict[str, str | None] = {
        "copyreg-jax": __version__,
        "Python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _cores() -> tuple[int, int]:
    """How many cores this process may use, and how many the machine has."""
    every = mine = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        mine = len(os.sched_getaffinity(0))
    try:
        quota, period = _QUOTA.read_text().split()
        mine = min(mine, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # another system, or no limit
        pass
    if (threads := os.environ.get("NPROC", "")).isdecimal():  # XLA's own limit
        mine = min(mine, max(1, int(threads)))
    return mine, every


def _single_core(cores: tuple[int, int]) -> list[str]:
    mine, every = cores
    if mine > 1 or every == 1:
        return []
    return [
        f"This process may use one of {every} cores; start it without taskset, NPROC or a limit "
        "of its container"
    ]


def _outdated(version: str | None) -> list[str]:
    """Say that JAX is older than what this package asks for, if it is."""
    required = importlib.metadata.requires("copyreg-jax") or []
    (least,) = (line.removeprefix("jax>=") for line in required if line.startswith("jax>="))
    if version is None or _numbers(version) >= _numbers(least):
        return []
    return [f"JAX {version} is older than {least}; pip install --upgrade 'jax>={least}'"]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _compiled_anew(facts: dict[str, Any]) -> list[str]:
    if not facts["cache"].problem or not facts["devices"]:
        return []
    return [
        "Each command compiles its programs anew; set JAX_COMPILATION_CACHE_DIR to a folder that "
        "you can write to"
    ]
