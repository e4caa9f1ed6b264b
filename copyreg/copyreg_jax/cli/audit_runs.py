"""``copyreg audit RUN ... --text ...``: runs, by what they give away of their own documents."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from copyreg_jax._files import jsonable
from copyreg_jax.cli.common import (
    all_files,
    errors,
    output,
    require_free,
    require_writable,
    to_json,
    write_json,
)
from copyreg_jax.cli.membership_table import show_canaries, show_run
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.cli.audit_robustness import Changes
    from copyreg_jax.lm.corpus.documents import Document
    from copyreg_jax.lm.leakage.against_certificate import Recheck
    from copyreg_jax.lm.leakage.exposure import Exposure
    from copyreg_jax.lm.leakage.membership import Scores
    from copyreg_jax.lm.leakage.planning import AuditPlan
    from copyreg_jax.lm.leakage.report import GapClosed, Report
    from copyreg_jax.lm.leakage.run_membership import RunMembership
    from copyreg_jax.lm.records import Flags

__all__ = ["audit_runs"]

_EXIT_DOES_NOT_HOLD = 1

_PROBLEMS = 10

_EXTRACTED = {
    "share of suffixes found": "exact",
    "mean right tokens in a row": "mean_matched",
    "mean longest common substring": "mean_substring",
    "longest of all common substrings": "max_substring",
    "mean ROUGE-L": "mean_rouge_l",
    "share likely (1/2) in 100 samples": "discoverable",
    "median log10 of samples needed": "median_log10_samples",
    "any decoder, fewest bits": "least_bits",
}


def audit_runs(
    folders: list[Path],
    source: str,
    sizes: dict[str, Any],
    columns: dict[str, Any],
    *,
    relearn: int | None,
    bits: int | None,
    seed: int,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Audit runs and print what they give away of their protected documents."""
    from copyreg_jax.cli.audit_robustness import Changes
    from copyreg_jax.lm import records
    from copyreg_jax.lm.corpus import loading
    from copyreg_jax.lm.leakage import report as auditing
    from copyreg_jax.lm.leakage.exposure import require_auditor
    from copyreg_jax.lm.leakage.run_membership import compare_runs

    if out is not None:
        read = [file for path in (*folders, Path(source)) for file in all_files(path)]
        require_free("--out", [out], read, overwrite=overwrite)
        require_writable(out.absolute().parent, f"--out {out}")
    with errors.status("reading", spinner="line") as line:
        corpus = loading.load_documents(source, **columns)
        flags = records.load_flags(folders[0], corpus.documents)
        _refuse_other_runs(folders, flags, corpus.documents)
        if flags.canaries is not None:
            require_auditor()
        real = flags.real
        changes = Changes(folders[0], real, relearn, bits, seed)
        measured: dict[str, _Measured] = {}
        plans: dict[str, AuditPlan] = {}
        for folder in folders:
            line.update(f"measuring {folder}")
            measured[str(folder)] = _measure(
                folder, flags, sizes, seed, plans, changes, line.update
            )
    if strange := len(corpus.documents) - len(real.texts):
        output.print(
            f"{strange:,} documents of {source} do not belong to {folders[0]}, "
            "and were not measured",
            markup=False, soft_wrap=True, style="red",
        )  # fmt: skip
    reports = {name: one.report for name, one in measured.items()}
    auditing.check_comparable(reports)
    closed = _gaps_closed(reports)
    scores = {name: one.scores for name, one in measured.items()}
    members = compare_runs(scores, real, *_without(list(scores)))
    for name, one in measured.items():
        _show_audit(name, one.report)
        if name in closed:
            _show_gap(closed[name])
        show_run(members[name])
        if one.exposure is not None:
            show_canaries(one.exposure, left_out=records.is_left_out(name))
        if one.check is not None:
            _show_check(one.check)
        changes.show(name)
    content = _as_json(measured, members, closed, changes)
    if out is not None:
        write_json(out, content)
        output.print(f"written to {out}", markup=False, soft_wrap=True)
    if as_json:
        print(to_json(content))
    if any(one.check is not None and one.check.problems for one in measured.values()):
        raise typer.Exit(_EXIT_DOES_NOT_HOLD)


class _Measured(NamedTuple):
    """What is measured of one run or model."""

    report: Report
    scores: Scores
    exposure: Exposure | None
    check: Recheck | None


def _measure(
    folder: Path, flags: Flags, sizes: dict[str, Any], seed: int, plans: dict[str, AuditPlan],
    changes: Changes, progress: Callable[[str], None],
) -> _Measured:  # fmt: skip
    """Measure a run or model, and keep the plan of each tokenizer for the next ones."""
    import jax.numpy as jnp

    from copyreg_jax.lm.leakage import report as auditing
    from copyreg_jax.lm.leakage.against_certificate import recheck
    from copyreg_jax.lm.leakage.exposure import measure_canaries
    from copyreg_jax.lm.leakage.planning import plan_audit
    from copyreg_jax.lm.leakage.run_membership import score_run
    from copyreg_jax.lm.leakage.windows import check_fit
    from copyreg_jax.lm.model_sources import load_model

    loaded, tokenizer = load_model(folder, jnp.float32)
    real, exposure = flags.real, None
    check_fit(loaded, tokenizer, sizes["prefix"], sizes["suffix"], real.length)
    if (spelled := tokenizer.to_str()) not in plans:
        plans[spelled] = plan_audit(
            tokenizer, real.texts, real.protected, real.held_out,
            rows_length=real.length, seed=seed, names=real.names, **sizes,
        )  # fmt: skip
    plan = plans[spelled]

    def measure(model: Any) -> Report:
        return auditing.audit(model, plan)

    report = measure(loaded)
    changes.measure(str(folder), loaded, plan.rows, report, measure, progress)
    nll, num_tokens = report.nll, report.num_tokens
    if flags.canaries is not None:
        exposure, *own = measure_canaries(loaded, tokenizer, flags.canaries, flags.length, seed)
        nll, num_tokens = map(flags.with_canaries, (nll, num_tokens), own)
    scores = score_run(loaded, plan.rows, real)
    return _Measured(report, scores, exposure, recheck(folder, flags, nll, num_tokens))


def _as_json(
    measured: dict[str, _Measured],
    members: dict[str, RunMembership],
    closed: dict[str, GapClosed],
    changes: Changes,
) -> dict[str, Any]:
    """What is measured, by the names of the runs; what was not measured of one has no key."""
    content, changed = {}, changes.as_json()
    for name, one in measured.items():
        parts = {
            "membership": members[name], "canaries": one.exposure,
            "gap_closed": closed.get(name), "certificate": one.check,
            "robustness": changed.get(name),
        }  # fmt: skip
        there = {key: jsonable(part) for key, part in parts.items() if part is not None}
        content[name] = {**one.report.as_json(), **there}
    return content


def _refuse_other_runs(folders: list[Path], flags: Flags, documents: list[Document]) -> None:
    """Refuse runs that protect or hold out other documents than the first."""
    from copyreg_jax.lm import records

    for folder in folders[1:]:
        if not (folder / records.DOCUMENTS).exists():
            continue
        if different := flags.difference(records.load_flags(folder, documents)):
            raise InputError(
                f"{folder} {different}, unlike {folders[0]}; train both with the same text, flags, "
                "held_out, length and seed, or measure them one by one"
            )


def _show_audit(name: str, report: Report) -> None:
    from copyreg_jax.lm.leakage.calibration import CONFIDENCE

    sure = f"{100 * CONFIDENCE:g} %"
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
        output.print(f"  tau_CE against {label:12} {tau.value:+.4f}, {sure}: {interval}")
    protected, held_out = report.extraction.summary(), report.extraction_held_out.summary()
    for label, field in _EXTRACTED.items():
        numbers = [getattr(summary, field) for summary in (protected, held_out)]
        output.print(f"  {label:34}{numbers[0]:>13.4g}{'':13}{numbers[1]:>13.4g}")
    found = report.memorized
    rate = f"of unseen ones {100 * found.alpha:g} % at most, in the mean"
    if not found.exchangeable:
        rate = "too few held-out documents for an error rate"
    label = "memorized: likelier than unseen"
    output.print(f"  {label:34}{found.share:>13.4g}   {rate}", markup=False, soft_wrap=True)


def _gaps_closed(reports: dict[str, Report]) -> dict[str, GapClosed]:
    """Compare each run with one without protection and one that left the protected text out."""
    from copyreg_jax.lm import records
    from copyreg_jax.lm.leakage import report as auditing

    arms = {
        name: records.load_arm(name) for name in reports if (Path(name) / records.SUMMARY).exists()
    }
    plain = [name for name, arm in arms.items() if arm == "unprotected"]
    without = [name for name, arm in arms.items() if arm == "left out"]
    if len(plain) != 1 or len(without) != 1:
        return {}
    (one,), (other,) = plain, without
    return {
        name: auditing.gap_closed(report, reports[one], reports[other])
        for name, report in reports.items()
        if name not in (one, other)
    }


def _without(names: list[str]) -> tuple[str | None, str | None]:
    """Choose the run that left the protected text out, and the reference: that run or a model."""
    from copyreg_jax.lm import records

    runs = [name for name in names if (Path(name) / records.SUMMARY).exists()]
    left_out = [name for name in runs if records.is_left_out(name)]
    if len(left_out) == 1:
        return left_out[0], left_out[0]
    models = [name for name in names if name not in runs]
    return None, models[0] if len(models) == 1 and not left_out else None


def _show_gap(closed: GapClosed) -> None:
    shares = (
        f"{_share(closed.substring)} by the longest common substring, {_share(closed.matched)} by "
        f"tokens in a row, {_share(closed.nats)} by nats per token"
    )
    output.print(
        f"  share of the copying gap closed   {shares} (0 %: no protection; 100 %: left out)",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _share(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.0%}".replace("%", " %")


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
