"""The checker's command line, for all kinds of certificates.

python -m copyreg_jax.checker CERTIFICATE [INSTANCE or TABLE or MODEL_FOLDER]
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from copyreg_jax.checker import access, guarantee, inextractable, removal
from copyreg_jax.checker.check import check
from copyreg_jax.checker.format import FORMAT, read_document
from copyreg_jax.checker.verdicts import CheckResult, Verdict, VoidError, void

__all__ = ["check_file", "main", "show"]


def check_file(
    certificate: str | Path,
    instance: str | Path | None = None,
    progress: inextractable.Progress = lambda done, number: None,
) -> CheckResult:
    """Check a certificate of any kind; one of a training loss needs no instance.

    ``progress`` is called for one of inextractable windows, which may take minutes for each.
    """
    try:
        kind = read_document(certificate).get("format")
    except VoidError:  # either checker says why the file can't be read
        kind = guarantee.FORMAT if instance is None else FORMAT
    if kind == guarantee.FORMAT:
        if instance is None:
            return guarantee.check_training(certificate)
        return void(f"{certificate} is about a language model; leave {instance} out")
    if instance is None:
        missing = "an instance or a table; name its .npz file after it"
        if kind == inextractable.FORMAT:
            missing = "a model; name the model's folder after it"
        return void(f"{certificate} is about {missing}")
    checkers: dict[Any, Callable[[Any, Any], CheckResult]] = {
        access.FORMAT: access.check_access,
        removal.FORMAT: removal.check_ledger,
        inextractable.FORMAT: functools.partial(
            inextractable.check_inextractable, progress=progress
        ),
    }
    return checkers.get(str(kind), check)(certificate, instance)


def main(arguments: list[str] | None = None) -> int:
    """Run the checker from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m copyreg_jax.checker",
        description="Check a certificate: 0 CERTIFIED, 1 REFUTED, 3 UNDECIDED, 2 VOID.",
    )
    parser.add_argument("certificate", type=Path, help="A certificate file.")
    parser.add_argument(
        "instance",
        type=Path,
        nargs="?",
        help="Its .npz instance or table, or its model's folder; none for a training loss.",
    )
    options = parser.parse_args(arguments)
    return show(check_file(options.certificate, options.instance))


def show(result: CheckResult) -> int:
    """Print a verdict and what it is about; returns the exit code."""
    try:
        print("\n".join([*result.lines, result.verdict.name]), flush=True)
    except (OSError, ValueError):
        # Nobody reads the verdict: don't let the interpreter's own exit code 1 pass for one.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Verdict.VOID.value
    return result.verdict.value


if __name__ == "__main__":
    sys.exit(main())
