"""Hypothesis strategies and ready properties, to test a loss or a solver of your own.

Needs the extra ``test``. A property over drawn instances and points::

    import jax, numpy as np
    from hypothesis import assume, given, strategies as st
    from copyreg_jax.testing import assert_gradient_matches, instances, points

    jax.config.update("jax_enable_x64", True)

    @given(problem=instances(), data=st.data())
    def test_my_gradient(problem, data):
        x = data.draw(points(problem))
        assume(np.isfinite(problem.value(x)))
        assert_gradient_matches(problem.value, lambda x: my_gradient(problem, x), x, atol=1e-9)

Notes
-----
Every comparison is made in float64 on the host, allows ``rtol * size + atol``, where the size is
that of the largest entry (or eigenvalue, or value), and fails for NaN and infinity.

``rtol`` alone is right where the terms of a derivative do not cancel. Near a minimizer, where b is
close to f, or near the barrier ``ell_1 = 0`` they do: terms of size T have a sum that is much
smaller, and no code, automatic differentiation included, knows that sum better than to a few
``eps T``. Give ``atol = 64 * 2**-52 * T`` there: for ``v -> H v``, T is ``max|H| * sum|v|``.

Many drawn instances are faster with a ``value`` that is compiled once per shape: let
``jit_value = jax.jit(lambda problem, x: problem.value(x))`` and test
``lambda x: jit_value(problem, x)``.

In JAX's 32-bit mode an ``rtol`` below float32's eps, like the default, is a `PrecisionError`.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError(
        "copyreg_jax.testing needs Hypothesis: pip install 'copyreg-jax[test]'"
    ) from error

from copyreg_jax.testing.assertions import (
    assert_convex_on,
    assert_gradient_matches,
    assert_hessian_lipschitz,
    assert_hessian_matches,
    assert_hvp_matches,
    assert_stationary,
    assert_strongly_convex_on,
)
from copyreg_jax.testing.strategies import (
    SHAPES,
    design_matrices,
    instances,
    masks,
    points,
    register_profiles,
    simplex_vectors,
)

__all__ = [
    "SHAPES",
    "assert_convex_on",
    "assert_gradient_matches",
    "assert_hessian_lipschitz",
    "assert_hessian_matches",
    "assert_hvp_matches",
    "assert_stationary",
    "assert_strongly_convex_on",
    "design_matrices",
    "instances",
    "masks",
    "points",
    "register_profiles",
    "simplex_vectors",
]
