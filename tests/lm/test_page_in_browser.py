"""The page of an audit in Chromium: narrow, wide, light, dark, by keyboard, without script."""

import pytest

from copyreg_jax.lm.leakage.page import audit_page
from tests.support.audits import NEAR, audit, calibration, large, membership, nothing, work
from tests.support.browser import MARKS, opener, violations

pytestmark = MARKS

SHARED = {
    "coverage": 0.25, "longest_block": 1234, "longest_span": 99, "num_long": 3, "nv_recall": 0.2,
    "share_over_160": 0.1, "degenerate": 0.0,
}  # fmt: skip
WRITTEN = {"num_outputs": 40, "shared": SHARED}
LONG = "a_name_without_any_space_" * 12
HOSTILE = "</title></script><script>window.ran = 1</script><img src='//x' onerror='window.ran = 1'>"
COMMAND = "copyreg audit --model some/model --work " + "folder/" * 30 + "work.txt"
UNSEEN = [nothing(f"unseen {k}.txt", heat=[-20.0] * 200) for k in range(7)]
CENSUS = calibration(0.25, exchangeable=False, num_held_out=999)
PLACES = [
    {"shown_from": at, "start": at + 60, "written_to": at + cut, "end": at + 300, "log_p": -1.0}
    for at, cut in ((0, 60), (400, 200), (800, 300))
]
PAGES = {
    "one": audit(
        work(written=WRITTEN), held_out=UNSEEN, model="some/model", membership=membership()
    ),
    "nothing": audit(nothing()),
    "names": audit(work(HOSTILE), work(LONG), nothing("\u202eabc"), held_out=[work(HOSTILE + "u")]),
    "census": audit(work(memorized=CENSUS), work("Persuasion", memorized=CENSUS), model=LONG),
    "many": large(30, 7),
    "texts": audit(work("text", near=NEAR, likeliest=PLACES)),
}
TEXTS = {"texts": {"text": (HOSTILE + "\n\n  " + LONG + " שלום. ") * 3}}


@pytest.fixture
def show(chromium, tmp_path):
    """Open a page, and afterwards find that it has said nothing and asked for nothing."""
    with opener(chromium) as open_file:

        def opened(content, *, texts=None, **options):
            path = tmp_path / "page.html"
            path.write_text(audit_page(content, command=COMMAND, texts=texts), "utf-8")
            return open_file(path, **options)

        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_it_is_accessible_and_fits(show, name, width, scheme):
    page = show(PAGES[name], width=width, scheme=scheme, texts=TEXTS.get(name))
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.ran") is None
    assert page.locator("h1").count() == 1


def test_axe_finds_what_is_wrong(show):
    """Planted: grey text on a grey ground, and a map that nothing names."""
    page = show(PAGES["one"])
    page.evaluate("document.querySelector('h1').style.color = '#ddd'")
    page.evaluate("document.querySelector('.map').removeAttribute('aria-label')")
    assert {name for name, _ in violations(page)} >= {"color-contrast", "aria-input-field-name"}


def test_no_other_script_or_style_has_an_effect(chromium, tmp_path):
    """Planted: what a name would do if it were not escaped. The page's policy stops it too."""
    path = tmp_path / "page.html"
    text = audit_page(PAGES["one"], command="")
    path.write_text(text.replace("</h1>", f"</h1>{HOSTILE}<style>h1 {{display: none}}</style>"))
    page = chromium.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.ran") is None
    assert page.locator("h1").is_visible()
    page.close()


def test_a_map_is_read_by_pointer_and_by_keys(show):
    page = show(PAGES["one"])
    sea = page.get_by_role("slider", name="Emma").first
    readout = page.locator(".readout").first
    width = sea.bounding_box()["width"]
    sea.hover(position={"x": 0.5525 * width, "y": 5})
    assert readout.inner_text() == "55 to 55.5 % of the text: at least 31 %"
    sea.focus()
    for key, said in {
        "Home": "0 to 0.5 % of the text: no passage, or one that sampling never gives",
        "PageUp": "5 to 5.5 % of the text: less than 4·10⁻³⁰",
        "End": "99.5 to 100 % of the text: less than 4·10⁻³⁰",
    }.items():
        page.keyboard.press(key)
        assert sea.get_attribute("aria-valuetext") == readout.inner_text() == said
    for _ in range(8):
        page.keyboard.press("PageDown")
    assert sea.get_attribute("aria-valuetext") == "59.5 to 60 % of the text: at least 31 %"
    page.keyboard.press("ArrowRight")
    assert sea.get_attribute("aria-valuetext") == "60 to 60.5 % of the text: less than 4·10⁻³⁰"


@pytest.mark.parametrize("width", [360, 1280])
def test_a_passage_is_the_text_of_the_work_with_its_line_ends(show, width):
    text = TEXTS["texts"]["text"]
    passages = show(PAGES["texts"], width=width, texts=TEXTS["texts"]).locator(".passage")
    assert passages.all_text_contents() == [text[p["shown_from"] : p["end"]] for p in PLACES]
    marks = [mark.text_content() for mark in passages.locator("mark").all()]
    assert marks == [text[p["start"] : p["written_to"]] for p in PLACES]
    assert "\n\n  a_name" in passages.first.inner_text()  # seen, and not only there


def test_works_are_found_and_sorted(show):
    page = show(PAGES["many"])
    rows, works = page.locator(".overview tbody tr"), page.locator("article.work[id^=w]")
    page.get_by_role("combobox", name="Order").select_option(label="most written first")
    cells = rows.locator("td:nth-child(2)").all_inner_texts()
    shares = [float(text.split("\xa0")[0]) for text in cells]
    assert shares == sorted(shares, reverse=True)
    first = [rows.first.locator("a").inner_text(), works.first.locator("h3").inner_text()]
    assert first[0] == first[1]
    page.get_by_role("combobox", name="Order").select_option(label="by name")
    assert "volume 9" in rows.nth(8).inner_text()  # by number: 10 is not between 1 and 2
    page.get_by_label("Find a work").fill("VOLUME 17")
    assert page.get_by_role("status").inner_text() == "1 of 30 works"
    assert rows.filter(visible=True).count() == works.filter(visible=True).count() == 1
    page.get_by_label("Find a work").fill("")
    page.get_by_role("combobox", name="Order").select_option(label="as given")
    assert "volume 30" in rows.last.inner_text()
    assert violations(page) == []


def test_it_is_whole_without_script(show):
    page = show(PAGES["many"], java_script_enabled=False)
    assert not page.locator(".tools").is_visible()
    assert page.locator("article.work[id^=w]").filter(visible=True).count() == 30
    box = page.get_by_role("img", name="Likeliest at").first.bounding_box()
    assert box["width"] > 500


def test_it_prints_in_black_on_white(show):
    page = show(PAGES["many"], scheme="dark")
    page.emulate_media(media="print")
    colours = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(%s))"
    body = page.evaluate(colours % "document.body")
    assert body == ["rgb(28, 26, 23)", "rgb(255, 255, 255)"]
    assert not page.locator(".tools").is_visible()
    assert violations(page) == []
