"""Ready properties: derivatives that agree, convexity, bounds of the curvature."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from copyreg_jax.errors import ENABLE_X64, InputError, PrecisionError
from copyreg_jax.problems.objective import Point

__all__ = [
    "RTOL",
    "Function",
    "assert_convex_on",
    "assert_gradient_matches",
    "assert_hessian_lipschitz",
    "assert_hessian_matches",
    "assert_hvp_matches",
    "assert_stationary",
    "assert_strongly_convex_on",
]

Function: TypeAlias = Callable[[Any], Any]

# A sum of m terms of one sign is off by at most m eps, and exp(u) by |u| eps more. 1e-12 is
# 4,500 eps of float64: room for m + |u| of some thousand on both sides.
RTOL = 1e-12


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
