"""The documentation: its Python blocks run, its links lead somewhere, its names exist."""

import ast
import enum
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import sklearn

import copyreg_jax
import copyreg_jax.testing

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "copyreg" / "copyreg_jax").rglob("*.py"))
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PRINTED = {
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


def names_of_the_package(text):
    """Those in prose, and what code takes from it: tutorials run only when the site is built."""
    found = set(re.findall(r"\bcopyreg_jax(?:\.\w+)+", text))
    found |= {f"copyreg_jax.{name}" for name in re.findall(r"\bcr\.(\w+)", text)}
    imports = re.findall(r"^from (copyreg_jax[\w.]*) import (\([^)]*\)|.*)", text, re.MULTILINE)
    for module, names in imports:
        own = re.sub(r" as \w+", "", names)
        found |= {f"{module}.{name}" for name in re.findall(r"\w+", own)}
    return sorted(found)


@by_page
def test_names_exist(page):
    for name in names_of_the_package(page.read_text()):
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


def test_stars_of_formulas_are_code():
    """Markdown would drop both stars of ``(b*f) + f (b*f)``, and set what is between in italics."""
    for page in PAGES:
        prose = re.sub(r"^    .*$|`[^`]*`", "", without_code(page.read_text()), flags=re.MULTILINE)
        assert not (found := re.findall(r".*\w\*[A-Za-z].*", prose)), f"{page.name}: {found}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/tutorials/*.md")), ids=lambda p: p.stem)
def test_tutorials_run_when_the_site_is_built(page):
    """Without its head a page is shown, and never run; a `!` runs in a terminal, with spinners.

    ``![`` begins an image.
    """
    text = page.read_text()
    assert text.startswith("---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n")
    assert "```{code-cell} ipython3\n" in text
    assert "```python" not in text
    assert not re.search(r"^!(?!\[)", text, flags=re.MULTILINE)


def test_the_interface_lists_all_names_of_the_package():
    listed = re.findall(r"^   (\w+)$", (ROOT / "docs/reference/api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(copyreg_jax.__all__)


@pytest.mark.parametrize("module", [copyreg_jax, copyreg_jax.testing], ids=lambda m: m.__name__)
def test_what_users_call_has_an_example(module):
    """Results, errors and enumerations are met in the examples of what gives them."""
    results = tuple | Exception | enum.Enum | copyreg_jax.CheckResult | copyreg_jax.GlobalMinimum
    for name in set(module.__all__) - {"SHAPES"}:
        thing = getattr(module, name)
        if not (inspect.isclass(thing) and issubclass(thing, results)):
            assert ">>> " in thing.__doc__, name


def without_example(tree, of_class=""):
    """The public functions, classes and methods with a section of parameters and no example.

    A method may have it in the docstring of its class, which is given, as a call. The rule is about
    every room, helpers and commands too. Without the section an example is not asked for: trivial
    functions have one line, and results are met in the examples of what returns them.
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            says = ast.get_docstring(node) or ""
            asked = re.search(r"^Parameters\n-+$", says, re.MULTILINE)
            if asked and ">>> " not in says and not calls(of_class, node.name):
                yield node.name
            if isinstance(node, ast.ClassDef):
                yield from without_example(node, says)


def calls(docstring, name):
    return re.search(rf"^(>>>|\.\.\.) .*\b{name}\(", docstring, re.MULTILINE)


def test_what_has_parameters_has_an_example():
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in MODULES
        for name in without_example(ast.parse(path.read_text()))
    ]
    assert missing == []


def test_a_missing_example_is_found():
    (path,) = (path for path in MODULES if path.stem == "coalitions")
    without = path.read_text().replace(">>> ", "")
    assert list(without_example(ast.parse(without))) == ["of", "read_table"]


def test_lines_are_at_most_100_characters():
    for page in PAGES:
        for line in without_code(page.read_text()).splitlines():
            assert len(line) <= 100 or line.startswith(("| ", "|-", "    ")), f"{page.name}: {line}"
