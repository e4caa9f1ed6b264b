"""Many problems at once: 10,000 tiny ones, and many right-hand sides for one A.

    python benchmarks/many.py [--tiny 10000] [--sides 256] [--out FILE]

Tiny: n = 64, d = 8, all different. Against SciPy's L-BFGS-B in a Python loop with a compiled
gradient (a sample of them, scaled up) and, if installed, jaxopt's L-BFGS under jax.vmap. Sides:
20,000 x 128, as many b; against `copyreg_jax.solve` one by one (a sample, scaled up). All runs are
warm, interleaved, and the medians of --repeats; answers must have gradients of at most
1e-8 (1 + |gradient at 0|).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from interleaved import medians

import copyreg_jax as cr
from report import report

RTOL = 1e-8

OWN_RTOL = RTOL / 10
"""That of ours, which is taken by the size of the gradient's terms: some ten times 1 + |gradient at
0| for the tiny ones."""


@jax.jit
def value_and_gradient(problem: cr.CopyrightRegression, x: Any) -> Any:
    """L and its gradient, compiled once for all problems of these shapes."""
    return problem.value_and_gradient(x)


def share_reached(batch: Any, axes: Any, X: Any, d: int) -> float:
    """Share of the answers whose gradient is small enough."""
    norms = jax.jit(
        jax.vmap(lambda p, x: jnp.linalg.norm(p.value_and_gradient(x)[1]), in_axes=(axes, 0))
    )
    start = norms(batch, jnp.zeros((len(X), d)))
    return float(jnp.mean(norms(batch, jnp.asarray(X)) <= RTOL * (1 + start)))


def tiny(size: int, sample: int, repeats: int) -> dict[str, Any]:
    """Many small problems, all different."""
    n, d = 64, 8
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((size, n, d)), rng.dirichlet(np.full(n, 0.3), size=size)
    make = jax.vmap(lambda A, b: cr.CopyrightRegression(A, b, n // 4, 0.1, 0.5))
    batch = make(A, b)
    some = [
        jax.tree_util.tree_map(lambda leaf, k=k: leaf[k], batch) for k in range(min(sample, size))
    ]
    zeros = np.zeros((size, d))

    def loop() -> list[np.ndarray]:
        found = []
        for problem in some:

            def fun(x: np.ndarray, problem: Any = problem) -> tuple[float, np.ndarray]:
                value, gradient = value_and_gradient(problem, x)
                return float(value), np.asarray(gradient)

            options = {"ftol": 0.0, "gtol": RTOL / 2, "maxcor": 10}
            result = scipy.optimize.minimize(
                fun, np.zeros(d), jac=True, method="L-BFGS-B", options=options
            )
            found.append(result.x)
        return found

    def one_thread() -> list[np.ndarray]:
        try:  # SciPy's loop is several times slower if BLAS wakes up a second thread
            import threadpoolctl
        except ModuleNotFoundError:
            return loop()
        with threadpoolctl.threadpool_limits(1, "blas"):
            return loop()

    ways: dict[str, Callable[[], Any]] = {
        "copyreg": lambda: jax.block_until_ready(cr.solve_many(batch, x0=zeros, rtol=OWN_RTOL).x),
        "scipy loop": one_thread,
    }
    try:
        import jaxopt
    except ModuleNotFoundError:
        print("jaxopt is not installed: left out")
    else:

        def run(problem: Any) -> Any:
            solver = jaxopt.LBFGS(
                problem.value_and_gradient, value_and_grad=True, tol=RTOL / 2,
                maxiter=500, history_size=10,
            )  # fmt: skip
            return solver.run(jnp.zeros(d)).params

        vmapped = jax.jit(jax.vmap(run))
        ways["jaxopt vmap"] = lambda: jax.block_until_ready(vmapped(batch))
    seconds = medians(ways, repeats)
    scale = size / len(some)
    result: dict[str, Any] = {
        "size": size,
        "seconds": seconds | {"scipy loop": seconds["scipy loop"] * scale},
        "reached": share_reached(batch, 0, ways["copyreg"](), d),
    }
    result["scipy ratio"] = result["seconds"]["scipy loop"] / seconds["copyreg"]
    if "jaxopt vmap" in seconds:
        result["jaxopt ratio"] = seconds["jaxopt vmap"] / seconds["copyreg"]
        result["reached by jaxopt"] = share_reached(batch, 0, ways["jaxopt vmap"](), d)
    return result


def sides(size: int, sample: int, repeats: int) -> dict[str, Any]:
    """Many right-hand sides for one A."""
    n, d = 20_000, 128
    rng = np.random.default_rng(0)
    A = jnp.asarray(rng.standard_normal((n, d)))
    w, protected = jnp.full(n, 1.0), rng.permutation(n) < n // 10
    mask = jnp.asarray(protected)
    problems = [
        cr.CopyrightRegression(A, rng.dirichlet(np.full(n, 0.1)), mask, 0.01, w)
        for _ in range(size)
    ]
    X0 = np.zeros((size, d))

    def one_by_one() -> list[Any]:
        return [cr.solve(p, x0=np.zeros(d), rtol=RTOL).x for p in problems[:sample]]

    ways: dict[str, Callable[[], Any]] = {
        "copyreg": lambda: jax.block_until_ready(cr.solve_many(problems, x0=X0, rtol=RTOL).x),
        "one by one": one_by_one,
    }
    seconds = medians(ways, repeats)
    seconds["one by one"] *= size / sample
    status = np.asarray(cr.solve_many(problems, x0=X0, rtol=RTOL).status)
    return {
        "size": size,
        "seconds": seconds,
        "ratio": seconds["one by one"] / seconds["copyreg"],
        "reached": float(np.mean(status == cr.Status.CONVERGED)),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", type=int, default=10_000)
    parser.add_argument("--sides", type=int, default=256)
    parser.add_argument("--sample", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results = {
        "tiny": tiny(options.tiny, 2 * options.sample, options.repeats),
        "sides": sides(options.sides, options.sample, options.repeats),
    }
    report(results, options.out)


if __name__ == "__main__":
    main()
