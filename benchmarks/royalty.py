"""Exact royalty shares of regressions: all coalitions in one batch, against one after the other.

    python benchmarks/royalty.py [--owners 10] [--sample 16] [--repeats 3] [--out FILE]

2,000 rows, 64 columns, each row of one of the owners at random, every model to the default
tolerance. The batch includes the solve from which it starts, and the shares. The
others are a sample of the coalitions, scaled up: by `copyreg_jax.solve` as it is, and by
`copyreg_jax.solve` started from the solution with all rows, too. All runs are warm, interleaved,
and the medians of --repeats; worths must agree to 1e-6 bits.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from interleaved import medians

import copyreg_jax as cr
from copyreg_jax.neighbours.coalitions import Table
from copyreg_jax.neighbours.retraining import Retraining
from copyreg_jax.neighbours.royalty import royalties
from report import report


def measure(metric: Any, num_owners: int, sample: int, repeats: int) -> dict[str, Any]:
    """Seconds for all coalitions, and by how much worths differ."""
    n, d = 2_000, 64
    rng = np.random.default_rng(0)
    w = 0.1 if metric == "cross-entropy" else 0.05
    A, b = rng.standard_normal((n, d)), rng.dirichlet(np.full(n, 0.1))
    problem = cr.SoftmaxRegression(A, b, w, metric=metric)
    owners, size = rng.integers(0, num_owners, n), 1 << num_owners
    rows = np.linspace(1, size - 1, sample).astype(int)
    # Names are in the order of first rows; bits are those of that order.
    order = [int(name) for name in Retraining(problem, owners).owners]
    place = np.argsort(order)
    masks = [(row >> place[owners] & 1) == 0 for row in rows]
    x_all = cr.solve(problem).x

    def batch() -> Table:
        table = Retraining(problem, owners).table()
        royalties(table)
        return table

    def one_by_one(x0: Any = None) -> list[Any]:
        problems = [cr.LeaveOutRegression.of(problem, mask) for mask in masks]
        return [cr.solve(p, x0=x0).x for p in problems]

    seconds = medians(
        {"batch": batch, "one by one": one_by_one, "from all rows": lambda: one_by_one(x_all)},
        repeats,
    )
    for name in ("one by one", "from all rows"):
        seconds[name] *= size / sample
    worths = [float(b @ np.log2(np.asarray(problem.f(x)))) for x in one_by_one()]
    return {
        "coalitions": size,
        "seconds": seconds,
        "ratio": seconds["one by one"] / seconds["batch"],
        "ratio from all rows": seconds["from all rows"] / seconds["batch"],
        "largest difference in bits": float(np.abs(batch().lower[rows] - worths).max()),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--owners", type=int, default=10)
    parser.add_argument("--sample", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results = {
        "load before": os.getloadavg()[0],
        **{
            metric: measure(metric, options.owners, options.sample, options.repeats)
            for metric in ("cross-entropy", "squared")
        },
    }
    report(results, options.out)


if __name__ == "__main__":
    main()
