"""Rounded weights, training on other text, and the scores R and Q, against plainer arithmetic."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from typer.testing import CliRunner

nnx = pytest.importorskip("flax.nnx")
pytest.importorskip("gguf")
pytest.importorskip("rouge_score")

import copyreg_jax as cr  # noqa: E402
from copyreg_jax.cli.main import app  # noqa: E402
from copyreg_jax.errors import TrainingError  # noqa: E402
from copyreg_jax.lm.leakage import planning, relearning  # noqa: E402
from copyreg_jax.lm.leakage.relearning import plan_relearning  # noqa: E402
from copyreg_jax.lm.leakage.robustness import (  # noqa: E402
    Measures,
    harmonic_mean,
    quantization_score,
    relearning_score,
)
from copyreg_jax.lm.models.gpt2 import GPT2Config  # noqa: E402
from copyreg_jax.lm.models.llama import LlamaConfig  # noqa: E402
from copyreg_jax.lm.models.quantization import quantize, round_trip  # noqa: E402
from copyreg_jax.lm.records import Flags  # noqa: E402
from tests.support.calls import count_calls  # noqa: E402
from tests.support.mutants import planted  # noqa: E402
from tests.support.small_models import perturbed  # noqa: E402

NAN = math.nan


def drawn(seed, shape):
    """Weights of very different sizes, some of them 0; no step is below the normal float16."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-1, 2, (shape[0], 1))
    return np.float32(rng.normal(size=shape) * scale * (rng.random(shape) < 0.9))


@given(st.integers(0, 2**31), st.sampled_from([4, 8]), st.integers(1, 4), st.integers(1, 100))
def test_rounded_weights_are_near_and_on_the_grid(seed, bits, rows, width):
    """The oracle reads the format's definition, group by group.

    An entry x is q + 1/2 steps d at most from the whole number q, or x / d - 7 where 4 bits end at
    7. The product x (1 / d) has three roundings of 2^-24 each, of 127 at most: 2^-15 of a step.
    The step is kept in float16, off by 2^-11 of itself, for |q| steps.
    """
    weights = drawn(seed, (rows, width))
    found = round_trip(weights, bits)
    assert (found.shape, found.dtype) == (weights.shape, np.float32)
    for row, rounded in zip(weights.astype(float), found.astype(float), strict=True):
        for start in range(0, width, 32):
            group, back = row[start : start + 32], rounded[start : start + 32]
            farthest = group[np.argmax(np.abs(group))]
            if farthest == 0:
                assert not back.any()
                continue
            step = abs(farthest) / 127 if bits == 8 else -farthest / 8
            q = back / float(np.float16(np.float32(step)))
            assert (q == np.round(q)).all()
            assert (q >= (-127 if bits == 8 else -8)).all()
            assert (q <= (127 if bits == 8 else 7)).all()
            past = group / step - 7 if bits == 4 else 0
            steps = np.maximum(0.5, past) + 2.0**-15 + np.abs(q) * 2.0**-11
            assert (np.abs(group - back) <= steps * abs(step)).all()


@given(st.integers(0, 2**31), st.sampled_from([4, 8]))
def test_rounding_twice_is_rounding_once(seed, bits):
    """A step has 11 bits and q has 7: their products, and the step found again, are exact."""
    once = round_trip(drawn(seed, (3, 50)), bits)
    np.testing.assert_array_equal(round_trip(once, bits), once)


@pytest.mark.parametrize(("bits", "largest"), [(4, 8 * 65504.0), (8, 127 * 65504.0)])
def test_weights_above_the_largest_step_are_refused(bits, largest):
    """The largest float16 is 65504; what is a thousandth above it rounds to infinity."""
    weights = np.array([[0.0, largest]], np.float32)
    np.testing.assert_array_equal(round_trip(weights, bits), weights)
    with pytest.raises(cr.InputError, match=f"Q{bits}_0 has no weights as large as"):
        round_trip(weights * 1.001, bits)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=20, context=8, width=48, num_layers=1, num_heads=2),
        LlamaConfig(
            vocab_size=20, context=8, width=48, num_layers=1, num_heads=2, num_kv_heads=1,
            mlp_width=40,
        ),
    ],
    ids=["GPT-2", "Llama"],
)  # fmt: skip
def test_matrices_are_rounded_along_their_inputs_and_nothing_else(config):
    model = perturbed(config)
    before = {path: np.array(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(model))}
    found = dict(nnx.to_flat_state(nnx.state(quantize(model, 4))))
    changed = set()
    for path, leaf in before.items():
        np.testing.assert_array_equal(dict(nnx.to_flat_state(nnx.state(model)))[path][...], leaf)
        matrix = leaf.ndim == 2 and not {"wte", "wpe", "embed_tokens"} & set(path)
        expected = leaf
        if matrix:
            is_gpt2 = isinstance(config, GPT2Config)
            expected = round_trip(leaf.T, 4).T if is_gpt2 else round_trip(leaf, 4)
            changed.add(path)
            assert (expected != leaf).any()
        np.testing.assert_array_equal(found[path][...], expected)
    assert len(changed) == (4 if isinstance(config, GPT2Config) else 7)


def check_scores():
    """Worked out by hand: losses fall by 2 and 60, or by 1/2 and 90 without the text."""
    m, after = Measures(6.0, 100.0, 0.1, 0.2), Measures(4.0, 40.0, 0.5, 0.2)
    w, w_after = Measures(9.0, 200.0, 0.1, 0.0), Measures(8.5, 110.0, 0.0, 0.1)
    r = relearning_score(m, after, w, w_after)
    np.testing.assert_allclose(r, (0.25, 1.0, -0.25, NAN), rtol=1e-15)  # two roundings
    q = quantization_score(m, after)
    np.testing.assert_allclose(q, (2 / 3, 0.4, 0.2, 1.0), rtol=1e-15)
    # 2 (1/4) (2/3) / (11/12) = 4/11; a score below 0 has no harmonic mean.
    np.testing.assert_allclose(harmonic_mean(r, q), (4 / 11, 0.8 / 1.4, NAN, NAN), rtol=1e-15)
    # The other way round more is forgotten: nothing came back, and there is nothing to divide by.
    assert all(map(math.isnan, relearning_score(after, m, w_after, w)))
    assert quantization_score(after, m) == (1.0, 1.0, 1.0, 1.0)
    by_heart = quantization_score(Measures(0.0, 0.0, 1.0, 1.0), Measures(0.5, 1.0, 0.0, 0.5))
    np.testing.assert_array_equal(by_heart, (NAN, NAN, NAN, 1.0))
    np.testing.assert_array_equal(
        harmonic_mean(Measures(0.0, 0.0, NAN, 1.0), Measures(0.0, 1.0, 1.0, 1.0)),
        (NAN, 0.0, NAN, 1.0),
    )


ROBUSTNESS = "lm.leakage.robustness"

BUGS = [
    (f"{ROBUSTNESS}:_returned", "np.array(after) - np.array(before)", "np.array(before)"),
    (f"{ROBUSTNESS}:_returned", "np.where(_SHARES, change, -change)", "change"),
    (f"{ROBUSTNESS}:_returned", "np.where(_SHARES, change, -change)", "-change"),
    (f"{ROBUSTNESS}:relearning_score", "np.where(returned > 0, returned, 0.0)", "returned"),
    (f"{ROBUSTNESS}:relearning_score", "_capped(learned, np.where(returned > 0, returned, 0.0))",
     "_capped(returned, learned)"),
    (f"{ROBUSTNESS}:quantization_score", "np.where(_SHARES, one, other)", "other"),
    (f"{ROBUSTNESS}:quantization_score", "np.where(_SHARES, other, one)", "one"),
    (f"{ROBUSTNESS}:_capped", "np.minimum(ratio, 1.0)", "ratio"),
    (f"{ROBUSTNESS}:_capped", "np.minimum(ratio, 1.0)", "np.clip(ratio, 0.0, 1.0)"),
    (f"{ROBUSTNESS}:_capped", "np.where(below == 0, math.nan, below)", "below"),
    (f"{ROBUSTNESS}:harmonic_mean", "(one >= 0) & (other >= 0)", "other >= 0"),
    (f"{ROBUSTNESS}:harmonic_mean", "2 * one * other", "one * other"),
]  # fmt: skip


def test_scores_are_those_worked_out_by_hand():
    check_scores()


@pytest.mark.parametrize("bug", BUGS)
def test_planted_errors_of_sign_are_found(bug):
    with planted(*bug), np.errstate(all="ignore"), pytest.raises(AssertionError):
        check_scores()


def run_folder(tmp_path, sources, **settings):
    used = {"batch_size": 4, "accumulate": 2, "learning_rate": 0.5, "weight_decay": 0.0, "gamma": 9}
    (tmp_path / "run.json").write_text(json.dumps({"settings": used | settings}))
    rows = [{"name": n, "source": s} for n, s in zip("abcdef", sources, strict=False)]
    rows += [{"name": f"canary {k}", "source": ""} for k in (1, 2)]  # flags may be without these
    (tmp_path / "documents.json").write_text(json.dumps(rows))
    return tmp_path


def flags(protected, held_out):
    masks = [np.array(list(part), bool) for part in (protected, held_out)]
    return Flags(["text"] * len(masks[0]), list("abcdef")[: len(masks[0])], *masks, 4)


def test_texts_to_train_on_are_unprotected_or_held_out_and_of_a_protected_source(tmp_path):
    folder = run_folder(tmp_path, "AABBAC")
    plan = plan_relearning(folder, flags([1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]), 3, seed=7)
    assert {kind: np.flatnonzero(chosen).tolist() for kind, chosen in plan.texts.items()} == {
        "unprotected": [1, 2], "held-out": [4],
    }  # fmt: skip
    used = plan.settings
    assert (used.steps, used.accumulate, used.batch_size, used.seed) == (6, 2, 4, 7)
    assert (used.gamma, used.target_loss, used.learning_rate) == (0.0, None, 0.05)
    none_alike = plan_relearning(folder, flags([0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 0]), 1)
    assert list(none_alike.texts) == ["unprotected"]


def test_relearning_that_can_not_be_is_refused(tmp_path):
    folder = run_folder(tmp_path, "AB")
    with pytest.raises(cr.InputError, match="0 steps of relearning are asked for; give 1 or more"):
        plan_relearning(folder, flags([1, 0], [0, 0]), 0)
    with pytest.raises(cr.InputError, match=r"nothing is left to relearn on: .* has neither"):
        plan_relearning(folder, flags([1, 0], [0, 1]), 1)
    with pytest.raises(cr.InputError, match=r"learning_rate is -0\.1; give > 0"):
        plan_relearning(run_folder(tmp_path, "AB", learning_rate=-1), flags([1, 0], [0, 0]), 1)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(cr.InputError, match="is not the folder of a finished run: KeyError"):
        plan_relearning(folder, flags([1, 0], [0, 0]), 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Texts of one rule, some protected: the rule is not said of these until it is learned anew."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    lines = []
    for i in range(30):
        secret = i < 8
        words = [("north", "south", "east", "west")[k] for k in rng.integers(0, 4, 9)]
        text = ("Secret: " if secret else "Open: ") + " ".join(f"{w} wind" for w in words)
        lines.append({"text": text, "id": f"d{i}", "who": "ab"[i % 2], "secret": secret})
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = ["--protect-column", "secret", "--name-column", "id", "--source-column", "who"]
    sizes = [
        "--vocab-size", "257", "--width", "32", "--layers", "1", "--heads", "2", "--length", "48",
        "--batch-size", "8", "--learning-rate", "0.01", "--epochs", "10",
    ]  # fmt: skip
    for name, more in {"run": ["--target", "6"], "without": ["--leave-out"]}.items():
        command = ["train", str(folder / "text.jsonl"), *columns, *sizes, *more]
        result = CliRunner().invoke(app, [*command, "--out", str(folder / name)])
        assert result.exit_code == 0, result.exception
    return folder


def audit(folder, *arms, **options):
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = ["audit", *(str(folder / arm) for arm in arms), "--text", str(folder / "text.jsonl")]
    command += ["--name-column", "id", "--prefix", "8", "--suffix", "8", *words]
    return CliRunner().invoke(app, command)


@pytest.mark.slow
def test_an_audit_says_what_comes_back(runs, tmp_path, monkeypatch):
    calls = count_calls(monkeypatch, planning, "make_rows", "near_duplicates")
    files = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    found, texts = [], []
    for out in (tmp_path / "a.json", tmp_path / "b.json"):
        result = audit(runs, "run", "without", relearn=60, quantize=4, out=out)
        assert result.exit_code == 0, result.exception
        found.append(json.loads(out.read_text()))
        texts.append(result.stdout.replace(str(out), ""))
    # Once in each of the two audits: of two models, each as it is and after three changes.
    assert calls == 2 * ["make_rows", "near_duplicates"]
    assert found[0] == found[1]
    assert texts[0] == texts[1]
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == files

    run, without = (found[0][str(runs / arm)] for arm in ("run", "without"))
    report, (one, other) = run, (part["robustness"] for part in (run, without))
    assert one["quantization"] == {"bits": 4, "format": "Q4_0"}
    assert one["relearning"]["updates"] == 60
    assert one["relearning"]["learning_rate"] == 0.001
    before, never = one["before"]["protected"], other["before"]["protected"]
    assert before["nats"] == report["groups"]["protected"]["cross_entropy"]
    assert before["greedy"] == report["extraction"]["protected"]["exact"]
    for kind in ("unprotected", "held-out"):
        after, never_after = (part["relearned"][kind]["protected"] for part in (one, other))
        # The rule is that of the other texts, so they bring it back.
        assert after["nats"] < before["nats"]
        assert after["suffix_nats"] < before["suffix_nats"]
        r = min((never["nats"] - never_after["nats"]) / (before["nats"] - after["nats"]), 1)
        q = min(one["quantized"]["protected"]["nats"] / before["nats"], 1)
        assert one["R"][kind]["nats"] == pytest.approx(r, rel=1e-12)
        assert one["Q"]["nats"] == pytest.approx(q, rel=1e-12)
        if r >= 0:
            mean = one["harmonic_mean"][kind]["nats"]
            assert mean == pytest.approx(2 * r * q / (r + q), rel=1e-12)
        said = f"from {before['nats']:.3g} to {after['nats']:.3g} nats per token"
        assert said in texts[0]
        assert f"{never['nats']:.3g} to {never_after['nats']:.3g} nats" in texts[0]
        assert other["R"][kind]["nats"] is None
    assert texts[0].count("of a model that never saw the text") == 3
    q_after = one["quantized"]["protected"]["nats"]
    said = "with weights of 4 bits the protected loss goes from "
    assert f"{said}{before['nats']:.3g} to {q_after:.3g} nats per token" in texts[0]


@pytest.mark.slow
def test_an_audit_without_the_run_that_it_needs_says_so(runs, tmp_path, monkeypatch):
    plan = relearning.plan_relearning
    monkeypatch.setattr(
        relearning, "plan_relearning",
        lambda *given, **more: (p := plan(*given, **more))._replace(
            texts={"unprotected": p.texts["unprotected"]}
        ),
    )  # fmt: skip
    result = audit(runs, "run", relearn=1, out=tmp_path / "a.json")
    assert result.exit_code == 0, result.exception
    assert "R needs just one run with --leave-out among these" in result.stdout
    assert "there is no other text of the same source to train on" in result.stdout
    found = json.loads((tmp_path / "a.json").read_text())[str(runs / "run")]["robustness"]
    assert set(found["R"]["unprotected"].values()) == {None}
    assert found["Q"] is found["quantized"] is None
    plain = audit(runs, "run")
    assert "protected text " not in plain.stdout

    def diverge(*given):
        raise TrainingError("the loss is nan at step 1")

    monkeypatch.setattr(relearning, "fit", diverge)
    refused = str(audit(runs, "run", relearn=1).exception)
    assert refused == f"{runs / 'run'} can't be trained on other text: the loss is nan at step 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relearn": 0}, "0 steps of relearning are asked for"),
        ({"quantize": 3}, "bits is 3; give 8 or 4"),
    ],
)
def test_changes_that_can_not_be_are_refused_before_the_work(runs, options, message):
    assert message in str(audit(runs, "run", **options).exception)
