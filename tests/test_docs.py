"""The documentation: its Python blocks run, its links lead somewhere, its names exist."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
RUNNING = [
    "first-steps.md",
    "how-to/extend.md",
    "how-to/many-problems.md",
    "neighbours/codelength.md",
    "neighbours/ledger.md",
    "neighbours/naf.md",
    "neighbours/nearest.md",
    "neighbours/royalty.md",
]
EXPECTED = {
    "how-to/extend.md": [
        r"CONVERGED\n",
        r"CONVERGED\n",
        r"copyreg reached .*\nscipy CG reached .*\n",
    ],
    "neighbours/codelength.md": [r"\d+ b'a sail, a sail'\n\['b', 'a'\] \[2\.885\d* 0\.721\d*\]\n"],
    "neighbours/ledger.md": [r"CERTIFIED Interval\(.*\) Interval\(.*\)\n"],
    "neighbours/naf.md": ["", r"\[.*\] .*e-09\n"],
    "neighbours/nearest.md": [r"\['code', 'animal'\] .*\n0\.\d+ 0\.\d+\n"],
}


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


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING)
def test_python_blocks_run(page, capsys, tmp_path, monkeypatch):
    """The blocks of a page run one after the other, as a reader would try them."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(python_blocks(page)):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
        printed = capsys.readouterr().out
        if page in EXPECTED:
            assert re.fullmatch(EXPECTED[page][number], printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_dotted_names_exist(page):
    for name in sorted(set(re.findall(r"\bcopyreg_jax(?:\.\w+)+", page.read_text()))):
        if name.startswith("copyreg_jax.lm"):
            pytest.importorskip("flax")
        resolve(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page):
    folders = "tests|benchmarks|tools|docs"
    for name in re.findall(rf"\b((?:{folders})/[\w./-]+\.\w+)", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def resolve(name):
    """The module or attribute of that dotted name."""
    parts = name.split(".")
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(parts[:i]))
    return found


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "index.md" or f"({name})" in index, f"{name} is not in docs/index.md"


def test_lines_are_at_most_100_characters():
    for page in PAGES:
        for line in without_code(page.read_text()).splitlines():
            assert len(line) <= 100 or line.startswith(("| ", "|-", "    ")), f"{page.name}: {line}"
