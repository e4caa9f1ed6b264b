"""Certificates of the global minimum: made of a search, and searches that go on from one."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import math
import zlib
from typing import NamedTuple

import numpy as np

import copyreg_jax
from copyreg_jax.certificates.certificate import ProvedDocument
from copyreg_jax.certificates.global_search import Frontier, descend
from copyreg_jax.certificates.search_tree import planted_tree, tree_bytes
from copyreg_jax.checker import format, global_claim
from copyreg_jax.checker.arithmetic import Box
from copyreg_jax.checker.box_replay import replay
from copyreg_jax.checker.box_tree import (
    LEAST_SCALE,
    OPEN,
    Leaves,
    batches,
    least_radius,
    look,
    lowest,
    paired,
)
from copyreg_jax.checker.chart import Chart, chart
from copyreg_jax.checker.data import Instance
from copyreg_jax.checker.enclosures import (
    contracted,
    hulls,
    mass_direction,
    on_sets,
    parts,
    reaches,
)
from copyreg_jax.checker.format import Interval
from copyreg_jax.checker.global_check import is_within_gap, proved_upper
from copyreg_jax.checker.global_claim import FORMAT, MAX_ENDS, MAX_SETS, GlobalClaim
from copyreg_jax.checker.verdicts import require
from copyreg_jax.errors import InputError

__all__ = ["GlobalCertificate", "Sets", "certify_globally", "enclosed", "frontier_of"]

_SLACK = 2.0**-10
"""The part of their widths by which leaves are widened before they are joined, and sets after."""

_GAP_SLACK = 0.004
"""The part of the gap by which lower bounds are lowered: the search leaves a hundredth of it."""


@dataclasses.dataclass(frozen=True, eq=False)
class GlobalCertificate(ProvedDocument):
    """A proof of the least value of L and of where all global minimizers are.

    Made by `GlobalMinimum.certificate`; ``copyreg check FILE INSTANCE`` proves it again.

    Attributes
    ----------
    document : dict
        The content of the file, described in docs/reference/certificate-format.md.
    """

    parse = staticmethod(global_claim.parse)

    @functools.cached_property
    def _said(self) -> GlobalClaim:
        return global_claim.parse(self.document)

    @property
    def status(self) -> str:
        """PROVED if ``lower`` and ``upper`` are as close as was asked for, else GAP."""
        return self._said.status

    @property
    def lower(self) -> float:
        """L is nowhere less."""
        return self._said.lower

    @property
    def upper(self) -> float:
        """L is no more than this at ``x``."""
        return self._said.upper

    @property
    def x(self) -> np.ndarray:
        """The best point, of shape (d,)."""
        return self._said.x

    @property
    def minimizers(self) -> list[global_claim.StatedSet]:
        """Sets that do not meet and contain all global minimizers."""
        return self._said.minimizers

    @property
    def margin(self) -> Interval:
        """Bounds of ``ell_1/n1 - ell_2/n2`` at every global minimizer."""
        return self._said.margin

    @property
    def direction(self) -> str:
        """The protected mass at every global minimizer: suppressed, amplified, or undecided."""
        return self._said.direction

    @property
    def num_boxes(self) -> int:
        """Boxes of the tree, as many as a check has to make."""
        return len(self._said.tree)

    @property
    def num_open(self) -> int:
        """Boxes that are left open."""
        return int((self._said.tree == OPEN).sum())

    def __repr__(self) -> str:
        return (
            f"<GlobalCertificate: {self.status}, min L in [{self.lower:.9g}, {self.upper:.9g}], "
            f"{self.num_boxes:,} boxes; {self.direction}>"
        )


class Sets(NamedTuple):
    """Disjoint boxes (k, d) around all global minimizers, and (k,) of what holds on each."""

    lo: np.ndarray
    hi: np.ndarray
    lower: np.ndarray
    is_unique: np.ndarray
    margin: Box
    protected_mass: Box


def enclosed(chart: Chart, leaves: Leaves, value: float) -> Sets:
    """Sets around what is left of a search, a little wider than it takes.

    Whoever adds in another order finds other sets inside of these, and that L is convex on them if
    it is on sets that are wider still. They stay within the hulls of widened leaves, which do not
    meet.
    """
    left = parts(chart, leaves.take(~(leaves.bound > value)))
    lo, hi = _wider(left.lo, left.hi, _SLACK)
    whole = hulls(left._replace(lo=lo, hi=hi))
    numbered = whole._replace(lower=np.arange(len(whole.lower)) * 1.0)
    left = contracted(chart, numbered)
    if not len(left.lower):
        raise RuntimeError("all boxes were excluded: a bound is wrong; please report this")
    origin = left.lower.astype(int)
    lo, hi = _wider(left.lo, left.hi, _SLACK)
    lo, hi = np.maximum(lo, whole.lo[origin]), np.minimum(hi, whole.hi[origin])
    holds = on_sets(chart, lo, hi)
    is_convex = on_sets(chart, *_wider(lo, hi, 8 * _SLACK)).is_convex & holds.is_convex
    return Sets(lo, hi, whole.lower[origin], is_convex, holds.margin, holds.protected_mass)


def _wider(lo: np.ndarray, hi: np.ndarray, part: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that are a part of their width wider, or an eighth where rounding makes the width."""
    # A point has no inside on which L could be strictly convex.
    width, size = hi - lo, np.abs(lo) + np.abs(hi)
    rounded = np.minimum(0.125 * width, 2.0**-20 * size)
    more = np.maximum(part * width, rounded) + 2.0**-45 * size + 2.0**-500
    return lo - more, hi + more


def certify_globally(chart: Chart, frontier: Frontier, gap: float) -> GlobalCertificate:
    """The certificate of a search that has ended, or was stopped.

    Every number is rounded outward a little more than it takes. The caller holds `ARITHMETIC`, has
    set 128 bits, and computes with overflow and NaN in silence.

    Raises
    ------
    InputError
        The tree is too deep or too large, or there are too many sets.
    """
    tree = tree_bytes(frontier.tree)
    if len(tree) * chart.d > MAX_ENDS:
        raise InputError(
            f"a certificate of {chart.d} columns has {MAX_ENDS // chart.d:,} boxes at most, this "
            f"one would have {len(tree):,}; give a wider gap"
        )
    x = chart.x(frontier.y)
    best = proved_upper(chart.data, x)
    require(math.isfinite(best), "L is not finite at x, or too large")
    leaves = frontier.kept.join(_looked_at(chart, frontier.open, best))
    less = _GAP_SLACK * gap * max(best, LEAST_SCALE)
    sets = enclosed(chart, leaves, best)
    if len(sets.lower) > MAX_SETS:
        raise InputError(f"a certificate has {MAX_SETS:,} sets at most; give a wider gap")
    low = max(lowest(leaves, best) - less, 0.0)
    margin, mass = _outward(sets.margin), _outward(sets.protected_mass)
    minimizers = []
    for i in np.argsort(sets.lower, kind="stable").tolist():
        center = chart.x(0.5 * sets.lo[i] + 0.5 * sets.hi[i])
        radius = np.array(reaches(chart, sets.lo[i], sets.hi[i], center))
        each = {"lo": sets.lo[i], "hi": sets.hi[i], "x": center, "radius": radius}
        minimizers.append({
            **{name: _hex(v) for name, v in each.items()},
            "is_unique": bool(sets.is_unique[i]),
            "lower": max(float(sets.lower[i]) - less, 0.0).hex(),
            "margin": [float(margin.lo[i]).hex(), float(margin.hi[i]).hex()],
            "protected_mass": [float(mass.lo[i]).hex(), float(mass.hi[i]).hex()],
        })  # fmt: skip
    document = {
        "format": FORMAT,
        "producer": f"copyreg-jax {copyreg_jax.__version__}",
        "instance": chart.data.description(),
        "columns": list(chart.columns),
        "V": [_hex(row) for row in chart.V],
        "x": _hex(x),
        "radius": frontier.radius.hex(),
        "gap": float(gap).hex(),
        "tree": {
            "boxes": len(tree),
            "zlib": base64.b64encode(zlib.compress(tree.tobytes(), 9)).decode(),
        },
        "lower": low.hex(),
        "upper": best.hex(),
        "status": "PROVED" if is_within_gap(low, best, gap) else "GAP",
        "minimizers": minimizers,
        "margin": [float(margin.lo.min()).hex(), float(margin.hi.max()).hex()],
        "direction": mass_direction(chart, mass),
    }
    return GlobalCertificate(json.loads(format.canonical(document)))


def _looked_at(chart: Chart, leaves: Leaves, value: float) -> Leaves:
    """Open boxes with the bounds that who checks them will find: those above may have had better.

    A box that is proved to have no global minimizer is left out.
    """
    bound, is_left = leaves.bound.copy(), np.ones(len(leaves.bound), bool)
    for some in batches(chart, np.arange(len(bound))):
        looked = look(paired(chart, leaves.lo[some], leaves.hi[some]), value).first(len(some))
        bound[some], is_left[some] = looked.bound, looked.is_left(value)
    return leaves._replace(bound=bound).take(is_left)


def _outward(v: Box) -> Box:
    """An eighth of its width wider: the bounds of roundings are 16 times what roundings are."""
    more = 0.125 * (v.hi - v.lo) + 2.0**-48 * (np.abs(v.lo) + np.abs(v.hi))
    is_known = np.isfinite(more)
    return Box(np.where(is_known, v.lo - more, v.lo), np.where(is_known, v.hi + more, v.hi))


def _hex(numbers: np.ndarray) -> list[str]:
    return [v.hex() for v in numbers.tolist()]


def frontier_of(certificate: GlobalCertificate, data: Instance) -> tuple[Chart, Frontier]:
    """The search that a certificate came from, its boxes made again; its gap is that of the file.

    The caller holds `ARITHMETIC`, has set 128 bits, and has compared the instances.
    """
    said = global_claim.parse(certificate.document)
    coordinates = chart(data, said.V)
    require(coordinates.columns == said.columns, "columns do not span the others of A")
    # x is rounded: about its y is as good a place to descend from.
    known = proved_upper(data, said.x)
    require(
        math.isfinite(known) and said.radius >= least_radius(coordinates, known),
        "the certificate's cube may not hold all global minimizers; begin a new search",
    )
    y = np.linalg.solve(said.V, said.x[list(said.columns)])[None]
    found, values = descend(coordinates, y)
    best = float(values[0])
    require(math.isfinite(best), "L is not finite at x, or too large")
    replayed = replay(coordinates, said.tree, said.radius, best, said.gap, repair=False)
    kept, is_open = replayed.leaves, replayed.is_open
    return coordinates, Frontier(
        kept.take(is_open),
        kept.take(~is_open),
        found[0],
        best,
        said.radius,
        planted_tree(said.tree),
        len(said.tree) - int(is_open.sum()),
    )
