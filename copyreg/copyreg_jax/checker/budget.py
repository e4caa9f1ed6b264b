"""What a check of inextractable windows costs: said before it starts, and while it runs."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["MAX_TOKENS", "MAX_TOKENS_HELP", "Budget", "duration", "read_budget"]

MAX_TOKENS = 10_000
"""Tokens through the model that a check may take if no other number is given: 100 windows of 100.

That is minutes for a model of a million weights, and hours for one of 100 million.
"""


MAX_TOKENS_HELP = (
    "For a certificate of passages of a language model: the most tokens that may go through the "
    "model. A certificate that asks for more is refused."
)


class Budget:
    """Windows and tokens of a check or a proof, and from the first ones on how long it takes.

    The clock starts when ``said(0)`` is called: what comes before, as reading the model, is no part
    of the rate.

    Parameters
    ----------
    windows, tokens : int
        Number of windows, and of the tokens that go through the model for all of them.

    Examples
    --------
    >>> Budget(8, 792).said(0)
    '8 windows, 792 tokens through the model in exact arithmetic'
    """

    def __init__(self, windows: int, tokens: int) -> None:
        self.windows, self.tokens = windows, tokens
        self._begun = time.monotonic()

    def said(self, done: int) -> str:
        """How much there is, or with some windows done, at what rate, and how long it will take."""
        if done == 0:
            self._begun = time.monotonic()
            windows, tokens = _counted(self.windows, "window"), _counted(self.tokens, "token")
            return f"{windows}, {tokens} through the model in exact arithmetic"
        passed = time.monotonic() - self._begun
        rate = passed * self.windows / (done * self.tokens)
        left = passed * (self.windows - done) / done
        return (
            f"{done:,} of {_counted(self.windows, 'window')} done, {rate:.2g} s a token, about "
            f"{duration(left)} left"
        )


def read_budget(document: dict[str, Any]) -> Budget:
    """What a document of windows asks for. It may be of any form: the check itself refuses.

    Examples
    --------
    >>> asked = read_budget({"windows": [[5, 1, 4], [2, 0, 3]]})
    >>> (asked.windows, asked.tokens), read_budget({"windows": "none"}).tokens
    ((2, 4), 0)
    """
    windows = document.get("windows")
    lists = [w for w in windows if isinstance(w, list)] if isinstance(windows, list) else []
    # The last token of a window is read off, and does not go through the model.
    return Budget(len(lists), sum(max(len(window) - 1, 0) for window in lists))


def duration(seconds: float) -> str:
    """A time with two digits, in seconds, minutes or hours.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str

    Examples
    --------
    >>> [duration(seconds) for seconds in (0.4, 1, 99, 5400, 7200.0, 1e6)]
    ['0.4 seconds', '1 second', '99 seconds', '90 minutes', '120 minutes', '280 hours']
    """
    number, unit = seconds, "second"
    if seconds > 2 * 3600:
        number, unit = seconds / 3600, "hour"
    elif seconds > 2 * 60:
        number, unit = seconds / 60, "minute"
    return _counted(float(f"{number:.2g}"), unit)


def _counted(number: float, noun: str) -> str:
    """A number and its noun, in the plural unless the number is one."""
    written = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{written} {noun}{'' if number == 1 else 's'}"
