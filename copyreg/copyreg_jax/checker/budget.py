"""What a check of windows or of boxes costs: said before it starts, and while it runs."""

from __future__ import annotations

import time
from typing import Any

__all__ = [
    "MAX_BOXES",
    "MAX_BOXES_HELP",
    "MAX_TOKENS",
    "MAX_TOKENS_HELP",
    "BoxBudget",
    "Budget",
    "duration",
    "read_boxes",
    "read_budget",
]

MAX_TOKENS = 10_000
"""Tokens through the model that a check may take if no other number is given: 100 windows of 100.

That is minutes for a model of a million weights, and hours for one of 100 million.
"""


MAX_TOKENS_HELP = (
    "For a certificate of passages of a language model: the most tokens that may go through the "
    "model. A certificate that asks for more is refused."
)

MAX_BOXES = 4_000_000
"""Boxes that a check of a global minimum may make if no other number is given.

That is a minute for 30 rows and 4 columns. `minimize_globally` stops at half of it by default.
"""


MAX_BOXES_HELP = (
    "For a certificate of the global minimum: the most boxes that may be made and looked at. A "
    "certificate that asks for more is refused."
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


class BoxBudget:
    """Boxes of a check of a global minimum, and how many are done.

    Parameters
    ----------
    boxes, rows, columns : int

    Examples
    --------
    >>> BoxBudget(336278, 30, 4).said(0)
    '336,278 boxes of 4 columns and 30 rows'
    """

    def __init__(self, boxes: int, rows: int, columns: int) -> None:
        self.boxes, self.rows, self.columns = boxes, rows, columns

    def said(self, done: int) -> str:
        """How much there is, or how much of it is done."""
        if done:
            return f"{done:,} of {_counted(self.boxes, 'box')} done"
        boxes, columns = _counted(self.boxes, "box"), _counted(self.columns, "column")
        return f"{boxes} of {columns} and {_counted(self.rows, 'row')}"


def read_boxes(document: dict[str, Any]) -> BoxBudget:
    """What a document of a tree asks for. It may be of any form: the check itself refuses.

    Examples
    --------
    >>> asked = read_boxes({"tree": {"boxes": 7}, "instance": {"n": 3}, "columns": [0]})
    >>> (asked.boxes, asked.rows, asked.columns), read_boxes({"tree": "none"}).boxes
    ((7, 3, 1), 0)
    """
    tree, data, columns = (document.get(key) for key in ("tree", "instance", "columns"))
    boxes = tree.get("boxes") if isinstance(tree, dict) else 0
    rows = data.get("n") if isinstance(data, dict) else 0
    return BoxBudget(
        boxes if type(boxes) is int else 0,
        rows if type(rows) is int else 0,
        len(columns) if isinstance(columns, list) else 0,
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
    return f"{written} {noun}{'' if number == 1 else 'es' if noun == 'box' else 's'}"
