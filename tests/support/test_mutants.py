"""Planted bugs reach every user of a function, are found on the syntax tree, and are taken back."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from copyreg_jax.checker import arithmetic, data, linear, proofs
from copyreg_jax.problems import curvature
from copyreg_jax.problems.objective import Terms
from copyreg_jax.solvers import plane_search
from tests.support.mutants import planted


def test_a_function_is_changed_for_all_who_imported_it():
    assert linear.lower is arithmetic.lower
    with planted("checker.arithmetic:lower", "return -math.inf", "return 7.0"):
        assert linear.lower(arithmetic.arb("nan")) == 7
    assert linear.lower(arithmetic.arb("nan")) == -float("inf")


def test_methods_properties_and_nested_functions():
    csr = arithmetic.Csr(np.ones(1), np.zeros(1, int), np.array([0, 1]), 3)
    with planted("checker.data:Csr.shape", "self.indptr.size - 1", "5"):
        assert csr.shape == (5, 3)
    with planted("checker.arithmetic:Box.of", "return cls(numbers, numbers)", "return 1"):
        assert arithmetic.Box.of(2.0) == 1
    with planted("checker.data:map_threads", "return work(item)", "return 2 * work(item)"):
        assert list(data.map_threads(abs, [-3])) == [6]
    with planted("checker.sums:Sums.kappa", "self.protection[1]", "self.protection[0]"):
        assert proofs.View.kappa.fget(SimpleNamespace(protection=(1, 2))) == 1
    assert csr.shape == (1, 3)


def test_a_constant_is_changed_for_all_who_imported_it():
    with planted("checker.arithmetic:UNIT", "2.0**-53", "0.5"):
        assert (arithmetic.UNIT, linear.UNIT) == (0.5, 0.5)
    assert (arithmetic.UNIT, linear.UNIT) == (2.0**-53, 2.0**-53)
    with planted("problems.objective:FACTOR", '{"squared": 0.5, "cross-entropy": 1.0}', "{}"):
        assert curvature.FACTOR == {}
    assert curvature.FACTOR["squared"] == 0.5


@pytest.mark.slow
def test_what_was_compiled_is_forgotten():
    terms = Terms(jnp.array([0.7, 0.3]), jnp.array([True, False]), 0.1, 1.0, "joint", "squared")
    right = plane_search.evaluate_at(jnp.zeros(2), terms)[0]
    bug = "problems.objective:l_reg", "0.5 * jnp.sum((w * u) ** 2)", "7.0 + 0 * jnp.sum(u)"
    with planted(*bug, compiled=True):
        changed = plane_search.evaluate_at(jnp.zeros(2), terms)[0]
    assert changed == pytest.approx(right + 7)
    assert plane_search.evaluate_at(jnp.zeros(2), terms)[0] == right


def test_form_makes_no_difference():
    spread_out = """
    if (
        ball > threshold
    ):  # a comment
        return   Verdict.REFUTED
    """
    with planted("checker.verdicts:at_most", spread_out, ""):
        pass


@pytest.mark.parametrize(
    ("place", "old", "message"),
    [
        ("checker.verdicts:at_most", "ball >= 0", "is 0 times in"),
        ("checker.verdicts:at_most", "threshold", "times in"),
        ("checker.data:Dense.rows", "return self.flat(start, stop)", "is 0 times"),
        ("checker.data:Dense.columns", "1", "columns is defined 0 times"),
        ("checker.data:no_such_function", "1", "is defined 0 times"),
    ],
)
def test_what_is_not_there_once_is_an_error(place, old, message):
    with pytest.raises(LookupError, match=message), planted(place, old, "0"):
        pass


def test_an_error_in_the_block_takes_the_bug_back():
    with pytest.raises(ZeroDivisionError), planted("checker.arithmetic:TINY", "2.0**-1074", "1.0"):
        raise ZeroDivisionError
    assert arithmetic.TINY == 2.0**-1074
