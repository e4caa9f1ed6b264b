"""The program `copyreg` and its list of commands. JAX is imported where a command needs it."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from copyreg_jax.cli.audit import audit
from copyreg_jax.cli.bench import bench
from copyreg_jax.cli.certify import certify, check
from copyreg_jax.cli.classify import nearest
from copyreg_jax.cli.common import EXIT_INPUT, errors
from copyreg_jax.cli.compress import compress, decompress
from copyreg_jax.cli.doctor import doctor
from copyreg_jax.cli.leaving_out import ledger
from copyreg_jax.cli.lemmas import lemmas
from copyreg_jax.cli.probability_tables import naf
from copyreg_jax.cli.shares import royalty
from copyreg_jax.cli.solve import solve
from copyreg_jax.cli.train import train
from copyreg_jax.errors import InputError

__all__ = ["app", "main", "options"]


class _NoTypeForFlags:
    """Leaves the type out of the help of a flag, which takes no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class _Command(_NoTypeForFlags, TyperCommand):
    pass


class _Group(_NoTypeForFlags, TyperGroup):
    pass


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # paragraphs of a docstring are filled to the terminal's width
)
_SOLVING = solve, certify, check, lemmas, bench, doctor
_MODELS = train, audit
_NEIGHBOURS = naf, ledger, royalty, compress, decompress, nearest
for _command in (*_SOLVING, *_MODELS, *_NEIGHBOURS):
    app.command(cls=_Command)(_command)


def main() -> None:
    """Run the command line; bad input gives one line and exit code 2."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except InputError as error:
        errors.print(f"copyreg: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(EXIT_INPUT)
    except OSError as error:
        # Python's own exit code for this is 1, which means something else here.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        errors.print(f"copyreg: can't write the output: {error}", markup=False, soft_wrap=True)
        sys.exit(EXIT_INPUT)


def _show_version(wanted: bool) -> None:
    if wanted:
        from copyreg_jax import __version__

        print(f"copyreg-jax {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Solve softmax and copyright regression, with certificates that anyone can check."""
