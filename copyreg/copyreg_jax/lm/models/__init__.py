"""Language models as flax ``nnx`` modules, and their files."""
