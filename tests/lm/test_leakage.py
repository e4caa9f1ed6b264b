"""What an audit measures, against models whose memory is known and against plainer arithmetic."""

import dataclasses
import json
import math
import string
import sys

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

nnx = pytest.importorskip("flax.nnx")
pytest.importorskip("tokenizers")
pytest.importorskip("rouge_score")

from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm.corpus.rows import make_rows  # noqa: E402
from copyreg_jax.lm.corpus.tokenizer import END_OF_TEXT, train_tokenizer  # noqa: E402
from copyreg_jax.lm.leakage import (  # noqa: E402
    losses,
    planning,
    similarity,
    teacher_forced,
    writing,
)
from copyreg_jax.lm.leakage.extraction import extract  # noqa: E402
from copyreg_jax.lm.leakage.losses import measure_group, tau_ce  # noqa: E402
from copyreg_jax.lm.leakage.planning import plan_audit  # noqa: E402
from copyreg_jax.lm.leakage.report import (  # noqa: E402
    audit,
    check_comparable,
    gap_closed,
)
from copyreg_jax.lm.leakage.sampling import discoverable, samples_needed  # noqa: E402
from copyreg_jax.lm.leakage.similarity import longest_common_substring  # noqa: E402
from copyreg_jax.lm.leakage.windows import Windows, choose_windows  # noqa: E402
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config  # noqa: E402
from tests.support.calls import count_calls  # noqa: E402
from tests.support.mutants import planted  # noqa: E402
from tests.support.small_models import Bigram, perturbed  # noqa: E402

VOCAB = 257  # bytes and end-of-text
PREFIX, SUFFIX = 6, 8
WINDOW = {"prefix": PREFIX, "suffix": SUFFIX}
SHORT = GPT2Config(vocab_size=VOCAB, context=12, width=8, num_layers=1, num_heads=2)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([], vocab_size=VOCAB)


def successors(seed=5):
    """Each letter has one letter that follows it, on a single cycle."""
    letters = np.random.default_rng(seed).permutation(list(string.ascii_lowercase)).tolist()
    return dict(zip(letters, letters[1:] + letters[:1], strict=True))


def recited(first, length):
    text = first
    while len(text) < length:
        text += successors()[text[-1]]
    return text


def corpus():
    """Six texts that the successors make, six others that are trained on, six held out."""
    rng = np.random.default_rng(0)
    known = [recited(first, 30 + i) for i, first in enumerate("abcdef")]
    other = ["".join(rng.choice(list(string.ascii_uppercase), 40)) for _ in range(12)]
    kind = np.repeat([0, 1, 2], 6)
    return known + other, kind == 0, kind == 2


def audited(model, tokenizer, **change):
    case = dict(zip(("texts", "protected", "held_out"), corpus(), strict=True))
    return audit(model, plan_audit(tokenizer, **case | WINDOW | {"rows_length": 16} | change))


def memorizing(tokenizer, logit=30.0):
    table = np.zeros((VOCAB, VOCAB))
    for one, following in successors().items():
        table[tokenizer.token_to_id(one), tokenizer.token_to_id(following)] = logit
    return Bigram(table)


def uniform():
    return Bigram(np.zeros((VOCAB, VOCAB)))


def random_bigram(seed=0, vocab=VOCAB):
    return Bigram(np.random.default_rng(seed).normal(scale=2, size=(vocab, vocab)))


def some_windows(count=5, length=PREFIX + SUFFIX, seed=0, vocab=VOCAB):
    tokens = np.random.default_rng(seed).integers(0, vocab, (count, length), dtype=np.int32)
    return Windows(tokens, np.arange(count))


# Losses


def test_bytes_are_those_of_utf8(tokenizer):
    texts, protected, _ = corpus()
    texts[0] = "ä" * 40
    report = audited(uniform(), tokenizer, texts=texts)
    sizes = [len(text.encode()) for text, chosen in zip(texts, protected, strict=True) if chosen]
    assert sizes[0] == 80
    tokens = sum(size + 1 for size in sizes)  # a byte is a token, and there is one at the end
    assert report.protected[:3] == ("protected", 6, tokens)
    # float32 within a row, so 1e-6; each token has log 257.
    assert report.protected.cross_entropy == pytest.approx(math.log(VOCAB), rel=1e-6)
    expected = tokens * math.log2(VOCAB) / sum(sizes)
    assert report.protected.bits_per_byte == pytest.approx(expected, rel=1e-6)


# tau and its interval


def synthetic(rng, count=60, tau=0.4):
    """Documents of two groups whose expected losses per token are tau apart."""
    tokens = rng.integers(20, 200, 2 * count)
    protected = np.arange(2 * count) < count
    mean = np.where(protected, 3.0 + tau, 3.0)
    return tokens * (mean + rng.normal(scale=0.5, size=2 * count)), tokens, protected


def test_interval_covers_the_truth(monkeypatch):
    monkeypatch.setattr(losses, "_RESAMPLES", 400)
    covered = 0
    for seed in range(200):
        nll, tokens, protected = synthetic(np.random.default_rng(seed))
        found = tau_ce(nll, tokens, protected, ~protected, seed=seed)
        assert found.lower <= found.value <= found.upper
        covered += found.lower <= 0.4 <= found.upper
    # The noise does not depend on the length, so 0.4 is the truth. A percentile interval of 60
    # documents covers about 0.94 of the time. Of 200, that is 188 with a standard deviation of
    # sqrt(200 * 0.94 * 0.06) = 3.4; 172 is 4.8 of these below. All 200 have probability 4e-6.
    assert 172 <= covered < 200


def test_interval_is_that_of_a_plain_loop(monkeypatch):
    nll, tokens, protected = synthetic(np.random.default_rng(1), count=7)
    order = np.lexsort((tokens, nll))
    nll, tokens, protected = nll[order], tokens[order], protected[order]
    monkeypatch.setattr(losses, "_DRAWS", 7 * 9)  # blocks of nine resamples, and a rest of five
    monkeypatch.setattr(losses, "_RESAMPLES", 50)
    monkeypatch.setattr(losses, "CONFIDENCE", 0.8)
    found = tau_ce(nll, tokens, protected, ~protected, seed=3)

    rng = np.random.default_rng(3)
    means = []
    for group in (protected, ~protected):
        a, m = nll[group], tokens[group]
        draws = np.concatenate([rng.integers(0, 7, (size, 7)) for size in [9] * 5 + [5]])
        means.append([sum(a[i] for i in row) / sum(m[i] for i in row) for row in draws])
    ordered = sorted(one - other for one, other in zip(*means, strict=True))
    # Place 0.1 * 49 = 4.9 and 44.1 of the sorted 50, linearly between neighbors.
    lower = ordered[4] + 0.9 * (ordered[5] - ordered[4])
    upper = ordered[44] + 0.1 * (ordered[45] - ordered[44])
    # Sums of seven terms of one sign: some eps of float64 times losses of 4.
    np.testing.assert_allclose((found.lower, found.upper), (lower, upper), atol=1e-13)
    value = nll[protected].sum() / tokens[protected].sum()
    value -= nll[~protected].sum() / tokens[~protected].sum()
    assert found.value == pytest.approx(value, abs=1e-13)


def test_order_of_documents_makes_no_difference():
    nll, tokens, protected = synthetic(np.random.default_rng(2))
    nll[:4], tokens[:4] = nll[0], [30, 40, 30, 50]  # equal losses too
    place = np.random.default_rng(0).permutation(len(nll))
    first = tau_ce(nll, tokens, protected, ~protected)
    assert tau_ce(nll[place], tokens[place], protected[place], ~protected[place]) == first
    assert tau_ce(nll, tokens, protected, ~protected, seed=1) != first


# Longest common substring


def brute(a, b):
    stretches = {tuple(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1)}
    return max((len(s) for s in stretches if any(
        tuple(b[k : k + len(s)]) == s for k in range(len(b))
    )), default=0)  # fmt: skip


@given(st.text("abé", max_size=12), st.text("abé", max_size=12))
def test_longest_common_substring(a, b):
    assert longest_common_substring(a, b) == brute(a, b) == longest_common_substring(b, a)
    assert longest_common_substring(list(map(ord, a)), list(map(ord, b))) == brute(a, b)


# Numbers of samples


def exact_log10(log_p, p):
    with mpmath.workdps(700):  # 1 - 1e-300 has 300 nines
        return float(
            mpmath.log10(mpmath.log(1 - mpmath.mpf(p)) / mpmath.log(1 - mpmath.exp(log_p)))
        )


@pytest.mark.parametrize("p", [0.5, 0.01, 0.999])
@pytest.mark.parametrize("log_p", [math.log(p) for p in (0.3, 1e-3, 1e-17, 1e-100, 1e-300)])
def test_samples_against_long_arithmetic(log_p, p):
    found, expected = samples_needed(log_p, p), exact_log10(log_p, p)
    if expected < 12:
        assert found.number == max(1, math.ceil(10**expected - 1e-3))
    # log10 of a number that is right to some eps, or next to its whole number.
    assert found.log10 == pytest.approx(max(0, math.log10(found.number)), abs=1e-15)
    assert found.log10 == pytest.approx(max(0, expected), rel=1e-14, abs=1 / found.number)


@given(st.floats(-600, -1e-12), st.floats(0.001, 0.999))
def test_so_many_samples_are_enough_and_fewer_are_not(log_p, p):
    number = float(samples_needed(log_p, p).number)
    # A tenth of a percent, and a whole sample, is far more than rounding makes.
    assert discoverable(log_p, number * 1.001 + 1, p)
    if number > 2:
        assert not discoverable(log_p, number * 0.999 - 1, p)


def test_samples_at_the_ends():
    found = samples_needed([0.0, -0.0, -1e-300, -1e4, -np.inf])
    assert found.number.tolist() == [1, 1, 1, np.inf, np.inf]
    expected = (math.log(math.log(2)) + 1e4) / math.log(10)
    np.testing.assert_allclose(found.log10, [0, 0, 0, expected, np.inf], rtol=1e-15)
    assert discoverable([0.0, -1e4, -np.inf], 1, 0.999).tolist() == [True, False, False]
    assert discoverable(math.log(1e-200), 7e199, 0.5)
    assert not discoverable(math.log(1e-200), 6.9e199, 0.5)


@given(st.floats(max_value=0.0), st.floats(0.001, 0.999), st.floats(1, 1e300))
@example(-800.0, 0.5, 1.5)
@example(-745.0, 0.5, 1.5)
@example(-math.inf, 0.5, 1e300)
def test_samples_do_not_depend_on_how_numpy_reports_errors(log_p, p, n):
    """Numbers out of range are no errors here, whatever a caller wants to see of his own."""
    expected = *samples_needed(log_p, p), discoverable(log_p, n, p)
    with np.errstate(all="raise"):
        found = *samples_needed(log_p, p), discoverable(log_p, n, p)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: samples_needed(0.1), "above 0"),
        (lambda: samples_needed(np.nan), "NaN"),
        (lambda: samples_needed(-1.0, 1.0), "p is 1.0"),
        (lambda: discoverable(-1.0, 0), "n is 0"),
    ],
)
def test_no_probabilities(call, message):
    with pytest.raises(InputError, match=message):
        call()


# Extraction


def test_a_model_gives_away_the_texts_that_it_knows_and_no_others(tokenizer):
    report = audited(memorizing(tokenizer), tokenizer)
    found, baseline = report.extraction, report.extraction_held_out
    assert found.exact.all()
    assert (found.matched == SUFFIX).all()
    assert (found.substring == SUFFIX).all()
    assert (found.substring_tokens == SUFFIX).all()
    assert (found.rouge_l == 1).all()
    assert not baseline.exact.any()
    # After a capital all 257 tokens are alike; of equal logits the first is taken.
    assert (baseline.continuation == 0).all()
    np.testing.assert_allclose(baseline.log_p, -SUFFIX * math.log(VOCAB), rtol=1e-6)
    summary = found.summary()
    assert summary.exact == summary.discoverable == summary.mean_rouge_l == 1
    assert summary.median_log10_samples == 0
    assert summary.max_substring == summary.mean_matched == SUFFIX
    assert baseline.summary().discoverable == baseline.summary().max_substring == 0
    # The first letter is a guess of 1 in 257, the end a surprise of 30 nats for a model that would
    # go on: log 257 + log(e^30 + 256), which is 35.5 nats, for each text.
    surprise = 6 * (math.log(VOCAB) + math.log(math.exp(30) + VOCAB - 1))
    expected = surprise / report.protected.num_tokens
    assert report.protected.cross_entropy == pytest.approx(expected, rel=1e-5)
    assert report.held_out.cross_entropy == pytest.approx(math.log(VOCAB), rel=1e-5)
    assert report.tau.upper < -4
    assert report.tau_held_out.upper < -4


def test_a_model_that_errs_once(tokenizer):
    """It matches up to the wrong letter, and goes on from there by its own words."""
    text = recited("a", 30)
    model = memorizing(tokenizer)
    rows = make_rows(tokenizer, [text], 16)
    windows = choose_windows(rows, [text], np.array([True]), **WINDOW)
    assert tokenizer.decode(windows.tokens[0].tolist()).endswith(text[:13])
    changed = windows.tokens.copy()
    changed[0, PREFIX + 3] = tokenizer.token_to_id("A")
    found = extract(model, tokenizer, windows._replace(tokens=changed), prefix=PREFIX)
    assert found.matched.tolist() == [3]
    assert found.substring.tolist() == found.substring_tokens.tolist() == [4]  # the rest of eight
    assert not found.exact[0]
    assert tokenizer.decode(found.continuation[0].tolist()) == text[5:13]
    # The wrong letter, and the one after it that the model has no idea of.
    expected = -math.log(math.exp(30) + VOCAB - 1) - math.log(VOCAB)
    np.testing.assert_allclose(found.log_p, expected, rtol=1e-6)


def oracle_log_p(table, windows, prefix, top_k=None):
    """Product over the suffix of softmax(table row of the token before), in float64."""
    result = []
    for row in windows.tokens.tolist():
        total = 0.0
        for before, token in zip(row[prefix - 1 : -1], row[prefix:], strict=True):
            logits = np.asarray(table[before], np.float64)
            kept = np.argsort(-logits, kind="stable")[:top_k]
            likely = (
                np.exp(logits[token] - logits.max()) / np.exp(logits[kept] - logits.max()).sum()
            )
            total += math.log(likely) if token in kept else -math.inf
        result.append(total)
    return np.array(result)


def check_log_p(tokenizer):
    model, windows = random_bigram(), some_windows(19)  # more than a batch
    found = extract(model, tokenizer, windows, prefix=PREFIX).log_p
    expected = oracle_log_p(np.asarray(model.table[...]), windows, PREFIX)
    assert np.std(expected) > 1
    # float32: eight logarithms of size 10, each to a few eps of 6e-8.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def check_greedy(tokenizer, model=None, windows=None):
    model, windows = model or random_bigram(), windows or some_windows(2)
    found = extract(model, tokenizer, windows, prefix=PREFIX).continuation
    forward = nnx.jit(lambda model, tokens: model(tokens))
    for row, continuation in zip(windows.tokens, found, strict=True):
        known = row[:PREFIX].tolist()
        for _ in range(SUFFIX):  # no padding, no buffer: the text grows
            known.append(int(jnp.argmax(forward(model, jnp.array([known]))[0, -1])))
        np.testing.assert_array_equal(continuation, known[PREFIX:])


@pytest.mark.parametrize("check", [check_log_p, check_greedy])
def test_bigrams_are_continued_as_their_table_says(check, tokenizer):
    check(tokenizer)


READ = "lm.leakage.teacher_forced:_read"
BUGS = {
    "the token given is the target": (
        check_log_p, READ, "windows[:, prefix:, None]", "windows[:, prefix - 1 : -1, None]",
    ),
    "logits one too early": (
        check_log_p, READ,
        "nnx.merge(graph, params)(windows[:, :-1])[:, prefix - 1 :]",
        "nnx.merge(graph, params)(windows[:, :-1])[:, prefix - 2 : -1]",
    ),
    "continuation of the wrong token": (
        check_greedy, "lm.leakage.writing:_continue", "[first[None], rest]", "[rest, rest[-1:]]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_planted_misalignment_is_found(bug, tokenizer):
    check, *piece = BUGS[bug]
    with (
        planted(*piece, compiled=True),
        pytest.raises(AssertionError, match=r"Not equal to tolerance|Arrays are not equal"),
    ):
        check(tokenizer)


@pytest.mark.parametrize("top_k", [1, 3, 40, VOCAB])
def test_top_k_is_renormalized(top_k, tokenizer):
    table = np.random.default_rng(1).normal(scale=2, size=(VOCAB, VOCAB))
    table[:, 5] = table[:, 6]  # ties: the smaller number is in
    model, windows = Bigram(table), some_windows(6, seed=2)
    likely = np.argsort(-np.asarray(model.table[...]), axis=1, kind="stable")
    for row in windows.tokens[:5]:  # suffixes that are among the likeliest three
        for place in range(PREFIX, PREFIX + SUFFIX):
            row[place] = likely[row[place - 1], 0 if top_k == 1 else place % 3]
    found = extract(model, tokenizer, windows, prefix=PREFIX, top_k=top_k)
    expected = oracle_log_p(np.asarray(model.table[...]), windows, PREFIX, top_k)
    assert np.isfinite(expected[:5]).all()
    assert np.isinf(expected[5]) == (top_k < VOCAB)
    np.testing.assert_allclose(found.log_p, expected, atol=2e-5)
    assert (found.log_p <= 0).all()
    if top_k == 1:
        assert found.exact[:5].all()
        assert found.log_p[:5].tolist() == [0] * 5


@pytest.mark.slow
def test_continuations_of_gpt2_are_those_of_a_text_that_grows(tokenizer):
    config = dataclasses.replace(SHORT, context=13)
    model = perturbed(config, scale=1.0)  # at first the head repeats the last token
    windows = some_windows(3)
    check_greedy(tokenizer, model, windows)
    found = extract(model, tokenizer, windows, prefix=PREFIX).continuation
    assert len(np.unique(found)) > 3  # not one token over and over


def test_the_gap_closed_is_a_line_between_two_runs(tokenizer):
    """By hand: the model that knows all is at 0, the one that knows nothing at 1."""
    most, least = audited(memorizing(tokenizer), tokenizer), audited(uniform(), tokenizer)
    assert gap_closed(most, most, least) == (0, 0, 0, 0)
    assert gap_closed(least, most, least) == (1, 1, 1, 1)
    middle = audited(memorizing(tokenizer, logit=3.0), tokenizer)  # it is as sure by its argmax
    found = gap_closed(middle, most, least)
    assert found[:3] == (0, 0, 0)
    losses = [report.protected.cross_entropy for report in (most, middle, least)]
    expected = (losses[1] - losses[0]) / (losses[2] - losses[0])
    assert found.nats == pytest.approx(expected, rel=1e-12)
    assert np.isnan(gap_closed(middle, least, most)).all()


def test_memorized_windows_are_likelier_than_the_held_out_ones(tokenizer):
    found = audited(memorizing(tokenizer), tokenizer).memorized
    assert (found.share, found.num_held_out, found.exchangeable) == (1.0, 6, False)
    assert audited(uniform(), tokenizer).memorized.share == 0.0


def test_near_duplicates_among_held_out_texts_count_once(tokenizer):
    texts, _, held_out = corpus()
    last = np.flatnonzero(held_out)[-1]
    texts[last] = texts[last - 1].lower() + "."  # the same words
    found = audited(memorizing(tokenizer), tokenizer, texts=texts).memorized
    assert found.num_held_out == 5


def test_models_of_one_shape_share_a_program(tokenizer):
    audited(random_bigram(1), tokenizer)
    programs = (writing._continue, teacher_forced._read)
    before = [program._cache_size() for program in programs]
    audited(random_bigram(2), tokenizer)
    assert [program._cache_size() for program in programs] == before


def test_end_of_text_has_no_letters(tokenizer):
    end, text = tokenizer.token_to_id(END_OF_TEXT), tokenizer.encode("ends").ids
    assert writing.decode(tokenizer, [end, *text, end, *text]) == "\0ends\0ends"


# Windows


def test_windows_are_beginnings_of_documents(tokenizer):
    texts = [recited("a", 30), "short", recited("b", 13), "x" * 40]
    rows = make_rows(tokenizer, texts, 16)
    chosen = np.array([True, True, True, False])
    one = choose_windows(rows, texts, chosen, **WINDOW)
    assert one.document.tolist() == [0, 2]  # the third fits exactly
    end = tokenizer.token_to_id(END_OF_TEXT)
    for i, tokens in zip(one.document, one.tokens, strict=True):
        assert tokens.tolist() == [end, *tokenizer.encode(texts[i]).ids[:13]]
    assert end not in one.tokens[:, 1:]


def test_choice_of_windows_does_not_depend_on_the_other_documents(tokenizer):
    texts, protected, _ = corpus()
    rows = make_rows(tokenizer, texts, 16)
    sizes = WINDOW | {"max_windows": 3}
    found = choose_windows(rows, texts, protected, **sizes)
    assert len(found.tokens) == 3
    place = np.random.default_rng(0).permutation(len(texts))
    moved = [texts[i] for i in place]
    again = choose_windows(make_rows(tokenizer, moved, 16), moved, protected[place], **sizes)
    assert {texts[i] for i in found.document} == {moved[i] for i in again.document}
    seeds = {
        tuple(choose_windows(rows, texts, protected, seed=seed, **sizes).document)
        for seed in range(5)
    }
    assert len(seeds) > 1


# Reports


def test_report_as_json_is_finite_and_has_no_text(tokenizer):
    report = audited(memorizing(tokenizer), tokenizer, top_k=1)
    assert np.isinf(report.extraction_held_out.log10_samples).all()
    content = report.as_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["extraction"]["held-out"]["median_log10_samples"] is None
    assert content["extraction"]["protected"]["exact"] == 1
    assert set(content["groups"]) == {"protected", "unprotected", "held-out"}
    assert set(content["tau"]) == {"unprotected", "held-out"}
    assert not any(text[:10] in json.dumps(content) for text in corpus()[0])


def test_models_are_compared_on_the_same_windows(tokenizer):
    reports = {
        name: audited(model, tokenizer)
        for name, model in (("memory", memorizing(tokenizer)), ("uniform", uniform()))
    }
    check_comparable(reports)
    assert reports["memory"].windows == reports["uniform"].windows
    for change in ({"suffix": SUFFIX + 1}, {"top_k": 3}):
        other = audited(uniform(), tokenizer, **change)
        with pytest.raises(InputError, match="'memory' and 'other'"):
            check_comparable(reports | {"other": other})


def test_a_plan_is_made_once_for_many_models(tokenizer, monkeypatch):
    """Whatever a model is changed to, its report is that of an audit of its own."""
    case = dict(zip(("texts", "protected", "held_out"), corpus(), strict=True))
    calls = count_calls(monkeypatch, planning, "make_rows", "near_duplicates")
    plan = plan_audit(tokenizer, **case, **WINDOW, rows_length=16, top_k=9, seed=3)
    models = [random_bigram(seed) for seed in range(3)]
    planned = [audit(model, plan) for model in models]
    assert calls == ["make_rows", "near_duplicates"]
    for model, report in zip(models, planned, strict=True):
        alone = audited(model, tokenizer, top_k=9, seed=3)
        assert report.as_json() == alone.as_json()
        np.testing.assert_array_equal(report.nll, alone.nll)
        np.testing.assert_array_equal(report.extraction.log_p, alone.extraction.log_p)


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protected": np.zeros(18, bool)}, "no document is protected"),
        ({"held_out": np.zeros(18, bool)}, "no document is held-out"),
        ({"held_out": np.ones(18, bool)}, "protected and held out"),
        ({"held_out": np.arange(18) > 5}, "no document is unprotected"),
        ({"held_out": np.zeros(17, bool)}, "give a bool for each of 18"),
        ({"protected": np.zeros(18, int)}, "give a bool"),
        ({"names": ["a"]}, "1 names for 18 texts"),
        ({"prefix": 0}, "prefix is 0"),
        ({"max_windows": 0}, "max_windows is 0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": VOCAB + 1}, "top_k is 258"),
        ({"prefix": 50, "suffix": 50}, r"no protected document .* need 100 .* longest has 36"),
        ({"model": lambda: random_bigram(vocab=256)}, "does not match the model"),
        (
            {"model": lambda: GPT2(SHORT), "rows_length": 12},
            "6 and suffix 8 need 13 positions, but the model has 12",
        ),
        (
            {"model": lambda: GPT2(SHORT), "suffix": 7},
            "rows_length 16 needs as many positions, but the model has 12",
        ),
    ],
)
def test_audits_that_make_no_sense(change, message, tokenizer):
    change = {"model": uniform} | change
    with pytest.raises(InputError, match=message):
        audited(change.pop("model")(), tokenizer, **change)


def test_windows_that_do_not_fit_the_context(tokenizer):
    with pytest.raises(InputError, match="need 13 positions"):
        extract(GPT2(SHORT), tokenizer, some_windows(), prefix=PREFIX)


def test_losses_that_are_not_finite_name_the_document(tokenizer):
    table = np.zeros((VOCAB, VOCAB))
    table[tokenizer.token_to_id("Q"), 7] = np.nan
    texts = [text.replace("Q", "R") for text in corpus()[0]]
    texts[8] = "Q" + texts[8]
    names = [f"text {i}" for i in range(len(texts))]
    with pytest.raises(InputError, match="document 'text 8' is nan"):
        audited(Bigram(table), tokenizer, texts=texts, names=names)
    windows = some_windows(3)
    windows.tokens[:] = tokenizer.token_to_id("R")
    windows.tokens[1, PREFIX] = tokenizer.token_to_id("Q")
    with pytest.raises(InputError, match="document 1 a probability of NaN"):
        extract(Bigram(table), tokenizer, windows, prefix=PREFIX)


def test_losses_of_documents_that_make_no_sense():
    nll, tokens, one = np.ones(3), np.array([1, 2, 0]), np.array([True, False, False])
    two = np.array([False, True, False])
    for arguments, options, message in (
        ((nll, tokens, one, np.zeros(3, bool)), {}, "no document is other"),
        ((nll, tokens, one, ~one), {}, "document 2 has 0 tokens"),
        ((nll, tokens, one, one), {}, "in both groups"),
        ((nll, tokens[:2], one, two), {}, "num_tokens"),
        ((nll * np.inf, tokens, one, two), {"names": "abc"}, "document 'a' is inf"),
    ):
        with pytest.raises(InputError, match=message):
            tau_ce(*arguments, **options)
    with pytest.raises(InputError, match="texts are empty"):
        measure_group("protected", nll, tokens, np.zeros(3, int), one)
    with pytest.raises(InputError, match="num_bytes has shape"):
        measure_group("protected", nll, tokens, np.zeros(2, int), one)


def rouge_l(one, other):
    return similarity.rouge_scorer().score(one, other)["rougeL"].fmeasure


ALPHABETS = {
    "Russian": "мама мыла раму", "Greek": "η γάτα και η μέρα", "Chinese": "我喜欢喝茶",
    "Arabic": "كتب الولد الدرس", "Hindi": "हिन्दी भाषा में", "Thai": "ฉันชอบดื่มชา",
    "Korean": "나는 차를 좋아한다", "no words": "…!? — ☂", "white space": "\n\n ",
}  # fmt: skip


@pytest.mark.parametrize("script", ALPHABETS)
def test_rouge_of_identical_text_is_1_in_any_script(script):
    text = ALPHABETS[script]
    assert rouge_l(text, text) == 1
    assert rouge_l(text, "quite another text") == rouge_l("quite another text", text) == 0


def test_rouge_counts_words_of_other_scripts_as_it_does_english_ones():
    """Three words of four in order: precision and recall are 3/4."""
    for one, other in (
        ("one two three four", "one two six four"),
        ("один два три четыре", "один два шесть четыре"),
        ("एक दो तीन चार", "एक दो छह चार"),
        ("一二三四", "一二六四"),
    ):
        assert rouge_l(one, other) == pytest.approx(0.75, rel=1e-15)


@given(st.lists(st.sampled_from(["running", "runs", "don't", "x_y", "A", "ran", "-", "3.5"])))
def test_rouge_of_english_is_that_of_the_library(words):
    from rouge_score.rouge_scorer import RougeScorer

    plain = RougeScorer(["rougeL"], use_stemmer=True)
    one, other = " ".join(words), " ".join([*words[2:], "run", "a"])
    assert rouge_l(one, other) == plain.score(one, other)["rougeL"].fmeasure


def test_rouge_is_asked_for(monkeypatch, tokenizer):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(InputError, match="pip install rouge-score"):
        extract(uniform(), tokenizer, some_windows(), prefix=PREFIX)
