"""What became of each row: `Solution.to_frame` and `Solution.plot`."""

import sys

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest

import copyreg_jax as cr
from tests.support.mutants import planted

ROWS = ["novel", "poem", "letter", "essay", "diary", "song"]
RNG = np.random.default_rng(0)
A = RNG.normal(size=(6, 2))
B = RNG.dirichlet(np.ones(6))
MASK = np.array([True, False, False, True, False, False])


@pytest.fixture(scope="module")
def solved():
    problem = cr.CopyrightRegression(pd.DataFrame(A, index=ROWS), B, MASK)
    return problem, cr.solve(problem)


@pytest.fixture
def axes():
    yield plt.subplots()[1]
    plt.close("all")


def points(axes):
    """The coordinates of the points, by the kind of row."""
    return {line.get_gid(): line.get_xydata() for line in axes.get_lines() if line.get_gid()}


def test_the_frame_has_the_rows_of_a(solved):
    problem, solution = solved
    frame = solution.to_frame(problem)
    assert frame.index.tolist() == ROWS
    assert frame.columns.tolist() == ["b", "f", "protected"]
    assert np.array_equal(frame["b"], B)
    assert np.array_equal(frame["f"], problem.f(solution.x))
    assert frame["protected"].tolist() == MASK.tolist()


def test_the_frame_is_of_the_same_library(solved):
    problem = cr.CopyrightRegression(pl.DataFrame(A), B, MASK)
    frame = cr.solve(problem).to_frame(problem)
    assert isinstance(frame, pl.DataFrame)
    assert frame.schema == {"b": pl.Float64, "f": pl.Float64, "protected": pl.Boolean}
    assert np.array_equal(frame["f"], solved[1].to_frame(solved[0])["f"])


def test_no_frame_of_arrays(solved):
    problem = cr.CopyrightRegression(A, B, MASK)
    with pytest.raises(cr.InputError, match=r"not made of a data frame.*problem.f\(solution.x\)"):
        solved[1].to_frame(problem)


def test_each_row_is_a_point(solved, axes):
    problem, solution = solved
    assert solution.plot(problem, axes) is axes
    own, f = points(axes), np.asarray(problem.f(solution.x))
    assert np.array_equal(own["protected"], np.stack([B[MASK], f[MASK]], axis=1))
    assert np.array_equal(own["others"], np.stack([B[~MASK], f[~MASK]], axis=1))
    assert axes.get_title().startswith(f"protected rows {solution.direction}: ")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["others (4)", "protected (2)", "f = b"]
    markers = {line.get_gid(): line.get_marker() for line in axes.get_lines()}
    assert markers["others"] != markers["protected"]  # told apart in print without colors


@pytest.mark.parametrize(
    ("b", "scale"),
    [(B, "log"), (np.array([0.6, 0.4, 0, 0, 0, 0]), "symlog"), (B - 0.3, "symlog")],
    ids=["positive", "zeros", "negative"],
)
def test_all_points_can_be_seen(b, scale, axes):
    problem = cr.CopyrightRegression(A, b, MASK)
    cr.solve(problem).plot(problem, axes)
    axes.figure.canvas.draw()
    assert (axes.get_xscale(), axes.get_yscale()) == (scale, scale)
    for own in points(axes).values():
        shown = axes.transAxes.inverted().transform(axes.transData.transform(own))
        assert ((shown >= 0) & (shown <= 1)).all()


def test_a_new_figure_is_one_of_pyplot(solved):
    problem, solution = solved
    axes = solution.plot(problem)
    assert plt.gca() is axes
    plt.close("all")


def test_without_protected_rows(axes):
    problem = cr.SoftmaxRegression(A, B)
    cr.solve(problem).plot(problem, axes)
    assert set(points(axes)) == {"others"}
    assert axes.get_legend().get_texts()[0].get_text() == "rows (6)"


def test_without_matplotlib(solved, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(cr.InputError, match="pip install matplotlib"):
        solved[1].plot(solved[0])


def refusal(solution, problem):
    with pytest.raises(cr.InputError) as caught:
        solution.to_frame(problem)
    return str(caught.value)


def test_another_problem_is_refused(solved):
    problem, solution = solved
    frame = pd.DataFrame(A, index=ROWS)
    other = cr.CopyrightRegression(frame, B, ~MASK)
    assert "give that one" in refusal(solution, other)
    wider = cr.CopyrightRegression(frame.assign(more=1.0), B, MASK)
    assert "x has shape (2,); A has 3 columns" in refusal(solution, wider)
    assert "problem is a DataFrame; give the problem" in refusal(solution, frame)
    batch = cr.solve_many([problem, problem])
    assert "one problem and one solution" in refusal(batch, problem)
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    assert one.to_frame(problem).index.tolist() == ROWS


def test_a_mismatch_that_is_not_looked_for_would_go_unseen(solved):
    """What `test_another_problem_is_refused` is about: f of other rows, without an error."""
    _, solution = solved
    other = cr.CopyrightRegression(pd.DataFrame(A, index=ROWS), B, ~MASK)
    comparison = "abs(own.sum() - float(solution.target_mass)) <= noise"
    with planted("solvers.fit_by_row:_columns", comparison, "True"):
        assert solution.to_frame(other)["protected"].tolist() == (~MASK).tolist()
