"""What ``copyreg solve`` writes and prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copyreg_jax._pages import counted
from copyreg_jax.cli.certificate_table import certificate_rows, show_verdict
from copyreg_jax.cli.common import (
    in_options,
    output,
    prepare_folder,
    require_free,
    show_table,
    write_json,
)
from copyreg_jax.cli.global_option import global_rows
from copyreg_jax.cli.make_report import PAGE
from copyreg_jax.report.folders import GLOBAL

if TYPE_CHECKING:
    from copyreg_jax.problems.copyright_regression import CopyrightRegression
    from copyreg_jax.solvers.solution import Solution

__all__ = ["prepare_results", "show_results", "summarize", "write_solution"]

_RESULTS = "certificate.json", "instance.npz", "solution.npz", "summary.json", GLOBAL, PAGE


def prepare_results(
    out: Path | None, instance: Path | None, resumed: list[Path | None], overwrite: bool
) -> None:
    """Refuse places that can't be written to, or that hold something else, before the work.

    What is resumed from is the checkpoint, and the certificate of a search.
    """
    checkpoint, search = resumed
    if checkpoint is not None:
        require_free("--checkpoint", [checkpoint], [instance], overwrite=True)
    if out is not None:
        same_run = checkpoint is not None and _is_of_run(out, checkpoint)
        results = [out / name for name in _RESULTS]
        require_free(
            "--out", results, [instance, checkpoint, search], overwrite=overwrite or same_run
        )
        prepare_folder(out, instance)


def _is_of_run(out: Path, checkpoint: Path) -> bool:
    """Tell whether a folder holds results of the run that the checkpoint stores."""
    from copyreg_jax.solvers.checkpoint import run_of

    try:
        written = json.loads((out / "summary.json").read_bytes())["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return checkpoint.exists() and bool(written == run_of(checkpoint))


def summarize(
    instance: Path | None, problem: CopyrightRegression, solution: Solution
) -> dict[str, Any]:
    """Make the object of summary.json, which ``--json`` prints."""
    return {
        "instance": "embedded example" if instance is None else str(instance),
        "n": problem.n,
        "d": problem.d,
        "n1": problem.n1,
        "gamma": float(problem.gamma),
        "reading": problem.reading,
        "metric": problem.metric,
        "status": solution.status.name,
        "explanation": solution.status.explanation,
        "run": None,
        "num_steps": solution.num_steps,
        "num_values": solution.num_values,
        "num_gradients": solution.num_gradients,
        "num_hessians": solution.num_hessians,
        "num_hvps": solution.num_hvps,
        "value": solution.value,
        "gradient_norm": solution.gradient_norm,
        "ell_1": solution.ell_1,
        "ell_2": solution.ell_2,
        "protected_mass": solution.protected_mass,
        "target_mass": solution.target_mass,
        "direction": solution.direction,
        "global": None,
        "certificate": None,
    }


def write_solution(
    out: Path, problem: CopyrightRegression, solution: Solution, summary: dict[str, Any]
) -> None:
    """Write all but the certificate, which is made after it."""
    import io

    import numpy as np

    import copyreg_jax as cr
    from copyreg_jax._files import write_whole

    arrays = io.BytesIO()
    history = solution.history
    assert history is not None
    np.savez(
        arrays,
        x=np.asarray(solution.x),
        f=np.asarray(problem.f(solution.x)),
        history_value=history.value,
        history_gradient_norm=history.gradient_norm,
    )
    older = ["certificate.json", PAGE]  # they are about another x
    if summary["global"] is None or summary["global"]["certificate"] is None:
        older.append(GLOBAL)
    for name in older:
        (out / name).unlink(missing_ok=True)
    if isinstance(problem.A, cr.RowBlocks):  # a matrix on disk is not copied
        (out / "instance.npz").unlink(missing_ok=True)
    else:
        cr.save_instance(out / "instance.npz", problem)
    write_whole(out / "solution.npz", arrays.getvalue())
    write_json(out / "summary.json", summary)


def show_results(
    problem: CopyrightRegression,
    summary: dict[str, Any],
    out: Path | None,
    certified: Path | None,
    doubt: str,
) -> None:
    """Print the summary, the command that checks the certificate, and last the verdict."""
    style = "green" if summary["status"] == "CONVERGED" else "red"
    output.print(f"{summary['instance']}: {problem!r}", markup=False, soft_wrap=True)
    steps = counted(summary["num_steps"], "step")
    output.print(f"[{style}]{summary['status']}[/] after {steps}")
    if summary["status"] != "CONVERGED":
        output.print(in_options(summary["explanation"]), markup=False, soft_wrap=True)
    rows = [
        ("L", f"{summary['value']:.12g}"),
        ("|gradient|", f"{summary['gradient_norm']:.3e}"),
        ("ell_1, protected rows", f"{summary['ell_1']:.6g}"),
        ("ell_2, other rows", f"{summary['ell_2']:.6g}"),
        (
            "protected mass",
            f"{summary['protected_mass']:.6g} of f, {summary['target_mass']:.6g} of b: "
            f"{summary['direction']}",
        ),
    ]
    if summary["global"] is not None:
        rows += global_rows(summary["global"])
    if summary["certificate"] is not None:
        rows += certificate_rows(summary["certificate"])
    show_table(rows)
    if out is not None and certified is not None and summary["certificate"] is not None:
        files = out / "certificate.json", certified
        command = shlex.join(["copyreg", "check", *map(str, files)])
        output.print(f"To check this without the solver: {command}", markup=False, soft_wrap=True)
    if certified is not None and summary["global"] is not None and summary["global"]["certificate"]:
        proof = summary["global"]["certificate"]
        command = shlex.join(["copyreg", "check", proof, str(certified)])
        output.print(f"The same for the global minimum: {command}", markup=False, soft_wrap=True)
        if summary["global"]["status"] != "PROVED":
            again = ["copyreg", "solve", str(certified), "--global", "--global-resume", proof]
            output.print(
                "The search for it was stopped before its proof. To go on, into another folder: "
                + shlex.join([*again, "--out", "FOLDER"]),
                markup=False, soft_wrap=True,
            )  # fmt: skip
    if summary["certificate"] is not None:
        show_verdict(summary["certificate"], doubt)
