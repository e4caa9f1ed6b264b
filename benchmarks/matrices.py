"""Products with a sparse A against SciPy's: `A @ v`, `u @ A`, and the same with 16 columns.

    python benchmarks/matrices.py [--repeats 25] [--out FILE]

Times are medians of calls that take turns; a ratio is this package's time by SciPy's. SciPy
multiplies CSR by v, and for `u @ A` the transpose of the same CSR. Both start with the vector where
they want it: in NumPy's memory, or on the device.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
import scipy.sparse

from copyreg_jax.bench.tables import processor
from copyreg_jax.matrices.sparse import SparseMatrix

_COLUMNS = 16


def power_law(rng: np.random.Generator) -> Any:
    """As of words in documents: 3824 x 28213, a million entries, columns by a power law."""
    n, d, draws = 3824, 28213, 1_150_000
    weights = 1 / (np.arange(d) + 10.0)
    columns = rng.permutation(d)[rng.choice(d, draws, p=weights / weights.sum())]
    return _from_entries(rng, rng.integers(0, n, draws), columns, (n, d))


def tall(rng: np.random.Generator) -> Any:
    """10^6 x 1000 with ten entries a row."""
    n, d = 1_000_000, 1000
    return _from_entries(rng, np.repeat(np.arange(n), 10), rng.integers(0, d, 10 * n), (n, d))


def uniform(rng: np.random.Generator) -> Any:
    """20000 x 500, five in a hundred entries."""
    return scipy.sparse.random_array((20_000, 500), density=0.05, format="csr", rng=rng)


MATRICES = {"power law": power_law, "tall": tall, "uniform": uniform}


def _from_entries(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> Any:
    A = scipy.sparse.csr_array((rng.random(len(rows)), (rows, columns)), shape=shape)
    A.sum_duplicates()
    return A


def alternate(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each way; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name, way in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(way())
            if repeat >= 2:  # compiled, and in cache
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure(host: Any, repeats: int) -> dict[str, Any]:
    """Ratios and SciPy's milliseconds, by product."""
    (n, d), rng = host.shape, np.random.default_rng(1)
    A = SparseMatrix.from_scipy(host)
    forward, transposed = jax.jit(lambda A, v: A @ v), jax.jit(lambda A, u: u @ A)
    found = {}
    for label, k in (("", ()), (f", {_COLUMNS} columns", (_COLUMNS,))):
        v, u = (rng.normal(size=(m, *k)).astype(host.dtype) for m in (d, n))
        on_device, left = jnp.asarray(v), jnp.asarray(u.T)
        for name, ours, scipys in (
            ("A @ v", lambda x=on_device: forward(A, x), lambda x=v: host @ x),
            ("u @ A", lambda x=left: transposed(A, x), lambda x=u: host.T @ x),
        ):
            times = alternate({"ours": ours, "scipy": scipys}, repeats if not k else 7)
            found[name + label] = {
                "ratio": round(times["ours"] / times["scipy"], 2),
                "scipy_ms": round(1e3 * times["scipy"], 3),
            }
    return found


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results: dict[str, Any] = {}
    for name, make in MATRICES.items():
        host = make(np.random.default_rng(0))
        results[name] = {"shape": host.shape, "entries": int(host.nnz)}
        for dtype in ("float64", "float32"):
            found = measure(host.astype(dtype), options.repeats)
            results[name][dtype] = found
            for product, numbers in found.items():
                print(f"{name:10} {dtype} {product:18} {numbers['ratio']:6.2f} x SciPy")
    if options.out:
        machine = {
            "date": datetime.date.today().isoformat(),
            "device": jax.devices()[0].platform,
            "cores": os.cpu_count(),
            "machine": processor(),
            "python": platform.python_version(),
            "jax": jax.__version__,
            "scipy": scipy.__version__,
        }
        text = json.dumps({"machine": machine, "results": results}, indent=1)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
