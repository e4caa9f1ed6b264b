"""Windows that no order-keeping sampler emits with a probability above 2^-b, proved for a model.

    python -m copyreg_jax.checker CERTIFICATE MODEL_FOLDER

The logits are those of the exact real-number forward pass (`transformer`) of the weights in the
folder (`weights`). Let r_t be one more than the number of tokens whose logit is above that of the
true token t by more than 2 slack. Any sampler that gives no token a larger probability than one
with a larger logit, on any logits within ``slack`` of the exact ones, gives token t at most 1/r_t;
so the suffix of a window at most ``2^-b``, ``b = sum_t log2 r_t``. The theorem is in
docs/theory/inextractable.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from flint import arb, ctx

from copyreg_jax.checker.arithmetic import ARITHMETIC, MAX_BITS, START_BITS, sum_balls, upper
from copyreg_jax.checker.check import control_machine
from copyreg_jax.checker.format import check_producer, fields, read_number, read_statements
from copyreg_jax.checker.transformer import Rows, final_states, logits
from copyreg_jax.checker.verdicts import (
    CheckResult,
    Tested,
    Verdict,
    at_least,
    judge,
    require,
    worst,
)
from copyreg_jax.checker.weights import Model, read_model

__all__ = [
    "FORMAT",
    "TOGETHER",
    "Inextractable",
    "Progress",
    "bits_of",
    "check_inextractable",
    "check_windows",
    "count_larger",
    "parse",
    "suffix_states",
]

FORMAT = "copyreg-inextractable/1"

TOGETHER = 4
"""Windows that are computed at once; more are faster and take more memory."""

Progress: TypeAlias = Callable[[int, int], None]
"""Is told how many windows are done, and how many there are."""


class Inextractable(NamedTuple):
    """The content of such a certificate, numbers decoded.

    Attributes
    ----------
    document : dict
    model : dict
        SHA-256 of the two files of the model, as ``config`` and ``weights``.
    windows : (w, prefix + suffix) int64 array
    prefix : int
        Tokens of a window that are given; the rest is the suffix.
    slack : float
        How far the logits of an implementation may be from the exact ones.
    precision : int
        Bits of the balls in the first layer.
    bits : list of float
        The b of each window.
    b : float
        The smallest of them.
    """

    document: dict[str, Any]
    model: dict[str, Any]
    windows: np.ndarray
    prefix: int
    slack: float
    precision: int
    bits: list[float]
    b: float


def check_inextractable(
    path: str | Path, folder: str | Path, progress: Progress = lambda done, number: None
) -> CheckResult:
    """Prove a certificate of inextractable windows again, from the files of the model.

    Parameters
    ----------
    path : path
        File written by ``copyreg audit --certificate``.
    folder : path
        The Hugging Face folder of the model.
    progress : callable, optional
        Called with the numbers of windows that are done, and of all.

    Returns
    -------
    CheckResult
        CERTIFIED: the bits of every window are proved. REFUTED: a window is proved to have fewer.
        UNDECIDED: neither. VOID: nothing was tested. Nothing is raised.

    Examples
    --------
    >>> check_inextractable("no-such-file", "no-such-folder").verdict.name
    'VOID'
    """

    def test() -> Tested:
        with ARITHMETIC:
            control_machine()
            said = read_statements(path, parse)
            model = read_model(folder)
            same = said.model == model.hashes
            require(same, "the certificate is for another model: a hash differs")
            check_windows(model, said.windows)
            with ctx.workprec(START_BITS):
                return _test(said, model, progress)

    return judge(test)


def parse(document: dict[str, Any]) -> Inextractable:
    """What a document says; `VoidError` if it is not of this format."""
    require(document.get("format") == FORMAT, f"the format is not {FORMAT}")
    names = "b", "bits", "format", "model", "precision", "prefix", "producer", "sha256", "slack"
    b, bits, _, model, precision, prefix, producer, _, slack, suffix, windows = fields(
        document, *names, "suffix", "windows"
    )
    check_producer(producer)
    fields(model, "config", "weights")
    sizes = precision, prefix, suffix
    require(all(type(size) is int for size in sizes), "a size is not an integer")
    require(START_BITS <= precision <= MAX_BITS, f"precision is {precision!r:.40}")
    require(prefix >= 1 and suffix >= 1, "prefix and suffix are not positive")
    lists = isinstance(windows, list) and isinstance(bits, list)
    require(lists and len(windows) == len(bits) >= 1, "there are no windows, or not as many bits")
    for window in windows:
        whole = isinstance(window, list) and len(window) == prefix + suffix
        require(whole, "a window has not prefix + suffix tokens")
        sound = all(type(token) is int and 0 <= token < 2**31 for token in window)
        require(sound, "a window holds what is no token")
    numbers = [read_number(number) for number in bits]
    least, delta = read_number(b), read_number(slack)
    # Minus zero too: it would be written as 2^--0.
    signs = [math.copysign(1.0, number) for number in (*numbers, least, delta)]
    require(min(signs) > 0, "bits or slack are negative")
    require(read_number(b) == min(numbers), "b is not the least of bits")
    require(delta <= 2.0**100, "slack is out of range")
    tokens = np.array(windows, np.int64)
    return Inextractable(document, model, tokens, prefix, delta, precision, numbers, least)


def check_windows(model: Model, windows: np.ndarray) -> None:
    """`VoidError` for tokens that the model has not, or more of them than it takes."""
    require(bool((windows < model.vocab_size).all()), "a window has a token that the model has not")
    require(windows.shape[1] - 1 <= model.context, "windows are longer than the model's context")


def suffix_states(model: Model, windows: np.ndarray, prefix: int, precision: int) -> Rows:
    """What the head is applied to before each token of the suffixes, window after window.

    The caller holds `ARITHMETIC`, here and below, and has set 128 bits.
    """
    length = windows.shape[1] - 1
    states = final_states(model, windows[:, :-1], precision)
    return [state for i, state in enumerate(states) if i % length >= prefix - 1]


def count_larger(
    model: Model, states: Rows, targets: list[int], slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """Count tokens whose logits are certainly, and possibly, above the target's by over 2 slack.

    Parameters
    ----------
    model : Model
    states : list of n lists of balls, each as long as the model is wide
        From `suffix_states`.
    targets : list of n int
        The true token after each state.
    slack : float
        How far the logits of an implementation may be from the exact ones, >= 0.

    Returns
    -------
    certain, possible : (n,) int64 arrays
        ``certain <= r - 1 <= possible`` for the rank r of docs/theory/inextractable.md.

    Notes
    -----
    The caller holds `ARITHMETIC` and has set 128 bits, as for `suffix_states`. Cost: n times
    vocab_size times width products of balls, in blocks of 2^20 logits. Nothing is raised for what
    `check_windows` lets pass.

    Examples
    --------
    >>> embedding = np.array([[1, 0], [0, 1], [2, 0]], np.float32)  # of three tokens
    >>> model = Model("gpt2", 3, 1, 2, 0, 1, 1, 8, 1e-5, 1.0, {"wte.weight": embedding}, {})
    >>> with ARITHMETIC, ctx.workprec(START_BITS):  # logits 1, 0 and 2; the target is token 1
    ...     certain, possible = count_larger(model, [[arb(1), arb(0)]], [1], slack=0.75)
    >>> certain.tolist(), possible.tolist()
    ([1], [1])
    """
    bars = [
        sum_balls(a * b for a, b in zip(state, model.embedding[target].tolist(), strict=True))
        + 2 * arb(slack)
        for state, target in zip(states, targets, strict=True)
    ]
    certain, possible = np.zeros((2, len(targets)), np.int64)
    for start, block in logits(model, states):
        for i, (row, bar, target) in enumerate(zip(block, bars, targets, strict=True)):
            certain[i] += sum(logit > bar for logit in row)
            others = [not logit <= bar for logit in row]
            # The target's logit is not above itself, whatever its balls leave open.
            possible[i] += sum(others) - (start <= target < start + len(row) and
                                          others[target - start])  # fmt: skip
    return certain, possible


def bits_of(larger: np.ndarray) -> arb:
    """``sum_t log2 (1 + larger_t)``, of the exact product."""
    return arb(math.prod(1 + number for number in larger.tolist())).log() / arb(2).log()


def _test(said: Inextractable, model: Model, progress: Progress) -> Tested:
    found: list[tuple[arb, arb]] = []
    for start in range(0, len(said.windows), TOGETHER):
        progress(start, len(said.windows))
        group = said.windows[start : start + TOGETHER]
        targets = group[:, said.prefix :]
        states = suffix_states(model, group, said.prefix, said.precision)
        counts = count_larger(model, states, targets.ravel().tolist(), said.slack)
        pairs = zip(*(count.reshape(targets.shape) for count in counts), strict=True)
        found += [(bits_of(low), bits_of(high)) for low, high in pairs]
    for low, high in found:
        # A claim known to be false must not come out CERTIFIED, or this run proves nothing.
        above = math.nextafter(upper(high), math.inf)
        refused = _judge(low, high, above) is Verdict.REFUTED
        require(refused, "the control failed: a false claim was not refused")
    tested = [
        (f"window {i}: P(suffix | prefix) <= 2^-{bits:.17g}", _judge(low, high, bits))
        for i, ((low, high), bits) in enumerate(zip(found, said.bits, strict=True))
    ]
    number, length = said.windows.shape
    text = (
        f"no sampler that keeps the order of logits within {said.slack:.17g} of the exact ones "
        f"emits one of these {number} suffixes of {length - said.prefix} tokens, each after its "
        f"prefix of {said.prefix}, with a probability above 2^-{said.b:.17g}"
    )
    verdicts = [_judge(low, high, said.b) for low, high in found]
    return [*tested, (text, worst(*verdicts))]


def _judge(low: arb, high: arb, bits: float) -> Verdict:
    """Whether b >= bits, where b is no less than one number and no more than the other."""
    if at_least(low, bits) is Verdict.CERTIFIED:
        return Verdict.CERTIFIED
    return Verdict.REFUTED if high < bits else Verdict.UNDECIDED
