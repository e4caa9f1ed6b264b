"""The options of `solve`: defaults filled in, impossible values refused."""

from __future__ import annotations

import numpy as np

from copyreg_jax._tracing import is_concrete, is_traced
from copyreg_jax.errors import ENABLE_X64, InputError, PrecisionError
from copyreg_jax.matrices import is_sharded, on_host
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.newton_cg import NewtonCG
from copyreg_jax.solvers.optimality import DEFAULT_RTOL
from copyreg_jax.solvers.protocol import Need, Solver
from copyreg_jax.solvers.trust_region import TrustRegionNewton

__all__ = ["SMALL_COLUMNS", "check_needs", "check_one_device", "check_settings"]

_SMALLEST_RTOL_IN_EPS = 16

SMALL_COLUMNS = 32
"""Columns up to which a batch is better off with exact Hessians."""

_IN_MEMORY, _ON_DISK, _SHARDED = "in memory", "on disk", "sharded"

_MISSING: dict[Need, tuple[str, ...]] = {"hessian": (_ON_DISK,), "rows": (_ON_DISK, _SHARDED)}
"""Where A can't give what a solver needs."""

_PURPOSE: dict[Need, str] = {"hessian": "forms Hessians", "rows": "draws rows of it"}
"""Why a solver needs that."""


def check_settings(
    problem: SoftmaxRegression, solver: Solver | None, rtol: float | None, max_steps: int | None
) -> tuple[Solver, float, int]:
    """Fill in the defaults of the settings; raise `InputError` for impossible ones."""
    if solver is None:
        traced = is_traced() or not is_concrete(problem)
        small = problem.A.shape[-1] <= SMALL_COLUMNS
        exact = traced and small and not on_host(problem.A)
        solver = TrustRegionNewton() if exact else NewtonCG()
    if isinstance(solver, type) or not hasattr(solver, "step"):
        raise InputError(
            f"solver is {solver!r:.60}; give an instance such as NewtonCG(), and wrap an "
            "optax transformation as Optax(transformation)"
        )
    check_needs(problem, solver)
    rtol = _tolerance(problem.dtype, rtol)
    max_steps = solver.default_max_steps if max_steps is None else max_steps
    counts = isinstance(max_steps, int | np.integer) and not isinstance(max_steps, bool)
    if not (counts and 1 <= max_steps < 2**31):
        raise InputError(f"max_steps is {max_steps!r}; give an integer >= 1 and below 2^31")
    return solver, rtol, max_steps


def check_needs(problem: SoftmaxRegression, solver: Solver) -> None:
    """Refuse a problem whose A can't give what the solver needs."""
    place = _place_of(problem)
    needs: frozenset[Need] = getattr(solver, "needs", frozenset())
    if not (isinstance(needs, frozenset) and needs <= set(_MISSING)):
        raise InputError(f"solver.needs is {needs!r:.60}; give a frozenset of {sorted(_MISSING)}")
    for need in sorted(needs):
        if place in _MISSING[need]:
            name = type(solver).__name__
            raise InputError(f"A is {place}, and {name} {_PURPOSE[need]}; use NewtonCG")


def check_one_device(problem: SoftmaxRegression) -> None:
    """Refuse a problem whose A can't be part of a batch."""
    place = _place_of(problem)
    if place != _IN_MEMORY:
        raise InputError(f"A is {place}; solve such problems one by one, with copyreg_jax.solve")


def _place_of(problem: SoftmaxRegression) -> str:
    """Return where the rows of A are."""
    if on_host(problem.A):
        return _ON_DISK
    return _SHARDED if is_sharded(problem.A) else _IN_MEMORY


def _tolerance(dtype: np.dtype, rtol: float | None) -> float:
    if rtol is None:
        return DEFAULT_RTOL[dtype]
    if not is_concrete(rtol):
        return rtol
    number = np.asarray(rtol)
    if number.shape != () or number.dtype.kind not in "fiu" or not 0 < number < np.inf:
        raise InputError(f"rtol is {rtol!r}; give a finite number > 0")
    smallest = _SMALLEST_RTOL_IN_EPS * float(np.finfo(dtype).eps)
    if rtol < smallest:
        remedy = f"; put {ENABLE_X64} before the first use of JAX and pass float64 data"
        raise PrecisionError(
            f"rtol = {rtol:g} can't be reached in {dtype}, where the smallest is {smallest:.1e}"
            + (remedy if dtype == np.float32 else "")
        )
    return float(rtol)
