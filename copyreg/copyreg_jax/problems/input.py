"""The door: every array that a user passes is read, checked and explained here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO, BCSR, JAXSparse
from jax.typing import ArrayLike
from jaxtyping import Array

from copyreg_jax._tracing import is_concrete, is_traced, number
from copyreg_jax.errors import ENABLE_X64, InputError, PrecisionError
from copyreg_jax.matrices import (
    Matrix,
    RowBlocks,
    ShardedRows,
    SparseMatrix,
    all_finite,
    first_not_finite,
)
from copyreg_jax.matrices.row_sources import aligned
from copyreg_jax.problems.frames import first_rounded, mask_values, plain_values
from copyreg_jax.problems.objective import METRICS, READINGS, Mask, Point, Reading, Scalar, Vector

__all__ = [
    "check_finite",
    "check_matrix_finite",
    "check_metric",
    "check_not_negative",
    "check_protected_loss",
    "check_reading",
    "check_start",
    "read_array",
    "read_mask",
    "read_matrix",
    "read_rows",
    "read_vector",
    "read_weight",
    "read_weights",
]


def read_array(name: str, data: ArrayLike, like: Any = None, *, exact: bool = True) -> Array:
    """Read data as a float32 or float64 JAX array; only points, ``exact=False``, may be rounded."""
    data = plain_values(name, data)
    # Numbers, lists and integers carry no precision of their own: they take A's, or JAX's.
    dtype = np.dtype(like if like is not None else jnp.result_type(float))
    if isinstance(data, jax.Array):
        array = data
        if array.dtype.kind in "iub":
            if exact and is_concrete(array) and array.is_fully_addressable:
                _refuse_rounded(name, np.asarray(array), dtype)
            array = array.astype(dtype)
    elif isinstance(data, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array; fill its gaps, or leave those rows out")
    else:
        try:
            host = np.asarray(data)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} is not a numeric array: {error}") from None
        if host.dtype.kind not in "fiub" or host.dtype.itemsize > 8:
            raise InputError(f"{name} has dtype {host.dtype}; give real numbers of at most 64 bits")
        if host.dtype.kind in "iub":
            if exact:
                _refuse_rounded(name, host, dtype)
            # Here, since JAX would wrap integers beyond 32 bits where its 64-bit mode is off.
            host = host.astype(dtype)
        if host.dtype == np.float64 and not (exact and isinstance(data, np.ndarray)):
            host = _round(name, host, dtype)
        if host.dtype == np.float64 and jnp.result_type(float) != np.float64:
            raise PrecisionError(
                f"{name} is float64, but JAX's 64-bit mode is off and would round it; "
                f"put {ENABLE_X64} before the first use of JAX, or pass float32 data"
            )
        array = _on_device(host.astype(host.dtype.newbyteorder("="), copy=False))
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"{name} has dtype {array.dtype}; use float32 or float64")
    return array


def _refuse_rounded(name: str, host: np.ndarray, dtype: np.dtype) -> None:
    """`InputError` for the first integer that changes in a dtype of floats."""
    i = first_rounded(host, dtype)
    if i is not None:
        where = list(map(int, np.unravel_index(i, host.shape)))
        cure = "use float64, or pass floats" if dtype == np.float32 else "pass floats"
        raise InputError(
            f"{name}{where or ''} is {host.flat[i]}, an integer that {dtype} does not hold; {cure} "
            "if it may be rounded"
        )


def _on_device(host: np.ndarray) -> Array:
    """A JAX array of the numbers, which need their own memory once more, and no more."""
    if is_traced():
        return jnp.asarray(host)
    # jnp.asarray makes two copies, and compiles a program for each shape. device_put shares aligned
    # memory, so it gets a copy of its own.
    own = aligned(host.shape, host.dtype)
    own[...] = host
    return jax.device_put(own)


def _round(name: str, host: np.ndarray, dtype: Any) -> np.ndarray:
    """Round to the dtype; refuse one number that would become zero or infinite."""
    with np.errstate(over="ignore", under="ignore"):
        held: np.ndarray = host.astype(dtype)
    if host.ndim:
        return held
    kept = np.isfinite(held) == np.isfinite(host) and (held == 0) == (host == 0)
    if not kept:
        raise InputError(f"{name} = {host} is {held} in {held.dtype}; use float64 data")
    return held


def read_matrix(A: Any) -> Matrix:
    """Read A as one of the matrices of the package."""
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
        matrix = read_array("A", A)
    if len(matrix.shape) != 2 or 0 in matrix.shape:
        raise InputError(
            f"A has shape {matrix.shape}; give (n, d) with n >= 1 rows and d >= 1 columns"
        )
    return matrix


def _sparse(host: Any) -> SparseMatrix:
    """Convert SciPy's matrix to one with entries of float32 or float64."""
    with jax.ensure_compile_time_eval():
        host.data = np.asarray(read_array("A.data", host.data))
    return SparseMatrix.from_scipy(host)


def _host_coo(A: JAXSparse) -> Any:
    """Convert JAX's sparse matrix to SciPy's."""
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
        data, indices = np.asarray(read_array("A.data", A.data)), np.asarray(A.indices)
    # Indices equal to the shape are BCOO's padding.
    outside = np.argwhere((indices > np.array(A.shape)).any(axis=1))
    if outside.size:
        i = int(outside[0, 0])
        raise InputError(f"A.indices[{i}] = {indices[i].tolist()} is outside of shape {A.shape}")
    inside = (indices < np.array(A.shape)).all(axis=1)
    place = indices[inside, 0], indices[inside, 1]
    return scipy.sparse.coo_array((data[inside], place), shape=A.shape)


def read_vector(
    name: str, data: ArrayLike, n: int, *, like: Any, scalar_allowed: bool = False
) -> Vector:
    """Read a vector with one number a row, or one number for all rows."""
    array = read_array(name, data, like=like)
    if array.shape == (n,) or (scalar_allowed and array.shape == ()):
        return array
    also = "one number or " if scalar_allowed else ""
    raise InputError(f"{name} has shape {array.shape}; A has {n} rows, so give {also}shape ({n},)")


def read_mask(protected: ArrayLike, n: int) -> Mask:
    """Read a mask, indices or the int n1 as a mask of at least one row and not all."""
    mask = read_rows("protected", protected, n, 1, n - 1)
    if not is_concrete(mask):
        return mask
    marked = int(np.count_nonzero(mask))
    if marked == 0:
        raise InputError("protected is empty; mark at least one row, or use SoftmaxRegression")
    if marked == n:
        raise InputError(f"protected marks all {n} rows; leave at least one unprotected")
    return mask


def read_rows(name: str, rows: ArrayLike, n: int, least: int = 0, most: int | None = None) -> Mask:
    """Read a mask, indices, or a number of rows at the top as a mask of n rows."""
    most = n if most is None else most
    rows = mask_values(name, rows)
    if isinstance(rows, jax.Array) and not is_concrete(rows):
        if rows.dtype != bool or rows.shape != (n,):
            raise InputError(f"a traced {name} must be a boolean mask of shape ({n},)")
        return rows
    try:
        array = np.asarray(rows)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not an array: {error}") from None
    if array.dtype == bool and array.shape == (n,):
        return _on_device(array)
    if array.size == 0 and array.ndim == 1:  # an empty list has a dtype of floats
        array = array.astype(int)
    if array.dtype.kind in "iu" and array.ndim == 0:
        if not least <= int(array) <= most:
            raise InputError(f"{name} = {int(array)} rows of {n}; give {least} <= n1 <= {most}")
        return _on_device(np.arange(n) < int(array))
    if array.dtype.kind in "iu" and array.ndim == 1:
        outside = np.flatnonzero((array < 0) | (array >= n))
        if outside.size:
            i = outside[0]
            raise InputError(
                f"{name}[{i}] = {array[i]} is outside the rows 0..{n - 1} of A; "
                "rows are counted from 0"
            )
        mask = np.zeros(n, bool)
        mask[array] = True
        if np.count_nonzero(mask) != array.size:
            cure = _mask_of_numbers(name, array, n) or "give each row once, or a boolean mask"
            raise InputError(f"{name} names a row twice; {cure}")
        return _on_device(mask)
    wanted = f"give a boolean mask of shape ({n},), an array of row indices, or the int n1"
    raise InputError(
        f"{name} has dtype {array.dtype} and shape {array.shape}; "
        f"{_mask_of_numbers(name, array, n) or wanted}"
    )


def _mask_of_numbers(name: str, array: np.ndarray, n: int) -> str:
    """What to do with an array that looks like a mask, but is one of numbers; else nothing."""
    alike = array.shape == (n,) and array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all()
    cure = f"if {name} is a mask, of 1 where a row is meant and else 0, give {name} != 0"
    return cure if alike else ""


def read_weight(gamma: ArrayLike, dtype: Any) -> Scalar:
    """Read the weight gamma as one number."""
    array = read_array("gamma", gamma, like=dtype)
    if array.shape != ():
        raise InputError(f"gamma has shape {array.shape}; give one number")
    if is_concrete(array) and not 0 <= (value := number(array)) < np.inf:
        raise InputError(f"gamma is {value}; give a finite number >= 0")
    return array


def read_weights(w: ArrayLike, n: int, dtype: Any) -> Vector:
    """Read the weights w, one number for all rows or one a row, and refuse what is negative.

    L has their squares, so that a sign would do nothing: whoever gives one means something else.
    """
    array = read_vector("w", w, n, like=dtype, scalar_allowed=True)
    check_finite("w", array)
    if not is_concrete(array):
        return array
    seen = np.asarray(array) if array.is_fully_addressable else array
    with jax.ensure_compile_time_eval():
        is_negative = bool((seen < 0).any())
    if is_negative:
        host = np.asarray(array).reshape(-1)
        row = np.flatnonzero(host < 0)[0]
        where = f" at row {row}" if array.ndim else ""
        raise InputError(f"w is {host[row]}{where}; give finite numbers >= 0")
    return array


def check_metric(metric: Any) -> None:
    """Refuse an unknown metric."""
    if metric not in METRICS:
        raise InputError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}")


def check_reading(reading: Any) -> None:
    """Refuse an unknown reading."""
    if reading not in READINGS:
        raise InputError(f"reading is {reading!r}; choose one of {', '.join(READINGS)}")


def check_matrix_finite(A: Matrix) -> None:
    """Refuse NaN and infinity in A."""
    bad = first_not_finite(A) if is_concrete(A) else None
    if bad is not None:
        value, row, column = bad
        raise InputError(
            f"A is {value} at row {row}, column {column}; replace or remove that entry"
        )


def check_finite(name: str, array: Vector) -> None:
    """Refuse NaN and infinity in a vector, or in one number for all rows."""
    if not is_concrete(array) or all_finite(array):
        return
    host = np.asarray(array).reshape(-1)
    row = np.flatnonzero(~np.isfinite(host))[0]
    raise InputError(f"{name} is {host[row]} at row {row}; replace or remove that entry")


def check_not_negative(b: Vector) -> None:
    """Refuse a negative target, for which the cross-entropy has no meaning."""
    if not is_concrete(b):
        return
    negative = np.flatnonzero(np.asarray(b) < 0)
    if negative.size:
        i = negative[0]
        raise InputError(
            f"b is {np.asarray(b)[i]} at row {i}; the cross-entropy needs a target b >= 0"
        )


def check_protected_loss(b: Vector, protected: Mask, gamma: Scalar, reading: Reading) -> None:
    """`InputError` where the cross-entropy ell_1, by which gamma is divided, is zero everywhere."""
    if not is_concrete((b, protected, gamma)) or number(gamma) == 0:
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


def check_start(x0: Point) -> None:
    """`InputError` for a starting point that is not finite."""
    if is_concrete(x0) and not all_finite(x0):
        i = int(np.flatnonzero(~np.isfinite(np.asarray(x0)))[0])
        raise InputError(f"x0 is {np.asarray(x0)[i]} at entry {i}; give a finite starting point")
