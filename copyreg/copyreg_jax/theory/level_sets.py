"""The protection that every point of a level set has."""

from __future__ import annotations

import math

from flint import arb, ctx

from copyreg_jax.checker import theorems
from copyreg_jax.checker.arithmetic import ARITHMETIC, lower
from copyreg_jax.checker.guarantee import guarantee
from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.theory.constants import positive
from copyreg_jax.theory.regions_of_convexity import loss_floor

__all__ = ["cross_entropy_level_set_tau", "level_set_tau"]


def level_set_tau(problem: CopyrightRegression, value: float) -> float:
    """A tau with ``ell_1/n1 - ell_2/n2 >= tau`` wherever ``L <= value`` (replaces Theorem 16).

    Parameters
    ----------
    problem : CopyrightRegression
    value : float
        A value that L reaches, rounded upwards.

    Returns
    -------
    float
        Rounded downwards, in ball arithmetic: the number a certificate states.

    Raises
    ------
    InputError
        No x has so small an L.

    Notes
    -----
    Proof: docs/theory/level-set.md. Cost O(1).

    Examples
    --------
    >>> import numpy as np
    >>> from copyreg_jax import CopyrightRegression
    >>> problem = CopyrightRegression(np.eye(6, dtype="f4"), [1 / 6] * 6, 2, gamma=0.01, w=0.01)
    >>> round(level_set_tau(problem, 0.1457), 4)
    0.0553
    """
    value, gamma = float(value), float(problem.gamma)
    loss_floor(problem, value)
    sizes = problem.n, problem.n1, gamma
    with ARITHMETIC, ctx.workprec(128):
        return theorems.level_set_tau(*sizes, problem.reading, problem.metric, value)


def cross_entropy_level_set_tau(gamma: float, share: float, value: float) -> float:
    """A tau with ``CE_1 - CE_2 >= tau`` wherever ``CE + gamma / CE_1 <= value``.

    The level-set theorem for training with cross-entropy: ``CE = share CE_1 + (1 - share) CE_2``,
    where CE_1 and CE_2 are means per protected and per other token.

    Parameters
    ----------
    gamma : float
        Weight of the protection term, > 0.
    share : float
        Part of the tokens that is protected, in (0, 1).
    value : float
        A value of the training loss that is reached, in nats per token.

    Returns
    -------
    float
        In nats per token, rounded downwards.

    Raises
    ------
    InputError
        An argument is out of range, or no CE_1 and CE_2 >= 0 have so small a loss.

    Notes
    -----
    ``tau = (t + gamma/t - value) / (1 - share)`` at ``t = max(sqrt(gamma), t-)``, the smaller root
    of ``share t^2 - value t + gamma``. Proof: docs/theory/level-set.md. Cost O(1).

    Examples
    --------
    >>> round(cross_entropy_level_set_tau(gamma=0.9, share=0.1, value=2.0), 4)
    -0.114
    """
    gamma, share, value = float(gamma), float(share), float(value)
    positive(gamma, "gamma")
    if not 0 < share < 1:
        raise InputError(f"share is {share}; give the protected part of the tokens, in (0, 1)")
    positive(value, "value")
    with ARITHMETIC, ctx.workprec(128):
        found = guarantee(arb(share), gamma, value)
        if found is None:
            least = 2 * math.sqrt(share * gamma)
            raise InputError(f"no losses give {value}: the total is at least {least:.6g}")
        return lower(found.tau)
