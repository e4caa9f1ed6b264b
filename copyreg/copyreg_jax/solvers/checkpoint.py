"""A run on disk: written between steps, whole or not at all; resumed, it ends at the same bits."""

from __future__ import annotations

import hashlib
import re
import time
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from copyreg_jax.errors import InputError
from copyreg_jax.files import write_whole
from copyreg_jax.problem import SoftmaxRegression
from copyreg_jax.solvers.state import Solver, State

Trace: TypeAlias = list[tuple[np.ndarray, np.ndarray]]
"""Values and gradient norms, piece by piece."""

_SECONDS = 10.0
"""Least time between two writes."""
_SHARE = 20
"""A write that took t seconds is followed by none for 20 t."""


class Checkpoint:
    """The file of one run.

    Parameters
    ----------
    path : path
        An .npz; need not exist.
    problem, solver, rtol, x0
        What the run is about: a file of another run is refused.

    Raises
    ------
    InputError
        The file is of another run, or no checkpoint.
    """

    def __init__(
        self,
        path: str | Path,
        problem: SoftmaxRegression,
        solver: Solver,
        rtol: float,
        x0: Any,
    ) -> None:
        self.path = Path(path)
        self._run = _fingerprint(problem, solver, rtol, x0)
        self._next = time.monotonic() + _SECONDS

    def load(self, like: State) -> tuple[State, np.ndarray, np.ndarray] | None:
        """State, values and gradient norms so far; None if there is no file yet.

        ``like`` is a state of this run, for its structure.
        """
        if not self.path.exists():
            return None
        leaves, tree = jax.tree_util.tree_flatten(like)
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                run, values, norms = file["run"].tobytes(), file["values"], file["norms"]
                found = [file[f"state_{i}"] for i in range(len(leaves))]
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{self.path} is no checkpoint ({error}); delete it, or name another file"
            ) from None
        if run != self._run:
            raise InputError(
                f"{self.path} is the checkpoint of another run: its problem, solver, rtol, x0 or "
                "the version of JAX differ; delete it, or name another file"
            )
        # Where this run has them: the same program on other shards would give other bits.
        state = [
            jax.device_put(a.astype(b.dtype), b.sharding)
            for a, b in zip(found, leaves, strict=True)
        ]
        return jax.tree_util.tree_unflatten(tree, state), values, norms

    def save_if_due(self, state: State, trace: Trace) -> None:
        """Write the file if the last time is long enough ago."""
        if time.monotonic() >= self._next:
            self.save(state, trace)

    def save(self, state: State, trace: Trace) -> None:
        """Write the file."""
        begun = time.monotonic()
        leaves = jax.tree_util.tree_leaves(state)
        arrays: dict[str, Any] = {f"state_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        arrays["run"] = np.frombuffer(self._run, np.uint8)
        # An interrupt may come between a step's record and the step itself.
        known = int(state.num_steps) + 1
        values, norms = (np.concatenate(column)[:known] for column in zip(*trace, strict=True))
        arrays |= {"values": values, "norms": norms}
        write_whole(self.path, lambda file: np.savez(file, **arrays))
        now = time.monotonic()
        self._next = now + max(_SECONDS, _SHARE * (now - begun))


def _fingerprint(problem: SoftmaxRegression, solver: Solver, rtol: float, x0: Any) -> bytes:
    leaves, tree = jax.tree_util.tree_flatten((problem, x0))
    # Functions, as those of optax, have their names only: an address would differ in a new process.
    run = re.sub(r" at 0x[0-9a-f]+", "", repr((jax.__version__, solver, rtol, str(tree))))
    digest = hashlib.sha256(run.encode())
    for leaf in leaves:
        array = np.ascontiguousarray(np.asarray(leaf))
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(array.data)
    return digest.digest()
