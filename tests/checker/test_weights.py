"""Folders of models that the checker reads, and all that it refuses."""

import json
import math
import os
import struct

import numpy as np
import pytest

from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.checker.weights import read_model
from tests.support.exact_transformer import draw, gpt2, llama, write

CONFIGS = {"gpt2": gpt2(), "llama": llama()}


def changed(entry, new):
    return (entry[0], entry[1], new + entry[2][len(new) :])


HEAD = "transformer.wte.weight"

REFUSED = {
    "an unknown setting": lambda c, w: (c | {"logit_softcap": 30}, w),
    "another activation": lambda c, w: (c | {"activation_function": "gelu"}, w),
    "a flag that is a number": lambda c, w: (c | {"scale_attn_weights": 1}, w),
    "another model": lambda c, w: (c | {"model_type": "opt"}, w),
    "a size that is no integer": lambda c, w: (c | {"n_head": 2.0}, w),
    "uneven heads": lambda c, w: (c | {"n_head": 3}, w),
    "no epsilon": lambda c, w: ({k: v for k, v in c.items() if "epsilon" not in k}, w),
    "epsilon zero": lambda c, w: (c | {"layer_norm_epsilon": 0.0}, w),
    "a missing tensor": lambda c, w: (c, {k: v for k, v in w.items() if k != HEAD}),
    "a tensor too many": lambda c, w: (c, w | {"transformer.extra": w[HEAD]}),
    "a tensor twice": lambda c, w: (c, w | {"wte.weight": w[HEAD]}),
    "an untied head": lambda c, w: (c, w | {"lm_head.weight": changed(w[HEAD], b"\1")}),
    "another shape": lambda c, w: (c | {"vocab_size": 12}, w),
    "float64": lambda c, w: (c, w | {HEAD: ("F64", *w[HEAD][1:])}),
    "infinity": lambda c, w: (c, w | {HEAD: changed(w[HEAD], struct.pack("<f", math.inf))}),
    "NaN": lambda c, w: (c, w | {HEAD: changed(w[HEAD], struct.pack("<f", math.nan))}),
    "too short": lambda c, w: (c, w | {HEAD: (*w[HEAD][:2], w[HEAD][2][4:])}),
    "Llama: scaled positions": lambda c, w: (c | {"rope_scaling": {"factor": 2}}, w),
    "Llama: other positions": lambda c, w: (
        c | {"rope_parameters": {"rope_theta": 100.0, "rope_type": "yarn"}}, w),
    "Llama: two bases": lambda c, w: (
        c | {"rope_parameters": {"rope_theta": 10.0, "rope_type": "default"}}, w),
    "Llama: bias": lambda c, w: (c | {"attention_bias": True}, w),
    "Llama: wide heads": lambda c, w: (c | {"head_dim": 8}, w),
    "Llama: heads of a size that is no integer": lambda c, w: (c | {"head_dim": 4.0}, w),
    "more layers than tensors": lambda c, w: (c | {"n_layer": 2**31 - 1}, w),
    "a shape that is no integer": lambda c, w: (
        c, w | {HEAD: (w[HEAD][0], (11.0, 4), w[HEAD][2])}),
    "names with and without prefix": lambda c, w: (
        c, {name.replace("transformer.wpe", "wpe"): entry for name, entry in w.items()}),
    "Llama: odd heads": lambda c, w: (c | {"num_attention_heads": 16}, w),
    "Llama: not tied": lambda c, w: (
        {k: v for k, v in c.items() if k != "tie_word_embeddings"}, w),
}  # fmt: skip


def is_refused(name, folder):
    config = CONFIGS["llama" if name.startswith("Llama") else "gpt2"]
    write(folder, *REFUSED[name](config, draw(config, np.random.default_rng(0))))
    try:
        read_model(folder)
    except VoidError:
        return True
    return False


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_are_not_known_are_void(name, tmp_path):
    assert is_refused(name, tmp_path)


def test_what_changes_nothing_is_read(tmp_path):
    weights = draw(gpt2(), np.random.default_rng(0))
    plain = read_model(write(tmp_path / "a", gpt2(), weights))
    more = weights | {"lm_head.weight": weights[HEAD], "transformer.h.0.attn.bias": weights[HEAD]}
    config = gpt2() | {"n_inner": None, "resid_pdrop": 0.1, "tie_word_embeddings": True}
    found = read_model(write(tmp_path / "b", config, more))
    assert found.tensors.keys() == plain.tensors.keys()
    rope = {"rope_parameters": {"rope_theta": 50.0, "rope_type": "default"}}
    config = {k: v for k, v in llama().items() if k != "rope_theta"} | rope
    weights = draw(config, np.random.default_rng(0))
    assert read_model(write(tmp_path / "c", config, weights)).theta == 50.0


DAMAGED = {
    "No such file": lambda config, weights: weights.unlink(),
    "no regular file": lambda config, weights: (config.unlink(), os.mkfifo(config)),
    r"model_type is \\ud800;": lambda config, weights: config.write_text(
        json.dumps(gpt2() | {"model_type": "\ud800"})
    ),
    r"\\x1b\\ud800 is not known": lambda config, weights: config.write_text(
        json.dumps(gpt2() | {"\x1b\ud800": 1})
    ),
    r"tensor \\ud800-+wte is not of": lambda config, weights: edited(
        weights, b"transformer.wte.weight", rb"\ud800-------------wte"
    ),
    "config.json is not JSON": lambda config, weights: config.write_text("{"),
    "config.json is not JSO": lambda config, weights: config.write_text(
        json.dumps(gpt2()), "utf-16"
    ),
    "config.json is not a JSON object": lambda config, weights: config.write_text("[]"),
    "config.json has a key twice": lambda config, weights: config.write_text('{"a": 1, "a": 2}'),
    "model.safetensors is truncated": lambda config, weights: weights.write_bytes(b"123456"),
    "wte.weight is malformed": lambda config, weights: edited(weights, b"offsets", b"offsetz"),
    "wte.weight has no place": lambda config, weights: edited(weights, b"[0, 176]", b"[-1, 75]"),
    "bytes after its tensors": lambda config, weights: edited(weights, b"}", b"}", b"\0"),
    "bytes of no tensor, or of two": lambda config, weights: edited(
        weights, b"[176, 320]", b"[  0, 144]"
    ),
    "wte.weight is truncated": lambda config, weights: edited(weights, b"[0, 176]", b"[0, 175]"),
}


def edited(path, old, new, more=b""):
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new) + more)


@pytest.mark.parametrize("message", DAMAGED)
def test_damaged_files_are_void(message, tmp_path):
    write(tmp_path, gpt2(), draw(gpt2(), np.random.default_rng(0)))
    DAMAGED[message](tmp_path / "config.json", tmp_path / "model.safetensors")
    with pytest.raises(VoidError, match=message):
        read_model(tmp_path)
