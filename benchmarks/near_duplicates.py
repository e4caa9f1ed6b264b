"""CPU time and memory of `near_duplicates`.

    python benchmarks/near_duplicates.py KIND NUMBER

Texts of 300 words. In "own words" one in a hundred is an edited copy of another. The other kinds
add to that: "footer", the same 60 words below each text, and 90 of one of 50 headers above; "most",
200 words that all have, which link all of them; "mixed", 90 words of one of 50 headers, 90 of one
of 50 footers and 15 of a quotation that five texts have, so that two texts with the same header, or
footer, are not linked, and each text has to be compared with those that have it: the hard case.
"""

import argparse
import resource
import time

import numpy as np

from copyreg_jax.lm.corpus.duplicates import near_duplicates

KINDS = ("own words", "footer", "most", "mixed")
WORDS = np.array([f"w{i}" for i in range(50_000)])


def make(kind, number, seed=0):
    """So many texts of a kind."""
    rng = np.random.default_rng(seed)
    likely = np.cumsum(1 / np.arange(10, len(WORDS) + 10))

    def drawn(count):
        return WORDS[np.searchsorted(likely, likely[-1] * rng.random(count))]

    blocks = [[drawn(90) for _ in range(50)] for _ in range(2)]
    footer, most, quotes = drawn(60), drawn(200), [drawn(15) for _ in range(number // 5 + 1)]
    texts = []
    for i in range(number):
        if i % 100 == 99:
            copy = texts[-50].split()
            copy[rng.integers(len(copy))] = "changed"
            texts.append(" ".join(copy))
            continue
        head, foot = (block[rng.integers(50)] for block in blocks)
        parts = {
            "own words": [drawn(300)],
            "footer": [head, drawn(150), footer],
            "most": [drawn(100), most],
            "mixed": [head, drawn(105), quotes[rng.integers(len(quotes))], foot],
        }
        texts.append(" ".join(np.concatenate(parts[kind])))
    return texts


def main():
    """One kind and number a process, as the memory of a process does not shrink."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("number", type=int, help="How many texts.")
    options = parser.parse_args()
    kind, number = options.kind, options.number
    texts = make(kind, number)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    clusters = near_duplicates(texts)
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{kind:10} {number:9,} texts {seconds:8.1f} s of CPU {grown:7.0f} MiB beyond the texts; "
        f"{clusters.max() + 1:,} clusters",
        flush=True,
    )


if __name__ == "__main__":
    main()
