"""The settings of a training run, and what it measures at each step."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from copyreg_jax.errors import InputError

__all__ = ["STEPS_PER_CALL", "Metrics", "Settings", "refuse_unless"]

STEPS_PER_CALL = 8
"""Number of steps in one call of the compiled program, unless an update needs more."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a training run; the model it begins with and the data are not among them.

    Parameters
    ----------
    steps : int
        Number of batches, a multiple of ``accumulate``; the learning rate is a cosine over them.
    gamma : float, default 0
        Weight of the protection term, in nats squared.
    target_loss : float, optional
        Protected loss to aim at, in nats per token, in place of gamma; see
        `protection.raised_gamma`.
    batch_size : int, default 16
        Number of rows of a step.
    accumulate : int, default 1
        Number of steps that make one update of the weights, as one batch of all their rows would
        up to rounding. A protection term then needs one more pass without gradients for each step,
        a third more work.
    learning_rate : float, default 1e-3
        Peak learning rate.
    weight_decay : float, default 0.1
        Weight decay, applied to matrices only.
    seed : int, default 0
        Seed of the order of the rows.

    Examples
    --------
    >>> Settings(steps=100, target_loss=6.0).is_protected
    True
    >>> Settings(steps=100, accumulate=3)
    Traceback (most recent call last):
        ...
    copyreg_jax.errors.InputError: steps is 100; give a multiple of accumulate = 3
    """

    steps: int
    gamma: float = 0.0
    target_loss: float | None = None
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:  # JSON does not know numbers of NumPy
                try:
                    plain = int(value) if field.type == "int" else float(value)
                except (TypeError, ValueError, OverflowError):  # no number; int of NaN; of infinity
                    plain = None
                same = plain is not None and plain == value
                refuse_unless(same, f"{field.name} is {value}", "a plain number")
                object.__setattr__(self, field.name, plain)
        for name in ("steps", "batch_size", "accumulate"):
            value = getattr(self, name)
            refuse_unless(1 <= value < 2**31, f"{name} is {value}", ">= 1 and below 2^31")
        for name in ("gamma", "weight_decay", "seed"):
            value = getattr(self, name)
            refuse_unless(
                0 <= value < _LARGEST, f"{name} is {value}", ">= 0, in the range of float32"
            )
        refuse_unless(
            0 < self.learning_rate < np.inf, f"learning_rate is {self.learning_rate}", "> 0"
        )
        if self.target_loss is not None:
            refuse_unless(
                0 < self.target_loss < np.inf, f"target_loss is {self.target_loss}", "> 0"
            )
            refuse_unless(self.gamma == 0, f"target_loss and gamma = {self.gamma} are given", "one")
        whole = self.steps % self.accumulate == 0
        refuse_unless(
            whole, f"steps is {self.steps}", f"a multiple of accumulate = {self.accumulate}"
        )

    @property
    def steps_per_call(self) -> int:
        """Number of steps in one call: whole updates, about `STEPS_PER_CALL`."""
        return self.accumulate * max(1, STEPS_PER_CALL // self.accumulate)

    @property
    def is_protected(self) -> bool:
        """Whether there is a protection term."""
        return self.gamma > 0 or self.target_loss is not None


class Metrics(NamedTuple):
    """Numbers of one step; losses in nats per token, NaN where the batch has no such token.

    The first three losses are those of the step's own rows. ``penalty`` to ``gradient_norm`` belong
    to the update that the step is a part of, and are the same for each of ``accumulate`` steps.
    ``tokens_per_second`` counts targets without padding. It is NaN for the first steps, which wait
    for the compiler.
    """

    step: int
    cross_entropy: float
    protected: float
    unprotected: float
    penalty: float
    weight: float
    gamma: float
    running_protected: float
    gradient_norm: float
    tokens_per_second: float


def refuse_unless(condition: bool, found: str, wanted: str) -> None:
    """Refuse a value, and say what to give."""
    if not condition:
        raise InputError(f"{found}; give {wanted}")
