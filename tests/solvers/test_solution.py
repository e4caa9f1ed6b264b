"""Statuses and directions in words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import copyreg_jax as cr
from tests.support.registry import random_problem


@pytest.fixture(scope="module")
def solution():
    return cr.solve(random_problem(0, 12, 2))


def test_every_status_has_an_explanation():
    assert all(len(status.explanation) > 20 for status in cr.Status)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (0.0, "unchanged"),
        (1e-9, "unchanged"),
        (1e-3, "amplified"),
        (-1e-3, "suppressed"),
        (np.nan, "unknown"),
    ],
)
def test_direction(solution, change, word):
    changed = dataclasses.replace(solution, protected_mass=solution.target_mass + change)
    assert changed.direction == word


def test_direction_of_a_batch(solution):
    batch = dataclasses.replace(
        solution, protected_mass=jnp.array([0.1, 0.9]), target_mass=jnp.array([0.5, 0.5])
    )
    assert batch.direction.tolist() == ["suppressed", "amplified"]


def test_raise_for_status(solution):
    assert solution.raise_for_status() is solution
    failed = dataclasses.replace(solution, status=cr.Status.STALLED)
    with pytest.raises(cr.NotConvergedError, match=r"STALLED after \d+ steps.*Raise rtol"):
        failed.raise_for_status()
    batch = dataclasses.replace(solution, status=np.array([1, 2, 1]))
    with pytest.raises(cr.NotConvergedError, match="1 of 3 problems did not converge"):
        batch.raise_for_status()


def test_solution_is_a_pytree(solution):
    doubled = jax.tree_util.tree_map(lambda leaf: leaf * 2, solution)
    assert doubled.value == 2 * solution.value
    assert np.array_equal(doubled.history.value, 2 * solution.history.value)
