"""One process of several that solve one problem together; run by tests/matrices/test_sharded.py.

Arguments: port, number of processes, rank, the .npy file of A, and where x goes.
"""

import sys
from collections.abc import Callable

import jax

port, processes, rank, source, out = sys.argv[1:]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_enable_x64", True)
jax.distributed.initialize(
    f"127.0.0.1:{port}", int(processes), int(rank), initialization_timeout=60
)

import numpy as np  # noqa: E402

import copyreg_jax as cr  # noqa: E402
from tests.matrices.test_sharded import N1, arguments  # noqa: E402


class Rows:
    """A on disk, which notes what is read of it."""

    def __init__(self) -> None:
        self.rows = np.load(source, mmap_mode="r")
        self.shape, self.dtype, self.read = self.rows.shape, self.rows.dtype, 0

    def __getitem__(self, index: slice) -> np.ndarray:
        part = self.rows[index]
        self.read += len(part)
        return part


rows = Rows()
problem = cr.CopyrightRegression(cr.ShardedRows(rows), *arguments(rows.shape[0]), w=0.05)
share = -(-rows.shape[0] // int(processes))
assert rows.read <= share, (rows.read, share)
assert "n1" not in repr(problem)  # would have to be asked for by all
assert problem.n1 == N1
norms = []
solution = cr.solve(problem, callback=lambda progress: norms.append(progress.gradient_norm))
solution.raise_for_status()
assert solution.x.sharding.is_fully_replicated
assert len(norms) == solution.num_steps
again = problem.replace(gamma=0.1)
assert float(again.gamma) == 0.1


def refuse(what: Callable[[], object], why: str) -> None:
    try:
        what()
    except cr.InputError as error:
        assert why in str(error), error  # noqa: PT017
    else:
        raise AssertionError(why)


refuse(lambda: cr.certify(problem, np.asarray(solution.x)), "single process")
refuse(lambda: cr.solve(problem, checkpoint=f"{out}.run"), "no checkpoint")
numbers = solution.value, solution.gradient_norm, solution.ell_1, solution.protected_mass
np.savez(out, x=np.asarray(solution.x), numbers=numbers)
