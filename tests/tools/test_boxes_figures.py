"""The boxes that are drawn are those of the search, and are closed for the reason that is shown."""

import collections

import jax
import numpy as np
import pytest

import boxes_figures as plots
import copyreg_jax as cr
from copyreg_jax.theory.counterexample import counterexample

pytest.importorskip("matplotlib")

PROBLEMS = {
    "d = 1": lambda: counterexample("lemma-13-descent").problem,
    "d = 2": plots._instance_2d,
}


@pytest.fixture(scope="module", params=PROBLEMS)
def search(request):
    problem = PROBLEMS[request.param]()
    return problem, *plots.closed_boxes(problem)


def sizes(boxes):
    return [float(np.prod(box.hi - box.lo)) for box in boxes]


def test_boxes_cover_the_cube_and_do_not_overlap(search):
    problem, _, boxes, _ = search
    corner = max(float(box.hi.max()) for box in boxes)
    # Faces are shared, so volumes add up to rounding: a few 1e-16 of the cube for each box.
    assert sum(sizes(boxes)) == pytest.approx((2 * corner) ** problem.d, rel=1e-12)
    rng = np.random.default_rng(0)
    for y in rng.uniform(-corner, corner, (200, problem.d)):
        assert sum(bool((box.lo < y).all() and (y < box.hi).all()) for box in boxes) == 1


def test_what_closed_a_box_is_so_at_its_points(search):
    problem, chart, boxes, cut = search
    rng = np.random.default_rng(0)
    value = jax.jit(jax.vmap(problem.value))
    for box in boxes:
        points = rng.uniform(box.lo, box.hi, (20, problem.d)) @ chart.V.T
        if box.test in ("value", "quadratic", "kept"):
            assert float(value(points).min()) >= cut
    best = cr.minimize_globally(problem)
    at = [np.linalg.solve(chart.V, e.x) for e in best.minimizers]
    for y in at:  # each in a box that is kept
        # The enclosure's middle is within 1e-11 of the minimizer, relatively.
        room = 1e-9 * max(float(box.hi.max()) for box in boxes)
        inside = [b.test for b in boxes if (b.lo - room <= y).all() and (y <= b.hi + room).all()]
        assert "kept" in inside


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "problem"), [(plots.boxes_1d, "d = 1"), (plots.boxes_2d, "d = 2")]
)
def test_all_boxes_are_drawn_in_their_style(draw, problem):
    axes = draw().axes[1]
    counts = collections.Counter()
    for part in axes.collections:
        if part.get_gid() in plots.TESTS:
            counts[part.get_gid()] += len(part.get_paths())
    _, boxes, _ = plots.closed_boxes(PROBLEMS[problem]())
    assert +counts == collections.Counter(box.test for box in boxes)


def test_styles_differ_without_color():
    """By brightness and hatching, as (R + G + B) / 3 would print them."""
    from matplotlib.colors import to_rgb

    gray = {
        name: (round(5 * np.mean(to_rgb(style["facecolor"]))), style.get("hatch"))
        for name, (_, style) in plots.TESTS.items()
    }
    assert len(set(gray.values())) == len(plots.TESTS)


def test_unsuitable_problems():
    with pytest.raises(cr.InputError, match="d = 1"):
        plots.boxes_1d(PROBLEMS["d = 2"]())
    with pytest.raises(cr.InputError, match="d = 2"):
        plots.boxes_2d(PROBLEMS["d = 1"]())
