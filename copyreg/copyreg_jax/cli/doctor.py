"""``copyreg doctor``."""

from __future__ import annotations

import importlib.metadata
import platform

import typer

from copyreg_jax.cli.common import enable_x64, show_table
from copyreg_jax.cli.compile_cache import CompileCache, use_compile_cache

__all__ = ["doctor"]


def doctor() -> None:
    """Show the versions, devices and arithmetic of this installation.

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
        *(
            (name, importlib.metadata.version(name))
            for name in ("jax", "jaxlib", "numpy", "scipy", "optax", "python-flint")
        ),
        ("devices", devices),
        ("64-bit mode", f"on in this command; your own programs need {_x64_line()}"),
        ("compiled programs", _cache_line(cache)),
        ("flush-to-zero", "ON: certificates are refused" if flushes else "off"),
        ("standard library's copyreg", "SHADOWED: pickle is broken" if shadowed else "intact"),
    ]
    show_table(rows)
    if flushes or shadowed or devices.startswith("NONE"):
        raise typer.Exit(1)


def _cache_line(cache: CompileCache) -> str:
    return f"not kept: {cache.problem}" if cache.problem else f"kept in {cache.folder}"


def _x64_line() -> str:
    from copyreg_jax.errors import ENABLE_X64

    return ENABLE_X64
