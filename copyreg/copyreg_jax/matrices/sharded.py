"""A dense matrix whose rows lie on many devices, of one process or of several.

Each device multiplies its own rows; what is exchanged are sums of O(d^2) numbers for a Gram matrix
and of O(d) for a product, whatever n is. Vectors of n entries are cut like the rows and stay where
they are. The exchange is JAX's: ``jax.shard_map`` with ``jax.lax.psum``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from copyreg_jax._tracing import is_concrete
from copyreg_jax.errors import InputError, PrecisionError
from copyreg_jax.matrices import host_access, interface

__all__ = ["ShardedRows"]

_ROWS = "rows"

_ALL = PartitionSpec()

_CUT = PartitionSpec(_ROWS)


@jax.tree_util.register_pytree_node_class
class ShardedRows:
    """A dense (n, d) matrix, its rows in equal shares on the devices of a mesh.

    Pass it as A to a problem: ``cr.CopyrightRegression(cr.ShardedRows(A), b, ...)``. The problem's
    vectors then lie beside the rows, and `copyreg_jax.solve` works as ever. With several processes
    (``jax.distributed.initialize``), all of them run the same program; each reads from ``source``
    the rows of its own devices only.

    Parameters
    ----------
    source : (n, d) array, or anything with shape, dtype and ``source[i:j]``
        NumPy or JAX array, ``np.memmap``, dataset of h5py or zarr; float32 or float64.
    devices : sequence of devices, optional
        Where the rows go, in this order; all devices of all processes if not given.

    Raises
    ------
    InputError
        A sparse or otherwise unfit source.
    PrecisionError
        float64 data while JAX's 64-bit mode is off.

    Notes
    -----
    Where the number k of devices does not divide n, up to k - 1 rows of zeros fill up the last
    share or shares. Products with A then have N > n entries, and so have b, w and protected of the
    problem, and what it computes by row; f is exactly zero on the rows beyond n, so that they
    count for nothing.

    Attributes
    ----------
    data : (N, d) array
        The rows and what fills them up, N the least multiple of k that is n or more.
    mesh : Mesh
        The devices, on one axis "rows".
    shape : (int, int)
        ``(n, d)``.

    Examples
    --------
    >>> import numpy as np, copyreg_jax as cr
    >>> A = cr.ShardedRows(np.array([[1.0], [0.0], [-1.0]], np.float32))
    >>> A
    ShardedRows(shape=(3, 1), dtype=float32, devices=1)
    >>> problem = cr.CopyrightRegression(A, [0.7, 0.2, 0.1], protected=1)
    >>> cr.solve(problem).status.name
    'CONVERGED'
    """

    # NumPy's operators and array functions leave products to this class.
    __array_ufunc__ = None

    sharded: ClassVar[bool] = True
    data: Float[Array, "N d"]
    mesh: Mesh
    shape: tuple[int, int]

    def __init__(self, source: Any, devices: Sequence[Any] | None = None) -> None:
        devices = jax.devices() if devices is None else list(devices)
        if not devices or len(set(devices)) != len(devices):
            raise InputError("devices is empty or names one twice; give each device once")
        shape: tuple[int, ...] = getattr(source, "shape", ())
        dtype: Any = getattr(source, "dtype", None)
        if len(shape) != 2 or 0 in shape or not hasattr(source, "__getitem__"):
            raise InputError(
                f"A is a {type(source).__name__} of shape {shape}; rows are sharded of a dense "
                "(n, d) array or of what has a shape, a dtype and source[i:j]"
            )
        native = None if dtype is None else np.dtype(dtype).newbyteorder("=")
        if native not in (np.float32, np.float64):
            raise InputError(f"A has dtype {dtype}; give a dense float32 or float64 array")
        if hasattr(source, "tocsr"):
            raise InputError("A is sparse; rows of a dense A alone are sharded")
        if jax.dtypes.canonicalize_dtype(native) != native:
            raise PrecisionError(
                "A is float64, but JAX's 64-bit mode is off and would round it; "
                "enable jax_enable_x64 before the first use of JAX, or pass float32 data"
            )
        n, d = self.shape = int(shape[0]), int(shape[1])
        self.mesh = Mesh(np.array(devices), (_ROWS,))
        share = -(-n // len(devices))

        def read(index: Any) -> np.ndarray:
            start = index[0].start or 0
            block = np.zeros((share, d), native)
            rows = np.asarray(source[min(start, n) : min(start + share, n)])
            block[: len(rows)] = rows
            return block

        whole = (share * len(devices), d)
        self.data = jax.make_array_from_callback(whole, self._sharding(_CUT), read, dtype=native)

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64, as the entries are."""
        return np.dtype(self.data.dtype)

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def T(self) -> Float[Array, "d N"]:
        """The transpose, its columns on the devices; N columns."""
        return self.data.T

    def astype(self, dtype: Any) -> ShardedRows:
        """The matrix with entries of another dtype, on the same devices."""
        return self.tree_unflatten((self.mesh, self.shape), (self.data.astype(dtype),))

    def _local(self, function: Any, inputs: Any, outputs: Any, **options: Any) -> Any:
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=inputs, out_specs=outputs, **options
        )

    def __matmul__(self, other: ArrayLike) -> Array:
        v = jnp.asarray(other)
        return self._local(jnp.matmul, (_CUT, _ALL), _CUT)(self.data, v)

    def __rmatmul__(self, other: ArrayLike) -> Array:
        u = jnp.asarray(other)
        cut = PartitionSpec(*[None] * (u.ndim - 1), _ROWS)
        return self._local(_summed(jnp.matmul), (cut, _CUT), _ALL)(u, self.data)

    def __repr__(self) -> str:
        return f"ShardedRows(shape={self.shape}, dtype={self.dtype}, devices={self.mesh.size})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Of a device, only its number has a meaning elsewhere.
        if not _is_here(self):
            raise InputError("A is sharded over processes and can't be pickled; pickle its source")
        numbers = [device.id for device in self.mesh.devices.flat]
        return _on_devices, (np.asarray(self.data[: self.shape[0]]), numbers)

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        return (self.data,), (self.mesh, self.shape)

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> Self:
        self = object.__new__(cls)
        (self.data,) = children
        self.mesh, self.shape = aux
        return self


def _on_devices(rows: np.ndarray, numbers: list[int]) -> ShardedRows:
    here = {device.id: device for device in jax.devices()}
    if missing := set(numbers) - set(here):
        raise InputError(
            f"A was sharded over {len(numbers)} devices; {sorted(missing)} aren't here"
        )
    return ShardedRows(rows, [here[number] for number in numbers])


def _summed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its results summed over the devices."""

    def summed(*args: Any) -> Any:
        return jax.lax.psum(function(*args), _ROWS)

    return summed


@interface.weighted_product.register(ShardedRows)
def _weighted_product(A: ShardedRows, v: Array, weights: Array, shifts: Array) -> Any:
    inputs = _CUT, _ALL, PartitionSpec(None, _ROWS), _ALL

    def local(*args: Any) -> Any:
        *sums, u = interface.weighted_product(*args)
        return *jax.lax.psum(sums, _ROWS), u

    return A._local(local, inputs, (_ALL, _ALL, _CUT))(A.data, v, weights, shifts)


@interface.gram.register(ShardedRows)
@partial(jax.jit, static_argnums=3)
def _gram(A: ShardedRows, root: Array, basis: Array | None, dtype: Any) -> Float[Array, "d d"]:
    local = _summed(lambda rows, root, basis: interface.gram(rows, root, basis, dtype))
    # The loop in it starts from zeros, equal on all devices: what check_vma would reject.
    return A._local(local, (_CUT, _CUT, _ALL), _ALL, check_vma=False)(A.data, root, basis)


@interface.weighted_gram.register(ShardedRows)
def _weighted_gram(A: ShardedRows, weights: Array, centers: Array) -> Float[Array, "d d"]:
    inputs = _CUT, PartitionSpec(None, _ROWS), _ALL
    local = _summed(interface.weighted_gram)
    return A._local(local, inputs, _ALL, check_vma=False)(A.data, weights, centers)  # see _gram


@interface.column_maxima.register(ShardedRows)
def _column_maxima(A: ShardedRows) -> Float[Array, " d"]:
    return A._local(lambda rows: jax.lax.pmax(interface.column_maxima(rows), _ROWS), (_CUT,), _ALL)(
        A.data
    )


@interface.column_norms.register(ShardedRows)
def _column_norms(A: ShardedRows) -> Float[Array, " d"]:
    largest = _column_maxima(A)
    scale = jnp.where(largest == 0, 1, largest)
    squares = _summed(lambda rows, scale: jnp.sum((rows / scale[None]) ** 2, axis=0))
    return scale * jnp.sqrt(A._local(squares, (_CUT, _ALL), _ALL)(A.data, scale))


@interface.squared_column_norms.register(ShardedRows)
@jax.jit
def _squared_column_norms(A: ShardedRows, weights: Array) -> Float[Array, " d"]:
    return A._local(_summed(interface.squared_column_norms), (_CUT, _CUT), _ALL)(A.data, weights)


@interface.row_norms.register(ShardedRows)
@jax.jit
def _row_norms(A: ShardedRows) -> Float[Array, " N"]:
    return A._local(interface.row_norms, (_CUT,), _CUT)(A.data)


@interface.absent_rows.register(ShardedRows)
def _absent_rows(A: ShardedRows) -> Bool[Array, " N"] | None:
    n, total = A.shape[0], A.data.shape[0]
    return None if n == total else jnp.arange(total) >= n


@host_access.place.register(ShardedRows)
def _place(A: ShardedRows, array: Any) -> Array:
    traced, spec = not is_concrete(array), _ALL
    if array.ndim:
        spec, absent = _CUT, A.data.shape[0] - len(array)
        array = jnp.pad(array, (0, absent)) if traced else np.pad(array, (0, absent))
    if traced:
        return array
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, A._sharding(spec), lambda index: host[index])


@host_access.fetch.register(ShardedRows)
def _fetch(A: ShardedRows, vector: Any) -> Any:
    traced = not is_concrete(vector)
    return (vector if traced else _whole(vector))[: A.shape[0]]


def _whole(array: Any) -> np.ndarray:
    """The array on the host, in every process: all of them have to ask."""
    if getattr(array, "is_fully_addressable", True) or array.is_fully_replicated:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)


@host_access.is_here.register(ShardedRows)
def _is_here(A: ShardedRows) -> bool:
    return A.data.is_fully_addressable


@host_access.to_host.register(ShardedRows)
def _to_host(A: ShardedRows) -> np.ndarray:
    if not _is_here(A):
        raise InputError(
            "A is sharded over processes, and this needs all of it in one: save x, and go on in a "
            "single process with A from its file"
        )
    return np.asarray(A.data[: A.shape[0]], dtype=np.float64)


@host_access.host_rows.register(ShardedRows)
def _host_rows(A: ShardedRows) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows of this process, with those that fill it up."""
    for start, part in _own(A):
        yield slice(start, start + len(part.data)), np.asarray(part.data, np.float64)


def _own(A: ShardedRows) -> list[tuple[int, Any]]:
    """First row and shard of each device of this process, in the order of the rows."""
    shards = [(shard.index[0].start or 0, shard) for shard in A.data.addressable_shards]
    return sorted(shards, key=lambda pair: pair[0])


@host_access.join.register(ShardedRows)
def _join(A: ShardedRows, parts: list[np.ndarray]) -> np.ndarray:
    if _is_here(A):
        return np.concatenate(parts)
    # As integers of 32 bits, since JAX may have its 64-bit mode off.
    bits = [
        jax.device_put(part.view(np.uint32), shard.device)
        for part, (_, shard) in zip(parts, _own(A), strict=True)
    ]
    shape = (len(bits[0]) * A.mesh.size, *bits[0].shape[1:])
    joined = jax.make_array_from_single_device_arrays(shape, A._sharding(_CUT), bits)
    return np.ascontiguousarray(_whole(joined)).view(np.float64)


@host_access.first_not_finite.register(ShardedRows)
def _first_not_finite(A: ShardedRows) -> tuple[float, int, int] | None:
    with jax.ensure_compile_time_eval():
        if bool(jnp.isfinite(A.data).all()):
            return None
    if not _is_here(A):
        raise InputError("A has an entry that is not finite; replace or remove it")
    return host_access.locate_not_finite(_to_host(A))
