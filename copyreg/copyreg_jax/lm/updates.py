"""Updates of the weights: the loss of a batch, its gradient, and some of them as one program."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

from copyreg_jax.lm.models.layers import token_nll
from copyreg_jax.lm.protection import (
    Estimate,
    Sums,
    raised_gamma,
    sum_tokens,
    weigh,
    weighted_loss,
)
from copyreg_jax.lm.run_folder import State
from copyreg_jax.lm.settings import Settings

__all__ = ["FINAL_RATE", "Batch", "compile_updates", "make_optimizer"]

_WARMUP = 0.05

FINAL_RATE = 0.1
"""Learning rate at the end of a run, as a part of its peak."""

_BETA_2 = 0.95

_CLIP = 1.0


class Batch(NamedTuple):
    """Rows of tokens with what is counted, protected and, if that differs, of the target."""

    tokens: Any
    mask: Any
    protected: Any
    of_target: Any  # None if they are the protected ones


def make_optimizer(settings: Settings) -> optax.GradientTransformation:
    """AdamW with clipped gradients, and a rate that rises, and falls by a cosine."""
    updates = settings.steps // settings.accumulate
    warmup = max(1, round(_WARMUP * updates))
    rate = optax.warmup_cosine_decay_schedule(
        settings.learning_rate / (warmup + 1),
        settings.learning_rate,
        warmup,
        updates + 1,
        FINAL_RATE * settings.learning_rate,
    )

    def matrices(params: Any) -> Any:
        return jax.tree_util.tree_map(lambda leaf: leaf.ndim >= 2, params)

    return optax.chain(
        optax.clip_by_global_norm(_CLIP),
        optax.adamw(rate, b2=_BETA_2, weight_decay=settings.weight_decay, mask=matrices),
    )


def compile_updates(graph: Any, optimizer: optax.GradientTransformation, settings: Settings) -> Any:
    """Compile updates into a program ``(state, batches) -> (state, numbers)``.

    The arrays of the batches have the axes updates, `Settings.accumulate` and rows of a batch, then
    those of rows. The numbers of steps are a dict of (updates, accumulate) arrays. The memory of
    the state that is given is used again.
    """

    def losses(params: Any, batch: Batch) -> Array:
        logits = nnx.merge(graph, params)(batch.tokens[:, :-1])
        return token_nll(logits, batch.tokens[:, 1:])

    def sums(params: Any, batch: Batch) -> tuple[Sums, Sums]:
        """Sums with all protected rows, and with those that CE_1 is of."""
        nll = losses(params, batch)
        of_all = sum_tokens(nll, batch.mask, batch.protected)
        own = batch.of_target
        return of_all, of_all if own is None else sum_tokens(nll, batch.mask, own)

    def loss(params: Any, batch: Batch, gamma: Array, estimate: Estimate) -> Any:
        of_all, own = sums(params, batch)
        terms = weigh(own, gamma, estimate)
        value = weighted_loss(of_all, terms.weight, of_all.num_tokens)  # for its gradient
        return value, (terms, _means(of_all, own))

    def part(params: Any, batch: Batch, weight: Array, num_tokens: Array) -> Any:
        of_all, own = sums(params, batch)
        return weighted_loss(of_all, weight, num_tokens), (of_all, own)

    def accumulated(params: Any, batches: Batch, gamma: Array, estimate: Estimate) -> Any:
        """Gradient and terms of one batch of all the rows, and the sums of each step's rows."""

        def add(total: Any, batch: Batch) -> Any:
            gradient, of_part = jax.grad(part, has_aux=True)(params, batch, weight, num_tokens)
            added = jax.tree_util.tree_map(lambda a, b: a + b.astype(a.dtype), total, gradient)
            return added, of_part

        weight, num_tokens = jnp.ones(()), jnp.sum(batches.mask)
        if settings.is_protected:
            apart = jax.lax.map(lambda batch: sums(params, batch)[1], batches)
            weight = weigh(_joined(apart), gamma, estimate).weight
        zeros = jax.tree_util.tree_map(
            lambda leaf: jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)), params
        )
        total, apart = jax.lax.scan(add, zeros, batches)
        gradient = jax.tree_util.tree_map(lambda a, b: a.astype(b.dtype), total, params)
        return gradient, weigh(_joined(apart[1]), gamma, estimate), _means(*apart)

    def update(state: State, batches: Batch) -> tuple[State, dict[str, Array]]:
        gamma = jnp.asarray(settings.gamma, jnp.float32)
        if settings.target_loss is not None:
            gamma = raised_gamma(state.estimate, settings.target_loss)
        if settings.accumulate == 1:
            batch = jax.tree_util.tree_map(lambda array: array[0], batches)
            gradient, (terms, means) = jax.grad(loss, has_aux=True)(
                state.params, batch, gamma, state.estimate
            )
        else:
            gradient, terms, means = accumulated(state.params, batches, gamma, state.estimate)
        updates, memory = optimizer.update(gradient, state.memory, state.params)
        params = optax.apply_updates(state.params, updates)
        numbers = dict(zip(("cross_entropy", "protected", "unprotected"), means, strict=True)) | {
            "penalty": terms.penalty,
            "weight": terms.weight,
            "gamma": gamma,
            "running_protected": terms.estimate.protected_loss,
            "gradient_norm": optax.tree.norm(gradient),
        }
        numbers = {k: jnp.broadcast_to(v, settings.accumulate) for k, v in numbers.items()}
        step = state.step + settings.accumulate
        return State(params, memory, terms.estimate, step), numbers

    # Several steps a call: XLA on CPU maps its memory anew at each, a third of the time of a step.
    return jax.jit(lambda state, batches: jax.lax.scan(update, state, batches), donate_argnums=0)


def _means(of_all: Sums, own: Sums) -> tuple[Any, Any, Any]:
    """Cross-entropies of all tokens, of the protected ones that CE_1 is of, and of open ones."""
    everything, _, unprotected = of_all.means()
    return everything, own.means()[1], unprotected


def _joined(apart: Sums) -> Sums:
    return Sums(*(jnp.sum(column, axis=0) for column in apart))
