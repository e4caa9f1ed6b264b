"""Tiny instances with extreme data, each reproduced by (seed, index)."""

from __future__ import annotations

import numpy as np

from copyreg_jax.checker.data import METRICS, READINGS
from tests.checker.definition import Case


def extreme_case(seed: int, index: int) -> tuple[Case, np.ndarray]:
    """An instance and a point of it."""
    rng = np.random.default_rng((seed, index))
    n, d = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    with np.errstate(all="ignore"):
        A = _matrix(rng, n, d)
        x = _numbers(rng, d)
        if rng.random() < 0.3:  # logits of moderate size, whatever A is
            largest = np.abs(A).max()
            x = x if largest == 0 else rng.normal(size=d) * 10.0 ** rng.uniform(-2, 4) / largest
            x = np.where(np.isfinite(x), x, 1.0)
        mask = np.zeros(n, bool)
        n1 = int(rng.choice([1, n - 1, rng.integers(1, n)]))
        mask[rng.permutation(n)[:n1]] = True
        reading, metric = READINGS[rng.integers(2)], METRICS[rng.integers(2)]
        b = _targets(rng, A @ x, mask if reading == "block" else np.ones(n, bool))
        if metric == "cross-entropy":
            b = np.abs(b)
    w = [np.zeros(n), np.ones(n), rng.random(n), _numbers(rng, n)][rng.integers(4)]
    gamma = float(rng.choice([0.0, 1.0, 0.1, 5e-324, 1e-300, 1e300, 10.0 ** rng.uniform(-9, 2)]))
    return Case(A, b, mask, w, gamma, reading, metric), x


def _numbers(rng: np.random.Generator, size: int | tuple[int, int]) -> np.ndarray:
    normal = rng.normal(size=size)
    kinds = [
        normal,
        normal,
        rng.integers(-2, 3, size=size) * 1.0,
        normal * 10.0 ** rng.uniform(-322, 300, size=size),  # every size of number there is
        normal * 10.0 ** rng.choice([-320, -160, -20, 2, 3, 150, 300]),
        1.0 + rng.integers(-3, 4, size=size) * 2.0**-52,  # cancellation
        np.where(rng.random(size) < 0.5, -0.0, normal),
        5e-324 * rng.integers(-9, 10, size=size),
    ]
    return kinds[rng.integers(len(kinds))]


def _matrix(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    A = _numbers(rng, (n, d))
    kind = rng.integers(8)
    if kind == 0:
        A[:] = A[0]
    elif kind == 1:
        A[:, 0] = 0
    elif kind == 2:
        A[rng.integers(n)] = -0.0
    elif kind == 3:  # a column that moves nothing but the roundings
        A[:, 0] = 10.0 ** rng.uniform(0, 8)
    return A


def _targets(rng: np.random.Generator, u: np.ndarray, own: np.ndarray) -> np.ndarray:
    n, kind = u.size, rng.integers(8)
    if kind == 0:
        return np.eye(n)[rng.integers(n)]
    if kind < 3:  # f itself, rounded: all of the loss is rounding
        e = np.exp(u - u[own].max())
        f = e / e[own].sum()
        return np.where(np.isfinite(f) & (f < 1e300), f, 0.5)
    if kind == 3:
        return np.full(n, 1 / n)
    if kind == 4:
        return np.zeros(n)
    if kind == 5:
        return _numbers(rng, n)
    return rng.dirichlet(np.full(n, 0.3))


def plain_case(seed: int, index: int) -> tuple[Case, np.ndarray]:
    """An instance and a point of it with nothing extreme, where bounds must be good, too."""
    rng = np.random.default_rng((seed, index))
    n, d = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    mask = np.zeros(n, bool)
    mask[rng.permutation(n)[: rng.integers(1, n)]] = True
    b = rng.dirichlet(np.full(n, 0.5))
    reading, metric = READINGS[rng.integers(2)], METRICS[rng.integers(2)]
    gamma, w = float(10.0 ** rng.uniform(-4, 0.5)), rng.random(n) * 10.0 ** rng.uniform(-2, 0.5)
    return Case(rng.normal(size=(n, d)), b, mask, w, gamma, reading, metric), rng.normal(size=d)
