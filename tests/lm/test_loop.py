"""The training loop: right steps, exact resumption, and runs that go wrong."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flax")
pytest.importorskip("orbax.checkpoint")

import jax
import jax.numpy as jnp
import optax
import scipy.special
from flax import nnx

import copyreg_jax as cr
from copyreg_jax.errors import InputError, TrainingError
from copyreg_jax.lm import loop
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.loop import fit
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.layers import token_nll
from copyreg_jax.lm.protection import init_estimate, protected_loss
from copyreg_jax.lm.settings import Settings

# Orbax's own reading of its files.
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:orbax")

CONFIG = GPT2Config(vocab_size=17, context=8, width=8, num_layers=1, num_heads=2)


def data(num_rows=24, seed=0, length=8):
    """Rows of three documents for every four rows, and which rows are protected."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 17, (num_rows, length + 1), dtype=np.int32)
    mask = np.arange(length)[None] < rng.integers(1, length + 1, num_rows)[:, None]
    document = np.arange(num_rows, dtype=np.int32) * 3 // 4
    return Rows(tokens, mask, document, np.full(num_rows, 9)), document % 3 == 0


def model(seed=0):
    return GPT2(CONFIG, rngs=nnx.Rngs(seed))


def weights(trained):
    return [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(nnx.split(trained)[1])]


def assert_same(a, b):
    for one, other in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(one, other)


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


SETTINGS = Settings(steps=12, gamma=0.4, batch_size=4, learning_rate=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"gamma": 0.0}, {"accumulate": 3}, {"weight_decay": 0.0}])
def test_a_run_is_what_a_bare_loop_makes_of_it(change, tmp_path):
    settings = Settings(**({"steps": 12, "gamma": 0.4, "batch_size": 4} | change))
    rows, protected = data()
    found, metrics = model(), []
    found = fit(found, rows, protected, settings, tmp_path / "run", callback=metrics.append)

    graph, params = nnx.split(model())
    updates = settings.steps // settings.accumulate
    warmup = max(1, round(0.05 * updates))
    rate = optax.warmup_cosine_decay_schedule(1e-3 / (warmup + 1), 1e-3, warmup, updates + 1, 1e-4)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            rate, b2=0.95, weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree_util.tree_map(lambda leaf: leaf.ndim >= 2, params),
        ),
    )  # fmt: skip
    memory, estimate, seen = optimizer.init(params), init_estimate(), []

    def loss(params, index, estimate):
        nll = token_nll(nnx.merge(graph, params)(rows.tokens[index, :-1]), rows.tokens[index, 1:])
        gamma = settings.gamma
        return protected_loss(nll, rows.mask[index], protected[index], gamma, estimate)

    def rows_of(step):
        epoch, place = divmod(4 * step, 24)
        return np.random.default_rng([0, epoch]).permutation(24)[place : place + 4]

    for first in range(0, 12, settings.accumulate):
        indices = [rows_of(first + k) for k in range(settings.accumulate)]
        seen += [float(loss(params, index, estimate)[1].cross_entropy) for index in indices]
        index = np.concatenate(indices)
        gradient, terms = jax.grad(loss, has_aux=True)(params, index, estimate)
        estimate = terms.estimate
        step, memory = optimizer.update(gradient, memory, params)
        params = optax.apply_updates(params, step)
    for one, other in zip(weights(found), jax.tree_util.tree_leaves(params), strict=True):
        # Adam divides by roots of sums of squares: a float32 rounding of 1e-7 may grow, not more
        # than to a hundredth of a step of 1e-3.
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose([m.cross_entropy for m in metrics], seen, rtol=1e-4)
    assert [m.step for m in metrics] == list(range(1, 13))


def test_a_run_without_a_folder_has_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, protected = data()
    kept, metrics = fit(model(), rows, protected, SETTINGS, tmp_path / "run"), []
    shutil.rmtree(tmp_path / "run")
    assert_same(fit(model(), rows, protected, SETTINGS, None, callback=metrics.append), kept)
    assert [m.step for m in metrics] == list(range(1, 13))
    assert list(tmp_path.iterdir()) == []


class Bigram(nnx.Module):
    """Logits of the last token alone, in float64: of all that is rounded, losses are float32."""

    def __init__(self):
        table = np.random.default_rng(0).normal(size=(17, 17))
        self.table = nnx.Param(jnp.asarray(table, jnp.float64))

    def __call__(self, tokens):
        return self.table[...][tokens]


@pytest.mark.quick(1)
@pytest.mark.parametrize("term", [{}, {"gamma": 0.4}, {"target_loss": 4.0}])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_steps_are_one_batch(accumulate, term, tmp_path):
    """Rows of 1 to 8 tokens: each token counts alike, wherever its row is."""
    rows, protected = data(num_rows=32)
    lines = {}
    for kind, size, steps in (("whole", 4 * accumulate, 6), ("parts", 4, 6 * accumulate)):
        settings = Settings(
            steps=steps, batch_size=size, accumulate=4 * accumulate // size, learning_rate=0.02,
            **term,
        )  # fmt: skip
        metrics = []
        lines[kind] = (
            fit(Bigram(), rows, protected, settings, tmp_path / kind, callback=metrics.append),
            metrics[settings.accumulate - 1 :: settings.accumulate],
        )
    # The weight and the scale of a gradient are sums of float32 in another order: 1e-7 of them. Six
    # steps of 0.02 by Adam, which divides by roots of sums of squares, may make 100 times that.
    for one, other in zip(*(weights(trained) for trained, _ in lines.values()), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    for name in ("penalty", "weight", "gamma", "running_protected", "gradient_norm"):
        one, other = ([getattr(m, name) for m in metrics] for _, metrics in lines.values())
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_run_of_an_earlier_version_is_refused_and_kept(tmp_path):
    """Its counters are float32 and its accumulation is another: it can't go on to the same end."""
    fit(model(), *data(), SETTINGS, tmp_path / "run")
    file = tmp_path / "run" / "settings.json"
    old = {k: v for k, v in json.loads(file.read_text()).items() if k != "loop"}
    file.write_text(json.dumps(old))
    with pytest.raises(cr.InputError, match=r"of another version of copyreg.*name another folder"):
        fit(model(), *data(), SETTINGS, tmp_path / "run")
    assert json.loads(file.read_text()) == old


def test_each_epoch_has_each_row_once():
    settings = Settings(steps=5, batch_size=4, seed=7)
    drawn = np.concatenate([loop._draw(k, 1, 10, settings).ravel() for k in range(5)])
    for epoch in (drawn[:10], drawn[10:]):
        assert sorted(epoch) == list(range(10))
    assert not np.array_equal(drawn[:10], drawn[10:])
    np.testing.assert_array_equal(loop._draw(1, 4, 10, settings).ravel(), drawn[4:])
    other = Settings(steps=5, batch_size=4, seed=8)
    assert not np.array_equal(loop._draw(0, 1, 10, other).ravel(), drawn[:4])


def test_the_model_that_was_given_is_left_alone(tmp_path):
    given = model()
    fit(given, *data(), SETTINGS, tmp_path / "run")
    assert_same(given, model())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "waiting"),
    [
        ({}, False),
        ({}, True),
        ({"gamma": 0.0, "target_loss": 4.0}, False),
        ({"accumulate": 2}, False),
    ],
)
def test_interrupted_and_resumed_is_the_same_run(change, waiting, tmp_path, monkeypatch):
    """Between steps, or at the second wait for numbers; no line of the metrics is lost."""
    settings = Settings(**({"steps": 42, "gamma": 0.4, "batch_size": 4} | change))
    metrics, looks = loop._Part.metrics, []

    def stop(metrics):
        if metrics.step == 11:
            raise KeyboardInterrupt

    def press(self, *arguments):
        looks.append(self.first)
        if len(looks) == 2:
            raise KeyboardInterrupt
        return metrics(self, *arguments)

    whole = fit(model(), *data(), settings, tmp_path / "whole")
    if waiting:
        monkeypatch.setattr(loop._Part, "metrics", press)
    with pytest.raises(KeyboardInterrupt):
        fit(model(), *data(), settings, tmp_path / "run", callback=None if waiting else stop)
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == list(range(1, 25))
    for _ in range(2):  # the second time nothing is left to do
        assert_same(fit(model(), *data(), settings, tmp_path / "run"), whole)
    for one, other in zip(*map(metrics_of, (tmp_path / "whole", tmp_path / "run")), strict=True):
        assert one | {"tokens_per_second": 0} == other | {"tokens_per_second": 0}


def another_process(code, *arguments, **env):
    code = f"from tests.lm.test_loop import *\n{code}"
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    env = os.environ | {"JAX_ENABLE_X64": "1"} | env  # 64 bits as here
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=root)


KILLED = """
settings = Settings(steps=400, gamma=0.4, batch_size=4)
fit(
    model(), *data(), settings, sys.argv[1], checkpoint_steps=5,
    callback=lambda m: print(m.step, flush=True),
)
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed(tmp_path):
    settings = Settings(steps=400, gamma=0.4, batch_size=4)
    whole = fit(model(), *data(), settings, tmp_path / "whole")
    rng, killed = np.random.default_rng(time.time_ns()), 0
    for _ in range(3):
        with another_process(KILLED, tmp_path / "run") as process:
            process.stdout.readline()  # the first step is done
            time.sleep(rng.uniform(0, 0.5))
            killed += process.poll() is None
            process.kill()
    assert killed  # on a fast machine a later one may find the run at its end
    resumed = fit(model(), *data(), settings, tmp_path / "run")
    assert_same(resumed, whole)


def spoilt(rows, step, settings):
    """A model that has NaN logits for a token, and rows that have it in one batch only."""
    tokens = np.where(rows.tokens == 16, 0, rows.tokens)
    (index,) = loop._draw(step - 1, 1, len(tokens), settings)
    tokens[index[0], 0] = 16

    class Spoilt(GPT2):
        def __call__(self, tokens):
            logits = super().__call__(tokens)
            return jnp.where(jnp.any(tokens == 16), jnp.nan, logits)

    return Spoilt(CONFIG, rngs=nnx.Rngs(0)), rows._replace(tokens=tokens), index


@pytest.mark.parametrize(
    "accumulate", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 8))]
)
def test_a_loss_that_is_not_finite_stops_the_run_at_its_own_step(accumulate, tmp_path):
    """Not at the first one of its update, whose gradient it spoils as well."""
    settings = Settings(steps=24, gamma=0.4, batch_size=1, accumulate=accumulate)  # one epoch
    rows, protected = data()
    broken, rows, index = spoilt(rows, 20, settings)
    with pytest.raises(TrainingError) as error:
        fit(broken, rows, protected, settings, tmp_path / "run", checkpoint_steps=8)
    assert f"the loss is nan at step 20, in a batch of rows {index.tolist()} of" in str(error.value)
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["16", "8"]
    assert "the last checkpoint is that of step 16" in str(error.value)
    with pytest.raises(TrainingError, match="at step 20"):  # from step 16, the same again
        fit(broken, rows, protected, settings, tmp_path / "run", checkpoint_steps=8)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"gamma": 0.5}, "gamma"),
        ({"steps": 24}, "steps"),
        ({"seed": 1}, "seed"),
        ({"model": 1}, "model"),
        ({"num_heads": 4}, "architecture"),
        ({"dtype": jnp.bfloat16}, "architecture"),
        ({"data": 1}, "data"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_kept(change, name, tmp_path):
    fit(model(), *data(), SETTINGS, tmp_path / "run")
    before = contents(tmp_path / "run")
    other = {k: v for k, v in change.items() if hasattr(SETTINGS, k)}
    new = dataclasses.replace(SETTINGS, **other)
    config = dataclasses.replace(CONFIG, num_heads=change.get("num_heads", 2))
    rngs, dtype = nnx.Rngs(change.get("model", 0)), change.get("dtype", jnp.float32)
    other = GPT2(config, rngs=rngs, dtype=dtype)
    with pytest.raises(cr.InputError, match=f"of another run: its {name} is"):
        fit(other, *data(seed=change.get("data", 0)), new, tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_metrics_of_a_process_that_was_killed_while_it_wrote(tmp_path):
    settings = Settings(steps=16, gamma=0.4, batch_size=4)
    fit(model(), *data(), settings, tmp_path / "run")
    file = tmp_path / "run" / "metrics.jsonl"
    before = file.read_text()
    file.write_text(before + before.splitlines()[3] + '\n{"step": 17, "cross')
    fit(model(), *data(), settings, tmp_path / "run")
    assert file.read_text() == before


def test_one_update_changes_the_weights(tmp_path):
    settings = Settings(steps=4, accumulate=4, batch_size=4, learning_rate=0.1)
    found = fit(model(), *data(), settings, tmp_path / "run")
    moved = [np.abs(a - b).max() for a, b in zip(weights(found), weights(model()), strict=True)]
    assert min(moved) > 1e-3


def test_numbers_of_numpy_and_small_floats(tmp_path):
    settings = Settings(steps=np.int64(8), gamma=np.float32(0.5), batch_size=np.int32(4))
    assert settings == Settings(steps=8, gamma=0.5, batch_size=4)
    graph, params = nnx.split(model())
    low = nnx.merge(graph, jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.bfloat16), params))
    fit(low, *data(), settings, tmp_path / "run")
    with pytest.raises(cr.InputError, match="checkpoint_steps is 0"):
        fit(model(), *data(), settings, tmp_path / "other", checkpoint_steps=0)


def test_damaged_files_of_a_run(tmp_path):
    fit(model(), *data(), SETTINGS, tmp_path / "run")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(cr.InputError, match=r"checkpoints/12 can't be restored.*delete it"):
        fit(model(), *data(), SETTINGS, tmp_path / "run")
    for content, problem in (("[]", "it is not a JSON object"), ("{", "Expecting property name")):
        (tmp_path / "run" / "settings.json").write_text(content)
        with pytest.raises(cr.InputError, match=f"settings.json can't be read: {problem}"):
            fit(model(), *data(), SETTINGS, tmp_path / "run")


def test_a_checkpoint_that_can_not_be_written(tmp_path, monkeypatch):
    """One line that says so, and a folder that goes on when there is room again."""
    import orbax.checkpoint as ocp

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    settings = Settings(steps=16, gamma=0.4, batch_size=4)
    with monkeypatch.context() as patched:
        patched.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(cr.InputError, match=r"can't write the checkpoint of step 8 .*No space"):
            fit(model(), *data(), settings, tmp_path / "run", checkpoint_steps=8)
    resumed = fit(model(), *data(), settings, tmp_path / "run")
    assert_same(resumed, fit(model(), *data(), settings, tmp_path / "whole"))


def test_bad_input(tmp_path):
    rows, protected = data()
    none = rows._replace(tokens=rows.tokens[:0], mask=rows.mask[:0], document=rows.document[:0])
    cases = [
        ((none, protected[:0]), "there are no rows"),
        ((rows, protected.astype(int)), r"protected is int64\(24,\)"),
        ((rows, protected[:3]), r"protected is bool\(3,\)"),
        ((rows, np.zeros(24, bool)), "none of the rows are protected"),
        ((rows, np.ones(24, bool)), "all of the rows are protected"),
    ]
    for arguments, message in cases:
        with pytest.raises(cr.InputError, match=message):
            fit(model(), *arguments, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    fit(model(), rows, np.zeros(24, bool), Settings(steps=1), tmp_path / "plain")
    with pytest.raises(cr.InputError, match=r"can't make .*no/run"):
        fit(model(), rows, protected, SETTINGS, tmp_path / "no" / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0; give >= 1"),
        ({"steps": 2**31}, "steps is 2147483648"),
        ({"steps": 1.5}, "steps is 1.5; give a plain number"),
        ({"steps": math.nan}, "steps is nan; give a plain number"),
        ({"steps": 1, "seed": math.inf}, "seed is inf; give a plain number"),
        ({"steps": 1, "gamma": "much"}, "gamma is much; give a plain number"),
        ({"steps": 1, "gamma": np.ones(2)}, r"gamma is \[1. 1.\]; give a plain number"),
        ({"steps": 1, "gamma": 1e39}, "gamma is 1e"),
        ({"steps": 1, "gamma": -1.0}, "gamma is -1.0; give >= 0"),
        ({"steps": 1, "gamma": np.nan}, "gamma is nan"),
        ({"steps": 1, "learning_rate": 0.0}, "learning_rate is 0.0; give > 0"),
        ({"steps": 1, "target_loss": 0.0}, "target_loss is 0.0; give > 0"),
        ({"steps": 1, "target_loss": 1.0, "gamma": 1.0}, "target_loss and gamma = 1.0"),
        ({"steps": 5, "accumulate": 2}, "steps is 5; give a multiple of accumulate = 2"),
    ],
)
def test_settings_that_are_none(settings, message):
    with pytest.raises(cr.InputError, match=message):
        Settings(**settings)


def test_losses_of_documents():
    rows, _ = data(num_rows=131)  # more than two parts, and a rest
    found, counts = document_losses(model(), rows, 131)
    logits = np.asarray(model()(rows.tokens[:, :-1]), np.float64)
    logs = scipy.special.log_softmax(logits, axis=2)
    picked = np.take_along_axis(logs, rows.tokens[:, 1:, None], axis=2)[..., 0]
    nll = -np.where(rows.mask, picked, 0).sum(axis=1)
    mine = [rows.document == i for i in range(131)]
    expected = [nll[one].sum() for one in mine]
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32, sums of 8
    assert counts.tolist() == [rows.mask[one].sum() for one in mine]


def test_calibrated_run_ends_at_its_target(tmp_path):
    """A model that could learn all rows by heart keeps the protected ones at 3.5 nats."""
    rows, protected = data(num_rows=16)
    settings = Settings(
        steps=1600, target_loss=3.5, batch_size=16, learning_rate=0.004, weight_decay=0.0
    )
    trained = fit(model(), rows, protected, settings, tmp_path / "run")
    nll, counts = document_losses(trained, rows, 16)
    of = np.zeros(16, bool)
    of[rows.document[protected]] = True
    assert nll[of].sum() / counts[of].sum() == pytest.approx(3.5, rel=0.1)
    assert nll[~of].sum() / counts[~of].sum() < 1.5


def bare_loop_with_a_target(settings, rows, protected, of_target):
    """CE_1 is of some protected rows, and the weight that follows is that of all of them."""
    graph, params = nnx.split(model())
    updates = settings.steps // settings.accumulate
    warmup = max(1, round(0.05 * updates))
    peak = settings.learning_rate
    rate = optax.warmup_cosine_decay_schedule(
        peak / (warmup + 1), peak, warmup, updates + 1, peak / 10
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.95, weight_decay=0.0)
    )
    counts = rows.mask.sum(axis=1)

    def losses(params):
        nll = token_nll(nnx.merge(graph, params)(rows.tokens[:, :-1]), rows.tokens[:, 1:])
        return jnp.where(rows.mask, nll, 0).sum(axis=1)

    read, slope = jax.jit(losses), jax.jit(jax.grad(lambda params, w: jnp.sum(losses(params) * w)))
    memory, running = optimizer.init(params), []
    seen = recent = own_tokens = all_tokens = 0.0
    for first in range(0, settings.steps, settings.accumulate):
        here = np.zeros(24)
        for step in range(first, first + settings.accumulate):
            epoch, place = divmod(4 * step, 24)
            here[np.random.default_rng([0, epoch]).permutation(24)[place : place + 4]] += 1
        gamma = 0.0  # of what was seen before
        if recent:
            balance = min(settings.target_loss, 1.5 * seen / recent)
            gamma = own_tokens / all_tokens * balance**2
        seen = 0.95 * seen + (here * of_target) @ np.asarray(read(params), np.float64)
        recent = 0.95 * recent + (here * of_target) @ counts
        own_tokens += (here * of_target) @ counts
        all_tokens += here @ counts
        running.append(seen / recent)
        weight = 1 - gamma / (own_tokens / all_tokens * running[-1] ** 2)
        gradient = slope(params, here * np.where(protected, weight, 1) / (here @ counts))
        step, memory = optimizer.update(gradient, memory, params)
        params = optax.apply_updates(params, step)
    return jax.tree_util.tree_leaves(params), running


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_target_may_be_of_some_protected_rows(accumulate):
    rows, protected = data()
    of_target = protected & (np.arange(24) % 2 == 0)
    assert 0 < of_target.sum() < protected.sum()
    settings = Settings(
        steps=6, target_loss=2.5, batch_size=4, accumulate=accumulate, weight_decay=0.0
    )
    metrics = []
    found = fit(model(), rows, protected, settings, None, of_target=of_target,
                callback=metrics.append)  # fmt: skip
    expected, running = bare_loop_with_a_target(settings, rows, protected, of_target)
    for one, other in zip(weights(found), expected, strict=True):
        # As for a bare loop: a rounding of 1e-7 may grow by Adam's division, not more.
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    told = [one.running_protected for one in metrics[accumulate - 1 :: accumulate]]
    np.testing.assert_allclose(told, running, rtol=1e-5)
    # All protected rows are other ones, and make another model.
    other = fit(model(), rows, protected, settings, None)
    assert any((one != two).any() for one, two in zip(weights(found), weights(other), strict=True))
    same = fit(model(), rows, protected, settings, None, of_target=protected)
    for one, two in zip(weights(same), weights(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_target_of_other_rows_is_another_run(tmp_path):
    rows, protected = data()
    settings = dataclasses.replace(SETTINGS, gamma=0.0, target_loss=2.0, steps=2)
    fit(model(), rows, protected, settings, tmp_path / "run", of_target=protected)
    with pytest.raises(InputError, match="data"):
        fit(model(), rows, protected, settings, tmp_path / "run")
    with pytest.raises(InputError, match="the target is of no protected row; protect text besi"):
        fit(model(), rows, protected, settings, None, of_target=~protected)
    with pytest.raises(InputError, match=r"of_target is bool\(3,\); give a bool for each of 24"):
        fit(model(), rows, protected, settings, None, of_target=np.ones(3, bool))


SHARED = """
assert jax.device_count() == 2
found = fit(model(), *data(), SETTINGS, sys.argv[1])
np.savez(sys.argv[2], *weights(found))
try:
    fit(model(), *data(), Settings(steps=1, batch_size=3), sys.argv[1] + "-other")
except cr.InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_devices_share_a_batch(tmp_path):
    two = "--xla_force_host_platform_device_count=2"
    files = tmp_path / "run", tmp_path / "w.npz"
    with another_process(SHARED, *files, XLA_FLAGS=two) as process:
        said = process.stdout.read()
    assert "batch_size is 3; give a multiple of 2, the number of devices" in said
    whole = fit(model(), *data(), SETTINGS, tmp_path / "whole")
    with np.load(tmp_path / "w.npz") as found:
        for one, other in zip(weights(whole), found.values(), strict=True):
            # Sums in another order; Adam divides by roots of sums of squares of gradients, so that
            # a rounding of 1e-7 may grow to a part of a step, of 0.02 here.
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-4)
