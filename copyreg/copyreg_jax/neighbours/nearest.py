"""Compression as a learner: the distance of two texts, and labels from the nearest texts.

Two texts are near each other if a compressor that has read one needs few bytes for the other. With
C the number of bytes of a compressed text, and xy the two texts with a space between them,

    NCD(x, y) = (C(xy) - min(C(x), C(y))) / max(C(x), C(y))

is their *normalized compression distance*. Nothing is trained. What the number means, its limits
and measurements are in docs/neighbours/nearest.md.
"""

from __future__ import annotations

import itertools
import lzma
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError, WindowWarning

__all__ = ["COMPRESSORS", "Classification", "classify", "ncd"]

_SEPARATOR = b" "
"""Stands between two texts, as in the published method."""

_ZSTD_LEVEL = 3

_XZ_WINDOW = 1 << 23
"""The dictionary of xz's default level, in bytes."""


def _gzip(first: bytes, seconds: Sequence[bytes]) -> list[int]:
    """Count the bytes of ``gzip.compress(first + second)`` for each second text.

    zlib reads the first text once, and each second text from a copy of that state. deflate makes
    the same bytes however its input is cut.
    """
    state = zlib.compressobj(9, zlib.DEFLATED, 31)  # 31: a gzip header, and all of the window
    written = len(state.compress(first))
    sizes = []
    for second in seconds:
        copy = state.copy()
        sizes.append(written + len(copy.compress(second)) + len(copy.flush()))
    return sizes


def _zstd(first: bytes, seconds: Sequence[bytes]) -> list[int]:
    """Compress with the parameters that the level has for long texts.

    Left to itself, a level has others for at most 16 KiB, 128 KiB and 256 KiB. Then the two texts
    are not compressed as each is alone, and a text of 10 KiB has a negative distance to itself.
    """
    library = _zstandard()
    parameters = library.ZstdCompressionParameters.from_level(_ZSTD_LEVEL)
    compressor = library.ZstdCompressor(compression_params=parameters)
    return [len(compressor.compress(first + second)) for second in seconds]


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise InputError(
            "zstandard is not installed; run: pip install 'copyreg-jax[neighbours]'"
        ) from None
    return zstandard


def _xz(first: bytes, seconds: Sequence[bytes]) -> list[int]:
    return [_xz_size(first + second) for second in seconds]


def _xz_size(text: bytes) -> int:
    """Count the bytes of the LZMA2 stream, without the frame of an .xz file.

    The frame pads to multiples of 4, which makes ties. A dictionary of the default size would take
    most of the time for a short text. The next power of two gives the same bytes.
    """
    dictionary = min(max(4096, 1 << (len(text) - 1).bit_length()), _XZ_WINDOW)
    coder = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=[coder]))


class _Compressor(NamedTuple):
    window: int
    """So many bytes back it finds what it has read."""
    sizes: Callable[[bytes, Sequence[bytes]], list[int]]
    """C(first + second) for each second text."""


COMPRESSORS: dict[str, _Compressor] = {
    # deflate has 32,768 bytes and keeps 262 free, for the longest match and what follows it.
    "gzip": _Compressor(32_768 - 262, _gzip),
    "zstd": _Compressor(1 << 21, _zstd),
    "xz": _Compressor(_XZ_WINDOW, _xz),
}
"""The compressors by name: gzip -9, zstd -3, and the LZMA2 stream of xz -6."""


def ncd(x: str | bytes, y: str | bytes, compressor: str = "gzip") -> float:
    """Normalized compression distance of two texts.

    Parameters
    ----------
    x, y : str or bytes
        A string stands for its UTF-8 bytes. The compressor reads x, a space and y, so that
        ``ncd(y, x)`` may be slightly different.
    compressor : {"gzip", "zstd", "xz"}

    Returns
    -------
    float
        Near 0 for a text and itself, near 1 for texts that share nothing.

    Raises
    ------
    InputError
        A text is empty or has half of a surrogate pair; the compressor is unknown, or is not
        installed.

    Warns
    -----
    WindowWarning
        The two texts are longer together than the compressor's window.

    Notes
    -----
    The cost is three compressions. For the distances to many texts use `classify`.

    Examples
    --------
    >>> x = "The ferry leaves the old harbor at seven and is back by nightfall."
    >>> y = "The ferry leaves the new harbor at seven and is back by nightfall."
    >>> ncd(x, x) < ncd(x, y) < 0.3 < ncd(x, "Buy two, pay for one!") < 1
    True
    """
    found = _compressor(compressor)
    x, y = _bytes(x, "x"), _bytes(y, "y")
    _warn_of_window(found.window < len(x) + 1 + len(y), 1, compressor)
    size_x, size_y = found.sizes(b"", [x, y])
    (joined,) = found.sizes(x + _SEPARATOR, [y])
    return (joined - min(size_x, size_y)) / max(size_x, size_y)


class Classification(NamedTuple):
    """What `classify` found, for m texts.

    Attributes
    ----------
    labels : list
        One label for each text.
    candidates : list of tuple
        For each text the labels that could have been given, the nearest first. These are the labels
        with the most votes, whichever of equally distant texts had been taken. Where there are two
        or more the label was decided by a rule of `classify`: it is a tie.
    neighbours : array of int, shape (m, k)
        Indices of the training texts that voted, the nearest first.
    distances : array, shape (m, k)
        Their normalized compression distances.
    num_beyond_window : int
        Number of pairs of texts that are longer together than the compressor's window.
    """

    labels: list[Any]
    candidates: list[tuple[Any, ...]]
    neighbours: NDArray[np.intp]
    distances: NDArray[np.float64]
    num_beyond_window: int


def classify(
    train_texts: Sequence[str | bytes],
    train_labels: Sequence[Hashable],
    test_texts: Sequence[str | bytes],
    k: int = 1,
    compressor: str = "gzip",
    *,
    progress: Callable[[int], None] | None = None,
) -> Classification:
    """Label texts like the training texts that are nearest to them.

    Parameters
    ----------
    train_texts, train_labels : sequences of the same length n
        A string stands for its UTF-8 bytes.
    test_texts : sequence of length m
        In each distance NCD(x, y), x is the test text and y the training text.
    k : int, default 1
        Number of neighbours that vote, at most n. If two texts are equally distant, the earlier is
        nearer. If several labels have the most votes, the one with the nearest neighbour is given.
        So k = 2 gives the labels of k = 1.
    compressor : {"gzip", "zstd", "xz"}
    progress : callable, optional
        Is called with the number of test texts that are done, after each.

    Returns
    -------
    Classification

    Raises
    ------
    InputError
        There is no text; a text is empty; the numbers of texts and labels differ; k is not in
        1, ..., n; the compressor is unknown, or is not installed.

    Warns
    -----
    WindowWarning
        Some pairs of texts are longer together than the compressor's window.

    Notes
    -----
    The cost is m (n + 1) + n compressions, spread over threads on all cores. Ties are exact: two
    quotients of integers below 2^25 are equal as floats only if they are equal.

    Source: Jiang et al., "Low-resource" text classification: a parameter-free classification method
    with compressors, Findings of ACL 2023.

    Examples
    --------
    >>> train = ["the cat sat on the mat", "the dog sat on the mat", "0110 1001 0110 1001"]
    >>> found = classify(train, ["animal", "animal", "code"], ["1001 0110", "a cat on a mat"])
    >>> found.labels, found.neighbours[:, 0].tolist()
    (['code', 'animal'], [2, 0])
    """
    found = _compressor(compressor)
    train = [_bytes(text, f"train_texts[{i}]") for i, text in enumerate(train_texts)]
    test = [_bytes(text, f"test_texts[{i}]") for i, text in enumerate(test_texts)]
    if len(train) != len(train_labels):
        raise InputError(f"{len(train)} training texts have {len(train_labels)} labels")
    for name, texts in (("train_texts", train), ("test_texts", test)):
        if not texts:
            raise InputError(f"{name} has no text; give at least one")
    if not 1 <= k <= len(train):
        raise InputError(f"k = {k} of {len(train)} training texts; choose k from 1 to {len(train)}")
    lengths = np.array([len(text) for text in train])
    beyond = sum(int((len(text) + 1 + lengths > found.window).sum()) for text in test)
    _warn_of_window(beyond, len(train) * len(test), compressor)
    labels, candidates, neighbours, distances = [], [], [], []
    for done, row in enumerate(_distances(train, test, found), 1):
        nearest = np.argsort(row, kind="stable")[:k]
        labels.append(_vote([train_labels[i] for i in nearest.tolist()]))
        candidates.append(_candidates(row, train_labels, nearest))
        neighbours.append(nearest)
        distances.append(row[nearest])
        if progress is not None:
            progress(done)
    return Classification(labels, candidates, np.array(neighbours), np.array(distances), beyond)


def _compressor(name: str) -> _Compressor:
    if name not in COMPRESSORS:
        raise InputError(f"compressor {name!r} is unknown; choose from {', '.join(COMPRESSORS)}")
    return COMPRESSORS[name]


def _bytes(text: str | bytes, where: str) -> bytes:
    if not isinstance(text, str | bytes):
        raise InputError(f"{where} is not text but {type(text).__name__}; give str or bytes")
    try:
        content = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise InputError(f"{where}: U+{code:04X} at {error.start} is not a character") from None
    if not content.strip():
        raise InputError(f"{where} is empty; leave it out")
    return content


def _warn_of_window(count: int, pairs: int, compressor: str) -> None:
    if count:
        window = COMPRESSORS[compressor].window
        advice = "compare shorter pieces" + (", or take xz" if compressor == "gzip" else "")
        warnings.warn(
            f"{count:,} of {pairs:,} pairs of texts are longer together than the {window:,} bytes "
            f"that {compressor} looks back, so it misses what they share; {advice}",
            WindowWarning,
            stacklevel=3,
        )


def _distances(
    train: list[bytes], test: list[bytes], compressor: _Compressor
) -> Iterator[NDArray[np.float64]]:
    """Yield the distances of each test text to all training texts.

    Threads do it: the compressors let go of Python's lock, and a fork of a process that has started
    JAX may hang. With few test texts the training texts are cut into parts, so that no core idles.
    """
    workers = os.cpu_count() or 1
    num_parts = min(len(train), -(-8 * workers // len(test)))
    cuts = [len(train) * i // num_parts for i in range(num_parts + 1)]
    parts = [train[start:end] for start, end in itertools.pairwise(cuts)]
    firsts = [text + _SEPARATOR for text in test for _ in parts]
    pool = ThreadPoolExecutor(workers)
    try:
        alone = _joined(pool.map(compressor.sizes, [b""] * num_parts, parts))
        own = pool.map(compressor.sizes, [b""] * len(test), [[text] for text in test])
        both = pool.map(compressor.sizes, firsts, parts * len(test))
        for (size,) in own:
            together = _joined(itertools.islice(both, num_parts))
            yield (together - np.minimum(alone, size)) / np.maximum(alone, size)
    finally:  # also where the caller was interrupted, who would wait for all pairs
        pool.shutdown(cancel_futures=True)


def _joined(sizes: Iterable[list[int]]) -> NDArray[np.float64]:
    return np.array([size for part in sizes for size in part], np.float64)


def _vote(labels: list[Any]) -> Any:
    """Return the label with the most votes; of several, the one that comes first."""
    return Counter(labels).most_common(1)[0][0]


def _candidates(
    row: NDArray[np.float64], labels: Sequence[Any], nearest: NDArray[np.intp]
) -> tuple[Any, ...]:
    """Return the labels with the most votes under some order of equally distant texts."""
    radius = row[nearest[-1]]
    sure = Counter(labels[i] for i in nearest.tolist() if row[i] < radius)
    last = Counter(labels[i] for i in np.flatnonzero(row == radius).tolist())
    free = len(nearest) - sure.total()

    def can_win(label: Any) -> bool:
        """Give the label all votes it can get, and see whether the others can have the rest."""
        votes = sure[label] + min(free, last[label])
        rooms = [min(last[other], votes - sure[other]) for other in {*sure, *last} - {label}]
        return min(rooms, default=0) >= 0 and sum(rooms) >= sure[label] + free - votes

    in_order = dict.fromkeys([*(labels[i] for i in nearest.tolist()), *last])
    return tuple(label for label in in_order if can_win(label))
