"""``copyreg solve``."""

from __future__ import annotations

import math
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from copyreg_jax.cli.certificate_table import RequireSuppressed, certificate_summary
from copyreg_jax.cli.common import (
    EXIT_INTERRUPTED,
    EXIT_NOT_CONVERGED,
    AsJson,
    Overwrite,
    enable_x64,
    errors,
    require_instance,
    to_json,
    write_json,
)
from copyreg_jax.cli.global_option import (
    Globally,
    GlobalResume,
    GlobalSeconds,
    search,
)
from copyreg_jax.cli.make_report import Report, require_out, write_report
from copyreg_jax.cli.solve_results import (
    prepare_results,
    show_results,
    summarize,
    write_solution,
)
from copyreg_jax.errors import InputError, NotCoerciveWarning

if TYPE_CHECKING:
    from copyreg_jax.problems.copyright_regression import CopyrightRegression
    from copyreg_jax.solvers import Progress, Solver

__all__ = [
    "MetricName",
    "ReadingName",
    "SolverName",
    "solve",
]

SolverName = Literal[
    "newton-cg",
    "newton",
    "sketched-newton",
    "gradient-descent",
    "accelerated-gradient",
    "lbfgs",
    "adam",
]

ReadingName = Literal["joint", "block"]

MetricName = Literal["squared", "cross-entropy"]


def solve(
    instance: Annotated[
        Path | None,
        typer.Argument(
            help="Instance to solve: an .npz file, or a folder of .npy files. "
            "The default is the embedded example."
        ),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(help="Weight of the protection term (default: the instance's).")
    ] = None,
    w: Annotated[
        float | None,
        typer.Option(
            help="Regularization weight of every row, often 0.001 to 1 (default: the instance's)."
        ),
    ] = None,
    reading: Annotated[
        ReadingName | None,
        typer.Option(
            help="Entries of the protected rows: joint, those of the softmax over all rows, or "
            "block, those of a softmax over the protected rows alone (default: the instance's)."
        ),
    ] = None,
    metric: Annotated[
        MetricName | None,
        typer.Option(
            metavar="NAME",
            help="Loss between softmax(A x) and b: squared or cross-entropy (default: the "
            "instance's).",
        ),
    ] = None,
    solver: Annotated[
        SolverName,
        typer.Option(
            metavar="NAME",
            help="Algorithm: newton-cg, newton, sketched-newton, gradient-descent, "
            "accelerated-gradient, lbfgs or adam.",
        ),
    ] = "newton-cg",
    rtol: Annotated[
        float | None,
        typer.Option(help="Relative tolerance of the gradient (default 1e-10 in float64)."),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Largest number of steps (default: the solver's).")
    ] = None,
    tau: Annotated[
        float | None, typer.Option(help="Margin to certify (default: any positive margin).")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File that stores the run. If it exists, the run is resumed from it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for solution.npz, certificate.json, summary.json, instance.npz, and with "
            "--global for global.json."
        ),
    ] = None,
    overwrite: Overwrite = False,
    require_suppressed: RequireSuppressed = False,
    globally: Globally = False,
    global_seconds: GlobalSeconds = None,
    global_resume: GlobalResume = None,
    report: Report = False,
    as_json: AsJson = False,
) -> None:
    """Minimize the loss L of an instance, and certify how far the protected rows are kept away.

    The command never replaces a file that it reads. It replaces the results of another run only if
    you give --overwrite. A run that continues from --checkpoint replaces its own results.

    Exit codes: 0 converged, 1 not converged, not suppressed as required, or without the proof that
    --global asks for, 2 bad input, 130 interrupted. An interrupted run still writes and certifies
    the point that it reached.
    """
    enable_x64()
    _check_options(tau, globally, global_seconds, global_resume, checkpoint)
    require_out(report, out)
    require_instance(instance)
    prepare_results(out, instance, [checkpoint, global_resume], overwrite)
    import copyreg_jax as cr

    is_changed = (gamma, w, reading, metric) != (None, None, None, None)
    with _notes():
        problem = cr.example_instance() if instance is None else cr.load_instance(instance)
        if is_changed:
            problem = problem.replace(gamma=gamma, w=w, reading=reading, metric=metric)
    doubt = _doubt_target(problem)
    is_copied = not isinstance(problem.A, cr.RowBlocks)  # a matrix on disk is not
    if report and is_changed and not is_copied:
        raise InputError(
            "--report checks the certificate against a file, and none has this instance: its "
            "matrix stays on disk, and an option changes it; change the file instead"
        )
    with _searching(global_resume):
        found, proved = (
            search(problem, global_seconds, global_resume, out) if globally else (None, None)
        )
    with _progress() as callback:
        solution = cr.solve(
            problem,
            _solver(solver),
            None if found is None else found.x,
            rtol=rtol,
            max_steps=max_steps,
            callback=callback,
            checkpoint=checkpoint,
        )
    summary = summarize(instance, problem, solution)
    summary["global"] = proved
    if checkpoint is not None:
        from copyreg_jax.solvers.checkpoint import run_of

        summary["run"] = run_of(checkpoint)
    if out is not None:  # already now, so that no later failure loses the solution
        write_solution(out, problem, solution, summary)
    if solution.status is not cr.Status.NONFINITE:
        with errors.status("certifying", spinner="line"):
            certificate = cr.certify(problem, solution.x, tau)
        summary["certificate"] = certificate_summary(certificate)
        if out is not None:
            certificate.save(out / "certificate.json")
            write_json(out / "summary.json", summary)
    place = instance if not is_copied and not is_changed else None
    if as_json:
        print(to_json(summary))
    else:
        certified = out / "instance.npz" if out is not None and is_copied else place
        show_results(problem, summary, out, certified, doubt)
    if report and out is not None:
        write_report(out, instance=place)
    if solution.status is cr.Status.INTERRUPTED:
        raise typer.Exit(EXIT_INTERRUPTED)
    suppressed = summary["certificate"] and summary["certificate"]["direction"] == "suppressed"
    unproved = found is not None and found.status.name != "PROVED"
    failed = solution.status is not cr.Status.CONVERGED or unproved
    if failed or (require_suppressed and not suppressed):
        raise typer.Exit(EXIT_NOT_CONVERGED)


def _check_options(
    tau: float | None,
    globally: bool,
    seconds: float | None,
    resume: Path | None,
    checkpoint: Path | None,
) -> None:
    """Refuse before the work."""
    if resume is not None and not globally:
        raise InputError("--global-resume is for the search of --global; give --global too")
    if seconds is not None and not globally:
        raise InputError("--global-seconds is for the search of --global; give --global too")
    if tau is not None and not math.isfinite(tau):
        raise InputError(f"tau is {tau}; give a finite number")
    if globally and checkpoint is not None:
        raise InputError("--global starts at the minimum that it finds; leave --checkpoint out")


def _solver(name: str) -> Solver:
    import optax

    import copyreg_jax as cr

    solvers: dict[str, Any] = {
        "newton-cg": cr.NewtonCG,
        "newton": cr.TrustRegionNewton,
        "sketched-newton": cr.SketchedNewton,
        "gradient-descent": cr.GradientDescent,
        "accelerated-gradient": cr.AcceleratedGradient,
        "lbfgs": lambda: cr.Optax(optax.lbfgs()),
        "adam": lambda: cr.Optax(optax.adam(0.01)),
    }
    made: Solver = solvers[name]()
    return made


@contextmanager
def _searching(resume: Path | None) -> Iterator[None]:
    """Name the option if a search can't be made, or can't go on from its file."""
    try:
        yield
    except InputError as error:
        if resume is None:
            raise InputError(
                f"--global: {error}; leave the option out to solve without this proof"
            ) from None
        what = str(error).partition("; ")[0]  # what follows is for who checks such a file
        raise InputError(
            f"--global-resume: {what}; give the global.json of a search of this very instance, or "
            "leave the option out to search anew"
        ) from None


@contextmanager
def _notes() -> Iterator[None]:
    """Show the package's warnings as one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotCoerciveWarning)
        yield
    for warning in caught:
        errors.print(f"note: {warning.message}", style="yellow", markup=False, soft_wrap=True)


def _doubt_target(problem: CopyrightRegression) -> str:
    """Say that b is no distribution, which is allowed, but mostly a slip; returns the reason."""
    import numpy as np

    from copyreg_jax.instances.doubts import BESIDE_SOFTMAX, doubt_of_target

    doubt = doubt_of_target(np.asarray(problem.b))
    if doubt:
        errors.print(
            f"note: {doubt}, {BESIDE_SOFTMAX}; divide b by its sum if it should be a distribution",
            style="yellow", markup=False, soft_wrap=True,
        )  # fmt: skip
    return doubt


@contextmanager
def _progress() -> Iterator[Any]:
    """Show a live line; the first ctrl-C stops the solver, and its result is kept."""
    stop = False

    def interrupt(*_: Any) -> None:
        nonlocal stop
        stop = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        with errors.status("compiling", spinner="line") as line:

            def callback(progress: Progress) -> bool:
                line.update(
                    f"step {progress.step}   L = {progress.value:.12g}   "
                    f"|gradient| = {progress.gradient_norm:.3e}"
                )
                return stop

            yield callback
    finally:
        signal.signal(signal.SIGINT, previous)
