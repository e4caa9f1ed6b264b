"""Language models in Hugging Face folders: a GPT-2 or a Llama, read without anybody's library.

A folder has ``config.json`` and ``model.safetensors``: eight bytes with the size of a header, the
header as JSON, and the numbers. float16, bfloat16 and float32 are taken as the exact numbers that
they are. A setting that is not known here is refused, as it could change what the model computes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from copyreg_jax.checker.verdicts import VoidError, require

__all__ = ["Model", "read_model"]

_GPT2, _LLAMA = "gpt2", "llama"

_SIZES = {
    _GPT2: ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"),
    _LLAMA: (
        "vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "intermediate_size",
    ),
}  # fmt: skip
"""Keys of a config.json, in the order of the fields of `Model`."""

_EPSILON = {_GPT2: "layer_norm_epsilon", _LLAMA: "rms_norm_eps"}

_FIXED: dict[str, dict[str, Any]] = {
    _GPT2: {
        "activation_function": "gelu_new", "scale_attn_weights": True, "n_inner": None,
        "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False,
        "is_encoder_decoder": False, "tie_word_embeddings": True,
    },
    _LLAMA: {
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1,
        "rope_scaling": None, "rope_interleaved": False, "is_llama_config": True,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Settings that may be left out, and otherwise must have these values."""

_IDLE = {
    "_name_or_path", "architectures", "attention_dropout", "attn_pdrop", "bos_token_id", "dtype",
    "embd_pdrop", "eos_token_id", "initializer_range", "model_type", "n_ctx", "pad_token_id",
    "reorder_and_upcast_attn", "resid_pdrop", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params",
    "torch_dtype", "transformers.js_config", "transformers_version", "use_cache",
}  # fmt: skip
"""Settings without an effect on logits."""

_PREFIX = {_GPT2: "transformer.", _LLAMA: "model."}

_BUFFER = re.compile(r"h\.\d+\.attn\.(masked_)?bias|layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""Constants that old files hold beside the weights."""

_HEAD = "lm_head.weight"


class Model(NamedTuple):
    """A model as its files say.

    Attributes
    ----------
    kind : str
        ``"gpt2"`` or ``"llama"``.
    vocab_size, context, width, num_layers, num_heads, num_kv_heads, mlp_width : int
    epsilon : float
        What the norms add to a mean of squares.
    theta : float
        Base of the rotary positions; 1 for a GPT-2, which has none.
    tensors : dict of float16 and float32 arrays
        The weights by their names without the prefix.
    hashes : dict
        SHA-256 of the bytes of both files, as ``config`` and ``weights``.
    """

    kind: str
    vocab_size: int
    context: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    mlp_width: int
    epsilon: float
    theta: float
    tensors: dict[str, np.ndarray]
    hashes: dict[str, str]

    @property
    def embedding(self) -> np.ndarray:
        """A vector for each token, (vocab_size, width); it is the head too."""
        return self.tensors[_embedding(self.kind)]


def read_model(folder: str | Path) -> Model:
    """Read the model in a folder.

    Parameters
    ----------
    folder : path
        It has the files config.json and model.safetensors.

    Returns
    -------
    Model
        Its arrays have the shapes of ``_shapes``: (vocab_size, width) for the embedding, (in, out)
        for matrices of a GPT-2, and (out, in) for those of a Llama. bfloat16 is widened to float32.

    Raises
    ------
    VoidError
        It names what is missing, damaged, not finite or not known.

    Notes
    -----
    Cost: both files are read whole and hashed, and each weight is looked at once. The arrays are
    views of what was read, so the memory is the size of the files; bfloat16 takes twice its own.

    Examples
    --------
    >>> read_model("no-such-folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    copyreg_jax.checker.verdicts.VoidError: can't read no-such-folder/config.json: No such file ...
    """
    raw, weights = (_read(Path(folder) / name) for name in ("config.json", "model.safetensors"))
    config = _object(raw, "config.json")
    kind = str(config.get("model_type"))
    known = kind in _SIZES
    require(known, f"config.json: model_type is {_shown(kind)}; it must be gpt2 or llama")
    sizes = [_size(config, name) for name in _SIZES[kind]]
    if kind == _GPT2:
        sizes += [sizes[-1], 4 * sizes[2]]
    width, heads, kv_heads = sizes[2], sizes[4], sizes[5]
    require(width % heads == heads % kv_heads == 0, "config.json: heads don't share evenly")
    theta = _theta(config, width // heads) if kind == _LLAMA else 1.0
    epsilon = _number(config, _EPSILON[kind])
    _require_known(config, kind)
    files = {"config": raw, "weights": weights}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    header, start = _header(weights)
    vocab_size, context, width, num_layers, num_heads, num_kv_heads, mlp_width = sizes
    # Also keeps a config.json of a few bytes from asking for billions of names.
    require(num_layers <= len(header), f"config.json: {_SIZES[kind][3]} is {num_layers}, "
            "more than model.safetensors has tensors")  # fmt: skip
    model = Model(
        kind, vocab_size, context, width, num_layers, num_heads, num_kv_heads, mlp_width,
        epsilon, theta, {}, hashes,
    )  # fmt: skip
    return model._replace(tensors=_tensors(weights, header, start, kind, _shapes(model)))


def _read(path: Path) -> bytes:
    try:
        # Of a pipe or a device there may be no end.
        require(path.is_file() or not path.exists(), f"{path} is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise VoidError(f"can't read {path}: {error.strerror}") from None


def _object(raw: bytes, name: str) -> dict[str, Any]:
    """A JSON object without a key twice: of two, readers may take either."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        require(len(found) == len(pairs), f"{name} has a key twice")
        return found

    try:
        content = json.loads(raw.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise VoidError(f"{name} is not JSON") from None
    require(isinstance(content, dict), f"{name} is not a JSON object")
    return dict(content)


def _shown(text: str) -> str:
    """A name from a file as it may stand in a message: short, and ASCII."""
    return ascii(text)[1:-1][:60]


def _size(config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    require(type(value) is int and 0 < value < 2**31, f"config.json: {name} is {value!r:.40}")
    return int(value or 0)


def _number(config: dict[str, Any], name: str) -> float:
    value = config.get(name)
    known = type(value) in (int, float) and 0 < value < 2.0**100  # type: ignore[operator]
    require(known, f"config.json: {name} is {value!r:.40}")
    return float(value or 0)


def _theta(config: dict[str, Any], size: int) -> float:
    """Base of the rotary positions, which one or two places give."""
    require(size % 2 == 0, "config.json: rotary positions need heads of an even size")
    given = config.get("head_dim")
    same = given is None or (type(given) is int and given == size)
    require(same, "config.json: head_dim is not hidden / heads")
    places, found = [config], config.get("rope_parameters")
    if found is not None:
        known = isinstance(found, dict) and sorted(found) == ["rope_theta", "rope_type"]
        require(known and found["rope_type"] == "default", "config.json: rope_parameters unknown")
        places = [found, config] if "rope_theta" in config else [found]
    theta = {_number(place, "rope_theta") for place in places}
    require(len(theta) == 1, "config.json: rope_theta is given twice and differs")
    return theta.pop()


def _require_known(config: dict[str, Any], kind: str) -> None:
    """Refuse a config.json with a setting that has another value, or is not known."""
    used = {*_SIZES[kind], _EPSILON[kind], *_IDLE}
    used |= {"rope_theta", "rope_parameters", "head_dim"} if kind == _LLAMA else set()
    fixed = _FIXED[kind]
    for name, value in config.items():
        if name not in used:
            require(name in fixed, f"config.json: {_shown(name)} is not known here")
            same = type(value) is type(fixed[name]) and value == fixed[name]
            require(same, f"config.json: {name} is {value!r:.40}; it must be {fixed[name]!r}")
    # Where it is left out, transformers ties the head of a GPT-2, and not that of a Llama.
    tied = kind == _GPT2 or "tie_word_embeddings" in config
    require(tied, "config.json: tie_word_embeddings is missing")


def _embedding(kind: str) -> str:
    return "wte.weight" if kind == _GPT2 else "embed_tokens.weight"


def _shapes(m: Model) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights by their names."""
    d, mlp = m.width, m.mlp_width
    shapes: dict[str, tuple[int, ...]] = {_embedding(m.kind): (m.vocab_size, d)}
    if m.kind == _LLAMA:
        keys = d // m.num_heads * m.num_kv_heads
        parts = {
            "self_attn.q_proj": (d, d), "self_attn.k_proj": (keys, d),
            "self_attn.v_proj": (keys, d), "self_attn.o_proj": (d, d), "mlp.gate_proj": (mlp, d),
            "mlp.up_proj": (mlp, d), "mlp.down_proj": (d, mlp),
            "input_layernorm": (d,), "post_attention_layernorm": (d,),
        }  # fmt: skip
        shapes["norm.weight"] = (d,)
        for i in range(m.num_layers):
            shapes |= {f"layers.{i}.{part}.weight": shape for part, shape in parts.items()}
        return shapes
    parts = {
        "ln_1": (d,), "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d),
        "ln_2": (d,), "mlp.c_fc": (d, mlp), "mlp.c_proj": (mlp, d),
    }  # fmt: skip
    whole = {f"h.{i}.{part}": shape for i in range(m.num_layers) for part, shape in parts.items()}
    for part, shape in ({"ln_f": (d,)} | whole).items():
        shapes |= {f"{part}.weight": shape, f"{part}.bias": shape[-1:]}
    return shapes | {"wpe.weight": (m.context, d)}


def _header(raw: bytes) -> tuple[dict[str, Any], int]:
    """What model.safetensors says of its tensors, and where their numbers begin."""
    start = 8 + int.from_bytes(raw[:8], "little")
    require(8 < start <= len(raw), "model.safetensors is truncated")
    header = _object(raw[8:start], "the header of model.safetensors")
    header.pop("__metadata__", None)
    return header, start


def _tensors(
    raw: bytes,
    header: dict[str, Any],
    start: int,
    kind: str,
    shapes: dict[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Exactly the weights of these names and shapes."""
    tensors: dict[str, np.ndarray] = {}
    places, prefixed = [], set()
    for full, entry in header.items():
        what, name = f"tensor {_shown(full)}", full.removeprefix(_PREFIX[kind])
        require(name not in tensors, f"{what} is there twice")
        places.append(_place(what, entry))
        if _BUFFER.fullmatch(name):
            continue
        if full != _HEAD:
            prefixed.add(name != full)
        shape = shapes.get(_embedding(kind) if name == _HEAD else name)
        require(shape is not None, f"{what} is not of such a model")
        tensors[name] = _tensor(raw, start, what, entry, shape or ())
    # Libraries take the names of one kind, and leave the weights of the other as they drew them.
    mixed = f"some names of tensors begin with {_PREFIX[kind]} and others do not"
    require(len(prefixed) < 2, mixed)
    if _HEAD in tensors:
        same = np.array_equal(tensors.pop(_HEAD), tensors.get(_embedding(kind), np.zeros(0)))
        require(same, "lm_head.weight differs from the embedding")
    missing = shapes.keys() - tensors.keys()
    require(not missing, f"tensor {min(missing, default='')} is missing")
    _require_filled(places, len(raw) - start)
    return tensors


def _place(what: str, entry: Any) -> tuple[int, int]:
    """Where the bytes of a tensor begin and end."""
    keys = ["data_offsets", "dtype", "shape"]
    require(isinstance(entry, dict) and sorted(entry) == keys, f"{what} is malformed")
    place = entry["data_offsets"]
    is_pair = isinstance(place, list) and len(place) == 2 and all(type(p) is int for p in place)
    require(is_pair and 0 <= place[0] <= place[1], f"{what} has no place")
    return place[0], place[1]


def _require_filled(places: list[tuple[int, int]], size: int) -> None:
    """Refuse bytes of no tensor, or of two, as the library of this format does."""
    end = 0
    for first, last in sorted(places):
        require(first == end, "model.safetensors has bytes of no tensor, or of two")
        end = last
    require(end == size, "model.safetensors has bytes after its tensors")


def _tensor(raw: bytes, start: int, what: str, entry: Any, shape: tuple[int, ...]) -> np.ndarray:
    given, stored, (first, last) = entry["shape"], str(entry["dtype"]), entry["data_offsets"]
    same = given == list(shape) and all(type(size) is int for size in given)
    require(same, f"{what} has shape {given!r:.40}, not {shape}")
    dtypes = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
    require(stored in dtypes, f"{what} has dtype {_shown(stored)}")
    dtype = np.dtype(dtypes[stored])
    inside = last - first == math.prod(shape) * dtype.itemsize and start + last <= len(raw)
    require(inside, f"{what} is truncated")
    numbers = np.frombuffer(raw, dtype, math.prod(shape), start + first)
    if dtype.kind == "u":  # bfloat16 is the upper half of a float32
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    require(bool(np.isfinite(numbers).all()), f"{what} has entries that are not finite")
    return numbers.reshape(shape)
