"""What needs eight simulated devices; run by tests/matrices/test_sharded.py, prints JSON.

The argument is the name of one of the functions.
"""

import json
import re
import sys
import tempfile
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import copyreg_jax as cr  # noqa: E402
from copyreg_jax.matrices import host_access, interface  # noqa: E402
from copyreg_jax.problems import objective  # noqa: E402
from copyreg_jax.solvers.examination import run_jit  # noqa: E402
from copyreg_jax.solvers.steps import initial_state_jit, precompute  # noqa: E402
from tests.matrices.test_sharded import CASES, arguments, make_rows  # noqa: E402


def difference(found: Any, expected: Any) -> float:
    """Largest difference, as a part of the largest entry."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return float(np.max(np.abs(found - expected)) / max(1e-300, np.max(np.abs(expected))))


def descend(problem: Any) -> cr.Solution:
    return cr.solve(problem, cr.GradientDescent(), max_steps=20)


def solutions() -> dict[str, Any]:
    """On one device and on eight."""
    results = {}
    for name, (n, solver, options) in CASES.items():
        plain = cr.CopyrightRegression(make_rows(n), *arguments(n), **options)
        one = cr.solve(plain, solver)
        eight = cr.solve(cr.shard(plain), solver)
        results[name] = {
            "status": [one.status.name, eight.status.name],
            "x": float(np.max(np.abs(np.asarray(one.x) - np.asarray(eight.x)))),
            "value": abs(one.value - eight.value),
            "masses": abs(one.protected_mass - eight.protected_mass),
            "replicated": eight.x.sharding.is_fully_replicated,
        }
    return results


def evaluations() -> dict[str, Any]:
    """With 43 rows: shares of 6, the last of one row."""
    results: dict[str, Any] = {}
    n, d = 43, 5
    rng = np.random.default_rng(1)
    A = rng.normal(size=(n, d))
    plain = cr.CopyrightRegression(A, *arguments(n, 14), w=rng.random(n))
    cut = cr.shard(plain)
    turned = cr.shard(plain, jax.devices()[::-1])
    S, x = cut.A, jnp.asarray(rng.normal(size=d))
    u = np.zeros((3, 48))
    u[:, :n] = rng.normal(size=(3, n))
    weights = jnp.asarray(rng.random(48))
    results["products"] = {
        "A @ v": difference((S @ x)[:n], A @ np.asarray(x)),
        "absent rows of A @ v": float(jnp.max(jnp.abs((S @ x)[n:]))),
        "A @ V": difference((S @ rng.normal(size=(d, 2))).shape, (48, 2)),
        "u @ A": difference(jnp.asarray(u[0]) @ S, u[0, :n] @ A),
        "U @ A": difference(jnp.asarray(u) @ S, u[:, :n] @ A),
        "u @ A under vmap": difference(jax.vmap(lambda u: u @ S)(jnp.asarray(u)), u[:, :n] @ A),
        "T": difference(S.T @ u[0], u[0, :n] @ A),
        "column maxima": difference(interface.column_maxima(S), np.abs(A).max(axis=0)),
        "column norms": difference(interface.column_norms(S), np.linalg.norm(A, axis=0)),
        "to_host": difference(host_access.to_host(S), A),
        "host_rows": difference(
            host_access.join(S, [part for _, part in host_access.host_rows(S)])[:n], A
        ),
        "host_rows of turned devices": difference(
            host_access.join(turned.A, [part for _, part in host_access.host_rows(turned.A)])[:n], A
        ),
        "gram": difference(
            interface.gram(S, jnp.sqrt(weights), jnp.eye(d), jnp.float64),
            A.T @ (np.asarray(weights)[:n, None] * A),
        ),
        "squared column norms": difference(
            interface.squared_column_norms(S, weights), np.asarray(weights)[:n] @ A**2
        ),
        "weighted gram": difference(
            interface.weighted_gram(S, jnp.where(cut.b > 0, weights, 0)[None], jnp.ones((1, d))),
            (A - 1).T @ (np.asarray(weights)[:n, None] * (A - 1)),
        ),
        **{
            name: difference(getattr(cut, name)(x), getattr(plain, name)(x))
            for name in ("value", "gradient", "hessian", "ell_1", "ell_2", "f", "c")
        },
        "gradient by autodiff": difference(jax.grad(cut.value)(x), plain.gradient(x)),
        "values under vmap": difference(
            jax.vmap(cut.value)(jnp.stack([x, -x])), jax.vmap(plain.value)(jnp.stack([x, -x]))
        ),
        "hvp": difference(cut.hvp(x, x), plain.hvp(x, x)),
        "absent rows of f": float(jnp.max(jnp.abs(objective.f(cut.logits(x))[n:]))),
        "traced solve": difference(jax.jit(descend)(cut).x, descend(plain).x),
        "derivative of a solution": difference(
            jax.grad(lambda gamma: cr.solve(cut.replace(gamma=gamma)).value)(0.2),
            jax.grad(lambda gamma: cr.solve(plain.replace(gamma=gamma)).value)(0.2),
        ),
        "more devices than rows": difference(
            cr.shard(cr.SoftmaxRegression(A[:3], plain.b[:3])).gradient(x),
            cr.SoftmaxRegression(A[:3], plain.b[:3]).gradient(x),
        ),
    }
    results["counts"] = {"n": cut.n, "n1": cut.n1, "repr": repr(cut)}
    results["instance"] = cut.replace(gamma=0.2).A.shape

    arrays = {k: np.asarray(getattr(plain, k), np.float32) for k in ("A", "b", "gamma", "w")}
    single = cr.CopyrightRegression(**arrays, protected=plain.protected)
    found, same = cr.solve(cr.shard(single)), cr.solve(single)  # float32 and absent rows
    results["float32"] = [found.status.name, difference(found.x, same.x)]

    lbfgs = cr.solve(cr.shard(plain), cr.Optax(optax.lbfgs()))
    same = cr.solve(plain, cr.Optax(optax.lbfgs()))
    results["lbfgs"] = [lbfgs.status.name, difference(lbfgs.x, same.x)]

    certificates = [cr.certify(problem, np.asarray(lbfgs.x)) for problem in (cut, plain)]
    steps = []
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/run.npz"
        whole = cr.solve(cut)
        cr.solve(cut, max_steps=3, checkpoint=file)
        again = cr.solve(cut, checkpoint=file, callback=steps.append)
    results["resumed"] = [np.array_equal(whole.x, again.x), len(steps), again.num_steps]

    results["certificate"] = certificates[0].document == certificates[1].document

    # What the programs of the Hessian solver exchange.
    newton = cr.TrustRegionNewton()
    kit = precompute(cut, newton)
    state = initial_state_jit(cut, kit, None, 1e-10, newton)
    program = run_jit.compiled.lower(cut, kit, state, 100, 500, 1e-10, newton).compile().as_text()
    results["newton moves"] = re.findall(r"all-gather|all-to-all|collective-permute", program)
    return results


print(json.dumps({"solutions": solutions, "evaluations": evaluations}[sys.argv[1]]()))
