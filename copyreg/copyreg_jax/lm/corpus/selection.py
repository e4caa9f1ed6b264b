"""Which documents are protected, which are trained on, and which are held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.documents import Document, first_names, list_available
from copyreg_jax.lm.hashing import hash_text

__all__ = ["Split", "flag", "split"]

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Split(NamedTuple):
    """Which documents are protected and which are held out; the model trains on the rest openly.

    Attributes
    ----------
    protected : (n,) bool array
    held_out : (n,) bool array
        Unprotected documents that are never trained on.
    """

    protected: NDArray[np.bool_]
    held_out: NDArray[np.bool_]

    @property
    def open(self) -> NDArray[np.bool_]:
        """Unprotected documents of the training set; a tokenizer may see only these."""
        return ~(self.protected | self.held_out)


def flag(
    documents: Sequence[Document],
    *,
    column: str | None = None,
    names: Iterable[str] | None = None,
    source: str | None = None,
    share: float | None = None,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Choose the protected documents, in exactly one way.

    Parameters
    ----------
    documents : sequence of Document, length n
    column : str, optional
        Name of a column of true/false, yes/no or 1/0.
    names : iterable of str, optional
        Names of the documents.
    source : str, optional
        Their source.
    share : float, optional
        About this part of the documents, drawn at random: those with ``sha256(f"{seed}|{name}") /
        2^256 < share``. A document's flag does not depend on the other documents.
    seed : int
        Seed of the draw.

    Returns
    -------
    (n,) bool array

    Raises
    ------
    InputError
        No way or several ways are given, or a column, name, source or truth value is unknown.

    Examples
    --------
    >>> flag([Document("a", "A sail!", "Ann"), Document("b", "Where?", "Bob")], source="Bob")
    array([False,  True])
    """
    given = sum(way is not None for way in (column, names, source, share))
    if given != 1:
        raise InputError(f"give one of column, names, source and share; {given} are given")
    if column is not None:
        return np.array([_truth(document, column) for document in documents], bool)
    if names is not None:
        wanted = {names} if isinstance(names, str) else set(names)
        if unknown := sorted(wanted - {document.name for document in documents}):
            raise InputError(
                f"{len(unknown)} names do not belong to a document: {first_names(unknown)}"
            )
        return np.array([document.name in wanted for document in documents], bool)
    if source is not None:
        if source not in (sources := {document.source for document in documents}):
            raise InputError(
                f"no document has source {source!r}; {list_available('sources', sources)}"
            )
        return np.array([document.source == source for document in documents], bool)
    assert share is not None
    if not 0 < share < 1:
        raise InputError(f"share is {share}; give a number between 0 and 1")
    drawn = (_integer_of(f"{seed}|{document.name}") < share * 2.0**256 for document in documents)
    return np.array(list(drawn), bool)


def split(
    documents: Sequence[Document],
    protected: NDArray[np.bool_],
    clusters: NDArray[np.integer[Any]],
    held_out: float = 0.1,
    seed: int = 0,
) -> Split:
    """Split the documents; a cluster is never on two sides.

    Parameters
    ----------
    documents : sequence of Document, length n
    protected : (n,) bool array
        The choice that `flag` made. A cluster with one protected document is protected as a whole.
    clusters : (n,) int array
        Clusters that `duplicates.near_duplicates` found.
    held_out : float
        Part of the unprotected clusters that is never trained on, rounded, but at least one cluster
        unless it is 0. The clusters with the smallest hashes of seed and first name are taken.
    seed : int
        Seed of the choice.

    Returns
    -------
    Split

    Raises
    ------
    InputError
        No document is protected, too few are unprotected, lengths differ, or held_out is not in
        [0, 1).

    Examples
    --------
    >>> documents = [Document(name, "") for name in "abcd"]
    >>> parts = split(documents, np.array([1, 0, 0, 0], bool), np.array([0, 0, 1, 2]), seed=1)
    >>> parts.protected, int(parts.held_out.sum())
    (array([ True,  True, False, False]), 1)
    """
    protected, clusters = np.asarray(protected), np.asarray(clusters)
    if not protected.shape == clusters.shape == (len(documents),) or protected.dtype != bool:
        raise InputError(
            f"protected {protected.dtype}{protected.shape} and clusters {clusters.shape} do not "
            f"fit {len(documents)} documents; give a bool and an int for each"
        )
    if not 0 <= held_out < 1:
        raise InputError(f"held_out is {held_out}; give a number from 0 to below 1")
    if not protected.any():
        raise InputError("no document is protected; flag some")
    protected = np.isin(clusters, clusters[protected])
    first: dict[int, str] = {}
    for i in np.flatnonzero(~protected):
        name, cluster = documents[int(i)].name, int(clusters[i])
        first[cluster] = min(first.get(cluster, name), name)
    if len(first) < (2 if held_out else 1):
        raise InputError(
            f"{len(first)} clusters of near-duplicates are left unprotected; one is needed to "
            "train on, and one to hold out unless held_out is 0: protect fewer documents"
        )
    # Not the hash of `flag`: a larger share would then protect just those that were held out.
    order = sorted(first, key=lambda cluster: _integer_of(f"held-out|{seed}|{first[cluster]}"))
    number = min(max(1, round(held_out * len(first))), len(first) - 1) if held_out else 0
    return Split(protected, np.isin(clusters, order[:number]))


def _integer_of(key: str) -> int:
    """An integer below 2^256 that looks random."""
    return int(hash_text(key), 16)


def _truth(document: Document, column: str) -> bool:
    if column not in document.fields:
        there = list_available("columns", document.fields)
        raise InputError(f"document {document.name!r}: no column {column!r}; {there}")
    value = document.fields[column]
    try:
        return _TRUTH[value.strip().lower()]
    except KeyError:
        raise InputError(
            f"document {document.name!r}: {column} is {value!r}; write true or false"
        ) from None
