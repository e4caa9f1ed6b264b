"""``copyreg royalty``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from copyreg_jax.cli.common import AsJson, output, to_json
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.neighbours.royalty import Payee, Royalties

__all__ = ["royalty"]


def royalty(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV file with the columns coalition and value, or coalition, lower and upper. "
            "A coalition is its owners joined by +, and empty for none."
        ),
    ],
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Owners who are paid together, as NAME=owner+owner. Give it once for each group; "
            "other owners are paid alone."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Share royalties by what each owner's data added to the likelihood of a text.

    The table says how likely the text is, as a logarithm, for a model trained on the data of each
    coalition of owners. All coalitions of up to 12 owners must be there. Intervals are proved if
    those of the table are.

    Exit codes: 0 done, also if nobody is paid; 2 bad input.
    """
    from copyreg_jax.neighbours.coalitions import read_table
    from copyreg_jax.neighbours.royalty import royalties

    worth = read_table(table)
    found = royalties(worth, _groups(group, worth.owners) if group else None)
    exact = bool((worth.lower == worth.upper).all())
    if as_json:
        print(to_json(_summary(found, exact)))
    else:
        _show(found)


def _groups(texts: list[str], owners: tuple[str, ...]) -> dict[str, list[str]]:
    """The groups of the option, and each other owner alone."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, equals, joined = (part.strip() for part in text.partition("="))
        if not (name and equals and joined):
            raise InputError(f"--group {text!r:.60}: write it as NAME=owner+owner")
        if name in groups:
            raise InputError(f"--group {name} is there twice; name all its owners at once")
        groups[name] = [owner.strip() for owner in joined.split("+")]
    named = {owner for members in groups.values() for owner in members}
    for owner in owners:
        if owner in named:
            continue
        if owner in groups:
            raise InputError(f"--group {owner} has the name of an owner who is not in it")
        groups[owner] = [owner]
    return groups


def _summary(found: Royalties, exact: bool) -> dict[str, Any]:
    def value(payee: Payee) -> Any:
        return payee.estimate if exact else list(payee.value)

    shares = found.shares
    return {
        "shares": None if shares is None else {name: list(s) for name, s in shares.items()},
        "values": {name: value(payee) for name, payee in found.payees.items()},
        "payout": found.payout,
        "not_separable": [name for name, payee in found.payees.items() if not payee.separable],
    }


_PAYOUT = {
    "certain": "Shares are parts of the payout.",
    "possible": "It is open whether a value is above 0. Shares are parts of the payout, if any.",
    "none": "No payout: no value is above 0, so no share is defined.",
}


def _show(found: Royalties) -> None:
    from rich.table import Table

    shown = Table("owner", "value", "interval", "share", "interval", "", box=None, pad_edge=False)
    for name, payee in found.payees.items():
        share = ("-", "-")
        if payee.share is not None:
            share = f"{sum(payee.share) / 2:.4f}", _text(payee.share)
        remark = "" if payee.separable else "not separable"
        shown.add_row(_plain(name), f"{payee.estimate:.6g}", _text(payee.value), *share, remark)
    output.print(shown)
    output.print(_PAYOUT[found.payout])


def _plain(name: str) -> Any:
    from rich.text import Text

    return Text(name)


def _text(interval: Any) -> Any:
    """Six digits, rounded outward: what is proved of the interval still holds in print."""
    from decimal import ROUND_CEILING, ROUND_FLOOR, Context

    low = Context(prec=6, rounding=ROUND_FLOOR).create_decimal(interval.lower)
    high = Context(prec=6, rounding=ROUND_CEILING).create_decimal(interval.upper)
    return _plain(f"[{float(low):.6g}, {float(high):.6g}]")
