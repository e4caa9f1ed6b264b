"""The claims local and global, against minimizers found in 300 bits and against each other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from flint import arb, arb_mat, ctx

import copyreg_jax as cr
from copyreg_jax.certificates import minimizers
from copyreg_jax.certificates.to_instance import to_instance
from copyreg_jax.checker import format, proofs
from copyreg_jax.checker.arithmetic import ARITHMETIC, arithmetic
from tests.checker.definition import Case, derivatives, exact
from tests.checker.test_arithmetic import exactly
from tests.support.registry import READINGS, SOLVERS, random_problem

BITS = 300
N, D = 6, 2


def convex_problem(seed: int) -> cr.CopyrightRegression:
    """With w^2 above the curvature that the data terms can take away near the solution."""
    rng = np.random.default_rng((7, seed))
    b = rng.dirichlet(np.full(N, 0.5))
    n1 = int(rng.integers(2, N))
    w, gamma = rng.uniform(1.0, 2.0, N), float(10.0 ** rng.uniform(-4, -1))
    return cr.CopyrightRegression(
        rng.normal(size=(N, D)), b, n1, gamma=gamma, w=w, reading=READINGS[seed % 2]
    )


def to_case(problem: cr.CopyrightRegression) -> Case:
    arrays = (np.asarray(v) for v in (problem.A, problem.b, problem.protected, problem.w))
    return Case(*arrays, float(problem.gamma), problem.reading, "squared")


def newton(case: Case, x: Any) -> list[arb]:
    """The critical point near x, to a few units of the last of 300 bits."""
    point = [arb(float(v)) for v in x]
    for _ in range(12):
        gradient, H = derivatives(case, point)
        step = H.mid().solve(arb_mat(len(point), 1, gradient)).entries()
        point = [(a - s).mid() for a, s in zip(point, step, strict=True)]
        if all(abs(s) < 1e-80 for s in step):
            return point
    raise AssertionError("no convergence")


def squared_distance(x: list[arb], y: Any) -> arb:
    return sum(((a - arb(float(b))) ** 2 for a, b in zip(x, y, strict=True)), arb(0))


def has_curvature(case: Case, x: Any, mu: float) -> bool:
    """Whether hess L(x) - mu I is proved to be positive definite, by its leading minors."""
    _, H = derivatives(case, [arb(v) if isinstance(v, float) else v for v in x])
    minors = [arb_mat([[H[i, j] - (mu if i == j else 0) for j in range(k)] for i in range(k)]).det()
              for k in range(1, len(x) + 1)]  # fmt: skip
    return all(minor > 0 for minor in minors)


def on_unit_sphere(rng: np.random.Generator) -> np.ndarray:
    v = rng.normal(size=D)
    return v / np.linalg.norm(v)


@dataclasses.dataclass
class Solved:
    """One problem, the certificate of each solver's result, and the minimizer in 300 bits."""

    problem: cr.CopyrightRegression
    case: Case
    certificates: dict[str, cr.Certificate]
    minimizer: list[arb]


@pytest.fixture(scope="module")
def solved() -> list[Solved]:
    found = []
    for seed in range(100):
        problem = convex_problem(seed)
        results = {name: cr.solve(problem, solver=solver).x for name, solver in SOLVERS.items()}
        certificates = {name: cr.certify(problem, x) for name, x in results.items()}
        case = to_case(problem)
        with ctx.workprec(BITS):
            minimizer = newton(case, results["newton"])
        found.append(Solved(problem, case, certificates, minimizer))
    return found


def points(certificate: cr.Certificate) -> list[float]:
    return [float.fromhex(v) for v in certificate.document["x"]]


@pytest.mark.slow
def test_every_result_has_a_local_claim(solved):
    made = [c.local is not None for s in solved for c in s.certificates.values()]
    assert made == [True] * 100 * len(SOLVERS)


@pytest.mark.slow
def test_claims_of_different_solvers_intersect(solved):
    """In fractions: centers are no farther from each other than the sum of their distances."""
    for s in solved:
        for one, two in itertools.combinations(s.certificates.values(), 2):
            gaps = exactly(points(one)) - exactly(points(two))
            reach = Fraction(one.local.distance) + Fraction(two.local.distance)
            assert (gaps * gaps).sum() <= reach * reach


@pytest.mark.slow
def test_the_minimizer_is_where_the_claim_says(solved):
    with ctx.workprec(BITS):
        for s in solved:
            truth = exact(s.case, s.minimizer)
            gradient, _ = derivatives(s.case, s.minimizer)
            assert all(abs(v) < 1e-70 for v in gradient)
            for certificate in s.certificates.values():
                local = certificate.local
                gap = squared_distance(s.minimizer, points(certificate))
                assert gap <= arb(local.distance) ** 2
                assert local.margin.lower <= truth.margin <= local.margin.upper
                mass = truth.protected_mass
                assert local.protected_mass.lower <= mass <= local.protected_mass.upper
                assert local.direction != "suppressed" or mass < truth.target_mass
                assert local.direction != "amplified" or mass > truth.target_mass


@pytest.mark.slow
def test_the_distance_is_not_far_from_the_truth(solved):
    """Where the solver stopped early, rounding plays no part, and the bound is within mu's loss."""
    with ctx.workprec(BITS):
        for s in solved:
            for certificate in s.certificates.values():
                gap = float(squared_distance(s.minimizer, points(certificate)).sqrt())
                assert certificate.local.distance < 100 * gap + 1e-12


@pytest.mark.slow
def test_the_modulus_holds_in_the_whole_ball(solved):
    with ctx.workprec(BITS):
        for seed, s in enumerate(solved):
            rng = np.random.default_rng(seed)
            local = s.certificates["newton"].local
            center = np.array(points(s.certificates["newton"]))
            others = [center + local.radius * (1 - 1e-12) * on_unit_sphere(rng) for _ in range(4)]
            for x in (s.minimizer, center.tolist(), *(y.tolist() for y in others)):
                assert has_curvature(s.case, x, local.mu)
            # The bound is of use: within a factor of four of the modulus at the center.
            assert not has_curvature(s.case, center.tolist(), 8 * local.mu)


@pytest.mark.slow
def test_one_minimizer_in_all_is_one(solved):
    """No start leads elsewhere, and the minimizer is in the level set of the claim."""
    claimed = [s for s in solved if s.certificates["newton"].is_global]
    assert len(claimed) >= 20
    for s in claimed:
        with ctx.workprec(BITS):
            level = s.certificates["newton"]._statements.global_.level
            assert exact(s.case, s.minimizer).value <= level
    for s in claimed[:10]:
        for x in descend(s.problem, seed=1):
            assert float(squared_distance(s.minimizer, x)) < 1e-8


def descend(problem: cr.CopyrightRegression, seed: int) -> list[np.ndarray]:
    """The local minimizers that SciPy finds from random starts, near and far."""
    rng = np.random.default_rng(seed)
    found = []
    for scale in (0.1, 1.0, 1.0, 3.0, 3.0, 10.0, 10.0, 30.0):
        start = scale * rng.normal(size=D)
        result = scipy.optimize.minimize(
            lambda x: (float(problem.value(x)), np.asarray(problem.gradient(x))),
            start, jac=True, method="BFGS", options={"gtol": 1e-9},
        )  # fmt: skip
        if np.linalg.norm(result.jac) < 1e-6:
            found.append(result.x)
    return found


@pytest.mark.slow
def test_no_global_claim_where_there_are_two_minimizers():
    """Small w and a barrier between two basins: the claim must not be made in either."""
    pairs = 0
    for seed in range(40):
        rng = np.random.default_rng((8, seed))
        problem = cr.CopyrightRegression(
            2 * rng.normal(size=(N, D)), rng.dirichlet(np.full(N, 0.5)), 3,
            gamma=float(10.0 ** rng.uniform(-3, -1)), w=0.1, reading=READINGS[seed % 2],
        )  # fmt: skip
        case, found = to_case(problem), []
        with ctx.workprec(BITS):
            for x in descend(problem, seed):
                try:
                    minimizer = newton(case, x)
                except (AssertionError, ZeroDivisionError):
                    continue
                _, H = derivatives(case, minimizer)
                if H[0, 0] > 0 and H.det() > 0:
                    found.append(minimizer)
        ends = [np.array([float(v) for v in m]) for m in found]
        if any(np.linalg.norm(a - b) > 1e-6 for a, b in itertools.combinations(ends, 2)):
            pairs += 1
            for x in ends:
                certificate = cr.certify(problem, x)
                assert not certificate.is_global
                # Local claims say one minimizer each: no radius reaches over both.
                if certificate.local is not None:
                    near = [np.linalg.norm(x - y) < certificate.local.radius for y in ends]
                    others = [y for y, is_near in zip(ends, near, strict=True) if is_near]
                    assert all(np.linalg.norm(x - y) < 1e-6 for y in others)
    assert pairs >= 5


def points_around(seed: int) -> tuple[cr.CopyrightRegression, list[np.ndarray]]:
    """A problem of any scale, offset and rank, and points at many distances from its minimizer."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(24, 3)) * 10.0 ** rng.uniform(-3, 3, size=(3 if seed % 2 else 1))
    if seed % 5 == 4:
        A += 10.0 ** rng.uniform(0, 6)
    if seed % 7 == 3:
        A[:, -1] = A[:, 0]
    problem = cr.CopyrightRegression(
        A, rng.dirichlet(np.full(24, 0.5)), 8, gamma=float(10.0 ** rng.uniform(-6, -1)),
        w=float(10.0 ** rng.uniform(-3, 0.5)), reading=READINGS[seed % 2],
    )  # fmt: skip
    x, size = np.asarray(cr.solve(problem).x), np.abs(A).max()
    near = [x + 10.0**-k * rng.normal(size=3) / size for k in (9, 6, 4, 2, 0)]
    return problem, [x, *near, 3 * x + 1 / size]


def two_columns_nearly_the_same(digits: float) -> tuple[cr.CopyrightRegression, list[np.ndarray]]:
    """A problem with a small eigenvalue, which floats lose first, and its minimizer."""
    rng = np.random.default_rng(1)
    A = rng.normal(size=(24, 3))
    A[:, 2] = A[:, 0] + 10.0**-digits * A[:, 2]
    problem = cr.CopyrightRegression(A, rng.dirichlet(np.full(24, 0.5)), 8, gamma=1e-4, w=0.1)
    return problem, [np.asarray(cr.solve(problem, cr.TrustRegionNewton(), rtol=1e-14).x)]


def local_claims() -> Iterator[format.Local | None]:
    hard = [two_columns_nearly_the_same(digits) for digits in np.arange(2.75, 3.1, 0.125)]
    for problem, xs in [*map(points_around, range(8)), *hard]:
        for x in xs:
            with ARITHMETIC:
                found = minimizers.prove_local(proofs.Points(to_instance(problem), x))
                yield minimizers.made(found)


@pytest.mark.slow
def test_no_claim_is_lost_for_balls_that_were_not_tried(monkeypatch):
    """The claims are those of trying both precisions always, for many times fewer balls."""
    tried: list[int] = []
    plain, widest = arithmetic, minimizers._widest
    monkeypatch.setattr(minimizers, "arithmetic", lambda bits: tried.append(bits) or plain(bits))
    found = list(local_claims())
    balls = tried.count(128)

    def as_if_by_rounding(*args):
        given_up = widest(*args)
        is_given_up = isinstance(given_up, minimizers.GivenUp)
        return given_up._replace(by_rounding=True) if is_given_up else given_up

    monkeypatch.setattr(minimizers, "_widest", as_if_by_rounding)
    tried.clear()
    assert found == list(local_claims())
    assert {None, 53, 128} <= {claim and claim.bits for claim in found}
    assert balls < tried.count(128) / 4


@pytest.mark.parametrize("far", [0.3, 3.0, 30.0])
def test_points_far_from_a_minimizer_cost_no_balls(far, monkeypatch):
    """What the theorem loses is not paid for in precision: balls take 20 times as long and more."""
    problem = random_problem(0, 400, 10, w=0.1, gamma=1e-6)
    monkeypatch.setattr(minimizers, "_LOCAL_BITS", (53, -1))  # -1 bits would be a ValueError
    with ARITHMETIC:
        found = minimizers.prove_local(proofs.Points(to_instance(problem), np.full(10, far)))
    assert isinstance(found, minimizers.GivenUp)


def test_a_curvature_beyond_floats_is_no_fault():
    """A power of a Python float raises where a product is infinite."""
    A, b = np.full((3, 5), 1e150), np.full(3, 1e75 / 3)
    problem = cr.CopyrightRegression(A, b, [0], 0.0, 2.0**-10)
    assert cr.certify(problem, np.zeros(5)).local is None
