"""A run's certificate against its model: what was changed afterwards is found."""

import json
import math
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

nnx = pytest.importorskip("flax.nnx")
pytest.importorskip("orbax.checkpoint")
pytest.importorskip("tokenizers")

from copyreg_jax.certificates.training import (  # noqa: E402
    certify_training,
    load_training,
    save_training,
)
from copyreg_jax.errors import InputError  # noqa: E402
from copyreg_jax.lm import experiment, records  # noqa: E402
from copyreg_jax.lm.corpus import documents  # noqa: E402
from copyreg_jax.lm.corpus.rows import make_rows  # noqa: E402
from copyreg_jax.lm.evaluation import document_losses  # noqa: E402
from copyreg_jax.lm.leakage.against_certificate import recheck  # noqa: E402
from copyreg_jax.lm.model_sources import Size, load_model, new_model  # noqa: E402
from copyreg_jax.lm.prepared import prepare  # noqa: E402
from copyreg_jax.lm.settings import Settings  # noqa: E402

GAMMA = 2.0


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(2, 6))) for _ in range(60)]
    return [documents.Document(f"d{i}", " ".join(rng.choice(words, 60)), "", {}) for i in range(14)]


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "run"
    prepared = prepare(corpus, np.arange(14) < 4, length=16, vocab_size=280, held_out=0.2)
    size = Size(width=16, num_layers=1, num_heads=2)
    # Trained with short products, and measured with long ones.
    model = new_model(prepared.tokenizer, size, 16, dtype=jnp.bfloat16)
    settings = Settings(steps=8, gamma=GAMMA, batch_size=4)
    experiment.train(prepared, model, settings, folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy to change."""
    return shutil.copytree(trained, tmp_path / "run")


def audited(folder, corpus):
    """Flags, and losses measured as an auditor does."""
    flags = records.load_flags(folder, corpus)
    model, tokenizer = load_model(folder, jnp.float32)
    rows = make_rows(tokenizer, flags.texts, flags.length)
    return flags, *document_losses(model, rows, len(flags.texts))


@pytest.fixture(scope="module")
def measured(trained, corpus):
    return audited(trained, corpus)


@pytest.fixture(scope="module")
def honest(trained):
    return load_training(trained / "guarantee.json")


def recheck_of(folder, measured, table, honest, gamma=GAMMA):
    """Of a certificate that is true of a table."""
    forged = certify_training(table, gamma, honest.model)
    save_training(forged, folder / "guarantee.json")
    return forged, recheck(folder, *measured)


def test_an_honest_run(trained, measured, honest):
    found = recheck(trained, *measured)
    assert (found.verdict, found.problems) == ("CERTIFIED", [])
    assert found.num_documents == len(honest.documents) < 14
    assert found.difference < 1e-6
    assert found.tau == pytest.approx(honest.tau, abs=1e-5)


def changed_row(honest, **change):
    first, *rest = honest.documents
    return [first._replace(**change), *rest]


TABLES = {
    "hash": (lambda h: changed_row(h, sha256="0" * 64), "document 'd0' has sha256"),
    "tokens": (lambda h: changed_row(h, num_tokens=1), "document 'd0' has num_tokens"),
    "loss": (lambda h: changed_row(h, nll=1.001 * h.documents[0].nll), "loss of document 'd0' is"),
    "flag": (lambda h: changed_row(h, protected=False), "document 'd0' has protected True"),
    "left out": (lambda h: h.documents[1:], "document 'd0' is missing"),
    "name": (lambda h: changed_row(h, name="x"), "document 'x' is not in the training set"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_were_made_up(name, folder, measured, honest):
    """The checker certifies each: it is true of the table."""
    change, problem = TABLES[name]
    _, found = recheck_of(folder, measured, change(honest), honest)
    assert found.verdict == "CERTIFIED"
    assert any(problem in said for said in found.problems), found.problems


def test_small_changes_of_all_losses_do_not_make_tau(folder, measured, honest):
    # Each within what is allowed for rounding, all to the same side.
    table = [
        d._replace(nll=d.nll * (1.00005 if d.protected else 0.99995)) for d in honest.documents
    ]
    forged, found = recheck_of(folder, measured, table, honest)
    assert found.problems == []
    assert abs(forged.tau - honest.tau) < 1e-3
    save_training(honest._replace(tau=honest.tau + 0.1), folder / "guarantee.json")
    found = recheck(folder, *measured)
    assert found.verdict == "REFUTED"
    assert any("the losses guarantee tau" in said for said in found.problems)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


FILES = {
    "config": lambda f: edit(
        f / "model" / "config.json", lambda c: c.update(layer_norm_epsilon=9.0)
    ),
    "tokenizer": lambda f: edit(
        f / "model" / "tokenizer.json", lambda c: c.update(truncation=None, version="1.0 ")
    ),
    "weights": lambda f: (f / "model" / "more.safetensors").write_bytes(b"x"),
    "rows": lambda f: edit(f / "run.json", lambda c: c.update(length=8)),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_were_changed(name, folder, corpus, measured):
    FILES[name](folder)
    found = recheck(folder, records.load_flags(folder, corpus), *measured[1:])
    assert any("the files of the model, or its rows" in said for said in found.problems)


def test_a_tokenizer_that_writes_another_text(folder, corpus):
    replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}
    edit(folder / "model" / "tokenizer.json", lambda c: c.update(normalizer=replace))
    with pytest.raises(InputError, match="do not spell it"):
        audited(folder, corpus)


def test_another_gamma(folder, measured, honest):
    _, found = recheck_of(folder, measured, honest.documents, honest, gamma=7.0)
    assert found.problems == ["gamma is 7, that of run.json is 2.0"]
    for target in (4.0, 1e200):  # the gamma of the second is infinite, and so is any tolerance
        edit(folder / "run.json", lambda c: c["settings"].update(gamma=0.0, target_loss=target))  # noqa: B023
        assert "gamma is 7" in recheck(folder, *measured).problems[0]
    edit(folder / "run.json", lambda c: c["settings"].update(gamma=math.inf, target_loss=None))
    assert "gamma is 7" in recheck(folder, *measured).problems[0]


def test_settings_that_can_not_be_read(folder, measured):
    edit(folder / "run.json", lambda c: c.pop("settings"))
    assert recheck(folder, *measured).problems == ["gamma is 2, that of run.json is None"]


def test_no_certificate(folder, measured):
    (folder / "guarantee.json").write_text("{}")
    found = recheck(folder, *measured)
    assert (found.verdict, found.num_documents, len(found.problems)) == ("VOID", 0, 1)
    (folder / "guarantee.json").unlink()
    found = recheck(folder, *measured)
    assert found.problems == ["guarantee.json is missing, but the run had a protection term"]
    edit(folder / "run.json", lambda c: c["settings"].update(gamma=0.0))
    assert recheck(folder, *measured) is None


def test_losses_that_guarantee_nothing(trained, measured):
    flags, nll, num_tokens = measured
    found = recheck(trained, flags, np.where(flags.protected, 0.0, nll), num_tokens)
    problem = "measured losses do not guarantee anything: the protected loss is 0"
    assert any(problem in said for said in found.problems)
    assert np.isnan(found.tau)


def test_losses_of_texts_that_are_known_by_heart(folder, measured, honest):
    """A loss of zero may differ by what float32 makes of it."""
    flags, nll, num_tokens = measured
    *others, last = honest.documents
    nll = np.where(np.array(flags.names) == last.name, 0.0, nll)
    table = [*others, last._replace(nll=1e-5)]
    assert recheck_of(folder, (flags, nll, num_tokens), table, honest)[1].problems == []


CHANGES = {
    "length as text": ("run.json", lambda c: c.update(length="16")),
    "length true": ("run.json", lambda c: c.update(length=True)),
    "no length": ("run.json", lambda c: c.pop("length")),
    "name": ("documents.json", lambda c: c[0].update(name=["d0"])),
    "flag": ("documents.json", lambda c: c[0].update(protected=1)),
    "nothing": ("documents.json", lambda c: c.clear()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_damaged_records(name, folder, corpus):
    file, change = CHANGES[name]
    edit(folder / file, change)
    with pytest.raises(InputError, match="is not the folder of a finished run"):
        records.load_flags(folder, corpus)


def test_flags_that_differ(folder, corpus):
    flags = records.load_flags(folder, corpus)
    assert flags.difference(flags) == ""
    assert "has rows of 8" in flags.difference(flags._replace(length=8))
    assert "other documents" in flags.difference(flags._replace(protected=~flags.protected))
