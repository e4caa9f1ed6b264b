"""Certificates for trained language models: what a training loss says about the protected text.

    python -m copyreg_jax.checker CERTIFICATE

The level-set theorem for means per token (docs/theory/level-set.md), computed in ball arithmetic
from a table of the documents: their tokens and the sums of their negative log-likelihoods. Nothing
but NumPy's and FLINT's arithmetic is trusted with that. That a model has these sums is not proved
here: an auditor who has the model and the texts, which the file identifies by hashes, computes them
anew; ``copyreg audit`` does.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from flint import arb, ctx

from copyreg_jax.checker.arithmetic import ARITHMETIC, upper
from copyreg_jax.checker.format import Interval, canonical, read_document, read_number
from copyreg_jax.checker.verdicts import (
    CheckResult,
    Tested,
    Verdict,
    at_least,
    at_most,
    judge,
    require,
    worst,
)

__all__ = [
    "BITS",
    "FORMAT",
    "DocumentLoss",
    "Guarantee",
    "ProvedLosses",
    "TrainingCertificate",
    "check_table",
    "check_training",
    "guarantee",
    "parse",
    "proved_losses",
]

FORMAT = "copyreg-training/1"

BITS = 128

_MOST_TOKENS = 1 << 53

_SHA256 = re.compile("[0-9a-f]{64}")


class DocumentLoss(NamedTuple):
    """One document: which it is, whether it is protected, and what the model makes of it.

    Attributes
    ----------
    name : str
    protected : bool
    num_tokens : int
        Targets that count, >= 1.
    nll : float
        Sum of their negative log-likelihoods in nats, >= 0.
    sha256 : str
        Hash of its text in UTF-8, 64 hexadecimal digits. It is not used; empty if unknown.
    """

    name: str
    protected: bool
    num_tokens: int
    nll: float
    sha256: str = ""


class TrainingCertificate(NamedTuple):
    """What is proved of all models whose loss on these documents is as small.

    All losses are in nats per token. CE is the mean over all tokens, CE_1 over the protected, CE_2
    over the others; the loss is ``CE + gamma / CE_1``.

    Attributes
    ----------
    documents : tuple of DocumentLoss
    gamma : float
    model : str
        What identifies the model, such as the hash of its file; not used.
    loss, protected, unprotected : Interval
        The loss, CE_1 and CE_2 of this model.
    protected_range : Interval
        Where CE_1 of every model lies whose loss is not above ``loss.upper``.
    tau : float
        A number that ``CE_1 - CE_2`` of such a model is never below; may be negative.
    """

    documents: tuple[DocumentLoss, ...]
    gamma: float
    model: str
    loss: Interval
    protected: Interval
    unprotected: Interval
    protected_range: Interval
    tau: float

    def to_bytes(self) -> bytes:
        """The file of this certificate."""
        content = self._asdict() | {"format": FORMAT}
        for name, value in content.items():
            if isinstance(value, Interval):
                content[name] = [float(end).hex() for end in value]
            elif isinstance(value, float):
                content[name] = float(value).hex()
        content["documents"] = [
            [*document[:3], float(document.nll).hex(), document.sha256]
            for document in self.documents
        ]
        return canonical(content)


def check_training(path: str | Path) -> CheckResult:
    """Prove a training certificate again, from its table of documents.

    Returns
    -------
    CheckResult
        CERTIFIED, REFUTED, UNDECIDED, or VOID where nothing was tested. Nothing is raised.

    Examples
    --------
    >>> check_training("no-such-file").verdict.name
    'VOID'
    """

    def test() -> Tested:
        said = parse(read_document(path))
        check_table(said.documents, said.gamma)
        with ARITHMETIC, ctx.workprec(2 * BITS):
            return _test(said)

    return judge(test)


def check_table(documents: tuple[DocumentLoss, ...], gamma: float) -> None:
    """Refuse a table that the theorem does not speak of; `VoidError` says why."""
    require(0 < gamma < math.inf, f"gamma is {gamma}; it must be finite and > 0")
    require(len(documents) > 0, "there are no documents")
    names = set()
    for document in documents:
        what = f"document {document.name!r:.60}"
        require(document.name not in names, f"{what} is there twice")
        names.add(document.name)
        most = _MOST_TOKENS
        require(1 <= document.num_tokens < most, f"{what} has {document.num_tokens} tokens")
        sound = 0 <= document.nll < math.inf
        require(sound, f"{what} has the negative log-likelihood {document.nll}; >= 0 is needed")
        known = not document.sha256 or _SHA256.fullmatch(document.sha256)
        require(bool(known), f"{what} has the hash {document.sha256!r:.70}, which is not a SHA-256")
    kinds = {document.protected for document in documents}
    require(len(kinds) == 2, f"{'all' if True in kinds else 'no'} documents are protected")


class ProvedLosses(NamedTuple):
    """Balls of the loss, CE_1, CE_2, and of the share of protected tokens."""

    loss: arb
    protected: arb
    unprotected: arb
    share: arb


class Guarantee(NamedTuple):
    """Balls of the ends of the range of CE_1, and of tau."""

    lowest: arb
    highest: arb
    tau: arb


def proved_losses(documents: tuple[DocumentLoss, ...], gamma: float) -> ProvedLosses:
    """Balls around the losses of a table."""
    counts, sums = [0, 0], [arb(0), arb(0)]
    for document in documents:
        counts[document.protected] += document.num_tokens
        sums[document.protected] += arb(document.nll)
    unprotected, protected = (total / n for total, n in zip(sums, counts, strict=True))
    require(bool(protected > 0), "the protected loss is 0, where the protection term is infinite")
    loss = (sums[0] + sums[1]) / sum(counts) + arb(gamma) / protected
    return ProvedLosses(loss, protected, unprotected, arb(counts[1]) / sum(counts))


def guarantee(share: arb, gamma: float, level: float) -> Guarantee | None:
    """For all losses of at most ``level``; None unless there are proved to be any."""
    p, g, L = share, arb(gamma), arb(level)
    square = L * L - 4 * p * g
    if not square >= 0:
        return None
    # The roots of p t^2 - L t + gamma, the smaller one without a difference.
    highest = (L + square.sqrt()) / (2 * p)
    lowest = g / (p * highest)
    # The bound at sqrt(gamma) holds for all t, so it is left on a proved comparison only.
    t = g.sqrt()
    if t < lowest:
        t = lowest
    return Guarantee(lowest, highest, (t + g / t - L) / (1 - p))


def _test(said: TrainingCertificate) -> Tested:
    losses = proved_losses(said.documents, said.gamma)
    found = guarantee(losses.share, said.gamma, said.loss.upper)
    ends = [(name, *2 * [getattr(losses, name)]) for name in ("loss", "protected", "unprotected")]
    if found is not None:
        ends.append(("protected_range", found.lowest, found.highest))
    tested: Tested = []
    for name, low, high in ends:
        stated = getattr(said, name)
        verdict = worst(at_least(low, stated.lower), at_most(high, stated.upper))
        tested.append((f"{name} in [{stated.lower:.9g}, {stated.upper:.9g}]", verdict))
    text = f"CE_1 - CE_2 >= {said.tau:.9g} for every model with a loss <= {said.loss.upper:.9g}"
    if found is None:
        return [*tested, (text, Verdict.UNDECIDED)]
    tested.append((text, at_least(found.tau, said.tau)))
    # A claim known to be false must not come out certified, or this run proves nothing.
    above = math.nextafter(upper(found.tau), math.inf)
    require(at_least(found.tau, above) is Verdict.REFUTED, "the control failed")
    return tested


def parse(document: dict[str, Any]) -> TrainingCertificate:
    """What a document says; `VoidError` if it is not of this format."""
    fields = {*TrainingCertificate._fields, "format", "sha256"}
    require(document.get("format") == FORMAT, f"it is not of the format {FORMAT}")
    require(document.keys() == fields, "it has other fields than a training certificate")
    table = []
    require(isinstance(document["documents"], list), "its documents are not a list")
    for entry in document["documents"]:
        require(isinstance(entry, list) and len(entry) == 5, "a document is not five things")
        name, protected, num_tokens, nll, sha256 = entry
        kinds = tuple(map(type, (name, protected, num_tokens, sha256)))
        require(kinds == (str, bool, int, str), f"{json.dumps(entry):.60} is not a document")
        table.append(DocumentLoss(name, protected, num_tokens, read_number(nll), sha256))
    intervals = {}
    for name in ("loss", "protected", "unprotected", "protected_range"):
        pair = document[name]
        require(isinstance(pair, list) and len(pair) == 2, f"{name} is not an interval")
        low, high = pair
        intervals[name] = Interval(read_number(low), read_number(high))
    require(isinstance(document["model"], str), "its model is not a text")
    return TrainingCertificate(
        tuple(table), read_number(document["gamma"]), document["model"], **intervals,
        tau=read_number(document["tau"]),
    )  # fmt: skip
