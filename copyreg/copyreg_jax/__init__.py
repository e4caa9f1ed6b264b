"""Softmax regression and copyright regression in JAX, with certificates.

``import copyreg_jax as cr``, then `CopyrightRegression`, `solve`, `certify`, `check`. Names are
loaded when first used, so that importing this package starts neither JAX nor a device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__version__ = "0.1.0"


@functools.cache
def _public() -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The public names, listed once, in __init__.pyi; the checker by itself never asks for them."""
    import lazy_loader

    return lazy_loader.attach_stub(__name__, __file__)  # type: ignore[no-any-return]


def __getattr__(name: str) -> Any:
    load, _, names = _public()
    return names if name == "__all__" else load(name)


def __dir__() -> list[str]:
    return _public()[1]()
