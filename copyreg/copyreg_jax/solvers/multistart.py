"""Many starts of one problem, and the different minimizers that they find."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import column_norms
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers import driver, start
from copyreg_jax.solvers.batch import solve_many
from copyreg_jax.solvers.options import check_one_device
from copyreg_jax.solvers.protocol import Solver
from copyreg_jax.solvers.solution import Solution, Status

__all__ = ["Minima", "multi_start"]

_SAME_X = 1e-5
"""Minimizers whose logits differ by less, relative to their size, are one."""


class Minima(NamedTuple):
    """The minimizers that `multi_start` found.

    Attributes
    ----------
    best : Solution
        The lowest.
    solutions : list of Solution
        One for each distinct minimizer, lowest first.
    hits : list of int
        How many starts ended at each.
    num_failed : int
        Starts that did not converge.
    """

    best: Solution
    solutions: list[Solution]
    hits: list[int]
    num_failed: int


def multi_start(
    problem: SoftmaxRegression,
    num_starts: int = 32,
    solver: Solver | None = None,
    *,
    seed: int = 0,
    rtol: float | None = None,
    max_steps: int | None = None,
) -> Minima:
    """Minimize from many starts, for L that is not convex: small w, or large gamma.

    Starts are the default one and random x, whose logits have root mean squares from 0.1 to 30;
    they run as one batch. The minimizers found are polished, and judged on the host, by `solve`.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
    num_starts : int, default 32
    solver, rtol, max_steps
        As in `solve_many`.
    seed : int, default 0
        Seed for the random starts.

    Returns
    -------
    Minima
        None of them need be the global minimizer; `certify` says what holds for that one too.

    Raises
    ------
    InputError
        num_starts is not a positive integer; and as in `solve_many`.
    NotConvergedError
        No start converged.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> A = [[1.0], [0.0], [-1.0]]
    >>> problem = cr.CopyrightRegression(A, [0.4, 0.3, 0.3], protected=1, gamma=0.1, w=0.1)
    >>> minima = cr.multi_start(problem, 8)
    >>> minima.best.value == min(s.value for s in minima.solutions)
    True
    """
    is_integer = isinstance(num_starts, int | np.integer) and not isinstance(num_starts, bool)
    if not (is_integer and num_starts >= 1):
        raise InputError(f"num_starts is {num_starts!r}; give an integer >= 1")
    check_one_device(problem)
    rng = np.random.default_rng(seed)
    norms = np.asarray(column_norms(problem.A)) / problem.n**0.5
    starts = rng.standard_normal((num_starts, problem.d)) / np.where(norms > 0, norms, 1)
    sizes = np.sqrt(np.mean(np.asarray(problem.A @ starts.T.astype(problem.dtype)) ** 2, axis=0))
    reach = 10.0 ** rng.uniform(-1, 1.5, num_starts)
    starts *= (reach / np.where(sizes > 0, sizes, 1))[:, None]
    starts[0] = np.asarray(start.default_start(problem)[0])
    batch = solve_many([problem] * num_starts, solver, starts, rtol=rtol, max_steps=max_steps)
    done = np.flatnonzero(np.asarray(batch.status) == Status.CONVERGED)
    if not done.size:
        batch.raise_for_status()
    order = done[np.argsort(np.asarray(batch.value)[done], kind="stable")]
    logits = np.asarray(problem.A @ batch.x.T).T
    distinct: list[int] = []
    hits: list[int] = []
    for i in order:
        gaps = [
            np.linalg.norm(logits[i] - logits[j]) / (1 + np.linalg.norm(logits[j]))
            for j in distinct
        ]
        if gaps and min(gaps) <= _SAME_X:
            hits[int(np.argmin(gaps))] += 1
        else:
            distinct.append(int(i))
            hits.append(1)
    solutions = [
        driver.solve(problem, solver, batch.x[i], rtol=rtol, max_steps=max_steps) for i in distinct
    ]
    # Polished, and evaluated anew, equal values may have changed their order.
    order = np.argsort([solution.value for solution in solutions], kind="stable")
    solutions, hits = [solutions[i] for i in order], [hits[i] for i in order]
    return Minima(solutions[0], solutions, hits, num_starts - done.size)
