"""What a trained model gives away, from its plain losses and from the text that it writes.

Nothing here knows gamma: a reported loss is a cross-entropy without the protection term. Every
number on protected text stands beside the same number on held-out text, which is what a model of
this kind knows without memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax._files import jsonable
from copyreg_jax.errors import InputError
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.hashing import hash_arrays, hash_text
from copyreg_jax.lm.leakage.calibration import Calibration, calibrate
from copyreg_jax.lm.leakage.extraction import Extraction, extract
from copyreg_jax.lm.leakage.losses import (
    HELD_OUT,
    PROTECTED,
    UNPROTECTED,
    Group,
    Tau,
    measure_group,
    tau_ce,
)
from copyreg_jax.lm.leakage.planning import AuditPlan
from copyreg_jax.lm.leakage.sampling import PROBABILITY, SAMPLES
from copyreg_jax.lm.leakage.windows import check_fit

__all__ = [
    "GapClosed",
    "Report",
    "audit",
    "check_comparable",
    "gap_closed",
]


class Report(NamedTuple):
    """Result of `audit`.

    Attributes
    ----------
    protected, unprotected, held_out : Group
    tau : Tau
        Protected loss minus that of the unprotected documents that were trained on.
    tau_held_out : Tau
        Protected loss minus held-out loss: below 0 the model knows more of the protected texts
        than of texts it never saw, if both are alike.
    extraction, extraction_held_out : Extraction
        Extraction of protected text, and of held-out text as the baseline.
    memorized : Calibration
        How many protected windows are likelier than the held-out ones. Each is of another document;
        of held-out near-duplicates the first is taken.
    prefix, suffix : int
        Lengths of prefix and suffix in tokens.
    top_k : int or None
        Number of likeliest tokens that samples are drawn from; None for all tokens.
    windows : str
        Hash of the chosen windows. Only reports with the same hash can be compared.
    nll : (n,) float64 array
        Loss of each document in nats.
    num_tokens : (n,) int64 array
        Number of its targets.
    """

    protected: Group
    unprotected: Group
    held_out: Group
    tau: Tau
    tau_held_out: Tau
    extraction: Extraction
    extraction_held_out: Extraction
    memorized: Calibration
    prefix: int
    suffix: int
    top_k: int | None
    windows: str
    nll: NDArray[np.float64]
    num_tokens: NDArray[np.int64]

    def as_json(self) -> dict[str, Any]:
        """Return all but single windows and documents, with numbers that are finite or None.

        The result has no text and no tokens of a document.
        """
        groups = (self.protected, self.unprotected, self.held_out)
        taus = {UNPROTECTED: self.tau, HELD_OUT: self.tau_held_out}
        parts = {PROTECTED: self.extraction, HELD_OUT: self.extraction_held_out}
        return {
            "groups": {group.name: jsonable(group) for group in groups},
            "tau": {against: jsonable(tau) for against, tau in taus.items()},
            "extraction": {name: jsonable(part.summary()) for name, part in parts.items()},
            "memorized": jsonable(self.memorized),
            "prefix": self.prefix,
            "suffix": self.suffix,
            "top_k": self.top_k,
            "samples": SAMPLES,
            "probability": PROBABILITY,
            "windows": self.windows,
        }


def audit(model: nnx.Module, plan: AuditPlan) -> Report:
    """Measure losses of the three groups, their differences, and extraction of protected text.

    Parameters
    ----------
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits; causal.
    plan : AuditPlan
        From `plan_audit`, with the tokenizer that the model was trained with. It serves for several
        models.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        Sizes are above the model's context, the tokenizer is of another model, or a loss or a logit
        is not finite.

    Notes
    -----
    One forward pass for each row and each window, and ``suffix`` tokens written after each prefix.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> from copyreg_jax.lm.leakage.planning import plan_audit
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=2)
    >>> plan = plan_audit(
    ...     train_tokenizer([], vocab_size=257), ["a white sail", "the gulls", "west wind"],
    ...     np.array([1, 0, 0], bool), np.array([0, 0, 1], bool), rows_length=8, prefix=4, suffix=4,
    ... )
    >>> audit(GPT2(config), plan).protected.num_tokens
    13
    """
    rows, names, prefix, top_k = plan.rows, plan.names, plan.prefix, plan.top_k
    protected, held_out = plan.protected, plan.held_out
    check_fit(model, plan.tokenizer, prefix, plan.suffix, rows.mask.shape[1])
    nll, num_tokens = document_losses(model, rows, len(protected))
    unprotected = ~(protected | held_out)

    def group(name: str, chosen: NDArray[np.bool_]) -> Group:
        return measure_group(name, nll, num_tokens, rows.num_bytes, chosen, names=names)

    def tau(other: NDArray[np.bool_]) -> Tau:
        return tau_ce(nll, num_tokens, protected, other, seed=plan.seed, names=names)

    def extraction(name: str) -> Extraction:
        windows = plan.windows[name]
        return extract(model, plan.tokenizer, windows, prefix=prefix, top_k=top_k, names=names)

    tokens = hash_arrays(part.tokens for part in plan.windows.values())
    of_protected, of_held_out = extraction(PROTECTED), extraction(HELD_OUT)
    held = of_held_out.log_p_all[plan.distinct]
    return Report(
        protected=group(PROTECTED, protected),
        unprotected=group(UNPROTECTED, unprotected),
        held_out=group(HELD_OUT, held_out),
        tau=tau(unprotected),
        tau_held_out=tau(held_out),
        extraction=of_protected,
        extraction_held_out=of_held_out,
        memorized=calibrate(of_protected.log_p_all, held, list(held[:, None])),
        prefix=prefix,
        suffix=plan.suffix,
        top_k=top_k,
        windows=hash_text(f"{prefix} {plan.suffix} {top_k} {tokens}"),
        nll=nll,
        num_tokens=num_tokens,
    )


class GapClosed(NamedTuple):
    """Share of the copying gap that a run closes: 0 like the unprotected run, 1 like leaving out.

    Each is ``(m_0 - m) / (m_0 - m_without)`` for a measure m of protected text, NaN where the
    unprotected run has no larger one than the run without these texts. It may be beyond 0 and 1.

    Attributes
    ----------
    substring : float
        By the mean of the longest common substring, in characters.
    matched : float
        By the mean number of right tokens in a row.
    exact : float
        By the share of suffixes found.
    nats : float
        By the mean loss in nats per token, with the other sign.
    """

    substring: float
    matched: float
    exact: float
    nats: float


def gap_closed(run: Report, unprotected: Report, without: Report) -> GapClosed:
    """Compare a run with one without protection, and with one that never saw the protected text.

    Parameters
    ----------
    run, unprotected, without : Report
        Reports of the same documents and windows, see `check_comparable`.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> from copyreg_jax.lm.leakage.planning import plan_audit
    >>> class Alphabet(nnx.Module):  # after a letter it expects the next one
    ...     def __init__(self, strength):
    ...         self.strength = nnx.Param(jnp.float32(strength))
    ...     def __call__(self, tokens):
    ...         return self.strength * jax.nn.one_hot(tokens + 1, 257)
    ...     def empty_cache(self, batch, room):
    ...         return ()
    ...     def extend(self, tokens, cache):
    ...         return self(tokens)[:, -1], cache
    >>> plan = plan_audit(
    ...     train_tokenizer([], vocab_size=257), ["abcdefgh", "the gulls", "west wind"],
    ...     np.array([1, 0, 0], bool), np.array([0, 0, 1], bool), rows_length=8, prefix=4, suffix=4,
    ... )
    >>> run, unprotected, without = (audit(Alphabet(s), plan) for s in (3.0, 6.0, 0.0))
    >>> found = gap_closed(run, unprotected, without)
    >>> found.exact, round(found.nats, 2)
    (0.0, 0.39)
    """
    measures = []
    for report in (run, unprotected, without):
        found = report.extraction.summary()
        loss = report.protected.cross_entropy
        measures.append([found.mean_substring, found.mean_matched, found.exact, -loss])
    own, most, least = np.array(measures)
    gap = most - least
    return GapClosed(*np.where(gap > 0, (most - own) / np.where(gap > 0, gap, 1), np.nan).tolist())


def check_comparable(reports: Mapping[str, Report]) -> None:
    """Refuse to compare models that were measured on different text.

    Parameters
    ----------
    reports : mapping from names of models to Report

    Raises
    ------
    InputError
        The models were measured on different windows or documents.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> from copyreg_jax.lm.leakage.planning import plan_audit
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=2)
    >>> plan = plan_audit(
    ...     train_tokenizer([], vocab_size=257), ["a white sail", "the gulls", "west wind"],
    ...     np.array([1, 0, 0], bool), np.array([0, 0, 1], bool), rows_length=8, prefix=4, suffix=4,
    ... )
    >>> report = audit(GPT2(config), plan)
    >>> check_comparable({"a": report, "b": report})
    >>> check_comparable({"a": report, "b": report._replace(windows="")})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    copyreg_jax.errors.InputError: the models 'a' and 'b' were measured on different ...
    """
    names = list(reports)
    for name in names[1:]:
        if _measured(reports[name]) != _measured(reports[names[0]]):
            raise InputError(
                f"the models {names[0]!r} and {name!r} were measured on different documents or "
                "windows; audit both with the same texts, groups, tokenizer, sizes and seed"
            )


def _measured(report: Report) -> tuple[Any, ...]:
    groups = (report.protected, report.unprotected, report.held_out)
    return report.windows, *((group.num_documents, group.num_tokens) for group in groups)
