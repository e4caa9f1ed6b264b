"""A model of bytes that learns while it codes: nothing but this code is shared.

Contexts of one to six bytes and the word so far each predict the next bit, and a logistic mixture
of these predictions is what is coded with. All numbers are integers, so the same bits come out on
every machine. A file is cut into lanes that are coded side by side, since NumPy needs long arrays
to be fast. All lanes teach one model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.neighbours.entropy_coder import SCALE, Coder

__all__ = ["SQUASH", "STRETCH", "ByteModel", "code_bytes", "lane_starts"]

_ORDERS = (1, 2, 3, 4, 6)
"""Lengths of the contexts; one more input is the word so far."""

_INPUTS = len(_ORDERS) + 1

_LANES, _LANE_BYTES = 64, 512

_UNIT, _LIMIT = 256, 2900
"""Logits are in units of 1/256, and are clipped to +-2900."""

_PARTS = 2**16
"""Mixed probabilities are multiples of 1/_PARTS."""

_P_BITS, _COUNT_BITS, _MAX_COUNT = 22, 10, 255

_RATE, _WEIGHT_BITS = 3, 16

_MIX, _BIT, _HASH = np.uint32(0x2F0B4C47), np.uint32(0x3D4D51CB), np.uint32(0x85EBCA6B)
"""Odd multipliers, chosen at random."""

STRETCH = np.array(
    [round(_UNIT * math.log((i + 0.5) / (_PARTS - i - 0.5))) for i in range(_PARTS)], np.int64
)
"""The logit of (i + 1/2) / _PARTS."""

SQUASH = np.array(
    [
        min(_PARTS - 1, max(1, round(_PARTS / (1 + math.exp(-x / _UNIT)))))
        for x in range(-_LIMIT, _LIMIT + 1)
    ],
    np.int64,
)
"""The probability of a logit, from 1 to _PARTS - 1."""

_STEP = np.array([2**16 * 10 // (10 * i + 16) for i in range(_MAX_COUNT + 1)], np.int64)
"""How far a probability goes to the bit that it saw, after i others: 1 / (i + 1.6)."""


class ByteModel:
    """Predicts bits of bytes, in several lanes at once, and learns from what they were.

    Parameters
    ----------
    size : int
        Number of bytes that will be coded; larger tables are taken for more.
    lanes : int

    Examples
    --------
    >>> model = ByteModel(1000, lanes=1)
    >>> first = model.predict(1)
    >>> for byte in b"aaaa":
    ...     for place in range(7, -1, -1):
    ...         _ = model.predict(1)
    ...         model.learn(np.array([byte >> place & 1]))
    >>> first, model.predict(1) < SCALE // 4  # the letters begin with the bit 0
    (array([8388608]), array([ True]))
    """

    def __init__(self, size: int, lanes: int) -> None:
        bits = min(22, max(16, (4 * size).bit_length()))
        self._shift = np.uint32(32 - bits)
        self._offsets = (np.arange(_INPUTS, dtype=np.int64) << bits)[:, None]
        # A probability and, in the low bits, how often it has learned.
        self._table = np.full(_INPUTS << bits, 1 << (_P_BITS - 1 + _COUNT_BITS), np.uint32)
        # One set of weights for each number of known contexts and each beginning of a byte.
        first = int(0.35 * 2**_WEIGHT_BITS)
        self._weights = np.full(((_INPUTS + 1) << 8, _INPUTS), first, np.int64)
        self._history = np.zeros((max(_ORDERS), lanes), np.uint32)
        self._word = np.zeros(lanes, np.uint32)
        self._begun = np.ones(lanes, np.int64)  # 1 and the bits of the byte so far
        self._contexts = np.zeros((_INPUTS, lanes), np.uint32)
        self._next_contexts()

    def predict(self, active: int) -> NDArray[np.int64]:
        """Probabilities that the next bits are 1, times SCALE, in the first lanes."""
        begun = self._begun[:active]
        hashed = (self._contexts[:, :active] + begun.astype(np.uint32) * _BIT) * _HASH
        self._places = (hashed >> self._shift) + self._offsets
        found = self._table[self._places].astype(np.int64)
        self._p, self._counts = found >> _COUNT_BITS, found & ((1 << _COUNT_BITS) - 1)
        self._logits = STRETCH[self._p >> (_P_BITS - 16)]
        self._sets = ((self._counts > 0).sum(axis=0) << 8) + begun
        self._mixing = self._weights[self._sets].T
        logit = (self._mixing * self._logits).sum(axis=0) >> _WEIGHT_BITS
        self._mixed = SQUASH[np.clip(logit, -_LIMIT, _LIMIT) + _LIMIT]
        return self._mixed * (SCALE // _PARTS)

    def learn(self, bits: NDArray[np.int64]) -> None:
        """Take in the bits that were predicted last."""
        active = len(bits)
        error = (bits << 16) - self._mixed
        self._weights[self._sets] = (self._mixing + (self._logits * error * _RATE >> 16)).T
        p = self._p + (((bits << _P_BITS) - self._p) * _STEP[self._counts] >> 16)
        p = np.minimum(p, (1 << _P_BITS) - 1)
        counts = np.minimum(self._counts + 1, _MAX_COUNT)
        self._table[self._places] = (p << _COUNT_BITS) | counts
        self._begun[:active] = 2 * self._begun[:active] + bits
        if self._begun[0] >= 256:
            self._end_byte()

    def _end_byte(self) -> None:
        byte = (self._begun & 255).astype(np.uint32)
        self._begun[:] = 1
        self._history[1:] = self._history[:-1].copy()
        self._history[0] = byte
        low = byte | 32
        in_word = (low >= ord("a")) & (low <= ord("z")) | (byte >= 128)
        self._word = np.where(in_word, (self._word + low) * _MIX + np.uint32(1), np.uint32(0))
        self._next_contexts()

    def _next_contexts(self) -> None:
        hashed = np.zeros_like(self._word)
        for length in range(1, max(_ORDERS) + 1):
            hashed = (hashed + self._history[length - 1] + np.uint32(1)) * _MIX
            if length in _ORDERS:
                self._contexts[_ORDERS.index(length)] = hashed
        self._contexts[-1] = self._word * _MIX


def lane_starts(size: int, lanes: int) -> NDArray[np.int64]:
    """Where each lane begins, and the end; earlier lanes are longer by at most one.

    Examples
    --------
    >>> lane_starts(8, 3)
    array([0, 3, 6, 8])
    """
    lane = np.arange(lanes + 1)
    return lane * (size // lanes) + np.minimum(lane, size % lanes)


def code_bytes(
    coder: Coder,
    size: int,
    data: bytes | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> bytes:
    """Write or read bytes with a model that learns from them as it goes.

    Parameters
    ----------
    coder : entropy_coder.Writer or entropy_coder.Reader
    size : int
        Number of bytes.
    data : bytes, optional
        The bytes, if they are written.
    progress : function of two integers, optional
        Is told how many bytes of how many are done.

    Returns
    -------
    bytes
        The bytes that were written or read.

    Notes
    -----
    Takes at most 100 MB for the model, and time in proportion to size.

    Examples
    --------
    >>> from copyreg_jax.neighbours.entropy_coder import Reader, Writer
    >>> writer = Writer()
    >>> _ = code_bytes(writer, 9, b"a sail, a")
    >>> code_bytes(Reader(writer.content()), 9)
    b'a sail, a'
    """
    lanes = min(_LANES, max(1, size // _LANE_BYTES))
    starts = lane_starts(size, lanes)
    model, result = ByteModel(size, lanes), np.zeros(size, np.int64)
    if data is not None:
        result[:] = np.frombuffer(data, np.uint8)
    for step in range(-(-size // lanes)):
        # In the last step some lanes may be at their end already.
        active = min(lanes, size - step * lanes)
        places = starts[:active] + step
        byte = np.zeros(active, np.int64)
        for bit in range(7, -1, -1):
            known = None if data is None else result[places] >> bit & 1
            bits = coder.bits(model.predict(active), known)
            model.learn(bits)
            byte = 2 * byte + bits
        result[places] = byte
        progress(min(size, (step + 1) * lanes), size)
    return result.astype(np.uint8).tobytes()
