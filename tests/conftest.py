"""float64, strict promotion, derandomized Hypothesis, shared programs, slow and quick tests."""

# isort: off
import importlib.metadata
import os
from pathlib import Path

# Compiling is nine tenths of the suite's time. Without LLVM's optimizations it takes a third, and
# without splitting modules, scheduling for many threads and sums as trees a third less. The
# README's example, the benchmarks and the doctests run with all that; so does `XLA_FLAGS= pytest`.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1 "
    "--xla_cpu_enable_concurrency_optimized_scheduler=false "
    "--xla_disable_hlo_passes=tree_reduction_rewriter"
    # JAX 0.11.1 dropped this one, and XLA aborts on a flag that it does not know.
    + " --xla_cpu_use_fusion_emitters=false"
    * (tuple(map(int, importlib.metadata.version("jax").split(".")[:2])) < (0, 11)),
)
# No line numbers in compiled programs, which nobody looks at.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Both workers, the processes they start and the next run of the suite share what was compiled.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".xla_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# isort: on

import hypothesis
import jax
import pytest

from copyreg_jax.testing.strategies import register_profiles

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

register_profiles()
hypothesis.settings.register_profile(
    "quick", hypothesis.settings.get_profile("ci"), max_examples=20
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


LONGEST = [
    "solvers/test_solve",
    "neighbours/test_ledger",
    "solvers/test_differentiation",
    "solvers/test_newton_cg",
    "lm/test_loop",
    "solvers/test_stopping",
    "solvers/test_batch",
    "solvers/test_sketched_newton",
    "matrices/test_sharded",
    "matrices/test_on_disk",
    "cli/test_train",
    "testing/test_testing",
    "checker/test_soundness",
    "solvers/test_checkpoint",
    "certificates/test_certificate",
    "problems/test_curvature",
    "neighbours/test_codelength",
    "cli/test_cli",
    "theory/test_search",
    "theory/test_constants",
    "certificates/test_local",
    "checker/test_check",
    "problems/test_objective",
]
"""Files that take a minute and more: first, so that no worker ends long before another."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of a test that is marked ``quick(k)`` all items are slow but k, spread over them."""
    place = {Path(__file__).parent / f"{name}.py": k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    families = {}
    for item in items:
        if item.get_closest_marker("quick"):
            families.setdefault(item.nodeid.split("[")[0], []).append(item)
    for family in families.values():
        (quick,) = family[0].get_closest_marker("quick").args
        kept = {k * len(family) // quick for k in range(quick)}
        for k in set(range(len(family))) - kept:
            family[k].add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def chromium():
    """A browser for one file: while it is there, nothing else of the process can run a loop."""
    from tests.support.browser import launched

    with launched() as browser:
        yield browser


MAPPINGS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def _few_mappings():
    """Forget compiled programs in time.

    XLA on CPU keeps hundreds of memory mappings for each solver and shape, Linux allows 65530 in a
    process, and the next one is a segmentation fault.
    """
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


QUICK_SECONDS = 10


def pytest_terminal_summary(terminalreporter):
    """Name the tests that make the default run long; they want the marker ``slow``."""
    if os.environ.get("HYPOTHESIS_PROFILE", "quick") != "quick":
        return
    for report in terminalreporter.stats.get("passed", ()):
        if report.duration > QUICK_SECONDS and "slow" not in report.keywords:
            terminalreporter.write_line(f"not quick: {report.duration:.0f} s {report.nodeid}")
