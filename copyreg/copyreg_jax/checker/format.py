"""The certificate file: what it may say, how it is read, and the bytes it has."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from copyreg_jax.checker import proofs
from copyreg_jax.checker.arithmetic import FLOAT_BITS, MAX_BITS, START_BITS
from copyreg_jax.checker.data import MAX_DENSE_COLUMNS, METRICS, READINGS
from copyreg_jax.checker.verdicts import Verdict, VoidError, require

__all__ = [
    "BOUNDS",
    "FORMAT",
    "Global",
    "Interval",
    "LevelSet",
    "Local",
    "Paper",
    "Point",
    "Statements",
    "T",
    "canonical",
    "check_description",
    "check_producer",
    "direction",
    "dump",
    "fields",
    "parse",
    "read_certificate",
    "read_claim",
    "read_document",
    "read_interval",
    "read_number",
    "read_point",
    "read_statements",
]

T = TypeVar("T")

FORMAT = "copyreg-certificate/2"

BOUNDS = ("ell_1", "ell_2", "margin", "value", "protected_mass", "target_mass")

_HASHED = ("A", "b", "protected", "w")

_MAX_BYTES = 1 << 26


def direction(losses: proofs.Losses) -> str:
    """Whether the protected mass of f is proved to be below or above that of b."""
    if losses.protected_mass < losses.target_mass:
        return "suppressed"
    if losses.protected_mass > losses.target_mass:
        return "amplified"
    return "undecided"


def canonical(document: dict[str, Any]) -> bytes:
    """The one byte string a certificate file may have; ``sha256`` is over it without that key."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    content["sha256"] = hashlib.sha256(dump(content)).hexdigest()
    return dump(content)


def dump(document: dict[str, Any]) -> bytes:
    """A document as JSON with sorted keys, ending in a newline."""
    return (json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


class Interval(NamedTuple):
    """Floats between which the exact real number is proved to lie."""

    lower: float
    upper: float


class Point(NamedTuple):
    """``margin >= tau`` at x, and what is known of it; without tau: for some tau > 0."""

    tau: float | None
    verdict: Verdict


class LevelSet(NamedTuple):
    """L(x) <= value, and every x' with L(x') <= value has margin >= tau."""

    value: float
    tau: float


class Local(NamedTuple):
    """One minimizer within ``radius`` of x; it is within ``distance``, and what holds there.

    Hypotheses: ``hess L >= mu I`` within radius, ``||grad L(x)|| <= gradient < mu radius``.
    """

    bits: int
    radius: float
    mu: float
    gradient: float
    distance: float
    margin: Interval
    protected_mass: Interval
    direction: str


class Global(NamedTuple):
    """One global minimizer, and no other stationary point with ``L <= level``, which L(x) is.

    Hypothesis: ``hess L >= mu I`` on a convex set that contains ``{L <= level}``.
    """

    bits: int
    level: float
    mu: float


class Paper(NamedTuple):
    """Theorem 16: ``margin >= tau_c`` at x and at the local minimizer, and ``ell_2 <= eps_2``."""

    eps_2: float
    tau_c: Interval
    hypothesis: Verdict
    verdict: Verdict
    minimizer: Verdict


class Statements(NamedTuple):
    """The content of a certificate file, numbers decoded; None for a claim that is not made."""

    document: dict[str, Any]
    x: np.ndarray
    bits: int
    bounds: dict[str, Interval]
    direction: str
    point: Point
    level_set: LevelSet | None
    local: Local | None
    global_: Global | None
    paper: Paper | None


def parse(document: Any) -> Statements:
    """Decode a certificate document; every key is known, none is missing, each type is right.

    Raises
    ------
    VoidError
        Names the first thing that is not so.
    """
    require(isinstance(document, dict), "a certificate is a JSON object")
    found = document.get("format")
    require(found == FORMAT, f"its format is {found!r:.60}, not {FORMAT}; make the file anew")
    names = ("bits", "bounds", "claims", "direction", "format", "instance", "producer", "sha256")
    bits, bounds, claims, way, _, instance, producer, digest, x = fields(document, *names, "x")
    require(isinstance(digest, str), "sha256 is not a text")
    check_producer(producer)
    d = check_description(instance)
    point, *others = fields(claims, "point", "level_set", "local", "global", "paper")
    tau, verdict = fields(point, *Point._fields)
    small = d <= MAX_DENSE_COLUMNS or claims["local"] is claims["global"] is None
    require(small, f"local and global are not claimed beyond {MAX_DENSE_COLUMNS} columns")
    readers = (LevelSet, Local, Global, Paper)
    return Statements(
        document,
        read_point(x, d),
        _READERS["bits"](bits),
        dict(zip(BOUNDS, map(read_interval, fields(bounds, *BOUNDS)), strict=True)),
        _direction(way),
        Point(None if tau is None else read_number(tau), _verdict(verdict)),
        *(None if c is None else read_claim(r, c) for r, c in zip(readers, others, strict=True)),
    )


def check_producer(producer: Any) -> None:
    """Require one short line of ASCII."""
    plain = isinstance(producer, str) and len(producer) <= 200
    require(
        plain and producer.isascii() and producer.isprintable(), "producer is not one line of ASCII"
    )


def check_description(instance: Any) -> int:
    """Require what `Instance.description` may be; returns d."""
    *sizes, gamma, reading, metric, hashes = fields(
        instance, "n", "d", "n1", "gamma", "reading", "metric", "sha256"
    )
    require(all(type(size) is int for size in sizes), "n, d, n1 are not integers")
    n, d, n1 = sizes
    require(0 < n1 < n < 2**62 and 0 < d < 2**62, "n, d and n1 must be sizes with 0 < n1 < n")
    require(read_number(gamma) >= 0, "gamma is negative")
    require(reading in READINGS and metric in METRICS, "reading or metric is unknown")
    for text in fields(hashes, *_HASHED):
        require(isinstance(text, str) and len(text) == 64 and text.isalnum(), "a hash is malformed")
    return int(d)


def read_claim(kind: Any, document: Any) -> Any:
    """A claim, each field read by its name."""
    values = fields(document, *kind._fields)
    pairs = zip(kind._fields, values, strict=True)
    return kind(*(_READERS.get(name, read_number)(value) for name, value in pairs))


def fields(mapping: Any, *names: str) -> list[Any]:
    """The values of a JSON object that must have exactly these keys."""
    found = sorted(mapping) if isinstance(mapping, dict) else []
    require(found == sorted(names), f"expected the keys {sorted(names)}, found {str(found)[:200]}")
    return [mapping[name] for name in names]


def read_number(text: Any, *, infinite: bool = False) -> float:
    """Decode ``float.hex``; any other spelling could be rounded, and then say something else."""
    try:
        number = float.fromhex(text)
    except (TypeError, ValueError, OverflowError):
        raise VoidError(f"{text!r:.40} is not a hexadecimal float") from None
    require(number.hex() == text, f"{text!r:.40} is not written as a float64 is: {number.hex()}")
    known = math.isfinite(number) or (infinite and not math.isnan(number))
    require(known, f"{number} is not finite")
    return number


def read_point(x: Any, d: int) -> np.ndarray:
    """Decode d numbers."""
    require(isinstance(x, list) and len(x) == d, "x is not d numbers")
    return np.array([read_number(v) for v in x])


def read_interval(pair: Any) -> Interval:
    """Decode a pair of floats; a bound may be infinite."""
    require(isinstance(pair, list) and len(pair) == 2, "a bound is not a pair")
    return Interval(*(read_number(end, infinite=True) for end in pair))


def _verdict(name: Any) -> Verdict:
    require(name in ("CERTIFIED", "REFUTED", "UNDECIDED"), f"verdict is {name!r:.40}")
    return Verdict[name]


def _direction(name: Any) -> str:
    require(name in ("suppressed", "amplified", "undecided"), f"direction is {name!r:.40}")
    return str(name)


def _bits(bits: Any) -> int:
    known = type(bits) is int and (bits == FLOAT_BITS or START_BITS <= bits <= MAX_BITS)
    require(known, f"bits is {bits!r:.40}")
    return int(bits)


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("margin", "protected_mass", "tau_c"), read_interval),
    **dict.fromkeys(("hypothesis", "verdict", "minimizer"), _verdict),
    "bits": _bits,
    "direction": _direction,
}


def read_document(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file whose bytes are as they were written; `VoidError` otherwise."""
    path = Path(path)
    try:
        require(path.is_file(), f"can't read {path}: no such file, or no regular one")
        require(path.stat().st_size <= _MAX_BYTES, f"{path} is too large to be a certificate")
        raw = path.read_bytes()
        document = json.loads(raw)
        require(isinstance(document, dict), "it is not a JSON object")
        require("sha256" in document, "it has no sha256, as certificates have")
        require(raw == canonical(document), "its bytes do not match its sha256")
    except VoidError as error:
        raise VoidError(f"{path} is not a valid certificate: {error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise VoidError(
            f"{path} is damaged, or no certificate, which is JSON; "
            "give the certificate first, and after it what it is about"
        ) from None
    except Exception as error:  # too deep, too large an integer, ...
        raise VoidError(f"{path} is not a readable certificate: {error}") from None
    return document


def read_certificate(path: str | Path) -> Statements:
    """Read a certificate whose bytes are as they were written; `VoidError` otherwise."""
    return read_statements(path, parse)


def read_statements(path: str | Path, parse: Callable[[dict[str, Any]], T]) -> T:
    """Read a file of any of the formats, by its parser; `VoidError` names the file."""
    document = read_document(path)
    try:
        return parse(document)
    except VoidError as error:
        raise VoidError(f"{path} is not a valid certificate: {error}") from None
    except Exception as error:
        raise VoidError(f"{path} is not a readable certificate: {error}") from None
