"""The folder copyreg/ must never shadow the standard library's module of that name."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_standard_library_copyreg_survives_at_the_repository_root():
    code = (
        "import copyreg, pickle, copy, sys\n"
        "assert hasattr(copyreg, 'dispatch_table'), copyreg\n"
        "assert pickle.loads(pickle.dumps({1: {2}})) == {1: {2}}\n"
        "assert copy.copy([1]) == [1]\n"
        "print(copyreg.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert str(ROOT) not in run.stdout


def test_source_root_is_no_package():
    assert not (ROOT / "copyreg" / "__init__.py").exists()


NEWER = {"annotationlib", "compression"}
"""Modules of Python 3.14; JAX imports ``compression`` where it finds one."""


@pytest.mark.parametrize("folder", ["benchmarks", "tools", ".ci"])
def test_no_script_has_the_name_of_a_standard_module(folder):
    """A script's folder is the first place where Python looks."""
    names = {path.stem for path in (ROOT / folder).glob("*.py")}
    assert names.isdisjoint(sys.stdlib_module_names | NEWER)
