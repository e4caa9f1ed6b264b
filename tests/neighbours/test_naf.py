"""Near access-freeness against exact arithmetic, enumeration, and planted bugs."""

import copy
import functools
import itertools
import json
import math
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import assume, given
from typer.testing import CliRunner

import copyreg_jax as cr
from copyreg_jax.checker import access, format
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.checker.archive import _Members
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.cli import probability_tables
from copyreg_jax.cli.main import app
from copyreg_jax.neighbours import naf
from copyreg_jax.neighbours.distributions import check_distributions
from copyreg_jax.neighbours.naf_certificate import NafCertificate, certify_naf
from tests.support.mutants import planted
from tests.support.registry import cases

KINDS = ("max", "kl")
DISJOINT = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
PRECISE = 300


def tables(seed, number, m=2):
    """Rows of log-weights with zeros, tiny and huge ratios, that share at least one outcome."""
    rng = np.random.default_rng(seed)
    for case in range(number):
        n = int(rng.integers(1, 9))
        scale = 10.0 ** rng.uniform(-8, 2.5)
        table = rng.normal(scale=scale, size=(m, n)) + rng.normal(scale=10.0, size=(m, 1))
        if case % 3 == 0:
            table[rng.random((m, n)) < 0.4] = -np.inf
            table[:, rng.integers(n)] = rng.normal(scale=scale, size=m)
        if case % 7 == 0:
            table[1] = table[0]
        yield table


def exact_rows(table):
    """The rows normalized in balls; zero mass is None."""
    rows = []
    for row in table.tolist():
        top = max(row)
        weights = [None if v == -math.inf else (arb(v) - arb(top)).exp() for v in row]
        total = sum((w for w in weights if w is not None), arb(0))
        rows.append([None if w is None else w / total for w in weights])
    return rows


def exact_join(rows, kind):
    """The joined distribution and Z by their definitions, in balls."""
    columns = list(zip(*rows, strict=True))
    if kind == "max":
        weights = [None if None in c else functools.reduce(arb.min, c) for c in columns]
    else:
        root = arb(1) / len(rows)
        weights = [None if None in c else math.prod(c, start=arb(1)) ** root for c in columns]
    total = sum((w for w in weights if w is not None), arb(0))
    return [None if w is None else w / total for w in weights], total


def exact_k(table, kind):
    """The exponent of a text, from Z at each position, in balls."""
    m, positions = table.shape[-2], table.reshape(-1, *table.shape[-2:])
    total = sum((exact_join(exact_rows(rows), kind)[1].log() for rows in positions), arb(0))
    return -total * (1 if kind == "max" else m) / arb(2).log()


def exact_divergence(p, q, kind):
    """In bits; p has no mass where q has none."""
    logs = [(a, (a / b).log()) for a, b in zip(p, q, strict=True) if a is not None]
    if kind == "max":
        return functools.reduce(arb.max, (ratio for _, ratio in logs)) / arb(2).log()
    return sum((a * ratio for a, ratio in logs), arb(0)) / arb(2).log()


def beyond_k(kind, seed, number, m=2):
    """How many divergences are *not* proved to be within the stated k."""
    wrong = 0
    with ctx.workprec(PRECISE):
        for table in tables(seed, number, m):
            k = arb(float(naf.cp_delta(table, kind).k_bits))
            rows = exact_rows(table)
            p, _ = exact_join(rows, kind)
            wrong += sum(not exact_divergence(p, q, kind) <= k for q in rows)
    return wrong


@pytest.mark.quick(1)
@pytest.mark.parametrize("part", range(10))
def test_k_bounds_the_divergence_to_both_shards(part):
    """10,000 random pairs, in ten parts, for both divergences; compared in 300 bits."""
    for kind in KINDS:
        assert beyond_k(kind, part, 1000) == 0


@pytest.mark.parametrize("m", [3, 5])
def test_k_bounds_the_divergence_to_all_of_more_shards(m):
    for kind in KINDS:
        assert beyond_k(kind, 50 + m, 200, m) == 0


def test_k_is_not_larger_than_it_has_to_be():
    """Within the room for rounding, at most 1e-9 of it here: sizes are below 2,000, n below 9.

    The room is 2 (or m = 2) times (27 + 12 + 6 * 4,000) eps = 1.1e-11.
    """
    with ctx.workprec(PRECISE):
        for table in tables(3, 300):
            for kind in KINDS:
                k = float(naf.cp_delta(table, kind).k_bits)
                rows = exact_rows(table)
                p, _ = exact_join(rows, kind)
                each = [exact_divergence(p, q, kind) for q in rows]
                exact = sum(each) if kind == "kl" else functools.reduce(arb.max, each)
                assert abs(k - exact) < 1e-9


BUGS = {
    "the largest instead of the least": ("naf:join", "rows.min(axis=0)", "rows.max(axis=0)"),
    "half the bound of KL": ("naf:join", '1 if kind == "max" else m', "1"),
    "the normalizer left out": ("naf:_divided", "xp.maximum(-log_z, 0.0)", "0.0 * log_z"),
    "nats for bits": ("naf:_divided", "factor / math.log(2)", "factor"),
    "rows not normalized": ("distributions:normalized", "log_p - total[..., None]", "log_p"),
    "no room for rounding": ("naf:cp_delta", "k_bits + m * _room(rows, (4 + m) * size)", "k_bits"),
    "a mean for m shards": ("naf:join", "rows.sum(axis=0) / m", "rows.sum(axis=0)"),
}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_are_found(name):
    place, old, new = BUGS[name]
    with planted(f"neighbours.{place}", old, new):
        try:
            found = sum(beyond_k(kind, 0, 100) for kind in KINDS)
            test_k_is_not_larger_than_it_has_to_be()
        except AssertionError:
            found = 1
        assert found


@st.composite
def pairs(draw):
    """Two distributions in logarithms, some masses zero, that share an outcome."""
    n = draw(st.integers(2, 6))
    rows = draw(st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=2,
                         max_size=3))  # fmt: skip
    masses = np.array(rows, float)
    masses[:, 0] += 1
    with np.errstate(divide="ignore"):
        return np.log(masses / masses.sum(axis=1, keepdims=True))


@cases(500)
@given(pairs(), st.floats(0, 6), st.integers(0, 2**6 - 1))
def test_events_obey_the_bound(rows, k, chosen):
    """p(E) <= 2^k safe(E) for CP-Delta, CP-k and smooth CP-k, and the bound by KL.

    Six masses are added up, so 1e-12 is far above the rounding.
    """
    event = (chosen >> np.arange(rows.shape[1])) & 1 == 1
    with np.errstate(divide="ignore"):
        safe = np.log(np.exp(rows[:, event]).sum(axis=1))
    for kind in KINDS:
        log_p, k_bits = naf.cp_delta(rows, kind)
        bound = np.exp(naf.event_bound(safe, k_bits, kind))
        assert (np.exp(log_p)[event].sum() <= bound * (1 + 1e-12)).all()
    for kept in (naf.cp_k(rows[0], rows[1:], k), naf.smooth_cp_k(rows[0], rows[1:], k)):
        if np.isfinite(kept.k_bits):
            bound = np.exp(naf.event_bound(safe[1:], kept.k_bits))
            assert (np.exp(kept.log_p)[event].sum() <= bound * (1 + 1e-12)).all()


@cases(300)
@given(pairs(), st.floats(0, 6))
def test_cp_k_is_what_rejection_gives(rows, k):
    """By the definition, on probabilities; and smooth CP-k keeps no less and is no farther off."""
    p, q = np.exp(rows[0]), np.exp(rows[1:]).min(axis=0)
    bound = rows[1:].min(axis=0) + k * math.log(2)
    keep = rows[0] <= bound
    # Rows are normalized first, which may move a tie of numbers up to 745 to either side.
    assume(not (np.isclose(rows[0], bound, rtol=0, atol=1e-11) & np.isfinite(bound)).any())
    found, smooth = naf.cp_k(rows[0], rows[1:], k), naf.smooth_cp_k(rows[0], rows[1:], k)
    nu = p[keep].sum()
    if nu == 0:
        assert found.k_bits == np.inf
        assert np.isnan(found.log_p).all()
        return
    # A sum of six, and logarithms: a few units of rounding at 745 bits at most.
    assert found.k_bits == pytest.approx(k - math.log2(nu), abs=1e-11)
    np.testing.assert_allclose(np.exp(found.log_p), np.where(keep, p, 0) / nu, atol=1e-12)
    z = np.minimum(p, 2.0**k * q).sum()
    assert z >= nu - 1e-12
    assert 0.5 * np.abs(np.exp(smooth.log_p) - p).sum() <= 1 - z + 1e-12


def test_divergences_of_zeros():
    half, one = np.log([0.5, 0.5]), np.array([0.0, -np.inf])
    for divergence in (naf.delta_max, naf.delta_kl):
        assert divergence(half, one) == np.inf
        assert divergence(one, half) == pytest.approx(1.0)  # log2 1/0.5, rounded
        assert divergence(one, one) == 0.0
    tiny = np.array([-1e6, 0.0])  # a mass that is 0 in floats, and not to the definition
    assert naf.delta_kl(tiny, np.array([-np.inf, 0.0])) == np.inf
    assert naf.delta_max(tiny, np.array([-1e6 - math.log(2), 0.0])) == pytest.approx(1.0)


def test_disjoint_shards_have_an_infinite_k():
    for kind in KINDS:
        log_p, k = naf.cp_delta(DISJOINT, kind)
        assert k == np.inf
        assert np.isnan(log_p).all()
        assert naf.event_bound(np.array(-np.inf), k, kind) == 0.0
        with pytest.raises(cr.InputError, match="k is infinite: at position 0"):
            certify_naf(DISJOINT, kind)


def texts(seed, vocab_size=3, length=4, m=2):
    """Markov models of so many tokens: all texts, and what each model says at each step."""
    rng = np.random.default_rng(seed)
    start = np.log(rng.dirichlet(np.ones(vocab_size), size=m))
    after = np.log(rng.dirichlet(np.ones(vocab_size), size=(m, vocab_size)))
    every = np.array(list(itertools.product(range(vocab_size), repeat=length)))
    steps = [np.broadcast_to(start[:, None], (m, len(every), vocab_size))]
    steps += [after[:, every[:, t]] for t in range(length - 1)]
    return every, np.stack(steps, axis=2)  # (m, texts, T, outcomes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_chain_rule(kind):
    """Token by token against whole texts, which are all enumerated.

    Sums of four logarithms below 40: rounding is below 1e-13, and the room for it below 1e-12.
    """
    for seed in range(20):
        every, log_q = texts(seed)
        joined = naf.cp_delta(log_q, kind)
        picked = functools.partial(np.take_along_axis, indices=every[..., None], axis=-1)
        log_p = picked(joined.log_p)[..., 0].sum(axis=-1)
        q = np.stack([picked(row)[..., 0].sum(axis=-1) for row in log_q])
        path = naf.path_bound(joined.k_bits)
        assert path.length == 4
        prompt = naf.prompt_bound(joined.k_bits, log_p, kind)
        divergence = naf.delta_max if kind == "max" else naf.delta_kl
        assert divergence(log_p, q).max() <= prompt.k_bits + 1e-12
        if kind == "max":
            assert (log_p - q <= path.k_bits * math.log(2) + 1e-12).all()
            assert prompt.k_bits == path.k_bits.max()
            whole = naf.cp_delta(q)
            assert whole.k_bits <= prompt.k_bits + 1e-12
        else:
            assert divergence(log_p, q).sum() == pytest.approx(prompt.k_bits, abs=1e-11)


def test_token_wise_k_adds_up_to_that_of_the_text():
    """Independent tokens: the geometric mean of products is the product of geometric means.

    200 numbers are added up; 200 u = 2e-14 relative, and the room of each is 1e-13 of its k.
    """
    rng = np.random.default_rng(0)
    log_q = np.log(rng.dirichlet(np.ones(4), size=(2, 200)))
    k = naf.cp_delta(log_q, "kl").k_bits
    with ctx.workprec(PRECISE):
        exact = access.exponent(np.moveaxis(log_q, 0, 1), "kl")
        assert abs(arb(float(naf.path_bound(k).k_bits)) / exact - 1) < 1e-12
    four = log_q[:, :4]
    product = functools.reduce(lambda a, b: (a[..., None] + b[:, None]).reshape(2, -1),
                               np.moveaxis(four, 1, 0))  # fmt: skip
    whole = float(naf.cp_delta(product, "kl").k_bits)
    assert whole == pytest.approx(float(k[:4].sum()), rel=1e-12)


def test_a_prompt_needs_all_texts():
    with pytest.raises(cr.InputError, match=r"have probability 0\.75 together"):
        naf.prompt_bound([[1.0], [2.0]], np.log([0.5, 0.25]))


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_and_jitted_jax_agree(kind):
    """Same formulas; 1e-11 is the room for rounding of numbers of this size."""
    for table in tables(9, 20):
        host = naf.cp_delta(table, kind)
        device = jax.jit(naf.cp_delta, static_argnums=1)(jnp.asarray(table), kind)
        assert isinstance(host.log_p, np.ndarray)
        assert device.k_bits == pytest.approx(float(host.k_bits), abs=1e-11)
        np.testing.assert_allclose(device.log_p, host.log_p, atol=1e-11)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: naf.cp_delta(np.zeros((1, 3))), r"shape \(1, 3\)"),
        (lambda: naf.cp_delta(np.zeros((2, 2), int)), "type int64"),
        (lambda: naf.cp_delta([[np.nan, 0.0], [0.0, 0.0]]), "NaN"),
        (lambda: naf.cp_delta([[-np.inf, -np.inf], [0.0, 0.0]]), "no outcome"),
        (lambda: naf.cp_delta(np.zeros((2, 2)), "tv"), "kind is 'tv'"),
        (lambda: naf.prompt_bound([[1.0]], [0.0], "Max"), "kind is 'Max'"),
        (lambda: naf.event_bound(-1.0, 1.0, "Max"), "kind is 'Max'"),
        (lambda: naf.cp_delta([[0.0, 0.0], [0.0]]), "make no array"),
        (lambda: naf.cp_k(np.zeros(0), np.zeros((1, 0)), 1.0), "at least one outcome"),
        (lambda: certify_naf([[0.0, 0.0], [0.0]]), "log_p is no array"),
        (lambda: naf.cp_k(np.zeros(2), np.zeros((1, 3)), 1.0), "shape"),
        (lambda: naf.cp_k(np.zeros(2), np.zeros((1, 2)), -1.0), "k is -1.0"),
        (lambda: certify_naf(np.zeros((2, 2)), "tv"), "kind is 'tv'"),
        (lambda: certify_naf(np.zeros(2)), "shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(cr.InputError, match=message):
        call()


# The certificate.


@pytest.fixture
def check(tmp_path):
    """The verdict on a document, for a table."""

    def run(document, table):
        np.savez(tmp_path / "t.npz", log_p=table)
        (tmp_path / "naf.json").write_bytes(format.canonical(document))
        return check_file(tmp_path / "naf.json", tmp_path / "t.npz").verdict

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_hold_the_exact_k_and_are_proved_again(kind, check):
    for table in [*tables(1, 20), *tables(2, 10, 3), np.stack([*tables(4, 1)] * 3)]:
        found = certify_naf(table, kind)
        low, high = found.k_bits
        with ctx.workprec(PRECISE):
            # 2^-200: what 300 bits leave. An interval has two ulps of width at most.
            assert arb(low) - 2.0**-200 <= exact_k(table, kind) <= arb(high) + 2.0**-200
        # Where k = 0 the ball is 256 bits below entries of at most 2^12, sixteen of them.
        assert high - low <= max(2 * np.spacing(high), 2.0**-230)
        each = np.atleast_1d(naf.cp_delta(np.moveaxis(table, -2, 0), kind).k_bits)
        assert high <= naf.path_bound(each).k_bits * (1 + 1e-15)
        assert check(found.document, table) is cr.Verdict.CERTIFIED


def test_false_claims_are_refused(check):
    """An end on the wrong side of k, by 1e-3 and by two ulps; the other kind; another table."""
    table = list(tables(5, 2))[1]
    document = certify_naf(table).document
    low, high = (float.fromhex(end) for end in document["k_bits"])
    refuted, void = cr.Verdict.REFUTED, cr.Verdict.VOID
    for pair, verdict in (
        ([low, low - 1e-3], refuted), ([high + 1e-3, high + 1], refuted),
        ([np.nextafter(high, 9), 9.0], refuted), ([0.0, np.nextafter(low, 0)], refuted),
        ([high + 1, low], refuted), ([low, np.inf], void), ([np.inf, -np.inf], void),
        ([-np.inf, high], void), ([-1.0, high], void),
    ):  # fmt: skip
        forged = copy.deepcopy(document)
        forged["k_bits"] = [float(end).hex() for end in pair]
        assert check(forged, table) is verdict, pair
    forged["k_bits"] = [(0.0).hex(), (high + 1).hex()]
    assert check(forged, table) is cr.Verdict.CERTIFIED
    assert check({**document, "kind": "kl"}, table) is cr.Verdict.REFUTED
    assert check({**document, "kind": "tv"}, table) is cr.Verdict.VOID
    other = table.copy()
    other[0, 0] = np.nextafter(other[0, 0], 0)
    assert check(document, other) is cr.Verdict.VOID
    assert check({**document, "more": 1}, table) is cr.Verdict.VOID


def test_an_infinite_k_is_refuted(check):
    document = certify_naf(np.zeros((2, 2))).document | {"table": access.describe(DISJOINT)}
    assert check(document, DISJOINT) is cr.Verdict.REFUTED


CHECKER_BUGS = {
    "sign": ("_log_z", "arb.min", "arb.max"),
    "rows not normalized": ("_log_z", "_log_sum(ar, ar.exact(row[row > -np.inf]))", "arb(0)"),
    "bits": ("exponent", "arb(2).log()", "arb(1)"),
    "the factor m": ("exponent", '1 if kind == "max" else table.shape[-2]', "1"),
    "one position": ("exponent", "sum_balls(_log_z(rows, kind) for rows in positions)",
                     "sum_balls(_log_z(rows, kind) for rows in positions[:1])"),
    "zeros kept": ("_log_z", "functools.reduce(np.add, logs) / len(rows)",
                   "functools.reduce(np.add, logs)"),
    "an upper end that is not tested": (
        "_test", "Interval(low if low > 0 or low > high else -math.inf, high)",
        "Interval(low, math.inf)",
    ),
    "another table": ("check_access", "dump(said.table) != dump(describe(data))", "False"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKER_BUGS)
def test_planted_bugs_of_the_checker_are_found(name, check):
    place, *bug = CHECKER_BUGS[name]
    table = np.stack([list(tables(5, 2))[1]] * 2) + np.array([[[1.0], [2.0]]])
    documents = [certify_naf(table, kind).document for kind in KINDS]
    other = certify_naf(table[:1]).document
    false = documents[0] | {"k_bits": [(0.0).hex(), (1e-9).hex()]}
    with planted(f"checker.access:{place}", *bug):
        verdicts = [check(document, table) for document in documents]
        fooled = check(false, table), check(other, table)
    right = verdicts == [cr.Verdict.CERTIFIED] * 2
    assert not (right and fooled == (cr.Verdict.REFUTED, cr.Verdict.VOID))


def test_save_and_load(tmp_path):
    found = certify_naf(np.zeros((2, 2)))
    found.save(tmp_path / "naf.json")
    assert NafCertificate.load(tmp_path / "naf.json").document == found.document
    (tmp_path / "other.json").write_text(json.dumps({"format": access.FORMAT}))
    with pytest.raises(cr.InputError, match=r"other\.json is not a valid certificate"):
        NafCertificate.load(tmp_path / "other.json")


# The command.


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run ``copyreg naf`` on a table; returns the result."""
    monkeypatch.chdir(tmp_path)

    def run(table, *options):
        np.savez("t.npz", log_p=table)
        return CliRunner().invoke(app, ["naf", "t.npz", *options])

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_and_its_files(kind, command):
    _, log_q = texts(0)
    table = np.moveaxis(log_q, 0, 2)[5]  # (T, m, outcomes)
    result = command(table, "--kind", kind, "--out", "o", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    joined = naf.cp_delta(np.moveaxis(table, 1, 0), kind)
    found = certify_naf(table, kind)
    assert summary["k_bits"] == found.k_bits.upper <= joined.k_bits.sum()
    assert (summary["kind"], summary["length"]) == (kind, 4)
    with np.load(summary["distribution"]) as file:
        assert (file["log_p"] == joined.log_p).all()
    assert check_file(summary["certificate"], "t.npz").verdict is cr.Verdict.CERTIFIED
    assert "length T" in command(table).stdout
    again = command(table, "--out", "o")
    assert isinstance(again.exception, cr.InputError)
    unproved = json.loads(command(table, "--kind", kind, "--json").stdout)
    assert unproved["k_bits"] >= summary["k_bits"]


def test_printed_decimals_are_not_below_k(command):
    """Thirty tables, of which nearest decimals would be below k for about fifteen."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        table = np.log(rng.dirichlet(np.ones(3), size=2))
        printed = command(table).stdout.split("\nk ")[1].split()[0]
        assert float(printed) >= float(naf.cp_delta(table).k_bits)


def test_an_old_certificate_is_gone_before_a_new_distribution_is_there(command, monkeypatch):
    table = np.log([[0.5, 0.5], [0.25, 0.75]])
    assert command(table, "--out", "o").exit_code == 0

    def fail(path, content):
        raise OSError("no space")

    monkeypatch.setattr(probability_tables, "write_whole", fail)
    assert isinstance(command(table, "--out", "o", "--overwrite").exception, OSError)
    assert not Path("o/naf.json").exists()
    assert command(np.zeros(3), "--out", "new").exception is not None
    assert not Path("new").exists()


def test_tables_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    """A bomb: 80 MB of zeros in a small file; and a header of 2^31 bytes that is not there."""
    bomb = np.broadcast_to(0.0, (2, 5_000_001))
    np.savez_compressed(tmp_path / "bomb.npz", log_p=bomb)
    loads = []
    monkeypatch.setattr(_Members, "load", lambda *args: loads.append(args))
    with pytest.raises(VoidError, match="more than 10000000 entries"):
        access.read_table(tmp_path / "bomb.npz")
    header = b"\x93NUMPY\x02\x00" + (20_000).to_bytes(4, "little") + b" " * 20_000
    with zipfile.ZipFile(tmp_path / "header.npz", "w") as file:
        file.writestr("log_p.npy", header)
    with pytest.raises(VoidError, match="a header of 20000 bytes"):
        access.read_table(tmp_path / "header.npz")
    assert not loads


def test_products_are_named_where_there_are_several_positions(tmp_path):
    for T, expected in ((1, False), (2, True)):
        table = np.zeros((T, 2, 2))
        np.savez(tmp_path / "t.npz", log_p=table)
        certify_naf(table).save(tmp_path / "naf.json")
        found = check_file(tmp_path / "naf.json", tmp_path / "t.npz")
        assert ("p, q_i: products over the T positions" in str(found)) is expected


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.log([[0.5, 0.4], [0.5, 0.5]]), "add up to 0.9"),
        (np.array([[np.nan, 0.0], [0.0, 0.0]]), r"nan at \[0, 0\]"),
        (np.array([[0.1, -3.0], [0.0, -40.0]]), r"0.1 at \(0, 0\)"),
        (np.log([[0.5, 0.5]]), "with m >= 2 rows"),
        (np.zeros(3), r"shape \(3,\)"),
        (np.array([["a"], ["b"]]), "dtype"),
        (DISJOINT, "k is infinite"),
        (np.zeros((2, 0)), "shape"),
    ],
)
def test_the_command_refuses_in_one_line(table, message, command):
    error = command(table).exception
    assert isinstance(error, cr.InputError)
    assert "\n" not in str(error)
    with pytest.raises(cr.InputError, match=message):
        raise error


def test_float32_log_softmax_is_within_the_tolerance():
    """What MASS_ATOL is for: the log-softmax of a vocabulary of 2^18 in float32."""
    rng = np.random.default_rng(0)
    for scale in (0.0, 1.0, 30.0):
        logits = jnp.asarray(rng.normal(scale=scale, size=(2, 2**18)), jnp.float32)
        check_distributions(np.asarray(jax.nn.log_softmax(logits)))
