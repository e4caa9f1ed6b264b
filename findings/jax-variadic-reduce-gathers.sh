#!/usr/bin/env bash
# jax==0.10.2, jaxlib==0.10.2, numpy==2.3.5, Python 3.11, eight virtual CPU devices. Seen 2026-11-30.
# `jax.lax.reduce` takes several arrays, and so has several sums in one loop. If their entries are spread over devices,
# XLA's partitioner gathers all of them on each device first; of `jnp.sum` of each it exchanges one number.
# Output seen (collectives of the compiled program): "one reduction of two arrays: all-gather", "two sums: all-reduce".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.3.5
cd "$folder"
cat > run.py <<'PY'
import re

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

spread = NamedSharding(Mesh(jax.devices(), "rows"), PartitionSpec("rows"))
one, other = (jax.device_put(jnp.ones(80_000, jnp.float32), spread) for _ in range(2))


def reduction(a, b):
    zero = jnp.zeros((), a.dtype)
    return jax.lax.reduce((a * b, a * a), (zero, zero), lambda x, y: (x[0] + y[0], x[1] + y[1]), (0,))


def sums(a, b):
    return jnp.sum(a * b), jnp.sum(a * a)


for name, function in (("one reduction of two arrays", reduction), ("two sums", sums)):
    compiled = jax.jit(function).lower(one, other).compile()
    assert [float(x) for x in compiled(one, other)] == [80_000, 80_000]
    kinds = sorted(set(re.findall(r"= .*?\b(all-[a-z]+)(?:-start)?\(", compiled.as_text())))
    print(f"{name}: {', '.join(kinds)}")
PY
export JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8
seen=$(venv/bin/python run.py)
echo "$seen"
[ "$seen" = "$(printf 'one reduction of two arrays: all-gather\ntwo sums: all-reduce')" ]
