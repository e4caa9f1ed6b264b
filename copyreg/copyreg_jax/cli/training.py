"""Commands for language models: train and audit."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from copyreg_jax.cli.app import (
    EXIT_INTERRUPTED,
    Overwrite,
    app,
    errors,
    output,
    require_free,
    require_writable,
    write_json,
)
from copyreg_jax.errors import InputError, TrainingError

if TYPE_CHECKING:
    from copyreg_jax.training.fit import Metrics, Settings
    from copyreg_jax.training.records import Recheck
    from copyreg_jax.training.run import Run
    from copyreg_jax.training.text import Split

EXIT_NOT_FINITE = EXIT_DOES_NOT_HOLD = 1
_PROBLEMS = 10
_EXTRACTED = {
    "suffixes found, share": "exact",
    "right tokens in a row, mean": "mean_matched",
    "longest common substring, mean": "mean_substring",
    "longest common substring, longest": "max_substring",
    "ROUGE-L, mean": "mean_rouge_l",
    "found in 100 samples, share": "discoverable",
    "log10 of samples needed, median": "median_log10_samples",
}
_EXTRA = (
    "flax",
    "gguf",
    "matplotlib",
    "orbax",
    "regex",
    "rouge_score",
    "safetensors",
    "tokenizers",
)


@app.command()
def train(
    source: Annotated[
        str,
        typer.Argument(help="A folder of .txt files, a .jsonl, .csv or .zip; or `news`."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was stopped goes on.")],
    protect_share: Annotated[
        float | None, typer.Option(help="Protect this part of the documents, at random.")
    ] = None,
    protect_source: Annotated[
        str | None, typer.Option(help="Protect the documents of this source.")
    ] = None,
    protect_column: Annotated[
        str | None, typer.Option(help="Protect where this column says true.")
    ] = None,
    protect_names: Annotated[
        Path | None, typer.Option(help="Protect the documents named in this file, one a line.")
    ] = None,
    gamma: Annotated[
        float, typer.Option(help="Weight of the protection term, in nats squared.")
    ] = 0.0,
    target: Annotated[
        float | None,
        typer.Option(help="Protected loss to aim at, in nats per token, in place of --gamma."),
    ] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Do not train on the protected documents at all.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a GPT-2 or Llama, or .gguf, to fine-tune; or `smollm2`."),
    ] = None,
    epochs: Annotated[float, typer.Option(help="How often each row is seen.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Rows of a step.")] = 16,
    accumulate: Annotated[int, typer.Option(help="Steps that make one update.")] = 1,
    length: Annotated[int, typer.Option(help="Targets of a row.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="The highest one.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Of the matrices.")] = 0.1,
    vocab_size: Annotated[
        int | None, typer.Option(help="Of a new tokenizer; 2048 if not given.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of a new model; 128 if not given.")] = None,
    layers: Annotated[int | None, typer.Option(help="Of a new model; 4 if not given.")] = None,
    heads: Annotated[int | None, typer.Option(help="Of a new model; 4 if not given.")] = None,
    held_out: Annotated[
        float, typer.Option(help="Part of the unprotected not to train on; `audit` needs some.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    text_column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    name_column: Annotated[str | None, typer.Option(help="Column of the names.")] = None,
    source_column: Annotated[str | None, typer.Option(help="Column of the sources.")] = None,
) -> None:
    """Train a language model on text of which a part is protected.

    Needs the extra `lm`. Nothing of the text is written to the folder but the model. Exit codes: 0
    done, 1 the loss was not finite, 2 bad input, 130 interrupted (the same command goes on).
    """
    _require_extra()
    from copyreg_jax.training import run, text

    run.check_folder(out)
    with errors.status("reading", spinner="line") as line:
        columns = {"text": text_column, "name": name_column, "source": source_column}
        corpus = text.load_documents(source, **columns)  # type: ignore[arg-type]
        ways = {"column": protect_column, "source": protect_source, "share": protect_share}
        names = None if protect_names is None else _lines(protect_names)
        protected = text.flag(corpus.documents, names=names, seed=seed, **ways)  # type: ignore[arg-type]
        sizes = {
            "vocab_size": vocab_size, "width": width, "num_layers": layers, "num_heads": heads,
        }  # fmt: skip
        given = {size: value for size, value in sizes.items() if value is not None}
        if model is not None and given:
            raise InputError(f"--model has sizes of its own; leave {', '.join(given)} out")
        size = run.Size(**given)
        start, tokenizer = (None, None) if model is None else run.load_model(model)
        line.update("comparing documents, making tokens")
        prepared = run.prepare(
            corpus.documents, protected, length=length, vocab_size=size.vocab_size,
            tokenizer=tokenizer, held_out=held_out, seed=seed,
        )  # fmt: skip
        if start is None:
            start = run.new_model(prepared.tokenizer, size, length, seed=seed)
    rows = prepared.trained(leave_out)
    settings = _settings(
        len(rows.tokens), epochs, gamma=gamma, target_loss=target,
        batch_size=batch_size, accumulate=accumulate, learning_rate=learning_rate,
        weight_decay=weight_decay, seed=seed,
    )  # fmt: skip
    _show_data(prepared.split, corpus.num_empty, int(rows.mask.sum()), settings)
    try:
        with _Bar(settings.steps) as bar:
            found = run.train(
                prepared, start, settings, out, leave_out=leave_out, callback=bar.update,
                progress=bar.stage,
            )  # fmt: skip
    except TrainingError as error:
        errors.print(f"copyreg: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_NOT_FINITE) from None
    except KeyboardInterrupt:
        errors.print(f"interrupted; the same command goes on from {out}", markup=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _show_run(found, settings, out)


@app.command()
def audit(
    folders: Annotated[
        list[Path],
        typer.Argument(help="A run; then other runs or models with the same tokenizer."),
    ],
    source: Annotated[
        str, typer.Option("--text", help="The text that the run was given; runs keep none.")
    ],
    prefix: Annotated[int, typer.Option(help="Tokens that are shown.")] = 50,
    suffix: Annotated[int, typer.Option(help="Tokens to be found.")] = 50,
    windows: Annotated[int, typer.Option(help="Most windows of each group.")] = 256,
    top_k: Annotated[
        int | None, typer.Option(help="Sample among so many tokens; among all if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the windows and the bootstrap.")] = 0,
    text_column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    name_column: Annotated[str | None, typer.Option(help="Column of the names.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the reports.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure what models give away: plain losses, and protected text that they go on with.

    The first folder is a run and says what is protected and what was held out. The protection
    term is in no number. A run's certificate is checked, and compared with its model and with the
    losses measured here. Needs the extra `lm`. Exit codes: 0 done, 1 a certificate does not hold, 2
    bad input.
    """
    _require_extra()
    import jax.numpy as jnp

    from copyreg_jax.training import audit as auditing
    from copyreg_jax.training import records, run, text

    if out is not None:
        read = [file for path in (*folders, Path(source)) for file in _all_files(path)]
        require_free("--out", [out], read, overwrite=overwrite)
        require_writable(out.absolute().parent, f"--out {out}")
    with errors.status("reading", spinner="line") as line:
        corpus = text.load_documents(source, text=text_column, name=name_column)
        flags = records.load_flags(folders[0], corpus.documents)
        reports: dict[str, Any] = {}
        checks: dict[str, Recheck] = {}
        for folder in folders[1:]:
            if (folder / records.DOCUMENTS).exists():
                other = records.load_flags(folder, corpus.documents)
                if different := flags.difference(other):
                    raise InputError(
                        f"{folder} {different}, unlike {folders[0]}; train both with the same "
                        "text, flags, held_out, length and seed, or measure them one by one"
                    )
        for folder in folders:
            line.update(f"measuring {folder}")
            model, tokenizer = run.load_model(folder, jnp.float32)
            reports[str(folder)] = auditing.audit(
                model, tokenizer, flags.texts, flags.protected, flags.held_out,
                rows_length=flags.length, prefix=prefix, suffix=suffix, max_windows=windows,
                top_k=top_k, seed=seed, names=flags.names,
            )  # fmt: skip
            report = reports[str(folder)]
            check = records.recheck(folder, flags, report.nll, report.num_tokens)
            if check is not None:
                checks[str(folder)] = check
    if strange := len(corpus.documents) - len(flags.texts):
        output.print(
            f"{strange:,} documents of {source} are not of {folders[0]} and were not measured",
            markup=False, soft_wrap=True, style="red",
        )  # fmt: skip
    for row in auditing.compare(reports):
        _show_audit(row)
        if row["arm"] in checks:
            _show_check(checks[row["arm"]])
    if out is not None:
        content = {name: report.as_json() for name, report in reports.items()}
        for name, check in checks.items():
            plain = {k: None if v != v else v for k, v in check._asdict().items()}  # noqa: PLR0124
            content[name]["certificate"] = plain
        write_json(out, content)
        output.print(f"written to {out}", markup=False, soft_wrap=True)
    if any(check.problems for check in checks.values()):
        raise typer.Exit(EXIT_DOES_NOT_HOLD)


def _show_audit(row: dict[str, Any]) -> None:
    output.print(row["arm"], markup=False, soft_wrap=True, style="bold")
    output.print("                                       protected  unprotected   held out")
    for name, key in (("nats per token", "cross_entropy"), ("bits per byte", "bits_per_byte")):
        groups = [row[f"{group}_{key}"] for group in ("protected", "unprotected", "held_out")]
        output.print(f"  {name:34}" + "".join(f"{number:13.4f}" for number in groups))
    for name, key in (("unprotected", "tau"), ("held out", "tau_held_out")):
        value, low, high = (row[f"{key}{end}"] for end in ("", "_lower", "_upper"))
        output.print(f"  tau_CE against {name:12} {value:+.4f}, 95 %: {low:+.4f} to {high:+.4f}")
    for name, key in _EXTRACTED.items():
        numbers = [row[f"{group}_{key}"] for group in ("protected", "held_out")]
        texts = ["inf" if number is None else f"{number:.4g}" for number in numbers]
        output.print(f"  {name:34}{texts[0]:>13}{'':13}{texts[1]:>13}")


def _show_check(check: Recheck) -> None:
    said = f"  certificate: {check.verdict}"
    if check.num_documents:
        said += (
            f"; the losses of {check.num_documents} documents were measured again, at most "
            f"{check.difference:.1e} nats per token apart; they guarantee tau {check.tau:.4f}"
        )
    output.print(said, markup=False, soft_wrap=True)
    for problem in check.problems[:_PROBLEMS]:
        output.print(f"    {problem}", markup=False, soft_wrap=True, style="red")
    if len(check.problems) > _PROBLEMS:
        output.print(f"    and {len(check.problems) - _PROBLEMS} more", style="red")


def _require_extra() -> None:
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{missing[0]} is not installed; pip install 'copyreg-jax[lm]' has what is needed"
        )


def _all_files(path: Path) -> list[Path]:
    """The files of a run or a text, which may be a folder."""
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").split("\n")
        return [line.removesuffix("\r") for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"can't read {path}: {error}") from None


def _settings(num_rows: int, epochs: float, **fields: Any) -> Settings:
    from copyreg_jax.training.fit import Settings

    if not 0 < epochs < math.inf:
        raise InputError(f"--epochs is {epochs}; give a number > 0")
    accumulate, batch_size = max(1, fields["accumulate"]), max(1, fields["batch_size"])
    wanted = min(epochs * num_rows / batch_size, 2.0**31)
    steps = accumulate * max(1, round(wanted / accumulate))
    # Whole calls of the compiled program, unless that is far off: a rest is one more to compile.
    settings = Settings(steps=steps, **fields)
    whole = settings.steps_per_call * round(steps / settings.steps_per_call)
    return dataclasses.replace(settings, steps=whole if abs(whole / steps - 1) <= 0.02 else steps)


class _Bar:
    """A progress bar with the running losses."""

    def __init__(self, steps: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=errors,
            transient=True,
            disable=not errors.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=steps, losses="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, name: str) -> None:
        """Say what is being done."""
        self._progress.update(self._task, description=name, losses="")

    def update(self, metrics: Metrics) -> None:
        """Show a step."""
        speed = metrics.tokens_per_second
        losses = f"loss {metrics.cross_entropy:.3f}, protected {metrics.running_protected:.3f}"
        if not math.isnan(metrics.unprotected):
            losses += f", other {metrics.unprotected:.3f}"
        if not math.isnan(speed):
            losses += f", {speed:,.0f} tokens/s"
        self._progress.update(
            self._task, completed=metrics.step, description="training", losses=losses
        )


def _show_data(split: Split, num_empty: int, num_tokens: int, settings: Settings) -> None:
    counts = [int(group.sum()) for group in (split.protected, split.open, split.held_out)]
    empty = f", {num_empty} empty ones left out" if num_empty else ""
    output.print(
        f"{sum(counts):,} documents{empty}: {counts[0]:,} protected, {counts[1]:,} unprotected, "
        f"{counts[2]:,} held out; {num_tokens:,} tokens to train on, "
        f"{settings.steps:,} steps",
        soft_wrap=True,
    )


def _show_run(found: Run, settings: Settings, out: Path) -> None:
    from copyreg_jax.certify.explanation import below

    losses = found.losses
    output.print("cross-entropy in nats per token, without the protection term:")
    for name, loss in losses._asdict().items():
        output.print(f"  {name.replace('_', ' '):12} {loss:.4f}")
    output.print(f"  tau_CE       {losses.protected - losses.unprotected:+.4f}")
    if settings.target_loss is not None:
        off = losses.protected / settings.target_loss - 1
        output.print(f"  target       {settings.target_loss:.4f}, missed by {off:+.1%}")
    if found.certificate is not None:
        tau = found.certificate.tau
        what = f"CE_1 - CE_2 >= {below(tau)}" if tau > 0 else f"nothing (tau is {below(tau)})"
        output.print(
            "guaranteed of every model with a training loss as small: " + what, soft_wrap=True
        )
    output.print(f"written to {out}", markup=False, soft_wrap=True)
    if found.problem:
        errors.print(f"warning: {found.problem}", style="yellow", markup=False, soft_wrap=True)
