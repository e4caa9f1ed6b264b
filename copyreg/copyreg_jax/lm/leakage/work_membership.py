"""Membership scores of works beside those of held-out texts: one of each text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax import nnx

from copyreg_jax.lm.corpus.rows import cut_rows
from copyreg_jax.lm.leakage.membership import Attack, Scores, attack, score_rows
from copyreg_jax.lm.leakage.passages import Passages

__all__ = ["TextScores", "WorkMembership", "compare_works", "score_texts"]


class TextScores(NamedTuple):
    """Membership scores of a stretch of one text, the fields of `membership.Scores`.

    Attributes
    ----------
    num_tokens : int
        Number of tokens that were scored, the same for all texts of an audit.
    loss, zlib, min_k, min_k_plus : float
    """

    num_tokens: int
    loss: float
    zlib: float
    min_k: float
    min_k_plus: float


class WorkMembership(NamedTuple):
    """How well scores tell the works from the held-out texts.

    Attributes
    ----------
    num_works, num_held_out : int
        Number of texts that have scores.
    num_tokens : int
        Number of tokens of each that were scored.
    scores : dict from str to Attack
        By the fields of `membership.Scores`. Of a single work the p-value is the conformal one.
    """

    num_works: int
    num_held_out: int
    num_tokens: int
    scores: dict[str, Attack]


def score_texts(
    model: nnx.Module,
    spelling: Mapping[int, bytes],
    stretches: Mapping[str, Passages],
    length: int,
    callback: Callable[[float], None] = lambda share: None,
) -> dict[str, TextScores]:
    """Score equally many tokens of each text: as many as the shortest stretch has.

    Parameters
    ----------
    model : nnx.Module
    spelling : mapping from tokens to bytes
        From `corpus.tokenizer.bytes_of_tokens`.
    stretches : mapping from names to Passages
        Texts, or excerpts of them. What is scored begins where the first passage does.
    length : int
        Number of targets of a row, which begins with the last token of the row before.
    callback : callable, optional
        Called with the share that is done.

    Returns
    -------
    dict from names to TextScores
        In the order of the stretches. Scores of a model with a logit that is NaN are NaN.

    Raises
    ------
    InputError
        length is not positive.

    Notes
    -----
    One forward pass for each row, and no token is scored in two of them.

    Examples
    --------
    >>> import jax
    >>> from copyreg_jax.lm.corpus.tokenizer import bytes_of_tokens, train_tokenizer
    >>> from copyreg_jax.lm.leakage.passages import cut_passages
    >>> class Alphabet(nnx.Module):  # after a letter the next one is likely
    ...     def __call__(self, tokens):
    ...         return 9 * jax.nn.one_hot(tokens + 1, 257)
    >>> tokenizer = train_tokenizer([], vocab_size=257)
    >>> stretches = {text: cut_passages(tokenizer, text, 2, 2, 1) for text in ("abcdef", "a sail")}
    >>> found = score_texts(Alphabet(), bytes_of_tokens(tokenizer), stretches, length=8)
    >>> {name: (one.num_tokens, round(one.loss, 3)) for name, one in found.items()}
    {'abcdef': (5, 0.031), 'a sail': (5, 9.031)}
    """
    if not stretches:
        return {}
    parts = [part.stream[part.place[0] : part.place[-1] + part.size] for part in stretches.values()]
    size = min(map(len, parts))
    parts = [part[:size] for part in parts]
    contents = [b"".join(spelling[i] for i in part.tolist()) for part in parts]
    rows = cut_rows(parts, length, np.array([len(content) for content in contents]))
    found = score_rows(model, rows, contents, callback)
    table = np.stack(found, axis=1).tolist()
    return {name: TextScores(size - 1, *row) for name, row in zip(stretches, table, strict=True)}


def compare_works(
    works: Sequence[TextScores | None], held_out: Sequence[TextScores | None]
) -> WorkMembership | None:
    """Measure how well the scores of works tell them from held-out texts; None without scores.

    Examples
    --------
    >>> texts = [TextScores(9, *[loss] * 4) for loss in (1.0, 2.0, 3.0)]
    >>> found = compare_works(texts[:1], texts[1:])
    >>> found.num_works, found.scores["loss"].auroc
    (1, 1.0)
    """
    own, rest = ([one for one in texts if one is not None] for texts in (works, held_out))
    if not own or not rest:
        return None
    scores = {
        name: attack([getattr(one, name) for one in own], [getattr(one, name) for one in rest])
        for name in Scores._fields
    }
    return WorkMembership(len(own), len(rest), own[0].num_tokens, scores)
