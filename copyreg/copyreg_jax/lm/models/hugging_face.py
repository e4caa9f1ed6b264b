"""Models in files of the Hugging Face layout: read, checked and written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax
import safetensors.numpy
from flax import nnx
from jaxtyping import Array
from numpy.typing import ArrayLike, NDArray

from copyreg_jax._files import write_whole
from copyreg_jax.errors import InputError
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.llama import Llama, LlamaConfig

__all__ = [
    "LanguageModel",
    "build_model",
    "load_pretrained",
    "parameters",
    "save_pretrained",
]

LanguageModel: TypeAlias = GPT2 | Llama


class _Layout(NamedTuple):
    """How the files of a type of model are laid out.

    Attributes
    ----------
    model, config : type
    prefix : str
        Prefix of the names of tensors.
    embedding : str
        Name of the tensor that also serves as the head.
    layers : str
        Beginning of the names of the tensors of layers.
    buffer : str
        Pattern of the names of constants that old checkpoints hold beside the parameters.
    """

    model: type[Any]
    config: type[Any]
    prefix: str
    embedding: str
    layers: str
    buffer: str


_LAYOUTS = {
    "gpt2": _Layout(
        GPT2, GPT2Config, "transformer.", "wte.weight", "h", r"h\.\d+\.attn\.(masked_)?bias"
    ),
    "llama": _Layout(
        Llama, LlamaConfig, "model.", "embed_tokens.weight", "layers",
        r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
    ),
}  # fmt: skip
"""By the model_type of a config.json."""


def save_pretrained(model: LanguageModel, folder: str | Path) -> None:
    """Write ``model.safetensors`` and ``config.json``, each whole or not at all.

    The folder is made if needed, and transformers can read it too.

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
    content = model.config.to_json()
    tensors = {
        _LAYOUTS[content["model_type"]].prefix + name: np.ascontiguousarray(variable[...])
        for name, variable in parameters(nnx.state(model, nnx.Param)).items()
    }
    weights = safetensors.numpy.save(tensors, {"format": "pt"})  # transformers wants the format
    write_whole(folder / "model.safetensors", weights)
    config = json.dumps(content, indent=2, sort_keys=True) + "\n"
    write_whole(folder / "config.json", config.encode())


def load_pretrained(folder: str | Path, dtype: Any = jnp.float32) -> LanguageModel:
    """Load the model in a folder that `save_pretrained` or transformers wrote.

    Parameters
    ----------
    folder : path
        A folder with the config.json of a GPT-2 or a Llama, and with model.safetensors or the index
        of its parts.
    dtype : dtype, optional
        Dtype of the products. Parameters are converted to float32, whatever they are stored in.

    Raises
    ------
    InputError
        A file is missing or damaged, or holds another model than its config.json says.

    Notes
    -----
    Old checkpoints hold constants beside the parameters: the causal mask, what is put in place of
    masked scores, and the rates of rotary positions. Here they are not used. Old versions of
    transformers take them from the file, and would run another model if they had other values, so
    these are refused.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> config = GPT2Config(vocab_size=50, context=16, width=8, num_layers=2, num_heads=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(GPT2(config), folder)
    ...     load_pretrained(folder).config == config
    True
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a model")
    content = _read_json(folder / "config.json")
    try:
        layout = _layout(content)
        config = layout.config.from_json(content)
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from None
    tensors, constants, path = _read_tensors(folder, layout)
    for name, constant in constants.items():
        if not _is_usual(config, name.rpartition(".")[2], np.asarray(constant, np.float64)):
            raise InputError(
                f"{path}: tensor {name} is a constant, and not that of a model with this "
                "config.json; some libraries would compute with it, so remove it or give a sound "
                "checkpoint"
            )
    head = tensors.pop("lm_head.weight", None)
    embedding = tensors.get(layout.embedding)
    if head is not None and embedding is not None and not np.array_equal(head, embedding):
        raise InputError(
            f"{path}: tensor lm_head.weight differs from {layout.embedding}; models have one for "
            "both here, so give a model with tied embeddings"
        )
    return build_model(config, tensors, str(path), dtype)


def build_model(
    config: Any, tensors: Mapping[str, ArrayLike], where: str, dtype: Any = jnp.float32
) -> LanguageModel:
    """Build a model from given weights.

    Parameters
    ----------
    config : GPT2Config or LlamaConfig
    tensors : mapping
        All parameters by their Hugging Face names without the prefix.
    where : str
        Origin of the tensors, for messages.
    dtype : dtype, optional
        Dtype of the products.

    Raises
    ------
    InputError
        A tensor is missing, belongs to another model, or has another shape or dtype or entries that
        are not finite.

    Examples
    --------
    >>> config = GPT2Config(vocab_size=50, context=16, width=8, num_layers=2, num_heads=2)
    >>> shapes = parameters(nnx.state(nnx.eval_shape(lambda: GPT2(config)), nnx.Param))
    >>> tensors = {name: np.full(one.shape, 2, np.float32) for name, one in shapes.items()}
    >>> float(build_model(config, tensors, "here").wte.weight[0, 0])
    2.0
    >>> del tensors["wte.weight"]
    >>> build_model(config, tensors, "here")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    copyreg_jax.errors.InputError: here: tensor wte.weight is missing; the file is not ...
    """
    layout = _layout(config.to_json())
    there = {name.split(".")[1] for name in tensors if name.startswith(f"{layout.layers}.")}
    if len(there) < config.num_layers:  # before a model of so many is made
        raise InputError(
            f"{where}: tensors of {len(there)} layers, but config.json says {config.num_layers}; "
            "give files that belong together"
        )
    # Shapes without values: no random numbers are drawn for parameters that are replaced.
    graph, state = nnx.split(nnx.eval_shape(lambda: layout.model(config, dtype=dtype)))
    named = parameters(state)
    strange = sorted(tensors.keys() - named.keys())
    if strange:
        raise InputError(
            f"{where}: tensor {strange[0]} does not belong to a model with this "
            "config.json; remove it, or give files that belong together"
        )
    for name, variable in named.items():
        if name not in tensors:
            raise InputError(
                f"{where}: tensor {name} is missing; the file is not that of the model in "
                "config.json"
            )
        tensor = tensors[name]
        if np.shape(tensor) != variable.shape:
            raise InputError(
                f"{where}: tensor {name} has shape {np.shape(tensor)}, but config.json says "
                f"{variable.shape}; give files that belong together"
            )
        tensor = jnp.asarray(tensor)
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise InputError(f"{where}: tensor {name} has dtype {tensor.dtype}; store float32")
        tensor = jnp.asarray(tensor, jnp.float32)
        if not bool(jnp.isfinite(tensor).all()):
            raise InputError(
                f"{where}: tensor {name} has entries that are not finite; give a sound checkpoint"
            )
        variable.set_value(tensor)
    return nnx.merge(graph, state)


def parameters(state: Any) -> dict[str, Any]:
    """The variables of a model's state by their Hugging Face names without the prefix."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def _layout(content: Mapping[str, Any]) -> _Layout:
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in _LAYOUTS:
        raise InputError(
            f"model_type is {kind!r:.40}, which is not implemented; give one of "
            f"{', '.join(_LAYOUTS)}"
        )
    return _LAYOUTS[kind]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"can't read {path}: {error.strerror}; give the folder of a model"
        ) from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON; write or download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is JSON but not an object; write or download it again")
    return content


def _is_usual(config: Any, kind: str, values: NDArray[np.float64]) -> bool:
    """Whether a constant is what every model with this configuration has."""
    if kind == "bias":
        size = values.shape[-1] if values.ndim else 0
        mask = np.tril(np.ones((size, size)))
        return values.shape in ((size, size), (1, 1, size, size)) and bool((values == mask).all())
    if kind == "masked_bias":  # a score as low as this has no weight in float32
        return values.size == 1 and bool((values <= -1e4).all())
    half = config.width // config.num_heads // 2
    rates = config.rope_theta ** -(np.arange(half) / half)
    # Rounded to bfloat16, or to a float16 below its normal numbers.
    return values.shape == rates.shape and np.allclose(values, rates, rtol=2.0**-8, atol=2.0**-24)


def _read_tensors(folder: Path, layout: _Layout) -> tuple[dict[str, Array], dict[str, Array], Path]:
    """All parameters and constants by their names without the prefix, and the file to name."""
    path, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if path.exists():
        parts = [path.name]
    elif index.exists():
        path, places = index, _read_json(index).get("weight_map")
        parts = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
        if not parts or any(Path(part).name != part for part in parts):
            raise InputError(f"{index} does not name files in its weight_map; download it again")
    elif (folder / "pytorch_model.bin").exists():
        raise InputError(
            f"{folder} has pytorch_model.bin, a pickle, which is not read; convert it with "
            "transformers: save_pretrained writes model.safetensors"
        )
    else:
        raise InputError(f"{path} is not there; give the folder of a model")
    tensors: dict[str, Array] = {}
    constants: dict[str, Array] = {}
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
        except Exception as error:  # what NumPy or JAX say to types that they do not have
            raise InputError(
                f"{folder / part} has tensors of a type that can't be read ({error})"
            ) from None
        for full, tensor in stored.items():
            name = full.removeprefix(layout.prefix)
            if name in tensors:
                raise InputError(f"{folder / part}: tensor {full} is there twice; remove one")
            (constants if re.fullmatch(layout.buffer, name) else tensors)[name] = tensor
    return tensors, constants, path
