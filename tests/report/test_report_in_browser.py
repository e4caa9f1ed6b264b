"""The pages of reports in Chromium: narrow, wide, light, dark, searched, sorted, without script."""

import numpy as np
import pytest

pytest.importorskip("flax")

import copyreg_jax as cr
from copyreg_jax.report.folders import folder_page
from copyreg_jax.report.solution_page import solution_page
from tests.report.folders_of_results import HOSTILE, searched, solved, trained
from tests.report.test_solution_page import big, problem_and_point
from tests.support.browser import MARKS, opener, violations

pytestmark = MARKS

LONG = "a_name_without_any_space_" * 12


def suppressed(folder):
    solved(folder, *problem_and_point(8), name=HOSTILE + LONG)
    return folder_page(folder, gamma_path=True)


def amplified(folder):
    solved(folder, *problem_and_point())
    return folder_page(folder)


def void(folder):
    solved(folder, *problem_and_point())
    (folder / "certificate.json").write_bytes(b"{")
    return folder_page(folder)


def awkward(folder):
    """Numbers of all sizes, and none."""
    b = [0.5, 0.0, 1e-300, 1e-5, -0.25, 123456.7, 1234567.0, 1e-4, 9.9999996]
    problem = cr.CopyrightRegression(np.eye(9, 3), b, 4, gamma=0.1)
    solved(folder, problem, np.array([900.0, -3.0, 1.0]), certificate=False, status="NONFINITE",
           history=([1.0, np.nan], [np.nan, np.nan]))  # fmt: skip
    return folder_page(folder)


PAGES = {
    "suppressed": suppressed,
    "amplified": amplified,
    "void": void,
    "awkward": awkward,
    "training": lambda folder: folder_page(trained(folder, names=(HOSTILE, LONG, "c"))),
    "search": lambda folder: folder_page(searched(folder)),
    "large": lambda _: solution_page(big(50_000), None),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each page, made once."""
    made = {}
    for name, make in PAGES.items():
        folder = tmp_path_factory.mktemp("page")
        made[name] = folder / "report.html"
        made[name].write_text(make(folder / "out"), "utf-8")
    return made


@pytest.fixture
def show(chromium, files):
    with opener(chromium) as open_file:
        yield lambda name, **options: open_file(files[name], **options)


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
@pytest.mark.parametrize("name", PAGES)
def test_it_is_accessible_and_fits(show, name, width, scheme):
    page = show(name, width=width, scheme=scheme)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.ran") is None
    assert page.locator("h1").count() == 1
    assert page.evaluate(BROKEN_NUMBERS) == []
    for caption in page.locator(".wide caption").all():
        box, around = caption.bounding_box(), caption.locator("xpath=../..").bounding_box()
        if box is not None:  # the table of all rows has none without its script
            assert box["x"] + box["width"] <= around["x"] + around["width"] + 1  # a pixel, rounded


BROKEN_NUMBERS = r"""() => {
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (text.parentElement.closest("script")) continue;
    for (const match of text.data.matchAll(/(?<![\w.])\d+\.\d+(?:e[-+]\d+)?(?!\w)/g)) {
      const range = document.createRange();
      range.setStart(text, match.index);
      range.setEnd(text, match.index + match[0].length);
      const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      if (lines.size > 1) found.push(match[0]);
    }
  }
  return found;
}"""
"""Numbers that stand on more than one line."""


@pytest.mark.parametrize("width", [360, 1280])
def test_the_longest_number_has_room_beside_its_bar(show, width):
    page = show("suppressed", width=width)
    page.locator(".bars dd").last.evaluate("(one) => one.lastChild.replaceWith('1.234e-05')")
    assert page.evaluate(BROKEN_NUMBERS) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_the_direction_is_on_the_first_screen(show, width):
    """Without scrolling: the sentence, and the word on the card of the direction."""
    page = show("amplified", width=width)
    for part in (page.locator("h1"), page.get_by_text("UP, proved")):
        box = part.bounding_box()
        assert box["y"] + box["height"] <= 800
    assert "amplified, not suppressed" in page.locator("h1").inner_text()


def cells(page, column):
    """A column of the rows that are shown."""
    return page.locator(f".search tbody tr > :nth-child({column})").all_inner_texts()


def test_rows_are_found_sorted_and_turned_like_those_of_the_instance(show):
    page, found = show("large"), big(50_000)
    f, b = (np.asarray(values) for values in (found.problem.f(found.x), found.problem.b))
    status = page.get_by_role("status")
    assert status.inner_text() == "1 to 25 of 50,000 rows"
    assert cells(page, 1) == [str(k) for k in range(25)]
    assert cells(page, 3) == [f"{value:.6g}" for value in f[:25]]
    page.get_by_label("Order").select_option(label="f - b, largest first")
    order = np.argsort(b - f, kind="stable")
    assert cells(page, 1) == [str(k) for k in order[:25]]
    page.get_by_role("button", name="Next").click()
    assert cells(page, 1) == [str(k) for k in order[25:50]]
    page.get_by_label("Group").select_option(label="Protected")
    chosen = order[order < 5_000]
    assert cells(page, 1) == [str(k) for k in chosen[:25]]
    assert set(cells(page, 2)) == {"Protected"}
    assert page.get_by_role("button", name="Previous").is_disabled()
    page.get_by_label("Find").fill("4990-5010")
    assert status.inner_text() == "1 to 10 of 10 rows"  # the others are not protected
    page.get_by_label("Find").fill("<b>")
    assert status.inner_text() == (
        "none of 50,000 rows; only their numbers are searched, such as 7 or 20-30"
    )
    assert page.get_by_role("button", name="Next").is_disabled()
    assert page.locator(".search tr").count() == 1
    page.get_by_label("Find").fill("4,991-4,990")  # as other tables write them, either way round
    assert set(cells(page, 1)) == {"4990", "4991"}
    page.get_by_label("Find").fill("60000")
    assert status.inner_text() == "none of 50,000 rows"


def test_numbers_are_written_as_by_python(show):
    page = show("awkward")
    b = [0.5, 0.0, 1e-300, 1e-5, -0.25, 123456.7, 1234567.0, 1e-4, 9.9999996]
    assert cells(page, 4) == [f"{value:.6g}" for value in b]


def test_documents_are_found_by_a_part_of_their_name(show):
    page = show("training")
    page.get_by_label("Find").fill("A_NAME")
    assert cells(page, 1) == [LONG]
    page.get_by_label("Find").fill("script")
    assert cells(page, 1) == [HOSTILE]


@pytest.mark.parametrize("name", ["suppressed", "training"])
def test_it_is_whole_without_script(show, name):
    page = show(name, java_script_enabled=False)
    assert not page.locator(".search").is_visible()
    assert (
        page.get_by_text("farthest from the target first")
        .or_(page.get_by_text("that the model predicts best"))
        .first.is_visible()
    )
    assert all(box.bounding_box()["height"] > 150 for box in page.locator(".chart > svg").all())


def test_it_prints_in_black_on_white(show):
    page = show("suppressed", scheme="dark")
    page.emulate_media(media="print")
    colors = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(%s))"
    body = page.evaluate(colors % "document.body")
    assert body == ["rgb(28, 26, 23)", "rgb(255, 255, 255)"]
    assert not page.locator(".search").is_visible()
    assert violations(page) == []
