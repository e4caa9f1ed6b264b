"""JSON that a command wrote and somebody may have changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError

__all__ = ["read_json", "require_fields"]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; `InputError` if the file has none."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON, or damaged; run the command again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; run the command again")
    return content


def require_fields(content: Mapping[str, Any], fields: Mapping[str, type], where: object) -> None:
    """Refuse an object in which a field is missing or of another type; a float may be null."""
    for name, kind in fields.items():
        if name not in content:
            raise InputError(f"{where} has no {name!r}; run the command again")
        value = content[name]
        fits = type(value) is kind
        if kind is float:
            fits = value is None or type(value) in (int, float)
        if not fits:
            raise InputError(
                f"{where} has {str(value)!r:.40} for {name!r}, not {_KINDS[kind]}; "
                "run the command again"
            )


_KINDS = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}
_KINDS |= {list: "a list", dict: "an object"}
