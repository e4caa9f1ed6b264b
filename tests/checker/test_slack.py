"""Slack that random instances hardly need: that for a defect of the coordinates, and for rounding.

The coordinates that `chart` makes have defects of about 1e-16, which other slack covers. Here V is
multiplied by a matrix such that M = I -+ e 11^T with an e near the largest that is allowed, and the
defect is
measured anew, in balls. All that tests/checker/test_boxes.py says of boxes is tested again. And the
rows of A are moved far from zero, by the same vector: logits are large then and their differences
are not, so their roundings count.

Not planted: sums over rows that are taken as exact. The terms have slack of 2^-47 each, which is
more than the sum of some rows can lose.
"""

import dataclasses
import itertools
from unittest import mock

import numpy as np
import pytest
from flint import arb, arb_mat, ctx

from copyreg_jax.certificates.global_search import start
from copyreg_jax.checker.arithmetic import upper
from copyreg_jax.checker.boxes import Boxes
from copyreg_jax.checker.chart import chart
from copyreg_jax.checker.linear import to_floats
from copyreg_jax.checker.theorems import least_loss
from tests.checker import test_boxes
from tests.checker.definition import exact
from tests.checker.global_cases import KINDS, draw, exact_x
from tests.checker.test_boxes import BITS, faults, lost_minimizers
from tests.support.mutants import planted

SEEDS = range(24)


pytestmark = pytest.mark.usefixtures("in_silence_and_128_bits")


def distorted(data, sign):
    """A chart whose M is I + sign e 11^T."""
    plain = chart(data)
    d, e = plain.d, 0.9 * min(2.0**-10, 0.5 / plain.d)
    V = plain.V @ (np.eye(d) + (np.sqrt(1 + sign * e * d) - 1) / d)
    A = data.A.rows(0, data.n)[:, list(plain.columns)]
    B = arb_mat(data.n, d, A.ravel().tolist()) * arb_mat(d, d, V.ravel().tolist())
    weighted = arb_mat(data.n, d, [v * data.w.tolist()[k // d] for k, v in enumerate(B.entries())])
    M = (weighted.transpose() * weighted).entries()
    defect = max(upper(abs(v - (k % (d + 1) == 0))) for k, v in enumerate(M))
    assert 0.9 * e < defect < 1.1 * e
    groups = [
        g._replace(B=to_floats(B)[g.rows], S=np.abs(to_floats(B)[g.rows]) * (1 + 2.0**-50))
        for g in plain.groups
    ]
    return dataclasses.replace(plain, V=V, groups=groups, defect=defect)


def with_a_defect(seeds):
    """True for each false statement in coordinates with a defect."""
    for seed in seeds:
        yield level_set_is_cut(draw(seed, *KINDS[seed % 4], d=1)[0])
    for seed, sign in itertools.product(seeds, (-1, 1)):
        case, rng = draw(seed, *KINDS[seed % 4])
        with mock.patch.object(test_boxes, "chart", lambda data, s=sign: distorted(data, s)):
            yield from faults(case, rng, 4)
            yield from lost_minimizers(case, rng, 4)


def level_set_is_cut(case):
    """Whether L may be below the best value outside of the first box, for one column."""
    coordinates = distorted(case.instance(), -1)
    frontier = start(coordinates)
    y = frontier.open.hi[0] * (1 + 1e-9)
    with ctx.workprec(BITS):
        (x,) = exact_x(coordinates, y.tolist())
        pairs = zip(case.w.tolist(), case.A[:, 0].tolist(), strict=True)
        growth = sum(((arb(w) * a * x) ** 2 for w, a in pairs), arb(0)) / 2
        return not bool(growth + least_loss(case.instance()) > arb(frontier.upper))


def far_rows(seeds):
    """True where f, at a point, is not as said: logits are large, and their differences are not."""
    for seed in seeds:
        case, rng = draw(seed, *KINDS[seed % 4], d=1 + seed % 2)
        A = case.A / np.abs(case.A).max()
        case = case._replace(A=A + 1e5 * rng.standard_normal(A.shape[1]))
        coordinates = chart(case.instance())
        x = rng.standard_normal((8, A.shape[1])) * 10.0 ** rng.uniform(-1, 1, (8, 1))
        y = np.linalg.solve(coordinates.V, x[:, list(coordinates.columns)].T).T
        boxes = Boxes(coordinates, y, y)
        for i in range(len(y)):
            with ctx.workprec(BITS):
                at = exact(case, exact_x(coordinates, y[i].tolist()))
            for said, there in (
                (boxes.protected_mass, at.protected_mass),
                (boxes.margin, at.margin),
                (boxes.value_at_center, at.value),
            ):
                yield bool(there < said.lo[i]) or bool(there > said.hi[i])


def test_bounds_hold_in_coordinates_with_a_defect():
    assert not any(with_a_defect(SEEDS[:4]))


def test_bounds_hold_for_rows_far_from_zero():
    assert not any(far_rows(SEEDS))


BUGS = {
    "L_reg of a box without e": ("checker.chart:Chart.least_regularization",
        "1 - self.d * self.defect - self.rounding", "1 - self.rounding"),
    "L_reg of a point without e": ("checker.chart:Chart.regularization",
        "self.d * self.defect + self.rounding", "self.rounding"),
    "e for each entry, not for d of them": ("checker.chart:Chart.least_regularization",
        "self.d * self.defect", "0.5 * self.defect"),
    "Hessians without e": ("checker.box_derivatives:Curvature._variation",
        "self.boxes.chart.defect + rounding", "rounding"),
    "gradients without e": ("checker.box_derivatives:Curvature._slope_error",
        "self.boxes.chart.defect * a.length", "0 * a.length"),
    "lower Hessians without e": ("checker.box_derivatives:Curvature._below",
        "self.boxes.chart.defect + rounding", "rounding"),
    "the level set without e": ("checker.box_tree:least_radius",
        "1 - chart.d * arb(chart.defect)", "arb(1)"),
    "logits are exact": ("checker.chart:Chart._log_softmax",
        "(2 * self.d + 8) * UNIT", "0 * UNIT"),
    "B has no size": ("checker.chart:Chart._log_softmax", "group.S", "0 * group.S"),
}  # fmt: skip


@pytest.mark.quick(2)
@pytest.mark.parametrize("bug", BUGS)
def test_a_slack_that_is_missing_is_found(bug):
    with planted(*BUGS[bug]):
        assert any(itertools.chain(far_rows(SEEDS), with_a_defect(SEEDS)))
