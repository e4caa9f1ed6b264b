"""The page of `copyreg lemmas`: which statements of the paper fail, and what replaces them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
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
from copyreg_jax.theory.search_results import write_slack, write_worst

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
    """Read the lemmas.json that `copyreg lemmas` wrote; `InputError` if it is damaged."""
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
    return content


def lemmas_page(content: Mapping[str, Any]) -> str:
    """Make the page: HTML, all in one file.

    Parameters
    ----------
    content : mapping
        What `read_lemmas` returns.
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
