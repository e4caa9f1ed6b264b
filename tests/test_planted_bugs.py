"""The tests can fail: one-line bugs, planted one at a time, are each found by the oracles."""

import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from copyreg_jax import curvature
from copyreg_jax.certify import check as checker
from copyreg_jax.certify.certificate import to_instance

from .exact import between, transcription
from .registry import READINGS, Draw


def mutant(module: types.ModuleType, old: str, new: str) -> types.ModuleType:
    """The module with one piece of its source replaced; never put in sys.modules for others."""
    source = Path(module.__file__).read_text()
    assert source.count(old) == 1, f"{old!r} is there {source.count(old)} times"
    made = types.ModuleType("mutant")
    sys.modules["mutant"] = made  # NamedTuple looks its module up
    try:
        exec(compile(source.replace(old, new), module.__file__, "exec"), made.__dict__)
    finally:
        del sys.modules["mutant"]
    return made


def instances():
    """Instances of both readings, unequal blocks, points on both sides of b."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        A, b, x = rng.normal(size=(7, 3)), rng.dirichlet(np.ones(7)), rng.normal(size=3)
        mask = np.zeros(7, bool)
        mask[rng.permutation(7)[: 2 + seed % 3]] = True
        yield Draw(A, b, mask, 10.0 ** rng.uniform(-3, 0), rng.random(7), x), READINGS[seed % 2]


CHECKER_BUGS = {
    "float ends taken unproved": (
        "            if arb(bound) <= ball:\n                return bound\n",
        "            return math.nextafter(bound, math.inf)\n",
    ),
    "upper end rounded down": ("if arb(bound) >= ball:", "if arb(bound) <= ball:"),
    "margin with the blocks swapped": (
        "margin = ell_1 / n1 - ell_2 / (instance.n - n1)",
        "margin = ell_1 / (instance.n - n1) - ell_2 / n1",
    ),
    "n1 off by one": ("        n1 = instance.n1\n        margin", "        n1 = instance.n1 + 1\n        margin"),
    "regularization not halved": ("(_sum(squares) + regularization) / 2", "_sum(squares) / 2 + regularization"),
    "gamma forgotten": ("value += gamma / ell_1", "value += gamma"),
    "block reading with the joint normalizer": ("_square(v / total_1 - bi)", "_square(v / total - bi)"),
    "block maximum of all rows": ("total_1 = _sum(v for v in e_1 if v is not None)", "total_1 = _sum(e)"),
    "ell_2 not reduced by ell_1": ("ell_2 = _sum(squares) - ell_1", "ell_2 = _sum(squares)"),
    "mask inverted for the mass": (
        "mass = _sum(v for v, p in zip(f, m, strict=True) if p)",
        "mass = _sum(v for v, p in zip(f, m, strict=True) if not p)",
    ),
    "softmax not normalized": ("f = [v / total for v in e]", "f = [v for v in e]"),
    "midpoints instead of balls": ("u = list(_logits(instance, x))", "u = [v.mid() + arb(2)**-40 for v in _logits(instance, x)]"),
    "level set: wrong root": ("high = L + (", "high = L - ("),
    "level set: 2 L lost": ("2 * gamma / (n2 * t) - 2 * L / n2", "2 * gamma / (n2 * t) - L / n2"),
    "level set: n1 for n2": ("n * t / (n1 * n2)", "n * t / (n1 * n1)"),
    "level set: block bound of joint": ("low = gamma / L", "low = 4 * gamma / L"),
    "verdict by negation": (
        "    if ball >= threshold:\n",
        "    if not ball < threshold:\n",
    ),
}  # fmt: skip


def violations(module) -> int:
    """False statements of a checker about instances whose exact numbers are known."""
    found = 0
    for draw, reading in instances():
        exact = transcription(draw, reading)
        instance = to_instance(draw.problem(reading))
        enclosure = module.enclose(instance, draw.x, 128)
        for name in checker.Enclosure._fields:
            ball = getattr(enclosure, name)
            found += not between(module.lower(ball), exact[name], module.upper(ball))
        # Scaled copies of x, each against levels that it reaches.
        for scale in (0.0, 0.3, 1.0, 2.0, 4.0):
            other = transcription(draw._replace(x=draw.x * scale), reading)
            for slack in (1.0, 1.2, 3.0):
                level = float(other["value"]) * slack * (1 + 1e-12)
                found += module.level_set_tau(instance, level, 128) > other["margin"]
        loose = module.arb(exact_float := float(exact["margin"]), 1e-3)
        found += module.at_least(loose, exact_float) is not module.Verdict.UNDECIDED
    return found


def test_the_checker_as_it_is_makes_no_false_statement():
    assert violations(checker) == 0


@pytest.mark.parametrize("name", CHECKER_BUGS)
def test_bug_in_the_checker_is_found(name):
    assert violations(mutant(checker, *CHECKER_BUGS[name])) > 0


CURVATURE_BUGS = {
    "Lemma 12's factor 16": ("kappa = 4 * slope", "kappa = 16 * slope"),
    "Definition 11's sign": (
        "pairs = [(f, f * (t * f + centered))]",
        "pairs = [(f, f * (t * f + t * c + jnp.sum(f * t * c)))]",
    ),
    "Lemma 10 under the joint reading": (
        "_, gradient = _first_order(f, jnp.where(protected, (1 - slope) * c, c))",
        "gradient = _first_order(f, c)[1] - slope * jnp.where(protected, f * (c - jnp.sum(jnp.where(protected, f * c, 0))), 0)",
    ),
    "slope without the 2": ("2 * (gamma / jnp.where(", "(gamma / jnp.where("),
    "regularization not squared": ("return value, gradient + w**2 * u", "return value, gradient + w * u"),
    "weights not squared in the Hessian": ("        w2=w**2,", "        w2=w,"),
    "projection on one side only": ("return r - f * jnp.sum(r)", "return r"),
    "no centering": ("r = s * (z - jnp.sum(f * z))", "r = s * z"),
    "block: protection added": ("gradient = gradient - slope * g", "gradient = gradient + slope * g"),
    "block: curvature added": ("(f_1, -slope * f_1 *", "(f_1, slope * f_1 *"),
    "rank-one term lost": ("+ at.kappa * at.g * jnp.sum(at.g * z)", ""),
}  # fmt: skip


def disagreement(module) -> float:
    """Largest relative difference to automatic differentiation."""
    worst = 0.0
    for draw, reading in instances():
        problem = draw.problem(reading)
        u = problem.logits(draw.x)
        terms = problem.terms
        gradient = module.value_and_gradient(u, *terms)[1] @ problem.A
        H = module.hessian(problem.A, module.curvature(u, *terms))
        for mine, theirs in (
            (gradient, jax.grad(problem.value)(draw.x)),
            (H, jax.hessian(problem.value)(draw.x)),
        ):
            worst = max(worst, float(np.abs(mine - theirs).max() / np.abs(theirs).max()))
    return worst


def test_the_derivatives_as_they_are():
    assert disagreement(curvature) < 1e-12


@pytest.mark.parametrize("name", CURVATURE_BUGS)
def test_bug_in_the_derivatives_is_found(name):
    assert disagreement(mutant(curvature, *CURVATURE_BUGS[name])) > 1e-3
