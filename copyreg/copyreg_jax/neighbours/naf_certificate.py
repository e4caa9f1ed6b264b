"""Certificates of near access-freeness, for tables of log-probabilities."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
from flint import ctx
from jax.typing import ArrayLike

import copyreg_jax
from copyreg_jax.certificates.certificate import ProvedDocument
from copyreg_jax.certificates.make import plain
from copyreg_jax.certificates.minimizers import outward
from copyreg_jax.certificates.to_instance import input_errors
from copyreg_jax.checker import access, format
from copyreg_jax.checker.arithmetic import ARITHMETIC
from copyreg_jax.checker.format import Interval
from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.naf import Kind

__all__ = ["NafCertificate", "certify_naf"]


@dataclasses.dataclass(frozen=True, eq=False)
class NafCertificate(ProvedDocument):
    """The exponent of CP-Delta as a proved interval. Made by `certify_naf`.

    Attributes
    ----------
    document : dict
        The content of the file.
    """

    parse = staticmethod(access.parse)

    @functools.cached_property
    def _said(self) -> access.Access:
        return access.parse(self.document)

    @property
    def k_bits(self) -> Interval:
        """Where k lies, added up over the positions."""
        return self._said.k_bits

    @property
    def kind(self) -> str:
        """The divergence, ``"max"`` or ``"kl"``."""
        return self._said.kind


def certify_naf(log_p: ArrayLike, kind: Kind = "max") -> NafCertificate:
    """Prove the exponent of CP-Delta for a table, in balls of 256 bits.

    Parameters
    ----------
    log_p : (m, outcomes) or (T, m, outcomes) array
        Log-weights of m >= 2 shards at T positions, taken as exact and normalized exactly.
    kind : {"max", "kl"}
        As for `naf.cp_delta`.

    Returns
    -------
    NafCertificate
        Its ends are the largest float below the ball around k and the smallest one above it; a
        lower end below 0 is put to 0.

    Raises
    ------
    InputError
        The table has another shape, NaN, more than 10^7 entries, or a position where k is infinite
        as no outcome has weight in all rows.

    Notes
    -----
    About a second for 10^5 entries.

    Examples
    --------
    >>> found = certify_naf(np.log([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]))
    >>> f"{found.k_bits.lower:.12f} {found.k_bits.upper:.12f}"
    '0.415037499279 0.415037499279'
    """
    if kind not in access.KINDS:
        raise InputError(f'kind is {kind!r:.40}; give "max" or "kl"')
    try:
        numbers = np.asarray(log_p)
    except ValueError as error:
        raise InputError(f"log_p is no array: {error}") from None
    with ARITHMETIC, input_errors(), ctx.workprec(access.BITS):
        table = access.as_table(numbers)
        empty = np.flatnonzero(~access.shared(table).any(axis=-1))
        if empty.size:
            raise InputError(
                f"k is infinite: at position {empty[0]} no outcome has positive probability in all "
                f"{table.shape[-2]} rows, so nothing can be joined there"
            )
        low, high = outward(access.exponent(table, kind))
        document = {
            "format": access.FORMAT,
            "producer": f"copyreg-jax {copyreg_jax.__version__}",
            "kind": kind,
            "table": access.describe(table),
            "k_bits": plain(Interval(max(low, 0.0), high)),
        }
    return NafCertificate(json.loads(format.canonical(document)))
