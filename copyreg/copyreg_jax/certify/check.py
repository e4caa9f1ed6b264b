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
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_mat, ctx

FORMAT = "copyreg-certificate/1"
START_BITS, MAX_BITS = 128, 4096
_CHUNK = 1 << 18
"""Entries of A that are turned into balls at once."""
_MAX_BYTES = 1 << 28
_DENSE = ("A",)
_SPARSE = ("A_data", "A_indices", "A_indptr", "A_shape")
_OTHERS = ("b", "protected", "w", "gamma")


class Verdict(enum.Enum):
    """What is known about a statement; the value is the exit code of the checker."""

    CERTIFIED = 0
    REFUTED = 1
    VOID = 2
    UNDECIDED = 3


class VoidError(Exception):
    """Nothing was tested, and why."""


class Instance(NamedTuple):
    """The data a certificate speaks of, as exact float64 numbers.

    ``rows(i, j)`` gives rows i..j-1 of A as a dense array; ``digests`` are SHA-256 of the data.
    """

    n: int
    d: int
    b: np.ndarray
    protected: np.ndarray
    w: np.ndarray
    gamma: float
    reading: str
    csr: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    dense: np.ndarray | None

    @property
    def n1(self) -> int:
        """Number of protected rows."""
        return int(np.count_nonzero(self.protected))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop-1 of A, dense."""
        if self.dense is not None:
            return self.dense[start:stop]
        assert self.csr is not None
        data, indices, indptr = self.csr
        block = np.zeros((stop - start, self.d))
        for i in range(start, stop):
            part = slice(int(indptr[i]), int(indptr[i + 1]))
            block[i - start, indices[part]] = data[part]
        return block

    def description(self) -> dict[str, Any]:
        """What a certificate says of its instance."""
        if self.dense is not None:
            parts: tuple[np.ndarray, ...] = (self.dense,)
        else:
            assert self.csr is not None
            parts = self.csr
        return {
            "n": self.n,
            "d": self.d,
            "n1": self.n1,
            "gamma": float(self.gamma).hex(),
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


def make_instance(A: Any, b: Any, protected: Any, w: Any, gamma: Any, reading: str) -> Instance:
    """An `Instance` from arrays; A dense (n, d) or CSR parts (data, indices, indptr, shape).

    Raises
    ------
    VoidError
        Names the first thing that does not fit.
    """
    csr = dense = None
    if isinstance(A, tuple):
        data, indices, indptr, shape = (np.asarray(part) for part in A)
        _require(
            data.ndim == indices.ndim == indptr.ndim == 1 and shape.shape == (2,), "A_* misshaped"
        )
        _require(
            _is_float(data)
            and {indices.dtype.kind, indptr.dtype.kind, shape.dtype.kind} <= {"i", "u"},
            "A_data must be float32 or float64; A_indices, A_indptr and A_shape integers",
        )
        n, d = (int(size) for size in shape)
        indices, indptr = indices.astype(np.int64), indptr.astype(np.int64)
        _require(
            n >= 1
            and indptr.shape == (n + 1,)
            and indptr[0] == 0
            and indptr[-1] == data.size
            and bool((np.diff(indptr) >= 0).all())
            and indices.shape == data.shape,
            "A_indptr does not describe the rows of A",
        )
        rows = np.repeat(np.arange(n), np.diff(indptr))
        keys = rows * d + indices
        _require(
            bool(((indices >= 0) & (indices < d)).all() and (np.diff(keys) > 0).all()),
            "A_indices must be within the columns, increasing in each row, without duplicates",
        )
        data = data.astype(np.float64)
        csr = (data, indices, indptr)
        _require(bool(np.isfinite(data).all()), "A has an entry that is not finite")
    else:
        A = np.asarray(A)
        _require(A.ndim == 2 and _is_float(A), "A must be a float32 or float64 matrix")
        dense = np.asarray(A, np.float64)
        n, d = dense.shape
        _require(bool(np.isfinite(dense).all()), "A has an entry that is not finite")
    b, w, gamma_array = np.asarray(b), np.asarray(w), np.asarray(gamma)
    protected = np.asarray(protected)
    for name, array in (("b", b), ("w", w), ("gamma", gamma_array)):
        finite = _is_float(array) and np.isfinite(array).all()
        _require(finite, f"{name} must be finite numbers of type float32 or float64")
    _require(b.shape == w.shape == protected.shape == (n,), "b, w, protected must have shape (n,)")
    _require(gamma_array.shape == () and float(gamma_array) >= 0, "gamma must be one number >= 0")
    _require(protected.dtype == bool, "protected must be boolean")
    _require(0 < np.count_nonzero(protected) < n, "protected must mark some rows and not all")
    _require(reading in ("joint", "block"), "reading must be joint or block")
    b, w = b.astype(np.float64), w.astype(np.float64)
    return Instance(n, d, b, protected, w, float(gamma_array), reading, csr, dense)


def _is_float(array: np.ndarray) -> bool:
    return array.dtype in (np.float32, np.float64)


def _require(condition: bool | np.bool, message: str) -> None:
    if not condition:
        raise VoidError(message)


def read_instance(path: str | Path) -> Instance:
    """Read an instance file (docs/reference/instance-format.md); `VoidError` if it is none."""
    try:
        with Path(path).open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            _require(isinstance(file, np.lib.npyio.NpzFile), f"{path} is not an .npz file")
            keys = _SPARSE if "A_data" in file else _DENSE
            missing = [key for key in (*keys, *_OTHERS) if key not in file]
            _require(not missing, f"{path} lacks {', '.join(missing)}")
            parts = tuple(file[key] for key in keys)
            A = parts if keys == _SPARSE else parts[0]
            reading = str(file["reading"]) if "reading" in file else "joint"
            b, protected, w, gamma = (file[key] for key in _OTHERS)
            return make_instance(A, b, protected, w, gamma, reading)
    except VoidError:
        raise
    except Exception as error:  # damaged archives make NumPy and zipfile raise nearly anything
        raise VoidError(f"{path} is not a readable instance: {error}") from None


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
        squares = [(fi - bi) ** 2 for fi, bi in zip(f, b, strict=True)]
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
                (v / total_1 - bi) ** 2 for v, bi in zip(e_1, b, strict=True) if v is not None
            )
            ell_2 = _sum(squares) - ell_1
        regularization = _sum(
            (arb(w) * v) ** 2 for w, v in zip(instance.w.tolist(), u, strict=True)
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
    column = arb_mat(instance.d, 1, x.tolist())
    step = max(1, _CHUNK // instance.d)
    for start in range(0, instance.n, step):
        stop = min(start + step, instance.n)
        block = instance.rows(start, stop)
        product = arb_mat(stop - start, instance.d, block.ravel().tolist()) * column
        yield from (product[i, 0] for i in range(stop - start))


def _sum(balls: Any) -> arb:
    return sum(balls, arb(0))


def level_set_tau(instance: Instance, value: float, bits: int) -> float:
    """A tau such that every x' with ``L(x') <= value`` has margin at least tau.

    With t = ell_1(x'), ``margin >= h(t) = n t/(n1 n2) + 2 gamma/(n2 t) - 2 value/n2``, t lies in
    [t-, t+], the roots of ``t^2 - 2 value t + 2 gamma`` (joint), or t >= gamma/value (block). h is
    convex with its minimum at sqrt(2 gamma n1/n).
    """
    n, n1 = instance.n, instance.n1
    n2 = n - n1
    with ctx.workprec(bits):
        L, gamma = arb(value), arb(instance.gamma)
        if instance.gamma == 0:
            return lower(-2 * L / n2)

        def h(t: arb) -> arb:
            return n * t / (n1 * n2) + 2 * gamma / (n2 * t) - 2 * L / n2

        # h(best) bounds h from below for every t, so moving it needs a *proved* comparison, and
        # min and max of balls replace their first argument on that alone.
        best = (2 * gamma * n1 / n).sqrt()
        if instance.reading == "joint":
            high = L + (L**2 - 2 * gamma).nonnegative_part().sqrt()
            low = 2 * gamma / high
            best = min(best, high)
        else:
            low = gamma / L
        best = max(best, low)
        return lower(h(best))


def paper_tau(instance: Instance, eps_2: float, bits: int) -> arb:
    """``sqrt(2 gamma)/n1 - eps_2/n2`` of Theorem 16, as a ball."""
    with ctx.workprec(bits):
        n1 = instance.n1
        return (2 * arb(instance.gamma)).sqrt() / n1 - arb(eps_2) / (instance.n - n1)


def lower(ball: arb) -> float:
    """The largest float that is proved to be <= every point of the ball; -inf if there is none."""
    if ball.is_finite():
        bound = _nearest(ball.lower)
        for _ in range(3):
            if arb(bound) <= ball:
                return bound
            bound = math.nextafter(bound, -math.inf)
    return -math.inf


def upper(ball: arb) -> float:
    """The smallest float that is proved to be >= every point of the ball; inf if there is none."""
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

    Examples
    --------
    >>> check("no-such-file", "no-such-file").verdict.name
    'VOID'
    """
    try:
        _control_machine()
        document = read_certificate(Path(certificate))
        data = read_instance(instance)
        return _check_document(document, data)
    except VoidError as error:
        return CheckResult(Verdict.VOID, [str(error)])


def _control_machine() -> None:
    """Refuse to run where subnormal numbers are flushed to zero: data would not be what it is."""
    quarter = np.full(4, 2.0**-1022) * 0.25
    _require(bool((quarter > 0).all()), "flush-to-zero is on in this process; start a fresh one")


def read_certificate(path: Path) -> dict[str, Any]:
    """Read a certificate whose bytes are as they were written; `VoidError` otherwise."""
    try:
        _require(path.stat().st_size <= _MAX_BYTES, f"{path} is too large to be a certificate")
        raw = path.read_bytes()
        document = json.loads(raw)
    except (OSError, ValueError, RecursionError) as error:
        raise VoidError(f"{path} is not a readable certificate: {error}") from None
    _require(isinstance(document, dict), f"{path} is not a certificate: no object at the top")
    _require(document.get("format") == FORMAT, f"{path}: format is not {FORMAT}")
    try:
        expected = canonical(document)
    except (ValueError, TypeError, RecursionError):
        expected = b""
    _require(raw == expected, f"{path} was changed: its bytes do not match its sha256")
    return document


def _number(text: Any, *, infinite: bool = False) -> float:
    try:
        number = float.fromhex(text)
    except (TypeError, ValueError, OverflowError):
        raise VoidError(f"{str(text)[:40]!r} is not a hexadecimal float") from None
    _require(
        math.isfinite(number) or (infinite and not math.isnan(number)), f"{number} is not finite"
    )
    return number


def _interval(pair: Any) -> tuple[float, float]:
    _require(isinstance(pair, list) and len(pair) == 2, "a bound is not a pair")
    return _number(pair[0], infinite=True), _number(pair[1], infinite=True)


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


def _agrees(claimed: Any, proved: Verdict) -> Verdict:
    """What to think of a stated verdict: right, proved wrong, or open."""
    stated = isinstance(claimed, str) and claimed in ("CERTIFIED", "REFUTED", "UNDECIDED")
    _require(stated, f"no such verdict: {claimed!r:.40}")
    if claimed in (proved.name, "UNDECIDED"):
        return Verdict.CERTIFIED
    return Verdict.UNDECIDED if proved is Verdict.UNDECIDED else Verdict.REFUTED


def _check_document(document: dict[str, Any], data: Instance) -> CheckResult:
    if document.get("instance") != data.description():
        raise VoidError("the certificate is for other data: " + _difference(document, data))
    bits = document.get("bits")
    _require(type(bits) is int and START_BITS <= bits <= MAX_BITS, f"bits is {bits!r:.40}")
    assert isinstance(bits, int)
    coordinates = document.get("x")
    _require(isinstance(coordinates, list) and len(coordinates) == data.d, "x is not d numbers")
    assert isinstance(coordinates, list)
    x = np.array([_number(v) for v in coordinates])
    try:
        bounds = {name: _interval(document["bounds"][name]) for name in Enclosure._fields}
        claims = document["claims"]
        point, level_set, paper = (claims[name] for name in ("point", "level_set", "paper"))
        tau = None if point["tau"] is None else _number(point["tau"])
        eps_2, tau_c = _number(paper["eps_2"]), _interval(paper["tau_c"])
        said = (point["verdict"], paper["verdict"], paper["hypothesis"], document["direction"])
        level = (
            None if level_set is None else (_number(level_set["value"]), _number(level_set["tau"]))
        )
    except (KeyError, TypeError):
        raise VoidError("the certificate lacks a field, or one has the wrong type") from None

    enclosure = enclose(data, x, bits)
    verdicts: list[tuple[str, Verdict]] = []
    for name, pair in bounds.items():
        text = f"{name} in [{pair[0]:.17g}, {pair[1]:.17g}]"
        verdicts.append((text, _within(getattr(enclosure, name), pair)))
    found = direction(enclosure)
    verdicts.append((f"protected mass is {said[3]}", _direction_verdict(said[3], found)))
    _control(enclosure.margin)
    proved = protection(enclosure.margin, tau)
    wanted = "some tau > 0" if tau is None else f"tau = {tau:.17g}"
    verdicts.append((f"point: margin >= {wanted}", proved))
    verdicts.append((f"point: stated verdict {said[0]}", _agrees(said[0], proved)))
    if level is not None:
        limit, level_tau = level
        text = f"level_set: margin >= {level_tau:.17g} wherever L <= {limit:.17g}"
        here = at_most(enclosure.value, limit)
        supported = level_tau <= level_set_tau(data, limit, bits)
        verdicts.append((text, Verdict.CERTIFIED if supported else Verdict.UNDECIDED))
        verdicts.append((f"level_set: L(x) <= {limit:.17g}", here))
    paper_ball = paper_tau(data, eps_2, bits)
    verdicts.append(
        (f"paper: tau_c in [{tau_c[0]:.17g}, {tau_c[1]:.17g}]", _within(paper_ball, tau_c))
    )
    holds = at_least(enclosure.margin, paper_ball)
    hypothesis = at_most(enclosure.ell_2, eps_2)
    verdicts.append((f"paper: margin >= tau_c is stated {said[1]}", _agrees(said[1], holds)))
    verdicts.append((f"paper: ell_2 <= eps_2 is stated {said[2]}", _agrees(said[2], hypothesis)))
    lines = [f"{verdict.name:9} {text}" for text, verdict in verdicts]
    return CheckResult(worst(*(verdict for _, verdict in verdicts)), lines)


def _direction_verdict(said: Any, found: str) -> Verdict:
    stated = isinstance(said, str) and said in ("suppressed", "amplified", "undecided")
    _require(stated, f"no such direction: {said!r:.40}")
    if said in (found, "undecided"):
        return Verdict.CERTIFIED
    return Verdict.UNDECIDED if found == "undecided" else Verdict.REFUTED


def _control(margin: arb) -> None:
    """A claim known to be false must not come out CERTIFIED, or this run proves nothing."""
    above = math.nextafter(upper(margin), math.inf)
    sound = not math.isfinite(above) or protection(margin, above) is Verdict.REFUTED
    _require(sound, "the control failed: a false claim was not refused; results would be worthless")


def _difference(document: dict[str, Any], data: Instance) -> str:
    claimed, actual = document.get("instance"), data.description()
    if not isinstance(claimed, dict):
        return "it names none"
    for key, value in actual.items():
        if key != "sha256" and claimed.get(key) != value:
            return f"{key} is {str(claimed.get(key))[:40]} there and {value} here"
    hashes = claimed.get("sha256")
    pairs = hashes if isinstance(hashes, dict) else {}
    differing = [key for key, value in actual["sha256"].items() if pairs.get(key) != value]
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
    for line in result.lines:
        print(line)
    print(result.verdict.name)
    return result.verdict.value


if __name__ == "__main__":
    sys.exit(main())
