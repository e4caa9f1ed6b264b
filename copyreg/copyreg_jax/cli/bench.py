"""``copyreg bench``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from copyreg_jax.cli.common import (
    AsJson,
    DeviceName,
    Overwrite,
    enable_x64,
    errors,
    output,
    prepare_folder,
    require_free,
    to_json,
    write_json,
)
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.bench.tables import Row as BenchRow

__all__ = ["bench"]


def bench(
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Run all instances with more time and repeats, for about an hour."
        ),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Instance to run. You may give this option several times."),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(min=0.1, help="Time limit of one run in seconds (default 2, with --full 60)."),
    ] = None,
    device: Annotated[
        DeviceName | None, typer.Option(help="Device for the arrays (default: JAX's choice).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.csv, curves.csv, machine.json and the figures."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Time the solvers against other libraries, with one test of the gradient for all answers.

    Without the extra `bench`, the command runs what is installed and names what is missing.

    Exit codes: 0 done, 2 bad input.
    """
    enable_x64(cached=False)  # the first solve is timed with its compilation
    if out is not None:
        names = "results.csv", "curves.csv", "machine.json", "profile.svg"
        files = [*(out / name for name in names), *out.glob("curve-*.svg")]
        require_free("--out", files, overwrite=overwrite)
        prepare_folder(out)
    import contextlib

    import jax

    from copyreg_jax.bench import contest, suite, tables

    chosen = suite.select(only, full=full)
    settings = contest.FULL if full else contest.QUICK
    settings = settings if limit is None else settings._replace(limit=limit)
    place: Any = contextlib.nullcontext()
    if device is not None:
        try:
            place = jax.default_device(jax.devices(device)[0])
        except RuntimeError:
            raise InputError(
                f"--device {device}: JAX finds no such device; see `copyreg doctor`"
            ) from None
    rows: list[BenchRow] = []

    def finished(new: list[BenchRow]) -> None:
        rows.extend(new)
        if out is not None:  # an interruption loses only the instance that is running
            tables.write_table(out / "results.csv", rows, tables.Row)
        _show_bench(new)

    with place, warnings.catch_warnings(), errors.status("starting", spinner="line") as line:
        warnings.simplefilter("ignore")  # other libraries warn when they stop early
        _, points = contest.measure(
            chosen, report=line.update, finished=finished, **settings._asdict()
        )
        described = tables.machine()
    _show_comparison(rows)
    if out is not None:
        tables.write_table(out / "curves.csv", points, tables.Point)
        write_json(out / "machine.json", described)
        written = ["results.csv", "curves.csv", "machine.json"]
        try:
            from copyreg_jax.bench.profiles import write_figures

            written += [path.name for path in write_figures(out, rows, points)]
        except ModuleNotFoundError as error:
            errors.print(
                f"note: the figures were not made, because {error.name} is not installed",
                style="yellow",
            )
        output.print(f"written to {out}: {', '.join(written)}", markup=False, soft_wrap=True)
    if as_json:
        content = {"rows": rows, "comparisons": contest.compare(rows), "machine": described}
        print(to_json(content))


def _show_bench(rows: list[BenchRow]) -> None:
    """Show the methods on one instance, the fastest first."""
    if not rows[0].method:
        output.print(f"{rows[0].instance}: skipped, {rows[0].message}", markup=False)
        return
    first = rows[0]
    title = f"{first.instance}: {first.n} x {first.d}, |gradient| <= {first.tolerance:.2e}"
    table = _lean_table(
        title, "method", "status", "ms:", "first ms:", "products:", "|grad|:", "excess:"
    )
    order = {"reached": 0, "missed": 1, "time limit": 2}
    for row in sorted(rows, key=lambda r: (order.get(r.status, 3), r.seconds or 0.0)):
        style = "green" if row.status == "reached" else "yellow"
        ran = row.gradient_norm is not None
        table.add_row(
            row.method,
            f"[{style}]{row.status}[/]",
            "" if row.seconds is None else f"{1e3 * row.seconds:.2f}",
            "" if row.first_seconds is None else f"{1e3 * row.first_seconds:.0f}",
            "" if row.products is None else str(row.products),
            f"{row.gradient_norm:.1e}" if ran else "",
            "" if row.excess is None else f"{row.excess:.1e}",
        )
    output.print(table)


def _lean_table(title: str, *columns: str) -> Table:
    """Make a table that fits into 80 columns; a colon marks a column of numbers."""
    from rich.box import SIMPLE_HEAD

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        justify: Literal["left", "right"] = "right" if name.endswith(":") else "left"
        table.add_column(name.removesuffix(":"), justify=justify, no_wrap=True)
    return table


def _show_comparison(rows: list[BenchRow]) -> None:
    """Compare this package with the best peer on each instance, and on average."""
    from copyreg_jax.bench import contest

    comparisons = contest.compare(rows)
    title = "copyreg against the best peer that reached the tolerance"
    table = _lean_table(title, "instance", "ms:", "best peer", "peer ms:", "ratio:", "lowest L by")
    for c in comparisons:
        table.add_row(
            c.instance,
            "failed" if c.seconds is None else f"{1e3 * c.seconds:.2f}",
            c.peer or "none",
            "" if c.peer_seconds is None else f"{1e3 * c.peer_seconds:.2f}",
            f"{c.ratio:.2f}",
            "all" if c.all_same else c.lowest or "",
        )
    output.print(table)
    below = sum(c.ratio < 1 for c in comparisons)
    output.print(
        f"geometric mean of the ratios {contest.geometric_mean(comparisons):.2f}; "
        f"the ratio is below 1 on {below} of {len(comparisons)} instances"
    )
