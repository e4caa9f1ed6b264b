"""Memory that a problem, a solve and a certificate need beside the caller's A.

    python benchmarks/in_memory.py [--rows 2000000] [--columns 50] [--out FILE]

A is float64 and dense: an array of NumPy, which a problem copies, one of JAX, or that of an
instance file, where all of it counts. Each kind is a fresh process. It reports (Linux only) the
most anonymous memory above that before the problem is made, in sizes of A: once the problem is
there, after the solve, and after the certificate; and, before all that, what the first solve of a
small problem takes, for the compiler.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from peak_memory import run_alone

from report import report

_INSTANCE = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import copyreg_jax as cr

kind, file, n, d = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
b = rng.exponential(size=n)
others = b / b.sum(), n // 10, 1e-9, 1e-3
A = None
if kind == "jax":
    A = jax.block_until_ready(jax.random.normal(jax.random.key(0), (n, d)))
elif kind != "file":
    A = rng.standard_normal((n, d))
"""

_WRITE = (
    _INSTANCE
    + """
cr.save_instance(file, cr.CopyrightRegression(A, *others))
print("null")
"""
)

_SOLVE = (
    _INSTANCE
    + """
import json
from peak_memory import peak_memory

small = cr.CopyrightRegression(rng.standard_normal((70, d)), np.full(70, 1 / 70), 7, 1e-3)
with peak_memory() as peak:
    cr.solve(small)
size, found = 8 * n * d, {"compiler": peak.added / (8 * n * d)}
with peak_memory() as peak:
    problem = cr.load_instance(file) if A is None else cr.CopyrightRegression(A, *others)
    found["problem"] = (peak.most - peak.before) / size
    solution = cr.solve(problem)
    found["solve"] = (peak.most - peak.before) / size
    cr.certify(problem, solution.x)
print(json.dumps(found | {"certificate": peak.added / size, "status": solution.status.name}))
"""
)


def main() -> None:
    """Measure, print, and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = options.rows, options.columns
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "instance.npz"
        run_alone(_WRITE, "write", file, *sizes)
        kinds = {kind: run_alone(_SOLVE, kind, file, *sizes) for kind in ("numpy", "jax", "file")}
    report({"rows": sizes[0], "columns": sizes[1]} | kinds, options.out)


if __name__ == "__main__":
    main()
