"""Bugs in the search, planted one at a time: each loses a minimizer, or says what is not so.

Not planted, for no false statement follows: a bound of a box that its halves do not inherit where
their own is better; a worse choice of the axis, the batch or the point to descend from; fewer
starts or steps of a descent; another point beside the best value, as the result computes L there;
clusters that share no more than a face, as leaves are widened before they are joined. Slivers
between halves, hulls of one of two boxes and directions by negation are planted in
tests/checker/test_global_check.py, which runs the same functions.
"""

import functools
import itertools

import numpy as np
import pytest

from copyreg_jax.certificates import global_search
from copyreg_jax.certificates.global_minimum import GlobalStatus
from copyreg_jax.checker import box_tree
from tests.certificates.true_minimizers import faults, with_ends
from tests.checker.definition import Case
from tests.checker.global_cases import draw, ends_of_descents, near_tie, solved
from tests.support.mutants import planted

LIMITS = {"max_boxes": 4_000}


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """Few descents, and small batches: what is left for later must not be lost."""
    known()
    monkeypatch.setattr(global_search, "_NUM_STARTS", 3)
    monkeypatch.setattr(global_search, "_STEPS", 12)
    monkeypatch.setattr(box_tree, "_BATCH_NUMBERS", 200)


def far_out():
    """The minimizer has 0.9 of the norm that the level set allows: ell falls like e^-x."""
    A, b = np.array([[1.0], [0.0], [0.0]]), np.array([1.0, 0.0, 0.0])
    return Case(A, b, np.array([True, False, False]), np.full(3, 3e-5), 0.0,
                "joint", "cross-entropy")  # fmt: skip


def hardly_regularized():
    """The search starts in a box so large that logits in it are not known at all."""
    return near_tie(0.0)._replace(w=np.full(4, 1e-14))


def small():
    """The least value is far below one, so gaps relative to one are too large."""
    A = np.array([[1.0], [-1.0], [0.5], [0.0]])
    return Case(A, np.array([0.6, 0.1, 0.2, 0.1]), np.array([True, True, False, False]),
                np.full(4, 1e-3), 1e-7, "joint", "squared")  # fmt: skip


CASES = {
    "even": lambda: near_tie(0.0),
    "tilted": lambda: near_tie(1e-9),
    "far out": far_out,
    "hardly regularized": hardly_regularized,
    "small": small,
    "two columns": lambda: draw(3, "joint", "squared", d=2)[0],
    "block": lambda: draw(5, "block", "cross-entropy", d=2)[0],
}


@functools.cache
def known():
    """Global minimizers to 60 digits, by the package as it is and Newton's method in balls."""
    found = {}
    for name, make in CASES.items():
        case = make()
        coordinates, ends, values = ends_of_descents(case, np.random.default_rng(0), 24)
        near = [coordinates.x(y) for y in ends[values <= values.min() * (1 + 1e-8)]]
        found[name] = case, with_ends([], case, [sign * x for x in near for sign in (1, -1)])
    return found


def said(found, case, truth, gap):
    """True for each thing that a result says, and that is not so."""
    yield (found.status is GlobalStatus.PROVED) != (found.gap <= gap)
    yield found.gap != (found.upper - found.lower) / max(found.upper, 2.0**-40)
    yield bool(faults(case, found, truth))
    if case.A.shape[1] == 1:  # ranges of x are the sets themselves, but for rounding
        for one, other in itertools.combinations(found.minimizers, 2):
            yield bool((abs(one.x - other.x) <= one.radius + other.radius).all())


def gaps(name):
    """Gaps, the last the smallest that rounding allows: ell is a difference of logarithms."""
    return (1e-6,) if name == "far out" else (1e-6, 1e-11)


def whole(folder):
    """Of searches that end, to two gaps."""
    for name, (case, truth) in known().items():
        for gap in gaps(name):
            found = solved(case, folder, gap=gap, **LIMITS)
            yield found.status is not GlobalStatus.PROVED
            yield from said(found, case, truth, gap)


def parts(folder):
    """Of searches that stop and go on, and of one that goes on to a smaller gap."""
    for name in ("even", "far out", "two columns"):
        case, truth = known()[name]
        found = None
        for max_boxes in (1, 2, 10, 4_000, 1):
            before = found
            found = solved(case, folder, max_boxes=max_boxes, resume=before)
            yield from said(found, case, truth, 1e-6)
            if before is not None:
                yield found.lower < before.lower or found.upper > before.upper
                yield found.num_boxes < before.num_boxes
                yield found.num_boxes > before.num_boxes + max_boxes + 1_023
        yield found.status is not GlobalStatus.PROVED
        first = solved(case, folder, gap=0.3, **LIMITS)
        yield from said(first, case, truth, 0.3)
        second = solved(case, folder, gap=gaps(name)[-1], resume=first, **LIMITS)
        yield second.status is not GlobalStatus.PROVED
        yield from said(second, case, truth, gaps(name)[-1])


def extremes(folder):
    """Of boxes that are enclosed together, and of those that can't be halved."""
    with planted("checker.enclosures:_MOST_CLUSTERED", "2_000", "1"):
        for name in ("even", "two columns"):
            case, truth = known()[name]
            yield from said(solved(case, folder, **LIMITS), case, truth, 1e-6)
    for name, gap in (("even", 1e-18), ("far out", 1e-9)):
        case, truth = known()[name]
        yield from said(solved(case, folder, gap=gap, **LIMITS), case, truth, gap)


def is_found(folder):
    """Whether a search says something false, or finds that its bounds are wrong."""
    try:
        return any(itertools.chain(parts(folder), extremes(folder), whole(folder)))
    except RuntimeError:
        return True


def test_a_search_says_nothing_false(tmp_path):
    assert not is_found(tmp_path)


SEARCH = {
    "the first box is smaller": ("start", "least_radius(chart, float(values[best]))",
        "0.7 * least_radius(chart, float(values[best]))"),
    "half of the cube": ("start", "-corner", "0 * corner"),
    "kept boxes are forgotten": ("_advance", "frontier.kept.join(kept)", "kept"),
    "what is kept at once is forgotten": ("_advance",
        "stuck | (is_closed & looked.is_left(best))", "stuck"),
    "kept boxes are those above": ("_advance",
        "is_closed & looked.is_left(best)", "is_closed & ~looked.is_left(best)"),
    "boxes for later are lost": ("_advance", "later.join", "later.take(np.arange(0)).join"),
    "the first box for later is lost": ("_advance", "order[batch:]", "order[batch + 1:]"),
    "boxes that shrank are lost": ("_advance",
        "Leaves(lo[again], hi[again], bound[again], first[again])", "later.take(np.arange(0))"),
    "boxes that can't be halved are lost": ("_advance",
        "stuck | (is_closed & looked.is_left(best))", "is_closed & looked.is_left(best)"),
    "the better half alone": ("_advance", "Leaves(*two, np.repeat(bound[halve], 2), nodes)",
        "Leaves(*two, np.repeat(bound[halve], 2), nodes).take(np.arange(len(nodes)) % 2 == 0)"),
    "kept boxes do not count": ("Frontier.lower", "min(bounds)", "bounds[0]"),
    "open boxes do not count": ("Frontier.lower", "min(bounds)", "bounds[1]"),
}  # fmt: skip

TREE = {
    "a gap closes what it should keep": ("cut_at",
        "value - gap * max(value, LEAST_SCALE)", "value - 3 * gap"),
    "the cut is far below": ("cut_at", "gap * max(value, LEAST_SCALE)",
        "9 * gap * max(value, LEAST_SCALE)"),
    "strips from one side for both": ("stripped",
        "np.minimum(hi, part[1])", "np.minimum(hi, 0.5 * part[0] + 0.5 * part[1])"),
    "halves along another axis": ("halves",
        "np.stack([left, hi], axis=1)", "np.stack([left, left], axis=1)"),
}  # fmt: skip

RESULT = {
    "proved to another gap": ("_result",
        "gap * max(proved, LEAST_SCALE)", "gap * max(1.0, proved)"),
    "proved as nothing is open": ("_result",
        "proved - lower <= gap * max(proved, LEAST_SCALE)", "not len(frontier.open.bound)"),
    "a lower bound for the upper": ("_result",
        "proved_upper(chart.data, x)", "frontier.lower"),
    "open boxes are not enclosed": ("_result",
        "frontier.open.join(frontier.kept)", "frontier.kept"),
    "the margin of the first": ("_result",
        "max(e.margin.upper for e in found)", "found[0].margin.lower"),
    "kept boxes stay kept": ("_begun",
        "frontier.kept.bound < cut_at(frontier.upper, 0.99 * gap)", "frontier.kept.bound < -1"),
    "reopened boxes are lost": ("_begun", "frontier.open.join(frontier.kept.take(is_open))",
        "frontier.open"),
    "kept boxes are lost on resume": ("_begun", "frontier.kept.take(~is_open)",
        "frontier.kept.take(is_open & ~is_open)"),
}  # fmt: skip

SETS = {
    "a cluster drops the others": ("hulls", "apart.append(other)", "pass"),
    "hulls are joined once": ("hulls", "size = len(found) + 1", "size = len(found)"),
    "the hull of the middles": ("parts", "leaves.hi.max(axis=0)", "leaves.hi.min(axis=0)"),
    "the best bound of a hull": ("parts", "leaves.bound.min()", "leaves.bound.max() + 1"),
    "convex everywhere": ("on_sets", "boxes.curvature.is_convex[:len(some)]",
        "np.ones(len(some), bool)"),
    "half of the radius": ("reaches", "upper(abs(at[j] - arb(v)))",
        "0.5 * upper(abs(at[j] - arb(v)))"),
    "mass and margin of a corner": ("on_sets",
        "paired(chart, lo[some], hi[some])", "paired(chart, lo[some], lo[some])"),
}  # fmt: skip

ROOMS = {
    "certificates.global_search": SEARCH, "checker.box_tree": TREE,
    "certificates.global_minimum": RESULT, "checker.enclosures": SETS,
}  # fmt: skip
BUGS = {
    name: (f"{room}:{place}", old, new)
    for room, bugs in ROOMS.items()
    for name, (place, old, new) in bugs.items()
}
BUGS["equal bounds are left out"] = (
    "certificates.global_certificate:enclosed", "leaves.bound > value",
    "leaves.bound > leaves.bound.min()",
)  # fmt: skip


@pytest.mark.quick(6)
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_of_the_search_is_found(bug, tmp_path):
    place, old, new = BUGS[bug]
    with planted(place, old, new):
        assert is_found(tmp_path)
