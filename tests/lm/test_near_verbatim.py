"""What outputs share with a work, against answers worked out by hand and slow searches."""

import difflib
import itertools

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

pytest.importorskip("regex")

from copyreg_jax.errors import InputError
from copyreg_jax.lm.leakage import common_words
from copyreg_jax.lm.leakage.near_verbatim import (
    LEAST_OF_PASSAGES,
    degenerate,
    extraction_strength,
    matched_spans,
    measure_outputs,
    nv_recall,
    over_yardstick,
)
from copyreg_jax.lm.leakage.similarity import longest_common_substring
from tests.support.mutants import planted

SENTENCES = st.lists(st.sampled_from("abc"), max_size=24).map(" ".join)
WORKS = st.lists(st.sampled_from("abc"), min_size=1, max_size=24).map(" ".join)
SEVERAL = st.lists(SENTENCES, max_size=3)


def words(first, last):
    return " ".join(f"w{k}" for k in range(first, last))


# Spans


def slow_spans(outputs, work, least, prompts=None):
    """All (start, end) of the work, by trying each pair of places, and extending word by word."""
    work, found = work.split(), set()
    for number, output in enumerate(outputs):
        written = output.split()
        told = prompts[number].split() if prompts else []
        known = {tuple(told[t : t + least]) for t in range(len(told) - least + 1)}
        for i, j in itertools.product(range(len(work)), range(len(written))):
            if i and j and work[i - 1] == written[j - 1]:
                continue  # not where a stretch begins
            n = 0
            while i + n < len(work) and j + n < len(written) and work[i + n] == written[j + n]:
                n += 1
            free = [True] * n
            for t in range(n - least + 1):
                if tuple(work[i + t : i + t + least]) in known:
                    free[t : t + least] = [False] * least
            at = i
            for is_free, group in itertools.groupby(free):
                size = len(list(group))
                if is_free and size >= least:
                    found.add((at, at + size))
                at += size
    return found


@example(["a b a b a"], "a b a b a b", 2, [""])
@example(["a b c a b c"], "a b c a b c", 2, ["c a"])  # of six words the prompt has two
@given(SEVERAL, WORKS, st.integers(1, 4), SEVERAL)
def test_spans_are_those_of_a_slow_search(outputs, work, least, prompts):
    prompts = [*prompts, "", "", ""][: len(outputs)]
    for told in (None, prompts):
        expected = slow_spans(outputs, work, least, told)
        marked = [any(a <= k < b for a, b in expected) for k in range(len(work.split()))]
        found = matched_spans(outputs, work, least=least, prompts=told)
        assert found.marked.tolist() == marked
        assert found.coverage == pytest.approx(np.mean(marked), rel=1e-15)
        runs = (len(list(run)) for value, run in itertools.groupby(marked) if value)
        assert found.longest_block == max(runs, default=0)
        assert found.longest_span == max((b - a for a, b in expected), default=0)


@given(SEVERAL, SENTENCES, WORKS, st.integers(1, 4))
def test_a_further_output_never_takes_away(outputs, further, work, least):
    one, both = (
        matched_spans(texts, work, least=least) for texts in (outputs, [*outputs, further])
    )
    assert (both.marked >= one.marked).all()
    assert both.longest_block >= one.longest_block
    assert both.longest_span >= one.longest_span


def test_spans_by_hand():
    work = words(0, 100)
    outputs = [words(10, 40), words(30, 60), f"{words(70, 74)} x {words(80, 85)}", words(12, 38)]
    found = matched_spans(outputs, work)
    assert np.flatnonzero(found.marked).tolist() == [*range(10, 60), *range(80, 85)]
    # Of the two spans of 30 words the second overlaps the first; 12 to 38 is within it.
    assert found[:4] == (0.55, 50, 30, 1)
    assert matched_spans([words(0, 21), words(21, 41), words(60, 81)], work).num_long == 2


def test_a_span_that_the_prompt_has_is_not_the_models():
    work, output = words(0, 40), words(0, 30)
    for prompt, coverage in (
        (words(0, 4), 0.75),  # too short to be a span
        (words(0, 5), 0.625),
        (words(12, 18), 0.6),  # on both sides 12 words are left
        (words(4, 18), 0.3),  # on the left 4 are left, which is no span
        (words(0, 40), 0),
    ):
        assert matched_spans([output], work, prompts=[prompt]).coverage == coverage
    both = matched_spans([output, output], work, prompts=[words(0, 40), ""])
    assert both.coverage == 0.75  # each output has its own prompt


# Near-verbatim recall


def slow_recall(written, work, join, least):
    """The definition in a loop, from the blocks of difflib."""
    one, other = work.split(), written.split()
    found = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    blocks = [(a, a + n, b, b + n, n) for a, b, n in found if n]
    for (most, difference), fewest in zip(join, least, strict=True):
        joined = []
        for a, end_a, b, end_b, n in blocks:
            if joined:
                gaps = a - joined[-1][1], b - joined[-1][3]
                if max(gaps) <= most and max(gaps) - min(gaps) <= difference:
                    before = joined.pop()
                    a, b, n = before[0], before[2], before[4] + n  # noqa: PLW2901
            joined.append((a, end_a, b, end_b, n))
        blocks = [block for block in joined if block[4] >= fewest]
    return sum(block[4] for block in blocks) / len(one)


NOISY = st.lists(st.sampled_from(["x", *map(str, range(40))]), max_size=80).map(" ".join)
BROKEN = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 25), st.sampled_from(["", "x", "x y", "x y z"])),
    max_size=6,
).map(lambda parts: " ".join(f"{words(a, a + n)} {noise}" for a, n, noise in parts))


@pytest.mark.parametrize("pairs", [0, 2**25])  # with larger blocks first, and without
@given(st.one_of(st.tuples(SENTENCES, WORKS), st.tuples(BROKEN, st.just(words(0, 80)))))
def test_recall_is_that_of_the_definition_with_difflib(pairs, texts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common_words, "_PAIRS", pairs)
        for join, least in (
            (((2, 1), (10, 3)), (1, 1)), (((2, 1), (10, 3)), (3, 8)), (((1, 0), (4, 2)), (2, 5)),
        ):  # fmt: skip
            found = nv_recall(*texts, join=join, least=least)
            assert found == pytest.approx(slow_recall(*texts, join, least), rel=1e-15)


def test_recall_by_hand():
    work = words(0, 200)
    assert nv_recall(words(50, 150), work) == 0.5
    assert nv_recall(words(50, 149), work) == 0
    # A word left out is joined in the first pass, and is not counted itself.
    assert nv_recall(f"{words(0, 15)} {words(16, 110)}", work) == 109 / 200
    # Every eighth word is another one, and each gap is seen from where the block before it ends,
    # in the second pass too: 56 of 60 words, 8 others, and 60 more.
    assert nv_recall(" ".join("x" if k % 8 == 7 else f"w{k}" for k in range(200)), work) == 0.875
    text = [f"w{k}" for k in range(128)]
    text[9:40:10], text[60:68] = "xxxx", "x" * 8
    assert nv_recall(" ".join(text), work) == 0.58
    # A gap of 10 words in the work and 7 in the text is joined in the second, but not 6, nor 11.
    for there, gap, recall in ((7, 10, 0.6), (6, 10, 0), (7, 11, 0), (11, 10, 0)):
        text = f"{words(0, 60)} {'x ' * there} {words(60 + gap, 120 + gap)}"
        assert nv_recall(text, work) == recall
    # 19 words are dropped before they could be joined; 20 are not.
    for size, recall in ((19, 0), (20, 0.5)):
        text = f"{words(0, 80)} {'x ' * 5} {words(85, 85 + size)}"
        assert nv_recall(text, work) == recall
    assert nv_recall(words(0, 10), work, least=LEAST_OF_PASSAGES) == 0.05
    assert nv_recall(words(0, 9), work, least=LEAST_OF_PASSAGES) == 0


# Characters, loops, strength


@example(["aab"], "baab", 2)
@given(
    st.lists(st.text("ab", max_size=30), max_size=3), st.text("ab", max_size=40),
    st.integers(0, 12),
)  # fmt: skip
def test_the_yardstick_is_the_longest_common_substring(outputs, work, length):
    expected = [longest_common_substring(text, work) > length for text in outputs]
    assert over_yardstick(outputs, work, length=length).tolist() == expected


def test_160_characters_may_be_quoted():
    work = "".join(map(chr, np.random.default_rng(0).integers(97, 123, 2000)))
    texts = [f"?{work[a : a + n]}!" for a in range(0, 500, 7) for n in (160, 161)]
    assert over_yardstick(texts, work).tolist() == [False, True] * (len(texts) // 2)


@given(st.lists(st.sampled_from("ab"), max_size=45), st.integers(1, 22), st.integers(1, 14))
def test_loops_are_those_of_the_definition(start, period, copies):
    text = [*start, *[f"w{k}" for k in range(period)] * copies]
    expected = any(
        text[t : t + p] * (size // p) == text[t : t + size]
        for p in range(1, 21)
        for size in (max(3 * p, -(-12 // p) * p),)
        for t in range(len(text) - size + 1)
    )
    assert degenerate(" ".join(text)) == expected


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4))
def test_extraction_strength_is_that_of_the_definition(rows):
    expected = [1 - min(k for k in range(8) if all(row[k:])) / 7 for row in rows]
    np.testing.assert_allclose(extraction_strength(np.array(rows)), expected, atol=1e-15)


# All together


def test_an_output_that_is_the_work_has_all_of_it():
    work = words(0, 50)
    found = measure_outputs(["", work], work)
    assert found == (1.0, 50, 50, 1, 1.0, 0.5, 0.0)
    assert measure_outputs([""], work) == (0.0, 0, 0, 0, 0.0, 0.0, 0.0)
    assert measure_outputs([work], work, prompts=[work])[:5] == (0.0, 0, 0, 0, 1.0)


def test_words_of_scripts_without_spaces():
    work = "春眠不覺曉 處處聞啼鳥。夜來風雨聲 花落知多少。"  # 20 words
    found = measure_outputs(["夜來風雨聲。花落知多少…", "哈" * 12], work)
    assert found == (0.5, 10, 10, 0, 0.5, 0.0, 0.5)


BUGS = {
    "prompt of another": ("near_verbatim:_match", "prompts[k]", "prompts[0]"),
    "short rest of a span": ("near_verbatim:_match", "b - a >= least", "b - a > 0"),
    "length of a joined block": ("near_verbatim:_recall", "end[last]", "start + matched"),
    "one text only": ("near_verbatim:_recall", "np.maximum(gap, text_gap) <= most", "gap <= most"),
    "pieces too long": ("similarity:over_yardstick", "length // 2 + 1", "length // 2 + 2"),
    "first copy forgotten": ("near_verbatim:_loops", "again + period", "again"),
    "last of equals": ("common_words:_longest_first", "np.lexsort((j[best], i[best]))[0]", "-1"),
    "overlap": ("common_words:_longest_first", "np.minimum(stop - i, other_stop - j)", "stop - i"),
}


def check_by_hand():
    test_a_span_that_the_prompt_has_is_not_the_models()
    test_recall_by_hand()
    test_160_characters_may_be_quoted()
    test_words_of_scripts_without_spaces()
    for one, other, blocks in (
        ([1, 2, 9, 3, 4], [3, 4, 8, 1, 2], [[0, 3, 2]]),  # of two as long the first one
        ([1, 2, 3, 8, 2, 3, 4, 5], [1, 2, 3, 4, 5], [[0, 0, 1], [4, 1, 4]]),  # 2 3 is taken
    ):
        assert common_words.matching_blocks(np.array(one), np.array(other)).tolist() == blocks


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_found(bug):
    place, old, new = BUGS[bug]
    check_by_hand()
    with planted(f"lm.leakage.{place}", old, new), pytest.raises(AssertionError):
        check_by_hand()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nv_recall("a", "…"), "no words"),
        (lambda: nv_recall("a", "a", least=(1,)), "2 passes and least 1"),
        (lambda: matched_spans(["a"], ""), "no words"),
        (lambda: matched_spans(["a"], "a", least=0), "least is 0"),
        (lambda: matched_spans(["a"], "a", prompts=[]), "0 prompts for 1 outputs"),
        (lambda: measure_outputs([], "a"), "no output"),
        (lambda: measure_outputs(["a"], ""), "no words"),
        (lambda: over_yardstick(["a"], "a", length=-1), "length is -1"),
        (lambda: extraction_strength(np.ones((2, 3))), "float64 of shape"),
        (lambda: extraction_strength(np.ones((2, 0), bool)), "shape .2, 0."),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
