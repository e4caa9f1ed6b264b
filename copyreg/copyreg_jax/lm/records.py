"""What a run leaves in its folder for an audit, and who its documents are."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax._files import unreadable
from copyreg_jax.checker.guarantee import DocumentLoss
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.canaries import Canaries
from copyreg_jax.lm.corpus.documents import Document
from copyreg_jax.lm.hashing import hash_files, hash_text

__all__ = [
    "CERTIFICATE",
    "DOCUMENTS",
    "MODEL",
    "SUMMARY",
    "Flags",
    "Outcome",
    "check_folder",
    "fingerprint_model",
    "is_left_out",
    "load_arm",
    "load_flags",
    "load_outcome",
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
    canaries : Canaries or None
        What canaries are among them, if any are.
    """

    texts: list[str]
    names: list[str]
    protected: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    length: int
    canaries: Canaries | None = None

    @property
    def canary(self) -> NDArray[np.bool_]:
        """Whether each document is a canary; shape (n,)."""
        own = [] if self.canaries is None else [one.name for one in self.canaries.documents]
        return np.isin(self.names, own)

    @property
    def real(self) -> Flags:
        """The documents that are no canaries."""
        chosen = ~self.canary
        return Flags(
            [self.texts[i] for i in np.flatnonzero(chosen)],
            [self.names[i] for i in np.flatnonzero(chosen)],
            self.protected[chosen], self.held_out[chosen], self.length,
        )  # fmt: skip

    def with_canaries(self, values: NDArray[Any], of_canaries: NDArray[Any]) -> NDArray[Any]:
        """Join values of the real documents and of the canaries as the documents are ordered."""
        assert self.canaries is not None
        own = dict(zip(self.canaries.texts, of_canaries, strict=True))
        found = np.empty(len(self.names), values.dtype)
        found[~self.canary] = values
        found[self.canary] = [own[self.texts[i]] for i in np.flatnonzero(self.canary)]
        return found

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


def check_folder(folder: str | Path) -> None:
    """Find out before the work, not after it, whether a run can be written there.

    Raises
    ------
    InputError
        The folder can't be made or written to, or something is in the way of a file of the run.
    """
    folder = Path(folder)
    for path in (folder, folder / MODEL):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is in the way: it is not a folder; delete it or name another")
    for path in (folder / DOCUMENTS, folder / SUMMARY, folder / CERTIFICATE):
        if path.is_dir():
            raise InputError(f"{path} is in the way: it is a folder; delete it or name another")
    for path in (folder if folder.exists() else folder.absolute().parent, folder / MODEL):
        try:
            if path != folder / MODEL or path.exists():
                tempfile.TemporaryFile(dir=path).close()
        except (OSError, ValueError) as error:  # ValueError: a path with a null byte
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"can't make {folder}, or write to it: {reason}") from None


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

    Examples
    --------
    >>> row = {"name": "Ahab", "sha256": hash_text("a white whale"), "protected": True, "nll": 9.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / DOCUMENTS).write_text(json.dumps([row | {"held_out": False}]))
    ...     _ = (Path(folder) / SUMMARY).write_text(json.dumps({"length": 8, "leave_out": False}))
    ...     flags = load_flags(folder, [Document("Ahab", "a white whale")])
    >>> flags.texts, flags.protected.tolist(), flags.length
    (['a white whale'], [True], 8)
    """
    found = load_outcome(folder)
    if found.canaries is not None:
        documents = [*documents, *found.canaries.documents]
    texts = {document.name: document.text for document in documents}
    for name, digest in zip(found.names, found.hashes, strict=True):
        if name not in texts:
            raise InputError(
                f"document {name!r} of {folder} is not among the texts given; give the text that "
                "it was trained on, with the same --name-column if it had one"
            )
        if hash_text(texts[name]) != digest:
            raise InputError(f"document {name!r} has another text than when {folder} was trained")
    names = list(found.names)
    return Flags(
        [texts[name] for name in names], names, found.protected, found.held_out, found.length,
        found.canaries,
    )  # fmt: skip


class Outcome(NamedTuple):
    """What a finished run knows of its documents, without their texts.

    Attributes
    ----------
    names, hashes : tuples of str
        Names of the documents, and the SHA-256 of their texts.
    protected, held_out : (n,) bool arrays
    nll : (n,) array
        Negative log-likelihood of each document under the trained model, in nats.
    length : int
        Number of targets of a row.
    leave_out : bool
        Whether the protected documents were left out of training.
    canaries : Canaries or None
        What canaries are among the documents, if any are.
    """

    names: tuple[str, ...]
    hashes: tuple[str, ...]
    protected: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    nll: NDArray[np.float64]
    length: int
    leave_out: bool
    canaries: Canaries | None


def load_outcome(folder: str | Path) -> Outcome:
    """Load what a finished run has measured of its documents.

    Parameters
    ----------
    folder : path
        Folder of the run.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        The folder does not hold a finished run, a document is there twice, or one is protected and
        held out.

    Examples
    --------
    >>> row = {"name": "Ahab", "sha256": hash_text("a white whale"), "protected": True, "nll": 9.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / DOCUMENTS).write_text(json.dumps([row | {"held_out": False}]))
    ...     _ = (Path(folder) / SUMMARY).write_text(json.dumps({"length": 8, "leave_out": False}))
    ...     found = load_outcome(folder)
    >>> found.names, found.nll.tolist(), found.leave_out
    (('Ahab',), [9.0], False)
    """
    folder = Path(folder)
    try:
        table = json.loads((folder / DOCUMENTS).read_bytes())
        summary = json.loads((folder / SUMMARY).read_bytes())
        kinds = {"name": str, "sha256": str, "protected": bool, "held_out": bool, "nll": float}
        columns = {key: tuple(row[key] for row in table) for key in kinds}
        sound = len(table) > 0 and all(
            type(v) is kind for key, kind in kinds.items() for v in columns[key]
        )
        length, leave_out = summary["length"], summary["leave_out"]
        if not sound or type(length) is not int or length < 1 or type(leave_out) is not bool:
            raise ValueError("its files have been changed")
        for row in table:
            row["name"].encode()  # ValueError: half of a surrogate pair
            if row["protected"] and row["held_out"]:
                raise ValueError(f"{row['name']!r} is protected and held out")
        said = summary.get("canaries")
        if said is not None and any(type(value) is not int for value in said.values()):
            raise ValueError("its canaries have been changed")
        canaries = None if said is None else Canaries(**said)
        nll = np.array(columns["nll"])
        if not (np.isfinite(nll) & (nll >= 0)).all():
            raise ValueError(f"{DOCUMENTS} has losses that are no numbers >= 0")
    except KeyError as error:
        raise InputError(f"{folder} is not the folder of a finished run: no {error}") from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _not_a_run(folder, error) from None
    if len(set(columns["name"])) < len(table):
        raise InputError(f"{folder / DOCUMENTS} has a document twice")
    protected, held_out = (np.array(columns[key], bool) for key in ("protected", "held_out"))
    return Outcome(
        columns["name"], columns["sha256"], protected, held_out, nll, length, leave_out, canaries
    )


def is_left_out(folder: str | Path) -> bool:
    """Tell whether this is a run that left its protected texts out; a model alone is none.

    Raises
    ------
    InputError
        The summary of the run is damaged.
    """
    return (Path(folder) / SUMMARY).exists() and load_arm(folder) == "left out"


def load_arm(folder: str | Path) -> str:
    """Tell what a finished run does with its protected texts.

    Returns
    -------
    str
        "protected", "unprotected" (trained on as the others) or "left out".

    Raises
    ------
    InputError
        The folder does not hold a finished run.
    """
    try:
        summary = json.loads((Path(folder) / SUMMARY).read_bytes())
        settings = summary["settings"]
        if summary["leave_out"]:
            return "left out"
        free = settings["gamma"] == 0 and settings["target_loss"] is None
        return "unprotected" if free else "protected"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _not_a_run(folder, error) from None


def _not_a_run(folder: str | Path, error: Exception) -> InputError:
    is_missing = isinstance(error, OSError)
    reason = unreadable(getattr(error, "filename", folder), error) if is_missing else error
    return InputError(f"{folder} is not the folder of a finished run: {reason}")


def fingerprint_model(model: Path, length: int) -> str:
    """Name what losses depend on beside the texts: every file of the model, and the rows."""
    return f"sha256:{hash_files(model)}, rows of {length} targets"
