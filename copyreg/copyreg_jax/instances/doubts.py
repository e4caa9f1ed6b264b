"""What is allowed in an instance, but is mostly a slip."""

from __future__ import annotations

import numpy as np

from copyreg_jax.instances.new_folder import NewInstance
from copyreg_jax.instances.readers.row_tables import BLOCK_BYTES

__all__ = ["BESIDE_SOFTMAX", "doubt_of_gamma", "doubt_of_target", "doubts_of_columns"]

BESIDE_SOFTMAX = "but softmax(A x) is positive and sums to 1"
"""Why such a b is odd."""

_SUM_ATOL = 1e-3
"""How far from 1 a distribution may sum that was written with four digits, or in float32."""

_ROUNDED = 1.05
"""How much larger than a number its first two digits may be."""

_LEAST_ROWS = 10
"""Rows from which a column is not taken for an id, or for the mask, by chance."""

_NORM_RATIO = 100
"""How many times as large as the least norm of a column the largest may be."""


def doubt_of_target(b: np.ndarray) -> str:
    """Say why b is no distribution; nothing if it is one.

    Examples
    --------
    >>> doubt_of_target(np.array([0.75, -0.25])), doubt_of_target(np.array([0.75, 0.25]))
    ('b is -0.25 at row 1 and b sums to 0.5', '')
    """
    total, least = b.sum(dtype=np.float64), b.argmin()
    said = []
    if b[least] < 0:
        said.append(f"b is {b[least]:g} at row {least}")
    if abs(total - 1) > _SUM_ATOL:
        said.append(f"b sums to {total:g}")
    return " and ".join(said)


def doubt_of_gamma(instance: NewInstance) -> str:
    """Say that gamma is served by amplifying only; nothing if suppressing can serve it."""
    # A gamma asks for ell_1 = sqrt(2 gamma). With f = 0 on the protected rows, ell_1 is this sum.
    most = float(np.sum(instance.b[instance.protected] ** 2)) ** 2 / 2
    if instance.gamma <= most * _ROUNDED:
        return ""
    if most == 0:
        return (
            "b is 0 on all protected rows, so they can't get less than b, and any gamma amplifies "
            "them; to leave them out of the protection, solve with --gamma 0"
        )
    return (
        f"gamma {instance.gamma:g} asks for more distance than f = 0 on the protected rows has, so "
        "some of them may get more than b; to suppress them, solve with "
        f"--gamma {most:.2g} or less"
    )


def doubts_of_columns(instance: NewInstance) -> list[str]:
    """Say what is odd about A, as far as its first rows show that; no others are read."""
    d = len(instance.table.columns)
    rows = instance.first_rows(max(1, BLOCK_BYTES // (8 * d))).astype(np.float64)
    protected, names = instance.protected[: len(rows)], instance.table.columns
    found = []
    if len(rows) >= _LEAST_ROWS:
        count = np.arange(len(rows))
        for base in (0, 1):
            same = np.flatnonzero((rows == (count + base)[:, None]).all(axis=0)).tolist()
            found += [
                f"column {names[j]!r} counts the rows from {base}; if it is an id, leave it out"
                for j in same
            ]
        if 0 < np.count_nonzero(protected) < len(rows):
            same = np.flatnonzero((rows == protected[:, None]).all(axis=0)).tolist()
            found += [
                f"column {names[j]!r} is the mask of the protected rows; if A is not meant to say "
                "which these are, leave it out"
                for j in same
            ]
    norms = np.linalg.norm(rows, axis=0)
    if not instance.is_sparse and (norms > 0).any():  # else a norm says how often a column occurs
        least, most = int(np.where(norms > 0, norms, np.inf).argmin()), int(norms.argmax())
        if norms[most] > _NORM_RATIO * norms[least]:
            found.append(
                f"column {names[most]!r} is {norms[most] / norms[least]:.3g} times as large as "
                f"{names[least]!r} (by their norms); scale the columns before"
            )
    return found
