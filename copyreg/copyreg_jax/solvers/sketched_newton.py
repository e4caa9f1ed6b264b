r"""Newton's method with a subsampled Hessian: the algorithm behind Theorem 15 of the paper.

docs/theory/sketched-newton.md has the theory, what the theorem prints, and measurements.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from copyreg_jax import curvature, objective
from copyreg_jax.curvature import Curvature
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import (
    Matrix,
    ShardedRows,
    column_maxima,
    column_norms,
    count_sketch,
    on_host,
    take_rows,
)
from copyreg_jax.objective import Scalar, Vector
from copyreg_jax.problem import Point, SoftmaxRegression
from copyreg_jax.solvers.state import Method, State, stalled_if

_ROWS_FACTOR = 6
"""Rows per d / accuracy^2: what practice needs."""
_SHARE = 0.2
"""Part of its leverage score with which a row is drawn at least, as `promised_rows` supposes."""
_PROJECTIONS = 16
"""Columns of the random projection that row norms are estimated from."""
_COPIES = 3
"""CountSketches side by side, so that two rows that meet in one are told apart by the others."""
_BUCKETS = 4
"""Buckets of each of them per column of A."""
_UNIFORM = 0.1
"""Part of the probability that is given to all rows alike."""
_TICKETS = 1 << 30
"""Resolution of the probabilities: integers sum up exactly, in float32 problems too."""
_MAX_HALVINGS = 60
_MAX_BLIND = 4
"""Steps in a row, each with a sample of its own, that may fail to show a decrease."""


class Tools(NamedTuple):
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

    def __post_init__(self) -> None:
        _check_accuracy(self.accuracy)
        if not (self.num_rows is None or (_is_integer(self.num_rows) and self.num_rows >= 1)):
            raise InputError(f"num_rows is {self.num_rows!r}; give an integer >= 1, or None")
        if not (_is_integer(self.seed) and 0 <= self.seed < 2**31):
            raise InputError(f"seed is {self.seed!r}; give an integer >= 0 and below 2^31")

    def rows(self, d: int) -> int:
        """Number of rows sampled for a problem with d columns."""
        if self.num_rows is not None:
            return self.num_rows
        return math.ceil(_ROWS_FACTOR * d / self.accuracy**2)

    def hessian(
        self, problem: SoftmaxRegression, x: ArrayLike, step: ArrayLike = 0
    ) -> Float[Array, "d d"]:
        """The sampled Hessian at x, as the step of that number would have it.

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
        at = curvature.curvature(u, *problem.terms)
        num_rows = self.rows(problem.d)
        if num_rows >= problem.n:
            return curvature.hessian(problem.A, at)
        return sampled_hessian(
            problem.A, at, factor, num_rows, jax.random.fold_in(self._keys[0], step)
        )

    def _factor(self, problem: SoftmaxRegression) -> Float[Array, "d d"]:
        """R with ``R^T R`` near ``A^T W^2 A``, which is the same at every step."""
        if self.rows(problem.d) >= problem.n:
            return jnp.zeros((problem.d, problem.d), problem.dtype)
        sketch = _sketch(problem.A, problem.w[None], None, self._keys[1])
        return jnp.linalg.qr(sketch, mode="r")

    @property
    def _keys(self) -> Array:
        return jax.random.split(jax.random.key(self.seed))

    def prepare(self, problem: SoftmaxRegression) -> Tools:
        if isinstance(problem.A, ShardedRows):
            raise InputError("A is sharded, and SketchedNewton draws rows of all; use NewtonCG")
        if on_host(problem.A):
            raise InputError("A is on disk, and SketchedNewton draws rows of it; use NewtonCG")
        norms = column_norms(problem.A) / problem.n**0.5
        scale = jnp.where(norms > 0, norms, 1)
        return Tools(self._factor(problem), scale, column_maxima(problem.A))

    def init(self, problem: SoftmaxRegression, tools: Tools, state: State) -> State:
        # How many steps failed in a row.
        return state._replace(memory=jnp.zeros((), jnp.int32))

    def step(self, problem: SoftmaxRegression, tools: Tools, state: State) -> State:
        (factor, scale, largest), blind = tools, state.memory
        u = problem.logits(state.x)
        H = self._hessian(problem, u, factor, state.num_steps) / scale[None] / scale[:, None]
        q = state.gradient / scale
        s = _direction(H, q)
        direction, slope = s / scale, jnp.sum(q * s)

        # Logits are linear in the step length, so that a trial costs O(n).
        z = problem.A @ direction
        logit_slope = curvature.value_and_gradient(u, *problem.terms)[1]
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
            return length, objective.value(u + length * z, *problem.terms), trial[2] + 1

        one = jnp.ones((), state.x.dtype)
        first = one, objective.value(u + z, *problem.terms), jnp.zeros((), jnp.int32)
        # Below the rounding error of L a decrease may not be seen; there the gradient decides.
        length, _, halvings = jax.lax.while_loop(lambda t: ~unseen & too_long(t), halve, first)
        x = state.x + length * direction
        value, gradient = problem.value_and_gradient(x)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        flatter = jnp.linalg.norm(gradient / scale) < jnp.linalg.norm(q)
        lower = value <= jnp.where(unseen, state.value + noise, state.value)
        accepted = finite & lower & (flatter | ~unseen)
        blind = jnp.where(accepted, 0, blind + 1)

        # NaN if the Hessian has overflowed: that is how the driver gets to know.
        seen = jnp.where(accepted, value, state.value)
        return state._replace(
            x=jnp.where(accepted, x, state.x),
            value=jnp.where(jnp.all(jnp.isfinite(H)), seen, jnp.nan),
            gradient=jnp.where(accepted, gradient, state.gradient),
            status=stalled_if(blind >= _MAX_BLIND),
            counts=state.counts.add(values=2 + halvings, gradients=1, hessians=1),
            memory=blind,
        )


@functools.partial(jax.jit, static_argnames="solver")
def _hessian_at(
    problem: SoftmaxRegression, x: Point, step: ArrayLike, solver: SketchedNewton
) -> Float[Array, "d d"]:
    return solver._hessian(problem, problem.logits(x), solver._factor(problem), step)


def promised_rows(d: int, accuracy: float, failure_probability: float = 0.01) -> int:
    """Number of rows for which the accuracy is proved, up to the failure probability.

    ``(2 d / (s e^2)) (1 + 2 e / 3) log(2 d / failure)`` by the matrix Bernstein inequality, if no
    row is drawn with less than s = 1/5 of its leverage score. The error is relative to the Hessian
    with all its weights made positive; where some are negative, divide e by their ratio.

    Raises
    ------
    InputError
        A number is out of range.

    Examples
    --------
    >>> promised_rows(64, 0.5), SketchedNewton(accuracy=0.5).rows(64)
    (32281, 1536)
    """
    if not (_is_integer(d) and d >= 1):
        raise InputError(f"d is {d!r}; give an integer >= 1")
    _check_accuracy(accuracy)
    if not 0 < failure_probability < 1:
        raise InputError(f"failure_probability is {failure_probability!r}; give one in (0, 1)")
    spread = 2 * d / (_SHARE * accuracy**2) * (1 + 2 * accuracy / 3)
    return math.ceil(spread * math.log(2 * d / failure_probability))


class Contraction(NamedTuple):
    """How much one full step shrinks the distance to x*, and what is promised of that.

    Attributes
    ----------
    observed, observed_in_hessian_norm : float
        ``||x+ - x*|| / ||x - x*||``, Euclidean and in the norm of ``H = hess L(x)``.
    promised, promised_in_hessian_norm : float
        Bounds of them by the corrected shrinking lemma; infinite where its hypotheses are not
        proved. The printed one has the first term of the second in the place of the first.
    printed : float
        What the lemma prints, with the usable Lipschitz constant; infinite likewise.
    hessian_error : float
        The smallest e with ``(1 - e) H <= H~ <= (1 + e) H``, measured; infinite if H is not
        positive definite.
    distance : float
        ``||x - x*||``.
    """

    observed: float
    observed_in_hessian_norm: float
    promised: float
    promised_in_hessian_norm: float
    printed: float
    hessian_error: float
    distance: float


def contraction(
    problem: SoftmaxRegression,
    solver: SketchedNewton,
    x: ArrayLike,
    x_star: ArrayLike,
    step: int = 0,
) -> Contraction:
    """One full step ``x - H~^-1 grad L(x)`` of the solver, measured against the shrinking lemma.

    Parameters
    ----------
    problem : SoftmaxRegression or CopyrightRegression
        With the squared distance, in float64.
    solver : SketchedNewton
    x, x_star : (d,) arrays
        The point to step from, and the minimizer, known far better than x.
    step : int, default 0
        Number of the step, which the sample depends on.

    Returns
    -------
    Contraction

    Raises
    ------
    InputError, PrecisionError
        Those of `copyreg_jax.theory.bounds.newton_region`, whose modulus l and Lipschitz constant M
        the promise takes; x is x_star.

    Notes
    -----
    `copyreg_jax.theory.lemmas.shrinking_lemma` with the measured e. Cost O(n d^2 + d^3).

    Examples
    --------
    >>> import jax, numpy as np, copyreg_jax as cr
    >>> jax.config.update("jax_enable_x64", True)
    >>> A = np.random.default_rng(0).normal(size=(300, 2))
    >>> problem = cr.SoftmaxRegression(A, np.eye(300)[0])
    >>> x_star = np.asarray(cr.solve(problem).x)
    >>> found = contraction(problem, SketchedNewton(), x_star + 1e-6, x_star)
    >>> found.observed <= found.promised, found.hessian_error < 1
    (True, True)
    >>> jax.config.update("jax_enable_x64", False)
    """
    from copyreg_jax.theory import bounds, lemmas

    x, x_star = np.asarray(problem.point(x)), np.asarray(problem.point(x_star, "x_star"))
    distance = float(np.linalg.norm(x - x_star))
    if distance == 0:
        raise InputError("x is x_star; give a point from which there is a way to go")
    region = bounds.newton_region(problem, x_star)
    H = np.asarray(problem.hessian(x))
    near = np.asarray(solver.hessian(problem, x, step))
    after = x - np.linalg.solve(near, np.asarray(problem.gradient(x))) - x_star
    before = x - x_star

    lam, Q = np.linalg.eigh(H)
    if lam[0] <= 0:
        return Contraction(
            float(np.linalg.norm(after)) / distance, *(math.inf,) * 5, distance=distance
        )
    root = (Q * np.sqrt(lam)).T  # its Gram matrix is H
    whitened = (Q / np.sqrt(lam)).T @ (near - H) @ (Q / np.sqrt(lam))
    error = float(np.abs(np.linalg.eigvalsh(whitened)).max())

    def promise(**arguments: Any) -> float:
        if not (distance + region.minimizer_within <= region.radius and error < 1):
            return math.inf
        constants = distance, region.modulus, region.lipschitz
        return lemmas.shrinking_lemma(*constants, hessian_error=error, **arguments) / distance

    return Contraction(
        observed=float(np.linalg.norm(after)) / distance,
        observed_in_hessian_norm=float(
            np.linalg.norm(root @ after) / np.linalg.norm(root @ before)
        ),
        promised=promise(condition=float(lam[-1] / lam[0])),
        promised_in_hessian_norm=promise(condition=1.0),
        printed=promise(form="printed"),
        hessian_error=error,
        distance=distance,
    )


def sampled_hessian(
    A: Matrix, at: Curvature, factor: Float[Array, "d d"], num_rows: int, key: Array
) -> Float[Array, "d d"]:
    """``hess_x L`` with its diagonal part estimated from ``num_rows`` rows; unbiased, symmetric.

    Row i stands for ``w_i^2 a_i a_i^T + sum_j s_ji (a_i - abar_j)(a_i - abar_j)^T``, negative
    weights included, and is drawn with a probability that is near the trace of that, with absolute
    weights, in the metric of the sum.
    """
    score_key, row_key = jax.random.split(key)
    centers = jnp.concatenate([at.f, at.g[None]]) @ A
    centers, g = centers[:-1], centers[-1]
    tickets = _tickets(leverage_scores(A, at, factor, centers, score_key))
    indices, weights = _draw(tickets, num_rows, row_key)
    rows = take_rows(A, indices)
    weights = weights.astype(rows.dtype)
    H = at.kappa * g[:, None] * g[None]
    H += rows.T @ ((weights * at.w2[indices])[:, None] * rows)
    for s, center in zip(at.s, centers, strict=True):
        # Centered before they are squared: a common offset of the rows cancels exactly.
        centered = rows - center[None]
        H += centered.T @ ((weights * s[indices])[:, None] * centered)
    return 0.5 * (H + H.T)


def leverage_scores(
    A: Matrix,
    at: Curvature,
    factor: Float[Array, "d d"],
    centers: Float[Array, "k d"],
    key: Array,
) -> Float[Array, " n"]:
    """Estimates of the leverage scores of the Hessian's rows: ``tr(G^-1 G_i)``, G = sum of the G_i.

    ``G_i = w_i^2 a_i a_i^T + sum_j |s_ji| (a_i - abar_j)(a_i - abar_j)^T``. The first part of G is
    ``factor^T factor``, the rest the Gram matrix of a sketch; norms in its metric are those of a
    Gaussian projection onto 16 dimensions. Cost O(nnz(A) + d^3).
    """
    d = A.shape[1]
    sketch_key, projection_key = jax.random.split(key)
    roots = jnp.sqrt(jnp.abs(at.s))
    rows = jnp.concatenate([factor, _sketch(A, roots, centers, sketch_key)])
    # A ridge of the size of the rounding errors: dependent columns do no harm.
    norms = column_norms(rows)
    scale = jnp.where(norms > 0, norms, 1)
    ridge = (8 * d * jnp.finfo(A.dtype).eps) ** 0.5 * jnp.eye(d, dtype=A.dtype)
    R = jnp.linalg.qr(jnp.concatenate([rows / scale[None], ridge]), mode="r")
    gaussian = jax.random.normal(projection_key, (d, _PROJECTIONS), A.dtype) / _PROJECTIONS**0.5
    whitened = jax.scipy.linalg.solve_triangular(R, gaussian) / scale[:, None]
    Z = A @ whitened
    scores = at.w2 * jnp.sum(Z**2, axis=1)
    for s, center in zip(at.s, centers, strict=True):
        scores += jnp.abs(s) * jnp.sum((Z - (center @ whitened)[None]) ** 2, axis=1)
    return scores


def _sketch(
    A: Matrix, weights: Float[Array, "k n"], centers: Float[Array, "k d"] | None, key: Array
) -> Float[Array, "r d"]:
    """Sketch of the rows ``weights_ji (a_i - center_j)``, all of them; its Gram is near theirs."""
    n, d = A.shape
    buckets = max(_BUCKETS * d, 64)
    sign_key, shift_key = jax.random.split(key)
    bits = jax.random.bits(sign_key, (n,), jnp.uint32)
    blocks = -(-n // buckets)
    shifts = jax.random.randint(shift_key, (_COPIES, len(weights), blocks), 0, buckets, jnp.int32)
    ones = jnp.ones((n, 1), A.dtype)

    def copy(k: int) -> Array:
        sketch = jnp.zeros((buckets, d), A.dtype)
        for j, weight in enumerate(weights):
            positive = (bits >> (k * len(weights) + j)) & 1 == 1
            signed = jnp.where(positive, weight, -weight)
            sketch += count_sketch(A, signed, shifts[k, j], buckets)
            if centers is not None:
                offsets = count_sketch(ones, signed, shifts[k, j], buckets)
                sketch -= offsets * centers[j][None]
        return sketch

    return jnp.concatenate([copy(k) for k in range(_COPIES)]) / _COPIES**0.5


def _tickets(scores: Float[Array, " n"]) -> Int[Array, " n"]:
    """Integers >= 1 that are proportional to the scores, mixed with a uniform share."""
    n, total = len(scores), jnp.sum(scores)
    uniform = jnp.full_like(scores, 1 / n)
    usable = (total > 0) & jnp.isfinite(total)
    share = jnp.where(usable, scores / jnp.where(usable, total, 1), uniform)
    share = _UNIFORM * uniform + (1 - _UNIFORM) * share
    return jnp.ceil(_TICKETS * share).astype(jnp.int32)


def _draw(
    tickets: Int[Array, " n"], num_rows: int, key: Array
) -> tuple[Int[Array, " k"], Float[Array, " k"]]:
    """Rows, ascending, one from each of ``num_rows`` equal stretches of tickets; their weights.

    A ticket is drawn with probability 1/stretch, so that the weight is stretch / tickets. What is
    drawn beyond the last ticket has weight zero.
    """
    ends = jnp.cumsum(tickets, dtype=jnp.int32)
    stretch = ends[-1] // num_rows + 1
    drawn = stretch * jnp.arange(num_rows, dtype=jnp.int32)
    drawn += jax.random.randint(key, (num_rows,), 0, stretch, jnp.int32)
    indices = jnp.minimum(jnp.searchsorted(ends, drawn, side="right"), len(tickets) - 1)
    weights = jnp.where(drawn < ends[-1], stretch / tickets[indices], 0)
    return indices, weights


def _direction(H: Float[Array, "d d"], q: Float[Array, " d"]) -> Float[Array, " d"]:
    """``-H^-1 q``, with the absolute values of the eigenvalues if some are negative."""
    d = len(q)
    eps, tiny = jnp.finfo(q.dtype).eps, jnp.finfo(q.dtype).tiny
    floor = 8 * d * eps * jnp.max(jnp.abs(jnp.diagonal(H))) + tiny
    factor = jnp.linalg.cholesky(H + floor * jnp.eye(d, dtype=H.dtype), symmetrize_input=False)

    def convex() -> Array:
        return -jax.scipy.linalg.cho_solve((factor, True), q)

    def indefinite() -> Array:
        lam, Q = jnp.linalg.eigh(H)
        return -Q @ ((q @ Q) / jnp.maximum(jnp.abs(lam), floor))

    return jax.lax.cond(jnp.all(jnp.isfinite(factor)), convex, indefinite)


def _is_integer(number: object) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _check_accuracy(accuracy: float) -> None:
    if not (isinstance(accuracy, int | float) and 0 < accuracy < 1):
        raise InputError(f"accuracy is {accuracy!r}; give a number in (0, 1)")
