"""Fuzzing of the checker with atheris (`pip install atheris`, not a dependency of anything else).

    python tests/checker/fuzz_check.py FOLDER -max_total_time=300

FOLDER, which must exist, starts with the inputs of fuzz_corpus.txt and gets the new ones. Whatever
the bytes, the checker must not crash, must answer within a second, and must not certify what is
false of the base instance. test_fuzz_corpus.py tries the corpus again, without atheris.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from copyreg_jax.checker import check as checker, format
from copyreg_jax.checker.verdicts import Verdict

HERE = Path(__file__).parent
BASE = HERE / "fuzz_base.json", HERE / "fuzz_base.npz"
CORPUS = [bytes.fromhex(line) for line in (HERE / "fuzz_corpus.txt").read_text().split()]
CURVATURE = 38.0  # a little above hess L (1 x 1) at the x of the base certificate
_KINDS = ("certificate", "edited certificate", "edited certificate, mended", "instance", "edited")


def try_one(data: bytes) -> Verdict:
    """Check what the bytes stand for; AssertionError if the answer is wrong."""
    kind, rest = _KINDS[data[0] % len(_KINDS)] if data else "certificate", data[1:]
    certificate, instance = (path.read_bytes() for path in BASE)
    if kind == "certificate":
        certificate = rest
    elif kind == "instance":
        instance = rest
    elif kind == "edited":
        instance = _edit(instance, rest)
    else:
        certificate = _edit(certificate, rest)
    if kind.endswith("mended"):
        try:
            certificate = format.canonical(json.loads(certificate))
        except (ValueError, AttributeError, RecursionError, TypeError):
            return Verdict.VOID
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "c.json"), Path(folder, "i.npz")
        for path, content in zip(paths, (certificate, instance), strict=True):
            path.write_bytes(content)
        result = checker.check(*paths)
        assert not any("the checker failed" in line for line in result.lines), result.lines
        if result.verdict is Verdict.CERTIFIED:
            _assert_true(format.read_certificate(paths[0]))
        return result.verdict


def _edit(content: bytes, edits: bytes) -> bytes:
    """Three bytes each: a place, and what to put there; above 250, cut out or repeat a stretch."""
    edited = bytearray(content)
    for i in range(0, len(edits) - 2, 3):
        place = int.from_bytes(edits[i : i + 2], "little") % max(len(edited), 1)
        new = edits[i + 2]
        if new > 252:
            del edited[place : place + 7]
        elif new > 250:
            edited[place:place] = edited[place : place + 40]
        elif edited:
            edited[place] = new
    return bytes(edited)


def _assert_true(said: format.Statements) -> None:
    """What was certified is compatible with the base certificate, whose bounds are tight."""
    base = format.read_certificate(BASE[0])
    assert (said.x == base.x).all()
    for name, (low, high) in base.bounds.items():
        assert said.bounds[name].lower <= high
        assert said.bounds[name].upper >= low
    assert said.direction in (base.direction, "undecided")
    assert said.point.tau is None or said.point.tau <= base.bounds["margin"].upper
    if said.level_set is not None:
        assert said.level_set.value >= base.bounds["value"].lower
        assert said.level_set.tau <= base.bounds["margin"].upper
    if said.local is not None and base.local is not None:
        assert 0 < said.local.mu <= CURVATURE
        assert said.local.margin.lower <= base.local.margin.upper
        assert said.local.margin.upper >= base.local.margin.lower
    if said.global_ is not None:
        assert 0 < said.global_.mu <= CURVATURE


if __name__ == "__main__":
    import atheris

    def timed(data: bytes) -> None:
        start = time.perf_counter()
        try_one(data)
        assert time.perf_counter() - start < 1

    for i, content in enumerate(CORPUS):
        Path(sys.argv[1], f"corpus-{i}").write_bytes(content)
    atheris.instrument_all()
    atheris.Setup(sys.argv, timed)
    atheris.Fuzz()
