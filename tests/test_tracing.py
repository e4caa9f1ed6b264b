"""Where new arrays are traced, as JAX itself has it."""

import jax
import jax.numpy as jnp
import pytest

import copyreg_jax as cr
from copyreg_jax._tracing import is_traced, only_if
from copyreg_jax.solvers.steps import initial_state, next_state, precompute
from tests.support.registry import random_problem

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


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_only_if_computes_where_it_is_wanted(host, wanted):
    calls = []

    def compute(x):
        calls.append(x)
        return 2 * x

    x = jnp.arange(3.0)
    found = only_if(host, jnp.asarray(wanted), compute, x, -x)
    assert found.tolist() == (2 * x if wanted else -x).tolist()
    if host:
        assert len(calls) == int(wanted)


def test_lanes_that_want_it_get_it_and_no_copy_of_what_it_captures():
    A = jnp.ones((1000, 100))
    wanted, points, others = jnp.arange(8) == 3, jnp.ones((8, 100)), jnp.zeros((8, 1000))

    def lanes(A, wanted, points, others):
        return jax.vmap(lambda w, p, z: only_if(False, w, lambda p: A @ p, p, z))(
            wanted, points, others
        )

    compiled = jax.jit(lanes).lower(A, wanted, points, others).compile()
    assert compiled(A, wanted, points, others)[:, 0].tolist() == [0, 0, 0, 100, 0, 0, 0, 0]
    # Beside the result and a copy of it; one copy of A for each lane would be ten times that.
    assert compiled.memory_analysis().temp_size_in_bytes < A.nbytes


@pytest.mark.slow
@pytest.mark.parametrize("solver", [cr.NewtonCG(), cr.AcceleratedGradient()])
def test_steps_under_vmap_share_their_matrix(solver):
    problem = random_problem(0, 500, 128)  # a copy of A is 128 vectors of its rows
    kit = precompute(problem, solver)

    def start(x0):
        return initial_state(problem, kit, x0, 1e-10, solver)

    def step(state):
        return next_state(problem, kit, state, 9, solver)

    states = jax.jit(jax.vmap(start))(jnp.zeros((8, 128)))
    memory = jax.jit(jax.vmap(step)).lower(states).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * problem.A.nbytes  # 8 lanes with 64 vectors of rows
