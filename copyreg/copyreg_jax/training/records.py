"""What a run leaves for an audit: its documents, and its certificate to be held against both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.certify.training import (
    DocumentLoss,
    TrainingCertificate,
    certify_training,
    check_training,
    load_training,
)
from copyreg_jax.errors import InputError
from copyreg_jax.theory.bounds import gamma_for
from copyreg_jax.training import text

MODEL, DOCUMENTS, CERTIFICATE, SUMMARY = "model", "documents.json", "certificate.json", "run.json"


class Flags(NamedTuple):
    """The documents of a run, and what it has made of them.

    Attributes
    ----------
    texts, names : list of str
    protected, held_out : (n,) bool arrays
    length : int
        Targets of a row.
    """

    texts: list[str]
    names: list[str]
    protected: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    length: int

    def difference(self, other: Flags) -> str:
        """Why the two can't be measured together; empty if they can."""
        same = self.names == other.names and bool(
            np.array_equal(self.protected, other.protected)
            and np.array_equal(self.held_out, other.held_out)
        )
        if not same:
            return "protects or holds out other documents"
        return "" if self.length == other.length else f"has rows of {other.length} targets"


def load_flags(folder: str | Path, documents: list[text.Document]) -> Flags:
    """The flags of a run, with the texts that it was given.

    Parameters
    ----------
    folder : path
        Of the run.
    documents : list of text.Document
        Read anew; a run keeps hashes of texts only.

    Raises
    ------
    InputError
        The folder is of no finished run, or a text is missing or has changed.
    """
    folder = Path(folder)
    try:
        table = json.loads((folder / DOCUMENTS).read_bytes())
        length = json.loads((folder / SUMMARY).read_bytes())["length"]
        columns = {
            key: [row[key] for row in table] for key in ("name", "sha256", "protected", "held_out")
        }
        kinds = {type(value) for key in ("name", "sha256") for value in columns[key]}
        flags = {type(value) for key in ("protected", "held_out") for value in columns[key]}
        if type(length) is not int or length < 1 or kinds != {str} or flags != {bool}:
            raise ValueError("its files have been changed")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder} is not the folder of a finished run: {error}") from None
    names = columns["name"]
    if len(set(names)) < len(names):
        raise InputError(f"{folder / DOCUMENTS} has a document twice")
    texts = {document.name: document.text for document in documents}
    for name, digest in zip(names, columns["sha256"], strict=True):
        if name not in texts:
            raise InputError(f"document {name!r} of {folder} is not among the texts given")
        if hash_text(texts[name]) != digest:
            raise InputError(f"document {name!r} has another text than when {folder} was trained")
    protected, held_out = (np.array(columns[key]) for key in ("protected", "held_out"))
    return Flags([texts[name] for name in names], names, protected, held_out, length)


_RELATIVE, _ABSOLUTE = 1e-4, 1e-5
"""How far losses of a document may be apart, the second one in nats per token."""


class Recheck(NamedTuple):
    """What became of a run's certificate when its model was measured again.

    Attributes
    ----------
    verdict : str
        Of the checker, on the file alone: CERTIFIED, REFUTED, UNDECIDED or VOID.
    tau : float
        What the losses that were measured guarantee; NaN if there is nothing to compare.
    num_documents : int
        Documents whose losses were compared.
    difference : float
        The largest difference of a document's loss, in nats per token; NaN if none was compared.
    problems : list of str
        What speaks against the certificate; empty if nothing does.
    """

    verdict: str
    tau: float
    num_documents: int
    difference: float
    problems: list[str]


def recheck(
    folder: str | Path, flags: Flags, nll: NDArray[np.float64], num_tokens: NDArray[np.int64]
) -> Recheck | None:
    """Compare a run's certificate with its files and with losses that were measured anew.

    Parameters
    ----------
    folder : path
        Of the run.
    flags : Flags
        Of the run, with the texts: which documents the certificate has to be about.
    nll, num_tokens : (n,) arrays
        Losses and targets of the documents of ``flags``, as `fit.document_losses` gives them with
        products in float32.

    Returns
    -------
    Recheck or None
        None if the run had no protection term and has no certificate.

    Notes
    -----
    A loss may differ by 1e-4 of it and 1e-5 nats a token, tau by what that can do to it. In other
    batches on the same machine float32 gave differences of 1e-7 and 5e-7 (300 news articles, a
    million parameters); the rest is left to other machines and deeper models.
    """
    folder = Path(folder)
    path = folder / CERTIFICATE
    gamma = _said_gamma(folder, flags, num_tokens)
    if not path.exists():
        if not gamma:
            return None
        problem = f"{CERTIFICATE} is missing, but the run had a protection term"
        return Recheck("VOID", float("nan"), 0, float("nan"), [problem])
    checked = check_training(path)
    verdict, problems = checked.verdict.name, []
    if verdict != "CERTIFIED":
        problems = [line for line in checked.lines if not line.startswith("CERTIFIED")]
    if verdict == "VOID":
        return Recheck(verdict, float("nan"), 0, float("nan"), problems)
    said = load_training(path)
    model = folder / MODEL if (folder / MODEL).is_dir() else folder
    if said.model != identity(model, flags.length):
        problems.append("the files of the model, or its rows, are others than the certificate says")
    if gamma is None or not abs(said.gamma - gamma) <= 1e-9 * gamma:
        problems.append(f"gamma is {said.gamma:g}, that of {SUMMARY} is {gamma}")
    table = [
        DocumentLoss(name, bool(protected), int(count), float(loss), hash_text(text))
        for name, text, protected, held_out, count, loss in zip(
            flags.names, flags.texts, flags.protected, flags.held_out, num_tokens, nll, strict=True
        )
        if not held_out
    ]
    differences = _compare(said, table, problems)
    tau = float("nan")
    try:
        found = certify_training(table, said.gamma)
        tau = found.tau
        share = protected_share(flags.protected, flags.held_out, num_tokens)
        slack = (_RELATIVE * found.loss.upper + _ABSOLUTE) / (1 - share)
        if not said.tau <= tau + slack:
            problems.append(f"the losses guarantee tau {tau:.6g}, the certificate {said.tau:.6g}")
    except InputError as error:
        problems.append(f"the losses that were measured guarantee nothing: {error}")
    largest = max(differences, default=float("nan"))
    return Recheck(verdict, tau, len(differences), largest, problems)


def _compare(
    said: TrainingCertificate, table: list[DocumentLoss], problems: list[str]
) -> list[float]:
    """Differences of losses in nats per token; what does not fit is added to the problems."""
    stated = {document.name: document for document in said.documents}
    measured = {document.name: document for document in table}
    for name in sorted(stated.keys() ^ measured.keys()):
        where = "is not in the training set" if name in stated else "is missing"
        problems.append(f"document {name!r} {where}")
    differences = []
    for name in sorted(stated.keys() & measured.keys()):
        theirs, ours = stated[name], measured[name]
        for field in ("protected", "num_tokens", "sha256"):
            if getattr(theirs, field) != getattr(ours, field):
                problems.append(
                    f"document {name!r} has {field} {getattr(ours, field)}, the certificate says "
                    f"{getattr(theirs, field)}"
                )
        off = abs(theirs.nll - ours.nll)
        differences.append(off / ours.num_tokens)
        if not off <= _RELATIVE * ours.nll + _ABSOLUTE * ours.num_tokens:
            problems.append(
                f"the loss of document {name!r} is {ours.nll:.7g} nats, the certificate says "
                f"{theirs.nll:.7g}"
            )
    return differences


def _said_gamma(folder: Path, flags: Flags, num_tokens: NDArray[np.int64]) -> float | None:
    """The gamma of the run's settings; None if there are none that can be read."""
    try:
        settings = json.loads((folder / SUMMARY).read_bytes())["settings"]
        target, gamma = settings["target_loss"], float(settings["gamma"])
        share = protected_share(flags.protected, flags.held_out, num_tokens)
        return gamma if target is None else gamma_for(float(target), share)
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def protected_share(
    protected: NDArray[np.bool_], held_out: NDArray[np.bool_], num_tokens: NDArray[np.int64]
) -> float:
    """Part of the tokens of the training set that is protected."""
    return float(num_tokens[protected].sum() / num_tokens[~held_out].sum())


def hash_text(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def identity(model: Path, length: int) -> str:
    """What losses depend on beside the texts: every file of the model, and the rows."""
    digest = hashlib.sha256()
    for path in sorted(file for file in model.iterdir() if file.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return f"sha256:{digest.hexdigest()}, rows of {length} targets"
