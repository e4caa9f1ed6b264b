"""What follows from a sample of unseen text: conformal p-values, and an interval of a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from copyreg_jax.errors import InputError

__all__ = ["CONFIDENCE", "Calibration", "calibrate", "conformal_p_values", "mean_interval"]

CONFIDENCE = 0.95
"""The confidence of the intervals that an audit gives."""


class Calibration(NamedTuple):
    """How many passages are likelier than unseen text, and what that proves.

    Attributes
    ----------
    share : float
        Share of the passages whose p-value is at most ``alpha``; of a census, those that are
        likelier than a share of ``1 - alpha`` of the held-out ones, or than all of few.
    threshold : float
        The log-probability that a passage has to exceed for that.
    alpha : float
        The false-positive rate asked for.
    num_held_out : int
        Number of held-out passages that were compared.
    p_value : float or None
        p-value of an excerpt of the work, by one number of each document: see `calibrate`. None
        where there are too few documents for any p-value of at most alpha.
    num_documents, num_compared : int
        Number of documents that it is by, and of the passages of each excerpt.
    exchangeable : bool
        Whether each of them is of another document. Then a passage that the model has never seen,
        of a document drawn as they were, has a p-value of at most alpha with probability at most
        alpha. If not, this is a census: the share of a work beside the same share of other text,
        ``alpha`` of which is above the threshold, and no error rate follows.
    """

    share: float
    threshold: float
    alpha: float
    num_held_out: int
    p_value: float | None
    num_documents: int
    num_compared: int
    exchangeable: bool


def conformal_p_values(log_p: ArrayLike, held_out: ArrayLike) -> NDArray[np.float64]:
    """p-values of passages against m held-out ones: ``(1 + #{held out >= p_z}) / (m + 1)``.

    Parameters
    ----------
    log_p : (w,) array
        log-probabilities of the passages; ``-inf`` is one.
    held_out : (m,) array
        Those of the held-out passages, m >= 1.

    Raises
    ------
    InputError
        An array is empty or has NaN.

    Notes
    -----
    If a passage and the held-out ones are exchangeable, its p-value is at most alpha with
    probability at most alpha, for each alpha, whatever the distribution (split conformal
    prediction; Vovk et al., Algorithmic Learning in a Random World, 2005).

    Examples
    --------
    >>> conformal_p_values([-3.0, -1.0], [-2.0, -4.0, -5.0]).tolist()
    [0.5, 0.25]
    """
    return (1 + _count_likelier(log_p, held_out)) / (np.size(held_out) + 1)


def _count_likelier(log_p: ArrayLike, held_out: ArrayLike) -> NDArray[np.int64]:
    """How many held-out passages are at least as likely as each of those."""
    values, held = (np.asarray(a, np.float64) for a in (log_p, held_out))
    for name, array in {"log_p": values, "held_out": held}.items():
        if array.ndim != 1 or not len(array) or np.isnan(array).any():
            raise InputError(f"{name} has shape {array.shape} or has NaN; give some numbers")
    return len(held) - np.searchsorted(np.sort(held), values, side="left")


def mean_interval(mean: float, number: int) -> tuple[float, float]:
    """Confidence interval of an expectation, from the mean of independent numbers in [0, 1].

    Parameters
    ----------
    mean : float
        Mean of the numbers, in [0, 1].
    number : int
        How many there are, >= 1. They are independent and have one distribution, whichever.

    Returns
    -------
    lower, upper : float
        The expectation is within them with probability `CONFIDENCE` at least. They are never a
        single point: of m numbers that are all 1 the lower end is ``tail^(1/m)``, with
        ``tail = (1 - CONFIDENCE) / 2``.

    Raises
    ------
    InputError
        An argument is out of range.

    Notes
    -----
    Nothing is approximated, whatever m is. A number h in [0, 1] with expectation t has ``E f(h) <=
    (1 - t) f(0) + t f(1)`` for convex f. So the sum S of m of them has ``E f(S) <= E f(B)`` for
    convex f, where B is binomial of m and t (Hoeffding, 1963). With ``f(s) = max(s - k, 0)`` and
    Markov's inequality, ``P(S >= a) <= E max(B - k, 0) / (a - k)`` for each k below a. The least
    of these is at an integer k: between two, linear by linear is monotone. It rises with t and
    falls with a. So the t at which it is ``tail`` for ``a = m mean`` is a lower end: it is above
    the expectation with probability ``tail`` at most. The upper end is that of the numbers ``1 -
    h``. No bound by an exponential f is better, since that is a mixture of such f
    (Pelekis, Ramon and Wang, 1503.02284).

    If all h are 0 or 1, Clopper and Pearson's interval is within this one, which is wider by a
    fifth where m is large.

    Cost: m binomial probabilities for each of some forty t.

    Examples
    --------
    >>> [round(end, 3) for end in mean_interval(1.0, 30)]  # 0.025^(1/30)
    [0.884, 1.0]
    >>> [round(end, 3) for end in mean_interval(0.5, 30)]
    [0.299, 0.701]
    """
    if not (0 <= mean <= 1 and number >= 1):
        raise InputError(
            f"mean is {mean} and number {number}; give a mean from 0 to 1 and a number >= 1"
        )
    tail = (1 - CONFIDENCE) / 2
    return _lower_end(mean, number, tail), 1 - _lower_end(1 - mean, number, tail)


def _lower_end(mean: float, number: int, tail: float) -> float:
    total = number * mean
    least = np.arange(number)  # k
    below = least < total

    def excess(expectation: float) -> float:
        """The bound of P(S >= total) less the tail; at the mean itself the bound is 1 or more."""
        above = binom.sf(least, number, expectation)
        rest = np.cumsum(above[::-1])[::-1]  # E max(B - k, 0), the sum of P(B > j) for j >= k
        return float((rest[below] / (total - least[below])).min()) - tail

    # Below any a total of 0 there is no k. A total that is tiny has no end above 0 in float64.
    if not below.any() or excess(mean) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, mean, xtol=2.0**-50))


def calibrate(
    log_p: ArrayLike,
    drawn: ArrayLike,
    held_out: Sequence[NDArray[np.float64]],
    *,
    alpha: float = 0.01,
    excerpt: NDArray[np.float64] | None = None,
    documents: Sequence[NDArray[np.float64]] = (),
) -> Calibration:
    """Compare the passages of a work with those of held-out documents.

    Parameters
    ----------
    log_p : (w,) array
        log-probabilities of the work's passages.
    drawn : (m,) array
        That of one passage of each held-out document, drawn at random from all of them;
        near-duplicates of each other count as one document.
    held_out : sequence of m arrays
        Those of an excerpt of each held-out document.
    alpha : float
        False-positive rate, in (0, 1).
    excerpt : array, optional
        Those of an excerpt of the work, drawn as those of the documents.
    documents : sequence of arrays
        Those of excerpts of held-out documents that are as long.

    Raises
    ------
    InputError
        alpha is out of range, an array is empty or has NaN, or there is no document.

    Notes
    -----
    Passages of one document are alike, so they are not exchangeable with others. With enough
    documents, ``1 / alpha - 1``, one passage of each is compared. With fewer no p-value could be as
    small as alpha, and all passages of all excerpts are taken: the census.

    The share of an unseen work is alpha or less in the mean over works. But its passages are alike,
    and a third of unseen works or more have a larger share. So whether a work is memorized is
    decided by one number for each document, the likeliest of as many passages of an excerpt:
    ``p_value = (1 + #{documents with one as likely}) / (m + 1)``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> held_out, work = rng.normal(-80, 10, (200, 50)), rng.normal(-40, 10, 1000)
    >>> rows = list(held_out)
    >>> found = calibrate(work, held_out[:, 0], rows, excerpt=work[:50], documents=rows)
    >>> found.exchangeable, found.num_held_out, found.share > 0.9, found.p_value < 0.01
    (True, 200, True, True)
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; give a false-positive rate between 0 and 1")
    if not held_out:
        raise InputError("no text is held out; give some that the model has never seen")
    exact = Fraction(alpha)
    exchangeable = exact * (len(held_out) + 1) >= 1
    held = np.asarray(drawn, np.float64) if exchangeable else np.concatenate(held_out)
    p_value, size = None, 0
    if excerpt is not None and exact * (len(documents) + 1) >= 1:
        size = min(map(len, [excerpt, *documents]))
        best = [float(document[:size].max()) for document in documents]
        p_value = float(conformal_p_values([excerpt[:size].max()], best)[0])
    # p <= alpha where fewer than so many held-out ones are at least as likely.
    fewer = math.floor(exact * (len(held) + 1))
    if not exchangeable:  # a census of few passages asks for more than the likeliest of them
        fewer = max(fewer, 1)
    return Calibration(
        share=float(np.mean(_count_likelier(log_p, held) < fewer)),
        threshold=float(np.sort(held)[-fewer]),
        alpha=alpha,
        num_held_out=len(held),
        p_value=p_value,
        num_documents=len(documents),
        num_compared=size,
        exchangeable=exchangeable,
    )
