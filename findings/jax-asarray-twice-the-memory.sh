#!/usr/bin/env bash
# jax==0.10.2, jaxlib==0.10.2, numpy==2.3.5, Python 3.11, CPU. Seen 2026-11-29.
# `jax.numpy.asarray` of a NumPy array needs twice the array's memory beside it while it runs, as `jax.numpy.array`
# does: it copies on the host, and then copies the copy. `jax.device_put` of the same array needs it once (or shares
# the memory, see jax-device-put-may-alias.sh). Who turns 8 GB of NumPy into a JAX array needs 24 GB with asarray.
# Output seen: "asarray 2.0", "array 2.0", "device_put 1.0".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.3.5
cd "$folder"
cat > run.py <<'PY'
import resource
import sys

import jax
import numpy as np

name = sys.argv[1]
put = {"asarray": jax.numpy.asarray, "array": jax.numpy.array, "device_put": jax.device_put}[name]
put(np.ones(3)).block_until_ready()
array = np.ones(100_000_001, np.float32)[1:]  # not at a multiple of 64 bytes: nothing can be shared


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


before = peak()
put(array).block_until_ready()
print(name, round((peak() - before) / array.nbytes, 1))
PY
export JAX_PLATFORMS=cpu
seen=$(for name in asarray array device_put; do venv/bin/python run.py "$name"; done)
echo "$seen"
[ "$seen" = "$(printf 'asarray 2.0\narray 2.0\ndevice_put 1.0')" ]
