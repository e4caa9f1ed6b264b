"""The four verdicts, how they are compared and joined, and what makes a file VOID."""

from __future__ import annotations

import enum

import numpy as np
from flint import arb

__all__ = ["Verdict", "VoidError", "at_least", "at_most", "require", "worst"]


class Verdict(enum.Enum):
    """What is known about a statement; the value is the exit code of the checker."""

    CERTIFIED = 0
    REFUTED = 1
    VOID = 2
    UNDECIDED = 3


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


def worst(*verdicts: Verdict) -> Verdict:
    """The weakest of several verdicts."""
    order = (Verdict.CERTIFIED, Verdict.UNDECIDED, Verdict.REFUTED, Verdict.VOID)
    return max(verdicts, key=order.index)


class VoidError(Exception):
    """Nothing was tested, and why."""


def require(condition: bool | np.bool, message: str) -> None:
    """Raise `VoidError` with the message unless the condition holds."""
    if not condition:
        raise VoidError(message)
