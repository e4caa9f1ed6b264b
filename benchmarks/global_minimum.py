"""The proved global minimum: boxes, CPU seconds and gaps.

    python benchmarks/global_minimum.py --d 5 [--instances 100] [--seconds 60] [--out F]
    python benchmarks/global_minimum.py --example [--seconds 60] [--out F]
    python benchmarks/global_minimum.py --check [--instances 20] [--seconds 30] [--out F]

Instances are random: n rows from 4 to 30 and more than d, b from a Dirichlet distribution, w from
1e-4 to 0.3, gamma from 1e-4 to 1, both on logarithmic scales. L is then hardly ever convex. Seconds
are those of the processor, in one thread, and the limit is one of them too. global_counts.py has
the large counts, global_truth.py other proofs, and global_peers.py other solvers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import copyreg_jax as cr
from copyreg_jax.certificates import global_search
from copyreg_jax.checker.chart import chart
from copyreg_jax.checker.data import Instance, make_instance, read_instance
from report import report

_EXCESS = 1e-6


def draw(rng: np.random.Generator, d: int, reading: str, metric: str) -> dict[str, Any]:
    """The arrays of one instance."""
    n = int(rng.integers(max(4, d + 1), 31))
    A, b = rng.normal(size=(n, d)), rng.dirichlet(np.full(n, 0.3))
    n1 = int(rng.integers(2 if reading == "block" else 1, n - 1))
    gamma, w = 10 ** rng.uniform(-4, 0), 10 ** rng.uniform(-4, np.log10(0.3))
    return {
        "A": A,
        "b": b,
        "protected": np.arange(n) < n1,
        "w": np.full(n, w),
        "gamma": np.array(gamma),
        "reading": reading,
        "metric": metric,
    }


def search(path: Path, seconds: float, **limits: Any) -> tuple[cr.GlobalMinimum, float]:
    """The result, and the CPU seconds that it took."""
    start = time.process_time()
    found = cr.minimize_globally(
        path,
        max_boxes=10**9,
        callback=lambda _: time.process_time() - start > seconds,
        **limits,
    )
    return found, time.process_time() - start


def descents(data: Instance, rng: np.random.Generator, number: int = 200) -> float:
    """The least value at the ends of Newton's method from random starts."""
    coordinates = chart(data)
    sizes = 10.0 ** rng.uniform(-5, 0.5, (number, 1))
    with np.errstate(all="ignore"):
        _, values = global_search.descend(
            coordinates, rng.standard_normal((number, coordinates.d)) * sizes
        )
    return float(np.nanmin(values))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure instances of one d."""
    rng, rows = np.random.default_rng(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.instances):
            arrays = draw(rng, options.d, options.reading, options.metric)
            path = Path(folder) / "instance.npz"
            np.savez(path, **arrays)
            found, seconds = search(path, options.seconds)
            data = make_instance(**arrays)
            least = descents(data, np.random.default_rng(number))
            row = {
                "n": data.n,
                "gamma": data.gamma,
                "w": float(data.w[0]),
                "status": found.status.name,
                "seconds": seconds,
                "boxes": found.num_boxes,
                "lower": found.lower,
                "upper": found.upper,
                "minimizers": len(found.minimizers),
                "contradicted": bool(least < found.lower),
                "missed_by_descents": bool(least > found.upper * (1 + _EXCESS)),
            }
            rows.append(row)
            print(number, row["status"], f"{seconds:.2f} s", file=sys.stderr, flush=True)
    return {"rows": rows}


def example(seconds: float) -> dict[str, Any]:
    """The bound for the embedded example at gamma = 0.01 and w = 0.001, in 48 columns."""
    import jax

    from copyreg_jax.checker.arithmetic import lower
    from copyreg_jax.checker.theorems import least_loss

    jax.config.update("jax_enable_x64", True)
    problem = cr.example_instance().replace(gamma=0.01, w=0.001)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instance.npz"
        cr.save_instance(path, problem)
        found, took = search(path, seconds)
        return {
            "lower": found.lower,
            "upper": found.upper,
            "level_set_alone": lower(least_loss(read_instance(path))),
            "boxes": found.num_boxes,
            "seconds": took,
        }


def checks(options: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of the search, the maker and the checker in 2, 3 and 4 columns, and file sizes.

    Of the checker's, those for the bounds of the leaves are measured too.
    """
    from unittest import mock

    from copyreg_jax.checker import box_replay
    from copyreg_jax.checker.global_check import check_global

    rows, bounds, look = [], 0.0, box_replay.look

    def timed(*arguments: Any) -> Any:
        nonlocal bounds
        start = time.process_time()
        found = look(*arguments)
        bounds += time.process_time() - start
        return found

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(box_replay, "look", timed):
        path, file = Path(folder) / "instance.npz", Path(folder) / "global.json"
        for d in (2, 3, 4):
            rng = np.random.default_rng(options.seed)
            for _ in range(options.instances if d < 4 else max(1, options.instances // 5)):
                np.savez(path, **draw(rng, d, options.reading, options.metric))
                found, seconds = search(path, options.seconds)
                start = time.process_time()
                certificate = found.certificate()
                certificate.save(file)
                made, bounds = time.process_time(), 0.0
                verdict = check_global(file, path).verdict.name
                row = {
                    "d": d,
                    "status": certificate.status,
                    "boxes": certificate.num_boxes,
                    "open": certificate.num_open,
                    "bytes": file.stat().st_size,
                    "search": seconds,
                    "make": made - start,
                    "check": time.process_time() - made,
                    "leaves": bounds,
                    "verdict": verdict,
                }
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    return {"rows": rows}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, default=2)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0, help="of one search, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reading", default="joint")
    parser.add_argument("--metric", default="squared")
    parser.add_argument("--example", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.example:
        used, result = ["example", "seconds"], example(options.seconds)
    elif options.check:
        used = ["instances", "seconds", "seed", "reading", "metric"]
        result = checks(options)
    else:
        used = ["d", "instances", "seconds", "seed", "reading", "metric"]
        result = run(options)
    settings = {name: getattr(options, name) for name in used}
    report({"settings": settings, **result}, options.out)


if __name__ == "__main__":
    main()
