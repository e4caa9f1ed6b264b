"""Bases in which the Hessian of L is close to the identity, from a Gram matrix or a sketch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from copyreg_jax._compiling import QuickJit
from copyreg_jax._tracing import cond, is_concrete, number
from copyreg_jax.matrices import (
    Matrix,
    column_maxima,
    count_sketch,
    gram,
    gram_and_product,
    is_sharded,
    is_sparse,
    num_entries,
    on_host,
    squared_column_norms,
)
from copyreg_jax.problems import curvature
from copyreg_jax.problems.objective import Point, Scalar, Terms, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.coordinates import Basis, diagonal_basis, root_weights
from copyreg_jax.solvers.factorizations import eigh, inverse_factor

__all__ = [
    "NEVER",
    "Precomputed",
    "cholesky",
    "cholesky_jit",
    "is_rough",
    "orthogonal_basis",
    "precompute",
    "sketched_basis",
]

_SKETCHES = 2
"""CountSketches side by side, so that two rows that meet in one are told apart by the other."""

_BUCKETS = 2
"""Buckets of each of them per column of A."""

_LEAST_EIGENVALUE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}
"""That of a Gram matrix of unit diagonal from which rounding leaves it intact."""

_REFINE_BELOW = 1e-8
"""Least eigenvalue of a Gram matrix of unit diagonal from which one orthogonalization is enough."""

_MAX_SKETCH_COLUMNS = 4096
"""Columns up to which a Gram matrix of a sketch pays, if the diagonal alone is not enough."""

_SKETCH_COST = 1e9, 1 / 16
"""Time of a sketch: to compile, and per d^3; in that of a Hessian-vector product per entry of A."""

_PATIENCE = 50
"""Hessian-vector products that a run is given in any case before a sketch is taken."""

NEVER = 2**31 - 1
"""More products than a run makes."""

_NEVER: Any = np.asarray(NEVER, np.int32)  # of NumPy: nothing to dispatch

_MAX_GRAM_COLUMNS = 2048
"""Columns up to which a Gram matrix costs less than the products that it saves."""


class Precomputed(NamedTuple):
    """The data that depend on A and w, and for the cross-entropy on the sum of b.

    Attributes
    ----------
    basis : (d, d) or (d,) array
        B with ``B^T (A^T D A) B = I`` up to rounding, D = w^2 + a small constant; or, for sparse
        A and for very many columns, the diagonal matrix that gives it a unit diagonal, or B of a
        sketch of A.
    radius : () array
        Length in the new coordinates of a root-mean-square change of the logits by one.
    patience : () int32 array
        Hessian-vector products after which a sketch of A is taken in place of the diagonal.
    exact : () bool array
        Whether B does what it should, and not only for a sketch or the diagonal.
    at_zero : (m, d) array or None
        ``curvature.rows_at_zero @ A``, if A is on disk and a run is to start there.
    """

    basis: Basis
    radius: Scalar
    patience: Int[Array, ""]
    exact: Any
    at_zero: Float[Array, "m d"] | None = None


def precompute(
    problem: SoftmaxRegression, u: Vector | None, *, mixed: bool
) -> tuple[Precomputed, Point | None]:
    """Return the data of a run, and ``u @ A`` if that takes no further read of A.

    Without u, for an A on disk, the products that the linearization at zero needs are among them.
    """
    A, terms, n = problem.A, problem.terms, problem.n
    if is_rough(problem):
        _, radius = _root_weights_jit(terms, n)
        wait: Any = np.asarray(_patience(problem), np.int32)
        return Precomputed(diagonal_basis(problem), radius, wait, np.asarray(False)), None
    factorize, products = cholesky if on_host(A) else cholesky_jit, None
    rows = curvature.rows_at_zero(terms) if on_host(A) and u is None else u
    dtypes = {np.dtype(np.float32), problem.dtype} if mixed else {problem.dtype}
    for dtype in sorted(dtypes, key=lambda dtype: dtype.itemsize):
        if not is_concrete(problem):
            break
        if rows is None or products is not None:
            basis, radius, good = factorize(A, terms, dtype)
        else:
            (basis, radius, good), products = _cholesky_and_product(A, terms, dtype, rows)
        if number(good):
            return _kept(basis, radius, np.asarray(True), u, products)
    root, radius = _root_weights_jit(terms, n)
    basis = orthogonal_basis(A, root)
    # In float32 what counts as a null space may be none.
    kept = jnp.any(basis != 0, axis=0).all()
    exact = kept if problem.dtype == np.float32 else np.asarray(True)
    return _kept(basis, radius, exact, u, products)


def _kept(
    basis: Basis, radius: Scalar, exact: Any, u: Vector | None, products: Array | None
) -> tuple[Precomputed, Point | None]:
    """The data with what the products are for: the linearization at zero, or the caller."""
    at_zero, product = (products, None) if u is None else (None, products)
    return Precomputed(basis, radius, _NEVER, exact, at_zero), product


def is_rough(problem: SoftmaxRegression) -> bool:
    """Whether the basis is a diagonal one, or later one of a sketch."""
    return is_sparse(problem.A) or problem.d > _MAX_GRAM_COLUMNS


_root_weights_jit = jax.jit(root_weights, static_argnames="n")


def sketched_basis(problem: SoftmaxRegression) -> Float[Array, "d d"] | None:
    """Make a basis from a sketch with 4 d rows, or from A itself if it has no more rows.

    Returns None if that fails.

    Small eigenvalues are lifted: the null space of A has coordinates that do no harm.
    """
    A, d = problem.A, problem.d
    root, _ = _root_weights_jit(problem.terms, problem.n)
    buckets = max(_BUCKETS * d, 64)
    if problem.n > _SKETCHES * buckets:
        A, root = _sketch(A, root, buckets), jnp.ones(_SKETCHES * buckets, A.dtype)
    basis = _lifted_basis(gram(A, root, None, A.dtype))
    return basis if bool(jnp.all(jnp.isfinite(basis))) else None


def _patience(problem: SoftmaxRegression) -> int:
    """Return how many Hessian-vector products cost as much as a sketch of A.

    So a run costs at most about twice what is best.
    """
    A, d = problem.A, problem.d
    if d > _MAX_SKETCH_COLUMNS or is_sharded(A) or not is_concrete(problem):
        return NEVER
    to_compile, per_cube = _SKETCH_COST
    return min(NEVER - 1, max(_PATIENCE, int((to_compile + per_cube * d**3) / num_entries(A))))


def _sketch(A: Matrix, root: Vector, buckets: int) -> Float[Array, "r d"]:
    """Stack CountSketches of ``diag(root) A``; the Gram matrix of the stack is close to its own."""
    n, _ = A.shape
    sign_key, shift_key = jax.random.split(jax.random.key(0))
    signs = jax.random.rademacher(sign_key, (_SKETCHES, n), root.dtype) / _SKETCHES**0.5
    shape = (_SKETCHES, -(-n // buckets))
    shifts = jax.random.randint(shift_key, shape, 0, buckets, jnp.int32)
    parts = [
        count_sketch(A, sign * root, s, buckets) for sign, s in zip(signs, shifts, strict=True)
    ]
    return jnp.concatenate(parts)


@jax.jit
def _lifted_basis(G: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Make a basis from a Gram matrix of unit diagonal whose eigenvalues are lifted.

    It has coordinates near zero for the null space. Lifting alone stretches that a million times,
    and a step that rounding sends there would leave the logits no digits.
    """
    zero = jnp.diag(G) == 0
    scale = jnp.where(zero, 0, jax.lax.rsqrt(jnp.diag(G)))
    lifted = zero + _LEAST_EIGENVALUE[G.dtype]
    unit = G * scale[None] * scale[:, None]
    inverse = inverse_factor(unit + jnp.diag(lifted.astype(G.dtype)))
    # Near the identity, and on the null space what rounding leaves of zero.
    M = inverse @ unit @ inverse.T
    return scale[:, None] * (inverse.T @ M @ M)


def cholesky(
    A: Matrix, terms: Terms, dtype: np.dtype
) -> tuple[Float[Array, "d d"], Scalar, Bool[Array, ""]]:
    """Make a basis from the Cholesky factor of the Gram matrix.

    Also returns the radius, and whether the dtype is precise enough. That is decided by a lower
    bound of the least eigenvalue for columns of unit length, which is NaN if the factorization
    failed.
    """
    root, radius = _root_weights_jit(terms, A.shape[0])
    G = gram(A, root, None, dtype)
    basis, good = _inverse_root(G, A.dtype)
    return basis, radius, good & _keeps_columns(A, root, G)


cholesky_jit = QuickJit(cholesky, static_argnames="dtype")


def _cholesky_and_product(
    A: Matrix, terms: Terms, dtype: np.dtype, u: Vector
) -> tuple[tuple[Float[Array, "d d"], Scalar, Bool[Array, ""]], Float[Array, " d"]]:
    """`cholesky`, and ``u @ A``; of an A on disk by one read."""
    root, radius = _root_weights_jit(terms, A.shape[0])
    G, product = gram_and_product(A, root, dtype, u)
    basis, good = _inverse_root(G, A.dtype)
    return (basis, radius, good & _keeps_columns(A, root, G)), product


def _keeps_columns(A: Matrix, root: Vector, G: Float[Array, "d d"]) -> Bool[Array, ""]:
    """Whether all columns of whose squares underflow has left nothing, or too little, are zero."""
    limits, host = jnp.finfo(G.dtype), on_host(A)
    little = jnp.diag(G) < A.shape[0] * (float(limits.tiny) / float(limits.eps))

    def all_are_zero() -> Bool[Array, ""]:
        sizes = squared_column_norms(A, root**2) if host else column_maxima(A)
        return jnp.all(~little | (sizes == 0))

    return cond(host, jnp.any(little), all_are_zero, lambda: jnp.ones((), bool))


def _inverse_root(
    G: Float[Array, "d d"], dtype: np.dtype
) -> tuple[Float[Array, "d d"], Bool[Array, ""]]:
    """Return the basis from a Gram matrix, and whether the arithmetic of G is good enough."""
    zero = jnp.diag(G) == 0  # such columns get no coordinate
    scale = jnp.where(zero, 0, jax.lax.rsqrt(jnp.diag(G)))
    inverse = inverse_factor(G * scale[None] * scale[:, None] + jnp.diag(zero.astype(G.dtype)))
    basis = (scale[:, None] * inverse.T).astype(dtype)
    return basis, jnp.sum(inverse**2) <= 1 / _LEAST_EIGENVALUE[G.dtype]


def orthogonal_basis(A: Matrix, root: Vector) -> Float[Array, "d d"]:
    """Make a basis from eigenvectors, in the dtype of A, however dependent the columns are.

    Columns of the result are zero for the null space.

    A first eigendecomposition, its eigenvalues lifted to what rounding leaves of them, makes the
    columns nearly orthogonal; a second one, of the Gram matrix of the result, sees the small
    singular values that the first could not, and drops what then is still null.
    """
    dtype = A.dtype
    basis, dependent = _first_orthogonal(gram(A, root, None, dtype))

    def refine() -> Float[Array, "d d"]:
        return _second_orthogonal(gram(A, root, basis, dtype), basis)

    # Outside of a trace a branch of Python: a compiled one would be compiled at every call.
    return cond(is_concrete(dependent), dependent, refine, lambda: basis)


def _floor(G: Array) -> Any:
    """Return the size of the rounding errors of the eigenvalues of a matrix of norm one."""
    return 4 * len(G) * jnp.finfo(G.dtype).eps


@jax.jit
def _first_orthogonal(G: Array) -> tuple[Float[Array, "d d"], Bool[Array, ""]]:
    diagonal = jnp.diag(G)
    scale = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
    lam, Q = eigh(G * scale[None] * scale[:, None])
    top = jnp.maximum(lam[-1], 1)
    basis = scale[:, None] * Q * jax.lax.rsqrt(jnp.maximum(lam, _floor(G) * top))[None]
    return basis, lam[0] < _REFINE_BELOW * top


@jax.jit
def _second_orthogonal(G: Array, basis: Array) -> Float[Array, "d d"]:
    lam, turn = eigh(G)
    kept = lam > _floor(G) * jnp.maximum(lam[-1], 1)
    length = jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, lam, 1)), 0)
    return basis @ turn * length[None]
