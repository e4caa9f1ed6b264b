"""Data frames are read as the arrays that they hold, and what they lack is named."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import copyreg_jax as cr
from copyreg_jax.problems.frames import (
    check_same_index,
    first_rounded,
    frame_labels,
    mask_values,
    plain_values,
)
from tests.support.mutants import planted
from tests.support.registry import cases
from tests.test_imports import printed

ROWS = ["novel", "poem", "letter", "essay"]
A = np.arange(8.0).reshape(4, 2) / 8
B = np.array([0.4, 0.3, 0.2, 0.1])
MASK = np.array([True, False, False, True])

FRAMES = {
    "pandas": (lambda values, names: pd.DataFrame(values, columns=names), pd.Series),
    "polars": (lambda values, names: pl.DataFrame(values, schema=names), pl.Series),
}


@pytest.mark.parametrize("library", FRAMES)
@cases(100)
@given(
    arrays(
        st.sampled_from([np.float32, np.float64]),
        array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_a_frame_is_the_array_in_it_bit_for_bit(library, array):
    frame, column = FRAMES[library]
    names = [f"c{k}" for k in range(array.shape[1])]
    read = plain_values("A", frame(array, names))
    assert read.dtype == array.dtype
    assert read.tobytes("C") == array.tobytes("C")
    assert plain_values("b", column(array[:, 0])).tobytes() == array[:, 0].tobytes()
    assert frame_labels("A", frame(array, names)).columns == tuple(names)


def test_columns_of_many_kinds():
    """Integers and truth values take the precision of the columns with fractions."""
    n = 3
    columns = {
        "single": np.array([0.5, 1.5, -2.5], np.float32),
        "integers": np.array([3, -1, 2**20]),
        "bytes": np.array([0, 255, 1], np.uint8),
        "truth": np.array([True, False, True]),
    }
    extra = {
        "nullable": pd.array([1, 2, 3], dtype="Int64"),
        "nullable single": pd.array([0.25, 2, 3], dtype="Float32"),
        "sparse": pd.arrays.SparseArray(np.array([0, 0, 7], np.float32)),
        "categories": pd.Categorical([1, 5, 1]),
    }
    values = np.stack([np.asarray(c, np.float32) for c in (columns | extra).values()], axis=1)
    for frame, d in [(pd.DataFrame(columns | extra), 8), (pl.DataFrame(columns), 4)]:
        read = plain_values("A", frame)
        assert read.dtype == np.float32
        assert read.shape == (n, d)
        assert np.array_equal(read, values[:, :d])
    doubles = plain_values("A", pd.DataFrame(columns | {"double": [0.1, 0.2, 0.3]}))
    assert doubles.dtype == np.float64
    assert doubles[:, 4].tolist() == [0.1, 0.2, 0.3]
    assert plain_values("A", pl.DataFrame({"a": [1, 2]})).dtype == np.int64


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 2**24), (np.float64, 2**53)])
def test_integers_are_kept_up_to_the_last_that_is_exact(dtype, largest):
    exact = {"x": np.ones(2, dtype), "n": np.array([largest, -largest])}
    short = {"bytes": np.array([255, 0], np.uint8), "words": np.array([-(2**15), 1], np.int16)}
    assert plain_values("A", pd.DataFrame(exact | short))[:, 1].tolist() == [largest, -largest]
    with pytest.raises(cr.InputError, match=f"A is {largest + 1} at row 0, column 'n'"):
        plain_values("A", pd.DataFrame(exact | {"n": np.array([largest + 1, 0], np.uint64)}))


@cases(200)
@given(
    kind=st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i8"]),
    floats=st.sampled_from([np.float32, np.float64]),
    data=st.data(),
)
def test_an_integer_is_rounded_if_a_float_of_it_is_another_one(kind, floats, data):
    limits, near = np.iinfo(kind), np.finfo(floats).nmant + 1
    powers = st.builds(
        lambda sign, k, add: min(max(sign * (2**k + add), int(limits.min)), int(limits.max)),
        st.sampled_from([-1, 1]), st.integers(near - 1, 64), st.integers(-2, 2),
    )  # fmt: skip
    ends = st.sampled_from([int(limits.min), int(limits.max)])
    numbers = data.draw(st.lists(powers | ends | st.integers(int(limits.min), int(limits.max))))
    # Python compares an integer with a float exactly.
    rounded = [float(floats(number)) != number for number in numbers]
    found = first_rounded(np.array(numbers, kind), floats)
    assert found == (rounded.index(True) if any(rounded) else None)


def test_the_problem_of_frames_is_that_of_arrays():
    plain = cr.CopyrightRegression(A, B, MASK, w=B)
    frame = pd.DataFrame(A, columns=["x", "y"], index=ROWS)
    b, mask = (pd.Series(v, index=ROWS) for v in (B, MASK))
    framed = [
        cr.CopyrightRegression(frame, b, mask, w=b),
        cr.CopyrightRegression(frame, B, MASK, w=b),
        cr.CopyrightRegression(A, b, mask, w=b),  # nothing to disagree with
        cr.CopyrightRegression(pl.DataFrame(A, schema=["x", "y"]), b, pl.Series(MASK), w=b),
    ]
    for problem in framed:
        for name in ("A", "b", "w", "protected"):
            own, other = getattr(problem, name), getattr(plain, name)
            assert np.asarray(own).tobytes() == np.asarray(other).tobytes()
    left_out = cr.LeaveOutRegression(frame, b, mask)
    assert np.array_equal(left_out.protected, MASK)


def test_labels_stay_with_the_problem():
    frame = pd.DataFrame(A, columns=["x", "y"], index=ROWS)
    problem = cr.CopyrightRegression(frame, B, MASK)
    for same in (
        problem,
        problem.replace(gamma=2.0),
        pickle.loads(pickle.dumps(problem)),
        cr.shard(problem),
        cr.LeaveOutRegression.of(problem),
    ):
        assert same.labels.columns == ("x", "y")
        assert same.labels.index.tolist() == ROWS
    assert cr.CopyrightRegression(A, B, MASK).labels is None
    assert cr.CopyrightRegression(pl.DataFrame(A), B, MASK).labels.index is None


def series(values, index=ROWS, **options):
    return pd.Series(values, index=index, **options)


def frame(**columns):
    return pd.DataFrame({"x": A[:, 0]} | columns, index=ROWS)


WRONG = {
    "missing": ({"A": frame(y=[1, None, 2, 3])},
        r"A is missing at row 1 \(index 'poem'\), column 'y'; replace that entry"),
    "missing, nullable": ({"A": frame(y=pd.array([1, 2, 3, None], dtype="Int64"))},
        r"A is missing at row 3 \(index 'essay'\), column 'y'"),
    "missing, polars": ({"A": pl.DataFrame({"x": [1, 2, 3, None]})},
        r"A is missing at row 3, column 'x'"),
    "nan, polars": ({"A": pl.DataFrame({"x": [1.0, 2.0, np.nan, 3.0]})},
        r"A is nan at row 2, column 'x'"),
    "infinite": ({"A": frame(y=[1, 2, -np.inf, 0])},
        r"A is -inf at row 2 \(index 'letter'\), column 'y'"),
    "words": ({"A": frame(title=ROWS)}, r"A has dtype \w+ at column 'title'; give real numbers"),
    "dates": ({"A": frame(day=pd.Timestamp("2026-01-01"))},
        r"A has dtype datetime64.* at column 'day'"),
    "complex": ({"A": frame(z=1j)}, r"A has dtype complex128 at column 'z'"),
    "decimals": ({"A": pl.DataFrame({"x": ["1"] * 4}).cast(pl.Decimal(9, 2))},
        r"A has dtype Decimal.* at column 'x'"),
    "lists": ({"A": pl.Series(A.tolist(), dtype=pl.Array(pl.Float64, 2))}, r"A has dtype Array"),
    "two names": ({"A": pd.DataFrame(A, columns=["x", "x"])}, r"A has two columns named 'x'"),
    "lazy": ({"A": pl.LazyFrame({"x": B})}, r"A is a LazyFrame that is not read yet; collect it"),
    "no columns": ({"A": frame()[[]]}, r"A has shape \(4, 0\)"),
    "a column as A": ({"A": series(B)}, r"A has shape \(4,\)"),
    "a frame as b": ({"b": frame()}, r"b has shape \(4, 1\); A has 4 rows"),
    "missing in b": ({"b": series([0.5, None, 0.5, 0])},
        r"b is missing at row 1 \(index 'poem'\);"),
    "a short b": ({"b": series(B[:3], ROWS[:3])}, r"b has shape \(3,\); A has 4 rows"),
    "b in another order": ({"b": series(B, ["poem", "novel", "letter", "essay"])},
        r"b has index 'poem' where A has 'novel', at row 0; give b.loc\[A.index\], or b.to_numpy"),
    "w of other rows": ({"w": pd.Series(B)}, r"w has index 0 where A has 'novel', at row 0"),
    "a mask in another order": ({"protected": series(MASK, [*ROWS[:2], "essay", "letter"])},
        r"protected has index 'essay' where A has 'letter', at row 2; give protected.loc"),
    "a mask and b in two orders": ({"A": A, "b": series(B), "protected": series(MASK, ROWS[::-1])},
        r"protected has index 'essay' where b has 'novel', at row 0; give protected.loc\[b"),
    "w and b in two orders": ({"A": A, "b": series(B), "w": series(B, ROWS[::-1])},
        r"w has index 'essay' where b has 'novel'"),
    "a frame as b in another order": ({"b": pd.DataFrame({"b": B}, index=ROWS[::-1])},
        r"b has index 'essay' where A has 'novel'"),
    "an integer too long": ({"A": frame(n=[0, 1, -(2**53) - 1, 2])},
        r"A is -9007199254740993 at row 2 \(index 'letter'\), column 'n'; float64, the"),
    "an integer too long, single": (
        {"A": pl.DataFrame({"x": np.float32([1, 2, 3, 4]), "n": [0, 2**24 + 1, 1, 2]})},
        r"A is 16777217 at row 1, column 'n'; float32, the precision of"),
    "numbers for a mask": ({"protected": series([1, 0, 0, 1])},
        r"protected is a column of Int64; give one of truth values, such as `column != 0`"),
    "labels for a mask": ({"protected": pd.Index(ROWS[:2])}, r"protected is a pandas Index"),
    "a mask with gaps": ({"protected": series([True, None, False, False])},
        r"protected is missing at row 1 \(index 'poem'\)"),
    "a frame for a mask": ({"protected": frame() > 0.5}, r"protected is a data frame; give one"),
    "a column as gamma": ({"gamma": series(B)}, r"gamma has shape \(4,\); give one number"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case):
    changes, message = WRONG[case]
    arguments = {"A": frame(), "b": B, "protected": MASK, **changes}
    with pytest.raises(cr.InputError, match=f"^{message}") as caught:
        cr.CopyrightRegression(**arguments)
    assert "\n" not in str(caught.value)


def test_later_arguments_must_have_the_same_index():
    problem = cr.CopyrightRegression(frame(), B, MASK)
    assert np.array_equal(problem.replace(w=series(B)).w, B)
    with pytest.raises(cr.InputError, match="w has index 0 where A has 'novel'"):
        problem.replace(w=pd.Series(B))
    with pytest.raises(cr.InputError, match="left_out has index 0 where A has 'novel'"):
        cr.LeaveOutRegression.of(problem, pd.Series(MASK))
    with pytest.raises(cr.InputError, match="left_out has index 0 where A has 'novel'"):
        cr.LeaveOutRegression(frame(), B, pd.Series(MASK))
    with pytest.raises(cr.InputError, match="left_out has index 0 where b has 'novel'"):
        cr.LeaveOutRegression(A, series(B), pd.Series(MASK))


def test_a_frame_of_doubles_is_not_rounded_in_silence():
    """Like an array of NumPy, and unlike a list, it has a precision of its own."""
    code = (
        "import copyreg_jax as cr, pandas as pd\n"
        "try: cr.SoftmaxRegression(pd.DataFrame({'x': [0.1, 0.2]}), [0.5, 0.5])\n"
        "except cr.PrecisionError as error: print(error)"
    )
    assert printed(code).startswith("A is float64, but JAX's 64-bit mode is off")


BUGS = {
    "an index is not compared": ("own.equals(index)", "True"),
    "the rows of another index are accepted": ("len(own) == len(index)", "False"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug):
    def refused():
        try:
            check_same_index(frame_labels("A", frame()), b=pd.Series(B))
        except cr.InputError:
            return True
        return False

    assert refused()
    with planted("problems.frames:check_same_index", *BUGS[bug]):
        assert not refused()


def test_rows_that_are_no_column_pass_as_they_are():
    for rows in (3, [0, 1], MASK, np.array([1])):
        assert mask_values("protected", rows) is rows
