"""L and its gradient once more: in float64, on the host, with NumPy alone.

A solver's own word for its success is not enough: device arithmetic may be wrong, fast-math or
float32. This shares no code with the closed forms that the solvers use.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from copyreg_jax.matrices import to_host
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


def _softmax(u: np.ndarray) -> np.ndarray:
    e = np.exp(u - u.max())
    return e / e.sum()


def _pull_back(f: np.ndarray, v: np.ndarray) -> np.ndarray:
    """``(diag(f) - f f^T) v``."""
    return f * v - f * np.dot(f, v)


def evaluate(problem: SoftmaxRegression, x: np.ndarray) -> Evaluation:
    """Evaluate ``problem`` at x. The caller must have waited for all work on the device."""
    A = to_host(problem.A)
    b, w = np.asarray(problem.b, np.float64), np.asarray(problem.w, np.float64)
    mask, gamma = np.asarray(problem.protected), float(problem.gamma)
    with np.errstate(all="ignore"):  # what is not finite is reported as such
        u = A @ np.asarray(x, np.float64)
        f = _softmax(u)
        c = f - b
        ell = np.dot(c, c)
        c_1 = np.zeros_like(c)
        if problem.reading == "joint":
            c_1[mask] = c[mask]
            ell_1, ell_2 = np.dot(c_1, c_1), np.dot(c[~mask], c[~mask])
            pull_1 = _pull_back(f, c_1)
        else:
            f_1 = np.zeros_like(f)
            f_1[mask] = _softmax(u[mask])
            c_1[mask] = f_1[mask] - b[mask]
            ell_1 = np.dot(c_1, c_1)
            ell_2 = ell - ell_1
            pull_1 = _pull_back(f_1, c_1)
        value = 0.5 * ell + 0.5 * np.dot(w * u, w * u)
        gradient_u = _pull_back(f, c) + w * w * u
        if gamma > 0:
            value += np.divide(gamma, ell_1)
            gradient_u = gradient_u - np.divide(2 * gamma, ell_1**2) * pull_1
        gradient_norm = np.linalg.norm(gradient_u @ A)
    numbers = (value, gradient_norm, ell, ell_1, ell_2, f[mask].sum(), b[mask].sum())
    return Evaluation._make(float(number) for number in numbers)
