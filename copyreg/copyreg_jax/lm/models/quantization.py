"""Weights rounded to 8 or 4 bits, as the files have them that most people run."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.models.gguf_file import gguf_library
from copyreg_jax.lm.models.gpt2 import GPT2
from copyreg_jax.lm.models.hugging_face import LanguageModel
from copyreg_jax.lm.models.layers import Embedding

__all__ = ["FORMATS", "check_bits", "quantize", "round_trip"]

FORMATS = {8: "Q8_0", 4: "Q4_0"}
"""Formats of GGUF by their number of bits."""

_GROUP = 32


def check_bits(bits: int) -> None:
    """Refuse a number of bits that there is no format for.

    Parameters
    ----------
    bits : int

    Raises
    ------
    InputError
        bits is neither 8 nor 4.

    Notes
    -----
    Cost: none; nothing is computed or loaded.

    Examples
    --------
    >>> check_bits(4)
    >>> check_bits(3)
    Traceback (most recent call last):
        ...
    copyreg_jax.errors.InputError: bits is 3; give 8 or 4
    """
    if bits not in FORMATS:
        raise InputError(f"bits is {bits}; give {' or '.join(map(str, FORMATS))}")


def quantize(model: LanguageModel, bits: int) -> LanguageModel:
    """Round the matrices of a model to few bits, and back to float32.

    Parameters
    ----------
    model : GPT2 or Llama
        It is not changed.
    bits : int
        8 or 4.

    Returns
    -------
    GPT2 or Llama
        Its matrices have values that so many bits can say. Embeddings, of which that of the tokens
        is the head too, norms and biases are as they were, and so are the products.

    Raises
    ------
    InputError
        bits is neither 8 nor 4, a weight is too large, or the package gguf is not installed.

    Notes
    -----
    This is rounding to the nearest, without data: `round_trip` has the formats. A model that was
    rounded before is the same afterwards. Files of llama.cpp in these formats round the embedding
    of the tokens too. The cost is a pass over the weights on the host.

    Examples
    --------
    >>> from copyreg_jax.lm.models.gpt2 import GPT2Config
    >>> config = GPT2Config(vocab_size=50, context=16, width=32, num_layers=1, num_heads=2)
    >>> rounded = quantize(GPT2(config), 4)
    >>> len(set(rounded.h[0].attn.c_proj.weight[:, 0].tolist())) <= 16
    True
    """
    check_bits(bits)
    # Groups run along the inputs: GPT-2 has (in, out), Llama (out, in).
    along_first = isinstance(model, GPT2)
    rounded = nnx.clone(model)
    for _, module in nnx.iter_modules(rounded):
        weight: Any = getattr(module, "weight", None)
        if isinstance(module, Embedding) or weight is None or weight.ndim != 2:
            continue
        matrix = np.asarray(weight[...], np.float32)
        matrix = round_trip(matrix.T, bits).T if along_first else round_trip(matrix, bits)
        weight[...] = jnp.asarray(matrix)
    return rounded


def round_trip(matrix: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Round each row to few bits, in groups of 32 neighbours, and return what they stand for.

    Parameters
    ----------
    matrix : (out, in) float32 array
    bits : int
        8 or 4.

    Returns
    -------
    (out, in) float32 array
        Each group is ``d * q``: whole numbers q times its step d, a float16. There is no offset, so
        zeros stay zeros. Let m be the entry of the group that is farthest from 0. With 8 bits
        (Q8_0 of GGUF), ``d = |m| / 127`` and q is in -127 to 127. With 4 bits (Q4_0),
        ``d = -m / 8`` and q is in -8 to 7.

    Raises
    ------
    InputError
        bits is neither 8 nor 4, an entry is NaN or too large (5e5 with 4 bits, 8e6 with 8), or the
        package gguf is not installed.

    Notes
    -----
    An entry moves by half a step at most, and by what the rounding of d to float16 adds. With 4
    bits an entry near -m moves by up to a whole step, since there is no q = 8. A step below 6e-8,
    the least positive float16, may become 0.

    Examples
    --------
    >>> round_trip(np.array([[0.8, 0.31, -0.8]], np.float32), 4).round(3)
    array([[ 0.8,  0.3, -0.7]], dtype=float32)
    """
    check_bits(bits)
    gguf = gguf_library()
    kind = gguf.GGMLQuantizationType[FORMATS[bits]]
    width = matrix.shape[1]
    # Zeros at the end of a row have no part in the step of its last group.
    padded = np.pad(np.asarray(matrix, np.float32), ((0, 0), (0, -width % _GROUP)))
    with np.errstate(over="ignore", invalid="ignore"):  # a step above 65504 is looked for below
        undone = gguf.quants.dequantize(gguf.quants.quantize(padded, kind), kind)
    if not np.isfinite(undone).all():
        largest = np.abs(padded).max()
        raise InputError(
            f"{kind.name} has no weights as large as {largest:.3g}; leave these as they are"
        )
    return np.asarray(undone[:, :width], np.float32)
