"""Minimizers of L: one file per algorithm, `driver` owns the only loop."""

from copyreg_jax.solvers.batch import solve_many
from copyreg_jax.solvers.driver import Progress, solve
from copyreg_jax.solvers.gradient_descent import AcceleratedGradient, GradientDescent
from copyreg_jax.solvers.multistart import Minima, multi_start
from copyreg_jax.solvers.newton_cg import NewtonCG
from copyreg_jax.solvers.optax_bridge import Optax
from copyreg_jax.solvers.path import solve_path
from copyreg_jax.solvers.protocol import Solver
from copyreg_jax.solvers.sketched_newton import SketchedNewton
from copyreg_jax.solvers.trust_region import TrustRegionNewton

__all__ = [
    "AcceleratedGradient",
    "GradientDescent",
    "Minima",
    "NewtonCG",
    "Optax",
    "Progress",
    "SketchedNewton",
    "Solver",
    "TrustRegionNewton",
    "multi_start",
    "solve",
    "solve_many",
    "solve_path",
]
