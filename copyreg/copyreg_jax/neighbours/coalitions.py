"""Tables of what each coalition of owners is worth, from mappings and from CSV files."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError

__all__ = ["MAX_OWNERS", "Table", "check_owners", "members", "name_of", "read_table"]

MAX_OWNERS = 12
"""Tables have 2^n values, and exact values cost n 2^n operations with long integers."""

_DIGITS = 400
"""Digits of a decimal number in a file, and the largest exponent; floats need no more."""

_MOST = 1e300
"""Sums of numbers up to this, over all owners, are still floats."""


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """What each coalition is worth: numbers, or intervals that contain them.

    Attributes
    ----------
    owners : tuple of str
        1 to 12 owners.
    lower, upper : (2^n,) or (2^n, k) array of floats, or of Fractions
        Ends of the interval of each coalition, the same where the number is known; with k columns,
        for k generations, over which Shapley values are averaged. Owner i is in the coalition of
        row r if bit i of r is set: row 0 is the empty one.

    Raises
    ------
    InputError
        Other shapes; a number that is not finite; a lower end above the upper one.

    Examples
    --------
    >>> Table.of({(): 0.0, ("ann",): 2.0, ("bo",): 1.0, ("ann", "bo"): 4.0}).lower
    array([0., 2., 1., 4.])
    """

    owners: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray

    def __post_init__(self) -> None:
        check_owners(self.owners)
        for name in ("lower", "upper"):
            array = np.asarray(getattr(self, name))
            if array.dtype != object:  # fractions stay what they are
                try:
                    array = array.astype(np.float64)
                except (TypeError, ValueError) as error:
                    raise InputError(f"{name} is not an array of numbers: {error}") from None
            object.__setattr__(self, name, array)
            rows = 1 << len(self.owners)
            if array.ndim not in (1, 2) or array.shape[0] != rows or array.size == 0:
                raise InputError(
                    f"{name} has shape {array.shape}; {len(self.owners)} owners need {rows} rows"
                )
        if self.lower.shape != self.upper.shape:
            raise InputError(f"lower and upper differ: {self.lower.shape}, {self.upper.shape}")
        for row, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            if not all(np.all(np.abs(end) <= _MOST) for end in (low, high)):
                raise InputError(f"{self.name(row)} has a value that is not finite; give numbers")
            if np.any(low > high):
                raise InputError(f"{self.name(row)} has a lower end above its upper end")

    @classmethod
    def of(
        cls,
        lower: Mapping[Iterable[str], Any],
        upper: Mapping[Iterable[str], Any] | None = None,
    ) -> Self:
        """Make a table of mappings from coalitions, tuples or frozensets of owners, to numbers.

        Parameters
        ----------
        lower, upper : mapping
            A number for each coalition, or an array of one for each generation; upper is the same
            as lower if not given. Owners are in the order in which they appear first.

        Raises
        ------
        InputError
            A coalition is missing, or there twice.
        """
        tables = [lower] if upper is None else [lower, upper]
        owners = tuple(dict.fromkeys(owner for key in lower for owner in key))
        check_owners(owners)
        ends = [_by_bits(owners, ((tuple(key), v) for key, v in t.items())) for t in tables]
        return cls(owners, ends[0], ends[-1])

    def name(self, row: int) -> str:
        """The coalition of a row, in words."""
        return name_of(members(self.owners, row))


def members(owners: tuple[str, ...], row: int) -> tuple[str, ...]:
    """The owners in the coalition of a row.

    Examples
    --------
    >>> members(("ann", "bo", "cy"), row=5)  # 5 is 101 in bits
    ('ann', 'cy')
    """
    return tuple(owner for i, owner in enumerate(owners) if row >> i & 1)


def name_of(coalition: Iterable[str]) -> str:
    """A coalition in words.

    Examples
    --------
    >>> name_of(("ann", "bo")), name_of(())
    ('coalition ann+bo', 'the empty coalition')
    """
    joined = "+".join(coalition)
    return f"coalition {joined}" if joined else "the empty coalition"


def check_owners(owners: tuple[str, ...]) -> None:
    """`InputError` unless these are 1 to 12 different names."""
    if not 1 <= len(owners) <= MAX_OWNERS:
        raise InputError(
            f"there are {len(owners)} owners; a table is for 1 to {MAX_OWNERS}, and more owners "
            "are for copyreg_jax.neighbours.permutations.sample"
        )
    for owner in owners:
        if not isinstance(owner, str) or not owner or "+" in owner:
            raise InputError(f"an owner is named {owner!r:.40}; give a name without +")
    if len(set(owners)) != len(owners):
        raise InputError("an owner is there twice; give each a name of its own")


def _by_bits(owners: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], Any]]) -> np.ndarray:
    """The values of all coalitions, in the order of their bits."""
    place = {owner: i for i, owner in enumerate(owners)}
    found: dict[int, Any] = {}
    for coalition, value in rows:
        if len(set(coalition)) != len(coalition):
            raise InputError(f"{name_of(coalition)} names an owner twice")
        unknown = [owner for owner in coalition if owner not in place]
        if unknown:
            raise InputError(f"{name_of(coalition)} has {unknown[0]!r:.40}, who is no owner")
        row = sum(1 << place[owner] for owner in coalition)
        if row in found:
            raise InputError(f"{name_of(members(owners, row))} is there twice")
        found[row] = value
    size = 1 << len(owners)
    for row in range(size):
        if row not in found:
            raise InputError(
                f"{name_of(members(owners, row))} is missing; there are {len(found)} of the {size} "
                f"coalitions of {', '.join(owners)}, and exact shares need all"
            )
    values = [found[row] for row in range(size)]
    exact = all(isinstance(v, list) and isinstance(v[0], Fraction) for v in values)
    try:
        return np.array(values, dtype=object if exact else np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the values are not numbers, as many for each: {error}") from None


def read_table(path: str | Path) -> Table:
    r"""Read a CSV file with columns ``coalition`` and ``value``, or ``lower`` and ``upper``.

    Parameters
    ----------
    path : path
        A coalition is written as its owners, joined by +; the empty coalition as an empty field.

    Returns
    -------
    Table
        Its numbers are Fractions, equal to the decimal numbers of the file.

    Raises
    ------
    InputError
        Not such a file; names the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("coalition,value\n,0\nann,1\n")
    ...     file.flush()
    ...     read_table(file.name).owners
    ('ann',)
    """
    try:
        text = Path(path).read_text("utf-8-sig")
        reader = csv.reader(io.StringIO(text), strict=True)
        lines = [(reader.line_num, fields) for fields in reader if fields]
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, error) from None
    if not lines:
        raise InputError(f"{path} is empty; give columns coalition and value")
    names = [name.strip() for name in lines[0][1]]
    kinds = ["coalition", "value"], ["coalition", "lower", "upper"]
    if sorted(names) not in map(sorted, kinds):
        raise InputError(
            f"{path} has columns {', '.join(names)}; give coalition and value, or coalition, "
            "lower and upper"
        )
    rows: list[tuple[tuple[str, ...], list[Fraction]]] = []
    for line, fields in lines[1:]:
        if len(fields) != len(names):
            raise InputError(f"{path}, line {line}: {len(fields)} fields for {len(names)} columns")
        rows.append(_row(f"{path}, line {line}", dict(zip(names, fields, strict=True))))
    owners = tuple(dict.fromkeys(owner for coalition, _ in rows for owner in coalition))
    try:
        check_owners(owners)
        values = _by_bits(owners, rows)
        return Table(owners, values[:, 0], values[:, -1])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _row(where: str, fields: dict[str, str]) -> tuple[tuple[str, ...], list[Fraction]]:
    text = fields.pop("coalition").strip()
    coalition = tuple(owner.strip() for owner in text.split("+")) if text else ()
    if "" in coalition:
        raise InputError(f"{where}: {text!r:.60} has an owner without a name")
    values = []
    for name in sorted(fields):  # lower before upper
        text = fields[name].strip()
        try:
            # Before the fraction is made: that of 1e999999999 would fill the memory.
            small = len(text) <= _DIGITS and abs(Decimal(text).adjusted()) <= _DIGITS
            value = Fraction(Decimal(text)) if small else None
        except (ValueError, OverflowError, InvalidOperation):
            value = None
        if value is None:
            raise InputError(
                f"{where}: {name} is {fields[name]!r:.40}; give a finite number, in at most "
                f"{_DIGITS} digits and an exponent of at most that"
            )
        values.append(value)
    return coalition, values
