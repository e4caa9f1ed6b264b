"""What tests of several parts of the checker share."""

import numpy as np
import pytest
from flint import ctx


@pytest.fixture
def in_silence_and_128_bits():
    """As the checker computes: with overflow and NaN in silence, and scalars in 128 bits."""
    with np.errstate(all="ignore"), ctx.workprec(128):
        yield
