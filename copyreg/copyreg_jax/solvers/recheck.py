"""L and its gradient once more: in float64, on the host, with NumPy alone.

A solver's own word for its success is not enough: device arithmetic may be wrong, fast-math or
float32. This shares no code with the closed forms that the solvers use.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from copyreg_jax.matrices import fetch, host_rows, join
from copyreg_jax.problem import SoftmaxRegression


class Evaluation(NamedTuple):
    """Everything a `Solution` states about x."""

    value: float
    gradient_norm: float
    ell: float
    ell_1: float
    ell_2: float
    protected_mass: float
    target_mass: float


def _softmax(u: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over the rows, zero elsewhere, and minus its logarithm."""
    shifted = u[rows] - u[rows].max()
    powers = np.exp(shifted)
    total = powers.sum()
    f, surprise = np.zeros_like(u), np.zeros_like(u)
    f[rows], surprise[rows] = powers / total, np.log(total) - shifted
    return f, surprise


def _loss(
    f: np.ndarray, surprise: np.ndarray, b: np.ndarray, counted: np.ndarray, metric: str
) -> tuple[float, np.ndarray]:
    """Loss of a softmax, summed over the rows ``counted``.

    Also the gradient of its share in L, a half or all of it.
    """
    if metric == "squared":
        c = np.where(counted, f - b, 0)
        return np.sum(c * c), f * c - f * np.sum(f * c)
    target = np.where(counted, b, 0)
    asked = target > 0  # nothing is 0 * inf
    return np.sum(target[asked] * surprise[asked]), target.sum() * f - target


def _product(indices: str, left: Any, right: Any) -> np.ndarray:
    """``left @ right``; without BLAS, whose threads keep cores busy for a while after."""
    dense = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
    product: np.ndarray = np.einsum(indices, left, right) if dense else left @ right
    return product


def evaluate(problem: SoftmaxRegression, x: np.ndarray) -> Evaluation:
    """Evaluate ``problem`` at x. The caller must have waited for the device: it takes the cores."""
    # Two passes over A: there is no second copy of a float32 A, and none of one on disk.
    A, x = problem.A, np.asarray(x, np.float64)
    b, w = (np.asarray(fetch(A, vector), np.float64) for vector in (problem.b, problem.w))
    mask, gamma = np.asarray(fetch(A, problem.protected)), float(problem.gamma)
    everything, metric = np.ones_like(mask), problem.metric
    with np.errstate(all="ignore"):  # what is not finite is reported as such
        u = join(A, [_product("ij,j->i", part, x) for _, part in host_rows(A)])
        absent = len(u) - problem.n
        u = u[: problem.n]
        whole = _softmax(u, everything)
        ell, pull = _loss(*whole, b, everything, metric)
        if problem.reading == "joint":
            ell_1, pull_1 = _loss(*whole, b, mask, metric)
            ell_2, _ = _loss(*whole, b, ~mask, metric)
        else:
            ell_1, pull_1 = _loss(*_softmax(u, mask), b, mask, metric)
            ell_2 = ell - ell_1
        h = 0.5 if metric == "squared" else 1.0
        value = h * ell + 0.5 * np.sum((w * u) ** 2)
        gradient_u = pull + w * w * u
        if gamma > 0:
            value += np.divide(gamma, ell_1)
            gradient_u = gradient_u - np.divide(gamma, h * ell_1**2) * pull_1
        gradient_u = np.pad(gradient_u, (0, absent))
        parts = [_product("i,ij->j", gradient_u[rows], part)[None] for rows, part in host_rows(A)]
        gradient_norm = np.linalg.norm(join(A, parts).sum(axis=0))
        f, _ = whole
    numbers = (value, gradient_norm, ell, ell_1, ell_2, f[mask].sum(), b[mask].sum())
    return Evaluation._make(float(number) for number in numbers)
