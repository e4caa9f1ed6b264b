"""Size of a report's page, and the time to make it and to open it in Chromium.

    python benchmarks/pages.py [--rows 50000] [--columns 50] [--out FILE]

Opening is from the command to the browser until the first rows of the table of all rows are there.
The browser runs already; each of the five pages has a context of its own.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from playwright.sync_api import sync_playwright

import copyreg_jax as cr
from copyreg_jax.report.folders import certified_page
from report import report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def opening(path: Path) -> list[float]:
    """Seconds until the first rows are there, five times."""
    seconds = []
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root can't have one
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        for _ in range(5):
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            start = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector(".search tbody tr")
            seconds.append(time.perf_counter() - start)
        browser.close()
    return seconds


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("chromium is not installed; apt-get install it")
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    shape = options.rows, options.columns
    A, b = rng.normal(size=shape) / shape[1] ** 0.5, rng.dirichlet(np.full(shape[0], 0.01))
    problem = cr.CopyrightRegression(A, b, protected=shape[0] // 10, gamma=1e-3, w=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        certificate, instance, page = (
            Path(folder) / name for name in ("c.json", "i.npz", "report.html")
        )
        cr.save_instance(instance, problem)
        cr.certify(problem, cr.solve(problem).x).save(certificate)
        start = time.perf_counter()
        page.write_text(certified_page(certificate, instance), "utf-8")
        made = time.perf_counter() - start
        opened = opening(page)
        results = {
            "rows": shape[0],
            "columns": shape[1],
            "bytes": page.stat().st_size,
            "seconds to make": round(made, 3),
            "seconds to open, median": round(statistics.median(opened), 3),
            "seconds to open, largest": round(max(opened), 3),
        }
    report(results, options.out)


if __name__ == "__main__":
    main()
