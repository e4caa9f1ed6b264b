"""Many problems at once, minimized side by side in one compiled batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from copyreg_jax._tracing import is_concrete, is_traced
from copyreg_jax.errors import InputError
from copyreg_jax.problems.input import check_start
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers import options
from copyreg_jax.solvers.lanes import (
    SMALLEST_BATCH,
    Axes,
    Lanes,
    LeafAxes,
    lane_of,
    pick,
    precompute_lanes,
    solve_group,
)
from copyreg_jax.solvers.protocol import Solver
from copyreg_jax.solvers.side_by_side import Stop, run_side_by_side
from copyreg_jax.solvers.solution import Solution
from copyreg_jax.solvers.steps import precompute
from copyreg_jax.solvers.trust_region import TrustRegionNewton

__all__ = ["BatchCallback", "solve_many"]

_GROUP_LOGITS = 1 << 16
"""Logits of the problems that a CPU solves side by side: more would not stay in the cache.

10,000 problems of 64 x 8 take 35 us each with 2^16, 33 with 2^17, and 53 with 2^18 on two cores of
an EPYC, and 67 and 77 with the first two on a Xeon.
"""

BatchCallback: TypeAlias = Callable[[int, int], bool | None]


def solve_many(
    problems: Sequence[SoftmaxRegression] | SoftmaxRegression,
    solver: Solver | None = None,
    x0: ArrayLike | None = None,
    *,
    rtol: float | None = None,
    max_steps: int | None = None,
    callback: BatchCallback | None = None,
) -> Solution:
    """Minimize many problems of the same shapes, in one compiled batch.

    What all problems share, one A with many b, gamma or protected sets, is kept once: make those
    with ``problem.replace`` or from the same JAX array A. Products with a shared A are
    products with a matrix of all points, several times faster than one by one. Problems that are
    done leave the batch.

    Parameters
    ----------
    problems : sequence of problems, or one batched problem
        Equal in n, d, dtype, reading and metric. A batched problem is a pytree whose arrays have a
        leading axis, as ``jax.vmap`` of a constructor makes it: thousands of objects take longer to
        make than to solve.
    solver : Solver, optional
        `TrustRegionNewton` up to 32 columns, else `NewtonCG`.
    x0 : (k, d) or (d,) array, optional
        Starts; as in `solve` if not given.
    rtol, max_steps
        As in `solve`, for each problem.
    callback : callable, optional
        Called with the numbers of problems done and in all after each step, of any group of
        problems; returning True stops the others with status INTERRUPTED.

    Returns
    -------
    Solution
        Of arrays with a leading axis k; ``history`` is None. Unlike those of `solve`, the numbers
        are the device's own.

    Raises
    ------
    InputError
        No problem; problems that differ in more than the values of their arrays; sparse A that
        differ; a matrix on disk or sharded; x0 of another shape.
    PrecisionError
        As in `solve`.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.5, 0.3, 0.2], protected=1)
    >>> batch = cr.solve_many([problem.replace(gamma=g) for g in (0.01, 0.1, 1.0)])
    >>> batch.x.shape, bool((batch.status == cr.Status.CONVERGED).all())
    ((3, 1), True)
    """
    problems = problems if isinstance(problems, SoftmaxRegression) else list(problems)
    if is_traced() or not is_concrete((problems, x0)):
        raise InputError("solve_many runs on the host; under jit, use jax.vmap(copyreg_jax.solve)")
    if isinstance(problems, SoftmaxRegression):
        # jax.vmap leaves arrays of NumPy as they are, and each program would copy them anew.
        batch = jax.tree_util.tree_map(jnp.asarray, problems)
        axes, size = _axes(batch)
    else:
        batch, axes, size = _stack(problems)
    first = lane_of(batch, axes, 0)
    if solver is None and first.d <= options.SMALL_COLUMNS:
        solver = TrustRegionNewton()
    solver, rtol, max_steps = options.check_settings(first, solver, rtol, max_steps)
    starts = None if x0 is None else _starts(first, x0, size)
    # Precomputed data depend on A and w, and for the cross-entropy on the sum of b. Shared by
    # all, they are made once and on the host.
    shared = axes.A is None and axes.w is None
    if shared and first.metric == "cross-entropy":
        shared = _same_up_to_rounding(jnp.sum(batch.b, axis=-1), first.n)
    kit: Any = precompute(first, solver) if shared else ()  # or each part makes its own
    lanes = Lanes(batch, axes, kit, None if shared else 0, solver, rtol)

    # A cache is what limits a CPU; an accelerator wants more lanes, how many is not measured.
    logits = _GROUP_LOGITS if jax.default_backend() == "cpu" else 8 * _GROUP_LOGITS
    groups = -(-size // max(SMALLEST_BATCH, logits // first.n))
    length = -(-size // groups)

    def solve_part(begin: int, stop: Stop) -> Solution:
        index = np.minimum(np.arange(begin, begin + length), size - 1)
        group = lanes if groups == 1 else lanes.take(index)
        if not shared:
            group = group._replace(kit=precompute_lanes(group.problem, axes.leaves.axes, solver))
        x = starts if starts is None or groups == 1 else starts[index]
        solution = solve_group(group, group.start(x, length), max_steps, stop)
        return pick(solution, np.arange(min(length, size - begin)))

    parts = [functools.partial(solve_part, begin) for begin in range(0, size, length)]
    watch = None if callback is None else lambda done: bool(callback(min(done, size), size))
    solved = run_side_by_side(parts, [length] * len(parts), watch)
    return jax.tree_util.tree_map(lambda *leaves: jnp.concatenate(leaves), *solved)


def _stack(problems: list[SoftmaxRegression]) -> tuple[SoftmaxRegression, Axes, int]:
    """Make one batched problem of many, in which what all have in common is kept once."""
    if not problems:
        raise InputError("problems is empty; give at least one")
    for i, problem in enumerate(problems):
        if not isinstance(problem, SoftmaxRegression):
            raise InputError(f"problems[{i}] is a {type(problem).__name__}; give problems")
        options.check_one_device(problem)
    flat: list[tuple[list[Any], Any]] = [
        jax.tree_util.tree_flatten(problem) for problem in problems
    ]
    leaves, tree = flat[0]
    for i, (others, other_tree) in enumerate(flat):
        alike = bool(other_tree == tree) and all(
            a.shape == b.shape and a.dtype == b.dtype for a, b in zip(leaves, others, strict=True)
        )
        if not alike:
            raise InputError(
                f"problems[{i}] is {problems[i]!r}, problems[0] {problems[0]!r}; they must agree "
                "in type, shapes, dtype, reading and metric, and in the pattern of a sparse A"
            )
    shared = [all(_same(others[j], leaf) for others, _ in flat) for j, leaf in enumerate(leaves)]
    stacked = [
        leaf if shared[j] else jnp.stack([others[j] for others, _ in flat])
        for j, leaf in enumerate(leaves)
    ]
    batch = jax.tree_util.tree_unflatten(tree, stacked)
    axes = tuple(None if s else 0 for s in shared)
    return batch, _named(batch, axes), len(problems)


def _same(one: Array, other: Array) -> bool:
    """Return whether two arrays are one object or equal vectors; matrices are not compared."""
    return one is other or (one.ndim < 2 and np.array_equal(np.asarray(one), np.asarray(other)))


def _same_up_to_rounding(sums: Array, n: int) -> bool:
    """Return whether sums of n positive numbers differ by no more than the rounding of sums."""
    least, most = float(jnp.min(sums)), float(jnp.max(sums))
    return most - least <= 2 * n * float(jnp.finfo(sums.dtype).eps) * most


def _axes(batch: SoftmaxRegression) -> tuple[Axes, int]:
    """Return the axes and the size of a batched problem."""
    options.check_one_device(batch)
    dims = {"A": 2, "b": 1, "w": 1, "_protected": 1, "_gamma": 0}
    arrays = {name: getattr(batch, name) for name in dims if hasattr(batch, name)}
    extra = {name: array.ndim - dims[name] for name, array in arrays.items()}
    sizes = {array.shape[0] for name, array in arrays.items() if extra[name] == 1}
    if not set(extra.values()) <= {0, 1} or len(sizes) != 1:
        shapes = ", ".join(f"{name.strip('_')} {array.shape}" for name, array in arrays.items())
        raise InputError(
            f"a batched problem has arrays with one leading axis of one length, but has {shapes}; "
            "make it by jax.vmap of the constructor, or give a list of problems"
        )
    leaves = jax.tree_util.tree_leaves(batch)
    names = {id(array): name for name, array in arrays.items()}
    axes = tuple(0 if extra[names[id(leaf)]] else None for leaf in leaves)
    return _named(batch, axes), sizes.pop()


def _named(batch: Any, axes: tuple[int | None, ...]) -> Axes:
    by_id = dict(zip(map(id, jax.tree_util.tree_leaves(batch)), axes, strict=True))
    of_A = {by_id[id(leaf)] for leaf in jax.tree_util.tree_leaves(batch.A)}
    of_b, of_w = by_id[id(batch.b)], by_id[id(batch.w)]
    return Axes(None if of_A == {None} else 0, of_b, of_w, LeafAxes(axes))


def _starts(problem: SoftmaxRegression, x0: ArrayLike, size: int) -> Array:
    array = jnp.asarray(x0, problem.dtype)
    if array.shape == (problem.d,):
        array = jnp.broadcast_to(array[None], (size, problem.d))
    if array.shape != (size, problem.d):
        raise InputError(
            f"x0 has shape {array.shape}; give ({size}, {problem.d}), or ({problem.d},) for all"
        )
    check_start(array.reshape(-1))
    return array
