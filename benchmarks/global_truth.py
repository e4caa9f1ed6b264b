"""The proved global minimum against two independent proofs: a grid in integers, and near-ties.

    python benchmarks/global_truth.py --grid 250 [--out F]
    python benchmarks/global_truth.py --ties 10000 [--out F]

**Grid.** The instances of one column of global_counts.py. tests/certificates/integer_oracle.py
proves the least L on a grid with bounds of the slope, in integers; its tolerance and our gap are
both 1e-8. A result is false if the two intervals do not meet, if a single cluster of cells meets
no enclosure, or if `upper` is below L at the best point.

**Near-ties.** L is even where rows come in pairs +-a with equal b, w and protection, beside rows of
zeros. Then b is tilted by up to 2e-9 in one pair; one problem in nine is left even. d is 1, or 2 in
every fifth problem; readings and metrics go round, and so does the gap, 1e-6 and 1e-12. Those whose
curvature at zero is positive are left out. The truth is found by Newton's method in balls of 256
bits, on the definitions of tests/checker/definition.py. It starts from the ends of L-BFGS-B, and
from the point of the result and its mirror image, which may be lower. A result is false if

- `lower` is above L at one of the minimizers, or `upper` below L at the best point,
- a minimizer that is not proved to be higher than another one is in no enclosure,
- its margin or protected mass is out of the bounds, or the direction is another, or
- an enclosure that is said to be unique has two minimizers in it.

The search starts from 4 descents here, not from 48, so that most of the time goes into boxes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from flint import arb, arb_mat, ctx
from global_counts import KINDS, Objective, instances
from global_minimum import search
from scipy import optimize
from tests.certificates.integer_oracle import least
from tests.checker.definition import Case, Exact, derivatives, exact

import copyreg_jax as cr
from copyreg_jax.certificates import global_search
from report import report

BITS = 256
_EXCESS = 1e-8


def grid(number: int) -> dict[str, Any]:
    """Compare instances of one column with the grid."""
    false, unproved, cells, clusters = [], 0, [], []
    spent = {"search": 0.0, "grid": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instance.npz"
        for i, _, case in instances(1, iter(range(number))):
            np.savez(path, **case._asdict())
            found, seconds = search(path, 60, gap=_EXCESS)
            started = time.process_time()
            truth = least(case, _EXCESS)
            spent["search"] += seconds
            spent["grid"] += time.process_time() - started
            cells.append(truth.num_cells)
            groups = _clusters(truth.cells)
            clusters.append(len(groups))
            unproved += found.status.name != "PROVED"
            apart = Fraction(found.lower) > truth.high or Fraction(found.upper) < truth.low
            if apart or not _meets(found, groups) or _too_low(case, found):
                false.append(i)
    return {
        "false": false,
        "unproved": unproved,
        "cells, median and most": [float(np.median(cells)), max(cells)],
        "one cluster of cells": clusters.count(1),
        "seconds": spent,
    }


def _clusters(cells: list[tuple[Fraction, Fraction]]) -> list[tuple[Fraction, Fraction]]:
    found: list[tuple[Fraction, Fraction]] = []
    for p, q in sorted(cells):
        if found and found[-1][1] == p:
            found[-1] = found[-1][0], q
        else:
            found.append((p, q))
    return found


def _meets(found: cr.GlobalMinimum, groups: list[tuple[Fraction, Fraction]]) -> bool:
    """All minimizers are in the groups and in the enclosures, so one of each must meet."""
    return any(
        p <= Fraction(float(e.x[0] + e.radius[0])) and q >= Fraction(float(e.x[0] - e.radius[0]))
        for p, q in groups
        for e in found.minimizers
    )


def _too_low(case: Case, found: cr.GlobalMinimum) -> bool:
    with ctx.workprec(BITS):
        return bool(exact(case, found.x.tolist()).value > arb(found.upper))


class Minimizer(NamedTuple):
    """A local minimizer, to 60 digits, and all that is said of it."""

    x: list[Any]
    at: Exact


def tie(rng: np.random.Generator, d: int, reading: str, metric: str, *, even: bool) -> Case:
    """An even problem, or nearly so."""
    pairs, zeros = int(rng.integers(d, d + 3)), int(rng.integers(0, 4))
    zeros += 2 if pairs == 1 else 0
    a = rng.normal(size=(pairs, d))
    A = np.concatenate([a, -a, np.zeros((zeros, d))])
    share = rng.dirichlet(np.full(pairs + zeros, 1.0))
    b = np.concatenate([share[:pairs] / 2, share[:pairs] / 2, share[pairs:]])
    own = rng.random(pairs + zeros) < 0.5
    own[0] = True
    own[-1] = False
    w = 10 ** rng.uniform(-3, -1.2)
    if not even:
        tilt = float(rng.uniform(-2e-9, 2e-9))
        b[0], b[pairs] = b[0] + tilt, b[pairs] - tilt
    protected = np.concatenate([own[:pairs], own])
    gamma = float(10 ** (rng.uniform(-3, -0.3) if metric == "squared" else rng.uniform(-1.5, 0.5)))
    return Case(A, b, protected, np.full(len(b), w), gamma, reading, metric)


def bends_down_at_zero(case: Case) -> bool:
    """Whether zero is no minimizer, in floats; those of an even L are in pairs then."""
    objective, d = Objective(case), case.A.shape[1]
    columns = [objective(1e-4 * e)[1] - objective(-1e-4 * e)[1] for e in np.eye(d)]
    return bool(np.linalg.eigvalsh(np.array(columns) + np.array(columns).T)[0] < 0)


def minimizers(case: Case, rng: np.random.Generator) -> list[Minimizer]:
    """Those that descents find and whose values are within 1e-6, the least first in floats."""
    objective, d = Objective(case), case.A.shape[1]
    options = {"ftol": 1e-15, "gtol": 1e-11}
    z = rng.standard_normal((8, d)) * 10.0 ** rng.uniform(-0.5, 1.5, (8, 1))
    runs = [
        optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        for start in np.concatenate([z, -z])
    ]
    best = min(run.fun for run in runs)
    ends: list[np.ndarray] = []
    for run in runs:
        near = run.fun <= best + 1e-6 * abs(best)
        if near and all(np.abs(run.x - end).max() > 1e-3 * np.abs(end).max() for end in ends):
            ends.append(run.x)
    return _with([], case, [objective.x(z) for z in ends])


def _with(found: list[Minimizer], case: Case, ends: list[np.ndarray]) -> list[Minimizer]:
    """Minimizers, and those that are near other points."""
    found = list(found)
    for each in (_polished(case, x) for x in ends):
        if each is not None and all(_distance(each, other) > 1e-12 for other in found):
            found.append(each)
    return found


def _distance(one: Minimizer, other: Minimizer) -> float:
    with ctx.workprec(BITS):
        return max(abs(float(v - w)) for v, w in zip(one.x, other.x, strict=True))


def _polished(case: Case, start: np.ndarray) -> Minimizer | None:
    """Newton's method in balls, whose radii are dropped after each step; None off a minimizer."""
    with ctx.workprec(BITS):
        x = [arb(v) for v in start.tolist()]
        for _ in range(8):
            slope, H = derivatives(case, x)
            step = H.solve(arb_mat([[v] for v in slope]))
            x = [(v - s).mid() for v, s in zip(x, step.entries(), strict=True)]
        slope, H = derivatives(case, x)
        is_least = bool(H[0, 0] > 0) and bool(H.det() > 0)
        if not is_least or not all(abs(v) < arb(10) ** -60 for v in slope):
            return None
        return Minimizer(x, exact(case, x))


def faults(case: Case, found: cr.GlobalMinimum, truth: list[Minimizer]) -> list[str]:
    """What a result says that is not so."""
    wrong = ["upper"] * _too_low(case, found)
    with ctx.workprec(BITS):
        for m in truth:
            if m.at.value < arb(found.lower):
                wrong.append("lower")
            if any(m.at.value > other.at.value for other in truth):
                continue
            if not any(_inside(m, e) for e in found.minimizers):
                wrong.append("a minimizer is in no enclosure")
            bounds = (m.at.margin, found.margin), (m.at.protected_mass, _mass(found))
            if any(v < arb(lower) or v > arb(upper) for v, (lower, upper) in bounds):
                wrong.append("margin or mass")
            off = m.at.protected_mass - m.at.target_mass
            if (found.direction, bool(off > 0)) in {("amplified", False), ("suppressed", True)}:
                wrong.append("direction")
        for e in found.minimizers:
            if e.is_unique and sum(_inside(m, e) for m in truth) > 1:
                wrong.append("not unique")
    return wrong


def _mass(found: cr.GlobalMinimum) -> tuple[float, float]:
    masses = [e.protected_mass for e in found.minimizers]
    return min(m.lower for m in masses), max(m.upper for m in masses)


def _inside(m: Minimizer, e: cr.Enclosure) -> bool:
    pairs = zip(m.x, e.x.tolist(), e.radius.tolist(), strict=True)
    return not any(bool(abs(v - arb(x)) > arb(r)) for v, x, r in pairs)


def ties(number: int, seed: int) -> Iterator[dict[str, Any]]:
    """Search near-ties, and compare the results with the truth; reports, each of 500 more."""
    false: list[Any] = []
    counts = {"d = 1": 0, "d = 2": 0, "even": 0, "both enclosed": 0, "one, unique": 0}
    unproved, apart, boxes, spent = 0, [], 0, 0.0
    done, i = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instance.npz"
        while done < number:
            i += 1
            rng = np.random.default_rng([seed, i])
            d, even = 1 + (done % 5 == 0), done % 9 == 1
            case = tie(rng, d, *KINDS[done // 10 % 4], even=even)
            truth = minimizers(case, rng) if bends_down_at_zero(case) else []
            if len(truth) < 2:
                continue
            np.savez(path, **case._asdict())
            gap = 1e-6 if done % 2 else 1e-12
            found, seconds = search(path, 60, gap=gap)
            spent += seconds
            boxes += found.num_boxes
            unproved += found.status.name != "PROVED"
            truth = _with(truth, case, [found.x, -found.x])
            wrong = faults(case, found, truth)
            if wrong:
                false.append([i, wrong])
            with ctx.workprec(BITS):
                values = [m.at.value for m in truth]
                apart.append(max(abs(float(v - values[0])) for v in values))
            counts[f"d = {d}"] += 1
            counts["even"] += even
            counts["both enclosed"] += len(found.minimizers) > 1
            counts["one, unique"] += len(found.minimizers) == 1 and found.minimizers[0].is_unique
            done += 1
            if done % 500 == 0 or done == number:
                yield {
                    "done": done,
                    "false": false,
                    "unproved": unproved,
                    "drawn": i,
                    **counts,
                    "values apart, quartiles": np.quantile(apart, [0.25, 0.5, 0.75]).tolist(),
                    "boxes": boxes,
                    "seconds": spent,
                }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=int, default=0)
    parser.add_argument("--ties", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.grid:
        report({"settings": {"grid": options.grid}, **grid(options.grid)}, options.out)
    if options.ties:
        global_search._NUM_STARTS, global_search._STEPS = 4, 12
        settings = {"ties": options.ties, "seed": options.seed}
        for found in ties(options.ties, options.seed):
            report({"settings": settings, **found}, options.out)


if __name__ == "__main__":
    main()
