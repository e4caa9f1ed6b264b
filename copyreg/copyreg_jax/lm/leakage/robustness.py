"""How much copying comes back if a model is trained again on other text, or quantized.

R and Q are the scores with which OpenUnlearning (arXiv:2506.12618) judges measures of forgetting;
here they judge a model. Both are 1 at best. What would divide by zero is NaN, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax._files import jsonable
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.leakage.losses import HELD_OUT, PROTECTED
from copyreg_jax.lm.leakage.relearning import Relearning, relearn
from copyreg_jax.lm.leakage.report import Report
from copyreg_jax.lm.models.hugging_face import LanguageModel
from copyreg_jax.lm.models.quantization import quantize

__all__ = [
    "EXTRACTED",
    "Changed",
    "Measures",
    "Scores",
    "change",
    "harmonic_mean",
    "measure",
    "quantization_score",
    "relearning_score",
    "score",
]

EXTRACTED = 0.001
"""A suffix counts as extracted if a sample is the suffix with this probability."""


class Measures(NamedTuple):
    """What a model makes of a group's text, or a score for each of these measures.

    Attributes
    ----------
    nats : float
        Mean loss of the documents in nats per token.
    suffix_nats : float
        Mean over the windows of ``-log p_z``, p_z the probability that a sample after the prefix is
        the suffix, at temperature 1 and with all tokens.
    extracted : float
        Share of the windows whose suffix a sample gives with probability 0.001 or more, among the
        top_k likeliest tokens if that was asked for.
    greedy : float
        Share of the windows whose greedy continuation is the suffix.

    Less copying is a larger one of the first two, and a smaller one of the others.
    """

    nats: float
    suffix_nats: float
    extracted: float
    greedy: float


_SHARES = np.array([False, False, True, True])
"""True for the measures that grow with copying."""


class Changed(NamedTuple):
    """What a model makes of protected and held-out text, before and after changes.

    Attributes
    ----------
    before : dict of Measures
        By group: ``"protected"`` and ``"held-out"``.
    relearned : dict of dicts of Measures
        The same after training again, by the text that was trained on; see `Relearning`. Held-out
        text is no longer unseen if it was trained on.
    quantized : dict of Measures or None
    """

    before: dict[str, Measures]
    relearned: dict[str, dict[str, Measures]]
    quantized: dict[str, Measures] | None


class Scores(NamedTuple):
    """How robust a model's protection is, measure by measure.

    Attributes
    ----------
    relearning : dict of Measures
        R by the text that was trained on; NaN without a run that left the protected text out.
    quantization : Measures or None
        Q.
    both : dict of Measures
        Harmonic mean of R and Q, by that text; empty without both.
    """

    relearning: dict[str, Measures]
    quantization: Measures | None
    both: dict[str, Measures]

    def as_json(self) -> dict[str, Any]:
        """Return the scores under the names R, Q and harmonic_mean; None is undefined."""
        named = {"R": self.relearning, "Q": self.quantization, "harmonic_mean": self.both}
        content: dict[str, Any] = jsonable(named)
        return content


def measure(report: Report) -> dict[str, Measures]:
    """Take the measures of protected and held-out text out of a report."""
    groups = {
        PROTECTED: (report.protected, report.extraction),
        HELD_OUT: (report.held_out, report.extraction_held_out),
    }
    return {
        name: Measures(
            nats=group.cross_entropy,
            suffix_nats=-float(found.log_p_all.mean()),
            extracted=float((found.log_p >= math.log(EXTRACTED)).mean()),
            greedy=float(found.exact.mean()),
        )
        for name, (group, found) in groups.items()
    }


def change(
    model: LanguageModel,
    rows: Rows,
    before: Report,
    audit: Callable[[LanguageModel], Report],
    *,
    relearning: Relearning | None = None,
    bits: int | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Changed:
    """Train a model again, quantize it, and measure what it makes of the same windows.

    Parameters
    ----------
    model : GPT2 or Llama
        It is not changed; nothing is written.
    rows : Rows
        Rows of all documents, to train on.
    before : Report
        The report of the model.
    audit : callable
        Returns the report of a changed model, for the same documents and windows.
    relearning : Relearning, optional
        By default nothing is trained.
    bits : int, optional
        8 or 4; by default nothing is quantized.
    progress : callable, optional
        Called with a description of what is being done.

    Raises
    ------
    InputError, TrainingError
        See `relearning.relearn` and `quantization.quantize`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> from copyreg_jax.lm.leakage.planning import plan_audit
    >>> from copyreg_jax.lm.leakage.report import audit
    >>> class Bigram(nnx.Module):  # after a letter it expects the next one
    ...     def __init__(self):
    ...         self.weight = nnx.Param(0.3 + 5.7 * jnp.eye(257, k=1))
    ...     def __call__(self, tokens):
    ...         return self.weight[...][tokens]
    ...     def empty_cache(self, batch, room):
    ...         return ()
    ...     def extend(self, tokens, cache):
    ...         return self(tokens)[:, -1], cache
    >>> plan = plan_audit(
    ...     train_tokenizer([], vocab_size=257), ["abcdefgh", "the gulls", "west wind"],
    ...     np.array([1, 0, 0], bool), np.array([0, 0, 1], bool), rows_length=8, prefix=4, suffix=4,
    ... )
    >>> model = Bigram()
    >>> found = change(model, plan.rows, audit(model, plan), lambda m: audit(m, plan), bits=4)
    >>> groups = found.before["protected"], found.quantized["protected"]
    >>> [round(group.suffix_nats, 2) for group in groups]  # in steps of 6/8, 0.3 is 0
    [2.47, 2.42]
    """
    relearned: dict[str, dict[str, Measures]] = {}
    for kind, chosen in ({} if relearning is None else relearning.texts).items():
        assert relearning is not None
        progress(f"training on {kind} text")
        trained = relearn(model, rows, chosen, relearning.settings)
        progress(f"measuring after training on {kind} text")
        relearned[kind] = measure(audit(trained))
    quantized = None
    if bits is not None:
        progress(f"measuring with weights of {bits} bits")
        quantized = measure(audit(quantize(model, bits)))
    return Changed(measure(before), relearned, quantized)


def relearning_score(
    before: Measures, after: Measures, without_before: Measures, without_after: Measures
) -> Measures:
    """R, which says whether text comes back faster than a model learns that never saw it.

    Parameters
    ----------
    before, after : Measures
        Protected text under the model, before and after it was trained again.
    without_before, without_after : Measures
        The same for a model that left the protected text out, trained again alike.

    Returns
    -------
    Measures
        For each measure m, ``R = min((w - w') / (m - m'), 1)``, where w is the measure of the model
        without the text, and a prime is after. 1 says that no more came back than that model
        learned; 0.1, that ten times as much did. NaN where copying has not come back (``m - m'`` is
        0, or has the sign of more forgetting), since there is nothing to compare. R is below 0
        where it came back, and the model without the text knew less of it afterwards.

    Examples
    --------
    >>> m, w = Measures(6.0, 100.0, 0.0, 0.0), Measures(9.0, 200.0, 0.0, 0.0)
    >>> relearning_score(m, Measures(4.0, 60.0, 0.5, 0.0), w, Measures(8.5, 150.0, 0.0, 0.0))
    Measures(nats=0.25, suffix_nats=1.0, extracted=0.0, greedy=nan)
    """
    returned, learned = _returned(before, after), _returned(without_before, without_after)
    return _capped(learned, np.where(returned > 0, returned, 0.0))


def quantization_score(before: Measures, after: Measures) -> Measures:
    """Q, which says how much stays forgotten after quantization.

    Parameters
    ----------
    before, after : Measures
        Protected text under the model, and under the quantized model.

    Returns
    -------
    Measures
        ``Q = min(m' / m, 1)`` for the first two measures m, which grow with forgetting; a prime is
        after. The shares grow with copying, and there it is ``min(m / m', 1)``. 1 says that nothing
        came back. NaN where the divisor is 0: all is known by heart before, or no window is copied
        after.

    Examples
    --------
    >>> quantization_score(Measures(6.0, 100.0, 0.1, 0.1), Measures(3.0, 150.0, 0.2, 0.0))
    Measures(nats=0.5, suffix_nats=1.0, extracted=0.5, greedy=nan)
    """
    one, other = np.array(before), np.array(after)
    return _capped(np.where(_SHARES, one, other), np.where(_SHARES, other, one))


def harmonic_mean(r: Measures, q: Measures) -> Measures:
    """``2 R Q / (R + Q)`` for each measure; NaN where either is undefined or below 0, or both 0.

    Examples
    --------
    >>> harmonic_mean(Measures(0.5, 1.0, -1.0, 0.0), Measures(1.0, 1.0, 1.0, 0.0))
    Measures(nats=0.6666666666666666, suffix_nats=1.0, extracted=nan, greedy=nan)
    """
    one, other = np.array(r), np.array(q)
    total = np.where((one >= 0) & (other >= 0), one + other, 0.0)
    return _capped(2 * one * other, total)


def score(changed: Changed, without: Changed | None) -> Scores:
    """Score a model's protection.

    Parameters
    ----------
    changed : Changed
        What the model makes of the text, before and after.
    without : Changed or None
        The same for a run that left the protected text out, changed alike. There is no R without.

    Examples
    --------
    >>> def changed(before, relearned, quantized):
    ...     groups = [{PROTECTED: Measures(*[nats] * 4)} for nats in (before, relearned, quantized)]
    ...     return Changed(groups[0], {"unprotected": groups[1]}, groups[2])
    >>> found = score(changed(6.0, 4.0, 3.0), changed(9.0, 8.0, 9.0))
    >>> found.relearning["unprotected"].nats, found.quantization.nats
    (0.5, 0.5)
    """
    before, r = changed.before[PROTECTED], {}
    for kind, groups in changed.relearned.items():
        r[kind] = Measures(*[math.nan] * 4)
        if without is not None:
            w, w_after = without.before[PROTECTED], without.relearned[kind][PROTECTED]
            r[kind] = relearning_score(before, groups[PROTECTED], w, w_after)
    if changed.quantized is None:
        return Scores(r, None, {})
    q = quantization_score(before, changed.quantized[PROTECTED])
    return Scores(r, q, {kind: harmonic_mean(one, q) for kind, one in r.items()})


def _returned(before: Measures, after: Measures) -> NDArray[np.float64]:
    """How much copying has come back: the change of each measure, with the sign of copying."""
    change = np.array(after) - np.array(before)
    return np.where(_SHARES, change, -change)


def _capped(above: NDArray[np.float64], below: NDArray[np.float64]) -> Measures:
    """Divide, 1 at most; NaN where the divisor is 0."""
    ratio = above / np.where(below == 0, math.nan, below)
    return Measures(*np.minimum(ratio, 1.0).tolist())
