"""The solvers of this package."""

import numpy as np
from benchopt import BaseSolver
from benchopt.stopping_criterion import SufficientProgressCriterion

import copyreg_jax as cr


class Solver(BaseSolver):
    """A solver of this package. The limit of steps is an argument: nothing is compiled again."""

    name = "copyreg"
    requirements = ["pip::copyreg-jax"]
    parameters = {"method": ["NewtonCG", "TrustRegionNewton", "AcceleratedGradient"]}
    sampling_strategy = "iteration"
    stopping_criterion = SufficientProgressCriterion(
        strategy="iteration", key_to_monitor="gradient_norm", patience=3
    )

    def set_objective(self, problem, x0):
        """Keep both."""
        self.problem, self.x0 = problem, x0

    def skip(self, problem, x0):
        """Leave out what would form too large a Hessian."""
        if self.method == "TrustRegionNewton" and problem.d > 2048:
            return True, "more than 2048 columns"
        return False, None

    def warm_up(self):
        """Compile, the look at the end of a run included."""
        self.run(10_000 if self.method == "AcceleratedGradient" else 1000)

    def get_next(self, stop_val):
        """Newton's methods take few steps, and each is of interest; gradient methods take many."""
        return stop_val + max(1, stop_val // 4)

    def run(self, n_iter):
        """Solve, for at most so many steps."""
        self.x = self.x0
        if n_iter > 0:
            solver = getattr(cr, self.method)()
            solution = cr.solve(self.problem, solver, self.x0, max_steps=int(n_iter))
            self.x = np.asarray(solution.x)

    def get_result(self):
        """Return the last point."""
        return {"x": self.x}
