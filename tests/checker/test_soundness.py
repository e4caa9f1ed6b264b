"""No false verdict, no false bound: tiny instances with extreme data, margins within ulps of tau.

Every case is reproduced by ``extreme_case(SEED, index)``; the truth is `definition.exact` at 1024
bits, or at 16,384 where 1024 do not settle it.
"""

import collections
import math

import numpy as np
import pytest
from flint import arb, arb_mat, arb_series, ctx

from copyreg_jax.checker import proofs, regions, theorems
from copyreg_jax.checker.arithmetic import arithmetic, lower, upper
from copyreg_jax.checker.check import level_set_tau, protection
from copyreg_jax.checker.format import direction
from copyreg_jax.checker.linear import eigenvalue_floor, frobenius, to_floats
from copyreg_jax.checker.verdicts import Verdict
from tests.checker.definition import Case, Exact, derivatives, exact, in_ellipsoid
from tests.checker.extremes import extreme_case, plain_case
from tests.support.registry import METRICS, READINGS, cases

SEED = 20_260_101
PRECISIONS = 53, 128, 256
TRUTH_BITS, MORE_BITS = 1024, 16_384
ULPS = 0, 1, 2, 5, 10, 20, 50


@pytest.fixture(autouse=True)
def _quiet():
    """As in the package: what overflows proves nothing, and is no matter for a warning."""
    with np.errstate(all="ignore"):
        yield


def number(normal: int) -> int:
    """How many cases; fifty times as many under the profile "soak"."""
    return cases(normal).max_examples


def views(case: Case, x: np.ndarray, index: int):
    """The instance at x in each arithmetic; every fifth is sparse."""
    data = case.instance(sparse=index % 5 == 0)
    for bits in PRECISIONS:
        ar = arithmetic(bits)
        with ctx.workprec(ar.scalar_bits):
            yield bits, proofs.at_point(data, ar, x)


def strays(balls: dict[str, arb], truth: Exact) -> list[str]:
    """What is proved to be elsewhere than it is."""
    ends = {name: (lower(ball), upper(ball), getattr(truth, name)) for name, ball in balls.items()}
    return [name for name, (low, high, true) in ends.items() if low > true or high < true]


def is_true(case: Case, x: np.ndarray, margin: arb, said: Verdict, tau: float) -> bool:
    """Whether the margin is at least tau, or below it, as the verdict says: proved, or false."""

    def proves(margin: arb) -> bool:
        return {Verdict.CERTIFIED: margin >= tau, Verdict.REFUTED: margin < tau}[said]

    if proves(margin):
        return True
    with ctx.workprec(MORE_BITS):
        return proves(exact(case, x.tolist()).margin)


def taus_near(margin: arb) -> list[float]:
    """The margin as a float, and what is up to 50 ulps beside it."""
    near = float(margin.mid())
    ulp = math.ulp(near) if math.isfinite(near) else math.nan
    taus = {near + sign * k * ulp for k in ULPS for sign in (-1, 1)}
    return [tau for tau in taus if math.isfinite(tau)]


def test_no_false_verdict(record_property):
    found = collections.Counter()
    for index in range(number(20_000)):
        make = extreme_case if index % 4 else plain_case
        case, x = make(SEED, index)
        with ctx.workprec(TRUTH_BITS):
            margin = exact(case, x.tolist()).margin
        taus = taus_near(margin)
        for bits, point in views(case, x, index):
            claimed = point.losses.margin
            for tau in taus:
                said = protection(claimed, tau)
                right = said is Verdict.UNDECIDED or is_true(case, x, margin, said, tau)
                assert right, (index, bits, tau, said)
                # Ties, and what takes more bits than the truth has, are no one's fault.
                if margin >= tau or margin < tau:
                    found[make.__name__, bits, said] += 1
    for kind in ("plain_case", "extreme_case"):
        for bits in PRECISIONS:
            rate = found[kind, bits, Verdict.UNDECIDED] / sum(found[kind, bits, v] for v in Verdict)
            record_property(f"UNDECIDED, {kind}, {bits} bits", rate)
            print(f"UNDECIDED, {kind}, {bits} bits: {100 * rate:.3f} %")
            assert rate < 1
            assert rate < 0.001 or bits == 53 or kind == "extreme_case"


def test_enclosures_contain_the_exact_numbers():
    finite = 0
    for index in range(number(3000)):
        case, x = extreme_case(SEED + 1, index)
        with ctx.workprec(MORE_BITS // 4):
            truth = exact(case, x.tolist())
        for bits, point in views(case, x, index):
            with ctx.workprec(max(bits, 128)):
                proved = {**point.losses._asdict(), "value": point.value}
            assert not strays(proved, truth), (index, bits)
            known = {name: ball for name, ball in proved.items() if ball.is_finite()}
            for name, ball in known.items():
                assert ball.overlaps(getattr(truth, name)), (index, bits, name)
            finite += len(known)
            way = direction(point.losses)
            assert way != "suppressed" or not truth.protected_mass >= truth.target_mass, index
            assert way != "amplified" or not truth.protected_mass <= truth.target_mass, index
    assert finite > 0.8 * 5 * len(PRECISIONS) * number(3000)


def test_level_sets():
    """What is at least as good as x has the margin that the level of x promises."""
    pairs = tight = 0
    for index in range(number(3000)):
        rng = np.random.default_rng((SEED, 2, index))
        case, x = (extreme_case if index % 3 else plain_case)(SEED + 2, index)
        points = [x, *(x + rng.normal(size=(3, x.size)) * 10.0 ** rng.uniform(-12, 1, size=(3, 1)))]
        points.append(10.0 ** rng.uniform(-3, 3) * x)
        with ctx.workprec(TRUTH_BITS):
            known = [exact(case, y.tolist()) for y in points]
        data = case.instance()
        for one in known:
            level = upper(one.value)
            if not math.isfinite(level):
                continue
            with ctx.workprec(128):
                tau = level_set_tau(data, level)
            for other in known:
                if other.value <= level:
                    pairs += 1
                    assert not other.margin < tau, index
                    tight += other.margin < tau + 0.1 * abs(tau)
    assert pairs > 3 * number(3000)
    assert tight > 0.01 * pairs


def wide_case(index: int) -> tuple[Case, np.ndarray]:
    """Few long rows, whose products are of any scale: lost to underflow, cancelling, or huge."""
    rng = np.random.default_rng((SEED, 6, index))
    n, d = int(rng.integers(2, 6)), int(rng.choice([15, 16, 17, 33, 100, 400, 1000]))
    scale = 2.0 ** rng.choice([-540, -538, -537, -300, -20, 0, 0, 0, 3, 300])
    A = rng.choice([rng.normal(size=(n, d)), np.ones((n, d)), rng.integers(-2, 3, (n, d))])
    A = A * scale * rng.choice([np.ones(d), 2.0 ** rng.integers(-8, 9, d)])
    if rng.random() < 0.3:
        A[:, d // 2 : 2 * (d // 2)] = -A[:, : d // 2] * (1 + 2.0**-50)  # nearly all cancels
    x = rng.choice([rng.normal(size=d), np.full(d, 0.98), np.ones(d)])
    x = x * 2.0 ** rng.choice([-537.0, -300.0, 0.0, -np.round(np.log2(scale)) - 3])
    w = np.full(n, 10.0 ** rng.choice([0, -3, 150, 308]))
    protected = np.arange(n) < rng.integers(1, n)
    if index % 4 == 0:
        # Each product rounds to zero; f = b, so that a huge w shows what is lost of their sum.
        A, x = np.full((n, d), 2.0**-538), np.full(d, 0.98 * 2.0**-537)
        w = np.full(n, 1e308)
        return Case(A, np.full(n, 1 / n), protected, w, 0.0, "joint", "squared"), x
    reading, metric = str(rng.choice(READINGS)), str(rng.choice(METRICS))
    gamma = 10.0 ** rng.uniform(-4, 0)
    case = Case(A, rng.dirichlet(np.ones(n)), protected, w, gamma, reading, metric)
    return case, x


def test_long_rows():
    """What tiny instances can't show: errors that grow with the columns."""
    finite = 0
    for index in range(number(500)):
        case, x = wide_case(index)
        with ctx.workprec(2 * TRUTH_BITS):
            truth = exact(case, x.tolist())
        for bits, point in views(case, x, index):
            with ctx.workprec(max(bits, 128)):
                bounds = {**point.losses._asdict(), "value": point.value}
            assert not strays(bounds, truth), (index, bits)
            finite += bits == 53 and sum(math.isfinite(lower(ball)) for ball in bounds.values())
    assert finite > 2 * number(500)


def test_gradients():
    sharp = 0
    for index in range(number(1000)):
        case, x = (extreme_case if index % 2 else plain_case)(SEED + 3, index)
        with ctx.workprec(TRUTH_BITS):
            gradient, _ = derivatives(case, x.tolist())
            norm = sum((v * v for v in gradient), arb(0)).sqrt()
        for bits, point in views(case, x, index):
            with ctx.workprec(max(bits, 128)):
                ball = point.survey.gradient_norm
            assert not ball.is_finite() or not norm.is_finite() or ball.overlaps(norm), index
            sharp += bits > 53 and ball.rad() < 1e-20 * (1 + norm)
    assert sharp > 0.9 * number(1000)


def modulus(H: arb_mat, error: arb) -> float:
    """About the largest mu that is proved."""
    middle = to_floats(H)
    if not np.isfinite(middle).all():
        return -math.inf
    least, largest = np.linalg.eigvalsh(middle)[0], np.abs(middle).max()
    lost = upper(frobenius(ball - ball.mid() for ball in H.entries()) + error) + 2.0**-39 * largest
    return lower(eigenvalue_floor(H, error, float(least - 1.02 * lost)))


def has_eigenvalue_below(case: Case, x: np.ndarray, mu: float) -> bool:
    """Whether hess L - mu I is proved not to be positive semidefinite, at a witness."""
    with ctx.workprec(TRUTH_BITS):
        _, H = derivatives(case, x.tolist())
        middle = to_floats(H)
        if not np.isfinite(middle).all():
            return False
        v = arb_mat(len(x), 1, np.linalg.eigh(middle)[1][:, 0].tolist())
        return (v.transpose() * H * v)[0, 0] < mu * (v.transpose() * v)[0, 0]


def in_unit_ball(rng: np.random.Generator, d: int) -> np.ndarray:
    """Often on the sphere, where bounds are tightest; never beyond it."""
    v = rng.normal(size=d)
    size = rng.choice([1.0, rng.random()])
    return v / np.linalg.norm(v) * size * (1 - 1e-12)


def test_balls_of_points():
    """Losses and curvature are bounded at every point of a ball, and rather well if it is small."""
    claims = 0
    for index in range(number(600)):
        rng = np.random.default_rng((SEED, 4, index))
        case, x = (extreme_case if index % 4 == 3 else plain_case)(SEED + 4, index)
        radius = float(10.0 ** rng.uniform(-9, 0))
        others = [x + radius * in_unit_ball(rng, x.size) for _ in range(3)]
        others = [y for y in others if np.isfinite(y).all()]
        for bits, point in views(case, x, index):
            with ctx.workprec(max(bits, 128)):
                center = point.survey.center
                view = proofs.in_ball(point, center, radius)
                losses, mu = view.losses, modulus(*regions.hessian_floor(view, center))
            for y in others:
                with ctx.workprec(TRUTH_BITS):
                    if not sum(arb(v) * v for v in _gap(x, y)) <= arb(radius) ** 2:
                        continue  # rounded out of the ball
                    truth = exact(case, y.tolist())
                assert not strays(losses._asdict(), truth), (index, bits)
                assert not has_eigenvalue_below(case, y, mu), (index, bits)
            claims += math.isfinite(mu)
    assert claims > 2 * number(600)


def _gap(x: np.ndarray, y: np.ndarray) -> list[arb]:
    return [arb(a) - arb(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]


def test_ellipsoids():
    """The ellipsoid holds the level set, and its curvature is bounded at each of its points."""
    inside = claims = 0
    for index in range(number(600)):
        rng = np.random.default_rng((SEED, 5, index))
        case, x = plain_case(SEED + 5, index)
        # Ellipsoids of every size; the global claim is made on the small ones.
        case = case._replace(w=case.w + 10.0 ** rng.uniform(-1, 2))
        x *= 10.0 ** rng.uniform(-3, 0)
        data, ar = case.instance(), arithmetic(53)
        with ctx.workprec(TRUTH_BITS):
            level = upper(exact(case, x.tolist()).value)
        if not math.isfinite(level):
            continue
        with ctx.workprec(128):
            point = proofs.at_point(data, ar, x)
            radius, view = regions.around_level_set(point, level, theorems.least_loss(data))
            if not np.isfinite(regions.row_widths(point)).all():
                continue
            mu, losses = modulus(*regions.laplacian_floor(view)), view.losses
        for _ in range(4):
            y = in_ellipsoid(case, radius * in_unit_ball(rng, x.size))
            with ctx.workprec(TRUTH_BITS):
                truth = exact(case, y.tolist())
                inside += truth.value <= level
            assert losses.margin.overlaps(truth.margin) or not losses.margin.is_finite()
            assert not has_eigenvalue_below(case, y, mu), index
        # Just outside the ellipsoid, nothing may be as good as the level.
        for scale in (1 + 1e-9, 1.5):
            v = in_unit_ball(rng, x.size)
            y = in_ellipsoid(case, scale * radius * v / np.linalg.norm(v))
            with ctx.workprec(TRUTH_BITS):
                assert not exact(case, y.tolist()).value <= level, index
        claims += mu > 0
    assert inside > number(600) / 10
    assert claims > number(600) / 20


def test_series_are_derivatives():
    """The oracle's own control: f(t) = (a + t)^2 through the same polarization."""
    with ctx.workprec(128):
        t = arb_series([3, 1])
        assert (t * t)[1] == 6
        assert (t * t)[2] == 1
