"""Loops and branches that run on the device, or on the host where A is read there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

__all__ = ["cond", "is_concrete", "is_traced", "while_loop"]


def is_concrete(array: Any) -> bool:
    """Whether no leaf of a pytree is being traced by JAX."""
    leaves = jax.tree_util.tree_leaves(array)
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def is_traced() -> bool:
    """Whether this runs within a ``jax.jit``, where new arrays are traced, too."""
    return not is_concrete(jax.lax.neg(np.float32(0)))


def while_loop(
    host: bool, going: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any
) -> Any:
    """``jax.lax.while_loop``, or the same as a Python loop."""
    if not host:
        return jax.lax.while_loop(going, body, carry)
    while bool(going(carry)):
        carry = body(carry)
    return carry


def cond(
    host: bool, predicate: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]
) -> Any:
    """``jax.lax.cond``, or the same as a Python conditional."""
    if not host:
        return jax.lax.cond(predicate, if_true, if_false)
    return if_true() if bool(predicate) else if_false()
