"""The profile by hand, and what the figures show."""

import math

import numpy as np
import pytest

from copyreg_jax.bench import profiles, tables


def rows_of(table):
    blank = tables.Row("", 9, 2, 18, "", "p", "1", tables.REACHED)
    statuses = {True: tables.REACHED, False: tables.MISSED}
    return [
        blank._replace(instance=i, method=m, seconds=abs(t), status=statuses[t > 0])
        for i, times in table.items()
        for m, t in times.items()
    ]


# Negative: it took that long and failed.
TABLE = {
    "p": {"a": 1.0, "b": 2.0, "c": 4.0},
    "q": {"a": 6.0, "b": 2.0, "c": -0.1},
    "r": {"a": 5.0, "b": -9.0, "c": 5.0},
    "s": {"a": -1.0, "b": -1.0, "c": -1.0},
}


def test_profile_by_hand():
    ratios = profiles.profile(rows_of(TABLE))
    assert list(ratios) == ["a", "b", "c"]
    np.testing.assert_array_equal(ratios["a"], [1, 1, 3, math.inf])
    np.testing.assert_array_equal(ratios["b"], [1, 2, math.inf, math.inf])
    np.testing.assert_array_equal(ratios["c"], [1, 4, math.inf, math.inf])


def test_profile_ignores_instances_that_could_not_be_made():
    gone = tables.Row("gone", None, None, None, "", "data", "", tables.MISSING)
    assert profiles.profile([gone, *rows_of(TABLE)]).keys() == {"a", "b", "c"}
    assert profiles.profile([gone]) == {}


def test_profile_figure():
    pytest.importorskip("matplotlib")
    figure = profiles.draw_profile(rows_of(TABLE))
    (axes,) = figure.axes
    lines = {line.get_gid(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["a"].get_xdata(), [1, 1, 1, 3, 6])
    np.testing.assert_array_equal(lines["a"].get_ydata(), [0, 0.25, 0.5, 0.75, 0.75])
    np.testing.assert_array_equal(lines["b"].get_ydata(), [0, 0.25, 0.5, 0.5])
    (axes,) = profiles.draw_profile([]).axes
    assert not axes.get_lines()


def test_figures_as_files(tmp_path):
    pytest.importorskip("matplotlib")
    of_a = [tables.Point("p", "a", *point) for point in ((0.2, 1e-3), (0.1, 1.0), (0.3, 1e-2))]
    points = [*of_a, tables.Point("q", "b", 0.1, 1.0)]
    (axes,) = profiles.draw_curves(points, "p").axes
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[0.1, 1], [0.2, 1e-3], [0.3, 1e-3]])
    written = profiles.write_figures(tmp_path, rows_of(TABLE), points)
    assert [path.name for path in written] == ["profile.svg", "curve-p.svg", "curve-q.svg"]
    assert all(path.read_bytes().startswith(b"<?xml") for path in written)
