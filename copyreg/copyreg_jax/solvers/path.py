"""A path of problems, each started at the solution of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jax.typing import ArrayLike

from copyreg_jax._tracing import is_concrete, is_traced
from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.solvers import driver
from copyreg_jax.solvers.protocol import Solver
from copyreg_jax.solvers.solution import Solution
from copyreg_jax.solvers.steps import Kit, precompute

__all__ = ["solve_path"]


def solve_path(
    problem: CopyrightRegression,
    solver: Solver | None = None,
    x0: ArrayLike | None = None,
    *,
    gamma: Iterable[float] | None = None,
    w: Iterable[ArrayLike] | None = None,
    rtol: float | None = None,
    max_steps: int | None = None,
    callback: Callable[[Solution], object] | None = None,
) -> list[Solution]:
    """Minimizers along a grid of gamma or of w, each started from the one before.

    Where L is not convex this follows one branch of minimizers, as far as it goes: compare with
    `multi_start` at the ends. What is made of A and w, such as a Gram matrix, is made once for all
    gammas.

    Parameters
    ----------
    problem : CopyrightRegression
    solver, x0, rtol, max_steps
        As in `solve`; x0 is the start of the first.
    gamma : iterable of float, optional
    w : iterable of float or (n,) arrays, optional
        Exactly one of the two.
    callback : callable, optional
        Called with each solution as it is found.

    Returns
    -------
    list of Solution
        In the order of the grid.

    Raises
    ------
    InputError
        Not exactly one grid, or an empty one; and as in `solve`.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.5, 0.3, 0.2], protected=1)
    >>> path = cr.solve_path(problem, gamma=[0.001, 0.01, 0.1])
    >>> [round(solution.ell_1, 3) for solution in path] == sorted(
    ...     round(solution.ell_1, 3) for solution in path
    ... )
    True
    """
    if not isinstance(problem, CopyrightRegression):
        raise InputError(f"problem is a {type(problem).__name__}; give a CopyrightRegression")
    values: Any
    name, values = ("gamma", gamma) if w is None else ("w", w)
    if values is None or (gamma is not None and w is not None):
        raise InputError("give exactly one grid: gamma=[...] or w=[...]")
    grid = list(values)
    if not grid:
        raise InputError(f"the grid of {name} is empty; give at least one value")
    path: list[Solution] = []
    kit: Kit | None = None
    for value in grid:
        one, start = problem.replace(**{name: value}), path[-1].x if path else x0
        if is_traced() or not is_concrete((one, start, rtol)):
            found = driver.solve(one, solver, start, rtol=rtol, max_steps=max_steps)
        else:
            arguments = driver.check_arguments(one, solver, start, rtol, max_steps)
            chosen, first, tolerance, most = arguments
            # Another gamma may bring another dtype.
            if kit is None or name == "w" or kit.row_norms.dtype != one.dtype:
                kit = precompute(one, chosen)
            found = driver.solve_on_host(one, first, tolerance, most, chosen, kit=kit)
        path.append(found)
        if callback is not None:
            callback(found)
    return path
