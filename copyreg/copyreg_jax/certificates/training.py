"""Making, writing and reading certificates of trained language models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flint import ctx

from copyreg_jax._files import write_whole
from copyreg_jax.checker.arithmetic import ARITHMETIC, lower, upper
from copyreg_jax.checker.format import Interval, read_document
from copyreg_jax.checker.guarantee import (
    BITS,
    DocumentLoss,
    TrainingCertificate,
    check_table,
    guarantee,
    parse,
    proved_losses,
)
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.errors import InputError

__all__ = ["certify_training", "load_training", "save_training"]


def certify_training(
    documents: Sequence[DocumentLoss], gamma: float, model: str = ""
) -> TrainingCertificate:
    """The level-set guarantee of a training loss over a whole data set.

    Parameters
    ----------
    documents : sequence of DocumentLoss
        All that the loss is a mean over.
    gamma : float
        Weight of the protection term, > 0.
    model : str
        What identifies the model, to be written into the certificate.

    Returns
    -------
    TrainingCertificate

    Raises
    ------
    InputError
        gamma or a document is out of range, a name is used twice, or all tokens are protected or
        none is.

    Notes
    -----
    With the share p and ``L0 = loss.upper``, CE_1 lies between the roots of ``p t^2 - L0 t +
    gamma``, and ``CE_1 - CE_2 >= (t + gamma/t - L0) / (1 - p)`` at ``t = max(sqrt(gamma), t-)``.
    That needs losses >= 0 and nothing else of the model. Cost O(number of documents).

    Examples
    --------
    >>> table = [DocumentLoss("a", True, 100, 450.0), DocumentLoss("b", False, 900, 1800.0)]
    >>> found = certify_training(table, gamma=2.5)  # 0.1 * 5^2
    >>> [round(end, 2) for end in found.protected_range], round(found.tau, 2)
    ([0.92, 27.13], 0.4)
    """
    table = tuple(
        DocumentLoss(str(d.name), bool(d.protected), int(d.num_tokens), float(d.nll), str(d.sha256))
        for d in documents
    )
    try:
        check_table(table, float(gamma))
        with ARITHMETIC, ctx.workprec(BITS):
            losses = proved_losses(table, float(gamma))
            loss, protected, unprotected = (
                Interval(lower(ball), upper(ball)) for ball in losses[:3]
            )
            found = guarantee(losses.share, float(gamma), loss.upper)
            if found is None:
                raise VoidError("the loss is too near to the least there is to say anything")
            ends = Interval(lower(found.lowest), upper(found.highest))
            tau = lower(found.tau)
    except VoidError as error:
        raise InputError(str(error)) from None
    return TrainingCertificate(table, float(gamma), model, loss, protected, unprotected, ends, tau)


def save_training(certificate: TrainingCertificate, path: str | Path) -> None:
    """Write a training certificate, whole or not at all.

    Parameters
    ----------
    certificate : TrainingCertificate
        What `certify_training` made.
    path : path
        The file; one that is there is replaced.

    Raises
    ------
    InputError
        It can't be written there.

    Examples
    --------
    >>> import tempfile
    >>> table = [DocumentLoss("a", True, 100, 450.0), DocumentLoss("b", False, 900, 1800.0)]
    >>> found = certify_training(table, gamma=2.5)
    >>> path = tempfile.mkdtemp() + "/guarantee.json"
    >>> save_training(found, path)
    >>> load_training(path) == found
    True
    """
    write_whole(path, certificate.to_bytes())


def load_training(path: str | Path) -> TrainingCertificate:
    """What a file says, without a proof of it; `check_training` proves it.

    Raises
    ------
    InputError
        The file is not a training certificate.
    """
    try:
        return parse(read_document(path))
    except VoidError as error:
        raise InputError(f"{path} is not a training certificate: {error}") from None
