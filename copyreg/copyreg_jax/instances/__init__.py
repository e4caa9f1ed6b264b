"""Instances on disk, the embedded example, and readers of the files that people have."""

from copyreg_jax.instances.instance_files import example_instance, load_instance, save_instance
from copyreg_jax.instances.readers import read_matrix

__all__ = ["example_instance", "load_instance", "read_matrix", "save_instance"]
