#!/usr/bin/env bash
# rouge-score==0.1.2, Python 3.11. Seen 2026-11-28.
# The default tokenizer keeps a to z and 0 to 9 only, so that a text in Cyrillic or Greek script has no words left, and
# the F-measure of ROUGE-L between the text and itself is 0, not 1. No warning, no exception. A tokenizer given
# to the scorer is used as it is.
# Output seen: "latin 1.0 russian 0 greek 0 own tokenizer 1.0"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rouge-score==0.1.2
"$folder/venv/bin/python" - <<'PY'
from rouge_score import rouge_scorer


class Split:
    def tokenize(self, text):
        return text.split()


def itself(text, **arguments):
    return rouge_scorer.RougeScorer(["rougeL"], **arguments).score(text, text)["rougeL"].fmeasure


russian, greek = "корабль идёт в море", "το πλοίο πάει στη θάλασσα"
found = itself("the ship goes to sea"), itself(russian), itself(greek), itself(russian, tokenizer=Split())
print("latin {} russian {} greek {} own tokenizer {}".format(*found))
assert found == (1.0, 0.0, 0.0, 1.0)
PY
