"""``copyreg report``, and the option ``--report`` of other commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from copyreg_jax._files import write_whole
from copyreg_jax.cli.common import (
    AsJson,
    Overwrite,
    all_files,
    enable_x64,
    errors,
    require_extra,
    require_free,
    require_writable,
    to_json,
)
from copyreg_jax.errors import InputError

__all__ = [
    "PAGE",
    "PAGE_SUFFIX",
    "Report",
    "report",
    "require_out",
    "write_certified",
    "write_report",
]

PAGE, PAGE_SUFFIX = "report.html", ".html"

Report: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--report", help="Also write a page for a browser, report.html, to the folder --out."
    ),
]


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder that copyreg solve, copyreg train or copyreg lemmas wrote."),
    ],
    instance: Annotated[
        Path | None,
        typer.Option(help="Instance that was solved, if its matrix stayed on disk."),
    ] = None,
    gamma_path: Annotated[
        bool,
        typer.Option(
            "--gamma-path",
            help="Also show how fit and margin change with gamma. This takes 17 more solves.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write to (default: report.html in the folder).")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a page for a browser about the results of another command.

    The page is one file. It loads nothing, and it can be printed. It begins with the verdict and
    with whether the protected rows are suppressed or amplified. A certificate is checked again
    before the page says anything of it.

    Exit codes: 0 written, whatever the verdict is; 2 bad input.
    """
    enable_x64()
    from copyreg_jax.report.folders import SOLVE, TRAIN, command_of

    if (command := command_of(folder)) == TRAIN:
        require_extra()
    page = folder / PAGE if out is None else out
    read = [file for file in all_files(folder) if file != folder / PAGE]
    require_free("--out", [page], [*read, instance], overwrite=overwrite)
    require_writable(page.absolute().parent, f"--out {page}")
    if gamma_path and command == SOLVE:
        from copyreg_jax.report.gamma_path import NUM_SOLVES

        errors.print(f"{NUM_SOLVES} problems will be solved, each like that of the run")
    write_report(folder, page, instance=instance, gamma_path=gamma_path)
    if as_json:
        print(to_json({"page": str(page)}))


def require_out(wanted: bool, out: Path | None) -> None:
    """Refuse --report without --out, before the work."""
    if wanted and out is None:
        raise InputError("--report makes a page of what is written to --out; give --out too")


def write_report(
    folder: Path,
    page: Path | None = None,
    *,
    instance: Path | None = None,
    gamma_path: bool = False,
) -> None:
    """Write the page of a folder, and say where it is."""
    from copyreg_jax.report.folders import folder_page

    def make(progress: Callable[[str], object]) -> str:
        return folder_page(folder, instance=instance, gamma_path=gamma_path, progress=progress)

    _write(folder / PAGE if page is None else page, make)


def write_certified(page: Path, certificate: Path, instance: Path) -> None:
    """Write the page of a certificate, and say where it is."""
    from copyreg_jax.report.folders import certified_page

    _write(page, lambda progress: certified_page(certificate, instance, progress))


def _write(page: Path, make: Callable[[Callable[[str], object]], str]) -> None:
    with errors.status("making the page", spinner="line") as line:
        content = make(line.update)
    write_whole(page, content.encode())
    errors.print(f"written to {page}", markup=False, soft_wrap=True)
