"""Programs that are compiled quickly: the options on a CPU, and those of a user."""

import os
import subprocess
import sys

import pytest

from copyreg_jax import _compiling


@pytest.mark.parametrize(
    ("flags", "passes"),
    [("", "tree_reduction_rewriter"), ("--xla_disable_hlo_passes=cse", None)],
    ids=["none", "the user's own"],
)
def test_passes_that_a_user_leaves_out_are_not_put_back(flags, passes, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    _compiling._options.cache_clear()
    monkeypatch.setattr("jax.default_backend", lambda: "cpu")
    assert _compiling._options().get("xla_disable_hlo_passes") == passes
    _compiling._options.cache_clear()


def test_an_accelerator_is_given_no_option_of_a_cpu(monkeypatch):
    _compiling._options.cache_clear()
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert _compiling._options() == {}
    _compiling._options.cache_clear()


def test_sums_are_no_trees():
    """In a process of its own, since the suite's own flags leave that pass out, too."""
    program = (
        "import jax, jax.numpy as jnp; from copyreg_jax._compiling import QuickJit\n"
        "for jit in (jax.jit(jnp.sum), QuickJit(jnp.sum).compiled):\n"
        "    print('reduce-window(' in jit.lower(jnp.ones(2000)).compile().as_text())"
    )
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]
