"""Softmax regression that never sees the targets of some rows."""

from __future__ import annotations

from typing import Any, Self

import jax
from jax.typing import ArrayLike

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import place
from copyreg_jax.problems.frames import check_same_index
from copyreg_jax.problems.input import read_rows
from copyreg_jax.problems.objective import Form, Mask, Metric
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["LeaveOutRegression"]


@jax.tree_util.register_pytree_node_class
class LeaveOutRegression(SoftmaxRegression):
    """Softmax regression without the terms of some rows in the loss.

    Minimizes ``0.5 sum_i (f_i - b_i)^2 + 0.5 ||w * A x||^2``, the first sum over the rows that are
    not left out; with ``metric="cross-entropy"``, ``-sum_i b_i log f_i`` over these rows. The rows
    left out stay in the softmax ``f = softmax(A x)``, and b is not renormalized. So the minimizer
    does not depend on the targets of these rows: it is the "safe" model of near access-freeness.

    Parameters
    ----------
    A, b, w, metric
        As in `SoftmaxRegression`.
    left_out : (n,) boolean mask, array of row indices, or int
        The rows that are left out: any number of them, also none or all. An int means the first.

    Raises
    ------
    InputError, PrecisionError
        As in `SoftmaxRegression`.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> A, b = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.6, 0.3, 0.1]
    >>> seen, unseen = (cr.LeaveOutRegression(A, b, left_out) for left_out in ([], [0]))
    >>> bool(seen.value([0.0, 0.0]) > unseen.value([0.0, 0.0]))
    True
    """

    def __init__(
        self,
        A: Any,
        b: ArrayLike,
        left_out: ArrayLike,
        w: ArrayLike = 1.0,
        metric: Metric = "squared",
    ) -> None:
        self._read(A, b, w, metric)
        check_same_index(self._labels, b=b, w=w, left_out=left_out)
        self._protected = read_rows("left_out", left_out, self.n)
        self._place()

    @classmethod
    def of(cls, problem: SoftmaxRegression, left_out: ArrayLike | None = None) -> Self:
        """Return the problem of the same data without the terms of some rows.

        Parameters
        ----------
        problem : SoftmaxRegression or CopyrightRegression
            Its A, b, w and metric are taken as they are, without another check. Its protection
            term is left out.
        left_out : (n,) boolean mask, array of row indices, or int, optional
            The protected rows of the problem if not given.

        Raises
        ------
        InputError
            The rows are not rows of A.

        Examples
        --------
        >>> import copyreg_jax as cr
        >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
        >>> unseen = cr.LeaveOutRegression.of(problem)
        >>> bool(abs(unseen.value([0.0]) - 0.5 * problem.ell_2([0.0])) < 1e-6)  # L_reg is 0 at 0
        True
        """
        if not isinstance(problem, SoftmaxRegression):
            raise InputError(f"problem is a {type(problem).__name__}; give a CopyrightRegression")
        new = cls.tree_unflatten(
            problem.metric, (problem.A, problem.b, problem.w, problem.protected)
        )
        new._num_free, new._labels = problem._num_free, problem._labels
        if left_out is not None:
            check_same_index(new._labels, left_out=left_out)
            new._protected = place(new.A, read_rows("left_out", left_out, new.n))
        return new

    def _place(self) -> None:
        super()._place()
        self._protected = place(self.A, self._protected)

    @property
    def protected(self) -> Mask:
        """(n,) boolean mask of the rows that are left out."""
        return self._protected

    @property
    def reading(self) -> Form:
        """Always "left-out": the terms of the protected rows are no part of the loss."""
        return "left-out"

    def _shown(self) -> dict[str, str]:
        rows = super()._shown()
        rows["rows"] += f", {self.n1:,} of them left out of the loss"
        return rows

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        return (self.A, self.b, self.w, self._protected), self._metric

    @classmethod
    def tree_unflatten(cls, aux: Any, children: tuple[Any, ...]) -> Self:
        self = object.__new__(cls)
        self.A, self.b, self.w, self._protected = children
        self._metric = aux
        return self
