"""False statements about global minima: tampered files, and trees in which a minimizer is lost."""

import base64
import copy
import functools
import itertools
import math
import zlib
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
from flint import arb, ctx

import copyreg_jax as cr
from copyreg_jax.checker import box_replay, box_tree
from copyreg_jax.checker.box_tree import AGAIN, CLOSED, HALVED, OPEN, Leaves, least_radius
from copyreg_jax.checker.boxes import Boxes
from copyreg_jax.checker.enclosures import hulls, parts
from copyreg_jax.checker.format import canonical
from copyreg_jax.checker.global_check import check_global
from copyreg_jax.checker.verdicts import Verdict
from tests.checker.definition import exact
from tests.checker.global_cases import KINDS, draw, ends_of_descents, exact_x, write


def lowest_points(case, number=60):
    """The chart, ends y of descents with the least value, and that value: an oracle."""
    coordinates, y, values = ends_of_descents(case, np.random.default_rng(0), number)
    return coordinates, y[values <= values.min() + 1e-12], float(values.min())


class Known(SimpleNamespace):
    """A case, its file, the document of its certificate, and what is true of it."""

    @functools.cached_property
    def at_minimizers(self):
        with ctx.workprec(300):
            return [exact(self.case, exact_x(self.chart, y.tolist())) for y in self.points]


def known(case, folder, name, **limits):
    path = write(case, folder / f"{name}.npz")
    found = cr.minimize_globally(path, **limits)
    coordinates, points, least = lowest_points(case)
    return Known(case=case, path=path, document=found.certificate().document, points=points,
                 least=least, chart=coordinates, folder=folder, found=found)  # fmt: skip


def number(text):
    return float.fromhex(text)


def is_false(document, truth):
    """Whether a document says what is not so of the case; it may say too little."""
    return any(false_bounds(document, truth)) or any(false_sets(document, truth))


def false_bounds(document, truth):
    x = [arb(number(v)) for v in document["x"]]
    low, high, radius = (number(document[name]) for name in ("lower", "upper", "radius"))
    with ctx.workprec(300):
        yield exact(truth.case, x).value > high
    yield low > truth.least  # which is an upper bound of the least value
    yield radius < np.abs(truth.points).max(axis=1).min()
    gap = Fraction(number(document["gap"])) * max(Fraction(high), Fraction(2) ** -40)
    yield (document["status"] == "PROVED") != (Fraction(high) - Fraction(low) <= gap)


def false_sets(document, truth):
    V = np.array([[number(v) for v in row] for row in document["V"]])
    sets = [Stated(each, V, document["columns"]) for each in document["minimizers"]]
    yield any(one.meets(other) for one, other in itertools.combinations(sets, 2))
    yield any(one.is_wider_than_it_says() for one in sets)
    for y, true in zip(truth.points, truth.at_minimizers, strict=True):
        # Descent ends within about 1e-7 of a minimizer: L is flat there up to its rounding.
        holds = [one for one in sets if one.has(y, 1e-6)]
        yield not holds
        yield any(one.lower > truth.least for one in holds)
        yield any(outside(true.protected_mass, one.masses) for one in holds)
        for margin in (document["margin"], *(one.margin for one in holds)):
            yield outside(true.margin, margin)
        yield document["direction"] == "suppressed" and true.protected_mass > true.target_mass
        yield document["direction"] == "amplified" and true.protected_mass < true.target_mass
    first = truth.points[0]
    for far in truth.points[np.abs(truth.points - first).max(axis=1) > 1e-3][:1]:
        yield any(one.is_unique and one.has(far, 0) and one.has(first, 0) for one in sets)


def outside(ball, interval):
    """Beyond the error of a point that is near a minimizer."""
    return bool(ball < number(interval[0]) - 1e-6) or bool(ball > number(interval[1]) + 1e-6)


class Stated:
    """A set of a document, its numbers exact."""

    def __init__(self, said, V, columns):
        for name in ("lo", "hi", "x", "radius"):
            setattr(self, name, [Fraction(number(v)) for v in said[name]])
        self.V, self.columns = V, columns
        self.lower, self.is_unique = number(said["lower"]), said["is_unique"]
        self.margin, self.masses = said["margin"], said["protected_mass"]

    def has(self, y, tolerance):
        pairs = zip(self.lo, y.tolist(), self.hi, strict=True)
        return all(lo - tolerance <= v <= hi + tolerance for lo, v, hi in pairs)

    def meets(self, other):
        pairs = zip(self.lo, self.hi, other.lo, other.hi, strict=True)
        return all(a <= d and c <= b for a, b, c, d in pairs)

    def is_wider_than_it_says(self):
        for y in itertools.product(*zip(self.lo, self.hi, strict=True)):
            at = dict.fromkeys(range(len(self.x)), Fraction(0))
            for j, row in zip(self.columns, self.V.tolist(), strict=True):
                at[j] = sum(Fraction(v) * t for v, t in zip(row, y, strict=True))
            if any(abs(at[j] - self.x[j]) > r for j, r in enumerate(self.radius)):
                return True
        return False


def checked(document, truth, instance=None):
    """The result of the checker on a document, whose digest is right."""
    path = truth.folder / "tampered.json"
    path.write_bytes(canonical(document))
    return check_global(path, truth.path if instance is None else instance)


# Edits of documents. Each takes a copy and what is known, and changes the copy.


def shifted(text, relative=0.0, absolute=0.0):
    return (number(text) * (1 + relative) + absolute).hex()


def tree_of(document):
    return np.frombuffer(zlib.decompress(base64.b64decode(document["tree"]["zlib"])), np.uint8)


def with_tree(document, tree, boxes=None):
    tree = np.asarray(tree, np.uint8)
    packed = base64.b64encode(zlib.compress(tree.tobytes())).decode()
    document["tree"] = {"boxes": len(tree) if boxes is None else boxes, "zlib": packed}


def changed(where, new):
    def edit(document, truth):
        tree = tree_of(document).copy()
        at = int(np.flatnonzero(where(tree))[0])
        tree[at] = new(tree[at])
        with_tree(document, tree)

    return edit


def worse_x(document, truth):
    """Another x with the L that it has, and a lower bound between that and the least L."""
    document["x"] = [shifted(v, 0.2, 0.05) for v in document["x"]]
    with ctx.workprec(128):
        value = exact(truth.case, [arb(number(v)) for v in document["x"]]).value
        high = float(value.upper()) * (1 + 1e-12)
    document["upper"], document["lower"] = high.hex(), (0.99 * truth.least + 0.01 * high).hex()
    document["gap"], document["radius"] = (1.0).hex(), shifted(document["radius"], 4)
    # All else is true: the one set is as large as the cube, and nothing is said of it.
    V, size = document["V"], number(document["radius"])
    far = [(sum(abs(number(v)) for v in row) * 1.01 * size).hex() for row in V]
    nothing = {name: ["-inf", "inf"] for name in ("margin", "protected_mass")}
    document["minimizers"] = [
        {
            **nothing,
            "lo": [(-size).hex()] * len(V),
            "hi": [size.hex()] * len(V),
            "x": [(0.0).hex()] * len(V),
            "radius": far,
            "is_unique": False,
            "lower": (0.0).hex(),
        }
    ]
    document["margin"], document["direction"] = nothing["margin"], "undecided"


def cornered(document, truth):
    """A set around its lowest corner, of a case of one column."""
    each, V = document["minimizers"][0], number(document["V"][0][0])
    low, high = (number(each[end][0]) for end in ("lo", "hi"))
    each["x"], each["radius"] = [(V * low).hex()], [(0.5 * abs(V) * (high - low)).hex()]


def first_set(**edits):
    def edit(document, truth):
        each = document["minimizers"][0]
        for name, change in edits.items():
            each[name] = change(each[name])

    return edit


def shrunk(part):
    """A smaller box, its numbers around another middle."""

    def edit(document, truth):
        each = document["minimizers"][0]
        lo, hi = ([number(v) for v in each[name]] for name in ("lo", "hi"))
        each["hi"] = [(a + part * (b - a)).hex() for a, b in zip(lo, hi, strict=True)]

    return edit


def moved(document, truth):
    each = document["minimizers"][0]
    for name in ("lo", "hi"):
        each[name] = [shifted(v, 0, 1e-3) for v in each[name]]


def joined(document, truth):
    """One hull of all sets, said to have one minimizer; of a case of one column."""
    sets, V = document["minimizers"], number(document["V"][0][0])
    low = min(number(each["lo"][0]) for each in sets)
    high = max(number(each["hi"][0]) for each in sets)
    document["minimizers"] = [
        {
            **sets[0],
            "lo": [low.hex()],
            "hi": [high.hex()],
            "x": [(0.0).hex()],
            "radius": [(1.01 * abs(V) * max(-low, high)).hex()],
            "is_unique": True,
            "margin": ["-inf", "inf"],
            "protected_mass": ["-inf", "inf"],
        }
    ]
    document["margin"], document["direction"] = ["-inf", "inf"], "undecided"


def narrow(pair):
    low, high = map(number, pair)
    return [pair[0], (low + 1e-5 * (high - low) - 1e-5).hex()]


def key(name, change):
    def edit(document, truth):
        document[name] = change(document[name]) if callable(change) else change

    return edit


def flip(way):
    return {"suppressed": "amplified", "amplified": "suppressed"}.get(way, "suppressed")


# What is proved of trees, whatever they are.


def random_tree(rng, d, most=60):
    tree, size = [], 1
    while size:
        p = [0.25, 0.1, 0.15, 0.5] if len(tree) + size < most else [0.7, 0.3, 0, 0]
        kinds = rng.choice([CLOSED, OPEN, AGAIN, HALVED], size, p=p)
        level = [int(k + (k == HALVED) * rng.integers(2 * d)) for k in kinds]
        tree += level
        size = sum(box_tree.children(np.array(level)))
    return np.array(tree, np.uint8)


def tree_faults(seeds):
    """True where a minimizer is in none of the leaves of a tree, or in no hull of them."""
    for seed in seeds:
        case, rng = draw(seed, *KINDS[seed % 4], d=1 + seed % 2)
        coordinates, points, least = lowest_points(case, 12)
        y = rng.standard_normal(coordinates.d) * 10.0 ** rng.uniform(-1, 3)
        value = Boxes(coordinates, y[None], y[None]).value_at_center.hi[0]
        if math.isfinite(value):  # a point is in the level set that it is on
            yield least_radius(coordinates, float(value)) < np.abs(y).max()
        radius = least_radius(coordinates, least) * (1 + rng.random())
        off = 1e-6 * np.abs(points).max() + 1e-9
        for gap in (1e-6, 0.5):
            tree = random_tree(rng, coordinates.d)
            found = box_replay.replay(coordinates, tree, radius, least, gap)
            joined = hulls(parts(coordinates, found.leaves))
            for lo, hi in ((found.leaves.lo, found.leaves.hi), joined[:2]):
                inside = (lo[None] - off <= points[:, None]) & (points[:, None] <= hi[None] + off)
                yield not inside.all(axis=2).any(axis=1).all()
        lo = rng.uniform(-1, 1, (12, coordinates.d))
        leaves = Leaves(lo, lo + 0.4 * rng.random(lo.shape), rng.random(12), np.arange(12))
        whole = hulls(leaves_as_found(leaves))
        within = (whole.lo[None] <= leaves.lo[:, None]) & (leaves.hi[:, None] <= whole.hi[None])
        yield not within.all(axis=2).any(axis=1).all()


def leaves_as_found(leaves):
    from copyreg_jax.checker.enclosures import Found

    return Found(leaves.lo, leaves.hi, leaves.bound)


def file_faults(truths, table):
    """True for each tampered file that is certified and says what is not so."""
    for name, (base, edit, _) in table.items():
        truth = truths[base]
        document = copy.deepcopy(truth.document)
        edit(document, truth)
        instance = truths["other"].path if name == "another instance" else None
        if checked(document, truth, instance).verdict is Verdict.CERTIFIED:
            yield is_false(document, truth if instance is None else truths["other"])
