"""Certificates: what is proved about a point and about every point at least as good."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse
from jax.typing import ArrayLike

import copyreg_jax
from copyreg_jax.certify import check as checker
from copyreg_jax.certify.check import Enclosure, Instance, Verdict
from copyreg_jax.errors import InputError
from copyreg_jax.files import write_whole
from copyreg_jax.matrices import to_host
from copyreg_jax.problem import CopyrightRegression, SoftmaxRegression

_ENOUGH_BITS = 60
"""Relative accuracy of the margin's ball at which its float64 bounds are as tight as they get."""


class Interval(NamedTuple):
    """Floats between which the exact real number is proved to lie."""

    lower: float
    upper: float


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """Proved statements about one point x of one instance; made by `certify`.

    Every number is rounded outward from ball arithmetic, so each statement holds for the exact
    real-number objective at the exact doubles x.

    Attributes
    ----------
    document : dict
        The content of the file, described in docs/reference/certificate-format.md.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> cert = cr.certify(problem, cr.solve(problem).x)
    >>> cert.verdict.name, cert.margin.lower > 0
    ('CERTIFIED', True)
    """

    document: dict[str, Any]

    @functools.cached_property
    def _statements(self) -> checker.Statements:
        return checker.parse(self.document)

    def _bound(self, name: str) -> Interval:
        return Interval(*self._statements.bounds[name])

    @property
    def margin(self) -> Interval:
        """Enclosure of ``ell_1/n1 - ell_2/n2`` at x."""
        return self._bound("margin")

    @property
    def ell_1(self) -> Interval:
        """Enclosure of the protected loss at x."""
        return self._bound("ell_1")

    @property
    def ell_2(self) -> Interval:
        """Enclosure of the other rows' loss at x."""
        return self._bound("ell_2")

    @property
    def value(self) -> Interval:
        """Enclosure of L at x."""
        return self._bound("value")

    @property
    def direction(self) -> str:
        """Protected mass of f against that of b: suppressed, amplified, or undecided."""
        return self._statements.direction

    @property
    def tau(self) -> float | None:
        """The tau asked for, or None for "some tau > 0"."""
        return self._statements.tau

    @property
    def verdict(self) -> Verdict:
        """Whether x is tau-copyright-protected (Definition 1)."""
        return self._statements.verdict

    @property
    def level_set_tau(self) -> float | None:
        """Every x' with L(x') <= value.upper, every global minimizer among them, has this margin.

        None where nothing is claimed, because L is infinite at x or too large for a float.
        """
        level_set = self._statements.level_set
        return None if level_set is None else level_set[1]

    @property
    def paper_tau(self) -> Interval | None:
        """tau_c = sqrt(2 gamma)/n1 - eps_2/n2 of Theorem 16; None if eps_2 fits in no float."""
        paper = self._statements.paper
        return None if paper is None else Interval(*paper[1])

    @property
    def paper_verdict(self) -> Verdict:
        """Whether the conclusion of Theorem 16, margin >= tau_c, holds at x."""
        paper = self._statements.paper
        return Verdict.UNDECIDED if paper is None else paper[3]

    def save(self, path: str | Path) -> None:
        """Write the certificate as JSON, whole or not at all; `InputError` if it can't."""
        write_whole(path, checker.canonical(self.document))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a certificate file without checking its claims; for that, use `copyreg_jax.check`.

        Raises
        ------
        InputError
            Not a certificate, or a damaged one.
        """
        try:
            return cls(checker.read_certificate(path).document)
        except checker.VoidError as error:
            raise InputError(str(error)) from None


def certify(
    problem: SoftmaxRegression,
    x: ArrayLike,
    tau: float | None = None,
    *,
    eps_2: float | None = None,
) -> Certificate:
    """Prove the losses, the margin and the direction at x, and a margin on its level set.

    Three claims are made, each with its own verdict or bound:

    - point: ``ell_1/n1 - ell_2/n2 >= tau`` at x (Definition 1; without tau: for some tau > 0);
    - level_set: the same inequality with a computed tau at *every* point whose L is at most L(x),
      so at every global minimizer, convex or not (docs/theory/level-set.md);
    - paper: whether the tau_c of Theorem 16 is reached at x.

    Parameters
    ----------
    problem : CopyrightRegression
        Its arrays are taken as exact numbers.
    x : (d,) array
        Any point, usually ``solution.x``; taken as exact.
    tau : float, optional
        Margin to be certified. The largest certifiable one is ``margin.lower`` of the result.
    eps_2 : float, optional
        The eps_2 of Theorem 16; the proved upper bound of ell_2 if not given.

    Returns
    -------
    Certificate

    Raises
    ------
    InputError
        Nothing is protected; x has the wrong shape or is not finite; tau or eps_2 is not finite.

    Notes
    -----
    Ball arithmetic on the host from 128 bits, doubled while the verdict is open, up to 4096.
    About 0.2 microseconds per entry of A at 128 bits. FLINT's precision is global to the process:
    threads wait for each other here.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> cr.certify(problem, [-1.0], tau=10.0).verdict.name
    'REFUTED'
    """
    if not isinstance(problem, CopyrightRegression):
        raise InputError("a SoftmaxRegression protects nothing; certify a CopyrightRegression")
    instance = to_instance(problem)
    exact = _exact_point(x, instance.d)
    tau = None if tau is None else _exact_float("tau", tau)
    eps_2 = None if eps_2 is None else _exact_float("eps_2", eps_2)
    with checker.ARITHMETIC:
        bits = checker.START_BITS
        while True:
            enclosure = checker.enclose(instance, exact, bits)
            verdict = checker.protection(enclosure.margin, tau)
            tight = enclosure.margin.rel_accuracy_bits() >= _ENOUGH_BITS
            if (tight and verdict is not Verdict.UNDECIDED) or bits >= checker.MAX_BITS:
                break
            bits = min(2 * bits, checker.MAX_BITS)
        document = _document(instance, exact, bits, enclosure, tau, eps_2)
    return Certificate(json.loads(checker.canonical(document)))


def _exact_float(name: str, number: Any) -> float:
    """A finite number as the float64 that it is."""
    try:
        value = math.nan if isinstance(number, str) else float(number)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is {number!r:.40}; give a finite number")
    if value != number:
        raise InputError(f"{name} is {number!r:.40}, which is no float64; give float({name})")
    return value


def _exact_point(x: ArrayLike, d: int) -> np.ndarray:
    try:
        given = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise InputError(f"x is not a numeric array: {error}") from None
    if given.shape != (d,):
        raise InputError(f"x has shape {given.shape}; A has {d} columns, so give shape ({d},)")
    if given.dtype.kind not in "fiu" or given.dtype.itemsize > 8:
        raise InputError(f"x has dtype {given.dtype}; give float32 or float64")
    exact = given.astype(np.float64)
    inexact = np.flatnonzero(~np.isfinite(exact) | (exact.astype(given.dtype) != given))
    if inexact.size:
        i = int(inexact[0])
        raise InputError(
            f"x is {given[i]} at entry {i}; a certificate needs finite float64 numbers"
        )
    return exact


def to_instance(problem: CopyrightRegression) -> Instance:
    """The problem's data on the host, as the checker sees them."""
    A: Any = to_host(problem.A)
    if scipy.sparse.issparse(A):
        A = (A.data, A.indices, A.indptr, np.array(A.shape, np.int64))
    return checker.make_instance(
        A,
        np.asarray(problem.b),
        np.asarray(problem.protected),
        np.asarray(problem.w),
        np.asarray(problem.gamma),
        problem.reading,
    )


def _document(
    instance: Instance,
    x: np.ndarray,
    bits: int,
    enclosure: Enclosure,
    tau: float | None,
    eps_2: float | None,
) -> dict[str, Any]:
    bounds = {name: _outward(ball) for name, ball in enclosure._asdict().items()}
    value, ell_2 = bounds["value"].upper, bounds["ell_2"].upper
    level_set = paper = None
    level_tau = -math.inf
    if math.isfinite(value):
        n, n1, gamma, reading = instance.n, instance.n1, instance.gamma, instance.reading
        level_tau = checker.level_set_tau(n, n1, gamma, reading, value, bits)
    if math.isfinite(level_tau):
        level_set = {"value": value.hex(), "tau": level_tau.hex()}
    eps_2 = ell_2 if eps_2 is None else eps_2
    if math.isfinite(eps_2):
        tau_c = checker.paper_tau(instance, eps_2, bits)
        paper = {
            "eps_2": eps_2.hex(),
            "tau_c": _hex(_outward(tau_c)),
            "hypothesis": checker.at_most(enclosure.ell_2, eps_2).name,
            "verdict": checker.at_least(enclosure.margin, tau_c).name,
        }
    return {
        "format": checker.FORMAT,
        "producer": f"copyreg-jax {copyreg_jax.__version__}",
        "instance": instance.description(),
        "x": [float(v).hex() for v in x],
        "bits": bits,
        "bounds": {name: _hex(pair) for name, pair in bounds.items()},
        "direction": checker.direction(enclosure),
        "claims": {
            "point": {
                "tau": None if tau is None else tau.hex(),
                "verdict": checker.protection(enclosure.margin, tau).name,
            },
            "level_set": level_set,
            "paper": paper,
        },
    }


def _outward(ball: Any) -> Interval:
    return Interval(checker.lower(ball), checker.upper(ball))


def _hex(interval: Interval) -> list[str]:
    return [interval.lower.hex(), interval.upper.hex()]
