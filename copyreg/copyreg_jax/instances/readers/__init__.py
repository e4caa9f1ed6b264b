"""Readers of the files that people have: one file for each format, one way to call them."""

from copyreg_jax.instances.readers.opening import FORMATS, open_table, read_matrix

__all__ = ["FORMATS", "open_table", "read_matrix"]
