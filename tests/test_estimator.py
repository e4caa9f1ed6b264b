"""The estimator of scikit-learn: its contract, and that it is `solve` and nothing else."""

import importlib
import pickle
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import sklearn
from jax.experimental.sparse import BCOO
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError, UnsetMetadataPassedError
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import copyreg_jax as cr
from copyreg_jax.estimator import CopyrightRegressor
from tests.test_imports import printed

RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 3))
Y = RNG.dirichlet(np.full(N, 0.3))
MASK = np.arange(N) % 3 == 0

SUMS = 1e-12
"""Of sums of at most 60 terms, in which f - b loses less than a factor of 50: 60 * 50 eps."""

EXPECTED_FAILURES = {
    # f is a softmax over the rows given: of a part of them, each gets more.
    "check_methods_subset_invariance": "predict .* is not invariant when applied to a subset",
}


CONTRACT = [check for _, check in estimator_checks_generator(CopyrightRegressor(gamma=0))]
"""What scikit-learn asks of an estimator. With gamma 0, since it knows of no protected rows."""


@pytest.mark.quick(8)
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.func.__name__)
def test_the_contract_of_scikit_learn(check):
    name, estimator = check.func.__name__, CopyrightRegressor(gamma=0)
    if name in EXPECTED_FAILURES:
        with pytest.raises(AssertionError, match=EXPECTED_FAILURES[name]):
            check(estimator)
    else:
        check(estimator)


@pytest.fixture(scope="module")
def fitted():
    return CopyrightRegressor(w=0.5).fit(X, Y, protected=MASK)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def same_bits(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def test_it_is_solve(fitted):
    solution = cr.solve(cr.CopyrightRegression(X, Y / Y.sum(), MASK, w=0.5))
    assert same_bits(fitted.coef_, solution.x)
    assert (fitted.n_iter_, fitted.status_) == (solution.num_steps, solution.status)
    assert fitted.solution_.value == solution.value


def test_without_normalization_it_takes_any_target():
    y = RNG.normal(size=N)
    options = {"gamma": 0.2, "w": 0.5, "reading": "block"}
    model = CopyrightRegressor(normalize_y=False, **options).fit(X, y, protected=MASK)
    solution = cr.solve(cr.CopyrightRegression(X, y, MASK, **options))
    assert same_bits(model.coef_, solution.x)


@pytest.mark.parametrize(
    "y",
    [
        np.full(N, 6000, np.float16),
        np.full(N, 3e38, np.float32),
        np.full(N, 1e308),
        np.full(N, 2**62),
        np.ones(N, bool),
        np.full(N, 5e-324),
    ],
    ids=lambda y: y.dtype.name,
)
def test_the_sum_of_y_neither_overflows_nor_vanishes(y, fitted):
    """All of these are the uniform distribution, each entry after two roundings at most."""
    b = fitted.problem(X, y, protected=MASK).b
    np.testing.assert_allclose(b, np.full(N, 1 / N), SUMS)


def test_prediction_is_f_of_the_rows_given(fitted):
    problem = cr.CopyrightRegression(X, Y, MASK)
    assert same_bits(fitted.predict(X), problem.f(fitted.coef_))
    some = fitted.predict(X[:7])
    assert same_bits(some, cr.SoftmaxRegression(X[:7], Y[:7]).f(fitted.coef_))
    # The distribution given that a row is one of the seven.
    np.testing.assert_allclose(some, fitted.predict(X)[:7] / fitted.predict(X)[:7].sum(), SUMS)


def test_score_is_the_loss_on_rows_that_are_not_protected(fitted):
    f, b = fitted.predict(X), Y / Y.sum()
    score = fitted.score(X, Y, protected=MASK)
    np.testing.assert_allclose(score, -np.sum((f - b)[~MASK] ** 2), SUMS)
    part = slice(0, 40)
    conditional = Y[part] / Y[part].sum()
    own = np.sum((fitted.predict(X[part]) - conditional)[~MASK[part]] ** 2)
    np.testing.assert_allclose(fitted.score(X[part], Y[part], MASK[part]), -own, SUMS)
    crossed = CopyrightRegressor(w=0.5, metric="cross-entropy").fit(X, Y, protected=MASK)
    own = np.sum((b * np.log(crossed.predict(X)))[~MASK])
    np.testing.assert_allclose(crossed.score(X, Y, protected=MASK), own, SUMS)


def test_how_protected_targets_count_in_a_score():
    """In the sum that y is divided by, and nowhere else."""
    y = np.where(MASK, 3 * Y, Y)
    plain = CopyrightRegressor(normalize_y=False).fit(X, Y, protected=MASK)
    assert plain.score(X, y, MASK) == plain.score(X, Y, MASK)
    divided = CopyrightRegressor().fit(X, Y, protected=MASK)
    assert divided.score(X, y, MASK) != divided.score(X, Y, MASK)
    np.testing.assert_allclose(
        divided.score(X, y, MASK), -np.sum((divided.predict(X) - y / y.sum())[~MASK] ** 2), SUMS
    )


def test_no_row_of_a_part_need_be_protected(fitted):
    rows = ~MASK
    assert fitted.score(X[rows], Y[rows], protected=MASK[rows]) < 0
    with pytest.raises(cr.InputError, match="marks all rows: none is left to score"):
        fitted.score(X[MASK], Y[MASK], protected=MASK[MASK])


def test_frames_and_sparse_matrices_give_the_same_bits(fitted):
    frame = pd.DataFrame(X, columns=["a", "b", "c"], index=[f"row {i}" for i in range(N)])
    y, mask = (pd.Series(v, index=frame.index) for v in (Y, MASK))
    of_pandas = CopyrightRegressor(w=0.5).fit(frame, y, protected=mask)
    assert same_bits(of_pandas.coef_, fitted.coef_)
    assert of_pandas.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        of_pandas.predict(frame.rename(columns={"a": "A"}))
    polars = pl.DataFrame(X, schema=["a", "b", "c"]), pl.Series(Y)
    of_polars = CopyrightRegressor(w=0.5).fit(*polars, protected=pl.Series(MASK))
    assert same_bits(of_polars.coef_, fitted.coef_)
    entries = X * (RNG.random(X.shape) < 0.5)
    rows = scipy.sparse.csr_array(entries)
    of_sparse = CopyrightRegressor(w=0.5).fit(rows, Y, protected=MASK)
    problem = cr.CopyrightRegression(rows, Y / Y.sum(), MASK, w=0.5)
    assert same_bits(of_sparse.coef_, cr.solve(problem).x)
    assert same_bits(of_sparse.predict(rows), problem.f(of_sparse.coef_))


def test_single_precision_stays_single():
    model = CopyrightRegressor().fit(X.astype(np.float32), Y, protected=MASK)
    assert model.coef_.dtype == model.predict(X.astype(np.float32)).dtype == np.float32


def test_certificate_and_plot_on_demand(fitted):
    problem = fitted.problem(X, Y, protected=MASK)
    certificate = cr.certify(problem, fitted.coef_)
    assert certificate.direction == fitted.solution_.direction
    assert same_bits(problem.value(fitted.coef_), problem.value(fitted.solution_.x))


def test_a_fitted_estimator_holds_no_data(fitted):
    """A model that is given away should not give the protected targets away, too."""
    sizes = [np.size(leaf) for leaf in vars(fitted.solution_).values() if leaf is not None]
    assert max(sizes) <= max(X.shape[1], 2 * (fitted.n_iter_ + 1))
    again = pickle.loads(pickle.dumps(fitted))
    assert same_bits(again.predict(X), fitted.predict(X))


def folds():
    return StratifiedKFold(3).split(X, MASK)


@pytest.mark.usefixtures("routing")
def test_a_search_passes_the_protected_rows():
    """Without asking for it, to fit and to score; the best is what it is by hand."""
    grid = {"w": [0.1, 1.0], "gamma": [0.01]}
    search = GridSearchCV(CopyrightRegressor(), grid, cv=list(folds()))
    search.fit(X, Y, protected=MASK)
    for k, (train, test) in enumerate(folds()):
        by_hand = [
            CopyrightRegressor(gamma=0.01, w=w)
            .fit(X[train], Y[train], protected=MASK[train])
            .score(X[test], Y[test], protected=MASK[test])
            for w in grid["w"]
        ]
        assert search.cv_results_[f"split{k}_test_score"].tolist() == by_hand
    whole = CopyrightRegressor(**search.best_params_).fit(X, Y, protected=MASK)
    assert same_bits(search.best_estimator_.coef_, whole.coef_)


@pytest.mark.usefixtures("routing")
def test_a_pipeline_and_a_scorer_of_ones_own():
    def protected_mass(y, f, protected):
        return f[protected].sum()

    scorer = make_scorer(protected_mass, greater_is_better=False)
    scores = cross_validate(
        make_pipeline(StandardScaler(), CopyrightRegressor()),
        X,
        Y,
        scoring={"mass": scorer.set_score_request(protected=True)},
        cv=list(folds()),
        params={"protected": MASK},
    )
    assert ((scores["test_mass"] < 0) & (scores["test_mass"] > -1)).all()


@pytest.mark.usefixtures("routing")
def test_a_request_can_be_withdrawn():
    model = CopyrightRegressor().set_score_request(protected=None)
    with pytest.raises(UnsetMetadataPassedError, match="protected"):
        GridSearchCV(model, {"w": [1.0]}, cv=list(folds())).fit(X, Y, protected=MASK)


def series(values, labels=range(1, N + 1)):
    return pd.Series(values, index=labels)


WRONG = {
    "no mask": ({"protected": None}, "protected is missing: .*enable_metadata_routing"),
    "row numbers": ({"protected": [0, 3]}, r"protected has dtype int64 and shape \(2,\)"),
    "a short mask": ({"protected": MASK[1:]}, rf"shape \({N - 1},\); give a boolean mask"),
    "a column of numbers": ({"protected": series(MASK * 1)}, "protected is a column of Int64"),
    "nothing protected": ({"protected": MASK & False}, "protected marks no row.*StratifiedKFold"),
    "all protected": ({"protected": MASK | True}, "protected marks all"),
    "another index": (
        {"X": pd.DataFrame(X), "protected": series(MASK)},
        "protected has index 1 where X has 0, at row 0; give protected.loc",
    ),
    "another index of y": ({"X": pd.DataFrame(X), "y": series(Y)}, "y has index 1 where X has 0"),
    "another index of y in a frame": (
        {"X": pd.DataFrame(X), "y": series(Y).to_frame()},
        "y has index 1 where X has 0",
    ),
    "two indexes beside an array": (
        {"y": series(Y, range(N)), "protected": series(MASK)},
        r"protected has index 1 where y has 0, at row 0; give protected.loc\[y.index\]",
    ),
    "words for y": ({"y": ["a"] * N}, "y has dtype <U1; give real numbers of at most 64 bits"),
    "words, as they are": ({"y": ["a"] * N, "normalize_y": False}, "y has dtype <U1"),
    "too large for X": (
        {"X": X.astype(np.float32), "y": np.full(N, 1e300), "normalize_y": False},
        r"y is 1e\+300 at row 0, too large for the float32 of X",
    ),
    "a negative target": ({"y": Y - 0.01}, "y is -.* at row .*normalize_y=False"),
    "no target": ({"y": 0 * Y}, "y is 0 at all rows"),
    "missing": ({"y": np.where(MASK, np.nan, Y)}, "y contains NaN"),
    "blocks": ({"X": cr.RowBlocks(X)}, "X is a RowBlocks; give an array.*use copyreg_jax.solve"),
    "a matrix of JAX": ({"X": BCOO.fromdense(X)}, "X is a BCOO; give an array"),
    "weights": ({"w": np.ones(N)}, "w is an array; an estimator takes one number"),
    "gamma": ({"gamma": -1.0}, "gamma is -1.0; give a finite number >= 0"),
    "reading": ({"reading": "odd"}, "reading is 'odd'; choose one of"),
    "reading, nothing protected": (
        {"reading": "odd", "gamma": 0, "protected": None},
        "reading is 'odd'; choose one of",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case):
    changes, message = WRONG[case]
    given = {"X": X, "y": Y, "protected": MASK, **changes}
    data = {name: given.pop(name) for name in ("X", "y", "protected")}
    with pytest.raises(ValueError, match=message):
        CopyrightRegressor(**given).fit(**data)


def test_methods_of_an_unfitted_estimator():
    model = clone(CopyrightRegressor())
    for call in (model.predict, lambda X: model.score(X, Y), lambda X: model.problem(X, Y, MASK)):
        with pytest.raises(NotFittedError):
            call(X)


def test_a_run_that_does_not_converge_warns():
    model = CopyrightRegressor(max_steps=1)
    with pytest.warns(ConvergenceWarning, match="MAX_STEPS after 1 steps: .*Raise max_steps"):
        model.fit(X, Y, protected=MASK)
    assert model.status_ is cr.Status.MAX_STEPS


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "copyreg_jax.estimator")
    with pytest.raises(ImportError, match=r"pip install 'copyreg-jax\[sklearn\]'"):
        importlib.import_module("copyreg_jax.estimator")


def test_the_package_loads_none_of_what_it_works_with():
    code = (
        "import sys, copyreg_jax as cr\n"
        "[getattr(cr, name) for name in cr.__all__]\n"
        "problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], 1)\n"
        "problem._repr_html_()\n"
        "print({'matplotlib', 'pandas', 'polars', 'sklearn'} & set(sys.modules))"
    )
    assert printed(code) == "set()"
