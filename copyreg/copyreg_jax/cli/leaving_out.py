"""``copyreg ledger``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from copyreg_jax.cli.common import (
    Overwrite,
    enable_x64,
    errors,
    output,
    prepare_folder,
    require_free,
    show_table,
    to_json,
)

if TYPE_CHECKING:
    from copyreg_jax.checker.format import Interval
    from copyreg_jax.neighbours.ledger import Ledger
    from copyreg_jax.problems.copyright_regression import CopyrightRegression

__all__ = ["ledger"]


def ledger(
    instance: Annotated[
        Path | None,
        typer.Argument(
            help="Instance: an .npz file, or a folder of .npy files. "
            "The default is the embedded example."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for ledger.json and instance.npz.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the verdict and the bits of each row as JSON.")
    ] = False,
) -> None:
    """Prove how many bits each row gained because the protected targets were seen.

    The command solves the problem twice: as it is, and without the loss on the protected rows. It
    encloses both minimizers and compares them. `copyreg check` proves the ledger again.

    Exit codes: 0 CERTIFIED, 3 UNDECIDED, 2 bad input.
    """
    enable_x64()
    paths = [] if out is None else [out / "ledger.json", out / "instance.npz"]
    require_free("--out", paths, [instance], overwrite=overwrite)
    if out is not None:
        prepare_folder(out)
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
    rows.append(("K of the protected rows", f"{len(middle)} rows, in bits"))
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
