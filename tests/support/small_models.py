"""Models and tokens for tests: no parameter is at a value where a mistake would not show."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.llama import Llama


class Bigram(nnx.Module):
    """The next token depends on the last one alone: logits are a row of a table."""

    def __init__(self, table):
        self.table = nnx.Param(jnp.asarray(table, jnp.float32))

    def __call__(self, tokens):
        return self.table[...][tokens]

    def empty_cache(self, batch, room):
        return ()

    def extend(self, tokens, cache):
        return self(tokens[:, -1:])[:, 0], cache


def perturbed(config, seed=0, dtype=jnp.float32, scale=0.2):
    """No bias is zero and no norm one, and weights are so large that each part counts."""
    kind = GPT2 if isinstance(config, GPT2Config) else Llama
    model = kind(config, nnx.Rngs(seed), dtype)
    rng = np.random.default_rng(seed)
    noise = lambda x: x + jnp.asarray(rng.normal(scale=scale, size=x.shape), jnp.float32)  # noqa: E731
    nnx.update(model, jax.tree.map(noise, nnx.state(model, nnx.Param)))
    return model


def some_tokens(shape, seed=1, vocab_size=101):
    return jnp.asarray(np.random.default_rng(seed).integers(0, vocab_size, shape))


def hf_logits(model, tokens):
    """Of a model of transformers."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(np.array(tokens))).logits.numpy()
