"""Canaries: who gets them, how exposed they are, and what bound on privacy follows."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("flax")
pytest.importorskip("orbax.checkpoint")
pytest.importorskip("tokenizers")
pytest.importorskip("jax_privacy")

import jax.numpy as jnp

from copyreg_jax.errors import InputError
from copyreg_jax.lm import experiment, records
from copyreg_jax.lm.corpus.canaries import Canaries
from copyreg_jax.lm.corpus.documents import Document
from copyreg_jax.lm.corpus.rows import make_rows
from copyreg_jax.lm.corpus.selection import Split
from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.leakage.against_certificate import recheck
from copyreg_jax.lm.leakage.exposure import epsilon_bound, exposures, measure_canaries
from copyreg_jax.lm.model_sources import Size, load_model, new_model
from copyreg_jax.lm.prepared import prepare
from copyreg_jax.lm.settings import Settings
from tests.support.mutants import planted
from tests.support.small_models import Bigram

VOCAB = 257  # bytes and end-of-text


# Who gets them


def test_canaries_are_documents_on_the_side_that_the_coin_says():
    canaries = Canaries(number=4, copies=2, seed=22)
    is_in = canaries.inserted.tolist()
    assert is_in == [False, True, True, False]  # bits of SHA-256
    assert len({*canaries.texts}) == 4
    assert {len(text) for text in canaries.texts} == {64}
    split = Split(np.array([True, False]), np.array([False, True]))
    documents, parts = canaries.add_to([Document("a", "x"), Document("b", "y")], split)
    one, two, three, four = canaries.texts
    assert [document.text for document in documents] == [
        "x",
        "y",
        one,
        two,
        two,
        three,
        three,
        four,
    ]
    assert len({document.name for document in documents}) == 8
    assert parts.protected.tolist() == [True, False, False, True, True, True, True, False]
    assert parts.held_out.tolist() == [False, True, True, False, False, False, False, True]
    with pytest.raises(InputError, match="called 'canary 1', as a canary is; rename it"):
        canaries.add_to([Document("canary 1", "x")], split)


def test_coins_are_fair_and_differ_from_seed_to_seed():
    coins = [Canaries(number=2000, seed=seed).inserted for seed in (0, 1)]
    # Sums of 2,000 coins have a standard deviation of 22.4.
    for count in (coins[0].sum(), coins[1].sum(), (coins[0] == coins[1]).sum()):
        assert count == pytest.approx(1000, abs=4 * 22.4)


@pytest.mark.parametrize("change", [{"number": 0}, {"copies": 0}])
def test_no_canaries_are_refused(change):
    with pytest.raises(InputError, match=f"{next(iter(change))} is 0; give at least 1"):
        Canaries(**{"number": 4} | change)


# How exposed they are


def test_exposure_is_that_worked_out_by_hand():
    """R has eight texts, so rank 1 is 3 bits, and rank 8 is none; equal losses count against."""
    candidates = [3.0, 1.0, 5.0, 7.0, 2.0, 6.0, 4.0]
    found = exposures([0.5, 1.0, 3.5, 9.0], candidates)
    assert found.tolist() == [3.0, 2.0, 1.0, 0.0]


def bigram(texts=(), tokenizer=None, logit=9.0):
    """A model of random texts that goes on as these texts do."""
    table = np.random.default_rng(0).normal(scale=0.5, size=(VOCAB, VOCAB))
    for text in texts:
        ids = tokenizer.encode(text).ids
        table[ids[:-1], ids[1:]] += logit
    return Bigram(table)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([], vocab_size=VOCAB)


def test_a_canary_that_was_never_seen_has_the_exposure_of_chance(tokenizer):
    canaries = Canaries(number=400)
    found, nll, counts = measure_canaries(bigram(), tokenizer, canaries, 32)
    assert (found.number, found.inserted) == (400, canaries.inserted.sum())
    assert len(found.exposure) == found.inserted
    # Ranks are uniform: 10 - log2(1024!) / 1024 = 1.437 bits, with a deviation of 1.44 for one.
    mean = 10 - math.lgamma(1025) / math.log(2) / 1024
    both = np.array([found.mean, found.held_out_mean])
    np.testing.assert_allclose(both, mean, atol=5 * 1.44 / math.sqrt(180))
    assert found.attack.auroc == pytest.approx(0.5, abs=5 * 0.029)  # as for texts
    assert found.epsilon == 0
    rows = make_rows(tokenizer, canaries.texts, 32)
    np.testing.assert_allclose(nll, document_losses(bigram(), rows, 400)[0], rtol=1e-6)
    assert counts.tolist() == [65] * 400  # a byte is a token, and one ends the text


def test_a_canary_that_is_known_is_exposed(tokenizer):
    canaries = Canaries(number=2, copies=3, seed=3)
    known = [t for t, is_in in zip(canaries.texts, canaries.inserted, strict=True) if is_in]
    assert len(known) == 1
    found = measure_canaries(bigram(known, tokenizer), tokenizer, canaries, 80)[0]
    assert (found.exposure, found.mean, found.copies) == ([10.0], 10.0, 3)
    assert found.held_out_mean < 10
    assert found.attack.auroc == 1
    assert found.epsilon == 0  # two coins prove nothing
    one = measure_canaries(bigram(), tokenizer, Canaries(number=1, seed=0), 80)[0]
    assert (one.attack, one.epsilon) == (None, None)
    assert (one.mean is None) != (one.held_out_mean is None)


def test_losses_that_are_no_numbers_are_refused(tokenizer):
    with pytest.raises(InputError, match="random text is not finite"):
        measure_canaries(Bigram(np.full((VOCAB, VOCAB), np.nan)), tokenizer, Canaries(number=2), 80)


# What bound follows


def test_the_bound_of_guesses_that_are_all_right():
    """Fifty right guesses of fifty: q^50 = 0.05 / 4 at most, with q = 1 / (1 + exp(-epsilon)).

    Delta adds at most 2 * 100 * 1e-5 to the p-value.
    """
    found = epsilon_bound(np.ones(50), np.full(50, 9.0), np.linspace(2, 3, 99))
    low, high = (((0.05 / 4 - off) ** (-1 / 50) - 1) for off in (2e-3, 0))
    assert -math.log(low) <= found <= -math.log(high)
    worse = epsilon_bound(np.arange(50.0), np.arange(50.0) + 20, np.arange(99.0) + 10)
    assert 0 < worse < found


def test_the_bound_fails_as_rarely_as_it_says():
    """Canaries that nothing tells apart: epsilon is 0, and a bound above it is a failure."""
    rng, failed = np.random.default_rng(0), 0
    for _ in range(1000):
        losses, coins = rng.normal(size=200), rng.random(200) < 0.5
        failed += epsilon_bound(losses[coins], losses[~coins], rng.normal(size=255)) > 0
    # 1,000 tries at 5 % have a standard deviation of 6.9.
    assert failed <= 50 + 4 * 6.9


@pytest.mark.parametrize(
    ("place", "old", "new", "test"),
    [
        ("lm.leakage.exposure:exposures", '"right"', '"left"', "exposure_is_that_worked_out"),
        ("lm.leakage.exposure:exposures", "np.size(candidates) + 1", "np.size(candidates)",
         "exposure_is_that_worked_out"),
        ("lm.leakage.exposure:epsilon_bound", "(1 - CONFIDENCE) / len(_GUESSED)",
         "1 - CONFIDENCE", "bound_of_guesses"),
        ("lm.leakage.exposure:epsilon_bound", "-np.asarray(inserted)", "np.asarray(inserted)",
         "bound_of_guesses"),
        ("lm.corpus.canaries:Canaries.add_to", "~is_in", "is_in", "canaries_are_documents"),
    ],
)  # fmt: skip
def test_planted_bugs_are_found(place, old, new, test):
    (check,) = (value for name, value in globals().items() if name.startswith(f"test_{test}") or name.startswith(f"test_the_{test}"))  # noqa: E501  # fmt: skip
    with planted(place, old, new), pytest.raises(AssertionError):
        check()


# In a run


class StoppedError(Exception):
    """A training that is not to go on."""


def test_a_target_is_of_protected_text_and_not_of_canaries(tmp_path, monkeypatch):
    given = []

    def stop(model, rows, protected, *other, of_target, **more):
        given.append((rows, protected, of_target))
        raise StoppedError

    monkeypatch.setattr(experiment, "fit", stop)
    corpus = [Document(f"d{k}", f"{k} sails and more " * (k + 3)) for k in range(9)]
    for canaries in (Canaries(number=8, copies=3), None):
        prepared = prepare(
            corpus, np.arange(9) < 3, length=16, vocab_size=270, held_out=0.2, canaries=canaries
        )
        size = Size(width=8, num_layers=1, num_heads=1)
        model = new_model(prepared.tokenizer, size, 16)
        settings = Settings(steps=1, target_loss=2.0)
        with pytest.raises(StoppedError):
            experiment.train(prepared, model, settings, tmp_path / "run")
    (rows, protected, of_target), (*_, without) = given
    names = [document.name for document in (*corpus, *Canaries(number=8, copies=3).documents)]
    is_canary = np.array([names[k].startswith("canary") for k in rows.document])
    assert (protected & is_canary).any()
    np.testing.assert_array_equal(of_target, protected & ~is_canary)
    assert without is None


@pytest.mark.slow
def test_canaries_of_a_run_are_found_again(tmp_path):
    """Trained on for long, they are exposed; documents and certificate have them, text has not."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(2, 6))) for _ in range(60)]
    corpus = [Document(f"d{i}", " ".join(rng.choice(words, 60))) for i in range(14)]
    canaries = Canaries(number=8, copies=4)
    prepared = prepare(
        corpus, np.arange(14) < 4, length=64, vocab_size=280, held_out=0.2, canaries=canaries
    )
    assert (~prepared.flags.canary).sum() == 14
    size = Size(width=32, num_layers=1, num_heads=2)
    model = new_model(prepared.tokenizer, size, 64, dtype=jnp.float32)
    settings = Settings(steps=200, gamma=1e-3, batch_size=16, learning_rate=1e-2)
    run = experiment.train(prepared, model, settings, tmp_path)
    table = json.loads((tmp_path / "documents.json").read_text())
    real = [row for row in table if row["protected"] and not row["name"].startswith("canary")]
    mean = sum(row["nll"] for row in real) / sum(row["num_tokens"] for row in real)
    assert run.losses.protected == pytest.approx(mean, rel=1e-12)

    flags = records.load_flags(tmp_path, corpus)
    assert flags.canaries == canaries
    assert flags.names == [row["name"] for row in table]
    assert flags.real.names == [document.name for document in corpus]
    loaded, tokenizer = load_model(tmp_path, jnp.float32)
    found, *own = measure_canaries(loaded, tokenizer, canaries, flags.length)
    assert found.mean > 8
    assert found.held_out_mean < 5
    measured = document_losses(loaded, make_rows(tokenizer, flags.real.texts, 64), 14)
    nll, counts = map(flags.with_canaries, measured, own)
    # Batches of other rows round otherwise: 5e-7 nats per token were seen.
    np.testing.assert_allclose(nll, [row["nll"] for row in table], rtol=1e-5)
    assert recheck(tmp_path, flags, nll, counts).problems == []
    summary = json.loads((tmp_path / "run.json").read_text())
    changes = [{"number": 3}, {"number": 8, "copies": 4, "seed": 1}, {"size": 8}, {"number": 8.0}]
    for canary in changes:
        (tmp_path / "run.json").write_text(json.dumps(summary | {"canaries": canary}))
        with pytest.raises(InputError, match=r"is not among|has another text|of a finished run"):
            records.load_flags(tmp_path, corpus)
