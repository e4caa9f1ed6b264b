#!/usr/bin/env bash
# jax_privacy==2.0.0, jax==0.10.2, numpy==2.4.6, scipy==1.17.1, Python 3.11. Seen 2026-11-30.
# `CanaryScoreAuditor.attack_auroc` is the area under the convex hull of the ROC curve, not under the curve. It is never below 1/2,
# also where all members have the lower scores, and its mean is far above 1/2 for scores that say nothing: 0.65 for ten members and
# ten others. `tpr_at_given_fpr` is on the hull too. The docstring speaks of classifiers that randomize between two thresholds, but
# the thresholds are chosen with the scores that are judged. The Mann-Whitney statistic divided by the number of pairs is the usual AUROC.
# Output seen: "reversed 0.5 usual 0.0", "nothing to tell apart 0.646 usual 0.503", "false positives 0.05 taken, found 0.171"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax_privacy==2.0.0 jax==0.10.2 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from jax_privacy.auditing import CanaryScoreAuditor
from scipy.stats import mannwhitneyu


def usual(members, others):
    return mannwhitneyu(members, others).statistic / (len(members) * len(others))


members, others = np.array([0.0, 1.0]), np.array([2.0, 3.0])
reverse = float(CanaryScoreAuditor(members, others).attack_auroc())
print("reversed", reverse, "usual", usual(members, others))
assert (reverse, usual(members, others)) == (0.5, 0.0)

rng = np.random.default_rng(0)
pairs = [(rng.normal(size=10), rng.normal(size=10)) for _ in range(2000)]
auditors = [CanaryScoreAuditor(*pair) for pair in pairs]
hull = np.mean([auditor.attack_auroc() for auditor in auditors])
plain = np.mean([usual(*pair) for pair in pairs])
found = np.mean([auditor.tpr_at_given_fpr(0.05) for auditor in auditors])
print(f"nothing to tell apart {hull:.3f} usual {plain:.3f}")
print(f"false positives 0.05 taken, found {found:.3f}")
assert hull > 0.6 and abs(plain - 0.5) < 0.02 and found > 0.1
PY
