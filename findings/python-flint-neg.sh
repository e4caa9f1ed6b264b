#!/usr/bin/env bash
# python-flint==0.8.0, Python 3.11. Seen 2026-11-29. Mended in 0.9.0.
# The method arb.neg() returns the number itself, not its negative, with and without rounding; the operator - is right.
# A bound that is negated by the method has the wrong sign, and nothing is raised.
# Output seen: "0.8.0 neg: 3.00000000000000 minus: -3.00000000000000", "0.9.0 neg: -3.00000000000000 minus: -3.00000000000000"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 0.8.0 0.9.0; do
  "$folder/venv/bin/pip" install -q "python-flint==$version"
  "$folder/venv/bin/python" - "$version" <<'PY'
import sys

from flint import arb

version, x = sys.argv[1], arb(3)
print(version, "neg:", x.neg(), "minus:", -x)
assert -x == arb(-3)
assert x.neg() == (x if version == "0.8.0" else -x)
assert x.neg(exact=False) == x.neg()
PY
done
