"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from copyreg_jax.errors import InputError

__all__ = ["write_whole"]


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
