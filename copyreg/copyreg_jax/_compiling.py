"""Programs that are compiled in about half of the time, on a CPU with JAX 0.10."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["QuickJit"]


@functools.cache
def _options() -> dict[str, Any]:
    """What XLA may leave out on a CPU; the programs run as fast and as exactly without.

    It needs some ten milliseconds for each kernel. A sum of a few thousand numbers is three of
    them, unless it is not rewritten as a tree; its own loops add as well as those do.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, Any] = {}
    if "xla_disable_hlo_passes" not in os.environ.get("XLA_FLAGS", ""):  # it would be replaced
        options["xla_disable_hlo_passes"] = "tree_reduction_rewriter"
    if jax.__version_info__ < (0, 11, 1):  # later there is only one way to make kernels
        options["xla_cpu_use_fusion_emitters"] = False
    return options


class QuickJit:
    """``jax.jit`` of a function that is called from Python only, not while another one is traced.

    Parameters
    ----------
    function : callable
    **arguments
        Those of ``jax.jit``.

    Examples
    --------
    >>> power = QuickJit(lambda x, n: x**n, static_argnums=1)
    >>> float(power(3.0, 2))
    9.0
    """

    def __init__(self, function: Callable[..., Any], **arguments: Any) -> None:
        self._function, self._arguments = function, arguments
        functools.update_wrapper(self, function)

    @functools.cached_property
    def compiled(self) -> Any:
        """The function of ``jax.jit``; made late, because it depends on the device."""
        return jax.jit(self._function, compiler_options=_options(), **self._arguments)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.compiled(*args, **kwargs)
