"""GPT-2 against NumPy and transformers, its gradient against PyTorch's and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

nnx = pytest.importorskip("flax.nnx")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm.models import hugging_face  # noqa: E402
from copyreg_jax.lm.models.gpt2 import (  # noqa: E402
    GPT2,
    GPT2Config,
)
from copyreg_jax.lm.models.hugging_face import (  # noqa: E402
    load_pretrained,
    save_pretrained,
)
from copyreg_jax.lm.models.layers import token_nll  # noqa: E402
from tests.support.small_models import hf_logits, perturbed, some_tokens  # noqa: E402

CONFIG = GPT2Config(vocab_size=101, context=40, width=36, num_layers=3, num_heads=3)
ONE_LAYER = GPT2Config(vocab_size=101, context=40, width=36, num_layers=1, num_heads=3)


def parameters(model):
    return hugging_face.parameters(nnx.state(model, nnx.Param))


def reference(model, tokens):
    """Logits of one row in float64, position by position, as the architecture is defined."""
    w = {k: np.asarray(v[...], np.float64) for k, v in parameters(model).items()}
    c = model.config
    size = c.width // c.num_heads

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + c.epsilon)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["wte.weight"][tokens] + w["wpe.weight"][: len(tokens)]
    for h in (f"h.{layer}" for layer in range(c.num_layers)):
        q, k, v = np.split(linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn"), 3, axis=-1)
        mixed = np.zeros_like(q)
        for head in range(c.num_heads):
            mine = slice(head * size, (head + 1) * size)
            for t in range(len(tokens)):
                weights = scipy.special.softmax(k[: t + 1, mine] @ q[t, mine] / np.sqrt(size))
                mixed[t, mine] = weights @ v[: t + 1, mine]
        x = x + linear(mixed, f"{h}.attn.c_proj")
        y = linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + linear(y, f"{h}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def test_logits_are_those_of_the_definition():
    model, tokens = perturbed(CONFIG), some_tokens((2, 23))
    for row, ours in zip(np.asarray(tokens), model(tokens), strict=True):
        expected = reference(model, row)
        assert np.std(expected) > 1  # the logits differ, so the comparison says something
        # float32 through three layers: some hundred roundings of 6e-8 of numbers up to ten.
        np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.fixture(scope="module")
def hf():
    """``hf(folder)`` is transformers' model of it."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()

    def load(folder):
        model, report = transformers.GPT2LMHeadModel.from_pretrained(
            folder, output_loading_info=True
        )
        assert not any(report.values()), report
        return model.eval()

    load.lib = transformers
    return load


@pytest.mark.parametrize("length", [1, 7, 40])
def test_logits_are_those_of_transformers_from_our_files(hf, tmp_path, length):
    model = perturbed(CONFIG)
    save_pretrained(model, tmp_path)
    tokens = some_tokens((3, length))
    logits = model(tokens)
    assert (logits.shape, logits.dtype) == ((3, length, 101), jnp.float32)
    theirs = hf_logits(hf(tmp_path), tokens)
    assert np.std(theirs) > 1  # the logits differ, so the comparison says something
    # float32 through three layers: some hundred roundings of 6e-8 of numbers up to ten.
    np.testing.assert_allclose(logits, theirs, atol=1e-4)


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_logits_are_those_of_transformers_from_their_files(hf, tmp_path, epsilon):
    import torch

    torch.manual_seed(0)
    config = hf.lib.GPT2Config(
        vocab_size=67, n_positions=33, n_embd=20, n_layer=2, n_head=5, layer_norm_epsilon=epsilon
    )
    theirs = hf.lib.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    model = load_pretrained(tmp_path)
    assert model.config == GPT2Config(67, 33, 20, 2, 5, epsilon)
    tokens = some_tokens((2, 33), vocab_size=model.config.vocab_size)
    np.testing.assert_allclose(model(tokens), hf_logits(theirs, tokens), atol=1e-4)


def mean_nll(model, tokens):
    return token_nll(model(tokens)[:, :-1], tokens[:, 1:]).mean()


def test_gradient_is_that_of_torch(hf, tmp_path):
    import torch

    model, tokens = perturbed(CONFIG), some_tokens((4, 21))
    save_pretrained(model, tmp_path)
    value, gradient = nnx.jit(nnx.value_and_grad(mean_nll))(model, tokens)
    twin = hf(tmp_path)
    batch = torch.from_numpy(np.array(tokens)).long()
    loss = torch.nn.functional.cross_entropy(
        twin(batch).logits[:, :-1].reshape(-1, 101), batch[:, 1:].reshape(-1)
    )
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    gradients = hugging_face.parameters(gradient)
    named = {name.removeprefix("transformer."): p.grad for name, p in twin.named_parameters()}
    assert named.keys() == gradients.keys()
    for name, theirs in named.items():
        ours, expected = np.asarray(gradients[name][...]), theirs.numpy()
        error = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
        assert error < 1e-4, (name, error)


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


@pytest.mark.slow
def test_padding_at_the_right_needs_no_mask():
    model, tokens = perturbed(ONE_LAYER), some_tokens((2, 9))
    padded = jnp.pad(tokens, ((0, 0), (0, 31)))

    @nnx.jit
    @nnx.value_and_grad
    def of_the_first(model, tokens):
        return token_nll(model(tokens)[:, :8], tokens[:, 1:9]).mean()

    np.testing.assert_allclose(model(padded)[:, :9], model(tokens), atol=1e-4)
    ours, theirs = of_the_first(model, padded), of_the_first(model, tokens)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)


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
def test_bfloat16_computes_near_float32():
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 37}, "width 37 is not divisible by num_heads 3"),
        ({"num_layers": 0}, "num_layers is 0; give a positive integer"),
        ({"vocab_size": 2.0}, "vocab_size is 2.0"),
        ({"context": True}, "context is True"),
        ({"epsilon": 0}, "epsilon is 0"),
        ({"epsilon": float("nan")}, "epsilon is nan"),
    ],
)
def test_sizes_are_checked(changes, message):
    with pytest.raises(InputError, match=message):
        GPT2Config(**{**CONFIG.__dict__, **changes})


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
