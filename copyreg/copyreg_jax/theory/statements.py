r"""Definitions 2-9 and 11, Lemmas 10 and 12: as the paper prints them, and as they are right.

Every statement is a function ``statement(problem, x, *, form="corrected", reading=None)``, so that
a table can run over all of them (`STATEMENTS`):

* ``form="printed"`` is the formula of the paper, term by term; ``"corrected"`` the one that
  differentiation gives. Where the docstring names no defect, the two are the same.
* ``reading`` says how Definition 5 is meant ("joint" or "block"); None takes the problem's.

Source: Chu, Song and Yang, "How to Protect Copyright Data in Optimization of Large Language
Models?", AAAI 2024. These transcriptions form n x n matrices, O(n^2 d), to be read beside the
paper; solvers use `copyreg_jax.problems.curvature`. All of them work under ``jax.jit`` and
``jax.vmap``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from copyreg_jax.errors import InputError
from copyreg_jax.problems import objective
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.objective import READINGS, Point, Reading, Scalar, Vector
from copyreg_jax.problems.softmax_regression import check_squared

__all__ = [
    "FORMS",
    "STATEMENTS",
    "BMatrices",
    "Form",
    "Losses",
    "b_matrix",
    "check_form",
    "definition_2",
    "definition_3",
    "definition_4",
    "definition_5",
    "definition_6",
    "definition_7",
    "definition_8",
    "definition_9",
    "definition_11",
    "lemma_10",
    "lemma_12",
]

Form: TypeAlias = Literal["printed", "corrected"]

FORMS: tuple[str, ...] = get_args(Form)


def definition_2(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Vector:
    """``f(x) = <exp(A x), 1_n>^-1 exp(A x)``: (n,).

    Examples
    --------
    >>> problem = CopyrightRegression([[0.0], [0.0]], [0.5, 0.5], 1)
    >>> definition_2(problem, [3.0]).tolist()
    [0.5, 0.5]
    """
    return _Parts(problem, x, form, reading).f


def definition_3(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Vector:
    """``c(x) = f(x) - b``: (n,)."""
    return _Parts(problem, x, form, reading).c


def definition_4(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Scalar:
    """``ell(x) = <c(x), c(x)>``: a number.

    Examples
    --------
    >>> problem = CopyrightRegression([[0.0], [0.0]], [0.75, 0.25], 1)
    >>> float(definition_4(problem, [1.0]))
    0.125
    """
    c = _Parts(problem, x, form, reading).c
    return jnp.sum(c**2)


def definition_5(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Vector:
    """``f_1(x)``, the softmax on the protected rows: (n,), zero on the other rows.

    Printed: ``<exp(A_{i,*} x), 1_n>^-1 exp(A x)`` with i in [1, n1]. Defect: it normalizes by the
    protected rows, gives a number to every row, and so is no softmax: its sum is above one. Its
    protected entries are those of the "block" reading; Definitions 1, 5 and 7 and Theorem 16 make
    sense together under the "joint" one, the protected entries of f.

    Examples
    --------
    >>> problem = CopyrightRegression([[0.0], [0.0], [0.0], [0.0]], [0.25] * 4, 2)
    >>> [definition_5(problem, [1.0], reading=r).tolist() for r in READINGS]
    [[0.25, 0.25, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    >>> float(definition_5(problem, [1.0], form="printed").sum())
    2.0
    """
    parts = _Parts(problem, x, form, reading)
    if form == "printed":
        # Logits beyond the protected ones may overflow: that is the printed formula, too.
        own = jnp.max(jnp.where(parts.m, parts.u, -jnp.inf))
        e = jnp.exp(parts.u - own)
        return e / jnp.sum(jnp.where(parts.m, e, 0))
    return parts.f_1


def definition_6(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Vector:
    """``c_1(x) = f_1(x) - b_1``: (n,), zero on the rows that are not protected."""
    return _Parts(problem, x, form, reading).c_1


class Losses(NamedTuple):
    """Definition 7: the loss on the protected rows, on the others, and L_copyright."""

    ell_1: Scalar
    ell_2: Scalar
    l_copyright: Scalar


def definition_7(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Losses:
    """``ell_1 = <c_1, c_1>``, ``ell_2 = ell - ell_1``, ``0.5 ell_1 + gamma_c / ell_1 + 0.5 ell_2``.

    Defect: none under "joint"; under "block" ell_2 can be negative, and then is no loss.

    Examples
    --------
    >>> problem = CopyrightRegression([[0.0], [0.0]], [0.5, 0.5], 1, gamma=0.0)
    >>> [float(definition_7(problem, [0.0], reading=r).ell_2) for r in READINGS]
    [0.0, -0.25]
    """
    parts = _Parts(problem, x, form, reading)
    ell_1 = parts.ell_1
    ell_2 = jnp.sum(parts.c**2) - ell_1
    protection = objective.protection(ell_1, problem.gamma)
    return Losses(ell_1, ell_2, 0.5 * ell_1 + protection + 0.5 * ell_2)


def definition_8(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Scalar:
    """``L_reg(x) = 0.5 ||W A x||_2^2``: a number.

    Examples
    --------
    >>> problem = CopyrightRegression([[1.0], [2.0]], [0.75, 0.25], 1, w=[2.0, 1.0])
    >>> float(definition_8(problem, [1.0]))
    4.0
    """
    u = _Parts(problem, x, form, reading).u
    return 0.5 * jnp.sum((problem.w * u) ** 2)


def definition_9(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Scalar:
    """``L(x) = L_copyright(x) + L_reg(x)``: a number."""
    copyright_part = definition_7(problem, x, form=form, reading=reading).l_copyright
    return copyright_part + definition_8(problem, x, form=form, reading=reading)


def lemma_10(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> Point:
    """Gradient of L: (d,).

    Printed::

        A^T (diag(f) c - f c^T f) + 2 gamma_c ell_1^-2 A_1^T (f_1 c_1^T f_1 - diag(f_1) c_1)
            + A^T W^2 A x

    Defect: exact under "block". Under "joint", f_1 also depends on the rows of A_2, which are
    missing in the protection term: corrected, that is
    ``-2 gamma_c ell_1^-2 A^T (f * (m c - <f, m c>))`` there.

    Examples
    --------
    >>> import jax
    >>> problem = CopyrightRegression([[1.0], [0.5], [0.0]], [0.5, 0.3, 0.2], 1, reading="block")
    >>> slope = jax.grad(problem.value)(problem.point([1.0]))
    >>> bool(abs(slope - lemma_10(problem, [1.0], form="printed"))[0] < 1e-6)
    True
    """
    parts = _Parts(problem, x, form, reading)
    f, c = parts.f, parts.c
    fit = f * c - f * jnp.sum(c * f)
    pull = parts.slope * parts.g_1
    return (fit - pull + problem.w**2 * parts.u) @ parts.A


class BMatrices(NamedTuple):
    """Definition 11: B(x) and B_c(x), both (n, n); printed, B_c is zero off the protected rows."""

    B: Float[Array, "n n"]
    B_c: Float[Array, "n n"]


def definition_11(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
) -> BMatrices:
    """B(x), the Hessian of ``0.5 ell`` by the logits, and B_c(x), that of ``0.5 ell_1``: (n, n).

    Printed (Definition 6.1 of Deng, Li and Song)::

        <3f - 2b, f> f f^T + <f - b, f> diag(f) + diag((2f - b) * f) + (b*f) f^T + f (b*f)^T

    Defect: the second term must have a minus, and ``- 2 (f*f) f^T - 2 f (f*f)^T`` is missing.
    Under "joint", B_c has further terms on the rows of A_2.

    Examples
    --------
    >>> import jax
    >>> problem = CopyrightRegression([[1.0], [0.5], [0.0]], [0.5, 0.3, 0.2], 1)
    >>> half = lambda u: 0.5 * ((jax.nn.softmax(u) - problem.b) ** 2).sum()
    >>> H = jax.hessian(half)(problem.logits([1.0]))
    >>> [round(float(abs(definition_11(problem, [1.0], form=form).B - H).max()), 3)
    ...     for form in FORMS]
    [0.523, 0.0]
    """
    parts = _Parts(problem, x, form, reading)
    everywhere = jnp.ones_like(parts.f)
    B = b_matrix(parts.f, problem.b, everywhere, form)
    if form == "corrected" and parts.reading == "joint":
        return BMatrices(B, b_matrix(parts.f, problem.b, parts.m.astype(parts.f.dtype), form))
    b_1 = jnp.where(parts.m, problem.b, 0)
    return BMatrices(B, b_matrix(parts.f_1, b_1, everywhere, form))


def lemma_12(
    problem: CopyrightRegression,
    x: ArrayLike,
    *,
    form: Form = "corrected",
    reading: Reading | None = None,
    definition_11_form: Form | None = None,
) -> Float[Array, "d d"]:
    """Hessian of L: (d, d).

    Printed, with ``g_1 = A_1^T (diag(f_1) c_1 - f_1 c_1^T f_1)``::

        A^T B A + A^T W^2 A + 2 gamma_c ell_1^-2 (16 ell_1^-1 g_1 g_1^T - A_1^T B_c A_1)

    Defect: 16 must be 4, and B, B_c are those of Definition 11 with its own defects.
    ``definition_11_form="corrected"`` beside ``form="printed"`` shows the 16 alone.

    Examples
    --------
    >>> import jax
    >>> problem = CopyrightRegression([[1.0], [0.5], [0.0]], [0.8, 0.1, 0.1], 1, gamma=0.01)
    >>> H = jax.hessian(problem.value)(problem.point([1.0]))
    >>> [round(float(lemma_12(problem, [1.0], form=form)[0, 0] / H[0, 0]), 3) for form in FORMS]
    [2.326, 1.0]
    """
    parts = _Parts(problem, x, form, reading)
    if definition_11_form is None:
        definition_11_form = form
    B, B_c = definition_11(problem, x, form=definition_11_form, reading=reading)
    factor = 16 if form == "printed" else 4
    A, g = parts.A, parts.g_1 @ parts.A
    rank_one = factor * parts.slope_by_ell_1 * jnp.outer(g, g)
    protection = rank_one - parts.slope * (A.T @ B_c @ A)
    return A.T @ B @ A + A.T @ ((problem.w**2)[:, None] * A) + protection


STATEMENTS: dict[str, Callable[..., Any]] = {
    "Definition 2": definition_2,
    "Definition 3": definition_3,
    "Definition 4": definition_4,
    "Definition 5": definition_5,
    "Definition 6": definition_6,
    "Definition 7": definition_7,
    "Definition 8": definition_8,
    "Definition 9": definition_9,
    "Lemma 10": lemma_10,
    "Definition 11": definition_11,
    "Lemma 12": lemma_12,
}


class _Parts:
    """The letters of the paper at one point, under one reading; (n,) where the paper has (n1,)."""

    def __init__(
        self, problem: CopyrightRegression, x: ArrayLike, form: Form, reading: Reading | None
    ) -> None:
        check_form(form)
        check_squared(problem, "the paper")
        self.reading: Reading = problem.reading if reading is None else reading
        if self.reading not in READINGS:
            raise InputError(f"reading is {reading!r}; choose one of {', '.join(READINGS)}")
        self.A: Any = _dense(problem.A)
        self.m, b = problem.protected, problem.b
        self.u = problem.logits(x)
        self.f = objective.f(self.u)
        self.c = self.f - b
        self.f_1 = objective.f_1(self.u, self.m, self.reading)
        self.c_1 = jnp.where(self.m, self.f_1 - b, 0)
        self.ell_1 = jnp.sum(self.c_1**2)
        # Without gamma there is no protection term, also where ell_1 = 0.
        self.slope = 2 * objective.protection(self.ell_1, problem.gamma, 2)
        self.slope_by_ell_1 = 2 * objective.protection(self.ell_1, problem.gamma, 3)
        # diag(f_1) c_1 - f_1 c_1^T f_1, which the printed lemma has on the protected rows alone.
        base = self.f if form == "corrected" and self.reading == "joint" else self.f_1
        self.g_1 = base * (self.c_1 - jnp.sum(base * self.c_1))


def b_matrix(f: Vector, b: Vector, t: Vector, form: Form) -> Float[Array, "n n"]:
    """Definition 11 of a softmax f, its target b and weights t (all ones in the paper)."""

    def cross(v: Vector) -> Float[Array, "n n"]:
        return jnp.outer(v, f) + jnp.outer(f, v)

    square = jnp.sum(t * (3 * f - 2 * b) * f) * jnp.outer(f, f)
    residual = jnp.sum(t * (f - b) * f) * jnp.diag(f)
    common = square + jnp.diag(t * (2 * f - b) * f) + cross(t * b * f)
    if form == "printed":
        return common + residual
    return common - residual - 2 * cross(t * f * f)


def _dense(A: Any) -> Float[Array, "n d"]:
    return A.todense() if hasattr(A, "todense") else A


def check_form(form: Form) -> None:
    """Refuse an unknown form."""
    if form not in FORMS:
        raise InputError(f"form is {form!r}; choose one of {', '.join(FORMS)}")
