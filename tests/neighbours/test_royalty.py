"""Shapley values against all orders of the owners, shares against corners, bounds against draws."""

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from typer.testing import CliRunner

import copyreg_jax as cr
from copyreg_jax.cli.main import app
from copyreg_jax.neighbours import retraining
from copyreg_jax.neighbours.coalitions import Table, read_table
from copyreg_jax.neighbours.permutations import sample
from copyreg_jax.neighbours.retraining import Retraining
from copyreg_jax.neighbours.royalty import royalties, shapley
from tests.support.mutants import planted
from tests.support.registry import METRICS, cases, random_problem

numbers = st.floats(-1e6, 1e6) | st.floats(-1e-300, 1e-300) | st.integers(-3, 3).map(float)


@st.composite
def games(draw, largest):
    """The worth of all coalitions of up to so many owners."""
    n = draw(st.integers(1, largest))
    return np.array(draw(st.lists(numbers, min_size=1 << n, max_size=1 << n)))


def owners_of(values):
    return len(values).bit_length() - 1


def by_orders(values):
    """Means of marginals over all n! orders of the owners, in exact arithmetic."""
    n = owners_of(values)
    exact = [Fraction(v) for v in values.tolist()]
    sums = [Fraction(0)] * n
    for order in itertools.permutations(range(n)):
        row = 0
        for i in order:
            sums[i] += exact[row | 1 << i] - exact[row]
            row |= 1 << i
    return [total / math.factorial(n) for total in sums]


def numbers_of(values):
    """Exact values of a table of numbers, whose two ends are one."""
    pairs = shapley(values)
    assert all(low == high for low, high in pairs)
    return [low for low, _ in pairs]


@cases(100)
@given(games(6))
def test_equals_the_mean_over_all_orders(values):
    """So values are efficient, symmetric and additive, and who adds nothing gets nothing."""
    assert numbers_of(values) == by_orders(values)


@cases(100)
@given(st.integers(1, 5).flatmap(lambda n: st.tuples(
    *[st.lists(st.integers(-100, 100).map(float), min_size=1 << n, max_size=1 << n)] * 2
)))  # fmt: skip
def test_the_mean_over_generations(pair):
    one, two = map(np.array, pair)
    assert numbers_of(np.stack([one, two], axis=1)) == by_orders((one + two) / 2)


def test_the_mean_over_generations_comes_before_clipping():
    """An owner with -1 in one generation and 3 in the other has 1, not 1.5."""
    table = Table.of({(): [0.0, 0.0], ("a",): [-1.0, 3.0]})
    assert royalties(table).payees["a"].estimate == 1.0
    assert royalties(table).num_values == 2


@cases(50)
@given(games(4), st.data())
def test_intervals_are_what_their_corners_give(values, data):
    """Values of owners are linear in the worths: their least and largest are at corners."""
    size = len(values)
    widths = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=size, max_size=size))
    ends = values, values + np.array(widths)
    found = shapley(*ends)
    n = owners_of(values)
    for i in range(n):
        # Owner i gains most where coalitions with it are worth most, and the others least.
        with_i = np.arange(size) >> i & 1 == 1
        assert found[i][0] == by_orders(np.where(with_i, ends[0], ends[1]))[i]
        assert found[i][1] == by_orders(np.where(with_i, ends[1], ends[0]))[i]
    for _ in range(5):
        corner = np.array(data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
        inside = by_orders(np.where(corner == 1, *ends[::-1]))
        assert all(low <= v <= high for v, (low, high) in zip(inside, found, strict=True))


def shares_of(values):
    paid = [max(v, Fraction(0)) for v in values]
    total = sum(paid)
    return None if total == 0 else [v / total for v in paid]


def narrowest(interval, low, high):
    """Whether these are the floats next to two exact numbers."""
    ends = math.nextafter(interval.lower, math.inf), math.nextafter(interval.upper, -math.inf)
    return interval.lower <= low <= ends[0] and ends[1] <= high <= interval.upper


def check_shares(lower, upper):
    """Against all corners of the box of Shapley values; each end is reached, up to rounding."""
    table = Table(tuple("abcd"[: owners_of(lower)]), lower, upper)
    box = shapley(lower, upper)
    found = royalties(table)
    for payee, (low, high) in zip(found.payees.values(), box, strict=True):
        assert narrowest(payee.value, low, high)
        assert payee.separable == (low > 0 or high <= 0)
    corners = [shares for corner in itertools.product(*box) if (shares := shares_of(corner))]
    assert (found.payout == "none") == (not corners)
    if not corners:
        assert found.shares is None
        return
    certain = all(shares_of(corner) is not None for corner in itertools.product(*box))
    # The values add up to the gain of all owners: if that is above 0, so is one of them.
    certain |= Fraction(lower[-1]) > Fraction(upper[0])
    assert found.payout == ("certain" if certain else "possible")
    for i, share in enumerate(found.shares.values()):
        assert narrowest(share, *(end(shares[i] for shares in corners) for end in (min, max)))


@cases(100)
@given(games(4), st.floats(0, 10))
@example(np.array([0.0, -1.0, 0.0, -1.0]), 0.0)  # nobody is paid, and the value of b is 0
@example(np.array([0.0, 2.0, 0.0, 2.0]), 1.0)  # the sign of b is open
@example(np.array([0.0, 4.0, 4.0, 8.0]), 5.0)  # a gain of all, though both signs are open
def test_shares_lie_in_their_intervals_and_reach_the_ends(values, width):
    check_shares(values, values + width)


def diminishing(sizes):
    """The worth of coalitions of works: the logarithm of how much is there."""
    n = len(sizes)
    total = [sum(sizes[i] for i in range(n) if row >> i & 1) for row in range(1 << n)]
    return np.log1p(total)


@cases(50)
@given(st.lists(st.floats(0.1, 10), min_size=4, max_size=6), st.data())
def test_splitting_an_owner_gains_nothing(sizes, data):
    """Works are the owners of the table; who owns several works may be one group or more."""
    works = tuple("abcdef"[: len(sizes)])
    table = Table(works, diminishing(sizes), diminishing(sizes))
    cut = data.draw(st.integers(2, len(works) - 1))
    whole = royalties(table, {"shop": works[:cut], "rest": works[cut:]})
    shells = royalties(table, {"x": works[:1], "y": works[1:cut], "rest": works[cut:]})
    # Numbers below 10 and their sums are rounded outward by 2^-50 at most.
    for one, two in ((whole.values, shells.values), (whole.shares, shells.shares)):
        assert one["rest"] == two["rest"]
        assert two["x"].upper + two["y"].upper - one["shop"].upper <= 2.0**-48


def test_splitting_does_pay_where_owners_are_the_players():
    """The attack that groups are against: two shells of one owner get more than the owner got."""
    one = numbers_of(diminishing([4.0, 4.0]))
    two = numbers_of(diminishing([2.0, 2.0, 4.0]))
    assert two[0] + two[1] > one[0] + Fraction(1, 100)


def test_groups_name_each_owner_once():
    table = Table.of({(): 0.0, ("a",): 1.0, ("b",): 1.0, ("a", "b"): 1.0})
    for groups, message in [
        ({"g": ["a"]}, "b is in no group"),
        ({"g": ["a", "b"], "h": ["a"]}, "a is named twice"),
        ({"g": ["a", "b", "c"]}, "'c', who is no owner"),
    ]:
        with pytest.raises(cr.InputError, match=message):
            royalties(table, groups)


# Sampling


def game_of(values):
    """The function that `sample` asks."""
    n = owners_of(values)
    return lambda coalitions: values[coalitions @ (1 << np.arange(n))]


def widest(values):
    """Bounds of all marginals."""
    n = owners_of(values)
    without = [(row, i) for row in range(1 << n) for i in range(n) if not row >> i & 1]
    gains = [values[row | 1 << i] - values[row] for row, i in without]
    return min(gains), max(gains)


def misses(trials, max_values=400, delta=0.05):
    """How many of so many seeded runs have an interval without its value."""
    missed = 0
    for seed in range(trials):
        values = np.random.default_rng(seed).normal(size=16)
        low, high = widest(values)
        found = sample(
            game_of(values), "abcd", (low, high), max_values=max_values, delta=delta, seed=seed,
            half_width=0.3 * (high - low),
        )  # fmt: skip
        exact = numbers_of(values)
        ends = found.values.values()
        missed += not all(end.lower <= v <= end.upper for end, v in zip(ends, exact, strict=True))
    return missed


@pytest.mark.slow
@pytest.mark.parametrize(("max_values", "delta"), [(400, 0.05), (3000, 0.05), (400, 0.5)])
def test_stated_intervals_cover(max_values, delta):
    """Of 1,000 runs, at most delta miss; with delta = 0.05, at least 95 % cover."""
    assert misses(1000, max_values=max_values, delta=delta) <= 1000 * delta


@pytest.mark.slow
def test_bounds_are_not_far_too_wide():
    """Half widths against the true errors of 200 runs: within a factor of 10 at 95 %."""
    values = np.random.default_rng(0).normal(size=64)
    runs = [
        sample(game_of(values), "abcdef", widest(values), max_values=10_000, seed=seed)
        for seed in range(200)
    ]
    errors = [abs(run.payees["a"].estimate - float(numbers_of(values)[0])) for run in runs]
    half = runs[0].values["a"].upper - runs[0].payees["a"].estimate
    assert np.quantile(errors, 0.95) < half < 10 * np.quantile(errors, 0.95)


def test_estimates_add_up_and_no_coalition_is_asked_for_twice():
    values, asked = np.random.default_rng(1).normal(size=32), []

    def worth(coalitions):
        asked.extend(map(tuple, coalitions.tolist()))
        return game_of(values)(coalitions)

    found = sample(worth, "abcde", widest(values), max_values=1000)
    # Means of at most 124 pairs of numbers below 8: 2^10 roundings of 2^-50.
    total = sum(payee.estimate for payee in found.payees.values())
    assert abs(total - (values[-1] - values[0])) <= 2.0**-40
    assert len(asked) == len(set(asked)) == found.num_values <= 32


def test_a_pair_removes_what_is_linear_in_the_place():
    """v(S) = |S|^2: the marginals at places k and n - 1 - k add up to 2n, so one pair is exact."""
    squares = lambda coalitions: coalitions.sum(axis=1) ** 2.0  # noqa: E731
    found = sample(squares, "abcdefgh", (1.0, 15.0), max_values=300)
    assert [payee.estimate for payee in found.payees.values()] == [8.0] * 8


@pytest.mark.parametrize("n", [2, 5, 14])
def test_the_number_of_coalitions_is_kept(n):
    fewest = 32 * (n - 1) + 2
    for max_values in (fewest, fewest + 1, 3 * fewest + 7):
        asked = []

        def worth(coalitions, asked=asked):
            asked.append(len(coalitions))
            return coalitions.sum(axis=1)

        names = [str(i) for i in range(n)]
        found = sample(worth, names, (0, 1), max_values=max_values)
        assert sum(asked) == found.num_values <= max_values
    with pytest.raises(cr.InputError, match=f"at least {fewest}"):
        sample(worth, names, (0, 1), max_values=fewest - 1)


def test_sampling_stops_when_it_is_narrow_enough():
    additive = lambda coalitions: coalitions @ np.arange(14.0)  # noqa: E731
    names = [str(i) for i in range(14)]
    wide, narrow = (
        sample(additive, names, (0, 13), max_values=50_000, half_width=half) for half in (5, 0.5)
    )
    assert wide.num_values < narrow.num_values < 50_000
    for found, half in ((wide, 5), (narrow, 0.5)):
        for i, end in enumerate(found.values.values()):
            assert end.lower <= i <= end.upper
            assert end.upper - end.lower <= 2 * half


@pytest.mark.parametrize(
    ("worth", "message"),
    [
        (lambda S: S @ [1.0, 5.0], "beyond the bounds"),
        # Marginals 5 and 6, of worths near 1e13, whose rounding is 1e-2.
        (lambda S: 1e13 + S @ [5.0, 6.0], "beyond the bounds"),
        (lambda S: np.full(len(S), np.nan), "not finite"),
    ],
)
def test_false_bounds_of_marginals_are_found_out(worth, message):
    with pytest.raises(cr.InputError, match=message):
        sample(worth, "ab", (0, 4), max_values=100)


# Regressions


@pytest.mark.quick(1)
@pytest.mark.parametrize("metric", METRICS)
def test_worths_are_those_of_problems_solved_one_by_one(metric):
    """Both are within rtol of a minimizer: 1e-6 is far more than what 1e-10 leaves."""
    problem = random_problem(0, 12, 2, metric=metric)
    rows = ["a", "b", "c", None] * 3
    table = Retraining(problem, rows).table()
    for row in range(8):
        seen = [o is None or row >> "abc".index(o) & 1 == 1 for o in rows]
        left = cr.LeaveOutRegression(problem.A, problem.b, ~np.array(seen), problem.w, metric)
        f = np.asarray(left.f(cr.solve(left).x))
        assert table.lower[row] == pytest.approx(float(problem.b @ np.log2(f)), abs=1e-6)


def other_targets(base, w):
    """Retrainings for two b that differ on the rows of c only; w is small, and L is not convex."""
    rng = np.random.default_rng(1)
    A, b = rng.standard_normal((12, 2)) * 4, rng.dirichlet(np.full(12, 0.3))
    owners = ["a", "b", "c", base] * 3
    other = np.where(np.array(owners) == "c", 0.5 - b, b)
    return [Retraining(cr.SoftmaxRegression(A, of, w), owners, weights=b) for of in (b, other)]


@pytest.mark.parametrize("base", [None, "d"])
def test_models_do_not_know_what_their_coalition_does_not_see(base):
    without_c = np.array([[True, False, False, False], [True, True, False, False]])
    without_c = without_c[:, : 3 if base is None else 4]
    one, two = (made.models(without_c, rtol=1e-8) for made in other_targets(base, 0.02))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("base", [None, "d"])
def test_tables_do_not_know_what_a_coalition_does_not_see(base):
    """Models of all coalitions start from those of smaller ones: of no others.

    Another minimizer would be bits away; 1e-6 is far more than what the tolerance leaves of one.
    """
    one, two = (made.table().lower for made in other_targets(base, 0.05))
    without_c = (np.arange(len(one)) & 4) == 0
    assert np.allclose(one[without_c], two[without_c], rtol=0, atol=1e-6)
    assert not np.allclose(one, two, rtol=0, atol=1e-3)


def test_models_of_all_coalitions_start_near_their_ends(monkeypatch):
    """They start from what those of smaller coalitions say, and so take fewer steps."""
    made = Retraining(random_problem(2, 60, 4, w=0.1), [0, 1, 2, 3, 4, 5] * 10)
    steps = []

    def counted(*args, **kwargs):
        solution = cr.solve_many(*args, **kwargs)
        steps.append(np.asarray(solution.num_steps).mean())
        return solution

    monkeypatch.setattr(retraining, "solve_many", counted)
    made.models((np.arange(64)[:, None] >> np.arange(6) & 1).astype(bool)[-7:])
    alone = steps.pop()
    made.table()
    assert max(steps[-2:]) < alone  # of all six owners, and of five


def test_who_sees_nothing_is_at_zero():
    problem = random_problem(1, 12, 2)
    made = Retraining(problem, [0, 1, 2] * 4, weights=np.ones(12))
    # A sum, a logarithm and a division, each correct to 2^-52.
    assert made.table().lower[0] == pytest.approx(-12 * np.log2(12), rel=2.0**-49)
    assert (made.models([[False] * 3]) == 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_proved_worths_contain_those_of_better_minimizers(metric):
    """The gradient at the better point is below 1e-15, the modulus at least 0.1: 1e-13 is room."""
    problem = random_problem(2, 12, 2, metric=metric)
    made = Retraining(problem, ["a", "b", "c"] * 4)
    proved = made.proved_table()
    assert (proved.upper - proved.lower).max() < 1e-9
    values = made.worth([[row >> i & 1 for i in range(3)] for row in range(8)])
    # 1e-10, relative to the gradient's terms, is where the solver stops.
    assert (np.abs(values - (proved.lower + proved.upper) / 2) < 1e-8).all()
    found = royalties(proved)
    assert found.payout == "certain"
    payees = royalties(made.table()).payees
    for name, value in found.values.items():
        assert value.lower - 1e-8 <= payees[name].estimate <= value.upper + 1e-8


@pytest.mark.slow
def test_what_has_no_unique_minimizer_is_not_proved():
    first = random_problem(0, 12, 2)
    A = np.concatenate([first.A, first.A[:, :1]], axis=1)
    made = Retraining(cr.SoftmaxRegression(A, first.b), ["a", "b"] * 6)
    with pytest.raises(cr.InputError, match="no minimizer is proved"):
        made.proved_table()


def test_rows_without_owners_are_refused():
    problem = random_problem(0, 4, 2)
    for rows, message in [([None] * 4, "no row has an owner"), (["a"] * 3, "of 3 rows")]:
        with pytest.raises(cr.InputError, match=message):
            Retraining(problem, rows)
    with pytest.raises(cr.InputError, match="there are 13 owners"):
        Retraining(random_problem(0, 13, 2), range(13)).table()


# The command


@pytest.fixture
def run(tmp_path):
    """Run the command on a table."""

    def invoke(text, *options):
        (tmp_path / "table.csv").write_text(text)
        return CliRunner().invoke(app, ["royalty", str(tmp_path / "table.csv"), *options])

    return invoke


GOOD = "coalition,value\n,0\na,2\nb,1\na+b,4\n"


def test_command(run):
    answer = json.loads(run(GOOD, "--json").output)
    assert answer == {
        "shares": {"a": [0.625, 0.625], "b": [0.375, 0.375]},
        "values": {"a": 2.5, "b": 1.5}, "payout": "certain", "not_separable": [],
    }  # fmt: skip
    shown = run(GOOD).output
    assert "0.6250" in shown
    assert "parts of the payout" in shown
    for group, shares in (("g=a+b", {"g": 1.0}), ("g=a", {"g": 0.625, "b": 0.375})):
        grouped = json.loads(run(GOOD, "--json", "--group", group).output)
        assert grouped["shares"] == {name: [share, share] for name, share in shares.items()}


def test_command_on_intervals(run):
    text = "coalition,lower,upper\n,0,0\na,-1,2\n"
    answer = json.loads(run(text, "--json").output)
    assert answer["values"] == {"a": [-1.0, 2.0]}
    assert (answer["payout"], answer["not_separable"]) == ("possible", ["a"])
    assert "not separable" in run(text).output


def test_decimal_numbers_are_what_they_say(run):
    """0.1 + 0.2 is 0.3 here: nobody is paid. As floats, a would get everything."""
    text = "coalition,value\n,0\na,0.1\nb,0.2\nc,0.3\na+b,0.5\na+c,0.4\nb+c,0.3\na+b+c,0\n"
    answer = json.loads(run(text, "--json").output)
    assert (answer["payout"], answer["shares"], answer["not_separable"]) == ("none", None, [])
    assert answer["values"] == {"a": 0.0, "b": 0.0, "c": 0.0}
    assert "No payout" in run(text).output


def test_shares_of_decimals_contain_the_exact_ones_also_in_print(run):
    text = "coalition,value\n,0.1\na,0.3\nb,0.5\na+b,0.7\n"
    low, high = json.loads(run(text, "--json").output)["shares"]["a"]
    assert Fraction(low) < Fraction(1, 3) < Fraction(high)
    assert high == math.nextafter(low, 1)
    assert "[0.333333, 0.333334]" in run(text).output


BAD = {
    "empty": ("", "is empty"),
    "unknown columns": ("coalition,worth\n,0\n", "has columns coalition, worth"),
    "column twice": ("coalition,value,value\n,0,0\n", "has columns"),
    "twice": (GOOD + "b+a,3\n", r"coalition a\+b is there twice"),
    "missing": ("coalition,value\n,0\na,2\na+b,4\n", "coalition b is missing; there are 3 of"),
    "no empty one": ("coalition,value\na,2\n", "the empty coalition is missing"),
    "no owner": ("coalition,value\n,2\n", "there are 0 owners"),
    "NaN": ("coalition,value\n,0\na,nan\n", "line 3: value is 'nan'"),
    "infinite": ("coalition,value\n,-inf\na,1\n", "line 2: value is '-inf'"),
    "text": ("coalition,value\n,0\na,x\n", "line 3: value is 'x'"),
    "huge": ("coalition,value\n,0\na,1e99999999\n", "in at most 400 digits"),
    "owner twice": ("coalition,value\n,0\na,1\na+a,1\n", r"coalition a\+a names an owner twice"),
    "no name": ("coalition,value\n,0\na+,1\n", "an owner without a name"),
    "fields": ("coalition,value\n,0\na,1,2\n", "line 3: 3 fields for 2 columns"),
    "ends": ("coalition,lower,upper\n,0,0\na,2,1\n", "a lower end above"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables(name, tmp_path):
    text, message = BAD[name]
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(cr.InputError, match=message):
        read_table(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("group", "message"), [("g", "write it as"), ("b=a", "the name of an owner")]
)
def test_bad_groups(group, message, run):
    assert message in str(run(GOOD, "--group", group).exception)


def test_a_file_that_is_not_there():
    with pytest.raises(cr.InputError, match="can't read no-such-file"):
        read_table("no-such-file")


# Planted bugs


def check_all():
    """Known games, intervals, shares and bounds come out as they must."""
    values = np.random.default_rng(0).normal(size=16)
    assert numbers_of(values) == by_orders(values)
    assert numbers_of(np.stack([4 * values, 0 * values], 1)) == [2 * v for v in by_orders(values)]
    low = shapley(values, values + 1)[0][0]
    assert low == by_orders(np.where(np.arange(16) & 1, values, values + 1))[0]
    check_shares(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 2.0, 2.0, 3.0]))
    # The floats nearest to thirds are below them, those nearest to fifths above; a sign.
    for a, b in ((1.0, 2.0), (1.0, 4.0), (-1.0, 2.0)):
        check_shares(*[np.array([0.0, a, b, a + b])] * 2)
    assert misses(30, max_values=3000, delta=0.05) == 0
    test_a_pair_removes_what_is_linear_in_the_place()


def test_all_is_well_as_it_is():
    check_all()


BUGS = {
    "weights of one owner more": ("royalty:_shapley",
        "math.factorial(n - 1 - s)", "math.factorial(n - s)"),
    "the same ends are subtracted": ("royalty:_shapley", "high[:, 0]", "low[:, 0]"),
    "generations are added up": ("royalty:_integers",
        "Fraction(1, finest * shape[1])", "Fraction(1, finest)"),
    "others are at their least, too": ("royalty:payees_of",
        "_part(own, most - own_most, positive=own_most > 0)",
        "_part(own, least - own, positive=own_most > 0)"),
    "no clipping": ("royalty:payees_of", "max(low, Fraction(0))", "low"),
    "rounded to nearest": ("royalty:_outward",
        "below if below <= low else math.nextafter(below, -math.inf)", "below"),
    "rounded inward above": ("royalty:_outward", "above >= high", "above <= high"),
    "reverse orders not reversed": ("permutations:_pairs",
        "-np.diff(others, axis=1)", "np.diff(forward, axis=1)"),
    "owners by order, not by place": ("permutations:_pairs",
        "np.take_along_axis(gains.mean(axis=0), places, axis=1)", "gains.mean(axis=0)"),
    "too narrow": ("permutations:_half_widths", "log_term / (2 * m)", "log_term / (200 * m)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_bug_is_found(name):
    place, old, new = BUGS[name]
    with (
        planted(f"neighbours.{place}", old, new),
        pytest.raises((cr.InputError, AssertionError)),
    ):
        check_all()
