"""Parts of a batch in several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

import jax

__all__ = ["Stop", "run_side_by_side"]

Stop: TypeAlias = Callable[[int], bool]
"""What a part calls after each step, with how many of its problems are done: whether to stop."""

_T = TypeVar("_T")


def run_side_by_side(
    parts: Sequence[Callable[[Stop], _T]], sizes: Sequence[int], watch: Stop | None
) -> list[_T]:
    """Return the results of all parts.

    On a CPU as many run at once as there are cores, because XLA uses hardly more than one for a
    small program. ``watch`` is called after each step, in the thread of the caller, with the number
    of problems that are done in all. Once it returns True it is not called again, and all parts are
    told to stop.
    """
    workers = min(len(parts), _num_cores()) if jax.default_backend() == "cpu" else 1
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            # A context manager such as jax.enable_x64 holds for the thread that has entered it.
            if pool.submit(_settings).result() == _settings():
                return _Threads(len(parts), watch).run(pool, parts, sizes)
    done, stopped, results = 0, False, []

    def stop(of_part: int) -> bool:
        nonlocal stopped
        stopped = stopped or (watch is not None and watch(done + of_part))
        return stopped

    for part, size in zip(parts, sizes, strict=True):
        results.append(part(stop))
        done += size
    return results


class _Threads:
    """Parts that run in other threads, and ask this one whether to stop."""

    def __init__(self, count: int, watch: Stop | None) -> None:
        self._watch = watch
        self._stopped = False
        self._news: SimpleQueue[tuple[int, int | None]] = SimpleQueue()
        self._answers: list[SimpleQueue[bool]] = [SimpleQueue() for _ in range(count)]

    def run(
        self, pool: ThreadPoolExecutor, parts: Sequence[Callable[[Stop], _T]], sizes: Sequence[int]
    ) -> list[_T]:
        futures: list[Future[_T]] = []
        try:
            for k, part in enumerate(parts):
                futures.append(pool.submit(part, self._stop_of(k)))
                futures[k].add_done_callback(self._end_of(k))
            done, running = [0] * len(parts), len(parts)
            while running:
                k, count = self._news.get()
                if count is None:
                    futures[k].result()  # raises what the part has raised
                    done[k], running = sizes[k], running - 1
                else:
                    done[k] = count
                    if not self._stopped and self._watch is not None:
                        self._stopped = self._watch(sum(done))
                    self._answers[k].put(self._stopped)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # before a part ends: no other begins
            self._stopped = True
            for answers in self._answers:  # to those that wait for one
                answers.put(True)
            raise
        return [future.result() for future in futures]

    def _stop_of(self, k: int) -> Stop:
        def stop(done: int) -> bool:
            if self._watch is None or self._stopped:
                return self._stopped
            self._news.put((k, done))
            return self._answers[k].get()

        return stop

    def _end_of(self, k: int) -> Callable[[Any], None]:
        return lambda _: self._news.put((k, None))


def _num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _settings() -> dict[str, Any]:
    """The settings of JAX in this thread."""
    return {name: getattr(jax.config, name, None) for name in jax.config.values}
