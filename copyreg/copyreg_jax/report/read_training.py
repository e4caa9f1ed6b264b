"""Reading what ``copyreg train`` wrote, for a page about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.certificates.training import load_training
from copyreg_jax.checker.guarantee import TrainingCertificate, check_training
from copyreg_jax.checker.verdicts import Verdict
from copyreg_jax.errors import InputError
from copyreg_jax.lm.curves import read_curves
from copyreg_jax.lm.records import (
    CERTIFICATE,
    DOCUMENTS,
    MODEL,
    SUMMARY,
    Outcome,
    fingerprint_model,
    load_arm,
    load_outcome,
)
from copyreg_jax.lm.run_folder import METRICS
from copyreg_jax.report.json_files import parse_json, read_json, require_fields
from copyreg_jax.report.training_page import TrainedModel

__all__ = ["read_training"]


def read_training(
    folder: Path, progress: Callable[[str], object] = lambda stage: None
) -> TrainedModel:
    """Read the folder of a finished run, and check its certificate.

    Parameters
    ----------
    folder : path
    progress : callable, optional
        Called with a description of what is being done.

    Returns
    -------
    TrainedModel

    Raises
    ------
    InputError
        The run is not finished, or one of its files is missing or damaged.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"name": "Ahab", "sha256": "", "protected": True, "held_out": False, "nll": 9.0}
    >>> settings = {"gamma": 0.0, "target_loss": None}
    >>> line = {"step": 1, "cross_entropy": 5.0, "unprotected": 4.0, "running_protected": 9.0}
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     _ = (folder / DOCUMENTS).write_text(json.dumps([row | {"num_tokens": 3}]))
    ...     run = {"settings": settings, "length": 8, "leave_out": False}
    ...     _ = (folder / SUMMARY).write_text(json.dumps(run))
    ...     _ = (folder / METRICS).write_text(json.dumps(line | {"weight": 1.0, "gamma": 0.0}))
    ...     found = read_training(folder)
    >>> found.arm, found.outcome.names, found.num_tokens.tolist(), found.checked
    ('unprotected', ('Ahab',), [3], None)
    """
    progress("reading")
    outcome = load_outcome(folder)
    rows = parse_json(folder / DOCUMENTS)
    for row in rows:
        require_fields(row, {"num_tokens": int}, folder / DOCUMENTS)
    tokens = np.array([row["num_tokens"] for row in rows], np.int64)
    if not (tokens > 0).all():
        raise InputError(f"{folder / DOCUMENTS} has documents without tokens")
    summary = read_json(folder / SUMMARY)
    require_fields(summary, {"settings": dict}, folder / SUMMARY)
    certificate, checked = None, None
    if (path := folder / CERTIFICATE).exists():
        progress("checking the certificate")
        checked = check_training(path)
        if checked.verdict is not Verdict.VOID:
            certificate = load_training(path)
            _require_same(certificate, outcome, tokens, folder)
            if certificate.model != fingerprint_model(folder / MODEL, outcome.length):
                raise InputError(f"{path} is about another model than {folder / MODEL}")
    return TrainedModel(
        str(folder), load_arm(folder), outcome, tokens, summary["settings"],
        read_curves(folder / METRICS), certificate, checked,
    )  # fmt: skip


def _require_same(
    certificate: TrainingCertificate, outcome: Outcome, tokens: NDArray[np.int64], folder: Path
) -> None:
    """Refuse a certificate of other documents than those of the run."""
    trained = np.flatnonzero(~outcome.held_out)
    here = {
        (outcome.names[k], bool(outcome.protected[k]), int(tokens[k]), float(outcome.nll[k]))
        for k in trained
    }
    if here != {tuple(document[:4]) for document in certificate.documents}:
        raise InputError(
            f"{folder / CERTIFICATE} is about other documents or losses than {folder / DOCUMENTS}"
        )
