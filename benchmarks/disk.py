"""Time and memory of solving for an A that stays on disk, over its size.

    python benchmarks/disk.py [--gigabytes 1 3 20] [--columns 256] [--double] [--out FILE]

A is float32, written block by block as one .npy file and deleted after its turn. The problem is
float32, or float64 with --double. Each solve is a fresh process. It reports (Linux only) the peak
of the anonymous memory, RssAnon sampled every 10 ms, above that of the process before it opens the
problem: everything but the page cache, which the kernel gives up when it needs memory.
Seconds count everything: construction with its check for entries that are not finite, compilation,
solve, and the evaluation of the result on the host in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peak_memory import run_alone

from report import report

_ROWS = 1 << 15


def write_instance(folder: Path, n: int, d: int, dtype: Any, seed: int = 0) -> None:
    """Rows of one normal block, each copy of it with other signs, order and scales of the columns.

    b is the softmax at a known point, but three times that on the protected rows.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(d) / d**0.5
    block = rng.standard_normal((_ROWS, d), np.float32)
    A = np.lib.format.open_memmap(folder / "A.npy", "w+", np.float32, (n, d))
    u = np.empty(n)
    for start in range(0, n, _ROWS):
        count = min(_ROWS, n - start)
        turn = rng.choice([-1, 1], d) * rng.uniform(0.5, 1.5, d)
        rows = np.roll(block, rng.integers(d), axis=1)[:count] * turn.astype(np.float32)
        A[start : start + count], u[start : start + count] = rows, rows @ x
        A.flush()
    protected = rng.random(n) < 0.1
    b = np.exp(u - u.max()) * np.where(protected, 3.0, 1.0)
    arrays = {"b": b / b.sum(), "w": np.full(n, n**-0.5), "gamma": np.array(1e-3 / n)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.astype(dtype))
    np.save(folder / "protected.npy", protected)


# Prints the results of one solve as JSON.
_PROGRAM = """
import json, sys, time
import jax
jax.config.update("jax_enable_x64", sys.argv[2] == "float64")
import numpy as np
import copyreg_jax as cr
from peak_memory import peak_memory

@jax.tree_util.register_static
class Counted(cr.RowBlocks):
    reads = [0]
    def read(self, number):
        self.reads[0] += 1
        return super().read(number)

jax.block_until_ready(jax.numpy.zeros(1))
with peak_memory() as peak:
    start = time.perf_counter()
    load = lambda name: np.load(f"{sys.argv[1]}/{name}.npy")
    A = Counted(f"{sys.argv[1]}/A.npy")
    problem = cr.CopyrightRegression(
        A, *map(load, ("b", "protected", "gamma", "w")), metric="cross-entropy"
    )
    solution = cr.solve(problem)
    seconds = time.perf_counter() - start
print(json.dumps({
    "status": solution.status.name, "steps": int(solution.num_steps),
    "hvps": int(solution.num_hvps), "gradient_norm": float(solution.gradient_norm),
    "seconds": seconds, "passes": A.reads[0] / A.num_blocks,
    "seconds_per_pass": seconds * A.num_blocks / A.reads[0],
    "anonymous_gigabytes": peak.added / 1e9,
}))
"""


def main() -> None:
    """Measure, print, and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 3, 20])
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--double", action="store_true", help="a float64 problem")
    parser.add_argument("--folder", type=Path, help="where to write the instances")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    dtype, d = "float64" if options.double else "float32", options.columns
    rows: list[dict[str, Any]] = []
    for size in options.gigabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            n = int(size * 1e9) // (4 * d)
            write_instance(Path(name), n, d, dtype)
            found = run_alone(_PROGRAM, name, dtype)
        rows.append({"gigabytes": size, "n": n, "d": d, "dtype": dtype} | found)
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    results: dict[str, Any] = {"rows": rows}
    if len(rows) > 1:
        logs = np.log([[row["gigabytes"], row["seconds"], row["passes"]] for row in rows]).T
        results["slope"] = float(np.polyfit(logs[0], logs[1], 1)[0])
        results["slope_per_pass"] = float(np.polyfit(logs[0], logs[1] - logs[2], 1)[0])
        per_gigabyte, fixed = np.polyfit(
            [row["gigabytes"] for row in rows], [row["seconds"] for row in rows], 1
        )
        results |= {"seconds_per_gigabyte": float(per_gigabyte), "fixed_seconds": float(fixed)}
    report(results, options.out)


if __name__ == "__main__":
    main()
