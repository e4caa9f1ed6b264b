"""What is minimized: the objective, its derivatives, and the problems."""

from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.problems.leave_out import LeaveOutRegression
from copyreg_jax.problems.shard import shard
from copyreg_jax.problems.softmax_regression import SoftmaxRegression

__all__ = ["CopyrightRegression", "LeaveOutRegression", "SoftmaxRegression", "shard"]
