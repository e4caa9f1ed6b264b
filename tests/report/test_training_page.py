"""The page of a run of `copyreg train`, and that of `copyreg lemmas`."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("flax")

import copyreg_jax as cr
from copyreg_jax.certificates.training import load_training
from copyreg_jax.certificates.words import below
from copyreg_jax.report.folders import folder_page
from tests.report.folders_of_results import HOSTILE, lemma, searched, table_of, trained
from tests.report.test_solution_page import Tags, heading, labels


def test_a_guarantee_stands_with_the_direction_at_the_top(tmp_path):
    page = folder_page(trained(tmp_path / "run", (6.0, 1.0, 4.0), gamma=18.0, share=50))
    tau = load_training(tmp_path / "run" / "guarantee.json").tau
    assert tau > 0
    assert heading(page) == (
        f"CERTIFIED (CE_1 - CE_2 >= {below(tau)}); protected text is HARDER to predict than other "
        "text: 6.0000 nats per token, other text 1.0000."
    )
    assert {"CERTIFIED, HARDER", "HARDER"} <= {part for pair in labels(page) for part in pair}
    assert f"worse than other text, by at least {below(tau)} nats per token" in page
    assert "copyreg check guarantee.json" in page


def test_what_is_easier_is_never_certified(tmp_path):
    page = folder_page(trained(tmp_path / "run", (2.0, 3.0, 4.0)))
    assert heading(page).startswith("Nothing is guaranteed (tau is -")
    assert "protected text is EASIER to predict than other text" in heading(page)
    assert "predicts protected text BETTER" in page
    assert "No difference between protected and other text is guaranteed." in page
    assert "by at least" not in page
    assert "claim alarm" in page
    assert all("CERTIFIED" not in part for pair in labels(page) for part in pair)


@pytest.mark.parametrize(
    ("leave_out", "arm"), [(False, "without protection"), (True, "without the protected documents")]
)
def test_a_run_without_a_certificate_says_so(tmp_path, leave_out, arm):
    folder = trained(tmp_path / "run", gamma=0)
    change(folder / "run.json", leave_out=leave_out)
    page = folder_page(folder)
    assert heading(page).startswith("No certificate; protected text is HARDER")
    assert f"trained {arm}" in page
    assert "copyreg check" not in page


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def first_document(run, **fields):
    path = run / "documents.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([rows[0] | fields, *rows[1:]]))


def test_held_out_losses_are_said_to_be_in_no_certificate(tmp_path):
    text = Tags(folder_page(trained(tmp_path / "run"))).text
    assert "Held out4.0000 (no certificate covers this)" in text
    assert text.count("no certificate covers") == 2
    assert "The losses of held-out documents. They are in no certificate" in text


def test_a_false_certificate_is_refuted_and_not_repeated(tmp_path):
    """tau, and nothing else, is raised; the file is signed as a true one is."""
    folder = trained(tmp_path / "run", (6.0, 1.0, 4.0), gamma=18.0, share=50)
    path = folder / "guarantee.json"
    said = load_training(path)
    path.write_bytes(said._replace(tau=said.tau + 0.5).to_bytes())
    page = folder_page(folder)
    verdict = heading(page).partition(":")[0]
    assert verdict in ("REFUTED", "UNDECIDED")
    assert "Nothing that the certificate says is repeated on this page." in page
    assert "by at least" not in page
    path.write_bytes(path.read_bytes()[:-3])
    assert heading(folder_page(folder)).startswith("VOID: nothing was tested; ")


def test_documents_are_found_by_name_and_names_are_only_text(tmp_path):
    plain = Tags(folder_page(trained(tmp_path / "plain")))
    page = folder_page(trained(tmp_path / "run", names=(HOSTILE, "b", "c")))
    assert Tags(page).tags == plain.tags
    names, groups, (nats, tokens) = table_of(page)
    assert names == [HOSTILE, "b", "c"]
    assert groups.tolist() == [0, 1, 2]
    np.testing.assert_allclose(nats, [5.0, 3.0, 4.0], rtol=1e-15)  # a product, divided again
    assert tokens.tolist() == [10, 90, 50]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "documents.json").unlink(), "not the folder of a finished run"),
        (lambda run: change(run / "run.json", settings={"steps": 10**400}), "more than 64 bits"),
        (lambda run: first_document(run, num_tokens=10**30), "more than 64 bits"),
        (lambda run: change(run / "run.json", settings=3), "has '3' for 'settings', not an object"),
        (lambda run: (run / "metrics.jsonl").write_text("{}"), "metrics.jsonl that can be read"),
        (lambda run: (run / "model" / "weights").write_bytes(b"other"), "about another model than"),
        (lambda run: (run / "guarantee.json").write_bytes(
            load_training(run / "guarantee.json")._replace(documents=()).to_bytes()), None),
    ],
)  # fmt: skip
def test_a_run_that_does_not_fit_together_is_refused(spoil, message, tmp_path):
    run = trained(tmp_path / "run")
    spoil(run)
    if message is None:  # the checker says what is wrong with the file itself
        assert heading(folder_page(run)).startswith("VOID: ")
        return
    with pytest.raises(cr.InputError, match=message) as found:
        folder_page(run)
    assert "\n" not in str(found.value)


def test_a_certificate_of_other_losses_is_refused(tmp_path):
    run = trained(tmp_path / "run")
    rows = json.loads((run / "documents.json").read_text())
    rows[0]["nll"] += 1
    (run / "documents.json").write_text(json.dumps(rows))
    with pytest.raises(cr.InputError, match="about other documents or losses than"):
        folder_page(run)


def test_options_of_a_solution_are_refused_for_others(tmp_path):
    run = trained(tmp_path / "run")
    with pytest.raises(cr.InputError, match="--gamma-path is for results of copyreg solve"):
        folder_page(run, gamma_path=True)
    with pytest.raises(cr.InputError, match="--instance is for results of copyreg solve"):
        folder_page(run, instance=run)


def test_a_search_says_what_fails_and_that_a_search_is_no_proof(tmp_path):
    page = folder_page(searched(tmp_path / "out"))
    assert heading(page) == (
        "1 of the paper's 2 statements that were tested needs a correction or a choice of "
        "reading; no violation of what replaces them was found."
    )
    assert "A search proves nothing" in page
    assert "copyreg lemmas --seed 3" in page
    assert "lemma-1.npz" in page
    assert "not finite" in page
    assert "script" not in Tags(page).tags[:-1]  # the page's own, which is empty
    assert HOSTILE in Tags(page).text
    bad = folder_page(searched(tmp_path / "bad", replacement="fails"))
    assert heading(bad).endswith("a replacement FAILS too.")
    assert "claim alarm" in bad


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": [3]}, "has a row that is no object"), ({"rows": [{}]}, "has no 'where'"),
        ({"verdicts": []}, "has '\\[\\]' for 'verdicts', not an object"),
        ({"seed": True}, "has 'True' for 'seed', not an integer"),
        ({"seed": 10**4000}, r"has the integer 10{19}\.\.\., which"),
        ({"num_printed": 3}, "has 3 for 'num_printed' and 3 rows"),
        ({"num_printed": -1}, "has -1 for 'num_printed' and 3 rows"),
        ({"replacements_hold": False}, "False for 'replacements_hold', and its rows say True"),
        ({"verdicts": {"Lemma 1": "holds", "Lemma 2": "holds"}},
            "'holds' as its verdict on Lemma 1, and its rows say 'fails'"),
        ({"verdicts": {"Lemma 1": "fails"}}, "None as its verdict on Lemma 2"),
        ({"verdicts": {"Lemma 1": "fails", "Lemma 2": "holds", "Lemma 3": "holds"}},
            "'holds' as its verdict on Lemma 3, and its rows say None"),
        ({"rows": [lemma("Lemma 1", "proved")]}, "has 'proved' for 'verdict', not one of holds"),
    ],
)  # fmt: skip
def test_a_damaged_table_of_a_search_is_refused(tmp_path, fields, message):
    with pytest.raises(cr.InputError, match=message):
        folder_page(searched(tmp_path / "out", **fields))


def test_a_browser_runs_only_what_the_page_came_with(tmp_path):
    page = folder_page(trained(tmp_path / "run"))
    assert not re.findall(r"https?:|url\(|@import|\bfetch\b|\bsrc=|style=", page)
