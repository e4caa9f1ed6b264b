"""JAX's persistent compilation cache, in the user's cache folder."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

__all__ = ["CompileCache", "use_compile_cache", "user_cache_folder"]

_OWN_LIMITS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
"""Keep every program, however small: a solve compiles many that take less than a second."""


class CompileCache(NamedTuple):
    """Where compiled programs are kept; ``problem`` says why they are not, if they are not."""

    folder: str
    problem: str = ""


def use_compile_cache() -> CompileCache:
    """Let JAX keep compiled programs in the user's cache folder, unless the user has chosen one.

    A folder that can't be used is no error: the programs are compiled anew then.
    """
    import jax

    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    is_on = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    if not is_on or chosen == "":
        return CompileCache("", "switched off by your settings of JAX")
    if chosen is not None:
        return CompileCache(chosen, _problem_of_chosen(chosen))
    try:
        # What is judged and what JAX is told are one path, whatever links lead there.
        folder = (user_cache_folder() / "copyreg" / f"xla-{jax.__version__}").resolve()
    except (OSError, RuntimeError):
        return CompileCache("", "there is no home folder")
    if problem := _prepare(folder):
        return CompileCache(str(folder), problem)
    # JAX compiles anew after a damaged entry, and goes on after a full disk.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    for name, value in _OWN_LIMITS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return CompileCache(str(folder))


def _problem_of_chosen(chosen: str) -> str:
    """Say why nothing can be kept in the user's own choice, which JAX makes if it is missing."""
    if "://" in chosen:  # a bucket, which this program does not try
        return ""
    folder = Path(chosen).absolute()
    try:
        with tempfile.TemporaryFile(dir=next(p for p in (folder, *folder.parents) if p.exists())):
            return ""
    except OSError as error:
        return f"can't write to {chosen}: {error.strerror or error}"


def user_cache_folder() -> Path:
    """Return the folder that the platform has for caches of this user.

    Raises
    ------
    RuntimeError
        The user has no home folder.
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".cache"


def _prepare(folder: Path) -> str:
    """Make the folder, and return why it can't be used, or nothing."""
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if problem := _others(there, holds_programs=False):  # make nothing in such a place
            return problem
        for place in reversed((folder, *folder.parents)):
            if not place.exists():  # mkdir's own `parents` would take the umask's mode
                place.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        return _others(folder, holds_programs=True)
    except OSError as error:
        return f"{error.strerror or error}"


def _others(folder: Path, *, holds_programs: bool) -> str:
    """Say which part of the path other users control: JAX runs what it finds in the cache."""
    if sys.platform == "win32":  # the folder lies in the user's profile
        return ""
    for place in (folder, *folder.parents):
        found = place.stat()
        # In a folder like /tmp other users can add files, but can't replace a folder of ours.
        is_sticky = found.st_mode & stat.S_ISVTX and not (holds_programs and place == folder)
        if found.st_uid not in (0, os.geteuid()):
            return f"{place} belongs to another user"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky:
            return f"{place} can be written to by other users"
    return ""
