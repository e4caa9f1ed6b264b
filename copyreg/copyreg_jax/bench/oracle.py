"""What a method is given: a compiled objective that counts, stops and keeps time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float

from copyreg_jax.problems import curvature
from copyreg_jax.problems.curvature import Curvature
from copyreg_jax.problems.objective import Point, Scalar
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = [
    "AIM",
    "CALIBRATION",
    "FIRST_ITERATIONS",
    "MAX_ITERATIONS",
    "START_NORM_COMPILED",
    "START_NORM_ON_HOST",
    "WORTH_A_RESTART",
    "GoodEnoughError",
    "Method",
    "Oracle",
    "OutOfTimeError",
    "Outcome",
    "Run",
    "Task",
    "Trace",
    "elapsed",
    "standstill",
]

AIM = 0.9
"""Share of the tolerance at which peers stop, so that the judge's rounding fails none of them."""

MAX_ITERATIONS = 1_000_000

FIRST_ITERATIONS, CALIBRATION = 8, 0.5

# Peers compare curvatures and gradients with absolute constants, so L is scaled for them: to these
# norms of the gradient at the start, with which each kind did best.
START_NORM_ON_HOST, START_NORM_COMPILED = 100.0, 1.0

_MAX_REJECTED = 40

WORTH_A_RESTART = 0.9

Trace: TypeAlias = list[tuple[float, float]]
"""Seconds since the start, and the gradient norm that was known by then."""


class OutOfTimeError(Exception):
    """Ends a peer within its loop."""


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
    return curvature.curvature(problem.logits(x), problem.terms)


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
                cold, warm = (elapsed(lambda: function(*arguments))[0] for _ in range(2))  # noqa: B023
                self._compile_seconds[name] = max(cold - warm, 0.0)
        return sum(self._compile_seconds[name] for name in names)

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        self.check_time()
        value, gradient = _value_and_gradient(self._problem, x)
        return self.seen(x, float(value), np.asarray(gradient))

    def seen(self, x: np.ndarray, value: float, host: np.ndarray) -> tuple[float, np.ndarray]:
        """Take note of L and its gradient at x; return them scaled."""
        self.num_gradients += 1
        norm = float(np.linalg.norm(host))
        if norm < self.norm:
            self.x, self.norm = np.array(x), norm
        if self._trace is not None:
            self._trace.append((time.perf_counter() - self._begin, norm))
        if norm <= self._aim:
            raise GoodEnoughError
        return self._scale * value, self._scale * host

    def hvp(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        self.check_time()
        if self._at_x is None or not np.array_equal(x, self._at_x):
            self._at, self._at_x = _curvature(self._problem, x), np.array(x)
        self.num_hvps += 1
        return self._scale * np.asarray(_hvp(self._problem, self._at, v))

    def hessian(self, x: np.ndarray) -> np.ndarray:
        self.check_time()
        self.num_hessians += 1
        return self._scale * np.asarray(_hessian(self._problem, x))

    def check_time(self) -> None:
        """End a peer that has had its time."""
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


def standstill() -> Callable[[np.ndarray], None]:
    """A callback that ends a trust-region method after too many rejected steps in a row."""
    last, repeats = np.empty(0), 0

    def callback(xk: np.ndarray) -> None:
        nonlocal last, repeats
        repeats = repeats + 1 if np.array_equal(xk, last) else 0
        last = np.array(xk)
        if repeats > _MAX_REJECTED:
            raise StopIteration

    return callback


def elapsed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and its result."""
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result
