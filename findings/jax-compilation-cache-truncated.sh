#!/usr/bin/env bash
# jax==0.10.2, jaxlib==0.10.2, Python 3.11, CPU. Seen 2026-11-29.
# An entry of the persistent compilation cache that was cut short (a full disk, a process killed while it wrote) is
# never repaired. JAX writes entries in place, under their final name. A later process can't read the entry, warns,
# compiles, and then leaves the file as it is, since a file of that name exists. So every later process warns and
# compiles again, and where warnings are errors, every one fails, until somebody deletes the file.
# Output seen: "first: 0 warnings", then three times "later: 1 warnings, entry still cut short: True",
# and after the file was deleted "deleted: 0 warnings".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2
cd "$folder"
cat > run.py <<'PY'
import warnings

import jax

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert float(jax.jit(lambda x: x * 2 + 1)(3.0)) == 7.0
print(sum("persistent compilation cache entry" in str(w.message) for w in caught))
PY
export JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR="$folder/cache"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
first=$(venv/bin/python run.py)
echo "first: $first warnings"
[ "$first" = 0 ]
entries=(cache/*lambda*-cache)
[ "${#entries[@]}" = 1 ]
entry=${entries[0]}
size=$(($(stat -c %s "$entry") / 2))
truncate -s "$size" "$entry"
for _ in 1 2 3; do
  later=$(venv/bin/python run.py)
  echo "later: $later warnings, entry still cut short: $([ "$(stat -c %s "$entry")" = "$size" ] && echo True)"
  [ "$later" = 1 ] && [ "$(stat -c %s "$entry")" = "$size" ]
done
rm "$entry"
deleted=$(venv/bin/python run.py)
echo "deleted: $deleted warnings"
[ "$deleted" = 0 ] && [ "$(stat -c %s "$entry")" -gt "$size" ]
