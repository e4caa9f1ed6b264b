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
from copyreg_jax.lm.corpus.tokenizer import (
    END_OF_TEXT,
    save_tokenizer,
    train_tokenizer,
)
from copyreg_jax.lm.experiment import load_model
from copyreg_jax.lm.models.gpt2 import GPT2Config
from copyreg_jax.lm.models.hugging_face import save_pretrained
from copyreg_jax.lm.models.llama import LlamaConfig
from copyreg_jax.neighbours import archive_file
from copyreg_jax.neighbours.codelength import compress, decompress
from copyreg_jax.neighbours.entropy_coder import SCALE, Reader, Writer
from copyreg_jax.neighbours.token_coding import code_tokens, split_text, to_tokens
from tests.neighbours.test_codelength import decoded_elsewhere, near, prose, resealed
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
def test_a_fresh_process_decodes(tmp_path, either, tokenizer):
    save_pretrained(either, tmp_path / "model")
    save_tokenizer(tokenizer, tmp_path / "model")
    loaded = load_model(tmp_path / "model", jnp.float32)
    data = TEXTS["mixed"] + TEXTS["text"]
    x64, jax_x64 = "JAX_ENABLE_X64", jax.config.jax_enable_x64
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(x64, str(int(jax_x64)))
        archive = compress(data, *loaded).archive
        digest = decoded_elsewhere(archive, tmp_path, tmp_path / "model")
    assert digest == hashlib.sha256(data).hexdigest()


@pytest.mark.quick(1)
def test_the_code_length_is_that_of_the_model(either, tokenizer):
    """One forward pass over all tokens of a context gives the same bits, nearly."""
    first = tokenizer.token_to_id(END_OF_TEXT)
    tokens = to_tokens(tokenizer, prose(200))[:20]
    writer = Writer()
    code_tokens(writer, either, first, len(tokens), tokens)
    logits = either(jnp.asarray([[first, *tokens[:-1]]]))
    log_p = jax.nn.log_softmax(logits.astype(jnp.float64))[0][np.arange(len(tokens)), tokens]
    # Logits of size 10 are within 10 * 2^-24 * 16 additions, 1e-5, in both; then 20 tokens.
    # Nine bits of a token, with probabilities above 2^-16, are rounded by 2^-25.
    assert abs(writer.ideal_bits + float(log_p.sum()) / np.log(2)) < 20 * (2e-5 + 9 * 2**-9 * 1.5)


@pytest.mark.quick(1)
def test_later_windows_begin_with_half_a_context(either, tokenizer):
    """The token after a full context is predicted from its last half."""
    first, context = tokenizer.token_to_id(END_OF_TEXT), either.config.context
    tokens = to_tokens(tokenizer, prose(400))[: context + 1]
    lengths = []
    for count in (context, context + 1):
        writer = Writer()
        code_tokens(writer, either, first, count, tokens[:count])
        lengths.append(writer.ideal_bits)
    window = tokens[context - context // 2 : context]
    logits = either(jnp.asarray(window[None])).astype(jnp.float64)
    expected = -float(jax.nn.log_softmax(logits)[0, -1, tokens[context]]) / np.log(2)
    assert abs(lengths[1] - lengths[0] - expected) < 2e-5 + 9 * 2**-9 * 1.5


class Spy:
    def __init__(self, coder):
        self.coder, self.seen = coder, []

    def bits(self, p, known):
        self.seen.append(np.array(p))
        assert ((p >= 1) & (p < SCALE)).all()
        return self.coder.bits(p, known)


@pytest.mark.quick(1)
def test_writer_and_reader_see_the_same_bits(either, tokenizer):
    first, tokens = tokenizer.token_to_id(END_OF_TEXT), to_tokens(tokenizer, prose(2600))
    writer = Spy(Writer())
    code_tokens(writer, either, first, len(tokens), tokens)
    reader = Spy(Reader(writer.coder.content()))
    assert (code_tokens(reader, either, first, len(tokens)) == tokens).all()
    assert len(writer.seen) == len(reader.seen)
    assert all((one == two).all() for one, two in zip(writer.seen, reader.seen, strict=True))


def certain(seed=0):
    return perturbed(CONFIGS[0], seed, scale=30.0)


def test_tokens_of_probability_zero_are_coded(tokenizer):
    first, tokens = tokenizer.token_to_id(END_OF_TEXT), to_tokens(tokenizer, prose(200))
    writer = Spy(Writer())
    code_tokens(writer, certain(), first, len(tokens), tokens)
    reader = Spy(Reader(writer.coder.content()))
    assert (code_tokens(reader, certain(), first, len(tokens)) == tokens).all()
    # At most 24 bits for each of nine choices.
    assert writer.coder.ideal_bits <= 24 * 9 * len(tokens)


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
