"""GPT-2 and Llama against NumPy and transformers, gradients against PyTorch and differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

nnx = pytest.importorskip("flax.nnx")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm.models import hugging_face  # noqa: E402
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config  # noqa: E402
from copyreg_jax.lm.models.hugging_face import load_pretrained, save_pretrained  # noqa: E402
from copyreg_jax.lm.models.layers import token_nll  # noqa: E402
from copyreg_jax.lm.models.llama import LlamaConfig  # noqa: E402
from tests.support.numpy_models import gpt2_logits, llama_logits  # noqa: E402
from tests.support.small_models import hf_logits, perturbed, some_tokens  # noqa: E402

CONFIG = GPT2Config(vocab_size=101, context=40, width=36, num_layers=3, num_heads=3)
ONE_LAYER = dataclasses.replace(CONFIG, num_layers=1)
LLAMA = LlamaConfig(
    vocab_size=101, context=40, width=48, num_layers=3, num_heads=6, num_kv_heads=2, mlp_width=44,
    rope_theta=500.0,
)  # fmt: skip


def parameters(model):
    return hugging_face.parameters(nnx.state(model, nnx.Param))


SHARED = [
    dataclasses.replace(LLAMA, num_heads=heads, num_kv_heads=kv_heads)
    for heads, kv_heads in ((6, 6), (6, 1), (1, 1))
]


@pytest.mark.parametrize(
    "config", [CONFIG, LLAMA, *(pytest.param(c, marks=pytest.mark.slow) for c in SHARED)]
)
def test_logits_are_those_of_the_definition(config):
    """Over the whole context; with the test of causality, padding at the right needs no mask."""
    model, tokens = perturbed(config), some_tokens((2, 40))
    logits = model(tokens)
    assert (logits.shape, logits.dtype) == ((2, 40, 101), jnp.float32)
    w = {name: np.asarray(value[...], np.float64) for name, value in parameters(model).items()}
    for row, ours in zip(np.asarray(tokens), logits, strict=True):
        expected = (gpt2_logits if config is CONFIG else llama_logits)(config, w, row)
        assert np.std(expected) > 1  # the logits differ, so the comparison says something
        # float32 through three layers: some hundred roundings of 6e-8 of numbers up to ten.
        np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch")
    library = pytest.importorskip("transformers")
    library.utils.logging.disable_progress_bar()
    return library


def mean_nll(model, tokens):
    return token_nll(model(tokens)[:, :-1], tokens[:, 1:]).mean()


@pytest.mark.parametrize("config", [CONFIG, LLAMA])
def test_logits_and_gradient_are_theirs_from_our_files(config, transformers, tmp_path):
    import torch

    model = perturbed(config)
    save_pretrained(model, tmp_path)
    twin, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report.values()), report
    twin.eval()
    for length in (1, 7, 40):
        tokens = some_tokens((3, length))
        theirs = hf_logits(twin, tokens)
        assert np.std(theirs) > 1  # the logits differ, so the comparison says something
        # float32 through three layers: some hundred roundings of 6e-8 of numbers up to ten.
        np.testing.assert_allclose(model(tokens), theirs, atol=1e-4)

    value, gradient = nnx.jit(nnx.value_and_grad(mean_nll))(model, tokens)
    batch = torch.from_numpy(np.array(tokens)).long()
    loss = torch.nn.functional.cross_entropy(
        twin(batch).logits[:, :-1].reshape(-1, 101), batch[:, 1:].reshape(-1)
    )
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    ours = hugging_face.parameters(gradient)
    theirs = {name.split(".", 1)[1]: p.grad.numpy() for name, p in twin.named_parameters()}
    assert theirs.keys() == ours.keys()
    for name, expected in theirs.items():
        error = np.linalg.norm(np.asarray(ours[name][...]) - expected)
        assert error < 1e-4 * np.linalg.norm(expected), name


def their_gpt2(library, epsilon):
    config = library.GPT2Config(
        vocab_size=67, n_positions=33, n_embd=20, n_layer=2, n_head=5, layer_norm_epsilon=epsilon
    )
    return config, GPT2Config(67, 33, 20, 2, 5, epsilon)


def their_llama(library, epsilon):
    config = library.LlamaConfig(
        vocab_size=67, max_position_embeddings=33, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=52, rms_norm_eps=epsilon,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 77.0},
    )  # fmt: skip
    return config, LlamaConfig(67, 33, 24, 2, 4, 2, 52, epsilon, 77.0)


@pytest.mark.parametrize("their_config", [their_gpt2, their_llama])
@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_logits_are_theirs_from_their_files(their_config, epsilon, transformers, tmp_path):
    import torch

    torch.manual_seed(0)
    config, expected = their_config(transformers, epsilon)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    model = load_pretrained(tmp_path)
    assert model.config == expected
    tokens = some_tokens((2, 33), vocab_size=67)
    np.testing.assert_allclose(model(tokens), hf_logits(theirs, tokens), atol=1e-4)


@pytest.mark.slow
def test_gradient_by_differences():
    """Along random directions, in float32: the two errors are of third order and of rounding."""
    model, tokens = perturbed(CONFIG, scale=0.05), some_tokens((4, 21))
    graph, state = nnx.split(model)
    loss = jax.jit(lambda state: mean_nll(nnx.merge(graph, state), tokens))
    gradient = jax.jit(jax.grad(loss))(state)
    step = 1e-3
    for seed in range(3):
        rng = np.random.default_rng(seed)
        # Beside noise, the gradient itself: else the slope could drown in rounding errors.
        along = jax.tree.map(
            lambda g, rng=rng: 3 * g + jnp.asarray(rng.normal(size=g.shape) * 1e-2, jnp.float32),
            gradient,
        )
        ends = [
            loss(jax.tree.map(lambda x, d, s=s: x + s * d, state, along)) for s in (step, -step)
        ]
        dot = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, along)))
        # Values near 5 are off by 1e-6 or so: 1e-3 over 2 * step, for a slope near 8. The error
        # of third order was 4e-4 of the slope.
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), dot, rtol=2e-3)


def test_a_token_changes_no_logits_before_it():
    model, tokens = perturbed(CONFIG), some_tokens((2, 12))
    logits = model(tokens)
    for t in (0, 5, 11):
        changed = model(tokens.at[:, t].set((tokens[:, t] + 1) % 101))
        np.testing.assert_array_equal(changed[:, :t], logits[:, :t])
        # Each later one sees it, and so does its own.
        assert (jnp.abs(changed - logits).max(axis=-1)[:, t:] > 1e-3).all()


def test_initialization_is_that_of_gpt2():
    config = GPT2Config(vocab_size=500, context=200, width=64, num_layers=8, num_heads=2)
    for name, parameter in parameters(GPT2(config, nnx.Rngs(3))).items():
        assert parameter.dtype == jnp.float32
        if name.endswith("bias") or "ln_" in name:
            assert (parameter[...] == (0 if name.endswith("bias") else 1)).all(), name
            continue
        scale = 0.005 if "c_proj" in name else 0.01 if "wpe" in name else 0.02
        # At least 4096 numbers: a standard deviation is 1.1 percent off, and six of that is rare.
        np.testing.assert_allclose(jnp.std(parameter[...]), scale, rtol=0.07, err_msg=name)
    first, second, other = (GPT2(CONFIG, nnx.Rngs(seed)).wte.weight[...] for seed in (0, 0, 1))
    assert (first == second).all()
    assert (first != other).any()


@pytest.mark.slow
def test_logits_and_gradients_in_bfloat16_are_near_those_in_float32():
    tokens = some_tokens((3, 30))
    models = [perturbed(ONE_LAYER, scale=0.1, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    assert {p.dtype for p in parameters(models[1]).values()} == {jnp.dtype("float32")}
    exact, rounded = (model(tokens) for model in models)
    assert rounded.dtype == jnp.float32
    # bfloat16 rounds to 0.4 percent, some ten times on the way.
    assert 1e-4 < jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact) < 0.04
    gradients = [
        hugging_face.parameters(nnx.jit(nnx.grad(mean_nll))(model, tokens)) for model in models
    ]
    for name, gradient in gradients[0].items():
        assert gradients[1][name].dtype == jnp.float32
        error = jnp.linalg.norm(gradients[1][name][...] - gradient[...])
        # More than the logits: terms of a gradient cancel.
        assert error < 0.1 * jnp.linalg.norm(gradient[...]), name


def test_nll_is_that_of_scipy():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 7, (2, 5))
    for scale, shift in [(1, 0), (30, 0), (1, 1e4), (1e4, 0), (1e4, -1e4)]:
        logits = (scale * rng.normal(size=(2, 5, 7)) + shift).astype(np.float32)
        nll = token_nll(jnp.asarray(logits), jnp.asarray(targets))
        assert (nll.shape, nll.dtype) == ((2, 5), jnp.float32)
        exact = -scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
        picked = np.take_along_axis(exact, targets[..., None], -1)[..., 0]
        np.testing.assert_allclose(nll, picked, rtol=1e-6, atol=1e-6)
        gradient = jax.grad(lambda x: token_nll(x, jnp.asarray(targets)).sum())(jnp.asarray(logits))
        one = np.eye(7)[targets]
        np.testing.assert_allclose(gradient, np.exp(-exact) - one, atol=1e-6)


def test_logits_of_llama_in_bfloat16_are_near_those_in_float32():
    tokens = some_tokens((3, 30))
    models = [perturbed(LLAMA, scale=0.1, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    exact, rounded = (model(tokens) for model in models)
    assert rounded.dtype == jnp.float32
    # bfloat16 rounds to 0.4 percent, some thirty times on the way.
    assert 1e-4 < jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact) < 0.08


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (CONFIG, {"width": 37}, "width 37 is not divisible by num_heads 3"),
        (CONFIG, {"num_layers": 0}, "num_layers is 0; give a positive integer"),
        (CONFIG, {"vocab_size": 2.0}, "vocab_size is 2.0"),
        (CONFIG, {"context": True}, "context is True"),
        (CONFIG, {"epsilon": 0}, "epsilon is 0"),
        (CONFIG, {"epsilon": float("nan")}, "epsilon is nan"),
        (LLAMA, {"width": 50}, "width 50 is not divisible by 2 num_heads = 12"),
        (LLAMA, {"num_kv_heads": 4}, "num_heads 6 is not divisible by num_kv_heads 4"),
        (LLAMA, {"mlp_width": 0}, "mlp_width is 0"),
        (LLAMA, {"rope_theta": -1.0}, "rope_theta is -1.0"),
        (LLAMA, {"epsilon": None}, "epsilon is None"),
    ],
)
def test_sizes_are_checked(config, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **changes)


def test_calls_are_checked():
    model = GPT2(CONFIG)
    with pytest.raises(InputError, match="length 41, but the model has 40 positions"):
        model(jnp.zeros((1, 41), int))
    with pytest.raises(InputError, match=r"shape \(4,\)"):
        model(jnp.zeros(4, int))
    with pytest.raises(InputError, match="dtype float32"):
        model(jnp.zeros((1, 4), jnp.float32))
    with pytest.raises(InputError, match="dtype is float16"):
        GPT2(CONFIG, dtype=jnp.float16)


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
def test_configurations_of_other_llamas_are_refused(changes, message):
    content = {k: v for k, v in {**LLAMA.to_json(), **changes}.items() if v is not ...}
    with pytest.raises(InputError, match=message):
        LlamaConfig.from_json(content)


def test_configurations_of_older_versions():
    content = LLAMA.to_json()
    del content["rope_parameters"]
    assert LlamaConfig.from_json(content) == LLAMA
    del content["num_key_value_heads"]
    for older in (content, content | {"num_key_value_heads": None}):
        assert LlamaConfig.from_json(older) == dataclasses.replace(LLAMA, num_kv_heads=6)
