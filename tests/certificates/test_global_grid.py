"""A grid in integers proves the same minimum of one column, and finds a bound that is too high."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from flint import arb, arb_series, ctx

from tests.certificates.integer_oracle import UNITS, Problem, least
from tests.checker.definition import exact
from tests.checker.global_cases import KINDS, draw, solved
from tests.support.mutants import planted


def cases(kind):
    """Random instances of one column with gamma > 0, without end."""
    for seed in itertools.count():
        case, _ = draw(seed, *kind, d=1)
        if case.gamma > 0:
            yield case


def is_contradicted(case, folder):
    """Whether the search and the grid can't both be right, or the search says that it is wrong."""
    try:
        found = solved(case, folder, gap=1e-7)
    except RuntimeError:  # no box is left
        return True
    return least(case, 1e-7).contradicts(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_in_integers_proves_the_same_minimum(kind, tmp_path):
    for case in itertools.islice(cases(kind), 6):
        assert not is_contradicted(case, tmp_path)


def test_a_bound_that_is_too_high_is_found_by_the_grid(tmp_path):
    bound = "bound * (1 - 2 * UNIT) - LOST"
    with planted("checker.boxes:Boxes.value_bound", bound, f"1.0001 * ({bound})"):
        assert any(is_contradicted(case, tmp_path) for case in itertools.islice(cases(KINDS[0]), 6))


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_slopes_of_the_grid_are_those_of_the_definition(kind):
    for case in itertools.islice(cases(kind), 4):
        problem, scale = Problem(case), float(1 / np.abs(case.A).max())
        for x in (0.0, 0.3 * scale, -5 * scale):
            value, slope = problem.value(Fraction(x)), problem.slope(Fraction(x), Fraction(x))[0]
            with ctx.workprec(300):
                at = exact(case, [arb_series([arb(x), 1], 3)]).value
                for (lo, hi), v in ((value, at[0]), (slope, at[1])):
                    assert not v < arb(lo) / UNITS
                    assert not v > arb(hi) / UNITS
                    # 160 bits less those that 1/ell_1^2 and the exponents lose.
                    assert hi - lo < UNITS >> 60


def test_a_cell_is_below_its_points():
    """The bound of a cell against L at points of it, and the slope likewise."""
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for case in itertools.islice(cases(kind), 2):
            problem, scale = Problem(case), float(1 / np.abs(case.A).max())
            for size in (0.01, 0.3, 3.0):
                p = Fraction(float(rng.normal() * scale))
                q = p + Fraction(float(size * scale))
                bound, (slope, most) = problem.bound(p, q), problem.slope(p, q)
                for t in (0, Fraction(1, 3), Fraction(7, 8), 1):
                    x = p + t * (q - p)
                    at, there = problem.slope(x, x)
                    assert problem.value(x).hi >= bound
                    assert there <= most
                    assert slope is None or (at.hi >= slope.lo and at.lo <= slope.hi)
