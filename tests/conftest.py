"""float64, strict promotion, derandomized Hypothesis: a failure here fails everywhere."""

# isort: off
import os

# Compiling is nine tenths of the suite's time; without LLVM's optimizations it takes a third. The
# README's example, the benchmarks and the doctests run with them; so does `XLA_FLAGS= pytest`.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false",
)
# isort: on

from pathlib import Path

import hypothesis
import jax
import pytest

from copyreg_jax.testing import register_profiles

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

register_profiles()
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


MAPPINGS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def _few_mappings():
    """Forget compiled programs in time.

    XLA on CPU keeps hundreds of memory mappings for each solver and shape, Linux allows 65530 in a
    process, and the next one is a segmentation fault.
    """
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
