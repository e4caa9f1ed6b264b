"""The definitions once more, in Arb: over balls, or over power series of balls.

A power series in t gives derivatives along a line with no formula for any of them. Nothing here is
shared with the package but FLINT; the precision is the context's, that of the test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_mat, arb_series, ctx

from copyreg_jax.checker import data


class Case(NamedTuple):
    """An instance as plain arrays."""

    A: np.ndarray
    b: np.ndarray
    protected: np.ndarray
    w: np.ndarray
    gamma: float
    reading: str
    metric: str

    def instance(self, *, sparse: bool = False, module: Any = data) -> Any:
        """What `copyreg_jax.checker.data`, or another version of it, makes of the arrays."""
        A: Any = self.A
        if sparse:
            rows, columns = np.nonzero(A)
            indptr = np.searchsorted(rows, np.arange(len(A) + 1))
            A = A[rows, columns], columns, indptr, np.array(A.shape)
        return module.make_instance(A, *self[1:4], np.array(self.gamma), *self[5:])


class Exact(NamedTuple):
    """Balls at the precision of the context."""

    ell_1: Any
    ell_2: Any
    margin: Any
    protected_mass: Any
    target_mass: Any
    value: Any


def exact(case: Case, x: Sequence[Any]) -> Exact:
    """Every number a certificate speaks of; x holds floats, balls or power series."""
    n1, n = int(case.protected.sum()), len(case.b)
    b, mask = case.b.tolist(), case.protected.tolist()
    u = [_sum(arb(a) * v for a, v in zip(row, x, strict=True)) for row in case.A.tolist()]
    inner = [i for i in range(n) if mask[i]]
    f, log_f = _softmax(u, range(n))
    f_1, log_f_1 = _softmax(u, inner) if case.reading == "block" else (f, log_f)

    def loss(f: Any, log_f: Any, rows: Any) -> Any:
        if case.metric == "squared":
            return _sum((f[i] - b[i]) * (f[i] - b[i]) for i in rows)
        return _sum(-b[i] * log_f[i] for i in rows if b[i])

    ell, ell_1 = loss(f, log_f, range(n)), loss(f_1, log_f_1, inner)
    wu = [arb(wi) * ui for wi, ui in zip(case.w.tolist(), u, strict=True)]
    protection = _divide(case.gamma, ell_1) if case.gamma else 0
    half = 2 if case.metric == "squared" else 1
    return Exact(
        ell_1,
        ell - ell_1,
        ell_1 / n1 - (ell - ell_1) / (n - n1),
        _sum(f[i] for i in inner),
        _sum(arb(b[i]) for i in inner),
        ell / half + _sum(v * v for v in wu) / 2 + protection,
    )


def _sum(terms: Iterable[Any]) -> Any:
    return sum(terms, arb(0))


def _divide(a: Any, b: Any) -> Any:
    try:
        return a / b
    except (ZeroDivisionError, ValueError):  # of power series; a ball becomes NaN by itself
        return arb_series([arb("nan")] * ctx.cap)


def _softmax(u: list[Any], rows: Any) -> tuple[dict[int, Any], dict[int, Any]]:
    # Any shift will do; this one keeps the exponents of the balls small.
    top = max(arb_series(u[i])[0].mid() for i in rows)
    shifted = {i: u[i] - top for i in rows}
    e = {i: v.exp() for i, v in shifted.items()}
    total = _sum(e.values())
    f = {i: _divide(v, total) for i, v in e.items()}
    return f, {i: v - total.log() for i, v in shifted.items()}


def derivatives(case: Case, x: Sequence[Any]) -> tuple[list[Any], arb_mat]:
    """Gradient and Hessian of L, by power series along the axes and between them."""
    d = len(x)

    def along(*axes: int) -> tuple[Any, Any]:
        line = [arb_series([v, axes.count(i)]) for i, v in enumerate(x)]
        value = arb_series(exact(case, line).value)
        return value[1], 2 * value[2]

    with _series_of_length(3):
        first, second = zip(*map(along, range(d)), strict=True)
        H = arb_mat(d, d)
        for i in range(d):
            for j in range(d):
                H[i, j] = (along(i, j)[1] - second[i] - second[j]) / 2
    return list(first), H


@contextlib.contextmanager
def _series_of_length(length: int) -> Iterator[None]:
    before, ctx.cap = ctx.cap, length
    try:
        yield
    finally:
        ctx.cap = before


def in_ellipsoid(case: Case, v: np.ndarray) -> np.ndarray:
    """A y with ``||W A y|| = ||v||``, up to rounding; A has full rank."""
    return np.linalg.solve(np.linalg.qr(case.w[:, None] * case.A, mode="r"), v)
