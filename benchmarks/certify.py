"""Time and memory of certificates and of their checker, from 10^6 entries of A to 10^8.

    python benchmarks/certify.py [--sizes 1e6 1e7 1e8] [--out FILE]

Instances are dense, of 50 columns, written as a folder of .npy files and read block by block; 10^9
entries need 8 GB of disk. Each measurement is a fresh process with one thread for BLAS, and the
median of --repeats of them; the programs of one instance run in turn. Seconds are those of all
cores together, which another load on the machine changes least; `wall` is what a clock says.
Memory (Linux only) is the peak resident size above that of the process before the call, so above
the data if in memory (--in-memory). The claims `local` and `global` are made at minimizers, and
tried at a point that is none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from copyreg_jax.bench.tables import processor

_ROWS = 1 << 14


def write_instance(folder: Path, n: int, d: int, seed: int = 0) -> None:
    """A generated instance, block by block: b is f, but three times that on the protected rows."""
    rng = np.random.default_rng(seed)
    x = 0.3 * rng.standard_normal(d)
    A = np.lib.format.open_memmap(folder / "A.npy", "w+", np.float64, (n, d))
    u = np.empty(n)
    for start in range(0, n, _ROWS):
        block = rng.standard_normal((min(_ROWS, n - start), d))
        A[start : start + _ROWS], u[start : start + _ROWS] = block, block @ x
    A.flush()
    del A
    protected = rng.random(n) < 0.1
    b = np.exp(u - u.max()) * np.where(protected, 3.0, 1.0)
    arrays = {
        "b": b / b.sum(),
        "protected": protected,
        "w": np.full(n, 1e-3),
        "gamma": np.array(1e-9),
        "x": x,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


# Each measurement is one of these programs, in a process of its own. It prints seconds, bytes, and
# seconds of a clock.
_MEASURE = """
import re, sys, time
import numpy as np
# Not ru_maxrss, which a process inherits from its parent.
status = lambda: open("/proc/self/status").read()
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status())[1])
{imports}
open("/proc/self/clear_refs", "w").write("5")  # start the peak anew
before, start, cpu = peak(), time.perf_counter(), time.process_time()
{work}
print(time.process_time() - cpu, peak() - before, time.perf_counter() - start)
"""
_PROGRAMS = {
    "certify": (
        "import copyreg_jax as cr; cr.certify; x = np.load(sys.argv[1] + '/x.npy')",
        "cr.certify(sys.argv[1], x, local=False).save(sys.argv[1] + '/c.json')",
    ),
    "certify in memory": (
        "import jax; jax.config.update('jax_enable_x64', True); import copyreg_jax as cr\n"
        "load = lambda name: np.load(f'{sys.argv[1]}/{name}.npy')\n"
        "p = cr.CopyrightRegression(*map(load, ('A', 'b', 'protected', 'gamma', 'w')))\n"
        "x = load('x')",
        "cr.certify(p, x, local=False)",
    ),
    "check": (
        "from copyreg_jax.checker.check import check",
        "assert check(sys.argv[1] + '/c.json', sys.argv[1]).verdict.value == 0",
    ),
    "certify local": (
        "import copyreg_jax as cr; cr.certify; x = np.load(sys.argv[1] + '/x.npy')",
        "c = cr.certify(sys.argv[1], x, -1.0)\n"  # a margin that is reached
        "c.save(sys.argv[1] + '/c.json'); assert c.local",
    ),
    "certify local elsewhere": (
        "import copyreg_jax as cr; cr.certify; x = np.load(sys.argv[1] + '/x.npy') + 0.01",
        "assert not cr.certify(sys.argv[1], x).local",
    ),
}


def measure(programs: list[str], folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Of each program the median seconds, of all cores and of a clock, and the largest MB."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    runs: dict[str, list[list[float]]] = {program: [] for program in programs}
    for _ in range(repeats):
        for program in programs:
            imports, work = _PROGRAMS[program]
            source = _MEASURE.format(imports=imports, work=work)
            command = [sys.executable, "-c", source, str(folder)]
            found = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            runs[program].append([float(number) for number in found.stdout.split()])
    return {
        program: {
            "seconds": statistics.median(run[0] for run in found),
            "wall": statistics.median(run[2] for run in found),
            "megabytes": max(run[1] for run in found) / 1e6,
        }
        for program, found in runs.items()
    }


def relative_width(folder: Path) -> float:
    """Width of the margin's enclosure by its size, of the certificate in a folder."""
    bounds = json.loads((folder / "c.json").read_text())["bounds"]["margin"]
    low, high = map(float.fromhex, bounds)
    return (high - low) / abs(low)


def solved_instance(folder: Path, n: int, d: int) -> None:
    """An instance with a minimizer, for the claim `local`."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import copyreg_jax as cr

    rng = np.random.default_rng(0)
    b = rng.dirichlet(np.full(n, 0.1))
    problem = cr.CopyrightRegression(rng.normal(size=(n, d)), b, n // 10, gamma=1e-6, w=0.03)
    np.save(folder / "x.npy", np.asarray(cr.solve(problem).raise_for_status().x))
    for name in ("A", "b", "protected", "gamma", "w"):
        np.save(folder / f"{name}.npy", np.asarray(getattr(problem, name)))


def main() -> None:
    """Measure, print, and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="*", default=[1e6, 1e7, 1e8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--in-memory", type=float, nargs="*", default=[1e8])
    parser.add_argument("--local", type=int, nargs=2, action="append", metavar=("N", "D"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def add(programs: list[str], n: int, d: int, folder: Path, *, width: bool = False) -> None:
        for program, found in measure(programs, folder, options.repeats).items():
            row = {"program": program, "n": n, "d": d, **found}
            if width and program == "check":
                row["relative_width"] = relative_width(folder)
            rows.append(row)
            print(json.dumps(row), flush=True)

    for size in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder, n, d = Path(name), int(size) // 50, 50
            write_instance(folder, n, d)
            in_memory = ["certify in memory"] if size in options.in_memory else []
            add(["certify", "check", *in_memory], n, d, folder, width=True)
    for n, d in options.local or [(20_000, 50), (200_000, 50), (2_000_000, 50), (100_000, 200)]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            solved_instance(folder, n, d)
            add(["certify", "certify local", "check", "certify local elsewhere"], n, d, folder)
    if options.out is not None:
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "arguments": sys.argv[1:],
            "machine": f"{platform.system()} {processor()}",
        }
        about |= {"cores": os.cpu_count(), "python": platform.python_version()}
        about |= {"numpy": np.__version__}
        options.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
