"""Theorem 16: the instances that refute its weakest form."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb, ctx

from copyreg_jax.certificates.to_instance import to_instance
from copyreg_jax.checker import proofs, theorems
from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS, Balls, upper
from copyreg_jax.checker.data import Instance
from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.theory.counterexample import Counterexample
from copyreg_jax.theory.search_results import Row

__all__ = ["EPS_2", "refute_theorem_16", "theorem_16"]

# Theorem 16: a statement about the global minimizer, so one that is proved or refuted, not sampled.

_GRID = 801

EPS_2 = 0.1
"""The weakest form of Theorem 16: its eps_2 is "a scalar in (0, 0.1)", and ell_2(x*) <= eps_2."""


@functools.partial(jax.jit, static_argnums=0)
def _losses_at_minimum(
    reading: Any, A: Any, b: Any, mask: Any, gamma: Any, w: Any
) -> tuple[Any, Any, Any]:
    """ell_1, ell_2 and x at the best of a grid that spans every x with a smaller L, for d = 1."""

    def one(A: Any, b: Any, mask: Any, gamma: Any, w: Any) -> tuple[Any, Any, Any]:
        problem = CopyrightRegression(A, b, mask, gamma, w, reading)
        near = jnp.linspace(-3, 3, _GRID)
        start = jnp.min(jax.vmap(lambda x: problem.value(x[None]))(near))
        furthest = jnp.sqrt(2 * start) / jnp.linalg.norm(problem.w * A[:, 0])
        grid = jnp.linspace(-1, 1, _GRID) * furthest
        x = grid[jnp.argmin(jax.vmap(lambda x: problem.value(x[None]))(grid))][None]
        return problem.ell_1(x), problem.ell_2(x), x

    return jax.vmap(one)(A, b, mask, gamma, w)


def theorem_16(reading: Any, seed: Any, num_random: int) -> Row:
    """Draw instances of one column, and prove that the theorem fails for one of the worst.

    At least three rows: with two and a b that sums to one, ell_1 = ell_2 and there is no margin.
    The family is narrow on purpose: all rows but one protected and b near uniform make ell_2 small,
    which is the theorem's hypothesis, so that few draws are lost.
    """
    rng = np.random.default_rng(seed)
    n = 3 if reading == "joint" else 4
    A = np.round(rng.normal(size=(num_random, n, 1)), 1)
    b = np.round(rng.dirichlet(np.full(n, 4.0), num_random), 1)
    b[:, -1] = np.round(1 - b[:, :-1].sum(axis=1), 1)
    mask = np.argsort(rng.random((num_random, n)), axis=1) < n - 1
    gamma = np.round(np.exp(rng.uniform(np.log(0.01), np.log(1), num_random)), 2)
    w = np.round(np.exp(rng.uniform(np.log(0.01), 0, num_random)), 2)
    arrays = (A, b, mask, gamma, w)
    ell_1, ell_2, x = (np.asarray(a) for a in _losses_at_minimum(reading, *arrays))
    n1 = mask.sum(axis=1)
    shortfall = np.sqrt(2 * gamma) / n1 - EPS_2 / (n - n1) - ell_1 / n1 + ell_2 / (n - n1)
    meets_hypothesis = (b >= 0).all(axis=1) & (ell_2 < EPS_2) & np.isfinite(ell_1)
    shortfall = np.where(meets_hypothesis, shortfall, -np.inf)
    shown, worst = None, float(shortfall.max())
    for k in np.argsort(shortfall)[::-1][:50]:
        if not shortfall[k] > 0:
            break
        problem = CopyrightRegression(A[k], b[k], mask[k], gamma[k], w[k], reading)
        if refute_theorem_16(problem, x[k]):
            shown, worst = Counterexample(f"theorem-16-{reading}", problem, x[k]), shortfall[k]
            break
    verdict = "fails" if shown is not None else "holds"
    says = "the minimizer is tau_c-protected"
    return Row("Theorem 16", says, reading, verdict, float(worst), "excess", num_random, 0, shown)


def refute_theorem_16(problem: CopyrightRegression, x: Any, *, max_intervals: int = 20_000) -> bool:
    """Prove that Theorem 16 fails for every global minimizer of an instance with d = 1.

    ``{L <= L(x)}`` lies in an interval, as ``0.5 ||w * A x||^2 <= L``. It is halved until each part
    is proved to have a larger L everywhere, or ``ell_2 < 0.1`` and ``ell_1/n1 < tau_c + ell_2/n2``
    everywhere, at eps_2 = 0.1; so the second is true of every minimizer. Ball arithmetic, 128 bits.

    Parameters
    ----------
    problem : CopyrightRegression
        One column, some ``w_i A_i1`` not zero.
    x : (1,) array
        A point with a small L.
    max_intervals : int
        When to give up.

    Returns
    -------
    bool
        True if it is proved; False if it is not, which proves nothing.

    Raises
    ------
    InputError
        d is not 1, or nothing is regularized.

    Examples
    --------
    >>> import jax
    >>> jax.config.update("jax_enable_x64", True)
    >>> from copyreg_jax.theory.counterexample import counterexample
    >>> refute_theorem_16(*counterexample("theorem-16-joint")[1:])
    True
    >>> jax.config.update("jax_enable_x64", False)
    """
    instance = to_instance(problem)
    if instance.d != 1:
        raise InputError(f"A has {instance.d} columns; the proof is for one")
    column = instance.A.rows(0, instance.n)[:, 0]
    with ARITHMETIC, ctx.workprec(START_BITS):
        pairs = zip(instance.w.tolist(), column.tolist(), strict=True)
        squares = [arb(w) * arb(a) * arb(w) * arb(a) for w, a in pairs]
        total = sum(squares, arb(0))
        if not total > 0:
            raise InputError("w * A is zero: the level sets of L are not bounded")
        level = upper(_at(instance, np.asarray(x, np.float64)).value)
        furthest = upper((2 * arb(level) / total).sqrt())
        parts = [(-furthest, furthest)]
        for _ in range(max_intervals):
            if not parts:
                return True
            low, high = parts.pop()
            middle = 0.5 * (low + high)
            if not _is_settled(instance, arb(low).union(arb(high)), level):
                parts += [(low, middle), (middle, high)]
    return False


def _at(instance: Instance, x: np.ndarray) -> proofs.View:
    return proofs.at_point(instance, Balls(START_BITS), x)


def _is_settled(instance: Instance, interval: arb, level: float) -> bool:
    """Whether no x in the interval has ``L <= level`` and the margin of Theorem 16."""
    point = _at(instance, np.array([interval], dtype=object))
    found = point.losses
    if point.value > level:
        return True
    # Near the barrier L has no finite ball, but gamma / ell_1 has a lower bound.
    largest = upper(found.ell_1)
    if math.isfinite(largest) and largest > 0 and arb(instance.gamma) / arb(largest) > level:
        return True
    tau_c = theorems.paper_tau(instance.n, instance.n1, instance.gamma, EPS_2)
    # The float 0.1 is above the number 0.1: that makes tau_c smaller, so the claim weaker.
    return bool(found.ell_2 < EPS_2 and found.margin < tau_c)
