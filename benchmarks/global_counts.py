"""A thousand non-convex instances: how many are PROVED in how many CPU seconds, and are they right.

    python benchmarks/global_counts.py --d 3 [--instances 250] --out FOLDER
    python benchmarks/global_counts.py --table --out FOLDER

Instance i of a d is drawn anew from (d, i, try) until L is shown not to be convex, and its reading
and metric go round with i: n rows from 4 to 30 and more than d, b from a Dirichlet distribution, w
from 1e-4 to 0.3 and gamma from 1e-4 to 1, both on logarithmic scales. *Not convex* means that a
point y with L(y) < L(0) was found where L curves down along a line. The points are the least of
random ones and stretches between them; both statements are proved in balls of 128 bits by
tests/checker/definition.py, which shares nothing with the search.

Each is searched for 10 CPU seconds at most, 60 for d = 4, to a gap of 1e-6. Against it stand 200
runs of SciPy's L-BFGS-B on L and its gradient in NumPy, below; L at the least of their ends is
enclosed in balls. It contradicts the search if it is below ``lower``. Rows are written one at a
time to FOLDER/d3.jsonl, and a run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from flint import arb, arb_series, ctx
from global_minimum import draw, search
from scipy import optimize
from tests.checker.definition import Case, exact

from copyreg_jax.bench.tables import processor

KINDS = list(itertools.product(("joint", "block"), ("squared", "cross-entropy")))
BITS = 128
_GAP = 1e-6
_SAMPLES = 256
_STARTS = 200


class Objective:
    """L and its gradient in NumPy, in coordinates z in which logits of |z| = 1 are about one."""

    def __init__(self, case: Case) -> None:
        self.case = case
        R = np.linalg.qr(case.w[:, None] * case.A, mode="r")
        B = np.linalg.solve(R.T, case.A.T).T
        self.to_x = np.linalg.inv(R) / np.abs(B).max()
        self.B, self.weight = case.A @ self.to_x, case.w**2
        self.half = 0.5 if case.metric == "squared" else 1.0

    def _loss(
        self, u: np.ndarray, rows: np.ndarray, counted: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """The loss of the counted rows, with the softmax over `rows`, and its slopes in u."""
        z = np.where(rows, u - u[rows].max(), -np.inf)
        total = np.exp(z).sum()
        f, b = np.exp(z) / total, self.case.b
        if self.case.metric == "squared":
            off = np.where(counted, f - b, 0.0)
            return float(off @ off), 2 * f * (off - off @ f)
        own = np.where(counted, b, 0.0)
        return float(-(own @ np.where(counted, z - np.log(total), 0.0))), f * own.sum() - own

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """L at a z, and its gradient; 1e300 where ell_1 vanishes."""
        case, u = self.case, self.B @ z
        everything = np.ones(len(u), bool)
        ell, slope = self._loss(u, everything, everything)
        own = case.protected if case.reading == "block" else everything
        ell_1, slope_1 = self._loss(u, own, case.protected)
        wu = self.weight * u
        if ell_1 == 0:
            return 1e300, np.zeros_like(z)
        value = self.half * ell + case.gamma / ell_1 + 0.5 * (wu @ u)
        return value, self.B.T @ (self.half * slope - case.gamma / ell_1**2 * slope_1 + wu)

    def x(self, z: np.ndarray) -> np.ndarray:
        return self.to_x @ z


def starts(rng: np.random.Generator, number: int, d: int) -> np.ndarray:
    """Random z of all sizes."""
    return rng.standard_normal((number, d)) * 10.0 ** rng.uniform(-2, 2.5, (number, 1))


def descents(objective: Objective, rng: np.random.Generator, d: int) -> list[np.ndarray]:
    """The x at the ends of L-BFGS-B from random starts, the least first."""
    options = {"maxiter": 500, "ftol": 1e-15, "gtol": 1e-10}
    runs = [
        optimize.minimize(objective, z, jac=True, method="L-BFGS-B", options=options)
        for z in starts(rng, _STARTS, d)
    ]
    return [objective.x(run.x) for run in sorted(runs, key=lambda run: run.fun)]


def bends_down(case: Case, objective: Objective, rng: np.random.Generator) -> bool:
    """Whether a point below L(0) is found at which L curves down along a line, proved in balls."""
    d = case.A.shape[1]
    least = objective(np.zeros(d))[0]
    points = starts(rng, _SAMPLES, d)
    points = np.concatenate([points * t for t in (1.0, 0.3, 0.1)])
    values = np.array([objective(z)[0] for z in points])
    for z in points[np.argsort(values)][: int((values < least).sum())]:
        step = 1e-4 * max(1.0, float(np.abs(z).max()))
        columns = [objective(z + e)[1] - objective(z - e)[1] for e in step * np.eye(d)]
        H = np.array(columns) / (2 * step)
        slopes, vectors = np.linalg.eigh(0.5 * (H + H.T))
        if slopes[0] < 0 and _curvature(case, objective.x(z), objective.x(vectors[:, 0])):
            return True
    return False


def _curvature(case: Case, x: np.ndarray, direction: np.ndarray) -> bool:
    with ctx.workprec(BITS):
        line = [arb_series([p, v], 3) for p, v in zip(x.tolist(), direction.tolist(), strict=True)]
        at = exact(case, line).value
        below = exact(case, [arb(0)] * len(x)).value
        return bool(at[2] < 0) and bool(at[0] < below)


def instances(d: int, numbers: Iterator[int]) -> Iterator[tuple[int, int, Case]]:
    """(i, tries, instance) that are not convex."""
    for i in numbers:
        for attempt in itertools.count():
            rng = np.random.default_rng([d, i, attempt])
            case = Case(**draw(rng, d, *KINDS[i % 4]))
            case = case._replace(gamma=float(case.gamma))
            if bends_down(case, Objective(case), rng):
                yield i, attempt + 1, case
                break


def measure(case: Case, seconds: float, seed: int, path: Path) -> dict[str, Any]:
    """Search one instance, and run the descents against it."""
    np.savez(path, **case._asdict())
    found, took = search(path, seconds, gap=_GAP)
    started = time.process_time()
    ends = descents(Objective(case), np.random.default_rng([seed]), case.A.shape[1])
    with ctx.workprec(BITS):
        values = [exact(case, x.tolist()).value for x in ends[:3]]
        below = [bool(v < arb(found.lower)) for v in values]
        missed = all(bool(v > arb(found.upper) * (1 + arb(1e-6))) for v in values)
        least = min(float(v.mid()) for v in values)
    return {
        "n": len(case.b),
        "n1": int(case.protected.sum()),
        "gamma": case.gamma,
        "w": float(case.w[0]),
        "status": found.status.name,
        "seconds": round(took, 3),
        "boxes": found.num_boxes,
        "lower": found.lower,
        "upper": found.upper,
        "enclosures": len(found.minimizers),
        "unique": len(found.minimizers) == 1 and found.minimizers[0].is_unique,
        "direction": found.direction,
        "descents": least,
        "contradicted": any(below),
        "missed_by_descents": missed,
        "descents_seconds": round(time.process_time() - started, 2),
    }


def run(options: argparse.Namespace) -> None:
    """Measure the instances of one d that have no row yet."""
    file = options.out / f"d{options.d}.jsonl"
    done = {row["i"] for row in _rows(file)}
    seconds = 60.0 if options.d >= 4 else 10.0
    left = (i for i in range(options.instances) if i not in done)
    if not done:
        settings = {"d": options.d, "gap": _GAP, "seconds": seconds, "starts": _STARTS}
        machine = f"{processor()}, {os.cpu_count()} cores, NumPy {np.__version__}"
        head = {"date": datetime.date.today().isoformat(), "machine": machine, "settings": settings}
        file.write_text(json.dumps(head) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        for i, tries, case in instances(options.d, left):
            row = measure(case, seconds, i, Path(folder) / "instance.npz")
            row = {"i": i, "tries": tries, "reading": case.reading, "metric": case.metric, **row}
            with file.open("a") as lines:
                lines.write(json.dumps(row) + "\n")


def _rows(file: Path) -> list[dict[str, Any]]:
    """All lines but the first, which has the settings."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines[1:]]


def table(folder: Path) -> None:
    """Print a row for each d."""
    for file in sorted(folder.glob("d?.jsonl")):
        rows = _rows(file)
        seconds = np.array([row["seconds"] for row in rows])
        boxes = np.array([row["boxes"] for row in rows])
        print(
            f"| {file.stem[1:]} | {len(rows)} | {sum(row['status'] == 'PROVED' for row in rows)} "
            f"| {np.median(seconds):.2f} | {np.quantile(seconds, 0.9):.2f} | {seconds.max():.1f} "
            f"| {np.median(boxes):,.0f} | {boxes.max():,} "
            f"| {sum(row['contradicted'] for row in rows)} "
            f"| {sum(row['missed_by_descents'] for row in rows)} |"
        )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, default=2)
    parser.add_argument("--instances", type=int, default=250)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.table:
        table(options.out)
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        run(options)


if __name__ == "__main__":
    main()
