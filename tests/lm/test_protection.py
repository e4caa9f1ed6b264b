"""The protection term against the formula over the whole set, and what minibatches make of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import copyreg_jax as cr
from copyreg_jax.lm.protection import (
    Estimate,
    gamma_for,
    init_estimate,
    protected_loss,
    raised_gamma,
    sum_tokens,
    weigh,
    weighted_loss,
)
from tests.support.mutants import planted

ROWS, LENGTH = 24, 6


@st.composite
def drawn(draw):
    """Losses, masks, protected rows or tokens, and gamma; anything may stand in the padding."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nll = rng.gamma(2.0, 10.0 ** draw(st.floats(-2, 1)), (ROWS, LENGTH))
    mask = rng.random((ROWS, LENGTH)) < draw(st.sampled_from([0.5, 1.0]))
    shape = draw(st.sampled_from([(ROWS,), (ROWS, LENGTH)]))
    protected = rng.random(shape) < draw(st.sampled_from([0.1, 0.5]))
    mask[0], mask[1, 0] = True, True
    protected[0], protected[1] = True, False
    nll[~mask] = draw(st.sampled_from([0.0, 1e30, np.nan, np.inf]))
    return nll, mask, protected, 10.0 ** draw(st.floats(-3, 1))


def chosen(mask, protected):
    """Which tokens are protected, by NumPy alone."""
    return mask & (protected if protected.ndim == 2 else protected[:, None])


def formula(nll, mask, protected, gamma):
    """CE + gamma / CE_1 over the whole set."""
    both = chosen(mask, protected)
    ce = jnp.sum(jnp.where(mask, nll, 0)) / mask.sum()
    return ce + gamma / (jnp.sum(jnp.where(both, nll, 0)) / both.sum())


@given(drawn())
def test_the_whole_set_as_a_batch_is_the_formula(case):
    nll, mask, protected, gamma = case
    nll = jnp.asarray(nll)

    def loss(nll):
        return protected_loss(nll, mask, protected, gamma, init_estimate())[0]

    value, gradient = jax.value_and_grad(loss)(nll)
    expected, slope = jax.value_and_grad(formula)(nll, mask, protected, gamma)
    # Sums of 144 terms of one sign, in float64 as the losses are: some eps of 2.2e-16 each.
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    size = np.abs(slope).max()
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-12 * size)
    assert (np.asarray(gradient)[~mask] == 0).all()


@given(drawn())
def test_terms_are_plain_means(case):
    nll, mask, protected, gamma = case
    _, terms = protected_loss(nll, mask, protected, gamma)
    both = chosen(mask, protected)
    means = [nll[rows].mean() for rows in (mask, both, mask & ~both)]
    found = (terms.cross_entropy, terms.protected, terms.unprotected)
    np.testing.assert_allclose(found, means, rtol=1e-6)
    np.testing.assert_allclose(terms.penalty, gamma / means[1], rtol=1e-6)
    share = both.sum() / mask.sum()
    np.testing.assert_allclose(1 - terms.weight, gamma / (share * means[1] ** 2), rtol=1e-5)


@pytest.mark.parametrize("kind", ["none protected", "all protected", "no token at all"])
def test_batches_that_lack_something(kind):
    nll, mask = np.full((2, 3), 2.0), np.ones((2, 3), bool)
    protected = np.full(2, kind == "all protected")
    if kind == "no token at all":
        mask[:] = False
    seen = Estimate(*(jnp.float32(number) for number in (30.0, 10.0, 40.0, 400.0)))
    for estimate in (None, seen):
        loss, terms = protected_loss(nll, mask, protected, 0.5, estimate)
        gradient = jax.grad(lambda z, e=estimate: protected_loss(z, mask, protected, 0.5, e)[0])(
            nll
        )
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()
        assert np.isnan(terms.protected) == (kind != "all protected")
        if kind == "none protected":
            np.testing.assert_allclose(gradient, 1 / 6, rtol=1e-6)
            assert float(terms.penalty) == pytest.approx(0 if estimate is None else 0.5 / 3)
    assert np.isnan(terms.unprotected) == (kind != "none protected")


def test_what_is_no_number_is_not_taken_for_no_protection():
    nll, mask, protected = np.full((2, 3), 2.0), np.ones((2, 3), bool), np.array([True, False])
    spoilt = Estimate(*map(jnp.float32, (np.nan, 10.0, 10.0, 100.0)))
    loss = jax.jit(lambda gamma, estimate: protected_loss(nll, mask, protected, gamma, estimate)[0])
    assert np.isfinite(loss(0.5, init_estimate()))
    assert np.isnan(loss(0.5, spoilt))
    assert np.isnan(loss(raised_gamma(spoilt, 3.0), init_estimate()))
    for gamma in (np.nan, -1.0):
        assert np.isnan(loss(gamma, init_estimate()))


def test_without_gamma_it_is_the_cross_entropy():
    nll, mask = np.zeros((2, 3)), np.ones((2, 3), bool)  # where gamma / CE_1 would be infinite
    loss, terms = protected_loss(nll, mask, np.array([True, False]), 0.0)
    assert (loss, terms.penalty, terms.weight) == (0, 0, 1)


def test_published_artifact():
    """The same fit on both sets: the paper's metric reads gamma / CE, the honest one 0.

    As published, the loss of the protected set includes the term, that of the other does not.
    """
    gamma, fit = 0.2, 0.4
    nll, mask = np.full((8, 5), fit), np.ones((8, 5), bool)
    protected = np.arange(8) < 4
    with_term, terms = protected_loss(nll[protected], mask[protected], protected[protected], gamma)
    without, _ = protected_loss(nll[~protected], mask[~protected], protected[~protected], gamma)
    assert float(with_term - without) == pytest.approx(gamma / fit)
    _, terms = protected_loss(nll, mask, protected, gamma)
    assert float(terms.protected - terms.unprotected) == pytest.approx(0, abs=1e-15)
    # Nor does an untrained model show it: the term is small where the loss is large.
    worse, _ = protected_loss(np.full((8, 5), np.log(50257.0)), mask, protected, gamma)
    assert float(worse) - np.log(50257.0) == pytest.approx(0.0185, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_nll": np.ones((4, 2), int)}, "token_nll has dtype int64"),
        # As an index, flags 0 and 1 would select other rows.
        ({"is_protected": np.array([0, 1, 1, 0])}, "is_protected has dtype int64; give booleans"),
        ({"token_mask": np.ones((4, 2), int)}, "token_mask has dtype"),
        ({"token_mask": np.ones((4, 3), bool)}, r"token_mask has shape \(4, 3\)"),
        ({"is_protected": np.ones(3, bool)}, r"is_protected has shape \(3,\); give \(4,\)"),
        ({"gamma": -0.1}, "gamma is -0.1; give a number >= 0"),
        ({"gamma": np.nan}, "gamma is nan"),
        ({"gamma": np.ones(2)}, r"gamma has shape \(2,\)"),
        ({"decay": 1.0}, r"decay is 1; give a number in \[0, 1\)"),
    ],
)
def test_bad_input(change, message):
    good = {
        "token_nll": np.ones((4, 2)), "token_mask": np.ones((4, 2), bool),
        "is_protected": np.arange(4) < 2, "gamma": 0.1,
    }  # fmt: skip
    protected_loss(**good)
    with pytest.raises(cr.InputError, match=message):
        protected_loss(**(good | change))


def log_linear(seed, rows=640, length=12):
    """Features, sizes, mask and protected rows of unlike lengths, for a model of one vector."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, length, 3))
    scale = rng.gamma(2.0, 1.0, (rows, 1))  # documents differ
    mask = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
    return features, scale, mask, rng.random(rows) < 0.1


def nll_of(theta, features, scale):
    return scale * jax.nn.softplus(jnp.asarray(features) @ theta)


def averaged(data, theta, gamma, running):
    """Mean over minibatches of 16 of the gradient."""

    @jax.jit
    def one(batch, estimate):
        def value(theta):
            nll = nll_of(theta, *batch[:2])
            return protected_loss(nll, *batch[2:], gamma, estimate if running else None)

        return jax.grad(value, has_aux=True)(theta)

    rng, estimate, gradients = np.random.default_rng(1), init_estimate(), []
    for _ in range(31):
        for rows in rng.permutation(640).reshape(-1, 16):
            gradient, terms = one([part[rows] for part in data], estimate)
            estimate = terms.estimate
            gradients.append(gradient)
    return np.mean(gradients[40:], axis=0)  # the first epoch fills the estimate


@pytest.mark.quick(1)
@pytest.mark.parametrize("seed", range(3))
def test_minibatches_of_16(seed):
    """Within 5 % with the running estimate, where 1/mean of the batch is off by far more."""
    data, theta = log_linear(seed), jnp.array([0.3, -0.5, 0.2])
    slope = jax.grad(lambda theta, gamma: formula(nll_of(theta, *data[:2]), *data[2:], gamma))
    exact, plain = (np.asarray(slope(theta, gamma)) for gamma in (0.3, 0.0))
    # Relative to the part that gamma makes: the rest is not at stake.
    running, naive = (
        np.linalg.norm(averaged(data, theta, 0.3, way) - exact) / np.linalg.norm(exact - plain)
        for way in (True, False)
    )
    assert running < 0.05
    assert naive > 0.2


WEIGH = "lm.protection:weigh"
BUGS = {
    "mean of the batch": (
        WEIGH, "share * mean", "share * _mean(sums.protected_nll, sums.num_protected)",
    ),
    "share of the recent": (WEIGH, "share * mean", "recent / sums.num_tokens * mean"),
    "squared once": (WEIGH, "penalty / (share * mean)", "penalty / share"),
    "padding counted": (
        "lm.protection:_checked", "mask & jnp.broadcast_to(of_token, nll.shape)",
        "jnp.broadcast_to(of_token, nll.shape)",
    ),
    "penalty differentiated twice": (WEIGH, "jax.lax.stop_gradient(sums)", "sums"),
}  # fmt: skip


def test_planted_bugs_in_the_loss_are_found():
    """Each is one that a reader could overlook; the formula tells them apart."""
    rng = np.random.default_rng(0)
    nll, mask = rng.gamma(2.0, 1.0, (ROWS, LENGTH)), rng.random((ROWS, LENGTH)) < 0.6
    protected = rng.random(ROWS) < 0.3
    seen = Estimate(*(jnp.float32(number) for number in (30.0, 10.0, 40.0, 400.0)))

    def outcome():
        results = []
        for estimate in (None, seen):
            value, gradient = jax.value_and_grad(
                lambda z, e=estimate: protected_loss(z, mask, protected, 0.5, e)[0]
            )(jnp.asarray(nll))
            results += [value, *gradient.ravel()]
        return np.asarray(results)

    right = outcome()
    for name, bug in BUGS.items():
        with planted(*bug):
            assert np.abs(outcome() - right).max() > 1e-3, name


def count(pair):
    """A pair of words as one number."""
    high, low = map(int, pair)
    return 2**32 * high + low


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("seen", [0, 2**24, 2**32 - 100, 10**12])
def test_counters_are_exact_however_long_the_run(seen, x64):
    """Of 10^12 tokens too, where a float32 stands still from 2^24 on; the share follows."""
    steps, mask, protected = 3000, np.ones((4, 4), bool), np.arange(16).reshape(4, 4) == 5
    with jax.enable_x64(x64):
        start = init_estimate()._replace(
            num_protected=jnp.array(divmod(seen // 5, 2**32), jnp.uint32),
            num_tokens=jnp.array(divmod(seen, 2**32), jnp.uint32),
        )

        def step(estimate, _):
            nll = jnp.ones((4, 4), jnp.float32)
            return protected_loss(nll, mask, protected, 0.3, estimate)[1].estimate, None

        end = jax.jit(lambda start: jax.lax.scan(step, start, length=steps)[0])(start)
        assert count(end.num_tokens) == seen + 16 * steps
        assert count(end.num_protected) == seen // 5 + steps
        expected = (seen // 5 + steps) / (seen + 16 * steps)
        # Two roundings of each count and one of the quotient, in float32.
        assert float(end.share) == pytest.approx(expected, rel=5 * 2**-24)


def test_counters_of_a_large_batch():
    """An odd number above 2^24, which float32 does not have."""
    ones = jnp.ones((673, 24929), jnp.float32)
    mask, protected = np.ones(ones.shape, bool), np.ones(673, bool)
    estimate = protected_loss(ones, mask, protected, 0.1)[1].estimate
    assert count(estimate.num_protected) == count(estimate.num_tokens) == 2**24 + 1


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64])
def test_counters_of_earlier_versions_go_on(kind):
    """One number each, in a loop of one's own; it is a pair from then on."""
    old = Estimate(jnp.float32(30), jnp.float32(10), jnp.asarray(kind(2**20)), kind(2**30))
    new = old._replace(
        num_protected=jnp.array([0, 2**20], jnp.uint32),
        num_tokens=jnp.array([0, 2**30], jnp.uint32),
    )
    nll, mask, protected = np.full((2, 3), 2.0), np.ones((2, 3), bool), np.array([True, False])
    (loss, terms), (expected, same) = (
        protected_loss(nll, mask, protected, 0.5, e) for e in (old, new)
    )
    assert old.share == new.share == 2.0**-10
    if np.dtype(kind).itemsize == 4:
        with jax.enable_x64(False):
            assert old.share == 2.0**-10
    assert loss == expected
    assert count(terms.estimate.num_protected) == count(same.estimate.num_protected) == 2**20 + 3
    assert count(terms.estimate.num_tokens) == 2**30 + 6


@pytest.mark.parametrize("estimate_dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("dtype", "wide"), [("float64", "float64"), ("bfloat16", "float32")])
def test_terms_have_the_dtype_of_the_losses(dtype, wide, estimate_dtype):
    """float32 at least; the estimate keeps its own, so that a loop can carry it."""
    nll = jnp.asarray(np.random.default_rng(0).gamma(2.0, 1.0, (4, 5)), dtype)
    mask, protected = np.ones((4, 5), bool), np.arange(4) < 2
    empty = init_estimate()
    empty = empty._replace(nll=empty.nll.astype(estimate_dtype))
    loss, terms = protected_loss(nll, mask, protected, 0.2, empty)
    assert {x.dtype.name for x in (loss, *terms[:-1])} == {wide}
    assert terms.estimate.nll.dtype == estimate_dtype
    mean = np.asarray(nll, np.float64)[:2].mean()
    # A sum of ten losses, a quotient, a division: some eps.
    eps = float(jnp.finfo(wide).eps)
    np.testing.assert_allclose(float(terms.penalty), 0.2 / mean, rtol=8 * eps)
    np.testing.assert_allclose(float(loss - terms.cross_entropy), 0.2 / mean, rtol=80 * eps)


@settings(max_examples=15)
@given(drawn(), st.booleans())
def test_micro_batches_add_up_to_the_batch(case, begun):
    """Sums, weight and gradient of rows of unequal length, six at a time and all at once.

    With S and S_1 the sums of losses and n the tokens of a batch, the gradient of the loss is that
    of (S + (w - 1) S_1) / n, linear in S and S_1 once the weight w and n are those of the whole.
    """
    nll, mask, protected, gamma = case
    estimate = None
    if begun:
        estimate = Estimate(*map(jnp.float64, (30.0, 10.0, 40.0, 400.0)))

    def whole(nll):
        return protected_loss(nll, mask, protected, gamma, estimate)

    (_, terms), gradient = jax.value_and_grad(whole, has_aux=True)(jnp.asarray(nll))
    cut = range(0, ROWS, 6)
    parts = [sum_tokens(nll[k : k + 6], mask[k : k + 6], protected[k : k + 6]) for k in cut]
    batch = jax.tree.map(lambda *sums: sum(sums), *parts)
    found = weigh(batch, gamma, estimate)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(terms), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)

    def part(nll, k):
        sums = sum_tokens(nll, mask[k : k + 6], protected[k : k + 6])
        return weighted_loss(sums, found.weight, batch.num_tokens)

    joined = np.concatenate([jax.grad(part)(jnp.asarray(nll[k : k + 6]), k) for k in cut])
    # Each entry is a weight over n; the sums behind the weight were added in another order.
    np.testing.assert_allclose(joined, gradient, rtol=1e-11)


def test_raised_gamma_rises_to_the_target_and_no_further():
    target, share = 4.0, 0.2
    for loss in (0.01, 0.5, 2.0, 3.9, 4.0, 9.0):
        seen = Estimate(*map(jnp.float32, (loss * 20, 20.0, 20.0, 100.0)))
        gamma = float(raised_gamma(seen, target))
        assert gamma <= gamma_for(target, share) * (1 + 1e-6)
        weight = 1 - gamma / (share * loss**2)
        assert weight >= 1 - 1.5**2 - 1e-6
        if 1.5 * loss >= target:
            assert gamma == pytest.approx(gamma_for(target, share), rel=1e-6)
    assert float(raised_gamma(init_estimate(), target)) == 0
