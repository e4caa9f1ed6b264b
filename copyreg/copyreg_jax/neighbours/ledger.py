"""What the protected rows have taught the model: K(C) in bits, as proved intervals.

The *model* minimizes L. The *safe* model minimizes ``0.5 ell_2 + L_reg``: the terms of the
protected rows are left out of the loss, the rows stay in the softmax, and b is not renormalized.
For a row i, ``K_i = log2 f_i/safe_i`` is the number of bits by which having seen the protected
targets made row i more probable. The proofs are in docs/neighbours/ledger.md.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

import numpy as np
from flint import ctx
from jax.typing import ArrayLike

import copyreg_jax
from copyreg_jax.certificates.certificate import ProvedDocument
from copyreg_jax.certificates.make import plain
from copyreg_jax.certificates.minimizers import made, outward, pad, prove_global, prove_local
from copyreg_jax.certificates.to_instance import exact_point, input_errors, to_instance
from copyreg_jax.checker import format, proofs, removal
from copyreg_jax.checker.arithmetic import ARITHMETIC, FLOAT_BITS, arithmetic
from copyreg_jax.checker.data import MAX_DENSE_COLUMNS, Instance
from copyreg_jax.checker.format import Interval
from copyreg_jax.checker.removal import Minimizer
from copyreg_jax.checker.verdicts import Verdict
from copyreg_jax.errors import InputError
from copyreg_jax.problems import CopyrightRegression, LeaveOutRegression
from copyreg_jax.solvers import solve

__all__ = ["Ledger", "ledger"]

_MAX_ROWS = 500_000
"""A ledger lists all rows, and its file is read at once."""

_RTOL = 1e-14
"""The closer a point is to its minimizer, the narrower are the intervals."""

_NOTHING: dict[str, Any] = dict.fromkeys(("distance", "mass_bits", "naf_bits", "rows"))
"""What is stated where a minimizer, or a finite number, could not be proved."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ledger(ProvedDocument):
    """Proved statements about two minimizers, with and without the protected targets.

    Made by `ledger`. Numbers are None where a minimizer could not be enclosed.

    Attributes
    ----------
    document : dict
        The content of the file.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> found = ledger(problem)
    >>> found.verdict.name, len(found.rows), found.naf_bits.lower > 0
    ('CERTIFIED', 3, True)
    """

    parse = staticmethod(removal.parse)

    @functools.cached_property
    def _said(self) -> removal.Ledger:
        return removal.parse(self.document)

    @property
    def verdict(self) -> Verdict:
        """CERTIFIED where both minimizers are enclosed, else UNDECIDED."""
        return Verdict.UNDECIDED if self._said.rows is None else Verdict.CERTIFIED

    @property
    def model(self) -> Minimizer:
        """The point near a minimizer of L, and what is proved of that."""
        return self._said.model

    @property
    def safe(self) -> Minimizer:
        """The point near a minimizer of ``0.5 ell_2 + L_reg``, and what is proved of that."""
        return self._said.safe

    @property
    def naf_bits(self) -> Interval | None:
        """The least k with ``f(E) <= 2^k safe(E)`` for every set E of rows."""
        return self._said.naf_bits

    @property
    def mass_bits(self) -> Interval | None:
        """log2 of the ratio of the masses that both models give to the protected rows."""
        return self._said.mass_bits

    @property
    def distance(self) -> Interval | None:
        """Euclidean distance of the minimizers."""
        return self._said.distance

    @property
    def rows(self) -> list[Interval] | None:
        """``log2 f_i/safe_i`` of each row, in bits; K(C) where row i is protected."""
        return self._said.rows


def ledger(
    problem: CopyrightRegression, x: ArrayLike | None = None, x_safe: ArrayLike | None = None
) -> Ledger:
    """Enclose the minimizers with and without the protected targets, and what differs.

    Parameters
    ----------
    problem : CopyrightRegression
        Its protected rows are C; its arrays are taken as exact numbers.
    x : (d,) array, optional
        A point near a minimizer of L; solved for if not given.
    x_safe : (d,) array, optional
        A point near a minimizer of ``0.5 ell_2 + L_reg``; solved for if not given.

    Returns
    -------
    Ledger

    Raises
    ------
    InputError
        No CopyrightRegression; more than 2,048 columns or 500,000 rows; x of a wrong shape.

    Notes
    -----
    Two solves, two Gram matrices for each of a few radii, O(n d^2), and O(n d) for the rows. Other
    minimizers of a non-convex L are not excluded, unless ``model.global_`` and ``safe.global_`` are
    proved too.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> low, high = ledger(problem).rows[0]
    >>> low <= high < low + 0.1
    True
    """
    if not isinstance(problem, CopyrightRegression):
        raise InputError(f"problem is a {type(problem).__name__}; give a CopyrightRegression")
    if problem.d > MAX_DENSE_COLUMNS:
        raise InputError(
            f"A has {problem.d} columns; minimizers are enclosed up to {MAX_DENSE_COLUMNS}"
        )
    if problem.n > _MAX_ROWS:
        raise InputError(f"A has {problem.n} rows; a ledger lists at most {_MAX_ROWS}")
    rtol = _RTOL if problem.dtype == np.float64 else None  # float32 has a tolerance of its own
    if x is None:
        x = solve(problem, rtol=rtol).x
    if x_safe is None:
        # Not from x: which minimizer is found must not depend on the protected targets.
        x_safe = solve(LeaveOutRegression.of(problem), rtol=rtol).x
    points = [exact_point(point, problem.d) for point in (x, x_safe)]
    with ARITHMETIC, input_errors():
        data = to_instance(problem)
        model = _enclose(data, points[0])
        safe = _enclose(data.without_protected(), points[1])
        document = {
            "format": removal.FORMAT,
            "producer": f"copyreg-jax {copyreg_jax.__version__}",
            "instance": data.description(),
            **{name: _minimizer(kept) for name, kept in (("model", model), ("safe", safe))},
            **_differences(data, model, safe),
        }
    return Ledger(json.loads(format.canonical(document)))


def _enclose(data: Instance, x: np.ndarray) -> Minimizer:
    points = proofs.Points(data, x)
    local = made(prove_local(points))
    return Minimizer(x, local, None if local is None else made(prove_global(points)))


def _minimizer(kept: Minimizer) -> dict[str, Any]:
    x = [float(v).hex() for v in kept.x]
    return {"x": x, "local": plain(kept.local), "global": plain(kept.global_)}


def _differences(data: Instance, model: Minimizer, safe: Minimizer) -> dict[str, Any]:
    if model.local is None or safe.local is None:
        return _NOTHING
    bits = max(model.local.bits, safe.local.bits)
    ar = arithmetic(bits)
    with ctx.workprec(ar.scalar_bits):
        found = removal.proved(data, model, safe, bits)
        # Room for another order of summation, where floats were added.
        room = 0.25 * (found.upper - found.lower) if bits == FLOAT_BITS else 0.0
        low = np.nextafter(found.lower - room, -np.inf)
        high = np.nextafter(found.upper + room, np.inf)
        distance, mass = (outward(pad(ball, ar)) for ball in (found.distance, found.mass_bits))
        numbers = {
            "distance": Interval(max(distance.lower, 0.0), distance.upper),
            "mass_bits": mass,
            "naf_bits": Interval(float(low.max()), float(high.max())),
        }
    rows = [Interval(*pair) for pair in zip(low.tolist(), high.tolist(), strict=True)]
    if not np.isfinite([*numbers.values(), *rows]).all():
        return _NOTHING
    return {name: plain(interval) for name, interval in numbers.items()} | {
        "rows": [plain(row) for row in rows]
    }
