"""The folder of a training run: settings, metrics and checkpoints, safe to resume."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from numpy.typing import NDArray

from copyreg_jax._files import jsonable, write_whole
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.hashing import hash_arrays, hash_text
from copyreg_jax.lm.protection import Estimate
from copyreg_jax.lm.settings import Metrics, Settings

__all__ = [
    "CHECKPOINT_SECONDS",
    "METRICS",
    "Callback",
    "NoFolder",
    "RunFolder",
    "State",
    "describe_run",
]

_LOOP = 2
"""Version of what a run computes: 1 counted in float32, and took means of means."""

_CHECKPOINTS_KEPT = 2

CHECKPOINT_SECONDS = 60.0

METRICS = "metrics.jsonl"

_SETTINGS, _CHECKPOINTS = "settings.json", "checkpoints"


class State(NamedTuple):
    """The content of a checkpoint."""

    params: Any
    memory: Any
    estimate: Estimate
    step: Int[Array, ""]


Callback: TypeAlias = Callable[[Metrics], None]


class RunFolder:
    """The files of a run: settings, metrics of each step, checkpoints."""

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        import orbax.checkpoint as ocp

        path = path.absolute()
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"can't make {path}: {error.strerror or error}") from None
        self._settings, self._metrics = path / _SETTINGS, path / METRICS
        self._compare(run)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_CHECKPOINTS_KEPT, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(path / _CHECKPOINTS, options=options)
        self._args = ocp.args
        self._lines: list[str] = []
        self._noted = 0

    def _compare(self, run: dict[str, Any]) -> None:
        """Write down what the run is, or refuse to go on with another one."""
        if not self._settings.exists():
            write_whole(self._settings, (json.dumps(run, indent=1) + "\n").encode())
            return
        try:
            there = json.loads(self._settings.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{self._settings} can't be read: {error}") from None
        if not isinstance(there, dict):
            raise InputError(f"{self._settings} can't be read: it is not a JSON object")
        if there.get("loop") != run["loop"]:
            raise InputError(
                f"{self._settings.parent} holds a run of another version of copyreg, whose loop "
                "counted and accumulated in another way; finish it with that version, or name "
                "another folder"
            )
        for name in sorted(run.keys() | there.keys()):
            if run.get(name) != there.get(name):
                raise InputError(
                    f"{self._settings.parent} is of another run: its {name} is "
                    f"{there.get(name)!r:.40}, not {run.get(name)!r:.40}; name another folder"
                )

    @property
    def last(self) -> int | None:
        """Step of the last checkpoint."""
        return self._manager.latest_step()

    def restore(self, state: State) -> State:
        """Return the last checkpoint, or the state if there is none; drop later metrics."""
        step = self._manager.latest_step()
        if step is not None:
            try:
                state = self._manager.restore(step, args=self._args.StandardRestore(state))
            except Exception as error:  # whatever its many layers raise
                text = str(error).splitlines()[0]
                folder = self._settings.parent / _CHECKPOINTS / str(step)
                raise InputError(f"{folder} can't be restored: {text:.200}; delete it") from None
        self._noted = int(state.step)
        lines = self._metrics.read_text().splitlines() if self._metrics.exists() else []
        kept = {}
        for line in lines:
            try:
                number = json.loads(line)["step"]
            except (ValueError, KeyError, TypeError):
                continue  # half of a line, from a process that was killed
            if number <= self._noted:
                kept[number] = line
        write_whole(self._metrics, "".join(kept[k] + "\n" for k in sorted(kept)).encode())
        return state

    def note(self, steps: list[Metrics], callback: Callback | None) -> None:
        """Remember lines of metrics for the next checkpoint, and tell the callback."""
        new = [metrics for metrics in steps if metrics.step > self._noted]
        for metrics in new:
            self._lines.append(json.dumps(jsonable(metrics)) + "\n")
            self._noted = metrics.step
        if callback is not None:
            for metrics in new:
                callback(metrics)

    def save(self, state: State) -> None:
        """Write a checkpoint and the metrics up to it, or raise `InputError`."""
        if state.step.is_deleted() or int(state.step) != self._noted:
            return  # interrupted between a step and its record
        try:
            with self._metrics.open("a") as file:
                file.writelines(self._lines)
            self._lines.clear()
            self._manager.save(int(state.step), args=self._args.StandardSave(state))
            self._manager.wait_until_finished()
        except Exception as error:  # whatever its many layers raise, when the disk is full say
            text = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
            raise InputError(
                f"can't write the checkpoint of step {int(state.step)} to "
                f"{self._settings.parent}: {text:.200}; the same run goes on from the one before"
            ) from None

    def close(self) -> None:
        """Let go of the files."""
        self._manager.close()


class NoFolder:
    """A run that leaves nothing behind: no checkpoints, no metrics, nothing to go on from."""

    last: int | None = None

    def restore(self, state: State) -> State:
        """Return the state: there is no checkpoint."""
        return state

    def note(self, steps: list[Metrics], callback: Callback | None) -> None:
        """Tell the callback, and forget the steps."""
        if callback is not None:
            for metrics in steps:
                callback(metrics)

    def save(self, state: State) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Nothing is open."""


def describe_run(
    settings: Settings, graph: Any, params: Any, rows: Rows, protected: NDArray[np.bool_]
) -> Any:
    """Collect the settings and hashes that have to be the same for a run to go on."""
    leaves = [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(params)]
    data = [rows.tokens, rows.mask, rows.document, protected]
    return dataclasses.asdict(settings) | {
        "loop": _LOOP,
        # What a model is beside its weights: number of heads, dtype of products, ...
        "architecture": hash_text(re.sub(r" at 0x[0-9a-f]+", "", repr(graph))),
        "devices": [jax.device_count(), jax.default_backend()],
        "model": hash_arrays(leaves), "data": hash_arrays(data), "jax": jax.__version__,
        "floats": str(jnp.zeros(()).dtype),
    }  # fmt: skip
