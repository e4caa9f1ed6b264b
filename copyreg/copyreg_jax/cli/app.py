"""Commands but for those of training.py. JAX is imported where it is needed."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shlex
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from copyreg_jax.errors import InputError, NotCoerciveWarning

if TYPE_CHECKING:
    from copyreg_jax.bench.run import Row as BenchRow
    from copyreg_jax.certify.certificate import Certificate
    from copyreg_jax.certify.check import Local
    from copyreg_jax.problem import CopyrightRegression
    from copyreg_jax.solution import Solution
    from copyreg_jax.solvers import Progress, Solver
    from copyreg_jax.theory.audit import Row

EXIT_NOT_CONVERGED, EXIT_INPUT, EXIT_INTERRUPTED = 1, 2, 130
# The checker's: 0 CERTIFIED, 1 REFUTED, 3 UNDECIDED, 2 VOID.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
output = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

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
DeviceName = Literal["cpu", "gpu"]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what an earlier run wrote to --out.")
]
_RESULTS = "certificate.json", "instance.npz", "solution.npz", "summary.json"


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
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Softmax regression and copyright regression, with certificates anyone can check."""


@app.command()
def solve(
    instance: Annotated[
        Path | None, typer.Argument(help="An .npz instance; the embedded example if not given.")
    ] = None,
    gamma: Annotated[float | None, typer.Option(help="Weight of the protection term.")] = None,
    w: Annotated[float | None, typer.Option(help="One regularization weight for all rows.")] = None,
    reading: Annotated[ReadingName | None, typer.Option(help="Reading of Definition 5.")] = None,
    metric: Annotated[MetricName | None, typer.Option(help="Loss that tells f from b.")] = None,
    solver: Annotated[SolverName, typer.Option(help="Algorithm.")] = "newton-cg",
    rtol: Annotated[float | None, typer.Option(help="Relative gradient tolerance.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Step limit.")] = None,
    tau: Annotated[float | None, typer.Option(help="Margin to certify.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File that the run is kept in, and resumed from if it is there."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for solution.npz, certificate.json, summary.json, instance.npz."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Minimize L, say what that does to the protected rows, and certify it.

    No file that is read is ever replaced. Results of another run are with --overwrite only; those
    of the run that --checkpoint goes on with are.

    Exit codes: 0 converged, 1 not converged, 2 bad input, 130 interrupted (the point reached is
    written and certified, if the solver had started).
    """
    _enable_x64()
    if tau is not None and not math.isfinite(tau):  # now, and not after the work
        raise InputError(f"tau is {tau}; give a finite number")
    _prepare_results(out, instance, checkpoint, overwrite)
    import copyreg_jax as cr

    with _notes():
        problem = cr.example_instance() if instance is None else cr.load_instance(instance)
        if (gamma, w, reading, metric) != (None, None, None, None):
            problem = problem.replace(gamma=gamma, w=w, reading=reading, metric=metric)
    with _progress() as callback:
        solution = cr.solve(
            problem,
            _solver(solver),
            rtol=rtol,
            max_steps=max_steps,
            callback=callback,
            checkpoint=checkpoint,
        )
    summary = _summary(instance, problem, solution, None)
    if checkpoint is not None:
        from copyreg_jax.solvers.checkpoint import run_of

        summary["run"] = run_of(checkpoint)
    if out is not None:  # already now: whatever happens next, the solution is not lost
        _write_solution(out, problem, solution, summary)
    if solution.status is not cr.Status.NONFINITE:
        with errors.status("certifying", spinner="line"):
            certificate = cr.certify(problem, solution.x, tau)
        summary["certificate"] = _certificate_summary(certificate)
        if out is not None:
            certificate.save(out / "certificate.json")
            write_json(out / "summary.json", summary)
    if as_json:
        print(_as_json(summary))
    else:
        certified = None if out is None else out / "instance.npz"
        if isinstance(problem.A, cr.RowBlocks):  # then it is in no other place than before
            certified = instance if (gamma, w, reading, metric) == (None,) * 4 else None
        _show(problem, summary, out, certified)
    if solution.status is cr.Status.INTERRUPTED:
        raise typer.Exit(EXIT_INTERRUPTED)
    if solution.status is not cr.Status.CONVERGED:
        raise typer.Exit(EXIT_NOT_CONVERGED)


@app.command()
def certify(
    instance: Annotated[Path, typer.Argument(help="An .npz instance, or a folder of .npy files.")],
    point: Annotated[Path, typer.Argument(help="solution.npz of `copyreg solve`, or x as .npy.")],
    tau: Annotated[float | None, typer.Option(help="Margin to certify.")] = None,
    eps_2: Annotated[float | None, typer.Option(help="eps_2 of Theorem 16.")] = None,
    local: Annotated[
        bool, typer.Option(help="Try to prove a minimizer near the point too: O(n d^2).")
    ] = True,
    max_bits: Annotated[
        int, typer.Option(help="Precision at which an open claim is given up, 128 to 4096.")
    ] = 4096,
    out: Annotated[Path | None, typer.Option(help="Certificate file to write.")] = None,
    overwrite: Overwrite = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say in words what was proved, and what was not.")
    ] = False,
) -> None:
    """Certify any point of an instance; large matrices are read block by block.

    Exit codes: 0 CERTIFIED, 1 REFUTED, 3 UNDECIDED, 2 bad input.
    """
    if out is not None:
        require_free("--out", [out], [instance, point], overwrite=overwrite)
        require_writable(out.parent, str(out))
    import copyreg_jax as cr

    with errors.status("certifying", spinner="line"):
        certificate = cr.certify(
            instance, _read_point(point), tau, eps_2=eps_2, local=local, max_bits=max_bits
        )
    if out is not None:
        certificate.save(out)
    if explain:
        output.print(certificate.explain(), markup=False, soft_wrap=True)
    else:
        _show_table(_certificate_rows(_certificate_summary(certificate)))
    output.print(certificate.verdict.name)
    raise typer.Exit(certificate.verdict.value)


@app.command()
def check(
    certificate: Annotated[Path, typer.Argument(help="A certificate file.")],
    instance: Annotated[Path, typer.Argument(help="The .npz instance it is about.")],
) -> None:
    """Prove again, without the solver, everything that a certificate says.

    Exit codes: 0 CERTIFIED, 1 REFUTED, 3 UNDECIDED, 2 VOID.
    """
    from copyreg_jax.certify.check import main as check_main

    raise typer.Exit(check_main([str(certificate), str(instance)]))


@app.command()
def lemmas(
    search: Annotated[
        float, typer.Option(help="Search on for this many seconds, with new draws.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the counterexamples, as instance files.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Test the statements of the paper that can fail, and the bounds that replace some of them.

    No instance is looked up: counterexamples are drawn and climbed to, in about forty seconds on
    two idle cores. docs/theory/paper.md explains each row. Exit codes: 0 done, 1 a bound of this
    package was violated, 2 bad input.
    """
    if not 0 <= search < math.inf:
        raise InputError(f"--search is {search}; give a number of seconds >= 0")
    _enable_x64()
    from copyreg_jax.theory import audit

    if out is not None:
        files = [out / f"{name}.npz" for name in audit.stored_counterexamples()]
        require_free("--out", files, overwrite=overwrite)
        _prepare_folder(out)
    with errors.status("compiling", spinner="line") as line:
        rows = audit.audit(seed, seconds=search, progress=line.update)
    is_sound = all(row.verdict == "holds" for row in rows[audit.NUM_PRINTED :])
    verdicts = audit.verdicts(rows)
    if as_json:
        report = {"seed": seed, "verdicts": verdicts, "replacements_hold": is_sound}
        print(_as_json({**report, "rows": [_row_as_json(row) for row in rows]}))
    else:
        _show_table(list(verdicts.items()))
        for title, part in (
            ("What the paper prints", rows[: audit.NUM_PRINTED]),
            ("What replaces it", rows[audit.NUM_PRINTED :]),
        ):
            table = Table(title=title)
            for name in ("where", "statement", "reading", "verdict", "worst", "slack"):
                table.add_column(name, overflow="fold")
            for row in part:
                table.add_row(*_cells(row))
            output.print(table)
    if out is not None:
        for row in rows:
            if row.counterexample is not None:
                path = row.counterexample.save(out)
                errors.print(f"written: {path}", markup=False, soft_wrap=True)
    if not is_sound:
        errors.print("a bound of this package fails: please report it", style="red")
        raise typer.Exit(1)


def _row_as_json(row: Row) -> dict[str, Any]:
    """A row with its counterexample as numbers."""
    found = row.counterexample
    shown = None
    if found is not None:
        p = found.problem
        shown = {
            "name": found.name,
            **{key: getattr(p, key).tolist() for key in ("A", "b", "protected", "w")},
            "gamma": float(p.gamma),
            "reading": p.reading,
            "x": found.x.tolist(),
        }
    return {**row._asdict(), "slack_log10": row.slack_log10, "counterexample": shown}


def _cells(row: Row) -> tuple[str, ...]:
    worst = f"1e{row.worst:.0f}" if row.scale in ("log10", "distance") else f"{row.worst:.4g}"
    slack = ""
    if row.slack_log10 is not None:
        far = row.slack_log10 > 3
        slack = f"1e{row.slack_log10:.0f}" if far else f"{10**row.slack_log10:.3g}"
    style = "red" if row.verdict == "fails" else "green"
    return row.where, row.says, row.reading, f"[{style}]{row.verdict}[/]", worst, slack


@app.command()
def bench(
    full: Annotated[
        bool, typer.Option("--full", help="All instances, more time and more repeats: an hour.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Instance to run; may be given several times.")
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds for one run; 2, with --full 60, if not given."),
    ] = None,
    device: Annotated[
        DeviceName | None, typer.Option(help="Where the arrays live; JAX's choice if not given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.csv, curves.csv, machine.json and figures."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Time the solvers against other libraries; every answer is judged by the same gradient.

    Without the extra `bench` it runs what is installed, and names what is missing. Exit codes: 0
    done, 2 bad input.
    """
    _enable_x64()
    if out is not None:
        names = "results.csv", "curves.csv", "machine.json", "profile.svg"
        files = [*(out / name for name in names), *out.glob("curve-*.svg")]
        require_free("--out", files, overwrite=overwrite)
        _prepare_folder(out)
    import contextlib

    import jax

    from copyreg_jax.bench import problems, run

    chosen = problems.select(only, full=full)
    settings = run.FULL if full else run.QUICK
    settings = settings if limit is None else settings._replace(limit=limit)
    place: Any = contextlib.nullcontext()
    if device is not None:
        try:
            place = jax.default_device(jax.devices(device)[0])
        except RuntimeError:
            raise InputError(f"--device {device}: JAX finds none; see `copyreg doctor`") from None
    rows: list[BenchRow] = []

    def finished(new: list[BenchRow]) -> None:
        rows.extend(new)
        if out is not None:  # what is there is not lost if the rest is interrupted
            run.write_table(out / "results.csv", rows, run.Row)
        _show_bench(new)

    with place, warnings.catch_warnings(), errors.status("starting", spinner="line") as line:
        warnings.simplefilter("ignore")  # of other libraries, about their own ends
        _, points = run.measure(chosen, report=line.update, finished=finished, **settings._asdict())
        described = run.machine()
    _show_comparison(rows)
    if out is not None:
        run.write_table(out / "curves.csv", points, run.Point)
        write_json(out / "machine.json", described)
        written = ["results.csv", "curves.csv", "machine.json"]
        try:
            from copyreg_jax.bench.plot import write_figures

            written += [path.name for path in write_figures(out, rows, points)]
        except ModuleNotFoundError as error:
            errors.print(f"note: no figures without {error.name}", style="yellow")
        output.print(f"written to {out}: {', '.join(written)}", markup=False, soft_wrap=True)


def _show_bench(rows: list[BenchRow]) -> None:
    """The methods on one instance, the fastest first."""
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
    """A table that fits into 80 columns; a name with a colon is that of a column of numbers."""
    from rich.box import SIMPLE_HEAD

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        justify: Literal["left", "right"] = "right" if name.endswith(":") else "left"
        table.add_column(name.removesuffix(":"), justify=justify, no_wrap=True)
    return table


def _show_comparison(rows: list[BenchRow]) -> None:
    """Ours against the best peer, and what that amounts to."""
    from copyreg_jax.bench import run

    comparisons = run.compare(rows)
    title = "copyreg against the best peer that reached the tolerance"
    table = _lean_table(title, "instance", "ms:", "best peer", "its ms:", "ratio:", "lowest L by")
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
        f"geometric mean of the ratios {run.geometric_mean(comparisons):.2f}; "
        f"below 1 on {below} of {len(comparisons)} instances"
    )


@app.command()
def doctor() -> None:
    """Show versions, devices and arithmetic of this installation; exit code 1 if it is unsound."""
    _enable_x64()
    import copyreg

    import jax
    import numpy as np

    import copyreg_jax

    flushes = not bool((np.full(4, 2.0**-1022) * 0.25 > 0).all())
    shadowed = not hasattr(copyreg, "dispatch_table")
    try:
        devices = ", ".join(str(device) for device in jax.devices())
    except Exception as error:  # what a broken accelerator plugin raises is anybody's guess
        devices = f"NONE: {error!r}"
    rows = [
        ("copyreg-jax", copyreg_jax.__version__),
        ("Python", platform.python_version()),
        *(
            (name, importlib.metadata.version(name))
            for name in ("jax", "jaxlib", "numpy", "scipy", "optax", "python-flint")
        ),
        ("devices", devices),
        ("64-bit mode", f"on here; your programs need {_x64_line()}"),
        ("flush-to-zero", "ON: certificates are refused" if flushes else "off"),
        ("standard library's copyreg", "SHADOWED: pickle is broken" if shadowed else "intact"),
    ]
    _show_table(rows)
    if flushes or shadowed or devices.startswith("NONE"):
        raise typer.Exit(1)


def _enable_x64() -> None:
    import jax

    jax.config.update("jax_enable_x64", True)


def _x64_line() -> str:
    from copyreg_jax.problem import ENABLE_X64

    return ENABLE_X64


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
def _notes() -> Iterator[None]:
    """Show the package's warnings as one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotCoerciveWarning)
        yield
    for warning in caught:
        errors.print(f"note: {warning.message}", style="yellow", markup=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Any]:
    """A live line on the terminal; the first ctrl-C stops the solver and keeps its result."""
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


def _prepare_results(
    out: Path | None, instance: Path | None, checkpoint: Path | None, overwrite: bool
) -> None:
    if checkpoint is not None:
        require_free("--checkpoint", [checkpoint], [instance], overwrite=True)
    if out is not None:
        same_run = checkpoint is not None and _is_of_run(out, checkpoint)
        results = [out / name for name in _RESULTS]
        require_free("--out", results, [instance, checkpoint], overwrite=overwrite or same_run)
        _prepare_folder(out)


def _prepare_folder(out: Path) -> None:
    """Find out before the work, not after it, whether the results can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write to --out {out}: {error.strerror or error}") from None
    require_writable(out, f"to --out {out}")


def require_writable(folder: Path, what: str) -> None:
    """Find out before the work whether a file can be made in the folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"can't write {what}: {error.strerror or error}") from None


def require_free(
    option: str, outputs: list[Path], inputs: Sequence[Path | None] = (), *, overwrite: bool
) -> None:
    """Find out before the work whether a file that is read, or that was there, would be lost."""
    for file in (file for path in inputs if path is not None for file in _files_of(path)):
        for path in outputs:
            if _is_same(path, file):
                raise InputError(
                    f"{option}: {path} would replace {file}, which this command needs; name another"
                )
    there = [path for path in outputs if os.path.lexists(path)]
    for path in there:
        if path.is_dir():
            raise InputError(f"{option}: {path} is a folder; name another place")
    if there and not overwrite:
        names = ", ".join(map(str, there))
        raise InputError(f"{option}: {names} is there already; name another, or give --overwrite")


def _files_of(path: Path) -> list[Path]:
    """The files of an instance, which may be a folder."""
    return [path, *path.glob("*.npy")] if path.is_dir() else [path]


def _is_same(one: Path, two: Path) -> bool:
    """Whether two names are of one file: by links too, and if there is none yet."""
    try:
        return one.samefile(two)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(two)


def _is_of_run(out: Path, checkpoint: Path) -> bool:
    """Whether a folder has the results of the run that a checkpoint is of."""
    from copyreg_jax.solvers.checkpoint import run_of

    try:
        written = json.loads((out / "summary.json").read_bytes())["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return checkpoint.exists() and bool(written == run_of(checkpoint))


def _read_point(path: Path) -> Any:
    import numpy as np

    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            if "x" not in content:
                raise InputError(f"{path} holds {content.files}, and no x")
            return content["x"]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from None
    except Exception:  # damaged files make NumPy raise nearly anything
        raise InputError(f"{path} holds no readable x: it is neither .npz nor .npy") from None


def _summary(
    instance: Path | None,
    problem: CopyrightRegression,
    solution: Solution,
    certificate: Certificate | None,
) -> dict[str, Any]:
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
        "certificate": None if certificate is None else _certificate_summary(certificate),
    }


def _certificate_summary(certificate: Certificate) -> dict[str, Any]:
    return {
        "verdict": certificate.verdict.name,
        "tau": certificate.tau,
        "margin": list(certificate.margin),
        "direction": certificate.direction,
        "level_set_value": certificate.value.upper,
        "level_set_tau": certificate.level_set_tau,
        "paper_tau": None if certificate.paper_tau is None else list(certificate.paper_tau),
        "paper_verdict": certificate.paper_verdict.name,
        "local": None if certificate.local is None else _local_summary(certificate.local),
        "is_global": certificate.is_global,
    }


def _local_summary(local: Local) -> dict[str, Any]:
    return {
        "radius": local.radius,
        "distance": local.distance,
        "margin": list(local.margin),
        "direction": local.direction,
    }


def _as_json(summary: dict[str, Any]) -> str:
    """JSON has no infinities and no NaN: they become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(summary), indent=1, allow_nan=False)


def write_json(path: Path, summary: dict[str, Any]) -> None:
    """Write a summary, whole or not at all."""
    from copyreg_jax.files import write_whole

    write_whole(path, (_as_json(summary) + "\n").encode())


def _write_solution(
    out: Path, problem: CopyrightRegression, solution: Solution, summary: dict[str, Any]
) -> None:
    import io

    import numpy as np

    import copyreg_jax as cr
    from copyreg_jax.files import write_whole

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
    (out / "certificate.json").unlink(missing_ok=True)  # an older one would be about another x
    if isinstance(problem.A, cr.RowBlocks):  # what is on disk stays where it is
        (out / "instance.npz").unlink(missing_ok=True)
    else:
        cr.save_instance(out / "instance.npz", problem)
    write_whole(out / "solution.npz", arrays.getvalue())
    write_json(out / "summary.json", summary)


def _show(
    problem: CopyrightRegression, summary: dict[str, Any], out: Path | None, certified: Path | None
) -> None:
    """The summary, and how to check the certificate against the instance it is about."""
    style = "green" if summary["status"] == "CONVERGED" else "red"
    output.print(f"{summary['instance']}: {problem!r}", markup=False, soft_wrap=True)
    output.print(f"[{style}]{summary['status']}[/] after {summary['num_steps']} steps")
    if summary["status"] != "CONVERGED":
        output.print(summary["explanation"], markup=False, soft_wrap=True)
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
    if summary["certificate"] is not None:
        rows += _certificate_rows(summary["certificate"])
    _show_table(rows)
    if summary["certificate"] is not None:
        output.print(summary["certificate"]["verdict"])
    if out is not None and certified is not None and summary["certificate"] is not None:
        files = out / "certificate.json", certified
        command = shlex.join(["copyreg", "check", *map(str, files)])
        output.print(f"To check that without the solver: {command}", markup=False, soft_wrap=True)


def _certificate_rows(certificate: dict[str, Any]) -> list[tuple[str, str]]:
    from copyreg_jax.certify.explanation import below

    low, high = certificate["margin"]
    tau = certificate["tau"]
    level = certificate["level_set_tau"]
    paper = certificate["paper_tau"]
    claim = "some tau > 0" if tau is None else f"tau = {tau!r}"
    proved = {"CERTIFIED": "is reached", "REFUTED": "is not reached", "UNDECIDED": "is undecided"}
    return [
        ("margin ell_1/n1 - ell_2/n2", f"in [{low:.17g}, {high:.17g}]"),
        ("claim", f"margin >= {claim}: {certificate['verdict']}"),
        (
            "wherever L is at most this",
            "nothing: L is infinite here" if level is None else f"margin >= {below(level)}",
        ),
        (
            "the paper's tau_c",
            "none" if paper is None else f"{paper[0]:.6g} {proved[certificate['paper_verdict']]}",
        ),
        ("minimizer, proved", _local_row(certificate)),
        ("direction, proved", certificate["direction"]),
    ]


def _local_row(certificate: dict[str, Any]) -> str:
    from copyreg_jax.certify.explanation import above, below

    local = certificate["local"]
    if local is None:
        return "none near x"
    radius, distance = below(local["radius"], 3), above(local["distance"], 3)
    alone = "the global one" if certificate["is_global"] else f"alone within {radius}"
    margin = below(local["margin"][0])
    return f"within {distance} of x, {alone}; margin >= {margin}, {local['direction']}"


def _show_table(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        output.print(f"{name:<{width}}{text}", markup=False, soft_wrap=True)
