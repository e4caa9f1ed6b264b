"""The least value of L, and sets around all global minimizers, proved from a tree of boxes.

    python -m copyreg_jax.checker CERTIFICATE INSTANCE

The bytes of the tree say how a cube around all global minimizers was cut into boxes. They are hints
and no evidence: the boxes are made again out of the cube, and L is bounded on each again
(`box_replay`). The format is described in docs/reference/certificate-format.md, the theorems in
docs/theory/global.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from flint import arb, ctx

from copyreg_jax.checker.arithmetic import ARITHMETIC, MAX_BITS, START_BITS, Balls, upper
from copyreg_jax.checker.box_replay import replay
from copyreg_jax.checker.box_tree import LEAST_SCALE, least_radius, lowest
from copyreg_jax.checker.chart import Chart, chart
from copyreg_jax.checker.check import control_machine, require_same
from copyreg_jax.checker.data import Instance, read_instance
from copyreg_jax.checker.enclosures import (
    Found,
    OnSets,
    contracted,
    hulls,
    is_inside,
    mass_direction,
    on_sets,
    parts,
    reaches,
)
from copyreg_jax.checker.format import Interval, read_statements
from copyreg_jax.checker.global_claim import GlobalClaim, StatedSet, parse
from copyreg_jax.checker.proofs import at_point
from copyreg_jax.checker.verdicts import (
    CheckResult,
    Tested,
    Verdict,
    at_least,
    at_most,
    judge,
    require,
    worst,
)

__all__ = ["check_global", "is_within_gap", "proved_upper"]


def check_global(
    path: str | Path,
    instance: str | Path,
    progress: Callable[[int], None] = lambda done: None,
) -> CheckResult:
    """Prove a certificate of the global minimum again, without the search.

    Parameters
    ----------
    path : path
        File written by ``GlobalMinimum.certificate().save``, or by ``copyreg solve --global``.
    instance : path
        File written by ``save_instance``, or a folder of .npy files.
    progress : callable, optional
        Told from time to time how many boxes are done.

    Returns
    -------
    CheckResult
        CERTIFIED: all that the certificate says is proved again. REFUTED: a statement is proved to
        be false. UNDECIDED: neither. VOID: nothing was tested. Nothing is raised.

    Examples
    --------
    >>> check_global("no-such-file", "no-such-file").verdict.name
    'VOID'
    """
    way = None

    def test() -> Tested:
        nonlocal way
        with ARITHMETIC, ctx.workprec(START_BITS), np.errstate(all="ignore"):
            control_machine()
            said = read_statements(path, parse)
            claimed = said.document["instance"]
            data = read_instance(instance, (claimed["n"], claimed["d"]))
            require_same(claimed, data)
            coordinates = chart(data, said.V)
            require(coordinates.columns == said.columns, "columns do not span the others of A")
            tested, way = _test(said, coordinates, progress)
            return tested

    return judge(test)._replace(direction=way)


def proved_upper(data: Instance, x: np.ndarray) -> float:
    """A proved upper bound of L at x; infinite where none is found. Sets FLINT's precision."""
    bits, proved = START_BITS, math.inf
    while not math.isfinite(proved) and bits <= MAX_BITS:
        with ctx.workprec(bits):
            proved = upper(at_point(data, Balls(bits), x).value)
        bits *= 2
    return proved


def is_within_gap(low: float, high: float, gap: float) -> bool:
    """Whether ``high - low <= gap max(high, 2^-40)``, of the exact numbers."""
    return bool(arb(high) - arb(low) <= arb(gap) * max(high, LEAST_SCALE))


def _test(said: GlobalClaim, chart: Chart, progress: Callable[[int], None]) -> tuple[Tested, str]:
    """Every statement in words, with what is proved about it; and the direction, if proved."""
    best = proved_upper(chart.data, said.x)
    require(math.isfinite(best), "L is not finite at x, or too large")
    is_around = _proved(said.radius >= least_radius(chart, best))
    found = replay(chart, said.tree, said.radius, best, said.gap, progress=progress)
    left = contracted(chart, hulls(parts(chart, found.leaves)), said.sets)
    wrong = "the control failed" if is_around is Verdict.CERTIFIED else "the cube is too small"
    require(len(left.lower) > 0, f"{wrong}: all boxes were excluded")
    least = lowest(found.leaves, best)
    control = _lower(math.nextafter(best, math.inf), least, best)
    require(control is Verdict.REFUTED, "the control failed: a false claim was not refused")
    is_met = is_within_gap(said.lower, said.upper, said.gap)
    says = "as close as" if said.status == "PROVED" else "not as close as"
    inside = is_inside(left.lo, left.hi, said.sets)
    meets = _meet(left, said.sets)
    is_covered = worst(is_around, _proved(bool(inside.any(axis=1).all())))
    tested = [
        (f"L(x) <= {said.upper:.17g}", _at_x(said, chart.data)),
        (f"each global minimizer has |y_j| <= {said.radius:.17g}", is_around),
        (f"L >= {said.lower:.17g} everywhere", worst(is_around, _lower(said.lower, least, best))),
        (
            f"these bounds are {says} the gap {said.gap:.17g} asks",
            _decided(is_met == (said.status == "PROVED")),
        ),
        (f"each global minimizer is in one of {len(said.minimizers)} sets", is_covered),
        ("these sets do not meet", _decided(_are_apart(said.sets))),
    ]
    sets = on_sets(chart, said.sets.lo, said.sets.hi)
    for i, each in enumerate(said.minimizers):
        # What is left may reach beyond the set, and minimizers in it may be there all the same.
        bound = float(left.lower[meets[:, i]].min(initial=math.inf))
        is_above = worst(is_around, _proved(bound >= each.lower))
        lines = _on_set(chart, each, sets, i, is_above)
        tested += [(f"set {i}: {text}", verdict) for text, verdict in lines]
    low, high = said.margin
    margin = _within(sets.margin.lo.min(), sets.margin.hi.max(), said.margin)
    way = mass_direction(chart, sets.protected_mass)
    if is_covered is not Verdict.CERTIFIED:  # then nothing is known of all of them
        margin, way = Verdict.UNDECIDED, "undecided"
    mass = _decided(said.direction in ("undecided", way))
    if mass is Verdict.REFUTED and way == "undecided":
        mass = Verdict.UNDECIDED
    end = "is not said to go up or down" if said.direction == "undecided" else said.direction
    tested += [
        (f"at each global minimizer: margin in [{low:.17g}, {high:.17g}]", margin),
        (f"at each global minimizer: protected mass {end}", mass),
    ]
    return tested, said.direction if mass is Verdict.CERTIFIED else "undecided"


def _on_set(
    chart: Chart, each: StatedSet, sets: OnSets, i: int, is_above: Verdict
) -> Iterator[tuple[str, Verdict]]:
    """What is said of a set, and what is proved of it; that of its lower bound is given."""
    off = reaches(chart, each.lo, each.hi, each.x)
    is_near = all(a <= b for a, b in zip(off, each.radius.tolist(), strict=True))
    yield "its x are as near as it says", _proved(is_near)
    yield f"L >= {each.lower:.17g} at each global minimizer in it", is_above
    text = f"margin in [{each.margin.lower:.17g}, {each.margin.upper:.17g}]"
    yield text, _within(sets.margin.lo[i], sets.margin.hi[i], each.margin)
    mass = sets.protected_mass
    yield "its protected mass", _within(mass.lo[i], mass.hi[i], each.protected_mass)
    if each.is_unique:
        yield "one minimizer at most", _proved(bool(sets.is_convex[i]))


def _at_x(said: GlobalClaim, data: Instance) -> Verdict:
    """Whether ``L(x) <= upper``, with as many bits as that takes."""
    bits, found = START_BITS, Verdict.UNDECIDED
    while found is Verdict.UNDECIDED and bits <= MAX_BITS:
        with ctx.workprec(bits):
            found = at_most(at_point(data, Balls(bits), said.x).value, said.upper)
        bits *= 2
    return found


def _lower(claimed: float, proved: float, best: float) -> Verdict:
    """Whether L is at least a number everywhere; it is at most ``best`` somewhere."""
    if claimed <= proved:
        return Verdict.CERTIFIED
    return Verdict.REFUTED if at_least(arb(best), claimed) is Verdict.REFUTED else Verdict.UNDECIDED


def _meet(some: Found, others: Found) -> np.ndarray:
    """(m, k) whether each of m boxes has a point in common with each of k."""
    meet = (some.lo[:, None] <= others.hi[None]) & (others.lo[None] <= some.hi[:, None])
    return np.asarray(meet.all(axis=2))


def _are_apart(sets: Found) -> bool:
    return int(_meet(sets, sets).sum()) == len(sets.lower)


def _proved(holds: bool) -> Verdict:
    """That no proof was found proves nothing."""
    return Verdict.CERTIFIED if holds else Verdict.UNDECIDED


def _decided(holds: bool) -> Verdict:
    return Verdict.CERTIFIED if holds else Verdict.REFUTED


def _within(low: float, high: float, said: Interval) -> Verdict:
    """Whether all numbers of [low, high] are in the interval; REFUTED if none is."""
    if said.lower <= low and high <= said.upper:
        return Verdict.CERTIFIED
    return Verdict.REFUTED if high < said.lower or low > said.upper else Verdict.UNDECIDED
