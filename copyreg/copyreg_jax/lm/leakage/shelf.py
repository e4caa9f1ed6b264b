"""A file in which an audit keeps what it has computed, so that it goes on if it is stopped."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax._files import unreadable, write_whole
from copyreg_jax.errors import InputError
from copyreg_jax.lm.hashing import hash_arrays
from copyreg_jax.lm.leakage.teacher_forced import Suffixes

__all__ = ["Shelf"]

_SECONDS = 30
"""Time between two writes."""


class Shelf:
    """Where results are kept on the way: a file that an audit which was stopped goes on from."""

    def __init__(
        self,
        path: Path | None,
        model: nnx.Module,
        windows: Mapping[str, NDArray[np.int32]],
        prefix: int,
        top_k: int | None,
    ) -> None:
        self.known = {name: Suffixes.empty(len(tokens)) for name, tokens in windows.items()}
        self._path, self._written = path, time.monotonic()
        if path is None:
            return
        arrays = [*map(np.asarray, jax.tree_util.tree_leaves(nnx.state(model))), *windows.values()]
        kind = type(model).__name__, getattr(model, "config", None), getattr(model, "dtype", None)
        self._key = f"{kind} {prefix} {top_k} {hash_arrays(arrays)}"
        if path.exists():
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                key = str(file["key"])
                parts = [
                    Suffixes(*(file[f"{field}{k}"] for field in Suffixes._fields))
                    for k in range(len(self.known))
                ] if key == self._key else []  # fmt: skip
        except OSError as error:
            raise unreadable(path, error) from None
        except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
            raise InputError(f"{path} is damaged, delete it: {error}") from None
        if key != self._key:
            raise InputError(
                f"{path} is of an audit of another model, --quantize, text or sizes; delete it, or "
                "name another --out"
            )
        self.known = dict(zip(self.known, parts, strict=True))

    def keep(
        self, name: str, progress: Callable[[str, float], None], known: Suffixes, done: int
    ) -> None:
        """Take note of what is known of a text; write it if the last time is a while ago."""
        self.known[name] = known
        progress(name, done / len(known.log_p))
        if time.monotonic() - self._written >= _SECONDS:
            self.write()

    def write(self) -> None:
        """Write all that is known, if there is a file for it."""
        if self._path is None:
            return
        arrays = {
            f"{field}{k}": getattr(part, field)
            for k, part in enumerate(self.known.values())
            for field in Suffixes._fields
        }
        content = io.BytesIO()
        np.savez(content, key=self._key, **arrays)
        write_whole(self._path, content.getvalue())
        self._written = time.monotonic()
