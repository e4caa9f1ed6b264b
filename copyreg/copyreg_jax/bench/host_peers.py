"""Peers that run on the host: SciPy and PyTorch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import scipy.optimize
import scipy.sparse

from copyreg_jax.bench.oracle import (
    AIM,
    MAX_ITERATIONS,
    START_NORM_ON_HOST,
    WORTH_A_RESTART,
    GoodEnoughError,
    Outcome,
    OutOfTimeError,
    Run,
    Task,
    Trace,
    standstill,
)
from copyreg_jax.matrices import to_host
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["SUBPROBLEM_ITERATIONS", "SciPy", "Torch", "lbfgsb", "trust"]

_LARGEST_RADIUS = 1e15  # x of ill-conditioned instances is large; SciPy's own limit is 1000

SUBPROBLEM_ITERATIONS = 100


class _OnHost:
    """What peers with a loop in Python have in common."""

    package: ClassVar[str]
    uses: tuple[str, ...] = ("value_and_gradient",)

    def _minimize(self, task: Task) -> tuple[np.ndarray, bool, str, int]:
        """x, claim, message and iterations of a run to the end."""
        raise NotImplementedError

    def _threads(self) -> contextlib.AbstractContextManager[Any]:
        """One thread of BLAS: vectors of length d gain nothing from two, L-BFGS-B loses tenfold.

        Its BLAS threads wait by spinning, on the cores that XLA's need.
        """
        blas = _blas()
        return blas.limit(limits=1, user_api="blas") if blas else contextlib.nullcontext()

    def prepare(self, task: Task) -> tuple[float, Run]:
        importlib.import_module(self.package)
        _blas()
        seconds = task.oracle.compile(*self.uses)
        return seconds, lambda trace: self._run(task, trace)

    def _run(self, task: Task, trace: Trace | None) -> Outcome:
        oracle = task.oracle
        scale = task.scale(START_NORM_ON_HOST)
        oracle.start(AIM * task.tolerance, task.limit, trace, scale)
        try:
            with self._threads():
                x, claim, message, iterations = self._minimize(task)
        except GoodEnoughError:
            x, claim, message, iterations = oracle.x, True, "stopped at the tolerance", -1
        except OutOfTimeError:
            raise OutOfTimeError(oracle.x) from None
        evaluations = oracle.num_gradients
        return Outcome(
            x,
            claim,
            message,
            iterations,
            evaluations,
            evaluations,
            oracle.num_hvps,
            oracle.num_hessians,
        )


@dataclasses.dataclass(frozen=True)
class SciPy(_OnHost):
    """A method of ``scipy.optimize.minimize``."""

    name: str
    method: str
    options: tuple[tuple[str, Any], ...]
    uses: tuple[str, ...] = ("value_and_gradient",)
    max_d: int | None = None
    package: ClassVar[str] = "scipy"

    def _minimize(self, task: Task) -> tuple[np.ndarray, bool, str, int]:
        second: dict[str, Any] = {}
        if "hvp" in self.uses:
            second["hessp"] = task.oracle.hvp
        if "hessian" in self.uses:
            second["hess"] = task.oracle.hessian
        x, norm, iterations = task.x0, np.inf, 0
        # Each method may stop, or stand still, where rounding hides a decrease of L. Started anew
        # from there it often gets further.
        while True:
            found = scipy.optimize.minimize(
                task.oracle.value_and_gradient,
                x,
                jac=True,
                method=self.method,
                options=dict(self.options),
                callback=standstill(),
                **second,
            )
            iterations += int(found.nit)
            if not task.oracle.norm < WORTH_A_RESTART * norm:
                return found.x, bool(found.success), str(found.message), iterations
            x, norm = task.oracle.x, task.oracle.norm


@dataclasses.dataclass(frozen=True)
class Torch(_OnHost):
    """PyTorch's L-BFGS with its strong Wolfe line search.

    With ``own_gradient`` L is PyTorch's as well, differentiated by itself on all its threads.
    """

    name: str
    own_gradient: bool = False
    max_d: int | None = None
    package: ClassVar[str] = "torch"

    def _minimize(self, task: Task) -> tuple[np.ndarray, bool, str, int]:
        import torch

        x = torch.tensor(task.x0, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [x],
            max_iter=MAX_ITERATIONS,
            max_eval=MAX_ITERATIONS,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=10,
            line_search_fn="strong_wolfe",
        )
        loss = _loss(task.problem) if self.own_gradient else None

        def closure() -> float:
            at = x.detach().numpy()
            if loss is None:
                value, gradient = task.oracle.value_and_gradient(at)
            else:
                task.oracle.check_time()
                found = loss(x)
                (slope,) = torch.autograd.grad(found, x)
                value, gradient = task.oracle.seen(at, found.item(), slope.numpy())
            x.grad = torch.from_numpy(gradient)
            return value

        optimizer.step(closure)
        iterations = int(optimizer.state[x]["n_iter"])
        return x.detach().numpy().copy(), False, "no further step found", iterations

    def _threads(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.own_gradient else super()._threads()


def _loss(problem: SoftmaxRegression) -> Callable[[Any], Any]:
    """L in PyTorch."""
    import torch

    host: Any = to_host(problem.A)
    joint = problem.reading == "joint"
    if scipy.sparse.issparse(host):
        indptr, indices, data = map(torch.tensor, (host.indptr, host.indices, host.data))
        A = torch.sparse_csr_tensor(indptr, indices, data, size=host.shape)
    else:
        A = torch.tensor(host)
    b, w, mask = (torch.tensor(np.asarray(v)) for v in (problem.b, problem.w, problem.protected))
    gamma, squared = float(problem.gamma), problem.metric == "squared"

    def terms(log_f: Any, b: Any) -> Any:
        return (log_f.exp() - b) ** 2 if squared else -b * log_f

    def loss(x: Any) -> Any:
        u = A @ x
        each = terms(torch.log_softmax(u, 0), b)
        protected = each if joint else terms(torch.log_softmax(u[mask], 0), b[mask])
        value = (0.5 if squared else 1.0) * each.sum() + 0.5 * ((w * u) ** 2).sum()
        if gamma == 0:
            return value
        return value + gamma / (protected[mask] if joint else protected).sum()

    return loss


@functools.cache
def _blas() -> Any:
    """Control of the BLAS libraries loaded; None without threadpoolctl."""
    try:
        import threadpoolctl
    except ModuleNotFoundError:
        return None
    return threadpoolctl.ThreadpoolController()


def trust(method: str, uses: str, max_d: int | None = None, **options: Any) -> SciPy:
    """A trust-region method of SciPy, with its own stopping rules off."""
    fixed = {"gtol": 0.0, "max_trust_radius": _LARGEST_RADIUS, "maxiter": MAX_ITERATIONS}
    return SciPy(
        f"scipy {method}",
        method,
        tuple({**fixed, **options}.items()),
        ("value_and_gradient", uses),
        max_d,
    )


def lbfgsb(history: int) -> SciPy:
    """SciPy's L-BFGS-B with this many pairs of memory, with its own stopping rules off."""
    options = {
        "maxcor": history,
        "ftol": 0.0,
        "gtol": 0.0,
        "maxiter": MAX_ITERATIONS,
        "maxfun": MAX_ITERATIONS,
        "maxls": 50,
    }
    return SciPy(f"scipy L-BFGS-B {history}", "L-BFGS-B", tuple(options.items()))
