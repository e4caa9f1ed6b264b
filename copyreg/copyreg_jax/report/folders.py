"""From the files that a command wrote to a page about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from copyreg_jax.errors import InputError

__all__ = ["GLOBAL", "LEMMAS", "SOLVE", "TRAIN", "certified_page", "command_of", "folder_page"]

SOLVE, TRAIN, LEMMAS = "copyreg solve", "copyreg train", "copyreg lemmas"

GLOBAL = "global.json"
"""The certificate of the global minimum, which ``copyreg solve --global`` writes."""

_MARKS = {"summary.json": SOLVE, "run.json": TRAIN, "lemmas.json": LEMMAS}
"""The file that each command writes when its results are whole."""


def command_of(folder: Path) -> str:
    """Name the command whose results a folder has.

    Raises
    ------
    InputError
        There are no results, or those of several commands.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name the --out of {', '.join(_MARKS.values())}")
    found = [mark for mark in _MARKS if (folder / mark).is_file()]
    if not found:
        raise InputError(
            f"{folder} has none of {', '.join(_MARKS)}; name the folder --out of a finished "
            f"{', '.join(_MARKS.values())}"
        )
    if len(found) > 1:
        raise InputError(
            f"{folder} has results of several commands: {', '.join(found)}; move all but one's "
            "elsewhere"
        )
    return _MARKS[found[0]]


def folder_page(
    folder: Path,
    *,
    instance: Path | None = None,
    gamma_path: bool = False,
    progress: Callable[[str], object] = lambda stage: None,
) -> str:
    """Make a page of the results of ``copyreg solve``, ``copyreg train`` or ``copyreg lemmas``.

    Parameters
    ----------
    folder : path
        The ``--out`` of the command.
    instance : path, optional
        The instance that was solved, if it is not in the folder.
    gamma_path : bool, default False
        Also solve for other gammas, `gamma_path.NUM_SOLVES` times.
    progress : callable, optional
        Called with a description of what is being done.

    Returns
    -------
    str
        HTML, all in one file.

    Raises
    ------
    InputError
        The folder has no such results, or damaged ones.

    Notes
    -----
    For a solution, JAX's 64-bit mode must be on.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"where": "Lemma 1", "says": "x > 0", "reading": "joint", "verdict": "fails"}
    >>> row |= {"worst": 2.0, "scale": "ratio", "slack_log10": -0.3}
    >>> row |= {"num_random": 9, "num_climbed": 1}
    >>> content = {
    ...     "seed": 0, "num_printed": 1, "rows": [row, row | {"verdict": "holds", "worst": 0.5}],
    ...     "verdicts": {"Lemma 1": "fails"}, "replacements_hold": True,
    ... }
    >>> with tempfile.TemporaryDirectory() as name:
    ...     _ = (Path(name) / "lemmas.json").write_text(json.dumps(content))
    ...     page = folder_page(Path(name))
    >>> page.partition("<title>")[2].partition("</title>")[0]
    'What the paper says and what holds'
    """
    command = command_of(folder)
    if command != SOLVE and (gamma_path or instance is not None):
        option = "--gamma-path" if gamma_path else "--instance"
        raise InputError(f"{option} is for results of {SOLVE}; {folder} has those of {command}")
    if command == TRAIN:
        from copyreg_jax.report.read_training import read_training
        from copyreg_jax.report.training_page import training_page

        return training_page(read_training(folder, progress))
    if command == LEMMAS:
        from copyreg_jax.report.lemmas_page import lemmas_page, read_lemmas

        return lemmas_page(read_lemmas(folder))
    from copyreg_jax.report.gamma_path import NUM_SOLVES, find_path
    from copyreg_jax.report.global_section import check_globally
    from copyreg_jax.report.read_solution import INSTANCE, read_solution
    from copyreg_jax.report.run_sections import spectrum
    from copyreg_jax.report.solution_page import solution_page

    found = read_solution(folder, instance, progress)
    minimum = None
    if (folder / GLOBAL).exists():
        place = folder / INSTANCE if instance is None else instance
        minimum = check_globally(folder / GLOBAL, place, folder, progress)
    progress("computing the spectrum")
    eigenvalues = spectrum(found.problem, found.x)
    path = None
    if gamma_path:
        path = find_path(
            found.problem,
            found.x,
            lambda done: progress(f"path of gamma: {done} of {NUM_SOLVES} solves done"),
        )
    progress("writing")
    return solution_page(found, eigenvalues, path, minimum)


def certified_page(
    certificate: Path, instance: Path, progress: Callable[[str], object] = lambda stage: None
) -> str:
    """Make a page of a certificate, to be put beside it; no run of a solver is known.

    Parameters
    ----------
    certificate, instance : path
    progress : callable, optional
        Called with a description of what is being done.

    Raises
    ------
    InputError
        The instance can't be read.

    Examples
    --------
    >>> import tempfile
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> with tempfile.TemporaryDirectory() as name:
    ...     certificate, instance = Path(name) / "certificate.json", Path(name) / "instance.npz"
    ...     cr.certify(problem, [-1.0]).save(certificate)
    ...     cr.save_instance(instance, problem)
    ...     page = certified_page(certificate, instance)
    >>> page.partition("<h1>")[2].partition("</h1>")[0]
    'CERTIFIED (margin &gt; 0); the protected mass went DOWN: about 0.09003 of f, 0.7 of b.'
    """
    from copyreg_jax.report.read_solution import read_certified
    from copyreg_jax.report.run_sections import spectrum
    from copyreg_jax.report.solution_page import solution_page

    found = read_certified(certificate, instance, certificate.parent, progress=progress)
    progress("computing the spectrum")
    return solution_page(found, spectrum(found.problem, found.x))
