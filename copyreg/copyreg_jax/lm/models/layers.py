"""What language models are made of: configurations, products, attention, losses of tokens.

The layers here and in the models are not those of flax.nnx, for two reasons. Parameters have the
names and shapes of Hugging Face checkpoints (``weight``, and (out, in) for Llama), so that a path
in the model is a name in a file; flax calls them ``kernel``, ``scale`` and ``embedding``. Products
go through `product`, whose gradient has barriers that nearly halve its time on CPU. So a layer is
a few lines here, with statistics in float32 and no parameters but those of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from copyreg_jax.errors import InputError

__all__ = [
    "Embedding",
    "KeysValues",
    "attend",
    "check_dtype",
    "check_positive",
    "check_sizes",
    "check_tokens",
    "product",
    "random_weights",
    "read_sizes",
    "remember",
    "token_nll",
    "vocabulary_size",
]


def check_sizes(config: Any, names: Iterable[str]) -> None:
    """Refuse a configuration unless its sizes are positive integers and its epsilon is positive."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r:.40}; give a positive integer")
    check_positive("epsilon", config.epsilon)


def check_positive(name: str, value: Any, least: float = 2.0**-126) -> None:
    """Refuse a value unless it is a number of at least ``least`` in the range of float32."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value < 2.0**128:
        raise InputError(f"{name} is {value!r:.40}; give a positive number in the range of float32")


def read_sizes(
    content: Mapping[str, Any], sizes: Mapping[str, str], fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """Read the sizes in a config.json, which may only ask for what the model implements.

    Parameters
    ----------
    content : mapping
    sizes : mapping
        Names in the file, by the names of our fields.
    fixed : mapping
        The values that the model implements; a file may leave these keys out.

    Raises
    ------
    InputError
        A size is missing, or the file asks for something else.

    Examples
    --------
    >>> content = {"model_type": "gpt2", "n_embd": 8, "n_head": 3}
    >>> read_sizes(content, {"width": "n_embd"}, {"model_type": "gpt2"})
    {'width': 8}
    >>> read_sizes(content, {"width": "n_embd"}, {"n_head": 2})
    Traceback (most recent call last):
        ...
    copyreg_jax.errors.InputError: n_head is 3, which is not implemented; give a model with 2
    """
    for name, value in fixed.items():
        if content.get(name, None if name == "model_type" else value) != value:
            raise InputError(
                f"{name} is {content.get(name)!r}, which is not implemented; give a model with "
                f"{value!r}"
            )
    missing = [theirs for theirs in sizes.values() if theirs not in content]
    if missing:
        raise InputError(f"{missing[0]} is missing; give a whole config.json")
    return {ours: content[theirs] for ours, theirs in sizes.items()}


def check_dtype(dtype: Any) -> Any:
    """Return the dtype of products, and refuse all but float32 and bfloat16."""
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        raise InputError(f"dtype is {jnp.dtype(dtype)}; give float32 or bfloat16")
    return jnp.dtype(dtype)


def check_tokens(tokens: Int[Array, "batch length"], context: int) -> None:
    """Refuse tokens unless they are a batch of integers that fits into the context."""
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise InputError(
            f"tokens have dtype {tokens.dtype} and shape {tokens.shape}; give integers of "
            "shape (batch, length)"
        )
    if tokens.shape[1] > context:
        raise InputError(
            f"tokens have length {tokens.shape[1]}, but the model has {context} positions; cut them"
        )


def vocabulary_size(model: nnx.Module) -> int:
    """Return the number of logits of a token, without computing any."""
    graph, params = nnx.split(model)
    some = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    logits = jax.eval_shape(lambda p, tokens: nnx.merge(graph, p)(tokens), params, some)
    return int(logits.shape[-1])


class Embedding(nnx.Module):
    """A vector for each token; ``weight`` is (size, width)."""

    def __init__(self, size: int, width: int, rngs: nnx.Rngs, scale: float) -> None:
        self.weight = random_weights(rngs, (size, width), scale)


def random_weights(rngs: nnx.Rngs, shape: tuple[int, int], scale: float) -> nnx.Param[Array]:
    """Random weights in float32."""
    return nnx.Param(scale * jax.random.normal(rngs.params(), shape, jnp.float32))


class KeysValues(NamedTuple):
    """Keys and values that a layer has computed, in arrays with room for more.

    Attributes
    ----------
    keys, values : (batch, room, heads, size) arrays
    place : () int32 array
        Number of positions that are filled.
    """

    keys: Array
    values: Array
    place: Array

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int], dtype: Any) -> KeysValues:
        """Arrays of a shape with nothing in them yet."""
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.int32(0))


def remember(
    k: Array, v: Array, cache: KeysValues | None
) -> tuple[Array, Array, Array | None, KeysValues | None]:
    """Put new keys and values behind those of a cache; returns all of them and the old place."""
    if cache is None:
        return k, v, None, None
    put = jax.lax.dynamic_update_slice_in_dim
    keys, values = put(cache.keys, k, cache.place, 1), put(cache.values, v, cache.place, 1)
    return keys, values, cache.place, KeysValues(keys, values, cache.place + k.shape[1])


def attend(
    q: Float[Array, "batch length heads size"],
    k: Float[Array, "batch room heads size"],
    v: Float[Array, "batch room heads size"],
    place: Int[Array, ""] | None = None,
) -> Float[Array, "batch length width"]:
    """Causal attention: each position mixes the values of those before it and its own.

    The first query is at position ``place``; without it, room is length and the place 0.
    """
    length = q.shape[1]
    # Written out: the gradient of jax.nn.dot_product_attention is a tenth slower on CPU.
    scores = jnp.einsum(
        "bthd,bshd->bhts", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32
    )
    if place is None:
        seen = jnp.tril(jnp.ones((length, length), bool))
    else:
        own, all_places = (jnp.arange(size, dtype=place.dtype) for size in (length, k.shape[1]))
        seen = all_places[None] <= (place + own)[:, None]
    weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -jnp.inf), axis=-1)
    mixed = jnp.einsum("bhts,bshd->bthd", weights.astype(v.dtype), v)
    return mixed.reshape(*mixed.shape[:2], -1)


def _matmul(x: Array, weight: Array, dtype: Any) -> Array:
    return jnp.einsum("bti,io->bto", x, weight, preferred_element_type=dtype)


product = jax.custom_vjp(_matmul, nondiff_argnums=(2,))
"""``x @ weight`` in ``dtype``. XLA's own gradient would compute each operand anew, transposed."""


def _product_forward(x: Array, weight: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    return _matmul(x, weight, dtype), (x, weight)


def _product_backward(
    dtype: Any, saved: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    # The barriers keep what comes before and after out of the products, which nearly halves the
    # time of a gradient on CPU. Without them it is merged into their inner loops.
    barrier = jax.lax.optimization_barrier
    x, cotangent = barrier((saved[0], cotangent.astype(saved[0].dtype)))
    of_weight = x.reshape(-1, x.shape[-1]).T @ cotangent.reshape(-1, cotangent.shape[-1])
    return barrier((cotangent @ saved[1].T, of_weight))


product.defvjp(_product_forward, _product_backward)


def token_nll(
    logits: Float[Array, "batch length vocab_size"], targets: Int[Array, "batch length"]
) -> Float[Array, "batch length"]:
    """Compute the negative log-likelihoods of the targets in nats, in float32.

    Parameters
    ----------
    logits : (batch, length, vocab_size) array
    targets : (batch, length) array of integers in [0, vocab_size)
        For a language model these are the tokens moved on by one.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from copyreg_jax.lm.models.layers import token_nll
    >>> token_nll(jnp.zeros((1, 1, 2)), jnp.array([[1]])).round(3)
    Array([[0.693]], dtype=float32)
    """
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)
    # The largest is taken off before anything is rounded; it has no part in the result.
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    total = jnp.sum(jnp.exp(logits - largest), axis=-1)
    return jnp.log(total) - (picked - largest)[..., 0]
