"""What a run leaves in its folder for an audit, and who its documents are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.checker.guarantee import DocumentLoss
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.documents import Document
from copyreg_jax.lm.hashing import hash_files, hash_text

__all__ = [
    "CERTIFICATE",
    "DOCUMENTS",
    "MODEL",
    "SUMMARY",
    "Flags",
    "fingerprint_model",
    "load_flags",
]

MODEL, DOCUMENTS, CERTIFICATE, SUMMARY = "model", "documents.json", "guarantee.json", "run.json"


class Flags(NamedTuple):
    """The documents of a run: which are protected, and which held out.

    Attributes
    ----------
    texts, names : list of str
    protected, held_out : (n,) bool arrays
    length : int
        Number of targets of a row.
    """

    texts: list[str]
    names: list[str]
    protected: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    length: int

    def difference(self, other: Flags) -> str:
        """Say why the two can't be measured together; empty if they can."""
        same = self.names == other.names and bool(
            np.array_equal(self.protected, other.protected)
            and np.array_equal(self.held_out, other.held_out)
        )
        if not same:
            return "protects or holds out other documents"
        return "" if self.length == other.length else f"has rows of {other.length} targets"

    def protected_share(self, num_tokens: NDArray[np.int64]) -> float:
        """Part of the tokens of the training set that is protected."""
        return float(num_tokens[self.protected].sum() / num_tokens[~self.held_out].sum())

    def training_losses(
        self, nll: NDArray[np.float64], num_tokens: NDArray[np.int64]
    ) -> list[DocumentLoss]:
        """Losses of the documents of the training set, which a certificate is made of."""
        return [
            DocumentLoss(name, bool(protected), int(count), float(loss), hash_text(text))
            for name, text, protected, held_out, count, loss in zip(
                self.names, self.texts, self.protected, self.held_out, num_tokens, nll, strict=True
            )
            if not held_out
        ]


def load_flags(folder: str | Path, documents: list[Document]) -> Flags:
    """Load the flags of a run, and join them with the texts that it was given.

    Parameters
    ----------
    folder : path
        Folder of the run.
    documents : list of documents.Document
        The documents, read anew; a run keeps only hashes of their texts.

    Raises
    ------
    InputError
        The folder does not hold a finished run, or a text is missing or has changed.
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


def fingerprint_model(model: Path, length: int) -> str:
    """Name what losses depend on beside the texts: every file of the model, and the rows."""
    return f"sha256:{hash_files(model)}, rows of {length} targets"
