"""False statements about files: data described as other data, forgeries that are certified."""

import math
from unittest import mock

import numpy as np
from flint import arb

from copyreg_jax.checker import archive, check, data, format, linear, proofs
from copyreg_jax.checker.arithmetic import START_BITS, Balls
from copyreg_jax.checker.verdicts import Verdict, VoidError, at_most, worst
from tests.checker.definition import Case


def _case():
    rng = np.random.default_rng(0)
    A, b, w = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(4)), rng.random(4)
    return Case(A, b, np.array([True, False, False, False]), w, 0.1, "joint", "squared")


def _controlled_floor():
    point = proofs.at_point(_case().instance(), Balls(START_BITS), np.zeros(3))
    return point.survey.controlled_floor


def data_faults(folder):
    """Two instances that differ, but whose descriptions do not; data that must be refused."""
    case = _case()
    A, b, w = case.A, case.b, case.w
    whole = case.instance().description()
    changes = (
        {"A": A + np.eye(4, 3)}, {"b": b[::-1].copy()}, {"protected": case.protected[::-1].copy()},
        {"w": w[::-1].copy()}, {"gamma": math.nextafter(0.1, 1)}, {"reading": "block"},
        {"metric": "cross-entropy"},
    )  # fmt: skip
    for change in changes:
        yield case._replace(**change).instance().description() == whole
    yield whole["n1"] != 1
    two = case._replace(protected=np.array([2, 0, 0, 0], np.uint8).view(bool))
    yield _refuses(two.instance)
    yield two.instance().description() != whole
    bad = (
        {"A": A * [np.nan, 1, 1]}, {"b": b * np.inf}, {"w": w * np.nan}, {"gamma": math.nan},
        {"gamma": -1.0}, {"protected": np.zeros(4, bool)}, {"protected": np.ones(4, bool)},
        {"b": -b, "metric": "cross-entropy"}, {"reading": "both"}, {"metric": "other"},
        {"w": w[:3]},
    )  # fmt: skip
    for change in bad:
        yield not _refuses(lambda c=change: case._replace(**c).instance().description())
    with mock.patch.object(data, "_BLOCK", 1):  # a row each
        blocks = list(case.instance().map_blocks(lambda block: np.arange(4)[block]))
    yield not np.array_equal(np.concatenate(blocks), np.arange(4))
    yield from _faults_of_sparse_data(case)
    yield from _faults_of_files(case, folder)


def _refuses(make):
    try:
        make()
    except VoidError:
        return True
    return False


def _faults_of_sparse_data(case):
    ones, shape = np.ones(3), np.array([4, 3])
    indices, indptr = np.array([0, 1, 2]), np.array([0, 1, 2, 3, 3])
    matrices = (
        (ones, indices, indptr), (2 * ones, indices, indptr), (ones, indices[::-1].copy(), indptr),
        (ones, indices, np.array([0, 1, 2, 2, 3])),
    )  # fmt: skip
    yield len({data.make_csr(*parts, shape).hash() for parts in matrices}) != 4
    stored = data.make_csr(*matrices[0], shape)
    yield not np.array_equal(stored.rows(1, 4), np.eye(4, 3)[1:])
    twice = ones, np.array([1, 1, 2]), np.array([0, 2, 3, 3, 3]), shape
    outside = ones, np.array([0, 1, 3]), indptr, shape
    for parts in (twice, outside):
        yield not _refuses(lambda parts=parts: data.make_csr(*parts))


def _faults_of_files(case, folder):
    """Matrices that stay in their files, in each form of file."""
    others = {"b": case.b, "protected": case.protected, "w": case.w, "gamma": np.array(case.gamma)}
    np.savez(folder / "stored.npz", A=case.A, **others)
    np.savez_compressed(folder / "compressed.npz", A=case.A, **others)
    np.savez(folder / "fortran.npz", A=np.asfortranarray(case.A), **others)
    with mock.patch.object(archive, "_STREAMED", 0):
        for name in ("stored", "compressed", "fortran"):
            found = data.read_instance(folder / f"{name}.npz").A
            yield not np.array_equal(found.rows(1, 3), case.A[1:3])
        found = data.read_instance(folder / "stored.npz").A
    np.savez(folder / "stored.npz", A=2 * case.A, **others)
    yield not _refuses(lambda: found.rows(0, 4))


def check_faults(files):
    """Forgeries that are certified, and controls that a checker without them would not pass."""
    for certificate, instance, forged, _ in files:
        yield check.check(certificate, instance).verdict.name != "CERTIFIED"
        for path in forged.values():
            yield check.check(path, instance).verdict.name == "CERTIFIED"
    zero, open_ = arb(0), arb(0.5, 1)
    names = [check.protection(ball, None).name for ball in (zero, open_, arb(1), -arb(1))]
    yield names != ["REFUTED", "UNDECIDED", "CERTIFIED", "REFUTED"]
    yield check.protection(open_, 0.5).name != "UNDECIDED"
    losses = proofs.Losses(zero, zero, zero, open_, arb(0.75))
    yield format.direction(losses) != "undecided"
    yield worst(Verdict.CERTIFIED, Verdict.REFUTED, Verdict.UNDECIDED).name != "REFUTED"
    yield at_most(arb(1), 2) is not Verdict.CERTIFIED
    # A version that certifies what is false must find itself out.
    lies = [
        (check, "protection", lambda *_: Verdict.CERTIFIED),
        (linear, "eigenvalue_floor", lambda *_: arb(10) ** 300),
    ]
    for lie in lies:
        with mock.patch.object(*lie):
            yield check.check(*files[0][:2]).verdict.name != "VOID"
            if lie[0] is linear:  # also where one floor is enough, as in none of the files
                yield not _refuses(_controlled_floor)
