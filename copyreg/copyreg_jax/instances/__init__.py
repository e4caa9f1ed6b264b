"""Instances on disk, and the embedded example."""

from copyreg_jax.instances.instance_files import example_instance, load_instance, save_instance

__all__ = ["example_instance", "load_instance", "save_instance"]
