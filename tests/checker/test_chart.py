"""Tests of coordinates: their columns, their defect, and what is refused before the work."""

import numpy as np
import pytest
from flint import arb_mat, ctx

from copyreg_jax.checker import chart as charts
from copyreg_jax.checker.chart import chart
from copyreg_jax.checker.data import make_csr
from copyreg_jax.checker.verdicts import VoidError
from tests.checker.definition import Case
from tests.checker.global_cases import KINDS, draw
from tests.checker.test_boxes import BITS
from tests.support.mutants import planted

pytestmark = pytest.mark.usefixtures("in_silence_and_128_bits")


def test_a_matrix_too_large_for_a_chart_is_refused_before_it_is_made_dense():
    """Each entry, also of a sparse matrix, becomes a ball of a hundred bytes."""
    n, d = 3, 2_000_000
    A = make_csr(np.ones(n), np.arange(n), np.arange(n + 1), np.array([n, d]))
    case = draw(0, *KINDS[0], d=1)[0].instance()
    with pytest.raises(VoidError, match="A has 6,000,000 entries, zeros too"):
        chart(case._replace(A=A))


def test_too_many_columns_are_refused_without_exact_arithmetic(monkeypatch):
    """With fractions of 53 bits it would take hours for some hundred columns, and then be refused.

    The rank of 200 random columns is that of the 127 rows.
    """
    for slow in ("arb_mat", "fmpq_mat"):
        monkeypatch.setattr(charts, slow, None)
    A = np.random.default_rng(0).normal(size=(127, 200))
    case = draw(0, *KINDS[0], d=1)[0]
    wide = case._replace(A=A, b=np.full(127, 1 / 127), protected=np.arange(127) < 9, w=np.ones(127))
    with pytest.raises(VoidError, match="A has more than 126 independent columns"):
        chart(wide.instance())


def wrong_columns():
    """True for each matrix whose columns are not those that add to the rank of the ones before."""
    rng, prime = np.random.default_rng(0), float(charts._PRIME)
    matrices = [
        rng.integers(-3, 4, (n, r)) @ rng.integers(-2, 3, (r, d)) * 2.0 ** rng.integers(-60, 60, d)
        for n, r, d in rng.integers(1, 6, (200, 3))
    ]
    # Modulo the prime these have rank 1.
    matrices += [np.diag([prime, 1.0]), np.array([[1.0, 1.0], [1.0, 1.0 + prime], [0.0, 0.0]])]
    for A in matrices:
        sizes = np.abs(A).max(axis=0)
        # Whole numbers of one digit: what is not 0 of their singular values is far above rounding.
        scaled = A / np.where(sizes > 0, sizes, 1)
        ranks = [np.linalg.matrix_rank(scaled[:, : j + 1]) for j in range(A.shape[1])]
        added = np.flatnonzero(np.diff(ranks, prepend=0)).tolist()
        yield charts._independent_columns(A) != tuple(added)


def test_columns_are_those_that_are_independent_of_the_ones_before():
    assert not any(wrong_columns())


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("_independent_columns", "rank < min(n, d, MAX_COORDINATES + 1)", "False"),
        ("_residues", "wholes * scales[which.reshape(A.shape)]", "wholes"),
    ],
)
def test_a_wrong_rank_is_found(place, old, new):
    with planted(f"checker.chart:{place}", old, new):
        assert any(wrong_columns())


def ill_conditioned(seed):
    """The coordinates of an instance with w = 1, or None if they are refused."""
    rng = np.random.default_rng(seed)
    n, d = 6, int(rng.integers(1, 4))
    A = rng.normal(size=(n, d)) * 10.0 ** -rng.uniform(0, 14, d) @ rng.normal(size=(d, d))
    case = Case(A, rng.dirichlet(np.ones(n)), np.arange(n) < 1, np.ones(n), 0.1, "joint", "squared")
    try:
        return chart(case.instance())
    except VoidError:
        return None


def check_defect(coordinates):
    """Compare the defect with that of the V that it comes with, in 300 bits."""
    with ctx.workprec(BITS):
        rows = coordinates.data.A.rows(0, coordinates.data.n)[:, list(coordinates.columns)]
        image = arb_mat(*rows.shape, rows.ravel().tolist())
        image *= arb_mat(coordinates.d, coordinates.d, coordinates.V.ravel().tolist())
        M = image.transpose() * image
        one = arb_mat(coordinates.d, coordinates.d, np.eye(coordinates.d).ravel().tolist())
        assert all(abs(ball) <= coordinates.defect for ball in (M - one).entries())


def check_defects(seeds):
    for found in map(ill_conditioned, seeds):
        if found is not None:
            check_defect(found)


def test_the_defect_is_that_of_the_coordinates():
    """At a condition of 1e8 and more the rounds that make V come to no end by themselves."""
    check_defects(range(300))


def test_a_defect_of_other_coordinates_is_found():
    with (
        planted("checker.chart:_spans", "attempt == _MEASURES", "False"),
        pytest.raises(AssertionError),
    ):
        check_defects(range(300))
