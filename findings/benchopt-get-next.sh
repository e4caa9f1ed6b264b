#!/usr/bin/env bash
# benchopt==1.10.0 (pytest==9.0.2, numpy==2.4.6), Python 3.11. Seen 2026-11-30.
# A solver may choose its sampling points by `get_next`, and has its parameters as attributes when `benchopt run` calls that.
# `benchopt test` calls `get_next` of an object whose parameters were never set. So a benchmark whose solver samples one of its
# variants more finely than another runs, with the right points, and fails benchopt's own test.
# Output seen: "run: 0, points: 0 3 6, test: AttributeError: 'Solver' object has no attribute 'stride'"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q benchopt==1.10.0 pytest==9.0.2 numpy==2.4.6
export PATH="$folder/venv/bin:$PATH"
mkdir -p "$folder/squares/datasets" "$folder/squares/solvers"
cd "$folder"
cat > squares/objective.py <<'PY'
from benchopt import BaseObjective


class Objective(BaseObjective):
    name = "square"
    test_dataset_name = "start"

    def set_data(self, start):
        self.start = start

    def get_objective(self):
        return {"start": self.start}

    def get_one_result(self):
        return {"x": self.start}

    def evaluate_result(self, x):
        return {"value": x**2}
PY
cat > squares/datasets/start.py <<'PY'
from benchopt import BaseDataset


class Dataset(BaseDataset):
    name = "start"

    def get_data(self):
        return {"start": 1.0}
PY
cat > squares/solvers/halving.py <<'PY'
from benchopt import BaseSolver


class Solver(BaseSolver):
    name = "halving"
    parameters = {"stride": [3]}
    sampling_strategy = "iteration"

    def set_objective(self, start):
        self.start = start

    def get_next(self, stop_val):
        return stop_val + self.stride

    def run(self, n_iter):
        self.x = self.start / 2**n_iter

    def get_result(self):
        return {"x": self.x}
PY
status=0
benchopt run squares -n 2 -r 1 --no-plot --output points > run.log 2>&1 || status=$?
points=$(python - <<'PY'
import pandas

print(*pandas.read_parquet("squares/outputs/points.parquet").stop_val)
PY
)
benchopt test squares -k test_solver_class > test.log 2>&1 || true
error=$(grep -o "AttributeError: 'Solver' object has no attribute 'stride'" test.log | head -1 || true)
result="run: $status, points: $points, test: $error"
echo "$result"
[ "$result" = "run: 0, points: 0 3 6, test: AttributeError: 'Solver' object has no attribute 'stride'" ]
