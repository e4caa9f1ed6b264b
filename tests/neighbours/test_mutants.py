"""The tests of ledgers can fail: bugs, planted one at a time, are found."""

import functools

import numpy as np
import pytest

import copyreg_jax as cr
from copyreg_jax.checker import format
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.neighbours.ledger import ledger
from tests.neighbours.test_ledger import NAMES, inside, shifted, truth
from tests.support.mutants import planted


@functools.cache
def honest():
    return truth(2)[1].document


def false_ledgers():
    """Each has a number that is false by 1e-3, bits of other rows, or more than is proved."""
    for name in NAMES:
        yield shifted(honest(), name, -1e-3, 1)
        yield shifted(honest(), name, 1e-3, 0)
    yield honest() | {"rows": honest()["rows"][::-1]}
    first, *others = honest()["rows"]
    middle = (0.5 * sum(map(float.fromhex, first))).hex()
    yield honest() | {"rows": [[middle, middle], *others]}


def faults(folder):
    """What is wrong: intervals without the exact number, false ledgers that are certified."""
    problem, found, numbers = truth(2)
    cr.save_instance(folder / "instance.npz", problem)

    def verdict(document):
        (folder / "ledger.json").write_bytes(format.canonical(document))
        return check_file(folder / "ledger.json", folder / "instance.npz").verdict

    yield verdict(honest()) is not cr.Verdict.CERTIFIED
    for document in false_ledgers():
        yield verdict(document) is cr.Verdict.CERTIFIED
    # Points 1e-4 beside the minimizers: the intervals must reach them.
    off = 1e-4 * np.array([1.0, -1.0])
    wide = ledger(problem, found.model.x + off, found.safe.x - off)
    yield wide.rows is None
    yield not inside(wide, numbers)


BUGS = {
    "the safe model sees everything": ("data:Instance.without_protected",
        "self._replace(reading=LEFT_OUT, gamma=0.0)", "self._replace(gamma=0.0)"),
    "the protected terms are not left out": ("sums:Sums.protection",
        "(arb(1), arb(0))", "(arb(0), arb(0))"),
    "rows are not compared": ("removal:_enclosed",
        "(low <= found.lower).all() and (found.upper <= high).all()", "True"),
    "numbers are not compared": ("removal:_changes",
        "within(getattr(found, name), stated)", "Verdict.CERTIFIED"),
    "k is that of the lower bounds": ("removal:_changes",
        "[[found.lower.max()], [found.upper.max()]]", "[[found.lower.min()], [found.lower.min()]]"),
    "softmaxes at the points": ("removal:proved",
        "proofs.in_ball(point, point.survey.center, kept.local.distance)",
        "proofs.in_ball(point, point.survey.center, 0.0)"),
    "distance of the points": ("removal:proved", "reach * arb(0, 1)", "arb(0)"),
    "nats for bits": ("removal:proved", "1 / arb(2).log()", "arb(1)"),
    "one normalizer": ("removal:proved", "offsets[0] - offsets[1]", "arb(0)"),
}  # fmt: skip


def test_ledgers_as_they_are(tmp_path):
    assert not any(faults(tmp_path))


@pytest.mark.parametrize("bug", BUGS)
def test_bug_is_found(bug, tmp_path):
    truth(2), honest()  # made without the bug
    place, old, new = BUGS[bug]
    with planted(f"checker.{place}", old, new):
        assert any(faults(tmp_path))
