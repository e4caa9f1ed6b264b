"""Real and ideal code lengths, and archives that give back every bit or are refused."""

import gzip
import hashlib
import json
import lzma
import math
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

pytest.importorskip("constriction")

from copyreg_jax.cli.main import main
from copyreg_jax.errors import InputError
from copyreg_jax.neighbours import byte_model, entropy_coder
from copyreg_jax.neighbours.byte_model import code_bytes, lane_starts
from copyreg_jax.neighbours.codelength import (
    bits_per_byte,
    compare,
    compress,
    corpus_ledger,
    decompress,
    ideal_bits,
    plot_ledger,
)
from copyreg_jax.neighbours.entropy_coder import SCALE, Reader, Writer
from tests.support.mutants import planted
from tests.support.registry import cases

WORDS = ["the", "sea", "and", "captain", "voyage", "of", "a", "storm", "ship", "home", "sailed"]


def prose(size, seed=0):
    """English words in a random order, a text that nobody owns."""
    rng = np.random.default_rng(seed)
    words = rng.choice(WORDS, size // 3 + 1, p=np.arange(len(WORDS), 0, -1) / 66)
    return " ".join(words).encode()[:size]


def near(made):
    """Real bits are within 0.1 % and 64 bits of the ideal ones."""
    # ANS keeps 64 bits of state, and 32 of them are written even if empty. A bit costs less than
    # 1e-4 bits more than its probability says.
    return made.real_bits <= 1.001 * made.ideal_bits + 64


@cases(100)
@given(st.binary(max_size=60))
@example(bytes(range(256)))
@example(bytes(700))
def test_any_bytes_come_back(data):
    made = compress(data)
    assert decompress(made.archive) == data
    assert made.num_bytes == len(data)
    assert near(made)


@pytest.mark.quick(1)
@pytest.mark.parametrize("size", [511, 512, 1024, 1025, 5000])
def test_lanes_of_all_lengths(size):
    data = prose(size)
    made = compress(data)
    assert decompress(made.archive) == data
    assert near(made)


@given(st.integers(0, 500), st.integers(1, 64))
def test_lanes_share_out_all_bytes(size, lanes):
    lengths = np.diff(lane_starts(size, lanes))
    assert lengths.sum() == size
    assert lengths.max() - lengths.min() <= 1
    assert (np.diff(lengths) <= 0).all()


DECODE = """
import sys; from pathlib import Path
from copyreg_jax.neighbours.codelength import decompress
archive = Path(sys.argv[1]).read_bytes()
if len(sys.argv) > 2:
    from copyreg_jax.lm.model_sources import load_model
    import jax.numpy as jnp
    data = decompress(archive, *load_model(sys.argv[2], jnp.float32))
else:
    data = decompress(archive)
import hashlib; print(hashlib.sha256(data).hexdigest())
"""


def decoded_elsewhere(archive, tmp_path, *model):
    """The SHA-256 of what a fresh process decodes."""
    (tmp_path / "a").write_bytes(archive)
    command = [sys.executable, "-c", DECODE, str(tmp_path / "a"), *map(str, model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("size", [4000, pytest.param(10**6, marks=pytest.mark.slow)])
def test_a_fresh_process_decodes(size, tmp_path):
    data = prose(size - 100) + bytes(range(100))
    made = compress(data)
    assert decoded_elsewhere(made.archive, tmp_path) == hashlib.sha256(data).hexdigest()
    assert near(made)


probabilities = st.one_of(
    st.sampled_from([1, 2, 3, SCALE // 2, SCALE - 2, SCALE - 1]), st.integers(1, SCALE - 1)
)


@cases(200)
@given(st.lists(st.tuples(probabilities, st.integers(0, 1)), max_size=300))
def test_coded_bits_take_what_their_probabilities_say(pairs):
    p, bits = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    writer = Writer()
    for part in np.array_split(np.arange(len(p)), 3):
        writer.bits(p[part], bits[part])
    content, reader = writer.content(), Reader(writer.content())
    for part in np.array_split(np.arange(len(p)), 5):
        assert (reader.bits(p[part], None) == bits[part]).all()
    exact = mpmath.fsum(-mpmath.log(mpmath.mpf(k if b else SCALE - k) / SCALE, 2) for k, b in pairs)
    # Each of 300 logarithms and additions of numbers below 7200 rounds by 2^-40 at most.
    assert abs(writer.ideal_bits - exact) < 1e-6
    assert 8 * len(content) <= 1.001 * exact + 64


def test_certain_bits_cost_next_to_nothing():
    writer = Writer()
    writer.bits(np.full(2_000_000, SCALE - 1), np.ones(2_000_000, np.int64))
    assert writer.ideal_bits < 1
    assert len(writer.content()) <= 8


def test_the_floats_given_to_constriction_make_the_integers():
    k = np.arange(1, SCALE)
    floats = entropy_coder._floats(k)
    # constriction gives the bit 0 what is left of the 1, rounded down, and at least 1.
    assert (np.floor((SCALE - 2) * (1 - floats)) + 1 == SCALE - k).all()
    for few in (1, 2, 3, 5):  # and constriction rounds as it is said to
        writer = Writer()
        writer.bits(np.full(4000, few), np.ones(4000, np.int64))
        assert abs(8 * len(writer.content()) - writer.ideal_bits) < 64


def test_no_table_depends_on_the_last_digit_of_a_logarithm():
    """Rounded numbers are not near ties, so every libm with errors below 1e-9 gives the same."""
    with mpmath.workdps(20):
        for table, exact in (
            (byte_model.STRETCH, lambda i: 256 * mpmath.log((i + 0.5) / (2**16 - i - 0.5))),
            (byte_model.SQUASH, lambda i: 2**16 / (1 + mpmath.exp((2900 - mpmath.mpf(i)) / 256))),
        ):
            for i, entry in enumerate(table.tolist()):
                value = exact(i)
                assert abs(abs(value - mpmath.floor(value)) - 0.5) > 1e-9
                assert entry in (mpmath.nint(value), 1, 2**16 - 1)


def resealed(archive, change):
    """The archive with another header, and the right checksum."""
    name, _, body = archive.split(b"\n", 2)
    line, content = body.split(b"\n", 1)
    header = json.loads(line)
    change(header)
    body = json.dumps(header).encode() + b"\n" + content
    return b"\n".join([name, hashlib.sha256(body).hexdigest().encode(), body])


MADE = compress(b"a sail, a sail, a sail").archive


@pytest.mark.parametrize(
    ("name", "there", "here"),
    [
        ("copyreg-jax", "0.0.1", "'[0-9.]+'"),
        ("constriction", "0.0.1", "'[0-9.]+'"),
        ("moon", "full", "None"),
    ],
)
def test_what_was_made_with_something_else_is_refused(name, there, here):
    other = resealed(MADE, lambda header: header["made_with"].update({name: there}))
    with pytest.raises(InputError, match=f"made with {name} '{there}', and here it is {here}"):
        decompress(other)


def test_another_coder_is_refused():
    other = resealed(MADE, lambda header: header.update({"coder": "another"}))
    with pytest.raises(InputError, match="made with coder 'another'"):
        decompress(other)


def test_other_content_is_refused():
    other = resealed(MADE, lambda header: header.update({"size": 21}))
    with pytest.raises(InputError, match="decodes to other bytes"):
        decompress(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(size=-1),
        lambda header: header.update(size=True),
        lambda header: header.update(kind="static"),
        lambda header: header.update(made_with=[]),
        lambda header: header.pop("sha256"),
        lambda header: header.update(parts=3),
        lambda header: header.update(kind="foo"),
        lambda header: header.update(kind="static", model="", tokens=1, parts=[22, 1]),
        lambda header: header.update(size=10**9),  # would be decoded for hours
        lambda header: header.update(size=10**20),
    ],
)
def test_headers_that_make_no_sense_are_refused(change):
    with pytest.raises(InputError, match="header that can't be read"):
        decompress(resealed(MADE, change))


def test_the_longest_text_of_a_byte_of_archive_is_let_in():
    """The bound on the size that a header may state is above what zeros, the cheapest, cost."""
    data = bytes(50_000)
    assert decompress(compress(data).archive) == data


def test_a_missing_coder_is_named_before_anything_is_compared(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(InputError, match="constriction is not installed"):
        decompress(MADE)


@cases(200)
@given(st.data())
def test_truncated_and_damaged_archives_are_refused(data):
    place = data.draw(st.integers(0, len(MADE) - 1))
    flipped = bytearray(MADE)
    flipped[place] ^= data.draw(st.integers(1, 255))
    for damaged in (MADE[:place], bytes(flipped), MADE + b"\x00"):
        with pytest.raises(InputError) as caught:
            decompress(damaged, where="x.cr")
        assert "x.cr" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_foreign_and_other_formats_are_refused():
    for foreign in (b"", gzip.compress(b"a"), b"PK\x03\x04"):
        with pytest.raises(InputError, match="not an archive"):
            decompress(foreign)
    for number in (b"0", b"2"):
        with pytest.raises(InputError, match="is of format"):
            decompress(MADE.replace(b"archive/1", b"archive/" + number, 1))


@cases(100)
@given(st.lists(st.floats(-50, 0)))
def test_ideal_bits_are_exact(log_p):
    exact = -mpmath.fsum(log_p) / mpmath.log(2)
    # One rounding of the sum, one of the quotient, one of log 2: 3 * 2^-53 relative; below the
    # normal numbers half a step, 2^-1075, each.
    assert abs(ideal_bits(log_p) - exact) <= 4e-16 * abs(exact) + 2.0**-1073


def test_ideal_bits_at_the_ends():
    assert ideal_bits([-math.inf]) == math.inf
    assert str(ideal_bits([])) == "0.0"
    assert math.isnan(bits_per_byte(0.0, 0))
    for wrong in ([0.1], [math.nan]):
        with pytest.raises(InputError, match="log_p"):
            ideal_bits(wrong)


def test_ledger_of_a_corpus(tmp_path):
    rng = np.random.default_rng(0)
    log_p = [-rng.exponential(size=size) for size in (3, 5, 0, 4)]
    safe = [part - rng.normal(size=len(part)) ** 2 for part in log_p]
    safe[3][0] = -np.inf
    found = corpus_ledger("abcd", log_p, safe)
    assert found.names[0] == "d"
    assert found.k_bits[0] == np.inf
    assert (np.diff(found.k_bits) <= 0).all()
    for name, k in zip(found.names[1:], found.k_bits[1:], strict=True):
        i = "abcd".index(name)
        assert k == pytest.approx((log_p[i] - safe[i]).sum() / np.log(2), abs=1e-12)
    plot_ledger(found, tmp_path / "k.png")
    assert (tmp_path / "k.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="can be a"):
        plot_ledger(found, tmp_path / "k.txt")
    with pytest.raises(InputError, match="one of each"):
        corpus_ledger("ab", log_p, safe)


def test_comparison_with_classic_compressors():
    data = prose(3000)
    made = compress(data)
    rates = {rate.name: rate for rate in compare(data, made, model_bytes=1000)}
    assert rates["copyreg"].with_model == len(made.archive) + 1000
    assert rates["gzip -9"].num_bytes == len(gzip.compress(data, 9))
    assert rates["xz -9e"].num_bytes == len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    others = [rate.num_bytes for rate in rates.values() if rate.name != "copyreg"]
    assert made.real_bits < 8 * min(others)


def run(monkeypatch, *words):
    """The exit code of the command line."""
    monkeypatch.setattr(sys, "argv", ["copyreg", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


def test_commands(tmp_path, monkeypatch, capsys):
    data = prose(700) + b"\xff\x00"
    file, archive, back = (tmp_path / name for name in ("file", "archive", "back"))
    file.write_bytes(data)
    assert run(monkeypatch, "compress", file, "--out", archive, "--json", "--compare") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["bytes"] == len(data)
    assert said["archive_bytes"] == archive.stat().st_size
    assert said["bits_per_byte"] == said["real_bits"] / len(data)
    assert abs(said["real_bits"] - said["ideal_bits"]) < 64
    assert said["rates"][0]["name"] == "copyreg"
    assert run(monkeypatch, "decompress", archive, "--out", back) == 0
    assert back.read_bytes() == data
    assert run(monkeypatch, "compress", file, "--out", tmp_path / "two", "--compare") == 0
    assert "gzip -9" in capsys.readouterr().out


def test_commands_leave_files_whole(tmp_path, monkeypatch, capsys):
    archive, back = tmp_path / "archive", tmp_path / "back"
    archive.write_bytes(MADE[:-1])
    assert run(monkeypatch, "decompress", archive, "--out", back) == 2
    error = capsys.readouterr().err
    assert "truncated" in error
    assert error.count("\n") == 1
    assert not back.exists()
    back.write_bytes(b"precious")
    archive.write_bytes(MADE)
    assert run(monkeypatch, "decompress", archive, "--out", back) == 2
    assert "already exists" in capsys.readouterr().err
    archive.write_bytes(MADE[:-1])
    assert run(monkeypatch, "decompress", archive, "--out", back, "--overwrite") == 2
    assert back.read_bytes() == b"precious"
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "back"}
    assert run(monkeypatch, "compress", tmp_path / "none", "--out", tmp_path / "x") == 2
    assert run(monkeypatch, "compress", back, "--out", back, "--overwrite") == 2


BUGS = [
    ("archive_file:_compare", "here.get(name) != there.get(name)", "False",
     lambda: test_what_was_made_with_something_else_is_refused("constriction", "0.0.1", ".*")),
    ("entropy_coder:_floats", "1.25", "0.5",
     test_the_floats_given_to_constriction_make_the_integers),
    ("archive_file:decompress", "hashlib.sha256(data).hexdigest() != header['sha256']", "False",
     test_other_content_is_refused),
]  # fmt: skip


@pytest.mark.parametrize(("place", "old", "new", "test"), BUGS)
def test_planted_bugs_are_found(place, old, new, test):
    test()
    bug = planted(f"neighbours.{place}", old, new)
    with bug, pytest.raises((AssertionError, pytest.fail.Exception)):
        test()


class Spy:
    """A coder that notes the probabilities which it is given."""

    def __init__(self, coder):
        self.coder, self.seen = coder, []

    def bits(self, p, known):
        self.seen.append(np.array(p))
        assert ((p >= 1) & (p < SCALE)).all()
        return self.coder.bits(p, known)


def bits_of_both(code, symbols):
    """The ideal bits of a writer; its reader sees the same probabilities, and gives the symbols."""
    writer = Spy(Writer())
    code(writer, symbols)
    reader = Spy(Reader(writer.coder.content()))
    assert list(code(reader, None)) == list(symbols)
    assert all((one == two).all() for one, two in zip(writer.seen, reader.seen, strict=True))
    return writer.coder.ideal_bits


def test_a_writer_and_a_reader_see_the_same_probabilities():
    data = prose(1100)
    bits_of_both(lambda coder, known: code_bytes(coder, len(data), known), data)
