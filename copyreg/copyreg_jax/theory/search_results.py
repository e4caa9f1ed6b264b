"""A row of the table that ``copyreg lemmas`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from copyreg_jax.theory.counterexample import Counterexample

__all__ = ["Row", "count_verdicts", "write_slack", "write_worst"]


class Row(NamedTuple):
    """One line of the report.

    Attributes
    ----------
    where, says, reading : str
        The claim.
    verdict : str
        "holds" (no violation was found), "fails", "untested" (the measure was never a number), or
        "vacuous": a condition that no two float64 points meet.
    worst : float
        Largest measure found; for a bound that is its tightness, sup of actual / bound.
    scale : str
        What ``worst`` is: see `copyreg_jax.theory.claims.Claim`.
    num_random, num_climbed : int
        Instances drawn, and instances climbed from.
    counterexample : Counterexample or None
    """

    where: str
    says: str
    reading: str
    verdict: str
    worst: float
    scale: str
    num_random: int
    num_climbed: int
    counterexample: Counterexample | None

    @property
    def slack_log10(self) -> float | None:
        """How far a bound is from sharp: log10 of bound / actual; None for other claims."""
        if self.scale == "log10":
            return -self.worst
        return -math.log10(self.worst) if self.scale == "ratio" and self.worst > 0 else None


class _Verdict(Protocol):
    """What `count_verdicts` reads of a row."""

    @property
    def where(self) -> str: ...
    @property
    def says(self) -> str: ...
    @property
    def reading(self) -> str: ...
    @property
    def verdict(self) -> str: ...


def count_verdicts(printed: Sequence[_Verdict]) -> dict[str, str]:
    """One verdict per numbered statement of the paper, from the rows about what it prints.

    "holds", "fails", "holds under ...", or which of its parts fails.
    """
    said: dict[str, str] = {}
    for where in dict.fromkeys(row.where for row in printed):
        mine = [row for row in printed if row.where == where]
        failed = [row for row in mine if row.verdict == "fails"]
        if not failed:
            said[where] = mine[0].verdict
        elif len(failed) == len(mine):
            said[where] = "fails"
        elif len({row.says for row in mine}) == 1:
            held = [row.reading for row in mine if row.verdict != "fails"]
            said[where] = f"holds under {' and '.join(held)}"
        else:
            parts = dict.fromkeys(row.says for row in failed)
            said[where] = f"holds, except: {'; '.join(parts)}"
    return said


def write_worst(worst: float, scale: str) -> str:
    """Write the largest measure found, by its scale.

    Examples
    --------
    >>> write_worst(0.98764, "ratio"), write_worst(-281.2, "log10")
    ('0.9876', '1e-281')
    """
    return f"1e{worst:.0f}" if scale in ("log10", "distance") else f"{worst:.4g}"


def write_slack(log10: float | None) -> str:
    """Write how many times a bound is above what it bounds; nothing for other claims.

    Examples
    --------
    >>> write_slack(None), write_slack(0.01), write_slack(281.2)
    ('', '1.02', '1e281')
    """
    if log10 is None:
        return ""
    return f"1e{log10:.0f}" if log10 > 3 else f"{10**log10:.3g}"
