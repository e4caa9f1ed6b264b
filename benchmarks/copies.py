"""How the risk of a text grows with its copies in the training set.

    python benchmarks/copies.py [--seeds 2] [--out FOLDER] [--models FOLDER]

The texts and the model of benchmarks/protection.py. How many times a protected document is in the
training set, 0, 1, 4, 16 or 64 times, is drawn by the seed, with equal numbers of documents for
each; near-duplicates get the same number. So texts with many copies differ from those with few in
nothing but the copies. Three models are trained: without protection, with a protected loss
calibrated to TARGET, and without the protected text.

FOLDER/copies-windows.csv has each suffix, and what is in it is not trained again; copies.csv has
the means of all seeds with intervals of 95 %, some of which copies.png shows, and the power of the
audit's test of what is memorized. Means have bootstrap
intervals over documents, shares those of Clopper and Pearson.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from protection import PROTECTED, Reference, options_of, prepare_news, train, write_table
from scipy.stats import binomtest, bootstrap

from copyreg_jax.lm.corpus.duplicates import near_duplicates
from copyreg_jax.lm.leakage.calibration import conformal_p_values
from copyreg_jax.lm.leakage.extraction import extract
from copyreg_jax.lm.leakage.windows import choose_windows
from copyreg_jax.lm.prepared import Prepared

LEVELS, TARGET = (0, 1, 4, 16, 64), 5.0
"""Copies, and the protected loss in nats per token, which is about that of text never seen."""
EXTRACTED = 1e-3
"""A suffix counts as extracted from this p_z on (Cooper et al., 2025)."""
ALPHA = 0.1
"""Level of the test for memory: with ten unseen suffixes no p-value is below 1/11."""
SEED, RESAMPLES = 0, 2000
ARMS = {"no protection": "k", "target 5": "C3", "left out": "0.5"}
"""The arms and their colors."""


def draw_copies(
    protected: NDArray[np.bool_], clusters: NDArray[Any], seed: int
) -> NDArray[np.int64]:
    """Copies of each document: a number of LEVELS for a protected one, and 1 for the others."""
    names, number = np.unique(clusters[protected], return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(np.arange(len(names)) % len(LEVELS))
    copies = np.ones(len(protected), np.int64)
    copies[protected] = np.array(LEVELS)[drawn[number]]
    return copies


def windows_of(model: Any, prepared: Prepared, copies: NDArray[Any]) -> Iterator[dict[str, Any]]:
    """Yield what a model makes of the suffix of each protected document."""
    texts = [document.text for document in prepared.documents]
    protected = prepared.split.protected
    windows = choose_windows(prepared.rows, texts, protected, max_windows=2 * PROTECTED)
    found = extract(model, prepared.tokenizer, windows)
    for number, log_p, exact in zip(found.document, found.log_p, found.exact, strict=True):
        yield {
            "document": int(number), "copies": int(copies[number]),
            "log2_p": float(log_p / np.log(2)), "exact": int(exact),
        }  # fmt: skip


def p_value(row: dict[str, str], rows: list[dict[str, str]]) -> float:
    """Conformal p-value of a suffix against others that the same model has seen in no copy."""
    unseen = [
        float(other["log2_p"])
        for other in rows
        if (other["seed"], other["arm"], other["copies"]) == (row["seed"], row["arm"], "0")
        and other["document"] != row["document"]
    ]
    found = conformal_p_values([float(row["log2_p"])], unseen) if unseen else np.ones(1)
    return float(found[0])


def curve(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Means and intervals of each arm and number of copies.

    A suffix counts as memorized if its conformal p-value is at most ALPHA against those of the same
    model and seed that are in no copy: the power of that test, and with 0 copies its false alarms.
    """
    found = []
    for arm in ARMS:
        for copies in LEVELS:
            mine = [r for r in rows if r["arm"] == arm and int(r["copies"]) == copies]
            if len(mine) < 2:
                continue
            log2_p = np.array([float(r["log2_p"]) for r in mine])
            mean = bootstrap(
                (log2_p,), np.mean, n_resamples=RESAMPLES, method="percentile",
                rng=np.random.default_rng(SEED),
            ).confidence_interval  # fmt: skip
            row = {"arm": arm, "copies": copies, "documents": len(mine), "log2_p": log2_p.mean()}
            row |= {"log2_p_lower": mean.low, "log2_p_upper": mean.high}
            shares = {
                "extracted": log2_p >= np.log2(EXTRACTED),
                "exact": np.array([r["exact"] == "1" for r in mine]),
                "memorized": np.array([p_value(r, rows) <= ALPHA for r in mine]),
            }
            for name, true in shares.items():
                share = binomtest(int(true.sum()), len(true)).proportion_ci()
                row[name] = true.mean()
                row |= {f"{name}_lower": share.low, f"{name}_upper": share.high}
            found.append({k: v.item() if hasattr(v, "item") else v for k, v in row.items()})
    return found


def plot(points: list[dict[str, Any]], path: Path) -> None:
    """Risk against copies."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    panels = ("log2_p", "log2 p of a suffix, mean"), ("extracted", "share with p >= 0.001")
    for axis, (column, label) in zip(axes, panels, strict=True):
        for shift, (arm, color) in enumerate(ARMS.items()):
            mine = [point for point in points if point["arm"] == arm]
            if not mine:
                continue
            middle, low, high = (
                np.array([p[column + end] for p in mine]) for end in ("", "_lower", "_upper")
            )
            places = [LEVELS.index(p["copies"]) + 0.06 * (shift - 1) for p in mine]
            axis.errorbar(
                places, middle, [middle - low, high - middle], fmt="o-", color=color, label=arm,
                ms=4, lw=1, capsize=2,
            )  # fmt: skip
        axis.set_xticks(range(len(LEVELS)), map(str, LEVELS))
        axis.set_xlabel("copies in the training set")
        axis.set_ylabel(label)
    axes[1].set_ylim(-0.03, 1.03)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Train what is missing, then draw the curves."""
    options = options_of(__doc__.splitlines()[0])
    table = options.out / "copies-windows.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    done = {(row["seed"], row["arm"]) for row in rows}
    for seed in range(options.seeds):
        prepared = prepare_news(seed)
        reference = Reference(prepared, seed, options.models)
        clusters = near_duplicates([document.text for document in prepared.documents])
        copies = draw_copies(prepared.split.protected, clusters, seed)
        ways = (
            lambda p=prepared, s=seed, c=copies: train(p, s, c),
            lambda p=prepared, s=seed, c=copies: train(p, s, c, target_loss=TARGET),
            reference.left_out,
        )
        for arm, make in zip(ARMS, ways, strict=True):
            if (str(seed), arm) in done:
                continue
            for row in windows_of(make(), prepared, copies):
                rows.append({k: str(v) for k, v in ({"seed": seed, "arm": arm} | row).items()})
            write_table(table, rows)
            print(seed, arm, flush=True)
    points = curve(rows)
    write_table(options.out / "copies.csv", points)
    plot(points, options.out / "copies.png")


if __name__ == "__main__":
    main()
