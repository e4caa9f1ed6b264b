"""Copyright regression as an estimator of scikit-learn; it needs the extra ``sklearn``."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import JAXSparse
from jax.typing import ArrayLike
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import Matrix, RowBlocks, ShardedRows, SparseMatrix
from copyreg_jax.problems import CopyrightRegression, SoftmaxRegression, objective
from copyreg_jax.problems.frames import check_same_index, frame_labels, mask_values
from copyreg_jax.problems.input import check_reading, read_matrix
from copyreg_jax.problems.objective import Metric, Reading
from copyreg_jax.solvers import Solver, solve
from copyreg_jax.solvers.solution import Solution, Status

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise ImportError(
        "copyreg_jax.estimator needs scikit-learn 1.6 or newer: pip install 'copyreg-jax[sklearn]'"
    ) from None

__all__ = ["CopyrightRegressor"]


class CopyrightRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Copyright regression that scikit-learn can clone, search and cross-validate.

    ``fit(X, y, protected=mask)`` is `copyreg_jax.solve` of the problem with ``A = X``, ``b = y``.
    A sample is a row of A. The softmax goes over the rows in hand, so ``fit``, ``predict`` and
    ``score`` are about all rows that they are given together, never about single ones.

    Parameters
    ----------
    gamma : float, default 0.1
        Weight of the protection. With 0, and then only, ``protected`` may be left out.
    w : float, default 1.0
        Weight of the regularization, the same for all rows.
    reading, metric
        As in `CopyrightRegression`.
    normalize_y : bool, default True
        Divide y by its sum. A fold of cross-validation has a part of b that sums to less than 1,
        while f sums to 1 on any rows; divided by its sum, it is the distribution b given that a row
        is in the fold, as f is that of the model. This asks for ``y >= 0``. False takes any y as it
        is, as `CopyrightRegression` does.
    solver, rtol, max_steps
        As in `copyreg_jax.solve`.

    Attributes
    ----------
    coef_ : (d,) array
        The point x.
    n_iter_ : int
        Steps of the solver.
    status_ : Status
        Why the solver stopped; if not for CONVERGED, ``fit`` warns with a ``ConvergenceWarning``.
    solution_ : Solution
        All that the solver found out. Like the rest of a fitted estimator, it holds no row of X.
    n_features_in_, feature_names_in_
        As in all estimators of scikit-learn.

    Raises
    ------
    InputError, PrecisionError
        From ``fit``, ``score`` and ``problem``, as in `CopyrightRegression`.
    NotFittedError
        From ``predict``, ``score`` and ``problem`` before ``fit``.

    Notes
    -----
    X is dense or sparse, float32 or float64; all is computed in its precision. Metadata routing is
    on for ``protected`` in ``fit`` and in ``score``: it is enough to say
    ``sklearn.set_config(enable_metadata_routing=True)``. docs/how-to/scikit-learn.md has examples.

    Examples
    --------
    >>> import numpy as np, copyreg_jax as cr
    >>> from copyreg_jax.estimator import CopyrightRegressor
    >>> X = np.array([[1.0], [0.0], [-1.0]], np.float32)  # float64 if JAX's 64-bit mode is on
    >>> y, protected = [0.7, 0.2, 0.1], [True, False, False]
    >>> model = CopyrightRegressor().fit(X, y, protected=protected)
    >>> print(model.status_.name, model.predict(X).round(2))
    CONVERGED [0.26 0.33 0.41]
    >>> cr.certify(model.problem(X, y, protected=protected), model.coef_).verdict.name
    'CERTIFIED'
    """

    # Routed unasked: without the protected rows neither method does what it is for.
    __metadata_request__fit: ClassVar = {"protected": True}
    __metadata_request__score: ClassVar = {"protected": True}

    def __init__(
        self,
        gamma: float = 0.1,
        w: float = 1.0,
        reading: Reading = "joint",
        metric: Metric = "squared",
        normalize_y: bool = True,
        solver: Solver | None = None,
        rtol: float | None = None,
        max_steps: int | None = None,
    ) -> None:
        self.gamma = gamma
        self.w = w
        self.reading = reading
        self.metric = metric
        self.normalize_y = normalize_y
        self.solver = solver
        self.rtol = rtol
        self.max_steps = max_steps

    def fit(self, X: Any, y: ArrayLike, protected: ArrayLike | None = None) -> Self:
        """Solve the problem of these rows.

        Parameters
        ----------
        X : (n, d) array, data frame or sparse matrix
            The matrix A.
        y : (n,) array
            The target b, divided by its sum unless ``normalize_y`` is False.
        protected : (n,) boolean mask
            The protected rows: at least one and not all, unless gamma is 0. It is a mask, not row
            numbers, because cross-validation cuts it like X and y.

        Returns
        -------
        CopyrightRegressor
            This estimator.
        """
        problem = self._problem(X, y, protected, reset=True)
        solution: Solution = solve(problem, self.solver, rtol=self.rtol, max_steps=self.max_steps)
        if solution.status is not Status.CONVERGED:
            warnings.warn(
                f"{solution.status.name} after {solution.num_steps} steps: "
                f"{solution.status.explanation}",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.coef_ = np.asarray(solution.x)
        self.n_iter_ = solution.num_steps
        self.status_ = solution.status
        self.solution_ = solution
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the softmax of ``X coef_`` over the rows given: more rows mean less for each.

        Parameters
        ----------
        X : (n, d) array, data frame or sparse matrix

        Returns
        -------
        (n,) array
            Its sum is 1. O(n d).
        """
        check_is_fitted(self)
        return np.asarray(objective.f(self._matrix(X) @ jnp.asarray(self.coef_)))

    def score(self, X: Any, y: ArrayLike, protected: ArrayLike | None = None) -> float:
        """Return minus the loss ell_2 on the rows that are not protected; higher is better.

        Protected rows are to be away from their targets, so how far they are does not count. They
        stay in the softmax, and their targets in the sum by which y is divided: what the other rows
        should get is their share of the whole, as f is. With ``normalize_y=False`` a score does not
        depend on y at the protected rows. The joint reading is used, with y as in ``fit`` and
        without the regularization: so scores on the same rows can be compared for any gamma, w and
        reading.

        Parameters
        ----------
        X, y
            As in ``fit``.
        protected : (n,) boolean mask
            The protected rows: any number of them but not all. It may be left out if gamma is 0.

        Examples
        --------
        >>> X = np.array([[1.0], [0.0], [-1.0]], np.float32)
        >>> y, protected = [0.7, 0.2, 0.1], [True, False, False]
        >>> model = CopyrightRegressor().fit(X, y, protected=protected)
        >>> away = (model.predict(X) - y)[1:]  # on the rows that are not protected
        >>> bool(np.isclose(model.score(X, y, protected=protected), -np.sum(away**2)))
        True
        """
        check_is_fitted(self)
        A, b, mask = self._rows(X, y, protected, reset=False)
        if mask.all():
            raise InputError("protected marks all rows: none is left to score")
        problem = SoftmaxRegression(A, b, metric=self.metric)
        u = problem.logits(self.coef_)
        return -float(objective.ell_2(u, problem.b, jnp.asarray(mask), "joint", self.metric))

    def problem(self, X: Any, y: ArrayLike, protected: ArrayLike | None = None) -> Any:
        """The problem that ``fit`` solves for these rows, to certify or plot what it found.

        Parameters
        ----------
        X, y, protected
            As in ``fit``.

        Returns
        -------
        CopyrightRegression or SoftmaxRegression
            The latter if no row is protected.
        """
        check_is_fitted(self)
        return self._problem(X, y, protected, reset=False)

    def _problem(self, X: Any, y: Any, protected: Any, reset: bool) -> SoftmaxRegression:
        if np.ndim(self.w):
            raise InputError("w is an array; an estimator takes one number for all rows")
        check_reading(self.reading)
        A, b, mask = self._rows(X, y, protected, reset)
        if not mask.any():
            if self.gamma != 0:
                raise InputError(
                    "protected marks no row: mark one, or give gamma=0. In cross-validation, let "
                    "each fold have some, as StratifiedKFold().split(X, protected) does"
                )
            return SoftmaxRegression(A, b, self.w, self.metric)
        return CopyrightRegression(A, b, mask, self.gamma, self.w, self.reading, self.metric)

    def _matrix(self, X: Any) -> Matrix:
        return read_matrix(validate_data(self, _in_memory(X), reset=False, **_MATRICES))

    def _rows(
        self, X: Any, y: Any, protected: Any, reset: bool
    ) -> tuple[Any, NDArray[Any], NDArray[np.bool_]]:
        """A, b in its precision and the mask, read and checked."""
        check_same_index(frame_labels("X", X), y=y, protected=protected)
        X, y = validate_data(self, _in_memory(X), y, reset=reset, y_numeric=True, **_MATRICES)
        y = _doubles(y)
        if self.normalize_y:
            y = _normalized(y)
        return X, _in_precision(y, X.dtype), self._mask(protected, len(y))

    def _mask(self, protected: Any, n: int) -> NDArray[np.bool_]:
        if protected is None:
            if self.gamma != 0:
                raise InputError(
                    "protected is missing: give a boolean mask with one entry for each row, also "
                    "to score, or gamma=0 for no protection. In a search or a pipeline, set "
                    "sklearn.set_config(enable_metadata_routing=True)"
                )
            return np.zeros(n, bool)
        mask = np.asarray(mask_values("protected", protected))
        if mask.dtype != bool or mask.shape != (n,):
            raise InputError(
                f"protected has dtype {mask.dtype} and shape {mask.shape}; give a boolean mask of "
                f"shape ({n},)"
            )
        return mask

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.positive_only = self.normalize_y or self.metric == "cross-entropy"
        tags.regressor_tags.poor_score = True  # no score is above zero
        return tags


_MATRICES: dict[str, Any] = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}


def _in_memory(X: Any) -> Any:
    """X; `InputError` for a matrix that scikit-learn can't take rows of."""
    if isinstance(X, RowBlocks | ShardedRows | SparseMatrix | JAXSparse):
        raise InputError(
            f"X is a {type(X).__name__}; give an array, a data frame or a sparse matrix of SciPy, "
            "or use copyreg_jax.solve, which takes it"
        )
    return X


def _doubles(y: NDArray[Any]) -> NDArray[np.float64]:
    """Convert y to float64; `InputError` for what is no real numbers of at most 64 bits."""
    if y.dtype.kind not in "fiub" or y.dtype.itemsize > 8:
        raise InputError(f"y has dtype {y.dtype}; give real numbers of at most 64 bits")
    return y.astype(np.float64)


def _normalized(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide y by its sum; `InputError` where that is no distribution."""
    if (y < 0).any():
        i = int(np.argmax(y < 0))
        raise InputError(
            f"y is {y[i]} at row {i}, and is to be divided by its sum; give y >= 0, or "
            "normalize_y=False"
        )
    with np.errstate(over="ignore"):
        total = y.sum()
    if total == np.inf:  # each entry is finite
        y = y / y.max()
        total = y.sum()
    if not total > 0:
        raise InputError("y is 0 at all rows and can't be divided by its sum; give other rows")
    return np.asarray(y / total)


def _in_precision(y: NDArray[np.float64], dtype: Any) -> NDArray[Any]:
    """Round y to the dtype of X; `InputError` where an entry is too large for that."""
    with np.errstate(over="ignore"):
        rounded = y.astype(dtype)
    if not np.isfinite(rounded).all():
        i = int(np.argmin(np.isfinite(rounded)))
        raise InputError(f"y is {y[i]} at row {i}, too large for the {dtype} of X; scale y down")
    return rounded
