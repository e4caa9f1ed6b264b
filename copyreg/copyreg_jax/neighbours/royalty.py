"""Royalty shares: what each owner's data added to the likelihood of a text, by Shapley values.

v(S) is the log-likelihood of the text under the model trained on the data of the owners S. The
Shapley value phi_i is owner i's part of v(all) - v(none), and its share is ``max(0, phi_i)`` over
the sum of these. Theorems and proofs are in docs/neighbours/royalty.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np

from copyreg_jax.checker.format import Interval
from copyreg_jax.errors import InputError
from copyreg_jax.neighbours.coalitions import Table

__all__ = ["Payee", "Royalties", "royalties", "sample", "shapley"]

_Payout = Literal["certain", "possible", "none"]

_Exact = tuple[Fraction, Fraction]

_FEWEST_PAIRS = 16
"""Permutation pairs before the first look at the bounds."""

_EVENTS = 5
"""Events that a bound may fail by: two by Hoeffding, three by Bernstein and the variance."""


class Payee(NamedTuple):
    """What is known of one owner or group.

    Attributes
    ----------
    estimate : float
        Its Shapley value; the middle of the interval where only that is known.
    value : Interval
        Contains the Shapley value.
    share : Interval or None
        Contains its share, if there is a payout; None if there is none.
    separable : bool
        Whether the sign of its value is known: surely above 0, or surely not. The value of a group
        is the sum of its members'.
    """

    estimate: float
    value: Interval
    share: Interval | None
    separable: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Royalties:
    """Shapley values and shares of owners, or of groups of them.

    Attributes
    ----------
    payees : dict from str to Payee
    payout : "certain", "possible" or "none"
        Whether an owner's Shapley value is above 0. With "possible", intervals are too wide to
        tell, and shares are those if one is. With "none", nobody is paid: no share is defined.
    confidence : float
        Probability with which all intervals hold at once; 1 for an exact table, where they are
        proved.
    num_values : int
        Coalitions of which the worth was asked for.
    """

    payees: dict[str, Payee]
    payout: _Payout
    confidence: float
    num_values: int

    @property
    def shares(self) -> dict[str, Interval] | None:
        """The interval of each share; None if there is no payout."""
        found = {name: payee.share for name, payee in self.payees.items()}
        return {k: v for k, v in found.items() if v is not None} or None

    @property
    def values(self) -> dict[str, Interval]:
        """The interval of each Shapley value."""
        return {name: payee.value for name, payee in self.payees.items()}


def shapley(lower: Any, upper: Any = None) -> list[_Exact]:
    """Shapley values as exact rational numbers, from the worth of all coalitions.

    Parameters
    ----------
    lower, upper : (2^n,) or (2^n, k) array of floats
        As in `Table`; upper is the same as lower if not given.

    Returns
    -------
    list of pairs of Fraction
        The least and the largest Shapley value of each owner, for all numbers in the intervals.
        Both are attained. They are equal where numbers are given.

    Raises
    ------
    InputError
        As `Table`.

    Notes
    -----
    Floats are integers over one power of two, so sums are sums of integers: nothing is rounded.
    n 2^n operations with arrays of Python's integers; 20 ms for 12 owners.

    Examples
    --------
    >>> [str(low) for low, _ in shapley([0.0, 2.0, 1.0, 4.0])]
    ['5/2', '3/2']
    """
    shape = np.shape(lower)
    n = max(shape[0] if shape else 0, 1).bit_length() - 1
    owners = tuple(map(str, range(n)))
    return _shapley(Table(owners, lower, lower if upper is None else upper))


def _shapley(table: Table) -> list[_Exact]:
    n = len(table.owners)
    sums, unit = _integers(table)
    sizes = np.array([row.bit_count() for row in range(1 << n)])
    # w(s) n! for a coalition of s others: s! (n - 1 - s)! orders have just them before an owner.
    orders = [math.factorial(s) * math.factorial(n - 1 - s) for s in range(n)]
    found = []
    for i in range(n):
        low, high = (end.reshape(-1, 2, 1 << i) for end in sums)
        weights = np.array(orders, object)[sizes.reshape(-1, 2, 1 << i)[:, 0]]
        least = (weights * (low[:, 1] - high[:, 0])).sum()
        most = (weights * (high[:, 1] - low[:, 0])).sum()
        found.append((least * unit / math.factorial(n), most * unit / math.factorial(n)))
    return found


def _integers(table: Table) -> tuple[list[np.ndarray], Fraction]:
    """Both ends, summed over generations, as integers in one unit; and what that unit is."""
    ends = [end.reshape(len(end), -1) for end in (table.lower, table.upper)]
    ratios = [[v.as_integer_ratio() for v in end.ravel().tolist()] for end in ends]
    finest = math.lcm(*(below for end in ratios for _, below in end))
    whole = [
        np.array([above * (finest // below) for above, below in ratio], object) for ratio in ratios
    ]
    shape = ends[0].shape
    return [array.reshape(shape).sum(axis=1) for array in whole], Fraction(1, finest * shape[1])


def royalties(table: Table, groups: Mapping[str, Sequence[str]] | None = None) -> Royalties:
    """Exact Shapley values and shares, from the worth of all coalitions.

    Parameters
    ----------
    table : Table
        Numbers, or intervals that are known to contain them.
    groups : mapping from str to sequence of str, optional
        Owners who are paid together: each owner in one group. The value of a group is the sum of
        its members' values, and its share the sum of their shares. So no owner gains by another
        grouping. Each owner is a group if not given.

    Returns
    -------
    Royalties
        Intervals are proved: computed in exact arithmetic and rounded outward.

    Raises
    ------
    InputError
        Groups that leave an owner out or name one twice.

    Examples
    --------
    >>> found = royalties(Table.of({(): 0.0, ("a",): 2.0, ("b",): 1.0, ("a", "b"): 4.0}))
    >>> found.payees["a"].estimate, found.shares["a"]
    (2.5, Interval(lower=0.625, upper=0.625))
    """
    of_payees = _groups(table.owners, groups)
    sums, _ = _integers(table)
    gain = sums[0][-1] - sums[1][0]
    payees, payout = _payees(_shapley(table), of_payees, gains=bool(gain > 0))
    return Royalties(payees, payout, 1.0, len(table.lower))


def _groups(
    owners: Sequence[str], groups: Mapping[str, Sequence[str]] | None
) -> dict[str, list[int]]:
    """The places of the members of each payee."""
    if groups is None:
        return {owner: [i] for i, owner in enumerate(owners)}
    place = {owner: i for i, owner in enumerate(owners)}
    named = [owner for group in groups.values() for owner in group]
    for owner in named:
        if owner not in place:
            raise InputError(f"a group has {owner!r:.40}, who is no owner")
        if named.count(owner) > 1:
            raise InputError(f"{owner} is named twice in groups; each owner is in one")
    for owner in owners:
        if owner not in named:
            raise InputError(f"{owner} is in no group; each owner is in one")
    return {name: [place[owner] for owner in group] for name, group in groups.items()}


def _payees(
    values: Sequence[_Exact], groups: Mapping[str, list[int]], *, gains: bool
) -> tuple[dict[str, Payee], _Payout]:
    """Values and shares of groups; with ``gains``, all owners are surely worth more than none."""
    paid = [(max(low, Fraction(0)), max(high, Fraction(0))) for low, high in values]
    least, most = (sum((pair[end] for pair in paid), Fraction(0)) for end in (0, 1))
    payout: _Payout = "certain" if least > 0 or gains else "possible" if most > 0 else "none"
    payees = {}
    for name, group in groups.items():
        low, high = (sum((values[i][end] for i in group), Fraction(0)) for end in (0, 1))
        share = None
        if payout != "none":
            own, own_most = (sum((paid[i][end] for i in group), Fraction(0)) for end in (0, 1))
            share = _outward(
                _part(own, most - own_most, positive=own_most > 0),
                _part(own_most, least - own, positive=own_most > 0),
            )
        separable = low > 0 or high <= 0
        payees[name] = Payee(float((low + high) / 2), _outward(low, high), share, separable)
    return payees, payout


def _part(own: Fraction, others: Fraction, *, positive: bool) -> Fraction:
    """``own / (own + others)``; where both are 0, the limit: all is own's if own can be above 0."""
    if own + others == 0:
        return Fraction(positive)
    return own / (own + others)


def _outward(low: Fraction, high: Fraction) -> Interval:
    """The narrowest floats around two exact numbers."""
    below, above = float(low), float(high)
    return Interval(
        below if below <= low else math.nextafter(below, -math.inf),
        above if above >= high else math.nextafter(above, math.inf),
    )


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
    as wanted or `max_values` would be exceeded. No coalition is asked for twice.

    Parameters
    ----------
    worth : function from a (k, n) boolean array to (k,) numbers
        What each coalition is worth; True for the owners in it.
    owners : sequence of str
        At least two.
    marginals : pair of float
        Bounds, known beforehand, of ``v(S and i) - v(S)`` for every owner and coalition.
    max_values : int
        Most coalitions that `worth` may be asked for: at least ``32 (n - 1) + 2``.
    half_width : float, optional
        Stop when each owner's value is known within this; 0 for all of `max_values`.
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
    of_payees = _groups(owners, groups)
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
    payees, payout = _payees(values, of_payees, gains=bool(everyone - none > room))
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
