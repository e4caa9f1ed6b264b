"""Training a model on rows of tokens: the loop, its numbers and its checkpoints."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import NDArray

from copyreg_jax.errors import InputError, TrainingError
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.protection import init_estimate
from copyreg_jax.lm.run_folder import (
    CHECKPOINT_SECONDS,
    Callback,
    NoFolder,
    RunFolder,
    State,
    describe_run,
)
from copyreg_jax.lm.settings import Metrics, Settings, refuse_unless
from copyreg_jax.lm.updates import Batch, compile_updates, make_optimizer

__all__ = ["fit"]


def fit(
    model: nnx.Module,
    rows: Rows,
    protected: NDArray[np.bool_],
    settings: Settings,
    folder: str | Path | None,
    *,
    of_target: NDArray[np.bool_] | None = None,
    checkpoint_steps: int | None = None,
    callback: Callback | None = None,
) -> nnx.Module:
    """Train a model, or go on with a run that was stopped.

    Parameters
    ----------
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits. It is not
        changed.
    rows : Rows
        Rows of the documents to train on, from `rows.make_rows`.
    protected : (r,) bool array
        True for the protected rows.
    settings : Settings
    folder : path or None
        Folder of the run, which is made if its parent exists. It keeps settings.json, metrics.jsonl
        and checkpoints/. If they are there already, the run goes on from the last checkpoint, to
        the same weights bit for bit on the same machine. With None nothing is written.
    of_target : (r,) bool array, optional
        Those of the protected rows that `Settings.target_loss` is of, by default all. The others
        have the same weight in the gradient, and no part in CE_1.
    checkpoint_steps : int, optional
        Steps between checkpoints, rounded up to calls of `Settings.steps_per_call`. By default a
        checkpoint is written about every minute.
    callback : callable, optional
        Called with the `Metrics` of every step, some steps late.

    Returns
    -------
    nnx.Module
        The trained model.

    Raises
    ------
    InputError
        There are no rows, or no protected or no unprotected ones although the term needs both;
        shapes do not fit; the devices can't share a batch; the folder has a run of other settings,
        model, data or version; or a file can't be written.
    TrainingError
        A loss or gradient is not finite. The error names the step and its rows; the last checkpoint
        is from before them.

    Notes
    -----
    The optimizer is AdamW with a warm-up, a cosine schedule and clipping to norm 1. Each
    epoch draws every row once, in an order that depends on the seed alone. Several devices share
    each batch.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.rows import cut_rows
    >>> class Bigram(nnx.Module):  # the next token depends on the last one alone
    ...     def __init__(self):
    ...         self.table = nnx.Param(jnp.zeros((2, 2)))
    ...     def __call__(self, tokens):
    ...         return self.table[...][tokens]
    >>> rows = cut_rows([np.array([0, 1, 0, 1, 0], np.int32)], 4, np.array([4]))
    >>> settings = Settings(steps=8, batch_size=1, learning_rate=1.0, weight_decay=0.0)
    >>> trained = fit(Bigram(), rows, np.array([False]), settings, None)
    >>> nnx.softmax(trained(np.array([[0, 1]]))).round(1).tolist()
    [[[0.0, 1.0], [1.0, 0.0]]]
    """
    _check_rows(rows, protected, of_target, settings)
    if of_target is not None:
        of_target = None if settings.target_loss is None else of_target & protected
    if checkpoint_steps is not None:
        refuse_unless(checkpoint_steps >= 1, f"checkpoint_steps is {checkpoint_steps}", ">= 1")
    place = _placement(settings.batch_size)
    graph, params = nnx.split(model)
    optimizer = make_optimizer(settings)
    advance = compile_updates(graph, optimizer, settings)
    kept: RunFolder | NoFolder = NoFolder()
    if folder is not None:
        both = protected if of_target is None else np.stack([protected, of_target])
        kept = RunFolder(Path(folder), describe_run(settings, graph, params, rows, both))
    # Copies: a step takes the memory of the state before it.
    params = jax.tree_util.tree_map(jnp.copy, params)
    state = State(params, optimizer.init(params), init_estimate(), jnp.zeros((), jnp.int32))
    state = kept.restore(place(state, ()))
    everything = Batch(rows.tokens, rows.mask, protected, of_target)
    per_call = settings.steps_per_call
    clock = _Clock()
    pending: list[_Part] = []
    saved = time.monotonic()

    def look(left: int) -> None:
        while len(pending) > left:
            kept.note(pending[0].metrics(rows, clock, kept.last), callback)
            pending.pop(0)

    try:
        for first in range(int(state.step), settings.steps, per_call):
            count = min(per_call, settings.steps - first)
            index = _draw(first, count, len(rows.tokens), settings)
            updates = index.reshape(-1, settings.accumulate, settings.batch_size)
            batches = Batch(*(None if array is None else array[updates] for array in everything))
            state, numbers = advance(state, place(batches, (None, None, "rows")))
            pending.append(_Part(first + 1, updates, numbers))
            look(1)  # while this is computed, at what was computed before
            done = first + count
            due = time.monotonic() - saved > CHECKPOINT_SECONDS
            if checkpoint_steps is not None:
                due = done // checkpoint_steps > first // checkpoint_steps
            if due or done == settings.steps:
                look(0)  # before what may be spoilt is kept
                kept.save(state)
                saved = time.monotonic()
    except KeyboardInterrupt:
        callback = None
        look(0)
        kept.save(state)
        raise
    finally:
        kept.close()
    return nnx.merge(graph, state.params)


def _draw(first: int, count: int, num_rows: int, settings: Settings) -> NDArray[np.int64]:
    """Draw the rows of some steps; each epoch has an order of its own."""
    size = settings.batch_size
    places = np.arange(first * size, (first + count) * size)
    epochs, places = places // num_rows, places % num_rows
    drawn = np.empty(len(places), np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        mine = epochs == epoch
        drawn[mine] = _order(num_rows, settings.seed, epoch)[places[mine]]
    return drawn.reshape(count, size)


@functools.lru_cache(maxsize=2)
def _order(num_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


def _placement(batch_size: int) -> Callable[[Any, Any], Any]:
    """Return a function that puts a pytree on the devices, cut along the rows or copied."""
    devices = jax.devices()
    if batch_size % len(devices):
        raise InputError(
            f"batch_size is {batch_size}; give a multiple of {len(devices)}, the number of devices"
        )
    mesh = jax.sharding.Mesh(np.array(devices), ("rows",))

    def place(tree: Any, axes: tuple[str | None, ...]) -> Any:
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        return jax.device_put(tree, sharding)

    return place


class _Clock:
    """Tokens per second, without the compilation that the first steps wait for."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._tokens = 0

    def __call__(self, num_tokens: int) -> float:
        """Return the rate so far, after so many more tokens; NaN at first."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = now
            return np.nan
        self._tokens += num_tokens
        return self._tokens / (now - self._begun)


class _Part(NamedTuple):
    """Steps that were dispatched, and whose numbers have not been looked at.

    Attributes
    ----------
    first : int
        Number of the first of these steps.
    chosen : (updates, accumulate, batch) array
        Rows of each step.
    numbers : dict of (updates, accumulate) arrays
    """

    first: int
    chosen: NDArray[np.int64]
    numbers: dict[str, Array]

    def metrics(self, rows: Rows, clock: _Clock, checkpoint: int | None) -> list[Metrics]:
        """Wait for the numbers, and raise `TrainingError` if a step has gone wrong."""
        columns = {name: np.asarray(column) for name, column in self.numbers.items()}
        rate = clock(int(rows.mask[self.chosen.ravel()].sum()))
        of_update = zip(
            columns["cross_entropy"], columns["gradient_norm"][:, 0], self.chosen, strict=True
        )
        step = self.first
        for losses, norm, chosen in of_update:
            # The losses first: one that is not finite spoils the gradient of the whole update.
            for k, loss in enumerate(losses):
                _check_finite("loss", loss, step + k, chosen[k], rows, checkpoint)
            step += len(chosen)
            _check_finite("norm of the gradient", norm, step - 1, chosen.ravel(), rows, checkpoint)
        return [
            Metrics(
                step=self.first + k,
                tokens_per_second=rate,
                **{name: float(column.flat[k]) for name, column in columns.items()},
            )
            for k in range(step - self.first)
        ]


def _check_finite(
    what: str, value: Any, step: int, chosen: NDArray[np.int64], rows: Rows, checkpoint: int | None
) -> None:
    if np.isfinite(value):
        return
    last = "there is no checkpoint yet"
    if checkpoint is not None:
        last = f"the last checkpoint is that of step {checkpoint}"
    raise TrainingError(
        f"the {what} is {value} at step {step}, in a batch of rows {chosen.tolist()} of documents "
        f"{np.unique(rows.document[chosen]).tolist()}; {last}. A lower learning_rate or gamma may "
        "help"
    )


def _check_rows(rows: Rows, protected: Any, of_target: Any, settings: Settings) -> None:
    protected = np.asarray(protected)
    own = protected if of_target is None else np.asarray(of_target)
    if len(rows.tokens) == 0:
        raise InputError("there are no rows to train on")
    for name, array in {"protected": protected, "of_target": own}.items():
        if array.dtype != bool or array.shape != rows.document.shape:
            raise InputError(
                f"{name} is {array.dtype}{array.shape}; give a bool for each of "
                f"{len(rows.tokens)} rows"
            )
    if settings.is_protected and protected.all() | ~protected.any():
        which = "all" if protected.any() else "none"
        raise InputError(f"{which} of the rows are protected; the term needs both kinds")
    if settings.target_loss is not None and not (own & protected).any():
        raise InputError("the target is of no protected row; protect text beside canaries")
    targets = settings.accumulate * settings.batch_size * rows.mask.shape[1]
    refuse_unless(targets < 2**31, f"an update has {targets} targets", "less than 2^31")
