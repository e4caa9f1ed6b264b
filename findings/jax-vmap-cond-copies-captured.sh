#!/usr/bin/env bash
# jax==0.10.2, jaxlib==0.10.2, numpy==2.3.5, Python 3.11, CPU. Seen 2026-11-30.
# Under `jax.vmap`, a `jax.lax.cond` whose predicate is mapped becomes a select, as is documented; but before that all
# that its branches capture gets an axis of lanes, also a matrix that all lanes share. XLA makes that copy: with eight
# lanes, eight matrices are written to memory each time, and one product with a matrix becomes eight products with a
# matrix each. A `jax.lax.while_loop` that runs once or not at all has the same result, and leaves the matrix as it is.
# Output seen (temporary memory of the compiled program, in sizes of the matrix): "cond 8", "while_loop 0".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.3.5
cd "$folder"
cat > run.py <<'PY'
import jax
import jax.numpy as jnp

rows, columns, lanes = 20_000, 128, 8
matrix = jnp.ones((rows, columns), jnp.float32)
wanted, points, others = jnp.arange(lanes) < 1, jnp.ones((lanes, columns)), jnp.ones((lanes, rows))


def by_cond(wanted, point, other):
    return jax.lax.cond(wanted, lambda: matrix_of_all @ point, lambda: other)


def by_loop(wanted, point, other):
    def body(carry):
        _, point, _ = carry
        return jnp.zeros((), bool), jnp.zeros_like(point), matrix_of_all @ point

    return jax.lax.while_loop(lambda carry: carry[0], body, (wanted, point, other))[2]


for name, function in (("cond", by_cond), ("while_loop", by_loop)):

    def program(matrix, wanted, points, others):
        global matrix_of_all
        matrix_of_all = matrix
        return jax.vmap(function)(wanted, points, others)

    compiled = jax.jit(program).lower(matrix, wanted, points, others).compile()
    result = compiled(matrix, wanted, points, others)
    assert result[0, 0] == columns and result[1, 0] == 1
    print(name, round(compiled.memory_analysis().temp_size_in_bytes / matrix.nbytes))
PY
export JAX_PLATFORMS=cpu
seen=$(venv/bin/python run.py)
echo "$seen"
[ "$seen" = "$(printf 'cond 8\nwhile_loop 0')" ]
