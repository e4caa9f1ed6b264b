"""Minimizers to 60 digits, from the definitions alone, and what a result says that they are not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_mat, ctx

import copyreg_jax as cr
from tests.checker.definition import Case, Exact, derivatives, exact

BITS = 256


class Minimizer(NamedTuple):
    """A local minimizer, and all that is said of it."""

    x: list[Any]
    at: Exact


def with_ends(found: list[Minimizer], case: Case, ends: Iterable[np.ndarray]) -> list[Minimizer]:
    """Minimizers, and those to which Newton's method leads from other points."""
    found = list(found)
    for each in (_polished(case, x) for x in ends):
        if each is not None and all(_distance(each, other) > 1e-12 for other in found):
            found.append(each)
    return found


def _distance(one: Minimizer, other: Minimizer) -> float:
    with ctx.workprec(BITS):
        return max(abs(float(v - w)) for v, w in zip(one.x, other.x, strict=True))


def _polished(case: Case, start: np.ndarray) -> Minimizer | None:
    """Newton's method in balls, whose radii are dropped after each step; None off a minimizer.

    d is 1 or 2.
    """
    with ctx.workprec(BITS):
        x = [arb(v) for v in start.tolist()]
        for _ in range(10):
            slope, H = derivatives(case, x)
            step = H.solve(arb_mat([[v] for v in slope]))
            x = [(v - s).mid() for v, s in zip(x, step.entries(), strict=True)]
        slope, H = derivatives(case, x)
        is_least = bool(H[0, 0] > 0) and bool(H.det() > 0)
        if not is_least or not all(abs(v) < arb(10) ** -60 for v in slope):
            return None
        return Minimizer(x, exact(case, x))


def faults(case: Case, found: cr.GlobalMinimum, truth: list[Minimizer]) -> list[str]:
    """What a result says that is not so."""
    wrong = []
    with ctx.workprec(BITS):
        if is_upper_too_low(case, found):
            wrong.append("upper")
        for m in truth:
            if m.at.value < arb(found.lower):
                wrong.append("lower")
            if any(m.at.value > other.at.value for other in truth):
                continue
            around = [e for e in found.minimizers if _has(e, m)]
            if not around:
                wrong.append("a minimizer is in no enclosure")
            elif all(m.at.value < arb(e.lower) for e in around):
                wrong.append("lower of an enclosure")
            elif all(_apart(e.margin, m.at.margin) for e in around) or all(
                _apart(e.protected_mass, m.at.protected_mass) for e in around
            ):
                wrong.append("margin or mass of an enclosure")
            if _apart(found.margin, m.at.margin):
                wrong.append("margin")
            has_grown = bool(m.at.protected_mass > m.at.target_mass)
            if (found.direction, has_grown) in {("amplified", False), ("suppressed", True)}:
                wrong.append("direction")
        for e in found.minimizers:
            if e.is_unique and sum(_has(e, m) for m in truth) > 1:
                wrong.append("not unique")
    return wrong


def is_upper_too_low(case: Case, found: cr.GlobalMinimum) -> bool:
    """Whether L at the best point is above the upper bound."""
    with ctx.workprec(BITS):
        return bool(exact(case, found.x.tolist()).value > arb(found.upper))


def _has(e: cr.Enclosure, m: Minimizer) -> bool:
    """Whether a minimizer is not proved to be outside of an enclosure."""
    pairs = zip(m.x, e.x.tolist(), e.radius.tolist(), strict=True)
    return not any(bool(abs(v - arb(x)) > arb(r)) for v, x, r in pairs)


def _apart(bounds: Any, number: arb) -> bool:
    return bool(number < arb(bounds[0])) or bool(number > arb(bounds[1]))
