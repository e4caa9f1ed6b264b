"""The command ``copyreg``."""

from copyreg_jax.cli.main import main

__all__ = ["main"]
