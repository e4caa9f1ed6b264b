"""Clusters of texts: against sets compared with sets, in any script, with any boilerplate."""

import random
import sys
import time
import unicodedata
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

pytest.importorskip("regex")

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus import duplicates
from copyreg_jax.lm.corpus.duplicates import near_duplicates, words_of


def brute_force(texts, shingle, share):
    """Set against set, then the smallest label spreads along the links."""
    words = ["".join(c if c.isalnum() else " " for c in text.lower()).split() for text in texts]
    shingles = [
        {tuple(w[i : i + shingle]) for i in range(len(w) - shingle + 1)} if w else set()
        for w in words
    ]
    links = [
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if (words[i] == words[j] and (words[i] or texts[i] == texts[j]))
        or len(shingles[i] & shingles[j])
        >= share * max(0.1, min(len(shingles[i]), len(shingles[j])))
    ]
    labels = list(range(len(texts)))
    for _ in texts:
        for i, j in links:
            labels[i] = labels[j] = min(labels[i], labels[j])
    return [sorted(set(labels)).index(label) for label in labels]


SHORT = st.lists(st.sampled_from(["a", "B", "b", "c", ",", "d-e"]), max_size=12).map(" ".join)


@given(st.lists(SHORT, max_size=12), st.integers(1, 4), st.sampled_from([0.2, 0.5, 1.0]))
@example(["?", "?", "!", ""], 1, 0.5)
@example(["It  rained.", "it rained", "It rained, then.", "", " ", "?"], 13, 0.5)
def test_clusters_are_those_of_brute_force(texts, shingle, share):
    assert near_duplicates(texts, shingle, share).tolist() == brute_force(texts, shingle, share)


def fresh(rng, number):
    return [f"w{rng.randrange(10**9)}" for _ in range(number)]


@pytest.mark.parametrize("seed", [2, 3, 20])
def test_planted_overlaps(seed, monkeypatch):
    """Chains, quotations, edited copies and boilerplate; sorted in parts of any size."""
    monkeypatch.setattr(duplicates, "_PART", 10**seed)
    rng = random.Random(seed)
    for _ in range(10):
        footer = fresh(rng, rng.randrange(14, 40))
        texts = [fresh(rng, rng.randrange(1, 90)) for _ in range(40)]
        for i in range(1, 40):
            kind = rng.randrange(5)
            if kind == 0:  # the end of the text before: chains
                texts[i] = texts[i - 1][len(texts[i - 1]) // rng.randrange(2, 4) :] + texts[i]
            elif kind == 1:
                texts[i] += footer
            elif kind == 2:  # a copy with one word changed, of a text that often has copies
                texts[i] = list(texts[i % 3])
                texts[i][rng.randrange(len(texts[i]))] = "changed"
            elif kind == 3:
                texts[i] = texts[i] * 2
        joined = [rng.choice([" ", "\n", ", "]).join(text) for text in texts]
        found = near_duplicates(joined).tolist()
        assert found == brute_force(joined, 13, 0.5)
        assert 1 < len(set(found)) < 40


@pytest.mark.parametrize(("shingle", "share"), [(0, 0.5), (13, 0.0), (13, 1.5), (13, float("nan"))])
def test_bad_input(shingle, share):
    with pytest.raises(InputError, match="give shingle > 0, 0 < share <= 1"):
        near_duplicates(["a"], shingle, share)


def test_near_duplicates_in_scripts_without_spaces_and_in_other_normal_forms():
    rng = np.random.default_rng(0)
    text = "".join(map(chr, rng.integers(0x4E00, 0x9000, 800)))
    edited = "".join(c if i % 40 else "一" for i, c in enumerate(text))
    other = "".join(map(chr, rng.integers(0x4E00, 0x9000, 800)))
    assert near_duplicates([text, edited, other, text + "二"]).tolist() == [0, 0, 1, 0]
    words = " ".join(f"é{i} çà" for i in range(40))
    assert near_duplicates([words, unicodedata.normalize("NFD", words)]).tolist() == [0, 0]


BLOCKS = st.lists(st.text("abcdefgh", min_size=1, max_size=8), min_size=2, max_size=5)


@given(BLOCKS, st.data())
def test_texts_put_together_from_common_blocks(blocks, data):
    """Blocks that many have, in any combination, each too little for a link or more than enough."""
    part = st.one_of(st.sampled_from(blocks), st.text("abxyz", max_size=5))
    letters = data.draw(st.lists(st.lists(part, max_size=4).map("".join), max_size=20))
    texts = [" ".join(text) for text in letters]
    shingle, share = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.7]))
    assert near_duplicates(texts, shingle, share).tolist() == brute_force(texts, shingle, share)


def test_nothing_depends_on_hashes(monkeypatch):
    """Keys that give all shingles, or lists, one hash: it is found out, or makes no difference."""
    texts = [f"a b c {'d e f g' if i % 2 else 'h i j k'} {i} {i} x{i % 3} l m n" for i in range(30)]
    keys, attempts = duplicates._keys, []

    def poor(number, attempt):
        attempts.append(attempt)
        return keys(number, attempt) if attempt else np.zeros(number, np.uint64)

    monkeypatch.setattr(duplicates, "_keys", poor)
    for shingle, share in ((2, 0.3), (2, 0.6), (3, 0.5)):
        assert near_duplicates(texts, shingle, share).tolist() == brute_force(texts, shingle, share)
    assert max(attempts) == 1


def boilerplate(kind, number):
    """Texts of 120 words with a header and a footer of 26 each, or 80 words that all have."""
    rng = random.Random(0)
    footer, headers = fresh(rng, 26), [fresh(rng, 26) for _ in range(10)]
    most = fresh(rng, 80)
    parts = {
        "own words": lambda: fresh(rng, 120),
        "header and footer": lambda: rng.choice(headers) + fresh(rng, 68) + footer,
        "most of the text": lambda: fresh(rng, 40) + most,
    }
    return [" ".join(parts[kind]()) for _ in range(number)]


@pytest.mark.quick(1)
@pytest.mark.parametrize("kind", ["header and footer", "most of the text"])
def test_boilerplate_takes_no_longer_than_other_text(kind):
    """Within a factor of 5 of words of one's own; comparing each with each takes 20 to 100."""
    seconds = {}
    for name in ("own words", kind):
        texts = boilerplate(name, 3000)
        start = time.process_time()
        clusters = near_duplicates(texts)
        seconds[name] = time.process_time() - start
        assert len(set(clusters)) == (1 if name == "most of the text" else 3000)
    assert seconds[kind] < 5 * seconds["own words"]


# Words

SCRIPTS = {
    "Hindi": ("हिन्दी में", "हान्दू मो"),
    "Bengali": ("বাংলা ভাষা", "বোংলি ভূষো"),
    "Tamil": ("தமிழ் மொழி", "தாமழூ மூழே"),
    "Hebrew with points": ("שָׁלוֹם", "שִׁלֻם"),
    "Arabic with vowels": ("كَتَبَ", "كُتِبَ"),
    "decomposed Latin without a composed form": ("x\u0323a\u0331", "x\u0301a\u0332"),
    "Thai": ("กี่", "กู้"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_that_differ_in_their_marks_differ(script):
    """The letters of both are the same: only vowel signs, points or tones tell them apart."""
    one, other = SCRIPTS[script]
    assert words_of(one) != words_of(other)
    assert [len(words_of(text)) for text in (one, other)] == [len(one.split())] * 2
    assert near_duplicates([one, other, one + "!"]).tolist() == [0, 1, 0]
    longer = [" ".join(f"{word}{i}" for i in range(30)) for word in (one, other)]
    assert near_duplicates(longer).tolist() == [0, 1]


@given(st.text())
def test_words_are_all_that_is_a_letter_a_mark_or_a_number(text):
    """Against the categories of Python's own tables, character by character."""
    found = "".join(words_of(text))
    plain = unicodedata.normalize("NFKC", text)
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf").casefold()
    kept = [c for c in plain if unicodedata.category(c)[0] in "LMN" or c == "_"]
    assert [c for c in found if unicodedata.category(c)[0] in "LMN" or c == "_"] == kept


def test_what_is_not_seen_does_not_split_words():
    assert words_of("co\xadop\u200berate می\u200cخواهم") == ["cooperate", "میخواهم"]  # noqa: RUF001


def test_regex_is_asked_for(monkeypatch):
    duplicates._patterns.cache_clear()
    monkeypatch.setitem(sys.modules, "regex", None)
    with pytest.raises(InputError, match="pip install regex"):
        words_of("a")
