"""Language models as flax ``nnx`` modules, and their files."""

__all__ = [
    "gguf_file",
    "gpt2",
    "hugging_face",
    "layers",
    "llama",
]
