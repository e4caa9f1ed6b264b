"""``copyreg audit --model ... --work ...``: the passages of a work that a model would write."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from copyreg_jax._files import jsonable, write_whole
from copyreg_jax.cli.common import (
    EXIT_INTERRUPTED,
    all_files,
    errors,
    output,
    require_free,
    require_writable,
    to_json,
    write_json,
)
from copyreg_jax.cli.membership_table import show_works
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.cli.audit_proof import Proof
    from copyreg_jax.lm.leakage.constrained_beam import NearVerbatim
    from copyreg_jax.lm.leakage.preset import Preset
    from copyreg_jax.lm.leakage.works import WorkReport, Written

__all__ = ["audit_works"]

_SHADES = " .:-=+*#%@"
"""From a suffix of probability below 1e-30 to one of at least 1e-3."""

_WIDTH = 100

_SHOWN = 20

_TABLES = (".csv", ".jsonl", ".zip")


def audit_works(
    model: str,
    works: list[Path],
    held_out: list[Path],
    preset: Preset,
    *,
    columns: dict[str, Any],
    bits: int | None,
    seed: int,
    out: Path | None,
    page: Path | None,
    show_text: bool,
    overwrite: bool,
    as_json: bool,
    proof: Proof,
) -> None:
    """Audit the works and print what the model would give away of each."""
    from copyreg_jax.lm.hashing import hash_text
    from copyreg_jax.lm.leakage import works as measuring
    from copyreg_jax.lm.leakage.page import audit_page
    from copyreg_jax.lm.leakage.work_membership import compare_works

    _check_bits(bits)
    store = None if out is None else out.with_name(f"{out.name}.partial")
    proof.check(model, inputs=[*works, *held_out], outputs=[out, page, store], overwrite=overwrite)
    for option, path in {"--out": out, "--page": page, "--certificate": proof.path}.items():
        if path is not None and Path(model).resolve() in path.resolve().parents:
            raise InputError(f"{option} {path} is within the model; write it elsewhere")
    read = [file for path in (*works, *held_out, Path(model)) for file in all_files(path)]
    if out is not None:
        require_free("--out", [out], read, overwrite=overwrite)
        require_writable(out.absolute().parent, f"--out {out}")
        read += [path for path in (out, store) if path is not None]
    if page is not None:
        require_free("--page", [page], read, overwrite=overwrite)
        require_writable(page.absolute().parent, f"--page {page}")
    with errors.status("reading", spinner="line") as line, _said_if_interrupted(store):
        texts, unseen = _read(works, columns), _read(held_out, columns)
        loaded, tokenizer, digest = _load(model, bits)
        found, beside = measuring.audit_works(
            loaded, tokenizer, texts, unseen, preset, seed=seed, store=store,
            progress=lambda name, share: line.update(f"measuring {name}: {share:.0%}"),
            keep=proof.keep,
        )  # fmt: skip
        proved = proof.write(
            model, loaded, preset.prefix, line.update, lambda: _require_unchanged(model, digest)
        )
    members = compare_works([one.scores for one in found], [one.scores for one in beside])
    content = {
        "model": model,
        "seed": seed,
        "model_sha256": digest,
        "quantize": bits,
        "sha256": {name: hash_text(text) for name, text in (texts | unseen).items()},
        "preset": dataclasses.asdict(preset),
        "works": [report.as_json() for report in found],
        "held_out": [report.as_json() for report in beside],
        "membership": jsonable(members),
        "certificate": proof.said,
    }
    written = [path for path in (page, out, proof.path) if path is not None]
    if page is not None:
        command = _command(model, works, held_out, preset, columns, bits, seed, page)
        command += " --show-text" if show_text else ""
        command += proof.options()
        shown = texts if show_text else None
        write_whole(page, audit_page(content, command=command, texts=shown).encode())
    if out is not None:
        write_json(out, content)
        if store is not None:
            store.unlink(missing_ok=True)
    for report in found[:_SHOWN]:
        _show(report, beside, preset, bits)
    if len(found) > _SHOWN:
        output.print(f"and {len(found) - _SHOWN} more works; --out and --page have them all")
    show_works(members, preset.alpha)
    if short := len(unseen) - len(beside):
        output.print(f"{short:,} held-out texts are shorter than a passage, and were left out")
    output.print(proved, end="\n" * bool(proved), markup=False, soft_wrap=True)
    for path in written:
        output.print(f"written to {path}", markup=False, soft_wrap=True)
    if as_json:
        print(to_json(content))


@contextlib.contextmanager
def _said_if_interrupted(store: Path | None) -> Iterator[None]:
    """Say what is kept of an audit that is interrupted, and end with that exit code."""
    try:
        yield
    except KeyboardInterrupt:
        words = "nothing is kept"
        if store is None:
            words += "; with --out FILE the same command would go on"
        elif store.exists():
            words = f"the same command goes on from {store}"
        errors.print(f"copyreg: interrupted; {words}", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _command(
    model: str,
    works: list[Path],
    held_out: list[Path],
    preset: Preset,
    columns: dict[str, Any],
    bits: int | None,
    seed: int,
    page: Path,
) -> str:
    """The command that measures the same, with all settings."""
    sources = [("--work", path) for path in works] + [("--held-out", path) for path in held_out]
    options = {
        "--prefix": preset.prefix, "--suffix": preset.suffix, "--stride": preset.stride,
        "--top-k": preset.top_k, "--budget": preset.budget, "--alpha": preset.alpha,
        "--outputs": preset.outputs, "--near": preset.near, "--distance": preset.distance,
        "--quantize": bits, "--text-column": columns["text"],
        "--name-column": columns["name"], "--seed": seed, "--page": page.name,
    }  # fmt: skip
    words = ["copyreg", "audit", "--model", model]
    for name, value in (*sources, *options.items()):
        words += [] if value is None else [name, str(value)]
    return shlex.join(words)


def _read(paths: list[Path], columns: dict[str, Any]) -> dict[str, str]:
    """Texts by their names: a .txt file is one, another source may have many.

    Line ends are a single character each, as in the texts that models are trained on.
    """
    from copyreg_jax.lm.corpus.encoding import decode_utf8, read_bytes
    from copyreg_jax.lm.corpus.loading import load_documents

    texts: dict[str, str] = {}
    for path in paths:
        if path.suffix.lower() == ".txt" and not path.is_dir():
            found = {path.name: decode_utf8(read_bytes(path), str(path))}
        else:
            source = str(path) if str(path) == "news" else path
            corpus = load_documents(source, **columns if path.suffix in _TABLES else {})
            found = {f"{path.name}/{d.name}": d.text for d in corpus.documents}
        for name, text in found.items():
            if name in texts:
                raise InputError(f"two texts are called {name}; rename one")
            if not text.strip():
                raise InputError(f"{path} is empty; give a text")
            texts[name] = text.replace("\r\n", "\n")
    return texts


def _check_bits(bits: int | None) -> None:
    from copyreg_jax.lm.models.quantization import check_bits

    if bits is not None:
        check_bits(bits)


def _load(model: str, bits: int | None) -> tuple[Any, Any, str]:
    """The model, rounded if that is asked for, its tokenizer, and the hash of its files."""
    import jax.numpy as jnp

    from copyreg_jax.lm.model_sources import load_model
    from copyreg_jax.lm.models.quantization import quantize

    before = _fingerprint(model)
    loaded, tokenizer = load_model(model, jnp.float32)
    digest = _hash_model(model)
    if _fingerprint(model) != before:
        raise InputError(f"{model} has changed while it was read; run this again")
    return loaded if bits is None else quantize(loaded, bits), tokenizer, digest


def _hash_model(model: str) -> str:
    """Hash the files that the model was read from."""
    from copyreg_jax.lm.corpus.encoding import read_bytes
    from copyreg_jax.lm.hashing import hash_bytes, hash_files
    from copyreg_jax.lm.models.gguf_file import SMOLLM2, find_smollm2
    from copyreg_jax.lm.records import MODEL

    path = find_smollm2() if model == SMOLLM2 else Path(model)
    path = path / MODEL if (path / MODEL).is_dir() else path
    return hash_files(path) if path.is_dir() else hash_bytes(read_bytes(path))


def _require_unchanged(model: str, digest: str) -> None:
    if _hash_model(model) != digest:
        raise InputError(f"{model} has changed during the audit; run this again")


def _fingerprint(model: str) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files of the model."""
    stats = [(file, file.stat()) for file in all_files(Path(model)) if file.exists()]
    return sorted((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats)


def _show(report: WorkReport, beside: list[WorkReport], preset: Preset, bits: int | None) -> None:
    from copyreg_jax._pages import counted, percent

    of_others = ""
    if beside:
        total = sum(other.num_characters for other in beside)
        share = sum(other.coverage * other.num_characters for other in beside) / total
        of_others = f" (held out: {percent(share)})"
    passages = (
        f"{report.num_passages:,} passages of {preset.prefix} + {preset.suffix} tokens, one every "
        f"{counted(preset.stride, 'character')}"
        f"{'' if bits is None else f', weights of {bits} bits'}"
    )
    samples = (
        "no number of samples has any"
        if math.isinf(report.log10_samples)
        else f"the likeliest needs 10^{report.log10_samples:.1f}"
    )
    rows = [
        (
            "extracted",
            f"{percent(report.coverage)} of the characters are in a suffix that a sample gives "
            f"with probability {preset.least:g} or more{of_others}; such suffixes cover at most "
            f"{report.longest:,} in a row",
        ),
        (
            "extractable",
            f"{percent(report.extractable)} of the passages have a chance of 1/2 or more of being "
            f"among {preset.budget:,} samples; {samples}",
        ),
        ("greedy", f"{percent(report.greedy)} of the passages, by the likeliest token each time"),
        (
            "token wise",
            f"{percent(report.right)} of the suffixes' tokens are the model's likeliest; mean "
            f"extraction strength {percent(report.strength)}",
        ),
        ("memorized", _memorized(report)),
        (
            "any decoder",
            f"no temperature, top-k, top-p or min-p gives one of these suffixes a probability "
            f"above 2^-{math.floor(10 * report.bits) / 10:.1f} (float32 arithmetic, not proved)",
        ),
    ]
    if report.near is not None:
        rows.append(("nearly", _nearly(report.near, report.near_held_out, preset)))
    if report.written is not None:
        rows.append(("written", _written(report.written)))
    output.print(report.name, markup=False, soft_wrap=True, style="bold")
    output.print(f"  {passages}", markup=False, soft_wrap=True)
    for label, text in rows:
        output.print(f"  {label:12}{text}", markup=False, soft_wrap=True)
    output.print(f"  {'along it':12}[{_strip(report.heat)}]", markup=False, soft_wrap=True)


def _memorized(report: WorkReport) -> str:
    from copyreg_jax._pages import percent
    from copyreg_jax.lm.leakage.wording import memorized

    found = report.memorized
    if found is None:
        return "not known: give --held-out texts of the same kind that the model has never seen"
    if found.p_value is not None:
        verdict = "likelier than unseen text" if found.p_value <= found.alpha else "no sign of it"
        return (
            f"{verdict}, p-value {found.p_value:.2g} for an excerpt of {found.num_compared:,} "
            f"passages against {found.num_documents} documents, if those are unseen and of the "
            f"same kind; {percent(found.share)} of all passages are above unseen ones"
        )
    label = memorized({"memorized": found._asdict()}, {}).label.lower()  # as on the page
    return (
        f"{label}: {percent(found.share)} of the passages are likelier than "
        f"{percent(1 - found.alpha)} of {found.num_held_out:,} held-out passages, of too few "
        "documents for an error rate"
    )


def _nearly(found: NearVerbatim, beside: NearVerbatim | None, preset: Preset) -> str:
    from copyreg_jax._pages import counted, percent

    said = (
        f"{percent(found.extractable)} of the passages or more have a chance of 1/2 or more of "
        f"being among {preset.budget:,} samples if {found.distance} of their {preset.suffix} "
        f"tokens may be others{_searched(found)}"
    )
    if beside is None:
        return said
    return (
        f"{said} (held out: {percent(beside.extractable)} of "
        f"{counted(beside.num_passages, 'passage')}{_searched(beside)})"
    )


def _searched(found: NearVerbatim) -> str:
    if not found.num_searched:
        return ""
    likeliest = (
        "nothing near them was found"
        if math.isinf(found.log10_samples)
        else f"10^{found.log10_samples:.1f} samples are enough for one of them"
    )
    were = "was" if found.num_searched == 1 else "were"
    return (
        f"; of those that do not word for word, the {found.num_searched:,} likeliest {were} "
        f"searched, and {likeliest}"
    )


def _written(found: Written) -> str:
    from copyreg_jax._pages import counted, percent

    shared = found.shared
    texts = f"{counted(found.num_outputs, 'text')} of {counted(found.num_tokens, 'token')}"
    return (
        f"{percent(shared.coverage)} of the work's words are in spans of 5 or more of {texts}, "
        f"with room for {percent(found.room)}; the longest span has {shared.longest_span:,}; "
        f"{percent(shared.share_over_160)} of the texts have over 160 characters of it in a row, "
        f"{percent(shared.degenerate)} repeat themselves"
    )


def _strip(heat: list[float]) -> str:
    """One character for each part of the work: the darker, the likelier its likeliest suffix."""
    step = len(heat) / _WIDTH
    cells = []
    for k in range(_WIDTH):
        part = [v for v in heat[int(k * step) : int((k + 1) * step)] if not math.isnan(v)]
        level = (max(part, default=-math.inf) + 30) / 27
        cells.append(_SHADES[round(min(max(level, 0.0), 1.0) * (len(_SHADES) - 1))])
    return "".join(cells)
