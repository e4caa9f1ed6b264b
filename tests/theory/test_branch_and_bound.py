"""The computer-assisted proofs: they prove what is so, refuse what is not, and bound correctly."""

import jax
import numpy as np
import pytest

from copyreg_jax.theory import branch_and_bound
from copyreg_jax.theory.branch_and_bound import EXTREMES, num_boxes

# Where each function is largest: (tau, x, z, alpha, eta), or (a, y, delta).
PEAKS = {
    "lower curvature, b on the simplex": (1, 0.8656, 0.1344, 1, 0),
    "upper curvature, b on the simplex": (1, 0.6145, 0.3855, 1, 0),
    "lower curvature, |b| <= 1": (1, 0.853553, 0.146447, 1, 0),
    "upper curvature, |b| <= 1": (1, 0.6497, 0.3503, 1, 0),
    "third derivative of a set's mass": (0, 0, 1),
}
KINDS = {
    name: {"is_lower": "lower" in name, "in_ball": "|b|" in name}
    for name in PEAKS
    if "curvature" in name
}


def at_peak(name):
    """The point, as a box, and the bound on it: the function, up to its rounding."""
    point = np.array(PEAKS[name], float)[:, None]
    return point, float(EXTREMES[name].upper(point, point)[0])


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", EXTREMES)
def test_constant_is_proved_and_nearly_sharp(name):
    assert num_boxes(EXTREMES[name]) is not None
    _, reached = at_peak(name)
    if name in KINDS:
        assert reached == pytest.approx(float(row_sum(*PEAKS[name], **KINDS[name])))
    assert reached <= EXTREMES[name].constant <= 1.01 * reached


@pytest.mark.parametrize("name", EXTREMES)
def test_a_constant_below_the_function_is_never_proved(name):
    """The boxes around the point where the function is larger stay open at every depth."""
    point, reached = at_peak(name)
    lowest = np.array(EXTREMES[name].boxes[0], float).min(1)[:, None]
    for width in (1e-2, 1e-4, 1e-6):
        low, high = np.maximum(point - width, 0), np.minimum(point + width, 1)
        if name in KINDS:
            low[0] = high[0] = point[0]
        assert EXTREMES[name].upper(low, high)[0] >= reached
    near = EXTREMES[name]._replace(
        constant=reached * (1 - 1e-3),
        boxes=(np.maximum(point - 0.01, lowest), np.minimum(point + 0.01, 1)),
    )
    if name in KINDS:
        near.boxes[0][0] = near.boxes[1][0] = point[0]
    assert num_boxes(near, max_boxes=300_000) is None
    # With a constant that is above, as many boxes are more than enough there.
    assert num_boxes(near._replace(constant=reached * 1.01), max_boxes=300_000) is not None


def row_sum(tau, x, z, alpha, eta, *, is_lower, in_ball):
    """The function that `_row_sum` bounds, at points."""
    h = eta * (1 - x - z) ** 2
    base = tau * x * (2 - 3 * x) + alpha * z * (2 - 3 * z) - 3 * h
    base = -base if is_lower else base
    if in_ball:
        form = np.sqrt(tau * (1 - 2 * x) ** 2 + alpha * (1 - 2 * z) ** 2 + 4 * h)
    elif is_lower:
        form = np.maximum(tau * (1 - 2 * x), np.sqrt(alpha) * (1 - 2 * z))
    else:
        form = np.maximum(tau * (2 * x - 1), np.sqrt(alpha) * (2 * z - 1))
        form = np.maximum(form, 2 * np.sqrt(h))
    return 2 * x * z * (base + np.maximum(form, 0))


def random_boxes(rng, dimension):
    """Opposite corners of boxes of all sizes in the unit cube."""
    corners = rng.random((2, dimension, 100_000))
    corners[1] = corners[0] + (corners[1] - corners[0]) * rng.random(100_000) ** 4
    return corners.min(axis=0), corners.max(axis=0)


@pytest.mark.parametrize("is_lower", [False, True])
@pytest.mark.parametrize("in_ball", [False, True])
def test_box_bounds_are_above_every_point_of_the_box(is_lower, in_ball):
    rng = np.random.default_rng(0)
    low, high = random_boxes(rng, 5)
    low[0] = high[0] = rng.integers(0, 2, 100_000)  # tau is 0 or 1
    bound = branch_and_bound._row_sum(low, high, is_lower=is_lower, in_ball=in_ball)
    for _ in range(5):
        point = low + (high - low) * rng.choice([0.0, 0.5, 1.0, rng.random()], size=low.shape)
        value = row_sum(*point, is_lower=is_lower, in_ball=in_ball)
        inside = point[1] + point[2] <= 1
        assert np.all(value[inside] <= bound[inside] + 1e-12)


def test_set_mass_bound_is_above_every_point_of_the_box():
    rng = np.random.default_rng(1)
    low, high = random_boxes(rng, 3)
    bound = branch_and_bound._set_mass(low, high)
    for _ in range(5):
        a, y, delta = low + (high - low) * rng.random(low.shape)
        D, s = delta * (1 - y), (1 - a**2) / 4
        top = y + D
        V, U = top * (1 - top), y * (1 - y)
        third = V * np.maximum(top, 1 - top) + U * np.maximum(y, 1 - y)
        value = s * (np.abs(1 - 6 * s) * D**3 + 3 * a * D * np.maximum(V, U) + third)
        assert np.all(value <= bound + 1e-12)


@pytest.mark.quick(1)
@pytest.mark.parametrize("on_simplex", [False, True])
@pytest.mark.parametrize("seed", range(50))
def test_steps_of_the_proof(seed, on_simplex):
    """The Laplacian identity, the row-sum bound and the reduction, each on its own."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    f = rng.dirichlet(np.full(n, 10 ** rng.uniform(-1, 1)))
    t = (rng.random(n) < 0.7).astype(float)
    b = rng.normal(size=n)
    b *= rng.random() ** 0.2 / np.linalg.norm(b)
    if on_simplex:
        b = np.eye(n)[seed % n] if seed % 2 else rng.dirichlet(np.ones(n))
    H = np.asarray(jax.hessian(lambda u: 0.5 * (t * (jax.nn.softmax(u) - b) ** 2).sum())(np.log(f)))
    theta = t * (2 * f - b)
    K = 3 * (t * f) @ f - 2 * (t * f) @ b
    W = np.outer(f, f) * (theta[:, None] + theta[None] - K)
    np.fill_diagonal(W, 0)
    laplacian = np.diag(W.sum(axis=1)) - W
    np.testing.assert_allclose(H, laplacian, rtol=0, atol=1e-14)
    lam = np.linalg.eigvalsh(H)
    positive, negative = np.maximum(W, 0).sum(axis=1), np.maximum(-W, 0).sum(axis=1)
    assert lam[-1] <= 2 * positive.max() + 1e-14
    assert -lam[0] <= 2 * negative.max() + 1e-14
    for i in range(n):
        for rows, is_lower in ((positive, False), (negative, True)):
            sign = -1 if is_lower else 1
            P = (sign * W[i] > 0) & (np.arange(n) != i)
            z = f[P].sum()
            if z == 0:
                continue
            alpha = (t[P] * f[P] ** 2).sum() / z**2
            rest = ~P & (np.arange(n) != i)
            room = max(1 - f[i] - z, 0) ** 2
            h = (t[rest] * f[rest] ** 2).sum()
            assert alpha <= 1 + 1e-15
            assert h <= room + 1e-15
            eta = h / room if room > 0 else 0.0
            for in_ball in (True, False) if on_simplex else (True,):
                reduced = row_sum(t[i], f[i], z, alpha, eta, is_lower=is_lower, in_ball=in_ball)
                assert 2 * rows[i] <= reduced + 1e-14


@pytest.mark.parametrize("seed", range(200))
def test_lemmas_on_derivatives_of_a_softmax(seed):
    """The one-norms and two-norms of f', f'', f''' against their bounds, spread by spread."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    f = rng.dirichlet(np.full(n, 10 ** rng.uniform(-1, 1)))
    v = rng.normal(size=n) * (rng.random(n) < 0.5)
    R = np.ptp(v)
    centered = v - f @ v
    variance, third = f @ centered**2, f @ centered**3
    first = f * centered
    second = f * (centered**2 - variance)
    third_derivative = f * (centered**3 - 3 * variance * centered - third)
    for derivative, power, one_norm in (
        (first, 1, 1 / 2),
        (second, 2, 1 / 4),
        (third_derivative, 3, 2 * EXTREMES["third derivative of a set's mass"].constant),
    ):
        assert np.abs(derivative).sum() <= one_norm * R**power * (1 + 1e-12) + 1e-300
        two_norm = one_norm / np.sqrt(2) * R**power
        assert np.linalg.norm(derivative) <= two_norm * (1 + 1e-12) + 1e-300
    assert np.abs(second).sum() <= 2 / np.sqrt(27) * (v @ v) * (1 + 1e-12)
