"""The entropy coder: one object that writes bits, and one that reads them back.

Both are used by the same loops. A model gives integer probabilities, the coder takes the bits
from the text or from the archive, and the model learns from them. The coder is constriction's ANS:
it wastes a hundredth of what its range coder does on bits that are nearly certain.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.errors import InputError

__all__ = ["CODER", "SCALE", "Coder", "Reader", "Writer"]

SCALE = 2**24
"""Probabilities are whole multiples of 1/SCALE, as in constriction."""

CODER = "constriction AnsCoder, Bernoulli(perfect=False), float64"

_CHUNK = 2**20


class Coder(Protocol):
    """Takes probabilities, and returns the bits, which are known or read."""

    def bits(self, p: NDArray[np.int64], known: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Code a bit for each p, the probability of 1 times SCALE, from 1 to SCALE - 1."""
        ...


class Writer:
    """Notes bits and their probabilities, and writes them at the end.

    Five bytes of memory are taken for each bit, since ANS writes the last bit first.

    Attributes
    ----------
    ideal_bits : float
        ``-sum log2`` of the probabilities of the bits so far.

    Examples
    --------
    >>> writer = Writer()
    >>> _ = writer.bits(np.array([16_000_000]), np.array([1]))
    >>> Reader(writer.content()).bits(np.array([16_000_000]), None)
    array([1])
    """

    def __init__(self) -> None:
        self._model, self._stack = _constriction()
        self._p: list[NDArray[np.uint32]] = []
        self._bits: list[NDArray[np.uint8]] = []
        self.ideal_bits = 0.0

    def bits(self, p: NDArray[np.int64], known: NDArray[np.int64] | None) -> NDArray[np.int64]:
        if known is None:
            raise InputError("a writer needs the bits")
        self.ideal_bits -= float(np.log2(np.where(known == 1, p, SCALE - p) / SCALE).sum())
        self._p.append(p.astype(np.uint32))
        self._bits.append(known.astype(np.uint8))
        return known

    def content(self) -> bytes:
        """All that has been written, in words of four bytes, little-endian."""
        empty = np.zeros(0, np.uint8)
        p = np.concatenate([empty.astype(np.uint32), *self._p])
        bits = np.concatenate([empty, *self._bits])
        coder = self._stack.AnsCoder()
        for start in range((len(p) - 1) // _CHUNK * _CHUNK, -1, -_CHUNK):
            part = slice(start, start + _CHUNK)
            coder.encode_reverse(bits[part].astype(np.int32), self._model, _floats(p[part]))
        return bytes(coder.get_compressed().astype("<u4").tobytes())


class Reader:
    """Reads what a `Writer` wrote, if it is asked in the same order with the same probabilities.

    It can't tell other content from that, nor where the content ends.

    Raises
    ------
    InputError
        The bytes are not what a `Writer` can have written.
    """

    def __init__(self, content: bytes) -> None:
        self._model, stack = _constriction()
        try:
            self._coder = stack.AnsCoder(np.frombuffer(content, "<u4").astype(np.uint32))
        except ValueError as error:
            raise InputError(f"the coded content is damaged: {error}") from None

    def bits(self, p: NDArray[np.int64], known: NDArray[np.int64] | None) -> NDArray[np.int64]:
        return self._coder.decode(self._model, _floats(p)).astype(np.int64)


def _floats(p: NDArray[Any]) -> NDArray[np.float64]:
    """The floats from which constriction makes exactly p / SCALE.

    It gives the bit 0 ``floor((SCALE - 2) (1 - p)) + 1``, so a quarter less than p - 1 is right.
    """
    return np.maximum(p.astype(np.float64) - 1.25, 0) / (SCALE - 2)


def _constriction() -> tuple[Any, Any]:
    if importlib.util.find_spec("constriction") is None:
        raise InputError(
            "constriction is not installed; run: pip install 'copyreg-jax[neighbours]'"
        )
    import constriction

    return constriction.stream.model.Bernoulli(perfect=False), constriction.stream.stack
