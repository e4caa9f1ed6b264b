"""What is traced and what is not, and loops and branches that run on the device or the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

__all__ = ["cond", "is_concrete", "is_traced", "number", "only_if", "while_loop"]


def is_concrete(array: Any) -> bool:
    """Whether no leaf of a pytree is being traced by JAX."""
    leaves = jax.tree_util.tree_leaves(array)
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def is_traced() -> bool:
    """Whether this runs within a ``jax.jit``, where new arrays are traced, too."""
    return not is_concrete(_probe())


@jax.jit  # since a single operation takes three times as long
def _probe() -> Any:
    return jax.lax.neg(np.float32(0))  # an operation, which is traced under jax.disable_jit, too


def number(array: Any) -> Any:
    """The Python number in a concrete array without axes.

    For a result that JAX has just made, ``int``, ``float`` and ``bool`` take 20 to 30 us, and this
    takes one.
    """
    return np.asarray(array).item()


def while_loop(
    host: bool, going: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any
) -> Any:
    """``jax.lax.while_loop``, or the same as a Python loop."""
    if not host:
        return jax.lax.while_loop(going, body, carry)
    while number(going(carry)):
        carry = body(carry)
    return carry


def cond(
    host: bool, predicate: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]
) -> Any:
    """``jax.lax.cond``, or the same as a Python conditional."""
    if not host:
        return jax.lax.cond(predicate, if_true, if_false)
    return if_true() if number(predicate) else if_false()


def only_if(
    host: bool, wanted: Any, compute: Callable[[Any], Any], argument: Any, otherwise: Any
) -> Any:
    """``compute(argument)`` where that is wanted, or else what is given; without derivatives.

    For functions that capture a matrix. Under ``jax.vmap``, where a branch of `cond` is taken for
    all lanes, each with a copy of what it captures, this is computed if a lane wants it, and there
    is no copy. So it is a loop that is run once or not at all.
    """
    if host:
        return compute(argument) if number(wanted) else otherwise

    # What a loop leaves as it is XLA may compute ahead of it, wanted or not: so this is changed.
    def body(carry: Any) -> Any:
        _, argument, _ = carry
        used = jax.tree_util.tree_map(jax.numpy.zeros_like, argument)
        return np.zeros((), bool), used, compute(argument)

    return jax.lax.while_loop(lambda carry: carry[0], body, (wanted, argument, otherwise))[2]
