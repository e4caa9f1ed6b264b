"""Byte-level tokenizers: trained, saved, loaded and checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copyreg_jax._files import write_whole
from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.encoding import decode_utf8, read_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "END_OF_TEXT",
    "TOKENIZER_FILE",
    "build_tokenizer",
    "bytes_of_tokens",
    "check_tokenizer",
    "find_randomness",
    "load_tokenizer",
    "require_spelled",
    "save_tokenizer",
    "train_tokenizer",
]

END_OF_TEXT = "<|endoftext|>"

TOKENIZER_FILE = "tokenizer.json"


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> Tokenizer:
    """Learn a byte-level BPE tokenizer, which can encode every text and decode it again.

    Parameters
    ----------
    texts : iterable of str
        The unprotected texts of the training set, which are those of `Split.open`. A token can be
        a whole word of a protected text, so a tokenizer that saw one would leak it.
    vocab_size : int
        Number of tokens, at least 257 for the bytes and ``<|endoftext|>``. A small corpus may give
        fewer.

    Raises
    ------
    InputError
        vocab_size is too small, or the package tokenizers is not installed.

    Examples
    --------
    >>> tokenizer = train_tokenizer(["a sail, a sail"] * 9, vocab_size=260)
    >>> tokenizer.decode(tokenizer.encode("a sail – é").ids)
    'a sail – é'
    """
    if vocab_size < 257:
        raise InputError(f"vocab_size is {vocab_size}; bytes and end-of-text alone need 257")
    library = _tokenizers()
    tokenizer = _byte_level(library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write ``tokenizer.json``, whole or not at all, to a folder, and make the folder if needed.

    Raises
    ------
    InputError
        The folder or the file can't be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise InputError(f"can't make {folder}: {getattr(error, 'strerror', error)}") from None
    write_whole(folder / TOKENIZER_FILE, tokenizer.to_str().encode())


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read ``tokenizer.json`` of a folder, or GPT-2's ``vocab.json`` and ``merges.txt``.

    Raises
    ------
    InputError
        The files are missing or damaged, have no token ``<|endoftext|>``, or ask for BPE dropout,
        which makes the tokens of a text random.

    Notes
    -----
    Truncation and padding that the file asks for are turned off, so that a text is exactly its
    tokens.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tokenizer(train_tokenizer([], vocab_size=257), folder)
    ...     load_tokenizer(folder).encode("a sail").tokens
    ['a', 'Ġ', 's', 'a', 'i', 'l']
    """
    folder, library = Path(folder), _tokenizers()
    path, old = folder / TOKENIZER_FILE, (folder / "vocab.json", folder / "merges.txt")
    if path.is_file():
        content = decode_utf8(read_bytes(path), str(path))
    elif all(file.is_file() for file in old):
        path = old[0]
    else:
        raise InputError(f"{folder} has no {TOKENIZER_FILE}, nor vocab.json with merges.txt")
    try:
        if path in old:
            tokenizer = _byte_level(library.models.BPE.from_file(*map(str, old)))
        else:
            tokenizer = library.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing more special
        raise InputError(f"{path} is not a tokenizer that can be read: {error}") from None
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise InputError(f"{path} has no token {END_OF_TEXT}, which begins and ends every document")
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.encode_special_tokens = True  # the file does not keep this
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if chance := find_randomness(tokenizer):
        raise InputError(
            f"{path} has {chance}, which makes the tokens of a text random; write null there"
        )
    return tokenizer


def build_tokenizer(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    special: Sequence[str],
    *,
    split_digits: bool,
) -> Tokenizer:
    """Build a byte-level BPE tokenizer from its tables.

    Parameters
    ----------
    vocabulary : mapping from tokens to ids
    merges : sequence of pairs of tokens
        Pairs in the order in which they are joined.
    special : sequence of str
        Tokens that do not stand for text; ``<|endoftext|>`` is one of them.
    split_digits : bool
        Whether each digit is a token by itself.

    Raises
    ------
    InputError
        The tables do not fit together.

    Examples
    --------
    >>> vocabulary = {"<|endoftext|>": 0, "s": 1, "e": 2, "a": 3, "ea": 4}
    >>> tokenizer = build_tokenizer(vocabulary, [("e", "a")], ["<|endoftext|>"], split_digits=False)
    >>> tokenizer.encode("seas").tokens
    ['s', 'ea', 's']
    """
    library = _tokenizers()
    if END_OF_TEXT not in vocabulary:
        raise InputError(f"the tokenizer has no token {END_OF_TEXT}, which ends every document")
    try:
        tokenizer = _byte_level(library.models.BPE(dict(vocabulary), list(merges)))
    except Exception as error:  # the library raises nothing more special
        reason = str(error).splitlines()[0]
        raise InputError(f"the tables do not make a tokenizer: {reason:.200}") from None
    if split_digits:
        digits = library.pre_tokenizers.Digits(individual_digits=True)
        steps = [digits, tokenizer.pre_tokenizer]
        tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence(steps)
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def check_tokenizer(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Refuse a tokenizer that can give ids which a model of this vocabulary does not have.

    Raises
    ------
    InputError
        Some id is ``vocab_size`` or more.
    """
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= vocab_size:
        raise InputError(
            f"the tokenizer does not match the model: it has ids up to {largest}, the model's "
            f"vocabulary has {vocab_size} tokens; use the tokenizer that the model was trained with"
        )


def _tokenizers() -> Any:
    if importlib.util.find_spec("tokenizers") is None:
        raise InputError("tokenizers need a package: pip install tokenizers")
    import tokenizers

    return tokenizers


def find_randomness(tokenizer: Tokenizer) -> str:
    """Name what a tokenizer draws at random, or return ""; two of the library's models can."""
    if dropout := getattr(tokenizer.model, "dropout", None):  # BPE
        return f"dropout {dropout:g}"
    alpha = getattr(tokenizer.model, "alpha", None)  # Unigram; no file has it
    return "" if alpha is None else f"alpha {alpha:g}"


def bytes_of_tokens(tokenizer: Tokenizer) -> dict[int, bytes]:
    """Spell each token of a byte-level vocabulary in bytes, and leave other tokens out.

    GPT-2 writes a byte as its Latin-1 character if that is visible. The other bytes are written, in
    their order, as the characters from 256 on.

    Examples
    --------
    >>> spelling = bytes_of_tokens(train_tokenizer(["é é é"], vocab_size=258))
    >>> len(spelling), spelling[257].decode()
    (258, 'é')
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    code = {chr(byte): byte for byte in visible}
    code |= {chr(256 + k): byte for k, byte in enumerate(hidden)}
    table = {}
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if all(character in code for character in token):
            table[number] = bytes(code[character] for character in token)
    return table


def require_spelled(ids: Sequence[int], text: str, spelling: Mapping[int, bytes]) -> None:
    """Refuse tokens that do not spell a text, by the bytes of each from `bytes_of_tokens`.

    Raises
    ------
    InputError
        A loss would miss what the tokens leave out or change.
    """
    if b"".join(spelling.get(i, b"\xff") for i in ids) != text.encode():
        raise InputError(
            f"the tokens of the text {text[:40]!r} do not spell it; give a byte-level "
            "tokenizer that changes nothing"
        )


def _byte_level(model: Any) -> Tokenizer:
    library = _tokenizers()
    tokenizer: Tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    # A text that says "<|endoftext|>" does not end there.
    tokenizer.encode_special_tokens = True
    return tokenizer
