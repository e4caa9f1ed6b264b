"""Llama as a flax ``nnx`` module: SmolLM2 and other models of its type with a tied head."""

from __future__ import annotations

import dataclasses
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
    check_positive,
    check_sizes,
    check_tokens,
    product,
    random_weights,
    read_sizes,
    remember,
)

__all__ = ["Llama", "LlamaConfig"]

_SIZES = {
    "vocab_size": "vocab_size",
    "context": "max_position_embeddings",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "mlp_width": "intermediate_size",
}
"""Fields of `LlamaConfig` by their names in a config.json."""

_FIXED = {
    "model_type": "llama",
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
}
"""Values in a config.json that this model implements; it refuses others."""

_SCALE = 0.02


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a `Llama`.

    Parameters
    ----------
    vocab_size : int
        Number of tokens.
    context : int
        Length of the longest input.
    width : int
        Width of the residual stream, an even multiple of num_heads.
    num_layers, num_heads : int
        Number of layers and of query heads.
    num_kv_heads : int
        Number of heads of keys and values, a divisor of num_heads; queries share them evenly.
    mlp_width : int
        Hidden width of the MLP.
    epsilon : float
        Added to the mean squares in the norms.
    rope_theta : float
        Base of the rotary positions: entry j of a half turns by ``theta^(-j / half)`` a position.

    Raises
    ------
    InputError
        A size is not a positive integer, or sizes don't fit together.

    Examples
    --------
    >>> config = LlamaConfig(
    ...     vocab_size=9, context=8, width=8, num_layers=1, num_heads=2, num_kv_heads=1, mlp_width=4
    ... )
    >>> config.to_json()["hidden_size"], LlamaConfig.from_json(config.to_json()) == config
    (8, True)
    """

    vocab_size: int
    context: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    mlp_width: int
    epsilon: float = 1e-5
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        check_sizes(self, _SIZES)
        check_positive("rope_theta", self.rope_theta, least=1.0)
        if self.width % (2 * self.num_heads):
            raise InputError(
                f"width {self.width} is not divisible by 2 num_heads = {2 * self.num_heads}; each "
                "head gets the same even share, so give a multiple"
            )
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_heads {self.num_heads} is not divisible by num_kv_heads "
                f"{self.num_kv_heads}; as many queries share each, so give a divisor"
            )

    def to_json(self) -> dict[str, Any]:
        """The content of a Hugging Face config.json."""
        sizes = {theirs: getattr(self, ours) for ours, theirs in _SIZES.items()}
        rope = {"rope_theta": self.rope_theta, "rope_type": "default"}
        no_ends = dict.fromkeys(("bos_token_id", "eos_token_id"))
        rest = {
            "architectures": ["LlamaForCausalLM"],
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.rope_theta,  # where transformers before 5 looks for it
            "rope_parameters": rope,
        }
        return {**_FIXED, **sizes, **rest, **no_ends}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Sizes from the content of a config.json.

        Raises
        ------
        InputError
            A size is missing, or the file describes what `Llama` does not implement.
        """
        if content.get("num_key_value_heads") is None:
            # As in Llama 1: each query has keys and values of its own.
            content = {**content, "num_key_value_heads": content.get("num_attention_heads")}
        sizes = read_sizes(content, _SIZES, _FIXED)
        theta = content.get("rope_theta", 10000.0)
        for name in ("rope_parameters", "rope_scaling"):
            rope = content.get(name) or {}
            kinds = (
                [rope.get(k) for k in ("rope_type", "type")] if isinstance(rope, dict) else [rope]
            )
            if any(kind not in (None, "default") for kind in kinds):
                raise InputError(f"{name} is {rope!r:.60}, which is not implemented")
            theta = rope.get("rope_theta", theta)
        config = cls(**sizes, epsilon=content.get("rms_norm_eps", 1e-6), rope_theta=theta)
        share = config.width // config.num_heads
        if content.get("head_dim") not in (None, share):
            raise InputError(
                f"head_dim is {content['head_dim']!r}, which is not implemented; give a model "
                f"with hidden_size / num_attention_heads = {share}, or null"
            )
        return config


class Llama(nnx.Module):
    """Llama: maps tokens to the logits of the token after each.

    The token embedding is also the head. Parameters are float32, named and shaped (out, in) as in a
    Hugging Face checkpoint. A gradient is taken in reverse mode, as that of `gpt2.GPT2`.

    Parameters
    ----------
    config : LlamaConfig
    rngs : nnx.Rngs, optional
        Seeds of the parameters, ``nnx.Rngs(0)`` if not given.
    dtype : dtype, optional
        Dtype of the products, float32 or bfloat16. Norms, positions, softmax and logits stay
        float32.

    Notes
    -----
    Padding at the right end of a row needs no mask, as in `gpt2.GPT2`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from copyreg_jax.lm.models.llama import Llama, LlamaConfig
    >>> config = LlamaConfig(
    ...     vocab_size=50, context=16, width=8, num_layers=2, num_heads=2, num_kv_heads=1,
    ...     mlp_width=12,
    ... )
    >>> Llama(config)(jnp.array([[3, 1, 4], [1, 5, 9]])).shape
    (2, 3, 50)
    """

    def __init__(
        self, config: LlamaConfig, rngs: nnx.Rngs | None = None, dtype: Any = jnp.float32
    ) -> None:
        rngs = nnx.Rngs(0) if rngs is None else rngs
        self.config = config
        self.dtype = check_dtype(dtype)
        self.embed_tokens = Embedding(config.vocab_size, config.width, rngs, _SCALE)
        self.layers = nnx.List([_Block(config, rngs) for _ in range(config.num_layers)])
        self.norm = _RMSNorm(config)

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
        places = jnp.arange(tokens.shape[1], dtype=jnp.float32)
        return self._logits(self._blocks(tokens, places, [None] * len(self.layers))[0])

    def empty_cache(self, batch: int, room: int) -> list[KeysValues]:
        """A cache for `extend`, with room for so many tokens; at most the context."""
        size = self.config.width // self.config.num_heads
        shape = (batch, room, self.config.num_kv_heads, size)
        return [KeysValues.empty(shape, self.dtype) for _ in self.layers]

    def extend(
        self, tokens: Int[Array, "batch length"], cache: list[KeysValues]
    ) -> tuple[Float[Array, "batch vocab_size"], list[KeysValues]]:
        """Compute the logits after tokens that follow those of a cache, which must have room."""
        places = (cache[0].place + jnp.arange(tokens.shape[1], dtype=jnp.int32)).astype(jnp.float32)
        x, extended = self._blocks(tokens, places, cache)
        return self._logits(x[:, -1:])[:, 0], extended

    def _blocks(self, tokens: Array, places: Array, cache: list[Any]) -> tuple[Array, list[Any]]:
        x, extended = self.embed_tokens.weight[...].astype(self.dtype)[tokens], []
        turn = _angles(places, self.config)
        for block, kept in zip(self.layers, cache, strict=True):
            x, longer = block(x, turn, kept)
            extended.append(longer)
        return x, extended

    def _logits(self, x: Array) -> Array:
        embedding = self.embed_tokens.weight[...].astype(self.dtype)
        return product(self.norm(x), embedding.T, jnp.float32)


class _RMSNorm(nnx.Module):
    def __init__(self, config: LlamaConfig) -> None:
        self.epsilon = config.epsilon
        self.weight = nnx.Param(jnp.ones(config.width, jnp.float32))

    def __call__(self, x: Array) -> Array:
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        scaled = wide * jax.lax.rsqrt(mean_square + self.epsilon)
        return (scaled * self.weight[None, None]).astype(x.dtype)


class _Linear(nnx.Module):
    """Weights of shape (out, in), without bias."""

    def __init__(self, fan_in: int, fan_out: int, rngs: nnx.Rngs) -> None:
        self.weight = random_weights(rngs, (fan_out, fan_in), _SCALE)

    def __call__(self, x: Array) -> Array:
        return product(x, self.weight[...].T.astype(x.dtype), x.dtype)


class _Attention(nnx.Module):
    def __init__(self, config: LlamaConfig, rngs: nnx.Rngs) -> None:
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        kv_width = config.width // config.num_heads * config.num_kv_heads
        self.q_proj = _Linear(config.width, config.width, rngs)
        self.k_proj = _Linear(config.width, kv_width, rngs)
        self.v_proj = _Linear(config.width, kv_width, rngs)
        self.o_proj = _Linear(config.width, config.width, rngs)

    def __call__(
        self, x: Array, turn: tuple[Array, Array], cache: KeysValues | None
    ) -> tuple[Array, KeysValues | None]:
        batch, length, width = x.shape
        size, shared = width // self.num_heads, self.num_heads // self.num_kv_heads
        q = self.q_proj(x).reshape(batch, length, self.num_heads, size)
        k = self.k_proj(x).reshape(batch, length, self.num_kv_heads, size)
        v = self.v_proj(x).reshape(batch, length, self.num_kv_heads, size)
        k, v, place, cache = remember(_turned(k, turn), v, cache)
        k, v = (jnp.repeat(part, shared, axis=2) for part in (k, v))
        return self.o_proj(attend(_turned(q, turn), k, v, place)), cache


class _MLP(nnx.Module):
    def __init__(self, config: LlamaConfig, rngs: nnx.Rngs) -> None:
        self.gate_proj = _Linear(config.width, config.mlp_width, rngs)
        self.up_proj = _Linear(config.width, config.mlp_width, rngs)
        self.down_proj = _Linear(config.mlp_width, config.width, rngs)

    def __call__(self, x: Array) -> Array:
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class _Block(nnx.Module):
    def __init__(self, config: LlamaConfig, rngs: nnx.Rngs) -> None:
        self.input_layernorm = _RMSNorm(config)
        self.self_attn = _Attention(config, rngs)
        self.post_attention_layernorm = _RMSNorm(config)
        self.mlp = _MLP(config, rngs)

    def __call__(
        self, x: Array, turn: tuple[Array, Array], cache: KeysValues | None
    ) -> tuple[Array, KeysValues | None]:
        mixed, cache = self.self_attn(self.input_layernorm(x), turn, cache)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), cache


def _angles(places: Array, config: LlamaConfig) -> tuple[Array, Array]:
    """Cosines and sines, (length, size / 2) each, by which positions turn queries and keys."""
    half = config.width // config.num_heads // 2
    rates = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = places[:, None] * rates[None]
    return jnp.cos(angles), jnp.sin(angles)


def _turned(x: Array, turn: tuple[Array, Array]) -> Array:
    """Entry j of the first half and entry j of the second are the plane that is turned."""
    cosine, sine = (part[None, :, None] for part in turn)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    parts = first * cosine - second * sine, second * cosine + first * sine
    return jnp.concatenate(parts, axis=-1).astype(x.dtype)
