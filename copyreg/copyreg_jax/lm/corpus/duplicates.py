"""Near-duplicate texts, found exactly, in time and memory that hardly exceed those of reading.

Words are numbered, runs of words (shingles) hashed, and equal hashes compared word by word, so that
nothing depends on the hash. Most shingles are in one text only and are dropped at once. Of the
others those that the same texts have are put together, and so are texts that have the same ones: a
thousand texts with one footer are then one text with one long shingle. What is left is joined by
prefixes (Bayardo, Ma and Srikant, Scaling up all pairs similarity search, 2007): texts that share
enough share one of the rarer shingles of either. Those that are linked already are not compared.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import unicodedata
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError

__all__ = ["first_of_clusters", "near_duplicates", "words_of"]

_ALONE = r"\p{Line_Break=SA}" + "".join(
    rf"\p{{Script={name}}}"
    for name in ("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Balinese", "Javanese")
)
"""Characters of scripts without spaces; SA are Thai, Lao, Burmese, Khmer and their kin."""

_SPACED = r"\w\p{N}\p{M}"

_PATTERNS = (
    rf"[{_SPACED}]+",
    rf"(?V1)[{_ALONE}]\p{{M}}*|[[{_SPACED}]--[{_ALONE}]]+",
    rf"[{_ALONE}]",
    r"\p{Cf}+",
)

_MULTIPLIER = 0x9E3779B97F4A7C15

_PART = 2**21
"""Shingles that are hashed or sorted at once, about: some hundred MiB."""

_Ints = NDArray[np.int64]


def words_of(text: str) -> list[str]:
    """The words of a text in any script.

    A word is a run of letters, vowel signs and other marks, digits and underscores. In scripts
    without spaces it is a single character with its marks. Words are in NFKC, without case and
    without invisible format characters.

    Raises
    ------
    InputError
        The package regex is not installed.

    Examples
    --------
    >>> words_of("Don't go — हिन्दी, 海へ!")
    ['don', 't', 'go', 'हिन्दी', '海', 'へ']
    """
    spaced, mixed, alone, invisible = _patterns()
    if text.isascii():
        return spaced.findall(text.lower())
    text = invisible.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return (mixed if alone.search(text) else spaced).findall(text)  # the latter is twice as fast


@functools.cache
def _patterns() -> list[Any]:
    try:
        library = importlib.import_module("regex")
    except ImportError:
        raise InputError("words of any script need a package: pip install regex") from None
    return [library.compile(pattern) for pattern in _PATTERNS]


def near_duplicates(
    texts: Sequence[str], shingle: int = 13, share: float = 0.5
) -> NDArray[np.int64]:
    """Find clusters of texts that share much of their wording.

    Parameters
    ----------
    texts : sequence of str, length n
    shingle : int
        Number of words in the runs that are compared. Words are those of `words_of`, so case,
        punctuation and white space do not count.
    share : float
        Two texts are linked if they share at least this part of the distinct shingles of the one
        that has fewer; a cluster is what links connect. Texts with too few words for a shingle
        are linked if their words are the same, and texts without words if they are the same.

    Returns
    -------
    (n,) int array
        Number of each text's cluster, from 0 in the order of the clusters' first texts.

    Raises
    ------
    InputError
        shingle is not positive, or share not in (0, 1]; the package regex is not installed.

    Notes
    -----
    The result is exact: all pairs that should be linked are, and no others. Time and memory grow
    with the number of words, some 25 bytes each and 50 for each shingle that another text has too.
    Boilerplate changes little about that if it is too little for a link, or if it links the texts
    that have it. The hard case is texts that combine common parts in ever new ways, few of which
    suffice for a link: they take time with the square of their number. The measurements are in
    docs/how-to/language-models.md.

    Examples
    --------
    >>> near_duplicates(["call me Ishmael", "Loomings", "Call  me Ishmael ."], shingle=2)
    array([0, 1, 0])
    """
    if shingle < 1 or not 0 < share <= 1:
        raise InputError(
            f"shingle is {shingle} and share {share}; give shingle > 0, 0 < share <= 1"
        )
    vocabulary: dict[str, int] = {}
    numbers, bounds = array("i"), [0]
    cluster, short = np.arange(len(texts)), dict[Any, int]()
    for i, text in enumerate(texts):
        mine = [vocabulary.setdefault(word, len(vocabulary)) for word in words_of(text)]
        if len(mine) < shingle:
            cluster[i] = short.setdefault(tuple(mine) or text, i)
        else:
            numbers.extend(mine)
        bounds.append(len(numbers))
    if numbers:
        words = np.array(numbers, np.int32)
        del numbers
        shared = _shared_shingles(words, np.array(bounds), shingle)
        need = np.ceil(share * shared.size).astype(np.int64)
        cluster = _link(shared, need, cluster)
    _, first, inverse = np.unique(cluster, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def first_of_clusters(clusters: _Ints) -> _Ints:
    """Choose one text of each cluster: near-duplicates are no two draws, so one of them counts.

    Parameters
    ----------
    clusters : (n,) array
        From `near_duplicates`.

    Returns
    -------
    (k,) array
        The first text of each of k clusters.

    Examples
    --------
    >>> first_of_clusters(np.array([0, 1, 0, 2]))
    array([0, 1, 3])
    """
    return np.unique(clusters, return_index=True)[1]


class _Shared(NamedTuple):
    """Shingles that two or more documents have.

    Attributes
    ----------
    size : (n,) array
        Number of distinct shingles of each document, also those of no other document.
    shingle, document : (k,) arrays
        Pairs of a shingle and a document that has it, sorted.
    """

    size: _Ints
    shingle: _Ints
    document: NDArray[np.int32]


def _shared_shingles(words: NDArray[np.int32], bounds: _Ints, length: int) -> _Shared:
    for attempt in itertools.count():
        found = _match(words, bounds, length, _keys(int(words.max()) + 1, attempt))
        if found is not None:  # two of 10^9 shingles have one hash once in 40 times
            return found
    raise AssertionError


def _keys(number: int, attempt: int) -> NDArray[np.uint64]:
    """Random numbers to make hashes of."""
    return np.random.default_rng(attempt).integers(0, 2**64, number, np.uint64)


def _match(
    words: NDArray[np.int32], bounds: _Ints, length: int, keys: NDArray[np.uint64]
) -> _Shared | None:
    """Shingles by sorting their hashes; None if two that differ have the same."""
    hashes = np.empty(len(words) - length + 1, np.uint64)
    for start in range(0, len(hashes), _PART):
        piece = words[start : start + _PART + length - 1]
        hashes[start : start + _PART] = _hashes(piece, length, keys)
    num_parts, n = -(-len(words) // _PART), len(bounds) - 1
    part = (hashes % np.uint64(num_parts)).astype(np.uint16)
    ends = np.unique(bounds)[1:-1]  # no shingle goes from one document to the next
    for back in range(1, length):
        part[ends - back] = num_parts
    size, offset = np.zeros(n, np.int64), 0
    found: list[tuple[_Ints, NDArray[np.int32]]] = []
    for k in range(num_parts):
        at = np.flatnonzero(part == k)
        if len(at) == 0:
            continue
        at = at[np.argsort(hashes[at], kind="stable")]
        same = hashes[at[1:]] == hashes[at[:-1]]
        later, earlier = at[1:][same], at[:-1][same]
        if any((words[later + j] != words[earlier + j]).any() for j in range(length)):
            return None
        document = np.searchsorted(bounds, at, side="right") - 1
        other = np.append(True, document[1:] != document[:-1])
        new = np.append(True, ~same)
        fresh = new | other  # not a second time in one document
        number, document = (np.cumsum(new) - 1)[fresh], document[fresh]
        size += np.bincount(document, minlength=n)
        many = np.bincount(number)[number] > 1
        found.append((number[many] + offset, document[many].astype(np.int32)))
        offset += len(at)
    return _Shared(size, *(np.concatenate(column) for column in zip(*found, strict=True)))


def _hashes(words: NDArray[np.int32], length: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Polynomials in the keys of so many words from each place, modulo 2^64."""
    runs, size = keys[words], 1
    # Doubled and lengthened by one along the bits of the length.
    for bit in f"{length:b}"[1:]:
        runs = runs[:-size] * np.uint64(pow(_MULTIPLIER, size, 2**64)) + runs[size:]
        size *= 2
        if bit == "1":
            runs = runs[:-1] * np.uint64(_MULTIPLIER) + keys[words[size:]]
            size += 1
    return runs


class _Lists(NamedTuple):
    """Lists of numbers, one behind the other.

    Attributes
    ----------
    values : (k,) array
    starts, lengths : (m,) arrays
        Where each list begins in ``values`` and how long it is; no list is empty.
    """

    values: NDArray[Any]
    starts: _Ints
    lengths: _Ints

    @classmethod
    def by(cls, key: NDArray[Any], values: NDArray[Any]) -> _Lists:
        """A list for each value of a sorted key."""
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        return cls(values, starts, np.diff(starts, append=len(values)))

    def at(self, i: int) -> NDArray[Any]:
        """One of the lists."""
        return self.values[self.starts[i] : self.starts[i] + self.lengths[i]]

    def take(self, chosen: _Ints) -> _Lists:
        """Some of the lists, with their values together."""
        lengths = self.lengths[chosen]
        starts = np.cumsum(lengths) - lengths
        places = np.repeat(self.starts[chosen] - starts, lengths) + np.arange(lengths.sum())
        return _Lists(self.values[places], starts, lengths)

    def group(self) -> _Ints:
        """A number for each list; those with one number are equal."""
        keys = _keys(int(self.values.max()) + 1, 0)
        sums = np.add.reduceat(keys[self.values], self.starts)
        order = np.lexsort((sums, self.lengths))
        alike = (np.diff(sums[order]) == 0) & (np.diff(self.lengths[order]) == 0)
        if alike.any():  # the same hash is no proof
            one, other = self.take(order[:-1][alike]), self.take(order[1:][alike])
            alike[alike] = ~np.logical_or.reduceat(one.values != other.values, one.starts)
        number = np.empty(len(order), np.int64)
        number[order] = np.cumsum(np.append(False, ~alike))
        return number


def _link(shared: _Shared, need: _Ints, cluster: _Ints) -> _Ints:
    """Clusters of the documents; ``need`` is how many shingles link one to a larger one."""
    size, shingle, document = shared
    owned = np.bincount(document, minlength=len(size))
    small = (size > 0) & (owned >= need)  # can be the smaller one of a link
    if not small.any():
        return cluster
    # Shingles that the same documents have are one, with a weight.
    having = _Lists.by(shingle, document)
    having = having.take(np.flatnonzero(np.logical_or.reduceat(small[document], having.starts)))
    number = having.group()
    _, first, weight = np.unique(number, return_index=True, return_counts=True)
    having = having.take(first)
    of_pair = np.repeat(np.arange(len(first)), having.lengths)
    order = np.argsort(having.values, kind="stable")
    present, document = np.unique(having.values), having.values[order]
    has = _Lists.by(document, of_pair[order])
    # Documents that have the same ones are one, as large as the smallest: if another is linked to
    # any of them, it is linked to the smallest, and that to all.
    kind = has.group()
    _, first = np.unique(kind, return_index=True)
    has = has.take(first)
    least = np.full(len(first), np.iinfo(np.int64).max)
    np.minimum.at(least, kind, need[present])
    label, linked = _join(has, weight, least)
    inside = linked[kind]
    cluster = cluster.copy()
    cluster[present[inside]] = len(cluster) + label[kind[inside]]
    return cluster


def _join(has: _Lists, weight: _Ints, need: _Ints) -> tuple[_Ints, NDArray[np.bool_]]:
    """Label of each text's cluster, and which texts are linked to others or equal ones."""
    n = len(need)
    order = np.argsort(has.values, kind="stable")
    having = _Lists.by(has.values[order], np.repeat(np.arange(n), has.lengths)[order])
    linked = np.add.reduceat(weight[has.values], has.starts) >= need
    # Components are kept up to date here, not found by SciPy from all links at the end: they say
    # which comparisons can be left out. Without them 4,000 edited copies of one text took 61 s and
    # 914 MiB, where they take 3.8 s and 79 MiB.
    label, members = np.arange(n), [[i] for i in range(n)]
    mine = np.zeros(len(weight), np.int64)
    # Of the texts with a shingle, those that are not in the cluster of one of them.
    outside: dict[int, tuple[int, _Ints]] = {}

    for i in np.flatnonzero(linked).tolist():
        owned = has.at(i)
        # The commonest shingles may be left out, as long as they alone do not suffice for a link.
        common = owned[np.argsort(-having.lengths[owned], kind="stable")]
        looked_at = common[np.cumsum(weight[common]) >= need[i]].tolist()
        found = []
        for s in looked_at:
            witness, others = outside.get(s, (i, having.at(s)))
            if label[witness] != label[i]:
                others = having.at(s)
            found.append(others[label[others] != label[i]])
        others = np.unique(np.concatenate(found))
        if len(others):
            mine[owned] = weight[owned]
            theirs = has.take(others)
            common_weight = np.add.reduceat(mine[theirs.values], theirs.starts)
            mine[owned] = 0
            new = others[common_weight >= np.minimum(need[i], need[others])]
            linked[new] = True
            for j in np.unique(label[new]).tolist():
                large, little = label[i], j
                if len(members[large]) < len(members[little]):
                    large, little = little, large
                label[members[little]] = large
                members[large] += members[little]
                members[little] = []
        for s, rest in zip(looked_at, found, strict=True):
            outside[s] = (i, rest[label[rest] != label[i]])
    return label, linked
