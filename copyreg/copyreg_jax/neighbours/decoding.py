"""Decoding with several language models at once, by rules that join their distributions.

A rule maps the log-probabilities (m, outcomes) of the next token under m models, and what was
written so far, to one distribution and to bits that it is away from the models. Rules are
hashable, work under ``jax.jit`` and ``jax.vmap``, and know nothing of models.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.distributions import delta_kl, log_sum
from copyreg_jax.neighbours.naf import Joined, Kind, join

__all__ = ["Anchored", "CPDelta", "CPFuse", "Generated", "Rule", "Seen", "generate"]

_GRID = (*(2 * i / 9 for i in range(9)), *(float(i) for i in range(2, 11)))
"""The exponents that CP-Fuse tries."""


class Seen(NamedTuple):
    """What is known of the text before a token.

    Attributes
    ----------
    log_p : (m,) array
        Log-probability of the text under each model.
    k_bits : () array
        Bits of the tokens so far, added up.
    length : () array of float
        Number of tokens so far.
    """

    log_p: Array
    k_bits: Array
    length: Array

    @classmethod
    def nothing(cls, m: int, dtype: Any = jnp.float32) -> Seen:
        """What is known before the first token."""
        return cls(jnp.zeros(m, dtype), jnp.zeros((), dtype), jnp.zeros((), dtype))


@dataclasses.dataclass(frozen=True)
class CPDelta:
    """CP-Delta for each token; ``k_bits`` is that of `naf.cp_delta`, for m >= 2 models.

    Examples
    --------
    >>> rows = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
    >>> round(float(CPDelta()(rows, Seen.nothing(2)).k_bits), 4)
    0.415
    """

    kind: Kind = "max"

    def __call__(self, log_p: Float[Array, "m outcomes"], seen: Seen) -> Joined:
        """Join the distributions of the next token."""
        return join(log_p, self.kind)


@dataclasses.dataclass(frozen=True)
class CPFuse:
    """CP-Fuse, for two models: the model that has explained more of the text counts less.

    ``log p = a log q_1 + b log q_2 + const`` for those (a, b) of a grid of 18 x 18 that minimize
    the larger of ``KL(p, q_i) - log q_i(text so far)``. It promises no k; ``k_bits`` is the larger
    of both ``KL(p, q_i)``. A token costs 324 sums over the vocabulary.

    References
    ----------
    Abad et al., Copyright-protected language generation via adaptive model fusion, 2025.

    Examples
    --------
    >>> rows = jnp.log(jnp.array([[0.5, 0.5], [0.5, 0.5]]))
    >>> jnp.exp(CPFuse()(rows, Seen.nothing(2)).log_p)
    Array([0.5, 0.5], dtype=float32)
    """

    def __call__(self, log_p: Float[Array, "2 outcomes"], seen: Seen) -> Joined:
        """Join the distributions of the next token."""
        grid = jnp.array(_GRID, log_p.dtype)

        def at(a: Array, b: Array) -> tuple[Array, Array]:
            p = _mixture(log_p, jnp.stack([a, b]))
            return p, delta_kl(p[None], log_p)

        def cost(a: Array, b: Array) -> Array:
            cost = jnp.max(at(a, b)[1] * math.log(2) - seen.log_p)
            return jnp.where(jnp.isnan(cost), jnp.inf, cost)

        costs = jax.lax.map(lambda a: jax.vmap(lambda b: cost(a, b))(grid), grid)
        best = jnp.argmin(costs)
        p, bits = at(grid[best // len(grid)], grid[best % len(grid)])
        return Joined(p, jnp.max(bits))


@dataclasses.dataclass(frozen=True)
class Anchored:
    """Anchored decoding: the distribution nearest to the first model within a budget of bits.

    The first model is the risky one, the second the safe one. Of all p with ``KL(p, safe)`` within
    the budget, ``p = risky^s safe^(1-s) / Z`` with the largest s in [0, 1] is the nearest to risky.
    Each token adds ``bits`` to the budget, and what a token leaves is kept for later ones. So T
    tokens have spent ``bits T`` at most; ``k_bits`` is what a token spends.

    References
    ----------
    He et al., Anchored decoding, 2026.

    Examples
    --------
    >>> rows = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
    >>> jnp.exp(Anchored(bits=0.0)(rows, Seen.nothing(2)).log_p)
    Array([0.5, 0.5], dtype=float32)
    """

    bits: float

    def __post_init__(self) -> None:
        if not 0 <= self.bits < math.inf:
            raise InputError(f"bits is {self.bits}; give a number of bits per token, at least 0")

    def __call__(self, log_p: Float[Array, "2 outcomes"], seen: Seen) -> Joined:
        """Join the distributions of the next token."""
        budget = self.bits * (seen.length + 1) - seen.k_bits
        one = jnp.ones((), log_p.dtype)

        def spent(s: Array) -> Array:
            return delta_kl(_mixture(log_p, jnp.stack([s, 1 - s])), log_p[1])

        def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = 0.5 * (ends[0] + ends[1])
            fits = spent(middle) <= budget  # never for NaN, where nothing is shared
            return jnp.where(fits, middle, ends[0]), jnp.where(fits, ends[1], middle)

        steps = jnp.finfo(log_p.dtype).nmant + 1
        low, _ = jax.lax.fori_loop(0, steps, halve, (0 * one, one))
        s = jnp.where(spent(one) <= budget, one, low)
        p = _mixture(log_p, jnp.stack([s, 1 - s]))
        return Joined(p, jnp.where(s > 0, spent(s), 0.0))


Rule: TypeAlias = CPDelta | CPFuse | Anchored
"""A rule by which models are joined."""


def _mixture(log_p: Array, powers: Array) -> Array:
    """Normalized product of powers; a power of 0 leaves a model out, with its zeros."""
    weighted = jnp.where(powers[:, None] == 0, 0.0, powers[:, None] * log_p)
    total = jnp.sum(weighted, axis=0)
    return total - log_sum(total)


class Generated(NamedTuple):
    """Texts that models have written together.

    Attributes
    ----------
    tokens : (batch, length) int32 array
    k_bits : (batch, length) array or None
        Bits of each token by the rule, from float32 logits; None for one model. `naf.path_bound`
        adds them up.
    log_p : (batch, m) array
        Log-probability of each text under each model.
    """

    tokens: Int[Array, "batch length"]
    k_bits: Float[Array, "batch length"] | None
    log_p: Float[Array, "batch m"]


def generate(
    models: Sequence[nnx.Module],
    prompt: ArrayLike,
    length: int,
    rule: Rule | None = None,
    key: Array | None = None,
) -> Generated:
    """Continue prompts with one model, or with several by a rule.

    Parameters
    ----------
    models : sequence of GPT2 or Llama
        One, or m of one vocabulary.
    prompt : (batch, prefix) array of int
    length : int
        Number of tokens to write.
    rule : Rule, optional
        How several models are joined; None for one model.
    key : jax.random.key, optional
        Tokens are drawn from the joined distribution; without a key the likeliest is taken.

    Raises
    ------
    InputError
        Models and rule don't fit together, or the prompt does not fit the models.

    Notes
    -----
    Keys and values of past tokens are kept, so a token costs a pass of one position through each
    model. A bound k is one for *draws* from the joined distribution. What is likeliest under it may
    be a copy, with any k. Where models share no token, k is ``inf`` and token 0 is written.

    Examples
    --------
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> config = GPT2Config(vocab_size=9, context=16, width=8, num_layers=1, num_heads=1)
    >>> models = [GPT2(config, nnx.Rngs(seed)) for seed in (0, 1)]
    >>> found = generate(models, jnp.array([[1, 2]]), 5, CPDelta(), jax.random.key(0))
    >>> found.tokens.shape, found.k_bits.shape
    ((1, 5), (1, 5))
    """
    given = jnp.asarray(prompt)
    _check(models, given, length, rule)
    graphs, params = zip(*(nnx.split(model) for model in models), strict=True)
    keys = None if key is None else jax.random.split(key, length)
    return _generate(graphs, length, rule, params, given, keys)


def _check(models: Sequence[Any], prompt: Array, length: int, rule: Rule | None) -> None:
    m = len(models)
    if (rule is None) != (m == 1) or (m != 2 and not isinstance(rule, CPDelta | None)):
        raise InputError(
            f"there are {m} models and the rule is {rule}; give one model and no rule, two and a "
            "rule, or more and CPDelta"
        )
    sizes = {model.config.vocab_size for model in models}
    if len(sizes) > 1:
        raise InputError(f"the vocabularies have {sorted(sizes)} tokens; give models of one")
    if prompt.ndim != 2 or not jnp.issubdtype(prompt.dtype, jnp.integer) or not prompt.size:
        raise InputError(
            f"prompt has dtype {prompt.dtype} and shape {prompt.shape}; give integers of shape "
            "(batch, prefix) with at least one token"
        )
    if not bool(((prompt >= 0) & (prompt < min(sizes))).all()):
        raise InputError(f"prompt has tokens outside of [0, {min(sizes)})")
    context = min(model.config.context for model in models)
    if length < 1 or prompt.shape[1] + length > context:
        raise InputError(
            f"length is {length} after {prompt.shape[1]} tokens; give a number from 1 to "
            f"{context - prompt.shape[1]}, as the context is {context}"
        )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
    graphs: Any, length: int, rule: Rule | None, params: Any, prompt: Array, keys: Array | None
) -> Generated:
    def extend(tokens: Array, caches: list[Any]) -> tuple[Array, list[Any]]:
        """Log-probabilities (batch, m, outcomes) of the next token, and longer caches."""
        models = [nnx.merge(*parts) for parts in zip(graphs, params, strict=True)]
        pairs = [m.extend(tokens, cache) for m, cache in zip(models, caches, strict=True)]
        logits = jnp.stack([logits for logits, _ in pairs], axis=1)
        return jax.nn.log_softmax(logits), [cache for _, cache in pairs]

    def choose(log_p: Array, seen: Seen, key: Array | None) -> tuple[Array, Array, Seen]:
        if rule is None:
            joined = Joined(log_p[:, 0], jnp.zeros(len(log_p), log_p.dtype))
        else:
            joined = jax.vmap(rule)(log_p, seen)
        if key is None:
            token = jnp.argmax(joined.log_p, axis=-1)
        else:
            token = jax.random.categorical(key, joined.log_p)
        token = jnp.where(jnp.isinf(joined.k_bits), 0, token).astype(jnp.int32)
        picked = jnp.take_along_axis(log_p, token[:, None, None], axis=-1)[..., 0]
        after = Seen(seen.log_p + picked, seen.k_bits + joined.k_bits, seen.length + 1)
        return token, joined.k_bits, after

    def step(carry: Any, key: Array | None) -> tuple[Any, tuple[Array, Array]]:
        log_p, caches, seen = carry
        token, k_bits, seen = choose(log_p, seen, key)
        return (*extend(token[:, None], caches), seen), (token, k_bits)

    batch, room = prompt.shape[0], prompt.shape[1] + length
    pairs = zip(graphs, params, strict=True)
    empty = [nnx.merge(*parts).empty_cache(batch, room) for parts in pairs]
    log_p, caches = extend(prompt.astype(jnp.int32), empty)
    seen = Seen(jnp.zeros((batch, len(graphs)), log_p.dtype), *jnp.zeros((2, batch), log_p.dtype))
    before = None if keys is None else keys[:-1]
    (log_p, _, seen), (tokens, k_bits) = jax.lax.scan(
        step, (log_p, caches, seen), before, length - 1
    )
    token, k_last, seen = choose(log_p, seen, None if keys is None else keys[-1])
    tokens = jnp.concatenate([tokens, token[None]]).T
    k_bits = jnp.concatenate([k_bits, k_last[None]]).T
    return Generated(tokens, None if rule is None else k_bits, seen.log_p)
