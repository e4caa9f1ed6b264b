"""The page of ``copyreg train``: what the model makes of protected text, and what is proved.

What it says of the certificate is what the checker found when the page was made.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copyreg_jax._pages import (
    bar,
    claim,
    commands,
    counted,
    escape,
    facts,
    make_page,
    number,
    plain,
    quoted,
    resource,
    sections,
    table,
    wide,
)
from copyreg_jax.certificates.words import above, below
from copyreg_jax.checker.guarantee import TrainingCertificate
from copyreg_jax.checker.verdicts import CheckResult, Verdict
from copyreg_jax.lm.records import CERTIFICATE, Outcome
from copyreg_jax.report.charts import Axis, Series, draw
from copyreg_jax.report.searchable import keep, searchable

__all__ = ["TrainedModel", "training_page"]

_BEST_KNOWN = 8

_ARMS = {
    "protected": "trained with a protection term",
    "unprotected": "trained without protection",
    "left out": "trained without the protected documents",
}

_GLOSSARY = {
    "nats per token": "How badly the model predicts a text: the mean of -log of the probability "
    "that it gives each token, after those before. A smaller number is text that it knows better.",
    "CE, CE_1, CE_2": "This mean over all tokens of the training set, over the protected ones, and "
    "over the others.",
    "held out": "Documents that were not trained on. They show what unknown text costs, if they "
    "are of the same kind.",
    "gamma": "The weight of the protection term gamma / CE_1 in the training loss.",
    "CERTIFIED, REFUTED, UNDECIDED, VOID": "The statement is proved; it is proved to be false; "
    "neither was proved; nothing was tested.",
}

_NOT_PROVED = (
    "That this model has the losses in the certificate. Whoever has the texts measures them again "
    "with copyreg audit.",
    "The losses of held-out documents. They are in no certificate; copyreg audit measures them.",
    "Anything about a single document. The guarantee is about a mean over all protected tokens.",
    "That the model can't be made to write protected text. copyreg audit measures that.",
)


_UNPROVED = {"Held out": " (no certificate covers this)"}
"""What a bar says beside its number."""


class TrainedModel(NamedTuple):
    """What a page of a run is made of.

    Attributes
    ----------
    name : str
        The folder as it was given.
    arm : str
        "protected", "unprotected" or "left out".
    outcome : Outcome
    num_tokens : (n,) array of int
        How many each document has.
    settings : dict
    curves : dict of arrays
        From `read_curves`.
    certificate : TrainingCertificate or None
        What the file says; None if there is none or it can't be read.
    checked : CheckResult or None
        What the checker found; None if there is no certificate.
    """

    name: str
    arm: str
    outcome: Outcome
    num_tokens: NDArray[np.int64]
    settings: dict[str, Any]
    curves: dict[str, NDArray[np.float64]]
    certificate: TrainingCertificate | None
    checked: CheckResult | None

    def mean(self, group: NDArray[np.bool_]) -> float:
        """Nats per token of the documents of a group that are no canaries; NaN if it is empty."""
        canaries = self.outcome.canaries
        own = [] if canaries is None else [one.name for one in canaries.documents]
        chosen = group & ~np.isin(self.outcome.names, own)
        tokens = self.num_tokens[chosen].sum()
        return float(self.outcome.nll[chosen].sum() / tokens) if tokens else float("nan")


def training_page(found: TrainedModel) -> str:
    """Make the page: HTML, all in one file."""
    outcome = found.outcome
    losses = {
        "Protected": found.mean(outcome.protected),
        "Other": found.mean(~outcome.protected & ~outcome.held_out),
        "Held out": found.mean(outcome.held_out),
    }
    parts = {
        "The answer": _answer(found, losses),
        "How the training went": _curves(found),
        "Document by document": _documents(found),
        "The certificate in words": _words(found),
        "How to check it again": _again(found),
    }
    counts = [int(outcome.protected.sum()), int(outcome.held_out.sum())]
    about = (
        f"Run {quoted(found.name)} · {counted(len(outcome.names), 'document')}, {counts[0]:,} "
        f"protected, {counts[1]:,} held out · {_ARMS[found.arm]}"
    )
    return make_page(
        title=f"{_label(found, losses)}: {plain(found.name)}",
        kind="Report of a training run",
        heading=_heading(found, losses),
        about=about,
        main=sections(parts),
        footer="It has names of documents and no text of any. It proves nothing by itself.",
        css=resource("copyreg_jax.report", "report.css"),
        script=resource("copyreg_jax.report", "report.js"),
    )


def _way(losses: dict[str, float]) -> str:
    """Whether protected text is harder for the model than other text, in a word."""
    protected, other = losses["Protected"], losses["Other"]
    if not np.isfinite([protected, other]).all():
        return "not compared"
    return "HARDER" if protected > other else "EASIER" if protected < other else "as hard"


def _label(found: TrainedModel, losses: dict[str, float]) -> str:
    """The verdict in a few words; never without the direction."""
    way = _way(losses)
    if found.checked is None:
        return f"No certificate, {way}"
    verdict = found.checked.verdict
    if verdict is not Verdict.CERTIFIED:
        return f"{verdict.name}, {way}"
    assert found.certificate is not None
    return f"CERTIFIED, {way}" if found.certificate.tau > 0 else f"Nothing guaranteed, {way}"


def _heading(found: TrainedModel, losses: dict[str, float]) -> str:
    protected, other, way = losses["Protected"], losses["Other"], _way(losses)
    if way == "not compared":
        compared = "there is no protected text to compare with other text"
    else:
        than = "as other" if way == "as hard" else "than other"
        compared = (
            f"protected text is {way} to predict {than} text: {protected:.4f} nats per token, "
            f"other text {other:.4f}"
        )
    if found.checked is None:
        return f"No certificate; {compared}."
    verdict = found.checked.verdict
    if verdict is not Verdict.CERTIFIED:
        what = {Verdict.VOID: "nothing was tested", Verdict.REFUTED: "the certificate is false"}
        return f"{verdict.name}: {what.get(verdict, 'neither was proved')}; {compared}."
    assert found.certificate is not None
    tau = found.certificate.tau
    if tau > 0:
        return f"CERTIFIED (CE_1 - CE_2 >= {below(tau)}); {compared}."
    return f"Nothing is guaranteed (tau is {below(tau)}); {compared}."


def _answer(found: TrainedModel, losses: dict[str, float]) -> str:
    largest = max((loss for loss in losses.values() if np.isfinite(loss)), default=1.0) or 1.0
    bars = "".join(
        f"<dt>{name}<dd>{bar(loss / largest)}{loss:.4f}{_UNPROVED.get(name, '')}"
        for name, loss in losses.items()
        if np.isfinite(loss)
    )
    said = {
        "HARDER": "The model predicts protected text worse than the other text of its training.",
        "EASIER": "The model predicts protected text BETTER than the other text of its training.",
        "as hard": "The model predicts protected text as well as the other text of its training.",
    }.get(_way(losses), "There is no protected text to compare with other text.")
    detail = (
        "Nats per token, without the protection term; a longer bar is text that the model knows "
        "less. Texts differ in difficulty: harder than other text is not the same as unknown. "
        "Compare with held-out text of the same kind. Its loss is what documents.json says, and no "
        "certificate covers it."
    )
    if np.isfinite(tau := losses["Protected"] - losses["Other"]):
        detail = f"The difference, tau_CE, is {tau:+.4f}. {detail}"
    more, alarm = f'<dl class="bars">{bars}</dl>', _way(losses) == "EASIER"
    card = claim("Protected text", _way(losses), said, detail, more, alarm=alarm)
    return f'<div class="claims">{card}{_guarantee(found, losses)}</div>'


def _guarantee(found: TrainedModel, losses: dict[str, float]) -> str:
    label, checked = _label(found, losses), found.checked
    if checked is None:
        why = {
            "left out": "The protected documents were left out of the training, so there is no "
            "protection term and nothing to certify.",
            "unprotected": "The loss had no protection term, so there is nothing to certify.",
        }.get(found.arm, "The folder has no certificate.")
        return claim("Guarantee", label, "No certificate was made.", why)
    if checked.verdict is not Verdict.CERTIFIED:
        said = "Nothing that the certificate says is repeated on this page."
        failing = [line for line in checked.lines if not line.startswith("CERTIFIED")]
        return claim("Guarantee", label, said, " ".join(failing[:3]))
    certificate = found.certificate
    assert certificate is not None
    low, high = certificate.protected_range
    rest = (
        f" For such a model CE_1 is between {below(low)} and {above(high)}. The checker proved "
        "this again when this page was made, from the table of the documents in the certificate."
    )
    if certificate.tau > 0:
        said = (
            f"Every model with as small a training loss predicts protected text worse than other "
            f"text, by at least {below(certificate.tau)} nats per token."
        )
        return claim("Guarantee", label, said, f"CE_1 - CE_2 >= {below(certificate.tau)}.{rest}")
    said = "No difference between protected and other text is guaranteed."
    detail = (
        f"A model with as small a training loss may have a CE_1 - CE_2 as low as "
        f"{below(certificate.tau)}, as far as is proved.{rest}"
    )
    return claim("Guarantee", label, said, detail)


def _curves(found: TrainedModel) -> str:
    curves, target = found.curves, found.settings.get("target_loss")
    step = curves["step"]
    series = [
        Series("other text", "line", step, curves["unprotected"], "soft"),
        Series("protected text, running mean", "line", step, curves["running_protected"]),
    ]
    if isinstance(target, int | float):
        series.append(Series("target", "line", step[[0, -1]], [target, target], "ink equal"))
    x = Axis.around("step", step, is_whole=True)
    y = Axis.around("nats per token", *(one.y for one in series))
    losses = draw("losses", series, x, y, "Losses of the batches, without the protection term.")
    weight = draw(
        "weights",
        [Series("weight", "line", step, curves["weight"])],
        x,
        Axis.around("weight of a protected token", curves["weight"]),
        "1 is a token like any other, 0 one that is left out; below 0 the model unlearns it.",
    )
    rows = [
        (escape(plain(name.replace("_", " "))), escape(plain(str(value))))
        for name, value in found.settings.items()
        if value is not None
    ]
    return f'<div class="pair">{losses}{weight}</div>{facts("Settings", rows)}'


def _documents(found: TrainedModel) -> str:
    outcome = found.outcome
    each = outcome.nll / found.num_tokens
    kept = keep(outcome.protected - each / (1 + each.max()), "protected, and with the least loss,")
    groups = {
        "Protected": outcome.protected,
        "Other": ~outcome.protected & ~outcome.held_out,
        "Held out": outcome.held_out,
    }
    rows = kept.rows
    explorer = searchable(
        "all-documents",
        first="Document",
        names=[outcome.names[k] for k in rows],
        groups={name: group[rows] for name, group in groups.items()},
        numbers={"Nats per token": each[rows], "Tokens": found.num_tokens[rows]},
    )
    note = f'<p class="note">{escape(kept.note)}</p>' if kept.note else ""
    protected = np.flatnonzero(outcome.protected)
    best = protected[np.argsort(each[protected], kind="stable")[:_BEST_KNOWN]].tolist()
    title = "The protected documents that the model predicts best"
    extremes = table(
        title,
        ["Nats per token", "Tokens"],
        [
            (escape(plain(outcome.names[k])), [number(each[k]), f"{found.num_tokens[k]:,}"])
            for k in best
        ],
        first="Document",
    )
    return explorer + note + (wide(title, extremes) if best else "")


def _words(found: TrainedModel) -> str:
    proved = "<p>No certificate was proved again for this page.</p>"
    if found.checked is not None and found.checked.verdict is Verdict.CERTIFIED:
        lines = (line.partition(" ")[2] for line in found.checked.lines)
        items = "".join(f"<li>{escape(line)}" for line in lines)
        assert found.certificate is not None
        proved = (
            "<h3>Proved</h3><p>For the table of documents in the certificate, in nats per token; "
            f"loss is CE + gamma / CE_1 with gamma = {found.certificate.gamma!r}, protected is "
            "CE_1, and unprotected is CE_2.</p>"
            f"<ul>{items}</ul>"
        )
    missing = "".join(f"<li>{text}" for text in _NOT_PROVED)
    glossary = "".join(f"<dt>{name}<dd>{text}" for name, text in _GLOSSARY.items())
    return (
        f"{proved}<h3>Not proved</h3><ul>{missing}</ul><h3>How to read it</h3><dl>{glossary}</dl>"
    )


def _again(found: TrainedModel) -> str:
    lines = ["copyreg audit . --text TEXT"]
    if found.checked is not None:
        lines.insert(0, f"copyreg check {CERTIFICATE}")
    return (
        "<p>Run this in the folder of the run. The check proves the certificate again from its "
        "file, with NumPy and FLINT alone. The audit measures the losses again; it needs the text "
        f"that the run was trained on, in place of TEXT.</p>{commands(chr(10).join(lines))}"
    )
