"""``copyreg audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from copyreg_jax.cli.audit_proof import Proof
from copyreg_jax.cli.audit_runs import audit_runs
from copyreg_jax.cli.audit_works import audit_works
from copyreg_jax.cli.common import require_extra
from copyreg_jax.cli.compile_cache import use_compile_cache
from copyreg_jax.errors import InputError

__all__ = ["audit"]

_EITHER = "give either runs and their --text, or a --model and a --work"

_NO_TEXT = (
    "--relearn is for runs and their --text; of a --model it is not known which text it was "
    "trained on without protection"
)


def audit(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of a run, then of other runs or models with the same tokenizer."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--text", help="The text that the run was trained on. Runs keep no text."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Any model, in place of runs: a Hugging Face folder with a GPT-2 or a Llama, "
            "a .gguf file, or smollm2."
        ),
    ] = None,
    work: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --model: a work to look for: a .txt file, a folder of them, a .csv, a "
            ".jsonl or a .zip. Repeat the option for more."
        ),
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --work: text of the same kind that the model has never seen. "
            "Give it once for each."
        ),
    ] = None,
    prefix: Annotated[
        int, typer.Option(help="Tokens of a protected text that the model is shown.")
    ] = 50,
    suffix: Annotated[
        int, typer.Option(help="Tokens after them that the model has to reproduce.")
    ] = 50,
    windows: Annotated[
        int, typer.Option(help="Largest number of windows per group of a run.")
    ] = 256,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Sample from this many most likely tokens (default: all). "
            "Audits of books often take 40.",
        ),
    ] = None,
    stride: Annotated[
        int, typer.Option(help="With --work: a passage begins every so many characters.")
    ] = 10,
    budget: Annotated[
        int, typer.Option(help="With --work: samples that somebody may draw of each prefix.")
    ] = 1000,
    outputs: Annotated[
        int,
        typer.Option(help="With --work: texts of 200 tokens that the model writes; 0 for none."),
    ] = 32,
    near: Annotated[
        int,
        typer.Option(
            help="With --work: likeliest passages for which texts with a few other tokens are "
            "searched; 0 for none."
        ),
    ] = 16,
    distance: Annotated[
        int | None,
        typer.Option(
            help="With --near: tokens of a passage that may be others "
            "(default: a tenth of --suffix)."
        ),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(help="With --work: share of unseen works that may count as memorized."),
    ] = 0.01,
    relearn: Annotated[
        int | None,
        typer.Option(
            help="With --text: also train each model on for this many steps, on other text, and "
            "measure what comes back.",
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
            help="With --work: also write the results as a page for a browser to this file."
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="With --work: also prove the any-decoder bound of some passages, and write a "
            "certificate of it to this file. It gives the text of those passages away."
        ),
    ] = None,
    certify_windows: Annotated[
        int,
        typer.Option(
            min=1,
            help="With --certificate: number of passages, those with the fewest bits. Each takes "
            "seconds for a small model, minutes for one of 100 million weights.",
        ),
    ] = 8,
    slack: Annotated[
        float,
        typer.Option(
            min=0,
            help="With --certificate: the bound covers all programs whose logits are within so "
            "much of the exact ones.",
        ),
    ] = 0.001,
    show_text: Annotated[
        bool,
        typer.Option(
            "--show-text",
            help="With --page: show the likeliest passages there, as text, and not only where "
            "they are.",
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
) -> None:
    """Measure how much of its protected text a language model gives away.

    There are two uses: runs of `copyreg train` and their --text, or a --model and a --work.

    The first folder of runs must be a run; it says which documents are protected or held
    out. All losses are plain cross-entropies, without the protection term. The certificate of a
    run is checked and compared with the losses that are measured here. A work is cut into
    passages, and the audit says which of them the model would write, and where; stopped, it
    goes on from where it was if --out is given. Membership scores say how well losses tell the
    protected documents, or the works, from those held out. The command needs the extra `lm`, and
    for runs with canaries the extra `canaries`.

    Exit codes: 0 done, 1 a certificate does not hold, 2 bad input.
    """
    require_extra()
    use_compile_cache()
    columns = {"text": text_column, "name": name_column}
    if show_text and page is None:
        raise InputError("--show-text is for a page; give --page FILE too")
    if model is not None or work or held_out or page is not None or certificate is not None:
        if model is None or not work or folders or source is not None:
            raise InputError(_EITHER)
        if relearn is not None:
            raise InputError(_NO_TEXT)
        if quantize is not None and certificate is not None:
            raise InputError("--certificate is about the weights of the folder; omit --quantize")
        from copyreg_jax.lm.leakage.works import Preset

        preset = Preset(
            prefix=prefix, suffix=suffix, stride=stride, budget=budget, alpha=alpha,
            top_k=top_k, outputs=outputs, near=near, distance=distance,
        )  # fmt: skip
        audit_works(
            model, work, held_out or [], preset,
            columns=columns, bits=quantize, seed=seed, out=out, page=page,
            show_text=show_text, overwrite=overwrite,
            proof=Proof(certificate, certify_windows, slack),
        )  # fmt: skip
        return
    if not folders or source is None:
        raise InputError(_EITHER)
    sizes = {"prefix": prefix, "suffix": suffix, "max_windows": windows, "top_k": top_k}
    audit_runs(
        folders, source, sizes, columns,
        relearn=relearn, bits=quantize, seed=seed, out=out, overwrite=overwrite,
    )  # fmt: skip
