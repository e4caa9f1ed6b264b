"""GPT-2 against transformers, its gradient against PyTorch's, and files that can't be used."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

nnx = pytest.importorskip("flax.nnx")
st = pytest.importorskip("safetensors.numpy")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.training import gpt2  # noqa: E402
from copyreg_jax.training.gpt2 import GPT2, GPT2Config, load_gpt2, save_gpt2, token_nll  # noqa: E402

CONFIG = GPT2Config(vocab_size=101, context=40, width=36, num_layers=3, num_heads=3)
ONE_LAYER = GPT2Config(vocab_size=101, context=40, width=36, num_layers=1, num_heads=3)


def perturbed(config=CONFIG, seed=0, dtype=jnp.float32, scale=0.2):
    """No bias is zero and no layer norm one, and weights are so large that each part counts."""
    model = GPT2(config, nnx.Rngs(seed), dtype)
    state = nnx.state(model, nnx.Param)
    rng = np.random.default_rng(seed)
    noise = lambda x: x + jnp.asarray(rng.normal(scale=scale, size=x.shape), jnp.float32)  # noqa: E731
    nnx.update(model, jax.tree.map(noise, state))
    return model


def some_tokens(shape, seed=1, config=CONFIG):
    return jnp.asarray(np.random.default_rng(seed).integers(0, config.vocab_size, shape))


def parameters(model):
    return gpt2._by_name(nnx.state(model, nnx.Param))


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


def hf_logits(model, tokens):
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(np.array(tokens))).logits.numpy()


@pytest.mark.parametrize("length", [1, 7, 40])
def test_logits_are_those_of_transformers_from_our_files(hf, tmp_path, length):
    model = perturbed()
    save_gpt2(model, tmp_path)
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
    model = load_gpt2(tmp_path)
    assert model.config == GPT2Config(67, 33, 20, 2, 5, epsilon)
    tokens = some_tokens((2, 33), config=model.config)
    np.testing.assert_allclose(model(tokens), hf_logits(theirs, tokens), atol=1e-4)


def mean_nll(model, tokens):
    return token_nll(model(tokens)[:, :-1], tokens[:, 1:]).mean()


def test_gradient_is_that_of_torch(hf, tmp_path):
    import torch

    model, tokens = perturbed(), some_tokens((4, 21))
    save_gpt2(model, tmp_path)
    value, gradient = nnx.jit(nnx.value_and_grad(mean_nll))(model, tokens)
    twin = hf(tmp_path)
    batch = torch.from_numpy(np.array(tokens)).long()
    loss = torch.nn.functional.cross_entropy(
        twin(batch).logits[:, :-1].reshape(-1, 101), batch[:, 1:].reshape(-1)
    )
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    gradients = gpt2._by_name(gradient)
    named = {name.removeprefix("transformer."): p.grad for name, p in twin.named_parameters()}
    assert named.keys() == gradients.keys()
    for name, theirs in named.items():
        ours, expected = np.asarray(gradients[name][...]), theirs.numpy()
        error = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
        assert error < 1e-4, (name, error)


def test_gradient_by_differences():
    """Along random directions, in float32: the two errors are of third order and of rounding."""
    model, tokens = perturbed(scale=0.05), some_tokens((4, 21))
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
    model, tokens = perturbed(), some_tokens((2, 12))
    logits = model(tokens)
    for t in (0, 5, 11):
        changed = model(tokens.at[:, t].set((tokens[:, t] + 1) % 101))
        np.testing.assert_array_equal(changed[:, :t], logits[:, :t])
        # Each later one sees it, and so does its own.
        assert (jnp.abs(changed - logits).max(axis=-1)[:, t:] > 1e-3).all()


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


def test_bfloat16_computes_near_float32():
    tokens = some_tokens((3, 30))
    models = [perturbed(ONE_LAYER, scale=0.1, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    assert {p.dtype for p in parameters(models[1]).values()} == {jnp.dtype("float32")}
    exact, rounded = (model(tokens) for model in models)
    assert rounded.dtype == jnp.float32
    # bfloat16 rounds to 0.4 percent, some ten times on the way.
    assert 1e-4 < jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact) < 0.04
    gradients = [gpt2._by_name(nnx.jit(nnx.grad(mean_nll))(model, tokens)) for model in models]
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"model_type": None}, "model_type is None"),
        ({"activation_function": "relu"}, "activation_function is 'relu'.*'gelu_new'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"n_inner": 100}, "n_inner is 100.*144"),
        ({"n_embd": "36"}, "width is '36'"),
        ({"n_head": ...}, "n_head is missing"),
    ],
)
def test_configurations_of_other_models_are_refused(tmp_path, changes, message):
    save_gpt2(GPT2(CONFIG), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    changed = {k: v for k, v in {**content, **changes}.items() if v is not ...}
    (tmp_path / "config.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match=rf"config\.json: {message}") as error:
        load_gpt2(tmp_path)
    assert "\n" not in str(error.value)


def test_what_does_no_harm_in_a_configuration():
    more = {"n_inner": 144, "reorder_and_upcast_attn": True, "summary_type": "cls_index"}
    content = {**CONFIG.to_json(), **more}
    assert GPT2Config.from_json(content) == CONFIG
    del content["layer_norm_epsilon"], content["tie_word_embeddings"]
    assert GPT2Config.from_json(content) == CONFIG


def test_files_give_back_every_bit(tmp_path):
    model = perturbed()
    save_gpt2(model, tmp_path / "new" / "folder")
    again = load_gpt2(tmp_path / "new" / "folder", dtype=jnp.bfloat16)
    assert (again.config, again.dtype) == (CONFIG, jnp.bfloat16)
    theirs = parameters(again)
    for name, parameter in parameters(model).items():
        np.testing.assert_array_equal(theirs[name][...], parameter[...])
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {
        "config.json",
        "model.safetensors",
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    save_gpt2(perturbed(), folder)
    return folder, st.load_file(folder / "model.safetensors")


@pytest.fixture
def stored(written, tmp_path):
    """A folder to damage, and its tensors."""
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, dict(written[1])


def test_other_layouts_of_the_same_tensors(stored):
    folder, tensors = stored
    tokens = some_tokens((1, 9))
    expected = load_gpt2(folder)(tokens)
    plain = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    buffers = {"h.0.attn.bias": np.ones((1, 1, 40, 40), bool), "h.1.attn.masked_bias": np.ones(())}
    file = folder / "model.safetensors"
    for variant in (
        plain,
        {**plain, **buffers},
        {**tensors, "lm_head.weight": plain["wte.weight"]},
    ):
        st.save_file(variant, file)
        np.testing.assert_array_equal(load_gpt2(folder)(tokens), expected)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, held in parts.items():
        st.save_file({name: tensors[name] for name in held}, folder / part)
    file.unlink()
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(load_gpt2(folder)(tokens), expected)
    (folder / "b.safetensors").unlink()
    with pytest.raises(InputError, match=r"can't read .*b\.safetensors"):
        load_gpt2(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"wte": "../x"}}')
    with pytest.raises(InputError, match=r"index\.json names no files"):
        load_gpt2(folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_numbers_become_float32(stored, dtype):
    from safetensors.flax import save_file

    folder, tensors = stored
    short = {name: jnp.asarray(tensor, dtype) for name, tensor in tensors.items()}
    save_file(short, folder / "model.safetensors")
    for name, parameter in parameters(load_gpt2(folder)).items():
        assert parameter.dtype == jnp.float32
        expected = short[f"transformer.{name}"].astype(jnp.float32)
        np.testing.assert_array_equal(parameter[...], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer.h.1.mlp.c_fc.bias": None}, r"tensor h\.1\.mlp\.c_fc\.bias is missing"),
        ({"transformer.h.3.ln_1.bias": np.ones(36, "f4")}, r"h\.3\.ln_1\.bias is of no GPT-2"),
        ({"ln_f.bias": np.ones(36, "f4")}, r"ln_f\.bias is there twice"),
        (
            {"transformer.h.0.attn.c_attn.weight": np.ones((108, 36), "f4")},
            r"c_attn\.weight has shape \(108, 36\), but config\.json says \(36, 108\)",
        ),
        ({"transformer.wpe.weight": np.ones((40, 36), "i4")}, r"wpe\.weight has dtype int32"),
        (
            {"transformer.ln_f.weight": np.full(36, np.inf, "f4")},
            r"ln_f\.weight has entries that are not finite",
        ),
        ({"lm_head.weight": np.ones((101, 36), "f4")}, r"lm_head\.weight differs from wte\.weight"),
    ],
)
def test_tensors_of_another_model_are_refused(stored, changes, message):
    folder, tensors = stored
    changed = {k: v for k, v in {**tensors, **changes}.items() if v is not None}
    st.save_file(changed, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"model\.safetensors: tensor {message}|{message}") as e:
        load_gpt2(folder)
    assert "model.safetensors" in str(e.value)
    assert "\n" not in str(e.value)


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not there or no folder"),
        (lambda f: (f / "config.json").unlink(), r"can't read .*config\.json"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json is not JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), r"config\.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json is JSON but no object"),
        (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors is not there"),
        (only_pickle, r"pytorch_model\.bin.*convert it"),
        (lambda f: (f / "model.safetensors").write_bytes(b"text"), "truncated or not safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "truncated or not safetensors"),
    ],
)
def test_damaged_folders_are_refused(stored, damage, message):
    folder, _ = stored
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        load_gpt2(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0.1, 0.99])
def test_truncated_files_are_refused(stored, kept):
    file = stored[0] / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"model\.safetensors is truncated or not safetensors"):
        load_gpt2(stored[0])


def test_interrupted_writing_leaves_the_old_model(stored, monkeypatch):
    folder, _ = stored
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_gpt2(GPT2(CONFIG), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_gpt2(GPT2(CONFIG), folder)
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't make the folder"):
        save_gpt2(GPT2(CONFIG), tmp_path / "file" / "folder")
