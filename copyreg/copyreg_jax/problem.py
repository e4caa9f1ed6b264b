"""The two regression problems as immutable pytrees. What a user hands over is checked here."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO, BCSR, JAXSparse
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from copyreg_jax import curvature, objective
from copyreg_jax.errors import InputError, NotCoerciveWarning, PrecisionError
from copyreg_jax.matrices import (
    Matrix,
    RowBlocks,
    ShardedRows,
    SparseMatrix,
    absent_rows,
    all_finite,
    fetch,
    first_not_finite,
    host_rows,
    is_here,
    on_host,
    place,
    to_host,
    without_rows,
)
from copyreg_jax.objective import METRICS, READINGS, Mask, Metric, Reading, Scalar, Vector

ENABLE_X64 = 'jax.config.update("jax_enable_x64", True)'

Point = Float[Array, " d"]
Problem = TypeVar("Problem", bound="SoftmaxRegression")

# Compiled also where the product with A is not.
_value_and_gradient = jax.jit(curvature.value_and_gradient, static_argnums=(5, 6))


@jax.tree_util.register_pytree_node_class
class SoftmaxRegression:
    """Softmax regression: minimize ``L(x) = 0.5 ||softmax(A x) - b||^2 + 0.5 ||w * A x||^2``.

    With ``metric="cross-entropy"``, ``-<b, log softmax(A x)>`` for the first term.

    Parameters
    ----------
    A : (n, d) array, sparse matrix of SciPy or of JAX (BCOO, BCSR), RowBlocks, or ShardedRows
        One row per output of the softmax; `RowBlocks` stay in their files, `ShardedRows` on their
        devices. float32 or float64; its dtype, promoted with those of the other arrays, is the
        dtype of everything. Numbers, integers and lists have no say in that: they take A's dtype,
        or JAX's default float.
    b : (n,) array
        Target; a probability vector in most uses, but any finite vector is allowed.
    w : float or (n,) array, default 1.0
        Regularization weights. They may be zero; if then L no longer grows in some direction,
        a `NotCoerciveWarning` says so.
    metric : {"squared", "cross-entropy"}, default "squared"
        Loss: the squared distance to b, or the cross-entropy for a target ``b >= 0``.

    Raises
    ------
    InputError
        Names the argument, the place (row, column, value) and the remedy.
    PrecisionError
        float64 NumPy data while JAX's 64-bit mode is off.

    Notes
    -----
    Definitions 2-4, 8 and 9 with ``gamma = 0``. Checks are made once, on concrete values; under
    ``jax.jit`` or ``jax.vmap`` only shapes and dtypes can be checked. Derivatives are the closed
    forms of `copyreg_jax.curvature`: a gradient costs two reads of A, a Hessian O(n d^2).

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.SoftmaxRegression([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5])
    >>> float(problem.value([0.0, 0.0]))
    0.0
    """

    _num_free: int | None = None
    """Directions in which w leaves L flat; None where that is not known. No part of the pytree."""

    def __init__(
        self, A: Any, b: ArrayLike, w: ArrayLike = 1.0, metric: Metric = "squared"
    ) -> None:
        self._read(A, b, w, metric)
        self._place()

    def _read(self, A: Any, b: ArrayLike, w: ArrayLike, metric: Metric) -> None:
        _check_metric(metric)
        self._metric: Metric = metric
        A = _matrix(A)
        n = A.shape[0]
        b = _vector("b", b, n, like=A.dtype)
        w = _vector("w", w, n, like=A.dtype, scalar_allowed=True)
        dtype = np.result_type(A.dtype, b.dtype, w.dtype)
        self.A: Matrix = A.astype(dtype)
        self.b: Vector = b.astype(dtype)
        self.w: Vector = jnp.broadcast_to(w.astype(dtype), (n,))
        _check_matrix_finite(self.A)
        _check_finite("b", self.b)
        _check_finite("w", self.w)
        if metric == "cross-entropy":
            _check_not_negative(self.b)
        self._num_free = _num_free_directions(self.A, self.w)
        _warn_if_not_coercive(self._num_free, self.w, stacklevel=4)

    def _place(self) -> None:
        self.b, self.w = place(self.A, self.b), place(self.A, self.w)

    # The joint reading with nothing protected *is* softmax regression.
    @property
    def protected(self) -> Mask:
        """(n,) boolean mask of the protected rows; all False here."""
        return jnp.zeros(self.b.shape, bool)

    @property
    def gamma(self) -> Scalar:
        """Weight of the protection term; zero here."""
        return jnp.zeros((), self.dtype)

    @property
    def reading(self) -> Reading:
        """Reading of Definition 5: "joint" or "block"."""
        return "joint"

    @property
    def metric(self) -> Metric:
        """Loss that tells f from b: "squared" or "cross-entropy"."""
        return self._metric

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.A.shape[0]

    @property
    def d(self) -> int:
        """Number of columns, the dimension of x."""
        return self.A.shape[1]

    @property
    def n1(self) -> int:
        """Number of protected rows (needs concrete values)."""
        return int(np.count_nonzero(np.asarray(fetch(self.A, self.protected))))

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return np.dtype(self.A.dtype)

    @property
    def terms(self) -> tuple[Vector, Mask, Scalar, Vector, Reading, Metric]:
        """``(b, protected, gamma, w, reading, metric)``: what `objective.value` wants after u."""
        return self.b, self.protected, self.gamma, self.w, self.reading, self.metric

    def logits(self, x: ArrayLike) -> Vector:
        """``u = A x`` for x of shape (d,)."""
        return without_rows(self.A @ self.point(x), absent_rows(self.A))

    def point(self, x: ArrayLike, name: str = "x") -> Point:
        """Return x as a (d,) array of this problem's dtype; `InputError` for a wrong shape."""
        array = _array(name, x, like=self.dtype, exact=False)
        if array.shape != (self.d,):
            raise InputError(
                f"{name} has shape {array.shape}; A has {self.d} columns, so give shape ({self.d},)"
            )
        return array if array.dtype == self.dtype else array.astype(self.dtype)

    def f(self, x: ArrayLike) -> Vector:
        """(n,) softmax of A x (Definition 2)."""
        return objective.f(self.logits(x))

    def c(self, x: ArrayLike) -> Vector:
        """(n,) residual f - b (Definition 3)."""
        return objective.c(self.logits(x), self.b)

    def ell(self, x: ArrayLike) -> Scalar:
        """Squared distance of f to b (Definition 4), or their cross-entropy."""
        return objective.ell(self.logits(x), self.b, self.metric)

    def l_reg(self, x: ArrayLike) -> Scalar:
        """Regularization 0.5 ||w * A x||^2 (Definition 8)."""
        return objective.l_reg(self.logits(x), self.w)

    def value(self, x: ArrayLike) -> Scalar:
        """Objective L (Definition 9); inf where a barrier is hit."""
        return objective.value(self.logits(x), *self.terms)

    def value_and_gradient(self, x: ArrayLike) -> tuple[Scalar, Point]:
        """L and its (d,) gradient, from one product with A and one with its transpose."""
        value, gradient = _value_and_gradient(self.logits(x), *self.terms)
        return value, gradient @ self.A

    def gradient(self, x: ArrayLike) -> Point:
        """(d,) gradient of L."""
        return self.value_and_gradient(x)[1]

    def hessian(self, x: ArrayLike) -> Float[Array, "d d"]:
        """(d, d) symmetric Hessian of L; O(n d^2)."""
        return curvature.hessian(self.A, curvature.curvature(self.logits(x), *self.terms))

    def hvp(self, x: ArrayLike, v: ArrayLike) -> Point:
        """(d,) Hessian-vector product, without forming the Hessian; three reads of A."""
        at = curvature.curvature(self.logits(x), *self.terms)
        return curvature.hvp(at, self.A @ self.point(v, "v")) @ self.A

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(n={self.n}, d={self.d}{self._metric_shown}, dtype={self.dtype})"

    @property
    def _metric_shown(self) -> str:
        return "" if self.metric == "squared" else f", metric={self.metric!r}"

    # JAX rebuilds pytrees with tracers and placeholders inside, so this must not check anything.
    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        return (self.A, self.b, self.w), self._metric

    @classmethod
    def tree_unflatten(cls, aux: Any, children: tuple[Any, ...]) -> Self:
        self = object.__new__(cls)
        self.A, self.b, self.w = children
        self._metric = aux
        return self


@jax.tree_util.register_pytree_node_class
class CopyrightRegression(SoftmaxRegression):
    """Copyright regression: minimize ``L(x) = 0.5 ell + gamma / ell_1 + 0.5 ||w * A x||^2``.

    With ``metric="cross-entropy"`` the first term is ``ell``, without the half of a square.

    Parameters
    ----------
    A : (n, d) array, sparse matrix of SciPy or of JAX (BCOO, BCSR), or RowBlocks
        As in `SoftmaxRegression`.
    b : (n,) array
        Target.
    protected : (n,) boolean mask, array of row indices, or int
        The protected rows; an int n1 means the first n1 rows, as in the paper. At least one row
        and not all of them.
    gamma : float, default 0.1
        Weight gamma_c >= 0 of the protection term. Zero keeps the rows marked, to compare with.
    w : float or (n,) array, default 1.0
        Regularization weights.
    reading : {"joint", "block"}, default "joint"
        Reading of Definition 5: the protected entries of one softmax, or a softmax over the
        protected rows alone.
    metric : {"squared", "cross-entropy"}, default "squared"
        Loss behind ell and ell_1: squared distances to b, or cross-entropies ``-sum b log f`` for a
        target ``b >= 0``. With a gamma, some protected row must have a target then, and under
        "block" there must be two protected rows: else ell_1 is zero everywhere.

    Raises
    ------
    InputError, PrecisionError
        As in `SoftmaxRegression`.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> A = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> problem = cr.CopyrightRegression(A, [0.6, 0.3, 0.1], protected=[0], gamma=0.1)
    >>> problem
    CopyrightRegression(n=3, d=2, n1=1, gamma=0.1, reading='joint', dtype=float32)
    >>> round(float(problem.ell_1([0.0, 0.0])), 4)
    0.0711
    """

    def __init__(
        self,
        A: Any,
        b: ArrayLike,
        protected: ArrayLike,
        gamma: ArrayLike = 0.1,
        w: ArrayLike = 1.0,
        reading: Reading = "joint",
        metric: Metric = "squared",
    ) -> None:
        self._read(A, b, w, metric)
        _check_reading(reading)
        self._reading: Reading = reading
        self._protected = _mask(protected, self.n)
        self._gamma = _weight(gamma, self.dtype)
        self._promote()
        if metric == "cross-entropy":
            _check_protected_loss(self.b, self._protected, self._gamma, self._reading)
        self._place()

    def _promote(self) -> None:
        """One dtype for all; a gamma with a dtype takes part in the promotion, like the arrays."""
        arrays: tuple[Any, ...] = self.A, self.b, self.w, self._gamma
        dtype = np.result_type(*(array.dtype for array in arrays))
        self.A, self.b, self.w, self._gamma = (
            array if array.dtype == dtype else array.astype(dtype) for array in arrays
        )

    def _place(self) -> None:
        super()._place()
        self._protected = place(self.A, self._protected)
        self._gamma = place(self.A, self._gamma)

    @property
    def protected(self) -> Mask:
        """(n,) boolean mask of the protected rows."""
        return self._protected

    @property
    def gamma(self) -> Scalar:
        """Weight of the protection term."""
        return self._gamma

    @property
    def reading(self) -> Reading:
        """Reading of Definition 5: "joint" or "block"."""
        return self._reading

    def ell_1(self, x: ArrayLike) -> Scalar:
        """Loss on the protected rows (Definition 7)."""
        return objective.ell_1(self.logits(x), self.b, self.protected, self.reading, self.metric)

    def ell_2(self, x: ArrayLike) -> Scalar:
        """Loss ell - ell_1 on the other rows (Definition 7)."""
        return objective.ell_2(self.logits(x), self.b, self.protected, self.reading, self.metric)

    def l_copyright(self, x: ArrayLike) -> Scalar:
        """0.5 ell + gamma / ell_1 (Definition 7), or ell + gamma / ell_1 for the cross-entropy."""
        return objective.l_copyright(
            self.logits(x), self.b, self.protected, self.gamma, self.reading, self.metric
        )

    def replace(
        self,
        *,
        gamma: ArrayLike | None = None,
        w: ArrayLike | None = None,
        reading: Any = None,
        metric: Any = None,
    ) -> CopyrightRegression:
        """The same data with another gamma, w, reading or metric.

        What is not given is not checked again. A is read only for another w, and only where that is
        zero on other rows than the w before: a `NotCoerciveWarning` is then due, or not.

        Parameters
        ----------
        gamma, w, reading, metric
            As for the constructor; what is not given stays as it is.

        Raises
        ------
        InputError, PrecisionError
            As in the constructor, or for a batch of problems.

        Examples
        --------
        >>> import copyreg_jax as cr
        >>> problem = cr.CopyrightRegression([[1.0], [0.0]], [0.7, 0.3], protected=1)
        >>> problem.replace(gamma=0.5)
        CopyrightRegression(n=2, d=1, n1=1, gamma=0.5, reading='joint', dtype=float32)
        """
        if len(self.A.shape) != 2:
            raise InputError("problem is a batch of problems; replace before batching them")
        new = copy.copy(self)
        if metric is not None:
            _check_metric(metric)
            new._metric = metric
        if reading is not None:
            _check_reading(reading)
            new._reading = reading
        if gamma is not None:
            new._gamma = _weight(gamma, self.dtype)
        if w is not None:
            given = _vector("w", w, self.n, like=self.dtype, scalar_allowed=True)
            new.w = jnp.broadcast_to(given, (self.n,))
            _check_finite("w", new.w)
        new._promote()
        if new.metric == "cross-entropy" and not all(
            given is None for given in (gamma, reading, metric)
        ):
            b, protected = fetch(self.A, self.b), fetch(self.A, self.protected)
            if metric is not None:
                _check_not_negative(b)
            _check_protected_loss(b, protected, new._gamma, new._reading)
        if w is not None:
            known = self._num_free is not None and is_concrete(new.w)
            if not (known and _same_zeros(new.w, fetch(self.A, self.w))):
                new._num_free = _num_free_directions(new.A, new.w)
            _warn_if_not_coercive(new._num_free, new.w, stacklevel=3)
            new.w = place(new.A, new.w)
        if gamma is not None:
            new._gamma = place(new.A, new._gamma)
        return new

    def __repr__(self) -> str:
        if len(self.b.shape) > 1 or len(self._gamma.shape) > 0:
            return f"CopyrightRegression(batch, reading={self.reading!r}{self._metric_shown})"
        if not (is_concrete(self._gamma) and is_concrete(self._protected)):
            shape, end = f"n={self.n}, d={self.d}", "traced"
        else:
            # Of rows in other processes n1 is known to all together only.
            n1 = f", n1={self.n1}" if is_here(self.A) else ""
            shape = f"n={self.n}, d={self.d}{n1}, gamma={float(self.gamma):.6g}"
            end = f"dtype={self.dtype}"
        return f"CopyrightRegression({shape}, reading={self.reading!r}{self._metric_shown}, {end})"

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        aux = self._reading, self._metric
        return (self.A, self.b, self.w, self._protected, self._gamma), aux

    @classmethod
    def tree_unflatten(cls, aux: Any, children: tuple[Any, ...]) -> Self:
        self = object.__new__(cls)
        self.A, self.b, self.w, self._protected, self._gamma = children
        self._reading, self._metric = aux
        return self


def shard(problem: Problem, devices: Sequence[Any] | None = None) -> Problem:
    """The same problem with the rows of A, and what goes with them, cut over devices.

    For a problem in hand, with a dense A. If A is larger than one device, or each process shall
    read its own rows, make the problem of a `ShardedRows` instead.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
        The same in all processes.
    devices : sequence of devices, optional
        All devices of all processes if not given.

    Raises
    ------
    InputError
        A problem that is none, or whose A is not dense.

    Notes
    -----
    Vectors of n entries are filled up with zeros to a multiple of the number of devices, see
    `ShardedRows`. docs/how-to/many-devices.md says what is exchanged and what is not supported.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.shard(cr.SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3], w=0.1))
    >>> problem.A
    ShardedRows(shape=(2, 1), dtype=float32, devices=1)
    >>> cr.solve(problem).status.name
    'CONVERGED'
    """
    if not isinstance(problem, SoftmaxRegression):
        raise InputError(
            f"problem is a {type(problem).__name__}; give a CopyrightRegression, or hand "
            "ShardedRows(A) to one"
        )
    sharded = copy.copy(problem)
    sharded.A = ShardedRows(problem.A, devices)
    sharded._place()
    return sharded


def is_concrete(array: Any) -> bool:
    """Whether no leaf of a pytree is being traced by JAX."""
    leaves = jax.tree_util.tree_leaves(array)
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def is_traced() -> bool:
    """Whether this is the midst of a ``jax.jit``, where also what is made anew is traced."""
    return not is_concrete(jax.lax.neg(np.float32(0)))


def _array(name: str, data: ArrayLike, like: Any = None, *, exact: bool = True) -> Array:
    """``data`` as a float32 or float64 JAX array; only points, ``exact=False``, may be rounded."""
    if isinstance(data, jax.Array):
        array = data
    elif isinstance(data, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array; fill its gaps, or leave those rows out")
    else:
        try:
            host = np.asarray(data)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} is not a numeric array: {error}") from None
        if host.dtype.kind not in "fiub" or host.dtype.itemsize > 8:
            raise InputError(f"{name} has dtype {host.dtype}; give real numbers of at most 64 bits")
        if host.dtype == np.float64 and not (exact and isinstance(data, np.ndarray)):
            # Numbers and lists carry no precision of their own: they take A's, or JAX's.
            host = _round(name, host, like if like is not None else jnp.result_type(float))
        if host.dtype == np.float64 and jnp.result_type(float) != np.float64:
            raise PrecisionError(
                f"{name} is float64, but JAX's 64-bit mode is off and would round it; "
                f"put {ENABLE_X64} before the first use of JAX, or pass float32 data"
            )
        array = jnp.asarray(host.astype(host.dtype.newbyteorder("="), copy=False))
    if array.dtype.kind in "iub":
        array = array.astype(like if like is not None else jnp.result_type(float))
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"{name} has dtype {array.dtype}; use float32 or float64")
    return array


def _round(name: str, host: np.ndarray, dtype: Any) -> np.ndarray:
    """Rounded to the dtype; `InputError` for one number that would become zero or infinite."""
    with np.errstate(over="ignore", under="ignore"):
        held: np.ndarray = host.astype(dtype)
    if host.ndim:
        return held
    kept = np.isfinite(held) == np.isfinite(host) and (held == 0) == (host == 0)
    if not kept:
        raise InputError(f"{name} = {host} is {held} in {held.dtype}; use float64 data")
    return held


def _matrix(A: Any) -> Matrix:
    matrix: Matrix
    if isinstance(A, SparseMatrix | ShardedRows):
        matrix = A
    elif isinstance(A, RowBlocks):
        if A.dtype == np.float64 and jnp.result_type(float) != np.float64:
            raise PrecisionError(
                f"A is float64 on disk, but JAX's 64-bit mode is off and would round it; "
                f"put {ENABLE_X64} before the first use of JAX, or store float32"
            )
        matrix = A
    elif isinstance(A, str | Path):
        raise InputError(f"A is a path; give RowBlocks({str(A)!r}), which reads it block by block")
    elif isinstance(A, JAXSparse):
        matrix = _sparse(_host_coo(A))
    elif scipy.sparse.issparse(A):
        # Integers are added as such, before they become floats.
        try:
            csr = scipy.sparse.csr_array(A, copy=True)
        except ValueError as error:  # SciPy takes no big-endian numbers, but may hold them
            raise InputError(f"A is not a valid sparse matrix: {error}; rebuild it") from None
        csr.sum_duplicates()
        matrix = _sparse(csr)
    else:
        matrix = _array("A", A)
    if len(matrix.shape) != 2 or 0 in matrix.shape:
        raise InputError(
            f"A has shape {matrix.shape}; give (n, d) with n >= 1 rows and d >= 1 columns"
        )
    return matrix


def _sparse(host: Any) -> SparseMatrix:
    """SciPy's matrix with entries of float32 or float64."""
    with jax.ensure_compile_time_eval():
        host.data = np.asarray(_array("A", host.data))
    return SparseMatrix.from_scipy(host)


def _host_coo(A: JAXSparse) -> Any:
    """JAX's sparse matrix as SciPy's."""
    kind = type(A).__name__
    if not isinstance(A, BCOO | BCSR):
        raise InputError(f"A is a {kind}; give a BCOO, a BCSR or a SciPy sparse matrix")
    if not is_concrete(A):
        raise InputError(
            f"A is a {kind} that is traced by JAX; make the problem, which is a pytree, outside of "
            "jax.jit and pass that"
        )
    if A.n_batch or A.n_dense:
        raise InputError(f"A is a {kind} with batch or dense dimensions; make both its axes sparse")
    with jax.ensure_compile_time_eval():
        A = A.to_bcoo() if isinstance(A, BCSR) else A
        data, indices = np.asarray(_array("A", A.data)), np.asarray(A.indices)
    # Indices equal to the shape are BCOO's padding.
    outside = np.argwhere((indices > np.array(A.shape)).any(axis=1))
    if outside.size:
        i = int(outside[0, 0])
        raise InputError(f"A.indices[{i}] = {indices[i].tolist()} is outside of shape {A.shape}")
    inside = (indices < np.array(A.shape)).all(axis=1)
    place = indices[inside, 0], indices[inside, 1]
    return scipy.sparse.coo_array((data[inside], place), shape=A.shape)


def _vector(
    name: str, data: ArrayLike, n: int, *, like: Any, scalar_allowed: bool = False
) -> Vector:
    array = _array(name, data, like=like)
    if array.shape == (n,) or (scalar_allowed and array.shape == ()):
        return array
    also = "one number or " if scalar_allowed else ""
    raise InputError(f"{name} has shape {array.shape}; A has {n} rows, so give {also}shape ({n},)")


def _mask(protected: ArrayLike, n: int) -> Mask:
    """A mask, indices or the int n1, as a mask; at least one row and not all."""
    if isinstance(protected, jax.core.Tracer):
        if protected.dtype != bool or protected.shape != (n,):
            raise InputError(f"a traced protected must be a boolean mask of shape ({n},)")
        return protected
    try:
        array = np.asarray(protected)
    except (TypeError, ValueError) as error:
        raise InputError(f"protected is no array: {error}") from None
    if array.dtype == bool and array.shape == (n,):
        mask = array
    elif array.dtype.kind in "iu" and array.ndim == 0:
        if not 1 <= int(array) < n:
            raise InputError(f"protected = {int(array)} rows of {n}; give 1 <= n1 <= {n - 1}")
        mask = np.arange(n) < int(array)
    elif array.dtype.kind in "iu" and array.ndim == 1:
        outside = np.flatnonzero((array < 0) | (array >= n))
        if outside.size:
            i = outside[0]
            raise InputError(f"protected[{i}] = {array[i]} is outside the rows 0..{n - 1} of A")
        mask = np.zeros(n, bool)
        mask[array] = True
        if np.count_nonzero(mask) != array.size:
            raise InputError("protected names a row twice; give each row once, or a boolean mask")
    else:
        raise InputError(
            f"protected has dtype {array.dtype} and shape {array.shape}; give a boolean mask of "
            f"shape ({n},), an array of row indices, or the int n1"
        )
    if not mask.any():
        raise InputError("protected is empty; mark at least one row, or use SoftmaxRegression")
    if mask.all():
        raise InputError(f"protected marks all {n} rows; leave at least one unprotected")
    return jnp.asarray(mask)


def _weight(gamma: ArrayLike, dtype: Any) -> Scalar:
    array = _array("gamma", gamma, like=dtype)
    if array.shape != ():
        raise InputError(f"gamma has shape {array.shape}; give one number")
    if is_concrete(array) and not 0 <= float(array) < np.inf:
        raise InputError(f"gamma is {float(array)}; give a finite number >= 0")
    return array


def _check_metric(metric: Any) -> None:
    if metric not in METRICS:
        raise InputError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}")


def _check_reading(reading: Any) -> None:
    if reading not in READINGS:
        raise InputError(f"reading is {reading!r}; choose one of {', '.join(READINGS)}")


def _check_matrix_finite(A: Matrix) -> None:
    bad = first_not_finite(A) if is_concrete(A) else None
    if bad is not None:
        value, row, column = bad
        raise InputError(
            f"A is {value} at row {row}, column {column}; replace or remove that entry"
        )


def _check_finite(name: str, array: Vector) -> None:
    if not is_concrete(array) or all_finite(array):
        return
    host = np.asarray(array)
    row = np.flatnonzero(~np.isfinite(host))[0]
    raise InputError(f"{name} is {host[row]} at row {row}; replace or remove that entry")


def _check_not_negative(b: Vector) -> None:
    if not is_concrete(b):
        return
    negative = np.flatnonzero(np.asarray(b) < 0)
    if negative.size:
        i = negative[0]
        raise InputError(
            f"b is {np.asarray(b)[i]} at row {i}; the cross-entropy needs a target b >= 0"
        )


def _check_protected_loss(b: Vector, protected: Mask, gamma: Scalar, reading: Reading) -> None:
    """`InputError` where the cross-entropy ell_1, by which gamma is divided, is zero everywhere."""
    if not is_concrete((b, protected, gamma)) or float(gamma) == 0:
        return
    rows = np.flatnonzero(np.asarray(protected))
    if not np.asarray(b)[rows].any():
        raise InputError(
            f"b is 0.0 at row {rows[0]} and at every other protected row, so that their "
            "cross-entropy ell_1 is 0 everywhere; give one of them a target, or gamma 0"
        )
    if reading == "block" and rows.size == 1:
        raise InputError(
            f"row {rows[0]} alone is protected: a softmax over it is 1, so that its cross-entropy "
            "ell_1 is 0 everywhere; protect two rows, or use reading 'joint' or gamma 0"
        )


def check_squared(problem: SoftmaxRegression, what: str) -> None:
    """`InputError` for a problem with another loss, where ``what`` is about squared distances."""
    if problem.metric != "squared":
        raise InputError(
            f"{what} is about the squared distance, but metric is {problem.metric!r}; "
            "give a problem with metric 'squared'"
        )


def check_start(x0: Point) -> None:
    """`InputError` for a starting point that is not finite."""
    if is_concrete(x0) and not all_finite(x0):
        i = int(np.flatnonzero(~np.isfinite(np.asarray(x0)))[0])
        raise InputError(f"x0 is {np.asarray(x0)[i]} at entry {i}; give a finite starting point")


def _same_zeros(w: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(w) == 0, np.asarray(other) == 0)


def _num_free_directions(A: Matrix, w: Vector) -> int | None:
    """Dimension of the space of ``A v`` with ``W A v = 0``: there alone minimizers may escape.

    One read of A where w has zeros; None if A or w is traced or in other processes.
    """
    if not (is_concrete(A) and is_concrete(w) and is_here(A)):
        return None
    zero = np.asarray(w) == 0
    if not zero.any():
        return 0
    n, d = A.shape
    if on_host(A):
        bound = others = np.zeros((d, d))
        part: Any
        for rows, part in host_rows(A):
            bound = bound + _dense_product(part[~zero[rows]].T)
            others = others + _dense_product(part[zero[rows]].T)
        rank = _rank_of_gram(bound)
        return 0 if rank == d else _rank_of_gram(bound + others) - rank
    host: Any = to_host(A)
    rank = _rank(host[~zero])
    return 0 if rank == min(n, d) else _rank(host) - rank


def _rank(rows: Any) -> int:
    return _rank_of_gram(_dense_product(rows if rows.shape[0] < rows.shape[1] else rows.T))


def _dense_product(rows: Any) -> np.ndarray:
    """``rows @ rows.T``."""
    product = rows @ rows.T
    return product.toarray() if scipy.sparse.issparse(product) else product


def _rank_of_gram(gram: np.ndarray) -> int:
    """As NumPy finds it; full rank by a Cholesky factorization, in a tenth of the time."""
    size = len(gram)
    if size == 0:
        return 0
    # Twice what NumPy takes for zero: the norm bounds the largest eigenvalue.
    floor = 2 * size * np.finfo(gram.dtype).eps * np.linalg.norm(gram, 1)
    try:
        np.linalg.cholesky(gram - floor * np.eye(size))
    except np.linalg.LinAlgError:
        return int(np.linalg.matrix_rank(gram, hermitian=True))
    return size


def _warn_if_not_coercive(num_free: int | None, w: Vector, stacklevel: int) -> None:
    if num_free:
        warnings.warn(
            f"w is zero on {np.count_nonzero(np.asarray(w) == 0)} rows, which leaves {num_free} "
            "direction(s) of x without regularization: L need not grow there and its minimizer may "
            "lie at infinity; give those rows a positive w",
            NotCoerciveWarning,
            stacklevel=stacklevel,
        )
