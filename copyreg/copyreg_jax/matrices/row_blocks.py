"""A matrix that stays on disk: its products go over blocks of its rows, one after the other.

A block is read by a thread while the one before it is multiplied, by the device if A is dense and
by SciPy if it is sparse. So a product costs one reading of the files, or the arithmetic if that is
slower, and the memory of two blocks.
"""

from __future__ import annotations

import bisect
import concurrent.futures
import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from copyreg_jax._tracing import is_concrete
from copyreg_jax.checker.archive import InFile
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import block_products, host_access, interface
from copyreg_jax.matrices.host_access import HostMatrix
from copyreg_jax.matrices.row_sources import (
    FileRows,
    Source,
    aligned,
    clear_errors,
    is_sparse,
    opened,
)

__all__ = ["RowBlocks", "as_taken"]


@jax.tree_util.register_static
class RowBlocks:
    """An (n, d) matrix in files, for A larger than memory.

    Pass it as A to a problem; `NewtonCG` then solves it, as do the first-order solvers (of optax
    those without a line search), in memory of O(n + d^2) and a few blocks. Entries take the
    problem's dtype when they are multiplied: float32 files serve a float64 problem without
    a second copy.

    Parameters
    ----------
    source : path, array, or sequence of those
        A .npy file, or an array of shape (n, d); or a sequence of them, whose rows follow each
        other. Or, for a sparse A, one or more .npz files of ``scipy.sparse.save_npz`` in CSR form:
        each of those is a block. float32 or float64. Fortran order is read too, but slowly. Of an
        ``np.memmap`` or another array, the numbers it has in memory count, not those of a file:
        where they are the same, a path is read faster.
    block_bytes : int, default 2**26
        Size of a block of a dense A; two or three are in memory at a time.

    Raises
    ------
    InputError
        A file is missing, truncated or of another kind; shards that differ in their columns; a
        file that was changed or replaced since, by its size and times; a product inside of
        ``jax.jit``, ``jax.grad`` or ``jax.vmap``, which can't read files.

    Notes
    -----
    ``A @ v`` and ``u @ A``, for one vector or several, read each block once, as do
    `copyreg_jax.problems.curvature.apply` (a Hessian-vector product), a Gram matrix and the check
    for entries that are not finite, which a problem makes when it is constructed;
    ``problem.hessian`` reads them three times. An n x d matrix is never formed. As a pytree it has
    no leaves. Files that change are refused from then on, arrays must not be changed. Copies and
    pickles of it name the same files, and are refused where those are others; arrays are copied.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import copyreg_jax as cr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i, rows in enumerate([[[1.0, 0.0]], [[0.0, 1.0], [1.0, 1.0]]]):
    ...         np.save(f"{folder}/{i}.npy", np.array(rows, np.float32))
    ...     A = cr.RowBlocks([f"{folder}/0.npy", f"{folder}/1.npy"])
    ...     problem = cr.CopyrightRegression(A, [0.6, 0.3, 0.1], protected=1)
    ...     A, cr.solve(problem).status.name
    (RowBlocks(shape=(3, 2), dtype=float32, blocks=1), 'CONVERGED')
    """

    on_host: ClassVar[bool] = True
    ndim: ClassVar[int] = 2
    # NumPy's operators and array functions leave products to this class.
    __array_ufunc__ = None

    shape: tuple[int, int]
    dtype: np.dtype
    sparse: bool
    """Whether the blocks are sparse."""

    _survey: tuple[Array, tuple[float, int, int] | None] | None = None

    def __init__(self, source: Source | Sequence[Source], *, block_bytes: int = 1 << 26) -> None:
        if not isinstance(block_bytes, int) or block_bytes < 1:
            raise InputError(f"block_bytes is {block_bytes!r}; give a number of bytes >= 1")
        given: Any = source  # a data frame is one wrong source, not one for each column
        one = isinstance(given, str | Path) or hasattr(given, "shape")
        sources: list[Source] = [given] if one else list(given)
        if not sources:
            raise InputError("a matrix on disk needs at least one file")
        kinds = {is_sparse(part) for part in sources}
        if len(kinds) > 1:
            raise InputError("give either dense shards (.npy) or sparse ones (.npz), not both")
        self.sparse = kinds.pop()
        self._parts = [opened(part) for part in sources]
        columns = {part.shape[1]: part.name for part in self._parts}
        if len(columns) > 1:
            (d, one), (other_d, other) = list(columns.items())[:2]
            raise InputError(f"{one} has {d} columns, {other} has {other_d}; shards share them")
        (d,) = columns
        heights = [part.shape[0] for part in self._parts]
        self._starts = [0, *np.cumsum(heights).tolist()]
        self.shape = n, _ = self._starts[-1], d
        self._stored = np.result_type(*(part.dtype for part in self._parts))
        self.dtype = self._stored
        if self.sparse:
            edges = self._starts
        else:
            step = max(1, block_bytes // (d * self._stored.itemsize))
            step = max(
                step - step % block_products.PIECE_ROWS, min(step, block_products.PIECE_ROWS)
            )
            edges = [*range(0, n, step), n]
        self._blocks = [slice(i, j) for i, j in itertools.pairwise(edges)]

    @property
    def T(self) -> Any:
        """`InputError`: the transpose of a matrix on disk is not formed; use ``u @ A``."""
        raise InputError("A is on disk and has no transpose; use u @ A")

    @property
    def num_blocks(self) -> int:
        """Number of blocks that a product reads."""
        return len(self._blocks)

    @property
    def num_entries(self) -> int:
        """Number of entries stored."""
        return sum(part.num_entries for part in self._parts)

    def astype(self, dtype: Any) -> Self:
        """The same files, with products in another dtype; reads nothing."""
        other = copy.copy(self)
        other.dtype = np.dtype(dtype)
        other._survey = None
        return other

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_survey": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for part in self._parts:
            with clear_errors(part.name):
                part.require_same()

    @classmethod
    def from_place(cls, place: InFile) -> Self:
        """The matrix at a place of a file, as an instance file has it."""
        return cls([FileRows(place)])  # type: ignore[list-item]

    def read(self, number: int) -> HostMatrix:
        """One block as it is stored, from its files."""
        rows = self._blocks[number]
        if not self.sparse:
            return self.rows(rows.start, rows.stop)
        with clear_errors(self._parts[number].name):
            return self._parts[number].read()

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start:stop`` of a dense A as they are stored, from their files."""
        block = aligned((stop - start, self.shape[1]), self._stored)
        first = bisect.bisect_right(self._starts, start) - 1
        for part, offset in zip(self._parts[first:], self._starts[first:], strict=False):
            if offset >= stop:
                break
            low, high = max(start, offset), min(stop, offset + part.shape[0])
            with clear_errors(part.name):
                part.read(low - offset, high - offset, block[low - start : high - start])
        return block

    def flat(self, start: int, stop: int) -> np.ndarray:
        """The numbers ``start:stop`` of a dense A in C order, as the products take them."""
        d = self.shape[1]
        first = start // d
        numbers = self.rows(first, -(-stop // d)).reshape(-1)[start - first * d : stop - first * d]
        return as_taken(self, numbers)

    def blocks(self) -> Iterator[tuple[int, Any]]:
        """Each block with the number of its first row; the next one is being read meanwhile."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.read, 0)
            for number, rows in enumerate(self._blocks):
                block = coming.result()
                if number + 1 < len(self._blocks):
                    coming = pool.submit(self.read, number + 1)
                yield rows.start, block

    def survey(self) -> tuple[Array, tuple[float, int, int] | None]:
        """Norms of the rows, and the first entry that is not finite: one read, made once."""
        if self._survey is None:
            row_norms = block_products.sparse_row_norms if self.sparse else block_products.row_norms
            norms, fault = [], None
            for start, block in self.blocks():
                found, finite = row_norms(block, self.dtype)
                norms.append(jax.block_until_ready(found))
                if fault is None and not finite:
                    value, row, column = host_access.locate_not_finite(as_taken(self, block))
                    fault = value, start + row, column
            self._survey = jnp.concatenate(norms), fault
        return self._survey

    def total(self, work: Callable[[Any, int], Any]) -> Any:
        """Sum over the blocks of ``work(block, first row)``, a pytree of arrays."""
        total: Any = None
        for start, block in self.blocks():
            term = work(block, start)
            if total is None:
                total, lost = term, jax.tree_util.tree_map(jnp.zeros_like, term)
            else:
                total, lost = interface.add_compensated(total, lost, term)
            jax.block_until_ready(total)  # or blocks would pile up
        return total

    def total_and_rows(self, work: Callable[[Any, int], tuple[Any, Array]]) -> tuple[Any, Array]:
        """`total` of the first results of ``work``, and its second ones joined, in one read."""
        rows: list[Array] = []

        def first(block: Any, start: int) -> Any:
            term, values = work(block, start)
            rows.append(values)
            return term

        return self.total(first), jnp.concatenate(rows)

    def operand(self, array: Any, axis: int, size: int) -> Array:
        """What A is multiplied with, in the wider dtype of the two."""
        if not is_concrete(array):
            raise InputError(
                "A is on disk, and its products can't be traced: call problem.gradient, "
                "problem.hvp and copyreg_jax.solve outside of jax.jit, jax.grad and jax.vmap, "
                "and use no solver with a compiled line search, as L-BFGS of optax"
            )
        array = jnp.asarray(array)
        if array.ndim not in (1, 2) or array.shape[axis] != size:
            raise InputError(f"A has shape {self.shape} and can't be multiplied with {array.shape}")
        return array.astype(np.promote_types(array.dtype, self.dtype))

    def __matmul__(self, other: Any) -> Array:
        v = self.operand(other, 0, self.shape[1])
        product = block_products.sparse_product if self.sparse else block_products.product
        return jnp.concatenate(
            [jax.block_until_ready(product(block, v)) for _, block in self.blocks()]
        )

    def __rmatmul__(self, other: Any) -> Array:
        u = self.operand(other, -1, self.shape[0])
        transposed = block_products.sparse_transposed if self.sparse else block_products.transposed
        return self.total(lambda block, start: transposed(block, u, start))

    def __repr__(self) -> str:
        name, blocks = type(self).__name__, self.num_blocks
        return f"{name}(shape={self.shape}, dtype={self.dtype}, blocks={blocks})"


def as_taken(A: RowBlocks, numbers: Any) -> Any:
    """Numbers of a block as products take them: rounded, if A was given a narrower dtype."""
    return numbers.astype(A.dtype) if A.dtype.itemsize < numbers.dtype.itemsize else numbers
