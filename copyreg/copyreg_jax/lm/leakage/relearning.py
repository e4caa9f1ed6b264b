"""Training a run's model again on other text, which may bring back what it knew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.leakage.losses import HELD_OUT, UNPROTECTED
from copyreg_jax.lm.loop import fit
from copyreg_jax.lm.models.hugging_face import LanguageModel
from copyreg_jax.lm.records import DOCUMENTS, SUMMARY, Flags
from copyreg_jax.lm.settings import Settings
from copyreg_jax.lm.updates import FINAL_RATE

__all__ = ["Relearning", "plan_relearning", "relearn"]


class Relearning(NamedTuple):
    """How models are trained again, and on which documents.

    Attributes
    ----------
    settings : Settings
    texts : dict of (n,) bool arrays
        The documents to train on, by what they are: ``"unprotected"``, those that the run was
        trained on without protection; ``"held-out"``, held-out ones whose source is that of a
        protected one. A kind without documents is not there. Each is a training of its own.
    """

    settings: Settings
    texts: dict[str, NDArray[np.bool_]]


def plan_relearning(folder: str | Path, flags: Flags, steps: int, *, seed: int = 0) -> Relearning:
    """Plan a training on other text, with the settings of a run.

    Parameters
    ----------
    folder : path
        Folder of a finished run.
    flags : Flags
        Its documents, from `records.load_flags`, or those that are no canaries.
    steps : int
        Number of updates of the weights.
    seed : int
        Seed of the order of the rows.

    Returns
    -------
    Relearning
        Batches and weight decay are the run's. The learning rate warms up to the one with which the
        run has ended, a tenth of its peak, and falls again. There is no protection term.

    Raises
    ------
    InputError
        The run's files can't be read, a setting or the number of steps is out of range, or there is
        no document to train on.

    Examples
    --------
    >>> import tempfile
    >>> settings = {"batch_size": 4, "accumulate": 2, "weight_decay": 0.1, "learning_rate": 0.01}
    >>> rows = [{"name": name, "source": "novel"} for name in ("a", "b", "c")]
    >>> flags = Flags(["x", "y", "z"], ["a", "b", "c"], *np.eye(3, dtype=bool)[:2], length=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / SUMMARY).write_text(json.dumps({"settings": settings}))
    ...     _ = (Path(folder) / DOCUMENTS).write_text(json.dumps(rows))
    ...     plan = plan_relearning(folder, flags, steps=10)
    >>> plan.settings.steps, plan.settings.learning_rate
    (20, 0.001)
    >>> {kind: chosen.tolist() for kind, chosen in plan.texts.items()}
    {'unprotected': [False, False, True], 'held-out': [False, True, False]}
    """
    folder = Path(folder)
    try:
        used: dict[str, Any] = json.loads((folder / SUMMARY).read_bytes())["settings"]
        rows = json.loads((folder / DOCUMENTS).read_bytes())
        by_name = {row["name"]: row.get("source", "") for row in rows}
        sources = [by_name[name] for name in flags.names]  # canaries may be among the others
        kept = {name: used[name] for name in ("batch_size", "weight_decay")}
        accumulate = int(used["accumulate"])
        # At the peak rate itself a model forgets what it knows: it would look robust.
        rate = FINAL_RATE * float(used["learning_rate"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is not the folder of a finished run: {error!r}") from None
    if steps < 1:
        raise InputError(f"{steps} steps of relearning are asked for; give 1 or more")
    settings = Settings(
        steps=steps * accumulate, accumulate=accumulate, learning_rate=rate, seed=seed, **kept
    )
    of_protected = {s for s, chosen in zip(sources, flags.protected, strict=True) if chosen}
    alike = np.array([source in of_protected for source in sources], bool)
    texts = {
        UNPROTECTED: ~(flags.protected | flags.held_out),
        HELD_OUT: flags.held_out & alike,
    }
    found = {kind: chosen for kind, chosen in texts.items() if chosen.any()}
    if not found:
        raise InputError(
            f"nothing is left to relearn on: {folder} has neither unprotected training documents "
            "nor held-out ones of the source of a protected one"
        )
    return Relearning(settings, found)


def relearn(
    model: LanguageModel, rows: Rows, chosen: NDArray[np.bool_], settings: Settings
) -> LanguageModel:
    """Train a model on some documents, without a protection term and without a file.

    Parameters
    ----------
    model : GPT2 or Llama
        It is not changed.
    rows : Rows
        Rows of all documents, from `rows.make_rows`.
    chosen : (n,) bool array
        The documents to train on.
    settings : Settings
        Those of `plan_relearning`.

    Returns
    -------
    GPT2 or Llama
        The same bits on the same machine, whenever it is called.

    Raises
    ------
    InputError, TrainingError
        See `loop.fit`.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from copyreg_jax.lm.corpus.rows import cut_rows
    >>> class Bigram(nnx.Module):  # the next token depends on the last one alone
    ...     def __init__(self):
    ...         self.table = nnx.Param(jnp.zeros((2, 2)))
    ...     def __call__(self, tokens):
    ...         return self.table[...][tokens]
    >>> parts = [np.array([0, 1, 0, 1, 0], np.int32), np.array([1, 1, 1, 1, 1], np.int32)]
    >>> rows = cut_rows(parts, 4, np.array([4, 4]))
    >>> settings = Settings(steps=8, batch_size=1, learning_rate=1.0, weight_decay=0.0)
    >>> trained = relearn(Bigram(), rows, np.array([True, False]), settings)
    >>> jax.nn.softmax(trained(np.array([[0, 1]]))).round(1).tolist()  # never saw 1 after 1
    [[[0.0, 1.0], [1.0, 0.0]]]
    """
    part = rows.take(rows.per_row(chosen))
    trained: Any = fit(model, part, np.zeros(len(part.tokens), bool), settings, None)
    return trained
