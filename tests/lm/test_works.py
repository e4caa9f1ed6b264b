"""Audits of whole works, against plain arithmetic and models whose memory is known."""

import dataclasses
import json
import string

import numpy as np
import pytest
from hypothesis import given, strategies as st

nnx = pytest.importorskip("flax.nnx")
pytest.importorskip("tokenizers")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm.corpus.tokenizer import train_tokenizer  # noqa: E402
from copyreg_jax.lm.leakage import shelf, unseen  # noqa: E402
from copyreg_jax.lm.leakage.calibration import calibrate, conformal_p_values  # noqa: E402
from copyreg_jax.lm.leakage.passages import (  # noqa: E402
    Passages,
    coverage,
    cut_passages,
    excerpt,
    heat_map,
    likeliest_places,
    longest_stretch,
)
from copyreg_jax.lm.leakage.preset import Preset  # noqa: E402
from copyreg_jax.lm.leakage.teacher_forced import Suffixes, read_suffixes  # noqa: E402
from copyreg_jax.lm.leakage.works import audit_works  # noqa: E402
from tests.support.small_models import Bigram  # noqa: E402

VOCAB = 257  # bytes and end-of-text
SMALL = Preset(prefix=4, suffix=6, stride=3, top_k=None, near=0)


def random_bigram(seed=0, vocab=VOCAB, scale=2.0):
    return Bigram(np.random.default_rng(seed).normal(scale=scale, size=(vocab, vocab)))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([], vocab_size=VOCAB)


def prose(seed, length=400):
    rng = np.random.default_rng(seed)
    return "".join(rng.choice(list(string.ascii_letters + " "), length))


WORDS = " ".join(prose(2000 + k, 6).replace(" ", "x") for k in range(40))


# Passages


@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=8, max_size=60),
    prefix=st.integers(1, 4), suffix=st.integers(1, 4), stride=st.integers(1, 9),
)  # fmt: skip
def test_passages_are_stretches_of_the_text(tokenizer, text, prefix, suffix, stride):
    found = cut_passages(tokenizer, text, prefix=prefix, suffix=suffix, stride=stride)
    content = text.encode()  # a token is a byte, and its number is its place in the alphabet
    owner = [k for k, character in enumerate(text) for _ in character.encode()]
    wanted = sorted({next((i for i, k in enumerate(owner) if k >= c), None)
                     for c in range(0, len(text), stride)})  # fmt: skip
    wanted = [i for i in wanted if i + prefix + suffix <= len(content)]
    assert len(found.tokens) == len(wanted)
    for i, tokens, start, end in zip(wanted, found.tokens, found.start, found.end, strict=True):
        assert tokens.tolist() == found.stream[i : i + prefix + suffix].tolist()
        assert (start, end) == (owner[i + prefix], owner[i + prefix + suffix - 1] + 1)


@given(data=st.data(), length=st.integers(1, 30))
def test_coverage_stretch_and_heat_are_those_of_single_characters(data, length):
    spans = data.draw(st.lists(st.tuples(st.integers(0, length - 1), st.integers(1, length)),
                               min_size=1, max_size=6))  # fmt: skip
    start = np.array([a for a, _ in spans])
    end = np.minimum(start + [b for _, b in spans], length)
    none = np.zeros(0, np.int32)
    passages = Passages(none, none, start, 0, start, end, length)
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(spans), max_size=len(spans))))
    values = np.arange(len(spans), dtype=float)
    covered = ["." for _ in range(length)]
    highest = np.full(length, np.nan)
    for a, b, is_chosen, value in zip(start, end, chosen, values, strict=True):
        for k in range(a, b):
            covered[k] = "x" if is_chosen else covered[k]
            highest[k] = np.fmax(highest[k], value)
    assert coverage(passages, chosen) == pytest.approx(covered.count("x") / length)
    assert longest_stretch(passages, chosen) == max(map(len, "".join(covered).split(".")))
    np.testing.assert_array_equal(heat_map(passages, values, length), highest)


@given(size=st.integers(1, 500), seed=st.integers(0, 9))
def test_an_excerpt_is_a_stretch_of_the_text(tokenizer, size, seed):
    text = prose(1, 300)
    whole = cut_passages(tokenizer, text, prefix=4, suffix=6, stride=3)
    part = excerpt(whole, size, seed)
    assert part.length == min(max(size, 6), 300)
    assert len(part.tokens) > 0
    same = (whole.tokens == part.tokens[0]).all(axis=1)
    first = 0 if part is whole else whole.start[same][0]
    for start, end, tokens in zip(part.start, part.end, part.tokens, strict=True):
        assert 0 <= start < end <= part.length
        assert tokenizer.decode(tokens[4:].tolist()) == text[first:][start:end]


# Probabilities, ranks, and what no decoder exceeds


@pytest.mark.parametrize("top_k", [None, 5])
def test_suffixes_are_those_of_numpy(top_k):
    model, prefix = random_bigram(1, 40), 3
    windows = np.random.default_rng(2).integers(0, 40, (70, 8), dtype=np.int32)
    table = np.asarray(model.table[...], np.float64)
    found = read_suffixes(model, windows, prefix=prefix, top_k=top_k)
    for k, window in enumerate(windows.tolist()):
        log_p, bits, matched, right = 0.0, 0.0, 0, True
        for last, token in zip(window[prefix - 1 : -1], window[prefix:], strict=True):
            logits = table[last]
            order = np.argsort(-logits, kind="stable")[:top_k]
            inside = token in order
            total = np.log(np.exp(logits[order] - logits[token]).sum()) if inside else np.inf
            log_p -= total
            bits += np.log2(1 + (logits > logits[token]).sum())
            right = right and (logits >= logits[token]).sum() == 1
            matched += right
        # Logs of float32 round to half of 2^-23 times their size, at most 20.
        assert found.log_sample[k] == pytest.approx(log_p, abs=5 * 20 * 2.0**-23)
        assert found.bits[k] == pytest.approx(bits, rel=1e-12)
        assert found.matched[k] == matched


def test_no_sampler_that_keeps_the_order_exceeds_the_bound():
    """A million tokens, each under a temperature and one of top-k, top-p and min-p."""
    rng, vocab = np.random.default_rng(0), 12
    for kind in ("top-k", "top-p", "min-p", "all"):
        # Rounded, so that ties are common.
        logits = np.round(rng.normal(scale=3, size=(250_000, vocab)), 1)
        token = rng.integers(0, vocab, len(logits))
        own = np.take_along_axis(logits, token[:, None], 1)
        rank = 1 + (logits > own).sum(axis=1)
        q = np.exp((logits - logits.max(axis=1, keepdims=True)) / rng.uniform(0.05, 5, own.shape))
        q /= q.sum(axis=1, keepdims=True)
        falling = -np.sort(-q, axis=1)
        if kind == "top-k":  # of ties those with the smaller number
            place = np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1)
            q, least = np.where(place <= rng.integers(0, vocab, own.shape), q, 0), 0
        elif kind == "top-p":
            last = (falling.cumsum(axis=1) < rng.random(own.shape)).sum(axis=1, keepdims=True)
            least = np.take_along_axis(falling, np.minimum(last, vocab - 1), 1)
        else:
            least = falling[:, :1] * (rng.random(own.shape) if kind == "min-p" else 0)
        q = np.where(q >= least, q, 0)
        q /= q.sum(axis=1, keepdims=True)
        # Twelve sums and quotients round.
        assert (np.take_along_axis(q, token[:, None], 1)[:, 0] <= (1 + 1e-14) / rank).all()


def test_a_tie_is_no_certain_token():
    model = Bigram(np.zeros((8, 8)))
    found = read_suffixes(model, np.ones((1, 6), np.int32), prefix=2)
    assert (found.bits[0], found.matched[0], found.right[0], found.strength[0]) == (0, 0, 0, 0)


def test_known_windows_are_not_read_again():
    model, windows = random_bigram(1, 40), np.arange(12 * 6, dtype=np.int32).reshape(12, 6) % 40
    whole = read_suffixes(model, windows, prefix=2)
    known = Suffixes(*(part.copy() for part in whole))
    known.log_p[::2] = np.nan
    known.bits[1::2] = -1.0
    again = read_suffixes(model, windows, prefix=2, known=known)
    np.testing.assert_array_equal(again.log_p, whole.log_p)
    np.testing.assert_array_equal(again.bits[::2], whole.bits[::2])
    assert (again.bits[1::2] == -1).all()


# Calibration


def test_false_positives_are_as_rare_as_asked_for():
    """Unseen passages of documents that differ from each other, under a model of none of them."""
    model, alpha, false = random_bigram(3, 30), 0.05, []
    rng = np.random.default_rng(4)

    def document(number):
        """Passages of one document, which has its own few tokens."""
        own = rng.integers(0, 30, 6)
        return rng.choice(own, (number, 7)).astype(np.int32)

    held = read_suffixes(model, np.concatenate([document(1) for _ in range(99 * 100)]), prefix=2)
    seen = read_suffixes(model, np.concatenate([document(1) for _ in range(10_000)]), prefix=2)
    for k in range(100):
        calls = held.log_p[k::100]
        found = calibrate(seen.log_p[k::100], calls, list(calls[:, None]), alpha=alpha)
        assert found.exchangeable
        false.append(found.share)
    # Of 10,000 passages against 100 sets of 99: a standard deviation of sqrt(0.05 * 0.95) times
    # sqrt(1 / 10,000 + 1 / (100 * 100)), 0.003.
    assert np.mean(false) == pytest.approx(alpha, abs=0.005)


@given(
    log_p=st.lists(st.integers(-6, 0), min_size=1, max_size=9),
    held_out=st.lists(st.integers(-6, 0), min_size=1, max_size=9),
    alpha=st.sampled_from([0.1, 0.25, 0.5]),
)
def test_share_threshold_and_p_values_are_one_rule(log_p, held_out, alpha):
    p_values = conformal_p_values(log_p, held_out)
    counted = [(1 + sum(h >= z for h in held_out)) / (1 + len(held_out)) for z in log_p]
    np.testing.assert_allclose(p_values, counted)
    alone = [np.array([h], float) for h in held_out]
    found = calibrate(
        log_p, held_out, alone, alpha=alpha, excerpt=np.array(log_p[:1], float), documents=alone
    )
    assert found.share == np.mean(np.array(log_p) > found.threshold)
    rule = counted if found.exchangeable else [float(z <= max(held_out)) for z in log_p]
    assert found.share == np.mean(np.array(rule) <= alpha)
    assert found.exchangeable == (alpha * (len(held_out) + 1) >= 1)
    assert found.p_value == (p_values[0] if found.exchangeable else None)


def test_a_work_that_was_never_seen_is_called_memorized_as_rarely_as_asked_for():
    """Documents that differ, each with alike passages, and their lengths differ too."""
    rng, alpha, called = np.random.default_rng(5), 0.05, 0
    for _ in range(2000):
        documents = [
            rng.normal(-80, 10) + rng.normal(0, 3, rng.integers(20, 40)) for _ in range(20)
        ]
        work, *others = documents
        found = calibrate(
            work, [d[0] for d in others], others, alpha=alpha, excerpt=work, documents=others
        )
        called += found.p_value <= alpha
    # 2,000 tries: 0.05 with a standard deviation of 0.005. The length counts for nothing.
    assert called / 2000 == pytest.approx(alpha, abs=0.015)


def test_a_held_out_passage_is_drawn_from_all_of_its_text(tokenizer):
    texts = {"w": prose(1), "h": prose(2, 40_000)}
    passages = {
        name: cut_passages(tokenizer, text, prefix=4, suffix=6, stride=400)
        for name, text in texts.items()
    }
    alone = {"h": texts.pop("h")}, passages, np.zeros(1, np.int64)
    found = [unseen.draw(texts, *alone, seed) for seed in range(600)]
    early = [(passages["h"].tokens[:10] == one.drawn[0]).all(axis=1).any() for one in found]
    # 10 of 100 passages; 600 draws have a standard deviation of 0.012.
    assert np.mean(early) == pytest.approx(0.1, abs=0.04)
    assert {one.size for one in found} == {2000}
    assert all(one.excerpts["h"].length == 2000 for one in found)


def test_short_held_out_texts_have_no_part_in_the_p_value(tokenizer):
    """And do not shorten what of the work is compared."""
    texts = {f"h{k}": prose(3000 + k, 200 if k < 5 else 900) for k in range(40)}
    preset = dataclasses.replace(SMALL, alpha=0.05)
    (work,), _ = audit_works(random_bigram(), tokenizer, {"w": prose(7, 2000)}, texts, preset)
    assert (work.memorized.num_held_out, work.memorized.num_documents) == (40, 35)
    assert work.memorized.num_compared > 290  # of 900 characters, one in 3
    assert work.memorized.p_value is not None


def test_one_document_is_no_sample():
    found = calibrate([-1.0, -9.0], [-3.0], [np.linspace(-10, -2, 500)], alpha=0.01)
    assert not found.exchangeable
    assert (found.num_held_out, found.share) == (500, 0.5)


# Works


def memorizing(tokenizer, text, logit=40.0):
    """A model that goes on with the text after each of its letters, which are all different."""
    ids, table = tokenizer.encode(text).ids, np.zeros((VOCAB, VOCAB))
    table[ids[:-1], ids[1:]] = logit
    return Bigram(table)


def test_a_memorized_work_is_found_and_no_other(tokenizer):
    text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    held_out = {f"other {k}": prose(k) for k in range(120)}
    (known, other), beside = audit_works(
        memorizing(tokenizer, text),
        tokenizer,
        {"known": text, "other": prose(999)},
        held_out,
        SMALL,
    )
    assert (known.coverage, known.longest) == (48 / 52, 48)  # all but the first prefix
    assert (known.greedy, known.extractable, known.bits) == (1.0, 1.0, 0.0)
    assert known.memorized.exchangeable
    assert (known.memorized.share, known.memorized.num_held_out) == (1.0, 120)
    assert (other.coverage, other.longest, other.extractable) == (0.0, 0, 0.0)
    assert other.memorized.share <= 0.1
    assert other.bits > 0
    assert len(beside) == 120
    json.dumps(known.as_json(), allow_nan=False)


def test_places_are_those_of_the_likeliest_suffixes_that_do_not_overlap(tokenizer):
    text = "é" + prose(3)  # the first character has two tokens
    found = cut_passages(tokenizer, text, prefix=4, suffix=6, stride=3)
    rng = np.random.default_rng(0)
    log_p, matched = -rng.exponential(size=len(found.place)), rng.integers(0, 7, len(found.place))
    log_p[3] = -np.inf
    places = likeliest_places(found, 4, log_p, matched, 1000)
    assert places[0].log_p == log_p.max()
    free, kept = np.ones(len(text), bool), []
    for k in np.argsort(-log_p):
        if free[found.start[k] : found.end[k]].all() and k != 3:
            free[found.start[k] : found.end[k]] = False
            kept.append(k)
    assert [p.start for p in places] == found.start[kept].tolist()
    for place, k in zip(places, kept, strict=True):
        assert place.written_to == place.start + matched[k]
        assert place.shown_from == (place.start - 4 if place.start > 4 else 0)
    assert likeliest_places(found, 4, log_p, matched, 2) == places[:2]
    for few in ((log_p[1:], matched), (log_p, matched[1:])):
        with pytest.raises(InputError, match=f"give a number for each of {len(log_p)} passages"):
            likeliest_places(found, 4, *few, 2)


def test_held_out_texts_that_are_too_short_are_left_out(tokenizer):
    texts = {"short": "abc", "long": prose(5)}
    (work,), (other,) = audit_works(random_bigram(), tokenizer, {"w": prose(7)}, texts, SMALL)
    assert other.name == "long"
    (work,), none = audit_works(random_bigram(), tokenizer, {"w": prose(7)}, {"s": "abc"}, SMALL)
    assert work.memorized is None
    assert none == []


def test_near_duplicates_are_one_held_out_document(tokenizer):
    words = " ".join(prose(1000 + k, 6) for k in range(40))
    held_out = {"one": words, "same": words + " end", "other": prose(5)}
    preset = dataclasses.replace(SMALL, alpha=0.34)
    (work,), _ = audit_works(random_bigram(), tokenizer, {"work": prose(7)}, held_out, preset)
    assert work.memorized.exchangeable
    assert work.memorized.num_held_out == 2


def test_an_audit_goes_on_where_it_was_stopped(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "_SECONDS", 0)
    texts, store = {"one": prose(1), "two": prose(2)}, tmp_path / "audit.partial"
    model = random_bigram()
    whole = audit_works(model, tokenizer, texts, {}, SMALL)

    def stop(name, share):
        if name == "two":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_works(model, tokenizer, texts, {}, SMALL, store=store, progress=stop)
    seen = []
    again = audit_works(
        model, tokenizer, texts, {}, SMALL, store=store, progress=lambda name, _: seen.append(name)
    )
    assert "one" not in seen
    np.testing.assert_equal(again, whole)
    with pytest.raises(InputError, match="of an audit of another model, --quantize, text or sizes"):
        audit_works(random_bigram(1), tokenizer, texts, {}, SMALL, store=store)
    store.write_bytes(b"damaged")
    with pytest.raises(InputError, match="is damaged, delete it"):
        audit_works(model, tokenizer, texts, {}, SMALL, store=store)


@pytest.mark.parametrize(
    ("works_", "held_out", "change", "message"),
    [
        ({}, {}, {}, "there is no work"),
        ({"w": ""}, {}, {}, "w has 0 tokens; a passage of prefix 4 and suffix 6 needs 10"),
        ({"w": prose(1)}, {"w": prose(2)}, {}, "have one name"),
        ({"w": prose(1)}, {"h": "go" + prose(1)[50:110]}, {}, "h shares 50 tokens in a row with w"),
        ({"w": WORDS}, {"h": WORDS.replace(" ", "\n ")}, {}, "h shares much of its wording with w"),
        ({"w": prose(1)}, {}, {"stride": 0}, "stride is 0"),
        ({"w": prose(1)}, {}, {"top_k": 300}, "top_k is 300; give a number from 1 to 257"),
        ({"w": prose(1)}, {}, {"alpha": 1.5}, "alpha is 1.5"),
        ({"w": prose(1)}, {}, {"budget": 0}, "budget is 0"),
        ({"w": prose(1)}, {}, {"least": 0}, "least is 0"),
    ],
)
def test_bad_input_is_one_clear_line(tokenizer, works_, held_out, change, message):
    sizes = {"prefix": 4, "suffix": 6, "stride": 3, "top_k": None} | change
    with pytest.raises(InputError, match=message):
        audit_works(random_bigram(), tokenizer, works_, held_out, Preset(**sizes))


def test_logits_that_are_no_numbers_are_refused(tokenizer):
    table = np.zeros((VOCAB, VOCAB))
    table[tokenizer.token_to_id("c")] = np.nan
    with pytest.raises(InputError, match=r"passage [0-9]+ of w a probability of NaN"):
        audit_works(Bigram(table), tokenizer, {"w": prose(1)}, {}, SMALL)
