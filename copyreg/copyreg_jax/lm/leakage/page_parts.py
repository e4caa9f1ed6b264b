"""Parts of the page of an audit: the passages that a model is likeliest to write."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from copyreg_jax._pages import counted, escape, percent, plain, table
from copyreg_jax.lm.leakage.phrases import odds, power

__all__ = ["likeliest", "nearly"]


def nearly(
    found: Mapping[str, Any] | None,
    beside: Mapping[str, Any] | None,
    preset: Mapping[str, Any],
) -> str:
    """Make a table of what comes up nearly word for word of a work, and of held-out passages.

    Parameters
    ----------
    found : mapping or None
        The fields of `constrained_beam.NearVerbatim` for the work, as JSON has them; None without a
        search, for which there is no table.
    beside : mapping or None
        The same for held-out passages; None without these.
    preset : mapping
        Two fields of `preset.Preset`: ``"suffix"`` and ``"budget"``.

    Examples
    --------
    >>> found = {"distance": 5, "num_passages": 800, "num_searched": 0, "extractable": 0.25}
    >>> page = nearly(found, None, {"suffix": 50, "budget": 1000})
    >>> page.partition("<tbody>")[2].partition("<tr><th scope=row>Within")[0]
    '<tr><th scope=row>Tokens of a passage that may be others<td>5 of 50'
    """
    if found is None:
        return ""
    columns = [found] if beside is None else [found, beside]
    rows = [
        ("Tokens of a passage that may be others",
         [f"{c['distance']} of {preset['suffix']}" for c in columns]),
        (f"Within {counted(preset['budget'], 'sample')}, at least",
         [percent(c["extractable"]) for c in columns]),
        ("Passages", [f"{c['num_passages']:,}" for c in columns]),
        ("Searched, the likeliest that do not come up exactly",
         [f"{c['num_searched']:,}" for c in columns]),
    ]  # fmt: skip
    if any(c["num_searched"] for c in columns):
        rows += [
            ("Likeliest of them, at least", [_if_searched(c, _likely) for c in columns]),
            ("Likelier than word for word, median", [_if_searched(c, _times) for c in columns]),
        ]
    names = ["This work"] if beside is None else ["This work", "Held-out texts"]
    return table("Nearly word for word", names, rows)


def _if_searched(found: Mapping[str, Any], write: Callable[[Mapping[str, Any]], str]) -> str:
    return write(found) if found["num_searched"] else ""


def _likely(found: Mapping[str, Any]) -> str:
    log_p = found["log_p"]
    return odds(None if log_p is None else log_p / math.log(10))


def _times(found: Mapping[str, Any]) -> str:
    log10 = found["gain"]
    return "beyond measure" if log10 is None else f"{power(max(log10, 0.0))} times"


def likeliest(places: Sequence[Mapping[str, Any]], text: str | None) -> str:
    """Make a table of where the likeliest passages of a work are; with its text, what they say.

    Parameters
    ----------
    places : sequence of mappings
        The fields of `passages.Place`; none for no table.
    text : str or None
        The text of the work.

    Examples
    --------
    >>> place = {"shown_from": 0, "start": 6, "written_to": 9, "end": 12, "log_p": -0.7}
    >>> likeliest([place], "As the wind blows").partition('"auto">')[2].partition("</block")[0]
    '<span class="before">As the</span><mark> wi</mark>nd '
    """
    if not places:
        return ""
    rows = [
        (
            f"{place['start']:,} to {place['end']:,}",
            [
                odds(place["log_p"] / math.log(10)),
                percent((place["written_to"] - place["start"]) / (place["end"] - place["start"])),
            ],
        )
        for place in places
    ]
    where = table("Its likeliest passages, by characters", ["One sample", "Written"], rows)
    if text is None:
        return where
    return (
        f"{where}<p>Each stands after the paler text that the model is shown. Underlined is what "
        "the model writes after that if it always takes its likeliest token, up to the first token "
        f"that is another.</p>\n{''.join(_passage(place, text) for place in places)}"
    )


def _passage(place: Mapping[str, Any], text: str) -> str:
    first, start, written_to, end = (
        place[name] for name in ("shown_from", "start", "written_to", "end")
    )
    parts = [text[first:start], text[start:written_to], text[written_to:end]]
    before, written, rest = (escape(plain(part)) for part in parts)
    return (
        f'<blockquote class="passage" dir="auto"><span class="before">{before}</span>'
        f"<mark>{written}</mark>{rest}</blockquote>\n"
    )
