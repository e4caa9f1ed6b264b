"""What a solver hands back: the point, what is known about it, and why the solver stopped."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jax
import numpy as np

from copyreg_jax._pages import card
from copyreg_jax._tracing import is_concrete
from copyreg_jax.errors import NotConvergedError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["History", "SecondOrder", "Solution", "Status"]


class Status(enum.IntEnum):
    """Why a solver stopped: CONVERGED alone is success. ``explanation`` says what to do."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    NONFINITE = 4
    INTERRUPTED = 5
    SADDLE = 6

    @property
    def explanation(self) -> str:
        """Cause and remedy, in words."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Status.RUNNING: "The solver has not stopped yet.",
    Status.CONVERGED: (
        "The gradient, recomputed on the host from x, and the Newton decrement meet the tolerance, "
        "and no negative curvature was found."
    ),
    Status.MAX_STEPS: (
        "The step limit came before the tolerance. Raise max_steps or rtol; first-order methods "
        "need far more steps than TrustRegionNewton, and it needs many where columns of A are "
        "nearly dependent."
    ),
    Status.STALLED: (
        "The gradient or the Newton decrement is above the tolerance, but at this precision no "
        "step lowers L any further, or the solver took them for smaller than the host finds them. "
        "Raise rtol, use float64, or center the columns of A: large logits are inexact."
    ),
    Status.NONFINITE: (
        "L or a derivative is not finite at the start or at the next step; x is the last point "
        "where all were finite, or the start. If ell_1 = 0 < gamma at the start, L is infinite "
        "there: start elsewhere. If logits overflow, scale A down."
    ),
    Status.INTERRUPTED: "The callback asked to stop; x is the last point reached.",
    Status.SADDLE: (
        "The gradient is small, but L falls in a direction of negative curvature that the method "
        "can't follow, or by less than can be seen at this precision. Use NewtonCG, another start, "
        "or float64."
    ),
}


class SecondOrder(enum.IntEnum):
    """What is known of the Hessian at a point, and how.

    UNKNOWN: nobody has looked. CONVEX: it is positive semidefinite by a bound that holds for every
    direction. EXACT: no eigenvalue is negative, by a factorization. SAMPLED: Lanczos steps found
    none; they miss one that counts with a probability of at most 0.01. NEGATIVE: there is one.
    """

    UNKNOWN = 0
    CONVEX = 1
    EXACT = 2
    SAMPLED = 3
    NEGATIVE = 4


class History(NamedTuple):
    """What a run went through; the start is entry 0, then one entry per step.

    Attributes
    ----------
    value, gradient_norm : (num_steps + 1,) arrays
        L and the norm of its gradient, as computed on the device.
    """

    value: np.ndarray
    gradient_norm: np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Result of `copyreg_jax.solve`.

    Under ``jax.jit`` and ``jax.vmap`` every field is an array (``status`` holds the integers of
    `Status`) and ``history`` is None. Otherwise the scalars are Python numbers, recomputed in
    float64 on the host from the x returned.

    Attributes
    ----------
    x : (d,) array
        The point found.
    value, gradient_norm : float
        L and the Euclidean norm of its gradient at x.
    status : Status
        Why the solver stopped.
    gradient_size : float
        Sum of the sizes of the terms of the gradient; ``gradient_norm`` is at most rtol times that
        if the run has converged (docs/theory/stopping.md).
    decrement : float
        Newton decrement at x, or a bound of it: L is above the minimum by about half its square.
        Infinite where the run ended before it was looked at.
    second_order : SecondOrder
        Whether there is negative curvature at x, and how that is known.
    num_steps : int
        Steps tried, rejected ones included.
    num_values, num_gradients, num_hessians, num_hvps : int
        Evaluations really made, line-search trials included.
    ell, ell_1, ell_2 : float
        Losses at x (Definitions 4 and 7), by the problem's metric.
    protected_mass, target_mass : float
        Sums of f = softmax(A x) and of b over the protected rows.
    history : History or None
        Value and gradient norm after every step.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> solution = cr.solve(problem)
    >>> solution.status.name, solution.direction
    ('CONVERGED', 'suppressed')
    >>> solution  # doctest: +ELLIPSIS
    <Solution: CONVERGED after ... L = 0.7235...; protected rows suppressed: 0.2595 of f, 0.7 of b>
    """

    x: Any
    value: Any
    gradient_norm: Any
    status: Any
    num_steps: Any
    num_values: Any
    num_gradients: Any
    num_hessians: Any
    num_hvps: Any
    ell: Any
    ell_1: Any
    ell_2: Any
    protected_mass: Any
    target_mass: Any
    gradient_size: Any = np.nan
    decrement: Any = np.inf
    second_order: Any = SecondOrder.UNKNOWN
    history: History | None = None

    @property
    def direction(self) -> Any:
        """Protected mass of f against that of b: suppressed, amplified, unchanged or unknown.

        Squared distance has no direction, so being far from b may mean *more* protected mass; and
        a large cross-entropy may come from a few of the protected rows.
        Differences up to the square root of the machine epsilon of x count as unchanged; unknown
        is a mass that is not finite. A batch gives an array of words.
        """
        change = np.asarray(self.protected_mass) - np.asarray(self.target_mass)
        resolution = np.sqrt(np.finfo(np.asarray(self.x).dtype).eps)
        words = np.select(
            [np.abs(change) <= resolution, change > 0, change < 0],
            ["unchanged", "amplified", "suppressed"],
            "unknown",
        )
        return str(words) if words.ndim == 0 else words

    def __repr__(self) -> str:
        """The status, L and the direction of one solution, or how many of a batch converged."""
        if not is_concrete(self) or not isinstance(self.status, jax.Array | np.ndarray | int):
            return "<Solution, traced>"
        status = np.asarray(self.status)
        if status.ndim:
            good = int((status == Status.CONVERGED).sum())
            return f"<Solution of {status.size:,} problems, {good:,} of them CONVERGED>"
        masses = f"{float(self.protected_mass):.4g} of f, {float(self.target_mass):.4g} of b"
        return (
            f"<Solution: {Status(int(status)).name} after {int(self.num_steps):,} steps, "
            f"L = {float(self.value):.9g}; protected rows {self.direction}: {masses}>"
        )

    def _repr_html_(self) -> str | None:
        """A small table for notebooks; None, for which they take the repr, for a batch."""
        if not is_concrete(self) or np.ndim(self.status):
            return None
        status = Status(int(self.status))
        rows = {
            "L": f"{float(self.value):.9g}",
            "gradient norm": f"{float(self.gradient_norm):.3g}",
            "ell": f"{float(self.ell):.6g}",
        }
        mass, target = float(self.protected_mass), float(self.target_mass)
        if mass or target:  # else no row is protected
            rows |= {
                "ell_1, protected rows": f"{float(self.ell_1):.6g}",
                "ell_2, other rows": f"{float(self.ell_2):.6g}",
                "protected mass": f"{mass:.4g} of f, {target:.4g} of b: {self.direction}",
            }
        note = "" if status is Status.CONVERGED else status.explanation
        return card(f"Solution: {status.name} after {int(self.num_steps):,} steps", rows, note)

    def to_frame(self, problem: SoftmaxRegression) -> Any:
        """What became of each row: a data frame with the columns b, f and protected.

        Parameters
        ----------
        problem : SoftmaxRegression or CopyrightRegression
            The problem that was solved, made of a data frame: a solution holds no data.

        Returns
        -------
        data frame
            It is of the same library as the problem's A, and has the index of A if that has one.
            Made by one product with A, as is a plot.

        Raises
        ------
        InputError
            The problem was not made of a data frame, or is another one; or this is a batch.

        Examples
        --------
        >>> import copyreg_jax as cr, pandas as pd
        >>> names = ["novel", "poem", "letter"]
        >>> texts = pd.DataFrame({"length": [1.0, 0.0, -1.0]}, index=names, dtype="float32")
        >>> problem = cr.CopyrightRegression(texts, [0.7, 0.2, 0.1], protected=1)
        >>> cr.solve(problem).to_frame(problem).round(2)
                  b     f  protected
        novel   0.7  0.26       True
        poem    0.2  0.33      False
        letter  0.1  0.41      False
        """
        from copyreg_jax.solvers.fit_by_row import frame_of_rows

        return frame_of_rows(self, problem)

    def plot(self, problem: SoftmaxRegression, ax: Axes | None = None) -> Axes:
        """Draw f against b, one point for each row: protected ones are crosses.

        Rows on the dashed line have met their targets. An axis is logarithmic, and linear close to
        zero where some values are too small or negative.

        Parameters
        ----------
        problem : SoftmaxRegression or CopyrightRegression
            The problem that was solved: a solution holds no data.
        ax : matplotlib Axes, optional
            Where to draw; a new figure of pyplot if not given.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        InputError
            matplotlib is not installed; the problem is another one; or this is a batch.

        Examples
        --------
        >>> import copyreg_jax as cr
        >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
        >>> axes = cr.solve(problem).plot(problem)
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('target b', 'f = softmax(A x)')
        """
        from copyreg_jax.solvers.fit_by_row import plot_rows

        return plot_rows(self, problem, ax)

    def raise_for_status(self) -> Self:
        """Return self if the status is CONVERGED.

        Raises
        ------
        NotConvergedError
            With cause and remedy; for a batch, with the number of failures.
        """
        status = np.asarray(self.status)
        if status.ndim:
            failed = int(np.sum(status != Status.CONVERGED))
            if failed:
                raise NotConvergedError(f"{failed} of {status.size} problems did not converge")
        elif int(status) != Status.CONVERGED:
            reason = Status(int(status))
            raise NotConvergedError(
                f"{reason.name} after {int(self.num_steps)} steps, |gradient| = "
                f"{float(self.gradient_norm):.3e}: {reason.explanation}"
            )
        return self
