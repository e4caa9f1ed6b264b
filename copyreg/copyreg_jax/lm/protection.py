"""The protection term in any training loop: CE + gamma / CE_1, from the losses of the tokens.

CE is the mean cross-entropy of all tokens of a data set, CE_1 that of its protected ones, both in
nats per token. With p the protected share of the tokens, the gradient of the objective is that of a
weighted mean: an unprotected token weighs 1, a protected one ``1 - gamma / (p CE_1^2)``, which is
negative where ``CE_1 < sqrt(gamma / p)``. docs/theory/training.md has the rest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from copyreg_jax._tracing import is_concrete
from copyreg_jax.errors import InputError
from copyreg_jax.lm.estimate import Estimate, Scalar, add_counts, init_estimate

__all__ = [
    "Estimate",
    "Sums",
    "Terms",
    "gamma_for",
    "init_estimate",
    "protected_loss",
    "raised_gamma",
    "sum_tokens",
    "weigh",
    "weighted_loss",
]

_AHEAD = 1.5
"""How many times the protected loss so far `raised_gamma` aims at."""


def gamma_for(target_protected_loss: float, share: float) -> float:
    """Find the gamma that balances the protection term at a wanted protected loss.

    ``share t + gamma / t`` is least at ``t = sqrt(gamma / share)``: ``gamma = share t^2``.

    Parameters
    ----------
    target_protected_loss : float
        Wanted protected cross-entropy t, in nats per token, > 0.
    share : float
        Part of the tokens that is protected, in (0, 1).

    Raises
    ------
    InputError
        An argument is out of range.

    Examples
    --------
    >>> gamma_for(4.0, 0.25)
    4.0
    """
    target = float(target_protected_loss)
    if not 0 < target < math.inf:
        raise InputError(f"target_protected_loss is {target}; give a finite number > 0")
    if not 0 < share < 1:
        raise InputError(f"share is {share}; give the protected part of the tokens, in (0, 1)")
    return float(share * (target * target))


class Sums(NamedTuple):
    """Sums over the tokens of a batch, () arrays. Those of micro-batches add up to the batch's.

    Attributes
    ----------
    nll, protected_nll : () arrays
        Negative log-likelihoods in nats, of all tokens and of the protected ones.
    num_tokens, num_protected : () int arrays
        Numbers of all tokens and of the protected ones.
    """

    nll: Scalar
    protected_nll: Scalar
    num_tokens: Array
    num_protected: Array

    def means(self) -> tuple[Scalar, Scalar, Scalar]:
        """Cross-entropies of all, protected and other tokens; NaN where there are none."""
        others = self.nll - self.protected_nll, self.num_tokens - self.num_protected
        return (
            _mean(self.nll, self.num_tokens),
            _mean(self.protected_nll, self.num_protected),
            _mean(*others),
        )


class Terms(NamedTuple):
    """The parts of a loss. Report the cross-entropies, never the sum with the penalty.

    Attributes
    ----------
    cross_entropy, protected, unprotected : () arrays
        Means over all, protected and other tokens of this batch in nats; NaN without such tokens.
    penalty : () array
        ``gamma / CE_1`` with the running CE_1; 0 as long as no protected token has been seen.
    weight : () array
        Weight of a protected token in the gradient, where an unprotected one weighs 1.
    estimate : Estimate
        The estimate for the next step.
    """

    cross_entropy: Scalar
    protected: Scalar
    unprotected: Scalar
    penalty: Scalar
    weight: Scalar
    estimate: Estimate


def protected_loss(
    token_nll: Float[Array, "*batch length"],
    token_mask: Bool[Array, "*batch length"],
    is_protected: Bool[Array, " *rows"],
    gamma: ArrayLike,
    estimate: Estimate | None = None,
    *,
    decay: ArrayLike = 0.95,
) -> tuple[Scalar, Terms]:
    """Compute cross-entropy plus gamma / CE_1, for any model and any loop.

    Parameters
    ----------
    token_nll : (batch, length) array
        Negative log-likelihood of each target in nats.
    token_mask : (batch, length) array of bool
        True for the targets that count; padding does not.
    is_protected : (batch,) or (batch, length) array of bool
        True for the protected rows or tokens. Integers are refused, since as an index a 0/1 vector
        selects rows 0 and 1.
    gamma : float
        Weight of the protection term, >= 0, in nats squared; `gamma_for` gives it from the
        protected loss that is wanted. May be an array, as a schedule gives it.
    estimate : Estimate, optional
        The estimate of the steps before, from `init_estimate` or the last `Terms`. Without it the
        term is that of this batch alone, which is right for a whole data set and biased for a small
        batch.
    decay : float, default 0.95
        Part of the past that is kept from one batch to the next; 0.95 remembers about twenty.

    Returns
    -------
    loss : () array
        The loss to descend. Its value is that of ``terms.cross_entropy + terms.penalty``.
    terms : Terms

    Raises
    ------
    InputError
        A mask is not boolean, shapes do not fit, or gamma or decay is out of range.

    Notes
    -----
    ``E[1 / mean of a batch]`` is not ``1 / mean``, and a mean over the few protected tokens of a
    batch gives those of batches with few of them too much weight. So CE_1 and the share are running
    estimates, this batch included, and protected tokens are divided by their expected number,
    ``share`` times the number of tokens, not by the number that happens to be here. A batch without
    protected tokens adds nothing to the gradient of the term. docs/theory/training.md has what this
    is worth. With an empty estimate the loss is the plain formula, and so is its gradient. All is
    computed in the dtype of the losses, float32 at least; the estimate keeps its own. The mean of
    the gradients of micro-batches is not that of the batch: `weigh` has what is.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> nll = jnp.array([[1.0, 3.0], [4.0, 9.0]])
    >>> mask = jnp.array([[True, True], [True, False]])
    >>> loss, terms = protected_loss(nll, mask, jnp.array([True, False]), gamma=0.5)
    >>> [round(float(x), 4) for x in (terms.cross_entropy, terms.protected, terms.unprotected)]
    [2.6667, 2.0, 4.0]
    >>> round(float(loss), 4)  # 2.6667 + 0.5 / 2
    2.9167
    """
    sums = sum_tokens(token_nll, token_mask, is_protected)
    terms = weigh(sums, gamma, estimate, decay=decay)
    count = jnp.maximum(sums.num_tokens, 1).astype(sums.nll.dtype)
    # The gradient of the weighted mean, with the value of the formula.
    pull = weighted_loss(sums, terms.weight, sums.num_tokens) - sums.nll / count
    loss = sums.nll / count + terms.penalty + (pull - jax.lax.stop_gradient(pull))
    return loss, terms


def sum_tokens(
    token_nll: Float[Array, "*batch length"],
    token_mask: Bool[Array, "*batch length"],
    is_protected: Bool[Array, " *rows"],
) -> Sums:
    """Sum over the tokens of a batch or micro-batch, for `weigh` and `weighted_loss`.

    Parameters and errors are those of `protected_loss`.

    Examples
    --------
    >>> nll, mask = jnp.array([[1.0, 3.0], [4.0, 9.0]]), jnp.array([[True, True], [True, False]])
    >>> sums = sum_tokens(nll, mask, jnp.array([True, False]))
    >>> [number.item() for number in sums]
    [8.0, 4.0, 3, 2]
    """
    nll, mask, protected = _checked(token_nll, token_mask, is_protected)
    nll = jnp.where(mask, nll, 0)
    total_1 = jnp.sum(jnp.where(protected, nll, 0))
    return Sums(jnp.sum(nll), total_1, jnp.sum(mask), jnp.sum(protected))


def weigh(
    sums: Sums,
    gamma: ArrayLike,
    estimate: Estimate | None = None,
    *,
    decay: ArrayLike = 0.95,
) -> Terms:
    """Compute the weight of a protected token in a batch from its sums alone.

    This is for batches that do not fit into memory. Sums of micro-batches add up to those of the
    batch, and gradients of `weighted_loss` to the gradient of `protected_loss` for the batch.
    The weight has to be known before the first gradient, so it takes a pass over the micro-batches
    without gradients, a third more work; with gamma = 0 it is 1.

    Parameters
    ----------
    sums : Sums
        Sums over the whole batch.
    gamma, estimate, decay
        See `protected_loss`; the estimate is that of the batches before.

    Returns
    -------
    Terms

    Raises
    ------
    InputError
        gamma or decay is out of range.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> nll, protected = jnp.array([[1.0, 3.0], [4.0, 9.0]]), jnp.array([True, False])
    >>> masks = jnp.array([[True, True], [True, False]])
    >>> parts = [sum_tokens(nll[i], masks[i], protected[i]) for i in range(2)]  # a row each
    >>> batch = Sums(*map(sum, zip(*parts)))
    >>> terms = weigh(batch, gamma=0.5)
    >>> loss = sum(weighted_loss(part, terms.weight, batch.num_tokens) for part in parts)
    >>> round(float(terms.weight), 4), round(float(loss), 4)  # 1 - 0.5 / (2/3 * 4)
    (0.8125, 2.4167)
    """
    sums = jax.lax.stop_gradient(sums)
    dtype = sums.nll.dtype
    gamma, decay = _number("gamma", gamma, dtype), _number("decay", decay, dtype)
    past = init_estimate() if estimate is None else estimate
    nll = decay * past.nll.astype(dtype) + sums.protected_nll
    recent = decay * past.recent.astype(dtype) + jnp.asarray(sums.num_protected, dtype)
    now = Estimate(
        nll.astype(past.nll.dtype),  # as a loop wants to carry it
        recent.astype(past.recent.dtype),
        add_counts(past.num_protected, sums.num_protected),
        add_counts(past.num_tokens, sums.num_tokens),
    )

    # Where nothing protected has been seen there is nothing to protect; nor with gamma = 0.
    # But a gamma that is NaN or negative under jit has to be seen.
    gamma = jnp.where(gamma >= 0, gamma, jnp.nan)
    known = (recent > 0) & (gamma != 0)
    mean = jnp.where(known, nll / recent, 1).astype(dtype)
    penalty = jnp.where(known, gamma / mean, 0)
    share = now.share_in(dtype)
    weight = 1 - jnp.where(known, penalty / (share * mean), 0)
    return Terms(*sums.means(), penalty=penalty, weight=weight, estimate=now)


def weighted_loss(sums: Sums, weight: ArrayLike, num_tokens: ArrayLike) -> Scalar:
    """Compute the weighted mean over tokens to descend, or a micro-batch's part of it.

    Parameters
    ----------
    sums : Sums
        Sums over a batch or micro-batch, differentiable in the losses.
    weight : () array
        Weight of a protected token, from `weigh`; an unprotected one weighs 1.
    num_tokens : () array
        Number of tokens of the whole batch.

    Returns
    -------
    () array
        ``(nll + (weight - 1) protected_nll) / num_tokens``.

    Examples
    --------
    >>> sums = Sums(*map(jnp.array, (18.0, 4.0, 4, 2)))  # 18 nats in 4 tokens, 4 of them in 2
    >>> float(weighted_loss(sums, 1.0, 4)), float(weighted_loss(sums, -0.5, 4))
    (4.5, 3.0)
    """
    weight = jax.lax.stop_gradient(jnp.asarray(weight, sums.nll.dtype))
    count = jnp.maximum(jnp.asarray(num_tokens, weight.dtype), 1)
    return (sums.nll + (weight - 1) * sums.protected_nll) / count


def raised_gamma(estimate: Estimate, target_loss: ArrayLike) -> Scalar:
    """Compute a gamma that rises with the protected loss until that meets the target.

    It balances at the target, or at 1.5 times the loss so far where that is lower. So a protected
    token weighs about ``1 - 1.5^2`` at the least, if the estimate is that of the batch to come. The
    gamma of the target itself would tear a model apart that knows the text by heart.

    Parameters
    ----------
    estimate : Estimate
        The estimate of the steps before.
    target_loss : float
        Wanted protected cross-entropy in nats per token, > 0.

    Returns
    -------
    () array
        ``share min(target, 1.5 CE_1)^2``; 0 before the first protected token.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> seen = Estimate(*map(jnp.array, (20.0, 10.0, 10.0, 100.0)))
    >>> round(float(raised_gamma(seen, 5.0)), 3), round(float(raised_gamma(seen, 2.5)), 3)
    (0.9, 0.625)
    """
    known = estimate.recent > 0
    ahead = _AHEAD * jnp.where(known, estimate.protected_loss, 0)
    balance = jnp.minimum(jnp.asarray(target_loss), ahead)
    return jnp.where(known, estimate.share * balance**2, 0)


def _checked(token_nll: ArrayLike, token_mask: ArrayLike, is_protected: ArrayLike) -> tuple[
    Float[Array, "*batch length"], Bool[Array, "*batch length"], Bool[Array, "*batch length"]
]:  # fmt: skip
    """The losses in float32 or wider, the mask, and the mask of protected tokens."""
    nll, mask, rows = (jnp.asarray(a) for a in (token_nll, token_mask, is_protected))
    if not jnp.issubdtype(nll.dtype, jnp.floating):
        raise InputError(f"token_nll has dtype {nll.dtype}; give losses in nats")
    for name, array in (("token_mask", mask), ("is_protected", rows)):
        if array.dtype != bool:
            raise InputError(f"{name} has dtype {array.dtype}; give booleans, `{name} == 1` say")
    if mask.shape != nll.shape:
        raise InputError(f"token_mask has shape {mask.shape}; token_nll has {nll.shape}")
    if rows.shape not in (nll.shape, nll.shape[:-1]):
        raise InputError(
            f"is_protected has shape {rows.shape}; give {nll.shape[:-1]}, one for each row, or "
            f"{nll.shape}, one for each token"
        )
    of_token = rows if rows.shape == nll.shape else rows[..., None]
    protected = mask & jnp.broadcast_to(of_token, nll.shape)
    wide = jnp.finfo(nll.dtype).bits >= 32
    return nll if wide else nll.astype(jnp.float32), mask, protected


def _number(name: str, value: ArrayLike, dtype: np.dtype) -> Scalar:
    """A scalar >= 0, and below 1 if it is the decay; looked at where it is concrete."""
    number = jnp.asarray(value, dtype)
    if number.shape != ():
        raise InputError(f"{name} has shape {number.shape}; give one number")
    if is_concrete(number):
        below = 1.0 if name == "decay" else np.inf
        if not 0 <= float(number) < below:
            wanted = "in [0, 1)" if name == "decay" else ">= 0 and finite"
            raise InputError(f"{name} is {float(number):g}; give a number {wanted}")
    return number


def _mean(total: Scalar, count: Scalar) -> Scalar:
    count = jnp.asarray(count, total.dtype)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)
