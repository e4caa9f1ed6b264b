"""float64, strict promotion, derandomized Hypothesis: a failure here fails everywhere."""

import os

import hypothesis
import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Each new shape is a compilation, which is what the deadline would measure.
hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, max_examples=100, print_blob=True
)
hypothesis.settings.register_profile(
    "soak", parent=hypothesis.settings.get_profile("ci"), derandomize=False, max_examples=5000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
