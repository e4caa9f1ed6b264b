"""Tests of boxes: no bound is above L, no minimizer is lost, and a planted bug is found."""

import hypothesis.strategies as st
import numpy as np
import pytest
from flint import arb, arb_series, ctx
from hypothesis import given

from copyreg_jax.certificates.global_search import descend
from copyreg_jax.checker import box_tree, enclosures
from copyreg_jax.checker.arithmetic import Box
from copyreg_jax.checker.boxes import Boxes
from copyreg_jax.checker.chart import chart
from copyreg_jax.checker.enclosures import Found, _known, contracted, on_sets
from tests.checker.definition import exact
from tests.checker.global_cases import KINDS, draw, exact_x
from tests.support.mutants import planted

BITS = 300
SIZES = (0.0, 1e-9, 1e-4, 1e-2, 0.1, 1.0)


pytestmark = pytest.mark.usefixtures("in_silence_and_128_bits")


def value(case, coordinates, y):
    with ctx.workprec(BITS):
        return exact(case, exact_x(coordinates, y)).value


def bend(case, coordinates, y, direction):
    """Slope and curvature of L along a direction, from a power series."""
    with ctx.workprec(BITS):
        line = [arb_series([a, b], 3) for a, b in zip(y.tolist(), direction.tolist(), strict=True)]
        found = exact(case, exact_x(coordinates, line)).value
        return found[1], 2 * found[2]


def sample(case, rng, number):
    """A chart, and boxes of many sizes around points where L has its features."""
    coordinates = chart(case.instance())
    scale = 1 / np.abs(coordinates.groups[0].B).max()
    sizes = scale * 10.0 ** rng.uniform(-2, 2.5, (number, 1))
    y = rng.standard_normal((number, coordinates.d)) * sizes
    half = sizes * rng.choice(SIZES, (number, 1)) * rng.random((number, coordinates.d))
    return coordinates, Boxes(coordinates, y - half, y + half)


def low_points(rng, boxes):
    """Two points of each box: a corner or not, and about the lowest of many."""
    m, d = boxes.lo.shape
    t = rng.random((64, m, d)) * (rng.random((64, m, 1)) < 0.8)
    t = np.where(rng.random((64, m, 1)) < 0.3, np.rint(t), t)
    y = np.clip(boxes.lo + t * (boxes.hi - boxes.lo), boxes.lo, boxes.hi)
    values = [Boxes(boxes.chart, each, each).value_at_center.lo for each in y]
    lowest = np.argmin(np.nan_to_num(values, nan=np.inf), axis=0)
    return y[0], y[lowest, np.arange(m)]


def second_order(case, rng, boxes, i, y):
    """True if the Hessian at y is not within what is said of the box, along two directions."""
    coordinates, curvature, which = boxes.chart, boxes.curvature, np.array([i])
    one = Boxes(coordinates, boxes.lo[which], boxes.hi[which]).curvature
    a = rng.standard_normal(coordinates.d)
    sizes = one._sizes(a[None, None, :])
    _, curved = bend(case, coordinates, y, a)
    with ctx.workprec(BITS):
        middle = sum(
            (arb(u) * h * v for u, row in zip(a.tolist(), one.H[0].tolist(), strict=True)
             for h, v in zip(row, a.tolist(), strict=True)), arb(0))  # fmt: skip
        yield bool(abs(curved - middle) > one._variation(sizes, sizes)[0, 0])
    K, error = (v[i] for v in curvature._below)
    v = rng.choice([-1.0, 1.0], coordinates.d)
    _, curved = bend(case, coordinates, y, boxes.half[i] * v)
    rounding = 1e-13 * np.abs(K).sum()  # of v K v here: d^2 <= 9 products
    yield bool(curved < v @ K @ v - error[0] - rounding)


def missing(boxes):
    """True where bounds are no numbers, which no value contradicts.

    Measured on 6,000 draws of four boxes: all ends were finite, and so was the quadratic bound of
    two boxes of four at least. It is not where ell_1 may vanish.
    """
    for box in (boxes.value_at_center, boxes.margin, boxes.protected_mass):
        yield not np.isfinite((box.lo, box.hi)).all()
    yield not np.isfinite(boxes.value_bound).all()
    yield not np.isfinite(boxes.curvature.value_bound).any()


def faults(case, rng, number=16):
    """True for each thing that is proved of boxes, and not so at a point of them."""
    coordinates, boxes = sample(case, rng, number)
    curvature, mass = boxes.curvature, boxes.protected_mass
    direct, points = curvature.direct_strips(), low_points(rng, boxes)
    yield np.linalg.matrix_rank(case.A) != coordinates.d
    yield from missing(boxes)
    contracted = [curvature.contract(s) for s in (direct, curvature.mean_value_strips())]
    for i in range(number):
        at = value(case, coordinates, boxes.center[i].tolist())
        yield bool(at < boxes.value_at_center.lo[i]) or bool(at > boxes.value_at_center.hi[i])
        for y in (found[i] for found in points):
            with ctx.workprec(BITS):
                there = exact(case, exact_x(coordinates, y.tolist()))
            yield bool(there.value < boxes.value_bound[i])
            yield bool(there.value < curvature.value_bound[i])
            yield bool(there.margin < boxes.margin.lo[i]) or bool(there.margin > boxes.margin.hi[i])
            yield bool(there.protected_mass < mass.lo[i]) or bool(there.protected_mass > mass.hi[i])
            direction = rng.standard_normal(coordinates.d)
            _, curved = bend(case, coordinates, y, direction)
            yield bool(curvature.is_convex[i]) and bool(curved < 0)
            yield from second_order(case, rng, boxes, i, y)
            # A point that was cut off as not stationary has a gradient.
            outside = [(y < lo[i]).any() or (y > hi[i]).any() for lo, hi in contracted]
            if any(outside):
                slopes = [bend(case, coordinates, y, e)[0] for e in np.eye(coordinates.d)]
                yield all(bool(abs(slope) < 1e-40) for slope in slopes)
        # Along the strips of the gradient itself: P grad L(y) = p t - middle, up to the radius.
        y = points[0][i]
        for k, p in enumerate(direct.p[i]):
            slope, _ = bend(case, coordinates, y, p)
            with ctx.workprec(BITS):
                pairs = zip(p.tolist(), y.tolist(), boxes.center[i].tolist(), strict=True)
                along = sum((arb(a) * (arb(v) - arb(c)) for a, v, c in pairs), arb(0))
                yield bool(abs(along - direct.middle[i, k] - slope) > direct.radius[i, k])


def lost_minimizers(case, rng, number=16):
    """True for each box around a minimizer that is said to have none."""
    coordinates = chart(case.instance())
    scale = 1 / np.abs(coordinates.groups[0].B).max()
    starts = rng.standard_normal((number, coordinates.d)) * scale * 10.0 ** rng.uniform(-1, 2)
    y, _ = descend(coordinates, starts)
    curvature = Boxes(coordinates, y, y).curvature
    step = np.linalg.solve(
        curvature.H + 1e-300 * np.eye(coordinates.d), curvature.gradient[..., None]
    )
    # Newton's next step says how far the minimizer is, up to a part of the step.
    off = 4 * np.abs(step[..., 0]) + 1e-12 * scale
    half = scale * 10.0 ** rng.uniform(-3, 2, (number, 1)) * rng.random((number, coordinates.d))
    beside = rng.uniform(-1, 1, half.shape) * half
    boxes = Boxes(coordinates, y - half + beside, y + half + beside)
    curvature = boxes.curvature
    settled = (np.linalg.eigvalsh(Boxes(coordinates, y, y).curvature.H)[:, 0] > 1e-9) & (
        off.max(axis=1) < 1e-6 * scale
    )
    for strips in (curvature.direct_strips(), curvature.mean_value_strips()):
        lo, hi = curvature.contract(strips)
        yield from settled & ((y + off < lo) | (y - off > hi)).any(axis=1)


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32))
def test_what_is_proved_of_a_box_holds_at_its_points(kind, seed):
    case, rng = draw(seed, *kind)
    assert not any(faults(case, rng, 4))


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32))
def test_no_minimizer_is_lost(kind, seed):
    case, rng = draw(seed, *kind)
    assert not any(lost_minimizers(case, rng, 4))


BUGS = {
    "tangents rise too little": ("chart:Chart.ranges",
        "0.5 * (after - before)", "0.25 * (after - before)"),
    "the center for the corners": ("chart:Chart.ranges",
        "log_lo[:, 1:].min(axis=1)", "log_lo[:, :1].min(axis=1)"),
    "some corners": ("chart:Chart.ranges", "np.arange(1 << d)", "np.arange((1 << d) - 1)"),
    "others count twice": ("chart:Chart.ranges",
        "1 - others + self.rounding", "1 - 2 * others + self.rounding"),
    "too much regularization on a box": ("chart:Chart.least_regularization",
        "0.5 * squares", "0.6 * squares"),
    "too much regularization at a point": ("chart:Chart.regularization",
        '0.5 * np.einsum("mi,mi->m", y, y)', '0.51 * np.einsum("mi,mi->m", y, y)'),
    "a null space that is none": ("chart:_independent_columns",
        "range(rank)", "range(max(rank - 1, 1))"),
    "the barrier at the wrong end": ("boxes:Boxes.value_bound", "gamma / high", "gamma / low"),
    "the barrier below e": ("boxes:Boxes.value_bound", "gamma / e", "gamma / low"),
    "other rows twice": ("boxes:Boxes.value_bound", "t + other", "t + 2 * other + 0.1"),
    "the least above e at an end": ("boxes:Boxes.value_bound",
        "np.clip(np.sqrt(gamma / h), e, high)", "high"),
    "duality without its sum": ("boxes:Boxes._least_distance", "2 * c * p", "c * p"),
    "entropies upside down": ("boxes:Boxes._losses",
        "Box(-log_f[k].hi, -log_f[k].lo)", "Box(-log_f[k].lo, -log_f[k].lo)"),
    "k": ("boxes:Boxes._factors", "np.array(1 / self._h)", "np.array(0.9 / self._h)"),
    "kappa": ("boxes:Boxes._factors", "np.array(2 / self._h)", "np.array(4 / self._h)"),
    "the block's gradient": ("boxes:Boxes._slopes", "-(g * k)", "g * k"),
    "the block's curvature": ("boxes:Boxes._slopes", "-(curved * k)", "curved * k"),
    "protected rows without k": ("boxes:Boxes._slopes", "rest * H_1 + H_2", "H_1 + H_2"),
    "half of a half": ("boxes:Boxes.half",
        "np.maximum(self.hi - self.center, self.center - self.lo)", "0.3 * (self.hi - self.lo)"),
    "weights do not vary": ("box_derivatives:Curvature._variation",
        "total + (s * a.rows[k] * b.rows[k]).sum(axis=2)", "total"),
    "mean rows do not move": ("box_derivatives:Curvature._variation",
        "total + q[0] * delta[1] + q[1] * delta[0] + whole * delta[0] * delta[1]", "total"),
    "the protection term does not vary": ("box_derivatives:Curvature._variation",
        "_radius(self.kappa) * (a.g + off[0]) * far", "0 * far"),
    "middle weights for the least": ("box_derivatives:Curvature._below",
        "[r.part.s.lo for r in self.rows]", "[_middle(r.part.s) for r in self.rows]"),
    "mean rows do not move below": ("box_derivatives:Curvature._below",
        "2 * q * delta", "0 * q"),
    "no shift": ("box_derivatives:_least_quadratic", "0.5 * d * mu", "0 * mu"),
    "any point is the least": ("box_derivatives:_least_quadratic",
        "least - (np.abs(gradient) + gradient * v).sum(axis=1)", "0 * least"),
    "other coordinates stand still": ("box_derivatives:Curvature.contract",
        "parts.sum(axis=2, keepdims=True) * (1 + rounding) - parts", "0 * parts"),
    "convex in the middle": ("box_derivatives:Curvature.is_convex",
        "_eigenvalue_floor(K, 4 * self.boxes.chart.rounding)[0] > left[:, 0]",
        "left[:, 0] >= 0"),
    "slopes do not vary": ("box_derivatives:Curvature._slope_error",
        "total + (_radius(each)[:, None, :] * a.rows[k]).sum(axis=2)", "total"),
    "strips of the center's Hessian": ("box_derivatives:Curvature.mean_value_strips",
        "self._gradient_error(a, P) + self._variation(a, self._box)", "self._gradient_error(a, P)"),
    "a bound that is no number": ("boxes:Boxes.value_bound",
        "np.maximum(bound * (1 - 2 * UNIT) - LOST, 0.0)", "np.nan * bound"),
    "a quadratic bound that is no number": ("box_derivatives:Curvature.value_bound",
        "np.abs(least)", "np.nan"),
    "a margin that is no number": ("boxes:_share", "v.lo / number", "v.lo * np.nan"),
    "L_reg has half its slope": ("box_derivatives:Curvature.gradient",
        "sum(sums, start=self.boxes.center)", "sum(sums, start=0.5 * self.boxes.center)"),
}  # fmt: skip


SEEDS = dict.fromkeys((28, 56, 21, 25, 18, *range(200)))
"""Each of the first five finds a bug that no lower one does, so none waits for dozens of draws."""


@pytest.mark.quick(4)
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(bug):
    place, old, new = BUGS[bug]

    def search():
        for seed in SEEDS:
            case, rng = draw(seed, *KINDS[seed % 4])
            yield from lost_minimizers(case, rng)
            yield from faults(case, rng, 8)

    with planted(f"checker.{place}", old, new):
        assert any(search())


def test_boxes_around_minimizers_are_looked_at_in_batches(monkeypatch):
    """2,000 at once take 64 corners, n rows and d columns each; the results are the same."""
    case, rng = draw(1, *KINDS[0], d=2)
    coordinates = chart(case.instance())
    middle = rng.normal(size=(30, coordinates.d)) * 0.1
    found = Found(middle - 0.01, middle + 0.01, np.arange(30.0))
    whole = on_sets(coordinates, *found[:2]), contracted(coordinates, found)
    sizes = []

    def told(chart, lo, hi):
        sizes.append(len(lo))
        return box_tree.paired(chart, lo, hi)

    monkeypatch.setattr(enclosures, "paired", told)
    monkeypatch.setattr(box_tree, "batch_size", lambda chart: 7)
    again = on_sets(coordinates, *found[:2]), contracted(coordinates, found)
    assert max(sizes) == 7
    np.testing.assert_array_equal(again[0].is_convex, whole[0].is_convex)
    for one, other in zip(again[0][1:], whole[0][1:], strict=True):
        np.testing.assert_array_equal([one.lo, one.hi], [other.lo, other.hi])
    for one, other in zip(again[1], whole[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_end_that_is_not_known_is_infinite():
    """No largest float: that is no bound of what has none."""
    ends = np.array([np.nan, -np.inf, np.inf, 1.0])
    known = _known(Box(ends, ends))
    assert known.lo.tolist() == [-np.inf, -np.inf, -np.inf, 1.0]
    assert known.hi.tolist() == [np.inf, np.inf, np.inf, 1.0]
