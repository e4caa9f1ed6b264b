"""The probability that a sample is nearly a true suffix: a lower bound, by constrained beam search.

A sample is near a suffix if it differs from it in few tokens (Hamming distance). There are too many
such texts to add all their probabilities, so those of the likeliest that a search finds are added.
Different texts are disjoint events, so the sum is a lower bound, and nothing is drawn.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import NDArray

from copyreg_jax.errors import InputError
from copyreg_jax.lm.leakage.sampling import PROBABILITY, discoverable, samples_needed
from copyreg_jax.lm.leakage.teacher_forced import Suffixes, check_top_k
from copyreg_jax.lm.models.layers import vocabulary_size

__all__ = ["NearVerbatim", "near_verbatim_mass", "search_near"]

_BEAMS = 64
"""The most beginnings that go through the model at once; their caches take most of the memory."""

_UNIT = 2.0**-24
"""Half of a float32's last place at 1: the relative error of one rounding."""

_ELEMENTARY = 8
"""``exp`` and ``log`` are taken to be right within so many: four units of the last place."""


class NearVerbatim(NamedTuple):
    """What of a work a model writes nearly word for word.

    Attributes
    ----------
    distance : int
        Number of tokens of a suffix that may be others.
    num_passages : int
        Number of all passages.
    num_searched : int
        Number of those that were searched: the likeliest of the ones that are not extractable word
        for word. The others of these have no part in the bounds.
    extractable : float
        Lower bound of the share of all passages that are extractable nearly word for word, by the
        budget that counts for the word-for-word ones, which are among them.
    log_p : float
        log of the largest probability, a lower bound, that was found in the search; NaN without
        one.
    log10_samples : float
        log10 of the number of samples that is enough for it.
    gain : float
        Median over the searched passages of log10 of the factor between the probabilities, nearly
        and exactly; ``inf`` if sampling never gives most of them exactly, NaN without a search.
    """

    distance: int
    num_passages: int
    num_searched: int
    extractable: float
    log_p: float
    log10_samples: float
    gain: float


def search_near(
    model: nnx.Module,
    windows: NDArray[np.int32],
    found: Suffixes,
    *,
    prefix: int,
    top_k: int | None,
    budget: int,
    number: int,
    distance: int,
    width: int,
    label: Callable[[int], str] = lambda number: f"window {number}",
    callback: Callable[[float], None] = lambda share: None,
) -> NearVerbatim | None:
    """Search for what is nearly the likeliest suffixes that are not extractable word for word.

    Parameters
    ----------
    model, prefix, top_k, distance, width, label, callback
        See `near_verbatim_mass`.
    windows : (w, prefix + suffix) int32 array
        At least one.
    found : Suffixes
        What `read_suffixes` has computed of these w windows.
    budget : int
        Number of samples that count, >= 1.
    number : int
        The most windows that are searched; 0 for no search.

    Returns
    -------
    NearVerbatim or None
        None if the number is 0.

    Raises
    ------
    InputError
        See `near_verbatim_mass`.

    Notes
    -----
    Cost: that of `near_verbatim_mass` for ``number`` windows, or for fewer if fewer are not
    extractable word for word.

    Examples
    --------
    >>> from copyreg_jax.lm.leakage.teacher_forced import read_suffixes
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> model = GPT2(GPT2Config(vocab_size=4, context=8, width=8, num_layers=1, num_heads=2))
    >>> windows = np.random.default_rng(0).integers(0, 4, (9, 6), np.int32)
    >>> near = search_near(
    ...     model, windows, read_suffixes(model, windows, prefix=2), prefix=2, top_k=None,
    ...     budget=10, number=3, distance=1, width=4,
    ... )
    >>> near.num_passages, near.num_searched, near.log10_samples < 2
    (9, 3, True)
    """
    if number == 0:
        return None
    exact = discoverable(found.log_sample, budget, PROBABILITY)
    order = np.lexsort((-found.log_p, -found.log_sample))
    chosen = order[~exact[order]][:number]
    log_p = near_verbatim_mass(
        model, windows[chosen], prefix=prefix, distance=distance, width=width, top_k=top_k,
        label=lambda k: label(int(chosen[k])), callback=callback,
    )  # fmt: skip
    near = int(discoverable(log_p, budget, PROBABILITY).sum())
    with np.errstate(invalid="ignore"):  # neither exactly nor nearly
        gain = np.nan_to_num((log_p - found.log_sample[chosen]) / math.log(10), posinf=math.inf)
    likeliest = float(log_p.max(initial=-math.inf))
    return NearVerbatim(
        distance=distance,
        num_passages=len(windows),
        num_searched=len(chosen),
        extractable=(int(exact.sum()) + near) / len(windows),
        log_p=likeliest if len(chosen) else math.nan,
        log10_samples=float(samples_needed(likeliest).log10) if len(chosen) else math.nan,
        gain=float(np.median(gain)) if len(chosen) else math.nan,
    )


def near_verbatim_mass(
    model: nnx.Module,
    windows: NDArray[np.int32],
    *,
    prefix: int,
    distance: int,
    width: int = 20,
    top_k: int | None = None,
    label: Callable[[int], str] = lambda number: f"window {number}",
    callback: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float64]:
    """Bound from below the probability that a sample differs from a suffix in few tokens.

    Parameters
    ----------
    model : GPT2 or Llama
        Or another causal nnx.Module with their methods ``empty_cache`` and ``extend``. An array of
        its cache has the batch as the first axis, or no axis.
    windows : (w, prefix + suffix) int32 array
    prefix : int
        Number of tokens of a window that the model is given.
    distance : int
        A sample is near if it has another token than the suffix at so many places or fewer. So it
        is near by Levenshtein distance too, which is never larger.
    width : int
        Number of beginnings of a sample that are kept for each window, at least 1.
    top_k : int, optional
        Samples are drawn from the k likeliest tokens, at temperature 1. By default all tokens.
    label : callable, optional
        What to call the window of a number in messages.
    callback : callable, optional
        Called after each batch with the share of the windows that is done.

    Returns
    -------
    (w,) float64 array
        log of the lower bound; ``-inf`` if the search finds nothing that can be drawn.

    Raises
    ------
    InputError
        A number is out of range, or a logit is NaN or infinite upwards.

    Notes
    -----
    The true suffix's own beginning is always kept. Of all others the ``width - 1`` likeliest are,
    and one with too many other tokens is dropped. A beginning that is near, whatever follows, is
    counted with all its probability, and is not continued. So the bound is at least the probability
    of the first ``suffix - distance`` true tokens.

    If ``width`` is no less than the number of beginnings that are left after any token, the bound
    is the probability itself. A larger width gives no smaller bound if the distance is 0 or 1. If
    it is more, what a larger width keeps may branch, and push out what would have become likelier.

    Given the float32 logits the bound holds: normalizing sums are rounded up, by a bound of their
    error that takes ``exp`` and ``log`` to be right within four units of the last place, and what
    is added up is rounded down. For 50 tokens that takes a tenth of a percent from the bound if the
    vocabulary has 256 tokens, and half a percent if it has 50,000. The logits themselves are
    float32 results, whose error no bound is known of.

    Cost: ``prefix + width * (suffix - 1)`` tokens through the model for each window.

    References
    ----------
    Cooper et al., Estimating near-verbatim extraction risk in language models with
    decoding-constrained beam search, arXiv:2603.24917, 2026. This is its idea, not its code.

    Examples
    --------
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> model = GPT2(GPT2Config(vocab_size=2, context=8, width=8, num_layers=1, num_heads=2))
    >>> windows = np.array([[0, 1, 0, 1]], np.int32)  # the suffix is 0, 1; near are 0, 0 and 1, 1
    >>> np.exp(near_verbatim_mass(model, windows, prefix=2, distance=1)).round(2)
    array([0.75])
    """
    suffix = windows.shape[1] - prefix
    if prefix < 1 or suffix < 1:
        raise InputError(f"prefix is {prefix}; give a number from 1 to below {windows.shape[1]}")
    if not 0 <= distance < suffix:
        raise InputError(
            f"distance is {distance}; give a number of tokens, from 0 to below the {suffix} of a "
            "suffix"
        )
    if width < 1:
        raise InputError(f"width is {width}; give a number of beginnings, at least 1")
    check_top_k(top_k, vocabulary_size(model))
    graph, params = nnx.split(model)
    batch = max(1, _BEAMS // width)
    bounds = [np.zeros(0)]
    for start in range(0, len(windows), batch):
        part = windows[start : start + batch]
        # Filled up: one program for all parts.
        full = np.pad(part, ((0, batch - len(part)), (0, 0)))
        with jax.default_matmul_precision("float32"):  # not TF32, where products are float32
            logs, sound = _search(graph, prefix, distance, width, top_k, params, full)
        for k in np.flatnonzero(~np.asarray(sound)[: len(part)]).tolist():
            raise InputError(
                f"the model gives a text near {label(start + k)} a probability of NaN; train it "
                "anew"
            )
        bounds.append(_add_up(np.asarray(logs, np.float64)[:, : len(part)]))
        callback((start + len(part)) / len(windows))
    return np.concatenate(bounds)


def _add_up(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of sums over the steps and beams of each window, rounded down."""
    rows = logs.transpose(1, 0, 2).reshape(logs.shape[1], -1)
    largest = rows.max(axis=1)
    some = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):  # nothing found: log 0
        total = some + np.log(np.exp(rows - some[:, None]).sum(axis=1))
    # As many roundings as terms and a few, and those of a number as large as the largest.
    return total - (rows.shape[1] + 4 + np.abs(some)) * 2.0**-51


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _search(
    graph: Any, prefix: int, distance: int, width: int, top_k: int | None,
    params: Any, windows: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """Logs of what is counted, (suffix, w, width), and whether all logits were numbers."""
    model = nnx.merge(graph, params)
    number, length = windows.shape
    suffix = windows[:, prefix:]
    choose = functools.partial(_choose, distance, top_k)

    def take(cache: Any, rows: Array) -> Any:
        return jax.tree.map(lambda leaf: leaf[rows] if leaf.ndim else leaf, cache)

    def step(carry: Any, given: tuple[Array, Array]) -> tuple[Any, tuple[Array, Array]]:
        beams, token, cache = carry
        logits, longer = model.extend(token.reshape(-1, 1), cache)
        beams, token, parent, done, sound = choose(beams, logits, *given)
        return (beams, token, take(longer, parent)), (done, sound)

    # One beam is alive at first, with all of the probability.
    alone = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf).astype(jnp.float32)
    beams = (jnp.tile(alone[None], (number, 1)), jnp.zeros((number, width), jnp.int32))
    logits, cache = model.extend(windows[:, :prefix], model.empty_cache(number, length - 1))
    copies = jnp.repeat(jnp.arange(number, dtype=jnp.int32), width)
    left = jnp.arange(length - prefix, dtype=jnp.int32)[::-1]
    beams, token, parent, done, sound = choose(beams, logits[copies], suffix[:, 0], left[0])
    carry = beams, token, take(take(cache, copies), parent)
    _, (rest, others) = jax.lax.scan(step, carry, (suffix.T[1:], left[1:]))
    return jnp.concatenate([done[None], rest]), sound & others.all(axis=0)


def _choose(
    distance: int, top_k: int | None, beams: tuple[Array, Array], logits: Array,
    true: Array, left: Array,
) -> tuple[tuple[Array, Array], Array, Array, Array, Array]:  # fmt: skip
    """Continue the beams of each window by a token, and keep as many.

    ``left`` is the number of tokens of the suffix after this one. Returned are the beams, their
    tokens, the rows of the batch that they continue, the logs of what is counted now, and whether
    the logits of the window are numbers.
    """
    log_p, wrong = beams
    number, width = log_p.shape
    logits = logits.astype(jnp.float32).reshape(number, width, -1)
    finite = (logits < jnp.inf).all(axis=2) & (logits > -jnp.inf).any(axis=2)
    sound = (finite | (log_p == -jnp.inf)).all(axis=1)

    # Of equal logits top-k takes those with the smaller number, as where p_z is computed.
    kept, tokens = jax.lax.top_k(logits, min(width, logits.shape[2]) if top_k is None else top_k)
    total = _log_total(logits if top_k is None else kept)
    is_true = tokens == true[:, None, None]
    own = jnp.take_along_axis(logits, true[:, None, None], axis=2)
    if top_k is not None:
        own = jnp.where(is_true.any(axis=2, keepdims=True), own, -jnp.inf)
    # The true token comes first, and once. Of all others no more than there are beams have a use.
    others = jnp.where(is_true, -jnp.inf, kept)[:, :, :width]
    log_q = _down(jnp.concatenate([own, others], axis=2) - total)
    first = jnp.broadcast_to(true[:, None, None], own.shape).astype(tokens.dtype)
    tokens = jnp.concatenate([first, tokens[:, :, :width]], axis=2)

    log_p = _down(log_p[:, :, None] + log_q)
    is_other = jnp.arange(log_q.shape[2]) > 0
    wrong = wrong[:, :, None] + is_other.astype(jnp.int32)[None, None]
    log_p = jnp.where(wrong <= distance, log_p, -jnp.inf)
    # Near, whatever follows: counted and not continued. Only a true token can bring that about.
    near = wrong + left <= distance
    done = jnp.where(near, log_p, -jnp.inf)[:, :, 0]
    log_p = jnp.where(near, -jnp.inf, log_p)

    def flat(array: Array) -> Array:
        return array.reshape(number, -1)

    # The true suffix's beginning goes before all.
    rank = jnp.where((wrong == 0) & (log_p > -jnp.inf), jnp.inf, log_p)
    _, best = jax.lax.top_k(flat(rank), width)
    log_p, wrong, token = (
        jnp.take_along_axis(flat(array), best, axis=1) for array in (log_p, wrong, tokens)
    )
    rows = width * jnp.arange(number, dtype=best.dtype)[:, None] + best // log_q.shape[2]
    return (log_p, wrong), token, rows.reshape(-1), done, sound


def _down(x: Array) -> Array:
    """A float32 result, one place lower: below the number that was rounded."""
    return jnp.nextafter(x, jnp.float32(-jnp.inf))


def _log_total(logits: Array) -> Array:
    """Log of the sum of ``exp(logits)`` over the last axis, which is kept, from above.

    A sum in pieces has fewer roundings in a row; the barrier keeps the compiler from joining them.
    """
    size = logits.shape[-1]
    piece = math.isqrt(size - 1) + 1
    largest = jnp.max(logits, axis=-1, keepdims=True)
    terms = jnp.exp(logits - largest)
    terms = jnp.pad(terms, [(0, 0)] * (terms.ndim - 1) + [(0, piece * piece - size)])
    pieces = jax.lax.optimization_barrier(terms.reshape(*terms.shape[:-1], piece, piece).sum(-1))
    total = jnp.log(pieces.sum(axis=-1, keepdims=True))
    # Relative errors of the sum: its additions, `exp`, and its arguments, whose mean weighted by
    # the terms is log(size) at most. Then `log`, whose value is log(size) at most. Twice as much
    # covers their products, and this sum.
    slack = 2 * (2 * piece + _ELEMENTARY + (1 + _ELEMENTARY) * math.log(size) + 1) * _UNIT
    return jnp.nextafter(largest + (total + jnp.float32(slack)), jnp.float32(jnp.inf))
