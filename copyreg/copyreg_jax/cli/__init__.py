"""The command ``copyreg``."""

from copyreg_jax.cli import training as _training  # noqa: F401  (it adds a command)
from copyreg_jax.cli.app import main

__all__ = ["main"]
