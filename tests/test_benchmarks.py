"""What the benchmarks bring themselves and their numbers depend on."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flax.nnx")
pytest.importorskip("tokenizers")

import jax
import jax.numpy as jnp
from flax import nnx

from copyreg_jax.lm.corpus import tokenizer
from copyreg_jax.lm.corpus.documents import Document
from copyreg_jax.lm.corpus.rows import make_rows
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.leakage.teacher_forced import read_suffixes
from copyreg_jax.lm.leakage.windows import choose_windows
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.layers import token_nll
from copyreg_jax.lm.prepared import prepare
from copyreg_jax.neighbours.decoding import Anchored, CPDelta, CPFuse, Seen

with pytest.MonkeyPatch.context() as patch:  # as scripts have it: no longer, for other packages
    patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import copies
    import decoders
    import figure1
    import memorization_sinks
    import protection
    import unlearning


def rows_of(texts, length):
    return make_rows(tokenizer.train_tokenizer([], vocab_size=257), texts, length)


@pytest.mark.parametrize("k", [2, 3, 8])
def test_goldfish_skips_every_kth_token_by_what_is_before_it(k):
    rng = np.random.default_rng(0)
    passage = "".join(rng.choice(list("abcdefgh "), 1200))
    rows = rows_of([passage, passage, "xyz " + passage, passage], 400)
    chosen = rows.document < 3
    mask = protection.goldfish_mask(rows, chosen, k)
    assert (mask[rows.document == 3] == rows.mask[rows.document == 3]).all()
    skipped = rows.mask & ~mask
    share = skipped[rows.document == 0].sum() / 1201
    assert abs(share - 1 / k) < 5 * np.sqrt(1 / k / 1201)
    # A copy is skipped alike; so is a copy at another place, after the first tokens of a row.
    assert (skipped[rows.document == 0] == skipped[rows.document == 1]).all()
    first, moved = (skipped[rows.document == i][0] for i in (0, 2))
    assert (first[protection.CONTEXT : -4] == moved[protection.CONTEXT + 4 :]).all()
    assert not (mask & ~rows.mask).any()


def test_documents_for_unlearning_are_whole():
    texts = ["a" * 30, "b" * 3, "c" * 11, "d" * 50]
    rows = rows_of(texts, 8)
    tokens, mask = unlearning.whole_documents(rows, np.array([True, False, True, False]))
    assert tokens.shape == (2, 4, 9)
    assert mask.sum(axis=(1, 2)).tolist() == [31, 12]
    assert (tokens[0, :, 1:][mask[0]] == rows.tokens[:4, 1:][rows.mask[:4]]).all()


@pytest.fixture(scope="module")
def with_sinks():
    """A model of which 9 of 32 hidden neurons of a layer are sinks, and rows of four documents."""
    texts = ["a tale of a sailor", "of his ship", "a tale of a sailor", "and of the sea"]
    rows = memorization_sinks.with_hashes(rows_of(texts, 8), texts)
    model = GPT2(GPT2Config(257, 8, width=8, num_layers=2, num_heads=2), nnx.Rngs(0))
    return memorization_sinks.WithSinks(model, memorization_sinks.Sinks(0.28, 0.5)), rows


def test_the_sinks_of_a_document_are_chosen_by_its_text_and_shared_neurons_are_none(with_sinks):
    model, rows = with_sinks
    neurons = np.asarray(model.neurons(rows.tokens[:, 0]))
    assert neurons.shape == (len(rows.tokens), 2, 32)
    assert model.num_shared == 23
    assert neurons[..., :23].all()
    first = [np.flatnonzero(rows.document == i)[0] for i in range(4)]
    for row, document in enumerate(rows.document):  # all rows of a document, and of its copy
        assert (neurons[row] == neurons[first[document]]).all()
    assert (neurons[first[0]] == neurons[first[2]]).all()
    assert (neurons[first[0]] != neurons[first[1]]).any()
    assert (neurons[first[0], 0] != neurons[first[0], 1]).any()  # layers have their own
    many = np.asarray(model.neurons(jnp.arange(1000)))[..., 23:]
    assert abs(many.mean() - 0.5) < 5 * np.sqrt(0.25 / many.size)


def test_a_document_trains_its_own_sinks_alone(with_sinks):
    model, rows = with_sinks
    graph, params = nnx.split(model)
    row = rows.tokens[:1]

    def loss(params):
        nll = token_nll(nnx.merge(graph, params)(row[:, :-1]), row[:, 1:])
        return jnp.where(rows.mask[:1], nll, 0).sum()

    gradient = nnx.merge(graph, jax.grad(loss)(params)).model
    active = np.asarray(model.neurons(row[:, 0]))[0]
    for block, mine in zip(gradient.h, active, strict=True):
        out = np.asarray(block.mlp.c_proj.weight[...])
        assert ((out != 0).any(axis=1) == mine).all()
        into = np.asarray(block.mlp.c_fc.weight[...])
        assert ((into != 0).any(axis=0) == mine).all()
    assert not rows.mask[:, 0].any()  # the first token is no target of its document's hash
    assert (rows.tokens[:, 1:] == rows_of(["a tale of a sailor"], 8).tokens[0]).all(axis=1)[0]


def test_with_sinks_dropped_a_model_depends_on_nothing_of_them(with_sinks):
    model, rows = with_sinks
    tokens = rows.tokens[:, 1:-1]
    dropped = model.without_sinks()
    shared = jnp.broadcast_to(jnp.arange(32) < 23, (len(tokens), 2, 32))
    close = {"rtol": 0, "atol": 2**-18}  # logits are below 1; some hundred float32 sums of 2^-25
    expected = memorization_sinks.logits_of(model.model, tokens, shared)
    np.testing.assert_allclose(dropped(tokens), expected, **close)
    everything = memorization_sinks.logits_of(model.model, tokens, jnp.ones_like(shared))
    np.testing.assert_allclose(model.model(tokens), everything, **close)
    assert np.abs(everything - expected).max() > 2**-10
    changed = nnx.clone(model)
    for block in changed.model.h:
        for param, sinks in (
            (block.mlp.c_fc.weight, np.s_[:, 23:]), (block.mlp.c_fc.bias, np.s_[23:]),
            (block.mlp.c_proj.weight, np.s_[23:]),
        ):  # fmt: skip
            param.set_value(param[...].at[sinks].add(7))
    kept = [jax.tree.leaves(nnx.state(m)) for m in (changed.without_sinks(), dropped)]
    assert all((one == other).all() for one, other in zip(*kept, strict=True))
    assert np.abs(changed.model(tokens) - model.model(tokens)).max() > 2**-10


def two_models(vocab_size, context):
    """Models that are as sure of themselves as trained ones, and not of one mind."""
    config = GPT2Config(vocab_size, context, width=8, num_layers=1, num_heads=1)
    models = [GPT2(config, nnx.Rngs(seed)) for seed in (0, 1)]
    for model in models:
        model.wte.weight[...] *= 20
    return models


@pytest.mark.parametrize("rule", [CPFuse(), Anchored(0.3)])
def test_a_decoder_knows_what_it_wrote_after_its_prompt(rule):
    models, prompt = two_models(11, 12), 3
    texts = np.random.default_rng(0).integers(0, 11, (2, 9)).astype(np.int32)
    decoder = decoders.Decoder(models, rule, prompt)
    found, cache = np.asarray(decoder(texts)), decoder.empty_cache(*texts.shape)
    log_p = jax.nn.log_softmax(jnp.stack([model(texts) for model in models], axis=2))
    seen, join = [Seen.nothing(2)] * 2, jax.jit(rule)
    # Logits of at most 30, of which rounding moves some 2^-20, and with them the powers.
    close = {"rtol": 0, "atol": 1e-3}
    for at in range(prompt, texts.shape[1]):
        new = texts[:, :prompt] if at == prompt else texts[:, at - 1 : at]
        extended, cache = decoder.extend(new, cache)
        for row, text in enumerate(texts):
            own = log_p[row, at - 1]
            joined = join(own, seen[row])
            np.testing.assert_allclose(found[row, at - 1], joined.log_p, **close)
            np.testing.assert_allclose(extended[row], joined.log_p, **close)
            seen[row] = Seen(
                seen[row].log_p + own[:, text[at]], seen[row].k_bits + joined.k_bits,
                seen[row].length + 1,
            )  # fmt: skip


def toy(number=12):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh "), 110)) for _ in range(number)]
    documents = [Document(name=str(i), text=text) for i, text in enumerate(texts)]
    return prepare(documents, np.arange(number) < 5, length=128, vocab_size=257)


def test_a_model_joined_with_itself_is_audited_as_that_model():
    prepared, (model, _) = toy(), two_models(257, 128)
    both = [model, model]
    found = decoders.audit_decoder(both, CPDelta(), prepared, length=128, max_windows=3)
    nll, _ = document_losses(model, prepared.rows, len(prepared.documents))
    # Joined, they are normalized anew in float32: each of 111 log p, up to 30 nats, moves by 2^-20.
    close = {"rtol": 0, "atol": 111 * 30 * 2**-20}
    np.testing.assert_allclose(found.nll, nll, **close)
    protected = prepared.split.protected
    windows = choose_windows(
        prepared.rows, [d.text for d in prepared.documents], protected, max_windows=3
    )
    truth = read_suffixes(model, windows.tokens, prefix=50)
    assert len(truth.log_p) == 3
    np.testing.assert_allclose(found.extraction.log_p, truth.log_p, **close)


def test_each_protected_document_is_in_one_half_and_gets_copies_with_its_near_duplicates():
    clusters = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10])
    protected = clusters != 4
    drawn = copies.draw_copies(protected, clusters, seed=0)
    assert drawn[clusters == 4].tolist() == [1]
    assert drawn[0] == drawn[1]
    assert drawn[4] == drawn[5]
    _, first = np.unique(clusters, return_index=True)
    assert sorted(drawn[first[clusters[first] != 4]]) == [0, 0, 1, 1, 4, 4, 16, 16, 64, 64]
    assert (copies.draw_copies(protected, clusters, seed=1) != drawn).any()
    prepared = toy()
    one, other = protection.halves(prepared)
    protected = prepared.split.protected
    assert (one[protected] + other[protected] == protection.COPIES).all()
    assert 0 < (one[protected] > 0).sum() < protected.sum()
    assert (one[~protected] == 1).all()
    assert (other[~protected] == 1).all()


def test_the_gap_closed_is_taken_within_a_seed():
    values = {"protected_mean_substring": (100, 20, 60), "protected_mean_matched": (50, 0, 5),
              "protected_exact": (0, 0, 0), "protected_cross_entropy": (1, 5, 2)}  # fmt: skip
    arms = (protection.PLAIN, protection.LEFT_OUT, ("goldfish", "k 2"))
    rows = [
        {"seed": "0", "method": method, "knob": knob} | {k: str(v[i]) for k, v in values.items()}
        for i, (method, knob) in enumerate(arms)
    ]
    rows.append(rows[2] | {"seed": "1"})
    protection.add_gap_closed(rows)
    closed = [[row[f"gap_closed_{name}"] for name in protection.GAPS] for row in rows]
    assert closed[0] == ["0.0", "0.0", "", "0.0"]
    assert closed[1] == ["1.0", "1.0", "", "1.0"]
    assert closed[2] == ["0.5", "0.9", "", "0.25"]
    assert closed[3] == ["", "", "", ""]


def test_a_mean_over_seeds_is_of_one_arm_and_one_seed_has_no_range():
    def row(knob, seed, value):
        columns = dict.fromkeys(protection.SUMMARY, value)
        return (
            {"method": "goldfish", "knob": knob, "seed": seed} | columns | {"gap_closed_nats": ""}
        )

    rows = [row("k 2", "0", "1.0"), row("k 3", "0", "5.0"), row("k 2", "1", "2.0")]
    two, one = protection.over_seeds(rows)
    assert (two["knob"], two["seeds"], two["gap"], two["gap_half_range"]) == ("k 2", 2, 1.5, 0.5)
    assert (one["knob"], one["seeds"], one["gap"], one["gap_half_range"]) == ("k 3", 1, 5.0, "")
    assert two["gap_closed_nats"] == two["gap_closed_nats_half_range"] == ""


def test_the_gap_in_loss_of_figure_1_is_taken_within_a_share_and_a_seed():
    def row(share, gamma, seed, left_out, protected):
        return {"share": share, "gamma": gamma, "factor": "0.0", "seed": seed,
                "left_out": left_out, "protected": protected}  # fmt: skip

    rows = [
        row("0.1", "0.0", "0", "0", "4.0"), row("0.1", "0.0", "0", "1", "6.0"),
        row("0.1", "0.2", "0", "0", "4.5"), row("0.1", "0.2", "1", "0", "4.5"),
        row("0.8", "0.0", "0", "0", "3.0"), row("0.8", "0.0", "0", "1", "3.0"),
    ]  # fmt: skip
    figure1.add_gap_closed(rows)
    assert [r["gap_closed"] for r in rows] == ["0.0", "1.0", "0.25", "", "", ""]


def test_the_curve_of_copies_is_of_all_seeds():
    def row(seed, log2_p, exact, number):
        names = "seed", "arm", "copies", "log2_p", "exact", "document"
        return dict(zip(names, (seed, "target 5", number, log2_p, exact, log2_p), strict=True))

    rows = [row("0", "-4.0", "1", "16"), row("1", "-20.0", "0", "16"), row("0", "-9.0", "0", "64")]
    rows += [row("1", str(-21.0 - k), "0", "0") for k in range(9)]
    unseen, found = copies.curve(rows)  # one document has no interval
    # -20 is likelier than nine of the same seed, and has 1/10; seed 0 has none to compare with.
    assert found["memorized"] == 0.5
    # Of nine others each has eight, so a p-value of 1/9 and more.
    assert (unseen["copies"], unseen["memorized"]) == (0, 0)
    assert (found["copies"], found["documents"], found["log2_p"]) == (16, 2, -12)
    assert (found["log2_p_lower"], found["log2_p_upper"]) == (-20, -4)
    assert found["extracted"] == found["exact"] == 0.5
    assert found["exact_lower"] < 0.02  # of Clopper and Pearson: 1 - sqrt(0.975)
