"""Hypothesis strategies of matrices, targets, masks, whole instances and points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import hypothesis
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.objective import READINGS, Metric, Reading
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = [
    "MAX_CONDITION",
    "SHAPES",
    "Shapes",
    "design_matrices",
    "instances",
    "masks",
    "points",
    "register_profiles",
    "simplex_vectors",
]

Shapes: TypeAlias = Sequence[tuple[int, int]]

SHAPES: Shapes = ((2, 1), (3, 5), (6, 3), (12, 4))
"""Shapes (n, d) drawn by default: d = 1, n1 = 1 or n - 1, wide, tall. Few: each is compiled."""

# The smallest of k singular values is kept to about max(n, d) eps times the largest.
MAX_CONDITION = 1e8


def register_profiles() -> None:
    """Register the Hypothesis profiles "ci" and "soak"; ``hypothesis.settings`` loads one.

    "ci" is derandomized and keeps no database: what is drawn depends on nothing but the test and
    the modules imported so far, whose literals Hypothesis uses. "soak" draws 5000 random examples.
    Neither has a deadline, which would measure compilation. A "ci" registered before, as Hypothesis
    itself does, is replaced.

    Examples
    --------
    >>> import hypothesis
    >>> register_profiles()
    >>> hypothesis.settings.get_profile("soak").max_examples
    5000
    """
    hypothesis.settings.register_profile(
        "ci", deadline=None, derandomize=True, database=None, max_examples=100, print_blob=True
    )
    hypothesis.settings.register_profile(
        "soak", parent=hypothesis.settings.get_profile("ci"), derandomize=False, max_examples=5000
    )


def _entries(shape: Any, low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    # Thirty-two bits: entries are varied but never so close that b - f is all rounding error.
    return hnp.arrays(np.float64, shape, elements=st.floats(low, high, width=32))


def design_matrices(
    shapes: Shapes = SHAPES,
    *,
    rank: int | None = None,
    condition: float | None = None,
    max_entry: float = 2.0,
) -> st.SearchStrategy[np.ndarray]:
    """Matrices A, plain and awkward, or of one rank and condition number.

    Parameters
    ----------
    shapes : sequence of (n, d)
        Drawn from.
    rank : int, optional
        Numerical rank; min(n, d) where only a condition is given.
    condition : float, optional
        Ratio of the largest singular value to the smallest that is not zero, 1 to 1e8, kept to
        1e-6; 1, 10 or 1000 where only a rank is given.
    max_entry : float, default 2.0
        Bound of the entries; a 32-bit float.

    Returns
    -------
    strategy of (n, d) float64 arrays
        Without rank and condition: entries are 32-bit floats, and some matrices have equal rows, a
        zero column, or zeros only. Else: orthonormal factors with a geometric row of singular
        values that begins at ``max_entry``.

    Raises
    ------
    InputError
        A rank or condition that one of the shapes can't have; an unusable max_entry.

    Examples
    --------
    >>> import numpy as np
    >>> from hypothesis import find
    >>> A = find(design_matrices([(3, 2)], condition=100.0), lambda A: True)
    >>> print(np.round(np.linalg.svd(A)[1], 6))
    [2.   0.02]
    """
    if not (
        0 < max_entry <= np.finfo(np.float32).max and max_entry == float(np.float32(max_entry))
    ):
        raise InputError(f"max_entry is {max_entry}; give a positive 32-bit float, such as 2.0")
    if rank is None and condition is None:
        return _awkward_matrices(shapes, max_entry)
    if condition is not None and not 1 <= condition <= MAX_CONDITION:
        raise InputError(f"condition is {condition}; give 1 <= condition <= {MAX_CONDITION:g}")
    for shape in shapes:
        most = min(shape)
        if rank is not None and not 1 <= rank <= most:
            raise InputError(f"rank is {rank}; shape {shape} allows 1 to {most}")
        if (most if rank is None else rank) == 1 and condition not in (None, 1):
            raise InputError(
                f"condition is {condition}, but with shape {shape} and rank 1 there is one "
                "singular value; give condition 1, a higher rank or other shapes"
            )
    return _matrices_with_spectrum(shapes, rank, condition, max_entry)


@st.composite
def _awkward_matrices(draw: st.DrawFn, shapes: Shapes, max_entry: float) -> np.ndarray:
    A = draw(_entries(draw(st.sampled_from(shapes)), -max_entry, max_entry))
    kind = draw(st.sampled_from(["plain", "equal rows", "zero column", "zero"]))
    if kind == "equal rows":
        A[1:] = A[0]
    elif kind == "zero column":
        A[:, 0] = 0
    elif kind == "zero":
        A[:] = 0
    return A


@st.composite
def _matrices_with_spectrum(
    draw: st.DrawFn, shapes: Shapes, rank: int | None, condition: float | None, max_entry: float
) -> np.ndarray:
    shape = draw(st.sampled_from(shapes))
    r = min(shape) if rank is None else rank
    ratio = draw(st.sampled_from([1.0, 10.0, 1e3])) if condition is None else condition
    # Householder's Q is orthonormal whatever was drawn, the zero matrix included.
    left, right = (np.linalg.qr(draw(_entries((size, r), -1, 1)))[0] for size in shape)
    A = left * np.geomspace(max_entry, max_entry / ratio, r) @ right.T
    return np.clip(A, -max_entry, max_entry)  # no entry exceeds the norm, but by rounding


def simplex_vectors(n: int, *, one_hot: bool = True) -> st.SearchStrategy[np.ndarray]:
    """Probability vectors: positive ones and, if allowed, one-hot ones.

    Parameters
    ----------
    n : int
        Length, at least 1.
    one_hot : bool, default True
        Whether some vectors are one-hot.

    Returns
    -------
    strategy of (n,) float64 arrays
        Non-negative; the exact sum is within 4 ulp of 1.

    Raises
    ------
    InputError
        n below 1.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(simplex_vectors(4), lambda b: b.max() < 1).tolist()
    [0.25, 0.25, 0.25, 0.25]
    >>> find(simplex_vectors(3), lambda b: b.max() == 1).tolist()
    [1.0, 0.0, 0.0]
    """
    if n < 1:
        raise InputError(f"n is {n}; a probability vector has n >= 1 entries")
    # fsum is rounded once, so the quotients sum to 1 within their own rounding, whatever n is.
    positive = _entries(n, 0, 1).map(lambda v: v + 2.0**-10).map(lambda v: v / math.fsum(v))
    if not one_hot:
        return positive
    return positive | st.integers(0, n - 1).map(lambda i: (np.arange(n) == i).astype(float))


def masks(n: int) -> st.SearchStrategy[np.ndarray]:
    """Masks of protected rows: one row, half of them, or all but one, at any places.

    Parameters
    ----------
    n : int
        Length, at least 2.

    Returns
    -------
    strategy of (n,) bool arrays
        At least one True and one False.

    Raises
    ------
    InputError
        n below 2.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(masks(3), lambda mask: mask.sum() == 2).tolist()
    [True, True, False]
    """
    if n < 2:
        raise InputError(f"n is {n}; a mask with a True and a False has n >= 2 entries")
    counts = st.sampled_from(sorted({1, n // 2, n - 1}))
    return st.builds(
        lambda count, rows: np.isin(np.arange(n), rows[:count]),
        counts,
        st.permutations(range(n)),
    )


def instances(
    reading: Reading | None = None,
    *,
    shapes: Shapes = SHAPES,
    min_w: float = 2.0**-10,
    metric: Metric = "squared",
) -> st.SearchStrategy[CopyrightRegression]:
    """Valid problems, plain and awkward.

    Parameters
    ----------
    reading : {"joint", "block"}, optional
        Reading of Definition 5; drawn if not given.
    shapes : sequence of (n, d)
        Drawn from; n at least 2.
    min_w : float, default 2**-10
        Weights are drawn from min_w to min_w + 1. With 0 some are zero, for which the problem may
        raise a `NotCoerciveWarning`.
    metric : {"squared", "cross-entropy"}, default "squared"
        Loss.

    Returns
    -------
    strategy of CopyrightRegression
        A from `design_matrices`; b from `simplex_vectors`, or any vector of entries -1 to 1, or 0
        to 1 for the cross-entropy; gamma 0, 0.001, 0.1 or 1, but 0 where the cross-entropy of the
        protected rows is zero whatever x is. float64 in JAX's 64-bit mode, else rounded to
        float32. Where a test fails, Hypothesis prints the data too.

    Raises
    ------
    InputError
        When drawn: an unknown reading or metric, one row only, an infinite min_w.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(instances("block", shapes=[(3, 2)]), lambda problem: problem.gamma > 0)
    CopyrightRegression(n=3, d=2, n1=1, gamma=0.001, reading='block', dtype=float32)
    """
    return _instances(reading, shapes, min_w, metric)


@st.composite
def _instances(
    draw: st.DrawFn, reading: Any, shapes: Shapes, min_w: float, metric: Any
) -> CopyrightRegression:
    A = draw(design_matrices(shapes))
    n, dtype = len(A), jnp.result_type(float)
    b = draw(simplex_vectors(n) | _entries(n, -1 if metric == "squared" else 0, 1))
    w = draw(_entries(n, 0, 1)) + min_w
    A, b, w = (array.astype(dtype) for array in (A, b, w))
    protected = draw(masks(n))
    gamma = draw(st.sampled_from([0.0, 1e-3, 0.1, 1.0]))
    reading = draw(st.sampled_from(READINGS)) if reading is None else reading
    if metric == "cross-entropy" and not _has_protected_loss(b, protected, reading):
        gamma = 0.0
    hypothesis.note(
        f"{A = }, {b = }, {protected = }, {gamma = }, {w = }, {reading = }, {metric = }"
    )
    return CopyrightRegression(A, b, protected, gamma, w, reading, metric)


def _has_protected_loss(b: np.ndarray, protected: np.ndarray, reading: Any) -> bool:
    """Whether the cross-entropy ell_1 is positive somewhere; a softmax over one row is 1."""
    return bool(b[protected].any()) and (reading == "joint" or protected.sum() > 1)


def points(problem: SoftmaxRegression, *, max_logit: float = 1e3) -> st.SearchStrategy[np.ndarray]:
    """Points x of a problem: plain ones, zero, and ones with large logits.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
        Whose A and d count.
    max_logit : float, default 1000
        Bound of ``max |A x|``. The points with large logits come within a factor 2 of it, unless A
        is so small that it would take entries of x above ``2**11 * max_logit``.

    Returns
    -------
    strategy of (d,) float64 arrays
        32-bit floats from -2 to 2, times a power of two. L may be infinite there, on the barrier.

    Raises
    ------
    InputError
        max_logit is not a positive number.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> from hypothesis import find
    >>> problem = cr.SoftmaxRegression([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5])
    >>> x = find(points(problem), lambda x: max(x) > 100)
    >>> bool(500 < max(x) <= 1000)
    True
    """
    if not 0 < max_logit < np.inf:
        raise InputError(f"max_logit is {max_logit}; give a positive number")
    return _points(problem, max_logit)


@st.composite
def _points(draw: st.DrawFn, problem: SoftmaxRegression, max_logit: float) -> np.ndarray:
    x = draw(_entries(problem.d, -2, 2))
    kind = draw(st.sampled_from(["plain", "zero", "large logits"]))
    if kind == "zero":
        return np.zeros_like(x)
    largest = float(jnp.abs(problem.logits(x)).max())
    if largest > max_logit or (kind == "large logits" and largest > 2.0**-10):
        # By a power of two: that rounds nothing.
        x *= 2.0 ** math.floor(math.log2(max_logit / largest))
    return x
