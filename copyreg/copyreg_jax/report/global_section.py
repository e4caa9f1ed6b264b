"""The section about the global minimum: what global.json says, if the checker proves it again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from copyreg_jax._pages import commands, counted, escape, facts, plain, sentence
from copyreg_jax.certificates.words import above, below
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.checker.budget import BoxBudget, Budget
from copyreg_jax.checker.format import read_statements
from copyreg_jax.checker.global_claim import GlobalClaim, parse
from copyreg_jax.checker.verdicts import CheckResult, Verdict

__all__ = ["CheckedGlobally", "check_globally", "global_section"]


class CheckedGlobally(NamedTuple):
    """A certificate of the global minimum that has just been checked.

    Attributes
    ----------
    said : GlobalClaim or None
        What it says; None unless all of that was proved again.
    checked : CheckResult
        What the checker found.
    command : str
        The command that proves it again, to be given in the folder of the results.
    """

    said: GlobalClaim | None
    checked: CheckResult
    command: str


def check_globally(
    certificate: Path,
    instance: Path,
    beside: Path,
    progress: Callable[[str], object] = lambda stage: None,
) -> CheckedGlobally:
    """Check a certificate of the global minimum against its instance.

    Parameters
    ----------
    certificate, instance : path
    beside : path
        The folder from which the command names its files.
    progress : callable, optional
        Called with a description of what is being done.

    Notes
    -----
    Nothing is raised: a file that can't be read is VOID. Cost: a look at each box, at most about as
    long as the search was. More boxes than ``copyreg check`` takes unasked are VOID, too.

    Examples
    --------
    >>> import tempfile
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> with tempfile.TemporaryDirectory() as name:
    ...     certificate, instance = Path(name) / "global.json", Path(name) / "instance.npz"
    ...     cr.minimize_globally(problem).certificate().save(certificate)
    ...     cr.save_instance(instance, problem)
    ...     found = check_globally(certificate, instance, Path(name))
    >>> found.checked.verdict.name, found.said.status, found.command
    ('CERTIFIED', 'PROVED', 'copyreg check global.json instance.npz')
    """

    def tell(done: int, budget: Budget | BoxBudget) -> None:
        progress(f"checking the global minimum: {budget.said(done)}")

    checked = check_file(certificate, instance, tell)
    said = None
    if checked.verdict is Verdict.CERTIFIED:
        said = read_statements(certificate, parse)
    names = (os.path.relpath(path, beside) for path in (certificate, instance))
    return CheckedGlobally(said, checked, shlex.join(["copyreg", "check", *names]))


def global_section(found: CheckedGlobally) -> str:
    """Make the section, as HTML.

    Parameters
    ----------
    found : CheckedGlobally

    Examples
    --------
    >>> checked = CheckResult(Verdict.VOID, ["global.json is damaged"], None)
    >>> global_section(CheckedGlobally(None, checked, "copyreg check global.json i.npz"))[:76]
    '<p>VOID: not all that global.json says was proved again, so none of it is re'
    """
    again = commands(found.command, "Command for the global minimum")
    said = found.said
    if said is None:
        lines = found.checked.lines
        failing = [line for line in lines if not line.startswith("CERTIFIED")]
        why = escape(plain("; ".join(failing[:3])))
        return (
            f"<p>{found.checked.verdict.name}: not all that global.json says was proved again, so "
            f"none of it is repeated on this page. {why}</p>{again}"
        )
    ways = {
        "suppressed": "DOWN: suppressed",
        "amplified": "UP: amplified, not suppressed",
        "undecided": "open",
    }
    sets = counted(len(said.minimizers), "set")
    where = f"all in {sets}"
    if len(said.minimizers) == 1 and said.minimizers[0].is_unique:
        where = "one alone"
    rows = [
        ("Least value of L", f"in [{below(said.lower, 12)}, {above(said.upper, 12)}]"),
        ("Global minimizers", where),
        ("Margin at each", f"in [{below(said.margin.lower)}, {above(said.margin.upper)}]"),
        ("Protected mass at each", ways[said.direction]),
    ]
    ended = "" if said.status == "PROVED" else " The search was stopped before its end."
    notes = (
        f"global.json is about L everywhere.{ended} The checker proved all of it again when this "
        "page was made, without the search. The claim “global” of certificate.json is a proof by "
        "convexity, which may fail where this one does not."
    )
    table = facts("What is proved", [(name, sentence(text)) for name, text in rows])
    return f"<p>{escape(notes)}</p>{table}{again}"
