r"""The objective of copyright regression, Definitions 2-9 of Chu, Song and Yang (AAAI 2024).

Everything here is a pure function of the *logits* ``u = A x``; the chain rule through ``A`` lives
with the callers (`copyreg_jax.problems`). One letter means one thing throughout:

==============  =======  ==========================================================================
``u``           (n,)     logits ``A x``
``b``           (n,)     target of the softmax, usually a probability vector
``protected``   (n,)     boolean mask of the protected rows (the paper: the first n1 rows)
``gamma``       ()       weight of the protection term, ``gamma_c`` in the paper
``w``           (n,)     regularization weights, or one scalar
``reading``     str      which reading of Definition 5 is meant, see `READINGS`
``metric``      str      which loss tells f from b, see `METRICS`
==============  =======  ==========================================================================

Definition 5 can be read in two ways. ``"joint"``: the protected entries of one softmax over all
rows. ``"block"``: a softmax over the protected rows alone, with its own normalizer. They differ in
``f_1`` and in everything built from it, and under ``"block"`` ``ell_2`` may be negative.

The loss is ``"squared"``, the paper's distance ``sum_i (f_i - b_i)^2``, or ``"cross-entropy"``,
``-sum_i b_i log f_i`` for ``b >= 0``, which has a direction and no negative ``ell_2``.
docs/theory/objective.md says when to use which.

A third reading is not the paper's. ``"left-out"`` is ``L = 0.5 ell_2 + L_reg``: the terms of the
protected rows are left out of the loss, and their rows stay in the softmax. It is what a model is
trained on that never saw their targets (`copyreg_jax.LeaveOutRegression`).

The definitions of the paper take these letters one by one. Functions that need all of them take
`Terms`.

All functions cost O(n), are differentiable, and work under ``jax.jit`` and ``jax.vmap``.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

__all__ = [
    "FACTOR",
    "METRICS",
    "READINGS",
    "Form",
    "Mask",
    "Metric",
    "Point",
    "Reading",
    "Scalar",
    "Terms",
    "Vector",
    "c",
    "c_1",
    "ell",
    "ell_1",
    "ell_2",
    "f",
    "f_1",
    "fit",
    "l_copyright",
    "l_reg",
    "protection",
    "row_weights",
    "value",
]

Reading: TypeAlias = Literal["joint", "block"]

READINGS: tuple[str, ...] = get_args(Reading)

Form: TypeAlias = Reading | Literal["left-out"]

Metric: TypeAlias = Literal["squared", "cross-entropy"]

METRICS: tuple[str, ...] = get_args(Metric)

FACTOR: dict[Metric, float] = {"squared": 0.5, "cross-entropy": 1.0}
"""What L has before ``ell``: a half of a square, all of a cross-entropy."""

Vector: TypeAlias = Float[Array, " n"]

Mask: TypeAlias = Bool[Array, " n"]

Scalar: TypeAlias = Float[Array, ""]

Point: TypeAlias = Float[Array, " d"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("b", "protected", "gamma", "w"),
    meta_fields=("reading", "metric"),
)
@dataclasses.dataclass(frozen=True, eq=False)
class Terms:
    """Everything that L depends on besides the logits.

    A pytree whose leaves are the four arrays. Programs are compiled anew for another reading or
    metric, but not for other numbers.

    Attributes
    ----------
    b : (n,) array
        Target of the softmax.
    protected : (n,) boolean array
        Mask of the protected rows.
    gamma : () array
        Weight of the protection term.
    w : (n,) or () array
        Regularization weights.
    reading : {"joint", "block", "left-out"}, default "joint"
        Reading of Definition 5; or no loss on the protected rows, and a gamma of zero.
    metric : {"squared", "cross-entropy"}, default "squared"
        Loss that tells f from b.
    """

    b: Vector
    protected: Mask
    gamma: Scalar
    w: Vector | Scalar
    reading: Form = "joint"
    metric: Metric = "squared"


def f(u: Vector) -> Vector:
    """Softmax ``exp(u) / sum(exp(u))``, shifted so that it never overflows (Definition 2).

    Parameters
    ----------
    u : (n,) array
        Logits.

    Returns
    -------
    (n,) array
        Non-negative, sums to one.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> f(jnp.array([1e3, 1e3, -1e3])).tolist()
    [0.5, 0.5, 0.0]
    """
    return jax.nn.softmax(u)


def c(u: Vector, b: Vector) -> Vector:
    """Residual ``f - b`` (Definition 3).

    Examples
    --------
    >>> c(jnp.zeros(2), jnp.array([0.75, 0.25])).tolist()
    [-0.25, 0.25]
    """
    return f(u) - b


def _row_losses(u: Vector, b: Vector, metric: Metric, rows: Mask | None = None) -> Vector:
    """What each row adds to the loss of a softmax over ``rows``, all of them if not given."""
    target = b if rows is None else jnp.where(rows, b, 0)
    if metric == "squared":
        return (jax.nn.softmax(u, where=rows) - target) ** 2
    # f may underflow, its logarithm doesn't. 0 - x, because -x is -0 where f is one, and then
    # gamma / ell_1 has the wrong sign.
    surprise = 0 - jax.nn.log_softmax(u, where=rows)
    if rows is not None:
        surprise = jnp.where(rows, surprise, 0)
    # A row without target has no part in the sum, but 0 * inf is NaN. Not zero, because this is the
    # derivative with respect to b.
    largest = jnp.finfo(surprise.dtype).max
    return target * jnp.where((target == 0) & jnp.isinf(surprise), largest, surprise)


def ell(u: Vector, b: Vector, metric: Metric = "squared") -> Scalar:
    """Loss of the softmax to its target: squared distance (Definition 4) or cross-entropy.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> u, b = jnp.zeros(2), jnp.array([1.0, 0.0])
    >>> [round(float(ell(u, b, metric)), 4) for metric in METRICS]
    [0.5, 0.6931]
    """
    return jnp.sum(_row_losses(u, b, metric))


def f_1(u: Vector, protected: Mask, reading: Form) -> Vector:
    """Softmax on the protected rows, zero elsewhere (Definition 5 under the reading given).

    Examples
    --------
    >>> u, protected = jnp.zeros(4), jnp.arange(4) < 2
    >>> [f_1(u, protected, reading).tolist() for reading in READINGS]
    [[0.25, 0.25, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    """
    if reading == "block":
        return jax.nn.softmax(u, where=protected)
    return jnp.where(protected, f(u), 0)


def c_1(u: Vector, b: Vector, protected: Mask, reading: Form) -> Vector:
    """Residual ``f_1 - b_1`` on the protected rows, zero elsewhere (Definition 6).

    Examples
    --------
    >>> u, b, protected = jnp.zeros(4), jnp.array([0.75, 0.25, 0.0, 0.0]), jnp.arange(4) < 2
    >>> [c_1(u, b, protected, reading).tolist() for reading in READINGS]
    [[-0.5, 0.0, 0.0, 0.0], [-0.25, 0.25, 0.0, 0.0]]
    """
    return jnp.where(protected, f_1(u, protected, reading) - b, 0)


def ell_1(
    u: Vector, b: Vector, protected: Mask, reading: Form, metric: Metric = "squared"
) -> Scalar:
    """Loss on the protected rows, of f or of f_1 by the reading (Definition 7).

    Examples
    --------
    >>> u, b, protected = jnp.zeros(4), jnp.array([0.75, 0.25, 0.0, 0.0]), jnp.arange(4) < 2
    >>> [float(ell_1(u, b, protected, reading)) for reading in READINGS]
    [0.25, 0.125]
    """
    rows = protected if reading == "block" else None
    return jnp.sum(jnp.where(protected, _row_losses(u, b, metric, rows), 0))


def ell_2(
    u: Vector, b: Vector, protected: Mask, reading: Form, metric: Metric = "squared"
) -> Scalar:
    """Loss ``ell - ell_1`` on the other rows (Definition 7).

    Under ``"joint"`` it is summed over those rows, without the cancellation of the difference;
    under ``"block"`` it is the difference, and may be negative for the squared distance.

    Examples
    --------
    >>> u, protected = jnp.zeros(4), jnp.arange(4) < 2
    >>> [float(ell_2(u, jnp.full(4, 0.25), protected, reading)) for reading in READINGS]
    [0.0, -0.125]
    """
    if reading == "block":
        return ell(u, b, metric) - ell_1(u, b, protected, reading, metric)
    return jnp.sum(jnp.where(protected, 0, _row_losses(u, b, metric)))


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def protection(loss: Scalar, gamma: Scalar, power: int = 1) -> Scalar:
    """Protection term ``gamma / loss``, exactly zero where gamma is zero; ``gamma / loss^power``.

    Where gamma is zero the loss has no part in it, be it zero too; yet the derivative with respect
    to gamma is ``1 / loss^power``, as for any other gamma.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> float(protection(0.0, 0.0)), float(jax.grad(protection, 1)(jnp.array(0.25), 0.0))
    (0.0, 4.0)
    """
    return jnp.where(gamma == 0, 0, _divide(gamma, jnp.where(gamma == 0, 1, loss), power))


def _divide(number: Scalar, loss: Scalar, power: int) -> Scalar:
    """``number / loss^power``, where ``loss^power`` alone may underflow."""
    for _ in range(power):
        number = number / loss
    return number


# Not by the rules for a quotient: they multiply gamma = 0 by powers of 1 / loss beyond any float.
def _protection_jvp(power: int, primals: Any, tangents: Any) -> tuple[Scalar, Scalar]:
    (loss, gamma), (loss_dot, gamma_dot) = primals, tangents
    term = protection(loss, gamma, power)
    dot = jnp.zeros_like(term)
    if not isinstance(gamma_dot, SymbolicZero):
        dot += _divide(gamma_dot, loss, power)
    if not isinstance(loss_dot, SymbolicZero):
        dot -= power * protection(loss, gamma, power + 1) * loss_dot
    return term, dot


protection.defjvp(_protection_jvp, symbolic_zeros=True)


def l_copyright(
    u: Vector,
    b: Vector,
    protected: Mask,
    gamma: Scalar,
    reading: Reading,
    metric: Metric = "squared",
) -> Scalar:
    """``0.5 ell + gamma / ell_1``; infinite where ``ell_1 = 0 < gamma`` (Definition 7).

    ``ell + gamma / ell_1`` for the cross-entropy.

    Examples
    --------
    >>> u, b, protected = jnp.zeros(4), jnp.array([0.75, 0.25, 0.0, 0.0]), jnp.arange(4) < 2
    >>> float(l_copyright(u, b, protected, jnp.array(0.5), "joint"))  # 0.1875 + 0.5 / 0.25
    2.1875
    """
    loss = ell_1(u, b, protected, reading, metric)
    return FACTOR[metric] * ell(u, b, metric) + protection(loss, gamma)


def l_reg(u: Vector, w: Vector | Scalar) -> Scalar:
    """Regularization ``0.5 ||w * u||^2`` (Definition 8).

    Examples
    --------
    >>> float(l_reg(jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])))
    4.0
    """
    return 0.5 * jnp.sum((w * u) ** 2)


def value(u: Vector, terms: Terms) -> Scalar:
    """The training objective ``L = L_copyright + L_reg`` (Definition 9).

    Examples
    --------
    Six equal rows, two protected, uniform target: at ``u = 0`` the protected loss is zero, and the
    protection term is a barrier there.

    >>> import jax.numpy as jnp
    >>> b, protected = jnp.full(6, 1 / 6), jnp.arange(6) < 2
    >>> float(value(jnp.zeros(6), Terms(b, protected, jnp.array(0.1), jnp.array(1.0))))
    inf
    """
    return fit(u, terms) + l_reg(u, terms.w)


def fit(u: Vector, terms: Terms) -> Scalar:
    """L without the regularization."""
    if terms.reading == "left-out":
        loss = ell_2(u, terms.b, terms.protected, terms.reading, terms.metric)
        return FACTOR[terms.metric] * loss
    return l_copyright(u, terms.b, terms.protected, terms.gamma, terms.reading, terms.metric)


def row_weights(terms: Terms, slope: Scalar | float) -> Vector:
    """What the rows of the one softmax weigh in the gradient of `fit`; not under "block".

    ``slope`` is minus the derivative of gamma/ell_1 by ``h ell_1``. Weights, not a difference of
    gradients: less rounding where the slope is large.
    """
    of_protected = 0.0 if terms.reading == "left-out" else 1 - slope
    return jnp.where(terms.protected, of_protected, jnp.ones((), terms.b.dtype))
