"""Any value of a document replaced by junk: no checker crashes, none certifies what is false."""

import copy
import json

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.certificates.training import certify_training, save_training
from copyreg_jax.checker import format
from copyreg_jax.checker.__main__ import check_file
from copyreg_jax.checker.guarantee import DocumentLoss
from copyreg_jax.neighbours.ledger import ledger
from copyreg_jax.neighbours.naf_certificate import certify_naf
from tests.support.registry import cases, random_problem

FORMS = "joint", "block", "sparse"
"""Of certificates about a point."""

MAY_CHANGE = {
    **{form: {"producer", "claims", "bounds", "bits"} for form in FORMS},
    "ledger": {"producer", "model", "safe", "rows", "naf_bits", "mass_bits", "distance"},
    "naf": {"producer", "k_bits"},
    "training": {"documents", "gamma", "loss", "protected", "protected_range", "unprotected", "tau",
                 "model"},
}  # fmt: skip
"""What a document may still say otherwise when it is CERTIFIED: names, and weaker statements."""

INTERVALS = {
    "ledger": ("naf_bits", "mass_bits", "distance"),
    "naf": ("k_bits",),
    "training": ("loss", "protected", "protected_range", "unprotected"),
}


def intervals(name, document):
    """The intervals that a document states."""
    found = [document[key] for key in INTERVALS.get(name, ())]
    found += document["bounds"].values() if name in FORMS else ()
    found += document["rows"] if name == "ledger" else ()
    return [[float.fromhex(end) for end in interval] for interval in found]


def promise(name, document):
    """The margin that a document promises on a level set; None if it does not."""
    if name in FORMS:
        document = document["claims"]["level_set"] or {}
    tau = document.get("tau")
    return None if tau is None else float.fromhex(tau)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({}),
    st.floats(allow_nan=False, allow_infinity=False).map(float.hex), st.just("nan"),
    st.floats(-3, 3).map(float.hex), st.sampled_from(["inf", "-inf", "\ud800", 10**400, [[]]]),
)  # fmt: skip


def near(value):
    """Numbers close to a number in hexadecimal digits, or anything."""
    try:
        number = float.fromhex(value)
    except (TypeError, ValueError):
        return JUNK
    return st.floats(-1, 1).map(lambda by: (number * (1 + by**3)).hex())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A document of each format, and the file that it is about."""
    folder = tmp_path_factory.mktemp("made")
    problem = random_problem(0, 12, 2)
    cr.save_instance(folder / "of.npz", problem)
    np.savez(folder / "table.npz", log_p=np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]))
    table = [DocumentLoss("a", True, 100, 450.0), DocumentLoss("b", False, 900, 1800.0)]
    save_training(certify_training(table, 4.0), folder / "training.json")
    documents = {
        "ledger": (ledger(problem).document, folder / "of.npz"),
        "naf": (certify_naf(np.load(folder / "table.npz")["log_p"]).document, folder / "table.npz"),
        "training": (json.loads((folder / "training.json").read_text()), None),
    }
    for form in FORMS:
        problem = random_problem(0, 12, 2, reading="block" if form == "block" else "joint")
        if form == "sparse":
            A = scipy.sparse.csr_array(np.asarray(problem.A))
            problem = cr.CopyrightRegression(A, problem.b, problem.protected, w=1.0)
        cr.save_instance(folder / f"{form}.npz", problem)
        made = cr.certify(problem, cr.solve(problem).x, tau=-1.0)
        documents[form] = made.document, folder / f"{form}.npz"
    return documents


def test_documents_as_they_are(made, tmp_path):
    for document, about in made.values():
        (tmp_path / "it.json").write_bytes(format.canonical(document))
        assert check_file(tmp_path / "it.json", about).verdict is cr.Verdict.CERTIFIED


@pytest.mark.parametrize("name", MAY_CHANGE)
@cases(300)
@given(drawn=st.data())
def test_an_edit_never_crashes_and_never_certifies_more(name, drawn, made, tmp_path_factory):
    original, about = made[name]
    document = copy.deepcopy(original)
    parent, key = document, drawn.draw(st.sampled_from(sorted(document)))
    while isinstance(parent[key], dict | list) and parent[key] and drawn.draw(st.booleans()):
        parent = parent[key]
        keys = sorted(parent) if isinstance(parent, dict) else range(len(parent))
        key = drawn.draw(st.sampled_from(list(keys)))
    parent[key] = drawn.draw(st.one_of(JUNK, near(parent[key])))
    path = tmp_path_factory.mktemp("edit") / "it.json"
    path.write_bytes(format.canonical(document))
    found = check_file(path, about)
    assert not any("the checker failed" in line for line in found.lines)
    if found.verdict is not cr.Verdict.CERTIFIED:
        return
    changed = {key for key in original if document[key] != original[key]} - {"sha256"}
    assert changed <= MAY_CHANGE[name]
    if changed & {"documents", "gamma"}:  # a certificate about something else, proved anew
        return
    pairs = zip(intervals(name, document), intervals(name, original), strict=True)
    for (low, high), (true_low, true_high) in pairs:
        assert low <= true_high
        assert high >= true_low
    stated, promised = promise(name, document), promise(name, original)
    # The maker rounds its promises down; 1e-6 of them is more room than that takes.
    assert stated is None or stated <= promised + 1e-6 * abs(promised)
