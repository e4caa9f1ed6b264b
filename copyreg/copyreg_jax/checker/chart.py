"""Coordinates in which L_reg is about ``|y|^2 / 2``, and ranges of the softmax on boxes of them.

The columns of ``A`` are combinations of those in ``columns``, exactly. So every vector of logits
is ``u = A_J V y`` for one y, where V is invertible: L is a function of y alone, and what ``x`` may
have in the null space of A changes nothing. The theorems are in docs/theory/global.md.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from flint import arb_mat, fmpq, fmpq_mat, nmod_mat

from copyreg_jax.checker.arithmetic import UNIT, Box, up, upper
from copyreg_jax.checker.data import Instance
from copyreg_jax.checker.exponential import exp_bounds
from copyreg_jax.checker.linear import cholesky, inverse_of_triangle, to_floats
from copyreg_jax.checker.verdicts import require

__all__ = ["LOST", "MAX_COORDINATES", "MAX_CORNERS", "Chart", "Group", "Ranges", "chart"]

MAX_COORDINATES = 126
"""Axes that a byte of a tree of boxes can name: no chart has more."""

MAX_CORNERS = 64
"""Up to so many corners of a box are looked at; beyond, bounds by the box's half-widths serve."""

LOST = 2.0**-900
"""More than all that underflow can lose in a sum, divided by the unit roundoff."""

_FARTHEST = 2.0**-6
"""Logits that are known less well than this are not used."""

_DEFECT = 2.0**-10
"""The largest defect of coordinates that are used; d times it is 1/2 at most, too."""

_MAX_ENTRIES = 1 << 22
"""Entries of A, zeros too, that are made balls and fractions, of some hundred bytes each."""

_MEASURES = 3
"""How often a defect is measured, at most."""

_PRIME = 2_147_483_629
"""It is below 2^31, so that 64 bits hold the product of two residues."""


class Group(NamedTuple):
    """Rows that share a softmax.

    Attributes
    ----------
    rows : (k,) int array
        Which rows of A.
    B : (k, d) array
        ``A_J V``, rounded: an entry is off by at most 2 u times that of S.
    S : (k, d) array
        Sizes of the entries, no less than ``|B|``.
    """

    rows: np.ndarray
    B: np.ndarray
    S: np.ndarray


class Ranges(NamedTuple):
    """A softmax on boxes, at their centers and on the whole of them; each array is (m, k)."""

    f_at_center: Box
    log_f_at_center: Box
    f: Box
    log_f: Box


@dataclasses.dataclass(frozen=True)
class Chart:
    """An instance in the coordinates y.

    Attributes
    ----------
    data : Instance
    columns : tuple of int
        The columns J of A that span all.
    V : (d, d) array
        ``x_J = V y``.
    groups : list of Group
        All rows; under the block reading, the protected rows after them.
    defect : float
        ``|M - I| <= defect`` for each entry of ``M = (A_J V)^T W^2 (A_J V)``.
    """

    data: Instance
    columns: tuple[int, ...]
    V: np.ndarray
    groups: list[Group]
    defect: float

    @property
    def d(self) -> int:
        """Number of coordinates: the rank of A."""
        return len(self.columns)

    @property
    def rounding(self) -> float:
        """Four times ``(2 n + 4 d + 100) u``, which is more than a path of a formula can lose."""
        return (8 * self.data.n + 16 * self.d + 400) * UNIT

    def x(self, y: np.ndarray) -> np.ndarray:
        """About the x of a y; zero in the columns that are not needed."""
        x = np.zeros(self.data.d)
        x[list(self.columns)] = np.einsum("ij,j->i", self.V, y)
        return x

    def least_regularization(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """Lower bounds of L_reg on boxes: ``y^T M y >= (1 - d defect) |y|^2``."""
        near = np.maximum(np.maximum(lo, -hi), 0.0)
        squares = np.einsum("mi,mi->m", near, near)
        return 0.5 * squares * (1 - self.d * self.defect - self.rounding)

    def regularization(self, y: np.ndarray) -> Box:
        """L_reg at points."""
        half = 0.5 * np.einsum("mi,mi->m", y, y)
        slack = self.d * self.defect + self.rounding
        return Box(half * (1 - slack), half * (1 + slack) + LOST)

    def ranges(self, group: Group, center: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> Ranges:
        """The softmax of a group on the boxes [lo, hi], where (m, d) centers lie in them.

        log f_i is concave in y. So on a box it is least at a corner, and at most what the tangent
        at any point p says: ``log f_i(p) + max (B_i - sum_j f_j(p) B_j)(y - p)``.
        """
        d, n = self.d, len(group.rows)
        m, has_corners = len(center), d < 30 and 1 << d <= MAX_CORNERS
        points = center[:, None, :]
        if has_corners:
            which = (np.arange(1 << d)[:, None] >> np.arange(d)) & 1 == 1
            corners = np.where(which, hi[:, None, :], lo[:, None, :])
            points = np.concatenate([points, corners], axis=1)
        log_f, f, error = self._log_softmax(group, points.reshape(-1, d))
        shape = m, -1, n
        log_lo, log_hi = log_f.lo.reshape(shape), log_f.hi.reshape(shape)
        slopes = np.einsum("mpi,ij->mpj", f.reshape(shape), group.B)
        slopes = group.B - slopes[:, :, None, :]
        before, after = lo[:, None] - points, hi[:, None] - points
        # The largest product with a vector from [before, after].
        rise = np.einsum("mpij,mpj->mpi", slopes, 0.5 * (before + after))
        rise = rise + np.einsum("mpij,mpj->mpi", np.abs(slopes), 0.5 * (after - before))
        # What is not known of f and B, and the roundings, relative to sums of sizes.
        widths = np.maximum(np.abs(before), np.abs(after))
        off = (2.0**-38 + self.rounding + error.reshape(m, -1)) * np.einsum(
            "mpj,j->mp", widths, group.S.max(axis=0)
        ) + LOST
        top = (log_hi + (rise + off[:, :, None])).min(axis=1)
        top = np.minimum(up(top), 0.0)
        if has_corners:
            bottom = log_lo[:, 1:].min(axis=1)
        else:
            # f_i = p_i / sum_j p_j e^(r_j - r_i) with p = f(center) and |r_i| <= rho_i
            reach = np.maximum(-before[:, 0], after[:, 0])
            rho = np.einsum("mij,mj->mi", np.abs(slopes[:, 0]), reach) + off[:, :1]
            total = exp_bounds(log_hi[:, 0] + rho)[1].sum(axis=1, keepdims=True)
            log_total = _log_above(total * (1 + 2.0**-40 + self.rounding))
            bottom = log_lo[:, 0] - rho - log_total
            bottom = bottom - 2.0**-45 * (1 + rho + np.abs(log_lo[:, 0]) + np.abs(log_total))
            bottom = np.where(np.isnan(bottom), -np.inf, bottom)
        low, high = exp_bounds(bottom)[0], np.minimum(exp_bounds(top)[1], 1.0)
        # The entries of f sum to one.
        others = low.sum(axis=1, keepdims=True) - low
        high = np.minimum(high, np.maximum(1 - others + self.rounding, 0.0))
        others = high.sum(axis=1, keepdims=True) - high
        low = np.maximum(low, 1 - others - self.rounding * (1 + n))
        log_exact = Box(log_lo[:, 0], np.minimum(log_hi[:, 0], 0.0))
        exact = Box(exp_bounds(log_exact.lo)[0], np.minimum(exp_bounds(log_exact.hi)[1], 1.0))
        return Ranges(exact, log_exact, Box(low, high), Box(bottom, top))

    def _log_softmax(self, group: Group, y: np.ndarray) -> tuple[Box, np.ndarray, np.ndarray]:
        """Enclosures of log f at points (p, d); about f; and the relative error of that."""
        u = np.einsum("pj,ij->pi", y, group.B)
        error = np.einsum("pj,ij->pi", np.abs(y), group.S) * ((2 * self.d + 8) * UNIT)
        error = np.where(error.max(axis=1, keepdims=True) <= _FARTHEST, error + LOST, np.nan)
        z = u - u.max(axis=1, keepdims=True)
        error = error + 2 * UNIT * np.abs(z)
        low, high = exp_bounds(z)
        # e^error <= 1 + error + error^2 and e^-error >= 1 - error
        total_low = (low * (1 - error)).sum(axis=1, keepdims=True) * (1 - self.rounding)
        total_high = (high * (1 + error + error * error)).sum(axis=1, keepdims=True)
        total_high = total_high * (1 + self.rounding)
        log_low, log_high = _log_below(total_low), _log_above(total_high)
        slack = error + 4 * UNIT * (np.abs(z) + np.abs(log_high)) + LOST
        log_f = Box(z - log_high - slack, z - log_low + slack)
        return log_f, high / total_high, 8 * error.max(axis=1) + 2.0**-40


def _log_below(x: np.ndarray) -> np.ndarray:
    """Lower bounds of log x; NumPy's logarithm is but a witness, and NaN what does not pass."""
    guess = np.log(x)
    guess = guess - 2.0**-47 * (1 + np.abs(guess))
    return np.where(exp_bounds(guess)[1] <= x, guess, np.nan)


def _log_above(x: np.ndarray) -> np.ndarray:
    """Upper bounds of log x, likewise."""
    guess = np.log(x)
    guess = guess + 2.0**-47 * (1 + np.abs(guess))
    return np.where(exp_bounds(guess)[0] >= x, guess, np.nan)


def chart(data: Instance, V: np.ndarray | None = None) -> Chart:
    """Coordinates for an instance; the caller has set FLINT's precision to 128 bits.

    Parameters
    ----------
    data : Instance
    V : (r, r) array, optional
        The coordinates to use, as those of an earlier chart on a machine that rounds otherwise; r
        is the rank of A.

    Raises
    ------
    VoidError
        L_reg does not grow in all directions in which the logits change, or nearly so; or A has
        more than 4,194,304 entries, zeros too, or more than 126 independent columns.

    Notes
    -----
    Cost: O(n d^2) operations on balls. More than 126 independent columns are refused in seconds.
    An A of less than full rank is reduced in fractions: 5 seconds for 1,000 rows and 1,000 columns
    of 120 whole ones, and 15 for 200 rows and 500 columns of 100 random ones, on one core.

    Examples
    --------
    >>> import numpy as np
    >>> from flint import ctx
    >>> from copyreg_jax.checker.arithmetic import ARITHMETIC, START_BITS
    >>> from copyreg_jax.checker.data import make_instance
    >>> data = make_instance(
    ...     np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, -2.0]]), np.array([0.7, 0.2, 0.1]),
    ...     np.array([True, False, False]), np.ones(3), np.float64(0.1), "joint",
    ... )
    >>> with ARITHMETIC, ctx.workprec(START_BITS):
    ...     found = chart(data)
    >>> found.d, found.columns  # the second column is twice the first
    (1, (0,))
    """
    size = data.n * data.d
    require(
        size <= _MAX_ENTRIES,
        f"A has {size:,} entries, zeros too; the global minimum is proved for {_MAX_ENTRIES:,} at "
        "most",
    )
    A = data.A.rows(0, data.n)
    columns = tuple(range(data.d))
    is_whole = data.d <= MAX_COORDINATES and (V is None or len(V) == data.d)
    if not (is_whole and _spans(A, data.w, columns, V)[2] <= min(_DEFECT, 0.5 / data.d)):
        columns = _independent_columns(A)
        require(bool(columns), "all logits are zero: A has no entry other than zero")
        require(V is None or len(V) == len(columns), "V is not as large as the rank of A")
    blamed = "" if V is None else "V belongs to other data, or "
    V, product, defect = _spans(A, data.w, columns, V)
    require(
        defect <= min(_DEFECT, 0.5 / len(columns)),
        f"{blamed}the weighted columns w * A are nearly dependent: L_reg does not bound the "
        "search; give w > 0, or leave out columns of A",
    )
    B = to_floats(product)
    radii = np.array([upper(ball.rad()) for ball in product.entries()]).reshape(B.shape)
    S = up(np.abs(B) + up(2.0**60 * radii) + LOST)
    rows = [np.arange(data.n)]
    if data.reading == "block":
        rows.append(np.flatnonzero(data.protected))
    return Chart(data, columns, V, [Group(i, B[i], S[i]) for i in rows], defect)


def _spans(
    A: np.ndarray, w: np.ndarray, columns: tuple[int, ...], given: np.ndarray | None
) -> tuple[np.ndarray, arb_mat, float]:
    """V, new or given, balls around ``A_J V``, and the defect of ``V^T A_J^T W^2 A_J V`` or NaN."""
    chosen = A[:, list(columns)]
    n, d = chosen.shape
    balls, weights = arb_mat(n, d, chosen.ravel().tolist()), w.tolist()
    V, product, defect = np.eye(d), balls, np.nan
    if given is not None:
        V, product = given, balls * arb_mat(d, d, given.ravel().tolist())
    # The first round is as exact as the condition of A allows, the others mend what it left. The
    # last one measures alone: a defect is that of the V that it is returned with.
    for attempt in range(_MEASURES + 1):
        weighted = arb_mat(n, d, [p * weights[k // d] for k, p in enumerate(product.entries())])
        M = weighted.transpose() * weighted
        if attempt > 0 or given is not None:
            off = [abs(ball - (k % (d + 1) == 0)) for k, ball in enumerate(M.entries())]
            defect = max(map(upper, off))
            if given is not None or not defect > 2.0**-40 or attempt == _MEASURES:
                break
        factor = inverse_of_triangle(cholesky(to_floats(M))).T
        V = np.einsum("ij,jk->ik", V, factor)
        if not np.isfinite(V).all():
            return V, product, np.nan
        product = balls * arb_mat(d, d, V.ravel().tolist())
    return V, product, defect


def _independent_columns(A: np.ndarray) -> tuple[int, ...]:
    """The pivots of A: the other columns are combinations of those.

    Pivots modulo a prime are independent, as a determinant that is not 0 modulo it is not 0. As
    many as there are rows or columns span all others; else there may be more, in exact fractions.
    """
    n, d = A.shape
    reduced: Any  # either kind of matrix
    reduced, rank = nmod_mat(n, d, _residues(A).ravel().tolist(), _PRIME).rref()
    if rank < min(n, d, MAX_COORDINATES + 1):
        entries = [fmpq(*number.as_integer_ratio()) for number in A.ravel().tolist()]
        reduced, rank = fmpq_mat(n, d, entries).rref()
    require(rank <= MAX_COORDINATES, f"A has more than {MAX_COORDINATES} independent columns")
    return tuple(next(j for j in range(d) if reduced[i, j] != 0) for i in range(rank))


def _residues(A: np.ndarray) -> np.ndarray:
    """Entries modulo the prime: a float is a whole number of 53 bits, times a power of two."""
    fractions, exponents = np.frexp(A)
    powers, which = np.unique(exponents, return_inverse=True)
    scales = np.array([pow(2, int(power) - 53, _PRIME) for power in powers])
    wholes = np.ldexp(fractions, 53).astype(np.int64) % _PRIME
    return np.asarray(wholes * scales[which.reshape(A.shape)] % _PRIME)
