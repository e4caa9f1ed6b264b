#!/usr/bin/env bash
# jax==0.10.2, jaxlib==0.10.2, numpy==2.3.5, Python 3.11, CPU. Seen 2026-11-29.
# `jax.device_put(array, may_alias=False)` of a NumPy array does not copy, although its documentation says "If False,
# x will be copied". Where the numbers start at a multiple of 64 bytes, as those of large arrays sometimes do and those
# of small ones sometimes don't, the JAX array *is* the NumPy array's memory: a later change of the NumPy array changes
# the JAX array, which is meant to be immutable. `jax.numpy.asarray` copies. (jax-ml/jax issue 37830, open.)
# Output seen: "default shared", "may_alias=False shared", "asarray own", "unaligned own".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.3.5
cd "$folder"
cat > run.py <<'PY'
import jax
import numpy as np


def floats(offset):
    """A thousand zeros that start `offset` bytes after a multiple of 64."""
    held = np.zeros(8 * 1000 + 128, np.uint8)
    first = -held.ctypes.data % 64 + offset
    return held[first : first + 8000].view(np.float32)


for name, offset, put in (
    ("default", 0, jax.device_put),
    ("may_alias=False", 0, lambda a: jax.device_put(a, may_alias=False)),
    ("asarray", 0, jax.numpy.asarray),
    ("unaligned", 4, lambda a: jax.device_put(a, may_alias=False)),
):
    array = floats(offset)
    on_device = put(array)
    array[0] = 1
    print(name, "shared" if on_device[0] == 1 else "own")
PY
seen=$(JAX_PLATFORMS=cpu venv/bin/python run.py)
echo "$seen"
[ "$seen" = "$(printf 'default shared\nmay_alias=False shared\nasarray own\nunaligned own')" ]
