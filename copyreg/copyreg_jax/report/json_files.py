"""JSON that a command wrote and somebody may have changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError

__all__ = ["parse_json", "read_json", "require_fields"]


def parse_json(path: Path) -> Any:
    """Read any JSON; `InputError` if the file has none, or an integer of more than 64 bits."""
    try:
        return json.loads(path.read_bytes(), parse_int=_integer)
    except OSError as error:
        raise unreadable(path, error) from None
    except OverflowError as error:
        raise InputError(f"{path} has {error}; run the command again") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON, or damaged; run the command again") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object as `parse_json` does; `InputError` if the file has another value."""
    content = parse_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; run the command again")
    return content


def _integer(digits: str) -> int:
    """An integer that floats and NumPy can take, as all are that a command writes."""
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        shown = digits if len(digits) <= 20 else f"{digits:.20}..."
        raise OverflowError(f"the integer {shown}, which has more than 64 bits")
    return int(digits)


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
