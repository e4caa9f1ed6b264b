"""Archives made with a language model of the package."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("constriction")
pytest.importorskip("flax")
pytest.importorskip("tokenizers")

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.tokenizer import END_OF_TEXT, save_tokenizer, train_tokenizer
from copyreg_jax.lm.model_sources import load_model
from copyreg_jax.lm.models.gpt2 import GPT2Config
from copyreg_jax.lm.models.hugging_face import save_pretrained
from copyreg_jax.lm.models.llama import LlamaConfig
from copyreg_jax.neighbours import archive_file
from copyreg_jax.neighbours.codelength import compress, decompress
from copyreg_jax.neighbours.entropy_coder import Writer
from copyreg_jax.neighbours.token_coding import code_tokens, split_text, to_tokens
from tests.neighbours.test_codelength import bits_of_both, decoded_elsewhere, near, prose, resealed
from tests.support.mutants import planted
from tests.support.small_models import perturbed

CONFIGS = [
    GPT2Config(vocab_size=300, context=24, width=16, num_layers=2, num_heads=2),
    LlamaConfig(
        vocab_size=300, context=23, width=16, num_layers=2, num_heads=2, num_kv_heads=1,
        mlp_width=24,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([prose(2000).decode()], vocab_size=290)


@pytest.fixture(scope="module")
def model():
    return perturbed(CONFIGS[0])


@pytest.fixture(scope="module", params=CONFIGS, ids=["gpt2", "llama"])
def either(request):
    return perturbed(request.param)


TEXTS = {
    "empty": b"",
    "one byte": b"a",
    "text": prose(2600),
    "a text with its end in it": prose(300) + b"<|endoftext|>" + prose(300, 1),
    "no text": np.random.default_rng(0).bytes(300),
    "mixed": b"\xff\xfe" + prose(300) + bytes([0xC3]) + "é☃".encode() * 90 + b"\x80",
    "bom": b"\xef\xbb\xbf" + prose(400),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", TEXTS)
def test_any_bytes_come_back(name, model, tokenizer):
    made = compress(TEXTS[name], model, tokenizer)
    assert decompress(made.archive, model, tokenizer) == TEXTS[name]
    assert near(made)


@pytest.mark.quick(1)
def test_a_fresh_process_decodes(tmp_path, either, tokenizer, monkeypatch):
    save_pretrained(either, tmp_path / "model")
    save_tokenizer(tokenizer, tmp_path / "model")
    loaded = load_model(tmp_path / "model", jnp.float32)
    data = TEXTS["mixed"] + TEXTS["text"]
    monkeypatch.setenv("JAX_ENABLE_X64", str(int(jax.config.jax_enable_x64)))
    digest = decoded_elsewhere(compress(data, *loaded).archive, tmp_path, tmp_path / "model")
    assert digest == hashlib.sha256(data).hexdigest()


def bits_of(tokens, model, tokenizer):
    writer = Writer()
    code_tokens(writer, model, tokenizer.token_to_id(END_OF_TEXT), len(tokens), tokens)
    return writer.ideal_bits


@pytest.mark.quick(1)
def test_the_code_length_is_that_of_the_model(either, tokenizer):
    """One forward pass over all tokens of a context gives the same bits, nearly."""
    tokens = to_tokens(tokenizer, prose(200))[:20]
    logits = either(jnp.asarray([[tokenizer.token_to_id(END_OF_TEXT), *tokens[:-1]]]))
    log_p = jax.nn.log_softmax(logits.astype(jnp.float64))[0][np.arange(len(tokens)), tokens]
    # Logits of size 10 are within 10 * 2^-24 * 16 additions, 1e-5, in both; then 20 tokens.
    # Nine bits of a token, with probabilities above 2^-16, are rounded by 2^-25.
    room = 20 * (2e-5 + 9 * 2**-9 * 1.5)
    assert abs(bits_of(tokens, either, tokenizer) + float(log_p.sum()) / np.log(2)) < room


@pytest.mark.quick(1)
def test_later_windows_begin_with_half_a_context(either, tokenizer):
    """The token after a full context is predicted from its last half."""
    context = either.config.context
    tokens = to_tokens(tokenizer, prose(400))[: context + 1]
    full, more = (bits_of(some, either, tokenizer) for some in (tokens[:context], tokens))
    window = tokens[context - context // 2 : context]
    logits = either(jnp.asarray(window[None])).astype(jnp.float64)
    expected = -float(jax.nn.log_softmax(logits)[0, -1, tokens[context]]) / np.log(2)
    assert abs(more - full - expected) < 2e-5 + 9 * 2**-9 * 1.5


def bits_for_each(model, tokenizer, text):
    """The mean ideal bits of tokens, which a reader gives back."""
    first, tokens = tokenizer.token_to_id(END_OF_TEXT), to_tokens(tokenizer, text)
    code = lambda coder, known: code_tokens(coder, model, first, len(tokens), known)  # noqa: E731
    return bits_of_both(code, tokens) / len(tokens)


@pytest.mark.quick(1)
def test_writer_and_reader_see_the_same_bits(either, tokenizer):
    bits_for_each(either, tokenizer, prose(2600))


def test_tokens_of_probability_zero_are_coded(tokenizer):
    # At most 24 bits for each of nine choices.
    assert bits_for_each(perturbed(CONFIGS[0], scale=30.0), tokenizer, prose(200)) <= 24 * 9


def test_another_model_or_no_model_is_refused(model, tokenizer):
    archive = compress(prose(300), model, tokenizer).archive
    with pytest.raises(InputError, match="another model or tokenizer"):
        decompress(archive, perturbed(model.config, seed=1), tokenizer)
    with pytest.raises(InputError, match="another model or tokenizer"):
        decompress(archive, model, train_tokenizer([], vocab_size=257))
    with pytest.raises(InputError, match="give that model"):
        decompress(archive)
    with pytest.raises(InputError, match="give none"):
        decompress(compress(b"a").archive, model, tokenizer)


def test_every_version_is_compared(model, tokenizer):
    archive = compress(prose(300), model, tokenizer).archive
    names = set(archive_file._made_with(True))
    assert names >= {"copyreg-jax", "constriction", "numpy", "jax", "jaxlib", "flax", "XLA_FLAGS"}
    assert names >= {"device", "processor", "cpus", "x64"}
    for name in names:
        other = resealed(archive, lambda header, name=name: header["made_with"].update({name: "?"}))
        with pytest.raises(InputError, match=f"made with {name} "):
            decompress(other, model, tokenizer)


def test_a_tokenizer_that_changes_texts_leaves_all_to_the_bytes(model, tokenizer):
    import tokenizers

    strange = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    strange.normalizer = tokenizers.normalizers.Lowercase()
    data = prose(400).upper()
    assert to_tokens(strange, data) is None
    made = compress(data, model, strange)
    assert decompress(made.archive, model, strange) == data


@pytest.mark.parametrize("data", TEXTS.values(), ids=TEXTS)
def test_parts_are_by_turns_rest_and_text(data):
    lengths = split_text(data)
    assert sum(lengths) == len(data)
    assert len(lengths) % 2 == 1
    text, rest = archive_file._parted(data, lengths)
    text.decode()
    assert archive_file._joined(text, rest, lengths) == data


def test_planted_bugs_are_found(tokenizer):
    coding = "neighbours.token_coding"
    bugs = [
        (f"{coding}:_code_symbols", "np.clip(np.rint(share * SCALE), 1, SCALE - 1)",
         "np.rint(share * SCALE)", lambda: test_tokens_of_probability_zero_are_coded(tokenizer)),
        (f"{coding}:code_tokens", "done + 1 - half", "done - half",
         lambda: test_later_windows_begin_with_half_a_context(perturbed(CONFIGS[0]), tokenizer)),
        (f"{coding}:to_tokens", "np.array(tokens, np.int64) if same else None", "np.array(tokens)",
         lambda: test_a_tokenizer_that_changes_texts_leaves_all_to_the_bytes(
             perturbed(CONFIGS[0]), tokenizer)),
    ]  # fmt: skip
    for *bug, test in bugs:
        test()
        with planted(*bug), pytest.raises((AssertionError, InputError, TypeError, ValueError)):
            test()
