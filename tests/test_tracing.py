"""Where new arrays are traced, as JAX itself has it."""

import jax
import jax.numpy as jnp
import pytest

from copyreg_jax._tracing import is_traced

TRANSFORMED = {
    "jit": lambda f: jax.jit(f)(1.0),
    "eval_shape": lambda f: jax.eval_shape(f, 1.0),
    "make_jaxpr": lambda f: jax.make_jaxpr(f)(1.0),
    "vmap": lambda f: jax.vmap(f)(jnp.ones(2)),
    "grad": lambda f: jax.grad(f)(1.0),
    "vmap in jit": lambda f: jax.jit(jax.vmap(f))(jnp.ones(2)),
    "cond": lambda f: jax.lax.cond(True, f, f, 1.0),
}


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("compiled", [True, False], ids=["jit", "disable_jit"])
def test_traced_is_where_a_new_array_is(name, compiled):
    seen = []

    def f(x):
        seen.append((is_traced(), isinstance(jnp.zeros(()), jax.core.Tracer)))
        return x

    with jax.disable_jit(not compiled):
        is_traced()  # what is compiled is that of no trace
        TRANSFORMED[name](f)
    assert seen
    assert all(found == wanted for found, wanted in seen)
