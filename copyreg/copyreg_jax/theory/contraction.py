"""What a sampled Hessian promises: rows needed, and the rate of the steps."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from copyreg_jax.errors import InputError
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.row_sampling import SHARE
from copyreg_jax.solvers.sketched_newton import SketchedNewton, check_accuracy, is_integer
from copyreg_jax.theory.newton_region import newton_region
from copyreg_jax.theory.statements import Form, check_form

__all__ = ["Contraction", "contraction", "promised_rows", "shrinking_lemma"]


def promised_rows(d: int, accuracy: float, failure_probability: float = 0.01) -> int:
    """Number of rows for which the accuracy is proved, up to the failure probability.

    ``(2 d / (s e^2)) (1 + 2 e / 3) log(2 d / failure)`` by the matrix Bernstein inequality, if no
    row is drawn with less than s = 1/5 of its leverage score. The error is relative to the Hessian
    with all its weights made positive; where some are negative, divide e by their ratio.

    Raises
    ------
    InputError
        A number is out of range.

    Examples
    --------
    >>> promised_rows(64, 0.5), SketchedNewton(accuracy=0.5).rows(64)
    (32281, 1536)
    """
    if not (is_integer(d) and d >= 1):
        raise InputError(f"d is {d!r}; give an integer >= 1")
    check_accuracy(accuracy)
    if not 0 < failure_probability < 1:
        raise InputError(f"failure_probability is {failure_probability!r}; give one in (0, 1)")
    spread = 2 * d / (SHARE * accuracy**2) * (1 + 2 * accuracy / 3)
    return math.ceil(spread * math.log(2 * d / failure_probability))


def shrinking_lemma(
    distance: float,
    modulus: float,
    lipschitz: float,
    *,
    hessian_error: float = 0.01,
    condition: float = 1.0,
    form: Form = "corrected",
) -> float:
    """Bound of the distance to x* after one approximate Newton step from distance r.

    The step is ``-H~^-1 grad L`` with ``(1 - e) H <= H~ <= (1 + e) H``. Printed (the lemma behind
    Theorem 15): ``2 (e + M r / (l - M r)) r``. Defect: the first term is right in the norm of H,
    but in the Euclidean norm it may be larger by the root of H's condition number. Corrected::

        (sqrt(condition) e / (1 - e) + M r / (2 (1 - e) (l - M r))) r

    Parameters
    ----------
    distance, modulus, lipschitz : float
        r = ``||x - x*||``, l and M, with ``M r < l``.
    hessian_error : float
        e in [0, 1); zero for Newton's method itself.
    condition : float
        Condition number of ``H = hess L(x)``, >= 1.
    form : {"printed", "corrected"}

    Raises
    ------
    InputError
        The hypothesis ``M r < l`` or a range is not met.

    Examples
    --------
    >>> round(shrinking_lemma(0.1, 1.0, 1.0, hessian_error=0.0), 5)
    0.00556
    """
    check_form(form)
    if not (0 <= lipschitz * distance < modulus and 0 <= hessian_error < 1 <= condition):
        raise InputError(
            f"M r = {lipschitz * distance:.6g}, l = {modulus}, e = {hessian_error}, condition = "
            f"{condition}; the lemma supposes M r < l, 0 <= e < 1 and condition >= 1"
        )
    share = lipschitz * distance / (modulus - lipschitz * distance)
    if form == "printed":
        return 2 * (hessian_error + share) * distance
    first = condition**0.5 * hessian_error / (1 - hessian_error)
    return (first + share / (2 * (1 - hessian_error))) * distance


class Contraction(NamedTuple):
    """How much one full step shrinks the distance to x*, and what is promised of that.

    Attributes
    ----------
    observed, observed_in_hessian_norm : float
        ``||x+ - x*|| / ||x - x*||``, Euclidean and in the norm of ``H = hess L(x)``.
    promised, promised_in_hessian_norm : float
        Bounds of them by the corrected shrinking lemma; infinite where its hypotheses are not
        proved. The printed one has the first term of the second in the place of the first.
    printed : float
        What the lemma prints, with the usable Lipschitz constant; infinite likewise.
    hessian_error : float
        The smallest e with ``(1 - e) H <= H~ <= (1 + e) H``, measured; infinite if H is not
        positive definite.
    distance : float
        ``||x - x*||``.
    """

    observed: float
    observed_in_hessian_norm: float
    promised: float
    promised_in_hessian_norm: float
    printed: float
    hessian_error: float
    distance: float


def contraction(
    problem: SoftmaxRegression,
    solver: SketchedNewton,
    x: ArrayLike,
    x_star: ArrayLike,
    step: int = 0,
) -> Contraction:
    """One full step ``x - H~^-1 grad L(x)`` of the solver, measured against the shrinking lemma.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
        With the squared distance, in float64.
    solver : SketchedNewton
    x, x_star : (d,) arrays
        The point to step from, and the minimizer, known far better than x.
    step : int, default 0
        Number of the step, which the sample depends on.

    Returns
    -------
    Contraction

    Raises
    ------
    InputError, PrecisionError
        Raised by `copyreg_jax.theory.newton_region.newton_region`, whose modulus l and Lipschitz
        constant M the promise takes; x is x_star.

    Notes
    -----
    `shrinking_lemma` with the measured e. Cost O(n d^2 + d^3).

    Examples
    --------
    >>> import jax, numpy as np, copyreg_jax as cr
    >>> jax.config.update("jax_enable_x64", True)
    >>> A = np.random.default_rng(0).normal(size=(300, 2))
    >>> problem = cr.SoftmaxRegression(A, np.eye(300)[0])
    >>> x_star = np.asarray(cr.solve(problem).x)
    >>> found = contraction(problem, SketchedNewton(), x_star + 1e-6, x_star)
    >>> found.observed <= found.promised, found.hessian_error < 1
    (True, True)
    >>> jax.config.update("jax_enable_x64", False)
    """
    x, x_star = np.asarray(problem.point(x)), np.asarray(problem.point(x_star, "x_star"))
    distance = float(np.linalg.norm(x - x_star))
    if distance == 0:
        raise InputError("x is x_star; give a point from which there is a way to go")
    region = newton_region(problem, x_star)
    H = np.asarray(problem.hessian(x))
    near = np.asarray(solver.hessian(problem, x, step))
    after = x - np.linalg.solve(near, np.asarray(problem.gradient(x))) - x_star
    before = x - x_star

    lam, Q = np.linalg.eigh(H)
    if lam[0] <= 0:
        return Contraction(
            float(np.linalg.norm(after)) / distance, *(math.inf,) * 5, distance=distance
        )
    root = (Q * np.sqrt(lam)).T  # its Gram matrix is H
    whitened = (Q / np.sqrt(lam)).T @ (near - H) @ (Q / np.sqrt(lam))
    error = float(np.abs(np.linalg.eigvalsh(whitened)).max())

    def promise(**arguments: Any) -> float:
        if not (distance + region.minimizer_within <= region.radius and error < 1):
            return math.inf
        constants = distance, region.modulus, region.lipschitz
        return shrinking_lemma(*constants, hessian_error=error, **arguments) / distance

    return Contraction(
        observed=float(np.linalg.norm(after)) / distance,
        observed_in_hessian_norm=float(
            np.linalg.norm(root @ after) / np.linalg.norm(root @ before)
        ),
        promised=promise(condition=float(lam[-1] / lam[0])),
        promised_in_hessian_norm=promise(condition=1.0),
        printed=promise(form="printed"),
        hessian_error=error,
        distance=distance,
    )
