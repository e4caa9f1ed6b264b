"""The proved global minimum against two independent proofs: a grid in integers, and near-ties.

    python benchmarks/global_truth.py --grid 250 [--out F]
    python benchmarks/global_truth.py --ties 10000 [--out F]

**Grid.** The instances of one column of global_counts.py. tests/certificates/integer_oracle.py
proves the least L on a grid with bounds of the slope, in integers; its tolerance and our gap are
both 1e-8. A result is false if the two intervals do not meet, if no cell that is left meets an
enclosure, or if `upper` is below L at the best point.

**Near-ties.** L is even where rows come in pairs +-a with equal b, w and protection, beside rows of
zeros. Then b is tilted by up to 2e-9 in one pair; one problem in nine is left even. d is 1, or 2 in
every fifth problem; readings and metrics go round, and so does the gap, 1e-6 and 1e-12. Those whose
curvature at zero is positive are left out. The truth is found by Newton's method in balls of 256
bits, on the definitions of tests/checker/definition.py. It starts from the ends of L-BFGS-B, and
from the point of the result and its mirror image, which may be lower. A result is false if

- `lower` is above L at one of the minimizers, or `upper` below L at the best point,
- a minimizer that is not proved to be higher than another one is in no enclosure,
- its margin or protected mass is out of the bounds, or the direction is another,
- `lower` of its enclosure is above L there, or
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
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from flint import ctx
from global_counts import KINDS, Objective, instances
from global_minimum import search
from scipy import optimize
from tests.certificates.integer_oracle import least
from tests.certificates.true_minimizers import (
    BITS,
    Minimizer,
    faults,
    is_upper_too_low,
    with_ends,
)
from tests.checker.definition import Case

from copyreg_jax.certificates import global_search
from report import report

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
            clusters.append(_num_clusters(truth.cells))
            unproved += found.status.name != "PROVED"
            if truth.contradicts(found) or is_upper_too_low(case, found):
                false.append(i)
    return {
        "false": false,
        "unproved": unproved,
        "cells, median and most": [float(np.median(cells)), max(cells)],
        "one cluster of cells": clusters.count(1),
        "seconds": spent,
    }


def _num_clusters(cells: list[tuple[Fraction, Fraction]]) -> int:
    """Cells that share an end are in one cluster."""
    return len({p for p, _ in cells} - {q for _, q in cells})


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
    return with_ends([], case, [objective.x(z) for z in ends])


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
            truth = with_ends(truth, case, [found.x, -found.x])
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
