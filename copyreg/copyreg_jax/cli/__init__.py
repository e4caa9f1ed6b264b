"""The command ``copyreg``."""

from copyreg_jax.cli.app import main

__all__ = ["main"]
