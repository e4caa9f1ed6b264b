"""Figures: the spectrum of B, L along one and over two dimensions, and the search for its minimum.

They need matplotlib. ``python tools/curvature_figures.py docs/theory/figures``
writes those of the documentation.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from boxes_figures import boxes_1d, boxes_2d
from copyreg_jax._files import write_whole
from copyreg_jax.errors import InputError
from figure_style import require_matplotlib, svg
from landscape_figures import landscape_1d, landscape_2d
from spectrum_figure import curvature_spectrum


def write_figures(folder: str | Path) -> list[Path]:
    """Write curvature-spectrum.svg, and landscapes and boxes, each for d = 1 and d = 2.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there.

    Returns
    -------
    list of Path
        The files, each written whole or not at all; the same bytes every time.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    InputError
        The folder can't be written to.

    Notes
    -----
    Those of the documentation are made in JAX's 64-bit mode. About 20 s.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.stem for path in write_figures(folder)]
    ['boxes-1d', 'boxes-2d', 'curvature-spectrum', 'landscape-1d', 'landscape-2d']
    """
    require_matplotlib()
    folder = Path(folder)
    try:  # before the work, not after it
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"can't write to {str(folder)!r}: {reason}") from None
    paths = []
    for name, draw in _FIGURES.items():
        paths.append(folder / f"{name}.svg")
        write_whole(paths[-1], svg(draw))
    return paths


_FIGURES: dict[str, Callable[[], Figure]] = {
    "boxes-1d": boxes_1d,
    "boxes-2d": boxes_2d,
    "curvature-spectrum": curvature_spectrum,
    "landscape-1d": landscape_1d,
    "landscape-2d": landscape_2d,
}


def main(arguments: list[str] | None = None) -> int:
    """Write the figures from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python tools/curvature_figures.py",
        description="Write the figures of docs/theory: 0 written, 2 not.",
    )
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    try:
        for path in write_figures(options.folder):
            print(path)
    except (InputError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
