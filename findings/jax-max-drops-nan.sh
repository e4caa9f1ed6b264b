#!/usr/bin/env bash
# jax==0.10.2, jaxlib==0.10.2, numpy==2.3.5, Python 3.11, CPU. Seen 2026-11-30 (jax 0.12.0.1 on Python 3.13: the same).
# A NaN in an array of 4,095 numbers makes `jax.numpy.max`, `min` and the infinity norm NaN, as in NumPy. In an array
# of 4,096 or more they return the largest of the other numbers. `jax.numpy.sum` is NaN in both. So a test for numbers
# that are not finite by way of their largest magnitude passes on small arrays, and lets NaN through on large ones.
# Output seen: "4095 numpy nan jax nan nan nan sum nan", "4096 numpy nan jax 1.0 1.0 1.0 sum nan".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.3.5
cd "$folder"
cat > run.py <<'PY'
import jax.numpy as jnp
import numpy as np

for size in (4095, 4096):
    host = np.ones(size, np.float32)
    host[size // 2] = np.nan
    x = jnp.asarray(host)
    largest = [float(found) for found in (jnp.max(x), jnp.min(x), jnp.linalg.norm(x, jnp.inf))]
    print(size, "numpy", host.max(), "jax", *largest, "sum", float(jnp.sum(x)))
PY
export JAX_PLATFORMS=cpu
seen=$(venv/bin/python run.py)
echo "$seen"
[ "$seen" = "$(printf '4095 numpy nan jax nan nan nan sum nan\n4096 numpy nan jax 1.0 1.0 1.0 sum nan')" ]
