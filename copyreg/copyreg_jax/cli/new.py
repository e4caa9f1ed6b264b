"""``copyreg new``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from copyreg_jax._files import require_new, unreadable
from copyreg_jax.cli.common import (
    EXIT_INTERRUPTED,
    AsJson,
    errors,
    output,
    show_table,
    to_json,
)
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.instances.new_folder import NewInstance
    from copyreg_jax.instances.targets import Flags, Target

__all__ = ["FormatName", "new"]

FormatName = Literal[
    "npy", "npz", "parquet", "arrow", "csv", "svmlight", "matrix-market", "safetensors"
]

_TARGET, _FLAGS, _FILE = "The target b (give one)", "The protected rows (give one)", "The file"


def new(
    source: Annotated[
        str,
        typer.Argument(
            help="File with one row for each row of A: .csv, .tsv, .npy, .npz, .parquet, .pq, "
            ".arrow, .feather, .ipc, .svm, .svmlight, .libsvm, .mtx or .safetensors. Text may be "
            "packed: .gz, .bz2, .xz. FILE:NAME is an array of an .npz or .safetensors file."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the instance. It must not exist yet.")],
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns of A, separated by commas. 'x*' stands for all that begin with x. "
            "The default is all columns but those of b and of the protected rows."
        ),
    ] = None,
    without_columns: Annotated[
        str | None, typer.Option(help="Columns to leave out of A, separated by commas.")
    ] = None,
    target_column: Annotated[
        str | None, typer.Option(help="Column that is b.", rich_help_panel=_TARGET)
    ] = None,
    count_column: Annotated[
        str | None,
        typer.Option(
            help="Column of counts: b is each count over their sum.", rich_help_panel=_TARGET
        ),
    ] = None,
    target_label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN=LABEL",
            help="Label: b is spread evenly over the rows that have it.",
            rich_help_panel=_TARGET,
        ),
    ] = None,
    query_row: Annotated[
        int | None,
        typer.Option(
            help="Number of a row, counted from 0: b is the attention softmax(A q / T) that it "
            "gives to each row as a query q.",
            rich_help_panel=_TARGET,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Number T in the attention. The default is the square root of the number of "
            "columns.",
            rich_help_panel=_TARGET,
        ),
    ] = None,
    target_file: Annotated[
        Path | None,
        typer.Option(help="File .npy with a number for each row: b.", rich_help_panel=_TARGET),
    ] = None,
    protected_column: Annotated[
        str | None,
        typer.Option(
            help="Column that marks protected rows by 1, true or yes, and the others by 0, false "
            "or no.",
            rich_help_panel=_FLAGS,
        ),
    ] = None,
    protected_label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN=LABEL",
            help="Label: the rows that have it are protected.",
            rich_help_panel=_FLAGS,
        ),
    ] = None,
    protected_rows: Annotated[
        int | None,
        typer.Option(
            help="Number of protected rows at the top of the file.", rich_help_panel=_FLAGS
        ),
    ] = None,
    protected_file: Annotated[
        Path | None,
        typer.Option(
            help="File .npy with a mask, or with the numbers of the protected rows.",
            rich_help_panel=_FLAGS,
        ),
    ] = None,
    gamma: Annotated[
        float,
        typer.Option(help="Weight of the protection term. A note says which suppress."),
    ] = 1e-3,
    w: Annotated[
        float,
        typer.Option(
            help="Regularization weight of every row. A smaller one fits b better; with a large "
            "one, as 0.1, f is nearly the same for all rows."
        ),
    ] = 1e-3,
    index_base: Annotated[
        int | None,
        typer.Option(
            help="Number that columns are counted from in an svmlight file: 0 or 1. It is needed "
            "unless the file shows it.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            help="Character between the cells of a table in text, or the word tab. The default is "
            "a comma, and a tab for .tsv.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Say whether the first line of a table in text is names or a row. Without names, "
            "columns are called 0, 1, ... Needed if a number is in that line.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    format: Annotated[
        FormatName | None,
        typer.Option(
            metavar="FORMAT",
            help="Format of a file with another suffix: npy, npz, parquet, arrow, csv, svmlight, "
            "matrix-market or safetensors.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an instance folder of a file, which `copyreg solve` takes.

    The command says what it has understood before it writes. Rows of A are copied block by block,
    so they need not fit into memory; sparse matrices have to. The folder appears when it is
    complete. After an interruption, the same command continues.

    Exit codes: 0 done, 2 bad input, 130 interrupted.
    """
    given_target = _one_of(
        "b is",
        {
            "--target-column": target_column,
            "--count-column": count_column,
            "--target-label": _split("--target-label", target_label),
            "--query-row": query_row,
            "--target-file": target_file,
        },
    )
    given_flags = _one_of(
        "the protected rows are",
        {
            "--protected-column": protected_column,
            "--protected-label": _split("--protected-label", protected_label),
            "--protected-rows": protected_rows,
            "--protected-file": protected_file,
        },
    )
    if temperature is not None and query_row is None:
        raise InputError("--temperature is for --query-row; give that too")
    require_new(out)
    _require_source(source)
    # From here on JAX is imported, which takes longer than all that was refused so far.
    from copyreg_jax.instances.new_folder import part_of, plan_instance
    from copyreg_jax.instances.readers import open_table
    from copyreg_jax.instances.readers.row_tables import Choice

    target, flags = _made(*given_target, temperature), _made(*given_flags)
    try:
        with errors.status("reading", spinner="line"):
            choice = Choice(
                None if columns is None else _names(columns),
                () if without_columns is None else _names(without_columns),
                tuple({name for name, _ in (*target.wanted, *flags.wanted)}),
            )
            table = open_table(
                source,
                choice,
                index_base=index_base,
                delimiter=delimiter,
                header=header,
                format=format,
            )
            instance = plan_instance(table, target, flags, w, gamma)
        _show(instance, target, flags)
        for doubt in _doubts(instance, target_column, index_base):
            errors.print(f"note: {doubt}", style="yellow", markup=False, soft_wrap=True)
        with _progress(instance.shape[0]) as progress:
            instance.write(out, progress)
    except KeyboardInterrupt:
        words = f"{out} was not written"
        if part_of(out).exists():
            words += f"; the same command goes on from what is in {part_of(out)}"
        errors.print(f"copyreg: interrupted; {words}", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        print(to_json(_summary(instance, out)))
    command = shlex.join(["copyreg", "solve", str(out), "--out", f"{out}-solved"])
    output.print(f"Wrote {out}. To solve it: {command}", markup=False, soft_wrap=True)


def _one_of(what: str, options: dict[str, Any]) -> tuple[str, Any]:
    """Name and value of the one option that is given."""
    given = {name: value for name, value in options.items() if value is not None}
    if len(given) != 1:
        have = "more than one option says" if given else "no option says"
        shown = ", ".join(given or options)
        raise InputError(f"{have} what {what}; give one of {shown}")
    return next(iter(given.items()))


def _made(option: str, value: Any, *more: Any) -> Any:
    """Make the `Target` or the `Flags` that an option asks for."""
    from copyreg_jax.instances import targets

    if option == "--query-row":
        return targets.Attention(value, *more)
    makers: dict[str, Any] = {
        "--target-column": targets.TargetColumn,
        "--count-column": targets.Frequencies,
        "--target-label": lambda label: targets.TargetLabel(*label),
        "--target-file": targets.TargetFile,
        "--protected-column": targets.FlagColumn,
        "--protected-label": lambda label: targets.FlagLabel(*label),
        "--protected-rows": targets.FirstRows,
        "--protected-file": targets.FlagFile,
    }
    return makers[option](value)


def _require_source(source: str) -> None:
    """`InputError` if there is no such file; FILE:NAME is an array of a file."""
    try:
        Path(source).stat()
    except (OSError, ValueError) as error:
        file, colon, _ = source.partition(":")
        if not colon or not Path(file).exists():
            raise unreadable(source, error) from None


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",")]


def _doubts(
    instance: NewInstance, target_column: str | None, index_base: int | None
) -> Iterator[str]:
    """Say what is allowed, but is mostly a slip."""
    from copyreg_jax.instances import doubts

    if doubt := doubts.doubt_of_target(instance.b):
        cure = "divide b by its sum if it should be a distribution"
        if target_column is not None and (instance.b >= 0).all():
            cure = "did you mean " + shlex.join(["--count-column", target_column]) + "?"
        yield f"{doubt}, {doubts.BESIDE_SOFTMAX}; {cure}"
    elif doubt := doubts.doubt_of_gamma(instance):
        yield doubt
    table: Any = instance.table
    if index_base == 0 and table.columns[0] == "0" and not table.matrix[:, [0]].nnz:
        yield "no row has the index 0; if the file counts from 1, say --index-base 1"
    yield from doubts.doubts_of_columns(instance)


def _split(option: str, text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    column, equals, label = text.partition("=")
    if not equals or not column:
        raise InputError(f"{option}: {text!r} is not COLUMN=LABEL")
    return column, label


def _summary(instance: NewInstance, out: Path) -> dict[str, Any]:
    table, (n, d) = instance.table, instance.shape
    return {
        "instance": str(out),
        "source": table.name,
        "kind": table.kind,
        "n": n,
        "d": d,
        "n1": int(instance.protected.sum()),
        "dtype": table.dtype.name,
        "sparse": instance.is_sparse,
        "num_entries": instance.num_entries,
        "gamma": instance.gamma,
        "w": instance.w,
        "target_sum": float(instance.b.sum()),
        "target_mass": float(instance.b[instance.protected].sum()),
    }


def _show(instance: NewInstance, target: Target, flags: Flags) -> None:
    """Print what was understood."""
    import numpy as np

    table, b, protected = instance.table, instance.b, instance.protected
    n, d = instance.shape
    marked = np.flatnonzero(protected)
    form = f"sparse, {instance.num_entries:,} entries" if instance.is_sparse else "dense"
    rows = [
        ("read", f"{table.name}: {table.kind}"),
        ("A", f"{n:,} rows, {d:,} columns, {table.dtype}, {form}"),
        ("columns", _shortened(table.columns)),
        *(
            (f"row {i}", _shortened([f"{number:.6g}" for number in row]))
            for i, row in enumerate(instance.first_rows(3))
        ),
        ("b", f"{target}; sum {b.sum():.6g}, from {b.min():.6g} to {b.max():.6g}"),
        (
            "protected",
            f"{flags}: {marked.size:,} rows with {b[protected].sum():.6g} of b: "
            f"{_shortened(marked)}",
        ),
        ("gamma, w", f"{instance.gamma:g}, {instance.w:g}"),
    ]
    show_table(rows)


def _shortened(words: Any) -> str:
    return ", ".join(map(str, words[:6])) + f", ... and {len(words) - 6:,} more" * (len(words) > 6)


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    from rich.progress import Progress

    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("writing rows", total=total)
        yield lambda rows: bar.update(task, completed=rows)
