"""Charts in SVG that keep the size of their words on any screen and need no script.

Lines and points are in a drawing that is stretched to the chart, where their widths are not; the
words around them are placed by percentages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from copyreg_jax._pages import escape, raised, sentence

__all__ = ["Axis", "Series", "density", "draw", "thin"]

_SIDE = 1000
"""Units of a drawing in each direction."""

_CELLS = 40
"""Cells of a density in each direction."""

_SHADES = 5

_TICKS = 5


class Axis(NamedTuple):
    """One direction of a chart.

    Attributes
    ----------
    name : str
        What is drawn along it; text.
    low, high : float
        Ends, low < high; of a logarithmic axis the powers of ten.
    is_log : bool
    is_whole : bool
        Only integers are along it, so only they are ticks.
    """

    name: str
    low: float
    high: float
    is_log: bool
    is_whole: bool = False

    @classmethod
    def around(
        cls, name: str, *values: ArrayLike, is_log: bool = False, is_whole: bool = False
    ) -> Axis:
        """The axis that has room for all values that it can show.

        Examples
        --------
        >>> Axis.around("step", [0, 4, float("nan")])
        Axis(name='step', low=0.0, high=4.0, is_log=False, is_whole=False)
        >>> Axis.around("step", [0, 2], is_whole=True).ticks()
        [(0.0, '0'), (50.0, '1'), (100.0, '2')]
        >>> Axis.around("f", [0.0, 1e-3, 10.0], is_log=True).ticks()
        [(0.0, '0.001'), (25.0, '0.01'), (50.0, '0.1'), (75.0, '1'), (100.0, '10')]
        """
        every = np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in values])
        shown = every[_can_show(every, is_log)]
        if is_log:
            shown = np.log10(shown)
        low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
        if high - low <= 1e-9 * max(abs(low), abs(high)):  # a tick between its ends needs room
            room = 0.5 if is_log or is_whole else max(abs(low), 1e-300) / 2
            low, high = low - room, high + room
        return cls(name, low, high, is_log, is_whole)

    def places(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where values are, from 0 to 1; NaN for those that can't be shown."""
        every = np.asarray(values, np.float64)
        every = np.where(_can_show(every, self.is_log), every, np.nan)
        scaled = np.log10(every) if self.is_log else every
        return (scaled - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Places in percent with their words, a few of them."""
        low, high = (10**self.low, 10**self.high) if self.is_log else (self.low, self.high)
        if self.is_log and self.high - self.low >= 2:
            first, last = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
            step = max(1, math.ceil((last - first) / _TICKS))
            words = {10.0**power: _power_of_ten(power) for power in range(first, last + 1, step)}
        elif self.is_log and high >= 5 * low:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            values = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
            inside = (value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9))
            words = {value: f"{value:g}" for value in inside}
        else:
            words = _even_ticks(low, high, 1.0 if self.is_whole else 0.0)
        places = self.places(list(words)).tolist()
        return [(100 * at, text) for at, text in zip(places, words.values(), strict=True)]


def _even_ticks(low: float, high: float, least: float) -> dict[float, str]:
    """Ticks with a step of at least ``least``."""
    rough = max((high - low) / _TICKS, least)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    largest = max(abs(low), abs(high))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals <= 6 and largest < 1e7:
        return {k * step: f"{k * step:,.{decimals}f}" for k in numbers}
    digits = 2 + math.floor(math.log10(largest / step) + 1e-9)  # as many as tell ticks apart
    return {k * step: f"{k * step:.{min(digits, 17)}g}" for k in numbers}


def _can_show(values: NDArray[np.float64], is_log: bool) -> NDArray[np.bool_]:
    return np.isfinite(values) & ((values > 0) | (not is_log))


def _power_of_ten(power: int) -> str:
    return f"{10.0**power:g}" if -3 <= power <= 3 else f"10{raised(power)}"


class Series(NamedTuple):
    """Values that are drawn alike.

    Attributes
    ----------
    name : str
        For the legend; text.
    look : str
        "line", "dots" or "squares", which can be told apart without colors.
    x, y : sequences of float
        NaN breaks a line.
    color : str
        Which of the page's colors: "mark", "soft" or "ink".
    """

    name: str
    look: str
    x: ArrayLike
    y: ArrayLike
    color: str = "mark"


def thin(values: ArrayLike, most: int) -> NDArray[np.int64]:
    """Places of the ends and of the extremes of that many stretches, which show the same course.

    Examples
    --------
    >>> [int(k) for k in thin([0, 5, 0, 0, -1, 0], 2)]
    [0, 1, 3, 4, 5]
    """
    every = np.asarray(values, np.float64)
    if len(every) <= 2 * most:
        return np.arange(len(every))
    edges = np.linspace(0, len(every), most + 1).astype(np.int64)
    kept = [0, len(every) - 1]
    for first, last in pairwise(edges.tolist()):
        part = every[first:last]
        if np.isfinite(part).any():
            kept += [first + int(np.nanargmin(part)), first + int(np.nanargmax(part))]
    return np.unique(kept)


def draw(
    key: str, series: Sequence[Series], x: Axis, y: Axis, caption: str, *, extra: str = ""
) -> str:
    """A chart as a ``figure``.

    Parameters
    ----------
    key : str
        The id of the caption, which stands for the picture where it can't be seen.
    series : sequence of Series
    x, y : Axis
    caption : str
        What the picture shows, in words; text.
    extra : str
        SVG that is drawn below the series.

    Examples
    --------
    >>> x, y = Axis.around("step", [0, 2], is_whole=True), Axis.around("L", [1.0, 3.0])
    >>> figure = draw("run", [Series("L", "line", [0, 1, 2], [3.0, 2.0, 1.0])], x, y, "L falls.")
    >>> figure[figure.index('<path class="line') :].partition("</svg>")[0]
    '<path class="line mark" d="M0,0h0L500,500L1000,1000"/>'
    """
    paths = "".join(_path(one, x, y) for one in series)
    legend = "".join(
        f'<span class="key {one.look} {one.color}">{escape(one.name)}</span> ' for one in series
    )
    keys = f'<span class="keys">{legend}</span>' if len(series) > 1 else ""
    return _figure(key, extra + paths, x, y, keys + sentence(caption))


def _path(one: Series, x: Axis, y: Axis) -> str:
    across, up = x.places(one.x), y.places(one.y)
    there = np.isfinite(across) & np.isfinite(up)
    parts = []
    for k in np.flatnonzero(there):
        place = f"{_SIDE * across[k]:.0f},{_SIDE * (1 - up[k]):.0f}"
        goes_on = one.look == "line" and k > 0 and there[k - 1]
        parts.append(f"L{place}" if goes_on else f"M{place}h0")
    return f'<path class="{one.look} {one.color}" d="{"".join(parts)}"/>'


def _figure(key: str, drawing: str, x: Axis, y: Axis, caption: str) -> str:
    ticks = y.ticks()
    grid = "".join(f"M0,{_SIDE * (1 - at / 100):.0f}H{_SIDE}" for at, _ in ticks)
    words = "".join(
        f'<text x="-8" y="{100 - at:.4g}%" dy=".3em" text-anchor="end">{text}</text>'
        for at, text in ticks
    )
    words += "".join(
        f'<text x="{at:.4g}%" y="100%" dy="1.3em" text-anchor="{_anchor(at)}">{text}</text>'
        for at, text in x.ticks()
    )
    words += f'<text x="100%" y="100%" dy="2.6em" text-anchor="end">{escape(x.name)}</text>'
    scale = ", logarithmic" if y.is_log else ""
    return (
        f'<figure class="chart"><p class="above">{escape(y.name)}{scale}</p>'
        f'<svg role="img" aria-labelledby="{key}">'
        f'<svg viewBox="0 0 {_SIDE} {_SIDE}" preserveAspectRatio="none">'
        f'<path class="grid" d="{grid}"/>{drawing}</svg>{words}</svg>'
        f'<figcaption id="{key}">{caption}</figcaption></figure>\n'
    )


def _anchor(percent: float) -> str:
    return "start" if percent < 5 else "end" if percent > 95 else "middle"


def density(
    key: str, across: ArrayLike, up: ArrayLike, x: Axis, y: Axis, caption: str, *, color: str
) -> str:
    """How many points there are in each of many cells, as a ``figure`` with the line x = y.

    Its size does not grow with the number of points. The darkest of five shades has the most; each
    lighter one begins at a fixed share of the logarithm of that.
    """
    places = np.stack([x.places(across), y.places(up)])
    places = places[:, np.isfinite(places).all(axis=0)]
    cells = np.minimum((places * _CELLS).astype(np.int64), _CELLS - 1)
    counts = np.zeros((_CELLS, _CELLS), np.int64)
    np.add.at(counts, (cells[0], cells[1]), 1)
    most = max(int(counts.max()), 1)
    shades = np.ceil(_SHADES * np.log1p(counts) / math.log1p(most)).astype(np.int64)
    shades = np.minimum(shades, _SHADES)  # the largest may be rounded up
    side = _SIDE // _CELLS
    drawing = ""
    for shade in range(1, _SHADES + 1):
        squares = (
            f"M{side * i},{_SIDE - side * (j + 1)}h{side}v{side}h-{side}z"
            for i, j in np.argwhere(shades == shade)
        )
        drawing += f'<path class="cell {color} c{shade}" d="{"".join(squares)}"/>'
    ends = np.array([max(x.low, y.low), min(x.high, y.high)])
    if ends[0] < ends[1]:
        same = 10**ends if x.is_log else ends
        drawing += _path(Series("", "line", same, same, "ink equal"), x, y)
    return _figure(key, drawing, x, y, sentence(caption))
