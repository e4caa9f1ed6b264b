"""A run's certificate held against its files, and against losses that are measured anew."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.certificates.training import certify_training, load_training
from copyreg_jax.checker.guarantee import DocumentLoss, TrainingCertificate, check_training
from copyreg_jax.errors import InputError
from copyreg_jax.lm.protection import gamma_for
from copyreg_jax.lm.records import (
    CERTIFICATE,
    MODEL,
    SUMMARY,
    Flags,
    fingerprint_model,
)

__all__ = ["Recheck", "recheck"]

_RELATIVE, _ABSOLUTE = 1e-4, 1e-5
"""Allowed differences of a document's loss: a part of it, and nats per token."""


class Recheck(NamedTuple):
    """Result of comparing a run's certificate with its model, measured again.

    Attributes
    ----------
    verdict : str
        The checker's verdict on the file alone: CERTIFIED, REFUTED, UNDECIDED or VOID.
    tau : float
        The tau that the measured losses guarantee; NaN if there is nothing to compare.
    num_documents : int
        Number of documents whose losses were compared.
    difference : float
        The largest difference of a document's loss, in nats per token; NaN if none was compared.
    problems : list of str
        Reasons against the certificate; empty if it holds.
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
        Folder of the run.
    flags : Flags
        Flags and texts of the run: the documents that the certificate has to be about.
    nll, num_tokens : (n,) arrays
        Losses and numbers of targets of these documents, as `evaluation.document_losses` gives them
        with products in float32.

    Returns
    -------
    Recheck or None
        None if the run had no protection term and has no certificate.

    Notes
    -----
    A loss may differ by 1e-4 of itself plus 1e-5 nats a token, and tau by as much as these losses
    can change it. With other batches on the same machine float32 gave differences of 1e-7 and 5e-7
    for 300 news articles and a million parameters. The rest is room for other machines and deeper
    models.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.certificates.training import save_training
    >>> flags = Flags(["x", "y"], ["a", "b"], np.array([True, False]), np.zeros(2, bool), length=8)
    >>> nll, num_tokens = np.array([450.0, 1800.0]), np.array([100, 900])
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     (folder / MODEL).mkdir()
    ...     settings = {"gamma": 2.5, "target_loss": None}
    ...     _ = (folder / SUMMARY).write_text(json.dumps({"settings": settings}))
    ...     losses = flags.training_losses(nll, num_tokens)
    ...     made = certify_training(losses, 2.5, fingerprint_model(folder / MODEL, 8))
    ...     save_training(made, folder / CERTIFICATE)
    ...     same, other = (recheck(folder, flags, nll + off, num_tokens) for off in (0.0, 9.0))
    >>> same.verdict, same.difference, same.problems
    ('CERTIFIED', 0.0, [])
    >>> other.problems[0]
    "the loss of document 'a' is 459 nats, the certificate says 450"
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
    if said.model != fingerprint_model(model, flags.length):
        problems.append(
            "the files of the model, or its rows, are not those that the certificate names"
        )
    if gamma is None or not abs(said.gamma - gamma) <= 1e-9 * gamma < math.inf:
        problems.append(f"gamma is {said.gamma:g}, that of {SUMMARY} is {gamma}")
    table = flags.training_losses(nll, num_tokens)
    differences = _compare(said, table, problems)
    tau = float("nan")
    try:
        found = certify_training(table, said.gamma)
        tau = found.tau
        share = flags.protected_share(num_tokens)
        slack = (_RELATIVE * found.loss.upper + _ABSOLUTE) / (1 - share)
        if not said.tau <= tau + slack:
            problems.append(f"the losses guarantee tau {tau:.6g}, the certificate {said.tau:.6g}")
    except InputError as error:
        problems.append(f"the measured losses do not guarantee anything: {error}")
    largest = max(differences, default=float("nan"))
    return Recheck(verdict, tau, len(differences), largest, problems)


def _compare(
    said: TrainingCertificate, table: list[DocumentLoss], problems: list[str]
) -> list[float]:
    """Return differences of losses in nats per token, and add what does not fit to problems."""
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
    """Read the gamma of the run's settings; None if they can't be read."""
    try:
        settings = json.loads((folder / SUMMARY).read_bytes())["settings"]
        target, gamma = settings["target_loss"], float(settings["gamma"])
        share = flags.protected_share(num_tokens)
        return gamma if target is None else gamma_for(float(target), share)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, InputError):
        return None
