"""Hypothesis strategies and ready properties, to test a loss or a solver of your own.

Needs the extra ``test``. A property over drawn instances and points::

    import jax, numpy as np
    from hypothesis import assume, given, strategies as st
    from copyreg_jax.testing import assert_gradient_matches, instances, points

    jax.config.update("jax_enable_x64", True)

    @given(problem=instances(), data=st.data())
    def test_my_gradient(problem, data):
        x = data.draw(points(problem))
        assume(np.isfinite(problem.value(x)))
        assert_gradient_matches(problem.value, lambda x: my_gradient(problem, x), x, atol=1e-9)

Notes
-----
Every comparison is made in float64 on the host, allows ``rtol * size + atol``, where the size is
that of the largest entry (or eigenvalue, or value), and fails for NaN and infinity.

``rtol`` alone is right where the terms of a derivative do not cancel. Near a minimizer, where b is
close to f, or near the barrier ``ell_1 = 0`` they do: terms of size T have a sum that is much
smaller, and no code, automatic differentiation included, knows that sum better than to a few
``eps T``. Give ``atol = 64 * 2**-52 * T`` there: for ``v -> H v``, T is ``max|H| * sum|v|``.

Many drawn instances are faster with a ``value`` that is compiled once per shape: let
``jit_value = jax.jit(lambda problem, x: problem.value(x))`` and test
``lambda x: jit_value(problem, x)``.

In JAX's 32-bit mode an ``rtol`` below float32's eps, like the default, is a `PrecisionError`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from copyreg_jax.errors import InputError, PrecisionError
from copyreg_jax.objective import READINGS, Metric, Reading
from copyreg_jax.problem import ENABLE_X64, CopyrightRegression, Point, SoftmaxRegression

try:
    import hypothesis
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError as error:
    raise ImportError(
        "copyreg_jax.testing needs Hypothesis: pip install 'copyreg-jax[test]'"
    ) from error

__all__ = [
    "SHAPES",
    "assert_convex_on",
    "assert_gradient_matches",
    "assert_hessian_lipschitz",
    "assert_hessian_matches",
    "assert_hvp_matches",
    "assert_stationary",
    "assert_strongly_convex_on",
    "design_matrices",
    "instances",
    "masks",
    "points",
    "register_profiles",
    "simplex_vectors",
]

Shapes: TypeAlias = Sequence[tuple[int, int]]
Function: TypeAlias = Callable[[Any], Any]

SHAPES: Shapes = ((2, 1), (3, 5), (6, 3), (12, 4))
"""Shapes (n, d) drawn by default: d = 1, n1 = 1 or n - 1, wide, tall. Few: each is compiled."""

# A sum of m terms of one sign is off by at most m eps, and exp(u) by |u| eps more. 1e-12 is
# 4,500 eps of float64: room for m + |u| of some thousand on both sides.
RTOL = 1e-12

# The smallest of k singular values is kept to about max(n, d) eps times the largest.
MAX_CONDITION = 1e8


def register_profiles() -> None:
    """Register the Hypothesis profiles "ci" and "soak"; `hypothesis.settings` loads one.

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


def assert_gradient_matches(
    value: Function, gradient: Function, x: ArrayLike, *, rtol: float = RTOL, atol: float = 0.0
) -> None:
    """Assert that a gradient is that of automatic differentiation.

    Parameters
    ----------
    value : callable
        x -> scalar, differentiable by JAX.
    gradient : callable
        x -> (d,) array.
    x : (d,) array
        The point; ``value`` must be finite there.
    rtol, atol : float
        No entry may differ by more than ``rtol * max |entry| + atol``; see the Notes of this
        module for the choice of ``atol``.

    Raises
    ------
    AssertionError
        Names the worst entry.
    PrecisionError
        ``value`` is computed in float32 and rtol is below its eps.

    Examples
    --------
    >>> assert_gradient_matches(lambda x: x @ x, lambda x: 2 * x, [1.0, 2.0], rtol=1e-6)
    >>> assert_gradient_matches(lambda x: x @ x, lambda x: x, [1.0, 2.0], rtol=1e-6)
    Traceback (most recent call last):
    AssertionError: gradient[1] is 2.0, automatic differentiation gives 4.0; they differ by 2.0, \
allowed is 4e-06; at x = [1.0, 2.0]
    """
    x = _point(value, x, rtol)
    _assert_close("gradient", gradient(x), jax.grad(value)(x), _at(x=x), rtol, atol)


def assert_hessian_matches(
    value: Function, hessian: Function, x: ArrayLike, *, rtol: float = RTOL, atol: float = 0.0
) -> None:
    """Assert that a Hessian is that of automatic differentiation.

    Parameters
    ----------
    value, x, rtol, atol
        As in `assert_gradient_matches`.
    hessian : callable
        x -> (d, d) array.

    Raises
    ------
    AssertionError, PrecisionError
        As in `assert_gradient_matches`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> value, hessian = lambda x: x @ x, lambda x: 2 * jnp.eye(2)
    >>> assert_hessian_matches(value, hessian, [1.0, 2.0], rtol=1e-6)
    """
    x = _point(value, x, rtol)
    _assert_close("hessian", hessian(x), jax.hessian(value)(x), _at(x=x), rtol, atol)


def assert_hvp_matches(
    value: Function,
    hvp: Callable[[Any, Any], Any],
    x: ArrayLike,
    v: ArrayLike,
    *,
    rtol: float = RTOL,
    atol: float = 0.0,
) -> None:
    """Assert that a Hessian-vector product is that of forward-over-reverse differentiation.

    Parameters
    ----------
    value, x, rtol, atol
        As in `assert_gradient_matches`.
    hvp : callable
        x, v -> (d,) array.
    v : (d,) array
        The direction.

    Raises
    ------
    AssertionError, PrecisionError
        As in `assert_gradient_matches`.

    Examples
    --------
    >>> assert_hvp_matches(lambda x: x @ x, lambda x, v: 2 * v, [1.0], [3.0], rtol=1e-6)
    """
    x = _point(value, x, rtol)
    v = jnp.asarray(v, x.dtype)
    theirs = jax.jvp(jax.grad(value), (x,), (v,))[1]
    _assert_close("hvp", hvp(x, v), theirs, _at(x=x, v=v), rtol, atol)


def assert_convex_on(
    value: Function, points: Iterable[ArrayLike], *, rtol: float = RTOL, atol: float = 0.0
) -> None:
    """Assert convexity at points and between them.

    Parameters
    ----------
    value, points, rtol, atol
        As in `assert_strongly_convex_on`, of which this is the modulus 0.

    Raises
    ------
    AssertionError, InputError, PrecisionError
        As in `assert_strongly_convex_on`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> assert_convex_on(lambda x: jnp.sum(x**4), [[0.0], [1.0]], rtol=1e-6)
    >>> assert_convex_on(lambda x: jnp.sum(x**4 - 2 * x**2), [[-1.0], [1.0]], rtol=1e-6)
    Traceback (most recent call last):
    AssertionError: value is 0.0 halfway between x and y, convexity with modulus 0.0 allows -1.0; \
at x = [-1.0], y = [1.0]
    """
    assert_strongly_convex_on(value, points, 0.0, rtol=rtol, atol=atol)


def assert_strongly_convex_on(
    value: Function,
    points: Iterable[ArrayLike],
    modulus: float,
    *,
    rtol: float = RTOL,
    atol: float = 0.0,
) -> None:
    """Assert ``hess >= modulus I`` at points, and what follows from it halfway between each two.

    Parameters
    ----------
    value : callable
        x -> scalar, twice differentiable by JAX.
    points : (k, d) array or iterable of (d,) arrays
        At least one; ``value`` must be finite there. k Hessians, k^2/2 values.
    modulus : float
        m in ``value((x + y)/2) <= (value(x) + value(y))/2 - m/8 |x - y|^2``.
    rtol, atol : float
        Slack of the smallest eigenvalue, ``rtol * max |eigenvalue| + atol``, and of the inequality,
        ``rtol * max |term| + atol``. Where ``value`` is a sum of terms that cancel, or steep next
        to its size, ``atol`` must cover the rounding of value, ``64 * 2**-52`` times the largest
        of its terms and of ``|gradient| |x|``.

    Raises
    ------
    AssertionError
        Names the point or the pair.
    InputError
        No points.
    PrecisionError
        As in `assert_gradient_matches`.

    Examples
    --------
    >>> assert_strongly_convex_on(lambda x: x @ x, [[0.0, 1.0], [2.0, 3.0]], 2.0, rtol=1e-6)
    """
    at = [_point(value, x, rtol) for x in points]
    if not at:
        raise InputError("points is empty; give at least one")
    for x in at:
        # Weyl: the eigenvalues are off by at most the norm of the Hessian's rounding error.
        eigenvalues = np.linalg.eigvalsh(_hessian(value, x))
        slack = rtol * np.abs(eigenvalues).max() + atol
        if not eigenvalues[0] >= modulus - slack:
            raise AssertionError(
                f"the smallest eigenvalue of the Hessian is {eigenvalues[0]}, the modulus "
                f"{modulus}, the slack {slack:.3g}; {_at(x=x)}"
            )
    for x, y in itertools.combinations(at, 2):
        v_x, v_y, v_middle = (float(value(z)) for z in (x, y, (x + y) / 2))
        gap = modulus / 8 * float(np.sum((_host(x) - _host(y)) ** 2))
        bound = (v_x + v_y) / 2 - gap
        slack = rtol * max(abs(v_x), abs(v_y), abs(gap)) + atol
        if not v_middle <= bound + slack:
            raise AssertionError(
                f"value is {v_middle} halfway between x and y, convexity with modulus {modulus} "
                f"allows {bound}; {_at(x=x, y=y)}"
            )


def assert_hessian_lipschitz(
    value: Function,
    x: ArrayLike,
    y: ArrayLike,
    constant: float,
    *,
    rtol: float = RTOL,
    atol: float = 0.0,
) -> None:
    """Assert ``||H(x) - H(y)||_2 <= constant * ||x - y||`` for the Hessians at two points.

    Parameters
    ----------
    value : callable
        x -> scalar, twice differentiable by JAX.
    x, y : (d,) arrays
        Far enough apart that the Hessians differ by more than their rounding.
    constant : float
        The constant to be tested.
    rtol, atol : float
        Slack ``rtol * (||H(x)||_2 + ||H(y)||_2) + atol``: the difference cancels, so its rounding
        is relative to the Hessians.

    Raises
    ------
    AssertionError
        Gives the ratio reached.
    PrecisionError
        As in `assert_gradient_matches`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> assert_hessian_lipschitz(lambda x: jnp.sum(x**3), [0.0], [2.0], 6.0, rtol=1e-6)
    """
    x, y = _point(value, x, rtol), _point(value, y, rtol)
    H_x, H_y = _hessian(value, x), _hessian(value, y)
    change, norm_x, norm_y = (np.linalg.norm(H, 2) for H in (H_x - H_y, H_x, H_y))
    distance = np.linalg.norm(_host(x) - _host(y))
    slack = rtol * (norm_x + norm_y) + atol
    if not change <= constant * distance + slack:
        raise AssertionError(
            f"the Hessian changes by {change} over a distance of {distance}, more than "
            f"{constant} times that, the slack {slack:.3g}; {_at(x=x, y=y)}"
        )


def assert_stationary(value: Function, x: ArrayLike, *, atol: float) -> None:
    """Assert that the Euclidean norm of the gradient at x is at most atol.

    Parameters
    ----------
    value : callable
        x -> scalar, differentiable by JAX.
    x : (d,) array
        The point.
    atol : float
        A solver's tolerance, or more; not below the rounding of the gradient's own terms.

    Raises
    ------
    AssertionError
        Names the worst entry.

    Examples
    --------
    >>> assert_stationary(lambda x: (x - 1) @ (x - 1), [1.0, 1.0], atol=1e-6)
    """
    x = _point(value, x)
    gradient = _finite("gradient", jax.grad(value)(x), _at(x=x))
    norm = np.linalg.norm(gradient)
    if not norm <= atol:
        worst = int(np.abs(gradient).argmax())
        raise AssertionError(
            f"the gradient has norm {norm}, allowed is {atol:.3g}; its largest entry is "
            f"gradient[{worst}] = {gradient[worst]}; {_at(x=x)}"
        )


def _point(value: Function, x: ArrayLike, rtol: float = 0.0) -> Point:
    """The point as a JAX array; `PrecisionError` where value has fewer digits than rtol asks."""
    x = jnp.asarray(x)
    x = x.astype(jnp.result_type(x, float))
    dtype = jax.eval_shape(value, x).dtype
    if 0 < rtol < jnp.finfo(dtype).eps:
        raise PrecisionError(
            f"value is computed in {dtype}, which can't tell rtol = {rtol:g}; "
            f"put {ENABLE_X64} before the first use of JAX, or raise rtol"
        )
    return x


def _host(array: ArrayLike) -> np.ndarray:
    return np.asarray(array, np.float64)


def _at(**arrays: Any) -> str:
    """Where a property failed, in all digits."""
    return "at " + ", ".join(f"{name} = {_host(array).tolist()}" for name, array in arrays.items())


def _finite(name: str, array: ArrayLike, where: str) -> np.ndarray:
    """The array in float64 on the host; `AssertionError` for an entry that is not finite."""
    host = _host(array)
    for index in np.argwhere(~np.isfinite(host)):
        raise AssertionError(f"{name}{index.tolist()} is {host[tuple(index)]}; {where}")
    return host


def _hessian(value: Function, x: Point) -> np.ndarray:
    H = _finite("automatic hessian", jax.hessian(value)(x), _at(x=x))
    return (H + H.T) / 2


def _assert_close(
    name: str, mine: ArrayLike, theirs: ArrayLike, where: str, rtol: float, atol: float
) -> None:
    mine, theirs = _finite(name, mine, where), _finite(f"automatic {name}", theirs, where)
    if mine.shape != theirs.shape:
        raise AssertionError(f"{name} has shape {mine.shape}; it should have {theirs.shape}")
    error = np.abs(mine - theirs)
    allowed = rtol * np.abs(theirs).max() + atol
    if not np.all(error <= allowed):
        worst = np.unravel_index(error.argmax(), error.shape)
        raise AssertionError(
            f"{name}{[int(i) for i in worst]} is {mine[worst]}, automatic differentiation gives "
            f"{theirs[worst]}; they differ by {error[worst]}, allowed is {allowed:.3g}; {where}"
        )
