"""Bounds of near-verbatim mass, against the sum over all texts there are."""

import functools
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

nnx = pytest.importorskip("flax.nnx")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm.leakage import constrained_beam  # noqa: E402
from copyreg_jax.lm.leakage.constrained_beam import near_verbatim_mass, search_near  # noqa: E402
from copyreg_jax.lm.leakage.teacher_forced import read_suffixes  # noqa: E402
from copyreg_jax.lm.models.gpt2 import GPT2Config  # noqa: E402
from tests.support.mutants import planted  # noqa: E402
from tests.support.small_models import Bigram, perturbed  # noqa: E402

PREFIX = 2

LOSS = 2.0**-14
"""The most that roundings take of a log. Those of the cases here are below 16 in size, where a
place of a float32 is 2^-20. A token takes three roundings of a place and a half, and 2^-18 for the
normalizing sum of at most 5 terms; there are 6 tokens at most."""


@functools.cache
def case(kind, vocab, length, number=12):
    """A model, windows, and the probability of each text after each prefix, text by text."""
    rng = np.random.default_rng(vocab + length)
    windows = rng.integers(0, vocab, (number, PREFIX + length), dtype=np.int32)
    texts = np.array(list(itertools.product(range(vocab), repeat=length)), np.int32)
    if kind == "bigram":
        model = Bigram(rng.normal(scale=1.5, size=(vocab, vocab)))
    else:
        sizes = {"vocab_size": vocab, "context": PREFIX + length, "width": 8}
        model = perturbed(GPT2Config(**sizes, num_layers=2, num_heads=2), scale=0.5)
    call = nnx.jit(lambda model, tokens: model(tokens))
    logits = []
    for window in windows:
        rows = np.concatenate([np.tile(window[:PREFIX], (len(texts), 1)), texts], axis=1)
        logits.append(np.asarray(call(model, jnp.asarray(rows[:, :-1])), np.float64))
    return model, windows, texts, np.stack(logits)[:, :, PREFIX - 1 :]


def exact(logits, windows, texts, distance, top_k):
    """The probability that a sample is near each suffix, by adding up all texts that are."""
    if top_k is not None:
        place = np.argsort(np.argsort(-logits, axis=-1, kind="stable"), axis=-1)
        logits = np.where(place < top_k, logits, -np.inf)
    logs = np.take_along_axis(logits, texts[None, :, :, None], axis=-1)[..., 0]
    logs -= np.log(np.exp(logits).sum(axis=-1))
    wrong = (texts[None] != windows[:, None, PREFIX:]).sum(axis=2)
    return (np.exp(logs.sum(axis=2)) * (wrong <= distance)).sum(axis=1)


def enough(vocab, length, distance):
    """The most beginnings that are near so far, and may be no more at the end."""
    return max(
        sum(
            math.comb(known, wrong) * (vocab - 1) ** wrong
            for wrong in range(max(distance - length + known + 1, 0), min(distance, known) + 1)
        )
        for known in range(1, length)
    )


CASES = [
    ("bigram", 3, 6, 1, None), ("bigram", 5, 4, 2, None), ("bigram", 4, 6, 3, 2),
    ("bigram", 4, 5, 0, 3), ("gpt2", 4, 5, 2, None), ("gpt2", 5, 4, 1, 3),
]  # fmt: skip


def check(kind, vocab, length, distance, top_k):
    model, windows, texts, logits = case(kind, vocab, length)
    truth = exact(logits, windows, texts, distance, top_k)
    verbatim = np.exp(read_suffixes(model, windows, prefix=PREFIX, top_k=top_k).log_sample)
    # With a cache logits are others in the last places: those of GPT-2 here are below 32 in size,
    # and 2^-16 is 8 of its places. A probability changes by twice as much for each token.
    other = 0.0 if kind == "bigram" else 2 * length * 2.0**-16
    find = functools.partial(near_verbatim_mass, model, windows, prefix=PREFIX, distance=distance)
    whole = np.exp(find(width=enough(vocab, length, distance), top_k=top_k))
    np.testing.assert_allclose(whole, truth, rtol=LOSS + other)
    assert (whole <= truth * (1 + other)).all()
    for width in (1, 3):
        part = np.exp(find(width=width, top_k=top_k))
        assert (verbatim * (1 - LOSS - other) <= part).all()
        assert (part <= truth * (1 + other)).all()


@pytest.mark.parametrize(("kind", "vocab", "length", "distance", "top_k"), CASES)
def test_a_search_finds_all_that_there_is_and_a_narrow_one_no_more(
    kind, vocab, length, distance, top_k
):
    check(kind, vocab, length, distance, top_k)


BUGS = {
    "distance not kept": ("_choose", "jnp.where(wrong <= distance, log_p, -jnp.inf)", "log_p"),
    "true token twice": ("_choose", "jnp.where(is_true, -jnp.inf, kept)", "kept"),
    "counted too soon": ("_choose", "wrong + left <= distance", "wrong + left <= distance + 1"),
    "counted and continued": ("_choose", "log_p = jnp.where(near, -jnp.inf, log_p)", ""),
    "cache of another beam": ("_search", "take(longer, parent)", "longer"),
    "top-k not kept": ("_choose", "jnp.where(is_true.any(axis=2, keepdims=True), own, -jnp.inf)",
        "own"),
    "true suffix not kept": ("_choose", "jnp.where((wrong == 0) & (log_p > -jnp.inf), jnp.inf, "
        "log_p)", "log_p"),
}  # fmt: skip


def found_by(arguments):
    try:
        check(*arguments)
    except AssertionError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_found(bug):
    place, old, new = BUGS[bug]
    with planted(f"lm.leakage.constrained_beam:{place}", old, new, compiled=True):
        assert any(map(found_by, CASES))


def test_one_beam_has_the_true_beginning():
    model, windows, *_ = case("bigram", 4, 6)
    found = near_verbatim_mass(model, windows, prefix=PREFIX, distance=2, width=1)
    beginning = read_suffixes(model, windows[:, : PREFIX + 4], prefix=PREFIX)
    assert (found >= beginning.log_p - LOSS).all()


def test_more_beams_are_never_worse_where_one_token_may_be_another():
    """Each beam then goes on in one way, so more of them push nothing out."""
    model, windows, *_ = case("bigram", 5, 6)
    found = [
        near_verbatim_mass(model, windows, prefix=PREFIX, distance=1, width=width)
        for width in range(1, 5)
    ]
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=0) > 0).any()


def test_more_beams_may_be_worse_where_two_tokens_may_be_others():
    """The suffix is 0123 after 8. After 5 come three texts that are likelier than 41, and end."""
    probability = np.full((9, 9), 1e-30)
    for last, following in {
        8: {4: 0.46, 5: 0.45, 0: 0.09}, 4: {1: 0.304, 8: 0.232, 4: 0.232, 6: 0.232},
        5: {6: 1 / 3, 7: 1 / 3, 3: 1 / 3}, 6: {8: 1}, 7: {8: 1}, 3: {8: 1}, 0: {1: 1}, 1: {2: 1},
        2: {3: 1},
    }.items():  # fmt: skip
        probability[last, list(following)] = list(following.values())
    model, window = Bigram(np.log(probability)), np.array([[8, 0, 1, 2, 3]], np.int32)
    for width, expected in ((2, 0.09 + 0.46 * 0.304), (3, 0.09), (9, 0.09 + 0.46 * 0.304)):
        found = near_verbatim_mass(model, window, prefix=1, distance=2, width=width)
        assert np.exp(found[0]) == pytest.approx(expected, rel=1e-4)


def test_normalizing_sums_are_rounded_up():
    """Also where one term is 1 and all others are lost beside it, and where none is."""
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 257, 50_000):
        rows = np.stack([rng.normal(scale=4, size=size), np.full(size, -25 * math.log(2)),
                         np.linspace(-80, 0, size)]).astype(np.float32)  # fmt: skip
        rows[1, 0] = 0
        truth = np.log(np.exp(rows.astype(np.float64)).sum(axis=1))
        found = np.asarray(constrained_beam._log_total(jnp.asarray(rows)), np.float64)[:, 0]
        slack = 2 * (2 * math.isqrt(size) + 10 + 9 * math.log(size)) * 2.0**-24
        assert (truth <= found).all()
        # The slack and as much error, and the places of numbers below 32.
        assert (found <= truth + 2 * slack + 3 * 2.0**-19).all()


def letters_with_a_doubt(doubt=1e-4):
    """A cycle of ten tokens, but after 4 it is nearly always 10; and after 10 it goes on with 6."""
    probability = np.full((11, 11), 1e-30)
    for token in range(10):
        probability[token, (token + 1) % 10] = 1
    probability[4, [5, 10]], probability[10, 6] = (doubt, 1 - doubt), 1
    return Bigram(np.log(probability))


def test_what_is_nearly_written_is_found_beside_what_is_written():
    model = letters_with_a_doubt()
    windows = (np.arange(10)[:, None] + np.arange(8)[None]).astype(np.int32) % 10
    found = read_suffixes(model, windows, prefix=4)
    search = functools.partial(
        search_near, model, windows, found, prefix=4, top_k=None, budget=1000, distance=1, width=3
    )
    near = search(number=9)
    # Of ten suffixes of four tokens, four have the 5, each after a 4.
    assert (near.num_searched, near.extractable, near.log10_samples) == (4, 1.0, 0.0)
    assert near.gain == pytest.approx(4, abs=0.001)
    assert near.log_p == pytest.approx(0, abs=0.001)
    assert search(number=1).extractable == 0.7
    assert search(number=9, distance=0).extractable == 0.6
    assert search(number=0) is None
    none = search(number=9, budget=10**6)
    assert (none.num_searched, none.extractable) == (0, 1.0)
    assert np.isnan([none.log_p, none.log10_samples, none.gain]).all()
    bad = Bigram(np.where(np.arange(11)[:, None] == 10, np.nan, model.table[...]))
    alone = type(found)(*(part[9:] for part in found))  # 3, 4, 5, 6, of which 4 may lead to 10
    with pytest.raises(InputError, match="a text near the 9th a probability of NaN"):
        search_near(bad, windows[9:], alone, prefix=4, top_k=None, budget=1000, number=9,
                    distance=1, width=3, label=lambda k: f"the {k + 9}th")  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prefix": 0}, "prefix is 0; give a number from 1 to below 8"),
        ({"prefix": 8}, "prefix is 8"),
        ({"distance": 4}, "distance is 4; give a number of tokens, from 0 to below the 4 of a suf"),
        ({"distance": -1}, "distance is -1"),
        ({"width": 0}, "width is 0; give a number of beginnings, at least 1"),
        ({"top_k": 12}, "top_k is 12; give a number from 1 to 11"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    with pytest.raises(InputError, match=message):
        near_verbatim_mass(letters_with_a_doubt(), np.zeros((1, 8), np.int32),
                           **{"prefix": 4, "distance": 1} | change)  # fmt: skip
