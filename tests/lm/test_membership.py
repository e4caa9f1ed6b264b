"""Membership scores and what they tell, against plain arithmetic and models of known memory."""

import itertools
import math
import string
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st

pytest.importorskip("flax")
pytest.importorskip("tokenizers")

from copyreg_jax.cli.audit_runs import _show_gap
from copyreg_jax.cli.audit_works import _memorized
from copyreg_jax.cli.membership_table import show_canaries, show_run, show_works
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.rows import cut_rows, make_rows
from copyreg_jax.lm.corpus.tokenizer import bytes_of_tokens, train_tokenizer
from copyreg_jax.lm.leakage.calibration import Calibration
from copyreg_jax.lm.leakage.exposure import Exposure
from copyreg_jax.lm.leakage.membership import (
    Attack,
    Scores,
    attack,
    priv_leak,
    score_rows,
)
from copyreg_jax.lm.leakage.membership_section import few_texts, membership_section
from copyreg_jax.lm.leakage.page import audit_page
from copyreg_jax.lm.leakage.passages import cut_passages
from copyreg_jax.lm.leakage.preset import Preset
from copyreg_jax.lm.leakage.report import GapClosed
from copyreg_jax.lm.leakage.run_membership import RunMembership, compare_runs, score_run
from copyreg_jax.lm.leakage.wording import memorized
from copyreg_jax.lm.leakage.work_membership import (
    WorkMembership,
    compare_works,
    score_texts,
)
from copyreg_jax.lm.leakage.works import audit_works
from copyreg_jax.lm.records import Flags
from tests.support.audits import audit, calibration, membership, work
from tests.support.mutants import planted
from tests.support.small_models import Bigram

VOCAB = 257  # bytes and end-of-text


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([], vocab_size=VOCAB)


def random_bigram(seed=0):
    return Bigram(np.random.default_rng(seed).normal(scale=2, size=(VOCAB, VOCAB)))


def prose(seed, length=60):
    letters = list(string.ascii_letters + " ")
    return "".join(np.random.default_rng(seed).choice(letters, length))


# Scores


def by_hand():
    """The model gives four tokens 1/2, 1/4, 1/8 and 1/8, whatever was before.

    In units of log 2 their -log q are 1, 2, 3 and 3, with mean 7/4 and variance 15/4 - 49/16.
    """
    model = Bigram(np.tile(np.log([1 / 2, 1 / 4, 1 / 8, 1 / 8]), (4, 1)))
    # Ten targets, five of them 0, three 1, one each 2 and 3: the fifth are two. Three: one of them.
    parts = [[0, 0, 2, 0, 1, 0, 1, 3, 0, 1, 0], [3, 1, 0, 1]]
    rows = cut_rows([np.array(part, np.int32) for part in parts], 4, np.zeros(2, np.int64))
    found = score_rows(model, rows, [b"", b"a sail" * 9])
    z = [(3 - 7 / 4) / math.sqrt(11 / 16), (2 - 7 / 4) / math.sqrt(11 / 16)]
    sizes = [len(zlib.compress(b"")), len(zlib.compress(b"a sail" * 9))]
    log2, loss = math.log(2), [17 / 10, 5 / 3]
    # Ten roundings of numbers of size 3 to float32.
    close = {"rtol": 10 * 2.0**-23}
    np.testing.assert_allclose(found.loss / log2, loss, **close)
    np.testing.assert_allclose(found.zlib / log2, np.divide(loss, sizes), **close)
    np.testing.assert_allclose(found.min_k / log2, [3, 2], **close)
    np.testing.assert_allclose(found.min_k_plus, z, **close)


def counts_by_hand():
    """Of six pairs 1, 2, 4 against 3, 5 five are in order; of the ten orders two are as good."""
    found = attack([1.0, 2.0, 4.0], [3.0, 5.0])
    assert (found.auroc, found.p_value) == (5 / 6, 2 / 10)
    members = np.array([0.0, 1.0, 2.0, 3.0])
    found = attack(members, np.arange(1.5, 100.5))  # 99 others, the smallest between 1 and 2
    # With 1 %, a member may have no other below or at it; with 10 %, nine.
    assert (found.found_at_1_percent, found.found_at_10_percent) == (0.5, 1.0)
    assert attack(members, np.arange(98.0)).found_at_1_percent is None
    assert [priv_leak(1.0, 0.5), priv_leak(0.25, 0.5), priv_leak(0.6, 0.6)] == [-100, 50, 0]
    assert math.isnan(priv_leak(0.5, 1.0))


def test_scores_and_counts_are_those_worked_out_by_hand():
    by_hand()
    counts_by_hand()


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("_tokens", "mean - own", "own - mean"),
        ("_tokens", "(logs - mean[..., None]) ** 2", "logs**2"),
        ("_tokens", "own = jnp.take_along_axis(logs, tokens[:, 1:, None], axis=-1)[..., 0]",
         "own = jnp.take_along_axis(logs, tokens[:, :-1, None], axis=-1)[..., 0]"),
        ("_highest_mean", "-values", "values"),
        ("_highest_mean", "np.maximum(1, counts // _LOWEST)", "1 + counts // _LOWEST"),
        ("score_rows", "len(zlib.compress(content))", "len(content) + 8"),
        ("attack", '"greater"', '"less"'),
        ("attack", "-np.asarray(members, np.float64)", "np.asarray(members, np.float64)"),
        ("attack", "p <= rate", "p < rate"),
        ("priv_leak", "own - rest", "rest - own"),
        ("priv_leak", "1 - auroc", "auroc"),
    ],
)  # fmt: skip
def test_planted_bugs_are_found(place, old, new):
    with (
        planted(f"lm.leakage.membership:{place}", old, new, compiled=place == "_tokens"),
        pytest.raises(AssertionError),
    ):
        test_scores_and_counts_are_those_worked_out_by_hand()


def test_scores_are_those_of_numpy(tokenizer):
    model, texts = random_bigram(), [prose(k, 3 + 11 * k) for k in range(7)]
    found = score_rows(model, make_rows(tokenizer, texts, 16), [text.encode() for text in texts])
    table = np.asarray(model.table[...], np.float64)
    end = tokenizer.token_to_id("<|endoftext|>")
    for k, text in enumerate(texts):
        ids = [end, *tokenizer.encode(text).ids, end]
        surprise, relative = [], []
        for last, token in itertools.pairwise(ids):
            logs = table[last] - np.log(np.exp(table[last]).sum())
            mean = np.average(logs, weights=np.exp(logs))
            deviation = np.sqrt(np.average((logs - mean) ** 2, weights=np.exp(logs)))
            surprise.append(-logs[token])
            relative.append((mean - logs[token]) / deviation)
        size = max(1, len(surprise) // 5)
        expected = np.mean(surprise), np.mean(sorted(surprise)[-size:])
        # 260 roundings of 2^-24 in sums whose terms add up to 20 at most, divided by 1 or more.
        close = {"abs": 260 * 20 * 2.0**-24}
        assert (found.loss[k], found.min_k[k]) == pytest.approx(expected, **close)
        assert found.min_k_plus[k] == pytest.approx(np.mean(sorted(relative)[-size:]), **close)


def test_tokens_that_can_not_be_and_certain_ones_have_scores():
    """Logits of -inf give log 0 times 0, and a certain token a deviation of 0."""
    table = np.full((3, 3), -np.inf)
    table[:, 1] = 0
    rows = cut_rows([np.array([0, 1, 1], np.int32)], 2, np.zeros(1, np.int64))
    found = score_rows(Bigram(table), rows, [b""])
    assert [float(score[0]) for score in found] == [0, 0, 0, 0]


# What scores tell


few = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@given(members=few, others=few)
def test_auroc_counts_pairs(members, others):
    found = attack(members, others)
    pairs = [(one < other) + (one == other) / 2 for one in members for other in others]
    assert found.auroc == pytest.approx(np.mean(pairs), rel=1e-14)
    if len(set(members + others)) == len(members + others):
        orders = itertools.combinations(members + others, len(members))
        rest = [set(members + others) - set(order) for order in orders]
        better = [
            np.mean([one < other for one in set(members + others) - part for other in part])
            >= found.auroc - 1e-12
            for part in rest
        ]
        assert found.p_value == pytest.approx(np.mean(better), rel=1e-12)


def test_one_text_against_many_has_the_conformal_p_value():
    assert attack([-1.0], np.arange(99.0)).p_value == 0.01
    assert attack([0.0], np.arange(30_000.0)).p_value == 2 / 30_001
    assert attack([1.0] * 2, [2.0] * 5).p_value == 1 / 21  # as many orders; a normal one has 0.012


@pytest.mark.parametrize(("members", "others"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0])])
def test_no_score_is_refused(members, others):
    with pytest.raises(InputError, match="are none or have NaN"):
        attack(members, others)


def flags(texts, protected):
    kinds = np.arange(len(texts)) < protected, np.arange(len(texts)) >= len(texts) // 2
    return Flags(texts, [f"d{k}" for k in range(len(texts))], *kinds, 16)


def test_unseen_texts_are_not_told_apart_and_memorized_ones_are(tokenizer):
    letters = string.ascii_letters
    texts = [letters[k : k + 30] for k in range(20)]
    documents = flags([*texts, *(prose(k) for k in range(20))], 20)
    table = np.zeros((VOCAB, VOCAB))
    ids = tokenizer.encode(letters).ids
    table[ids[:-1], ids[1:]] = 20
    unseen = flags([prose(k) for k in range(400)], 200)
    models = {"knows": Bigram(table), "never": random_bigram(), "other": random_bigram(1)}
    rows = make_rows(tokenizer, documents.texts, documents.length)
    known = {name: score_run(model, rows, documents) for name, model in models.items()}
    found = compare_runs(known, documents, "never", "never")
    assert {one.auroc for one in found["knows"].scores.values()} == {1.0}
    assert found["knows"].priv_leak == -100
    assert found["never"].priv_leak == 0
    assert list(found["knows"].scores) == [*Scores._fields, "reference"]
    assert (found["never"].reference, found["knows"].reference) == (None, "never")
    np.testing.assert_array_equal(
        found["knows"].scores["reference"],
        attack(*np.split(known["knows"].loss - known["never"].loss, 2)),
    )
    rows = make_rows(tokenizer, unseen.texts, unseen.length)
    alike = {name: score_run(models[name], rows, unseen) for name in ("never", "other")}
    for one in compare_runs(alike, unseen, None, "other").values():
        assert one.priv_leak is None
        for score in one.scores.values():
            # The standard deviation of U / (n m) is sqrt(401 / (12 * 200 * 200)) = 0.029.
            assert score.auroc == pytest.approx(0.5, abs=5 * 0.029)
            assert score.p_value > 1e-6


def test_rows_of_all_documents_score_some_as_rows_of_these_alone(tokenizer):
    texts = [prose(k)[: 3 + 5 * k % 31] for k in range(9)]
    place = np.arange(9)
    documents = Flags(texts, list(texts), place % 3 == 1, place % 3 == 2, 16)
    some = [text for k, text in enumerate(texts) if k % 3]
    model = random_bigram()
    alone = score_rows(model, make_rows(tokenizer, some, 16), [text.encode() for text in some])
    found = score_run(model, make_rows(tokenizer, texts, 16), documents)
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="rows are of 6 documents and flags of 9; give those of"):
        score_run(model, make_rows(tokenizer, some, 16), documents)


@pytest.mark.parametrize("flags_of_two", [([1, 1], [0, 0]), ([0, 0], [1, 1])])
def test_runs_without_one_of_the_groups_are_refused(tokenizer, flags_of_two):
    texts, (protected, held_out) = ["a sail", "the gulls"], np.array(flags_of_two, bool)
    documents = Flags(texts, texts, protected, held_out, 16)
    scores = {"run": score_run(random_bigram(), make_rows(tokenizer, texts, 16), documents)}
    with pytest.raises(InputError, match="are none or have NaN"):
        compare_runs(scores, documents, None, None)


def test_of_held_out_near_duplicates_one_counts(tokenizer):
    found = []
    for copies in (1, 3):
        texts = [prose(k) for k in range(4)] + [prose(k) for k in range(4, 12)] * copies
        place = np.arange(len(texts))
        documents = Flags(texts, list(map(str, place)), place < 4, place >= 4, 16)
        rows = make_rows(tokenizer, texts, documents.length)
        scores = {"run": score_run(random_bigram(), rows, documents)}
        found.append(compare_runs(scores, documents, None, None)["run"])
    assert found[0].num_held_out == 8
    assert found[0] == found[1]


# Works


SMALL = Preset(prefix=4, suffix=6, stride=3, outputs=0)


def test_a_memorized_work_has_better_scores_than_held_out_texts(tokenizer):
    text = string.ascii_letters
    ids, table = tokenizer.encode(text).ids, np.zeros((VOCAB, VOCAB))
    table[ids[:-1], ids[1:]] = 20
    held_out = {f"h{k}": prose(k) for k in range(19)}
    held_out |= {"short": prose(50, 12), "same": held_out["h1"] + "."}
    works, beside = audit_works(Bigram(table), tokenizer, {"w": text}, held_out, SMALL)
    found = compare_works([one.scores for one in works], [one.scores for one in beside])
    assert (found.num_works, found.num_held_out) == (1, 19)  # without the short and the same one
    assert {(one.auroc, one.p_value) for one in found.scores.values()} == {(1.0, 1 / 20)}
    assert {one.found_at_1_percent for one in found.scores.values()} == {None}
    assert [one.scores is None for one in beside] == [False] * 19 + [True, True]
    alone, _ = audit_works(Bigram(table), tokenizer, {"w": text}, {}, SMALL)
    assert alone[0].scores is None
    assert compare_works([None], [None]) is None


def test_equally_many_tokens_of_each_text_are_scored_once(tokenizer):
    model, texts = random_bigram(), {"long": prose(1, 90), "short": prose(2, 41)}
    cut = {name: cut_passages(tokenizer, text, 4, 6, 1) for name, text in texts.items()}
    shares = []
    found = score_texts(model, bytes_of_tokens(tokenizer), cut, 9, shares.append)
    for name, text in texts.items():
        ids = np.array(tokenizer.encode(text[:41]).ids, np.int32)
        whole = cut_rows([ids], 40, np.array([41]))  # of a bigram, rows make no difference
        expected = score_rows(model, whole, [text[:41].encode()])
        assert found[name].num_tokens == 40
        # Means of the same float32 numbers, in another order.
        np.testing.assert_allclose(found[name][1:], np.ravel(expected), rtol=1e-12)
    assert shares == [1.0]


def test_the_page_says_what_is_measured_and_what_does_not_follow(capsys):
    found = membership()
    page = audit_page(audit(work(), membership=found), command="")
    section = membership_section(found, 0.01)
    assert section in page
    assert "1 work against 9 held-out texts, 77 tokens of each. No error rate of 1" in section
    assert section.count("<td>0.875<td>0.510 to 0.997<td>0.1<td>too few texts<td>50\u00a0%") == 4
    assert "0.5 means that the score tells nothing" in section
    assert "Membership scores" not in audit_page(audit(work()), command="")
    show_works(
        WorkMembership(1, 9, 77, {"loss": Attack(0.875, 0.5104, 0.9962, 0.1, None, 0.5)}), 0.01
    )
    shown = capsys.readouterr().out.replace("\u00a0", " ")
    assert "membership: AUROC of 1 work against 9 held-out texts, 77 tokens of each" in shown
    assert (
        "0.875    95 %: 0.510 to 0.997; p-value 0.1; found with 1 % false alarms: too few texts"
        in shown
    )
    assert "No error rate of 1 % follows" in shown
    assert few_texts(membership(2), 0.01).endswith("below 0.018.")  # 1 of 55 pairs
    assert few_texts(membership(3), 0.01) == ""
    assert few_texts({"num_works": 600, "num_held_out": 600}, 0.01) == ""  # 10^359 orders


def test_what_is_undefined_is_not_shown_as_a_number(capsys):
    """No gap, and an AUROC of 1 without the text, would divide by 0."""
    one = Attack(1.0, 0.025, 1.0, 0.5, None, None)
    show_run(RunMembership(1, 1, {"loss": one}, None, priv_leak(1.0, 1.0)))
    _show_gap(GapClosed(math.nan, 0.25, math.nan, 1.0))
    shown = capsys.readouterr().out
    assert "PrivLeak    undefined" in shown
    assert "undefined by the longest common substring, 25 % by tokens in a row, 100 %" in shown
    assert "nan" not in shown


def test_canaries_that_were_left_out_are_not_said_to_be_trained_on(capsys):
    found = Exposure(20, 8, 2, 1023, [1.5] * 8, 1.5, 1.25, None, None, 1e-5, 0.95)
    shown = Attack(0.875, 0.5104, 0.9962, 0.1, None, 0.5)
    show_canaries(found._replace(attack=shown, epsilon=0.0), left_out=False)
    assert "AUROC 0.875, 95 %: 0.510 to 0.997, p-value 0.1;" in capsys.readouterr().out
    for left_out, how in ((False, "2 times each"), (True, "left out")):
        show_canaries(found, left_out=left_out)
        said = f"1.50 bits of 8 that are protected, {how}; 1.25 bits of 12 held out"
        assert said in capsys.readouterr().out


def test_the_terminal_and_the_page_call_a_comparison_the_same():
    for number, label in ((98, "not known"), (99, "a comparison only")):
        found = calibration(0.3, p_value=None, num_held_out=number)
        report = SimpleNamespace(memorized=Calibration(**found))
        assert _memorized(report).startswith(f"{label}: 30")
        assert memorized({"memorized": found}, {}).label.lower() == label
