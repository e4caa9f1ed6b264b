"""The checker's command line, for all kinds of certificates.

python -m copyreg_jax.checker CERTIFICATE [INSTANCE or TABLE or MODEL_FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from copyreg_jax.checker import (
    access,
    global_check,
    global_claim,
    guarantee,
    inextractable,
    removal,
)
from copyreg_jax.checker.budget import (
    MAX_BOXES,
    MAX_BOXES_HELP,
    MAX_TOKENS,
    MAX_TOKENS_HELP,
    BoxBudget,
    Budget,
    read_boxes,
    read_budget,
)
from copyreg_jax.checker.check import check
from copyreg_jax.checker.format import FORMAT, read_document
from copyreg_jax.checker.verdicts import CheckResult, Verdict, VoidError, void

__all__ = ["check_file", "main", "show"]

_CERTIFICATE, _INSTANCE = "certificate.json", "instance.npz"
"""The names that ``copyreg solve`` gives them."""


def check_file(
    certificate: str | Path,
    instance: str | Path | None = None,
    progress: Callable[[int, Budget | BoxBudget], None] = lambda done, budget: None,
    *,
    max_tokens: int = MAX_TOKENS,
    max_boxes: int = MAX_BOXES,
) -> CheckResult:
    """Check a certificate of any kind.

    Parameters
    ----------
    certificate : path
    instance : path, optional
        The .npz file of the instance or table, or the folder of the model. A certificate of a
        training loss needs none.
    progress : callable, optional
        Called for a certificate of inextractable windows or of a global minimum, with the number of
        windows or boxes that are done, 0 at first, and with what the whole check asks for.
    max_tokens, max_boxes : int, optional
        A certificate of inextractable windows that asks for more tokens through the model is
        refused, and one of a global minimum that asks for more boxes.

    Returns
    -------
    CheckResult
        Its verdict, and a line for each statement. Nothing is raised: a file that can't be read or
        does not fit is VOID.

    Notes
    -----
    Cost: that of the checker of the kind. Of inextractable windows a token takes 0.02 seconds with
    a GPT-2 of a million weights, and 1.2 with a Llama of 135 million.

    Examples
    --------
    >>> check_file("no-such-file").verdict.name
    'VOID'
    """
    if meant := _meant(certificate, instance):
        return void(meant)
    try:
        document = read_document(certificate)
    except VoidError as error:
        return void(str(error))
    kind, budget, boxes = document.get("format"), read_budget(document), read_boxes(document)
    checkers: dict[Any, Callable[[Any, Any], CheckResult]] = {
        FORMAT: check,
        guarantee.FORMAT: lambda file, _: guarantee.check_training(file),
        access.FORMAT: access.check_access,
        removal.FORMAT: removal.check_ledger,
        global_claim.FORMAT: functools.partial(
            global_check.check_global, progress=lambda done: progress(done, boxes)
        ),
        inextractable.FORMAT: functools.partial(
            inextractable.check_inextractable,
            progress=lambda done, number: progress(done, budget),
        ),
    }
    refused = _misfit(certificate, instance, kind, checkers)
    if kind == inextractable.FORMAT and budget.tokens > max_tokens:
        refused = refused or _beyond(certificate, budget.said(0), max_tokens, "--max-tokens")
    if kind == global_claim.FORMAT and boxes.boxes > max_boxes:
        refused = refused or _beyond(certificate, boxes.said(0), max_boxes, "--max-boxes")
    if refused:
        return void(refused)
    if kind == global_claim.FORMAT:
        progress(0, boxes)
    return checkers[kind](certificate, instance)


def _misfit(
    certificate: str | Path, instance: str | Path | None, kind: Any, known: Iterable[str]
) -> str:
    """Why a file of this format is not checked, or not with this instance; nothing if it is."""
    if kind not in [*known]:
        name = str(kind).partition("/")[0]
        meant = [each for each in known if each.partition("/")[0] == name] or sorted(known)
        return (
            f"{certificate} is not a valid certificate: its format is {kind!r:.60}, not "
            f"{' or '.join(meant)}; make the file anew"
        )
    if kind == guarantee.FORMAT:
        needless = f"{certificate} is about a language model; leave {instance} out"
        return "" if instance is None else needless
    missing = "an instance or a table; name its .npz file after it"
    if kind == inextractable.FORMAT:
        missing = "a model; name the model's folder after it"
    return f"{certificate} is about {missing}" if instance is None else ""


def _beyond(certificate: str | Path, asked: str, limit: int, option: str) -> str:
    return (
        f"{certificate} asks for {asked}, and this check for {limit:,} at most; to check it all "
        f"the same, give {option} with a larger number"
    )


def _meant(certificate: str | Path, instance: str | Path | None) -> str:
    """What to name in place of a folder that ``copyreg solve`` wrote; nothing for anything else."""
    with contextlib.suppress(OSError, TypeError, ValueError):  # no path; who reads it says so
        if Path(certificate).is_dir():
            return f"{certificate} is a folder; name the file, {Path(certificate, _CERTIFICATE)}"
        if instance is None:
            return ""
        folder = Path(instance)
        if (folder / _INSTANCE).is_file() and not any(folder.glob("A*.npy")):
            return f"{folder} is a folder of results; name {folder / _INSTANCE}"
    return ""


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
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=MAX_TOKENS,
        help=f"{MAX_TOKENS_HELP} (default: %(default)s)",
    )
    parser.add_argument(
        "--max-boxes",
        type=int,
        default=MAX_BOXES,
        help=f"{MAX_BOXES_HELP} (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    told = 0.0

    def tell(done: int, budget: Budget | BoxBudget) -> None:
        nonlocal told
        if done and isinstance(budget, BoxBudget) and time.monotonic() < told + 1:
            return
        told = time.monotonic()
        with contextlib.suppress(OSError, ValueError):  # nobody reads it
            print(budget.said(done), file=sys.stderr, flush=True)

    limits = {"max_tokens": options.max_tokens, "max_boxes": options.max_boxes}
    return show(check_file(options.certificate, options.instance, tell, **limits))


def show(result: CheckResult) -> int:
    """Print what was tested, and last the verdict and which way the protected mass goes.

    Returns the exit code.
    """
    ways = {
        "suppressed": "; the protected mass went DOWN.",
        "amplified": "; the protected mass went UP. This is amplified, not suppressed.",
        "undecided": "; whether the protected mass went up or down is not proved.",
        None: "",
    }
    last = result.verdict.name + ways[result.direction]
    try:
        print("\n".join([*result.lines, last]), flush=True)
    except (OSError, ValueError):
        # Nobody reads the verdict: don't let the interpreter's own exit code 1 pass for one.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Verdict.VOID.value
    return result.verdict.value


if __name__ == "__main__":
    sys.exit(main())
