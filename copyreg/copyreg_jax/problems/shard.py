"""Spreading the rows of a problem over devices."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import ShardedRows
from copyreg_jax.problems.softmax_regression import Problem, SoftmaxRegression

__all__ = ["shard"]


def shard(problem: Problem, devices: Sequence[Any] | None = None) -> Problem:
    """Spread the rows of A, and the vectors that belong to them, over devices.

    This is for a problem at hand, with a dense A. If A is larger than one device, or if each
    process reads its own rows, make the problem from `ShardedRows` instead.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
        The same in all processes.
    devices : sequence of devices, optional
        All devices of all processes if not given.

    Raises
    ------
    InputError
        The argument is not a problem, or its A is not dense.

    Notes
    -----
    Vectors of n entries are filled up with zeros to a multiple of the number of devices, see
    `ShardedRows`. docs/how-to/many-devices.md says what is exchanged and what is not supported.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.shard(cr.SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3], w=0.1))
    >>> problem.A
    ShardedRows(shape=(2, 1), dtype=float32, devices=1)
    >>> cr.solve(problem).status.name
    'CONVERGED'
    """
    if not isinstance(problem, SoftmaxRegression):
        raise InputError(
            f"problem is a {type(problem).__name__}; give a CopyrightRegression, or hand "
            "ShardedRows(A) to one"
        )
    sharded = copy.copy(problem)
    sharded.A = ShardedRows(problem.A, devices)
    sharded._place()
    return sharded
