"""A run on disk: written between steps, whole or not at all; resumed, it ends at the same bits."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from copyreg_jax._files import unreadable, write_whole
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import is_sparse, on_host
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.protocol import Solver, State

__all__ = ["Checkpoint", "Trace", "run_of"]

Trace: TypeAlias = list[tuple[np.ndarray, np.ndarray]]
"""Values and gradient norms, piece by piece."""

_SECONDS = 10.0
"""Least time between two writes."""

_SHARE = 20
"""A write that took t seconds is followed by none for 20 t."""

_RUN = "problem", "solver", "rtol", "x0", "version of JAX"
"""A run is known by these; a file has the digest of each."""


class Checkpoint:
    """The file of one run.

    Parameters
    ----------
    path : path
        An .npz; need not exist.
    problem, solver, rtol, x0
        What the run is about: a file of another run is refused. An A on disk is read once for it,
        and known by its rows in their order and by its blocks, not by the names of its files.

    Raises
    ------
    InputError
        The file is of another run, or no checkpoint.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.solvers.newton_cg import NewtonCG
    >>> problem, x0 = SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3]), np.zeros(1)
    >>> state = State(x0, *map(jax.numpy.float32, [0.5, 0, 0, 0, 0, 0, 1, 0, 0]))  # after one step
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "run.npz"
    ...     run = Checkpoint(path, problem, NewtonCG(), rtol=1e-6, x0=x0)
    ...     before = run.load(state)
    ...     run.save(state, trace=[(np.array([0.7, 0.5]), np.array([0.1, 0.0]))])
    ...     found, values, norms = run.load(jax.tree.map(jax.numpy.asarray, state))
    ...     try:
    ...         Checkpoint(path, problem, NewtonCG(), rtol=1e-9, x0=x0).load(state)
    ...     except InputError as error:
    ...         print(str(error)[str(error).index("is the") :].partition(";")[0])
    is the checkpoint of another run: not the same rtol
    >>> before, float(found.value), values.tolist()
    (None, 0.5, [0.7, 0.5])
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
        self._run = _fingerprints(problem, solver, rtol, x0)
        self._next = time.monotonic() + _SECONDS

    def load(self, like: State) -> tuple[State, np.ndarray, np.ndarray] | None:
        """Return state, values and gradient norms so far, or None if there is no file yet.

        ``like`` is a state of this run, for its structure.
        """
        if not self.path.exists():
            return None
        leaves, tree = jax.tree_util.tree_flatten(like)
        run, arrays = _read(self.path)
        if run != self._run:
            pairs = zip(_RUN, run, self._run, strict=True)
            other = ", ".join(name for name, theirs, ours in pairs if theirs != ours)
            raise InputError(
                f"{self.path} is the checkpoint of another run: not the same {other}; delete it, "
                "or name another file"
            )
        values, norms = arrays.pop("values"), arrays.pop("norms")
        found = [arrays.get(f"state_{i}") for i in range(len(arrays))]
        if [getattr(a, "shape", None) for a in found] != [b.shape for b in leaves]:
            raise _no_checkpoint(self.path, "its state is that of another version of this package")
        # Where this run has them: the same program on other shards would give other bits.
        state = [
            jax.device_put(np.asarray(a, b.dtype), b.sharding)
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
        arrays["run"] = np.frombuffer(b"".join(self._run), np.uint8).reshape(len(_RUN), -1)
        # An interrupt may come between a step's record and the step itself.
        known = int(state.num_steps) + 1
        values, norms = (np.concatenate(column)[:known] for column in zip(*trace, strict=True))
        arrays |= {"values": values, "norms": norms}
        write_whole(self.path, lambda file: np.savez(file, **arrays))
        now = time.monotonic()
        self._next = now + max(_SECONDS, _SHARE * (now - begun))


def run_of(path: str | Path) -> str:
    """Return what tells the run of this checkpoint from others.

    Raises
    ------
    InputError
        The file is not a checkpoint.
    """
    return hashlib.sha256(b"".join(_read(Path(path))[0])).hexdigest()


def _read(path: Path) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """Read the digests of the run, and the other arrays."""
    try:
        with path.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise ValueError("it holds one array")
            arrays = dict(content)
        run = [bytes(row) for row in arrays.pop("run").reshape(len(_RUN), -1)]
        arrays["values"], arrays["norms"]  # a KeyError without them
    except PermissionError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
        raise _no_checkpoint(path, error) from None
    return run, arrays


def _no_checkpoint(path: Path, reason: Any) -> InputError:
    return InputError(f"{path} is not a checkpoint ({reason}); name another file")


def _fingerprints(problem: SoftmaxRegression, solver: Solver, rtol: float, x0: Any) -> list[bytes]:
    """Return the digests in the order of `_RUN`."""
    return [_digest(part) for part in (problem, solver, rtol, x0, jax.__version__)]


def _digest(part: Any) -> bytes:
    """Return the digest of all numbers of a pytree, and of the words for everything else in it."""
    leaves, tree = jax.tree_util.tree_flatten(part, is_leaf=on_host)
    digest = hashlib.sha256(str(tree).encode())
    for leaf in leaves:
        if on_host(leaf):
            digest.update(repr(leaf).encode())
            for _, block in leaf.blocks():
                sparse = is_sparse(leaf)
                for array in (block.data, block.indices, block.indptr) if sparse else (block,):
                    _add(digest, array)
        elif isinstance(leaf, np.ndarray | jax.Array):
            _add(digest, np.asarray(leaf))
        else:
            # Functions, as those of optax, have their names only: an address would differ in a new
            # process.
            digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(leaf)).encode())
    return digest.digest()


def _add(digest: Any, array: np.ndarray) -> None:
    digest.update(repr((array.shape, array.dtype.str)).encode())
    digest.update(np.ascontiguousarray(array).data)
