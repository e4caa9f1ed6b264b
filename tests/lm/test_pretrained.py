"""Files of models: every bit comes back, and what can't be used is refused."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

nnx = pytest.importorskip("flax.nnx")
st = pytest.importorskip("safetensors.numpy")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm.models import hugging_face  # noqa: E402
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config  # noqa: E402
from copyreg_jax.lm.models.hugging_face import load_pretrained, save_pretrained  # noqa: E402
from copyreg_jax.lm.models.llama import Llama, LlamaConfig  # noqa: E402
from tests.support.small_models import perturbed, some_tokens  # noqa: E402

CONFIG = GPT2Config(vocab_size=101, context=40, width=36, num_layers=3, num_heads=3)


def parameters(model):
    return hugging_face.parameters(nnx.state(model, nnx.Param))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'.*give one of gpt2, llama"),
        ({"model_type": None}, "model_type is None"),
        ({"model_type": []}, r"model_type is \[\]"),
        ({"n_layer": 10**9}, "tensors of 3 layers, but config.json says 1000000000"),
        ({"layer_norm_epsilon": 10**400}, "epsilon is 10+;"),
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
    save_pretrained(GPT2(CONFIG), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    changed = {k: v for k, v in {**content, **changes}.items() if v is not ...}
    (tmp_path / "config.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match=message) as error:
        load_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_does_no_harm_in_a_configuration():
    more = {"n_inner": 144, "reorder_and_upcast_attn": True, "summary_type": "cls_index"}
    content = {**CONFIG.to_json(), **more}
    assert GPT2Config.from_json(content) == CONFIG
    del content["layer_norm_epsilon"], content["tie_word_embeddings"]
    assert GPT2Config.from_json(content) == CONFIG


@pytest.mark.parametrize("config", [CONFIG, LlamaConfig(101, 40, 48, 3, 6, 2, 44, 1e-5, 500.0)])
def test_files_give_back_every_bit(config, tmp_path):
    model, folder = perturbed(config), tmp_path / "new" / "folder"
    save_pretrained(model, folder)
    again = load_pretrained(folder, dtype=jnp.bfloat16)
    assert (type(again), again.config, again.dtype) == (type(model), config, jnp.bfloat16)
    theirs = parameters(again)
    for name, parameter in parameters(model).items():
        np.testing.assert_array_equal(theirs[name][...], parameter[...])
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    save_pretrained(perturbed(CONFIG), folder)
    return folder, st.load_file(folder / "model.safetensors")


@pytest.fixture
def stored(written, tmp_path):
    """A folder to damage, and its tensors."""
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, dict(written[1])


def test_other_layouts_of_the_same_tensors(stored):
    folder, tensors = stored
    tokens = some_tokens((1, 9))
    expected = load_pretrained(folder)(tokens)
    plain = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    mask = np.tril(np.ones((1, 1, 40, 40), bool))
    buffers = {"h.0.attn.bias": mask, "h.1.attn.masked_bias": np.array(-1e4, np.float32)}
    file = folder / "model.safetensors"
    for variant in (
        plain,
        {**plain, **buffers},
        {**tensors, "lm_head.weight": plain["wte.weight"]},
    ):
        st.save_file(variant, file)
        np.testing.assert_array_equal(load_pretrained(folder)(tokens), expected)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, held in parts.items():
        st.save_file({name: tensors[name] for name in held}, folder / part)
    file.unlink()
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(load_pretrained(folder)(tokens), expected)
    (folder / "b.safetensors").unlink()
    with pytest.raises(InputError, match=r"can't read .*b\.safetensors"):
        load_pretrained(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"wte": "../x"}}')
    with pytest.raises(InputError, match=r"index\.json does not name files"):
        load_pretrained(folder)


@pytest.mark.parametrize("value", [-1e4, -1e9, -np.inf])
def test_constants_of_old_checkpoints_have_no_effect(stored, value):
    folder, tensors = stored
    expected = load_pretrained(folder)(some_tokens((1, 9)))
    mask = np.tril(np.ones((40, 40), np.float32))
    more = {"transformer.h.2.attn.bias": mask, "h.0.attn.masked_bias": np.array([value])}
    st.save_file({**tensors, **more}, folder / "model.safetensors")
    np.testing.assert_array_equal(load_pretrained(folder)(some_tokens((1, 9))), expected)


MASK = np.tril(np.ones((1, 1, 40, 40), np.uint8))


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("h.1.attn.bias", np.ones_like(MASK)),  # the future is seen
        ("h.1.attn.bias", MASK * (np.arange(40) > 0)),  # the first token is not
        ("h.1.attn.bias", MASK[..., :39]),
        ("h.1.attn.bias", np.ones((), np.float32)),
        ("h.1.attn.bias", MASK * np.float32(np.nan)),
        ("h.1.attn.masked_bias", np.array(0.0)),
        ("h.1.attn.masked_bias", np.array(np.nan)),
        ("h.1.attn.masked_bias", np.full(2, -1e4)),
    ],
)
def test_other_constants_that_old_libraries_compute_with_are_refused(stored, name, constant):
    folder, tensors = stored
    st.save_file({**tensors, f"transformer.{name}": constant}, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"tensor {name} is a constant, and not that of a model"):
        load_pretrained(folder)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("theta", [1e4, 5e5])
def test_rates_of_positions_are_those_of_the_configuration(tmp_path, dtype, theta):
    from safetensors.flax import save_file

    config = LlamaConfig(
        vocab_size=11, context=8, width=128, num_layers=1, num_heads=2, num_kv_heads=1,
        mlp_width=8, rope_theta=theta,
    )  # fmt: skip
    save_pretrained(Llama(config), tmp_path)
    tensors = st.load_file(tmp_path / "model.safetensors")
    rates = (theta ** -(np.arange(32) / 32)).astype(np.float32)
    for other, is_right in ((rates, True), (rates * 1.01, False), (rates[:16], False)):
        own = {"model.layers.0.self_attn.rotary_emb.inv_freq": jnp.asarray(other, dtype)}
        save_file(tensors | own, tmp_path / "model.safetensors")
        if is_right:
            assert load_pretrained(tmp_path).config == config
            continue
        with pytest.raises(InputError, match="inv_freq is a constant, and not that of"):
            load_pretrained(tmp_path)


@pytest.mark.quick(1)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_numbers_become_float32(stored, dtype):
    from safetensors.flax import save_file

    folder, tensors = stored
    short = {name: jnp.asarray(tensor, dtype) for name, tensor in tensors.items()}
    save_file(short, folder / "model.safetensors")
    for name, parameter in parameters(load_pretrained(folder)).items():
        assert parameter.dtype == jnp.float32
        expected = short[f"transformer.{name}"].astype(jnp.float32)
        np.testing.assert_array_equal(parameter[...], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer.h.1.mlp.c_fc.bias": None}, r"tensor h\.1\.mlp\.c_fc\.bias is missing"),
        (
            {"transformer.h.3.ln_1.bias": np.ones(36, "f4")},
            r"h\.3\.ln_1\.bias does not belong to a model",
        ),
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
    with pytest.raises(InputError, match=message) as error:
        load_pretrained(folder)
    assert "model.safetensors" in str(error.value)
    assert "\n" not in str(error.value)


def weights(change):
    def damage(folder):
        file = folder / "model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return damage


HEADER = b'{"wte.weight":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
FLOAT8 = len(HEADER).to_bytes(8, "little") + HEADER + b"\0\0"
TRUNCATED = r"model\.safetensors is truncated or not safetensors"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a folder"),
        (lambda f: (f / "config.json").unlink(), r"can't read .*config\.json"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json is not JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), r"config\.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[" * 10**5), r"config\.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json is JSON but not an object"),
        (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors is not there"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            r"pytorch_model\.bin.*convert it",
        ),
        (weights(lambda _: FLOAT8), r"model\.safetensors"),
        (weights(lambda _: b"text"), TRUNCATED),
        (weights(lambda _: b""), TRUNCATED),
        (weights(lambda old: old[: len(old) // 10]), TRUNCATED),
        (weights(lambda old: old[:-1]), TRUNCATED),
    ],
)
def test_damaged_folders_are_refused(stored, damage, message):
    folder, _ = stored
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        load_pretrained(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_interrupted_writing_leaves_the_old_model(stored, monkeypatch):
    folder, _ = stored
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_pretrained(GPT2(CONFIG), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_pretrained(GPT2(CONFIG), folder)
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't make the folder"):
        save_pretrained(GPT2(CONFIG), tmp_path / "file" / "folder")
