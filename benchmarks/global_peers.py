"""Other global solvers on the same instances: who finds the minimum, who claims to have proved it.

    python benchmarks/global_peers.py --python PYTHON [--d 1] [--instances 8] [--out F]

PYTHON is that of an environment with NumPy, discopt==0.8.0 and pyscipopt==6.3.0 (which brings SCIP
10). Instances are the first ones of global_counts.py. Coordinates z have logits of about one at
|z| = 1; each solver gets the cube that contains {L_reg <= L(0)}, and all but shgo and
dual_annealing get a gap of 1e-6.

- SciPy's shgo and dual_annealing, with their defaults, on L in NumPy. They claim nothing.
- SCIP and discopt, on variables z, s, f_i = exp(u_i - s) with sum f_i = 1, q = ell_1 and r >=
  1/q, with the bounds 0 <= f_i <= 1 and q >= gamma/L(0) that hold wherever L <= L(0). SCIP claims
  a proof by the status "optimal" or "gaplimit", up to its tolerance for constraints, 1e-6. discopt
  claims it by "optimal" together with `gap_certified`.

A solver *finds* the minimum if L at its point, in NumPy, is at most 1e-6 above the proved one,
relative to it. A claim is *false* if the solver's lower bound is above the proved minimum by more
than 1e-6 of it, and *off* if the value that it says is optimal is further below than that. Seconds
are those of the processor; the limits of SCIP and of SciPy are CPU seconds, that of discopt is a
wall clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

_SECONDS = 40.0
_GAP = 1e-6


def _pieces(given: Any, model: Any) -> Any:
    """Variables and constraints that SCIP and discopt share; L as an expression.

    ``model`` has variable(lower, upper), require(constraint), exp and total.
    """
    B, b, mask = given["B"], given["b"].tolist(), given["protected"].tolist()
    radius, top, gamma = (float(given[k]) for k in ("radius", "top", "gamma"))
    squared = given["metric"] == "squared"
    z = [model.variable(-radius, radius) for _ in range(B.shape[1])]
    u = [model.total(a * v for a, v in zip(row, z, strict=True)) for row in B.tolist()]
    far = float(radius * np.abs(B).sum(axis=1).max())
    far += float(np.log(len(b)))

    def loss(rows: list[int], counted: list[int]) -> tuple[Any, dict[int, Any], Any]:
        s = model.variable(-far, far)
        f = {i: model.variable(0.0, 1.0) for i in rows}
        for i in rows:
            model.require(f[i] == model.exp(u[i] - s))
        model.require(model.total(f.values()) == 1)
        return term(f, s, counted), f, s

    def term(f: dict[int, Any], s: Any, counted: list[int]) -> Any:
        if squared:
            return model.total((f[i] - b[i]) * (f[i] - b[i]) for i in counted)
        return model.total(b[i] * (s - u[i]) for i in counted)

    everything, own = list(range(len(b))), [i for i, m in enumerate(mask) if m]
    ell, f, s = loss(everything, everything)
    ell_1 = loss(own, own)[0] if given["reading"] == "block" else term(f, s, own)
    q = model.variable(gamma / top, 2.0 if squared else 2 * far)
    r = model.variable(1 / (2.0 if squared else 2 * far), top / gamma)
    model.require(q == ell_1)
    model.require(r * q >= 1)
    wu = [w * v for w, v in zip(given["w"].tolist(), u, strict=True)]
    value = (0.5 if squared else 1.0) * ell + gamma * r + 0.5 * model.total(v * v for v in wu)
    return z, value


def scip(given: Any) -> dict[str, Any]:
    """Solve by SCIP."""
    from pyscipopt import Model, exp as exponential, quicksum

    inner = Model()
    inner.hideOutput()
    inner.setParam("limits/gap", _GAP)
    inner.setParam("limits/time", _SECONDS)
    inner.setParam("timing/clocktype", 1)

    class Shim:
        exp, total = staticmethod(exponential), staticmethod(quicksum)
        require = staticmethod(inner.addCons)

        @staticmethod
        def variable(lower: float, upper: float) -> Any:
            return inner.addVar(lb=lower, ub=upper)

    z, value = _pieces(given, Shim)
    t = inner.addVar(lb=0.0)
    inner.addCons(t >= value)
    inner.setObjective(t)
    started = time.process_time()
    inner.optimize()
    seconds = time.process_time() - started
    has_point = inner.getNSols() > 0
    return {
        "z": [inner.getVal(v) for v in z] if has_point else None,
        "said": inner.getPrimalbound() if has_point else None,
        "bound": inner.getDualbound(),
        "claims": inner.getStatus() in {"optimal", "gaplimit"},
        "status": inner.getStatus(),
        "seconds": seconds,
    }


def discopt(given: Any) -> dict[str, Any]:
    """Solve by discopt."""
    from discopt import Model
    from discopt.modeling import exp as exponential

    inner, names = Model("L"), []

    class Shim:
        exp, total = staticmethod(exponential), staticmethod(sum)
        require = staticmethod(inner.subject_to)

        @staticmethod
        def variable(lower: float, upper: float) -> Any:
            names.append(f"v{len(names)}")
            return inner.continuous(names[-1], lb=lower, ub=upper)

    z, value = _pieces(given, Shim)
    inner.minimize(value)
    started = time.process_time()
    found = inner.solve(time_limit=_SECONDS, gap_tolerance=_GAP)
    seconds = time.process_time() - started
    z = None if found.x is None else [float(found.x[name]) for name in names[: len(z)]]
    return {
        "z": z,
        "said": found.objective,
        "bound": found.bound,
        "claims": found.status == "optimal" and bool(found.gap_certified),
        "status": found.status,
        "seconds": seconds,
    }


def _scipy(objective: Any, radius: float, d: int) -> dict[str, dict[str, Any]]:
    from scipy import optimize

    def value(z: np.ndarray) -> float:
        return objective(z)[0]

    bounds, results = [(-radius, radius)] * d, {}
    for name, solver in {
        "shgo": lambda: optimize.shgo(value, bounds),
        "dual_annealing": lambda: optimize.dual_annealing(value, bounds, rng=0),
    }.items():
        started = time.process_time()
        found = solver()
        seconds = time.process_time() - started
        point = None if found.x is None else np.asarray(found.x).tolist()
        results[name] = {"z": point, "claims": False, "seconds": seconds}
    return results


def _asked(python: str, name: str, path: Path) -> dict[str, Any]:
    """The answer of a solver, in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [python, __file__, "--worker", name, str(path)]
    try:
        ended = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=20 * _SECONDS,
            env=environment,
        )
        return json.loads(ended.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
        return {"z": None, "claims": False, "seconds": None, "status": repr(error)[:200]}


def compare(options: argparse.Namespace) -> None:
    """Search, ask the others, and report."""
    from global_counts import Objective, instances
    from global_minimum import search

    from report import report

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, sent = Path(folder) / "instance.npz", Path(folder) / "sent.npz"
        for i, _, case in instances(options.d, iter(range(options.instances))):
            np.savez(path, **case._asdict())
            found, seconds = search(path, 60, gap=_GAP)
            objective = Objective(case)
            top = objective(np.zeros(options.d))[0]
            # |R x| <= sqrt(2 L(0)) for R of W A = Q R, and z = |B| R x.
            R = np.linalg.qr(case.w[:, None] * case.A, mode="r")
            radius = float(np.sqrt(2 * top) * np.abs(case.A @ np.linalg.inv(R)).max())
            np.savez(sent, B=objective.B, radius=radius, top=top, **case._asdict())
            answers = _scipy(objective, radius, options.d)
            answers |= {name: _asked(options.python, name, sent) for name in ("scip", "discopt")}
            for answer in answers.values():
                at = np.inf if answer["z"] is None else objective(np.array(answer["z"]))[0]
                answer["excess"] = float(at / found.upper - 1)
                bound, said = answer.get("bound"), answer.get("said")
                over = found.upper * (1 + _GAP)
                answer["false"] = bool(answer["claims"] and bound > over)
                answer["off"] = bool(answer["claims"] and said < found.lower * (1 - _GAP))
                answer["bound_is_false"] = bool(bound is not None and bound > over)
            own = {"status": found.status.name, "lower": found.lower, "upper": found.upper}
            row = {"i": i, "reading": case.reading, "metric": case.metric, "n": len(case.b)}
            rows.append({**row, **own, "seconds": seconds, **answers})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    settings = {"d": options.d, "instances": options.instances, "seconds": _SECONDS}
    report({"settings": settings, "rows": rows}, options.out)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, default=1)
    parser.add_argument("--instances", type=int, default=8)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--worker", nargs=2, metavar=("SOLVER", "FILE"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.worker:
        name, file = options.worker
        with np.load(file) as given:
            print(json.dumps({"scip": scip, "discopt": discopt}[name](given)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
