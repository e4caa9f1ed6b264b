"""The benchopt benchmark: benchopt's own tests of it, and one run on a small dataset."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("benchopt", reason="pip install 'benchopt>=1.10'")

ROOT = Path(__file__).parents[2]

BENCHMARK = ROOT / "benchmarks" / "benchopt"


def run(*arguments, **settings):
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT,
        **settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_benchopt_accepts_it():
    """Without the tests that make conda environments."""
    import benchopt.tests

    folder = Path(benchopt.tests.__file__).parent
    run(
        "-m", "pytest", "-q", "-p", "benchopt.tests.fixtures", f"--rootdir={folder}", "-m",
        "not requires_install", f"--benchmark={BENCHMARK}", str(folder / "test_benchmarks.py"),
    )  # fmt: skip


@pytest.mark.slow
def test_every_solver_reaches_the_proved_minimum():
    import pandas as pd

    run(
        "-m", "benchopt", "run", str(BENCHMARK), "-d",
        "simulated[n=300,d=6,gamma=0.001,w=1.0]", "-n", "20", "-r", "1", "--no-plot", "--output",
        "tested",
    )  # fmt: skip
    file = BENCHMARK / "outputs" / "tested.parquet"
    table = pd.read_parquet(file)
    file.unlink()
    assert set(table.solver_name) == {
        *(f"copyreg[method={m}]" for m in ("NewtonCG", "TrustRegionNewton", "AcceleratedGradient")),
        *(f"scipy[method={m}]" for m in ("L-BFGS-B", "trust-ncg", "Newton-CG")),
        "optax-lbfgs",
    }
    least = table.objective_value.min()
    for _, curve in table.groupby("solver_name"):
        assert curve.objective_gradient_norm.iloc[-1] < 1e-6 * curve.objective_gradient_norm.iloc[0]
        # A gap is an upper bound: rounding of L is all that may lie between.
        known = curve[np.isfinite(curve.objective_certified_gap)]
        assert len(known) > 0
        gaps = known.objective_value - least
        assert (gaps <= known.objective_certified_gap + 1e-15).all()
        assert known.objective_certified_gap.iloc[-1] < 1e-12
