"""Tensors of .safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (without it the library can't read bfloat16 into NumPy)
import numpy as np

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError
from copyreg_jax.instances.readers.numpy_files import ArrayTable
from copyreg_jax.instances.readers.row_tables import Choice, find_file, list_names

__all__ = ["open_safetensors"]

_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32",
    "F64": "float64", "BF16": "bfloat16",
}  # fmt: skip


class _Tensor:
    """A tensor that stays in its file."""

    def __init__(self, held: Any, dtype: str) -> None:
        self._held, self.shape, self.dtype = held, held.get_shape(), np.dtype(dtype)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._held[rows]


def open_safetensors(path: Path, choice: Choice, key: str | None) -> ArrayTable:
    """Open a tensor of two dimensions; bfloat16 and float16 are widened exactly."""
    from safetensors import SafetensorError, safe_open

    file = find_file(path)
    try:
        held = safe_open(path, framework="numpy")
        names = list(held.keys())
        if key is None and len(names) == 1:
            key = names[0]
        if key not in names:
            shown = f"no tensor {key!r}" if key else "several tensors"
            raise InputError(
                f"{path}: {shown}; {list_names(names)}; name one of them: {path.name}:NAME"
            )
        tensor = held.get_slice(key)
    except SafetensorError as error:
        raise InputError(f"{path} is truncated or not a .safetensors file: {error}") from None
    except OSError as error:
        raise unreadable(path, error) from None
    dtype = tensor.get_dtype()
    if dtype not in _DTYPES:
        raise InputError(f"{path}:{key} has type {dtype}; convert it to float32 or bfloat16")
    return ArrayTable(file, f"{path}:{key}", "tensor", _Tensor(tensor, _DTYPES[dtype]), choice)
