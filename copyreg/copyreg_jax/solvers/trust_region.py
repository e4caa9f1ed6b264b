"""Trust-region Newton method with the exact Hessian."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from copyreg_jax._tracing import only_if
from copyreg_jax.errors import InputError
from copyreg_jax.matrices import absent_rows, column_maxima, column_norms, without_rows
from copyreg_jax.problems import curvature
from copyreg_jax.problems.objective import Point, Scalar, Vector
from copyreg_jax.problems.softmax_regression import SoftmaxRegression
from copyreg_jax.solvers.factorizations import eigh_if, inverse_factor
from copyreg_jax.solvers.optimality import Look, length
from copyreg_jax.solvers.protocol import Method, Need, State, stalled_if
from copyreg_jax.solvers.solution import SecondOrder

__all__ = ["Memory", "Model", "Precomputed", "TrustRegionNewton", "subproblem"]

_MAX_NO_PROGRESS = 4
"""How many steps in a row, each a quarter as long as the last, may fail to show a decrease."""

_MISS_IN_EPS = 1e6
"""Relative error, in eps, that the length of a step to the boundary may have."""


class Precomputed(NamedTuple):
    """The scaling D, and the largest absolute entry of each column of A."""

    scale: Float[Array, " d"]
    maxima: Float[Array, " d"]


class Model(NamedTuple):
    """Quadratic model at the iterate.

    Attributes
    ----------
    hessian : (d, d) array
        D^-1 H D^-1 of the Hessian H.
    newton : (d,) array
        The step to the minimizer of the model, if it is steady.
    steady, known : () bool arrays
        Whether all eigenvalues are seen to be above rounding, and whether the spectrum is there.
    eigenvalues, eigenvectors : (d,) and (d, d) arrays
        The spectrum, if known.
    noise : () array
        Rounding error of L.
    """

    hessian: Float[Array, "d d"]
    newton: Float[Array, " d"]
    steady: Bool[Array, ""]
    known: Bool[Array, ""]
    eigenvalues: Float[Array, " d"]
    eigenvectors: Float[Array, "d d"]
    noise: Scalar

    def fits(self, radius: Scalar) -> Bool[Array, ""]:
        """Return whether Newton's step is known and within the radius."""
        return self.steady & (jnp.linalg.norm(self.newton) <= radius)

    def ready(self, radius: Scalar) -> Model:
        """Return the model with all that a step of at most the radius needs."""
        wanted = ~self.known & ~self.fits(radius)
        lam, Q = eigh_if(wanted, self.hessian, (self.eigenvalues, self.eigenvectors))
        return self._replace(known=self.known | wanted, eigenvalues=lam, eigenvectors=Q)

    def step(self, q: Float[Array, " d"], radius: Scalar) -> tuple[Float[Array, " d"], Scalar]:
        """Return the minimizer within the radius, and the decrease; q is the gradient."""
        fits = self.fits(radius)
        # Where Newton's step fits, a subproblem that is solved at once.
        lam = jnp.where(fits, 1, self.eigenvalues)
        s, predicted = subproblem(lam, jnp.where(fits, 0, q @ self.eigenvectors), radius)
        s = jnp.where(fits, self.newton, self.eigenvectors @ s)
        return s, jnp.where(fits, -0.5 * jnp.sum(q * self.newton), predicted)


class Memory(NamedTuple):
    """The model, the region, and how often in a row no decrease could be seen."""

    model: Model
    radius: Scalar
    no_progress: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class TrustRegionNewton(Method):
    """Newton's method in a trust region whose subproblem is solved exactly.

    Each step minimizes the quadratic model over ``||D p|| <= radius``, D = column norms of A over
    sqrt(n), so that the radius is about a root-mean-square change of the logits and rescaled
    columns give the same iterates. Where Newton's step does not fit in, the model is diagonalized,
    so indefinite Hessians, the hard case and rank-deficient A need no special treatment, and a
    saddle point is left along the most negative curvature. L never rises by more than its rounding
    error, that of the logits included.

    Parameters
    ----------
    initial_radius : float, default 1.0
        First radius. A poor choice costs a few rejected steps.

    Notes
    -----
    More and Sorensen, "Computing a trust region step", SIAM J. Sci. Stat. Comput. 4 (1983), with
    one Cholesky factorization, and an eigendecomposition in place of all further ones. A step costs
    one value and gradient, and, if accepted, one Hessian, O(n d^2 + d^3).

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.SoftmaxRegression([[1.0], [0.0]], [0.7, 0.3], w=0.1)
    >>> cr.solve(problem, cr.TrustRegionNewton(initial_radius=0.5)).status.name
    'CONVERGED'
    """

    initial_radius: float = 1.0

    default_max_steps: ClassVar[int] = 500
    steps_per_call: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"hessian"})

    def __post_init__(self) -> None:
        radius = self.initial_radius
        if not (isinstance(radius, int | float) and 0 < radius < float("inf")):
            raise InputError(f"initial_radius is {radius!r}; give a finite number > 0")

    def precompute(self, problem: SoftmaxRegression) -> Precomputed:
        norms = column_norms(problem.A) / problem.n**0.5
        return Precomputed(jnp.where(norms > 0, norms, 1), column_maxima(problem.A))

    def init(
        self, problem: SoftmaxRegression, precomputed: Precomputed, state: State, u: Vector
    ) -> State:
        radius = jnp.asarray(self.initial_radius, state.x.dtype)
        u = without_rows(u, absent_rows(problem.A))
        value, slope = curvature.value_and_gradient(u, problem.terms)
        gradient = slope @ problem.A
        at = curvature.curvature(u, problem.terms)
        model = _model(problem, precomputed, state.x, at, value, slope, gradient).ready(radius)
        return state._replace(
            value=_seen(value, model),
            gradient=gradient,
            memory=Memory(model, radius, jnp.zeros((), jnp.int32)),
            counts=state.counts.add(hessians=1),
        )

    def step(self, problem: SoftmaxRegression, precomputed: Precomputed, state: State) -> State:
        scale = precomputed.scale
        old, radius, no_progress = state.memory
        noise, eps = old.noise, jnp.finfo(state.x.dtype).eps
        s, predicted = old.step(state.gradient / scale, radius)
        reach = jnp.linalg.norm(s)
        x = state.x + s / scale
        u = problem.logits(x)
        value, slope = curvature.value_and_gradient(u, problem.terms)
        gradient = slope @ problem.A

        # Below the rounding error of L a decrease may not be seen; there the gradient decides too.
        unseen = predicted <= noise
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        ratio = jnp.where(finite, (state.value - value) / predicted, -jnp.inf)
        flatter = length(gradient / scale) < length(state.gradient / scale)
        settled = unseen & flatter & (value <= state.value + noise)
        accepted = finite & (settled | (ratio > 1e-4))

        grown = jnp.where(reach > 0.9 * radius, 2 * radius, radius)
        adjusted = jnp.where(ratio > 0.75, grown, jnp.where(ratio < 0.25, 0.25 * reach, radius))
        radius = jnp.where(settled, radius, adjusted)
        tiny = radius <= eps * jnp.linalg.norm(scale * state.x)
        no_progress = jnp.where(accepted | ~unseen, 0, no_progress + 1)

        model = only_if(
            False,
            accepted,
            lambda here: _model(problem, precomputed, *here),
            (x, curvature.curvature(u, problem.terms), value, slope, gradient),
            old,
        )
        counts = state.counts.add(values=1, gradients=1, hessians=accepted)
        return state._replace(
            x=jnp.where(accepted, x, state.x),
            value=_seen(jnp.where(accepted, value, state.value), model),
            gradient=jnp.where(accepted, gradient, state.gradient),
            status=stalled_if(~accepted & (tiny | (no_progress >= _MAX_NO_PROGRESS))),
            counts=counts,
            memory=Memory(model.ready(radius), radius, no_progress),
        )

    def done(self, state: State) -> Bool[Array, ""]:
        """Return whether the gradient is small and no curvature is negative beyond rounding."""
        model = state.memory.model
        lam = model.eigenvalues
        return super().done(state) & (model.steady | (lam[0] >= -_floor(lam)))

    def look(self, problem: SoftmaxRegression, precomputed: Precomputed, state: State) -> Look:
        """Take the curvature of the model; nothing is known where it stops at a saddle point."""
        model, q = state.memory.model, state.gradient / precomputed.scale
        lam = model.eigenvalues
        floor = _floor(lam)
        by_spectrum = length(q @ model.eigenvectors / jnp.sqrt(jnp.maximum(lam, floor)))
        by_factor = length(inverse_factor(model.hessian) @ q)
        decrement = jnp.where(model.steady, by_factor, by_spectrum)
        known = model.steady | (lam[0] >= -floor)
        how = jnp.where(known, SecondOrder.EXACT, SecondOrder.UNKNOWN).astype(jnp.int32)
        return Look(jnp.where(known, decrement, jnp.inf), how, jnp.zeros_like(state.x))


def _model(
    problem: SoftmaxRegression,
    precomputed: Precomputed,
    x: Point,
    at: curvature.Curvature,
    value: Scalar,
    slope: Vector,
    gradient: Point,
) -> Model:
    """The model without its spectrum.

    L is a sum of positive terms, known to some eps |L| for given logits u. The logits are sums of
    products a_ij x_j, and their rounding moves L by about eps sum_i |dL/du_i| sum_j |a_ij x_j|: far
    more than eps |L| where the rows of A share a large offset.
    """
    H = curvature.hessian(problem.A, at)
    H = H / precomputed.scale[None] / precomputed.scale[:, None]
    inverse = inverse_factor(H)
    # The least eigenvalue is at least 1 / |L^-1|^2, with the Frobenius norm.
    steady = jnp.sum(inverse**2) * _floor(H) <= 1
    newton = -((inverse @ (gradient / precomputed.scale)) @ inverse)
    newton = jnp.where(steady, newton, 0)  # NaN where there is no factor
    none, zero = jnp.zeros((), bool), jnp.zeros_like(newton)
    logit = jnp.sum(precomputed.maxima * jnp.abs(x))
    eps = jnp.finfo(x.dtype).eps
    noise = eps * (16 * value + jnp.sum(jnp.abs(slope)) * logit)
    return Model(H, newton, steady, none, zero, jnp.zeros_like(H), noise)


def _seen(value: Scalar, model: Model) -> Scalar:
    """Return the value, or NaN if the Hessian has overflowed, so that the driver notices."""
    return jnp.where(jnp.all(jnp.isfinite(model.hessian)), value, jnp.nan)


def _floor(spectrum: Array) -> Scalar:
    """Return the size of the rounding errors of the eigenvalues, with a factor to spare.

    From the eigenvalues, or from a positive matrix, which has none above the sum of its diagonal.
    """
    eps, tiny = jnp.finfo(spectrum.dtype).eps, jnp.finfo(spectrum.dtype).tiny
    top = jnp.max(jnp.abs(spectrum)) if spectrum.ndim == 1 else jnp.trace(spectrum)
    return 8 * len(spectrum) * eps * top + tiny


def subproblem(lam: Array, q: Array, radius: Scalar) -> tuple[Array, Scalar]:
    """Minimizer s of ``q.s + 0.5 sum lam s^2`` over ``||s|| <= radius``, and the decrease.

    The minimizer is ``-q / (lam + shift)`` for the shift >= max(0, -lam_min) at which its length is
    the radius, or the smallest shift allowed if it fits in already.
    """
    floor = _floor(lam)
    convex = lam[0] >= -floor
    least = jnp.maximum(0, floor - lam[0])
    newton = -q / (lam + least)
    slack = radius**2 - jnp.sum(newton**2)

    def refine(bracket: Any) -> Any:
        low, high, _, shift, _, k = bracket
        curved = lam + shift
        reach = jnp.linalg.norm(q / curved)
        low, high = jnp.where(reach > radius, shift, low), jnp.where(reach > radius, high, shift)
        slope = jnp.sum(q**2 / curved**3)
        proposal = shift + (reach / radius - 1) * reach**2 / slope
        inside = (proposal > low) & (proposal < high)
        proposal = jnp.where(inside, proposal, 0.5 * (low + high))
        return low, high, shift, proposal, jnp.abs(reach / radius - 1), k + 1

    def going(bracket: Any) -> Bool[Array, ""]:
        *_, miss, k = bracket
        return (slack < 0) & ~(miss <= close) & (k < 40)

    close = _MISS_IN_EPS * jnp.finfo(lam.dtype).eps
    most = jnp.maximum(least, jnp.linalg.norm(q) / radius - lam[0])
    start = (least, most, most, 0.5 * (least + most), jnp.inf * radius, jnp.zeros((), jnp.int32))
    _, high, tried, _, miss, _ = jax.lax.while_loop(going, refine, start)
    boundary = -q / (lam + jnp.where(miss <= close, tried, high))

    # Hard case: room is left although the Hessian is indefinite, so go on along the eigenvector
    # of the most negative curvature, downhill, until the boundary.
    extra = jnp.sqrt(jnp.maximum(slack, 0)) * jnp.where(q[0] > 0, -1, 1)
    hard = newton.at[0].add(jnp.where(convex, 0, extra))
    s = jnp.where(slack >= 0, hard, boundary)
    return s, -(jnp.sum(q * s) + 0.5 * jnp.sum(lam * s**2))
