"""The page of ``copyreg lemmas``: which statements of the paper fail, and what replaces them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from copyreg_jax._pages import (
    claim,
    commands,
    counted,
    escape,
    facts,
    make_page,
    plain,
    resource,
    sections,
    table,
    wide,
)
from copyreg_jax.errors import InputError
from copyreg_jax.report.json_files import read_json, require_fields
from copyreg_jax.theory.search_results import count_verdicts, write_slack, write_worst

__all__ = ["LEMMAS", "lemmas_page", "read_lemmas"]

LEMMAS = "lemmas.json"

_ROW = {
    **dict.fromkeys(("where", "says", "reading", "verdict", "scale"), str),
    **dict.fromkeys(("worst", "slack_log10"), float),
    **dict.fromkeys(("num_random", "num_climbed"), int),
}

_VERDICTS = {
    "holds": "No violation was found. A search proves nothing; proofs are in the documentation.",
    "fails": "A violation was found. Where a file is named, it has the instance and the point.",
    "vacuous": "It holds under a condition that no two numbers of a computer meet.",
    "untested": "The measure was never a number.",
}


def read_lemmas(folder: Path) -> dict[str, Any]:
    """Read the lemmas.json that ``copyreg lemmas`` wrote.

    Raises
    ------
    InputError
        It is damaged, or its summary is not that of its rows.
    """
    path = folder / LEMMAS
    content = read_json(path)
    fields = {"seed": int, "num_printed": int, "verdicts": dict, "replacements_hold": bool}
    require_fields(content, fields | {"rows": list}, path)
    for row in content["rows"]:
        if not isinstance(row, dict):
            raise InputError(f"{path} has a row that is no object; run the command again")
        require_fields(row, _ROW, path)
        found = row.get("counterexample")
        if found is not None and not (
            isinstance(found, dict) and isinstance(found.get("name"), str)
        ):
            raise InputError(f"{path} has a counterexample without a name; run the command again")
        if row["verdict"] not in _VERDICTS:
            raise InputError(
                f"{path} has {row['verdict']!r:.40} for 'verdict', not one of "
                f"{', '.join(_VERDICTS)}; run the command again"
            )
    if not 0 < content["num_printed"] < len(content["rows"]):
        raise InputError(
            f"{path} has {content['num_printed']} for 'num_printed' and {len(content['rows'])} "
            "rows; run the command again"
        )
    _check_summary(content, path)
    return content


def _check_summary(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a summary that is not that of the rows."""
    rows = [SimpleNamespace(**row) for row in content["rows"]]
    printed, ours = rows[: content["num_printed"]], rows[content["num_printed"] :]
    verdicts, said = count_verdicts(printed), content["verdicts"]
    for name in dict.fromkeys([*verdicts, *said]):
        if verdicts.get(name) != said.get(name):
            raise InputError(
                f"{path} has {said.get(name)!r} as its verdict on {name}, and its rows say "
                f"{verdicts.get(name)!r}; run the command again"
            )
    holds = all(row.verdict == "holds" for row in ours)
    if content["replacements_hold"] is not holds:
        raise InputError(
            f"{path} has {content['replacements_hold']} for 'replacements_hold', and its rows say "
            f"{holds}; run the command again"
        )


def lemmas_page(content: Mapping[str, Any]) -> str:
    """Make the page: HTML, all in one file.

    Parameters
    ----------
    content : mapping
        What `read_lemmas` returns.

    Examples
    --------
    >>> row = {"where": "Lemma 1", "says": "x > 0", "reading": "joint", "verdict": "fails"}
    >>> row |= {"worst": 2.0, "scale": "ratio", "slack_log10": -0.3, "counterexample": None}
    >>> content = {
    ...     "seed": 0, "num_printed": 1, "rows": [row, row | {"verdict": "holds", "worst": 0.5}],
    ...     "verdicts": {"Lemma 1": "fails"}, "replacements_hold": True,
    ... }
    >>> lemmas_page(content).partition("<h1>")[2].partition("</h1>")[0].partition("; ")[2]
    'no violation of what replaces them was found.'
    >>> bad = lemmas_page(content | {"replacements_hold": False})
    >>> bad.partition("<h1>")[2].partition("</h1>")[0].partition("; ")[2]
    'a replacement FAILS too.'
    """
    printed = content["rows"][: content["num_printed"]]
    ours = content["rows"][content["num_printed"] :]
    verdicts = {str(name): str(said) for name, said in content["verdicts"].items()}
    sound = content["replacements_hold"]
    failing = [name for name, said in verdicts.items() if said != "holds"]
    violated = [row for row in ours if row["verdict"] != "holds"]
    cards = claim(
        "The paper",
        f"{len(failing)} of {len(verdicts)} not as printed",
        f"Not as they are printed: {', '.join(failing)}."
        if failing
        else "No violation of a printed statement was found.",
        "As printed, under one reading of Definition 5 or both. Each failure has a small instance, "
        "or a proof about the global minimizer, or a condition that can't be met.",
    )
    cards += claim(
        "What replaces it",
        "No violation found" if sound else "VIOLATED",
        f"All {counted(len(ours), 'replacement')} stood the search."
        if sound
        else f"{counted(len(violated), 'replacement')} did not stand the search. Please report it.",
        "The replacements are proved in the documentation; the search would find a wrong constant "
        "or a wrong program.",
        alarm=not sound,
    )
    command = f"copyreg lemmas --seed {content['seed']}"
    parts = {
        "The answer": f'<div class="claims">{cards}</div>',
        "Statement by statement": facts(
            "The numbered statements of the paper",
            [(escape(plain(name)), escape(plain(said))) for name, said in verdicts.items()],
        )
        + f"<dl>{''.join(f'<dt>{name}<dd>{text}' for name, text in _VERDICTS.items())}</dl>",
        "All that was tested": _rows("What the paper prints", printed)
        + _rows("What replaces it", ours)
        + "<p>The worst case is the largest measure that was found. For a bound it is the actual "
        "number over the bound, so 1 is sharp and more is a violation; the slack is its inverse. "
        "Elsewhere it is an error, or an excess over what is allowed.</p>",
        "How to check it again": "<p>The search is drawn from a seed, and this command repeats it. "
        "Each counterexample is an instance file with a point x in it; <code>copyreg certify FILE "
        "FILE</code> reads both.</p>"
        f"{commands(command)}",
    }
    needing = f"{len(failing)} of the paper's {counted(len(verdicts), 'statement')} that were "
    needing += "tested needs" if len(failing) == 1 else "tested need"
    return make_page(
        title="What the paper says and what holds",
        kind="Report of a search for counterexamples",
        heading=f"{needing} a correction or a choice of reading; "
        + (
            "no violation of what replaces them was found." if sound else "a replacement FAILS too."
        ),
        about=f"Seed {content['seed']} · {counted(len(content['rows']), 'row')}",
        main=sections(parts),
        footer="",
        css=resource("copyreg_jax.report", "report.css"),
    )


def _rows(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        found = row.get("counterexample")
        worst = "not finite" if row["worst"] is None else write_worst(row["worst"], row["scale"])
        slack = write_slack(row["slack_log10"])
        file = "" if found is None else f"{found['name']}.npz"
        cells = (row["says"], row["reading"], row["verdict"], worst, slack, file)
        where = escape(plain(row["where"])).replace(" ", "\u00a0")
        lines.append((where, [escape(plain(text)) for text in cells]))
    columns = ["Statement", "Reading", "Verdict", "Worst case", "Slack", "Counterexample"]
    return wide(title, table(title, columns, lines, first="Where"))
