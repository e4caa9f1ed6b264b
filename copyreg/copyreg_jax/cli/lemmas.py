"""``copyreg lemmas``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from copyreg_jax.cli.common import (
    AsJson,
    Overwrite,
    enable_x64,
    errors,
    output,
    prepare_folder,
    require_free,
    show_table,
    to_json,
    write_json,
)
from copyreg_jax.cli.make_report import PAGE, Report, require_out, write_report
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.theory.search_results import Row

__all__ = ["lemmas"]


def lemmas(
    search: Annotated[
        float, typer.Option(help="Continue the search with new instances for this many seconds.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed for all random choices.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write the table to, as lemmas.json, and the counterexamples, as "
            "instance files."
        ),
    ] = None,
    overwrite: Overwrite = False,
    report: Report = False,
    as_json: AsJson = False,
) -> None:
    """Search for counterexamples to the paper's statements, and to the bounds that replace them.

    The search draws random instances and climbs from them, in about forty seconds on two idle
    cores. docs/theory/paper.md explains each row of the tables.

    Exit codes: 0 done, 1 a bound of this package was violated, 2 bad input.
    """
    if not 0 <= search < math.inf:
        raise InputError(f"--search is {search}; give a number of seconds >= 0")
    require_out(report, out)
    enable_x64()
    from copyreg_jax.report.lemmas_page import LEMMAS
    from copyreg_jax.theory import counterexample
    from copyreg_jax.theory.search import NUM_PRINTED, audit
    from copyreg_jax.theory.search_results import count_verdicts

    if out is not None:
        files = [out / f"{name}.npz" for name in counterexample.stored_counterexamples()]
        files += [out / LEMMAS, out / PAGE]
        require_free("--out", files, overwrite=overwrite)
        prepare_folder(out)
    with errors.status("compiling", spinner="line") as line:
        rows = audit(seed, seconds=search, progress=line.update)
    is_sound = all(row.verdict == "holds" for row in rows[NUM_PRINTED:])
    verdicts = count_verdicts(rows[:NUM_PRINTED])
    content = {
        "seed": seed,
        "verdicts": verdicts,
        "replacements_hold": is_sound,
        "num_printed": NUM_PRINTED,
        "rows": [_row_as_json(row) for row in rows],
    }
    if as_json:
        print(to_json(content))
    else:
        show_table(list(verdicts.items()))
        for title, part in (
            ("What the paper prints", rows[:NUM_PRINTED]),
            ("What replaces it", rows[NUM_PRINTED:]),
        ):
            table = Table(title=title)
            for name in ("where", "statement", "reading", "verdict", "worst", "slack"):
                table.add_column(name, overflow="fold")
            for row in part:
                table.add_row(*_cells(row))
            output.print(table)
    if out is not None:
        _write(rows, content, out)
    if report and out is not None:
        write_report(out)
    if not is_sound:
        errors.print("a bound of this package fails: please report it", style="red")
        raise typer.Exit(1)


def _write(rows: list[Row], content: dict[str, Any], out: Path) -> None:
    from copyreg_jax.report.lemmas_page import LEMMAS

    (out / PAGE).unlink(missing_ok=True)  # an older one is about another search
    for row in rows:
        if row.counterexample is not None:
            path = row.counterexample.save(out)
            errors.print(f"written to {path}", markup=False, soft_wrap=True)
    write_json(out / LEMMAS, content)


def _row_as_json(row: Row) -> dict[str, Any]:
    """Turn a row into a dictionary, with its counterexample as numbers."""
    found = row.counterexample
    shown = None
    if found is not None:
        p = found.problem
        shown = {
            "name": found.name,
            **{key: getattr(p, key).tolist() for key in ("A", "b", "protected", "w")},
            "gamma": float(p.gamma),
            "reading": p.reading,
            "x": found.x.tolist(),
        }
    return {**row._asdict(), "slack_log10": row.slack_log10, "counterexample": shown}


def _cells(row: Row) -> tuple[str, ...]:
    from copyreg_jax.theory.search_results import write_slack, write_worst

    style = "red" if row.verdict == "fails" else "green"
    worst, slack = write_worst(row.worst, row.scale), write_slack(row.slack_log10)
    return row.where, row.says, row.reading, f"[{style}]{row.verdict}[/]", worst, slack
