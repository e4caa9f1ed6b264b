"""Losses of groups of documents, and how far apart two groups are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.leakage.calibration import CONFIDENCE

__all__ = [
    "HELD_OUT",
    "PROTECTED",
    "UNPROTECTED",
    "Group",
    "Tau",
    "check_group",
    "measure_group",
    "name_document",
    "tau_ce",
]

PROTECTED, UNPROTECTED, HELD_OUT = "protected", "unprotected", "held-out"

_RESAMPLES = 2000
"""Draws of the bootstrap."""

_DRAWS = 2**20
"""The most documents that the bootstrap draws at once."""


class Group(NamedTuple):
    """Losses of a group of documents.

    Attributes
    ----------
    name : str
        "protected", "unprotected" (and trained on) or "held-out".
    num_documents, num_tokens : int
        Tokens are targets: the tokens of the texts and an end-of-text after each.
    cross_entropy : float
        Mean loss over all tokens of the group, in nats.
    bits_per_byte : float
        The same sum in bits, per UTF-8 byte of the texts; comparable between tokenizers.
    """

    name: str
    num_documents: int
    num_tokens: int
    cross_entropy: float
    bits_per_byte: float


class Tau(NamedTuple):
    """A difference of cross-entropies in nats per token, and its bootstrap interval."""

    value: float
    lower: float
    upper: float


def measure_group(
    name: str,
    nll: NDArray[np.floating[Any]],
    num_tokens: NDArray[np.integer[Any]],
    num_bytes: NDArray[np.integer[Any]],
    chosen: NDArray[np.bool_],
    *,
    names: Sequence[str] | None = None,
) -> Group:
    """Cross-entropy per token and bits per byte of some of the documents.

    Parameters
    ----------
    name : str
        Name of the group.
    nll : (n,) array
        Negative log-likelihood of each document in nats, from
        `evaluation.document_losses`.
    num_tokens, num_bytes : (n,) int arrays
        Numbers of its targets and of the UTF-8 bytes of its text, `Rows.num_bytes`.
    chosen : (n,) bool array
        True for the documents of the group.
    names : sequence of str, optional
        Names of the documents for messages, which otherwise count them from 0.

    Raises
    ------
    InputError
        No document is chosen, shapes do not fit, one has no tokens or a loss that is not finite,
        or all texts are empty.

    Examples
    --------
    >>> nll, ones = np.array([math.log(2) * 6, 9.0]), np.array([True, False])
    >>> group = measure_group("protected", nll, np.array([2, 3]), np.array([4, 4]), ones)
    >>> round(group.cross_entropy, 3), round(group.bits_per_byte, 3)
    (2.079, 1.5)
    """
    nll, num_tokens = _losses(nll, num_tokens, {name: chosen}, names)
    if np.shape(num_bytes) != nll.shape:
        raise InputError(f"num_bytes has shape {np.shape(num_bytes)}; give {nll.shape}")
    total, tokens = math.fsum(nll[chosen]), int(num_tokens[chosen].sum())
    size = int(np.asarray(num_bytes)[chosen].sum())
    if size == 0:
        raise InputError(f"the {name} texts are empty; leave empty documents out")
    count = int(np.asarray(chosen).sum())
    return Group(name, count, tokens, total / tokens, total / (math.log(2) * size))


def tau_ce(
    nll: NDArray[np.floating[Any]],
    num_tokens: NDArray[np.integer[Any]],
    protected: NDArray[np.bool_],
    other: NDArray[np.bool_],
    *,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Tau:
    """tau_CE: protected cross-entropy minus that of others, with a bootstrap interval.

    Parameters
    ----------
    nll : (n,) array
        Negative log-likelihood of each document in nats.
    num_tokens : (n,) int array
    protected, other : (n,) bool arrays
        The two groups, which have no document in common.
    seed : int
        Seed of the bootstrap.
    names : sequence of str, optional
        Names of the documents, for messages.

    Returns
    -------
    Tau
        The order of the documents makes no difference to it.

    Raises
    ------
    InputError
        A group is empty, the groups overlap, shapes do not fit, or a document has no tokens or a
        loss that is not finite.

    Notes
    -----
    The interval is a 95 % percentile interval of 2,000 resamples. Whole documents are drawn within
    each group, since tokens of one document are alike. Each draw is a ratio of sums, like the
    value. The interval says how the value would vary with other documents, not with another run of
    the training. With a handful of documents it is too short; its length is zero if each group has
    only one.

    Examples
    --------
    >>> nll, tokens = np.array([6.0, 3.0, 2.0, 2.0]), np.array([2, 1, 2, 2])
    >>> tau_ce(nll, tokens, np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1], bool))
    Tau(value=2.0, lower=2.0, upper=2.0)
    """
    nll, num_tokens = _losses(nll, num_tokens, {PROTECTED: protected, "other": other}, names)
    if (protected & other).any():
        raise InputError("a document is in both groups; give groups without common documents")
    # scipy.stats.bootstrap refuses a group of one document, and can't draw losses with their counts
    # in one group without pairing them with those of the other.
    rng = np.random.default_rng(seed)
    value, difference = 0.0, np.zeros(_RESAMPLES)
    for sign, chosen in ((1.0, protected), (-1.0, other)):
        sums, counts = nll[chosen], num_tokens[chosen]
        order = np.lexsort((counts, sums))  # what is drawn does not depend on the given order
        sums, counts = sums[order], counts[order]
        value += sign * math.fsum(sums) / float(counts.sum())
        block = max(1, _DRAWS // len(sums))
        for start in range(0, _RESAMPLES, block):
            shape = (min(block, _RESAMPLES - start), len(sums))
            draws = rng.integers(0, len(sums), shape)
            difference[start : start + block] += sign * _ratios(sums, counts, draws)
    lower, upper = np.quantile(difference, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Tau(value, lower, upper)


def _ratios(
    sums: NDArray[Any], counts: NDArray[Any], draws: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Mean loss per token of each resample: a row of draws is the documents of one."""
    return sums[draws].sum(axis=1) / counts[draws].sum(axis=1)


def check_group(name: str, chosen: NDArray[np.bool_], number: int) -> None:
    """Refuse a group unless it is a mask of the documents with at least one in it."""
    found = np.asarray(chosen)
    if found.dtype != bool or found.shape != (number,):
        raise InputError(
            f"{name} is {found.dtype}{found.shape}; give a bool for each of {number} documents"
        )
    if not found.any():
        raise InputError(f"no document is {name}; give some")


def _losses(
    nll: NDArray[Any],
    num_tokens: NDArray[Any],
    groups: Mapping[str, NDArray[np.bool_]],
    names: Sequence[str] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Check the losses and numbers of tokens of the groups."""
    nll, num_tokens = np.asarray(nll, np.float64), np.asarray(num_tokens)
    if nll.ndim != 1 or num_tokens.shape != nll.shape:
        raise InputError(f"nll has shape {nll.shape}, num_tokens {num_tokens.shape}; give (n,)")
    for name, chosen in groups.items():
        check_group(name, chosen, len(nll))
        for i in np.flatnonzero(chosen & ~np.isfinite(nll)):
            raise InputError(
                f"the loss of document {name_document(int(i), names)} is {nll[i]}; train the model "
                "anew, or leave the document out"
            )
        for i in np.flatnonzero(chosen & (num_tokens < 1)):
            raise InputError(
                f"document {name_document(int(i), names)} has {num_tokens[i]} tokens; leave it out"
            )
    return nll, num_tokens.astype(np.int64)


def name_document(document: int, names: Sequence[str] | None) -> str:
    """Return a document's name, or its number if there are no names, for a message."""
    return repr(document if names is None else names[document])
