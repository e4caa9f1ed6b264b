"""Which documents each safe model may see: one owner left out, or disjoint shards.

Documents are given by the labels of their owners; None and False are nobody. So bools, which say
protected or not, have one owner, True. Documents with one label in ``copies`` have the same
content, as near-duplicates do: whoever sees one has seen it. Nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from copyreg_jax.errors import InputError

__all__ = ["Sharding", "leave_one_out", "safe_shards", "sharded"]


class Sharding(NamedTuple):
    """Disjoint training sets, and which of them are safe for whom.

    Attributes
    ----------
    shard : (n,) int64 array
        The shard of each document.
    safe : dict
        For each owner the shards without any of their content; at least one.
    """

    shard: NDArray[np.int64]
    safe: dict[Hashable, tuple[int, ...]]


def leave_one_out(
    owners: Sequence[Any] | NDArray[Any], copies: ArrayLike | None = None
) -> dict[Hashable, NDArray[np.bool_]]:
    """For each owner, the documents that the safe model of this owner is trained on.

    Parameters
    ----------
    owners : (n,) sequence
        Labels; None or False for nobody. So bools say protected or not.
    copies : (n,) sequence of labels, optional
        Documents with one label are copies of each other.

    Returns
    -------
    dict
        A bool mask for each owner, which leaves out all that is theirs and all copies of it.

    Raises
    ------
    InputError
        There is no owner, nothing is left for a model, or lengths differ.

    Examples
    --------
    >>> leave_one_out(["Ann", "Bo", None, "Ann"], copies=[0, 1, 0, 2])
    {'Ann': array([False,  True, False, False]), 'Bo': array([ True, False,  True,  True])}
    """
    labels, clusters = _labels(owners, copies)
    masks: dict[Hashable, NDArray[np.bool_]] = {}
    for owner, theirs in _owned(labels).items():
        masks[owner] = ~np.isin(clusters, clusters[theirs])
        if not masks[owner].any():
            raise InputError(
                f"no document is left without {owner!r} and copies of theirs; the safe model needs "
                "others, or none can be trained"
            )
    return masks


def sharded(
    owners: Sequence[Any] | NDArray[Any],
    num_shards: int = 2,
    copies: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
) -> Sharding:
    """Split documents into disjoint shards, so that each owner's content is in one of them.

    Parameters
    ----------
    owners, copies
        As for `leave_one_out`.
    num_shards : int
        Number of shards, at least 2.
    sizes : (n,) array, optional
        Sizes of the documents, for instance in tokens; the shards get about equal sums. By default
        documents count alike.

    Returns
    -------
    Sharding
        Documents that are linked by an owner or by copies stay together. The largest groups come
        first, each to the shard with the least so far. The result has no chance in it.

    Raises
    ------
    InputError
        The documents fall into fewer groups than there are shards, or a size is not positive.

    Examples
    --------
    >>> sharded(["Ann", "Bo", "Ann", None]).shard
    array([0, 1, 0, 1])
    """
    labels, clusters = _labels(owners, copies)
    if isinstance(num_shards, bool) or not isinstance(num_shards, int) or num_shards < 2:
        raise InputError(f"num_shards is {num_shards!r:.40}; give a whole number of at least 2")
    weights = np.ones(len(labels)) if sizes is None else np.asarray(sizes, np.float64)
    if weights.shape != (len(labels),) or not ((weights > 0) & (weights < np.inf)).all():
        raise InputError("sizes must be one positive number for each document")
    group = _groups(labels, clusters)
    totals = np.bincount(group, weights)
    if len(totals) < num_shards:
        raise InputError(
            f"owners and copies link the documents to {len(totals)} groups that must stay "
            f"together, and {num_shards} shards need {num_shards}; m copies that are kept apart "
            "need m + 1 shards"
        )
    load, of_group = np.zeros(num_shards), np.empty(len(totals), np.int64)
    for number in np.argsort(-totals, kind="stable"):
        of_group[number] = load.argmin()
        load[of_group[number]] += totals[number]
    shard = of_group[group]
    return Sharding(shard, safe_shards(owners, shard, copies, num_shards))


def safe_shards(
    owners: Sequence[Any] | NDArray[Any],
    shard: ArrayLike,
    copies: ArrayLike | None = None,
    num_shards: int | None = None,
) -> dict[Hashable, tuple[int, ...]]:
    """For each owner, the shards of a given split that have none of their content, nor copies.

    Parameters
    ----------
    owners, copies
        As for `leave_one_out`.
    shard : (n,) array of int
        The shard of each document.
    num_shards : int, optional
        Number of shards; by default the largest of ``shard`` and one more.

    Raises
    ------
    InputError
        An owner's content is in all shards: if it is in m of them, m + 1 are needed. Or a shard is
        not below ``num_shards``.

    Examples
    --------
    >>> safe_shards(["Ann", "Bo", None], [0, 1, 2])
    {'Ann': (1, 2), 'Bo': (0, 2)}
    """
    labels, clusters = _labels(owners, copies)
    placed = np.asarray(shard)
    if placed.shape != (len(labels),) or placed.dtype.kind not in "iu" or placed.min() < 0:
        raise InputError("shard must be a whole number of at least 0 for each document")
    largest = int(placed.max())
    total = largest + 1 if num_shards is None else num_shards
    if isinstance(total, bool) or not isinstance(total, int) or total <= largest:
        raise InputError(
            f"num_shards is {num_shards!r:.40}, and a document is in shard {largest}; give a whole "
            f"number of at least {largest + 1}"
        )
    safe: dict[Hashable, tuple[int, ...]] = {}
    for owner, theirs in _owned(labels).items():
        seen = set(placed[np.isin(clusters, clusters[theirs])].tolist())
        safe[owner] = tuple(number for number in range(total) if number not in seen)
        if not safe[owner]:
            raise InputError(
                f"content of {owner!r} is in all {total} shards, so none is safe; keep copies "
                f"together, or take {total + 1} shards"
            )
    return safe


def _labels(
    owners: Sequence[Any] | NDArray[Any], copies: ArrayLike | None
) -> tuple[list[Any], NDArray[np.int64]]:
    """Owners as a list with None for nobody, and a number for each cluster of copies."""
    labels = owners.tolist() if isinstance(owners, np.ndarray) else list(owners)
    labels = [_owner(label) for label in labels]
    if all(label is None for label in labels):
        raise InputError("no document has an owner; nothing is to be kept apart")
    if copies is None:
        return labels, np.arange(len(labels))
    try:
        of_copies = np.asarray(copies)
        if of_copies.dtype.hasobject and any(label is None for label in of_copies.flat):
            raise TypeError
        clusters = np.unique(of_copies, return_inverse=True)[1]
    except (TypeError, ValueError):
        raise InputError(
            "copies must be one label for each document, all numbers or all texts, none of them "
            "None; give a label of its own to a document without copies"
        ) from None
    if clusters.shape != (len(labels),):
        raise InputError(
            f"copies has shape {clusters.shape}, and there are {len(labels)} documents"
        )
    return labels, clusters


def _owner(label: Any) -> Any:
    """None for nobody: None, False, or the NaN that a missing label is in tables."""
    if isinstance(label, bool | np.bool_):
        return bool(label) or None
    if isinstance(label, float) and np.isnan(label):
        return None
    if not isinstance(label, Hashable):
        raise InputError(f"an owner is {label!r:.40}; give texts or numbers")
    return label


def _owned(labels: list[Any]) -> dict[Hashable, list[int]]:
    """The documents of each owner, in the order of their first ones."""
    owned: dict[Hashable, list[int]] = {}
    for number, label in enumerate(labels):
        if label is not None:
            owned.setdefault(label, []).append(number)
    return owned


def _groups(labels: list[Any], clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """The connected component of each document, numbered by first documents."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(labels)
    owned = _owned(labels)
    first = np.array([n if label is None else owned[label][0] for label in labels])
    heads = np.unique(clusters, return_index=True)[1][clusters]
    links = [(i, j) for i, j in enumerate(first.tolist()) if j < n]
    rows = np.concatenate([np.arange(n), np.array([i for i, _ in links])])
    columns = np.concatenate([heads, np.array([j for _, j in links])])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)
