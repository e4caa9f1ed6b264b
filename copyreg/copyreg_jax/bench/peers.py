"""Every method under one interface: those of this package and those of other libraries.

All get the same problem, start and tolerance, and the same closed-form derivatives, compiled with
the problem as an argument. All aim at the Euclidean norm of the gradient and at nothing else: their
own tests of x, of f or of another norm are switched off, and a peer is stopped at the first point
it evaluates that is good enough. L is scaled for them where that helps, and a method of SciPy that
stops too early is started anew from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jaxtyping import Array, Float

from copyreg_jax import curvature
from copyreg_jax.curvature import Curvature
from copyreg_jax.objective import Scalar
from copyreg_jax.problem import Point, SoftmaxRegression
from copyreg_jax.solution import Status
from copyreg_jax.solvers import Optax, Progress, SketchedNewton, Solver, TrustRegionNewton, solve

AIM = 0.9
"""Share of the tolerance at which peers stop, so that the judge's rounding fails none of them."""
_MAX_ITERATIONS = 1_000_000
_FIRST_ITERATIONS, _CALIBRATION = 8, 0.5
# Peers compare curvatures and gradients with absolute constants, so L is scaled for them: to these
# norms of the gradient at the start, with which each kind did best.
_START_NORM_ON_HOST, _START_NORM_COMPILED = 100.0, 1.0
_LARGEST_RADIUS = 1e15  # x of ill-conditioned instances is large; SciPy's own limit is 1000
_SUBPROBLEM_ITERATIONS = 100
_MAX_REJECTED = 40
_WORTH_A_RESTART = 0.9
_MAX_QUADRATIC_D = 512
"""Up to this d the methods that keep d x d numbers are tried."""

Trace: TypeAlias = list[tuple[float, float]]
"""Seconds since the start, and the gradient norm that was known by then."""


class OutOfTimeError(Exception):
    """Ends a peer in the midst of its loop."""


class GoodEnoughError(Exception):
    """Ends a peer at a point that meets the tolerance."""


class Outcome(NamedTuple):
    """What a method says it did. The judge doesn't listen to ``claim``.

    Attributes
    ----------
    x : (d,) ndarray
    claim : bool
        Whether the method says that it has reached the tolerance.
    message : str
        How it ended, in its own words.
    iterations, values, gradients, hvps, hessians : int
        Evaluations made.
    """

    x: np.ndarray
    claim: bool
    message: str
    iterations: int
    values: int
    gradients: int
    hvps: int = 0
    hessians: int = 0


@jax.jit
def _value_and_gradient(problem: SoftmaxRegression, x: Point) -> tuple[Scalar, Point]:
    return problem.value_and_gradient(x)


@jax.jit
def _curvature(problem: SoftmaxRegression, x: Point) -> Curvature:
    return curvature.curvature(problem.logits(x), *problem.terms)


@jax.jit
def _hvp(problem: SoftmaxRegression, at: Curvature, v: Point) -> Point:
    return curvature.hvp(at, problem.A @ v) @ problem.A


@jax.jit
def _hessian(problem: SoftmaxRegression, x: Point) -> Float[Array, "d d"]:
    return problem.hessian(x)


class Oracle:
    """Host functions around the compiled derivatives, for the peers whose loop is in Python.

    They count, keep the time limit, end the peer at a point that is good enough, and remember the
    flattest point seen. The curvature at a point is kept, so that each further Hessian-vector
    product there costs two reads of A.
    """

    def __init__(self, problem: SoftmaxRegression, x0: np.ndarray) -> None:
        self._problem, self._x0 = problem, x0
        self._compile_seconds: dict[str, float] = {}
        self.start(aim=0.0, limit=np.inf)

    def start(
        self, aim: float, limit: float, trace: Trace | None = None, scale: float = 1.0
    ) -> None:
        """Set the counts and the clock to zero; from now on the derivatives are of ``scale L``."""
        self._scale = scale
        self.num_gradients = self.num_hvps = self.num_hessians = 0
        self.x, self.norm = self._x0, np.inf
        self._at_x: np.ndarray | None = None
        self._aim, self._trace = aim, trace
        self._begin = time.perf_counter()
        self._deadline = self._begin + limit

    def compile(self, *names: str) -> float:
        """Seconds that it takes, or took, to compile these of its functions."""
        for name in names:
            if name not in self._compile_seconds:
                self.start(aim=0.0, limit=np.inf)
                function = getattr(self, name)
                arguments = [self._x0] * (2 if name == "hvp" else 1)
                cold, warm = (_seconds(lambda: function(*arguments))[0] for _ in range(2))  # noqa: B023
                self._compile_seconds[name] = max(cold - warm, 0.0)
        return sum(self._compile_seconds[name] for name in names)

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        self._check_time()
        value, gradient = _value_and_gradient(self._problem, x)
        host = np.asarray(gradient)
        self.num_gradients += 1
        norm = float(np.linalg.norm(host))
        if norm < self.norm:
            self.x, self.norm = np.array(x), norm
        if self._trace is not None:
            self._trace.append((time.perf_counter() - self._begin, norm))
        if norm <= self._aim:
            raise GoodEnoughError
        return self._scale * float(value), self._scale * host

    def hvp(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        self._check_time()
        if self._at_x is None or not np.array_equal(x, self._at_x):
            self._at, self._at_x = _curvature(self._problem, x), np.array(x)
        self.num_hvps += 1
        return self._scale * np.asarray(_hvp(self._problem, self._at, v))

    def hessian(self, x: np.ndarray) -> np.ndarray:
        self._check_time()
        self.num_hessians += 1
        return self._scale * np.asarray(_hessian(self._problem, x))

    def _check_time(self) -> None:
        if time.perf_counter() > self._deadline:
            raise OutOfTimeError


class Task(NamedTuple):
    """What every method is asked for.

    Attributes
    ----------
    problem : SoftmaxRegression or CopyrightRegression
    x0 : (d,) ndarray
        Start.
    rtol, tolerance : float
        ``|gradient| <= tolerance = rtol (1 + |gradient at x0|)`` is asked for.
    limit : float
        Seconds after which a method should give up.
    start_norm : float
        ``|gradient at x0|``.
    oracle : Oracle
        The derivatives of ``problem`` for loops in Python.
    """

    problem: SoftmaxRegression
    x0: np.ndarray
    rtol: float
    tolerance: float
    limit: float
    start_norm: float
    oracle: Oracle

    def scale(self, norm: float) -> float:
        """Factor by which L is to be scaled for a gradient of this norm at the start."""
        return norm / self.start_norm if self.start_norm > 0 else 1.0


Run: TypeAlias = Callable[[Trace | None], Outcome]
"""One run of a compiled method; fills the trace if one is given, which may take longer."""


class Method(Protocol):
    """A row of `OWN` or `PEERS`.

    Attributes
    ----------
    name : str
    package : str
        Distribution that it is part of.
    max_d : int or None
        Number of columns beyond which it isn't tried, as it keeps d x d numbers.
    """

    @property
    def name(self) -> str: ...
    @property
    def package(self) -> str: ...
    @property
    def max_d(self) -> int | None: ...

    def prepare(self, task: Task) -> tuple[float, Run]:
        """Compile; the seconds that this took, and the run."""
        ...


@dataclasses.dataclass(frozen=True)
class Own:
    """A solver of this package, called as a user calls it."""

    name: str
    solver: Solver | None
    max_d: int | None = None
    package: ClassVar[str] = "copyreg-jax"

    def prepare(self, task: Task) -> tuple[float, Run]:
        # Our default needs no guard, and is faster without one.
        watched = self.solver is not None
        cold, warm = (_seconds(lambda: self._compile(task, watched))[0] for _ in range(2))
        return max(cold - warm, 0.0), lambda trace: self._run(task, trace, watched)

    def _compile(self, task: Task, watched: bool) -> None:
        callback = (lambda now: False) if watched else None
        solve(task.problem, self.solver, task.x0, rtol=task.rtol, max_steps=1, callback=callback)

    def _run(self, task: Task, trace: Trace | None, watched: bool) -> Outcome:
        if trace is not None and not watched:
            self._compile(task, True)
        begin = time.perf_counter()

        def callback(now: Progress) -> bool:
            seconds = time.perf_counter() - begin
            if trace is not None:
                trace.append((seconds, now.gradient_norm))
            return seconds > task.limit

        guard = callback if watched or trace is not None else None
        s = solve(task.problem, self.solver, task.x0, rtol=task.rtol, callback=guard)
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


class _OnHost:
    """What peers with a loop in Python have in common."""

    package: ClassVar[str]
    uses: tuple[str, ...] = ("value_and_gradient",)

    def _minimize(self, task: Task) -> tuple[np.ndarray, bool, str, int]:
        """x, claim, message and iterations of a run to the end."""
        raise NotImplementedError

    def prepare(self, task: Task) -> tuple[float, Run]:
        importlib.import_module(self.package)
        _blas()
        seconds = task.oracle.compile(*self.uses)
        return seconds, lambda trace: self._run(task, trace)

    def _run(self, task: Task, trace: Trace | None) -> Outcome:
        oracle = task.oracle
        scale = task.scale(_START_NORM_ON_HOST)
        oracle.start(AIM * task.tolerance, task.limit, trace, scale)
        try:
            with _one_blas_thread():
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
                callback=_standstill(),
                **second,
            )
            iterations += int(found.nit)
            if not task.oracle.norm < _WORTH_A_RESTART * norm:
                return found.x, bool(found.success), str(found.message), iterations
            x, norm = task.oracle.x, task.oracle.norm


@dataclasses.dataclass(frozen=True)
class Torch(_OnHost):
    """PyTorch's L-BFGS with its strong Wolfe line search."""

    name: str = "torch L-BFGS"
    history: int = 10
    max_d: int | None = None
    package: ClassVar[str] = "torch"

    def _minimize(self, task: Task) -> tuple[np.ndarray, bool, str, int]:
        import torch

        x = torch.tensor(task.x0, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [x],
            max_iter=_MAX_ITERATIONS,
            max_eval=_MAX_ITERATIONS,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=self.history,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            value, gradient = task.oracle.value_and_gradient(x.detach().numpy())
            x.grad = torch.from_numpy(gradient)
            return value

        optimizer.step(closure)
        iterations = int(optimizer.state[x]["n_iter"])
        return x.detach().numpy().copy(), False, "no further step found", iterations


class Loop(NamedTuple):
    """Result of a peer whose loop is compiled as a whole."""

    x: Array
    norm: Array
    iterations: Array
    values: Array
    gradients: Array


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A peer whose whole loop is one program: ``loop(problem, scale, x0, aim, max_iterations)``.

    Such a loop can't look at a clock, so its limit is a number of iterations: as many as would
    take the time limit, at the speed of a run that took half of it.
    """

    name: str
    package: str
    loop: Callable[[SoftmaxRegression, Scalar, Array, Scalar, Scalar], Loop]
    max_d: int | None = None

    def prepare(self, task: Task) -> tuple[float, Run]:
        compiled = jax.jit(self.loop)

        def call(max_iterations: int) -> Loop:
            problem, scale = task.problem, task.scale(_START_NORM_COMPILED)
            aim = AIM * task.tolerance * scale
            result = compiled(problem, scale, task.x0, aim, max_iterations)
            return jax.block_until_ready(result._replace(norm=result.norm / scale))

        most = _FIRST_ITERATIONS
        (cold, _), (warm, done) = (_seconds(lambda: call(most)) for _ in range(2))
        compile_seconds = max(cold - warm, 0.0)
        while int(done.iterations) >= most and warm < _CALIBRATION * task.limit:
            most = int(most * min(max(task.limit / warm, 2), 8))
            warm, done = _seconds(functools.partial(call, most))
        each = warm / max(int(done.iterations), 1)
        most = int(min(max(task.limit / each, most), _MAX_ITERATIONS))
        return compile_seconds, lambda trace: self._run(call, task, most, trace)

    def _run(
        self, call: Callable[[int], Loop], task: Task, most: int, trace: Trace | None
    ) -> Outcome:
        if trace is not None:
            _retrace(call, AIM * task.tolerance, task.limit, most, trace)
        result = call(most)
        claim = bool(result.norm <= task.tolerance)
        if not claim and int(result.iterations) >= most:
            raise OutOfTimeError(np.asarray(result.x))
        counts = (int(n) for n in (result.iterations, result.values, result.gradients))
        message = "stopped at the tolerance" if claim else "stopped by itself"
        return Outcome(np.asarray(result.x), claim, message, *counts)


@functools.cache
def _blas() -> Any:
    """Control of the BLAS libraries loaded; None without threadpoolctl."""
    try:
        import threadpoolctl
    except ModuleNotFoundError:
        return None
    return threadpoolctl.ThreadpoolController()


def _one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """Vectors of length d gain nothing from a second thread, and L-BFGS-B loses a factor of ten.

    Its BLAS threads wait by spinning, on the cores that XLA's need.
    """
    blas = _blas()
    return blas.limit(limits=1, user_api="blas") if blas else contextlib.nullcontext()


def _standstill() -> Callable[[np.ndarray], None]:
    """A callback that ends a trust-region method after too many rejected steps in a row."""
    last, repeats = np.empty(0), 0

    def callback(xk: np.ndarray) -> None:
        nonlocal last, repeats
        repeats = repeats + 1 if np.array_equal(xk, last) else 0
        last = np.array(xk)
        if repeats > _MAX_REJECTED:
            raise StopIteration

    return callback


def _retrace(
    call: Callable[[int], Loop], aim: float, limit: float, most: int, trace: Trace
) -> None:
    """The gradient norm after 1, 2, 3, 4, 6, 9, ... iterations, each a run of its own."""
    iterations, spent = 1, 0.0
    while iterations < most and spent < limit:
        seconds, result = _seconds(functools.partial(call, iterations))
        spent += seconds
        trace.append((seconds, float(result.norm)))
        if result.norm <= aim:
            return
        iterations = max(iterations + 1, iterations * 3 // 2)


def _function(problem: SoftmaxRegression, scale: Scalar) -> Callable[[Point], Scalar]:
    """``scale L``, whose derivative is the closed form: JAX's own would transpose A."""

    @jax.custom_jvp
    def value(x: Point) -> Scalar:
        return scale * problem.value(x)

    @value.defjvp
    def _(primals: tuple[Point], tangents: tuple[Point]) -> tuple[Scalar, Scalar]:
        result, gradient = problem.value_and_gradient(primals[0])
        return scale * result, scale * jnp.sum(gradient * tangents[0])

    return value


def optax_lbfgs(
    problem: SoftmaxRegression, scale: Scalar, x0: Array, aim: Scalar, max_iterations: Scalar
) -> Loop:
    """The loop of optax's documentation."""
    function = _function(problem, scale)
    transformation = optax.lbfgs(memory_size=10)
    value_and_grad = optax.value_and_grad_from_state(function)

    def step(carry: tuple[Array, Any, Array, Array]) -> tuple[Array, Any, Array, Array]:
        x, state, iterations, trials = carry
        value, grad = value_and_grad(x, state=state)
        updates, state = transformation.update(
            grad, state, x, value=value, grad=grad, value_fn=function
        )
        trials = trials + optax.tree.get(state, "num_linesearch_steps")
        return optax.apply_updates(x, updates), state, iterations + 1, trials

    def goes_on(carry: tuple[Array, Any, Array, Array]) -> Array:
        _, state, iterations, _ = carry
        norm = optax.tree.norm(optax.tree.get(state, "grad"))
        return (iterations == 0) | ((iterations < max_iterations) & (norm > aim))

    start = (x0, transformation.init(x0), jnp.zeros((), int), jnp.ones((), int))
    x, state, iterations, trials = jax.lax.while_loop(goes_on, step, start)
    norm = optax.tree.norm(optax.tree.get(state, "grad"))
    return Loop(x, norm, iterations, trials, trials)


def jaxopt_lbfgs(
    problem: SoftmaxRegression, scale: Scalar, x0: Array, aim: Scalar, max_iterations: Scalar
) -> Loop:
    """``jaxopt.LBFGS`` with its zoom line search, run as one program."""
    import jaxopt

    def value_and_gradient(x: Array) -> tuple[Scalar, Array]:
        value, gradient = problem.value_and_gradient(x)
        return scale * value, scale * gradient

    solver: Any = jaxopt.LBFGS(
        fun=value_and_gradient, value_and_grad=True, history_size=10, implicit_diff=False
    )
    # Its own `run` does this, but for one number of iterations per compilation.
    x, state = jax.lax.while_loop(
        lambda at: (at[1].iter_num < max_iterations) & (at[1].error > aim),
        lambda at: tuple(solver.update(*at)),
        (x0, solver.init_state(x0)),
    )
    return Loop(x, state.error, state.iter_num, state.num_fun_eval, state.num_grad_eval)


def _optimistix(
    solver: Any,
    problem: SoftmaxRegression,
    scale: Scalar,
    x0: Array,
    aim: Scalar,
    max_iterations: Scalar,
) -> Loop:
    """The solver's ``init`` and ``step`` in a loop that ends at the gradient's norm."""
    function = _function(problem, scale)

    def with_arguments(x: Array, _: None) -> tuple[Scalar, None]:
        return function(x), None

    import equinox

    shape, tags = jax.ShapeDtypeStruct((), x0.dtype), frozenset[object]()
    state = solver.init(with_arguments, x0, None, {}, shape, None, tags)
    arrays, rest = equinox.partition(state, equinox.is_array)

    def step(carry: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
        x, arrays, iterations = carry
        state = equinox.combine(arrays, rest)
        x, state, _ = solver.step(with_arguments, x, None, {}, state, tags)
        return x, equinox.filter(state, equinox.is_array), iterations + 1

    def goes_on(carry: tuple[Array, Any, Array]) -> Array:
        _, arrays, iterations = carry
        norm = jnp.linalg.norm(arrays.f_info.grad)
        return (iterations == 0) | ((iterations < max_iterations) & (norm > aim))

    x, arrays, iterations = jax.lax.while_loop(goes_on, step, (x0, arrays, jnp.zeros((), int)))
    return Loop(x, jnp.linalg.norm(arrays.f_info.grad), iterations, iterations, iterations)


def optimistix_bfgs(
    problem: SoftmaxRegression, scale: Scalar, x0: Array, aim: Scalar, max_iterations: Scalar
) -> Loop:
    """``optimistix.BFGS``, which keeps the inverse of a d x d matrix."""
    import optimistix

    return _optimistix(optimistix.BFGS(rtol=0.0, atol=0.0), problem, scale, x0, aim, max_iterations)


def optimistix_lbfgs(
    problem: SoftmaxRegression, scale: Scalar, x0: Array, aim: Scalar, max_iterations: Scalar
) -> Loop:
    """``optimistix.LBFGS``."""
    import optimistix

    solver: Any = optimistix.LBFGS(rtol=0.0, atol=0.0, history_length=10)
    return _optimistix(solver, problem, scale, x0, aim, max_iterations)


def _trust(method: str, uses: str, max_d: int | None = None, **options: Any) -> SciPy:
    fixed = {"gtol": 0.0, "max_trust_radius": _LARGEST_RADIUS, "maxiter": _MAX_ITERATIONS}
    return SciPy(
        f"scipy {method}",
        method,
        tuple({**fixed, **options}.items()),
        ("value_and_gradient", uses),
        max_d,
    )


def _lbfgsb(history: int) -> SciPy:
    options = {
        "maxcor": history,
        "ftol": 0.0,
        "gtol": 0.0,
        "maxiter": _MAX_ITERATIONS,
        "maxfun": _MAX_ITERATIONS,
        "maxls": 50,
    }
    return SciPy(f"scipy L-BFGS-B {history}", "L-BFGS-B", tuple(options.items()))


OWN: tuple[Own, ...] = (
    Own("copyreg", None),
    Own("copyreg newton", TrustRegionNewton(), max_d=512),
    Own("copyreg sketched", SketchedNewton(), max_d=512),
    Own("copyreg optax", Optax(optax.lbfgs())),
)
"""This package's solvers; "copyreg" is what a user gets who asks for none."""

PEERS: tuple[Method, ...] = (
    _lbfgsb(10),
    _lbfgsb(50),
    SciPy(
        "scipy Newton-CG",
        "Newton-CG",
        (("xtol", 0.0), ("maxiter", _MAX_ITERATIONS)),
        ("value_and_gradient", "hvp"),
    ),
    _trust("trust-ncg", "hvp"),
    _trust("trust-krylov", "hvp"),
    _trust("trust-exact", "hessian", _MAX_QUADRATIC_D, subproblem_maxiter=_SUBPROBLEM_ITERATIONS),
    Compiled("optax L-BFGS", "optax", optax_lbfgs),
    Compiled("jaxopt L-BFGS", "jaxopt", jaxopt_lbfgs),
    Compiled("optimistix BFGS", "optimistix", optimistix_bfgs, _MAX_QUADRATIC_D),
    Compiled("optimistix L-BFGS", "optimistix", optimistix_lbfgs),
    Torch(),
)


def version(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result
