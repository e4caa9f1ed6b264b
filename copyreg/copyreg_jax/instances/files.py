"""The instance file: an .npz that is never pickled (docs/reference/instance-format.md)."""

from __future__ import annotations

import io
from importlib import resources
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse

from copyreg_jax.errors import InputError
from copyreg_jax.files import write_whole
from copyreg_jax.matrices import to_host
from copyreg_jax.problem import CopyrightRegression

_DENSE = ("A",)
_SPARSE = ("A_data", "A_indices", "A_indptr", "A_shape")
_OTHERS = ("b", "protected", "w", "gamma")


def save_instance(path: str | Path, problem: CopyrightRegression) -> None:
    """Write a problem to an .npz file, whole or not at all.

    Parameters
    ----------
    path : path
        Where to; the suffix is not changed.
    problem : CopyrightRegression
        Dense A is stored as ``A``, sparse A as the parts of a CSR matrix.

    Raises
    ------
    InputError
        The file can't be written.
    """
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
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        **arrays,
        b=np.asarray(problem.b),
        protected=np.asarray(problem.protected),
        w=np.asarray(problem.w),
        gamma=np.asarray(problem.gamma),
        reading=np.array(problem.reading),
    )
    write_whole(path, buffer.getvalue())


def load_instance(path: str | Path) -> CopyrightRegression:
    """Read an instance file.

    Parameters
    ----------
    path : path
        An .npz with ``A`` (n, d), or ``A_data A_indices A_indptr A_shape``; ``b`` (n,),
        ``protected`` (n,) bool, ``w`` (n,), ``gamma`` (), and optionally ``reading``.

    Returns
    -------
    CopyrightRegression

    Raises
    ------
    InputError
        The file is truncated, pickled, lacks keys (all are named), or its arrays do not fit.
    """
    try:
        file = open(path, "rb")  # noqa: PTH123, SIM115 - path may name what Path can't open
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from None
    with file:
        return _load(file, str(path))


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
    with resource.open("rb") as file:
        arrays = _read(file, "the embedded example")
    dtype = jnp.result_type(float)
    for name in ("A", "b", "w", "gamma"):
        arrays[name] = arrays[name].astype(dtype)
    return _problem(arrays, "the embedded example")


def _load(file: IO[bytes], path: str) -> CopyrightRegression:
    return _problem(_read(file, path), path)


def _read(file: IO[bytes], path: str) -> dict[str, np.ndarray]:
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path} holds one array; give an .npz with A, {', '.join(_OTHERS)}")
        keys = _SPARSE if "A_data" in archive else _DENSE
        missing = [key for key in (*keys, *_OTHERS) if key not in archive]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}; it holds {archive.files}")
        names = (*keys, *_OTHERS, *(("reading",) if "reading" in archive else ()))
        return {name: archive[name] for name in names}
    except InputError:
        raise
    except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
        if "pickle" in str(error):
            raise InputError(f"{path} holds pickled objects, which are never loaded") from None
        raise InputError(f"{path} is truncated or not an .npz file: {error}") from None


def _problem(arrays: dict[str, np.ndarray], path: str) -> CopyrightRegression:
    try:
        if "A" in arrays:
            A: Any = arrays["A"]
        else:
            data, indices, indptr, shape = (arrays[key] for key in _SPARSE)
            A = scipy.sparse.csr_array(
                (data, indices, indptr), shape=tuple(int(size) for size in shape)
            )
            A.check_format()
            if not A.has_canonical_format:
                raise InputError("A_indices must increase in each row, without duplicates")
        if arrays["protected"].dtype != bool:
            raise InputError(f"protected has dtype {arrays['protected'].dtype}; store a bool mask")
        return CopyrightRegression(
            A,
            arrays["b"],
            arrays["protected"],
            arrays["gamma"],
            arrays["w"],
            str(arrays.get("reading", "joint")),  # type: ignore[arg-type]
        )
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: A_* do not form a CSR matrix: {error}") from None
