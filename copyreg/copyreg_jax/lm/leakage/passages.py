"""The passages of a whole work: a prefix that a model is shown, and the suffix that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.tokenizer import bytes_of_tokens, require_spelled

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "Passages",
    "Place",
    "TooShortError",
    "coverage",
    "cut_passages",
    "excerpt",
    "heat_map",
    "likeliest_places",
    "longest_stretch",
    "runs",
]


class TooShortError(InputError):
    """A text is shorter than a passage."""


class Passages(NamedTuple):
    """Stretches of the tokens of one text.

    Attributes
    ----------
    stream : (t,) int32 array
        The tokens of the text.
    begins : (t + 1,) int64 array
        The character of the text that has the first byte of each token, and the number of all.
    place : (w,) int64 array
        Where in the stream each begins.
    size : int
        Number of tokens of each, prefix and suffix.
    start, end : (w,) int64 arrays
        Characters ``start:end`` of the text are those of which the suffix has at least a byte.
    length : int
        Number of characters of the text.
    """

    stream: NDArray[np.int32]
    begins: NDArray[np.int64]
    place: NDArray[np.int64]
    size: int
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    length: int

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The tokens of each, a row of ``size``. They overlap, so only a call takes the room."""
        return self.rows(slice(None))

    def rows(self, which: NDArray[np.integer[Any]] | slice) -> NDArray[np.int32]:
        """The tokens of some of them."""
        return self.stream[self.place[which, None] + np.arange(self.size)]


def cut_passages(
    tokenizer: Tokenizer,
    text: str,
    prefix: int = 50,
    suffix: int = 50,
    stride: int = 10,
    *,
    name: str = "the text",
    spelling: Mapping[int, bytes] | None = None,
) -> Passages:
    """Cut a text into passages, one every ``stride`` characters.

    Parameters
    ----------
    tokenizer : Tokenizer
    text : str
    prefix, suffix : int
        Number of tokens of either part of a passage, >= 1.
    stride : int
        A passage begins with the first token at or after each multiple of so many characters.
        There is none twice: a long token gives fewer passages.
    name : str
        Name of the text, for messages.
    spelling : mapping, optional
        `bytes_of_tokens` of the tokenizer, so that many texts need it once.

    Raises
    ------
    InputError
        A number is below 1, or the tokens do not spell the text.
    TooShortError
        The text is shorter than a passage.

    Notes
    -----
    The text is tokenized once, as a whole. Cooper et al. (2025) tokenize anew from each tenth
    character, which often begins within a word; here a passage has the tokens that the model has
    seen in training, if it was trained on the text.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> tokenizer = train_tokenizer([], vocab_size=257)  # a token per byte
    >>> found = cut_passages(tokenizer, "white sails", prefix=2, suffix=3, stride=4)
    >>> found.start.tolist(), found.end.tolist()
    ([2, 6], [5, 9])
    """
    for what, size in {"prefix": prefix, "suffix": suffix, "stride": stride}.items():
        if size < 1:
            raise InputError(f"{what} is {size}; give a positive number")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    spelling = bytes_of_tokens(tokenizer) if spelling is None else spelling
    require_spelled(ids, text, spelling)
    if len(ids) < prefix + suffix:
        raise TooShortError(
            f"{name} has {len(ids)} tokens; a passage of prefix {prefix} and suffix {suffix} needs "
            f"{prefix + suffix}, so give a longer text or shorter parts"
        )
    first_byte = np.cumsum([0, *(len(spelling[i]) for i in ids)])
    # The character that each byte belongs to, and one past the last.
    widths = [len(character.encode()) for character in text]
    character = np.append(np.repeat(np.arange(len(text)), widths), len(text))
    begins = character[first_byte]
    wanted = np.arange(0, len(text), stride)
    first = np.unique(np.searchsorted(begins, wanted))
    first = first[first + prefix + suffix <= len(ids)]
    last_byte = first_byte[first + prefix + suffix] - 1
    return Passages(
        np.array(ids, np.int32),
        begins.astype(np.int64),
        first.astype(np.int64),
        prefix + suffix,
        begins[first + prefix].astype(np.int64),
        character[last_byte].astype(np.int64) + 1,
        len(text),
    )


def excerpt(passages: Passages, size: int, seed: int = 0) -> Passages:
    """Take the passages whose suffixes are in one stretch of so many characters, drawn at random.

    The stretch begins where a suffix of the text begins, and has room for any of them. ``start``
    and ``end`` count from there.
    """
    size = max(size, int((passages.end - passages.start).max()))
    late = passages.length - size
    if late <= passages.start[0]:
        return passages
    begins = passages.start[passages.start <= late]
    first = int(begins[np.random.default_rng(seed).integers(len(begins))])
    inside = (passages.start >= first) & (passages.end <= first + size)
    return passages._replace(
        place=passages.place[inside],
        start=passages.start[inside] - first,
        end=passages.end[inside] - first,
        length=size,
    )


def runs(passages: Passages, size: int) -> NDArray[np.uint64]:
    """Number all runs of ``size`` tokens of a text; equal runs have equal numbers.

    Two that differ have one number with a probability of 2^-48 or less.
    """
    if len(passages.stream) < size:
        return np.zeros(0, np.uint64)
    weights = np.random.default_rng(0).integers(0, 2**64, size, np.uint64)
    stretches = np.lib.stride_tricks.sliding_window_view(passages.stream.astype(np.uint64), size)
    return np.asarray(stretches @ weights)  # modulo 2^64


def coverage(passages: Passages, chosen: NDArray[np.bool_]) -> float:
    """Find the share of the text's characters that are in the suffix of a chosen passage.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> tokenizer = train_tokenizer([], vocab_size=257)  # a token per byte
    >>> passages = cut_passages(tokenizer, "white sails", prefix=2, suffix=3, stride=4)
    >>> round(coverage(passages, np.array([True, False])), 3)  # 3 of 11 characters
    0.273
    """
    return float(_covered(passages, chosen).mean())


def longest_stretch(passages: Passages, chosen: NDArray[np.bool_]) -> int:
    """Find the most characters in a row that are in suffixes of chosen passages.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> tokenizer = train_tokenizer([], vocab_size=257)  # a token per byte
    >>> passages = cut_passages(tokenizer, "white sails", prefix=2, suffix=3, stride=1)
    >>> longest_stretch(passages, np.array([True, True, False, False, False, False, True]))
    4
    """
    edges = np.flatnonzero(np.diff(np.pad(_covered(passages, chosen).astype(np.int8), 1)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _covered(passages: Passages, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    change = np.zeros(passages.length + 1, np.int64)
    np.add.at(change, passages.start[chosen], 1)
    np.add.at(change, passages.end[chosen], -1)
    return np.cumsum(change[:-1]) > 0


def heat_map(passages: Passages, values: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """Find the largest value of the suffixes that touch each of so many equal parts of the text.

    NaN for a part that no suffix touches, as the beginning.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> tokenizer = train_tokenizer([], vocab_size=257)  # a token per byte
    >>> passages = cut_passages(tokenizer, "white sails", prefix=2, suffix=3, stride=4)
    >>> passages.start.tolist(), heat_map(passages, np.array([-3.0, -1.0]), 3).tolist()
    ([2, 6], [-3.0, -1.0, -1.0])
    """
    edges = np.linspace(0, passages.length, cells + 1)
    first = np.searchsorted(edges, passages.start, side="right") - 1
    last = np.searchsorted(edges, passages.end, side="left")
    found = np.full(cells, np.nan)
    for begin, stop, value in zip(first.tolist(), last.tolist(), values.tolist(), strict=True):
        part = found[begin:stop]
        np.fmax(part, value, out=part)
    return found


class Place(NamedTuple):
    """Where in a text a passage is, in characters from its beginning.

    Attributes
    ----------
    shown_from, start, end : int
        The prefix is ``shown_from:start``, and the suffix ``start:end``.
    written_to : int
        Characters ``start:written_to`` are what the model writes after the prefix if it always
        takes the likeliest token, up to the first token that is another.
    log_p : float
        log of the probability that a sample is the suffix.
    """

    shown_from: int
    start: int
    written_to: int
    end: int
    log_p: float


def likeliest_places(
    passages: Passages, prefix: int, log_p: NDArray[np.float64], matched: NDArray[np.int64],
    most: int,
) -> list[Place]:  # fmt: skip
    """Find where the likeliest suffixes are that have no character in common.

    Parameters
    ----------
    passages : Passages
        w passages of a text.
    prefix : int
        Number of tokens of the first part of each.
    log_p : (w,) float64 array
        log of the probability that a sample is the suffix; ``-inf`` is one.
    matched : (w,) int64 array
        Number of tokens of each suffix, from its beginning on, that the model writes.
    most : int
        The most places that are named.

    Returns
    -------
    list of Place
        The likeliest first; of equally likely ones the one that comes first in the text. A suffix
        that sampling never gives has no place.

    Raises
    ------
    InputError
        An array does not have w numbers.

    Notes
    -----
    Cost: a sort of w numbers, and for each passage that is looked at, a comparison with the places
    found before.

    Examples
    --------
    >>> from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
    >>> tokenizer = train_tokenizer([], vocab_size=257)  # a token per byte
    >>> passages = cut_passages(tokenizer, "white sails", prefix=2, suffix=3, stride=4)
    >>> found = likeliest_places(passages, 2, np.array([-3.0, -1.0]), np.array([0, 2]), most=5)
    >>> [(place.start, place.written_to, place.end) for place in found]
    [(6, 8, 9), (2, 2, 5)]
    """
    number = len(passages.start)
    for name, array in {"log_p": log_p, "matched": matched}.items():
        if array.shape != (number,):
            raise InputError(
                f"{name} has shape {array.shape}; give a number for each of {number} passages"
            )
    found: list[Place] = []
    for k in np.argsort(-log_p, kind="stable").tolist():
        start, end, first = (int(a[k]) for a in (passages.start, passages.end, passages.place))
        if len(found) == most or log_p[k] == -np.inf:
            break
        if all(end <= other.start or other.end <= start for other in found):
            written_to = int(passages.begins[first + prefix + matched[k]]) if matched[k] else start
            found.append(Place(int(passages.begins[first]), start, written_to, end, log_p[k]))
    return found
