"""What a regression would be without the rows of some owners: the worth of their coalitions."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import scipy.special
from flint import arb, ctx
from jax.typing import ArrayLike

from copyreg_jax.certificates.minimizers import made, outward, pad, prove_local
from copyreg_jax.certificates.to_instance import exact_point, input_errors, to_instance
from copyreg_jax.checker import proofs
from copyreg_jax.checker.arithmetic import ARITHMETIC, arithmetic
from copyreg_jax.checker.data import LEFT_OUT, MAX_DENSE_COLUMNS, Instance
from copyreg_jax.checker.format import Interval
from copyreg_jax.errors import InputError, NotConvergedError
from copyreg_jax.matrices import fetch, place, to_host
from copyreg_jax.neighbours.coalitions import Table, check_owners, members, name_of
from copyreg_jax.problems import CopyrightRegression, LeaveOutRegression, SoftmaxRegression
from copyreg_jax.solvers import solve, solve_many
from copyreg_jax.solvers.optimality import DEFAULT_RTOL
from copyreg_jax.solvers.solution import Status

__all__ = ["Retraining"]

_RTOL = 1e-14
"""The closer a point is to its minimizer, the narrower are proved intervals."""

_LEFT_OUT_TOGETHER = 4
"""Owners of a coalition whose subsets are left out to extrapolate its model.

With more of them rounding errors add up and as many steps are taken.
"""

_LOGITS = 1 << 22
"""Logits that are in memory at once."""


class Retraining:
    """Regressions on the data of each coalition of owners, and what they are worth.

    The model of a coalition S minimizes the loss without the terms of the rows of owners who are
    not in S, plus L_reg: a `LeaveOutRegression`. The rows stay in the softmax f, b is not
    renormalized, and a protection term is left out. The worth of S is ``v(S) = sum_i q_i log2
    f_i`` bits at this model, with weights q.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
        The problem that all owners' data make.
    owners_of_rows : (n,) sequence of str or int
        Who owns each row. None, -1 and "" are for base data, which every coalition sees.
    weights : (n,) array, optional
        The text x whose likelihood is shared out: how often row i is in it. It is b if not given,
        and then v(S) is minus the cross-entropy of the model to the targets.

    Attributes
    ----------
    owners : tuple of str
        In the order of their first rows.

    Raises
    ------
    InputError
        No owner; another number of rows; weights that are not finite.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> from copyreg_jax.neighbours.royalty import royalties
    >>> problem = cr.SoftmaxRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1])
    >>> table = Retraining(problem, ["ann", "bo", None]).table()
    >>> royalties(table).payout
    'certain'
    """

    def __init__(
        self,
        problem: SoftmaxRegression,
        owners_of_rows: Any,
        weights: ArrayLike | None = None,
    ) -> None:
        if not isinstance(problem, SoftmaxRegression):
            raise InputError(f"problem is a {type(problem).__name__}; give a SoftmaxRegression")
        self._problem = LeaveOutRegression.of(problem, np.zeros(problem.n, bool))
        self._original = problem
        labels = [_label(owner) for owner in owners_of_rows]
        if len(labels) != problem.n:
            raise InputError(f"there are owners of {len(labels)} rows; A has {problem.n}")
        self.owners = tuple(dict.fromkeys(label for label in labels if label is not None))
        if not self.owners:
            raise InputError("no row has an owner; name one for the rows that are shared out")
        place_of = {owner: i for i, owner in enumerate(self.owners)}
        self._owner = np.array([-1 if owner is None else place_of[owner] for owner in labels])
        given = fetch(problem.A, problem.b) if weights is None else weights
        self._weights = np.asarray(given, dtype=np.float64)
        if self._weights.shape != (problem.n,) or not np.isfinite(self._weights).all():
            raise InputError(f"weights are not {problem.n} finite numbers")

    def _left_out(self, coalitions: np.ndarray) -> np.ndarray:
        """The rows that coalitions do not see, (k, n)."""
        # Base data are seen as if an owner more were in each coalition.
        seen = np.pad(coalitions, ((0, 0), (0, 1)), constant_values=True)
        return ~seen[:, self._owner]

    @functools.cached_property
    def _start(self) -> np.ndarray:
        """The minimizer for the base data, which every coalition sees.

        Which of several minimizers is found must not depend on data that a coalition does not see.
        """
        base = LeaveOutRegression.of(self._problem, self._owner >= 0)
        return np.asarray(solve(base).x) if (self._owner < 0).any() else np.zeros(base.d)

    def models(self, coalitions: ArrayLike, *, rtol: float | None = None) -> np.ndarray:
        """Minimizers for the data of coalitions.

        Parameters
        ----------
        coalitions : (k, number of owners) boolean array
            True for the owners in a coalition.
        rtol : float, optional
            As in `copyreg_jax.solve_many`. If it is given, points are returned as they are, and
            nothing is raised where it was not reached.

        Returns
        -------
        (k, d) array
            Zero where no row is seen: L_reg is least there.

        Raises
        ------
        NotConvergedError
            Names the first coalition whose solve did not converge.

        Notes
        -----
        One batch on one A, started from the minimizer for the base data, or from 0 without such.

        Examples
        --------
        >>> import copyreg_jax as cr
        >>> problem = cr.SoftmaxRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1])
        >>> retraining = Retraining(problem, ["ann", "bo", None])
        >>> x = retraining.models([[False, False], [True, False], [False, True], [True, True]])
        >>> x.round(2).ravel().tolist()
        [0.04, 0.09, 0.04, 0.09]
        >>> bool(abs(problem.gradient(x[3])[0]) < 1e-4)  # the minimizer of the whole
        True
        """
        coalitions = np.asarray(coalitions, dtype=bool)
        starts = np.broadcast_to(self._start, (len(coalitions), self._problem.d))
        return self._solved(coalitions, starts, rtol)

    def _solved(self, coalitions: np.ndarray, starts: np.ndarray, rtol: float | None) -> np.ndarray:
        left_out = self._left_out(coalitions)
        some = np.flatnonzero(~left_out.all(axis=1))
        x = np.zeros((len(coalitions), self._problem.d))
        if some.size == 0:
            return x
        problem = self._problem
        masks = place(problem.A, left_out[some])
        batch = LeaveOutRegression.tree_unflatten(
            problem.metric, (problem.A, problem.b, problem.w, masks)
        )
        solution = solve_many(batch, x0=starts[some], rtol=rtol)
        x[some] = np.asarray(solution.x)
        failed = np.flatnonzero(np.asarray(solution.status) != Status.CONVERGED)
        if rtol is None and failed.size:
            status = Status(int(solution.status[failed[0]]))
            who = np.array(self.owners)[coalitions[some[failed[0]]]].tolist()
            raise NotConvergedError(f"{name_of(who)}: {status.name}. {status.explanation}")
        return x

    def worth(self, coalitions: ArrayLike) -> np.ndarray:
        """Log-likelihood of the text under the models of coalitions, in bits, (k,) array.

        It is the function that `copyreg_jax.neighbours.permutations.sample` asks for. Where L is
        not convex, `table` may find other minimizers: it starts elsewhere.
        """
        return self._worth_of(self.models(coalitions))

    def _worth_of(self, x: np.ndarray) -> np.ndarray:
        A, step = to_host(self._problem.A), max(1, _LOGITS // self._problem.n)
        total = self._weights.sum()
        found = []
        for i in range(0, len(x), step):
            u = np.asarray(A @ x[i : i + step].T)
            found.append(self._weights @ u - total * scipy.special.logsumexp(u, axis=0))
        return np.concatenate(found) / np.log(2)

    def table(self) -> Table:
        """The worth of all coalitions, 2^n solves for n <= 12 owners; not proved."""
        values = self._worth_of(self._all_models(self._all_coalitions()))
        return Table(self.owners, values, values)

    def proved_table(self) -> Table:
        """Intervals that contain the worth of all coalitions, for their exact minimizers.

        Returns
        -------
        Table
            Each is that of the one minimizer within a ball around the solver's point, which the
            claim ``local`` encloses. Where L is not convex, others may exist.

        Raises
        ------
        InputError
            A coalition of which no minimizer is enclosed; more than 2,048 columns.

        Notes
        -----
        One Gram matrix for each coalition, O(n d^2), on the host; more where a first radius is not
        enough.
        """
        problem = self._original
        if problem.d > MAX_DENSE_COLUMNS:
            raise InputError(
                f"A has {problem.d} columns; minimizers are enclosed up to {MAX_DENSE_COLUMNS}"
            )
        coalitions = self._all_coalitions()
        # float32 has a tolerance of its own, and None would raise where it is not reached.
        rtol = _RTOL if problem.dtype == np.float64 else DEFAULT_RTOL[problem.dtype]
        x, left_out = self._all_models(coalitions, rtol), self._left_out(coalitions)
        if not isinstance(problem, CopyrightRegression):
            A, b, w, metric = problem.A, problem.b, problem.w, problem.metric
            problem = CopyrightRegression(A, b, 1, 0.0, w, metric=metric)
        found = []
        with ARITHMETIC, input_errors():
            data = to_instance(problem)
            for row, mask in enumerate(left_out):
                of = data._replace(protected=mask, reading=LEFT_OUT, gamma=0.0)
                worth = _proved(of, exact_point(x[row], data.d), self._weights)
                if worth is None:
                    who = name_of(members(self.owners, row))
                    raise InputError(
                        f"{who}: no minimizer is proved near the solver's point; "
                        "give larger w, or take table()"
                    )
                found.append(worth)
        lower, upper = np.array(found).T
        return Table(self.owners, lower, upper)

    def _all_models(self, coalitions: np.ndarray, rtol: float | None = None) -> np.ndarray:
        """Minimizers for all coalitions, in the order of `_all_coalitions`.

        A coalition S starts from ``sum_J (-1)^(|J|+1) x(S - J)`` over the non-empty subsets J of a
        few of its owners D: that is x(S) up to what only all owners of D do together. It depends
        on data that S sees, and on nothing else.
        """
        sizes = coalitions.sum(axis=1)
        x = np.empty((len(coalitions), self._problem.d))
        x[:1] = self._solved(coalitions[:1], self._start[None], rtol)
        for size in range(1, len(self.owners) + 1):
            rows = np.flatnonzero(sizes == size)
            # Few sizes of batches, so that few programs are compiled.
            spare = max(8, 1 << (len(rows) - 1).bit_length()) - len(rows)
            rows = np.append(rows, rows[-1:].repeat(spare))
            # The few first owners of each coalition, as bits of its row.
            few = min(size, _LEFT_OUT_TOGETHER)
            bits = 1 << np.argsort(~coalitions[rows], axis=1, kind="stable")[:, :few]
            starts = np.zeros((len(rows), self._problem.d))
            for chosen in range(1, 1 << few):
                J = np.array([chosen >> k & 1 for k in range(few)])
                starts -= (-1.0) ** J.sum() * x[rows - bits @ J]
            x[rows] = self._solved(coalitions[rows], starts, rtol)
        return x

    def _all_coalitions(self) -> np.ndarray:
        check_owners(self.owners)
        rows = np.arange(1 << len(self.owners))
        return (rows[:, None] >> np.arange(len(self.owners)) & 1).astype(bool)


def _label(owner: Any) -> str | None:
    missing = isinstance(owner, float) and math.isnan(owner)  # as tables have it
    if owner is None or owner == "" or missing:
        return None
    if not isinstance(owner, str) and owner == -1:
        return None
    if owner == "-1":
        raise InputError("an owner is named '-1'; give base data as None, -1 or an empty text")
    return str(owner)


def _proved(data: Instance, x: np.ndarray, weights: np.ndarray) -> Interval | None:
    """The worth at the minimizer near x; the caller holds `ARITHMETIC`."""
    points = proofs.Points(data, x)
    local = made(prove_local(points))
    if local is None:
        return None
    ar = arithmetic(local.bits)
    with ctx.workprec(ar.scalar_bits):
        point = points.view(local.bits)
        view = proofs.in_ball(point, point.survey.center, local.distance)
        softmax = view.softmaxes[0]
        offset = softmax.shift + softmax.total.log()

        def work(block: slice) -> arb:
            return ar.sum((view.logits(block) - offset) * ar.exact(weights[block]))

        return outward(pad(view.sum(work) / arb(2).log(), ar))
