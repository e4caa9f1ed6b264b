"""The most anonymous memory of a piece of a program, and programs in processes of their own.

Anonymous is all but pages of files, which the kernel can drop when it needs memory. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SECONDS = 0.01
"""From one sample to the next."""


class Peak:
    """The memory at the begin, and the most that was seen since; in bytes."""

    def __init__(self) -> None:
        self.before = self.most = _anonymous()

    @property
    def added(self) -> int:
        """How much more it was at most than at the begin."""
        return self.most - self.before


@contextlib.contextmanager
def peak_memory() -> Iterator[Peak]:
    """Sample this process's RssAnon in a thread until the exit."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(_SECONDS):
            peak.most = max(peak.most, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
        peak.most = max(peak.most, _anonymous())


def _anonymous() -> int:
    with Path("/proc/self/status").open() as file:
        found = re.search(r"RssAnon:\s+(\d+)", file.read())
    assert found is not None
    return 1024 * int(found[1])


def run_alone(program: str, *arguments: object) -> dict[str, Any]:
    """What a program prints as JSON; it may import the files of this folder."""
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(found.stdout)
