"""What a search has done with each of its boxes, and the same as the bytes of a certificate."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from copyreg_jax.checker.box_tree import MAX_LEVELS, OPEN, children
from copyreg_jax.errors import InputError

__all__ = ["Grown", "grow", "planted_tree", "tree_bytes"]


class Grown(NamedTuple):
    """A tree of boxes that is never changed: one that has grown holds the one before it.

    Attributes
    ----------
    num_nodes : int
        Boxes so far, those that nobody has looked at among them.
    last : tuple or None
        What was before, numbers of boxes, their bytes, and the number of the first box below each.
    """

    num_nodes: int
    last: tuple[Any, np.ndarray, np.ndarray, np.ndarray] | None


def grow(tree: Grown, node: np.ndarray, ops: np.ndarray) -> tuple[Grown, np.ndarray]:
    """A tree in which some boxes have new bytes, and the number of the first box below each."""
    numbers = children(ops)
    first = tree.num_nodes + np.cumsum(numbers) - numbers
    return Grown(tree.num_nodes + int(numbers.sum()), (tree.last, node, ops, first)), first


def planted_tree(tree: np.ndarray) -> Grown:
    """The tree of a certificate, its boxes numbered in the order of the bytes."""
    numbers = children(tree)
    first = 1 + np.cumsum(numbers) - numbers
    return Grown(len(tree), (None, np.arange(len(tree)), tree, first))


def tree_bytes(tree: Grown) -> np.ndarray:
    """One byte a box, breadth first; boxes that nobody has looked at are open.

    Raises
    ------
    InputError
        The tree is deeper than a certificate may be.
    """
    parts, last = [], tree.last
    while last is not None:
        last, *part = last
        parts.append(part)
    ops, first = np.full(tree.num_nodes, OPEN, np.uint8), np.zeros(tree.num_nodes, np.int64)
    for node, new_ops, new_first in reversed(parts):
        ops[node], first[node] = new_ops, new_first
    level, levels = np.zeros(1, np.int64), list[np.ndarray]()
    while level.size:
        if len(levels) == MAX_LEVELS:
            raise InputError(f"the search is more than {MAX_LEVELS:,} boxes deep; give a wider gap")
        levels.append(ops[level])
        numbers = children(ops[level])
        before = np.cumsum(numbers) - numbers
        below = np.arange(numbers.sum()) - np.repeat(before, numbers)
        level = np.repeat(first[level], numbers) + below
    return np.concatenate(levels)
