"""Training with memorization sinks (MemSinks; Ghosal, Maini and Raghunathan, 2025, 2507.09937).

In each layer a share of the hidden neurons of the MLP are sinks; all other neurons are shared. A
hash of a document's text chooses some of the sinks. They are active while the document is trained
on, and no other sinks are, so what is learned from many copies of one text can gather in them.
After training all sinks are dropped. What is left is an ordinary GPT-2: the model to be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.hashing import hash_text
from copyreg_jax.lm.models.gpt2 import GPT2


class Sinks(NamedTuple):
    """The share of hidden neurons that are sinks, and the share of these for a document."""

    share: float
    active: float


def with_hashes(rows: Rows, texts: Sequence[str]) -> Rows:
    """Put the hash of its document before the tokens of each row; the first token is no target."""
    hashes = np.array([int(hash_text(text)[-7:], 16) for text in texts], np.int32)
    return rows._replace(
        tokens=np.concatenate([rows.per_row(hashes)[:, None], rows.tokens], axis=1),
        mask=np.pad(rows.mask, ((0, 0), (1, 0))),
    )


class WithSinks(nnx.Module):
    """A GPT-2 in which each document has its own sinks.

    It maps a document's hash and its tokens, from `with_hashes`, to logits of the next tokens;
    those after the hash are zeros.
    """

    def __init__(self, model: GPT2, sinks: Sinks) -> None:
        self.model = model
        self.num_hidden = 4 * model.config.width
        self.num_shared = self.num_hidden - round(sinks.share * self.num_hidden)
        self.active = sinks.active

    def __call__(self, tokens: Array) -> Array:
        """Logits (batch, length, vocabulary) for tokens (batch, length)."""
        logits = logits_of(self.model, tokens[:, 1:], self.neurons(tokens[:, 0]))
        return jnp.pad(logits, ((0, 0), (1, 0), (0, 0)))

    def neurons(self, hashes: Array) -> Array:
        """Which hidden neurons are active for documents with these hashes: (batch, layers, m)."""
        shape = len(self.model.h), self.num_hidden
        shared = jnp.arange(self.num_hidden) < self.num_shared

        def of_one(number: Array) -> Array:
            key = jax.random.fold_in(jax.random.key(0), number)
            return shared[None] | jax.random.bernoulli(key, self.active, shape)

        return jax.vmap(of_one)(hashes)

    def without_sinks(self) -> GPT2:
        """The model whose sinks are dropped: all weights into and out of them are 0."""
        dropped = nnx.clone(self.model)
        for block in dropped.h:
            into, out = block.mlp.c_fc, block.mlp.c_proj
            for param, sinks in (
                (into.weight, np.s_[:, self.num_shared :]), (into.bias, np.s_[self.num_shared :]),
                (out.weight, np.s_[self.num_shared :]),
            ):  # fmt: skip
                param.set_value(param[...].at[sinks].set(0))
        return dropped


def logits_of(model: GPT2, tokens: Array, neurons: Array) -> Array:
    """What the model computes with these hidden neurons alone, (batch, layers, m)."""
    x = model.wte.weight[...][tokens] + model.wpe.weight[...][None, : tokens.shape[1]]
    for number, block in enumerate(model.h):
        x = x + block.attn(block.ln_1(x), None)[0]
        hidden = jax.nn.gelu(block.mlp.c_fc(block.ln_2(x)), approximate=True)
        x = x + block.mlp.c_proj(hidden * neurons[:, number, None])
    return model._logits(x)
