#!/usr/bin/env bash
# hypothesis==6.170.17, Python 3.11. Seen 2026-11-29.
# With derandomize=True and no database, the examples of a test still depend on which modules of the project happen to be
# imported: Hypothesis draws some values from the literals in their source. The same test, unchanged, draws other numbers when
# it runs alone than after others have imported more, so that a failure in the whole suite may not come back in one file.
# Output seen: two runs alone are equal, two runs beside another module are equal, and the two kinds differ:
# "alone repeats: True, beside repeats: True, same draws: False"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q hypothesis==6.170.17
mkdir "$folder/project"
cd "$folder/project"
echo "NUMBERS = (918273645.5, 1234567.875, 55555.0625)" > other.py
cat > draws.py <<'PY'
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

if "beside" in sys.argv:
    import other  # nothing of it is used
drawn = []


@settings(derandomize=True, database=None, max_examples=200)
@given(st.floats(allow_nan=False))
def test(x):
    drawn.append(x.hex())


test()
print(*drawn)
PY
run() { ../venv/bin/python draws.py "$@"; }
alone=$(run); beside=$(run beside)
same() { [ "$1" = "$2" ] && echo True || echo False; }
result="alone repeats: $(same "$alone" "$(run)"), beside repeats: $(same "$beside" "$(run beside)"), same draws: $(same "$alone" "$beside")"
echo "$result"
[ "$result" = "alone repeats: True, beside repeats: True, same draws: False" ]
