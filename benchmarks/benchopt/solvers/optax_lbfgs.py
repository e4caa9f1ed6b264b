"""L-BFGS of optax, one compiled step at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from benchopt import BaseSolver
from benchopt.stopping_criterion import SufficientProgressCriterion

_METHOD = optax.lbfgs(memory_size=10)


@functools.partial(jax.jit, donate_argnums=(1, 2))
def _step(problem, x, state):
    """One iteration, with optax's line search."""
    value, gradient = optax.value_and_grad_from_state(problem.value)(x, state=state)
    updates, state = _METHOD.update(
        gradient, state, x, value=value, grad=gradient, value_fn=problem.value
    )
    return optax.apply_updates(x, updates), state


class Solver(BaseSolver):
    """`optax.lbfgs` with ten pairs, called back after each iteration."""

    name = "optax-lbfgs"
    requirements = ["pip::copyreg-jax", "pip::optax"]
    sampling_strategy = "callback"
    stopping_criterion = SufficientProgressCriterion(
        strategy="callback", key_to_monitor="gradient_norm", patience=3
    )

    def set_objective(self, problem, x0):
        """Keep both."""
        self.problem, self.x0 = problem, x0

    def warm_up(self):
        """Compile the step."""
        self.run_once(2)

    def run(self, callback):
        """Iterate until the callback says that it is enough."""
        x = jnp.array(self.x0)
        state, self.x = jax.jit(_METHOD.init)(x), self.x0
        while callback():
            x, state = _step(self.problem, x, state)
            self.x = np.asarray(x)

    def get_result(self):
        """Return the last point."""
        return {"x": self.x}
