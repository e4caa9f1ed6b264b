"""Problems and solvers that every general test runs over, and strategies of instances."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import optax
import scipy.sparse
from hypothesis import strategies as st

import copyreg_jax as cr
from copyreg_jax.problems.objective import METRICS, READINGS
from copyreg_jax.testing.strategies import SHAPES, instances, points

__all__ = [
    "METRICS",
    "PROBLEMS",
    "READINGS",
    "SHAPES",
    "SOLVERS",
    "Draw",
    "cases",
    "draws",
    "random_problem",
]


def cases(number: int) -> hypothesis.settings:
    """This many drawn cases under the profile "ci": a tenth by default, fifty times in "soak"."""
    factor = {"ci": 1, "soak": 50}.get(os.environ.get("HYPOTHESIS_PROFILE", "quick"), 0.1)
    return hypothesis.settings(max_examples=max(10, round(number * factor)))


class Draw(NamedTuple):
    """One instance and a point, as plain NumPy data."""

    A: np.ndarray
    b: np.ndarray
    protected: np.ndarray
    gamma: float
    w: np.ndarray
    x: np.ndarray

    def problem(self, reading: Any, metric: Any = "squared") -> cr.CopyrightRegression:
        return cr.CopyrightRegression(
            self.A, self.b, self.protected, self.gamma, self.w, reading, metric
        )


@st.composite
def draws(draw: st.DrawFn, *, min_w: float = 2.0**-10, metric: Any = "squared") -> Draw:
    """An instance, valid under both readings, and a point of it.

    For the squared distance b is sometimes f, where the barrier is up to rounding.
    """
    problem = draw(instances("block", min_w=min_w, metric=metric))
    x = draw(points(problem))
    at_barrier = metric == "squared" and draw(st.sampled_from([False, False, False, True]))
    b = problem.f(x) if at_barrier else problem.b
    A, b, protected, w = map(np.asarray, (problem.A, b, problem.protected, problem.w))
    return Draw(A, b, protected, float(problem.gamma), w, x)


def random_problem(
    seed: int,
    n: int,
    d: int,
    *,
    reading: Any = "joint",
    w: Any = 1.0,
    gamma: float = 0.1,
    metric: Any = "squared",
) -> cr.CopyrightRegression:
    """A generic instance with b on the simplex and a third of the rows protected."""
    rng = np.random.default_rng(seed)
    b = rng.dirichlet(np.full(n, 0.3))
    return cr.CopyrightRegression(
        rng.normal(size=(n, d)), b, max(1, n // 3), gamma, w, reading, metric
    )


def _sparse() -> cr.CopyrightRegression:
    rng = np.random.default_rng(5)
    A = scipy.sparse.random_array((40, 6), density=0.3, format="csr", rng=rng)
    return cr.CopyrightRegression(A, rng.dirichlet(np.ones(40)), 10, gamma=0.1)


def _ill_conditioned() -> cr.CopyrightRegression:
    rng = np.random.default_rng(6)
    A = rng.normal(size=(60, 4)) * np.array([1.0, 1e-3, 1e2, 1.0])
    return cr.CopyrightRegression(A, rng.dirichlet(np.ones(60)), 20, gamma=0.1, w=0.5)


def _rank_deficient() -> cr.CopyrightRegression:
    rng = np.random.default_rng(7)
    A = rng.normal(size=(20, 3))
    A = np.concatenate([A, A[:, :1], np.zeros((20, 1))], axis=1)
    return cr.CopyrightRegression(A, rng.dirichlet(np.ones(20)), 5, gamma=0.1)


# Built when asked for: importing this module must not depend on configuration.
PROBLEMS = {
    "joint": lambda: random_problem(1, 30, 4),
    "block": lambda: random_problem(2, 30, 4, reading="block"),
    "softmax": lambda: cr.SoftmaxRegression(
        np.random.default_rng(3).normal(size=(30, 4)),
        np.random.default_rng(4).dirichlet(np.ones(30)),
    ),
    "barrier at zero": lambda: cr.CopyrightRegression(
        np.eye(6), np.full(6, 1 / 6), 2, gamma=0.1, w=0.3
    ),
    "small w": lambda: random_problem(8, 30, 4, w=0.05, gamma=0.01),
    "sparse": _sparse,
    "ill-conditioned": _ill_conditioned,
    "rank-deficient": _rank_deficient,
    "one column": lambda: random_problem(9, 10, 1),
    "cross-entropy": lambda: random_problem(10, 30, 4, metric="cross-entropy"),
    "cross-entropy block": lambda: random_problem(
        11, 30, 4, reading="block", w=0.2, metric="cross-entropy"
    ),
}

SOLVERS: dict[str, Any] = {
    "newton-cg": cr.NewtonCG(),
    "newton": cr.TrustRegionNewton(),
    # Few rows, so that there is something to sample from.
    "sketched-newton": cr.SketchedNewton(num_rows=24),
    "gradient-descent": cr.GradientDescent(),
    "accelerated-gradient": cr.AcceleratedGradient(),
    "lbfgs": cr.Optax(optax.lbfgs()),
    "adam": cr.Optax(optax.adam(0.02)),
}
