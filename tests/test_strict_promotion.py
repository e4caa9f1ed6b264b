"""The package under ``jax_numpy_dtype_promotion="strict"``, which refuses to mix dtypes.

That is found out while tracing, so most is traced here and not run. The suite as a whole can't be
run so, because optax mixes dtypes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import copyreg_jax as cr
from copyreg_jax.lm import protection
from copyreg_jax.solvers import implicit
from copyreg_jax.testing import assertions
from copyreg_jax.theory import claims, search, statements
from tests.support.registry import METRICS, READINGS, SOLVERS, random_problem


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def single(problem):
    """The same in float32, which arrays of JAX's default dtype would widen."""
    A, b = (np.asarray(array, np.float32) for array in (problem.A, problem.b))
    return cr.CopyrightRegression(A, b, problem.n1)


def sparse(problem):
    return cr.CopyrightRegression(scipy.sparse.csr_array(problem.A), problem.b, problem.n1)


KINDS = {"dense": lambda problem: problem, "float32": single, "sparse": sparse, "sharded": cr.shard}
CASES = [
    (name, kind)
    for name in SOLVERS
    for kind in KINDS
    if (name, kind) != ("sketched-newton", "sharded")  # refused
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_solver_and_matrix_traced(name, kind):
    problem = KINDS[kind](random_problem(0, 24, 3))
    solution = jax.eval_shape(lambda p: cr.solve(p, SOLVERS[name]), problem)
    assert solution.x.dtype == problem.dtype


@pytest.mark.quick(1)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("reading", READINGS)
def test_definitions_and_derivatives(reading, metric):
    problem, x = random_problem(0, 24, 3, reading=reading, metric=metric), jnp.ones(3)

    def everything(problem, x):
        names = ["f", "c", "ell", "ell_1", "ell_2", "l_reg", "l_copyright", "value"]
        names += ["gradient", "hessian"]
        return [getattr(problem, name)(x) for name in names] + [problem.hvp(x, x)]

    def moved(b, gamma):
        changed = cr.CopyrightRegression(problem.A, b, problem.protected, gamma, 1, reading, metric)
        return jnp.sum(implicit.minimizer(changed, x))

    results = jax.eval_shape(everything, problem, x)
    results += jax.tree.leaves(jax.eval_shape(jax.hessian(moved, (0, 1)), problem.b, 0.1))
    assert {array.dtype for array in results} == {problem.dtype}


@pytest.mark.slow
def test_what_the_host_does_between(tmp_path):
    dense = random_problem(0, 24, 3)
    np.save(tmp_path / "A.npy", np.asarray(dense.A, np.float32))  # narrower than b
    disk = cr.CopyrightRegression(cr.RowBlocks(tmp_path / "A.npy"), dense.b, dense.n1)
    for problem in (dense, sparse(dense), disk):
        solution = cr.solve(problem)
        assert solution.status.name == "CONVERGED"
    assert cr.certify(dense, cr.solve(dense).x).verdict is not None
    cr.solve_many([dense, dense.replace(gamma=0.2)]).raise_for_status()
    for solution in cr.solve_path(dense, gamma=[0.1, 0.2]):
        solution.raise_for_status()
    assert cr.multi_start(dense, 3).num_failed == 0


def test_dtypes_of_arguments_are_promoted_all_the_same():
    A, b = np.eye(3, dtype=np.float32), np.full(3, 1 / 3)
    assert cr.CopyrightRegression(A, b, 1).dtype == np.float64
    assert cr.CopyrightRegression(A, b.astype(np.float32), 1).replace(w=b).dtype == np.float64


@pytest.mark.parametrize("form", statements.FORMS)
def test_statements_of_the_paper(form):
    problem, x = random_problem(0, 12, 2), np.ones(2)
    for statement in statements.STATEMENTS.values():
        jax.eval_shape(lambda p, s=statement: s(p, x, form=form), problem)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "claim", [*claims.CLAIMS, *claims.REPLACEMENTS], ids=lambda claim: claim.says
)
def test_searches_for_counterexamples_traced(claim):
    batch = search._draw(np.random.default_rng(0), (3, 2))
    search._climb.trace(claim.measure, (3, 2), claim.target, *batch, 2)


@pytest.mark.slow
def test_properties_for_users():
    problem, x = random_problem(0, 12, 2), np.ones(2)
    assertions.assert_gradient_matches(problem.value, problem.gradient, x)
    assertions.assert_hessian_matches(problem.value, problem.hessian, x)
    assertions.assert_hvp_matches(problem.value, problem.hvp, x, x)


@pytest.mark.quick(1)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32, jnp.float64])
def test_protected_loss(dtype):
    nll, mask = jnp.ones((2, 3), dtype), jnp.ones((2, 3), bool)
    rows = jnp.array([True, False])

    def loss(nll, gamma, estimate):
        return protection.protected_loss(nll, mask, rows, gamma, estimate)

    (value, terms), slope = jax.value_and_grad(loss, has_aux=True)(nll, 0.5, None)
    again, _ = jax.jit(loss)(nll, protection.raised_gamma(terms.estimate, 3.0), terms.estimate)
    assert slope.dtype == dtype
    assert value.dtype == again.dtype == max(np.dtype(dtype), np.dtype(np.float32))


LM = {
    "gpt2": {"vocab_size": 7, "context": 8, "width": 8, "num_layers": 1, "num_heads": 2},
    "llama": {
        "vocab_size": 7, "context": 8, "width": 8, "num_layers": 1, "num_heads": 2,
        "num_kv_heads": 1, "mlp_width": 8,
    },
}  # fmt: skip


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", LM)
def test_language_models_and_what_an_audit_asks_of_them(kind, dtype):
    """Also where integers are 64 bits wide by default, as they are in all of these tests."""
    nnx = pytest.importorskip("flax.nnx")
    from copyreg_jax.lm.leakage import constrained_beam, membership, teacher_forced, writing
    from copyreg_jax.lm.models import gpt2, layers, llama

    assert jnp.arange(1).dtype == jnp.int64
    if kind == "gpt2":
        model, config = gpt2.GPT2, gpt2.GPT2Config(**LM[kind])
    else:
        model, config = llama.Llama, llama.LlamaConfig(**LM[kind])
    graph, state = nnx.split(nnx.eval_shape(lambda: model(config, dtype=dtype)))
    tokens = jnp.zeros((2, 6), jnp.int32)

    def loss(state):
        logits = nnx.merge(graph, state)(tokens[:, :-1])
        return jnp.sum(layers.token_nll(logits, tokens[:, 1:]))

    def audit(state, windows):
        parts = membership._tokens(graph, state, windows)
        for top_k in (None, 3):
            parts += teacher_forced._read(graph, 3, top_k, state, windows)
            parts += constrained_beam._search(graph, 3, 1, 4, top_k, state, windows)
        return *parts, writing._continue(graph, 2, state, windows)

    gradient = jax.eval_shape(jax.grad(loss), state)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype(np.float32)}
    found = jax.eval_shape(audit, state, tokens)
    assert {str(array.dtype) for array in found} <= {"bool", "int32", "int64", "float32"}
