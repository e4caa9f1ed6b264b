"""Derivatives against the products with A that they are made of, and the first solve of a process.

    python benchmarks/derivatives.py [--out FILE]

Dense 30,000 x 384 and 20,000 x 128, float64. Ratios of medians of interleaved runs: value and
gradient, and a Hessian-vector product, against ``A @ v`` then ``u @ A``; the Hessian against one
weighted Gram matrix ``(A^T diag(w)) A`` and against jax.hessian of L. The first solve, compilation
included, is that of a process of its own, 2000 x 64, beyond ``import jax``; the median of three.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from interleaved import medians

import copyreg_jax as cr
from copyreg_jax.problems import curvature, objective
from report import report

FIRST = """
import time
import jax
begin = time.perf_counter()
jax.config.update("jax_enable_x64", True)
import numpy as np, copyreg_jax as cr
rng = np.random.default_rng(0)
A, b = rng.standard_normal((2000, 64)), rng.dirichlet(np.full(2000, 0.1))
cr.solve(cr.CopyrightRegression(A, b, 200, 0.01, 1.0)).raise_for_status()
print(time.perf_counter() - begin)
"""


def milliseconds(
    ways: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]], repeats: int
) -> dict[str, float]:
    """Median milliseconds of each function, compiled, run in turn."""

    def ready(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[], Any]:
        compiled = jax.jit(function)
        return lambda: jax.block_until_ready(compiled(*arguments))

    calls = {name: ready(*way) for name, way in ways.items()}
    return {name: 1e3 * seconds for name, seconds in medians(calls, repeats).items()}


def ratios(n: int, d: int, repeats: int) -> dict[str, Any]:
    """All of them for one size."""
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((n, d)), rng.dirichlet(np.full(n, 0.1))
    problem = cr.CopyrightRegression(A, b, n // 10, 0.01, 1.0)
    x = jnp.asarray(rng.standard_normal(d) / d**0.5)
    u = problem.logits(x)
    slope = curvature.value_and_gradient(u, problem.terms)[1]
    at = curvature.curvature(u, problem.terms)
    _, operator = curvature.linearize(problem.A, at, slope)
    both = milliseconds(
        {
            "products": (lambda A, v, u: ((A @ v).sum(), u @ A), (problem.A, x, u)),
            "value and gradient": (lambda p, x: p.value_and_gradient(x), (problem, x)),
            "hvp": (curvature.apply, (problem.A, operator, x)),
        },
        10 * repeats,
    )
    second = milliseconds(
        {
            "gram": (lambda A, w: (A * w[:, None]).T @ A, (problem.A, problem.w)),
            "hessian": (lambda p, x: p.hessian(x), (problem, x)),
            "jax.hessian": (
                jax.hessian(lambda x, p: objective.value(p.A @ x, p.terms)),
                (x, problem),
            ),
        },
        repeats,
    )
    return {
        "size": [n, d],
        "milliseconds": both | second,
        "value and gradient / products": both["value and gradient"] / both["products"],
        "hvp / products": both["hvp"] / both["products"],
        "hessian / gram": second["hessian"] / second["gram"],
        "jax.hessian / hessian": second["jax.hessian"] / second["hessian"],
    }


def first_solve() -> float:
    """Seconds of the first solve beyond ``import jax``."""
    runs = [
        subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    return statistics.median(float(run.stdout) for run in runs)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results = {
        "first solve, seconds": first_solve(),
        "ratios": [ratios(n, d, options.repeats) for n, d in ((30_000, 384), (20_000, 128))],
    }
    report(results, options.out)


if __name__ == "__main__":
    main()
