"""The documentation: its Python blocks run, its links lead somewhere, its names exist."""

import pkgutil
import re
from pathlib import Path

import pytest
import sklearn

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PRINTED = {
    "first-steps.md": None,
    "how-to/extend.md": [*2 * [r"CONVERGED\n"], r"copyreg reached .*\nscipy CG reached .*\n"],
    "how-to/many-problems.md": None,
    "how-to/scikit-learn.md": None,
    "how-to/your-own-data.md": [r"CopyrightRegression\(n=50, d=3, n1=10, .*\n"],
    "neighbours/codelength.md": [r"\d+ b'a sail, a sail'\n\['b', 'a'\] \[2\.885\d* 0\.721\d*\]\n"],
    "neighbours/ledger.md": [r"CERTIFIED Interval\(.*\) Interval\(.*\)\n"],
    "neighbours/naf.md": ["", r"\[.*\] .*e-09\n"],
    "neighbours/nearest.md": [r"\['code', 'animal'\] .*\n0\.\d+ 0\.\d+\n"],
    "neighbours/royalty.md": None,
}
"""Pages whose Python blocks run, and what each block prints, where that is tested."""

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def python_blocks(page):
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def without_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path):
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_code(path.read_text()), flags=re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in words}


@pytest.fixture
def _restored():
    """What a page configures ends with it."""
    with sklearn.config_context():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("page", PRINTED)
def test_python_blocks_run(page, capsys, tmp_path, monkeypatch):
    """The blocks of a page run one after the other, as a reader would try them."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(python_blocks(page)):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
        printed = capsys.readouterr().out
        assert PRINTED[page] is None or re.fullmatch(PRINTED[page][number], printed)


@by_page
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


@by_page
def test_dotted_names_exist(page):
    for name in sorted(set(re.findall(r"\bcopyreg_jax(?:\.\w+)+", page.read_text()))):
        if name.startswith("copyreg_jax.lm"):
            pytest.importorskip("flax")
        pkgutil.resolve_name(name)


@by_page
def test_named_files_exist(page):
    for name in re.findall(r"\b((?:tests|benchmarks|tools|docs)/[\w./-]+\.\w+)", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "index.md" or f"({name})" in index, f"{name} is not in docs/index.md"


def test_lines_are_at_most_100_characters():
    for page in PAGES:
        for line in without_code(page.read_text()).splitlines():
            assert len(line) <= 100 or line.startswith(("| ", "|-", "    ")), f"{page.name}: {line}"
