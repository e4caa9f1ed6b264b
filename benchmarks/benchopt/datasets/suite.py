"""The instances of `copyreg bench`."""

import jax
from benchopt import BaseDataset

jax.config.update("jax_enable_x64", True)

from copyreg_jax.bench.suite import SUITE


class Dataset(BaseDataset):
    """An instance of `copyreg bench`, by its name."""

    name = "suite"
    requirements = ["pip::copyreg-jax[bench]"]
    parameters = {"instance": [instance.name for instance in SUITE]}
    test_parameters = {"instance": ["small-w-500x20"]}

    def get_data(self):
        """Make the instance; some are read from packages of the extra `bench`."""
        (make,) = (instance.make for instance in SUITE if instance.name == self.instance)
        return {"problem": make()}
