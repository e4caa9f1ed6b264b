"""``copyreg nearest``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress

from copyreg_jax.cli.common import AsJson, errors, to_json
from copyreg_jax.errors import InputError, WindowWarning

__all__ = ["nearest"]


def nearest(
    train: Annotated[Path, typer.Argument(help="Table of texts with labels: .csv or .jsonl.")],
    test: Annotated[
        Path, typer.Argument(help="Table of texts to label. With labels, accuracy is printed too.")
    ],
    text_column: Annotated[str, typer.Option(help="Column of the texts in both tables.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the labels.")] = "label",
    k: Annotated[int, typer.Option("--k", help="Number of nearest texts that vote.")] = 1,
    compressor: Annotated[
        Literal["gzip", "zstd", "xz"],
        typer.Option(help="Compressor behind the distance of two texts."),
    ] = "gzip",
    as_json: AsJson = False,
) -> None:
    """Label texts like the texts that are nearest to them, by how well they compress together.

    If two texts are equally distant, the earlier is nearer. If several labels have the most votes,
    the one with the nearest text is given. Standard error says how many labels such a rule decided.
    It also says how many pairs of texts are longer than the compressor looks back.

    Exit codes: 0 done, 2 bad input.
    """
    from copyreg_jax.neighbours.nearest import classify

    train_texts, known = _read(train, text_column, label_column, labeled=True)
    test_texts, truth = _read(test, text_column, label_column, labeled=False)
    with (
        Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar,
        warnings.catch_warnings(record=True) as notes,
    ):
        warnings.simplefilter("always", WindowWarning)
        task = bar.add_task("comparing", total=len(test_texts))
        found = classify(
            train_texts,
            known,
            test_texts,
            k,
            compressor,
            progress=lambda done: bar.update(task, completed=done),
        )
    for note in notes:
        errors.print(f"copyreg: note: {note.message}", markup=False, soft_wrap=True)
    ties = sum(len(labels) > 1 for labels in found.candidates)
    if ties:
        errors.print(f"copyreg: note: {ties} of {len(test_texts)} labels were tied", soft_wrap=True)
    accuracy = None
    if truth:
        pairs = zip(found.labels, truth, strict=True)
        accuracy = sum(label == right for label, right in pairs) / len(truth)
    if as_json:
        print(to_json({"accuracy": accuracy, "labels": found.labels}))
        return
    for label in found.labels:
        print(label)
    if accuracy is not None:
        errors.print(f"accuracy {accuracy:.4f}")


def _read(path: Path, text: str, label: str, *, labeled: bool) -> tuple[list[str], list[str]]:
    """Read texts and their labels, of which there are none if that column is missing or blank."""
    from copyreg_jax.lm.corpus.documents import list_available
    from copyreg_jax.lm.corpus.loading import load_documents

    documents, num_empty = load_documents(path, text=text)
    if num_empty:
        rows = {document.name for document in documents}
        row = next(str(row) for row in range(1, len(rows) + 2) if str(row) not in rows)
        raise InputError(f"{path}, row {row}: column {text!r} is empty; leave the row out")
    texts = [document.text for document in documents]
    labels = [document.fields.get(label, "") for document in documents]
    if not labeled and not any(labels):
        return texts, []
    if label not in documents[0].fields:
        available = list_available("columns", documents[0].fields)
        raise InputError(f"{path}: no column {label!r} beside {text!r}; {available}")
    for document, found in zip(documents, labels, strict=True):
        if not found.isprintable():
            raise InputError(
                f"{path}, row {document.name}: label {found!r:.40} is not one line of print"
            )
    if "" in labels:
        row = documents[labels.index("")].name
        raise InputError(f"{path}, row {row}: column {label!r} is empty; each row needs a label")
    return texts, labels
