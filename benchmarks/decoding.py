"""Time of a token by one model and by two: python benchmarks/decoding.py [--out FILE].

A prompt of 64 tokens is continued by 64 tokens. Rounds are interleaved: each runs all ways once,
so that what else the machine does falls on all of them. The median of the ratios to one model, of
the same round, is printed with its quartiles.
"""

import argparse
import json
import os
import time

import jax
import numpy as np
from flax import nnx

from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
from copyreg_jax.lm.models.llama import Llama, LlamaConfig
from copyreg_jax.neighbours.decoding import Anchored, CPDelta, CPFuse, generate

PREFIX, LENGTH, ROUNDS, BATCHES = 64, 64, 9, (1,)
CONFIGS = {
    "GPT-2, 10 M": (GPT2, GPT2Config(8192, 256, 256, 8, 8)),
    "Llama, 11 M": (Llama, LlamaConfig(8192, 256, 256, 8, 8, 4, 768)),
}
WAYS = {
    "one model": None,
    "CP-Delta max": CPDelta(),
    "CP-Delta kl": CPDelta("kl"),
    "anchored": Anchored(1.0),
    "CP-Fuse": CPFuse(),
}


def measure(kind, config, batch):
    """Seconds of each way and round."""
    models = [kind(config, nnx.Rngs(seed)) for seed in (0, 1)]
    prompt = np.random.default_rng(0).integers(0, config.vocab_size, (batch, PREFIX))
    seconds = {name: [] for name in WAYS}
    for number in range(ROUNDS + 1):  # the first one compiles
        for name, rule in WAYS.items():
            used = models[: 1 if rule is None else 2]
            start = time.perf_counter()
            found = generate(used, prompt, LENGTH, rule, jax.random.key(number))
            found.tokens.block_until_ready()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    """Print a table, and write it where --out says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    out, rows = parser.parse_args().out, []
    for model, (kind, config) in CONFIGS.items():
        for batch in BATCHES:
            seconds = measure(kind, config, batch)
            one = np.array(seconds["one model"])
            for name, values in seconds.items():
                ratio = np.quantile(np.array(values) / one, (0.25, 0.5, 0.75))
                per_token = 1e3 * float(np.median(values)) / LENGTH
                rows.append({"model": model, "batch": batch, "way": name,
                             "ms_per_step": round(per_token, 3),
                             "ratio_quartiles": ratio.round(3).tolist()})  # fmt: skip
                print(f"{model:12} batch {batch} {name:13} {per_token:8.2f} ms a step, "
                      f"{ratio[1]:.2f} times one model ({ratio[0]:.2f}-{ratio[2]:.2f})",
                      flush=True)  # fmt: skip
    if out is not None:
        content = {"prefix": PREFIX, "length": LENGTH, "rounds": ROUNDS, "jax": jax.__version__,
                   "cpus": os.cpu_count(), "rows": rows}  # fmt: skip
        with open(out, "w") as file:  # noqa: PTH123
            json.dump(content, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
