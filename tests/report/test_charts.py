"""Charts: what is drawn is where it should be, and ticks say where that is."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from copyreg_jax.report.charts import Axis, Series, density, draw, thin

NUMBERS = st.floats(-1e9, 1e9).map(lambda value: value if abs(value) > 1e-9 else 0.0)


def points(figure):
    """The places of the points of all series of a drawing, as shares of its sides."""
    paths = re.findall(r'<path class="(?:line|dots|squares)[^"]*" d="(.*?)"', figure)
    found = re.findall(r"[ML](-?\d+),(-?\d+)", " ".join(paths))
    return [(int(x) / 1000, 1 - int(y) / 1000) for x, y in found]


@given(st.lists(NUMBERS, min_size=1, max_size=30), st.booleans())
def test_points_are_within_the_chart_and_ordered_as_their_values(values, is_log):
    axis = Axis.around("value", values, is_log=is_log)
    steps = Axis.around("step", range(len(values)))
    figure = draw("k", [Series("a", "dots", range(len(values)), values)], steps, axis, "")
    there = [value for value in values if value > 0 or not is_log]
    places = [up for _, up in points(figure)]
    assert len(places) == len(there)
    assert all(0 <= place <= 1 for place in places)
    order = np.argsort(there, kind="stable")
    assert (np.diff(np.array(places)[order]) >= 0).all()


@given(NUMBERS, NUMBERS, st.booleans())
def test_a_tick_stands_where_its_number_is(one, other, is_log):
    """To the digits that are printed: half a unit of the last, as a share of the axis."""
    axis = Axis.around("value", [one, other], is_log=is_log)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    texts = [text for _, text in ticks]
    assert len(set(texts)) == len(texts)
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    for at, text in ticks:
        power = re.fullmatch(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text)
        value = 10.0 ** int(power[1].translate(raised)) if power else float(text.replace(",", ""))
        assert 100 * float(axis.places(value)) == pytest.approx(at, abs=0.6)
        assert -1e-6 <= at <= 100 + 1e-6


@given(st.integers(0, 10_000), st.integers(0, 100_000))
def test_what_is_counted_has_ticks_at_integers(low, number):
    ticks = Axis.around("step", [low, low + number], is_whole=True).ticks()
    counts = [int(text.replace(",", "")) for _, text in ticks]
    assert counts == sorted(set(counts))
    assert low <= counts[0] <= counts[-1] <= low + number


@given(st.lists(NUMBERS, min_size=1, max_size=300), st.integers(1, 20))
def test_thinning_keeps_ends_and_extremes(values, most):
    kept = thin(values, most)
    assert len(kept) <= 2 * most + 2
    assert {0, len(values) - 1} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    chosen = np.array(values)[kept]
    assert (chosen.min(), chosen.max()) == (min(values), max(values))


def test_what_is_not_finite_breaks_a_line():
    values = [1.0, 2.0, np.nan, np.inf, 3.0, 1.0]
    axis = Axis.around("value", values)
    figure = draw("k", [Series("a", "line", range(6), values)], Axis.around("x", [0, 5]), axis, "")
    (path,) = re.findall(r'<path class="line mark" d="(.*?)"', figure)
    assert re.sub(r"[\d,]+", "", path.replace("h0", "")) == "MLML"


@given(st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_a_density_has_a_cell_where_there_are_points(number, seed):
    """Cells are counted by a second way: points of a grid that is drawn cell by cell."""
    at = np.random.default_rng(seed).random((2, number))
    axis = Axis("x", 0.0, 1.0, False)
    figure = density("k", at[0], at[1], axis, axis, "", color="mark")
    cells = {
        (int(x) // 25, int(y) // 25)
        for path in re.findall(r'<path class="cell.*?" d="(.*?)"', figure)
        for x, y in re.findall(r"M(\d+),(\d+)", path)
    }
    assert cells == {(int(40 * x), 39 - int(40 * y)) for x, y in at.T}
