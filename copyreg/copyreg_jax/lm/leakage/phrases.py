"""Probabilities, however small, as people read them: on pages and in sentences of an audit."""

from __future__ import annotations

import math

from copyreg_jax._pages import percent, raised

__all__ = ["bound", "interval", "odds", "power"]


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
    """Write the number that has this logarithm, however large or small it is.

    Parameters
    ----------
    log10 : float
        A finite number. From 0 to below 6 the number is written out, with three digits that count.
        Any other one has one digit and a power of ten.

    Examples
    --------
    >>> [power(log10) for log10 in (0.0, 3.14, 868.43, -7.3)]
    ['1', '1,380', '3·10⁸⁶⁸', '5·10⁻⁸']
    """
    if 0 <= log10 < 6:
        return f"{float(f'{10.0**log10:.3g}'):,.12g}"
    exponent = math.floor(log10)
    digits = f"{10.0 ** (log10 - exponent):.0f}"
    if digits == "10":
        digits, exponent = "1", exponent + 1
    return f"{digits}·10{raised(exponent)}"


def interval(lower: float, upper: float) -> str:
    """Write an interval of shares with three digits, which has all of it.

    Examples
    --------
    >>> interval(0.66369, 1.0), interval(0.0, 0.3363)
    ('0.663 to 1.000', '0.000 to 0.337')
    """
    return f"{math.floor(1000 * lower) / 1000:.3f} to {math.ceil(1000 * upper) / 1000:.3f}"


def bound(bits: float | None) -> str:
    """Write ``2^-bits`` rounded up, so that no sampler is above what is written.

    Examples
    --------
    >>> bound(12.39), bound(0.0)
    ('2⁻¹²', '1')
    """
    if bits is None:
        return "not known"
    return f"2{raised(-math.floor(bits))}" if bits >= 1 else "1"
