"""What importing does, and does not do."""

import subprocess
import sys

import pytest

import copyreg_jax as cr


def printed(code: str) -> str:
    """What a process of its own prints, in which warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_what_does_not_need_jax_starts_without_it():
    code = "import copyreg_jax as cr; dir(cr); cr.__version__; cr.check; cr.Verdict; cr.InputError"
    assert printed(f"{code}; import sys; print('jax' in sys.modules)") == "False"


@pytest.mark.parametrize("eager", ["", "1"])
def test_the_checker_loads_nothing_of_others_but_numpy_and_flint(eager, monkeypatch):
    """Also with the switch that makes lazy loaders load at once."""
    monkeypatch.setenv("EAGER_IMPORT", eager)
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import numpy, flint\n"
        "own = set(sys.modules) - before\n"
        "import copyreg_jax.checker.__main__, copyreg_jax.checker.guarantee\n"
        "rest = {name.split('.')[0] for name in set(sys.modules) - before - own}\n"
        "print(rest - set(sys.stdlib_module_names))"
    )
    assert printed(code) == "{'copyreg_jax'}"


def test_importing_every_public_name_starts_no_backend_and_keeps_the_configuration():
    code = (
        "import copyreg_jax as cr, jax\n"
        "from jax._src import xla_bridge\n"
        "[getattr(cr, name) for name in cr.__all__]\n"
        "print(xla_bridge.backends_are_initialized(), jax.config.jax_enable_x64)"
    )
    assert printed(code) == "False False"


def test_unknown_name():
    with pytest.raises(AttributeError, match="attribute nonsense"):
        _ = cr.nonsense


def test_a_function_is_no_module_whatever_was_imported_first():
    code = (
        "import copyreg_jax.certificates.make, copyreg_jax.checker.check\n"
        "import copyreg_jax as cr, inspect\n"
        "p = cr.CopyrightRegression([[1.0], [0.0], [0.0]], [0.6, 0.2, 0.2], 1)\n"
        "print(cr.certify(p, [-1.0]).verdict.name, *inspect.signature(cr.certify).parameters)"
    )
    assert printed(code) == "CERTIFIED problem x tau eps_2 local max_bits"
