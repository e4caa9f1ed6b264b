"""Membership scores of works in words, and as a section of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from copyreg_jax._pages import counted, percent, table
from copyreg_jax.lm.leakage.calibration import CONFIDENCE
from copyreg_jax.lm.leakage.phrases import interval
from copyreg_jax.lm.leakage.wording import SCORES

__all__ = ["few_texts", "membership_section"]

_ABOUT = (
    "A membership score is one number for each text, from the probabilities that the model gives "
    "the true tokens. It is smaller for a text that looks as if the model was trained on it. AUROC "
    "is the probability that a work has a smaller one than a held-out text: 0.5 means that the "
    "score tells nothing, 1 that it tells each work from each held-out text. The interval has, "
    f"with a confidence of {percent(CONFIDENCE)}, the AUROC of these works against all texts that "
    "those held out are a sample of; it says nothing of other works. The p-value is the chance of "
    "such an AUROC among works that the model has never seen, if these are of the same kind as the "
    "held-out texts. If they are of another kind, that alone can make it large."
)


def few_texts(found: Mapping[str, Any], alpha: float) -> str:
    r"""Say that no error rate follows, where no p-value could be as small as alpha; else nothing.

    Examples
    --------
    >>> few_texts({"num_works": 1, "num_held_out": 9}, 0.01)
    'No error rate of 1\xa0% follows from so few texts: no p-value can be below 0.1.'
    >>> few_texts({"num_works": 1, "num_held_out": 99}, 0.01)
    ''
    """
    orders = math.comb(found["num_works"] + found["num_held_out"], found["num_works"])
    if Fraction(alpha) * orders >= 1:  # of many texts there are more orders than floats say
        return ""
    return (
        f"No error rate of {percent(alpha)} follows from so few texts: no p-value can be below "
        f"{1 / orders:.2g}."
    )


def membership_section(found: Mapping[str, Any] | None, alpha: float) -> str:
    """Make a section of a page of what `compare_works` has found; empty for None.

    Parameters
    ----------
    found : mapping or None
        The fields of `work_membership.WorkMembership`.
    alpha : float
        The false-positive rate of the audit.

    Examples
    --------
    >>> one = {"auroc": 0.875, "lower": 0.51, "upper": 1.0, "p_value": 0.1}
    >>> one |= {"found_at_1_percent": None, "found_at_10_percent": None}
    >>> found = {"num_works": 1, "num_held_out": 9, "num_tokens": 77, "scores": {"loss": one}}
    >>> membership_section(found, alpha=0.01).partition("<tbody>")[2].partition("</tbody>")[0]
    '<tr><th scope=row>loss<td>0.875<td>0.510 to 1.000<td>0.1<td>too few texts<td>too few texts'
    """
    if found is None:
        return ""
    rows = [
        (SCORES[name], [
            f"{one['auroc']:.3f}", interval(one["lower"], one["upper"]), f"{one['p_value']:.2g}",
            _share(one["found_at_1_percent"]), _share(one["found_at_10_percent"]),
        ])
        for name, one in found["scores"].items()
    ]  # fmt: skip
    columns = (
        "AUROC",
        f"{percent(CONFIDENCE)} interval",
        "p-value",
        "Found with 1\u00a0% false alarms",
        "With 10\u00a0%",
    )
    measured = (
        f"{counted(found['num_works'], 'work')} against "
        f"{counted(found['num_held_out'], 'held-out text')}, "
        f"{counted(found['num_tokens'], 'token')} of each. {few_texts(found, alpha)}"
    )
    return (
        '<section aria-labelledby="membership"><h2 id="membership">Membership scores</h2>\n'
        f"<p>{_ABOUT}</p>\n<p>{measured.strip()}</p>\n"
        f"{table('Works against held-out texts', columns, rows)}</section>"
    )


def _share(share: float | None) -> str:
    return "too few texts" if share is None else percent(share)
