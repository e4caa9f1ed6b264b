"""Code lengths: bits of a text under a model, of a corpus under two, of classic compressors.

A model that gives a text the probability p(x) codes it in -log2 p(x) bits. What a document saves
because the model has seen it, ``K(C) = L_safe(C) - L_p(C)``, is the ledger of a corpus.
"""

from __future__ import annotations

import importlib
import importlib.util
import lzma
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.archive_file import Compressed, compress, decompress

__all__ = [
    "Compressed",
    "CorpusLedger",
    "Rate",
    "RunLedger",
    "bits_per_byte",
    "compare",
    "compress",
    "corpus_ledger",
    "decompress",
    "ideal_bits",
    "plot_ledger",
    "run_ledger",
]


def ideal_bits(log_p: ArrayLike) -> float:
    """The ideal code length ``-sum_t log2 p(x_t | x_<t)``, in bits.

    Parameters
    ----------
    log_p : array
        Natural logarithms of the probabilities of the symbols that came; <= 0, may be ``-inf``.

    Returns
    -------
    float
        ``inf`` if a symbol has probability 0.

    Raises
    ------
    InputError
        A number is above 0 or NaN.

    Examples
    --------
    >>> ideal_bits(np.log([0.5, 0.25]))
    3.0
    """
    checked = np.asarray(log_p, np.float64).ravel()
    if not (checked <= 0).all():
        raise InputError("log_p has NaN or numbers above 0; give logarithms of probabilities")
    # Of no symbols the sum is -0.0, which nobody wants to read.
    return -math.fsum(checked) / math.log(2) + 0.0


def bits_per_byte(bits: float, num_bytes: int) -> float:
    """Bits for each byte; NaN for no bytes."""
    return bits / num_bytes if num_bytes else math.nan


class CorpusLedger(NamedTuple):
    """What the model knows of each document because it saw it, from most to least.

    Attributes
    ----------
    names : list of str
    k_bits : (n,) array
        ``L_safe(C) - L_p(C)``; negative where the model without the document codes it better.
        ``inf`` or ``-inf`` where one model gives it probability 0, and NaN where both do.
    safe_bits, bits : (n,) arrays
        Code lengths by the models that never saw the document, and by the model that did.
    """

    names: list[str]
    k_bits: NDArray[np.float64]
    safe_bits: NDArray[np.float64]
    bits: NDArray[np.float64]


def corpus_ledger(
    names: Sequence[str], log_p: Sequence[ArrayLike], log_safe: Sequence[ArrayLike]
) -> CorpusLedger:
    """Compare the code lengths of documents under a model and their leave-one-out models.

    Parameters
    ----------
    names : sequence of n str
    log_p, log_safe : sequences of n arrays
        Natural logarithms of the probabilities of each document's symbols: by the model that saw
        all documents, and by one that saw all but this. Symbols may be cut differently, since only
        sums count; both sides have to spell the same document.

    Raises
    ------
    InputError
        The numbers of documents differ, or a logarithm is above 0 or NaN.

    Examples
    --------
    >>> found = corpus_ledger(["a", "b"], [[-1.0], [-2.0]], [[-1.5], [-4.0]])
    >>> found.names, found.k_bits.round(3)
    (['b', 'a'], array([2.885, 0.721]))
    """
    if not len(names) == len(log_p) == len(log_safe):
        raise InputError(
            f"there are {len(names)} names, {len(log_p)} log_p and {len(log_safe)} log_safe; give "
            "one of each for each document"
        )
    bits = np.array([ideal_bits(part) for part in log_p])
    safe = np.array([ideal_bits(part) for part in log_safe])
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as documented
        k = safe - bits
    order = np.argsort(-k, kind="stable")
    return CorpusLedger([names[i] for i in order], k[order], safe[order], bits[order])


class RunLedger(NamedTuple):
    """The ledger of two runs of ``copyreg train``: with the protected documents, and without them.

    Attributes
    ----------
    protected : CorpusLedger
        The documents that the second run never saw.
    held_out : CorpusLedger
        Documents that neither run saw. Their K says what two runs differ by in any case.
    """

    protected: CorpusLedger
    held_out: CorpusLedger


def run_ledger(run: str | Path, without: str | Path) -> RunLedger:
    """Compare the code lengths of documents under a run, and under one that left some out.

    Parameters
    ----------
    run : path
        Folder of a run of ``copyreg train`` on all documents that are not held out.
    without : path
        Folder of a run of the same command with ``--leave-out``, or of one with other settings:
        whatever never saw the protected documents is a safe model.

    Returns
    -------
    RunLedger
        K in bits, of the protected documents and of those that neither run saw.

    Raises
    ------
    InputError
        A folder does not hold a finished run; the first left documents out, or the second did not;
        they have other documents, protect others, or cut rows of another length.

    Notes
    -----
    The code lengths are the losses that the runs have measured: sums of a document's tokens, each
    predicted from the tokens before it in its row. Whether a run has *begun* with a model that
    knows the documents can't be seen. If the first run had a protection term, K is what it has
    learned in spite of that.

    Examples
    --------
    >>> import json, tempfile
    >>> from copyreg_jax.lm.hashing import hash_text
    >>> row = {"name": "Ahab", "sha256": hash_text("a whale"), "protected": True, "held_out": False}
    >>> def write(folder, nll, leave_out):
    ...     folder.mkdir()
    ...     _ = (folder / "documents.json").write_text(json.dumps([row | {"nll": nll}]))
    ...     _ = (folder / "run.json").write_text(json.dumps({"length": 8, "leave_out": leave_out}))
    ...     return folder
    >>> with tempfile.TemporaryDirectory() as name:
    ...     run = write(Path(name) / "run", nll=2 * math.log(2), leave_out=False)
    ...     without = write(Path(name) / "without", nll=9 * math.log(2), leave_out=True)
    ...     found = run_ledger(run, without)
    >>> found.protected.names, found.protected.k_bits.round(3).tolist()
    (['Ahab'], [7.0])
    """
    from copyreg_jax.lm.records import load_outcome

    all_seen, safe = load_outcome(run), load_outcome(without)
    if all_seen.leave_out:
        raise InputError(f"{run} left the protected documents out; give the run that saw them")
    if not safe.leave_out:
        raise InputError(f"{without} has seen the protected documents; give a run of --leave-out")
    for name in ("names", "hashes", "protected", "held_out", "length"):
        if not np.array_equal(getattr(all_seen, name), getattr(safe, name)):
            what = {
                "hashes": "has other texts", "length": "has rows of another length",
                "names": "has other documents",
            }.get(name, "protects or holds out other documents")  # fmt: skip
            raise InputError(f"{without} {what} than {run}; train both on the same")

    def part(chosen: NDArray[np.bool_]) -> CorpusLedger:
        names = [all_seen.names[i] for i in np.flatnonzero(chosen)]
        return corpus_ledger(names, list(-all_seen.nll[chosen]), list(-safe.nll[chosen]))

    return RunLedger(part(all_seen.protected), part(all_seen.held_out))


def plot_ledger(found: CorpusLedger, path: str | Path) -> None:
    """Draw K of each document, in bits, from most to least.

    Parameters
    ----------
    found : CorpusLedger
    path : path
        A .png, .pdf or .svg file to write.

    Raises
    ------
    InputError
        The file has another suffix or can't be written, or matplotlib is not installed.

    Examples
    --------
    >>> import tempfile
    >>> found = corpus_ledger(["a", "b"], [[-1.0], [-2.0]], [[-1.5], [-4.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_ledger(found, Path(folder) / "k.svg")
    ...     "K, bits" in (Path(folder) / "k.svg").read_text()
    True
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("a plot needs a package: pip install matplotlib") from None

    from copyreg_jax._files import write_whole

    kind = Path(path).suffix.removeprefix(".") or "png"
    if kind not in ("png", "pdf", "svg"):
        raise InputError(f"{path}: a plot can be a .png, .pdf or .svg file")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.bar(np.arange(len(found.names)), np.nan_to_num(found.k_bits, posinf=np.nan, neginf=np.nan))
    axes.set_xlabel("documents, sorted")
    axes.set_ylabel("K, bits")
    write_whole(path, lambda file: figure.savefig(file, format=kind))


class Rate(NamedTuple):
    """The size of something compressed.

    Attributes
    ----------
    name : str
    num_bytes : int
        Compressed size, without the decoder's model.
    with_model : int
        The same and the size of the model, which classic compressors don't have.
    bits_per_byte : float
        Without the model.
    """

    name: str
    num_bytes: int
    with_model: int
    bits_per_byte: float


def compare(data: bytes, made: Compressed | None = None, model_bytes: int = 0) -> list[Rate]:
    """Compress the same bytes with classic compressors.

    Parameters
    ----------
    data : bytes
    made : Compressed, optional
        An archive of the same bytes, to be listed first; the whole archive counts.
    model_bytes : int
        Size of the model that its decoder needs.

    Returns
    -------
    list of Rate
        The archive, ``gzip -9``, ``xz -9e``, and ``zstd -19`` and ``brotli -11`` where those
        packages are installed.

    Examples
    --------
    >>> compare(b"sail " * 100)[0].name
    'gzip -9'
    """
    sizes = {} if made is None else {"copyreg": len(made.archive)}
    # A header of 10 bytes and a checksum of 8 are what gzip adds to the stream less zlib's 6.
    sizes["gzip -9"] = len(zlib.compress(data, 9)) + 12
    sizes["xz -9e"] = len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    for name, package, pack in (
        ("zstd -19", "zstandard", lambda m: m.ZstdCompressor(level=19).compress(data)),
        ("brotli -11", "brotli", lambda m: m.compress(data, quality=11)),
    ):
        if importlib.util.find_spec(package) is not None:
            module: Any = importlib.import_module(package)
            sizes[name] = len(pack(module))
    return [
        Rate(
            name, size, size + (model_bytes if name == "copyreg" else 0),
            bits_per_byte(8 * size, len(data)),
        )
        for name, size in sizes.items()
    ]  # fmt: skip
