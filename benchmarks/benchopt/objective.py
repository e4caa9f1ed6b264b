"""The objective: L at a point, its gradient, and how far L is above its minimum, proved."""

import math

import jax
import numpy as np
from benchopt import BaseObjective

jax.config.update("jax_enable_x64", True)

import copyreg_jax as cr
from copyreg_jax.solvers.recheck import evaluate
from copyreg_jax.solvers.start import default_start

_MOST_ENTRIES = 1_000_000
"""Entries of A up to which a point is certified each time."""


class Objective(BaseObjective):
    """Softmax regression with a copyright protection term."""

    name = "Copyright and softmax regression"
    url = "https://arxiv.org/abs/2308.12247"
    min_benchopt_version = "1.10"
    requirements = ["pip::copyreg-jax"]
    test_dataset_name = "simulated"

    def set_data(self, problem):
        """Keep the problem, and the start of all solvers."""
        self.problem = problem
        self.x0 = np.asarray(default_start(problem)[0])

    def get_objective(self):
        """What a solver is given."""
        return {"problem": self.problem, "x0": self.x0}

    def get_one_result(self):
        """Some point."""
        return {"x": self.x0}

    def evaluate_result(self, x):
        """Metrics of a point, by NumPy on the host."""
        found = evaluate(self.problem, np.asarray(x))
        return {
            "value": found.value,
            "gradient_norm": found.gradient_norm,
            "certified_gap": self._certified_gap(x),
        }

    def _certified_gap(self, x):
        """``|gradient|^2 / (2 mu)`` with proved bounds, where L is proved to be strongly convex."""
        problem = self.problem
        if not isinstance(problem, cr.CopyrightRegression) or problem.n * problem.d > _MOST_ENTRIES:
            return math.nan
        claims = cr.certify(problem, np.asarray(x)).document["claims"]
        if claims["local"] is None or claims["global"] is None:
            return math.nan
        gradient, mu = (
            float.fromhex(claims[claim][name])
            for claim, name in (("local", "gradient"), ("global", "mu"))
        )
        return math.nextafter(math.nextafter(gradient**2, math.inf) / (2 * mu), math.inf)
