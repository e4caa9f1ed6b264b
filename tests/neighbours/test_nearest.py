"""Compression distance and nearest neighbours, against brute force over the libraries' calls."""

import collections
import csv
import functools
import gzip
import itertools
import json
import lzma
import random
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import zstandard
from hypothesis import given, strategies as st
from typer.testing import CliRunner

from copyreg_jax.cli.main import app
from copyreg_jax.errors import InputError, WindowWarning
from copyreg_jax.neighbours import nearest
from copyreg_jax.neighbours.nearest import COMPRESSORS, classify, ncd
from tests.support.mutants import planted
from tests.support.registry import cases

ALL = sorted(COMPRESSORS)


def lzma2(text, dictionary=1 << 23):
    """The bytes of the stream with the dictionary of the default level, or another."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}]
    return lzma.compress(text, lzma.FORMAT_RAW, filters=filters)


# Level 3 as zstd.h of 1.5 tabulates it for texts beyond 256 KiB.
ZSTD_3 = zstandard.ZstdCompressionParameters(
    window_log=21, chain_log=16, hash_log=17, search_log=1, min_match=5, target_length=0,
    strategy=zstandard.STRATEGY_DFAST,
)  # fmt: skip

LENGTHS = {
    "gzip": lambda text: len(gzip.compress(text, 9)),
    "zstd": lambda text: len(zstandard.ZstdCompressor(compression_params=ZSTD_3).compress(text)),
    "xz": lambda text: len(lzma2(text, 1 << 17)),  # that of the default level takes a minute
}
"""C(x) by one call of a library."""

FRAMES = {"gzip": 18, "zstd": 9, "xz": 1}
"""Bytes that are always there: header and sum; magic, header and block header; the end mark."""


def oracle(x, y, name):
    """NCD of two byte strings as a fraction."""
    length = LENGTHS[name]
    alone = length(x), length(y)
    return Fraction(length(x + b" " + y) - min(alone), max(alone))


def prose(rng, length, words=400):
    """Text of so many bytes, with words that come again."""
    known = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(words)]
    return " ".join(rng.choices(known, k=length))[:length]


BYTES = st.one_of(
    st.binary(min_size=1, max_size=400),
    st.text("ab c", min_size=1, max_size=400).map(str.encode),
    st.builds(
        lambda seed, n: prose(random.Random(seed), n).encode(),
        st.integers(0, 99),
        st.integers(1, 9000),
    ),
).filter(bytes.strip)


@pytest.mark.parametrize("name", ALL)
@cases(100)
@given(st.data())
def test_the_distance_is_the_formula_over_whole_compressions(name, data):
    """Also for gzip, which reads x only once, and xz, whose dictionary is as small as can be."""
    x, y = data.draw(BYTES), data.draw(BYTES)
    assert ncd(x, y, name) == float(oracle(x, y, name))


@pytest.mark.parametrize("name", ALL)
def test_a_string_stands_for_its_utf_8(name):
    x, y = "Müller säße", "日本語"
    assert ncd(x, y, name) == ncd(x.encode(), y.encode(), name)


def noise_limits(name, n):
    """The least and the most that a compressor makes of n random bytes.

    Least: fewer than 256^(n - 7) streams are shorter than n - 7 bytes, so a random text has one of
    them with probability below 2^-56. Most: stored blocks cost 5 bytes for each 16,383 in deflate,
    3 for 131,072 in zstd and 3 for 65,536 in LZMA2, one begun; headers add at most 9 to the frame.
    """
    block, cost = {"gzip": (16_383, 5), "zstd": (1 << 17, 3), "xz": (1 << 16, 3)}[name]
    return n - 7, n + cost * (n // block + 1) + FRAMES[name] + 9


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n", [300, 5_000, 15_000])
def test_random_bytes_share_nothing(name, n):
    """The limits of the lengths give limits of the distance, the same in both directions."""
    rng = random.Random(n)
    x, y = rng.randbytes(n), rng.randbytes(n)
    least, most = noise_limits(name, n)
    joined = noise_limits(name, 2 * n + 1)
    for distance in (ncd(x, y, name), ncd(y, x, name)):
        assert (joined[0] - most) / most <= distance <= (joined[1] - least) / least


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n", [300, 3_000, 8_200, 12_000, 16_200])
def test_a_text_is_near_itself_within_the_window(name, n):
    """The second copy is matches of at most 258 bytes of at most 48 bits (length 15 + 5, distance
    15 + 13) in deflate; zstd and xz need fewer. A block that is no longer stored costs the first
    copy a table of symbols, below 300 bytes, and 1 % for lengths that are whole bits. zstd's level
    3 as it is has other parameters for 16 KiB or less, which makes distances negative.
    """
    x = random.Random(n).randbytes(n)
    assert 0 <= ncd(x, x, name) <= (6 * (n / 258 + 2) + 300) / n + 0.01
    text, other = (prose(random.Random(seed), n) for seed in (n, n + 1))
    assert 0 <= ncd(text, text, name) < ncd(text, other, name)


def test_gzip_looks_back_32506_bytes_and_no_further():
    """32,768 less the 262 that deflate keeps free: NCD(x, x) jumps from 0.02 to 1."""
    window = COMPRESSORS["gzip"].window
    x = random.Random(0).randbytes(window)
    lengths = LENGTHS["gzip"]
    assert window == 32_506
    # Bytes at a distance of the window itself are found, and not one more.
    assert lengths(x + x) < 1.03 * lengths(x)
    assert lengths(x + b" " + x) > 1.99 * lengths(x)
    with pytest.warns(WindowWarning, match="1 of 1 pairs .* 32,506 bytes that gzip"):
        assert ncd(x, x) > 0.99
    with pytest.warns(WindowWarning):
        assert ncd(x[:30_000], x[:30_000]) < 0.02  # not all is seen, but what matters is
    half = x[: window // 2]
    assert ncd(half, half[:-1]) < 0.03  # together just the window: no warning, which is an error


def test_zstd_looks_back_two_mebibytes():
    x = random.Random(0).randbytes(1_048_000)
    assert zstandard.ZstdCompressionParameters.from_level(3).window_log == 21
    assert COMPRESSORS["zstd"].window == 1 << 21
    assert ncd(x, x, "zstd") < 0.01
    with pytest.warns(WindowWarning, match="zstd"):
        assert ncd(x * 2, x * 2 + x[:1000], "zstd") < 1.01


def test_xz_looks_back_eight_mebibytes():
    half = b"a" * (1 << 22)
    assert ncd(half, half[:-1], "xz") < 1
    with pytest.warns(WindowWarning, match="8,388,608 bytes that xz"):
        ncd(half, half, "xz")


def test_a_small_dictionary_of_xz_changes_no_length_and_its_file_rounds_them():
    rng = random.Random(5)
    texts = [prose(rng, n).encode() for n in (1, 50, 4095, 4096, 4097, 20_000, 70_000)]
    texts += [rng.randbytes(n) for n in (100, 9_000)]
    for text in texts:
        assert COMPRESSORS["xz"].sizes(b"", [text]) == [len(lzma2(text))]
    assert {len(lzma.compress(text)) % 4 for text in texts} == {0}
    assert {len(lzma2(text)) % 4 for text in texts} != {0}


SMALL = st.lists(st.text("ab ", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=9)


def check_classify(name, train, test, labels, k):
    """Against a table of fractions, sorted."""
    train, test = [[text.encode() for text in texts] for texts in (train, test)]
    found = classify(train, labels, test, k, name)
    for text, answer, candidates, neighbours, distances in zip(test, *found[:4], strict=True):
        row = [oracle(text, other, name) for other in train]
        table = sorted(zip(row, range(len(row)), strict=True))[:k]
        votes = collections.Counter(labels[i] for _, i in table)
        most = max(votes.values())
        assert answer == next(labels[i] for _, i in table if votes[labels[i]] == most)
        assert set(candidates) == all_winners(row, labels, k)
        assert neighbours.tolist() == [i for _, i in table]
        assert distances.tolist() == [float(distance) for distance, _ in table]


@pytest.mark.parametrize("name", ALL)
@cases(100)
@given(st.data())
def test_labels_are_those_of_brute_force(name, data):
    """Short texts over few letters, so that many distances are equal."""
    train, test = data.draw(SMALL), data.draw(SMALL)
    labels = data.draw(st.lists(st.sampled_from("XYZ"), min_size=len(train), max_size=len(train)))
    check_classify(name, train, test, labels, data.draw(st.integers(1, len(train))))


@functools.cache
def longer_texts():
    rng = random.Random(7)
    texts = [prose(rng, rng.randint(200, 3000), words=30) for _ in range(60)]
    return texts[:45], [rng.choice("XYZ") for _ in range(45)], texts[45:]


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_the_number_of_cores_changes_nothing(cores, monkeypatch):
    monkeypatch.setattr(nearest.os, "cpu_count", lambda: cores)
    train, labels, test = longer_texts()
    for some in (test, test[:1]):
        check_classify("gzip", train, some, labels, 3)


def all_winners(row, labels, k):
    """The labels with the most votes for each choice of the k nearest that is no farther."""
    radius = sorted(row)[k - 1]
    sure = [i for i, distance in enumerate(row) if distance < radius]
    last = [i for i, distance in enumerate(row) if distance == radius]
    winners = set()
    for some in itertools.combinations(last, k - len(sure)):
        votes = collections.Counter(labels[i] for i in [*sure, *some])
        winners |= {label for label, count in votes.items() if count == max(votes.values())}
    return winners


def check_candidates(distances, k, labels):
    row = np.array(distances, float)
    k = min(k, len(row))
    order = np.argsort(row, kind="stable")
    winners, in_order = all_winners(row, labels, k), dict.fromkeys(labels[i] for i in order)
    found = nearest._candidates(row, labels, order[:k])
    assert found == tuple(label for label in in_order if label in winners)


@cases(1000)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=9),
    st.integers(1, 9),
    st.lists(st.sampled_from("WXYZ"), min_size=9, max_size=9),
)
def test_candidates_are_the_winners_of_every_choice_among_equals(distances, k, labels):
    check_candidates(distances, k, labels)


def test_pairs_beyond_the_window_are_counted():
    long, short = prose(random.Random(1), 20_000), "a short text"
    with pytest.warns(WindowWarning, match="2 of 4 pairs .* take xz"):
        found = classify([long, short], ["l", "s"], [long, long])
    assert found.num_beyond_window == 2
    assert classify([long, short], ["l", "s"], [long, short], 1, "xz").num_beyond_window == 0


def test_an_interrupted_caller_does_not_wait_for_all_pairs(monkeypatch):
    done = []

    def slow(first, seconds):
        time.sleep(0.01 if first else 0)
        done.append(first)
        return [9] * len(seconds)

    monkeypatch.setitem(COMPRESSORS, "gzip", COMPRESSORS["gzip"]._replace(sizes=slow))

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(["a"], ["x"], ["b"] * 2000, progress=interrupt)
    assert sum(map(bool, done)) < 1000  # by the clock it is a few


REFUSED = {
    "k = 0 of 2": {"k": 0},
    "k = 3 of 2 training texts; choose k from 1 to 2": {"k": 3},
    "'bzip2' is unknown; choose from gzip, zstd, xz": {"compressor": "bzip2"},
    "2 training texts have 1 labels": {"train_labels": ["x"]},
    r"train_texts\[1\] is empty": {"train_texts": ["a", " \n"]},
    r"test_texts\[0\] is empty": {"test_texts": [b""]},
    "test_texts has no text": {"test_texts": []},
    "train_texts has no text": {"train_texts": [], "train_labels": []},
    r"test_texts\[1\]: U\+D800 at 1 is not a character": {"test_texts": ["a", "b\ud800"]},
    r"test_texts\[0\] is not text but int": {"test_texts": [5]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_arguments_are_refused(message):
    good = {"train_texts": ["a", "b"], "train_labels": ["x", "y"], "test_texts": ["c"]}
    with pytest.raises(InputError, match=message):
        classify(**good | REFUSED[message])


def test_a_missing_compressor_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match=r"pip install 'copyreg-jax\[neighbours\]'"):
        ncd("a", "b", "zstd")


def test_progress_counts_texts():
    seen = []
    classify(["a", "b"], ["x", "y"], ["c", "d", "e"], progress=seen.append)
    assert seen == [1, 2, 3]


BUGS = [
    ("_gzip", "state.copy()", "state"),
    ("_gzip", "written + len(copy.compress(second)) + len(copy.flush())", "len(copy.flush())"),
    ("_gzip", "zlib.compressobj(9, zlib.DEFLATED, 31)", "zlib.compressobj(6, zlib.DEFLATED, 31)"),
    ("_gzip", "zlib.compressobj(9, zlib.DEFLATED, 31)", "zlib.compressobj(9, zlib.DEFLATED, 25)"),
    ("_zstd", "library.ZstdCompressor(compression_params=parameters)", "library.ZstdCompressor()"),
    ("_xz_size", "(len(text) - 1).bit_length()", "(len(text) // 64).bit_length()"),
    ("_distances", "text + _SEPARATOR", "text"),
    ("_distances", "np.minimum(alone, size)", "alone"),
    ("_distances", "np.maximum(alone, size)", "size"),
    ("_distances", "itertools.islice(both, num_parts)", "itertools.islice(own, num_parts)"),
    ("_distances", "parts * len(test)", "parts[::-1] * len(test)"),
    ("classify", "np.argsort(row, kind='stable')[:k]", "np.argsort(-row, kind='stable')[:k]"),
    ("classify", "np.argsort(row, kind='stable')[:k]",
     "np.lexsort((-np.arange(len(row)), row))[:k]"),
    ("_vote", "Counter(labels).most_common(1)[0][0]", "max(set(labels), key=labels.index)"),
    ("_vote", "Counter(labels).most_common(1)[0][0]", "Counter(labels[::-1]).most_common(1)[0][0]"),
    ("_candidates", "row[i] < radius", "row[i] <= radius"),
    ("_candidates", "min(free, last[label])", "last[label]"),
    ("_candidates", "min(last[other], votes - sure[other])", "last[other]"),
    ("_candidates", "min(rooms, default=0) >= 0", "True"),
    ("_candidates", "sum(rooms) >= sure[label] + free - votes", "True"),
]  # fmt: skip


@functools.cache
def tied_rows():
    rng = random.Random(11)
    return [
        (rng.choices(range(3), k=7), rng.randint(1, 7), rng.choices("WXYZ", k=7))
        for _ in range(300)
    ]


def something_is_wrong():
    """Whether an oracle of this file finds a fault."""
    train, labels, test = longer_texts()
    short = ["ab", "ba", "ab", "abab", "b a b", "aa", "ba"]
    try:
        for k in (1, 2, 5):
            check_classify("gzip", train, test[:4], labels, k)
        for name in ALL:
            long = [prose(random.Random(0), 9000), "".join(random.Random(0).choices("ab", k=9000))]
            check_classify(name, train[:3], long, labels[:3], 1)
        for k in (2, 4):
            check_classify("gzip", short, short, list("XYXZZYY"), k)
        for row in tied_rows():
            check_candidates(*row)
    except Exception:
        return True
    return False


def test_without_a_bug_nothing_is_wrong():
    assert not something_is_wrong()


@pytest.mark.parametrize(("name", "old", "new"), BUGS)
def test_planted_bugs_are_found(name, old, new):
    with planted(f"neighbours.nearest:{name}", old, new):
        assert something_is_wrong()


TRAIN = [("text", "label"), ("the cat sat on the mat", "animal"), ("0110 1001 0110 1001", "code")]
TEST = [("text", "label"), ("1001 0110 1001", "code"), ("a cat on a mat", "code")]


def table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def run(*arguments):
    return CliRunner().invoke(app, ["nearest", *map(str, arguments)])


@pytest.fixture
def tables(tmp_path):
    return table(tmp_path / "a.csv", TRAIN), table(tmp_path / "b.csv", TEST)


def test_the_command_prints_accuracy_and_labels(tables):
    result = run(*tables, "--json")
    assert json.loads(result.stdout) == {"accuracy": 0.5, "labels": ["code", "animal"]}
    result = run(*tables, "--k", "2", "--compressor", "xz")
    assert result.stdout == "code\nanimal\n"
    assert "accuracy 0.5000" in result.stderr
    assert "2 of 2 labels were tied" in result.stderr


@pytest.mark.parametrize("rows", [[row[:1] for row in TEST], [TEST[0], ("a cat", "")]])
def test_without_labels_there_is_no_accuracy(rows, tables, tmp_path):
    result = run(tables[0], table(tmp_path / "c.csv", rows), "--json")
    assert json.loads(result.stdout)["accuracy"] is None


def test_other_columns_and_json_lines(tmp_path):
    train = tmp_path / "a.jsonl"
    rows = [{"body": text, "who": label} for text, label in TRAIN[1:]]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = table(tmp_path / "b.csv", [("body", "who"), *TEST[1:]])
    result = run(train, test, "--text-column", "body", "--label-column", "who")
    assert result.stdout == "code\nanimal\n"


def test_the_command_says_what_is_beyond_the_window(tables, tmp_path):
    long = prose(random.Random(2), 40_000)
    result = run(table(tmp_path / "c.csv", [*TRAIN, (long, "long")]), tables[1], "--json")
    assert json.loads(result.stdout)["labels"] == ["code", "animal"]
    assert result.stderr.strip().count("\n") == 0
    assert "2 of 6 pairs of texts are longer together than the 32,506 bytes" in result.stderr


BAD_FILES = {
    "no column 'label' beside 'text'; columns: who": "text,who\na cat,x\n",
    "row 2: column 'text' is empty": "text,label\na cat,x\n ,y\na dog,z\n",
    "row 3: column 'text' is empty": "text,label\na cat,x\na dog,z\n,y\n",
    "row 1: column 'label' is empty": "text,label\na cat,\na dog,y\n",
    "row 1: label 'x\\ny' is not one line of print": 'text,label\na cat,"x\ny"\na dog,z\n',
}


@pytest.mark.parametrize("message", BAD_FILES)
def test_bad_tables_are_one_clear_line(message, tables, tmp_path):
    (tmp_path / "a.csv").write_text(BAD_FILES[message])
    error = run(*tables).exception
    assert isinstance(error, InputError)
    assert message in str(error)
    assert "a.csv" in str(error)
    assert "\n" not in str(error)


def test_the_command_does_without_jax(tables):
    code = (
        "import sys; from copyreg_jax.cli.main import app\n"
        f"app(['nearest', *{tables!r}], standalone_mode=False)\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
