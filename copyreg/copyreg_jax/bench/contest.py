"""Measure, judge, compare; results as CSV.

A method has reached the tolerance if NumPy says so: the gradient at its answer, evaluated in
float64 on the host (`copyreg_jax.solvers.recheck`), is small enough. What it says itself does not
count. What fails stays in the table, with the reason.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from copyreg_jax.bench.oracle import Method, Oracle, Outcome, OutOfTimeError, Run, Task, Trace
from copyreg_jax.bench.peers import OWN, PEERS, version
from copyreg_jax.bench.suite import Instance
from copyreg_jax.bench.tables import (
    ERROR,
    MISSED,
    MISSING,
    NOT_TRIED,
    REACHED,
    TIME_LIMIT,
    Point,
    Row,
)
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.recheck import evaluate
from copyreg_jax.solvers.start import default_start

__all__ = [
    "FULL",
    "QUICK",
    "SAME_VALUE",
    "Comparison",
    "Report",
    "Settings",
    "compare",
    "geometric_mean",
    "judge",
    "measure",
    "start",
]

SAME_VALUE = 1e-9
"""Relative difference up to which two values of L count as the same minimum."""


class Comparison(NamedTuple):
    """One instance: our default against the fastest peer that reached the tolerance.

    ``ratio`` is the peer's seconds over ours; infinite if no peer reached it, zero if we did not.
    ``excess`` is ours; ``lowest`` names a method with the lowest value, ``all_same`` says whether
    all that reached the tolerance have that value.
    """

    instance: str
    seconds: float | None
    peer: str | None
    peer_seconds: float | None
    ratio: float
    excess: float | None
    lowest: str | None
    all_same: bool


class Settings(NamedTuple):
    """How much time `measure` takes, by its parameters of the same names."""

    limit: float
    repeats: int
    curves: tuple[str, ...]


QUICK = Settings(limit=2.0, repeats=3, curves=("embedded",))

FULL = Settings(
    limit=60.0,
    repeats=7,
    curves=("embeddings", "embeddings-small-w", "condition-1e4", "mnist-5k", "small-w-2000x64"),
)

Report: TypeAlias = Callable[[str], None]


def measure(
    instances: Iterable[Instance],
    methods: Sequence[Method] = (*OWN, *PEERS),
    *,
    rtol: float = 1e-8,
    limit: float = 10.0,
    repeats: int = 5,
    curves: Iterable[str] = (),
    seed: int = 0,
    report: Report = lambda _: None,
    finished: Callable[[list[Row]], None] = lambda _: None,
) -> tuple[list[Row], list[Point]]:
    """Every method on every instance.

    Parameters
    ----------
    instances : iterable of Instance
    methods : sequence of Method
    rtol : float
        ``|gradient| <= rtol (1 + |gradient at the start|)``, Euclidean norms, is asked for.
    limit : float
        Seconds for one run, and for all timed runs of one method on one instance.
    repeats : int
        Timed runs of each method, interleaved with those of the others in random order.
    curves : iterable of str
        Instances whose time-to-accuracy curves are wanted.
    seed : int
        Seed for the order of the runs.
    report : callable
        Told in a few words what is going on.
    finished : callable
        Told the rows of each instance as soon as they are there.

    Returns
    -------
    list of Row, list of Point

    Examples
    --------
    >>> problem = SoftmaxRegression([[1.0], [-1.0]], [0.8, 0.2])
    >>> class Stays:  # at the start, and says that it has arrived
    ...     name, package, max_d = "stays", "numpy", None
    ...     def prepare(self, task):
    ...         return 0.0, lambda trace: Outcome(task.x0, True, "done", 0, 0, 0)
    >>> instance = Instance("tiny", lambda: problem, quick=True, convex=True)
    >>> (row,), _ = measure([instance], [Stays()], repeats=1)
    >>> row.status, row.message, row.gradient_norm > row.tolerance
    ('missed', 'claims success: done', True)
    """
    wanted, rows, points = set(curves), list[Row](), list[Point]()
    for instance in instances:
        report(instance.name)
        try:
            problem = instance.make()
        except ModuleNotFoundError as error:
            name = str(error.name)
            new = [Row(instance.name, None, None, None, "", name, "", MISSING, message=str(error))]
        else:
            contest = _Contest(instance.name, problem, rtol, limit, report)
            contest.enter(methods)
            contest.repeat(repeats, np.random.default_rng(seed))
            new = contest.rows()
            if instance.name in wanted:
                points += contest.curves()
        rows += new
        finished(new)
    return rows, points


class _Entry:
    """A method on the instance at hand, and what has become of it."""

    def __init__(self, method: Method, row: Row) -> None:
        self.method, self.row = method, row
        self.run: Run | None = None
        self.seconds: list[float] = []


class _Contest:
    """All methods on one instance."""

    def __init__(
        self, name: str, problem: SoftmaxRegression, rtol: float, limit: float, report: Report
    ) -> None:
        # Instances of equal shapes would share compiled programs, and the later one look faster.
        jax.clear_caches()
        self._name, self._report = name, report
        x0 = start(problem)
        norm = evaluate(problem, x0).gradient_norm
        oracle = Oracle(problem, x0)
        self._task = Task(problem, x0, rtol, rtol * (1 + norm), limit, norm, oracle)
        self._entries: list[_Entry] = []

    def enter(self, methods: Iterable[Method]) -> None:
        """Compile each method and let it run once."""
        for method in methods:
            self._report(f"{self._name}: {method.name}")
            entry = _Entry(method, self._blank(method))
            self._entries.append(entry)
            problem = self._task.problem
            if not entry.row.version:
                missing = f"needs the package {method.package}: pip install it"
                entry.row = entry.row._replace(status=MISSING, message=missing)
            elif method.max_d is not None and problem.d > method.max_d:
                why = f"d x d numbers; tried up to d = {method.max_d}"
                entry.row = entry.row._replace(status=NOT_TRIED, message=why)
            else:
                self._first_run(entry)

    def _first_run(self, entry: _Entry) -> None:
        try:
            compile_seconds, run = entry.method.prepare(self._task)
        except Exception as error:  # whatever a peer raises is a result
            entry.row = entry.row._replace(status=ERROR, message=_in_words(error))
            return
        row, seconds = self._judged(entry.row, run)
        entry.row = row._replace(
            seconds=seconds, repeats=1, first_seconds=compile_seconds + seconds
        )
        if row.status == REACHED:
            entry.run = run

    def _judged(self, row: Row, run: Run) -> tuple[Row, float]:
        """One run and the judge's word on it; the seconds of the run alone."""
        begin = time.perf_counter()
        outcome: Outcome | None = None
        try:
            outcome = run(None)
            x, status, message = outcome.x, MISSED, outcome.message
        except OutOfTimeError as stop:
            x, status, message = stop.args[0], TIME_LIMIT, ""
        except Exception as error:
            x, status, message = self._task.x0, ERROR, _in_words(error)
        seconds = time.perf_counter() - begin
        norm, value = judge(self._task.problem, x)
        if status != ERROR and norm <= self._task.tolerance:
            status = REACHED
        elif outcome is not None and outcome.claim:
            message = f"claims success: {message}"
        row = row._replace(status=status, gradient_norm=norm, value=value, message=message)
        if outcome is not None:
            counts = outcome._asdict()
            for name in ("x", "claim", "message"):
                del counts[name]
            products = (
                outcome.values
                + outcome.gradients
                + 2 * outcome.hvps
                + self._task.problem.d * outcome.hessians
            )
            row = row._replace(**counts, products=products)
        return row, seconds

    def repeat(self, repeats: int, rng: np.random.Generator) -> None:
        """Timed runs of those who reached the tolerance, in an order drawn anew each round."""
        running = [entry for entry in self._entries if entry.run is not None]
        for i in range(repeats):
            self._report(f"{self._name}: round {i + 1} of {repeats}")
            for k in rng.permutation(len(running)):
                entry = running[k]
                if entry.run is None or sum(entry.seconds) > self._task.limit:
                    continue
                row, seconds = self._judged(entry.row, entry.run)
                if row.status == TIME_LIMIT:  # close to it, and now the machine was slower
                    entry.run = None
                    continue
                if row.status != REACHED:  # not what it did before: the failure counts
                    entry.row, entry.run = row._replace(seconds=seconds), None
                    continue
                entry.seconds.append(seconds)
                entry.row = row._replace(
                    seconds=statistics.median(entry.seconds), repeats=len(entry.seconds)
                )

    def rows(self) -> list[Row]:
        """The results, with the excess over the lowest value that was reached."""
        reached = [e.row.value for e in self._entries if e.row.status == REACHED]
        lowest = min((v for v in reached if v is not None), default=None)
        rows = []
        for row in (entry.row for entry in self._entries):
            excess = None
            if lowest is not None and row.value is not None:
                excess = (row.value - lowest) / max(abs(lowest), sys.float_info.min)
            rows.append(row._replace(excess=excess))
        return rows

    def curves(self) -> list[Point]:
        """One more run of each method that reached the tolerance, with its way there."""
        points = []
        for entry in self._entries:
            if entry.run is not None:
                self._report(f"{self._name}: curve of {entry.method.name}")
                trace: Trace = []
                with contextlib.suppress(OutOfTimeError):  # this run may be slower than those
                    entry.run(trace)
                points += [Point(self._name, entry.method.name, *pair) for pair in trace]
        return points

    def _blank(self, method: Method) -> Row:
        problem = self._task.problem
        n, d = problem.n, problem.d
        entries = int(getattr(problem.A, "nse", n * d))
        found = version(method.package) or ""
        return Row(
            self._name,
            n,
            d,
            entries,
            method.name,
            method.package,
            found,
            ERROR,
            tolerance=self._task.tolerance,
        )


def start(problem: SoftmaxRegression) -> np.ndarray:
    """Where all methods start: zero, or the default of `solve` if zero is on the barrier."""
    zero = np.zeros(problem.d)
    at_zero = evaluate(problem, zero)
    if np.isfinite(at_zero.value) and np.isfinite(at_zero.gradient_norm):
        return zero
    return np.asarray(default_start(problem)[0])


def judge(problem: SoftmaxRegression, x: Any) -> tuple[float, float]:
    """Gradient norm and value at an answer by NumPy; infinite for an answer that is not a point."""
    x = np.asarray(x)
    if x.shape != (problem.d,) or x.dtype.kind != "f" or not np.isfinite(x).all():
        return math.inf, math.inf
    jax.block_until_ready(problem)
    found = evaluate(problem, x)
    norm, value = found.gradient_norm, found.value
    return (math.inf if math.isnan(norm) else norm), (math.inf if math.isnan(value) else value)


def compare(rows: Iterable[Row]) -> list[Comparison]:
    """`Comparison` of each instance of the rows, in their order."""
    by_instance: dict[str, list[Row]] = {}
    for row in rows:
        if row.status != MISSING or row.method:
            by_instance.setdefault(row.instance, []).append(row)
    own_names, default = {method.name for method in OWN}, OWN[0].name
    comparisons = []
    for name, group in by_instance.items():
        reached = [row for row in group if row.status == REACHED]
        ours = next((row for row in reached if row.method == default), None)
        peers = [row for row in reached if row.method not in own_names]
        best = min(peers, key=lambda row: row.seconds or 0.0, default=None)
        lowest = min(reached, key=lambda row: row.value or 0.0, default=None)
        if ours is None:
            ratio = 0.0
        elif best is None:
            ratio = math.inf
        else:
            ratio = (best.seconds or 0.0) / (ours.seconds or math.nan)
        comparisons.append(
            Comparison(
                name,
                ours.seconds if ours else None,
                best.method if best else None,
                best.seconds if best else None,
                ratio,
                ours.excess if ours else None,
                lowest.method if lowest else None,
                all((row.excess or 0.0) <= SAME_VALUE for row in reached),
            )
        )
    return comparisons


def geometric_mean(comparisons: Iterable[Comparison]) -> float:
    """Geometric mean of the finite ratios; zero if one is zero, NaN without any.

    Examples
    --------
    >>> some = Comparison("a", 1.0, "b", 2.0, 2.0, 0.0, "b", True)
    >>> round(geometric_mean([some, some._replace(ratio=8.0), some._replace(ratio=math.inf)]), 6)
    4.0
    """
    ratios = [c.ratio for c in comparisons if math.isfinite(c.ratio)]
    if not ratios:
        return math.nan
    return math.exp(statistics.fmean(math.log(r) for r in ratios)) if min(ratios) > 0 else 0.0


def _in_words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")
