"""L and its derivatives once more: in float64, on the host, with NumPy alone.

A solver's own word for its success is not enough: device arithmetic may be wrong, fast-math or
float32. This shares no code with the closed forms that the solvers use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jax.typing import ArrayLike

from copyreg_jax._tracing import number
from copyreg_jax.matrices import fetch, host_rows, interface, join
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.optimality import DEFAULT_RTOL
from copyreg_jax.solvers.solution import SecondOrder

__all__ = ["Curved", "Evaluation", "Rechecks", "evaluate", "second_order"]

_PIECE_ROWS = 1024


class Evaluation(NamedTuple):
    """Everything a `Solution` states about x."""

    value: float
    gradient_norm: float
    ell: float
    ell_1: float
    ell_2: float
    protected_mass: float
    target_mass: float
    gradient_size: float


def _softmax(u: np.ndarray, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over the rows, all if none are given, and minus its logarithm; zero elsewhere."""
    own = u if rows is None else u[rows]
    shifted = own - own.max()
    powers = np.exp(shifted)
    total = powers.sum()
    parts = powers / total, np.log(total) - shifted
    if rows is None:
        return parts
    f, surprise = np.zeros_like(u), np.zeros_like(u)
    f[rows], surprise[rows] = parts
    return f, surprise


def _loss(
    f: np.ndarray, surprise: np.ndarray, b: np.ndarray, counted: np.ndarray | None, metric: str
) -> float:
    """Loss of a softmax, summed over the rows ``counted``, all if None."""
    if metric == "squared":
        return np.sum(np.square(_counted(f - b, counted)))
    target = _counted(b, counted)
    asked = target > 0  # nothing is 0 * inf
    return np.sum(target[asked] * surprise[asked])


def _pull(f: np.ndarray, b: np.ndarray, counted: np.ndarray | None, metric: str) -> np.ndarray:
    """Gradient of the share in L, a half or all, of the loss over the rows ``counted``."""
    if metric == "squared":
        c = _counted(f - b, counted)
        return f * (c - np.sum(f * c))
    target = _counted(b, counted)
    return target.sum() * f - target


def _counted(vector: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """The vector, with zeros for the rows that are not named; all of it if None."""
    return vector if rows is None else np.where(rows, vector, 0)


def _product(indices: str, left: Any, right: Any) -> np.ndarray:
    """``left @ right``; without BLAS, whose threads keep cores busy for a while after."""
    dense = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
    product: np.ndarray = np.einsum(indices, left, right) if dense else left @ right
    return product


def _sizes(f: np.ndarray, b: np.ndarray, t: np.ndarray, metric: str) -> np.ndarray:
    """The terms of the derivative of phi_t by each logit, added up without their signs."""
    if metric == "squared":
        terms = t * (f + np.abs(b))
        return f * (terms + np.sum(f * terms))
    return np.sum(t * b) * f + t * b


def evaluate(problem: SoftmaxRegression, x: np.ndarray) -> Evaluation:
    """Evaluate ``problem`` at x. The caller must have waited for the device: it takes the cores.

    Examples
    --------
    >>> problem = SoftmaxRegression([[1.0], [-1.0]], [0.75, 0.25])
    >>> here = evaluate(problem, np.zeros(1))
    >>> here.value, here.gradient_norm  # 0.5 (1/4^2 + 1/4^2); 2 f_1 f_2 (b_1 - b_2)
    (0.0625, 0.25)
    """
    return Rechecks(problem, interface.row_norms(problem.A)).at(x)[0]


class Rechecks:
    """What `evaluate` says of the points of a run, with the gradient; the last one is kept.

    ``row_norms`` weigh the terms in ``gradient_size``.
    """

    def __init__(self, problem: SoftmaxRegression, row_norms: Any) -> None:
        self.problem, self._row_norms = problem, row_norms
        self._last: tuple[bytes, tuple[Evaluation, np.ndarray]] | None = None

    def at(self, x: ArrayLike) -> tuple[Evaluation, np.ndarray]:
        """The numbers at x, and the gradient of L."""
        point = np.asarray(x)
        key = point.tobytes()
        if self._last is None or self._last[0] != key:
            norms = np.asarray(fetch(self.problem.A, self._row_norms))
            self._last = key, _evaluate(self.problem, point, norms)
        return self._last[1]


def _evaluate(
    problem: SoftmaxRegression, x: np.ndarray, row_norms: np.ndarray
) -> tuple[Evaluation, np.ndarray]:
    # Two passes over A: there is no second copy of a float32 A, and none of one on disk.
    A, x = problem.A, np.asarray(x, np.float64)
    b, w = (np.asarray(fetch(A, vector), np.float64) for vector in (problem.b, problem.w))
    mask, gamma = np.asarray(fetch(A, problem.protected)), number(problem.gamma)
    metric, left_out = problem.metric, problem.reading == "left-out"
    counted = ~mask if left_out else None
    with np.errstate(all="ignore"):  # what is not finite is reported as such
        u = join(A, [_product("ij,j->i", part, x) for _, part in host_rows(A)])
        absent = len(u) - problem.n
        u = u[: problem.n]
        whole = _softmax(u)
        own = _softmax(u, mask) if problem.reading == "block" else whole
        ell, ell_1 = _loss(*whole, b, None, metric), _loss(*own, b, mask, metric)
        # A sum of its own: the difference would cancel.
        ell_2 = ell - ell_1 if problem.reading == "block" else _loss(*whole, b, ~mask, metric)
        h = 0.5 if metric == "squared" else 1.0
        value = h * (ell_2 if left_out else ell) + 0.5 * np.sum((w * u) ** 2)
        gradient_u = _pull(whole[0], b, counted, metric) + w * w * u
        slope = 0.0
        if gamma > 0:
            value += np.divide(gamma, ell_1)
            slope = np.divide(gamma, h * ell_1**2)
            gradient_u -= slope * _pull(own[0], b, mask, metric)
        if problem.reading == "block":
            sizes = _sizes(whole[0], b, np.ones_like(mask), metric)
            sizes += slope * _sizes(own[0], b, mask, metric)
        else:
            weights = slope if left_out else 1 + slope
            sizes = _sizes(whole[0], b, np.where(mask, weights, 1.0), metric)
        size = np.sum((sizes + w * w * np.abs(u)) * np.asarray(row_norms, np.float64))
        if absent:
            gradient_u = np.pad(gradient_u, (0, absent))
        parts = [_product("i,ij->j", gradient_u[rows], part)[None] for rows, part in host_rows(A)]
        gradient = join(A, parts).sum(axis=0)
        f, _ = whole
        norm = np.linalg.norm(gradient)
    numbers = (value, norm, ell, ell_1, ell_2, f[mask].sum(), b[mask].sum(), size)
    return Evaluation._make(float(each) for each in numbers), gradient


class Curved(NamedTuple):
    """The second order at x: Newton decrement, verdict, and a direction of negative curvature."""

    decrement: float
    second_order: SecondOrder
    direction: np.ndarray


def second_order(problem: SoftmaxRegression, x: np.ndarray, rtol: float) -> Curved:
    """Decrement and lowest curvature from the Hessian in float64; O(n d^2 + d^3).

    For problems in float32, whose own arithmetic does not resolve them. As `optimality.exact_look`.
    """
    A, x = problem.A, np.asarray(x, np.float64)
    b, w = (np.asarray(fetch(A, vector), np.float64) for vector in (problem.b, problem.w))
    mask, gamma = np.asarray(fetch(A, problem.protected)), number(problem.gamma)
    block, metric = problem.reading == "block", problem.metric
    everything, d = np.ones_like(mask), problem.d
    counted = ~mask if problem.reading == "left-out" else everything
    h = 0.5 if metric == "squared" else 1.0
    with np.errstate(all="ignore"):
        u = np.concatenate([part @ x for part, _ in _pieces(problem)])
        whole = _softmax(u)
        own = _softmax(u, mask) if block else whole
        ell, pull = _loss(*whole, b, counted, metric), _pull(whole[0], b, counted, metric)
        ell_1, pull_1 = _loss(*own, b, mask, metric), _pull(own[0], b, mask, metric)
        slope = gamma / (h * ell_1**2) if gamma > 0 else 0.0
        kappa = 2 * gamma / (h**2 * ell_1**3) if gamma > 0 else 0.0
        value = h * ell + (gamma / ell_1 if gamma > 0 else 0.0) + 0.5 * np.sum((w * u) ** 2)
        gradient_u = pull - slope * pull_1 + w * w * u
        parts = [(whole[0], _weights(whole[0], b, counted, metric))]
        weights_1 = -slope * _weights(own[0], b, mask, metric)
        if block:
            parts.append((own[0], weights_1))
        else:
            parts[0] = (whole[0], parts[0][1] + weights_1)
        sizes = sum(np.abs(s) for _, s in parts) + w * w
        vectors = np.stack([gradient_u, kappa**0.5 * pull_1, sizes, *(f for f, _ in parts)])
        products = np.zeros((len(vectors), d))
        for part, rows in _pieces(problem):
            products += np.asarray(vectors[:, rows] @ part)
        gradient, bend, total, *centers = products
        m = total / max(np.sum(sizes), np.finfo(float).tiny)
        H, scale = _hessian(problem, [s for _, s in parts], w * w, centers, m)
        H, scale = H + np.outer(bend, bend), scale + bend**2
        scale = np.where(scale > 0, scale, np.inf) ** -0.5
        H = H * scale * scale[:, None]
        if not np.isfinite(H).all():
            return Curved(np.inf, SecondOrder.UNKNOWN, np.zeros(d))
        lam, Q = np.linalg.eigh(H)
        noise = 16 * d * np.finfo(float).eps
        decrement = np.linalg.norm((gradient * scale) @ Q / np.sqrt(np.maximum(np.abs(lam), noise)))
        if lam[0] >= -noise:
            return Curved(float(decrement), SecondOrder.EXACT, np.zeros(d))
        direction = scale * Q[:, 0]
        z = np.concatenate([part @ direction for part, _ in _pieces(problem)])
        reach, visible = np.mean(z**2), min(rtol, DEFAULT_RTOL[problem.dtype])
        negative = -0.5 * lam[0] > visible * value * reach
    if not negative:
        return Curved(float(decrement), SecondOrder.EXACT, np.zeros(d))
    downhill = -direction if gradient @ direction > 0 else direction
    return Curved(float(decrement), SecondOrder.NEGATIVE, downhill)


def _hessian(
    problem: SoftmaxRegression, s: list[np.ndarray], w2: np.ndarray, centers: Any, m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``sum_j sum_i s_ji (a_i - y_j) (a_i - y_j)^T + sum_i w2_i a_i a_i^T``, y_j the centers.

    And the diagonal of what that would be without signs. The first s and w2 share a Gram matrix,
    centered at a mean row m, as in `curvature.hessian`.
    """
    d, sizes, shared = problem.d, sum(np.abs(own) for own in s) + w2, np.stack([s[0], w2])
    H, scale, sums = np.zeros((d, d)), np.zeros(d), np.zeros((2, d))
    for part, rows in _pieces(problem):
        dense = part.toarray() if scipy.sparse.issparse(part) else part
        scale += np.einsum("i,ij,ij->j", sizes[rows], dense, dense)
        sums += shared[:, rows] @ part - np.outer(shared[:, rows].sum(axis=1), m)
        H += _gram(part, dense, m, shared[:, rows].sum(axis=0))
        for own, center in zip(s[1:], centers[1:], strict=True):
            H += _gram(part, dense, center, own[rows])
    for total, weight, shift in zip(sums, shared.sum(axis=1), (m - centers[0], m), strict=True):
        half = np.outer(total + 0.5 * weight * shift, shift)
        H += half + half.T
    return H, scale


def _gram(part: Any, dense: np.ndarray, center: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``sum_i weights_i (a_i - center) (a_i - center)^T``; a sparse part saves products."""
    centered = dense - center
    weighted = centered * weights[:, None]
    if not scipy.sparse.issparse(part):
        return np.asarray(centered.T @ weighted)
    return np.asarray(part.T @ weighted - np.outer(center, weighted.sum(axis=0)))


def _pieces(problem: SoftmaxRegression) -> Iterator[tuple[Any, slice]]:
    """The rows of A in float64, a few thousand at a time, without absent ones."""
    for rows, part in host_rows(problem.A):
        end = min(rows.stop, problem.n)
        for first in range(rows.start, end, _PIECE_ROWS):
            last = min(first + _PIECE_ROWS, end)
            yield part[first - rows.start : last - rows.start], slice(first, last)


def _weights(f: np.ndarray, b: np.ndarray, t: np.ndarray, metric: str) -> np.ndarray:
    """The weights s_t of the Hessian of phi_t in the logits."""
    if metric == "squared":
        tc = np.where(t, f - b, 0)
        return f * (t * f + tc - np.sum(f * tc))
    return np.sum(b[t]) * f
