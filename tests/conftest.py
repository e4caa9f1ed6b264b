"""float64, strict promotion, derandomized Hypothesis: a failure here fails everywhere."""

import os

import hypothesis
import jax

from copyreg_jax.testing import register_profiles

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

register_profiles()
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
