r"""Newton's method with a subsampled Hessian: the algorithm behind Theorem 15 of the paper.

docs/theory/sketched-newton.md has the theory, what the theorem prints, and measurements.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from copyreg_jax.errors import InputError
from copyreg_jax.matrices import column_maxima, column_norms
from copyreg_jax.problems import curvature, objective
from copyreg_jax.problems.objective import Point, Scalar, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.factorizations import eigh_if, inverse_factor, triangular_factor
from copyreg_jax.solvers.protocol import Method, Need, State, stalled_if
from copyreg_jax.solvers.row_sampling import ROWS_FACTOR, sampled_hessian, sketch_rows

__all__ = ["Precomputed", "SketchedNewton", "check_accuracy", "is_integer"]

_MAX_HALVINGS = 60

_MAX_NO_PROGRESS = 4
"""Steps in a row, each with a sample of its own, that may fail to show a decrease."""


class Precomputed(NamedTuple):
    """Factor of A^T W^2 A, column scales, largest entry of each column."""

    factor: Float[Array, "d d"]
    scale: Float[Array, " d"]
    largest: Float[Array, " d"]


@dataclasses.dataclass(frozen=True)
class SketchedNewton(Method):
    """Newton's method whose Hessian is estimated from rows sampled by their leverage scores.

    In the logits the Hessian is diagonal plus low rank. The low-rank terms are taken exactly, the
    diagonal part from a fixed number of rows, drawn anew at each step with probabilities near
    their leverage scores, which a CountSketch of the weighted rows and a random projection give:
    nothing of the size n d^2 is computed. The step is shortened until L falls, and an indefinite
    Hessian is replaced by its absolute value.

    Parameters
    ----------
    accuracy : float, default 0.5
        e in (0, 1): the Hessian is known to about (1 +- e). A step near the solution shrinks the
        error about e times; it takes ``6 d / e^2`` rows.
    num_rows : int, optional
        Number of rows sampled, in place of the rule above. `promised_rows` gives the number for
        which the accuracy is proved. No fewer than n rows mean the exact Hessian.
    seed : int, default 0
        The sample of step k depends on the seed and on k alone, so that runs can be repeated and
        resumed.

    Notes
    -----
    Theorem 15 of the paper, from Deng, Li and Song; leverage scores as in Drineas, Magdon-Ismail,
    Mahoney and Woodruff, "Fast approximation of matrix coherence and statistical leverage", JMLR 13
    (2012). A step costs O(nnz(A) + d^3) up to logarithms: some ten products with A. It pays where
    n is far above ``6 d / e^2`` and d is 64 or more; docs/theory/sketched-newton.md has
    measurements. ``num_hessians`` counts sampled Hessians, ``num_values`` the points tried by the
    line search too. Converges to the precision of the gradient, which is exact, and may end at a
    saddle point where it starts there.

    Examples
    --------
    >>> import numpy as np, copyreg_jax as cr
    >>> rng = np.random.default_rng(0)
    >>> A, b = rng.normal(size=(500, 2)).astype("f4"), rng.dirichlet(np.ones(500)).astype("f4")
    >>> problem = cr.CopyrightRegression(A, b, protected=100)
    >>> cr.solve(problem, cr.SketchedNewton()).status.name
    'CONVERGED'
    """

    accuracy: float = 0.5
    num_rows: int | None = None
    seed: int = 0

    default_max_steps: ClassVar[int] = 500
    steps_per_call: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"rows"})

    def __post_init__(self) -> None:
        check_accuracy(self.accuracy)
        if not (self.num_rows is None or (is_integer(self.num_rows) and self.num_rows >= 1)):
            raise InputError(f"num_rows is {self.num_rows!r}; give an integer >= 1, or None")
        if not (is_integer(self.seed) and 0 <= self.seed < 2**31):
            raise InputError(f"seed is {self.seed!r}; give an integer >= 0 and below 2^31")

    def rows(self, d: int) -> int:
        """Return the number of rows sampled for a problem with d columns."""
        if self.num_rows is not None:
            return self.num_rows
        return math.ceil(ROWS_FACTOR * d / self.accuracy**2)

    def hessian(
        self, problem: SoftmaxRegression, x: ArrayLike, step: ArrayLike = 0
    ) -> Float[Array, "d d"]:
        """Return the sampled Hessian at x that the step of this number would use.

        Examples
        --------
        >>> import copyreg_jax as cr
        >>> problem = cr.SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3])
        >>> SketchedNewton().hessian(problem, [0.0]).shape
        (1, 1)
        """
        return _hessian_at(problem, problem.point(x), step, self)

    def _hessian(
        self, problem: SoftmaxRegression, u: Vector, factor: Array, step: ArrayLike
    ) -> Float[Array, "d d"]:
        at = curvature.curvature(u, problem.terms)
        num_rows = self.rows(problem.d)
        if num_rows >= problem.n:
            return curvature.hessian(problem.A, at)
        return sampled_hessian(
            problem.A, at, factor, num_rows, jax.random.fold_in(self._keys[0], step)
        )

    def _factor(self, problem: SoftmaxRegression) -> Float[Array, "d d"]:
        """Return R with ``R^T R`` close to ``A^T W^2 A``, which is the same at every step."""
        if self.rows(problem.d) >= problem.n:
            return jnp.zeros((problem.d, problem.d), problem.dtype)
        sketch = sketch_rows(problem.A, problem.w[None], None, self._keys[1])
        return triangular_factor(sketch)

    @property
    def _keys(self) -> Array:
        return jax.random.split(jax.random.key(self.seed))

    def precompute(self, problem: SoftmaxRegression) -> Precomputed:
        norms = column_norms(problem.A) / problem.n**0.5
        scale = jnp.where(norms > 0, norms, 1)
        return Precomputed(self._factor(problem), scale, column_maxima(problem.A))

    def init(
        self, problem: SoftmaxRegression, precomputed: Precomputed, state: State, u: Vector
    ) -> State:
        # How many steps failed in a row.
        return (
            super().init(problem, precomputed, state, u)._replace(memory=jnp.zeros((), jnp.int32))
        )

    def step(self, problem: SoftmaxRegression, precomputed: Precomputed, state: State) -> State:
        (factor, scale, largest), no_progress = precomputed, state.memory
        u = problem.logits(state.x)
        H = self._hessian(problem, u, factor, state.num_steps) / scale[None] / scale[:, None]
        q = state.gradient / scale
        s = _direction(H, q)
        direction, slope = s / scale, jnp.sum(q * s)

        # Logits are linear in the step length, so that a trial costs O(n).
        z = problem.A @ direction
        logit_slope = curvature.value_and_gradient(u, problem.terms)[1]
        eps = jnp.finfo(state.x.dtype).eps
        reach = jnp.sum(largest * jnp.abs(state.x))
        noise = eps * (16 * state.value + jnp.sum(jnp.abs(logit_slope)) * reach)
        unseen = -slope <= noise

        def too_long(trial: tuple[Scalar, Scalar, Array]) -> Array:
            length, value, halvings = trial
            enough = value <= state.value + 1e-4 * length * slope
            return ~enough & (halvings < _MAX_HALVINGS)

        def halve(trial: tuple[Scalar, Scalar, Array]) -> tuple[Scalar, Scalar, Array]:
            length = 0.5 * trial[0]
            return length, objective.value(u + length * z, problem.terms), trial[2] + 1

        one = jnp.ones((), state.x.dtype)
        first = one, objective.value(u + z, problem.terms), jnp.zeros((), jnp.int32)
        # Below the rounding error of L a decrease may not be seen; there the gradient decides.
        length, _, halvings = jax.lax.while_loop(lambda t: ~unseen & too_long(t), halve, first)
        x = state.x + length * direction
        value, gradient = problem.value_and_gradient(x)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        flatter = jnp.linalg.norm(gradient / scale) < jnp.linalg.norm(q)
        lower = value <= jnp.where(unseen, state.value + noise, state.value)
        accepted = finite & lower & (flatter | ~unseen)
        no_progress = jnp.where(accepted, 0, no_progress + 1)

        # NaN if the Hessian has overflowed: that is how the driver gets to know.
        seen = jnp.where(accepted, value, state.value)
        return state._replace(
            x=jnp.where(accepted, x, state.x),
            value=jnp.where(jnp.all(jnp.isfinite(H)), seen, jnp.nan),
            gradient=jnp.where(accepted, gradient, state.gradient),
            status=stalled_if(no_progress >= _MAX_NO_PROGRESS),
            counts=state.counts.add(values=2 + halvings, gradients=1, hessians=1),
            memory=no_progress,
        )


@functools.partial(jax.jit, static_argnames="solver")
def _hessian_at(
    problem: SoftmaxRegression, x: Point, step: ArrayLike, solver: SketchedNewton
) -> Float[Array, "d d"]:
    return solver._hessian(problem, problem.logits(x), solver._factor(problem), step)


def _direction(H: Float[Array, "d d"], q: Float[Array, " d"]) -> Float[Array, " d"]:
    """``-H^-1 q``, with the absolute values of the eigenvalues if some are negative."""
    d = len(q)
    eps, tiny = jnp.finfo(q.dtype).eps, jnp.finfo(q.dtype).tiny
    floor = 8 * d * eps * jnp.max(jnp.abs(jnp.diagonal(H))) + tiny
    inverse = inverse_factor(H + floor * jnp.eye(d, dtype=H.dtype))
    indefinite = ~jnp.isfinite(jnp.sum(inverse))
    lam, Q = eigh_if(indefinite, H, (jnp.ones_like(q), H))
    by_size = Q @ ((q @ Q) / jnp.maximum(jnp.abs(lam), floor))
    return -jnp.where(indefinite, by_size, (inverse @ q) @ inverse)


def is_integer(number: object) -> bool:
    """Return whether it is an integer and not a bool."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def check_accuracy(accuracy: float) -> None:
    """Refuse an accuracy outside of (0, 1)."""
    if not (isinstance(accuracy, int | float) and 0 < accuracy < 1):
        raise InputError(f"accuracy is {accuracy!r}; give a number in (0, 1)")
