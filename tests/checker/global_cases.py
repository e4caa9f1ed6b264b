"""Instances for the tests of boxes, of the global minimum and of its certificate."""

import itertools

import numpy as np
from flint import arb

import copyreg_jax as cr
from copyreg_jax.certificates.global_search import descend
from copyreg_jax.checker.chart import chart
from tests.checker.definition import Case

KINDS = list(itertools.product(("joint", "block"), ("squared", "cross-entropy")))


def draw(seed, reading, metric, *, d=None):
    """A small random instance with weights from 1e-4 on, and a matrix that may lose rank."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 4)) if d is None else d
    n = int(rng.integers(max(4, d + 1), 12))
    A = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1)
    if d > 1 and rng.random() < 0.2:
        A[:, -1] = 2 * A[:, 0]
    b = rng.dirichlet(np.full(n, 0.3))
    protected = np.arange(n) < rng.integers(2, n)
    w = np.exp(rng.uniform(np.log(1e-4), 0, n))
    gamma = float(rng.choice([0.0, 10.0 ** rng.uniform(-4, 0)]))
    return Case(A, b, protected, w, gamma, reading, metric), rng


def near_tie(tilt=0.0, gamma=0.05):
    """L is even for ``tilt = 0``, with two minimizers; the tilt lowers one of them."""
    A, b = np.array([[1.0], [-1.0], [0.0], [0.0]]), np.array([0.3 + tilt, 0.3 - tilt, 0.3, 0.1])
    return Case(A, b, np.array([True, True, False, False]), np.full(4, 0.05), gamma,
                "joint", "squared")  # fmt: skip


def plane():
    """Two columns, and one minimizer that is far from zero."""
    rng = np.random.default_rng(3)
    A, b = rng.normal(size=(7, 2)), rng.dirichlet(np.full(7, 0.5))
    return Case(A, b, np.arange(7) < 2, np.full(7, 0.05), 0.01, "joint", "squared")


def hard(gamma=0.01):
    """A problem whose search takes some batches of boxes."""
    return cr.CopyrightRegression(np.eye(4), np.full(4, 0.25), 2, gamma, 0.01)


def write(case, path):
    np.savez(path, **case._asdict())
    return path


def solved(case, folder, **limits):
    """The search on an instance file: problems of JAX would be compiled for each shape."""
    path = write(case, folder / "case.npz")
    return cr.minimize_globally(path, **{"max_boxes": 100_000, **limits})


def exact_x(coordinates, y):
    """The x of a y, in balls: the products with V are enclosed, not rounded."""
    x = [arb(0)] * coordinates.data.d
    for j, row in zip(coordinates.columns, coordinates.V.tolist(), strict=True):
        x[j] = sum((arb(v) * t for v, t in zip(row, y, strict=True)), arb(0))
    return x


def ends_of_descents(case, rng, number):
    """The chart, the y at the ends of descents from random points, and proved bounds above L."""
    coordinates = chart(case.instance())
    sizes = 10.0 ** rng.uniform(-4, 1, (number, 1)) / np.abs(coordinates.groups[0].B).max()
    with np.errstate(all="ignore"):
        ends, values = descend(coordinates, rng.standard_normal((number, coordinates.d)) * sizes)
    has_value = np.isfinite(values)
    return coordinates, ends[has_value], values[has_value]
