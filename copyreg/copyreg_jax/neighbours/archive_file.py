"""Archives: any bytes, coded with a language model, and all that a decoder has to know.

An archive is a line with the name and number of the format, a line with the SHA-256 of all that
follows, a line of JSON, and the coded content. The model is not in it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import copyreg_jax
from copyreg_jax._files import unreadable
from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.byte_model import code_bytes
from copyreg_jax.neighbours.entropy_coder import CODER, Reader, Writer

__all__ = ["Compressed", "Progress", "compress", "decompress"]

_NAME, _VERSION = b"copyreg-archive/", b"1"

Progress = Callable[[str, int, int], None]
"""Is told the unit, how many units are done, and of how many."""


class Compressed(NamedTuple):
    """An archive.

    Attributes
    ----------
    archive : bytes
        The content of the file.
    num_bytes : int
        Size of what was compressed.
    ideal_bits : float
        ``-sum log2`` of the probabilities that were given to the coder.
    real_bits : int
        Size of the coded content, in bits; a header comes on top.
    """

    archive: bytes
    num_bytes: int
    ideal_bits: float
    real_bits: int


def compress(
    data: bytes,
    model: Any = None,
    tokenizer: Any = None,
    progress: Progress = lambda unit, done, of: None,
) -> Compressed:
    """Code bytes with a given language model, or with one that learns while it codes.

    Parameters
    ----------
    data : bytes
        Any bytes. What is no UTF-8 text is coded with the model that learns, also where a language
        model is given.
    model : GPT2 or Llama, optional
        From `model_sources.load_model`, with float32 products. The archive holds its hash alone.
    tokenizer : tokenizers.Tokenizer, optional
        The byte-level tokenizer of the model.
    progress : Progress, optional

    Raises
    ------
    InputError
        constriction is not installed, or the model can't be used.

    Notes
    -----
    The learning model takes about 25 microseconds for a byte of a long file, and at most 0.1 GB
    plus 50 bytes for each byte. Short files have fewer lanes, and take up to a second for 1,000
    bytes.

    Examples
    --------
    >>> made = compress(b"a sail, " * 20)
    >>> decompress(made.archive) == b"a sail, " * 20, made.real_bits < 8 * made.num_bytes / 2
    (True, True)
    """
    coder = Writer()
    header: dict[str, Any] = {"kind": "prequential" if model is None else "static"}
    rest = data
    if model is not None:
        from copyreg_jax.neighbours.token_coding import code_tokens, split_text, to_tokens

        lengths = split_text(data)
        text, rest = _parted(data, lengths)
        tokens = to_tokens(tokenizer, text)
        if tokens is None:  # the tokenizer changes texts: all of it is coded as bytes
            tokens, lengths, rest = _no_tokens(), [len(data)], data
        header |= {"model": _hash_model(model, tokenizer), "parts": lengths, "tokens": len(tokens)}
        code_tokens(
            coder, model, _first(tokenizer), len(tokens), tokens,
            functools.partial(progress, "tokens"),
        )  # fmt: skip
    code_bytes(coder, len(rest), rest, functools.partial(progress, "bytes"))
    content = coder.content()
    header |= {
        "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "coder": CODER,
        "made_with": _made_with(model is not None),
    }  # fmt: skip
    body = json.dumps(header).encode() + b"\n" + content
    seal = hashlib.sha256(body).hexdigest().encode()
    archive = _NAME + _VERSION + b"\n" + seal + b"\n" + body
    return Compressed(archive, len(data), coder.ideal_bits, 8 * len(content))


def decompress(
    archive: bytes,
    model: Any = None,
    tokenizer: Any = None,
    progress: Progress = lambda unit, done, of: None,
    where: str | Path = "the archive",
) -> bytes:
    """Decode an archive, with the model that it was made with, if one was given then.

    Parameters
    ----------
    archive : bytes
    model, tokenizer : optional
        As for `compress`.
    progress : Progress, optional
    where : path, optional
        The name of the archive in errors.

    Raises
    ------
    InputError
        It is no archive, is of another format, is truncated or damaged, was made with another model
        or with other versions, or the decoded bytes are not those that were compressed.

    Examples
    --------
    >>> decompress(compress(bytes(1000)).archive) == bytes(1000)
    True
    """
    header, content = _opened(archive, where)
    static = header["kind"] == "static"
    if static and model is None:
        raise InputError(f"{where} was made with a language model; give that model")
    if not static and model is not None:
        raise InputError(f"{where} was made without a language model; give none")
    coder = Reader(content)  # says if the library is not installed
    _compare({"coder": CODER} | _made_with(static), header, where)
    if static and header["model"] != _hash_model(model, tokenizer):
        raise InputError(f"{where} was made with another model or tokenizer; give that one")
    text, lengths = b"", [header["size"]]
    if static:
        from copyreg_jax.lm.corpus.tokenizer import bytes_of_tokens
        from copyreg_jax.neighbours.token_coding import code_tokens

        lengths = header["parts"]
        tokens = code_tokens(
            coder, model, _first(tokenizer), header["tokens"], None,
            functools.partial(progress, "tokens"),
        )  # fmt: skip
        spelling = bytes_of_tokens(tokenizer)
        text = b"".join(spelling.get(token, b"") for token in tokens.tolist())
    rest = code_bytes(coder, sum(lengths[::2]), None, functools.partial(progress, "bytes"))
    data = _joined(text, rest, lengths)
    if hashlib.sha256(data).hexdigest() != header["sha256"]:
        raise InputError(
            f"{where} decodes to other bytes than were compressed; this machine computes otherwise "
            "than the one that wrote it"
        )
    return data


def _opened(archive: bytes, where: str | Path) -> tuple[dict[str, Any], bytes]:
    """The header and the coded content of an archive that is whole."""
    if not archive.startswith(_NAME):
        raise InputError(f"{where} is not an archive of copyreg compress")
    name, _, rest = archive.partition(b"\n")
    version = name.removeprefix(_NAME)
    if version != _VERSION and rest:
        raise InputError(
            f"{where} is of format {version.decode(errors='replace')!r:.20}, and this version "
            f"reads format {_VERSION.decode()}; decode it with the version that wrote it"
        )
    seal, _, body = rest.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != seal:
        raise InputError(f"{where} is truncated or damaged; get it again")
    line, _, content = body.partition(b"\n")
    try:
        header = json.loads(line)
        parts = header.get("parts", [])
        numbers = [header["size"], header.get("tokens", 0), *parts]
        words = [header["kind"], header["sha256"], header["coder"], header.get("model", "")]
        sound = (
            all(type(number) is int and number >= 0 for number in numbers)
            and all(type(word) is str for word in words)
            and type(header["made_with"]) is dict
            and header["kind"] in ("static", "prequential")
            and type(parts) is list
        )
        static = sound and header["kind"] == "static"
        by_bytes = sum(parts[::2]) if static else header["size"]
        # A byte costs the model of bytes at least 2^-13 bits: no header makes it decode for ever.
        sound = sound and by_bytes <= (len(content) + 64) << 16
        if static:
            known = {"model", "tokens"} <= header.keys() and sum(parts) == header["size"]
            sound = sound and known and header["tokens"] <= sum(parts[1::2])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise InputError(f"{where} has a header that can't be read")
    return header, content


def _compare(here: dict[str, Any], header: dict[str, Any], where: str | Path) -> None:
    there = {"coder": header["coder"]} | header["made_with"]
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise InputError(
                f"{where} was made with {name} {there.get(name)!r:.80}, and here it is "
                f"{here.get(name)!r:.80}; decode it where that is the same"
            )


def _made_with(static: bool) -> dict[str, Any]:
    """What is known to change a bit of a probability, or of how it is coded.

    The model that learns computes with integers, which no other version can change.
    """
    names = ["constriction"]
    found: dict[str, Any] = {"copyreg-jax": copyreg_jax.__version__}
    if static:
        import jax

        names += ["flax", "jax", "jaxlib", "numpy"]
        found |= {
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
            "device": "cpu",
            "processor": _processor(),
            # XLA cuts sums into as many parts as there are threads.
            "cpus": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "x64": bool(jax.config.read("jax_enable_x64")),
        }
    return found | {name: importlib.metadata.version(name) for name in names}


def _processor() -> str:
    """The model of the processor, since XLA compiles for what it finds."""
    path = Path("/proc/cpuinfo")
    try:
        lines = path.read_text().splitlines() if path.exists() else []
    except OSError as error:
        raise unreadable(path, error) from None
    kept = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    digest = hashlib.sha256("".join(sorted(set(kept))).encode()).hexdigest()[:12]
    return f"{platform.machine()} {digest}"


def _hash_model(model: Any, tokenizer: Any) -> str:
    import jax
    import numpy as np
    from flax import nnx

    from copyreg_jax.lm.hashing import hash_arrays, hash_text

    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))]
    names = [model.config.to_json(), str(model.dtype), tokenizer.to_str()]
    return hash_text(json.dumps([hash_arrays(leaves), *names]))


def _first(tokenizer: Any) -> int:
    from copyreg_jax.lm.corpus.tokenizer import END_OF_TEXT

    return int(tokenizer.token_to_id(END_OF_TEXT))


def _no_tokens() -> Any:
    import numpy as np

    return np.zeros(0, np.int64)


def _parted(data: bytes, lengths: list[int]) -> tuple[bytes, bytes]:
    """All text, and all the rest, of data whose parts are by turns rest and text."""
    kinds: tuple[list[bytes], list[bytes]] = ([], [])
    place = 0
    for number, length in enumerate(lengths):
        kinds[number % 2].append(data[place : place + length])
        place += length
    return b"".join(kinds[1]), b"".join(kinds[0])


def _joined(text: bytes, rest: bytes, lengths: list[int]) -> bytes:
    """The inverse of `_parted`."""
    kinds, places, parts = (rest, text), [0, 0], []
    for number, length in enumerate(lengths):
        kind = number % 2
        parts.append(kinds[kind][places[kind] : places[kind] + length])
        places[kind] += length
    return b"".join(parts)
