"""The statements that the audit tests, each as a measure of one instance that has a limit.

The table is `CLAIMS`, what the paper prints, and `REPLACEMENTS`, what replaces it; Theorem 16 is
about a global minimizer and has a test of its own in `copyreg_jax.theory.search`. A measure takes a
`Sample`, under ``jax.jit`` and ``jax.vmap``, and is differentiated by the search.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from copyreg_jax.matrices import column_maxima
from copyreg_jax.problems import curvature, objective
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.objective import Terms
from copyreg_jax.theory import constants, regions_of_convexity, statements
from copyreg_jax.theory.branch_and_bound import EXTREMES

__all__ = ["CLAIMS", "EQUAL", "REPLACEMENTS", "Claim", "Sample", "with_reading"]

EQUAL = 1e-12
"""Largest ``_error`` of two float64 results for the same derivative."""

_ROUNDING = 64 * 2.0**-52
"""What rounding may do to a sum, relative to its terms: they are small sums of products."""


class Sample(NamedTuple):
    """What a measure looks at: an instance, a point, and directions to choose freely.

    Attributes
    ----------
    problem : CopyrightRegression
        Under the joint reading; A is (n, d).
    x, y : (d,) arrays
        A point and a direction.
    v : (n,) array
        A direction in the space of logits.
    s : () array
        A number in (0, 1).
    """

    problem: CopyrightRegression
    x: Any
    y: Any
    v: Any
    s: Any


class Claim(NamedTuple):
    """A statement that holds if its measure never exceeds its limit.

    Attributes
    ----------
    where : str
        Number of the statement in the paper, or "ours" for what replaces one.
    says : str
        The statement in a few words.
    reading : str
        The reading of Definition 5, or "any".
    measure : callable
        `Sample` -> ().
    limit : float
        A larger measure is a violation.
    scale : str
        What the measure is: "ratio", actual / bound; "log10" of such a ratio; "error", relative to
        the larger of the right value and 0.014 times its terms (see ``_error``); "excess", a
        difference over what is allowed; "distance", log10 of one that is said to be enough.
    is_climbed : bool
        Whether to climb on the measure, or only to draw: identities need no climbing.
    shapes : tuple
        (n, d) to try, smallest first; the search stops at the first violation.
    target : str
        "simplex" or "ball": where b is drawn from.
    slug : str
        Name of the counterexample's file; made from the claim if not given.
    instance : callable
        `Sample` -> the instance to store: its problem, or what the measure makes of it.
    """

    where: str
    says: str
    reading: str
    measure: Callable[[Sample], Any]
    limit: float = 1.0
    scale: str = "ratio"
    shapes: tuple[tuple[int, int], ...] = ((4, 4),)
    target: str = "simplex"
    is_climbed: bool = True
    slug: str = ""
    instance: Callable[[Sample], CopyrightRegression] = lambda sample: sample.problem


def _error(found: Any, right: Any, terms: Any) -> Any:
    """Relative error; where the terms cancel, relative to what their rounding errors allow."""
    scale = jnp.max(jnp.abs(right)) + _ROUNDING / EQUAL * terms
    return jnp.max(jnp.abs(found - right)) / scale


def with_reading(problem: CopyrightRegression, reading: Any) -> CopyrightRegression:
    """The same problem under another reading; "any" leaves it as it is."""
    return problem if reading == "any" else problem.replace(reading=reading)


def _log_hessian(problem: CopyrightRegression, u: Any) -> Any:
    """``hess_u L_copyright``: the closed form, which compiles in a third of the time."""
    at = curvature.curvature(u, _without_regularization(problem.terms))
    return jax.vmap(lambda z: curvature.hvp(at, z))(jnp.eye(problem.n))


def _without_regularization(terms: Terms) -> Terms:
    return dataclasses.replace(terms, w=jnp.zeros_like(terms.gamma))


def _smallest(H: Any) -> Any:
    return jnp.linalg.eigvalsh(H)[0]


def _two_values(reading: Any, sample: Sample) -> Any:
    del reading
    joint, block = (with_reading(sample.problem, r).ell_1(sample.x) for r in objective.READINGS)
    return jnp.abs(joint - block) / (joint + block)


def _negative_ell_2(reading: Any, sample: Sample) -> Any:
    problem = with_reading(sample.problem, reading)
    return -problem.ell_2(sample.x) / (problem.ell(sample.x) + problem.ell_1(sample.x))


def _gradient_error(form: Any, reading: Any, sample: Sample) -> Any:
    problem, x = with_reading(sample.problem, reading), sample.x
    found = statements.lemma_10(problem, x, form=form)
    fit, protection, _ = _term_sizes(problem, x)
    terms = fit + protection + jnp.max(jnp.abs(problem.w**2 * problem.logits(x)))
    right = jax.grad(problem.value)(x)
    return _error(found, right, problem.n * jnp.max(column_maxima(problem.A)) * terms)


def _b_error(form: Any, sample: Sample) -> Any:
    problem = sample.problem
    right = jax.hessian(lambda u: 0.5 * objective.ell(u, problem.b))(problem.logits(sample.x))
    found = statements.definition_11(problem, sample.x, form=form).B
    return _error(found, right, _term_sizes(problem, sample.x)[0])


def _hessian_error(form: Any, b_form: Any, reading: Any, sample: Sample) -> Any:
    problem, x = with_reading(sample.problem, reading), sample.x
    found = statements.lemma_12(problem, x, form=form, definition_11_form=b_form)
    terms = sum(_term_sizes(problem, x)) + jnp.max(problem.w**2)
    right = jax.hessian(problem.value)(x)
    return _error(found, right, (problem.n * jnp.max(column_maxima(problem.A))) ** 2 * terms)


def _term_sizes(problem: CopyrightRegression, x: Any) -> tuple[Any, Any, Any]:
    """Sizes of the terms that B, B_c and the rank-one term are sums of."""
    u, b, mask, reading = problem.logits(x), problem.b, problem.protected, problem.reading
    f, f_1 = objective.f(u), objective.f_1(u, mask, reading)
    e = objective.ell_1(u, b, mask, reading)
    slope = 2 * problem.gamma / e**2
    inner = jnp.max(f_1 * (f_1 + jnp.abs(b)))
    return jnp.max(f * (f + jnp.abs(b))), slope * inner, 4 * slope / e * inner**2


def _curvature_over_printed(reading: Any, sample: Sample) -> Any:
    """Negative curvature of L_copyright over what Lemma 13's condition leaves for it."""
    problem = with_reading(sample.problem, reading)
    e = jnp.minimum(problem.ell_1(sample.x), 1)
    needed = -_smallest(_log_hessian(problem, problem.logits(sample.x)))
    return needed / (8 + 200 * problem.gamma / e**3)


def _concavity(sample: Sample) -> Any:
    """Negative curvature of L whose w meets Lemma 13's condition at gamma = 1/2, l = 1."""
    lam = jnp.linalg.eigvalsh(_with_lemma_13(sample).hessian(sample.x))
    # Where w is not finite enough to meet the condition, nothing is said.
    is_met = _smallest(sample.problem.A.T @ sample.problem.A) > 1e-6
    return jnp.where(is_met, -lam[0] / jnp.max(jnp.abs(lam)), jnp.nan)


def _with_lemma_13(sample: Sample) -> CopyrightRegression:
    """The instance with a w that meets the condition of Lemma 13, and a bit more."""
    problem = sample.problem
    gram = problem.A.T @ problem.A
    squared = 8 + 1600 * problem.gamma + 1 / jnp.maximum(_smallest(gram), 1e-6)
    return problem.replace(w=1.001 * jnp.sqrt(squared))


def _lemma_14(reading: Any, sample: Sample) -> Any:
    """log10 of actual / printed; R is as small as the instance allows."""
    problem = with_reading(sample.problem, reading)
    direction = sample.y / jnp.linalg.norm(sample.y)
    _, change = jax.jvp(problem.hessian, (sample.x,), (direction,))
    R = jnp.maximum(4, jnp.maximum(jnp.linalg.norm(problem.A), jnp.linalg.norm(sample.x)))
    e = jnp.minimum(problem.ell_1(sample.x), 1)
    printed = jnp.log(13344 * problem.gamma + 2) - 4 * jnp.log(e) + 2 * jnp.log(10.0)
    printed = printed + 1.5 * jnp.log(1.0 * problem.n) + 40 * R**2
    actual = jnp.log(jnp.linalg.norm(change))
    return (actual - printed) / jnp.log(10.0)


def _theorem_15(reading: Any, sample: Sample) -> Any:
    """log10 of the start distance that is allowed, with l = lambda_min(hess L(x))."""
    problem = with_reading(sample.problem, reading)
    modulus = jnp.maximum(_smallest(problem.hessian(sample.x)), 1e-300)
    R = jnp.maximum(10, jnp.maximum(jnp.linalg.norm(problem.A), jnp.linalg.norm(sample.x)))
    log_M = 1.5 * jnp.log(1.0 * problem.n) + 60 * R**2
    return (jnp.log(0.1 * modulus) - log_M) / jnp.log(10.0)


def _curvature(side: str, target: str, sample: Sample) -> Any:
    """Curvature of phi_1 or of phi_m, with the protected mask m, over the proved constant."""
    problem = sample.problem
    name = f"{side} curvature, " + ("|b| <= 1" if target == "ball" else "b on the simplex")
    mask = problem.protected | (sample.s > 0.5)
    f = problem.f(sample.x)
    lam = jnp.linalg.eigvalsh(statements.b_matrix(f, problem.b, mask.astype(f.dtype), "corrected"))
    return (-lam[0] if side == "lower" else lam[-1]) / EXTREMES[name].constant


def _second_derivative(sample: Sample) -> Any:
    f, v = sample.problem.f(sample.x), sample.v / jnp.linalg.norm(sample.v)
    centered = v - f @ v
    total = jnp.sum(jnp.abs(f * (centered**2 - f @ centered**2)))
    return total / curvature.MAX_SECOND_DERIVATIVE


def _simplex_range() -> constants.CurvatureRange:
    return constants.curvature_range(np.array([0.0, 1.0]))


def _needed_over_usable(reading: Any, sample: Sample) -> Any:
    """Negative curvature of L_copyright over what the usable threshold leaves for it."""
    problem = with_reading(sample.problem, reading)
    usable = constants.negative_curvature(*_simplex_range(), problem.gamma, problem.ell_1(sample.x))
    return -_smallest(_log_hessian(problem, problem.logits(sample.x))) / usable


def _sublevel(reading: Any, sample: Sample) -> Any:
    """The same where only ``L <= value`` is known, as in `strong_convexity`."""
    problem = with_reading(sample.problem, reading)
    value = problem.l_copyright(sample.x)
    least, upper = _simplex_range()
    lower = jnp.maximum(least, regions_of_convexity.sublevel_curvature(value))
    floor = regions_of_convexity.loss_floor_formula(problem.reading, problem.gamma, value)
    usable = constants.negative_curvature(lower, upper, problem.gamma, floor)
    return -_smallest(_log_hessian(problem, problem.logits(sample.x))) / usable


def _third(target: str, reading: Any, sample: Sample) -> Any:
    """Third derivative of L_copyright along v, of spread one, over its bound."""
    problem = with_reading(sample.problem, reading)
    u, v = problem.logits(sample.x), sample.v / (jnp.max(sample.v) - jnp.min(sample.v))

    def second(u: Any) -> Any:
        at = curvature.curvature(u, _without_regularization(problem.terms))
        return curvature.hvp(at, v) @ v

    actual = jnp.abs(jax.jvp(second, (u,), (v,))[1])
    size = 1.0 if target == "simplex" else math.sqrt(2) * jnp.linalg.norm(problem.b)
    e = problem.ell_1(sample.x)
    return actual / constants.third_derivative_formula(size, problem.gamma, e)


def _upper(reading: Any, sample: Sample) -> Any:
    problem = with_reading(sample.problem, reading)
    value = problem.l_copyright(sample.x)
    bound = curvature.upper_bound(value, problem.terms)
    return jnp.linalg.eigvalsh(_log_hessian(problem, problem.logits(sample.x)))[-1] / bound


def _tau(reading: Any, sample: Sample) -> Any:
    """tau(L0) over the margin, both raised by 2 L0/n2 to be positive; L0 is above L(x)."""
    problem = with_reading(sample.problem, reading)
    n, n1 = problem.n, jnp.sum(problem.protected.astype(problem.dtype))
    n2, gamma = n - n1, problem.gamma
    e, ell_2 = problem.ell_1(sample.x), problem.ell_2(sample.x)
    value = problem.value(sample.x) * (1 + 0.5 * sample.s)
    low = regions_of_convexity.loss_floor_formula(problem.reading, gamma, value)
    high = 2 * gamma / low if problem.reading == "joint" else jnp.inf
    t = jnp.clip(jnp.sqrt(2 * gamma * n1 / n), low, high)
    raised_tau = n * t / (n1 * n2) + 2 * gamma / (n2 * t)
    return raised_tau / (e / n1 - ell_2 / n2 + 2 * value / n2)


def _cross_entropy_tau(sample: Sample) -> Any:
    """The same for cross-entropy: CE_1, CE_2, gamma are drawn, the share is s."""
    first, second = jnp.exp(2 * sample.x[0]), jnp.exp(2 * sample.x[1])
    gamma, p = jnp.exp(2 * sample.y[0]), 0.01 + 0.98 * sample.s
    value = (p * first + (1 - p) * second + gamma / first) * (1 + jnp.abs(sample.v[0]))
    high = (value + jnp.sqrt(jnp.maximum(value**2 - 4 * p * gamma, 0))) / (2 * p)
    t = jnp.clip(jnp.sqrt(gamma), gamma / (p * high), high)
    return (t + gamma / t) / ((first - second) * (1 - p) + value)


def _newton_step(reading: Any, sample: Sample) -> Any:
    """Error of one Newton step over ``M r^2 / (2 (mu - M r))``, tilted so that x is stationary."""
    problem = with_reading(sample.problem, reading)
    e, x = problem.ell_1(sample.x), sample.x
    R = math.sqrt(2) * jnp.linalg.norm(problem.A)
    # The distance r below leaves at least half of sqrt(ell_1).
    M = R**3 * constants.third_derivative_formula(1.0, problem.gamma, e / 4)
    H = problem.hessian(x)
    mu = jnp.maximum(_smallest(H), 1e-12)
    r = jnp.minimum(0.9 * sample.s * mu / M, math.sqrt(2) * jnp.sqrt(e) / R)
    y = x + r * sample.y / jnp.linalg.norm(sample.y)
    step = jnp.linalg.solve(problem.hessian(y), problem.gradient(y) - problem.gradient(x))
    bound = M * r**2 / (2 * (mu - M * r))
    return jnp.where(r > 1e-6, jnp.linalg.norm(y - x - step) / bound, 0)


def _claims() -> tuple[tuple[Claim, ...], tuple[Claim, ...]]:
    """The table, in the paper's order, then what replaces what fails."""
    part = functools.partial
    small = ((2, 1), (3, 1), (3, 2))
    usual = ((5, 3),)

    def identity(
        where: str, says: str, measure: Any, *free: Any, shapes: Any, slug: str = ""
    ) -> Any:
        reading = free[-1] if free[-1] in objective.READINGS else "any"
        return Claim(where, says, reading, part(measure, *free), EQUAL, "error", shapes,
                     is_climbed=False, slug=slug)  # fmt: skip

    printed = [
        identity("Definition 5", "f_1 has one meaning", _two_values, "any",
                 shapes=small, slug="definition-5"),
        Claim("Definition 7", "ell_2 >= 0", "joint", part(_negative_ell_2, "joint"), 0.0, "excess",
              usual),
        Claim("Definition 7", "ell_2 >= 0", "block", part(_negative_ell_2, "block"), 0.0, "excess",
              small, slug="definition-7"),
        identity("Lemma 10", "the gradient of L", _gradient_error, "printed", "joint",
                 shapes=small, slug="lemma-10"),
        identity("Lemma 10", "the gradient of L", _gradient_error, "printed", "block",
                 shapes=usual),
        identity("Definition 11", "B is the Hessian of ell / 2", _b_error, "printed",
                 shapes=small, slug="definition-11"),
        *(identity("Lemma 12", "the Hessian of L", _hessian_error, "printed", "printed", r,
                   shapes=small, slug=f"lemma-12-{r}") for r in objective.READINGS),
        identity("Lemma 12", "the same, with the right B", _hessian_error, "printed", "corrected",
                 "block", shapes=small, slug="lemma-12-factor"),
        *(Claim("Lemma 13", "hess L >= l where ell_1 >= gamma", r,
                part(_curvature_over_printed, r), shapes=usual) for r in objective.READINGS),
        Claim("Lemma 13", "so L is convex", "joint", _concavity, 1e-6, "excess", small,
              slug="lemma-13-convex", instance=_with_lemma_13),
        *(Claim("Lemma 14", "hess L is Lipschitz", r, part(_lemma_14, r), 0.0, "log10", usual)
          for r in objective.READINGS),
        Claim("Theorem 15", "its start is near enough", "joint", part(_theorem_15, "joint"),
              math.inf, "distance", usual),
    ]  # fmt: skip
    ours = [
        *(identity("Lemma 10", "gradient, corrected", _gradient_error, "corrected", r,
                   shapes=usual) for r in objective.READINGS),
        identity("Definition 11", "B, corrected", _b_error, "corrected", shapes=usual),
        *(identity("Lemma 12", "Hessian, corrected", _hessian_error, "corrected", "corrected", r,
                   shapes=usual) for r in objective.READINGS),
        *(Claim("constant", f"{side} curvature, {target}", "any", part(_curvature, side, target),
                target=target)
          for side in ("lower", "upper") for target in ("simplex", "ball")),
        Claim("constant", "sum |f''|", "any", _second_derivative),
        *(Claim("Lemma 13", "usable threshold", r, part(_needed_over_usable, r))
          for r in objective.READINGS),
        *(Claim("Lemma 13", "usable, from a value of L", r, part(_sublevel, r))
          for r in objective.READINGS),
        *(Claim("Lemma 14", f"usable Lipschitz, {target}", r, part(_third, target, r),
                target=target)
          for r in objective.READINGS for target in ("simplex", "ball")),
        *(Claim("Theorem 15", "Newton step, usable M", r, part(_newton_step, r), shapes=((4, 2),))
          for r in objective.READINGS),
        *(Claim("Theorem 16", "level-set tau", r, part(_tau, r), shapes=usual)
          for r in objective.READINGS),
        Claim("Theorem 16", "level-set tau, cross-entropy", "any", _cross_entropy_tau,
              shapes=((2, 2),)),
        *(Claim("gradient step", "upper bound from a value of L", r, part(_upper, r))
          for r in objective.READINGS),
    ]  # fmt: skip
    return tuple(printed), tuple(ours)


CLAIMS, REPLACEMENTS = _claims()
"""What the paper prints, and what replaces it. Theorem 16 itself is tested in `theorem_16`."""
