"""The paper's statements: the corrected forms against autodiff, the printed ones against MATH."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given

import copyreg_jax as cr
from copyreg_jax.problems import objective
from copyreg_jax.theory import counterexample, statements
from copyreg_jax.theory.contraction import shrinking_lemma
from tests.problems.test_curvature import by_autodiff, sizes
from tests.support.registry import READINGS, cases, draws, random_problem


@functools.partial(jax.jit, static_argnames=("form", "reading"))
def all_statements(problem, x, form, reading):
    return {
        name: statement(problem, x, form=form, reading=reading)
        for name, statement in statements.STATEMENTS.items()
    }


@pytest.mark.quick(1)
@pytest.mark.parametrize("reading", READINGS)
@cases(200)
@given(draw=draws())
def test_corrected_derivatives_equal_autodiff(draw, reading):
    problem = draw.problem(reading)
    if not np.isfinite(problem.value(draw.x)):
        return
    found = all_statements(problem, draw.x, "corrected", reading)
    gradient, H, _ = by_autodiff(problem, draw.x, np.ones(problem.d))
    for mine, theirs, size in zip(
        (found["Lemma 10"], found["Lemma 12"]), (gradient, H), sizes(problem, draw.x), strict=True
    ):
        if np.all(np.isfinite(theirs)):
            # Rounding of sums of n^2 terms of that size, at most 2 n of them adding up.
            floor = 64 * problem.n * 2.0**-52 * size
            assert np.abs(mine - theirs).max() <= 1e-12 * np.abs(theirs).max() + floor


@pytest.mark.parametrize("form", statements.FORMS)
@pytest.mark.parametrize("reading", READINGS)
def test_definitions_are_those_of_the_objective(reading, form):
    problem = random_problem(3, 12, 4, reading="joint" if reading == "block" else "block")
    x = np.random.default_rng(3).normal(size=4)
    found = all_statements(problem, x, form, reading)
    right = problem.replace(reading=reading)
    expected = {
        "Definition 2": right.f(x),
        "Definition 3": right.c(x),
        "Definition 4": right.ell(x),
        "Definition 6": objective.c_1(right.logits(x), right.b, right.protected, reading),
        "Definition 7": (right.ell_1(x), right.ell_2(x), right.l_copyright(x)),
        "Definition 8": right.l_reg(x),
        "Definition 9": right.value(x),
    }
    for name, value in expected.items():
        for mine, theirs in zip(jax.tree.leaves(found[name]), jax.tree.leaves(value), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-13, atol=1e-16, err_msg=name)


def test_definition_5_as_printed_is_no_softmax_and_agrees_with_block_where_protected():
    problem = random_problem(4, 9, 3)
    x = np.ones(3)
    printed = statements.definition_5(problem, x, form="printed")
    block = statements.definition_5(problem, x, reading="block")
    assert printed.sum() > 1.001
    mask = np.asarray(problem.protected)
    np.testing.assert_allclose(printed[mask], block[mask], rtol=1e-14)
    assert np.all(np.asarray(block)[~mask] == 0)


def test_printed_forms_are_wrong_by_the_figures_of_the_errata():
    """docs/theory/paper.md quotes these numbers of the stored instance."""
    _, problem, x = counterexample.counterexample("errata")
    A = np.asarray(problem.A)

    def relative(found, right):
        return np.abs(found - right).max() / np.abs(right).max()

    def b_matrix(form):
        return A.T @ np.asarray(statements.definition_11(problem, x, form=form).B) @ A

    half = jax.hessian(lambda x: 0.5 * problem.ell(x))(jnp.asarray(x))
    np.testing.assert_allclose(b_matrix("corrected"), half, rtol=0, atol=1e-15)
    assert relative(b_matrix("printed"), half) == pytest.approx(3.148, abs=1e-3)
    block = problem.replace(reading="block")
    found = statements.lemma_12(block, x, form="printed", definition_11_form="corrected")
    H = jax.hessian(block.value)(jnp.asarray(x))
    assert relative(found, H) == pytest.approx(0.950, abs=1e-3)
    gradient = jax.grad(problem.value)(jnp.asarray(x))
    difference = statements.lemma_10(problem, x, form="printed") - gradient
    assert np.abs(difference).max() == pytest.approx(0.280, abs=1e-3)
    # and under the block reading Lemma 10 is exact:
    gradient = jax.grad(block.value)(jnp.asarray(x))
    assert relative(statements.lemma_10(block, x, form="printed"), gradient) < 1e-14


@pytest.mark.slow
def test_factor_16_alone():
    _, problem, x = counterexample.counterexample("lemma-12-factor")
    assert problem.reading == "block"
    H = jax.hessian(problem.value)(jnp.asarray(x))
    g = jax.grad(lambda x: 0.5 * problem.ell_1(x))(jnp.asarray(x))
    surplus = 2 * problem.gamma / problem.ell_1(x) ** 3 * (16 - 4) * jnp.outer(g, g)
    found = statements.lemma_12(problem, x, form="printed", definition_11_form="corrected")
    np.testing.assert_allclose(found - H, surplus, rtol=1e-10)
    assert np.abs(surplus).max() > 0.1 * np.abs(H).max()


def test_sparse_data_and_batches():
    dense = random_problem(1, 30, 4)
    A = scipy.sparse.csr_array(np.asarray(dense.A))
    sparse = cr.CopyrightRegression(A, dense.b, dense.protected)
    points = np.random.default_rng(0).normal(size=(3, 4))
    batch = jax.vmap(lambda x: statements.lemma_12(sparse, x))(points)
    for H, x in zip(batch, points, strict=True):
        np.testing.assert_allclose(H, dense.hessian(x), rtol=1e-11, atol=1e-13)


def test_unknown_form_and_reading_and_another_metric():
    problem = random_problem(0, 5, 2)
    other = problem.replace(metric="cross-entropy")
    for p, options, words in (
        (problem, {"form": "right"}, "form is 'right'; choose one of printed, corrected"),
        (problem, {"reading": "both"}, "reading is 'both'; choose one of joint, block"),
        (other, {}, "the paper is about the squared distance, but metric"),
    ):
        with pytest.raises(cr.InputError, match=words):
            statements.lemma_10(p, [0.0, 0.0], **options)


def contraction(e, condition):
    """Worst factor of the step for a quadratic: H~ = H^(1/2) (I + e R) H^(1/2), R a reflection."""
    root = np.diag([np.sqrt(condition), 1.0])
    worst = 0.0
    for angle in np.linspace(0, np.pi, 721):
        c, s = np.cos(angle), np.sin(angle)
        near = root @ (np.eye(2) + e * np.array([[c, s], [s, -c]])) @ root
        worst = max(worst, np.linalg.norm(np.eye(2) - np.linalg.solve(near, root @ root), 2))
    return worst


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e4])
def test_shrinking_lemma_in_the_euclidean_norm_needs_the_condition_number(condition):
    arguments = {"hessian_error": 0.01, "condition": condition}
    corrected = shrinking_lemma(1.0, 1.0, 0.0, **arguments)
    printed = shrinking_lemma(1.0, 1.0, 0.0, **arguments, form="printed")
    actual = contraction(0.01, condition)
    assert actual <= corrected * (1 + 1e-12)
    assert (actual > printed) == (condition > 4)  # at 1e4: 1.0 against the promised 0.02


def test_good_loss_contracts_as_the_paper_says():
    # M r <= 0.1 l makes the printed factor 0.242 <= 0.4, and the corrected one smaller still.
    r = 0.05  # 0.1 l / M, as near as an (l, M)-good loss wants its start
    printed = shrinking_lemma(r, 2.0, 4.0, form="printed")
    assert printed == pytest.approx(0.2422 * r, abs=1e-4)
    assert shrinking_lemma(r, 2.0, 4.0) < printed


@pytest.mark.parametrize("arguments", [(1.0, 1.0, 1.0), (-1.0, 1.0, 1.0), (0.1, 1.0, float("nan"))])
def test_shrinking_lemma_outside_its_hypotheses(arguments):
    with pytest.raises(cr.InputError, match="the lemma supposes M r < l"):
        shrinking_lemma(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("reading", READINGS)
def test_corrected_statements_depend_on_gamma_at_zero_as_for_any_gamma(reading):
    problem, x = random_problem(0, 8, 2, reading=reading), jnp.array([0.3, -0.2])

    def slope(statement):
        return jax.jacfwd(lambda gamma: statement(problem.replace(gamma=gamma), x))(0.0)

    for statement, derivative in (
        (statements.lemma_10, cr.CopyrightRegression.gradient),
        (statements.lemma_12, cr.CopyrightRegression.hessian),
    ):
        mine, right = slope(statement), slope(derivative)
        np.testing.assert_allclose(mine, right, rtol=0, atol=1e-12 * np.abs(right).max())
