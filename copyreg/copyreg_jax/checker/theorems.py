"""What holds at every point: the least loss, the margin of a level set, the paper's tau_c."""

from __future__ import annotations

from flint import arb

from copyreg_jax.checker.arithmetic import lower, sum_balls
from copyreg_jax.checker.data import LEFT_OUT, Instance
from copyreg_jax.checker.proofs import square

__all__ = ["least_loss", "level_set_tau", "paper_tau"]


def least_loss(data: Instance) -> arb:
    """A lower bound of ``h ell + gamma/ell_1`` everywhere, or of ``h ell_2``."""
    if data.reading == LEFT_OUT:
        return arb(0)
    gamma = arb(data.gamma)
    if data.metric == "cross-entropy":  # ell_1 <= ell, and ell is least at f = b / sum b
        mass = sum_balls(map(arb, data.b.tolist()))
        ell = mass * mass.log() - sum_balls(v * v.log() for v in map(arb, data.b.tolist()) if v > 0)
        if ell > gamma.sqrt():
            return ell + gamma / ell
        return 2 * gamma.sqrt()
    if data.reading == "joint":  # 0.5 ell_1 <= 0.5 ell
        return (2 * gamma).sqrt()
    b = map(arb, data.b[data.protected].tolist())
    return gamma / sum_balls(square(arb.max(abs(v), abs(1 - v))) for v in b)


def level_set_tau(n: int, n1: int, gamma: float, reading: str, metric: str, value: float) -> float:
    """A tau such that every x' with ``L(x') <= value`` has margin at least tau.

    With t = ell_1(x'), ``margin >= h(t) = n t/(n1 n2) + c gamma/(n2 t) - c value/n2``; c is 2 for
    the squared distance, 1 for cross-entropy. Where ell_2 >= 0, t lies in [t-, t+], the roots of
    ``t^2 - c value t + c gamma``; under the block reading of the squared distance, t >=
    gamma/value. h is convex with its minimum at sqrt(c gamma n1/n).

    Examples
    --------
    >>> tau = level_set_tau(n=2, n1=1, gamma=0.5, reading="joint", metric="squared", value=1.0)
    >>> round(tau, 6)  # L = 0.5 ell + 0.5 / ell_1 is 1 for ell_1 = ell = 1 alone
    1.0
    """
    n2, c = n - n1, 2 if metric == "squared" else 1
    L, exact_gamma = arb(value), arb(gamma)
    if gamma == 0:
        return lower(-c * L / n2)

    def h(t: arb) -> arb:
        return n * t / (n1 * n2) + c * exact_gamma / (n2 * t) - c * L / n2

    # h(best) bounds h from below for every t > 0, so it is moved on a *proved* comparison only.
    best = (c * exact_gamma * n1 / n).sqrt()
    if reading == "joint" or metric == "cross-entropy":
        half = c * L / 2
        high = half + (square(half) - c * exact_gamma).nonnegative_part().sqrt()
        low = c * exact_gamma / high
        if best > high:
            best = high
    else:
        low = exact_gamma / L
    if best < low:
        best = low
    return lower(h(best))


def paper_tau(n: int, n1: int, gamma: float, eps_2: float) -> arb:
    """``sqrt(2 gamma)/n1 - eps_2/n2`` of Theorem 16, as a ball.

    Examples
    --------
    >>> round(float(paper_tau(n=10, n1=2, gamma=0.5, eps_2=0.8)), 6)  # 1 / 2 - 0.8 / 8
    0.4
    """
    return (2 * arb(gamma)).sqrt() / n1 - arb(eps_2) / (n - n1)
