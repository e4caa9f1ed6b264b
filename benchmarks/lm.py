"""Speed of training: the loop of `copyreg_jax.lm.loop` beside a bare one of the same model.

    python benchmarks/lm.py [--steps 40] [--repeats 5] [--long 0] [--gpt2] [--peak 0] [--out FILE]

The model is that of `copyreg train`, a million parameters, or with ``--gpt2`` of the size of GPT-2,
for a GPU; on random tokens, nothing is padded. ``--peak`` is what the device can do, in TFLOP/s of
the dtype of the products; then the part of it that goes into the model is given too, at ``6 P + 12
layers width length`` operations a token for P parameters. The bare loop is a jitted step of plain
cross-entropy with optax.adamw, and no look at its numbers. Both are warm and interleaved; the
medians count. ``--long 10000`` also makes a run of so many steps, of small batches, and gives the
memory of the process at each tenth of it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from copyreg_jax.bench.tables import processor
from copyreg_jax.lm import loop
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.model_sources import default_dtype
from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.layers import token_nll
from copyreg_jax.lm.settings import STEPS_PER_CALL, Metrics, Settings

BATCH, LENGTH = 16, 128
SMALL = GPT2Config(vocab_size=2048, context=LENGTH, width=128, num_layers=4, num_heads=4)
LARGE = GPT2Config(vocab_size=50257, context=1024, width=768, num_layers=12, num_heads=12)


def bare(model: GPT2, tokens: np.ndarray, steps: int) -> float:
    """Tokens per second of a plain loop."""
    graph, params = nnx.split(model)
    optimizer = optax.adamw(1e-3)

    @jax.jit
    def step(params: Any, memory: Any, batch: Any) -> Any:
        def loss(params: Any) -> Any:
            return jnp.mean(token_nll(nnx.merge(graph, params)(batch[:, :-1]), batch[:, 1:]))

        updates, memory = optimizer.update(jax.grad(loss)(params), memory, params)
        return optax.apply_updates(params, updates), memory

    memory = optimizer.init(params)
    params, memory = jax.block_until_ready(step(params, memory, tokens[:BATCH]))
    begun = time.perf_counter()
    for k in range(steps):
        params, memory = step(params, memory, tokens[k * BATCH : (k + 1) * BATCH])
    jax.block_until_ready(params)
    return steps * BATCH * (tokens.shape[1] - 1) / (time.perf_counter() - begun)


def whole(model: GPT2, rows: Rows, gamma: float, steps: int) -> float:
    """Tokens per second of `fit`, after its first steps: with metrics, and a checkpoint."""
    seen: list[Metrics] = []
    settings = Settings(steps=steps + STEPS_PER_CALL, gamma=gamma, batch_size=BATCH)
    protected = np.arange(len(rows.tokens)) % 10 == 0
    with tempfile.TemporaryDirectory() as folder:
        loop.fit(model, rows, protected, settings, Path(folder) / "run", callback=seen.append)
    return seen[-1].tokens_per_second


def memory(model: GPT2, rows: Rows, steps: int) -> list[float]:
    """Resident memory in MB at each tenth of a run; about equal numbers: nothing grows. Linux."""
    found: list[float] = []

    def note(metrics: Metrics) -> None:
        if metrics.step % (steps // 10) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            found.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))

    short = rows._replace(tokens=rows.tokens[:, :33], mask=rows.mask[:, :32])
    settings = Settings(steps=steps, gamma=0.5, batch_size=4)
    protected = np.arange(len(rows.tokens)) % 10 == 0
    with tempfile.TemporaryDirectory() as folder:
        loop.fit(model, short, protected, settings, Path(folder) / "run", callback=note)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--gpt2", action="store_true")
    parser.add_argument("--peak", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    steps = options.steps
    config = LARGE if options.gpt2 else SMALL
    length = config.context
    model = GPT2(config, rngs=nnx.Rngs(0), dtype=default_dtype())
    rng = np.random.default_rng(0)
    num_rows = (steps + 8) * BATCH
    tokens = rng.integers(0, config.vocab_size, (num_rows, length + 1), dtype=np.int32)
    mask = np.ones((num_rows, length), bool)
    rows = Rows(tokens, mask, np.arange(num_rows, dtype=np.int32), np.ones(num_rows, np.int64))
    ways = {
        "bare": lambda: bare(model, tokens, steps),
        "fit, gamma = 0": lambda: whole(model, rows, 0.0, steps),
        "fit, gamma = 0.5": lambda: whole(model, rows, 0.5, steps),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            found[name].append(way())
    rates = {name: float(np.median(values)) for name, values in found.items()}
    size = sum(leaf.size for leaf in jax.tree_util.tree_leaves(nnx.split(model)[1]))
    operations = 6 * size + 12 * config.num_layers * config.width * length
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {jax.default_backend()}, "
        f"jax {jax.__version__}",
        "parameters": size,
        "tokens per second": rates,
        "ratio to bare": {name: rate / rates["bare"] for name, rate in rates.items()},
        "TFLOP/s": {name: rate * operations / 1e12 for name, rate in rates.items()},
    }
    if options.peak:
        result["utilization"] = {k: v / options.peak for k, v in result["TFLOP/s"].items()}
    if options.long:
        result[f"MB at tenths of {options.long} steps"] = memory(model, rows, options.long)
    print(json.dumps(result, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
