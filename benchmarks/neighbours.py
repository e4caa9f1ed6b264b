"""Copyright regression and near access-freeness on the same data: python benchmarks/neighbours.py.

The data are those of the embedded example, *Persuasion* protected. Each model is compared with the
safe model, which never saw the protected targets: what it gives the protected rows, the exponent k
of near access-freeness, and the loss on the other rows. CP-Delta joins the model without a
protection term and the safe model; it needs both at each draw.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.special

import copyreg_jax as cr
from copyreg_jax.neighbours.distributions import delta_kl, delta_max
from copyreg_jax.neighbours.naf import cp_delta

GAMMAS = 0.0, 1e-4, 1e-3, 1e-2


def minimizer(problem: Any) -> tuple[np.ndarray, float]:
    """Log f at the minimizer, and the seconds of a second solve."""
    cr.solve(problem)
    start = time.perf_counter()
    x = cr.solve(problem).raise_for_status().x
    return scipy.special.log_softmax(np.asarray(problem.A) @ x), time.perf_counter() - start


def rows(example: cr.CopyrightRegression) -> list[dict[str, Any]]:
    """One row for each model."""
    b, marked = np.asarray(example.b), np.asarray(example.protected)
    safe, safe_seconds = minimizer(cr.LeaveOutRegression.of(example))
    models = {f"gamma {gamma:g}": minimizer(example.replace(gamma=gamma)) for gamma in GAMMAS}
    seen, seconds = models["gamma 0"]
    for kind in ("max", "kl"):
        joined = cp_delta(np.stack([seen, safe]), kind)
        models[f"CP-Delta, {kind}"] = (joined.log_p, seconds + safe_seconds)
    models["safe"] = (safe, safe_seconds)
    found = []
    for name, (log_f, took) in models.items():
        f = np.exp(log_f)
        found.append(
            {
                "model": name,
                "k max, bits": float(delta_max(log_f, safe)),
                "KL, bits": float(delta_kl(log_f, safe)),
                "protected mass": float(f[marked].sum()),
                "mass, bits": float(np.log2(f[marked].sum() / np.exp(safe)[marked].sum())),
                "loss of the others": float(((f - b)[~marked] ** 2).sum()),
                "seconds to fit": took,
                "models at each draw": 2 if name.startswith("CP") else 1,
            }
        )
    return found


def main() -> None:
    """Print the table; write it with ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = rows(cr.example_instance())
    print("| " + " | ".join(found[0]) + " |\n|" + "---|" * len(found[0]))
    for row in found:
        print(
            "| " + " | ".join(v if isinstance(v, str) else f"{v:.4g}" for v in row.values()) + " |"
        )
    if options.out is not None:
        content = {
            "date": datetime.date.today().isoformat(),
            "jax": jax.__version__,
            "models": found,
        }
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
