"""What a run says of its point, computed once more: a page repeats no number that is not so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import fetch, interface
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.solvers.recheck import Evaluation, Rechecks
from copyreg_jax.solvers.solution import Status

__all__ = ["NUMBERS", "recomputed"]

NUMBERS = ("value", "gradient_norm", "ell_1", "ell_2", "protected_mass", "target_mass")

_SAFETY = 16
"""Above the constants of the first-order estimates of `_rounding`: none is more than 8."""


def recomputed(
    problem: CopyrightRegression,
    x: NDArray[np.float64],
    said: Mapping[str, Any],
    last_value: float,
    num_steps: int,
    where: object,
) -> dict[str, float | None]:
    """Evaluate the problem at x; `InputError` where that is not what the run says.

    Parameters
    ----------
    problem : CopyrightRegression
    x : (d,) array
    said : mapping
        What the run says: its status, and `NUMBERS`, with None for what is not finite.
    last_value : float
        L at the end of the run, as the solver computed it in the precision of the problem.
    num_steps : int
        Steps of the run.
    where : object
        The file that says it, for the message.

    Returns
    -------
    dict
        `NUMBERS`, computed in float64; None for what is not finite.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> from copyreg_jax.solvers.recheck import evaluate
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> here = evaluate(problem, np.array([-1.0]))
    >>> said = {"status": "CONVERGED"} | {name: getattr(here, name) for name in NUMBERS}
    >>> found = recomputed(problem, np.array([-1.0]), said, here.value, 0, "summary.json")
    >>> found == {name: said[name] for name in NUMBERS}
    True
    >>> said["ell_1"] += 0.25
    >>> recomputed(problem, np.array([-1.0]), said, here.value, 0, "it")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    copyreg_jax.errors.InputError: it is about another instance or point: it has ...
    """
    row_norms = np.asarray(fetch(problem.A, interface.row_norms(problem.A)), np.float64)
    here, _ = Rechecks(problem, row_norms).at(x)
    bounds = _rounding(problem, x, here, row_norms, np.finfo(np.float64).eps)
    for name in NUMBERS:
        if not _same(getattr(here, name), said[name], bounds[name]):
            raise InputError(
                f"{where} is about another instance or point: it has {said[name]} for {name!r}, "
                f"and computed again it is {getattr(here, name)}; run the command again"
            )
    # The solver may have added up its logits step by step.
    bound = _rounding(problem, x, here, row_norms, np.finfo(problem.dtype).eps)["value"]
    overflowed = said["status"] == Status.NONFINITE.name and not np.isfinite(last_value)
    if not overflowed and not _same(here.value, float(last_value), bound * (1 + num_steps)):
        raise InputError(
            f"the history beside {where} ends at L = {last_value}, and computed again L is "
            f"{here.value}; run the command again"
        )
    numbers = {name: getattr(here, name) for name in NUMBERS}
    return {name: number if np.isfinite(number) else None for name, number in numbers.items()}


def _same(here: float, said: float | None, bound: float) -> bool:
    """Whether the two differ by rounding at most; an infinite bound allows anything."""
    if said is None or not np.isfinite(said):
        return not np.isfinite(here) or not np.isfinite(bound)
    return np.isfinite(here) and not abs(here - said) > bound


def _rounding(
    problem: CopyrightRegression,
    x: NDArray[np.float64],
    here: Evaluation,
    row_norms: NDArray[np.float64],
    eps: float,
) -> dict[str, float]:
    """How much two evaluations may differ that add up in different orders.

    A sum of k terms is off by at most k eps times the sum of their sizes. So a logit is off by
    ``delta``, and f by 2 delta f; a loss of either metric by 4 delta (1 + sum |b|)^2, since f is
    at most 1; gamma / ell_1 and the gradient's factor gamma / ell_1^2 by what that makes of it.
    """
    b = np.asarray(fetch(problem.A, problem.b), np.float64)
    gamma = float(problem.gamma)
    with np.errstate(all="ignore"):
        largest = float(np.max(row_norms) * np.linalg.norm(x))
        delta = _SAFETY * (problem.n + problem.d) * float(eps) * (1 + largest)
        loss = delta * float(1 + np.abs(b).sum()) ** 2
        relative = float(np.divide(loss, here.ell_1)) if gamma > 0 else 0.0
        protection = gamma * float(np.divide(relative, here.ell_1)) if gamma > 0 else 0.0
    return {
        "value": loss + protection + delta * abs(here.value),
        "gradient_norm": here.gradient_size * (delta + 2 * relative),
        "ell_1": loss,
        "ell_2": loss,
        "protected_mass": delta,
        "target_mass": delta * float(np.abs(b).sum()),
    }
