"""Whether the losses of a run tell its protected documents from those that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from flax import nnx

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.duplicates import first_of_clusters, near_duplicates
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.leakage.membership import Attack, Scores, attack_all, priv_leak, score_rows
from copyreg_jax.lm.records import Flags

__all__ = ["RunMembership", "compare_runs", "score_run"]


class RunMembership(NamedTuple):
    """How well scores tell the protected documents of a run from the held-out ones.

    Attributes
    ----------
    num_protected, num_held_out : int
        Number of documents; of held-out near-duplicates one counts.
    scores : dict from str to Attack
        By the fields of `membership.Scores`, and by "reference" with a reference.
    reference : str or None
        The model whose loss is taken off.
    priv_leak : float or None
        `membership.priv_leak` by Min-K % against the run that left the protected documents out;
        None without such a run.
    """

    num_protected: int
    num_held_out: int
    scores: dict[str, Attack]
    reference: str | None
    priv_leak: float | None


def score_run(model: nnx.Module, rows: Rows, flags: Flags) -> Scores:
    """Score the protected and the held-out documents of a run, in their order.

    Parameters
    ----------
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits; causal.
    rows : Rows
        Rows of all n documents, as in training.
    flags : Flags
        The documents.

    Returns
    -------
    Scores
        Those of m documents, m of the n being protected or held out. Scores of a model with a logit
        that is NaN are NaN.

    Raises
    ------
    InputError
        Rows and flags are not of equally many documents.

    Notes
    -----
    One forward pass for each row of these documents.

    Examples
    --------
    >>> import jax
    >>> from copyreg_jax.lm.corpus.rows import make_rows
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> class Alphabet(nnx.Module):  # after a letter the next one is likely
    ...     def __call__(self, tokens):
    ...         return 9 * jax.nn.one_hot(tokens + 1, 257)
    >>> texts = ["abcd", "a sail", "dcba"]
    >>> flags = Flags(texts, texts, np.array([1, 0, 0], bool), np.array([0, 0, 1], bool), length=8)
    >>> rows = make_rows(train_tokenizer([], vocab_size=257), texts, length=8)
    >>> score_run(Alphabet(), rows, flags).loss.round(3).tolist()
    [3.631, 9.031]
    """
    if len(rows.num_bytes) != len(flags.texts):
        raise InputError(
            f"rows are of {len(rows.num_bytes)} documents and flags of {len(flags.texts)}; give "
            "those of one run"
        )
    chosen = flags.protected | flags.held_out
    contents = [flags.texts[i].encode() for i in np.flatnonzero(chosen)]
    return score_rows(model, rows.of_documents(chosen), contents)


def compare_runs(
    scores: Mapping[str, Scores], flags: Flags, left_out: str | None, reference: str | None
) -> dict[str, RunMembership]:
    """Measure for each run how well its scores tell protected documents.

    Parameters
    ----------
    scores : mapping from names of runs to Scores
        From `score_run`.
    flags : Flags
        The documents, the same for all runs.
    left_out : str or None
        Name of the run that left the protected documents out.
    reference : str or None
        Name of the model that the reference score is by.

    Raises
    ------
    InputError
        A score is NaN, or no document is protected or none is held out.

    Notes
    -----
    Held-out documents are a sample, and near-duplicates are no two draws: of each cluster the first
    is taken. The protected documents are taken as they are.

    An AUROC of the run that left the documents out says how much the texts themselves differ. Other
    runs are to be read against it.

    Examples
    --------
    >>> scores = {name: Scores(*[np.array(loss)] * 4) for name, loss in
    ...           {"run": [1.0, 2.0, 3.0], "without": [3.0, 4.0, 2.0]}.items()}
    >>> texts = ["a white sail", "the gulls", "west wind"]
    >>> flags = Flags(texts, texts, np.array([1, 0, 0], bool), np.array([0, 1, 1], bool), length=8)
    >>> found = compare_runs(scores, flags, left_out="without", reference=None)
    >>> [(one.scores["loss"].auroc, one.priv_leak) for one in found.values()]
    [(1.0, -100.0), (0.5, 0.0)]
    """
    members = flags.protected[flags.protected | flags.held_out]
    held_out = np.flatnonzero(flags.held_out)
    clusters = near_duplicates([flags.texts[i] for i in held_out])
    others = np.zeros_like(members)
    others[np.flatnonzero(~members)[first_of_clusters(clusters)]] = True
    found: dict[str, RunMembership] = {}
    for name, own in scores.items():
        other = reference if reference != name else None
        attacks = attack_all(own, members, others, None if other is None else scores[other])
        found[name] = RunMembership(int(members.sum()), int(others.sum()), attacks, other, None)
    if left_out is None:
        return found
    retrained = found[left_out].scores["min_k"].auroc
    return {
        name: one._replace(priv_leak=priv_leak(one.scores["min_k"].auroc, retrained))
        for name, one in found.items()
    }
