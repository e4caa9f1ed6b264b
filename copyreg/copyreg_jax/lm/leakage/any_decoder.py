"""Windows that no order-keeping sampler emits with a probability above 2^-b, proved."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flint import arb_mat, ctx
from numpy.typing import NDArray

import copyreg_jax
from copyreg_jax.certificates.certificate import ProvedDocument
from copyreg_jax.certificates.to_instance import input_errors
from copyreg_jax.checker import format, inextractable
from copyreg_jax.checker.arithmetic import ARITHMETIC, MAX_BITS, START_BITS, lower, upper
from copyreg_jax.checker.inextractable import TOGETHER, Inextractable
from copyreg_jax.checker.transformer import Rows, logits
from copyreg_jax.checker.weights import Model, read_model
from copyreg_jax.errors import InputError

__all__ = ["MAX_SLACK", "InextractableCertificate", "certify_windows", "logit_error"]

MAX_SLACK = 2.0**100
"""The largest slack that a certificate may have; see docs/reference/certificate-format.md."""

_LAYER = 24
"""Bits by which a layer widens the balls, about: 18 to 23 were measured."""


@dataclasses.dataclass(frozen=True, eq=False)
class InextractableCertificate(ProvedDocument):
    """Proved bits of windows. Made by `certify_windows`.

    Attributes
    ----------
    document : dict
        The content of the file. It holds the tokens of the windows, so it gives their text away.
    """

    parse = staticmethod(inextractable.parse)

    @functools.cached_property
    def _said(self) -> Inextractable:
        return inextractable.parse(self.document)

    @property
    def b(self) -> float:
        """The fewest bits of a window: no suffix has a probability above ``2^-b``."""
        return self._said.b

    @property
    def bits(self) -> list[float]:
        """The bits of each window."""
        return self._said.bits


def certify_windows(
    folder: str | Path,
    windows: NDArray[np.integer],
    prefix: int,
    *,
    slack: float = 0.0,
    progress: Callable[[int], None] = lambda done: None,
) -> InextractableCertificate:
    """Prove a bound on the probability of suffixes for all samplers that keep the order of logits.

    Parameters
    ----------
    folder : path
        A Hugging Face folder with a GPT-2 or a Llama: config.json and model.safetensors.
    windows : (w, prefix + suffix) array of integers
        Tokens.
    prefix : int
        Number of tokens of a window that the model is given.
    slack : float
        The bound then holds for every implementation whose logits are within so much of the exact
        ones; with 0, for exact logits alone.
    progress : callable, optional
        Called with the number of windows that are done.

    Raises
    ------
    InputError
        The folder holds no such model, or a setting or tensor that is not known; windows, prefix or
        slack do not fit.

    Notes
    -----
    The forward pass is that of real numbers, enclosed by balls. Each layer costs about 24 bits. 100
    tokens of a GPT-2 of 4 layers and width 128 take seconds, those of SmolLM2-135M minutes.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> from copyreg_jax.lm.models.hugging_face import save_pretrained
    >>> config = GPT2Config(vocab_size=50, context=16, width=8, num_layers=2, num_heads=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(GPT2(config), folder)
    ...     found = certify_windows(folder, np.arange(12).reshape(2, 6), prefix=2, slack=1e-4)
    >>> len(found.bits), found.b == min(found.bits)
    (2, True)
    """
    windows = np.asarray(windows)
    if windows.ndim != 2 or not len(windows) or windows.dtype.kind not in "iu":
        raise InputError(f"windows have shape {windows.shape}; give rows of token numbers")
    if not 1 <= prefix < windows.shape[1]:
        raise InputError(f"prefix is {prefix}; give a number from 1 to below {windows.shape[1]}")
    if not 0 <= slack <= MAX_SLACK:  # also refuses NaN
        raise InputError(f"slack is {slack}; give a number from 0 to 2^100")
    if windows.min() < 0:
        raise InputError("a window has a token below 0; give numbers of tokens")
    with ARITHMETIC, input_errors(), ctx.workprec(START_BITS):
        model = read_model(folder)
        inextractable.check_windows(model, windows)
        first = min(START_BITS + _LAYER * model.num_layers, MAX_BITS)
        bits, precision = [], first
        for start in range(0, len(windows), TOGETHER):
            group = windows[start : start + TOGETHER]
            larger, needed = _certain(model, group, prefix, slack, first)
            bits += [lower(inextractable.bits_of(row)) for row in larger]
            precision = max(precision, needed)
            progress(start + len(group))
    document = {
        "format": inextractable.FORMAT,
        "producer": f"copyreg-jax {copyreg_jax.__version__}",
        "model": model.hashes,
        "windows": windows.tolist(),
        "prefix": prefix,
        "suffix": windows.shape[1] - prefix,
        "slack": float(slack).hex(),
        "precision": precision,
        "bits": [number.hex() for number in bits],
        "b": min(bits).hex(),
    }
    return InextractableCertificate(json.loads(format.canonical(document)))


def _certain(
    model: Model, windows: NDArray[np.integer], prefix: int, slack: float, precision: int
) -> tuple[NDArray[np.int64], int]:
    """Tokens that are certainly larger, and the precision at which no more of them are found."""
    targets = windows[:, prefix:]
    best, tried = np.full(targets.size, -1), precision
    while True:
        states = inextractable.suffix_states(model, windows, prefix, tried)
        args = model, states, targets.ravel().tolist(), slack
        certain, possible = inextractable.count_larger(*args)
        # Where more bits find no more, logits are tied, as those of equal rows of the embedding.
        if (certain > best).any():
            best, precision = certain, tried
        tried *= 2
        if (certain == possible).all() or tried > min(MAX_BITS, 2 * precision):
            return best.reshape(targets.shape), precision


def logit_error(
    folder: str | Path, loaded: nnx.Module, windows: NDArray[np.integer], prefix: int
) -> float:
    """Bound how far the logits of a model in memory are from the exact ones, on some windows.

    Parameters
    ----------
    folder : path
        The files of the model.
    loaded : nnx.Module
        The same model as it is run, in float32 or bfloat16. Called with (w, length) tokens it
        returns (w, length, vocabulary) logits.
    windows : (w, prefix + suffix) array of integers
        Tokens.
    prefix : int
        Number of tokens of a window that the model is given; logits before the suffix are left out.

    Returns
    -------
    float
        An upper bound of the largest difference; infinite if a logit is not finite.

    Raises
    ------
    InputError
        The folder holds no such model, or a setting or tensor that is not known, or the windows are
        longer than its context or have a token that it has not.

    Notes
    -----
    Cost: that of `certify_windows` at its first precision, all logits of the suffixes in balls, and
    one call of the model.

    Examples
    --------
    >>> import tempfile
    >>> from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    >>> from copyreg_jax.lm.models.hugging_face import save_pretrained
    >>> model = GPT2(GPT2Config(vocab_size=50, context=16, width=8, num_layers=2, num_heads=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, folder)
    ...     0 < logit_error(folder, model, np.arange(12).reshape(2, 6), prefix=2) < 1e-6
    True
    """
    with jax.default_matmul_precision("float32"):
        found = np.asarray(loaded(jnp.asarray(windows[:, :-1])).astype(jnp.float32))
    worst = 0.0
    with ARITHMETIC, input_errors(), ctx.workprec(START_BITS):
        model = read_model(folder)
        inextractable.check_windows(model, windows)
        precision = min(START_BITS + _LAYER * model.num_layers, MAX_BITS)
        for start in range(0, len(windows), TOGETHER):
            group = windows[start : start + TOGETHER]
            states = inextractable.suffix_states(model, group, prefix, precision)
            theirs = found[start : start + TOGETHER, prefix - 1 :]
            worst = max(worst, _distance(model, states, theirs.reshape(len(states), -1)))
    return worst


def _distance(model: Model, states: Rows, found: NDArray[np.float32]) -> float:
    worst = 0.0
    for start, block in logits(model, states):
        part = found[:, start : start + len(block[0])].astype(np.float64)
        apart = (arb_mat(block) - arb_mat(part.tolist())).entries()
        worst = max(worst, *(upper(abs(ball)) for ball in apart))
    return worst
