"""The rules of the house: short files, one name for one thing, no fragments of sentences.

That imports go down only is a contract of import-linter in pyproject.toml.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "copyreg" / "copyreg_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))


def relative(path):
    return str(path.relative_to(ROOT))


def imported(tree):
    """Modules of this package that a file names in its imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folder", ["copyreg", "tools", "benchmarks"])
def test_no_file_is_longer_than_400_lines(folder):
    long = {
        relative(path): lines
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_no_two_modules_share_a_name():
    names = [path.stem for path in MODULES if not path.stem.startswith("__")]
    assert sorted(names) == sorted(set(names))


def test_every_module_says_what_is_public():
    silent = [
        relative(path)
        for path in MODULES
        if not path.read_text().strip().endswith('"""')  # a docstring and nothing else
        and not re.search(r"^__all__ = |^def __getattr__", path.read_text(), re.MULTILINE)
    ]
    assert silent == []


def defined(tree):
    """The public names that a module defines itself, at its top level."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (part.id for part in parts if isinstance(part, ast.Name))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_what_is_listed_is_defined_and_what_is_defined_is_listed(path):
    """A module lists all that it defines, and may list what it hands on."""
    tree = ast.parse(path.read_text())
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    if not listed:
        return  # `test_every_module_says_what_is_public` asks for the list
    (names,) = listed
    own = {name for name in defined(tree) if not name.startswith("_")}
    taken = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    rooms = {other.stem for other in path.parent.iterdir()}
    assert own <= set(names) <= own | taken | (rooms if path.stem == "__init__" else set())


def test_private_names_stay_at_home():
    foreign = [
        (relative(path), name)
        for path in MODULES
        for name in imported(ast.parse(path.read_text()))
        if name.startswith("copyreg_jax.")
        and name.rpartition(".")[2].startswith("_")
        and name.rpartition(".")[2]
        not in ("_compiling", "_files", "_pages", "_tracing", "__main__", "__version__")
    ]
    assert foreign == []


FRAGMENTS = re.compile(
    r'"""Of \b|^ +Of (the|a|an|each|all)\b|\bthat is none\b|\bbut for (?!gamma\b)'
    r"|\blest\b|\bfor want of\b|\bin the midst of\b|\belse it\b|\bshall\b",
    re.MULTILINE,
)


@pytest.mark.parametrize("folder", ["copyreg/copyreg_jax", "docs", "README.md", "CONTRIBUTING.md"])
def test_sentences_have_a_subject_and_a_verb(folder):
    """The fragments that this project once wrote are not written again."""
    files = [ROOT / folder, *(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.md")]
    found = [
        (relative(path), match.group())
        for path in files
        if path.is_file()
        for match in FRAGMENTS.finditer(path.read_text())
    ]
    assert found == []


def test_tracers_are_recognized_in_one_place():
    asking = [relative(path) for path in MODULES if "core.Tracer" in path.read_text()]
    assert asking == ["copyreg/copyreg_jax/_tracing.py"]
