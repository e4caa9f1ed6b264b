"""Whether losses tell the texts that a model was trained on from texts that it has never seen."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.leakage.calibration import conformal_p_values, mean_interval
from copyreg_jax.lm.models.layers import vocabulary_size

__all__ = ["Attack", "Scores", "attack", "attack_all", "priv_leak", "score_rows"]

_ROWS, _LOGITS = 64, 2**24
"""The most rows and logits of one call; the logarithms and their squares take as much again."""

_LOWEST = 5
"""One in so many tokens is among the lowest: K is 20 %."""

_LEAST_VARIANCE = 1e-6
"""Where the model leaves no choice, or all tokens are alike, sigma is rounding."""

_RATES = (0.01, 0.1)

_EXACT = 20_000
"""So many pairs, and SciPy's exact distribution of few texts against many takes a second."""


class Scores(NamedTuple):
    """Membership scores of n texts; a smaller one speaks for a text that was trained on.

    With the probability q(z_t) that the model gives the true token z_t after those before it in its
    row:

    Attributes
    ----------
    loss : (n,) float64 array
        Mean of ``-log q(z_t)``, in nats per token.
    zlib : (n,) float64 array
        The loss divided by the number of bytes that zlib makes of the text.
    min_k : (n,) float64 array
        Min-K % with K = 20: the mean of ``-log q(z_t)`` over the fifth of the tokens with the
        smallest probabilities. The fifth is rounded down, but it is one token at least.
    min_k_plus : (n,) float64 array
        The same of ``-(log q(z_t) - mu_t) / sigma_t``: Min-K %++. Mean mu and deviation sigma of
        ``log q`` are those under q itself, over all tokens that might stand there; sigma is 1e-3 at
        least.
    """

    loss: NDArray[np.float64]
    zlib: NDArray[np.float64]
    min_k: NDArray[np.float64]
    min_k_plus: NDArray[np.float64]


class Attack(NamedTuple):
    """How well a score tells n members from m others.

    Attributes
    ----------
    auroc : float
        The probability that a member has a smaller score than another text, where equal scores
        count half: 1/2 if the score says nothing, 1 if it tells all members.
    lower, upper : float
        95 % confidence interval of the AUROC of these members against all texts that the others are
        a sample of. It is proved for others that are independent draws, however few; see
        `calibration.mean_interval`.
    p_value : float
        The probability of such an AUROC or a larger one if members and others are exchangeable
        (Mann-Whitney).
    found_at_1_percent, found_at_10_percent : float or None
        Share of the members that are found if 1 % or 10 % of the others may be taken for members:
        those whose conformal p-value is as small. None if m is too small for any to be.
    """

    auroc: float
    lower: float
    upper: float
    p_value: float
    found_at_1_percent: float | None
    found_at_10_percent: float | None


def score_rows(
    model: nnx.Module,
    rows: Rows,
    contents: Sequence[bytes],
    callback: Callable[[float], None] = lambda share: None,
) -> Scores:
    """Score documents by one forward pass over their rows.

    Parameters
    ----------
    model : nnx.Module
        Called with (batch, length) tokens it returns (batch, length, vocabulary) logits; causal.
    rows : Rows
        Rows of n documents, each with a target.
    contents : sequence of n bytes
        The documents, for zlib at its default level.
    callback : callable, optional
        Called after each batch with the share of the rows that is done.

    Returns
    -------
    Scores

    Notes
    -----
    Logits and what is computed of them are float32; sums over tokens are float64. The scores are
    those of Yeom et al. (1709.01604), Carlini et al. (2012.07805), Shi et al. (2310.16789) and
    Zhang et al. (2404.02936), with the sign by which a smaller one speaks for a member.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.rows import make_rows
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=2)
    >>> rows = make_rows(train_tokenizer([], vocab_size=257), ["a sail"], length=8)
    >>> score_rows(GPT2(config), rows, [b"a sail"]).loss.shape
    (1,)
    """
    graph, params = nnx.split(model)
    size = max(1, min(_ROWS, _LOGITS // (rows.mask.shape[1] * vocabulary_size(model))))
    found = np.zeros((2, *rows.mask.shape), np.float32)
    for start in range(0, len(rows.tokens), size):
        part = rows.tokens[start : start + size]
        full = np.pad(part, ((0, size - len(part)), (0, 0)))  # one program for all parts
        with jax.default_matmul_precision("float32"):  # not TF32, where products are float32
            found[:, start : start + size] = np.stack(_tokens(graph, params, full))[:, : len(part)]
        callback(min(1.0, (start + size) / len(rows.tokens)))
    document = np.broadcast_to(rows.document[:, None], rows.mask.shape)[rows.mask]
    surprise, relative = found[:, rows.mask].astype(np.float64)
    loss = np.bincount(document, surprise) / np.bincount(document)
    return Scores(
        loss,
        loss / [len(zlib.compress(content)) for content in contents],
        _highest_mean(surprise, document),
        _highest_mean(relative, document),
    )


@functools.partial(jax.jit, static_argnums=0)
def _tokens(graph: Any, params: Any, tokens: Array) -> tuple[Array, Array]:
    """-log q of each true token, and the same less its mean and divided by its deviation."""
    logs = jax.nn.log_softmax(nnx.merge(graph, params)(tokens[:, :-1]).astype(jnp.float32))
    own = jnp.take_along_axis(logs, tokens[:, 1:, None], axis=-1)[..., 0]
    q = jnp.exp(logs)
    mean = jnp.sum(jnp.where(q > 0, q * logs, 0), axis=-1)
    variance = jnp.sum(jnp.where(q > 0, q * (logs - mean[..., None]) ** 2, 0), axis=-1)
    return -own, (mean - own) / jnp.sqrt(jnp.maximum(variance, _LEAST_VARIANCE))


def _highest_mean(
    values: NDArray[np.float64], document: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Mean of the highest fifth of the values of each document."""
    order = np.lexsort((-values, document))
    counts = np.bincount(document)
    chosen = np.maximum(1, counts // _LOWEST)
    place = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = order[place < np.repeat(chosen, counts)]
    return np.asarray(np.bincount(document[order], values[order]) / chosen)


def attack(members: ArrayLike, others: ArrayLike) -> Attack:
    """Measure how well a score, smaller for members, tells members from other texts.

    Parameters
    ----------
    members : (n,) array
    others : (m,) array
        For the interval these are independent: of near-duplicates give one.

    Returns
    -------
    Attack

    Raises
    ------
    InputError
        An array is empty or has NaN.

    Notes
    -----
    Each other text has a share of members with a smaller score than its own, and AUROC is the mean
    of these m numbers. So its interval is that of a mean. It takes the members as they are: it says
    nothing of other members, of which there may be as few as one.

    AUROC is U / (n m) of Mann and Whitney, from SciPy. That of jax-privacy is the area under the
    *convex hull* of the curve: never below 1/2, and .65 in the mean for ten texts against ten that
    nothing tells apart. Its true-positive rates are those of the hull too.

    Examples
    --------
    >>> attack([1.0, 2.0, 4.0], [3.0, 5.0]).auroc  # five of the six pairs are in order
    0.8333333333333334
    """
    own, rest = -np.asarray(members, np.float64), -np.asarray(others, np.float64)
    for name, array in {"members": own, "others": rest}.items():
        if not len(array) or np.isnan(array).any():
            raise InputError(f"the scores of the {name} are none or have NaN; give numbers")
    p = conformal_p_values(own, rest)
    method = "auto" if len(own) * len(rest) <= _EXACT else "asymptotic"
    found = mannwhitneyu(own, rest, alternative="greater", method=method)
    shares = [float((p <= rate).mean()) if rate * (len(rest) + 1) >= 1 else None for rate in _RATES]
    p_value = float(found.pvalue if len(own) > 1 else p[0])  # of one text the two are the same
    p_value = max(p_value, 1 / math.comb(len(own) + len(rest), len(own)))  # ties: SciPy's is normal
    auroc = float(found.statistic) / (len(own) * len(rest))
    return Attack(auroc, *mean_interval(auroc, len(rest)), p_value, *shares)


def attack_all(
    scores: Scores,
    members: NDArray[np.bool_],
    others: NDArray[np.bool_],
    reference: Scores | None = None,
) -> dict[str, Attack]:
    """Measure all scores, and with a reference the loss less that of the reference model.

    Parameters
    ----------
    scores : Scores
    members, others : (n,) bool arrays
    reference : Scores, optional
        Scores of the same texts by a model that has not seen them.

    Returns
    -------
    dict from names of scores to Attack

    Examples
    --------
    >>> own, other = (Scores(*[np.array(loss)] * 4) for loss in ([2.0, 3, 1, 4], [4.0, 4, 1, 4]))
    >>> members = np.array([True, True, False, False])
    >>> found = attack_all(own, members, ~members, reference=other)
    >>> {name: one.auroc for name, one in found.items()}  # how hard a text is hides what is known
    {'loss': 0.5, 'zlib': 0.5, 'min_k': 0.5, 'min_k_plus': 0.5, 'reference': 1.0}
    """
    table = scores._asdict()
    if reference is not None:
        table["reference"] = scores.loss - reference.loss
    return {name: attack(score[members], score[others]) for name, score in table.items()}


def priv_leak(auroc: float, retrained: float) -> float:
    """PrivLeak in percent: how far a model is from one that never saw the texts.

    ``100 (a - r) / r`` with ``a = 1 - auroc`` and ``r = 1 - retrained``: 0 is ideal, below 0 the
    model knows the texts, above 0 it shuns them so much that they stand out. NaN if r is 0.

    Parameters
    ----------
    auroc, retrained : float
        AUROC of Min-K % of the model, and of one that was trained without the protected texts.

    Notes
    -----
    The definition is that of MUSE (2407.06460), whose AUC is ``a``.

    Examples
    --------
    >>> priv_leak(1.0, 0.5), priv_leak(0.5, 0.5), priv_leak(0.25, 0.5)
    (-100.0, 0.0, 50.0)
    """
    own, rest = 1 - auroc, 1 - retrained
    return 100 * (own - rest) / rest if rest else float("nan")
