"""``copyreg compress`` and ``copyreg decompress``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from copyreg_jax._files import unreadable, write_whole
from copyreg_jax.cli.common import (
    AsJson,
    Overwrite,
    all_files,
    errors,
    output,
    require_extra,
    require_free,
    require_writable,
    show_table,
    to_json,
)

if TYPE_CHECKING:
    from rich.status import Status

    from copyreg_jax.neighbours.archive_file import Progress

__all__ = ["compress", "decompress"]

_Model = Annotated[
    Path | None,
    typer.Option(
        help="Language model to code with: the folder of a run, a folder of a GPT-2 or Llama, a "
        ".gguf file, or `smollm2`. Without it, a model learns while it codes."
    ),
]


def compress(
    file: Annotated[Path, typer.Argument(help="File to compress, with any content.")],
    out: Annotated[Path, typer.Option(help="Archive to write.")],
    model: _Model = None,
    comparison: Annotated[
        bool, typer.Option("--compare", help="Compress with gzip, xz, zstd and brotli too.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compress a file without loss, with a language model.

    The archive does not hold the model. To decompress it takes the same model and the same
    versions of what computes with it. The command needs the extra `neighbours`.

    Exit codes: 0 done, 2 bad input.
    """
    _prepare(file, out, model, overwrite)
    from copyreg_jax.neighbours import archive_file, codelength

    data = _read(file)
    with errors.status("compressing", spinner="line") as line:
        loaded = _load(model, line)
        made = archive_file.compress(data, *loaded, progress=_progress(line))
        rates = []
        if comparison:
            line.update("comparing")
            rates = codelength.compare(data, made, _size(*loaded))
    write_whole(out, made.archive)
    real = codelength.bits_per_byte(made.real_bits, made.num_bytes)
    if as_json:
        summary: dict[str, Any] = {
            "bytes": made.num_bytes, "archive_bytes": len(made.archive), "bits_per_byte": real,
            "ideal_bits": made.ideal_bits, "real_bits": made.real_bits,
        }  # fmt: skip
        if comparison:
            summary["rates"] = rates
        print(to_json(summary))
        return
    rows = [
        ("bytes", f"{made.num_bytes:,}"),
        ("archive", f"{len(made.archive):,} bytes"),
        ("ideal bits", f"{made.ideal_bits:,.1f}"),
        ("real bits", f"{made.real_bits:,}, {real:.4f} per byte"),
    ]
    show_table(rows)
    if comparison:
        output.print(f"\n{'':12}{'bytes':>12}{'with model':>14}{'bits per byte':>16}")
        for rate in rates:
            numbers = f"{rate.num_bytes:12,}{rate.with_model:14,}{rate.bits_per_byte:16.4f}"
            output.print(f"{rate.name:12}{numbers}", markup=False)


def decompress(
    archive: Annotated[Path, typer.Argument(help="Archive from `copyreg compress`.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    model: _Model = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decompress an archive, bit by bit as the file was.

    Nothing is written unless the SHA-256 of the content is right.

    Exit codes: 0 done, 2 bad input.
    """
    _prepare(archive, out, model, overwrite)
    from copyreg_jax.neighbours import archive_file

    content = _read(archive)
    with errors.status("decompressing", spinner="line") as line:
        loaded = _load(model, line)
        data = archive_file.decompress(content, *loaded, progress=_progress(line), where=archive)
    write_whole(out, data)
    if as_json:
        print(to_json({"bytes": len(data), "out": str(out)}))
        return
    output.print(f"{len(data):,} bytes written to {out}", markup=False, soft_wrap=True)


def _prepare(file: Path, out: Path, model: Path | None, overwrite: bool) -> None:
    read = [file] if model is None else [file, *all_files(model)]
    require_free("--out", [out], read, overwrite=overwrite)
    require_writable(out.absolute().parent, f"--out {out}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise unreadable(path, error) from None


def _load(source: Path | None, line: Status) -> tuple[Any, Any]:
    if source is None:
        return None, None
    require_extra()
    line.update("loading the model")
    import jax.numpy as jnp

    from copyreg_jax.lm.model_sources import load_model

    return load_model(source, jnp.float32)


def _progress(line: Status) -> Progress:
    def show(unit: str, done: int, of: int) -> None:
        line.update(f"{done:,} of {of:,} {unit}")

    return show


def _size(model: Any, tokenizer: Any) -> int:
    """Bytes of the parameters and of the tokenizer."""
    if model is None:
        return 0
    import jax
    from flax import nnx

    leaves = jax.tree.leaves(nnx.state(model))
    return sum(leaf.nbytes for leaf in leaves) + len(tokenizer.to_str().encode())
