"""Two checkers that share neither code nor method must not contradict each other."""

import collections
import copy
import itertools
import subprocess
import sys
from typing import NamedTuple

import mpmath
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

from copyreg_jax.certificates import make as maker, minimizers
from copyreg_jax.checker import check as checker, format
from copyreg_jax.checker.data import Dense
from tests.checker import slow_checker as slow
from tests.checker.forgeries import at, nudged, other

SEEDS = range(60)
CONVEX = 40  # from this seed on, L is often convex
CERTIFIED = "CERTIFIED"


class Case(NamedTuple):
    """A certificate and its instance, and the verdicts of both checkers on each claim."""

    seed: int
    document: dict
    instance: object
    fast: dict
    slow: dict


def arrays_of(seed):
    """An instance; both readings, both metrics, w from small to large, dense and sparse."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    metric = ("squared", "cross-entropy")[seed // 2 % 2]
    A = rng.normal(size=(n, d)) * 10 ** rng.uniform(-1, 0.5)
    b = rng.dirichlet(np.ones(n))
    if seed % 10 == 9:
        b = rng.normal(size=n) if metric == "squared" else 3 * b  # off the simplex
    arrays = {
        "b": b,
        "protected": rng.permutation(n) < rng.integers(1, n),
        "w": 10 ** rng.uniform(-2, 0.7) * rng.uniform(0.5, 1.5, size=n),
        "gamma": np.array(0.0 if seed % 7 == 0 else 10 ** rng.uniform(-4, 0)),
        "reading": ("joint", "block")[seed % 2],
        "metric": metric,
    }
    if seed >= CONVEX:
        gamma = 10 ** rng.uniform(-9, -3) if seed % 3 == 0 else 0.0
        arrays.update(w=np.full(n, 10 ** rng.uniform(-0.3, 0.6)), gamma=np.array(gamma))
    if seed % 5:
        return {"A": A, **arrays}
    sparse = scipy.sparse.csr_array(np.where(rng.random(A.shape) < 0.7, A, 0.0))
    names = ("data", "indices", "indptr", "shape")
    return {**{f"A_{name}": np.array(getattr(sparse, name)) for name in names}, **arrays}


def floats(numbers):
    return np.array([[entry.lo / slow.ONE for entry in row] for row in numbers])


def state_at(data, x):
    return slow.Checker({"x": np.asarray(x).tolist()}, data).point


def minimizer(data, start):
    """A local minimizer of L, about, by the derivatives of the slow checker."""

    def work(x):
        state = state_at(data, x)
        if state.value is None:
            return np.inf, np.zeros(data.d)
        return state.value.lo / slow.ONE, floats([state.gradient])[0]

    with np.errstate(all="ignore"):
        return scipy.optimize.minimize(work, start, jac=True, options={"gtol": 1e-9}).x


def fast_verdicts(certificate, instance):
    """The checker's lines, by claim."""
    found = collections.defaultdict(list)
    for line in checker.check(certificate, instance).lines:
        verdict, text = line.split(maxsplit=1)
        claim = text.split(":")[0] if ":" in text else "bounds"
        if text.startswith("hess L"):
            claim = "local" if text.endswith("within radius") else "global"
        found[claim].append(verdict)
    return {claim: slow.worst(verdicts) for claim, verdicts in found.items()}


def judge(document, instance, path):
    """Both checkers' verdicts on a document."""
    path.write_bytes(format.canonical(document))
    return fast_verdicts(path, instance), slow.check(path, instance)[1]


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """(seed, instance file, point): four of five points are minimizers."""
    folder, found = tmp_path_factory.mktemp("instances"), []
    for seed in SEEDS:
        path = folder / f"{seed}.npz"
        np.savez(path, **arrays_of(seed))
        data = slow.Data(path)
        start = np.random.default_rng(seed).normal(size=data.d) * 0.1
        found.append((seed, path, minimizer(data, start) if seed % 5 else start))
    return found


ARITHMETICS = {"balls": (minimizers, "_LOCAL_BITS", (128,)), "floats": (maker, "_LARGE", 0)}
"""What makes the maker use one arithmetic on these small instances, as far as it can."""


@pytest.fixture(scope="module", params=ARITHMETICS)
def cases(request, instances, tmp_path_factory):
    """Certificates made in balls, and in the float64 intervals that are meant for large A."""
    folder, found = tmp_path_factory.mktemp("certificates"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*ARITHMETICS[request.param])
        for seed, instance, x in instances:
            document = maker.certify(instance, x).document
            verdicts = judge(document, instance, folder / f"{seed}.json")
            found.append(Case(seed, document, instance, *verdicts))
    claims = [case.document["claims"]["local"] for case in found]
    used = {claim["bits"] for claim in claims if claim} | {case.document["bits"] for case in found}
    assert (53 in used) is (request.param == "floats")
    return found


@pytest.mark.slow
def test_they_agree_on_everything_at_the_point(cases):
    for case in cases:
        for claim in ("bounds", "point", "level_set", "paper"):
            assert case.slow.get(claim) == case.fast.get(claim), (case.seed, claim)


@pytest.mark.slow
def test_they_agree_on_the_minimizers(cases):
    """The slow one may give up; it hardly ever does."""
    counts = collections.Counter()
    for case, claim in itertools.product(cases, ("local", "global")):
        fast, other = case.fast.get(claim), case.slow.get(claim)
        assert other in (fast, "UNDECIDED"), (case.seed, claim)
        kind = case.document["instance"]["reading"], case.document["instance"]["metric"]
        counts[claim, other] += 1
        counts[claim, other, kind] += 1
    for kind in itertools.product(("joint", "block"), ("squared", "cross-entropy")):
        assert counts["local", CERTIFIED, kind] >= 5
    assert counts["global", CERTIFIED] >= 8
    assert counts["local", "UNDECIDED"] + counts["global", "UNDECIDED"] <= 1


def test_the_gradient_is_tight(cases):
    """A claim of too large a gradient would be true; but it would show that something is wrong."""
    for case in cases:
        local = case.document["claims"]["local"]
        if local is not None and local["bits"] > 53:
            exact = slow.norm(point_of(case).gradient).lo / slow.ONE
            assert float.fromhex(local["gradient"]) <= exact * (1 + 1e-12)


# Forgeries of a claim, which is made false, or does not follow any more; of a certificate where it
# is neither they change nothing.


def point_of(case):
    x = [float.fromhex(v) for v in case.document["x"]]
    return state_at(slow.Data(case.instance), x)


def eigenvalue(case):
    """The smallest one of the Hessian at x."""
    return float(np.linalg.eigvalsh(floats(point_of(case).hessian()))[0])


def far_eigenvalue(case):
    """The same, far out, where f is at a vertex and L_reg all that is curved."""
    data = slow.Data(case.instance)
    weighted = floats(data.A) * floats([data.w]).T
    return float(np.linalg.eigvalsh(weighted.T @ weighted)[0])


def move(key, change):
    """A forgery of one number."""
    return lambda claim, _: claim.update({key: change(claim[key])})


def scaled(key, factor):
    return move(key, lambda text: (float.fromhex(text) * factor).hex())


def larger_tau(point, case):
    point["tau"] = nudged(case.document["bounds"]["margin"][1], 1)


def larger_mu(claim, case):
    claim["mu"] = (eigenvalue(case) * (1 + 1e-9)).hex()


def smaller_gradient(local, case):
    exact = slow.norm(point_of(case).gradient).lo / slow.ONE
    local["gradient"] = (exact * (1 - 1e-9)).hex()


def huge_radius(local, case):
    if float.fromhex(local["mu"]) > 1.01 * far_eigenvalue(case):
        local["radius"] = (1e6).hex()


def thin_interval(key):
    def forge(local, _):
        if local["distance"] != "0x0.0p+0":
            local[key] = [local[key][0], nudged(local[key][0], 1)]

    return forge


def thin_bound(document, _):
    document["bounds"]["margin"] = [document["bounds"]["margin"][0]] * 2


def flipped(holder, _):
    if holder["direction"] != "undecided":
        at("direction", by=other("suppressed", "amplified"))(holder)


FORGERIES = {
    "tau above the margin": ("point", larger_tau),
    "level-set tau an ulp larger": ("level_set", move("tau", lambda text: nudged(text, 1))),
    "level too low": ("level_set", scaled("value", 1 - 1e-9)),
    "global level too low": ("global", scaled("level", 1 - 1e-9)),
    "mu above an eigenvalue": ("local", larger_mu),
    "global mu above an eigenvalue": ("global", larger_mu),
    "gradient too small": ("local", smaller_gradient),
    "distance too small": ("local", scaled("distance", 1 - 1e-9)),
    "radius too small": ("local", scaled("radius", 2.0**-200)),
    "radius absurd": ("local", huge_radius),
    "margin interval shrunk": ("local", thin_interval("margin")),
    "mass interval shrunk": ("local", thin_interval("protected_mass")),
    "margin bound shrunk": ("bounds", thin_bound),
    "direction flipped": ("bounds", flipped),
    "direction at the minimizer flipped": ("local", flipped),
    "another eps_2": ("paper", move("eps_2", lambda _: (0.5).hex())),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", FORGERIES)
def test_neither_certifies_a_forgery(name, cases, tmp_path):
    (claim, forge), tried = FORGERIES[name], 0
    for case in cases:
        document = copy.deepcopy(case.document)
        holder = document if claim == "bounds" else document["claims"][claim]
        if holder is not None:
            forge(holder, case)
        if document != case.document and tried < 6:
            tried += 1
            for found in judge(document, case.instance, tmp_path / "forged.json"):
                assert found[claim] != CERTIFIED, (case.seed, found)
    assert tried >= 3


# The slow checker's own parts


def test_other_data_and_damage_are_void(cases, tmp_path):
    one, two = [case for case in cases if set(case.slow.values()) == {CERTIFIED}][:2]
    path = tmp_path / "c.json"
    path.write_bytes(format.canonical(one.document))
    assert slow.check(path, one.instance)[0] == "CERTIFIED"
    assert slow.check(path, two.instance)[0] == "VOID"
    assert slow.check(path, tmp_path / "none.npz")[0] == "VOID"
    path.write_bytes(format.canonical(one.document).replace(b"0x1", b"0x2", 1))
    assert slow.check(path, one.instance)[0] == "VOID"


def test_the_command_line(cases, tmp_path):
    case = next(case for case in cases if set(case.slow.values()) == {CERTIFIED})
    path = tmp_path / "c.json"
    path.write_bytes(format.canonical(case.document))
    command = [sys.executable, "-m", "tests.checker.slow_checker", path, case.instance]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1] == CERTIFIED


def test_hashes_of_several_pieces():
    A = np.random.default_rng(0).normal(size=(2**19 + 1, 2))
    parts = slow.hash_part("d", A.ravel().tolist(), A.shape) + slow.hash_part("q", A.shape, (2,))
    assert slow.hashlib.sha256(parts).hexdigest() == Dense(A).hash()


@pytest.mark.parametrize("name", ["exp", "log", "sqrt"])
def test_functions_of_intervals(name):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=200) * 10.0 ** rng.uniform(-30, 2, size=200)
    for number in np.abs(numbers) if name != "exp" else numbers:
        found = getattr(slow.Interval.of(float(number)), name)()
        with mpmath.workprec(1000):
            exact = getattr(mpmath, name)(mpmath.mpf(float(number))) * slow.ONE
            assert found.lo <= exact <= found.hi
            assert found.hi - found.lo <= 8 + exact / 2**380 + slow.ONE / abs(number) / 2**380
