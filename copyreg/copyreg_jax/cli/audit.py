"""``copyreg audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from copyreg_jax.cli.common import (
    Overwrite,
    all_files,
    errors,
    output,
    require_extra,
    require_free,
    require_writable,
    write_json,
)
from copyreg_jax.cli.compile_cache import use_compile_cache
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.lm.leakage.against_certificate import Recheck
    from copyreg_jax.lm.leakage.report import Report

__all__ = ["EXIT_DOES_NOT_HOLD", "EXIT_NOT_FINITE", "audit"]

EXIT_NOT_FINITE = EXIT_DOES_NOT_HOLD = 1

_PROBLEMS = 10

_EXTRACTED = {
    "share of suffixes found": "exact",
    "mean right tokens in a row": "mean_matched",
    "mean longest common substring": "mean_substring",
    "longest of all common substrings": "max_substring",
    "mean ROUGE-L": "mean_rouge_l",
    "share found in 100 samples": "discoverable",
    "median log10 of samples needed": "median_log10_samples",
}


def audit(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of a run, then of other runs or models with the same tokenizer."
        ),
    ],
    source: Annotated[
        str,
        typer.Option("--text", help="The text that the run was trained on. Runs keep no text."),
    ],
    prefix: Annotated[
        int, typer.Option(help="Tokens of a protected text that the model is shown.")
    ] = 50,
    suffix: Annotated[
        int, typer.Option(help="Tokens after them that the model has to reproduce.")
    ] = 50,
    windows: Annotated[int, typer.Option(help="Largest number of windows per group.")] = 256,
    top_k: Annotated[
        int | None, typer.Option(help="Sample from this many most likely tokens (default: all).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for all random choices.")] = 0,
    text_column: Annotated[str, typer.Option(help="Column that holds the texts.")] = "text",
    name_column: Annotated[str | None, typer.Option(help="Column that holds the names.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the reports to.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure how much of its protected text a language model gives away.

    The first folder must be a run; it says which documents are protected or held out. All losses
    are plain cross-entropies, without the protection term. The certificate of a run is checked
    and compared with the losses that are measured here. The command needs the extra `lm`.

    Exit codes: 0 done, 1 a certificate does not hold, 2 bad input.
    """
    require_extra()
    use_compile_cache()
    import jax.numpy as jnp

    from copyreg_jax.lm import experiment, records
    from copyreg_jax.lm.corpus import loading
    from copyreg_jax.lm.leakage import against_certificate, report as auditing

    if out is not None:
        read = [file for path in (*folders, Path(source)) for file in all_files(path)]
        require_free("--out", [out], read, overwrite=overwrite)
        require_writable(out.absolute().parent, f"--out {out}")
    with errors.status("reading", spinner="line") as line:
        corpus = loading.load_documents(source, text=text_column, name=name_column)
        flags = records.load_flags(folders[0], corpus.documents)
        reports: dict[str, Report] = {}
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
            model, tokenizer = experiment.load_model(folder, jnp.float32)
            reports[str(folder)] = auditing.audit(
                model, tokenizer, flags.texts, flags.protected, flags.held_out,
                rows_length=flags.length, prefix=prefix, suffix=suffix, max_windows=windows,
                top_k=top_k, seed=seed, names=flags.names,
            )  # fmt: skip
            report = reports[str(folder)]
            check = against_certificate.recheck(folder, flags, report.nll, report.num_tokens)
            if check is not None:
                checks[str(folder)] = check
    if strange := len(corpus.documents) - len(flags.texts):
        output.print(
            f"{strange:,} documents of {source} do not belong to {folders[0]}, "
            "and were not measured",
            markup=False, soft_wrap=True, style="red",
        )  # fmt: skip
    auditing.check_comparable(reports)
    for name, report in reports.items():
        _show_audit(name, report)
        if name in checks:
            _show_check(checks[name])
    if out is not None:
        content = {name: report.as_json() for name, report in reports.items()}
        for name, check in checks.items():
            content[name]["certificate"] = check._asdict()
        write_json(out, content)
        output.print(f"written to {out}", markup=False, soft_wrap=True)
    if any(check.problems for check in checks.values()):
        raise typer.Exit(EXIT_DOES_NOT_HOLD)


def _show_audit(name: str, report: Report) -> None:
    output.print(name, markup=False, soft_wrap=True, style="bold")
    output.print("                                       protected  unprotected   held out")
    groups = (report.protected, report.unprotected, report.held_out)
    for label, numbers in (
        ("nats per token", [group.cross_entropy for group in groups]),
        ("bits per byte", [group.bits_per_byte for group in groups]),
    ):
        output.print(f"  {label:34}" + "".join(f"{number:13.4f}" for number in numbers))
    for label, tau in (("unprotected", report.tau), ("held out", report.tau_held_out)):
        interval = f"{tau.lower:+.4f} to {tau.upper:+.4f}"
        output.print(f"  tau_CE against {label:12} {tau.value:+.4f}, 95 %: {interval}")
    protected, held_out = report.extraction.summary(), report.extraction_held_out.summary()
    for label, field in _EXTRACTED.items():
        numbers = [getattr(summary, field) for summary in (protected, held_out)]
        output.print(f"  {label:34}{numbers[0]:>13.4g}{'':13}{numbers[1]:>13.4g}")


def _show_check(check: Recheck) -> None:
    said = f"  certificate: {check.verdict}"
    if check.num_documents:
        said += (
            f"; the losses of {check.num_documents} documents were measured again; they differ "
            f"by at most {check.difference:.1e} nats per token, and guarantee tau {check.tau:.4f}"
        )
    output.print(said, markup=False, soft_wrap=True)
    for problem in check.problems[:_PROBLEMS]:
        output.print(f"    {problem}", markup=False, soft_wrap=True, style="red")
    if len(check.problems) > _PROBLEMS:
        output.print(f"    and {len(check.problems) - _PROBLEMS} more", style="red")
