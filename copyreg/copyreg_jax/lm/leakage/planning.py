"""What of an audit of runs has nothing to do with the model: texts encoded, windows chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.duplicates import first_of_clusters, near_duplicates
from copyreg_jax.lm.corpus.rows import Rows, make_rows
from copyreg_jax.lm.leakage.losses import HELD_OUT, PROTECTED, check_group
from copyreg_jax.lm.leakage.similarity import rouge_scorer
from copyreg_jax.lm.leakage.windows import Windows, choose_windows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["AuditPlan", "plan_audit"]


class AuditPlan(NamedTuple):
    """Documents that are encoded and compared once, to be measured under any number of models.

    Attributes
    ----------
    tokenizer : Tokenizer
    protected, held_out : (n,) bool arrays
    names : sequence of n str, or None
    rows : Rows
        Rows of all documents, for the losses.
    windows : dict of Windows
        Of ``"protected"`` and ``"held-out"`` documents.
    distinct : (k,) int64 array
        The held-out windows that are left if one of each cluster of near-duplicates is taken.
    prefix, suffix : int
    top_k : int or None
    seed : int
    """

    tokenizer: Tokenizer
    protected: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    names: Sequence[str] | None
    rows: Rows
    windows: Mapping[str, Windows]
    distinct: NDArray[np.int64]
    prefix: int
    suffix: int
    top_k: int | None
    seed: int


def plan_audit(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    protected: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
    *,
    rows_length: int,
    prefix: int = 50,
    suffix: int = 50,
    max_windows: int = 256,
    top_k: int | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> AuditPlan:
    """Encode documents and choose windows of them, for `report.audit` of any number of models.

    Parameters
    ----------
    tokenizer : Tokenizer
        The tokenizer that the models were trained with.
    texts : sequence of str, length n
    protected, held_out : (n,) bool arrays
        The groups of a `selection.Split`; the rest is unprotected and was trained on.
    rows_length : int
        Number of targets of a row for the losses, as in training.
    prefix, suffix, max_windows, top_k : int, optional
        See `choose_windows` and `extract`; max_windows holds for each group.
    seed : int
        Seed of the bootstrap and of the choice of windows.
    names : sequence of str, length n, optional
        Names of the documents for messages, which otherwise count them from 0.

    Returns
    -------
    AuditPlan

    Raises
    ------
    InputError
        A group is empty or has no document that is long enough, groups overlap, sizes are out of
        range, or rouge-score is not installed.

    Notes
    -----
    Each text is encoded once, and the texts of the held-out windows are searched for
    near-duplicates once: all of the work of an audit that has nothing to do with the model.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> texts = ["a white sail", "the gulls", "west wind"]
    >>> plan = plan_audit(
    ...     train_tokenizer([], vocab_size=257), texts, np.array([1, 0, 0], bool),
    ...     np.array([0, 0, 1], bool), rows_length=8, prefix=4, suffix=4,
    ... )
    >>> plan.rows.tokens.shape, plan.windows["protected"].tokens.shape, plan.distinct.tolist()
    ((6, 9), (1, 8), [0])
    """
    for name, chosen in ((PROTECTED, protected), (HELD_OUT, held_out)):
        check_group(name, chosen, len(texts))
    if (protected & held_out).any():
        raise InputError("a document is protected and held out; give groups that do not overlap")
    if names is not None and len(names) != len(texts):
        raise InputError(f"there are {len(names)} names for {len(texts)} texts; give one for each")
    rouge_scorer()  # before the losses, which take a while
    rows = make_rows(tokenizer, texts, rows_length)
    windows = {
        name: choose_windows(
            rows, texts, chosen, prefix=prefix, suffix=suffix, max_windows=max_windows,
            seed=seed, name=name,
        )
        for name, chosen in ((PROTECTED, protected), (HELD_OUT, held_out))
    }  # fmt: skip
    clusters = near_duplicates([texts[i] for i in windows[HELD_OUT].document.tolist()])
    distinct = first_of_clusters(clusters)  # whatever a model makes of it
    return AuditPlan(
        tokenizer, protected, held_out, names, rows, windows, distinct, prefix, suffix, top_k, seed
    )
