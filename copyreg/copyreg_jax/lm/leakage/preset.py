"""How a work is cut for an audit, and what counts as given away."""

from __future__ import annotations

import dataclasses

from copyreg_jax.errors import InputError

__all__ = ["Preset"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """How a work is cut, and what counts.

    With ``top_k=40`` the sizes and the sampler are those of Cooper et al. (arXiv:2505.12546).

    Parameters
    ----------
    prefix, suffix : int
        Number of tokens of either part of a passage.
    stride : int
        A passage begins every so many characters.
    top_k : int or None
        Samples are drawn from this many likeliest tokens, at temperature 1; None for all tokens.
    least : float
        A suffix counts as extracted if a sample is the suffix with this probability.
    budget : int
        Number of samples that somebody may draw of each prefix, at most 2^53.
    alpha : float
        False-positive rate of the claim that a passage is memorized.
    outputs : int
        Number of passages, evenly spread over the work, after whose prefixes the model writes on;
        0 for none.
    written : int
        Number of tokens that it writes each time.
    near : int
        Number of passages of a work for which texts near them are searched, and as many of held-out
        text, see `searching.search_works`; 0 for none.
    distance : int or None
        A text is near if at most so many tokens of the suffix are others; None for a tenth of them.
    width : int
        Number of beams of that search.

    Examples
    --------
    >>> Preset(prefix=10, suffix=20, top_k=40).stride
    10
    >>> Preset(budget=0)
    Traceback (most recent call last):
        ...
    copyreg_jax.errors.InputError: budget is 0; give a number of samples, 1 to 2^53
    """

    prefix: int = 50
    suffix: int = 50
    stride: int = 10
    top_k: int | None = None
    least: float = 0.001
    budget: int = 1000
    alpha: float = 0.01
    outputs: int = 32
    written: int = 200
    near: int = 16
    distance: int | None = None
    width: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1:
            raise InputError(f"least is {self.least}; give a probability above 0")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha}; give a rate between 0 and 1")
        if not 1 <= self.budget <= 2**53:
            raise InputError(f"budget is {self.budget}; give a number of samples, 1 to 2^53")
        if self.outputs < 0 or self.written < 1:
            raise InputError(
                f"outputs is {self.outputs} and written {self.written}; give numbers, at least 0 "
                "and 1"
            )
        if self.near < 0 or self.width < 1:
            raise InputError(
                f"near is {self.near} and width {self.width}; give numbers, at least 0 and 1"
            )
        if self.distance is not None and not 0 <= self.distance < self.suffix:
            raise InputError(
                f"distance is {self.distance}; give a number of tokens, from 0 to below the "
                f"{self.suffix} of a suffix"
            )
