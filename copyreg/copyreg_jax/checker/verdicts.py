"""The four verdicts, how they are compared and joined, and how a test ends in one."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from flint import arb

__all__ = [
    "CheckResult",
    "Tested",
    "Verdict",
    "VoidError",
    "at_least",
    "at_most",
    "judge",
    "require",
    "void",
    "worst",
]


class Verdict(enum.Enum):
    """What is known about a statement; the value is the exit code of the checker."""

    CERTIFIED = 0
    REFUTED = 1
    VOID = 2
    UNDECIDED = 3


def at_least(ball: arb, threshold: arb | float) -> Verdict:
    """CERTIFIED if ``ball >= threshold`` is proved, REFUTED if ``ball < threshold`` is.

    Examples
    --------
    >>> [at_least(arb(2, 0.5), threshold).name for threshold in (1.0, 2.0, 3.0)]  # 2 +- 0.5
    ['CERTIFIED', 'UNDECIDED', 'REFUTED']
    """
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
    """The weakest of several verdicts.

    Examples
    --------
    >>> worst(Verdict.CERTIFIED, Verdict.UNDECIDED).name
    'UNDECIDED'
    """
    order = (Verdict.CERTIFIED, Verdict.UNDECIDED, Verdict.REFUTED, Verdict.VOID)
    return max(verdicts, key=order.index)


class VoidError(Exception):
    """Nothing was tested, and why."""


def require(condition: bool | np.bool, message: str) -> None:
    """Raise `VoidError` with the message unless the condition holds."""
    if not condition:
        raise VoidError(message)


Tested: TypeAlias = list[tuple[str, Verdict]]
"""The statements of a certificate in words, each with what is known about it."""


class CheckResult(NamedTuple):
    """The verdict on a certificate, and a line for each statement that was tested.

    Attributes
    ----------
    verdict : Verdict
    lines : list of str
        Each begins with the verdict on its statement. If the verdict is VOID, the one line says
        why.
    direction : str or None
        Which way the protected mass is proved to go, whatever the verdict on other statements is:
        suppressed, amplified, or undecided. None where nothing is said of it.
    """

    verdict: Verdict
    lines: list[str]
    direction: str | None = None


def judge(test: Callable[[], Tested]) -> CheckResult:
    """Run a test; its verdict is the weakest of its statements, and VOID if it tested nothing."""
    try:
        tested = test()
    except VoidError as error:
        return void(str(error))
    except Exception as error:  # a crash must not be mistaken for a verdict
        return void(f"the checker failed: {error!r}")
    lines = [_printable(f"{verdict.name:9} {text}") for text, verdict in tested]
    return CheckResult(worst(*(verdict for _, verdict in tested)), lines)


def void(reason: str) -> CheckResult:
    """Say that nothing was tested, and why."""
    return CheckResult(Verdict.VOID, [_printable(reason)])


def _printable(text: str) -> str:
    """One line of ASCII: a certificate must not be able to write lines of its own."""
    return text[:1000].encode("unicode_escape").decode("ascii")
