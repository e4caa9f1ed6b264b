"""The certificate of the global minimum: end to end, tampered, resumed, and with planted bugs.

Not planted, for no false statement follows from them: another cut or another test of what is
closed (a box that is left keeps its bound, whatever it is called); another axis, order or number of
the boxes below a box, as long as they cover it; data that are not compared (what is proved is
proved of the data that are there).
"""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from flint import ctx

import copyreg_jax as cr
from copyreg_jax.certificates.global_certificate import GlobalCertificate
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.checker.box_tree import AGAIN, CLOSED, HALVED, OPEN, children
from copyreg_jax.checker.global_check import check_global
from copyreg_jax.checker.verdicts import Verdict
from tests.checker import false_global as false
from tests.checker.false_global import changed, checked, first_set, key, known, shifted
from tests.checker.global_cases import KINDS, draw, hard, near_tie, plane, write
from tests.support.mutants import planted

pytestmark = pytest.mark.usefixtures("in_silence_and_128_bits")


@pytest.fixture(scope="module")
def truths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("global")
    with np.errstate(all="ignore"), ctx.workprec(128):
        return {
            "tie": known(near_tie(), folder, "tie"),
            "plane": known(plane(), folder, "plane"),
            "stopped": known(near_tie(), folder, "stopped", max_boxes=1),
            "other": known(near_tie(gamma=0.01), folder, "other"),
        }


def null_space():
    A = np.random.default_rng(0).normal(size=(6, 1))
    wide = np.column_stack([A, 2 * A, np.zeros(6)])
    return near_tie()._replace(A=wide, b=np.full(6, 1 / 6), protected=np.arange(6) < 2,
                                     w=np.full(6, 0.1))  # fmt: skip


CASES = {
    **{f"{kind[0]} {kind[1]} d={d}": draw(10 * d + i, *kind, d=d)[0]
       for i, kind in enumerate(KINDS) for d in (1, 2)},
    "three columns": draw(5, "joint", "squared", d=3)[0],
    "no protection": draw(6, "joint", "squared", d=2)[0]._replace(gamma=0.0),
    "null space": null_space(),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_search_proves_is_proved_again(name, tmp_path):
    truth = known(CASES[name], tmp_path, "case")
    found, said = truth.found, truth.document
    result = checked(said, truth)
    assert result.verdict is Verdict.CERTIFIED, result.lines
    assert result.direction == found.direction == said["direction"]
    assert (said["status"], len(said["minimizers"])) == ("PROVED", len(found.minimizers))
    assert not false.is_false(said, truth)
    # The file says a little less than the search, and within the gap.
    low, high = (float.fromhex(said[end]) for end in ("lower", "upper"))
    assert low <= found.lower <= found.upper == high
    unique = [each["is_unique"] for each in said["minimizers"]]
    assert unique == [each.is_unique for each in found.minimizers]


def below(part):
    def edit(document, truth):
        tree = false.tree_of(document)
        false.with_tree(document, tree[: int(part * len(tree))])

    return edit


def hostile(document, truth):
    """A chain of boxes, each looked at again: half a minute of work if it were replayed."""
    false.with_tree(document, [AGAIN] * 20_000 + [CLOSED])


def bomb(document, truth):
    false.with_tree(document, np.zeros(10**6), boxes=9)


ANY = set(Verdict)
NOT = ANY - {Verdict.CERTIFIED}
VOID, OPEN_, FALSE = {Verdict.VOID}, {Verdict.UNDECIDED}, {Verdict.REFUTED}

FORGED = {
    "lower above the least L": ("plane", key("lower", lambda v: shifted(v, 1e-4)), FALSE),
    "lower above what is proved": ("stopped", key("lower", lambda v: shifted(v, 1e-5)), NOT),
    "upper below L(x)": ("plane", key("upper", lambda v: shifted(v, -1e-12)), FALSE),
    "upper below lower": ("plane", key("upper", lambda v: shifted(v, -0.1)), FALSE),
    "a worse x": ("plane", false.worse_x, NOT),
    "x with another L": ("plane", key("x", lambda x: [shifted(v, 1e-3) for v in x]), NOT),
    "a smaller cube": ("plane", key("radius", lambda v: shifted(v, -0.5)), NOT),
    "a cube around the best point alone": ("tie", key("radius", (1e-3).hex()), NOT),
    "proved without the gap": ("stopped", key("status", "PROVED"), FALSE),
    "not proved with the gap": ("tie", key("status", "GAP"), FALSE),
    "a cube without a minimizer": ("tie", key("radius", (1e-9).hex()), VOID),
    "a set left out": ("tie", lambda d, t: d["minimizers"].pop(), OPEN_),
    "a set twice": ("tie", lambda d, t: d["minimizers"].append(d["minimizers"][0]), FALSE),
    "a set shrunk": ("tie", false.shrunk(0.2), OPEN_),
    "a set moved": ("tie", false.moved, NOT),
    "one set with two minimizers": ("tie", false.joined, OPEN_),
    "a set nearer than it is": (
        "stopped", first_set(radius=lambda r: [shifted(v, -0.3) for v in r]), OPEN_),
    "a set around its corner": ("stopped", false.cornered, OPEN_),
    "a set around another x": (
        "plane", first_set(x=lambda x: [shifted(v, 1e-3) for v in x]), OPEN_),
    "a set with a bound too high": ("tie", first_set(lower=lambda v: shifted(v, 1e-3)), OPEN_),
    "the margin of a set": ("tie", first_set(margin=false.narrow), NOT),
    "the mass of a set": ("tie", first_set(protected_mass=false.narrow), NOT),
    "the margin": ("plane", key("margin", false.narrow), NOT),
    "the direction": ("plane", key("direction", false.flip), FALSE),
    "a direction that is not proved": ("stopped", key("direction", false.flip), NOT),
    "another direction of a stopped search": (
        "stopped", key("direction", "suppressed"), NOT),
    "another V": ("plane", key("V", lambda V: [[shifted(v, 0.5) for v in row] for row in V]), VOID),
    "another column": ("plane", key("columns", [0]), VOID),
    "another instance": ("tie", lambda d, t: None, VOID),
    "a wide gap": ("tie", key("gap", (0.5).hex()), ANY),
    "a narrow gap": ("tie", key("gap", (1e-15).hex()), NOT),
    "a leaf opened": ("plane", changed(lambda t: t == CLOSED, lambda v: OPEN), ANY),
    "an open leaf closed": ("stopped", changed(lambda t: t == OPEN, lambda v: CLOSED), ANY),
    "another axis": ("plane", changed(lambda t: t >= HALVED, lambda v: v ^ 2 if v & 1 else v), ANY),
    "a branch closed": ("plane", changed(lambda t: t >= HALVED, lambda v: CLOSED), VOID),
    "a leaf halved": ("plane", changed(lambda t: t == CLOSED, lambda v: HALVED), VOID),
    "no such axis": ("plane", changed(lambda t: t >= HALVED, lambda v: HALVED + 4), VOID),
    "a tree cut short": ("plane", below(0.7), VOID),
    "a tree and more": (
        "plane", lambda d, t: false.with_tree(d, [*false.tree_of(d), CLOSED]), VOID),
    "a root that is closed": ("plane", lambda d, t: false.with_tree(d, [CLOSED]), NOT),
    "a root that is open": ("tie", lambda d, t: false.with_tree(d, [OPEN]), NOT),
    "no boxes": ("plane", lambda d, t: false.with_tree(d, []), VOID),
    "more boxes than bytes": ("plane", lambda d, t: d["tree"].update(boxes=10**6), VOID),
    "more bytes than boxes": ("plane", bomb, VOID),
    "a deep tree": ("plane", hostile, VOID),
    "not base64": ("plane", lambda d, t: d["tree"].update(zlib="?"), VOID),
    "not packed": ("plane", lambda d, t: d["tree"].update(zlib="AAAA"), VOID),
    "a number as text": ("plane", key("gap", "1e-6"), VOID),
    "a negative gap": ("plane", key("gap", (-1.0).hex()), VOID),
    "ends swapped": ("plane", lambda d, t: d["minimizers"][0].update(
        lo=d["minimizers"][0]["hi"], hi=d["minimizers"][0]["lo"]), VOID),
    "no sets": ("plane", key("minimizers", []), VOID),
    "too many sets": ("plane", lambda d, t: d.update(minimizers=d["minimizers"] * 2001), VOID),
    "one key more": ("plane", lambda d, t: d.update(note="x"), VOID),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_tampered_file_is_never_certified_with_a_false_statement(name, truths):
    base, edit, expected = FORGED[name]
    truth = truths[base]
    document = copy.deepcopy(truth.document)
    edit(document, truth)
    other = truths["other"].path if name == "another instance" else None
    result = checked(document, truth, other)
    assert result.verdict in expected, result.lines
    assert all("\n" not in line for line in result.lines)
    if result.verdict is Verdict.CERTIFIED:
        assert not false.is_false(document, truth)
    if result.verdict is Verdict.VOID:
        assert len(result.lines) == 1


BLAMED = {
    "another V": "V belongs to other data",
    "a cube without a minimizer": "the cube is too small: all boxes were excluded",
    "no boxes": "boxes is not a number from 1 to ",
}


@pytest.mark.parametrize("name", BLAMED)
def test_a_file_is_blamed_for_what_is_wrong_in_it(name, truths):
    truth, document = truths[FORGED[name][0]], copy.deepcopy(truths[FORGED[name][0]].document)
    FORGED[name][1](document, truth)
    assert BLAMED[name] in checked(document, truth).lines[0]


def test_a_set_that_cuts_through_what_is_left_has_the_bound_of_that(truths):
    document = copy.deepcopy(truths["tie"].document)
    false.shrunk(0.5)(document, truths["tie"])
    document["minimizers"][0]["lower"] = (1e300).hex()
    lines = [v for v in checked(document, truths["tie"]).lines if "set 0: L >= 1.0" in v]
    assert [line.split()[0] for line in lines] == ["UNDECIDED"]


def test_random_bytes_lose_no_minimizer():
    assert not any(false.tree_faults(range(24)))


BUGS = {
    "halving loses a sliver": ("box_tree:halves", "np.stack([lo, right], axis=1)",
        "np.stack([lo, right + 0.05 * (hi - right)], axis=1)"),
    "a bound above L is wanted of what is kept": ("box_tree:Looked.is_left",
        "~(self.bound > value)", "self.bound > value"),
    "nearly nothing left is nothing": ("box_tree:look",
        "lo[here] > hi[here]", "lo[here] > hi[here] - 0.1"),
    "what is kept is dropped": ("box_replay:replay",
        "looked.is_left(value)", "looked.is_left(cut)"),
    "closed leaves are believed": ("box_replay:replay",
        "alive & (bytes_ <= OPEN)", "alive & (bytes_ == OPEN)"),
    "nearly empty boxes are empty": ("box_replay:replay",
        "(lo > hi).any(axis=1)", "(lo > hi - 0.5).any(axis=1)"),
    "a child is lost": ("box_replay:_below", "np.repeat(alive, numbers)",
        "np.repeat(alive, numbers) & (np.arange(numbers.sum()) % 3 > 0)"),
    "boxes that are not closed in the end are lost": ("box_replay:_repaired",
        "parts.append(lost)", ""),
    "halves that are closed are lost": ("box_replay:_repaired", "parts.append(kept)", ""),
    "half of the radius": ("box_tree:least_radius", "2 * (arb(value) - least_loss(chart.data))",
        "0.5 * (arb(value) - least_loss(chart.data))"),
    "a hull of one": ("enclosures:hulls", "np.maximum(one[1], other[1])", "one[1]"),
    "any lower bound": ("global_check:_lower", "claimed <= proved", "claimed <= best"),
    "any upper bound": ("global_check:_at_x", "at_most(at_point(data, Balls(bits), said.x).value, "
        "said.upper)", "Verdict.CERTIFIED"),
    "some are enough": ("global_check:_test", "inside.any(axis=1).all()", "inside.any()"),
    "sets may meet": ("global_check:_are_apart", "_meet(sets, sets)", "np.eye(len(sets.lower))"),
    "all sets are convex": ("global_check:_on_set", "bool(sets.is_convex[i])", "True"),
    "one end of an interval": ("global_check:_within",
        "said.lower <= low and high <= said.upper", "said.lower <= low"),
    "any bound of a set": ("global_check:_test", "bound >= each.lower", "True"),
    "one corner of a set": ("enclosures:reaches", "between(*ends)", "arb(ends[0])"),
    "a direction by negation": ("enclosures:mass_direction",
        "all(v < target for v in map(arb, masses.hi.tolist()))",
        "not all(v > target for v in map(arb, masses.lo.tolist()))"),
    "any gap": ("global_check:is_within_gap",
        "arb(high) - arb(low) <= arb(gap) * max(high, LEAST_SCALE)", "True"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name, truths):
    place, old, new = BUGS[name]

    def search():
        if place.startswith(("box_", "enclosures:hulls")):
            yield from false.tree_faults(range(12))
        yield from false.file_faults(truths, FORGED)
        yield from false.tree_faults(range(12, 100))

    with planted(f"checker.{place}", old, new):
        assert any(search())


def test_a_bound_that_is_wrong_makes_the_check_void(truths):
    bound = "bound * (1 - 2 * UNIT) - LOST"
    with planted("checker.boxes:Boxes.value_bound", bound, f"1 + {bound}"):
        result = checked(truths["plane"].document, truths["plane"])
    assert result.verdict is Verdict.VOID
    assert "the control failed: L is below its bound" in result.lines[0]


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("box_tree:stripped", "return lo, hi", "return lo - 1e-14 * abs(lo), hi + 1e-14 * abs(hi)"),
        ("boxes:Boxes.value_bound", "bound * (1 - 2 * UNIT)", "bound * (1 - 2.0**-42)"),
        (
            "box_derivatives:Curvature.value_bound",
            "(least - error[:, 0] * (1 + rounding) - size)",
            "(least - error[:, 0] * (1 + rounding) - size - 1e-12)",
        ),
    ],
)
def test_a_machine_that_rounds_otherwise_proves_the_same(place, old, new, truths):
    """The gap of 1e-6 leaves a hundredth, 1e-8 of L, and this moves bounds by 1e-12 of it.

    Sets are at least 1e-12 of their place wide, and stated an eighth wider; ends move by 1e-14.
    """
    with planted(f"checker.{place}", old, new):
        for name in ("tie", "plane", "stopped"):
            result = checked(truths[name].document, truths[name])
            assert result.verdict is Verdict.CERTIFIED, (name, result.lines)


def test_a_box_that_is_not_closed_is_halved_until_it_is(truths):
    """Without its last level, a tree is as good as whole."""
    truth, document = truths["plane"], copy.deepcopy(truths["plane"].document)
    tree, numbers = false.tree_of(document), children(false.tree_of(document))
    start, size = 0, 1
    while numbers[start : start + size].any():
        before, start, size = (start, size), start + size, numbers[start : start + size].sum()
    cut = tree[:start].copy()
    cut[before[0] : start] = CLOSED
    false.with_tree(document, cut)
    result = checked(document, truth)
    assert result.verdict is Verdict.CERTIFIED, result.lines
    with planted("checker.box_replay:_REPAIRS", "12", "0"):
        assert checked(document, truth).verdict is Verdict.UNDECIDED


def test_a_search_goes_on_from_its_file(tmp_path):
    whole = cr.minimize_globally(hard())
    part = cr.minimize_globally(hard(), max_boxes=400)
    path = tmp_path / "global.json"
    part.certificate().save(path)
    again = cr.minimize_globally(hard(), resume=path)
    assert (part.status.name, again.status, whole.status.name) == ("GAP", whole.status, "PROVED")
    assert again.num_boxes == whole.num_boxes
    assert (again.lower, again.upper) == (whole.lower, whole.upper)
    assert [e.is_unique for e in again.minimizers] == [e.is_unique for e in whole.minimizers]
    narrower = cr.minimize_globally(hard(), gap=1e-7, resume=GlobalCertificate.load(path))
    assert narrower.gap <= 1e-7
    narrower.certificate().save(path)
    cr.save_instance(tmp_path / "i.npz", hard())
    assert check_global(path, tmp_path / "i.npz").verdict is Verdict.CERTIFIED


def test_a_gap_is_narrowed_from_a_file_that_has_no_open_box(truths):
    truth = truths["plane"]
    first = GlobalCertificate(truth.document)
    second = cr.minimize_globally(truth.path, gap=1e-9, resume=first)
    assert (first.num_open, second.status.name) == (0, "PROVED")
    assert checked(second.certificate().document, truth).verdict is Verdict.CERTIFIED


def test_what_is_no_search_of_this_problem_is_refused(truths, tmp_path):
    with pytest.raises(cr.InputError, match="the certificate is for other data"):
        cr.minimize_globally(hard(), resume=GlobalCertificate(truths["tie"].document))
    with pytest.raises(cr.InputError, match="no such file"):
        cr.minimize_globally(hard(), resume=tmp_path / "none.json")
    with pytest.raises(cr.InputError, match="resume is a int; give an earlier result"):
        cr.minimize_globally(hard(), resume=3)


def test_a_search_does_not_go_on_in_a_cube_that_may_be_too_small(truths):
    """Its minimum would be called proved, and be that of the cube."""
    truth, document = truths["tie"], copy.deepcopy(truths["tie"].document)
    key("radius", (0.9 * np.abs(truth.points).min()).hex())(document, truth)
    with pytest.raises(cr.InputError, match="cube may not hold all global minimizers"):
        cr.minimize_globally(truth.path, resume=GlobalCertificate(document))


def test_nothing_proved_is_bad_input_to_a_search_and_void_to_a_check(truths, tmp_path):
    """What no chart can be made of: L_reg does not grow along one column."""
    case = plane()
    flat = case._replace(w=np.where(np.arange(7) < 1, 0.05, 0.0))
    path = write(flat, tmp_path / "flat.npz")
    with pytest.raises(cr.InputError, match="L_reg does not bound the search"):
        cr.minimize_globally(path)
    document = copy.deepcopy(truths["plane"].document)
    document["instance"] = flat.instance().description()
    result = checked(document, truths["plane"], path)
    assert result.verdict is Verdict.VOID
    assert "L_reg does not bound the search" in result.lines[0]


def test_the_cost_is_said_before_and_can_be_limited(truths):
    truth, told = truths["plane"], []
    checked(truth.document, truth)
    path = truth.folder / "tampered.json"
    result = check_file(path, truth.path, lambda done, budget: told.append(budget.said(done)))
    number = f"{truth.document['tree']['boxes']:,}"
    assert result.verdict is Verdict.CERTIFIED
    assert told[0] == f"{number} boxes of 2 columns and 7 rows"
    assert told[-1] == f"{number} of {number} boxes done"
    refused = check_file(path, truth.path, max_boxes=5)
    assert refused.verdict is Verdict.VOID
    assert "for 5 at most; to check it all the same, give --max-boxes" in refused.lines[0]
    assert check_file(path).verdict is Verdict.VOID


def test_the_check_needs_no_jax(truths):
    truth = truths["plane"]
    checked(truth.document, truth)
    code = (
        "import sys; from copyreg_jax.checker.global_check import check_global as c;"
        f"r = c({str(truth.folder / 'tampered.json')!r}, {str(truth.path)!r});"
        "print(r.verdict.name, sorted({'jax', 'scipy', 'optax'} & {*sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[0] == "CERTIFIED []"


def test_a_certificate_is_read_as_it_was_written(truths, tmp_path):
    found = truths["tie"].found
    found.certificate().save(tmp_path / "c.json")
    read = GlobalCertificate.load(tmp_path / "c.json")
    assert read.document == json.loads((tmp_path / "c.json").read_bytes())
    assert (read.lower, read.upper) <= (found.lower, found.upper)
    assert read.margin.lower <= found.margin.lower <= found.margin.upper <= read.margin.upper
    assert repr(read).startswith("<GlobalCertificate: PROVED, min L in [")
