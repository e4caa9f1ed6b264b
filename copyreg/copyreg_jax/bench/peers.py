"""Every method under one interface: those of this package and those of other libraries.

All get the same problem, start and tolerance, and the same closed-form derivatives, compiled with
the problem as an argument. All aim at the Euclidean norm of the gradient and at nothing else: their
own tests of x, of f or of another norm are switched off, and a peer is stopped at the first point
it evaluates that is good enough. L is scaled for them where that helps, and a method of SciPy that
stops too early is started anew from there.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import time
from typing import ClassVar

import numpy as np
import optax

from copyreg_jax.bench.compiled_peers import (
    Compiled,
    jaxopt_lbfgs,
    optax_lbfgs,
    optimistix_bfgs,
    optimistix_lbfgs,
)
from copyreg_jax.bench.host_peers import SUBPROBLEM_ITERATIONS, SciPy, Torch, lbfgsb, trust
from copyreg_jax.bench.oracle import (
    AIM,
    MAX_ITERATIONS,
    Method,
    Outcome,
    OutOfTimeError,
    Run,
    Task,
    Trace,
    elapsed,
)
from copyreg_jax.solvers import Optax, Progress, SketchedNewton, Solver, TrustRegionNewton, solve
from copyreg_jax.solvers.recheck import evaluate
from copyreg_jax.solvers.solution import Status

__all__ = ["OWN", "PEERS", "Own", "version"]

_MAX_RTOL = 1e-3

_MAX_QUADRATIC_D = 512
"""Up to this d the methods that keep d x d numbers are tried."""


@dataclasses.dataclass(frozen=True)
class Own:
    """A solver of this package, called as a user calls it."""

    name: str
    solver: Solver | None
    max_d: int | None = None
    package: ClassVar[str] = "copyreg-jax"

    def prepare(self, task: Task) -> tuple[float, Run]:
        # Our default needs no guard, and is faster without one.
        watched, rtol = self.solver is not None, _rtol(task)
        cold, warm = (elapsed(lambda: self._compile(task, rtol, watched))[0] for _ in range(2))
        return max(cold - warm, 0.0), lambda trace: self._run(task, rtol, trace, watched)

    def _compile(self, task: Task, rtol: float, watched: bool) -> None:
        callback = (lambda now: False) if watched else None
        solve(task.problem, self.solver, task.x0, rtol=rtol, max_steps=1, callback=callback)

    def _run(self, task: Task, rtol: float, trace: Trace | None, watched: bool) -> Outcome:
        if trace is not None and not watched:
            self._compile(task, rtol, True)
        begin = time.perf_counter()

        def callback(now: Progress) -> bool:
            seconds = time.perf_counter() - begin
            if trace is not None:
                trace.append((seconds, now.gradient_norm))
            return seconds > task.limit

        guard = callback if watched or trace is not None else None
        s = solve(task.problem, self.solver, task.x0, rtol=rtol, callback=guard)
        if s.status is Status.INTERRUPTED:
            raise OutOfTimeError(np.asarray(s.x))
        return Outcome(
            np.asarray(s.x),
            s.status is Status.CONVERGED,
            s.status.name,
            s.num_steps,
            s.num_values,
            s.num_gradients,
            s.num_hvps,
            s.num_hessians,
        )


def _rtol(task: Task) -> float:
    """The rtol by which the rule of `solve` asks for the task's tolerance.

    The rule takes the gradient by the size of its terms; that at the start stands for it.
    """
    size = evaluate(task.problem, task.x0).gradient_size
    least = 16 * float(np.finfo(task.problem.dtype).eps)
    return float(np.clip(AIM * task.tolerance / size, least, _MAX_RTOL)) if size > 0 else least


OWN: tuple[Own, ...] = (
    Own("copyreg", None),
    Own("copyreg newton", TrustRegionNewton(), max_d=512),
    Own("copyreg sketched", SketchedNewton(), max_d=512),
    Own("copyreg optax", Optax(optax.lbfgs())),
)
"""This package's solvers; "copyreg" is what a user gets who asks for none."""

PEERS: tuple[Method, ...] = (
    lbfgsb(10),
    lbfgsb(50),
    SciPy(
        "scipy Newton-CG",
        "Newton-CG",
        (("xtol", 0.0), ("maxiter", MAX_ITERATIONS)),
        ("value_and_gradient", "hvp"),
    ),
    trust("trust-ncg", "hvp"),
    trust("trust-krylov", "hvp"),
    trust("trust-exact", "hessian", _MAX_QUADRATIC_D, subproblem_maxiter=SUBPROBLEM_ITERATIONS),
    Compiled("optax L-BFGS", "optax", optax_lbfgs),
    Compiled("optax L-BFGS 30", "optax", functools.partial(optax_lbfgs, pairs=30)),
    Compiled("jaxopt L-BFGS", "jaxopt", jaxopt_lbfgs),
    Compiled("optimistix BFGS", "optimistix", optimistix_bfgs, _MAX_QUADRATIC_D),
    Compiled("optimistix L-BFGS", "optimistix", optimistix_lbfgs),
    Torch("torch L-BFGS"),
    Torch("torch L-BFGS, own gradient", own_gradient=True),
)


def version(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
