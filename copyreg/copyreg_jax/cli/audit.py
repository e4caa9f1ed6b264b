"""``copyreg audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from copyreg_jax.cli.audit_proof import Proof
from copyreg_jax.cli.audit_runs import audit_runs
from copyreg_jax.cli.audit_works import audit_works
from copyreg_jax.cli.common import AsJson, require_extra
from copyreg_jax.cli.compile_cache import use_compile_cache
from copyreg_jax.errors import InputError

__all__ = ["audit"]

_RUNS, _WORKS = "For runs of copyreg train", "For a model and works"
"""What the options are for that only one of the two uses has; the others are for both."""

_EITHER = "give either runs and their --text, or a --model and a --work"


def audit(
    context: typer.Context,
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of a run, then of other runs or models with the same tokenizer."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="The text that the run was trained on. Runs keep no text.",
            rich_help_panel=_RUNS,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Any model, in place of runs: a Hugging Face folder with a GPT-2 or a Llama, "
            "a .gguf file, or smollm2.",
            rich_help_panel=_WORKS,
        ),
    ] = None,
    work: Annotated[
        list[Path] | None,
        typer.Option(
            help="A work to look for: a .txt file, a folder of them, a .csv, a "
            ".jsonl or a .zip. Repeat the option for more.",
            rich_help_panel=_WORKS,
        ),
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Text of the same kind that the model has never seen, from such a file or folder. "
            "Repeat the option for more.",
            rich_help_panel=_WORKS,
        ),
    ] = None,
    prefix: Annotated[
        int, typer.Option(help="Tokens of a protected text that the model is shown.")
    ] = 50,
    suffix: Annotated[
        int, typer.Option(help="Tokens after them that the model has to reproduce.")
    ] = 50,
    windows: Annotated[
        int,
        typer.Option(help="Largest number of windows per group of a run.", rich_help_panel=_RUNS),
    ] = 256,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Sample from this many most likely tokens (default: all). "
            "Audits of books often take 40.",
        ),
    ] = None,
    stride: Annotated[
        int,
        typer.Option(help="A passage begins every so many characters.", rich_help_panel=_WORKS),
    ] = 10,
    budget: Annotated[
        int,
        typer.Option(
            help="Samples that somebody may draw of each prefix.",
            rich_help_panel=_WORKS,
        ),
    ] = 1000,
    outputs: Annotated[
        int,
        typer.Option(
            help="Texts of 200 tokens that the model writes; 0 for none.",
            rich_help_panel=_WORKS,
        ),
    ] = 32,
    near: Annotated[
        int,
        typer.Option(
            help="Likeliest passages of a work, and of as much held-out text, for which texts "
            "with a few other tokens are searched; 0 for none.",
            rich_help_panel=_WORKS,
        ),
    ] = 16,
    distance: Annotated[
        int | None,
        typer.Option(
            help="With --near: tokens of a passage that may be others "
            "(default: a tenth of --suffix).",
            rich_help_panel=_WORKS,
        ),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(
            help="Share of unseen works that may count as memorized.",
            rich_help_panel=_WORKS,
        ),
    ] = 0.01,
    relearn: Annotated[
        int | None,
        typer.Option(
            help="Also train each model on for this many steps, on other text, and "
            "measure what comes back.",
            rich_help_panel=_RUNS,
        ),
    ] = None,
    quantize: Annotated[
        int | None,
        typer.Option(
            help="Round the weights to 8 or 4 bits. Runs are measured before and after; with "
            "--work the rounded model alone is.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for all random choices.")] = 0,
    text_column: Annotated[str, typer.Option(help="Column that holds the texts.")] = "text",
    name_column: Annotated[str | None, typer.Option(help="Column that holds the names.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the reports to.")] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Also write the results as a page for a browser to this file.",
            rich_help_panel=_WORKS,
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="Also prove the any-decoder bound of some passages, and write a "
            "certificate of it to this file. It gives the text of those passages away.",
            rich_help_panel=_WORKS,
        ),
    ] = None,
    certify_windows: Annotated[
        int,
        typer.Option(
            min=1,
            help="With --certificate: number of passages, those with the fewest bits. Each takes "
            "seconds for a small model, minutes for one of 100 million weights.",
            rich_help_panel=_WORKS,
        ),
    ] = 8,
    slack: Annotated[
        float,
        typer.Option(
            min=0,
            help="With --certificate: the bound covers all programs whose logits are within so "
            "much of the exact ones.",
            rich_help_panel=_WORKS,
        ),
    ] = 0.001,
    show_text: Annotated[
        bool,
        typer.Option(
            "--show-text",
            help="With --page: show the likeliest passages there, as text, and not only where "
            "they are.",
            rich_help_panel=_WORKS,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the files that an earlier audit wrote to --out, --page and "
            "--certificate.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how much of its protected text a language model gives away.

    There are two uses: runs of `copyreg train` and their --text, or a --model and a --work. Some
    options are for one of the two alone, and stand apart below.

    The first folder of runs must be a run; it says which documents are protected or held
    out. All losses are plain cross-entropies, without the protection term. The certificate of a
    run is checked and compared with the losses that are measured here. A work is cut into
    passages, and the audit says which of them the model would write, and where; stopped, it
    goes on from where it was if --out is given. Membership scores say how well losses tell the
    protected documents, or the works, from those held out. The command needs the extra `lm`, and
    for runs with canaries the extra `canaries`.

    Exit codes: 0 done, 1 a certificate does not hold, 2 bad input, 130 interrupted.
    """
    require_extra()
    use_compile_cache()
    columns = {"text": text_column, "name": name_column}
    if model is not None or work:
        if model is None or not work or folders or source is not None:
            raise InputError(_EITHER)
        _refuse_other_options(context, _RUNS)
        if show_text and page is None:
            raise InputError("--show-text is for a page; give --page FILE too")
        if distance is not None and near == 0:
            raise InputError("--distance is for passages that are searched; omit it with --near 0")
        for name in ("certify_windows", "slack") if certificate is None else ():
            if _is_given(context, name):
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is for a certificate; give --certificate FILE too")
        if quantize is not None and certificate is not None:
            raise InputError("--certificate is about the weights of the folder; omit --quantize")
        from copyreg_jax.lm.leakage.preset import Preset

        preset = Preset(
            prefix=prefix, suffix=suffix, stride=stride, budget=budget, alpha=alpha,
            top_k=top_k, outputs=outputs, near=near, distance=distance,
        )  # fmt: skip
        audit_works(
            model, work, held_out or [], preset,
            columns=columns, bits=quantize, seed=seed, out=out, page=page,
            show_text=show_text, overwrite=overwrite, as_json=as_json,
            proof=Proof(certificate, certify_windows, slack),
        )  # fmt: skip
        return
    if not folders or source is None:
        raise InputError(_EITHER)
    _refuse_other_options(context, _WORKS)
    sizes = {"prefix": prefix, "suffix": suffix, "max_windows": windows, "top_k": top_k}
    audit_runs(
        folders, source, sizes, columns,
        relearn=relearn, bits=quantize, seed=seed, out=out, overwrite=overwrite,
        as_json=as_json,
    )  # fmt: skip


def _refuse_other_options(context: typer.Context, panel: str) -> None:
    """Refuse options that this use would pass over in silence."""
    for option in context.command.params:
        if getattr(option, "rich_help_panel", None) == panel and _is_given(context, option.name):
            raise InputError(f"{option.opts[0]} is {panel[0].lower()}{panel[1:]} only; omit it")


def _is_given(context: typer.Context, name: str | None) -> bool:
    source = context.get_parameter_source(name or "")
    return source is not None and source.name != "DEFAULT"
