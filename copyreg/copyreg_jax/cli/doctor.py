"""``copyreg doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re

import typer

from copyreg_jax.cli.common import enable_x64, output, show_table
from copyreg_jax.cli.compile_cache import CompileCache, use_compile_cache

__all__ = ["doctor"]

_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "optax", "python-flint")


def doctor() -> None:
    """Show the versions, devices and arithmetic of this installation, and what to do about faults.

    Exit codes: 0 sound, 1 unsound.
    """
    enable_x64(cached=False)
    cache = use_compile_cache()
    import copyreg

    import jax
    import numpy as np

    import copyreg_jax

    flushes = not bool((np.full(4, 2.0**-1022) * 0.25 > 0).all())
    shadowed = not hasattr(copyreg, "dispatch_table")
    try:
        devices = ", ".join(str(device) for device in jax.devices())
    except Exception as error:  # what a broken accelerator plugin raises is anybody's guess
        devices = f"NONE: {error!r}"
    rows = [
        ("copyreg-jax", copyreg_jax.__version__),
        ("Python", platform.python_version()),
        *((name, importlib.metadata.version(name)) for name in _PACKAGES),
        ("devices", devices),
        ("cores", _cores_line()),
        ("64-bit mode", f"on in this command; your own programs need {_x64_line()}"),
        ("compiled programs", _cache_line(cache)),
        ("flush-to-zero", "ON: certificates are refused" if flushes else "off"),
        ("standard library's copyreg", "SHADOWED: pickle is broken" if shadowed else "intact"),
    ]
    show_table(rows)
    cures = {
        f"JAX sees no device; set JAX_PLATFORMS=cpu, or mend the plugin that it names: {devices}": (
            devices.startswith("NONE")
        ),
        "Subnormal numbers are flushed to zero; a library that was loaded was built with "
        "-ffast-math: start Python without LD_PRELOAD, or rebuild that library": flushes,
        f"{getattr(copyreg, '__file__', 'a folder')} hides the standard library's copyreg; rename "
        "it, or start Python elsewhere": shadowed,
    }
    advice = [*_outdated(jax.__version__), *_single_core()]
    if cache.problem:
        advice.append(
            "Each command compiles its programs anew; set JAX_COMPILATION_CACHE_DIR to a folder "
            "of yours"
        )
    for sentence in [cure for cure, found in cures.items() if found] + advice:
        output.print(sentence, markup=False, soft_wrap=True, style="yellow")
    if any(cures.values()):
        raise typer.Exit(1)


def _cores() -> tuple[int, int]:
    """How many cores this process may use, and how many the machine has."""
    every = os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):  # macOS and Windows
        return every, every
    return len(os.sched_getaffinity(0)), every


def _cores_line() -> str:
    mine, every = _cores()
    return f"{mine}" if mine == every else f"{mine} of {every}"


def _single_core() -> list[str]:
    mine, every = _cores()
    if mine > 1 or every == 1:
        return []
    return [f"This process may use one of {every} cores; start it without taskset or its like"]


def _outdated(version: str) -> list[str]:
    """Say that JAX is older than what this package asks for, if it is."""
    required = importlib.metadata.requires("copyreg-jax") or []
    (least,) = (line.removeprefix("jax>=") for line in required if line.startswith("jax>="))
    if _numbers(version) >= _numbers(least):
        return []
    return [f"JAX {version} is older than {least}; pip install --upgrade 'jax>={least}'"]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _cache_line(cache: CompileCache) -> str:
    return f"not kept: {cache.problem}" if cache.problem else f"kept in {cache.folder}"


def _x64_line() -> str:
    from copyreg_jax.errors import ENABLE_X64

    return ENABLE_X64
