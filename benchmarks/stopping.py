"""How far L is above its minimum where a run says CONVERGED, on instances of many kinds.

    python benchmarks/stopping.py [--instances 300] [--seed 0] [--out FILE]

Each instance is solved by the default solver at its default rtol, in float32 and in float64. The
minimum of the same basin is that of a float64 run from there with rtol = 1e-14, on the same data:
arrays in float32 are float64 arrays too. docs/theory/stopping.md has the rule.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import copyreg_jax as cr
from copyreg_jax.bench.tables import processor

jax.config.update("jax_enable_x64", True)
_ROWS = 30, 300, 3_000, 30_000
_COLUMNS = 3, 20
_TOLERANCES = {"float32": 1e-3, "float64": 1e-9}
"""What the relative excess must not be above, at the default rtol."""


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """The arrays of an instance, in float64; few shapes, so that few programs are compiled."""
    n, d = int(rng.choice(_ROWS)), int(rng.choice(_COLUMNS))
    A = rng.standard_normal((n, d))
    kind = str(rng.choice(["normal", "unit rows", "offset", "decaying columns"]))
    if kind == "unit rows":
        A /= np.linalg.norm(A, axis=1)[:, None]
    elif kind == "offset":
        A += rng.standard_normal(d)
    elif kind == "decaying columns":
        A *= 10.0 ** -np.linspace(0, 2, d)
    interpolates = bool(rng.random() < 0.4)
    if interpolates:  # b is a softmax of the rows, of the spread that attention has
        u = A @ rng.standard_normal(d)
        u *= rng.choice([1.0, 5.0, 20.0]) / max(np.abs(u).max(), 1e-30)
        b = np.exp(u - u.max())
        b /= b.sum()
    else:
        b = rng.dirichlet(np.full(n, rng.choice([0.05, 0.5, 5.0])))
    return {
        "A": A * 10.0 ** rng.uniform(-3, 3),
        "b": b,
        "protected": rng.permutation(n) < max(1, n // 10),
        "gamma": float(rng.choice([0, 10.0 ** rng.uniform(-6, -1)], p=[0.25, 0.75])),
        "w": 10.0 ** rng.uniform(-6, 0),
        "reading": str(rng.choice(["joint", "block"])),
        "metric": str(rng.choice(["squared", "cross-entropy"])),
        "kind": kind,
        "interpolates": interpolates,
    }


def build(drawn: dict[str, Any], dtype: str, exact: str) -> cr.CopyrightRegression:
    """The instance rounded to `dtype`, as arrays of `exact`."""
    numbers = (np.asarray(drawn[name], dtype).astype(exact) for name in ("A", "b", "gamma", "w"))
    A, b, gamma, w = numbers
    return cr.CopyrightRegression(
        A, b, drawn["protected"], gamma, w, drawn["reading"], drawn["metric"]
    )


def measure(drawn: dict[str, Any], dtype: str) -> dict[str, Any]:
    """One instance in one dtype: how the run ended, and its excess of L."""
    n, d = drawn["A"].shape
    row = {name: drawn[name] for name in ("kind", "interpolates", "gamma", "reading", "metric")}
    row |= {"dtype": dtype, "n": n, "d": d, "w": drawn["w"]}
    solution = cr.solve(build(drawn, dtype, dtype))
    exact = build(drawn, dtype, "float64")
    x = np.asarray(solution.x, np.float64)
    value = float(exact.value(x))
    best = min(
        cr.solve(exact, solver, x, rtol=1e-14).value
        for solver in (cr.NewtonCG(), cr.TrustRegionNewton())
    )
    row |= {"status": cr.Status(solution.status).name, "steps": int(solution.num_steps)}
    return row | {"value": value, "excess": max(value - best, 0.0) / best if best > 0 else math.nan}


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=300, help="Number of instances.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the instances.")
    parser.add_argument("--out", type=Path, help="JSON file for the results.")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    rows: list[dict[str, Any]] = []
    for number in range(args.instances):
        if number % 15 == 14:  # Linux allows a process only so many mappings for programs
            jax.clear_caches()
        drawn = draw(rng)
        for dtype, allowed in _TOLERANCES.items():
            row = {"instance": number, **measure(drawn, dtype)}
            rows.append(row)
            if row["status"] != "CONVERGED" or not row["excess"] <= allowed:
                print(json.dumps(row), flush=True)
    table = {}
    for dtype, allowed in _TOLERANCES.items():
        of = [row for row in rows if row["dtype"] == dtype]
        excess = np.array([row["excess"] for row in of if row["status"] == "CONVERGED"])
        table[dtype] = {
            "instances": len(of),
            "statuses": {s: sum(r["status"] == s for r in of) for s in {r["status"] for r in of}},
            "allowed": allowed,
            "above": int((~(excess <= allowed)).sum()),
            "median": float(np.median(excess)),
            "largest": float(excess.max()),
        }
    print(json.dumps(table, indent=1))
    if args.out:
        setup = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": processor(),
            "jax": jax.__version__,
            "seed": args.seed,
        }
        args.out.write_text(json.dumps({"setup": setup, "table": table, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
