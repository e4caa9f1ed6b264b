"""Heat maps of texts for a page, in SVG: where a model knows a text, in colours and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from copyreg_jax.lm.leakage.phrases import odds

__all__ = ["draw", "join_pairs", "legend"]

_LEVELS = 10
"""Colours of a heat map, three powers of ten each: from below 1e-27 to at least 1e-3."""

_CODES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""What page.js reads: half powers of ten from 1e-30 to 1, and "." where no number is."""

_STRETCHES = 4
"""The most stretches of a work that are named in words."""


def draw(key: str, heat: Sequence[float | None], least: float) -> str:
    r"""Draw a text from its beginning to its end.

    Parameters
    ----------
    key : str
        The id of what says in words what the map shows.
    heat : sequence
        log10 of the probability of the likeliest suffix over each of some equal parts of the text;
        None where there is no suffix, or its probability is 0.
    least : float
        Probability from which on a suffix counts as written.

    Returns
    -------
    str
        A ``figure``. For each colour there is one line with dashes, which is short, and page.js
        reads the numbers from one letter for each part.

    Examples
    --------
    >>> figure = draw("heat", [None, -1.0, -1.5, -9.0], least=0.02)
    >>> figure.partition(" It is ")[2].partition("\u00a0")[0]
    '0.02 or more in 2 of 4 parts: 25 to 75'
    """
    levels = [
        None if value is None else min(max(math.floor((value + 30) / 3), 0), _LEVELS - 1)
        for value in heat
    ]
    lines = []
    for level in sorted({level for level in levels if level is not None}):
        dashes = [len(list(run)) for _, run in groupby(one == level for one in levels)]
        if levels[0] != level:
            dashes.insert(0, 0)
        if len(dashes) % 2:
            dashes.append(len(heat))
        lines.append(
            f"<path class=h{level} d=M0,.5H{len(heat)} "
            f'stroke-dasharray="{" ".join(map(str, dashes))}"/>'
        )
    codes = "".join(
        "." if value is None else _CODES[min(max(math.floor(2 * value + 60), 0), 60)]
        for value in heat
    )
    return (
        f'<figure><div class="map"><svg class="heat" role="img" aria-labelledby="{key}" '
        f'viewBox="0 0 {len(heat)} 1" preserveAspectRatio="none" data-p="{codes}">'
        f'{"".join(lines)}</svg></div><svg class="axis" aria-hidden="true"><use href="#axis"/>'
        f'</svg><figcaption id="{key}">{_along(heat, least)}</figcaption></figure>'
    )


def join_pairs(heat: Sequence[float | None]) -> list[float | None]:
    """Make half as many parts of an even number, each with the larger number of two.

    Examples
    --------
    >>> join_pairs([None, -3.0, None, None])
    [-3.0, None]
    """
    pairs = [heat[k : k + 2] for k in range(0, len(heat), 2)]
    return [max((one for one in pair if one is not None), default=None) for pair in pairs]


def _along(heat: Sequence[float | None], least: float) -> str:
    """Say in words what a heat map shows."""
    known = [(value, k) for k, value in enumerate(heat) if value is not None]
    if not known:
        return "No passage of it has a probability above 0."
    best, place = max(known, key=lambda one: one[0])  # the first of equal ones
    at = f"Likeliest at {_position(place, heat)}\u00a0% of the text: {odds(best)}."
    reached = [value is not None and value >= math.log10(least) for value in heat]
    edges = [
        k for k in range(len(heat) + 1) if [False, *reached, False][k] != ([*reached, False][k])
    ]
    stretches = sorted(zip(edges[::2], edges[1::2], strict=True), key=lambda s: s[0] - s[1])
    if not stretches:
        return f"{at} Nowhere is it {least:g} or more."
    named = ", ".join(
        f"{_position(begin, heat)} to {_position(end, heat)}\u00a0%"
        for begin, end in sorted(stretches[:_STRETCHES])
    )
    more = len(stretches) - _STRETCHES
    others = f" and {more} shorter {'stretch' if more == 1 else 'stretches'}" if more > 0 else ""
    return f"{at} It is {least:g} or more in {sum(reached)} of {len(heat)} parts: {named}{others}."


def _position(part: int, heat: Sequence[Any]) -> str:
    return f"{100 * part / len(heat):.3g}"


def legend() -> str:
    """The scale of colours, and the axis that all maps share."""
    swatches = "".join(
        f'<rect class="h{level}" x="{10 * level}%" width="10.1%"/>' for level in range(_LEVELS)
    )
    labels = (("0%", "⁻³⁰"), ("30%", "⁻²¹"), ("60%", "⁻¹²"), ("90%", "⁻³"))
    scale = "".join(f'<text x="{x}" y="34"{_anchor(x)}>10{power}</text>' for x, power in labels)
    ticks = "".join(
        f'<rect x="{x}" width="1" height="5"/><text x="{x}" y="18"{_anchor(x)}>'
        f"{x[:-1]}\u00a0%</text>"
        for x in ("0%", "25%", "50%", "75%", "100%")
    )
    return (
        '<figure class="legend"><svg role="img" aria-label="Scale of colours from a probability of '
        'ten to the power minus thirty or less to one.">'
        f'<defs><g id="axis">{ticks}</g></defs>{swatches}{scale}'
        '<text x="100%" y="34" text-anchor="end">1</text></svg>'
        "<figcaption>Probability of the likeliest passage: the further to the right, the likelier. "
        'The last colour begins at 1 in 1,000. <span class="none"></span> Hatched: no passage, or '
        "one that sampling never gives.</figcaption></figure>"
    )


def _anchor(x: str) -> str:
    return {"0%": "", "100%": ' text-anchor="end"'}.get(x, ' text-anchor="middle"')
