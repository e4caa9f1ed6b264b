"""Memory that a problem, a solve and a certificate need beside the caller's A.

    python benchmarks/in_memory.py [--rows 2000000] [--columns 50] [--out FILE]

A is float64 and dense: an array of NumPy, which a problem copies, one of JAX, or that of an
instance file. Each kind is a fresh process. It reports (Linux only) the most anonymous memory above
that before the problem is made, in sizes of A: once the problem is there, after the solve, and
after the certificate; and how much of it is the first solve of a small problem, for the compiler.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from peak_memory import run_alone

from report import report

_PROGRAM = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import copyreg_jax as cr
from peak_memory import peak_memory

kind, file, n, d = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
with peak_memory() as peak:
    cr.solve(cr.CopyrightRegression(rng.standard_normal((70, d)), np.full(70, 1 / 70), 7, 1e-3))
compiler = peak.added
key = jax.random.key(0)
A = jax.random.normal(key, (n, d)) if kind == "jax" else rng.standard_normal((n, d))
b = rng.exponential(size=n)
arguments = b / b.sum(), n // 10, 1e-9, 1e-3
if kind == "file":
    cr.save_instance(file, cr.CopyrightRegression(A, *arguments))
    del A
size, found = 8 * n * d, {}
with peak_memory() as peak:
    problem = cr.load_instance(file) if kind == "file" else cr.CopyrightRegression(A, *arguments)
    found["problem"] = (peak.most - peak.before) / size
    solution = cr.solve(problem)
    found["solve"] = (peak.most - peak.before) / size
    certificate = cr.certify(problem, solution.x)
found["certificate"] = peak.added / size
found |= {"compiler": compiler / size, "status": solution.status.name}
print(json.dumps(found | {"verdict": certificate.verdict.name}))
"""


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
        kinds = {kind: run_alone(_PROGRAM, kind, file, *sizes) for kind in ("numpy", "jax", "file")}
    report({"rows": sizes[0], "columns": sizes[1]} | kinds, options.out)


if __name__ == "__main__":
    main()
