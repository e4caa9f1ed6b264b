"""Near access-freeness of a table: the exponent k of CP-Delta, proved from its log-weights.

    python -m copyreg_jax.checker CERTIFICATE TABLE.npz

A table has m rows of log-weights for each of T positions. Each row is taken as exact numbers and
normalized exactly: ``q_i(y) = exp(l_iy) / sum_z exp(l_iz)``. CP-Delta joins the rows to

    kind max    p = min_i q_i / Z                k = log2 1/Z      Delta_max(p || q_i) <= k
    kind kl     p = (prod_i q_i)^(1/m) / Z       k = m log2 1/Z    Delta_KL(p || q_i) <= k

for every row i, and the k of the positions are added up. The theorems are in
docs/neighbours/naf.md.
"""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flint import arb, ctx

from copyreg_jax.checker.archive import read_array
from copyreg_jax.checker.arithmetic import ARITHMETIC, Balls, Vector, lower, sum_balls
from copyreg_jax.checker.check import control_machine, within
from copyreg_jax.checker.format import (
    Interval,
    check_producer,
    dump,
    fields,
    read_interval,
    read_statements,
)
from copyreg_jax.checker.verdicts import (
    CheckResult,
    Tested,
    Verdict,
    VoidError,
    at_most,
    judge,
    require,
)

__all__ = [
    "BITS",
    "FORMAT",
    "KINDS",
    "Access",
    "as_table",
    "check_access",
    "describe",
    "exponent",
    "parse",
    "read_table",
    "shared",
]

FORMAT = "copyreg-naf/1"

KINDS = ("max", "kl")

BITS = 256
"""Entries are below 2^64 in size: differences of them are known to 2^-190."""

_MAX_ENTRIES = 10_000_000


class Access(NamedTuple):
    """The content of a certificate of near access-freeness, numbers decoded.

    Attributes
    ----------
    document : dict
    kind : str
        ``"max"`` or ``"kl"``.
    table : dict
        The description of the table that it is about.
    k_bits : Interval
        Where k lies.
    """

    document: dict[str, Any]
    kind: str
    table: dict[str, Any]
    k_bits: Interval


def check_access(path: str | Path, table: str | Path) -> CheckResult:
    """Prove a certificate of near access-freeness again, from its table.

    Parameters
    ----------
    path : path
        File written by ``NafCertificate.save`` or by ``copyreg naf``.
    table : path
        The .npz file with ``log_p``, of shape (m, outcomes) or (T, m, outcomes).

    Returns
    -------
    CheckResult
        CERTIFIED: k was proved to lie in the interval. REFUTED: k was proved to lie elsewhere.
        UNDECIDED: neither. VOID: nothing was tested. Nothing is raised.

    Examples
    --------
    >>> check_access("no-such-file", "no-such-file").verdict.name
    'VOID'
    """

    def test() -> Tested:
        with ARITHMETIC:
            control_machine()
            said = read_statements(path, parse)
            data = read_table(table)
            if dump(said.table) != dump(describe(data)):
                raise VoidError("the certificate is for another table: shape or hash differ")
            return _test(said, data)

    return judge(test)


def parse(document: dict[str, Any]) -> Access:
    """What a document says; `VoidError` if it is not of this format."""
    require(document.get("format") == FORMAT, f"the format is not {FORMAT}")
    names = ("format", "k_bits", "kind", "producer", "sha256", "table")
    _, k_bits, kind, producer, _, table = fields(document, *names)
    check_producer(producer)
    require(kind in KINDS, f"kind is {kind!r:.40}")
    shape, digest = fields(table, "shape", "sha256")
    require(
        isinstance(shape, list) and all(type(size) is int for size in shape), "shape is malformed"
    )
    require(isinstance(digest, str), "sha256 is not a text")
    interval = read_interval(k_bits)
    # A lower end above the upper one is a false claim, which is tested.
    require(all(map(math.isfinite, interval)), "k_bits is not finite")
    require(interval.lower >= 0, "k_bits has a negative lower end")
    return Access(document, str(kind), table, interval)


def read_table(path: str | Path) -> np.ndarray:
    """The log-weights in a file as float64; `VoidError` if they are none."""
    return as_table(read_array(path, "log_p", _require_table))


def as_table(numbers: np.ndarray) -> np.ndarray:
    """The log-weights of an array as float64; `VoidError` if they are none."""
    _require_table(numbers.shape, numbers.dtype)
    table = numbers.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wrong = np.argwhere(~((table == -np.inf) | (np.abs(table) <= 2.0**64)))
    for place in wrong.tolist():
        number = table[tuple(place)]
        raise VoidError(f"log_p has {number} at {place}; its size must be below 2^64, or it -inf")
    require((table > -np.inf).any(axis=-1).all(), "a row of log_p gives no outcome any weight")
    return table


def _require_table(shape: tuple[int, ...], dtype: np.dtype) -> None:
    kind = dtype.newbyteorder("=")
    require(kind in (np.float16, np.float32, np.float64), f"log_p has dtype {kind}; give float64")
    require(
        len(shape) in (2, 3) and min(shape) >= 1 and shape[-2] >= 2,
        f"log_p has shape {shape}; it must be (m, outcomes) or (T, m, outcomes), with m >= 2 rows",
    )
    require(math.prod(shape) <= _MAX_ENTRIES, f"log_p has more than {_MAX_ENTRIES} entries")


def describe(table: np.ndarray) -> dict[str, Any]:
    """Shape of a table, and the hash of that and of its numbers as little-endian float64."""
    shape = list(table.shape)
    numbers = np.ascontiguousarray(table, "<f8").tobytes()
    return {
        "shape": shape,
        "sha256": hashlib.sha256(f"<f8{shape}".encode() + numbers).hexdigest(),
    }


def shared(table: np.ndarray) -> np.ndarray:
    """Which outcomes have positive weight in all rows, (..., outcomes)."""
    return np.asarray((table > -np.inf).all(axis=-2))


def exponent(table: np.ndarray, kind: str) -> arb:
    """The k of a table in bits, where each position has an outcome with weight in all rows.

    The caller holds `ARITHMETIC` and has set the precision.
    """
    positions = table.reshape(-1, *table.shape[-2:])
    total = sum_balls(_log_z(rows, kind) for rows in positions)
    factor = 1 if kind == "max" else table.shape[-2]
    return -factor * total / arb(2).log()


def _log_z(rows: np.ndarray, kind: str) -> arb:
    """The log of Z at one position."""
    ar = Balls(BITS)
    everywhere = shared(rows)
    logs = [ar.exact(row[everywhere]) - _log_sum(ar, ar.exact(row[row > -np.inf])) for row in rows]
    if kind == "max":
        return _log_sum(ar, functools.reduce(np.frompyfunc(arb.min, 2, 1), logs))
    return _log_sum(ar, functools.reduce(np.add, logs) / len(rows))


def _log_sum(ar: Balls, v: Vector) -> arb:
    shift = ar.top(v)
    return shift + ar.sum(ar.exp(v - shift)).log()


def _test(said: Access, table: np.ndarray) -> Tested:
    finite = bool(shared(table).any(axis=-1).all())
    text = "each position has an outcome that all rows allow, so k is finite"
    tested = [(text, Verdict.CERTIFIED if finite else Verdict.REFUTED)]
    if not finite:
        return tested
    with ctx.workprec(BITS):
        k = exponent(table, said.kind)
        low, high = said.k_bits
        # k >= 0 needs no test: Z <= 1. At k = 0 the ball around it has negative points.
        verdict = within(k, Interval(low if low > 0 or low > high else -math.inf, high))
        below = math.nextafter(lower(k), -math.inf)
        # A claim known to be false must not come out CERTIFIED, or this run proves nothing.
        refused = not math.isfinite(below) or at_most(k, below) is Verdict.REFUTED
        require(refused, "the control failed: a false claim was not refused")
    m, length = table.shape[-2], len(table) if table.ndim == 3 else 1
    text = f"Delta_{said.kind}(p || q_i) <= k for all {m} rows, k in [{low:.17g}, {high:.17g}]"
    text += f", T = {length}"
    if table.ndim == 3 and length > 1:
        text += "; p, q_i: products over the T positions"
    return [*tested, (text, verdict)]
