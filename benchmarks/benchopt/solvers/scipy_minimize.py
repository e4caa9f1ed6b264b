"""SciPy's minimizers, with compiled closed-form derivatives."""

import numpy as np
from benchopt import BaseSolver
from benchopt.stopping_criterion import SufficientProgressCriterion
from scipy.optimize import minimize

from copyreg_jax.bench.oracle import WORTH_A_RESTART, Oracle

STOPPED = 99
"""Status of a run of SciPy that was ended by a callback."""


class Solver(BaseSolver):
    """A method of `scipy.optimize.minimize`, called back after each of its iterations."""

    name = "scipy"
    requirements = ["pip::copyreg-jax[bench]", "pip::scipy>=1.11"]
    parameters = {"method": ["L-BFGS-B", "trust-ncg", "Newton-CG"]}
    sampling_strategy = "callback"
    stopping_criterion = SufficientProgressCriterion(
        strategy="callback", key_to_monitor="gradient_norm", patience=3
    )

    def set_objective(self, problem, x0):
        """Keep the derivatives and the start."""
        self.x0, self.oracle = x0, Oracle(problem, x0)

    def warm_up(self):
        """Compile the derivatives."""
        self.oracle.compile("value_and_gradient", "hvp")

    def run(self, callback):
        """Minimize until the callback says that it is enough, or the method ends."""
        self.x = np.array(self.x0)

        def each(x):
            self.x = np.array(x)
            if not callback():
                raise StopIteration

        self.oracle.start(aim=0.0, limit=np.inf)
        callback()
        quasi = self.method == "L-BFGS-B"
        least = {"ftol": 0.0, "gtol": 0.0} if quasi else {}
        least |= {"gtol": 0.0} if self.method == "trust-ncg" else {}
        least |= {"xtol": 0.0} if self.method == "Newton-CG" else {}
        norm = np.inf
        # A method may stop where rounding hides a decrease of L. Started anew it may get further.
        while True:
            with np.errstate(all="ignore"):
                found = minimize(
                    self.oracle.value_and_gradient,
                    self.x,
                    jac=True,
                    hessp=None if quasi else self.oracle.hvp,
                    method=self.method,
                    callback=each,
                    options={"maxiter": 100_000} | least,
                )
            if found.status == STOPPED:
                return
            self.x = self.oracle.x
            if not callback() or not self.oracle.norm < WORTH_A_RESTART * norm:
                return
            norm = self.oracle.norm

    def get_result(self):
        """Return the last point."""
        return {"x": self.x}
