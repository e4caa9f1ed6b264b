"""The tests can fail: bugs, planted one at a time, are each found by the oracles.

Those in what proves are in tests/checker/test_mutants.py.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from copyreg_jax.problems import curvature, objective
from tests.support.exact import transcription
from tests.support.mutants import planted
from tests.support.registry import METRICS, READINGS, Draw


def instances():
    """Instances of both readings, unequal blocks, points on both sides of b."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        A, b, x = rng.normal(size=(7, 3)), rng.dirichlet(np.ones(7)), rng.normal(size=3)
        mask = np.zeros(7, bool)
        mask[rng.permutation(7)[: 2 + seed % 3]] = True
        yield Draw(A, b, mask, 10.0 ** rng.uniform(-3, 0), rng.random(7), x), READINGS[seed % 2]


@functools.cache
def derivatives():
    """Problems, logits, and the gradient and Hessian of automatic differentiation."""
    facts = []
    for draw, reading in instances():
        for metric in METRICS:
            problem = draw.problem(reading, metric)
            value, x = problem.value, draw.x
            facts.append((problem, problem.logits(x), jax.grad(value)(x), jax.hessian(value)(x)))
    return facts


def disagreement() -> float:
    """Largest relative difference to automatic differentiation."""
    worst = 0.0
    for problem, u, *right in derivatives():
        gradient = curvature.value_and_gradient(u, problem.terms)[1] @ problem.A
        A, at = problem.A, curvature.curvature(u, problem.terms)
        _, operator = curvature.linearize(A, at, u)
        forms = (
            curvature.hessian(A, at),
            curvature.restrict(at, A.T),
            jnp.stack([curvature.hvp(at, column) @ A for column in A.T]),
            jnp.stack([curvature.apply(A, operator, v)[0] for v in jnp.eye(problem.d)]),
        )
        for mine, theirs in ((gradient, right[0]), *((H, right[1]) for H in forms)):
            worst = max(worst, float(np.abs(mine - theirs).max() / np.abs(theirs).max()))
    return worst


@pytest.mark.slow
def test_the_derivatives_as_they_are():
    assert disagreement() < 1e-12


CURVATURE_BUGS = {
    'Lemma 12"s factor 16': ("problems.curvature:curvature", "2 / h**2", "8 / h**2"),
    'Definition 11"s sign': ("problems.curvature:_phi",
        "t * f + centered", "t * f + tc + jnp.sum(f * tc)"),
    "Lemma 10 under the joint reading": ("problems.objective:row_weights",
        "terms.protected", "~terms.protected"),
    "slope of the other metric": ("problems.curvature:protection_slope", "h", "0.5"),
    "cross-entropy: mass of all targets": ("problems.curvature:_phi", "jnp.sum(tb)", "jnp.sum(b)"),
    "cross-entropy: curvature of the target": ("problems.curvature:_phi",
        "(pull - tb, pull)", "(pull - tb, tb)"),
    "barrier of the squared distance": ("problems.curvature:curvature",
        "_phi(f_1, b, protected, metric)", '_phi(f_1, b, protected, "squared")'),
    "weights of the wrong softmax": ("problems.curvature:hessian", "at.s.at[0]", "at.s.at[-1]"),
    "center of w taken back twice": ("problems.curvature:hessian",
        "0.5 * jnp.sum(w2)", "jnp.sum(w2)"),
    "restriction not centered": ("problems.curvature:restrict", "Z - (Z @ f)[:, None]", "Z"),
    "slope of the operator": ("problems.curvature:_linear", "products[2:]", "products[1:-1]"),
}  # fmt: skip


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", CURVATURE_BUGS)
def test_bug_in_the_derivatives_is_found(name):
    derivatives()  # by automatic differentiation of what is right
    with planted(*CURVATURE_BUGS[name]):
        assert disagreement() > 1e-3


def misbound() -> float:
    """Largest relative difference to the bound as docs/theory/curvature-bound.md has it."""
    worst = 0.0
    for problem, u, *_ in derivatives():
        terms, gamma = problem.terms, float(problem.gamma)
        if terms.metric == "squared":
            continue
        beta, beta_1 = float(np.sum(terms.b)), float(np.sum(terms.b[terms.protected]))
        L = float(objective.value(u, dataclasses.replace(terms, w=0 * terms.w)))
        for value in (L, 3 * L):
            t = 2 * gamma / (value + math.sqrt(value**2 - 4 * gamma))
            right = beta / 2 + 2 * gamma * beta_1 / t**2 * min(1, 2 * beta_1 / t)
            found = float(curvature.upper_bound(value, terms))
            worst = max(worst, abs(found / right - 1))
    return worst


def test_the_upper_bound_as_it_is():
    assert misbound() < 1e-12


UPPER_BOUND_BUGS = {
    "root of the squared distance": ("problems.curvature:upper_bound", "4 * FACTOR[metric]", "2"),
    "the wrong root": ("problems.curvature:upper_bound", "value + root", "value - root"),
    "mass of the other rows": ("problems.curvature:upper_bound",
        "jnp.where(protected, b, 0)", "jnp.where(protected, 0, b)"),
    "block as for the squared distance": ("problems.curvature:upper_bound",
        'squared and terms.reading == "block"', 'terms.reading == "block"'),
}  # fmt: skip


@pytest.mark.parametrize("name", UPPER_BOUND_BUGS)
def test_bug_in_the_upper_bound_is_found(name):
    derivatives()
    with planted(*UPPER_BOUND_BUGS[name]):
        assert misbound() > 1e-3


@functools.cache
def valuations():
    """Instances, metrics, and the transcription's numbers."""
    # The same instances again, with logits in the thousands.
    far = [(draw._replace(x=1000 * draw.x), reading) for draw, reading in instances()]
    items = [*instances(), *far]
    cases = [(*item, metric) for item in items for metric in METRICS]
    cases += [(*item, "cross-entropy") for item in _edges()]
    return [(*case, transcription(*case)) for case in cases]


def misvaluation() -> float:
    """Largest relative difference of the definitions to their transcription."""
    worst = 0.0
    for draw, reading, metric, exact in valuations():
        u, b, mask = (jnp.asarray(a) for a in (draw.A @ draw.x, draw.b, draw.protected))
        gamma, w = jnp.asarray(draw.gamma), jnp.asarray(draw.w)
        found = {
            "f_1": jnp.sum(b * objective.f_1(u, mask, reading)),
            "c_1": jnp.sum(objective.c_1(u, b, mask, reading) ** 2),
            "c": jnp.sum(objective.c(u, b) ** 2),
            "ell": objective.ell(u, b, metric),
            "ell_1": objective.ell_1(u, b, mask, reading, metric),
            "ell_2": objective.ell_2(u, b, mask, reading, metric),
            "l_reg": objective.l_reg(u, w),
            "l_copyright": objective.l_copyright(u, b, mask, gamma, reading, metric),
            "value": objective.value(u, objective.Terms(b, mask, gamma, w, reading, metric)),
        }
        for name, value in found.items():
            right = float(exact[name])
            error = abs(float(value) - right) / max(abs(right), 1e-3)
            error = 0.0 if value == right else error  # infinite ones
            worst = max(worst, math.inf if math.isnan(error) else error)
    return worst


def _edges():
    """Rows without a target, one with an f beyond all numbers; a protected target met exactly."""
    b, mask, w = np.array([0.75, 0.25, 0.0, 0.0]), np.arange(4) < 2, np.zeros(4)
    far = Draw(np.eye(4), b, mask, 0.1, w, np.array([1e308, 1e308, 1e3, -1e308]))
    met = Draw(np.eye(4), np.eye(4)[0], mask, 0.1, w, np.array([1e3, 0.0, 0.0, 0.0]))
    yield from ((draw, reading) for draw in (far, met) for reading in READINGS)


def test_the_definitions_as_they_are():
    # The rounding of logits in the thousands, 2^-53 * 1e4, is what f loses.
    assert misvaluation() < 1e-10


OBJECTIVE_BUGS = {
    "softmax without its shift": ("problems.objective:f",
        "jax.nn.softmax(u)", "jnp.exp(u) / jnp.sum(jnp.exp(u))"),
    "readings swapped": ("problems.objective:f_1", '"block"', '"joint"'),
    "readings of ell_1 swapped": ("problems.objective:ell_1", '"block"', '"joint"'),
    "block normalized by all rows": ("problems.objective:f_1",
        "jax.nn.softmax(u, where=protected)", "jnp.where(protected, jax.nn.softmax(u), 0)"),
    "target of all rows in c_1": ("problems.objective:c_1",
        "f_1(u, protected, reading) - b", "f_1(u, ~protected, reading) - b"),
    "mask inverted in ell_2": ("problems.objective:ell_2",
        "jnp.where(protected, 0, _row_losses(u, b, metric))",
        "jnp.where(protected, _row_losses(u, b, metric), 0)"),
    "ell_2 of block not reduced": ("problems.objective:ell_2",
        "ell_1(u, b, protected, reading, metric)", "0"),
    "cross-entropy: logarithm of the softmax": ("problems.objective:_row_losses",
        "jax.nn.log_softmax(u, where=rows)", "jnp.log(jax.nn.softmax(u, where=rows))"),
    "cross-entropy: of b to f, not of f to b": ("problems.objective:_row_losses",
        "target * jnp.where((target == 0) & jnp.isinf(surprise), largest, surprise)",
        "jax.nn.softmax(u, where=rows) * surprise"),
    "cross-entropy: rows without a target": ("problems.objective:_row_losses",
        "jnp.where((target == 0) & jnp.isinf(surprise), largest, surprise)", "surprise"),
    "cross-entropy halved": ("problems.objective:FACTOR", "1.0", "0.5"),
    "protection upside down": ("problems.objective:_divide", "number / loss", "loss / number"),
}  # fmt: skip


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", OBJECTIVE_BUGS)
def test_bug_in_the_definitions_is_found(name):
    valuations()
    with planted(*OBJECTIVE_BUGS[name]):
        assert misvaluation() > 1e-3
