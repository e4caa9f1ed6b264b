"""Numbers and names as people read them: on pages and in sentences of an audit."""

from __future__ import annotations

import math

__all__ = ["bound", "counted", "interval", "odds", "percent", "plain", "power", "quoted"]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# What would change the direction of the text around a name, or is no character of a page.
_NOT_SHOWN = dict.fromkeys(
    [*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F),
     *range(0x2066, 0x206A), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF],
    "\ufffd",
)  # fmt: skip


def percent(share: float | None) -> str:
    r"""Write a share with three digits; it is 0 % or 100 % only if it is that.

    Examples
    --------
    >>> [percent(share) for share in (0.0, 1e-9, 0.12345, 0.99999)]
    ['0\xa0%', 'less than 0.01\xa0%', '12.3\xa0%', 'more than 99.9\xa0%']
    """
    if share is None:
        return "not known"
    if 0 < share < 0.0001:
        return "less than 0.01\u00a0%"
    text = f"{100 * share:.3g}"
    return f"{'more than 99.9' if text == '100' and share < 1 else text}\u00a0%"


def odds(log10: float | None) -> str:
    r"""Write the probability that has this logarithm as people say it; None is probability 0.

    Examples
    --------
    >>> [odds(log10) for log10 in (None, -0.1, -3.0, -12.3)]
    ['0', '79.4\xa0%', '1\xa0in\xa01,000', '5·10⁻¹³']
    """
    if log10 is None:
        return "0"
    if log10 > -1:
        return percent(10.0**log10)
    return f"1\u00a0in\u00a0{power(-log10)}" if log10 > -6 else power(log10)


def power(log10: float) -> str:
    """Write the number that has this logarithm, however large or small it is."""
    if 0 <= log10 < 6:
        return f"{float(f'{10.0**log10:.3g}'):,.12g}"
    exponent = math.floor(log10)
    digits = f"{10.0 ** (log10 - exponent):.0f}"
    if digits == "10":
        digits, exponent = "1", exponent + 1
    return f"{digits}·10{str(exponent).translate(_RAISED)}"


def counted(number: float, name: str) -> str:
    """Write a number of things.

    Examples
    --------
    >>> counted(1, "sample"), counted(1000, "sample")
    ('1 sample', '1,000 samples')
    """
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def interval(lower: float, upper: float) -> str:
    """Write an interval of shares with three digits, which has all of it.

    Examples
    --------
    >>> interval(0.66369, 1.0), interval(0.0, 0.3363)
    ('0.663 to 1.000', '0.000 to 0.337')
    """
    return f"{math.floor(1000 * lower) / 1000:.3f} to {math.ceil(1000 * upper) / 1000:.3f}"


def quoted(name: str) -> str:
    """Quote the name of a work; no name changes the direction of the text around it."""
    return f"“\u2068{name.translate(_NOT_SHOWN)}\u2069”"


def plain(text: str) -> str:
    """Text without what is no character of a page, and without what changes its direction."""
    return text.translate({k: v for k, v in _NOT_SHOWN.items() if chr(k) not in "\t\n"})


def bound(bits: float | None) -> str:
    """Write ``2^-bits`` rounded up, so that no sampler is above what is written.

    Examples
    --------
    >>> bound(12.39), bound(0.0)
    ('2⁻¹²', '1')
    """
    if bits is None:
        return "not known"
    return f"2{str(-math.floor(bits)).translate(_RAISED)}" if bits >= 1 else "1"
