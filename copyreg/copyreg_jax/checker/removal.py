"""Ledgers: what leaving the protected rows out of training changes, proved row by row.

    python -m copyreg_jax.checker LEDGER INSTANCE

The *model* is a minimizer of L. The *safe* model is a minimizer of ``h ell_2 + L_reg``, ell_2 the
loss of the one softmax on the rows that are not protected, whatever the reading. The protected rows
stay in its softmax. A ledger encloses both by the claim local of a certificate, and by that
``log2 f_i/safe_i`` of every row i. The largest of these numbers is the exponent k of near
access-freeness: ``f(E) <= 2^k safe(E)`` for every set E of rows. The theorems are in
docs/neighbours/ledger.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flint import arb, ctx

from copyreg_jax.checker import proofs
from copyreg_jax.checker.arithmetic import (
    ARITHMETIC,
    START_BITS,
    arithmetic,
    between,
    sum_balls,
)
from copyreg_jax.checker.check import (
    control_machine,
    minimizer_statements,
    require_same,
    within,
)
from copyreg_jax.checker.data import MAX_DENSE_COLUMNS, Instance, read_instance
from copyreg_jax.checker.format import (
    Global,
    Interval,
    Local,
    check_description,
    check_producer,
    fields,
    read_claim,
    read_interval,
    read_point,
    read_statements,
)
from copyreg_jax.checker.verdicts import (
    CheckResult,
    Tested,
    Verdict,
    judge,
    require,
    worst,
)

__all__ = [
    "FORMAT",
    "Ledger",
    "Minimizer",
    "Proved",
    "check_ledger",
    "parse",
    "proved",
]

FORMAT = "copyreg-ledger/1"

_NAMES = ("distance", "mass_bits", "naf_bits")


class Minimizer(NamedTuple):
    """A point, and what is claimed of a minimizer near it; None for a claim that is not made."""

    x: np.ndarray
    local: Local | None
    global_: Global | None


class Ledger(NamedTuple):
    """The content of a ledger file, numbers decoded.

    Attributes
    ----------
    document : dict
    model, safe : Minimizer
        The minimizers of L and of ``h ell_2 + L_reg``.
    distance, mass_bits, naf_bits : Interval or None
        The distance of the minimizers; log2 of the ratio of their protected masses; the largest of
        the rows. All ends are finite. They are None, and so are the rows, if nothing is stated.
    rows : list of Interval or None
        ``log2 f_i/safe_i`` for each row i.
    """

    document: dict[str, Any]
    model: Minimizer
    safe: Minimizer
    distance: Interval | None
    mass_bits: Interval | None
    naf_bits: Interval | None
    rows: list[Interval] | None


class Proved(NamedTuple):
    """Balls and, for the rows, lower and upper bounds."""

    distance: arb
    mass_bits: arb
    lower: np.ndarray
    upper: np.ndarray


def check_ledger(path: str | Path, instance: str | Path) -> CheckResult:
    """Prove a ledger again, from the instance it is about.

    Parameters
    ----------
    path : path
        File written by ``Ledger.save`` or by ``copyreg ledger``.
    instance : path
        Its instance, a file or a folder of .npy files.

    Returns
    -------
    CheckResult
        CERTIFIED: all of it was proved again. REFUTED: a statement is proved to be false.
        UNDECIDED: neither, or the ledger itself leaves a minimizer open. VOID: nothing was tested.
        Nothing is raised.

    Examples
    --------
    >>> check_ledger("no-such-file", "no-such-file").verdict.name
    'VOID'
    """

    def test() -> Tested:
        with ARITHMETIC:
            control_machine()
            said = read_statements(path, parse)
            claimed = said.document["instance"]
            data = read_instance(instance, (claimed["n"], claimed["d"]))
            require_same(claimed, data)
            return _test(said, data)

    return judge(test)


def parse(document: dict[str, Any]) -> Ledger:
    """What a document says; `VoidError` if it is not of this format."""
    require(document.get("format") == FORMAT, f"the format is not {FORMAT}")
    names = ("format", "instance", "model", "producer", "rows", "safe", "sha256", *_NAMES)
    _, instance, model, producer, rows, safe, _, *numbers = fields(document, *names)
    check_producer(producer)
    d, n = check_description(instance), instance["n"]
    require(d <= MAX_DENSE_COLUMNS, f"nothing is claimed beyond {MAX_DENSE_COLUMNS} columns")
    kept = _minimizer(model, d), _minimizer(safe, d)
    if rows is None:
        require(set(numbers) == {None}, "some numbers are stated, and not the rows")
        return Ledger(document, *kept, None, None, None, None)
    require(None not in (kept[0].local, kept[1].local), "rows are stated, and not both minimizers")
    require(isinstance(rows, list) and len(rows) == n, "rows are not n intervals")
    distance, mass_bits, naf_bits = map(_finite, numbers)
    intervals = [_finite(row) for row in rows]
    return Ledger(document, *kept, distance, mass_bits, naf_bits, intervals)


def _finite(pair: Any) -> Interval:
    """An interval that says something."""
    interval = read_interval(pair)
    require(math.isfinite(interval.lower) and math.isfinite(interval.upper), "a bound is infinite")
    return interval


def _minimizer(content: Any, d: int) -> Minimizer:
    x, local, global_ = fields(content, "x", "local", "global")
    return Minimizer(
        read_point(x, d),
        None if local is None else read_claim(Local, local),
        None if global_ is None else read_claim(Global, global_),
    )


def _test(said: Ledger, data: Instance) -> Tested:
    tested = []
    for name, of, kept in _both(said, data):
        claims = minimizer_statements(proofs.Points(of, kept.x), kept.local, kept.global_)
        tested += [(f"{name}: {text}", verdict) for text, verdict in claims]
    model, safe = said.model.local, said.safe.local
    if said.rows is None or model is None or safe is None:
        return [*tested, ("log2 f_i/safe_i of the rows: nothing is stated", Verdict.UNDECIDED)]
    bits = max(model.bits, safe.bits)
    changes = _changes(said, data, bits)
    if worst(*(verdict for _, verdict in changes)) is Verdict.UNDECIDED and bits < START_BITS:
        changes = _changes(said, data, START_BITS)
    return tested + changes


def _both(said: Ledger, data: Instance) -> list[tuple[str, Instance, Minimizer]]:
    return [("model", data, said.model), ("safe", data.without_protected(), said.safe)]


def _changes(said: Ledger, data: Instance, bits: int) -> Tested:
    """The statements about the difference of the two models."""
    assert said.rows is not None
    assert said.naf_bits is not None
    with ctx.workprec(arithmetic(bits).scalar_bits):
        found = proved(data, said.model, said.safe, bits)
        low, high = (np.array([row[end] for row in said.rows]) for end in (0, 1))
        tested = [(f"log2 f_i/safe_i of {len(low)} rows", _enclosed(found, low, high))]
        for name in ("distance", "mass_bits"):
            stated = getattr(said, name)
            text = f"{name} in {_shown(stated)}"
            tested.append((text, within(getattr(found, name), stated)))
        # The bounds of the largest number are the largest bounds: floats, compared as such.
        ends, stated = np.array([[found.lower.max()], [found.upper.max()]]), said.naf_bits
        largest = found._replace(lower=ends[0], upper=ends[1])
        text = f"f(E) <= 2^k safe(E) for all sets E of these rows, least k in {_shown(stated)}"
        tested.append((text, _enclosed(largest, *np.array(stated)[:, None])))
        # A claim known to be false must not come out CERTIFIED, or this run proves nothing.
        below = np.nextafter(ends[0], -np.inf)
        refused = not np.isfinite(below[0]) or _enclosed(largest, below, below) is Verdict.REFUTED
        require(refused, "the control failed: a false claim was not refused")
    return tested


def _enclosed(found: Proved, low: np.ndarray, high: np.ndarray) -> Verdict:
    """Whether all proved numbers lie between the stated ones."""
    if (low > high).any() or (found.upper < low).any() or (high < found.lower).any():
        return Verdict.REFUTED
    inside = (low <= found.lower).all() and (found.upper <= high).all()
    return Verdict.CERTIFIED if inside else Verdict.UNDECIDED


def _shown(interval: Interval) -> str:
    return f"[{interval.lower:.17g}, {interval.upper:.17g}]"


def proved(data: Instance, model: Minimizer, safe: Minimizer, bits: int) -> Proved:
    """What is known of the difference of two minimizers that claims local enclose.

    The caller holds `ARITHMETIC` and has set the precision.
    """
    ar, views = arithmetic(bits), []
    for of, kept in ((data, model), (data.without_protected(), safe)):
        point = proofs.at_point(of, ar, kept.x)
        assert kept.local is not None
        views.append(proofs.in_ball(point, point.survey.center, kept.local.distance))
    offsets = [view.softmaxes[0].shift + view.softmaxes[0].total.log() for view in views]
    per_nat = 1 / arb(2).log()

    def work(block: slice) -> tuple[np.ndarray, np.ndarray]:
        u, safe_u = (view.logits(block) for view in views)
        change = (u - safe_u - (offsets[0] - offsets[1])) * per_nat
        return ar.lower(change), ar.upper(change)

    low, high = map(np.concatenate, zip(*data.map_blocks(work), strict=True))
    moved = sum_balls(
        proofs.square(arb(a) - arb(b))
        for a, b in zip(model.x.tolist(), safe.x.tolist(), strict=True)
    ).sqrt()
    reach = sum_balls(arb(kept.local.distance) for kept in (model, safe) if kept.local is not None)
    distance = (moved + reach * arb(0, 1)).nonnegative_part()
    return Proved(distance, _mass_bits(views, low, high), low, high)


def _mass_bits(views: list[proofs.View], low: np.ndarray, high: np.ndarray) -> arb:
    """Ball of log2 of the ratio of the protected masses, which lies between ratios of the rows."""
    protected = views[0].data.protected
    masses = [view.losses.protected_mass for view in views]
    ratio = (masses[0] / masses[1]).log() / arb(2).log()
    bounds = between(float(low[protected].min()), float(high[protected].max()))
    if not ratio.is_finite():  # a mass may underflow in floats
        return bounds
    return ratio.intersection(bounds) if ratio.overlaps(bounds) else ratio
