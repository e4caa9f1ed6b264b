"""Reading what ``copyreg solve`` and ``copyreg certify`` wrote, for a page about it."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from copyreg_jax.checker.check import check
from copyreg_jax.checker.format import Statements, read_certificate
from copyreg_jax.checker.verdicts import VoidError
from copyreg_jax.errors import InputError
from copyreg_jax.instances import load_instance
from copyreg_jax.problems.copyright_regression import CopyrightRegression
from copyreg_jax.report.json_files import read_json, require_fields
from copyreg_jax.report.recomputed import NUMBERS, recomputed
from copyreg_jax.report.solution_page import SolvedInstance
from copyreg_jax.solvers.solution import Status

__all__ = ["INSTANCE", "SUMMARY", "read_certified", "read_solution"]

SUMMARY, INSTANCE = "summary.json", "instance.npz"

_CERTIFICATE, _SOLUTION = "certificate.json", "solution.npz"

_FIELDS = {
    **dict.fromkeys(("instance", "status", "reading", "metric"), str),
    **dict.fromkeys(("n", "d", "n1", "num_steps", "num_values", "num_gradients"), int),
    **dict.fromkeys(("num_hessians", "num_hvps"), int),
    **dict.fromkeys(("gamma", *NUMBERS), float),
}

_SAME = ("n", "d", "n1", "gamma", "reading", "metric")


def read_solution(
    folder: Path,
    instance: Path | None = None,
    progress: Callable[[str], object] = lambda stage: None,
) -> SolvedInstance:
    """Read the folder of a solved instance, and check its certificate.

    Parameters
    ----------
    folder : path
        The ``--out`` of ``copyreg solve``.
    instance : path, optional
        Where the instance is, if not in the folder: a matrix on disk is not copied there.
    progress : callable, optional
        Called with a description of what is being done.

    Raises
    ------
    InputError
        A file is missing or damaged, or two of them are not about the same instance or point.

    Notes
    -----
    The losses and masses are computed again from the instance and x, in three reads of A. How the
    run ended and what it cost is what the run says.

    Examples
    --------
    >>> import json, tempfile
    >>> import copyreg_jax as cr
    >>> from copyreg_jax.solvers.recheck import evaluate
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> x = np.array([-1.0])
    >>> here = evaluate(problem, x)
    >>> summary = dict.fromkeys(_FIELDS, 0) | {"instance": "tiny.npz", "status": "CONVERGED"}
    >>> summary |= {name: getattr(problem, name) for name in _SAME}
    >>> summary |= {name: getattr(here, name) for name in NUMBERS} | {"gamma": float(problem.gamma)}
    >>> course = {"history_value": [here.value], "history_gradient_norm": [here.gradient_norm]}
    >>> with tempfile.TemporaryDirectory() as name:
    ...     cr.save_instance(Path(name) / "instance.npz", problem)
    ...     np.savez(Path(name) / "solution.npz", x=x, **course)
    ...     _ = (Path(name) / "summary.json").write_text(json.dumps(summary))
    ...     found = read_solution(Path(name))
    >>> found.name, found.x.tolist(), found.summary["ell_1"] == here.ell_1
    ('tiny.npz', [-1.0], True)
    """
    summary = read_json(folder / SUMMARY)
    require_fields(summary, _FIELDS, folder / SUMMARY)
    _check_status(summary, folder / SUMMARY)
    _clean_certificate(summary)
    place = folder / INSTANCE if instance is None else instance
    if instance is None and not place.exists():
        raise InputError(
            f"{folder} has no {INSTANCE}, because a matrix on disk is not copied; name the "
            "instance that was solved with --instance"
        )
    progress("reading")
    problem = load_instance(place)
    for name in _SAME:
        here = getattr(problem, name)
        here = float(here) if name == "gamma" else here
        if here != summary[name]:
            raise InputError(
                f"{place} is not what {folder / SUMMARY} is about: its {name} is {here}, and there "
                f"it is {summary[name]}"
            )
    x, *history = _read_arrays(folder / _SOLUTION, problem)
    num_steps = len(history[0]) - 1
    if summary["num_steps"] != num_steps:
        raise InputError(
            f"{folder / SUMMARY} has {summary['num_steps']} for 'num_steps', and "
            f"{folder / _SOLUTION} has a history of {num_steps}; run the command again"
        )
    progress("computing the numbers again")
    summary |= recomputed(problem, x, summary, history[0][-1], num_steps, folder / SUMMARY)
    elsewhere = () if instance is None else ("--instance", os.path.relpath(instance, folder))
    again = shlex.join(["copyreg", "report", ".", "--gamma-path", "--overwrite", *elsewhere])
    certificate = folder / _CERTIFICATE
    if not certificate.exists():
        return SolvedInstance(
            summary["instance"],
            problem,
            x,
            summary,
            (history[0], history[1]),
            None,
            None,
            "",
            again,
        )
    found = read_certified(certificate, place, folder, problem, progress)
    if found.said is not None and not np.array_equal(found.said.x, x):
        raise InputError(
            f"{certificate} is about another point than {folder / _SOLUTION}; certify that point, "
            "or solve again"
        )
    return found._replace(
        name=summary["instance"],
        x=x,
        summary=summary,
        history=(history[0], history[1]),
        path_command=again,
    )


def read_certified(
    certificate: Path,
    instance: Path,
    beside: Path,
    problem: CopyrightRegression | None = None,
    progress: Callable[[str], object] = lambda stage: None,
) -> SolvedInstance:
    """Read a certificate and its instance, and check the one against the other.

    Parameters
    ----------
    certificate, instance : path
    beside : path
        The folder from which the command on the page names its files.
    problem : CopyrightRegression, optional
        The instance, if it was read already.
    progress : callable, optional
        Called with a description of what is being done.

    Raises
    ------
    InputError
        The instance can't be read. A certificate that can't be read is VOID.

    Examples
    --------
    >>> import tempfile
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> with tempfile.TemporaryDirectory() as name:
    ...     certificate, instance = Path(name) / "certificate.json", Path(name) / "instance.npz"
    ...     cr.certify(problem, [-1.0]).save(certificate)
    ...     cr.save_instance(instance, problem)
    ...     found = read_certified(certificate, instance, Path(name))
    >>> found.checked.verdict.name, found.said.x.tolist(), found.command
    ('CERTIFIED', [-1.0], 'copyreg check certificate.json instance.npz')
    """
    if problem is None:
        progress("reading")
        problem = load_instance(instance)
    progress("checking the certificate")
    checked = check(certificate, instance)
    said: Statements | None = None
    with contextlib.suppress(VoidError):  # the checker says why
        said = read_certificate(certificate)
    x = np.full(problem.d, np.nan) if said is None or len(said.x) != problem.d else said.x
    names = (os.path.relpath(path, beside) for path in (certificate, instance))
    command = shlex.join(["copyreg", "check", *names])
    return SolvedInstance(str(instance), problem, x, None, None, said, checked, command)


def _check_status(summary: dict[str, Any], where: Path) -> None:
    """Refuse what is no status, and put our words for it in place of those in the file."""
    known = [status.name for status in Status if status is not Status.RUNNING]
    if summary["status"] not in known:
        raise InputError(
            f"{where} has {summary['status']!r:.40} for 'status', not one of {', '.join(known)}; "
            "run the command again"
        )
    summary["explanation"] = Status[summary["status"]].explanation


def _clean_certificate(summary: dict[str, Any]) -> None:
    """Keep what the summary adds to the certificate: why claims were given up, and the costs."""
    given = summary.get("certificate")
    given = given if isinstance(given, dict) else {}
    kept: dict[str, dict[str, Any]] = {}
    for name, kind in (("given_up", str), ("reads", int | float)):
        part = given.get(name)
        part = part if isinstance(part, dict) else {}
        kept[name] = part if all(isinstance(value, kind) for value in part.values()) else {}
    # Words of a file: no checker has looked at them.
    kept["given_up"] = {name: f"the run says: {why}" for name, why in kept["given_up"].items()}
    summary["certificate"] = kept


def _read_arrays(path: Path, problem: CopyrightRegression) -> list[NDArray[np.float64]]:
    """The point and the course of the run."""
    names = ("x", "history_value", "history_gradient_norm")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if missing:
                raise InputError(f"{path} is no solution: it has no {', '.join(missing)}")
            x, value, norm = (np.asarray(file[name], np.float64) for name in names)
    except InputError:
        raise
    except Exception as error:  # damaged files make NumPy raise nearly anything
        reason = getattr(error, "strerror", None) or "it is damaged or no .npz file"
        raise InputError(f"can't read {path}: {reason}") from None
    if x.shape != (problem.d,):
        raise InputError(f"{path} has an x of shape {x.shape}; the instance has d = {problem.d}")
    if not np.isfinite(x).all():
        i = int(np.argmin(np.isfinite(x)))
        raise InputError(f"{path} has an x that is {x[i]} at entry {i}; run the command again")
    if value.ndim != 1 or value.shape != norm.shape or not math.prod(value.shape):
        raise InputError(f"{path} has a history of shapes {value.shape} and {norm.shape}")
    return [x, value, norm]
