"""The option --global of ``copyreg solve``: the search, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from copyreg_jax.cli.common import errors
from copyreg_jax.errors import InputError
from copyreg_jax.report.folders import GLOBAL

if TYPE_CHECKING:
    from copyreg_jax import CopyrightRegression
    from copyreg_jax.certificates.global_minimum import GlobalMinimum
    from copyreg_jax.certificates.global_search import GlobalProgress

__all__ = [
    "GlobalResume",
    "GlobalSeconds",
    "Globally",
    "global_rows",
    "global_summary",
    "search",
]

Globally: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--global",
        help="First find the global minimum, with a proof, and start there. Made for up to six "
        "columns. Ctrl-C stops the search and keeps its bound. --out writes global.json, which "
        "copyreg check proves again without the search.",
    ),
]

GlobalSeconds: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        help="Seconds after which the search for --global stops and keeps its bound (default 600).",
    ),
]

GlobalResume: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="A global.json of an earlier search of --global that was stopped: go on from there. "
        "First all of its boxes are made again.",
    ),
]

_SECONDS = 600.0


def search(
    problem: CopyrightRegression, seconds: float | None, resume: Path | None, out: Path | None
) -> tuple[GlobalMinimum, dict[str, Any]]:
    """Search for the global minimum and show how far it is; write the proof; and the summary."""
    import copyreg_jax as cr

    with errors.status("searching", spinner="line") as line:

        def callback(progress: GlobalProgress) -> None:
            line.update(
                f"{progress.num_boxes:,} boxes, {progress.num_open:,} open   "
                f"least L in [{progress.lower:.9g}, {progress.upper:.9g}]"
            )

        limit = _SECONDS if seconds is None else seconds
        found = cr.minimize_globally(problem, max_seconds=limit, callback=callback, resume=resume)
    written = None
    if out is not None:
        try:
            with errors.status("certifying the global minimum", spinner="line"):
                found.certificate().save(out / GLOBAL)
            written = str(out / GLOBAL)
        except InputError as error:  # the result is good without it
            errors.print(
                f"note: no {GLOBAL}: {error}", style="yellow", markup=False, soft_wrap=True
            )
    return found, {**global_summary(found), "certificate": written}


def global_summary(found: GlobalMinimum) -> dict[str, Any]:
    """The result as numbers and lists, for JSON."""
    return {
        "status": found.status.name,
        "explanation": found.status.value,
        "lower": found.lower,
        "upper": found.upper,
        "gap": found.gap,
        "margin": list(found.margin),
        "direction": found.direction,
        "minimizers": [
            {
                "x": each.x.tolist(),
                "radius": each.radius.tolist(),
                "is_unique": each.is_unique,
                "lower": each.lower,
                "margin": list(each.margin),
                "protected_mass": list(each.protected_mass),
            }
            for each in found.minimizers
        ],
        "num_boxes": found.num_boxes,
        "num_open": found.num_open,
        "num_free": found.num_free,
        "seconds": found.seconds,
    }


def global_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows for the table of results."""
    number = len(summary["minimizers"])
    where = f"in {number} small boxes" if number > 1 else "in one box"
    if number == 1 and summary["minimizers"][0]["is_unique"]:
        where = "unique"
    if summary["status"] != "PROVED":
        where = f"not narrowed down ({summary['num_open']:,} boxes are open)"
    low, high = summary["margin"]
    return [
        ("least L, proved", f"in [{summary['lower']:.12g}, {summary['upper']:.12g}]"),
        (
            "global minimum",
            f"{summary['status']} (gap {summary['gap']:.1e}, {summary['num_boxes']:,} boxes); "
            f"minimizer {where}",
        ),
        ("at every global minimizer", f"margin in [{low:.6g}, {high:.6g}]; {summary['direction']}"),
    ]
