"""The checker: proves or refuses what a certificate says, trusting NumPy's loader and FLINT alone.

    python -m copyreg_jax.certify.check CERTIFICATE INSTANCE

Exit codes: 0 CERTIFIED, 1 REFUTED, 3 UNDECIDED, 2 VOID. Nothing here comes from the solver: the
instance is read anew, all arithmetic is ball arithmetic (Arb), and an inequality counts only if it
holds for every point of the balls. No comparison is made by negating another one. The format of
the file is described in docs/reference/certificate-format.md, the theorem behind the level-set
claim in docs/theory/level-set.md.
"""

from __future__ import annotations

import argparse
import enum
import hashlib
import itertools
import json
import math
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_mat, ctx

FORMAT = "copyreg-certificate/1"
START_BITS, MAX_BITS = 128, 4096
_CHUNK = 1 << 18
"""Entries of A that are turned into balls at once."""
_MAX_BYTES = 1 << 26
_HASHED = ("A", "b", "protected", "w")
ARITHMETIC = threading.RLock()
"""FLINT's working precision belongs to the process: hold this while it is changed."""


class Verdict(enum.Enum):
    """What is known about a statement; the value is the exit code of the checker."""

    CERTIFIED = 0
    REFUTED = 1
    VOID = 2
    UNDECIDED = 3


class VoidError(Exception):
    """Nothing was tested, and why."""


class Csr(NamedTuple):
    """A sparse matrix in compressed rows: int64 indices, increasing in each row."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


class Instance(NamedTuple):
    """The data a certificate speaks of, as exact float64 numbers; made by `make_instance`."""

    n: int
    d: int
    A: np.ndarray | Csr
    b: np.ndarray
    protected: np.ndarray
    w: np.ndarray
    gamma: float
    reading: str

    @property
    def n1(self) -> int:
        """Number of protected rows."""
        return int(np.count_nonzero(self.protected))

    def description(self) -> dict[str, Any]:
        """What a certificate says of its instance."""
        parts = self.A if isinstance(self.A, Csr) else (self.A,)
        return {
            "n": self.n,
            "d": self.d,
            "n1": self.n1,
            "gamma": self.gamma.hex(),
            "reading": self.reading,
            "sha256": {
                "A": _digest(*parts, np.array([self.n, self.d])),
                "b": _digest(self.b),
                "protected": _digest(self.protected),
                "w": _digest(self.w),
            },
        }


def _digest(*arrays: np.ndarray) -> str:
    """SHA-256 over little-endian float64, int64 or bool bytes, each with its shape before it."""
    sha = hashlib.sha256()
    for array in arrays:
        kind = {"f": "<f8", "i": "<i8", "u": "<i8", "b": "|b1"}[array.dtype.kind]
        sha.update(f"{kind}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array, dtype=kind).data)
    return sha.hexdigest()


def make_instance(A: Any, b: Any, protected: Any, w: Any, gamma: Any, reading: Any) -> Instance:
    """An `Instance` from arrays; A dense (n, d) or CSR parts (data, indices, indptr, shape).

    Raises
    ------
    VoidError
        Names the first thing that does not fit.
    """
    if isinstance(A, tuple):
        A, (n, d) = csr_parts(*A)
        entries = A.data
    else:
        _require(isinstance(A, np.ndarray) and A.ndim == 2, "A must be a matrix")
        n, d = A.shape
        entries = A
    _require(n >= 1 and d >= 1, f"A has shape ({n}, {d}); it needs a row and a column")
    for name, array in (("A", entries), ("b", b), ("w", w), ("gamma", gamma)):
        known = array.dtype.newbyteorder("=") in (np.float32, np.float64)
        finite = known and np.isfinite(array).all()
        _require(finite, f"{name} must be finite numbers of type float32 or float64")
    _require(protected.dtype == bool, "protected must be boolean")
    _require(b.shape == w.shape == protected.shape == (n,), "b, w, protected must have shape (n,)")
    protected = protected.view(np.uint8) != 0  # a raw byte may be 2
    _require(0 < np.count_nonzero(protected) < n, "protected must mark some rows and not all")
    _require(gamma.shape == () and gamma >= 0, "gamma must be one number >= 0")
    reading = str(reading)
    _require(reading in ("joint", "block"), "reading must be joint or block")
    A = A._replace(data=_exact(entries)) if isinstance(A, Csr) else _exact(A)
    return Instance(n, d, A, _exact(b), protected, _exact(w), float(gamma), reading)


def _exact(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64, copy=False)


def csr_parts(data: Any, indices: Any, indptr: Any, shape: Any) -> tuple[Csr, tuple[int, int]]:
    """A CSR matrix and its shape; `VoidError` unless its form is canonical."""
    _require(data.ndim == indices.ndim == indptr.ndim == 1 and shape.shape == (2,), "A_* misshaped")
    _require(
        {indices.dtype.kind, indptr.dtype.kind, shape.dtype.kind} <= {"i", "u"},
        "A_indices, A_indptr and A_shape must be integers",
    )
    n, d = (int(size) for size in shape)
    _require(n >= 1 and d >= 1 and n * d < 2**63, f"A has shape ({n}, {d})")
    indices, indptr = indices.astype(np.int64), indptr.astype(np.int64)
    _require(
        indptr.shape == (n + 1,)
        and indptr[0] == 0
        and indptr[-1] == data.size == indices.size
        and (np.diff(indptr) >= 0).all(),
        "A_indptr does not describe the rows of A",
    )
    _require(((indices >= 0) & (indices < d)).all(), "A_indices must be within the columns")
    places = np.repeat(np.arange(n), np.diff(indptr)) * d + indices
    _require((np.diff(places) > 0).all(), "A_indices must increase in each row, without duplicates")
    return Csr(data, indices, indptr), (n, d)


def _require(condition: bool | np.bool, message: str) -> None:
    if not condition:
        raise VoidError(message)


def read_arrays(path: str | Path) -> dict[str, Any]:
    """The arrays of an instance file, by the names of `make_instance`'s parameters.

    The file is described in docs/reference/instance-format.md. A is an array or a tuple of CSR
    parts. Nothing is ever unpickled.

    Raises
    ------
    VoidError
        The file can't be read, is damaged, or lacks keys (all are named).
    """
    sparse = ("A_data", "A_indices", "A_indptr", "A_shape")
    try:
        _require(Path(path).is_file() or not Path(path).exists(), f"{path} is no regular file")
        with Path(path).open("rb") as stream:
            archive = zipfile.is_zipfile(stream)
            stream.seek(0)
            single = stream.read(6) == b"\x93NUMPY"
            stream.seek(0)
            _require(archive or single, f"{path} is truncated or not an .npz file")
            file = np.load(stream, allow_pickle=False)
            _require(
                isinstance(file, np.lib.npyio.NpzFile),
                f"{path} holds one array; give an .npz with A, b, protected, w, gamma",
            )
            keys = sparse if "A_data" in file else ("A",)
            missing = [key for key in (*keys, "b", "protected", "w", "gamma") if key not in file]
            _require(not missing, f"{path} lacks {', '.join(missing)}; it holds {file.files}")
            arrays = {key: file[key] for key in ("b", "protected", "w", "gamma")}
            arrays["A"] = tuple(file[key] for key in sparse) if keys == sparse else file["A"]
            arrays["reading"] = str(file["reading"]) if "reading" in file else "joint"
            return arrays
    except VoidError:
        raise
    except OSError as error:
        raise VoidError(f"can't read {path}: {error.strerror or error}") from None
    except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
        if "pickle" in str(error):
            raise VoidError(f"{path} holds pickled objects, which are never loaded") from None
        raise VoidError(f"{path} is truncated or not an .npz file: {error}") from None


class Enclosure(NamedTuple):
    """Balls that contain the exact real numbers at x."""

    ell_1: arb
    ell_2: arb
    margin: arb
    value: arb
    protected_mass: arb
    target_mass: arb


def enclose(instance: Instance, x: np.ndarray, bits: int) -> Enclosure:
    """Enclose both losses, the margin ``ell_1/n1 - ell_2/n2``, L and the protected masses at x.

    Parameters
    ----------
    instance : Instance
    x : (d,) float64 array
        Taken as exact.
    bits : int
        Working precision.
    """
    with ctx.workprec(bits):
        u = list(_logits(instance, x))
        top = max(v.mid() for v in u)
        e = [(v - top).exp() for v in u]
        m = instance.protected.tolist()
        total = _sum(e)
        b = [arb(v) for v in instance.b.tolist()]
        f = [v / total for v in e]
        squares = [_square(fi - bi) for fi, bi in zip(f, b, strict=True)]
        mass = _sum(v for v, p in zip(f, m, strict=True) if p)
        if instance.reading == "joint":
            ell_1 = _sum(v for v, p in zip(squares, m, strict=True) if p)
            ell_2 = _sum(v for v, p in zip(squares, m, strict=True) if not p)
        else:
            # The protected rows' own maximum: their exponentials may all be tiny beside the top.
            own = max(v.mid() for v, p in zip(u, m, strict=True) if p)
            e_1 = [(v - own).exp() if p else None for v, p in zip(u, m, strict=True)]
            total_1 = _sum(v for v in e_1 if v is not None)
            ell_1 = _sum(
                _square(v / total_1 - bi) for v, bi in zip(e_1, b, strict=True) if v is not None
            )
            ell_2 = _sum(squares) - ell_1
        regularization = _sum(
            _square(arb(w) * v) for w, v in zip(instance.w.tolist(), u, strict=True)
        )
        gamma = arb(instance.gamma)
        value = (_sum(squares) + regularization) / 2
        if instance.gamma > 0:
            value += gamma / ell_1
        n1 = instance.n1
        margin = ell_1 / n1 - ell_2 / (instance.n - n1)
        target = _sum(v for v, p in zip(b, m, strict=True) if p)
        return Enclosure(ell_1, ell_2, margin, value, mass, target)


def _logits(instance: Instance, x: np.ndarray) -> Iterator[arb]:
    if isinstance(instance.A, Csr):
        data, indices, ends = (part.tolist() for part in instance.A)
        point = [arb(v) for v in x.tolist()]
        for start, stop in itertools.pairwise(ends):
            pairs = zip(data[start:stop], indices[start:stop], strict=True)
            yield _sum(a * point[j] for a, j in pairs)
        return
    column = arb_mat(instance.d, 1, x.tolist())
    step = max(1, _CHUNK // instance.d)
    for start in range(0, instance.n, step):
        block = instance.A[start : start + step]
        product = arb_mat(len(block), instance.d, block.ravel().tolist()) * column
        yield from (product[i, 0] for i in range(len(block)))


def _sum(balls: Iterable[arb]) -> arb:
    return sum(balls, arb(0))


def _square(ball: arb) -> arb:
    # Not ball ** 2, which is NaN for a ball whose midpoint is exactly zero.
    return ball * ball


def level_set_tau(n: int, n1: int, gamma: float, reading: str, value: float, bits: int) -> float:
    """A tau such that every x' with ``L(x') <= value`` has margin at least tau.

    With t = ell_1(x'), ``margin >= h(t) = n t/(n1 n2) + 2 gamma/(n2 t) - 2 value/n2``, t lies in
    [t-, t+], the roots of ``t^2 - 2 value t + 2 gamma`` (joint), or t >= gamma/value (block). h is
    convex with its minimum at sqrt(2 gamma n1/n).
    """
    n2 = n - n1
    with ctx.workprec(bits):
        L, exact_gamma = arb(value), arb(gamma)
        if gamma == 0:
            return lower(-2 * L / n2)

        def h(t: arb) -> arb:
            return n * t / (n1 * n2) + 2 * exact_gamma / (n2 * t) - 2 * L / n2

        # h(best) bounds h from below for every t > 0, so it is moved on a *proved* comparison only.
        best = (2 * exact_gamma * n1 / n).sqrt()
        if reading == "joint":
            high = L + (L**2 - 2 * exact_gamma).nonnegative_part().sqrt()
            low = 2 * exact_gamma / high
            if best > high:
                best = high
        else:
            low = exact_gamma / L
        if best < low:
            best = low
        return lower(h(best))


def paper_tau(instance: Instance, eps_2: float, bits: int) -> arb:
    """``sqrt(2 gamma)/n1 - eps_2/n2`` of Theorem 16, as a ball."""
    with ctx.workprec(bits):
        n1 = instance.n1
        return (2 * arb(instance.gamma)).sqrt() / n1 - arb(eps_2) / (instance.n - n1)


def lower(ball: arb) -> float:
    """A float, within an ulp the largest, proved to be <= every point of the ball; or -inf."""
    if ball.is_finite():
        bound = _nearest(ball.lower)
        for _ in range(3):
            if arb(bound) <= ball:
                return bound
            bound = math.nextafter(bound, -math.inf)
    return -math.inf


def upper(ball: arb) -> float:
    """A float, within an ulp the smallest, proved to be >= every point of the ball; or inf."""
    if ball.is_finite():
        bound = _nearest(ball.upper)
        for _ in range(3):
            if arb(bound) >= ball:
                return bound
            bound = math.nextafter(bound, math.inf)
    return math.inf


def _nearest(end: Callable[[], arb]) -> float:
    """An end of a ball as a float, rounded to nearest: a candidate, that is proved afterwards."""
    with ctx.workprec(2 * MAX_BITS):
        return float(end())


def at_least(ball: arb, threshold: arb | float) -> Verdict:
    """CERTIFIED if ``ball >= threshold`` is proved, REFUTED if ``ball < threshold`` is."""
    threshold = arb(threshold)
    if ball >= threshold:
        return Verdict.CERTIFIED
    if ball < threshold:
        return Verdict.REFUTED
    return Verdict.UNDECIDED


def at_most(ball: arb, threshold: arb | float) -> Verdict:
    """CERTIFIED if ``ball <= threshold`` is proved, REFUTED if ``ball > threshold`` is."""
    threshold = arb(threshold)
    if ball <= threshold:
        return Verdict.CERTIFIED
    if ball > threshold:
        return Verdict.REFUTED
    return Verdict.UNDECIDED


def protection(margin: arb, tau: float | None) -> Verdict:
    """Definition 1: whether the margin is at least tau; without tau, at least some tau > 0."""
    if tau is not None:
        return at_least(margin, tau)
    if margin > 0:
        return Verdict.CERTIFIED
    if margin <= 0:
        return Verdict.REFUTED
    return Verdict.UNDECIDED


def direction(enclosure: Enclosure) -> str:
    """Whether the protected mass of f is proved to be below or above that of b."""
    if enclosure.protected_mass < enclosure.target_mass:
        return "suppressed"
    if enclosure.protected_mass > enclosure.target_mass:
        return "amplified"
    return "undecided"


def canonical(document: dict[str, Any]) -> bytes:
    """The one byte string a certificate file may have; ``sha256`` is over it without that key."""
    body = {key: value for key, value in document.items() if key != "sha256"}
    digest = hashlib.sha256(_dump(body)).hexdigest()
    return _dump({**body, "sha256": digest})


def _dump(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


class Statements(NamedTuple):
    """The content of a certificate file, numbers decoded; None for a claim that is not made."""

    document: dict[str, Any]
    x: np.ndarray
    bits: int
    bounds: dict[str, tuple[float, float]]
    direction: str
    tau: float | None
    verdict: Verdict
    level_set: tuple[float, float] | None
    paper: tuple[float, tuple[float, float], Verdict, Verdict] | None


def parse(document: Any) -> Statements:
    """Decode a certificate document; every key is known, none is missing, each type is right.

    Raises
    ------
    VoidError
        Names the first thing that is not so.
    """
    _require(isinstance(document, dict), "a certificate is a JSON object")
    _require(document.get("format") == FORMAT, f"the format is not {FORMAT}")
    names = ("bits", "bounds", "claims", "direction", "format", "instance", "producer", "sha256")
    bits, bounds, claims, way, _, instance, producer, digest, x = _fields(document, *names, "x")
    _require(type(bits) is int and START_BITS <= bits <= MAX_BITS, f"bits is {bits!r:.40}")
    _require(way in ("suppressed", "amplified", "undecided"), f"direction is {way!r:.40}")
    _require(isinstance(producer, str) and isinstance(digest, str), "producer or sha256 is no text")
    n, d, n1, gamma, reading, hashes = _fields(
        instance, "n", "d", "n1", "gamma", "reading", "sha256"
    )
    _require(type(n) is type(d) is type(n1) is int, "n, d, n1 are not integers")
    _number(gamma)
    _require(isinstance(reading, str), "reading is no text")
    _fields(hashes, *_HASHED)
    _require(isinstance(x, list) and len(x) == d, "x is not d numbers")
    point, level_set, paper = _fields(claims, "point", "level_set", "paper")
    tau, verdict = _fields(point, "tau", "verdict")
    if level_set is not None:
        level_set = tuple(_number(v) for v in _fields(level_set, "value", "tau"))
    if paper is not None:
        eps_2, tau_c, hypothesis, conclusion = _fields(
            paper, "eps_2", "tau_c", "hypothesis", "verdict"
        )
        paper = _number(eps_2), _interval(tau_c), _verdict(hypothesis), _verdict(conclusion)
    intervals = _fields(bounds, *Enclosure._fields)
    return Statements(
        document=document,
        x=np.array([_number(v) for v in x]),
        bits=bits,
        bounds=dict(zip(Enclosure._fields, map(_interval, intervals), strict=True)),
        direction=way,
        tau=None if tau is None else _number(tau),
        verdict=_verdict(verdict),
        level_set=level_set,
        paper=paper,
    )


def _fields(mapping: Any, *names: str) -> list[Any]:
    """The values of a JSON object that must have exactly these keys."""
    found = sorted(mapping) if isinstance(mapping, dict) else []
    _require(found == sorted(names), f"expected the keys {sorted(names)}, found {str(found)[:200]}")
    return [mapping[name] for name in names]


def _number(text: Any, *, infinite: bool = False) -> float:
    """Decode ``float.hex``; any other spelling could be rounded, and then say something else."""
    try:
        number = float.fromhex(text)
    except (TypeError, ValueError, OverflowError):
        raise VoidError(f"{text!r:.40} is not a hexadecimal float") from None
    _require(number.hex() == text, f"{text!r:.40} is not written as a float64 is: {number.hex()}")
    known = math.isfinite(number) or (infinite and not math.isnan(number))
    _require(known, f"{number} is not finite")
    return number


def _interval(pair: Any) -> tuple[float, float]:
    _require(isinstance(pair, list) and len(pair) == 2, "a bound is not a pair")
    return _number(pair[0], infinite=True), _number(pair[1], infinite=True)


def _verdict(name: Any) -> Verdict:
    _require(name in ("CERTIFIED", "REFUTED", "UNDECIDED"), f"verdict is {name!r:.40}")
    return Verdict[name]


def read_certificate(path: str | Path) -> Statements:
    """Read a certificate whose bytes are as they were written; `VoidError` otherwise."""
    path = Path(path)
    try:
        _require(path.is_file(), f"can't read {path}: no such file, or no regular one")
        _require(path.stat().st_size <= _MAX_BYTES, f"{path} is too large to be a certificate")
        raw = path.read_bytes()
        statements = parse(json.loads(raw))
        _require(raw == canonical(statements.document), "its bytes do not match its sha256")
    except VoidError as error:
        raise VoidError(f"{path} is not a valid certificate: {error}") from None
    except Exception as error:  # not UTF-8, not JSON, too deep, too large an integer, ...
        raise VoidError(f"{path} is not a readable certificate: {error}") from None
    return statements


class CheckResult(NamedTuple):
    """The verdict on a certificate, and a line for each statement that was tested."""

    verdict: Verdict
    lines: list[str]


def check(certificate: str | Path, instance: str | Path) -> CheckResult:
    """Check a certificate file against an instance file, from scratch.

    Parameters
    ----------
    certificate, instance : path
        Files written by ``Certificate.save`` and ``save_instance``.

    Returns
    -------
    CheckResult
        CERTIFIED: everything the certificate says was proved again, the margin claim among it.
        REFUTED: the margin is proved to be below tau, or a statement is proved to be false.
        UNDECIDED: neither. VOID: nothing was tested (damaged or foreign file, unsound machine).
        Nothing is raised.

    Examples
    --------
    >>> check("no-such-file", "no-such-file").verdict.name
    'VOID'
    """
    try:
        with ARITHMETIC:
            _control_machine()
            statements = read_certificate(certificate)
            tested = _test(statements, make_instance(**read_arrays(instance)))
    except VoidError as error:
        return CheckResult(Verdict.VOID, [_printable(str(error))])
    except Exception as error:  # a crash must not be mistaken for a verdict
        return CheckResult(Verdict.VOID, [_printable(f"the checker failed: {error!r}")])
    lines = [_printable(f"{verdict.name:9} {text}") for text, verdict in tested]
    return CheckResult(worst(*(verdict for _, verdict in tested)), lines)


def _printable(text: str) -> str:
    """One line of ASCII: a certificate must not be able to write lines of its own."""
    return text[:1000].encode("unicode_escape").decode("ascii")


def _control_machine() -> None:
    """Refuse to run where subnormal numbers are flushed to zero: data would not be what it is."""
    quarter = np.full(4, 2.0**-1022) * 0.25
    _require((quarter > 0).all(), "flush-to-zero is on in this process; start a fresh one")


def _test(said: Statements, data: Instance) -> list[tuple[str, Verdict]]:
    """Every statement in words, with what is proved about it here."""
    claimed, actual = said.document["instance"], data.description()
    if _dump(claimed) != _dump(actual):
        raise VoidError("the certificate is for other data: " + _difference(claimed, actual))
    enclosure = enclose(data, said.x, said.bits)
    margin = enclosure.margin
    _control(margin)
    tested = [
        (f"{name} in [{low:.17g}, {high:.17g}]", _within(getattr(enclosure, name), (low, high)))
        for name, (low, high) in said.bounds.items()
    ]
    found = direction(enclosure)
    right = _agrees(said.direction, found, open_word="undecided")
    tested.append((f"protected mass is {said.direction}", right))
    proved = protection(margin, said.tau)
    wanted = "some tau > 0" if said.tau is None else f"tau = {said.tau:.17g}"
    tested.append((f"point: margin >= {wanted}", proved))
    right = _agrees(said.verdict.name, proved.name)
    tested.append((f"point: stated verdict {said.verdict.name}", right))
    if said.level_set is not None:
        level, tau = said.level_set
        inside = at_most(enclosure.value, level)
        tested.append((f"level_set: L(x) <= {level:.17g}", inside))
        tightest = level_set_tau(data.n, data.n1, data.gamma, data.reading, level, said.bits)
        supported = tau <= tightest
        # x itself refutes a tau above its own margin.
        beaten = inside is Verdict.CERTIFIED and at_least(margin, tau) is Verdict.REFUTED
        open_or_false = Verdict.REFUTED if beaten else Verdict.UNDECIDED
        text = f"level_set: margin >= {tau:.17g} wherever L <= {level:.17g}"
        tested.append((text, Verdict.CERTIFIED if supported else open_or_false))
    if said.paper is not None:
        eps_2, (low, high), hypothesis, conclusion = said.paper
        tau_c = paper_tau(data, eps_2, said.bits)
        tested.append((f"paper: tau_c in [{low:.17g}, {high:.17g}]", _within(tau_c, (low, high))))
        right = _agrees(conclusion.name, at_least(margin, tau_c).name)
        tested.append((f"paper: margin >= tau_c is stated {conclusion.name}", right))
        right = _agrees(hypothesis.name, at_most(enclosure.ell_2, eps_2).name)
        tested.append((f"paper: ell_2 <= eps_2 is stated {hypothesis.name}", right))
    return tested


def _within(ball: arb, pair: tuple[float, float]) -> Verdict:
    """Whether the number in the ball is proved to lie in the interval."""
    low, high = pair
    if low > high:
        return Verdict.REFUTED
    above = Verdict.CERTIFIED if low == -math.inf else at_least(ball, low)
    below = Verdict.CERTIFIED if high == math.inf else at_most(ball, high)
    return worst(above, below)


def worst(*verdicts: Verdict) -> Verdict:
    """The weakest of several verdicts."""
    order = (Verdict.CERTIFIED, Verdict.UNDECIDED, Verdict.REFUTED, Verdict.VOID)
    return max(verdicts, key=order.index)


def _agrees(stated: str, proved: str, open_word: str = "UNDECIDED") -> Verdict:
    """What to think of a stated finding: right (or claiming nothing), open, or proved wrong."""
    if stated in (proved, open_word):
        return Verdict.CERTIFIED
    return Verdict.UNDECIDED if proved == open_word else Verdict.REFUTED


def _control(margin: arb) -> None:
    """A claim known to be false must not come out CERTIFIED, or this run proves nothing."""
    above = math.nextafter(upper(margin), math.inf)
    sound = not math.isfinite(above) or protection(margin, above) is Verdict.REFUTED
    _require(sound, "the control failed: a false claim was not refused; results would be worthless")


def _difference(claimed: dict[str, Any], actual: dict[str, Any]) -> str:
    for key, value in actual.items():
        if key != "sha256" and claimed[key] != value:
            return f"{key} is {str(claimed[key])[:40]} there and {value} here"
    hashes = actual["sha256"].items()
    differing = [key for key, value in hashes if claimed["sha256"][key] != value]
    return f"the hash of {', '.join(differing)} differs"


def main(arguments: list[str] | None = None) -> int:
    """Run the checker from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m copyreg_jax.certify.check",
        description="Check a certificate: 0 CERTIFIED, 1 REFUTED, 3 UNDECIDED, 2 VOID.",
    )
    parser.add_argument("certificate", type=Path)
    parser.add_argument("instance", type=Path)
    options = parser.parse_args(arguments)
    result = check(options.certificate, options.instance)
    try:
        print("\n".join([*result.lines, result.verdict.name]), flush=True)
    except (OSError, ValueError):
        # Nobody reads the verdict: don't let the interpreter's own exit code 1 pass for one.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Verdict.VOID.value
    return result.verdict.value


if __name__ == "__main__":
    sys.exit(main())
