"""Two language models and a rule that joins them, as one model that can be audited.

The next-token distribution of such a decoder is explicit. So the probability of a suffix, the loss
of a text and the likeliest continuation are those of the decoder itself, without any sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from copyreg_jax.lm.corpus.rows import make_rows
from copyreg_jax.lm.leakage.extraction import extract
from copyreg_jax.lm.leakage.losses import HELD_OUT, PROTECTED
from copyreg_jax.lm.leakage.planning import plan_audit
from copyreg_jax.lm.leakage.report import Report, audit
from copyreg_jax.lm.leakage.windows import choose_windows
from copyreg_jax.lm.prepared import Prepared
from copyreg_jax.neighbours.decoding import Rule, Seen

PREFIX, SUFFIX = 50, 50
OPEN = 20
"""Number of unprotected documents whose loss is taken: CP-Fuse has 324 sums for each token."""


class Decoder(nnx.Module):
    """Maps tokens to log-probabilities of the next one, under a rule that knows what it wrote.

    The first ``prompt`` tokens were given to it, and the rule counts those after them.
    """

    def __init__(self, models: Sequence[nnx.Module], rule: Rule, prompt: int) -> None:
        self.models = nnx.List(models)
        self.rule, self.prompt = rule, prompt
        self.config = models[0].config

    def __call__(self, tokens: Array) -> Array:
        """Log-probabilities (batch, length, vocabulary); uniform within the prompt."""
        log_p = jnp.stack([jax.nn.log_softmax(model(tokens)) for model in self.models], axis=2)
        first = min(self.prompt, tokens.shape[1]) - 1
        following = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))  # no log_p is of the last one

        def step(seen: Seen, now: tuple[Array, Array]) -> tuple[Seen, Array]:
            joined = jax.vmap(self.rule)(now[0], seen)
            return _after(seen, now[0], joined.k_bits, now[1]), joined.log_p

        inputs = jnp.moveaxis(log_p, 1, 0)[first:], following.T[first:]
        _, found = jax.lax.scan(step, _nothing(log_p[:, 0], 0), inputs)
        return jnp.pad(jnp.moveaxis(found, 0, 1), ((0, 0), (first, 0), (0, 0)))

    def empty_cache(self, batch: int, room: int) -> Any:
        """Keys and values of the models, and what the rule knows: a length of -1 is no prompt."""
        log_p = jnp.zeros((batch, len(self.models), self.config.vocab_size))
        caches = [model.empty_cache(batch, room) for model in self.models]
        return caches, log_p, jnp.zeros(batch), _nothing(log_p, -1)

    def extend(self, tokens: Array, cache: Any) -> tuple[Array, Any]:
        """The log-probabilities after the prompt, or after one more token."""
        caches, log_p, k_bits, seen = cache
        seen = _after(seen, log_p, k_bits, tokens[:, -1])
        pairs = [m.extend(tokens, kept) for m, kept in zip(self.models, caches, strict=True)]
        log_p = jnp.stack([jax.nn.log_softmax(logits) for logits, _ in pairs], axis=1)
        joined = jax.vmap(self.rule)(log_p, seen)
        return joined.log_p, ([kept for _, kept in pairs], log_p, joined.k_bits, seen)


def _nothing(log_p: Array, length: int) -> Seen:
    batch, m, _ = log_p.shape
    return Seen(jnp.zeros((batch, m)), jnp.zeros(batch), jnp.full(batch, float(length)))


def _after(seen: Seen, log_p: Array, k_bits: Array, token: Array) -> Seen:
    picked = jnp.take_along_axis(log_p, token[:, None, None], axis=-1)[..., 0]
    return Seen(seen.log_p + picked, seen.k_bits + k_bits, seen.length + 1)


def audit_decoder(
    models: Sequence[nnx.Module], rule: Rule, prepared: Prepared, *, length: int, max_windows: int
) -> Report:
    """What `audit` measures, but ``memorized`` and ``windows``, which are of two tokens.

    The rule counts from the start of a row for losses, and from the end of the prefix for suffixes.
    """
    split, few = prepared.split, np.flatnonzero(prepared.split.open)[:OPEN]
    chosen = split.protected | split.held_out
    chosen[few] = True
    texts = [prepared.documents[i].text for i in np.flatnonzero(chosen)]
    protected, held_out = split.protected[chosen], split.held_out[chosen]
    tokenizer = prepared.tokenizer
    plan = plan_audit(  # for the losses: its only windows are of two tokens
        tokenizer, texts, protected, held_out, rows_length=length, prefix=1, suffix=1, max_windows=1
    )
    report = audit(Decoder(models, rule, 1), plan)
    rows, found = make_rows(tokenizer, texts, length), []
    for name, group in ((PROTECTED, protected), (HELD_OUT, held_out)):
        windows = choose_windows(
            rows, texts, group, prefix=PREFIX, suffix=SUFFIX, max_windows=max_windows, name=name
        )
        found.append(extract(Decoder(models, rule, PREFIX), tokenizer, windows, prefix=PREFIX))
    return report._replace(
        extraction=found[0], extraction_held_out=found[1], prefix=PREFIX, suffix=SUFFIX
    )
