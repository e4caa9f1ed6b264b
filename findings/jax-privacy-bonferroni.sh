#!/usr/bin/env bash
# jax_privacy==2.0.0, jax==0.10.2, numpy==2.4.6, scipy==1.17.1, Python 3.11. Seen 2026-11-30.
# `CanaryScoreAuditor.epsilon_one_run` with its default strategy, `Bonferroni`, fails more often than its significance allows. The
# thresholds that it tries are the corners of the convex hull of the ROC curve, which the scores themselves have chosen among all, and
# it corrects for the number of corners only, about ten. For canaries that nothing tells apart (epsilon is 0), with a significance of
# 0.05, it gives a bound above 0 in 10 % of the cases with 20,000 canaries. With a threshold that is fixed in advance (`Explicit`), 5 %.
# Output seen: "bounds above 0: Bonferroni 0.096 Explicit 0.049"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax_privacy==2.0.0 jax==0.10.2 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from jax_privacy.auditing import Bonferroni, CanaryScoreAuditor, Explicit

rng, tries = np.random.default_rng(1), 1000
failed = {"Bonferroni": 0, "Explicit": 0}
for _ in range(tries):
    scores, coins = rng.normal(size=20_000), rng.random(20_000) < 0.5
    auditor = CanaryScoreAuditor(scores[coins], scores[~coins])
    for strategy in (Bonferroni(), Explicit(0.0)):
        epsilon = auditor.epsilon_one_run(0.05, 1e-9, threshold_strategy=strategy)
        failed[type(strategy).__name__] += epsilon > 0
print("bounds above 0:", *(f"{name} {count / tries:.3f}" for name, count in failed.items()))
# Five standard deviations of 1,000 tries at 0.05 are 0.034.
assert failed["Bonferroni"] / tries > 0.05 + 0.034 > failed["Explicit"] / tries
PY
