"""GPT-2 as a flax `nnx` module, in files of the Hugging Face layout."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax
import safetensors.numpy
from flax import nnx
from jaxtyping import Array, Float, Int

from copyreg_jax.errors import InputError
from copyreg_jax.files import write_whole

_PREFIX = "transformer."
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
"""What this model implements of what a config.json may ask for."""
_BUFFER = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
"""Causal masks, which old checkpoints hold beside the parameters."""


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Sizes of a `GPT2`.

    Parameters
    ----------
    vocab_size : int
        Number of tokens.
    context : int
        Number of positions: the longest input.
    width : int
        Entries of the residual stream; a multiple of num_heads. The MLP is four times as wide.
    num_layers, num_heads : int
    epsilon : float
        Added to the variances in the layer norms.

    Raises
    ------
    InputError
        A size that is no positive integer, or sizes that don't fit together.
    """

    vocab_size: int
    context: int
    width: int
    num_layers: int
    num_heads: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}; give a positive integer")
        if self.width % self.num_heads:
            raise InputError(
                f"width {self.width} is not divisible by num_heads {self.num_heads}; each head "
                "gets the same share, so give a multiple"
            )
        number = isinstance(self.epsilon, int | float) and not isinstance(self.epsilon, bool)
        if not number or not 0 < self.epsilon < math.inf:
            raise InputError(f"epsilon is {self.epsilon!r}; give a positive number")

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
        for name, value in _FIXED.items():
            if content.get(name, None if name == "model_type" else value) != value:
                raise InputError(
                    f"{name} is {content.get(name)!r}, which this GPT-2 does not implement; "
                    f"give a model with {value!r}"
                )
        missing = [theirs for theirs in _SIZES.values() if theirs not in content]
        if missing:
            raise InputError(f"{missing[0]} is missing; give the config.json of a GPT-2")
        epsilon = content.get("layer_norm_epsilon", 1e-5)
        config = cls(**{ours: content[name] for ours, name in _SIZES.items()}, epsilon=epsilon)
        if content.get("n_inner") not in (None, 4 * config.width):
            raise InputError(
                f"n_inner is {content['n_inner']!r}, which this GPT-2 does not implement; "
                f"give a model with 4 * n_embd = {4 * config.width}, or null"
            )
        return config


class GPT2(nnx.Module):
    """GPT-2: tokens to the logits of the token after each. Without dropout.

    The token embedding is the head too. Parameters are float32, named as in a Hugging Face
    checkpoint. A gradient is taken in reverse mode; ``jax.jvp`` of the model alone is refused by
    JAX.

    Parameters
    ----------
    config : GPT2Config
    rngs : nnx.Rngs, optional
        Seeds of the parameters, ``nnx.Rngs(0)`` if not given. Initialized like GPT-2.
    dtype : dtype, optional
        Of the products, float32 or bfloat16. Layer norms, softmax and logits stay float32.

    Notes
    -----
    A token sees itself and those before it. So tokens that fill up the right end of a row change
    no logits before them, and need no mask: leave their own out of the mean of `token_nll`.

    On CPU a third of a training step of a small model is spent on mapping fresh memory; a
    ``jax.lax.scan`` over several steps in one jitted call saves that.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from copyreg_jax.training.gpt2 import GPT2, GPT2Config
    >>> model = GPT2(GPT2Config(vocab_size=50, context=16, width=8, num_layers=2, num_heads=2))
    >>> model(jnp.array([[3, 1, 4], [1, 5, 9]])).shape
    (2, 3, 50)
    """

    def __init__(
        self, config: GPT2Config, rngs: nnx.Rngs | None = None, dtype: Any = jnp.float32
    ) -> None:
        if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
            raise InputError(f"dtype is {jnp.dtype(dtype)}; give float32 or bfloat16")
        rngs = nnx.Rngs(0) if rngs is None else rngs
        self.config = config
        self.dtype = jnp.dtype(dtype)
        self.wte = _Embedding(config.vocab_size, config.width, rngs, 0.02)
        self.wpe = _Embedding(config.context, config.width, rngs, 0.01)
        self.h = nnx.List([_Block(config, rngs) for _ in range(config.num_layers)])
        self.ln_f = _LayerNorm(config)

    def __call__(
        self, tokens: Int[Array, "batch length"]
    ) -> Float[Array, "batch length vocab_size"]:
        """Logits in float32, for tokens in [0, vocab_size).

        Raises
        ------
        InputError
            Tokens are no integers of shape (batch, length), or longer than the context.
        """
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise InputError(
                f"tokens have dtype {tokens.dtype} and shape {tokens.shape}; give integers of "
                "shape (batch, length)"
            )
        length = tokens.shape[1]
        if length > self.config.context:
            raise InputError(
                f"tokens have length {length}, but the model has {self.config.context} positions; "
                "cut them"
            )
        embedding = self.wte.weight[...].astype(self.dtype)
        x = embedding[tokens] + self.wpe.weight[...].astype(self.dtype)[None, :length]
        for block in self.h:
            x = block(x)
        return _product(self.ln_f(x), embedding.T, jnp.float32)


class _Embedding(nnx.Module):
    def __init__(self, size: int, width: int, rngs: nnx.Rngs, scale: float) -> None:
        self.weight = _normal(rngs, (size, width), scale)


class _LayerNorm(nnx.Module):
    def __init__(self, config: GPT2Config) -> None:
        self.epsilon = config.epsilon
        self.weight = nnx.Param(jnp.ones(config.width, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(config.width, jnp.float32))

    def __call__(self, x: Array) -> Array:
        centered = x.astype(jnp.float32)
        centered = centered - jnp.mean(centered, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
        normal = centered * jax.lax.rsqrt(variance + self.epsilon)
        return (normal * self.weight[None, None] + self.bias[None, None]).astype(x.dtype)


class _Linear(nnx.Module):
    """Weights of shape (in, out), as Hugging Face stores those of GPT-2."""

    def __init__(self, fan_in: int, fan_out: int, rngs: nnx.Rngs, scale: float = 0.02) -> None:
        self.weight = _normal(rngs, (fan_in, fan_out), scale)
        self.bias = nnx.Param(jnp.zeros(fan_out, jnp.float32))

    def __call__(self, x: Array) -> Array:
        product = _product(x, self.weight[...].astype(x.dtype), x.dtype)
        return product + self.bias[None, None].astype(x.dtype)


class _Attention(nnx.Module):
    def __init__(self, config: GPT2Config, rngs: nnx.Rngs) -> None:
        width = config.width
        self.num_heads = config.num_heads
        self.c_attn = _Linear(width, 3 * width, rngs)
        self.c_proj = _Linear(width, width, rngs, _residual_scale(config))

    def __call__(self, x: Array) -> Array:
        batch, length, width = x.shape
        heads = (batch, length, self.num_heads, width // self.num_heads)
        q, k, v = (part.reshape(heads) for part in jnp.split(self.c_attn(x), 3, axis=-1))
        q = q * heads[-1] ** -0.5
        # Written out: the gradient of jax.nn.dot_product_attention is a tenth slower on CPU.
        scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=jnp.float32)
        seen = jnp.tril(jnp.ones((length, length), bool))
        weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -jnp.inf), axis=-1)
        mixed = jnp.einsum("bhts,bshd->bthd", weights.astype(x.dtype), v)
        return self.c_proj(mixed.reshape(x.shape))


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

    def __call__(self, x: Array) -> Array:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


def _normal(rngs: nnx.Rngs, shape: tuple[int, int], scale: float) -> nnx.Param[Array]:
    return nnx.Param(scale * jax.random.normal(rngs.params(), shape, jnp.float32))


def _residual_scale(config: GPT2Config) -> float:
    """So that the variance of the residual stream does not grow with the number of layers."""
    return 0.02 / math.sqrt(2 * config.num_layers)


def _matmul(x: Array, weight: Array, dtype: Any) -> Array:
    return jnp.einsum("bti,io->bto", x, weight, preferred_element_type=dtype)


_product = jax.custom_vjp(_matmul, nondiff_argnums=(2,))
"""``x @ weight`` in ``dtype``. XLA's own gradient would compute each operand anew, transposed."""


def _product_forward(x: Array, weight: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    return _matmul(x, weight, dtype), (x, weight)


def _product_backward(
    dtype: Any, saved: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    # The barriers keep what comes before and after out of the products, which nearly halves the
    # time of a gradient on CPU: else it is merged into their inner loops.
    barrier = jax.lax.optimization_barrier
    x, cotangent = barrier((saved[0], cotangent.astype(saved[0].dtype)))
    of_weight = x.reshape(-1, x.shape[-1]).T @ cotangent.reshape(-1, cotangent.shape[-1])
    return barrier((cotangent @ saved[1].T, of_weight))


_product.defvjp(_product_forward, _product_backward)


def token_nll(
    logits: Float[Array, "batch length vocab_size"], targets: Int[Array, "batch length"]
) -> Float[Array, "batch length"]:
    """Negative log-likelihoods of the targets in nats, float32.

    Parameters
    ----------
    logits : (batch, length, vocab_size) array
    targets : (batch, length) array of integers in [0, vocab_size)
        For a language model, the tokens one further.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from copyreg_jax.training.gpt2 import token_nll
    >>> token_nll(jnp.zeros((1, 1, 2)), jnp.array([[1]])).round(3)
    Array([[0.693]], dtype=float32)
    """
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)
    # The largest is taken off before anything is rounded; it has no part in the result.
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    total = jnp.sum(jnp.exp(logits - largest), axis=-1)
    return jnp.log(total) - (picked - largest)[..., 0]


def save_gpt2(model: GPT2, folder: str | Path) -> None:
    """Write ``model.safetensors`` and ``config.json``, each whole or not at all.

    transformers reads the folder as a ``GPT2LMHeadModel``. The folder is made if it isn't there.

    Raises
    ------
    InputError
        The folder can't be made or written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {folder}: {error.strerror}") from None
    tensors = {
        _PREFIX + name: np.ascontiguousarray(variable[...])
        for name, variable in _by_name(nnx.state(model, nnx.Param)).items()
    }
    weights = safetensors.numpy.save(tensors, {"format": "pt"})  # transformers wants the format
    write_whole(folder / "model.safetensors", weights)
    config = json.dumps(model.config.to_json(), indent=2, sort_keys=True) + "\n"
    write_whole(folder / "config.json", config.encode())


def load_gpt2(folder: str | Path, dtype: Any = jnp.float32) -> GPT2:
    """The model in a folder that `save_gpt2` or transformers wrote, also in several files.

    Parameters
    ----------
    folder : path
        With config.json and model.safetensors, or the index of its parts.
    dtype : dtype, optional
        Of the products, see `GPT2`. Parameters are converted to float32, whatever they are stored
        in.

    Raises
    ------
    InputError
        A file is missing or damaged, or holds another model than its config.json says.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.training.gpt2 import GPT2, GPT2Config, load_gpt2, save_gpt2
    >>> config = GPT2Config(vocab_size=50, context=16, width=8, num_layers=2, num_heads=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_gpt2(GPT2(config), folder)
    ...     load_gpt2(folder).config == config
    True
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not there or no folder; give the folder of a GPT-2")
    content = _read_json(folder / "config.json")
    try:
        config = GPT2Config.from_json(content)
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from None
    tensors, path = _read_tensors(folder)
    # Shapes without values: no random numbers are drawn for parameters that are replaced.
    graph, state = nnx.split(nnx.eval_shape(lambda: GPT2(config, dtype=dtype)))
    head = tensors.pop("lm_head.weight", None)
    for name, variable in _by_name(state).items():
        if name not in tensors:
            raise InputError(
                f"{path}: tensor {name} is missing; the file is not of the model in config.json"
            )
        tensor = tensors.pop(name)
        if tensor.shape != variable.shape:
            raise InputError(
                f"{path}: tensor {name} has shape {tensor.shape}, but config.json says "
                f"{variable.shape}; give files that belong together"
            )
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise InputError(f"{path}: tensor {name} has dtype {tensor.dtype}; store float32")
        if name == "wte.weight" and head is not None and not np.array_equal(head, tensor):
            raise InputError(
                f"{path}: lm_head.weight differs from wte.weight; this GPT-2 has one for both, so "
                "give a model with tied embeddings"
            )
        tensor = jnp.asarray(tensor, jnp.float32)
        if not bool(jnp.isfinite(tensor).all()):
            raise InputError(
                f"{path}: tensor {name} has entries that are not finite; give a sound checkpoint"
            )
        variable.set_value(tensor)
    if tensors:
        raise InputError(
            f"{path}: tensor {min(tensors)} is of no GPT-2 with this config.json; remove it, or "
            "give files that belong together"
        )
    return nnx.merge(graph, state)


def _by_name(state: Any) -> dict[str, Any]:
    """The variables of a model's state by their Hugging Face names without the prefix."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"can't read {path}: {error.strerror}; give the folder of a GPT-2"
        ) from None
    except ValueError:
        raise InputError(f"{path} is not JSON; write or download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is JSON but no object; write or download it again")
    return content


def _read_tensors(folder: Path) -> tuple[dict[str, Array], Path]:
    """All parameters, by their names without the prefix, and the file to name in errors."""
    path, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if path.exists():
        parts = [path.name]
    elif index.exists():
        path, places = index, _read_json(index).get("weight_map")
        parts = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
        if not parts or any(Path(part).name != part for part in parts):
            raise InputError(f"{index} names no files in its weight_map; download it again")
    elif (folder / "pytorch_model.bin").exists():
        raise InputError(
            f"{folder} has pytorch_model.bin, a pickle, which is not read; convert it with "
            "transformers: save_pretrained writes model.safetensors"
        )
    else:
        raise InputError(f"{path} is not there; give the folder of a GPT-2")
    tensors: dict[str, Array] = {}
    for part in parts:
        try:
            stored = safetensors.flax.load_file(folder / part)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"can't read {folder / part}: {reason}; download it again") from None
        except safetensors.SafetensorError as error:
            raise InputError(
                f"{folder / part} is truncated or not safetensors ({error}); write or download it "
                "again"
            ) from None
        for full, tensor in stored.items():
            name = full.removeprefix(_PREFIX)
            if name in tensors:
                raise InputError(f"{folder / part}: tensor {full} is there twice; remove one")
            if not _BUFFER.fullmatch(name):
                tensors[name] = tensor
    return tensors, path
