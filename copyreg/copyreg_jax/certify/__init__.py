"""Certificates and their independent checker.

The function ``copyreg_jax.certify`` and this folder share one name: importing any module in here
makes Python bind ``copyreg_jax.certify`` to the folder. So the folder can be called, and does what
`copyreg_jax.certify.certificate.certify` does. Importing it loads neither JAX nor FLINT.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from typing import Any


class _CallableModule(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from copyreg_jax.certify.certificate import certify

        return certify(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:  # so that process pools can send it
        return importlib.import_module, (self.__name__,)

    @property
    def __signature__(self) -> inspect.Signature:
        from copyreg_jax.certify.certificate import certify

        return inspect.signature(certify)


sys.modules[__name__].__class__ = _CallableModule
