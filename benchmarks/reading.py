"""Speed and memory of reading files, beside the libraries that a user would take by hand.

    python benchmarks/reading.py [--rows 1e7] [--columns 32] [--text-megabytes 1000] [--repeats 3]
                                 [--folder FOLDER] [--out FILE]

1. A Parquet file of float32 in row groups of a million rows becomes an instance folder, as by
   ``copyreg new``, with b and the protected rows from columns. Beside it: ``pyarrow.parquet``'s
   ``read_table``, one array of its columns, and ``numpy.save``. The numbers are in one column each
   ("columns"), or in one column of lists of equal length ("lists").
2. A file of svmlight text is read by `copyreg_jax.read_matrix`, and by scikit-learn's
   ``load_svmlight_file``; both give the same matrix.

Each run is a process of its own, the ways in turn; medians are over the repeats. Seconds are of the
clock, cpu_seconds of all threads, both without imports. Memory is the peak of RssAnon above that
before the run (Linux), sampled every 10 ms: all but pages of files, which the kernel can drop.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from peak_memory import run_alone

from report import report

_PROGRAM = """
import json, sys, time
from pathlib import Path
import numpy as np
from peak_memory import peak_memory
path, out = sys.argv[1:]
{imports}
with peak_memory() as peak:
    start, cpu = time.perf_counter(), time.process_time()
    {body}
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({{"seconds": seconds, "cpu_seconds": cpu,
                  "anonymous_megabytes": peak.added / 1e6}}))
"""

_NEW = (
    """
from copyreg_jax.instances.new_folder import plan_instance
from copyreg_jax.instances.readers import open_table
from copyreg_jax.instances.readers.row_tables import Choice
from copyreg_jax.instances.targets import FlagColumn, TargetColumn
import pyarrow.parquet, jax
jax.numpy.zeros(1).block_until_ready()
""",
    """
table = open_table(path, Choice(fields=("b", "protected")))
plan_instance(table, TargetColumn("b"), FlagColumn("protected"), 1e-3, 1e-3).write(Path(out))
""",
)

_PLAIN = (
    "import pyarrow.parquet as pq",
    """
table = pq.read_table(path)
if "x" in table.column_names:
    A = table["x"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
else:
    names = [name for name in table.column_names if name.startswith("x")]
    A = np.column_stack([table[name].to_numpy() for name in names])
Path(out).mkdir()
np.save(f"{out}/A.npy", A)
np.save(f"{out}/b.npy", table["b"].to_numpy())
np.save(f"{out}/protected.npy", table["protected"].to_numpy())
""",
)

_READ = (
    "import copyreg_jax as cr; cr.read_matrix; import pyarrow.csv",
    "A = cr.read_matrix(path, index_base=1)",
)

_SKLEARN = (
    "from sklearn.datasets import load_svmlight_file",
    "A, _ = load_svmlight_file(path, zero_based=False)",
)


def measure(way: tuple[str, str], path: Path, out: Path) -> dict[str, float]:
    """Run one way in a process of its own."""
    imports, body = way
    program = _PROGRAM.format(imports=imports, body=textwrap.indent(body, "    ").strip())
    return run_alone(program, path, out)


def compare(
    ways: dict[str, tuple[str, str]], path: Path, out: Path, repeats: int
) -> dict[str, dict[str, float]]:
    """Medians of each way, run in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            found[name].append(measure(way, path, out))
            shutil.rmtree(out, ignore_errors=True)
    return {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in found.items()
    }


def write_parquet(path: Path, n: int, d: int, layout: str) -> None:
    """Normal numbers, with b and the protected rows beside them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, n, 10**6):
        rows = min(10**6, n - start)
        A = rng.standard_normal((rows, d), np.float32)
        if layout == "lists":
            columns = {"x": pa.FixedSizeListArray.from_arrays(pa.array(A.reshape(-1)), d)}
        else:
            columns = {f"x{j}": pa.array(np.ascontiguousarray(A[:, j])) for j in range(d)}
        beside = {"b": rng.random(rows) / n, "protected": rng.random(rows) < 0.1}
        table = pa.table({**columns, **beside})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def write_svmlight(path: Path, megabytes: float) -> None:
    """Rows of 50 entries of 10,000 columns; the same 20 MB again and again."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(16_000):
        columns = np.sort(rng.choice(10_000, 50, replace=False)) + 1
        words = (
            f"{j}:{value!r}" for j, value in zip(columns, rng.random(50).tolist(), strict=True)
        )
        lines.append(f"{rng.integers(2)} {' '.join(words)}\n")
    content = "".join(lines).encode()
    with path.open("wb") as file:
        for _ in range(max(1, round(megabytes * 1e6 / len(content)))):
            file.write(content)


def main() -> None:
    """Measure, print, and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--text-megabytes", type=float, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write the files")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    n, d = int(options.rows), options.columns
    results: dict[str, Any] = {"rows": n, "columns": d, "repeats": options.repeats}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for layout in ("columns", "lists"):
            path = folder / "a.parquet"
            write_parquet(path, n, d, layout)
            ways = {"new": _NEW, "pyarrow and numpy": _PLAIN}
            found = compare(ways, path, folder / "out", options.repeats)
            results[f"parquet, {layout}"] = found | _ratios(found, *ways)
            path.unlink()
        path = folder / "a.svm"
        write_svmlight(path, options.text_megabytes)
        results["svmlight_megabytes"] = path.stat().st_size / 1e6
        ways = {"read_matrix": _READ, "scikit-learn": _SKLEARN}
        found = compare(ways, path, folder / "out", options.repeats)
        results["svmlight"] = found | _ratios(found, *ways)
    report(results, options.out)


def _ratios(found: dict[str, dict[str, float]], ours: str, theirs: str) -> dict[str, float]:
    """How many times as fast we are, by the clock and by the work."""
    keys = "seconds", "cpu_seconds"
    return {f"times_as_fast_by_{key}": found[theirs][key] / found[ours][key] for key in keys}


if __name__ == "__main__":
    main()
