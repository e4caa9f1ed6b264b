"""Random instances."""

import jax
from benchopt import BaseDataset

jax.config.update("jax_enable_x64", True)

from copyreg_jax.bench.suite import dense


class Dataset(BaseDataset):
    """A of normal entries, b from a Dirichlet distribution, a fifth of the rows protected."""

    name = "simulated"
    requirements = ["pip::copyreg-jax[bench]"]
    parameters = {
        "n, d": [(2000, 64), (20000, 128)],
        "gamma": [0.1],
        "w": [1.0, 0.01],
        "reading": ["joint"],
        "metric": ["squared"],
    }
    test_parameters = {"n, d": [(300, 6)], "gamma": [0.001], "w": [1.0]}

    def get_data(self):
        """Draw the instance."""
        settings = {name: getattr(self, name) for name in ("gamma", "w", "reading", "metric")}
        return {"problem": dense(self.n, self.d, seed=self.get_seed() % 2**32, **settings)}
