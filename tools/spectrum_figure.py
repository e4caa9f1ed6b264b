"""The spectrum of B, for targets on the simplex and in the unit ball."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from copyreg_jax.errors import InputError
from copyreg_jax.theory import constants, statements
from figure_style import BLACK, BLUE, GRAY, VERMILLION, new_figure

_SIZES = (2, 3, 5, 10)


def curvature_spectrum(num_samples: int = 160, seed: int = 0) -> Figure:
    r"""Smallest and largest eigenvalues of B, with the proved and the printed bounds.

    B is the Hessian of 0.5 ell by the logits (Definition 11, corrected). A softmax f is drawn for
    n = 2, 3, 5, 10; its target b at random, and once more to make the eigenvalue extreme.

    Parameters
    ----------
    num_samples : int
        How many f for each kind of target.
    seed : int

    Returns
    -------
    matplotlib.figure.Figure
        Panels for b on the simplex and for ``||b||_2 <= 1``, and one with the printed bounds. The
        artists' gids are random, adversarial, two-point, proved and printed.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    InputError
        num_samples is below one for each n.

    Notes
    -----
    For n = 2, f = (p, 1 - p) and s = p (1 - p), the eigenvalue of B that is not zero is
    ``12 s^2 - 2 s +- 2 r s sqrt(1 - 4 s)`` at the extreme targets, r = 1 on the simplex and
    sqrt(2) in the ball. Cost O(num_samples n^4).

    Examples
    --------
    >>> figure = curvature_spectrum(num_samples=8)
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['$\\max_i\\, f_i$', '$\\max_i\\, f_i$', '']
    """
    if num_samples < len(_SIZES):
        raise InputError(f"num_samples is {num_samples}; give at least {len(_SIZES)}")
    figure = new_figure(9.6, 4.3)
    panels = figure.subplots(1, 3, width_ratios=(4, 4, 1.1))
    figure.suptitle("All eigenvalues of B lie in a short interval, whatever n is", fontsize=13)
    kinds = ("random", "random b", GRAY, 2.5), ("adversarial", "worst b for f", BLUE, 3.0)
    targets = ("b on the simplex", False, [0.2, 0.8]), (r"$||b||_2 \leq 1$", True, [0.6, -0.8])
    for axes, (name, in_ball, b) in zip(panels[:2], targets, strict=True):
        drawn = _samples(np.random.default_rng(seed), num_samples, in_ball)
        for (f_max, values), (gid, label, color, size) in zip(drawn, kinds, strict=True):
            style: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgewidth": 0}
            axes.plot(f_max, values, **style, markersize=size, color=color, label=label, gid=gid)
        p, extremes = _two_point(in_ball)
        for side, label in zip(extremes, ("worst b, n = 2", "_"), strict=True):
            axes.plot(p, side, color=BLACK, linewidth=1.2, label=label, gid="two-point")
        proved = constants.curvature_range(np.array(b))
        for level, offset, place in zip(proved, (-3, 3), ("top", "bottom"), strict=True):
            axes.axhline(level, color=VERMILLION, linestyle="--", gid="proved")
            axes.annotate(
                f"proved: {level:.3f}",
                (0.12, level),
                (0, offset),
                textcoords="offset points",
                color=VERMILLION,
                va=place,
            )
        axes.set(xlim=(0.1, 1.01), ylim=(-0.4, 0.44), xlabel=r"$\max_i\, f_i$")
        axes.set_title(f"{name}: within {proved.lower:.3f} and {proved.upper:.3f}", fontsize=11)
    panels[0].set_ylabel("smallest and largest eigenvalue of B")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)

    scale, printed = panels[2], constants.PRINTED_CURVATURE
    scale.axhspan(proved.lower, proved.upper, color=BLUE, linewidth=0, gid="proved")
    for level, offset, place in zip(printed, (-3, 3), ("top", "bottom"), strict=True):
        scale.axhline(level, color=BLACK, linestyle="-.", gid="printed")
        scale.annotate(
            f"printed: {level:g}",
            (0.5, level),
            (0, offset),
            textcoords="offset points",
            ha="center",
            va=place,
        )
    scale.annotate(
        "proved",
        (0.5, proved.upper),
        (0, 3),
        textcoords="offset points",
        ha="center",
        color=BLUE,
    )
    scale.set(xlim=(0, 1), ylim=(-5.5, 9.5), xticks=[])
    scale.set_title("to scale", fontsize=11)
    return figure


def _two_point(in_ball: bool) -> tuple[np.ndarray, np.ndarray]:
    """For n = 2: p and the (2, m) extreme eigenvalues of B for f = (p, 1 - p), over b.

    It is linear in b_1 - b_2, so the extremes are where that difference is extreme.
    """
    p = np.linspace(0.5, 1, 501)
    b = np.array([1.0, -1.0]) / math.sqrt(2) if in_ball else np.array([1.0, 0.0])
    f = np.stack([p, 1 - p], axis=1)
    either = [_eigenvalues(f, np.broadcast_to(target, f.shape)) for target in (b, b[::-1])]
    values = np.concatenate(either, axis=1)
    return p, np.stack([values.min(axis=1), values.max(axis=1)])


def _eigenvalues(f: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Eigenvalues of the right B for each row of f and b: (m, n), ascending."""
    return np.linalg.eigvalsh(_B(f, b))


def _B(f: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(_compiled_B(jnp.asarray(f), jnp.asarray(b)), np.float64)


@jax.jit
@jax.vmap
def _compiled_B(f: Any, b: Any) -> Any:
    return statements.b_matrix(f, b, jnp.ones_like(f), "corrected")


def _samples(rng: np.random.Generator, num_samples: int, in_ball: bool) -> list[np.ndarray]:
    """Pairs (max f, eigenvalue) for random b and for the worst b: two (2, m) arrays."""
    random, worst = [], []
    for n, part in zip(_SIZES, np.array_split(np.arange(num_samples), len(_SIZES)), strict=True):
        m = len(part)
        f = _dirichlet(rng, m, n)
        if in_ball:
            b = rng.normal(size=(m, n))
            b *= rng.uniform(size=(m, 1)) ** (1 / n) / np.linalg.norm(b, axis=1, keepdims=True)
        else:
            b = _dirichlet(rng, m, n)
        random += [(f, _eigenvalues(f, b)[:, end]) for end in (0, -1)]
        search = _worst_in_ball if in_ball else _worst_on_simplex
        worst += [(f, search(f, end)) for end in (0, -1)]
    return [
        np.concatenate([np.stack([f.max(axis=1), value]) for f, value in kind], axis=1)
        for kind in (random, worst)
    ]


def _dirichlet(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    """From nearly uniform to nearly one-hot."""
    logits = rng.normal(size=(m, n)) * rng.uniform(0, 3, size=(m, 1))
    return np.asarray(jax.nn.softmax(jnp.asarray(logits), axis=1), np.float64)


def _worst_on_simplex(f: np.ndarray, end: int) -> np.ndarray:
    """Extreme eigenvalue over b: B is linear in b, so it is reached at a vertex."""
    vertices = np.eye(f.shape[1])
    ends = [_eigenvalues(f, np.broadcast_to(b, f.shape))[:, end] for b in vertices]
    return np.min(ends, axis=0) if end == 0 else np.max(ends, axis=0)


def _worst_in_ball(f: np.ndarray, end: int) -> np.ndarray:
    """Extreme eigenvalue over b, from 2n starts, by turns: best b for a direction v, best v.

    b enters ``v^T B v`` as ``-<b, f''>``, with f'' the second derivative of f along v.
    """
    sign = 1 if end == 0 else -1
    n = f.shape[1]
    best = _eigenvalues(f, np.zeros_like(f))[:, end]
    for start in (*np.eye(n), *-np.eye(n)):
        b = np.broadcast_to(start, f.shape)
        for _ in range(12):
            v = np.linalg.eigh(_B(f, b))[1][:, :, end]
            v = v - (f * v).sum(axis=1, keepdims=True)
            second = f * (v**2 - (f * v**2).sum(axis=1, keepdims=True))
            b = sign * second / np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-300)
        values = _eigenvalues(f, b)[:, end]
        best = np.minimum(best, values) if end == 0 else np.maximum(best, values)
    return best
