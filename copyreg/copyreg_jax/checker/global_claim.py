"""What a certificate of the global minimum says: its file, read and decoded.

`global_check` tests it. The format is described in docs/reference/certificate-format.md.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any, NamedTuple

import numpy as np

from copyreg_jax.checker.box_tree import require_tree
from copyreg_jax.checker.chart import MAX_COORDINATES
from copyreg_jax.checker.enclosures import Found
from copyreg_jax.checker.format import (
    Interval,
    check_description,
    check_producer,
    fields,
    read_interval,
    read_number,
    read_point,
)
from copyreg_jax.checker.verdicts import require

__all__ = ["FORMAT", "MAX_ENDS", "MAX_SETS", "GlobalClaim", "StatedSet", "parse"]

FORMAT = "copyreg-global/1"

MAX_SETS = 2_000

MAX_ENDS = 1 << 26
"""Boxes times columns of a tree: a check holds some 30 bytes for each, 2 GB."""


class StatedSet(NamedTuple):
    """A box of coordinates y, with ``|V y - x| <= radius`` in it, and what is said of it."""

    lo: np.ndarray
    hi: np.ndarray
    x: np.ndarray
    radius: np.ndarray
    is_unique: bool
    lower: float
    margin: Interval
    protected_mass: Interval


class GlobalClaim(NamedTuple):
    """The content of such a certificate, numbers decoded.

    Attributes
    ----------
    document : dict
    V : (r, r) array
        ``x_J = V y`` for the columns J of a `Chart`.
    columns : tuple of int
        J.
    x : (d,) array
        The best point.
    radius : float
        All global minimizers have ``|y_j| <= radius``.
    gap : float
        A box is closed where L is proved to be above ``upper`` less this part of it.
    tree : (k,) uint8 array
        How the cube was cut, as `copyreg_jax.checker.box_tree` reads it.
    lower, upper : float
        The least value of L is between them.
    status : str
        PROVED if they are as close as ``gap`` asks, else GAP.
    minimizers : list of StatedSet
        Sets that do not meet, and contain all global minimizers.
    margin : Interval
        Bounds of the margin at every global minimizer.
    direction : str
        The protected mass at every global minimizer against that of b.
    """

    document: dict[str, Any]
    V: np.ndarray
    columns: tuple[int, ...]
    x: np.ndarray
    radius: float
    gap: float
    tree: np.ndarray
    lower: float
    upper: float
    status: str
    minimizers: list[StatedSet]
    margin: Interval
    direction: str

    @property
    def sets(self) -> Found:
        """The boxes of the stated sets."""
        parts = ((each.lo, each.hi, each.lower) for each in self.minimizers)
        return Found(*(np.array(v) for v in zip(*parts, strict=True)))


def parse(document: dict[str, Any]) -> GlobalClaim:
    """What a document says; `VoidError` if it is not of this format."""
    require(document.get("format") == FORMAT, f"the format is not {FORMAT}")
    names = (
        "V",
        "columns",
        "direction",
        "format",
        "gap",
        "instance",
        "lower",
        "margin",
        "minimizers",
    )
    V, columns, way, _, gap, instance, low, margin, sets, producer, *others = fields(
        document, *names, "producer", "radius", "sha256", "status", "tree", "upper", "x"
    )
    radius, _, status, tree, high, x = others
    check_producer(producer)
    d = check_description(instance)
    is_list = isinstance(columns, list) and all(type(j) is int for j in columns)
    require(is_list and columns == sorted({*columns}), "columns are not increasing integers")
    r = len(columns)
    known = 1 <= r <= MAX_COORDINATES and columns[0] >= 0 and columns[-1] < d
    require(known, f"columns are not 1 to {MAX_COORDINATES} of A")
    require(isinstance(V, list) and len(V) == r, "V is not a square matrix, with a row a column")
    require(status in ("PROVED", "GAP"), f"status is {status!r:.40}")
    require(way in ("suppressed", "amplified", "undecided"), f"direction is {way!r:.40}")
    is_list = isinstance(sets, list) and 1 <= len(sets) <= MAX_SETS
    require(is_list, f"minimizers are not a list of 1 to {MAX_SETS:,} sets")
    numbers = [read_number(v) for v in (gap, radius, low, high)]
    require(min(numbers[:2]) > 0, "gap or radius is not positive")
    bytes_ = _unpacked(tree, MAX_ENDS // r)
    require_tree(bytes_, r)
    return GlobalClaim(
        document,
        np.array([read_point(row, r) for row in V]),
        tuple(columns),
        read_point(x, d),
        numbers[1],
        numbers[0],
        bytes_,
        numbers[2],
        numbers[3],
        status,
        [_set(each, r, d) for each in sets],
        read_interval(margin),
        way,
    )


def _set(document: Any, r: int, d: int) -> StatedSet:
    lo, hi, x, radius, unique, low, margin, mass = fields(document, *StatedSet._fields)
    require(type(unique) is bool, "is_unique is neither true nor false")
    ends, around = (read_point(lo, r), read_point(hi, r)), (read_point(x, d), read_point(radius, d))
    require(bool((ends[0] <= ends[1]).all()), "a set has lo > hi")
    return StatedSet(
        *ends, *around, unique, read_number(low), read_interval(margin), read_interval(mass)
    )


def _unpacked(tree: Any, most: int) -> np.ndarray:
    """The bytes of a tree, which are never more than it says."""
    number, text = fields(tree, "boxes", "zlib")
    require(
        type(number) is int and 1 <= number <= most, f"boxes is not a number from 1 to {most:,}"
    )
    try:
        packed = base64.b64decode(text.encode("ascii"), validate=True)
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(packed, number + 1)
    except (AttributeError, ValueError, binascii.Error, zlib.error):
        raw, packed = b"", b""
    whole = len(raw) == number and bool(packed) and unpacker.eof and not unpacker.unused_data
    require(whole, "the tree is not as many bytes as it has boxes, packed by zlib, in base64")
    return np.frombuffer(raw, np.uint8)
