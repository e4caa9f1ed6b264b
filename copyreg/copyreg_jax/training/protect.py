"""The protection term in any training loop: CE + gamma / CE_1, from the losses of the tokens.

CE is the mean cross-entropy of all tokens of a data set, CE_1 that of its protected ones, both in
nats per token. With p the protected share of the tokens, the gradient of the objective is that of a
weighted mean: an unprotected token weighs 1, a protected one ``1 - gamma / (p CE_1^2)``, which is
negative where ``CE_1 < sqrt(gamma / p)``. docs/theory/training.md has the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from copyreg_jax.errors import InputError
from copyreg_jax.objective import Scalar
from copyreg_jax.problem import is_concrete


class Estimate(NamedTuple):
    """What has been seen of the data set.

    A pytree like the states of optax: carry it from step to step, and save it with the weights.

    Attributes
    ----------
    nll, recent : () arrays
        Sum over protected tokens of their negative log-likelihoods in nats, and the number of
        them; both fade by ``decay`` with every batch, as the model changes.
    num_protected, num_tokens : () arrays
        Numbers of protected tokens and of all so far, which do not fade.
    """

    nll: Scalar
    recent: Scalar
    num_protected: Scalar
    num_tokens: Scalar

    @property
    def protected_loss(self) -> Scalar:
        """CE_1 in nats per token; NaN before the first protected token."""
        return self.nll / self.recent

    @property
    def share(self) -> Scalar:
        """Part of the tokens that is protected; NaN before the first token."""
        return self.num_protected / self.num_tokens


class Terms(NamedTuple):
    """The parts of a loss. Report the cross-entropies, never the sum with the penalty.

    Attributes
    ----------
    cross_entropy, protected, unprotected : () arrays
        Means over the tokens of this batch: all, protected, others; in nats, NaN if there is none.
    penalty : () array
        ``gamma / CE_1`` with the running CE_1; 0 as long as no protected token has been seen.
    weight : () array
        What a protected token weighs in the gradient, where an unprotected one weighs 1.
    estimate : Estimate
        For the next step.
    """

    cross_entropy: Scalar
    protected: Scalar
    unprotected: Scalar
    penalty: Scalar
    weight: Scalar
    estimate: Estimate


def init_estimate() -> Estimate:
    """Nothing seen yet."""
    # Separate arrays, so that a step may take their memory.
    return Estimate(*(jnp.zeros((), jnp.float32) for _ in Estimate._fields))


def protected_loss(
    token_nll: Float[Array, "*batch length"],
    token_mask: Bool[Array, "*batch length"],
    is_protected: Bool[Array, " *rows"],
    gamma: ArrayLike,
    estimate: Estimate | None = None,
    *,
    decay: ArrayLike = 0.95,
) -> tuple[Scalar, Terms]:
    """Cross-entropy plus gamma / CE_1, for any model and any loop.

    Parameters
    ----------
    token_nll : (batch, length) array
        Negative log-likelihood of each target in nats.
    token_mask : (batch, length) array of bool
        Which of them count; padding does not.
    is_protected : (batch,) or (batch, length) array of bool
        Which rows, or which tokens, are protected. Selection is by mask: integers are refused,
        since as an index a 0/1 vector selects rows 0 and 1.
    gamma : float
        Weight of the protection term, >= 0, in nats squared; `gamma_for` gives it from the
        protected loss that is wanted. May be an array, as a schedule gives it.
    estimate : Estimate, optional
        That of the steps before, from `init_estimate` or the last `Terms`. Without it the term is
        that of this batch alone: right for a batch that is the whole set, biased for a small one.
    decay : float, default 0.95
        How much of the past is kept from one batch to the next: 0.95 remembers some twenty of them.

    Returns
    -------
    loss : () array
        Its gradient is what to descend. Its value is that of ``terms.cross_entropy +
        terms.penalty``.
    terms : Terms

    Raises
    ------
    InputError
        Masks that are not boolean, shapes that do not fit, gamma or decay out of range.

    Notes
    -----
    ``E[1 / mean of a batch]`` is not ``1 / mean``, and a mean over the few protected tokens of a
    batch gives those of batches with few of them too much weight. So CE_1 and the share are running
    estimates, this batch included, and protected tokens are divided by their expected number,
    ``share`` times the number of tokens, not by the number that happens to be here. A batch without
    protected tokens adds nothing to the gradient of the term. docs/theory/training.md has what this
    is worth. With an empty estimate the loss is the plain formula, and so is its gradient, to the
    float32 of the estimate.

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
    nll, mask, protected = _checked(token_nll, token_mask, is_protected)
    gamma, decay = _number("gamma", gamma, nll.dtype), _number("decay", decay, nll.dtype)
    past = init_estimate() if estimate is None else estimate

    nll = jnp.where(mask, nll, 0)
    num_tokens, num_protected = jnp.sum(mask), jnp.sum(protected)
    total, total_1 = jnp.sum(nll), jnp.sum(jnp.where(protected, nll, 0))
    seen = (jax.lax.stop_gradient(total_1), num_protected, num_protected, num_tokens)
    kept: tuple[Any, ...] = (decay, decay, 1, 1)
    now = Estimate(
        *(
            jnp.asarray(k * old + new, old.dtype)
            for k, old, new in zip(kept, past, seen, strict=True)
        )
    )

    # Where nothing protected has been seen there is nothing to protect; nor with gamma = 0.
    # But a gamma that is NaN or negative under jit has to be seen.
    gamma = jnp.where(gamma >= 0, gamma, jnp.nan)
    known = (now.recent > 0) & (gamma != 0)
    mean = jnp.where(known, now.protected_loss, 1)
    penalty = jnp.where(known, gamma / mean, 0)
    weight = 1 - jnp.where(known, penalty / (now.share * mean), 0)
    count = jnp.maximum(num_tokens, 1)
    mean_of_all = total / count
    pull = jnp.where(known, (weight - 1) * total_1 / count, 0)
    loss = mean_of_all + jax.lax.stop_gradient(penalty) + pull - jax.lax.stop_gradient(pull)
    terms = Terms(
        cross_entropy=_mean(total, num_tokens),
        protected=_mean(total_1, num_protected),
        unprotected=_mean(total - total_1, num_tokens - num_protected),
        penalty=penalty,
        weight=weight,
        estimate=now,
    )
    return loss, jax.lax.stop_gradient(terms)


def raised_gamma(estimate: Estimate, target_loss: ArrayLike, *, growth: ArrayLike = 0.5) -> Scalar:
    """A gamma that rises with the protected loss until that has met the target.

    It balances at the target, or where the protected loss is still far below it, at ``1 + growth``
    times the loss so far. So a protected token weighs about ``1 - (1 + growth)^2`` at the least, as
    far as the estimate is that of the batch to come, where the gamma of the target would tear a
    model that knows the text by heart apart.

    Parameters
    ----------
    estimate : Estimate
        That of the steps before.
    target_loss : float
        Wanted protected cross-entropy in nats per token, > 0.
    growth : float, default 0.5
        How far ahead of the protected loss the balance is set, > 0.

    Returns
    -------
    () array
        ``share min(target, (1 + growth) CE_1)^2``; 0 before the first protected token.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> seen = Estimate(*map(jnp.array, (20.0, 10.0, 10.0, 100.0)))
    >>> round(float(raised_gamma(seen, 5.0)), 3), round(float(raised_gamma(seen, 2.5)), 3)
    (0.9, 0.625)
    """
    known = estimate.recent > 0
    ahead = (1 + jnp.asarray(growth)) * jnp.where(known, estimate.protected_loss, 0)
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
    return nll.astype(jnp.promote_types(nll.dtype, jnp.float32)), mask, protected


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
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)
