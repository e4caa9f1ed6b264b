"""`copyreg train`, as a user runs it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("flax")
pytest.importorskip("tokenizers")

from flax import nnx

import copyreg_jax as cr
from copyreg_jax.certificates.training import load_training, save_training
from copyreg_jax.checker.guarantee import check_training
from copyreg_jax.cli.main import app
from copyreg_jax.lm import experiment
from copyreg_jax.lm.corpus import loading
from copyreg_jax.lm.corpus.canaries import Canaries
from copyreg_jax.lm.corpus.rows import make_rows
from copyreg_jax.lm.corpus.tokenizer import save_tokenizer, train_tokenizer
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.leakage.wording import SCORES
from copyreg_jax.lm.model_sources import load_model
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.hugging_face import save_pretrained

SMALL = [
    "--vocab-size", "300", "--width", "16", "--layers", "1", "--heads", "2", "--length", "32",
    "--batch-size", "8",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Forty documents of invented words, six of them secret, and an empty one."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(2, 6))) for _ in range(80)]
    path = tmp_path_factory.mktemp("corpus") / "text.jsonl"
    with path.open("w") as file:
        for i in range(40):
            text = " ".join(rng.choice(words, 120))
            line = {"text": text, "id": f"d{i}", "who": "ab"[i % 2], "secret": i < 6}
            file.write(json.dumps(line) + "\n")
        file.write(json.dumps({"text": " ", "id": "e", "who": "a", "secret": False}) + "\n")
    return path


def train(*arguments, command="train"):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", "from copyreg_jax.cli import main; main()", command,
         *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def refusal(*arguments):
    """The words with which a command, in this process, refuses its input."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(result.exception, cr.InputError), result.output
    return str(result.exception)


@pytest.mark.slow
def test_train_go_on_and_fine_tune(corpus, tmp_path):
    command = [corpus, "--protect-column", "secret", "--name-column", "id", "--target", 5, *SMALL]
    run = train(*command, "--out", tmp_path / "run", "--epochs", 2)
    assert run.returncode == 0, run.stderr
    assert "40 documents, 1 empty ones left out: 6 protected, 31 unprotected, 3 held" in run.stdout
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints", "curves.png", "documents.json", "guarantee.json",
        "metrics.jsonl", "model", "run.json", "settings.json",
    ]  # fmt: skip
    assert check_training(tmp_path / "run" / "guarantee.json").verdict is cr.Verdict.CERTIFIED

    # What is stated are the plain losses of the model that was written.
    documents = loading.load_documents(corpus, name="id").documents
    table = json.loads((tmp_path / "run" / "documents.json").read_text())
    assert [row["name"] for row in table] == [document.name for document in documents]
    model, tokenizer = load_model(tmp_path / "run")
    rows = make_rows(tokenizer, [document.text for document in documents], 32)
    nll, counts = document_losses(model, rows, 40)
    np.testing.assert_allclose([row["nll"] for row in table], nll, rtol=1e-5)
    secret = np.arange(40) < 6
    assert [row["protected"] for row in table] == secret.tolist()
    stated = json.loads((tmp_path / "run" / "run.json").read_text())["losses"]
    assert stated["protected"] == pytest.approx(nll[secret].sum() / counts[secret].sum(), rel=1e-5)
    assert f"protected    {stated['protected']:.4f}" in run.stdout
    for file in (tmp_path / "run").rglob("*.json*"):
        if file.name != "tokenizer.json":
            assert documents[0].text[:20] not in file.read_text()

    before = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    again = train(*command, "--out", tmp_path / "run", "--epochs", 2, "--report")
    assert (again.returncode, again.stdout) == (0, run.stdout)
    page = (tmp_path / "run" / "report.html").read_text()
    assert f" {stated['protected']:.4f} nats per token" in page
    assert all(document.text[:20] not in page for document in documents)
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == before
    other = train(*command, "--out", tmp_path / "run", "--epochs", 3)
    assert other.returncode == 2
    assert re.fullmatch(r"copyreg: .*run is of another run: its steps is .*\n", other.stderr)

    tuned = train(
        corpus, "--protect-share", 0.2, "--name-column", "id", "--gamma", 0.5, "--length", 32,
        "--model", tmp_path / "run", "--out", tmp_path / "tuned", "--epochs", 0.5,
    )  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    first = json.loads((tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["cross_entropy"] < 5.5  # a new model begins at log 300 = 5.7


@pytest.mark.slow
def test_audit(corpus, tmp_path):
    pytest.importorskip("rouge_score")
    command = [corpus, "--protect-column", "secret", "--name-column", "id", "--epochs", 2, *SMALL]
    assert train(*command, "--out", tmp_path / "run").returncode == 0
    without = train(*command, "--out", tmp_path / "without", "--leave-out")
    assert without.returncode == 0, without.stderr
    table = json.loads((tmp_path / "without" / "documents.json").read_text())
    assert sum(row["protected"] for row in table) == 6
    words = [tmp_path / "run", "--without", tmp_path / "without", "--json"]
    ledger = train(*words, command="ledger")
    assert [len(part) for part in json.loads(ledger.stdout).values()] == [6, 3], ledger.stderr
    text = ["--text", corpus, "--name-column", "id", "--prefix", 8, "--suffix", 8]
    arms = [tmp_path / "run", tmp_path / "without", tmp_path / "run" / "model"]
    found = train(*arms, *text, "--out", tmp_path / "audit.json", command="audit")
    assert found.returncode == 0, found.stderr
    reports = json.loads((tmp_path / "audit.json").read_text())
    assert list(reports) == [str(arm) for arm in arms]
    run, other, same = reports.values()
    assert (
        same.pop("gap_closed")["nats"] == 0
    )  # beside "run", which has no protection, and "without"
    assert run == same != other
    assert found.stdout.count("share of the copying gap closed") == 1
    assert [arm["membership"]["reference"] for arm in reports.values()].count(str(arms[1])) == 2
    assert other["membership"]["priv_leak"] == 0
    assert found.stdout.count("PrivLeak") == 3
    stated = json.loads((tmp_path / "run" / "run.json").read_text())["losses"]
    for name in ("protected", "unprotected", "held-out"):
        loss = run["groups"][name]["cross_entropy"]
        assert loss == pytest.approx(stated[name.replace("-", "_")], rel=1e-5)
        assert f"{loss:.4f}" in found.stdout

    assert train(*command, "--out", tmp_path / "other", "--seed", 5).returncode == 0
    mixed = train(tmp_path / "run", tmp_path / "other", *text, command="audit")
    assert mixed.returncode == 2
    assert "protects or holds out other documents, unlike" in mixed.stderr
    changed = corpus.with_name("changed.jsonl")
    changed.write_text(corpus.read_text().replace('"id": "d7"', '"id": "d7x"'))
    cases = [
        ([tmp_path / "run", *text[2:], "--text", changed], "document 'd7' of .* is not among"),
        ([tmp_path / "run", *text[:2]], "'d0' of .* is not among .* the same --name-column"),
        ([tmp_path / "none", *text], "none is not the folder of a finished run"),
        ([tmp_path / "run" / "model", *text], "model is not the folder of a finished run"),
        ([tmp_path / "run", *text, "--suffix", 99], "need 106 positions"),
    ]
    for arguments, message in cases:
        refused = train(*arguments, command="audit")
        assert refused.returncode == 2
        assert re.search(message, refused.stderr), refused.stderr
    changed.write_text(corpus.read_text().replace('"text": "', '"text": "now ', 1))
    refused = train(tmp_path / "run", *text[2:], "--text", changed, command="audit")
    assert "document 'd0' has another text than when" in refused.stderr


def test_an_audit_replaces_no_file_that_it_reads(corpus, tmp_path):
    pytest.importorskip("rouge_score")
    (tmp_path / "run").mkdir()
    table = tmp_path / "run" / "documents.json"
    table.write_text("[]")
    text, command = corpus.read_bytes(), ["audit", tmp_path / "run", "--text", corpus, "--out"]
    cases = {corpus: "would replace", table: "would replace", tmp_path / "run": "is a folder"}
    for out, message in cases.items():
        assert message in refusal(*command, out, "--overwrite")
    assert (corpus.read_bytes(), table.read_text()) == (text, "[]")
    (tmp_path / "old.json").write_text("{}")
    assert "give --overwrite" in refusal(*command, tmp_path / "old.json")


@pytest.mark.slow
def test_audit_of_a_certificate(corpus, tmp_path):
    """tests/lm/test_against_certificate.py has more ways to cheat."""
    pytest.importorskip("rouge_score")
    run, path = tmp_path / "run", tmp_path / "run" / "guarantee.json"
    command = [corpus, "--protect-column", "secret", "--name-column", "id", "--gamma", 2, *SMALL]
    assert train(*command, "--out", run).returncode == 0
    text = [run, "--text", corpus, "--name-column", "id", "--prefix", 8, "--suffix", 8]

    found = train(*text, "--out", tmp_path / "audit.json", command="audit")
    assert found.returncode == 0, found.stderr
    assert "certificate: CERTIFIED; the losses of 37 documents were measured again" in found.stdout
    assert "were not measured" not in found.stdout
    report = json.loads((tmp_path / "audit.json").read_text())[str(run)]["certificate"]
    assert report["difference"] < 1e-6
    assert report["problems"] == []

    save_training(load_training(path)._replace(tau=9.0), path)
    table = json.loads((run / "documents.json").read_text())
    held_out = [row["held_out"] for row in table].index(True)
    (run / "documents.json").write_text(json.dumps(table[:held_out] + table[held_out + 1 :]))
    found = train(*text, command="audit")
    assert found.returncode == 1
    assert "REFUTED" in found.stdout
    assert "CE_1 - CE_2 >= 9" in found.stdout
    assert re.search(
        "1 documents of .* do not belong to .*run, and were not measured", found.stdout
    )


BAD = {
    "copies of nothing": (["--protect-share", "0.1", "--canary-copies", "2"], "give --canaries"),
    "nothing protected": ([], "which say what is protected; 0 are given"),
    "two ways": (["--protect-share", "0.1", "--protect-source", "a"], "2 are given"),
    "all protected": (["--protect-column", "all"], "no column 'all'"),
    "no such source": (["--protect-source", "c", "--source-column", "who"], "no document has"),
    "no such column": (["--protect-share", "0.1", "--text-column", "body"], "no column 'body'"),
    "no names": (["--protect-names", "/no/names"], "can't read /no/names"),
    "gamma": (["--protect-share", "0.3", "--gamma", "-1"], "gamma is -1.0"),
    "epochs": (["--protect-share", "0.3", "--epochs", "0"], "--epochs is 0.0"),
    "both": (["--protect-share", "0.3", "--gamma", "1", "--target", "2"], "target_loss and gamma"),
    "heads": (["--protect-share", "0.3", "--heads", "3"], "num_heads"),
    "batch": (["--protect-share", "0.3", "--batch-size", "0"], "batch_size is 0"),
    "sizes": (["--protect-share", "0.3", "--model", "m"], "leave vocab_size, width, num_layers"),
    "accumulate": (["--protect-share", "0.3", "--accumulate", "0"], "accumulate is 0"),
    "canaries": (
        ["--protect-share", "0.3", "--canaries", "9", "--canary-copies", "0"],
        "copies is 0; give at least 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_error_and_leaves_no_folder(name, corpus, tmp_path):
    arguments, message = BAD[name]
    words = refusal("train", corpus, "--out", tmp_path / "run", *SMALL, *arguments)
    assert message in words
    assert "\n" not in words
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_without_its_picture_is_a_run(corpus, tmp_path, monkeypatch):
    """A full disk, a library that fails, a file that is lost: all else is written, and said."""

    monkeypatch.setattr(
        experiment, "save_plot", lambda *_: (_ for _ in ()).throw(RuntimeError("no ink"))
    )
    command = ["train", str(corpus), "--protect-share", "0.3", "--gamma", "1", *SMALL]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "warning: no curves.png: no ink" in result.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints", "documents.json", "guarantee.json", "metrics.jsonl", "model", "run.json",
        "settings.json",
    ]  # fmt: skip
    monkeypatch.undo()
    (tmp_path / "run" / "metrics.jsonl").unlink()  # of the finished run
    again = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "run")])
    assert again.exit_code == 0, again.output
    assert "warning: no curves.png: " in again.stderr
    assert "metrics.jsonl has no steps" in again.stderr


@pytest.mark.parametrize("name", ["model", "documents.json", "run.json", "guarantee.json"])
def test_what_is_in_the_way_is_found_before_the_work(name, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_documents", None)  # nothing is read
    (tmp_path / "run").mkdir()
    if name == "model":
        (tmp_path / "run" / name).write_text("")
    else:
        (tmp_path / "run" / name).mkdir()
    command = ["train", corpus, "--protect-share", 0.3, "--out"]
    assert f"{name} is in the way" in refusal(*command, tmp_path / "run")
    words = refusal(*command, corpus / "run")
    assert re.search("can't make .*run, or write to it: Not a directory", words)
    assert "No such file or directory" in refusal(*command, tmp_path / "no" / "run")
    assert not (tmp_path / "no").exists()


def test_a_report_that_can_not_be_written_is_found_before_the_work(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_documents", None)
    command = ["audit", tmp_path, "--text", corpus, "--out"]
    for path, message in (
        (tmp_path, "is a folder; choose another place"),
        (
            tmp_path / "no" / "audit.json",
            "can't write --out .*: the folder .* is not there; make it first",
        ),
        (corpus / "audit.json", "can't write --out .*: Not a directory"),
    ):
        assert re.search(message, refusal(*command, path))


def test_models_that_can_not_be_used_are_refused(corpus, tmp_path):
    (tmp_path / "model").mkdir()
    config = GPT2Config(vocab_size=260, context=32, width=8, num_layers=1, num_heads=1)
    save_pretrained(GPT2(config, rngs=nnx.Rngs(0)), tmp_path / "model")
    save_tokenizer(train_tokenizer(["abc abd abe"] * 9, 262), tmp_path / "model")
    command = ["train", corpus, "--out", tmp_path / "run", "--protect-share", 0.3, "--model"]
    assert "/no/model is not a folder" in refusal(*command, "/no/model")
    assert "the tokenizer does not match the model" in refusal(*command, tmp_path / "model")


@pytest.mark.slow
def test_audit_of_canaries(corpus, tmp_path, monkeypatch):
    """Of a run that learned them; a folder that is no run is the reference."""
    pytest.importorskip("rouge_score")
    pytest.importorskip("jax_privacy")
    run, out = tmp_path / "run", tmp_path / "audit.json"
    command = [
        "train", corpus, "--protect-column", "secret", "--name-column", "id", "--epochs", 8, *SMALL,
        "--learning-rate", 0.02, "--canaries", 16, "--canary-copies", 16, "--out", run,
    ]  # fmt: skip
    said = CliRunner().invoke(app, [*map(str, command)])
    assert said.exit_code == 0, said.exception
    inserted = Canaries(number=16, copies=16).inserted.sum()
    assert f"16 canaries: {inserted} protected, 16 times each, {16 - inserted} held" in said.stdout
    assert "40 documents, 1 empty ones left out: 6 protected" in said.stdout
    text = ["--text", corpus, "--name-column", "id", "--prefix", 8, "--suffix", 8, "--out", out]
    words = [*map(str, ["audit", run, run / "model", *text])]
    found = CliRunner().invoke(app, [*words, "--relearn", "1"])
    assert found.exit_code == 0, found.exception
    one, other = json.loads(out.read_text()).values()
    assert one["robustness"]["relearning"]["documents"]["held-out"] == 3  # no canary is among them
    kept = one["canaries"]
    assert (kept["number"], kept["inserted"], len(kept["exposure"])) == (16, inserted, inserted)
    assert kept["mean"] > 6 > kept["held_out_mean"]
    assert f"canaries: mean exposure {kept['mean']:.2f} bits of {inserted} that" in found.stdout
    assert (one["membership"]["num_protected"], one["membership"]["num_held_out"]) == (6, 3)
    assert one["membership"]["reference"] == str(run / "model")
    assert one["membership"]["priv_leak"] is None
    assert other["membership"]["reference"] is None
    assert one["membership"]["scores"]["reference"]["auroc"] == 0.5  # two models that are the same
    for name, score in one["membership"]["scores"].items():
        assert re.search(rf"{re.escape(SCORES[name])} +{score['auroc']:.3f} ", found.stdout)
    monkeypatch.setitem(sys.modules, "jax_privacy", None)
    assert "pip install 'copyreg-jax[canaries]'" in refusal(*words, "--overwrite")
