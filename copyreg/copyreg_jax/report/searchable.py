"""Tables of any length that a browser searches and sorts: the page has the numbers, not the rows.

The numbers stand in the page as the bytes of float64, so what is shown is exact. Without a script
the table is not there; a page says in words, and in a table of its own, what matters most in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from copyreg_jax._pages import counted, escape, plain, wide

__all__ = ["MOST_ROWS", "Kept", "keep", "searchable"]

MOST_ROWS = 50_000
"""A page keeps no more rows than this: they are 1.4 MB of a page."""


class Kept(NamedTuple):
    """Which rows a page keeps.

    Attributes
    ----------
    rows : (k,) array of int
        In ascending order.
    note : str
        What is left out, as a sentence; empty if nothing is.
    """

    rows: NDArray[np.int64]
    note: str


def keep(importance: ArrayLike, by: str, most: int = MOST_ROWS) -> Kept:
    """The rows that count most, if there are too many for a page; what is NaN counts most.

    Examples
    --------
    >>> keep([1.0, 3.0, 2.0], "f - b", most=2)
    Kept(rows=array([1, 2]), note='The table has 2 of 3 rows, those with the largest f - b.')
    """
    every = np.nan_to_num(np.asarray(importance, np.float64), nan=np.inf)
    if len(every) <= most:
        return Kept(np.arange(len(every)), "")
    rows = np.sort(np.argsort(-every, kind="stable")[:most])
    return Kept(
        rows,
        f"The table has {most:,} of {counted(len(every), 'row')}, those with the largest {by}.",
    )


def searchable(
    key: str,
    *,
    first: str,
    names: Sequence[str] | NDArray[np.int64],
    groups: Mapping[str, ArrayLike],
    numbers: Mapping[str, ArrayLike],
    difference: str = "",
) -> str:
    """A table that report.js fills.

    Parameters
    ----------
    key : str
        The id of the table.
    first : str
        Title of the column of names.
    names : sequence of str, or (k,) array of int
        Texts; integers are searched as numbers, single ones or ranges.
    groups : mapping from str to (k,) bool arrays
        In which of the named groups each row is; every row is in one.
    numbers : mapping from str to (k,) arrays
        The columns.
    difference : str
        Title of one more column, the first number less the second; empty for none.

    Examples
    --------
    >>> page = searchable(
    ...     "rows", first="Row", names=["a", "<b>"], groups={"Protected": [True, False]},
    ...     numbers={"f": [0.7, 0.3]},
    ... )
    >>> data = page.partition('json">')[2].partition("</script>")[0]
    >>> base64.b64decode(json.loads(data)["numbers"][0]) == np.array([0.7, 0.3]).tobytes()
    True
    >>> json.loads(data)["names"]
    ['a', '<b>']
    """
    of = np.zeros(len(names), np.uint8)
    for number, mask in enumerate(groups.values()):
        of[np.asarray(mask, bool)] = number
    columns = [*numbers, *([difference] if difference else [])]
    data = {
        "names": _pack(names, "<u4")
        if isinstance(names, np.ndarray)
        else [plain(name) for name in names],
        "groups": _pack(of, "<u1"),
        "numbers": [_pack(np.asarray(column), "<f8") for column in numbers.values()],
        "difference": bool(difference),
    }
    content = json.dumps(data).replace("<", "\\u003c")  # no name ends the element
    orders = "".join(
        f"<option value={number}{sign}>{escape(name)}, {word} first"
        for number, name in enumerate(columns)
        for sign, word in (("d", "largest"), ("a", "smallest"))
    )
    if difference:
        orders += f"<option value={len(columns) - 1}m>{escape(difference)}, farthest from 0 first"
    kinds = "".join(f"<option value={k}>{escape(name)}" for k, name in enumerate(groups))
    head = "".join(f"<th scope=col>{escape(name)}" for name in (first, "Group", *columns))
    empty = f"<table><caption>All rows</caption><thead><tr>{head}</thead><tbody></tbody></table>"
    hint = "such as 7 or 20-30" if isinstance(names, np.ndarray) else "part of a name"
    return (
        f'<div class="search" id="{key}" hidden><form class="tools">'
        f'<label>Find ({hint}) <input type="search" autocomplete="off"></label>'
        f'<label>Group <select class="group"><option value="">all{kinds}</select></label>'
        f'<label>Order <select class="order"><option value="">as given{orders}</select></label>'
        '<p role="status"></p></form>'
        f'{wide("All rows", empty)}<p class="pager"><button type="button">Previous</button> '
        '<button type="button">Next</button></p>'
        f'<script type="application/json">{content}</script></div>\n'
    )


def _pack(values: NDArray[np.generic], dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode()
