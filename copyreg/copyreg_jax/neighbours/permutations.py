"""Shapley values from permutations that are drawn in pairs, with a stated error.

For more owners than a table can have, or where a worth costs too much to ask for all of them. The
theorem is in docs/neighbours/royalty.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.royalty import Royalties, members_of, payees_of

__all__ = ["sample"]

_FEWEST_PAIRS = 16
"""Permutation pairs before the first look at the bounds."""

_EVENTS = 5
"""Events that a bound may fail by: two by Hoeffding, three by Bernstein and the variance."""


def sample(
    worth: Callable[[np.ndarray], Any],
    owners: Sequence[str],
    marginals: tuple[float, float],
    *,
    max_values: int,
    half_width: float = 0.0,
    delta: float = 0.05,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Royalties:
    """Shapley values with stated error, where the worth of all coalitions is too much to ask for.

    Draws orders of the owners, each together with its reverse, until every interval is as narrow
    as wanted or ``max_values`` would be exceeded. No coalition is asked for twice.

    Parameters
    ----------
    worth : function from a (k, n) boolean array to (k,) numbers
        What each coalition is worth; True for the owners in it.
    owners : sequence of str
        At least two.
    marginals : pair of float
        Bounds, known beforehand, of ``v(S and i) - v(S)`` for every owner and coalition.
    max_values : int
        Most coalitions that ``worth`` may be asked for: at least ``32 (n - 1) + 2``.
    half_width : float, optional
        Stop when each owner's value is known within this; 0 for all of ``max_values``.
    delta : float, default 0.05
        Most probability that any interval is wrong.
    seed : int, default 0
    groups : mapping, optional
        As in `royalties`.

    Returns
    -------
    Royalties

    Raises
    ------
    InputError
        Settings out of range; a worth that is not finite; a marginal beyond the bounds.

    Notes
    -----
    The narrower of Hoeffding's bound and the empirical Bernstein bound, at a few looks that
    are fixed beforehand (docs/neighbours/royalty.md). A pair counts as one draw. The estimates of
    all owners add up to v(all) - v(none), up to rounding.

    Examples
    --------
    >>> additive = lambda S: S @ [3.0, 1.0]
    >>> found = sample(additive, ["a", "b"], (0.0, 4.0), max_values=400)
    >>> found.payees["a"].estimate, found.confidence
    (3.0, 0.95)
    """
    owners = tuple(owners)
    n, (least, most) = len(owners), marginals
    if n < 2 or len(set(owners)) != n:
        raise InputError(f"owners are {owners!r:.60}; give two or more different names")
    if not (math.isfinite(least) and math.isfinite(most) and least < most):
        raise InputError(f"marginals are {marginals}; give a finite lower and upper bound")
    counts = type(max_values) is int and type(seed) is int and seed >= 0
    if not (counts and 0 <= half_width < math.inf):
        raise InputError("max_values and seed >= 0 are integers, and half_width >= 0 is a number")
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta}; give a number between 0 and 1")
    of_payees = members_of(owners, groups)
    # A pair asks for at most 2 (n - 1) coalitions; the empty one and all owners are common.
    num_pairs, fewest = (max_values - 2) // (2 * (n - 1)), 2 * (n - 1) * _FEWEST_PAIRS + 2
    if max_values < fewest:
        raise InputError(f"max_values is {max_values}; {n} owners need at least {fewest}")
    looks = _looks(num_pairs)
    log_term = math.log(_EVENTS * n * len(looks) / delta)
    rng, known = np.random.default_rng(seed), _Known(worth)
    drawn, room = np.empty((0, n)), 0.0
    for look in looks:
        more, rounding = _pairs(known, rng, look - len(drawn), n, marginals)
        drawn, room = np.concatenate([drawn, more]), max(room, rounding)
        half = _half_widths(drawn, most - least, log_term) + room
        if half.max() <= half_width:
            break
    mean = drawn.mean(axis=0)
    # Shapley values are means of marginals, too.
    ends = np.clip([mean - half, mean + half], least - room, most + room)
    values = [(Fraction(low), Fraction(high)) for low, high in ends.T.tolist()]
    none, everyone = known(np.array([[False] * n, [True] * n]))
    payees, payout = payees_of(values, of_payees, gains=bool(everyone - none > room))
    for name, group in of_payees.items():
        payees[name] = payees[name]._replace(estimate=float(mean[group].sum()))
    return Royalties(payees, payout, 1 - delta, len(known.values))


def _looks(num_pairs: int) -> list[int]:
    """Numbers of pairs at which bounds are looked at: each twice the one before."""
    looks = [num_pairs]
    while looks[-1] >= 2 * _FEWEST_PAIRS:
        looks.append(looks[-1] // 2)
    return looks[::-1]


def _half_widths(drawn: np.ndarray, width: float, log_term: float) -> np.ndarray:
    """The narrower of both bounds, for each owner."""
    m = len(drawn)
    hoeffding = width * math.sqrt(log_term / (2 * m))
    spread = np.sqrt(2 * drawn.var(axis=0, ddof=1) * log_term / m)
    return np.minimum(hoeffding, spread + 7 * width * log_term / (3 * (m - 1)))


class _Known:
    """The worth of coalitions, each asked for once."""

    def __init__(self, worth: Callable[[np.ndarray], Any]) -> None:
        self.worth, self.values = worth, dict[bytes, float]()

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        keys = [key.tobytes() for key in np.packbits(coalitions, axis=1)]
        new = {key: i for i, key in enumerate(keys) if key not in self.values}
        if new:
            asked = coalitions[list(new.values())]
            found = np.asarray(self.worth(asked), dtype=np.float64)
            if found.shape != (len(asked),) or not np.isfinite(found).all():
                raise InputError(
                    f"worth gave shape {found.shape} for {len(asked)} coalitions, or a number that "
                    "is not finite; give one finite number for each"
                )
            self.values.update(zip(new, found.tolist(), strict=True))
        return np.array([self.values[key] for key in keys])


def _pairs(
    known: _Known, rng: np.random.Generator, m: int, n: int, marginals: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """For each of m orders and each owner, the mean of its marginals in the order and its reverse.

    The first k of the reverse are all but the first n - k of the order. Also what worths that are
    rounded to floats may change in a marginal.
    """
    orders = rng.permuted(np.tile(np.arange(n), (m, 1)), axis=1)
    places = np.argsort(orders, axis=1)
    first = places[:, None, :] < np.arange(n + 1)[None, :, None]  # the first k owners of an order
    both = np.stack([first, ~first]).reshape(-1, n)
    forward, others = known(both).reshape(2, m, n + 1)
    gains = np.stack([np.diff(forward, axis=1), -np.diff(others, axis=1)])
    # Two roundings of worths and one of the difference, and as many again for the means.
    slack = 2.0**-50 * float(max(np.abs(forward).max(), np.abs(others).max()))
    low, high = float(gains.min()), float(gains.max())
    if low < marginals[0] - slack or high > marginals[1] + slack:
        raise InputError(
            f"marginals from {low:.6g} to {high:.6g} were met, beyond the bounds {marginals}; "
            "give bounds that hold"
        )
    return np.take_along_axis(gains.mean(axis=0), places, axis=1), slack
