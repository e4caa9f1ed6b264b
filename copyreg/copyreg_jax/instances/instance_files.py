"""The instance file: an .npz that is never pickled (docs/reference/instance-format.md)."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.typing import ArrayLike

from copyreg_jax._files import write_whole
from copyreg_jax.checker.archive import InFile, read_arrays
from copyreg_jax.checker.data import make_csr, make_instance
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import RowBlocks, fetch, to_host
from copyreg_jax.problems.copyright_regression import CopyrightRegression

__all__ = ["STREAMED_BYTES", "example_instance", "load_instance", "save_instance"]


def save_instance(
    path: str | Path, problem: CopyrightRegression, x: ArrayLike | None = None
) -> None:
    """Write a problem to an .npz file, whole or not at all.

    Parameters
    ----------
    path : path
        Where to; the suffix is not changed.
    problem : CopyrightRegression
        Dense A is stored as ``A``, sparse A as the parts of a CSR matrix.
    x : (d,) array, optional
        A point to keep beside it, as ``x``: ``copyreg certify FILE FILE`` reads both.

    Raises
    ------
    InputError
        The file can't be written, x has the wrong shape, or problem is no CopyrightRegression.

    Examples
    --------
    >>> import tempfile
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0]], [0.7, 0.3], protected=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cr.save_instance(f"{folder}/instance.npz", problem)
    ...     cr.load_instance(f"{folder}/instance.npz")
    CopyrightRegression(n=2, d=1, n1=1, gamma=0.1, reading='joint', dtype=float32)
    """
    if not isinstance(problem, CopyrightRegression):
        raise InputError("an instance file has protected rows; save a CopyrightRegression")
    A: Any = to_host(problem.A)
    if scipy.sparse.issparse(A):
        parts = {
            "A_data": A.data,
            "A_indices": A.indices.astype(np.int64),
            "A_indptr": A.indptr.astype(np.int64),
            "A_shape": np.array(A.shape, np.int64),
        }
    else:
        parts = {"A": A}
    # The dtype of the problem, so that loading gives the same problem.
    arrays = {
        name: array.astype(problem.dtype) if array.dtype.kind == "f" else array
        for name, array in parts.items()
    }
    if x is not None:
        arrays["x"] = np.asarray(problem.point(x))
    arrays |= {
        "b": np.asarray(fetch(problem.A, problem.b)),
        "protected": np.asarray(fetch(problem.A, problem.protected)),
        "w": np.asarray(fetch(problem.A, problem.w)),
        "gamma": np.asarray(problem.gamma),
        "reading": np.array(problem.reading),
        "metric": np.array(problem.metric),
    }
    # Not compressed, so that a large matrix can be read block by block.
    write_whole(path, lambda file: np.savez(file, **arrays))


STREAMED_BYTES = 1 << 32
"""Size of a dense A from which it stays in its file, unless the caller says otherwise."""


def load_instance(path: str | Path, *, stream: bool | None = None) -> CopyrightRegression:
    """Read an instance file.

    Parameters
    ----------
    path : path
        An .npz with ``A`` (n, d), or ``A_data A_indices A_indptr A_shape``; ``b`` (n,),
        ``protected`` (n,) bool, ``w`` (n,), ``gamma`` (), and optionally ``reading``.
    stream : bool, optional
        Whether a dense A stays in its file and is read block by block, as `RowBlocks`. If not
        given: from 4 GiB. It never does below 16 MiB, compressed, or in Fortran order.

    Returns
    -------
    CopyrightRegression

    Raises
    ------
    InputError
        The file is truncated, pickled, lacks keys (all are named), or its arrays do not fit.

    Examples
    --------
    `save_instance` shows a round trip.

    >>> load_instance("no-such-file.npz")
    Traceback (most recent call last):
    ...
    copyreg_jax.errors.InputError: can't read no-such-file.npz: No such file or directory
    """
    arrays = _read(path, streamed=stream is not False)
    A = arrays["A"]
    if isinstance(A, InFile):
        whole = stream is None and math.prod(A.shape) * A.dtype.itemsize < STREAMED_BYTES
        arrays["A"] = _whole(A) if whole else RowBlocks.from_place(A)
    return _problem(arrays, str(path), A)


def example_instance() -> CopyrightRegression:
    """The embedded instance: attention over passages of Jane Austen's novels, one novel protected.

    A is stored in float32 and used in float64 where JAX's 64-bit mode is on, else all is rounded
    to float32. See ``instances/austen.md`` for where it comes from and what the answer means.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.example_instance()
    >>> problem.n > 2000, problem.d >= 32
    (True, True)
    """
    resource = resources.files("copyreg_jax.instances") / "austen.npz"
    with resources.as_file(resource) as path:
        arrays = _read(path)
    dtype = jnp.result_type(float)
    for name in ("A", "b", "w", "gamma"):
        arrays[name] = arrays[name].astype(dtype)
    return _problem(arrays, "the embedded example")


def _read(path: str | Path, *, streamed: bool = False) -> dict[str, Any]:
    try:
        return read_arrays(path, streamed=streamed)
    except VoidError as error:
        raise InputError(str(error)) from None


def _whole(A: InFile) -> Any:
    held = RowBlocks.from_place(A).rows(0, A.shape[0])
    # JAX may use the memory as it is, because nobody else has it. It would round what is refused.
    return held if held.dtype != jax.dtypes.canonicalize_dtype(held.dtype) else jax.device_put(held)


def _problem(arrays: dict[str, Any], path: str, held: Any = None) -> CopyrightRegression:
    """The problem, if the checker would read the same from that file, where it finds ``held``."""
    A = arrays["A"]
    try:
        if isinstance(A, tuple):
            host = make_csr(*A)
            A = scipy.sparse.csr_array((A[0], host.indices, host.indptr), shape=host.shape)
        if arrays["protected"].dtype != bool:
            raise InputError(f"protected has dtype {arrays['protected'].dtype}; store a bool mask")
        problem = CopyrightRegression(A=A, **{k: v for k, v in arrays.items() if k != "A"})
        make_instance(**(arrays if held is None else arrays | {"A": held}))
    except (InputError, VoidError) as error:
        kind = type(error) if isinstance(error, InputError) else InputError
        raise kind(f"{path}: {error}") from None
    return problem
