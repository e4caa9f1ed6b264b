"""The losses of whole documents under a model."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import NDArray

from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.models.layers import token_nll, vocabulary_size

__all__ = ["document_losses"]

_ROWS, _LOGITS = 64, 2**25
"""The most rows and logits of one call of the model; 2^25 logits take 128 MiB."""


def document_losses(
    model: nnx.Module, rows: Rows, num_documents: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum the negative log-likelihoods of each document, and count its targets.

    Parameters
    ----------
    model : nnx.Module
    rows : Rows
    num_documents : int

    Returns
    -------
    nll : (num_documents,) array
        Sums in nats, added in float32 within a row and in float64 over rows.
    num_tokens : (num_documents,) array
        Number of targets.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.rows import cut_rows
    >>> class Next(nnx.Module):  # the token after k is k + 1, most likely
    ...     def __call__(self, tokens):
    ...         return 3 * jax.nn.one_hot(tokens + 1, 4)
    >>> parts = [np.array([0, 1, 2, 3], np.int32), np.array([3, 2, 1], np.int32)]
    >>> nll, counts = document_losses(Next(), cut_rows(parts, 2, np.array([3, 2])), 2)
    >>> nll.round(2).tolist(), counts.tolist()  # log(1 + 3 exp(-3)) = 0.139 for each right token
    ([0.42, 4.53], [3, 2])
    """
    graph, params = nnx.split(model)
    sums = np.zeros(num_documents)
    logits_of_row = rows.mask.shape[1] * vocabulary_size(model)
    size = max(1, min(_ROWS, _LOGITS // logits_of_row))
    for start in range(0, len(rows.tokens), size):
        part = slice(start, start + size)
        tokens, mask = rows.tokens[part], rows.mask[part]
        missing = size - len(tokens)  # filled up: one program for all parts
        padded = np.pad(tokens, ((0, missing), (0, 0))), np.pad(mask, ((0, missing), (0, 0)))
        with jax.default_matmul_precision("float32"):  # not TF32, where products are float32
            nll = np.asarray(_row_losses(graph, params, *padded), np.float64)
        np.add.at(sums, rows.document[part], nll[: len(tokens)])
    counts = np.bincount(rows.document, rows.mask.sum(axis=1), num_documents)
    return sums, counts.astype(np.int64)


@functools.partial(jax.jit, static_argnums=0)
def _row_losses(graph: Any, params: Any, tokens: Array, mask: Array) -> Array:
    nll = token_nll(nnx.merge(graph, params)(tokens[:, :-1]), tokens[:, 1:])
    return jnp.sum(jnp.where(mask, nll, 0), axis=1)
