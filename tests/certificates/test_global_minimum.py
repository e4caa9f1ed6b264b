"""The proved global minimum against many starts, near-ties, and its own limits."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from flint import ctx
from hypothesis import given

import copyreg_jax as cr
from copyreg_jax.certificates import global_certificate
from copyreg_jax.certificates.global_minimum import GlobalStatus
from copyreg_jax.checker import global_claim
from copyreg_jax.checker.verdicts import VoidError
from tests.checker.definition import exact
from tests.checker.global_cases import (
    KINDS,
    draw,
    ends_of_descents,
    exact_x,
    hard,
    near_tie,
    solved,
)
from tests.support.mutants import planted


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32), st.integers(1, 2))
def test_no_start_ends_below_the_proved_minimum(tmp_path_factory, kind, seed, d):
    case, rng = draw(seed, *kind, d=d)
    found = solved(case, tmp_path_factory.mktemp("case"))
    _, _, values = ends_of_descents(case, rng, 12)
    assert found.lower <= min(found.upper, values.min())
    assert found.status is GlobalStatus.PROVED
    assert found.upper <= values.min() + 1e-6 * found.upper


@pytest.mark.parametrize("tilt", [0.0, *(s * t for s in (-1, 1) for t in (1e-10, 1e-9, 1e-8))])
def test_both_minimizers_of_a_near_tie_are_enclosed_and_one_if_the_gap_is_small(tilt, tmp_path):
    case = near_tie(tilt)
    coordinates, ends, _ = ends_of_descents(case, np.random.default_rng(0), 16)
    found = solved(case, tmp_path)
    assert found.status is GlobalStatus.PROVED
    assert [e.is_unique for e in found.minimizers] == [True, True]
    assert {np.sign(e.x[0]) for e in found.minimizers} == {-1, 1}
    if abs(tilt) >= 1e-9:  # the values are about 1e-9 apart then
        sharp = solved(case, tmp_path, gap=1e-11)
        assert (sharp.status, len(sharp.minimizers)) == (GlobalStatus.PROVED, 1)
        low = values_above_the_first(case, coordinates, ends)
        assert np.sign(sharp.x[0]) == np.sign(ends[np.argmin(low), 0])


def values_above_the_first(case, coordinates, ends):
    """L at the ends less L at the first of them, in balls of 300 bits."""
    with ctx.workprec(300):
        values = [exact(case, exact_x(coordinates, y.tolist())).value for y in ends]
        return [float(v - values[0]) for v in values]


def test_a_search_goes_on_where_it_stopped():
    whole = cr.minimize_globally(hard(), max_boxes=400)
    part = cr.minimize_globally(hard(), max_boxes=1)
    counts = [part.num_boxes]
    while part.num_boxes < whole.num_boxes:
        part = cr.minimize_globally(hard(), max_boxes=1, resume=part)
        counts.append(part.num_boxes)
    assert counts == sorted(set(counts))
    assert (part.lower, part.upper, part.num_open) == (whole.lower, whole.upper, whole.num_open)


def test_a_smaller_gap_reopens_boxes(tmp_path):
    case, _ = draw(3, "joint", "squared", d=2)
    first = solved(case, tmp_path, gap=1e-2)
    second = solved(case, tmp_path, gap=1e-9, resume=first)
    assert first.status is second.status is GlobalStatus.PROVED
    assert second.gap <= 1e-9
    assert first.lower <= second.lower <= second.upper <= first.upper


def test_the_callback_and_ctrl_c_stop_a_search_and_keep_its_bound():
    told = []

    def stop(progress):
        told.append(progress)
        return len(told) == 3

    def interrupt(_):
        raise KeyboardInterrupt

    stopped = cr.minimize_globally(hard(), callback=stop)
    assert (stopped.status, len(told)) == (GlobalStatus.GAP, 3)
    assert told[0].lower <= told[1].lower <= told[2].lower <= stopped.upper
    interrupted = cr.minimize_globally(hard(), callback=interrupt)
    assert interrupted.status is GlobalStatus.GAP
    assert interrupted.num_boxes == 0
    assert interrupted.lower >= 0


def test_minimizers_along_a_null_space_are_said_once():
    A = np.random.default_rng(0).normal(size=(6, 2))
    wide = np.column_stack([A, A @ [2.0, 0.0], np.zeros(6)])
    b = np.full(6, 1 / 6)
    narrow, found = (
        cr.minimize_globally(cr.CopyrightRegression(M, b, 2, 0.01, 0.1)) for M in (A, wide)
    )
    assert (narrow.num_free, found.num_free) == (0, 2)
    assert found.upper == pytest.approx(narrow.upper, rel=1e-12)
    assert len(found.minimizers) == len(narrow.minimizers)
    for one in found.minimizers:
        assert (one.x[2:].tolist(), one.radius[2:].tolist()) == ([0, 0], [0, 0])
        assert one.radius[:2].min() > 0


def test_a_bound_that_excludes_all_boxes_is_found_out(tmp_path):
    bound = "bound * (1 - 2 * UNIT) - LOST"
    with (
        planted("checker.boxes:Boxes.value_bound", bound, f"1 + {bound}"),
        pytest.raises(RuntimeError, match="all boxes were excluded"),
    ):
        solved(near_tie(0.0), tmp_path)


def test_boxes_beyond_a_number_are_enclosed_together(tmp_path):
    case = near_tie(0.0)
    apart = solved(case, tmp_path)
    with planted("checker.enclosures:_MOST_CLUSTERED", "2_000", "1"):
        (whole,) = solved(case, tmp_path).minimizers
    assert not whole.is_unique
    assert len(apart.minimizers) == 2
    for one in apart.minimizers:
        assert abs(one.x - whole.x) <= whole.radius
        assert whole.lower <= one.lower


def test_a_search_ends_at_boxes_of_neighboring_floats(tmp_path):
    """No gap is below the rounding of L, so none of these boxes is closed by its bound."""
    found = solved(near_tie(1e-3), tmp_path, gap=1e-18)
    assert (found.status, found.num_open) == (GlobalStatus.GAP, 0)
    assert found.num_boxes < 100_000
    assert 0 < found.gap < 1e-12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gamma": 1.7e308}, "L is finite at no start"),
        ({"A": np.zeros((4, 1))}, "all logits are zero: A has no entry other than zero"),
    ],
)
def test_an_instance_without_a_finite_value_or_logits_is_refused(change, said, tmp_path):
    with pytest.raises(cr.InputError, match=said):
        solved(near_tie(0.0)._replace(**change), tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gap": 0.0}, "gap is 0.0; give a number > 0"),
        ({"gap": math.nan}, "gap is nan; give a finite number"),
        ({"max_boxes": 0}, "max_boxes is 0; give an integer >= 1"),
        ({"max_boxes": 1.5}, "max_boxes is 1.5; give an integer >= 1"),
        ({"max_seconds": -1}, "max_seconds is -1; give a number > 0"),
        ({"max_seconds": "1"}, "max_seconds is '1'; give a number > 0"),
    ],
)
def test_limits_out_of_range_are_refused(change, said):
    with pytest.raises(cr.InputError, match=said.replace(".", r"\.")):
        cr.minimize_globally(hard(), **change)


def test_other_problems_are_refused():
    found = cr.minimize_globally(hard(), max_boxes=1)
    with pytest.raises(cr.InputError, match="result of another problem"):
        cr.minimize_globally(hard(0.02), resume=found)
    with pytest.raises(cr.InputError, match="nothing is protected"):
        cr.minimize_globally(cr.SoftmaxRegression(np.eye(3), np.full(3, 1 / 3)))
    with pytest.warns(cr.NotCoerciveWarning):
        free = cr.CopyrightRegression(np.eye(3), np.full(3, 1 / 3), 1, 0.1, [1.0, 1.0, 0.0])
    with pytest.raises(cr.InputError, match="nearly dependent"):
        cr.minimize_globally(free)


def test_the_paper_s_algorithm_ends_above_the_global_minimum():
    """Lemma 13's w at gamma = 1/2: w^2 >= 8 + 200 gamma_c/gamma^3 + l/sigma_min^2, l = 1."""
    assert 41**2 >= 8 + 200 * 0.5 / 0.5**3 + 1
    problem = cr.CopyrightRegression([[1.0], [0.0]], [0.6, 0.4], 1, gamma=0.5, w=41.0)
    ended = cr.solve(problem, cr.SketchedNewton(), np.array([0.5])).raise_for_status()
    found = cr.minimize_globally(problem)
    assert found.status is GlobalStatus.PROVED
    assert [e.is_unique for e in found.minimizers] == [True]
    assert ended.value > 12 * found.upper


def test_a_tree_without_room_for_its_boxes_is_refused(tmp_path, monkeypatch):
    case = near_tie(0.0)
    found = solved(case, tmp_path)
    document = found.certificate().document
    for module in (global_certificate, global_claim):
        monkeypatch.setattr(module, "MAX_ENDS", 2)
    with pytest.raises(cr.InputError, match="has 2 boxes at most, this one would have"):
        found.certificate()
    with pytest.raises(VoidError, match="boxes is not a number from 1 to 2"):
        global_claim.parse(document)
