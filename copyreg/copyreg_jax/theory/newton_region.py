"""The ball around a minimizer in which Newton's method is proved to converge."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from copyreg_jax.problems.softmax_regression import SoftmaxRegression, check_squared
from copyreg_jax.theory.constants import (
    QUIET,
    largest_weight,
    spread,
    third_derivative_bound,
    third_derivative_formula,
)
from copyreg_jax.theory.regions_of_convexity import float64_point, floor_around, hessian_at
from copyreg_jax.theory.spectra import extreme_singular_values

__all__ = ["NewtonRegion", "newton_region"]


class NewtonRegion(NamedTuple):
    """Where Newton's method is proved to converge quadratically.

    Attributes
    ----------
    radius : float
        Every start within this distance of x converges to the minimizer x*; 0 if nothing is
        proved.
    minimizer_within : float
        Bound of ``||x - x*||``; infinite if nothing is proved.
    modulus, lipschitz : float
        ``hess L(x*) >= modulus I`` and the Lipschitz constant M behind the radius; the errors
        obey ``r' <= M r^2 / (2 (modulus - M r))``. If nothing is proved, the smallest eigenvalue at
        x (from below) and infinity.
    printed_log_radius : float
        Logarithm of the radius ``0.1 l / (n^1.5 exp(60 R^2))`` of Theorem 15 with l = modulus.
    """

    radius: float
    minimizer_within: float
    modulus: float
    lipschitz: float
    printed_log_radius: float


@QUIET
def newton_region(problem: SoftmaxRegression, x: ArrayLike) -> NewtonRegion:
    """The proved region of quadratic convergence around a near-stationary point (Theorem 15).

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
    x : (d,) array
        Close to a minimizer: `Solution.x`.

    Returns
    -------
    NewtonRegion
        ``radius = min(2 mu* / (3 M), rho - delta) - delta``: delta bounds the distance to x*
        (Newton and Kantorovich), M is valid within rho of x, and rho is chosen best. The printed
        radius takes R = max(10, ||A||, ||x||).

    Raises
    ------
    InputError
        x has the wrong shape or is not finite, or L is infinite there.
    PrecisionError
        The problem is not in float64.

    Notes
    -----
    Proof: docs/theory/constants.md. Cost O(n d^2 + d^3).

    Examples
    --------
    >>> import jax, numpy as np
    >>> import copyreg_jax as cr
    >>> jax.config.update("jax_enable_x64", True)
    >>> problem = cr.CopyrightRegression(np.eye(4), [0.4, 0.3, 0.2, 0.1], 2, gamma=0.1)
    >>> region = newton_region(problem, cr.solve(problem).x)
    >>> region.radius > 1e-3, region.printed_log_radius < -6000
    (True, True)
    >>> jax.config.update("jax_enable_x64", False)
    """
    check_squared(problem, "the region of Theorem 15")
    x = float64_point(problem, x, "x")
    gamma, R = float(problem.gamma), np.float64(spread(problem))
    mu, gradient = hessian_at(problem, x)
    nothing = NewtonRegion(0.0, math.inf, mu, math.inf, -math.inf)
    if mu <= 0:
        return nothing
    if R == 0:  # all rows are equal: L is a constant plus L_reg
        found = NewtonRegion(math.inf, 2 * gradient / mu, mu, 0.0, 0.0)
    else:
        # Any rho gives a valid region: its M holds within rho of x. With gamma there is no floor
        # of ell_1 beyond the last one; without, no radius exceeds mu / M.
        root = math.sqrt(floor_around(problem, x, 0.0))
        plain = float(R**3 * third_derivative_bound(problem.b, 0.0, 1.0))
        furthest = math.sqrt(8) * root / R if gamma else mu / plain
        rho = furthest * np.geomspace(1e-6, 1, 600)[:-1]
        floor = np.maximum(root - R * rho / math.sqrt(8), 0) ** 2 if gamma else np.ones_like(rho)
        M = R**3 * third_derivative_formula(largest_weight(problem.b), gamma, floor)
        discriminant = mu**2 - 2 * M * gradient
        delta = 2 * gradient / (mu + np.sqrt(np.maximum(discriminant, 0)))
        modulus = mu - M * delta
        radius = np.minimum(2 * modulus / (3 * M), rho - delta) - delta
        radius = np.where((discriminant >= 0) & np.isfinite(M), radius, -math.inf)
        best = int(np.argmax(radius))
        if not radius[best] > 0:
            return nothing
        found = NewtonRegion(
            float(radius[best]), float(delta[best]), float(modulus[best]), float(M[best]), 0.0
        )
    _, norm = extreme_singular_values(problem.A)
    largest = max(10.0, norm, float(np.linalg.norm(np.asarray(x))))
    log_M = 1.5 * math.log(problem.n) + 60 * float(np.float64(largest) ** 2)
    return found._replace(printed_log_radius=math.log(0.1 * found.modulus) - log_M)
