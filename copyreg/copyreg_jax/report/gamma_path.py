"""The path of gamma through a solution: how the margin and the fit change with the protection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from copyreg_jax._pages import escape, number, table, wide
from copyreg_jax.certificates.words import below
from copyreg_jax.errors import InputError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.report.charts import Axis, Series, draw
from copyreg_jax.solvers import solve_path
from copyreg_jax.solvers.solution import Solution, Status
from copyreg_jax.theory.level_sets import level_set_tau

__all__ = ["NUM_SOLVES", "GammaPath", "find_path", "path_section"]

_PER_DECADE, _DECADES = 4, 2

NUM_SOLVES = 2 * _PER_DECADE * _DECADES + 1
"""Solves of a path; the one for the solution that it goes through ends at once."""


class GammaPath(NamedTuple):
    """Minimizers for a grid of gamma, found one from the other.

    Attributes
    ----------
    gammas : list of float
        Ascending.
    solutions : list of Solution
    taus : list of (float or None)
        The margin that every point with as low an L has, by the theorem; None if it says nothing.
    here : int
        Which of them is the solution that the path goes through.
    """

    gammas: list[float]
    solutions: list[Solution]
    taus: list[float | None]
    here: int


def find_path(
    problem: CopyrightRegression,
    x: np.ndarray,
    progress: Callable[[int], Any] = lambda done: None,
) -> GammaPath:
    """Solve for gammas up to a hundred times as large, and as small, beginning at x both times.

    Parameters
    ----------
    problem : CopyrightRegression
    x : (d,) array
        A solution of it.
    progress : callable, optional
        Called with the number of solves that are done, of `NUM_SOLVES`.

    Raises
    ------
    InputError
        gamma is 0, so there is no protection to change.

    Examples
    --------
    >>> problem = CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> path = find_path(problem, np.array([-1.0]))
    >>> ends = 0, path.here, -1
    >>> [round(path.gammas[k], 3) for k in ends], [path.solutions[k].direction for k in ends]
    ([0.001, 0.1, 10.0], ['suppressed', 'suppressed', 'suppressed'])
    >>> path.solutions[0].ell_1 < path.solutions[-1].ell_1  # the farther, the larger gamma is
    True
    """
    gamma = float(problem.gamma)
    if gamma == 0:
        raise InputError("gamma is 0, so no path of gamma goes through this solution")
    done = 0

    def count(_: Solution) -> None:
        nonlocal done
        done += 1
        progress(done)

    steps = range(_PER_DECADE * _DECADES + 1)
    ways: list[list[tuple[float, Solution]]] = []
    for sign in (1, -1):
        start = steps if sign > 0 else steps[1:]
        gammas = [gamma * 10.0 ** (sign * k / _PER_DECADE) for k in start]
        found = solve_path(problem, x0=x, gamma=gammas, callback=count)
        ways.append(list(zip(gammas, found, strict=True)))
    up, down = ways
    both = down[::-1] + up
    return GammaPath(
        [one for one, _ in both],
        [found for _, found in both],
        [_level_set(problem.replace(gamma=one), found) for one, found in both],
        len(down),
    )


def _level_set(problem: CopyrightRegression, found: Solution) -> float | None:
    try:
        return level_set_tau(problem, found.value) if math.isfinite(found.value) else None
    except InputError:  # L was rounded to below what it can reach
        return None


def path_section(path: GammaPath, n1: int, n: int) -> str:
    """Make the section, as HTML."""
    solutions = path.solutions
    ell = np.array([one.ell for one in solutions], float)
    margin = np.array([one.ell_1 / n1 - one.ell_2 / (n - n1) for one in solutions], float)
    directions = [str(one.direction) for one in solutions]
    solved = np.array([one.status is Status.CONVERGED for one in solutions])
    is_log = bool((margin[solved] > 0).all()) and bool(solved.any())
    x = Axis.around("fit: ell, all rows; logarithmic", ell[solved], is_log=True)
    y = Axis.around("margin ell_1/n1 - ell_2/n2", margin[solved], is_log=is_log)
    looks = (("suppressed", "dots", "soft"), ("amplified", "squares", "mark"))
    series = [Series("along the path", "line", ell[solved], margin[solved], "soft")]
    is_here = np.arange(len(solutions)) == path.here
    series += [
        Series(name, look, ell[mask], margin[mask], color)
        for name, look, color in looks
        if (mask := solved & ~is_here & np.array([one == name for one in directions])).any()
    ]
    if solved[path.here]:  # in the look of its direction, and not over another mark
        way = directions[path.here]
        look = next((look for name, look, _ in looks if name == way), "dots")
        at = ell[is_here], margin[is_here]
        series.append(Series(f"this solution, {way}", look, *at, "ink"))
    unsolved = int((~solved).sum())
    caption = (
        f"From gamma = {path.gammas[0]:.3g} to {path.gammas[-1]:.3g}: the farther to the right, "
        "the worse f fits b; the higher, the farther the protected rows are from their targets, "
        "in either direction."
        + (f" {unsolved} that did not converge are not drawn." if unsolved else "")
    )
    rows = [
        (
            f"{gamma:.4g}{' (here)' if k == path.here else ''}",
            [
                escape(found.status.name),
                number(found.ell),
                number(float(margin[k])),
                "no bound" if tau is None else below(tau),
                number(found.protected_mass),
                escape({"suppressed": "DOWN", "amplified": "UP"}.get(directions[k], directions[k])),
            ],
        )
        for k, (gamma, found, tau) in enumerate(zip(path.gammas, solutions, path.taus, strict=True))
    ]
    columns = ["Status", "ell", "Margin", "Margin of as good points", "Protected mass", "Way"]
    target = number(solutions[path.here].target_mass)
    title = f"The path of gamma; the protected mass of b is {target}"
    return (
        "<p>Each point is a minimizer, found from its neighbor, beginning at this solution. Where "
        "L is not convex it is one branch: other starts may lead to other minimizers. The numbers "
        "are floating-point results, which are not proved.</p>\n"
        f"{draw('path', series, x, y, caption)}"
        f"{wide('The path of gamma', table(title, columns, rows, first='gamma'))}"
    )
