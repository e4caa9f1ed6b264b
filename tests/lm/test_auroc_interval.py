"""The interval of an AUROC: where its ends are, and how often it has the truth."""

import math

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from scipy.stats import beta, binom, norm

pytest.importorskip("flax")

from copyreg_jax.errors import InputError
from copyreg_jax.lm.leakage import calibration
from copyreg_jax.lm.leakage.calibration import mean_interval
from copyreg_jax.lm.leakage.membership import attack
from tests.support.mutants import planted


def chance_above(mean, number, expectation, k):
    """E max(B - k, 0) / (number mean - k) of a binomial B, term by term."""
    terms = (
        math.comb(number, j) * expectation**j * (1 - expectation) ** (number - j) * (j - k)
        for j in range(math.floor(k) + 1, number + 1)
    )
    return math.fsum(terms) / (number * mean - k)


@given(mean=st.floats(2.0**-20, 1), number=st.integers(1, 25), tail=st.sampled_from([0.025, 0.2]))
@example(mean=1.0, number=30, tail=0.025)
def test_the_lower_end_is_where_the_least_bound_is_the_tail(mean, number, tail):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "CONFIDENCE", 1 - 2 * tail)
        lower, upper = mean_interval(mean, number)
        other_upper = mean_interval(1 - mean, number)[1]
    assert 0 < lower < mean <= upper <= 1
    # A quarter of a unit is between integers too: the least bound is at an integer.
    places = [k / 4 for k in range(4 * number) if k / 4 < number * mean]
    least = min(chance_above(mean, number, lower, k) for k in places)
    # The root is right within 2^-50. The bound has a slope of number / (its smallest divisor).
    slope = number / (number * mean - max(k for k in places if k == int(k)))
    assert least == pytest.approx(tail, rel=1e-9, abs=slope * 2.0**-49)
    assert other_upper == pytest.approx(1 - lower, abs=1e-9)
    # Chernoff's bound is an exponential of the divergence.
    worst = mean * math.log(mean / lower)
    if mean < 1:
        worst += (1 - mean) * math.log((1 - mean) / (1 - lower))
    assert math.exp(-number * worst) >= tail * (1 - 1e-9)


@pytest.mark.parametrize("number", [1, 2, 9, 30])
def test_of_shares_that_are_0_or_1_the_interval_has_its_confidence(number):
    """Of those nothing has to be drawn: the number of ones is binomial."""
    ends = np.array([mean_interval(k / number, number) for k in range(number + 1)])
    assert ends[-1, 0] == pytest.approx(0.025 ** (1 / number), rel=1e-12)
    assert (ends[0, 0], ends[-1, 1]) == (0, 1)
    for expectation in np.linspace(0.01, 0.99, 99):
        inside = (ends[:, 0] <= expectation) & (expectation <= ends[:, 1])
        chances = binom.pmf(np.arange(number + 1), number, expectation)
        assert chances[inside].sum() >= 0.95
    # The shortest interval for these, with equal tails, is within.
    k = np.arange(1, number)
    assert (ends[1:-1, 0] <= beta.ppf(0.025, k, number - k + 1)).all()
    assert (ends[1:-1, 1] >= beta.ppf(0.975, k + 1, number - k)).all()


RUNS = 150

MEMBERS = {
    "one": [-1.0],
    "far apart": [-8.0, -0.1, 0.2, 7.0],
    "all below most": np.linspace(-3.2, -1.3, 30),
    "rounded": [-2.0, -1.0, -1.0, 0.0, 1.0],
}


@pytest.mark.parametrize("number", [3, 9, 30])
@pytest.mark.parametrize("kind", MEMBERS)
def test_the_interval_has_the_auroc_as_often_as_it_says(kind, number):
    """Members against normal scores, of which the members "rounded" see whole numbers."""
    rng, members = np.random.default_rng(number), np.array(MEMBERS[kind])
    others = rng.normal(size=(RUNS, number))
    below = norm.sf(members)
    if kind == "rounded":  # P(other > member) + P(other = member) / 2
        others = np.round(others)
        below = (norm.sf(members + 0.5) + norm.sf(members - 0.5)) / 2
    found = [attack(members, row) for row in others]
    covered = sum(one.lower <= below.mean() <= one.upper for one in found)
    # Of intervals that have it in 95 % of the cases or more, fewer than this have a chance of 1e-6.
    assert covered >= binom.ppf(1e-6, RUNS, 0.95)


def test_an_interval_is_no_single_point_where_all_are_told():
    found = attack(np.arange(30), 30.0 + np.arange(9))
    assert (found.auroc, found.upper) == (1, 1)
    assert found.lower == pytest.approx(0.025 ** (1 / 9), rel=1e-12)


@pytest.mark.parametrize("given", [(1.5, 3), (math.nan, 3), (0.5, 0)])
def test_what_has_no_interval_is_refused(given):
    with pytest.raises(InputError, match="give a mean from 0 to 1 and a number >= 1"):
        mean_interval(*given)


@pytest.mark.parametrize(
    ("place", "old", "new", "test"),
    [
        ("_lower_end", "np.cumsum(above[::-1])[::-1]", "np.cumsum(above)",
         "test_an_interval_is_no_single_point_where_all_are_told"),
        ("_lower_end", "(rest[below] / (total - least[below])).min()",
         "(rest[below] / (total - least[below])).max()",
         "test_an_interval_is_no_single_point_where_all_are_told"),
        ("mean_interval", "(1 - CONFIDENCE) / 2", "1 - CONFIDENCE",
         "test_an_interval_is_no_single_point_where_all_are_told"),
    ],
)  # fmt: skip
def test_planted_bugs_of_the_interval_are_found(place, old, new, test):
    with (
        planted(f"lm.leakage.calibration:{place}", old, new),
        pytest.raises((AssertionError, ValueError)),
    ):
        globals()[test]()
