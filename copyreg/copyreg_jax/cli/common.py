"""What several commands share: consoles, exit codes, folders for results, JSON."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from copyreg_jax._files import jsonable, unreadable, write_whole
from copyreg_jax.cli.compile_cache import use_compile_cache
from copyreg_jax.errors import InputError

__all__ = [
    "EXIT_FAULT",
    "EXIT_INPUT",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_CONVERGED",
    "TABLE_SUFFIXES",
    "AsJson",
    "DeviceName",
    "Overwrite",
    "all_files",
    "enable_x64",
    "errors",
    "in_options",
    "is_same",
    "output",
    "prepare_folder",
    "read_lines",
    "require_extra",
    "require_free",
    "require_instance",
    "require_writable",
    "show_table",
    "to_json",
    "write_json",
]

EXIT_NOT_CONVERGED, EXIT_INPUT, EXIT_FAULT, EXIT_INTERRUPTED = 1, 2, 70, 130

output = Console(highlight=False, emoji=False)  # a name may hold :a:

errors = Console(stderr=True, highlight=False, emoji=False)

DeviceName = Literal["cpu", "gpu"]

TABLE_SUFFIXES = (
    ".npy", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".csv", ".tsv", ".svm", ".svmlight",
    ".libsvm", ".mtx", ".safetensors",
)  # fmt: skip
"""Suffixes that `copyreg new` reads, without importing its readers; .npz may be an instance too."""

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the files that an earlier run wrote to --out.")
]

_OPTIONS = {
    "The callback asked to stop": "You stopped the run",
    "max_steps": "--max-steps",
    "rtol": "--rtol",
    "TrustRegionNewton": "--solver newton",
    "NewtonCG": "--solver newton-cg",
}
"""Words of `Status.explanation`, and what to type for them here."""


def _say_on_stderr(context: typer.Context, wanted: bool) -> bool:
    """Leave standard output to the JSON alone, until the command ends."""
    if wanted:
        output.stderr = True
        context.call_on_close(lambda: setattr(output, "stderr", False))
    return wanted


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_say_on_stderr,
        help="Print the result as one JSON object on standard output.",
    ),
]


def enable_x64(*, cached: bool = True) -> None:
    """Compute in float64 from here on, and keep compiled programs for the next command."""
    import jax

    jax.config.update("jax_enable_x64", True)
    if cached:
        use_compile_cache()


def require_instance(path: Path | None) -> None:
    """Refuse a file that an instance can be made of, and a folder of results, which has one."""
    if path is None:
        return
    if (inside := path / "instance.npz").is_file() and not any(path.glob("A*.npy")):
        raise InputError(f"{path} is a folder of results; name {inside}")
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")
    if name.endswith(TABLE_SUFFIXES) and path.is_file():
        made = path.with_name(path.name.partition(".")[0] or "instance")
        command = shlex.join(["copyreg", "new", str(path), "--out", str(made)])
        raise InputError(
            f"{path} is a table, and no instance, which says what b and the protected rows are; "
            f"make one first: {command} ... (see `copyreg new --help`)"
        )


def prepare_folder(out: Path, instance: Path | None = None) -> None:
    """Make the folder for results, or refuse before the work if it can't be written to."""
    if instance is not None and instance.is_dir() and is_same(out, instance):
        raise InputError(
            f"--out {out} is the folder of the instance; choose another place, such as {out}-solved"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"can't write to --out {out}: it is a file; give a folder") from None
    except OSError as error:
        raise InputError(f"can't write to --out {out}: {error.strerror or error}") from None
    require_writable(out, f"to --out {out}")


def require_writable(folder: Path, what: str) -> None:
    """Refuse before the work if no file can be made in the folder."""
    if not folder.exists():
        raise InputError(f"can't write {what}: the folder {folder} is not there; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"can't write {what}: {error.strerror or error}") from None


def require_free(
    option: str, outputs: list[Path], inputs: Sequence[Path | None] = (), *, overwrite: bool
) -> None:
    """Refuse before the work if a file that is read, or that already exists, would be lost."""
    for file in (file for path in inputs if path is not None for file in _files_of(path)):
        for path in outputs:
            if is_same(path, file):
                raise InputError(
                    f"{option}: {path} would replace {file}, which this command needs; "
                    "choose another place"
                )
    there = [path for path in outputs if os.path.lexists(path)]
    for path in there:
        if path.is_dir():
            raise InputError(f"{option}: {path} is a folder; choose another place")
    if there and not overwrite:
        names = ", ".join(map(str, there))
        raise InputError(
            f"{option}: {names} already exists; choose another place, or give --overwrite"
        )


def _files_of(path: Path) -> list[Path]:
    """List the files of an instance, which may be a folder."""
    return [path, *path.glob("*.npy")] if path.is_dir() else [path]


def is_same(one: Path, two: Path) -> bool:
    """Tell whether two names mean one file, also through links or before it exists."""
    try:
        return one.samefile(two)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(two)


def to_json(summary: dict[str, Any]) -> str:
    """JSON of a summary; NaN and infinities become null."""
    return json.dumps(jsonable(summary), indent=1, allow_nan=False)


def write_json(path: Path, summary: dict[str, Any]) -> None:
    """Write a summary, whole or not at all."""
    write_whole(path, (to_json(summary) + "\n").encode())


def in_options(words: str) -> str:
    """An explanation of a status, with what it names in Python as on the command line."""
    for name, option in _OPTIONS.items():
        words = words.replace(name, option)
    return words


def show_table(rows: list[tuple[str, str]]) -> None:
    """Print names and texts in two columns."""
    width = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        output.print(f"{name:<{width}}{text}", markup=False, soft_wrap=True)


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


def require_extra() -> None:
    """Refuse if a package of the extra `lm` is missing."""
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{missing[0]} is not installed; run: pip install 'copyreg-jax[lm]'")


def all_files(path: Path) -> list[Path]:
    """List the files of a run or a text, which may be a folder."""
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")
        return [line.removesuffix("\r") for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
