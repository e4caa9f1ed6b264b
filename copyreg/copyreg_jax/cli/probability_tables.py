"""``copyreg naf``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from copyreg_jax._files import write_whole
from copyreg_jax.cli.common import (
    AsJson,
    Overwrite,
    errors,
    prepare_folder,
    require_free,
    show_table,
    to_json,
)
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["naf"]


class _Divergence(enum.StrEnum):
    MAX = "max"
    KL = "kl"


def naf(
    models: Annotated[
        Path,
        typer.Argument(
            help="An .npz file with natural log-probabilities `log_p` of m models, of shape "
            "(m, outcomes), or (T, m, outcomes) for the T tokens of a text."
        ),
    ],
    kind: Annotated[
        _Divergence,
        typer.Option(
            help="The divergence that k bounds: the largest log-ratio of probabilities, or the "
            "Kullback-Leibler divergence."
        ),
    ] = _Divergence.MAX,
    out: Annotated[
        Path | None, typer.Option(help="Folder for distribution.npz and the certificate naf.json.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Join models that saw disjoint data to one that is near to each of them (CP-Delta).

    It prints k in bits. With the kind `max`, no event is more than 2^k times as probable under the
    joined model as under any of the models. With `kl`, k bounds the mean of that log-ratio. For a
    text, the k of the tokens are added up, and speak of this text alone.
    `copyreg check` proves naf.json again, from the table.

    Exit codes: 0 done, 2 bad input, also where k is infinite.
    """
    paths = [] if out is None else [out / "distribution.npz", out / "naf.json"]
    require_free("--out", paths, [models], overwrite=overwrite)
    import numpy as np

    from copyreg_jax.neighbours.naf import cp_delta, path_bound
    from copyreg_jax.neighbours.naf_certificate import certify_naf

    table = _read(models)
    if out is not None:
        prepare_folder(out)
    joined, k_bits = cp_delta(np.moveaxis(table, -2, 0), kind.value)
    k, length = path_bound(np.atleast_1d(k_bits))
    certificate = None
    if paths:
        with errors.status("proving k", spinner="line"):
            certificate = certify_naf(table, kind.value)
        k = certificate.k_bits.upper
        # An old certificate must not lie beside a new distribution.
        paths[1].unlink(missing_ok=True)
        write_whole(paths[0], lambda file: np.savez(file, log_p=joined))
        certificate.save(paths[1])
    files: list[str | None] = [str(path) for path in paths] or [None, None]
    if as_json:
        summary = {"k_bits": float(k), "kind": kind.value, "length": length}
        print(to_json({**summary, "distribution": files[0], "certificate": files[1]}))
        return
    rows = _rows(table, kind, float(k), length)
    if certificate is not None:
        low, high = certificate.k_bits
        rows.append(("proved", f"k in [{low:.17g}, {high:.17g}]"))
        rows += [("distribution", str(paths[0])), ("certificate", str(paths[1]))]
    show_table(rows)


def _read(path: Path) -> np.ndarray:
    """The table of a file, which must hold distributions that can be joined."""
    import numpy as np

    from copyreg_jax.certificates.to_instance import input_errors
    from copyreg_jax.checker.access import read_table, shared
    from copyreg_jax.neighbours.distributions import check_distributions

    with input_errors():
        table = read_table(path)
    check_distributions(table)
    disjoint = np.flatnonzero(~shared(table).any(axis=-1))
    if disjoint.size:
        place = f" at position {disjoint[0]}" if table.ndim == 3 else ""
        raise InputError(
            f"k is infinite: no outcome has positive probability in all {table.shape[-2]} "
            f"models{place}; give models that share an outcome"
        )
    return table


def _rows(
    table: np.ndarray, kind: _Divergence, k_bits: float, length: int
) -> list[tuple[str, str]]:
    from copyreg_jax.certificates.words import above

    m, outcomes = table.shape[-2:]
    if kind is _Divergence.MAX:
        text = "p(E) <= 2^k q(E) for every event E and every model q"
        if table.ndim == 3:
            text = "p(y) <= 2^k q(y) for this text y and every model q"
    else:
        text = "KL(p, q) <= k for every model q"
        if table.ndim == 3:
            text = "the mean of such k over texts of p bounds KL(p, q) for every model q"
    return [
        ("models", f"{m} models of {outcomes} outcomes"),
        ("k", f"{above(k_bits, 9)} bits"),
        ("length T", f"{length}"),
        ("so", text),
    ]
