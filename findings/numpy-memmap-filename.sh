#!/usr/bin/env bash
# numpy==2.4.6, Python 3.11. Seen 2026-11-28.
# A memmap opened with mode "c" (copy on write) and changed in memory keeps the attribute `filename`, and so does a
# reversed view of it. The file holds other numbers than the array, and nothing about the array says so: flags,
# mode and offset are those of an array that was not changed. Whoever reads the file in its place reads other data.
# Output seen: "array [2. 3. 4.] file [1. 2. 3.] same name True True"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PY'
import numpy as np

np.save("data.npy", np.array([1.0, 2.0, 3.0]))
array = np.load("data.npy", mmap_mode="c")
array += 1
file = np.load("data.npy")
named = str(array.filename).endswith("data.npy"), str(array[::-1].filename).endswith("data.npy")
print("array", array.__array__(), "file", file, "same name", *named)
assert array.tolist() == [2.0, 3.0, 4.0] and file.tolist() == [1.0, 2.0, 3.0] and all(named)
PY
