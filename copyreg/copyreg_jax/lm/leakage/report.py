"""What a trained model gives away, from its plain losses and from the text that it writes.

Nothing here knows gamma: a reported loss is a cross-entropy without the protection term. Every
number on protected text stands beside the same number on held-out text, which is what a model of
this kind knows without memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax._files import jsonable
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.duplicates import near_duplicates
from copyreg_jax.lm.corpus.rows import make_rows
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
    check_group,
    measure_group,
    tau_ce,
)
from copyreg_jax.lm.leakage.sampling import PROBABILITY, SAMPLES
from copyreg_jax.lm.leakage.similarity import rouge_scorer
from copyreg_jax.lm.leakage.windows import check_fit, choose_windows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["GapClosed", "Report", "audit", "check_comparable", "gap_closed"]


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


def audit(
    model: nnx.Module,
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
) -> Report:
    """Measure losses of the three groups, their differences, and extraction of protected text.

    Parameters
    ----------
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits; causal.
    tokenizer : Tokenizer
        The tokenizer that the model was trained with.
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
    Report

    Raises
    ------
    InputError
        A group is empty or has no document that is long enough, sizes are out of range or above
        the model's context, the tokenizer is of another model, a loss is not finite, or
        rouge-score is not installed.

    Examples
    --------
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=2)
    >>> texts = ["a white sail", "the gulls", "west wind"]
    >>> report = audit(
    ...     GPT2(config), train_tokenizer([], vocab_size=257), texts, np.array([1, 0, 0], bool),
    ...     np.array([0, 0, 1], bool), rows_length=8, prefix=4, suffix=4,
    ... )
    >>> report.protected.num_tokens, report.extraction.summary().exact
    (13, 0.0)
    """
    for name, chosen in ((PROTECTED, protected), (HELD_OUT, held_out)):
        check_group(name, chosen, len(texts))
    if (protected & held_out).any():
        raise InputError("a document is protected and held out; give groups that do not overlap")
    if names is not None and len(names) != len(texts):
        raise InputError(f"there are {len(names)} names for {len(texts)} texts; give one for each")
    rouge_scorer()  # before the losses, which take a while
    check_fit(model, tokenizer, prefix, suffix, rows_length)
    rows = make_rows(tokenizer, texts, rows_length)
    windows = {
        name: choose_windows(
            rows, texts, chosen, prefix=prefix, suffix=suffix, max_windows=max_windows,
            seed=seed, name=name,
        )
        for name, chosen in ((PROTECTED, protected), (HELD_OUT, held_out))
    }  # fmt: skip
    nll, num_tokens = document_losses(model, rows, len(texts))
    unprotected = ~(protected | held_out)

    def group(name: str, chosen: NDArray[np.bool_]) -> Group:
        return measure_group(name, nll, num_tokens, rows.num_bytes, chosen, names=names)

    def tau(other: NDArray[np.bool_]) -> Tau:
        return tau_ce(nll, num_tokens, protected, other, seed=seed, names=names)

    def extraction(name: str) -> Extraction:
        return extract(model, tokenizer, windows[name], prefix=prefix, top_k=top_k, names=names)

    tokens = hash_arrays(part.tokens for part in windows.values())
    of_protected, of_held_out = extraction(PROTECTED), extraction(HELD_OUT)
    # Near-duplicates are no two draws: one of each cluster, whatever the model makes of it.
    clusters = near_duplicates([texts[i] for i in windows[HELD_OUT].document.tolist()])
    held = of_held_out.log_p_all[np.unique(clusters, return_index=True)[1]]
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
        suffix=suffix,
        top_k=top_k,
        windows=hash_text(f"{prefix} {suffix} {top_k} {tokens}"),
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
