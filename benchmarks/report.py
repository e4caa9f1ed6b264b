"""What a benchmark has measured, with its date and machine: printed, and written if asked for."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import jax

from copyreg_jax.bench.tables import processor


def report(results: dict[str, Any], out: Path | None) -> None:
    """Print the results as JSON, and write them to ``out``."""
    found = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, jax {jax.__version__}",
        **results,
    }
    text = json.dumps(found, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")
