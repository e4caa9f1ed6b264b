"""Counts what sharded rows exchange: bytes per step, from the programs that XLA compiles.

    python benchmarks/scaling.py --out benchmarks/results/scaling-counts.json

Weak scaling on simulated devices: the rows per device are fixed, their number grows. Simulated
devices share the cores of one machine, so that seconds would say nothing; bytes are what a network
sees. They are those of the numbers that are summed over the devices; a ring of k devices sends
2 (k - 1) / k times as much from each.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

import copyreg_jax as cr
from copyreg_jax.solvers import preconditioner, steps

MOVES = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast"
SIZES = {"f64": 8, "f32": 4, "s64": 8, "s32": 4, "u32": 4, "pred": 1}
INSTRUCTION = re.compile(rf"= (.*?) ({MOVES})(?:-start)?\(")
ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")

_advance = jax.jit(steps.advance, static_argnames="solver")  # the steps without the look at the end


def exchanged(program: str) -> list[tuple[str, int, str]]:
    """Kind, bytes and origin of each collective operation of a compiled program."""
    found = []
    for line in program.splitlines():
        instruction = INSTRUCTION.search(line)
        if instruction and "replica_groups={{0}}" not in line:
            arrays = ARRAY.findall(instruction[1])
            size = sum(
                SIZES[t] * int(np.prod([int(k) for k in s.split(",") if k])) for t, s in arrays
            )
            origin = re.search(r'op_name="([^"]*)"', line)
            found.append((instruction[2], size, origin[1] if origin else ""))
    return found


def part_of(origin: str) -> str:
    """How often an operation of a step is executed, by where it stems from."""
    if "search_plane)/while/body" in origin:
        return "trial"
    return "product" if re.search(r"/while/body/(.*/)?while/body/shard_map", origin) else "step"


def measure(num_devices: int, n: int, d: int) -> dict[str, Any]:
    """Bytes exchanged by the parts of a run of `NewtonCG`, and by the whole run."""
    rng = np.random.default_rng(n + d)
    A = cr.ShardedRows(rng.normal(size=(n, d)), jax.devices()[:num_devices])
    problem = cr.CopyrightRegression(A, rng.dirichlet(np.full(n, 0.3)), n // 4, gamma=0.1, w=0.05)
    solver = cr.NewtonCG()
    kit = steps.precompute(problem, solver)
    lower = preconditioner.cholesky_jit.compiled.lower(A, problem.terms, np.dtype(np.float32))
    gram = exchanged(lower.compile().as_text())
    state = steps.initial_state_jit(problem, kit, None, 1e-10, solver)
    step = exchanged(_advance.lower(problem, kit, state, 100, 500, solver).compile().as_text())
    size = {"gram": sum(b for _, b, _ in gram), "step": 0, "product": 0, "trial": 0}
    for part in ("step", "product", "trial"):
        size[part] = sum(b for _, b, origin in step if part_of(origin) == part)
    solution = cr.solve(problem, solver).raise_for_status()
    run = {name: int(getattr(solution, f"num_{name}")) for name in ("steps", "hvps", "values")}
    trials = run["values"] - run["steps"]
    per_step = size["step"] + (size["product"] * run["hvps"] + size["trial"] * trials) / max(
        1, run["steps"]
    )
    return {
        "devices": num_devices,
        "n": n,
        "d": d,
        "bytes": size,
        "kinds": sorted({kind for kind, _, _ in gram + step}),
        "run": run,
        "bytes_per_step_of_the_run": round(per_step),
        "gradient_norm": solution.gradient_norm,
    }


def main() -> None:
    """Measure, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000, help="per device")
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", max(options.devices))
    jax.config.update("jax_enable_x64", True)
    d, k = options.columns, max(options.devices)
    cases = [(devices, devices * options.rows, d) for devices in options.devices]
    cases += [(k, 2 * k * options.rows, d), (k, k * options.rows, 2 * d)]
    results = []
    print(f"{'devices':>7} {'n':>8} {'d':>4} {'gram':>8} {'step':>6} {'product':>8} {'trial':>6}")
    for case in cases:
        results.append(measure(*case))
        shown = results[-1]["bytes"].values()
        print(
            "{:>7} {:>8} {:>4}".format(*case), "{:>8} {:>6} {:>8} {:>6}".format(*shown), flush=True
        )
    report = {
        "what": "bytes exchanged by NewtonCG with sharded rows, from the compiled programs",
        "jax": jax.__version__,
        "results": results,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
