"""A whole training run, from text to a folder: what ``copyreg train`` does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from copyreg_jax._files import jsonable, write_whole
from copyreg_jax.certificates.training import certify_training, save_training
from copyreg_jax.checker.guarantee import TrainingCertificate
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.tokenizer import check_tokenizer, save_tokenizer
from copyreg_jax.lm.curves import save_plot
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.hashing import hash_text
from copyreg_jax.lm.loop import fit
from copyreg_jax.lm.models.hugging_face import LanguageModel, save_pretrained
from copyreg_jax.lm.prepared import Prepared
from copyreg_jax.lm.protection import gamma_for
from copyreg_jax.lm.records import (
    CERTIFICATE,
    DOCUMENTS,
    MODEL,
    SUMMARY,
    Flags,
    check_folder,
    fingerprint_model,
)
from copyreg_jax.lm.run_folder import METRICS, Callback
from copyreg_jax.lm.settings import Settings

__all__ = ["PLOT", "Losses", "Run", "train"]

PLOT = "curves.png"


class Losses(NamedTuple):
    """Plain cross-entropies over whole sets without canaries, in nats per token; NaN of none."""

    protected: float
    unprotected: float
    held_out: float


class Run(NamedTuple):
    """A finished run.

    Attributes
    ----------
    model : GPT2 or Llama
        The trained model; its products are float32, whatever they were in training.
    losses : Losses
        Plain cross-entropies, without the protection term.
    certificate : TrainingCertificate or None
        The level-set guarantee over the training set, if there was a protection term.
    problem : str
        Why there is no curves.png, which nothing else depends on; empty if it is there.
    """

    model: LanguageModel
    losses: Losses
    certificate: TrainingCertificate | None
    problem: str = ""


def train(
    prepared: Prepared,
    model: LanguageModel,
    settings: Settings,
    folder: str | Path,
    *,
    leave_out: bool = False,
    callback: Callback | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Run:
    """Train, evaluate, and write the folder of the run.

    Parameters
    ----------
    prepared : Prepared
    model : GPT2 or Llama
        The model to begin with; it is not changed.
    settings : Settings
    folder : path
        Folder of the run, where a run that was stopped goes on. Beside what `fit` keeps, it gets
        model/ in the Hugging Face layout with its tokenizer, run.json and curves.png.
        documents.json has flags, hashes and losses of the documents, but no text. With a protection
        term there is guarantee.json too.
    leave_out : bool, default False
        Leave the protected documents out of training, as the reference for other runs.
    callback : callable, optional
        Called with the `Metrics` of each step.
    progress : callable, optional
        Called with a description of what is being done.

    Returns
    -------
    Run

    Raises
    ------
    InputError, TrainingError
        See `fit`. Also, the tokenizer has more tokens than the model, rows are longer than its
        context, or something in the folder is in the way. A failure to draw the curves does not
        raise.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.lm.corpus.documents import Document
    >>> from copyreg_jax.lm.model_sources import Size, new_model
    >>> from copyreg_jax.lm.prepared import prepare
    >>> documents = [Document("Ahab", "a white whale"), Document("tide", "west wind")]
    >>> ready = prepare(documents, np.array([1, 0], bool), length=8, vocab_size=257, held_out=0)
    >>> size = Size(vocab_size=257, width=8, num_layers=1, num_heads=2)
    >>> model = new_model(ready.tokenizer, size, length=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(ready, model, Settings(steps=2, batch_size=2, gamma=1.0), folder)
    ...     (Path(folder) / MODEL / "config.json").exists(), (Path(folder) / CERTIFICATE).exists()
    (True, True)
    >>> run.losses.protected - run.losses.unprotected >= run.certificate.tau  # what is guaranteed
    True
    """
    folder = Path(folder)
    check_folder(folder)
    check_tokenizer(prepared.tokenizer, model.config.vocab_size)
    length = prepared.rows.mask.shape[1]
    if length > model.config.context:
        raise InputError(
            f"rows have {length} targets, the model's context is {model.config.context} tokens; "
            "give a smaller length"
        )
    rows, split = prepared.trained(leave_out), prepared.split
    progress("compiling")
    real = ~prepared.flags.canary
    # Canaries measure what is kept of protected text; what the text's loss is to be is not theirs.
    of_target = None if prepared.canaries is None else rows.per_row(split.protected & real)
    trained: Any = fit(
        model, rows, rows.per_row(split.protected), settings, folder,
        of_target=of_target, callback=callback,
    )  # fmt: skip

    progress("saving the model")
    (folder / MODEL).mkdir(exist_ok=True)
    save_pretrained(trained, folder / MODEL)
    save_tokenizer(prepared.tokenizer, folder / MODEL)
    progress("evaluating on all documents")
    trained.dtype = jnp.dtype(jnp.float32)  # so that an auditor finds the same losses anywhere
    nll, counts = document_losses(trained, prepared.rows, len(prepared.documents))
    _check_finite(nll, prepared)
    fingerprint = fingerprint_model(folder / MODEL, length)
    certificate = _certify(prepared.flags, settings, nll, counts, fingerprint)
    if certificate is not None:
        save_training(certificate, folder / CERTIFICATE)
    groups = (split.protected, split.open, split.held_out)
    losses = Losses(*(_mean(nll, counts, group & real) for group in groups))
    _write(folder / DOCUMENTS, _table(prepared, nll, counts))
    _write(
        folder / SUMMARY,
        {
            "settings": dataclasses.asdict(settings),
            "length": length,
            "leave_out": leave_out,
            "canaries": None if (own := prepared.canaries) is None else dataclasses.asdict(own),
            "model": trained.config.to_json(),
            "losses": jsonable(losses),
            "tau": None if certificate is None else certificate.tau,
        },
    )
    problem = ""
    try:
        save_plot(folder / METRICS, folder / PLOT, settings.target_loss)
    except Exception as error:  # whatever drawing raises: all else is written
        problem = f"no {PLOT}: {str(error) or type(error).__name__}"
    return Run(trained, losses, certificate, problem)


def _check_finite(nll: NDArray[np.float64], prepared: Prepared) -> None:
    for document, loss in zip(prepared.documents, nll, strict=True):
        if not np.isfinite(loss):
            raise InputError(f"the loss of document {document.name!r} is {loss}")


def _mean(nll: NDArray[np.float64], counts: NDArray[np.int64], group: NDArray[np.bool_]) -> float:
    return float(nll[group].sum() / counts[group].sum()) if group.any() else float("nan")


def _certify(
    flags: Flags,
    settings: Settings,
    nll: NDArray[np.float64],
    counts: NDArray[np.int64],
    model: str,
) -> TrainingCertificate | None:
    """Prove the guarantee for the gamma of the run; of a target, the one that balances at it.

    That is for the share of all that is protected, canaries too, as the losses that are certified.
    """
    gamma = settings.gamma
    if settings.target_loss is not None:
        gamma = gamma_for(settings.target_loss, flags.protected_share(counts))
    if gamma == 0:
        return None
    return certify_training(flags.training_losses(nll, counts), gamma, model)


def _table(
    prepared: Prepared, nll: NDArray[np.float64], counts: NDArray[np.int64]
) -> list[dict[str, Any]]:
    return [
        {
            "name": document.name,
            "source": document.source,
            "sha256": hash_text(document.text),
            "protected": bool(protected),
            "held_out": bool(held_out),
            "num_tokens": int(count),
            "num_bytes": int(size),
            "nll": float(loss),
        }
        for document, protected, held_out, count, size, loss in zip(
            prepared.documents, prepared.split.protected, prepared.split.held_out, counts,
            prepared.rows.num_bytes, nll, strict=True,
        )
    ]  # fmt: skip


def _write(path: Path, content: Any) -> None:
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
