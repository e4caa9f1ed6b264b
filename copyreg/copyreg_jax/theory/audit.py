"""Is it so? The paper's statements that can fail, and the bounds that replace them, under test.

A `Claim` has a measure of one instance and one point that must not exceed its limit. `audit` draws
thousands of random instances for each claim, climbs on the measure from many more, and reports the
worst it found: a violation comes with its instance, smallest shapes first, rounded to few digits.
Theorem 16 speaks of a global minimizer, so its counterexample is proved in ball arithmetic.
A round is a function of the seed.
"""

from __future__ import annotations

import functools
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb, ctx

from copyreg_jax.certify import proofs
from copyreg_jax.certify.arithmetic import ARITHMETIC, START_BITS, Balls, upper
from copyreg_jax.certify.certificate import to_instance
from copyreg_jax.certify.data import Instance
from copyreg_jax.errors import InputError, PrecisionError
from copyreg_jax.instances import load_instance, save_instance
from copyreg_jax.objective import READINGS
from copyreg_jax.problem import ENABLE_X64, CopyrightRegression
from copyreg_jax.theory.claims import CLAIMS, REPLACEMENTS, Claim, Sample, with_reading

_BATCH = 200
_STEP = 0.3


class Row(NamedTuple):
    """One line of the report.

    Attributes
    ----------
    where, says, reading : str
        The claim.
    verdict : str
        "holds" (no violation was found), "fails", "untested" (the measure was never a number), or
        "vacuous": a condition that no two float64 points meet.
    worst : float
        Largest measure found; for a bound that is its tightness, sup of actual / bound.
    scale : str
        What ``worst`` is: see `copyreg_jax.theory.claims.Claim`.
    num_random, num_climbed : int
        Instances drawn, and instances climbed from.
    counterexample : Counterexample or None
    """

    where: str
    says: str
    reading: str
    verdict: str
    worst: float
    scale: str
    num_random: int
    num_climbed: int
    counterexample: Counterexample | None

    @property
    def slack_log10(self) -> float | None:
        """How far a bound is from sharp: log10 of bound / actual; None for other claims."""
        if self.scale == "log10":
            return -self.worst
        return -math.log10(self.worst) if self.scale == "ratio" and self.worst > 0 else None


class Counterexample(NamedTuple):
    """An instance and a point that violate a claim."""

    name: str
    problem: CopyrightRegression
    x: np.ndarray

    def save(self, folder: str | Path) -> Path:
        """Write ``name.npz``: an instance file with x in it; returns its path."""
        path = Path(folder) / f"{self.name}.npz"
        save_instance(path, self.problem, self.x)
        return path


def counterexample(name: str) -> Counterexample:
    """A counterexample that is stored in the package.

    Parameters
    ----------
    name : str
        One of `stored_counterexamples`.

    Raises
    ------
    InputError
        There is none of that name.

    Examples
    --------
    >>> "theorem-16-joint" in stored_counterexamples()
    True
    """
    if name not in stored_counterexamples():
        raise InputError(
            f"no counterexample {name!r}; choose {', '.join(stored_counterexamples())}"
        )
    with resources.as_file(_FOLDER / f"{name}.npz") as path:
        return read_counterexample(path)


def stored_counterexamples() -> list[str]:
    """Names of the counterexamples that are stored in the package."""
    names = (file.name for file in _FOLDER.iterdir())
    return sorted(name.removesuffix(".npz") for name in names if name.endswith(".npz"))


def read_counterexample(path: str | Path) -> Counterexample:
    """Read a file that `Counterexample.save` wrote; `InputError` if it is none."""
    problem = load_instance(path)
    with np.load(path, allow_pickle=False) as file:
        if "x" not in file:
            raise InputError(f"{path} is an instance without a point x")
        x = np.asarray(file["x"])
    return Counterexample(Path(path).stem, problem, np.asarray(problem.point(x)))


_FOLDER = resources.files("copyreg_jax.theory") / "counterexamples"


NUM_PRINTED = len(CLAIMS) + len(READINGS)
"""How many rows of `audit` are about what the paper prints; they come first."""


def verdicts(rows: list[Row]) -> dict[str, str]:
    """One verdict per numbered statement of the paper, from the rows about what it prints.

    "holds", "fails", "holds under ...", or which of its parts fails.
    """
    said: dict[str, str] = {}
    for where in dict.fromkeys(row.where for row in rows[:NUM_PRINTED]):
        mine = [row for row in rows[:NUM_PRINTED] if row.where == where]
        failed = [row for row in mine if row.verdict == "fails"]
        if not failed:
            said[where] = mine[0].verdict
        elif len(failed) == len(mine):
            said[where] = "fails"
        elif len({row.says for row in mine}) == 1:
            held = [row.reading for row in mine if row.verdict != "fails"]
            said[where] = f"holds under {' and '.join(held)}"
        else:
            parts = dict.fromkeys(row.says for row in failed)
            said[where] = f"holds but for: {'; '.join(parts)}"
    return said


# The search.


def _draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A batch of free numbers, one row per instance (see `_decode`), and of masks."""
    n, d = shape
    free = rng.normal(size=(_BATCH, n * d + 3 * n + 2 * d + 2))
    free[:, -d - n :] *= np.exp(rng.uniform(-1, 1, size=(_BATCH, 1)))  # the target's, and x
    order = np.argsort(rng.random((_BATCH, n)), axis=1)
    return free, order < rng.integers(1, n, size=(_BATCH, 1))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decode(shape: tuple[int, int], target: str, free: Any, mask: Any, scale: Any) -> Sample:
    """The sample of these numbers: b on the simplex or in the ball, gamma in (0.001, 1).

    A, b and x are rounded to multiples of 1 / scale, which derivatives do not see.
    """
    n, d = shape
    ends = np.cumsum([n * d, n, n, d, 1, 1, n, d])[:-1]
    A, w, v, y, gamma, s, b, x = jnp.split(free, ends)

    def rounded(numbers: Any, scale: Any) -> Any:
        return numbers + jax.lax.stop_gradient(jnp.round(numbers * scale) / scale - numbers)

    if target == "ball":
        b = rounded(b / jnp.maximum(1, jnp.linalg.norm(b)), scale)
    else:
        b = rounded(jax.nn.softmax(2 * b), scale)
        b = b.at[-1].set(rounded(1 - jnp.sum(b[:-1]), scale))
    gamma = jnp.exp(jnp.log(1000.0) * (jax.nn.sigmoid(2 * gamma[0]) - 1))
    A = rounded(A.reshape(shape), scale)
    w = rounded(jnp.exp(0.5 * w), scale)
    problem = CopyrightRegression(A, b, mask, rounded(gamma, 100 * scale), w)
    return Sample(problem, rounded(x, scale), y, v, jax.nn.sigmoid(s[0]))


_NO_ROUNDING = 2.0**45


# Compiling takes a hundred times as long as running: the compiler shall not try hard.
@functools.partial(
    jax.jit,
    static_argnums=(0, 1, 2),
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
def _climb(
    measure: Any,
    shape: tuple[int, int],
    target: str,
    free: Any,
    mask: Any,
    num_steps: Any,
    scale: Any = _NO_ROUNDING,
) -> Any:
    """Best measures and numbers of a batch after this many steps of normalized ascent.

    Where ``num_steps`` is None there are none, and no gradient is compiled.
    """

    def height(free: Any, mask: Any) -> Any:
        value = measure(_decode(shape, target, free, mask, scale))
        return jnp.where(jnp.isnan(value), -jnp.inf, value)  # nothing was measured there

    if num_steps is None:
        return jax.vmap(height)(free, mask), free
    gradient = jax.vmap(jax.value_and_grad(height))

    def step(k: Any, carry: Any) -> Any:
        free, best, best_free = carry
        values, slopes = gradient(free, mask)
        is_better = values > best
        best = jnp.where(is_better, values, best)
        best_free = jnp.where(is_better[:, None], free, best_free)
        slopes = jnp.where(jnp.isfinite(slopes), slopes, 0)
        sizes = jnp.sqrt(jnp.sum(slopes**2, axis=1, keepdims=True))
        return free + _STEP / (1 + k / 50) * slopes / (sizes + 1e-300), best, best_free

    start = (free, jnp.full(mask.shape[0], -jnp.inf), free)
    return jax.lax.fori_loop(0, num_steps + 1, step, start)[1:]


class _Found(NamedTuple):
    worst: float
    num_random: int
    num_climbed: int
    at: tuple[np.ndarray, np.ndarray]


def _search(
    claim: Claim, shape: tuple[int, int], seed: Any, num_random: int, num_steps: int
) -> _Found:
    """The worst of a claim on one shape: draw, then climb from the worst and from others."""
    rng = np.random.default_rng(seed)
    compiled = functools.partial(_climb, claim.measure, shape, claim.target)
    batches, values = [], []
    for _ in range(-(-num_random // _BATCH)):
        free, mask = _draw(rng, shape)
        measured, _ = compiled(free, mask, 0 if claim.is_climbed else None)
        batches.append((free, mask))
        values.append(np.asarray(measured))
    measures = np.concatenate(values)
    best = np.argsort(measures)[::-1]
    # Half of the climbs start from the worst drawn, the other half anywhere.
    chosen = np.concatenate([best[: _BATCH // 2], best[_BATCH // 2 :: len(best) // _BATCH]])
    chosen = chosen[:_BATCH]
    free, mask = (np.concatenate(parts)[chosen] for parts in zip(*batches, strict=True))
    climbed, free = compiled(free, mask, num_steps if claim.is_climbed else None)
    k = int(np.argmax(np.asarray(climbed)))
    num_climbed = len(chosen) if claim.is_climbed else 0
    return _Found(float(climbed[k]), len(measures), num_climbed, (np.asarray(free[k]), mask[k]))


def _counterexample(claim: Claim, shape: tuple[int, int], found: _Found) -> Counterexample:
    """The instance found, with as few digits as leave most of the violation."""
    free, mask = (np.stack([part] * _BATCH) for part in found.at)
    for scale in (10.0, 100.0, 1000.0, _NO_ROUNDING):
        num_steps = 0 if claim.is_climbed else None
        measured, _ = _climb(claim.measure, shape, claim.target, free, mask, num_steps, scale)
        sample = _decode(shape, claim.target, free[0], mask[0], scale)
        is_inside = claim.target == "ball" or bool((sample.problem.b >= 0).all())
        if is_inside and measured[0] > max(claim.limit, 0.5 * found.worst):
            break
    problem = with_reading(claim.instance(sample), claim.reading)
    words = f"{claim.where} {claim.says} {claim.reading}".lower()
    name = claim.slug or re.sub(r"[^a-z0-9]+", "-", words)
    return Counterexample(name, problem, np.asarray(sample.x))


def _row(claim: Claim, seed: Any, num_random: int, num_steps: int) -> Row:
    """Search shape by shape until a violation is found."""
    total_random = total_climbed = 0
    worst = -math.inf
    for k, shape in enumerate(claim.shapes):
        found = _search(claim, shape, [*seed, k], num_random // len(claim.shapes), num_steps)
        worst = max(worst, found.worst)
        total_random += found.num_random
        total_climbed += found.num_climbed
        if found.worst > claim.limit:
            shown = _counterexample(claim, shape, found)
            return _make_row(claim, "fails", worst, total_random, total_climbed, shown)
    verdict = "holds"
    if worst == -math.inf:
        verdict = "untested"
    elif claim.scale == "distance" and worst < math.log10(5e-324):
        verdict = "vacuous"
    return _make_row(claim, verdict, worst, total_random, total_climbed, None)


def _make_row(claim: Claim, verdict: str, worst: float, *rest: Any) -> Row:
    return Row(claim.where, claim.says, claim.reading, verdict, worst, claim.scale, *rest)


# Theorem 16: a statement about the global minimizer, so one that is proved or refuted, not sampled.

_GRID = 801
EPS_2 = 0.1
"""The weakest form of Theorem 16: its eps_2 is "a scalar in (0, 0.1)", and ell_2(x*) <= eps_2."""


@functools.partial(jax.jit, static_argnums=0)
def _losses_at_minimum(
    reading: Any, A: Any, b: Any, mask: Any, gamma: Any, w: Any
) -> tuple[Any, Any, Any]:
    """ell_1, ell_2 and x at the best of a grid that spans every x with a smaller L, for d = 1."""

    def one(A: Any, b: Any, mask: Any, gamma: Any, w: Any) -> tuple[Any, Any, Any]:
        problem = CopyrightRegression(A, b, mask, gamma, w, reading)
        near = jnp.linspace(-3, 3, _GRID)
        start = jnp.min(jax.vmap(lambda x: problem.value(x[None]))(near))
        furthest = jnp.sqrt(2 * start) / jnp.linalg.norm(problem.w * A[:, 0])
        grid = jnp.linspace(-1, 1, _GRID) * furthest
        x = grid[jnp.argmin(jax.vmap(lambda x: problem.value(x[None]))(grid))][None]
        return problem.ell_1(x), problem.ell_2(x), x

    return jax.vmap(one)(A, b, mask, gamma, w)


def _theorem_16(reading: Any, seed: Any, num_random: int) -> Row:
    """Draw instances of one column, and prove that the theorem fails for one of the worst.

    At least three rows: with two and a b that sums to one, ell_1 = ell_2 and there is no margin.
    The family is narrow on purpose: all rows but one protected and b near uniform make ell_2 small,
    which is the theorem's hypothesis, so that few draws are lost.
    """
    rng = np.random.default_rng(seed)
    n = 3 if reading == "joint" else 4
    A = np.round(rng.normal(size=(num_random, n, 1)), 1)
    b = np.round(rng.dirichlet(np.full(n, 4.0), num_random), 1)
    b[:, -1] = np.round(1 - b[:, :-1].sum(axis=1), 1)
    mask = np.argsort(rng.random((num_random, n)), axis=1) < n - 1
    gamma = np.round(np.exp(rng.uniform(np.log(0.01), np.log(1), num_random)), 2)
    w = np.round(np.exp(rng.uniform(np.log(0.01), 0, num_random)), 2)
    arrays = (A, b, mask, gamma, w)
    ell_1, ell_2, x = (np.asarray(a) for a in _losses_at_minimum(reading, *arrays))
    n1 = mask.sum(axis=1)
    shortfall = np.sqrt(2 * gamma) / n1 - EPS_2 / (n - n1) - ell_1 / n1 + ell_2 / (n - n1)
    meets_hypothesis = (b >= 0).all(axis=1) & (ell_2 < EPS_2) & np.isfinite(ell_1)
    shortfall = np.where(meets_hypothesis, shortfall, -np.inf)
    shown, worst = None, float(shortfall.max())
    for k in np.argsort(shortfall)[::-1][:50]:
        if not shortfall[k] > 0:
            break
        problem = CopyrightRegression(A[k], b[k], mask[k], gamma[k], w[k], reading)
        if refute_theorem_16(problem, x[k]):
            shown, worst = Counterexample(f"theorem-16-{reading}", problem, x[k]), shortfall[k]
            break
    verdict = "fails" if shown is not None else "holds"
    says = "the minimizer is tau_c-protected"
    return Row("Theorem 16", says, reading, verdict, float(worst), "excess", num_random, 0, shown)


def refute_theorem_16(problem: CopyrightRegression, x: Any, *, max_intervals: int = 20_000) -> bool:
    """Prove that Theorem 16 fails for every global minimizer of an instance with d = 1.

    ``{L <= L(x)}`` lies in an interval, as ``0.5 ||w * A x||^2 <= L``. It is halved until each part
    is proved to have a larger L everywhere, or ``ell_2 < 0.1`` and ``ell_1/n1 < tau_c + ell_2/n2``
    everywhere, at eps_2 = 0.1; so the second is true of every minimizer. Ball arithmetic, 128 bits.

    Parameters
    ----------
    problem : CopyrightRegression
        One column, some ``w_i A_i1`` not zero.
    x : (1,) array
        A point with a small L.
    max_intervals : int
        When to give up.

    Returns
    -------
    bool
        True if it is proved; False if it is not, which proves nothing.

    Raises
    ------
    InputError
        d is not 1, or nothing is regularized.

    Examples
    --------
    >>> import jax
    >>> jax.config.update("jax_enable_x64", True)
    >>> refute_theorem_16(*counterexample("theorem-16-joint")[1:])
    True
    >>> jax.config.update("jax_enable_x64", False)
    """
    instance = to_instance(problem)
    if instance.d != 1:
        raise InputError(f"A has {instance.d} columns; the proof is for one")
    column = instance.A.rows(0, instance.n)[:, 0]
    with ARITHMETIC, ctx.workprec(START_BITS):
        pairs = zip(instance.w.tolist(), column.tolist(), strict=True)
        squares = [arb(w) * arb(a) * arb(w) * arb(a) for w, a in pairs]
        total = sum(squares, arb(0))
        if not total > 0:
            raise InputError("w * A is zero: the level sets of L are not bounded")
        level = upper(_at(instance, np.asarray(x, np.float64)).value)
        furthest = upper((2 * arb(level) / total).sqrt())
        parts = [(-furthest, furthest)]
        for _ in range(max_intervals):
            if not parts:
                return True
            low, high = parts.pop()
            middle = 0.5 * (low + high)
            if not _is_settled(instance, arb(low).union(arb(high)), level):
                parts += [(low, middle), (middle, high)]
    return False


def _at(instance: Instance, x: np.ndarray) -> proofs.View:
    return proofs.at_point(instance, Balls(START_BITS), x)


def _is_settled(instance: Instance, interval: arb, level: float) -> bool:
    """Whether no x in the interval has ``L <= level`` and the margin of Theorem 16."""
    point = _at(instance, np.array([interval], dtype=object))
    found = point.losses
    if point.value > level:
        return True
    # Near the barrier L has no finite ball, but gamma / ell_1 has a lower bound.
    largest = upper(found.ell_1)
    if math.isfinite(largest) and largest > 0 and arb(instance.gamma) / arb(largest) > level:
        return True
    tau_c = proofs.paper_tau(instance.n, instance.n1, instance.gamma, EPS_2)
    # The float 0.1 is above the number 0.1: that makes tau_c smaller, so the claim weaker.
    return bool(found.ell_2 < EPS_2 and found.margin < tau_c)


def audit(
    seed: int = 0,
    *,
    seconds: float = 0.0,
    num_random: int = 10_000,
    num_steps: int = 150,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Test the statements of the paper that can fail, and the bounds that replace some of them.

    Parameters
    ----------
    seed : int
        A round depends on it, and on nothing else.
    seconds : float, default 0
        After the first round, search on with new draws and longer climbs for this long; the round
        that is begun is finished.
    num_random, num_steps : int
        Instances drawn per claim, and steps of the 200 climbs that follow.
    progress : callable, optional
        Called with a line of words before each claim.

    Returns
    -------
    list of Row
        The paper's statements in their order, then what replaces them.

    Raises
    ------
    PrecisionError
        JAX's 64-bit mode is off.

    Notes
    -----
    "holds" means that the search found no violation; proofs are in docs/theory. About 40 seconds
    on two cores, most of them compiling.

    Examples
    --------
    `copyreg lemmas` prints the table.

    >>> import inspect
    >>> list(inspect.signature(audit).parameters)[:2]
    ['seed', 'seconds']
    """
    if jnp.result_type(float) != np.float64:
        raise PrecisionError(f"the audit needs float64; put {ENABLE_X64} before JAX's first use")
    rows: list[Row] = []
    end = math.inf
    for number, results in enumerate(_rounds(seed, num_random, num_steps, progress)):
        rows = (
            results if number == 0 else [_merge(*pair) for pair in zip(rows, results, strict=True)]
        )
        if number == 0:
            end = time.monotonic() + seconds
        if time.monotonic() >= end:
            break
    return rows


def _rounds(
    seed: int, num_random: int, num_steps: int, progress: Callable[[str], None] | None
) -> Iterator[list[Row]]:
    """Rounds of the whole table, each with other draws; the first four climb longer and longer."""
    number = 0
    claims = CLAIMS + REPLACEMENTS

    def search(k: int) -> Row:
        if k >= len(claims):
            return _theorem_16(READINGS[k - len(claims)], [seed, number, k], num_random)
        if progress is not None:
            progress(f"round {number + 1}: {claims[k].where}, {claims[k].says}")
        return _row(claims[k], [seed, number, k], num_random, num_steps * min(number + 1, 4))

    while True:
        # Most of the time is compiling, and that can be done beside each other.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            rows = list(pool.map(search, range(len(claims) + len(READINGS))))
        yield rows[: len(CLAIMS)] + rows[len(claims) :] + rows[len(CLAIMS) : len(claims)]
        number += 1


def _merge(old: Row, new: Row) -> Row:
    """One row of two searches: the first counterexample, the worse measure."""
    kept = new if old.counterexample is None and new.worst > old.worst else old
    return kept._replace(
        worst=max(old.worst, new.worst),
        num_random=old.num_random + new.num_random,
        num_climbed=old.num_climbed + new.num_climbed,
    )
