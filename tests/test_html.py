"""What notebooks show of problems, solutions and certificates."""

import dataclasses
import html.parser

import jax
import numpy as np
import pandas as pd
import pytest

import copyreg_jax as cr
from copyreg_jax._pages import card
from tests.support.mutants import planted
from tests.support.registry import random_problem

HOSTILE = "</td><script>alert('x')</script>&amp;\"$\\alpha$<img src=x onerror=alert(1)>"


class Reader(html.parser.HTMLParser):
    """Tags with their attributes, and the text, as a browser would read them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "\n"


def read(shown):
    """The text of a card that has nothing in it but plain tags and alignment."""
    page = Reader(shown)
    assert {tag for tag, _ in page.tags} <= {"div", "strong", "table", "tr", "th", "td", "p"}
    attributes = {item for _, attrs in page.tags for item in attrs.items()}
    assert attributes <= {
        ("style", "text-align: left"),
        ("class", "tex2jax_ignore mathjax_ignore"),
    }
    return page.text


@pytest.fixture(scope="module")
def problem():
    return random_problem(0, 12, 2)


@pytest.fixture(scope="module")
def solution(problem):
    return cr.solve(problem)


def test_text_is_escaped_wherever_it_stands():
    assert read(card(HOSTILE, {HOSTILE: HOSTILE}, HOSTILE)).count(HOSTILE) == 4


@pytest.mark.parametrize(
    "piece", ["escape(title)", "escape(name)", "escape(value)", "escape(note)"]
)
def test_one_forgotten_escape_is_found(piece):
    with (
        planted("_pages:card", piece, piece[len("escape(") : -1]),
        pytest.raises(AssertionError),
    ):
        read(card(HOSTILE, {HOSTILE: HOSTILE}, HOSTILE))


def test_names_of_columns_are_shown_as_they_are():
    frame = pd.DataFrame({HOSTILE: [1.0, 0.0], **{f"c{k}": [0.0, 1.0] for k in range(7)}})
    text = read(cr.CopyrightRegression(frame, [0.6, 0.4], 1)._repr_html_())
    assert f"8: {HOSTILE}, c0, c1, c2, c3, c4, ..." in text
    assert "c5" not in text


def test_a_problem(problem):
    text = read(problem._repr_html_())
    mass = f"{problem.b[:4].sum():.4g} on the protected rows, 1 on all"
    for part in ("CopyrightRegression", "12, 4 of them protected", mass, "joint", "squared", "0.1"):
        assert part in text.split("\n")
    weights = cr.SoftmaxRegression(problem.A, problem.b, w=np.arange(12.0) + 1)
    assert "1 to 12" in read(weights._repr_html_()).split("\n")
    unseen = cr.LeaveOutRegression.of(problem)
    assert "12, 4 of them left out of the loss" in read(unseen._repr_html_()).split("\n")


def test_a_solution_says_its_status_and_the_direction(solution):
    text = read(solution._repr_html_())
    assert f"CONVERGED after {solution.num_steps} steps" in text
    assert f"of b: {solution.direction}" in text
    none = dataclasses.replace(solution, protected_mass=0.0, target_mass=0.0)
    assert "protected" not in read(none._repr_html_())
    failed = dataclasses.replace(solution, status=cr.Status.STALLED)
    assert cr.Status.STALLED.explanation in read(failed._repr_html_())


def test_a_certificate_says_its_verdict_and_the_direction(problem, solution):
    certificate = cr.certify(problem, solution.x)
    text = read(certificate._repr_html_())
    assert text.startswith(certificate.headline)
    assert "alone within" in text
    # Rounded outward: what is shown is proved, too.
    interval = next(line for line in text.split("\n") if line.startswith("in ["))
    low, high = map(float, interval[4:-1].split(", "))
    assert low <= certificate.margin.lower <= certificate.margin.upper <= high


def test_an_amplified_mass_comes_with_a_remedy(problem):
    strong = problem.replace(gamma=10.0)
    certificate = cr.certify(strong, 3 * strong.A[0])
    assert certificate.direction == "amplified"
    assert "LeaveOutRegression" in read(certificate._repr_html_())


def test_what_has_no_numbers_has_no_table(problem):
    """Notebooks take the repr then."""
    shown = []

    @jax.jit
    def traced(problem):
        solution = cr.solve(problem, max_steps=1)
        shown.extend([problem._repr_html_(), solution._repr_html_()])
        return solution

    jax.eval_shape(traced, problem)
    batch = jax.tree.map(lambda leaf: leaf[None], problem)
    assert [*shown, batch._repr_html_()] == [None] * 3
    assert cr.solve_many([problem])._repr_html_() is None
