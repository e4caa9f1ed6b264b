"""What an audit prints of membership: scores of texts, and canaries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from copyreg_jax.cli.common import output

if TYPE_CHECKING:
    from copyreg_jax.lm.leakage.exposure import Exposure
    from copyreg_jax.lm.leakage.membership import Attack
    from copyreg_jax.lm.leakage.run_membership import RunMembership
    from copyreg_jax.lm.leakage.work_membership import WorkMembership

__all__ = ["show_canaries", "show_run", "show_works"]


def show_run(found: RunMembership) -> None:
    """Print how well scores tell protected from held-out documents."""
    from copyreg_jax._pages import counted

    _line(
        f"  membership: AUROC of {counted(found.num_protected, 'protected document')} against "
        f"{counted(found.num_held_out, 'held-out one')}"
    )
    _show(found.scores)
    if found.priv_leak is not None:
        undefined = math.isnan(found.priv_leak)
        value = "undefined" if undefined else f"{found.priv_leak:+7.1f} %"
        _line(f"    {'PrivLeak':12}{value}  0: as if never seen, below 0: known")


def show_works(found: WorkMembership | None, alpha: float) -> None:
    """Print how well scores tell works from held-out texts; nothing without any."""
    from copyreg_jax._pages import counted
    from copyreg_jax.lm.leakage.membership_section import few_texts

    if found is None:
        return
    _line(
        f"membership: AUROC of {counted(found.num_works, 'work')} against "
        f"{counted(found.num_held_out, 'held-out text')}, {counted(found.num_tokens, 'token')} of "
        "each"
    )
    _show(found.scores)
    if few := few_texts(found._asdict(), alpha):
        _line(f"    {few}")


def _show(scores: Mapping[str, Attack]) -> None:
    """Print a line for each score."""
    from copyreg_jax._pages import percent
    from copyreg_jax.lm.leakage.wording import SCORES

    for name, one in scores.items():
        found = [
            "too few texts" if share is None else percent(share)
            for share in (one.found_at_1_percent, one.found_at_10_percent)
        ]
        _line(
            f"    {SCORES[name]:12}{one.auroc:7.3f}    {_interval(one)}; "
            f"p-value {one.p_value:.2g}; found with 1 % false alarms: {found[0]}, with 10 %: "
            f"{found[1]}"
        )
    _line(f"    {'':12}0.5: the score tells nothing, 1: it tells all")


def show_canaries(found: Exposure, *, left_out: bool) -> None:
    """Print what is kept of canaries; of a run that left them out, none was trained on."""
    most = math.log2(found.candidates + 1)
    how = "left out" if left_out else f"{found.copies:,} times each"
    _line(
        f"  canaries: mean exposure {_bits(found.mean)} of {found.inserted:,} that are protected, "
        f"{how}; {_bits(found.held_out_mean)} of "
        f"{found.number - found.inserted:,} held out (never seen: 1.44, most: {most:g})"
    )
    if found.attack is not None and found.epsilon is not None:
        least = math.floor(100 * found.epsilon) / 100
        bound = (
            f"this training is not (epsilon, {found.delta:g})-private, for a canary with its "
            f"copies, with an epsilon below {least:.2f} ({100 * found.confidence:g} % confidence)"
        )
        one = found.attack
        _line(
            f"    AUROC {one.auroc:.3f}, {_interval(one)}, "
            f"p-value {one.p_value:.2g}; "
            f"{bound if least > 0 else 'no bound on the privacy of the training follows'}"
        )


def _interval(found: Attack) -> str:
    from copyreg_jax.lm.leakage.calibration import CONFIDENCE
    from copyreg_jax.lm.leakage.phrases import interval

    return f"{100 * CONFIDENCE:g} %: {interval(found.lower, found.upper)}"


def _bits(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f} bits"


def _line(text: str) -> None:
    output.print(text, markup=False, soft_wrap=True)
