"""The folder copyreg/ must never shadow the standard library's module of that name."""

import subprocess
import sys
from pathlib import Path

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
