"""Make austen.npz: a copyright-regression instance from Jane Austen's six novels.

Run it with

    python tools/make_austen.py PATH_TO_janeaustenr/data [--out austen.npz]

where the folder holds ``Rdata.rdx`` and ``Rdata.rdb``.  It is inside the Debian package
r-cran-janeaustenr (1.0.0-1 was used): unpack that with ``dpkg -x`` and pass
``usr/lib/R/site-library/janeaustenr/data``.  No R is needed, but numpy, scipy, scikit-learn and
rdata are.  Nothing is drawn at random, so the same library versions give the same bytes.  The
choices are explained in copyreg/copyreg_jax/instances/austen.md.
"""

from __future__ import annotations

import argparse
import re
import zlib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix


QUERY = "A sailor home from the sea talks of his ship, his captain and his voyages."

PROTECTED = "persuasion"

NOVELS = (
    "emma",
    "mansfieldpark",
    "northangerabbey",
    "persuasion",
    "prideprejudice",
    "sensesensibility",
)

WORDS_PER_PASSAGE = 300

MIN_DF = 3

DIMENSION = 48

TEMPERATURE = 0.015

GAMMA = 1e-3

WEIGHT = 1e-3

HEADING = re.compile(r"\s*(VOLUME|CHAPTER)\s+[IVXL0-9]+\.?\s*", re.IGNORECASE)

CLOSING = re.compile(r"\s*(FINIS|THE END)\s*", re.IGNORECASE)

EDITOR_NOTE = "A NOTE ON THE TEXT"  # closes Northanger Abbey; by a modern editor, not Austen


def read_novels(folder: Path) -> dict[str, list[str]]:
    """Return the lines of each novel from R's lazy-load database."""
    import rdata

    index = rdata.read_rds(folder / "Rdata.rdx")["variables"]
    store = (folder / "Rdata.rdb").read_bytes()
    novels: dict[str, list[str]] = {}
    for name in NOVELS:
        offset, length = (int(value) for value in index[name])
        # Four bytes of uncompressed length come before each zlib stream.
        stream = zlib.decompress(store[offset + 4 : offset + length])
        lines = rdata.conversion.convert(rdata.parser.parse_data(stream, extension=".rds"))
        novels[name] = [str(line) for line in lines]
    return novels


def body_words(lines: list[str]) -> list[str]:
    """Return the words of the story, without front matter, headings and editor's note."""
    first = next(i for i, line in enumerate(lines) if HEADING.fullmatch(line))
    last = lines.index(EDITOR_NOTE) if EDITOR_NOTE in lines else len(lines)
    kept = [
        line
        for line in lines[first:last]
        if not HEADING.fullmatch(line) and not CLOSING.fullmatch(line)
    ]
    # Underscores mark italics; left in, "_them_" would count as a word of its own.
    return " ".join(kept).replace("_", " ").split()


def cut_passages(words: list[str]) -> list[str]:
    """Cut one novel into consecutive passages of nearly equal length."""
    count = max(1, round(len(words) / WORDS_PER_PASSAGE))
    edges = [len(words) * i // count for i in range(count + 1)]
    return [" ".join(words[a:b]) for a, b in pairwise(edges)]


def lsa_rows(weights: csr_matrix) -> np.ndarray:
    """Return unit-length rows in the leading singular directions, as float32."""
    import numpy as np
    from scipy.sparse.linalg import svds

    # A fixed start vector makes ARPACK deterministic.
    u, s, _ = svds(weights, k=DIMENSION, v0=np.ones(min(weights.shape)))
    order = np.argsort(-s)
    u, s = u[:, order], s[order]
    # Singular vectors have no sign of their own: make the largest entry positive.
    peaks = u[np.abs(u).argmax(axis=0), np.arange(DIMENSION)]
    rows = u * np.sign(peaks) * s
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows, dtype=np.float32)


def target_attention(cosine: np.ndarray) -> np.ndarray:
    """Return softmax(cosine / TEMPERATURE)."""
    import numpy as np

    # Subtracting the maximum keeps exp() in range and cancels in the quotient.
    b = np.exp((cosine - cosine.max()) / TEMPERATURE)
    return np.asarray(b / b.sum())


def build(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the instance."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    passages: list[str] = []
    labels: list[str] = []
    for name, lines in read_novels(folder).items():
        pieces = cut_passages(body_words(lines))
        passages += pieces
        labels += [name] * len(pieces)
    vectorizer = TfidfVectorizer(min_df=MIN_DF, sublinear_tf=True, stop_words="english")
    weights = vectorizer.fit_transform(passages)
    # Both sides have unit rows, so the product is the cosine.
    cosine = (weights @ vectorizer.transform([QUERY]).T).toarray().ravel()
    return {
        "A": lsa_rows(weights),
        "b": target_attention(cosine),
        "protected": np.array(labels) == PROTECTED,
        "w": np.full(len(labels), WEIGHT),
        "gamma": np.array(GAMMA),
        "reading": np.array("joint"),
    }


def main() -> None:
    """Write the .npz named on the command line."""
    import numpy as np

    parser = argparse.ArgumentParser(description="Make austen.npz.")
    parser.add_argument("folder", type=Path, help="PATH_TO_janeaustenr/data")
    parser.add_argument("--out", type=Path, default=Path("austen.npz"))
    options = parser.parse_args()
    # numpy stamps every member 1980-01-01, so the archive holds no date of its making.
    np.savez_compressed(options.out, allow_pickle=False, **build(options.folder))


if __name__ == "__main__":
    main()
