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
)
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
        Path | None, typer.Option(help="Folder to write the counterexamples to, as instance files.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Search for counterexamples to the paper's statements, and to the bounds that replace them.

    The search draws random instances and climbs from them, in about forty seconds on two idle
    cores. docs/theory/paper.md explains each row of the tables.

    Exit codes: 0 done, 1 a bound of this package was violated, 2 bad input.
    """
    if not 0 <= search < math.inf:
        raise InputError(f"--search is {search}; give a number of seconds >= 0")
    enable_x64()
    from copyreg_jax.theory import counterexample
    from copyreg_jax.theory.search import NUM_PRINTED, audit, count_verdicts

    if out is not None:
        files = [out / f"{name}.npz" for name in counterexample.stored_counterexamples()]
        require_free("--out", files, overwrite=overwrite)
        prepare_folder(out)
    with errors.status("compiling", spinner="line") as line:
        rows = audit(seed, seconds=search, progress=line.update)
    is_sound = all(row.verdict == "holds" for row in rows[NUM_PRINTED:])
    verdicts = count_verdicts(rows)
    if as_json:
        report = {"seed": seed, "verdicts": verdicts, "replacements_hold": is_sound}
        print(to_json({**report, "rows": [_row_as_json(row) for row in rows]}))
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
        for row in rows:
            if row.counterexample is not None:
                path = row.counterexample.save(out)
                errors.print(f"written to {path}", markup=False, soft_wrap=True)
    if not is_sound:
        errors.print("a bound of this package fails: please report it", style="red")
        raise typer.Exit(1)


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
    worst = f"1e{row.worst:.0f}" if row.scale in ("log10", "distance") else f"{row.worst:.4g}"
    slack = ""
    if row.slack_log10 is not None:
        far = row.slack_log10 > 3
        slack = f"1e{row.slack_log10:.0f}" if far else f"{10**row.slack_log10:.3g}"
    style = "red" if row.verdict == "fails" else "green"
    return row.where, row.says, row.reading, f"[{style}]{row.verdict}[/]", worst, slack
