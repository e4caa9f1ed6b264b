"""Unlearning of text by a language model that was trained on it.

By gradient ascent, or by negative preference optimization (NPO; Zhang et al., 2024), with the loss
of other text in it ("+ retain") or without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.models.layers import token_nll

RATES, STEPS = (3e-5, 1e-4, 3e-4), (8, 32, 128)
"""Learning rates of unlearning, and the steps after which a model is measured."""
FORGOTTEN = 8
"""Number of documents in a step of unlearning, and of others that are retained."""
UNLEARNING = ("ascent", "ascent + retain", "NPO", "NPO + retain")
BETA = 0.1
"""Parameter of NPO that says how soon a text counts as forgotten."""


def whole_documents(rows: Rows, chosen: NDArray[np.bool_]) -> tuple[Any, Any]:
    """Tokens and mask of the chosen documents, (documents, rows of each, ...), filled up."""
    numbers = np.flatnonzero(chosen)
    most = int(np.bincount(rows.document)[numbers].max())
    tokens = np.zeros((len(numbers), most, rows.tokens.shape[1]), np.int32)
    mask = np.zeros((len(numbers), most, rows.mask.shape[1]), bool)
    for k, number in enumerate(numbers):
        mine = rows.document == number
        tokens[k, : mine.sum()], mask[k, : mine.sum()] = rows.tokens[mine], rows.mask[mine]
    return tokens, mask


def unlearn(
    model: Any, forget: Any, retain: Any, method: str, rate: float, seed: int
) -> Iterator[tuple[int, Any]]:
    """Yield the model after each number of STEPS; forget and retain are `whole_documents`."""
    graph, params = nnx.split(model)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def losses(params: Any, batch: Any) -> Any:
        """Sums of the documents, and the number of all targets."""
        tokens, mask = (array.reshape(-1, array.shape[-1]) for array in batch)
        nll = token_nll(nnx.merge(graph, params)(tokens[:, :-1]), tokens[:, 1:])
        return jnp.where(mask, nll, 0).reshape(FORGOTTEN, -1).sum(axis=1), mask.sum()

    def objective(params: Any, first: Any, forgotten: Any, retained: Any) -> Any:
        nll, count = losses(params, forgotten)
        if method.startswith("NPO"):
            gained = nll - losses(first, forgotten)[0]
            value = -2 / BETA * jnp.mean(jax.nn.log_sigmoid(BETA * gained))
        else:
            value = -nll.sum() / count
        if method.endswith("retain"):
            nll, count = losses(params, retained)
            value += nll.sum() / count
        return value

    @jax.jit
    def step(params: Any, memory: Any, first: Any, forgotten: Any, retained: Any) -> Any:
        gradient = jax.grad(objective)(params, first, forgotten, retained)
        updates, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, updates), memory

    rng, first, memory = np.random.default_rng(seed), params, optimizer.init(params)
    for number in range(1, STEPS[-1] + 1):
        batches = []
        for arrays in (forget, retain):
            drawn = rng.choice(len(arrays[0]), FORGOTTEN, replace=False)
            batches.append(tuple(array[drawn] for array in arrays))
        params, memory = step(params, memory, first, *batches)
        if number in STEPS:
            yield number, nnx.merge(graph, params)
