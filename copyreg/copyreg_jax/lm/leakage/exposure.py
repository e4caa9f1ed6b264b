"""What a model keeps of canaries: their exposure, and a bound on how private its training was."""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from flax import nnx
from numpy.typing import ArrayLike, NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.canaries import Canaries, random_text
from copyreg_jax.lm.corpus.rows import make_rows
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.leakage.calibration import CONFIDENCE
from copyreg_jax.lm.leakage.membership import Attack, attack

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Exposure", "epsilon_bound", "exposures", "measure_canaries", "require_auditor"]

_CANDIDATES = 1023
"""Together with the canary they are 2^10: no exposure is above 10 bits."""

_DELTA = 1e-5

_GUESSED = (0.0, 0.01, 0.1, 0.5)
"""Canaries are taken for inserted ones if fewer candidates than such a share are as likely."""


class Exposure(NamedTuple):
    """What a model keeps of the canaries of its run.

    Attributes
    ----------
    number, inserted, copies : int
        Number of canaries, of those that a coin chose to be trained on, and of the copies of each
        of these. A run that leaves protected texts out has none of them.
    candidates : int
        Number of random texts that each is compared with.
    exposure : list of float
        Exposure of each inserted canary in bits; see `exposures`.
    mean, held_out_mean : float or None
        Mean exposure of the inserted and of the other canaries; None without any.
    attack : Attack or None
        How well the loss tells the inserted ones from the others; None without one of these.
    epsilon : float or None
        See `epsilon_bound`; None without inserted or without other canaries.
    delta, confidence : float
        Of that bound.
    """

    number: int
    inserted: int
    copies: int
    candidates: int
    exposure: list[float]
    mean: float | None
    held_out_mean: float | None
    attack: Attack | None
    epsilon: float | None
    delta: float
    confidence: float


def require_auditor() -> None:
    """Refuse if jax-privacy is missing, before the work.

    Raises
    ------
    InputError
        With the command that installs it.
    """
    if importlib.util.find_spec("jax_privacy") is None:
        raise InputError(
            "this run has canaries, and jax_privacy is not installed; run: pip install "
            "'copyreg-jax[canaries]'"
        )


def exposures(losses: ArrayLike, candidates: ArrayLike) -> NDArray[np.float64]:
    """Exposure of canaries in bits: ``log2 |R| - log2 rank``.

    R is the canary with r random candidates for it, so ``|R| = r + 1``, and its rank is one more
    than the number of candidates whose loss is as small. Of a canary that a model has never seen
    the mean is about ``log2 e = 1.44``, and the most is ``log2 |R|``.

    Parameters
    ----------
    losses : (n,) array
        Negative log-likelihoods of the canaries.
    candidates : (r,) array
        Those of texts drawn as the canaries were.

    Notes
    -----
    The definition is that of Carlini et al., The Secret Sharer (1802.08232), with R sampled.

    Examples
    --------
    >>> exposures([1.0, 6.0], [5.0, 7.0, 8.0]).tolist()
    [2.0, 1.0]
    """
    ranks = 1 + np.searchsorted(np.sort(candidates), np.asarray(losses), side="right")
    return np.log2((np.size(candidates) + 1) / ranks)


def epsilon_bound(inserted: ArrayLike, others: ArrayLike, candidates: ArrayLike) -> float:
    """Lower bound on epsilon: the training is not (epsilon, 1e-5)-private for a smaller one.

    Private means differentially private, for data that differ in one canary with all its copies.
    The bound fails with a probability of 5 % at most, over the coins that chose the canaries.

    Parameters
    ----------
    inserted, others : arrays
        Losses of the canaries that were trained on, and of those that were not; a fair coin has
        chosen for each.
    candidates : (r,) array
        Losses of texts drawn as the canaries were, which none of the coins depends on.

    Notes
    -----
    The one-run audit of Steinke, Nasr and Jagielski (2305.08846), by ``CanaryScoreAuditor`` of
    jax-privacy. It counts right guesses: canaries with a loss below a threshold are taken for
    inserted ones. Four thresholds are fixed by the candidates, before the canaries are looked at,
    each with a quarter of the 5 %. The library's own choice, ``Bonferroni``, corrects for fewer
    thresholds than it tries: of 20,000 canaries that nothing tells apart, it gives a bound above 0
    in 10 % of the cases, for 5 % allowed. Clopper-Pearson bounds would take canaries of independent
    runs.

    Examples
    --------
    >>> epsilon_bound([1.0] * 50, [9.0] * 50, [8.0, 9.0, 10.0]) > 2
    True
    """
    from jax_privacy.auditing import CanaryScoreAuditor, Explicit

    auditor = CanaryScoreAuditor(-np.asarray(inserted), -np.asarray(others))
    falling = -np.sort(np.asarray(candidates, np.float64))
    significance = (1 - CONFIDENCE) / len(_GUESSED)
    bounds = []
    for share in _GUESSED:
        # The library takes scores for inserted ones from the threshold on, and here above it.
        threshold = np.nextafter(falling[int(share * len(falling))], math.inf)
        bounds.append(
            auditor.epsilon_one_run(significance, _DELTA, threshold_strategy=Explicit(threshold))
        )
    return float(max(bounds))


def measure_canaries(
    model: nnx.Module, tokenizer: Tokenizer, canaries: Canaries, length: int, seed: int = 0
) -> tuple[Exposure, NDArray[np.float64], NDArray[np.int64]]:
    """Measure the canaries of a run against fresh random texts.

    Parameters
    ----------
    model : nnx.Module
    tokenizer : Tokenizer
    canaries : Canaries
    length : int
        Number of targets of a row, as in training.
    seed : int
        Seed of the fresh texts.

    Returns
    -------
    exposure : Exposure
    nll, num_tokens : (number,) arrays
        Loss of each canary in nats, and the number of its targets.

    Raises
    ------
    InputError
        A loss is not finite.

    Notes
    -----
    One forward pass over the canaries and 1,023 candidates, each a row of 64 letters.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> class Bigram(nnx.Module):  # it knows nothing: after each token all are equally likely
    ...     def __init__(self):
    ...         self.table = nnx.Param(jnp.zeros((257, 257)))
    ...     def __call__(self, tokens):
    ...         return self.table[...][tokens]
    >>> tokenizer, canaries = train_tokenizer([], vocab_size=257), Canaries(number=2)
    >>> found, nll, counts = measure_canaries(Bigram(), tokenizer, canaries, length=80)
    >>> counts.tolist(), (nll / counts).round(3).tolist()  # log(257) a letter
    ([65, 65], [5.549, 5.549])
    >>> found.inserted, found.held_out_mean  # bits: all candidates are as likely
    (0, 0.0)
    """
    fresh = [random_text(f"candidate|{seed}|{k}") for k in range(_CANDIDATES)]
    texts = [*canaries.texts, *fresh]
    rows = make_rows(tokenizer, texts, length)
    width = int(rows.mask.any(axis=0).sum())  # rows of so few tokens are not padded to the length
    rows = rows._replace(tokens=rows.tokens[:, : width + 1], mask=rows.mask[:, :width])
    nll, counts = document_losses(model, rows, len(texts))
    if not np.isfinite(nll).all():
        raise InputError("the loss of a random text is not finite; train the model anew")
    own, candidates = nll[: canaries.number], nll[canaries.number :]
    is_in = canaries.inserted
    bits = exposures(own, candidates)
    both = is_in.any() and not is_in.all()
    found = Exposure(
        number=canaries.number,
        inserted=int(is_in.sum()),
        copies=canaries.copies,
        candidates=_CANDIDATES,
        exposure=bits[is_in].tolist(),
        mean=float(bits[is_in].mean()) if is_in.any() else None,
        held_out_mean=None if is_in.all() else float(bits[~is_in].mean()),
        attack=attack(own[is_in], own[~is_in]) if both else None,
        epsilon=epsilon_bound(own[is_in], own[~is_in], candidates) if both else None,
        delta=_DELTA,
        confidence=CONFIDENCE,
    )
    return found, own, counts[: canaries.number]
