r"""Closed forms of the first and second derivatives of L, by one identity.

For weights ``t`` (n,) let ``phi_t(u) = 0.5 sum_i t_i (f_i - b_i)^2`` (squared distance) or
``-sum_i t_i b_i log f_i`` (cross-entropy). With ``tc = t * (f - b)`` and ``P = I - 1 f^T``::

    grad_u phi_t = f * (tc - <f, tc>)  or  <t, b> f - t * b
    hess_u phi_t = P^T diag(s_t) P ,    s_t = f * (t * f + tc - <f, tc>)  or  <t, b> f

so that in x it is ``sum_i s_i (a_i - abar)(a_i - abar)^T`` with the mean row ``abar = A^T f``: a
weighted, centered Gram matrix. With h = 1/2 or 1, the factor of ``ell`` in L, ``h ell`` is
``phi_1``, and under the joint reading ``h ell_1`` is ``phi_m`` for the protected mask ``m``. With
``k = gamma / (h ell_1^2)`` frozen and ``t = 1 - k m``::

    grad_u L = grad_u phi_t + w^2 * u
    hess_u L = hess_u phi_t + diag(w^2) + kappa g g^T ,
               kappa = 2 gamma / (h^2 ell_1^3) ,    g = grad_u phi_m

Under the block reading ``phi_m`` is that of the protected rows' own softmax, which gives a second
pair ``(f_1, s_1)``. In u the Hessian is diagonal plus low rank: nothing n x n is formed.
The printed forms of the paper (Definition 11, Lemma 12) differ; docs/theory/objective.md says
where.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from copyreg_jax.matrices import (
    Matrix,
    SparseMatrix,
    two_products,
    weighted_gram,
    weighted_product,
)
from copyreg_jax.problems import objective
from copyreg_jax.problems.objective import FACTOR, Mask, Metric, Scalar, Terms, Vector

__all__ = [
    "MAX_SECOND_DERIVATIVE",
    "Curvature",
    "Operator",
    "apply",
    "curvature",
    "hessian",
    "hvp",
    "linearize",
    "linearize_and_multiply",
    "linearize_at_zero",
    "protection_slope",
    "restrict",
    "rows_at_zero",
    "upper_bound",
    "value_and_gradient",
    "value_and_gradient_jit",
]

MAX_SECOND_DERIVATIVE = 2 / 27**0.5
"""Largest ``sum_i |f_i''|`` along a unit direction, 0.3849 (docs/theory/curvature-bound.md)."""


class Curvature(NamedTuple):
    """``hess_u L`` at one point: sum_j P_j^T diag(s_j) P_j + diag(w2) + kappa g g^T.

    Attributes
    ----------
    f, s : (k, n) arrays
        One softmax and its weights per centered term: k = 1 (joint) or 2 (block).
    g : (n,) array
        Gradient of ``h ell_1``.
    kappa : () array
        ``2 gamma / (h^2 ell_1^3)``.
    w2 : (n,) or () array
        Squared regularization weights.
    """

    f: Float[Array, "k n"]
    s: Float[Array, "k n"]
    g: Vector
    kappa: Scalar
    w2: Vector | Scalar


def _phi(f: Vector, b: Vector, t: Vector | Mask, metric: Metric) -> tuple[Vector, Vector]:
    """Gradient of phi_t and the weights s_t of its Hessian."""
    t = t.astype(b.dtype)
    if metric == "squared":
        tc = t * (f - b)
        centered = tc - jnp.sum(f * tc)
        return f * centered, f * (t * f + centered)
    tb = t * b
    pull = jnp.sum(tb) * f
    return pull - tb, pull


def protection_slope(loss: Scalar, gamma: Scalar, h: float) -> Scalar:
    """``k = gamma / (h ell_1^2)``: minus the derivative of gamma/ell_1 by h ell_1."""
    return objective.protection(loss, gamma, 2) / h


def value_and_gradient(u: Vector, terms: Terms) -> tuple[Scalar, Vector]:
    """L and its gradient with respect to the logits; ``grad_x L`` is ``gradient @ A``.

    Corrects Lemma 10 for the joint reading (its rows of A_2 are missing there) and equals it under
    the block reading. Cost O(n).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> b, protected = jnp.array([0.7, 0.3]), jnp.array([True, False])
    >>> terms = objective.Terms(b, protected, gamma=jnp.array(0.1), w=jnp.array(1.0))
    >>> u = jnp.array([0.2, -0.1])
    >>> closed_form = value_and_gradient(u, terms)[1]
    >>> bool(jnp.allclose(closed_form, jax.grad(objective.value)(u, terms)))
    True
    """
    b, protected, gamma, metric = terms.b, terms.protected, terms.gamma, terms.metric
    f, h = objective.f(u), FACTOR[metric]
    loss = objective.ell_1(u, b, protected, terms.reading, metric)
    slope = protection_slope(loss, gamma, h)
    if terms.reading == "block":
        g, _ = _phi(objective.f_1(u, protected, terms.reading), b, protected, metric)
        gradient = _phi(f, b, jnp.ones_like(b), metric)[0] - slope * g
    else:
        gradient, _ = _phi(f, b, objective.row_weights(terms, slope), metric)
    return objective.value(u, terms), gradient + terms.w**2 * u


value_and_gradient_jit = jax.jit(value_and_gradient)


def curvature(u: Vector, terms: Terms) -> Curvature:
    """The Hessian of L with respect to the logits, as its O(n) ingredients.

    Corrects Definition 11 and Lemma 12; exact under both readings. Cost O(n).
    """
    b, protected, gamma, metric = terms.b, terms.protected, terms.gamma, terms.metric
    f, h = objective.f(u), FACTOR[metric]
    loss = objective.ell_1(u, b, protected, terms.reading, metric)
    slope = protection_slope(loss, gamma, h)
    kappa = 2 / h**2 * objective.protection(loss, gamma, 3)
    if terms.reading == "block":
        f_1 = objective.f_1(u, protected, terms.reading)
        g, s_1 = _phi(f_1, b, protected, metric)
        pairs = [(f, _phi(f, b, jnp.ones_like(b), metric)[1]), (f_1, -slope * s_1)]
    else:
        g, _ = _phi(f, b, protected, metric)
        pairs = [(f, _phi(f, b, objective.row_weights(terms, slope), metric)[1])]
    return Curvature(
        f=jnp.stack([p for p, _ in pairs]),
        s=jnp.stack([s for _, s in pairs]),
        g=g,
        kappa=kappa,
        w2=terms.w**2,
    )


def hvp(at: Curvature, z: Vector) -> Vector:
    """``hess_u L @ z``; ``hess_x L @ v`` is ``hvp(at, A @ v) @ A``. Cost O(n).

    Parameters
    ----------
    at : Curvature
        From `curvature`.
    z : (n,) array
        Direction in the space of logits.

    Examples
    --------
    >>> b, protected = jnp.array([0.5, 0.5]), jnp.array([True, False])
    >>> at = curvature(jnp.zeros(2), objective.Terms(b, protected, jnp.array(0.0), jnp.array(1.0)))
    >>> hvp(at, jnp.array([1.0, 0.0])).tolist()  # J^T J + 1 with J = [[1, -1], [-1, 1]] / 4
    [1.125, -0.125]
    """

    def centered_term(f: Vector, s: Vector) -> Vector:
        r = s * (z - jnp.sum(f * z))
        return r - f * jnp.sum(r)

    softmax_part = jnp.sum(jax.vmap(centered_term)(at.f, at.s), axis=0)
    return softmax_part + at.w2 * z + at.kappa * at.g * jnp.sum(at.g * z)


def restrict(at: Curvature, Z: Float[Array, "m n"]) -> Float[Array, "m m"]:
    """``Z hess_u L Z^T``, for the logits of a few directions. Cost O(m^2 n)."""

    # Not ``(X * weights) @ Y.T``: XLA on CPU is five times slower with so few rows.
    def form(X: Array, weights: Vector) -> Float[Array, "m m"]:
        return jnp.sum(X[:, None] * (X * weights[None])[None], axis=2)

    root = jnp.sqrt(at.kappa) * (Z @ at.g)
    H = form(Z, jnp.broadcast_to(at.w2, at.g.shape)) + root[:, None] * root[None]
    for f, s in zip(at.f, at.s, strict=True):
        H += form(Z - (Z @ f)[:, None], s)
    return H


def hessian(A: Matrix, at: Curvature, gram_dtype: Any = None) -> Float[Array, "d d"]:
    """``hess_x L = A^T hess_u A``, symmetric: one weighted Gram matrix, O(n d^2), per softmax.

    The rows are centered before they are squared, so a common offset of the rows or a softmax
    close to one-hot costs no accuracy by cancellation. ``gram_dtype`` is the arithmetic of the Gram
    matrices of a dense A; the problem's own if not given.
    """
    w2 = jnp.broadcast_to(at.w2, at.g.shape)
    s = at.s[0]
    rows = jnp.concatenate([jnp.stack([at.g, w2, s, jnp.abs(s)]), at.f]) @ A
    slope, of_w2, of_s, of_size, centers = rows[0], rows[1], rows[2], rows[3], rows[4:]
    # The first softmax and w^2 share one Gram matrix, centered at the mean row m by |s| + w^2: so
    # no term below is larger than the sums of s a a^T and w^2 a a^T themselves. Centered at f @ A,
    # a large w^2 of rows that are zero would round off the Hessian of all others.
    weight = jnp.sum(jnp.abs(s)) + jnp.sum(w2)
    m = (of_size + of_w2) / jnp.where(weight > 0, weight, 1)
    weights, dtype = at.s.at[0].add(w2), at.s.dtype
    # The largest weight is one, so that small ones are numbers of another dtype too.
    top = jnp.max(jnp.abs(weights)) if gram_dtype else jnp.ones((), dtype)
    squares = weighted_gram(A, (weights / top).astype(gram_dtype or dtype), centers.at[0].set(m))
    half = 0.5 * top * squares.astype(dtype)
    apart = m - centers[0]
    half += jnp.outer(of_s - 0.5 * jnp.sum(s) * (m + centers[0]), apart)
    half += jnp.outer(of_w2 - 0.5 * jnp.sum(w2) * m, m)
    half += jnp.outer(0.5 * at.kappa * slope, slope)
    return half + half.T


class Operator(NamedTuple):
    """``hess_x L`` at one point, ready for many products: one read of A each, from row blocks.

    For a `SparseMatrix` the `Curvature` takes its place: each mean row would cost a product.

    Attributes
    ----------
    weights : (k + 1, n) array
        ``s_j`` of each centered term, and ``w^2``.
    centers : (k + 1, d) array
        Mean rows ``f_j @ A``; zero for ``w^2``.
    slope : (d,) array
        ``sqrt(kappa) g @ A``.
    """

    weights: Float[Array, "m n"]
    centers: Float[Array, "m d"]
    slope: Float[Array, " d"]


def linearize(
    A: Matrix, at: Curvature, gradient: Vector
) -> tuple[Float[Array, " d"], Operator | Curvature]:
    """``gradient @ A`` and the Hessian operator, by one product of a few rows with A."""
    if isinstance(A, SparseMatrix):
        return gradient @ A, at
    return _linear(at, _rows(at, gradient) @ A)


def linearize_and_multiply(
    A: Matrix, at: Curvature, gradient: Vector, v: Float[Array, " d"]
) -> tuple[Float[Array, " d"], Operator, Vector]:
    """`linearize`, and ``A @ v``: one read of an A on disk in place of two."""
    products, u = two_products(A, _rows(at, gradient), v)
    return *_linear(at, products), u


def _linear(at: Curvature, products: Float[Array, "m d"]) -> tuple[Float[Array, " d"], Operator]:
    centers = jnp.concatenate([products[2:], jnp.zeros_like(products[:1])])
    return products[0], Operator(_weights(at), centers, products[1])


@jax.jit
def rows_at_zero(terms: Terms) -> Float[Array, "m n"]:
    """What A is to be multiplied with for `linearize_at_zero`, whatever gamma and w are."""
    u, none = jnp.zeros_like(terms.b), jnp.zeros_like(terms.gamma)
    at = curvature(u, terms)
    fit = value_and_gradient(u, dataclasses.replace(terms, gamma=none))[1]
    return jnp.concatenate([jnp.stack([fit, at.g]), at.f])


@jax.jit
def linearize_at_zero(
    terms: Terms, products: Float[Array, "m d"]
) -> tuple[Scalar, Float[Array, " d"], Vector, Operator]:
    """L, its gradient, that in the logits, and the Hessian operator where ``u = 0``; no product."""
    u = jnp.zeros_like(terms.b)
    at, (value, slope_u) = curvature(u, terms), value_and_gradient(u, terms)
    h = FACTOR[terms.metric]
    loss = objective.ell_1(u, terms.b, terms.protected, terms.reading, terms.metric)
    gradient = products[0] - protection_slope(loss, terms.gamma, h) * products[1]
    rows = jnp.concatenate([jnp.stack([gradient, jnp.sqrt(at.kappa) * products[1]]), products[2:]])
    return value, gradient, slope_u, _linear(at, rows)[1]


# Compiled also where the product with A is not: no more vectors of n numbers than these.


@jax.jit
def _rows(at: Curvature, gradient: Vector) -> Float[Array, "m n"]:
    root = jnp.sqrt(at.kappa) * at.g  # kappa alone may be beyond float32
    return jnp.concatenate([gradient[None], root[None], at.f])


@jax.jit
def _weights(at: Curvature) -> Float[Array, "m n"]:
    return jnp.concatenate([at.s, jnp.broadcast_to(at.w2, (1, at.s.shape[1]))])


def apply(
    A: Matrix, operator: Operator | Curvature, v: Float[Array, " d"]
) -> tuple[Float[Array, " d"], Vector]:
    """``hess_x L @ v``, and ``A @ v`` on the way there.

    One product with A and one with its transpose, O(n) beside them.

    The mean rows are subtracted before the squares are taken, as in `hessian`.

    Examples
    --------
    >>> import jax.numpy as jnp, copyreg_jax as cr
    >>> problem = cr.SoftmaxRegression([[1.0, 2.0], [0.5, 0.0]], [0.7, 0.3])
    >>> at = curvature(problem.logits([0.1, 0.2]), problem.terms)
    >>> _, operator = linearize(problem.A, at, problem.b)
    >>> v = jnp.array([1.0, -1.0])
    >>> product, logits = apply(problem.A, operator, v)
    >>> bool(jnp.allclose(product, problem.hessian([0.1, 0.2]) @ v))
    True
    """
    if isinstance(operator, Curvature):
        z = A @ v
        return hvp(operator, z) @ A, z
    out, sums, u = weighted_product(A, v, operator.weights, operator.centers @ v)
    return out - sums @ operator.centers + operator.slope * jnp.dot(operator.slope, v), u


def upper_bound(value: Scalar, terms: Terms) -> Scalar:
    """Bound of the largest eigenvalue of ``hess_u L_copyright`` wherever ``L <= value``.

    There ``ell_1 >= t`` with ``t = 2 gamma / (L + sqrt(L^2 - 4 h gamma))`` if ``ell_2 >= 0``, else
    ``gamma / L`` (squared distance, block). For the squared distance and a mask t of zeros and
    ones::

        -k max|c| I  <=  hess_u phi_t  <=  (0.25 + k max|c|) I ,  k = MAX_SECOND_DERIVATIVE
        |grad_u phi_m| <= 0.5 sqrt(ell_1)

    and for the cross-entropy, with ``beta_1`` the sum of b over the protected rows::

        0  <=  hess_u phi_t  <=  0.5 <t, b> I
        |grad_u phi_m|^2 <= beta_1 min(ell_1, 2 beta_1)

    The proof is in docs/theory/curvature-bound.md. Cost O(n). As gamma falls to zero
    it grows beyond all bounds; at zero it jumps to the bound without a term, and has no derivative
    with respect to gamma.
    """
    b, protected, gamma, metric = terms.b, terms.protected, terms.gamma, terms.metric
    squared = metric == "squared"
    free = gamma == 0
    gamma = jnp.where(free, 1, gamma)  # not used then
    root = jnp.sqrt(jnp.where(free, 1, jnp.maximum(value**2 - 4 * FACTOR[metric] * gamma, 0)))
    inverse_t = (value if squared and terms.reading == "block" else 0.5 * (value + root)) / gamma
    if squared:
        residual = jnp.minimum(jnp.sqrt(2 * value), 1 + jnp.max(jnp.abs(b)))
        fit = 0.25 + MAX_SECOND_DERIVATIVE * residual
        protection = 2 * gamma * (MAX_SECOND_DERIVATIVE * inverse_t**1.5 + inverse_t**2)
    else:
        beta_1 = jnp.sum(jnp.where(protected, b, 0))
        fit = 0.5 * jnp.sum(b)
        protection = 2 * gamma * beta_1 * inverse_t**2 * jnp.minimum(1, 2 * beta_1 * inverse_t)
    return fit + jnp.where(free, 0, protection)
