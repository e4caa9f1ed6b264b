"""What notebooks show of an object: a title, a small table and a note."""

from __future__ import annotations

import html
from collections.abc import Mapping

__all__ = ["card"]

_LEFT = ' style="text-align: left"'


def card(title: str, rows: Mapping[str, str], note: str = "") -> str:
    """HTML of a title, a table with one line for each row, and a note; all text is escaped.

    There are no colors, so that it can be read in dark notebooks. The classes keep MathJax from
    reading dollar signs in names as formulas.
    """
    lines = "".join(
        f"<tr><th{_LEFT}>{html.escape(name)}</th><td{_LEFT}>{html.escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    below = f"<p>{html.escape(note)}</p>" if note else ""
    return (
        '<div class="tex2jax_ignore mathjax_ignore">'
        f"<strong>{html.escape(title)}</strong><table>{lines}</table>{below}</div>"
    )
