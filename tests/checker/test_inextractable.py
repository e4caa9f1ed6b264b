"""Inextractable windows against a second forward pass, exact samplers, forgeries, planted bugs."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import given

import copyreg_jax as cr
from copyreg_jax.checker import format, inextractable, transformer
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.checker.arithmetic import START_BITS
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.checker.weights import read_model
from tests.checker.test_weights import CONFIGS, HEAD, REFUSED, changed, is_refused
from tests.support import exact_transformer as second
from tests.support.exact_transformer import draw, gpt2, mp, write
from tests.support.mutants import planted

DTYPES = ("F32", "F16", "BF16")
WINDOWS = np.array([[1, 5, 9, 2, 7, 3], [10, 0, 4, 4, 8, 6], [3, 3, 1, 2, 0, 9]])
PREFIX = 2


def ball(number):
    """An mpmath number, known to 75 digits."""
    with ctx.workprec(300):
        return arb(mp.nstr(number, 78)) * arb(1, 10.0**-75)


def all_logits(folder, windows, precision=300):
    model = read_model(folder)
    with ctx.workprec(START_BITS):
        states = transformer.final_states(model, windows, precision)
        blocks = [np.array(block, object) for _, block in transformer.logits(model, states)]
    return np.hstack(blocks).reshape(*windows.shape, -1)


def outside(folder, config, weights, windows):
    """Balls that miss the exact logits, or are too wide to be a test."""
    found = all_logits(folder, windows)
    for balls, tokens in zip(found, windows, strict=True):
        for one, truth in zip(balls.flat, second.logits(config, weights, tokens).flat, strict=True):
            if not (one.overlaps(ball(truth)) and one.rad() < 2.0**-60):
                yield one, truth


@given(st.sampled_from(sorted(CONFIGS)), st.integers(0, 2**32), st.floats(0.1, 2.0))
def test_balls_contain_the_exact_logits(tmp_path_factory, kind, seed, scale):
    rng, config = np.random.default_rng(seed), CONFIGS[kind]
    weights = draw(config, rng, DTYPES, scale)
    folder = write(tmp_path_factory.mktemp("model"), config, weights)
    assert list(outside(folder, config, weights, rng.integers(0, 11, (2, 4)))) == []


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def case(request, tmp_path_factory):
    """A model, its folder, and its exact logits before each token of the suffixes."""
    config, folder = CONFIGS[request.param], tmp_path_factory.mktemp("case")
    return make_case(config, folder)


def make_case(config, folder):
    weights = draw(config, np.random.default_rng(5), DTYPES)
    name = next(iter(weights))
    dtype, shape, raw = weights[name]
    size = len(raw) // shape[0]
    raw = raw[: 8 * size] + raw[4 * size : 5 * size] + raw[9 * size :]  # tokens 4 and 8 are tied
    weights[name] = (dtype, shape, raw)
    write(folder, config, weights)
    truth = [second.logits(config, weights, window[:-1])[PREFIX - 1 :] for window in WINDOWS]
    return config, weights, folder, truth


def exact_ranks(truth, above=lambda v, own: v > own):
    """Ranks of the tokens of each suffix."""
    return [
        [1 + sum(bool(above(v, row[t])) for v in row) for row, t in zip(rows, window, strict=True)]
        for rows, window in zip(truth, WINDOWS[: len(truth), PREFIX:], strict=True)
    ]


def ranks_beyond(slack):
    return lambda v, own: v - own > 2 * mp.mpf(slack)


def bits_below(ranks):
    """The largest float that is below log2 of the product."""
    exact = mp.log(math.prod(ranks), 2)
    near = float(exact)
    return near if mp.mpf(near) < exact else max(math.nextafter(near, -math.inf), 0.0)


def honest(folder, ranks, slack=0.0):
    bits = [bits_below(row) for row in ranks]
    return {
        "format": inextractable.FORMAT, "producer": "test", "model": read_model(folder).hashes,
        "windows": WINDOWS.tolist(), "prefix": PREFIX, "suffix": WINDOWS.shape[1] - PREFIX,
        "slack": slack.hex(), "precision": 192, "bits": [b.hex() for b in bits],
        "b": min(bits).hex(),
    }  # fmt: skip


def check(document, folder):
    path = folder / "certificate.json"
    path.write_bytes(format.canonical(document))
    return check_file(path, folder)


@pytest.mark.parametrize("slack", [0.0, 0.25])
def test_exact_ranks_are_certified_and_nothing_above(case, slack):
    _, _, folder, truth = case
    ranks = exact_ranks(truth, ranks_beyond(slack))
    assert ranks != exact_ranks(truth, ranks_beyond(1.0))
    document = honest(folder, ranks, slack)
    assert check(document, folder).verdict is cr.Verdict.CERTIFIED
    for number in range(len(WINDOWS)):
        # One float may be the exact value; two are above it.
        above = float.fromhex(document["bits"][number])
        above = math.nextafter(math.nextafter(above, math.inf), math.inf)
        forged = with_bits(document, number, above)
        # Window 1 has tied tokens, of which no ball says that they are not larger.
        expected = cr.Verdict.UNDECIDED if number == 1 and not slack else cr.Verdict.REFUTED
        assert check(forged, folder).verdict is expected


def with_bits(document, number, bits):
    numbers = [float.fromhex(b) for b in document["bits"]]
    numbers[number] = bits
    return document | {"bits": [b.hex() for b in numbers], "b": min(numbers).hex()}


def in_few_bits(folder):
    """A true document about a deep model, in a precision that is too low for it."""
    config = gpt2(width=16, layers=11, heads=4)
    weights = draw(config, np.random.default_rng(0))
    write(folder, config, weights)
    window = WINDOWS[:1]
    truth = [second.logits(config, weights, window[0, :-1])[PREFIX - 1 :]]
    return honest(folder, exact_ranks(truth)) | {"windows": window.tolist(), "precision": 128}


def test_a_machine_that_is_not_sound_proves_nothing(case, monkeypatch):
    def control():
        raise VoidError("flush-to-zero is on")

    _, _, folder, truth = case
    monkeypatch.setattr(inextractable, "control_machine", control)
    found = check(honest(folder, exact_ranks(truth)), folder)
    assert found.verdict is cr.Verdict.VOID
    assert found.lines == ["flush-to-zero is on"]


def test_too_few_bits_of_precision_prove_nothing(tmp_path):
    document = in_few_bits(tmp_path)
    assert check(document, tmp_path).verdict is cr.Verdict.UNDECIDED
    assert check(document | {"precision": 600}, tmp_path).verdict is cr.Verdict.CERTIFIED


# Samplers


def samplers():
    """Distributions from logits, by exact-enough arithmetic; all keep the order."""

    def tempered(t):
        def p(row):
            e = [mp.exp((v - max(row)) / t) for v in row]
            return [v / sum(e) for v in e]

        return p

    def cut(keep, t):
        """Softmax of the tokens that ``keep`` takes of the sorted ones."""

        def p(row):
            full = tempered(t)(row)
            order = sorted(range(len(row)), key=lambda v: -row[v])
            kept = set(order[: keep([full[v] for v in order])])
            total = sum(full[v] for v in kept)
            return [full[v] / total if v in kept else mp.mpf(0) for v in range(len(row))]

        return p

    for t in (mp.mpf("0.01"), 1, 100, mp.mpf(10) ** 9):
        yield tempered(t)
        for k in (1, 2, 5, 9):
            yield cut(lambda p, k=k: k, t)
        for share in (0.1, 0.5, 0.9):
            yield cut(lambda p, s=share: 1 + sum(c < s for c in itertools.accumulate(p[:-1])), t)
            yield cut(lambda p, s=share: sum(one >= s * p[0] for one in p), t)  # fmt: skip


def test_no_sampler_is_above_the_bound_and_one_attains_it(case):
    _, _, _, truth = case
    bits = [bits_below(row) for row in exact_ranks(truth)]
    for rows, window, b, ranks in zip(truth, WINDOWS[:, PREFIX:], bits, exact_ranks(truth),
                                      strict=True):  # fmt: skip
        for sampler in samplers():
            p = mp.fprod(sampler(row)[t] for row, t in zip(rows, window, strict=True))
            assert p <= mp.mpf(2) ** -b
        for seed in range(500):  # any probabilities that fall as the logits do
            rng, p = np.random.default_rng(seed), 1.0
            for row, t in zip(rows, window, strict=True):
                falling = np.sort(rng.dirichlet(np.full(len(row), 10.0 ** rng.uniform(-2, 2))))
                p *= falling[::-1][sorted(row, reverse=True).index(row[t])]
            assert p <= 2.0**-b * (1 + 1e-12)  # a few roundings of float64
        # Even odds for the tokens down to the true one keep the order.
        assert mp.fprod(1 / mp.mpf(r) for r in ranks) >= mp.mpf(2) ** -b * (1 - mp.mpf(2) ** -45)


def test_blocks_of_queries_contain_the_exact_logits(case, monkeypatch):
    config, weights, folder, _ = case
    monkeypatch.setattr(transformer, "_QUERIES", 3)  # blocks of 3 and 2 positions
    assert list(outside(folder, config, weights, WINDOWS[:, :5])) == []


def test_blocks_of_the_vocabulary_change_nothing(case, monkeypatch):
    _, _, folder, truth = case
    whole = check(honest(folder, exact_ranks(truth)), folder)
    for logits_together in (1, 50):  # one token at once, and blocks that do not divide 11
        monkeypatch.setattr(transformer, "_TOGETHER", logits_together)
        assert check(honest(folder, exact_ranks(truth)), folder) == whole
        model = read_model(folder)
        with ctx.workprec(START_BITS):
            states = inextractable.suffix_states(model, WINDOWS, PREFIX, 192)
            sizes = [len(block[0]) for _, block in transformer.logits(model, states)]
        assert sizes == {1: [1] * 11, 50: [4, 4, 3]}[logits_together]


# Near-ties


def test_a_thousand_near_ties_are_never_told_wrong(tmp_path):
    """Rows of the embedding a float32 apart, slacks a float64 from half the difference."""
    config, rng = gpt2(vocab=41, layers=1), np.random.default_rng(1)
    weights = draw(config, rng)
    base = rng.normal(size=4).astype(np.float32)
    near = base.view(np.int32) + rng.integers(-2, 3, (41, 4), np.int32)
    weights["transformer.wte.weight"] = ("F32", (41, 4), near.astype("<i4").tobytes())
    model = read_model(write(tmp_path, config, weights))
    tokens, decided = [3, 1, 40, 7], 0
    truth = second.logits(config, weights, tokens)
    for bits in (60, START_BITS):
        with ctx.workprec(START_BITS):
            states = transformer.final_states(model, np.array([tokens]), 200)
        for target, other in itertools.product(range(0, 41, 3), range(1, 41)):
            half = float(truth[-1][other] - truth[-1][target]) / 2
            slack = max(0.0, math.nextafter(half, (-math.inf, math.inf)[other % 2]))
            with ctx.workprec(bits):
                found = inextractable.count_larger(model, states[-1:], [target], slack)
            bar = truth[-1][target] + 2 * mp.mpf(slack)
            exact = sum(bool(v > bar) for v in truth[-1])
            assert found[0][0] <= exact <= found[1][0]
            decided += found[0][0] == found[1][0]
    assert 500 < decided < 1120  # some of them were open in few bits


# Forgeries


def forged(document):
    """Documents of the right form that say something else, and what may become of them."""
    refused = cr.Verdict.VOID, cr.Verdict.REFUTED
    swapped = document["windows"][::-1]
    yield document | {"windows": swapped}, refused
    yield document | {"windows": [[*w[:-1], w[-1] ^ 1] for w in document["windows"]]}, refused
    yield document | {"slack": (2.0**90).hex()}, refused
    yield document | {"prefix": PREFIX + 1, "suffix": document["suffix"] - 1}, refused
    yield with_bits(document, 1, 100.0), refused
    void = (cr.Verdict.VOID,)
    yield document | {"extra": 1}, void
    yield document | {"b": (0.0).hex()}, void
    yield document | {"b": "0x1p+9999"}, void
    yield document | {"bits": document["bits"][:1]}, void
    yield document | {"bits": [], "windows": []}, void
    yield with_bits(document, 0, -1.0), void
    yield document | {"precision": 64}, void
    yield document | {"precision": 4097}, void
    yield document | {"slack": (2.0**101).hex()}, void
    yield document | {"model": document["model"] | {"tokenizer": "0" * 64}}, void
    yield document | {"precision": 192.0}, void
    yield document | {"prefix": 0, "suffix": 6}, void
    yield document | {"prefix": 1}, void
    yield document | {"slack": (-1.0).hex()}, void
    yield document | {"slack": "inf"}, void
    yield document | {"slack": "-0x0.0p+0"}, void
    yield with_bits(document, 0, -0.0), void
    yield document | {"windows": [[11, *w[1:]] for w in document["windows"]]}, void
    yield document | {"windows": [[-1, *w[1:]] for w in document["windows"]]}, void
    yield document | {"windows": [w * 2 for w in document["windows"]], "suffix": 10}, void
    yield document | {"model": document["model"] | {"config": "0" * 64}}, void
    yield document | {"model": document["model"] | {"weights": "0" * 64}}, void
    yield document | {"format": "copyreg-inextractable/2"}, void


def test_forgeries_are_refused(case):
    _, _, folder, truth = case
    document = honest(folder, exact_ranks(truth))
    for forgery, allowed in forged(document):
        assert check(forgery, folder).verdict in allowed, forgery
    check(document, folder)
    alone = check_file(folder / "certificate.json")
    assert alone.verdict is cr.Verdict.VOID
    assert alone.lines[-1].endswith("is about a model; name the model's folder after it")


def test_other_files_than_those_of_the_certificate_are_void(tmp_path):
    config, weights, folder, truth = make_case(gpt2(), tmp_path)
    document = honest(folder, exact_ranks(truth))
    ulp = bytes([weights[HEAD][2][0] ^ 1])
    for other in (
        (config, weights | {HEAD: changed(weights[HEAD], ulp)}),
        (config | {"layer_norm_epsilon": 1.1e-5}, weights),
    ):
        found = check(document, write(folder, *other))
        assert found.verdict is cr.Verdict.VOID
        assert found.lines == ["the certificate is for another model: a hash differs"]


# Planted bugs. Not planted: a test of tokens against the vocabulary, without which NumPy refuses.


def false_documents(folder, truth):
    """Each claims more than is so, by little."""
    for slack in (0.0, 0.25):
        document = honest(folder, exact_ranks(truth, ranks_beyond(slack)), slack)
        for number, bits in enumerate(document["bits"]):
            yield with_bits(document, number, float.fromhex(bits) * (1 + 1e-12))
    yield honest(folder, exact_ranks(truth, ranks_beyond(0.125)), 0.25)
    tied = exact_ranks(truth, lambda v, own: v >= own)  # each token with itself
    counted = [[r - 1 for r in row] for row in tied]
    assert counted != exact_ranks(truth)
    yield honest(folder, counted)


def faults(tmp_path_factory):
    """What is wrong: balls without the exact logits, false statements, foreign models."""
    for kind in CONFIGS.values():
        config, weights, folder, truth = make_case(kind, tmp_path_factory.mktemp("planted"))
        document = honest(folder, exact_ranks(truth))
        yield check(document, folder).verdict is not cr.Verdict.CERTIFIED
        for false in false_documents(folder, truth):
            yield check(false, folder).verdict is cr.Verdict.CERTIFIED
        for false, allowed in forged(document):
            yield check(false, folder).verdict not in allowed
        yield any(outside(folder, config, weights, WINDOWS[:2, :4]))
    folder = tmp_path_factory.mktemp("deep")
    yield check(in_few_bits(folder), folder).verdict is cr.Verdict.REFUTED
    for name in REFUSED:
        yield not is_refused(name, tmp_path_factory.mktemp("refused"))


BUGS = {
    "epsilon lost": ("transformer:_normed", "model.epsilon", "0"),
    "mean not taken off": ("transformer:_normed",
        "arb(0) if bias is None else sum_balls(row) / model.width", "arb(0)"),
    "the future is seen": ("transformer:_attend",
        "_softmax(row[: i + 1]) + zeros[i + 1 :]", "_softmax(row)"),
    "heads in turn": ("transformer:_attend",
        "head // shared * size", "head % model.num_kv_heads * size"),
    "scores not scaled": ("transformer:_attend",
        "queries * keys.transpose() * arb(size).rsqrt()", "queries * keys.transpose()"),
    "cubic term": ("transformer:_gpt2_block", "arb(44715) / 1000000", "arb(44714) / 1000000"),
    "sigmoid of the other sign": ("transformer:_llama_block", "(-g).exp()", "g.exp()"),
    "angles of whole heads": ("transformer:_turns", "-arb(j) / half", "-arb(j) / (2 * half)"),
    "positions go on": ("transformer:_turned",
        "turn[i % len(turn)]", "turn[min(i, len(turn) - 1)]"),
    "one exponent off": ("weights:_tensor",
        "(numbers.astype(np.uint32) << 16)", "(numbers.astype(np.uint32) << 15)"),
    "not finite": ("weights:_tensor", "bool(np.isfinite(numbers).all())", "True"),
    "head not compared": ("weights:_tensors",
        "np.array_equal(tensors.pop(_HEAD), tensors.get(_embedding(kind), np.zeros(0)))",
        "tensors.pop(_HEAD) is not None"),
    "settings not compared": ("weights:_require_known",
        "type(value) is type(fixed[name]) and value == fixed[name]", "True"),
    "bases not compared": ("weights:_theta", "len(theta) == 1", "True"),
    "larger by negation": ("inextractable:count_larger", "logit > bar", "not logit <= bar"),
    "smaller by negation": ("inextractable:count_larger", "not logit <= bar", "logit > bar"),
    "slack once": ("inextractable:count_larger", "2 * arb(slack)", "arb(slack)"),
    "a rank more": ("inextractable:bits_of", "1 + number", "2 + number"),
    "model not compared": ("inextractable:check_inextractable",
        "said.model == model.hashes", "True"),
    "least bits not compared": ("inextractable:parse",
        "read_number(b) == min(numbers)", "True"),
    "position before": ("inextractable:suffix_states", "prefix - 1", "prefix - 2"),
}  # fmt: skip


def test_the_checker_as_it_is(tmp_path_factory):
    assert not any(faults(tmp_path_factory))


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_bug_is_found(name, tmp_path_factory):
    place, old, new = BUGS[name]
    with planted(f"checker.{place}", old, new):
        assert any(faults(tmp_path_factory))


def test_a_checker_that_refuses_nothing_is_void(case):
    _, _, folder, truth = case
    with planted("checker.inextractable:_judge", "high < bits", "False"):
        found = check(honest(folder, exact_ranks(truth)), folder)
    assert found.verdict is cr.Verdict.VOID
    assert "control failed" in found.lines[0]
