"""What a training run has seen of its data: the running protected loss, and exact token counts."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

__all__ = ["Estimate", "Scalar", "add_counts", "init_estimate"]

Scalar: TypeAlias = Float[Array, ""]


class Estimate(NamedTuple):
    """Running sums over the tokens that a run has seen.

    A pytree like the states of optax: carry it from step to step, and save it with the weights.

    Attributes
    ----------
    nll, recent : () arrays
        Sum over protected tokens of their negative log-likelihoods in nats, and the number of
        them; both fade by ``decay`` with every batch, as the model changes.
    num_protected, num_tokens : (2,) uint32 arrays
        Numbers of protected tokens and of all so far, which do not fade: ``2^32 a + b`` for
        ``(a, b)``, exact up to 1.8e19. A float32 would stand still at 2^24. One number, as was kept
        here before, is taken too, and is a pair after the next batch.
    """

    nll: Scalar
    recent: Scalar
    num_protected: Array
    num_tokens: Array

    @property
    def protected_loss(self) -> Scalar:
        """CE_1 in nats per token; NaN before the first protected token."""
        return self.nll / self.recent

    @property
    def share(self) -> Scalar:
        """Part of the tokens that is protected; NaN before the first token."""
        return self.share_in(self.nll.dtype)

    def share_in(self, dtype: np.dtype) -> Scalar:
        """Compute the share in another dtype than that of the estimate."""
        protected, tokens = (
            pair[0].astype(dtype) * 2.0**32 + pair[1].astype(dtype)
            for pair in (_pair(self.num_protected), _pair(self.num_tokens))
        )
        return protected / tokens


def init_estimate() -> Estimate:
    """Make the estimate of a run that has seen nothing yet."""
    # Separate arrays, so that a step may take their memory.
    return Estimate(
        jnp.zeros(()), jnp.zeros(()), jnp.zeros(2, jnp.uint32), jnp.zeros(2, jnp.uint32)
    )


def add_counts(one: ArrayLike, other: ArrayLike) -> Array:
    """Add two counts, each of one number or two words, and return two words."""
    one, other = _pair(one), _pair(other)
    low = one[1] + other[1]
    carry = (low < one[1]).astype(jnp.uint32)
    return jnp.stack([one[0] + other[0] + carry, low])


def _pair(number: ArrayLike) -> Array:
    """Split a count into two words, the high one first."""
    number = jnp.asarray(number)
    if number.shape == (2,):
        return number.astype(jnp.uint32)
    if jnp.issubdtype(number.dtype, jnp.integer):
        high = number >> 16 >> 16  # by 32 at once is not defined for 32 bits
    else:
        high = jnp.floor(number / 2.0**32)
        number = number - high * 2.0**32
    return jnp.stack([high.astype(jnp.uint32), number.astype(jnp.uint32)])
