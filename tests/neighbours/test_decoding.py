"""Decoders against passes without a cache, and against other ways to minimize."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import copyreg_jax as cr

pytest.importorskip("flax.nnx")

from copyreg_jax.lm.models.gpt2 import GPT2Config
from copyreg_jax.lm.models.llama import LlamaConfig
from copyreg_jax.neighbours import naf
from copyreg_jax.neighbours.decoding import Anchored, CPDelta, CPFuse, Seen, generate
from tests.support.mutants import planted
from tests.support.small_models import perturbed, some_tokens

GPT2 = GPT2Config(vocab_size=101, context=24, width=16, num_layers=2, num_heads=2)
LLAMA = LlamaConfig(vocab_size=101, context=24, width=16, num_layers=2, num_heads=4,
                    num_kv_heads=2, mlp_width=24)  # fmt: skip
CONFIGS = {"gpt2": GPT2, "llama": LLAMA}
RULES = (CPDelta(), CPFuse(), Anchored(0.5))
LENGTH, PREFIX = 8, 5


def rows_without_a_cache(models, tokens):
    """Log-probabilities of the next token at each place of the texts that were written."""

    @jax.jit
    def rows(tokens):
        each = [jax.nn.log_softmax(model(tokens))[:, PREFIX - 1 : -1] for model in models]
        return jnp.stack(each, axis=1)  # (batch, m, length, outcomes)

    return rows(tokens)


def differences(config, rule, seeds=(0, 1)):
    """Logarithms and bits with and without a cache; how far they are apart.

    Logits are sums of float32 products of up to 32 terms in two layers. 1e-4 is far above their
    rounding, 32 * 6e-8 relative of sizes of 10, and far below any difference that a mistake makes.
    """
    models = [perturbed(config, seed, scale=0.3) for seed in seeds]
    prompt = some_tokens((3, PREFIX))
    found = generate(models, prompt, LENGTH, rule)
    tokens = jnp.concatenate([prompt, found.tokens], axis=1)
    rows = rows_without_a_cache(models, tokens)
    worst, run = 0.0, None if rule is None else jax.jit(rule.__call__)
    for text in range(3):
        seen = Seen.nothing(len(models))
        for t in range(LENGTH):
            token = found.tokens[text, t]
            if rule is None:
                log_p, bits = rows[text, 0, t], None
            else:
                log_p, bits = run(rows[text, :, t], seen)
                worst = max(worst, abs(float(bits - found.k_bits[text, t])))
                seen = seen._replace(k_bits=seen.k_bits + bits)
            worst = max(worst, float(log_p.max() - log_p[token]))
            seen = seen._replace(log_p=seen.log_p + rows[text, :, t, token], length=seen.length + 1)
        worst = max(worst, float(jnp.abs(seen.log_p - found.log_p[text]).max()))
    return worst


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("name", "rule"),
    [*(("gpt2", rule) for rule in (None, *RULES)), ("llama", None), ("llama", CPDelta("kl"))],
    ids=str,
)
def test_a_cache_changes_nothing(name, rule):
    """Greedy texts of one model and of two, which are the likeliest without a cache, too."""
    assert differences(CONFIGS[name], rule, (0,) if rule is None else (0, 1)) < 1e-4


def test_three_models_and_a_prompt_of_one_token():
    models = [perturbed(GPT2, seed) for seed in range(3)]
    found = generate(models, some_tokens((2, 1)), 1, CPDelta("kl"), jax.random.key(0))
    assert found.tokens.shape == found.k_bits.shape == (2, 1)
    assert found.log_p.shape == (2, 3)


BUGS = {
    "the place of the keys": ("layers:remember", "cache.place + k.shape[1]", "cache.place + 2"),
    "looking at empty room": ("layers:attend",
        "all_places[None] <= (place + own)[:, None]",
        "jnp.ones((length, k.shape[1]), bool)"),
    "the values of keys": ("layers:remember", "put(cache.values, v, cache.place, 1)",
                           "put(cache.values, k, cache.place, 1)"),
    "all positions 0": ("gpt2:GPT2.extend",
        "jax.lax.dynamic_slice_in_dim(weight, cache[0].place, tokens.shape[1])",
        "weight[: tokens.shape[1]]"),
}  # fmt: skip


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_are_found(name):
    place, old, new = BUGS[name]
    with planted(f"lm.models.{place}", old, new, compiled=True):
        assert differences(GPT2, CPDelta()) > 1e-2


@pytest.mark.slow
def test_draws_have_the_joined_distribution():
    """2,000 first tokens: the mean distance of shares from p is 1 / sqrt(2,000) at most.

    Total variation of a sample of N from V outcomes is sqrt(V / N) / 2 = 0.11 at most in the mean,
    and exceeds it by 0.1 with probability exp(-2 N 0.01) = 4e-18 (McDiarmid).
    """
    models = [perturbed(GPT2, seed) for seed in (0, 1)]
    prompt = jnp.broadcast_to(some_tokens((1, PREFIX)), (2000, PREFIX))
    found = generate(models, prompt, 1, CPDelta(), jax.random.key(1))
    rows = jnp.stack([jax.nn.log_softmax(m(prompt[:1]))[0, -1] for m in models])
    p = np.exp(CPDelta()(rows, Seen.nothing(2)).log_p)
    shares = np.bincount(found.tokens[:, 0], minlength=101) / 2000
    assert 0.5 * np.abs(shares - p).sum() < 0.21


def some_rows(seed, n=6):
    rng = np.random.default_rng(seed)
    return jnp.log(jnp.asarray(rng.dirichlet(np.ones(n), size=2)))


def kl(p, q):
    return float(np.sum(p * np.log(p / q)))


# SciPy before 1.16 says so when SLSQP steps over a bound, and goes on.
@pytest.mark.filterwarnings("ignore:Values in x were outside bounds")
def test_anchored_is_the_nearest_distribution_within_the_budget():
    """Against SLSQP on the same problem, from its own start; it stops at 1e-9, so at 1e-6 of p."""
    for seed, bits in itertools.product(range(5), (0.05, 0.3)):
        rows = some_rows(seed)
        risky, safe = np.exp(rows)
        found = scipy.optimize.minimize(
            lambda p, q=risky: kl(p, q),
            0.99 * safe + 0.01 * risky,
            bounds=[(1e-12, 1)] * len(safe),
            constraints=[
                {"type": "eq", "fun": lambda p: p.sum() - 1},
                {"type": "ineq", "fun": lambda p, q=safe, k=bits: k * math.log(2) - kl(p, q)},
            ],
            options={"ftol": 1e-13, "maxiter": 500},
            method="SLSQP",
        )
        log_p, spent = Anchored(bits)(rows, Seen.nothing(2, jnp.float64))
        assert spent <= bits
        assert kl(np.exp(log_p), risky) <= found.fun + 1e-6
        np.testing.assert_allclose(np.exp(log_p), found.x, atol=1e-3)


def test_anchored_keeps_what_is_left_and_never_spends_more():
    """One token that spends nothing, as both models agree, leaves its bits to the next."""
    rule, same, rows = Anchored(0.2), jnp.tile(some_rows(0)[:1], (2, 1)), some_rows(1)
    seen = Seen.nothing(2, jnp.float64)
    _, first = rule(same, seen)
    assert first == pytest.approx(0, abs=1e-12)
    after = seen._replace(k_bits=first, length=seen.length + 1)
    now, later = rule(rows, seen).k_bits, rule(rows, after).k_bits
    assert now <= 0.2 < later <= 0.4
    models = [perturbed(GPT2, seed) for seed in (0, 1)]
    found = generate(models, some_tokens((4, PREFIX)), 10, Anchored(0.05), jax.random.key(0))
    # Float32: ten sums of bits below 1, each within 1e-5 of its exact value.
    assert (np.asarray(found.k_bits).cumsum(axis=1) <= 0.05 * np.arange(1, 11) + 1e-4).all()


def test_anchored_at_its_ends():
    rows = some_rows(2)
    seen = Seen.nothing(2, jnp.float64)
    np.testing.assert_allclose(Anchored(50.0)(rows, seen).log_p, rows[0], atol=1e-12)
    np.testing.assert_allclose(Anchored(0.0)(rows, seen).log_p, rows[1], atol=1e-5)


def test_cp_fuse_is_the_best_of_its_grid():
    """By the definition, in plain loops."""
    grid = [2 * i / 9 for i in range(9)] + list(range(2, 11))
    for seed in range(5):
        rows = some_rows(seed)
        history = np.random.default_rng(seed).normal(scale=3, size=2) - 9
        best, costs = math.inf, {}
        for a, b in itertools.product(grid, grid):
            p = np.exp(a * np.asarray(rows[0]) + b * np.asarray(rows[1]))
            p /= p.sum()
            cost = max(
                np.sum(p * np.log(p / q)) - h for q, h in zip(np.exp(rows), history, strict=True)
            )
            costs[a, b], best = (cost, p), min(best, cost)
        found = CPFuse()(rows, Seen.nothing(2, jnp.float64)._replace(log_p=jnp.asarray(history)))
        p = np.exp(found.log_p)
        # One of those that are equally good: sums of six terms round by 1e-15.
        near = [mine for cost, mine in costs.values() if cost <= best + 1e-12]
        assert min(np.abs(p - mine).max() for mine in near) < 1e-12
        assert found.k_bits == pytest.approx(float(naf.delta_kl(found.log_p[None], rows).max()))


def test_models_that_share_no_token():
    """k is infinite, no rule makes anything up, and the anchored one stays with the safe model."""
    disjoint, seen = jnp.array([[0.0, -jnp.inf], [-jnp.inf, 0.0]]), Seen.nothing(2, jnp.float64)
    for rule in (CPDelta(), CPDelta("kl"), CPFuse()):
        assert rule(disjoint, seen).k_bits == jnp.inf
    log_p, bits = Anchored(1.0)(disjoint, seen)
    assert (log_p == disjoint[1]).all()
    assert bits == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 5, 3, None), "there are 2 models and the rule is None"),
        ((1, 5, 3, CPDelta()), "there are 1 models"),
        ((3, 5, 3, CPFuse()), "there are 3 models"),
        ((2, 5, 20, CPDelta()), "length is 20 after 5 tokens; give a number from 1 to 19"),
        ((2, 5, 0, CPDelta()), "length is 0"),
        ((2, 0, 3, CPDelta()), "at least one token"),
    ],
)
def test_bad_input_is_named(arguments, message):
    m, prefix, length, rule = arguments
    models = [perturbed(GPT2, seed) for seed in range(m)]
    with pytest.raises(cr.InputError, match=message):
        generate(models, some_tokens((1, prefix)), length, rule)


def test_vocabularies_and_tokens_have_to_fit():
    other = GPT2Config(vocab_size=50, context=24, width=16, num_layers=1, num_heads=1)
    with pytest.raises(cr.InputError, match=r"have \[50, 101\] tokens"):
        generate([perturbed(GPT2), perturbed(other)], some_tokens((1, 2)), 2, CPDelta())
    with pytest.raises(cr.InputError, match="outside"):
        generate([perturbed(GPT2)], jnp.array([[101]]), 2)
    with pytest.raises(cr.InputError, match="bits is -1"):
        Anchored(-1.0)
