"""A sparse matrix in memory as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from copyreg_jax.checker.archive import StoredFile
from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.row_tables import (
    EXACT_INTEGERS,
    Choice,
    Fields,
    Wanted,
    as_field,
    choose,
    exact_dtype,
    list_names,
)
from copyreg_jax.problems.frames import first_rounded

__all__ = ["SparseTable"]


class SparseTable:
    """A sparse matrix that is in memory, with columns of labels beside it."""

    def __init__(
        self,
        file: StoredFile,
        name: str,
        kind: str,
        matrix: Any,
        choice: Choice,
        beside: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.name, self.kind, self.file = name, kind, file
        self._beside = beside or {}
        n, d = matrix.shape
        if 0 in (n, d):
            raise InputError(f"{self.name} has shape {(n, d)}; give n >= 1 rows and d >= 1 columns")
        names = [str(place) for place in range(d)]
        for field in choice.fields:
            if field not in self._beside and field not in names:
                shown = list_names([*self._beside, *names])
                raise InputError(f"{self.name}: no column {field!r}; {shown}")
        inner = tuple(field for field in choice.fields if field not in self._beside)
        places = choose(self.name, names, choice._replace(fields=inner))
        self.columns = [names[place] for place in places]
        csr = self._exact(matrix)
        self._inner = {field: csr[:, [int(field)]].toarray()[:, 0] for field in inner}
        if places != list(range(d)):
            csr = csr[:, places]
            csr.sort_indices()
        self.matrix, self.dtype = csr, csr.dtype

    def _exact(self, matrix: Any) -> Any:
        """The matrix in CSR form, with exact numbers and no entry twice."""
        dtype = exact_dtype(self.name, matrix.dtype)
        if matrix.format not in ("csr", "csc"):
            matrix = matrix.tocoo()
        numbers = matrix.data
        bad = np.flatnonzero(~np.isfinite(numbers))
        k = int(bad[0]) if bad.size else first_rounded(numbers, dtype)
        if k is not None:
            listed = matrix.tocoo()
            raise InputError(
                f"{self.name} is {numbers[k]} at row {listed.row[k]}, column {listed.col[k]}; "
                f"replace that number: it has to be finite and, if an integer, one of {dtype}"
            )
        if matrix.format == "csr" and matrix.has_canonical_format:
            return scipy.sparse.csr_array(matrix.astype(dtype, copy=False))
        # In float64, because SciPy would add entries of one place in their own type.
        csr = scipy.sparse.csr_array(matrix.astype(np.float64))
        csr.sum_duplicates()
        if numbers.dtype.kind in "iu" and csr.nnz < numbers.size:
            self._refuse_rounded_sums(matrix)
        if numbers.dtype.kind == "b":  # true twice is true
            csr.data[:] = csr.data != 0
            return csr.astype(dtype)
        if not np.isfinite(csr.data).all():
            k, places = int(np.argmax(~np.isfinite(csr.data))), csr.tocoo()
            raise InputError(
                f"{self.name}: the entries at row {places.row[k]}, column {places.col[k]} have a "
                "sum that is not finite; scale the numbers down"
            )
        return csr.astype(dtype) if csr.nnz == numbers.size else csr

    def _refuse_rounded_sums(self, matrix: Any) -> None:
        """`InputError` for integers of one place whose sum float64 may not have."""
        listed = matrix.tocoo()
        sizes, counts = (
            scipy.sparse.csr_array((each, (listed.row, listed.col)), shape=matrix.shape)
            for each in (abs(listed.data.astype(np.float64)), np.ones(listed.data.size))
        )
        # Below this size of all of them together, no sum on the way was rounded.
        large = (sizes.data >= EXACT_INTEGERS) & (counts.data > 1)
        if large.any():
            k, places = int(np.argmax(large)), sizes.tocoo()
            raise InputError(
                f"{self.name}: the entries at row {places.row[k]}, column {places.col[k]} are "
                "integers whose sum may be beyond 2^53, where float64 is not exact; add them up "
                "before you save the matrix"
            )

    def survey(self, wanted: Wanted) -> tuple[int, Fields]:
        """Count the rows, and give some columns beside A."""
        held = self._inner | self._beside
        found: Fields = {(name, way): as_field(held[name], way) for name, way in wanted}
        return self.matrix.shape[0], found
