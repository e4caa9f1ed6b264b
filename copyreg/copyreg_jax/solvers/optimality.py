"""Is x a minimizer? The size of a gradient's terms, the Newton decrement, negative curvature.

docs/theory/stopping.md states the rule that a solution meets, and proves what it implies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from copyreg_jax._tracing import only_if
from copyreg_jax.matrices import (
    Matrix,
    absent_rows,
    on_host,
    row_norms,
    squared_column_norms,
)
from copyreg_jax.problems import curvature, objective
from copyreg_jax.problems.curvature import Operator
from copyreg_jax.problems.objective import Point, Scalar, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.coordinates import Basis, inverse_root, pull_back, to_point
from copyreg_jax.solvers.factorizations import eigh, inverse_factor
from copyreg_jax.solvers.krylov import lanczos, steihaug
from copyreg_jax.solvers.solution import SecondOrder

__all__ = [
    "DEFAULT_RTOL",
    "MAX_EXACT_COLUMNS",
    "Look",
    "allowed_excess",
    "convex_decrement",
    "exact_look",
    "gradient_size",
    "has_large_gram",
    "least_curvature",
    "length",
    "sampled_look",
    "unknown",
]

DEFAULT_RTOL = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}

MAX_EXACT_COLUMNS = 512
"""Columns up to which a Hessian is formed to look at a solution."""

_LARGE_GRAM = 1 << 31
"""Multiplications of a Gram matrix that take a tenth of a second in float64."""

_FORCING = 0.1
"""Relative residual of the conjugate gradients that estimate a decrement."""

_FAR = 1e8
"""Longest step they may take, in units of the gradient."""


class Look(NamedTuple):
    """What is known of the second order at a point.

    Attributes
    ----------
    decrement : () array
        Newton decrement ``sqrt(g^T H^-1 g)``, or a bound of it.
    second_order : () int32
        A `SecondOrder`: whether there is negative curvature, and how one looked.
    direction : (d,) array
        Where it is negative, a direction of that curvature, downhill; else zero.
    """

    decrement: Scalar
    second_order: Int[Array, ""]
    direction: Point


def unknown(x: Point) -> Look:
    """Return the look of a solver that knows nothing of the second order."""
    none = jnp.asarray(SecondOrder.UNKNOWN, jnp.int32)
    return Look(jnp.full_like(x, jnp.inf, shape=()), none, jnp.zeros_like(x))


def length(vector: Array) -> Scalar:
    """Return the Euclidean norm, without over- or underflow for a small or large unit of A.

    Examples
    --------
    >>> round(float(length(jnp.array([3e30, 4e30]))) / 1e30, 3)  # the squares are beyond float32
    5.0
    """
    largest = jnp.max(jnp.abs(vector))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.linalg.norm(vector / scale)


def gradient_size(problem: SoftmaxRegression, u: Vector, row_norms: Vector) -> Scalar:
    """Sum over the rows of ``T_i ||a_i||``, T_i the sum of the terms of ``dL/du_i`` without signs.

    In the unit of the gradient, whatever that of A is. For the squared distance and a mask t the
    derivative of its phi_t is ``f_i (t_i (f_i - b_i) - <f, t (f - b)>)``, and its terms are
    ``f_i (t_i (f_i + |b_i|) + <f, t (f + |b|)>)``. Cost O(n).
    """
    terms = problem.terms
    b, protected, metric = terms.b, terms.protected, terms.metric
    f = objective.f(u)
    loss = objective.ell_1(u, b, protected, terms.reading, metric)
    slope = curvature.protection_slope(loss, terms.gamma, objective.FACTOR[metric])

    def sizes(f: Vector, t: Vector) -> Vector:
        if metric == "squared":
            parts = t * (f + jnp.abs(b))
            return f * (parts + jnp.sum(f * parts))
        return jnp.sum(t * b) * f + t * b

    if terms.reading == "block":
        own = sizes(objective.f_1(u, protected, terms.reading), protected.astype(u.dtype))
        total = sizes(f, jnp.ones_like(f)) + slope * own
    else:
        total = sizes(f, objective.row_weights(terms, -slope))
    return jnp.sum((total + terms.w**2 * jnp.abs(u)) * row_norms)


def allowed_excess(problem: SoftmaxRegression, u: Vector, value: Scalar, rtol: Any) -> Scalar:
    """Return how far L may be above its minimum: ``rtol L`` and the rounding of the logits.

    The second, ``4 eps^2 Q (1 + r max|u|^2)`` with r = min(1, d/n), matters where b is a softmax
    of the rows and L almost zero. Q is ``0.5 sum_i (f_i + |b_i|)^2``, or the sum of b for the
    cross-entropy. Cost O(n).
    """
    f, b = objective.f(u), jnp.abs(problem.b)
    squared = problem.metric == "squared"
    scale = 0.5 * jnp.sum((f + b) ** 2) if squared else jnp.sum(b)
    absent = absent_rows(problem.A)
    reach = jnp.max(jnp.abs(u if absent is None else jnp.where(absent, 0, u)))
    share = min(1.0, problem.d / problem.n)
    noise = 2 * jnp.finfo(u.dtype).eps
    return rtol * value + scale * (noise**2 + share * (noise * reach) ** 2)


def exact_look(
    problem: SoftmaxRegression, u: Vector, gradient: Point, rtol: Any, *, mixed: bool = False
) -> Look:
    """Find decrement and lowest curvature from the Hessian at the logits u, O(n d^2 + d^3).

    A Cholesky factor says all there is to say if it exists; else eigenvectors do. In coordinates in
    which no entry of the Hessian is above one, so that ``16 d eps`` is what rounding leaves. If
    ``mixed``, a Hessian from float32 is looked at first: where its lowest eigenvalue is ten times
    what rounding leaves, it proves as much in half of the time.
    """
    at = curvature.curvature(u, problem.terms)
    weights = jnp.sum(jnp.abs(at.s), axis=0) + at.w2
    # The root first: kappa alone may be beyond float32.
    slope = (jnp.sqrt(at.kappa) * at.g) @ problem.A
    scale = inverse_root(squared_column_norms(problem.A, weights) + slope**2)

    def precise(here: tuple[curvature.Curvature, Vector, Vector, Point]) -> Look:
        return _precise_look(problem, *here, rtol)

    here = at, scale, u, gradient
    if not mixed:
        return precise(here)
    H, noise = _scaled_hessian(problem, at, scale, np.float32)
    q = gradient * scale
    # What rounding leaves is taken from the curvature, so the decrement is not understated.
    clear = jnp.isfinite(jnp.sum(_inverse_factor_above(H, 10 * noise)))
    # And what underflow may take from each of the n terms of an entry is less than that: of the
    # product, or of a weight that two centered rows, no longer than 2 max |a_i|, multiply.
    limits, longest = jnp.finfo(np.float32), jnp.maximum(1, 2 * jnp.max(row_norms(problem.A)))
    lost = problem.n * float(limits.tiny) * jnp.max(weights) * (jnp.max(scale) * longest) ** 2
    clear &= lost <= float(limits.eps)
    decrement = length(_inverse_factor_above(H, noise) @ q)
    exact = jnp.asarray(SecondOrder.EXACT, jnp.int32)
    rough = Look(decrement, exact, jnp.zeros_like(q))
    return only_if(on_host(problem.A), ~clear, precise, here, rough)


def _scaled_hessian(
    problem: SoftmaxRegression, at: curvature.Curvature, scale: Vector, gram_dtype: Any
) -> tuple[Float[Array, "d d"], float]:
    """The Hessian in coordinates in which no entry is above one, and what rounding leaves of it."""
    H = curvature.hessian(problem.A, at, gram_dtype) * scale[None] * scale[:, None]
    noise = 16 * problem.d * float(jnp.finfo(gram_dtype or H.dtype).eps)
    return H + jnp.diag((scale == 0).astype(H.dtype)), noise


def _inverse_factor_above(H: Float[Array, "d d"], floor: float) -> Float[Array, "d d"]:
    """The inverse of the Cholesky factor of ``H - floor I``; NaN if an eigenvalue is below."""
    return inverse_factor(H - floor * jnp.eye(len(H), dtype=H.dtype))


def _precise_look(
    problem: SoftmaxRegression, at: curvature.Curvature, scale: Vector, u: Vector, gradient: Point,
    rtol: Any,
) -> Look:  # fmt: skip
    """Return the look by a Hessian in the arithmetic of the problem."""
    H, noise = _scaled_hessian(problem, at, scale, None)
    q = gradient * scale
    lifted = _inverse_factor_above(H, -noise)
    exact = jnp.asarray(SecondOrder.EXACT, jnp.int32)
    positive = Look(length(lifted @ q), exact, jnp.zeros_like(q))

    def by_eigenvectors(here: Any) -> Look:
        H, q, u, gradient = here
        lam, Q = eigh(H)
        decrement = length((q @ Q) / jnp.sqrt(jnp.maximum(jnp.abs(lam), noise)))
        floor = jnp.asarray(noise, H.dtype)
        direction = scale * Q[:, 0]
        z = problem.A @ direction
        return _signed(problem, u, gradient, rtol, lam[0], floor, direction, z, decrement)

    good = jnp.isfinite(jnp.sum(lifted))
    return only_if(on_host(problem.A), ~good, by_eigenvectors, (H, q, u, gradient), positive)


def _signed(
    problem: SoftmaxRegression, u: Vector, gradient: Point, rtol: Any, lowest: Scalar,
    floor: Scalar, direction: Point, z: Vector, decrement: Scalar,
    how: SecondOrder = SecondOrder.EXACT,
) -> Look:  # fmt: skip
    """Return the look with its verdict on the lowest curvature.

    It counts as negative where it is beyond rounding and the model of L falls by more than
    ``rtol L`` along it while the logits change by one, as a root mean square. An rtol above the
    default counts as that: the top of a hill is no loose solution.
    """
    value = objective.value(u, problem.terms)
    reach = length(z) / problem.n**0.5
    fall = -0.5 * lowest / jnp.where(reach > 0, reach, jnp.inf) ** 2
    visible = jnp.minimum(rtol, DEFAULT_RTOL[np.dtype(u.dtype)])
    negative = (lowest < -floor) & (fall > visible * value)
    downhill = jnp.where(jnp.sum(gradient * direction) > 0, -direction, direction)
    second_order = jnp.where(negative, SecondOrder.NEGATIVE, how).astype(jnp.int32)
    return Look(decrement, second_order, jnp.where(negative, downhill, 0))


def least_curvature(dtype: np.dtype) -> float:
    """Return what less curvature counts as, ``100 sqrt(eps)``, where none can be proved.

    In the coordinates of a basis that makes the diagonal of the Hessian about one.
    """
    return 100 * float(jnp.finfo(dtype).eps) ** 0.5


def sampled_look(
    problem: SoftmaxRegression, row_norms: Vector, basis: Basis, u: Vector, gradient: Point,
    rtol: Any,
) -> Look:  # fmt: skip
    """Find the decrement by conjugate gradients and the lowest curvature by Lanczos steps.

    Costs some 40 products with A.

    In the coordinates of ``basis``, (d, d) or (d,) for a diagonal one, where curvature below
    `least_curvature` counts as that much. The chance to miss negative curvature is that of
    `krylov.lanczos`.
    """
    A, host = problem.A, on_host(problem.A)
    at = curvature.curvature(u, problem.terms)
    _, operator = curvature.linearize(A, at, jnp.zeros_like(u))
    apply = _in_coordinates(A, operator, basis)
    eps = float(jnp.finfo(u.dtype).eps)
    floor = jnp.asarray(least_curvature(u.dtype), u.dtype)
    ritz, direction = lanczos(apply, basis, host)
    # A null space of A, which a basis may stretch, has rounding for a curvature. So it is summed
    # anew from the logits, with what rounding leaves of those and of the weights.
    v = to_point(basis, direction)
    z = A @ v
    error = 4 * eps * row_norms * length(v)
    weights = jnp.sum(jnp.abs(at.s), axis=0) + at.w2
    most = jnp.abs(z) + jnp.max(jnp.abs(at.f @ z))
    absent = absent_rows(A)
    reach = jnp.max(jnp.abs(u if absent is None else jnp.where(absent, 0, u)))
    noise = jnp.sum(weights * (2 * error + eps * (16 + 4 * reach) * most) * (most + error))
    bent = curvature.restrict(at, z[None])[0, 0]
    lowest = jnp.where(bent < -noise, bent, 0)

    # What conjugate gradients have not seen is divided by the lowest curvature that Lanczos has.
    least = jnp.clip(ritz, floor, 1)
    forcing = _FORCING * jnp.sqrt(least)
    value = objective.value(u, problem.terms)
    q = pull_back(gradient, basis)
    decrement, rest = _seen_decrement(apply, q, value, forcing, least, host)
    decrement = jnp.where((rest == 0) | (lowest == 0), decrement, jnp.inf)
    zero = jnp.zeros_like(floor)
    return _signed(problem, u, gradient, rtol, lowest, zero, v, z, decrement, SecondOrder.SAMPLED)


def convex_decrement(
    A: Matrix, operator: Operator | curvature.Curvature, basis: Basis, gradient: Point,
    value: Scalar,
) -> Scalar:  # fmt: skip
    """Find the decrement by conjugate gradients where the Hessian is known to be positive.

    In the coordinates of ``basis``, where what they have not seen is divided by `least_curvature`.
    """
    apply, q = _in_coordinates(A, operator, basis), pull_back(gradient, basis)
    least = least_curvature(q.dtype)
    forcing = jnp.asarray(_FORCING**2, q.dtype)
    return _seen_decrement(apply, q, value, forcing, least, on_host(A))[0]


def _in_coordinates(
    A: Matrix, operator: Operator | curvature.Curvature, basis: Basis
) -> Callable[[Array], Array]:
    """The Hessian in the coordinates of a basis."""
    return lambda s: pull_back(curvature.apply(A, operator, to_point(basis, s))[0], basis)


def _seen_decrement(
    apply: Callable[[Array], Array], q: Array, value: Scalar, forcing: Scalar, least: Any,
    host: bool,
) -> tuple[Scalar, Scalar]:  # fmt: skip
    """The decrement, infinite beyond the longest step, and the length of the residual in it.

    Conjugate gradients end where their residual promises less than the rounding error of L. Not in
    float32: there ``least`` is no small curvature, and below it the promise is void.
    """
    size, tolerance = length(q), forcing * length(q)
    if q.dtype == np.float64:
        rounding = jnp.finfo(q.dtype).eps * jnp.abs(value)
        tolerance = jnp.maximum(tolerance, jnp.sqrt(2 * rounding * least))
    s, _, k, out = steihaug(lambda p: (apply(p), ()), q, _FAR * size, tolerance, (), host)
    # Not the residual that they know: rounding errors may have hidden a part of it.
    rest = length(q + only_if(host, k > 0, apply, s, jnp.zeros_like(s)))
    squared = jnp.maximum(-jnp.sum(q * s), 0) + rest**2 / least
    return jnp.where((rest == 0) | ~out, jnp.sqrt(squared), jnp.inf), rest


def has_large_gram(problem: SoftmaxRegression) -> bool:
    """Whether A is an array in float64 whose Gram matrix takes a tenth of a second or more.

    There it pays to try something cheaper before. For 20,000 x 128, a sixth of this, a look at a
    Hessian from float32 takes longer than one from float64.
    """
    array = isinstance(problem.A, jax.Array) and problem.dtype == np.float64
    return array and problem.n * problem.d**2 >= _LARGE_GRAM
