"""The checker: says no to everything that is not so, and never crashes."""

import concurrent.futures
import itertools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.sparse
from flint import arb, ctx

import copyreg_jax as cr
from copyreg_jax.checker import check, data, format, linear, proofs, survey, verdicts
from copyreg_jax.checker.__main__ import main
from copyreg_jax.checker.archive import read_arrays
from copyreg_jax.checker.data import make_instance
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.problems.objective import METRICS
from tests.checker.forgeries import at, nudged, other
from tests.support.registry import READINGS, random_problem


@pytest.fixture(scope="module", params=[*READINGS, "sparse"])
def files(request, tmp_path_factory):
    """A valid certificate and its instance."""
    folder = tmp_path_factory.mktemp("files")
    reading = "joint" if request.param == "sparse" else request.param
    problem = random_problem(4, 10, 2, reading=reading, w=0.1)
    if request.param == "sparse":
        problem = cr.CopyrightRegression(
            scipy.sparse.csr_array(np.asarray(problem.A)), problem.b, problem.protected, w=0.1
        )
    solution = cr.solve(problem)
    certificate = cr.certify(problem, solution.x)
    assert certificate.verdict is cr.Verdict.CERTIFIED
    certificate.save(folder / "certificate.json")
    cr.save_instance(folder / "instance.npz", problem)
    return folder / "certificate.json", folder / "instance.npz"


@pytest.fixture
def document(files):
    return json.loads(files[0].read_text())


@pytest.fixture
def check_other(files, tmp_path):
    """Check another document, or bytes, in place of the certificate."""

    def check_it(content):
        path = tmp_path / "changed.json"
        path.write_bytes(content if isinstance(content, bytes) else format.canonical(content))
        return cr.check(path, files[1])

    return check_it


def why_void(result):
    assert result.verdict is cr.Verdict.VOID, result.lines
    (reason,) = result.lines
    return reason


@pytest.mark.quick(1)
def test_confirms_a_valid_certificate(files):
    result = cr.check(*files)
    assert result.verdict is cr.Verdict.CERTIFIED, result.lines
    assert all(line.startswith("CERTIFIED") for line in result.lines)


@pytest.mark.quick(1)
@pytest.mark.parametrize("seed", range(12))
def test_any_changed_byte_is_noticed(seed, tmp_path):
    """Every second of 12 certificates, of all kinds: reading comes first, and already refuses."""
    reading, metric = READINGS[seed % 2], METRICS[seed // 2 % 2]
    problem = random_problem(seed, 6 + seed % 3, 1 + seed % 2, reading=reading, w=2.0, gamma=0.01)
    problem = problem.replace(metric=metric)
    tau = None if seed % 3 else -1.0
    path = tmp_path / "c.json"
    cr.certify(problem, cr.solve(problem).x, tau, local=seed % 5 != 0).save(path)
    raw = path.read_bytes()
    format.read_certificate(path)
    change = (1, 0x20, 0x80, 0xFF)[seed % 4]
    for position in range(seed // 4 % 2, len(raw), 2):
        changed = bytearray(raw)
        changed[position] ^= change
        path.write_bytes(changed)
        with pytest.raises(VoidError):
            format.read_certificate(path)


@pytest.mark.slow
def test_any_changed_byte_of_the_data_is_noticed(files, tmp_path):
    certificate, instance = files
    raw = instance.read_bytes()
    path = tmp_path / "changed.npz"
    for position in range(0, len(raw), 3):
        changed = bytearray(raw)
        changed[position] ^= 0x11
        path.write_bytes(changed)
        result = cr.check(certificate, path)
        if result.verdict is not cr.Verdict.VOID:
            # Bytes of the .zip frame (dates, say) that carry no data. A joint reading may be lost,
            # for it is the default.
            found = [make_instance(**read_arrays(name)) for name in (path, instance)]
            pairs = zip(*map(jax.tree.leaves, found), strict=True)
            assert all(itertools.starmap(np.array_equal, pairs))


# A forger who also mends the digest. Each change makes a statement false or unproved.


MORE_DIGITS = (
    ("x", 0), ("bounds", "ell_1", 0), ("claims", "level_set", "tau"),
    ("claims", "level_set", "value"), ("claims", "paper", "eps_2"), ("claims", "paper", "tau_c", 1),
)  # fmt: skip


def shift(*place, ulps):
    return at(*place, by=lambda text: nudged(text, ulps))


FORGERIES = {
    **{f"{name} lower end too high": shift("bounds", name, 0, ulps=9) for name in format.BOUNDS},
    **{f"{name} upper end too low": shift("bounds", name, 1, ulps=-9) for name in format.BOUNDS},
    "huge tau": lambda d: d["claims"]["point"].update(tau=(2.0).hex()),
    "certified said to be refuted": lambda d: d["claims"]["point"].update(verdict="REFUTED"),
    "smaller level": shift("claims", "level_set", "value", ulps=-9),
    "other paper verdict": at("claims", "paper", "verdict", by=other("CERTIFIED", "REFUTED")),
    "other hypothesis verdict": lambda d: d["claims"]["paper"].update(hypothesis="REFUTED"),
    "moved tau_c": lambda d: d["claims"]["paper"].update(tau_c=[(5.0).hex(), (6.0).hex()]),
    "another point": lambda d: d["x"].__setitem__(0, (1.25).hex()),
    "another gamma": lambda d: d["instance"].update(gamma=(0.5).hex()),
    "another n1": lambda d: d["instance"].update(n1=4),
    "another reading": at("instance", "reading", by=other("joint", "block")),
    "another hash": lambda d: d["instance"]["sha256"].update(w="0" * 64),
    "too few bits": lambda d: d.update(bits=52),
    "absurd bits": lambda d: d.update(bits=10**9),
    "bits as bool": lambda d: d.update(bits=True),
    "empty interval": lambda d: d["bounds"]["margin"].reverse(),
    "nan bound": lambda d: d["bounds"].update(margin=["nan", "nan"]),
    "infinite point": lambda d: d["x"].__setitem__(0, "inf"),
    "number for text": lambda d: d["x"].__setitem__(0, 1.0),
    "long x": lambda d: d["x"].append("0x0p0"),
    "x no list": lambda d: d.update(x={}),
    "no claims": lambda d: d.pop("claims"),
    "no bounds": lambda d: d["bounds"].pop("margin"),
    "claims a list": lambda d: d.update(claims=[]),
    "no such verdict": lambda d: d["claims"]["point"].update(verdict="FINE"),
    "no such direction": lambda d: d.update(direction="down"),
    "another format": lambda d: d.update(format="copyreg-certificate/99"),
    **{
        f"{'.'.join(map(str, place))} in more digits than a float has": at(
            *place, by=lambda text: text.replace("p", "00001p")
        )
        for place in MORE_DIGITS
    },
    "tau below all floats": lambda d: d["claims"]["point"].update(tau="0x1p-1080"),
    "tau in other spelling": lambda d: d["claims"]["point"].update(tau="0"),
    "spaces": lambda d: d["x"].__setitem__(0, " " + d["x"][0]),
    "infinity spelled out": lambda d: d["bounds"].update(margin=["-infinity", "infinity"]),
    "one more claim": lambda d: d["claims"].update(global_minimum={"verdict": "CERTIFIED"}),
    "one more bound": lambda d: d["bounds"].update(gradient_norm=["0x0.0p+0", "0x0.0p+0"]),
    "one more key": lambda d: d.update(note="proved by me"),
    "n1 as float": lambda d: d["instance"].update(n1=float(d["instance"]["n1"])),
    "producer no text": lambda d: d.update(producer=None),
    "text that can't be printed": lambda d: d["instance"].update(reading="\ud800"),
    "level-set tau above the margin of x": lambda d: d["claims"]["level_set"].update(
        tau=nudged(d["bounds"]["margin"][1], 3)
    ),
    "no protected row": lambda d: d["instance"].update(n1=0),
    "negative size": lambda d: d["instance"].update(n=-3),
    "more rows than there are": lambda d: d["instance"].update(n=10**400),
    "negative gamma": lambda d: d["instance"].update(gamma=(-1.0).hex()),
    "hash no text": lambda d: d["instance"]["sha256"].update(w=[1]),
    "terminal codes": lambda d: d.update(producer="\x1b[2JCERTIFIED"),
    "line breaks": lambda d: d.update(producer="maker\nCERTIFIED"),
    "other letters": lambda d: d.update(producer="maker\u2028CERTIFIED"),
    "endless producer": lambda d: d.update(producer="x" * 201),
    "unhashable verdict": lambda d: d["claims"]["point"].update(verdict=[]),
    "overflowing hex": lambda d: d["x"].__setitem__(0, "0x1p999999"),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_not_certified(name, document, check_other):
    FORGERIES[name](document)
    result = check_other(document)
    assert result.verdict is not cr.Verdict.CERTIFIED, result.lines


def test_foreign_text_can_not_write_lines_of_its_own(document, check_other):
    document["instance"]["reading"] = "x\nCERTIFIED"
    reason = why_void(check_other(document))
    assert reason.isascii()
    assert "\n" not in reason


def test_claims_may_be_left_out(document, check_other):
    document["claims"].update(level_set=None, paper=None)
    assert check_other(document).verdict is cr.Verdict.CERTIFIED


def test_weaker_statements_stay_true(document, check_other):
    for name in format.BOUNDS:
        shift("bounds", name, 0, ulps=-5)(document)
        shift("bounds", name, 1, ulps=5)(document)
    shift("claims", "level_set", "tau", ulps=-5)(document)
    document["direction"] = "undecided"
    assert check_other(document).verdict is cr.Verdict.CERTIFIED


def test_an_honest_refusal_is_refuted(document, files, check_other):
    x = [float.fromhex(v) for v in document["x"]]
    certificate = cr.certify(cr.load_instance(files[1]), x, tau=1.0)
    assert check_other(certificate.document).verdict is cr.Verdict.REFUTED


NO_CERTIFICATES = (
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"1e999", b"9" * 5000,
    b'{"format": "copyreg-certificate/2"}',
    b'{"format": "copyreg-certificate/2", "format": "copyreg-certificate/2"}',
)  # fmt: skip


@pytest.mark.parametrize("content", NO_CERTIFICATES)
def test_files_that_are_no_certificates(content, check_other):
    assert why_void(check_other(content))


def test_truncated_certificates(files, check_other):
    raw = files[0].read_bytes()
    for length in range(0, len(raw), 97):
        assert check_other(raw[:length]).verdict is cr.Verdict.VOID


def test_duplicate_keys(files, check_other):
    raw = files[0].read_bytes()
    twice = raw.replace(b'{\n "bits"', b'{\n "bits": 256,\n "bits"', 1)
    assert twice != raw
    assert check_other(twice).verdict is cr.Verdict.VOID


def test_other_data_are_named(files, tmp_path):
    problem = cr.load_instance(files[1])
    for change, words in (
        ({"gamma": 0.2}, "gamma is 0x1.99"),
        ({"w": 2.0}, "the hash of w differs"),
        ({"metric": "cross-entropy"}, "metric is squared there and cross-entropy here"),
    ):
        cr.save_instance(tmp_path / "other.npz", problem.replace(**change))
        assert words in why_void(cr.check(files[0], tmp_path / "other.npz"))


def test_files_that_never_end_are_not_read(files, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in ("/dev/zero", tmp_path / "fifo", tmp_path):
        assert cr.check(path, files[1]).verdict is cr.Verdict.VOID
        assert cr.check(files[0], path).verdict is cr.Verdict.VOID
        with pytest.raises(cr.InputError, match=r"is neither a regular file|lacks A, b"):
            cr.load_instance(path)


@pytest.mark.parametrize("path", ["a\0b", None, 7])
def test_paths_that_are_none(path, files):
    assert cr.check(path, files[1]).verdict is cr.Verdict.VOID
    assert cr.check(files[0], path).verdict is cr.Verdict.VOID


def test_a_crash_is_no_verdict(files, monkeypatch):
    def crash(*_):
        raise MemoryError

    monkeypatch.setattr(proofs, "at_point", crash)
    assert why_void(cr.check(*files)) == "the checker failed: MemoryError()"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk, where there is /dev/full")
def test_an_unread_verdict_is_exit_code_2(files):
    command = [sys.executable, "-m", "copyreg_jax.checker", *files]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.DEVNULL, check=False)
    assert run.returncode == 2


def test_threads_do_not_disturb_each_other(files):
    before = ctx.prec
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: cr.check(*files), range(40)))
    assert {result.verdict for result in results} == {cr.Verdict.CERTIFIED}
    assert ctx.prec == before


@pytest.mark.slow
def test_wide_sparse_matrices_cost_what_they_hold(tmp_path):
    n, d = 50, 2_000_000  # dense: 800 MB
    A = scipy.sparse.csr_array((np.ones(n), (np.arange(n), np.arange(n) * 7)), shape=(n, d))
    problem = cr.CopyrightRegression(A, np.full(n, 1 / n), 10)
    x = np.linspace(-1, 1, d)
    certificate = cr.certify(problem, x)
    small = cr.CopyrightRegression(np.eye(n), np.full(n, 1 / n), 10)
    other = cr.certify(small, x[np.arange(n) * 7])
    assert certificate.document["bounds"] == other.document["bounds"]


def arrays_of(instance):
    with np.load(instance) as stored:
        return dict(stored)


BAD_INSTANCES = {
    "no key": (lambda a: a.pop("b"), "lacks b"),
    "two keys": (lambda a: (a.pop("w"), a.pop("gamma")), "lacks w, gamma"),
    "nan": (lambda a: a["b"].__setitem__(0, np.nan), "b must be finite"),
    "mask of ints": (lambda a: a.update(protected=a["protected"].astype(int)), "must be boolean"),
    "short w": (lambda a: a.update(w=a["w"][1:]), "must have shape"),
    "negative gamma": (lambda a: a.update(gamma=np.array(-1.0)), "gamma must be one number >= 0"),
    "all protected": (lambda a: a["protected"].fill(True), "must mark some rows"),
    "reading": (lambda a: a.update(reading=np.array("both")), "reading must be"),
    "no columns": (lambda a: a.update(A=np.zeros((10, 0))), "A is (10, 2) there, (10, 0) here"),
    "long double": (lambda a: a.update(b=a["b"].astype(np.longdouble)), "float32 or float64"),
}


@pytest.mark.parametrize("name", BAD_INSTANCES)
def test_instances_that_do_not_fit(name, files, tmp_path):
    arrays = arrays_of(files[1])
    change, words = BAD_INSTANCES[name]
    if "A_data" in arrays:
        arrays = {key: array for key, array in arrays.items() if not key.startswith("A_")}
        arrays["A"] = np.ones((10, 2))
    change(arrays)
    np.savez(tmp_path / "i.npz", **arrays)
    assert words in why_void(cr.check(files[0], tmp_path / "i.npz"))


def csr(values, indices, indptr, shape):
    return tuple(np.array(part) for part in (values, indices, indptr, shape))


@pytest.mark.parametrize(
    "A",
    [
        csr([1.0, 2.0], [1, 0], [0, 2, 2], [2, 2]),  # not increasing
        csr([1.0, 2.0], [1, 1], [0, 2, 2], [2, 2]),  # twice
        csr([1.0, 2.0], [0, 2], [0, 2, 2], [2, 2]),  # outside
        csr([1.0, 2.0], [-1, 0], [0, 2, 2], [2, 2]),
        csr([1.0, 2.0], [0, 1], [0, 2], [2, 2]),  # too few rows
        csr([1.0, 2.0], [0, 1], [0, 3, 2], [2, 2]),
        csr([1.0, np.nan], [0, 1], [0, 2, 2], [2, 2]),
        csr([1, 2], [0, 1], [0, 2, 2], [2, 2]),  # integers
        csr([1.0, 2.0], [0.0, 1.0], [0, 2, 2], [2, 2]),
        csr([], [], [0, 0, 0], [2, 0]),
        csr([1.0], [0], [0, 1, 1], [2, -5]),
        csr([1.0], [0], [0, 1, 1], [2, 2**62]),
        csr([1.0, 2.0], [0, 1], [0, 2, 2], [2, 2, 2]),
        np.ones(2),
        np.array([[1.0], [np.inf]]),
    ],
)
def test_matrices_that_are_none(A):
    b = np.array([0.5, 0.5])
    with pytest.raises(VoidError):
        make_instance(A, b, np.array([True, False]), b, np.array(0.1), "joint").description()


def test_truncated_and_pickled_instances(files, tmp_path):
    raw = files[1].read_bytes()
    path = tmp_path / "i.npz"
    for content in (b"", raw[: len(raw) // 2], raw[:-30], b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        assert cr.check(files[0], path).verdict is cr.Verdict.VOID
    np.savez(path, A=np.array([{}], dtype=object))
    assert cr.check(files[0], path).verdict is cr.Verdict.VOID
    np.save(tmp_path / "one.npy", np.ones(3))
    assert "holds one array" in why_void(cr.check(files[0], tmp_path / "one.npy"))


@pytest.mark.quick(1)
def test_exit_codes_in_a_fresh_process(document, files, tmp_path):
    def run(certificate, instance):
        command = [sys.executable, "-m", "copyreg_jax.checker", certificate, instance]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.returncode, found.stdout.splitlines()[-1]

    way = WAYS[document["direction"]]
    assert run(*files) == (0, f"CERTIFIED; {way}")
    assert run(files[0], tmp_path / "none.npz") == (2, "VOID")
    FORGERIES["huge tau"](document)
    (tmp_path / "c.json").write_bytes(format.canonical(document))
    assert run(tmp_path / "c.json", files[1]) == (1, f"REFUTED; {way}")


WAYS = {
    "suppressed": "the protected mass went DOWN.",
    "amplified": "the protected mass went UP. This is amplified, not suppressed.",
    "undecided": "whether the protected mass went up or down is not proved.",
}
"""What the last line says of each direction."""


@pytest.mark.parametrize(
    ("x", "stated", "direction"),
    [
        (-1.0, "suppressed", "suppressed"),
        (1.0, "amplified", "amplified"),
        (0.0, "undecided", "undecided"),
        (1.0, "undecided", "undecided"),
        (1.0, "suppressed", "undecided"),
    ],
)
def test_the_direction_is_the_one_that_is_stated_and_proved(x, stated, direction, tmp_path, capsys):
    """At x = 0 the protected row has the mass that it has in b."""
    problem = cr.CopyrightRegression([[1.0], [0.0]], [0.5, 0.5], 1, gamma=0.1, w=0.1)
    paths = tmp_path / "certificate.json", tmp_path / "instance.npz"
    cr.save_instance(paths[1], problem)
    said = cr.certify(problem, np.array([x]), local=False).document | {"direction": stated}
    paths[0].write_bytes(format.canonical(said))
    found = cr.check(*paths)
    assert found.direction == direction
    assert ("REFUTED   protected mass is suppressed" in found.lines) == (stated != direction)
    main(list(map(str, paths)))
    assert capsys.readouterr().out.splitlines()[-1] == f"{found.verdict.name}; {WAYS[direction]}"


def test_no_direction_is_said_where_nothing_was_tested(files, tmp_path):
    assert cr.check(files[0], tmp_path / "none.npz").direction is None


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="sets the flush-to-zero bit through glibc's fenv_t of x86-64",
)
def test_refuses_to_run_with_flush_to_zero(files):
    code = (
        "import ctypes, sys, copyreg_jax as cr\n"
        "import copyreg_jax.checker.check\n"
        "libm, env = ctypes.CDLL('libm.so.6'), (ctypes.c_uint32 * 8)()\n"
        "libm.fegetenv(env)\n"
        "env[7] |= 0x8040\n"  # FTZ and DAZ in MXCSR
        "libm.fesetenv(env)\n"
        "print(cr.check(*sys.argv[1:]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *files], capture_output=True, text=True, check=True
    )
    assert "VOID" in run.stdout
    assert "flush-to-zero is on" in run.stdout


@pytest.mark.parametrize(
    ("module", "name", "lie"),
    [
        (check, "protection", verdicts.Verdict.CERTIFIED),
        (linear, "eigenvalue_floor", arb(10) ** 300),
    ],
)
def test_the_controls_can_fail(module, name, lie, files, monkeypatch):
    """A checker that certifies every margin or every curvature finds itself out."""
    monkeypatch.setattr(module, name, lambda *_: lie)
    assert "the control failed" in why_void(cr.check(*files))


def test_one_floor_for_two_claims_is_controlled(tmp_path, monkeypatch):
    """Once, where the regularization dominates: no other matrix is made."""
    paths = tmp_path / "certificate.json", tmp_path / "instance.npz"
    problem = random_problem(4, 10, 2, w=30.0)
    certificate = cr.certify(problem, cr.solve(problem).x, tau=-1.0)
    assert certificate.local is not None
    assert certificate.is_global
    certificate.save(paths[0])
    cr.save_instance(paths[1], problem)
    controlled, control = [], linear.control_floor
    for module in (check, survey):
        monkeypatch.setattr(
            module, "control_floor", lambda *of: controlled.append(of) or control(*of)
        )
    assert cr.check(*paths).verdict.name == "CERTIFIED"
    assert len(controlled) == 1
    monkeypatch.setattr(linear, "eigenvalue_floor", lambda *_: arb(10) ** 300)
    assert "the control failed" in why_void(cr.check(*paths))


def test_minimizers_are_not_claimed_for_more_columns_than_are_checked(tmp_path):
    n, d = 4, data.MAX_DENSE_COLUMNS + 1
    A = scipy.sparse.csr_array((np.ones(n), (np.arange(n), np.arange(n))), shape=(n, d))
    problem = cr.CopyrightRegression(A, np.full(n, 1 / n), 2)
    certificate = cr.certify(problem, np.arange(d) * 1e-3, tau=-1.0)
    assert certificate.local is None
    claims = certificate.document["claims"]
    claims["global"] = {"bits": 53, "level": (1.0).hex(), "mu": (1.0).hex()}
    with pytest.raises(VoidError, match="not claimed beyond 2048 columns"):
        format.parse(certificate.document)
    claims["global"] = None
    format.parse(certificate.document)


def test_words_as_large_as_a_bomb_are_not_read(files, tmp_path):
    arrays = arrays_of(files[1])
    for name, content in (("reading", np.array("j" * 10**6)), ("gamma", np.ones(10**6))):
        np.savez_compressed(tmp_path / "i.npz", **{**arrays, name: content})
        why = why_void(cr.check(files[0], tmp_path / "i.npz"))
        assert why == f"{name} must be one number or word"


def test_other_rounding_is_refused(files, monkeypatch):
    monkeypatch.setattr(check.np, "ones", lambda n: np.full(n, 1 + 2.0**-52))
    assert "does not round to nearest" in why_void(cr.check(*files))
