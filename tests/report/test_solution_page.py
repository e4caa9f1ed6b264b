"""The page of a solution: nothing on it can be taken for what was not proved."""

import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import copyreg_jax as cr
from copyreg_jax.checker.format import canonical
from copyreg_jax.report.folders import certified_page, folder_page
from copyreg_jax.report.gamma_path import NUM_SOLVES, find_path, path_section
from copyreg_jax.report.read_solution import read_solution
from copyreg_jax.report.recomputed import NUMBERS, recomputed
from copyreg_jax.report.run_sections import spectrum
from copyreg_jax.report.solution_page import SolvedInstance, solution_page
from tests.checker.forgeries import FORGERIES, make_files
from tests.report.folders_of_results import HOSTILE, solved, table_of
from tests.support.registry import random_problem


class Tags(HTMLParser):
    """The tags of a page, and its text without scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._silent = [], "", 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._silent -= tag in ("script", "style")

    def handle_data(self, data):
        self.text += "" if self._silent else data


def heading(page):
    (text,) = re.findall("<h1>(.*?)</h1>", page)
    return html.unescape(text)


def labels(page):
    """What the window is called, and what stands above each card."""
    return re.findall(r"<title>(.*?)</title>|<h3 id=.*?<span>(.*?)</span></h3>", page)


def problem_and_point(seed=4):
    """A solved instance whose margin is certified; with seed 8 it is suppressed."""
    problem = random_problem(seed, 10, 2, w=0.1)
    return problem, np.asarray(cr.solve(problem).x)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "out"
    problem, x = problem_and_point()
    return folder, problem, x, solved(folder, problem, x)


@pytest.mark.parametrize(("seed", "direction"), [(4, "amplified"), (8, "suppressed")])
def test_the_verdict_stands_with_the_direction_at_the_top(tmp_path, seed, direction):
    certificate = solved(tmp_path / "out", *problem_and_point(seed))
    assert certificate.direction == direction
    page = folder_page(tmp_path / "out")
    assert heading(page) == certificate.headline
    assert ("UP" in heading(page)) == (direction == "amplified")
    assert ("get MORE than their target" in page) == (direction == "amplified")
    assert ("claim alarm" in page) == (direction == "amplified")
    assert ("To suppress it, take a smaller gamma" in Tags(page).text) == (direction == "amplified")
    for label in (part for pair in labels(page) for part in pair if "CERTIFIED" in part):
        assert direction in label, label
    assert re.search(r"proved all \d+ statements of the certificate again", page)


def test_a_direction_that_is_open_is_not_one(tmp_path):
    """At x = 0 all rows have what the target gives them."""
    problem = cr.CopyrightRegression(np.eye(4), np.full(4, 0.25), 2, gamma=0.1)
    cr.save_instance(tmp_path / "i.npz", problem)
    certificate = cr.certify(problem, np.zeros(4), tau=-1.0)
    certificate.save(tmp_path / "c.json")
    page = certified_page(tmp_path / "c.json", tmp_path / "i.npz")
    assert heading(page) == certificate.headline
    assert "is open" in heading(page)
    assert "CERTIFIED, direction open" in page
    assert "get LESS than" not in page
    assert "get MORE than" not in page
    assert "copyreg check c.json i.npz" in page


def test_a_claim_that_is_false_is_said_to_be(tmp_path):
    problem, x = problem_and_point()
    cr.save_instance(tmp_path / "i.npz", problem)
    certificate = cr.certify(problem, x, tau=1.0)
    certificate.save(tmp_path / "c.json")
    page = certified_page(tmp_path / "c.json", tmp_path / "i.npz")
    assert heading(page) == certificate.headline
    assert heading(page).startswith("REFUTED (margin >= 1.0)")
    assert "is proved not to have a margin of at least 1.0" in page
    assert "REFUTED, amplified" in page
    assert "came to the same verdict" in page


def test_a_tie_is_undecided_and_no_page_decides_it(tmp_path):
    """f = 1/6 is no float, and both halves have the same targets: a margin of exactly zero."""
    problem = cr.CopyrightRegression(np.eye(6), [0.1, 0.2, 0.2] * 2, 3, gamma=0.1)
    cr.save_instance(tmp_path / "i.npz", problem)
    certificate = cr.certify(problem, np.zeros(6), max_bits=128)
    certificate.save(tmp_path / "c.json")
    page = certified_page(tmp_path / "c.json", tmp_path / "i.npz")
    assert heading(page) == certificate.headline
    assert heading(page).startswith("UNDECIDED (margin > 0); ")
    assert "Whether this point has a positive margin is open." in page
    assert "UNDECIDED, suppressed" in page  # 0.1 + 0.2 + 0.2 is a little above 1/2 in float64


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("forged"))[0]


@pytest.mark.quick(8)
@pytest.mark.parametrize("name", [*FORGERIES, "bytes"])
def test_nothing_of_a_forged_certificate_is_on_the_page(name, forged):
    """Each states one thing that is false or can't be proved; then nothing of it is repeated."""
    certificate, instance, forgeries, _ = forged
    true = heading(certified_page(certificate, instance))
    page = certified_page(forgeries[name], instance)
    verdict = cr.check(forgeries[name], instance).verdict.name
    assert verdict != "CERTIFIED"
    assert heading(page).startswith(f"{verdict}: ")
    assert heading(page) != true
    assert "not proved" in heading(page) or "not finite" in heading(page)
    assert all("CERTIFIED" not in part for pair in labels(page) for part in pair)
    assert "No statement of a certificate was proved again for this page." in page
    assert ", proved</span>" not in page


def test_a_damaged_certificate_is_void(results, tmp_path):
    _, problem, x, _ = results
    out = tmp_path / "out"
    solved(out, problem, x)
    path = out / "certificate.json"
    path.write_bytes(path.read_bytes()[:-9])
    page = folder_page(out)
    assert heading(page).startswith("VOID: nothing was tested; the protected mass seems to have")
    assert ">The protected mass seems to have gone UP: about" in page
    assert "certificate.json is damaged" in page
    assert "not proved" in heading(page)


def test_a_run_without_a_certificate_says_so(tmp_path):
    problem, x = problem_and_point()
    nan = [np.nan, np.nan]
    solved(tmp_path / "out", problem, x, status="NONFINITE", certificate=False, history=(nan, nan))
    page = folder_page(tmp_path / "out")
    assert heading(page).startswith("There is no certificate (NONFINITE); the protected mass seems")
    assert "ended as NONFINITE" in page
    assert "There is no certificate to check." in page
    assert "begins at not finite and ends at not finite" in page


def test_the_table_has_the_numbers_of_the_solution_exactly(results):
    folder, problem, x, _ = results
    rows, groups, (f, b) = table_of(folder_page(folder))
    np.testing.assert_array_equal(rows, np.arange(problem.n))
    np.testing.assert_array_equal(groups, np.where(problem.protected, 0, 1))
    np.testing.assert_array_equal(f, problem.f(x))
    np.testing.assert_array_equal(b, problem.b)


def test_names_are_only_text(results, tmp_path):
    folder, problem, x, _ = results
    plain = Tags(folder_page(folder))
    solved(tmp_path / "out", problem, x, name=HOSTILE + "\u202e\0\ud800")
    page = folder_page(tmp_path / "out")
    assert Tags(page).tags == plain.tags
    assert HOSTILE in Tags(page).text
    assert not re.search("[\0\u202e\ud800]", page)


def test_all_that_explain_says_is_on_the_page(results):
    folder, _, _, certificate = results
    text = " ".join(Tags(folder_page(folder)).text.split()).replace(" the run says:", "")
    lines = " ".join(certificate.explain().split()).split(" - ")
    for sentence in lines[1:]:
        name, _, rest = sentence.partition(": ")
        said = rest if name in ("point", "level_set", "local", "global", "paper") else sentence
        said = re.split(" Proved$| Not proved$| Cost$| To prove all", said)[0]
        assert said[1:] in text, said


def big(n, seed=0):
    rng = np.random.default_rng(seed)
    problem = cr.CopyrightRegression(rng.normal(size=(n, 2)), rng.dirichlet(np.ones(n)), n // 10)
    x = np.array([0.3, -0.2])
    return SolvedInstance("big", problem, x, None, None, None, None, "")


def test_fifty_thousand_rows_take_less_than_two_megabytes():
    found = big(50_000)
    page = solution_page(found, spectrum(found.problem, found.x))
    assert len(page.encode()) <= 2_000_000
    assert len(table_of(page)[0]) == 50_000
    assert page.count("<tr") < 200  # the rows are not in the document


def test_of_more_rows_the_farthest_are_kept():
    found = big(50_001)
    page = solution_page(found, None)
    rows, _, (f, b) = table_of(page)
    away = np.abs(np.asarray(found.problem.f(found.x)) - np.asarray(found.problem.b))
    assert set(range(50_001)) - set(rows.tolist()) == {int(away.argmin())}
    assert (np.abs(f - b) > away.min()).all()
    assert "The table has 50,000 of 50,001 rows, those with the largest |f - b|." in page


def test_the_spectrum_is_that_of_the_hessian_and_says_what_it_is():
    """Far from the minimizer L is not convex, and a copied column is flat."""
    rng = np.random.default_rng(3)
    column = rng.normal(size=(12, 1))
    problem = cr.CopyrightRegression(
        np.hstack([column, column]), rng.dirichlet(np.ones(12)), 4, gamma=1.0, w=1e-3
    )
    x = np.array([0.4, -0.1])
    found = SolvedInstance("i", problem, x, None, None, None, None, "")
    eigenvalues = spectrum(problem, x)
    assert eigenvalues is not None
    text = Tags(solution_page(found, eigenvalues)).text
    np.testing.assert_allclose(eigenvalues, np.linalg.eigvalsh(problem.hessian(x)))
    assert "1 can't be told from 0 in floating point" in text
    below = "1 of 2 are below 0: L falls in a direction." in text
    assert below == (eigenvalues.min() < -1e-9)
    assert "which are not proved" in text


def test_the_path_goes_through_the_solution(results):
    folder, problem, x, certificate = results
    said = []
    page = folder_page(folder, gamma_path=True, progress=said.append)
    counts = [line for line in said if line.startswith("path of gamma")]
    assert counts[-1] == f"path of gamma: {NUM_SOLVES} of {NUM_SOLVES} solves done"
    assert len(counts) == NUM_SOLVES
    (body,) = re.findall(r"<caption>The path of gamma.*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    rows = [re.findall(r"<t[hd].*?>([^<]*)", row) for row in body.split("<tr>")[1:]]
    assert len(rows) == NUM_SOLVES
    gammas = [float(row[0].split()[0]) for row in rows]
    np.testing.assert_allclose(np.diff(np.log10(gammas)), 0.25, atol=1e-3)  # four digits are shown
    (here,) = (row for row in rows if "(here)" in row[0])
    assert float(here[0].split()[0]) == float(problem.gamma)
    assert float(here[3]) == pytest.approx(certificate.margin.lower, rel=1e-5)  # six digits
    assert here[1] == "CONVERGED"
    # An independent solve of a neighbor: it finds the same minimizer.
    there = cr.solve(problem.replace(gamma=gammas[0]), x0=x)
    assert float(rows[0][2]) == pytest.approx(there.ell, rel=1e-3)


@pytest.mark.parametrize(("x0", "direction"), [(-1.0, "suppressed"), (1.0, "amplified")])
def test_the_path_begins_at_the_solution_and_stays_on_its_branch(x0, direction):
    """The protected row may get less than its target or more; near 0 there is no minimizer."""
    problem = cr.CopyrightRegression([[1.0], [-0.5], [-0.5]], np.full(3, 1 / 3), 1, gamma=0.1)
    solution = cr.solve(problem, x0=[x0])
    path = find_path(problem, np.asarray(solution.x))
    section = path_section(path, 1, 3)
    looks = {"suppressed": "dots", "amplified": "squares"}
    drawn = dict(re.findall(r'<path class="(dots|squares) [a-z]+" d="(.*?)"', section)).keys()
    assert drawn == {looks[direction]}
    marks = re.findall(r'<path class="(?:dots|squares) ([a-z]+)" d="(.*?)"', section)
    numbers = {color: places.count("M") for color, places in marks}
    assert numbers.pop("ink") == 1  # this solution, and no mark of another color is below it
    assert sum(numbers.values()) == NUM_SOLVES - 1
    assert f"this solution, {direction}</span>" in section
    assert [found.direction for found in path.solutions] == [direction] * NUM_SOLVES
    here = path.solutions[path.here]
    np.testing.assert_allclose(here.x, solution.x, rtol=1e-9)  # the tolerance of the solver
    assert here.num_steps <= 1
    for tau, found in zip(path.taus, path.solutions, strict=True):
        margin = found.ell_1 - found.ell_2 / 2
        assert tau is not None
        assert tau <= margin * (1 + 1e-12)  # of a few terms, each rounded once


def test_a_column_of_names_says_what_they_are(results):
    folder, *_ = results
    page = folder_page(folder, gamma_path=True)
    heads = re.findall(r"<caption>(.*?)</caption><thead><tr>(?:<th scope=col>([^<]*))?", page)
    assert [first for _, first in heads] == ["Row", "Row", "Row", "gamma"]


def test_no_path_of_gamma_is_offered_where_there_is_none(tmp_path):
    problem, x = problem_and_point()
    solved(tmp_path / "out", problem.replace(gamma=0.0), x)
    alone = certified_page(tmp_path / "out" / "certificate.json", tmp_path / "out" / "instance.npz")
    for page in (folder_page(tmp_path / "out"), alone):
        assert "gamma is 0: L has no protection" in page
        assert "--gamma-path" not in page.partition("More or less protection")[2].partition("h2")[0]
    solved(tmp_path / "out", problem, x)
    page = certified_page(tmp_path / "out" / "certificate.json", tmp_path / "out" / "instance.npz")
    assert "is shown on the page of a run" in page


def test_the_numbers_of_the_charts_and_of_the_table_are_told_apart(results):
    assert "computed once more in the end, from x, by other code" in folder_page(results[0])


def change(folder, **fields):
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def drop(folder, field):
    path = folder / "summary.json"
    content = json.loads(path.read_text())
    del content[field]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda out: (out / "summary.json").write_text("{"), "is not JSON, or damaged"),
        (lambda out: (out / "summary.json").write_text("[]"), "is not a JSON object"),
        (lambda out: drop(out, "status"), "has no 'status'"),
        (lambda out: change(out, num_hvps="<b>"), "has '<b>' for 'num_hvps', not an integer"),
        (lambda out: change(out, gamma=0.5), "its gamma is 0.1, and there it is 0.5"),
        (lambda out: change(out, n=11), "its n is 10, and there it is 11"),
        (lambda out: (out / "solution.npz").unlink(), "solution.npz: No such file"),
        (lambda out: (out / "solution.npz").write_bytes(b"PK"), "it is damaged or no .npz file"),
        (lambda out: np.savez(out / "solution.npz", x=1), "no solution: it has no history_value"),
        (lambda out: np.savez(out / "solution.npz", x=[1.0], history_value=[1.0],
                              history_gradient_norm=[1.0]), r"x of shape \(1,\); the instance has"),
        (lambda out: np.savez(out / "solution.npz", x=[1.0, 2.0], history_value=[1.0],
                              history_gradient_norm=[1.0]), "1 for 'num_steps', .* history of 0"),
        (lambda out: np.savez(out / "solution.npz", x=[1.0, 2.0], history_value=[2.0, 1.0],
                              history_gradient_norm=[2.0, 1.0]), "about another instance or point"),
        (lambda out: np.savez(out / "solution.npz", x=[1.0, np.nan], history_value=[1.0],
                              history_gradient_norm=[1.0]), "an x that is nan at entry 1; run"),
        (lambda out: change(out, status="CERTIFIED"), "has 'CERTIFIED' for 'status', not one of"),
        (lambda out: change(out, value=10**400), r"has the integer 10{19}\.\.\., which"),
        (lambda out: change(out, num_hvps=2**63), "9223372036854775808, which has"),
        (lambda out: np.savez(out / "solution.npz", x=[1.0, 2.0], history_value=[],
                              history_gradient_norm=[]), "has a history of shapes"),
        (lambda out: (out / "instance.npz").unlink(), "name the instance .* with --instance"),
        (lambda out: (out / "run.json").write_text("{}"), "results of several commands"),
        (lambda out: (out / "summary.json").unlink(), "has none of summary.json, run.json"),
    ],
)  # fmt: skip
def test_what_is_no_page_is_refused_in_one_line(spoil, message, results, tmp_path):
    _, problem, x, _ = results
    out = tmp_path / "out"
    solved(out, problem, x)
    spoil(out)
    with pytest.raises(cr.InputError, match=message) as found:
        folder_page(out)
    assert "\n" not in str(found.value)


def shifted(problem, **changes):
    """The same problem with other arrays."""
    arrays = {name: np.asarray(getattr(problem, name)) for name in ("A", "b", "protected", "w")}
    return cr.CopyrightRegression(**arrays | changes, gamma=float(problem.gamma))


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda out, p, x: save(out, shifted(p, A=-3 * p.A)), "value"),
        (lambda out, p, x: save(out, shifted(p, w=p.w * 1.1)), "value"),
        (lambda out, p, x: save(out, shifted(p, protected=np.roll(p.protected, 1))), "value"),
        (lambda out, p, x: move(out, 1e6 * x), "value"),
        (lambda out, p, x: move(out, x * (1 + 1e-7)), "gradient_norm"),  # L is flat there
        *((lambda out, p, x, name=name: nudge(out, name), name) for name in NUMBERS),
        (lambda out, p, x: change(out, ell_1=None), "ell_1"),
        (lambda out, p, x: change(out, ell_2=float("nan")), "ell_2"),
    ],
)  # fmt: skip
def test_numbers_of_another_instance_or_point_are_refused(spoil, name, tmp_path):
    """Without a certificate, which would know its instance and point."""
    problem, x = problem_and_point()
    out = tmp_path / "out"
    solved(out, problem, x, certificate=False)
    folder_page(out)
    spoil(out, problem, x)
    with pytest.raises(cr.InputError, match=f"another instance or point: it has .* for '{name}'"):
        folder_page(out)


def save(folder, problem):
    cr.save_instance(folder / "instance.npz", problem)


def move(folder, x):
    with np.load(folder / "solution.npz") as file:
        arrays = dict(file)
    np.savez(folder / "solution.npz", **arrays | {"x": x})


def nudge(folder, name):
    """Change a number in the eighth digit, or one near zero by as much as it is."""
    said = json.loads((folder / "summary.json").read_text())[name]
    change(folder, **{name: 1e-8 if name == "gradient_norm" else said * (1 + 1e-8)})


def test_a_history_of_another_run_is_refused(tmp_path):
    problem, x = problem_and_point()
    for last in (0.5, np.nan):
        solved(tmp_path / "out", problem, x, certificate=False, history=([2.0, last], [1.0, 0.1]))
        with pytest.raises(cr.InputError, match=f"ends at L = {last}, and computed again L is 0"):
            folder_page(tmp_path / "out")


def test_a_certificate_of_another_point_is_refused(tmp_path):
    problem, x = problem_and_point()
    certificate = solved(tmp_path / "out", problem, x)
    solved(tmp_path / "out", problem, x + 1, certificate=False)
    certificate.save(tmp_path / "out" / "certificate.json")
    with pytest.raises(cr.InputError, match="is about another point than"):
        folder_page(tmp_path / "out")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", [cr.NewtonCG(), cr.GradientDescent()])
@pytest.mark.parametrize("metric", ["squared", "cross-entropy"])
def test_what_runs_really_say_is_believed(metric, solver, dtype, tmp_path):
    """Of a flat and of a steep instance, with large logits: rounding is no reason to refuse."""
    problem = random_problem(4, 10, 2, w=0.1)
    for scale in (1, 300):
        arrays = ((scale * problem.A).astype(dtype), problem.b.astype(dtype), problem.protected)
        scaled = cr.CopyrightRegression(*arrays, 0.1, 0.1, metric=metric)
        solution = cr.solve(scaled, solver, max_steps=40)
        history = solution.history.value, solution.history.gradient_norm
        numbers = {name: getattr(solution, name) for name in NUMBERS}
        said = {"status": solution.status.name, **numbers}
        x = np.asarray(solution.x, np.float64)
        here = recomputed(scaled, x, said, history[0][-1], solution.num_steps, "summary.json")
        assert here == numbers


def test_words_of_the_summary_are_not_on_the_page(tmp_path):
    """Of the words in it, those that explain a status are ours, and reasons are the run's."""
    problem, x = problem_and_point()
    certificate = solved(tmp_path / "out", problem, x)
    assert "global" in certificate.given_up
    change(tmp_path / "out", explanation="It is suppressed (proved).",
           certificate={"given_up": {"global": "It is proved."}, "reads": {}})  # fmt: skip
    text = Tags(folder_page(tmp_path / "out")).text
    assert "suppressed (proved)" not in text
    assert cr.Status.CONVERGED.explanation in text
    assert "as good or better: the run says: It is proved." in text
    assert "The run says that the solver ended as CONVERGED" in text


def test_what_the_summary_adds_to_the_certificate_is_only_words(results, tmp_path):
    """A summary that was changed can't stop the page, nor say anything of what is proved."""
    _, problem, x, _ = results
    out = tmp_path / "out"
    solved(out, problem, x)
    change(out, certificate={"given_up": {"local": 3}, "reads": "many", "verdict": "REFUTED"})
    assert read_solution(out).summary["certificate"] == {"given_up": {}, "reads": {}}
    assert heading(folder_page(out)).startswith("CERTIFIED")


def test_an_instance_elsewhere_is_read_there(results, tmp_path):
    _, problem, x, _ = results
    out = tmp_path / "out"
    solved(out, problem, x)
    (out / "instance.npz").rename(tmp_path / "data.npz")
    page = folder_page(out, instance=tmp_path / "data.npz")
    assert heading(page).startswith("CERTIFIED")
    assert "copyreg check certificate.json ../data.npz" in page


def test_there_is_no_path_of_gamma_without_gamma():
    problem, x = problem_and_point()
    with pytest.raises(cr.InputError, match="gamma is 0, so no path of gamma"):
        find_path(problem.replace(gamma=0.0), x)


def test_the_global_minimum_is_on_the_page_only_if_it_is_proved_again(results, tmp_path):
    _, problem, x, _ = results
    solved(tmp_path, problem, x)
    assert "The global minimum" not in folder_page(tmp_path)
    certificate = cr.minimize_globally(problem).certificate()
    certificate.save(tmp_path / "global.json")
    page = Tags(folder_page(tmp_path)).text
    low, high = re.search(r"Least value of L\s*in \[(\S+), (\S+)\]", page).groups()
    # 12 digits, rounded outward
    assert certificate.lower * (1 - 1e-11) <= float(low) <= certificate.lower
    assert certificate.upper <= float(high) <= certificate.upper * (1 + 1e-11)
    assert "amplified, not suppressed" in page
    false = certificate.document | {"lower": (certificate.upper * 1.5).hex()}
    (tmp_path / "global.json").write_bytes(canonical(false))
    page = Tags(folder_page(tmp_path)).text
    assert "REFUTED: not all that global.json says was proved again" in page
    assert "Least value of L" not in page
