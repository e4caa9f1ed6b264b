"""Counterexamples as small instance files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from copyreg_jax.errors import InputError
from copyreg_jax.instances import load_instance, save_instance
from copyreg_jax.problems.copyright_regression import CopyrightRegression

__all__ = ["Counterexample", "counterexample", "read_counterexample", "stored_counterexamples"]


class Counterexample(NamedTuple):
    """An instance and a point that violate a claim."""

    name: str
    problem: CopyrightRegression
    x: np.ndarray

    def save(self, folder: str | Path) -> Path:
        """Write ``name.npz``: an instance file with x in it; returns its path."""
        path = Path(folder) / f"{self.name}.npz"
        save_instance(path, self.problem, self.x)
        return path


def counterexample(name: str) -> Counterexample:
    """A counterexample that is stored in the package.

    Parameters
    ----------
    name : str
        One of `stored_counterexamples`.

    Raises
    ------
    InputError
        No counterexample has that name.

    Examples
    --------
    >>> "theorem-16-joint" in stored_counterexamples()
    True
    """
    if name not in stored_counterexamples():
        raise InputError(
            f"no counterexample {name!r}; choose {', '.join(stored_counterexamples())}"
        )
    with resources.as_file(_FOLDER / f"{name}.npz") as path:
        return read_counterexample(path)


def stored_counterexamples() -> list[str]:
    """Names of the counterexamples that are stored in the package."""
    names = (file.name for file in _FOLDER.iterdir())
    return sorted(name.removesuffix(".npz") for name in names if name.endswith(".npz"))


def read_counterexample(path: str | Path) -> Counterexample:
    """Read a file that `Counterexample.save` wrote; `InputError` if it is another file.

    Examples
    --------
    >>> import tempfile
    >>> problem = CopyrightRegression([[1.0], [0.0]], [0.75, 0.25], 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Counterexample("mine", problem, np.array([2.0])).save(folder)
    ...     found = read_counterexample(path)
    >>> found.name, found.x.tolist()
    ('mine', [2.0])
    """
    problem = load_instance(path)
    with np.load(path, allow_pickle=False) as file:
        if "x" not in file:
            raise InputError(f"{path} is an instance without a point x")
        x = np.asarray(file["x"])
    return Counterexample(Path(path).stem, problem, np.asarray(problem.point(x)))


_FOLDER = resources.files("copyreg_jax.theory") / "counterexamples"
