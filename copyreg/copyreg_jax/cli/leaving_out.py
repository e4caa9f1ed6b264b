"""``copyreg ledger``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from copyreg_jax._files import write_whole
from copyreg_jax._pages import counted
from copyreg_jax.cli.common import (
    AsJson,
    Overwrite,
    all_files,
    enable_x64,
    errors,
    output,
    prepare_folder,
    require_extra,
    require_free,
    require_instance,
    show_table,
    to_json,
)
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.checker.format import Interval
    from copyreg_jax.neighbours.codelength import CorpusLedger, RunLedger
    from copyreg_jax.neighbours.ledger import Ledger
    from copyreg_jax.problems.copyright_regression import CopyrightRegression

__all__ = ["ledger"]


def ledger(
    instance: Annotated[
        Path | None,
        typer.Argument(
            help="Instance: an .npz file, or a folder of .npy files. Or the folder of a run of "
            "`copyreg train`. The default is the embedded example."
        ),
    ] = None,
    without: Annotated[
        Path | None,
        typer.Option(help="For a run: the folder of the same run with --leave-out."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for ledger.json and instance.npz. For runs it gets ledger.csv and k.png, "
            "and the extra `lm` is needed."
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Say how many bits each row or document gained because the protected ones were seen.

    K of a row or document is log2 of how many times more probable the model makes it than a model
    that never saw the protected ones does. It may be negative.

    An instance is solved twice: as it is, and without the loss on the protected rows. Both
    minimizers are enclosed and compared, so the bits of a row are proved. `copyreg check` proves
    the ledger again. Two runs are compared by the losses that they have measured, which proves
    nothing.

    Exit codes: 0 CERTIFIED or done, 3 UNDECIDED, 2 bad input.
    """
    is_run = instance is not None and (instance / "documents.json").is_file()
    if is_run and without is None:
        raise InputError(
            f"{instance} is a run; give the run that left the protected documents out as --without"
        )
    if without is not None and not is_run:
        what = instance or "the embedded example"
        raise InputError(
            f"--without is for a finished run of copyreg train, and {what} has no documents.json"
        )
    if instance is not None and without is not None:
        _of_runs(instance, without, out, overwrite, as_json)
        return
    require_instance(instance)
    enable_x64()
    paths = [] if out is None else [out / "ledger.json", out / "instance.npz"]
    require_free("--out", paths, [instance], overwrite=overwrite)
    if out is not None:
        prepare_folder(out, instance)
    import copyreg_jax as cr
    from copyreg_jax.neighbours.ledger import ledger as make

    problem = cr.example_instance() if instance is None else cr.load_instance(instance)
    with errors.status("solving twice, and certifying", spinner="line"):
        found = make(problem)
    if paths:
        found.save(paths[0])
        cr.save_instance(paths[1], problem)
    if as_json:
        rows = [None] * problem.n if found.rows is None else found.rows
        # A plain list of pairs: `jsonable` would name the ends of each interval.
        pairs = [None if row is None else list(row) for row in rows]
        bits = None if found.naf_bits is None else list(found.naf_bits)
        print(to_json({"verdict": found.verdict.name, "naf_bits": bits, "rows": pairs}))
    else:
        show_table(_rows(problem, found))
        output.print(found.verdict.name)
    raise typer.Exit(found.verdict.value)


def _of_runs(run: Path, without: Path, out: Path | None, overwrite: bool, as_json: bool) -> None:
    from copyreg_jax.neighbours.codelength import plot_ledger, run_ledger

    paths = [] if out is None else [out / "ledger.csv", out / "k.png"]
    inputs = [*all_files(run), *all_files(without)]
    require_free("--out", paths, inputs, overwrite=overwrite)
    if out is not None:
        require_extra()  # for the plot
    found = run_ledger(run, without)
    if out is not None:
        prepare_folder(out)
        write_whole(paths[0], _csv(found).encode())
        plot_ledger(found.protected, paths[1])
    if as_json:
        print(to_json({name: _columns(part) for name, part in found._asdict().items()}))
    else:
        show_table(_rows_of_runs(found))


def _columns(part: CorpusLedger) -> list[dict[str, Any]]:
    return [
        {"name": name, "k_bits": float(k), "safe_bits": float(safe), "bits": float(bits)}
        for name, k, safe, bits in zip(*part, strict=True)
    ]


def _csv(found: RunLedger) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", "seen", "k_bits", "safe_bits", "bits"])
    for part, seen in ((found.protected, "yes"), (found.held_out, "no")):
        for name, *numbers in zip(*part, strict=True):
            writer.writerow([name, seen, *map(float, numbers)])
    return file.getvalue()


def _rows_of_runs(found: RunLedger) -> list[tuple[str, str]]:
    import numpy as np

    rows = []
    names = "protected", "held out, seen by neither"
    for what, part in zip(names, found, strict=True):
        k, safe = part.k_bits, part.safe_bits
        if not len(k):
            rows.append((what, "no documents"))
            continue
        rows.append((what, f"{len(k):,} documents: K, of their bits under the run without them"))
        for name, i in (("most", 0), ("median", len(k) // 2), ("least", len(k) - 1)):
            rows.append((f"  {name}", f"{k[i]:,.1f} of {safe[i]:,.0f}, {part.names[i]!r:.60}"))
        rows.append(("  all", f"{k.sum():,.1f} of {safe.sum():,.0f}"))
    # Long documents have a large K in any case, so compare shares.
    share, other = (part.k_bits / np.maximum(part.safe_bits, 1) for part in found)
    if not len(other):
        rows.append(("no yardstick", "no document was held out, and any two runs differ"))
    elif len(share):
        most = max(float(other.max()), 0.0)
        rows.append(("largest K of a held-out one", f"{most:.2%} of its bits"))
        rows.append(("protected ones above that", f"{np.sum(share > most):,} of {len(share):,}"))
    return rows


def _rows(problem: CopyrightRegression, found: Ledger) -> list[tuple[str, str]]:
    import numpy as np

    from copyreg_jax.certificates.words import above, below

    rows: list[tuple[str, str]] = [("instance", repr(problem))]
    for name, kept in (("model", found.model), ("safe model", found.safe)):
        text = "none proved near the point that was found"
        if kept.local is not None:
            distance, radius = above(kept.local.distance, 3), below(kept.local.radius, 3)
            alone = "the global one" if kept.global_ is not None else f"alone within {radius}"
            text = f"proved within {distance} of the point that was found, {alone}"
        rows.append((name, text))
    if found.rows is None:
        return rows
    protected = np.flatnonzero(np.asarray(problem.protected))
    of_protected = [found.rows[i] for i in protected.tolist()]
    middle = np.array([0.5 * (row.lower + row.upper) for row in of_protected])
    order = np.argsort(middle)
    places = ("least", order[0]), ("median", order[len(order) // 2]), ("most", order[-1])
    rows.append(("K of the protected rows", f"{counted(len(middle), 'row')}, in bits"))
    rows += [(f"  {name}", f"row {protected[i]} {_text(of_protected[i])}") for name, i in places]
    more: dict[str, Any] = {
        "protected mass, in bits": found.mass_bits,
        "distance of minimizers": found.distance,
        "k of f(E) <= 2^k safe(E)": found.naf_bits,
    }
    return rows + [(name, _text(interval)) for name, interval in more.items()]


def _text(interval: Interval) -> str:
    from copyreg_jax.certificates.words import above, below

    return f"in [{below(interval.lower, 7)}, {above(interval.upper, 7)}]"
