"""Softmax regression and copyright regression in JAX, with certificates.

``import copyreg_jax as cr``, then `CopyrightRegression`, `solve`, `certify`, `check`. Names are
loaded when first used, so that importing this package starts neither JAX nor a device.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from copyreg_jax.certificates import Certificate as Certificate
    from copyreg_jax.certificates import certify as certify
    from copyreg_jax.checker.check import CheckResult as CheckResult
    from copyreg_jax.checker.check import check as check
    from copyreg_jax.checker.verdicts import Verdict as Verdict
    from copyreg_jax.errors import InputError as InputError
    from copyreg_jax.errors import NotCoerciveWarning as NotCoerciveWarning
    from copyreg_jax.errors import NotConvergedError as NotConvergedError
    from copyreg_jax.errors import PrecisionError as PrecisionError
    from copyreg_jax.instances import example_instance as example_instance
    from copyreg_jax.instances import load_instance as load_instance
    from copyreg_jax.instances import save_instance as save_instance
    from copyreg_jax.matrices import RowBlocks as RowBlocks
    from copyreg_jax.matrices import ShardedRows as ShardedRows
    from copyreg_jax.problems import CopyrightRegression as CopyrightRegression
    from copyreg_jax.problems import SoftmaxRegression as SoftmaxRegression
    from copyreg_jax.problems import shard as shard
    from copyreg_jax.solvers import AcceleratedGradient as AcceleratedGradient
    from copyreg_jax.solvers import GradientDescent as GradientDescent
    from copyreg_jax.solvers import Minima as Minima
    from copyreg_jax.solvers import NewtonCG as NewtonCG
    from copyreg_jax.solvers import Optax as Optax
    from copyreg_jax.solvers import Progress as Progress
    from copyreg_jax.solvers import SketchedNewton as SketchedNewton
    from copyreg_jax.solvers import TrustRegionNewton as TrustRegionNewton
    from copyreg_jax.solvers import multi_start as multi_start
    from copyreg_jax.solvers import solve as solve
    from copyreg_jax.solvers import solve_many as solve_many
    from copyreg_jax.solvers import solve_path as solve_path
    from copyreg_jax.solvers.solution import History as History
    from copyreg_jax.solvers.solution import SecondOrder as SecondOrder
    from copyreg_jax.solvers.solution import Solution as Solution
    from copyreg_jax.solvers.solution import Status as Status

__version__ = "0.1.0"

_ROOMS = {
    "certificates": ("Certificate", "certify"),
    "checker.check": ("CheckResult", "check"),
    "checker.verdicts": ("Verdict",),
    "errors": ("InputError", "NotCoerciveWarning", "NotConvergedError", "PrecisionError"),
    "instances": ("example_instance", "load_instance", "save_instance"),
    "matrices": ("RowBlocks", "ShardedRows"),
    "problems": ("CopyrightRegression", "SoftmaxRegression", "shard"),
    "solvers.solution": ("History", "SecondOrder", "Solution", "Status"),
    "solvers": (
        "AcceleratedGradient",
        "GradientDescent",
        "Minima",
        "NewtonCG",
        "Optax",
        "Progress",
        "SketchedNewton",
        "TrustRegionNewton",
        "multi_start",
        "solve",
        "solve_many",
        "solve_path",
    ),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return __all__
