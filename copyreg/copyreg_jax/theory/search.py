"""Is it so? The paper's statements that can fail, and the bounds that replace them, under test.

A `Claim` has a measure of one instance and one point that must not exceed its limit. `audit` draws
thousands of random instances for each claim, climbs on the measure from many more, and reports the
worst it found: a violation comes with its instance, smallest shapes first, rounded to few digits.
Theorem 16 speaks of a global minimizer, and what follows from convexity of where descent ends, so
their counterexamples are proved in ball arithmetic.
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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from copyreg_jax.errors import ENABLE_X64, PrecisionError
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.objective import READINGS
from copyreg_jax.theory.claims import CLAIMS, REPLACEMENTS, Claim, Sample, with_reading
from copyreg_jax.theory.counterexample import Counterexample
from copyreg_jax.theory.descent import descent_row
from copyreg_jax.theory.search_results import Row
from copyreg_jax.theory.theorem_16 import theorem_16

__all__ = ["NUM_PRINTED", "audit"]

_BATCH = 200

_STEP = 0.3

NUM_PRINTED = len(CLAIMS) + 1 + len(READINGS)
"""How many rows of `audit` are about what the paper prints; they come first."""


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


# Compiling takes a hundred times as long as running: the compiler need not try hard.
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
    ``copyreg lemmas`` prints the table.

    >>> import inspect
    >>> list(inspect.signature(audit).parameters)[:2]
    ['seed', 'seconds']
    """
    if jnp.result_type(float) != np.float64:
        raise PrecisionError(f"the search needs float64; put {ENABLE_X64} before JAX's first use")
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
    descent = descent_row()
    place = 1 + max(k for k, claim in enumerate(CLAIMS) if claim.where == descent.where)

    def search(k: int) -> Row:
        if k >= len(claims):
            return theorem_16(READINGS[k - len(claims)], [seed, number, k], num_random)
        if progress is not None:
            progress(f"round {number + 1}: {claims[k].where}, {claims[k].says}")
        return _row(claims[k], [seed, number, k], num_random, num_steps * min(number + 1, 4))

    while True:
        # Most of the time is compiling, and that can be done beside each other.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            rows = list(pool.map(search, range(len(claims) + len(READINGS))))
        printed, ours = rows[: len(CLAIMS)], rows[len(CLAIMS) : len(claims)]
        yield [*printed[:place], descent, *printed[place:], *rows[len(claims) :], *ours]
        descent = descent._replace(num_random=0)  # it draws nothing, so rounds add nothing to it
        number += 1


def _merge(old: Row, new: Row) -> Row:
    """One row of two searches: the first counterexample, the worse measure."""
    kept = new if old.counterexample is None and new.worst > old.worst else old
    return kept._replace(
        worst=max(old.worst, new.worst),
        num_random=old.num_random + new.num_random,
        num_climbed=old.num_climbed + new.num_climbed,
    )
