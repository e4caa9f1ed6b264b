"""The program `copyreg` and its list of commands. JAX is imported where a command needs it."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from copyreg_jax.cli.audit import audit
from copyreg_jax.cli.bench import bench
from copyreg_jax.cli.certify import certify, check
from copyreg_jax.cli.classify import nearest
from copyreg_jax.cli.common import EXIT_FAULT, EXIT_INPUT, errors, output
from copyreg_jax.cli.compress import compress, decompress
from copyreg_jax.cli.doctor import doctor
from copyreg_jax.cli.examples import EXAMPLES
from copyreg_jax.cli.leaving_out import ledger
from copyreg_jax.cli.lemmas import lemmas
from copyreg_jax.cli.make_report import report
from copyreg_jax.cli.new import new
from copyreg_jax.cli.probability_tables import naf
from copyreg_jax.cli.shares import royalty
from copyreg_jax.cli.solve import solve
from copyreg_jax.cli.train import train
from copyreg_jax.errors import InputError

__all__ = ["app", "main", "options"]


class _Help:
    """Help without types of flags, which take no value, and with examples at its end."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)  # type: ignore[misc]
        lines = EXAMPLES["" if ctx.parent is None else ctx.info_name]
        output.print("\n   ".join([" Examples:", *lines]), markup=False, soft_wrap=True)
        output.print()


class _Command(_Help, TyperCommand):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # typer would end with exit code 1, which means something else here
            raise InputError("can't write the output: nobody reads it") from None


class _Group(_Help, TyperGroup):
    pass


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # paragraphs of a docstring are filled to the terminal's width
)
_SOLVING = new, solve, certify, check, report, lemmas, bench, doctor
_MODELS = train, audit
_NEIGHBOURS = naf, ledger, royalty, compress, decompress, nearest
_PANELS = {"Solve": _SOLVING, "Language models": _MODELS, "Neighbours": _NEIGHBOURS}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(cls=_Command, rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command line; bad input gives one line and exit code 2, a fault of ours 70."""
    try:
        try:
            code = app(prog_name="copyreg", standalone_mode=False)
        finally:
            sys.stdout.flush()
    except typer.TyperException as error:
        _end(_about_usage(error), EXIT_INPUT)
    except InputError as error:
        _end(str(error), EXIT_INPUT)
    except OSError as error:
        if error.filename is not None:
            _end(f"can't use {error.filename}: {error.strerror or error}", EXIT_INPUT)
        # Python's own exit code for this is 1, which means something else here.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _end(f"can't write the output: {error}", EXIT_INPUT)
    except Exception as error:  # here too Python's own exit code would be 1
        traceback.print_exc()
        said = f"{type(error).__name__} is a fault of this program or of what is installed"
        _end(f"{said}; see `copyreg doctor`, else please report it", EXIT_FAULT)
    sys.exit(code)


def _end(message: str, code: int) -> None:
    if message:
        errors.print(f"copyreg: {message}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)


def _about_usage(error: typer.TyperException) -> str:
    """One line for a command line that can't be parsed; none where all help was printed."""
    message = " ".join(error.format_message().replace("Value error, ", "").split())
    if not message:
        return ""
    given = [repr(fault["input"]) for fault in getattr(error.__cause__, "errors", list)()]
    sentences = [message, *(f"It is {value}" for value in given if value not in message)]
    context = getattr(error, "ctx", None)
    command = "copyreg" if context is None else context.command_path
    said = " ".join(text if text.endswith(("?", ".")) else f"{text}." for text in sentences)
    return f"{said} See `{command} --help`."


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
