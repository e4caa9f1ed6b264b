"""Files as bytes, and bytes as text; errors name the file."""

from __future__ import annotations

from pathlib import Path

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError

__all__ = ["decode_utf8", "read_bytes"]


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a file."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise unreadable(path, error) from None


def decode_utf8(content: bytes, where: str) -> str:
    """Decode UTF-8 text, and drop its byte order mark."""
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise InputError(
            f"{where}: not UTF-8, byte 0x{byte:02x} at offset {error.start}; save it as UTF-8"
        ) from None
