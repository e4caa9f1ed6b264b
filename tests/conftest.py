"""float64, strict promotion, derandomized Hypothesis: a failure here fails everywhere."""

import os
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
