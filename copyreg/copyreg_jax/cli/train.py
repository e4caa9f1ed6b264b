"""``copyreg train``."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from copyreg_jax._pages import counted
from copyreg_jax.cli.common import (
    EXIT_INTERRUPTED,
    AsJson,
    errors,
    output,
    read_lines,
    require_extra,
    require_free,
)
from copyreg_jax.cli.compile_cache import use_compile_cache
from copyreg_jax.cli.make_report import PAGE, Report, write_report
from copyreg_jax.errors import InputError, TrainingError

if TYPE_CHECKING:
    from copyreg_jax.lm.experiment import Run
    from copyreg_jax.lm.prepared import Prepared
    from copyreg_jax.lm.settings import Metrics, Settings

__all__ = ["train"]

_EXIT_NOT_FINITE = 1

_WAYS = "--protect-share", "--protect-source", "--protect-column", "--protect-names"


def train(
    source: Annotated[
        str,
        typer.Argument(
            help="Text: a folder of .txt files, a .jsonl, .csv or .zip file, or `news`."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run. A stopped run continues from it.")],
    protect_share: Annotated[
        float | None, typer.Option(help="Protect this share of the documents, chosen at random.")
    ] = None,
    protect_source: Annotated[
        str | None, typer.Option(help="Protect the documents from this source.")
    ] = None,
    protect_column: Annotated[
        str | None, typer.Option(help="Protect the documents for which this column is true.")
    ] = None,
    protect_names: Annotated[
        Path | None, typer.Option(help="Protect the documents named in this file, one per line.")
    ] = None,
    gamma: Annotated[
        float, typer.Option(help="Weight of the protection term, in nats squared.")
    ] = 0.0,
    target: Annotated[
        float | None,
        typer.Option(
            help="Loss of the protected text to aim at, in nats per token, instead of --gamma."
        ),
    ] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Do not train on the protected documents.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model to fine-tune: a folder of a GPT-2 or Llama, a .gguf file, or `smollm2`."
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(help="Number of passes over the training rows.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Rows per step.")] = 16,
    accumulate: Annotated[int, typer.Option(help="Steps per update of the weights.")] = 1,
    length: Annotated[int, typer.Option(help="Tokens per training row.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    weight_decay: Annotated[
        float, typer.Option(help="Weight decay, applied to weight matrices only.")
    ] = 0.1,
    vocab_size: Annotated[
        int | None, typer.Option(help="Vocabulary size of the new tokenizer (default 2048).")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Width of the new model (default 128).")] = None,
    layers: Annotated[
        int | None, typer.Option(help="Number of layers of the new model (default 4).")
    ] = None,
    heads: Annotated[
        int | None, typer.Option(help="Number of attention heads of the new model (default 4).")
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(
            help="Share of the unprotected documents not to train on. `copyreg audit` needs some."
        ),
    ] = 0.1,
    canaries: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of random texts to add. A coin decides for each whether it is trained on, "
            "as a protected document, or held out. `copyreg audit` measures what is kept of them.",
        ),
    ] = 0,
    canary_copies: Annotated[
        int, typer.Option(help="With --canaries: copies of each that is trained on.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed for all random choices.")] = 0,
    text_column: Annotated[str, typer.Option(help="Column that holds the texts.")] = "text",
    name_column: Annotated[str | None, typer.Option(help="Column that holds the names.")] = None,
    source_column: Annotated[
        str | None, typer.Option(help="Column that holds the sources.")
    ] = None,
    report: Report = False,
    as_json: AsJson = False,
) -> None:
    """Train a language model on text that is partly protected.

    The folder of the run keeps the model and its measurements, and no text. The command needs the
    extra `lm`.

    Exit codes: 0 done, 1 the loss was not finite, 2 bad input, 130 interrupted. The same command
    continues an interrupted run.
    """
    require_extra()
    use_compile_cache()
    from copyreg_jax.lm import experiment, model_sources, records
    from copyreg_jax.lm.corpus import loading, selection
    from copyreg_jax.lm.corpus.canaries import Canaries
    from copyreg_jax.lm.prepared import prepare

    records.check_folder(out)
    if report:  # a run replaces its own files, and nothing else may be in the way
        require_free("--report", [out / PAGE], overwrite=True)
    if canary_copies != 1 and not canaries:
        raise InputError("--canary-copies is for canaries; give --canaries NUMBER too")
    added = Canaries(number=canaries, copies=canary_copies, seed=seed) if canaries else None
    with errors.status("reading", spinner="line") as line:
        columns = {"text": text_column, "name": name_column, "source": source_column}
        ways = {"column": protect_column, "source": protect_source, "share": protect_share}
        num_ways = sum(way is not None for way in (protect_names, *ways.values()))
        if num_ways != 1:
            raise InputError(
                f"give one of {', '.join(_WAYS)}, which say what is protected; {num_ways} are given"
            )
        corpus = loading.load_documents(source, **columns)  # type: ignore[arg-type]
        names = None if protect_names is None else read_lines(protect_names)
        protected = selection.flag(corpus.documents, names=names, seed=seed, **ways)  # type: ignore[arg-type]
        sizes = {
            "vocab_size": vocab_size, "width": width, "num_layers": layers, "num_heads": heads,
        }  # fmt: skip
        given = {size: value for size, value in sizes.items() if value is not None}
        if model is not None and given:
            raise InputError(f"--model has its own sizes; leave {', '.join(given)} out")
        size = model_sources.Size(**given)
        start, tokenizer = (None, None) if model is None else model_sources.load_model(model)
        line.update("comparing documents, making tokens")
        prepared = prepare(
            corpus.documents, protected, length=length, vocab_size=size.vocab_size,
            tokenizer=tokenizer, held_out=held_out, canaries=added, seed=seed,
        )  # fmt: skip
        if start is None:
            start = model_sources.new_model(prepared.tokenizer, size, length, seed=seed)
    rows = prepared.trained(leave_out)
    settings = _settings(
        len(rows.tokens), epochs, gamma=gamma, target_loss=target,
        batch_size=batch_size, accumulate=accumulate, learning_rate=learning_rate,
        weight_decay=weight_decay, seed=seed,
    )  # fmt: skip
    _show_data(prepared, corpus.num_empty, int(rows.mask.sum()), settings)
    try:
        with _Bar(settings.steps) as bar:
            found = experiment.train(
                prepared, start, settings, out, leave_out=leave_out, callback=bar.update,
                progress=bar.stage,
            )  # fmt: skip
    except TrainingError as error:
        errors.print(f"copyreg: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(_EXIT_NOT_FINITE) from None
    except KeyboardInterrupt:
        errors.print(f"interrupted; the same command continues from {out}", markup=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _show_run(found, settings, out)
    if report:
        write_report(out)
    if as_json:
        print((out / records.SUMMARY).read_text("utf-8").rstrip())


def _settings(num_rows: int, epochs: float, **fields: Any) -> Settings:
    from copyreg_jax.lm.settings import Settings

    if not 0 < epochs < math.inf:
        raise InputError(f"--epochs is {epochs}; give a number > 0")
    accumulate, batch_size = max(1, fields["accumulate"]), max(1, fields["batch_size"])
    wanted = min(epochs * num_rows / batch_size, 2.0**31)
    steps = accumulate * max(1, round(wanted / accumulate))
    # A remainder would need a second compiled program, so round to whole calls where that is close.
    settings = Settings(steps=steps, **fields)
    whole = settings.steps_per_call * round(steps / settings.steps_per_call)
    return dataclasses.replace(settings, steps=whole if abs(whole / steps - 1) <= 0.02 else steps)


class _Bar:
    """Shows a progress bar with the running losses."""

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


def _show_data(prepared: Prepared, num_empty: int, num_tokens: int, settings: Settings) -> None:
    split, real = prepared.split, ~prepared.flags.canary
    groups = (split.protected, split.open, split.held_out)
    counts = [int((group & real).sum()) for group in groups]
    if (added := prepared.canaries) is not None:
        kept = int(added.inserted.sum())
        output.print(
            f"{added.number:,} canaries: {kept:,} protected, {added.copies:,} times each, "
            f"{added.number - kept:,} held out",
            soft_wrap=True,
        )
    empty = f", {num_empty} empty ones left out" if num_empty else ""
    output.print(
        f"{counted(sum(counts), 'document')}{empty}: {counts[0]:,} protected, {counts[1]:,} "
        f"unprotected, {counts[2]:,} held out; {num_tokens:,} tokens to train on, "
        f"{counted(settings.steps, 'step')}",
        soft_wrap=True,
    )


def _show_run(found: Run, settings: Settings, out: Path) -> None:
    from copyreg_jax.certificates.words import below

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
            "guaranteed for every model whose training loss is as small: " + what, soft_wrap=True
        )
    output.print(f"written to {out}", markup=False, soft_wrap=True)
    if found.problem:
        errors.print(f"warning: {found.problem}", style="yellow", markup=False, soft_wrap=True)
