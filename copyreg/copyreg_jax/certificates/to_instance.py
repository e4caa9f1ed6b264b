"""From the problems of the package to the checker's plain instance."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from jax.typing import ArrayLike

from copyreg_jax._files import unreadable
from copyreg_jax.checker.data import Instance, make_instance, read_instance
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import RowBlocks, fetch, to_host
from copyreg_jax.problems.copyright_regression import CopyrightRegression

__all__ = ["exact_float", "exact_point", "input_errors", "instance", "to_instance"]


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Data that can't be read, or are others by now, are the caller's."""
    try:
        yield
    except VoidError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise unreadable(error.filename, error) from None


def instance(problem: Any) -> Instance:
    """The checker's instance of a problem, or of the file at a path."""
    if isinstance(problem, str | Path):
        return read_instance(problem)
    if not isinstance(problem, CopyrightRegression):
        raise InputError(
            "nothing is protected here; certify a CopyrightRegression, or the path of an instance"
        )
    return to_instance(problem)


def exact_float(name: str, number: Any) -> float:
    """A finite number as the float64 that it is."""
    try:
        value = math.nan if isinstance(number, str) else float(number)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is {number!r:.40}; give a finite number")
    if value != number:
        raise InputError(f"{name} is {number!r:.40}, which is not a float64; give float({name})")
    return value


def exact_point(x: ArrayLike, d: int) -> np.ndarray:
    """The point as float64 numbers that equal those that were given."""
    try:
        given = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise InputError(f"x is not a numeric array: {error}") from None
    if given.dtype == object:
        raise InputError(
            f"x is a {type(x).__name__}; give an array of {d} numbers, such as solution.x"
        )
    if given.shape != (d,):
        raise InputError(f"x has shape {given.shape}; A has {d} columns, so give shape ({d},)")
    if given.dtype.kind not in "fiu" or given.dtype.itemsize > 8:
        raise InputError(f"x has dtype {given.dtype}; give float32 or float64")
    exact = given.astype(np.float64)
    inexact = np.flatnonzero(~np.isfinite(exact) | (exact.astype(given.dtype) != given))
    if inexact.size:
        i = int(inexact[0])
        raise InputError(
            f"x is {given[i]} at entry {i}; a certificate needs finite float64 numbers"
        )
    return exact


def to_instance(problem: CopyrightRegression) -> Instance:
    """The problem's data on the host, as the checker sees them."""
    in_blocks = isinstance(problem.A, RowBlocks) and not problem.A.sparse
    A: Any = problem.A if in_blocks else to_host(problem.A)
    if scipy.sparse.issparse(A):
        A = (A.data, A.indices, A.indptr, np.array(A.shape, np.int64))
    return make_instance(
        A,
        np.asarray(fetch(problem.A, problem.b)),
        np.asarray(fetch(problem.A, problem.protected)),
        np.asarray(fetch(problem.A, problem.w)),
        np.asarray(problem.gamma),
        problem.reading,
        problem.metric,
    )
