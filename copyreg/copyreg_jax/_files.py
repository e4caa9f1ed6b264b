"""Files: written whole or not at all, JSON without NaN, one spelling of what can't be read."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from copyreg_jax.errors import InputError

__all__ = ["jsonable", "require_new", "unreadable", "write_whole"]


def write_whole(path: str | Path, content: bytes | Callable[[IO[bytes]], None]) -> None:
    """Write bytes to ``path``; a file that was there stays as it was if anything fails.

    ``content`` is the bytes, or a function that writes them to the open file it is given.

    Raises
    ------
    InputError
        The folder does not exist or can't be written to.
    """
    path = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror or error}") from None
    except ValueError as error:  # a path with a null byte
        raise InputError(f"can't write {path!r}: {error}") from None


def require_new(out: Path) -> None:
    """`InputError` if there is something where a new folder is to be."""
    if not out.name:
        raise InputError(f"{out} is this folder; give the name of a new one")
    if out.is_dir() and not any(out.iterdir()):
        return
    if os.path.lexists(out):
        raise InputError(f"{out} is there already; choose another place, or remove it")


def unreadable(path: object, error: Exception) -> InputError:
    """The error of a file that can't be read, with the reason that the system gives."""
    return InputError(f"can't read {path}: {getattr(error, 'strerror', None) or error}")


def jsonable(value: Any) -> Any:
    """The same as JSON can say it, which has neither NaN nor infinities: they become None.

    Named tuples become objects, with a key for each field.
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
