"""GPT-2 as a flax ``nnx`` module."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from copyreg_jax.errors import InputError
from copyreg_jax.lm.models.layers import (
    Embedding,
    KeysValues,
    attend,
    check_dtype,
    check_sizes,
    check_tokens,
    product,
    random_weights,
    read_sizes,
    remember,
)

__all__ = ["GPT2", "GPT2Config"]

_SIZES = {
    "vocab_size": "vocab_size",
    "context": "n_positions",
    "width": "n_embd",
    "num_layers": "n_layer",
    "num_heads": "n_head",
}
"""Fields of `GPT2Config` by their names in a config.json."""

_FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
"""Values in a config.json that this model implements; it refuses others."""


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Sizes of a `GPT2`.

    Parameters
    ----------
    vocab_size : int
        Number of tokens.
    context : int
        Number of positions, which is the length of the longest input.
    width : int
        Width of the residual stream, a multiple of num_heads. The MLP is four times as wide.
    num_layers, num_heads : int
        Number of layers and of attention heads.
    epsilon : float
        Added to the variances in the layer norms.

    Raises
    ------
    InputError
        A size is not a positive integer, or sizes don't fit together.

    Examples
    --------
    >>> config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=2)
    >>> config.to_json()["n_embd"], GPT2Config.from_json(config.to_json()) == config
    (8, True)
    """

    vocab_size: int
    context: int
    width: int
    num_layers: int
    num_heads: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_sizes(self, _SIZES)
        if self.width % self.num_heads:
            raise InputError(
                f"width {self.width} is not divisible by num_heads {self.num_heads}; each head "
                "gets the same share, so give a multiple"
            )

    def to_json(self) -> dict[str, Any]:
        """The content of a Hugging Face config.json."""
        sizes = {theirs: getattr(self, ours) for ours, theirs in _SIZES.items()}
        no_dropout = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
        # Where they are left out, transformers puts the end of text of GPT-2's own vocabulary.
        no_ends = dict.fromkeys(("bos_token_id", "eos_token_id"))
        rest = {"architectures": ["GPT2LMHeadModel"], "layer_norm_epsilon": self.epsilon}
        return {**_FIXED, **rest, **sizes, **no_dropout, **no_ends, "n_inner": None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Sizes from the content of a config.json.

        Raises
        ------
        InputError
            A size is missing, or the file describes what `GPT2` does not implement.
        """
        sizes = read_sizes(content, _SIZES, _FIXED)
        config = cls(**sizes, epsilon=content.get("layer_norm_epsilon", 1e-5))
        if content.get("n_inner") not in (None, 4 * config.width):
            raise InputError(
                f"n_inner is {content['n_inner']!r}, which is not implemented; give a "
                f"model with 4 * n_embd = {4 * config.width}, or null"
            )
        return config


class GPT2(nnx.Module):
    """GPT-2 without dropout: maps tokens to the logits of the token after each.

    The token embedding is also the head. Parameters are float32, named as in a Hugging Face
    checkpoint. A gradient is taken in reverse mode; ``jax.jvp`` of the model alone is refused by
    JAX.

    Parameters
    ----------
    config : GPT2Config
    rngs : nnx.Rngs, optional
        Seeds of the parameters, ``nnx.Rngs(0)`` if not given. Initialized like GPT-2.
    dtype : dtype, optional
        Dtype of the products, float32 or bfloat16. Layer norms, softmax and logits stay float32.

    Notes
    -----
    A token sees itself and those before it. So padding at the right end of a row changes no logits
    before it and needs no mask: leave its own losses out of the mean of `token_nll`.

    On CPU a third of a training step of a small model is spent on mapping fresh memory; a
    ``jax.lax.scan`` over several steps in one jitted call saves that.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> model = GPT2(GPT2Config(vocab_size=50, context=16, width=8, num_layers=2, num_heads=2))
    >>> model(jnp.array([[3, 1, 4], [1, 5, 9]])).shape
    (2, 3, 50)
    """

    def __init__(
        self, config: GPT2Config, rngs: nnx.Rngs | None = None, dtype: Any = jnp.float32
    ) -> None:
        rngs = nnx.Rngs(0) if rngs is None else rngs
        self.config = config
        self.dtype = check_dtype(dtype)
        self.wte = Embedding(config.vocab_size, config.width, rngs, 0.02)
        self.wpe = Embedding(config.context, config.width, rngs, 0.01)
        self.h = nnx.List([_Block(config, rngs) for _ in range(config.num_layers)])
        self.ln_f = _LayerNorm(config)

    def __call__(
        self, tokens: Int[Array, "batch length"]
    ) -> Float[Array, "batch length vocab_size"]:
        """Compute logits in float32, for tokens in [0, vocab_size).

        Raises
        ------
        InputError
            Tokens are not integers of shape (batch, length), or are longer than the context.
        """
        check_tokens(tokens, self.config.context)
        places = self.wpe.weight[...].astype(self.dtype)[: tokens.shape[1]]
        return self._logits(self._blocks(tokens, places, [None] * len(self.h))[0])

    def empty_cache(self, batch: int, room: int) -> list[KeysValues]:
        """A cache for `extend`, with room for so many tokens; at most the context."""
        size = self.config.width // self.config.num_heads
        shape = (batch, room, self.config.num_heads, size)
        return [KeysValues.empty(shape, self.dtype) for _ in self.h]

    def extend(
        self, tokens: Int[Array, "batch length"], cache: list[KeysValues]
    ) -> tuple[Float[Array, "batch vocab_size"], list[KeysValues]]:
        """Compute the logits after tokens that follow those of a cache, which must have room."""
        weight = self.wpe.weight[...].astype(self.dtype)
        places = jax.lax.dynamic_slice_in_dim(weight, cache[0].place, tokens.shape[1])
        x, extended = self._blocks(tokens, places, cache)
        return self._logits(x[:, -1:])[:, 0], extended

    def _blocks(self, tokens: Array, places: Array, cache: list[Any]) -> tuple[Array, list[Any]]:
        x, extended = self.wte.weight[...].astype(self.dtype)[tokens] + places[None], []
        for block, kept in zip(self.h, cache, strict=True):
            x, longer = block(x, kept)
            extended.append(longer)
        return x, extended

    def _logits(self, x: Array) -> Array:
        embedding = self.wte.weight[...].astype(self.dtype)
        return product(self.ln_f(x), embedding.T, jnp.float32)


class _LayerNorm(nnx.Module):
    def __init__(self, config: GPT2Config) -> None:
        self.epsilon = config.epsilon
        self.weight = nnx.Param(jnp.ones(config.width, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(config.width, jnp.float32))

    def __call__(self, x: Array) -> Array:
        centered = x.astype(jnp.float32)
        centered = centered - jnp.mean(centered, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
        scaled = centered * jax.lax.rsqrt(variance + self.epsilon)
        return (scaled * self.weight[None, None] + self.bias[None, None]).astype(x.dtype)


class _Linear(nnx.Module):
    """Weights of shape (in, out), as Hugging Face stores those of GPT-2."""

    def __init__(self, fan_in: int, fan_out: int, rngs: nnx.Rngs, scale: float = 0.02) -> None:
        self.weight = random_weights(rngs, (fan_in, fan_out), scale)
        self.bias = nnx.Param(jnp.zeros(fan_out, jnp.float32))

    def __call__(self, x: Array) -> Array:
        mapped = product(x, self.weight[...].astype(x.dtype), x.dtype)
        return mapped + self.bias[None, None].astype(x.dtype)


class _Attention(nnx.Module):
    def __init__(self, config: GPT2Config, rngs: nnx.Rngs) -> None:
        width = config.width
        self.num_heads = config.num_heads
        self.c_attn = _Linear(width, 3 * width, rngs)
        self.c_proj = _Linear(width, width, rngs, _residual_scale(config))

    def __call__(self, x: Array, cache: KeysValues | None) -> tuple[Array, KeysValues | None]:
        batch, length, width = x.shape
        heads = (batch, length, self.num_heads, width // self.num_heads)
        q, k, v = (part.reshape(heads) for part in jnp.split(self.c_attn(x), 3, axis=-1))
        k, v, place, cache = remember(k, v, cache)
        return self.c_proj(attend(q, k, v, place)), cache


class _MLP(nnx.Module):
    def __init__(self, config: GPT2Config, rngs: nnx.Rngs) -> None:
        self.c_fc = _Linear(config.width, 4 * config.width, rngs)
        self.c_proj = _Linear(4 * config.width, config.width, rngs, _residual_scale(config))

    def __call__(self, x: Array) -> Array:
        return self.c_proj(jax.nn.gelu(self.c_fc(x), approximate=True))


class _Block(nnx.Module):
    def __init__(self, config: GPT2Config, rngs: nnx.Rngs) -> None:
        self.ln_1 = _LayerNorm(config)
        self.attn = _Attention(config, rngs)
        self.ln_2 = _LayerNorm(config)
        self.mlp = _MLP(config, rngs)

    def __call__(self, x: Array, cache: KeysValues | None) -> tuple[Array, KeysValues | None]:
        mixed, cache = self.attn(self.ln_1(x), cache)
        x = x + mixed
        return x + self.mlp(self.ln_2(x)), cache


def _residual_scale(config: GPT2Config) -> float:
    """So that the variance of the residual stream does not grow with the number of layers."""
    return 0.02 / math.sqrt(2 * config.num_layers)
