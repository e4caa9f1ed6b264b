#!/usr/bin/env bash
# scikit-learn==1.9.1 (numpy==2.4.6, scipy==1.17.1), Python 3.11. Seen 2026-11-30.
# Cross-validation cuts what is routed to `fit` like X and y if it has as many entries as X has rows. Anything else goes to every
# fold as it is, without a word: row numbers among it, which then name other rows of the fold, or none.
# Output seen: "folds of 5 rows: mask [5, 5], row numbers [3, 3], among them row 9"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
result=$("$folder/venv/bin/python" - <<'PY'
import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.model_selection import cross_validate

sklearn.set_config(enable_metadata_routing=True)
seen = []


class Recorder(BaseEstimator):
    def fit(self, X, y, rows=None):
        seen.append((len(X), rows))
        return self

    def score(self, X, y):
        return 0.0


X, y = np.zeros((10, 1)), np.zeros(10)
model = Recorder().set_fit_request(rows=True)
for rows in (np.ones(10, bool), np.array([0, 4, 9])):
    cross_validate(model, X, y, cv=2, params={"rows": rows})
sizes = [len(rows) for _, rows in seen]
print(
    f"folds of {seen[0][0]} rows: mask {sizes[:2]}, row numbers {sizes[2:]}, "
    f"among them row {max(seen[2][1])}"
)
PY
)
echo "$result"
[ "$result" = "folds of 5 rows: mask [5, 5], row numbers [3, 3], among them row 9" ]
