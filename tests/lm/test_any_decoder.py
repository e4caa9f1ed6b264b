"""Certificates of inextractable windows cover models as they are run, and the command."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("flax")
pytest.importorskip("tokenizers")

from copyreg_jax.checker import budget, inextractable
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.checker.verdicts import Verdict
from copyreg_jax.cli.main import app
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from copyreg_jax.lm.leakage import any_decoder
from copyreg_jax.lm.leakage.any_decoder import (
    InextractableCertificate,
    certify_windows,
    logit_error,
)
from copyreg_jax.lm.leakage.phrases import bound
from copyreg_jax.lm.leakage.teacher_forced import read_suffixes
from copyreg_jax.lm.models.gpt2 import GPT2Config
from copyreg_jax.lm.models.hugging_face import load_pretrained, save_pretrained
from copyreg_jax.lm.models.llama import LlamaConfig
from tests.support.small_models import perturbed

CONFIGS = {
    "gpt2": GPT2Config(vocab_size=257, context=24, width=16, num_layers=2, num_heads=2),
    "llama": LlamaConfig(
        vocab_size=257, context=24, width=16, num_layers=2, num_heads=4, num_kv_heads=2,
        mlp_width=20,
    ),
}  # fmt: skip
PREFIX = 6

ROUNDED = 12 * 97 * 2.0**-52
"""Twelve float64 sums of at most 12 log2 257 < 97."""


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    save_pretrained(perturbed(CONFIGS[request.param]), path)
    save_tokenizer(train_tokenizer([], vocab_size=257), path)
    return path


def some_windows(number, seed=0):
    return np.random.default_rng(seed).integers(0, 257, (number, 18))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_slack_covers_a_model_as_it_is_run(folder, dtype, tmp_path):
    windows, loaded = some_windows(5), load_pretrained(folder, dtype)
    error = logit_error(folder, loaded, windows, PREFIX)
    # Two roundings a product, tens of products: neither exact nor worse than its dtype.
    assert 0 < error < 100 * float(jnp.finfo(dtype).eps)
    found = certify_windows(folder, windows, PREFIX, slack=error)
    bits = read_suffixes(loaded, windows.astype(np.int32), prefix=PREFIX).bits
    assert (np.array(found.bits) <= bits + ROUNDED).all()
    assert found.b == min(found.bits) > 0
    found.save(tmp_path / "certificate.json")
    seen = []
    checked = check_file(
        tmp_path / "certificate.json", folder,
        lambda done, budget: seen.append((done, budget.windows, budget.tokens)),
    )  # fmt: skip
    assert checked.verdict is Verdict.CERTIFIED
    assert seen == [(0, 5, 85), (4, 5, 85)]
    assert InextractableCertificate.load(tmp_path / "certificate.json").bits == found.bits
    exact = certify_windows(folder, windows, PREFIX)
    assert np.all(np.array(exact.bits) >= found.bits)


@pytest.fixture
def precisions(monkeypatch):
    """The precisions that are tried."""
    seen, inner = [], inextractable.suffix_states

    def states(model, windows, prefix, precision):
        seen.append(precision)
        return inner(model, windows, prefix, precision)

    monkeypatch.setattr(inextractable, "suffix_states", states)
    return seen


def test_ties_end_the_search_for_more_bits(folder, tmp_path, precisions):
    """Half of the tokens have the same logits."""
    model = load_pretrained(folder)
    weight = (model.wte if hasattr(model, "wte") else model.embed_tokens).weight
    weight.set_value(jnp.concatenate([weight[...][:129], weight[...][1:129]]))
    save_pretrained(model, tmp_path)
    windows = some_windows(2)
    found = certify_windows(tmp_path, windows, PREFIX)
    assert found.document["precision"] == 128 + 2 * 24
    assert precisions == [176, 352]
    assert np.all(
        np.array(found.bits) <= read_suffixes(model, windows, prefix=PREFIX).bits + ROUNDED
    )
    found.save(tmp_path / "certificate.json")
    assert check_file(tmp_path / "certificate.json", tmp_path).verdict is Verdict.CERTIFIED


def test_a_precision_that_is_too_low_is_doubled(tmp_path, precisions, monkeypatch):
    config = GPT2Config(vocab_size=257, context=24, width=16, num_layers=12, num_heads=4)
    save_pretrained(perturbed(config, scale=1.0), tmp_path)
    windows = some_windows(1)[:, :9]
    enough = certify_windows(tmp_path, windows, PREFIX)
    monkeypatch.setattr(any_decoder, "_LAYER", 0)
    found = certify_windows(tmp_path, windows, PREFIX)
    assert precisions[1:] == [128, 256]
    assert found.document["precision"] == 256
    assert found.bits == enough.bits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windows": np.zeros(4, int)}, "windows have shape"),
        ({"windows": np.zeros((2, 9))}, "windows have shape"),
        ({"windows": some_windows(1) - 999}, "a token below 0"),
        ({"windows": some_windows(1) + 257}, "a token that the model has not"),
        ({"windows": np.zeros((1, 99), int)}, "longer than the model's context"),
        ({"prefix": 0}, "prefix is 0"),
        ({"prefix": 18}, "prefix is 18"),
        ({"slack": -1.0}, "slack is -1.0"),
        ({"slack": 1e40}, "slack is 1e+40; give a number from 0 to 2^100"),
        ({"slack": float("nan")}, "slack is nan"),
        ({"folder": "no-such-folder"}, "can't read no-such-folder"),
    ],
)
def test_what_can_not_be_certified(folder, change, message):
    given = {"folder": folder, "windows": some_windows(1), "prefix": PREFIX} | change
    with pytest.raises(InputError, match=re.escape(message)):
        certify_windows(**given)


# The command


TEXT = "Far out a white sail went by, and nobody on the pier could say whose it was, or from where."


def test_errors_of_logits_that_the_model_has_not_are_refused(folder):
    windows, loaded = some_windows(1), load_pretrained(folder)
    windows[0, 3] = 257
    with pytest.raises(InputError, match="a window has a token that the model has not"):
        logit_error(folder, loaded, windows, PREFIX)
    with pytest.raises(InputError, match="can't read"):
        logit_error(folder / "none", loaded, some_windows(1), PREFIX)


@pytest.fixture
def audit(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sea.txt").write_text(TEXT)
    (tmp_path / "land.txt").write_text(TEXT[::-1])

    def run(*more, model=folder):
        sizes = ["--prefix", "6", "--suffix", "12", "--stride", "5", "--outputs", "0"]
        command = ["audit", "--model", str(model), "--work", "sea.txt", "--work", "land.txt"]
        return CliRunner().invoke(app, [*command, *sizes, "--certificate", "proof.json", *more])

    return run


def test_the_passages_with_the_fewest_bits_are_certified(audit, folder, tmp_path):
    files = "--out", "audit.json", "--page", "audit.html"
    done = audit("--certify-windows", "3", "--slack", "0.01", *files)
    assert done.exit_code == 0, done.output
    found = InextractableCertificate.load(tmp_path / "proof.json")
    line = next(line for line in done.output.splitlines() if line.startswith("proved for 3 of"))
    said = float(re.search(r"above 2\^-([\d.]+),", line)[1])
    assert found.b - 0.1 <= said <= found.b
    assert "--slack is too small" not in line
    shown = float(re.search(r"are within (\S+) here", line)[1])
    content = json.loads((tmp_path / "audit.json").read_text())["certificate"]
    assert 0 < content.pop("float32_error") <= shown < 0.01
    assert content == {"name": "proof.json", "passages": 3, "of": content["of"],
                       "b": found.b, "slack": 0.01}  # fmt: skip
    page = (tmp_path / "audit.html").read_text()
    assert f"above {bound(found.b)} on logits within 0.01 of the exact ones." in page
    assert "--certificate proof.json --certify-windows 3 --slack 0.01" in page
    # Against the passages of the texts themselves, a token per character.
    ids = [load_tokenizer(folder).encode(text).ids for text in (TEXT, TEXT[::-1])]
    windows = [own[i : i + 18] for own in ids for i in range(0, len(own) - 17, 5)]
    bits = read_suffixes(load_pretrained(folder), np.array(windows, np.int32), prefix=6).bits
    chosen = [windows.index(list(window)) for window in found.document["windows"]]
    assert content["of"] == len(windows)
    assert sorted(bits[chosen]) == sorted(bits)[:3]
    assert re.search(r"Proving 51 tokens took \S+ seconds; copyreg check takes as long$", line)
    checked = CliRunner().invoke(app, ["check", "proof.json", str(folder)])
    assert checked.exit_code == 0
    assert "0.01" in checked.output
    assert "3 windows, 51 tokens through the model in exact arithmetic\n" in checked.output
    few = CliRunner().invoke(app, ["check", "proof.json", str(folder), "--max-tokens", "50"])
    assert few.exit_code == 2
    assert few.output.splitlines()[-2:] == [
        "proof.json asks for 3 windows, 51 tokens through the model in exact arithmetic, and this "
        "check for 50 at most; to check it all the same, give --max-tokens with a larger number",
        "VOID",
    ]


def test_a_proof_that_takes_a_larger_limit_to_check_says_so(audit, monkeypatch):
    monkeypatch.setattr(budget, "MAX_TOKENS", 16)
    done = audit("--certify-windows", "1")
    assert "copyreg check takes as long, and needs --max-tokens 17\n" in done.output


def test_a_slack_that_does_not_cover_float32_is_told(audit):
    done = audit("--certify-windows", "1", "--slack", "1e-9")
    assert "so --slack is too small for float32" in done.output


def test_what_can_not_be_proved_is_refused_before_the_audit(audit, folder, tmp_path):
    for more, message in (
        (["--slack", "1e40"], "--slack is 1e+40; give a number from 0 to 2^100"),
        (["--certificate", str(folder / "new.json")], "is within the model"),
        (["--certificate", "sea.txt", "--overwrite"], "would replace sea.txt"),
        (["--out", "proof.json"], "proof.json is another output too; choose two files"),
        (["--out", "a", "--certificate", "a.partial"], "a.partial is another output too"),
        (["--certificate", "no/proof.json"], "can't write --certificate"),
        (["--quantize", "4"], "--certificate is about the weights of the folder; omit --quantize"),
        (["--work", "absent.txt", "--model", "smollm2"], "needs a Hugging Face folder"),
    ):
        found = audit(*more)
        assert isinstance(found.exception, InputError)
        assert message in str(found.exception)
    content = json.loads((folder / "config.json").read_text()) | {"logit_softcap": 30}
    other = tmp_path / "other"
    other.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    (other / "config.json").write_text(json.dumps(content))
    found = audit(model=other)
    assert "logit_softcap is not known" in str(found.exception)
    assert not (tmp_path / "proof.json").exists()


def test_a_model_that_changes_before_the_proof_is_refused(audit, folder, tmp_path, monkeypatch):
    """Another layout of config.json: the same model in other bytes."""
    content, certify = (folder / "config.json").read_text(), any_decoder.certify_windows

    def touched(*arguments, **options):
        (folder / "config.json").write_text(content + " ")
        return certify(*arguments, **options)

    monkeypatch.setattr(any_decoder, "certify_windows", touched)
    found = audit("--certify-windows", "1")
    (folder / "config.json").write_text(content)
    assert "has changed during the audit; run this again" in str(found.exception)
    assert not (tmp_path / "proof.json").exists()
