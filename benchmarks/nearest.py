"""Speed and accuracy of `classify`: python benchmarks/nearest.py [--train 100] [--test 20].

The texts are those of the 9 publishers of the news set, which are the labels: so many of each to
learn from, and to label. Texts that are there twice are left out. Speed is that of gzip, beside the
bare calls of zlib for the same pairs on as many threads or processes; runs are interleaved and the
medians compared. Accuracy stands beside logistic regression on tf-idf of words.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import statistics
import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from copyreg_jax.bench.tables import processor
from copyreg_jax.errors import WindowWarning
from copyreg_jax.lm.corpus.loading import load_documents
from copyreg_jax.neighbours.nearest import COMPRESSORS, classify

_WORKERS = os.cpu_count() or 1
Texts = list[str]


def draw(train: int, test: int, seed: int) -> tuple[Texts, Texts, Texts, Texts]:
    """Texts and labels, so many of each publisher, drawn by hashing names."""
    of_publisher = defaultdict(list)
    for document in {
        document.text: document for document in load_documents("news").documents
    }.values():
        key = hashlib.sha256(f"{seed} {document.name}".encode()).hexdigest()
        of_publisher[document.source].append((key, document.text))
    parts: tuple[Texts, Texts, Texts, Texts] = ([], [], [], [])
    for publisher, texts in sorted(of_publisher.items()):
        ordered = [text for _, text in sorted(texts)]
        for i, chosen in enumerate((ordered[:train], ordered[train : train + test])):
            parts[2 * i].extend(chosen)
            parts[2 * i + 1].extend([publisher] * len(chosen))
    return parts


def bare(task: tuple[bytes, list[bytes]]) -> int:
    """Compress one text before each of the others, with nothing else around it."""
    first, seconds = task
    return sum(len(zlib.compress(first + b" " + second, 9)) for second in seconds)


def run_bare(pool: Executor, train: Texts, test: Texts) -> None:
    """Make the bare calls for all pairs."""
    seconds = [text.encode() for text in train]
    with pool:
        list(pool.map(bare, [(text.encode(), seconds) for text in test]))


def measure_speed(train: Texts, labels: Texts, test: Texts, repeats: int) -> dict[str, Any]:
    """Median seconds of each way, and the speed of `classify` relative to the bare calls."""
    fork = multiprocessing.get_context("fork")
    ways: dict[str, Callable[[], object]] = {
        "zlib on threads": lambda: run_bare(ThreadPoolExecutor(_WORKERS), train, test),
        "zlib on processes": lambda: run_bare(
            ProcessPoolExecutor(_WORKERS, mp_context=fork), train, test
        ),
        "classify": lambda: classify(train, labels, test),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = min(value for name, value in medians.items() if name != "classify")
    return {
        "pairs": len(train) * len(test),
        "seconds": medians,
        "speed relative to the faster of the bare ones": fastest / medians["classify"],
    }


def measure_accuracy(
    train: Texts, train_labels: Texts, test: Texts, test_labels: Texts, compressors: list[str]
) -> dict[str, Any]:
    """Share of right labels; "either of two" counts the tied votes of k = 2 as right."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def share(guesses: Any) -> float:
        return statistics.mean(a == b for a, b in zip(guesses, test_labels, strict=True))

    rows: dict[str, Any] = {}
    for name in compressors:
        start = time.perf_counter()
        found = classify(train, train_labels, test, 5, name)
        voters = [[train_labels[i] for i in row] for row in found.neighbours]
        rows[name] = {
            "k = 1": share(row[0] for row in voters),  # and k = 2, by the rule for ties
            "k = 2, either of two": statistics.mean(
                right in row[:2] for row, right in zip(voters, test_labels, strict=True)
            ),
            "k = 5": share(found.labels),
            "ties for k = 5": sum(len(labels) > 1 for labels in found.candidates),
            "seconds": time.perf_counter() - start,
            "pairs beyond the window": found.num_beyond_window,
        }
    start = time.perf_counter()
    vectors = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=100, max_iter=1000).fit(vectors.fit_transform(train), train_labels)
    guesses = model.predict(vectors.transform(test))
    rows["tf-idf, linear"] = {"accuracy": share(guesses), "seconds": time.perf_counter() - start}
    return rows


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--test", type=int, default=20)
    parser.add_argument("--speed-test", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compressors", nargs="*", default=list(COMPRESSORS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", WindowWarning)  # the numbers of pairs are in the output
    train, train_labels, test, test_labels = draw(args.train, args.test, args.seed)
    result = {
        "machine": f"{processor()}, {_WORKERS} cores, Python {platform.python_version()}, "
        f"zlib {zlib.ZLIB_RUNTIME_VERSION}",
        "options": {key: value for key, value in vars(args).items() if key != "out"},
        "speed": measure_speed(
            train, train_labels, draw(args.train, args.speed_test, args.seed)[2], args.repeats
        ),
        "accuracy": measure_accuracy(train, train_labels, test, test_labels, args.compressors),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
