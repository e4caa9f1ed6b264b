"""Softmax regression as an immutable pytree."""

from __future__ import annotations

from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from copyreg_jax._pages import card
from copyreg_jax._tracing import is_concrete
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import Matrix, absent_rows, fetch, is_here, place, without_rows
from copyreg_jax.problems import curvature, objective
from copyreg_jax.problems.coercivity import num_free_directions, warn_if_not_coercive
from copyreg_jax.problems.frames import FrameLabels, check_same_index, frame_labels
from copyreg_jax.problems.input import (
    check_finite,
    check_matrix_finite,
    check_metric,
    check_not_negative,
    read_array,
    read_matrix,
    read_vector,
    read_weights,
)
from copyreg_jax.problems.objective import Form, Mask, Metric, Point, Scalar, Terms, Vector

__all__ = ["Problem", "SoftmaxRegression", "check_squared"]

_NAMES_SHOWN = 6
"""The most names of columns that a table for notebooks has."""

Problem = TypeVar("Problem", bound="SoftmaxRegression")


@jax.tree_util.register_pytree_node_class
class SoftmaxRegression:
    """Softmax regression: minimize ``L(x) = 0.5 ||softmax(A x) - b||^2 + 0.5 ||w * A x||^2``.

    With ``metric="cross-entropy"``, ``-<b, log softmax(A x)>`` for the first term.

    Parameters
    ----------
    A : (n, d) array, data frame, sparse matrix (SciPy, BCOO, BCSR), RowBlocks, or ShardedRows
        One row per output of the softmax; `RowBlocks` stay in their files, `ShardedRows` on their
        devices. A frame of pandas or polars has numbers in all columns, and none is missing.
        float32 or float64; its dtype, promoted with those of the other arrays, is the
        dtype of everything. Numbers, integers and lists have no say in that: they take A's dtype,
        or JAX's default float.
    b : (n,) array
        Target; a probability vector in most uses, but any finite vector is allowed. If A is a
        frame of pandas, all that is given as a Series must have the index of A: nothing is aligned.
    w : float or (n,) array, default 1.0
        Regularization weights >= 0. They may be zero; if then L no longer grows in some direction,
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
    forms of `copyreg_jax.problems.curvature`: a gradient costs two reads of A, a Hessian O(n d^2).

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.SoftmaxRegression([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5])
    >>> float(problem.value([0.0, 0.0]))
    0.0
    """

    _num_free: int | None = None
    """Directions in which w leaves L flat; None where that is not known. No part of the pytree."""

    _labels: FrameLabels | None = None
    """The names that a data frame A came with. No part of the pytree."""

    def __init__(
        self, A: Any, b: ArrayLike, w: ArrayLike = 1.0, metric: Metric = "squared"
    ) -> None:
        self._read(A, b, w, metric)
        self._place()

    def _read(self, A: Any, b: ArrayLike, w: ArrayLike, metric: Metric) -> None:
        check_metric(metric)
        self._metric: Metric = metric
        self._labels = frame_labels("A", A)
        check_same_index(self._labels, b=b, w=w)
        A = read_matrix(A)
        n = A.shape[0]
        b = read_vector("b", b, n, like=A.dtype)
        w = read_weights(w, n, A.dtype)
        dtype = np.result_type(A.dtype, b.dtype, w.dtype)
        self.A: Matrix = A.astype(dtype)
        self.b: Vector = b.astype(dtype)
        self.w: Vector = jnp.broadcast_to(w.astype(dtype), (n,))
        check_matrix_finite(self.A)
        check_finite("b", self.b)
        if metric == "cross-entropy":
            check_not_negative(self.b)
        self._num_free = num_free_directions(self.A, self.w)
        warn_if_not_coercive(self._num_free, self.w, stacklevel=4)

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
    def reading(self) -> Form:
        """Reading of Definition 5: "joint" or "block"."""
        return "joint"

    @property
    def metric(self) -> Metric:
        """Loss that tells f from b: "squared" or "cross-entropy"."""
        return self._metric

    @property
    def labels(self) -> FrameLabels | None:
        """The names of the rows and columns of a data frame A; None for what is no data frame."""
        return self._labels

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
    def terms(self) -> Terms:
        """Everything that L depends on besides the logits."""
        return Terms(self.b, self.protected, self.gamma, self.w, self.reading, self.metric)

    def logits(self, x: ArrayLike) -> Vector:
        """``u = A x`` for x of shape (d,)."""
        return without_rows(self.A @ self.point(x), absent_rows(self.A))

    def point(self, x: ArrayLike, name: str = "x") -> Point:
        """Return x as a (d,) array of this problem's dtype; `InputError` for a wrong shape."""
        array = read_array(name, x, like=self.dtype, exact=False)
        if array.shape != (self.d,):
            raise InputError(
                f"{name} has shape {array.shape}; A has {self.d} columns, so give shape ({self.d},)"
            )
        return array if array.dtype == self.dtype else array.astype(self.dtype)

    def f(self, x: ArrayLike) -> Vector:
        """(n,) softmax of A x (Definition 2)."""
        return self._own_rows(objective.f(self.logits(x)))

    def c(self, x: ArrayLike) -> Vector:
        """(n,) residual f - b (Definition 3)."""
        return self._own_rows(objective.c(self.logits(x), self.b))

    def _own_rows(self, vector: Vector) -> Vector:
        """Without the rows that fill up the last shares of a sharded A."""
        return vector if vector.shape == (self.n,) else vector[: self.n]

    def ell(self, x: ArrayLike) -> Scalar:
        """Squared distance of f to b (Definition 4), or their cross-entropy."""
        return objective.ell(self.logits(x), self.b, self.metric)

    def l_reg(self, x: ArrayLike) -> Scalar:
        """Regularization 0.5 ||w * A x||^2 (Definition 8)."""
        return objective.l_reg(self.logits(x), self.w)

    def value(self, x: ArrayLike) -> Scalar:
        """Objective L (Definition 9); inf where a barrier is hit."""
        return objective.value(self.logits(x), self.terms)

    def value_and_gradient(self, x: ArrayLike) -> tuple[Scalar, Point]:
        """L and its (d,) gradient, from one product with A and one with its transpose."""
        # Compiled also where the product with A is not.
        value, gradient = curvature.value_and_gradient_jit(self.logits(x), self.terms)
        return value, gradient @ self.A

    def gradient(self, x: ArrayLike) -> Point:
        """(d,) gradient of L."""
        return self.value_and_gradient(x)[1]

    def hessian(self, x: ArrayLike) -> Float[Array, "d d"]:
        """(d, d) symmetric Hessian of L; O(n d^2)."""
        return curvature.hessian(self.A, curvature.curvature(self.logits(x), self.terms))

    def hvp(self, x: ArrayLike, v: ArrayLike) -> Point:
        """(d,) Hessian-vector product, without forming the Hessian; three reads of A."""
        at = curvature.curvature(self.logits(x), self.terms)
        return curvature.hvp(at, self.A @ self.point(v, "v")) @ self.A

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(n={self.n}, d={self.d}{self._metric_shown}, dtype={self.dtype})"

    def _repr_html_(self) -> str | None:
        """A small table for notebooks; None, for which they take the repr, for a batch."""
        if not is_concrete(self) or len(self.A.shape) != 2 or not is_here(self.A):
            return None
        return card(type(self).__name__, self._shown())

    def _shown(self) -> dict[str, str]:
        """What the table has, in words."""
        columns = f"{self.d:,}"
        if self.labels is not None:
            some = ", ".join(map(str, self.labels.columns[:_NAMES_SHOWN]))
            columns += f": {some}{', ...' if self.d > _NAMES_SHOWN else ''}"
        w = np.asarray(fetch(self.A, self.w))
        return {
            "rows": f"{self.n:,}",
            "columns": columns,
            "w": f"{w.min():.6g}" if w.min() == w.max() else f"{w.min():.6g} to {w.max():.6g}",
            "metric": self.metric,
            "dtype": str(self.dtype),
        }

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


def check_squared(problem: SoftmaxRegression, what: str) -> None:
    """`InputError` for a problem with another loss, where ``what`` is about squared distances."""
    if problem.metric != "squared":
        raise InputError(
            f"{what} is about the squared distance, but metric is {problem.metric!r}; "
            "give a problem with metric 'squared'"
        )
