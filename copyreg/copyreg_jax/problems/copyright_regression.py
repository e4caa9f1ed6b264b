"""Copyright regression as an immutable pytree."""

from __future__ import annotations

import copy
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from copyreg_jax._tracing import is_concrete
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import fetch, is_here, place
from copyreg_jax.problems import objective
from copyreg_jax.problems.coercivity import num_free_directions, same_zeros, warn_if_not_coercive
from copyreg_jax.problems.frames import check_same_index
from copyreg_jax.problems.input import (
    check_metric,
    check_not_negative,
    check_protected_loss,
    check_reading,
    read_mask,
    read_weight,
    read_weights,
)
from copyreg_jax.problems.objective import Mask, Metric, Reading, Scalar
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["CopyrightRegression"]


@jax.tree_util.register_pytree_node_class
class CopyrightRegression(SoftmaxRegression):
    """Copyright regression: minimize ``L(x) = 0.5 ell + gamma / ell_1 + 0.5 ||w * A x||^2``.

    With ``metric="cross-entropy"`` the first term is ``ell``, without the half of a square.

    Parameters
    ----------
    A : (n, d) array, data frame, sparse matrix (SciPy, BCOO, BCSR), RowBlocks, or ShardedRows
        As in `SoftmaxRegression`.
    b : (n,) array
        Target.
    protected : (n,) boolean mask, array of row indices, or int
        The protected rows; an int n1 means the first n1 rows, as in the paper. At least one row
        and not all of them. A column of a data frame must be a mask.
    gamma : float, default 0.1
        Weight gamma_c >= 0 of the protection term. Zero keeps the rows marked, to compare with.
    w : float or (n,) array, default 1.0
        Regularization weights >= 0.
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
        check_reading(reading)
        self._reading: Reading = reading
        check_same_index(self._labels, b=b, w=w, protected=protected)
        self._protected = read_mask(protected, self.n)
        self._gamma = read_weight(gamma, self.dtype)
        self._promote()
        if metric == "cross-entropy":
            check_protected_loss(self.b, self._protected, self._gamma, self._reading)
        self._place()

    def _promote(self) -> None:
        """Use one dtype for all; a gamma that has a dtype takes part in the promotion."""
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
        """Return the same data with another gamma, w, reading or metric.

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
            check_metric(metric)
            new._metric = metric
        if reading is not None:
            check_reading(reading)
            new._reading = reading
        if gamma is not None:
            new._gamma = read_weight(gamma, self.dtype)
        if w is not None:
            check_same_index(new._labels, w=w)
            new.w = jnp.broadcast_to(read_weights(w, self.n, self.dtype), (self.n,))
        new._promote()
        if new.metric == "cross-entropy" and not all(
            given is None for given in (gamma, reading, metric)
        ):
            b, protected = fetch(self.A, self.b), fetch(self.A, self.protected)
            if metric is not None:
                check_not_negative(b)
            check_protected_loss(b, protected, new._gamma, new._reading)
        if w is not None:
            known = self._num_free is not None and is_concrete(new.w)
            if not (known and same_zeros(new.w, fetch(self.A, self.w))):
                new._num_free = num_free_directions(new.A, new.w)
            warn_if_not_coercive(new._num_free, new.w, stacklevel=3)
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

    def _shown(self) -> dict[str, str]:
        b, protected = (np.asarray(fetch(self.A, v)) for v in (self.b, self.protected))
        rows = super()._shown()
        rows["rows"] += f", {self.n1:,} of them protected"
        own = {
            "b": f"{b[protected].sum():.4g} on the protected rows, {b.sum():.4g} on all",
            "gamma": f"{float(self.gamma):.6g}",
            "reading": self.reading,
        }
        return rows | own

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        aux = self._reading, self._metric
        return (self.A, self.b, self.w, self._protected, self._gamma), aux

    @classmethod
    def tree_unflatten(cls, aux: Any, children: tuple[Any, ...]) -> Self:
        self = object.__new__(cls)
        self.A, self.b, self.w, self._protected, self._gamma = children
        self._reading, self._metric = aux
        return self
