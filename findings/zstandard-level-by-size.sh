#!/usr/bin/env bash
# zstandard==0.25.0 (zstd 1.5.7), Python 3.11. Seen 2026-11-29.
# A level is not one set of parameters: inputs of at most 16 KiB, 128 KiB and 256 KiB have their own. So at the default
# level 3 a text of 10,000 bytes written twice (20,001 bytes with a space between) compresses to FEWER bytes than the text
# alone, and one letter more can make a result much shorter. The parameters of the level for long inputs, given as
# `compression_params`, are the same for all sizes, and then twice a text is longer than once.
# Output seen: "level 3: once 3555 twice 3477, 16384 bytes 5501, 16385 bytes 5372; fixed: once 3471 twice 3477"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q zstandard==0.25.0
"$folder/venv/bin/python" - <<'PY'
import random

import zstandard

rng = random.Random(1)
words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(400)]
text = " ".join(rng.choices(words, k=5000)).encode()
one, two = text[:10_000], text[:10_000] + b" " + text[:10_000]
level = zstandard.ZstdCompressor(level=3)
fixed = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters.from_level(3))
lengths = [len(level.compress(data)) for data in (one, two, text[:16_384], text[:16_385])]
again = [len(fixed.compress(data)) for data in (one, two)]
print("level 3: once {} twice {}, 16384 bytes {}, 16385 bytes {}; fixed: once {} twice {}".format(*lengths, *again))
assert lengths[1] < lengths[0] and lengths[3] < lengths[2] and again[0] < again[1]
PY
