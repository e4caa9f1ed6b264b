"""The exceptions and warnings of the package; every message says what, where and what to do."""

from __future__ import annotations

__all__ = [
    "ENABLE_X64",
    "InputError",
    "NotCoerciveWarning",
    "NotConvergedError",
    "PrecisionError",
    "TrainingError",
    "WindowWarning",
]


class InputError(ValueError):
    """An argument, array or file that cannot be used; exit code 2 on the command line."""


class PrecisionError(InputError):
    """More precision was asked for than the arrays' dtype can give."""


class NotConvergedError(RuntimeError):
    """Raised by ``Solution.raise_for_status`` when the solver did not converge."""


class NotCoerciveWarning(UserWarning):
    """The weights leave a direction unregularized, so a minimizer may not exist at finite x."""


class TrainingError(RuntimeError):
    """Training has come to a loss or gradient that is not finite."""


class WindowWarning(UserWarning):
    """Two texts are longer together than a compressor looks back: it can't compare all of them."""


ENABLE_X64 = 'jax.config.update("jax_enable_x64", True)'
